"""Real input: the Debian package index, produced through kcat with keys and headers, and klstore's example
configuration (example.ini) against Ceph's S3 gateway or a small S3, killed and rebalanced on the way. Then every log
is paged both ways by the stateless reader and held against what Kafka has, byte by byte."""
import itertools
import re
import subprocess

import pytest

from conftest import HERE, REAL, Bridge, logs_in, read_log

PARTITIONS = 4
MOST = None if REAL else 6000  # the mock cluster keeps 5 MB of a partition


def packages(most=MOST):
    """{section: [(name, stanza)]}, of at most so many packages."""
    run = subprocess.run(["apt-cache", "dumpavail"], capture_output=True)
    if not run.stdout:
        subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=subprocess.DEVNULL)
        run = subprocess.run(["apt-cache", "dumpavail"], capture_output=True)
    found = {}
    stanzas = (s for s in run.stdout.split(b"\n\n") if s.startswith(b"Package: "))
    for stanza in itertools.islice(stanzas, most):
        section = re.search(rb"^Section: (.*)$", stanza, re.M)
        name = re.match(rb"Package: (.*)", stanza)[1]
        found.setdefault(section[1].decode() if section else "none", []).append((name, stanza))
    return found


def produce(kafka, topic, section, records):
    """One kcat a section, which is a header of all its records."""
    text = b"\x1e".join(name + b"\x1f" + stanza for name, stanza in records)
    subprocess.run(["kcat", "-P", "-b", kafka.bootstrap, "-t", topic, "-K", "\x1f", "-D", "\x1e",
                    "-H", f"section={section}"], input=text, check=True, capture_output=True)


class Example(Bridge):
    """The example file. Other than in it are: the addresses, topic and group, in which tests differ; a killed bridge
    is missed after 6 s, not 45; and what a test asks for."""

    def __init__(self, tmp, name, kafka, topic, bucket, kafkas="", **parsers):
        super().__init__(tmp, name, {})
        text = (HERE / "example.ini").read_text()
        changes = [("http://localhost:4566", bucket.endpoint), ("127.0.0.1:9092", kafka.bootstrap),
                   ('"inbound"', f'"{topic}"'),
                   ('"test_group"', f'"g-{topic}"\nsession.timeout.ms=6000\n{kafkas}')]
        for key, value in parsers.items():
            old = re.search(rf'^{key}=.*$', text, re.M)[0]
            changes.append((old, f'{key}="{value}"'))
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.conf.write_text(text)


def stored(bucket):
    """Records in the objects, by their names."""
    ends = {}
    for name in bucket.names():
        found = re.match(r"([^~].*)/data_o\d+-o(\d+)_.*_s(\d+)_", name)
        if found and int(found[3]):
            ends[found[1]] = max(ends.get(found[1], 0), int(found[2]))
    return sum(ends.values())


def committed(kafka, topic):
    return sum(max(0, offset) for offset in kafka.committed("g-" + topic, topic).values())


def run_to_the_end(bridges, kafka, topic, bucket, total):
    """Until all is stored, then until all is committed: a commit within a rebalance may be refused, so it takes one
    more bridge, alone, if the last ones were."""
    bridges[0].until(lambda: stored(bucket) == total, 300, 0.5)
    for b in bridges:
        assert b.stop() == 0, b.said()
    if committed(kafka, topic) < total:
        bridges[0].start().until("partitions_assigned count=4").until(
            lambda: committed(kafka, topic) == total, 90, 0.5)
        assert bridges[0].stop() == 0


def check_logs(bucket, logs):
    """`logs`: {(keyspace, key): [(offset in Kafka, value)]}, and there is nothing else."""
    for (keyspace, key), records in logs.items():
        want = [(i + 1, offset, value) for i, (offset, value) in enumerate(records)]
        for backwards in (False, True):
            got = read_log(None, keyspace, key, backwards, 500, bucket.endpoint)
            got = [(o, nonce, data) for o, _, nonce, data in got]
            assert got == (want[::-1] if backwards else want), f"{keyspace}/{key}"
    assert stored(bucket) == sum(map(len, logs.values()))


