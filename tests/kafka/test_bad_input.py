"""Bad input of the bridge, outside of it and in: each ends it (or is waited for) with a sentence that says what to
do, and no offset is committed whose record is not stored."""
import json
import os
import re
import socket
import subprocess
import threading

import pytest

from conftest import LOGIN, VARVE, read_log
from test_bridge import all_committed
from tiny_s3 import TinyS3

SECRET = "a-secret-that-nobody-may-see"


@pytest.fixture
def tiny():
    with TinyS3() as s3:
        yield s3


def on_s3(endpoint, **keys):
    """Sections of a bridge to S3, for `bridge`."""
    return {"bridge": {"directory": None},
            "s3": {"endpoint": endpoint, "bucket_name": "varve", "path_style": "true",
                   "use_default_credentials": "false", "access_key": "test", "secret_key": "testtest", **keys}}


def ends(b, status, *texts):
    """It ends by itself with this status and all of the texts in what it says."""
    assert b.start().wait() == status, b.said()
    for text in texts:
        assert text in b.said()
    assert SECRET not in b.said()


@pytest.fixture
def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    return port


@pytest.fixture
def answering():
    """Makes a port that answers whoever comes with these bytes, and closes."""
    servers = []

    def make(answer):
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve():
            while True:
                try:
                    peer, _ = server.accept()
                    with peer:
                        peer.recv(4096)
                        peer.sendall(answer)
                except OSError:
                    if server.fileno() < 0:
                        return

        threading.Thread(target=serve, daemon=True).start()
        return server.getsockname()[1]

    yield make
    for server in servers:
        server.close()


# ---- where records go

@pytest.mark.parametrize("keys, status, texts", [
    ({"bucket_name": "elsewhere"}, 2, ["NoSuchBucket", "create the bucket, or correct bucket_name"]),
    ({"access_key": "who"}, 3, ["InvalidAccessKeyId", "check access_key"]),
    ({"secret_key": SECRET}, 3, ["SignatureDoesNotMatch", "check secret_key"]),
    ({"session_token": SECRET}, 3, ["ExpiredToken", "get a new session_token", "keys from access_key, secret_key and session_token"]),
    ({"region": "eu-west-1"}, 2, ["us-east-1", "set region"]),
], ids=lambda v: next(iter(v)) if isinstance(v, dict) else "")
def test_what_s3_refuses(bridge, tiny, keys, status, texts):
    tiny.tokens = {"test": "another"} if "session_token" in keys else {}
    ends(bridge(**on_s3(tiny.endpoint, **keys)), status, *texts)


HANGS = ("hang", lambda r: r.command == "PUT", 300)


