// Blocks of ids: making them. The formats stand at the top of table/ids.h.
#include "table/ids_int.h"

#include "base/assert.h"

// What one more block costs a list, beside its bytes: its place in the directory and what its slab
// rounds up by. Counted where a bitmap is held against several blocks of gaps.
enum { BLOCK_COSTS = 24 };

unsigned gaps_width(const uint64_t *ids, size_t n)
{
#ifdef IDS_AVX2
    if (ids_fast())
        return width_of(fast_or_gaps(ids, n));
#endif
    uint64_t all = 0;
    for (size_t i = 1; i < n; i++)
        all |= ids[i] - ids[i - 1] - 1;
    return width_of(all);
}

static size_t gaps_bytes(const uint64_t *ids, size_t n)
{
    return 3 + first_bytes(ids[0]) + bytes_of((n - 1) * gaps_width(ids, n));
}

static size_t words_of(const uint64_t *ids, size_t n)
{
    uint64_t words = ids[n - 1] / 64 - ids[0] / 64 + 1;
    return words <= IDS_WORDS ? (size_t)words : IDS_WORDS + 1;
}

bool bitmap_suits(const uint64_t *ids, size_t n)
{
    size_t words = words_of(ids, n);
    if (n < IDS_BITMAP_LEAST || words > IDS_WORDS)
        return false;
    if (n <= IDS_BLOCK)
        return bitmap_bytes(words) <= 2 * gaps_bytes(ids, n);
    size_t pieces = (n + IDS_BLOCK - 1) / IDS_BLOCK;
    size_t bytes = pieces * BLOCK_COSTS;
    for (size_t at = 0, left = pieces; left > 0; left--) {
        size_t piece = (n - at + left - 1) / left;
        bytes += gaps_bytes(ids + at, piece);
        at += piece;
    }
    return bitmap_bytes(words) <= 2 * bytes;
}

// The ids of ids[0..n) that lie in the first `words` words.
static size_t in_words(const uint64_t *ids, size_t n, size_t words)
{
    uint64_t base = ids[0] / 64;
    size_t most = n < words * 64 ? n : words * 64;
    size_t low = 0; // the ids below it are inside
    while (low < most) {
        size_t mid = low + (most - low) / 2;
        if (ids[mid] / 64 - base < words)
            low = mid + 1;
        else
            most = mid;
    }
    return low;
}

size_t ids_cut(const uint64_t *ids, size_t n, bool payloads)
{
    VERIFY(n > 0);
    if (n <= IDS_BLOCK)
        return n;
    if (!payloads) {
        // All that a bitmap holds; but what needs two of them is halved, so that both can grow.
        uint64_t words = ids[n - 1] / 64 - ids[0] / 64 + 1;
        size_t take = words <= IDS_WORDS || words > 2 * IDS_WORDS ? IDS_WORDS : (words + 1) / 2;
        size_t dense = in_words(ids, n, take);
        if (dense > IDS_BLOCK && bitmap_suits(ids, dense))
            return dense;
    }
    size_t pieces = (n + IDS_BLOCK - 1) / IDS_BLOCK;
    return (n + pieces - 1) / pieces;
}

static unsigned payloads_width(const uint64_t *payloads, size_t n)
{
    uint64_t all = 0;
    for (size_t i = 0; i < n; i++)
        all |= payloads[i];
    return width_of(all);
}

static bool packs_as_bitmap(const uint64_t *ids, const uint64_t *payloads, size_t n)
{
    if (n > IDS_BLOCK) {
        VERIFY(!payloads && words_of(ids, n) <= IDS_WORDS);
        return true;
    }
    return !payloads && bitmap_suits(ids, n);
}

size_t ids_pack_size(const uint64_t *ids, const uint64_t *payloads, size_t n)
{
    if (packs_as_bitmap(ids, payloads, n))
        return bitmap_bytes(words_of(ids, n));
    size_t bytes = gaps_bytes(ids, n);
    return payloads ? bytes + 1 + bytes_of(n * payloads_width(payloads, n)) : bytes;
}

// Writes n numbers of w bits: v[0..n), or the gaps of the n + 1 ids there. Returns the end.
static inline __attribute__((always_inline)) uint8_t *write_numbers(uint8_t *out, const uint64_t *v,
                                                                    size_t n, unsigned w, bool gaps)
{
    if (w == 0)
        return out;
#ifdef IDS_AVX2
    if (gaps && ids_fast())
        return fast_write_gaps(out, v, n, w);
#endif
    uint64_t bits = 0; // `filled` of them are not written yet
    unsigned filled = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t number = gaps ? v[i + 1] - v[i] - 1 : v[i];
        bits |= number << filled;
        filled += w;
        if (filled >= 64) {
            store64(out, bits);
            out += 8;
            filled -= 64;
            bits = number >> (w - filled - 1) >> 1;
        }
    }
    for (unsigned at = 0; at < filled; at += 8)
        *out++ = (uint8_t)(bits >> at);
    return out;
}

static size_t bitmap_pack(const uint64_t *ids, size_t n, uint8_t *out)
{
    uint64_t base = ids[0] / 64;
    size_t words = words_of(ids, n);
    out[0] = IDS_BITMAP;
    out[1] = (uint8_t)(words - 1);
    store16(out + 2, (uint16_t)(n - 1));
    store64(out + 4, base);
    uint8_t *to = out + IDS_BITMAP_HEAD;
    uint64_t at = base;
    uint64_t word = 0;
    for (size_t i = 0; i < n; i++) {
        for (; at < ids[i] / 64; at++, to += 8, word = 0)
            store64(to, word);
        word |= (uint64_t)1 << (ids[i] % 64);
    }
    store64(to, word);
    return bitmap_bytes(words);
}

size_t ids_pack(const uint64_t *ids, const uint64_t *payloads, size_t n, uint8_t *out)
{
    VERIFY(n > 0);
    if (packs_as_bitmap(ids, payloads, n))
        return bitmap_pack(ids, n, out);
    unsigned w = gaps_width(ids, n);
    unsigned p = payloads ? payloads_width(payloads, n) : 0;
    unsigned first = first_bytes(ids[0]);
    uint8_t *to = out;
    *to++ = (uint8_t)(w | (payloads ? IDS_PAYLOADS : 0));
    *to++ = (uint8_t)(n - 1);
    *to++ = (uint8_t)first;
    if (payloads)
        *to++ = (uint8_t)p;
    for (unsigned i = 0; i < first; i++)
        *to++ = (uint8_t)(ids[0] >> 8 * i);
    to = write_numbers(to, ids, n - 1, w, true);
    if (payloads)
        to = write_numbers(to, payloads, n, p, false);
    return (size_t)(to - out);
}
