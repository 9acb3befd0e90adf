// One connection of the client library: requests gather in `out`, replies in `in`, and `pending`
// says what each outstanding request was.
//
// The socket never blocks. While requests are being sent, replies are read too: a server stops
// reading from a client whose replies pile up, so a client that only sent could wait for it for
// ever.
//
// Replies to SET and DELETE are bare bytes, and so is the one error text after which the server
// closes the connection. To tell them apart such a reply is believed only when the next one has
// begun to arrive; a PING (the guard) is queued behind it where no other request is.
#include "base/limits.h"
#include "base/os.h"
#include "base/os_net.h"
#include "client/client_int.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    RECV_CHUNK = 64 << 10,
    KEEP = 1 << 20,    // bytes of memory that an empty buffer may keep
    SERVER_TEXT = 400, // bytes of a server's error text that are shown
    GUARD = 6,         // bytes of an empty PING
    TAIL_MS = 30000,   // a page of a tail is waited for so long; the server sends one every 10 s
};
#define OUT_MAX     (LIMIT_REQUEST_HARD + 4096u) // requests queued and not sent
#define REPLY_MAX   (96u << 20)
#define READ_AHEAD  (64u << 20) // replies kept while sending
#define IN_MAX      (REPLY_MAX + READ_AHEAD)
#define PENDING_MAX (32u << 20) // bytes of struct pending

struct pending {
    uint8_t type;         // enum wire_type
    bool guard;           // a PING of ours: its reply is not the user's
    struct varve_op *ops; // TXN
    size_t count;
};

struct varve {
    struct os *os;
    int fd;         // -1: not connected
    int epfd;       // -1: none
    bool wants_out; // the socket is watched for room to send too
    unsigned timeout_ms;
    uint64_t deadline; // mono ns at which the call under way gives up; 0 never
    struct buf out;
    struct buf in;
    struct buf pending;      // struct pending, oldest first
    size_t user_pending;     // of them without guards
    size_t taken;            // bytes of `in` that the last call's results point into
    enum varve_error broken; // why nothing can be sent or received any more; else VARVE_OK
    bool desynced;           // broken, and replies that have arrived are not to be trusted either
    char broken_text[512];
    char error[512];
};

enum varve_error client_fail(struct varve *v, enum varve_error e, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(v->error, sizeof v->error, format, ap);
    va_end(ap);
    return e;
}

static enum varve_error still_broken(struct varve *v)
{
    return client_fail(v, v->broken, "%s", v->broken_text);
}

// Nothing can be sent or received any more; replies that are here already can still be taken.
static enum varve_error lost(struct varve *v, enum varve_error e, const char *why)
{
    if (v->broken)
        return still_broken(v);
    v->broken = e;
    snprintf(v->broken_text, sizeof v->broken_text, "%s", why);
    return still_broken(v);
}

// Requests and replies are out of step: nothing that arrived later means anything.
static enum varve_error desync(struct varve *v, enum varve_error e, const char *why)
{
    v->desynced = true;
    v->broken = VARVE_OK;
    return lost(v, e, why);
}

enum varve_error client_malformed(struct varve *v, const char *why)
{
    return desync(v, VARVE_PROTOCOL, why);
}

// Copies a text of the server's, with anything that could upset a terminal replaced.
static void copy_text(char *to, size_t cap, struct slice text)
{
    size_t n = text.n < cap - 1 ? text.n : cap - 1;
    for (size_t i = 0; i < n; i++)
        to[i] = text.p[i] < 0x20 || text.p[i] == 0x7f ? '?' : (char)text.p[i];
    to[n] = 0;
}

// Starts a call: results of the last one are given up, the clock starts.
static void begin(struct varve *v)
{
    buf_consume(&v->in, v->taken);
    v->taken = 0;
    struct buf *bufs[] = {&v->in, &v->out};
    for (int i = 0; i < 2; i++)
        if (bufs[i]->cap > KEEP && buf_len(bufs[i]) == 0)
            buf_shrink(bufs[i], RECV_CHUNK);
    v->deadline = v->timeout_ms ? os_mono_ns(v->os) + (uint64_t)v->timeout_ms * 1000000u : 0;
}

