"""The rows: what is measured against what, and the ratio to reach. One function a row.

A row starts its servers in a directory of its own, alternates between them and adds lines to the
table with bench.check and bench.compare. The unit of work of both sides is always the same request
from the same load generator (`varve bench`), with the same connections, threads and pipeline.
"""
import json
import signal
import socket
import struct

from harness import Failed, flatten, number, output_of, program
from peers import Echo, Etcd, Redis

KEYS = 100_000  # key space of the hot rows
SEED_CONNECTIONS = 512  # of the concave seed's benchmarks
PIPELINED = ("--connections", 50, "--pipeline", 100, "--keys", KEYS, "--value-size", 100)


def echo_for(bench, exchange):
    """An echo whose requests and replies have the sizes of varve's, checked on the wire."""
    request, reply = exchange
    return Echo(bench, request, reply)


def same_bytes(bench, echo, flags, wanted, within=0):
    """Fails unless the load generator exchanges as many bytes with the echo as with varve, but for
    so many of the request."""
    request, reply = bench.probe(echo.address, "--protocol", "echo-http", *flags)[-1]
    if abs(request - wanted[0]) > within or reply != wanted[1]:
        raise Failed(f"the echo exchanges {request}/{reply} bytes, varve {wanted[0]}/{wanted[1]}")


def run(bench, server, address, *flags, **kwargs):
    return lambda: bench.load(address, server.pid, *flags, **kwargs)


def against_echo(bench, what, flags, setup=None):
    """varve over HTTP and the echo under the same load: the two sides, measured."""
    with bench.varve() as varve:
        if setup:
            setup(varve)
        exchange = bench.probe(varve.http, *flags, "--requests", 1)[-1]
        with echo_for(bench, exchange) as echo:
            same_bytes(bench, echo, (*flags, "--requests", 1), exchange)
            ours = bench.side(f"varve: {what}", "on")
            theirs = bench.side(f"echo: {exchange[0]} B in, {exchange[1]} B out")
            bench.alternate(
                (ours, varve, run(bench, varve, varve.http, *flags)),
                (theirs, echo, run(bench, echo, echo.address, "--protocol", "echo-http", *flags)))
    return ours, theirs


def http_get(bench):
    flags = ("--preset", "http-get", "--connections", 64, "--keys", KEYS, "--value-size", 100)
    ours, theirs = against_echo(
        bench, "HTTP GET of an existing key, 64 connections", (*flags, "--no-load"),
        lambda varve: bench.fill(varve, "binary", varve.binary, KEYS, 100))
    bench.compare("HTTP GET, 64 connections", ours.median("rate"), "/s", "echo",
                  theirs.median("rate"), 0.85)


def http_put_one(bench):
    flags = ("--preset", "concave-put-1")
    ours, theirs = against_echo(bench, "HTTP put of 1 new object, 512 clients", flags)
    rate = ours.median("rate")
    bench.compare("HTTP put of 1, 512 clients", rate, "/s", "echo", theirs.median("rate"), 0.6)
    bench.check("HTTP put of 1, 512 clients", rate, "/s", "seed: 70k", rate / 70e3, "> 70k/s",
                rate > 70e3)


def http_put_many(bench):
    ours = bench.side("varve: HTTP put of 500 new objects, 512 clients", "on")
    as_seed = bench.side("varve: the same, each client 5 times, as the seed did", "on")
    for _ in range(bench.rounds):
        with bench.varve() as varve:
            as_seed.rounds.append(bench.load(varve.http, varve.pid, "--preset", "concave-put-500",
                                             timed=False))
        with bench.varve() as varve:
            ours.rounds.append(bench.load(varve.http, varve.pid, "--preset", "concave-put-500"))
    rate, seed_rate = ours.median("objects"), as_seed.median("objects")
    bench.check("HTTP put of 500, 512 clients, sustained", rate, "objects/s", "seed: 264k",
                rate / 264e3, "≥ 1M objects/s", rate >= 1e6)
    bench.check("HTTP put of 500, 512 clients, 5 each", seed_rate, "objects/s", "seed: 264k",
                seed_rate / 264e3, "", None)


