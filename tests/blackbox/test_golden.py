"""Data directories that older versions left (tests/golden/README.md): every one opens, has all its data, and takes more."""
import pathlib
import tarfile

import pytest
import requests

from conftest import Binary
from test_relations_binary import FALLING, NEWEST, RISING, TOP, Relations

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"

# key: value, version
KEYS_FORMAT_1 = {
    "string": ("changed", 2), "empty": ("", 1), "integer": (-2**63, 1), "float": (0.1, 1), "bool": (True, 1),
    "array": ([1, 2.5, -3], 1), "umläut": ("ß", 1), "expires": ("late", 1), "twice": (2, 2), "once": (1, 1),
    "tail": ("after the checkpoint", 1),
}


@pytest.fixture
def golden(start, tmp_path):
    def open_copy(name, *flags):
        with tarfile.open(GOLDEN / name) as archive:
            archive.extractall(tmp_path)  # a directory "data", which start() takes
        return start(*flags)
    return open_copy


def expect_keys(server):
    for key, (value, version) in KEYS_FORMAT_1.items():
        got = requests.get(server.http + "/v1/get", params={"key": key}).json()
        assert (got["key"], got["value"], got["version"]) == (key, value, version)
        assert type(got["value"]) is type(value)
        assert got.get("expires_ms") == (4795242607313 if key == "expires" else None)
    assert requests.get(server.http + "/v1/get", params={"key": "gone"}).status_code == 404
    assert Binary(server.port("binary")).get(b"bytes\x00\xff") == b"\x00\x01\xff"


def test_keys_of_format_1(golden):
    server = golden("keys-format-1.tar.xz")
    expect_keys(server)
    for n, restart in enumerate([server.restart, lambda: (server.stop(), server.start())]):
        put = [{"key": f"new {n}", "value": n, "version": 0}]
        assert requests.post(server.http + "/v1/put", json=put).status_code == 200
        restart()
        expect_keys(server)
        assert requests.get(server.http + "/v1/get", params={"key": f"new {n}"}).json()["value"] == n


def records(server, log, **args):
    page = requests.get(f"{server.http}/v1/logs/{log}", params={"page_size": 100000, **args}).json()
    assert "continuation" not in page
    return page["records"]


def expect_logs(server, more):
    lines = [{"offset": i + 1, "timestamp": 1000 - i, "nonce": str(i * 2), "record": f"line {i} " + "x" * (i % 300)}
             for i in range(30, 599)]
    lines.append({"offset": 601, "timestamp": 7, "nonce": "5000", "record": "tail"})
    assert records(server, "app/lines") == lines
    assert records(server, "app/lines", direction="backwards") == lines[::-1]
    assert records(server, "app/lines", start="nonce:5000") == lines[-1:]
    assert records(server, "app/lines", start="timestamp:500", page_size=1000)[0]["offset"] == 31
    odd = [(r.get("record"), r.get("base64"), r.get("nonce")) for r in records(server, "app/a%2Fb%00c")]
    assert odd == [(None, "AAH/", None), ("", None, None), ("y" * 40000, None, str(2**128 - 2))]
    events = records(server, "events/events")
    assert [e["record"] for e in events] == [f"event {i}" for i in range(4)] + more
    times = [e["timestamp"] for e in events]
    assert times == sorted(set(times))
    assert [r["record"] for r in records(server, "app/new")] == ["made after the checkpoint", "with a key"]
    assert requests.get(server.http + "/v1/get?key=k").json()["value"] == "v"
    meta = requests.get(server.http + "/v1/logs/app/lines/meta").json()
    assert (meta["first_offset"], meta["next_offset"], meta["next_nonce"]) == (31, 602, "5001")
    policy = requests.get(server.http + "/v1/logs/app").json()["retention"]
    assert policy["max_records"] == 1000000


def test_logs_of_format_1(golden):
    server = golden("logs-format-1.tar.xz")
    more = []
    expect_logs(server, more)
    for restart in [server.restart, lambda: (server.stop(), server.start())]:
        more.append("more")
        assert requests.post(server.http + "/v1/logs/events/events", json={"record": "more"}).status_code == 200
        restart()
        expect_logs(server, more)


# relation: options (1 reverse, 2 recent, 4 relaxed), {from: members as they arrived}
RELS_FORMAT_1 = {
    b"plain": (0, {1: [7], 2: [7, 2**29 - 1], 3: [*range(1000, 21000), 999, 2**40],
                   4: [i * i * 1000003 for i in range(300, 5000)], 5: [0, TOP], TOP: [2**58]}),
    b"rev": (1, {0: [1, TOP], 1: [i for i in range(100) if i != 5], 2: [*range(50, 400)]}),
    b"feed": (2, {1: [*(i * 7919 % 1009 for i in range(3, 1009)), 0, 7919 % 1009, 2 * 7919 % 1009], 2: [5, 4, 3]}),
    b"both:1": (3, {9: [TOP, 3, 2**63, 1, 5], 10: [3]}),
    b"lax": (5, {1: [1, 2, 3]}),
    b"tail": (0, {4: [4]}),  # made after the checkpoint
}


def expect_lists(server, more):
    rel = Relations(Binary(server.port("binary")))
    for name, (options, lists) in RELS_FORMAT_1.items():
        assert rel.info(name)[1] == options
        lists = {**lists, 77: more} if more and options & 2 else lists
        for source, members in lists.items():
            assert rel.pages(name, source, limit=1500) == sorted(members)
            assert rel.pages(name, source, FALLING, limit=999) == sorted(members)[::-1]
            if options & 2:
                assert rel.pages(name, source, NEWEST, limit=400) == members[::-1]
        assert {f: n for f, n in rel.froms(name, limit=2)[0]} == {f: len(m) for f, m in lists.items()}
        if options & 1:
            back = {}
            for source, members in lists.items():
                for member in members:
                    back.setdefault(member, []).append(source)
            assert {f: n for f, n in rel.froms(name, True, 1000)[0]} == {f: len(m) for f, m in back.items()}
            for member, sources in list(back.items())[::17]:
                assert rel.pages(name, member, RISING, True) == sorted(sources)
    assert rel.names() == sorted(RELS_FORMAT_1)
    assert rel.contains(b"plain", 4, 300**2 * 1000003, 299**2 * 1000003) == [1, 0]


def expect_moved(server, more):
    """A log whose older records are only in objects."""
    rows = [("record %d " % i + "x" * (i * 31 % 400), i * 3 % 1000) for i in range(1500)] + [("tail", 7)] + more
    got = records(server, "app/moved")
    assert [(r["record"], r["timestamp"]) for r in got] == rows
    assert records(server, "app/moved", direction="backwards") == got[::-1]
    assert requests.get(server.http + "/v1/get?key=where").json()["value"] == "right"
    assert "\nvarve_tier_reads_total 0\n" not in requests.get(server.http + "/metrics").text


def test_relations_of_format_1(golden, tmp_path):
    server = golden("rels-format-1.tar.xz", "--tier-dir", str(tmp_path / "objects"))
    arrived, appended = [], []
    expect_lists(server, arrived)
    expect_moved(server, appended)
    for n, restart in enumerate([server.restart, lambda: (server.stop(), server.start())]):
        rel = Relations(Binary(server.port("binary")))
        arrived.append(100 - n)
        appended.append(("more", n))
        assert rel.add(b"feed", 77, 100 - n) == rel.add(b"both:1", 77, 100 - n) == 1
        body = {"record": "more", "timestamp": n}
        assert requests.post(server.http + "/v1/logs/app/moved", json=body).status_code == 200
        restart()
        expect_lists(server, arrived)
        expect_moved(server, appended)
