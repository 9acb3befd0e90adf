// What a checkpoint copies, and lists read from the store below. The rows stand in table/rels.h.
#include "table/rels_int.h"

#include <stdlib.h>

enum {
    CAPTURE_SLOTS = 65536, // slots looked at in one call
    INLINE_BYTES = 32,     // of a block of two ids
};

// ---- capturing

struct capture {
    struct rels_row row;
    rels_row_fn fn;
    void *arg;
    size_t bytes;
};

static void give(struct capture *c, enum rels_row_kind kind, uint64_t low, const void *p, size_t n)
{
    c->row.kind = kind;
    c->row.low = low;
    c->row.bytes = slice_of(p, n);
    c->bytes += sizeof c->row + n;
    c->fn(c->arg, &c->row);
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = load64(a), y = load64(b);
    return (x > y) - (x < y);
}

// Each low once, in rising order.
static void gone_sort(struct rel_long *l)
{
    if (l->gone_count == 0)
        return;
    qsort(l->gone, l->gone_count, sizeof *l->gone, by_number);
    uint32_t n = 1;
    for (uint32_t i = 1; i < l->gone_count; i++)
        if (l->gone[i] != l->gone[n - 1])
            l->gone[n++] = l->gone[i];
    l->unwritten -= (uint64_t)(l->gone_count - n) * sizeof *l->gone;
    l->gone_count = n;
    l->gone_captured = n;
}

static void capture_long(struct capture *c, struct rel_long *l)
{
    uint8_t head[HEAD_BYTES] = {HEAD_MARK};
    store64(head + 1, l->count);
    give(c, RELS_ROW_LIST, 0, l->count ? head : NULL, l->count ? sizeof head : 0);
    gone_sort(l);
    uint32_t g = 0;
    for (struct long_at at = long_first(); !long_end(l, at); at = long_next(l, at)) {
        struct rel_chunk *chunk = long_chunk(l, at);
        for (; g < l->gone_count && l->gone[g] < chunk->low; g++)
            give(c, RELS_ROW_CHUNK, l->gone[g], NULL, 0);
        if (g < l->gone_count && l->gone[g] == chunk->low)
            g++; // it is back
        if (!(chunk->word & WORD_DIRTY))
            continue;
        const uint8_t *block = word_block(chunk->word);
        give(c, RELS_ROW_CHUNK, chunk->low, block, ids_size(block));
        chunk->word ^= WORD_DIRTY;
        chunk->word |= WORD_CAPTURED | WORD_STORED;
    }
    for (; g < l->gone_count; g++)
        give(c, RELS_ROW_CHUNK, l->gone[g], NULL, 0);
}

static void capture_list(struct capture *c, const struct rel_slot *slot)
{
    c->row.hash = slot->hash;
    uint64_t word = slot->word;
    uint8_t bytes[INLINE_BYTES];
    switch (word_kind(word)) {
    case WORD_ABSENT:
        give(c, RELS_ROW_LIST, 0, NULL, 0);
        break;
    case WORD_ONE:
    case WORD_TWO: {
        uint64_t ids[] = {word_first(word), word_second(word)};
        give(c, RELS_ROW_LIST, 0, bytes, ids_pack(ids, NULL, (size_t)word_count(word), bytes));
        break;
    }
    case WORD_BLOCK:
        give(c, RELS_ROW_LIST, 0, word_block(word), ids_size(word_block(word)));
        break;
    case WORD_LONG:
        capture_long(c, word_long(word));
        break;
    case WORD_EMPTY:
        break;
    }
}

bool rels_capture(struct rels *r, unsigned shard, uint32_t table, uint64_t *cursor,
                  size_t max_bytes, rels_row_fn fn, void *arg)
{
    VERIFY(table < RELS_TABLES);
    struct rel_shard *s = numbered_shard(r, shard);
    struct rel_table *t = shard_table(s, table);
    if (!t || !t->dirty || !hash_in_shard(shard, cursor))
        return true;
    struct capture c = {.fn = fn, .arg = arg};
    unsigned steps = 0;
    struct rel_slot *slot = slot_from(t, *cursor);
    for (; slot && t->dirty; slot = slot_at(t, slot + 1)) {
        if (c.bytes >= max_bytes || ++steps > CAPTURE_SLOTS) {
            *cursor = slot->hash;
            rels_tell(r, s);
            return false;
        }
        if (!(slot->word & WORD_DIRTY))
            continue;
        list_uncount(s, t, slot->word);
        capture_list(&c, slot);
        slot->word ^= WORD_DIRTY;
        slot->word |= WORD_CAPTURED;
        list_count(s, t, slot->word);
    }
    rels_tell(r, s);
    return true;
}

