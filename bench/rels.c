// varve-rels: lists of a relation in this process, in the table that the server has them in
// (table/rels.h), without a network and without a log.
//
//     varve-rels --op get|intersect [--lists N] [--members N] [--most N] [--ids N]
//                [--parts N] [--duration MS] [--warmup MS]
//
// Makes lists of `members` ids each, with --most of so many up to that, evenly spread; ids are
// random below --ids, or any of 64 bits where that is 0. With --parts each list is made in so many
// additions of ids from all over it, as a server is told of a long list. get reads whole random
// lists in batches of 128, brought near beforehand as the server does with pipelined requests: a
// request is a list, a latency that of a batch. intersect does so with lists 0 and 1. One thread.
//
// Prints one JSON object with the names of `varve bench --json`, an object being a member that came
// out, and what memory the lists take: "lists", "members", "block_bytes" (their heads and what lies
// idle in slabs included) and "slot_bytes".
#include "base/assert.h"
#include "base/os.h"
#include "cli/histogram.h"
#include "table/rels.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 128, MOST = 10000000 };

struct options {
    bool intersect;
    uint64_t lists, members, most, ids, parts, duration_ms, warmup_ms;
};

struct run {
    struct options o;
    struct rels *r;
    uint64_t random;
    uint64_t *out; // room for the largest list
    uint64_t *part;
    struct buf both;
    size_t common; // members of lists 0 and 1; SIZE_MAX: not known yet
    struct histogram latency;
    uint64_t requests, objects;
};

static uint64_t now_ns(void)
{
    return os_mono_ns(os_real());
}

static uint64_t cpu_us(void)
{
    struct os_usage u;
    os_usage(&u);
    return u.cpu_us;
}

// splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators").
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t random_below(struct run *r, uint64_t n)
{
    return (uint64_t)((unsigned __int128)next_random(&r->random) * n >> 64);
}

// n random ids, rising, without a sort: the gaps between sorted random numbers are distributed as
// exponential ones that are scaled to fit.
static void random_ids(struct run *r, uint64_t *ids, size_t n)
{
    double *at = (double *)ids; // a sum of gaps lies where its id will
    double sum = 0;
    for (size_t i = 0; i <= n; i++) {
        sum -= log((double)((next_random(&r->random) >> 11) + 1) * 0x1p-53);
        if (i < n)
            memcpy(&at[i], &sum, sizeof sum);
    }
    for (size_t i = 0; i < n; i++) {
        double place;
        memcpy(&place, &at[i], sizeof place);
        uint64_t share = (uint64_t)(place / sum * 0x1p53); // of 2^53
        uint64_t low = next_random(&r->random) >> 53;
        uint64_t v = share << 11 | low;
        ids[i] = r->o.ids ? (uint64_t)((unsigned __int128)v * r->o.ids >> 64) : v;
        if (i && ids[i] <= ids[i - 1])
            ids[i] = ids[i - 1] + 1;
    }
}

static size_t size_of(const struct run *r, uint64_t list)
{
    return r->o.members + list % (r->o.most - r->o.members + 1);
}

// r->out, n ids, becomes the list.
static void add(struct run *r, uint64_t hash, size_t n)
{
    size_t parts = r->o.parts, all = 0;
    for (size_t first = 0; first < parts && first < n; first++) {
        size_t count = 0, added;
        for (size_t i = first; i < n; i += parts)
            r->part[count++] = r->out[i];
        rels_lock(r->r, rels_shard(hash));
        enum err e = rels_add(r->r, 0, hash, r->part, NULL, count, r->part, NULL, &added);
        rels_unlock(r->r, rels_shard(hash));
        VERIFY(e == ERR_OK && added == count);
        all += added;
    }
    VERIFY(all == n);
}

static void fill(struct run *r)
{
    const uint64_t secret[4] = {1, 2, 3, 4};
    r->r = rels_new(secret, true);
    r->out = malloc(r->o.most * sizeof *r->out);
    r->part = malloc(r->o.most * sizeof *r->part);
    VERIFY(r->r && r->out && r->part && rels_table(r->r, 0, false) == ERR_OK);
    for (uint64_t list = 0; list < r->o.lists; list++) {
        size_t n = size_of(r, list);
        random_ids(r, r->out, n);
        add(r, rels_hash(r->r, list), n);
    }
}

static void get_batch(struct run *r)
{
    uint64_t lists[BATCH], hashes[BATCH];
    for (unsigned i = 0; i < BATCH; i++) {
        lists[i] = random_below(r, r->o.lists);
        hashes[i] = rels_hash(r->r, lists[i]);
        rels_prefetch_slot(r->r, 0, hashes[i]);
    }
    for (unsigned i = 0; i < BATCH; i++)
        rels_prefetch_list(r->r, 0, hashes[i]);
    for (unsigned i = 0; i < BATCH; i++) {
        bool more;
        rels_lock(r->r, rels_shard(hashes[i]));
        enum rels_where where = rels_find(r->r, 0, hashes[i]);
        size_t n = rels_page(r->r, 0, hashes[i], false, false, 0, r->o.most, r->out, NULL, &more);
        rels_unlock(r->r, rels_shard(hashes[i]));
        VERIFY(where == RELS_HERE && !more && n == size_of(r, lists[i]));
        VERIFY(n < 2 || r->out[0] < r->out[n - 1]);
        r->objects += n;
    }
    r->requests += BATCH;
}

