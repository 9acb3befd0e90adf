// varve's client library: the binary protocol of docs/PROTOCOLS.md over one TCP connection.
//
//     struct varve *v;
//     if (varve_connect(&v, "127.0.0.1:3000", 5000) == VARVE_OK) {
//         struct varve_value value;
//         if (varve_get(v, "k", 1, &value) == VARVE_OK)
//             fwrite(value.data, 1, value.size, stdout);
//     }
//     varve_close(v);
//
// Threads: one connection belongs to one thread at a time; connections are independent of each
// other.
//
// Memory: what a call returns through `data` or `text` pointers belongs to the connection and lives
// until the next call on it. What a call is given is copied or sent before it returns, except the
// operations of varve_queue_txn.
//
// Time: no call blocks longer than the connection's timeout (but finding a host's address may).
// Numbers are 64 bits; times are milliseconds.
//
// Errors: every function returns an enum varve_error; varve_error_text says what was wrong.
// - After VARVE_TIMEOUT, VARVE_NETWORK or VARVE_PROTOCOL replies can no longer be matched with
//   requests: the connection is broken and every later call returns the same error. A write whose
//   reply was not seen may or may not have happened; send a transaction again, on a new connection,
//   with the same idempotency key to find out.
// - After VARVE_ERROR the server may have closed the connection (it does so for requests over its
//   limits): then later calls return VARVE_NETWORK.
// - Everything else leaves the connection usable.
#ifndef VARVE_H
#define VARVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VARVE_API      __attribute__((visibility("default")))
#define VARVE_MUST_USE __attribute__((warn_unused_result))

struct varve;

enum varve_error {
    VARVE_OK = 0,
    VARVE_MISSING = 1,   // no such key, keyspace, record or relation
    VARVE_CONFLICT = 2,  // a version was not the expected one, or a keyspace or relation exists;
                         // nothing was written
    VARVE_ERROR = 3,     // the server refused; the text is the server's. Nothing was written
    VARVE_INVALID = 4,   // the arguments are wrong; nothing was sent
    VARVE_FULL = 5,      // too much is queued: take replies first; nothing was lost
    VARVE_TIMEOUT = 6,   // broken: no answer in time
    VARVE_NETWORK = 7,   // broken: not connected, or the connection was lost
    VARVE_PROTOCOL = 8,  // broken: the reply does not follow the protocol
    VARVE_NO_MEMORY = 9, // out of memory
};

// Types a value can have. The bytes of `data` by type:
enum varve_type {
    VARVE_BYTES = 0,  // any bytes
    VARVE_STRING = 1, // UTF-8
    VARVE_INT = 2,    // 8 bytes, little-endian int64_t
    VARVE_FLOAT = 3,  // 8 bytes, IEEE 754 double
    VARVE_BOOL = 4,   // 1 byte, 0 or 1
    VARVE_ARRAY = 5,  // JSON text of an array of numbers, without spaces
};

struct varve_value {
    enum varve_type type;
    const void *data; // not aligned; may be NULL when size is 0
    size_t size;
    uint64_t version;    // 1 or more; 0 where the request gives none (set, delete)
    uint64_t expires_ms; // wall clock, milliseconds since 1970; 0: never
};

// The number in a value of type VARVE_INT, VARVE_FLOAT or VARVE_BOOL; 0 for any other.
VARVE_API int64_t varve_value_int(const struct varve_value *value);
VARVE_API double varve_value_float(const struct varve_value *value);
VARVE_API bool varve_value_bool(const struct varve_value *value);

// Connects to "HOST:PORT". timeout_ms bounds this call and every later one; 0 waits for ever.
// *conn is set in any case, also on failure, so that varve_error_text can tell why, and must be
// given to varve_close; it is NULL only for VARVE_NO_MEMORY. VARVE_INVALID, VARVE_NETWORK,
// VARVE_TIMEOUT.
VARVE_API VARVE_MUST_USE enum varve_error varve_connect(struct varve **conn, const char *addr,
                                                        unsigned timeout_ms);
// Closes and frees; replies not taken are dropped. NULL is fine.
VARVE_API void varve_close(struct varve *conn);
// What the last failed call on this connection had to say; "" if none has failed. Never NULL; lives
// until the next call that fails.
VARVE_API const char *varve_error_text(const struct varve *conn);
// The name of an error, "VARVE_TIMEOUT"; a constant.
VARVE_API const char *varve_error_name(enum varve_error error);

