#!/usr/bin/env python3
"""Real input: this machine's change logs and dpkg's log, put into logs by examples/follow-changelogs while the
server is killed by SIGKILL twice and the loader once; tails that come back with Last-Event-ID see every record
once, in order; everything is read back both ways, byte for byte, then again after an orderly stop; `varve
check` finds the directory sound."""
import base64
import glob
import http.client
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from conftest import VARVE, Server, lasting_address, wait_until  # noqa: E402
from test_logs_properties import laid_out  # noqa: E402

LOADER = str(pathlib.Path(__file__).resolve().parents[2] / "examples" / "follow-changelogs")
MOST = 250000  # records, of as many packages as that


def unpacked(path):
    if not path.endswith(".gz"):
        return pathlib.Path(path).read_bytes()
    return subprocess.run(["gzip", "-dc", path], stdout=subprocess.PIPE, check=True).stdout


def changelogs():
    """{package: the bytes of its change logs, each line with its end}"""
    out, lines = {}, 0
    for directory in sorted(glob.glob("/usr/share/doc/*")):
        paths = sorted(glob.glob(glob.escape(directory) + "/changelog*.gz"))
        data = b"".join(d if d.endswith(b"\n") else d + b"\n" for d in map(unpacked, paths) if d)
        if paths and lines and lines + data.count(b"\n") > MOST:
            break
        if paths:
            out[os.path.basename(directory)] = data
            lines += data.count(b"\n")
    return out


def dpkg_logs(home):
    """A copy, for dpkg may run meanwhile: {key: bytes}, and where it is."""
    out = {}
    for path in glob.glob("/var/log/dpkg.log*"):
        shutil.copy(path, home)
        data = unpacked(path)
        data = data[:data.rfind(b"\n") + 1]
        if data:
            out[data[:19].decode().replace(" ", "T")] = data
    return out, str(home / "dpkg.log")


def path_of(name):
    return "/v1/logs/{}/{}".format(name[0], urllib.parse.quote(name[1], safe=""))


def get(address, path):
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply, reply.read()
    finally:
        connection.close()


def there(address):
    """The keys of the logs that exist."""
    out, after = [], ""
    while True:
        reply, data = get(address, "/v1/logs/changelogs?keys=true&limit=1000&after=" + urllib.parse.quote(after))
        if reply.status != 200:
            return out
        page = json.loads(data)
        out += page["keys"]
        if not page["more"]:
            return out
        after = page["keys"][-1]


class Tail(threading.Thread):
    """Follows a log by server-sent events, and goes on after a server that was away."""

    def __init__(self, address, name):
        super().__init__(daemon=True)
        self.address, self.name_of_log = address, name
        self.got, self.connections, self.problem = [], 0, None
        self.start()

    def run(self):
        while not self.problem:
            try:
                self.follow()
            except (OSError, http.client.HTTPException, ValueError):
                pass
            time.sleep(0.02)

    def follow(self):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        head = {"Last-Event-ID": str(self.got[-1][0])} if self.got else {}
        connection.request("GET", path_of(self.name_of_log) + "/tail?start=first", headers=head)
        reply = connection.getresponse()
        if reply.status == 404:  # the keyspace comes later
            return
        self.connections += 1
        for line in reply:
            if line.startswith(b"data: ") and line.endswith(b"}\n"):
                r = json.loads(line[6:])
                self.got.append((r["offset"], r))
            elif line.startswith(b"event:"):
                self.problem = line.decode()
        connection.close()

    def text(self):
        return b"".join((r["record"].encode() if "record" in r else base64.b64decode(r["base64"])) + b"\n"
                        for _, r in self.got)


def read_forwards(address, name):
    """The log's bytes, a line for each record."""
    out, more = [], ""
    while True:
        reply, data = get(address, path_of(name) + "?encoding=lines&page_size=1999" + more)
        assert reply.status == 200, data
        out.append(data)
        token = reply.getheader("Varve-Continuation")
        if not token:
            return b"".join(out)
        more = "&continuation=" + token


