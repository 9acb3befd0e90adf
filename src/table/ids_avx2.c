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
        l->shuffle[k] =
            _mm256_set_epi64x((long long)(bytes + each * ((d >> 3) - (c >> 3))), (long long)bytes,
                              (long long)(bytes + each * ((b >> 3) - (a >> 3))), (long long)bytes);
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

FAST INLINE void decode(const uint8_t *bits, const uint8_t *end, unsigned w, size_t i, size_t n,
                        uint64_t id, bool sum, uint8_t *out)
{
    struct lanes l;
    lanes_init(&l, (unsigned)(i * w & 7), w);
    const uint8_t *p = bits + (i * w >> 3);
    __m256i last = _mm256_set1_epi64x((long long)id);
    for (; n >= 8 && (size_t)(end - p) >= l.need; n -= 8, p += w, out += 64)
        eight(&l, p, &last, sum, out);
    if (n == 0)
        return;
    // The last ones, from a copy with zeros after it.
    uint8_t copy[128] = {0};
    size_t left = (size_t)(end - p);
    memcpy(copy, p, left < 64 ? left : 64);
    for (p = copy; n >= 8; n -= 8, p += w, out += 64)
        eight(&l, p, &last, sum, out);
    uint8_t ids[64];
    eight(&l, p, &last, sum, ids);
    memcpy(out, ids, 8 * n);
}

FAST void fast_decode_gaps(const struct gaps *g, uint64_t id, size_t i, size_t n, uint8_t *out)
{
    decode(g->bits, g->end, g->w, i, n, id, true, out);
}

FAST void fast_decode_numbers(const struct gaps *g, const uint8_t *bits, unsigned w, size_t i,
                              size_t n, uint8_t *out)
{
    decode(bits, g->end, w, i, n, 0, false, out);
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
#endif
