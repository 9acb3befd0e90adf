// Adding to lists and removing from them. What a change needs is allocated before anything is
// changed, so that running out of memory changes nothing.
#include "table/rels_int.h"

#include <stdlib.h>

enum {
    FEW = 16,                  // ids of a change that need no memory of their own
    SPARE = 64,                // ids by which a block may grow on the stack
    HALF_FULL = IDS_BLOCK / 2, // neighbours with no more ids together become one
};

// Rising ids, with their payloads in a table of those, else NULL.
struct run {
    uint64_t *ids;
    uint64_t *payloads;
    size_t n;
};

struct change {
    struct rel_shard *s;
    struct rel_table *t;
    bool adding;
    struct run in;
    struct run out; // what was added or removed
};

// A block as it was, and as it will be.
struct scratch {
    uint64_t old_ids[IDS_MOST];
    uint64_t old_payloads[IDS_BLOCK];
    uint64_t ids[IDS_MOST + SPARE];
    uint64_t payloads[IDS_BLOCK + SPARE];
    struct run old;
    struct run made;
    uint64_t *heap; // where `made` lies if it is larger, or NULL
};

static struct run run_part(const struct run *run, size_t from, size_t n)
{
    return (struct run){run->ids + from, run->payloads ? run->payloads + from : NULL, n};
}

static void scratch_init(struct scratch *x)
{
    x->old = (struct run){x->old_ids, NULL, 0};
    x->heap = NULL;
}

static void scratch_old(struct scratch *x, const struct change *c, uint64_t word)
{
    x->old = (struct run){x->old_ids, c->t->payloads ? x->old_payloads : NULL, 0};
    switch (word_kind(word)) {
    case WORD_TWO:
        x->old_ids[1] = word_second(word);
        // fall through
    case WORD_ONE:
        x->old_ids[0] = word_first(word);
        x->old.n = (size_t)word_count(word);
        break;
    case WORD_BLOCK:
        x->old.n = ids_decode(word_block(word), x->old.ids, x->old.payloads);
        break;
    default:
        break;
    }
}

// Gives `made` room for so many.
static bool scratch_room(struct scratch *x, const struct change *c, size_t n)
{
    bool payloads = c->t->payloads;
    free(x->heap);
    x->heap = NULL;
    x->made = (struct run){x->ids, payloads ? x->payloads : NULL, 0};
    if (n <= (payloads ? IDS_BLOCK : IDS_MOST) + SPARE)
        return true;
    x->heap = malloc(n * sizeof *x->heap * (payloads ? 2 : 1));
    x->made = (struct run){x->heap, payloads ? x->heap + n : NULL, 0};
    return x->heap;
}

static void union_payloads(const struct run *old, const struct run *in, struct run *made)
{
    size_t i = 0, j = 0, n = 0;
    for (; i < old->n || j < in->n; n++) {
        bool ours = j == in->n || (i < old->n && old->ids[i] <= in->ids[j]);
        j += ours && j < in->n && old->ids[i] == in->ids[j];
        made->ids[n] = ours ? old->ids[i] : in->ids[j];
        made->payloads[n] = ours ? old->payloads[i] : in->payloads[j];
        i += ours;
        j += !ours;
    }
    made->n = n;
}

// a's ids that are (common) or are not in b, with a's payloads.
static size_t pick_payloads(const struct run *a, const struct run *b, bool common, struct run *to)
{
    size_t n = 0;
    for (size_t i = 0, j = 0; i < a->n; i++) {
        while (j < b->n && b->ids[j] < a->ids[i])
            j++;
        if ((j < b->n && b->ids[j] == a->ids[i]) != common)
            continue;
        uint64_t payload = a->payloads[i];
        to->ids[n] = a->ids[i];
        if (to->payloads)
            to->payloads[n] = payload;
        n++;
    }
    return n;
}

