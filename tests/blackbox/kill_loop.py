#!/usr/bin/env python3
"""kill -9 in a loop, with an oracle in this process (docs/ARCHITECTURE.md, "Testing").

Writers keep requests in flight over both protocols while the server is killed, half of the time at a random
moment and half at a named point in its code. After each restart everything acknowledged must be there:

  - a register: what is read is at or past the last acknowledged write, and was really sent
  - a pair: two keys written by one transaction are always equal
  - a counter: increments acknowledged <= value <= increments sent
  - a version never goes back

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

POINTS = ["wal-before-sync", "wal-after-sync", "wal-renamed", "wal-dropping", "checkpoint-pinned", "checkpoint-written",
          "store-next-space", "checkpoint-ingested", "checkpoint-recorded", "checkpoint-dropped", "recovered"]


def op(kind, key, value=b"", version=None):
    return struct.pack("<BBBBIIQQ", kind, 0, 1 if version is not None else 0, 0, len(key), len(value),
                       version or 0, 0) + key + value


class Writer:
    """One connection's worth of keys. `sent` and `acked` are the oracle."""

    def __init__(self, number, rng):
        self.name = b"w%d" % number
        self.rng = rng
        self.sent = {"register": 0, "pair": 0, "counter": 0}
        self.acked = dict(self.sent)
        self.version = 0
        self.errors = []

    def key(self, what):
        return self.name + b"/" + what.encode()

    def value(self, n):
        return struct.pack("<Q", n) + b"x" * (n * 7919 % 300)

    def request(self, Binary):
        what = self.rng.choice(list(self.sent))
        self.sent[what] += 1
        n = self.sent[what]
        if what == "register":
            return what, n, Binary.request(3, self.key(what), self.value(n))
        if what == "pair":
            return what, n, Binary.request(17, op(1, self.key("pair") + b"1", self.value(n)) +
                                           op(1, self.key("pair") + b"2", self.value(n)), b"")
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
        # What was sent and not acknowledged did not happen, or did: from here on it is known.
        self.sent["counter"] = self.acked["counter"] = found["counter"]
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
            for w in writers:
                w.check(Binary, address)
        except (OSError, EOFError):
            pass  # killed at its point while it was being checked: the next start checks
        bad = [f"writer {w.name}: {e}" for w in writers for e in w.errors]
        if bad:
            print(f"FAIL seed {a.seed} kill {kill}: " + "; ".join(bad[:5]) + f"\ndata kept in {home}")
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
    total = sum(w.acked[k] for w in writers for k in w.acked)
    print(f"{a.kills} kills in {time.monotonic() - started:.0f} s, {total} acknowledged writes kept, at named points: "
          + ", ".join(f"{k} {v}" for k, v in by_point.items()))
    shutil.rmtree(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
