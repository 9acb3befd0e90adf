// Blocks of ids on processors with AVX2 and BMI2: the same results as the portable code beside it,
// in ids.c, ids_pack.c and ids_sets.c, which asks ids_fast() and falls back to its own.
//
// Eight numbers of w bits take w bytes, so the places of eight numbers in bytes and bits are the
// same every w bytes: they are worked out once, for two groups of four.
#include "table/ids_int.h"

#ifdef IDS_AVX2
#include <immintrin.h>

#define FAST   __attribute__((target("avx2,bmi,bmi2,lzcnt,popcnt")))
#define INLINE static inline __attribute__((always_inline))

struct lanes {
    size_t low[2], high[2]; // byte from which the lower and upper two of each four are loaded
    __m256i shuffle[2];     // brings the 8 bytes in which each begins to its lane
    __m256i shift[2];       // and then the first bit down
    __m256i mask;
    size_t need; // bytes that are read for eight
};

// at: where the first begins, 0 to 7. w: 1 to IDS_LOAD_BITS.
FAST INLINE void lanes_init(struct lanes *l, unsigned at, unsigned w)
{
    const uint64_t bytes = 0x0706050403020100, each = 0x0101010101010101;
    for (unsigned k = 0; k < 2; k++) {
        unsigned a = at + 4 * k * w;
        unsigned b = a + w;
        unsigned c = b + w;
        unsigned d = c + w;
        l->low[k] = a >> 3;
        l->high[k] = c >> 3;
        uint64_t second = bytes + each * ((b >> 3) - (a >> 3));
        uint64_t fourth = bytes + each * ((d >> 3) - (c >> 3));
        l->shuffle[k] = _mm256_set_epi64x((long long)fourth, (long long)bytes, (long long)second,
                                          (long long)bytes);
        l->shift[k] = _mm256_set_epi64x(d & 7, c & 7, b & 7, a & 7);
    }
    l->mask = _mm256_set1_epi64x((long long)low_bits(w));
    l->need = l->high[1] + 16;
}

FAST INLINE __m256i lanes_load(const struct lanes *l, const uint8_t *p, unsigned k)
{
    __m128i low = _mm_loadu_si128((const __m128i *)(p + l->low[k]));
    __m128i high = _mm_loadu_si128((const __m128i *)(p + l->high[k]));
    __m256i v = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
    v = _mm256_srlv_epi64(_mm256_shuffle_epi8(v, l->shuffle[k]), l->shift[k]);
    return _mm256_and_si256(v, l->mask);
}

// Four gaps to four ids; *id, in all lanes, is the one before them and becomes the last.
FAST INLINE __m256i sum4(__m256i gaps, __m256i *id)
{
    __m256i v = _mm256_add_epi64(gaps, _mm256_set1_epi64x(1));
    v = _mm256_add_epi64(v, _mm256_slli_si256(v, 8));
    __m256i carry = _mm256_permute4x64_epi64(v, 0x50); // 0, 0, 1, 1
    carry = _mm256_blend_epi32(_mm256_setzero_si256(), carry, 0xf0);
    v = _mm256_add_epi64(v, carry);
    __m256i ids = _mm256_add_epi64(v, *id);
    *id = _mm256_add_epi64(*id, _mm256_permute4x64_epi64(v, 0xff));
    return ids;
}

FAST INLINE void eight(const struct lanes *l, const uint8_t *p, __m256i *id, bool sum, uint8_t *out)
{
    __m256i a = lanes_load(l, p, 0);
    __m256i b = lanes_load(l, p, 1);
    if (sum) {
        a = sum4(a, id);
        b = sum4(b, id);
    }
    _mm256_storeu_si256((__m256i *)out, a);
    _mm256_storeu_si256((__m256i *)(out + 32), b);
}

FAST INLINE void decode(const struct gaps *g, const uint8_t *bits, unsigned w, size_t i, size_t n,
                        uint64_t id, bool sum, uint8_t *out)
{
    if (n >= 16) {
        struct lanes l;
        lanes_init(&l, (unsigned)(i * w & 7), w);
        const uint8_t *p = bits + (i * w >> 3);
        __m256i last = _mm256_set1_epi64x((long long)id);
        for (; n >= 8 && (size_t)(g->end - p) >= l.need; i += 8, n -= 8, p += w, out += 64)
            eight(&l, p, &last, sum, out);
        id = (uint64_t)_mm256_extract_epi64(last, 0);
    }
    uint64_t mask = low_bits(w);
    size_t at = i * w;
    size_t end = (i + n) * w;
    size_t stop = least(end, loads_end(g, bits, w));
    for (; at < stop; at += w, out += 8) {
        uint64_t v = load64(bits + (at >> 3)) >> (at & 7) & mask;
        id += v + 1;
        store64(out, sum ? id : v);
    }
    for (; at < end; at += w, out += 8) {
        uint64_t v = load_within(g->begin, g->end, bits + (at >> 3)) >> (at & 7) & mask;
        id += v + 1;
        store64(out, sum ? id : v);
    }
}

