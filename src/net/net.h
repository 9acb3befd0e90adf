// Event loops and connections; knows bytes, never operations. Each loop is one thread with an epoll
// set. The first loop accepts and hands connections out in turn, so that they spread evenly.
//
// Phases of a loop's turn, in order:
//   1 wait      epoll_wait, not at all if the mailbox has something
//   2 input     every readable connection: recv, protocol->on_input, send what may leave
//   3 mailbox   resumed connections and new ones
//   4 kick      net_options.after_batch, once, if any on_input ran (the write-ahead log's kick);
//               `alone`: for some time one and the same connection was all there was
//   5 release   connections whose gates the durable sequence has passed: send
//   6 timers    deadlines, slow readers (every 100 ms)
//
// Connection states (state: what it waits for):
//   OPEN      input; reads and calls on_input
//   WAITING   conn_resume, after on_input returned CONN_WAIT; input is left in the kernel
//   BLOCKED   its peer to read: LIMIT_OUT_STOP reply bytes pending; nothing is read or executed
//   CLOSING   pending replies to leave, after CONN_CLOSE or the peer's half close; then FIN, and
//             lingers until the peer closes or 1 s, so that a reset does not cut the last reply
//   DEAD      its holds to be dropped; the socket is closed
//
// Memory: a connection with nothing buffered holds no buffer. Input is received into a buffer that
// the loop's connections share; what on_input leaves unconsumed is copied to a buffer of the
// connection's own. So pointers into conn_in and conn_out are good until on_input returns, offsets
// from their starts for as long as nobody consumes.
#ifndef VARVE_NET_NET_H
#define VARVE_NET_NET_H

#include "base/buf.h"
#include "base/err.h"
#include "base/os.h"

struct net;
struct conn;

enum conn_verdict {
    CONN_MORE,  // all complete requests are done; wants more input
    CONN_WAIT,  // a request waits for something; do not call on_input until conn_resume
    CONN_CLOSE, // send what is pending, then close; no more input is looked at
    CONN_DROP,  // close at once, pending replies are thrown away
};

struct protocol {
    const char *name;  // for log and metrics: "http"
    size_t state_size; // bytes of protocol state in each connection, zeroed at open
    size_t in_max;     // most unconsumed input bytes; reading pauses there
    void *arg;         // for conn_arg
    enum err (*on_open)(struct conn *c); // may be NULL
    // Takes complete requests from conn_in, appends replies to conn_out. Called again when more
    // input came (at end of input too, with conn_eof) or after conn_resume. Must make progress or
    // return CONN_MORE; returns as soon as conn_pending is LIMIT_OUT_STOP or more, with CONN_MORE,
    // and is called again when they have drained. A connection whose in_max bytes of input it
    // leaves as they are is dropped.
    enum conn_verdict (*on_input)(struct conn *c);
    // The deadline set by conn_deadline has passed. May append a last reply. NULL: drop.
    // Put off while the connection is WAITING or BLOCKED; not called once it is CLOSING.
    enum conn_verdict (*on_deadline)(struct conn *c);
    // The socket is about to be closed, holds or not; may be NULL. Takes back what would otherwise
    // resume the connection at some far time (conn_unhold is allowed here).
    void (*on_dead)(struct conn *c);
    // Releases what the state holds; may be NULL. Called once, after the socket is closed and the
    // last hold is dropped, unless on_open failed.
    void (*on_close)(struct conn *c);
};

struct net_options {
    struct os *os;
    unsigned loops;
    uint64_t max_connections;
    void (*after_batch)(void *arg, bool alone);
    void *arg;
};

struct net_stats {
    uint64_t connections; // open now
    uint64_t accepted;    // ever
    uint64_t refused;     // over the limit
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t buffer_bytes; // memory of all connection buffers
    uint64_t slow_closed;  // closed for not reading
};

MUST_USE
enum err net_new(struct net **n, const struct net_options *o);
// Binds; call before net_start. `bound` (cap >= 64) gets the address really bound.
MUST_USE
enum err net_listen(struct net *n, const struct protocol *p, const char *addr, char *bound,
                    size_t cap, struct errmsg *msg);
MUST_USE
enum err net_start(struct net *n);
// Stops accepting, lets requests under way finish and pending replies leave for up to drain_ms,
// then closes everything and joins the threads. Connections held by other threads live on until
// net_free.
void net_stop(struct net *n, uint64_t drain_ms);
// No other thread may hold a connection any more, nor call net_durable. Calls on_close for those
// that were held. Stops first if net_stop was not called.
void net_free(struct net *n);
// The durable sequence advanced: releases gates. Any thread.
void net_durable(struct net *n, uint64_t seq);
void net_get_stats(const struct net *n, struct net_stats *s);

// On the connection's own loop thread only, except where said.
struct buf *conn_in(struct conn *c);  // start..end is input not yet consumed
struct buf *conn_out(struct conn *c); // append replies here
void *conn_state(struct conn *c);
void *conn_arg(struct conn *c); // protocol->arg
bool conn_eof(struct conn *c);  // the peer will send no more
// Reply bytes not yet taken by the kernel.
size_t conn_pending(const struct conn *c);
// A place in the reply stream: everything appended from now on is after it.
uint64_t conn_mark(const struct conn *c);
// Bytes from `mark` on leave only when the durable sequence is >= seq. Marks rise; 0 or a durable
// seq costs nothing.
void conn_gate(struct conn *c, uint64_t mark, uint64_t seq);
// Calls on_deadline after ms unless set again; 0 takes it away. Grain 100 ms.
void conn_deadline(struct conn *c, uint64_t ms);
// Keeps the struct (not the socket) until conn_resume; call before handing `c` to another thread.
void conn_hold(struct conn *c);
// Takes a hold back on the loop's thread, when handing over did not come about: resumes nothing.
void conn_unhold(struct conn *c);
// A hold is not dropped yet: a conn_resume is still to come, or to be delivered.
bool conn_held(const struct conn *c);
// From any thread, once for each conn_hold: ends the wait begun by CONN_WAIT (also before on_input
// has returned it) and drops the hold. If the connection died meanwhile, on_input is not called
// again.
void conn_resume(struct conn *c);
// True if the socket is gone: what was asked for has no reader any more. Any thread.
bool conn_dead(const struct conn *c);

#endif
