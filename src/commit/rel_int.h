// What the files of the commit room that deal with relations share.
//
//   rel.c        relations: names, options, metadata
//   rel_txn.c    a transaction's edits
//   rel_read.c   reads of lists
//   rel_load.c   bringing lists in from the store below; memory
//   rel_froms.c  listings of `from`s
//   rel_rows.c   how the store below holds lists and relations
//   rel_save.c   checkpoints' part
//   rel_redo.c   recovery's part
//   rel_check.c  `varve check`
//
// A relation has up to three tables (table/rels.h), each found by the hash of a u64:
//   FORWARD  from -> members; with `recent` each member carries its stamp
//   REVERSE  member -> froms; only with `reverse`
//   RECENT   from -> stamps, each carrying its member; only with `recent`
// A stamp is a place in the relation's order of arrival; none is given twice.
#ifndef VARVE_COMMIT_REL_INT_H
#define VARVE_COMMIT_REL_INT_H

#include "commit/commit_int.h"
#include "commit/rel.h"
#include "table/ids.h"
#include "table/rels.h"

enum rel_part { REL_FORWARD = 0, REL_REVERSE = 1, REL_RECENT = 2, REL_PARTS = 3 };

static inline uint32_t rel_table(uint32_t relation, enum rel_part part)
{
    return relation * 4 + (uint32_t)part;
}
_Static_assert((LIMIT_RELATIONS + 1) * 4 <= RELS_TABLES, "every relation has its tables");
_Static_assert(RELS_SHARDS == 64, "a set of shards is a u64");

// All but the counters never changes.
struct relation {
    struct relation *next; // in its bucket
    uint32_t id;           // from 1
    uint64_t created_ms;
    uint64_t seq; // of the change that made it; 0: it is below
    struct relation_options options;
    _Atomic uint64_t stamps; // the highest given out
    // Checkpoint only: is there a row below, and what it says; the same of the one being written.
    uint64_t stored_stamps, writing_stamps;
    bool stored, writing;
    uint8_t name_len;
    uint8_t name[];
};

static inline struct slice relation_name(const struct relation *r)
{
    return slice_of(r->name, r->name_len);
}

static inline bool relation_has(const struct relation *r, enum rel_part part)
{
    return part == REL_FORWARD || (part == REL_REVERSE ? r->options.reverse : r->options.recent);
}

static inline bool rel_payloads(const struct relation *r, enum rel_part part)
{
    return r->options.recent && part != REL_REVERSE;
}

#define RELATION_BUCKETS 1024u

// Relations are found without a lock and never freed; made under relation_lock.
struct relations {
    uint64_t seed;
    _Atomic uint32_t count;
    _Atomic(struct relation *) names[RELATION_BUCKETS];
    _Atomic(struct relation *) ids[LIMIT_RELATIONS + 1];
};

// ---- rel.c
struct relations *relations_new(uint64_t seed);
void relations_free(struct relations *r);
struct relation *relation_of_id(const struct commit *c, uint32_t id); // NULL
// ERR_INVALID with msg; *r NULL: does not exist.
MUST_USE enum err find_relation(const struct commit *c, struct slice name, struct relation **r,
                                struct errmsg *msg);
// The same; makes it, with default options, if it does not exist.
MUST_USE enum err need_relation(struct commit *c, struct slice name, struct relation **r,
                                struct errmsg *msg);
// Puts one in place as it was found below or in the log. NULL: no memory, or not the next id.
struct relation *relation_put(struct commit *c, uint32_t id, struct slice name, uint64_t created_ms,
                              const struct relation_options *o, uint64_t seq);
void raise_stamps(struct relation *r, uint64_t stamp);
// The sequence that an answer about a list rests on; 0 if it is durable. Shard locked.
uint64_t rel_dep(const struct commit *c, const struct relation *r, uint32_t table, uint64_t hash);

// ---- rel_rows.c
enum rel_row_kind { REL_ROW_LIST = 1, REL_ROW_RELATION = 2 };
#define REL_ROW_KEY  21
#define REL_ROW_HEAD 9 // bytes of a long list's own row
// Each fills `key` and returns the part used.
struct slice rel_list_key(uint8_t key[REL_ROW_KEY], uint32_t table, uint64_t hash);
struct slice rel_chunk_key(uint8_t key[REL_ROW_KEY], uint32_t table, uint64_t hash, uint64_t low);
struct slice rel_relation_key(uint8_t key[REL_ROW_KEY], uint32_t id);
// The key after all rows of lists of this table with hashes up to this one.
struct slice rel_end_key(uint8_t key[REL_ROW_KEY], uint32_t table, uint64_t hash);
// Of a list's row or chunk's: false if it is neither. ROW_LIST and ROW_CHUNK as in table/rels.h.
bool rel_row_of(struct slice key, struct slice value, uint32_t *table, struct rels_row *row);
// Does the list's row say that its chunks follow? Then *count of its ids.
bool rel_row_is_head(struct slice value, uint64_t *count);
MUST_USE enum err rel_put_relation(struct buf *b, const struct relation *r, uint64_t stamps);
// ERR_DAMAGED. `ch` as op/op.h has it; slices point into key and value.
MUST_USE enum err rel_get_relation(struct slice key, struct slice value, struct change *ch,
                                   uint64_t *stamps);

// ---- rel_load.c
// Brings a cold list in. ERR_OK also if somebody else did; ERR_COLD with memory_only. Unlocked.
MUST_USE enum err load_list(struct commit *c, uint32_t table, uint64_t hash, bool memory_only);
// The same for a transaction, which needs all of its lists at once: nothing is evicted for them
// before they take more than c->rels_slack. Blocks.
MUST_USE enum err load_list_of_txn(struct commit *c, uint32_t table, uint64_t hash);
// The same from memory only, for a caller that has the shard locked; evicts nothing.
MUST_USE enum err load_list_locked(struct commit *c, uint32_t table, uint64_t hash);
// Evicts from a locked shard of lists when memory is over its limit.
void trim_rel_shard(struct commit *c, unsigned shard);
// Evicts everywhere, and puts thinly filled memory together. Called by the housekeeper.
void tend_rels(struct commit *c);

// ---- rel_sort.c
struct rel_pair {
    uint64_t key;
    uint64_t at;
};
// Sorts by key, equal ones in the order they had; `other` has room for as many. Returns the one of
// the two that holds the result.
struct rel_pair *sort_pairs(struct rel_pair *p, struct rel_pair *other, size_t n);

// ---- rel_save.c
// Writes what is dirty of lists, then relations, to a checkpoint. Rows come last in the store.
MUST_USE enum err write_rels(struct commit *c, struct store_writer *w);
// The end of a checkpoint.
void rels_done(struct commit *c, bool written);

// ---- rel_redo.c
// Reads the relations.
MUST_USE enum err load_relations(struct commit *c, struct errmsg *msg);
// Are there lists in the store?
MUST_USE enum err any_lists_below(struct commit *c, bool *any, struct errmsg *msg);
// Applies a logged change.
MUST_USE enum err apply_rel_change(struct commit *c, const struct change *ch, uint64_t seq,
                                   struct errmsg *msg);

// ---- rel_check.c
// Every list and relation in the store below. ERR_DAMAGED with msg.
MUST_USE enum err check_rels(struct commit *c, struct errmsg *msg);

#endif
