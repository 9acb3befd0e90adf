"""`varve log` and `varve event` against the real server."""
import base64
import json
import random
import select
import signal
import subprocess
import time

import pytest

from conftest import VARVE, wait_until
from test_cli import FAILED, NO, OK, USAGE, cli, run, said  # noqa: F401 (cli is a fixture)

LOG_WORDS = ["create", "policy", "append", "read", "tail", "meta", "trim", "erase", "flush", "list"]
EVENT_WORDS = ["put", "get", "tail"]
NO_NONCE_ABOVE = 2**128 - 2


@pytest.fixture
def log(server):
    def call(word, *words, **more):
        return run("log", word, "--server", server.address["binary"], *words, **more)
    call("create", "ks")
    return call


@pytest.fixture
def event(server):
    def call(word, *words, **more):
        return run("event", word, "--server", server.address["binary"], *words, **more)
    return call


def numbers(result):
    """`name value` lines."""
    return {k: int(v) for k, v in (line.split() for line in result.stdout.decode().splitlines())}


def records(result):
    return [json.loads(line) for line in said(result, OK).stdout.splitlines()]


def test_keyspaces(log):
    said(log("create", "ks"), NO, b"")
    assert b"exists" in log("create", "ks").stderr
    said(log("create", "timed", "--server-time", "--retention-age", "7d", "--retention-size", "1g"), OK, b"")
    got = records(log("policy", "timed", "--json"))[0]
    created = got.pop("created")
    assert abs(created - time.time() * 1000) < 3600e3
    assert got == {"keyspace": "timed", "timestamps": "server",
                   "retention": {"max_age_ms": 7 * 86400000, "max_bytes": 1 << 30, "max_records": 0}}
    out = said(log("policy", "timed", "--retention-records", 5, "--retention-size", 0), OK).stdout
    assert out == (f"created {created}\ntimestamps server\nmax_age_ms {7 * 86400000}\n"
                   "max_bytes 0\nmax_records 5\n").encode()
    assert said(log("policy", "timed"), OK).stdout == out
    r = said(log("policy", "none"), NO, b"")
    assert b"no such keyspace" in r.stderr
    said(log("list"), OK, b"events\nks\ntimed\n")  # the ZeroMQ edge has made the first
    said(log("list", "--after", "ks"), OK, b"timed\n")
    said(log("list", "ks"), OK, b"")


def test_missing_keyspace_and_log(log):
    for words in [("append", "none", "k"), ("read", "none", "k"), ("tail", "none", "k"), ("tail", "none", "k", "--from", 1),
                  ("meta", "none", "k"), ("trim", "none", "k", "--before", 1), ("erase", "none", "k", 1),
                  ("list", "none"), ("flush", "none", "k")]:
        r = said(log(*words, stdin=b"x\n"), FAILED)
        assert b"none" in r.stderr or b"keyspace" in r.stderr, words
    for words in [("meta", "ks", "none"), ("trim", "ks", "none", "--before", 1), ("erase", "ks", "none", 1)]:
        said(log(*words), NO, b"")
    said(log("read", "ks", "none"), OK, b"")
    said(log("read", "ks", "none", "--backwards"), OK, b"")


def test_lines(log):
    r = said(log("append", "ks", "k", stdin=b"one\n\ntwo \r\n\xff\xfe\nlast"), OK)
    assert numbers(r) == {"appended": 5, "duplicates": 0, "first_offset": 1, "next_offset": 6, "next_nonce": 0}
    said(log("read", "ks", "k"), OK, b"one\n\ntwo \n\xff\xfe\nlast\n")
    said(log("read", "ks", "k", "--raw"), OK, b"onetwo \xff\xfelast")
    got = records(log("read", "ks", "k", "--json"))
    assert [r["offset"] for r in got] == [1, 2, 3, 4, 5]
    assert [r.get("record", r.get("base64")) for r in got] == ["one", "", "two ", "//4=", "last"]
    assert all("nonce" not in r and abs(r["timestamp"] - time.time() * 1000) < 3600e3 for r in got)
    said(log("append", "ks", "k", stdin=b""), OK, b"appended 0\nduplicates 0\n")
    said(log("list", "ks"), OK, b"k\n")


