"""`varve rel` against the real server, and relations in txn, dump, restore and bench."""
import json
import os
import pty
import random
import select
import struct
import subprocess

import pytest

from conftest import VARVE, lasting_address
from test_cli import FAILED, NO, OK, USAGE, run, said

WORDS = ["create", "info", "list", "add", "remove", "get", "count", "contains", "intersect", "union", "difference",
         "froms", "import", "export"]
MOST = 2**64 - 1


@pytest.fixture
def rel(server):
    def call(word, *words, **more):
        return run("rel", word, "--server", server.address["binary"], *words, **more)
    return call


def ids(result):
    return [int(x) for x in said(result, OK).stdout.split()]


def numbers(result):
    """`name value` lines."""
    return {k: int(v) for k, v in (line.split() for line in result.stdout.decode().splitlines())}


def test_declare(rel):
    said(rel("create", "plain"), OK, b"")
    said(rel("create", "all", "--reverse", "--order", "recent", "--relaxed"), OK, b"")
    r = said(rel("create", "all"), NO, b"")
    assert b"exists" in r.stderr
    info = json.loads(said(rel("info", "all", "--json"), OK).stdout)
    assert info.pop("created") > 0 and info.pop("resident") == {"lists": 0, "members": 0}
    assert info == {"relation": "all", "reverse": True, "order": "recent", "durability": "relaxed"}
    lines = said(rel("info", "plain"), OK).stdout.decode().splitlines()
    assert lines[1:4] == ["reverse false", "order id", "durability fsync"]
    said(rel("info", "none"), NO, b"")
    said(rel("add", "made", 1, 2), OK)
    said(rel("list"), OK, b"all\nmade\nplain\n")
    said(rel("list", "--after", "all", "--limit", 1), OK, b"made\n")


def test_change_and_read(rel):
    said(rel("create", "r", "--reverse", "--order", "recent"), OK)
    said(rel("add", "r", 7, 5, 1, MOST, 5), OK, b"added 3\n")
    said(rel("add", "r", 7, 1, 3, "--relaxed"), OK, b"added 1\n")
    said(rel("get", "r", 7), OK, f"1\n3\n5\n{MOST}\n".encode())
    assert ids(rel("get", "r", 7, "--order", "falling", "--limit", 2)) == [MOST, 5]
    assert ids(rel("get", "r", 7, "--after", 3)) == [5, MOST]
    assert ids(rel("get", "r", 7, "--order", "newest")) == [3, MOST, 1, 5]
    page = json.loads(rel("get", "r", 7, "--order", "newest", "--limit", 2, "--json").stdout)
    next_ = page.pop("next")
    assert page == {"relation": "r", "from": 7, "count": 4, "members": [3, MOST], "more": True}
    page = json.loads(rel("get", "r", 7, "--order", "newest", "--limit", 2, "--json", "--after", next_).stdout)
    assert page == {"relation": "r", "from": 7, "count": 4, "members": [1, 5], "more": False}
    said(rel("add", "r", MOST, 5), OK)
    assert ids(rel("get", "r", 5, "--reverse")) == [7, MOST]
    said(rel("count", "r", 7), OK, b"4\n")
    said(rel("count", "r", 5, "--reverse"), OK, b"2\n")
    said(rel("contains", "r", 7, MOST, 2), NO, f"{MOST} true\n2 false\n".encode())
    said(rel("contains", "r", 5, 7, "--reverse"), OK, b"7 true\n")
    assert sorted(said(rel("froms", "r"), OK).stdout.splitlines()) == [f"{MOST} 1".encode(), b"7 4"]
    assert sorted(json.loads(x)["count"] for x in rel("froms", "r", "--reverse", "--json").stdout.splitlines()) == [1, 1, 1, 2]
    first = rel("froms", "r", "--limit", 1).stdout.split()[0].decode()
    assert len(rel("froms", "r", "--after", first).stdout.splitlines()) == 1
    said(rel("remove", "r", 7, 1, 2), OK, b"removed 1\n")
    # What does not exist is empty.
    said(rel("get", "r", 8), OK, b"")
    said(rel("get", "none", 8), OK, b"")
    said(rel("count", "none", 8), OK, b"0\n")
    assert json.loads(rel("get", "none", 8, "--json").stdout)["members"] == []


