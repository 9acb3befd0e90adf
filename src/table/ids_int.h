// A block of gaps, its head taken apart, and runs of bits, as ids*.c see them. The formats stand at
// the top of table/ids.h.
#ifndef VARVE_TABLE_IDS_INT_H
#define VARVE_TABLE_IDS_INT_H

#include "table/ids.h"

// Without VARVE_PORTABLE, with which the tests build the portable code alone.
#if defined(__x86_64__) && !defined(VARVE_PORTABLE)
#define IDS_AVX2
#endif

enum {
    IDS_BITMAP = 127,      // the first byte of a bitmap
    IDS_PAYLOADS = 128,    // in the first byte of gaps
    IDS_BITMAP_HEAD = 12,  // bytes before a bitmap's words
    IDS_BITMAP_LEAST = 32, // ids for which a bitmap is made
    IDS_LOAD_BITS = 57,    // of a number that one load of 8 bytes holds wherever it begins
};

struct gaps {
    const uint8_t *begin; // the block
    const uint8_t *bits;  // the gaps
    const uint8_t *payloads;
    const uint8_t *end;
    uint64_t first;
    size_t count;
    unsigned w, p; // widths; p is 0 without payloads
    unsigned n;    // bytes of the first
    bool has_payloads;
};

// 1 or 0, of which the compiler does not see where it comes from: it would make a branch of what
// is done with it, and branches on ids cannot be foreseen.
static inline uint64_t blind(bool yes)
{
    uint64_t v = yes;
    __asm__("" : "+r"(v));
    return v;
}

static inline size_t bytes_of(size_t bits)
{
    return (bits + 7) >> 3;
}

// The lowest w bits, w 0 to 64.
static inline uint64_t low_bits(unsigned w)
{
    return w ? UINT64_MAX >> (64 - w) : 0;
}

// Bits that v needs, 0 for 0.
static inline unsigned width_of(uint64_t v)
{
    return v ? 64 - (unsigned)__builtin_clzll(v) : 0;
}

static inline unsigned first_bytes(uint64_t first)
{
    return (width_of(first) + 7) / 8;
}

static inline bool is_bitmap(const uint8_t *b)
{
    return b[0] == IDS_BITMAP;
}

static inline size_t bitmap_words(const uint8_t *b)
{
    return (size_t)b[1] + 1;
}

static inline uint64_t bitmap_base(const uint8_t *b)
{
    return load64(b + 4);
}

static inline uint64_t bitmap_word(const uint8_t *b, size_t i)
{
    return load64(b + IDS_BITMAP_HEAD + 8 * i);
}

static inline size_t bitmap_bytes(size_t words)
{
    return IDS_BITMAP_HEAD + 8 * words;
}

// Up to 8 bytes from p on, of a block that ends at `end`; what lies past it counts as 0.
static inline uint64_t load_within(const uint8_t *begin, const uint8_t *end, const uint8_t *p)
{
    size_t have = (size_t)(end - p);
    if (have >= 8)
        return load64(p);
    if (have == 0)
        return 0;
    if (end - begin >= 8)
        return load64(end - 8) >> (8 * (8 - have));
    uint64_t v = 0;
    for (size_t i = have; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

// Number `i` of w bits in the run of bits at `bits`.
static inline uint64_t get_bits(const struct gaps *g, const uint8_t *bits, size_t i, unsigned w)
{
    const uint8_t *p = bits + (i * w >> 3);
    unsigned shift = (unsigned)(i * w & 7);
    uint64_t v = load_within(g->begin, g->end, p) >> shift;
    if (shift + w > 64)
        v |= (uint64_t)p[8] << (64 - shift);
    return v & low_bits(w);
}

// The end of the part of a run of w-bit numbers in which load_number may read: the first bit of
// each that it may lies before it.
static inline size_t loads_end(const struct gaps *g, const uint8_t *bits, unsigned w)
{
    size_t bytes = (size_t)(g->end - bits);
    size_t need = w <= IDS_LOAD_BITS ? 8 : 9;
    return bytes >= need ? (bytes - need + 1) * 8 : 0;
}

// The number of w bits that begins at bit `at`; mask: its low bits.
static inline uint64_t load_number(const uint8_t *bits, size_t at, unsigned w, uint64_t mask)
{
    const uint8_t *p = bits + (at >> 3);
    uint64_t v = load64(p) >> (at & 7);
    if (w > IDS_LOAD_BITS)
        v |= (uint64_t)p[8] << 1 << (63 - (at & 7));
    return v & mask;
}

static inline size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

// Where an id is or would be.
struct place {
    size_t i;        // the ids below it
    uint64_t before; // the last of those, if i > 0
    uint64_t at;     // the first id that is not below it, if i < count
};

// b: a valid block of gaps.
void gaps_read(struct gaps *g, const uint8_t *b);
struct place gaps_seek(const struct gaps *g, uint64_t id);
// All gaps of these rising ids together need so many bits.
unsigned gaps_width(const uint64_t *ids, size_t n);
// True if a bitmap is the form for these: see table/ids.h.
bool bitmap_suits(const uint64_t *ids, size_t n);

// ---- ids_avx2.c

#ifdef IDS_AVX2
// This processor can do what follows.
static inline bool ids_fast(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
}
// Decoding and seeking: for widths of 1 to IDS_LOAD_BITS.
void fast_decode_gaps(const struct gaps *g, uint64_t id, size_t i, size_t n, uint8_t *out);
void fast_decode_numbers(const struct gaps *g, const uint8_t *bits, unsigned w, size_t i, size_t n,
                         uint8_t *out);
// place: of the first id. True: found as gaps_seek does; else the id is not among the place->i
// first.
bool fast_seek(const struct gaps *g, uint64_t id, struct place *place);
// All gaps of n ids, or'ed.
uint64_t fast_or_gaps(const uint64_t *ids, size_t n);
// n gaps, of n + 1 ids. Returns the end.
uint8_t *fast_write_gaps(uint8_t *out, const uint64_t *ids, size_t n, unsigned w);
// Intersects as far as both have four ids left; from *at_a and *at_b on the rest is the caller's.
size_t fast_intersect(const uint64_t *a, size_t na, size_t *at_a, const uint64_t *b, size_t nb,
                      size_t *at_b, uint64_t *out);
#endif

#endif
