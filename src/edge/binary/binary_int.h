// What the files of the binary edge know of each other: frame.c (parsing), binary.c (batches,
// single keys), txn.c, list.c.
#ifndef VARVE_EDGE_BINARY_BINARY_INT_H
#define VARVE_EDGE_BINARY_BINARY_INT_H

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
    enum err wait_error;  // how the wait for the request at the head of the input ended
    struct list_job *job; // a LIST, no longer in the input, whose reply is due next
};

struct request {
    struct frame frame;
    struct key_ref ref; // GET, DELETE, SET, VGET
};

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
// Answers with an error: in the reply's status where the type has one; otherwise as the last reply
// of the connection.
MUST_USE enum conn_verdict binary_fail(struct conn *c, enum frame_type type, enum err e,
                                       const struct errmsg *msg, uint64_t dep);
// Waits for keys to be read, or for room; the request is executed again when they are there.
MUST_USE enum conn_verdict binary_fetch(struct conn *c, enum frame_type type,
                                        const struct key_ref *keys, size_t count);
MUST_USE enum conn_verdict binary_txn_fetch(struct conn *c, enum frame_type type,
                                            const struct txn *t);
MUST_USE enum conn_verdict binary_wait_room(struct conn *c, enum frame_type type);

// txn.c
MUST_USE enum conn_verdict binary_txn(struct conn *c, const struct frame *f);

// list.c. CONN_WAIT means: a job has been started, the frame can be consumed.
MUST_USE enum conn_verdict binary_list(struct conn *c, const struct frame *f);
MUST_USE enum conn_verdict binary_list_reply(struct conn *c); // session.job has ended
void binary_list_free(struct list_job *j);

#endif
