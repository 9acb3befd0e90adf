// A shard is an array of slots, a power of two, probed linearly from (hash & mask), at most 7/8
// full.
//
//   slot   bits 0-42   the entry's address / 16
//          bit  43     dirty
//          bit  44     pinned: a checkpoint is reading the entry (it is clean then)
//          bits 45-63  tag: 19 bits of the hash
//   0 is a slot never used, 1 one whose entry went (a tombstone): a probe passes it, an insert
//   takes it.
//
// Dirty and pinned stand in the slot so that collecting entries for a checkpoint reads the slots
// only. Entries pinned and then replaced wait in `aside` until keys_unpin.
//
// Locks. Everything in a shard is guarded by its mutex but `table`, which keys_prefetch_slot reads
// without: it holds the array's address and size in one word, and nothing behind it is read.
#ifndef VARVE_TABLE_KEYS_INT_H
#define VARVE_TABLE_KEYS_INT_H

#include "table/keys.h"

#include "base/assert.h"
#include "table/slab.h"
#include <pthread.h>
#include <stdatomic.h>

#define SLOT_EMPTY     0ull
#define SLOT_TOMB      1ull
#define SLOT_POINTER   ((1ull << 43) - 1)
#define SLOT_DIRTY     (1ull << 43)
#define SLOT_PINNED    (1ull << 44)
#define SLOT_TAG_SHIFT 45
#define HASH_TAG_SHIFT 36 // below the shard's 8 bits, above any index

enum {
    TABLE_LOG2_MIN = 4, // slots of the smallest array
    TABLE_LOG2_MAX = 36,
    TABLE_LOG2_MASK = 63, // low bits of `table`; arrays are 64-byte aligned
    AHEAD = 12,           // slots by which a scan prefetches the entries
    COUNT_STEP = 4096,    // bytes a shard's memory may drift from what the global counter knows
};

struct __attribute__((aligned(64))) shard {
    pthread_mutex_t lock;
    _Atomic uintptr_t table; // address of the slots | log2 of their number; 0: none yet
    bool complete;
    uint64_t lookups; // calls of keys_find; in the line that the lock has brought in

    uint64_t count;    // entries in slots
    uint64_t live;     // of those, with a value
    uint64_t dirty;    // slots with SLOT_DIRTY
    uint64_t pinned;   // slots with SLOT_PINNED
    uint64_t tombs;    // slots that are SLOT_TOMB
    uint64_t reserved; // prepared entries not yet published
    uint64_t hand;     // next slot the eviction looks at
    uint64_t evictions;
    uint64_t writes;          // dirty entries published
    uint64_t unwritten_bytes; // of entries dirty, pinned or aside
    uint64_t told_bytes;      // what the global counters know of this shard
    uint64_t told_unwritten;
    struct key_entry **aside; // pinned entries that were replaced
    size_t aside_count, aside_cap;
    struct slab_heap heap;
};

struct keys {
    uint64_t seed;
    struct pool *pool;
    _Alignas(64) _Atomic uint64_t bytes; // sums, each shard off by less than COUNT_STEP
    _Atomic uint64_t unwritten_bytes;
    struct shard shards[KEYS_SHARDS];
};

// An array of slots, taken apart from a shard's `table`.
struct slots {
    uint64_t *at; // NULL: none
    uint64_t mask;
};

static inline struct slots slots_of(uintptr_t table)
{
    return (struct slots){
        (uint64_t *)(table & ~(uintptr_t)TABLE_LOG2_MASK), // NOLINT: a tagged pointer
        (1ull << (table & TABLE_LOG2_MASK)) - 1,
    };
}

static inline struct slots shard_slots(const struct shard *s)
{
    return slots_of(atomic_load_explicit(&s->table, memory_order_relaxed));
}

static inline bool slot_holds_entry(uint64_t slot)
{
    return slot > SLOT_TOMB;
}

static inline struct key_entry *slot_entry(uint64_t slot)
{
    return (struct key_entry *)(uintptr_t)((slot & SLOT_POINTER) << 4); // NOLINT: a packed pointer
}

static inline uint64_t hash_tag(uint64_t hash)
{
    return hash >> HASH_TAG_SHIFT << SLOT_TAG_SHIFT;
}

static inline uint64_t make_slot(const struct key_entry *e, uint64_t hash, uint64_t marks)
{
    uint64_t p = (uint64_t)(uintptr_t)e;
    VERIFY(p >> 47 == 0 && (p & 15) == 0 && p > 16);
    return p >> 4 | marks | hash_tag(hash);
}

static inline size_t fields_size(size_t key_len, size_t value_len, bool expires)
{
    return sizeof(struct key_entry) + (expires ? 8 : 0) + key_len + value_len;
}

static inline size_t entry_size(const struct key_entry *e)
{
    return fields_size(e->key_len, e->value_len, e->flags & ENTRY_EXPIRES);
}

static inline uint64_t entry_usable(struct key_entry *e)
{
    return slab_usable(e, entry_size(e));
}

static inline uint64_t entry_hash(const struct keys *k, const struct key_entry *e)
{
    return keys_hash(k, entry_space(e), entry_key(e));
}

static inline uint64_t slot_bytes(const struct shard *s)
{
    struct slots t = shard_slots(s);
    return (t.at ? (t.mask + 1) * sizeof *t.at : 0) + s->aside_cap * sizeof(struct key_entry *);
}

static inline uint64_t shard_bytes(const struct shard *s)
{
    return s->heap.bytes + slot_bytes(s);
}

static inline void prefetch_ahead(struct slots t, uint64_t i)
{
    __builtin_prefetch(slot_entry(t.at[(i + AHEAD) & t.mask]));
}

static inline struct shard *numbered_shard(struct keys *k, unsigned shard)
{
    VERIFY(shard < KEYS_SHARDS);
    return &k->shards[shard];
}

// keys.c's, for the scans.

// Brings the global counters up to date; after anything that changed the shard's memory.
void shard_tell(struct keys *k, struct shard *s);
// The slot that holds this key, or NULL and in *room the slot where it belongs. The array exists.
uint64_t *shard_find(struct slots t, uint64_t hash, enum key_space space, struct slice key,
                     uint64_t **room);
// Takes a slot's entry out of all counts and frees it, or puts it aside if a checkpoint reads it.
void shard_drop(struct shard *s, uint64_t slot);
// True if an array half the size or less would do.
bool shard_oversized(const struct shard *s);
// False when there was nothing to shrink, or no memory to do it: then the array stays large.
bool shard_shrink(struct keys *k, struct shard *s);

#endif