// Makes x->made of x->old and a part of what comes in. False: memory is out.
static bool change_run(const struct change *c, struct scratch *x, const struct run *in)
{
    if (c->adding && x->old.n == 0) {
        x->made = *in;
        return true;
    }
    if (!scratch_room(x, c, x->old.n + (c->adding ? in->n : 0)))
        return false;
    if (c->t->payloads && c->adding)
        union_payloads(&x->old, in, &x->made);
    else if (c->t->payloads)
        x->made.n = pick_payloads(&x->old, in, false, &x->made);
    else if (c->adding)
        x->made.n = ids_union_runs(x->old.ids, x->old.n, in->ids, in->n, x->made.ids);
    else
        x->made.n = ids_minus_runs(x->old.ids, x->old.n, in->ids, in->n, x->made.ids);
    return true;
}

// Writes what came in and was not there, or what went, to `out`, which may be where `in` lies.
static size_t change_told(const struct change *c, const struct scratch *x, const struct run *in,
                          struct run out)
{
    if (c->t->payloads)
        return c->adding ? pick_payloads(in, &x->old, false, &out)
                         : pick_payloads(&x->old, in, true, &out);
    if (c->adding)
        return ids_minus_runs(in->ids, in->n, x->old.ids, x->old.n, out.ids);
    return ids_intersect_runs(in->ids, in->n, x->old.ids, x->old.n, out.ids);
}

// ---- lists that are one block at most

uint64_t list_inline(const struct rel_table *t, const uint64_t *ids, size_t n)
{
    if (t->payloads || n == 0 || n > 2)
        return 0;
    if (n == 1)
        return ids[0] < ONE_LIMIT ? WORD_ONE | ids[0] << WORD_SHIFT : 0;
    if (VARVE_BUG == 45) // the second is lost
        return WORD_ONE | ids[0] << WORD_SHIFT;
    return ids[1] < TWO_LIMIT ? WORD_TWO | ids[0] << WORD_SHIFT | ids[1] << TWO_SECOND : 0;
}

// A list of these without marks; 0: memory is out.
static uint64_t list_make(const struct change *c, const struct run *run)
{
    if (run->n == 0)
        return WORD_ABSENT;
    uint64_t word = list_inline(c->t, run->ids, run->n);
    if (word)
        return word;
    if (ids_cut(run->ids, run->n, run->payloads) == run->n)
        return rel_block_pack(c->s, run->ids, run->payloads, run->n);
    struct rel_long *l = long_new(c->s, &word);
    if (!l)
        return 0;
    struct long_build b = {.s = c->s};
    if (!build_run(&b, 0, run->ids, run->payloads, run->n, false) || !build_leaf(&b, l, 0) ||
        !build_commit(&b, l)) {
        build_free(&b);
        list_free(c->s, word);
        return 0;
    }
    l->count = run->n;
    return word;
}

// Puts a list, dirty, in the place of a slot's, which is freed.
static void list_replace(const struct change *c, struct rel_slot *slot, uint64_t word)
{
    list_uncount(c->s, c->t, slot->word);
    list_free(c->s, slot->word);
    slot->word = word | WORD_DIRTY | WORD_USED | (slot->word & WORD_CAPTURED);
    list_count(c->s, c->t, slot->word);
}

static enum err change_short(struct change *c, struct rel_slot *slot, uint64_t hash)
{
    struct scratch x;
    scratch_init(&x);
    if (slot)
        scratch_old(&x, c, slot->word);
    if (!change_run(c, &x, &c->in))
        return ERR_NO_MEMORY;
    if (x.made.n == x.old.n) {
        free(x.heap);
        return ERR_OK;
    }
    uint64_t word = list_make(c, &x.made);
    free(x.heap);
    if (!word)
        return ERR_NO_MEMORY;
    if (slot) {
        list_replace(c, slot, word);
    } else if (!slot_insert(c->s, c->t, hash, word | WORD_DIRTY | WORD_USED)) {
        list_free(c->s, word);
        return ERR_NO_MEMORY;
    }
    c->out.n = change_told(c, &x, &c->in, c->out);
    return ERR_OK;
}

