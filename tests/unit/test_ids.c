#include "unit.h"

#include "base/os.h"
#include "table/ids.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t test_seed(void)
{
    uint64_t seed;
    os_random(os_real(), &seed, sizeof seed);
    const char *given = os_env("VARVE_TEST_SEED");
    if (given)
        seed = strtoull(given, NULL, 0);
    print_message("seed: VARVE_TEST_SEED=%" PRIu64 "\n", seed);
    return seed;
}

static uint64_t mask_of(unsigned width)
{
    return width ? UINT64_MAX >> (64 - width) : 0;
}

// A list beside the block: what the block must hold.
struct model {
    uint64_t ids[IDS_MOST + 1];
    uint64_t payloads[IDS_MOST + 1];
    size_t n;
};

// The heap block of `size` bytes that the ids pack to; they must be what one block takes.
static uint8_t *pack(const uint64_t *ids, const uint64_t *payloads, size_t n, size_t *size)
{
    assert_int_equal(ids_cut(ids, n, payloads != NULL), n);
    *size = ids_pack_size(ids, payloads, n);
    assert_true(*size <= IDS_BYTES_MAX);
    uint8_t *b = malloc(*size);
    assert_non_null(b);
    assert_int_equal(ids_pack(ids, payloads, n, b), *size);
    assert_int_equal(ids_size(b), *size);
    return b;
}

static void decoded_is(const uint8_t *b, const struct model *m, bool payloads, size_t from,
                       bool has_after, uint64_t after, size_t max)
{
    size_t n = m->n - from < max ? m->n - from : max;
    uint8_t *got = malloc(2 * 8 * n + 1); // exact, and not aligned
    assert_non_null(got);
    got[0] = 0xa5;
    assert_int_equal(
        ids_decode_after(b, has_after, after, max, got + 1, payloads ? got + 1 + 8 * n : NULL), n);
    if (n)
        assert_memory_equal(got + 1, m->ids + from, 8 * n);
    if (n && payloads)
        assert_memory_equal(got + 1 + 8 * n, m->payloads + from, 8 * n);
    free(got);
}

