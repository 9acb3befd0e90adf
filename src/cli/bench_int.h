// What the files of the load generator share.
#ifndef VARVE_CLI_BENCH_INT_H
#define VARVE_CLI_BENCH_INT_H

#include "cli/bench.h"
#include <stdatomic.h>

struct bench_thread;

// Requests laid out end to end; all are of one length and differ only in their keys and values.
struct bench_layout {
    struct buf bytes; // one request
    size_t key_at;    // of the first item's key
    size_t value_at;  // of the first item's value; 0: none
    size_t stride;    // from one item's key to the next one's; of an append, from record to record
    size_t number_at; // logs: of what tells the first record asked for; INTERSECT: the other list;
                      // 0: none
    size_t items;
    size_t value_size;
    bool uuid;
    bool base64; // etcd: keys and values are written in base64
};

// A page of a log that is being taken.
struct bench_page {
    bool inside;       // its head has come
    bool last;         // of its request
    size_t left;       // bytes that are still to come; of redis, entries
    uint64_t records;  // taken
    uint64_t number;   // of the next one
    const char *wrong; // what is wrong with it, NULL if nothing
};

struct bench_conn {
    struct bench_thread *thread;
    int fd;
    bool wants_out;
    uint64_t id;      // 0.. over all threads
    uint64_t left;    // requests to make; UINT64_MAX: no end
    uint64_t next;    // sequential keys or records
    uint64_t batch;   // requests under way
    uint64_t done;    // of them answered
    uint64_t sent_ns; // when the batch was written
    uint8_t *out;     // `pipeline` requests
    size_t out_len;
    size_t out_at;
    struct buf part; // the beginning of a reply whose end has not come
    struct bench_page page;
    // BENCH_INCREMENT
    bool putting;
    bool resend; // out holds a further request of the same batch
    bool known;  // `number` is what the server must answer
    int64_t number;
    uint64_t version;
    uint64_t key; // for its own key
};

// Takes complete replies from p[0..n) and returns how many bytes they were; BENCH_BAD when what
// came cannot be a reply. Adds to thread->counts and conn->done.
typedef size_t (*bench_take)(struct bench_conn *c, const uint8_t *p, size_t n);
#define BENCH_BAD ((size_t)-1)

// The head of the last HTTP reply: servers repeat it byte for byte, so that comparing is parsing.
struct bench_http_head {
    uint8_t bytes[1024];
    size_t n;
    size_t body;
    unsigned status;
};

struct bench_thread {
    const struct bench_spec *spec;
    const struct bench_layout *layout;
    bench_take take;
    struct bench_conn *conns;
    size_t count;
    size_t open;
    int epfd;
    uint8_t *in;
    size_t in_cap;
    uint64_t random[2];
    struct bench_http_head head;
    struct bench_counts counts;
    struct histogram latency;
    uint64_t begin_ns; // of what is measured
    uint64_t end_ns;
    char error[BENCH_ERROR];
    _Atomic uint64_t live; // requests so far, for the progress line
    struct bench_shared *shared;
    bool failed_to_start;
};

// Lays out one request. Release with buf_release(&l->bytes).
MUST_USE enum err bench_layout_init(struct bench_layout *l, const struct bench_spec *spec);
// Writes the keys and values of the next `conn->batch` requests.
void bench_fill(struct bench_conn *c);
// Where the key of request `i` of the batch stands.
static inline const uint8_t *bench_key(const struct bench_conn *c, uint64_t i)
{
    const struct bench_layout *l = c->thread->layout;
    return c->out + i * buf_len(&l->bytes) + l->key_at;
}
// The key text of number n: BENCH_KEY bytes.
void bench_put_key(uint8_t *p, uint64_t n);

size_t bench_take_binary(struct bench_conn *c, const uint8_t *p, size_t n);
size_t bench_take_resp(struct bench_conn *c, const uint8_t *p, size_t n);
size_t bench_take_echo(struct bench_conn *c, const uint8_t *p, size_t n);
size_t bench_take_http(struct bench_conn *c, const uint8_t *p, size_t n); // and etcd
size_t bench_take_increment(struct bench_conn *c, const uint8_t *p, size_t n);
// Prepares the get that begins an increment.
void bench_fill_increment(struct bench_conn *c);
// Bytes that bench_fill_increment and bench_take_increment may write to conn->out.
#define BENCH_INCREMENT_OUT 512

// ---- logs

MUST_USE enum err bench_layout_log(struct bench_layout *l, const struct bench_spec *s);
// Makes the keyspace.
MUST_USE enum err bench_prepare_logs(const struct bench_spec *s, struct errmsg *msg);
void bench_fill_log(struct bench_conn *c);
// The number of the first record that the next unanswered request of the batch is about.
uint64_t bench_asked(const struct bench_conn *c);
size_t bench_take_log(struct bench_conn *c, const uint8_t *p, size_t n);

// ---- relations

MUST_USE enum err bench_layout_rel(struct bench_layout *l, const struct bench_spec *s);
void bench_fill_rel(struct bench_conn *c);
size_t bench_take_rel(struct bench_conn *c, const uint8_t *p, size_t n);

// ---- shared

uint64_t bench_random_below(struct bench_thread *t, uint64_t n);
// A line's number after its first byte: "$12\r\n", ":1\r\n". 0 if the line is not all there, else
// the bytes of the line; BENCH_BAD if it is none.
size_t bench_resp_line(const uint8_t *p, size_t n, int64_t *number);
// The head of an HTTP reply, into t->head: 0 if it is not all there, BENCH_BAD, or its bytes.
size_t bench_http_head(struct bench_thread *t, const uint8_t *p, size_t n);
// Counts an error and keeps the first one's text.
void bench_error(struct bench_thread *t, uint64_t times, const char *what, struct slice detail);

#endif
