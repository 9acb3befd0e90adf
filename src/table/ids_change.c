// Blocks of ids: changing them where they lie. The formats stand at the top of table/ids.h.
//
// A new id between two others splits a gap in two that are not wider than it was, so most additions
// only shift the bits behind it up by one gap. Nothing is written before it is known to go.
#include "table/ids_int.h"

#include "base/assert.h"

// ---- runs of bits

// Puts the w bits of v at bit `at`; the run ends at `end`.
static void set_bits(uint8_t *p, const uint8_t *end, size_t at, unsigned w, uint64_t v)
{
    p += at >> 3;
    unsigned shift = (unsigned)(at & 7);
    uint64_t mask = low_bits(w);
    if (w <= IDS_LOAD_BITS && end - p >= 8) {
        store64(p, (load64(p) & ~(mask << shift)) | v << shift);
        return;
    }
    for (unsigned done = 0; done < w; p++) {
        unsigned n = 8 - shift < w - done ? 8 - shift : w - done;
        unsigned m = ((1u << n) - 1) << shift;
        *p = (uint8_t)((*p & ~m) | ((unsigned)(v >> done) << shift & m));
        done += n;
        shift = 0;
    }
}

// Puts w bits of v before bit `at` of a run of `bits`. Writes only the bytes that the run then has;
// reads the byte before it too, which every block has.
static void insert_bits(uint8_t *p, size_t bits, size_t at, unsigned w, uint64_t v)
{
    if (w == 0)
        return;
    size_t had = bytes_of(bits);
    size_t has = bytes_of(bits + w);
    if (has > had)
        p[had] = 0;
    unsigned stay_mask = (1u << (at & 7)) - 1; // of the byte that `at` is in
    unsigned stay = p[at >> 3] & stay_mask;
    // Bytes from `low` on move up, a word at a time from the top. What comes to lie below bit
    // at + w is put right at the end. The lowest word is worked out first: the one before it may
    // overlap it.
    size_t low = (at + w) >> 3;
    size_t up = w >> 3;
    unsigned shift = w & 7;
    if (has - low >= 8) {
        uint8_t *o = p + low;
        uint64_t lowest = load64(o - up) << shift | (uint64_t) * (o - up - 1) >> (8 - shift);
        for (size_t n = has - low; n > 8; n -= 8) {
            o = p + low + n - 8;
            store64(o, load64(o - up) << shift | (uint64_t) * (o - up - 1) >> (8 - shift));
        }
        store64(p + low, lowest);
    } else {
        for (uint8_t *o = p + has; o-- > p + low;)
            *o = (uint8_t)((unsigned)*(o - up) << shift | (unsigned)*(o - up - 1) >> (8 - shift));
    }
    p[at >> 3] = (uint8_t)((p[at >> 3] & ~stay_mask) | stay);
    set_bits(p, p + has, at, w, v);
}

// Takes w bits out at bit `at`. The bytes past the new end keep anything.
static void remove_bits(uint8_t *p, size_t bits, size_t at, unsigned w)
{
    if (w == 0)
        return;
    size_t had = bytes_of(bits);
    size_t has = bytes_of(bits - w);
    size_t low = at >> 3; // bytes from it on move down
    unsigned stay_mask = (1u << (at & 7)) - 1;
    unsigned stay = stay_mask ? p[low] & stay_mask : 0;
    size_t down = w >> 3;
    unsigned shift = w & 7;
    // The byte after those of which a byte or word is made counts as 0 past the end.
    uint64_t over = has + down < had ? p[has + down] : 0;
    if (has - low >= 8) {
        uint64_t highest = load64(p + has - 8 + down) >> shift | over << (63 - shift) << 1;
        for (uint8_t *o = p + low; o < p + has - 8; o += 8)
            store64(o, load64(o + down) >> shift | (uint64_t)o[down + 8] << (63 - shift) << 1);
        store64(p + has - 8, highest);
    } else {
        for (size_t o = low; o < has; o++) {
            unsigned high = o + 1 < has ? p[o + down + 1] : (unsigned)over;
            p[o] = (uint8_t)((unsigned)p[o + down] >> shift | high << (8 - shift));
        }
    }
    if (stay_mask)
        p[low] = (uint8_t)((p[low] & ~stay_mask) | stay);
}

