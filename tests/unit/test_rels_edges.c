// Relations in RAM: the permutation, borders between the forms of a list, rows from below that are
// not right, sizes, long lists, threads. test_rels.c has the model.
#include "unit.h"

#include "op_random.h"
#include "table/ids.h"
#include "table/rels_int.h"
#include <pthread.h>
#include <stdlib.h>

static const uint64_t secret[4] = {0x1234, 2, 3, 0xfedcba9876543210};

static struct rels *new_rels(bool complete)
{
    struct rels *r = rels_new(secret, complete);
    assert_non_null(r);
    assert_ok(rels_table(r, 0, false));
    assert_ok(rels_table(r, 1, true));
    return r;
}

static size_t add_many(struct rels *r, uint32_t table, uint64_t from, const uint64_t *ids,
                       const uint64_t *payloads, size_t n)
{
    uint64_t hash = rels_hash(r, from);
    uint64_t *added = malloc(2 * n * sizeof *added);
    size_t count;
    rels_lock(r, rels_shard(hash));
    assert_ok(
        rels_add(r, table, hash, ids, payloads, n, added, payloads ? added + n : NULL, &count));
    rels_unlock(r, rels_shard(hash));
    free(added);
    return count;
}

static bool add(struct rels *r, uint64_t from, uint64_t id)
{
    return add_many(r, 0, from, &id, NULL, 1);
}

static bool take(struct rels *r, uint64_t from, uint64_t id)
{
    uint64_t hash = rels_hash(r, from);
    size_t count;
    rels_lock(r, rels_shard(hash));
    assert_ok(rels_remove(r, 0, hash, &id, 1, &id, NULL, &count));
    rels_unlock(r, rels_shard(hash));
    return count;
}

static bool has(struct rels *r, uint64_t from, uint64_t id)
{
    uint64_t hash = rels_hash(r, from);
    uint8_t found;
    rels_lock(r, rels_shard(hash));
    rels_contains(r, 0, hash, &id, 1, &found, NULL);
    rels_unlock(r, rels_shard(hash));
    return found;
}

static uint64_t count(struct rels *r, uint64_t from)
{
    uint64_t hash = rels_hash(r, from);
    rels_lock(r, rels_shard(hash));
    uint64_t n = rels_count(r, 0, hash);
    rels_unlock(r, rels_shard(hash));
    return n;
}

static struct rels_stats stats(struct rels *r, uint32_t table)
{
    struct rels_stats s;
    rels_get_stats(r, table, &s);
    return s;
}

// ---- the permutation

static void test_permutation_inverse(void **state)
{
    struct rels *r = new_rels(true);
    uint64_t rnd = 5;
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t from = i % 2 ? i : random_number(&rnd);
        assert_int_equal(rels_from(r, rels_hash(r, from)), from);
        assert_int_equal(rels_hash(r, rels_from(r, from)), from);
    }
    rels_free(r);
}

// Each bit of what goes in changes each bit of what comes out about every other time.
static void test_permutation_avalanche(void **state)
{
    enum { ROUNDS = 4096 };
    static unsigned flips[64][64];
    struct rels *r = new_rels(true);
    uint64_t rnd = 6;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t from = i % 2 ? next_random(&rnd) : i; // small numbers, too
        uint64_t hash = rels_hash(r, from);
        for (unsigned in = 0; in < 64; in++) {
            uint64_t change = hash ^ rels_hash(r, from ^ 1ull << in);
            for (unsigned out = 0; out < 64; out++)
                flips[in][out] += (unsigned)(change >> out & 1);
        }
    }
    for (unsigned in = 0; in < 64; in++)
        for (unsigned out = 0; out < 64; out++)
            if (flips[in][out] < ROUNDS * 4 / 10 || flips[in][out] > ROUNDS * 6 / 10)
                fail_msg("bit %u changes bit %u %u times of %d", in, out, flips[in][out], ROUNDS);
    rels_free(r);
}

