"""Properties of relations against a real server that checkpoints all the time and holds little in memory, so that
lists are evicted and read back while they change: random changes over HTTP and binary, in transactions with keys or
alone, give what Python's sets give; every way of reading agrees, reverse lists with forward ones, order of arrival
with that of the answers; kill -9 changes nothing that was acknowledged. And a list of ten million ids.

A failure prints the steps that lead to it; VARVE_TEST_NIGHTLY=1 runs many more, other ones each time."""
import array
import os
import pathlib
import random
import struct
import tempfile
import threading
import time
import urllib.request

import pytest
import requests
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from conftest import Binary, Refused, Server
from test_relations_binary import (DIFFERENCE, FALLING, INTERSECT, NEWEST, RECENT, RELAXED, REVERSE, RISING, TOP, UNION,
                                   Relations, ids)

NIGHTLY = bool(os.environ.get("VARVE_TEST_NIGHTLY"))
SETTINGS = settings(deadline=None, derandomize=not NIGHTLY, print_blob=True, database=None,
                    suppress_health_check=list(HealthCheck),
                    phases=(Phase.generate, Phase.shrink) if NIGHTLY else (Phase.generate,))
OPTIONS = {b"auto": None, b"rev": REVERSE, b"feed": RECENT, b"both": REVERSE | RECENT, b"lax": REVERSE | RELAXED}
FROMS = [0, 1, 2**31, 2**64 - 1]
SEEDS = st.integers(0, 2**32)
ORDERS = {RISING: "id", FALLING: "falling", NEWEST: "newest"}
COMBINED = {INTERSECT: "intersect", UNION: "union", DIFFERENCE: "difference"}
LONG = 10_000_000


def metric(server, name):
    with urllib.request.urlopen(server.http + "/metrics", timeout=20) as page:
        return next(int(line.split()[1]) for line in page.read().decode().splitlines() if line.startswith(name + " "))


def some_ids(rng, n):
    """Dense ones, ones in a row with holes, and any at all; some twice."""
    kind = rng.randrange(4)
    if kind == 0:
        at = rng.choice([0, 5000, 2**40, 2**64 - n])
        return list(range(at, at + n))
    if kind == 1:
        return [rng.randrange(200) for _ in range(n)]
    if kind == 2:
        return [rng.randrange(20000) * 1000003 for _ in range(n)]
    return [rng.choice([rng.getrandbits(64), 0, TOP]) for _ in range(n)]


class Clients:
    """One server, and a kept connection of each protocol."""

    def __init__(self, home):
        self.server = Server(home / "data", "--storage-memory-limit", "16m", "--storage-checkpoint-interval", "200ms",
                             "--storage-max-block-size", "64k", "--storage-max-blocks", "16")
        self.count = self.loads = self.evictions = 0
        self.connect()
        self.ending = False
        self.pressure = threading.Thread(target=self.press, daemon=True)
        self.pressure.start()

    def press(self):
        """Reads lists of its own over and over, so that the others' are evicted all the time."""
        made = 0
        while not self.ending:
            try:
                rel = Relations(Binary(self.port))
                rng = random.Random(made)
                while made < 120:
                    rel.b.ask(35, b"pressure", ids(made), os.urandom(160000), struct.pack("<I", 0))
                    made += 1
                while not self.ending:
                    rel.page(b"pressure", rng.randrange(made), limit=10)
                    time.sleep(0.003)
            except (OSError, EOFError, Refused):
                time.sleep(0.02)  # the server is away

    def connect(self):
        self.port, self.url = self.server.port("binary"), self.server.http + "/v1/"
        self.binary = Binary(self.port)
        self.rel = Relations(self.binary)
        self.web = requests.Session()

    def restart(self, kill):
        self.loads += metric(self.server, "varve_relation_loads_total")
        self.evictions += metric(self.server, "varve_relation_evictions_total")
        self.binary.close()
        self.web.close()
        if kill:
            self.server.kill()
        else:
            assert self.server.stop() == 0
        self.server.start()
        self.connect()

    def ask(self, method, path, **kw):
        r = self.web.request(method, self.url + path, **kw)
        assert r.status_code == 200, r.text
        return r.json()