// ---- gaps

static void store_first(uint8_t *b, const struct gaps *g, uint64_t first)
{
    b[2] = (uint8_t)first_bytes(first);
    for (unsigned i = 0; i < b[2]; i++)
        b[3 + g->has_payloads + i] = (uint8_t)(first >> 8 * i);
}

static size_t gaps_size(const struct gaps *g, size_t first_n, size_t count)
{
    return 3u + g->has_payloads + first_n + bytes_of((count - 1) * g->w) + bytes_of(count * g->p);
}

static enum ids_result gaps_add(uint8_t *b, size_t cap, uint64_t id, uint64_t payload)
{
    struct gaps g;
    gaps_read(&g, b);
    struct place at = gaps_seek(&g, id);
    bool last = at.i == g.count;
    if (!last && at.at == id)
        return IDS_NONE;
    if (g.count == IDS_BLOCK || (g.has_payloads && width_of(payload) > g.p))
        return IDS_REPACK;
    // The gap that comes in; between two ids it is the upper one, and the lower one is set anew.
    uint64_t gap = last ? id - at.before - 1 : at.at - id - 1;
    if (width_of(gap) > g.w)
        return IDS_REPACK;
    unsigned n = at.i == 0 ? first_bytes(id) : g.n;
    if (gaps_size(&g, n, g.count + 1) > cap)
        return IDS_REPACK;

    uint8_t *bits = b + (g.bits - b) - (g.n - n);
    if (n < g.n)
        memmove(bits, g.bits, (size_t)(g.end - g.bits));
    size_t had = bytes_of((g.count - 1) * g.w);
    size_t has = bytes_of(g.count * g.w);
    if (g.p) {
        memmove(bits + has, bits + had, bytes_of(g.count * g.p));
        insert_bits(bits + has, g.count * g.p, at.i * g.p, g.p, payload);
    }
    insert_bits(bits, (g.count - 1) * g.w, (last ? at.i - 1 : at.i) * g.w, g.w, gap);
    if (at.i == 0)
        store_first(b, &g, id);
    else if (!last)
        set_bits(bits, bits + has, (at.i - 1) * g.w, g.w, id - at.before - 1);
    b[1] = (uint8_t)g.count;
    return IDS_DONE;
}

static enum ids_result gaps_remove(uint8_t *b, uint64_t id, uint64_t *payload)
{
    struct gaps g;
    gaps_read(&g, b);
    struct place at = gaps_seek(&g, id);
    if (at.i == g.count || at.at != id)
        return IDS_NONE;
    if (g.has_payloads && payload)
        *payload = get_bits(&g, g.payloads, at.i, g.p);
    if (g.count == 1)
        return IDS_EMPTY;
    bool last = at.i == g.count - 1;
    uint64_t next = last ? 0 : id + get_bits(&g, g.bits, at.i, g.w) + 1;
    unsigned n = at.i == 0 ? first_bytes(next) : g.n;
    uint64_t gap = at.i > 0 && !last ? next - at.before - 1 : 0; // of what were its neighbours
    if (width_of(gap) > g.w || gaps_size(&g, n, g.count - 1) > (size_t)(g.end - b))
        return IDS_REPACK;

    uint8_t *bits = b + (g.bits - b);
    size_t had = bytes_of((g.count - 1) * g.w);
    size_t has = bytes_of((g.count - 2) * g.w);
    remove_bits(bits, (g.count - 1) * g.w, (last ? at.i - 1 : at.i) * g.w, g.w);
    if (at.i > 0 && !last)
        set_bits(bits, bits + has, (at.i - 1) * g.w, g.w, gap);
    size_t payloads = bytes_of((g.count - 1) * g.p);
    if (g.p) {
        remove_bits(bits + had, g.count * g.p, at.i * g.p, g.p);
        memmove(bits + has, bits + had, payloads);
    }
    if (n > g.n)
        memmove(bits + (n - g.n), bits, has + payloads);
    if (at.i == 0)
        store_first(b, &g, next);
    b[1] = (uint8_t)(g.count - 2);
    return IDS_DONE;
}

