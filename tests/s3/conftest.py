"""The object stores, driven through tests/s3/object_tool.c: against a small S3 in this process
(tiny_s3.py), against Ceph's where VARVE_TEST_RGW=1 asks for it, and against a directory."""
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import ceph  # noqa: E402
from tiny_s3 import TinyS3  # noqa: E402

BUILD = pathlib.Path(os.environ.get("VARVE_TEST_BUILD", "build/debug"))
TOOL = str((HERE.parents[1] / BUILD / "tests/object_tool").resolve())
AWS_VARIABLES = [v for v in os.environ if v.startswith("AWS_")]


class Result:
    def __init__(self, line):
        self.e, number, self.text = (line.rstrip("\n").split(" ", 2) + ["", ""])[:3]
        self.n = int(number)

    def __repr__(self):
        return f"{self.e} {self.n} {self.text}"


class Tool:
    """One object_tool process with a store open."""
    is_slow = False

    def __init__(self, tmp, options, env=None):
        self.tmp = tmp
        arguments = [str(a) for pair in options.items() for a in pair]
        environment = {k: v for k, v in os.environ.items() if k not in AWS_VARIABLES}
        environment.update({"HOME": str(tmp), "AWS_EC2_METADATA_DISABLED": "true"}, **(env or {}))
        self.process = subprocess.Popen([TOOL] + arguments, stdin=subprocess.PIPE, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=environment)
        self.opened = Result(self.process.stdout.readline())

    def call(self, *words):
        self.send(*words)
        return self.answer()

    def send(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline()
        assert line, f"object_tool ended: {self.process.stderr.read()}"
        return Result(line)

    def file(self, data=b""):
        f = self.tmp / f"file{len(list(self.tmp.iterdir()))}"
        f.write_bytes(data)
        return f

    def put(self, name, data, absent=False):
        return self.call("put-absent" if absent else "put", name, self.file(data))

    def get(self, name):
        """The object's bytes, or the Result if there are none."""
        f = self.file()
        r = self.call("get", name, f)
        return f.read_bytes() if r.e == "OK" else r

    def range(self, name, offset, length):
        f = self.file()
        r = self.call("range", name, offset, length, f)
        return f.read_bytes() if r.e == "OK" else r

    def list(self, prefix="", after="", most=0):
        f = self.file()
        r = self.call("list", prefix or "^", after or "^", most, f)
        if r.e != "OK":
            return r
        lines = f.read_text().splitlines()
        return [(line.split(" ", 1)[1], int(line.split(" ", 1)[0])) for line in lines]

    def names(self, *args, **kw):
        return [name for name, _ in self.list(*args, **kw)]

    def stats(self):
        return {k: int(v) for k, v in (w.split("=") for w in self.call("stats").text.split())}

    def close(self):
        self.process.stdin.close()
        errors = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        assert self.process.wait(30) in (0, 1), errors
        assert "ERROR: " not in errors and "runtime error" not in errors, errors  # sanitizers


@pytest.fixture
def tiny():
    with TinyS3() as s3:
        yield s3


@pytest.fixture
def open_tool(tmp_path):
    """Opens object_tool with these options; closed at the end."""
    tools = []

    def opener(options, env=None):
        tools.append(Tool(tmp_path, options, env))
        return tools[-1]

    yield opener
    for tool in tools:
        tool.close()


def s3_options(endpoint, **more):
    options = {"--endpoint": endpoint, "--bucket": "varve", "--access-key": "test",
               "--secret-key": "testtest", "--path-style": "true"}
    options.update({"--" + k.replace("_", "-"): v for k, v in more.items()})
    return options


@pytest.fixture
def tool(tiny, open_tool):
    """A tool on the tiny S3, with little patience."""
    return open_tool(s3_options(tiny.endpoint, timeout_ms=400, retry_ms=5000))


@pytest.fixture(scope="session")
def rgw():
    """Ceph's S3 gateway, with an empty bucket varve."""
    with ceph.gateway() as (endpoint, client):
        client.create_bucket(Bucket="varve")
        yield endpoint, client


@pytest.fixture(params=["tiny", "directory", "rgw"])
def store(request, tmp_path, open_tool):
    """A tool on each kind of store, empty."""
    if request.param == "tiny":
        tiny = request.getfixturevalue("tiny")
        return open_tool(s3_options(tiny.endpoint))
    if request.param == "directory":
        tool = open_tool({"--dir": tmp_path / "objects"})
        tool.is_slow = True  # each put syncs
        return tool
    endpoint, client = request.getfixturevalue("rgw")
    ceph.fresh_bucket(client, "varve")
    return open_tool(s3_options(endpoint))
