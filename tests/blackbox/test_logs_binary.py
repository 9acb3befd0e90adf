"""Logs over the binary protocol, types 21 to 31, and appends in a TXN."""
import struct
import threading
import time

import pytest

from conftest import Binary, Refused

KS, KEY = b"ks", b"key"


@pytest.fixture
def log(binary):
    binary.log_create(KS)
    return binary


def data(records):
    return [r[3] for r in records]


def offsets(records):
    return [r[0] for r in records]


def keyspaces(b):
    """Without the one of the server's own event streams."""
    return [k for k in b.log_list() if k != b"events"]


def test_keyspaces(binary):
    assert binary.log_keyspace(b"new") is None
    before = int(time.time() * 1000)
    created = binary.log_create(b"new", max_age_ms=5 * 10 ** 9, max_records=7)
    assert before - 1000 <= created <= time.time() * 1000 + 1000
    with pytest.raises(Refused) as e:
        binary.log_create(b"new")
    assert (e.value.status, e.value.text) == (2, "")
    want = {"created": created, "max_age_ms": 5 * 10 ** 9, "max_bytes": 0, "max_records": 7, "server_time": 0}
    assert binary.log_keyspace(b"new") == want
    binary.log_policy(b"new", max_bytes=2 ** 40)
    assert binary.log_keyspace(b"new") == dict(want, max_age_ms=0, max_bytes=2 ** 40, max_records=0)
    assert binary.call(21, b"short form", b"")[0] == 0
    for kind, args in [(22, (b"none", b"")), (24, (b"none", KEY)), (25, (b"none", KEY, Binary.log_records([b"x"]))),
                       (26, (b"none", KEY, Binary.log_start(), b"", b"")), (27, (b"none", KEY, Binary.log_start(), b"")),
                       (28, (b"none", KEY, struct.pack("<BQ", 1, 1))), (29, (b"none", KEY, struct.pack("<Q", 1))),
                       (30, (b"none", KEY)), (31, (b"none", b"", struct.pack("<II", 1, 0)))]:
        r = binary.call(kind, *args)
        assert r[0] == 3 and len(r) > 10, (kind, r)


def test_append_read_meta(log):
    assert log.log_meta(KS, KEY) is None
    assert log.log_read(KS, KEY)["records"] == []
    got = log.log_append(KS, KEY, [(b"one", 5, 100), (b"", 6, 90), (b"three", None, 2 ** 63 - 1)])
    assert got == {"first": 1, "next": 4, "appended": 3, "nonce": 7, "timestamp": 2 ** 63 - 1}
    got = log.log_append(KS, KEY, [(b"again", 6, 1), (b"four", 2 ** 128 - 2, -5)])
    assert got == {"first": 4, "next": 5, "appended": 1, "nonce": 2 ** 128 - 1, "timestamp": -5}
    got = log.log_append(KS, KEY, [(b"dup", 7, 1)])
    assert (got["first"], got["next"], got["appended"]) == (5, 5, 0)
    records = [(1, 100, 5, b"one"), (2, 90, 6, b""), (3, 2 ** 63 - 1, None, b"three"), (4, -5, 2 ** 128 - 2, b"four")]
    page = log.log_read(KS, KEY)
    assert page == {"first": 1, "next": 5, "go_on": 5, "records": records, "truncated": False, "more": False,
                    "end": False, "continuation": b""}
    assert log.log_read(KS, KEY, backwards=True)["records"] == records[::-1]
    assert log.log_meta(KS, KEY) == {"first": 1, "next": 5, "nonce": 2 ** 128 - 1, "timestamp": 2 ** 63 - 1,
                                     "records": 4, "bytes": 4 * 40 + 12}
    now = time.time() * 1000
    assert abs(log.log_append(KS, b"clock", [b"x"])["timestamp"] - now) < 60000
    log.log_flush(KS, KEY)
    log.log_flush()


