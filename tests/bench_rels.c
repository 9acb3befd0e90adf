// What relations in RAM cost: bench_rels [LISTS [MEMBERS]] prints nanoseconds and bytes for many
// lists of 100, for lists of all sizes built in four batches, for combinations and for one long
// list. Not part of a suite.
#include "base/assert.h"
#include "base/os.h"
#include "table/rels.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 128, PAGE = 100, CHUNK = 1000 };

struct bench {
    struct rels *r;
    uint64_t rnd;
};

// Time of this process on the CPU: others may be busy too.
static uint64_t now_ns(void)
{
    struct os_usage u;
    os_usage(&u);
    return u.cpu_us * 1000;
}

static uint64_t rss_bytes(void)
{
    struct os_usage u;
    os_usage(&u);
    return u.rss_bytes;
}

static uint64_t random_below(struct bench *b, uint64_t n)
{
    b->rnd = b->rnd * 6364136223846793005u + 1442695040888963407u;
    return (uint64_t)((unsigned __int128)b->rnd * n >> 64);
}

static void start(struct bench *b)
{
    const uint64_t secret[4] = {1, 2, 3, 4};
    *b = (struct bench){.r = rels_new(secret, true), .rnd = 1};
    VERIFY(b->r && rels_table(b->r, 0, false) == ERR_OK);
}

static size_t add(struct bench *b, uint64_t from, uint64_t *ids, size_t n)
{
    uint64_t hash = rels_hash(b->r, from);
    size_t added;
    rels_lock(b->r, rels_shard(hash));
    VERIFY(rels_add(b->r, 0, hash, ids, NULL, n, ids, NULL, &added) == ERR_OK);
    rels_unlock(b->r, rels_shard(hash));
    return added;
}

static int by_number(const void *a, const void *b)
{
    return (*(const uint64_t *)a > *(const uint64_t *)b) -
           (*(const uint64_t *)a < *(const uint64_t *)b);
}

// Sorts, and takes doubles out.
static size_t rising(uint64_t *ids, size_t n)
{
    qsort(ids, n, sizeof *ids, by_number);
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        if (k == 0 || ids[i] != ids[k - 1])
            ids[k++] = ids[i];
    return k;
}

static void compact(struct bench *b)
{
    uint64_t begin = now_ns(), longest = 0, calls = 0;
    for (unsigned shard = 0; shard < RELS_SHARDS; shard++) {
        for (bool more = true; more; calls++) {
            uint64_t from = now_ns();
            rels_lock(b->r, shard);
            more = rels_compact(b->r, shard);
            rels_unlock(b->r, shard);
            uint64_t took = now_ns() - from;
            longest = took > longest ? took : longest;
        }
    }
    printf("    compacted in %.2f s, %" PRIu64 " calls of at most %.2f ms\n",
           (double)(now_ns() - begin) / 1e9, calls, (double)longest / 1e6);
}

static void print_memory(struct bench *b)
{
    struct rels_stats s;
    rels_get_stats(b->r, RELS_TABLES, &s);
    printf("    %" PRIu64 " lists (%" PRIu64 " in slots), %" PRIu64 " members: blocks %.1f MB of "
           "which used %.1f, slots %.1f MB (%.1f a list), all %.1f MB, %.2f bytes a member; "
           "resident %.1f MB\n",
           s.lists, s.inlined, s.members, (double)s.bytes / 1e6, (double)s.used / 1e6,
           (double)s.slot_bytes / 1e6, (double)s.slot_bytes / (double)s.lists,
           (double)(s.bytes + s.slot_bytes) / 1e6,
           (double)(s.bytes + s.slot_bytes) / (double)s.members, (double)rss_bytes() / 1e6);
}

static void print_rate(const char *what, uint64_t ns, uint64_t n)
{
    printf("%-52s %8.1f ns each, %.2f M/s\n", what, (double)ns / (double)n,
           (double)n * 1e3 / (double)ns);
}

