"""The command line against the real server: what a person or a script types, and the exit codes."""
import json
import os
import random
import subprocess

import pytest
import requests

from conftest import VARVE

OK, NO, USAGE, FAILED = 0, 1, 2, 3
COMMANDS = ["get", "put", "delete", "txn", "list", "dump", "restore", "stat", "check", "bench"]


def run(*words, stdin=b"", env=None):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VARVE_")}
    environment.update(env or {})
    words = [w if isinstance(w, bytes) else str(w) for w in words]
    return subprocess.run([VARVE, *words], input=stdin, capture_output=True, timeout=60,
                          env=environment)


@pytest.fixture
def cli(server):
    def call(word, *words, **more):
        return run(word, "--server", server.address["binary"], *words, **more)
    return call


def said(result, code, out=None):
    assert result.returncode == code, result.stderr.decode()
    if out is not None:
        assert result.stdout == out
    return result


def test_put_get_delete(cli):
    said(cli("put", "a", "hello"), OK, b"1\n")
    said(cli("get", "a"), OK, b"hello\n")
    said(cli("get", "a", "--raw"), OK, b"hello")
    said(cli("get", "a", "--version"), OK, b"1\n")
    said(cli("put", "a", "5", "--type", "int", "--version", "1"), OK, b"2\n")
    r = said(cli("put", "a", "6", "--version", "1"), NO, b"")
    assert b"at version 2, not 1" in r.stderr
    assert json.loads(cli("get", "a", "--json").stdout) == \
        {"key": "a", "type": "int", "version": 2, "value": 5}
    said(cli("delete", "a", "--version", "1"), NO)
    said(cli("delete", "a", "--version", "2"), OK)
    said(cli("delete", "a"), OK)
    r = said(cli("get", "a"), NO, b"")
    assert b"no such key" in r.stderr
    said(cli("put", "a", "new", "--version", "0"), OK, b"3\n")


def test_types_are_those_of_http(cli, server):
    for text, kind, value in [("5", "int", 5), ("5", "float", 5.0), ("true", "bool", True),
                              ("[1, 2.5]", "array", [1, 2.5]), ("5", "string", "5"),
                              ("-7", "int", -7), ("", "string", "")]:
        said(cli("put", "k", text, "--type", kind), OK)
        got = requests.get(server.http + "/v1/get", params={"key": "k"}).json()["value"]
        assert got == value and type(got) is type(value)


def test_bytes_from_standard_input(cli):
    data = bytes(range(256)) * 300
    said(cli("put", "bin", "-", stdin=data), OK)
    said(cli("get", "bin", "--raw"), OK, data)
    said(cli("put", "empty", "-"), OK)
    said(cli("get", "empty", "--raw"), OK, b"")


def test_ttl(cli):
    said(cli("put", "k", "v", "--ttl", "1h"), OK)
    assert json.loads(cli("get", "k", "--json").stdout)["expires_ms"] > 0
    said(cli("put", "k", "v"), OK)
    assert "expires_ms" not in json.loads(cli("get", "k", "--json").stdout)


def test_list(cli):
    for i in range(30):
        said(cli("put", f"k{i:02}", i, "--type", "int"), OK)
    said(cli("list", "--prefix", "k1", "--after", "k15", "--limit", "3"), OK, b"k16\nk17\nk18\n")
    assert len(cli("list").stdout.splitlines()) == 30
    lines = [json.loads(x) for x in cli("list", "--values", "--limit", "2").stdout.splitlines()]
    assert [x["value"] for x in lines] == [0, 1]
    said(cli("list", "--prefix", "nothing"), OK, b"")