static void check_spread(struct rels *r, uint64_t first, uint64_t stride)
{
    enum { N = 65536 };
    unsigned shards[RELS_SHARDS] = {0}, cells[1024] = {0};
    for (uint64_t i = 0; i < N; i++) {
        uint64_t hash = rels_hash(r, first + i * stride);
        shards[rels_shard(hash)]++;
        cells[hash >> 48 & 1023]++; // of the order in a shard
    }
    for (unsigned i = 0; i < RELS_SHARDS; i++) // 1024 expected, sigma 32
        assert_in_range(shards[i], 1024 - 220, 1024 + 220);
    for (unsigned i = 0; i < 1024; i++) // 64 expected, sigma 8
        assert_in_range(cells[i], 64 - 56, 64 + 56);
}

static void test_permutation_spread(void **state)
{
    struct rels *r = new_rels(true);
    check_spread(r, 0, 1);
    for (unsigned shift = 1; shift < 48; shift++)
        check_spread(r, 0, 1ull << shift);
    check_spread(r, 1ull << 63, 0x0001000100010001);
    check_spread(r, 7, 1000003);
    check_spread(r, UINT64_MAX, UINT64_MAX); // falling
    rels_free(r);
}

// The secret counts, all of it.
static void test_permutation_secret(void **state)
{
    struct rels *r = new_rels(true);
    for (unsigned i = 0; i < 4; i++) {
        uint64_t other[4];
        memcpy(other, secret, sizeof other);
        other[i]++;
        struct rels *o = rels_new(other, true);
        assert_non_null(o);
        unsigned same = 0;
        for (uint64_t from = 0; from < 1000; from++)
            same += rels_shard(rels_hash(r, from)) == rels_shard(rels_hash(o, from));
        assert_in_range(same, 0, 50); // 16 expected
        rels_free(o);
    }
    rels_free(r);
}

// ---- forms of a list

static void test_inline(void **state)
{
    struct rels *r = new_rels(true);
    assert_true(add(r, 1, (1ull << 58) - 1));
    assert_int_equal(stats(r, 0).inlined, 1);
    assert_int_equal(stats(r, 0).used, 0);
    assert_true(add(r, 2, 1ull << 58));
    assert_int_equal(stats(r, 0).inlined, 1);
    assert_true(add(r, 3, 0));
    assert_true(add(r, 3, (1ull << 29) - 1));
    assert_false(add(r, 3, 0));
    assert_int_equal(stats(r, 0).inlined, 2);
    assert_true(add(r, 3, 1ull << 29)); // a block
    assert_int_equal(stats(r, 0).inlined, 1);
    assert_true(take(r, 3, 1ull << 29)); // and back
    assert_int_equal(stats(r, 0).inlined, 2);
    assert_true(has(r, 3, 0) && has(r, 3, (1ull << 29) - 1) && !has(r, 3, 1));
    assert_true(take(r, 3, 0));
    assert_true(take(r, 3, (1ull << 29) - 1));
    assert_int_equal(count(r, 3), 0);
    assert_true(take(r, 2, 1ull << 58));
    assert_int_equal(stats(r, 0).lists, 1);
    assert_int_equal(stats(r, 0).used, 0);
    uint64_t id = 5, payload = 6;
    assert_int_equal(add_many(r, 1, 1, &id, &payload, 1), 1);
    assert_int_equal(stats(r, 1).inlined, 0);
    rels_free(r);
}