static size_t below(const struct model *m, uint64_t id)
{
    size_t low = 0;
    for (size_t high = m->n; low < high;) {
        size_t mid = low + (high - low) / 2;
        if (m->ids[mid] < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static bool in_model(const struct model *m, uint64_t id)
{
    size_t at = below(m, id);
    return at < m->n && m->ids[at] == id;
}

static void contains_is(const uint8_t *b, const struct model *m, bool payloads, uint64_t id)
{
    size_t at = below(m, id);
    bool expect = at < m->n && m->ids[at] == id;
    uint64_t payload = 12345;
    assert_int_equal(ids_contains(b, id, &payload), expect);
    assert_int_equal(payload, expect && payloads ? m->payloads[at] : 12345);
    assert_int_equal(ids_contains(b, id, NULL), expect);
}

// Everything that reads says what the model does.
static void block_is(const uint8_t *b, size_t size, const struct model *m, bool payloads,
                     uint64_t *rnd)
{
    assert_ok(ids_check(slice_of(b, size)));
    assert_int_equal(ids_size(b), size);
    assert_int_equal(ids_count(b), m->n);
    assert_int_equal(ids_has_payloads(b), payloads);
    assert_true(ids_first(b) == m->ids[0] && ids_last(b) == m->ids[m->n - 1]);
    decoded_is(b, m, payloads, 0, false, 0, SIZE_MAX);
    size_t at = next_random(rnd) % m->n;
    uint64_t after = m->ids[at];
    decoded_is(b, m, payloads, at + 1, true, after, SIZE_MAX);
    decoded_is(b, m, payloads, at + 1, true, after, next_random(rnd) % (m->n + 1));
    uint64_t gap = at + 1 < m->n ? m->ids[at + 1] - after : UINT64_MAX - after;
    if (gap > 1) {
        after += 1 + next_random(rnd) % (gap - 1);
        decoded_is(b, m, payloads, at + 1, true, after, 1 + next_random(rnd) % 300);
    }
    decoded_is(b, m, payloads, 0, false, 0, next_random(rnd) % 300);
    if (m->ids[0])
        decoded_is(b, m, payloads, 0, true, m->ids[0] - 1, SIZE_MAX);
    const uint64_t ask[] = {
        m->ids[at], m->ids[at] + 1, m->ids[at] - 1,   after,
        0,          UINT64_MAX,     m->ids[m->n - 1], next_random(rnd) >> next_random(rnd) % 64};
    for (size_t i = 0; i < sizeof ask / sizeof *ask; i++)
        contains_is(b, m, payloads, ask[i]);
}

static void model_add(struct model *m, uint64_t id, uint64_t payload)
{
    size_t at = below(m, id);
    memmove(m->ids + at + 1, m->ids + at, (m->n - at) * sizeof *m->ids);
    memmove(m->payloads + at + 1, m->payloads + at, (m->n - at) * sizeof *m->payloads);
    m->ids[at] = id;
    m->payloads[at] = payload;
    m->n++;
}

static void model_remove(struct model *m, size_t at)
{
    m->n--;
    memmove(m->ids + at, m->ids + at + 1, (m->n - at) * sizeof *m->ids);
    memmove(m->payloads + at, m->payloads + at + 1, (m->n - at) * sizeof *m->payloads);
}

// ---- round trips

// n rising ids with gaps of at most `width` bits, one of them exactly that where there is a gap.
static void make_gaps(struct model *m, size_t n, unsigned width, uint64_t first, unsigned payload,
                      uint64_t *rnd)
{
    m->n = n;
    m->ids[0] = first;
    size_t widest = n > 1 ? 1 + next_random(rnd) % (n - 1) : 0;
    uint64_t left = UINT64_MAX - first - (n - 1); // what gaps may sum up to
    uint64_t top = width && n > 1 ? (uint64_t)1 << (width - 1) : 0;
    if (top > left) // no room for it
        top = 0;
    left -= top;
    for (size_t i = 1; i < n; i++) {
        uint64_t gap = next_random(rnd) & mask_of(width);
        if (i == widest)
            gap = top + ((gap & mask_of(width ? width - 1 : 0)) <= left ? 0 : left);
        else if (gap > left)
            gap = left;
        if (i == widest)
            gap = top;
        else
            left -= gap;
        m->ids[i] = m->ids[i - 1] + gap + 1;
    }
    for (size_t i = 0; i < n; i++)
        m->payloads[i] = next_random(rnd) & mask_of(payload);
}

static void round_trip(const struct model *m, bool payloads, uint64_t *rnd)
{
    size_t size;
    uint8_t *b = pack(m->ids, payloads ? m->payloads : NULL, m->n, &size);
    block_is(b, size, m, payloads, rnd);
    free(b);
}

static void all_widths_and_counts(void **state)
{
    uint64_t rnd = test_seed();
    struct model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    for (unsigned width = 0; width <= 64; width++)
        for (size_t n = 1; n <= IDS_BLOCK; n += n >= 20 && n < 235 ? 13 : 1) {
            unsigned payload = (unsigned)(next_random(&rnd) % 65);
            uint64_t first = next_random(&rnd) % 3 ? next_random(&rnd) >> 1 >> width % 64
                                                   : next_random(&rnd) % 2;
            make_gaps(m, n, width, first, payload, &rnd);
            round_trip(m, false, &rnd);
            round_trip(m, true, &rnd);
        }
    for (unsigned payload = 0; payload <= 64; payload++)
        for (size_t n = 1; n <= 20; n++) {
            make_gaps(m, n, (unsigned)(next_random(&rnd) % 40), 7, payload, &rnd);
            round_trip(m, true, &rnd);
        }
    free(m);
}

// ---- changes

struct lot {
    uint8_t *b;
    size_t cap;
    bool payloads;
    bool exact; // cap is what packing needs, else more
};

// Packs what the model says into a new block; where it takes several, the model is cut to one.
static void lot_pack(struct lot *l, struct model *m, uint64_t *rnd)
{
    size_t n = ids_cut(m->ids, m->n, l->payloads);
    assert_true(n >= 1 && n <= m->n && n <= (l->payloads ? IDS_BLOCK : IDS_MOST));
    if (n < m->n && next_random(rnd) % 2) { // or take the last piece
        size_t from = 0;
        while (from + n < m->n) {
            from += n;
            n = ids_cut(m->ids + from, m->n - from, l->payloads);
        }
        memmove(m->ids, m->ids + from, n * sizeof *m->ids);
        memmove(m->payloads, m->payloads + from, n * sizeof *m->payloads);
    }
    m->n = n;
    free(l->b);
    size_t size = ids_pack_size(m->ids, l->payloads ? m->payloads : NULL, n);
    l->cap = l->exact ? size : size + next_random(rnd) % 200;
    l->b = malloc(l->cap);
    assert_non_null(l->b);
    assert_int_equal(ids_pack(m->ids, l->payloads ? m->payloads : NULL, n, l->b), size);
}

static void lot_add(struct lot *l, struct model *m, uint64_t id, uint64_t payload, uint64_t *rnd)
{
    bool there = in_model(m, id);
    size_t size = ids_size(l->b);
    uint8_t *before = malloc(size);
    assert_non_null(before);
    memcpy(before, l->b, size);
    enum ids_result r = ids_add(l->b, l->cap, id, payload);
    assert_true(there == (r == IDS_NONE) && r != IDS_EMPTY);
    if (r != IDS_DONE)
        assert_memory_equal(before, l->b, size);
    free(before);
    if (there)
        return;
    model_add(m, id, payload);
    if (r == IDS_REPACK)
        lot_pack(l, m, rnd);
    else
        assert_true(ids_size(l->b) <= l->cap);
}

static void lot_remove(struct lot *l, struct model *m, uint64_t id, uint64_t *rnd)
{
    size_t at = below(m, id);
    bool there = at < m->n && m->ids[at] == id;
    size_t size = ids_size(l->b);
    uint8_t *before = malloc(size);
    assert_non_null(before);
    memcpy(before, l->b, size);
    uint64_t payload = 12345;
    enum ids_result r = ids_remove(l->b, id, next_random(rnd) % 2 ? &payload : NULL);
    assert_true(there == (r != IDS_NONE) && (r == IDS_EMPTY) == (there && m->n == 1));
    assert_true(payload == 12345 || (there && l->payloads && payload == m->payloads[at]));
    assert_true(ids_size(l->b) <= size);
    if (r != IDS_DONE)
        assert_memory_equal(before, l->b, size);
    free(before);
    if (r == IDS_NONE || r == IDS_EMPTY)
        return;
    model_remove(m, at);
    if (r == IDS_REPACK)
        lot_pack(l, m, rnd);
}

static void random_changes(uint64_t *rnd, struct model *m, bool payloads)
{
    struct lot l = {.payloads = payloads, .exact = next_random(rnd) % 2};
    unsigned range = (unsigned)(next_random(rnd) % 65); // ids lie in so many bits
    if (next_random(rnd) % 3 == 0)
        range = 7 + (unsigned)(next_random(rnd) % 8);
    uint64_t low = next_random(rnd) % 2 ? 0 : next_random(rnd) & ~mask_of(range);
    if (next_random(rnd) % 8 == 0)
        low = ~mask_of(range);
    unsigned payload = (unsigned)(next_random(rnd) % 65);
    m->n = 1;
    m->ids[0] = low + (next_random(rnd) & mask_of(range));
    m->payloads[0] = next_random(rnd) & mask_of(payload);
    lot_pack(&l, m, rnd);
    unsigned growth = (unsigned)(4 + next_random(rnd) % 3); // of 8 changes are additions
    for (unsigned i = 0; i < 1500; i++) {
        uint64_t id = low + (next_random(rnd) & mask_of(range));
        if (next_random(rnd) % 4 == 0) // near another
            id = m->ids[next_random(rnd) % m->n] + next_random(rnd) % 9 - 4;
        if (next_random(rnd) % 16 == 0)
            id = m->ids[next_random(rnd) % 2 ? 0 : m->n - 1];
        if (i % 600 == 599)
            growth = 10 - growth;
        if (next_random(rnd) % 8 < growth)
            lot_add(&l, m, id, next_random(rnd) & mask_of(payload), rnd);
        else
            lot_remove(&l, m, next_random(rnd) % 4 ? m->ids[next_random(rnd) % m->n] : id, rnd);
        if (i % 8 == 0)
            block_is(l.b, ids_size(l.b), m, payloads, rnd);
    }
    block_is(l.b, ids_size(l.b), m, payloads, rnd);
    free(l.b);
}

static void changes_follow_the_model(void **state)
{
    uint64_t rnd = test_seed();
    struct model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    for (unsigned i = 0; i < 300; i++)
        random_changes(&rnd, m, i % 2);
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_widths_and_counts),
        cmocka_unit_test(changes_follow_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