static void long_captured(struct rel_long *l, bool written)
{
    for (struct long_at at = long_first(); !long_end(l, at); at = long_next(l, at)) {
        struct rel_chunk *chunk = long_chunk(l, at);
        if (!(chunk->word & WORD_CAPTURED))
            continue;
        l->unwritten -= chunk_weight(chunk->word);
        chunk->word ^= WORD_CAPTURED;
        chunk->word |= written ? 0 : WORD_DIRTY;
        l->unwritten += chunk_weight(chunk->word);
    }
    if (written && l->gone_captured) {
        l->gone_count -= l->gone_captured;
        memmove(l->gone, l->gone + l->gone_captured, l->gone_count * sizeof *l->gone);
        l->unwritten -= (uint64_t)l->gone_captured * sizeof *l->gone;
    }
    l->gone_captured = 0;
}

// False: the list is gone and the slot with it.
static bool list_captured(struct rel_shard *s, struct rel_table *t, struct rel_slot *slot,
                          bool written)
{
    list_uncount(s, t, slot->word);
    if (word_kind(slot->word) == WORD_LONG)
        long_captured(word_long(slot->word), written);
    slot->word ^= WORD_CAPTURED;
    slot->word |= written ? 0 : WORD_DIRTY;
    if (VARVE_BUG == 38 && written) // also if it changed since
        slot->word &= ~(uint64_t)WORD_DIRTY;
    if (!(slot->word & WORD_DIRTY) && word_count(slot->word) == 0) {
        uint64_t used = slot->word & WORD_USED;
        list_free(s, slot->word);
        slot->word = WORD_ABSENT | used;
        // Where all that exists is resident, nothing is to be learnt from an absent list.
        if (t->complete) {
            slot_remove(s, t, slot);
            return false;
        }
    }
    list_count(s, t, slot->word);
    return true;
}

void rels_captured(struct rels *r, unsigned shard, bool written)
{
    struct rel_shard *s = numbered_shard(r, shard);
    for (struct rel_table *t = s->first; t; t = t->next) {
        if (!t->captured)
            continue;
        struct rel_slot *slot = slot_from(t, 0);
        while (t->captured) {
            if (!(slot->word & WORD_CAPTURED) || list_captured(s, t, slot, written))
                slot++;
            slot = slot_at(t, slot);
        }
        slots_shrink(s, t);
    }
    rels_tell(r, s);
}

// ---- images

struct image_chunk {
    uint64_t low;
    size_t at, n; // in `bytes`
};

struct rels_image {
    uint32_t table;
    uint64_t hash;
    bool payloads;
    bool any;       // a row was added
    bool is_long;   // it was a long list's head
    uint64_t count; // that the head told
    uint64_t sum;   // ids of the chunks
    uint64_t last;  // largest id of all
    struct image_chunk *chunks;
    size_t chunks_n, chunks_cap;
    uint8_t *bytes;
    size_t bytes_n, bytes_cap;
};

struct rels_image *rels_image_new(struct rels *r, uint32_t table, uint64_t hash)
{
    VERIFY(table < RELS_TABLES);
    struct rels_image *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    uint8_t known = atomic_load_explicit(&r->known[table], memory_order_acquire);
    VERIFY(known);
    m->table = table;
    m->hash = hash;
    m->payloads = known == 2;
    return m;
}

void rels_image_free(struct rels_image *m)
{
    if (!m)
        return;
    free(m->chunks);
    free(m->bytes);
    free(m);
}