// A block that has become much smaller than its memory moves, if there is memory for that.
static uint64_t block_shrink(struct rel_shard *s, uint64_t word)
{
    size_t n = ids_size(word_block(word));
    if (n > word_size(word) / 4 * 3)
        return word;
    uint64_t moved = rel_block_new(s, word_block(word), n);
    if (!moved)
        return word;
    rel_block_free(s, word);
    return moved | (word & WORD_MARKS);
}

// Changes one id in a block where it lies.
static enum ids_result change_in_place(struct change *c, uint64_t word)
{
    uint64_t id = c->in.ids[0];
    uint64_t payload = c->in.payloads ? c->in.payloads[0] : 0;
    enum ids_result res = c->adding ? ids_add(word_block(word), word_size(word), id, payload)
                                    : ids_remove(word_block(word), id, &payload);
    if (res != IDS_DONE)
        return res;
    c->out.ids[0] = id;
    if (c->out.payloads)
        c->out.payloads[0] = payload;
    c->out.n = 1;
    return IDS_DONE;
}

// Sets a list's marks after its block was changed where it lies.
static void block_dirty(const struct change *c, struct rel_slot *slot)
{
    uint64_t was = slot->word;
    slot->word |= WORD_DIRTY | WORD_USED;
    c->t->dirty += !(was & WORD_DIRTY);
    if (was & WORD_UNWRITTEN)
        return;
    c->s->clean--;
    c->t->unwritten += list_weight(slot->word);
    c->s->unwritten += list_weight(slot->word);
}

static enum err change_block(struct change *c, struct rel_slot *slot)
{
    // Removing the third last of a short list: it may lie in its slot then.
    if (!c->adding && !c->t->payloads && ids_count(word_block(slot->word)) <= 3)
        return change_short(c, slot, slot->hash);
    enum ids_result res = change_in_place(c, slot->word);
    if (res == IDS_NONE)
        return ERR_OK;
    if (res != IDS_DONE)
        return change_short(c, slot, slot->hash);
    block_dirty(c, slot);
    c->t->members += c->adding ? 1 : UINT64_MAX; // or one less
    if (!c->adding && ids_size(word_block(slot->word)) <= word_size(slot->word) / 4 * 3) {
        list_uncount(c->s, c->t, slot->word);
        slot->word = block_shrink(c->s, slot->word);
        list_count(c->s, c->t, slot->word);
    }
    return ERR_OK;
}

// ---- long lists

static void chunk_dirty(struct rel_long *l, struct rel_chunk *chunk, uint64_t word)
{
    l->unwritten -= chunk_weight(chunk->word);
    chunk->word = word | WORD_DIRTY;
    l->unwritten += chunk_weight(chunk->word);
}

// Takes the chunk's place, and its marks.
static void chunk_replace(struct rel_shard *s, struct rel_long *l, struct rel_chunk *chunk,
                          uint64_t word)
{
    uint64_t old = chunk->word;
    // Captured or not: what was copied is not what is here now.
    chunk_dirty(l, chunk, word | (old & WORD_STORED));
    rel_block_free(s, old);
}

// True if chunk i of a leaf and the next one have few ids.
static bool thin_pair(const struct rel_leaf *leaf, size_t i)
{
    return i + 1 < leaf->count &&
           ids_count(word_block(leaf->at[i].word)) + ids_count(word_block(leaf->at[i + 1].word)) <=
               HALF_FULL;
}

