// Object stores: named, immutable-by-habit runs of bytes in a directory or in an S3 bucket, behind
// one interface. What varve relies on from either: a put is whole or absent, put_absent lets
// exactly one of several racing writers win, and a listing shows every put that was answered before
// it. object_probe finds out whether an endpoint keeps that.
//
// Names: 1 to OBJECT_NAME_MAX bytes of UTF-8 without control bytes, parts separated by '/'; no part
// is empty, "." or ".."; the directory takes parts of up to OBJECT_PART_MAX bytes. options.prefix
// is put before every name and taken off in listings, so callers never see it. Anything else is
// ERR_INVALID (a name too long ERR_TOO_BIG).
//
// Errors, besides those said at each function; `msg` (may be NULL) says what was asked of whom,
// what came back and what to do:
//   ERR_MISSING      no such object
//   ERR_INVALID      options or name wrong; the bucket does not exist
//   ERR_DENIED       the store does not accept the keys, or they may not do this
//   ERR_UNSUPPORTED  the endpoint is not S3, or does not do what was asked of it
//   ERR_NETWORK      no usable answer, after all retries. A put or delete may or may not have
//                    happened, and may still happen for a short time
//   ERR_DAMAGED      more or fewer bytes came than the store says there are, at every try; or what
//                    stands where an object's checksum does is none
//   ERR_IO, ERR_NO_SPACE  of the directory
//   ERR_NO_MEMORY, ERR_CLOSED (cancelled, or the store is being closed)
//
// Threads: every function may be called from any thread, except that object_close must be the last.
// The S3 store has a thread of its own that does all transfers; the directory does its work within
// object_start, on the caller's thread.
#ifndef VARVE_OBJECT_OBJECT_H
#define VARVE_OBJECT_OBJECT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/os.h"
#include "base/slice.h"

#define OBJECT_NAME_MAX 1024u      // bytes of prefix and name together, as in S3
#define OBJECT_PART_MAX 255u       // bytes between two '/', in a directory
#define OBJECT_SIZE_MAX (1u << 30) // bytes of an object that is put

enum object_kind { OBJECT_DIRECTORY, OBJECT_S3 };

// [s3] of the configuration. Text may be NULL or "" where a default is named.
struct object_s3_options {
    const char *bucket;           // required
    const char *endpoint;         // "http://HOST:PORT", "https://HOST"; default: AWS in `region`
    const char *region;           // default us-east-1
    bool path_style;              // ENDPOINT/BUCKET/NAME, not BUCKET.ENDPOINT/NAME
    bool use_default_credentials; // where access_key is not set: environment, ~/.aws, container or
                                  // instance metadata
    const char *access_key;
    const char *secret_key;
    const char *security_token; // the same as session_token, which counts if both are set
    const char *session_token;
    const char *profile; // of ~/.aws; default AWS_PROFILE, then "default"
    const char *ca_file; // PEM file of authorities to trust; default: the system's
    bool hash_payload;   // hash (SHA-256) and sign what is put also where nothing on the way can
                         // alter it: over https, and to this machine. Elsewhere it always is
};

struct object_options {
    struct os *os;
    enum object_kind kind;
    const char *prefix; // default ""
    const char *dir;    // OBJECT_DIRECTORY: created if missing, in a directory that exists
    struct object_s3_options s3;
    unsigned connections;     // S3: calls under way at once; 0 is 16
    unsigned timeout_ms;      // S3: an attempt that moves no byte for so long is given up; 0: 10 s
    unsigned retry_ms;        // S3: after so long no new attempt is begun; 0 is 60 s
    uint64_t multipart_bytes; // S3: larger puts go up in parts; 0 is 8 MiB, the least 5 MiB
};

struct object_store;

// Opens; for S3 no request is made (object_probe does). Copies everything in `o` but o->os.
MUST_USE enum err object_open(struct object_store **s, const struct object_options *o,
                              struct errmsg *msg);
// Cancels what is under way, waits for it, frees. NULL does nothing.
void object_close(struct object_store *s);
// The program ends: from now on nothing is tried again, and an attempt that moves no byte for a
// second is given up. Whoever waits for a store that does not answer need not wait for long.
void object_hurry(struct object_store *s);
// "s3://BUCKET/PREFIX at http://HOST:PORT" or the directory: for messages. Lives as long as `s`.
const char *object_where(const struct object_store *s);

// ---- one at a time: each waits for its end

// Puts the concatenation of the parts under `name`, in place of what was there; durable when it
// returns ERR_OK. No reader ever sees a part of it. ERR_TOO_BIG past OBJECT_SIZE_MAX.
MUST_USE enum err object_put(struct object_store *s, const char *name, const struct slice *parts,
                             size_t count, struct errmsg *msg);
// The same if nothing is there yet, else ERR_EXISTS and nothing changes; of several at once exactly
// one succeeds. When an answer was lost and the object is found to be there afterwards, it is taken
// for this call's own if it has the same bytes: so what racing writers put must differ.
MUST_USE enum err object_put_absent(struct object_store *s, const char *name,
                                    const struct slice *parts, size_t count, struct errmsg *msg);
// Appends the object to `out`. ERR_TOO_BIG if it does not fit (out->max). After an error `out` is
// as it was.
MUST_USE enum err object_get(struct object_store *s, const char *name, struct buf *out,
                             struct errmsg *msg);
// Appends bytes [offset, offset + length), as far as the object has them: perhaps none.
MUST_USE enum err object_get_range(struct object_store *s, const char *name, uint64_t offset,
                                   uint64_t length, struct buf *out, struct errmsg *msg);
