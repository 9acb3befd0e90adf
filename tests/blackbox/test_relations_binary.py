"""Relations over the binary protocol, types 32 to 44, and kinds 5 and 6 of a TXN."""
import random
import struct

import pytest

from conftest import Binary, Refused

REVERSE, RECENT, RELAXED = 1, 2, 4  # options
RISING, FALLING, NEWEST, INTERSECT, UNION, DIFFERENCE = range(6)
TOP = 2 ** 64 - 1


def ids(*numbers):
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def unpack(body):
    return list(struct.unpack(f"<{len(body) // 8}Q", body))


def flags(n):
    return struct.pack("<I", n)


def page(order=RISING, reverse=False, after=None, limit=0):
    return struct.pack("<BBHIQQ", order, reverse | 4 * (after is not None), 0, limit, after or 0, 0)


class Relations:
    """The requests of relations on a connection; each call raises Refused unless the status is 0."""

    def __init__(self, binary):
        self.b = binary

    def create(self, name, options=0):
        return struct.unpack("<Q", self.b.ask(32, name, flags(options)))[0]

    def info(self, name):
        return struct.unpack("<QIQQ", self.b.ask(33, name))

    def names(self, after=b"", limit=10000):
        body = self.b.ask(34, after, struct.pack("<II", limit, 0))
        at, out = 4, []
        while at < len(body):
            n = struct.unpack_from("<I", body, at)[0]
            out.append(body[at + 4:at + 4 + n])
            at += 4 + n
        assert len(out) == struct.unpack_from("<I", body)[0]
        return out

    @staticmethod
    def change(kind, name, source, members, relaxed=False):
        return Binary.request(kind, name, ids(source), ids(*members), flags(2 * relaxed))

    def add(self, name, source, *members, relaxed=False):
        self.b.send(self.change(35, name, source, members, relaxed))
        return struct.unpack("<I", self.b.answer(self.b.reply()))[0]

    def remove(self, name, source, *members, relaxed=False):
        self.b.send(self.change(36, name, source, members, relaxed))
        return struct.unpack("<I", self.b.answer(self.b.reply()))[0]

    def edit(self, name, groups, relaxed=False, idempotency=b""):
        body = b"".join(struct.pack("<QII", f, len(m), remove) + ids(*m) for f, m, remove in groups)
        return struct.unpack("<QQ", self.b.ask(37, name, body, flags(2 * relaxed), idempotency))

    def get(self, name, source):
        return unpack(self.b.ask(38, name, ids(source)))

    def page(self, name, source, *args, **named):
        """Members, the whole list's count, where to go on (None: the end)."""
        body = self.b.ask(39, name, ids(source), page(*args, **named))
        total, after, more, zero = struct.unpack_from("<QQII", body)
        assert more in (0, 1) and zero == 0
        return unpack(body[24:]), total, after if more else None

    def pages(self, name, source, order=RISING, reverse=False, limit=0):
        out, after, more = [], None, True
        while more:
            members, total, after = self.page(name, source, order, reverse, after, limit)
            out += members
            more = after is not None
            assert len(members) == (limit or 1000) or not more
        assert total == len(out)
        return out

    def count(self, name, source, reverse=False):
        return struct.unpack("<Q", self.b.ask(40, name, ids(source), flags(reverse)))[0]

    def contains(self, name, source, *members, reverse=False):
        return list(self.b.ask(41, name, ids(source), ids(*members), flags(reverse)))

    def many(self, name, sources, limit=0, reverse=False):
        body = self.b.ask(42, name, ids(*sources), struct.pack("<II", limit, reverse))
        out, at = [], 0
        for _ in sources:
            total, n = struct.unpack_from("<QI", body, at)
            out.append((total, unpack(body[at + 12:at + 12 + 8 * n])))
            at += 12 + 8 * n
        assert at == len(body)
        return out

    def combine(self, how, lists, after=None, limit=0):
        body = self.b.ask(43, b"".join(struct.pack("<QBB", f, reverse, len(name)) + name
                                       for name, f, reverse in lists), page(how, False, after, limit))
        go_on, more, zero = struct.unpack_from("<QII", body)
        assert more in (0, 1) and zero == 0
        return unpack(body[16:]), go_on if more else None

    def combine_all(self, how, lists, limit=0):
        out, after, more = [], None, True
        while more:
            members, after = self.combine(how, lists, after, limit)
            out += members
            more = after is not None
        return out

    def froms(self, name, reverse=False, limit=0):
        """Every `from` with its count, and how many pages it took."""
        out, after, pages = [], None, 0
        while True:
            body = unpack(self.b.ask(44, name, page(RISING, reverse, after, limit)))
            pages += 1
            if not body:
                return out, pages
            out += zip(body[::2], body[1::2])
            after = body[-2]