def read_backwards(address, name):
    out, more = [], "&direction=backwards"
    while True:
        reply, data = get(address, path_of(name) + "?encoding=binary&page_size=1777" + more)
        assert reply.status == 200, data
        out += laid_out(data)
        token = reply.getheader("Varve-Continuation")
        if not token:
            break
        more = "&continuation=" + token
    assert [r[0] for r in out] == list(range(len(out), 0, -1)), "offsets"
    assert all(r[2] == r[0] - 1 for r in out), "nonces"
    return b"".join(r[3] + b"\n" for r in reversed(out))


def compare(address, files):
    for name, data in files.items():
        assert read_forwards(address, name) == data, f"{name} differs"
        assert read_backwards(address, name) == data, f"{name} read backwards differs"


def load_with_kills(s, address, load, total):
    loader, killed = subprocess.Popen(load), 0
    while loader.poll() is None and killed < 3:
        n = len(there(address))
        if killed < 2 and n > total * (killed + 1) // 4:
            s.kill()
            time.sleep(0.2)
            s.start()
            assert len(there(address)) >= n, "logs that were there are gone"
            killed += 1
            print(f"server killed with {n} of {total} logs")
        elif killed == 2 and n > total * 3 // 4:
            loader.kill()
            loader.wait()
            killed += 1
            print(f"loader killed with {n} of {total} logs")
            loader = subprocess.Popen(load)
        time.sleep(0.005)
    assert loader.wait() == 0, "the loader failed"
    assert killed == 3, "the load was over before it could be killed"


def main():
    home = pathlib.Path(tempfile.mkdtemp(prefix="varve-changelogs-"))
    packages = changelogs()
    dpkg, dpkg_path = dpkg_logs(home)
    files = {("changelogs", k): v for k, v in packages.items()}
    files.update({("dpkg", k): v for k, v in dpkg.items()})
    records = sum(v.count(b"\n") for v in files.values())
    address = lasting_address()  # the loader and the tails come back to it
    s = Server(home / "data", "--http", address, "--storage-memory-limit", "16m", "--storage-max-block-size", "1m",
               "--storage-checkpoint-interval", "1s")
    load = [sys.executable, LOADER, "--server", address, "--limit", str(len(packages)), "--dpkg", dpkg_path,
            "--batch", str(max(1, min(200, records // 1000)))]
    largest = sorted(files, key=lambda name: len(files[name]))[-3:]
    tails = [Tail(address, name) for name in largest]
    load_with_kills(s, address, load, len(packages))
    for t in tails:
        want = files[t.name_of_log]
        wait_until(lambda: t.problem or len(t.got) >= want.count(b"\n"))
        assert not t.problem, t.problem
        seen = [o for o, _ in t.got]
        wrong = next((i for i, o in enumerate(seen) if o != i + 1), len(seen))
        assert seen == list(range(1, want.count(b"\n") + 1)), (
            f"the tail of {t.name_of_log}, connected {t.connections} times, skipped or repeated: it saw {len(seen)} of "
            f"{want.count(bytes([10]))} records, in order the first {wrong}, then {seen[wrong:wrong + 3]}")
        assert t.text() == want, "a tail saw other bytes"
    again = subprocess.run(load, capture_output=True, text=True, check=True).stdout
    assert f"{records} of them were there already" in again, again
    compare(address, files)
    s.kill()
    s.start()
    compare(address, files)
    assert s.stop() == 0
    s.start()
    compare(address, files)
    assert subprocess.run(load + ["--verify"]).returncode == 0
    assert s.stop() == 0
    subprocess.run([VARVE, "check", "--data", str(s.data)], check=True, stdout=subprocess.DEVNULL)
    reconnects = sum(t.connections - 1 for t in tails)
    shutil.rmtree(home)
    print(f"{records} records in {len(files)} logs; tails of {sum(len(t.got) for t in tails)} records reconnected "
          f"{reconnects} times; read both ways after kills, after kill -9 and after an orderly stop: all equal")


if __name__ == "__main__":
    main()
