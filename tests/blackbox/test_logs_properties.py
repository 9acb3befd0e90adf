"""Properties of logs against a real server that checkpoints all the time and holds little in memory, so that
chunks are evicted, read back and rewritten while they are read: pages of any size, both ways, from any start,
in any encoding, over HTTP and binary, each record exactly once and in order; a continuation token never skips
or repeats, whatever happens between two pages; tails see every later record once; a filter gives what filtering
all would give; kill -9 changes nothing that was acknowledged.

A failure prints the steps that lead to it; VARVE_TEST_NIGHTLY=1 runs many more, other ones each time."""
import base64
import bisect
import http.client
import json
import os
import pathlib
import random
import socket
import struct
import tempfile
import threading
import time
import urllib.parse

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from conftest import Binary, Refused, Server, wait_until

NIGHTLY = bool(os.environ.get("VARVE_TEST_NIGHTLY"))
SETTINGS = settings(deadline=None, derandomize=not NIGHTLY, print_blob=True, database=None,
                    suppress_health_check=list(HealthCheck),
                    phases=(Phase.generate, Phase.shrink) if NIGHTLY else (Phase.generate,))
PAGE_BYTES = 4 << 20
ENCODINGS = ["json", "base64", "raw", "lines", "binary", "protocol"]  # the last: over the binary protocol
NAMES = [b"key", b"a/b?c=%d&e+f #", b"\xff\x00\x01", "köln \U0001f30d".encode()]
WORDS = [b"", b"a", b"ab", b"abc", b"b\n", b"\"\\", b"\xff\xfe", "ü".encode(), b"id: 7\n\n"]
FILTERS = [None, None, None, ("prefix", b"a"), ("prefix", b"ab"), ("contains", b"b"), ("contains", b"\xfe"),
           ("contains", b"nowhere at all"), ("prefix", b"n7")]


