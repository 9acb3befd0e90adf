// Pages, tests and combinations: everything that only reads.
#include "table/rels_int.h"

#include <stdlib.h>

enum {
    TESTS = 2,        // for so many ids a block is not decoded
    INLINE_BYTES = 32 // of a block of two ids
};

// A list taken chunk by chunk; one of a slot or a block is one chunk.
struct walk {
    const uint8_t *block; // NULL: no ids
    bool end;             // it is the last chunk
    uint64_t next;        // else the low of the next one
    uint64_t count;       // ids of the list
    const struct rel_long *l;
    struct long_at at;
    uint8_t inlined[INLINE_BYTES];
    const uint8_t *decoded; // the block that lies decoded in `ids`, or NULL
    uint64_t ids[IDS_BLOCK];
};

static void walk_load(struct walk *w)
{
    struct long_at next = long_next(w->l, w->at);
    w->block = word_block(long_chunk(w->l, w->at)->word);
    w->end = long_end(w->l, next);
    w->next = w->end ? 0 : long_chunk(w->l, next)->low;
}

// To the list's first chunk. A walk does not move in memory after that.
static void walk_init(struct walk *w, struct rels *r, uint32_t table, uint64_t hash)
{
    VERIFY(table < RELS_TABLES);
    const struct rel_table *t = shard_table(hash_shard(r, hash), table);
    const struct rel_slot *slot = t ? slot_find(t, hash) : NULL;
    VERIFY(slot || (t ? t->complete : r->complete));
    w->block = NULL;
    w->end = true;
    w->next = 0;
    w->l = NULL;
    w->decoded = NULL;
    w->count = slot ? word_count(slot->word) : 0;
    if (w->count == 0)
        return;
    if (word_kind(slot->word) == WORD_BLOCK) {
        w->block = word_block(slot->word);
    } else if (word_kind(slot->word) == WORD_LONG) {
        w->l = word_long(slot->word);
        w->at = long_first();
        walk_load(w);
    } else {
        uint64_t ids[] = {word_first(slot->word), word_second(slot->word)};
        VERIFY(ids_pack(ids, NULL, (size_t)w->count, w->inlined) <= sizeof w->inlined);
        w->block = w->inlined;
    }
}

static void walk_next(struct walk *w)
{
    VERIFY(!w->end);
    w->at = long_next(w->l, w->at);
    walk_load(w);
}

static bool walk_back(struct walk *w)
{
    if (!w->l || !long_back(w->l, &w->at))
        return false;
    walk_load(w);
    return true;
}

// On to the chunk where this id is or would be, which is not before the present one.
static void walk_reach(struct walk *w, uint64_t id)
{
    if (w->end || id < w->next)
        return;
    walk_next(w);
    if (w->end || id < w->next)
        return;
    w->at = long_seek(w->l, id);
    walk_load(w);
}

static void *packed(void *out, size_t i)
{
    return out ? (uint8_t *)out + i * 8 : NULL;
}

// ---- pages

static size_t page_up(struct walk *w, bool has_after, uint64_t after, size_t max, uint8_t *out,
                      void *out_payloads, bool *more)
{
    if (has_after)
        walk_reach(w, after);
    for (size_t n = 0;; walk_next(w), has_after = false) {
        size_t got = ids_decode_after(w->block, has_after, after, max - n, packed(out, n),
                                      packed(out_payloads, n));
        n += got;
        if (n < max && !w->end)
            continue;
        // Looking for the last id would cost more than what was given.
        *more = n == max && (!w->end || (has_after ? load64(packed(out, n - 1)) < ids_last(w->block)
                                                   : got < ids_count(w->block)));
        return n;
    }
}

