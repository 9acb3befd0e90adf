// What the files of the HTTP edge share.
//
//   http.c   a connection's requests one after another: framing, deadlines, waiting
//   head.c   finds and parses a request's head
//   chunk.c  takes the chunking out of a body, in place
//   query.c  the path's segments and the arguments after '?'
//   body.c   JSON bodies, and the members of their objects
//   reply.c  writes replies
//   keys.c   get, delete and list
//   txn.c    put and txn: JSON to operations and back
//   job.c    work that blocks, done on a reader thread
//   log*.c   logs; see log_int.h
//   rel*.c   relations; see rel_int.h
//   work.c   the memory a request with a JSON body needs, kept for the next
#ifndef VARVE_EDGE_HTTP_HTTP_INT_H
#define VARVE_EDGE_HTTP_HTTP_INT_H

#include "base/json.h"
#include "base/limits.h"
#include "commit/commit.h"
#include "edge/http/http.h"
#include <pthread.h>
#include <stdatomic.h>

#define HTTP_HEAD_MS 5000u   // from the first byte of a head to its end
#define HTTP_BODY_MS 30000u  // a body that makes no progress
#define HTTP_IDLE_MS 300000u // between requests

// ---- head.c ----

// How far the search for the end of a head has come; all zero at a request's start.
struct head_scan {
    uint32_t at;           // bytes looked at
    uint32_t line;         // where the line under way begins
    uint32_t request_line; // bytes of the first line, 0 until its end was seen
    uint32_t size;         // bytes of the whole head, 0 until its end was seen
};

// Header fields that are looked at; others are passed over.
enum head_field {
    FIELD_HOST,
    FIELD_ORIGIN,
    FIELD_EXPECT,
    FIELD_TRACE,       // X-Varve-Trace
    FIELD_IDEMPOTENCY, // Idempotency-Key
    FIELD_LAST_EVENT,  // Last-Event-ID
    FIELD_LENGTH,      // Content-Length
    FIELD_ENCODING,    // Transfer-Encoding
    FIELD_CONNECTION,  // the only one that may come twice
    FIELD_COUNT
};

enum head_method {
    METHOD_GET,
    METHOD_HEAD,
    METHOD_POST,
    METHOD_PUT,
    METHOD_DELETE,
    METHOD_OPTIONS,
    METHOD_OTHER, // known, but no path takes it
    METHOD_UNKNOWN,
};

// A parsed head; slices point into its bytes.
struct head {
    enum head_method method;
    bool old; // HTTP/1.0
    bool chunked;
    bool close; // options of Connection
    bool keep;
    bool keep_alive; // what follows from them and the version
    uint64_t length; // 0 without
    struct slice target;
    unsigned given; // bit 1 << enum head_field
    struct slice field[FIELD_COUNT];
};
static inline bool head_has(const struct head *h, enum head_field f)
{
    return h->given >> f & 1;
}
// True if s is `lower` (letters, digits, ':', '/' and '-') in any case.
bool slice_is_nocase(struct slice s, const char *lower);

// These return 0 or the status with which the request is refused, and then say why in msg.
// Looks for the end of the head in `in`, which grows between calls. Lines end in CRLF, nothing
// else, and are not folded.
MUST_USE unsigned head_find(struct head_scan *s, struct slice in, struct errmsg *msg);
// `text` is a whole head as head_find found it.
MUST_USE unsigned head_parse(struct head *h, struct slice text, struct errmsg *msg);

// True if a line (without its end) holds no control character but tabs.
bool line_clean(struct slice line);

// The value of a hexadecimal digit, or -1.
static inline int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// ---- chunk.c ----

struct chunk_decoder {
    size_t head;  // bytes before the body, which stay in front of it
    size_t write; // end of the decoded bytes, counted from the buffer's start
    size_t read;  // next byte to decode, likewise; write <= read
    uint64_t left;
    uint32_t trailer; // bytes of trailer fields seen
    uint8_t state;
};
// 0 and *done: head and decoded body now lie next to each other at the buffer's start, what came
// after them follows. 0 without: all input is taken, more is needed. Otherwise the status.
MUST_USE unsigned chunk_decode(struct chunk_decoder *d, struct buf *in, size_t body_max, bool *done,
                               struct errmsg *msg);

// ---- work.c ----

// Bytes of w->ids at most: a page of members, one more, and slack for who unpacks in steps.
#define WORK_IDS (8u * (LIMIT_REL_PAGE + 1) + (64u << 10))

