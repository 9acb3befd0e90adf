"""Logs over HTTP, as docs/PROTOCOLS.md "Logs over HTTP" says, against the real server."""
import base64
import json
import random
import socket
import struct
import threading
import time
from urllib.parse import quote

import pytest
import requests

from conftest import wait_until

NONCE_MAX = 2**128 - 2


class Logs:
    def __init__(self, server):
        self.server = server
        self.web = requests.Session()

    def url(self, *names, args=""):
        path = "".join("/" + quote(n, safe="") for n in names)
        return self.server.http + "/v1/logs" + path + args

    def call(self, method, *names, args="", **kw):
        return self.web.request(method, self.url(*names, args=args), **kw)

    def create(self, name, **policy):
        r = self.call("PUT", name, json=policy) if policy else self.call("PUT", name)
        assert r.status_code == 200, r.text
        return r.json()

    def append(self, ks, key, records, status=200):
        r = self.call("POST", ks, key, json={"records": [x if isinstance(x, dict) else {"record": x} for x in records]})
        assert r.status_code == status, r.text
        return r.json()

    def page(self, ks, key, args="", status=200):
        r = self.call("GET", ks, key, args=args)
        assert r.status_code == status, r.text
        return r.json()

    def pages(self, ks, key, args):
        """All records, page after page."""
        out = []
        page = self.page(ks, key, "?" + args)
        size = [a for a in args.split("&") if not a.startswith(("direction", "start"))]
        while True:
            out += page["records"]
            if "continuation" not in page:
                return out
            page = self.page(ks, key, "?" + "&".join(size + ["continuation=" + page["continuation"]]))

    def meta(self, ks, key):
        return self.call("GET", ks, key, "meta").json()


@pytest.fixture
def logs(start):
    return Logs(start("--zmq", "off"))  # which has keyspaces of its own


@pytest.fixture
def ks(logs):
    logs.create("ks")
    return logs


# ---- keyspaces

def test_a_keyspace_is_made_once(logs):
    before = time.time() * 1000
    created = logs.create("a")["created"]
    assert before - 5000 <= created <= time.time() * 1000 + 5000
    r = logs.call("PUT", "a")
    assert r.status_code == 409 and r.json()["result"] == "Failure"
    r = logs.call("GET", "a")
    assert r.json() == {"keyspace": "a", "created": created, "timestamps": "client", "retention": {}}


def test_policies(logs):
    keep = {"max_age_ms": 3600000, "max_bytes": 1 << 30, "max_records": 5}
    logs.create("p", timestamps="server", retention=keep)
    got = logs.call("GET", "p").json()
    assert got["timestamps"] == "server" and got["retention"] == keep
    r = logs.call("POST", "p", json={"retention": {"max_records": 9}})
    assert r.json() == {"result": "Success"}
    got = logs.call("GET", "p").json()
    assert got["retention"] == {"max_records": 9} and got["timestamps"] == "server"
    assert logs.call("POST", "p", json={"retention": {}}).status_code == 200
    assert logs.call("GET", "p").json()["retention"] == {}


def test_lists_of_keyspaces_and_keys(logs):
    names = sorted("k%03d" % i for i in range(25))
    for n in random.sample(names, 25):
        logs.create(n)
    assert logs.web.get(logs.url()).json() == {"keyspaces": names, "more": False}
    seen, after = [], ""
    while True:
        got = logs.web.get(logs.url(), params={"after": after, "limit": 7}).json()
        seen += got["keyspaces"]
        if not got["more"]:
            break
        after = seen[-1]
    assert seen == names
    for n in names:
        logs.append("k000", n, ["x"])
    got = logs.call("GET", "k000", args="?keys=true&limit=20").json()
    assert got["keys"] == names[:20] and got["more"] is True and got["keyspace"] == "k000"
    got = logs.call("GET", "k000", args="?keys=true&after=k019").json()
    assert got["keys"] == names[20:] and got["more"] is False


@pytest.mark.parametrize("method,names,args,body", [
    ("GET", ["no"], "", None), ("GET", ["no"], "?keys=true", None), ("POST", ["no"], "", '{"retention":{}}'),
    ("GET", ["no", "k"], "", None), ("POST", ["no", "k"], "", '{"record":"x"}'), ("GET", ["no", "k", "meta"], "", None),
    ("POST", ["no", "k", "flush"], "", None), ("GET", ["no", "k", "tail"], "", None),
    ("DELETE", ["no", "k"], "?before=offset:1", None), ("DELETE", ["no", "k"], "?offset=1", None),
    ("GET", ["ks", "none", "meta"], "", None), ("DELETE", ["ks", "none"], "?offset=1", None),
    ("DELETE", ["ks", "none"], "?before=offset:1", None)])
def test_what_does_not_exist_is_404(ks, method, names, args, body):
    r = ks.call(method, *names, args=args, data=body)
    assert r.status_code == 404 and r.json()["error"], r.text


def test_a_key_that_does_not_exist_is_an_empty_log(ks):
    assert ks.page("ks", "none") == {"keyspace": "ks", "key": "none", "records": [], "next_offset": 1}


