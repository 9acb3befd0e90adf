"""The real binary, started in a directory of its own on ports of its own, driven from outside."""
import os
import pathlib
import signal
import socket
import struct
import subprocess
import time

import pytest

BUILD = pathlib.Path(os.environ.get("VARVE_TEST_BUILD", "build/debug"))
VARVE = str((pathlib.Path(__file__).resolve().parents[2] / BUILD / "varve").resolve())


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
        self.address = {}
        if not wait:
            return
        for line in self.process.stdout:
            word = line.split()
            if word[0] == "listening":
                self.address[word[1]] = word[2]
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
