// The client of include/varve-zmq.h. A library of its own: of base it uses only what is inline.
//
// A request is one message that is built in place; a reply is kept as libzmq's message until the
// next call, so that nothing of it is copied.
#include "varve-zmq.h"
#include "base/slice.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

#define IN_FLIGHT_MAX 1000000u

struct varve_zmq {
    void *context, *socket;
    enum varve_zmq_kind kind;
    enum varve_zmq_error broken; // VARVE_ZMQ_OK: it is not
    size_t in_flight;
    zmq_msg_t reply; // of the last call
    char text[512];
};

static enum varve_zmq_error fail(struct varve_zmq *z, enum varve_zmq_error e, const char *text)
{
    snprintf(z->text, sizeof z->text, "%s", text);
    if (e == VARVE_ZMQ_TIMEOUT || e == VARVE_ZMQ_NETWORK || e == VARVE_ZMQ_PROTOCOL)
        z->broken = e;
    return e;
}

// ---- opening

static bool set(struct varve_zmq *z, int option, int value)
{
    return zmq_setsockopt(z->socket, option, &value, sizeof value) == 0;
}

static enum varve_zmq_error connect_socket(struct varve_zmq *z, const char *endpoint, int timeout)
{
    z->context = zmq_ctx_new();
    if (z->context)
        z->socket = zmq_socket(z->context, z->kind == VARVE_ZMQ_REQ ? ZMQ_REQ : ZMQ_DEALER);
    if (!z->socket || !set(z, ZMQ_LINGER, 0) || !set(z, ZMQ_RCVTIMEO, timeout) ||
        !set(z, ZMQ_SNDTIMEO, timeout) || !set(z, ZMQ_IPV6, strchr(endpoint, '[') != NULL))
        return fail(z, VARVE_ZMQ_NETWORK, zmq_strerror(errno));
    if (zmq_connect(z->socket, endpoint) == 0)
        return VARVE_ZMQ_OK;
    char text[400];
    snprintf(text, sizeof text, "cannot connect to %.300s: %s", endpoint, zmq_strerror(errno));
    (void)fail(z, VARVE_ZMQ_NETWORK, text);
    return errno == EINVAL || errno == EPROTONOSUPPORT ? VARVE_ZMQ_INVALID : VARVE_ZMQ_NETWORK;
}

enum varve_zmq_error varve_zmq_open(struct varve_zmq **out, const char *endpoint,
                                    enum varve_zmq_kind kind, unsigned timeout_ms)
{
    struct varve_zmq *z = calloc(1, sizeof *z);
    *out = z;
    if (!z)
        return VARVE_ZMQ_NO_MEMORY;
    z->kind = kind;
    zmq_msg_init(&z->reply);
    return connect_socket(z, endpoint, timeout_ms && timeout_ms < INT_MAX ? (int)timeout_ms : -1);
}

void varve_zmq_close(struct varve_zmq *z)
{
    if (!z)
        return;
    zmq_msg_close(&z->reply);
    if (z->socket)
        zmq_close(z->socket);
    while (z->context && zmq_ctx_term(z->context) && errno == EINTR)
        ;
    free(z);
}

const char *varve_zmq_error_text(const struct varve_zmq *z)
{
    return z ? z->text : "out of memory";
}

size_t varve_zmq_in_flight(const struct varve_zmq *z)
{
    return z->in_flight;
}

// ---- one request

// Begins a request of the command and `n` more bytes; *p: their place.
static enum varve_zmq_error begin(struct varve_zmq *z, zmq_msg_t *m, enum varve_zmq_command command,
                                  size_t n, uint8_t **p)
{
    if (z->broken)
        return z->broken;
    if (zmq_msg_init_size(m, 1 + n))
        return fail(z, VARVE_ZMQ_NO_MEMORY, "out of memory");
    *p = zmq_msg_data(m);
    *(*p)++ = (uint8_t)command;
    return VARVE_ZMQ_OK;
}