static size_t page_down(struct walk *w, bool has_after, uint64_t after, size_t max, uint8_t *out,
                        uint8_t *out_payloads, bool *more)
{
    walk_reach(w, has_after ? after : UINT64_MAX);
    uint64_t ids[IDS_MOST], payloads[IDS_BLOCK];
    size_t n = 0;
    for (;;) {
        size_t left = ids_decode(w->block, ids, out_payloads ? payloads : NULL);
        if (VARVE_BUG == 50 && !w->end && left > 1) // the last of the chunk before is skipped
            left--;
        if (has_after)
            left = ids_below(ids, left, after);
        for (; left > 0 && n < max; n++) {
            left--;
            store64(packed(out, n), ids[left]);
            if (out_payloads)
                store64(packed(out_payloads, n), payloads[left]);
        }
        *more = left > 0;
        if (left > 0 || !walk_back(w))
            return n;
        if (n == max) {
            *more = true;
            return n;
        }
    }
}

size_t rels_page(struct rels *r, uint32_t table, uint64_t hash, bool descending, bool has_after,
                 uint64_t after, size_t max, void *out, void *out_payloads, bool *more)
{
    struct walk w;
    walk_init(&w, r, table, hash);
    *more = false;
    if (!w.block)
        return 0;
    VERIFY(!out_payloads || ids_has_payloads(w.block));
    if (max == 0) {
        uint64_t one;
        *more = rels_page(r, table, hash, descending, has_after, after, 1, &one, NULL, more) > 0;
        return 0;
    }
    return descending ? page_down(&w, has_after, after, max, out, out_payloads, more)
                      : page_up(&w, has_after, after, max, out, out_payloads, more);
}

void rels_contains(struct rels *r, uint32_t table, uint64_t hash, const uint64_t *ids, size_t n,
                   uint8_t *found, uint64_t *payload)
{
    struct walk w;
    walk_init(&w, r, table, hash);
    uint64_t low = 0; // of the present chunk
    for (size_t i = 0; i < n; i++) {
        found[i] = 0;
        if (!w.block)
            continue;
        if (ids[i] < low || (!w.end && ids[i] >= w.next)) {
            w.at = long_seek(w.l, ids[i]);
            low = long_chunk(w.l, w.at)->low;
            walk_load(&w);
        }
        found[i] = ids_contains(w.block, ids[i], i == 0 ? payload : NULL);
    }
}

// ---- combining

struct combining {
    struct buf *out;
    size_t max; // ids still wanted
    size_t budget;
    size_t looked;
    bool has_after;
    uint64_t after;
    bool *more;
    uint64_t *next;
};

// Appends ids, of those past `after`; all ids below `end`, if there is one, were looked at by now.
// *go_on: until the next ones.
static enum err emit(struct combining *c, const uint64_t *ids, size_t n, bool has_end, uint64_t end,
                     bool *go_on)
{
    if (c->has_after) {
        size_t skip = ids_below(ids, n, c->after + 1);
        ids += skip;
        n -= skip;
    }
    size_t k = n < c->max ? n : c->max;
    *go_on = false;
    if (k) {
        enum err e = buf_append(c->out, ids, k * sizeof *ids);
        if (e)
            return e;
    }
    c->max -= k;
    if (k < n) {
        *c->more = true;
        *c->next = ids[k - 1];
    } else if (has_end && (c->max == 0 || c->looked >= c->budget)) {
        *c->more = true;
        *c->next = end - 1;
    } else {
        *go_on = has_end;
    }
    return ERR_OK;
}

// Those of the ids that are in the present chunk (keep), or are not, to `out`, which may be `ids`.
static size_t narrow_chunk(struct combining *c, struct walk *w, const uint64_t *ids, size_t n,
                           bool keep, uint64_t *out)
{
    size_t count = ids_count(w->block);
    if (count > IDS_BLOCK || (n <= TESTS && w->decoded != w->block)) {
        c->looked += n;
        size_t kept = 0;
        for (size_t i = 0; i < n; i++) {
            uint64_t id = ids[i];
            out[kept] = id;
            kept += ids_contains(w->block, id, NULL) == keep;
        }
        return kept;
    }
    if (w->decoded != w->block) {
        c->looked += count;
        (void)ids_decode(w->block, w->ids, NULL);
        w->decoded = w->block;
    }
    c->looked += n;
    return keep ? ids_intersect_runs(ids, n, w->ids, count, out)
                : ids_minus_runs(ids, n, w->ids, count, out);
}

