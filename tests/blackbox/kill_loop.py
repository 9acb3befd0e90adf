#!/usr/bin/env python3
"""kill -9 in a loop, with an oracle in this process (docs/ARCHITECTURE.md, "Testing").

Writers keep requests in flight over both protocols while the server is killed, half of the time at a random
moment and half at a named point in its code. After each restart everything acknowledged must be there:

  - a register: what is read is at or past the last acknowledged write, and was really sent
  - a pair: two keys written by one transaction are always equal
  - a counter: increments acknowledged <= value <= increments sent
  - a version never goes back
  - a log holds every acknowledged record at the offset that was returned, with its bytes, nonce and time; nothing
    else but what was sent, each once, also when it was sent again after a kill; offsets and nonces never go back
  - a put and an append of one transaction are both there or neither; what was trimmed stays away
  - ids that move between the lists of two relations in one transaction with a key: the key says how often they moved, so
    which list has which of them, in which order they arrived; reverse lists agree

usage: kill_loop.py [--kills N] [--seed S] [--build DIR]; the data directory lives through all kills.
"""
import argparse
import pathlib
import random
import shutil
import signal
import struct
import sys
import tempfile
import threading
import time

import os

POINTS = ["wal-before-sync", "wal-after-sync", "wal-renamed", "wal-dropping", "checkpoint-pinned",
          "checkpoint-captured", "checkpoint-written",
          "store-next-space", "checkpoint-ingested", "checkpoint-recorded", "checkpoint-dropped", "recovered"]


def op(kind, key, value=b"", version=None):
    return struct.pack("<BBBBIIQQ", kind, 0, 1 if version is not None else 0, 0, len(key), len(value),
                       version or 0, 0) + key + value


NO_NONCE = 2**128 - 1
NO_TIME = -2**63
KEYSPACES = {b"kill": 0, b"kill-events": 1}  # and who gives the times: 1 the server


def record(n, time):
    """Record number n of a log: its nonce is n, its bytes follow from n."""
    data = struct.pack("<Q", n) + bytes([n % 251]) * (n * 7919 % 400 if n % 150 else 35000)
    return n.to_bytes(16, "little") + struct.pack("<qI", time, len(data)) + data


class Log:
    """One log of one writer, whose nonces count its records. In the second keyspace the server gives the times."""

    def __init__(self, keyspace, key):
        self.keyspace, self.key = keyspace, key
        self.sent = 0        # records, by nonce: 1 to sent
        self.asked = 0       # to send next; behind `sent` after a kill, to send again what was not acknowledged
        self.acked = {}      # offset -> (nonce, time)
        self.end = 1         # next offset, as acknowledged
        self.trim_sent = self.trim_acked = 1
        self.errors = []

    def time(self, n):
        return NO_TIME if KEYSPACES[self.keyspace] else n * 1000003 % 100000 - 50000

    def take(self, rng):
        """The next records: numbers, and what to send."""
        numbers = [self.asked + 1 + i for i in range(rng.randint(1, 4))]
        self.asked = numbers[-1]
        self.sent = max(self.sent, self.asked)
        return numbers, b"".join(record(n, self.time(n)) for n in numbers)

    def appended(self, numbers, first, end, next_nonce):
        if next_nonce is not None and next_nonce <= numbers[-1]:
            self.errors.append(f"record {numbers[-1]} acknowledged, next nonce {next_nonce}")
        for i, n in enumerate(numbers[len(numbers) - (end - first):]):
            self.acked[first + i] = n
        self.end = max(self.end, end)

    def check(self, b):
        meta = b.call(24, self.keyspace, self.key)
        if meta[0] == 1:
            if self.end > 1:
                self.errors.append("the log is gone")
            self.asked = 0
            return
        first, end = struct.unpack_from("<QQ", meta, 1)
        next_nonce = int.from_bytes(meta[17:33], "little")
        records, size = struct.unpack_from("<QQ", meta, 41)
        forwards, backwards = self.read(b, 0), self.read(b, 1)
        if forwards != backwards[::-1]:
            self.errors.append("backwards is not forwards reversed")
        if len(forwards) != records or sum(40 + len(r[3]) for r in forwards) != size:
            self.errors.append(f"metadata says {records} records, {size} bytes; reading gives {len(forwards)}")
        if end < self.end or not self.trim_acked <= first <= self.trim_sent:
            self.errors.append(f"[{first}, {end}), acknowledged up to {self.end}, trimmed to {self.trim_acked}")
        if [r[0] for r in forwards] != list(range(first, end)):
            self.errors.append("offsets have a hole")
        # Nobody else writes and nonces have no holes: record number n has offset n, sent again or not.
        time = None
        for offset, when, nonce, data in forwards:
            wanted = record(nonce, 0)[28:]
            if nonce != offset or data != wanted or self.acked.get(offset, nonce) != nonce:
                self.errors.append(f"offset {offset} has record {nonce}, acknowledged {self.acked.get(offset)}")
            if KEYSPACES[self.keyspace]:
                if time is not None and when <= time:
                    self.errors.append(f"offset {offset}: time {when} after {time}")
                time = when
            elif when != self.time(nonce):
                self.errors.append(f"offset {offset}: time {when}, sent {self.time(nonce)}")
        if next_nonce != end or end - 1 > self.sent:
            self.errors.append(f"end {end}, next nonce {next_nonce}, sent {self.sent}")
        self.end, self.trim_acked, self.trim_sent = end, first, first
        self.acked = {o: n for o, n in self.acked.items() if o >= first}
        self.asked = max(0, end - 1 - 3)  # some are sent again though they are there

    def read(self, b, direction):
        out, token = [], b""
        while True:
            start = struct.pack("<BBBBIQ", direction, 0, 0, 0, 64, 0) + bytes(16)
            page = b.call(26, self.keyspace, self.key, start, token, b"")
            if page[:1] != b"\0":
                raise AssertionError(page)
            count, flags, n = struct.unpack_from("<IBI", page, 25)
            token, at = page[34:34 + n], 34 + n
            for _ in range(count):
                offset, when = struct.unpack_from("<Qq", page, at)
                length = struct.unpack_from("<I", page, at + 32)[0]
                out.append((offset, when, int.from_bytes(page[at + 16:at + 32], "little"),
                            page[at + 36:at + 36 + length]))
                at += 40 + length
            if not flags & 2:
                return out