struct arena_block;
// Memory for one request with a JSON body, or many ids in its reply. The JSON tree, operations,
// arena bytes and ids live until work_put.
struct http_work {
    struct http_work *next;
    struct json_parser *json;
    struct txn_op *ops;
    size_t cap;     // of ops
    struct buf ids; // packed ids on their way into a reply; empty in the pool
    struct arena_block *blocks;
    size_t arena_bytes; // of all blocks, at most arena_max
    size_t arena_max;
};
// NULL when memory is out.
struct http_work *work_get(struct http *h);
void work_put(struct http *h, struct http_work *w);
void work_free(struct http_work *w);
// `n` operations, not initialised; false when memory is out.
bool work_ops(struct http_work *w, size_t n);
// 16-byte aligned; NULL when memory is out. work_trim gives the end of the newest piece back.
void *work_alloc(struct http_work *w, size_t n);
void work_trim(struct http_work *w, size_t unused);

// ---- http.c ----

struct http {
    struct http_options o;
    struct protocol protocol;
    pthread_mutex_t lock; // guards `idle`
    struct http_work *idle;
};

enum http_phase {
    PHASE_HEAD,   // waits for the end of a head
    PHASE_LENGTH, // the head is there; waits for body_len bytes
    PHASE_CHUNKS, // likewise, for the last chunk
    PHASE_READY,  // all is there; the request waits for the commit room
};
enum http_timer { TIMER_NONE, TIMER_IDLE, TIMER_HEAD, TIMER_BODY, TIMER_TAIL };

struct job;
struct tail;
// A connection's state; zero is a new one.
struct http_conn {
    uint8_t phase;
    uint8_t timer;
    enum err wait_err; // how what the request waited for ended; set before conn_resume
    struct job *job;   // under way on a reader thread, or done
    struct tail *tail; // what the connection is taken by, to its end
    struct head_scan scan;
    size_t body_len;
    struct chunk_decoder chunk;
};

struct route;
// A request being answered; on the stack of on_input.
struct request {
    struct http *http;
    struct conn *conn;
    struct http_conn *state;
    struct head head;
    const struct route *route; // NULL: none
    unsigned methods;          // that the path takes: bits 1 << enum head_method
    struct slice path;
    struct slice query;
    struct slice body;
    uint8_t *scratch; // LIMIT_HTTP_URL bytes for what is decoded of the target
    // the reply
    struct buf *out;
    uint64_t dep;     // may leave when this is durable
    uint64_t seq;     // for X-Varve-Sequence; 0: dep
    size_t begin;     // where the reply, its length field and its body begin, from out->start
    size_t length_at; // 0: a reply without a body
    size_t seq_at;    // 0: without X-Varve-Sequence
    size_t body_at;
    enum err failed; // the first failed append
};

// Answers or returns CONN_WAIT after it has arranged for conn_resume; then it is called again.
typedef enum conn_verdict (*route_fn)(struct request *rq);
struct route {
    const char *path;        // in tree_routes[], '*' stands for a segment
    enum head_method method; // GET includes HEAD
    bool writes;             // failures say "result":"Failure"
    route_fn run;
    bool bare; // POST, PUT: goes without a body too. DELETE: goes with one too
};

// Waits for commit_fetch of these keys, or for room.
enum conn_verdict request_fetch(struct request *rq, const struct key_ref *keys, size_t count);
enum conn_verdict request_txn_fetch(struct request *rq, const struct txn *t);
struct rel_ref; // commit/rel.h
enum conn_verdict request_rel_fetch(struct request *rq, const struct rel_ref *lists, size_t count);
enum conn_verdict request_room(struct request *rq);

// ---- job.c ----

// Work that blocks. It belongs to the connection from job_start to job_take; a reader thread has it
// to itself until conn_resume. The first member of each kind of job.
struct job {
    struct conn *conn;
    struct commit *commit;
    void (*run)(struct job *j);  // on a reader thread
    void (*free)(struct job *j); // frees all of it
    atomic_bool done;
    // the answer
    enum err e;
    struct errmsg msg;
    uint64_t dep;
};
// Hands it over; returns CONN_WAIT. The rest of *j is the caller's to fill.
enum conn_verdict job_start(struct request *rq, struct job *j);
void job_hand_over(struct conn *c, struct commit *commit, struct job *j);
// The job that has ended, now the caller's; NULL: there is none.
struct job *job_take(struct request *rq);

// ---- query.c ----

// Takes a segment, decoded into the request's scratch, off what is left of its path: "/NAME...".
// `what` names it in the 400.
MUST_USE unsigned path_segment(struct request *rq, struct slice *path, const char *what,
                               struct slice *name, struct errmsg *msg);
