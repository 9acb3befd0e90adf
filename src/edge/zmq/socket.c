// The socket and the thread that owns it. One turn of the thread:
//
//   receive up to BATCH messages -> run what can be run, in each client's order -> one kick of the
//   log -> send the replies whose truth is durable -> wait for a message, or for the eventfd: a
//   wait has ended, more is durable, the process stops
//
// A ROUTER, with ZMQ_ROUTER_MANDATORY: without it a reply to a peer whose queue is full would
// vanish, and a client that pipelines deeper than that queue would wait for ever. With it the send
// says EAGAIN, and the reply stays here until there is room (client.c says how long). EHOSTUNREACH
// means that the peer has gone: nobody is left to miss the reply. Both are known with the first
// frame, so that no message is ever sent by half, and with ZMQ_DONTWAIT nothing blocks.
//
// Limits: a frame over the limit on requests makes libzmq cut the peer off (ZMQ_MAXMSGSIZE). Over
// LIMIT_ZMQ_REQUESTS or LIMIT_ZMQ_BYTES queued, the socket is not read, so that clients stop at
// their high-water marks.
#include "edge/zmq/zmq_int.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/os_net.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define BATCH        256u
#define STALLED_MS   5    // between tries to send to a peer whose queue is full
#define HANDSHAKE_MS 5000 // a peer has to introduce itself in
#define RECEIVE_MARK 256  // messages of a peer that libzmq reads ahead
#define SEND_MARK    1000 // replies to a peer that libzmq holds

struct lock_file {
    struct lock_file *next;
    int fd;
};

// ---- receiving

// Frames of the envelope in a message of `total` frames, of which the first FRAMES_MAX are in `f`:
// all up to the empty delimiter that a REQ sends and proxies keep; without one (a DEALER) the
// identity alone.
static unsigned envelope_of(zmq_msg_t *f, unsigned total)
{
    for (unsigned i = 1; i < FRAMES_MAX && i + 1 < total; i++)
        if (zmq_msg_size(&f[i]) == 0)
            return i + 1;
    return 1;
}

// What is wrong with a message's frames, or its request.
static enum err understand(struct request *q, unsigned total, struct errmsg *msg)
{
    if (q->envelope + 1 != total)
        return err_set(msg, ERR_INVALID, "the request has %u frames, not one", total - q->envelope);
    if (total > FRAMES_MAX)
        return err_set(msg, ERR_INVALID, "the envelope has %u frames, the limit is %u", total - 1,
                       FRAMES_MAX - 1);
    return call_parse(frame_slice(&q->frames[q->envelope]), &q->call, msg);
}

// One message into q; false if there is none.
static bool receive_frames(struct zmq_edge *z, struct request *q, unsigned *total)
{
    bool more = true;
    *total = 0;
    while (more) {
        zmq_msg_t extra, *f = q->frame_count < FRAMES_MAX ? &q->frames[q->frame_count] : &extra;
        zmq_msg_init(f);
        if (zmq_msg_recv(f, z->socket, ZMQ_DONTWAIT) < 0) {
            VERIFY(*total == 0); // messages come whole
            zmq_msg_close(f);
            return false;
        }
        more = zmq_msg_more(f);
        if (f == &extra)
            zmq_msg_close(f);
        else
            q->frame_count++;
        ++*total;
    }
    return true;
}

// Takes one message; false if there is none, or no memory to take it.
static bool receive_one(struct zmq_edge *z)
{
    struct request *q = calloc(1, sizeof *q);
    struct client *c = NULL;
    unsigned total;
    if (!q)
        return false;
    q->edge = z;
    zmq_msg_init(&q->reply);
    bool got = receive_frames(z, q, &total);
    if (got)
        c = client_get(z, frame_slice(&q->frames[0]));
    if (!c) {
        if (got)
            atomic_fetch_add(&z->dropped, 1);
        request_free(q);
        return false;
    }
    struct errmsg msg;
    q->client = c;
    q->envelope = envelope_of(q->frames, total);
    enum err e = understand(q, total, &msg);
    if (e) {
        atomic_fetch_add(&z->malformed, 1);
        answer_fail(q, e, &msg);
    } else {
        atomic_fetch_add_explicit(&z->commands[q->call.id], 1, memory_order_relaxed);
    }
    client_push(c, q);
    return true;
}

// True if there may be more to read.
static bool receive(struct zmq_edge *z)
{
    for (unsigned i = 0; i < BATCH; i++)
        if (!receive_one(z))
            return false;
    return true;
}

static bool has_room(struct zmq_edge *z)
{
    return atomic_load(&z->requests) < LIMIT_ZMQ_REQUESTS && z->bytes < LIMIT_ZMQ_BYTES;
}

// ---- sending