static bool image_room(struct rels_image *m, size_t n)
{
    if (m->chunks_n == m->chunks_cap) {
        size_t cap = m->chunks_cap ? 2 * m->chunks_cap : 1;
        struct image_chunk *grown = realloc(m->chunks, cap * sizeof *grown);
        if (!grown)
            return false;
        m->chunks = grown;
        m->chunks_cap = cap;
    }
    if (m->bytes_cap - m->bytes_n < n) {
        size_t cap = 2 * m->bytes_cap + n;
        uint8_t *grown = realloc(m->bytes, cap);
        if (!grown)
            return false;
        m->bytes = grown;
        m->bytes_cap = cap;
    }
    return true;
}

static enum err image_block(struct rels_image *m, uint64_t low, struct slice bytes)
{
    enum err e = ids_check(bytes);
    if (e)
        return e;
    bool follows = m->chunks_n ? low > m->last : low == 0;
    if (ids_has_payloads(bytes.p) != m->payloads || !follows || ids_first(bytes.p) < low)
        return ERR_DAMAGED;
    if (!image_room(m, bytes.n))
        return ERR_NO_MEMORY;
    memcpy(m->bytes + m->bytes_n, bytes.p, bytes.n);
    m->chunks[m->chunks_n++] = (struct image_chunk){low, m->bytes_n, bytes.n};
    m->bytes_n += bytes.n;
    m->sum += ids_count(bytes.p);
    m->last = ids_last(bytes.p);
    return ERR_OK;
}

enum err rels_image_add(struct rels_image *m, const struct rels_row *row)
{
    if (row->hash != m->hash || !row->bytes.p || m->any == (row->kind == RELS_ROW_LIST))
        return ERR_DAMAGED;
    if (row->kind == RELS_ROW_CHUNK)
        return m->is_long ? image_block(m, row->low, row->bytes) : ERR_DAMAGED;
    bool is_long = row->bytes.n == HEAD_BYTES && row->bytes.p[0] == HEAD_MARK;
    if (is_long)
        m->count = load64(row->bytes.p + 1);
    enum err e = is_long ? ERR_OK : image_block(m, 0, row->bytes);
    if (e)
        return e;
    m->any = true;
    m->is_long = is_long;
    return ERR_OK;
}

static uint64_t image_long(struct rel_shard *s, const struct rels_image *m)
{
    uint64_t word;
    struct rel_long *l = long_new(s, &word);
    if (!l)
        return 0;
    struct long_build b = {.s = s};
    bool ok = true;
    for (size_t i = 0; i < m->chunks_n && ok; i++) {
        const struct image_chunk *c = &m->chunks[i];
        uint64_t block = rel_block_new(s, m->bytes + c->at, c->n);
        ok = block && build_chunk(&b, (struct rel_chunk){c->low, block | WORD_STORED | WORD_NEW});
    }
    if (!ok || !build_leaf(&b, l, 0) || !build_commit(&b, l)) {
        build_free(&b);
        list_free(s, word);
        return 0;
    }
    l->count = m->count;
    return word;
}

static uint64_t image_list(struct rel_shard *s, const struct rel_table *t,
                           const struct rels_image *m)
{
    if (!m->any)
        return WORD_ABSENT;
    if (m->is_long)
        return image_long(s, m);
    if (m->sum <= 2 && !m->payloads) {
        uint64_t ids[2];
        uint64_t word = list_inline(t, ids, ids_decode(m->bytes, ids, NULL));
        if (word)
            return word;
    }
    return rel_block_new(s, m->bytes, m->bytes_n);
}

static enum err install(struct rels *r, const struct rels_image *m)
{
    if (m->is_long && (m->count != m->sum || m->count == 0))
        return ERR_DAMAGED;
    struct rel_shard *s = hash_shard(r, m->hash);
    struct rel_table *t = table_make(r, s, m->table);
    if (!t)
        return ERR_NO_MEMORY;
    if (t->complete || slot_find(t, m->hash))
        return ERR_OK;
    uint64_t word = image_list(s, t, m);
    if (!word)
        return ERR_NO_MEMORY;
    enum err e = ERR_OK;
    if (!slot_insert(s, t, m->hash, word | WORD_USED)) {
        list_free(s, word);
        e = ERR_NO_MEMORY;
    }
    rels_tell(r, s);
    return e;
}

enum err rels_install(struct rels *r, struct rels_image *m)
{
    enum err e = install(r, m);
    rels_image_free(m);
    return e;
}
