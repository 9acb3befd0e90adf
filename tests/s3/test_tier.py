"""A server that moves its logs to S3: through faults and kills, while S3 is away, and what it says
when it cannot. The server's client is that of tests/blackbox."""
import importlib.util
import os
import random
import re
import threading
import time
import urllib.error
import urllib.request

import pytest

import ceph
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
    for log, rows in want.items():  # this process has something to move, whatever those before did
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


FAILS, DENIED = (500, "InternalError"), (403, "AccessDenied")  # tried again for long, and not at all


@pytest.mark.parametrize("command, match, how", [
    ("GET", "/bad/data_", FAILS), ("PUT", "/bad/epoch_", FAILS), ("PUT", "/bad/data_", DENIED),
    pytest.param("PUT", "/bad/data_", FAILS, marks=pytest.mark.skipif(
        "VARVE_TEST_DEPTH" not in os.environ, reason="takes two minutes; VARVE_TEST_DEPTH=1 runs it"))])
def test_one_object_that_fails(tiny, start, command, match, how):
    """Objects of one log cannot be read or put, or it cannot be claimed: the others are moved, and it when that is over."""
    rnd = random.Random(5)
    bad = tiny.fail("status", lambda r: r.command == command and match in r.path, how, times=10**9)
    server = start(*flags(tiny.endpoint), *SOON)
    client = blackbox.Binary(server.port("binary"))
    client.log_create(b"ks")
    want = {log: [] for log in (b"a", b"bad", b"c", b"d")}
    for log, rows in want.items():
        append(client, log, rows, rnd)
    until(lambda: metric(server, "varve_tier_failures_total") > 0, "the bad one to fail")
    for turn in range(2, 4):  # beside it, again and again
        for log in (b"a", b"c", b"d"):
            append(client, log, want[log], rnd)
        until(lambda: metric(server, "varve_tier_compared_records_total") >= turn * 1500, "the others to be moved")
    assert bad.struck and metric(server, "varve_tier_waiting_bytes") > 0
    assert metric(server, "varve_tier_compared_records_total") == 4500
    tiny.faults.clear()
    until(lambda: metric(server, "varve_tier_compared_records_total") == 5000, "the bad one to be moved")
    until(lambda: metric(server, "varve_tier_waiting_bytes") == 0, "nothing to wait")
    server.restart()
    check(blackbox.Binary(server.port("binary")), want)
    assert metric(server, "varve_tier_fenced") == 0


def test_kills_while_an_object_fails(tiny, start):
    """The same through kills: whoever comes next takes the other logs over, and the bad one when it is let."""
    rnd = random.Random(9)
    bad = tiny.fail("status", lambda r: r.command == "PUT" and "/bad/data_" in r.path, DENIED, times=10**9)
    server = start(*flags(tiny.endpoint), *SOON)
    client = blackbox.Binary(server.port("binary"))
    client.log_create(b"ks")
    want = {log: [] for log in (b"a", b"bad", b"c")}
    for turn in range(1, 5):
        struck = bad.struck
        for log, rows in want.items():
            append(client, log, rows, rnd)
        until(lambda: stored(tiny.objects) == turn * 1000 and bad.struck > struck, "the others to be moved")
        server.kill()
        server.start()
        client = blackbox.Binary(server.port("binary"))
    assert any("/unsettled_" in name for name in tiny.objects)
    tiny.faults.clear()
    until(lambda: stored(tiny.objects) == 4 * 1500, "the bad one to be moved")
    assert not any("/unsettled_" in name for name in tiny.objects)
    check(client, want)
    assert metric(server, "varve_tier_fenced") == 0


def test_emptied_while_it_is_begun(tiny, start):
    """A log that has lost all its records when the first of them would be put: what comes later is moved."""
    rnd = random.Random(8)
    late = tiny.fail("status", lambda r: r.command == "PUT" and "/a/epoch_" in r.path, (503, "SlowDown"), times=10**9)
    server = start(*flags(tiny.endpoint), *SOON)
    client = blackbox.Binary(server.port("binary"))
    client.log_create(b"ks")
    want = {b"a": []}
    append(client, b"a", want[b"a"], rnd)
    until(lambda: late.struck > 0, "it to be begun")
    assert client.log_trim(b"ks", b"a", offset=501) == 501
    tiny.faults.clear()
    until(lambda: any("/a/epoch_" in name for name in tiny.objects), "its claim")
    until(lambda: metric(server, "varve_tier_rounds_total") > 0, "the end of the round")
    append(client, b"a", want[b"a"], rnd)
    want[b"a"] = want[b"a"][500:]
    until(lambda: metric(server, "varve_tier_compared_records_total") >= 500, "what came later to be moved", 20)
    assert metric(server, "varve_tier_failures_total") == 0
    server.restart()
    check(blackbox.Binary(server.port("binary")), want)