// Reads a key: its value, type, version and expiry. VARVE_MISSING if there is none.
VARVE_API VARVE_MUST_USE enum varve_error varve_get(struct varve *conn, const void *key,
                                                    size_t key_size, struct varve_value *value);
// Writes bytes without looking at the version. `old` (may be NULL) gets the value that was there,
// as bytes, numbers as their JSON text; empty if there was none. Returns when the write is durable.
VARVE_API VARVE_MUST_USE enum varve_error varve_set(struct varve *conn, const void *key,
                                                    size_t key_size, const void *value,
                                                    size_t value_size, struct varve_value *old);
// Deletes a key, whatever its version. `old` as in varve_set. Deleting what is not there is not an
// error.
VARVE_API VARVE_MUST_USE enum varve_error varve_delete(struct varve *conn, const void *key,
                                                       size_t key_size, struct varve_value *old);

// ---- the words for logs (docs/PROTOCOLS.md, "Logs"); the calls are further down

// 128 bits unsigned, the low half first: a nonce. No compiler's own type, so that the header is
// C99 and C++.
struct varve_u128 {
    uint64_t low;
    uint64_t high;
};

// A log's name: a keyspace, which is made first, and a key in it, which the first append makes.
// Both are any bytes, one at least.
struct varve_log {
    const void *keyspace;
    size_t keyspace_size;
    const void *key;
    size_t key_size;
};

// Appending takes data, and nonce and timestamp where has_* say so; zero what is not used. Reading
// sets everything; nonce is 0 if there is none.
struct varve_record {
    uint64_t offset;   // from 1
    int64_t timestamp; // as the client gave it, else milliseconds; microseconds in keyspaces with
                       // server_time. Not the smallest int64_t
    struct varve_u128 nonce; // at most 2^128 - 2
    bool has_timestamp;      // appending: else the server's clock. Must be false with server_time
    bool has_nonce;
    const void *data;
    size_t size;
};

enum varve_op_kind {
    VARVE_OP_CHECK = 0,    // the key must be at `version` (0: must not exist)
    VARVE_OP_PUT = 1,      // write `value`
    VARVE_OP_DELETE = 2,   // remove the key
    VARVE_OP_ADD = 3,      // integer += delta; a missing key counts as 0
    VARVE_OP_APPEND = 4,   // append `records` to `log`; a log may be named by one operation only
    VARVE_OP_RELATE = 5,   // add `members` to the list of `from` in `relation`
    VARVE_OP_UNRELATE = 6, // remove them from it
};

// One operation of a transaction; zero what is not used.
struct varve_op {
    enum varve_op_kind kind;
    enum varve_type type; // PUT
    const void *key;
    size_t key_size;
    const void *value; // PUT, laid out by `type`
    size_t value_size;
    int64_t delta;    // ADD
    bool has_version; // PUT, DELETE, ADD: only if the key is at `version` (0: does not exist)
    uint64_t version;
    uint64_t ttl_ms;                    // PUT, ADD: gone after this long; 0 none
    const struct varve_log *log;        // APPEND, in place of a key
    const struct varve_record *records; // APPEND
    size_t record_count;
    const char *relation; // RELATE, UNRELATE, in place of a key: see varve_rel_add
    uint64_t from;
    const uint64_t *members;
    size_t member_count;

    // Filled in by the reply.
    uint64_t new_version;  // PUT, ADD: the version written
    int64_t number;        // ADD: the sum. RELATE, UNRELATE: members added or removed
    bool conflict;         // with VARVE_CONFLICT: this operation disagreed
    uint64_t actual;       // with conflict: the version the key has (0: does not exist)
    uint64_t first_offset; // APPEND: of the first record that was taken
    uint64_t appended;     // APPEND: records taken; the others were there already
};

// Commits all operations or none of them; returns when they are durable. *sequence (may be NULL)
// gets the place in the server's log, 0 if nothing was written. `idempotency` (may be NULL, at most
// 128 bytes) names the transaction: sent again, the first result is returned and nothing is written
// twice. VARVE_CONFLICT sets `conflict` and `actual` of each operation that disagreed.
VARVE_API VARVE_MUST_USE enum varve_error varve_txn(struct varve *conn, struct varve_op *ops,
                                                    size_t count, const void *idempotency,
                                                    size_t idempotency_size, uint64_t *sequence);

