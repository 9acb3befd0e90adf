// The commit room: admits operations, gives them their place in the log, applies them to the tables
// and says which durable sequence each answer depends on. It owns the write-ahead log, the tables,
// the store below, recovery and checkpoints; the edges know only this header.
//
// The rule of replies: a call that answers gives a `dep`, the highest sequence its answer rests on
// (0: nothing that is not already durable). The edge must not let the answer leave the process
// before commit_durable() >= dep. That holds for reads and for conflicts too.
//
// No call here blocks on the disk except those that say so. ERR_COLD and ERR_FULL mean: nothing was
// done; call commit_fetch, commit_txn_fetch or commit_wait_room, and try again when it calls back.
#ifndef VARVE_COMMIT_COMMIT_H
#define VARVE_COMMIT_COMMIT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/os.h"
#include "base/slice.h"
#include "op/op.h"
#include "commit/tier.h"

struct commit;
struct store;
struct store_options;

struct commit_options {
    struct os *os;
    const char *dir; // data directory, created if missing
    // store_open_rocks, or store_open_sim in the power-failure tests.
    enum err (*store_open)(struct store **s, const struct store_options *o, struct errmsg *msg);
    uint64_t segment_size;
    uint64_t max_segments; // a checkpoint runs before the log grows past this
    uint64_t batch_time_us;
    uint64_t max_batch_size;
    uint64_t memory_limit;           // resident bytes aimed at for the whole process
    uint64_t checkpoint_interval_us; // 0: only when segments or memory run short
    uint32_t max_key;
    uint32_t max_value;
    unsigned read_threads;
    bool relaxed;            // answers depend on nothing
    struct commit_tier tier; // objects that logs are moved to; read == NULL: none
    bool threads;            // false (simulation): no threads; the owner calls commit_flush and
                             // commit_checkpoint
    void (*on_durable)(void *arg, uint64_t seq); // any thread
    void (*on_fatal)(void *arg, const char *what);
    void *arg;
};

struct commit_recovery {
    uint64_t checkpoint_seq; // where replay began
    uint64_t frames;
    uint64_t bytes;
    uint64_t last_seq;
    uint64_t torn_bytes;
    uint64_t replay_ns;
    uint64_t total_ns;
    bool clean;
    bool created; // the data directory was new
};

// Opens or creates the data directory and recovers. ERR_IN_USE, ERR_FORMAT, ERR_DAMAGED, ERR_IO,
// ERR_NO_SPACE with msg naming file and place.
MUST_USE
enum err commit_open(struct commit **c, const struct commit_options *o,
                     struct commit_recovery *found, struct errmsg *msg);
// Makes everything durable, marks the log closed in order, frees. Blocks. No other call may be
// under way.
MUST_USE
enum err commit_close(struct commit *c);
// Frees without writing anything, as if the power had gone (simulation).
void commit_abandon(struct commit *c);
// Reads a data directory without changing it: log, store, checkpoint. For `varve check`.
MUST_USE
enum err commit_check(const struct commit_options *o, struct commit_recovery *found,
                      struct errmsg *msg);

// A key and its hash; made once a request, so that slots can be prefetched for a whole batch first.
struct key_ref {
    struct slice key;
    uint64_t hash;
    enum key_space space;
};
struct key_ref commit_ref(const struct commit *c, struct slice key); // of a user key
// Call for every key of the batch, then commit_prefetch_entry for every key, then the operations.
void commit_prefetch_slot(const struct commit *c, const struct key_ref *k);
void commit_prefetch_entry(const struct commit *c, const struct key_ref *k);

struct value_view {
    struct slice value; // layout by type, see enum value_type
    enum value_type type;
    uint64_t version;
    uint64_t expires_ms; // 0: never
};
// Called with a shard locked: copy what is needed and return; call nothing of commit.
typedef void (*value_fn)(void *arg, const struct value_view *v);

// ERR_OK after emit ran, ERR_MISSING, ERR_COLD. *dep is set for ERR_OK and ERR_MISSING.
MUST_USE
enum err commit_get(struct commit *c, const struct key_ref *k, value_fn emit, void *arg,
                    uint64_t *dep);

enum txn_kind {
    TXN_CHECK,    // key has exactly `version` (0: does not exist)
    TXN_PUT,      // write value; checks version if has_version
    TXN_DELETE,   // checks version if has_version; deleting what is not there is not an error
    TXN_ADD,      // integer += delta; a missing key counts as 0; checks version if has_version
    TXN_APPEND,   // appends records to a log; `append` says which. k is not looked at
    TXN_RELATE,   // adds members to lists of a relation; `edit` says which. k is not looked at
    TXN_UNRELATE, // removes them
};
struct log_append; // commit/log.h
struct rel_edit;   // commit/rel.h

