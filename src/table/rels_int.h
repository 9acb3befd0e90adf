// What the files rels*.c share.
//
//   rels.c         shards, the permutation, slots, sums
//   rels_long.c    the directory of a long list: finding a chunk, exchanging chunks
//   rels_change.c  adding and removing
//   rels_read.c    pages, tests, combining
//   rels_save.c    checkpoints
//   rels_cold.c    lists read from the store below, eviction, compaction
//
// A slot is {hash, word}; so is a chunk of a long list, with its low in place of the hash:
//
//   word   bits 0-2    kind (enum word_kind), 0: an empty slot
//          bit  3      dirty: differs from the store below, and no checkpoint has copied it
//          bit  4      captured: the checkpoint under way has copied it (perhaps dirty since)
//          bit  5      of a slot: used since the eviction hand passed; of a chunk: the store below
//                      may have a row with its low
//          ONE         bits 6-63: the id
//          TWO         bits 6-34 and 35-63: the ids
//          BLOCK, LONG bits 6-49: address / 8; bits 50-62: bytes allocated / 8
//          bit 63      of a chunk while a change is being prepared: not in place yet
//
// The slots of a table in a shard are in rising order of hash. A slot's ideal place is the part of
// the array that its hash is of all hashes; each lies there or, if others do, as near behind it as
// the order allows, so between a slot and its ideal place there is no empty one. An empty slot has
// the largest hash, and behind the last one stands an empty one for ever.
//
// Whatever changes a list takes it out of the sums before (list_uncount) and puts it back after
// (list_count).
#ifndef VARVE_TABLE_RELS_INT_H
#define VARVE_TABLE_RELS_INT_H

#include "table/rels.h"

#include "base/assert.h"
#include "table/ids.h"
#include "table/slab.h"
#include <pthread.h>
#include <stdatomic.h>

enum word_kind { WORD_EMPTY, WORD_ONE, WORD_TWO, WORD_BLOCK, WORD_LONG, WORD_ABSENT };

#define WORD_KIND       7ull
#define WORD_DIRTY      8ull
#define WORD_CAPTURED   16ull
#define WORD_UNWRITTEN  (WORD_DIRTY | WORD_CAPTURED)
#define WORD_USED       32ull
#define WORD_STORED     32ull
#define WORD_MARKS      (WORD_UNWRITTEN | WORD_USED)
#define WORD_SHIFT      6
#define WORD_ADDRESS    ((1ull << 44) - 1) // after shifting
#define WORD_SIZE_SHIFT 50
#define WORD_SIZE       ((1ull << 13) - 1) // after shifting
#define WORD_NEW        (1ull << 63)

#define ONE_LIMIT  (1ull << 58)
#define TWO_LIMIT  (1ull << 29)
#define TWO_SECOND 35

#ifndef RELS_LEAF
#define RELS_LEAF 255 // tests have smaller ones
#endif

enum {
    LEAF_MOST = RELS_LEAF,                 // chunks of a leaf, whose memory is then 4096 bytes
    LEAF_FILL = RELS_LEAF - RELS_LEAF / 8, // at most as many when leaves are made anew
    SEQ_CELLS = 1024,
    COUNT_STEP = 4096, // bytes a shard's memory may drift from what the global counter knows
    HEAD_BYTES = 9,    // of a long list's row
    HEAD_MARK = 255,
};

struct rel_slot {
    uint64_t hash;
    uint64_t word;
};

struct rel_chunk {
    uint64_t low;
    uint64_t word; // of kind BLOCK
};

struct rel_leaf {
    uint64_t count;
    uint64_t spare;
    struct rel_chunk at[]; // exactly `count`
};

struct leaf_ref {
    uint64_t low; // of its first chunk
    struct rel_leaf *leaf;
};

// A long list. Its first chunk's low is 0. With no chunks it is an absent one, of which the store
// below may still have chunks.
struct rel_long {
    uint64_t count;       // ids
    uint64_t unwritten;   // bytes of chunks dirty or captured, and of `gone`
    uint32_t leaves;      // in `dir`
    uint32_t chunks;      // in all leaves
    struct leaf_ref one;  // where dir == NULL
    struct leaf_ref *dir; // more than one leaf, or NULL
    uint64_t *gone;       // lows of chunks that went and may be below; some may be back
    uint32_t gone_count, gone_cap;
    uint32_t gone_captured; // so many of the first were captured
};

// One table's part of a shard.
struct rel_table {
    struct rel_table *next; // in the shard
    uint32_t number;
    bool payloads;
    bool complete;                 // what is not resident does not exist
    _Atomic(struct rel_slot *) at; // `total` slots and an empty one; NULL: none
    _Atomic uint64_t ideal;        // ideal places
    uint64_t total;                // slots, some behind the ideal places included
    uint64_t count;                // slots in use
    uint64_t dirty, captured;      // of those, with the mark
    uint64_t lists, members, inlined, chunks;
    uint64_t unwritten;
};