// Decodes %XX, and with `plus` '+' to a blank, into `to` (s->n bytes at most); false at a bad %XX.
bool percent_decode(struct slice *s, uint8_t *to, bool plus);

struct param {
    const char *name;
    bool required;
    bool given;
    struct slice value;
};
// Fills the params from the request's query: name=value joined by '&', %XX for any byte, '+' for a
// space. 400 for an unknown, repeated or missing name or a bad %.
MUST_USE unsigned query_parse(const struct request *rq, struct param *params, size_t count,
                              struct errmsg *msg);
// A parameter that is a whole number within bounds.
MUST_USE unsigned query_number(const struct param *p, uint64_t min, uint64_t max, uint64_t *v,
                               struct errmsg *msg);
// true or false; false if it is not given.
MUST_USE unsigned query_bool(const struct param *p, bool *v, struct errmsg *msg);

// ---- body.c ----

// Parses the request's body, which may not be empty, into the work's tree. 400, 413, 503.
MUST_USE unsigned body_parse(const struct request *rq, struct http_work *w, struct json *root,
                             struct errmsg *msg);
struct json_member {
    const char *name;
    bool given;
    struct json v;
};
// Fills the members from an object: 400 for an unknown or repeated one. `what` names the object.
MUST_USE unsigned body_members(struct json object, const char *what, struct json_member *m,
                               size_t count, struct errmsg *msg);

// ---- reply.c ----

#define TYPE_JSON "application/json"
#define TYPE_TEXT "text/plain; charset=utf-8"

// Formats msg and returns status, so callers can `return refuse(...)`.
unsigned refuse(struct errmsg *msg, unsigned status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// A key for an error text: cut after 64 bytes; control characters, and what is not UTF-8, as \xNN.
#define KEY_TEXT 300
const char *key_text(struct slice key, char text[KEY_TEXT]);

// The head of a reply; `extra` is more header lines, each with its CRLF, or NULL. The body is what
// is appended to rq->out until reply_end.
void reply_begin(struct request *rq, unsigned status, const char *type, const char *extra);
// Fills in what only now is known. ERR_NO_MEMORY, ERR_TOO_BIG: nothing was appended.
MUST_USE enum err reply_end(struct request *rq);
// A whole reply without a body (204).
void reply_empty(struct request *rq, unsigned status, const char *extra);
void reply_error(struct request *rq, unsigned status, const char *text, const char *extra);
// A refusal, which ends the request.
enum conn_verdict reply_refused(struct request *rq, unsigned status, const struct errmsg *m);
// The status and text that go with `e`; msg, if it holds text, is more exact.
void reply_err(struct request *rq, enum err e, const struct errmsg *msg);
// Parts of a body.
void reply_uint(struct request *rq, uint64_t v);
void reply_bytes(struct request *rq, struct slice s);
void reply_value(struct request *rq, const struct value_view *v);
// The same for any buffer: a string if it is UTF-8, otherwise an array of byte values.
MUST_USE enum err json_put_bytes(struct buf *b, struct slice s);
MUST_USE enum err json_put_value(struct buf *b, const struct value_view *v);

static inline void reply_note(struct request *rq, enum err e)
{
    if (e && !rq->failed)
        rq->failed = e;
}

// Inline, so that a literal's length is known.
static inline void reply_text(struct request *rq, const char *s)
{
    size_t n = strlen(s);
    enum err e = buf_reserve(rq->out, n);
    if (e)
        reply_note(rq, e);
    else
        buf_put(rq->out, s, n);
}

// ---- keys.c, txn.c ----

#define LIST_PAGE    (4u << 20) // bytes after which a listing's page ends early
#define LIST_DEFAULT 1000u      // entries of it
// Arbitrary, but kept for ever: hashes of requests outlive the process.
#define REQUEST_SEED 0x76617276652d7478ull

enum conn_verdict route_get(struct request *rq);
enum conn_verdict route_delete(struct request *rq);
enum conn_verdict route_list(struct request *rq);
enum conn_verdict route_put(struct request *rq);
enum conn_verdict route_txn(struct request *rq);
// Takes the request's idempotency key.
MUST_USE unsigned read_idempotency(struct slice key, struct txn *t, struct errmsg *msg);
#define REPLAYED "Idempotent-Replayed: true\r\n"
// The reply to a failed commit_txn, or the wait for what it needs.
enum conn_verdict txn_failed(struct request *rq, const struct txn *t, enum err e,
                             const struct errmsg *msg);

#endif