// Called for each key of a listing, in rising bytewise order. The pointers live until it returns.
// `value` is NULL unless values were asked for. Returns false to stop. It must not use the
// connection.
typedef bool (*varve_list_fn)(void *arg, const void *key, size_t key_size,
                              const struct varve_value *value);
// Lists up to `limit` keys (0: all) that start with `prefix` and come after `after` (both may be
// NULL), a page at a time; the timeout holds for each page. A key made or deleted meanwhile may be
// seen or not.
VARVE_API VARVE_MUST_USE enum varve_error varve_list(struct varve *conn, const void *prefix,
                                                     size_t prefix_size, const void *after,
                                                     size_t after_size, size_t limit, bool values,
                                                     varve_list_fn fn, void *arg);

// ---- logs: keyspaces
//
// A keyspace that does not exist is VARVE_ERROR in every call but varve_keyspace_get.

// How long the logs of a keyspace are kept: each limit is for every log of its own, 0 for none.
struct varve_log_policy {
    uint64_t max_age_ms;
    uint64_t max_bytes;
    uint64_t max_records;
    bool server_time; // the server gives each record a microsecond of its own, strictly rising.
                      // Cannot be changed later
};

// Makes a keyspace; `policy` NULL keeps everything. *created_ms (may be NULL): wall clock.
// VARVE_CONFLICT if it exists.
VARVE_API VARVE_MUST_USE enum varve_error
varve_keyspace_create(struct varve *conn, const void *keyspace, size_t keyspace_size,
                      const struct varve_log_policy *policy, uint64_t *created_ms);
// Changes how long its logs are kept; server_time must be what it is.
VARVE_API VARVE_MUST_USE enum varve_error
varve_keyspace_policy(struct varve *conn, const void *keyspace, size_t keyspace_size,
                      const struct varve_log_policy *policy);
// VARVE_MISSING if it does not exist. Each out-parameter may be NULL.
VARVE_API VARVE_MUST_USE enum varve_error
varve_keyspace_get(struct varve *conn, const void *keyspace, size_t keyspace_size,
                   struct varve_log_policy *policy, uint64_t *created_ms);
// The names of keyspaces (`keyspace` NULL), or of a keyspace's logs, as varve_list; fn is called
// with value NULL.
VARVE_API VARVE_MUST_USE enum varve_error varve_log_list(struct varve *conn, const void *keyspace,
                                                         size_t keyspace_size, const void *after,
                                                         size_t after_size, size_t limit,
                                                         varve_list_fn fn, void *arg);

// ---- logs: appending

struct varve_appended {
    uint64_t first_offset; // of the first record that was taken; next_offset if none was
    uint64_t next_offset;  // what the next record will get
    uint64_t appended;     // records taken; the others were there already (their nonces are below
                           // the log's next nonce)
    struct varve_u128 next_nonce;
    int64_t timestamp; // of the last record taken
};

// Appends all records, one at least, in order; returns when they are durable. `result` may be NULL.
VARVE_API VARVE_MUST_USE enum varve_error
varve_log_append(struct varve *conn, const struct varve_log *log,
                 const struct varve_record *records, size_t count, struct varve_appended *result);

// ---- logs: reading

enum varve_start {
    VARVE_START_FIRST = 0,     // the oldest; backwards: the newest
    VARVE_START_OFFSET = 1,    // forwards: the first record at or past `offset`; backwards: the
    VARVE_START_TIMESTAMP = 2, // last at or before it; likewise
    VARVE_START_NONCE = 3,
    VARVE_START_END = 4, // tails only: what comes from now on
};
enum varve_filter {
    VARVE_FILTER_NONE = 0,
    VARVE_FILTER_PREFIX = 1,   // only records that begin with `pattern`
    VARVE_FILTER_CONTAINS = 2, // or that hold it
};

// What to read; all zero: forwards from the oldest record.
struct varve_log_query {
    bool backwards;
    enum varve_start start;
    uint64_t offset;
    int64_t timestamp;
    struct varve_u128 nonce;
    enum varve_filter filter;
    const void *pattern; // 1 to 1024 bytes, with a filter
    size_t pattern_size;
    uint32_t page_size;       // records in a page at most; 0: 1000
    const void *continuation; // of the page before; direction and start are then not looked at
    size_t continuation_size;
};

#define VARVE_CONTINUATION 64 // bytes at most

