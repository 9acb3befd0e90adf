"""What every object store must do, whichever it is."""
import os
import random

BIG = 17 * (1 << 20) + 12345  # in parts, where there are parts


def test_objects_come_and_go(store):
    assert store.get("a/b").e == "MISSING"
    assert store.call("head", "a/b").e == "MISSING"
    assert store.call("delete", "a/b").e == "OK"
    for data in (b"hello", b"", os.urandom(70000)):
        assert store.put("a/b", data).e == "OK"
        assert store.get("a/b") == data
        head = store.call("head", "a/b")
        assert (head.e, head.n) == ("OK", len(data))
    assert store.call("delete", "a/b").e == "OK"
    assert store.get("a/b").e == "MISSING"


def test_put_absent(store):
    assert store.put("claim", b"first", absent=True).e == "OK"
    assert store.put("claim", b"second", absent=True).e == "EXISTS"
    assert store.put("claim", b"first", absent=True).e == "EXISTS"  # no answer was lost
    assert store.get("claim") == b"first"
    assert store.put("empty", b"", absent=True).e == "OK"
    assert store.put("empty", b"", absent=True).e == "EXISTS"


def test_of_racing_writers_one_wins(store):
    for i in range(3):
        r = store.call("race", f"race{i}", 16)
        assert (r.e, r.n) == ("OK", 1), r
        assert store.get(f"race{i}").startswith(b"racer ")


def test_ranges(store):
    data = os.urandom(10000)
    assert store.put("o", data).e == "OK"
    for offset, length in ((0, 10), (0, 10000), (0, 20000), (5000, 1), (9999, 1), (9990, 100),
                           (10000, 5), (20000, 5), (5, 0), (3, 2**64 - 1), (2**64 - 1, 1)):
        assert store.range("o", offset, length) == data[offset:offset + length], (offset, length)
    assert store.range("p", 0, 10).e == "MISSING"
    assert store.range("p", 0, 0).e == "MISSING"
    assert store.put("empty", b"").e == "OK"
    assert store.range("empty", 0, 10) == b""


def test_large_objects(store):
    data = os.urandom(BIG)
    assert store.put("large", data).e == "OK"
    assert store.get("large") == data
    assert store.call("head", "large").n == BIG
    assert store.put("large-absent", data, absent=True).e == "OK"
    assert store.put("large-absent", data[1:], absent=True).e == "EXISTS"
    assert store.get("large-absent") == data


def test_sums(store):
    """A checksum is kept with the object, however it was put, and goes when another takes its place."""
    for name, data in (("small", b"hello"), ("empty", b""), ("large", os.urandom(BIG))):
        f = store.file(data)
        assert store.call("sum", name).e == "MISSING"
        assert store.call("put-sum", name, f, "0089abcd").e == "OK"
        r = store.call("sum", name)
        assert (r.e, r.n, r.text) == ("OK", len(data), "0089abcd")
        assert store.get(name) == data
        if data:
            assert store.call("range-sum", name, 1, 2).text == "0089abcd"
        assert store.call("range-sum", name, 0, 0).text == "0089abcd"
        assert store.call("put-absent-sum", name, f, "11111111").e == "EXISTS"
        assert store.call("sum", name).text == "0089abcd"
        assert store.put(name, data).e == "OK"
        assert store.call("sum", name).text == "none"
        assert store.call("delete", name).e == "OK"
        assert store.call("put-absent-sum", name, f, "00000000").e == "OK"
        assert store.call("sum", name).text == "00000000"


def test_names(store):
    names = ["a!b", "k%2Fy", "~tilde", "plus+plus", "equals=and&amp;", "ümläut/日本", "colon:", "q?x#y",
             "<xml>&\"'", "x" * 255, "/".join("d%d" % i for i in range(50)), "p%", "comma,semi;"]
    for name in names:
        assert store.put(name, name.encode()).e == "OK", name
    for name in names:
        assert store.get(name) == name.encode()
    assert sorted(names, key=str.encode) == store.names()
    for name in names:
        assert store.call("delete", name).e == "OK"
    assert store.names() == []
    for name in ("/a", "a/", "a//b", "a/../b", "."):
        assert store.put(name, b"").e == "INVALID", name
    assert store.put("y" * 1025, b"").e == "TOO_BIG"


