// The directory of a long list: leaves of up to LEAF_MOST chunks, each of exactly the size it
// needs. Where chunks come or go their whole leaf is made anew beside the old one and then put in
// its place, so a change that runs out of memory half way changes nothing.
#include "table/rels_int.h"

#include <stdlib.h>

// The last of n >= 1 lows, `stride` bytes apart, that is <= id; the first one if none is.
static size_t last_low(const void *lows, size_t stride, size_t n, uint64_t id)
{
    const uint8_t *base = lows;
    while (n > 1) {
        size_t half = n / 2;
        base = load64(base + half * stride) <= id ? base + half * stride : base;
        n -= half;
    }
    return (size_t)(base - (const uint8_t *)lows) / stride;
}

struct long_at long_seek(const struct rel_long *l, uint64_t id)
{
    const struct leaf_ref *dir = long_dir(l);
    VERIFY(l->leaves > 0);
    size_t leaf = last_low(dir, sizeof *dir, l->leaves, id);
    const struct rel_leaf *f = dir[leaf].leaf;
    return (struct long_at){(uint32_t)leaf,
                            (uint32_t)last_low(f->at, sizeof f->at[0], f->count, id)};
}

struct rel_long *long_new(struct rel_shard *s, uint64_t *word)
{
    struct rel_long *l = slab_alloc(&s->heap, sizeof *l);
    if (!l)
        return NULL;
    *l = (struct rel_long){0};
    *word = word_make(WORD_LONG, l, slab_size(&s->heap, l, sizeof *l));
    return l;
}

bool gone_reserve(struct rel_shard *s, struct rel_long *l, size_t more)
{
    size_t need = l->gone_count + more;
    if (need <= l->gone_cap)
        return true;
    size_t cap = need + need / 2;
    uint64_t *grown = cap <= UINT32_MAX ? slab_alloc(&s->heap, cap * sizeof *grown) : NULL;
    if (!grown)
        return false;
    if (l->gone) {
        memcpy(grown, l->gone, l->gone_count * sizeof *grown);
        slab_free(&s->heap, l->gone, l->gone_cap * sizeof *grown);
    }
    l->gone = grown;
    l->gone_cap = (uint32_t)cap;
    return true;
}

void gone_add(struct rel_long *l, uint64_t low)
{
    VERIFY(l->gone_count < l->gone_cap);
    l->gone[l->gone_count++] = low;
    l->unwritten += sizeof low;
}

// ---- making leaves

// Makes room for one more element of an array.
static bool grow(void *array, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return true;
    size_t more = *cap ? 2 * *cap : 16;
    void *old;
    memcpy(&old, array, sizeof old);
    void *grown = realloc(old, more * size);
    if (!grown)
        return false;
    memcpy(array, &grown, sizeof grown);
    *cap = more;
    return true;
}

bool build_chunk(struct long_build *b, struct rel_chunk chunk)
{
    if (!grow(&b->at, b->n, &b->cap, sizeof *b->at)) {
        if (chunk.word & WORD_NEW)
            rel_block_free(b->s, chunk.word);
        return false;
    }
    b->at[b->n++] = chunk;
    return true;
}

bool build_run(struct long_build *b, uint64_t low, const uint64_t *ids, const uint64_t *payloads,
               size_t n, bool fill)
{
    while (n) {
        size_t k = ids_cut(ids, n, payloads != NULL);
        if (fill && k < IDS_BLOCK)
            k = n < IDS_BLOCK ? n : IDS_BLOCK;
        uint64_t word = rel_block_pack(b->s, ids, payloads, k);
        if (!word || !build_chunk(b, (struct rel_chunk){low, word | WORD_DIRTY | WORD_NEW}))
            return false;
        ids += k;
        payloads += payloads ? k : 0;
        n -= k;
        if (VARVE_BUG == 46 && n > 1) { // the id at the border is lost
            ids++;
            payloads += payloads ? 1 : 0;
            n--;
        }
        low = n ? *ids : 0;
    }
    return true;
}

static bool push_leaf(struct long_build *b, uint32_t instead, const struct rel_chunk *at, size_t n)
{
    if (!grow(&b->fresh, b->fresh_n, &b->fresh_cap, sizeof *b->fresh))
        return false;
    struct rel_leaf *leaf = NULL;
    if (n) {
        leaf = slab_alloc(&b->s->heap, sizeof *leaf + n * sizeof *at);
        if (!leaf)
            return false;
        leaf->count = n;
        leaf->spare = 0;
        memcpy(leaf->at, at, n * sizeof *at);
    }
    b->fresh[b->fresh_n++] = (struct fresh_leaf){instead, leaf};
    return true;
}

// How many of the old leaf's lows the store below may have and the new chunks do not.
static size_t lows_going(const struct long_build *b, const struct rel_leaf *old)
{
    size_t going = 0, i = 0;
    for (uint64_t o = 0; o < old->count; o++) {
        while (i < b->n && b->at[i].low < old->at[o].low)
            i++;
        if (old->at[o].word & WORD_STORED && (i == b->n || b->at[i].low != old->at[o].low))
            going++;
    }
    return going;
}

