#!/usr/bin/env python3
"""Real input: Debian's dependency graph, loaded by examples/debian-depends while the server is killed by SIGKILL
twice and the loader once. Every package's list of those that need it is then compared with a plain script over
`apt-cache dumpavail`, and for thousands of packages with `apt-cache rdepends`; again after kill -9 and after an
orderly stop; `varve check` finds the directory sound."""
import collections
import http.client
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from conftest import VARVE, Server, lasting_address  # noqa: E402

LOADER = str(pathlib.Path(__file__).resolve().parents[2] / "examples" / "debian-depends")
ASKED = 4000  # packages that apt-cache rdepends is asked about
APT = ["apt-cache"] + ["--no-" + x for x in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]


def available():
    """`apt-cache dumpavail`, with the lists fetched if there are none."""
    def dump():
        return subprocess.run(["apt-cache", "dumpavail"], stdout=subprocess.PIPE, check=True).stdout.decode()
    text = dump()
    if "\nDepends:" not in text:
        print("no package lists on this machine: apt-get update", flush=True)
        subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=subprocess.DEVNULL)
        text = dump()
    assert text.count("\nDepends:") > 1000, "apt knows of hardly any package: nothing real to test with"
    return text


def plain_script(text):
    """{package: set of names}, and the names that are qualified somewhere (python3:any)."""
    depends, qualified = collections.defaultdict(set), set()
    for package, rest in re.findall(r"^Package: (\S+)\n((?:.+\n)*)", text, re.M):
        depends[package]  # also if it needs nothing
        for field in re.findall(r"^(?:Pre-)?Depends:(.*(?:\n .*)*)", rest, re.M):
            for name, colon in re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]*)(:?)", field):
                depends[package].add(name)
                if colon:
                    qualified.add(name)
    return depends, qualified


def reversed_graph(depends):
    out = collections.defaultdict(set)
    for package, names in depends.items():
        for name in names:
            out[name].add(package)
    return out


def run(s, *words):
    return subprocess.run([VARVE, *words[:2], "--server", s.address["binary"], *words[2:]] if words[0] == "rel" else
                          [VARVE, words[0], "--server", s.address["binary"], *words[1:]],
                          stdout=subprocess.PIPE, check=True).stdout.decode()


def stored_graph(s):
    """{name: packages that need it}, as the server has it, by the command line."""
    names = {}
    for line in run(s, "list", "--prefix", "depends/number/", "--values").splitlines():
        key = json.loads(line)
        names[int(key["key"].split("/")[2])] = key["value"]
    assert len(set(names.values())) == len(names), "a name has two numbers"
    out = collections.defaultdict(set)
    for line in run(s, "rel", "export", "depends", "--reverse").splitlines():
        name, package = line.split(",")
        out[names[int(name)]].add(names[int(package)])
    return out


def compare(s, want):
    found = stored_graph(s)
    wrong = [n for n in want.keys() | found.keys() if want.get(n) != found.get(n)]
    assert not wrong, f"{len(wrong)} lists differ, as that of {wrong[0]}: {len(found[wrong[0]])} need it, not {len(want[wrong[0]])}"