def test_listings(store):
    rng = random.Random(1)
    names = sorted({"".join(rng.choice("ab/-.0") for _ in range(6)).strip("/.").replace("//", "/")
                    for _ in range(60)} - {""}, key=str.encode)
    put = [n for n in names if "/./" not in n and "/../" not in n and store.put(n, n.encode()).e == "OK"]
    assert len(put) > 20
    assert store.list() == [(n, len(n)) for n in put]
    for _ in range(60):
        prefix, after = rng.choice(names)[:rng.randrange(3)], rng.choice(names + [""])
        most = rng.choice([0, 1, 2, 5])
        expected = [n for n in put if n.startswith(prefix) and n.encode() > after.encode()]
        assert store.names(prefix, after, most) == expected[:most or None], (prefix, after, most)


def test_many_pages(store):
    data, count = store.file(b"x"), 200 if store.is_slow else 2100
    assert store.call("put-many", "n/", count, data).n == count
    expected = sorted(f"n/{i}" for i in range(count))
    before = store.stats()["list"]
    assert store.names("n/") == expected
    assert store.stats()["list"] - before <= 3
    before = store.stats()["list"]
    assert store.names("n/", "n/5", 3) == expected[expected.index("n/5") + 1:][:3]
    assert store.stats()["list"] - before == 1


def test_many_at_once(store):
    data = store.file(os.urandom(200000))
    assert store.call("put-many", "m/", 60, data).n == 60
    r = store.call("get-many", "m/", 60, data)
    assert (r.e, r.n) == ("OK", 60)
    r = store.call("get-many", "m/", 61, data)  # the others are not hindered
    assert (r.e, r.n) == ("MISSING", 60)
    assert "m/60" in r.text
    assert store.stats()["connects"] <= 16


def test_the_probe_finds_all_kept(store):
    r = store.call("probe")
    assert (r.e, r.n, r.text) == ("OK", 63, "")
    assert store.names("~varve-probe") == []


def test_sums_go_with_copies(rgw, open_tool):
    """boto3 and s3cmd copy objects within Ceph; another client's metadata is read as ours is."""
    from conftest import s3_options
    endpoint, client = rgw
    tool = open_tool(s3_options(endpoint, prefix="sums/"))
    for data in (b"small", os.urandom(BIG)):
        assert tool.call("put-sum", "o", tool.file(data), "0badcafe").e == "OK"
        assert client.head_object(Bucket="varve", Key="sums/o")["Metadata"] == {"varve-crc32c": "0badcafe"}
        client.copy_object(Bucket="varve", Key="sums/copy", CopySource="varve/sums/o")
        assert tool.call("sum", "copy").text == "0badcafe"
    client.put_object(Bucket="varve", Key="sums/theirs", Body=b"boto", Metadata={"varve-crc32c": "BADC0DE5"})
    assert tool.call("sum", "theirs").text == "badc0de5"
    client.put_object(Bucket="varve", Key="sums/theirs", Body=b"boto", Metadata={"varve-crc32c": "no sum"})
    assert tool.get("theirs").e == "DAMAGED"


def test_others_read_what_was_put_and_are_read(rgw, open_tool, tmp_path):
    """s3cmd and boto3 against Ceph."""
    import subprocess
    from conftest import s3_options
    endpoint, client = rgw
    tool = open_tool(s3_options(endpoint, prefix="shared/"))
    data = os.urandom(BIG)
    assert tool.put("ours/ä+b", data).e == "OK"
    assert client.get_object(Bucket="varve", Key="shared/ours/ä+b")["Body"].read() == data
    client.put_object(Bucket="varve", Key="shared/theirs", Body=b"boto")
    assert tool.get("theirs") == b"boto"
    host = endpoint[len("http://"):]
    got = tmp_path / "got"
    subprocess.run(["s3cmd", "--access_key=test", "--secret_key=testtest", f"--host={host}",
                    f"--host-bucket={host}", "--no-ssl", "--no-progress", "get",
                    "s3://varve/shared/ours/ä+b", got], check=True, capture_output=True)
    assert got.read_bytes() == data
    assert tool.names() == ["ours/ä+b", "theirs"]