MUST_USE enum err object_head(struct object_store *s, const char *name, uint64_t *size,
                              struct errmsg *msg);
// Durable when it returns ERR_OK. Deleting what is not there is ERR_OK.
MUST_USE enum err object_delete(struct object_store *s, const char *name, struct errmsg *msg);

// Returns false to end the listing. `name` is without options.prefix and lives until it returns.
// May call the store.
typedef bool (*object_list_fn)(void *arg, const char *name, uint64_t size);
// Calls fn for the names that begin with `prefix` and are bytewise greater than `after` (NULL or
// "": all), in rising bytewise order, at most `max` of them (0: all). One request (S3) a 1000
// names; with a small `max` no more is fetched than that.
MUST_USE enum err object_list(struct object_store *s, const char *prefix, const char *after,
                              uint64_t max, object_list_fn fn, void *arg, struct errmsg *msg);

// A checksum that is kept with an object: S3's user metadata x-amz-meta-varve-crc32c, a directory's
// extended attribute user.varve.crc32c of the file; 8 hexadecimal digits. It is put together with
// the bytes, is as durable as they are, and goes with S3's own copies. Stores do not compare it
// with the bytes: who reads does.
struct object_sum {
    bool there; // false: none is kept, as where an object came from elsewhere, was copied without
                // it, or lies on a file system without attributes
    uint32_t crc32c;
};

// ---- many at once

enum object_op {
    OBJECT_PUT,
    OBJECT_PUT_ABSENT,
    OBJECT_GET,
    OBJECT_GET_RANGE,
    OBJECT_HEAD,
    OBJECT_DELETE,
    OBJECT_OPS
};

// A call in progress; the caller owns it and all it points to, and leaves both alone from
// object_start until it is done. Zero what is not used.
struct object_call {
    enum object_op op;
    const char *name;
    const struct slice *parts; // PUT, PUT_ABSENT
    size_t count;
    uint64_t offset; // GET_RANGE
    uint64_t length;
    struct buf *out; // GET, GET_RANGE: appended to
    // PUT, PUT_ABSENT: kept with the object. GET, GET_RANGE: a result, what is kept with it (not
    // for a range that begins past the object's end: S3 then does not say).
    struct object_sum sum;
    // Told when it is done, may be NULL. On the store's thread, or within object_start: must be
    // quick, and of the store may call only object_start, on another call. After it returned the
    // store does not touch this call, so here it may be freed; one with `done` is not waited for.
    void (*done)(struct object_call *c);
    void *arg; // for done
    // Results.
    enum err e;
    uint64_t size; // HEAD, GET, GET_RANGE: the whole object's
    struct errmsg msg;
    // The store's own.
    struct {
        struct object_call *next;
        void *state;
        bool finished;
    } own;
};

// Begins a call; its result, errors of every kind included, comes with the call. Calls begun first
// get connections first. (The queue holds callers' structs only: its length is theirs to bound.)
void object_start(struct object_store *s, struct object_call *c);
// Waits until `c`, begun and without `done`, is done, and returns its error. From then on `c` is
// the caller's again.
MUST_USE enum err object_wait(struct object_store *s, struct object_call *c);
// Asks that `c`, begun and without `done`, ends soon (with ERR_CLOSED, or with its result if that
// is there already); object_wait must still be called. A put may or may not happen.
void object_cancel(struct object_store *s, struct object_call *c);
// Starts all and waits for all: as many at once as there are connections. Returns the first error
// in the calls' order, its text in that call's msg; the other calls are carried out all the same.
MUST_USE enum err object_run(struct object_store *s, struct object_call *calls, size_t n);

// ---- what it does and can do

// Requests as they went over the wire, each attempt counted (the directory: calls).
#define OBJECT_REQUESTS(X) \
    X(put)                 \
    X(get)                 \
    X(head)                \
    X(list)                \
    X(delete)              \
    X(multipart) /* beginning, parts, completing, giving up */

#define OBJECT_COUNTS(X)                                                     \
    X(calls)       /* done, of every kind */                                 \
    X(failed)      /* of them, with errors but ERR_MISSING and ERR_EXISTS */ \
    X(retries)     /* attempts after a first one */                          \
    X(connects)    /* connections made */                                    \
    X(credentials) /* times that keys were fetched */                        \
    X(bytes_out)   /* of requests' bodies */                                 \
    X(bytes_in)    /* of answers' */

struct object_stats {
#define X(name) uint64_t name;
    OBJECT_REQUESTS(X)
    OBJECT_COUNTS(X)
#undef X
};

void object_get_stats(struct object_store *s, struct object_stats *out);

struct object_guarantees {
    bool put_absent;     // of racing put_absents exactly one wins, and its bytes are there
    bool list_after_put; // a listing shows what was put, and not what was deleted
    bool read_after_put; // a get sees the last put of a name that was there before
    bool ranges;         // a ranged get gives that range
    bool list_in_order;  // names come in rising bytewise order
    bool sums;           // checksums are kept. Nothing relies on that: without, fewer kinds of
                         // damage are found (a warning says so, in the log)
};

// Finds out what the store keeps, with some 40 requests on objects named
// "~varve-probe/RANDOM-N" and the like, which it deletes. ERR_OK and `g` filled, with `msg` naming
// what is not kept ("" if all is but sums); or the error that kept it from finding out.
MUST_USE enum err object_probe(struct object_store *s, struct object_guarantees *g,
                               struct errmsg *msg);

#endif