static int by_shard(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void intersect(struct run *r)
{
    struct rels_list lists[2];
    int shards[2];
    bool more;
    uint64_t next;
    for (uint64_t i = 0; i < 2; i++) {
        lists[i] = (struct rels_list){0, rels_hash(r->r, i)};
        shards[i] = (int)rels_shard(lists[i].hash);
    }
    qsort(shards, 2, sizeof *shards, by_shard);
    buf_clear(&r->both);
    rels_lock(r->r, (unsigned)shards[0]);
    if (shards[1] != shards[0])
        rels_lock(r->r, (unsigned)shards[1]);
    enum err e = rels_combine(r->r, RELS_INTERSECT, lists, 2, false, 0, SIZE_MAX, SIZE_MAX,
                              &r->both, &more, &next);
    if (shards[1] != shards[0])
        rels_unlock(r->r, (unsigned)shards[1]);
    rels_unlock(r->r, (unsigned)shards[0]);
    size_t n = buf_len(&r->both) / sizeof(uint64_t);
    VERIFY(e == ERR_OK && !more && (r->common == SIZE_MAX || r->common == n));
    r->common = n;
    r->objects += n;
    r->requests++;
}

static void work(struct run *r, uint64_t ms)
{
    uint64_t begin = now_ns(), end = begin + ms * 1000000u;
    r->requests = r->objects = 0;
    memset(&r->latency, 0, sizeof r->latency);
    while (begin < end) {
        (r->o.intersect ? intersect : get_batch)(r);
        uint64_t now = now_ns();
        histogram_add(&r->latency, now - begin, 1);
        begin = now;
    }
}

static void report(const struct run *r, uint64_t ns, uint64_t cpu)
{
    struct rels_stats s;
    rels_get_stats(r->r, RELS_TABLES, &s);
    printf("{\"requests_per_second\":%.1f,\"objects_per_second\":%.1f,\"requests\":%llu,"
           "\"hits\":0,\"misses\":0,\"conflicts\":0,\"errors\":0,",
           (double)r->requests * 1e9 / (double)ns, (double)r->objects * 1e9 / (double)ns,
           (unsigned long long)r->requests);
    printf("\"latency_us\":{\"p50\":%.3f,\"p95\":%.3f,\"p99\":%.3f},"
           "\"server_cpu_us_per_request\":%.4f,",
           (double)histogram_at(&r->latency, 0.5) / 1000,
           (double)histogram_at(&r->latency, 0.95) / 1000,
           (double)histogram_at(&r->latency, 0.99) / 1000,
           r->requests ? (double)cpu / (double)r->requests : 0);
    printf("\"lists\":%llu,\"members\":%llu,\"block_bytes\":%llu,\"slot_bytes\":%llu}\n",
           (unsigned long long)s.lists, (unsigned long long)s.members, (unsigned long long)s.bytes,
           (unsigned long long)s.slot_bytes);
}

static void parse(struct options *o, int argc, char **argv)
{
    const struct {
        const char *name;
        uint64_t *to;
        uint64_t min, max;
    } numbers[] = {
        {"--lists", &o->lists, 1, 1000000000},   {"--members", &o->members, 1, MOST},
        {"--most", &o->most, 1, MOST},           {"--ids", &o->ids, 0, UINT64_MAX},
        {"--parts", &o->parts, 1, MOST},         {"--duration", &o->duration_ms, 1, 3600000},
        {"--warmup", &o->warmup_ms, 1, 3600000},
    };
    bool bad = argc % 2 == 0, op = false;
    *o = (struct options){.lists = 1000000,
                          .members = 100,
                          .ids = 10000000,
                          .parts = 1,
                          .duration_ms = 5000,
                          .warmup_ms = 1000};
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
        if (strcmp(option, "--op") == 0) {
            o->intersect = strcmp(value, "intersect") == 0;
            known = op = o->intersect || strcmp(value, "get") == 0;
        }
        bad = bad || !known;
    }
    o->most = o->most > o->members ? o->most : o->members;
    if (bad || !op || (o->intersect && o->lists < 2) || (o->ids && o->ids < 2 * o->most)) {
        (void)fprintf(stderr,
                      "usage: varve-rels --op get|intersect [--lists N] [--members N] "
                      "[--most N] [--ids N]\n       [--parts N] [--duration MS] [--warmup MS]\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    static struct run r;
    parse(&r.o, argc, argv);
    r.random = 1;
    r.common = SIZE_MAX;
    buf_init(&r.both, (size_t)1 << 30);
    fill(&r);
    work(&r, r.o.warmup_ms);
    uint64_t cpu = cpu_us(), begin = now_ns();
    work(&r, r.o.duration_ms);
    report(&r, now_ns() - begin, cpu_us() - cpu);
    buf_release(&r.both);
    free(r.out);
    free(r.part);
    rels_free(r.r);
    return 0;
}
