// A transaction at work: what txn.c and log_txn.c share.
#ifndef VARVE_COMMIT_TXN_INT_H
#define VARVE_COMMIT_TXN_INT_H

#include "commit/commit_int.h"

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

enum { FEW = 4, FEW_LOGS = 2 }; // operations that need no allocation of steps

struct work {
    struct commit *c;
    struct txn *t;
    struct step *steps;    // of keys, sorted by hash
    size_t count;          // of steps
    struct log_step *logs; // sorted by hash
    size_t log_count;
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

#endif