def test_starts_and_filters(log):
    log.log_append(KS, KEY, [(b"r%d" % i, 10 * i, 1000 * i) for i in range(1, 100)])
    for backwards in (False, True):
        def first(start, value):
            got = log.log_read(KS, KEY, start, value, backwards=backwards, size=1)["records"]
            return got[0][0] if got else None
        assert first("offset", 50) == 50
        assert first("timestamp", 50500) == (50 if backwards else 51)
        assert first("nonce", 505) == (50 if backwards else 51)
        assert first("timestamp", -1) == (None if backwards else 1)
        assert first("timestamp", 10 ** 9) == (99 if backwards else None)
        assert first("first", 0) == (99 if backwards else 1)
    assert data(log.log_all(KS, KEY, prefix=b"r9", size=3)) == [b"r9"] + [b"r%d" % i for i in range(90, 100)]
    assert data(log.log_all(KS, KEY, contains=b"5", backwards=True, size=2))[:3] == [b"r95", b"r85", b"r75"]
    assert list(log.log_all(KS, KEY, contains=b"nowhere")) == []


@pytest.mark.parametrize("size", [1, 7, 100, 999, 0, 1000000])
def test_pages_both_ways_once_each(log, size):
    want = [b"%d" % i * (1 + i % 50) for i in range(1000)]
    log.send(b"".join(Binary.log_append_request(KS, KEY, want[i:i + 10]) for i in range(0, 1000, 10)))
    assert [Binary.log_appended(log.reply())["first"] for _ in range(100)] == list(range(1, 1001, 10))
    assert data(log.log_all(KS, KEY, size=size)) == want
    assert data(log.log_all(KS, KEY, size=size, backwards=True)) == want[::-1]


def test_a_page_ends_at_four_mib(log):
    for i in range(6):
        log.log_append(KS, KEY, [b"%d" % i * 1000000])
    page = log.log_read(KS, KEY)
    assert offsets(page["records"]) == [1, 2, 3, 4] and page["more"]
    assert offsets(log.log_all(KS, KEY)) == [1, 2, 3, 4, 5, 6]


def test_trim_erase_list(log):
    assert log.log_trim(KS, KEY, offset=5) is None
    assert log.log_erase(KS, KEY, 5) is False
    log.log_append(KS, KEY, [(b"%d" % i, None, i) for i in range(1, 21)])
    assert log.log_erase(KS, KEY, 7) is True
    assert log.log_erase(KS, KEY, 7) is False
    assert log.log_erase(KS, KEY, 21) is False
    assert log.log_trim(KS, KEY, offset=5) == 5
    assert log.log_trim(KS, KEY, offset=2) == 5
    page = log.log_read(KS, KEY, "offset", 1)
    assert page["truncated"] and page["first"] == 5
    assert offsets(page["records"]) == [5, 6] + list(range(8, 21))
    assert log.log_trim(KS, KEY, timestamp=10) == 10
    assert log.log_trim(KS, KEY, offset=10 ** 6) == 21
    assert log.log_append(KS, KEY, [b"x"])["first"] == 21
    log.log_create(b"a")
    for k in (b"z", b"b", b"a\x00", b"a"):
        log.log_append(b"a", k, [b"x"])
    assert keyspaces(log) == [b"a", KS]
    assert log.log_list(b"a") == [b"a", b"a\x00", b"b", b"z"]
    assert log.log_list(b"a", after=b"a", limit=2) == [b"a\x00", b"b"]
    assert log.log_list(b"a", after=b"z") == []


def test_server_time(binary):
    binary.log_create(b"stream", server_time=True)
    got = binary.log_append(b"stream", KEY, [b"a", b"b", b"c"])
    times = [r[1] for r in binary.log_read(b"stream", KEY)["records"]]
    assert times == sorted(set(times)) and got["timestamp"] == times[-1]
    with pytest.raises(Refused) as e:
        binary.log_append(b"stream", KEY, [(b"d", None, 5)])
    assert e.value.status == 3 and binary.log_meta(b"stream", KEY)["records"] == 3


def test_names_of_any_bytes(server, binary):
    emoji = "🦊".encode() * 1024
    names = [b"\x00", b"a/b/../c", b"..", b"\xff\xfe" * 100]
    for ks in names:
        binary.log_create(ks)
        for key in names + [emoji]:
            binary.log_append(ks, key, [ks + key])
    server.restart()
    b = Binary(server.port("binary"))
    assert keyspaces(b) == sorted(names)
    for ks in names:
        assert b.log_list(ks) == sorted(names + [emoji])
        for key in names + [emoji]:
            assert data(b.log_read(ks, key)["records"]) == [ks + key]
    b.close()


