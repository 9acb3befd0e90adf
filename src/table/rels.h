// Relations in RAM: u64 -> a strictly rising set of u64, with no I/O, no clock and no names. The
// commit room numbers what it needs: a *table* is one such map, by a small number; a relation has
// one for itself, one more for its reverse, one more for its order of arrival (commit/rel.h).
//
// A list is found by the *hash* of its `from`: a keyed permutation of u64, so that it can be turned
// back and nobody who does not know the key can make many lists collide. The upper six bits are the
// shard. In a shard each table is an array of slots in rising order of their hashes, so growing it
// is one pass, and the lists of all shards one after another are in the order of rows in the store
// below: a checkpoint needs no sort and holds no pins.
//
// How a list lies:
//   inline   in its slot: one id below 2^58, or two below 2^29
//   block    one block of table/ids.h
//   long     a directory of blocks, each for the ids from its *low* on to the next one's low
// A list stays long until it is empty.
//
// A list is clean (as the store has it), dirty, or captured (a checkpoint under way has copied it);
// a captured one may be dirty again. Only clean lists are evicted. An absent list that differs from
// the store stays as a slot without ids until a checkpoint has taken it out below.
#ifndef VARVE_TABLE_RELS_H
#define VARVE_TABLE_RELS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

#define RELS_SHARDS 64u
#define RELS_TABLES 4096u // table numbers are below this

struct rels;

// `secret`: of the data directory, the same at every start. complete: the store below has no lists,
// so what is not resident does not exist. NULL when memory is out.
struct rels *rels_new(const uint64_t secret[4], bool complete);
void rels_free(struct rels *r);
// Makes a table known; before anything else of it, by one thread at a time. payloads: its ids carry
// a u64 each. Known already: nothing happens.
MUST_USE enum err rels_table(struct rels *r, uint32_t table, bool payloads);

uint64_t rels_hash(const struct rels *r, uint64_t from);
uint64_t rels_from(const struct rels *r, uint64_t hash); // its inverse
static inline unsigned rels_shard(uint64_t hash)
{
    return (unsigned)(hash >> 58);
}
// Brings in the slot's cache line; then, called again for all of a batch, the list's. No lock.
void rels_prefetch_slot(const struct rels *r, uint32_t table, uint64_t hash);
void rels_prefetch_list(const struct rels *r, uint32_t table, uint64_t hash);

// ---- everything below, up to the next line of dashes, needs the hash's shard locked; whoever
// locks several does so in rising order.
void rels_lock(struct rels *r, unsigned shard);
void rels_unlock(struct rels *r, unsigned shard);

enum rels_where {
    RELS_HERE, // resident, one id at least
    RELS_NONE, // has no ids
    RELS_COLD, // may be in the store below: install it (or its absence) first
};
// Marks it used for eviction.
enum rels_where rels_find(struct rels *r, uint32_t table, uint64_t hash);
// Ids of a list that is not cold; 0 if it has none. O(1).
uint64_t rels_count(struct rels *r, uint32_t table, uint64_t hash);

// Adds strictly rising ids to a list that is not cold. Those that were not there are written to
// `added` (room for n; may be `ids` itself) and, with payloads, theirs to added_payloads; an id
// that is there keeps its payload. ERR_NO_MEMORY: nothing was changed.
MUST_USE enum err rels_add(struct rels *r, uint32_t table, uint64_t hash, const uint64_t *ids,
                           const uint64_t *payloads, size_t n, uint64_t *added,
                           uint64_t *added_payloads, size_t *added_count);
// Removes strictly rising ids; those that were there go to `removed`, with their payloads.
MUST_USE enum err rels_remove(struct rels *r, uint32_t table, uint64_t hash, const uint64_t *ids,
                              size_t n, uint64_t *removed, uint64_t *removed_payloads,
                              size_t *removed_count);

// The ids past `after` in rising order (descending: before it, in falling order), at most `max`, to
// `out` as packed little-endian u64 (unaligned); payloads likewise where wanted (NULL: not). *more:
// there are others.
size_t rels_page(struct rels *r, uint32_t table, uint64_t hash, bool descending, bool has_after,
                 uint64_t after, size_t max, void *out, void *out_payloads, bool *more);
// found[i] = 1 if ids[i] is in the list, else 0; in any order. payload: of ids[0], or NULL.
void rels_contains(struct rels *r, uint32_t table, uint64_t hash, const uint64_t *ids, size_t n,
                   uint8_t *found, uint64_t *payload);

