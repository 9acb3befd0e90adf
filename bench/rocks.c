// varve-rocks: RocksDB in this process, without a network: what the engine alone does.
//
//     varve-rocks --dir DIR --op put|get [--batch N] [--threads N] [--keys N] [--value-size N]
//                 [--duration MS] [--warmup MS]
//
// put writes new random keys, `batch` in one write, each write synced (fdatasync) before it
// returns; RocksDB groups the writes of its threads. get reads random keys of a space that is
// loaded before and fits into the block cache. Keys are 36 bytes for put and 15 for get, as in
// `varve bench`. DIR must not exist; it is left behind. Prints one JSON object with the names of
// `varve bench --json`.
#include "cli/histogram.h"
#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { MAX_THREADS = 1024, MAX_VALUE = 1 << 20, PUT_KEY = 36, GET_KEY = 15, LOAD_BATCH = 1000 };
enum phase { WARM, MEASURE, STOP };

struct options {
    const char *dir;
    bool get;
    uint64_t batch, threads, keys, value_size, duration_ms, warmup_ms;
};

struct run {
    struct options o;
    rocksdb_t *db;
    _Atomic int phase;
};

struct worker {
    struct run *run;
    pthread_t id;
    uint64_t random;
    uint64_t requests;
    uint64_t misses;
    struct histogram latency;
};

static void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "varve-rocks: %s: %s\n", what, why);
    exit(1);
}

static void check(char *error)
{
    if (error)
        die("rocksdb", error);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_ms(uint64_t ms)
{
    struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000 * 1000000)};
    nanosleep(&t, NULL);
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

static void space_key(char key[32], uint64_t n)
{
    (void)snprintf(key, 32, "key%012llu", (unsigned long long)n);
}

static void put_batch(struct worker *w, rocksdb_writebatch_t *batch, rocksdb_writeoptions_t *wo,
                      const char *value)
{
    char key[64], *error = NULL;
    rocksdb_writebatch_clear(batch);
    for (uint64_t i = 0; i < w->run->o.batch; i++) {
        (void)snprintf(key, sizeof key, "%016llx%016llxuuid",
                       (unsigned long long)next_random(&w->random),
                       (unsigned long long)next_random(&w->random));
        rocksdb_writebatch_put(batch, key, PUT_KEY, value, w->run->o.value_size);
    }
    rocksdb_write(w->run->db, wo, batch, &error);
    check(error);
}

static void get_one(struct worker *w, rocksdb_readoptions_t *ro)
{
    char key[32], *error = NULL;
    space_key(key, next_random(&w->random) % w->run->o.keys);
    rocksdb_pinnableslice_t *v = rocksdb_get_pinned(w->run->db, ro, key, GET_KEY, &error);
    check(error);
    if (!v)
        w->misses++;
    else
        rocksdb_pinnableslice_destroy(v);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct run *r = w->run;
    bool measuring = false;
    char *value = malloc(r->o.value_size);
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    rocksdb_writeoptions_t *wo = rocksdb_writeoptions_create();
    rocksdb_readoptions_t *ro = rocksdb_readoptions_create();
    if (!value)
        die("memory", "none");
    memset(value, 'v', r->o.value_size);
    rocksdb_writeoptions_set_sync(wo, 1);
    for (;;) {
        int phase = atomic_load_explicit(&r->phase, memory_order_relaxed);
        if (phase == STOP)
            break;
        if (phase == MEASURE && !measuring) {
            measuring = true;
            w->requests = w->misses = 0;
            memset(&w->latency, 0, sizeof w->latency);
        }
        uint64_t begin = now_ns();
        if (r->o.get)
            get_one(w, ro);
        else
            put_batch(w, batch, wo, value);
        histogram_add(&w->latency, now_ns() - begin, 1);
        w->requests++;
    }
    rocksdb_readoptions_destroy(ro);
    rocksdb_writeoptions_destroy(wo);
    rocksdb_writebatch_destroy(batch);
    free(value);
    return NULL;
}