struct __attribute__((aligned(64))) rel_shard {
    pthread_mutex_t lock;
    struct rel_table *first;
    uint64_t slot_bytes;
    uint64_t unwritten;
    uint64_t clean;      // slots of lists that may be evicted
    uint64_t told_bytes; // what the global counters know of this shard
    uint64_t told_unwritten;
    uint64_t evictions;
    uint32_t hand_table; // where the eviction hand goes on
    uint64_t hand_hash;
    bool compacting;        // thin slabs are being emptied
    uint32_t compact_table; // where that goes on
    uint64_t compact_hash;
    struct slab_heap heap;
    _Alignas(64) _Atomic uint64_t seqs[SEQ_CELLS];
    _Atomic(struct rel_table *) tables[RELS_TABLES];
};

struct rels {
    uint64_t keys[4];       // of the permutation's rounds
    uint64_t multiplier[4]; // odd
    bool complete;
    struct pool *pool;
    _Atomic uint8_t known[RELS_TABLES];  // 0: not, 1: without payloads, 2: with
    _Alignas(64) _Atomic uint64_t bytes; // sums, each shard off by less than COUNT_STEP
    _Atomic uint64_t unwritten;
    struct rel_shard shards[RELS_SHARDS];
};

static inline enum word_kind word_kind(uint64_t word)
{
    return (enum word_kind)(word & WORD_KIND);
}

static inline void *word_object(uint64_t word)
{
    return (void *)(uintptr_t)((word >> WORD_SHIFT & WORD_ADDRESS) << 3); // NOLINT: packed
}

// Bytes that its object was allocated with.
static inline size_t word_size(uint64_t word)
{
    return (size_t)(word >> WORD_SIZE_SHIFT & WORD_SIZE) * 8;
}

static inline uint64_t word_make(enum word_kind kind, const void *object, size_t size)
{
    uint64_t p = (uint64_t)(uintptr_t)object;
    VERIFY(p >> 47 == 0 && (p & 7) == 0 && size % 8 == 0 && size / 8 <= WORD_SIZE);
    return kind | p >> 3 << WORD_SHIFT | (uint64_t)size / 8 << WORD_SIZE_SHIFT;
}

static inline uint64_t word_first(uint64_t word)
{
    return word_kind(word) == WORD_ONE ? word >> WORD_SHIFT : word >> WORD_SHIFT & (TWO_LIMIT - 1);
}

static inline uint64_t word_second(uint64_t word)
{
    return word >> TWO_SECOND;
}

static inline uint8_t *word_block(uint64_t word)
{
    return word_object(word);
}

static inline struct rel_long *word_long(uint64_t word)
{
    return word_object(word);
}

// Ids of a list.
static inline uint64_t word_count(uint64_t word)
{
    switch (word_kind(word)) {
    case WORD_ONE:
        return 1;
    case WORD_TWO:
        return 2;
    case WORD_BLOCK:
        return ids_count(word_block(word));
    case WORD_LONG:
        return word_long(word)->count;
    case WORD_EMPTY:
    case WORD_ABSENT:
        break;
    }
    return 0;
}

static inline struct rel_shard *hash_shard(struct rels *r, uint64_t hash)
{
    return &r->shards[rels_shard(hash)];
}

static inline struct rel_shard *numbered_shard(struct rels *r, unsigned shard)
{
    VERIFY(shard < RELS_SHARDS);
    return &r->shards[shard];
}

// The first hash of those at or past `hash` that a shard may hold. False: none.
static inline bool hash_in_shard(unsigned shard, uint64_t *hash)
{
    if (rels_shard(*hash) < shard)
        *hash = (uint64_t)shard << 58;
    return rels_shard(*hash) == shard;
}

static inline struct rel_table *shard_table(const struct rel_shard *s, uint32_t table)
{
    return atomic_load_explicit(&s->tables[table], memory_order_acquire);
}

static inline struct rel_slot *table_slots(const struct rel_table *t)
{
    return atomic_load_explicit(&t->at, memory_order_relaxed);
}

static inline uint64_t shard_bytes(const struct rel_shard *s)
{
    return s->heap.bytes + s->slot_bytes;
}

// ---- rels.c

// Brings the global counters up to date; after anything that changed the shard's memory.
void rels_tell(struct rels *r, struct rel_shard *s);
// The table's part of a shard, made if it is not there. NULL: memory is out.
struct rel_table *table_make(struct rels *r, struct rel_shard *s, uint32_t table);
// The slot of a list, or NULL.
struct rel_slot *slot_find(const struct rel_table *t, uint64_t hash);
// The first slot in use with a hash >= this, or NULL.
struct rel_slot *slot_from(const struct rel_table *t, uint64_t hash);
// The first slot in use at this place or behind, or NULL.
struct rel_slot *slot_at(const struct rel_table *t, struct rel_slot *slot);
// Puts in a list that has no slot, counted. NULL: memory is out.
struct rel_slot *slot_insert(struct rel_shard *s, struct rel_table *t, uint64_t hash,
                             uint64_t word);