// A page: records to be taken one by one with varve_page_next. They stay in the connection's
// memory; the rest is the caller's. A page ends at page_size records or 4 MiB of them.
struct varve_page {
    uint64_t first_offset; // of the log: the oldest record that may still be there
    uint64_t next_offset;  // of the log: what the next record will get; a page that ends before
                           // the log does may leave out what was added last
    uint64_t next;         // the offset at which this reading goes on
    uint32_t records;      // with a filter it may be 0 although there is more
    bool truncated;        // records that were asked for are no longer kept
    bool more;             // there is, or with a filter may be, another page
    bool end;              // the end of a tail
    size_t continuation_size;
    char continuation[VARVE_CONTINUATION]; // good for this log only, for ever
    const unsigned char *at;               // of varve_page_next
    size_t left;
};

// Reads a page. To go on, give its continuation to the next query, which may point into `page`:
//
//     do {
//         e = varve_log_read(v, &log, &query, &page);
//         while (e == VARVE_OK && varve_page_next(&page, &record))
//             ...
//         query.continuation = page.continuation;
//         query.continuation_size = page.continuation_size;
//     } while (e == VARVE_OK && page.more);
//
// A key that does not exist is an empty log. On an error `page` is as it was.
VARVE_API VARVE_MUST_USE enum varve_error varve_log_read(struct varve *conn,
                                                         const struct varve_log *log,
                                                         const struct varve_log_query *query,
                                                         struct varve_page *page);
// The next record of a page, in the page's direction; false at its end. record->data lives until
// the next call on the connection that the page came from.
VARVE_API bool varve_page_next(struct varve_page *page, struct varve_record *record);

struct varve_log_meta {
    uint64_t first_offset; // of the oldest record that may still be there
    uint64_t next_offset;  // what the next record will get
    struct varve_u128 next_nonce;
    int64_t last_timestamp; // the highest so far; the smallest int64_t: none
    uint64_t records;       // there now
    uint64_t bytes;         // of them, with 40 for each record
};
// VARVE_MISSING if there is no such log.
VARVE_API VARVE_MUST_USE enum varve_error
varve_log_meta(struct varve *conn, const struct varve_log *log, struct varve_log_meta *meta);

// A tail: pages that the server sends without being asked for each, forwards. With `follow` false
// it gives what is there (the fastest way to read a whole log), then a page with `end`; with
// `follow` true it goes on as records arrive. A page with `truncated` says that retention has
// overtaken the reader, who goes on with the oldest record kept. Until its end only the calls of
// tails and pipelines go: a request queued behind a following tail ends it.
VARVE_API VARVE_MUST_USE enum varve_error varve_log_tail(struct varve *conn,
                                                         const struct varve_log *log,
                                                         const struct varve_log_query *query,
                                                         bool follow);
// Waits for the next page. A page without records is a sign of life, every 10 s while nothing else
// comes; so where the connection's timeout is shorter than 30 s, this call waits 30 s. VARVE_OK,
// also for the page with `end`; VARVE_INVALID if no tail is open; VARVE_ERROR (a keyspace that does
// not exist) ends the tail.
VARVE_API VARVE_MUST_USE enum varve_error varve_log_tail_next(struct varve *conn,
                                                              struct varve_page *page);
// Ends a tail, dropping the pages that are still on their way, and leaves the connection usable.
// (Of a tail that does not follow that is the whole rest of the log: rather close the connection.)
// VARVE_OK if none is open.
VARVE_API VARVE_MUST_USE enum varve_error varve_log_tail_close(struct varve *conn);

// ---- logs: taking records out. Offsets are never used again and nonces are not forgotten.

// Removes every record before an offset, or all before the first one whose timestamp is not below
// `before`. *first_offset (may be NULL): what is kept begins there. VARVE_MISSING: no such log.
VARVE_API VARVE_MUST_USE enum varve_error varve_log_trim(struct varve *conn,
                                                         const struct varve_log *log,
                                                         uint64_t before, uint64_t *first_offset);
VARVE_API VARVE_MUST_USE enum varve_error varve_log_trim_time(struct varve *conn,
                                                              const struct varve_log *log,
                                                              int64_t before,
                                                              uint64_t *first_offset);
// Deletes one record. VARVE_MISSING: there is no such record.
VARVE_API VARVE_MUST_USE enum varve_error
varve_log_erase(struct varve *conn, const struct varve_log *log, uint64_t offset);
// Returns when everything appended to the log so far (`log` NULL: to any log) is durable, also
// where the server's durability is relaxed.
VARVE_API VARVE_MUST_USE enum varve_error varve_log_flush(struct varve *conn,
                                                          const struct varve_log *log);