@pytest.mark.parametrize("kind, args, text", [
    (21, (b"k2", b"x" * 31), "32 bytes"), (21, (b"", b""), "keyspace is empty"),
    (21, (b"k2", struct.pack("<QQQQ", 0, 0, 0, 2)), "flags"), (22, (KS, b"x"), "32 bytes"), (23, (b"",), "empty"),
    (24, (KS, b""), "key is empty"), (25, (KS, b"", b""), "key is empty"), (25, (KS, KEY, b""), "no records"),
    (25, (KS, KEY, Binary.log_records([b"good"]) + b"\0" * 27), "record 1 is cut short"),
    (25, (KS, KEY, Binary.log_records([b"good"])[:-1]), "record 0 is cut short"),
    (26, (KS, KEY, b"", b"", b""), "32 bytes"), (26, (KS, KEY, b"\2" + b"\0" * 31, b"", b""), "direction 2"),
    (26, (KS, KEY, b"\0\4" + b"\0" * 30, b"", b""), "start 4"), (26, (KS, KEY, b"\0\0\3" + b"\0" * 29, b"", b"x"), "filter 3"),
    (26, (KS, KEY, b"\0\0\0\1" + b"\0" * 28, b"", b""), "follow"),
    (26, (KS, KEY, Binary.log_start(size=1000001), b"", b""), "1000001"),
    (26, (KS, KEY, b"\0" * 8 + b"\1" + b"\0" * 23, b"", b""), "not 0"),
    (26, (KS, KEY, Binary.log_start("offset", 2 ** 64), b"", b""), "8 bytes"),
    (26, (KS, KEY, Binary.log_start(), b"damaged", b""), "continuation"),
    (26, (KS, KEY, Binary.log_start(filter=1), b"", b""), "pattern is empty"),
    (26, (KS, KEY, Binary.log_start(), b"", b"x"), "without a filter"),
    (27, (KS, KEY, Binary.log_start(backwards=True), b""), "forwards only"),
    (27, (KS, KEY, b"\0\5" + b"\0" * 30, b""), "start 5"), (27, (KS, KEY, b"\0\0\0\2" + b"\0" * 28, b""), "follow"),
    (28, (KS, KEY, b"\1" + b"\0" * 7), "9 bytes"), (28, (KS, KEY, b"\3" + b"\0" * 8), "kind 3"),
    (29, (KS, KEY, b"\0" * 7), "8 bytes"), (30, (KS, b""), "key is empty"), (30, (b"", KEY), "keyspace is empty"),
    (31, (b"", b"", b"\0" * 7), "8 bytes"), (31, (b"", b"", b"\0" * 8), "limit is 0"),
    (31, (b"", b"", struct.pack("<II", 1, 1)), "flags")])
def test_malformed_is_an_error_and_nothing_happens(log, kind, args, text):
    r = log.call(kind, *args)
    assert r[0] == 3 and text in r[1:].decode(), r
    assert log.log_meta(KS, KEY) is None and keyspaces(log) == [KS]


@pytest.mark.parametrize("bad", [
    struct.pack("<HI", 21, 256), struct.pack("<HI", 23, 2 ** 32 - 1), struct.pack("<HI2sI", 25, 2, b"ks", 5000),
    struct.pack("<HI2sI", 21, 2, b"ks", 33), struct.pack("<H", 999), struct.pack("<H", 4),
    struct.pack("<HI2sI3sI", 25, 2, b"ks", 3, b"key", 2 ** 31), struct.pack("<HI2sI3sI", 26, 2, b"ks", 3, b"key", 33),
    struct.pack("<HI2sI3sI32sI", 27, 2, b"ks", 3, b"key", 32, b"", 1025)])
def test_a_length_over_a_limit_closes(server, log, bad):
    log.send(bad)
    assert len(log.reply()) > 3
    with pytest.raises((EOFError, ConnectionError)):
        log.exactly(1)


