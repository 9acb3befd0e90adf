"""The bridge against librdkafka's mock cluster, or, where VARVE_TEST_KAFKA names one, a real Kafka; driven
through tests/kafka/kafka_tool.c."""
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from urllib.parse import unquote_to_bytes

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "s3"))

import ceph  # noqa: E402
from tiny_s3 import TinyS3  # noqa: E402

BUILD = (HERE.parents[1] / os.environ.get("VARVE_TEST_BUILD", "build/debug")).resolve()
VARVE, KAFKA_TOOL, LOG_TOOL = (str(BUILD / n) for n in
                               ("varve", "tests/kafka_tool", "tests/log_tool"))
REAL = os.environ.get("VARVE_TEST_KAFKA")
LOGIN = os.environ.get("VARVE_TEST_KAFKA_LOGIN")  # its listener that wants a login


def hexed(b):
    return "-" if b is None else b.hex() or "."


def unhexed(text):
    return None if text == "-" else b"" if text == "." else bytes.fromhex(text)


class Kafka:
    """One kafka_tool process. Topics get names of their own, so that one Kafka serves all tests."""

    def __init__(self, brokers=1, bootstrap=None):
        self.process = subprocess.Popen(
            [KAFKA_TOOL] + (["--bootstrap", bootstrap] if bootstrap else [str(brokers)]),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.bootstrap = self.process.stdout.readline().split()[1]
        self.is_mock = not bootstrap

    def call(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()
        out = []
        for line in self.process.stdout:
            line = line.rstrip("\n")
            if re.match("ok|error", line):
                assert line.startswith("ok"), line
                return out
            out.append(line)
        raise AssertionError("kafka_tool ended")

    def topic(self, name, partitions=4):
        self.call("topic", name, partitions)
        return name

    def produce(self, topic, partition, value, key=None, **headers):
        named = [w for k, v in headers.items() for w in (k, hexed(v))]
        self.call("produce", topic, partition, hexed(key), hexed(value), *named)

    def bulk(self, topic, first, count, size=100, keys=0):
        self.call("bulk", topic, first, count, size, keys)
        self.flush()

    def flush(self):
        self.call("flush")

    def read(self, topic):
        """(partition, offset, key, value, {header: value}) of all records."""
        out = []
        for line in self.call("read", topic):
            partition, offset, key, value, *headers = line.split(" ")
            pairs = (h.split("=", 1) for h in headers)
            out.append((int(partition), int(offset), unhexed(key), unhexed(value),
                        {k: unhexed(v) for k, v in pairs}))
        return out

    def committed(self, group, topic):
        lines = (line.split() for line in self.call("committed", group, topic))
        return {int(p): int(o) for p, o in lines}

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)


class Bridge:
    """`varve bridge` with a configuration, and what it says on standard error."""

    def __init__(self, tmp, name, sections, env=None):
        self.tmp, self.name, self.env = tmp, name, env or {}
        self.conf = tmp / f"{name}.ini"
        self.conf.write_text("".join(
            f"[{s}]\n" + "".join(f'{k}="{v}"\n' for k, v in keys.items())
            for s, keys in sections.items()))
        self.process = None
        self.log, self.begin = tmp / f"{name}.log", 0

    def start(self, **env):
        self.err = open(self.log, "ab")
        self.begin = self.err.tell()
        self.process = subprocess.Popen([VARVE, "bridge", "--config", str(self.conf)],
                                        stderr=self.err, env={**os.environ, **self.env, **env})
        return self

    def said(self):
        """Since it was started last."""
        return self.log.read_bytes()[self.begin:].decode()

    def wait(self, seconds=60):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError("the bridge goes on:\n" + self.said()) from None
        finally:
            self.err.close()

    def stop(self, seconds=60):
        self.process.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self):
        self.process.kill()
        return self.wait()

    def until(self, what, seconds=60, every=0.05):
        """Waits until `what` (a text that it says, or a function) holds, looking every so many seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if what in self.said() if isinstance(what, str) else what():
                return self
            assert self.process.poll() is None, "the bridge ended:\n" + self.said()
            time.sleep(every)
        raise AssertionError(f"waited for {what}:\n" + self.said())


def logs_in(directory):
    """{(keyspace, key)} of a directory of objects; names are bytes."""
    found = set()
    for path in pathlib.Path(directory).glob("*/*/data_*"):
        if not path.parent.parent.name.startswith("~"):
            found.add(tuple(unquote_to_bytes(p.name) for p in (path.parent.parent, path.parent)))
    return found


def read_log(directory, keyspace, key, backwards=False, page=1000, endpoint=None):
    """[(offset, timestamp, nonce or None, bytes)] by the stateless reader."""
    run = subprocess.run([LOG_TOOL, "-" if endpoint else str(directory), keyspace, key,
                          "backwards" if backwards else "forwards", str(page)],
                         capture_output=True, text=True,
                         env={**os.environ, "VARVE_TEST_S3": endpoint or ""})
    assert run.returncode == 0, run.stderr
    out = []
    for line in run.stdout.splitlines():
        offset, timestamp, nonce, data = line.split(" ")
        out.append((int(offset), int(timestamp), None if nonce == "-" else int(nonce),
                    unhexed(data)))
    return out


class Bucket:
    """The bucket of klstore's example, with its keys: `endpoint`, and `names()` of what is in it."""

    def __init__(self, endpoint, names):
        self.endpoint, self.names = endpoint, names