// ---- bitmaps

static void bitmap_set(uint8_t *b, uint64_t word, uint64_t bits)
{
    store64(b + IDS_BITMAP_HEAD + 8 * word, bits);
}

static enum ids_result bitmap_add(uint8_t *b, size_t cap, uint64_t id)
{
    uint64_t base = bitmap_base(b);
    size_t words = bitmap_words(b);
    size_t count = ids_count(b);
    uint64_t at = id / 64;
    uint64_t bit = (uint64_t)1 << (id % 64);
    if (at >= base && at - base < words) {
        uint64_t word = bitmap_word(b, (size_t)(at - base));
        if (word & bit)
            return IDS_NONE;
        bitmap_set(b, at - base, word | bit);
        store16(b + 2, (uint16_t)count);
        return IDS_DONE;
    }
    uint64_t more = at < base ? base - at : at - base - words + 1;
    // With an id to 8 bits it is worth its bytes for sure; else packing decides.
    if (more > IDS_WORDS - words || bitmap_bytes(words + more) > cap ||
        (words + more) * 8 > count + 1)
        return IDS_REPACK;
    uint8_t *from = b + IDS_BITMAP_HEAD;
    if (at < base) {
        memmove(from + 8 * more, from, 8 * words);
        memset(from, 0, 8 * more);
        store64(b + 4, at);
        bitmap_set(b, 0, bit);
    } else {
        memset(from + 8 * words, 0, 8 * more);
        bitmap_set(b, at - base, bit);
    }
    b[1] = (uint8_t)(words + more - 1);
    store16(b + 2, (uint16_t)count);
    return IDS_DONE;
}

// Whether packing would still make a bitmap without `id`. Looked at in every eighth removal where
// it is in doubt at all.
static bool bitmap_thin_without(const uint8_t *b, uint64_t id)
{
    size_t left = ids_count(b) - 1;
    uint64_t ids[IDS_WORDS * 8];
    if (left % 8 != 0 || left + 1 > sizeof ids / sizeof *ids || left >= bitmap_words(b) * 8)
        return false;
    size_t n = ids_decode(b, ids, NULL);
    size_t i = 0;
    while (ids[i] != id)
        i++;
    memmove(ids + i, ids + i + 1, (n - i - 1) * sizeof *ids);
    return !bitmap_suits(ids, n - 1);
}

static enum ids_result bitmap_remove(uint8_t *b, uint64_t id)
{
    size_t count = ids_count(b);
    if (!ids_contains(b, id, NULL))
        return IDS_NONE;
    if (count == 1)
        return IDS_EMPTY;
    if (bitmap_thin_without(b, id))
        return IDS_REPACK;
    uint64_t base = bitmap_base(b);
    size_t words = bitmap_words(b);
    uint64_t at = id / 64 - base;
    bitmap_set(b, at, bitmap_word(b, (size_t)at) ^ (uint64_t)1 << (id % 64));
    while (bitmap_word(b, words - 1) == 0)
        words--;
    size_t empty = 0;
    while (bitmap_word(b, empty) == 0)
        empty++;
    if (empty) {
        words -= empty;
        memmove(b + IDS_BITMAP_HEAD, b + IDS_BITMAP_HEAD + 8 * empty, 8 * words);
        store64(b + 4, base + empty);
    }
    b[1] = (uint8_t)(words - 1);
    store16(b + 2, (uint16_t)(count - 2));
    return IDS_DONE;
}

enum ids_result ids_add(uint8_t *b, size_t cap, uint64_t id, uint64_t payload)
{
    return is_bitmap(b) ? bitmap_add(b, cap, id) : gaps_add(b, cap, id, payload);
}

enum ids_result ids_remove(uint8_t *b, uint64_t id, uint64_t *payload)
{
    return is_bitmap(b) ? bitmap_remove(b, id) : gaps_remove(b, id, payload);
}