# ---- appending

def test_append_json(ks):
    got = ks.append("ks", "k", ["one", {"base64": base64.b64encode(b"\xff\x00").decode()},
                                {"record": "three", "nonce": 7, "timestamp": -5}])
    t = got.pop("timestamp")
    assert got == {"result": "Success", "first_offset": 1, "next_offset": 4, "appended": 3, "duplicates": 0,
                   "next_nonce": "8"} and t == -5
    r = ks.call("POST", "ks", "k", json={"record": "alone", "nonce": str(NONCE_MAX)})
    assert r.json()["first_offset"] == 4 and r.json()["next_nonce"] == str(NONCE_MAX + 1)
    page = ks.page("ks", "k")
    now = int(time.time() * 1000)
    stamps = [r.pop("timestamp") for r in page["records"]]
    assert abs(stamps[0] - now) < 60000 and stamps[2] == -5
    assert page["records"] == [{"offset": 1, "record": "one"}, {"offset": 2, "base64": "/wA="},
                               {"offset": 3, "nonce": "7", "record": "three"},
                               {"offset": 4, "nonce": str(NONCE_MAX), "record": "alone"}]
    meta = ks.meta("ks", "k")
    assert meta["first_offset"] == 1 and meta["next_offset"] == 5 and meta["records"] == 4
    assert meta["keyspace"] == "ks" and meta["key"] == "k" and meta["bytes"] == 4 * 40 + 3 + 2 + 5 + 5
    assert meta["last_timestamp"] == max(stamps)


def test_append_raw_and_lines(ks):
    blob = bytes(range(256)) * 3
    assert ks.call("POST", "ks", "raw", args="?encoding=raw&nonce=5&timestamp=77", data=blob).json()["timestamp"] == 77
    assert ks.call("POST", "ks", "raw", args="?encoding=raw", data=b"").json()["appended"] == 1
    r = ks.call("GET", "ks", "raw", args="?encoding=raw")
    assert r.content == blob and r.headers["Varve-Records"] == "2" and r.headers["Varve-Next-Offset"] == "3"
    r = ks.call("POST", "ks", "lines", args="?encoding=lines&nonce=%d" % (NONCE_MAX - 3), data=b"a\r\nb\n\nc\rd")
    assert r.json()["appended"] == 4 and r.json()["next_nonce"] == str(NONCE_MAX + 1)
    got = ks.page("ks", "lines")["records"]
    assert [x["record"] for x in got] == ["a", "b", "", "c\rd"]
    assert [x["nonce"] for x in got] == [str(NONCE_MAX - 3 + i) for i in range(4)]
    assert ks.call("POST", "ks", "lines", args="?encoding=lines", data=b"e\n").json()["appended"] == 1


def test_duplicates_by_nonce(ks):
    batch = [{"record": "r%d" % i, "nonce": i} for i in range(10)]
    assert ks.append("ks", "k", batch)["appended"] == 10
    got = ks.append("ks", "k", batch)
    assert got["appended"] == 0 and got["duplicates"] == 10 and got["first_offset"] == got["next_offset"] == 11
    got = ks.append("ks", "k", batch[5:] + [{"record": "new", "nonce": 10}, {"record": "none"}])
    assert got["appended"] == 2 and got["duplicates"] == 5 and got["first_offset"] == 11
    assert [r["record"] for r in ks.page("ks", "k")["records"]] == ["r%d" % i for i in range(10)] + ["new", "none"]


def test_idempotency_key(ks):
    for i in range(2):
        r = ks.call("POST", "ks", "k", json={"record": "x"}, headers={"Idempotency-Key": "once"})
        assert r.json()["first_offset"] == 1 and r.json()["next_offset"] == 2 and r.json()["appended"] == 1
        assert ("Idempotent-Replayed" in r.headers) == (i == 1)
    r = ks.call("POST", "ks", "other", json={"record": "x"}, headers={"Idempotency-Key": "once"})
    assert r.status_code == 422
    assert ks.meta("ks", "k")["records"] == 1


def test_event_keyspaces_give_timestamps(logs):
    logs.create("ev", timestamps="server")
    for i in range(5):
        logs.append("ev", "k", ["a", "b"])
    stamps = [r["timestamp"] for r in logs.page("ev", "k")["records"]]
    assert all(a < b for a, b in zip(stamps, stamps[1:])) and abs(stamps[0] / 1e6 - time.time()) < 60
    r = logs.call("POST", "ev", "k", json={"record": "x", "timestamp": 5})
    assert r.status_code == 400 and "timestamp" in r.json()["error"]
    assert logs.meta("ev", "k")["records"] == 10


