// Sorting is by digits from the lowest up (LSD radix sort; Knuth, TAOCP 3, 5.2.5): a pass over the
// pairs for each digit that is not the same in all of them. Counting all digits is one pass before.
#include "cli/rel_pairs.h"
#include "base/assert.h"
#include <string.h>

enum {
    DIGIT_BITS = 11,
    DIGIT_VALUES = 1 << DIGIT_BITS,
    DIGITS = (64 + DIGIT_BITS - 1) / DIGIT_BITS, // of a word
    FIRST_SHIFT = 32,
};

void rel_pairs_init(struct rel_pairs *p, uint64_t *words, size_t cap)
{
    VERIFY(cap >= 2);
    *p = (struct rel_pairs){.words = words, .cap = cap, .shift = FIRST_SHIFT};
}

void rel_pairs_clear(struct rel_pairs *p)
{
    p->count = 0;
}

static unsigned bits_of(uint64_t v)
{
    return v ? 64 - (unsigned)__builtin_clzll(v) : 0;
}

// Goes over to a layout in which this pair fits too. False: that would take more room than there
// is.
static bool widen(struct rel_pairs *p, uint64_t from, uint64_t member)
{
    uint64_t froms = from, members = member; // all of their bits
    for (size_t i = 0; i < p->count; i++) {
        froms |= rel_pairs_from(p, i);
        members |= rel_pairs_member(p, i);
    }
    unsigned f = bits_of(froms), m = bits_of(members), old = p->shift;
    size_t n = p->count;
    if (f + m <= 63) {
        m += (63 - f - m) / 2; // half of what is left to each side: ids tend to grow
        p->shift = m ? m : 1;
        for (size_t i = 0; i < n; i++) {
            uint64_t w = p->words[i];
            p->words[i] = w >> old << p->shift | (w & (((uint64_t)1 << old) - 1));
        }
        return true;
    }
    if (n > p->cap / 2)
        return false;
    for (size_t i = n; i-- > 0;) { // from the last on: each goes to where later ones were
        uint64_t w = p->words[i];
        p->words[2 * i] = w & (((uint64_t)1 << old) - 1);
        p->words[2 * i + 1] = w >> old;
    }
    p->count = 2 * n;
    p->shift = 0;
    return true;
}

bool rel_pairs_add_slow(struct rel_pairs *p, uint64_t from, uint64_t member)
{
    unsigned s = p->shift;
    if (s && (member >> s || from >> (64 - s)) && !widen(p, from, member))
        return false;
    if (p->cap - p->count < (p->shift ? 1 : 2))
        return false;
    if (p->shift) {
        p->words[p->count++] = from << p->shift | member;
    } else {
        p->words[p->count++] = member;
        p->words[p->count++] = from;
    }
    return true;
}

// Counts how often each value of each digit occurs in word `at` of each `stride`.
static void count_digits(const uint64_t *words, size_t n, size_t stride, size_t at, unsigned low,
                         size_t counts[DIGITS][DIGIT_VALUES])
{
    memset(counts, 0, DIGITS * sizeof *counts);
    for (size_t i = at; i < n; i += stride) {
        uint64_t w = words[i] >> low;
        for (unsigned d = 0; d < DIGITS; d++)
            counts[d][w >> d * DIGIT_BITS & (DIGIT_VALUES - 1)]++;
    }
}

// Counts become where the first of each value goes. False: all have the same value.
static bool to_places(size_t counts[DIGIT_VALUES], size_t all)
{
    size_t sum = 0;
    for (size_t v = 0; v < DIGIT_VALUES; v++) {
        if (counts[v] == all)
            return false;
        size_t n = counts[v];
        counts[v] = sum;
        sum += n;
    }
    return true;
}

static void move_ones(const uint64_t *from, uint64_t *to, size_t n, unsigned low, size_t *places)
{
    for (size_t i = 0; i < n; i++)
        to[places[from[i] >> low & (DIGIT_VALUES - 1)]++] = from[i];
}

static void move_twos(const uint64_t *from, uint64_t *to, size_t n, size_t at, unsigned low,
                      size_t *places)
{
    for (size_t i = 0; i < n; i += 2) {
        size_t place = 2 * places[from[i + at] >> low & (DIGIT_VALUES - 1)]++;
        to[place] = from[i];
        to[place + 1] = from[i + 1];
    }
}

// Sorts by bits `low` and up of word `at` of each pair; pairs in which they are equal keep their
// order.
static void sort_by_word(struct rel_pairs *p, uint64_t **scratch, size_t at, unsigned low)
{
    size_t counts[DIGITS][DIGIT_VALUES];
    size_t stride = p->shift ? 1 : 2;
    count_digits(p->words, p->count, stride, at, low, counts);
    for (unsigned d = 0; d < DIGITS && low + d * DIGIT_BITS < 64; d++) {
        if (!to_places(counts[d], p->count / stride))
            continue;
        if (stride == 1)
            move_ones(p->words, *scratch, p->count, low + d * DIGIT_BITS, counts[d]);
        else
            move_twos(p->words, *scratch, p->count, at, low + d * DIGIT_BITS, counts[d]);
        uint64_t *sorted = *scratch;
        *scratch = p->words;
        p->words = sorted;
    }
}

static void take_duplicates_out(struct rel_pairs *p)
{
    size_t n = p->shift ? 1 : 2, kept = n;
    for (size_t i = n; i < p->count; i += n) {
        const uint64_t *w = p->words + i, *last = p->words + kept - n;
        if (w[0] == last[0] && w[n - 1] == last[n - 1])
            continue;
        p->words[kept] = w[0];
        p->words[kept + n - 1] = w[n - 1];
        kept += n;
    }
    p->count = p->count ? kept : 0;
}

void rel_pairs_sort(struct rel_pairs *p, uint64_t **scratch, bool keep_order)
{
    if (p->shift) {
        sort_by_word(p, scratch, 0, keep_order ? p->shift : 0);
    } else {
        if (!keep_order)
            sort_by_word(p, scratch, 0, 0);
        sort_by_word(p, scratch, 1, 0);
    }
    if (!keep_order)
        take_duplicates_out(p);
}
