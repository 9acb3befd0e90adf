// Blocks of ids: reading and checking. The formats stand at the top of table/ids.h.
#include "table/ids_int.h"

#include "base/assert.h"

_Static_assert(IDS_WORDS * 64 == IDS_MOST, "what a bitmap holds");
_Static_assert(IDS_BITMAP_HEAD + 8 * IDS_WORDS <= IDS_BYTES_MAX, "gaps are the longest blocks");

void gaps_read(struct gaps *g, const uint8_t *b)
{
    g->begin = b;
    g->has_payloads = b[0] & IDS_PAYLOADS;
    g->w = b[0] & ~(unsigned)IDS_PAYLOADS;
    g->count = (size_t)b[1] + 1;
    g->n = b[2];
    g->p = g->has_payloads ? b[3] : 0;
    const uint8_t *first = b + 3 + g->has_payloads;
    g->bits = first + g->n;
    g->payloads = g->bits + bytes_of((g->count - 1) * g->w);
    g->end = g->payloads + bytes_of(g->count * g->p);
    g->first = load_within(b, g->end, first) & low_bits(8 * g->n);
}

size_t ids_size(const uint8_t *b)
{
    if (is_bitmap(b))
        return bitmap_bytes(bitmap_words(b));
    bool payloads = b[0] & IDS_PAYLOADS;
    size_t w = b[0] & ~(unsigned)IDS_PAYLOADS;
    size_t p = payloads ? b[3] : 0;
    return 3u + payloads + b[2] + bytes_of(b[1] * w) + bytes_of((b[1] + 1u) * p);
}

size_t ids_count(const uint8_t *b)
{
    return (is_bitmap(b) ? (size_t)load16(b + 2) : (size_t)b[1]) + 1;
}

bool ids_has_payloads(const uint8_t *b)
{
    return b[0] & IDS_PAYLOADS;
}

struct place gaps_seek(const struct gaps *g, uint64_t id)
{
    if (id <= g->first)
        return (struct place){.i = 0, .at = g->first};
    unsigned w = g->w;
    uint64_t mask = low_bits(w);
    uint64_t before = g->first;
    size_t gaps = g->count - 1;
    size_t i = 0;
    if (w == 0) {
        i = id - before - 1 < gaps ? (size_t)(id - before - 1) : gaps;
        before += i;
    }
#ifdef IDS_AVX2
    struct place found = {.before = before};
    if (w && w <= IDS_LOAD_BITS && ids_fast() && fast_seek(g, id, &found))
        return found;
    i += found.i;
    before = found.before;
#endif
    size_t stop = least(gaps * w, loads_end(g, g->bits, w));
    for (size_t at = i * w; at < stop; at += w, i++) {
        uint64_t next = before + load_number(g->bits, at, w, mask) + 1;
        if (next >= id)
            return (struct place){.i = i + 1, .before = before, .at = next};
        before = next;
    }
    for (; i < gaps; i++) {
        uint64_t next = before + get_bits(g, g->bits, i, w) + 1;
        if (next >= id)
            return (struct place){.i = i + 1, .before = before, .at = next};
        before = next;
    }
    return (struct place){.i = g->count, .before = before};
}

uint64_t ids_first(const uint8_t *b)
{
    if (is_bitmap(b))
        return bitmap_base(b) * 64 + (unsigned)__builtin_ctzll(bitmap_word(b, 0));
    struct gaps g;
    gaps_read(&g, b);
    return g.first;
}

uint64_t ids_last(const uint8_t *b)
{
    if (is_bitmap(b)) {
        size_t last = bitmap_words(b) - 1;
        return (bitmap_base(b) + last) * 64 + width_of(bitmap_word(b, last)) - 1;
    }
    struct gaps g;
    gaps_read(&g, b);
    uint64_t id = g.first + g.count - 1;
    size_t gaps = g.count - 1;
    size_t stop = least(gaps * g.w, loads_end(&g, g.bits, g.w));
    size_t i = 0;
    for (size_t at = 0; at < stop; at += g.w, i++)
        id += load_number(g.bits, at, g.w, low_bits(g.w));
    for (; i < gaps; i++)
        id += get_bits(&g, g.bits, i, g.w);
    return id;
}

bool ids_contains(const uint8_t *b, uint64_t id, uint64_t *payload)
{
    if (is_bitmap(b)) {
        uint64_t word = id / 64 - bitmap_base(b) + (VARVE_BUG == 49); // wraps below the base
        return word < bitmap_words(b) && bitmap_word(b, word) >> (id % 64) & 1;
    }
    struct gaps g;
    gaps_read(&g, b);
    struct place at = gaps_seek(&g, id);
    if (at.i == g.count || at.at != id)
        return false;
    if (g.has_payloads && payload)
        *payload = get_bits(&g, g.payloads, at.i, g.p);
    return true;
}

// ---- decoding

static void decode_numbers(const struct gaps *g, const uint8_t *bits, unsigned w, size_t i,
                           size_t n, uint8_t *out)
{
#ifdef IDS_AVX2
    if (w && w <= IDS_LOAD_BITS && ids_fast()) {
        fast_decode_numbers(g, bits, w, i, n, out);
        return;
    }
#endif
    uint64_t mask = low_bits(w);
    uint8_t *end = out + 8 * n;
    size_t stop = least((i + n) * w, loads_end(g, bits, w));
    for (size_t at = i * w; at < stop; at += w, i++, out += 8)
        store64(out, load_number(bits, at, w, mask));
    for (; out < end; i++, out += 8)
        store64(out, get_bits(g, bits, i, w));
}

