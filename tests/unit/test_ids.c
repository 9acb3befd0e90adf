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

// ---- the bytes

static void golden_is(const uint64_t *ids, const uint64_t *payloads, size_t n, const char *bytes,
                      size_t size)
{
    size_t got;
    uint8_t *b = pack(ids, payloads, n, &got);
    assert_int_equal(got, size);
    assert_memory_equal(b, bytes, size);
    assert_ok(ids_check(slice_of(b, got)));
    uint64_t back[IDS_BLOCK];
    uint64_t back_payloads[IDS_BLOCK];
    assert_int_equal(ids_decode(b, back, back_payloads), n);
    assert_memory_equal(back, ids, n * sizeof *ids);
    if (payloads)
        assert_memory_equal(back_payloads, payloads, n * sizeof *ids);
    free(b);
}

#define GOLDEN(ids, payloads, bytes) \
    golden_is(ids, payloads, sizeof ids / sizeof *ids, bytes, sizeof bytes - 1)

static void golden_bytes(void **state)
{
    static const uint64_t zero[] = {0};
    GOLDEN(zero, NULL, "\0\0\0");
    static const uint64_t top[] = {UINT64_MAX};
    GOLDEN(top, NULL, "\0\0\x8\xff\xff\xff\xff\xff\xff\xff\xff");
    static const uint64_t ends[] = {0, UINT64_MAX};
    GOLDEN(ends, NULL, "\x40\x1\0\xfe\xff\xff\xff\xff\xff\xff\xff");
    static const uint64_t row[] = {256, 257, 258};
    GOLDEN(row, NULL, "\0\x2\x2\0\x1");
    // Gaps 5, 0, 2 in 3 bits each: 101, 000 and 010 from the lowest bit on.
    static const uint64_t few[] = {9, 15, 16, 19};
    GOLDEN(few, NULL, "\x3\x3\x1\x9\x85\x0");
    // Payloads 1, 2, 3, 16 in 5 bits each.
    static const uint64_t payloads[] = {1, 2, 3, 16};
    GOLDEN(few, payloads, "\x83\x3\x1\x5\x9\x85\x0\x41\xc\x8");
    static const uint64_t none[] = {0, 0, 0, 0};
    GOLDEN(few, none, "\x83\x3\x1\x0\x9\x85\x0");
    // The even ones of 130 to 194 and the odd ones of 197 to 261: words 2 to 4.
    uint64_t dense[66];
    for (size_t i = 0; i < 66; i++)
        dense[i] = 130 + 2 * i + (i >= 33);
    GOLDEN(dense, NULL,
           "\x7f\x2\x41\0\x2\0\0\0\0\0\0\0"
           "\x54\x55\x55\x55\x55\x55\x55\x55"
           "\xa5\xaa\xaa\xaa\xaa\xaa\xaa\xaa"
           "\x2a\0\0\0\0\0\0\0");
}

// Reads a block bit by bit, as the header describes it. 0 ids: not valid.
static uint64_t bits_at(const uint8_t *p, size_t at, size_t w)
{
    uint64_t v = 0;
    for (size_t i = 0; i < w; i++)
        v |= (uint64_t)(p[(at + i) / 8] >> (at + i) % 8 & 1) << i;
    return v;
}

static size_t naive_bitmap(const uint8_t *p, size_t size, uint64_t *ids)
{
    if (size < 20 || (size - 12) % 8 || (size - 12) / 8 != p[1] + 1u || p[1] > 127)
        return 0;
    uint64_t base = bits_at(p, 32, 64);
    size_t n = 0;
    for (size_t i = 0; i < (size - 12) * 8; i++) {
        if (!bits_at(p, 96 + i, 1))
            continue;
        unsigned __int128 id = (unsigned __int128)base * 64 + i;
        if (id > UINT64_MAX)
            return 0;
        ids[n++] = (uint64_t)id;
    }
    bool ends = bits_at(p, 96, 64) && bits_at(p, (size - 8) * 8, 64);
    return ends && n == bits_at(p, 16, 16) + 1 ? n : 0;
}