// Takes out a slot whose list is not counted and freed. The one behind it, if any, may lie in its
// place then.
void slot_remove(struct rel_shard *s, struct rel_table *t, struct rel_slot *slot);
// Makes an array that is far too large smaller; slots move.
void slots_shrink(struct rel_shard *s, struct rel_table *t);
// Bytes of RAM that a checkpoint has to write before they could be freed.
uint64_t list_weight(uint64_t word);
void list_count(struct rel_shard *s, struct rel_table *t, uint64_t word);
void list_uncount(struct rel_shard *s, struct rel_table *t, uint64_t word);
// Frees what a word refers to.
void list_free(struct rel_shard *s, uint64_t word);
// A block with these bytes. 0: memory is out.
uint64_t rel_block_new(struct rel_shard *s, const void *bytes, size_t n);
// A block of these, as ids_cut gave them. 0: memory is out.
uint64_t rel_block_pack(struct rel_shard *s, const uint64_t *ids, const uint64_t *payloads,
                        size_t n);
void rel_block_free(struct rel_shard *s, uint64_t word);

// How many of the first n rising ids are below this: steps that double, then halves.
size_t ids_below(const uint64_t *ids, size_t n, uint64_t limit);

// ---- rels_change.c

// The word of a list that fits in its slot, without marks; 0: it does not.
uint64_t list_inline(const struct rel_table *t, const uint64_t *ids, size_t n);

// ---- rels_long.c

struct long_at {
    uint32_t leaf;
    uint32_t i;
};

static inline struct leaf_ref *long_dir(const struct rel_long *l)
{
    return l->dir ? l->dir : (struct leaf_ref *)(uintptr_t)&l->one;
}

static inline struct rel_chunk *long_chunk(const struct rel_long *l, struct long_at at)
{
    return &long_dir(l)[at.leaf].leaf->at[at.i];
}

static inline struct long_at long_first(void)
{
    return (struct long_at){0, 0};
}

static inline bool long_end(const struct rel_long *l, struct long_at at)
{
    return at.leaf >= l->leaves;
}

static inline struct long_at long_next(const struct rel_long *l, struct long_at at)
{
    if (++at.i < long_dir(l)[at.leaf].leaf->count)
        return at;
    return (struct long_at){at.leaf + 1, 0};
}

// Steps back; false before the first.
static inline bool long_back(const struct rel_long *l, struct long_at *at)
{
    if (at->i > 0) {
        at->i--;
        return true;
    }
    if (at->leaf == 0)
        return false;
    at->leaf--;
    at->i = (uint32_t)long_dir(l)[at->leaf].leaf->count - 1;
    return true;
}

// The chunk where this id is or would be. The list has chunks.
struct long_at long_seek(const struct rel_long *l, uint64_t id);
static inline uint64_t chunk_weight(uint64_t word)
{
    return word & WORD_UNWRITTEN ? word_size(word) : 0;
}
// Room for so many more lows in `gone`.
bool gone_reserve(struct rel_shard *s, struct rel_long *l, size_t more);
void gone_add(struct rel_long *l, uint64_t low);
// An empty long list; 0: memory is out. *word refers to it.
struct rel_long *long_new(struct rel_shard *s, uint64_t *word);

// Chunks being made to take the place of some leaves of a list, none of which is in place yet.
struct long_build {
    struct rel_shard *s;
    struct rel_chunk *at; // of the leaf being made
    size_t n, cap;
    struct fresh_leaf *fresh; // in rising order of `instead`
    size_t fresh_n, fresh_cap;
    size_t gone; // lows that may have to be noted
};
struct fresh_leaf {
    uint32_t instead;      // of which leaf
    struct rel_leaf *leaf; // NULL: of nothing
};
// Adds a chunk to the leaf being made. A new one is lost with the build. False: memory is out, and
// a new block was freed.
bool build_chunk(struct long_build *b, struct rel_chunk chunk);
// Cuts a run into chunks, the first one with `low`. fill: each as full as can be.
bool build_run(struct long_build *b, uint64_t low, const uint64_t *ids, const uint64_t *payloads,
               size_t n, bool fill);
// Ends the leaf being made: it takes the place of the list's leaf `instead` (any number for a list
// without leaves).
bool build_leaf(struct long_build *b, const struct rel_long *l, uint32_t instead);
// Puts all leaves in place and frees what they replace; count is the caller's. False: memory is
// out, nothing was changed, and build_free is to be called.
bool build_commit(struct long_build *b, struct rel_long *l);
void build_free(struct long_build *b);

// ---- rels_cold.c

// Empties as many thin slabs as can be, all at once.
void shard_compact(struct rel_shard *s);

#endif