def test_a_damaged_or_foreign_continuation(log):
    for key in (KEY, b"other"):
        log.log_append(KS, key, [b"%d" % i for i in range(10)])
    token = log.log_read(KS, KEY, size=3)["continuation"]
    assert offsets(log.log_read(KS, KEY, continuation=token, size=3)["records"]) == [4, 5, 6]
    for at in range(len(token)):
        bad = bytearray(token)
        bad[at] ^= 1
        with pytest.raises(Refused):
            log.log_read(KS, KEY, continuation=bytes(bad))
    for bad in (token[:-1], token + b"0", b"\0" * len(token)):
        with pytest.raises(Refused):
            log.log_read(KS, KEY, continuation=bad)
    with pytest.raises(Refused):
        log.log_read(KS, b"other", continuation=token)


def test_records_cut_anywhere(log):
    records = Binary.log_records([(b"abc", 1, 2), b"", b"de"])
    whole = [0, 31, 59, len(records)]
    for n in range(len(records) + 1):
        r = log.call(25, KS, b"cut%d" % n, records[:n])
        assert (r[0] == 0) == (n in whole[1:]), n


def test_split_at_every_byte(server, log):
    frames = (Binary.log_append_request(KS, b"split", [(b"a", 1, 1), (b"b", 2, 2)]) +
              Binary.log_read_request(KS, b"split", contains=b"b") +
              Binary.log_tail_request(KS, b"split", "first", follow=False) + Binary.request(20, b"end"))
    log.send(frames)
    log.reply()
    rest = [log.reply() for _ in range(4)]
    for at in range(1, len(frames)):
        b = Binary(server.port("binary"))
        b.send(frames[:at])
        time.sleep(0.0005)
        b.send(frames[at:])
        assert Binary.log_appended(b.reply())["appended"] == 0
        assert [b.reply() for _ in range(4)] == rest, at
        b.close()


def test_a_read_behind_an_append_sees_it(log):
    n = 500
    log.send(b"".join(Binary.log_append_request(KS, KEY, [b"%d" % i]) +
                      Binary.log_read_request(KS, KEY, backwards=True, size=1) for i in range(n)))
    for i in range(n):
        assert Binary.log_appended(log.reply())["first"] == i + 1
        assert data(Binary.log_page(log.reply())["records"]) == [b"%d" % i]


def txn_op(kind, key, value=b""):
    return struct.pack("<BBBBIIQQ", kind, 0, 0, 0, len(key), len(value), 0, 0) + key + value


def test_append_in_a_transaction(log):
    def append(key, records):
        return txn_op(4, struct.pack("<H", len(KS)) + KS + key, Binary.log_records(records))
    ops = txn_op(1, b"k", b"v") + append(KEY, [(b"a", 1), (b"b", 2)]) + txn_op(3, b"n", struct.pack("<q", 5)) + \
        append(b"other", [b"c"])
    first = log.call(17, ops, b"once")
    assert first[0] == 0
    assert struct.unpack_from("<IQqQqQqQq", first, 9) == (4, 1, 0, 1, 2, 1, 5, 1, 1)
    assert log.call(17, ops, b"once") == first
    assert log.log_meta(KS, KEY)["records"] == 2 and log.get(b"k") == b"v"
    # All or nothing.
    check = struct.pack("<BBBBIIQQ", 0, 0, 1, 0, 1, 0, 9, 0) + b"k"
    assert log.call(17, append(KEY, [b"no"]) + check, b"")[0] == 2
    for bad in (append(KEY, []), append(KEY, [b"x"])[:-1], append(b"", [b"x"]), append(KEY, [b"x"]) + append(KEY, [b"y"]),
                txn_op(4, b"\x09", Binary.log_records([b"x"])), txn_op(4, b"\x09\x00ks", Binary.log_records([b"x"])),
                txn_op(4, b"\x04\x00nonekey", Binary.log_records([b"x"])), txn_op(5, b"k")):
        r = log.call(17, txn_op(1, b"never", b"v") + bad, b"")
        assert r[0] == 3, bad
    assert log.log_meta(KS, KEY)["records"] == 2 and log.get(b"never") == b""


def test_tail_gives_what_is_there_and_ends(log):
    log.log_append(KS, KEY, [b"%d" % i * 30 for i in range(3000)])
    pages = list(log.log_tail(KS, KEY, "first", follow=False))
    assert [r for p in pages for r in p["records"]] == list(log.log_all(KS, KEY)) and len(pages) == 3
    assert list(log.log_tail(KS, KEY, "end", follow=False)) == []
    assert list(log.log_tail(KS, b"none", "first", follow=False)) == []
    assert log.call(20, b"x") == b"\0x"


