// What goes over a whole shard: eviction, checkpoints, listing.
#include "table/keys_int.h"

#include <stdlib.h>

// ---- evicting

static void clear_slot(struct shard *s, struct slots t, uint64_t i)
{
    if (t.at[(i + 1) & t.mask] != SLOT_EMPTY) {
        t.at[i] = SLOT_TOMB;
        s->tombs++;
        return;
    }
    // Nothing behind it: no probe needs it, nor the tombstones before it.
    t.at[i] = SLOT_EMPTY;
    for (i = (i - 1) & t.mask; t.at[i] == SLOT_TOMB; i = (i - 1) & t.mask) {
        t.at[i] = SLOT_EMPTY;
        s->tombs--;
    }
}

struct mover {
    struct keys *k;
    struct shard *s;
};

// slab_compact's: gives an entry in place a new home. Pinned, prepared and aside ones stay.
static void move_entry(void *arg, void *object)
{
    struct mover *m = arg;
    struct key_entry *e = object;
    struct slots t = shard_slots(m->s);
    uint64_t *room;
    uint64_t hash = entry_hash(m->k, e);
    uint64_t *slot = shard_find(t, hash, entry_space(e), entry_key(e), &room);
    if (!slot || slot_entry(*slot) != e || *slot & SLOT_PINNED)
        return;
    size_t size = entry_size(e);
    struct key_entry *moved = slab_alloc(&m->s->heap, size);
    if (!moved)
        return;
    memcpy(moved, e, size);
    *slot = make_slot(moved, hash, *slot & SLOT_DIRTY);
    slab_free(&m->s->heap, e, size);
}

static void compact(struct keys *k, struct shard *s, uint64_t target)
{
    struct mover m = {k, s};
    for (unsigned class = 0; class < SLAB_CLASSES; class ++)
        while (shard_bytes(s) > target && slab_compact(&s->heap, class, move_entry, &m))
            ;
}

// Holds a clean entry?
static bool evictable(uint64_t slot)
{
    return slot_holds_entry(slot) && !(slot & (SLOT_DIRTY | SLOT_PINNED));
}

// Moves the hand until what is in use is at most `goal` bytes, nothing clean is left, or the array
// has become too large if that is asked for. Returns what is left of `steps`.
static uint64_t sweep(struct shard *s, uint64_t goal, bool until_oversized, uint64_t steps)
{
    struct slots t = shard_slots(s);
    for (; steps && s->heap.used + slot_bytes(s) > goal; steps--) {
        if (s->count == s->dirty + s->pinned)
            return 0;
        if (until_oversized && shard_oversized(s))
            break;
        uint64_t i = s->hand;
        s->hand = (i + 1) & t.mask;
        uint64_t ahead = t.at[(i + AHEAD) & t.mask];
        if (evictable(ahead))
            __builtin_prefetch(slot_entry(ahead));
        uint64_t slot = t.at[i];
        if (!evictable(slot))
            continue;
        struct key_entry *e = slot_entry(slot);
        if (e->flags & ENTRY_USED) {
            e->flags &= ~(unsigned)ENTRY_USED & 0xff;
            continue;
        }
        if (!(e->flags & ENTRY_ABSENT))
            s->complete = false;
        shard_drop(s, slot);
        clear_slot(s, t, i);
        s->evictions++;
    }
    return steps;
}

// Steps of two rounds of the hand: one clears the used marks, the next evicts.
static uint64_t two_rounds(const struct shard *s)
{
    struct slots t = shard_slots(s);
    return t.at ? 2 * (t.mask + 1) : 0;
}