// Combines lists, whose shards are all locked and none of which is cold: ids past `after`, rising,
// at most `max` of them, appended to `out` as packed u64. Stops early, with *more and *next (go on
// after it), when about `budget` ids were looked at.
enum rels_combine { RELS_INTERSECT, RELS_UNION, RELS_DIFFERENCE }; // the first without the others
struct rels_list {
    uint32_t table;
    uint64_t hash;
};
MUST_USE enum err rels_combine(struct rels *r, enum rels_combine how, const struct rels_list *lists,
                               size_t n, bool has_after, uint64_t after, size_t max, size_t budget,
                               struct buf *out, bool *more, uint64_t *next);

// The sequence that an answer about this list rests on: at least that of its last change that
// rels_note was told of. Lists share cells, so it may be another list's, later one.
void rels_note(struct rels *r, uint32_t table, uint64_t hash, uint64_t seq);
uint64_t rels_seq(const struct rels *r, uint32_t table, uint64_t hash);

// ---- checkpoints

// One row of the store below.
enum rels_row_kind {
    RELS_ROW_LIST, // key: hash. bytes: one block; or, 9 bytes that begin with 255, a long list's
                   // head: [u8 255][u64 count], and its chunks follow
    RELS_ROW_CHUNK // key: hash, low. bytes: one block
};
struct rels_row {
    enum rels_row_kind kind;
    uint64_t hash;
    uint64_t low;       // CHUNK
    struct slice bytes; // p == NULL: the row goes
};
typedef void (*rels_row_fn)(void *arg, const struct rels_row *row);
// Calls fn for the rows of dirty lists of one shard's table, in the order of their keys (hash; list
// before chunks; low), beginning with the first whose hash is >= *cursor, and marks them captured.
// Only chunks that changed. Stops after about max_bytes, always with a whole list, and sets
// *cursor; true: there is no more. What fn gets lives until it returns.
bool rels_capture(struct rels *r, unsigned shard, uint32_t table, uint64_t *cursor,
                  size_t max_bytes, rels_row_fn fn, void *arg);
// The end of a checkpoint for one shard, all tables: what was captured is clean if `written`,
// unless it changed since; otherwise it is dirty again, and every chunk of it that was captured.
void rels_captured(struct rels *r, unsigned shard, bool written);

// ---- cold lists

// What was read of one list below, built without a lock.
struct rels_image;
// NULL when memory is out.
struct rels_image *rels_image_new(struct rels *r, uint32_t table, uint64_t hash);
// Rows in order. ERR_DAMAGED: not what rels_capture gave; ERR_NO_MEMORY.
MUST_USE enum err rels_image_add(struct rels_image *m, const struct rels_row *row);
void rels_image_free(struct rels_image *m);
// Puts it in place as clean if the list is still cold (no row was added: as a list known to be
// absent, until it is evicted), and frees it, whatever it returns. ERR_DAMAGED: rows are missing;
// ERR_NO_MEMORY.
MUST_USE enum err rels_install(struct rels *r, struct rels_image *m);

// Evicts clean lists not used of late until the shard's memory is at most `target` or the hand went
// round twice. Returns bytes freed.
uint64_t rels_evict(struct rels *r, unsigned shard, uint64_t target);
// Goes on emptying thinly filled slabs, by some thousand lists or one long one; true if there is
// more to do. It begins when more than a sixteenth of the memory of the shard's lists lies idle.
bool rels_compact(struct rels *r, unsigned shard);

// The first list of the table in this shard with hash >= from_hash that is resident: false if there
// is none. *absent: it is known to have no ids.
bool rels_next(struct rels *r, unsigned shard, uint32_t table, uint64_t from_hash, uint64_t *hash,
               bool *absent);
// ---------------------------------------------------------------------------------------------

struct rels_stats {
    uint64_t lists;      // resident with ids
    uint64_t members;    // of those
    uint64_t inlined;    // lists that lie in their slots
    uint64_t chunks;     // of long lists
    uint64_t slot_bytes; // memory of the arrays of slots
    uint64_t bytes;      // memory of blocks and directories, unused parts of slabs included
    uint64_t used;       // of those, what blocks and directories occupy
    uint64_t dirty_bytes;
    uint64_t evictions;
};
// Sums over all shards, locking each in turn; table == RELS_TABLES: all tables (bytes, used and
// evictions are always of all).
void rels_get_stats(struct rels *r, uint32_t table, struct rels_stats *s);
// Memory and dirty memory of all shards, from counters, without locks: near enough for admission.
uint64_t rels_bytes(const struct rels *r);
uint64_t rels_dirty_bytes(const struct rels *r);

#endif
