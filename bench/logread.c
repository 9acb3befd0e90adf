// varve-logread: records read in this process, without a network: through the commit room's pages,
// or from RocksDB with one key each.
//
//     varve-logread --dir DIR --from varve|rocks --op scan|offset|timestamp|nonce [--records N]
//                   [--bytes N] [--duration MS] [--warmup MS]
//
// Writes one log of `records` records first. scan reads all of it over and over, a request being
// one pass; the others ask for single records at random, by what they are named after (rocks: by
// offset only, a seek of an iterator). All is in memory: varve's chunks as they were appended,
// RocksDB's blocks (LZ4, keys u64 big-endian) in a block cache larger than the data. Record n has
// the offset n + 1, timestamp n, nonce n, and begins with n in 8 bytes; each is looked into.
//
// DIR must not exist; it is left behind. Prints one JSON object with the names of
// `varve bench --json`; an object is a record.
#include "cli/histogram.h"
#include "commit/commit.h"
#include "commit/log.h"
#include "base/limits.h"
#include "store/store.h"
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { BATCH = 1000, MAX_BYTES = 1 << 16, DURABLE_EVERY = 100 };
enum op { SCAN, BY_OFFSET, BY_TIME, BY_NONCE };

struct options {
    const char *dir;
    bool rocks;
    enum op op;
    uint64_t records, bytes, duration_ms, warmup_ms;
};

struct run {
    struct options o;
    struct commit *commit;
    rocksdb_t *db;
    rocksdb_readoptions_t *ro;
    rocksdb_iterator_t *it;
    uint64_t random;
    struct histogram latency;
    uint64_t requests, objects;
};

static const struct log_name name = {{(const uint8_t *)"bench", 5}, {(const uint8_t *)"log", 3}};

static void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "varve-logread: %s: %s\n", what, why);
    exit(1);
}

static void check(char *error)
{
    if (error)
        die("rocksdb", error);
}