BAD_APPENDS = [
    ("", "", 400, "empty"), ("", "{", 400, ""), ("", "[]", 400, "must be"), ("", "{}", 400, "record"),
    ("", '{"records":[]}', 400, "empty"), ("", '{"records":{}}', 400, "array"),
    ("", '{"records":[{"record":"a"}],"x":1}', 400, "x"), ("", '{"record":1}', 400, "record 0"),
    ("", '{"record":null}', 400, "record 0"), ("", '{"record":"a","base64":""}', 400, "exclude"),
    ("", '{"record":"a","record":"b"}', 400, "twice"), ("", '{"base64":"a"}', 400, "base64"),
    ("", '{"base64":"a==="}', 400, "base64"), ("", '{"base64":"YQ"}', 400, "base64"),
    ("", '{"record":"a","nonce":"x"}', 400, "nonce"), ("", '{"record":"a","nonce":-1}', 400, "nonce"),
    ("", '{"record":"a","nonce":"-1"}', 400, "nonce"), ("", '{"record":"a","nonce":""}', 400, "nonce"),
    ("", '{"record":"a","nonce":1.5}', 400, "nonce"), ("", '{"record":"a","nonce":null}', 400, "nonce"),
    ("", '{"record":"a","nonce":"%d"}' % (2**128 - 1), 400, "nonce"),
    ("", '{"record":"a","nonce":"%d"}' % 2**128, 400, "nonce"),
    ("", '{"record":"a","nonce":%d}' % 2**64, 400, ""),
    ("", '{"record":"a","timestamp":%d}' % 2**63, 400, "timestamp"),
    ("", '{"record":"a","timestamp":%d}' % (-2**63 - 1), 400, ""),
    ("", '{"record":"a","timestamp":"5"}', 400, "timestamp"),
    ("", '{"record":"a","timestamp":1.0}', 400, "timestamp"), ("", '{"record":"a","offset":1}', 400, "offset"),
    ("", '{"records":[{"record":"a"},{"record":"b","nonce":"x"}]}', 400, "record 1"),
    ("", '{"records":[{"record":"a"},5]}', 400, "record 1"),
    ("?nonce=1", '{"record":"a"}', 400, "raw"), ("?encoding=xml", "a", 400, "encoding"),
    ("?encoding=lines", "", 400, "line"), ("?encoding=raw&nonce=x", "a", 400, "nonce"),
    ("?encoding=raw&nonce=-1", "a", 400, "nonce"), ("?encoding=raw&nonce=", "a", 400, "nonce"),
    ("?encoding=raw&nonce=%d" % (2**128 - 1), "a", 400, "nonce"),
    ("?encoding=lines&nonce=%d" % NONCE_MAX, "a\nb", 400, "nonce"),
    ("?encoding=raw&timestamp=%d" % 2**63, "a", 400, "timestamp"),
    ("?encoding=raw&timestamp=x", "a", 400, "timestamp"), ("?encoding=raw&start=first", "a", 400, "start"),
    ("?encoding=lines", "\n" * 100001, 413, "100001"),
    ("?encoding=raw", "x" * (1 << 20) + "y", 413, "1048577"),
    ("", json.dumps({"record": "x" * (1 << 20) + "y"}), 413, "record 0"),
    ("", json.dumps({"base64": "AAAA" * 360000}), 413, "record 0"),
]


@pytest.mark.parametrize("case", range(len(BAD_APPENDS)))
def test_bad_appends_are_refused_whole(ks, case):
    args, body, status, word = BAD_APPENDS[case]
    r = ks.call("POST", "ks", "k", args=args, data=body)
    assert r.status_code == status and r.json()["result"] == "Failure" and word in r.json()["error"], r.text
    assert ks.call("GET", "ks", "k", "meta").status_code == 404
    assert ks.append("ks", "k", ["fine"])["first_offset"] == 1


BAD_POLICIES = ["[]", "{", '{"x":1}', '{"timestamps":"mine"}', '{"timestamps":5}', '{"retention":5}',
                '{"retention":{"max_age":1}}', '{"retention":{"max_age_ms":-1}}', '{"retention":{"max_bytes":1.5}}',
                '{"retention":{"max_records":"5"}}', '{"retention":{},"retention":{}}',
                '{"retention":{"max_bytes":9223372036854775808}}']


@pytest.mark.parametrize("body", BAD_POLICIES)
def test_bad_policies(ks, body):
    assert ks.call("PUT", "new", data=body).status_code == 400
    assert ks.call("GET", "new").status_code == 404
    assert ks.call("POST", "ks", data=body).status_code == 400
    assert ks.call("POST", "ks", data='{"timestamps":"server","retention":{}}').status_code == 400
    assert ks.call("POST", "ks", data="{}").status_code == 400
    assert ks.call("GET", "ks").json()["retention"] == {}


# ---- pages

@pytest.fixture
def thousand(ks):
    rng = random.Random(7)
    records = [{"record": "record %d %s" % (i, "é" * rng.randrange(120)), "nonce": 10 * i, "timestamp": 1000 + 2 * i}
               for i in range(1, 1001)]
    for at in range(0, 1000, 90):
        ks.append("ks", "k", records[at:at + 90])
    ks.records = records
    return ks