def test_combine(rel):
    said(rel("create", "r", "--reverse"), OK)
    for f, members in ((1, (1, 2, 3, 4)), (2, (2, 3, 9)), (3, (3,))):
        said(rel("add", "r", f, *members), OK)
    said(rel("add", "x:y", 1, 4), OK)
    assert ids(rel("intersect", "r", 1, 2)) == [2, 3]
    assert ids(rel("intersect", "r", 1, "x:y:1")) == [4]
    assert ids(rel("union", "r", 1, 2, 3)) == [1, 2, 3, 4, 9]
    assert ids(rel("difference", "r", 1, 2)) == [1, 4]
    assert ids(rel("intersect", "r", 2, 3, "--reverse")) == [1, 2]
    assert ids(rel("union", "r", "9/reverse", "x:y:1")) == [2, 4]
    page = json.loads(said(rel("union", "r", 1, 2, "--json", "--limit", 2, "--after", 1), OK).stdout)
    assert page == {"members": [2, 3], "more": True, "next": 3}
    assert ids(rel("union", "r", 1, 2, "--after", 3)) == [4, 9]


def test_a_long_list(rel):
    members = random.Random(3).sample(range(10**12), 250000)
    text = "\n".join(f"5,{m}" for m in members)
    said(rel("import", "r", "-", stdin=text.encode()), OK)
    assert ids(rel("get", "r", 5)) == sorted(members)
    assert ids(rel("get", "r", 5, "--order", "falling", "--limit", 110000)) == sorted(members, reverse=True)[:110000]
    page = json.loads(rel("get", "r", 5, "--json").stdout)
    assert page["members"] == sorted(members) and page["more"] is False
    out = said(rel("export", "r"), OK).stdout.split()
    assert out == [b"5,%d" % m for m in sorted(members)]


def test_wrong_ids_name_the_argument(rel):
    for words, what in [(("add", "r", -1, 2), b'FROM: "-1"'), (("add", "r", 1, 2, "3.5"), b'MEMBER: "3.5"'),
                        (("remove", "r", MOST + 1, 2), b'FROM: "18446744073709551616"'), (("get", "r", "x"), b'FROM: "x"'),
                        (("get", "r", 1, "--after", "y"), b'--after: "y"'), (("count", "r", "1e3"), b'FROM: "1e3"'),
                        (("contains", "r", 1, "0x1"), b'MEMBER: "0x1"'), (("union", "r", "s:-1"), b'LIST: "-1"'),
                        (("froms", "r", "--after", "z"), b'--after: "z"')]:
        r = said(rel(*words), USAGE, b"")
        assert what + b" is not a whole number from 0 to 2^64 - 1" in r.stderr, r.stderr
    said(rel("list"), OK, b"")
    r = said(rel("get", "no/name", 1), FAILED, b"")
    assert b"relation's name" in r.stderr
    r = said(rel("get", "r", 1, "--order", "newest"), OK, b"")
    said(rel("add", "r", 1, 1), OK)
    for words in [("get", "r", 1, "--order", "newest"), ("get", "r", 1, "--reverse"), ("froms", "r", "--reverse")]:
        said(rel(*words), FAILED, b"")


# ---- import and export

def random_pairs(n, froms, members, seed=1):
    rng = random.Random(seed)
    return [(int(froms * rng.random()**3), rng.randrange(members)) for _ in range(n)]


def csv(pairs):
    return "".join(f"{a},{b}\n" for a, b in pairs).encode()


def packed(pairs):
    return b"".join(struct.pack("<QQ", *p) for p in pairs)


def exported(rel, *words):
    return [tuple(map(int, line.split(b","))) for line in said(rel("export", *words), OK).stdout.split()]