static uint8_t *put_u64(uint8_t *p, uint64_t v)
{
    store64(p, v);
    return p + 8;
}

static uint8_t *put_raw(uint8_t *p, const void *data, size_t n)
{
    if (n)
        memcpy(p, data, n);
    return p + n;
}

// Takes the message in any case.
static enum varve_zmq_error send_request(struct varve_zmq *z, zmq_msg_t *m, int flags)
{
    int rc;
    do
        rc = zmq_msg_send(m, z->socket, flags);
    while (rc < 0 && errno == EINTR);
    if (rc >= 0)
        return VARVE_ZMQ_OK;
    int error = errno;
    zmq_msg_close(m);
    if (error != EAGAIN)
        return fail(z, VARVE_ZMQ_NETWORK, zmq_strerror(error));
    if (flags & ZMQ_DONTWAIT)
        return fail(z, VARVE_ZMQ_FULL, "the socket's queue is full: take replies first");
    return fail(z, VARVE_ZMQ_TIMEOUT, "the request could not be sent in time");
}

// Receives into z->reply; *result: what follows the status.
static enum varve_zmq_error receive(struct varve_zmq *z, struct slice *result)
{
    int rc;
    zmq_msg_close(&z->reply);
    zmq_msg_init(&z->reply);
    do
        rc = zmq_msg_recv(&z->reply, z->socket, 0);
    while (rc < 0 && errno == EINTR);
    if (rc < 0 && errno == EAGAIN)
        return fail(z, VARVE_ZMQ_TIMEOUT, "no reply in time");
    if (rc < 0)
        return fail(z, VARVE_ZMQ_NETWORK, zmq_strerror(errno));
    const uint8_t *p = zmq_msg_data(&z->reply);
    size_t n = zmq_msg_size(&z->reply);
    if (zmq_msg_more(&z->reply) || n == 0 || p[0] > VARVE_ZMQ_FAILURE)
        return fail(z, VARVE_ZMQ_PROTOCOL, "the reply is not one of varve's");
    *result = slice_of(p + 1, n - 1);
    if (p[0] == VARVE_ZMQ_SUCCESS)
        return VARVE_ZMQ_OK;
    size_t shown = result->n < sizeof z->text ? result->n : sizeof z->text - 1;
    memcpy(z->text, result->p, shown);
    z->text[shown] = 0;
    return VARVE_ZMQ_REFUSED;
}

// Sends the request and waits for its reply.
static enum varve_zmq_error call(struct varve_zmq *z, zmq_msg_t *m, struct slice *result)
{
    if (z->in_flight) {
        zmq_msg_close(m);
        return fail(z, VARVE_ZMQ_INVALID, "take the replies of the events in flight first");
    }
    enum varve_zmq_error e = send_request(z, m, 0);
    return e ? e : receive(z, result);
}

static enum varve_zmq_error malformed(struct varve_zmq *z)
{
    return fail(z, VARVE_ZMQ_PROTOCOL, "the reply's length is not what its command gives");
}

// The command of a stream.
static enum varve_zmq_command of(enum varve_zmq_stream stream, enum varve_zmq_command events,
                                 enum varve_zmq_command failures)
{
    return stream == VARVE_ZMQ_FAILURES ? failures : events;
}

// ---- other

enum varve_zmq_error varve_zmq_put_other(struct varve_zmq *z, const void *key, size_t key_size,
                                         const void *value, size_t value_size, uint64_t ttl_ms)
{
    zmq_msg_t m;
    uint8_t *p;
    struct slice result;
    enum varve_zmq_error e = begin(z, &m, ttl_ms ? VARVE_ZMQ_PUT_OTHER_TTL : VARVE_ZMQ_PUT_OTHER,
                                   16 + key_size + value_size + (ttl_ms ? 8 : 0), &p);
    if (e)
        return e;
    p = put_raw(put_u64(p, key_size), key, key_size);
    p = put_raw(put_u64(p, value_size), value, value_size);
    if (ttl_ms)
        put_u64(p, ttl_ms);
    e = call(z, &m, &result);
    return !e && !slice_equal(result, slice_of(key, key_size)) ? malformed(z) : e;
}

