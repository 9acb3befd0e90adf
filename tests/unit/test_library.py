"""The client library gives away varve_* and no other name, and its headers stand alone in C and C++.

usage: test_library.py libvarve.so libvarve.a INCLUDE_DIRECTORY
"""
import pathlib
import re
import subprocess
import sys

shared, archive, include = sys.argv[1:]
header = (pathlib.Path(include) / "varve.h").read_text()
code = re.sub(r"//.*", "", header)
# What is inline is in the header, in no library.
declared = set(re.findall(r"\b(varve_\w+)\(", code)) - set(re.findall(r"static inline .*\b(varve_\w+)\(", code))
found = []


def names(*command):
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^\w+ [A-Z] (\w+)$", out, flags=re.M))


def names_of_code(*command):
    # What a sanitizer's or the linker's own parts add is not the library's.
    return {n for n in names(*command) if not n.startswith("_") and not n.startswith("asan.")}


for path, flags in [(shared, ["-D"]), (archive, ["-g"])]:
    given = names_of_code("nm", *flags, "--defined-only", path)
    found += [f"{path}: {n} is declared and missing" for n in sorted(declared - given)]
    found += [f"{path}: {n} is nobody else's business" for n in sorted(given - declared)]
for compiler, language, standard in [("cc", "c", "c99"), ("c++", "c++", "c++11")]:
    for name in ("varve.h", "varve-zmq.h", "varve-archive.h"):
        r = subprocess.run([compiler, "-x", language, "-std=" + standard, "-pedantic", "-Wall", "-Wextra",
                            "-Werror", "-fsyntax-only", "-I", include, "-"],
                           input=f"#include <{name}>\n", capture_output=True, text=True)
        found += [f"{name} as {standard}: {line}" for line in r.stderr.splitlines()]
print("\n".join(found) or f"{len(declared)} functions")
sys.exit(bool(found))
