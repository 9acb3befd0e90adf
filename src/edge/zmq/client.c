// Who asked, and what waits. Each client (a ROUTER's identity) has a queue of requests, which are
// run in order and answered in order; clients do not wait for each other.
//
//     READY -> run -> DONE, or WAITING (for the disk, for room) -> READY or DONE
//     DONE -> its reply leaves once it is the first of its queue and `dep` is durable
//
// A client that takes no replies is not run any further. When it has taken none for
// LIMIT_SLOW_READER_MS, or has too much queued, it loses what is queued. Nothing of it ever stops
// the thread.
//
// libzmq does not say that a peer has gone, so a client exists only while something of it is queued
// or unread.
#include "edge/zmq/zmq_int.h"
#include "base/assert.h"
#include "base/hash.h"
#include <stdlib.h>

static struct client **bucket_of(struct zmq_edge *z, uint64_t hash)
{
    return &z->buckets[hash % CLIENT_BUCKETS];
}

struct client *client_get(struct zmq_edge *z, struct slice identity)
{
    uint64_t hash = hash64(identity, z->hash_seed);
    struct client **bucket = bucket_of(z, hash);
    for (struct client *c = *bucket; c; c = c->next)
        if (slice_equal(slice_of(c->identity, c->identity_len), identity))
            return c;
    VERIFY(identity.n <= UINT8_MAX); // what ZMTP allows
    struct client *c = calloc(1, sizeof *c + identity.n);
    if (!c)
        return NULL;
    c->hash = hash;
    c->identity_len = (uint8_t)identity.n;
    memcpy(c->identity, identity.p, identity.n);
    c->next = *bucket;
    *bucket = c;
    c->after = z->clients;
    if (z->clients)
        z->clients->before = c;
    z->clients = c;
    return c;
}

static void client_free(struct zmq_edge *z, struct client *c)
{
    struct client **link = bucket_of(z, c->hash);
    while (*link != c)
        link = &(*link)->next;
    *link = c->next;
    if (c->before)
        c->before->after = c->after;
    else
        z->clients = c->after;
    if (c->after)
        c->after->before = c->before;
    free(c);
}

void client_push(struct client *c, struct request *q)
{
    struct zmq_edge *z = q->edge;
    q->client = c;
    q->charged = sizeof *q;
    for (unsigned i = 0; i < q->frame_count; i++)
        q->charged += zmq_msg_size(&q->frames[i]);
    if (c->last)
        c->last->next = q;
    else
        c->first = q;
    c->last = q;
    if (!c->run && q->state != REQUEST_DONE)
        c->run = q;
    c->requests++;
    c->bytes += q->charged;
    z->bytes += q->charged;
    atomic_fetch_add(&z->requests, 1);
}

void request_free(struct request *q)
{
    for (unsigned i = 0; i < q->frame_count; i++)
        zmq_msg_close(&q->frames[i]);
    zmq_msg_close(&q->reply);
    free(q);
}

// Takes `q`, which comes after `before` (NULL: is the first), out of its client's queue.
static void unlink_request(struct client *c, struct request *before, struct request *q)
{
    struct zmq_edge *z = q->edge;
    *(before ? &before->next : &c->first) = q->next;
    if (c->last == q)
        c->last = before;
    if (c->run == q)
        c->run = NULL;
    c->requests--;
    c->bytes -= q->charged;
    z->bytes -= q->charged;
    atomic_fetch_sub(&z->requests, 1);
}

// Drops what is queued, but for what another thread has: that goes when it comes back, for which
// its reply is never sent.
static void drop_queue(struct client *c)
{
    struct request *before = NULL;
    for (struct request *q = c->first, *next; q; q = next) {
        next = q->next;
        if (q->state == REQUEST_WAITING) {
            q->envelope = 0; // nowhere to send it
            before = q;
            continue;
        }
        atomic_fetch_add(&q->edge->dropped, 1);
        unlink_request(c, before, q);
        request_free(q);
    }
    c->run = c->first;
    c->stalled_ns = 0;
}

static void stall(struct zmq_edge *z, struct client *c)
{
    uint64_t now = os_mono_ns(z->o.os);
    size_t unread = atomic_load(&c->unread);
    if (!c->stalled_ns || unread < c->unread_seen)
        c->stalled_ns = now; // from here on, or it has taken something
    c->unread_seen = unread;
    if (now - c->stalled_ns > LIMIT_SLOW_READER_MS * 1000000ull ||
        c->requests > LIMIT_ZMQ_PEER_REQUESTS || c->bytes > LIMIT_ZMQ_PEER_BYTES)
        drop_queue(c);
    else
        z->stalled = true;
}

// True if so much of what it was given has not been read that it gets no more.
static bool over_unread(struct zmq_edge *z, struct client *c)
{
    size_t unread = atomic_load(&c->unread);
    return unread > z->o.max_reply || (unread && atomic_load(&z->unread) > LIMIT_ZMQ_UNREAD);
}

// Runs from the first that was not, until one waits.
static void run_queue(struct zmq_edge *z, struct client *c)
{
    if (c->run == c->first && !over_unread(z, c))
        c->stalled_ns = 0; // all replies have left
    while (c->run && c->run->state != REQUEST_WAITING) {
        struct request *q = c->run;
        if (q->state == REQUEST_READY) {
            if (over_unread(z, c)) {
                stall(z, c);
                return;
            }
            request_run(q);
        }
        if (q->state == REQUEST_DONE)
            c->run = q->next;
    }
}

static void send_queue(struct zmq_edge *z, struct client *c)
{
    struct request *q;
    while ((q = c->first) && q->state == REQUEST_DONE) {
        if (q->dep > commit_durable(z->o.commit)) {
            z->waits_durable = true;
            return;
        }
        if (q->envelope && socket_send(z, q) == ERR_AGAIN) {
            stall(z, c);
            return;
        }
        c->stalled_ns = 0;
        unlink_request(c, NULL, q);
        request_free(q);
    }
}

static void take_woken(struct zmq_edge *z)
{
    struct request *q = atomic_exchange(&z->woken, NULL);
    for (struct request *next; q; q = next) {
        next = q->woken;
        q->state = q->answered || !q->envelope ? REQUEST_DONE : REQUEST_READY;
    }
}

// A single client that asks and waits, for some time now, is spared the flusher's wake-up and ours.
static void kick(struct zmq_edge *z)
{
    const struct client *c = z->clients;
    bool alone = c && !c->after && c->requests == 1;
    z->streak = alone && c->hash == z->lone ? z->streak + 1 : 0;
    z->lone = alone ? c->hash : 0;
    z->wrote = false;
    if (z->streak >= ALONE_AFTER)
        commit_kick_alone(z->o.commit);
    else
        commit_kick(z->o.commit);
}

void clients_work(struct zmq_edge *z)
{
    take_woken(z);
    z->stalled = z->waits_durable = false;
    for (struct client *c = z->clients; c; c = c->after)
        run_queue(z, c);
    if (z->wrote) // once for all of them
        kick(z);
    for (struct client *c = z->clients, *after; c; c = after) {
        after = c->after;
        send_queue(z, c);
        if (!c->first && !atomic_load(&c->unread))
            client_free(z, c);
    }
}

void clients_free(struct zmq_edge *z)
{
    for (struct client *c = z->clients, *after; c; c = after) {
        after = c->after;
        for (struct request *q = c->first, *next; q; q = next) {
            next = q->next;
            request_free(q);
        }
        free(c);
    }
    z->clients = NULL;
}