@pytest.mark.parametrize("size", [1, 7, 90, 999, 1000, 1000000])
@pytest.mark.parametrize("direction", ["forwards", "backwards"])
def test_pages_in_both_directions(thousand, size, direction):
    if size == 1:
        start = "offset:970" if direction == "forwards" else "offset:30"
    else:
        start = "first"
    got = thousand.pages("ks", "k", "direction=%s&start=%s&page_size=%d" % (direction, start, size))
    want = list(range(1, 1001))
    if size == 1:
        want = want[969:] if direction == "forwards" else want[:30]
    if direction == "backwards":
        want.reverse()
    assert [r["offset"] for r in got] == want
    for r in got:
        sent = thousand.records[r["offset"] - 1]
        assert r["record"] == sent["record"] and r["timestamp"] == sent["timestamp"] and r["nonce"] == str(sent["nonce"])


@pytest.mark.parametrize("place,forwards,backwards", [
    ("first", 1, 1000), ("offset:1", 1, 1), ("offset:500", 500, 500), ("offset:1000", 1000, 1000),
    ("offset:1001", None, 1000), ("offset:18446744073709551615", None, 1000),
    ("timestamp:1002", 1, 1), ("timestamp:2001", 501, 500), ("timestamp:2002", 501, 501), ("timestamp:-5", 1, None),
    ("timestamp:9223372036854775807", None, 1000), ("nonce:0", 1, None), ("nonce:10", 1, 1), ("nonce:4995", 500, 499),
    ("nonce:10000", 1000, 1000), ("nonce:10001", None, 1000), ("nonce:%d" % NONCE_MAX, None, 1000)])
def test_starts(thousand, place, forwards, backwards):
    for direction, want in (("forwards", forwards), ("backwards", backwards)):
        got = thousand.page("ks", "k", "?page_size=1&direction=%s&start=%s" % (direction, place))["records"]
        assert [r["offset"] for r in got] == ([want] if want else [])


@pytest.mark.parametrize("direction", ["forwards", "backwards"])
def test_encodings(thousand, direction):
    args = "?page_size=300&direction=" + direction
    offsets = list(range(1, 301)) if direction == "forwards" else list(range(1000, 700, -1))
    sent = [thousand.records[o - 1]["record"].encode() for o in offsets]
    got = {e: thousand.call("GET", "ks", "k", args=args + "&encoding=" + e) for e in ("raw", "lines", "binary")}
    for r in got.values():
        assert r.headers["Varve-Records"] == "300" and r.headers["Varve-Next-Offset"] == "1001"
        assert r.headers["Varve-Continuation"] and "Varve-Truncated" not in r.headers
    assert got["raw"].content == b"".join(sent)
    assert got["lines"].content == b"".join(s + b"\n" for s in sent)
    want = b""
    for o in offsets:
        r = thousand.records[o - 1]
        n = len(r["record"].encode())
        want += struct.pack("<QqQQI", o, r["timestamp"], r["nonce"], 0, n) + r["record"].encode()
        want += struct.pack("<I", 36 + n)
    assert got["binary"].content == want
    page = thousand.page("ks", "k", args + "&encoding=base64")
    assert [base64.b64decode(r["base64"]) for r in page["records"]] == sent
    assert page["continuation"] == got["raw"].headers["Varve-Continuation"]
    # The next page may have another encoding.
    page = thousand.page("ks", "k", "?page_size=1&continuation=" + page["continuation"])
    assert page["records"][0]["offset"] == (301 if direction == "forwards" else 700)
    r = thousand.web.head(thousand.url("ks", "k", args=args))
    assert r.status_code == 200 and int(r.headers["Content-Length"]) > 300


def test_filters(thousand):
    got = thousand.pages("ks", "k", "contains=d+99&page_size=3")
    assert [r["offset"] for r in got] == [99] + list(range(990, 1000))
    got = thousand.pages("ks", "k", "prefix=record+10&direction=backwards&page_size=5")
    assert [r["offset"] for r in got] == [1000] + list(range(109, 99, -1)) + [10]
    assert thousand.pages("ks", "k", "contains=nowhere") == []


BAD_PAGES = ["direction=up", "direction=", "start=", "start=last", "start=offset:", "start=offset:0", "start=offset:-1",
             "start=offset:18446744073709551616", "start=offset:x", "start=timestamp:9223372036854775808",
             "start=timestamp:", "start=timestamp:--5", "start=nonce:x", "start=nonce:-1",
             "start=nonce:%d" % (2**128 - 1), "start=end", "page_size=0", "page_size=1000001", "page_size=-1",
             "page_size=x", "page_size=", "continuation=", "continuation=x", "continuation=" + "0" * 30,
             "continuation=" + "f" * 500, "continuation=%00", "encoding=text", "prefix=", "contains=",
             "prefix=a&contains=b", "frob=1", "page_size=1&page_size=2"]


@pytest.mark.parametrize("args", BAD_PAGES)
def test_bad_pages(ks, args):
    ks.append("ks", "k", ["x"])
    r = ks.call("GET", "ks", "k", args="?" + args)
    assert r.status_code == 400 and r.json()["error"], r.text
    assert ks.call("GET", "ks", "k", args="?contains=" + "x" * 1025).status_code == 413