enum err socket_send(struct zmq_edge *z, struct request *q)
{
    for (unsigned i = 0; i <= q->envelope; i++) {
        bool last = i == q->envelope;
        zmq_msg_t *m = last ? &q->reply : &q->frames[i];
        if (zmq_msg_send(m, z->socket, ZMQ_DONTWAIT | (last ? 0 : ZMQ_SNDMORE)) >= 0)
            continue;
        if (i == 0 && errno == EAGAIN)
            return ERR_AGAIN;
        atomic_fetch_add(&z->dropped, 1);
        break;
    }
    return ERR_OK;
}

// ---- the thread

static bool past_deadline(struct zmq_edge *z)
{
    return os_mono_ns(z->o.os) >= atomic_load(&z->deadline_ns);
}

// Sleeps until there is something to do. What becomes durable signals only an armed edge; what was
// durable before it was armed is looked at again here.
static void rest(struct zmq_edge *z, bool stopping)
{
    bool reads = !stopping && has_room(z);
    zmq_pollitem_t items[] = {{.fd = z->wake, .events = ZMQ_POLLIN},
                              {.socket = z->socket, .events = ZMQ_POLLIN}};
    long timeout = z->stalled || stopping ? STALLED_MS : -1;
    uint64_t durable = commit_durable(z->o.commit);
    if (z->waits_durable) {
        atomic_exchange(&z->armed, true);
        if (commit_durable(z->o.commit) != durable)
            timeout = 0;
    }
    int n = zmq_poll(items, reads ? 2 : 1, timeout);
    atomic_store(&z->armed, false);
    if (n > 0 && items[0].revents)
        os_event_clear(z->wake);
}

static void *edge_thread(void *arg)
{
    struct zmq_edge *z = arg;
    os_thread_name("zmq");
    for (;;) {
        bool stopping = atomic_load(&z->stopping);
        bool more = !stopping && has_room(z) && receive(z);
        clients_work(z);
        if (stopping && (atomic_load(&z->requests) == 0 || past_deadline(z)))
            break;
        if (!more)
            rest(z, stopping);
    }
    return NULL;
}

void zmq_edge_durable(struct zmq_edge *z)
{
    if (atomic_exchange(&z->armed, false))
        os_event_signal(z->wake);
}

// ---- starting and stopping

static enum err set_option(struct zmq_edge *z, int option, int value, struct errmsg *msg)
{
    if (zmq_setsockopt(z->socket, option, &value, sizeof value) == 0)
        return ERR_OK;
    return err_set(msg, ERR_NETWORK, "zmq: option %d: %s", option, zmq_strerror(errno));
}

static enum err set_options(struct zmq_edge *z, struct errmsg *msg)
{
    static const int options[][2] = {
        {ZMQ_ROUTER_MANDATORY, 1},         {ZMQ_RCVHWM, RECEIVE_MARK}, {ZMQ_SNDHWM, SEND_MARK},
        {ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS}, {ZMQ_TCP_KEEPALIVE, 1},     {ZMQ_LINGER, 0},
    };
    int64_t largest = (int64_t)z->o.max_request;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        enum err e = set_option(z, options[i][0], options[i][1], msg);
        if (e)
            return e;
    }
    if (zmq_setsockopt(z->socket, ZMQ_MAXMSGSIZE, &largest, sizeof largest))
        return err_set(msg, ERR_NETWORK, "zmq: option ZMQ_MAXMSGSIZE: %s", zmq_strerror(errno));
    return ERR_OK;
}

enum err zmq_edge_new(struct zmq_edge **out, const struct zmq_options *o, struct errmsg *msg)
{
    struct zmq_edge *z = calloc(1, sizeof *z);
    if (!z)
        return err_set(msg, ERR_NO_MEMORY, "zmq: out of memory");
    z->o = *o;
    z->wake = -1;
    os_random(o->os, &z->hash_seed, sizeof z->hash_seed);
    enum err e = os_event_new(&z->wake);
    if (e) {
        z->wake = -1;
        e = err_set(msg, e, "zmq: cannot make an eventfd: %s", os_last_error());
    } else if (!(z->context = zmq_ctx_new()) || !(z->socket = zmq_socket(z->context, ZMQ_ROUTER))) {
        e = err_set(msg, ERR_NETWORK, "zmq: cannot make a socket: %s", zmq_strerror(errno));
    } else {
        e = set_options(z, msg);
    }
    if (e)
        zmq_edge_free(z);
    else
        *out = z;
    return e;
}

enum err zmq_edge_start(struct zmq_edge *z, struct errmsg *msg)
{
    enum err e = stream_prepare(z, msg);
    if (e)
        return e;
    if (pthread_create(&z->thread, NULL, edge_thread, z))
        return err_set(msg, ERR_NO_MEMORY, "zmq: cannot start a thread");
    z->started = true;
    return ERR_OK;
}

void zmq_edge_stop(struct zmq_edge *z, unsigned drain_ms)
{
    if (z->started) {
        atomic_store(&z->deadline_ns, os_mono_ns(z->o.os) + drain_ms * 1000000ull);
        atomic_store(&z->stopping, true);
        os_event_signal(z->wake);
        pthread_join(z->thread, NULL);
        z->started = false;
        int linger = (int)drain_ms; // what libzmq was handed may still leave
        zmq_setsockopt(z->socket, ZMQ_LINGER, &linger, sizeof linger);
    }
    if (z->socket)
        zmq_close(z->socket);
    z->socket = NULL;
    while (z->context && zmq_ctx_term(z->context) && errno == EINTR)
        ;
    z->context = NULL;
}