// ---- relations (docs/PROTOCOLS.md, "Relations")
//
// A relation is a named map from a number to a set of numbers, its members: who follows whom, which
// tags a thing has. The set of a `from` is its list. A relation is made by its first addition, or
// declared first with options; one that does not exist has empty lists. A name has 1 to 128
// letters, digits and "_.:-", the first a letter, digit or "_"; it ends with a NUL here. A name
// that is not one is VARVE_ERROR (a longer one VARVE_INVALID). Ids are any numbers of 64 bits.

struct varve_rel_options {
    bool reverse; // also kept from each member to the `from`s that have it
    bool recent;  // members can be read in their order of arrival
    bool relaxed; // every change is answered when it is applied: see VARVE_REL_RELAXED
};

// Declares a relation; `options` NULL: none of them. They cannot be changed later. *created_ms (may
// be NULL): wall clock. VARVE_CONFLICT if it exists, with whatever options.
VARVE_API VARVE_MUST_USE enum varve_error varve_rel_create(struct varve *conn, const char *relation,
                                                           const struct varve_rel_options *options,
                                                           uint64_t *created_ms);
struct varve_rel_info {
    uint64_t created_ms;
    struct varve_rel_options options;
    uint64_t resident_lists;   // in the server's memory now, an estimate: lists with members
    uint64_t resident_members; // and those members
};
// VARVE_MISSING if it does not exist.
VARVE_API VARVE_MUST_USE enum varve_error varve_rel_info(struct varve *conn, const char *relation,
                                                         struct varve_rel_info *info);
// The names of relations that come after `after` (may be NULL), as varve_list; fn is called with
// value NULL, and the names do not end with a NUL.
VARVE_API VARVE_MUST_USE enum varve_error varve_rel_list(struct varve *conn, const char *after,
                                                         size_t limit, varve_list_fn fn, void *arg);

// Flags of the calls below. Those that a call does not have must not be given.
enum varve_rel_flag {
    VARVE_REL_REVERSE = 1, // reading: the list of those that have `from` as a member. Only of a
                           // relation declared with `reverse`
    VARVE_REL_RELAXED = 2, // changing: the call returns when the change is applied; it is durable
                           // soon after, 100 ms at the latest
};

// ---- relations: changing. At most 1,000,000 members in one request.

// Adds members, in any order, to the list of `from`; returns when that is durable (without
// VARVE_REL_RELAXED). *added (may be NULL): how many were not there. One given twice counts once.
VARVE_API VARVE_MUST_USE enum varve_error varve_rel_add(struct varve *conn, const char *relation,
                                                        uint64_t from, const uint64_t *members,
                                                        size_t count, unsigned flags,
                                                        uint64_t *added);
// Removes members. *removed (may be NULL): how many were there.
VARVE_API VARVE_MUST_USE enum varve_error varve_rel_remove(struct varve *conn, const char *relation,
                                                           uint64_t from, const uint64_t *members,
                                                           size_t count, unsigned flags,
                                                           uint64_t *removed);

// Members to add to, or to remove from, the list of `from`.
struct varve_rel_group {
    uint64_t from;
    const uint64_t *members;
    size_t count; // may be 0
    bool remove;
};
// Applies all groups, one at least, in order, or none of them: the fastest way to load a relation.
// `idempotency` as in varve_txn. `added` and `removed` may be NULL.
VARVE_API VARVE_MUST_USE enum varve_error
varve_rel_edit(struct varve *conn, const char *relation, const struct varve_rel_group *groups,
               size_t count, unsigned flags, const void *idempotency, size_t idempotency_size,
               uint64_t *added, uint64_t *removed);

// ---- relations: reading

// Ids in the connection's memory, packed: use varve_rel_id, or memcpy `count * 8` bytes of them.
struct varve_members {
    const void *data; // not aligned; may be NULL when count is 0
    size_t count;
    uint64_t total; // members of the whole list; 0 from varve_rel_combine
    bool more;      // there is, or with varve_rel_combine may be, another page
    uint64_t next;  // with more: `after` of the next page
    uint64_t from;  // of varve_rel_lists_next: whose list it is
};
// The i-th id, i < count.
static inline uint64_t varve_rel_id(const struct varve_members *m, size_t i)
{
    uint64_t id;
    memcpy(&id, (const unsigned char *)m->data + i * sizeof id, sizeof id);
    return id;
}