@pytest.fixture
def rel(binary):
    return Relations(binary)


def test_relations(rel):
    with pytest.raises(Refused) as e:
        rel.info(b"follows")
    assert e.value.status == 1
    created = rel.create(b"follows", REVERSE | RECENT)
    with pytest.raises(Refused) as e:
        rel.create(b"follows", REVERSE | RECENT)
    assert e.value.status == 2
    rel.add(b"tags", 1, 5, 6)
    rel.create(b"a.b:c-D_9", RELAXED)
    assert rel.info(b"follows")[:2] == (created, REVERSE | RECENT)
    assert rel.info(b"tags")[1:] == (0, 1, 2)
    assert rel.info(b"a.b:c-D_9")[1] == RELAXED
    assert rel.names() == [b"a.b:c-D_9", b"follows", b"tags"]
    assert rel.names(b"a.b:c-D_9", 1) == [b"follows"]
    assert rel.names(b"tags") == []


def test_one_list(rel):
    assert rel.get(b"none", 1) == [] and rel.names() == []
    assert rel.add(b"f", 7, TOP, 3, 0, 3) == 3
    assert rel.add(b"f", 7, 3, 4) == 1
    assert rel.get(b"f", 7) == [0, 3, 4, TOP]
    assert rel.remove(b"f", 7, 3, 99) == 1
    assert (rel.count(b"f", 7), rel.count(b"f", 8)) == (3, 0)
    assert rel.contains(b"f", 7, TOP, 3, 4) == [1, 0, 1]
    assert rel.page(b"f", 7, limit=2) == ([0, 4], 3, 4)
    assert rel.page(b"f", 7, after=4) == ([TOP], 3, None)
    assert rel.page(b"f", 7, FALLING, after=TOP) == ([4, 0], 3, None)
    assert rel.add(b"f", TOP, 1) == 1 and rel.get(b"f", TOP) == [1]
    assert rel.remove(b"f", 7, 0, 4, TOP) == 3 and rel.get(b"f", 7) == []


def test_reverse_and_order_of_arrival(rel):
    rel.create(b"f", REVERSE | RECENT)
    assert rel.add(b"f", 1, 30, 10, 20) == 3
    assert rel.add(b"f", 2, 10, 40) == 2
    assert rel.add(b"f", 1, 10, 5) == 1  # 10 keeps its place
    assert rel.pages(b"f", 1, NEWEST, limit=2) == [5, 20, 10, 30]
    assert rel.pages(b"f", 10, reverse=True) == [1, 2] and rel.count(b"f", 10, True) == 2
    assert rel.contains(b"f", 10, 2, 3, reverse=True) == [1, 0]
    assert rel.many(b"f", [10, 40, 7], reverse=True) == [(2, [1, 2]), (1, [2]), (0, [])]
    assert rel.remove(b"f", 1, 10) == 1 and rel.pages(b"f", 10, reverse=True) == [2]
    assert rel.combine_all(UNION, [(b"f", 10, 1), (b"f", 5, 1)]) == [1, 2]
    assert sorted(rel.froms(b"f", True)[0]) == [(5, 1), (10, 1), (20, 1), (30, 1), (40, 1)]
    with pytest.raises(Refused):
        rel.page(b"f", 10, NEWEST, True)


def test_edits_and_transactions(rel, binary):
    groups = [(1, [10, 11], 0), (2, [10], 0), (1, [11, 12], 1), (3, [], 0)]
    assert rel.edit(b"f", groups, idempotency=b"once") == (3, 1)
    assert rel.edit(b"f", groups, idempotency=b"once") == (3, 1)
    with pytest.raises(Refused):
        rel.edit(b"f", groups[:1], idempotency=b"once")
    assert (rel.get(b"f", 1), rel.get(b"f", 2)) == ([10], [10])
    assert rel.edit(b"f", [(1, [5], 0)], relaxed=True) == (1, 0)

    def op(kind, key, value, version=None):
        return struct.pack("<BBBBIIQQ", kind, 0, version is not None, 0, len(key), len(value), version or 0,
                           0) + key + value

    ops = op(0, b"k", b"", 0) + op(1, b"k", b"v") + op(5, ids(9) + b"f", ids(1, 2, 2)) + op(6, ids(1) + b"f", ids(5, 6))
    reply = binary.ask(17, ops, b"")
    assert struct.unpack_from("<I", reply, 8)[0] == 4
    assert unpack(reply[12:])[4:] == [0, 2, 0, 1]
    assert (rel.get(b"f", 9), rel.get(b"f", 1)) == ([1, 2], [10])
    # Nothing of it where a check fails.
    assert binary.call(17, ops, b"")[0] == 2
    assert rel.remove(b"f", 9, 1, 2) == 2