def make_machine(clients):
    class Lists(RuleBasedStateMachine):
        """self.lists: (relation, from) -> {member: nothing}, in the order of arrival."""

        @initialize()
        def begin(self):
            clients.count += 1
            self.prefix = b"r%d." % clients.count
            self.lists = {}
            self.keys = {}
            for name, options in OPTIONS.items():
                if options is not None:
                    clients.rel.create(self.prefix + name, options)

        def of(self, name, source):
            return self.lists.setdefault((name, source), {})

        def change(self, name, source, adds, members):
            """Of the model: how many changed."""
            now = self.of(name, source)
            before = len(now)
            for m in members:
                if adds:
                    now.setdefault(m)
                else:
                    now.pop(m, None)
            return abs(len(now) - before)

        def choose(self, rng):
            name, source, adds = rng.choice(list(OPTIONS)), rng.choice(FROMS), rng.random() < 0.6
            members = some_ids(rng, rng.choice([1, 1, 3, 40, 700]))
            now = self.of(name, source)
            if not adds and rng.random() < 0.7:
                members += rng.sample(list(now), rng.randrange(len(now) + 1))
            return name, source, adds, members

        @rule(seed=SEEDS, way=st.sampled_from(["http", "binary"]))
        def change_one(self, seed, way):
            name, source, adds, members = self.choose(random.Random(seed))
            want, full = self.change(name, source, adds, members), self.prefix + name
            if way == "binary":
                assert (clients.rel.add if adds else clients.rel.remove)(full, source, *members) == want
                return
            got = clients.ask("POST" if adds else "DELETE", f"relations/{full.decode()}/{source}", json={"members": members})
            assert got["added" if adds else "removed"] == want

        @rule(seed=SEEDS, way=st.sampled_from(["http", "binary"]))
        def change_many(self, seed, way):
            rng = random.Random(seed)
            name, *first = self.choose(rng)
            groups = [first] + [self.choose(rng)[1:] for _ in range(rng.randrange(5))]
            groups.sort(key=lambda g: not g[1])  # what is added comes first
            key = b"%s%d" % (self.prefix, seed)
            want = {True: 0, False: 0}
            for source, adds, members in groups:
                want[adds] += self.change(name, source, adds, members)
            for _ in range(rng.choice([1, 1, 2])):  # again: the first result
                if way == "binary":
                    got = clients.rel.edit(self.prefix + name, [(s, m, not adds) for s, adds, m in groups], idempotency=key)
                else:
                    body = {what: [{"from": s, "members": m} for s, adds, m in groups if adds == flag]
                            for what, flag in (("add", True), ("remove", False))}
                    body = {what: lists for what, lists in body.items() if lists}
                    got = clients.ask("POST", "relations/" + (self.prefix + name).decode(), json=body,
                                      headers={"Idempotency-Key": key.decode()})
                    got = got["added"], got["removed"]
                assert got == (want[True], want[False])

        @rule(seed=SEEDS)
        def change_with_a_key(self, seed):
            """Moves members from list to list; a key says when. One that conflicts moves nothing."""
            rng = random.Random(seed)
            key = (self.prefix + b"key").decode()
            name, source = rng.choice([k for k, v in self.lists.items() if v] or [(b"auto", 0)])
            other, to = rng.choice(list(OPTIONS)), rng.choice(FROMS)
            members = rng.sample(list(self.of(name, source)), min(len(self.of(name, source)), rng.choice([1, 5, 100])))
            version = self.keys.get(key, 0)
            ops = [{"op": "put", "key": key, "value": seed, "version": version},
                   {"op": "unrelate", "relation": (self.prefix + name).decode(), "from": source, "members": members},
                   {"op": "relate", "relation": (self.prefix + other).decode(), "from": to, "members": members}]
            if rng.random() < 0.2:
                ops[0]["version"] = version + 7
                assert clients.web.post(clients.url + "txn", json={"ops": ops}).status_code == 409
                return
            got = clients.ask("POST", "txn", json={"ops": ops})["results"]
            self.keys[key] = got[0]["version"]
            assert got[1]["changed"] == self.change(name, source, False, members) == len(members)
            assert got[2]["changed"] == self.change(other, to, True, members)

        def wanted(self, name, source, order):
            now = list(self.of(name, source))
            return now[::-1] if order == NEWEST else sorted(now, reverse=order == FALLING)

        @rule(seed=SEEDS, way=st.sampled_from(["http", "binary"]))
        def read(self, seed, way):
            rng = random.Random(seed)
            name, source = rng.choice(list(OPTIONS)), rng.choice(FROMS)
            order = rng.choice([RISING, FALLING, NEWEST] if (OPTIONS[name] or 0) & RECENT else [RISING, FALLING])
            want, limit = self.wanted(name, source, order), rng.choice([7, 300, 100000])
            if limit == 7 and len(want) > 100:
                limit = 61
            if way == "binary":
                assert clients.rel.pages(self.prefix + name, source, order, limit=limit) == want
                return
            got, after = [], {}
            while True:
                p = clients.ask("GET", f"relations/{(self.prefix + name).decode()}/{source}",
                                params={"order": ORDERS[order], "limit": limit, **after})
                got += p["members"]
                assert p["count"] == len(want)
                if not p["more"]:
                    break
                after = {"after": p["next"]}
            assert got == want

        @rule(seed=SEEDS)
        def read_tests_and_counts(self, seed):
            rng = random.Random(seed)
            name = rng.choice(list(OPTIONS))
            full, lists = self.prefix + name, [self.of(name, f) for f in FROMS]
            for source, now in zip(FROMS, lists):
                probe = some_ids(rng, 20) + rng.sample(list(now), min(20, len(now)))
                assert clients.rel.contains(full, source, *probe) == [int(m in now) for m in probe]
                assert clients.rel.count(full, source) == len(now)
            limit = rng.choice([1, 100])
            assert clients.rel.many(full, FROMS, limit) == [(len(now), sorted(now)[:limit]) for now in lists]
            assert dict(clients.rel.froms(full, limit=rng.choice([1, 100]))[0]) == {
                f: len(now) for f, now in zip(FROMS, lists) if now}

        @rule(seed=SEEDS, way=st.sampled_from(["http", "binary"]), how=st.sampled_from([INTERSECT, UNION, DIFFERENCE]))
        def combine(self, seed, way, how):
            rng = random.Random(seed)
            lists = [(rng.choice(list(OPTIONS)), rng.choice(FROMS)) for _ in range(rng.randrange(1, 5))]
            sets = [set(self.of(*l)) for l in lists]
            want = {INTERSECT: set.intersection, UNION: set.union, DIFFERENCE: set.difference}[how](*sets)
            limit = rng.choice([50, 1000000])
            if way == "binary":
                got = clients.rel.combine_all(how, [(self.prefix + n, f, 0) for n, f in lists], limit)
            else:
                body = {"lists": [{"relation": (self.prefix + n).decode(), "from": f} for n, f in lists], "limit": limit}
                got, more = [], True
                while more:
                    p = clients.ask("POST", f"relations/{(self.prefix + lists[0][0]).decode()}/{COMBINED[how]}", json=body)
                    got += p["members"]
                    more = p["more"]
                    body["after"] = p.get("next")
            assert got == sorted(want)

        def agree(self, name, rng, most):
            """The reverse side of a relation with what the forward lists say."""
            full, back = self.prefix + name, {}
            for source in FROMS:
                for member in self.of(name, source):
                    back.setdefault(member, []).append(source)
            assert dict(clients.rel.froms(full, True, 1000)[0]) == {m: len(f) for m, f in back.items()}
            for member in rng.sample(sorted(back), min(most, len(back))) + some_ids(rng, 3):
                assert clients.rel.pages(full, member, reverse=True) == sorted(back.get(member, []))

        @rule(seed=SEEDS, name=st.sampled_from([b"rev", b"both", b"lax"]))
        def read_reverse(self, seed, name):
            self.agree(name, random.Random(seed), 10)

        @rule(kill=st.booleans(), often=st.integers(0, 3))
        def restart(self, kill, often):
            if often:  # one in four of these
                return
            clients.rel.add(self.prefix + b"auto", FROMS[0], 1)  # waits for the disk, and so for all before
            self.change(b"auto", FROMS[0], True, [1])
            clients.restart(kill)

        def teardown(self):
            rng = random.Random(1)
            for name in OPTIONS:
                for source in FROMS:
                    order = NEWEST if (OPTIONS[name] or 0) & RECENT else RISING
                    assert clients.rel.pages(self.prefix + name, source, order, limit=1000) == self.wanted(name, source, order)
                if (OPTIONS[name] or 0) & REVERSE:
                    self.agree(name, rng, 5)

    return Lists


