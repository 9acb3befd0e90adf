// Logs, as the edges see them: keyspaces, appending (inside a transaction, commit.h TXN_APPEND),
// pages, tails, taking records out. The rule of replies is commit.h's: no answer leaves before
// commit_durable() >= dep.
//
// A log is named by a keyspace, which has to be created first, and a key, which the first append
// creates. Both names are any bytes but none.
#ifndef VARVE_COMMIT_LOG_H
#define VARVE_COMMIT_LOG_H

#include "base/err.h"
#include "base/slice.h"
#include "base/u128.h"
#include "op/op.h"
#include "op/record.h"
#include "table/logs.h" // directions, starts and spans; nothing else of it is for edges

struct commit;

struct log_name {
    struct slice keyspace;
    struct slice key;
};

// ---- keyspaces

struct keyspace_view {
    struct slice name; // lives as long as the process
    uint64_t created_ms;
    struct log_policy policy;
};

// ERR_EXISTS; ERR_INVALID and ERR_TOO_BIG with msg; ERR_FULL, ERR_NO_SPACE as commit_txn.
MUST_USE
enum err commit_keyspace_create(struct commit *c, struct slice name, const struct log_policy *p,
                                uint64_t *created_ms, uint64_t *dep, struct errmsg *msg);
// Changes how long its logs are kept; p->server_time must be what it is. ERR_NO_KEYSPACE.
MUST_USE
enum err commit_keyspace_policy(struct commit *c, struct slice name, const struct log_policy *p,
                                uint64_t *dep, struct errmsg *msg);
// ERR_NO_KEYSPACE with msg.
MUST_USE
enum err commit_keyspace_get(struct commit *c, struct slice name, struct keyspace_view *v,
                             uint64_t *dep, struct errmsg *msg);
// Names in rising bytewise order past `after`, at most `limit`; fn returns false to stop.
// An empty keyspace lists the keyspaces, else the keyspace's keys. ERR_NO_KEYSPACE.
typedef bool (*log_list_fn)(void *arg, struct slice name);
MUST_USE
enum err commit_log_list(struct commit *c, struct slice keyspace, struct slice after, size_t limit,
                         log_list_fn fn, void *arg, uint64_t *dep, struct errmsg *msg);

// ---- appending: an operation TXN_APPEND of a transaction points to this

struct log_input {
    struct slice bytes;
    u128 nonce;        // NONCE_NONE: none
    int64_t timestamp; // with has_timestamp; else the server's clock
    bool has_timestamp;
};
struct log_append {
    // in
    struct log_name name;
    const struct log_input *records; // one at least. A record whose nonce is below the log's next
    size_t count;                    // nonce is dropped: it is there already
    // out
    uint64_t first_offset; // of the first record that was taken; end_offset if none was
    uint64_t end_offset;   // the next record's
    uint64_t appended;     // records taken
    u128 next_nonce;
    int64_t timestamp; // of the last record taken; 0 when replayed or none
};

// ---- metadata

struct log_meta {
    uint64_t first_offset; // of the oldest that may still be there
    uint64_t end_offset;   // the next record's ("next_offset" outside)
    u128 next_nonce;
    int64_t last_timestamp; // highest so far; INT64_MIN: none
    uint64_t records;       // there now
    uint64_t bytes;         // there now, as encoded
};
// ERR_NO_KEYSPACE with msg; ERR_MISSING: no such key.
MUST_USE
enum err commit_log_meta(struct commit *c, const struct log_name *name, struct log_meta *m,
                         uint64_t *dep, struct errmsg *msg);
// An answer that rests on everything appended to this log so far being durable, also where
// durability is relaxed; name == NULL: to any log.
MUST_USE
enum err commit_log_flush(struct commit *c, const struct log_name *name, uint64_t *dep,
                          struct errmsg *msg);

// ---- reading

