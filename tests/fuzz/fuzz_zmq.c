// A request over ZeroMQ. Properties: what is taken lies inside the request, and written down again
// gives the same bytes (but for zeros that begin a decimal time).
#include "fuzz.h"
#include "base/slice.h"
#include "edge/zmq/call.h"
#include <inttypes.h>
#include <stdio.h>

static uint8_t *put_u64(uint8_t *p, uint64_t v)
{
    store64(p, v);
    return p + 8;
}

static uint8_t *put_raw(uint8_t *p, struct slice s)
{
    if (s.n)
        memcpy(p, s.p, s.n);
    return p + s.n;
}

static uint8_t *put_slice(uint8_t *p, struct slice s)
{
    return put_raw(put_u64(p, s.n), s);
}

// Writes what `c` says; returns the end.
static uint8_t *encode(uint8_t *p, const struct call *c)
{
    *p++ = (uint8_t)c->id;
    switch (c->id) {
    case VARVE_ZMQ_PUT_OTHER:
        return put_slice(put_slice(p, c->key), c->value);
    case VARVE_ZMQ_PUT_OTHER_TTL:
        return put_u64(put_slice(put_slice(p, c->key), c->value), c->ttl_ms);
    case VARVE_ZMQ_GET_OTHER:
        return put_raw(p, c->key);
    case VARVE_ZMQ_PUT_EVENT:
    case VARVE_ZMQ_PUT_FAILURE:
    case VARVE_ZMQ_PING:
        return put_raw(p, c->value);
    case VARVE_ZMQ_DELETE_EVENT:
    case VARVE_ZMQ_TRIM_EVENTS:
    case VARVE_ZMQ_TRIM_FAILURES:
        return put_u64(p, (uint64_t)c->time);
    case VARVE_ZMQ_READ_EVENTS:
    case VARVE_ZMQ_READ_FAILURES:
        return put_u64(put_u64(p, (uint64_t)c->time), c->max_bytes);
    default:
        return p;
    }
}

static void check_decimal(const uint8_t *data, size_t size, const struct call *c)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%" PRId64, c->time);
    VERIFY(n > 0 && size > 9 && load64(data + 1) == size - 9 && (size_t)n <= size - 9);
    VERIFY(!memcmp(data + size - n, text, (size_t)n));
    for (size_t i = 9; i < size - (size_t)n; i++)
        VERIFY(data[i] == '0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = fuzz_copy(data, size, 0, 0);
    struct errmsg msg = {""};
    struct call c;
    enum err e = call_parse(slice_of(copy, size), &c, &msg);
    VERIFY(e == ERR_OK || (e == ERR_INVALID && msg.text[0]));
    if (e == ERR_OK && c.has_time &&
        (c.id == VARVE_ZMQ_GET_EVENTS || c.id == VARVE_ZMQ_GET_FAILURES)) {
        check_decimal(copy, size, &c);
    } else if (e == ERR_OK) {
        uint8_t *again = malloc(size + 32);
        VERIFY(again);
        size_t n = (size_t)(encode(again, &c) - again);
        VERIFY(n == size && !memcmp(again, copy, size));
        free(again);
    }
    free(copy);
    return 0;
}