def test_tokens_are_of_one_log_and_undamaged(thousand):
    token = thousand.page("ks", "k", "?page_size=10")["continuation"]
    thousand.append("ks", "other", ["x"] * 100)
    assert thousand.call("GET", "ks", "other", args="?continuation=" + token).status_code == 400
    for i in range(len(token)):
        bad = token[:i] + ("1" if token[i] == "0" else "0") + token[i + 1:]
        assert thousand.call("GET", "ks", "k", args="?continuation=" + bad).status_code == 400
    assert thousand.call("GET", "ks", "k", args="?start=first&continuation=" + token).status_code == 400
    assert thousand.call("GET", "ks", "k", args="?direction=forwards&continuation=" + token).status_code == 400
    thousand.server.restart()
    assert thousand.page("ks", "k", "?continuation=" + token)["records"][0]["offset"] == 11


def test_a_page_ends_at_4_mib(ks):
    for i in range(6):
        ks.call("POST", "ks", "big", args="?encoding=raw", data=bytes([65 + i]) * (1 << 20))
    r = ks.call("GET", "ks", "big", args="?encoding=raw")
    assert r.headers["Varve-Records"] == "3" and len(r.content) == 3 << 20
    got = ks.pages("ks", "big", "page_size=100")
    assert [x["record"][0] for x in got] == list("ABCDEF")


# ---- names

def raw_request(server, method, path, body=b""):
    """Status and JSON of a request whose path goes out as it is, which requests would tidy."""
    s = socket.create_connection(server.port("http"), timeout=20)
    s.sendall(b"%s %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" %
              (method.encode(), path.encode(), len(body)) + body)
    out = b""
    while got := s.recv(65536):
        out += got
    s.close()
    head, body = out.split(b"\r\n\r\n", 1)
    return int(head.split()[1]), json.loads(body)


NAMES = ["a/b", "/", "..", ".", "../../etc/passwd", "\0", "a\0b", "%", "%2F", "a b+c", "meta", "tail", "flush", "é",
         "\x7f", "?", "#", "\\", "\"", "\n"]


@pytest.mark.parametrize("name", NAMES)
def test_any_bytes_are_a_name(logs, name):
    def ask(*request):
        return raw_request(logs.server, *request)

    q = "".join("%%%02X" % b for b in name.encode())
    assert ask("PUT", "/v1/logs/" + q)[0] == 200
    assert ask("POST", "/v1/logs/%s/%s" % (q, q), b'{"record":"x"}')[1]["first_offset"] == 1
    status, page = ask("GET", "/v1/logs/%s/%s" % (q, q))
    assert status == 200 and page["keyspace"] == page["key"] == name and len(page["records"]) == 1
    assert ask("GET", "/v1/logs/%s/%s/meta" % (q, q))[1]["next_offset"] == 2
    assert ask("GET", "/v1/logs/%s?keys=true" % q)[1]["keys"] == [name]
    assert ask("GET", "/v1/logs")[1]["keyspaces"] == [name]


def test_names_that_are_not_utf8_are_arrays(ks):
    assert ks.web.put(ks.server.http + "/v1/logs/%FF%00").status_code == 200
    assert ks.web.post(ks.server.http + "/v1/logs/%FF%00/%80", json={"record": "x"}).status_code == 200
    page = ks.web.get(ks.server.http + "/v1/logs/%FF%00/%80").json()
    assert page["keyspace"] == [255, 0] and page["key"] == [128]


def test_names_too_long_empty_or_malformed(ks):
    emoji = "😀" * 1024
    assert ks.append("ks", emoji, ["x"])["first_offset"] == 1
    assert ks.page("ks", emoji)["key"] == emoji
    assert ks.call("POST", "ks", emoji + "x", json={"record": "x"}).status_code == 413
    assert ks.call("GET", "ks", emoji + "x").status_code == 413
    assert ks.call("PUT", "😀" * 63).status_code == 200
    assert ks.call("PUT", "😀" * 64).status_code == 413
    for path in ("/", "//k", "/ks/", "/ks//", "/%", "/%f", "/%zz", "/ks/%", "/ks/a%0", "/ks/k?prefix=%f"):
        for method, body in (("GET", b""), ("POST", b"{}")):
            status, answer = raw_request(ks.server, method, "/v1/logs" + path, body)
            assert status in ((400,) if path != "/ks//" else (404,)) and answer["error"], (method, path)
    assert raw_request(ks.server, "GET", "/v1/logs/ks//meta")[0] == 400
    assert raw_request(ks.server, "GET", "/v1/logs//k/meta")[0] == 400
    for path in ("/ks/k/nothing", "/ks/k/meta/", "/ks/k/l/m", "x", "x/y"):
        assert ks.web.get(ks.server.http + "/v1/logs" + path).status_code == 404


@pytest.mark.parametrize("path,allow", [
    ("", "GET, HEAD"), ("/ks", "GET, HEAD, POST, PUT"), ("/ks/k", "GET, HEAD, POST, DELETE"),
    ("/ks/k/meta", "GET, HEAD"), ("/ks/k/tail", "GET, HEAD"), ("/ks/k/flush", "POST")])