def test_raw(log, tmp_path):
    data = bytes(range(256)) * 2000
    (tmp_path / "in").write_bytes(data)
    assert numbers(said(log("append", "ks", "k", "--raw", tmp_path / "in"), OK))["appended"] == 1
    assert numbers(said(log("append", "ks", "k", "--raw", "--nonce", 7), OK)) == \
        {"appended": 1, "duplicates": 0, "first_offset": 2, "next_offset": 3, "next_nonce": 8}
    said(log("read", "ks", "k", "--raw"), OK, data)
    said(log("read", "ks", "k", "--raw", "--backwards", "--limit", 1), OK, b"")


def test_json_round_trip(log):
    lines = [{"record": "text \u2028\U0001f600\u0000", "timestamp": -5}, {"base64": "//8=", "nonce": 3},
             {"record": "", "nonce": str(NO_NONCE_ABOVE), "timestamp": 2**63 - 1}]
    text = "\n\n".join(json.dumps(x) for x in lines)
    assert numbers(said(log("append", "ks", "k", "--json", stdin=text.encode()), OK))["appended"] == 3
    got = records(log("read", "ks", "k", "--json"))
    assert got[0] == {"offset": 1, "timestamp": -5, "record": lines[0]["record"]}
    assert got[1]["base64"] == "//8=" and got[1]["nonce"] == "3"
    assert got[2] == {"offset": 3, "timestamp": 2**63 - 1, "nonce": str(NO_NONCE_ABOVE), "record": ""}
    again = log("read", "ks", "k", "--json").stdout
    said(log("append", "ks", "copy", "--json", stdin=again), OK)
    said(log("read", "ks", "copy", "--json"), OK, again)


def test_wrong_lines_are_named(log):
    for bad, what in [(b"{", b"line 2"), (b"[]", b"line 2"), (b"{}", b"line 2"), (b'{"record":1}', b"record"),
                      (b'{"record":"a","nonce":"x"}', b"nonce"), (b'{"record":"a","nonce":%d}' % 2**128, b"line 2"),
                      (b'{"record":"a","timestamp":1.5}', b"timestamp"), (b'{"record":"a","more":1}', b"more")]:
        r = said(log("append", "ks", "k", "--json", stdin=b'{"record":"good"}\n' + bad + b'\n{"record":"after"}'), USAGE)
        assert b"standard input: line 2" in r.stderr and what in r.stderr, r.stderr
    assert b"after" not in log("read", "ks", "k").stdout
    # A line over the server's limit goes alone, so that it can be named; nothing after it is stored.
    r = said(log("append", "ks", "huge", stdin=b"first\n" + b"x" * (9 << 20) + b"\nafter\n"), FAILED)
    assert b"line 2:" in r.stderr, r.stderr
    said(log("read", "ks", "huge"), OK, b"first\n")
    r = said(log("append", "ks", "k", "--nonce", NO_NONCE_ABOVE, stdin=b"a\nb\n"), USAGE)
    assert b"line 2" in r.stderr


def test_resumed_append(log):
    lines = [b"line %d" % i for i in range(5000)]
    half = b"\n".join(lines[:3210]) + b"\n"
    whole = b"\n".join(lines) + b"\n"
    assert numbers(said(log("append", "ks", "k", "--nonce", 1, stdin=half), OK))["appended"] == 3210
    r = numbers(said(log("append", "ks", "k", "--nonce", 1, "--batch", 700, stdin=whole), OK))
    assert r == {"appended": 1790, "duplicates": 3210, "first_offset": 3211, "next_offset": 5001, "next_nonce": 5001}
    assert numbers(log("append", "ks", "k", "--nonce", 1, stdin=whole))["duplicates"] == 5000
    said(log("read", "ks", "k"), OK, whole)