def content(word, seed, size):
    """`size` bytes that begin with the word and belong to the seed."""
    unit = word + b"%d " % seed
    return (unit * (size // len(unit) + 1))[:size]


def matches(filter, data):
    kind, pattern = filter
    return data.startswith(pattern) if kind == "prefix" else pattern in data


def path(log, end=""):
    return "/v1/logs/{}/{}{}".format(urllib.parse.quote(log.keyspace, safe=""), urllib.parse.quote(log.key, safe=""), end)


def record_of(r):
    data = r["record"].encode() if "record" in r else base64.b64decode(r["base64"])
    return r["offset"], r["timestamp"], int(r["nonce"]) if "nonce" in r else None, data


class Clients:
    """One server, and a kept connection of each protocol."""

    def __init__(self, home):
        self.server = Server(home / "data", "--storage-memory-limit", "16m", "--storage-checkpoint-interval", "200ms",
                             "--storage-max-block-size", "64k", "--storage-max-blocks", "16")
        self.count = 0
        self.connect()
        self.ending = False
        self.pressure = threading.Thread(target=self.press, daemon=True)
        self.pressure.start()

    def press(self):
        """Reads a log of its own over and over, so that other logs' chunks are evicted all the time."""
        made = False
        while not self.ending:
            try:
                binary = Binary(self.port)
                if not made:
                    binary.log_create(b"pressure")
                    for _ in range(8):
                        binary.log_append(b"pressure", b"key", [os.urandom(1000)] * 700)
                    made = True
                while not self.ending:
                    for offset in range(1, 5600, 1400):
                        binary.call(26, b"pressure", b"key", Binary.log_start("offset", offset, size=1400), b"", b"")
                        time.sleep(0.02)
            except (OSError, EOFError, Refused):
                time.sleep(0.02)  # the server is away

    def connect(self):
        self.address, self.port = self.server.address["http"], self.server.port("binary")
        self.binary = Binary(self.port)
        self.http = http.client.HTTPConnection(self.address, timeout=20)

    def close(self):
        self.binary.close()
        self.http.close()

    def restart(self):
        self.close()
        self.server.restart()
        self.connect()

    def unique(self):
        self.count += 1
        return self.count

    def ask(self, method, url, body=None, status=200):
        self.http.request(method, url, body if body is None or isinstance(body, bytes) else json.dumps(body))
        reply = self.http.getresponse()
        data = reply.read()
        assert reply.status == status, (reply.status, data[:300])
        return reply, data

    def page(self, log, encoding, size, filter, start=None, backwards=False, token=None):
        """A page: records, or their number and the body where the encoding does not say more; the token; truncated."""
        if encoding == "protocol":
            kind, value = start or ("first", 0)
            got = self.binary.log_read(log.keyspace, log.key, kind, value, backwards=backwards, size=size,
                                       continuation=(token or "").encode(), **dict([filter] if filter else []))
            return {"records": got["records"], "token": got["continuation"].decode() if got["more"] else None,
                    "truncated": got["truncated"], "next": got["next"]}
        q = {"page_size": size, "encoding": encoding}
        if filter:
            q[filter[0]] = filter[1]
        if token:
            q["continuation"] = token
        else:
            q["direction"] = "backwards" if backwards else "forwards"
            if start:
                q["start"] = start[0] if start[0] == "first" else "%s:%d" % start
        reply, data = self.ask("GET", path(log, "?" + urllib.parse.urlencode(q)))
        if encoding in ("json", "base64"):
            page = json.loads(data)
            assert page["keyspace"] == log.keyspace.decode()
            assert encoding == "json" or all("base64" in r for r in page["records"])
            return {"records": [record_of(r) for r in page["records"]], "token": page.get("continuation"),
                    "truncated": page.get("truncated", False), "next": page["next_offset"]}
        out = {"count": int(reply.getheader("Varve-Records")), "token": reply.getheader("Varve-Continuation"),
               "truncated": reply.getheader("Varve-Truncated") == "true",
               "next": int(reply.getheader("Varve-Next-Offset")), "body": data}
        if encoding == "binary":
            out["records"] = list(laid_out(data))
            assert len(out["records"]) == out["count"]
        return out


def laid_out(body):
    """Records as docs/FORMATS.md lays them out."""
    at = 0
    while at < len(body):
        offset, timestamp, low, high, size = struct.unpack_from("<QqQQI", body, at)
        nonce = high << 64 | low
        assert struct.unpack_from("<I", body, at + 36 + size)[0] == 36 + size
        yield offset, timestamp, None if nonce == 2 ** 128 - 1 else nonce, body[at + 36:at + 36 + size]
        at += 40 + size
    assert at == len(body)


class Log:
    """What a log must hold."""

    def __init__(self, keyspace, key):
        self.keyspace, self.key = keyspace, key
        self.server_time = keyspace.startswith(b"server")
        self.ever = {}   # offset: (timestamp, nonce, bytes), also what is gone
        self.live = []   # offsets, rising
        self.first = self.end = 1
        self.next_nonce = 0

    def take(self, records):
        """Of (bytes, nonce, timestamp), what the log takes; they are the last ones of it then."""
        taken = 0
        for data, nonce, timestamp in records:
            if nonce is not None:
                if nonce < self.next_nonce:
                    continue
                self.next_nonce = nonce + 1
            self.ever[self.end] = (timestamp, nonce, data)
            self.live.append(self.end)
            self.end += 1
            taken += 1
        return taken

    def is_mine(self, record):
        """True if it is what the log took; a time that the server gave is learnt."""
        offset, timestamp, nonce, data = record
        mine = self.ever.get(offset)
        if mine is None or mine[1:] != (nonce, data) or mine[0] not in (None, timestamp):
            return False
        self.ever[offset] = record[1:]
        return True

    def timed(self, begin, records):
        """What was appended just now is read, if retention has not taken it yet."""
        assert all([self.is_mine(r) for r in records])
        if self.server_time:
            times = [self.ever[o][0] for o in range(max(begin - 1, 1), self.end)]
            assert all(a < b for a, b in zip(times, times[1:])), "the server's times do not rise"

    def cut(self, first):
        self.first = max(self.first, first)
        self.live = self.live[bisect.bisect_left(self.live, self.first):]

    def record(self, offset):
        return (offset, *self.ever[offset])

    def wanted(self, start, backwards, filter):
        """Offsets in the order in which reading from `start` gives them."""
        kind, value = start
        at = {"timestamp": 0, "nonce": 1}.get(kind)
        if backwards:
            offsets = self.live[::-1]
            if kind == "offset":
                offsets = [o for o in offsets if o <= value]
            elif at is not None:
                i = next((i for i, o in enumerate(offsets)
                          if self.ever[o][at] is not None and self.ever[o][at] <= value), len(offsets))
                offsets = offsets[i:]
        else:
            offsets = self.live
            if kind == "offset":
                offsets = offsets[bisect.bisect_left(offsets, value):]
            elif at is not None:
                i = next((i for i, o in enumerate(offsets)
                          if self.ever[o][at] is not None and self.ever[o][at] >= value), len(offsets))
                offsets = offsets[i:]
        return [o for o in offsets if not filter or matches(filter, self.ever[o][2])]


class Walk:
    """A reading under way: pages one after another. `at` is the last offset that was given."""

    def __init__(self, log, start, backwards, filter):
        self.log, self.start, self.backwards, self.filter = log, start, backwards, filter
        self.token, self.at, self.done, self.begun = None, None, False, False
        self.border = None  # where a start by content lay when it began

    def expected(self):
        if not self.begun:
            offsets = self.log.wanted(self.start, self.backwards, self.filter)
            everything = self.log.wanted(self.start, self.backwards, None)
            # What comes later belongs to it forwards; backwards it does not.
            self.border = everything[0] if everything else 0 if self.backwards else self.log.end
            return offsets
        offsets = self.log.wanted(("offset", self.border), self.backwards, self.filter)
        if self.at is None:
            return offsets
        return [o for o in offsets if (o < self.at if self.backwards else o > self.at)]

    def step(self, clients, encoding, size, kept):
        """One page, compared with what must come. `kept`: retention may take records away meanwhile."""
        expected = self.expected()
        page = clients.page(self.log, encoding, size, self.filter, self.start, self.backwards, self.token)
        first, self.begun = not self.begun, True
        if kept:  # forwards it may have gone on behind what was taken; the encodings used then tell the offsets
            kept()
            go_on = page["records"][0][0] if page["records"] else self.log.first if page["token"] else self.log.end
            if not self.backwards:
                if first and [o for o in expected if self.log.first <= o < go_on]:
                    # What it was to start with (the nonce) was taken before it was looked for.
                    expected = self.log.wanted(self.start, False, self.filter)
                    everything = self.log.wanted(self.start, False, None)
                    self.border = everything[0] if everything else self.log.end
                assert not [o for o in expected if self.log.first <= o < go_on], "records were skipped"
                expected = [o for o in expected if o >= go_on]
                if page["truncated"]:  # within the page too: what was there when its turn came is in it
                    given = {r[0] for r in page["records"]}
                    expected = [o for o in expected if o >= self.log.first or o in given]
        n = page["count"] if "count" in page else len(page["records"])
        assert n <= size and n <= len(expected), (n, size, len(expected))
        given, rest = expected[:n], expected[n:]
        want = [self.log.record(o) for o in given]
        if "records" in page:
            assert page["records"] == want
        else:
            end = b"\n" if encoding == "lines" else b""
            assert page["body"] == b"".join(r[3] + end for r in want)
        assert page["next"] == self.log.end
        if not page["token"]:
            rest = [o for o in rest if o >= self.log.first] if kept else rest
            assert not rest, f"{len(rest)} records are missing at the end"
        if page["token"] and n < size and rest and not self.filter:
            total = sum(40 + len(r[3]) for r in want) + 40 + len(self.log.ever[rest[0]][2])
            assert total > PAGE_BYTES, "a page that is not full"
        if page["truncated"]:
            assert self.log.first > 1
            if self.backwards:  # from before the oldest that is kept: nothing is there, then or later
                assert not page["token"] and (kept or n == 0)
        if given:
            self.at = given[-1]
        self.token = page["token"]
        self.done = not self.token


class Tail(threading.Thread):
    """Follows a log over server-sent events or the binary protocol, and comes back after a restart."""

    def __init__(self, clients, log, protocol, start, filter):
        super().__init__(daemon=True)
        self.clients, self.log, self.protocol, self.start_at, self.filter = clients, log, protocol, start, filter
        self.got, self.truncated, self.error, self.stopped = [], False, None, False
        self.lowest = log.end if start == ("end", 0) else None
        self.late = False
        self.socket = None
        self.connected = threading.Event()
        self.start()
        assert self.connected.wait(20), "the tail does not begin"

    def run(self):
        try:
            while not self.stopped:
                try:
                    self.follow_events() if self.protocol == "sse" else self.follow_pages()
                except (OSError, EOFError, ValueError, http.client.HTTPException, AttributeError):
                    time.sleep(0.02)  # the server is away, or the test ends
        except BaseException as e:  # told to the thread that checks
            self.error = e
        self.connected.set()

    def from_where(self):
        if self.got:
            return "offset", self.got[-1][0] + 1
        return ("offset", self.lowest) if self.lowest else self.start_at

    def follow_events(self):
        q = {"encoding": random.choice(["json", "base64"])}
        head = {}
        kind, value = self.from_where()
        if self.got:
            head["Last-Event-ID"] = str(self.got[-1][0])
            kind, value = self.start_at
        q["start"] = kind if kind in ("first", "end") else f"{kind}:{value}"
        if self.filter:
            q[self.filter[0]] = self.filter[1]
        connection = http.client.HTTPConnection(self.clients.address, timeout=60)
        try:
            connection.request("GET", path(self.log, "/tail?" + urllib.parse.urlencode(q)), headers=head)
            self.socket = connection.sock
            reply = connection.getresponse()
            assert reply.status == 200, reply.read()
            self.connected.set()
            event = {}
            while True:
                line = reply.readline()
                if not line.endswith(b"\n"):
                    return
                line = line.rstrip(b"\n").decode()
                if line and line[0] != ":":
                    name, value = line.split(": ", 1)
                    event[name] = value
                elif event:
                    data = json.loads(event["data"])
                    if event.get("event") == "truncated":
                        self.truncated = True
                    else:
                        assert int(event["id"]) == data["offset"]
                        self.got.append(record_of(data))
                    event = {}
        finally:
            connection.close()

    def follow_pages(self):
        binary = Binary(self.clients.port)
        try:
            binary.socket.settimeout(60)
            self.socket = binary.socket
            kind, value = self.from_where()
            binary.send(Binary.log_tail_request(self.log.keyspace, self.log.key, kind, value,
                                                **dict([self.filter] if self.filter else [])))
            self.connected.set()
            while True:
                page = Binary.log_page(binary.reply())
                assert not page["end"]
                self.truncated |= page["truncated"]
                self.got += page["records"]
        finally:
            binary.close()

    def caught_up(self, must):
        got = {r[0] for r in self.got[-len(must) - 50000:]}
        return self.error or all(o in got for o in must)

    def check(self):
        """Waits for all that it must have seen, and looks at all that it has seen."""
        log = self.log
        kind, value = self.start_at
        if kind == "end":
            must = [o for o in log.live if o >= self.lowest]
            if self.protocol == "binary" or self.late:  # where the end was then, the first record tells
                wait_until(lambda: self.got or self.error, 0.2)
                must = [o for o in must if self.got and o >= self.got[0][0]]
        elif kind == "offset" or kind == "first":
            must = [o for o in log.live if o >= value]
        else:
            must = self.from_content()
        if self.filter:
            must = [o for o in must if matches(self.filter, log.ever[o][2])]
        assert wait_until(lambda: self.caught_up(must)), self.describe(must)
        if self.error:
            raise self.error
        got = list(self.got)
        offsets = [r[0] for r in got]
        assert all(a < b for a, b in zip(offsets, offsets[1:])), "a tail went back: " + self.describe(must)
        for r in got:
            assert log.is_mine(r)
            assert not self.filter or matches(self.filter, r[3])
        if self.truncated:
            assert log.first > 1

    def from_content(self):
        """For a start by time or nonce: what is there of it and all behind."""
        kind, value = self.start_at
        at = {"timestamp": 0, "nonce": 1}[kind]
        fits = [o for o in self.log.live if self.log.ever[o][at] is not None and self.log.ever[o][at] >= value]
        return [o for o in self.log.live if fits and o >= fits[0]]

    def describe(self, must):
        got = [r[0] for r in self.got]
        missing = [o for o in must if o not in set(got)]
        return (f"{self.protocol} tail of {self.log.key} from {self.start_at}, filter {self.filter}: {len(got)} records, "
                f"{got[:3]}..{got[-3:]}; missing {missing[:5]} of {len(must)}; the log is {self.log.first} to "
                f"{self.log.end}; error {self.error}")

    def stop(self):
        self.stopped = True
        while self.is_alive():
            try:
                self.socket.shutdown(socket.SHUT_RDWR)
            except (OSError, AttributeError):
                pass
            self.join(0.02)


SIZES = st.one_of(st.integers(0, 40), st.integers(0, 2000), st.integers(0, 100 << 10))
TIMES = st.one_of(st.none(), st.integers(-5, 50), st.integers(0, 10 ** 6), st.sampled_from([-2 ** 63 + 1, 2 ** 63 - 1]))
NONCES = st.one_of(st.none(), st.integers(-3, 3), st.integers(0, 300))  # relative to the log's next
RECORDS = st.tuples(st.sampled_from(WORDS), st.integers(0, 99), SIZES, NONCES, TIMES)
STARTS = st.one_of(st.just(("first", 0)), st.tuples(st.just("share"), st.integers(-5, 105)),
                   st.tuples(st.just("timestamp"), st.one_of(st.integers(-10, 60), st.integers(0, 10 ** 6))),
                   st.tuples(st.just("time of"), st.integers(0, 99)),
                   st.tuples(st.just("nonce share"), st.integers(0, 105)))
PAGE_SIZES = st.one_of(st.integers(1, 10), st.integers(1, 1000), st.just(1000000))
LOGS = st.sampled_from([("plain", 0), ("plain", 0), ("plain", 2), ("server", 1), ("kept", 3)])  # keyspace, name


def make_machine(clients):
    class Logs(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.logs, self.walks, self.tails = {}, [], []
            self.restarts, self.settled, self.kept = 0, False, 0
            self.kept_least = 0  # records that retention may have left, whatever happened

        @initialize(kept=st.integers(1, 40))
        def keyspaces(self, kept):
            n = clients.unique()
            self.names = {k: f"{k}-{n}".encode() for k in ("plain", "server", "kept")}
            b = clients.binary
            b.log_create(self.names["plain"])
            clients.ask("PUT", "/v1/logs/server-%d" % n, {"timestamps": "server"})
            b.log_create(self.names["kept"], max_records=kept)
            self.kept = self.kept_least = kept

        # ---- helpers

        def log(self, which):
            keyspace, key = which
            return self.logs.setdefault(which, Log(self.names[keyspace], NAMES[key]))

        def is_kept(self, log):
            return log.keyspace == self.names["kept"]

        def sync(self, log):
            """What retention has taken by now is as good as trimmed."""
            meta = clients.binary.log_meta(log.keyspace, log.key)
            if meta is None:
                assert log.end == 1
                return
            had = len(log.live)
            assert meta["first"] >= log.first
            log.cut(meta["first"])
            assert len(log.live) >= min(had, self.kept_least), "retention took more than it should"
            assert len(log.live) == meta["records"]

        def start_of(self, log, start):
            kind, value = start
            if kind == "share":
                return "offset", max(1, log.end * value // 100)
            if kind == "nonce share":
                return "nonce", log.next_nonce * value // 100
            if kind == "time of":  # one that is there, exactly
                at = log.live[len(log.live) * value // 100] if log.live else 0
                return "timestamp", log.ever[at][0] or 0 if at else value
            return start

        def records_of(self, log, drawn):
            out, base = [], log.next_nonce
            for word, seed, size, nonce, timestamp in drawn:
                out.append((content(word, seed, size), None if nonce is None else max(0, base + nonce),
                            None if log.server_time else timestamp))
            return out

        def append(self, log, records, how):
            begin, nonces = log.end, log.next_nonce
            if how == "binary":
                got = clients.binary.log_append(log.keyspace, log.key, records)
                taken = log.take(records)
                assert got["appended"] == taken and got["next"] == log.end and got["nonce"] == log.next_nonce
                first = got["first"]
            else:
                body = []
                for i, (data, nonce, timestamp) in enumerate(records):
                    r = {"base64": base64.b64encode(data).decode()}
                    if how != "base64":
                        try:
                            r = {"record": data.decode()}
                        except UnicodeDecodeError:
                            pass
                    if nonce is not None:
                        r["nonce"] = str(nonce) if i % 2 else nonce
                    if timestamp is not None:
                        r["timestamp"] = timestamp
                    body.append(r)
                taken = log.take(records)
                if how == "txn":
                    key = list(log.key) if log.key == NAMES[2] else log.key.decode()  # JSON strings are UTF-8
                    _, data = clients.ask("POST", "/v1/txn", {"ops": [
                        {"op": "append", "keyspace": log.keyspace.decode(), "key": key, "records": body}]})
                    got = json.loads(data)["results"][0]
                else:
                    _, data = clients.ask("POST", path(log), {"records": body})
                    got = json.loads(data)
                    assert got["duplicates"] == len(records) - taken and got["next_nonce"] == str(log.next_nonce)
                assert got["appended"] == taken and got["next_offset"] == log.end
                first = got["first_offset"]
            assert first == begin, "offsets have a gap"
            self.learn_times(log, begin)

        def learn_times(self, log, begin):
            log.timed(begin, clients.binary.log_all(log.keyspace, log.key, "offset", begin))

        # ---- rules: writing

        @rule(which=LOGS, drawn=st.lists(RECORDS, min_size=1, max_size=12),
              how=st.sampled_from(["binary", "json", "base64", "txn"]))
        def append_some(self, which, drawn, how):
            log = self.log(which)
            self.append(log, self.records_of(log, drawn), how)

        @rule(which=LOGS, count=st.integers(1, 1500), size=st.integers(0, 3000), nonces=st.booleans(),
              seed=st.integers(0, 999))
        def append_many(self, which, count, size, nonces, seed):
            rng, log = random.Random(seed), self.log(which)
            count = min(count, 1 + 600000 // (size + 40))
            records = [(content(rng.choice(WORDS), i, rng.randrange(size + 1)), log.next_nonce + 2 * i if nonces else None,
                        None if log.server_time else rng.choice([i, rng.randrange(10 ** 6)])) for i in range(count)]
            self.append(log, records, "binary")

        @rule(which=LOGS, lines=st.lists(st.sampled_from(["", "a", "ab c", "ü", "b" * 300]), min_size=1, max_size=20),
              crlf=st.booleans())
        def append_lines(self, which, lines, crlf):
            log = self.log(which)
            nonce, begin = log.next_nonce, log.end
            body = "".join(line + ("\r\n" if crlf else "\n") for line in lines).encode()
            taken = log.take([(line.encode(), nonce + i, None) for i, line in enumerate(lines)])
            got = json.loads(clients.ask("POST", path(log, f"?encoding=lines&nonce={nonce}"), body)[1])
            assert (got["first_offset"], got["next_offset"], got["appended"]) == (begin, log.end, taken)
            assert got["next_nonce"] == str(log.next_nonce)
            self.learn_times(log, begin)

        @rule(which=LOGS, share=st.integers(0, 110), http=st.booleans())
        def trim(self, which, share, http):
            log = self.log(which)
            self.trimmed(log, log.first + (log.end - log.first) * share // 100, "offset", http)

        @rule(which=LOGS, time=st.integers(-6, 60), http=st.booleans())
        def trim_time(self, which, time, http):
            self.trimmed(self.log(which), time, "timestamp", http)

        def trimmed(self, log, before, kind, http):
            if self.is_kept(log):
                self.sync(log)
            if kind == "offset":
                want = max(log.first, min(before, log.end))
            else:
                want = next((o for o in log.live if log.ever[o][0] >= before), log.end)
            if http:
                status = 404 if log.end == 1 else 200
                _, data = clients.ask("DELETE", path(log, f"?before={kind}:{before}"), status=status)
                first = json.loads(data).get("first_offset")
            else:
                first = clients.binary.log_trim(log.keyspace, log.key, **{kind: before})
            if log.end == 1:
                assert first is None
                return
            if not self.is_kept(log):
                assert log.first <= first <= want
                assert not [o for o in log.live if first <= o < want], "trimmed too little"
                assert kind == "timestamp" or first == want
            log.cut(first)

        @rule(which=LOGS, share=st.integers(0, 102), http=st.booleans())
        def erase(self, which, share, http):
            log = self.log(which)
            if self.is_kept(log):
                self.sync(log)
            offset = max(1, log.first + (log.end - log.first) * share // 100)
            there = offset in log.live
            if http:
                self.http_erase(log, offset, there)
            else:
                did = clients.binary.log_erase(log.keyspace, log.key, offset)
                assert did == there or self.is_kept(log)
            if there:
                log.live.remove(offset)

        def http_erase(self, log, offset, there):
            clients.http.request("DELETE", path(log, f"?offset={offset}"))
            reply = clients.http.getresponse()
            reply.read()
            assert reply.status in ((200, 404) if self.is_kept(log) else (200,) if there else (404,))

        @rule(which=LOGS, everything=st.booleans())
        def flush(self, which, everything):
            log = self.log(which)
            if everything:
                clients.ask("POST", "/v1/flush", b"")
            else:
                clients.ask("POST", path(log, "/flush"), b"")

        @rule(kept=st.integers(1, 60), http=st.booleans())
        def policy(self, kept, http):
            if http:
                name = self.names["kept"].decode()
                clients.ask("POST", "/v1/logs/" + name, {"retention": {"max_records": kept}})
            else:
                clients.binary.log_policy(self.names["kept"], max_records=kept)
            self.kept, self.kept_least = kept, min(kept, self.kept_least)

        @precondition(lambda self: not self.settled)
        @rule()
        def retention_settles(self):
            logs = [log for log in self.logs.values() if self.is_kept(log) and len(log.live) > self.kept]
            self.settled = bool(logs)
            for log in logs:
                assert wait_until(lambda: clients.binary.log_meta(log.keyspace, log.key)["records"] <= self.kept)
                self.sync(log)

        @precondition(lambda self: self.restarts < 2)
        @rule()
        def kill(self):
            self.restarts += 1
            clients.restart()

        # ---- rules: reading

        def walk_on(self, walk, pages, encoding, size):
            if self.is_kept(walk.log) and encoding in ("raw", "lines"):
                encoding = "binary"
            for _ in range(pages):
                if walk.done:
                    return
                walk.step(clients, encoding, size, (lambda: self.sync(walk.log)) if self.is_kept(walk.log) else None)

        @rule(which=LOGS, start=STARTS, backwards=st.booleans(), filter=st.sampled_from(FILTERS),
              encoding=st.sampled_from(ENCODINGS), size=PAGE_SIZES)
        def read(self, which, start, backwards, filter, encoding, size):
            log = self.log(which)
            if self.is_kept(log):
                self.sync(log)
            walk = Walk(log, self.start_of(log, start), backwards, filter)
            self.walk_on(walk, 100000, encoding, max(size, len(log.live) // 50 + 1))
            assert walk.done

        @precondition(lambda self: len(self.walks) < 8)
        @rule(which=LOGS, start=STARTS, backwards=st.booleans(), filter=st.sampled_from(FILTERS),
              encoding=st.sampled_from(ENCODINGS), size=PAGE_SIZES)
        def begin_walk(self, which, start, backwards, filter, encoding, size):
            log = self.log(which)
            if self.is_kept(log):
                self.sync(log)
            walk = Walk(log, self.start_of(log, start), backwards, filter)
            self.walk_on(walk, 1, encoding, size)
            self.walks.append(walk)

        @precondition(lambda self: any(not w.done for w in self.walks))
        @rule(which=st.integers(0, 7), pages=st.integers(1, 5), encoding=st.sampled_from(ENCODINGS), size=PAGE_SIZES)
        def go_on(self, which, pages, encoding, size):
            walks = [w for w in self.walks if not w.done]
            self.walk_on(walks[which % len(walks)], pages, encoding, size)

        @precondition(lambda self: len(self.tails) < 4)
        @rule(which=LOGS, start=st.one_of(st.just(("end", 0)), STARTS), filter=st.sampled_from(FILTERS),
              protocol=st.sampled_from(["sse", "binary"]))
        def tail(self, which, start, filter, protocol):
            log = self.log(which)
            self.tails.append(Tail(clients, log, protocol, self.start_of(log, start), filter))

        @rule()
        def tails_catch_up(self):
            for t in self.tails:
                if self.is_kept(t.log):
                    self.sync(t.log)
                t.check()

        @rule(which=LOGS)
        def meta(self, which):
            log = self.log(which)
            if self.is_kept(log):
                return self.sync(log)
            got = clients.binary.log_meta(log.keyspace, log.key)
            if log.end == 1:
                assert got is None
                clients.ask("GET", path(log, "/meta"), status=404)
                return
            want = {"first": log.first, "next": log.end, "nonce": log.next_nonce, "timestamp": max(r[0] for r in log.ever.values()),
                    "records": len(log.live), "bytes": sum(40 + len(log.ever[o][2]) for o in log.live)}
            assert got == want
            got = json.loads(clients.ask("GET", path(log, "/meta"))[1])
            assert [got[k] for k in ("first_offset", "next_offset", "next_nonce", "last_timestamp", "records", "bytes")] == [
                want["first"], want["next"], str(want["nonce"]), want["timestamp"], want["records"], want["bytes"]]

        def teardown(self):
            try:
                for walk in self.walks:
                    self.walk_on(walk, 100000, "protocol", max(1, len(walk.log.live) // 10))
                    assert walk.done
                self.tails_catch_up()
            finally:
                for t in self.tails:
                    t.stop()
            for which in sorted(self.logs):
                for backwards in (False, True):
                    if which[0] == "kept":
                        self.sync(self.logs[which])
                    self.walk_on(Walk(self.logs[which], ("first", 0), backwards, None), 1000, "protocol", 1000000)

    return Logs


@pytest.fixture(scope="module")
def clients():
    with tempfile.TemporaryDirectory(prefix="varve-logs-") as home:
        c = Clients(pathlib.Path(home))
        yield c
        c.ending = True
        c.pressure.join()
        c.close()
        assert c.server.stop() == 0, pathlib.Path(str(c.server.data) + ".log").read_text()[-9000:]


def test_a_model_of_logs(clients):
    run_state_machine_as_test(make_machine(clients), settings=settings(
        SETTINGS, max_examples=300 if NIGHTLY else 40, stateful_step_count=60 if NIGHTLY else 30))


class Others:
    """Threads that append to a log, and cut it, while somebody reads. What they did is known afterwards."""

    def __init__(self, clients, log, seed, appends):
        self.clients, self.log, self.errors = clients, log, []
        self.lock = threading.Lock()
        self.done = False
        rngs = [random.Random(f"{seed} {i}") for i in range(3)]
        self.appenders = [threading.Thread(target=self.run, args=(self.append, rngs[i], i, appends)) for i in range(2)]
        self.cutter = threading.Thread(target=self.run, args=(self.cut, rngs[2]))
        self.erased = set()
        for t in [*self.appenders, self.cutter]:
            t.start()

    def run(self, what, *args):
        binary = Binary(self.clients.port)
        try:
            what(binary, *args)
        except BaseException as e:
            self.errors.append(e)
        binary.close()

    def append(self, binary, rng, who, appends):
        for i in range(appends):
            records = [(content(rng.choice(WORDS) + b"%d." % who, i * 1000 + k, rng.choice([10, 100, rng.randrange(9000)])),
                        None, rng.randrange(10 ** 6)) for k in range(rng.choice([1, 3, rng.randrange(1, 80)]))]
            got = binary.log_append(self.log.keyspace, self.log.key, records)
            assert got["appended"] == len(records) == got["next"] - got["first"]
            with self.lock:
                for k, (data, nonce, timestamp) in enumerate(records):
                    assert got["first"] + k not in self.log.ever, "an offset was given twice"
                    self.log.ever[got["first"] + k] = (timestamp, nonce, data)
            time.sleep(rng.choice([0, 0.001, 0.004]))

    def cut(self, binary, rng):
        while not self.done:
            meta = binary.log_meta(self.log.keyspace, self.log.key)
            if meta and rng.random() < 0.3:
                offset = meta["first"] + (meta["next"] - meta["first"]) * rng.randrange(40) // 100
                self.log.first = binary.log_trim(self.log.keyspace, self.log.key, offset=offset)
            elif meta and meta["next"] > meta["first"]:
                offset = rng.randrange(meta["first"], meta["next"])
                self.erased.add(offset)  # before it is: a reader may or may not see it
                binary.log_erase(self.log.keyspace, self.log.key, offset)
            time.sleep(0.01)

    def appending(self):
        return any(t.is_alive() for t in self.appenders)

    def join(self):
        for t in self.appenders:
            t.join()
        self.done = True
        self.cutter.join()
        if self.errors:
            raise self.errors[0]
        log = self.log
        log.end = max(log.ever) + 1
        assert sorted(log.ever) == list(range(1, log.end)), "offsets have a gap"
        log.live = [o for o in range(log.first, log.end) if o not in self.erased]


def walk_among_others(clients, log, rng):
    """Reads the log through, page after page, in either direction: the records, and where it was begun."""
    backwards, filter = rng.random() < 0.5, rng.choice(FILTERS)
    size, token, got = rng.choice([7, 100, rng.randrange(1, 1000)]), None, []
    before = clients.binary.log_meta(log.keyspace, log.key) or {"first": 1, "next": 1}
    for _ in range(400):
        page = clients.page(log, rng.choice(["json", "binary", "protocol"]), size, filter, None, backwards, token)
        assert len(page["records"]) <= size
        got += page["records"]
        token = page["token"]
        if not token:
            break
    return backwards, filter, before, got, token is None


@settings(SETTINGS, max_examples=60 if NIGHTLY else 3)
@given(seed=st.integers(0, 2 ** 32))
def test_reading_while_others_append_trim_and_erase(clients, seed):
    rng = random.Random(seed)
    keyspace = b"others-%d" % clients.unique()
    clients.binary.log_create(keyspace)
    log = Log(keyspace, rng.choice(NAMES))
    others = Others(clients, log, seed, 100)
    walks, tails = [], []
    try:
        while others.appending() and not others.errors:
            walks.append(walk_among_others(clients, log, rng))
            if len(tails) < 6 and rng.random() < 0.5:
                meta = clients.binary.log_meta(log.keyspace, log.key) or {"next": 1}
                start = rng.choice([("end", 0), ("first", 0), ("offset", rng.randrange(1, meta["next"] + 50))])
                log.end = meta["next"]
                tails.append(Tail(clients, log, rng.choice(["sse", "binary"]), start, rng.choice(FILTERS)))
                if start[0] == "end":  # it lies somewhere between; the first record tells
                    tails[-1].late = True
        others.join()
        live = set(log.live)
        for backwards, filter, before, got, whole in walks:
            offsets = [r[0] for r in got]
            assert all(r == log.record(r[0]) for r in got)
            assert offsets == sorted(set(offsets), reverse=backwards), "a walk went back"
            throughout = {o for o in live if o < before["next"] and (not filter or matches(filter, log.ever[o][2]))}
            if not whole:
                throughout = {o for o in throughout if (o >= offsets[-1] if backwards else o <= offsets[-1])} if got else set()
            assert throughout <= set(offsets), sorted(throughout - set(offsets))[:10]
        for t in tails:
            t.check()
        for backwards in (False, True):
            walk = Walk(log, ("first", 0), backwards, None)
            while not walk.done:
                walk.step(clients, rng.choice(ENCODINGS), 1000, None)
    finally:
        others.done = True
        for t in tails:
            t.stop()
