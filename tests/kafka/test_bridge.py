"""What a bridge does with records, end to end: Kafka, the bridge, a directory, the stateless reader."""
from conftest import logs_in, read_log


def count(tmp_path, keyspace="ks"):
    return sum(len(read_log(tmp_path / "objects", ks.decode(), key.decode()))
               for ks, key in logs_in(tmp_path / "objects"))


def test_records_arrive_and_are_committed(kafka, topic, bridge, tmp_path):
    kafka.topic(topic, 4)
    kafka.bulk(topic, 0, 4000)
    b = bridge().start()
    b.until(lambda: sum(kafka.committed("g-" + topic, topic).values()) == 4000)
    assert b.stop() == 0
    for p in range(4):
        want = [(n + 1, n, b"%020d" % (4 * n + p)) for n in range(1000)]
        got = [(o, nonce, data[:20]) for o, _, nonce, data in
               read_log(tmp_path / "objects", "ks", str(p))]
        assert got == want
