"""Rows 20 to 24: relations, beside redis's sets.

Lists are those of the load generator (src/cli/bench_rel.c): members are random ids, all different,
the same for both sides but that redis's have 1,000,000,000 added, so that all have ten digits.
"""
import json
import os
import pathlib
import resource
import time

from harness import Failed, number, output_of
from peers import Redis
from rows import against_redis, run, tool_run

TEN_MILLION, U32, U62 = 10_000_000, 1 << 32, 1 << 62
BLOCK_HEAD = 3  # bytes of a list that are neither its slot nor its ids (src/table/ids.h)


def fill_lists(bench, server, address, protocol, lists, members, ids):
    """Writes so many lists of so many members each; afterwards reads of them find all."""
    bench.load(address, server.pid, "--preset", "rel-get", "--protocol", protocol, "--requests", 1,
               "--pipeline", 1, *lists_flags(lists, members, ids), timed=False)


def lists_flags(lists, members, ids=TEN_MILLION):
    return ("--keys", lists, "--members", members, "--ids", ids)


def at_least(bench, what, value, unit, target, note=""):
    bench.check(what, value, unit, "", None, f"≥ {target / 1e6:g}M{unit}", value >= target, note)


def at_most(bench, what, value, unit, target, against="", note=""):
    bench.check(what, value, unit, against, None, f"≤ {target:g} {unit}", value <= target, note)


# ---- reading and adding


def lists_get(bench):
    lists = 50_000 if bench.options.quick else 1_000_000
    shape = lists_flags(lists, 100)
    what = "binary get of lists of 100, pipeline 100"
    with bench.varve() as varve, Redis(bench, durable=False) as redis:
        redis.pause()
        fill_lists(bench, varve, varve.binary, "binary", lists, 100, TEN_MILLION)
        redis.resume()
        varve.pause()
        fill_lists(bench, redis, redis.address, "resp", lists, 100, TEN_MILLION)
        varve.resume()
        rate = against_redis(
            bench, what,
            ("--preset", "rel-get", "--no-load", "--connections", 50, "--pipeline", 100, *shape),
            (varve, "binary get of lists of 100, 50 connections, pipeline 100", "on"),
            [(redis, "redis SMEMBERS", "-", 5)])
    at_least(bench, what, rate, "/s", 1e6, f"{number(lists)} lists, ids below 10M")
    inside = bench.side(f"varve in process: lists of 100, {number(lists)} of them, one thread")
    inside.rounds.append(tool_run(bench, "varve-rels", "--op", "get", "--lists", lists, "--members",
                                  100, "--ids", TEN_MILLION))
    at_least(bench, "get of lists of 100 in process, one thread", inside.median("rate"), "/s", 3e6,
             "the table, in batches of 128 brought near")


def lists_add(bench):
    lists = 50_000 if bench.options.quick else 1_000_000
    what = "durable add of one member, pipeline 1000"
    with bench.varve() as varve, Redis(bench, durable=True) as redis:
        rate = against_redis(
            bench, what, ("--preset", "rel-add", "--keys", lists, "--ids", TEN_MILLION),
            (varve, "add of one member, 10 connections, pipeline 1000", "on"),
            [(redis, "redis SADD, appendfsync always", "on", None)])
    at_least(bench, what, rate, "/s", 1e6, f"random ones of {number(lists)} lists")


# ---- intersecting


def lists_intersect(bench):
    members = 100_000 if bench.options.quick else 1_000_000
    size = number(members)
    flags = ("--preset", "rel-intersect", "--no-load")
    with bench.varve() as varve, Redis(bench, durable=False) as redis:
        for ids in (TEN_MILLION, U32):
            fill_lists(bench, varve, varve.binary, "binary", 2, members, ids)
        fill_lists(bench, redis, redis.address, "resp", 2, members, TEN_MILLION)
        ours = bench.side(f"varve: intersection of two lists of {size}, ids below 10M", "on")
        wide = bench.side(f"varve: intersection of two lists of {size}, ids below 2^32", "on")
        sinter = bench.side("redis SINTER, ids below 10M")
        bench.alternate(
            (ours, varve, run(bench, varve, varve.binary, *flags, *lists_flags(2, members),
                              threads=1)),
            (wide, varve, run(bench, varve, varve.binary, *flags, *lists_flags(2, members, U32),
                              threads=1)),
            # By count: one may take longer than a round.
            (sinter, redis, run(bench, redis, redis.address, "--protocol", "resp", *flags,
                                *lists_flags(2, members), "--requests", 10, threads=1,
                                timed=False)))
    for side, ids, below, judged in ((ours, TEN_MILLION, "10M", True), (wide, U32, "2^32", False)):
        what = f"intersection of two lists of {size}, ids below {below}"
        value, cpu = side.median("p50") / 1000, side.median("cpu") / 1000
        bench.check(f"{what}, median", value, "ms", "", None, "≤ 2 ms" if judged else "",
                    value <= 2 if judged else None,
                    f"one connection; server CPU {number(cpu)} ms, "
                    f"{number(side.median('objects') / side.median('rate'))} members come out")
        for made, parts in (("made in 100 additions", 100), ("made at once", 1)):
            inside = bench.side(f"varve in process: {what}, {made}")
            inside.rounds.append(tool_run(bench, "varve-rels", "--op", "intersect", "--lists", 2,
                                          "--members", members, "--ids", ids, "--parts", parts))
            bench.check("the same in process, median", inside.median("p50") / 1000, "ms", "", None,
                        "", None, f"the table, one thread; lists {made}")
    ratio = sinter.median("p50") / ours.median("p50")
    bench.check(f"intersection of two lists of {size}, ids below 10M, median",
                ours.median("p50") / 1000, "ms",
                f"redis SINTER: {number(sinter.median('p50') / 1000)} ms", ratio, "≥ 10 ×",
                ratio >= 10, "ratio: how many times faster")


