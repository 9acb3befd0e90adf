"""A bridge into a varve server."""
import importlib.util
import time

import pytest

from conftest import HERE

spec = importlib.util.spec_from_file_location("blackbox", HERE.parent / "blackbox" / "conftest.py")
blackbox = importlib.util.module_from_spec(spec)
spec.loader.exec_module(blackbox)


@pytest.fixture
def server(tmp_path):
    s = blackbox.Server(tmp_path / "data")
    yield s
    if s.process.poll() is None:
        s.process.kill()
        s.process.wait()


def records(server, keyspace, key):
    b = blackbox.Binary(server.port("binary"))
    out = [(offset, nonce, data) for offset, _, nonce, data in b.log_all(keyspace, key)]
    b.close()
    return out


def into(server):
    return {"directory": None, "server": "%s:%d" % server.port("binary")}


def test_records_arrive_in_a_server(kafka, topic, bridge, server):
    kafka.topic(topic, 4)
    kafka.bulk(topic, 0, 10000, 100, 40)  # ten keys in each partition
    b = bridge(bridge=into(server), parser={"key_parser": "RecordKey"}).start()
    b.until(lambda: sum(kafka.committed("g-" + topic, topic).values()) == 10000)
    assert b.stop() == 0
    for k in range(40):
        want = [(n + 1, (40 * n + k) // 4, b"%020d" % (40 * n + k)) for n in range(250)]
        got = [(o, nonce, data[:20]) for o, nonce, data in records(server, b"ks", b"k%d" % k)]
        assert got == want


@pytest.mark.slow
def test_kills_of_either_lose_and_double_nothing(kafka, topic, bridge, server):
    kafka.topic(topic, 2)
    b = bridge(bridge=into(server))
    total = 0
    for point in ("bridge_taken:700", "bridge_flushed:2", "bridge_committed:1"):
        kafka.bulk(topic, total, 2000)
        total += 2000
        b.start(VARVE_TEST_CRASH=point)
        time.sleep(5)
        b.kill()
    b.start().until("partitions_assigned")
    server.kill()
    kafka.bulk(topic, total, 2000)
    total += 2000
    assert b.wait() == 3
    assert "server 127.0.0.1" in b.said()
    server.start()
    b = bridge(name="again", bridge=into(server)).start()
    b.until(lambda: sum(kafka.committed("g-" + topic, topic).values()) == total)
    assert b.stop() == 0
    for p in range(2):
        got = [(o, nonce, data[:20]) for o, nonce, data in records(server, b"ks", b"%d" % p)]
        assert got == [(n + 1, n, b"%020d" % (2 * n + p)) for n in range(total // 2)]
