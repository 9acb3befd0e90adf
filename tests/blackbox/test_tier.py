"""Tiering into a directory: logs move to objects in the background, their bytes go from here, and
nobody who reads, seeks, tails, trims or deletes sees a difference; through kills, too."""
import json
import os
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import time
import urllib.request

import pytest

from conftest import VARVE, Binary, Refused

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "s3"))
from tiny_s3 import TinyS3  # noqa: E402

FLAGS = ("--tier-min-bytes", "64k", "--tier-max-age", "300ms", "--tier-interval", "50ms",
         "--storage-checkpoint-interval", "150ms", "--storage-memory-limit", "64m",
         "--tier-local-bytes", "0")


def metric(server, name):
    text = urllib.request.urlopen(server.http + "/metrics", timeout=20).read().decode()
    return int(re.search(rf"^{name} (\d+)$", text, re.M).group(1))


def until(true, what, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.05)


def moved(server, objects, records):
    """Waits until so many records lie in objects and the bytes of most chunks are gone from here."""
    until(lambda: stored_records(objects) >= records, f"{records} records in objects")
    until(lambda: metric(server, "varve_tier_dropped_total") > 0, "bytes that go from here")


def size(path):
    """0 also if it is deleted just now."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def names(objects):
    return sorted(p for p in objects.rglob("data_o*") if size(p))


def checkpoint(server, c):
    """Two of them, each with something to write."""
    for i in range(2):
        before = metric(server, "varve_checkpoints_total")
        c.set(b"key", b"%d" % i)
        until(lambda: metric(server, "varve_checkpoints_total") > before, "a checkpoint")


def stored_records(objects):
    """Records in objects, by the names of the largest end of each log."""
    ends = {}
    for p in names(objects):
        first, last = re.match(r"data_o(\d+)-o(\d+)_", p.name).groups()
        low, high = ends.get(p.parent, (int(first), 0))
        ends[p.parent] = (min(low, int(first)), max(high, int(last)))
    return sum(high - low + 1 for low, high in ends.values())


def records(rnd, n, at=0):
    return [(rnd.randbytes(rnd.choice([0, 10, 200, 2000])), at + i if rnd.random() < 0.9 else None,
             1000 + (at + i) // 3) for i in range(n)]


def fill(c, log, rnd, n):
    """Appends n records; what reading gives for them."""
    out = []
    while len(out) < n:
        part = records(rnd, min(500, n - len(out)), len(out))
        first = c.log_append(b"ks", log, part)["first"]
        out += [(first + i, t, nonce, data) for i, (data, nonce, t) in enumerate(part)]
    return out


def same_everywhere(c, log, want, rnd):
    assert list(c.log_all(b"ks", log, size=700)) == want
    assert list(c.log_all(b"ks", log, backwards=True, size=900)) == want[::-1]
    for _ in range(20):
        i = rnd.randrange(len(want))
        offset, stamp, nonce, _ = want[i]
        assert c.log_read(b"ks", log, "offset", offset, size=3)["records"] == want[i:i + 3]
        first = next(j for j, r in enumerate(want) if r[1] >= stamp)
        assert c.log_read(b"ks", log, "timestamp", stamp, size=2)["records"] == want[first:first + 2]
        if nonce is not None:
            assert c.log_read(b"ks", log, "nonce", nonce, size=1)["records"] == want[i:i + 1]
    tail = [r for page in c.log_tail(b"ks", log, "first", follow=False) for r in page["records"]]
    assert tail == want


@pytest.fixture
def tiered(start, tmp_path):
    objects = tmp_path / "objects"
    objects.mkdir()
    return start("--tier-dir", str(objects), *FLAGS), objects


def test_nobody_sees_the_border(tiered):
    server, objects = tiered
    rnd = random.Random(1)
    c = Binary(server.port("binary"))
    c.log_create(b"ks")
    want = {log: fill(c, log, rnd, 3000) for log in (b"a", b"b/c \xff", b"..")}
    moved(server, objects, 9000)
    for restart in (None, server.restart, lambda: (server.stop(), server.start())):
        if restart:
            restart()
            c = Binary(server.port("binary"))
        for log, rows in want.items():
            same_everywhere(c, log, rows, rnd)
    assert metric(server, "varve_tier_reads_total") > 0
    for log in want:  # and it goes on
        more = c.log_append(b"ks", log, [b"more"])
        assert more["first"] == 3001
    assert names(objects)


def test_starts_leave_nothing(start, tmp_path):
    """Each asks what the directory keeps, by objects that it deletes."""
    objects = tmp_path / "objects"
    objects.mkdir()
    for _ in range(3):
        server = start("--tier-dir", str(objects))
        assert server.stop() == 0
    assert [p.name for p in objects.rglob("*")] == ["~varve-probe"]


def test_small_logs_wait_for_their_age(start, tmp_path):
    objects = tmp_path / "objects"
    objects.mkdir()
    server = start("--tier-dir", str(objects), "--tier-interval", "50ms", "--tier-max-age", "1h")
    c = Binary(server.port("binary"))
    c.log_create(b"ks")
    for i in range(200):
        c.log_append(b"ks", b"small %d" % i, [b"x"])
    c.log_append(b"ks", b"large", [b"y" * 100_000] * 20)
    until(lambda: stored_records(objects) >= 20, "the large log in objects")
    assert stored_records(objects) == 20
    assert metric(server, "varve_tier_puts_total") < 60


def beginnings(objects, log):
    """First and last offsets of a log's data objects, rising."""
    found = (re.match(r"data_o(\d+)-o(\d+)_", p.name).groups() for p in names(objects) if p.parent.name == log)
    return sorted((int(a), int(b)) for a, b in found)