static void page_batch(struct bench *b, const uint64_t *hashes)
{
    uint64_t out[PAGE];
    bool more;
    for (unsigned i = 0; i < BATCH; i++)
        rels_prefetch_slot(b->r, 0, hashes[i]);
    for (unsigned i = 0; i < BATCH; i++)
        rels_prefetch_list(b->r, 0, hashes[i]);
    for (unsigned i = 0; i < BATCH; i++) {
        rels_lock(b->r, rels_shard(hashes[i]));
        VERIFY(rels_find(b->r, 0, hashes[i]) == RELS_HERE);
        VERIFY(rels_page(b->r, 0, hashes[i], false, false, 0, PAGE, out, NULL, &more) > 50);
        rels_unlock(b->r, rels_shard(hashes[i]));
    }
}

static void lists_of_100(uint64_t lists, uint64_t below)
{
    struct bench b;
    start(&b);
    printf("%" PRIu64 " lists of 100 ids below %" PRIu64 "\n", lists, below);
    uint64_t spent = 0;
    for (uint64_t from = 0; from < lists;) {
        static uint64_t ids[CHUNK][100];
        size_t n[CHUNK];
        for (unsigned k = 0; k < CHUNK; k++) {
            for (unsigned i = 0; i < 100; i++)
                ids[k][i] = random_below(&b, below);
            n[k] = rising(ids[k], 100);
        }
        uint64_t begin = now_ns();
        for (unsigned k = 0; k < CHUNK && from < lists; k++)
            (void)add(&b, from++, ids[k], n[k]);
        spent += now_ns() - begin;
    }
    print_rate("  building, a list at a time", spent, lists);
    print_memory(&b);
    const uint64_t gets = 4000000 / BATCH * BATCH;
    uint64_t begin = now_ns();
    for (uint64_t i = 0; i < gets; i += BATCH) {
        uint64_t hashes[BATCH];
        for (unsigned j = 0; j < BATCH; j++)
            hashes[j] = rels_hash(b.r, random_below(&b, lists));
        page_batch(&b, hashes);
    }
    print_rate("  a page of 100, in batches of 128, random lists", now_ns() - begin, gets);
    const uint64_t adds = 2000000;
    begin = now_ns();
    for (uint64_t i = 0; i < adds; i++) {
        uint64_t id = random_below(&b, below);
        (void)add(&b, random_below(&b, lists), &id, 1);
    }
    print_rate("  one id more, random lists, no prefetch", now_ns() - begin, adds);
    begin = now_ns();
    for (uint64_t i = 0; i < adds; i++) {
        uint64_t id = random_below(&b, below);
        (void)add(&b, i % 64, &id, 1);
        size_t removed;
        uint64_t hash = rels_hash(b.r, i % 64);
        VERIFY(rels_remove(b.r, 0, hash, &id, 1, &id, NULL, &removed) == ERR_OK);
    }
    print_rate("  one id more and away again, lists in cache", now_ns() - begin, 2 * adds);
    print_memory(&b);
    compact(&b);
    print_memory(&b);
    rels_free(b.r);
}