@pytest.fixture(scope="module")
def clients():
    with tempfile.TemporaryDirectory(prefix="varve-relations-") as home:
        c = Clients(pathlib.Path(home))
        yield c
        c.ending = True
        c.pressure.join()
        c.restart(True)
        assert c.loads > 100 and c.evictions > 100, "the lists were never cold"
        c.binary.close()
        assert c.server.stop() == 0


def test_a_model_of_relations(clients):
    run_state_machine_as_test(make_machine(clients), settings=settings(
        SETTINGS, max_examples=150 if NIGHTLY else 30, stateful_step_count=60 if NIGHTLY else 30))


def packed(members):
    return array.array("Q", members).tobytes()


def add_packed(rel, name, source, members):
    rel.b.send(Binary.request(35, name, ids(source), members, struct.pack("<I", 0)))
    return struct.unpack("<I", rel.b.answer(rel.b.reply()))[0]


def page_packed(rel, name, source, order, after, limit):
    """The members as they came, and where to go on."""
    request = struct.pack("<BBHIQQ", order, 4 * (after is not None), 0, limit, after or 0, 0)
    body = rel.b.ask(39, name, ids(source), request)
    total, go_on, more = struct.unpack_from("<QQI", body)
    assert total == LONG
    return body[24:], go_on if more else None


