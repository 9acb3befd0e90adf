// What the files of the binary edge know of each other: frame.c (parsing), binary.c (batches,
// single keys), job.c (what may block), txn.c, list.c, log.c, log_append.c, log_read.c, log_tail.c,
// rel.c, rel_change.c, rel_query.c.
#ifndef VARVE_EDGE_BINARY_BINARY_INT_H
#define VARVE_EDGE_BINARY_BINARY_INT_H

#include "commit/log.h"
#include "commit/rel.h"
#include "edge/binary/binary.h"
#include "edge/binary/frame.h"

// First byte of the replies to types from FRAME_FIRST_STATUS up.
enum status { STATUS_OK, STATUS_MISSING, STATUS_CONFLICT, STATUS_ERROR };

struct binary {
    struct binary_options o;
    struct frame_limits limits;
    struct protocol protocol;
};

// A connection's state. While it waits, the thread that it waits for owns wait_error and *job.
struct session {
    enum err wait_error;    // how the wait for the request at the head of the input ended
    uint32_t rounds;        // of fetching lists for that request
    struct binary_job *job; // of a request no longer in the input, whose reply is due next
    struct tail *tail;      // a LOG_TAIL under way, no longer in the input
};

// A request that may read the disk, so it runs on a thread of the commit room, while the connection
// waits. It has copies of all it needs. First member of what each kind of request needs besides.
struct binary_job {
    struct conn *c; // held while it runs
    struct commit *commit;
    enum frame_type type;
    void (*run)(struct binary_job *j); // there; sets e, msg, dep. Again after ERR_FULL
    enum conn_verdict (*reply)(struct binary_job *j); // on the loop, afterwards
    void (*release)(struct binary_job *j);            // on the loop; frees it
    // For jobs that do not block: brings in what made them end with ERR_COLD, then calls done, and
    // they run again. On the loop. NULL: there are none.
    enum err (*fetch)(struct binary_job *j, void (*done)(void *arg, enum err e), void *arg);
    // The answer.
    enum err e;
    struct errmsg msg;
    uint64_t dep;
    bool again; // it waits for room or for what was cold, to run again
};

struct request {
    struct frame frame;
    union {
        struct key_ref ref;  // GET, DELETE, SET, VGET
        struct rel_ref list; // binary_rel_has_list; relation NULL: to be looked up yet
    };
};

// Requests looked at together. More of REL_ADD and REL_REMOVE: the more of them are one
// transaction, the fewer locks each takes; others gain nothing from it, and push each other out of
// the cache.
#define BATCH         128
#define BATCH_CHANGES 512

#define BINARY_ROUNDS 100u // of fetching lists for one request

// A reply under way, for binary_reply_begin and binary_reply_end.
struct binary_reply {
    struct conn *c;
    uint64_t mark;
    size_t start; // in conn_out, counted from its start
};

// binary.c. A reply is begun (its length left open), appended to, and then ended, or cut off as if
// it had never begun.
MUST_USE enum err binary_reply_begin(struct conn *c, struct binary_reply *r);
void binary_reply_end(const struct binary_reply *r, uint64_t dep);
void binary_reply_cut(const struct binary_reply *r);
// A whole reply of a type that has a status.
MUST_USE enum conn_verdict binary_answer(struct conn *c, enum status status, const void *p,
                                         size_t n, uint64_t dep);
// Answers with an error: in the reply's status where the type has one; otherwise as the last reply
// of the connection.
MUST_USE enum conn_verdict binary_fail(struct conn *c, enum frame_type type, enum err e,
                                       const struct errmsg *msg, uint64_t dep);
// Waits for keys to be read, or for room; the request is executed again when they are there.
MUST_USE enum conn_verdict binary_fetch(struct conn *c, enum frame_type type,
                                        const struct key_ref *keys, size_t count);
MUST_USE enum conn_verdict binary_txn_fetch(struct conn *c, enum frame_type type,
                                            const struct txn *t);
// How often that was for lists, for the request at the head of the input: a transaction begins with
// it, so that lists which push each other out of memory end in an error.
uint32_t binary_rounds(struct conn *c);
// After BINARY_ROUNDS in vain it answers that the lists do not fit memory.
MUST_USE enum conn_verdict binary_rel_fetch(struct conn *c, enum frame_type type,
                                            const struct rel_ref *lists, size_t count);
MUST_USE enum conn_verdict binary_wait_room(struct conn *c, enum frame_type type);
// An argument of fixed size; longer ones the parser has refused.
MUST_USE enum err binary_need_size(const struct frame *f, unsigned arg, size_t size,
                                   const char *what, struct errmsg *msg);

// txn.c
MUST_USE enum conn_verdict binary_txn(struct conn *c, const struct frame *f);

// list.c
MUST_USE enum conn_verdict binary_list(struct conn *c, const struct frame *f);

