"""concave's two operations and what varve adds to them, over HTTP (SPEC "Keys over HTTP")."""
import json
import threading

import pytest
import requests


@pytest.fixture
def web(server):
    s = requests.Session()
    s.base = server.http
    return s


def put(web, *objects, headers=None):
    body = [{"key": k, "value": v, "version": n} for k, v, n in objects]
    return web.post(web.base + "/v1/put", json=body, headers=headers)


def get(web, key):
    return web.get(web.base + "/v1/get", params={"key": key})


def test_put_then_get(web):
    r = put(web, ("a", "one", 0))
    assert (r.status_code, r.json()) == (200, {"result": "Success"})
    assert get(web, "a").json() == {"key": "a", "value": "one", "version": 1}


def test_missing_key_is_404_with_an_error(web):
    r = get(web, "nothing")
    assert r.status_code == 404 and "error" in r.json()


@pytest.mark.parametrize("value", [
    "text", "", "ünïcode \u0000 \" \\ \n", 0, 1, -1, 2**63 - 1, -2**63, 1.5, 1.0, -0.0, 1e300, 5e-324, 0.1,
    True, False, [], [1, 2, 3], [1.5, 2, -3e-7], [2**63 - 1, 0.1]])
def test_a_value_comes_back_as_the_type_it_went_in_as(web, value):
    assert put(web, ("v", value, 0)).status_code == 200
    text = get(web, "v").text
    got = json.loads(text)["value"]
    assert got == value and type(got) is type(value)
    if isinstance(value, list):
        assert [type(x) for x in got] == [type(x) for x in value]
    assert json.dumps(got) == json.dumps(value)  # -0.0 too


def test_versions_rise_by_one_and_a_stale_one_conflicts(web):
    for n in range(5):
        assert put(web, ("k", n, n)).status_code == 200
    r = put(web, ("k", 99, 4))
    assert r.status_code == 409
    assert r.json()["result"] == "Failure" and r.json()["error"]
    assert r.json()["conflicts"] == [{"key": "k", "expected": 4, "version": 5}]
    assert get(web, "k").json() == {"key": "k", "value": 4, "version": 5}


def test_all_or_nothing_and_every_conflict_is_named(web):
    put(web, ("x", 1, 0), ("y", 1, 0))
    r = put(web, ("new", 1, 0), ("x", 2, 7), ("y", 2, 1), ("z", 2, 3))
    assert r.status_code == 409
    assert sorted((c["key"], c["expected"], c["version"]) for c in r.json()["conflicts"]) == [
        ("x", 7, 1), ("z", 3, 0)]
    assert get(web, "new").status_code == 404
    assert get(web, "y").json()["version"] == 1


def test_a_deleted_key_never_reuses_a_version(web):
    for n in range(3):
        put(web, ("a", n, n))
    r = web.delete(web.base + "/v1/key", params={"key": "a", "version": 3})
    assert r.status_code == 200
    assert get(web, "a").status_code == 404
    assert put(web, ("a", 1, 0)).status_code == 200
    assert get(web, "a").json()["version"] == 4
    # One number for the whole store: other new keys start past it too.
    put(web, ("b", 1, 0))
    assert get(web, "b").json()["version"] == 4