enum varve_zmq_error varve_zmq_get_other(struct varve_zmq *z, const void *key, size_t key_size,
                                         const void **data, size_t *size)
{
    zmq_msg_t m;
    uint8_t *p;
    struct slice result;
    enum varve_zmq_error e = begin(z, &m, VARVE_ZMQ_GET_OTHER, key_size, &p);
    if (e)
        return e;
    put_raw(p, key, key_size);
    if ((e = call(z, &m, &result)))
        return e;
    *data = result.p;
    *size = result.n;
    return VARVE_ZMQ_OK;
}

// ---- putting events

static enum varve_zmq_error take_time(struct varve_zmq *z, struct slice result, uint64_t *time)
{
    if (result.n != 8)
        return malformed(z);
    *time = load64(result.p);
    return VARVE_ZMQ_OK;
}

static enum varve_zmq_error begin_event(struct varve_zmq *z, zmq_msg_t *m,
                                        enum varve_zmq_stream stream, const void *data, size_t size)
{
    uint8_t *p;
    enum varve_zmq_error e =
        begin(z, m, of(stream, VARVE_ZMQ_PUT_EVENT, VARVE_ZMQ_PUT_FAILURE), size, &p);
    if (!e)
        put_raw(p, data, size);
    return e;
}

enum varve_zmq_error varve_zmq_put_event(struct varve_zmq *z, enum varve_zmq_stream stream,
                                         const void *data, size_t size, uint64_t *time)
{
    zmq_msg_t m;
    struct slice result;
    enum varve_zmq_error e = begin_event(z, &m, stream, data, size);
    if (!e)
        e = call(z, &m, &result);
    return e ? e : take_time(z, result, time);
}

enum varve_zmq_error varve_zmq_send_event(struct varve_zmq *z, enum varve_zmq_stream stream,
                                          const void *data, size_t size)
{
    zmq_msg_t m;
    if (z->kind != VARVE_ZMQ_DEALER)
        return fail(z, VARVE_ZMQ_INVALID, "only a DEALER has several requests in flight");
    if (z->in_flight >= IN_FLIGHT_MAX)
        return fail(z, VARVE_ZMQ_FULL, "a million events are in flight: take replies first");
    enum varve_zmq_error e = begin_event(z, &m, stream, data, size);
    if (!e)
        e = send_request(z, &m, ZMQ_DONTWAIT);
    if (!e)
        z->in_flight++;
    return e;
}

enum varve_zmq_error varve_zmq_receive_event(struct varve_zmq *z, uint64_t *time)
{
    struct slice result;
    if (z->broken)
        return z->broken;
    if (!z->in_flight)
        return fail(z, VARVE_ZMQ_INVALID, "no event is in flight");
    enum varve_zmq_error e = receive(z, &result);
    if (!z->broken)
        z->in_flight--;
    return e ? e : take_time(z, result, time);
}

// ---- getting events

static enum varve_zmq_error get(struct varve_zmq *z, enum varve_zmq_command command,
                                const char *text, struct varve_zmq_events *events)
{
    zmq_msg_t m;
    uint8_t *p;
    struct slice result;
    size_t n = text ? strlen(text) : 0;
    enum varve_zmq_error e = begin(z, &m, command, text ? 8 + n : 0, &p);
    if (e)
        return e;
    if (text)
        put_raw(put_u64(p, n), text, n);
    if ((e = call(z, &m, &result)))
        return e;
    if (result.n < 8)
        return malformed(z);
    *events = (struct varve_zmq_events){load64(result.p), result.p + 8, result.n - 8};
    return VARVE_ZMQ_OK;
}