def test_txn(cli, tmp_path):
    ops = {"ops": [{"op": "check", "key": "none", "version": 0},
                   {"op": "put", "key": [255, 1], "value": [1, 2]},
                   {"op": "add", "key": "n", "delta": 5}], "idempotency_key": "once"}
    path = tmp_path / "txn.json"
    path.write_text(json.dumps(ops))
    first = json.loads(said(cli("txn", path), OK).stdout)
    assert first["result"] == "Success"
    assert first["results"] == [{"key": "none", "version": 0}, {"key": [255, 1], "version": 1},
                                {"key": "n", "version": 1, "value": 5}]
    assert json.loads(cli("txn", path).stdout) == first  # the first result, once more
    said(cli("get", "n"), OK, b"5\n")
    conflict = {"ops": [{"op": "put", "key": "n", "value": 1, "version": 7}]}
    r = said(cli("txn", "-", stdin=json.dumps(conflict).encode()), NO)
    assert json.loads(r.stdout)["conflicts"] == [{"key": "n", "expected": 7, "version": 1}]
    for bad in [b"", b"{", b"[]", b"{}", b'{"ops":[]}', b'{"ops":[{"op":"put","key":"a"}]}',
                b'{"ops":[{"op":"add","key":"a","delta":1.5}]}', b'{"ops":[{"op":"drop"}]}',
                b'{"ops":[{"op":"check","key":"a","version":1,"value":1}]}',
                b'{"ops":[{"op":"put","key":[256],"value":1}]}', b'{"ops":1,"more":2}']:
        said(cli("txn", "-", stdin=bad), USAGE, b"")


def hostile_keys():
    """Keys and values of every type that are hard on JSON, as (key, type, stored bytes)."""
    out = [(b"utf8 \xc3\xa4", "bytes", b"\xe2\x82\xac"), (b"\xff\xfe", "bytes", b"\x00\x01\xff"),
           (b"quote\"\\\n", "bytes", b"\"\\\n\t\x01"), (b"zero\0key", "bytes", b"\0"), (b"e", "bytes", b"")]
    rng = random.Random(7)
    for i in range(2500):  # more than two batches
        out.append((b"n%04d" % i, "bytes", rng.randbytes(rng.randrange(40))))
    out.append((b"large", "bytes", rng.randbytes(1 << 20)))
    return out


def fill(server, binary):
    for key, _, value in hostile_keys():
        binary.set(key, value)
    put = [{"key": "int", "value": -9223372036854775808, "version": 0},
           {"key": "float", "value": 1e-300, "version": 0},
           {"key": "whole float", "value": 5.0, "version": 0},
           {"key": "bool", "value": False, "version": 0},
           {"key": "array", "value": [1, -2.5, 9223372036854775807, 1e300], "version": 0},
           {"key": "string", "value": "\u2028\ud83d\ude00", "version": 0},
           {"key": "ttl", "value": 1, "version": 0, "ttl_ms": 3600000}]
    assert requests.post(server.http + "/v1/put", json=put).status_code == 200


def without_versions(dump):
    lines = {}
    for line in dump.splitlines():
        d = json.loads(line)
        d.pop("version", None)
        if "expires_ms" in d:
            d["expires_ms"] //= 60000
        lines[d.get("key", d.get("key_base64"))] = d
    return lines


def test_dump_and_restore(server, binary, cli, start, tmp_path):
    fill(server, binary)
    path = tmp_path / "dump"
    said(cli("dump", path), OK, b"")
    dump = path.read_bytes()
    # And the keyspace of the ZeroMQ edge.
    assert len(dump.splitlines()) == len(hostile_keys()) + 7 + 1
    assert not (tmp_path / "dump.part").exists()
    said(cli("dump"), OK, dump)

    other = start(name="other")
    to = ("--server", other.address["binary"])
    said(run("restore", *to, path), OK)
    assert without_versions(run("dump", *to).stdout) == without_versions(dump)
    other_binary = type(binary)(other.port("binary"))
    for key, _, value in hostile_keys():
        assert other_binary.get(key) == value

    r = said(run("restore", *to, path), NO)
    assert b"exists" in r.stderr
    said(run("put", *to, "int", "changed"), OK)
    said(run("restore", *to, "--skip-existing", path), OK)
    said(run("get", *to, "int"), OK, b"changed\n")
    said(run("restore", *to, "--replace", stdin=dump), OK)
    said(run("get", *to, "int"), OK, b"-9223372036854775808\n")

    # The same without a server, from and to data directories.
    assert server.stop() == 0
    said(run("dump", "--data", server.data), OK, dump)
    said(run("restore", "--data", tmp_path / "offline", path), OK)
    assert without_versions(run("dump", "--data", tmp_path / "offline").stdout) == \
        without_versions(dump)
    said(run("check", "--data", tmp_path / "offline"), OK)
    again = start(name="offline")
    assert type(binary)(again.port("binary")).get(b"\xff\xfe") == b"\x00\x01\xff"