def test_of_racing_puts_exactly_one_succeeds(server):
    results, gate = [], threading.Barrier(16)

    def racer(i):
        s = requests.Session()
        gate.wait()
        r = s.post(server.http + "/v1/put", json=[{"key": "race", "value": i, "version": 0}])
        results.append((r.status_code, i))

    threads = [threading.Thread(target=racer, args=(i,)) for i in range(16)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    won = [i for status, i in results if status == 200]
    assert len(won) == 1 and sorted(s for s, _ in results) == [200] + [409] * 15
    assert requests.get(server.http + "/v1/get?key=race").json()["value"] == won[0]


BAD_PUTS = [
    ("", "empty"), ("{", "malformed"), ("[", "malformed"), ("null", "not an array"), ("{}", "not an array"),
    ("[]", "empty"), ("[1]", "not an object"), ('[{"value":1,"version":0}]', "no key"),
    ('[{"key":"a","version":0}]', "no value"), ('[{"key":"a","value":1}]', "no version"),
    ('[{"key":"","value":1,"version":0}]', "empty key"), ('[{"key":5,"value":1,"version":0}]', "key type"),
    ('[{"key":"a","value":1,"version":-1}]', "negative"), ('[{"key":"a","value":1,"version":0.5}]', "fraction"),
    ('[{"key":"a","value":1,"version":"0"}]', "text version"),
    ('[{"key":"a","value":1,"version":18446744073709551616}]', "beyond 64 bits"),
    ('[{"key":"a","value":null,"version":0}]', "null"), ('[{"key":"a","value":{},"version":0}]', "object"),
    ('[{"key":"a","value":["x"],"version":0}]', "array of text"),
    ('[{"key":"a","value":9223372036854775808,"version":0}]', "past i64"),
    ('[{"key":"a","value":1e999,"version":0}]', "past double"),
    ('[{"key":"a","value":1,"version":0},{"key":"a","value":2,"version":0}]', "the same key twice"),
    ('[{"key":"a","key":"b","value":1,"version":0}]', "the same member twice"),
    ('[{"key":"a","value":1,"version":0,"extra":1}]', "an unknown member"),
    ('[{"key":"a","value":1,"version":0}]x', "trailing garbage"),
    ('[{"key":"good","value":1,"version":0},{"key":"a","value":1,"version":-1}]', "the second is bad"),
]


@pytest.mark.parametrize("body,why", BAD_PUTS)
def test_bad_puts_are_refused_whole(web, body, why):
    r = web.post(web.base + "/v1/put", data=body)
    assert r.status_code == 400, (why, r.text)
    assert r.json()["result"] == "Failure" and len(r.json()["error"]) > 5
    for key in "a", "b", "good":
        assert get(web, key).status_code == 404


def test_invalid_utf8_in_json_is_refused(web):
    r = web.post(web.base + "/v1/put", data=b'[{"key":"a\xff","value":1,"version":0}]')
    assert r.status_code == 400
    r = web.post(web.base + "/v1/put", data=b'[{"key":"a","value":"\xc0\x80","version":0}]')
    assert r.status_code == 400


def test_sizes(start):
    s = start("--limits-key", "16", "--limits-value", "100", "--limits-request", "4k")
    web = requests.Session()
    web.base = s.http
    assert put(web, ("k" * 16, "v" * 100, 0)).status_code == 200
    assert put(web, ("k" * 17, "v", 0)).status_code == 413
    assert put(web, ("k", "v" * 101, 0)).status_code == 413
    assert web.post(web.base + "/v1/put", data=b" " * 5000).status_code == 413
    assert get(web, "k" * 16).json()["value"] == "v" * 100


def test_listing_is_sorted_and_pages(web):
    names = ["p/%03d" % i for i in range(250)]
    put(web, *[(n, i, 0) for i, n in enumerate(names)])
    put(web, ("q", 1, 0), ("o", 1, 0))
    seen, after = [], ""
    while True:
        r = web.get(web.base + "/v1/keys", params={"prefix": "p/", "after": after, "limit": 70}).json()
        seen += [k["key"] for k in r["keys"]]
        if not r["more"]:
            break
        after = seen[-1]
    assert seen == names


def test_a_listing_is_answered_right_after_a_restart(server, web):
    put(web, ("a", 1, 0), ("b", 1, 0))
    for stop in server.kill, server.stop:
        stop()
        server.start()
        r = requests.get(server.http + "/v1/keys", timeout=10)
        assert [k["key"] for k in r.json()["keys"]] == ["a", "b"]


def test_txn_mixes_checks_puts_deletes_and_adds(web):
    put(web, ("a", 1, 0), ("gone", 1, 0))
    ops = [{"op": "check", "key": "a", "version": 1}, {"op": "check", "key": "none", "version": 0},
           {"op": "put", "key": "b", "value": "x"}, {"op": "delete", "key": "gone", "version": 1},
           {"op": "add", "key": "n", "delta": 41}]
    assert web.post(web.base + "/v1/txn", json={"ops": ops}).status_code == 200
    assert web.post(web.base + "/v1/txn", json={"ops": [{"op": "add", "key": "n", "delta": 1}]}).status_code == 200
    assert get(web, "n").json()["value"] == 42
    assert get(web, "gone").status_code == 404
    r = web.post(web.base + "/v1/txn", json={"ops": [{"op": "check", "key": "a", "version": 9},
                                                     {"op": "put", "key": "b", "value": "y"}]})
    assert r.status_code == 409 and r.json()["conflicts"][0]["key"] == "a"
    assert get(web, "b").json()["value"] == "x"


def test_add_refuses_what_is_no_integer_and_overflow(web):
    put(web, ("s", "text", 0), ("m", 2**63 - 1, 0))
    for key, delta in ("s", 1), ("m", 1):
        r = web.post(web.base + "/v1/txn", json={"ops": [{"op": "add", "key": key, "delta": delta}]})
        assert 400 <= r.status_code < 500 and r.json()["error"], key
    assert get(web, "m").json() == {"key": "m", "value": 2**63 - 1, "version": 1}


def test_idempotency_key_gives_the_first_result_again(server, web):
    body = [{"key": "once", "value": 1, "version": 0}]
    h = {"Idempotency-Key": "abc"}
    first = web.post(web.base + "/v1/put", json=body, headers=h)
    assert first.status_code == 200
    for _ in range(2):
        again = web.post(server.http + "/v1/put", json=body, headers=h)
        assert (again.status_code, again.json()) == (200, first.json())
        assert get(requests_to(server), "once").json()["version"] == 1
        server.restart()
    other = [{"key": "other", "value": 1, "version": 0}]
    r = requests.post(server.http + "/v1/put", json=other, headers=h)
    assert 400 <= r.status_code < 500 and r.json()["error"]


def requests_to(server):
    s = requests.Session()
    s.base = server.http
    return s


def test_ttl(server, web):
    import time
    r = web.post(web.base + "/v1/put", json=[{"key": "t", "value": 1, "version": 0, "ttl_ms": 300}])
    assert r.status_code == 200
    assert get(web, "t").status_code == 200
    time.sleep(0.4)
    assert get(web, "t").status_code == 404
    assert put(web, ("t", 2, 0)).status_code == 200
    assert get(web, "t").json()["version"] > 1


def test_paths_and_methods(web):
    assert web.get(web.base + "/nope").status_code == 404
    assert web.get(web.base + "/v1/put").status_code == 405
    assert web.post(web.base + "/v1/get").status_code == 405
    assert web.get(web.base + "/v1/get").status_code == 400
    for path in "/healthz", "/readyz", "/metrics":
        assert web.get(web.base + path).status_code == 200
    assert "varve_wal_syncs_total" in web.get(web.base + "/metrics").text