def page(server, log, limit=60):
    """The status of an old page, and Retry-After."""
    try:
        with urllib.request.urlopen(f"{server.http}/v1/logs/ks/{log}?start=offset:1&page_size=1", timeout=limit) as r:
            return r.status, None, r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.headers.get("Retry-After"), e.read().decode()


def test_reading_while_s3_hangs(tiny, start):
    """Old pages are for now not to be had, and say so; what is in the data directory is, though it is cold."""
    rnd = random.Random(6)
    server = start(*flags(tiny.endpoint), *SOON, "--tier-local-bytes", "0", "--storage-read-threads", "4")
    client = blackbox.Binary(server.port("binary"))
    client.log_create(b"ks")
    want = {b"%d" % i: [] for i in range(8)}
    for log, rows in want.items():
        append(client, log, rows, rnd)
    for i in range(50):
        client.set(b"key %d" % i, b"value %d" % i)
    until(lambda: stored(tiny.objects) == 4000, "all records on S3")

    def dropped():
        client.set(b"tick", b"")  # each checkpoint wants something to write
        return metric(server, "varve_tier_dropped_total") >= 8 * 3
    until(dropped, "bytes that go from here")
    server.restart()
    hang = tiny.fail("hang", lambda r: r.command in ("GET", "HEAD", "PUT"), 3600, times=10**9)
    answers, threads = {}, []
    for i in range(8):
        threads.append(threading.Thread(target=lambda i=i: answers.update({i: page(server, i)}), daemon=True))
        threads[-1].start()
    until(lambda: hang.struck > 0, "a read that hangs")
    client = blackbox.Binary(server.port("binary"))
    before = metric(server, "varve_cold_waits_total")
    for i in range(50):
        assert client.get(b"key %d" % i) == b"value %d" % i
    assert metric(server, "varve_cold_waits_total") > before  # they were read from disk
    # Those that read from S3 wait still: these did not wait for them.
    assert sum(t.is_alive() for t in threads) >= 1 and metric(server, "varve_tier_away") == 0
    for t in threads:
        t.join(120)
    assert {status for status, _, _ in answers.values()} == {503}
    assert all(int(after) >= 1 and "ask again later" in text for _, after, text in answers.values())
    assert metric(server, "varve_tier_away") == 1
    refused, struck = metric(server, "varve_tier_refused_total"), hang.struck
    for i in range(40):
        assert page(server, i % 8)[0] == 503
    with pytest.raises(blackbox.Refused, match="ask again later"):
        client.log_read(b"ks", b"0", "offset", 1, size=1)
    assert metric(server, "varve_tier_refused_total") >= refused + 30
    assert hang.struck - struck < 20  # one now and then, and the mover
    tiny.faults.clear()
    until(lambda: page(server, 0)[0] == 200, "S3 to be tried again")
    assert metric(server, "varve_tier_away") == 0
    check(client, want)


def test_pages_in_a_row(tiny, start):
    """A client who pages through old records gets each object once."""
    rnd = random.Random(7)
    server = start(*flags(tiny.endpoint), *SOON, "--tier-local-bytes", "0", "--tier-min-bytes", "1m")
    client = blackbox.Binary(server.port("binary"))
    client.log_create(b"ks")
    want = {b"a": [], b"b": []}
    for _ in range(8):
        for log, rows in want.items():
            part = [(rnd.randbytes(2000), len(rows) + i, 5000) for i in range(500)]
            first = client.log_append(b"ks", log, part)["first"]
            rows += [(first + i, t, nonce, data) for i, (data, nonce, t) in enumerate(part)]
    until(lambda: stored(tiny.objects) == 8000, "all records on S3")

    def dropped():
        client.set(b"tick", b"")
        return metric(server, "varve_tier_dropped_total") >= 2 * 8000000 / 32768 * 0.9
    until(dropped, "bytes that go from here")
    server.restart()
    client = blackbox.Binary(server.port("binary"))
    objects = sum(1 for name in tiny.objects if "/data_" in name)
    tiny.log.clear()
    at = {log: client.log_read(b"ks", log, "first", size=20) for log in want}
    for log in want:
        assert at[log]["records"] == want[log][:20]
    for n in range(20, 4000, 20):  # two clients, in turn
        for log in want:
            at[log] = client.log_read(b"ks", log, "offset", n + 1, size=20)
            assert at[log]["records"] == want[log][n:n + 20]
    gets = [path for command, path, query, _ in tiny.log if command == "GET" and "/data_" in path]
    lists = [query for command, _, query, _ in tiny.log if command == "GET" and "list-type" in query]
    reads = metric(server, "varve_tier_reads_total")
    assert reads >= 400 and len(gets) <= objects + 2 and len(lists) <= 3 * objects


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

    until(lambda: stored(ceph.names(client, "varve", "logs/")) == 10000, "all records on S3")
    until(lambda: metric(server, "varve_tier_dropped_total") > 0, "bytes that go from here")
    server.restart()
    check(blackbox.Binary(server.port("binary")), want)
    assert metric(server, "varve_tier_reads_total") > 0
