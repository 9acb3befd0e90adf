"""Real input: the Debian package index, produced through kcat with keys and headers, and klstore's example
configuration (example.ini, with other addresses) against a small S3, killed and rebalanced on the way. Then
every log is paged both ways by the stateless reader and held against what Kafka has, byte by byte."""
import itertools
import re
import subprocess
import time

import pytest

from conftest import HERE, REAL, Bridge, logs_in, read_log
from tiny_s3 import TinyS3

PARTITIONS = 4
MOST = None if REAL else 6000  # the mock cluster keeps 5 MB of a partition


def packages():
    """{section: [(name, stanza)]}, of at most MOST packages."""
    run = subprocess.run(["apt-cache", "dumpavail"], capture_output=True)
    if not run.stdout:
        subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=subprocess.DEVNULL)
        run = subprocess.run(["apt-cache", "dumpavail"], capture_output=True)
    found = {}
    stanzas = (s for s in run.stdout.split(b"\n\n") if s.startswith(b"Package: "))
    for stanza in itertools.islice(stanzas, MOST):
        section = re.search(rb"^Section: (.*)$", stanza, re.M)
        name = re.match(rb"Package: (.*)", stanza)[1]
        found.setdefault(section[1].decode() if section else "none", []).append((name, stanza))
    return found


def produce(kafka, topic, section, records):
    """One kcat a section, which is a header of all its records."""
    text = b"\x1e".join(name + b"\x1f" + stanza for name, stanza in records)
    subprocess.run(["kcat", "-P", "-b", kafka.bootstrap, "-t", topic, "-K", "\x1f", "-D", "\x1e",
                    "-H", f"section={section}"], input=text, check=True, capture_output=True)


@pytest.fixture
def s3():
    with TinyS3() as s:
        s.buckets.add("my-bucket")
        s.keys, s.tokens = {"test": "test"}, {"test": "test"}
        yield s


def stored(s3):
    """Records in the objects, by their names."""
    ends = {}
    for name in list(s3.objects):
        found = re.search(r"my_keyspace/(\d+)/data_o\d+-o(\d+)_.*_s(\d+)_", name)
        if found and int(found[3]):
            ends[found[1]] = max(ends.get(found[1], 0), int(found[2]))
    return sum(ends.values())


class Example(Bridge):
    def __init__(self, tmp, name, kafka, topic, s3):
        super().__init__(tmp, name, {})
        text = (HERE / "example.ini").read_text()
        for old, new in (("http://localhost:4566", s3.endpoint), ("127.0.0.1:9092", kafka.bootstrap),
                         ('"inbound"', f'"{topic}"'),
                         # Its group; and one killed is missed sooner than after 45 s.
                         ('"test_group"', f'"g-{topic}"\nsession.timeout.ms=6000')):
            assert old in text
            text = text.replace(old, new)
        self.conf.write_text(text)


@pytest.mark.slow
def test_the_package_index_by_klstores_example(kafka, topic, bridge, tmp_path, s3):
    kafka.topic(topic, PARTITIONS)
    sections = packages()
    total = sum(len(records) for records in sections.values())
    parts = list(sections.items())
    third = len(parts) // 3
    one, two = (Example(tmp_path, name, kafka, topic, s3) for name in ("one", "two"))
    for section, records in parts[:third]:
        produce(kafka, topic, section, records)
    one.start().until(lambda: stored(s3) > 0)
    one.kill()
    for section, records in parts[third:2 * third]:
        produce(kafka, topic, section, records)
    before = stored(s3)
    one.start().until(lambda: stored(s3) > before)
    one.kill()
    one.start().until("partitions_assigned")
    two.start()
    for section, records in parts[2 * third:]:
        produce(kafka, topic, section, records)
    two.until("partitions_assigned", 120)
    two.until(lambda: stored(s3) == total, 240)
    assert one.stop() == 0
    assert two.stop() == 0
    # A commit within a rebalance may be refused, so the last may be missing: once more, alone.
    for turn in range(10):
        if sum(kafka.committed("g-" + topic, topic).values()) == total:
            break
        alone = Example(tmp_path, f"alone{turn}", kafka, topic, s3)
        alone.start().until("partitions_assigned")
        time.sleep(2)
        assert alone.stop() == 0
    assert sum(kafka.committed("g-" + topic, topic).values()) == total

    there = kafka.read(topic)
    assert sorted(value for *_, value, _ in there) == sorted(
        stanza for records in sections.values() for _, stanza in records)
    for p in range(PARTITIONS):
        want = sorted((o + 1, o, value) for q, o, _, value, _ in there if q == p)
        for backwards in (False, True):
            got = read_log(None, "my_keyspace", str(p), backwards, 500, s3.endpoint)
            got = [(o, nonce, data) for o, _, nonce, data in got]
            assert got == (want[::-1] if backwards else want), f"partition {p}"

    if REAL:
        return  # so many logs take long
    # By name within its section, from key and header.
    by_name = bridge(name="names", kafka={"group.id": "names-" + topic},
                     parser={"keyspace_parser": "RecordHeader(section)", "key_parser": "RecordKey"})
    by_name.start().until(lambda: sum(kafka.committed("names-" + topic, topic).values()) == total, 240)
    assert by_name.stop() == 0
    want = {}
    for _, offset, key, value, headers in there:
        want.setdefault((headers["section"], key), []).append((offset, value))
    assert logs_in(tmp_path / "objects") == set(want)
    for (keyspace, key), records in itertools.islice(sorted(want.items()), 0, None, 50):
        got = read_log(tmp_path / "objects", keyspace.decode(), key.decode())
        assert [(nonce, data) for _, _, nonce, data in got] == records