// Reads a whole list in rising order. One with more than 1,000,000 members is VARVE_ERROR: page it.
VARVE_API VARVE_MUST_USE enum varve_error varve_rel_get(struct varve *conn, const char *relation,
                                                        uint64_t from,
                                                        struct varve_members *members);

enum varve_rel_order {
    VARVE_REL_RISING = 0,
    VARVE_REL_FALLING = 1,
    VARVE_REL_NEWEST = 2, // the last that arrived first; only of a relation declared with `recent`,
                          // without VARVE_REL_REVERSE
};
// Which page; all zero: the first 1000 members, rising.
struct varve_rel_query {
    enum varve_rel_order order;
    unsigned flags; // VARVE_REL_REVERSE
    bool has_after;
    uint64_t after; // past this member; with VARVE_REL_NEWEST a `next` of a page
    uint32_t limit; // members at most, up to 1,000,000; 0: 1000
};
// Reads a page. To go on:
//
//     do {
//         e = varve_rel_page(v, "follows", 7, &query, &page);
//         for (size_t i = 0; e == VARVE_OK && i < page.count; i++)
//             ... varve_rel_id(&page, i) ...
//         query.has_after = true;
//         query.after = page.next;
//     } while (e == VARVE_OK && page.more);
//
// On an error `page` is as it was.
VARVE_API VARVE_MUST_USE enum varve_error varve_rel_page(struct varve *conn, const char *relation,
                                                         uint64_t from,
                                                         const struct varve_rel_query *query,
                                                         struct varve_members *page);
// How many members a list has.
VARVE_API VARVE_MUST_USE enum varve_error varve_rel_count(struct varve *conn, const char *relation,
                                                          uint64_t from, unsigned flags,
                                                          uint64_t *count);
// found[i]: members[i] is in the list. At most 1,000,000 of them.
VARVE_API VARVE_MUST_USE enum varve_error varve_rel_contains(struct varve *conn,
                                                             const char *relation, uint64_t from,
                                                             const uint64_t *members, size_t count,
                                                             unsigned flags, bool *found);

// Several lists, to be taken one by one with varve_rel_lists_next. They stay in the connection's
// memory.
struct varve_rel_lists {
    size_t count;          // lists that are still to be taken
    const uint64_t *froms; // of varve_rel_lists_next
    const unsigned char *at;
};
// Reads the first `limit` members (0: 1000) of each of up to 10,000 lists, rising. `froms` must
// stay where it is while lists are taken. When the reply holds 1,000,000 members, the lists that
// follow are cut short, even to none.
VARVE_API VARVE_MUST_USE enum varve_error varve_rel_many(struct varve *conn, const char *relation,
                                                         const uint64_t *froms, size_t count,
                                                         uint32_t limit, unsigned flags,
                                                         struct varve_rel_lists *lists);
// The next list, in the order of `froms`; false after the last one. list->more: it has others, past
// list->next (or, with count 0, from its start).
VARVE_API bool varve_rel_lists_next(struct varve_rel_lists *lists, struct varve_members *list);

enum varve_rel_combine {
    VARVE_REL_INTERSECT = 3,  // in all lists
    VARVE_REL_UNION = 4,      // in any
    VARVE_REL_DIFFERENCE = 5, // in the first and in none of the others
};
struct varve_rel_list {
    const char *relation;
    uint64_t from;
    bool reverse;
};
// Combines 1 to 64 lists, of any relations, as they are at one moment: a page of ids, rising, past
// query->after. Of the query (NULL: all zero) only has_after, after and limit are looked at. A page
// may end early, even empty, when much had to be looked at: go on while it says `more`.
VARVE_API VARVE_MUST_USE enum varve_error
varve_rel_combine(struct varve *conn, enum varve_rel_combine how,
                  const struct varve_rel_list *lists, size_t count,
                  const struct varve_rel_query *query, struct varve_members *page);

// Called for each list of varve_rel_froms: its `from` and how many members it has. Returns false to
// stop. It must not use the connection.
typedef bool (*varve_rel_from_fn)(void *arg, uint64_t from, uint64_t count);
// Lists up to `limit` (0: all) `from`s that have members, past *after (NULL: from the first), a
// page at a time; the timeout holds for each page. The order is the server's own and never changes.
// A list made or emptied meanwhile may be seen or not. With VARVE_REL_REVERSE: the members that are
// in any list, and in how many.
VARVE_API VARVE_MUST_USE enum varve_error varve_rel_froms(struct varve *conn, const char *relation,
                                                          const uint64_t *after, size_t limit,
                                                          unsigned flags, varve_rel_from_fn fn,
                                                          void *arg);