def test_restore_names_the_bad_line(cli, tmp_path):
    r = said(cli("restore", stdin=b'{"key":"a","value":1}\n{"key":"b"}\n'), USAGE)
    assert b"standard input: line 2" in r.stderr
    said(cli("list"), OK, b"")  # the batch was not written
    said(cli("restore", stdin=b'\n{"key":"a","value":1}\n\n{"key":"b","value":2}'), OK)
    said(cli("list"), OK, b"a\nb\n")
    said(cli("restore", tmp_path / "missing"), USAGE)


def test_check(server, tmp_path):
    r = said(run("check", "--data", server.data), FAILED)
    assert b"in use" in r.stderr
    said(run("put", "--server", server.address["binary"], "k", "v" * 1000), OK)
    server.kill()
    before = {p: p.read_bytes() for p in server.data.rglob("*") if p.is_file()}
    r = said(run("check", "--data", server.data), OK)
    assert b"sound" in r.stdout
    # The log may be there still to be replayed: nothing was changed in reading it.
    for p in (server.data / "wal").iterdir():
        assert before[p] == p.read_bytes()
    r = said(run("check", "--data", tmp_path / "nowhere"), FAILED)
    assert b"nowhere" in r.stderr and not (tmp_path / "nowhere").exists()
    said(run("dump", "--data", tmp_path / "nowhere"), FAILED)
    assert not (tmp_path / "nowhere").exists()


def test_check_finds_damage(server):
    for i in range(50):
        said(run("put", "--server", server.address["binary"], f"k{i}", "v" * 500), OK)
    server.kill()
    log = sorted((server.data / "wal").glob("*.wal"))[0]
    data = bytearray(log.read_bytes())
    data[8192] ^= 1
    log.write_bytes(data)
    said(run("check", "--data", server.data), FAILED)


def test_stat(cli):
    said(cli("put", "k", "v"), OK)
    out = said(cli("stat"), OK).stdout.decode()
    # The first is the keyspace of the ZeroMQ edge.
    assert any(line.split()[:2] == ["sequence", "2"] for line in out.splitlines())
    assert b"# TYPE varve_sequence gauge" in cli("stat", "--raw").stdout


def test_address_from_the_environment(server):
    env = {"VARVE_SERVER": server.address["binary"]}
    said(run("put", "k", "v", env=env), OK)
    said(run("get", "k", env=env), OK, b"v\n")
    r = said(run("get", "k", env={"VARVE_SERVER": "127.0.0.1:1"}), FAILED)
    assert b"127.0.0.1:1" in r.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    r = said(run(command, "--help"), OK)
    assert r.stdout.startswith(b"usage: varve " + command.encode()) and not r.stderr
    r = said(run(command, "--no-such-option"), USAGE, b"")
    assert b"--no-such-option" in r.stderr


def test_usage():
    r = said(run("--help"), OK)
    for command in COMMANDS + ["serve"]:
        assert f"  {command} ".encode() in r.stdout
    said(run("--version"), OK)
    said(run(), USAGE, b"")
    r = said(run("frobnicate"), USAGE, b"")
    assert b"frobnicate" in r.stderr
    for words in [("get",), ("get", "a", "b"), ("put", "a"), ("get", "a", "--timeout", "soon"),
                  ("put", "a", "b", "--version"), ("dump", "--server", "x", "--data", "y"),
                  ("restore", "--replace", "--skip-existing"), ("bench", "--preset", "none"),
                  ("bench", "--op", "increment"), ("bench", "--connections", "0"),
                  ("put", "a", "x", "--type", "int"), ("put", "a", "x", "--type", "colour")]:
        said(run(*words), USAGE, b"")