def test_import_and_export(rel, tmp_path):
    pairs = random_pairs(60000, 3000, 2**40) + [(MOST, MOST), (0, 0), (MOST, 0), (1, 2), (1, 2)]
    path = tmp_path / "in"
    path.write_bytes(csv(pairs))
    r = said(rel("import", "a", path), OK)
    assert numbers(r) == {"pairs": len(pairs), "added": len(set(pairs)), "bad": 0}
    out = exported(rel, "a")
    assert sorted(out) == sorted(set(pairs))
    path.write_bytes(packed(pairs))
    said(rel("create", "b", "--reverse"), OK)
    r = said(rel("import", "b", path, "--format", "pairs", "--batch-memory", "100k"), OK)
    assert numbers(r)["added"] == len(set(pairs))
    to = tmp_path / "out"
    r = said(rel("export", "b", to, "--format", "pairs"), OK, b"")
    assert b"pairs in" in r.stderr and not (tmp_path / "out.part").exists()
    assert sorted(struct.iter_unpack("<QQ", to.read_bytes())) == sorted(set(pairs))
    assert sorted(exported(rel, "b", "--reverse")) == sorted({(b, a) for a, b in pairs})
    said(rel("import", "c", "-", stdin=to.read_bytes()), USAGE)  # pairs are no lines
    r = said(rel("import", "c", "-", "--format", "pairs", stdin=to.read_bytes()), OK)
    assert b"standard input: if it is interrupted, this cannot go on where it was" in r.stderr
    assert sorted(exported(rel, "c")) == sorted(set(pairs))
    said(rel("export", "none"), NO, b"")
    said(rel("export", "b", tmp_path / "no" / "where"), FAILED)


def test_order_of_arrival_is_kept(rel):
    said(rel("create", "r", "--order", "recent"), OK)
    said(rel("import", "r", "-", stdin=b"1,9\n2,1\n1,3\n1,9\n1,7\n2,0\n"), OK)
    assert ids(rel("get", "r", 1, "--order", "newest")) == [7, 3, 9]
    assert ids(rel("get", "r", 2, "--order", "newest")) == [0, 1]


def test_bad_lines(rel, tmp_path):
    path = tmp_path / "in"
    path.write_bytes(b"follower,followed\n# a comment\n1,2\n1;3\r\n\n2\t4\n3 , 6 \n4,x\n5\n6,7,8\n-1,1\n7 7")
    r = said(rel("import", "r", path), USAGE)
    assert b'line 1: from: "follower" is not a whole number' in r.stderr and numbers(r)["pairs"] == 0
    r = said(rel("import", "r", path, "--header"), USAGE)
    assert b'line 8: to: "x" is not a whole number' in r.stderr
    assert numbers(r) == {"pairs": 4, "added": 4, "bad": 0}
    assert sorted(exported(rel, "r")) == [(1, 2), (1, 3), (2, 4), (3, 6)]
    r = said(rel("import", "r", path, "--header", "--on-error", "skip"), OK)
    assert b"goes on at byte" in r.stderr and b"after line 7" in r.stderr
    assert numbers(r) == {"pairs": 5, "added": 1, "bad": 4}
    for what in (b'line 8: to: "x"', b"line 9: from has no to", b"line 10: more than from and to", b'line 11: from: "-1"'):
        assert what in r.stderr
    r = said(rel("import", "r", path, "--header", "--on-error", "skip"), OK)  # anew: it was done
    assert b"goes on" not in r.stderr and numbers(r) == {"pairs": 5, "added": 0, "bad": 4}
    path.write_bytes(packed([(1, 1), (2, 2)]) + b"tail")
    r = said(rel("import", "s", path, "--format", "pairs"), USAGE)
    assert b"pair 3: the input ends within it" in r.stderr
    many = b"x\n" * 50
    r = said(rel("import", "s", "-", "--on-error", "skip", stdin=many), OK)
    assert numbers(r)["bad"] == 50 and r.stderr.count(b"standard input: line") == 20
    r = said(rel("import", "s", tmp_path / "none"), USAGE)
    assert b"none" in r.stderr
    said(rel("import", "s", tmp_path), USAGE)