static void test_borders(void **state)
{
    struct rels *r = new_rels(true);
    for (unsigned n = 254; n <= 258; n++) { // at once, too far apart for a bitmap
        uint64_t ids[258];
        for (unsigned i = 0; i < n; i++)
            ids[i] = i * 100000000000ull;
        assert_int_equal(add_many(r, 0, n, ids, NULL, n), n);
        assert_int_equal(count(r, n), n);
    }
    assert_int_equal(stats(r, 0).chunks, 2 * 2);
    for (unsigned i = 0; i < 258; i++) { // one by one
        assert_true(add(r, 1, UINT64_MAX - i * 100000000000ull));
        assert_int_equal(stats(r, 0).chunks, 4 + (i < 256 ? 0 : 2));
    }
    for (unsigned i = 0; i < 258; i++)
        assert_true(has(r, 1, UINT64_MAX - i * 100000000000ull));
    // It stays long until it is empty.
    for (unsigned i = 0; i < 257; i++)
        assert_true(take(r, 1, UINT64_MAX - i * 100000000000ull));
    assert_int_equal(count(r, 1), 1);
    assert_int_equal(stats(r, 0).chunks, 4 + 1);
    assert_true(take(r, 1, UINT64_MAX - 257 * 100000000000ull));
    assert_int_equal(stats(r, 0).chunks, 4);
    assert_true(add(r, 1, UINT64_MAX));
    assert_true(add(r, 1, 0));
    assert_int_equal(count(r, 1), 2);
    assert_int_equal(stats(r, 0).chunks, 4);
    rels_free(r);
}

// A list that grows at its end fills its chunks.
static void test_appends(void **state)
{
    struct rels *r = new_rels(true);
    enum { N = 100000 };
    for (uint64_t i = 0; i < N; i++)
        assert_true(add(r, 1, i * 100000));
    assert_in_range(stats(r, 0).chunks, N / IDS_BLOCK, N / IDS_BLOCK + 2);
    static uint64_t ids[100];
    for (uint64_t i = 0; i < N; i += 100) { // and by hundreds
        for (uint64_t j = 0; j < 100; j++)
            ids[j] = (i + j) * 100000;
        assert_int_equal(add_many(r, 0, 2, ids, NULL, 100), 100);
    }
    assert_in_range(stats(r, 0).chunks, 2 * (N / IDS_BLOCK), 2 * (N / IDS_BLOCK) + 4);
    rels_free(r);
}

// Chunks that have become thin are joined, in bulk and one by one.
static void test_thinning(void **state)
{
    struct rels *r = new_rels(true);
    enum { N = 51200 };
    uint64_t *ids = malloc(N * sizeof *ids);
    for (uint64_t i = 0; i < N; i++)
        ids[i] = i * 1000003;
    for (uint64_t from = 0; from < 2; from++)
        assert_int_equal(add_many(r, 0, from, ids, NULL, N), N);
    uint64_t full = stats(r, 0).chunks / 2;
    assert_int_equal(full, N / IDS_BLOCK);
    size_t n = 0;
    for (uint64_t i = 0; i < N; i++)
        if (i % 16)
            ids[n++] = i * 1000003;
    uint64_t hash = rels_hash(r, 0);
    size_t removed;
    rels_lock(r, rels_shard(hash));
    assert_ok(rels_remove(r, 0, hash, ids, n, ids, NULL, &removed));
    rels_unlock(r, rels_shard(hash));
    assert_int_equal(removed, n);
    assert_in_range(stats(r, 0).chunks, full, full + full / 6);
    for (size_t i = 0; i < n; i++)
        assert_true(take(r, 1, ids[i]));
    assert_in_range(stats(r, 0).chunks, 2, full / 2);
    for (uint64_t i = 0; i < N; i++)
        for (uint64_t from = 0; from < 2; from++)
            assert_int_equal(has(r, from, i * 1000003), i % 16 == 0);
    free(ids);
    rels_free(r);
}

static void test_long_random(void **state)
{
    struct rels *r = new_rels(true);
    enum { N = 1000000 };
    uint64_t rnd = 9, n = 0, sum = 0;
    for (unsigned i = 0; i < N; i++) {
        uint64_t id = next_random(&rnd) >> 28;
        bool added = add(r, 1, id);
        n += added;
        sum += added ? id : 0;
    }
    assert_int_equal(count(r, 1), n);
    uint64_t hash = rels_hash(r, 1), after = 0, seen = 0;
    rels_lock(r, rels_shard(hash));
    static uint64_t page[5000];
    for (bool more = true, first = true; more; first = false) {
        size_t k = rels_page(r, 0, hash, false, !first, after, 5000, page, NULL, &more);
        for (size_t i = 0; i < k; i++) {
            assert_true((first && i == 0) || page[i] > after);
            after = page[i];
            sum -= page[i];
        }
        seen += k;
    }
    rels_unlock(r, rels_shard(hash));
    assert_int_equal(seen, n);
    assert_int_equal(sum, 0);
    rels_free(r);
}

