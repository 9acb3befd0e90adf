// Sets of ids: two rising runs, or two blocks. The formats stand at the top of table/ids.h.
#include "table/ids_int.h"

#include "base/assert.h"

enum { GALLOP = 32 }; // how many times longer the other run must be

// The first of v[from..n) that is >= id: steps that double, then halving. n: none.
static size_t gallop(const uint64_t *v, size_t from, size_t n, uint64_t id)
{
    size_t step = 1;
    size_t low = from; // all below it are < id
    while (low + step <= n && v[low + step - 1] < id) {
        low += step;
        step *= 2;
    }
    size_t high = low + step <= n ? low + step - 1 : n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (v[mid] < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

// The ids of the short run that are in the long one. `out` may be either.
static size_t intersect_gallop(const uint64_t *few, size_t n, const uint64_t *many, size_t m,
                               uint64_t *out)
{
    size_t found = 0;
    size_t at = 0;
    for (size_t i = 0; i < n && at < m; i++) {
        uint64_t id = few[i];
        at = gallop(many, at, m, id);
        if (at < m && many[at] == id) {
            out[found++] = id;
            at++;
        }
    }
    return found;
}

enum takes { BOTH, EITHER, ONLY_A };

// Walks both runs up to the last id of one, from *at_a and *at_b on, and leaves those where it
// stopped. Never writes past the ids of a that it left behind, or of both with EITHER. The next id
// of each run is loaded before it is known to be needed: else each step waits for its loads.
static inline __attribute__((always_inline)) size_t merge(const uint64_t *a, size_t na,
                                                          size_t *at_a, const uint64_t *b,
                                                          size_t nb, size_t *at_b, uint64_t *out,
                                                          enum takes takes)
{
    size_t i = *at_a;
    size_t j = *at_b;
    size_t n = 0;
    if (i < na && j < nb) {
        uint64_t x = a[i];
        uint64_t y = b[j];
        while (i + 1 < na && j + 1 < nb) {
            uint64_t next_x = a[i + 1];
            uint64_t next_y = b[j + 1];
            uint64_t left = blind(x <= y);
            uint64_t right = blind(y <= x);
            out[n] = takes == EITHER ? x + ((y - x) & -right) : x;
            n += takes == BOTH ? left & right : takes == ONLY_A ? 1 - right : 1;
            i += left;
            j += right;
            x += (next_x - x) & -left;
            y += (next_y - y) & -right;
        }
    }
    while (i < na && j < nb) {
        uint64_t x = a[i];
        uint64_t y = b[j];
        out[n] = takes == EITHER && y < x ? y : x;
        n += takes == BOTH ? x == y : takes == ONLY_A ? x < y : true;
        i += x <= y;
        j += y <= x;
    }
    *at_a = i;
    *at_b = j;
    return n;
}

size_t ids_intersect_runs(const uint64_t *a, size_t na, const uint64_t *b, size_t nb, uint64_t *out)
{
    if (na > GALLOP * nb)
        return intersect_gallop(b, nb, a, na, out);
    if (nb > GALLOP * na)
        return intersect_gallop(a, na, b, nb, out);
    size_t i = 0;
    size_t j = 0;
#ifdef IDS_AVX2
    if (ids_fast()) {
        size_t n = fast_intersect(a, na, &i, b, nb, &j, out);
        return n + (na - i < nb - j ? intersect_gallop(a + i, na - i, b + j, nb - j, out + n)
                                    : intersect_gallop(b + j, nb - j, a + i, na - i, out + n));
    }
#endif
    return merge(a, na, &i, b, nb, &j, out, BOTH);
}

size_t ids_union_runs(const uint64_t *a, size_t na, const uint64_t *b, size_t nb, uint64_t *out)
{
    size_t i = 0;
    size_t j = 0;
    size_t n = merge(a, na, &i, b, nb, &j, out, EITHER);
    if (i < na)
        memcpy(out + n, a + i, (na - i) * sizeof *out);
    else if (j < nb)
        memcpy(out + n, b + j, (nb - j) * sizeof *out);
    return n + (na - i) + (nb - j);
}

size_t ids_minus_runs(const uint64_t *a, size_t na, const uint64_t *b, size_t nb, uint64_t *out)
{
    size_t i = 0;
    size_t j = 0;
    size_t n = merge(a, na, &i, b, nb, &j, out, ONLY_A);
    if (i < na)
        memmove(out + n, a + i, (na - i) * sizeof *out);
    return n + (na - i);
}

// ---- blocks

static size_t intersect_bitmaps(const uint8_t *a, const uint8_t *b, uint8_t *out)
{
    uint64_t base_a = bitmap_base(a);
    uint64_t base_b = bitmap_base(b);
    uint64_t end_a = base_a + bitmap_words(a);
    uint64_t end_b = base_b + bitmap_words(b);
    uint64_t end = end_a < end_b ? end_a : end_b;
    const uint8_t *begin = out;
    for (uint64_t at = base_a > base_b ? base_a : base_b; at < end; at++) {
        uint64_t word =
            bitmap_word(a, (size_t)(at - base_a)) & bitmap_word(b, (size_t)(at - base_b));
        for (; word; word &= word - 1, out += 8)
            store64(out, at * 64 + (unsigned)__builtin_ctzll(word));
    }
    return (size_t)(out - begin) / 8;
}

bool ids_is_bitmap(const uint8_t *b)
{
    return is_bitmap(b);
}

size_t ids_test(const uint8_t *bitmap, const uint64_t *ids, size_t n, bool keep, uint64_t *out)
{
    uint64_t base = bitmap_base(bitmap);
    size_t words = bitmap_words(bitmap);
    uint64_t flip = keep ? 0 : UINT64_MAX;
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t id = ids[i];
        uint64_t word = id / 64 - base; // wraps below the base
        bool inside = word < words;
        uint64_t bits = bitmap_word(bitmap, inside ? (size_t)word : 0) & -(uint64_t)inside;
        out[found] = id;
        found += (bits ^ flip) >> (id % 64) & 1;
    }
    return found;
}

size_t ids_intersect(const uint8_t *a, const uint8_t *b, void *out)
{
    if (is_bitmap(a) && is_bitmap(b))
        return intersect_bitmaps(a, b, out);
    if (is_bitmap(a)) {
        const uint8_t *gaps = b;
        b = a;
        a = gaps;
    }
    uint64_t ids[IDS_BLOCK];
    size_t n = ids_decode(a, ids, NULL);
    if (is_bitmap(b)) {
        n = ids_test(b, ids, n, true, ids);
    } else {
        uint64_t others[IDS_BLOCK];
        size_t m = ids_decode(b, others, NULL);
        n = ids_intersect_runs(ids, n, others, m, ids);
    }
    memcpy(out, ids, n * sizeof *ids);
    return n;
}