// Makes sure of room for a request's record before its bytes are queued, so that the two never
// part.
static enum varve_error may_queue(struct varve *v)
{
    if (v->broken)
        return still_broken(v);
    enum err e = buf_reserve(&v->pending, 2 * sizeof(struct pending)); // and for its guard
    if (e)
        return client_fail(v, e == ERR_TOO_BIG ? VARVE_FULL : VARVE_NO_MEMORY,
                           "too many requests are queued");
    return VARVE_OK;
}

enum varve_error client_begin_alone(struct varve *v)
{
    if (v->user_pending && !v->broken)
        return client_fail(v, VARVE_INVALID, "%zu queued requests have replies to be taken first",
                           v->user_pending);
    begin(v);
    return may_queue(v);
}

// Waits until the socket can be read, or written if `out`.
static enum varve_error wait_ready(struct varve *v, bool out)
{
    if (out != v->wants_out) {
        if (os_epoll_set(v->epfd, EPOLL_CTL_MOD, v->fd, EPOLLIN | (out ? EPOLLOUT : 0), NULL))
            return lost(v, VARVE_NETWORK, os_last_error());
        v->wants_out = out;
    }
    for (;;) {
        int wait_ms = -1;
        if (v->deadline) {
            uint64_t now = os_mono_ns(v->os);
            if (now >= v->deadline)
                return lost(v, VARVE_TIMEOUT, "no answer from the server in time");
            uint64_t left = (v->deadline - now) / 1000000u + 1;
            wait_ms = left < 3600000 ? (int)left : 3600000;
        }
        struct epoll_event event;
        int count = 0;
        if (os_epoll_wait(v->epfd, &event, 1, wait_ms, &count))
            return lost(v, VARVE_NETWORK, os_last_error());
        if (count)
            return VARVE_OK;
    }
}

// Reads what has arrived, without waiting: *got is 0 if there was nothing.
static enum varve_error read_some(struct varve *v, size_t *got)
{
    *got = 0;
    enum err e = buf_reserve(&v->in, RECV_CHUNK);
    if (e)
        return lost(v, VARVE_NO_MEMORY, "no memory for the server's replies");
    e = os_recv(v->fd, buf_tail(&v->in), RECV_CHUNK, got);
    if (e == ERR_AGAIN)
        return VARVE_OK;
    if (e)
        return lost(v, VARVE_NETWORK, os_last_error());
    if (*got == 0)
        return lost(v, VARVE_NETWORK, "the server closed the connection");
    v->in.end += *got;
    return VARVE_OK;
}

// The server may have said why before it closed: what it sent is read first.
static enum varve_error send_failed(struct varve *v)
{
    char why[128];
    snprintf(why, sizeof why, "%s", os_last_error());
    size_t got = 1;
    while (got && buf_len(&v->in) <= READ_AHEAD && !read_some(v, &got))
        ;
    return lost(v, VARVE_NETWORK, why);
}

// Gives the kernel as much of what is queued as it takes now.
static enum varve_error send_some(struct varve *v)
{
    while (buf_len(&v->out)) {
        size_t sent = 0;
        enum err e = os_send(v->fd, buf_head(&v->out), buf_len(&v->out), &sent);
        if (e == ERR_AGAIN)
            break;
        if (e)
            return send_failed(v);
        buf_consume(&v->out, sent);
    }
    return VARVE_OK;
}

// Sends what is queued, waits until there is something to do, and reads.
static enum varve_error turn(struct varve *v)
{
    size_t got;
    enum varve_error r = v->broken ? still_broken(v) : send_some(v);
    r = r ? r : wait_ready(v, buf_len(&v->out) > 0);
    return r ? r : read_some(v, &got);
}

// Waits until `n` bytes of replies are here.
static enum varve_error need(struct varve *v, size_t n)
{
    enum varve_error r = VARVE_OK;
    while (!r && buf_len(&v->in) < n)
        r = turn(v);
    return buf_len(&v->in) >= n ? VARVE_OK : r;
}

