// What goes over the lists of a whole shard: the eviction hand, emptying thin slabs, looking for
// the next list.
#include "table/rels_int.h"

enum {
    COMPACT_STEPS = 4096, // slots and chunks that rels_compact looks at in one call
    WASTE = 16,           // it begins when more than this part of the memory lies idle
};

// ---- the hand

// The first table with this number or a higher one, or NULL.
static struct rel_table *table_from(const struct rel_shard *s, uint32_t number)
{
    if (number >= RELS_TABLES)
        return NULL;
    struct rel_table *t = shard_table(s, number);
    if (t)
        return t;
    for (t = s->first; t && t->number < number;)
        t = t->next;
    return t;
}

// Where a hand goes on after this table. There may be thousands: it does not look for it each time.
static uint32_t number_behind(const struct rel_table *t)
{
    return t->next ? t->next->number : RELS_TABLES;
}

static void evict_list(struct rel_shard *s, struct rel_table *t, struct rel_slot *slot)
{
    if (word_count(slot->word))
        t->complete = false;
    list_uncount(s, t, slot->word);
    list_free(s, slot->word);
    slot_remove(s, t, slot);
    s->evictions++;
}

static uint64_t in_use(const struct rel_shard *s)
{
    return s->heap.used + s->slot_bytes;
}

// Moves the hand through one table. False: its end was reached.
static bool sweep_table(struct rel_shard *s, struct rel_table *t, uint64_t goal, uint64_t *steps)
{
    struct rel_slot *slot = slot_from(t, s->hand_hash);
    for (; slot && *steps && s->clean && in_use(s) > goal; --*steps) {
        uint64_t hash = slot->hash;
        if (slot->word & (WORD_UNWRITTEN | WORD_USED)) {
            slot->word &= ~WORD_USED;
            slot = slot_at(t, slot + 1);
            continue;
        }
        evict_list(s, t, slot);
        slots_shrink(s, t);
        slot = slot_from(t, hash);
    }
    s->hand_hash = slot ? slot->hash : 0;
    return slot;
}

static uint64_t sweep(struct rel_shard *s, uint64_t goal, uint64_t steps)
{
    while (steps && s->clean && in_use(s) > goal) {
        struct rel_table *t = table_from(s, s->hand_table);
        if (!t || t->number != s->hand_table)
            s->hand_hash = 0;
        t = t ? t : s->first;
        if (!t)
            return 0;
        s->hand_table = t->number;
        if (sweep_table(s, t, goal, &steps))
            continue;
        s->hand_table = number_behind(t);
        steps -= steps > 0; // a table without slots is a step too
    }
    return steps;
}

// Steps of two rounds of the hand: one clears the used marks, the next evicts.
static uint64_t two_rounds(const struct rel_shard *s)
{
    uint64_t n = 0;
    for (const struct rel_table *t = s->first; t; t = t->next)
        n += t->count + 1;
    return 2 * n;
}

uint64_t rels_evict(struct rels *r, unsigned shard, uint64_t target)
{
    struct rel_shard *s = numbered_shard(r, shard);
    uint64_t before = shard_bytes(s);
    // What goes leaves holes in slabs. Compaction closes most: a sixteenth is allowed for the rest,
    // and where that was too little, as much more goes as it fell short.
    uint64_t goal = target - target / 16;
    uint64_t steps = s->clean ? two_rounds(s) : 0;
    // Nothing clean is left: then the hand would go round in vain, and each change comes here.
    while (steps && s->clean && shard_bytes(s) > target) {
        steps = sweep(s, goal, steps);
        if (shard_bytes(s) <= target)
            break;
        shard_compact(s);
        uint64_t over = shard_bytes(s) - target; // meaningless, and not used, when at the target
        goal = over < in_use(s) ? in_use(s) - over : 0;
    }
    rels_tell(r, s);
    uint64_t after = shard_bytes(s);
    return after < before ? before - after : 0;
}

// ---- emptying thin slabs

