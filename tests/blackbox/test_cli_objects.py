"""`varve log read` and `log meta` of logs kept as objects, laid down here byte by byte as klstore does."""
import json
import os
import struct
import subprocess

import pytest

from conftest import VARVE


def run(*words, env=None, code=0, limit=20):
    r = subprocess.run([VARVE, *words], capture_output=True, text=True, timeout=limit,
                       env={**os.environ, **(env or {})})
    assert r.returncode == code, r.stderr
    return r.stdout if code == 0 else r.stderr


def record(offset, timestamp, nonce, data):
    nonce = (1 << 128) - 1 if nonce is None else nonce
    return (struct.pack("<Qq", offset, timestamp) + nonce.to_bytes(16, "little") + struct.pack("<I", len(data)) +
            data + struct.pack("<I", 36 + len(data)))


def put(folder, records, prior):
    """An object of [(offset, timestamp, nonce, data)], none without nonces."""
    data = b"".join(record(*r) for r in records)
    times = [r[1] for r in records]
    name = (f"data_o{records[0][0]:020}-o{records[-1][0]}_t{min(times)}-t{max(times)}_n{records[0][2]}"
            f"-n{records[-1][2] + 1}_s{len(data)}_p{prior}.bin")
    (folder / name).write_bytes(data)
    return folder / name


@pytest.fixture
def log(tmp_path):
    folder = tmp_path / "store" / "some" / "where" / "ks" / "a%2Fb"
    folder.mkdir(parents=True)
    put(folder, [(1, 10, 100, b"one"), (2, 20, 101, b"two")], 0)
    put(folder, [(3, 30, 105, b"three")], 1)
    put(folder, [(4, 40, 106, b"\xff"), (5, 50, 107, b"five")], 3)
    return folder, f"dir://{tmp_path}/store/some/where/ks/a%2Fb"


def test_reads_objects(log):
    _, url = log
    lines = [json.loads(x) for x in run("log", "read", url, "--json").splitlines()]
    assert [x["offset"] for x in lines] == [1, 2, 3, 4, 5]
    assert lines[0] == {"offset": 1, "timestamp": 10, "nonce": "100", "record": "one"}
    assert lines[3]["base64"] == "/w=="
    assert run("log", "read", url, "--start", "timestamp:15", "--limit", "2") == "two\nthree\n"
    assert run("log", "read", url, "--from", "nonce:102", "--limit", "1") == "three\n"
    assert run("log", "read", url, "--backwards", "--from", "3") == "three\ntwo\none\n"
    assert run("log", "read", url, "--prefix", "t", "--limit", "1") == "two\n"
    assert run("log", "read", url, "--contains", "ive", "--raw") == "five"
    assert run("log", "meta", url) == "next_offset 6\nnext_nonce 108\n"
    assert json.loads(run("log", "meta", url, "--json")) == {
        "keyspace": "ks", "key": "a/b", "next_offset": 6, "next_nonce": "108"}


def test_trims_objects(tmp_path):
    folder = tmp_path / "store" / "ks" / "key"
    folder.mkdir(parents=True)
    url = f"dir://{tmp_path}/store/ks/key"
    for i in range(1, 6):  # each complete
        put(folder, [(i, i, 100 + i, b"x" * (1 << 20))], i - 1)
    put(folder, [(6, 6, 106, b"six")], 5)

    def data():
        return sorted(int(p.name[6:26]) for p in folder.glob("data_*"))
    assert run("log", "trim", url, "--before", "1") == "1\n"
    assert data() == [1, 2, 3, 4, 5, 6]
    assert run("log", "trim", url, "--before", "offset:4") == "4\n"
    assert data() == [4, 5, 6]
    assert run("log", "trim", url, "--before", "2") == "4\n"
    assert run("log", "read", url, "--from", "6") == "six\n"
    lines = run("log", "read", url, "--json", "--backwards").splitlines()
    assert [json.loads(x)["offset"] for x in lines] == [6, 5, 4]
    assert run("log", "trim", url, "--before", "100") == "6\n"  # what may be merged stays
    assert data() == [6]
    assert run("log", "meta", url) == "next_offset 7\nnext_nonce 107\n"
    assert not list((tmp_path / "store").glob("~writers/*/*"))
    assert "no log" in run("log", "trim", url + "x", "--before", "2", code=1)
    assert not (tmp_path / "store" / "ks" / "keyx").exists()
    assert "an offset" in run("log", "trim", url, "--before", "timestamp:5", code=2)
    assert "--before" in run("log", "trim", url, code=2)


