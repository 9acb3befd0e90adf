// What blocks of ids cost: bench_ids prints bytes an id for lists of several lengths and ranges,
// beside what other ways to pack them would take, and nanoseconds an id or call on one thread. Not
// part of a suite. With libroaring (HAVE_ROARING) it measures that too.
#include "base/assert.h"
#include "base/os.h"
#include "table/ids.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef HAVE_ROARING
#include <roaring/roaring.h>
#endif

enum { LISTS = 500, ROUNDS = 60, MANY = 1000000 };

struct range {
    const char *name;
    uint64_t top; // ids are at most this
};
static const struct range ranges[] = {
    {"10M", 9999999}, {"2^32", UINT32_MAX}, {"u64", UINT64_MAX}, {"dense", 0}};

static uint64_t now_ns(void)
{
    return os_mono_ns(os_real());
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int by_number(const void *a, const void *b)
{
    return (*(const uint64_t *)a > *(const uint64_t *)b) -
           (*(const uint64_t *)a < *(const uint64_t *)b);
}

// n different random ids up to `top`, rising.
static void random_ids(uint64_t *ids, size_t n, uint64_t top, uint64_t *rnd)
{
    for (size_t have = 0; have < n;) {
        for (size_t i = have; i < n; i++)
            ids[i] = top == UINT64_MAX ? next_random(rnd) : next_random(rnd) % (top + 1);
        qsort(ids, n, sizeof *ids, by_number);
        have = 1;
        for (size_t i = 1; i < n; i++)
            if (ids[i] != ids[have - 1])
                ids[have++] = ids[i];
    }
}

static uint64_t top_of(const struct range *r, size_t n)
{
    return r->top ? r->top : 2 * n - 1; // dense: every second id
}

// ---- bytes

enum way { BLOCK, HEADLESS, GAPS, ELIAS_FANO, BYTE_GAPS, ROARING, WAYS };

static unsigned width(uint64_t v)
{
    return v ? 64 - (unsigned)__builtin_clzll(v) : 0;
}

// Gaps in whole bytes (1, 2, 4 or 8 of them) with two bits each that say which; the first id and
// the head as blocks have them.
static double byte_gaps(const uint64_t *ids, size_t n)
{
    double bytes = 3 + (width(ids[0]) + 7) / 8 + (double)((2 * (n - 1) + 7) / 8);
    for (size_t i = 1; i < n; i++) {
        unsigned w = width(ids[i] - ids[i - 1] - 1);
        bytes += w <= 8 ? 1 : w <= 16 ? 2 : w <= 32 ? 4 : 8;
    }
    return bytes;
}

// As blocks without bitmaps would be.
static double gaps(const uint64_t *ids, size_t n)
{
    uint64_t all = 0;
    for (size_t i = 1; i < n; i++)
        all |= ids[i] - ids[i - 1] - 1;
    return 3 + (width(ids[0]) + 7) / 8 + (double)(((n - 1) * width(all) + 7) / 8);
}

// l low bits an id, the high parts in unary: n ones and (last - first) >> l zeros. The first id and
// the head as blocks have them, and a byte for l.
static double elias_fano(const uint64_t *ids, size_t n)
{
    uint64_t span = ids[n - 1] - ids[0];
    unsigned l = span / n ? width(span / n) - 1 : 0;
    double bits = (double)n * l + (double)n + (double)(span >> l);
    return 4 + (width(ids[0]) + 7) / 8 + bits / 8;
}

static double roaring(const uint64_t *ids, size_t n)
{
#ifdef HAVE_ROARING
    if (ids[n - 1] > UINT32_MAX)
        return 0;
    roaring_bitmap_t *r = roaring_bitmap_create();
    for (size_t i = 0; i < n; i++)
        roaring_bitmap_add(r, (uint32_t)ids[i]);
    roaring_bitmap_run_optimize(r);
    double bytes = (double)roaring_bitmap_portable_size_in_bytes(r);
    roaring_bitmap_free(r);
    return bytes;
#else
    return 0;
#endif
}

static void print_bytes(const struct range *r, size_t n)
{
    static uint64_t ids[IDS_BLOCK];
    double sum[WAYS] = {0};
    uint64_t rnd = n;
    for (unsigned i = 0; i < LISTS; i++) {
        random_ids(ids, n, top_of(r, n), &rnd);
        sum[BLOCK] += (double)ids_pack_size(ids, NULL, n);
        sum[HEADLESS] += (double)ids_pack_size(ids, NULL, n) - 3;
        sum[GAPS] += gaps(ids, n);
        sum[ELIAS_FANO] += elias_fano(ids, n);
        sum[BYTE_GAPS] += byte_gaps(ids, n);
        sum[ROARING] += roaring(ids, n);
    }
    printf("%-6s %4zu", r->name, n);
    for (enum way w = 0; w < WAYS; w++)
        printf("  %8.3f", sum[w] / (double)(LISTS * n));
    printf("\n");
}

static void bytes(void)
{
    static const size_t counts[] = {64, 100, 150, 200, 256};
    printf("bytes an id\n%-6s %4s  %8s  %8s  %8s  %8s  %8s  %8s\n", "below", "ids", "block",
           "no head", "gaps", "elias-f.", "byte gaps", "roaring");
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        for (size_t j = 0; j < sizeof counts / sizeof *counts; j++)
            print_bytes(&ranges[i], counts[j]);
}

// ---- time of one block's operations

struct lists {
    size_t n; // ids a list
    uint64_t (*ids)[IDS_BLOCK];
    uint8_t *blocks[LISTS]; // each on the heap
    size_t caps[LISTS];
};

// Nanoseconds a unit, of which a round has `units`: the median round and, for a busy machine, the
// fastest.
static void print_rounds(const char *what, uint64_t ns[ROUNDS], double units)
{
    qsort(ns, ROUNDS, sizeof *ns, by_number);
    printf("  %-44s %8.2f ns, at best %8.2f ns\n", what, (double)ns[ROUNDS / 2] / units,
           (double)ns[0] / units);
}

static void pack_all(struct lists *l)
{
    for (size_t i = 0; i < LISTS; i++)
        ids_pack(l->ids[i], NULL, l->n, l->blocks[i]);
}

static void bench_pack_decode(struct lists *l)
{
    uint64_t ns[ROUNDS];
    for (unsigned r = 0; r < ROUNDS; r++) {
        uint64_t t = now_ns();
        pack_all(l);
        ns[r] = now_ns() - t;
    }
    print_rounds("pack, an id", ns, (double)(LISTS * l->n));
    static uint64_t out[IDS_MOST];
    for (unsigned r = 0; r < ROUNDS; r++) {
        uint64_t t = now_ns();
        for (size_t i = 0; i < LISTS; i++)
            VERIFY(ids_decode(l->blocks[i], out, NULL) == l->n);
        ns[r] = now_ns() - t;
    }
    print_rounds("decode, an id", ns, (double)(LISTS * l->n));
}

static void bench_contains(struct lists *l, uint64_t *rnd)
{
    uint64_t ns[ROUNDS];
    size_t found = 0;
    for (unsigned r = 0; r < ROUNDS; r++) {
        uint64_t t = now_ns();
        for (size_t i = 0; i < LISTS; i++)
            found += ids_contains(l->blocks[i], l->ids[i][next_random(rnd) % l->n] + i % 2, NULL);
        ns[r] = now_ns() - t;
    }
    VERIFY(found >= LISTS * ROUNDS / 2);
    print_rounds("contains, half of them there, a call", ns, LISTS);
}

// Every id that is taken out is put back, so lists stay as they are, but for widths.
static void bench_change(struct lists *l, uint64_t *rnd)
{
    static uint64_t taken[LISTS];
    uint64_t add[ROUNDS], remove[ROUNDS], repack = 0, adds = 0, removes = 0;
    for (unsigned r = 0; r < ROUNDS; r++) {
        pack_all(l);
        for (size_t i = 0; i < LISTS; i++)
            taken[i] = l->ids[i][next_random(rnd) % l->n];
        uint64_t t = now_ns();
        for (size_t i = 0; i < LISTS; i++)
            if (ids_remove(l->blocks[i], taken[i], NULL) == IDS_REPACK)
                taken[i] = UINT64_MAX, repack++;
        uint64_t t1 = now_ns();
        for (size_t i = 0; i < LISTS; i++)
            if (taken[i] != UINT64_MAX)
                adds += ids_add(l->blocks[i], l->caps[i], taken[i], 0) == IDS_DONE;
        remove[r] = t1 - t;
        add[r] = now_ns() - t1;
    }
    removes = LISTS * ROUNDS - repack;
    VERIFY(adds > removes / 2);
    printf("  (of %d removals %" PRIu64 " ask for packing again, of %" PRIu64 " additions %" PRIu64
           ")\n",
           LISTS * ROUNDS, repack, removes, removes - adds);
    print_rounds("remove, a call", remove, LISTS);
    print_rounds("add, a call", add, (double)removes / ROUNDS);
}

static void bench_blocks(size_t n, const struct range *r)
{
    struct lists l = {.n = n};
    l.ids = calloc(LISTS, sizeof *l.ids);
    VERIFY(l.ids);
    uint64_t rnd = n;
    for (size_t i = 0; i < LISTS; i++)
        random_ids(l.ids[i], n, top_of(r, n), &rnd);
    for (size_t i = 0; i < LISTS; i++) {
        l.caps[i] = ids_pack_size(l.ids[i], NULL, n);
        l.blocks[i] = malloc(l.caps[i]);
        VERIFY(l.blocks[i]);
    }
    printf("lists of %zu ids, %s:\n", n, r->name);
    bench_pack_decode(&l);
    bench_contains(&l, &rnd);
    bench_change(&l, &rnd);
    for (size_t i = 0; i < LISTS; i++)
        free(l.blocks[i]);
    free(l.ids);
}

// ---- time of long lists

struct run {
    uint64_t *ids;
    size_t n;
    uint8_t *bytes; // all blocks, one after another
    uint8_t *end;
};

static void run_make(struct run *m, size_t n, uint64_t top, uint64_t *rnd)
{
    m->n = n;
    m->ids = malloc(n * sizeof *m->ids);
    m->bytes = malloc(n * 10 + IDS_BYTES_MAX);
    VERIFY(m->ids && m->bytes);
    random_ids(m->ids, n, top, rnd);
    m->end = m->bytes;
    for (size_t at = 0, k; at < n; at += k) {
        k = ids_cut(m->ids + at, n - at, false);
        m->end += ids_pack(m->ids + at, NULL, k, m->end);
    }
}

// A list's blocks, one at a time.
struct cursor {
    const uint8_t *block; // the next after those of which ids are left here
    const uint8_t *end;
    size_t at, n;
    uint64_t ids[IDS_MOST];
};

static bool cursor_more(const struct cursor *c)
{
    return c->at < c->n || c->block < c->end;
}

static void cursor_decode(struct cursor *c)
{
    if (c->at < c->n)
        return;
    c->n = ids_decode(c->block, c->ids, NULL);
    c->block += ids_size(c->block);
    c->at = 0;
}

static bool cursor_at_bitmap(const struct cursor *c)
{
    return c->at == c->n && c->block[0] == 127;
}

static size_t up_to(const struct cursor *c, uint64_t last)
{
    size_t low = c->at;
    for (size_t high = c->n; low < high;) {
        size_t mid = low + (high - low) / 2;
        if (c->ids[mid] <= last)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

// Of what both have before the end of the one that ends first.
static size_t intersect_runs(struct cursor *a, struct cursor *b, uint64_t *out)
{
    cursor_decode(a);
    cursor_decode(b);
    uint64_t last_a = a->ids[a->n - 1];
    uint64_t last_b = b->ids[b->n - 1];
    size_t end_a = last_a <= last_b ? a->n : up_to(a, last_b);
    size_t end_b = last_b <= last_a ? b->n : up_to(b, last_a);
    size_t n =
        ids_intersect_runs(a->ids + a->at, end_a - a->at, b->ids + b->at, end_b - b->at, out);
    a->at = end_a;
    b->at = end_b;
    return n;
}

static size_t intersect_blocks(const struct run *x, const struct run *y, uint64_t *out)
{
    static struct cursor a, b;
    a.block = x->bytes, a.end = x->end, a.at = a.n = 0;
    b.block = y->bytes, b.end = y->end, b.at = b.n = 0;
    size_t n = 0;
    while (cursor_more(&a) && cursor_more(&b)) {
        if (!cursor_at_bitmap(&a) || !cursor_at_bitmap(&b)) {
            n += intersect_runs(&a, &b, out + n);
            continue;
        }
        n += ids_intersect(a.block, b.block, out + n);
        uint64_t last_a = ids_last(a.block);
        uint64_t last_b = ids_last(b.block);
        if (last_a <= last_b)
            a.block += ids_size(a.block);
        if (last_b <= last_a)
            b.block += ids_size(b.block);
    }
    return n;
}

static void bench_roaring(const struct run *a, const struct run *b, size_t expect)
{
#ifdef HAVE_ROARING
    uint64_t ns[ROUNDS];
    roaring_bitmap_t *r[2] = {roaring_bitmap_create(), roaring_bitmap_create()};
    for (size_t i = 0; i < a->n; i++)
        roaring_bitmap_add(r[0], (uint32_t)a->ids[i]);
    for (size_t i = 0; i < b->n; i++)
        roaring_bitmap_add(r[1], (uint32_t)b->ids[i]);
    uint32_t *out = malloc((a->n + 1) * sizeof *out);
    VERIFY(out);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t t = now_ns();
        roaring_bitmap_t *both = roaring_bitmap_and(r[0], r[1]);
        roaring_bitmap_to_uint32_array(both, out);
        ns[i] = now_ns() - t;
        VERIFY(roaring_bitmap_get_cardinality(both) == expect);
        roaring_bitmap_free(both);
    }
    printf("  roaring: %.3f bytes an id\n",
           (double)roaring_bitmap_portable_size_in_bytes(r[0]) / (double)a->n);
    print_rounds("roaring: intersect, to an array, an input id", ns, (double)(a->n + b->n));
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t t = now_ns();
        roaring_bitmap_to_uint32_array(r[0], out);
        ns[i] = now_ns() - t;
    }
    print_rounds("roaring: to an array, an id", ns, (double)a->n);
    free(out);
    roaring_bitmap_free(r[0]);
    roaring_bitmap_free(r[1]);
#endif
}

static void bench_runs(const struct run *a, const struct run *b, uint64_t *out)
{
    uint64_t ns[4][ROUNDS];
    size_t n[4] = {0};
    for (unsigned r = 0; r < ROUNDS; r++) {
        uint64_t t = now_ns();
        n[0] = ids_intersect_runs(a->ids, a->n, b->ids, b->n, out);
        uint64_t t1 = now_ns();
        n[1] = intersect_blocks(a, b, out);
        uint64_t t2 = now_ns();
        n[2] = ids_union_runs(a->ids, a->n, b->ids, b->n, out);
        uint64_t t3 = now_ns();
        n[3] = ids_minus_runs(a->ids, a->n, b->ids, b->n, out);
        uint64_t t4 = now_ns();
        ns[0][r] = t1 - t;
        ns[1][r] = t2 - t1;
        ns[2][r] = t3 - t2;
        ns[3][r] = t4 - t3;
    }
    VERIFY(n[0] == n[1] && n[2] == a->n + b->n - n[0] && n[3] == a->n - n[0]);
    static const char *const name[] = {
        "intersect two runs, an input id", "intersect as blocks, an input id",
        "union of two runs, an input id", "one run without another, an input id"};
    for (unsigned i = 0; i < 4; i++)
        print_rounds(name[i], ns[i], (double)(a->n + b->n));
    if (a->ids[a->n - 1] <= UINT32_MAX && b->ids[b->n - 1] <= UINT32_MAX)
        bench_roaring(a, b, n[0]);
}

static void bench_long(size_t na, size_t nb, const char *name, uint64_t top)
{
    struct run a, b;
    uint64_t rnd = 1;
    run_make(&a, na, top, &rnd);
    run_make(&b, nb, top, &rnd);
    uint64_t *out = malloc((na + nb) * sizeof *out);
    VERIFY(out);
    printf("%zu and %zu ids, %s: %.3f bytes an id\n", na, nb, name,
           (double)(a.end - a.bytes) / (double)na);
    bench_runs(&a, &b, out);
    free(out);
    free(a.ids);
    free(a.bytes);
    free(b.ids);
    free(b.bytes);
}

int main(void)
{
    bytes();
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        bench_blocks(150, &ranges[i]);
    bench_blocks(256, &ranges[0]);
    bench_long(MANY, MANY, "10M", 9999999);
    bench_long(MANY, MANY, "2^32", UINT32_MAX);
    bench_long(MANY, MANY, "u64", UINT64_MAX);
    bench_long(MANY, MANY, "dense", 2 * MANY - 1);
    bench_long(MANY / 100, MANY, "10M", 9999999);
}
