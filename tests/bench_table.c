// What the key table costs: bench_table [KEYS [VALUE_BYTES]] fills it with 16-byte keys and prints
// bytes a key beyond key and value, and nanoseconds an operation on one thread. Not part of a
// suite.
#include "base/assert.h"
#include "base/os.h"
#include "table/keys.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { KEY_BYTES = 16, BATCH = 32, ROUND = 8192, ROUNDS = 100 };

struct bench {
    struct keys *k;
    uint64_t count;
    uint64_t value_bytes;
    uint64_t rnd;
    uint8_t *value;
};

static uint64_t now_ns(void)
{
    return os_mono_ns(os_real());
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

static struct slice key_of(uint64_t id, uint8_t bytes[KEY_BYTES])
{
    static const char hex[] = "0123456789abcdef";
    for (unsigned i = 0; i < KEY_BYTES; i++)
        bytes[i] = (uint8_t)hex[id >> (4 * i) & 15];
    return slice_of(bytes, KEY_BYTES);
}

static void put(struct bench *b, uint64_t id, bool dirty)
{
    uint8_t bytes[KEY_BYTES];
    struct key_fields f = {
        .version = 1, .key = key_of(id, bytes), .value = slice_of(b->value, b->value_bytes)};
    uint64_t hash = keys_hash(b->k, SPACE_KEYS, f.key);
    keys_lock(b->k, keys_shard(hash));
    struct key_entry *e = keys_prepare(b->k, hash, &f);
    VERIFY(e);
    keys_publish(b->k, hash, e, id, dirty);
    keys_unlock(b->k, keys_shard(hash));
}

static void find(struct bench *b, struct slice key, uint64_t hash)
{
    keys_lock(b->k, keys_shard(hash));
    struct key_entry *e = keys_find(b->k, hash, SPACE_KEYS, key);
    VERIFY(e && e->version == 1);
    keys_touch(e);
    keys_unlock(b->k, keys_shard(hash));
}

static int by_number(const void *a, const void *b)
{
    return (*(const uint64_t *)a > *(const uint64_t *)b) -
           (*(const uint64_t *)a < *(const uint64_t *)b);
}

// Nanoseconds an operation: the median round and, for a busy machine, the fastest.
static void print_rounds(const char *what, uint64_t ns[ROUNDS])
{
    qsort(ns, ROUNDS, sizeof *ns, by_number);
    printf("%-44s %6.1f ns, at best %6.1f ns\n", what, (double)ns[ROUNDS / 2] / ROUND,
           (double)ns[0] / ROUND);
}

static void bench_find(struct bench *b, const char *what, uint64_t range)
{
    uint64_t ns[ROUNDS];
    for (unsigned r = 0; r < ROUNDS; r++) {
        uint64_t t = now_ns();
        for (unsigned i = 0; i < ROUND; i++) {
            uint8_t bytes[KEY_BYTES];
            struct slice key = key_of(random_below(b, range), bytes);
            find(b, key, keys_hash(b->k, SPACE_KEYS, key));
        }
        ns[r] = now_ns() - t;
    }
    print_rounds(what, ns);
}

static void bench_put_over(struct bench *b)
{
    uint64_t ns[ROUNDS];
    for (unsigned r = 0; r < ROUNDS; r++) {
        uint64_t t = now_ns();
        for (unsigned i = 0; i < ROUND; i++)
            put(b, random_below(b, b->count), false);
        ns[r] = now_ns() - t;
    }
    print_rounds("put, over another", ns);
}

static void find_batch(struct bench *b, uint64_t phase[4])
{
    uint8_t bytes[BATCH][KEY_BYTES];
    struct slice keys[BATCH];
    uint64_t hash[BATCH];
    uint64_t t0 = now_ns();
    for (unsigned j = 0; j < BATCH; j++) {
        keys[j] = key_of(random_below(b, b->count), bytes[j]);
        hash[j] = keys_hash(b->k, SPACE_KEYS, keys[j]);
    }
    uint64_t t1 = now_ns();
    for (unsigned j = 0; j < BATCH; j++)
        keys_prefetch_slot(b->k, hash[j]);
    uint64_t t2 = now_ns();
    for (unsigned j = 0; j < BATCH; j++)
        keys_prefetch_entry(b->k, hash[j]);
    uint64_t t3 = now_ns();
    for (unsigned j = 0; j < BATCH; j++)
        find(b, keys[j], hash[j]);
    uint64_t t4 = now_ns();
    phase[0] += t1 - t0;
    phase[1] += t2 - t1;
    phase[2] += t3 - t2;
    phase[3] += t4 - t3;
}

static void bench_find_batch(struct bench *b)
{
    static const char *const name[] = {"batch: make key and hash", "batch: prefetch slot",
                                       "batch: prefetch entry",
                                       "batch: lock, find, unlock when prefetched"};
    uint64_t ns[4][ROUNDS];
    for (unsigned r = 0; r < ROUNDS; r++) {
        uint64_t phase[4] = {0};
        for (unsigned i = 0; i < ROUND; i += BATCH)
            find_batch(b, phase);
        for (unsigned i = 0; i < 4; i++)
            ns[i][r] = phase[i];
    }
    for (unsigned i = 0; i < 4; i++)
        print_rounds(name[i], ns[i]);
}

static void report_memory(struct bench *b, const char *what, uint64_t rss_before)
{
    struct keys_stats s;
    keys_get_stats(b->k, &s);
    double n = (double)s.entries;
    double payload = (double)(KEY_BYTES + b->value_bytes);
    printf("%s: %" PRIu64 " entries; beyond key and value: %.1f B an entry by its counters "
           "(%.1f entry, %.1f slots), %.1f B by RSS\n",
           what, s.entries, (double)(s.bytes + s.slot_bytes) / n - payload,
           (double)s.bytes / n - payload, (double)s.slot_bytes / n,
           (double)(rss_bytes() - rss_before) / n - payload);
}

static void evict_to_half(struct bench *b)
{
    uint64_t t = now_ns();
    uint64_t worst = 0;
    for (unsigned s = 0; s < KEYS_SHARDS; s++) {
        uint64_t t0 = now_ns();
        keys_lock(b->k, s);
        uint64_t target = keys_shard_bytes(b->k, s) / 2;
        keys_evict(b->k, s, target);
        VERIFY(keys_shard_bytes(b->k, s) <= target + 65536);
        keys_unlock(b->k, s);
        worst = now_ns() - t0 > worst ? now_ns() - t0 : worst;
    }
    struct keys_stats s;
    keys_get_stats(b->k, &s);
    printf("evict to half: %.1f ns an entry evicted, %.2f ms in the slowest shard\n",
           (double)(now_ns() - t) / (double)s.evictions, (double)worst / 1e6);
}

int main(int argc, char **argv)
{
    struct bench b = {.count = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000000,
                      .value_bytes = argc > 2 ? strtoull(argv[2], NULL, 0) : 100,
                      .rnd = 1};
    b.value = calloc(1, b.value_bytes + 1);
    uint64_t rss = rss_bytes();
    b.k = keys_new(42, false);
    VERIFY(b.k && b.value && b.count > 0);
    printf("empty: %.0f KB by RSS\n", (double)(rss_bytes() - rss) / 1024);
    uint64_t t = now_ns();
    for (uint64_t id = 0; id < b.count; id++)
        put(&b, id, false);
    printf("%-44s %6.1f ns\n", "put, new", (double)(now_ns() - t) / (double)b.count);
    report_memory(&b, "filled", rss);
    bench_put_over(&b);
    bench_find(&b, "hash, lock, find, unlock, 1000 keys", 1000 < b.count ? 1000 : b.count);
    bench_find(&b, "hash, lock, find, unlock, all keys", b.count);
    bench_find_batch(&b);
    evict_to_half(&b);
    report_memory(&b, "after", rss);
    keys_free(b.k);
    printf("freed: %.0f KB left by RSS\n", ((double)rss_bytes() - (double)rss) / 1024);
    free(b.value);
}