static size_t naive_read(const uint8_t *p, size_t size, uint64_t *ids)
{
    if (size < 3)
        return 0;
    if (p[0] == 127)
        return naive_bitmap(p, size, ids);
    size_t head = p[0] >= 128 ? 4 : 3;
    size_t w = p[0] % 128;
    size_t count = p[1] + 1u;
    size_t n = p[2];
    if (size < head || w > 64 || n > 8 || (head == 4 && p[3] > 64))
        return 0;
    size_t payload_bits = head == 4 ? p[3] * count : 0;
    size_t gap_bytes = (w * (count - 1) + 7) / 8;
    if (size != head + n + gap_bytes + (payload_bits + 7) / 8 || (n && p[head + n - 1] == 0))
        return 0;
    const uint8_t *gaps = p + head + n;
    if (bits_at(gaps, w * (count - 1), 8 * gap_bytes - w * (count - 1)) ||
        bits_at(gaps + gap_bytes, payload_bits, (8 - payload_bits % 8) % 8))
        return 0;
    unsigned __int128 id = bits_at(p + head, 0, 8 * n);
    for (size_t i = 0; i < count; i++) {
        if (i)
            id += (unsigned __int128)bits_at(gaps, (i - 1) * w, w) + 1;
        if (id > UINT64_MAX)
            return 0;
        ids[i] = (uint64_t)id;
    }
    return count;
}

// ids_check says what the naive reader says; what it accepts is read alike, and packs again.
// Returns whether it is valid.
static bool judged_alike(const uint8_t *bytes, size_t size)
{
    uint8_t *b = malloc(size + (size == 0));
    uint64_t *ids = malloc(IDS_MOST * sizeof *ids);
    uint64_t *got = malloc(IDS_MOST * sizeof *got);
    uint64_t *payloads = malloc(IDS_MOST * sizeof *payloads);
    uint8_t *again = malloc(IDS_BYTES_MAX);
    assert_true(b && ids && got && payloads && again);
    memcpy(b, bytes, size);
    size_t n = naive_read(b, size, ids);
    assert_err(ids_check(slice_of(b, size)), n ? ERR_OK : ERR_DAMAGED);
    if (n) {
        assert_int_equal(ids_size(b), size);
        assert_int_equal(ids_count(b), n);
        assert_int_equal(ids_decode(b, got, payloads), n);
        assert_memory_equal(got, ids, n * sizeof *ids);
        bool has_payloads = ids_has_payloads(b);
        for (size_t at = 0, piece; at < n; at += piece) {
            piece = ids_cut(ids + at, n - at, has_payloads);
            size_t packed = ids_pack(ids + at, has_payloads ? payloads + at : NULL, piece, again);
            assert_int_equal(naive_read(again, packed, got), piece);
            assert_memory_equal(got, ids + at, piece * sizeof *ids);
        }
    }
    free(b);
    free(ids);
    free(got);
    free(payloads);
    free(again);
    return n > 0;
}

// A valid block with widths that may be more than is needed, where it has gaps.
static size_t any_block(uint8_t *out, struct model *m, uint64_t *rnd)
{
    unsigned width = (unsigned)(next_random(rnd) % 65);
    bool payloads = next_random(rnd) % 2;
    size_t n = 1 + next_random(rnd) % 40;
    if (next_random(rnd) % 3 == 0) { // a bitmap
        n = 40 + next_random(rnd) % 400;
        width = (unsigned)(next_random(rnd) % 2);
        payloads = false;
    }
    uint64_t first = next_random(rnd) >> next_random(rnd) % 64;
    if (next_random(rnd) % 4 == 0)
        first = UINT64_MAX - 1000 + next_random(rnd) % 100;
    make_gaps(m, n, width, first, (unsigned)(next_random(rnd) % 65), rnd);
    m->n = ids_cut(m->ids, m->n, payloads);
    return ids_pack(m->ids, payloads ? m->payloads : NULL, m->n, out);
}

