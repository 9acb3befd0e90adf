"""Processes, the load generator and what is kept of a measurement. Standard library only.

Everything started here dies with the script: a child gets SIGKILL when its parent ends
(PR_SET_PDEATHSIG), and stop_all() runs at the end in every case.
"""
import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
START_SECONDS = 60
RUN_SECONDS = 900  # a load run may take at most; the longest loads 10 million keys

_libc = ctypes.CDLL(None, use_errno=True)
_running = []


class Failed(Exception):
    """What kept a row from being measured, for the reader of the table."""


class Missing(Failed):
    """A program to compare with is not installed."""


def _die_with_parent():
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def spawn(command, **kwargs):
    """Popen of a process that cannot outlive this one."""
    process = subprocess.Popen([str(c) for c in command], preexec_fn=_die_with_parent,
                               stdin=subprocess.DEVNULL, **kwargs)
    _running.append(process)
    return process


def output_of(command, seconds=RUN_SECONDS):
    """Runs a command to its end: (exit status, standard output, standard error)."""
    p = spawn(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = p.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        p.kill()
        p.communicate()
        raise Failed(f"{pathlib.Path(command[0]).name} did not end in {seconds} s") from None
    finally:
        if p.poll() is not None:
            _running.remove(p)
    return p.returncode, out, err


def stop_all():
    for p in _running:
        if p.poll() is None:
            p.kill()
            p.wait()
    _running.clear()


def program(name, deps="bench"):
    """The path of an installed peer."""
    path = shutil.which(name)
    if not path:
        raise Missing(f"{name} is not installed (tools/deps {deps})")
    return path


def free_port():
    """A port that was free just now. Always of five digits, so that requests that name it are of
    one length."""
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        if port >= 10000:
            return port


class Server:
    """A server process: started, paused while another one is measured, and killed."""

    def __init__(self, command, log):
        self.log = pathlib.Path(log)
        with open(self.log, "ab") as err:
            self.process = spawn(command, stdout=subprocess.PIPE, stderr=err, text=True)
        self.paused = False

    @property
    def pid(self):
        return self.process.pid

    def fail(self, what):
        tail = self.log.read_text(errors="replace").strip().splitlines()[-3:]
        raise Failed(f"{what}: " + (" | ".join(tail) or "no word on standard error"))

    def wait_for_port(self, port):
        """For servers that do not say when they are ready."""
        # Not a pipe that nobody reads.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        self.fail(f"{type(self).__name__.lower()} did not start")

    def pause(self):
        if not self.paused and self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        if self.process.poll() is not None:
            self.fail(f"{type(self).__name__.lower()} ended with {self.process.returncode}")
        self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def memory(self, field="VmRSS"):
        """Resident bytes now, or ever (VmHWM)."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise Failed(f"no {field} in /proc/{self.pid}/status")

    def end(self, sig=signal.SIGKILL):
        """Ends it and waits; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(sig)
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise Failed(f"{type(self).__name__.lower()} did not stop in 120 s") from None
        if self.process in _running:
            _running.remove(self.process)
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        ended = self.process.poll()
        self.end()
        if isinstance(error, Failed) and ended is not None:
            tail = self.log.read_text(errors="replace").strip().splitlines()[-3:]
            raise Failed(f"{error}; {type(self).__name__.lower()} had ended with {ended}: "
                         + " | ".join(tail)) from error


class Varve(Server):
    """`varve serve`, with its defaults but for the flags given."""

    def __init__(self, bench, data, *flags):
        begin = time.monotonic()
        super().__init__([bench.build / "varve", "serve", "--data", data,
                          "--http", f"127.0.0.1:{free_port()}",
                          "--binary", f"127.0.0.1:{free_port()}",
                          *(() if "--zmq" in flags else ("--zmq", "off")), *flags], f"{data}.log")
        self.data = data
        self.address = {}
        for line in self.process.stdout:
            word = line.split()
            if word[0] == "listening":
                self.address[word[1]] = word[2]
            if word[0] == "ready":
                break
        else:
            self.fail("varve did not start")
        self.ready_seconds = time.monotonic() - begin  # from exec to ready

    @property
    def http(self):
        return self.address["http"]

    @property
    def binary(self):
        return self.address["binary"]

    def metrics(self):
        url = f"http://{self.http}/metrics"
        with urllib.request.urlopen(url, timeout=30) as reply:
            lines = reply.read().decode().splitlines()
        return {name: float(value) for name, value in
                (line.split() for line in lines if line and not line.startswith("#"))}

    def wait_for_metric(self, good, seconds):
        """Until good(metrics) holds; False if it never does."""
        end = time.monotonic() + seconds
        while not good(self.metrics()):
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True


class Side:
    """One measured subject: a name, what it was measured under, and a result a round."""

    def __init__(self, row, name, fsync):
        self.row, self.name, self.fsync = row, name, fsync
        self.rounds = []

    def median(self, field):
        values = [r[field] for r in self.rounds if r.get(field) is not None]
        return statistics.median(values) if values else None

    def total(self, field):
        values = [r[field] for r in self.rounds if r.get(field) is not None]
        return sum(values) if values else None

    def as_dict(self):
        fields = ("rate", "objects", "p50", "p95", "p99", "cpu", "cpu_object")
        totals = ("hits", "misses", "conflicts", "errors")
        return {"row": self.row, "name": self.name, "fsync": self.fsync,
                **{f: self.median(f) for f in fields}, **{f: self.total(f) for f in totals},
                "rounds": self.rounds}


def flatten(run):
    """What is kept of one JSON object of the load generator."""
    latency = run["latency_us"]
    return {"rate": run["requests_per_second"], "objects": run["objects_per_second"],
            "p50": latency["p50"], "p95": latency["p95"], "p99": latency["p99"],
            "cpu": run["server_cpu_us_per_request"],
            "cpu_object": run.get("server_cpu_us_per_object"), "requests": run["requests"],
            "hits": run["hits"], "misses": run["misses"], "conflicts": run["conflicts"],
            "errors": run["errors"]}


class Bench:
    """What all rows share: options, the temporary directory, the load generator, the results."""

    def __init__(self, options):
        self.options = options
        self.build = (ROOT / options.build).resolve()
        self.rounds = options.rounds
        self.cores = os.cpu_count()
        self.sides = []
        self.checks = []
        self.row = 0
        self.temp = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=ROOT / "build"))
        self._names = 0
        self._loaded = None

    def close(self):
        if self._loaded:
            self._loaded.end()
        stop_all()
        shutil.rmtree(self.temp, ignore_errors=True)

    def path(self, name):
        """A path in the temporary directory that does not exist yet."""
        self._names += 1
        return self.temp / f"{name}-{self._names}"

    def tool(self, name):
        return self.build / "bench" / name

    def varve(self, *flags, data=None):
        return Varve(self, data or self.path("varve"), *flags)

    # ---- the load generator

    def load_runs(self, address, pid, *flags, threads=None, timed=True):
        """Runs `varve bench`; one dict a run. Errors in replies are a failure of the row."""
        o = self.options
        command = [self.build / "varve", "bench", "--json", "--server", address,
                   "--server-pid", pid, "--threads", threads or o.client_threads]
        if timed:
            command += ["--duration", f"{int(o.duration * 1000)}ms",
                        "--warmup", f"{int(o.warmup * 1000)}ms"]
        status, out, err = output_of(command + list(flags))
        runs = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        if status or not runs or any(r["errors"] for r in runs):
            raise Failed(f"varve bench {' '.join(map(str, flags))} ended with {status}: "
                         f"{(err or out).strip()[-300:]}")
        return [flatten(r) for r in runs]

    def load(self, *args, **kwargs):
        """One run."""
        return self.load_runs(*args, **kwargs)[0]

    def fill(self, server, protocol, address, keys, value_size):
        """Writes the key space; afterwards GETs of it must hit."""
        self.load(address, server.pid, "--preset", "binary-get", "--protocol", protocol,
                  "--requests", 1, "--pipeline", 1, "--keys", keys, "--value-size", value_size,
                  timed=False)

    def fill_logs(self, address, pid, records, *, logs=1, value_size=100, protocol="binary"):
        """Writes logs of so many records each; afterwards reads, tails and seeks find them."""
        self.load(address, pid, "--protocol", protocol, "--op", "read", "--load", "--requests", 1,
                  "--connections", 1, "--keys", records, "--logs", logs, "--value-size", value_size,
                  threads=1, timed=False)

    def probe(self, address, *flags):
        """The bytes of each message of one connection of `varve bench`, in turn: [(request,
        reply), ...]. It goes through a relay, since the load generator lays out the requests."""
        relay = Relay(address)
        status, out, err = output_of(
            [self.build / "varve", "bench", "--json", "--server", relay.address,
             "--threads", 1, "--pipeline", 1, "--no-load", *flags, "--connections", 1], 60)
        exchanges = relay.finish()
        if status or not exchanges:
            raise Failed(f"probe {' '.join(map(str, flags))}: {(err or out).strip()[-300:]}")
        return exchanges

    # ---- measuring

    def side(self, name, fsync="-"):
        s = Side(self.row, name, fsync)
        self.sides.append(s)
        return s

    def alternate(self, *subjects, rounds=None):
        """Rounds of A, B, A, B...; each subject is (side, server or None, function that measures
        once). While one is measured the other servers do not run at all."""
        servers = [server for _, server, _ in subjects if server]
        for server in servers:
            server.pause()
        for _ in range(rounds or self.rounds):
            for side, server, measure in subjects:
                if server:
                    server.resume()
                side.rounds.append(measure())
                if server:
                    server.pause()
        for server in servers:
            server.resume()

    # ---- results

    def check(self, what, value, unit, against, ratio, target, reached, note=""):
        """One line of the table. reached: True, False, or None when there is no target."""
        self.checks.append({"row": self.row, "what": what, "value": value, "unit": unit,
                            "against": against, "ratio": ratio, "target": target,
                            "reached": reached, "note": note})

    def compare(self, what, value, unit, peer_name, peer, at_least=None, note=""):
        """A line with value / peer; at_least: the ratio to reach, or None."""
        ratio = value / peer if peer else None
        target = f"≥ {at_least:g} ×" if at_least else ""
        reached = None if at_least is None else bool(ratio and ratio >= at_least)
        self.check(what, value, unit, f"{peer_name}: {number(peer)}", ratio, target, reached, note)

    def loaded(self):
        """The server with the large key space of rows 9 and 10, loaded once in a session."""
        if not self._loaded:
            self._loaded = LargeSpace(self)
        return self._loaded


