// The hot half of the store: keys in RAM, in KEYS_SHARDS open-addressing hash tables, each with a
// lock and a slab allocator of its own. No I/O and no clock: what is on disk and what time it is,
// the commit room says.
//
// An entry is resident (in RAM) or not; a key without a resident entry may still be in the store
// below, unless its shard is complete. Entry states:
//   live    has a value
//   absent  known not to exist: a deletion not yet checkpointed (dirty) or the answer of a cold
//   read (clean)
// and independently dirty (differs from the store below; never evicted) or clean, and pinned (a
// checkpoint is reading it: its bytes do not change and are not freed until keys_unpin).
#ifndef VARVE_TABLE_KEYS_H
#define VARVE_TABLE_KEYS_H

#include "base/err.h"
#include "base/slice.h"
#include "op/op.h"

#define KEYS_SHARDS 256u

struct keys;

// 18 bytes, then the expiry (8, only with ENTRY_EXPIRES), the key, the value. Entries are 16-byte
// aligned. A write makes a new entry in the old one's place or, if it fits and no checkpoint reads
// it, overwrites it there. Under eviction entries may move.
struct __attribute__((packed)) key_entry {
    uint64_t version;
    uint32_t seq32; // low bits of the sequence that wrote it
    uint32_t value_len : 24;
    uint32_t flags : 8;
    uint16_t key_len : 16;
    uint8_t bytes[];
};
_Static_assert(sizeof(struct key_entry) == 18, "an entry's header is 18 bytes");

enum {
    ENTRY_TYPE = 7,     // mask: enum value_type
    ENTRY_SPACE = 8,    // set: SPACE_IDEM
    ENTRY_ABSENT = 16,  // no value; version is that of the deletion, or 0
    ENTRY_EXPIRES = 32, // an expiry follows the header
    ENTRY_PINNED = 64,
    ENTRY_USED = 128, // read since the eviction hand passed
};

static inline struct slice entry_key(const struct key_entry *e)
{
    return slice_of(e->bytes + (e->flags & ENTRY_EXPIRES ? 8 : 0), e->key_len);
}
static inline struct slice entry_value(const struct key_entry *e)
{
    return slice_of(e->bytes + (e->flags & ENTRY_EXPIRES ? 8 : 0) + e->key_len, e->value_len);
}
static inline uint64_t entry_expires(const struct key_entry *e)
{
    return e->flags & ENTRY_EXPIRES ? load64(e->bytes) : 0;
}
static inline enum value_type entry_type(const struct key_entry *e)
{
    return (enum value_type)(e->flags & ENTRY_TYPE);
}
static inline enum key_space entry_space(const struct key_entry *e)
{
    return e->flags & ENTRY_SPACE ? SPACE_IDEM : SPACE_KEYS;
}
// True if a reader at `now_ms` sees a value.
static inline bool entry_visible(const struct key_entry *e, uint64_t now_ms)
{
    if (e->flags & ENTRY_ABSENT)
        return false;
    return !(e->flags & ENTRY_EXPIRES) || load64(e->bytes) > now_ms;
}

struct keys_stats {
    uint64_t entries;     // resident, absent ones included
    uint64_t live;        // resident with a value
    uint64_t dirty;       // not yet in the store below: dirty, pinned, kept aside
    uint64_t dirty_bytes; // memory of those
    uint64_t bytes;       // memory of entries, slabs' unused part included
    uint64_t slot_bytes;  // memory of the hash tables
    uint64_t evictions;
    uint64_t lookups; // calls of keys_find
    uint64_t writes;  // dirty entries published
};

// `complete`: the store below is empty, so what is not resident does not exist.
struct keys *keys_new(uint64_t hash_seed, bool complete);
void keys_free(struct keys *k);