# ---- memory


def lists_memory(bench):
    lists = 10_000 if bench.options.quick else 100_000  # of each size
    kinds = [  # what, ids below, the same in process (0: all of 64 bits), sizes, bytes a member
        ("ids below 10M, lists of 100 to 200", TEN_MILLION, TEN_MILLION, (100, 150, 200), 2.5),
        ("ids below 2^32, lists of 64 to 256", U32, U32, (64, 128, 256), 4),
        ("random 64-bit ids, lists of 100 to 200", U62, 0, (100, 150, 200), 8.1)]
    overhead = {"in the server": 0, "in process": 0}
    for what, ids, ids_inside, sizes, target in kinds:
        with bench.varve() as varve:
            for members in sizes:
                fill_lists(bench, varve, varve.binary, "binary", lists, members, ids)
            m = varve.metrics()
        held, members = m["varve_relation_lists_resident"], m["varve_relation_members_resident"]
        if held != lists * len(sizes) or members != lists * sum(sizes):
            raise Failed(f"{held:.0f} lists with {members:.0f} members are in memory")
        counted = tool_counts(bench, "--members", sizes[0], "--most", sizes[-1], "--lists",
                              lists * len(sizes), "--ids", ids_inside)
        for where, slots, n, blocks, n_members in (
                ("in the server", m["varve_relation_slot_bytes"], held, m["varve_relation_bytes"],
                 members),
                ("in process", counted["slot_bytes"], counted["lists"], counted["block_bytes"],
                 counted["members"])):
            note = "heads of lists and what lies idle in slabs included"
            if where == "in the server" and ids == U62:
                note += "; ids below 2^62"
            at_most(bench, f"memory a member, {what}, {where}", blocks / n_members, "bytes", target,
                    f"{number(int(n_members))} members", note)
            overhead[where] = max(overhead[where], slots / n + BLOCK_HEAD)
    for where, value in overhead.items():
        at_most(bench, f"overhead a list, {where}", value, "bytes", 24, note=
                f"its slot and a head of {BLOCK_HEAD} bytes; the largest of the three")


def tool_counts(bench, *flags):
    """What varve-rels says of memory."""
    status, out, err = output_of([bench.tool("varve-rels"), "--op", "get", "--duration", 1,
                                  "--warmup", 1, *flags])
    if status:
        raise Failed(f"varve-rels ended with {status}: {err.strip()[-200:]}")
    return json.loads(out)


# ---- importing


def cpu_seconds(pid):
    """What a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def make_pairs(bench, pairs, lists, ids):
    path = bench.path("pairs")
    status, _, err = output_of(["sh", "-c", 'exec "$0" "$1" "$2" "$3" > "$4"',
                                bench.tool("varve-pairs"), pairs, lists, ids, path])
    if status or path.stat().st_size != 16 * pairs:
        raise Failed(f"varve-pairs ended with {status}: {err.strip()[-200:]}")
    os.sync()
    return path


def import_pairs(bench):
    pairs = 2_000_000 if bench.options.quick else 100_000_000
    path = make_pairs(bench, pairs, pairs // 20, pairs // 2)
    mb = 1e6
    with bench.varve() as varve:
        empty, server_cpu = varve.memory(), cpu_seconds(varve.pid)
        client = resource.getrusage(resource.RUSAGE_CHILDREN)
        begin = time.monotonic()
        status, out, err = output_of([bench.build / "varve", "rel", "import", "bench", path,
                                      "--format", "pairs", "--server", varve.binary])
        seconds = time.monotonic() - begin
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        server_cpu = cpu_seconds(varve.pid) - server_cpu
        m, rss, peak = varve.metrics(), varve.memory(), varve.memory("VmHWM")
    path.unlink()
    found = dict(line.split() for line in out.splitlines() if len(line.split()) == 2)
    if status or found.get("pairs") != str(pairs) or found.get("bad") != "0":
        raise Failed(f"varve rel import ended with {status}: {(err or out).strip()[-300:]}")
    members = int(m["varve_relation_members_resident"])
    if members != int(found["added"]):
        raise Failed(f"{found['added']} members were added, {members} are in memory")
    client_cpu = sum(getattr(after, f) - getattr(client, f) for f in ("ru_utime", "ru_stime"))
    of = f"{number(pairs)} pairs, {number(int(m['varve_relation_lists_resident']))} lists"
    at_most(bench, "import, until all is durable", seconds, "s", 60, of,
            f"CPU: client {client_cpu:.1f} s, server {server_cpu:.1f} s; "
            f"{number(members)} members")
    held = m["varve_relation_bytes"] + m["varve_relation_slot_bytes"]
    at_most(bench, "memory of the relation, from metrics", held / mb, "MB", 450, of,
            f"{held / members:.2f} bytes a member, slots included")
    bench.check("resident memory of the server after it", rss / mb, "MB", of, None, "", None,
                f"empty {empty / mb:.0f}, at its peak {peak / mb:.0f}; buffers of the log and "
                "RocksDB's memory included")


ROWS = {
    "20": ("Lists of relations beside redis sets", lists_get),
    "21": ("Durable additions to relations beside redis sets", lists_add),
    "22": ("Intersections beside redis", lists_intersect),
    "23": ("Memory of relations", lists_memory),
    "24": ("Import of pairs", import_pairs),
}
