// The S3 store's inside: s3.c makes calls of requests, s3_request.c makes requests of attempts,
// transfer.c carries attempts out.
#ifndef VARVE_OBJECT_S3_INT_H
#define VARVE_OBJECT_S3_INT_H

#include "object/credentials.h"
#include "object/transfer.h"
#include "object/object_int.h"
#include "object/sign.h"
#include "object/url.h"
#include "object/xml.h"

enum s3_kind {
#define X(name) S3_##name,
    OBJECT_REQUESTS(X)
#undef X
        S3_KINDS
};

struct s3 {
    struct object_store base;
    struct transfers *transfers;
    struct endpoint endpoint;
    bool in_path; // the bucket stands in the path
    char bucket[64];
    char region[64];
    char host[400]; // the Host header
    bool here;      // the endpoint is on this machine: reached directly, through no proxy
    bool hashes_payload;
    uint64_t retry_ns;
    uint64_t multipart_bytes;
    struct credentials_options sources; // its texts are copies
    atomic_bool hurries;                // nothing is tried again
    atomic_ullong requests[S3_KINDS];
    atomic_ullong retries;
    atomic_ullong fetches;
    // The transfers' thread's.
    struct credentials keys;
    bool has_keys;
    unsigned generation;     // of the keys: how often they came
    uint64_t fetch_at_ns;    // not before this, for what is known
    enum err fetch_e;        // why the last fetch brought none,
    struct errmsg fetch_why; // and what it said
    int64_t clock_offset_ms; // what the endpoint's clock is ahead of ours
    bool answered;           // something that is S3 has answered
    bool bucket_seen;        // and the bucket is there
};

// One request with all its attempts.
struct s3_request {
    struct transfer x; // the first member
    struct s3 *s3;
    // To be set, zero what is not used. x: method, body, has_body, sink, out, cancelled, farewell.
    enum s3_kind kind;
    const char *verb;         // "put", for messages
    const char *name;         // full; NULL: the bucket itself
    const char *query;        // encoded and sorted; NULL: none
    const char *payload_hash; // NULL: of nothing
    bool absent;              // If-None-Match: *
    struct object_sum sum;    // goes with the object
    bool ranged;
    uint64_t offset;
    uint64_t length;       // at least 1; offset + length fits an int64_t
    enum xml_root expects; // of the answer; XML_OTHER: no XML
    bool once;             // one attempt only
    void (*done)(struct s3_request *r);
    void *arg;
    // The result, for `done`.
    enum err e;
    struct errmsg msg;
    char code[64]; // S3's own name of the error, "" if it gave none
    bool unsure;   // an attempt that nobody knows the outcome of came before
    struct xml_answer xml;
    bool has_xml;
    // Its own.
    unsigned tries;
    uint64_t begun_ns;
    unsigned signed_by; // generation of the keys that signed the attempt
    bool renewed;       // it was refused for its keys, and tried again with others
    bool clock_set;     // the clock was set for it
};

// Begins; `done` follows on the transfers' thread. From any thread.
void s3_request_start(struct s3_request *r);
// The same on the transfers' thread.
void s3_request_queue(struct s3_request *r);
void s3_request_release(struct s3_request *r);

#endif