def keys(server):
    return run("list", "--server", server.address["binary"]).stdout.decode().split()


def test_killed_import_goes_on(rel, server, tmp_path):
    pairs = random_pairs(20000, 500, 2**30, seed=2)
    path = tmp_path / "in"
    path.write_bytes(csv(pairs))
    small = ("--batch-memory", "64k")
    r = rel("import", "r", path, *small, env={"VARVE_TEST_CRASH": "import_batch:3"})
    assert r.returncode < 0
    key, = keys(server)
    assert key.startswith("varve/import/r/")
    place = run("get", key, "--server", server.address["binary"]).stdout.split()
    there = exported(rel, "r")
    assert set(pairs[:int(place[2])]) == set(there)  # three batches and nothing else
    server.restart()
    to = ("--server", server.address["binary"])
    r = said(run("rel", "import", *to, "r", path, *small), OK)
    at, line = int(place[0]), int(place[1])
    assert f"goes on at byte {at} of {path.stat().st_size}, after line {line}".encode() in r.stderr
    assert numbers(r) == {"pairs": len(pairs), "added": len(set(pairs)) - len(there), "bad": 0}
    assert keys(server) == []
    assert sorted(tuple(map(int, x.split(b","))) for x in run("rel", "export", *to, "r").stdout.split()) == sorted(set(pairs))
    # --restart does not look; another relation and another file have nothing to go on with.
    assert run("rel", "import", *to, "r", path, *small, env={"VARVE_TEST_CRASH": "import_batch:1"}).returncode < 0
    for relation, file in [("other", path), ("r", tmp_path / "in2")]:
        file.write_bytes(csv(pairs) + (b"1,2\n" if file != path else b""))
        r = said(run("rel", "import", *to, relation, file), OK)
        assert b"goes on" not in r.stderr
    assert len(keys(server)) == 1
    r = said(run("rel", "import", *to, "r", path, "--restart"), OK)
    assert b"goes on" not in r.stderr and keys(server) == []
    # A key of the same name that somebody else wrote.
    run("put", key, "mine", *to)
    r = said(run("rel", "import", *to, "r", path), USAGE)
    assert b"--restart" in r.stderr