enum varve_zmq_error varve_zmq_get_events(struct varve_zmq *z, enum varve_zmq_stream stream,
                                          const uint64_t *after, struct varve_zmq_events *events)
{
    char text[32];
    if (after)
        snprintf(text, sizeof text, "%" PRIu64, *after);
    return get(z, of(stream, VARVE_ZMQ_GET_EVENTS, VARVE_ZMQ_GET_FAILURES), after ? text : NULL,
               events);
}

enum varve_zmq_error varve_zmq_get_all_events(struct varve_zmq *z, enum varve_zmq_stream stream,
                                              struct varve_zmq_events *events)
{
    return get(z, of(stream, VARVE_ZMQ_GET_ALL_EVENTS, VARVE_ZMQ_GET_ALL_FAILURES), NULL, events);
}

// One u64 as argument, or two.
static enum varve_zmq_error call_numbers(struct varve_zmq *z, enum varve_zmq_command command,
                                         const uint64_t *numbers, size_t count,
                                         struct slice *result)
{
    zmq_msg_t m;
    uint8_t *p;
    enum varve_zmq_error e = begin(z, &m, command, 8 * count, &p);
    for (size_t i = 0; i < count && !e; i++)
        p = put_u64(p, numbers[i]);
    return e ? e : call(z, &m, result);
}

bool varve_zmq_next_event(struct varve_zmq_page *page, struct varve_zmq_event *event)
{
    const uint8_t *at = page->at, *end = page->end;
    if (at == end)
        return false;
    *event = (struct varve_zmq_event){load64(at), at + 16, (size_t)load64(at + 8)};
    page->at = at + 16 + event->size;
    return true;
}

// True if exactly `count` events lie in [at, end).
static bool page_is_whole(const uint8_t *at, const uint8_t *end, uint64_t count)
{
    uint64_t seen = 0;
    while (at != end) {
        size_t left = (size_t)(end - at);
        if (left < 16 || load64(at + 8) > left - 16)
            return false;
        at += 16 + (size_t)load64(at + 8);
        seen++;
    }
    return seen == count;
}

enum varve_zmq_error varve_zmq_read_events(struct varve_zmq *z, enum varve_zmq_stream stream,
                                           uint64_t after, uint64_t max_bytes,
                                           struct varve_zmq_page *page)
{
    const uint64_t numbers[] = {after, max_bytes};
    struct slice result;
    enum varve_zmq_error e = call_numbers(
        z, of(stream, VARVE_ZMQ_READ_EVENTS, VARVE_ZMQ_READ_FAILURES), numbers, 2, &result);
    if (e)
        return e;
    if (result.n < 16 || !page_is_whole(result.p + 16, result.p + result.n, load64(result.p + 8)))
        return malformed(z);
    *page = (struct varve_zmq_page){load64(result.p + 8), load64(result.p), result.p + 16,
                                    result.p + result.n};
    return VARVE_ZMQ_OK;
}

enum varve_zmq_error varve_zmq_delete_event(struct varve_zmq *z, uint64_t time, bool *deleted)
{
    struct slice result;
    enum varve_zmq_error e = call_numbers(z, VARVE_ZMQ_DELETE_EVENT, &time, 1, &result);
    if (e)
        return e;
    if (result.n != 1)
        return malformed(z);
    *deleted = result.p[0] != 0;
    return VARVE_ZMQ_OK;
}

enum varve_zmq_error varve_zmq_trim_events(struct varve_zmq *z, enum varve_zmq_stream stream,
                                           uint64_t before)
{
    struct slice result;
    enum varve_zmq_error e = call_numbers(
        z, of(stream, VARVE_ZMQ_TRIM_EVENTS, VARVE_ZMQ_TRIM_FAILURES), &before, 1, &result);
    return !e && result.n ? malformed(z) : e;
}

enum varve_zmq_error varve_zmq_ping(struct varve_zmq *z)
{
    struct slice result;
    enum varve_zmq_error e = call_numbers(z, VARVE_ZMQ_PING, NULL, 0, &result);
    return !e && result.n ? malformed(z) : e;
}
