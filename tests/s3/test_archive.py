"""Logs as objects over S3: what libvarve-archive writes (archive_tool.c), `varve log read` reads; faults in between,
kills, and two writers at once."""
import os
import subprocess

from conftest import BUILD, HERE
from tiny_s3 import method

TOP = HERE.parents[1] / BUILD
WRITER = str((TOP / "tests/archive_tool").resolve())
VARVE = str((TOP / "varve").resolve())
URL = "s3://varve/some/prefix/ks/key"


def writer(s3, label, start, count, batch, kind="direct"):
    return subprocess.Popen([WRITER, s3.endpoint, "varve", "some/prefix/", kind, label, str(start), str(count),
                             str(batch)], stdout=subprocess.PIPE, text=True)


def write(*args, **kw):
    w = writer(*args, **kw)
    out = w.communicate(timeout=120)[0].splitlines()
    return w.returncode, out


def read(s3, *options):
    env = {**os.environ, "VARVE_S3_ACCESS_KEY": "test", "VARVE_S3_SECRET_KEY": "testtest"}
    r = subprocess.run([VARVE, "log", "read", URL, "--endpoint", s3.endpoint, "--path-style", *options],
                       capture_output=True, text=True, env=env, timeout=120)
    assert r.returncode == 0, r.stderr
    return r.stdout.splitlines()


def numbers(label, start, end):
    return [f"{label}-{i}" for i in range(start, end)]


def test_written_and_read(tiny):
    assert write(tiny, "a", 0, 700, 20)[0] == 0
    assert write(tiny, "b", 0, 500, 50, kind="batching")[0] == 0
    want = numbers("a", 0, 700) + numbers("b", 0, 500)
    assert read(tiny) == want
    assert read(tiny, "--backwards") == want[::-1]
    assert read(tiny, "--start", "offset:650", "--limit", "100") == want[649:749]
    data = [n for n in tiny.objects if "/data_" in n]
    assert len(data) < 30  # compacted
    assert all(n.startswith("some/prefix/ks/key/data_o") for n in data)
    assert not any("writers" in n for n in tiny.objects)  # both ended well


def test_faults(tiny):
    """Everything that can happen to a request, to every seventh of each kind."""
    for i, (what, value) in enumerate([("status", 500), ("status", (503, "SlowDown")), ("drop", None), ("lost", None)]):
        for verb in ("PUT", "GET", "DELETE", "HEAD"):
            for k in range(8):
                tiny.fail(what, method(verb), value, skip=3 + 7 * k + i)
    code, out = write(tiny, "nonce", 0, 300, 10)
    stored = max([int(x.split()[1]) for x in out if x.startswith("stored")] + [0])
    if code:  # the answer of a put was lost for too long
        assert write(tiny, "nonce", max(0, stored - 20), 300 - max(0, stored - 20), 10)[0] == 0
    tiny.faults.clear()
    assert read(tiny) == numbers("nonce", 0, 300)


def check(s3, url, *options, code=0):
    env = {**os.environ, "VARVE_S3_ACCESS_KEY": "test", "VARVE_S3_SECRET_KEY": "testtest"}
    r = subprocess.run([VARVE, "log", "check", url, "--endpoint", s3.endpoint, "--path-style", *options],
                       capture_output=True, text=True, env=env, timeout=120)
    assert r.returncode == code, (r.stdout, r.stderr)
    return r.stdout if code < 3 else r.stderr


