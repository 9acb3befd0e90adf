"""Data directories that older versions left (tests/golden/README.md): every one opens, has all its data, and takes more."""
import pathlib
import tarfile

import pytest
import requests

from conftest import Binary

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"

# key: value, version
KEYS_FORMAT_1 = {
    "string": ("changed", 2), "empty": ("", 1), "integer": (-2**63, 1), "float": (0.1, 1), "bool": (True, 1),
    "array": ([1, 2.5, -3], 1), "umläut": ("ß", 1), "expires": ("late", 1), "twice": (2, 2), "once": (1, 1),
    "tail": ("after the checkpoint", 1),
}


@pytest.fixture
def golden(start, tmp_path):
    def open_copy(name):
        with tarfile.open(GOLDEN / name) as archive:
            archive.extractall(tmp_path)  # a directory "data", which start() takes
        return start()
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