def expect_long(rel, whole, order):
    at, after, n = 0, None, 1_000_000
    while at == 0 or after is not None:
        got, after = page_packed(rel, b"long", 7, order, after, n)
        part = whole[at * 8:(at + n) * 8] if order == RISING else whole[len(whole) - (at + n) * 8:len(whole) - at * 8]
        if order == FALLING:
            part = array.array("Q", part)[::-1].tobytes()
        assert got == part, f"members {at} to {at + n}"
        at += n
    assert at == LONG


def test_ten_million_ids(start):
    """Half of them far apart, half dense; built by large requests in no order, read in every way, cold too."""
    server = start("--storage-memory-limit", "64m", "--storage-checkpoint-interval", "500ms")
    rel = Relations(Binary(server.port("binary")))
    half, part = LONG // 2, 500_000
    # Steps of 2^33, then a row.
    whole = packed(range(5, 5 + half)) + packed(range(1 << 40, (1 << 40) + (half << 33), 1 << 33))
    parts = list(range(0, LONG, part))
    random.Random(4).shuffle(parts)
    for at in parts:
        assert add_packed(rel, b"long", 7, whole[at * 8:(at + part) * 8]) == part
    assert add_packed(rel, b"long", 7, whole[8 * (half - 50):8 * (half + 50)]) == 0
    rng = random.Random(5)
    some = [rng.randrange(5, 5 + half) for _ in range(2000)] + [(1 << 40) + (rng.randrange(half) << 33) for _ in range(2000)]
    other = sorted({*some, *(m + 1 for m in some)} | {0, TOP})
    assert rel.add(b"other", 1, *other) == len(other)
    there = [m for m in other if 5 <= m < 5 + half or (m >= 1 << 40 and m % (1 << 33) == 0 and m != 0)]
    known = set(there)
    for restart in (None, server.restart):
        if restart:
            rel.b.close()
            restart()
            rel = Relations(Binary(server.port("binary")))
        assert rel.count(b"long", 7) == LONG
        assert rel.contains(b"long", 7, *other) == [int(m in known) for m in other]
        assert rel.combine_all(INTERSECT, [(b"long", 7, 0), (b"other", 1, 0)], 1000) == there
        assert rel.combine_all(DIFFERENCE, [(b"other", 1, 0), (b"long", 7, 0)], 1000) == sorted(set(other) - set(there))
        expect_long(rel, whole, FALLING if restart is None else RISING)
    gone = some[::9]
    assert rel.remove(b"long", 7, *gone) == len(set(gone))
    assert rel.count(b"long", 7) == LONG - len(set(gone))
    assert not any(rel.contains(b"long", 7, *gone))
    rel.b.close()