// Ends a wire_request* that went into `out`, which held `before` bytes: remembers what it was.
static enum varve_error queued(struct varve *v, enum err e, size_t before, struct pending p)
{
    if (!e && !p.guard && buf_len(&v->out) > OUT_MAX) {
        v->out.end = v->out.start + before;
        e = ERR_TOO_BIG;
    }
    if (e == ERR_TOO_BIG)
        return before ? client_fail(v, VARVE_FULL, "too many bytes are queued")
                      : client_fail(v, VARVE_INVALID, "the request is too big");
    if (e == ERR_INVALID)
        return client_fail(v, VARVE_INVALID,
                           "a record's nonce is 2^128 - 1, or its timestamp the smallest number: "
                           "both mean that there is none");
    if (e)
        return client_fail(v, VARVE_NO_MEMORY, "out of memory");
    buf_put(&v->pending, &p, sizeof p); // may_queue made room
    v->user_pending += !p.guard;
    return VARVE_OK;
}

static bool is_raw(uint8_t type)
{
    return type == WIRE_SET || type == WIRE_DELETE;
}

// Queues a guard if the last request needs one; there is always room for it.
static enum varve_error queue_guard(struct varve *v)
{
    struct pending last;
    if (v->broken || buf_len(&v->pending) == 0)
        return VARVE_OK;
    memcpy(&last, buf_tail(&v->pending) - sizeof last, sizeof last);
    if (!is_raw(last.type))
        return VARVE_OK;
    struct slice none = {NULL, 0};
    return queued(v, wire_request(&v->out, WIRE_PING, &none, 1), buf_len(&v->out),
                  (struct pending){.type = WIRE_PING, .guard = true});
}

// The body of the reply to the oldest request, when it is all here and believed (see the top of the
// file).
static enum varve_error next_body(struct varve *v, uint8_t type, struct slice *body)
{
    *body = slice_of(NULL, 0);
    if (v->desynced)
        return still_broken(v);
    enum varve_error r = need(v, 4);
    if (r)
        return r;
    size_t n = load32(buf_head(&v->in));
    if (n > REPLY_MAX)
        return client_malformed(v, "a reply's length is over the limit");
    r = need(v, 4 + n + (is_raw(type) && n ? 4 : 0));
    if (r == VARVE_NETWORK && buf_len(&v->in) == 4 + n) {
        // Most likely the error text, but a value before a lost connection looks the same.
        char said[SERVER_TEXT];
        char why[SERVER_TEXT + 64];
        copy_text(said, sizeof said, slice_of(buf_head(&v->in) + 4, n));
        snprintf(why, sizeof why, "the server closed the connection after saying: %s", said);
        return desync(v, VARVE_NETWORK, why);
    }
    if (r)
        return r;
    *body = slice_of(buf_head(&v->in) + 4, n);
    v->taken = 4 + n;
    return VARVE_OK;
}

// What a status without a text of its own says.
static const char *status_text(uint8_t type, enum varve_error status)
{
    if (status == VARVE_CONFLICT)
        return type == WIRE_LOG_CREATE   ? "the keyspace exists"
               : type == WIRE_REL_CREATE ? "the relation exists"
                                         : "version conflict";
    switch (type) {
    case WIRE_LOG_KEYSPACE:
        return "no such keyspace";
    case WIRE_LOG_META:
    case WIRE_LOG_TRIM:
        return "no such log";
    case WIRE_LOG_ERASE:
        return "no such record";
    case WIRE_REL_INFO:
        return "no such relation";
    default:
        return "no such key";
    }
}

// Takes the status byte off the reply to `type`. VARVE_OK: *status and *body are set.
static enum varve_error split_status(struct varve *v, uint8_t type, struct slice *body,
                                     enum varve_error *status)
{
    if (body->n == 0)
        return client_malformed(v, "a reply is empty");
    char text[SERVER_TEXT];
    uint8_t first = body->p[0];
    if (first > WIRE_ERROR) {
        // The text before the server closes has no status byte.
        if (first < 0x20 || !utf8_valid(*body))
            return client_malformed(v, "a reply's status is unknown");
        copy_text(text, sizeof text, *body);
        (void)desync(v, VARVE_NETWORK, text);
        *status = VARVE_ERROR;
        return VARVE_OK;
    }
    body->p++;
    body->n--;
    *status = (enum varve_error)first; // the first four are the same, on purpose
    copy_text(text, sizeof text, *body);
    if (*status)
        (void)client_fail(v, *status, "%s",
                          *status == VARVE_ERROR ? text : status_text(type, *status));
    return VARVE_OK;
}

