"""Relations over HTTP, as docs/PROTOCOLS.md "Relations over HTTP" says, against the real server."""
import random
import time

import pytest
import requests

MAX = 2**64 - 1
NOT_ID = " is not an id: whole numbers from 0 to 18446744073709551615"
EDGES = [0, 1, 2**31, 2**32 - 1, 2**32, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**63 + 1, MAX - 1, MAX]


class Relations:
    def __init__(self, server):
        self.server = server
        self.web = requests.Session()

    def call(self, method, path, **kw):
        return self.web.request(method, self.server.http + "/v1/relations" + path, **kw)

    def ok(self, method, path, **kw):
        r = self.call(method, path, **kw)
        assert r.status_code == 200, r.text
        return r.json()

    def refused(self, status, method, path, **kw):
        """The error's text."""
        r = self.call(method, path, **kw)
        assert r.status_code == status, (path, r.text)
        body = r.json()
        assert body["error"]
        return body["error"]

    def declare(self, name, **options):
        return self.ok("PUT", "/" + name, json=options)

    def add(self, name, source, members, args=""):
        return self.ok("POST", "/%s/%d%s" % (name, source, args), json={"members": list(members)})["added"]

    def remove(self, name, source, members):
        return self.ok("DELETE", "/%s/%d" % (name, source), json={"members": list(members)})["removed"]

    def page(self, name, source, args=""):
        return self.ok("GET", "/%s/%d%s" % (name, source, args))

    def members(self, name, source, args="limit=1000000"):
        """All of a list, page after page."""
        out, after = [], ""
        while True:
            p = self.page(name, source, "?" + args + after)
            out += p["members"]
            if not p["more"]:
                assert "next" not in p and p["count"] == len(out)
                return out
            after = "&after=%d" % p["next"]

    def combine(self, name, how, lists, limit=1000000):
        out, body = [], {"lists": lists, "limit": limit}
        while True:
            p = self.ok("POST", "/%s/%s" % (name, how), json=body)
            out += p["members"]
            if not p["more"]:
                return out
            body["after"] = p["next"]

    def froms(self, name, args=""):
        out, after = [], ""
        while True:
            p = self.ok("GET", "/%s/froms?%s%s" % (name, args, after))
            out += [(f["from"], f["count"]) for f in p["froms"]]
            if not p["more"]:
                return out
            after = "&after=%d" % out[-1][0]


@pytest.fixture
def rels(server):
    return Relations(server)


# ---- relations

def test_a_relation_is_declared_once(rels):
    before = time.time() * 1000
    created = rels.declare("a")["created"]
    assert before - 5000 <= created <= time.time() * 1000 + 5000
    assert rels.refused(409, "PUT", "/a")
    assert rels.ok("GET", "/a") == {"relation": "a", "created": created, "reverse": False, "order": "id",
                                    "durability": "fsync", "resident": {"lists": 0, "members": 0}}
    rels.declare("b", reverse=True, order="recent", durability="relaxed")
    rels.server.restart()
    got = rels.ok("GET", "/b")
    assert (got["reverse"], got["order"], got["durability"]) == (True, "recent", "relaxed")
    assert rels.refused(409, "PUT", "/b", json={})
    assert rels.call("PUT", "/c", data=b"").status_code == 200


def test_a_first_addition_makes_it(rels):
    assert rels.refused(404, "GET", "/a")
    assert rels.add("a", 1, [2, 3]) == 2
    got = rels.ok("GET", "/a")
    assert not got["reverse"] and got["order"] == "id" and got["durability"] == "fsync"
    assert got["resident"] == {"lists": 1, "members": 2}
    assert rels.refused(409, "PUT", "/a")


def test_they_are_listed_by_name(rels):
    names = sorted("r%03d" % i for i in range(25)) + ["_"] + ["z:.-9"]
    for n in random.sample(names, len(names)):
        rels.declare(n)
    names.sort()
    assert rels.ok("GET", "") == {"relations": names, "more": False}
    seen, after = [], ""
    while True:
        got = rels.ok("GET", "", params={"after": after, "limit": 7})
        seen += got["relations"]
        if not got["more"]:
            break
        after = seen[-1]
    assert seen == names