// ---- rows from below

static struct slice block_of(const uint64_t *ids, const uint64_t *payloads, size_t n,
                             uint8_t bytes[IDS_BYTES_MAX])
{
    return slice_of(bytes, ids_pack(ids, payloads, n, bytes));
}

static enum err image(struct rels *r, uint32_t table, const struct rels_row *rows, size_t n)
{
    uint64_t hash = rels_hash(r, 77);
    struct rels_image *m = rels_image_new(r, table, hash);
    assert_non_null(m);
    for (size_t i = 0; i < n; i++) {
        enum err e = rels_image_add(m, &rows[i]);
        if (e) {
            rels_image_free(m);
            return e;
        }
    }
    rels_lock(r, rels_shard(hash));
    enum err e = rels_install(r, m);
    rels_unlock(r, rels_shard(hash));
    return e;
}

static void test_damaged_rows(void **state)
{
    struct rels *r = new_rels(false);
    uint64_t hash = rels_hash(r, 77);
    const uint64_t few[] = {1, 5, 9}, later[] = {100, 200}, payloads[] = {3, 2, 1};
    uint8_t bytes[3][IDS_BYTES_MAX];
    uint8_t head[9] = {255, 5}, other[9] = {255, 6}, none[9] = {255};
    struct slice block = block_of(few, NULL, 3, bytes[0]);
    struct slice with = block_of(few, payloads, 3, bytes[1]);
    struct slice second = block_of(later, NULL, 2, bytes[2]);
    struct rels_row list = {RELS_ROW_LIST, hash, 0, block};
    struct rels_row list_with = {RELS_ROW_LIST, hash, 0, with};
    struct rels_row lost = {RELS_ROW_LIST, hash, 0, {0}};
    struct rels_row cut = {RELS_ROW_LIST, hash, 0, slice_of(block.p, block.n - 1)};
    struct rels_row elsewhere = {RELS_ROW_LIST, hash + 1, 0, block};
    struct rels_row is_long = {RELS_ROW_LIST, hash, 0, slice_of(head, 9)};
    struct rels_row too_many = {RELS_ROW_LIST, hash, 0, slice_of(other, 9)};
    struct rels_row empty = {RELS_ROW_LIST, hash, 0, slice_of(none, 9)};
    struct rels_row a = {RELS_ROW_CHUNK, hash, 0, block};
    struct rels_row late = {RELS_ROW_CHUNK, hash, 1, block};
    struct rels_row b = {RELS_ROW_CHUNK, hash, 10, second};
    struct rels_row low = {RELS_ROW_CHUNK, hash, 9, second};
    struct rels_row high = {RELS_ROW_CHUNK, hash, 101, second};
    const struct {
        uint32_t table;
        size_t n;
        struct rels_row rows[3];
    } bad[] = {
        {0, 1, {lost}},
        {0, 1, {cut}},
        {0, 1, {elsewhere}},
        {0, 1, {list_with}},
        {1, 1, {list}},
        {0, 2, {list, list}},
        {0, 2, {list, a}},
        {0, 1, {a}},
        {0, 1, {is_long}},
        {0, 1, {empty}},
        {0, 2, {is_long, a}},
        {0, 2, {is_long, late}},
        {0, 2, {is_long, b}},
        {0, 3, {is_long, a, low}},
        {0, 3, {is_long, a, high}},
        {0, 3, {too_many, a, b}},
        {0, 3, {is_long, a, a}},
        {0, 2, {empty, a}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_err(image(r, bad[i].table, bad[i].rows, bad[i].n), ERR_DAMAGED);
    rels_lock(r, rels_shard(hash));
    assert_int_equal(rels_find(r, 0, hash), RELS_COLD);
    rels_unlock(r, rels_shard(hash));
    assert_ok(image(r, 0, (struct rels_row[]){is_long, a, b}, 3));
    assert_ok(image(r, 1, (struct rels_row[]){list_with}, 1));
    assert_int_equal(count(r, 77), 5);
    assert_int_equal(stats(r, 0).chunks, 2);
    assert_int_equal(stats(r, RELS_TABLES).dirty_bytes, 0);
    // What is resident is not replaced.
    assert_ok(image(r, 0, (struct rels_row[]){list}, 1));
    assert_int_equal(count(r, 77), 5);
    rels_free(r);
}

struct rows {
    unsigned n;
    struct rels_row last;
};

static void count_row(void *arg, const struct rels_row *row)
{
    struct rows *rows = arg;
    rows->n++;
    rows->last = *row;
}

static struct rows capture(struct rels *r, uint64_t from)
{
    struct rows rows = {0};
    unsigned shard = rels_shard(rels_hash(r, from));
    uint64_t cursor = 0;
    rels_lock(r, shard);
    assert_true(rels_capture(r, shard, 0, &cursor, SIZE_MAX, count_row, &rows));
    rels_unlock(r, shard);
    return rows;
}

static void captured(struct rels *r, uint64_t from, bool written)
{
    unsigned shard = rels_shard(rels_hash(r, from));
    rels_lock(r, shard);
    rels_captured(r, shard, written);
    rels_unlock(r, shard);
}

// Of a long list only the chunks that changed are written, and again if the checkpoint fails.
static void test_changed_chunks(void **state)
{
    struct rels *r = new_rels(true);
    enum { N = 2560 };
    static uint64_t ids[N];
    for (uint64_t i = 0; i < N; i++)
        ids[i] = i << 40;
    (void)add_many(r, 0, 1, ids, NULL, N);
    assert_int_equal(capture(r, 1).n, 1 + 10);
    captured(r, 1, true);
    assert_int_equal(stats(r, 0).dirty_bytes, 0);
    assert_int_equal(capture(r, 1).n, 0);
    assert_true(take(r, 1, ids[1000]));
    assert_int_equal(capture(r, 1).n, 2);
    assert_true(take(r, 1, ids[2000])); // beside the checkpoint
    captured(r, 1, false);
    assert_int_equal(capture(r, 1).n, 3);
    captured(r, 1, true);
    assert_int_equal(capture(r, 1).n, 0);
    for (unsigned i = 256; i < 512; i++) // a whole chunk
        assert_true(take(r, 1, ids[i]));
    struct rows rows = capture(r, 1);
    assert_int_equal(rows.n, 2);
    assert_null(rows.last.bytes.p);
    assert_int_equal(rows.last.low, ids[256]);
    captured(r, 1, false);
    assert_int_equal(capture(r, 1).n, 2);
    captured(r, 1, true);
    assert_int_equal(capture(r, 1).n, 0);
    // All of it: the list's row and every chunk's.
    for (unsigned i = 0; i < N; i++)
        (void)take(r, 1, ids[i]);
    assert_int_equal(capture(r, 1).n, 1 + 9);
    captured(r, 1, true);
    assert_int_equal(stats(r, RELS_TABLES).used, 0);
    assert_int_equal(capture(r, 1).n, 0);
    rels_free(r);
}

static void test_eviction(void **state)
{
    struct rels *r = new_rels(true);
    enum { N = 20000 };
    uint64_t rnd = 3;
    for (uint64_t from = 0; from < N; from++)
        for (unsigned i = 0; i < 20; i++)
            (void)add(r, from, next_random(&rnd) >> 40);
    for (unsigned shard = 0; shard < RELS_SHARDS; shard++) { // dirty lists stay
        rels_lock(r, shard);
        (void)rels_evict(r, shard, 0);
        rels_unlock(r, shard);
    }
    assert_int_equal(stats(r, 0).lists, N);
    for (unsigned shard = 0; shard < RELS_SHARDS; shard++) {
        struct rows rows = {0};
        uint64_t cursor = 0;
        rels_lock(r, shard);
        while (!rels_capture(r, shard, 0, &cursor, 1000, count_row, &rows))
            ;
        rels_captured(r, shard, true);
        rels_unlock(r, shard);
    }
    struct rels_stats before = stats(r, 0);
    assert_int_equal(before.dirty_bytes, 0);
    uint64_t target = (before.bytes + before.slot_bytes) / RELS_SHARDS / 2;
    uint64_t freed = 0;
    for (unsigned shard = 0; shard < RELS_SHARDS; shard++) {
        rels_lock(r, shard);
        freed += rels_evict(r, shard, target);
        rels_unlock(r, shard);
    }
    struct rels_stats after = stats(r, 0);
    assert_int_equal(before.bytes + before.slot_bytes - freed, after.bytes + after.slot_bytes);
    assert_true(after.bytes + after.slot_bytes <= target * RELS_SHARDS);
    assert_in_range(after.lists, N / 5, N / 2); // and not many more than necessary
    assert_int_equal(after.evictions, N - after.lists);
    unsigned cold = 0;
    for (uint64_t from = 0; from < N; from++) {
        uint64_t hash = rels_hash(r, from);
        rels_lock(r, rels_shard(hash));
        cold += rels_find(r, 0, hash) == RELS_COLD;
        rels_unlock(r, rels_shard(hash));
    }
    assert_int_equal(cold, after.evictions);
    rels_free(r);
}

// Counts what may be evicted; with `used`, all of a shard's lists must have been.
static uint64_t clean_slots(struct rels *r, unsigned shard, bool used)
{
    uint64_t n = 0;
    for (struct rel_table *t = r->shards[shard].first; t; t = t->next)
        for (struct rel_slot *slot = slot_from(t, 0); slot; slot = slot_at(t, slot + 1)) {
            n += !(slot->word & WORD_UNWRITTEN);
            assert_true(!used || slot->word & WORD_USED);
        }
    return n;
}

// The count of what may be evicted is right whatever happens; where that is nothing, the eviction
// hand does not move.
static void test_evictable(void **state)
{
    struct rels *r = new_rels(true);
    uint64_t rnd = 8;
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t from = next_random(&rnd) % 3000, id = next_random(&rnd) % 300;
        uint64_t hash = rels_hash(r, from);
        unsigned shard = rels_shard(hash);
        rels_lock(r, shard);
        bool cold = rels_find(r, 0, hash) == RELS_COLD;
        if (cold)
            assert_ok(rels_install(r, rels_image_new(r, 0, hash)));
        rels_unlock(r, shard);
        if (next_random(&rnd) % 3)
            (void)add(r, from, id);
        else
            (void)take(r, from, id);
        struct rows rows = {0};
        uint64_t cursor = 0;
        rels_lock(r, shard);
        if (i % 50 == 0)
            (void)rels_capture(r, shard, 0, &cursor, 1000, count_row, &rows);
        if (i % 50 == 10)
            rels_captured(r, shard, i % 100 == 10);
        if (i % 50 == 20)
            (void)rels_evict(r, shard, 0);
        assert_int_equal(clean_slots(r, shard, false), r->shards[shard].clean);
        struct rel_table *t = shard_table(&r->shards[shard], 0);
        if (t && r->shards[shard].clean == 0) {
            for (struct rel_slot *slot = slot_from(t, 0); slot; slot = slot_at(t, slot + 1))
                slot->word |= WORD_USED;
            (void)rels_evict(r, shard, 0);
            assert_int_equal(clean_slots(r, shard, true), 0);
        }
        rels_unlock(r, shard);
    }
    rels_free(r);
}

// Thousands of tables, whose numbers have gaps: the hand finds all of them, and so do sums.
static void test_many_tables(void **state)
{
    enum { EVERY = 3, LISTS = 200 };
    struct rels *r = rels_new(secret, true);
    size_t count, tables = 0;
    for (uint32_t table = 1; table < RELS_TABLES - 1; table += EVERY, tables++) {
        assert_ok(rels_table(r, table, false));
        for (uint64_t from = table; from < table + LISTS; from++) {
            uint64_t id = from, hash = rels_hash(r, from);
            rels_lock(r, rels_shard(hash));
            assert_ok(rels_add(r, table, hash, &id, NULL, 1, &id, NULL, &count));
            rels_unlock(r, rels_shard(hash));
        }
        assert_int_equal(stats(r, table).lists, LISTS);
        assert_int_equal(stats(r, table + 1).lists, 0);
    }
    assert_int_equal(stats(r, RELS_TABLES).lists, tables * LISTS);
    for (unsigned shard = 0; shard < RELS_SHARDS; shard++) {
        rels_lock(r, shard);
        for (uint32_t table = 0; table < RELS_TABLES; table++) {
            struct rows rows = {0};
            uint64_t cursor = 0;
            while (!rels_capture(r, shard, table, &cursor, 1000, count_row, &rows))
                ;
        }
        rels_captured(r, shard, true);
        r->shards[shard].hand_table = shard * 60 + 1;
        (void)rels_evict(r, shard, 0);
        rels_unlock(r, shard);
    }
    assert_int_equal(stats(r, RELS_TABLES).lists, 0);
    assert_int_equal(stats(r, RELS_TABLES).evictions, tables * LISTS);
    rels_free(r);
}

static void test_sequences(void **state)
{
    struct rels *r = new_rels(true);
    uint64_t rnd = 1;
    for (uint64_t seq = 1; seq < 10000; seq++) {
        uint64_t hash = rels_hash(r, next_random(&rnd) % 500);
        rels_lock(r, rels_shard(hash));
        rels_note(r, seq % 2, hash, seq);
        rels_note(r, seq % 2, hash, seq - 1);
        assert_int_equal(rels_seq(r, seq % 2, hash), seq);
        rels_unlock(r, rels_shard(hash));
    }
    // Most lists do not share.
    unsigned zero = 0;
    for (uint64_t from = 500; from < 1000; from++)
        zero += rels_seq(r, 0, rels_hash(r, from)) == 0;
    assert_in_range(zero, 400, 500);
    rels_free(r);
}

// ---- sizes

struct sizes {
    double member; // bytes each, blocks only
    double slot;   // bytes a list
};

static struct sizes build(uint64_t lists, unsigned least, unsigned most, unsigned shift)
{
    struct rels *r = new_rels(true);
    uint64_t rnd = 4;
    for (uint64_t from = 0; from < lists; from++) {
        uint64_t ids[256];
        unsigned n = least + (unsigned)(next_random(&rnd) % (most - least + 1));
        for (unsigned i = 0; i < n; i++) // evenly random, rising
            ids[i] = (i ? ids[i - 1] + 1 : 0) + (next_random(&rnd) >> shift) / n * 2;
        assert_int_equal(add_many(r, 0, from, ids, NULL, n), n);
    }
    struct rels_stats s = stats(r, 0);
    assert_int_equal(s.lists, lists);
    rels_free(r);
    return (struct sizes){(double)s.bytes / (double)s.members,
                          (double)s.slot_bytes / (double)lists};
}

static void test_sizes(void **state)
{
    // Ids below 10 million; blocks have heads of 3 bytes.
    struct sizes s = build(200000, 100, 200, 64 - 23);
    assert_true(s.slot + 3 <= 24 && s.member <= 2.5);
    s = build(50000, 64, 200, 64 - 31); // below 2^32
    assert_true(s.slot + 3 <= 24 && s.member <= 4);
    s = build(50000, 100, 200, 1); // all of them
    assert_true(s.slot + 3 <= 24 && s.member <= 8.1);
}

// Lists that grow one by one leave holes; compaction closes them and loses nothing.
static void test_compaction(void **state)
{
    struct rels *r = new_rels(true);
    enum { LISTS = 20000, IDS = 40 };
    uint64_t rnd = 8;
    for (unsigned i = 0; i < LISTS * IDS; i++) {
        uint64_t from = next_random(&rnd) % LISTS, id = next_random(&rnd) >> 40;
        (void)add(r, from, id);
    }
    for (unsigned i = 0; i < LISTS / 2; i++) { // half of them go
        uint64_t ids[4 * IDS], hash = rels_hash(r, i);
        bool more;
        size_t n;
        rels_lock(r, rels_shard(hash));
        n = rels_page(r, 0, hash, false, false, 0, 4 * IDS, ids, NULL, &more);
        assert_ok(rels_remove(r, 0, hash, ids, n, ids, NULL, &n));
        rels_unlock(r, rels_shard(hash));
    }
    struct rels_stats before = stats(r, 0);
    for (unsigned shard = 0; shard < RELS_SHARDS; shard++) {
        rels_lock(r, shard);
        while (rels_compact(r, shard))
            ;
        rels_unlock(r, shard);
    }
    struct rels_stats after = stats(r, 0);
    assert_int_equal(before.members, after.members);
    assert_int_equal(before.used, after.used);
    // What is left idle is a slab or less of each class that is in use.
    assert_true(before.bytes - before.used > RELS_SHARDS * 30000);
    assert_true(after.bytes - after.used < RELS_SHARDS * 24576);
    rnd = 8;
    for (unsigned i = 0; i < LISTS * IDS; i++) {
        uint64_t from = next_random(&rnd) % LISTS, id = next_random(&rnd) >> 40;
        assert_int_equal(has(r, from, id), from >= LISTS / 2);
    }
    rels_free(r);
}

// ---- threads

enum { THREADS = 4, TURNS = 20000, SHARED = 200 };

struct worker {
    struct rels *r;
    unsigned number;
    pthread_t thread;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    uint64_t rnd = w->number;
    for (unsigned i = 0; i < TURNS; i++) {
        uint64_t hash = rels_hash(w->r, next_random(&rnd) % SHARED);
        uint64_t id = next_random(&rnd) % 2000 * THREADS + w->number;
        uint64_t out[64];
        size_t n;
        bool more;
        rels_prefetch_slot(w->r, 0, hash);
        rels_prefetch_list(w->r, 0, hash);
        rels_lock(w->r, rels_shard(hash));
        if (i % 3 == 0) {
            n = rels_page(w->r, 0, hash, i % 2, false, 0, 64, out, NULL, &more);
            for (size_t k = 1; k < n; k++)
                assert_true((out[k - 1] < out[k]) == (i % 2 == 0));
        } else if (i % 3 == 1) {
            assert_ok(rels_add(w->r, 0, hash, &id, NULL, 1, &id, NULL, &n));
            rels_note(w->r, 0, hash, i);
        } else {
            assert_ok(rels_remove(w->r, 0, hash, &id, 1, &id, NULL, &n));
        }
        rels_unlock(w->r, rels_shard(hash));
        if (i % 1000 == w->number) {
            struct rels_stats s;
            rels_get_stats(w->r, 0, &s);
            assert_true(s.lists <= SHARED && rels_bytes(w->r) < 1 << 30 &&
                        rels_dirty_bytes(w->r) < 1 << 30);
        }
        (void)rels_seq(w->r, 0, hash);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct rels *r = new_rels(true);
    struct worker workers[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.r = r, .number = i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    uint64_t sum = 0;
    for (uint64_t from = 0; from < SHARED; from++)
        sum += count(r, from);
    assert_int_equal(sum, stats(r, 0).members);
    rels_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_permutation_inverse),
        cmocka_unit_test(test_permutation_avalanche),
        cmocka_unit_test(test_permutation_spread),
        cmocka_unit_test(test_permutation_secret),
        cmocka_unit_test(test_inline),
        cmocka_unit_test(test_borders),
        cmocka_unit_test(test_appends),
        cmocka_unit_test(test_thinning),
        cmocka_unit_test(test_long_random),
        cmocka_unit_test(test_damaged_rows),
        cmocka_unit_test(test_changed_chunks),
        cmocka_unit_test(test_eviction),
        cmocka_unit_test(test_evictable),
        cmocka_unit_test(test_many_tables),
        cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_compaction),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