static enum err read_ok(const struct pending *p, struct slice body, struct varve_reply *reply)
{
    switch (p->type) {
    case WIRE_VGET:
        return wire_read_value(body, &reply->value);
    case WIRE_TXN:
        return wire_read_txn(body, p->ops, p->count, &reply->sequence);
    case WIRE_LOG_APPEND:
        return wire_read_appended(body, &reply->appended);
    case WIRE_LOG_READ:
    case WIRE_LOG_TAIL:
        return wire_read_page(body, &reply->page);
    case WIRE_REL_ADD:
        return wire_read_u32(body, &reply->added);
    case WIRE_REL_REMOVE:
        return wire_read_u32(body, &reply->removed);
    case WIRE_REL_EDIT:
        return wire_read_edited(body, &reply->added, &reply->removed);
    case WIRE_REL_GET:
        return wire_read_members(body, &reply->members);
    case WIRE_REL_PAGE:
        return wire_read_rel_page(body, true, &reply->members);
    default: // callers of client_ask look at it themselves
        reply->value = (struct varve_value){.data = body.p, .size = body.n};
        return ERR_OK;
    }
}

// ERR_INVALID: a status that does not go with the request.
static enum err read_other(const struct pending *p, struct slice body, enum varve_error status)
{
    bool missing = p->type == WIRE_VGET || p->type == WIRE_LOG_KEYSPACE ||
                   p->type == WIRE_LOG_META || p->type == WIRE_LOG_TRIM ||
                   p->type == WIRE_LOG_ERASE || p->type == WIRE_REL_INFO;
    if (status == VARVE_CONFLICT && p->type == WIRE_TXN)
        return wire_read_conflicts(body, p->ops, p->count);
    if (status == VARVE_CONFLICT && (p->type == WIRE_LOG_CREATE || p->type == WIRE_REL_CREATE))
        return ERR_OK;
    return status == VARVE_MISSING && missing ? ERR_OK : ERR_INVALID;
}

// Reads the body of the reply to `p`.
static enum varve_error read_reply(struct varve *v, const struct pending *p, struct slice body,
                                   struct varve_reply *reply)
{
    if (is_raw(p->type)) {
        reply->value = (struct varve_value){.data = body.p, .size = body.n};
        return VARVE_OK;
    }
    enum varve_error r = split_status(v, p->type, &body, &reply->error);
    if (r || reply->error == VARVE_ERROR)
        return r;
    enum err e = reply->error ? read_other(p, body, reply->error) : read_ok(p, body, reply);
    return e ? client_malformed(v, "a reply does not follow the protocol") : VARVE_OK;
}

// Takes the reply to the oldest request, a guard's too.
static enum varve_error take_reply(struct varve *v, struct varve_reply *reply, bool *guard)
{
    struct pending p;
    struct slice body;
    memcpy(&p, buf_head(&v->pending), sizeof p);
    *reply = (struct varve_reply){.error = VARVE_OK};
    *guard = p.guard;
    buf_consume(&v->in, v->taken);
    v->taken = 0;
    enum varve_error r = next_body(v, p.type, &body);
    if (!r)
        r = read_reply(v, &p, body, reply);
    if (r)
        return r;
    if (p.type == WIRE_LOG_TAIL && !reply->error && !reply->page.end)
        return VARVE_OK; // there is more to come of this one
    buf_consume(&v->pending, sizeof p);
    v->user_pending -= !p.guard;
    return p.guard && reply->error ? client_malformed(v, "a PING was not answered as one")
                                   : VARVE_OK;
}

bool client_tailing(const struct varve *v)
{
    struct pending p = {.type = 0};
    if (buf_len(&v->pending))
        memcpy(&p, buf_head(&v->pending), sizeof p);
    return p.type == WIRE_LOG_TAIL;
}

// Starts the wait for a page of a tail, which may come as late as a sign of life.
static void begin_tail_page(struct varve *v)
{
    begin(v);
    if (v->timeout_ms && v->timeout_ms < TAIL_MS)
        v->deadline = os_mono_ns(v->os) + TAIL_MS * (uint64_t)1000000u;
}

enum varve_error client_end_tail(struct varve *v)
{
    struct slice none = {NULL, 0};
    if (v->user_pending > 1)
        return client_fail(v, VARVE_INVALID, "requests are queued behind the tail");
    begin(v);
    enum varve_error r = may_queue(v);
    r = r ? r
          : queued(v, wire_request(&v->out, WIRE_PING, &none, 1), buf_len(&v->out),
                   (struct pending){.type = WIRE_PING, .guard = true});
    for (bool guard = false; !r && !guard;) {
        struct varve_reply reply;
        begin_tail_page(v);
        r = take_reply(v, &reply, &guard);
    }
    return r;
}