// A block cache of 1 GiB, whole-key filters and two background threads: what varve gives its own
// RocksDB or more.
static rocksdb_t *open_db(const char *dir)
{
    char *error = NULL;
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_block_based_table_options_t *t = rocksdb_block_based_options_create();
    rocksdb_options_set_create_if_missing(o, 1);
    rocksdb_options_set_error_if_exists(o, 1);
    rocksdb_options_increase_parallelism(o, 2);
    rocksdb_block_based_options_set_block_cache(t, rocksdb_cache_create_lru((size_t)1 << 30));
    rocksdb_block_based_options_set_filter_policy(t, rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_options_set_block_based_table_factory(o, t);
    rocksdb_t *db = rocksdb_open(o, dir, &error);
    check(error);
    return db;
}

// Writes the key space without syncs and compacts it, so that a get looks into few files.
static void load(struct run *r)
{
    char key[32], *error = NULL, *value = calloc(1, r->o.value_size);
    rocksdb_writeoptions_t *wo = rocksdb_writeoptions_create();
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    if (!value)
        die("memory", "none");
    for (uint64_t n = 0; n < r->o.keys; n++) {
        space_key(key, n);
        rocksdb_writebatch_put(batch, key, GET_KEY, value, r->o.value_size);
        if (n % LOAD_BATCH == LOAD_BATCH - 1 || n == r->o.keys - 1) {
            rocksdb_write(r->db, wo, batch, &error);
            check(error);
            rocksdb_writebatch_clear(batch);
        }
    }
    rocksdb_compact_range(r->db, NULL, 0, NULL, 0);
    rocksdb_writebatch_destroy(batch);
    rocksdb_writeoptions_destroy(wo);
    free(value);
}

static void report(const struct run *r, const struct worker *workers, uint64_t ns, uint64_t cpu)
{
    static struct histogram all;
    uint64_t requests = 0, misses = 0;
    for (uint64_t i = 0; i < r->o.threads; i++) {
        requests += workers[i].requests;
        misses += workers[i].misses;
        histogram_merge(&all, &workers[i].latency);
    }
    double per_second = (double)requests * 1e9 / (double)ns;
    printf("{\"requests_per_second\":%.1f,\"objects_per_second\":%.1f,\"requests\":%llu,"
           "\"hits\":%llu,\"misses\":%llu,\"conflicts\":0,\"errors\":0,",
           per_second, per_second * (double)r->o.batch, (unsigned long long)requests,
           r->o.get ? (unsigned long long)(requests - misses) : 0, (unsigned long long)misses);
    printf("\"latency_us\":{\"p50\":%.3f,\"p95\":%.3f,\"p99\":%.3f},"
           "\"server_cpu_us_per_request\":%.4f}\n",
           (double)histogram_at(&all, 0.5) / 1000, (double)histogram_at(&all, 0.95) / 1000,
           (double)histogram_at(&all, 0.99) / 1000, requests ? (double)cpu / (double)requests : 0);
}

static void parse(struct options *o, int argc, char **argv)
{
    const struct {
        const char *name;
        uint64_t *to;
        uint64_t max;
    } numbers[] = {
        {"--batch", &o->batch, 100000},           {"--threads", &o->threads, MAX_THREADS},
        {"--keys", &o->keys, 1000000000},         {"--value-size", &o->value_size, MAX_VALUE},
        {"--duration", &o->duration_ms, 3600000}, {"--warmup", &o->warmup_ms, 3600000},
    };
    bool wrong = argc % 2 == 0, op = false;
    *o = (struct options){NULL, false, 1, 1, 100000, 100, 5000, 1000};
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        bool known = false;
        for (size_t j = 0; j < sizeof numbers / sizeof *numbers; j++) {
            char *end = NULL;
            if (strcmp(name, numbers[j].name) != 0)
                continue;
            *numbers[j].to = strtoull(value, &end, 10);
            known = !*end && *numbers[j].to >= 1 && *numbers[j].to <= numbers[j].max;
        }
        if (strcmp(name, "--dir") == 0) {
            o->dir = value;
            known = true;
        } else if (strcmp(name, "--op") == 0) {
            o->get = strcmp(value, "get") == 0;
            known = op = o->get || strcmp(value, "put") == 0;
        }
        wrong = wrong || !known;
    }
    if (wrong || !op || !o->dir) {
        (void)fprintf(stderr,
                      "usage: varve-rocks --dir DIR --op put|get [--batch N] [--threads N] "
                      "[--keys N]\n       [--value-size N] [--duration MS] [--warmup MS]\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    static struct run r;
    parse(&r.o, argc, argv);
    struct worker *workers = calloc(r.o.threads, sizeof *workers);
    if (!workers)
        die("memory", "none");
    r.db = open_db(r.o.dir);
    if (r.o.get)
        load(&r);
    for (uint64_t i = 0; i < r.o.threads; i++) {
        workers[i].run = &r;
        workers[i].random = now_ns() * (i + 1);
        if (pthread_create(&workers[i].id, NULL, work, &workers[i]) != 0)
            die("thread", "cannot start");
    }
    sleep_ms(r.o.warmup_ms);
    uint64_t cpu = cpu_us(), begin = now_ns();
    atomic_store(&r.phase, MEASURE);
    sleep_ms(r.o.duration_ms);
    atomic_store(&r.phase, STOP);
    uint64_t elapsed = now_ns() - begin;
    cpu = cpu_us() - cpu;
    for (uint64_t i = 0; i < r.o.threads; i++)
        pthread_join(workers[i].id, NULL);
    report(&r, workers, elapsed, cpu);
    rocksdb_close(r.db);
    free(workers);
    return 0;
}