def test_a_second_signal_while_s3_hangs(kafka, topic, bridge, tiny):
    """What is under way is given up; nothing is committed, and nothing is lost."""
    kafka.topic(topic, 1)
    kafka.bulk(topic, 0, 1000)
    b = bridge(**on_s3(tiny.endpoint)).start().until("partitions_assigned")
    hanging = tiny.fail(*HANGS, times=10**9)
    kafka.bulk(topic, 1000, 1000)
    b.until(lambda: hanging.struck)
    b.process.terminate()
    b.until("stopping signal=15")
    b.process.terminate()
    assert b.wait() in (0, 3), b.said()  # 0: a look at what became of the puts found them done
    assert "stopping_in_a_hurry" in b.said()
    hanging.times = 0
    b = bridge(name="again", **on_s3(tiny.endpoint)).start().until(all_committed(kafka, topic, 2000))
    assert b.stop() == 0
    run = subprocess.run([VARVE, "log", "read", "s3://varve/ks/0", "--endpoint", tiny.endpoint, "--path-style", "--json"], capture_output=True, text=True,
                         env={**os.environ, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest"})
    assert run.returncode == 0, run.stderr
    assert [int(json.loads(line)["nonce"]) for line in run.stdout.splitlines()] == list(range(2000))


def test_a_second_signal_while_s3_hangs_at_the_start(topic, bridge, tiny):
    hanging = tiny.fail(*HANGS, times=10**9)
    b = bridge(**on_s3(tiny.endpoint)).start()
    b.until(lambda: hanging.struck)
    b.process.terminate()
    b.until("stopping signal=15")
    b.process.terminate()
    assert b.wait() == 3, b.said()
    assert "nothing was begun" in b.said()


def test_an_endpoint_that_is_not_s3(bridge, tiny):
    tiny.is_html = True
    ends(bridge(**on_s3(tiny.endpoint)), 3, "does not answer as S3 does; check endpoint")


@pytest.mark.slow
def test_nobody_at_the_endpoint(bridge, closed_port):
    ends(bridge(**on_s3(f"http://127.0.0.1:{closed_port}")), 3, f"127.0.0.1:{closed_port}")


@pytest.mark.slow
def test_a_clock_that_is_wrong(kafka, topic, bridge, tiny):
    """By a day: it signs by the store's clock, and says so."""
    tiny.clock_offset = 86400
    kafka.topic(topic, 1)
    kafka.bulk(topic, 0, 100)
    b = bridge(**on_s3(tiny.endpoint)).start().until(
        lambda: kafka.committed("g-" + topic, topic) == {0: 100})
    assert b.stop() == 0
    assert re.search(r"s3_clock ahead_s=86[34]\d\d .*set this machine's clock", b.said())


@pytest.mark.parametrize("name, text", [
    ("data_o1-o5.bin", "data_o1-o5.bin"),
    pytest.param("data_" + "x" * 200, "data_xxx", marks=pytest.mark.slow),
    pytest.param("data_o00000000000000000001-o0_t1-t1_n0-n1_s38_p0.bin", "data_o00000000000000000001-o0",
                 marks=pytest.mark.slow)])
def test_objects_whose_names_do_not_parse(kafka, topic, bridge, tmp_path, name, text):
    kafka.topic(topic, 1)
    kafka.bulk(topic, 0, 100)
    place = tmp_path / "objects/ks/0"
    place.mkdir(parents=True)
    (place / name).write_bytes(b"whatever")
    ends(bridge(), 3, "ks/0", text)
    assert kafka.committed("g-" + topic, topic) == {0: -1}


@pytest.mark.slow
def test_an_object_that_was_cut(kafka, topic, bridge, tmp_path):
    """New records go on behind it; it is named, never merged, and never served."""
    kafka.topic(topic, 1)
    kafka.bulk(topic, 0, 100)
    b = bridge().start().until(lambda: kafka.committed("g-" + topic, topic) == {0: 100})
    assert b.stop() == 0
    data = max((tmp_path / "objects/ks/0").glob("data_*"))
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    kafka.bulk(topic, 100, 100)
    b = bridge(name="after", s3={"compact_records_threshold": 150}).start().until(
        lambda: kafka.committed("g-" + topic, topic) == {0: 200})
    assert b.stop() == 0
    assert f"{data.name} is damaged: it has 13999 bytes, its name says 14000" in b.said()
    with pytest.raises(AssertionError, match=data.name):
        read_log(tmp_path / "objects", "ks", "0")
    data.write_bytes(whole)
    assert [r[2] for r in read_log(tmp_path / "objects", "ks", "0")] == list(range(200))


# ---- where they come from

@pytest.mark.parametrize("answer, says", [
    (b"", "security.protocol"),
    (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "bootstrap.servers is not Kafka's address")])
def test_a_broker_that_is_none(topic, bridge, answering, answer, says):
    address = f"127.0.0.1:{answering(answer)}"
    b = bridge(kafka={"bootstrap.servers": address}).start()
    b.until("kafka_trouble").until(address).until(says)
    assert b.stop() == 0


def login(**keys):
    return {"bootstrap.servers": LOGIN, "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
            "sasl.username": "bridge", "sasl.password": "secret", **{k.replace("_", "."): v for k, v in keys.items()}}


@pytest.mark.peers
@pytest.mark.skipif(not LOGIN, reason="there is no broker that wants a login")
def test_a_broker_that_wants_a_login(kafka, topic, bridge, tmp_path):
    kafka.topic(topic, 1)
    kafka.bulk(topic, 0, 100)
    b = bridge(name="none", kafka={"bootstrap.servers": LOGIN}).start()
    b.until("broker might require SASL").until("correct bootstrap.servers and security.protocol")
    assert b.stop() == 0
    ends(bridge(name="wrong", kafka=login(sasl_password=SECRET)), 3, "Invalid username or password",
         "correct security.protocol, sasl.mechanism, sasl.username and sasl.password in [kafka]")
    ends(bridge(name="kind", kafka=login(sasl_mechanism="SCRAM-SHA-256")), 3,
         "supported mechanisms: PLAIN", "correct security.protocol, sasl.mechanism")
    ends(bridge(name="guest", kafka=login(sasl_username="guest", sasl_password="guest")), 3,
         " authorization failed", "the user of [kafka] must be allowed to read")  # of topic or group
    ends(bridge(name="half", kafka=login(sasl_password=None)), 2, "sasl.password must be set")
    b = bridge(name="right", kafka=login()).start().until(
        lambda: kafka.committed("g-" + topic, topic) == {0: 100})
    assert b.stop() == 0


@pytest.mark.slow
def test_a_login_that_the_broker_does_not_know(kafka, topic, bridge):
    ends(bridge(kafka={**login(), "bootstrap.servers": kafka.bootstrap}), 3,
         "correct security.protocol, sasl.mechanism")


# ---- the configuration and the records

def test_an_unknown_parser(topic, bridge):
    ends(bridge(parser={"key_parser": "RecordTopic"}), 2, "bridge.ini:",
         'parser.key_parser: "RecordTopic" is no parser; there are Static(...)')


NUMBERS = {  # form: (bad nonce, why, good nonce, bad timestamp, why, good timestamp)
    "BigEndian": (b"\0" * 17, "17 bytes", b"\1" * 16, b"\1" * 9, "9 bytes", b"\1" * 8),
    "LittleEndian": (b"\0" * 17, "17 bytes", b"\1" * 16, b"\1" * 9, "9 bytes", b"\1" * 8),
    "Utf8": (b"9" * 40, "9" * 40, b"9" * 38, b"9223372036854775808", "9223372036854775808", b"-7")}


@pytest.mark.parametrize("form", ["BigEndian", pytest.param("LittleEndian", marks=pytest.mark.slow),
                                  pytest.param("Utf8", marks=pytest.mark.slow)])
def test_numbers_that_are_too_long(kafka, topic, bridge, tmp_path, form):
    bad_n, why_n, n, bad_t, why_t, t = NUMBERS[form]
    kafka.topic(topic, 1)
    kafka.produce(topic, 0, b"bad nonce", n=bad_n, t=t)
    kafka.produce(topic, 0, b"bad time", n=n, t=bad_t)
    kafka.produce(topic, 0, b"good", n=n, t=t)
    kafka.flush()
    b = bridge(parser={"nonce_parser": f"RecordHeader{form}(n)", "timestamp_parser": f"RecordHeader{form}(t)"},
               bridge={"on_bad_record": "skip"}).start().until(
        lambda: kafka.committed("g-" + topic, topic) == {0: 3})
    assert b.stop() == 0
    for offset, header, why in ((0, "n", why_n), (1, "t", why_t)):
        line = next(x for x in b.said().splitlines() if f"bad_record partition=0 offset={offset} goes=skip" in x)
        assert why in line and f'header \\"{header}\\"' in line
    assert [r[3] for r in read_log(tmp_path / "objects", "ks", "0")] == [b"good"]