def test_killed_append_is_resumed(log, server):
    """Killed in the middle, run again: every line once."""
    lines = b"".join(b"%d\n" % i for i in range(200000))
    words = [VARVE, "log", "append", "--server", server.address["binary"], "ks", "k", "--nonce", "0", "--batch", "100"]
    p = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    p.stdin.write(lines[:len(lines) // 2])
    p.stdin.flush()
    p.kill()
    p.wait()
    said(log("append", "ks", "k", "--nonce", 0, stdin=lines), OK)
    said(log("read", "ks", "k"), OK, lines)


def test_pages_in_both_directions(log):
    rng = random.Random(5)
    lines = [b"%06d " % i + b"x" * rng.randrange(200) for i in range(30000)]
    said(log("append", "ks", "k", stdin=b"\n".join(lines)), OK)
    said(log("read", "ks", "k"), OK, b"\n".join(lines) + b"\n")
    back = b"\n".join(reversed(lines)) + b"\n"
    said(log("read", "ks", "k", "--backwards"), OK, back)
    said(log("read", "ks", "k", "--from", 29000, "--limit", 3), OK, b"\n".join(lines[28999:29002]) + b"\n")
    said(log("read", "ks", "k", "--from", "offset:5", "--backwards"), OK, b"\n".join(reversed(lines[:5])) + b"\n")
    said(log("read", "ks", "k", "--from", 30001), OK, b"")
    assert len(said(log("read", "ks", "k", "--limit", 12345), OK).stdout.splitlines()) == 12345
    # Records of many bytes: more than one page of 4 MiB.
    big = [bytes([65 + i]) * 700000 for i in range(20)]
    said(log("append", "ks", "big", stdin=b"\n".join(big)), OK)
    said(log("read", "ks", "big"), OK, b"\n".join(big) + b"\n")
    said(log("read", "ks", "big", "--backwards"), OK, b"\n".join(reversed(big)) + b"\n")


def test_starts(log):
    lines = [{"record": f"r{i}", "timestamp": i * 10, "nonce": i * 100} for i in range(1, 101)]
    said(log("append", "ks", "k", "--json", stdin="\n".join(map(json.dumps, lines)).encode()), OK)
    said(log("read", "ks", "k", "--from", "timestamp:995"), OK, b"r100\n")
    said(log("read", "ks", "k", "--from", "timestamp:15", "--limit", 1), OK, b"r2\n")
    said(log("read", "ks", "k", "--from", "nonce:9900"), OK, b"r99\nr100\n")
    said(log("read", "ks", "k", "--from", "nonce:250", "--backwards"), OK, b"r2\nr1\n")
    said(log("read", "ks", "k", "--from", "timestamp:-9223372036854775807", "--limit", 1), OK, b"r1\n")


def test_filters(log):
    lines = [b"%s %d" % (b"even" if i % 2 == 0 else b"odd", i) for i in range(20000)]
    said(log("append", "ks", "k", stdin=b"\n".join(lines)), OK)
    even = [x for x in lines if x.startswith(b"even")]
    said(log("read", "ks", "k", "--prefix", "even"), OK, b"\n".join(even) + b"\n")
    said(log("read", "ks", "k", "--contains", "d 1999"), OK,
         b"".join(x + b"\n" for x in lines if b"d 1999" in x))
    said(log("read", "ks", "k", "--prefix", "even", "--backwards", "--limit", 2), OK, b"even 19998\neven 19996\n")
    said(log("read", "ks", "k", "--contains", "nothing like it"), OK, b"")


def test_meta_trim_erase_flush(log):
    said(log("append", "ks", "k", "--nonce", 10, stdin=b"".join(b"r%d\n" % i for i in range(1, 11))), OK)
    meta = numbers(said(log("meta", "ks", "k"), OK))
    assert abs(meta.pop("last_timestamp") - time.time() * 1000) < 3600e3
    assert meta == {"first_offset": 1, "next_offset": 11, "next_nonce": 20, "records": 10, "bytes": 10 * 40 + 21}
    said(log("trim", "ks", "k", "--before", 4), OK, b"4\n")
    said(log("erase", "ks", "k", 6), OK, b"")
    r = said(log("erase", "ks", "k", 6), NO, b"")
    assert b"no such record" in r.stderr
    said(log("read", "ks", "k"), OK, b"r4\nr5\nr7\nr8\nr9\nr10\n")
    r = said(log("read", "ks", "k", "--from", 2, "--limit", 1), OK, b"r4\n")
    assert b"offset 4" in r.stderr
    got = records(log("meta", "ks", "k", "--json"))[0]
    assert (got["first_offset"], got["records"], got["next_nonce"], got["keyspace"], got["key"]) == \
        (4, 6, "20", "ks", "k")
    said(log("trim", "ks", "k", "--before", f"timestamp:{2**62}"), OK, b"11\n")
    said(log("read", "ks", "k"), OK, b"")
    said(log("flush", "ks", "k"), OK, b"")
    said(log("flush"), OK, b"")


def test_restart_keeps_logs(log, server):
    said(log("append", "ks", "k", "--nonce", 1, stdin=b"a\nb\n"), OK)
    before = log("read", "ks", "k", "--json").stdout
    server.restart()
    read = run("log", "read", "--server", server.address["binary"], "ks", "k", "--json")
    said(read, OK, before)
    r = run("log", "append", "--server", server.address["binary"], "ks", "k", "--nonce", 1, stdin=b"a\nb\nc\n")
    assert numbers(said(r, OK))["duplicates"] == 2


class Tail:
    def __init__(self, server, *words):
        self.process = subprocess.Popen([VARVE, *words, "--server", server.address["binary"]],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def lines(self, n):
        return [self.process.stdout.readline().rstrip(b"\n") for _ in range(n)]

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(20) == 0
        rest, err = self.process.communicate()
        assert err == b""
        return rest


def test_tail_follows(log, server):
    said(log("append", "ks", "k", stdin=b"".join(b"r%d\n" % i for i in range(1, 16))), OK)
    tail = Tail(server, "log", "tail", "ks", "k")
    assert tail.lines(10) == [b"r%d" % i for i in range(6, 16)]
    for i in range(16, 26):
        said(log("append", "ks", "k", stdin=b"r%d\n" % i), OK)
        assert tail.lines(1) == [b"r%d" % i]
    said(log("append", "ks", "k", stdin=b"".join(b"r%d\n" % i for i in range(26, 5000))), OK)
    assert tail.lines(4974) == [b"r%d" % i for i in range(26, 5000)]
    assert tail.interrupt() == b""


def test_tail_options(log, server):
    before_it_exists = Tail(server, "log", "tail", "ks", "new", "--json")
    only = Tail(server, "log", "tail", "ks", "new", "--prefix", "b", "--from", "end")
    said(log("append", "ks", "new", stdin=b"a1\nb1\n"), OK)
    assert [json.loads(x)["record"] for x in before_it_exists.lines(2)] == ["a1", "b1"]
    # Nothing tells when it has begun: more records come until it shows one.
    while not select.select([only.process.stdout], [], [], 0.1)[0]:
        said(log("append", "ks", "new", stdin=b"a2\nb2\n"), OK)
    assert only.lines(1)[0] in (b"b1", b"b2")
    from_two = Tail(server, "log", "tail", "ks", "new", "--from", "2", "--raw")
    assert from_two.process.stdout.read(2) == b"b1"
    for t in (before_it_exists, only, from_two):
        assert b"a" not in t.interrupt() or t is not only


def test_append_does_not_hold_lines_back(log, server):
    p = subprocess.Popen([VARVE, "log", "append", "--server", server.address["binary"], "ks", "k"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for i in range(3):
        p.stdin.write(b"%d\n" % i)
        p.stdin.flush()
        assert wait_until(lambda: log("read", "ks", "k").stdout.splitlines()[-1:] == [b"%d" % i])
    out, _ = p.communicate()
    assert p.returncode == 0 and b"appended 3\n" in out


def test_broken_pipe_is_quiet(log, server):
    said(log("append", "ks", "k", stdin=b"x" * 99 + b"\n" + b"".join(b"%099d\n" % i for i in range(50000))), OK)
    p = subprocess.Popen([VARVE, "log", "read", "--server", server.address["binary"], "ks", "k"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdout.readline()
    p.stdout.close()
    p.wait(20)
    assert p.stderr.read() == b""
    p.stderr.close()


def test_output_that_cannot_be_written(log, server):
    said(log("append", "ks", "k", stdin=b"x\n"), OK)
    with open("/dev/full", "wb") as full:
        p = subprocess.run([VARVE, "log", "read", "--server", server.address["binary"], "ks", "k"],
                           stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert p.returncode == FAILED and b"standard output" in p.stderr


def test_events(event, server):
    r = said(event("put", stdin=b"one\ntwo\n"), OK)
    assert numbers(r)["appended"] == 2
    said(event("put", "failures", "--raw", stdin=b"a\nb"), OK)
    said(event("get"), OK, b"one\ntwo\n")
    said(event("get", "failures", "--raw"), OK, b"a\nb")
    got = records(event("get", "--json"))
    assert got[0]["timestamp"] < got[1]["timestamp"]
    assert abs(got[0]["timestamp"] - time.time() * 1e6) < 3600e6
    said(event("get", "--since", got[0]["timestamp"]), OK, b"two\n")
    said(event("get", "--since", got[1]["timestamp"]), OK, b"")
    said(event("get", "--since", "-1h", "--limit", 1), OK, b"one\n")
    tail = Tail(server, "event", "tail", "--since", str(got[0]["timestamp"]))
    assert tail.lines(1) == [b"two"]
    said(event("put", stdin=b"three"), OK)
    assert tail.lines(1) == [b"three"]
    assert tail.interrupt() == b""


def test_append_in_txn(log, server):
    ops = [{"op": "put", "key": "a", "value": 1, "version": 0},
           {"op": "append", "keyspace": "ks", "key": "k", "records": [
               {"record": "one", "nonce": 5, "timestamp": -1}, {"base64": "/w==", "nonce": "6"}]},
           {"op": "append", "keyspace": "ks", "key": [255], "records": [{"record": ""}]},
           {"op": "check", "key": "b", "version": 0}]
    words = ("txn", "--server", server.address["binary"], "-")
    r = said(run(*words, stdin=json.dumps({"ops": ops}).encode()), OK)
    assert json.loads(r.stdout)["results"] == [
        {"key": "a", "version": 1},
        {"keyspace": "ks", "key": "k", "first_offset": 1, "next_offset": 3, "appended": 2},
        {"keyspace": "ks", "key": [255], "first_offset": 1, "next_offset": 2, "appended": 1},
        {"key": "b", "version": 0}]
    said(log("read", "ks", "k"), OK, b"one\n\xff\n")
    ops[0]["version"] = 1
    r = said(run(*words, stdin=json.dumps({"ops": ops}).encode()), OK)
    assert json.loads(r.stdout)["results"][1]["appended"] == 0
    r = said(run(*words, stdin=json.dumps({"ops": ops}).encode()), NO)  # the version is 2 now
    assert b"conflicts" in r.stdout
    assert len(log("read", "ks", b"\xff").stdout) == 2  # two empty records
    for bad in ({"records": []}, {"records": [{}]}, {"records": 1}, {"keyspace": 1}, {"value": 1}):
        op = {"op": "append", "keyspace": "ks", "key": "k", "records": [{"record": "r"}], **bad}
        said(run(*words, stdin=json.dumps({"ops": [op]}).encode()), USAGE, b"")


def hostile_logs(log, event):
    rng = random.Random(11)
    said(log("create", "limits", "--retention-records", 1000000, "--retention-age", "100d"), OK)
    lines = [{"base64": base64.b64encode(rng.randbytes(rng.randrange(60))).decode(), "timestamp": rng.randrange(-9, 9),
              "nonce": str(i * 2**70)} for i in range(2500)]
    said(log("append", "ks", "binary", "--json", stdin="\n".join(map(json.dumps, lines)).encode()), OK)
    said(log("append", "ks", b"k\xff\"", stdin=b"one\n\nthree\n"), OK)
    said(log("append", "limits", "large", "--raw", stdin=b"\0" * 700000), OK)
    for i in range(1200):  # more names than a page of them
        if i % 100 == 0:
            said(log("append", "limits", f"log {i:04}", stdin=b"%d" % i), OK)
    said(event("put", stdin=b"first\nsecond\n"), OK)


def restored_form(dump):
    """Lines without what is not restored: the timestamps of events."""
    out = []
    for line in dump.splitlines():
        d = json.loads(line)
        if d.get("keyspace") == "events":
            d.pop("timestamp", None)
        out.append(d)
    return out


def test_dump_and_restore(log, event, server, start, tmp_path):
    hostile_logs(log, event)
    address = ("--server", server.address["binary"])
    said(run("put", *address, "key", "value"), OK)
    path = tmp_path / "dump"
    r = said(run("dump", *address, path), OK)
    assert b"1 keys and 2518 records" in r.stderr
    dump = path.read_bytes()
    said(run("dump", *address), OK, dump)
    assert b'"keyspace"' not in said(run("dump", *address, "--prefix", "k"), OK).stdout

    to = ("--server", start(name="other").address["binary"])
    r = said(run("restore", *to, path), OK)
    assert b"2518 records restored, 2 of them with new timestamps, 0 skipped" in r.stderr
    assert restored_form(run("dump", *to).stdout) == restored_form(dump)
    said(run("log", "read", *to, "ks", b"k\xff\""), OK, b"one\n\nthree\n")
    meta = run("log", "meta", "ks", "binary", *to, "--json").stdout
    assert json.loads(meta) == records(log("meta", "ks", "binary", "--json"))[0]

    only_logs = b"\n".join(x for x in dump.splitlines() if b'"keyspace' in x)
    r = said(run("restore", *to, stdin=only_logs), NO)
    assert b"exists" in r.stderr
    r = said(run("restore", *to, "--skip-existing", path), OK)
    assert b"0 records restored, 0 of them with new timestamps, 2518 skipped" in r.stderr

    # Interrupted, and finished.
    half = dump.splitlines(keepends=True)
    half = b"".join(half[:len(half) // 2])
    to = ("--server", start(name="third").address["binary"])
    said(run("restore", *to, stdin=half), OK)
    said(run("restore", *to, "--skip-existing", path), OK)
    assert restored_form(run("dump", *to).stdout) == restored_form(dump)

    # The same without a server, from and to data directories.
    assert server.stop() == 0
    said(run("dump", "--data", server.data), OK, dump)
    said(run("restore", "--data", tmp_path / "offline", path), OK)
    assert restored_form(run("dump", "--data", tmp_path / "offline").stdout) == restored_form(dump)
    said(run("check", "--data", tmp_path / "offline"), OK)


def test_restore_names_the_bad_line(server):
    to = ("--server", server.address["binary"])
    for bad, what in [(b'{"keyspace":1}', b"name"), (b'{"keyspace":"a","more":1}', b"more"),
                      (b'{"keyspace":"a","timestamps":"mine"}', b"timestamps"), (b'{"keyspace":"a","max_bytes":-1}', b"max_bytes"),
                      (b'{"keyspace":"a","log":"k"}', b"record"), (b'{"keyspace":"a","record":"r"}', b"mixed"),
                      (b'{"keyspace":"a","log":"k","record":"r","max_bytes":1}', b"mixed"),
                      (b'{"keyspace":"none","log":"k","record":"r"}', b"keyspace"),
                      (b'{"keyspace":"events","timestamps":"client"}', b"other kind")]:
        r = said(run("restore", *to, stdin=b'{"keyspace":"good"}\n' + bad), USAGE)
        assert b"standard input: line 2" in r.stderr and what in r.stderr, r.stderr


@pytest.mark.parametrize("group,word", [("log", w) for w in LOG_WORDS] + [("event", w) for w in EVENT_WORDS])
def test_help(group, word):
    r = said(run(group, word, "--help"), OK)
    assert r.stdout.startswith(f"usage: varve {group} {word} ".encode()) and not r.stderr
    r = said(run(group, word, "--no-such-option"), USAGE, b"")
    assert b"--no-such-option" in r.stderr


def test_usage():
    for group, words in [("log", LOG_WORDS), ("event", EVENT_WORDS)]:
        r = said(run(group, "--help"), OK)
        for word in words:
            assert f"  {group} {word} ".encode() in r.stdout
        said(run(group), USAGE, b"")
        r = said(run(group, "frobnicate"), USAGE, b"")
        assert b"frobnicate" in r.stderr
    for words in [("create",), ("read", "ks"), ("read", "ks", "k", "--from", "last"), ("read", "ks", "k", "--from", "nonce:-1"),
                  ("read", "ks", "k", "--prefix", "a", "--contains", "b"), ("read", "ks", "k", "--json", "--raw"),
                  ("append", "ks", "k", "--raw", "--json"), ("append", "ks", "k", "--nonce", 2**128 - 1),
                  ("append", "ks", "k", "--batch", 0), ("trim", "ks", "k"), ("trim", "ks", "k", "--before", "first"),
                  ("erase", "ks", "k", "x"), ("flush", "ks"), ("list", ""), ("create", "ks", "--retention-age", "soon")]:
        said(run("log", *words), USAGE, b"")
    for words in [("get", "--since", "yesterday"), ("get", "--since", "-1x"), ("get", "a", "b"), ("tail", "--limit", 1)]:
        said(run("event", *words), USAGE, b"")