struct txn_op {
    // in
    uint8_t kind; // enum txn_kind
    uint8_t type; // PUT: enum value_type; `value` in that type's layout
    bool has_version;
    bool want_old; // call txn.emit_old with the value before, or NULL where there was none
    struct key_ref k;
    struct slice value;
    int64_t delta;    // ADD
    uint64_t version; // expected, if has_version or CHECK
    uint64_t ttl_ms;  // PUT, ADD: 0 none (a put without ttl takes an older ttl away; ADD keeps it)
    struct log_append *append; // APPEND; a log may be appended to once in a transaction
    struct rel_edit *edit;     // RELATE, UNRELATE
    // out
    bool conflict;
    uint64_t actual;      // version found (0: none)
    uint64_t new_version; // PUT, ADD; DELETE: 0
    int64_t number;       // ADD: the sum; RELATE, UNRELATE: members changed
};

struct txn {
    struct txn_op *ops;
    size_t count;
    bool relaxed;             // *dep is 0: the reply does not wait for the disk
    struct slice idempotency; // empty: none
    uint64_t request_hash;    // of the request's bytes, to tell a reused idempotency key
    void (*emit_old)(void *arg, size_t op, const struct value_view *v); // shards locked
    void *arg;
    uint32_t rounds; // 0 at first: how often it said ERR_COLD for lists of relations
    // out
    uint64_t seq;  // the sequence it committed at; 0 if nothing was written
    bool replayed; // the answer is the first result of the same idempotency key
};

// One transaction: all checks against the state at one moment, then all of it or nothing.
// ERR_OK; ERR_NO_KEYSPACE (append) with msg; ERR_CONFLICT with `conflict` and `actual` set on each
// op that disagreed; ERR_INVALID with msg (the same key written twice; an empty or oversized key or
// value; a check and a write may name one key); ERR_TYPE and ERR_OVERFLOW (add) with msg;
// ERR_REUSED; ERR_COLD; ERR_FULL; ERR_NO_SPACE; ERR_TOO_BIG; ERR_NO_MEMORY; ERR_CLOSED. *dep is set
// for every outcome that leaves the process. Changes of relations whose answers do not wait for the
// disk do not count for it.
MUST_USE
enum err commit_txn(struct commit *c, struct txn *t, uint64_t *dep, struct errmsg *msg);

// Brings keys in from the disk on a reader thread, then calls done there (never before this
// returns... except in the simulation, where it is called at once). Copies the keys. After it, the
// call that said ERR_COLD will normally find them; loop if not.
MUST_USE
enum err commit_fetch(struct commit *c, const struct key_ref *keys, size_t count,
                      void (*done)(void *arg, enum err e), void *arg);
// Starts a checkpoint if none runs, and calls done on another thread when room may have been made.
MUST_USE
enum err commit_wait_room(struct commit *c, void (*done)(void *arg, enum err e), void *arg);
// The keys a txn needs that are not in RAM: fills refs (cap entries), returns the count.
size_t commit_txn_cold(struct commit *c, const struct txn *t, struct key_ref *refs, size_t cap);
// commit_fetch of all keys, logs and lists that a transaction needs; copies what it needs of `t`.
MUST_USE
enum err commit_txn_fetch(struct commit *c, const struct txn *t,
                          void (*done)(void *arg, enum err e), void *arg);

// Runs fn(arg) on a reader thread; for work that blocks, such as commit_list. ERR_AGAIN when too
// much is waiting already.
MUST_USE
enum err commit_background(struct commit *c, void (*fn)(void *arg), void *arg);

// Keys in rising bytewise order that start with prefix and are > after (empty: from the first), at
// most `limit`, which may be LIMIT_LIST + 1, to see whether a page is the last; calls fn for each
// with nothing locked (slices live until it returns). fn returns false to stop. Fewer than `limit`
// means that there are no more. Blocks on the disk: call through commit_background. Sees every key
// that exists throughout the call; one made or deleted meanwhile may be seen or not.
typedef bool (*list_fn)(void *arg, struct slice key, const struct value_view *v);
MUST_USE
enum err commit_list(struct commit *c, struct slice prefix, struct slice after, size_t limit,
                     list_fn fn, void *arg, uint64_t *dep, struct errmsg *msg);

// Tells the log that a batch of operations has been handed in; once per batch.
void commit_kick(struct commit *c);
// From a thread that has a single client at the moment and nothing else to do: may write and sync
// here, see wal_kick_alone.
void commit_kick_alone(struct commit *c);
uint64_t commit_durable(const struct commit *c);
// Blocks until seq is durable (command line, tests).
MUST_USE
enum err commit_wait(struct commit *c, uint64_t seq);
// Simulation: writes and syncs what is pending.
MUST_USE
enum err commit_flush(struct commit *c);
// Writes every dirty entry below and drops the log segments this covers. Blocks. One at a time.
MUST_USE
enum err commit_checkpoint(struct commit *c, struct errmsg *msg);
// Deletes about `max` expired keys through the log, if there are as many; returns how many. Called
// by the housekeeper.
size_t commit_expire(struct commit *c, size_t max);
// Trims logs that hold more, or older, records than their keyspace keeps; `max` of them at most.
// True if there may be more. Called by the housekeeper.
bool commit_retain(struct commit *c, size_t max);

// True while writes are accepted; otherwise `why` says what is wrong.
bool commit_writable(const struct commit *c, const char **why);
// Prometheus text of everything this room and those below count.
MUST_USE
enum err commit_metrics(struct commit *c, struct buf *out);

#endif