def test_objects_are_deleted(start, tmp_path):
    """What retention and trims take goes from the objects too: whole ones, while the server runs and after a kill
    before it had deleted them; what is left is read by the server and by those who need none."""
    objects = tmp_path / "objects"
    objects.mkdir()
    server = start("--tier-dir", str(objects), *FLAGS, "--s3-compact-records-threshold", "200")
    rnd = random.Random(4)
    c = Binary(server.port("binary"))
    c.log_create(b"ks")
    want = {b"a": [], b"b": []}

    def append(n):
        for log, rows in want.items():
            part = records(rnd, n, len(rows))
            first = c.log_append(b"ks", log, part)["first"]
            rows += [(first + i, t, nonce, data) for i, (data, nonce, t) in enumerate(part)]
        until(lambda: all(beginnings(objects, log.decode())[-1:] and beginnings(objects, log.decode())[-1][1] ==
                          len(rows) for log, rows in want.items()), "all records in objects")
    for _ in range(10):  # each an object
        append(300)
    moved(server, objects, 6000)
    assert metric(server, "varve_tier_deleted_objects_total") == 0
    assert len(beginnings(objects, "a")) > 5
    bytes_before = sum(size(p) for p in names(objects))
    c.log_trim(b"ks", b"a", 2000)

    def deleted():
        spans = beginnings(objects, "a")
        return 1000 < spans[0][0] <= 2000 < spans[0][1] + 300
    until(deleted, "objects that go with their records")
    until(lambda: metric(server, "varve_tier_deleted_objects_total") > 0, "that to be counted")
    spans = beginnings(objects, "a")
    assert spans[-1][1] == 3000 and all(x[1] + 1 == y[0] for x, y in zip(spans, spans[1:]))
    same_everywhere(c, b"a", want[b"a"][1999:], rnd)
    # Who reads the objects alone sees a log that begins there.
    url = f"dir://{objects}/ks/"
    read = subprocess.run([VARVE, "log", "read", url + "a", "--json", "--limit", "1"], capture_output=True, check=True)
    assert json.loads(read.stdout)["offset"] == spans[0][0]
    # Killed before anything is deleted: found again afterwards.
    c.log_trim(b"ks", b"b", 2500)
    server.restart()
    c = Binary(server.port("binary"))
    until(lambda: beginnings(objects, "b")[0][0] > 1500, "objects that go after a restart")
    same_everywhere(c, b"b", want[b"b"][2499:], rnd)
    same_everywhere(c, b"a", want[b"a"][1999:], rnd)
    # Retention bounds the bucket: most of what was there is gone, and it goes on.
    c.log_policy(b"ks", max_records=500)
    for _ in range(6):
        append(500)
    for log in ("a", "b"):
        until(lambda log=log: beginnings(objects, log)[0][0] > 4500, "retention in objects")
    assert sum(size(p) for p in names(objects)) < bytes_before / 2
    server.restart()
    c = Binary(server.port("binary"))
    for log, rows in want.items():
        got = list(c.log_all(b"ks", log))
        assert got == rows[-500:]