// job.c. Starts a job, which from here on belongs to the session: CONN_WAIT, the frame can be
// consumed. Otherwise it has failed and is released.
MUST_USE enum conn_verdict binary_job_start(struct conn *c, struct binary_job *j);
MUST_USE enum conn_verdict binary_job_reply(struct conn *c); // session.job has run
void binary_job_release(struct binary_job *j);               // NULL is none

// log.c: keyspaces and all about a log but its records.
MUST_USE enum conn_verdict binary_log(struct conn *c, const struct frame *f);
// Gives the log that a request's first two arguments name. ERR_INVALID: one is empty.
MUST_USE enum err binary_log_name(const struct frame *f, struct log_name *name, struct errmsg *msg);
// Status 1 for ERR_MISSING, waits for room, or status 3.
MUST_USE enum conn_verdict binary_log_fail(struct conn *c, enum frame_type type, enum err e,
                                           const struct errmsg *msg, uint64_t dep);

// log_append.c. Records as a request holds them are checked and counted, then decoded (the inputs
// point into `in`; gives the count again).
MUST_USE enum conn_verdict binary_append(struct conn *c, const struct frame *f);
MUST_USE enum err binary_records_count(struct slice in, size_t *count, struct errmsg *msg);
size_t binary_records_decode(struct slice in, struct log_input *records);

// log_read.c
MUST_USE enum conn_verdict binary_read(struct conn *c, const struct frame *f);
// The query of a LOG_READ or LOG_TAIL, pointing into the frame. A tail from the end has
// LOG_START_END in q->from.start.
#define LOG_START_END 4u
MUST_USE enum err binary_query(const struct frame *f, struct log_query *q, struct errmsg *msg);
// Bytes that q points to, and a copy of q that points to `bytes` instead.
size_t binary_query_bytes(const struct log_query *q);
struct log_query binary_query_copy(const struct log_query *q, uint8_t *bytes);
// Appends a page as a reply; `flags` beside those that the page itself says.
enum { PAGE_TRUNCATED = 1, PAGE_MORE = 2, PAGE_END = 4 };
MUST_USE enum conn_verdict binary_put_page(struct conn *c, struct log_page *page, unsigned flags,
                                           uint64_t dep);

// log_tail.c
MUST_USE enum conn_verdict binary_tail(struct conn *c,
                                       const struct frame *f); // begins session.tail
// Goes on with session.tail. CONN_MORE: it waits for records, for the client to read, or, if
// session.tail is NULL now, has ended.
MUST_USE enum conn_verdict binary_tail_run(struct conn *c);
MUST_USE enum conn_verdict binary_tail_idle(struct conn *c); // the deadline has passed
void binary_tail_dead(struct conn *c);
void binary_tail_release(struct tail *t); // NULL is none

// rel.c: relations, and one list of them. A batch's lists are looked up before the batch runs.
static inline bool binary_rel_has_list(enum frame_type type)
{
    return type >= FRAME_REL_ADD && type <= FRAME_REL_CONTAINS && type != FRAME_REL_EDIT;
}
static inline bool binary_rel_changes(enum frame_type type)
{
    return type == FRAME_REL_ADD || type == FRAME_REL_REMOVE;
}
void binary_rel_look_up(const struct binary *b, struct request *q);
// Any of them but REL_ADD and REL_REMOVE; `count` requests begin at q.
MUST_USE enum conn_verdict binary_rel(struct conn *c, const struct request *q, size_t count);
// Bits of the flags argument.
enum { REL_FLAG_REVERSE = 1, REL_FLAG_RELAXED = 2 };
MUST_USE enum err binary_rel_flags(const struct frame *f, unsigned arg, uint32_t allowed,
                                   uint32_t *flags, struct errmsg *msg);
// Packed ids; at most `max` of them.
MUST_USE enum err binary_rel_ids(const struct frame *f, unsigned arg, const char *what, size_t max,
                                 struct errmsg *msg);
// The page argument; `order` is checked to lie between low and high.
struct rel_page_arg {
    unsigned order;
    bool reverse, has_after;
    uint64_t after;
    uint32_t limit; // 1 to LIMIT_REL_PAGE
};
MUST_USE enum err binary_rel_page_arg(const struct frame *f, unsigned arg, unsigned low,
                                      unsigned high, struct rel_page_arg *p, struct errmsg *msg);

// rel_change.c. REL_ADD and REL_REMOVE: executes also those behind q that are like it; *before says
// how many were answered before the one that the verdict is about.
MUST_USE enum conn_verdict binary_rel_change(struct conn *c, const struct request *q, size_t count,
                                             size_t *before);
MUST_USE enum conn_verdict binary_rel_edit(struct conn *c, const struct frame *f);

// rel_query.c
MUST_USE enum conn_verdict binary_rel_many(struct conn *c, const struct frame *f);
MUST_USE enum conn_verdict binary_rel_combine(struct conn *c, const struct frame *f);
MUST_USE enum conn_verdict binary_rel_froms(struct conn *c, const struct frame *f);

#endif
