// wx_store's protocol over ZeroMQ (docs/PROTOCOLS.md): blobs ("other", the store's user keys) and
// two event streams, which are the logs "events" and "failures" of the keyspace "events".
//
// One thread owns the socket and runs every request; what must read the disk runs on threads of the
// commit room. The order of a process's life:
//
//     zmq_edge_new    binds; answers nobody yet
//     zmq_edge_start  makes the keyspace if it is missing, starts the thread
//     zmq_edge_stop   before commit_close: reads no more, answers what is under way, closes
//     zmq_edge_free   after commit_close, whose threads may hold requests until then
#ifndef VARVE_EDGE_ZMQ_ZMQ_H
#define VARVE_EDGE_ZMQ_ZMQ_H

#include "commit/commit.h"
#include <stddef.h>

struct zmq_edge;

struct zmq_options {
    struct os *os;
    struct commit *commit;
    uint64_t max_request;       // bytes of a message: a peer that sends more is cut off
    uint64_t max_reply;         // bytes of a reply with events
    uint64_t event_window_us;   // what GET_EVENTS gives when not told from when
    uint64_t failure_window_us; // and GET_FAILURES
    uint64_t other_ttl_ms;      // of what PUT_OTHER writes; 0: none
    uint64_t event_max_age_ms;  // retention of the keyspace "events"; 0: none
    uint64_t event_max_bytes;
};

MUST_USE enum err zmq_edge_new(struct zmq_edge **z, const struct zmq_options *o,
                               struct errmsg *msg);
// False if more than this machine could reach a "tcp://HOST:PORT" or "ipc://PATH" endpoint.
bool zmq_edge_is_local(const char *endpoint);
// Binds one endpoint; may be called several times, before zmq_edge_start. bound: the endpoint in
// force, e.g. with the port that was picked. ERR_INVALID (no tcp:// or ipc://), ERR_IN_USE,
// ERR_NETWORK with msg.
MUST_USE enum err zmq_edge_listen(struct zmq_edge *z, const char *endpoint, char *bound, size_t cap,
                                  struct errmsg *msg);
// ERR_INVALID: there is a keyspace "events" with timestamps of its clients'. Or as
// commit_keyspace_create.
MUST_USE enum err zmq_edge_start(struct zmq_edge *z, struct errmsg *msg);
// Any thread: more is durable than before.
void zmq_edge_durable(struct zmq_edge *z);
// Appends the metrics in Prometheus' text format. Any thread.
MUST_USE enum err zmq_edge_metrics(struct zmq_edge *z, struct buf *out);
// Blocks for up to drain_ms, twice if clients do not take their replies.
void zmq_edge_stop(struct zmq_edge *z, unsigned drain_ms);
void zmq_edge_free(struct zmq_edge *z);

#endif