def test_trimmed_and_erased(tiered):
    server, objects = tiered
    rnd = random.Random(2)
    c = Binary(server.port("binary"))
    c.log_create(b"ks")
    want = fill(c, b"a", rnd, 3000)
    moved(server, objects, 3000)
    server.restart()
    c = Binary(server.port("binary"))
    for offset in (5, 700, 701, 2999):
        assert c.log_erase(b"ks", b"a", offset)
    assert c.log_trim(b"ks", b"a", offset=350) == 350
    want = [r for r in want if r[0] >= 350 and r[0] not in (700, 701, 2999)]
    same_everywhere(c, b"a", want, rnd)
    checkpoint(server, c)
    server.restart()
    c = Binary(server.port("binary"))
    same_everywhere(c, b"a", want, rnd)


def test_holes_before_moving(start, tmp_path):
    """Records that went before their log moved are empty records in objects."""
    objects = tmp_path / "objects"
    objects.mkdir()
    server = start("--storage-checkpoint-interval", "150ms")
    c = Binary(server.port("binary"))
    c.log_create(b"ks")
    rnd = random.Random(3)
    want = fill(c, b"a", rnd, 2000)
    c.log_trim(b"ks", b"a", offset=100)
    for offset in (500, 501, 1999, 2000):
        c.log_erase(b"ks", b"a", offset)
    want = [r for r in want if r[0] >= 100 and r[0] not in (500, 501, 1999, 2000)]
    server.flags += ["--tier-dir", str(objects), *FLAGS]
    server.restart()
    moved(server, objects, 1800)
    server.restart()
    c = Binary(server.port("binary"))
    same_everywhere(c, b"a", want, rnd)
    assert "data_o%020d-" % 100 in names(objects)[0].name


@pytest.mark.parametrize("gone", ["erased", "trimmed", "both"])
def test_gone_between_put_and_compared(start, tmp_path, monkeypatch, gone):
    """A kill between the put and what notes it; then records of that object go before it is noted: the log is
    moved all the same, and another round takes what comes later."""
    objects = tmp_path / "objects"
    objects.mkdir()
    server = start("--storage-checkpoint-interval", "150ms")
    c = Binary(server.port("binary"))
    c.log_create(b"ks")
    rnd = random.Random(6)
    want = fill(c, b"a", rnd, 800)
    plain = list(server.flags)
    server.stop()
    server.flags = plain + ["--tier-dir", str(objects), *FLAGS]
    monkeypatch.setenv("VARVE_TEST_CRASH", "archive_after_put:1")
    server.start(wait=False)
    assert server.process.wait(30) < 0
    monkeypatch.delenv("VARVE_TEST_CRASH")
    put = stored_records(objects)
    assert put > 100
    server.flags = plain
    server.start()
    c = Binary(server.port("binary"))
    if gone != "trimmed":
        for offset in (50, 51, 70):
            assert c.log_erase(b"ks", b"a", offset)
        want = [r for r in want if r[0] not in (50, 51, 70)]
    if gone != "erased":
        c.log_trim(b"ks", b"a", offset=30)
        want = [r for r in want if r[0] >= 30]
    server.stop()
    server.flags = plain + ["--tier-dir", str(objects), *FLAGS]
    server.start()
    c = Binary(server.port("binary"))
    until(lambda: metric(server, "varve_tier_waiting_bytes") == 0, "all of it moved", seconds=15)
    assert metric(server, "varve_tier_failures_total") == 0
    same_everywhere(c, b"a", want, rnd)
    server.restart()
    same_everywhere(Binary(server.port("binary")), b"a", want, rnd)