def increments(bench):
    flags = ("--preset", "concave-increment")
    get = ("--op", "get", "--connections", SEED_CONNECTIONS, "--no-load")
    # The load generator has no increment for the echo. Its SET of 1 byte is about as long as the
    # put of a number: the number and its version have 1 digit at first and 4 or more later.
    put = ("--op", "set", "--connections", SEED_CONNECTIONS, "--value-size", 1, "--no-load")
    with bench.varve() as varve:
        gets, puts = bench.probe(varve.http, *flags, "--requests", 2)[-2:]
        put_request = bench.probe(varve.http, "--protocol", "http", *put, "--requests", 1)[-1][0]
        with echo_for(bench, gets) as echo_get, Echo(bench, put_request, puts[1]) as echo_put:
            same_bytes(bench, echo_get, (*get, "--requests", 1), gets)
            same_bytes(bench, echo_put, (*put, "--requests", 1), puts, within=12)
            ours = bench.side("varve: increments, 512 clients, a key each", "on")
            ask = bench.side(f"echo: {gets[0]} B in, {gets[1]} B out (the get)")
            write = bench.side(f"echo: {put_request} B in, {puts[1]} B out (the put)")
            echo_http = ("--protocol", "echo-http")
            bench.alternate(
                (ours, varve, run(bench, varve, varve.http, *flags)),
                (ask, echo_get, run(bench, echo_get, echo_get.address, *echo_http, *get)),
                (write, echo_put, run(bench, echo_put, echo_put.address, *echo_http, *put)))
    rate = ours.median("rate")
    both = 1 / (1 / ask.median("rate") + 1 / write.median("rate"))
    bench.compare("increments, 512 clients", rate, "/s", "two echo round trips", both, 0.4,
                  "an increment is a get and a put, so two round trips")
    bench.compare("increments, 512 clients", rate, "/s", "one echo round trip",
                  write.median("rate"), note="for information: 0.5 would be no work at all")
    bench.check("increments, 512 clients", rate, "/s", "seed: 43k", rate / 43e3, "> 43k/s",
                rate > 43e3)


def get_missing(bench):
    ours = bench.side("varve: HTTP GET of missing keys, 512 clients", "on")
    with bench.varve() as varve:
        bench.fill(varve, "binary", varve.binary, KEYS, 100)
        bench.alternate((ours, varve,
                         run(bench, varve, varve.http, "--preset", "concave-get-missing")))
    rate = ours.median("rate")
    bench.check("HTTP GET of missing keys, 512 clients", rate, "/s", "seed: 148k", rate / 148e3,
                "> 148k/s", rate > 148e3)


def redis_benchmark(bench, redis, op, side):
    """redis-benchmark's own figure, with keys of 16 bytes."""
    requests = int(400_000 * bench.options.duration)
    command = [program("redis-benchmark"), "-p", redis.port, "-t", op, "-n", requests, "-P", 100,
               "-c", 50, "-d", 100, "-r", KEYS, "--csv"]
    status, out, err = output_of(command)
    if status:
        raise Failed(f"redis-benchmark ended with {status}: {err.strip()[-200:]}")
    # "test","rps","avg_latency_ms","min","p50","p95","p99","max"
    fields = [f.strip('"') for f in out.strip().splitlines()[-1].split(",")]
    p50, p95, p99 = (float(f) * 1000 for f in fields[4:7])
    side.rounds.append({"rate": float(fields[1]), "p50": p50, "p95": p95, "p99": p99})


def against_redis(bench, what, flags, ours, peers):
    """varve and redis under the same load, with one thread of the load generator and with one a
    core: redis has one thread itself, and which is better for it depends on the machine. A ratio to
    reach counts where redis is at its best; the other is for information.

    ours: (server, name, fsync); peers: [(server, name, fsync, ratio to reach)], redis."""
    server, name, fsync = ours
    found = {}  # threads of the load generator: [varve's rate, the peers']
    for threads in sorted({1, bench.options.client_threads}):
        by = f"{threads} client thread{'s' if threads > 1 else ''}"
        subjects = [(bench.side(f"varve: {name}, {by}", fsync), server,
                     run(bench, server, server.binary, *flags, threads=threads))]
        subjects += [(bench.side(f"{peer_name}, {by}", peer_fsync), peer,
                      run(bench, peer, peer.address, "--protocol", "resp", *flags,
                          threads=threads)) for peer, peer_name, peer_fsync, _ in peers]
        bench.alternate(*subjects)
        found[threads] = [side.median("rate") for side, _, _ in subjects]
    for i, (_, peer_name, _, ratio) in enumerate(peers, 1):
        best = max(found, key=lambda threads: found[threads][i])
        for threads, rates in found.items():
            bench.compare(what, rates[0], "/s", peer_name, rates[i],
                          ratio if threads == best else None,
                          f"client threads: {threads}" +
                          (", redis at its best" if threads == best else ""))
    return max(rates[0] for rates in found.values())