BAD_NAMES = ["-a", ".a", ":a", "a!", "a b", "a/b", "%00", "é", "x" * 129, "%FF"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_is_an_error_everywhere(rels, name):
    path = "/" + (name if name.startswith("%") else requests.utils.quote(name, safe=""))
    for method, rest, body in [("PUT", "", {}), ("GET", "", None), ("POST", "/1", {"members": [1]}),
                               ("DELETE", "/1", {"members": [1]}), ("GET", "/1", None), ("GET", "/1/count", None),
                               ("GET", "/1/contains?members=1", None), ("POST", "", {"add": [{"from": 1, "members": [1]}]}),
                               ("POST", "/get", {"from": [1]}), ("POST", "/union", {"lists": [1]}),
                               ("GET", "/froms", None)]:
        assert rels.refused(400, method, path + rest, json=body), (method, rest)
    ops = [{"op": "relate", "relation": name.replace("%00", "\0").replace("%FF", "ÿ"), "from": 1, "members": [1]}]
    assert rels.web.post(rels.server.http + "/v1/txn", json={"ops": ops}).status_code == 400
    assert rels.ok("GET", "") == {"relations": [], "more": False}


def test_the_longest_name(rels):
    name = "x" * 128
    assert rels.add(name, 1, [1]) == 1 and rels.members(name, 1) == [1]


# ---- members

def test_ids_are_exact(rels):
    assert rels.add("r", 5, EDGES + EDGES) == len(EDGES)
    for source in EDGES:
        assert rels.add("e", source, [source]) == 1
    rels.server.restart()
    assert rels.members("r", 5) == EDGES
    for source in EDGES:
        assert rels.page("e", source) == {"relation": "e", "from": source, "count": 1, "members": [source], "more": False}
        assert rels.ok("GET", "/r/5/contains?members=%d" % source)["contains"] == [True]
    # As strings, in and out.
    assert rels.ok("POST", "/s/%d" % MAX, json={"members": [str(e) for e in EDGES]})["added"] == len(EDGES)
    assert rels.members("s", MAX) == EDGES
    got = rels.ok("GET", "/s/%d?ids=string&limit=3" % MAX)
    assert got == {"relation": "s", "from": str(MAX), "count": len(EDGES), "members": [str(e) for e in EDGES[:3]],
                   "more": True, "next": str(EDGES[2])}
    assert rels.ok("GET", "/s/%d/count?ids=string" % MAX)["from"] == str(MAX)
    assert rels.ok("GET", "/s/froms?ids=string")["froms"] == [{"from": str(MAX), "count": len(EDGES)}]
    got = rels.ok("POST", "/s/get?ids=string", json={"from": [MAX], "limit": 1})
    assert got["lists"] == [{"from": str(MAX), "count": len(EDGES), "members": ["0"]}]
    got = rels.ok("POST", "/s/union?ids=string", json={"lists": [str(MAX)], "limit": 1})
    assert got == {"members": ["0"], "more": True, "next": "0"}


def test_adding_and_removing_count_what_changed(rels):
    assert rels.add("r", 1, [5, 6, 7, 7]) == 3
    assert rels.add("r", 1, [7, 8]) == 1
    assert rels.add("r", 1, []) == 0
    assert rels.remove("r", 1, [5, 9, 5]) == 1
    assert rels.ok("DELETE", "/r/1?members=6,8,8") == {"result": "Success", "removed": 2}
    assert rels.remove("none", 1, [5]) == 0
    assert rels.members("r", 1) == [7]
    assert rels.remove("r", 1, [7]) == 1
    assert rels.page("r", 1) == {"relation": "r", "from": 1, "count": 0, "members": [], "more": False}
    assert rels.froms("r") == []


def test_what_does_not_exist_is_empty(rels):
    rels.add("r", 1, [1])
    for name, source in [("r", 2), ("none", 1)]:
        assert rels.page(name, source) == {"relation": name, "from": source, "count": 0, "members": [], "more": False}
        for args in ["?order=falling", "?after=5&limit=1"]:
            assert rels.page(name, source, args)["members"] == []
        assert rels.ok("GET", "/%s/%d/count" % (name, source)) == {"relation": name, "from": source, "count": 0}
        assert rels.ok("GET", "/%s/%d/contains?members=1,%d" % (name, source, MAX))["contains"] == [False, False]
        for how in ["intersect", "union", "difference"]:
            assert rels.ok("POST", "/%s/%s" % (name, how), json={"lists": [source]}) == {"members": [], "more": False}
        assert rels.ok("POST", "/%s/get" % name, json={"from": [source]})["lists"] == [
            {"from": source, "count": 0, "members": []}]
    assert rels.ok("GET", "/none/froms") == {"relation": "none", "froms": [], "more": False}
    assert rels.ok("GET", "") == {"relations": ["r"], "more": False}  # reading makes none


@pytest.mark.parametrize("size,limit", [(10, 3), (1000, 7), (5000, 1000), (5000, 4999), (130, 128)])
def test_pages(rels, size, limit):
    ids = sorted(random.sample(range(size * 20), size))
    rels.add("r", 9, random.sample(ids, size))
    args = "limit=%d" % limit
    assert rels.members("r", 9, args) == ids
    assert rels.members("r", 9, args + "&order=id") == ids
    assert rels.members("r", 9, args + "&order=falling") == ids[::-1]
    for after in random.sample(range(size * 20), 20):  # which need not be there
        got = rels.page("r", 9, "?limit=%d&after=%d" % (limit, after))
        assert got["members"] == [i for i in ids if i > after][:limit] and got["count"] == size
        got = rels.page("r", 9, "?limit=%d&order=falling&after=%d" % (limit, after))
        assert got["members"] == [i for i in ids[::-1] if i < after][:limit]
    assert rels.page("r", 9)["members"] == ids[:1000]


def test_newest_first(rels):
    rels.declare("r", order="recent")
    arrived = random.sample(range(10**6), 700)
    for i in range(0, 700, 50):
        assert rels.add("r", 1, arrived[i:i + 50]) == 50
    assert rels.add("r", 1, arrived[:30]) == 0  # keeps its place
    gone = set(random.sample(arrived, 100))
    assert rels.remove("r", 1, gone) == 100
    want = [m for m in arrived if m not in gone][::-1]
    for _ in range(2):
        assert rels.members("r", 1, "limit=64&order=newest") == want
        assert rels.members("r", 1, "limit=1000&order=id") == sorted(want)
        rels.server.restart()
    back = sorted(gone)[0]
    rels.add("r", 1, [back])
    assert rels.page("r", 1, "?order=newest&limit=2")["members"] == [back, want[0]]


def test_the_other_side(rels):
    rels.declare("r", reverse=True)
    model = {s: set(random.sample(range(50), 10)) for s in range(1, 30)}
    for s, m in model.items():
        rels.add("r", s, m)
    for s in [3, 7]:
        gone = set(random.sample(sorted(model[s]), 5))
        model[s] -= gone
        rels.remove("r", s, gone)
    for _ in range(2):
        for m in range(50):
            want = [s for s in sorted(model) if m in model[s]]
            assert rels.members("r", m, "reverse=true&limit=3") == want
            assert rels.ok("GET", "/r/%d/count?reverse=true" % m)["count"] == len(want)
            got = rels.ok("GET", "/r/%d/contains?members=%s&reverse=true" % (m, ",".join(map(str, model))))
            assert got["contains"] == [m in model[s] for s in model]
        got = rels.ok("POST", "/r/get", json={"from": [1, 2], "reverse": True})["lists"]
        assert [g["members"] for g in got] == [[s for s in sorted(model) if m in model[s]] for m in (1, 2)]
        assert dict(rels.froms("r", "reverse=true&limit=4")) == {
            m: n for m in range(50) if (n := sum(m in v for v in model.values()))}
        lists = [{"from": 5, "reverse": True}, {"from": 6, "reverse": True}]
        assert rels.combine("r", "intersect", lists) == [s for s in sorted(model) if {5, 6} <= model[s]]
        rels.server.restart()


def test_what_was_not_declared_is_refused_with_how_it_is(rels):
    rels.add("r", 1, [1])
    for path in ["/r/1?reverse=true", "/r/1/count?reverse=true", "/r/1/contains?members=1&reverse=true",
                 "/r/froms?reverse=true"]:
        assert '{"reverse":true}' in rels.refused(400, "GET", path)
    assert '{"reverse":true}' in rels.refused(400, "POST", "/r/get", json={"from": [1], "reverse": True})
    text = rels.refused(400, "POST", "/r/union", json={"lists": [1, {"from": 1, "reverse": True}]})
    assert text.startswith("lists[1]: ") and '{"reverse":true}' in text
    assert '{"order":"recent"}' in rels.refused(400, "GET", "/r/1?order=newest")
    assert "exclude" in rels.refused(400, "GET", "/r/1?order=newest&reverse=true")


# ---- edits and transactions

def test_edits_are_all_or_nothing(rels):
    got = rels.ok("POST", "/r", json={"add": [{"from": 1, "members": [1, 2]}, {"from": "2", "members": ["3"]},
                                              {"from": 1, "members": [2, 4]}],
                                      "remove": [{"from": 1, "members": [4, 5]}]})
    assert got == {"result": "Success", "added": 4, "removed": 1}
    assert rels.members("r", 1) == [1, 2] and rels.members("r", 2) == [3]
    for bad in [{"add": [{"from": 1, "members": [9]}, {"from": 1, "members": [1.5]}]},
                {"add": [{"from": 1, "members": [9]}], "remove": [{"from": -1, "members": [1]}]},
                {"add": [{"from": 1, "members": [9]}], "remov": []}, {}, {"add": []}, {"add": 5}, [],
                {"add": [{"from": 1}]}, {"add": [{"members": [1]}]}, {"add": [[1, 2]]}]:
        assert rels.refused(400, "POST", "/r", json=bad)
    assert rels.members("r", 1) == [1, 2]


def test_in_a_txn_with_keys_and_logs(rels):
    def txn(*ops):
        return rels.web.post(rels.server.http + "/v1/txn", json={"ops": list(ops)})

    assert rels.web.put(rels.server.http + "/v1/logs/ks").status_code == 200
    relate = {"op": "relate", "relation": "r", "from": MAX, "members": [1, "2", 2]}
    unrelate = {"op": "unrelate", "relation": "r", "from": str(MAX), "members": [2, 3]}
    put = {"op": "put", "key": "k", "value": 1}
    append = {"op": "append", "keyspace": "ks", "key": "k", "records": [{"record": "x"}]}
    got = txn(relate, put, append, unrelate).json()
    assert got["result"] == "Success" and got["sequence"] > 0
    assert got["results"][0] == {"relation": "r", "from": MAX, "changed": 2}
    assert got["results"][1] == {"key": "k", "version": 1}
    assert got["results"][3] == {"relation": "r", "from": MAX, "changed": 1}
    assert rels.members("r", MAX) == [1]
    # A conflict, and a bad operation, change nothing.
    r = txn({"op": "relate", "relation": "r", "from": 1, "members": [1]}, {"op": "check", "key": "k", "version": 7})
    assert r.status_code == 409
    r = txn({"op": "relate", "relation": "r", "from": 1, "members": [1]},
            {"op": "relate", "relation": "r", "from": 1, "members": [1, 2, 3, 1.5]})
    assert r.status_code == 400 and r.json()["error"] == "operation 1: members[3]: 1.5" + NOT_ID
    assert rels.ok("GET", "/r/1/count")["count"] == 0
    rels.server.restart()
    assert rels.members("r", MAX) == [1]


def test_idempotency_key(rels):
    head = {"Idempotency-Key": "k"}
    body = {"members": [1, 2]}
    r = rels.call("POST", "/r/1", json=body, headers=head)
    assert r.json()["added"] == 2 and "Idempotent-Replayed" not in r.headers
    rels.remove("r", 1, [1])
    for _ in range(2):
        r = rels.call("POST", "/r/1", json=body, headers=head)
        assert r.json()["added"] == 2 and r.headers["Idempotent-Replayed"] == "true"
        assert rels.members("r", 1) == [2]
        rels.server.restart()
    for method, path in [("POST", "/r/2"), ("DELETE", "/r/1")]:
        assert rels.refused(422, method, path, json=body, headers=head)
    head = {"Idempotency-Key": "other"}
    body = {"add": [{"from": 7, "members": [1, 2]}, {"from": 8, "members": [1]}], "remove": [{"from": 7, "members": [1]}]}
    for _ in range(2):
        assert rels.ok("POST", "/r", json=body, headers=head) == {"result": "Success", "added": 3, "removed": 1}
    head = {"Idempotency-Key": "third"}
    for _ in range(2):
        assert rels.ok("DELETE", "/r/7?members=2", headers=head)["removed"] == 1
    assert rels.members("r", 7) == []


def test_relaxed(rels):
    rels.declare("relaxed", durability="relaxed")
    assert rels.add("relaxed", 1, range(100)) == 100
    assert rels.add("r", 1, range(100), "?durability=relaxed") == 100
    assert rels.ok("DELETE", "/r/1?members=5&durability=relaxed")["removed"] == 1
    got = rels.ok("POST", "/r?durability=relaxed", json={"add": [{"from": 2, "members": [1]}]})
    assert got["added"] == 1
    assert len(rels.members("relaxed", 1)) == 100 and len(rels.members("r", 1)) == 99
    time.sleep(1)  # it is durable after 100 ms
    rels.server.restart()
    assert len(rels.members("relaxed", 1)) == 100 and len(rels.members("r", 1)) == 99 and rels.members("r", 2) == [1]
    for bad in ["fsync", "", "no"]:
        assert "relaxed" in rels.refused(400, "POST", "/r/1?durability=" + bad, json={"members": [1]})


# ---- several lists

def test_sets_against_a_model(rels):
    model = {1: set(range(0, 3000, 2)), 2: set(range(0, 3000, 3)), 3: set(random.sample(range(3000), 700)),
             4: set(), 5: {7, MAX}, 6: set(range(1000, 1100))}
    groups = [{"from": s, "members": list(m)} for s, m in model.items()]
    assert rels.ok("POST", "/r", json={"add": groups})["added"] == sum(map(len, model.values()))
    for lists in [[1], [1, 2], [1, 2, 3], [4, 1], [1, 4], [5, 1, 2], [3, 6], [1, 1], [6, 1, 2, 3], [99, 1]]:
        sets = [model.get(s, set()) for s in lists]
        want = {"intersect": set.intersection(*sets), "union": set.union(*sets),
                "difference": sets[0].difference(*sets[1:])}
        for how, w in want.items():
            for limit in [1000000, 100]:
                assert rels.combine("r", how, lists, limit) == sorted(w), (how, lists, limit)
    rels.add("other", 1, [2, 4, 5])
    assert rels.combine("r", "intersect", [1, {"from": 1, "relation": "other"}]) == [2, 4]
    assert rels.combine("r", "difference", [{"from": "1", "relation": "other"}, "1"]) == [5]
    got = rels.ok("POST", "/r/get", json={"from": [6, 4, 99, 6], "limit": 2})
    assert got == {"relation": "r", "lists": [
        {"from": 6, "count": 100, "members": [1000, 1001]}, {"from": 4, "count": 0, "members": []},
        {"from": 99, "count": 0, "members": []}, {"from": 6, "count": 100, "members": [1000, 1001]}]}
    assert rels.ok("POST", "/r/get", json={"from": []})["lists"] == []
    assert dict(rels.froms("r", "limit=2")) == {s: len(m) for s, m in model.items() if m}


def test_froms_pages_are_in_one_order(rels):
    counts = {s: s % 5 + 1 for s in random.sample(range(10**9), 300)}
    rels.ok("POST", "/r", json={"add": [{"from": s, "members": list(range(n))} for s, n in counts.items()]})
    whole = rels.froms("r")
    assert dict(whole) == counts
    for limit in [1, 7, 299, 300, 1000000]:
        assert rels.froms("r", "limit=%d" % limit) == whole
    middle = whole[150][0]
    rels.remove("r", middle, range(counts[middle]))
    got = rels.ok("GET", "/r/froms?after=%d" % middle)["froms"]  # which is not there any more
    assert [(f["from"], f["count"]) for f in got] == whole[151:]
    rels.server.restart()
    assert rels.froms("r", "limit=100") == whole[:150] + whole[151:]


def test_a_million(start):
    rels = Relations(start("--limits-request", "32m"))
    ids = list(range(3, 3 + 7 * 10**6, 7))
    rels.add("r", 1, ids)
    got = rels.page("r", 1, "?limit=1000000")
    assert got["members"] == ids and got["count"] == 10**6 and not got["more"]
    rels.add("r", 1, [5])
    got = rels.page("r", 1, "?limit=1000000&order=falling")
    assert got["members"] == ids[:0:-1] + [5] and got["more"] and got["next"] == 5
    rels.add("r", 2, range(3, 3 + 14 * 10**6, 14))
    both = list(range(3, 3 + 7 * 10**6, 14))
    assert rels.combine("r", "intersect", [1, 2]) == both
    assert len(rels.combine("r", "union", [1, 2])) == 1000001 + 1000000 - len(both)
    text = rels.refused(413, "POST", "/r/1", json={"members": [1] * 1000001})
    assert "1000001" in text and "1000000" in text
    half = [1] * 500000
    groups = [{"from": 1, "members": half}, {"from": 2, "members": half}, {"from": 3, "members": [1]}]
    assert "add[2]" in rels.refused(413, "POST", "/r", json={"add": groups})
    assert "1000000" in rels.refused(413, "POST", "/r/get", json={"from": [1, 2], "limit": 1000000})
    rels.server.restart()
    assert rels.ok("GET", "/r/1/count")["count"] == 1000001


def test_from_the_disk(start):
    rels = Relations(start("--storage-memory-limit", "16m", "--storage-checkpoint-interval", "200ms",
                           "--storage-max-block-size", "1m"))
    rels.declare("r", reverse=True)
    lists = {s: sorted(random.sample(range(s, 10**12, 1 + s % 977), 2000)) for s in range(400)}
    for s, m in lists.items():
        rels.add("r", s, m)
    rels.server.stop()
    rels.server.start()
    for s in random.sample(sorted(lists), 60):
        assert rels.members("r", s) == lists[s]
        assert rels.ok("GET", "/r/%d/count" % s)["count"] == 2000
        member = random.choice(lists[s])
        assert s in rels.members("r", member, "reverse=true")
        assert rels.ok("GET", "/r/%d/contains?members=%d,%d" % (s, member, 10**13))["contains"] == [True, False]
        assert rels.add("r", s, [10**13]) == 1 and rels.remove("r", s, [10**13]) == 1
    some = random.sample(sorted(lists), 10)
    got = rels.ok("POST", "/r/get", json={"from": some, "limit": 5})["lists"]
    assert [g["members"] for g in got] == [lists[s][:5] for s in some]
    assert rels.combine("r", "union", some) == sorted(set().union(*(lists[s] for s in some)))
    assert dict(rels.froms("r", "limit=37")) == {s: 2000 for s in lists}


# ---- bad input

BAD_MEMBERS = [  # as JSON, and what the error says of it
    ("-1", "members[2]: -1" + NOT_ID), ("1.5", "members[2]: 1.5" + NOT_ID), ("1.0", "members[2]: 1.0" + NOT_ID),
    ("1e3", "members[2]: 1000.0" + NOT_ID), ("-9223372036854775808", "members[2]: -9223372036854775808" + NOT_ID),
    ("18446744073709551616", "18446744073709551616"), ("-9223372036854775809", "-9223372036854775809"),
    ("1e400", "1e400"), ("99999999999999999999999999", "99999999999999999999999999"),
    ('"18446744073709551616"', 'members[2]: "18446744073709551616"' + NOT_ID), ('""', 'members[2]: ""' + NOT_ID),
    ('"-1"', 'members[2]: "-1"' + NOT_ID), ('"1.0"', 'members[2]: "1.0"' + NOT_ID), ('" 1"', 'members[2]: " 1"' + NOT_ID),
    ('"0x10"', 'members[2]: "0x10"' + NOT_ID), ('"x"', 'members[2]: "x"' + NOT_ID), ("null", "members[2]: null" + NOT_ID),
    ("true", "members[2]: true" + NOT_ID), ("[1]", "members[2]: array" + NOT_ID), ("{}", "members[2]: object" + NOT_ID),
    ("NaN", "byte"), ("01", "byte"), ("+1", "byte"), (".5", "byte"), ("1_000", "byte"),
]


@pytest.mark.parametrize("text,why", BAD_MEMBERS)
def test_what_is_not_an_id_is_named(rels, text, why):
    body = '{"members":[1,"2",%s,4]}' % text
    for method in ("POST", "DELETE"):
        r = rels.call(method, "/r/1", data=body)
        assert r.status_code == 400 and r.json()["result"] == "Failure" and why in r.json()["error"], r.text
    r = rels.call("POST", "/r", data='{"add":[{"from":1,"members":[9]},{"from":1,"members":[1,"2",%s]}]}' % text)
    assert r.status_code == 400 and why in r.json()["error"], r.text
    if "members[2]" in why:
        assert r.json()["error"].startswith("add[1]: ")
        r = rels.call("POST", "/r/get", data='{"from":[1,2,%s]}' % text)
        assert r.status_code == 400 and r.json()["error"] == why.replace("members", "from"), r.text
        r = rels.call("POST", "/r/union", data='{"lists":[1,{"from":%s}]}' % text)
        assert r.status_code == 400 and r.json()["error"] == why.replace("members[2]", "lists[1]: from"), r.text
    assert rels.ok("GET", "/r/1/count")["count"] == 0 and rels.ok("GET", "")["relations"] == []


@pytest.mark.parametrize("text", ["-1", "1.5", "1e3", "18446744073709551616", "x", "%20", "0x1", "+1", "1,2", "9" * 100])
def test_a_from_that_is_not_an_id_is_named(rels, text):
    for method, rest, body in [("GET", "", None), ("GET", "/count", None), ("GET", "/contains?members=1", None),
                               ("POST", "", {"members": [1]}), ("DELETE", "", {"members": [1]}),
                               ("DELETE", "?members=1", None)]:
        got = rels.refused(400, method, "/r/" + text + rest, json=body)
        assert got.startswith('"%s' % text.replace("%20", " ")[:60]) and "in the path is not an id" in got


BAD_ARGUMENTS = [
    ("GET", "/r/1?after=-1", '"-1"'), ("GET", "/r/1?after=x", '"x"'), ("GET", "/r/1?after=", '""'),
    ("GET", "/r/1?limit=0", "limit"), ("GET", "/r/1?limit=1000001", "limit"), ("GET", "/r/1?limit=1.5", "limit"),
    ("GET", "/r/1?order=up", "order"), ("GET", "/r/1?reverse=1", "reverse"), ("GET", "/r/1?ids=float", "ids"),
    ("GET", "/r/1?limt=1", "limt"), ("GET", "/r/1?limit=1&limit=2", "limit"), ("GET", "/r/1/contains", "members"),
    ("GET", "/r/1/contains?members=1,,2", '"members"[1]: ""'), ("GET", "/r/1/contains?members=1,-2", '"members"[1]: "-2"'),
    ("GET", "/r/1/contains?members=1.5", '"1.5"'), ("DELETE", "/r/1?members=18446744073709551616", "18446744073709551616"),
    ("DELETE", "/r/1?members=", "members"), ("DELETE", "/r/1", "members"), ("GET", "/r/1/count?after=1", "after"),
    ("GET", "/r/froms?after=x", '"x"'), ("GET", "/r/froms?limit=0", "limit"), ("GET", "?limit=10001", "limit"),
    ("GET", "/r?x=1", "x"), ("PUT", "/r?x=1", "x"),
]


@pytest.mark.parametrize("method,path,why", BAD_ARGUMENTS)
def test_bad_arguments(rels, method, path, why):
    assert why in rels.refused(400, method, path)


BAD_BODIES = [
    ("POST", "/r/1", ""), ("POST", "/r/1", "{"), ("POST", "/r/1", "[1]"), ("POST", "/r/1", "{}"),
    ("POST", "/r/1", '{"members":1}'), ("POST", "/r/1", '{"member":[1]}'), ("POST", "/r/1", '{"members":[1],"members":[2]}'),
    ("POST", "/r/get", "{}"), ("POST", "/r/get", '{"from":1}'), ("POST", "/r/get", '{"from":[1],"limit":0}'),
    ("POST", "/r/get", '{"from":[1],"reverse":"true"}'), ("POST", "/r/union", "{}"), ("POST", "/r/union", '{"lists":[]}'),
    ("POST", "/r/union", '{"lists":[{"from":1,"x":1}]}'), ("POST", "/r/union", '{"lists":[1],"after":-1}'),
    ("POST", "/r/union", '{"lists":[1],"limit":1000001}'), ("POST", "/r/union", '{"lists":[{"from":1,"relation":"-"}]}'),
    ("PUT", "/r", '{"reverse":1}'), ("PUT", "/r", '{"order":"newest"}'), ("PUT", "/r", '{"durability":"none"}'),
    ("PUT", "/r", '{"x":1}'), ("PUT", "/r", "[]"),
]


@pytest.mark.parametrize("method,path,body", BAD_BODIES)
def test_bad_bodies(rels, method, path, body):
    assert rels.refused(400, method, path, data=body)
    assert rels.ok("GET", "") == {"relations": [], "more": False}


def test_too_many_lists(rels):
    assert "64" in rels.refused(413, "POST", "/r/union", json={"lists": [1] * 65})
    assert rels.ok("POST", "/r/union", json={"lists": [1] * 64}) == {"members": [], "more": False}
    assert "10000" in rels.refused(413, "POST", "/r/get", json={"from": [1] * 10001})
    assert len(rels.ok("POST", "/r/get", json={"from": [1] * 10000})["lists"]) == 10000


def test_methods_origin_and_head(rels):
    rels.add("r", 1, [1, 2, 3])
    for path, methods in [("", "GET, HEAD, OPTIONS"), ("/r", "GET, HEAD, POST, PUT, OPTIONS"),
                          ("/r/1", "GET, HEAD, POST, DELETE, OPTIONS"), ("/r/froms", "GET, HEAD, OPTIONS"),
                          ("/r/get", "POST, OPTIONS"), ("/r/1/count", "GET, HEAD, OPTIONS")]:
        r = rels.call("OPTIONS", path)
        assert r.status_code == 204 and r.headers["Allow"] == methods
        r = rels.call("PATCH", path)
        assert r.status_code == 405 and r.headers["Allow"] == methods
    for path in ["/r/1/x", "/r/1/count/x", "x"]:
        assert rels.call("GET", path).status_code == 404
    for method, path, body in [("POST", "/r/1", {"members": [9]}), ("DELETE", "/r/1", {"members": [1]}),
                               ("POST", "/r", {"add": [{"from": 1, "members": [9]}]}), ("PUT", "/s", {})]:
        assert rels.refused(403, method, path, json=body, headers={"Origin": "http://elsewhere"})
    assert rels.members("r", 1) == [1, 2, 3]
    whole = rels.call("GET", "/r/1")
    head = rels.call("HEAD", "/r/1")
    assert head.status_code == 200 and head.content == b""
    assert int(head.headers["Content-Length"]) == len(whole.content)
    r = rels.call("POST", "/r/1", json={"members": [9]}, headers={"X-Varve-Trace": "1"})
    assert int(r.headers["X-Varve-Sequence"]) > 0
    # A body with DELETE goes here only.
    r = rels.web.delete(rels.server.http + "/v1/key?key=a", data="{}")
    assert r.status_code == 400
    r = rels.call("DELETE", "/r/1", data=iter([b'{"mem', b'bers":[9]}']))  # chunked
    assert r.json() == {"result": "Success", "removed": 1}
    r = rels.call("DELETE", "/r/1?members=1", json={"members": [2]})
    assert r.status_code == 400 and rels.members("r", 1) == [1, 2, 3]


def test_what_was_acknowledged_survives_a_kill(rels):
    rels.declare("r", reverse=True, order="recent")
    model, arrived = {}, {}
    for step in range(60):
        s, members = random.randrange(5), random.sample(range(200), 20)
        mine = model.setdefault(s, set())
        order = arrived.setdefault(s, [])
        if step % 3 == 2:
            assert rels.remove("r", s, members) == len(mine & set(members))
            mine -= set(members)
            order[:] = [m for m in order if m in mine]
        else:
            assert rels.add("r", s, members) == len(set(members) - mine)
            order += [m for m in members if m not in mine]
            mine |= set(members)
        if step % 20 == 19:
            rels.server.restart()
            for s, mine in model.items():
                assert rels.members("r", s) == sorted(mine)
                assert rels.members("r", s, "order=newest&limit=7") == arrived[s][::-1]
            for m in range(200):
                assert rels.members("r", m, "reverse=true") == [s for s in sorted(model) if m in model[s]]
