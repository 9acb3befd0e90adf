// What only the commit room knows: the one struct behind commit.h, and the functions its files
// share.
#ifndef VARVE_COMMIT_COMMIT_INT_H
#define VARVE_COMMIT_COMMIT_INT_H

#include "commit/commit.h"
#include "commit/log.h"
#include "base/limits.h"
#include "store/store.h"
#include "table/keys.h"
#include "table/logs.h"
#include "table/rels.h"
#include "wal/wal.h"
#include <pthread.h>
#include <stdatomic.h>

// What the file CHECKPOINT says: every change with a sequence <= seq is in the store below.
struct checkpoint_mark {
    uint64_t seq;
    uint64_t floor; // highest version any deleted key had
};

struct room_waiter {
    struct room_waiter *next;
    void (*done)(void *arg, enum err e);
    void *arg;
};

struct reader_job {
    struct reader_job *next;
    void (*fn)(void *arg);
    void *arg;
};

// Threads that may block on the disk: cold reads and listings.
struct readers {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct reader_job *first, *last;
    size_t waiting; // at most READERS_MAX
    pthread_t threads[64];
    unsigned started;
    bool stopping;
};
#define READERS_MAX 65536u

#define WATCH_LISTS 16u // of a shard of logs

struct commit {
    struct commit_options o;
    char *dir;
    uint64_t store_id;
    int lock_fd;
    struct wal *wal;
    struct store *store;
    struct keys *keys;
    struct logs *logs;
    struct rels *rels;           // relations' lists
    struct relations *relations; // their names; rel_int.h
    struct readers readers;

    // Highest version that any deleted key had. Raised under the deleted key's shard lock.
    _Atomic uint64_t floor;
    // Raised when a checkpoint's files have become visible, before their entries may be evicted: a
    // cold read that began under another number may hold an old value and starts again.
    _Atomic uint64_t ingests;

    pthread_mutex_t keyspace_lock; // one change of keyspaces at a time
    pthread_mutex_t relation_lock; // one new relation at a time
    // Tails that wait, by the upper bits of their logs' hashes, the highest of which are the shard:
    // each list is under its shard's lock.
    struct log_watch *watches[LOGS_SHARDS * WATCH_LISTS];
    unsigned retain_shard;  // where retention goes on; housekeeper only
    uint64_t tier_dropping; // chunks of the checkpoint under way; checkpoint_lock
    unsigned tier_shard;    // where commit_tier_due goes on; its caller only
    // What it saw of each shard's logs: bytes that wait to be moved, and since when, in seconds.
    _Atomic uint64_t tier_waiting[LOGS_SHARDS];
    _Atomic uint32_t tier_oldest[LOGS_SHARDS]; // 0: none
    _Atomic uint64_t log_hand; // the shard of logs that trim_log_shard looks at next
    _Atomic uint64_t rel_hand; // the shard of lists that gives up room for the next one loaded
    _Atomic uint64_t log_ids;  // the highest given out

    // Memory: the table may hold this much; see commit_memory_init.
    uint64_t table_limit;      // keys, logs and relations
    uint64_t logs_limit;       // the logs' share of it, when others need the rest: a third
    uint64_t rels_slack;       // that lists may have past their share while transactions gather
    uint64_t dirty_limit;      // dirty bytes at which a checkpoint starts
    uint64_t log_limit;        // log bytes since the last checkpoint at which the next one starts
    uint64_t log_stop;         // log bytes at which writes wait for it
    _Atomic uint64_t log_mark; // wal_bytes when the last checkpoint began

    // The housekeeper: checkpoints and expiry.
    pthread_t housekeeper;
    bool housekeeper_started;
    pthread_mutex_t house_lock;
    pthread_cond_t house_wake;
    bool stopping;                                    // house_lock
    _Atomic bool want;                                // a checkpoint was asked for
    struct room_waiter *rooms;                        // house_lock
    pthread_mutex_t checkpoint_lock;                  // one checkpoint at a time
    struct checkpoint_mark mark;                      // checkpoint_lock
    uint64_t checkpoint_took_ns, checkpoint_ended_ns; // the last one that had work; checkpoint_lock
    _Atomic int checkpoint_error;                     // enum err of the last one
    _Atomic uint64_t expired_cursor; // lines of the expiry index before this time are done with
    _Atomic uint64_t checkpointed;   // mark.seq, for metrics