FAST void fast_decode_gaps(const struct gaps *g, uint64_t id, size_t i, size_t n, uint8_t *out)
{
    decode(g, g->bits, g->w, i, n, id, true, out);
}

FAST void fast_decode_numbers(const struct gaps *g, const uint8_t *bits, unsigned w, size_t i,
                              size_t n, uint8_t *out)
{
    decode(g, bits, w, i, n, 0, false, out);
}

// Sums gaps eight at a time; only those in which the id is found are looked at one by one.
FAST bool fast_seek(const struct gaps *g, uint64_t id, struct place *place)
{
    struct lanes l;
    lanes_init(&l, 0, g->w);
    const uint8_t *p = g->bits;
    uint64_t before = place->before;
    size_t i = 0;
    for (; g->count - 1 - i >= 8 && (size_t)(g->end - p) >= l.need; i += 8, p += g->w) {
        __m256i a = lanes_load(&l, p, 0);
        __m256i b = lanes_load(&l, p, 1);
        __m256i four = _mm256_add_epi64(a, b);
        __m128i two =
            _mm_add_epi64(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
        uint64_t all = (uint64_t)_mm_cvtsi128_si64(two) + (uint64_t)_mm_extract_epi64(two, 1);
        uint64_t next = before + all + 8;
        if (next >= id) {
            uint64_t ids[9];
            __m256i last = _mm256_set1_epi64x((long long)before);
            ids[0] = before;
            _mm256_storeu_si256((__m256i *)(ids + 1), sum4(a, &last));
            _mm256_storeu_si256((__m256i *)(ids + 5), sum4(b, &last));
            size_t below = 1;
            for (unsigned k = 1; k < 8; k++)
                below += ids[k] < id;
            *place = (struct place){i + below, ids[below - 1], ids[below]};
            return true;
        }
        before = next;
    }
    *place = (struct place){.i = i, .before = before};
    return false;
}

// ---- packing

// Four gaps: of v[0..5).
FAST INLINE __m256i gaps4(const uint64_t *v)
{
    __m256i low = _mm256_loadu_si256((const __m256i *)v);
    __m256i high = _mm256_loadu_si256((const __m256i *)(v + 1));
    return _mm256_add_epi64(_mm256_sub_epi64(high, low), _mm256_set1_epi64x(-1));
}

FAST uint64_t fast_or_gaps(const uint64_t *ids, size_t n)
{
    __m256i all = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 5 <= n; i += 4)
        all = _mm256_or_si256(all, gaps4(ids + i));
    __m128i two = _mm_or_si128(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    uint64_t one = (uint64_t)_mm_cvtsi128_si64(two) | (uint64_t)_mm_extract_epi64(two, 1);
    for (; i + 2 <= n; i++)
        one |= ids[i + 1] - ids[i] - 1;
    return one;
}

struct writer {
    uint8_t *out;
    uint64_t bits; // `filled` of them, less than 64, are not written yet
    unsigned filled;
};

// w: 1 to 64.
FAST INLINE void put(struct writer *to, uint64_t number, unsigned w)
{
    to->bits |= number << to->filled;
    to->filled += w;
    if (to->filled >= 64) {
        store64(to->out, to->bits);
        to->out += 8;
        to->filled -= 64;
        to->bits = number >> (w - to->filled - 1) >> 1;
    }
}

// Numbers that fit are joined to 32 bits or more first, in vectors as far as that goes.
FAST uint8_t *fast_write_gaps(uint8_t *out, const uint64_t *ids, size_t n, unsigned w)
{
    struct writer to = {.out = out};
    size_t i = 0;
    if (w <= 32) {
        const __m256i up = _mm256_set_epi64x(w, 0, w, 0);
        for (; i + 4 <= n; i += 4) {
            __m256i v = _mm256_sllv_epi64(gaps4(ids + i), up);
            v = _mm256_or_si256(v, _mm256_srli_si256(v, 8));
            uint64_t a = (uint64_t)_mm_cvtsi128_si64(_mm256_castsi256_si128(v));
            uint64_t b = (uint64_t)_mm_cvtsi128_si64(_mm256_extracti128_si256(v, 1));
            if (w <= 16) {
                put(&to, a | b << w << w, 4 * w);
            } else {
                put(&to, a, 2 * w);
                put(&to, b, 2 * w);
            }
        }
    }
    for (; i < n; i++)
        put(&to, ids[i + 1] - ids[i] - 1, w);
    for (unsigned at = 0; at < to.filled; at += 8)
        *to.out++ = (uint8_t)(to.bits >> at);
    return to.out;
}

// ---- sets

// Lanes of a vector of four to its front: for each set of lanes which halves go where.
static const uint32_t front[16][8] = {
    {0},
    {0, 1},
    {2, 3},
    {0, 1, 2, 3},
    {4, 5},
    {0, 1, 4, 5},
    {2, 3, 4, 5},
    {0, 1, 2, 3, 4, 5},
    {6, 7},
    {0, 1, 6, 7},
    {2, 3, 6, 7},
    {0, 1, 2, 3, 6, 7},
    {4, 5, 6, 7},
    {0, 1, 4, 5, 6, 7},
    {2, 3, 4, 5, 6, 7},
    {0, 1, 2, 3, 4, 5, 6, 7},
};

// What was found, on its way to `out`. At most 8 are put before the next pass_on.
enum { FOUND = 64 };
struct found {
    uint64_t ids[FOUND + 12]; // four are stored with each put, however many were found
    size_t n;
};

// The lanes of `ids` in which `equal` is set.
FAST INLINE void found_put(struct found *f, __m256i ids, __m256i equal)
{
    unsigned lanes = (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(equal));
    __m256i to_front = _mm256_loadu_si256((const __m256i *)front[lanes]);
    _mm256_storeu_si256((__m256i *)(f->ids + f->n), _mm256_permutevar8x32_epi32(ids, to_front));
    f->n += (unsigned)__builtin_popcount(lanes);
}

FAST INLINE void copy4(uint64_t *to, const uint64_t *from, size_t n)
{
    for (size_t i = 0; i < n; i += 4)
        _mm256_storeu_si256((__m256i *)(to + i), _mm256_loadu_si256((const __m256i *)(from + i)));
}

// Returns how many ids went to `out`.
FAST INLINE size_t found_pass_on(struct found *f, uint64_t *out)
{
    if (f->n < FOUND)
        return 0;
    copy4(out, f->ids, FOUND);
    copy4(f->ids, f->ids + FOUND, 8);
    f->n -= FOUND;
    return FOUND;
}

FAST INLINE __m256i load4(const uint64_t *ids)
{
    return _mm256_loadu_si256((const __m256i *)ids);
}

// Lanes of a that are in any lane of b.
FAST INLINE __m256i equal4(__m256i a, __m256i b)
{
    __m256i e0 = _mm256_cmpeq_epi64(a, b);
    __m256i e1 = _mm256_cmpeq_epi64(a, _mm256_permute4x64_epi64(b, 0x39));
    __m256i e2 = _mm256_cmpeq_epi64(a, _mm256_permute4x64_epi64(b, 0x4e));
    __m256i e3 = _mm256_cmpeq_epi64(a, _mm256_permute4x64_epi64(b, 0x93));
    return _mm256_or_si256(_mm256_or_si256(e0, e1), _mm256_or_si256(e2, e3));
}

// Eight ids of each run at a time, each held against each; then whichever eight end first are left,
// both if they end alike; then four at a time. No id is written further up in `out` than it was in
// a. So where out is a, only ids of a are overwritten that are not above what was found last, which
// nothing in the rest of b can equal: it does not matter that they are looked at again.
FAST size_t fast_intersect(const uint64_t *a, size_t na, size_t *at_a, const uint64_t *b, size_t nb,
                           size_t *at_b, uint64_t *out)
{
    struct found f;
    f.n = 0;
    size_t n = 0;
    size_t i = 0;
    size_t j = 0;
    while (i + 8 <= na && j + 8 <= nb) {
        __m256i a0 = load4(a + i);
        __m256i a1 = load4(a + i + 4);
        __m256i b0 = load4(b + j);
        __m256i b1 = load4(b + j + 4);
        found_put(&f, a0, _mm256_or_si256(equal4(a0, b0), equal4(a0, b1)));
        found_put(&f, a1, _mm256_or_si256(equal4(a1, b0), equal4(a1, b1)));
        uint64_t last_a = a[i + 7];
        uint64_t last_b = b[j + 7];
        i += 8 * blind(last_a <= last_b);
        j += 8 * blind(last_b <= last_a);
        n += found_pass_on(&f, out + n);
    }
    while (i + 4 <= na && j + 4 <= nb) {
        __m256i a0 = load4(a + i);
        found_put(&f, a0, equal4(a0, load4(b + j)));
        uint64_t last_a = a[i + 3];
        uint64_t last_b = b[j + 3];
        i += 4 * blind(last_a <= last_b);
        j += 4 * blind(last_b <= last_a);
        n += found_pass_on(&f, out + n);
    }
    while (i < na && j > 0 && a[i] <= b[j - 1])
        i++;
    memcpy(out + n, f.ids, f.n * sizeof *out);
    *at_a = i;
    *at_b = j;
    return n + f.n;
}
#endif