def test_allowed_methods(ks, path, allow):
    url = ks.server.http + "/v1/logs" + path
    for r in (ks.web.options(url), ks.web.patch(url)):
        assert r.status_code in (204, 405) and r.headers["Allow"] == allow + ", OPTIONS"


# ---- flushing, taking records out

def test_flush(ks):
    ks.append("ks", "k", ["x"])
    assert ks.call("POST", "ks", "k", "flush").json() == {"result": "Success"}
    assert ks.web.post(ks.server.http + "/v1/flush").json() == {"result": "Success"}
    assert ks.web.post(ks.server.http + "/v1/flush", data="x").status_code == 400
    assert ks.web.get(ks.server.http + "/v1/flush").status_code == 405


def test_trim_and_delete(thousand):
    r = thousand.call("DELETE", "ks", "k", args="?before=offset:100")
    assert r.json() == {"result": "Success", "first_offset": 100}
    assert thousand.page("ks", "k", "?page_size=1")["records"][0]["offset"] == 100
    page = thousand.page("ks", "k", "?page_size=1&start=offset:50")
    assert page["truncated"] is True and page["records"][0]["offset"] == 100
    r = thousand.call("GET", "ks", "k", args="?page_size=1&start=offset:50&encoding=raw")
    assert r.headers["Varve-Truncated"] == "true"
    assert "truncated" not in thousand.page("ks", "k", "?page_size=1&start=offset:100")
    r = thousand.call("DELETE", "ks", "k", args="?before=timestamp:1400")
    assert r.json()["first_offset"] == 200
    assert thousand.call("DELETE", "ks", "k", args="?offset=500").json() == {"result": "Success"}
    assert thousand.call("DELETE", "ks", "k", args="?offset=500").status_code == 404
    assert thousand.call("DELETE", "ks", "k", args="?offset=5").status_code == 404
    assert [r["offset"] for r in thousand.pages("ks", "k", "page_size=77")] == [o for o in range(200, 1001) if o != 500]
    assert thousand.meta("ks", "k")["records"] == 800
    thousand.server.restart()
    assert [r["offset"] for r in thousand.pages("ks", "k", "page_size=77")] == [o for o in range(200, 1001) if o != 500]
    assert thousand.call("DELETE", "ks", "k", args="?before=offset:99999").json()["first_offset"] == 1001
    got = thousand.append("ks", "k", [{"record": "dup", "nonce": 10000}, {"record": "new", "nonce": 10001}])
    assert got["first_offset"] == 1001 and got["duplicates"] == 1


@pytest.mark.parametrize("args", ["", "?before=", "?before=first", "?before=nonce:5", "?before=offset:0", "?before=offset:x",
                                  "?offset=0", "?offset=x", "?offset=1&before=offset:1", "?before=5"])
def test_bad_deletes(thousand, args):
    r = thousand.call("DELETE", "ks", "k", args=args)
    assert r.status_code == 400 and r.json()["result"] == "Failure"
    assert thousand.meta("ks", "k")["records"] == 1000


# ---- transactions

def txn(logs, *ops, **more):
    return logs.web.post(logs.server.http + "/v1/txn", json={"ops": list(ops), **more})


def test_txn_appends_and_puts_as_one(ks):
    put = {"op": "put", "key": "x", "value": 1, "version": 0}
    append = {"op": "append", "keyspace": "ks", "key": "k", "records": [{"record": "a", "nonce": 1}, {"record": "b"}]}
    r = txn(ks, put, append, idempotency_key="i")
    want = [{"key": "x", "version": 1},
            {"keyspace": "ks", "key": "k", "first_offset": 1, "next_offset": 3, "appended": 2}]
    assert r.json()["results"] == want
    again = txn(ks, put, append, idempotency_key="i")
    assert again.json()["results"] == want and again.headers["Idempotent-Replayed"] == "true"
    r = txn(ks, put, dict(append, records=[{"record": "c"}]))
    assert r.status_code == 409 and r.json()["conflicts"] == [{"key": "x", "expected": 0, "version": 1}]
    assert ks.meta("ks", "k")["records"] == 2
    r = txn(ks, {"op": "put", "key": "y", "value": 1}, dict(append, keyspace="no"))
    assert r.status_code == 404
    assert ks.web.get(ks.server.http + "/v1/get?key=y").status_code == 404
    ks.server.restart()
    assert txn(ks, put, append, idempotency_key="i").json()["results"] == want
    assert ks.meta("ks", "k")["records"] == 2


@pytest.mark.parametrize("op", [
    {"keyspace": "ks", "key": "k"}, {"keyspace": "ks", "records": [{"record": "a"}]},
    {"key": "k", "records": [{"record": "a"}]}, {"keyspace": "", "key": "k", "records": [{"record": "a"}]},
    {"keyspace": "ks", "key": "", "records": [{"record": "a"}]}, {"keyspace": "ks", "key": "k", "records": []},
    {"keyspace": "ks", "key": "k", "records": [{"record": "a"}, {"record": 1}]},
    {"keyspace": 5, "key": "k", "records": [{"record": "a"}]},
    {"keyspace": "ks", "key": "k", "records": [{"record": "a"}], "version": 1}])