void zmq_edge_free(struct zmq_edge *z)
{
    if (!z)
        return;
    zmq_edge_stop(z, 0);
    clients_free(z);
    for (struct lock_file *l = z->locks, *next; l; l = next) {
        next = l->next;
        ERR_IGNORE(os_close(z->o.os, l->fd)); // nothing was written
        free(l);
    }
    if (z->wake >= 0)
        os_close_socket(z->wake);
    free(z);
}

// ---- endpoints

static const char *after_prefix(const char *endpoint, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(endpoint, prefix, n) ? NULL : endpoint + n;
}

bool zmq_edge_is_local(const char *endpoint)
{
    const char *tcp = after_prefix(endpoint, "tcp://");
    char address[LIMIT_PATH];
    if (!tcp)
        return true; // ipc; others zmq_edge_listen refuses
    size_t n = strlen(tcp);
    if (n >= sizeof address || *tcp == '*') // all interfaces to libzmq, loopback to some resolvers
        return false;
    memcpy(address, tcp, n + 1);
    if (n > 2 && !strcmp(address + n - 2, ":*"))
        address[n - 1] = '0';
    return os_is_loopback(address);
}

// libzmq takes over the path of an ipc endpoint even from a server that lives, so a file beside it
// is locked.
static enum err lock_path(struct zmq_edge *z, const char *path, struct errmsg *msg)
{
    char name[LIMIT_PATH];
    struct lock_file *l = calloc(1, sizeof *l);
    if (!l)
        return err_set(msg, ERR_NO_MEMORY, "zmq: out of memory");
    snprintf(name, sizeof name, "%s.lock", path);
    enum err e = os_lock(z->o.os, name, &l->fd);
    if (e) {
        free(l);
        return err_set(msg, e, "cannot listen on ipc://%s: %s: %s", path, name,
                       e == ERR_IN_USE ? err_text(e) : os_last_error());
    }
    l->next = z->locks;
    z->locks = l;
    return ERR_OK;
}

enum err zmq_edge_listen(struct zmq_edge *z, const char *endpoint, char *bound, size_t cap,
                         struct errmsg *msg)
{
    const char *path = after_prefix(endpoint, "ipc://");
    enum err e;
    if (!path && !after_prefix(endpoint, "tcp://"))
        return err_set(
            msg, ERR_INVALID,
            "cannot listen on \"%s\": a ZeroMQ endpoint is tcp://HOST:PORT or ipc://PATH",
            endpoint);
    if (path && *path && *path != '@' && *path != '*' && (e = lock_path(z, path, msg)))
        return e;
    // Only where it is asked for: it changes how IPv4 addresses are told.
    if ((e = set_option(z, ZMQ_IPV6, !path && strchr(endpoint, '['), msg)))
        return e;
    if (zmq_bind(z->socket, endpoint))
        return err_set(msg, errno == EADDRINUSE ? ERR_IN_USE : ERR_NETWORK,
                       "cannot listen on %s: %s", endpoint, zmq_strerror(errno));
    if (zmq_getsockopt(z->socket, ZMQ_LAST_ENDPOINT, bound, &cap))
        return err_set(msg, ERR_NETWORK, "zmq: where %s is bound: %s", endpoint,
                       zmq_strerror(errno));
    return ERR_OK;
}

// ---- metrics

enum err zmq_edge_metrics(struct zmq_edge *z, struct buf *out)
{
    enum err e =
        buf_printf(out, "# HELP varve_zmq_requests_total requests over ZeroMQ, by command\n"
                        "# TYPE varve_zmq_requests_total counter\n");
    for (unsigned i = 0; i < VARVE_ZMQ_COMMAND_COUNT && !e; i++)
        e = buf_printf(out, "varve_zmq_requests_total{command=\"%s\"} %" PRIu64 "\n",
                       call_name((enum varve_zmq_command)i), atomic_load(&z->commands[i]));
    if (!e)
        e = buf_metric(out, "varve_zmq_malformed_total", "counter",
                       "messages over ZeroMQ that are no request", atomic_load(&z->malformed));
    if (!e)
        e = buf_metric(out, "varve_zmq_errors_total", "counter",
                       "requests over ZeroMQ answered with an error, the malformed too",
                       atomic_load(&z->errors));
    if (!e)
        e = buf_metric(out, "varve_zmq_dropped_total", "counter",
                       "replies over ZeroMQ to peers that went or do not read",
                       atomic_load(&z->dropped));
    if (!e)
        e = buf_metric(out, "varve_zmq_queued", "gauge",
                       "requests over ZeroMQ whose reply has not left yet",
                       atomic_load(&z->requests));
    return e;
}
