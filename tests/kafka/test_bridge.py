"""What a bridge does with records, end to end: Kafka, the bridge, a directory, the stateless reader."""
import random
import signal
import struct
import time

import pytest

from conftest import REAL, logs_in, read_log


def bodies(tmp_path, key, keyspace="ks"):
    return [data for _, _, _, data in read_log(tmp_path / "objects", keyspace, key)]


def check_bulk(tmp_path, partitions, total, endpoint=None):
    """Every log holds exactly its partition's records of a bulk, each once, in order."""
    for p in range(partitions):
        want = [(i + 1, i, b"%020d" % (partitions * i + p)) for i in range(total // partitions)]
        got = [(o, nonce, data[:20]) for o, _, nonce, data in
               read_log(tmp_path / "objects", "ks", str(p), endpoint=endpoint)]
        assert got == want, f"partition {p}"


def all_committed(kafka, topic, total):
    return lambda: sum(kafka.committed("g-" + topic, topic).values()) == total


@pytest.mark.peers
def test_records_arrive_and_are_committed(kafka, topic, bridge, tmp_path):
    kafka.topic(topic, 4)
    kafka.bulk(topic, 0, 4000)
    b = bridge().start().until(all_committed(kafka, topic, 4000))
    assert b.stop() == 0
    check_bulk(tmp_path, 4, 4000)
    for p in range(4):
        forwards = read_log(tmp_path / "objects", "ks", str(p), page=7)
        assert forwards == read_log(tmp_path / "objects", "ks", str(p), True, 13)[::-1]


@pytest.mark.slow
def test_a_signal_stores_and_commits(kafka, topic, bridge, tmp_path):
    kafka.topic(topic, 4)
    b = bridge(kafka={"offset_commit_interval_seconds": 3600},
               batcher={"batch_flush_interval_millis": 3600000}).start()
    kafka.bulk(topic, 0, 1000)
    b.until("partitions_assigned")
    time.sleep(2)
    assert b.stop() == 0
    stored = sum(len(bodies(tmp_path, str(p))) for p in range(4))
    assert stored == sum(kafka.committed("g-" + topic, topic).values()) > 0
    bridge(name="again").start().until(all_committed(kafka, topic, 1000)).stop()
    check_bulk(tmp_path, 4, 1000)


SETTINGS = {
    "least": {"s3": {"max_cached_keys": 1, "compact_records_threshold": 1, "compact_size_threshold": 1,
                     "compact_objects_threshold": 2},
              "batcher": {"writer_thread_count": 64, "writer_thread_queue_capacity": 1,
                          "batch_check_interval_millis": 1, "batch_flush_interval_millis": 1,
                          "batch_flush_record_count_threshold": 1, "batch_flush_size_threshold": 1},
              "bridge": {"queue_bytes": "64k", "memory_bytes": "64k"}},
    "most": {"s3": {"max_cached_keys": 10**8, "compact_records_threshold": 10**9, "compact_size_threshold": "1g",
                    "compact_objects_threshold": 10**6},
             "batcher": {"writer_thread_queue_capacity": 10**12, "batch_check_interval_millis": 3600000,
                         "batch_flush_interval_millis": 86400000,
                         "batch_flush_record_count_threshold": 2**64 - 1,
                         "batch_flush_size_threshold": 2**64 - 1},
             "bridge": {"queue_bytes": "1024g", "memory_bytes": "1024g"}},
    # Records that fill the queue, and a thread that looks once an hour.
    "mixed": {"batcher": {"batch_check_interval_millis": 3600000}, "bridge": {"queue_bytes": "64k"}},
}


@pytest.mark.parametrize("extreme", [pytest.param("least", marks=pytest.mark.slow),
                                     pytest.param("most", marks=pytest.mark.slow), "mixed"])
def test_settings_at_their_extremes(kafka, topic, bridge, tmp_path, extreme):
    kafka.topic(topic, 2)
    random.seed(1)
    sent = [[], []]
    for i in range(100):
        sent[i % 2].append(b"%d " % i * random.choice([0, 1, 30, 10000, 50000]))
        kafka.produce(topic, i % 2, sent[i % 2][-1])
    kafka.flush()
    b = bridge(**SETTINGS[extreme]).start().until(all_committed(kafka, topic, 100))
    assert b.stop() == 0
    assert [bodies(tmp_path, "0"), bodies(tmp_path, "1")] == sent


BIG, LITTLE = struct.pack(">Q", 77), struct.pack("<Q", 77)
TEXT_PARSERS = [("Static(some (text))", b"some (text)"), ("RecordHeader(h)", "h\u00e9ad".encode()),
                ("RecordKey", b"\x37\x37"), ("RecordPartition", b"2")]
NUMBER_PARSERS = [("None", None), ("RecordHeaderBigEndian(b)", 77),
                  ("RecordHeaderLittleEndian(l)", 77), ("RecordHeaderUtf8(u)", 77),
                  ("RecordKeyBigEndian", 0x3737), ("RecordKeyLittleEndian", 0x3737),
                  ("RecordKeyUtf8", 77), ("RecordOffset", 1), ("RecordPartition", 2)]


def test_every_parser(kafka, topic, bridge, tmp_path):
    """Each of every kind in turn, all at once; the second of two records is the one looked at."""
    kafka.topic(topic, 4)
    for _ in range(2):
        kafka.produce(topic, 2, b"value", b"\x37\x37", h="h\u00e9ad".encode(), b=BIG, l=LITTLE,
                      u=b"77")
    kafka.flush()
    begin, running = time.time_ns() // 10**6, []
    for i in range(len(NUMBER_PARSERS)):
        kinds = (TEXT_PARSERS[i % 4], TEXT_PARSERS[(i + 1) % 4], NUMBER_PARSERS[i],
                 NUMBER_PARSERS[(i + 3) % 9])
        names = ("keyspace_parser", "key_parser", "nonce_parser", "timestamp_parser")
        running.append((bridge(
            name=f"b{i}", kafka={"group.id": f"{topic}-{i}"},
            bridge={"directory": tmp_path / f"objects{i}"},
            parser=dict(zip(names, (k[0] for k in kinds)))).start(), kinds))
    for i, (b, (keyspace, key, nonce, stamp)) in enumerate(running):
        b.until(lambda: kafka.committed(f"{topic}-{i}", topic)[2] == 2)
        assert b.stop() == 0
        directory = tmp_path / f"objects{i}"
        assert logs_in(directory) == {(keyspace[1], key[1])}
        records = read_log(directory, keyspace[1].decode(), key[1].decode())
        twice = nonce[0] in ("None", "RecordOffset")  # else the second has the same: a duplicate
        assert len(records) == 1 + twice
        _, timestamp, got, data = records[-1]
        assert data == b"value" and got == nonce[1]
        if stamp[0] == "None":
            assert begin <= timestamp <= time.time_ns() // 10**6
        else:
            assert timestamp == (0 if stamp[0] == "RecordOffset" and not twice else stamp[1])


def bad_topic(kafka, topic):
    """Four records, the second and third bad in two ways for nonces from header n."""
    kafka.topic(topic, 1)
    kafka.produce(topic, 0, b"one", b"k", n=b"1")
    kafka.produce(topic, 0, b"two", b"k")
    kafka.produce(topic, 0, b"three", b"k", n=b"3x", other=b"\xff")
    kafka.produce(topic, 0, b"four", b"k", n=b"4")
    kafka.flush()
    return {"parser": {"nonce_parser": "RecordHeaderUtf8(n)"}}


@pytest.mark.slow
def test_a_bad_record_stops_it(kafka, topic, bridge, tmp_path):
    b = bridge(**bad_topic(kafka, topic)).start()
    assert b.wait() == 2
    assert 'partition 0, offset 1: it has no header "n"' in b.said()
    assert "on_bad_record" in b.said()
    assert bodies(tmp_path, "0") == [b"one"]
    assert kafka.committed("g-" + topic, topic) == {0: 1}


@pytest.mark.slow
def test_bad_records_are_skipped(kafka, topic, bridge, tmp_path):
    metrics = tmp_path / "metrics"
    b = bridge(**bad_topic(kafka, topic),
               bridge={"on_bad_record": "skip", "metrics_file": metrics}).start()
    b.until(all_committed(kafka, topic, 4))
    assert b.stop() == 0
    assert bodies(tmp_path, "0") == [b"one", b"four"]
    assert "bad_record partition=0 offset=1 goes=skip" in b.said()
    assert "bad_record partition=0 offset=2 goes=skip" in b.said()
    assert "varve_bridge_bad_records_total 2\n" in metrics.read_text()
    assert "varve_bridge_records_total 4\n" in metrics.read_text()


@pytest.mark.peers
def test_bad_records_become_dead_letters(kafka, topic, bridge, tmp_path):
    dead = kafka.topic(topic + "-dead", 1)
    b = bridge(**bad_topic(kafka, topic),
               bridge={"on_bad_record": "dead_letter", "dead_letter_topic": dead}).start()
    b.until(all_committed(kafka, topic, 4))
    assert b.stop() == 0
    assert bodies(tmp_path, "0") == [b"one", b"four"]
    letters = kafka.read(dead)
    assert [(key, value) for _, _, key, value, _ in letters] == [(b"k", b"two"), (b"k", b"three")]
    first, second = (headers for *_, headers in letters)
    assert first == {"varve.error": b'it has no header "n"', "varve.topic": topic.encode(),
                     "varve.partition": b"0", "varve.offset": b"1"}
    assert second["n"] == b"3x" and second["other"] == b"\xff"
    assert second["varve.offset"] == b"2" and b"3x" in second["varve.error"]


@pytest.mark.slow
@pytest.mark.skipif(bool(REAL), reason="errors are the mock cluster's")
def test_no_offset_passes_a_dead_letter_that_did_not_arrive(kafka, topic, bridge, tmp_path):
    dead = kafka.topic(topic + "-dead", 1)
    kafka.call("topic-error", dead, 29)  # TOPIC_AUTHORIZATION_FAILED
    b = bridge(**bad_topic(kafka, topic), kafka={"message.timeout.ms": 3000},
               bridge={"on_bad_record": "dead_letter", "dead_letter_topic": dead}).start()
    assert b.wait() == 3
    assert f"dead letters are not in topic {dead}" in b.said()
    assert kafka.committed("g-" + topic, topic) == {0: -1}


@pytest.mark.slow
def test_names_that_are_none_are_bad(kafka, topic, bridge, tmp_path):
    kafka.topic(topic, 1)
    for key in (b"good", b"\xff", None, b"", b"x" * 5000):
        kafka.produce(topic, 0, b"v", key)
    kafka.flush()
    b = bridge(parser={"key_parser": "RecordKey"}, bridge={"on_bad_record": "skip"}).start()
    b.until(all_committed(kafka, topic, 5))
    assert b.stop() == 0
    said = b.said()
    for offset, why in ((1, "its key is not UTF-8"), (2, "it has no key"), (3, "its key is empty")):
        assert f'bad_record partition=0 offset={offset} goes=skip why="{why}"' in said
    assert "bad_record partition=0 offset=4" in said
    assert logs_in(tmp_path / "objects") == {(b"ks", b"good")}


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["keep", "skip"])
def test_tombstones(kafka, topic, bridge, tmp_path, policy):
    kafka.topic(topic, 1)
    for value in (b"a", None, b"", b"b"):
        kafka.produce(topic, 0, value, b"k")
    kafka.flush()
    b = bridge(bridge={"on_tombstone": policy, "metrics_file": tmp_path / "metrics"}).start()
    b.until(all_committed(kafka, topic, 4))
    assert b.stop() == 0
    want = [b"a", b"", b"", b"b"] if policy == "keep" else [b"a", b"", b"b"]
    assert bodies(tmp_path, "0") == want
    assert "varve_bridge_tombstones_total 1\n" in (tmp_path / "metrics").read_text()


def test_two_partitions_that_feed_one_log_are_noticed(kafka, topic, bridge, tmp_path):
    kafka.topic(topic, 2)
    for p in (0, 1):
        for i in range(3):
            kafka.produce(topic, p, b"%d-%d" % (p, i), b"key%d" % p)
    kafka.flush()
    parser = {"key_parser": "RecordKey"}
    b = bridge(parser=parser).start().until(all_committed(kafka, topic, 6))
    kafka.produce(topic, 1, b"1-3", b"key0")
    kafka.flush()
    assert b.wait() == 2
    assert 'partitions 0 and 1 (offset 3) both feed the log "ks/key0"' in b.said()
    assert "key_parser or keyspace_parser be RecordPartition" in b.said()
    assert bodies(tmp_path, "key0") == [b"0-0", b"0-1", b"0-2"]
    assert kafka.committed("g-" + topic, topic)[1] == 3
    # With nonces that are not offsets it is nobody's business.
    b = bridge(name="b", parser={**parser, "nonce_parser": "None"}).start()
    b.until(all_committed(kafka, topic, 7))
    assert b.stop() == 0
    assert bodies(tmp_path, "key0") == [b"0-0", b"0-1", b"0-2", b"1-3"]


def test_one_log_for_all_is_refused_at_once(kafka, topic, bridge, tmp_path):
    kafka.topic(topic, 2)
    b = bridge(parser={"key_parser": "Static(all)"}).start()
    assert b.wait() == 2
    assert "has 2 partitions, which would all feed the log" in b.said()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_kills_lose_and_double_nothing(kafka, topic, bridge, tmp_path, seed):
    random.seed(seed)
    total, given = 20000, 0
    kafka.topic(topic, 4)
    b = bridge(batcher={"batch_flush_size_threshold": 20000},
               s3={"compact_records_threshold": 500, "compact_objects_threshold": 5})
    for turn in range(6):
        kafka.bulk(topic, given, total // 8)
        given += total // 8
        if turn % 2:
            b.start()
            time.sleep(random.random() * 3)
            b.kill()
        else:
            point = random.choice(["bridge_taken", "bridge_flushed", "bridge_committed"])
            nth = random.randrange(1, 3000 if point == "bridge_taken" else 4)
            b.start(VARVE_TEST_CRASH=f"{point}:{nth}")
            time.sleep(4)
            b.kill()
    kafka.bulk(topic, given, total - given)
    b.start().until(all_committed(kafka, topic, total))
    assert b.stop() == 0
    check_bulk(tmp_path, 4, total)


STEPS = ["bridge_taken", "archive_before_intent", "archive_after_intent", "archive_after_put",
         "archive_merge_before_put", "archive_merge_after_put", "archive_merge_deleted",
         "archive_watermark", "bridge_flushed", "bridge_committed"]


@pytest.mark.slow
@pytest.mark.parametrize("sink", ["directory", "s3"])
def test_killed_at_every_step(kafka, topic, bridge, tmp_path, bucket, sink):
    """Of put, compaction, upload and the commit of offsets, one after the other, each seen to strike; then whole."""
    random.seed(sink)
    total, given, each = 2000 * len(STEPS) + 2000, 0, 2000
    kafka.topic(topic, 4)
    where = {} if sink == "directory" else {
        "bridge": {"directory": None},
        "s3": {"endpoint": bucket.endpoint, "bucket_name": "my-bucket", "path_style": "true",
               "use_default_credentials": "false", "access_key": "test", "secret_key": "test",
               "session_token": "test"}}
    where["s3"] = {**where.get("s3", {}), "compact_records_threshold": 300, "compact_objects_threshold": 3}
    b = bridge(batcher={"batch_flush_size_threshold": 10000}, kafka={"session.timeout.ms": 3000}, **where)
    for step in random.sample(STEPS, len(STEPS)):
        kafka.bulk(topic, given, each)
        given += each
        nth = random.randrange(1, each) if step == "bridge_taken" else 1 if "bridge" in step else random.randrange(1, 4)
        b.start(VARVE_TEST_CRASH=f"{step}:{nth}")
        assert b.wait(90) == -signal.SIGKILL, f"{step}:{nth}\n{b.said()}"
    kafka.bulk(topic, given, total - given)
    b.start().until(all_committed(kafka, topic, total))
    assert b.stop() == 0
    check_bulk(tmp_path, 4, total, None if sink == "directory" else bucket.endpoint)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_rebalances(kafka, topic, bridge, tmp_path, strategy):
    """A second bridge comes while records flow, then the first leaves, then a third comes."""
    kafka.topic(topic, 6)
    kafkas = {"partition.assignment.strategy": strategy}
    one, two, three = (bridge(name=n, kafka=kafkas) for n in ("one", "two", "three"))
    kafka.bulk(topic, 0, 6000)
    one.start().until("partitions_assigned")
    kafka.bulk(topic, 6000, 6000)
    two.start().until("partitions_assigned")
    kafka.bulk(topic, 12000, 6000)
    time.sleep(1)
    assert one.stop() == 0
    kafka.bulk(topic, 18000, 6000)
    three.start().until("partitions_assigned count=3")
    kafka.bulk(topic, 24000, 6000)
    two.until(all_committed(kafka, topic, 30000))
    assert two.stop() == 0
    assert three.stop() == 0
    check_bulk(tmp_path, 6, 30000)
    if strategy == "range":  # else a commit may meet a generation that has just passed
        assert "lost" not in one.said() + two.said() + three.said()


@pytest.mark.slow
def test_a_bridge_that_was_asleep_spoils_nothing(kafka, topic, bridge, tmp_path):
    """It is stopped beyond its session; another takes its partitions and logs; it wakes."""
    kafka.topic(topic, 2)
    slow, other = bridge(name="slow", batcher={"batch_flush_interval_millis": 1500}), bridge(name="other")
    kafka.bulk(topic, 0, 2000)
    slow.start().until("partitions_assigned")
    time.sleep(1)
    kafka.bulk(topic, 2000, 2000)
    time.sleep(0.3)
    slow.process.send_signal(signal.SIGSTOP)
    other.start().until(all_committed(kafka, topic, 4000))
    slow.process.send_signal(signal.SIGCONT)
    kafka.bulk(topic, 4000, 2000)
    end = time.monotonic() + 60
    while not all_committed(kafka, topic, 6000)() and time.monotonic() < end:
        for b in (slow, other):  # fenced: started again, as a supervisor would
            if b.process.poll() is not None:
                assert b.wait() == 3 and "taken over" in b.said() or "CONFLICT" in b.said(), b.said()
                b.start()
        time.sleep(0.1)
    assert all_committed(kafka, topic, 6000)()
    for b in (slow, other):
        assert b.stop() in (0, 3)
    check_bulk(tmp_path, 2, 6000)


@pytest.mark.slow
@pytest.mark.skipif(bool(REAL), reason="brokers go and come in the mock cluster")
def test_a_broker_that_goes_and_comes(kafka, topic, bridge, tmp_path):
    kafka.topic(topic, 2)
    kafka.bulk(topic, 0, 1000)
    b = bridge().start().until(all_committed(kafka, topic, 1000))
    kafka.call("down", 1)
    b.until("kafka_trouble")
    time.sleep(1)
    kafka.call("up", 1)
    kafka.bulk(topic, 1000, 1000)
    b.until(all_committed(kafka, topic, 2000))
    assert "kafka_back" in b.said()
    assert b.stop() == 0
    check_bulk(tmp_path, 2, 2000)


@pytest.mark.slow
@pytest.mark.skipif(bool(REAL), reason="brokers go in the mock cluster")
def test_a_signal_ends_it_while_the_broker_is_down(kafka, topic, bridge, tmp_path):
    kafka.topic(topic, 2)
    kafka.bulk(topic, 0, 1000)
    b = bridge().start().until(all_committed(kafka, topic, 1000))
    kafka.call("down", 1)
    b.until("kafka_trouble")
    assert b.stop() == 0
    check_bulk(tmp_path, 2, 1000)


@pytest.mark.slow
def test_no_broker_at_all(topic, bridge):
    b = bridge(kafka={"bootstrap.servers": "127.0.0.1:1"}).start()
    b.until("kafka_trouble")
    assert "no broker answers" in b.said() or "refused" in b.said()
    assert b.stop() == 0


@pytest.mark.slow
@pytest.mark.skipif(bool(REAL), reason="errors are the mock cluster's")
@pytest.mark.parametrize("code, status, says", [
    (3, 3, "create the topic, or correct kafka.topic"),
    (29, 3, "must be allowed to read kafka.topic")])
def test_topics_that_cannot_be_read(kafka, topic, bridge, code, status, says):
    kafka.topic(topic, 2)
    kafka.call("topic-error", topic, code)
    b = bridge().start()
    assert b.wait() == status
    assert says in b.said() and topic in b.said()


@pytest.mark.slow
@pytest.mark.skipif(bool(REAL), reason="errors are the mock cluster's")
def test_a_commit_that_fails_is_made_up_for(kafka, topic, bridge, tmp_path):
    kafka.topic(topic, 2)
    kafka.bulk(topic, 0, 1000)
    kafka.call("fail", 8, 15, 2)  # OffsetCommit: COORDINATOR_NOT_AVAILABLE
    b = bridge().start().until(all_committed(kafka, topic, 1000))
    assert b.stop() == 0
    check_bulk(tmp_path, 2, 1000)