// Joins a chunk with a neighbour in its leaf where both are thin; without memory for that they
// stay.
static void chunks_join(const struct change *c, struct rel_long *l, struct long_at at)
{
    struct rel_leaf *leaf = long_dir(l)[at.leaf].leaf;
    size_t i = at.i;
    if (!thin_pair(leaf, i) && (i-- == 0 || !thin_pair(leaf, i)))
        return;
    uint64_t ids[HALF_FULL], payloads[HALF_FULL];
    bool with = c->t->payloads;
    size_t n = ids_decode(word_block(leaf->at[i].word), ids, with ? payloads : NULL);
    n += ids_decode(word_block(leaf->at[i + 1].word), ids + n, with ? payloads + n : NULL);
    struct long_build b = {.s = c->s};
    bool ok = true;
    for (size_t j = 0; j < leaf->count && ok; j++) {
        if (j == i)
            ok = build_run(&b, leaf->at[i].low, ids, with ? payloads : NULL, n, false);
        else if (j != i + 1)
            ok = build_chunk(&b, leaf->at[j]);
    }
    if (!ok || !build_leaf(&b, l, at.leaf) || !build_commit(&b, l))
        build_free(&b);
}

// Joins a run with the chunk made before it in the leaf if both are thin. *joined: done.
static bool join_back(const struct change *c, struct long_build *b, const struct run *made,
                      bool *joined)
{
    *joined = false;
    if (b->n == 0 || made->n > HALF_FULL)
        return true;
    struct rel_chunk before = b->at[b->n - 1];
    size_t n = ids_count(word_block(before.word));
    if (n + made->n > HALF_FULL)
        return true;
    uint64_t ids[HALF_FULL], payloads[HALF_FULL];
    (void)ids_decode(word_block(before.word), ids, c->t->payloads ? payloads : NULL);
    memcpy(ids + n, made->ids, made->n * sizeof *ids);
    if (c->t->payloads)
        memcpy(payloads + n, made->payloads, made->n * sizeof *payloads);
    b->n--;
    if (before.word & WORD_NEW)
        rel_block_free(c->s, before.word);
    *joined = true;
    return build_run(b, before.low, ids, c->t->payloads ? payloads : NULL, n + made->n, false);
}

// Changes a chunk by the ids that fall in it. end: it is the list's last.
static bool bulk_chunk(struct change *c, struct long_build *b, struct scratch *x,
                       struct rel_chunk chunk, const struct run *in, bool end)
{
    scratch_old(x, c, chunk.word);
    if (!change_run(c, x, in))
        return false;
    c->out.n += change_told(c, x, in, run_part(&c->out, c->out.n, in->n));
    if (x->made.n == x->old.n)
        return build_chunk(b, chunk);
    bool joined = x->made.n == 0;
    if (!c->adding && !joined && !join_back(c, b, &x->made, &joined))
        return false;
    if (joined)
        return true;
    // What grows at its end keeps growing there: halves would stay halves.
    bool fill = c->adding && end && in->ids[0] > x->old.ids[x->old.n - 1];
    return build_run(b, chunk.low, x->made.ids, x->made.payloads, x->made.n, fill);
}

// Changes a leaf by what falls in it of the ids from *done on, which it moves.
static bool bulk_leaf(struct change *c, struct long_build *b, struct scratch *x,
                      const struct rel_long *l, uint32_t number, size_t *done)
{
    const struct rel_leaf *leaf = long_dir(l)[number].leaf;
    bool last_leaf = number + 1 == l->leaves;
    size_t told = c->out.n;
    for (uint64_t i = 0; i < leaf->count; i++) {
        bool end = last_leaf && i + 1 == leaf->count;
        uint64_t next = i + 1 < leaf->count ? leaf->at[i + 1].low
                        : last_leaf         ? 0
                                            : long_dir(l)[number + 1].low;
        size_t left = c->in.n - *done;
        size_t n = end ? left : ids_below(c->in.ids + *done, left, next);
        struct run in = run_part(&c->in, *done, n);
        if (!(n ? bulk_chunk(c, b, x, leaf->at[i], &in, end) : build_chunk(b, leaf->at[i])))
            return false;
        *done += n;
    }
    if (c->out.n == told) { // nothing changed
        b->n = 0;
        return true;
    }
    return build_leaf(b, l, number);
}