enum log_filter { LOG_FILTER_NONE, LOG_FILTER_PREFIX, LOG_FILTER_CONTAINS };

struct log_query {
    struct log_name name;
    struct log_from from;
    struct slice continuation; // not empty: goes on where a page ended; `from` is not looked at
    uint64_t max_records;      // 1 to LIMIT_PAGE_RECORDS
    uint64_t max_bytes;        // of records as encoded; at least one record is given. At most
                               // LIMIT_PAGE_BYTES
    enum log_filter filter;    // only records that start with or contain `pattern`
    struct slice pattern;      // at most LIMIT_FILTER bytes, one at least with a filter
    bool may_block;            // on a thread that may read the disk: never ERR_COLD
};

// A page: runs of records, whose blocks it holds until log_page_release. In a page that was read
// backwards the spans come newest first, and so must the records within each: log_page_next.
#define LOG_TOKEN 32 // text of a continuation token, and its end
struct log_page {
    enum log_direction direction;
    struct log_spans spans;
    uint64_t records;
    uint64_t bytes;        // of those, as encoded
    uint64_t first_offset; // the log's, when it was read
    uint64_t end_offset; // its end then; without the last additions, if the page does not reach it
    uint64_t next;       // the offset to go on from. Forwards: past the last one looked at
    bool more;           // there is, or with a filter may be, more; continuation is set
    bool truncated;      // it asked for records that are no longer kept
    char continuation[LOG_TOKEN];
    // of log_page_next
    size_t span;
    const uint8_t *at;
};

// A key that does not exist is an empty log. ERR_NO_KEYSPACE; ERR_INVALID (a token that is damaged
// or belongs to another log, sizes out of range) with msg; ERR_COLD: run it again with may_block,
// through commit_background; ERR_IO, ERR_DAMAGED; ERR_NO_MEMORY. A page with a filter may come
// back early, even empty, with `more`.
MUST_USE
enum err commit_log_read(struct commit *c, const struct log_query *q, struct log_page *page,
                         uint64_t *dep, struct errmsg *msg);
// The records of a page one after another, in the page's direction; false at the end.
bool log_page_next(struct log_page *page, struct record *r);
void log_page_release(struct log_page *page);

// ---- tails

// One wait for records at or past an offset. The memory is the caller's, zeroed before first use.
struct log_watch {
    struct log_watch *next, **link; // of those that wait
    uint64_t hash, offset;          // of the log; for what
    unsigned shard;
    void (*wake)(void *arg); // with locks held: hands over and returns, e.g. conn_resume
    void *arg;
};
// Calls w->wake once as soon as the log has a record at or past `offset` (not yet durable: what is
// then read says what it depends on). ERR_AGAIN: it has one now, w is not used. A key that does
// not exist yet can be waited for. ERR_NO_KEYSPACE.
MUST_USE
enum err commit_log_watch(struct commit *c, const struct log_name *name, uint64_t offset,
                          struct log_watch *w, struct errmsg *msg);
// True: taken back, wake was not and will not be called. False: it has been called, or w was not
// in use.
bool commit_log_unwatch(struct commit *c, struct log_watch *w);

// ---- taking records out. These block on the disk: call through commit_background. Offsets are
// never used again, nonces are not forgotten.

// Removes every record before an offset (LOG_START_OFFSET; up to the end) or, LOG_START_TIME, all
// before the first record whose timestamp is not below `time`. *first_offset: what is kept begins
// there. ERR_NO_KEYSPACE, ERR_MISSING.
MUST_USE
enum err commit_log_trim(struct commit *c, const struct log_name *name, const struct log_from *to,
                         uint64_t *first_offset, uint64_t *dep, struct errmsg *msg);
// Deletes one record. ERR_MISSING: the key or the record does not exist.
MUST_USE
enum err commit_log_erase(struct commit *c, const struct log_name *name, uint64_t offset,
                          uint64_t *dep, struct errmsg *msg);

#endif