// An object in a thin slab gets a new home, if there is memory for that.
static void *moved(struct rel_shard *s, void *object, size_t n)
{
    if (!object || !slab_thin(&s->heap, object, n))
        return object;
    void *fresh = slab_alloc(&s->heap, n);
    if (!fresh)
        return object;
    memcpy(fresh, object, n);
    slab_free(&s->heap, object, n);
    return fresh;
}

static uint64_t moved_word(struct rel_shard *s, uint64_t word)
{
    void *object = moved(s, word_object(word), word_size(word));
    return word_make(word_kind(word), object, word_size(word)) | (word & WORD_MARKS);
}

// Returns steps taken.
static uint64_t move_long(struct rel_shard *s, struct rel_slot *slot)
{
    slot->word = moved_word(s, slot->word);
    struct rel_long *l = word_long(slot->word);
    if (l->dir)
        l->dir = moved(s, l->dir, l->leaves * sizeof *l->dir);
    l->gone = moved(s, l->gone, l->gone_cap * sizeof *l->gone);
    struct leaf_ref *dir = long_dir(l);
    for (uint32_t i = 0; i < l->leaves; i++) {
        struct rel_leaf *leaf = dir[i].leaf;
        leaf = moved(s, leaf, sizeof *leaf + leaf->count * sizeof leaf->at[0]);
        dir[i].leaf = leaf;
        for (uint64_t j = 0; j < leaf->count; j++)
            leaf->at[j].word = moved_word(s, leaf->at[j].word);
    }
    return l->chunks;
}

// Goes on emptying, for so many steps. False: it has ended.
static bool compact_steps(struct rel_shard *s, uint64_t steps)
{
    while (s->heap.thin && steps) {
        struct rel_table *t = table_from(s, s->compact_table);
        if (!t)
            break;
        if (t->number != s->compact_table)
            s->compact_hash = 0;
        s->compact_table = t->number;
        struct rel_slot *slot = slot_from(t, s->compact_hash);
        for (; slot && steps; slot = slot_at(t, slot + 1)) {
            steps--;
            if (word_kind(slot->word) == WORD_BLOCK) {
                slot->word = moved_word(s, slot->word);
            } else if (word_kind(slot->word) == WORD_LONG) {
                uint64_t chunks = move_long(s, slot);
                steps -= chunks < steps ? chunks : steps;
            }
        }
        s->compact_hash = slot ? slot->hash : 0;
        s->compact_table = slot ? t->number : number_behind(t);
    }
    if (!steps && s->heap.thin)
        return true;
    slab_thin_end(&s->heap);
    s->compacting = false;
    return false;
}

static bool compact_begin(struct rel_shard *s)
{
    s->compacting = slab_thin_begin(&s->heap);
    s->compact_table = 0;
    s->compact_hash = 0;
    return s->compacting;
}

void shard_compact(struct rel_shard *s)
{
    if (s->compacting)
        (void)compact_steps(s, UINT64_MAX);
    if (compact_begin(s))
        (void)compact_steps(s, UINT64_MAX);
}

bool rels_compact(struct rels *r, unsigned shard)
{
    struct rel_shard *s = numbered_shard(r, shard);
    uint64_t idle = s->heap.bytes - s->heap.used;
    if (!s->compacting && (idle <= s->heap.bytes / WASTE || !compact_begin(s)))
        return false;
    bool more = compact_steps(s, COMPACT_STEPS);
    rels_tell(r, s);
    return more;
}

// ---- looking

bool rels_next(struct rels *r, unsigned shard, uint32_t table, uint64_t from_hash, uint64_t *hash,
               bool *absent)
{
    VERIFY(table < RELS_TABLES);
    const struct rel_table *t = shard_table(numbered_shard(r, shard), table);
    const struct rel_slot *slot = NULL;
    if (t && hash_in_shard(shard, &from_hash))
        slot = slot_from(t, from_hash);
    if (!slot)
        return false;
    *hash = slot->hash;
    *absent = word_count(slot->word) == 0;
    return true;
}