static void damage_is_found(void **state)
{
    uint64_t rnd = test_seed();
    struct model *m = calloc(1, sizeof *m);
    uint8_t b[IDS_BYTES_MAX + 8];
    assert_non_null(m);
    unsigned valid = 0, flips = 0;
    for (unsigned i = 0; i < 150; i++) {
        size_t size = any_block(b, m, &rnd);
        assert_true(judged_alike(b, size));
        for (size_t n = 0; n < size; n++)
            assert_false(judged_alike(b, n));
        memset(b + size, 0, 8);
        for (size_t n = size + 1; n <= size + 8; n++)
            assert_false(judged_alike(b, n));
        for (size_t bit = 0; bit < 8 * size; bit += bit < 200 ? 1 : 1 + next_random(&rnd) % 16) {
            b[bit / 8] ^= (uint8_t)(1u << bit % 8);
            valid += judged_alike(b, size);
            flips++;
            b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
    assert_true(valid > flips / 10 && valid < flips); // both happen
    for (unsigned i = 0; i < 20000; i++) {            // heads that are near valid ones
        size_t size = next_random(&rnd) % 40;
        for (size_t k = 0; k < size; k++)
            b[k] = (uint8_t)(next_random(&rnd) >> 8 * (next_random(&rnd) % 9 % 8));
        if (size > 2) {
            b[1] %= 8;
            b[2] %= 10;
        }
        judged_alike(b, size);
    }
    free(m);
}

#define REFUSED(bytes) assert_false(judged_alike((const uint8_t *)(bytes), sizeof(bytes) - 1))

static void invalid_blocks(void **state)
{
    REFUSED("");
    REFUSED("\x41\0\0");                                 // a width of 65
    REFUSED("\x7e\0\0");                                 // of 126
    REFUSED("\xff\0\0\0\0\0\0\0\0");                     // 127 with payloads
    REFUSED("\0\0\x9\x1\x1\x1\x1\x1\x1\x1\x1\x1");       // 9 bytes of the first
    REFUSED("\0\0\x2\x7\0");                             // 2 where 1 holds it
    REFUSED("\0\0\x1\0");                                // 1 for id 0
    REFUSED("\x80\0\0\x41\0\0\0\0\0\0\0\0\0");           // payloads of 65 bits
    REFUSED("\x80\0\0");                                 // no width of payloads
    REFUSED("\x3\x1\0\x8");                              // a filling bit
    REFUSED("\x80\0\0\x3\x8");                           // of payloads
    REFUSED("\0\x1\x8\xff\xff\xff\xff\xff\xff\xff\xff"); // one past the last id
    REFUSED("\x40\x1\0\xff\xff\xff\xff\xff\xff\xff\xff");
    REFUSED("\x7f\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");                // an empty word
    REFUSED("\x7f\0\x1\0\0\0\0\0\0\0\0\0\x1\0\0\0\0\0\0\0");              // a wrong count
    REFUSED("\x7f\0\0\0\0\0\0\0\0\0\0\x4\x1\0\0\0\0\0\0\0");              // id 2^64
    REFUSED("\x7f\x1\0\0\xff\xff\xff\xff\xff\xff\xff\x3\x1\0\0\0\0\0\0\0" // and
            "\x1\0\0\0\0\0\0\0");
    REFUSED("\x7f\x1\0\0\0\0\0\0\0\0\0\0\x1\0\0\0\0\0\0\0" // the last word is empty
            "\0\0\0\0\0\0\0\0");
    REFUSED("\x7f\x1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" // the first is
            "\x1\0\0\0\0\0\0\0");
    uint8_t b[12 + 129 * 8]; // 129 words
    memset(b, 0xff, sizeof b);
    memcpy(b, "\x7f\x80\x3f\x20\0\0\0\0\0\0\0\0", 12);
    assert_false(judged_alike(b, sizeof b));
    b[1]--;
    b[2] = 0xff;
    b[3] = 0x1f;
    assert_true(judged_alike(b, sizeof b - 8));
    // Widths that are more than is needed are fine.
    assert_true(judged_alike((const uint8_t *)"\x8\x1\0\x1", 4));
    assert_true(judged_alike((const uint8_t *)"\x40\0\0", 3));
}

// ---- sets

// Rising ids in a heap block of exact size, as out of a range of `spread` ids for each.
static uint64_t *make_run(size_t n, uint64_t low, uint64_t spread, uint64_t *rnd)
{
    uint64_t *v = malloc(n * sizeof *v + (n == 0));
    assert_non_null(v);
    uint64_t id = low;
    for (size_t i = 0; i < n; i++) {
        id += next_random(rnd) % (2 * spread - 1) + (i > 0);
        v[i] = id;
    }
    return v;
}

enum { BOTH = 1, ONLY_A = 2, ONLY_B = 4 }; // which ids a set takes

// Naive: every id of either run, in order, is looked for in each.
static size_t naive(const uint64_t *a, size_t na, const uint64_t *b, size_t nb, unsigned takes,
                    uint64_t *out)
{
    size_t n = 0;
    for (size_t i = 0, j = 0; i < na || j < nb;) {
        uint64_t id = j == nb || (i < na && a[i] < b[j]) ? a[i] : b[j];
        bool of_a = i < na && a[i] == id;
        bool of_b = j < nb && b[j] == id;
        if (takes & (of_a && of_b ? BOTH : of_a ? ONLY_A : ONLY_B))
            out[n++] = id;
        i += of_a;
        j += of_b;
    }
    return n;
}

typedef size_t (*set_fn)(const uint64_t *, size_t, const uint64_t *, size_t, uint64_t *);

static void set_is(set_fn fn, unsigned takes, const uint64_t *a, size_t na, const uint64_t *b,
                   size_t nb)
{
    size_t room = takes == BOTH ? (na < nb ? na : nb) : takes & ONLY_B ? na + nb : na;
    uint64_t *expect = malloc((na + nb + 1) * sizeof *expect);
    uint64_t *got = malloc(room * sizeof *got + (room == 0));
    uint64_t *in_place = malloc(na * sizeof *in_place + (na == 0));
    assert_true(expect && got && in_place);
    size_t n = naive(a, na, b, nb, takes, expect);
    assert_int_equal(fn(a, na, b, nb, got), n);
    if (n)
        assert_memory_equal(got, expect, n * sizeof *got);
    if (!(takes & ONLY_B)) {
        if (na)
            memcpy(in_place, a, na * sizeof *in_place);
        assert_int_equal(fn(in_place, na, b, nb, in_place), n);
        if (n)
            assert_memory_equal(in_place, expect, n * sizeof *in_place);
    }
    free(expect);
    free(got);
    free(in_place);
}

static void sets_are(const uint64_t *a, size_t na, const uint64_t *b, size_t nb)
{
    set_is(ids_intersect_runs, BOTH, a, na, b, nb);
    set_is(ids_union_runs, BOTH | ONLY_A | ONLY_B, a, na, b, nb);
    set_is(ids_minus_runs, ONLY_A, a, na, b, nb);
}

static void runs_combine(void **state)
{
    uint64_t rnd = test_seed();
    static const size_t counts[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 64, 65, 200, 256, 700};
    enum { COUNTS = sizeof counts / sizeof *counts };
    for (unsigned i = 0; i < 12000; i++) {
        size_t na = counts[next_random(&rnd) % COUNTS];
        size_t nb = counts[next_random(&rnd) % COUNTS];
        uint64_t low = next_random(&rnd) % 4 ? next_random(&rnd) % 1000 : UINT64_MAX / 2 - 500;
        uint64_t other = next_random(&rnd) % 8 ? low : low + 1000 * (next_random(&rnd) % 1000);
        static const uint64_t spreads[] = {1, 2, 3, 10, 1000, UINT64_C(1) << 50};
        uint64_t *a = make_run(na, low, spreads[next_random(&rnd) % 6], &rnd);
        uint64_t *b = make_run(nb, other, spreads[next_random(&rnd) % 6], &rnd);
        sets_are(a, na, b, nb);
        sets_are(a, na, a, na);
        // Nested: every third of a, or nearly all of it.
        size_t nc = 0;
        uint64_t *c = malloc(na * sizeof *c + 1);
        assert_non_null(c);
        for (size_t k = 0; k < na; k++)
            if (i % 2 ? k % 3 == 0 : next_random(&rnd) % 16 > 0)
                c[nc++] = a[k];
        sets_are(a, na, c, nc);
        sets_are(c, nc, a, na);
        free(a);
        free(b);
        free(c);
    }
}

// A block of each form, of ids near `low`.
static uint8_t *random_block(struct model *m, uint64_t low, uint64_t *rnd)
{
    bool dense = next_random(rnd) % 2;
    size_t n = 1 + next_random(rnd) % (dense ? 5000 : IDS_BLOCK);
    uint64_t *run =
        make_run(n, low, dense ? 1 + next_random(rnd) % 4 : 1 + next_random(rnd) % 400, rnd);
    m->n = ids_cut(run, n, false);
    memcpy(m->ids, run, m->n * sizeof *run);
    free(run);
    size_t size;
    return pack(m->ids, NULL, m->n, &size);
}

static void blocks_intersect(void **state)
{
    uint64_t rnd = test_seed();
    struct model *a = calloc(1, sizeof *a);
    struct model *b = calloc(1, sizeof *b);
    uint64_t *expect = malloc(IDS_MOST * sizeof *expect);
    assert_true(a && b && expect);
    for (unsigned i = 0; i < 4000; i++) {
        uint64_t low = next_random(&rnd) % 3 ? next_random(&rnd) % 100000 : UINT64_MAX - 30000000;
        uint8_t *x = random_block(a, low, &rnd);
        uint8_t *y = random_block(b, low + next_random(&rnd) % 2000, &rnd);
        size_t n = naive(a->ids, a->n, b->ids, b->n, BOTH, expect);
        size_t room = a->n < b->n ? a->n : b->n;
        uint8_t *got = malloc(8 * room + 1);
        assert_non_null(got);
        assert_int_equal(ids_intersect(x, y, got + 1), n);
        assert_true(n == 0 || memcmp(got + 1, expect, 8 * n) == 0);
        assert_int_equal(ids_intersect(y, x, got + 1), n);
        assert_true(n == 0 || memcmp(got + 1, expect, 8 * n) == 0);
        free(got);
        free(x);
        free(y);
    }
    free(a);
    free(b);
    free(expect);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_widths_and_counts), cmocka_unit_test(changes_follow_the_model),
        cmocka_unit_test(golden_bytes),          cmocka_unit_test(damage_is_found),
        cmocka_unit_test(invalid_blocks),        cmocka_unit_test(runs_combine),
        cmocka_unit_test(blocks_intersect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
