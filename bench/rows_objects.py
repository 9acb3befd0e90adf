"""Rows 25 to 27: logs as objects, in a directory and on S3 (Ceph's, from Debian's packages)."""
import json
import re
import shutil

from harness import Failed, ROOT, number, output_of, program
from rows import RECORD, cpu_note, objects
from rows_rels import at_most

ACCESS, SECRET = "test", "testtest"  # of tests/s3/rgw


def archive(bench, verb, *flags, seconds=300):
    """Standard output of varve-archive."""
    status, out, err = output_of([bench.tool("varve-archive"), verb, *flags], seconds)
    if status:
        raise Failed(f"varve-archive {verb} ended with {status}: {err.strip()[-200:]}")
    return out


# ---- a server that moves its logs


def tiering(bench):
    seconds = 1 if bench.options.quick else 10
    load = ("--op", "append", "--connections", max(8, bench.options.client_threads), "--items", 100,
            "--pipeline", 16, *RECORD, "--duration", f"{seconds}s", "--warmup", "500ms")
    off = bench.side(f"varve: append of 100 records of 100 B for {seconds} s", "on")
    on = bench.side("varve: the same with tier.dir", "on")
    moved = []
    for _ in range(bench.rounds):
        # A server of its own for each, as in row 13.
        with bench.varve() as varve:
            off.rounds.append(bench.load(varve.binary, varve.pid, *load, timed=False))
        shutil.rmtree(varve.data)  # gigabytes
        to = bench.path("tier")
        with bench.varve("--tier-dir", to) as varve:
            on.rounds.append(bench.load(varve.binary, varve.pid, *load, timed=False))
            m = varve.metrics()
        if not m["varve_tier_moved_records_total"] or m["varve_tier_failures_total"]:
            raise Failed("nothing was moved, or moving failed")
        moved.append(m["varve_tier_moved_records_total"] / m["varve_records_appended_total"])
        shutil.rmtree(varve.data)
        shutil.rmtree(to)
    bench.compare("append with tiering to a directory", objects(on), "records/s", "without",
                  objects(off), 0.9,
                  f"{cpu_note(on)}; {min(moved):.0%} of them moved when the load ended")


# ---- requests


def object_requests(bench):
    millions = 1 if bench.options.quick else 3
    for i, r in enumerate(json.loads(archive(bench, "requests", "--dir", bench.path("objects"),
                                             "--millions", millions))):
        at_most(bench, "the first million records of 100 B, 100 logs" if i == 0 else
                f"million number {i + 1}", r["requests"], "requests", 300,
                note=f"batching writer to a directory, {number(1e6 / r['seconds'])} records/s; "
                "a batch waits for 1 s at most, so slower is more")
    by_size, = json.loads(archive(bench, "requests", "--dir", bench.path("objects"), "--millions",
                                  1, "--interval", 3_600_000))
    bench.check("the first million, batches by size alone", by_size["requests"], "requests", "",
                None, "", None, f"{number(1e6 / by_size['seconds'])} records/s")
    many = 1000 if bench.options.quick else 10_000
    path = bench.path("objects")
    archive(bench, "fill", "--dir", path, "--objects", many, seconds=600)  # five syncs an append
    there = len(archive(bench, "objects", "--dir", path).splitlines())
    if there != many:
        raise Failed(f"the log has {there} objects, not {many}")
    for start, r in json.loads(archive(bench, "seek", "--dir", path)).items():
        at_most(bench, f"one record by {start} among {number(many)} objects", r["most"], "requests",
                16, note=f"the most of 200, each by a reader of its own; {r['mean']:.1f} in the "
                f"mean, {number(r['p50_us'])} us in the median")


# ---- S3


class Gateway:
    """Ceph with its S3 gateway, as the tests start it."""

    def __init__(self, bench):
        for name in ("radosgw", "ceph-mon", "ceph-osd", "radosgw-admin", "uuidgen"):
            program(name, "s3")
        self.place = bench.path("ceph")
        self.tool = ROOT / "tests" / "s3" / "rgw"
        try:
            status, out, err = output_of([self.tool, "start", self.place], 180)
        except BaseException:
            self.stop()  # its daemons do not end with it
            raise
        if status:
            raise Failed(f"Ceph does not start: {err.strip()[-200:]}")
        self.endpoint = out.strip()

    def stop(self):
        output_of([self.tool, "stop", self.place], 60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def beside_curl(bench, gateway, count, *flags):
    """{what: MB/s of (curl, varve)} as bench/object-curl finds them."""
    rounds = 1 if bench.options.quick else 3
    status, out, err = output_of([ROOT / "bench" / "object-curl", gateway.endpoint, "bench", ACCESS,
                                  SECRET, "--make-bucket", "--build", bench.build, "--count", count,
                                  "--rounds", rounds, *flags], 300)
    lines = re.findall(r"^(\w+): curl ([\d.]+) MB/s, varve ([\d.]+) MB/s", out, re.M)
    if status or not lines:
        raise Failed(f"bench/object-curl ended with {status}: {err.strip()[-200:]}")
    return {what: (float(curl), float(varve)) for what, curl, varve in lines}


def s3_beside_curl(bench):
    count = 20 if bench.options.quick else 400
    store = ("--bucket", "bench", "--access-key", ACCESS, "--secret-key", SECRET, "--prefix",
             "logs/")
    with Gateway(bench) as gateway:
        plain = beside_curl(bench, gateway, count)
        hashed = beside_curl(bench, gateway, count, "--hash-payload", "--only", "put")
        # 7490 records of 100 B are 1 MiB.
        archive(bench, "fill", "--endpoint", gateway.endpoint, *store, "--objects", count,
                "--records", 7490)
        read = beside_curl(bench, gateway, count, "--only", "log")
    for what, (curl, varve), target, note in (
            ("upload of 1 MiB objects to RGW", plain["put"], 0.9,
             "payloads not hashed, as is the default over https and to this machine; nor does curl"),
            ("the same with payloads hashed and signed", hashed["put"], None,
             "as over plain http to other machines; curl hashes nothing"),
            ("download of 1 MiB objects from RGW", plain["get"], 0.9, ""),
            ("sequential read of a log on RGW", read["log"], 0.9,
             f"{count} objects of 1 MiB, records of 100 B, each looked into; curl gets the same "
             "objects in parallel")):
        bench.compare(what, varve, "MB/s", "curl", curl, target, note)


ROWS = {
    "25": ("Appends with and without tiering", tiering),
    "26": ("Requests of logs as objects", object_requests),
    "27": ("S3 beside curl", s3_beside_curl),
}