def test_tail_follows_until_the_next_request(server, log):
    log.log_append(KS, KEY, [b"old"])
    tail = Binary(server.port("binary"))
    pages = tail.log_tail(KS, KEY, "end")
    got = []
    reader = threading.Thread(target=lambda: [got.extend(p["records"]) for p in pages])
    tail.send(Binary.log_tail_request(KS, KEY, "first"))  # answered by one page: it has begun
    assert data(Binary.log_page(tail.reply())["records"]) == [b"old"]
    tail.call(20, b"x")  # ends it: this was the last page
    assert tail.reply() == b"\0x"
    reader.start()
    time.sleep(0.2)
    for i in range(200):
        log.log_append(KS, KEY, [b"new%d" % i])
    end = time.monotonic() + 20
    while len(got) < 200 and time.monotonic() < end:
        time.sleep(0.01)
    assert data(got) == [b"new%d" % i for i in range(200)]
    tail.send(Binary.request(20, b"bye"))
    reader.join(20)
    assert not reader.is_alive() and tail.reply() == b"\0bye"
    tail.close()


def test_tail_of_a_log_to_come_filtered(server, log):
    tail = Binary(server.port("binary"))
    tail.send(Binary.log_tail_request(KS, b"later", "timestamp", 50, prefix=b"y"))
    log.log_append(KS, b"later", [(b"y early", None, 49)])
    log.log_append(KS, b"later", [(b"n", None, 50), (b"y1", None, 1), (b"n", None, 60)])
    log.log_append(KS, b"later", [(b"y2", None, 70)])
    got = []
    while len(got) < 2:
        got += Binary.log_page(tail.reply())["records"]
    assert data(got) == [b"y1", b"y2"]
    tail.close()


def test_tail_past_the_end_waits_for_its_offset(server, log):
    tail = Binary(server.port("binary"))
    tail.send(Binary.log_tail_request(KS, KEY, "offset", 5))
    for i in range(1, 8):
        log.log_append(KS, KEY, [b"%d" % i])
    got = []
    while len(got) < 3:
        got += Binary.log_page(tail.reply())["records"]
    assert offsets(got) == [5, 6, 7]
    tail.close()


def test_a_tail_that_is_not_read_holds_nothing_up(server, log):
    """Retention overtakes it, and it is told so; the others do not notice."""
    tail = Binary(server.port("binary"))
    tail.send(Binary.log_tail_request(KS, KEY, "first"))
    block = [b"x" * 1000] * 1000
    for i in range(40):
        log.log_append(KS, KEY, block)
    log.log_trim(KS, KEY, offset=39001)
    log.log_append(KS, KEY, [b"last"])
    seen, truncated = 0, False
    while seen < 40001:
        page = Binary.log_page(tail.reply())
        for r in page["records"]:
            assert r[0] == seen + 1 or page["truncated"] or not seen, (r[0], seen)
            seen = r[0]
        truncated |= page["truncated"]
    assert truncated
    tail.close()


def test_many_tails_that_die(server, log):
    for round in range(5):
        tails = [Binary(server.port("binary")) for _ in range(50)]
        for t in tails:
            t.send(Binary.log_tail_request(KS, KEY, "end"))
        for i in range(20):
            log.log_append(KS, KEY, [b"x"])
            tails.pop().close()
        for t in tails:
            t.close()
    assert log.log_meta(KS, KEY)["records"] == 100


def test_killed_and_started_again(server, log):
    for i in range(50):
        log.log_append(KS, KEY, [(b"%d.%d" % (i, j), 10 * i + j, i) for j in range(10)])
    log.log_trim(KS, KEY, offset=101)
    log.log_erase(KS, KEY, 200)
    meta, records = log.log_meta(KS, KEY), list(log.log_all(KS, KEY, size=33))
    token = log.log_read(KS, KEY, backwards=True, size=10)["continuation"]
    for _ in range(3):
        server.restart()
        b = Binary(server.port("binary"))
        assert b.log_meta(KS, KEY) == meta
        assert list(b.log_all(KS, KEY, size=77)) == records
        assert offsets(b.log_read(KS, KEY, continuation=token, size=1)["records"]) == [490]
        assert b.log_append(KS, KEY, [(b"dup", 499)])["appended"] == 0
        b.close()