@pytest.mark.parametrize("preset,protocol", [
    ("binary-get", "binary"), ("binary-set", "binary"), ("kv-run", "binary"), ("http-get", "http"),
    ("durable-put-1", "http"), ("concave-get-missing", "http"), ("concave-put-1", "http"),
    ("concave-put-500", "http"), ("concave-increment", "http")])
def test_bench(server, preset, protocol):
    r = said(run("bench", "--preset", preset, "--server", server.address[protocol], "--json",
                 "--connections", 4, "--requests", 20, "--keys", 1000,
                 "--server-pid", server.process.pid), OK)
    for line in r.stdout.splitlines():
        result = json.loads(line)
        assert result["requests"] == 80 and result["errors"] == 0 and result["conflicts"] == 0
        if result["op"] == "get":
            missing = preset == "concave-get-missing"
            assert (result["hits"], result["misses"]) == ((0, 80) if missing else (80, 0))
    assert len(r.stdout.splitlines()) == (3 if preset == "kv-run" else 1)


@pytest.mark.parametrize("words,records", [
    (["log-append", "--items", 7], 7), (["log-append", "--logs", 50], 100),
    (["log-read", "--items", 33], 33), (["log-read", "--logs", 3, "--items", 500], 500),
    (["log-tail", "--pipeline", 3], 1000), (["log-tail", "--value-size", 9000], 1000),
    (["log-seek"], 1), (["log-seek", "--start", "nonce", "--logs", 5], 1),
    (["log-seek", "--start", "timestamp", "--pipeline", 5], 1)])
def test_bench_logs(server, words, records):
    r = said(run("bench", "--preset", *words, "--json", "--connections", 4, "--requests", 20,
                 "--keys", 1000, "--server", server.address["binary"]), OK)
    result = json.loads(r.stdout)
    assert (result["requests"], result["objects"], result["errors"]) == (80, 80 * records, 0)


def test_bench_raw_pages(server):
    bench = ["bench", "--keys", 1000, "--value-size", 100, "--connections", 2, "--requests", 10]
    said(run(*bench, "--preset", "log-read", "--items", 10, "--server", server.address["binary"]),
         OK)
    raw = bench + ["--protocol", "http", "--op", "read", "--json", "--server",
                   server.address["http"], "--items"]
    assert json.loads(said(run(*raw, 900), OK).stdout)["requests"] == 20
    # A page that ends early is not the one asked for.
    r = said(run(*raw, 1500, "--keys", 2000), FAILED)
    assert json.loads(r.stdout)["requests"] == 0


def test_bench_tells_wrong_records(server):
    said(run("bench", "--preset", "log-read", "--keys", 1000, "--items", 10, "--requests", 1,
             "--server", server.address["binary"]), OK)
    log = server.http + "/v1/logs/bench/key000000000000"
    assert requests.delete(log + "?offset=500").status_code == 200
    for words in (["log-read", "--items", 100], ["log-tail"], ["log-seek", "--value-size", 99]):
        r = run("bench", "--preset", *words, "--no-load", "--keys", 1000, "--connections", 1,
                "--requests", 10, "--json", "--server", server.address["binary"])
        assert r.returncode == FAILED and json.loads(r.stdout)["errors"] > 0


def test_bench_shared_increment(server):
    r = said(run("bench", "--preset", "concave-increment", "--shared-key", "--connections", 8,
                 "--requests", 25, "--json", "--server", server.address["http"]), OK)
    assert json.loads(r.stdout)["requests"] == 200
    got = requests.get(server.http + "/v1/get", params={"key": "num000000000000"}).json()
    assert got["value"] == 200 and got["version"] == 200


def test_bench_tells_wrong_values(server, cli):
    said(cli("put", "key000000000003", "something else"), OK)
    r = said(run("bench", "--preset", "binary-get", "--no-load", "--keys", 10, "--requests", 100,
                 "--connections", 1, "--pipeline", 10, "--json",
                 "--server", server.address["binary"]), FAILED)
    result = json.loads(r.stdout)
    assert result["hits"] == 0 and result["errors"] == 100