LEFT, RIGHT = b"kill-left", b"kill-right"  # relations; in the first the order of arrival counts
RELATIONS = {LEFT: 1 | 2, RIGHT: 1}  # reverse, recent


class Movers:
    """Ids of one writer. The first move puts all of them in the left list, later ones take some to the other side."""

    IDS = [i if i % 3 else i << 40 for i in range(400)]  # blocks of both forms, several of them

    def __init__(self, number):
        self.number = number
        self.now = {}       # id: the move that brought it to the left, its place in it; on the right, None
        self.moves = 0      # of `now`
        self.known = ({}, 0)  # the same after the last check

    @classmethod
    def move(cls, now, n):
        """What move n takes from the left, and to the left."""
        if n == 1:
            return [], cls.IDS
        count = 250 if n % 40 == 0 else 1 + n % 8
        some = list(dict.fromkeys(cls.IDS[(n * 37 + i * 11) % len(cls.IDS)] for i in range(count)))
        return [i for i in some if now[i] is not None], [i for i in some if now[i] is None]

    @classmethod
    def apply(cls, now, n):
        out, back = cls.move(now, n)
        now.update(dict.fromkeys(out))
        now.update({member: (n, i) for i, member in enumerate(back)})

    def request(self, Binary, key):
        self.moves += 1
        out, back = self.move(self.now, self.moves)
        self.apply(self.now, self.moves)
        ops = op(1, key, struct.pack("<Q", self.moves))
        for kind, relation, members in (6, LEFT, out), (5, RIGHT, out), (6, RIGHT, back), (5, LEFT, back):
            ops += op(kind, struct.pack("<Q", self.number) + relation, struct.pack(f"<{len(members)}Q", *members))
        return Binary.request(17, ops, b"")

    def check(self, b, moves, rng):
        """The lists after so many moves; what is wrong with them."""
        now, n = dict(self.known[0]), self.known[1]  # it may not come to its end
        while n < moves:
            n += 1
            self.apply(now, n)
        left = sorted((i for i in now if now[i] is not None), key=now.get, reverse=True)
        right = sorted(i for i in now if now[i] is None)
        for relation, order, want in (LEFT, 2, left), (RIGHT, 0, right):
            page = b.call(39, relation, struct.pack("<Q", self.number), struct.pack("<BBHIQQ", order, 0, 0, 1000, 0, 0))
            got = struct.unpack(f"<{(len(page) - 25) // 8}Q", page[25:])
            if list(got) != want:
                yield f"{relation} in order {order} has {len(got)} ids, expected {len(want)} after {moves} moves"
        for i in rng.sample(self.IDS, 3):
            for relation, there in (LEFT, now.get(i) is not None), (RIGHT, i in now and now[i] is None):
                found = b.call(41, relation, struct.pack("<Q", i), struct.pack("<Q", self.number), struct.pack("<I", 1))
                if found != bytes([0, there]):
                    yield f"the reverse list of {i} in {relation} disagrees after {moves} moves"
        self.known = (dict(now), moves)
        self.now, self.moves = dict(now), moves


