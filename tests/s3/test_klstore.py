"""Logs that klstore itself wrote (tests/golden/klstore.tar.xz): read from a directory and from S3, from every kind of
start, both ways, and gone on with by our writer."""
import json
import os
import pathlib
import subprocess
import tarfile

import pytest

from conftest import BUILD, HERE

TOP = HERE.parents[1] / BUILD
WRITER = str((TOP / "tests/archive_tool").resolve())
VARVE = str((TOP / "varve").resolve())
KEYS = {"VARVE_S3_ACCESS_KEY": "test", "VARVE_S3_SECRET_KEY": "testtest", "VARVE_S3_PATH_STYLE": "true"}


@pytest.fixture
def golden(tmp_path):
    """The directory of objects, and what klstore was told to append: {log: [(offset, time, nonce, text)]}."""
    with tarfile.open(HERE.parent / "golden" / "klstore.tar.xz") as t:
        t.extractall(tmp_path)
    return tmp_path / "klstore", json.loads((tmp_path / "klstore.json").read_text())


@pytest.fixture(params=["directory", "s3"])
def read(request, golden):
    """read(log, options...): rows, as `varve log read --json` has them."""
    folder, _ = golden
    env = {**os.environ, **KEYS}
    if request.param == "s3":
        tiny = request.getfixturevalue("tiny")
        load(tiny, folder)
        env["VARVE_S3_ENDPOINT"] = tiny.endpoint

    def call(log, *options):
        where = f"dir://{folder}" if request.param == "directory" else "s3://varve/some/prefix"
        r = subprocess.run([VARVE, "log", "read", f"{where}/{log}", "--json", *options], capture_output=True,
                           text=True, timeout=60, env=env)
        assert r.returncode == 0, r.stderr
        return [row(json.loads(x)) for x in r.stdout.splitlines()]

    return call


def row(x):
    return [x["offset"], x["timestamp"], x.get("nonce"), x["record"]]


def load(tiny, folder, prefix="some/prefix/"):
    for f in pathlib.Path(folder).rglob("*"):
        if f.is_file():
            name = prefix + str(f.relative_to(folder))
            tiny.objects[name], tiny.etags[name] = f.read_bytes(), "of klstore's"


def test_read(golden, read):
    for log, rows in golden[1].items():
        assert read(log) == rows, log
        assert read(log, "--backwards") == rows[::-1], log


def test_starts(golden, read):
    for log, rows in golden[1].items():
        times, nonces = [r[1] for r in rows], [int(r[2] or 0) for r in rows]
        # The first of all, one within, the last, and what lies between two nonces or times.
        for i in (0, 34, len(rows) - 1):
            starts = [("offset", rows[i][0], [r[0] for r in rows])]
            if times == sorted(times):
                starts += [("timestamp", times[i] + d, times) for d in (-1, 0, 1)]
            if rows[i][2]:
                starts += [("nonce", max(0, nonces[i] + d), nonces) for d in (-1, 0, 1)]
            for kind, value, column in starts:
                is_given = [kind != "nonce" or r[2] is not None for r in rows]
                first = next((j for j, c in enumerate(column) if is_given[j] and c >= value), len(rows))
                last = max((j for j, c in enumerate(column) if is_given[j] and c <= value), default=-1)
                got = read(log, "--start", f"{kind}:{value}", "--limit", "9")
                assert got == rows[first:first + 9], (log, kind, value)
                got = read(log, "--start", f"{kind}:{value}", "--limit", "9", "--backwards")
                assert got == rows[:last + 1][::-1][:9], (log, kind, value)


@pytest.mark.parametrize("kind", ["direct", "batching"])
def test_gone_on_with(golden, tiny, kind):
    folder, logs = golden
    for log in logs:
        tiny.objects.clear()
        load(tiny, folder / log, "x/ks/key/")  # where archive_tool writes
        r = subprocess.run([WRITER, tiny.endpoint, "varve", "x/", kind, "new", "0", "150", "7"], timeout=120)
        assert r.returncode == 0
        out = subprocess.run([VARVE, "log", "read", "s3://varve/x/ks/key", "--json"], capture_output=True, text=True,
                             env={**os.environ, **KEYS, "VARVE_S3_ENDPOINT": tiny.endpoint}, timeout=60)
        got = [row(json.loads(x)) for x in out.stdout.splitlines()]
        assert got[:len(logs[log])] == logs[log], log
        assert [x[0] for x in got] == list(range(1, len(logs[log]) + 151))
        assert [x[3] for x in got[len(logs[log]):]] == [f"new-{i}" for i in range(150)]