@pytest.fixture(scope="session")
def rgw():
    with ceph.gateway("test") as (endpoint, client):
        yield endpoint, client


@pytest.fixture
def bucket(request):
    """Empty: in Ceph where that is asked for (VARVE_TEST_RGW=1), else in a small S3 in this process."""
    if ceph.IS_ASKED_FOR:
        endpoint, client = request.getfixturevalue("rgw")
        ceph.fresh_bucket(client, "my-bucket")
        yield Bucket(endpoint, lambda: list(ceph.names(client, "my-bucket")))
        return
    with TinyS3() as s3:
        s3.buckets.add("my-bucket")
        s3.keys, s3.tokens = {"test": "test"}, {"test": "test"}
        yield Bucket(s3.endpoint, lambda: list(s3.objects))


@pytest.fixture
def kafka():
    k = Kafka(bootstrap=REAL) if REAL else Kafka()
    yield k
    k.close()


@pytest.fixture
def topic(request, kafka):
    """A name of the test's own."""
    return re.sub(r"\W", "-", request.node.name)[:80] + f"-{time.time_ns() % 10**9}"


@pytest.fixture
def bridge(tmp_path, kafka, topic):
    """Makes a bridge of these sections, put over the usual ones."""
    made = []

    def make(name="bridge", env=None, **sections):
        usual = {
            "batcher": {"batch_flush_interval_millis": 100, "batch_check_interval_millis": 20},
            "kafka": {"topic": topic, "group.id": "g-" + topic, "auto.offset.reset": "earliest",
                      "bootstrap.servers": kafka.bootstrap, "session.timeout.ms": 6000,
                      "heartbeat.interval.ms": 500, "offset_commit_interval_seconds": 1},
            "parser": {"nonce_parser": "RecordOffset", "timestamp_parser": "None",
                       "keyspace_parser": "Static(ks)", "key_parser": "RecordPartition"},
            "bridge": {"directory": tmp_path / "objects"},
        }
        for section, keys in sections.items():
            merged = {**usual.get(section, {}), **keys}
            usual[section] = {k: v for k, v in merged.items() if v is not None}
        made.append(Bridge(tmp_path, name, usual, env))
        return made[-1]

    yield make
    for b in made:
        if b.process and b.process.poll() is None:
            b.process.kill()
            b.process.wait()
