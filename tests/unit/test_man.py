"""The man pages say what the program says: every command, every option, every config key and default.

usage: test_man.py VARVE MAN_DIRECTORY
"""
import pathlib
import re
import shutil
import subprocess
import sys

VARVE, MAN = sys.argv[1], pathlib.Path(sys.argv[2])
found = []


def help_of(*words):
    return subprocess.run([VARVE, *words, "--help"], capture_output=True, text=True, check=True).stdout


def plain(roff):
    """Roff without fonts and escapes, good enough to look for words in."""
    roff = re.sub(r"\\f[BIRP]", "", roff).replace("\\-", "-").replace("\\e", "\\")
    return re.sub(r"^\.(B|I|BI|BR|RB|IR|TP|SS)\b ?", "", roff, flags=re.M).replace('"', "")


def expect(what, where, name):
    if what not in where:
        found.append(f"{name}: {what!r} is missing")


page = (MAN / "varve.1").read_text()
# ".SS get KEY" is the section of "get", ".SS log create KEYSPACE" that of "log create".
sections = {re.match(r"[a-z]+( [a-z]+)*", s)[0]: plain(s)
            for s in re.split(r"^\.SS ", page, flags=re.M)[1:]}
common = plain(page.split(".SH COMMANDS")[0])
commands = re.findall(r"^  ([a-z]+) ", help_of(), flags=re.M)
for group in ("log", "event", "rel"):
    commands += re.findall(rf"^  ({group} [a-z]+) ", help_of(group), flags=re.M)
for command in sorted(set(sections) - set(commands)):
    found.append(f"varve.1: {command} is no command")
for command in commands:
    if command not in sections:
        found.append(f"varve.1: no section for {command}")
    elif command not in ("serve", "version", "log", "event", "rel"):
        text = help_of(*command.split())
        for option in re.findall(r"^  (--[a-z-]+)", text, flags=re.M):
            if option != "--help" and option not in sections[command]:
                expect(option, common, f"varve.1, {command}")
        for preset in re.findall(r"^  ([a-z]+-[a-z0-9-]+) ", text, flags=re.M):
            expect(preset, sections[command], f"varve.1, {command}")
        documented = re.findall(r"^(--[a-z-]+)", sections[command], flags=re.M)
        for option in documented:
            expect(option, text, f"varve {command} --help")

conf = (MAN / "varve.conf.5").read_text().split(".SH KEYS")[1].split(".SH")[0]
documented = re.findall(r'^\.BR (\w+) " = (.*)"\n(.*)', conf.replace("\\-", "-"), flags=re.M)
real = [(k, v, h.split("; --")[0])
        for h, k, v in re.findall(r"^# (.*)\n(\w+) = (.*)$", help_of("serve"), flags=re.M)]
found += [f"varve.conf.5: {x} is not in the catalogue" for x in documented if x not in real]
found += [f"varve.conf.5: key, default and help of {x} are wanted" for x in real if x not in documented]
if not found and documented != real:
    found.append("varve.conf.5: the keys are not in the catalogue's order")

if shutil.which("groff"):
    for path in sorted(MAN.glob("varve*.[15]")):
        said = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", str(path)],
                              capture_output=True, text=True).stderr
        found += [f"{path.name}: {line}" for line in said.splitlines()]

print("\n".join(found) or f"{len(sections)} commands, {len(real)} config keys")
sys.exit(bool(found))