def test_against_sets(rel, server):
    """Random changes, every reading compared with Python's sets, also after a kill."""
    seed = random.randrange(2 ** 32)
    print("seed", seed)
    r = random.Random(seed)
    rel.create(b"f", REVERSE)
    have = {}
    kinds = [lambda: r.randrange(20), lambda: r.randrange(5000), lambda: r.getrandbits(64)]
    for step in range(400):
        f, pick = r.randrange(6), r.choice(kinds)
        members = [pick() for _ in range(r.choice([1, 2, 10, 300]))]
        now = have.setdefault(f, set())
        if r.random() < 0.6:
            assert rel.add(b"f", f, *members, relaxed=r.random() < 0.2) == len(set(members) - now)
            now |= set(members)
        else:
            members += r.sample(sorted(now), min(len(now), 50))
            assert rel.remove(b"f", f, *members) == len(set(members) & now)
            now -= set(members)
        if step == 300:
            rel.add(b"f", 99, 1)  # durable, and so all that came before
            rel.b.close()
            server.restart()
            rel.b = Binary(server.port("binary"))
        if step % 10:
            continue
        f = r.randrange(6)
        now = sorted(have.get(f, ()))
        assert rel.get(b"f", f) == now
        assert rel.pages(b"f", f, FALLING, limit=r.choice([0, 7, 100])) == now[::-1]
        probe = [r.choice(kinds)() for _ in range(10)] + now[:10]
        assert rel.contains(b"f", f, *probe) == [int(m in have.get(f, ())) for m in probe]
        lists = r.sample(range(6), r.randrange(1, 6))
        sets = [have.get(i, set()) for i in lists]
        asked = [(b"f", i, 0) for i in lists]
        assert rel.combine_all(INTERSECT, asked, r.choice([0, 5])) == sorted(set.intersection(*sets))
        assert rel.combine_all(UNION, asked) == sorted(set.union(*sets))
        assert rel.combine_all(DIFFERENCE, asked) == sorted(sets[0].difference(*sets[1:]))
        assert rel.many(b"f", lists, 3) == [(len(s), sorted(s)[:3]) for s in sets]
        m = r.randrange(20)
        assert rel.pages(b"f", m, reverse=True) == sorted(i for i in have if m in have[i] and i != 99) + (
            [99] if m == 1 and step > 300 else [])
    rel.b.close()


def test_a_pipeline_of_additions(server, binary):
    """More of them than a batch holds, several relations and errors among them; all durable."""
    rel = Relations(binary)
    n = 20000
    out = []
    for i in range(n):
        if i % 1000 == 500:
            out.append(Binary.request(35, b"f", ids(1), b"odd", flags(0)))
        elif i % 1000 == 700:
            out.append(Relations.change(35, b"g", i, [i]))
        else:
            out.append(Relations.change(35, b"f", i % 5000, [i, 7]))
    binary.send(b"".join(out))
    got = [binary.reply() for _ in range(n)]
    added = [None if r[0] == 3 else struct.unpack("<I", r[1:])[0] for r in got]
    first = set()  # froms that were seen: their 7 is new
    for i, a in enumerate(added):
        if i % 1000 == 500:
            assert a is None
        elif i % 1000 == 700:
            assert a == 1
        else:
            new = i % 5000 not in first
            first.add(i % 5000)
            assert a == (1 if i == 7 else 1 + new), i
    out = [Relations.change(36, b"f", i, [7]) for i in range(300)]
    binary.send(b"".join(out))
    assert [binary.reply() for _ in range(300)] == [b"\0\1\0\0\0"] * 300
    binary.close()
    server.restart()
    rel.b = Binary(server.port("binary"))
    assert rel.get(b"f", 1) == [1, 5001, 10001, 15001]
    assert rel.get(b"f", 400) == [7, 400, 5400, 10400, 15400]
    assert rel.get(b"g", 1700) == [1700]
    rel.b.close()


def test_a_pipeline_of_readings(binary):
    rel = Relations(binary)
    n = 3000
    lists = [list(range(i, i + i % 120)) for i in range(n)]
    assert rel.edit(b"f", [(i, m, 0) for i, m in enumerate(lists)]) == (sum(map(len, lists)), 0)
    order = random.sample(range(n), n)
    binary.send(b"".join(Binary.request(38, b"f", ids(i)) for i in order))
    for i in order:
        assert unpack(binary.answer(binary.reply())) == lists[i]


