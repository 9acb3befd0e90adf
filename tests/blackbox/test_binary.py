"""The key-value service's protocol, types 1 to 3, and one space of keys with HTTP."""
import struct

import pytest
import requests

from conftest import Binary


def test_get_set_delete_give_the_value_before(binary):
    assert binary.get(b"k") == b""
    assert binary.set(b"k", b"one") == b""
    assert binary.set(b"k", b"two") == b"one"
    assert binary.get(b"k") == b"two"
    assert binary.delete(b"k") == b"two"
    assert binary.delete(b"k") == b""
    assert binary.get(b"k") == b""


def test_keys_and_values_are_any_bytes(binary):
    key, value = bytes(range(256)), bytes(range(255, -1, -1)) * 100
    assert binary.set(key, value) == b""
    assert binary.get(key) == value


def test_ten_thousand_in_flight_answer_in_order(binary):
    n = 10000
    binary.send(b"".join(Binary.request(3, b"k%d" % i, b"v%d" % i) for i in range(n)))
    assert all(binary.reply() == b"" for _ in range(n))
    binary.send(b"".join(Binary.request(1, b"k%d" % i) for i in range(n)))
    assert [binary.reply() for _ in range(n)] == [b"v%d" % i for i in range(n)]


def test_a_frame_split_at_any_byte(server):
    frames = Binary.request(3, b"split", b"value") + Binary.request(1, b"split")
    for at in range(1, len(frames)):
        b = Binary(server.port("binary"))
        b.set(b"split", b"before")
        b.send(frames[:at])
        import time
        time.sleep(0.001)
        b.send(frames[at:])
        assert (b.reply(), b.reply()) == (b"before", b"value"), at
        b.close()


@pytest.mark.parametrize("bad", [
    struct.pack("<H", 0), struct.pack("<H", 15), struct.pack("<H", 65535) + b"x" * 20,
    struct.pack("<HI", 1, 0xffffffff), struct.pack("<HI", 1, 5000), struct.pack("<HI", 1, 0),
    struct.pack("<HI", 3, 1) + b"k" + struct.pack("<I", 0x7fffffff),
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /v1/put HTTP/1.1\r\n\r\n"])
def test_one_error_reply_then_closed_and_others_unharmed(server, binary, bad):
    other = Binary(server.port("binary"))
    other.set(b"safe", b"1")
    binary.send(bad)
    assert len(binary.reply()) > 3
    with pytest.raises((EOFError, ConnectionError)):
        binary.exactly(1)
    assert other.get(b"safe") == b"1"
    other.close()


def test_one_space_of_keys(server, binary):
    web = server.http
    binary.set(b"text", "grün".encode())
    assert requests.get(web + "/v1/get?key=text").json() == {"key": "text", "value": "grün", "version": 1}
    binary.set(b"raw", b"\xff\x00")
    assert requests.get(web + "/v1/get?key=raw").json()["value"] == [255, 0]
    body = [{"key": "i", "value": -7, "version": 0}, {"key": "f", "value": 1.5, "version": 0},
            {"key": "b", "value": True, "version": 0}, {"key": "a", "value": [1, 2.5], "version": 0}]
    assert requests.post(web + "/v1/put", json=body).status_code == 200
    assert [binary.get(k) for k in (b"i", b"f", b"b", b"a")] == [b"-7", b"1.5", b"true", b"[1,2.5]"]


def test_versioned_types(binary):
    r = binary.call(16, b"v")
    assert r[:1] == b"\x01"
    binary.set(b"v", b"x")
    r = binary.call(16, b"v")
    assert r == b"\x00" + struct.pack("<QQB", 1, 0, 0) + b"x"

    def op(kind, key, value=b"", version=None, type=0):
        return struct.pack("<BBBBIIQQ", kind, type, 1 if version is not None else 0, 0, len(key), len(value),
                           version or 0, 0) + key + value

    r = binary.call(17, op(1, b"v", b"y", version=1) + op(3, b"n", struct.pack("<q", 5)), b"")
    assert r[0] == 0 and struct.unpack_from("<IQqQq", r, 9) == (2, 2, 0, 1, 5)
    r = binary.call(17, op(1, b"v", b"z", version=1) + op(1, b"w", b"z", version=0), b"")
    assert r == b"\x02" + struct.pack("<IIQQ", 1, 0, 1, 2)
    assert binary.get(b"w") == b""
    assert binary.call(20, b"ping") == b"\x00ping"
    assert binary.call(17, b"\x01\x02", b"")[0] == 3
    r = binary.call(18, b"", b"", struct.pack("<II", 10, 0))
    assert r[0] == 0 and struct.unpack_from("<I", r, 1)[0] == 2
