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