def test_bad_appends_in_a_txn(ks, op):
    r = txn(ks, {"op": "put", "key": "x", "value": 1}, dict(op, op="append"))
    assert r.status_code == 400 and "operation 1" in r.json()["error"], r.text
    assert ks.web.get(ks.server.http + "/v1/get?key=x").status_code == 404
    both = {"op": "append", "keyspace": "ks", "key": "k", "records": [{"record": "a"}]}
    assert txn(ks, both, both).status_code == 400
    assert ks.call("GET", "ks", "k", "meta").status_code == 404


# ---- tails

class Tail:
    """A plain reader of server-sent events."""

    def __init__(self, logs, ks, key, args="", last=None, rcvbuf=None):
        self.socket = socket.socket()
        if rcvbuf:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.socket.settimeout(30)
        self.socket.connect(logs.server.port("http"))
        field = "Last-Event-ID: %s\r\n" % last if last is not None else ""
        self.socket.sendall(("GET /v1/logs/%s/%s/tail%s HTTP/1.1\r\nHost: h\r\n%s\r\n" % (ks, key, args, field)).encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.fields = {}
        while (line := self.file.readline().strip()):
            name, value = line.decode().split(":", 1)
            self.fields[name.lower()] = value.strip()

    def event(self):
        out = {}
        while (line := self.file.readline()):
            line = line.decode().rstrip("\n")
            if not line and out:
                return out
            if line and not line.startswith(":"):
                name, value = line.split(": ", 1)
                out[name] = json.loads(value) if name == "data" else value
        return None

    def take(self, n):
        return [self.event() for _ in range(n)]

    def close(self):
        self.file.close()
        self.socket.close()


def connections(logs):
    text = requests.get(logs.server.http + "/metrics").text
    return [int(line.split()[1]) for line in text.splitlines() if line.startswith("varve_connections ")][0]


def test_tail_gives_what_comes(ks):
    ks.append("ks", "k", ["old"])
    t = Tail(ks, "ks", "k")
    assert t.status == 200 and t.fields["content-type"] == "text/event-stream"
    assert t.fields["cache-control"] == "no-cache" and "content-length" not in t.fields
    for i in range(20):
        ks.append("ks", "k", [{"record": "r%d" % i, "nonce": i, "timestamp": i}])
        assert t.event() == {"id": str(i + 2), "data": {"offset": i + 2, "timestamp": i, "nonce": str(i), "record": "r%d" % i}}
    t.close()


def test_tail_from_everywhere(thousand):
    for args, first in (("?start=first", 1), ("?start=offset:990", 990), ("?start=timestamp:2001", 501),
                        ("?start=nonce:4995", 500)):
        t = Tail(thousand, "ks", "k", args)
        got = t.take(1001 - first)
        assert [int(e["id"]) for e in got] == list(range(first, 1001))
        assert [e["data"]["record"] for e in got] == [r["record"] for r in thousand.records[first - 1:]]
        t.close()
    t = Tail(thousand, "ks", "k", "?start=first", last=997)
    assert [e["id"] for e in t.take(3)] == ["998", "999", "1000"]
    t.close()
    t = Tail(thousand, "ks", "k", "?start=first&contains=+99&encoding=base64")
    assert [int(e["id"]) for e in t.take(11)] == [99] + list(range(990, 1000))
    thousand.append("ks", "k", ["no", "yes 99"])
    assert t.event()["data"]["base64"] == base64.b64encode(b"yes 99").decode()
    t.close()
    # Not reached yet
    for args in ("?start=offset:1005", "?start=nonce:20000", "?start=timestamp:9000000000000000000"):
        t = Tail(thousand, "ks", "wait" + args[7:10], args.replace("1005", "3"))
        thousand.append("ks", "wait" + args[7:10], [{"record": "early", "nonce": 1, "timestamp": 1}] +
                        [{"record": "early", "timestamp": 1}])
        thousand.append("ks", "wait" + args[7:10], [{"record": "it", "nonce": 20001, "timestamp": 2**63 - 1}])
        assert t.event()["data"]["record"] == "it"
        t.close()


def test_tail_of_a_key_that_comes_later(ks):
    t = Tail(ks, "ks", "later")
    time.sleep(0.1)
    ks.append("ks", "later", ["first"])
    assert t.event()["data"]["record"] == "first"
    t.close()


def test_tail_says_when_it_was_overtaken(thousand):
    thousand.call("DELETE", "ks", "k", args="?before=offset:400")
    t = Tail(thousand, "ks", "k", last=10)
    assert t.event() == {"event": "truncated", "data": {"first_offset": 400}}
    assert [int(e["id"]) for e in t.take(601)] == list(range(400, 1001))
    t.close()
    t = Tail(thousand, "ks", "k", "?start=first")
    assert t.event()["id"] == "400"
    t.close()


@pytest.mark.parametrize("args,last", [("?start=x", None), ("?start=offset:0", None), ("?start=nonce:-1", None),
                                       ("?encoding=raw", None), ("?page_size=5", None), ("?direction=backwards", None),
                                       ("?prefix=a&contains=b", None), ("", "x"), ("", "-1"),
                                       ("", "18446744073709551615")])
def test_bad_tails(ks, args, last):
    t = Tail(ks, "ks", "k", args, last=last)
    assert t.status == 400
    t.close()


def test_tails_leave_nothing_behind(ks):
    before = connections(ks)
    tails = [Tail(ks, "ks", "k%d" % (i % 5)) for i in range(50)]
    assert wait_until(lambda: connections(ks) >= before + 50)
    for t in tails[:25]:
        t.close()
    for t in tails[25:]:  # with a reset
        t.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        t.close()
    assert wait_until(lambda: connections(ks) <= before + 1)
    for i in range(5):
        ks.append("ks", "k%d" % i, ["x"])
    assert ks.server.stop() == 0


def test_tail_with_a_half_closed_or_talking_client(ks):
    t = Tail(ks, "ks", "k")
    t.socket.sendall(b"x" * 1000000)
    ks.append("ks", "k", ["a"])
    assert t.event()["data"]["record"] == "a"
    t.socket.shutdown(socket.SHUT_WR)
    assert t.event() is None
    t.close()


def test_a_slow_reader_is_held_back_and_misses_nothing(ks):
    line = "x" * 1000
    t = Tail(ks, "ks", "k", rcvbuf=4096)
    total = 0
    for i in range(20):
        total = ks.append("ks", "k", [line] * 1000)["next_offset"] - 1
    seen = 0
    while seen < total:
        e = t.event()
        seen += 1
        assert int(e["id"]) == seen and e["data"]["record"] == line
    t.close()


def test_tails_with_writers_and_a_stop(ks):
    """Every record once, in order, in each of several tails while several writers append."""
    tails = [Tail(ks, "ks", "k") for _ in range(4)]
    writers, each = 3, 60

    def write(w):
        session = Logs(ks.server)
        for i in range(each):
            session.append("ks", "k", ["%d %d" % (w, i)])

    threads = [threading.Thread(target=write, args=(w,)) for w in range(writers)]
    [x.start() for x in threads]
    for t in tails:
        got = t.take(writers * each)
        assert [int(e["id"]) for e in got] == list(range(1, writers * each + 1))
        for w in range(writers):
            mine = [e["data"]["record"] for e in got if e["data"]["record"].startswith("%d " % w)]
            assert mine == ["%d %d" % (w, i) for i in range(each)]
    [x.join() for x in threads]
    assert ks.server.stop() == 0
    for t in tails:
        assert t.event() is None
        t.close()


# ---- what survives

def test_kill_and_restart_keep_everything(ks):
    ks.create("ev", timestamps="server", retention={"max_records": 100000})
    for i in range(30):
        ks.append("ks", "k", [{"record": "r%d" % i, "nonce": i, "timestamp": i}])
        ks.append("ev", "e", ["e%d" % i])
    before = [ks.pages("ks", "k", "page_size=7"), ks.pages("ev", "e", "page_size=7"), ks.meta("ks", "k"),
              ks.meta("ev", "e"), ks.call("GET", "ev").json()]
    ks.server.restart()
    after = [ks.pages("ks", "k", "page_size=7"), ks.pages("ev", "e", "page_size=7"), ks.meta("ks", "k"),
             ks.meta("ev", "e"), ks.call("GET", "ev").json()]
    assert before == after
    got = ks.append("ks", "k", [{"record": "dup", "nonce": 29}, {"record": "new", "nonce": 30}])
    assert got["first_offset"] == 31 and got["appended"] == 1 and got["duplicates"] == 1
    ks.append("ev", "e", ["later"])
    stamps = [r["timestamp"] for r in ks.page("ev", "e")["records"]]
    assert stamps == sorted(set(stamps)) and len(stamps) == 31


def test_cold_pages(start):
    """After a clean stop everything is below, and a start loads nothing: pages, tails, appends bring it in."""
    server = start()
    logs = Logs(server)
    logs.create("ks")
    for i in range(40):
        logs.append("ks", "k", ["%d %s" % (i * 500 + j, "y" * 100) for j in range(500)])
    assert server.stop() == 0
    server.start()
    got = logs.pages("ks", "k", "page_size=3000&direction=backwards")
    assert [r["offset"] for r in got] == list(range(20000, 0, -1))
    server.stop()
    server.start()
    t = Tail(logs, "ks", "k", "?start=first")
    assert [int(e["id"]) for e in t.take(20000)] == list(range(1, 20001))
    logs.append("ks", "k", ["end"])
    assert t.event()["data"]["record"] == "end"
    t.close()
    server.stop()
    server.start()
    assert logs.append("ks", "k", ["cold"])["first_offset"] == 20002