def test_kills(tiered):
    server, objects = tiered
    rnd = random.Random(4)
    want = []
    for turn in range(6):
        c = Binary(server.port("binary"))
        if not turn:
            c.log_create(b"ks")
        for _ in range(4):
            part = [(rnd.randbytes(500), None, len(want) + i) for i in range(300)]
            first = c.log_append(b"ks", b"a", part)["first"]
            want += [(first + i, t, None, data) for i, (data, _, t) in enumerate(part)]
            time.sleep(rnd.random() * 0.2)
        server.restart()
    c = Binary(server.port("binary"))
    assert list(c.log_all(b"ks", b"a")) == want
    moved(server, objects, len(want))
    server.restart()
    c = Binary(server.port("binary"))
    assert list(c.log_all(b"ks", b"a", backwards=True)) == want[::-1]
    assert metric(server, "varve_tier_fenced") == 0
    assert metric(server, "varve_tier_failures_total") == 0


def test_local_bytes_stay(start, tmp_path):
    objects = tmp_path / "objects"
    objects.mkdir()
    server = start("--tier-dir", str(objects), *FLAGS, "--tier-local-bytes", "100m")
    c = Binary(server.port("binary"))
    c.log_create(b"ks")
    want = fill(c, b"a", random.Random(5), 2000)
    until(lambda: stored_records(objects) >= 2000, "records in objects")
    checkpoint(server, c)
    server.stop()
    shutil.rmtree(objects)
    objects.mkdir()
    server.start()
    c = Binary(server.port("binary"))
    assert list(c.log_all(b"ks", b"a"))[:2000] == want


def cut(data):
    return data[:100] + bytes([data[100] ^ 1]) + data[101:-1]


def flipped(data):
    """One bit of a record's data: only the checksum tells."""
    at = 0
    while data[at + 32:at + 36] == bytes(4):
        at += 40
    return data[:at + 36] + bytes([data[at + 36] ^ 1]) + data[at + 37:]


@pytest.mark.parametrize("damage", [cut, flipped])
def test_lost_and_altered_objects_are_named(tiered, damage):
    server, objects = tiered
    c = Binary(server.port("binary"))
    c.log_create(b"ks")
    fill(c, b"a", random.Random(6), 3000)
    moved(server, objects, 3000)
    c.log_append(b"ks", b"a", [b"x" * 1000] * 3000)
    moved(server, objects, 6000)
    server.stop()
    first = names(objects)[0]
    assert len(names(objects)) > 1
    kept = first.read_bytes()
    first.write_bytes(damage(kept))  # in place: the file's attribute stays
    server.start()
    c = Binary(server.port("binary"))
    with pytest.raises(Refused, match="damaged"):
        c.log_read(b"ks", b"a")
    assert first.name in server.log()
    assert c.log_read(b"ks", b"a", backwards=True, size=1)["records"][0][0] == 6000
    first.write_bytes(kept)
    server.restart()
    c = Binary(server.port("binary"))
    assert c.log_read(b"ks", b"a", size=1)["records"][0][0] == 1


def test_a_second_server_stops_the_first(tiered, start):
    server, objects = tiered
    c = Binary(server.port("binary"))
    c.log_create(b"ks")
    fill(c, b"a", random.Random(7), 500)
    until(lambda: stored_records(objects) >= 500, "records in objects")
    other = start("--tier-dir", str(objects), *FLAGS, name="other")
    o = Binary(other.port("binary"))
    o.log_create(b"ks")
    o.log_append(b"ks", b"a", [b"another's" * 100] * 100)
    until(lambda: metric(other, "varve_tier_failures_total") > 0, "the other one to see it")
    assert "other records" in other.log() or "not this" in other.log()
    rows = [(501 + i, 7, None, b"%d" % i * 50) for i in range(500)]
    c.log_append(b"ks", b"a", [(data, None, 7) for _, _, _, data in rows])
    until(lambda: metric(server, "varve_tier_fenced") == 1 or stored_records(objects) >= 1000,
          "one of the two to be fenced")
    assert list(c.log_all(b"ks", b"a"))[500:] == rows  # nothing is lost here