enum varve_error varve_next_reply(struct varve *v, struct varve_reply *reply)
{
    *reply = (struct varve_reply){.error = VARVE_OK};
    if (client_tailing(v))
        begin_tail_page(v);
    else
        begin(v);
    if (v->user_pending == 0)
        return v->broken ? still_broken(v)
                         : client_fail(v, VARVE_INVALID, "no reply is outstanding");
    enum varve_error r = queue_guard(v);
    for (bool guard = true; !r && guard;)
        r = take_reply(v, reply, &guard);
    return r;
}

enum varve_error varve_flush(struct varve *v)
{
    begin(v);
    enum varve_error r = queue_guard(v);
    r = r ? r : v->broken ? still_broken(v) : send_some(v);
    while (!r && buf_len(&v->out)) {
        if (buf_len(&v->in) > READ_AHEAD)
            return client_fail(v, VARVE_FULL, "more than %u MiB of replies wait to be taken",
                               READ_AHEAD >> 20);
        r = turn(v);
    }
    return r;
}

size_t varve_outstanding(const struct varve *v)
{
    return v->user_pending;
}

enum varve_error client_queue(struct varve *v, enum wire_type type, const struct slice *args,
                              size_t count)
{
    enum varve_error r = may_queue(v);
    size_t before = buf_len(&v->out);
    return r ? r
             : queued(v, wire_request(&v->out, type, args, count), before,
                      (struct pending){.type = (uint8_t)type});
}

enum varve_error varve_queue_get(struct varve *v, const void *key, size_t key_size)
{
    struct slice arg = slice_of(key, key_size);
    return client_queue(v, WIRE_VGET, &arg, 1);
}

enum varve_error varve_queue_set(struct varve *v, const void *key, size_t key_size,
                                 const void *value, size_t value_size)
{
    struct slice args[2] = {slice_of(key, key_size), slice_of(value, value_size)};
    return client_queue(v, WIRE_SET, args, 2);
}

enum varve_error varve_queue_delete(struct varve *v, const void *key, size_t key_size)
{
    struct slice arg = slice_of(key, key_size);
    return client_queue(v, WIRE_DELETE, &arg, 1);
}

enum varve_error varve_queue_txn(struct varve *v, struct varve_op *ops, size_t count,
                                 const void *idempotency, size_t idempotency_size)
{
    enum varve_error r = may_queue(v);
    size_t before = buf_len(&v->out);
    struct slice idem = slice_of(idempotency, idempotency_size);
    return r ? r
             : queued(v, wire_request_txn(&v->out, ops, count, idem), before,
                      (struct pending){.type = WIRE_TXN, .ops = ops, .count = count});
}

enum varve_error varve_queue_log_append(struct varve *v, const struct varve_log *log,
                                        const struct varve_record *records, size_t count)
{
    enum varve_error r = may_queue(v);
    size_t before = buf_len(&v->out);
    return r ? r
             : queued(v, wire_request_append(&v->out, log, records, count), before,
                      (struct pending){.type = WIRE_LOG_APPEND});
}

enum varve_error client_queue_edit(struct varve *v, struct slice relation,
                                   const struct varve_rel_group *groups, size_t count,
                                   uint32_t flags, struct slice idempotency)
{
    enum varve_error r = may_queue(v);
    size_t before = buf_len(&v->out);
    return r ? r
             : queued(v, wire_request_edit(&v->out, relation, groups, count, flags, idempotency),
                      before, (struct pending){.type = WIRE_REL_EDIT});
}

enum varve_error client_only_reply(struct varve *v, enum varve_error r, struct varve_reply *reply)
{
    if (!r)
        r = varve_next_reply(v, reply);
    return r ? r : reply->error;
}

enum varve_error varve_get(struct varve *v, const void *key, size_t key_size,
                           struct varve_value *value)
{
    struct varve_reply reply = {.error = VARVE_OK};
    enum varve_error r = client_begin_alone(v);
    r = client_only_reply(v, r ? r : varve_queue_get(v, key, key_size), &reply);
    *value = reply.value;
    return r;
}