def test_altered_on_the_store(tiny):
    """A byte that changes in what is stored, with the metadata as it was: refused by who reads and who merges."""
    assert write(tiny, "a", 0, 700, 20)[0] == 0
    assert write(tiny, "b", 0, 50, 10)[0] == 0
    for url in ("s3://varve", "s3://varve/some/", "s3://varve/some/prefix/ks", URL):
        assert "logs 1\n" in check(tiny, url, "--require-sums") and "records 750\n" in check(tiny, url)
    name = sorted(n for n in tiny.objects if "/data_" in n)[0]
    whole = tiny.objects[name]
    at = whole.index(b"a-5")  # in a record's data
    tiny.objects[name] = whole[:at] + b"A" + whole[at + 1:]
    env = {**os.environ, "VARVE_S3_ACCESS_KEY": "test", "VARVE_S3_SECRET_KEY": "testtest"}
    r = subprocess.run([VARVE, "log", "read", URL, "--endpoint", tiny.endpoint, "--path-style"],
                       capture_output=True, text=True, env=env, timeout=120)
    assert r.returncode == 3 and name.split("/")[-1] in r.stderr and "CRC-32C" in r.stderr and r.stdout == ""
    assert name.split("/")[-1] in check(tiny, "s3://varve/some/prefix", code=1)
    tiny.objects[name] = whole
    tiny.fail("status", method("GET", query="list-type"), (503, "SlowDown"))
    tiny.fail("cut", method("GET"), times=3, skip=2)
    assert "defects 0" in check(tiny, "s3://varve/some/prefix")
    del tiny.meta[name]
    assert "without_sum 1\n" in check(tiny, "s3://varve/some/prefix")
    assert "has no checksum" in check(tiny, "s3://varve/some/prefix", "--require-sums", code=1)
    tiny.fail("status", method("GET"), (403, "AccessDenied"), skip=1, times=1000)
    assert "not all was read" in check(tiny, "s3://varve/some/prefix", code=3)


def test_killed(tiny):
    """A writer that is killed, and one that goes on a little before what was stored: each record once."""
    done = 0
    for round in range(4):
        w = writer(tiny, "nonce", max(0, done - 15), 400, 5)
        lines = [w.stdout.readline() for _ in range(3 + 4 * round)]
        w.kill()
        w.wait()
        done = max(0, done - 15) + int(lines[-1].split()[1])
    assert write(tiny, "nonce", max(0, done - 15), 400 - max(0, done - 15), 50)[0] == 0
    assert read(tiny) == numbers("nonce", 0, 400)
    assert sum("~writers" in n for n in tiny.objects) == 0


def test_two_writers(tiny):
    """The second takes over; the first stops, and what it said it stored is there, and nothing else of it."""
    first = writer(tiny, "a", 0, 100000, 3)
    for _ in range(5):
        assert first.stdout.readline().startswith("stored")
    assert write(tiny, "b", 0, 60, 3)[0] == 0
    rest = first.communicate(timeout=120)[0].splitlines()
    assert first.returncode == 1 and "fenced" in rest[-1]
    stored = 3 * (5 + len(rest) - 1)
    assert read(tiny) == numbers("a", 0, stored) + numbers("b", 0, 60)


def said(s3, url=URL, code=3, **env):
    """What `varve log read` says on the way out."""
    keys = {"VARVE_S3_ACCESS_KEY": "test", "VARVE_S3_SECRET_KEY": "testtest", "VARVE_S3_ENDPOINT": s3.endpoint}
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "VARVE_S3_"))}
    r = subprocess.run([VARVE, "log", "read", url, "--path-style"], capture_output=True, text=True, timeout=120,
                       env={**clean, "HOME": "/nowhere", "AWS_EC2_METADATA_DISABLED": "true",
                            **{k: v for k, v in {**keys, **env}.items() if v is not None}})
    assert r.returncode == code, r.stderr
    return r.stderr


def test_says_what_is_wrong(tiny):
    """Whatever keeps the command line from a log on S3 is named, with what to do."""
    assert write(tiny, "a", 0, 20, 5)[0] == 0
    assert "there is no log ks/none" in said(tiny, "s3://varve/some/prefix/ks/none", code=1)
    assert "there is no log none/key" in said(tiny, "s3://varve/some/prefix/none/key", code=1)
    assert "create the bucket" in said(tiny, "s3://nobucket/ks/key")
    assert "check access_key" in said(tiny, VARVE_S3_ACCESS_KEY="nobody")
    assert "check secret_key" in said(tiny, VARVE_S3_SECRET_KEY="wrong")
    assert "one is not set" in said(tiny, VARVE_S3_SECRET_KEY=None, code=2)
    assert "no keys: looked at" in said(tiny, VARVE_S3_ACCESS_KEY=None, VARVE_S3_SECRET_KEY=None)
    assert "neither http nor https" in said(tiny, VARVE_S3_ENDPOINT="ftp://x", code=2)
    assert "check endpoint" in said(tiny, VARVE_S3_ENDPOINT="http://127.0.0.1:1")
    tiny.clock_offset = 7200  # learnt from its answers
    assert read(tiny) == numbers("a", 0, 20)
    tiny.clock_offset = 0
    tiny.is_html = True
    assert "S3" in said(tiny)