static bool bulk_build(struct change *c, struct long_build *b, struct scratch *x,
                       const struct rel_long *l)
{
    size_t done = 0;
    if (l->leaves == 0 && c->adding) {
        memcpy(c->out.ids, c->in.ids, c->in.n * sizeof *c->in.ids);
        if (c->out.payloads)
            memcpy(c->out.payloads, c->in.payloads, c->in.n * sizeof *c->in.payloads);
        c->out.n = c->in.n;
        return build_run(b, 0, c->in.ids, c->in.payloads, c->in.n, false) && build_leaf(b, l, 0);
    }
    while (l->leaves && done < c->in.n)
        if (!bulk_leaf(c, b, x, l, long_seek(l, c->in.ids[done]).leaf, &done))
            return false;
    return true;
}

// A long list without ids of which the store below has no chunks is an absent one as any other.
static void long_settle(const struct change *c, struct rel_slot *slot)
{
    const struct rel_long *l = word_long(slot->word);
    if (l->count == 0 && l->gone_count == 0)
        list_replace(c, slot, WORD_ABSENT);
}

static enum err bulk_apply(struct change *c, struct rel_slot *slot, struct scratch *x)
{
    struct rel_long *l = word_long(slot->word);
    struct long_build b = {.s = c->s};
    bool ok = bulk_build(c, &b, x, l);
    list_uncount(c->s, c->t, slot->word);
    ok = ok && (c->out.n == 0 || build_commit(&b, l));
    if (ok && c->out.n) {
        l->count = c->adding ? l->count + c->out.n : l->count - c->out.n;
        slot->word |= WORD_DIRTY | WORD_USED;
    } else {
        build_free(&b);
    }
    list_count(c->s, c->t, slot->word);
    if (!ok)
        return ERR_NO_MEMORY;
    long_settle(c, slot);
    return ERR_OK;
}

// Any number of ids in a long list, each chunk and leaf touched once.
static enum err change_bulk(struct change *c, struct rel_slot *slot)
{
    // What is told goes aside until nothing can fail, as it may take the place of what came in.
    uint64_t few[2 * FEW];
    uint64_t *aside = c->in.n <= FEW ? few : malloc(2 * c->in.n * sizeof *aside);
    if (!aside)
        return ERR_NO_MEMORY;
    struct run out = c->out;
    c->out = (struct run){aside, c->t->payloads ? aside + c->in.n : NULL, 0};
    struct scratch x;
    scratch_init(&x);
    enum err e = bulk_apply(c, slot, &x);
    free(x.heap);
    if (e == ERR_OK && c->out.n) {
        memcpy(out.ids, c->out.ids, c->out.n * sizeof *aside);
        if (out.payloads)
            memcpy(out.payloads, c->out.payloads, c->out.n * sizeof *aside);
        out.n = c->out.n;
    }
    c->out = out;
    if (aside != few)
        free(aside);
    return e;
}

// One id whose chunk stays one chunk but needs other memory. *again: that does not do.
static enum err long_repack(struct change *c, struct rel_slot *slot, struct rel_chunk *chunk,
                            bool *again)
{
    struct rel_long *l = word_long(slot->word);
    struct scratch x;
    scratch_init(&x);
    scratch_old(&x, c, chunk->word);
    *again = false;
    if (!change_run(c, &x, &c->in))
        return ERR_NO_MEMORY;
    *again = x.made.n == 0 || ids_cut(x.made.ids, x.made.n, x.made.payloads) < x.made.n;
    uint64_t word = *again ? 0 : rel_block_pack(c->s, x.made.ids, x.made.payloads, x.made.n);
    free(x.heap);
    if (*again)
        return ERR_OK;
    if (!word)
        return ERR_NO_MEMORY;
    list_uncount(c->s, c->t, slot->word);
    chunk_replace(c->s, l, chunk, word);
    c->out.n = change_told(c, &x, &c->in, c->out);
    l->count = c->adding ? l->count + 1 : l->count - 1;
    slot->word |= WORD_DIRTY | WORD_USED;
    list_count(c->s, c->t, slot->word);
    return ERR_OK;
}