// The server's metrics in the Prometheus text format; *text is NUL-terminated.
VARVE_API VARVE_MUST_USE enum varve_error varve_stat(struct varve *conn, const char **text,
                                                     size_t *size);
// One round trip.
VARVE_API VARVE_MUST_USE enum varve_error varve_ping(struct varve *conn);

// Many requests in flight. varve_queue_* only put a request into a buffer (VARVE_FULL when it is at
// its limit); varve_flush sends what is queued; varve_next_reply returns the replies one by one, in
// the order of the requests, sending what is still queued first. While replies are outstanding the
// calls above return VARVE_INVALID.
struct varve_reply {
    enum varve_error error;         // how this request went: OK, MISSING, CONFLICT or ERROR
    struct varve_value value;       // get: the value. set, delete: the value before
    uint64_t sequence;              // txn
    struct varve_appended appended; // log_append
    struct varve_page page;         // log_read, and a tail's
    uint64_t added, removed;        // rel_add, rel_remove, rel_edit: members
    struct varve_members members;   // rel_get, rel_page
};

VARVE_API VARVE_MUST_USE enum varve_error varve_queue_get(struct varve *conn, const void *key,
                                                          size_t key_size);
VARVE_API VARVE_MUST_USE enum varve_error varve_queue_set(struct varve *conn, const void *key,
                                                          size_t key_size, const void *value,
                                                          size_t value_size);
VARVE_API VARVE_MUST_USE enum varve_error varve_queue_delete(struct varve *conn, const void *key,
                                                             size_t key_size);
// `ops` must stay where it is until its reply was returned: the results are written there.
VARVE_API VARVE_MUST_USE enum varve_error varve_queue_txn(struct varve *conn, struct varve_op *ops,
                                                          size_t count, const void *idempotency,
                                                          size_t idempotency_size);
VARVE_API VARVE_MUST_USE enum varve_error varve_queue_log_append(struct varve *conn,
                                                                 const struct varve_log *log,
                                                                 const struct varve_record *records,
                                                                 size_t count);
VARVE_API VARVE_MUST_USE enum varve_error varve_queue_log_read(struct varve *conn,
                                                               const struct varve_log *log,
                                                               const struct varve_log_query *query);
// As varve_rel_add and so on. Many small changes of one relation are fastest like this: the server
// commits those that arrive together in one go.
VARVE_API VARVE_MUST_USE enum varve_error varve_queue_rel_add(struct varve *conn,
                                                              const char *relation, uint64_t from,
                                                              const uint64_t *members, size_t count,
                                                              unsigned flags);
VARVE_API VARVE_MUST_USE enum varve_error
varve_queue_rel_remove(struct varve *conn, const char *relation, uint64_t from,
                       const uint64_t *members, size_t count, unsigned flags);
VARVE_API VARVE_MUST_USE enum varve_error
varve_queue_rel_edit(struct varve *conn, const char *relation, const struct varve_rel_group *groups,
                     size_t count, unsigned flags, const void *idempotency,
                     size_t idempotency_size);
VARVE_API VARVE_MUST_USE enum varve_error varve_queue_rel_get(struct varve *conn,
                                                              const char *relation, uint64_t from);
VARVE_API VARVE_MUST_USE enum varve_error varve_queue_rel_page(struct varve *conn,
                                                               const char *relation, uint64_t from,
                                                               const struct varve_rel_query *query);
// Hands what is queued to the kernel. Replies that arrive meanwhile are kept; VARVE_FULL if more
// than 64 MiB of them wait to be taken.
VARVE_API VARVE_MUST_USE enum varve_error varve_flush(struct varve *conn);
// The next reply. VARVE_OK if there is one (reply->error says how the request went), also if it
// came before the connection was lost; VARVE_INVALID if none is outstanding; else why there is
// none.
VARVE_API VARVE_MUST_USE enum varve_error varve_next_reply(struct varve *conn,
                                                           struct varve_reply *reply);
// Requests queued or sent whose replies were not taken yet.
VARVE_API size_t varve_outstanding(const struct varve *conn);

#ifdef __cplusplus
}
#endif

#endif