def by_klstores_example(kafka, topic, tmp_path, bucket, strategy, sections):
    """Killed twice, then rebalanced with a second bridge."""
    kafka.topic(topic, PARTITIONS)
    total = sum(len(records) for records in sections.values())
    parts = list(sections.items())
    third = len(parts) // 3
    one, two = (Example(tmp_path, name, kafka, topic, bucket, strategy) for name in ("one", "two"))
    for section, records in parts[:third]:
        produce(kafka, topic, section, records)
    one.start().until(lambda: stored(bucket) > 0)
    one.kill()
    for section, records in parts[third:2 * third]:
        produce(kafka, topic, section, records)
    before = stored(bucket)
    one.start().until(lambda: stored(bucket) > before)
    one.kill()
    one.start().until("partitions_assigned")
    two.start()
    for section, records in parts[2 * third:]:
        produce(kafka, topic, section, records)
    two.until("partitions_assigned", 120)
    run_to_the_end((two, one), kafka, topic, bucket, total)

    there = kafka.read(topic)
    assert sorted((headers["section"].decode(), key, value) for _, _, key, value, headers in there) == sorted(
        (section, *record) for section, records in sections.items() for record in records)
    logs = {("my_keyspace", str(p)): [] for p in range(PARTITIONS)}
    for p, offset, _, value, _ in sorted(there, key=lambda r: r[:2]):
        logs["my_keyspace", str(p)].append((offset, value))
    check_logs(bucket, logs)


COOPERATIVE = "partition.assignment.strategy=cooperative-sticky"


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["", COOPERATIVE], ids=["example", "cooperative"])
def test_the_package_index_by_klstores_example(kafka, topic, tmp_path, bucket, strategy):
    by_klstores_example(kafka, topic, tmp_path, bucket, strategy, packages())


@pytest.mark.slow  # of librdkafka's mock cluster the one above has more
@pytest.mark.peers
@pytest.mark.ceph
def test_some_packages_by_klstores_example(kafka, topic, tmp_path, bucket):
    by_klstores_example(kafka, topic, tmp_path, bucket, COOPERATIVE, packages(4000))


@pytest.mark.slow
def test_the_package_index_by_section(kafka, topic, tmp_path, bucket):
    """A keyspace a section, from the header: some hundred logs, in two bridges one of which is killed."""
    kafka.topic(topic, PARTITIONS)
    sections = packages()
    total = sum(len(records) for records in sections.values())
    for section, records in sections.items():
        produce(kafka, topic, section, records)
    one, two = (Example(tmp_path, name, kafka, topic, bucket, keyspace_parser="RecordHeader(section)")
                for name in ("one", "two"))
    one.start().until("partitions_assigned")
    two.start().until("partitions_assigned")
    one.until(lambda: stored(bucket) > total // 10, every=0.3)
    one.kill()
    run_to_the_end((two,), kafka, topic, bucket, total)
    logs = {}
    for p, offset, _, value, headers in sorted(kafka.read(topic), key=lambda r: r[:2]):
        logs.setdefault((headers["section"].decode(), str(p)), []).append((offset, value))
    check_logs(bucket, logs)


@pytest.mark.slow
@pytest.mark.skipif(bool(REAL), reason="so many logs take long")
def test_the_package_index_by_name(kafka, topic, bridge, tmp_path):
    """A log a package in its section's keyspace, from key and header."""
    kafka.topic(topic, PARTITIONS)
    sections = packages()
    total = sum(len(records) for records in sections.values())
    for section, records in sections.items():
        produce(kafka, topic, section, records)
    b = bridge(parser={"keyspace_parser": "RecordHeader(section)", "key_parser": "RecordKey"})
    b.start().until(lambda: committed(kafka, topic) == total, 240)
    assert b.stop() == 0
    want = {}
    for _, offset, key, value, headers in kafka.read(topic):
        want.setdefault((headers["section"], key), []).append((offset, value))
    assert logs_in(tmp_path / "objects") == set(want)
    for (keyspace, key), records in itertools.islice(sorted(want.items()), 0, None, 50):
        for backwards in (False, True):
            got = read_log(tmp_path / "objects", keyspace.decode(), key.decode(), backwards)
            assert [(nonce, data) for _, _, nonce, data in got] == records[::-1 if backwards else 1]
