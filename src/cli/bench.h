// The load generator behind `varve bench`. A closed loop: each connection sends a batch of
// `pipeline` requests in one write, waits for all the replies, and sends the next; a request's
// latency is from the batch's write to the read that brought its reply. Requests are laid out once;
// for each one only the digits of its key are patched, so that one core can drive millions of
// requests a second.
//
// Every reply is checked: status, length and, where the request tells what must come back, the
// value's first bytes. What is not as expected is counted as an error, never as a success.
//
//   bench.c       presets, options, the report
//   bench_run.c   threads, connections, the loop, what is measured when
//   bench_load.c  requests' layout and their keys
//   bench_take.c  replies of the binary protocol, RESP and the echo
//   bench_http.c  replies over HTTP: varve, etcd's JSON gateway; read-then-increment
//   bench_log.c, bench_log_take.c  requests about logs, and their replies
//   bench_rel.c   requests about relations, and their replies
#ifndef VARVE_CLI_BENCH_H
#define VARVE_CLI_BENCH_H

#include "base/buf.h"
#include "base/slice.h"
#include "cli/histogram.h"

enum bench_protocol {
    BENCH_BINARY,
    BENCH_HTTP,
    BENCH_RESP, // redis-server
    BENCH_ETCD, // etcd's JSON gateway
    BENCH_ECHO, // varve-echo: binary requests; replies of 4 + value_size bytes, not looked into
    BENCH_ECHO_HTTP, // varve-echo --http: any 200
    BENCH_PROTOCOLS
};

enum bench_op {
    BENCH_GET,
    BENCH_SET,       // write a key of the key space
    BENCH_DELETE,    // delete a key of the key space
    BENCH_PUT,       // write `items` keys that do not exist yet (random UUIDs)
    BENCH_INCREMENT, // get a number, put it back with 1 added and its version; HTTP only
    // Of logs, and of redis's streams. BENCH_HTTP has READ only, raw pages.
    BENCH_APPEND, // `items` records to a log
    BENCH_READ,   // pages of `items` records, one after another, from the first and over again
    BENCH_TAIL,   // all of a log in one request: LOG_TAIL without `follow`
    BENCH_SEEK,   // a page of one record from a random start
    // Of relations, and of redis's sets.
    BENCH_RELATE,    // add `items` members to a list
    BENCH_MEMBERS,   // a whole list
    BENCH_INTERSECT, // of two lists
    BENCH_OPS
};

extern const char *const bench_protocol_names[BENCH_PROTOCOLS];
extern const char *const bench_op_names[BENCH_OPS];

// What a seek begins with.
enum bench_start { BENCH_BY_OFFSET, BENCH_BY_TIME, BENCH_BY_NONCE, BENCH_STARTS };
extern const char *const bench_start_names[BENCH_STARTS];

static inline bool bench_is_log(enum bench_op op)
{
    return op >= BENCH_APPEND && op <= BENCH_SEEK;
}

static inline bool bench_is_rel(enum bench_op op)
{
    return op >= BENCH_RELATE && op <= BENCH_INTERSECT;
}

enum {
    BENCH_KEY_DIGITS = 12,
    BENCH_KEY = 3 + BENCH_KEY_DIGITS, // "key000000000042"
    BENCH_UUID = 36,
    BENCH_ERROR = 200,
};

// What to run.
struct bench_spec {
    const char *server;
    enum bench_protocol protocol;
    enum bench_op op;
    uint64_t connections;
    uint64_t threads;
    uint64_t pipeline;
    uint64_t items;    // objects in one request of PUT, and of SET over HTTP; records of an append
                       // or a page; members of a RELATE
    uint64_t requests; // each connection makes; 0: run for `duration_ms`
    uint64_t duration_ms;
    uint64_t warmup_ms;
    uint64_t keys; // size of the key space; records in a log; lists of a relation
    uint64_t logs;
    uint64_t members; // of a list
    uint64_t ids;     // of members: those below this
    enum bench_start start;
    uint64_t value_size; // bytes
    uint64_t seed;       // 0: random
    uint64_t server_pid; // 0: unknown
    bool missing;        // GET: random UUIDs, which are not there
    bool sequential;     // SET: every key of the key space once, for loading; APPEND: every record;
                         // RELATE: every member of every list
    bool shared_key;     // INCREMENT: all connections the same key
    bool expect_hits;    // GET: a miss is an error
};

// What was counted, in one thread or in all.
struct bench_counts {
    uint64_t requests; // replies that were as they should be, hits, misses and conflicts together
    uint64_t hits;     // GET: a value; SET and DELETE of the binary protocol: there was one before
    uint64_t misses;
    uint64_t conflicts;
    uint64_t objects; // in those requests; of a page also before all of it has come
    uint64_t errors;  // refused, not as expected, malformed, or lost with a connection
    uint64_t bytes_in;
    uint64_t bytes_out;
};

struct bench_result {
    struct bench_counts counts;
    uint64_t elapsed_ns;
    uint64_t client_cpu_us;
    uint64_t server_cpu_us;   // grain 10 ms
    char error[BENCH_ERROR];  // the first one, for a person
    struct histogram latency; // ns
};

// Runs it. ERR_NETWORK or ERR_NO_MEMORY with msg when it could not even begin or end; errors of
// single requests are counted in the result. `live` (may be NULL) is called about ten times a
// second.
MUST_USE enum err bench_run(const struct bench_spec *spec, struct bench_result *result,
                            void (*live)(void *arg, uint64_t requests), void *arg,
                            struct errmsg *msg);
// Reads the number at a key of the increment run, 0 if it is not there.
MUST_USE enum err bench_read_number(const struct bench_spec *spec, uint64_t key, int64_t *number,
                                    struct errmsg *msg);
// CPU time of a process, from /proc/PID/stat, which counts in 10 ms; 0 if it cannot be read.
uint64_t bench_process_cpu_us(uint64_t pid);

#endif