def test_server_killed_under_an_import(rel, server, tmp_path):
    pairs = random_pairs(300000, 50000, 2**30, seed=4)
    path = tmp_path / "in"
    path.write_bytes(packed(pairs))
    server.flags += ["--binary", lasting_address()]  # the next import comes to it
    server.restart()
    words = ["rel", "import", "--server", server.address["binary"], "r", str(path), "--format", "pairs", "--batch-memory", "256k"]
    loader = subprocess.Popen([VARVE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while loader.poll() is None and not keys(server):
        pass
    server.kill()
    out, err = loader.communicate(timeout=60)
    server.start()
    if loader.returncode:  # else it was faster
        assert loader.returncode == FAILED and b"the same command goes on at byte" in err
    r = said(run(*words), OK)
    assert loader.returncode == 0 or b"goes on at byte" in r.stderr
    assert sorted(exported(rel, "r")) == sorted(set(pairs)) and keys(server) == []


def test_progress_on_a_terminal(server, tmp_path):
    path = tmp_path / "in"
    path.write_bytes(csv(random_pairs(200000, 1000, 2**30)))
    ours, theirs = pty.openpty()
    subprocess.run([VARVE, "rel", "import", "--server", server.address["binary"], "r", path, "--batch-memory", "256k"],
                   stdout=subprocess.DEVNULL, stderr=theirs, check=True, timeout=60)
    seen = b""
    while b"bytes" not in seen:  # before our side of theirs is closed: what is on its way might go with it
        assert select.select([ours], [], [], 20)[0], seen
        seen += os.read(ours, 4096)
    os.close(theirs)
    os.close(ours)
    assert b"\r\x1b[K" in seen and b"import [" in seen


# ---- txn, dump, restore, bench

def test_txn(rel, server):
    def txn(*ops):
        return run("txn", "--server", server.address["binary"], "-", stdin=json.dumps({"ops": ops}).encode())
    r = said(txn({"op": "put", "key": "k", "value": 1}, {"op": "relate", "relation": "r", "from": str(MOST), "members": [1, "2", MOST]},
                 {"op": "unrelate", "relation": "r", "from": MOST, "members": [1, 5]}), OK)
    assert json.loads(r.stdout)["results"][1:] == [{"relation": "r", "from": MOST, "changed": 3},
                                                   {"relation": "r", "from": MOST, "changed": 1}]
    assert ids(rel("get", "r", MOST)) == [2, MOST]
    good = {"op": "relate", "relation": "r", "from": 1, "members": [1]}
    for bad in ({"from": -1}, {"from": 1.5}, {"members": [1, 2.5]}, {"members": ["x"]}, {"members": 1}, {"relation": ""}, {"key": "k"}):
        said(txn({**good, **bad}), USAGE, b"")
    said(txn({"op": "check", "key": "k", "version": 9}, good), NO)
    said(rel("count", "r", 1), OK, b"0\n")


def hostile_relations(rel):
    said(rel("create", "empty", "--reverse", "--relaxed"), OK)
    said(rel("create", "recent", "--order", "recent", "--reverse"), OK)
    for members in ((5, 1, MOST, 0), (3,), (1, 4)):
        said(rel("add", "recent", 7, *members), OK)
    order = random.Random(5).sample(range(150000), 120000)  # more than a line of them
    said(rel("import", "recent", "-", stdin=csv((8, m) for m in order)), OK)
    said(rel("import", "plain", "-", stdin=csv(random_pairs(40000, 20000, 2**64))), OK)
    said(rel("import", "plain", "-", stdin=csv((2**63, m * 3) for m in range(260000))), OK)
    return order


def test_dump_and_restore(rel, server, start, tmp_path):
    order = hostile_relations(rel)
    path = tmp_path / "dump"
    r = said(run("dump", "--server", server.address["binary"], path), OK)
    dump = path.read_bytes()
    members = sum(len(json.loads(line).get("members", ())) for line in dump.splitlines())
    assert f"{members} members of relations".encode() in r.stderr
    said(run("dump", "--server", server.address["binary"], "--prefix", "k"), OK, b"")
    lines = sorted(dump.splitlines())

    def same(*where):
        return sorted(said(run("dump", *where), OK).stdout.splitlines()) == lines

    other = start(name="other")
    to = ("--server", other.address["binary"])
    r = said(run("restore", *to, path), OK)
    assert f"{members} members of relations restored, 0 skipped".encode() in r.stderr
    assert same(*to)
    assert ids(run("rel", "get", *to, "recent", 8, "--order", "newest")) == order[::-1]
    assert ids(run("rel", "get", *to, "recent", 7, "--order", "newest")) == [4, 3, 0, MOST, 1, 5]
    assert ids(run("rel", "get", *to, "recent", 3, "--reverse"))[0] == 7
    r = said(run("restore", *to, path), NO)
    assert b'relation "empty" exists' in r.stderr
    r = said(run("restore", *to, "--replace", path), NO)
    said(run("rel", "remove", *to, "plain", 2**63, 3, 6), OK)
    r = said(run("restore", *to, "--skip-existing", path), OK)
    assert f"2 members of relations restored, {members - 2} skipped".encode() in r.stderr
    assert same(*to)
    # The same without a server, from and to data directories.
    assert server.stop() == 0
    assert same("--data", server.data)
    said(run("restore", "--data", tmp_path / "offline", path), OK)
    assert same("--data", tmp_path / "offline")
    said(run("check", "--data", tmp_path / "offline"), OK)


def test_restore_names_the_bad_line(server):
    to = ("--server", server.address["binary"])
    good = b'{"relation":"good"}\n{"relation":"good","from":1,"members":[2]}\n'
    for bad, what in [(b'{"relation":1}', b"name"), (b'{"relation":"a","more":1}', b"more"), (b'{"relation":"a","order":"x"}', b"order"),
                      (b'{"relation":"a","from":-1,"members":[]}', b"from"), (b'{"relation":"a","from":1}', b"neither"),
                      (b'{"relation":"a","members":[1]}', b"neither"), (b'{"relation":"a","from":1,"members":[],"order":"id"}', b"neither"),
                      (b'{"relation":"good","from":1,"members":[1.5]}', b"member"),
                      (b'{"relation":"none","from":1,"members":[1]}', b"does not exist")]:
        r = said(run("restore", *to, "--skip-existing", stdin=good + bad), USAGE)
        assert b"standard input: line 3" in r.stderr and what in r.stderr, r.stderr


@pytest.mark.parametrize("words,members", [
    (["rel-load", "--keys", 40, "--members", 50], 50), (["rel-get", "--keys", 50, "--members", 30], 30),
    (["rel-get", "--keys", 3, "--members", 20000, "--ids", 30000, "--pipeline", 3], 20000), (["rel-add", "--items", 3], 3)])
def test_bench(server, words, members):
    r = said(run("bench", "--preset", *words, "--json", "--connections", 4, "--requests", 10, "--server", server.address["binary"]), OK)
    result = json.loads(r.stdout)
    assert (result["requests"], result["objects"], result["errors"]) == (40, 40 * members, 0)


def test_bench_intersect(server):
    r = said(run("bench", "--preset", "rel-intersect", "--keys", 5, "--members", 4000, "--ids", 8000, "--json", "--requests", 10,
                 "--server", server.address["binary"]), OK)
    result = json.loads(r.stdout)
    assert result["requests"] == 10 and result["errors"] == 0
    assert 1500 < result["objects"] / 10 < 2500  # half of each


def test_bench_tells_wrong_lists(server, rel):
    bench = ["bench", "--preset", "rel-get", "--keys", 1, "--members", 30, "--requests", 5, "--connections", 1,
             "--server", server.address["binary"]]
    said(run(*bench), OK)
    name = rel("list").stdout.decode().split()[0]
    first = ids(rel("get", name, 0))[0]
    said(rel("remove", name, 0, first), OK)
    r = said(run(*bench, "--no-load"), FAILED)
    assert b"not as many members" in r.stdout
    said(rel("add", name, 0, first - 1), OK)  # as many again, but it is another's
    r = said(run(*bench, "--no-load"), FAILED)
    assert b"not a member of the list asked for" in r.stdout


@pytest.mark.parametrize("word", WORDS)
def test_help(word):
    r = said(run("rel", word, "--help"), OK)
    assert r.stdout.startswith(f"usage: varve rel {word} ".encode()) and not r.stderr
    r = said(run("rel", word, "--no-such-option"), USAGE, b"")
    assert b"--no-such-option" in r.stderr


def test_usage():
    r = said(run("rel", "--help"), OK)
    for word in WORDS:
        assert f"  rel {word} ".encode() in r.stdout
    said(run("rel"), USAGE, b"")
    r = said(run("rel", "frobnicate"), USAGE, b"")
    assert b"frobnicate" in r.stderr
    for words in [("create",), ("create", "r", "--order", "newest"), ("add", "r", 1), ("get", "r"), ("get", "r", 1, 2),
                  ("get", "r", 1, "--order", "recent"), ("get", "r", 1, "--limit", 0), ("union", "r"), ("import", "r"),
                  ("import", "r", "f", "--format", "json"), ("import", "r", "f", "--on-error", "retry"),
                  ("import", "r", "f", "--batch-memory", "1k"), ("export",), ("export", "r", "f", "--format", "x"),
                  ("list", "x"), ("froms", "r", "--limit", "all")]:
        said(run("rel", *words), USAGE, b"")
    for words in [("--members", 0), ("--members", 20001), ("--ids", 1), ("--protocol", "http")]:
        said(run("bench", "--preset", "rel-get", *words), USAGE, b"")