def get(address, path):
    """None if there is no answer, or it is not there."""
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        body = json.loads(reply.read())
        return body if reply.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def load_with_kills(s, address, load, depends):
    """Names get their numbers in order, and lists are written in order of those."""
    names = sorted(depends.keys() | set().union(*depends.values()))
    full = [n for n in names if depends.get(n)]

    def has_number(name):
        return get(address, "/v1/get?key=" + urllib.parse.quote("depends/name/" + name))

    def members(name):
        key = has_number(name)
        return get(address, f"/v1/relations/depends/{key['value']}/count")["count"] if key else 0

    steps = [(lambda: has_number(names[len(names) // 2]), "half of the names"),
             (lambda: members(full[len(full) // 3]), "a third of the lists"),
             (lambda: members(full[2 * len(full) // 3]), "two thirds of the lists")]
    loader = subprocess.Popen(load)
    while steps and loader.poll() is None:
        reached, where = steps[0]
        if not reached():
            time.sleep(0.005)
            continue
        if len(steps) > 1:
            s.kill()
            time.sleep(0.2)
            s.start()
            assert reached(), "what was there is gone"
        else:
            loader.kill()
            loader.wait()
            loader = subprocess.Popen(load)
        print(f"{'server' if len(steps) > 1 else 'loader'} killed with {where}")
        steps.pop(0)
    assert loader.wait() == 0, "the loader failed"
    assert not steps, "the load was over before it could be killed"


def apt_agrees(want, depends, qualified):
    """apt knows python3:any apart from python3, and of other versions of a package: those it may have besides."""
    names = sorted(n for n in depends if n not in qualified)
    names = names[::max(1, len(names) // ASKED)]
    names = sorted(set(names) | ({"libc6"} & depends.keys()))
    found, name = {}, None
    for line in subprocess.run(APT + ["rdepends"] + names, stdout=subprocess.PIPE, check=True).stdout.decode().splitlines():
        if line.startswith(" "):
            found[name].add(line.strip(" |"))
        elif line != "Reverse Depends:":
            name = line
            found[name] = set()
    besides = []
    for name in names:
        lacks = want.get(name, set()) - found[name]
        assert not lacks, f"apt does not know that {lacks} need {name}"
        besides += [(name, p) for p in found[name] - want.get(name, set())]
    texts = collections.defaultdict(str)
    if besides:
        shown = subprocess.run(["apt-cache", "show"] + sorted({p for _, p in besides}), stdout=subprocess.PIPE).stdout.decode()
        for package, rest in re.findall(r"^Package: (\S+)\n((?:.+\n)*)", shown, re.M):
            texts[package] += " ".join(re.findall(r"^(?:Pre-Depends|Depends|Provides):(.*)", rest, re.M)) + " "
    for name, package in besides:
        assert name in re.split(r"[^a-z0-9+.-]+", texts[package]), f"apt says that {package} needs {name}"
    return len(names), len(besides)


def main():
    text = available()
    depends, qualified = plain_script(text)
    want = reversed_graph(depends)
    home = pathlib.Path(tempfile.mkdtemp(prefix="varve-depends-"))
    address = lasting_address()  # the loader comes back to it
    s = Server(home / "data", "--http", address, "--storage-memory-limit", "16m", "--storage-max-block-size", "1m",
               "--storage-checkpoint-interval", "1s")
    load = [sys.executable, LOADER, "--server", address]
    load_with_kills(s, address, load + ["--batch", "100"], depends)
    again = subprocess.run(load, capture_output=True, text=True, check=True).stdout
    assert "; 0 added, 0 removed" in again, again
    compare(s, want)
    s.kill()
    s.start()
    compare(s, want)
    assert s.stop() == 0
    s.start()
    compare(s, want)
    assert subprocess.run(load + ["--verify"]).returncode == 0
    common = sorted(want, key=lambda n: -len(want[n]))[:3]
    for wanted in ([common[0]], common[:2], common):
        said = subprocess.run(load + ["--needs", *wanted], capture_output=True, text=True, check=True).stdout.split()
        assert said == sorted(set.intersection(*(want[n] for n in wanted))), wanted
    assert s.stop() == 0
    subprocess.run([VARVE, "check", "--data", str(s.data)], check=True, stdout=subprocess.DEVNULL)
    asked, besides = apt_agrees(want, depends, qualified)
    shutil.rmtree(home)
    print(f"{sum(map(len, depends.values()))} dependencies of {len(depends)} packages on {len(want)} names: all equal after kills, "
          f"after kill -9 and after an orderly stop; {asked} as apt-cache rdepends has them ({besides} it has besides, of other versions)")


if __name__ == "__main__":
    main()