// Leaves of rising ids those that are in the list (keep), or are not.
static size_t narrow(struct combining *c, struct walk *w, uint64_t *ids, size_t n, bool keep)
{
    if (!w->block)
        return keep ? 0 : n;
    size_t kept = 0;
    for (size_t i = 0; i < n;) {
        walk_reach(w, ids[i]);
        size_t k = w->end ? n - i : ids_below(ids + i, n - i, w->next);
        kept += narrow_chunk(c, w, ids + i, k, keep, ids + kept);
        i += k;
    }
    return kept;
}

// The ids of a bitmap that are in the list, word by word where its chunks are bitmaps too.
static size_t intersect_dense(struct combining *c, const uint8_t *block, struct walk *w,
                              uint64_t *out)
{
    if (!w->block)
        return 0;
    size_t n = 0;
    uint64_t last = ids_last(block);
    for (walk_reach(w, ids_first(block));; walk_next(w)) {
        n += ids_intersect(block, w->block, out + n);
        c->looked += ids_count(w->block);
        if (w->end || w->next > last)
            return n;
    }
}

// The first list's chunks, one after another, narrowed by the others.
static enum err combine_narrow(struct combining *c, struct walk **lists, size_t n, bool keep)
{
    struct walk *first = lists[0];
    uint64_t ids[IDS_MOST];
    if (!first->block)
        return ERR_OK;
    if (c->has_after)
        walk_reach(first, c->after + 1);
    for (bool go_on = true; go_on;) {
        size_t others = 1;
        size_t got;
        if (keep && n > 1 && ids_count(first->block) > IDS_BLOCK) {
            got = intersect_dense(c, first->block, lists[others++], ids);
        } else {
            got = ids_decode_after(first->block, c->has_after, c->after, IDS_MOST, ids, NULL);
        }
        c->looked += ids_count(first->block);
        for (; others < n && got; others++)
            got = narrow(c, lists[others], ids, got, keep);
        enum err e = emit(c, ids, got, !first->end, first->next, &go_on);
        if (e)
            return e;
        if (go_on)
            walk_next(first);
    }
    return ERR_OK;
}

// A list of a union: its present chunk decoded.
struct feed {
    struct walk *w;
    uint64_t *ids;
    size_t i, n, cap;
};

struct part {
    const uint64_t *ids;
    size_t n;
};

struct join {
    struct feed *feeds;
    struct part *parts;
    size_t n;
    uint64_t *arena[2];
    size_t cap; // of each arena
};

static enum err feed_load(struct combining *c, struct feed *f)
{
    f->i = f->n = 0;
    if (!f->w->block)
        return ERR_OK;
    size_t count = ids_count(f->w->block);
    if (count > f->cap) {
        free(f->ids);
        f->cap = 0;
        f->ids = malloc(count * sizeof *f->ids);
        if (!f->ids)
            return ERR_NO_MEMORY;
        f->cap = count;
    }
    f->n = ids_decode_after(f->w->block, c->has_after, c->after, count, f->ids, NULL);
    c->looked += count;
    return ERR_OK;
}

static enum err join_init(struct combining *c, struct join *j, struct walk **lists, size_t n)
{
    *j = (struct join){.n = n};
    j->feeds = calloc(n, sizeof *j->feeds);
    j->parts = calloc(n, sizeof *j->parts);
    if (!j->feeds || !j->parts)
        return ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        j->feeds[i].w = lists[i];
        if (lists[i]->block && c->has_after)
            walk_reach(lists[i], c->after + 1);
        enum err e = feed_load(c, &j->feeds[i]);
        if (e)
            return e;
    }
    return ERR_OK;
}

static void join_release(struct join *j)
{
    for (size_t i = 0; j->feeds && i < j->n; i++)
        free(j->feeds[i].ids);
    free(j->feeds);
    free(j->parts);
    free(j->arena[0]);
    free(j->arena[1]);
}