static void must(const char *what, enum err e, const struct errmsg *msg)
{
    if (e)
        die(what, msg && msg->text[0] ? msg->text : err_text(e));
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t cpu_us(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000u +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

// splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators").
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

// A record's bytes, of whichever side.
static void look(const struct run *r, const uint8_t *p, size_t n, uint64_t number)
{
    if (n != r->o.bytes || load64(p) != number)
        die("reading", "a record is not the one that was written");
}

// ---- varve

static void on_fatal(void *arg, const char *what)
{
    (void)arg;
    die("varve", what);
}

static void on_durable(void *arg, uint64_t seq)
{
    (void)arg;
    (void)seq;
}

static void on_room(void *arg, enum err e)
{
    must("making room", e, NULL);
    atomic_store((_Atomic bool *)arg, true);
}

static void append(struct run *r, struct log_append *a, uint64_t *dep)
{
    struct errmsg msg = {""};
    for (;;) {
        struct txn_op op = {.kind = TXN_APPEND, .append = a};
        struct txn t = {.ops = &op, .count = 1};
        enum err e = commit_txn(r->commit, &t, dep, &msg);
        if (e != ERR_FULL) {
            must("append", e, &msg);
            return;
        }
        _Atomic bool room = false;
        must("append", commit_wait_room(r->commit, on_room, &room), NULL);
        while (!atomic_load(&room))
            os_sleep_us(os_real(), 100);
    }
}

static void fill_varve(struct run *r)
{
    static struct log_input in[BATCH];
    uint8_t *bytes = malloc(BATCH * r->o.bytes);
    uint64_t dep = 0, batches = 0;
    if (!bytes)
        die("memory", "none");
    memset(bytes, 'v', BATCH * r->o.bytes);
    for (uint64_t n = 0; n < r->o.records;) {
        struct log_append a = {.name = name, .records = in};
        for (; a.count < BATCH && n < r->o.records; a.count++, n++) {
            uint8_t *p = bytes + a.count * r->o.bytes;
            store64(p, n);
            in[a.count] = (struct log_input){.bytes = slice_of(p, r->o.bytes),
                                             .nonce = n,
                                             .timestamp = (int64_t)n,
                                             .has_timestamp = true};
        }
        append(r, &a, &dep);
        commit_kick(r->commit);
        if (++batches % DURABLE_EVERY == 0 || n == r->o.records)
            must("append", commit_wait(r->commit, dep), NULL);
    }
    free(bytes);
}

static void open_varve(struct run *r)
{
    struct errmsg msg = {""};
    uint64_t created, dep = 0;
    // The server's defaults, but for memory, so that nothing is evicted.
    struct commit_options o = {
        .os = os_real(),
        .dir = r->o.dir,
        .store_open = store_open_rocks,
        .segment_size = 64u << 20,
        .max_segments = 16,
        .batch_time_us = 0,
        .max_batch_size = 1u << 20,
        .memory_limit = 16ull << 30,
        .checkpoint_interval_us = 60000000,
        .max_key = 4096,
        .max_value = 1u << 20,
        .read_threads = 4,
        .threads = true,
        .on_durable = on_durable,
        .on_fatal = on_fatal,
    };
    struct log_policy p = {0};
    must("open", commit_open(&r->commit, &o, NULL, &msg), &msg);
    must("keyspace", commit_keyspace_create(r->commit, name.keyspace, &p, &created, &dep, &msg),
         &msg);
    fill_varve(r);
}

static void scan_varve(struct run *r)
{
    struct errmsg msg = {""};
    struct log_query q = {.name = name,
                          .from = {.start = LOG_START_OFFSET, .offset = 1},
                          .max_records = LIMIT_PAGE_RECORDS,
                          .max_bytes = LIMIT_PAGE_BYTES,
                          .may_block = true};
    uint64_t n = 0;
    for (bool more = true; more;) {
        struct log_page page;
        struct record record;
        uint64_t dep;
        must("read", commit_log_read(r->commit, &q, &page, &dep, &msg), &msg);
        while (log_page_next(&page, &record))
            look(r, record.bytes.p, record.bytes.n, n++);
        more = page.more;
        q.from.offset = page.next;
        log_page_release(&page);
    }
    if (n != r->o.records)
        die("reading", "not all records are there");
    r->objects += n;
}

static void seek_varve(struct run *r, uint64_t number)
{
    static const enum log_start starts[] = {
        [BY_OFFSET] = LOG_START_OFFSET, [BY_TIME] = LOG_START_TIME, [BY_NONCE] = LOG_START_NONCE};
    struct errmsg msg = {""};
    struct log_query q = {.name = name,
                          .from = {.start = starts[r->o.op],
                                   .offset = number + 1,
                                   .time = (int64_t)number,
                                   .nonce = number},
                          .max_records = 1,
                          .max_bytes = LIMIT_PAGE_BYTES,
                          .may_block = true};
    struct log_page page;
    struct record record;
    uint64_t dep;
    must("read", commit_log_read(r->commit, &q, &page, &dep, &msg), &msg);
    if (!log_page_next(&page, &record))
        die("reading", "a record is missing");
    look(r, record.bytes.p, record.bytes.n, number);
    log_page_release(&page);
    r->objects++;
}

// ---- RocksDB

static void put_key(uint8_t key[8], uint64_t offset)
{
    store64(key, __builtin_bswap64(offset));
}

static void open_rocks(struct run *r)
{
    char *error = NULL;
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_block_based_table_options_t *t = rocksdb_block_based_options_create();
    rocksdb_options_set_create_if_missing(o, 1);
    rocksdb_options_set_error_if_exists(o, 1);
    rocksdb_options_set_compression(o, rocksdb_lz4_compression);
    rocksdb_options_increase_parallelism(o, 2);
    rocksdb_block_based_options_set_block_cache(t, rocksdb_cache_create_lru((size_t)8 << 30));
    rocksdb_options_set_block_based_table_factory(o, t);
    r->db = rocksdb_open(o, r->o.dir, &error);
    check(error);
    rocksdb_writeoptions_t *wo = rocksdb_writeoptions_create();
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    uint8_t key[8], *value = malloc(r->o.bytes);
    if (!value)
        die("memory", "none");
    memset(value, 'v', r->o.bytes);
    for (uint64_t n = 0; n < r->o.records; n++) {
        put_key(key, n + 1);
        store64(value, n);
        rocksdb_writebatch_put(batch, (const char *)key, sizeof key, (const char *)value,
                               r->o.bytes);
        if (n % BATCH == BATCH - 1 || n == r->o.records - 1) {
            rocksdb_write(r->db, wo, batch, &error);
            check(error);
            rocksdb_writebatch_clear(batch);
        }
    }
    rocksdb_compact_range(r->db, NULL, 0, NULL, 0);
    rocksdb_writebatch_destroy(batch);
    rocksdb_writeoptions_destroy(wo);
    free(value);
    r->ro = rocksdb_readoptions_create();
    r->it = rocksdb_create_iterator(r->db, r->ro);
}

static void scan_rocks(struct run *r)
{
    uint64_t n = 0;
    for (rocksdb_iter_seek_to_first(r->it); rocksdb_iter_valid(r->it); rocksdb_iter_next(r->it)) {
        size_t size;
        const char *p = rocksdb_iter_value(r->it, &size);
        look(r, (const uint8_t *)p, size, n++);
    }
    if (n != r->o.records)
        die("reading", "not all records are there");
    r->objects += n;
}

static void seek_rocks(struct run *r, uint64_t number)
{
    uint8_t key[8];
    size_t size;
    put_key(key, number + 1);
    rocksdb_iter_seek(r->it, (const char *)key, sizeof key);
    if (!rocksdb_iter_valid(r->it))
        die("reading", "a record is missing");
    const char *p = rocksdb_iter_value(r->it, &size);
    look(r, (const uint8_t *)p, size, number);
    r->objects++;
}

// ---- the run

static void work(struct run *r, uint64_t ms)
{
    uint64_t begin = now_ns(), end = begin + ms * 1000000u;
    r->requests = r->objects = 0;
    memset(&r->latency, 0, sizeof r->latency);
    while (begin < end) {
        uint64_t number = next_random(&r->random) % r->o.records;
        if (r->o.op == SCAN)
            (r->o.rocks ? scan_rocks : scan_varve)(r);
        else
            (r->o.rocks ? seek_rocks : seek_varve)(r, number);
        uint64_t now = now_ns();
        histogram_add(&r->latency, now - begin, 1);
        r->requests++;
        begin = now;
    }
}

static void report(const struct run *r, uint64_t ns, uint64_t cpu)
{
    printf("{\"requests_per_second\":%.1f,\"objects_per_second\":%.1f,\"requests\":%llu,"
           "\"hits\":0,\"misses\":0,\"conflicts\":0,\"errors\":0,",
           (double)r->requests * 1e9 / (double)ns, (double)r->objects * 1e9 / (double)ns,
           (unsigned long long)r->requests);
    printf("\"latency_us\":{\"p50\":%.3f,\"p95\":%.3f,\"p99\":%.3f},"
           "\"server_cpu_us_per_request\":%.4f}\n",
           (double)histogram_at(&r->latency, 0.5) / 1000,
           (double)histogram_at(&r->latency, 0.95) / 1000,
           (double)histogram_at(&r->latency, 0.99) / 1000,
           r->requests ? (double)cpu / (double)r->requests : 0);
}

static bool find(const char *const *names, int count, const char *value, int *at)
{
    for (*at = 0; *at < count; ++*at)
        if (strcmp(names[*at], value) == 0)
            return true;
    return false;
}

static void parse(struct options *o, int argc, char **argv)
{
    static const char *const sides[] = {"varve", "rocks"};
    static const char *const ops[] = {"scan", "offset", "timestamp", "nonce"};
    const struct {
        const char *name;
        uint64_t *to;
        uint64_t min, max;
    } numbers[] = {
        {"--records", &o->records, 1, 1000000000},
        {"--bytes", &o->bytes, 8, MAX_BYTES},
        {"--duration", &o->duration_ms, 1, 3600000},
        {"--warmup", &o->warmup_ms, 1, 3600000},
    };
    bool bad = argc % 2 == 0;
    int side = -1, op = -1;
    *o = (struct options){.records = 1000000, .bytes = 100, .duration_ms = 5000, .warmup_ms = 1000};
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *option = argv[i], *value = argv[i + 1];
        bool known = false;
        for (size_t j = 0; j < sizeof numbers / sizeof *numbers; j++) {
            char *end = NULL;
            if (strcmp(option, numbers[j].name) != 0)
                continue;
            *numbers[j].to = strtoull(value, &end, 10);
            known = !*end && *numbers[j].to >= numbers[j].min && *numbers[j].to <= numbers[j].max;
        }
        if (strcmp(option, "--dir") == 0) {
            o->dir = value;
            known = true;
        } else if (strcmp(option, "--from") == 0) {
            known = find(sides, 2, value, &side);
        } else if (strcmp(option, "--op") == 0) {
            known = find(ops, 4, value, &op);
        }
        bad = bad || !known;
    }
    if (bad || !o->dir || side < 0 || op < 0 || (side == 1 && op > BY_OFFSET)) {
        (void)fprintf(stderr, "usage: varve-logread --dir DIR --from varve|rocks --op "
                              "scan|offset|timestamp|nonce\n       [--records N] [--bytes N] "
                              "[--duration MS] [--warmup MS]\n");
        exit(2);
    }
    o->rocks = side == 1;
    o->op = (enum op)op;
}

int main(int argc, char **argv)
{
    static struct run r;
    parse(&r.o, argc, argv);
    r.random = now_ns();
    if (r.o.rocks)
        open_rocks(&r);
    else
        open_varve(&r);
    work(&r, r.o.warmup_ms);
    uint64_t cpu = cpu_us(), begin = now_ns();
    work(&r, r.o.duration_ms);
    report(&r, now_ns() - begin, cpu_us() - cpu);
    if (r.o.rocks) {
        rocksdb_iter_destroy(r.it);
        rocksdb_readoptions_destroy(r.ro);
        rocksdb_close(r.db);
    } else {
        must("close", commit_close(r.commit), NULL);
    }
    return 0;
}