// The n ids after `id`, whose gaps begin with gap i.
static void decode_gaps(const struct gaps *g, uint64_t id, size_t i, size_t n, uint8_t *out)
{
    unsigned w = g->w;
#ifdef IDS_AVX2
    if (w && w <= IDS_LOAD_BITS && ids_fast()) {
        fast_decode_gaps(g, id, i, n, out);
        return;
    }
#endif
    uint64_t mask = low_bits(w);
    uint8_t *end = out + 8 * n;
    size_t stop = least((i + n) * w, loads_end(g, g->bits, w));
    for (size_t at = i * w; at < stop; at += w, i++, out += 8) {
        id += load_number(g->bits, at, w, mask) + 1;
        store64(out, id);
    }
    for (; out < end; i++, out += 8) {
        id += get_bits(g, g->bits, i, w) + 1;
        store64(out, id);
    }
}

// Ids of one word of a bitmap, from bit 0 of `word` on, which is `id`. Returns the end.
static inline uint8_t *decode_word(uint64_t word, uint64_t id, uint8_t *out)
{
    for (; word; word &= word - 1, out += 8)
        store64(out, id + (unsigned)__builtin_ctzll(word));
    return out;
}

static size_t bitmap_decode_after(const uint8_t *b, bool has_after, uint64_t after, size_t max,
                                  uint8_t *out)
{
    uint64_t base = bitmap_base(b);
    size_t words = bitmap_words(b);
    size_t i = 0;
    uint64_t mask = UINT64_MAX; // of the first word that is looked at
    if (has_after && after / 64 >= base) {
        if (after / 64 - base >= words)
            return 0;
        i = (size_t)(after / 64 - base);
        mask = after % 64 == 63 ? 0 : UINT64_MAX << (after % 64 + 1);
    }
    size_t room = max;
    for (; i < words; i++, mask = UINT64_MAX) {
        uint64_t word = bitmap_word(b, i) & mask;
        size_t n = (size_t)__builtin_popcountll(word);
        for (; n > room; n--) // takes the highest away
            word &= ~((uint64_t)1 << (width_of(word) - 1));
        out = decode_word(word, (base + i) * 64, out);
        room -= n;
        if (room == 0)
            break;
    }
    return max - room;
}

size_t ids_decode_after(const uint8_t *b, bool has_after, uint64_t after, size_t max, void *out,
                        void *out_payloads)
{
    if (max == 0 || (has_after && after == UINT64_MAX))
        return 0;
    if (is_bitmap(b))
        return bitmap_decode_after(b, has_after, after, max, out);
    struct gaps g;
    gaps_read(&g, b);
    struct place at = {.at = g.first};
    if (has_after)
        at = gaps_seek(&g, after + 1);
    if (at.i == g.count)
        return 0;
    size_t n = least(max, g.count - at.i);
    store64(out, at.at);
    decode_gaps(&g, at.at, at.i, n - 1, (uint8_t *)out + 8);
    if (g.has_payloads && out_payloads)
        decode_numbers(&g, g.payloads, g.p, at.i, n, out_payloads);
    return n;
}

size_t ids_decode(const uint8_t *b, void *out, void *out_payloads)
{
    return ids_decode_after(b, false, 0, SIZE_MAX, out, out_payloads);
}

// ---- bytes from outside

static bool bitmap_valid(struct slice s)
{
    if (s.n < bitmap_bytes(1) || s.p[1] >= IDS_WORDS)
        return false;
    size_t words = bitmap_words(s.p);
    if (s.n != bitmap_bytes(words) || bitmap_base(s.p) > (UINT64_MAX / 64 + 1) - words)
        return false;
    size_t count = 0;
    for (size_t i = 0; i < words; i++)
        count += (size_t)__builtin_popcountll(bitmap_word(s.p, i));
    return count == ids_count(s.p) && bitmap_word(s.p, 0) && bitmap_word(s.p, words - 1);
}

// The bits after the last of `bits` are 0 in the byte that it ends in.
static bool filled(const uint8_t *p, size_t bits)
{
    return bits % 8 == 0 || p[bits / 8] >> (bits % 8) == 0;
}

static bool gaps_valid(struct slice s)
{
    bool payloads = s.p[0] & IDS_PAYLOADS;
    size_t head = 3 + (size_t)payloads;
    if ((s.p[0] & ~IDS_PAYLOADS) > 64 || s.n < head || s.p[2] > 8 || (payloads && s.p[3] > 64) ||
        s.n < head + s.p[2] || s.n != ids_size(s.p))
        return false;
    struct gaps g;
    gaps_read(&g, s.p);
    if (first_bytes(g.first) != g.n || !filled(g.bits, (g.count - 1) * g.w) ||
        !filled(g.payloads, g.count * g.p))
        return false;
    uint64_t id = g.first;
    for (size_t i = 0; i < g.count - 1; i++) {
        uint64_t gap = get_bits(&g, g.bits, i, g.w);
        if (gap >= UINT64_MAX - id)
            return false;
        id += gap + 1;
    }
    return true;
}

enum err ids_check(struct slice s)
{
    if (s.n < 3)
        return ERR_DAMAGED;
    return (is_bitmap(s.p) ? bitmap_valid(s) : gaps_valid(s)) ? ERR_OK : ERR_DAMAGED;
}
