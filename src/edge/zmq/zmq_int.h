// What the files of the ZeroMQ edge know of each other: socket.c (the socket and its thread),
// client.c (who asked, in which order, and what waits), execute.c (the commands), stream.c
// (events).
#ifndef VARVE_EDGE_ZMQ_ZMQ_INT_H
#define ALONE_AFTER 16u // kicks in a row for one client that waits for its reply
#define VARVE_EDGE_ZMQ_ZMQ_INT_H

#include "base/limits.h"
#include "commit/log.h"
#include "edge/zmq/call.h"
#include "edge/zmq/zmq.h"

#include <pthread.h>
#include <stdatomic.h>
#include <zmq.h>

// Frames of a message that are kept: the envelope (the sender's identity, those of proxies between,
// an empty delimiter) and the request.
#define FRAMES_MAX     8u
#define CLIENT_BUCKETS 1024u

enum request_state {
    REQUEST_READY,   // to be run, or run again
    REQUEST_WAITING, // a thread of the commit room has it
    REQUEST_DONE,    // has its reply, which leaves when `dep` is durable
};

// One message, from arrival until its reply is handed to libzmq. Belongs to the edge's thread,
// except while it waits.
struct request {
    struct request *next;  // of the same client
    struct request *woken; // in the stack of those whose wait has ended
    struct zmq_edge *edge;
    struct client *client;
    enum request_state state;
    bool answered;        // WAITING: it comes back with its reply
    enum err wait_error;  // how the wait ended
    unsigned envelope;    // frames[0 .. envelope) come before the reply as they came
    unsigned frame_count; // frames in use
    size_t charged;       // bytes that it counts for in the queue
    uint64_t dep;
    struct call call; // points into frames[envelope]
    zmq_msg_t frames[FRAMES_MAX];
    zmq_msg_t reply; // DONE, or answered
};

// Requests of one identity: run in order, answered in order.
struct client {
    struct client *next;           // in its bucket
    struct client *before, *after; // among all
    struct request *first, *last;  // queued
    struct request *run;           // the first that is not DONE
    size_t requests, bytes;        // queued
    _Atomic size_t unread;         // bytes of large replies that libzmq holds. Any thread
    size_t unread_seen;            // when it was looked at last, to see progress
    uint64_t stalled_ns;           // since when it takes no replies; 0: it does
    uint64_t hash;
    uint8_t identity_len;
    uint8_t identity[];
};

struct zmq_edge {
    struct zmq_options o;
    void *context, *socket;
    int wake; // eventfd
    pthread_t thread;
    bool started;

    // Of the thread.
    struct client *buckets[CLIENT_BUCKETS];
    struct client *clients; // all of them
    uint64_t hash_seed;
    size_t bytes;    // of what is queued
    uint64_t lone;   // the client that was the only one at the last kick, as its hash
    unsigned streak; // how many kicks in a row
    bool wrote;      // something was handed to the log since the last kick
    bool stalled;    // a client takes no replies: try again in a while
    bool waits_durable;

    // Between threads.
    _Atomic(struct request *) woken; // their waits have ended; pushed by any, taken by the thread
    _Atomic bool armed;              // the thread wants to know of what becomes durable
    _Atomic bool stopping;
    _Atomic uint64_t deadline_ns;
    _Atomic size_t requests; // queued
    _Atomic size_t unread;   // of all clients together

    // Metrics.
    _Atomic uint64_t commands[VARVE_ZMQ_COMMAND_COUNT];
    _Atomic uint64_t malformed, errors, dropped;

    struct lock_file *locks; // of ipc endpoints
};

static inline struct slice frame_slice(zmq_msg_t *m)
{
    return slice_of(zmq_msg_data(m), zmq_msg_size(m));
}

// ---- client.c. On the edge's thread.

// NULL: memory is out.
struct client *client_get(struct zmq_edge *z, struct slice identity);
void client_push(struct client *c, struct request *q);
// Runs what can be run and sends what may leave, of every client; forgets clients without anything.
void clients_work(struct zmq_edge *z);
// Frees everything that is queued, also what still waits: no other thread has it any more.
void clients_free(struct zmq_edge *z);
void request_free(struct request *q);

// ---- execute.c. A request that is not DONE afterwards is WAITING.

void request_run(struct request *q);
// Ends a wait; any thread. The request is the edge's again.
void request_wake(struct request *q);
// For commit_fetch and commit_wait_room: arg is the request.
void request_woken(void *arg, enum err e);
// Hands the request to fn on a thread that may read the disk; fn gives it its reply, then
// request_wake.
void request_background(struct request *q, void (*fn)(void *arg));

// True if e is ERR_COLD or ERR_FULL of a transaction: the request waits, or has its reply.
bool request_retry(struct request *q, const struct txn *t, enum err e);

// Replies; any thread that has the request. Begins one with `n` bytes after the status; NULL: there
// is no memory, and the reply says so.
uint8_t *answer_begin(struct request *q, size_t n);
void answer_error(struct request *q, const char *text);
void answer_fail(struct request *q, enum err e, const struct errmsg *msg);

// A reply in memory of its own, which libzmq takes and frees when it has left.
struct parcel {
    struct zmq_edge *edge; // it counts for the `unread` of both
    struct client *client;
    size_t size; // of bytes
    uint8_t bytes[];
};
// Takes `p`, whose size and bytes are set: the whole reply with its status. False: there is no
// memory, and the reply says so.
bool answer_parcel(struct request *q, struct parcel *p);

// ---- stream.c

void stream_put(struct request *q);
void stream_get(struct request *q);
void stream_delete(struct request *q);
void stream_trim(struct request *q);
// Makes the keyspace if it is missing and sets its retention.
MUST_USE enum err stream_prepare(struct zmq_edge *z, struct errmsg *msg);

// ---- socket.c

// Hands the reply to libzmq. ERR_AGAIN: the peer's queue is full, nothing was sent. ERR_OK also if
// the peer is gone.
MUST_USE enum err socket_send(struct zmq_edge *z, struct request *q);

#endif
