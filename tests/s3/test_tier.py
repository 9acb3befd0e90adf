"""A server that moves its logs to S3: through faults and kills, while S3 is away, and what it says
when it cannot. The server's client is that of tests/blackbox."""
import importlib.util
import random
import re
import time
import urllib.request

import pytest

from conftest import HERE

_spec = importlib.util.spec_from_file_location("blackbox", HERE.parent / "blackbox" / "conftest.py")
blackbox = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(blackbox)

SOON = ("--tier-min-bytes", "64k", "--tier-max-age", "300ms", "--tier-interval", "50ms",
        "--storage-checkpoint-interval", "150ms")


def flags(endpoint, secret="testtest", bucket="varve"):
    return ("--s3-bucket-name", bucket, "--s3-endpoint", endpoint, "--s3-path-style", "true",
            "--s3-use-default-credentials", "false", "--s3-access-key", "test", "--s3-secret-key", secret,
            "--s3-object-prefix", "logs/")


@pytest.fixture
def start(tmp_path):
    servers = []

    def make(*words):
        servers.append(blackbox.Server(tmp_path / "data", *words))
        return servers[-1]

    yield make
    for s in servers:
        if s.process.poll() is None:
            s.kill()


def metric(server, name):
    text = urllib.request.urlopen(server.http + "/metrics", timeout=20).read().decode()
    return int(re.search(rf"^{name} (\d+)$", text, re.M).group(1))


def until(true, what, seconds=90):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.05)


def stored(names):
    """Records in data objects, by the largest end of each log."""
    ends = {}
    for name in names:
        m = re.match(r"logs/(.*)/data_o\d+-o(\d+)_.*_s(\d+)_p", name)
        if m and int(m[3]):
            ends[m[1]] = max(ends.get(m[1], 0), int(m[2]))
    return sum(ends.values())


def append(client, log, want, rnd, n=500):
    part = [(rnd.randbytes(rnd.choice([10, 300])), len(want) + i, 5000 + len(want)) for i in range(n)]
    first = client.log_append(b"ks", log, part)["first"]
    want += [(first + i, t, nonce, data) for i, (data, nonce, t) in enumerate(part)]


def check(client, want):
    for log, rows in want.items():
        assert list(client.log_all(b"ks", log, size=800)) == rows
        assert list(client.log_all(b"ks", log, backwards=True, size=800)) == rows[::-1]


def test_through_faults_and_kills(tiny, start):
    rnd = random.Random(1)
    for what, value in (("status", (500, "InternalError")), ("status", (503, "SlowDown")), ("cut", None),
                        ("lost", None), ("drop", None)):
        tiny.fail(what, lambda r, share=random.Random(what): share.random() < 0.03, value, times=10**9)
    server = start(*flags(tiny.endpoint), *SOON)
    want = {b"a": [], b"b/%": []}
    for turn in range(4):
        client = blackbox.Binary(server.port("binary"))
        if not turn:
            client.log_create(b"ks")
        for log, rows in want.items():
            for _ in range(2):
                append(client, log, rows, rnd)
        time.sleep(0.4)
        server.restart()
    client = blackbox.Binary(server.port("binary"))
    for log, rows in want.items():  # what came before may have gone already, before the counter began anew
        append(client, log, rows, rnd)
        append(client, log, rows, rnd)
    until(lambda: stored(tiny.objects) == sum(map(len, want.values())), "all records on S3")
    until(lambda: metric(server, "varve_tier_dropped_total") > 0, "bytes that go from here")
    server.restart()
    check(blackbox.Binary(server.port("binary")), want)
    assert metric(server, "varve_tier_reads_total") > 0
    assert metric(server, "varve_tier_fenced") == 0


def test_while_s3_is_away(tiny, start):
    rnd = random.Random(2)
    want = {b"a": []}
    server = start(*flags(tiny.endpoint), *SOON)
    client = blackbox.Binary(server.port("binary"))
    client.log_create(b"ks")
    away = tiny.fail("drop", lambda r: True, times=10**9)
    for _ in range(4):  # nobody who appends or reads what is here notices
        append(client, b"a", want[b"a"], rnd)
    check(client, want)
    until(lambda: away.struck > 3, "it to try")
    assert stored(tiny.objects) == 0
    tiny.faults.clear()
    until(lambda: stored(tiny.objects) == 2000, "it to go on when S3 is back")
    assert server.stop() == 0


def test_a_start_while_s3_is_away(tiny, start):
    """What is here is served; moving begins when S3 is back, and only then is known what it keeps."""
    rnd = random.Random(4)
    want = {b"a": []}
    away = tiny.fail("drop", lambda r: True, times=10**9)
    server = start(*flags(tiny.endpoint), *SOON)
    assert "tier-away" in server.log()
    client = blackbox.Binary(server.port("binary"))
    client.log_create(b"ks")
    append(client, b"a", want[b"a"], rnd)
    check(client, want)
    struck = away.struck
    until(lambda: away.struck > struck, "it to try again")
    tiny.faults.clear()
    until(lambda: stored(tiny.objects) == 500, "it to begin when S3 is back")
    server.restart()
    check(blackbox.Binary(server.port("binary")), want)


def test_what_it_says(tiny, start):
    for words, text in ((flags(tiny.endpoint, secret="wrong"), "key"),
                        (flags(tiny.endpoint, bucket="none"), "bucket")):
        with pytest.raises(AssertionError, match="did not start") as e:
            start(*words)
        said = str(e.value).split("varve: tier: ")[-1]
        assert text in said and "wrong\"" not in said
    tiny.ignores_if_none_match = True
    with pytest.raises(AssertionError, match="did not start") as e:
        start(*flags(tiny.endpoint))
    assert "If-None-Match" in str(e.value)


def test_on_ceph(rgw, start):
    endpoint, client = rgw
    rnd = random.Random(3)
    server = start(*flags(endpoint), *SOON)
    binary = blackbox.Binary(server.port("binary"))
    binary.log_create(b"ks")
    want = {b"a": [], b"b": []}
    for log, rows in want.items():
        for _ in range(10):
            append(binary, log, rows, rnd)

    def names():
        for page in client.get_paginator("list_objects_v2").paginate(Bucket="varve", Prefix="logs/"):
            yield from (o["Key"] for o in page.get("Contents", ()))

    until(lambda: stored(names()) == 10000, "all records on S3")
    until(lambda: metric(server, "varve_tier_dropped_total") > 0, "bytes that go from here")
    server.restart()
    check(blackbox.Binary(server.port("binary")), want)
    assert metric(server, "varve_tier_reads_total") > 0