def binary_get(bench):
    with bench.varve() as varve, Redis(bench, durable=False) as redis:
        bench.fill(varve, "binary", varve.binary, KEYS, 100)
        bench.fill(redis, "resp", redis.address, KEYS, 100)
        what = "binary GET, pipeline 100"
        rate = against_redis(bench, what, ("--preset", "binary-get", "--no-load", *PIPELINED),
                             (varve, "binary GET, 50 connections, pipeline 100", "on"),
                             [(redis, "redis GET", "-", 3)])
        varve.pause()
        own = bench.side("redis-benchmark: GET, the same")
        redis_benchmark(bench, redis, "set", own)  # its own keys are not there yet
        own.rounds.clear()
        for _ in range(bench.rounds):
            redis_benchmark(bench, redis, "get", own)
    bench.compare(what, rate, "/s", "redis-benchmark GET", own.median("rate"),
                  note="cross-check of the load generator")


def binary_set(bench):
    with bench.varve() as varve, Redis(bench, durable=True) as synced, \
            Redis(bench, durable=False) as unsynced:
        what = "binary durable SET, pipeline 100"
        rate = against_redis(bench, what, ("--preset", "binary-set", *PIPELINED),
                             (varve, "binary SET, 50 connections, pipeline 100", "on"),
                             [(synced, "redis SET, appendfsync always", "on", 3),
                              (unsynced, "redis SET, no persistence", "off", 1.5)])
        varve.pause()
        synced.pause()
        own = bench.side("redis-benchmark: SET, no persistence", "off")
        for _ in range(bench.rounds):
            redis_benchmark(bench, unsynced, "set", own)
    bench.compare(what, rate, "/s", "redis-benchmark SET, no persistence", own.median("rate"),
                  note="cross-check of the load generator")


def bare_sync(bench, path, size, overwrite, append):
    """One round of both bare ways, half of a round's time each."""
    status, out, err = output_of([bench.tool("varve-bare-sync"), "--file", path, "--bytes", size,
                                  "--duration", int(bench.options.duration * 500)])
    if status:
        raise Failed(f"varve-bare-sync ended with {status}: {err.strip()}")
    result = json.loads(out)
    for side, name in ((overwrite, "overwrite"), (append, "append")):
        r = result[name]
        side.rounds.append({"rate": 1e6 / r["p50"], "p50": r["p50"], "p95": r["p95"],
                            "p99": r["p99"]})


def one_client(bench):
    rounds = max(bench.rounds, 5)  # the disk's latency drifts
    http = ("--preset", "durable-put-1")
    binary = ("--protocol", "binary", "--op", "put", "--connections", 1, "--value-size", 36)
    with bench.varve() as varve:
        bench.load(varve.http, varve.pid, *http, threads=1)
        m = varve.metrics()
        size = max(1, round(m["varve_wal_payload_bytes_total"] / m["varve_wal_frames_total"]))
        ours = bench.side("varve: HTTP put of 1 new object, 1 client", "on")
        wire = bench.side("varve: binary SET of 1 new key, 1 client", "on")
        overwrite = bench.side(f"bare: {size} B over zeros + fdatasync", "on")
        append = bench.side(f"bare: {size} B appended + fdatasync", "on")
        path = bench.path("bare")
        for _ in range(rounds):
            varve.pause()
            bare_sync(bench, path, size, overwrite, append)
            varve.resume()
            ours.rounds.append(bench.load(varve.http, varve.pid, *http, threads=1))
            wire.rounds.append(bench.load(varve.binary, varve.pid, *binary, threads=1))
    bare = {"overwrite": overwrite.median("p50"), "append": append.median("p50")}
    faster = min(bare, key=bare.get)
    slower = max(bare, key=bare.get)
    for what, side in (("HTTP put", ours), ("binary SET", wire)):
        value = side.median("p50")
        for name in (faster, slower):
            ratio = value / bare[name]
            judged = name == faster
            bench.check(f"durable {what}, 1 client, median", value, "us",
                        f"bare {name}: {number(bare[name])} us", ratio,
                        "≤ 1.3 ×" if judged else "", ratio <= 1.3 if judged else None,
                        "the faster bare way" if judged else "")