uint64_t keys_evict(struct keys *k, unsigned shard, uint64_t target)
{
    struct shard *s = numbered_shard(k, shard);
    uint64_t before = shard_bytes(s);
    // What goes leaves holes in slabs. compact() closes most: a sixteenth is allowed for the rest,
    // and where that was too little (a small shard is few slabs), as much more goes as it fell
    // short.
    uint64_t goal = target - target / 16;
    uint64_t steps = two_rounds(s);
    bool can_shrink = true;
    while (steps && shard_bytes(s) > target) {
        steps = sweep(s, goal, can_shrink, steps);
        if (can_shrink && shard_oversized(s)) {
            can_shrink = shard_shrink(k, s);
            steps = can_shrink ? two_rounds(s) : steps;
            continue;
        }
        compact(k, s, target);
        uint64_t in_use = s->heap.used + slot_bytes(s);
        uint64_t over = shard_bytes(s) - target; // meaningless, and not used, when at the target
        goal = over < in_use ? in_use - over : 0;
    }
    shard_tell(k, s);
    uint64_t after = shard_bytes(s);
    return after < before ? before - after : 0;
}

// ---- checkpoints

void keys_pin_dirty(struct keys *k, unsigned shard, void (*fn)(void *arg, struct key_entry *e),
                    void *arg)
{
    struct shard *s = numbered_shard(k, shard);
    // One checkpoint at a time; and what is prepared reserved no room aside for these.
    VERIFY(s->pinned == 0 && s->aside_count == 0 && s->reserved == 0);
    struct slots t = shard_slots(s);
    for (uint64_t i = 0; s->dirty; i++) {
        if (!(t.at[i] & SLOT_DIRTY))
            continue;
        t.at[i] ^= SLOT_DIRTY | SLOT_PINNED;
        s->dirty--;
        s->pinned++;
        struct key_entry *e = slot_entry(t.at[i]);
        // Used, so that keys_touch has nothing to write while the checkpoint reads without the
        // lock.
        e->flags |= ENTRY_PINNED | ENTRY_USED;
        fn(arg, e);
    }
}

static void unpin_slot(struct shard *s, struct slots t, uint64_t i, bool written)
{
    struct key_entry *e = slot_entry(t.at[i]);
    e->flags &= ~(unsigned)ENTRY_PINNED & 0xff;
    t.at[i] &= ~SLOT_PINNED;
    s->pinned--;
    if (!written) {
        t.at[i] |= SLOT_DIRTY;
        s->dirty++;
        return;
    }
    s->unwritten_bytes -= entry_usable(e);
    // Where all that exists is resident, nothing is to be learnt from a clean absent entry.
    if (s->complete && e->flags & ENTRY_ABSENT) {
        shard_drop(s, t.at[i]);
        clear_slot(s, t, i);
    }
}

void keys_unpin(struct keys *k, unsigned shard, bool written)
{
    struct shard *s = numbered_shard(k, shard);
    for (size_t i = 0; i < s->aside_count; i++) {
        s->unwritten_bytes -= entry_usable(s->aside[i]);
        slab_free(&s->heap, s->aside[i], entry_size(s->aside[i]));
    }
    free(s->aside);
    s->aside = NULL;
    s->aside_count = s->aside_cap = 0;
    struct slots t = shard_slots(s);
    for (uint64_t i = 0; s->pinned; i++)
        if (t.at[i] & SLOT_PINNED)
            unpin_slot(s, t, i, written);
    (void)shard_shrink(k, s);
    shard_tell(k, s);
}

void keys_each_dirty(struct keys *k, unsigned shard,
                     void (*fn)(void *arg, const struct key_entry *e), void *arg)
{
    struct shard *s = numbered_shard(k, shard);
    struct slots t = shard_slots(s);
    uint64_t left = s->dirty + s->pinned;
    for (uint64_t i = 0; left; i++) {
        if (!(t.at[i] & (SLOT_DIRTY | SLOT_PINNED)))
            continue;
        left--;
        fn(arg, slot_entry(t.at[i]));
    }
}

void keys_each(struct keys *k, unsigned shard, void (*fn)(void *arg, const struct key_entry *e),
               void *arg)
{
    struct shard *s = numbered_shard(k, shard);
    struct slots t = shard_slots(s);
    uint64_t left = s->count;
    for (uint64_t i = 0; left; i++) {
        prefetch_ahead(t, i);
        if (!slot_holds_entry(t.at[i]))
            continue;
        left--;
        fn(arg, slot_entry(t.at[i]));
    }
}