def test_longer_records_of_another_server(tiered, start):
    """What objects have of a log by the same name is told apart, however long it is."""
    server, objects = tiered
    for s, data in ((server, b"long" * 100), (start("--tier-dir", str(objects), *FLAGS, name="other"), b"short")):
        c = Binary(s.port("binary"))
        c.log_create(b"ks")
        c.log_append(b"ks", b"a", [data])
        if s is server:
            until(lambda: stored_records(objects) == 1, "the record in objects")
            s.stop()
    until(lambda: metric(s, "varve_tier_failures_total") > 0, "the other one to see it")
    assert "objects have other records from offset 1 on" in s.log()
    assert c.log_read(b"ks", b"a")["records"][0][3] == b"short"


def test_dump_of_a_directory(tiered):
    """Without a server the records come from objects too, if it is told where they are."""
    server, objects = tiered
    c = Binary(server.port("binary"))
    c.log_create(b"ks")
    want = [(i + 1, "record %d" % i * 50) for i in range(2000)]
    for i in range(0, 2000, 500):
        c.log_append(b"ks", b"a", [data.encode() for _, data in want[i:i + 500]])
    moved(server, objects, 2000)
    server.stop()
    words = [VARVE, "dump", "--data", str(server.data)]
    told = subprocess.run(words, capture_output=True, text=True, timeout=60,
                          env={**os.environ, "VARVE_TIER_DIR": str(objects)})
    assert told.returncode == 0, told.stderr
    rows = [json.loads(line) for line in told.stdout.splitlines()]
    assert [(r["offset"], r["record"]) for r in rows if r.get("log") == "a"] == want
    untold = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert untold.returncode == 3 and "none is configured" in untold.stderr


def test_s3(start, tmp_path):
    """The same with S3, configured by a file. While it answers nothing but errors what is only there cannot be
    read; appends go on, for a log's end is here; and no secret is told to the log."""
    with TinyS3() as s3:
        config = tmp_path / "varve.conf"
        config.write_text(f"[s3]\nbucket_name = varve\nobject_prefix = logs/\nendpoint = {s3.endpoint}\n"
                          "path_style = true\nuse_default_credentials = false\naccess_key = test\n"
                          "secret_key = testtest\n")
        server = start("--config", str(config), *FLAGS, "--tier-local-bytes", "32k", "--log-level", "debug")
        c = Binary(server.port("binary"))
        c.log_create(b"ks")
        rnd = random.Random(8)
        want = fill(c, b"a", rnd, 2000)
        until(lambda: metric(server, "varve_tier_dropped_total") > 0, "bytes that go from here")
        assert "logs/ks_config.ini" in s3.objects
        server.stop()
        server.start()
        c = Binary(server.port("binary"))
        s3.fail("status", lambda r: True, (403, "AccessDenied"), times=1 << 30)
        with pytest.raises(Refused, match="cannot read the log"):
            c.log_read(b"ks", b"a")
        assert c.log_append(b"ks", b"a", [b"more" * 20000])["first"] == 2001
        assert c.log_read(b"ks", b"a", backwards=True, size=1)["records"][0][0] == 2001
        until(lambda: metric(server, "varve_tier_failures_total") > 0, "the mover to fail")
        s3.faults.clear()
        same_everywhere(c, b"a", want + c.log_read(b"ks", b"a", backwards=True, size=1)["records"], rnd)
        assert "AccessDenied" in server.log()
        assert "testtest" not in server.log() and "Signature=" not in server.log()


def test_bad_settings(start, tmp_path):
    for flags, text in (
            (("--tier-dir", str(tmp_path / "no" / "such")), "tier: "),
            (("--tier-dir", str(tmp_path), "--s3-bucket-name", "b"), "both set"),
            (("--s3-bucket-name", "b", "--s3-endpoint", "gopher://127.0.0.1:1", "--s3-access-key", "a",
              "--s3-secret-key", "b", "--s3-use-default-credentials", "false"), "tier: ")):
        with pytest.raises(AssertionError, match="did not start") as e:
            start(*flags, name="bad")
        assert text in str(e.value)
