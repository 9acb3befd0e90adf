"""The real binary, started in a directory of its own on ports of its own, driven from outside."""
import os
import pathlib
import random
import shutil
import signal
import socket
import struct
import subprocess
import time

import pytest

BUILD = pathlib.Path(os.environ.get("VARVE_TEST_BUILD", "build/debug"))
VARVE = str((pathlib.Path(__file__).resolve().parents[2] / BUILD / "varve").resolve())


def lasting_address():
    """For a server that is killed and comes back to it: meanwhile the port must not go to somebody who asks for any
    port, as the servers of tests beside this one do, so it is below those that the kernel gives then."""
    while True:
        port = random.randint(10000, 30000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return f"127.0.0.1:{port}"
            except OSError:
                pass


class Server:
    """`varve serve` with its standard output read up to `ready`."""

    def __init__(self, data, *flags):
        self.data = data
        self.flags = list(flags)
        self.process = None
        self.start()

    def start(self, wait=True):
        self.err = open(str(self.data) + ".log", "ab")
        self.process = subprocess.Popen(
            [VARVE, "serve", "--data", str(self.data), "--http", "127.0.0.1:0",
             "--binary", "127.0.0.1:0", "--zmq", "tcp://127.0.0.1:*", *self.flags],
            stdout=subprocess.PIPE, stderr=self.err, text=True)
        self.address = {}  # the first of each name
        self.addresses = {}
        if not wait:
            return
        for line in self.process.stdout:
            word = line.split()
            if word[0] == "listening":
                self.address.setdefault(word[1], word[2])
                self.addresses.setdefault(word[1], []).append(word[2])
            if word[0] == "ready":
                return
        raise AssertionError("server did not start:\n" + self.log(), self.process.wait(30))

    def log(self):
        self.err.flush()
        return pathlib.Path(str(self.data) + ".log").read_text()

    @property
    def http(self):
        return "http://" + self.address["http"]

    def port(self, name):
        host, port = self.address[name].rsplit(":", 1)
        return host, int(port)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        self.err.close()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(30)
        self.process.stdout.close()
        self.err.close()
        return status

    def restart(self):
        self.kill()
        self.start()


class Refused(Exception):
    """A reply of the binary protocol whose status is not 0."""

    def __init__(self, status, text):
        super().__init__(f"status {status}: {text}")
        self.status = status
        self.text = text


class Binary:
    """A plain client of the binary protocol, written from docs/PROTOCOLS.md."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=20)

    def close(self):
        self.socket.close()

    @staticmethod
    def request(kind, *args):
        return struct.pack("<H", kind) + b"".join(struct.pack("<I", len(a)) + a for a in args)

    def send(self, data):
        self.socket.sendall(data)

    def exactly(self, n):
        out = b""
        while len(out) < n:
            got = self.socket.recv(n - len(out))
            if not got:
                raise EOFError
            out += got
        return out

    def reply(self):
        return self.exactly(struct.unpack("<I", self.exactly(4))[0])

    def call(self, kind, *args):
        self.send(self.request(kind, *args))
        return self.reply()

    def get(self, key):
        return self.call(1, key)

    def delete(self, key):
        return self.call(2, key)

    def set(self, key, value):
        return self.call(3, key, value)

    # Logs: each call raises Refused unless the status is 0; log_meta, log_trim and log_erase give
    # None, or False, where there is no such log or record (status 1).

    def ask(self, kind, *args):
        return self.answer(self.call(kind, *args))

    @staticmethod
    def answer(reply):
        if reply[0]:
            raise Refused(reply[0], reply[1:].decode())
        return reply[1:]

    def maybe(self, kind, *args):
        try:
            return self.ask(kind, *args)
        except Refused as r:
            if r.status != 1:
                raise
            return None

    def log_create(self, keyspace, max_age_ms=0, max_bytes=0, max_records=0, server_time=False):
        """The time of its making, in ms."""
        policy = struct.pack("<QQQQ", max_age_ms, max_bytes, max_records, server_time)
        return struct.unpack("<Q", self.ask(21, keyspace, policy))[0]

    def log_policy(self, keyspace, max_age_ms=0, max_bytes=0, max_records=0, server_time=False):
        self.ask(22, keyspace, struct.pack("<QQQQ", max_age_ms, max_bytes, max_records, server_time))

    def log_keyspace(self, keyspace):
        got = self.maybe(23, keyspace)
        names = ("created", "max_age_ms", "max_bytes", "max_records", "server_time")
        return got and dict(zip(names, struct.unpack("<QQQQQ", got)))

    def log_meta(self, keyspace, key):
        got = self.maybe(24, keyspace, key)
        if got is None:
            return None
        first, end, low, high, last, records, size = struct.unpack("<QQQQqQQ", got)
        return {"first": first, "next": end, "nonce": high << 64 | low, "timestamp": last,
                "records": records, "bytes": size}

    @staticmethod
    def log_records(records):
        """What LOG_APPEND takes of bytes, or tuples (bytes, nonce or None, timestamp or None)."""
        out = []
        for r in records:
            data, nonce, timestamp = (r if isinstance(r, tuple) else (r,)) + (None,) * (
                3 - (len(r) if isinstance(r, tuple) else 1))
            nonce = 2 ** 128 - 1 if nonce is None else nonce
            timestamp = -2 ** 63 if timestamp is None else timestamp
            out.append(nonce.to_bytes(16, "little") + struct.pack("<qI", timestamp, len(data)) + data)
        return b"".join(out)

    @classmethod
    def log_append_request(cls, keyspace, key, records):
        return cls.request(25, keyspace, key, cls.log_records(records))

    @classmethod
    def log_appended(cls, reply):
        first, end, appended, low, high, last = struct.unpack("<QQQQQq", cls.answer(reply))
        return {"first": first, "next": end, "appended": appended, "nonce": high << 64 | low,
                "timestamp": last}

    def log_append(self, keyspace, key, records):
        self.send(self.log_append_request(keyspace, key, records))
        return self.log_appended(self.reply())

    STARTS = {"first": 0, "offset": 1, "timestamp": 2, "nonce": 3, "end": 4}

    @classmethod
    def log_start(cls, start="first", value=0, backwards=False, filter=0, follow=False, size=0):
        """The 32 bytes that say where reading starts."""
        return struct.pack("<BBBBIQ", backwards, cls.STARTS[start], filter, follow, size, 0) + (
            value.to_bytes(16, "little") if value >= 0 else struct.pack("<qQ", value, 0))

    @staticmethod
    def log_filter(prefix, contains):
        return (1, prefix) if prefix else (2, contains) if contains else (0, b"")

    @classmethod
    def log_read_request(cls, keyspace, key, start="first", value=0, backwards=False, size=0,
                         continuation=b"", prefix=b"", contains=b""):
        kind, pattern = cls.log_filter(prefix, contains)
        begin = cls.log_start(start, value, backwards, kind, size=size)
        return cls.request(26, keyspace, key, begin, continuation, pattern)

    @classmethod
    def log_page(cls, reply):
        """first, next (the log's), go_on, records, truncated, more, end, continuation."""
        body = cls.answer(reply)
        first, end, go_on, count, flags, n = struct.unpack_from("<QQQIBI", body)
        at, records = 33 + n, []
        while at < len(body):
            offset, timestamp, low, high, size = struct.unpack_from("<QqQQI", body, at)
            nonce = high << 64 | low
            data = body[at + 36:at + 36 + size]
            assert struct.unpack_from("<I", body, at + 36 + size)[0] == 36 + size
            records.append((offset, timestamp, None if nonce == 2 ** 128 - 1 else nonce, data))
            at += 40 + size
        assert at == len(body) and len(records) == count and flags < 8
        return {"first": first, "next": end, "go_on": go_on, "records": records,
                "truncated": bool(flags & 1), "more": bool(flags & 2), "end": bool(flags & 4),
                "continuation": body[33:33 + n]}

    def log_read(self, keyspace, key, *args, **named):
        """One page."""
        self.send(self.log_read_request(keyspace, key, *args, **named))
        return self.log_page(self.reply())

    def log_all(self, keyspace, key, *args, **named):
        """The records (offset, timestamp, nonce, bytes) of page after page, to the end."""
        page = self.log_read(keyspace, key, *args, **named)
        yield from page["records"]
        while page["more"]:
            named["continuation"] = page["continuation"]
            page = self.log_read(keyspace, key, *args, **named)
            yield from page["records"]

    @classmethod
    def log_tail_request(cls, keyspace, key, start="end", value=0, follow=True, size=0, prefix=b"",
                         contains=b""):
        kind, pattern = cls.log_filter(prefix, contains)
        begin = cls.log_start(start, value, False, kind, follow, size)
        return cls.request(27, keyspace, key, begin, pattern)

    def log_tail(self, keyspace, key, *args, **named):
        """Pages as they come, to the last."""
        self.send(self.log_tail_request(keyspace, key, *args, **named))
        while True:
            page = self.log_page(self.reply())
            if page["end"]:
                return
            yield page

    def log_trim(self, keyspace, key, offset=None, timestamp=None):
        """The log's first offset now."""
        border = struct.pack("<BQ", 1, offset) if timestamp is None else struct.pack("<Bq", 2, timestamp)
        got = self.maybe(28, keyspace, key, border)
        return got and struct.unpack("<Q", got)[0]

    def log_erase(self, keyspace, key, offset):
        return self.maybe(29, keyspace, key, struct.pack("<Q", offset)) is not None

    def log_flush(self, keyspace=b"", key=b""):
        self.ask(30, keyspace, key)

    def log_list(self, keyspace=b"", after=b"", limit=10000):
        """One page of keyspaces, or of a keyspace's keys."""
        body = self.ask(31, keyspace, after, struct.pack("<II", limit, 0))
        at, names = 4, []
        while at < len(body):
            n = struct.unpack_from("<I", body, at)[0]
            names.append(body[at + 4:at + 4 + n])
            at += 4 + n
        assert len(names) == struct.unpack_from("<I", body)[0]
        return names


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    item.stash[PASSED] = (yield).get_result().passed and item.stash.get(PASSED, True)


PASSED = pytest.StashKey()


@pytest.fixture(autouse=True)
def tidy(request, tmp_path):
    """What a test that passed leaves on disk goes: a server's log takes a hundred megabytes."""
    yield
    if request.node.stash.get(PASSED, False):
        shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def start(tmp_path):
    servers = []

    def make(*flags, name="data"):
        s = Server(tmp_path / name, *flags)
        servers.append(s)
        return s

    yield make
    for s in servers:
        if s.process.poll() is None:
            s.process.kill()
            s.process.wait()


@pytest.fixture
def server(start):
    return start()


@pytest.fixture
def binary(server):
    b = Binary(server.port("binary"))
    yield b
    b.close()


def wait_until(what, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.02)
    return False