static enum err change_long(struct change *c, struct rel_slot *slot)
{
    struct rel_long *l = word_long(slot->word);
    if (c->in.n > 1 || l->leaves == 0)
        return change_bulk(c, slot);
    struct long_at at = long_seek(l, c->in.ids[0]);
    struct rel_chunk *chunk = long_chunk(l, at);
    enum ids_result res = change_in_place(c, chunk->word);
    if (res == IDS_NONE)
        return ERR_OK;
    if (res == IDS_REPACK) {
        bool again;
        enum err e = long_repack(c, slot, chunk, &again);
        return again ? change_bulk(c, slot) : e;
    }
    if (res == IDS_EMPTY)
        return change_bulk(c, slot);
    list_uncount(c->s, c->t, slot->word);
    l->count = c->adding ? l->count + 1 : l->count - 1;
    slot->word |= WORD_DIRTY | WORD_USED;
    chunk_dirty(l, chunk, chunk->word);
    if (!c->adding) {
        l->unwritten -= chunk_weight(chunk->word);
        chunk->word = block_shrink(c->s, chunk->word);
        l->unwritten += chunk_weight(chunk->word);
        if (ids_count(word_block(chunk->word)) <= HALF_FULL / 2)
            chunks_join(c, l, at);
    }
    list_count(c->s, c->t, slot->word);
    return ERR_OK;
}

static enum err change(struct rels *r, struct change *c, struct rel_slot *slot, uint64_t hash)
{
    enum word_kind kind = slot ? word_kind(slot->word) : WORD_EMPTY;
    enum err e = kind == WORD_LONG                    ? change_long(c, slot)
                 : kind == WORD_BLOCK && c->in.n == 1 ? change_block(c, slot)
                                                      : change_short(c, slot, hash);
    rels_tell(r, c->s);
    return e;
}

enum err rels_add(struct rels *r, uint32_t table, uint64_t hash, const uint64_t *ids,
                  const uint64_t *payloads, size_t n, uint64_t *added, uint64_t *added_payloads,
                  size_t *added_count)
{
    *added_count = 0;
    if (n == 0)
        return ERR_OK;
    struct rel_shard *s = hash_shard(r, hash);
    struct rel_table *t = table_make(r, s, table);
    if (!t)
        return ERR_NO_MEMORY;
    struct rel_slot *slot = slot_find(t, hash);
    VERIFY((slot || t->complete) && t->payloads == (payloads != NULL));
    struct change c = {.s = s, .t = t, .adding = true};
    // Not written to: only read as any other run.
    c.in = (struct run){(uint64_t *)(uintptr_t)ids, (uint64_t *)(uintptr_t)payloads, n};
    c.out = (struct run){added, payloads ? added_payloads : NULL, 0};
    enum err e = change(r, &c, slot, hash);
    *added_count = c.out.n;
    return e;
}

enum err rels_remove(struct rels *r, uint32_t table, uint64_t hash, const uint64_t *ids, size_t n,
                     uint64_t *removed, uint64_t *removed_payloads, size_t *removed_count)
{
    VERIFY(table < RELS_TABLES);
    *removed_count = 0;
    struct rel_shard *s = hash_shard(r, hash);
    struct rel_table *t = shard_table(s, table);
    VERIFY(t ? t->complete || slot_find(t, hash) : r->complete);
    struct rel_slot *slot = t ? slot_find(t, hash) : NULL;
    if (n == 0 || !slot || word_kind(slot->word) == WORD_ABSENT)
        return ERR_OK;
    struct change c = {.s = s, .t = t};
    c.in = (struct run){(uint64_t *)(uintptr_t)ids, NULL, n};
    c.out = (struct run){removed, t->payloads ? removed_payloads : NULL, 0};
    enum err e = change(r, &c, slot, hash);
    *removed_count = c.out.n;
    return e;
}