enum varve_error varve_set(struct varve *v, const void *key, size_t key_size, const void *value,
                           size_t value_size, struct varve_value *old)
{
    struct varve_reply reply = {.error = VARVE_OK};
    enum varve_error r = client_begin_alone(v);
    r = client_only_reply(v, r ? r : varve_queue_set(v, key, key_size, value, value_size), &reply);
    if (old)
        *old = reply.value;
    return r;
}

enum varve_error varve_delete(struct varve *v, const void *key, size_t key_size,
                              struct varve_value *old)
{
    struct varve_reply reply = {.error = VARVE_OK};
    enum varve_error r = client_begin_alone(v);
    r = client_only_reply(v, r ? r : varve_queue_delete(v, key, key_size), &reply);
    if (old)
        *old = reply.value;
    return r;
}

enum varve_error varve_txn(struct varve *v, struct varve_op *ops, size_t count,
                           const void *idempotency, size_t idempotency_size, uint64_t *sequence)
{
    struct varve_reply reply = {.error = VARVE_OK};
    enum varve_error r = client_begin_alone(v);
    r = client_only_reply(v, r ? r : varve_queue_txn(v, ops, count, idempotency, idempotency_size),
                          &reply);
    if (sequence)
        *sequence = reply.sequence;
    return r;
}

enum varve_error client_ask(struct varve *v, enum wire_type type, const struct slice *args,
                            size_t count, struct slice *body)
{
    struct varve_reply reply = {.error = VARVE_OK};
    enum varve_error r = client_begin_alone(v);
    r = client_only_reply(v, r ? r : client_queue(v, type, args, count), &reply);
    *body = slice_of(reply.value.data, reply.value.size);
    return r;
}

enum varve_error client_understood(struct varve *v, enum varve_error r, enum err e)
{
    return !r && e ? client_malformed(v, "a reply does not follow the protocol") : r;
}

struct listing {
    const struct client_listing *what;
    size_t left;     // keys still wanted; SIZE_MAX: all
    struct buf last; // the last key seen
};

// Hands one page to fn. *more: there may be another one, and nobody said stop.
static enum varve_error take_page(struct varve *v, struct listing *l, struct slice body, bool *more)
{
    uint32_t count;
    struct slice rest;
    *more = false;
    if (wire_read_list(body, &count, &rest) || count > l->left)
        return client_malformed(v, "a listing has no count, or one over what was asked for");
    for (uint32_t i = 0; i < count; i++) {
        struct slice key;
        struct varve_value value;
        if (wire_next_key(&rest, &key, l->what->values ? &value : NULL))
            return client_malformed(v, "a listing is cut short");
        // In order and within what was asked for, or a listing might never end.
        bool rises = buf_len(&l->last) == 0 || slice_compare(buf_slice(&l->last), key) < 0;
        if (!rises || !slice_starts(key, l->what->prefix))
            return client_malformed(v, "a listing holds keys that were not asked for");
        buf_clear(&l->last);
        if (buf_append(&l->last, key.p, key.n))
            return client_fail(v, VARVE_NO_MEMORY, "out of memory");
        if (!l->what->fn(l->what->arg, key.p, key.n, l->what->values ? &value : NULL))
            return VARVE_OK;
    }
    if (rest.n)
        return client_malformed(v, "a listing has bytes after its end");
    if (l->left != SIZE_MAX)
        l->left -= count;
    *more = count > 0 && l->left > 0; // a page may hold fewer keys than asked for, but not none
    return VARVE_OK;
}

enum varve_error client_list(struct varve *v, const struct client_listing *what, struct slice after)
{
    struct listing l = {.what = what, .left = what->limit ? what->limit : SIZE_MAX};
    buf_init(&l.last, REPLY_MAX);
    enum varve_error r = VARVE_OK;
    if (buf_append(&l.last, after.p, after.n))
        r = client_fail(v, VARVE_NO_MEMORY, "out of memory");
    for (bool more = true; !r && more;) {
        uint8_t page[8];
        struct slice body;
        struct slice args[3] = {what->scope, buf_slice(&l.last), slice_of(page, sizeof page)};
        wire_list_page(page, l.left, what->values);
        r = client_ask(v, what->type, args + what->unscoped, 3u - what->unscoped, &body);
        if (!r)
            r = take_page(v, &l, body, &more);
    }
    buf_release(&l.last);
    return r;
}

