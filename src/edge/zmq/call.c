// Parsing requests: see edge/zmq/call.h.
#include "edge/zmq/call.h"
#include <inttypes.h>

static const char *const names[] = {
#define X(name, number) [number] = #name,
    VARVE_ZMQ_COMMANDS(X)
#undef X
};

const char *call_name(enum varve_zmq_command id)
{
    return names[id];
}

// What is being taken apart, and for whom.
struct reader {
    struct slice rest;
    const char *command;
    struct errmsg *msg;
};

static enum err take_u64(struct reader *r, const char *what, uint64_t *v)
{
    *v = 0;
    if (r->rest.n < 8)
        return err_set(r->msg, ERR_INVALID, "%s: %zu bytes are left where the %s takes 8",
                       r->command, r->rest.n, what);
    *v = load64(r->rest.p);
    r->rest = slice_of(r->rest.p + 8, r->rest.n - 8);
    return ERR_OK;
}

static enum err take_bytes(struct reader *r, const char *what, struct slice *s)
{
    uint64_t n;
    enum err e = take_u64(r, what, &n);
    if (e)
        return e;
    if (n > r->rest.n)
        return err_set(r->msg, ERR_INVALID,
                       "%s: the %s is said to have %" PRIu64 " bytes, but only %zu follow",
                       r->command, what, n, r->rest.n);
    *s = slice_of(r->rest.p, (size_t)n);
    r->rest = slice_of(r->rest.p + n, r->rest.n - (size_t)n);
    return ERR_OK;
}

static enum err take_time(struct reader *r, int64_t *time)
{
    uint64_t v;
    enum err e = take_u64(r, "timestamp", &v);
    if (e)
        return e;
    if (v > INT64_MAX)
        return err_set(r->msg, ERR_INVALID, "%s: the timestamp %" PRIu64 " is out of range",
                       r->command, v);
    *time = (int64_t)v;
    return ERR_OK;
}

// A bincode string with a decimal number.
static enum err take_decimal(struct reader *r, int64_t *time)
{
    struct slice text;
    uint64_t v = 0;
    enum err e = take_bytes(r, "timestamp", &text);
    if (e)
        return e;
    if (text.n == 0)
        return err_set(r->msg, ERR_INVALID, "%s: the timestamp is an empty string", r->command);
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return err_set(r->msg, ERR_INVALID,
                           "%s: the timestamp's byte %zu is not a decimal digit", r->command, i);
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(text.p[i] - '0'), &v) || v > INT64_MAX)
            return err_set(r->msg, ERR_INVALID, "%s: the timestamp is out of range", r->command);
    }
    *time = (int64_t)v;
    return ERR_OK;
}

static struct slice take_rest(struct reader *r)
{
    struct slice s = r->rest;
    r->rest.n = 0;
    return s;
}

static enum err take_other(struct reader *r, struct call *c)
{
    enum err e;
    if ((e = take_bytes(r, "key", &c->key)) || (e = take_bytes(r, "value", &c->value)))
        return e;
    return c->id == VARVE_ZMQ_PUT_OTHER_TTL ? take_u64(r, "time to live", &c->ttl_ms) : ERR_OK;
}

static enum err take_arguments(struct reader *r, struct call *c)
{
    enum err e;
    switch (c->id) {
    case VARVE_ZMQ_PUT_OTHER:
    case VARVE_ZMQ_PUT_OTHER_TTL:
        e = take_other(r, c);
        break;
    case VARVE_ZMQ_GET_OTHER:
        c->key = take_rest(r);
        return ERR_OK;
    case VARVE_ZMQ_PUT_EVENT:
    case VARVE_ZMQ_PUT_FAILURE:
    case VARVE_ZMQ_PING:
        c->value = take_rest(r);
        return ERR_OK;
    case VARVE_ZMQ_GET_EVENTS:
    case VARVE_ZMQ_GET_FAILURES:
        c->has_time = r->rest.n > 0;
        e = c->has_time ? take_decimal(r, &c->time) : ERR_OK;
        break;
    case VARVE_ZMQ_DELETE_EVENT:
    case VARVE_ZMQ_TRIM_EVENTS:
    case VARVE_ZMQ_TRIM_FAILURES:
        e = take_time(r, &c->time);
        break;
    case VARVE_ZMQ_READ_EVENTS:
    case VARVE_ZMQ_READ_FAILURES:
        e = take_time(r, &c->time);
        c->has_time = true;
        if (!e)
            e = take_u64(r, "number of bytes", &c->max_bytes);
        break;
    default: // GET_ALL_*
        e = ERR_OK;
    }
    if (!e && r->rest.n)
        return err_set(r->msg, ERR_INVALID, "%s: %zu bytes follow its arguments", r->command,
                       r->rest.n);
    return e;
}

enum err call_parse(struct slice request, struct call *c, struct errmsg *msg)
{
    if (request.n == 0)
        return err_set(msg, ERR_INVALID, "an empty request: its first byte is the command");
    if (request.p[0] >= VARVE_ZMQ_COMMAND_COUNT)
        return err_set(msg, ERR_INVALID, "unknown command %u, the last is %u", request.p[0],
                       VARVE_ZMQ_COMMAND_COUNT - 1);
    *c = (struct call){.id = (enum varve_zmq_command)request.p[0]};
    struct reader r = {slice_of(request.p + 1, request.n - 1), call_name(c->id), msg};
    return take_arguments(&r, c);
}