class LargeSpace:
    """A server with many keys of 15 bytes and values of 100, and what its memory was."""

    KEY, VALUE = 15, 100

    def __init__(self, bench):
        self.bench = bench
        self.keys = bench.options.keys
        # Room for all keys as dirty entries, so that nothing is evicted or waits.
        self.flags = ["--storage-memory-limit", "16g"]
        if bench.options.quick:
            self.flags += ["--storage-checkpoint-interval", "3s"]
        self.server = bench.varve(*self.flags)
        self.rss_empty = self.server.memory()
        self.fill()
        self.rss_loaded = self.server.memory()
        self.metrics = self.server.metrics()

    def fill(self):
        self.bench.fill(self.server, "binary", self.server.binary, self.keys, self.VALUE)

    def settle(self):
        """Waits until all is checkpointed; False if that did not come."""
        return self.server.wait_for_metric(lambda m: m["varve_entries_dirty"] == 0, 180)

    def restart(self, sig):
        """Ends the server by a signal and starts it again; seconds until ready."""
        self.server.end(sig)
        self.server = self.bench.varve(*self.flags, data=self.server.data)
        return self.server.ready_seconds

    def end(self):
        self.server.end()


class Relay:
    """Passes one connection on to a server and counts the bytes of each message."""

    def __init__(self, address):
        self.upstream = address
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", free_port()))
        self.listener.listen(1)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.messages = []  # [who, bytes]; who speaks changes with each
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        self.listener.settimeout(30)
        try:
            client, _ = self.listener.accept()
        except OSError:
            return
        host, port = self.upstream.rsplit(":", 1)
        server = socket.create_connection((host, int(port)), 10)
        back = threading.Thread(target=self._pass, args=(server, client, "reply"), daemon=True)
        back.start()
        self._pass(client, server, "request")
        back.join(10)
        client.close()
        server.close()

    def _pass(self, source, to, who):
        while True:
            try:
                data = source.recv(1 << 20)
            except OSError:
                data = b""
            if not data:
                try:
                    to.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                return
            if self.messages and self.messages[-1][0] == who:
                self.messages[-1][1] += len(data)
            else:
                self.messages.append([who, len(data)])
            to.sendall(data)

    def finish(self):
        self.thread.join(30)
        self.listener.close()
        sizes = [n for _, n in self.messages]
        return list(zip(sizes[0::2], sizes[1::2]))


def number(v):
    """A number for people: three digits that count."""
    if v is None:
        return "-"
    if isinstance(v, int) and abs(v) < 1e4:
        return str(v)
    if abs(v) >= 1e6:
        return f"{v / 1e6:.2f}M"
    if abs(v) >= 1e4:
        return f"{v / 1e3:.1f}k"
    if abs(v) >= 100:
        return f"{v:.0f}"
    if abs(v) >= 10:
        return f"{v:.1f}"
    return f"{v:.2f}"