static void batches(uint64_t lists, uint64_t members)
{
    struct bench b;
    start(&b);
    printf("%" PRIu64 " lists, %" PRIu64 " members by a power law, ids below 50M, 4 batches\n",
           lists, members);
    uint64_t *ids = malloc((members / 4 + lists) * sizeof *ids);
    uint32_t *sizes = malloc(lists * sizeof *sizes);
    VERIFY(ids && sizes);
    // Size of the k-th largest list: like k^-0.7, at least one.
    double sum = 0;
    for (uint64_t i = 0; i < lists; i++)
        sum += pow((double)(i + 1), -0.7);
    for (uint64_t i = 0; i < lists; i++)
        sizes[i] = 1 + (uint32_t)(pow((double)(i + 1), -0.7) / sum * (double)(members - lists));
    for (unsigned batch = 0; batch < 4; batch++) {
        uint64_t spent = 0, pairs = 0;
        for (uint64_t k = 0; k < lists; k += CHUNK) {
            size_t n[CHUNK], at = 0;
            for (uint64_t c = 0; c < CHUNK; c++) {
                uint64_t size = k + c < lists ? sizes[(k + c) * 2654435761u % lists] : 0;
                n[c] = size * (batch + 1) / 4 - size * batch / 4;
                for (size_t j = 0; j < n[c]; j++)
                    ids[at + j] = random_below(&b, 50000000);
                n[c] = rising(ids + at, n[c]);
                at += n[c];
            }
            uint64_t begin = now_ns();
            at = 0;
            for (uint64_t c = 0; c < CHUNK; at += n[c++])
                pairs += n[c] ? add(&b, k + c, ids + at, n[c]) : 0;
            spent += now_ns() - begin;
        }
        print_rate("  a batch, a pair", spent, pairs);
        print_memory(&b);
        compact(&b);
        print_memory(&b);
    }
    free(ids);
    free(sizes);
    rels_free(b.r);
}

static void combine(struct bench *b, const char *what, enum rels_combine how, size_t n)
{
    struct rels_list lists[8];
    for (size_t i = 0; i < n; i++)
        lists[i] = (struct rels_list){0, rels_hash(b->r, i)};
    struct buf out;
    buf_init(&out, (size_t)1 << 30);
    for (unsigned i = 0; i < 5; i++) {
        bool more;
        uint64_t next;
        buf_clear(&out);
        uint64_t begin = now_ns();
        VERIFY(rels_combine(b->r, how, lists, n, false, 0, SIZE_MAX, SIZE_MAX, &out, &more,
                            &next) == ERR_OK);
        if (i == 4)
            printf("  %-50s %8.3f ms, %zu ids\n", what, (double)(now_ns() - begin) / 1e6,
                   buf_len(&out) / 8);
    }
    buf_release(&out);
}

static void combinations(uint64_t below)
{
    struct bench b;
    start(&b);
    enum { N = 1000000 };
    printf("lists of 1M ids below %" PRIu64 "\n", below);
    uint64_t *ids = malloc(N * sizeof *ids);
    VERIFY(ids);
    for (uint64_t from = 0; from < 3; from++) {
        for (size_t i = 0; i < N; i++)
            ids[i] = random_below(&b, below);
        (void)add(&b, from, ids, rising(ids, N));
    }
    print_memory(&b);
    combine(&b, "intersection of 2", RELS_INTERSECT, 2);
    combine(&b, "intersection of 3", RELS_INTERSECT, 3);
    combine(&b, "union of 2", RELS_UNION, 2);
    combine(&b, "difference of 2", RELS_DIFFERENCE, 2);
    free(ids);
    rels_free(b.r);
}

static void one_long(uint64_t n, uint64_t below, bool sequential)
{
    struct bench b;
    start(&b);
    printf("one list of %" PRIu64 " ids below %" PRIu64 ", %s\n", n, below,
           sequential ? "rising" : "in random order");
    uint64_t begin = now_ns();
    for (uint64_t i = 0; i < n; i++) {
        uint64_t id = sequential ? i * (below / n) : random_below(&b, below);
        (void)add(&b, 1, &id, 1);
    }
    print_rate("  one at a time", now_ns() - begin, n);
    print_memory(&b);
    rels_free(b.r);
}

int main(int argc, char **argv)
{
    uint64_t lists = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    uint64_t members = argc > 2 ? strtoull(argv[2], NULL, 10) : 100 * lists;
    lists_of_100(lists, 10000000);
    lists_of_100(lists, (uint64_t)1 << 32);
    batches(members / 20, members);
    combinations(10000000);
    combinations((uint64_t)1 << 32);
    one_long(members / 10, (uint64_t)1 << 32, false);
    one_long(members / 10, (uint64_t)1 << 32, true);
    return 0;
}