    // Counters for metrics. What happens millions of times a second is counted where a lock is held
    // anyway: lookups by the table's shards, frames by the log.
    _Atomic uint64_t conflicts, replays;
    _Atomic uint64_t cold_reads, cold_waits, full_waits, refused;
    _Atomic uint64_t checkpoints, checkpoint_failures, checkpoint_ns, checkpoint_entries;
    _Atomic uint64_t expired, lists;
    _Atomic uint64_t appended, duplicates, pages, page_records, trims, erased;
    _Atomic uint64_t tier_reads, tier_read_failures, tier_dropped;
    _Atomic uint64_t retention_runs, retention_ns, retained_out;
    _Atomic uint64_t related, unrelated, rel_loads;
    struct commit_recovery recovery;
};

static inline void count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

// The entry that a change makes.
static inline struct key_fields fields_of(const struct change *c)
{
    return (struct key_fields){
        .space = c->space,
        .type = c->type,
        .absent = c->kind == CHANGE_DELETE,
        .version = c->version,
        .expires_ms = c->expires_ms,
        .key = c->key,
        .value = c->value,
    };
}

// dir.c: the data directory's own files.
MUST_USE
enum err dir_open(struct commit *c, bool create, bool *created, struct errmsg *msg);
MUST_USE
enum err dir_read_mark(struct commit *c, struct checkpoint_mark *m, struct errmsg *msg);
MUST_USE
enum err dir_keep_mark(struct commit *c, struct errmsg *msg);
MUST_USE
enum err dir_write_mark(struct commit *c, const struct checkpoint_mark *m);
void dir_path(const struct commit *c, const char *name, char *path, size_t cap);

// read.c
// The sequence an answer that shows `e` depends on; 0 if it is durable. Shard locked.
uint64_t entry_dep(const struct commit *c, const struct key_entry *e);
struct value_view entry_view(const struct key_entry *e);
// Looks a key that is not resident up in the store below and makes the answer resident (an absent
// entry if there is none). ERR_OK, ERR_COLD (memory_only), or a read error.
MUST_USE
enum err load_key(struct commit *c, const struct key_ref *k, bool memory_only);
// The same from memory only, for a caller that has the shard locked; evicts nothing.
MUST_USE
enum err load_key_locked(struct commit *c, const struct key_ref *k);
void raise_floor(struct commit *c, uint64_t version);

// log_load.c
// Brings in what appending to the log needs: its index, and its last chunk unless that is full.
// Nothing to do for a log that does not exist. Blocks.
MUST_USE
enum err load_log_tail(struct commit *c, const struct log_name *name);

// checkpoint.c
void *housekeeper_main(void *arg);
void want_checkpoint(struct commit *c);
// The log, or memory that waits for a checkpoint, is well on the way to where writers are held up.
bool writers_will_wait(const struct commit *c);
// ERR_OK when a write may be admitted; ERR_FULL or ERR_NO_SPACE otherwise.
MUST_USE
enum err admit_write(struct commit *c);
// Evicts from a locked shard when memory is over its limit.
void trim_shard(struct commit *c, unsigned shard);
// Bytes of logs as far as they are within their share.
uint64_t logs_memory(const struct commit *c);
// What one of keys and relations may have in memory when logs and the other have `others` bytes:
// all that they leave, a third at least.
uint64_t memory_share(const struct commit *c, uint64_t others);

// readers.c
MUST_USE
enum err readers_start(struct readers *p, unsigned threads);
void readers_stop(struct readers *p);
MUST_USE
enum err readers_add(struct readers *p, void (*fn)(void *arg), void *arg);

// value.c: how the store below holds a value.
// [u8 type][u8 flags: 1 expires][u64 version][u64 expires_ms, if flag 1][value]
#define STORED_HEADER_MAX 18u
MUST_USE
enum err stored_encode(struct buf *b, const struct key_entry *e);
MUST_USE
enum err stored_decode(struct slice s, struct value_view *v);
// The expiry index's key: [u64 expires_ms, big-endian][u8 space][key].
MUST_USE
enum err expiry_encode(struct buf *b, uint64_t expires_ms, enum key_space space, struct slice key);

#endif