def test_pages_of_froms(rel):
    n = 70000
    for i in range(0, n, 10000):
        rel.edit(b"f", [(j, [j, j + 1][:1 + j % 2], 0) for j in range(i, i + 10000)], relaxed=True)
    got, pages = rel.froms(b"f", limit=1000000)
    assert dict(got) == {j: 1 + j % 2 for j in range(n)} and len(got) == n
    assert pages == 3  # a page ends at 65536 of them, the last one is empty
    assert rel.froms(b"f", limit=30000)[0] == got
    assert rel.froms(b"none") == ([], 1)


def test_a_long_list(rel):
    for i in range(0, 1000001, 250000):
        members = range(i * 3, min(i + 250000, 1000001) * 3, 3)
        assert rel.add(b"f", 1, *members) == len(members)
    with pytest.raises(Refused) as e:
        rel.get(b"f", 1)
    assert e.value.status == 3 and "pages" in e.value.text and "1000001" in e.value.text
    members, total, after = rel.page(b"f", 1, limit=1000000)
    assert members == list(range(0, 3000000, 3)) and total == 1000001 and after == 2999997
    assert rel.page(b"f", 1, after=after) == ([3000000], 1000001, None)
    rel.add(b"f", 2, 5)
    got = rel.many(b"f", [2, 1, 2], 1000000)
    assert got[0] == (1, [5]) and got[1][0] == 1000001 and len(got[1][1]) == 999999 and got[2] == (1, [])
    assert rel.remove(b"f", 1, 3000000) == 1 and len(rel.get(b"f", 1)) == 1000000


@pytest.mark.parametrize("kind, args, text", [
    (32, (b"", flags(0)), "name"), (32, (b".x", flags(0)), "name"), (32, (b"x" * 129, flags(0)), "name"),
    (32, (b"n", flags(8)), "options 8"), (32, (b"n", b""), "4 bytes"), (33, (b"a b",), "name"),
    (34, (b"", ids(0)), "limit is 0"), (35, (b"f/", ids(1), ids(1), flags(0)), "name"),
    (35, (b"f", b"1", ids(1), flags(0)), "8 bytes"), (35, (b"f", ids(1), b"1", flags(0)), "8 bytes each"),
    (35, (b"f", ids(1), ids(1), flags(1)), "flags 1"), (36, (b"f", ids(1), ids(1), b""), "4 bytes"),
    (37, (b"f", b"", flags(0), b""), "no groups"), (37, (b"f", ids(1, 1), flags(0), b""), "cut short"),
    (37, (b"f", ids(1, 2 << 32), flags(0), b""), "neither"), (38, (b"f", b""), "8 bytes"),
    (39, (b"f", ids(1), page(3)), "order 3"), (39, (b"f", ids(1), page(limit=1000001)), "1000000"),
    (39, (b"f", ids(1), page(NEWEST)), "arrival"), (39, (b"f", ids(1), page(reverse=True)), "reverse"),
    (40, (b"f", ids(1), flags(2)), "flags 2"), (41, (b"f", ids(1), b"x", flags(0)), "8 bytes each"),
    (42, (b"f", ids(*range(10001)), ids(0)), "10000"), (43, (b"", page(UNION)), "no lists"),
    (43, ((ids(1) + b"\0\1f") * 65, page(UNION)), "64"), (43, (ids(1) + b"\0\2f", page(UNION)), "cut short"),
    (43, (ids(1) + b"\0\1f", page(RISING)), "order 0"), (44, (b"f", page(FALLING)), "order 1"),
    (44, (b"f", page(reverse=True)), "reverse")])
def test_invalid(rel, kind, args, text):
    rel.add(b"f", 1, 1)
    reply = rel.b.call(kind, *args)
    assert reply[0] == 3 and text in reply[1:].decode(), reply
    assert rel.get(b"f", 1) == [1]


@pytest.mark.parametrize("bad", [
    struct.pack("<HI", 32, 256), struct.pack("<HIBI", 38, 1, 102, 9), struct.pack("<HI", 43, 2 ** 32 - 1),
    struct.pack("<HIBI", 39, 1, 102, 8) + ids(1) + struct.pack("<I", 25), struct.pack("<H", 45)])
def test_over_a_limit_is_the_last(binary, bad):
    binary.send(bad)
    assert len(binary.reply()) > 5
    with pytest.raises((EOFError, ConnectionError)):
        binary.exactly(1)
