// What the files of the commit room that deal with logs share.
//
//   log.c        keyspaces, metadata, listings, flush
//   log_txn.c    a transaction's appends
//   log_read.c   pages
//   log_watch.c  tails' waits
//   log_cut.c    trim, erase, retention
//   log_tier.c   what is to be moved to objects, and what has been
//   log_load.c   bringing indexes and chunks in from the store below
//   log_rows.c   how the store below holds logs
//   log_save.c   checkpoints' and recovery's part
//   log_check.c  `varve check`
#ifndef VARVE_COMMIT_LOG_INT_H
#define VARVE_COMMIT_LOG_INT_H

#include "commit/commit_int.h"

// ---- log_rows.c
enum row_kind { ROW_KEYSPACE = 1, ROW_LOG = 2, ROW_META = 3, ROW_CHUNK = 4 };
#define ROW_KEY 17
// Each fills `key` and returns the part used.
struct slice row_keyspace_key(uint8_t key[ROW_KEY], uint32_t id);
struct slice row_log_key(uint8_t key[ROW_KEY], uint64_t log);
struct slice row_chunk_key(uint8_t key[ROW_KEY], enum row_kind kind, uint64_t log, uint64_t first);
// True, with the chunk's first offset, if `key` is that of such a row of this log.
bool row_is_chunk_of(struct slice key, enum row_kind kind, uint64_t log, uint64_t *first);

struct log_row {
    uint64_t id;
    struct log_state state;
    uint32_t keyspace;
    struct slice key;
};
MUST_USE enum err row_put_keyspace(struct buf *b, const struct keyspace *k,
                                   const struct log_policy *p);
MUST_USE enum err row_put_log(struct buf *b, const struct log *l);
MUST_USE enum err row_put_meta(struct buf *b, const struct chunk_meta *m);
// ERR_DAMAGED. Slices point into key and value.
MUST_USE enum err row_get_keyspace(struct slice key, struct slice value, struct change *ch);
MUST_USE enum err row_get_log(struct slice key, struct slice value, struct log_row *r);
MUST_USE enum err row_get_meta(uint64_t first, struct slice value, struct chunk_meta *m);

// The space that holds the logs of a keyspace.
static inline enum store_space log_space(const struct keyspace *k)
{
    return k->server_time ? STORE_EVENTS : STORE_LOGS;
}

// ---- log.c
// The keyspace of a name; ERR_NO_KEYSPACE with msg. ERR_INVALID, ERR_TOO_BIG for names that none
// can have.
MUST_USE enum err find_keyspace(struct commit *c, struct slice name, struct keyspace **k,
                                struct errmsg *msg);
MUST_USE enum err check_log_name(const struct commit *c, const struct log_name *name,
                                 struct errmsg *msg);
// The sequence that an answer which shows the log's last change, or records below `end`, rests on.
uint64_t log_dep(const struct commit *c, const struct log *l);
uint64_t log_dep_below(const struct commit *c, const struct log *l, uint64_t end);
// That an answer rests on which shows only that a keyspace exists: it has no such log.
uint64_t keyspace_dep(const struct commit *c, const struct keyspace *k);
// For people: the name in quotes, what is not printable as \xNN, cut after 64 bytes.
#define NAME_TEXT 300
const char *quote_name(struct slice name, char text[NAME_TEXT]);

// ---- log_load.c
// Brings in what ERR_COLD named: the chunk that begins at `first`, or the index for 0. Unlocked.
// memory_only: ERR_COLD where that takes the disk.
MUST_USE enum err load_log_part(struct commit *c, struct log *l, uint64_t first, bool memory_only);

// ---- log_watch.c
// Wakes those that wait for the log with this hash to reach `end`. Its shard locked.
void wake_watches(struct commit *c, uint64_t hash, uint64_t end);

// ---- log_cut.c
// Evicts from a locked shard of logs when memory is over its limit.
void trim_log_shard(struct commit *c, unsigned shard);

// Logs a TRIM, ERASE or TIER of a log. Shard locked.
MUST_USE enum err log_the_cut(struct commit *c, enum change_kind kind, const struct log *l,
                              uint64_t offset, uint64_t *seq);
// admit_write for callers that may wait: for up to half a minute, for checkpoints to make room.
MUST_USE enum err admit_patiently(struct commit *c);
// The timestamp of `age_ms` ago, in a keyspace's unit. It may be before 1970.
int64_t time_before(uint64_t now_ms, uint64_t age_ms, bool server_time);

// ---- log_tier.c
// Records of this time or later stay below also when they are tiered.
int64_t tier_keep_time(const struct commit *c, const struct log *l);
// What waits to be moved, as commit_tier_due saw it last, and for how long the oldest has.
void tier_waits(const struct commit *c, uint64_t *bytes, uint64_t *seconds);

// ---- log_save.c
struct keyspace_pin {
    struct keyspace *keyspace;
    uint64_t seq; // of its last change then
    struct log_policy policy;
};
struct log_pins {
    const struct commit *c;
    struct log_pin *v; // sorted by space and log id
    size_t n, cap;
    struct keyspace_pin *keyspaces; // changed ones, by id
    size_t keyspace_count;
    bool failed;
};
void log_pins_take(struct commit *c, struct log_pins *p);
MUST_USE enum err log_pins_write(struct commit *c, struct store_writer *w,
                                 const struct log_pins *p);
// Frees; `written`: they are below now.
void log_pins_done(struct commit *c, struct log_pins *p, bool written);
// Recovery: reads keyspaces and the headers of all logs.
MUST_USE enum err load_logs(struct commit *c, struct errmsg *msg);
// Applies a logged change.
MUST_USE enum err apply_log_change(struct commit *c, const struct change *ch, uint64_t seq,
                                   struct errmsg *msg);

// ---- log_check.c
// Every log and chunk in the store below. ERR_DAMAGED with msg.
MUST_USE enum err check_logs(struct commit *c, struct errmsg *msg);

#endif