static bool join_room(struct join *j, size_t total)
{
    if (total <= j->cap)
        return true;
    for (int i = 0; i < 2; i++) {
        free(j->arena[i]);
        j->arena[i] = malloc(total * sizeof(uint64_t));
    }
    j->cap = j->arena[0] && j->arena[1] ? total : 0;
    return j->cap;
}

// Pairs become one until one is left.
static struct part join_parts(struct join *j, size_t n)
{
    for (int level = 0; n > 1; level = !level) {
        uint64_t *to = j->arena[level];
        for (size_t i = 0; i < n; i += 2) {
            struct part a = j->parts[i];
            struct part b = i + 1 < n ? j->parts[i + 1] : (struct part){a.ids, 0};
            size_t k = ids_union_runs(a.ids, a.n, b.ids, b.n, to);
            j->parts[i / 2] = (struct part){to, k};
            to += k;
        }
        n = (n + 1) / 2;
    }
    return n ? j->parts[0] : (struct part){NULL, 0};
}

// Up to where the chunk ends that ends first: all ids below are in the chunks at hand.
static enum err join_step(struct combining *c, struct join *j, bool *go_on)
{
    bool has_end = false;
    uint64_t end = UINT64_MAX;
    for (size_t i = 0; i < j->n; i++) {
        const struct walk *w = j->feeds[i].w;
        if (w->end)
            continue;
        has_end = true;
        end = w->next < end ? w->next : end;
    }
    size_t parts = 0, total = 0;
    for (size_t i = 0; i < j->n; i++) {
        struct feed *f = &j->feeds[i];
        size_t k = has_end ? ids_below(f->ids + f->i, f->n - f->i, end) : f->n - f->i;
        if (k)
            j->parts[parts++] = (struct part){f->ids + f->i, k};
        f->i += k;
        total += k;
    }
    if (parts > 1 && !join_room(j, total))
        return ERR_NO_MEMORY;
    struct part all = join_parts(j, parts);
    enum err e = emit(c, all.ids, all.n, has_end, end, go_on);
    for (size_t i = 0; e == ERR_OK && *go_on && i < j->n; i++) {
        struct feed *f = &j->feeds[i];
        if (f->w->end || f->w->next != end)
            continue;
        walk_next(f->w);
        e = feed_load(c, f);
    }
    return e;
}

static enum err combine_union(struct combining *c, struct walk **lists, size_t n)
{
    struct join j;
    enum err e = join_init(c, &j, lists, n);
    for (bool go_on = true; e == ERR_OK && go_on;)
        e = join_step(c, &j, &go_on);
    join_release(&j);
    return e;
}

// The smallest first: what it does not hold need not be looked for.
static void sort_by_count(struct walk **lists, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct walk *w = lists[i];
        size_t at = i;
        for (; at > 0 && lists[at - 1]->count > w->count; at--)
            lists[at] = lists[at - 1];
        lists[at] = w;
    }
}

enum err rels_combine(struct rels *r, enum rels_combine how, const struct rels_list *lists,
                      size_t n, bool has_after, uint64_t after, size_t max, size_t budget,
                      struct buf *out, bool *more, uint64_t *next)
{
    *more = false;
    *next = 0;
    if (n == 0 || max == 0 || (has_after && after == UINT64_MAX))
        return ERR_OK;
    struct walk *walks = malloc(n * (sizeof *walks + sizeof(struct walk *)));
    if (!walks)
        return ERR_NO_MEMORY;
    struct walk **order = (struct walk **)(void *)(walks + n);
    for (size_t i = 0; i < n; i++) {
        walk_init(&walks[i], r, lists[i].table, lists[i].hash);
        order[i] = &walks[i];
    }
    struct combining c = {.out = out,
                          .max = max,
                          .budget = budget,
                          .has_after = has_after,
                          .after = after,
                          .more = more,
                          .next = next};
    enum err e;
    if (how == RELS_UNION) {
        e = combine_union(&c, order, n);
    } else {
        if (how == RELS_INTERSECT)
            sort_by_count(order, n);
        e = combine_narrow(&c, order, n, how == RELS_INTERSECT);
    }
    free(walks);
    return e;
}