uint64_t keys_hash(const struct keys *k, enum key_space space, struct slice key);
static inline unsigned keys_shard(uint64_t hash)
{
    return (unsigned)(hash >> 56);
}
// Brings the slot's cache line in; then, called for all hashes again, the entry's. No lock needed.
void keys_prefetch_slot(const struct keys *k, uint64_t hash);
void keys_prefetch_entry(const struct keys *k, uint64_t hash);

// All calls below, up to the next line of dashes, need the shard locked by the caller. A caller
// that locks several shards locks them in rising order.
void keys_lock(struct keys *k, unsigned shard);
void keys_unlock(struct keys *k, unsigned shard);

// The resident entry or NULL. Valid until the shard is unlocked, or keys_publish of its key,
// keys_evict or keys_unpin before that.
struct key_entry *keys_find(struct keys *k, uint64_t hash, enum key_space space, struct slice key);
// Marks it used for the eviction hand. Safe to call often.
static inline void keys_touch(struct key_entry *e)
{
    if (!(e->flags & ENTRY_USED))
        e->flags |= ENTRY_USED;
}
bool keys_complete(const struct keys *k, unsigned shard);

struct key_fields {
    enum key_space space;
    enum value_type type;
    bool absent;
    uint64_t version;
    uint64_t expires_ms; // 0: none
    struct slice key;
    struct slice value;
};
// Allocates and fills a new entry and makes sure that a slot for it is there, but shows it to
// nobody. After this keys_publish cannot fail. NULL when memory is out.
struct key_entry *keys_prepare(struct keys *k, uint64_t hash, const struct key_fields *f);
void keys_discard(struct keys *k, uint64_t hash, struct key_entry *prepared);
// Puts a prepared entry in place of the resident one with its key, if any, as written by `seq`.
// dirty: it differs from the store below.
void keys_publish(struct keys *k, uint64_t hash, struct key_entry *prepared, uint64_t seq,
                  bool dirty);
// True if `e`, a resident entry with f's key, can take f's value where it lies: same size class,
// nobody reads it without the lock. Then keys_overwrite does, as written by `seq`, and cannot fail:
// a prepared entry would only be moved memory.
bool keys_fits(const struct key_entry *e, const struct key_fields *f);
void keys_overwrite(struct keys *k, uint64_t hash, struct key_entry *e, const struct key_fields *f,
                    uint64_t seq);
// Evicts clean entries not used of late until the shard's memory is at most `target` bytes or the
// hand went round twice. Returns bytes freed.
uint64_t keys_evict(struct keys *k, unsigned shard, uint64_t target);
// Memory of this shard: entries and slots.
uint64_t keys_shard_bytes(const struct keys *k, unsigned shard);
// Pins every dirty entry, marks it clean, and calls fn for it. Pins hold until keys_unpin; between,
// a new write makes a new (dirty) entry and the pinned one is kept aside.
void keys_pin_dirty(struct keys *k, unsigned shard, void (*fn)(void *arg, struct key_entry *e),
                    void *arg);
// After a checkpoint: lifts the shard's pins and frees what was kept aside. `written`: the pinned
// entries are in the store below now (absent ones may go); otherwise those still in place are dirty
// again.
void keys_unpin(struct keys *k, unsigned shard, bool written);
// Calls fn for every dirty or pinned entry in place (not those kept aside).
void keys_each_dirty(struct keys *k, unsigned shard,
                     void (*fn)(void *arg, const struct key_entry *e), void *arg);
// Calls fn for every resident entry in place, for tests and expiry.
void keys_each(struct keys *k, unsigned shard, void (*fn)(void *arg, const struct key_entry *e),
               void *arg);
// ---------------------------------------------------------------------------------------------
// Sums over all shards, locking each in turn.
void keys_get_stats(struct keys *k, struct keys_stats *s);
// Memory of all shards, from counters, without locks: near enough for admission.
uint64_t keys_bytes(const struct keys *k);
uint64_t keys_dirty_bytes(const struct keys *k);

#endif
