#!/usr/bin/python3
"""The Kafka bridge: messages a second from a topic of 8 partitions to the directory store, beside a consumer that
throws the same messages away (kcat), so that it can be told where Kafka is the limit.

  tools/build release && bench/bridge.py [--messages 4000000] [--size 100] [--rounds 3] [--batcher KEY=VALUE]...
                                         [--kafka KEY=VALUE]... [--keys N] [--server]

One Apache Kafka node on this machine (tests/kafka/kafka). Each round reads the topic from its beginning with a
group of its own into an empty directory. A rate is taken between the first and the last time that the bridge wrote
its metrics, while it had work: what is counted is stored, in objects that are synced. CPU is the bridge's, of
all its threads. Peak memory includes what librdkafka reads ahead. A log is a partition, or with --keys one of so
many keys, which come in turn. With --server the records go into a varve server, one of its own a round.
"""
import argparse
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "kafka"))
from conftest import Kafka  # noqa: E402

VARVE = ROOT / "build" / "release" / "varve"


def count(metrics):
    """(time, records stored, seconds when it was read) of a metrics file, or None."""
    try:
        at, text = metrics.stat().st_mtime, metrics.read_text()
    except FileNotFoundError:
        return None
    return at, int(re.search(r"^varve_bridge_stored_total (\d+)", text, re.M)[1])


def cpu_and_memory(pid):
    """(seconds, MiB at most) of a process."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    peak = re.search(r"VmHWM:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]
    return (int(fields[11]) + int(fields[12])) / 100, int(peak) / 1024


def serve(place):
    """A server on an empty directory: (process, address of its binary protocol)."""
    shutil.rmtree(place / "data", ignore_errors=True)
    server = subprocess.Popen([VARVE, "serve", "--data", place / "data", "--http", "off", "--zmq", "off",
                               "--binary", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.DEVNULL)
    for line in server.stdout:
        if line.startswith("listening binary"):
            return server, line.split()[2]
    sys.exit("the server does not start")


def bridge(place, bootstrap, topic, group, a):
    objects, metrics, conf = place / "objects", place / "metrics", place / "bridge.ini"
    shutil.rmtree(objects, ignore_errors=True)
    metrics.unlink(missing_ok=True)
    server, address = serve(place) if a.server else (None, None)
    conf.write_text(f"""[kafka]
topic = {topic}
group.id = {group}
bootstrap.servers = {bootstrap}
auto.offset.reset = earliest
offset_commit_interval_seconds = 1
{chr(10).join(a.kafka)}
[parser]
nonce_parser = RecordOffset
keyspace_parser = Static(bench)
key_parser = {"RecordKey" if a.keys else "RecordPartition"}
[batcher]
{chr(10).join(a.batcher)}
[bridge]
{f"server = {address}" if server else f"directory = {objects}"}
metrics_file = {metrics}
""")
    with open(place / "log", "wb") as log:
        process = subprocess.Popen([VARVE, "bridge", "--config", conf], stderr=log)
    first = last = None
    while not last or last[1] < a.messages:
        time.sleep(0.02)
        if process.poll() is not None:
            sys.exit("the bridge ended:\n" + (place / "log").read_text())
        now = count(metrics)
        if now and now[1] and now != last:
            first, last = first or now, now
    cpu, peak = cpu_and_memory(process.pid)
    process.send_signal(signal.SIGTERM)
    process.wait()
    if server:
        server.terminate()
        server.wait()
    span = last[0] - first[0]
    return (last[1] - first[1]) / span if span else float("inf"), cpu * 1e6 / a.messages, peak


def discard(bootstrap, topic, messages):
    begin = time.monotonic()
    subprocess.run(["kcat", "-C", "-b", bootstrap, "-t", topic, "-o", "beginning", "-e", "-q", "-f", ""],
                   check=True, stdout=subprocess.DEVNULL)
    return messages / (time.monotonic() - begin)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--messages", type=int, default=4_000_000)
    p.add_argument("--size", type=int, default=100)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--keys", type=int, default=0)
    p.add_argument("--server", action="store_true")
    p.add_argument("--batcher", action="append", default=[], metavar="KEY=VALUE")
    p.add_argument("--kafka", action="append", default=[], metavar="KEY=VALUE")
    a = p.parse_args()
    place = pathlib.Path(tempfile.mkdtemp(prefix="varve-bench-bridge-"))
    script = ROOT / "tests" / "kafka" / "kafka"
    try:
        bootstrap = subprocess.run([script, "start", place / "kafka"], check=True, text=True,
                                   stdout=subprocess.PIPE).stdout.strip()
        kafka = Kafka(bootstrap=bootstrap)
        kafka.topic("bench", 8)
        for first in range(0, a.messages, 500_000):
            kafka.bulk("bench", first, min(500_000, a.messages - first), a.size, a.keys)
        kafka.close()
        for r in range(a.rounds):
            rate, cpu, peak = bridge(place, bootstrap, "bench", f"group{r}", a)
            print(f"round {r}: bridge {rate / 1e3:.0f}k/s, {cpu:.2f} us of CPU a message, peak "
                  f"{peak:.0f} MiB; discarding {discard(bootstrap, 'bench', a.messages) / 1e3:.0f}k/s",
                  flush=True)
    finally:
        subprocess.run([script, "stop", place / "kafka"])
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