bool build_leaf(struct long_build *b, const struct rel_long *l, uint32_t instead)
{
    if (l->leaves)
        b->gone += lows_going(b, long_dir(l)[instead].leaf);
    size_t parts = b->n <= LEAF_MOST ? 1 : (b->n + LEAF_FILL - 1) / LEAF_FILL;
    size_t done = 0;
    for (size_t i = 0; i < parts; i++) {
        size_t n = b->n * (i + 1) / parts - done;
        if (!push_leaf(b, instead, b->at + done, n)) {
            // What is in leaves is theirs already.
            if (done)
                memmove(b->at, b->at + done, (b->n - done) * sizeof *b->at);
            b->n -= done;
            return false;
        }
        done += n;
    }
    b->n = 0;
    return true;
}

static void free_new(struct rel_shard *s, const struct rel_chunk *at, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (at[i].word & WORD_NEW)
            rel_block_free(s, at[i].word);
}

static void leaf_free(struct rel_shard *s, struct rel_leaf *leaf)
{
    slab_free(&s->heap, leaf, sizeof *leaf + leaf->count * sizeof leaf->at[0]);
}

void build_free(struct long_build *b)
{
    free_new(b->s, b->at, b->n);
    for (size_t i = 0; i < b->fresh_n; i++) {
        struct rel_leaf *leaf = b->fresh[i].leaf;
        if (!leaf)
            continue;
        free_new(b->s, leaf->at, leaf->count);
        leaf_free(b->s, leaf);
    }
    free(b->at);
    free(b->fresh);
}

// ---- putting them in place

// Takes an old leaf's chunks out of the list that are not in the fresh ones instead of it.
static void leaf_leave(struct long_build *b, struct rel_long *l, const struct rel_leaf *old,
                       size_t fresh, size_t end)
{
    size_t i = 0;
    for (uint64_t o = 0; o < old->count; o++) {
        struct rel_chunk was = old->at[o];
        struct rel_chunk *now = NULL;
        for (; fresh < end; fresh++, i = 0) {
            struct rel_leaf *leaf = b->fresh[fresh].leaf;
            while (leaf && i < leaf->count && leaf->at[i].low < was.low)
                i++;
            if (leaf && i < leaf->count) {
                now = leaf->at[i].low == was.low ? &leaf->at[i] : NULL;
                break;
            }
        }
        if (now && !(now->word & WORD_NEW))
            continue;
        if (now)
            now->word |= was.word & WORD_STORED;
        else if (was.word & WORD_STORED && VARVE_BUG != 48) // 48: its row stays below
            gone_add(l, was.low);
        l->unwritten -= chunk_weight(was.word);
        l->chunks--;
        rel_block_free(b->s, was.word);
    }
}

static void leaf_enter(struct rel_long *l, struct rel_leaf *leaf)
{
    for (uint64_t i = 0; i < leaf->count; i++) {
        if (!(leaf->at[i].word & WORD_NEW))
            continue;
        leaf->at[i].word &= ~WORD_NEW;
        l->unwritten += chunk_weight(leaf->at[i].word);
        l->chunks++;
    }
}

// The first chunk begins at 0, also when it was not the first before.
static void low_zero(struct rel_long *l)
{
    if (l->leaves == 0)
        return;
    struct rel_chunk *c = long_chunk(l, long_first());
    long_dir(l)->low = 0;
    if (c->low == 0)
        return;
    if (c->word & WORD_STORED)
        gone_add(l, c->low);
    l->unwritten -= chunk_weight(c->word);
    c->low = 0;
    c->word = (c->word & ~WORD_STORED) | WORD_DIRTY;
    l->unwritten += chunk_weight(c->word);
}

bool build_commit(struct long_build *b, struct rel_long *l)
{
    size_t leaves = l->leaves;
    for (size_t i = 0; i < b->fresh_n; i++) {
        leaves += b->fresh[i].leaf != NULL;
        leaves -= l->leaves && (i == 0 || b->fresh[i].instead != b->fresh[i - 1].instead);
    }
    struct leaf_ref one = {0};
    struct leaf_ref *dir = &one;
    if (!gone_reserve(b->s, l, b->gone + 1) || leaves > UINT32_MAX)
        return false;
    if (leaves > 1 && !(dir = slab_alloc(&b->s->heap, leaves * sizeof *dir)))
        return false;
    const struct leaf_ref *old = long_dir(l);
    size_t n = 0;
    for (size_t i = 0, f = 0; i < l->leaves || f < b->fresh_n; i++) {
        size_t first = f;
        while (f < b->fresh_n && (b->fresh[f].instead == i || l->leaves == 0))
            f++;
        if (first == f) {
            dir[n++] = old[i];
            continue;
        }
        if (i < l->leaves) {
            leaf_leave(b, l, old[i].leaf, first, f);
            leaf_free(b->s, old[i].leaf);
        }
        for (size_t j = first; j < f; j++)
            if (b->fresh[j].leaf)
                dir[n++] = (struct leaf_ref){b->fresh[j].leaf->at[0].low, b->fresh[j].leaf};
    }
    VERIFY(n == leaves);
    for (size_t i = 0; i < b->fresh_n; i++)
        if (b->fresh[i].leaf)
            leaf_enter(l, b->fresh[i].leaf);
    if (l->dir)
        slab_free(&b->s->heap, l->dir, l->leaves * sizeof *l->dir);
    l->dir = leaves > 1 ? dir : NULL;
    l->one = one;
    l->leaves = (uint32_t)leaves;
    low_zero(l);
    if (!l->gone_count && l->gone) {
        slab_free(&b->s->heap, l->gone, l->gone_cap * sizeof *l->gone);
        l->gone = NULL;
        l->gone_cap = 0;
    }
    free(b->at);
    free(b->fresh);
    return true;
}