enum varve_error varve_list(struct varve *v, const void *prefix, size_t prefix_size,
                            const void *after, size_t after_size, size_t limit, bool values,
                            varve_list_fn fn, void *arg)
{
    struct client_listing l = {.type = WIRE_LIST,
                               .scope = slice_of(prefix, prefix_size),
                               .prefix = slice_of(prefix, prefix_size),
                               .limit = limit,
                               .values = values,
                               .fn = fn,
                               .arg = arg};
    return client_list(v, &l, slice_of(after, after_size));
}

enum varve_error varve_stat(struct varve *v, const char **text, size_t *size)
{
    struct slice body;
    enum varve_error r = client_ask(v, WIRE_STAT, NULL, 0, &body);
    if (r)
        return r;
    // It moves down over its own status byte, which makes room for the NUL.
    char *p = (char *)buf_head(&v->in) + 4;
    memmove(p, body.p, body.n);
    p[body.n] = 0;
    *text = p;
    *size = body.n;
    return VARVE_OK;
}

enum varve_error varve_ping(struct varve *v)
{
    struct slice body;
    struct slice sent = slice_str("varve");
    enum varve_error r = client_ask(v, WIRE_PING, &sent, 1, &body);
    if (!r && !slice_equal(body, sent))
        r = client_malformed(v, "a PING came back with other bytes");
    return r;
}

static enum varve_error connect_error(enum err e)
{
    if (e == ERR_INVALID)
        return VARVE_INVALID;
    return os_last_errno() == ETIMEDOUT ? VARVE_TIMEOUT : VARVE_NETWORK;
}

enum varve_error varve_connect(struct varve **conn, const char *addr, unsigned timeout_ms)
{
    struct varve *v = *conn = calloc(1, sizeof *v);
    if (!v)
        return VARVE_NO_MEMORY;
    v->os = os_real();
    v->fd = v->epfd = -1;
    v->timeout_ms = timeout_ms;
    buf_init(&v->out, OUT_MAX + GUARD);
    buf_init(&v->in, IN_MAX);
    buf_init(&v->pending, PENDING_MAX);
    struct errmsg msg = {""};
    enum err e = os_connect(addr, timeout_ms ? timeout_ms : 3600000, &v->fd, &msg);
    if (e) {
        v->fd = -1;
        return lost(v, connect_error(e), msg.text);
    }
    if (os_set_nonblocking(v->fd, true) || os_epoll_new(&v->epfd) ||
        os_epoll_set(v->epfd, EPOLL_CTL_ADD, v->fd, EPOLLIN, NULL))
        return lost(v, VARVE_NETWORK, os_last_error());
    return VARVE_OK;
}

void varve_close(struct varve *v)
{
    if (!v)
        return;
    if (v->fd >= 0)
        os_close_socket(v->fd);
    if (v->epfd >= 0)
        os_close_socket(v->epfd);
    buf_release(&v->out);
    buf_release(&v->in);
    buf_release(&v->pending);
    free(v);
}

const char *varve_error_text(const struct varve *v)
{
    return v ? v->error : "out of memory";
}

const char *varve_error_name(enum varve_error error)
{
    static const char *const names[] = {
        "VARVE_OK",   "VARVE_MISSING", "VARVE_CONFLICT", "VARVE_ERROR",    "VARVE_INVALID",
        "VARVE_FULL", "VARVE_TIMEOUT", "VARVE_NETWORK",  "VARVE_PROTOCOL", "VARVE_NO_MEMORY",
    };
    size_t i = (size_t)error;
    return i < sizeof names / sizeof *names ? names[i] : "unknown";
}

int64_t varve_value_int(const struct varve_value *value)
{
    return value->type == VARVE_INT && value->size == 8 ? (int64_t)load64(value->data) : 0;
}

double varve_value_float(const struct varve_value *value)
{
    double d = 0;
    if (value->type == VARVE_FLOAT && value->size == sizeof d)
        memcpy(&d, value->data, sizeof d);
    return d;
}

bool varve_value_bool(const struct varve_value *value)
{
    return value->type == VARVE_BOOL && value->size == 1 && *(const uint8_t *)value->data == 1;
}