def memory(bench):
    space = bench.loaded()
    raw = space.KEY + space.VALUE
    m, keys = space.metrics, space.keys

    def line(what, total, judged, note=""):
        value = total / keys - raw
        bench.check(f"memory a key beyond its {raw} bytes, {what}", value, "bytes",
                    f"{number(keys)} keys", None, "≤ 48 bytes" if judged else "",
                    value <= 48 if judged else None, note)

    if m["varve_entries_resident"] < keys:
        raise Failed(f"only {m['varve_entries_resident']:.0f} of {keys} keys are in memory")
    line("from metrics", m["varve_table_bytes"] + m["varve_slot_bytes"], True,
         "varve_table_bytes + varve_slot_bytes")
    line("resident, after loading", space.rss_loaded - space.rss_empty, True,
         "log buffers and RocksDB's cache included")
    settled = space.settle()
    line("resident, after a checkpoint", space.server.memory() - space.rss_empty, False,
         "" if settled else "not all was checkpointed in 180 s")


def spot_check(bench, server, keys):
    """Some gets, all of which must hit."""
    bench.load(server.binary, server.pid, "--preset", "binary-get", "--no-load", "--keys", keys,
               "--value-size", 100, "--requests", 200, "--pipeline", 10, timed=False)


def restart(bench):
    space = bench.loaded()

    def line(what, seconds, note=""):
        bench.check(f"restart with {number(space.keys)} keys, {what}", seconds, "s", "", None,
                    "< 2 s", seconds < 2, note)

    def recovered():
        m = space.server.metrics()
        return (f"{number(int(m['varve_recovery_frames']))} records replayed in "
                f"{m['varve_recovery_replay_nanoseconds'] / 1e9:.2f} s")

    space.fill()
    seconds = space.restart(signal.SIGKILL)
    line("after kill -9 at the end of writing all of them again", seconds, recovered())
    spot_check(bench, space.server, space.keys)
    for what, sig in (("after SIGTERM", signal.SIGTERM), ("after kill -9", signal.SIGKILL)):
        times = []
        for _ in range(bench.rounds):
            if not space.settle():
                raise Failed("not all was checkpointed in 180 s")
            times.append(space.restart(sig))
        spot_check(bench, space.server, space.keys)
        line(f"{what}, checkpointed", sorted(times)[len(times) // 2], recovered())


def replay(bench):
    """A log tail that no checkpoint shortened, replayed."""
    keys = bench.options.keys // 2
    flags = ("--storage-checkpoint-interval", "0", "--storage-max-blocks", "10000",
             "--storage-memory-limit", "16g")
    server = bench.varve(*flags)
    bench.fill(server, "binary", server.binary, keys, 100)
    rates, note = [], ""
    for _ in range(bench.rounds):
        server.end(signal.SIGKILL)
        server = bench.varve(*flags, data=server.data)
        m = server.metrics()
        frames = int(m["varve_recovery_frames"])
        rates.append(frames * 1e9 / max(1, m["varve_recovery_replay_nanoseconds"]))
        note = f"{number(frames)} records; ready after {server.ready_seconds:.2f} s"
        if frames < keys:
            note += f" (of {number(keys)}: a checkpoint dropped the rest)"
    spot_check(bench, server, keys)
    server.end()
    rate = sorted(rates)[len(rates) // 2]
    bench.check("replay of a log tail", rate, "records/s", "", None, "≥ 1M records/s",
                rate >= 1e6, note)


def restart_and_replay(bench):
    restart(bench)
    replay(bench)


def read_all(address, keys, value_size):
    """Reads every key once over one connection, pipelined, and compares length and digits; how
    many are wrong or missing. A client of its own, so that it does not share the load generator's
    mistakes."""
    batch, wrong = 500, 0
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 60) as s:
        stream = s.makefile("rb", buffering=1 << 20)
        for first in range(0, keys, batch):
            numbers = range(first, min(first + batch, keys))
            texts = [b"key%012d" % n for n in numbers]
            s.sendall(b"".join(struct.pack("<HI", 1, len(t)) + t for t in texts))
            for text in texts:
                size, = struct.unpack("<I", stream.read(4))
                value = stream.read(size)
                wrong += size != value_size or value[:12] != text[3:]
    return wrong


def beyond_memory(bench):
    limit, value = bench.options.limit, 1000
    keys = 4 * limit // (15 + value)
    with bench.varve("--storage-memory-limit", limit) as varve:
        bench.fill(varve, "binary", varve.binary, keys, value)
        after_load = varve.memory("VmHWM")
        wrong = read_all(varve.binary, keys, value)
        bench.check(f"{number(keys)} keys, 4 × the limit: wrong or missing", wrong, "keys",
                    f"limit {limit >> 20} MiB", None, "0", wrong == 0, "each read and compared")
        cold = bench.side("varve: binary GET of random keys, 64 connections, data 4 × memory", "on")
        flags = ("--preset", "binary-get", "--no-load", "--connections", 64, "--pipeline", 1,
                 "--keys", keys, "--value-size", value)
        for _ in range(bench.rounds):
            cold.rounds.append(bench.load(varve.binary, varve.pid, *flags))
        before = varve.metrics()["varve_loads_total"]
        counted = bench.load(varve.binary, varve.pid, *flags, "--requests", 500, timed=False)
        share = (varve.metrics()["varve_loads_total"] - before) / counted["requests"]
        peak = varve.memory("VmHWM")
    bench.check("peak resident memory", peak / (1 << 20), "MiB", f"limit {limit >> 20} MiB",
                peak / limit, "≤ 1.2 ×", peak <= 1.2 * limit,
                f"{after_load / limit:.2f} × after loading")
    bench.check("GET of random keys, data 4 × memory", cold.median("rate"), "/s", "", None, "",
                None, f"{share:.0%} of them from below; the page cache holds the files")


def kv_run(bench):
    names = ("SET", "GET", "DELETE")
    flags = ("--preset", "kv-run", *PIPELINED)
    with bench.varve() as varve, Redis(bench, durable=True) as redis:
        subjects = [(varve, varve.binary, "varve: kv-run", flags),
                    (redis, redis.address, "redis: kv-run", ("--protocol", "resp", *flags))]
        sides = {name: [bench.side(f"{name} {op}", "on") for op in names]
                 for _, _, name, _ in subjects}
        for server, _, _, _ in subjects:
            server.pause()
        for _ in range(bench.rounds):
            for server, address, name, with_flags in subjects:
                server.resume()
                for side, result in zip(sides[name],
                                        bench.load_runs(address, server.pid, *with_flags)):
                    side.rounds.append(result)
                server.pause()
    for i, op in enumerate(names):
        ours, theirs = (sides[name][i] for _, _, name, _ in subjects)
        tail = f"p50/p95/p99 {' / '.join(number(ours.median(p)) for p in ('p50', 'p95', 'p99'))} us"
        bench.compare(f"kv-run {op}, pipeline 100", ours.median("rate"), "/s",
                      "redis, appendfsync always", theirs.median("rate"), note=tail)


def beside_etcd(bench):
    keys = KEYS // 10  # etcd takes its time to load
    common = ("--connections", 64, "--value-size", 100)
    gets = ("--preset", "http-get", "--no-load", *common, "--keys", keys)
    puts = ("--protocol", "http", "--op", "put", *common)
    with bench.varve() as varve, Etcd(bench) as etcd:
        as_etcd = ("--protocol", "etcd")
        bench.fill(varve, "binary", varve.binary, keys, 100)
        bench.load(etcd.address, etcd.pid, "--preset", "http-get", *as_etcd, "--requests", 1,
                   "--keys", keys, "--value-size", 100, timed=False)
        for what, flags in (("put", puts), ("get", gets)):
            ours = bench.side(f"varve: HTTP {what}, 64 connections", "on")
            theirs = bench.side(f"etcd: JSON {what}, 64 connections", "on")
            etcd_flags = (*flags, *as_etcd)
            bench.alternate((ours, varve, run(bench, varve, varve.http, *flags)),
                            (theirs, etcd, run(bench, etcd, etcd.address, *etcd_flags)))
            bench.compare(f"HTTP {what}, 64 connections", ours.median("rate"), "/s",
                          f"etcd {what}", theirs.median("rate"))


def rocks(bench, *flags):
    """One run of RocksDB in a process of its own."""
    o = bench.options
    command = [bench.tool("varve-rocks"), "--dir", bench.path("rocks"), "--value-size", 100,
               "--duration", int(o.duration * 1000), "--warmup", int(o.warmup * 1000), *flags]
    status, out, err = output_of(command)
    if status:
        raise Failed(f"varve-rocks ended with {status}: {err.strip()[-200:]}")
    return flatten(json.loads(out))


def beside_rocksdb(bench):
    put = ("--op", "put", "--value-size", 100)
    many = ("--protocol", "http", *put, "--items", 500)
    pairs = [
        ("synced put, 1 writer", "/s", "rate", ("--op", "put"),
         "binary", ("--protocol", "binary", *put, "--connections", 1)),
        ("synced put, 64 writers", "/s", "rate", ("--op", "put", "--threads", 64),
         "binary", ("--protocol", "binary", *put, "--connections", 64)),
        ("synced put of 500, 1 writer", "objects/s", "objects", ("--op", "put", "--batch", 500),
         "http", (*many, "--connections", 1)),
        ("get, cached", "/s", "rate", ("--op", "get", "--threads", bench.cores, "--keys", KEYS),
         "binary", ("--preset", "binary-get", "--no-load", *PIPELINED)),
    ]
    with bench.varve() as varve:
        bench.fill(varve, "binary", varve.binary, KEYS, 100)
        for what, unit, field, rocks_flags, protocol, flags in pairs:
            ours = bench.side(f"varve ({protocol}): {what}", "on")
            theirs = bench.side(f"RocksDB in process: {what}", "on")
            threads = 1 if "1 writer" in what else None
            measure = run(bench, varve, varve.address[protocol], *flags, threads=threads)
            bench.alternate((ours, varve, measure),
                            (theirs, None, lambda f=rocks_flags: rocks(bench, *f)))
            bench.compare(f"{protocol} {what}", ours.median(field), unit, "RocksDB in process",
                          theirs.median(field))


# ---- logs

RECORD = ("--value-size", 100)
EVENTS = 10_000


def objects(side):
    return side.median("objects")


def cpu_note(side):
    cpu = side.median("cpu_object")
    return f"server CPU {cpu:.2f} us a record" if cpu is not None else ""


def log_append(bench):
    threads = bench.options.client_threads
    connections = ("--connections", max(8, threads))
    append = ("--op", "append", *connections, *RECORD)
    ours = ("--items", 100, "--pipeline", 16)
    theirs = ("--protocol", "resp", "--pipeline", 1600)  # as many records under way
    one = bench.side("varve: append of 100 records of 100 B, one log", "on")
    many = bench.side("varve: the same, 1000 logs", "on")
    steady = bench.side("varve: one log for 20 s, checkpoints and all", "on")

    # A server of its own for each round: what one leaves for a checkpoint to do is not counted
    # against the next.
    def fresh(side, *flags, **kwargs):
        with bench.varve() as varve:
            side.rounds.append(bench.load(varve.binary, varve.pid, *append, *ours, *flags, **kwargs))

    for _ in range(bench.rounds):
        fresh(one)
        fresh(many, "--logs", 1000)
    fresh(steady, "--duration", "20s", "--warmup", "1s", timed=False)
    with Redis(bench, durable=True) as synced, Redis(bench, durable=False) as unsynced:
        peers = [(bench.side("redis XADD, appendfsync always", "on"), synced),
                 (bench.side("redis XADD, no persistence", "off"), unsynced)]
        bench.alternate(*((side, redis, run(bench, redis, redis.address, *append, *theirs))
                          for side, redis in peers))
    rate = objects(one)
    bench.check("append, 100 records of 100 B a request", rate, "records/s", "", None, "", None,
                cpu_note(one))
    bench.check("the same, 1000 logs", objects(many), "records/s", "", None, "", None,
                cpu_note(many))
    bench.check("one log, sustained for 20 s", objects(steady), "records/s", "", None,
                "≥ 2M records/s", objects(steady) >= 2e6, cpu_note(steady))
    for side, _ in peers:
        bench.compare("append, 100 records of 100 B a request", rate, "records/s", side.name,
                      objects(side))


def log_read(bench):
    records = 100_000 if bench.options.quick else 1_000_000
    pages = ("--op", "read", "--connections", 2, "--pipeline", 4, "--items", 1000,
             "--keys", records, *RECORD)
    tail = ("--op", "tail", "--connections", 2, "--keys", records, *RECORD)
    with bench.varve() as varve, Redis(bench, durable=False) as redis:
        bench.fill_logs(varve.binary, varve.pid, records)
        bench.fill_logs(redis.address, redis.pid, records, protocol="resp")
        read = bench.side("varve: pages of 1000 records of 100 B", "on")
        stream = bench.side("varve: the whole log in one stream", "on")
        ranges = bench.side("redis XRANGE COUNT 1000")
        bench.alternate(
            (read, varve, run(bench, varve, varve.binary, *pages, threads=1)),
            (stream, varve, run(bench, varve, varve.binary, *tail, threads=1)),
            (ranges, redis, run(bench, redis, redis.address, "--protocol", "resp", *pages,
                                threads=1)))
    for what, side in (("pages of 1000", read), ("one stream", stream)):
        rate = objects(side)
        bench.check(f"sequential read over binary, {what}", rate, "records/s", "", None,
                    "≥ 5M records/s", rate >= 5e6, cpu_note(side))
    bench.compare("sequential read over binary, pages of 1000", objects(read), "records/s",
                  ranges.name, objects(ranges))


def tool_run(bench, name, *flags):
    """One run of a program of bench/ that prints as the load generator does."""
    o = bench.options
    command = [bench.tool(name), "--duration", int(o.duration * 1000), "--warmup",
               int(o.warmup * 1000), *flags]
    status, out, err = output_of(command)
    if status:
        raise Failed(f"{name} ended with {status}: {err.strip()[-200:]}")
    return flatten(json.loads(out))


def endpoint(bench):
    path = bench.path("zmq")
    if len(str(path)) > 100:
        raise Failed(f"{path} is too long for a socket: build in a directory with a shorter path")
    return f"ipc://{path}"


def zmq(bench, server, *flags):
    at = server.address["zmq"] if server else endpoint(bench)
    return lambda: tool_run(bench, "varve-zmq", "--endpoint", at, *flags)


def an_event(bench, what, side, target, note=""):
    """A line with the time one event takes at the client."""
    each = 1e6 / objects(side)
    bench.check(what, each, "us an event", "", None, f"≤ {target} us" if target else "",
                each <= target if target else None, note)


def get_events(bench):
    read = ("--protocol", "http", "--op", "read", "--connections", 1, "--items", EVENTS,
            "--keys", EVENTS, *RECORD)
    with bench.varve("--zmq", endpoint(bench)) as varve:
        bench.fill_logs(varve.binary, varve.pid, EVENTS)
        ours = bench.side("varve: GET of 10,000 events of 100 B over ZeroMQ on ipc", "on")
        bare = bench.side("bare libzmq: the same bytes from a ROUTER that does nothing else")
        raw = bench.side("varve: GET of 10,000 records of 100 B over HTTP, raw", "on")
        bench.alternate(
            (ours, varve, zmq(bench, varve, "--op", "get", "--events", EVENTS)),
            (bare, None, zmq(bench, None, "--op", "echo-get", "--events", EVENTS)),
            (raw, varve, run(bench, varve, varve.http, *read, threads=1)))
    an_event(bench, "GET 10,000 events of 100 B, ZeroMQ on ipc", ours, 0.25,
             f"bare libzmq: {1e6 / objects(bare):.3f} us")
    an_event(bench, "the same through HTTP as raw bytes", raw, 0.25)


def put_events(bench):
    rounds = max(bench.rounds, 5)  # the disk's latency drifts
    with bench.varve("--zmq", endpoint(bench)) as varve:
        lockstep = zmq(bench, varve, "--op", "put")
        lockstep()
        m = varve.metrics()
        size = max(1, round(m["varve_wal_payload_bytes_total"] / m["varve_wal_frames_total"]))
        one = bench.side("varve: PUT of an event of 100 B, REQ in lockstep", "on")
        bare = bench.side("bare libzmq: REQ and ROUTER in lockstep")
        overwrite = bench.side(f"bare: {size} B over zeros + fdatasync", "on")
        append = bench.side(f"bare: {size} B appended + fdatasync", "on")
        path = bench.path("bare")
        for _ in range(rounds):
            varve.pause()
            bare_sync(bench, path, size, overwrite, append)
            bare.rounds.append(zmq(bench, None, "--op", "echo-put")())
            varve.resume()
            one.rounds.append(lockstep())
        many = bench.side("varve: PUT of an event, DEALER with 1000 under way", "on")
        libzmq = bench.side("bare libzmq: DEALER with 1000 under way, and ROUTER")
        flight = ("--flight", 1000)
        bench.alternate((many, varve, zmq(bench, varve, "--op", "put", *flight)),
                        (libzmq, None, zmq(bench, None, "--op", "echo-put", *flight)))
    value, faster = one.median("p50"), min(overwrite, append, key=lambda side: side.median("p50"))
    for side in (overwrite, append):
        ratio, judged = value / side.median("p50"), side is faster
        bench.check("PUT event, REQ in lockstep, median", value, "us",
                    f"{side.name}: {number(side.median('p50'))} us", ratio,
                    "≤ 1.5 ×" if judged else "", ratio <= 1.5 if judged else None,
                    f"p99 {number(one.median('p99'))} us; bare libzmq "
                    f"{number(bare.median('p50'))} us" if judged else "")
    rate = many.median("rate")
    bench.check("PUT event, 1000 in flight", rate, "/s", f"bare libzmq: "
                f"{number(libzmq.median('rate'))}", rate / libzmq.median("rate"), "≥ 250k/s",
                rate >= 250e3)


def log_in_process(bench):
    records = 100_000 if bench.options.quick else 1_000_000

    def scan(source):
        return lambda: tool_run(bench, "varve-logread", "--dir", bench.path("logread"), "--from",
                                source, "--op", "scan", "--records", records)

    ours = bench.side(f"varve in process: {number(records)} records of 100 B, pages")
    theirs = bench.side("RocksDB in process: the same, one key each")
    bench.alternate((ours, None, scan("varve")), (theirs, None, scan("rocks")))
    bench.compare("sequential read in process", objects(ours), "records/s",
                  "RocksDB, one key a record", objects(theirs), 10)


def log_seek(bench):
    records = bench.options.keys
    seek = ("--op", "seek", "--connections", 1, "--keys", records, *RECORD)
    get = ("--preset", "binary-get", "--no-load", "--connections", 1, "--pipeline", 1, "--keys",
           KEYS, *RECORD)
    starts = ("offset", "timestamp", "nonce")
    with bench.varve() as varve:
        bench.fill_logs(varve.binary, varve.pid, records)
        bench.fill(varve, "binary", varve.binary, KEYS, 100)
        sides = {s: bench.side(f"varve: one record by {s}, {number(records)} in the log", "on")
                 for s in starts}
        key = bench.side("varve: GET of a key, the same way: what the round trip costs", "on")
        bench.alternate(
            *((sides[s], varve, run(bench, varve, varve.binary, *seek, "--start", s, threads=1))
              for s in starts),
            (key, varve, run(bench, varve, varve.binary, *get, threads=1)))
    for start, side in sides.items():
        inside = tool_run(bench, "varve-logread", "--dir", bench.path("logread"), "--from", "varve",
                          "--op", start, "--records", records)
        what = f"seek by {start} in a log of {number(records)}"
        bench.check(f"{what}, median", inside["p50"], "us", "", None, "≤ 50 us",
                    inside["p50"] <= 50, f"in process; p99 {number(inside['p99'])} us")
        value = side.median("p50")
        bench.check("the same on the wire", value, "us",
                    f"GET of a key: {number(key.median('p50'))} us", value / key.median("p50"),
                    "", None, f"p99 {number(side.median('p99'))} us")


def idle_logs(bench):
    logs = 10_000 if bench.options.quick else 100_000
    with bench.varve() as varve:
        data = varve.data
        bench.fill_logs(varve.binary, varve.pid, 1, logs=logs)
        varve.end(signal.SIGTERM)
    with bench.varve() as empty:
        rss_empty = empty.memory()
    with bench.varve(data=data) as varve:
        m, rss = varve.metrics(), varve.memory()
        found = bench.load(varve.binary, varve.pid, "--op", "seek", "--keys", 1, "--logs", logs,
                           "--connections", 1, "--requests", 1000, *RECORD, threads=1, timed=False)
    if m["varve_logs"] != logs or found["requests"] != 1000:
        raise Failed(f"{m['varve_logs']:.0f} of {logs} logs are there")
    value = (m["varve_log_header_bytes"] + m["varve_log_index_bytes"] +
             m["varve_log_block_bytes"]) / logs
    bench.check("memory of an idle log, after a restart", value, "bytes", f"{number(logs)} logs",
                None, "≤ 256 bytes", value <= 256, "headers, indexes and blocks, from the metrics")
    bench.check("the same, resident", (rss - rss_empty) / logs, "bytes", f"{number(logs)} logs",
                None, "", None, "beyond a server without data; RocksDB's own memory included")


ROWS = {
    "1": ("HTTP GET beside the bare echo", http_get),
    "2": ("HTTP put of one object beside the bare echo", http_put_one),
    "3": ("HTTP put of 500 objects", http_put_many),
    "4": ("Increments beside the bare echo", increments),
    "5": ("HTTP GET of missing keys", get_missing),
    "6": ("Binary GET beside redis", binary_get),
    "7": ("Binary durable SET beside redis", binary_set),
    "8": ("One client's durable put beside a bare write", one_client),
    "9": ("Memory a key", memory),
    "10": ("Restart and replay", restart_and_replay),
    "11": ("Four times as much data as memory", beyond_memory),
    "12a": ("kv-run beside redis", kv_run),
    "12b": ("etcd", beside_etcd),
    "12c": ("RocksDB in process", beside_rocksdb),
    "13": ("Appends to logs beside redis streams", log_append),
    "14": ("Sequential reads of a log beside redis streams", log_read),
    "15": ("GET of events over ZeroMQ and HTTP", get_events),
    "16": ("PUT of events over ZeroMQ beside a bare write", put_events),
    "17": ("Seeks in a large log", log_seek),
    "18": ("Sequential reads in process beside RocksDB", log_in_process),
    "19": ("Memory of an idle log", idle_logs),
}