def test_says_what_is_wrong(log, tmp_path):
    folder, url = log
    assert "there is no log ks/a%2Fbx" in run("log", "read", url + "x", code=1)
    assert run("log", "read", url, "--from", "offset:99") == ""  # but nothing to show of one that does
    assert "names no bucket" in run("log", "read", "s3:///ks/key", code=2)
    assert "s3://BUCKET/" in run("log", "read", "s3://bucket/key", code=2)
    for place in ("offset:x", "when:1", "timestamp:99999999999999999999", "nonce:-1", f"nonce:{1 << 128}"):
        assert "is not a place in a log" in run("log", "read", url, "--start", place, code=2)
    assert "no log" in run("log", "meta", url + "x", code=1)
    assert "keyspace and a key" in run("log", "read", "dir:///only", code=2)
    assert "percent-encode" in run("log", "read", url.replace("%2F", "%2f"), code=2)
    assert "s3:// or dir://" in run("log", "read", "ks", code=2)
    assert "No such file" in run("log", "read", f"dir://{tmp_path}/none/ks/key", code=3)
    assert not (tmp_path / "none").exists()
    third = next(folder.glob("data_o*3-o3_*"))
    third.write_bytes(third.read_bytes()[:-1])
    assert third.name in run("log", "read", url, code=3)


def test_how_to_reach_s3(tmp_path):
    conf = tmp_path / "bridge.ini"
    conf.write_text('[kafka]\ngroup.id="x"\n[s3]\nendpoint="http://127.0.0.1:1"\npath_style=true\n'
                    'use_default_credentials=false\naccess_key="test"\nsecret_key="test"\ncompact_size_threshold=5\n')
    bad = tmp_path / "bad.ini"
    bad.write_text("[s3]\npath_style=maybe\n")
    url = "s3://bucket/prefix/ks/key"
    assert "bad.ini:2" in run("log", "read", url, "--config", str(bad), code=2)
    assert "VARVE_S3_PATH_STYLE" in run("log", "read", url, env={"VARVE_S3_PATH_STYLE": "x"}, code=2)
    assert "127.0.0.1" in run("log", "read", url, "--config", str(conf), env={"VARVE_S3_REGION": "eu-1"},
                              code=3, limit=120)


def test_one_table_of_keys(tmp_path):
    """What is wrong in [s3] or [batcher] is said in the same words by the server, the bridge and the command line."""
    conf = tmp_path / "some.ini"
    tellers = {"serve": ["serve", "--config", str(conf)], "bridge": ["bridge", "--config", str(conf)],
               "read": ["log", "read", "s3://bucket/ks/key", "--config", str(conf)]}
    for line, want in (("bucket_nam = b", 'unknown key "s3.bucket_nam" (did you mean "s3.bucket_name"?)'),
                       ("path_style = yes", 's3.path_style: "yes" is not one of false|true'),
                       ("region = ", "s3.region is empty"),
                       ("compact_size_threshold = 1t", 's3.compact_size_threshold: "1t" is not a number of bytes, or of '
                                                       'k, m or g ("64k")'),
                       ("max_cached_keys = 0", "s3.max_cached_keys: 0 is out of the range 1 to 100000000"),
                       ("profile = a\nprofile = b", "s3.profile is set on line 2 already"),
                       ("endpoint", "neither [section] nor key = value")):
        conf.write_text(f"[s3]\n{line}\n")
        at = 2 + line.count("\n")
        for who, words in tellers.items():
            said = run(*words, code=2)
            assert f"{conf}:{at}: {want}\n" in said, (who, said)
    conf.write_text("[batcher]\nwriter_thread_count = 65\n")
    want = f"{conf}:2: batcher.writer_thread_count: 65 is out of the range 1 to 64\n"
    assert want in run(*tellers["bridge"], code=2)
    assert 'VARVE_S3_REGIO' in run("log", "read", "s3://bucket/ks/key", env={"VARVE_S3_REGIO": "x"}, code=2)