class Writer:
    """One connection's worth of keys. `sent` and `acked` are the oracle."""

    def __init__(self, number, rng):
        self.name = b"w%d" % number
        self.rng = rng
        self.sent = {"register": 0, "pair": 0, "counter": 0, "moves": 0}
        self.acked = dict(self.sent)
        self.version = 0
        self.errors = []
        self.logs = [Log(ks, self.name + b"/log") for ks in KEYSPACES]
        self.mixed = Log(b"kill", self.name + b"/mixed")  # with a key that says how many records it has
        self.movers = Movers(number)

    def key(self, what):
        return self.name + b"/" + what.encode()

    def value(self, n):
        return struct.pack("<Q", n) + b"x" * (n * 7919 % 300)

    def log_request(self, Binary):
        log = self.rng.choice(self.logs)
        if log.end - log.trim_sent > 80:
            log.trim_sent = log.end - self.rng.randint(1, 40)
            return "trim", (log, log.trim_sent), Binary.request(
                28, log.keyspace, log.key, struct.pack("<BQ", 1, log.trim_sent))
        numbers, records = log.take(self.rng)
        return "append", (log, numbers), Binary.request(25, log.keyspace, log.key, records)

    def mixed_request(self, Binary):
        log = self.mixed
        if log.end - log.trim_sent > 80:
            log.trim_sent = log.end - 30
            return "trim", (log, log.trim_sent), Binary.request(
                28, log.keyspace, log.key, struct.pack("<BQ", 1, log.trim_sent))
        numbers, records = log.take(self.rng)
        total = struct.pack("<Q", numbers[-1])
        name = struct.pack("<H", len(log.keyspace)) + log.keyspace + log.key
        return "mixed", (log, numbers), Binary.request(
            17, op(1, self.key("total"), total) + op(4, name, records), b"")

    def logged(self, what, detail, reply):
        """Takes the answer to a request about a log."""
        log, n = detail
        if reply[:1] != b"\0":
            self.errors.append(f"{what}: {reply!r}")
        elif what == "trim":
            log.trim_acked = max(log.trim_acked, n)
        elif what == "append":
            first, end = struct.unpack_from("<QQ", reply, 1)
            log.appended(n, first, end, int.from_bytes(reply[25:41], "little"))
        else:
            log.end = max(log.end, n[-1] + 1)

    def request(self, Binary):
        dice = self.rng.random()
        if dice < 0.25:
            return self.log_request(Binary) if dice < 0.15 else self.mixed_request(Binary)
        what = self.rng.choice(list(self.sent))
        self.sent[what] += 1
        n = self.sent[what]
        if what == "register":
            return what, n, Binary.request(3, self.key(what), self.value(n))
        if what == "pair":
            return what, n, Binary.request(17, op(1, self.key("pair") + b"1", self.value(n)) +
                                           op(1, self.key("pair") + b"2", self.value(n)), b"")
        if what == "moves":
            return what, n, self.movers.request(Binary, self.key(what))
        return what, n, Binary.request(17, op(3, self.key(what), struct.pack("<q", 1)), b"")

    def run(self, Binary, address):
        try:
            b = Binary(address)
        except OSError:
            return
        try:
            while True:
                batch = [self.request(Binary) for _ in range(self.rng.randint(1, 20))]
                b.send(b"".join(r for _, _, r in batch))
                for what, n, _ in batch:
                    reply = b.reply()
                    if what in ("append", "mixed", "trim"):
                        self.logged(what, n, reply)
                        continue
                    if what != "register" and reply[:1] != b"\x00":
                        self.errors.append(f"{what} {n}: {reply!r}")
                    self.acked[what] = n
        except (OSError, EOFError):
            pass
        finally:
            b.close()

    def check(self, Binary, address):
        """Compares with the oracle, then takes what is there as acknowledged and sent."""
        b = Binary(address)
        found = {}
        raw = b.get(self.key("register"))
        found["register"] = struct.unpack_from("<Q", raw)[0] if raw else 0
        if raw and raw != self.value(found["register"]):
            self.errors.append("register holds bytes that were never sent")
        one, two = b.get(self.key("pair") + b"1"), b.get(self.key("pair") + b"2")
        found["pair"] = struct.unpack_from("<Q", one)[0] if one else 0
        if one != two or (one and one != self.value(found["pair"])):
            self.errors.append(f"half a transaction: {one[:8]!r} {two[:8]!r}")
        found["counter"] = int(b.get(self.key("counter")) or b"0")
        raw = b.get(self.key("moves"))
        found["moves"] = struct.unpack("<Q", raw)[0] if raw else 0
        for what, n in found.items():
            if not self.acked[what] <= n <= self.sent[what]:
                self.errors.append(f"{what} is {n}, acknowledged {self.acked[what]}, sent {self.sent[what]}")
        version = b.call(16, self.key("register"))
        version = struct.unpack_from("<Q", version, 1)[0] if version[0] == 0 else 0
        if version < self.version:
            self.errors.append(f"version went back from {self.version} to {version}")
        self.version = version
        for what in ("register", "pair"):
            self.acked[what] = found[what]
        for log in [*self.logs, self.mixed]:
            log.check(b)
            self.errors += [f"{log.keyspace} {log.key}: {e}" for e in log.errors]
        total = b.get(self.key("total"))
        total = struct.unpack("<Q", total)[0] if total else 0
        if total > self.mixed.sent or total + 1 > self.mixed.end:
            self.errors.append(f"half a transaction: the key says {total} records, the log ends at {self.mixed.end}")
        if self.movers.known[1] <= found["moves"] <= self.sent["moves"]:
            self.errors += self.movers.check(b, found["moves"], self.rng)
        # What was sent and not acknowledged did not happen, or did: from here on it is known.
        for what in ("counter", "moves"):
            self.sent[what] = self.acked[what] = found[what]
        b.close()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--kills", type=int, default=500)
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--build", default="build/debug")
    a = p.parse_args()
    os.environ["VARVE_TEST_BUILD"] = a.build
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    from conftest import Binary, Server
    rng = random.Random(a.seed)
    home = pathlib.Path(tempfile.mkdtemp(prefix="varve-kill-"))
    writers = [Writer(i, random.Random(rng.random())) for i in range(4)]
    flags = ["--storage-max-block-size", "64k", "--storage-max-blocks", "4", "--storage-checkpoint-interval",
             "200ms", "--storage-memory-limit", "64m", "--http", "off"]
    print(f"kill loop: seed {a.seed}, {a.kills} kills", flush=True)
    by_point = dict.fromkeys(POINTS, 0)
    started = time.monotonic()
    for kill in range(a.kills + 1):
        point = rng.choice(POINTS) if kill % 2 else None
        if point:
            os.environ["VARVE_TEST_CRASH"] = f"{point}:{rng.randint(1, 3 if 'checkpoint' in point else 40)}"
            if point == "recovered":
                os.environ["VARVE_TEST_CRASH"] = "recovered:1"
        else:
            os.environ.pop("VARVE_TEST_CRASH", None)
        try:
            s = Server(home / "data", *flags)
        except AssertionError as e:
            # It may reach its point before it is ready: in recovery, or in a checkpoint the log's tail made due.
            if point and e.args[1] == -signal.SIGKILL:
                by_point[point] += 1
                continue
            raise
        address = s.port("binary")
        try:
            b = Binary(address)
            for keyspace, server_time in KEYSPACES.items():
                b.call(21, keyspace, struct.pack("<QQQQ", 0, 0, 0, server_time))
            for relation, options in RELATIONS.items():
                b.call(32, relation, struct.pack("<I", options))
            b.close()
            for w in writers:
                w.check(Binary, address)
        except (OSError, EOFError):
            pass  # killed at its point while it was being checked: the next start checks
        bad = [f"writer {w.name}: {e}" for w in writers for e in w.errors]
        if bad:
            print(f"FAIL seed {a.seed} kill {kill}: " + "; ".join(bad[:5]) + f"\ndata kept in {home}")
            s.kill()
            return 1
        if kill == a.kills:
            s.kill()
            break
        threads = [threading.Thread(target=w.run, args=(Binary, address)) for w in writers]
        [t.start() for t in threads]
        if point:
            try:
                s.process.wait(1.0)
                by_point[point] += 1
            except Exception:
                pass
        else:
            time.sleep(rng.uniform(0, 0.12))
        s.kill()
        [t.join() for t in threads]
    total = sum(w.acked[k] for w in writers for k in w.acked) + sum(
        log.end - 1 for w in writers for log in [*w.logs, w.mixed])
    print(f"{a.kills} kills in {time.monotonic() - started:.0f} s, {total} acknowledged writes kept, at named points: "
          + ", ".join(f"{k} {v}" for k, v in by_point.items()))
    shutil.rmtree(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
