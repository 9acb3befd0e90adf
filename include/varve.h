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

#ifdef __cplusplus
extern "C" {
#endif

#define VARVE_API      __attribute__((visibility("default")))
#define VARVE_MUST_USE __attribute__((warn_unused_result))

struct varve;

enum varve_error {
    VARVE_OK = 0,
    VARVE_MISSING = 1,   // no such key
    VARVE_CONFLICT = 2,  // a version was not the expected one; nothing was written
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

enum varve_op_kind {
    VARVE_OP_CHECK = 0,  // the key must be at `version` (0: must not exist)
    VARVE_OP_PUT = 1,    // write `value`
    VARVE_OP_DELETE = 2, // remove the key
    VARVE_OP_ADD = 3,    // integer += delta; a missing key counts as 0
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
    uint64_t ttl_ms; // PUT, ADD: gone after this long; 0 none

    // Filled in by the reply.
    uint64_t new_version; // PUT, ADD: the version written
    int64_t number;       // ADD: the sum
    bool conflict;        // with VARVE_CONFLICT: this operation disagreed
    uint64_t actual;      // with conflict: the version the key has (0: does not exist)
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
    enum varve_error error;   // how this request went: OK, MISSING, CONFLICT or ERROR
    struct varve_value value; // get: the value. set, delete: the value before
    uint64_t sequence;        // txn
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
