// Many HTTP transfers at once over one libcurl multi handle, on a thread of their own. Knows HTTP,
// not S3: a transfer is one request and its answer; trying again is for whoever is told of it.
//
// Phases of the thread's turn, in order:
//   1 arrivals   what other threads have handed over joins the queue
//   2 cancels    what is cancelled, or has moved no byte for timeout_ms, ends
//   3 begin      delayed transfers whose time has come, then the queue, as far as there are
//                connections: each one's `prepare` writes its request now, so its date is fresh
//   4 transfer   curl_multi_perform
//   5 results    each finished transfer's `done`, which may queue others
//   6 wait       curl_multi_poll: until a socket is ready, a wake-up, or the next time known
//
// Sockets are libcurl's own; time is the os seam's.
#ifndef VARVE_OBJECT_TRANSFER_H
#define VARVE_OBJECT_TRANSFER_H

#include "base/buf.h"
#include "base/err.h"
#include "base/os.h"
#include <curl/curl.h>
#include <stdatomic.h>

#define TRANSFER_ANSWER_MAX (8u << 20) // bytes of an answer that is not an object

// Bytes [from, from + n) of the concatenation of the parts.
struct transfer_body {
    const struct slice *parts;
    size_t count;
    uint64_t from;
    uint64_t n;
};

// A place in a body.
struct transfer_cursor {
    size_t part;
    size_t offset; // in that part
    uint64_t left;
};

// What to do with the body of an answer with status 200 or 206. Of others it goes to `answer`.
enum transfer_sink {
    TRANSFER_ANSWER,  // keep it in `answer`
    TRANSFER_OUT,     // append it to `out`
    TRANSFER_COMPARE, // hold it against `body`: *same
};

struct transfer {
    // The request, by `prepare`.
    const char *method;
    char *url;                  // freed when the transfer is released
    struct curl_slist *headers; // likewise
    struct transfer_body body;
    bool has_body; // with 0 bytes too
    enum transfer_sink sink;
    struct buf *out;
    uint64_t skip; // if the status is 200: bytes left out before `keep`; for servers that take no
    uint64_t keep; //   ranges. UINT64_MAX: all
    enum err (*prepare)(struct transfer *x);
    void (*done)(struct transfer *x); // on the thread; x may be queued again or freed there
    const atomic_bool *cancelled;     // may be NULL
    bool farewell;       // goes out even though cancelled or closing: tidies up at the other end
    uint64_t not_before; // mono ns

    // The answer.
    enum err e; // ERR_OK: there is a whole one; ERR_CLOSED: cancelled; ERR_TOO_BIG: does not fit;
                // ERR_NETWORK: see code and error; or what prepare returned
    CURLcode code;
    char error[CURL_ERROR_SIZE];
    bool stalled;      // ended for moving nothing
    unsigned sent;     // times that the request went out: libcurl repeats it by itself when a
                       // connection kept from before turns out to be closed
    unsigned status;   // 0 if no answer began
    char etag[128];    // without quotes
    char type[64];     // Content-Type
    char region[64];   // x-amz-bucket-region
    char sum[16];      // x-amz-meta-varve-crc32c; "" if none
    bool marked;       // has a header that only S3 has
    int64_t date;      // seconds since 1970, -1 if none
    uint64_t length;   // Content-Length, UINT64_MAX if none
    uint64_t total;    // of Content-Range, UINT64_MAX if none
    uint64_t received; // bytes of the body
    bool same;         // TRANSFER_COMPARE
    struct buf answer;

    // The thread's own.
    struct transfer *next;
    CURL *easy;
    struct transfer_cursor cursor;
    uint64_t moved_ns;
    size_t out_start; // bytes that `out` had before
    bool no_room;
};

struct transfers;

struct transfers_options {
    struct os *os;
    unsigned connections;
    unsigned timeout_ms;
    bool direct;         // through no proxy, whatever the environment says
    const char *ca_file; // "" the system's; copied
};

struct transfers_stats {
    uint64_t connects;
    uint64_t bytes_out; // of bodies
    uint64_t bytes_in;
};

MUST_USE enum err transfers_new(struct transfers **h, const struct transfers_options *o,
                                struct errmsg *msg);
// Ends what is under way with ERR_CLOSED, all but farewells, joins the thread, frees.
void transfers_free(struct transfers *h);
// Hands a transfer over; `done` will be called. Any thread. After transfers_free began it ends at
// once.
void transfers_start(struct transfers *h, struct transfer *x);
// Looks at the transfers' `cancelled` flags soon. Any thread, after what is meant was handed over.
void transfers_cancelled(struct transfers *h);
// From now on who moves no byte for a second is given up. Any thread.
void transfers_hurry(struct transfers *h);
// For a transfer of one's own on the thread, from `done`: the same without a detour.
void transfers_queue(struct transfers *h, struct transfer *x);
// Any thread.
void transfers_get_stats(struct transfers *h, struct transfers_stats *out);
// Frees what a transfer holds; its struct is the caller's.
void transfer_release(struct transfer *x);

// Copies up to `n` bytes from where the cursor stands, moves it, returns how many.
size_t transfer_body_read(const struct transfer_body *b, struct transfer_cursor *c, char *to,
                          size_t n);
struct transfer_cursor transfer_body_start(const struct transfer_body *b);

#endif
