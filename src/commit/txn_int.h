// A transaction at work: what txn.c, log_txn.c and rel_txn.c share.
#ifndef VARVE_COMMIT_TXN_INT_H
#define VARVE_COMMIT_TXN_INT_H

#include "commit/commit_int.h"
#include "commit/rel_int.h"

// One operation on a key as the transaction works on it.
struct step {
    uint64_t hash;
    struct txn_op *op;        // NULL for the idempotency record
    struct key_entry *before; // resident entry or NULL
    struct key_entry *next;   // prepared; NULL also where `before` is overwritten
    struct change change;
    bool writes;
    bool overwrites;   // in `before`, which fits: nothing to prepare
    uint8_t number[8]; // an add's new value, as stored
};

// One append to a log.
struct log_step {
    uint64_t hash;
    struct txn_op *op;
    struct keyspace *keyspace;
    struct log *log;  // NULL: does not exist
    struct log *made; // prepared then
    size_t at, bytes; // of its records in work.encoded; 0 bytes: all were there already
    size_t largest;   // bytes of the largest record
    struct change change;
};

// One edit of a relation.
struct rel_step {
    struct txn_op *op;
    struct relation *relation; // NULL: does not exist, so there is nothing to remove
    bool adds;
    struct rel_pair *places; // of its groups: by the hashes of their lists; `at` is the group
    size_t count;
    // What it changed, in the columns of struct rel_work.
    size_t list_at, lists, member_at, members;
};

// All edits of a transaction.
struct rel_work {
    struct rel_step *steps;
    size_t count;                    // of steps
    size_t groups, members, largest; // as given, of all edits; members of the largest group
    uint64_t shards;                 // that are locked
    enum err failed;                 // why a list could not be brought in
    void *memory;                    // of the arrays, where the stack has not enough
    struct rel_pair *places;
    // What changed, in the order in which it did: these are the columns of the log's changes.
    uint64_t *froms;   // of each list
    uint32_t *counts;  // of each list, how many members
    uint64_t *changed; // the members
    uint64_t *stamps;  // theirs, where the relation has an order of arrival
    size_t list_count, change_count;
    // Room for the members of one group, in whatever order is needed.
    struct rel_pair *pairs, *other;
    uint64_t *ids, *payloads, *out, *out_payloads;
};

#define FEW_RELS_BYTES 16384u // the arrays of this many lie on the stack

enum { FEW = 4, FEW_LOGS = 2, FEW_EDITS = 2 }; // operations that need no allocation of steps

struct work {
    struct commit *c;
    struct txn *t;
    struct step *steps;    // of keys, sorted by hash
    size_t count;          // of steps
    struct log_step *logs; // sorted by hash
    size_t log_count;
    struct rel_work rels;
    struct buf encoded; // the logs' records, one log's after another's
    uint64_t now;       // wall clock ms, read when first needed; see now_ms
    uint64_t now_us;    // likewise
    uint64_t dep;       // of what was read
    struct key_ref idem;
    struct buf record; // the idempotency record's value
    struct errmsg *msg;
};

// log_txn.c
MUST_USE enum err check_append(struct commit *c, size_t i, const struct log_append *a,
                               struct errmsg *msg);
MUST_USE enum err order_log_steps(struct work *w);
MUST_USE enum err lock_and_gather_logs(struct work *w); // locked if ERR_OK
void unlock_logs(struct work *w);
MUST_USE enum err plan_logs(struct work *w);
MUST_USE enum err prepare_logs(struct work *w);
void discard_logs(struct work *w);
void publish_logs(struct work *w, uint64_t seq);

// rel_txn.c
MUST_USE enum err check_edit(struct work *w, size_t i, const struct rel_edit *edit); // counts them
// `few`: memory for small edits' arrays.
MUST_USE enum err order_rels(struct work *w, void *few, size_t few_bytes);
MUST_USE enum err lock_and_gather_rels(struct work *w, bool in_place); // locked if ERR_OK
void unlock_rels(struct work *w);
// Brings in, from memory only, what gathering missed. Unlocked.
MUST_USE enum err load_rels(struct work *w);
// Changes the lists; nothing if it fails.
MUST_USE enum err apply_rels(struct work *w);
void undo_rels(struct work *w);
// The change that logs what step i did; false if that is nothing.
bool rel_change(const struct work *w, size_t i, struct change *ch);
// Does the answer wait for what changed?
bool rels_bind(const struct work *w);
void publish_rels(struct work *w, uint64_t seq);
// The lists that a transaction looks at, `cap` of them at most to `out`; returns how many there
// are.
size_t rel_lists(struct commit *c, const struct txn *t, struct rels_list *out, size_t cap);

#endif
