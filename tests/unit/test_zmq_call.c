// Requests over ZeroMQ: every command's layout, and everything that is not one.
#include "edge/zmq/call.h"
#include "base/assert.h"
#include "unit.h"
#include <stdio.h>

// A request being put together.
struct request {
    uint8_t bytes[256];
    size_t n;
};

static void put(struct request *r, const void *p, size_t n)
{
    assert_true(r->n + n <= sizeof r->bytes);
    memcpy(r->bytes + r->n, p, n);
    r->n += n;
}

static void put_u64(struct request *r, uint64_t v)
{
    uint8_t b[8];
    store64(b, v);
    put(r, b, 8);
}

static void put_string(struct request *r, const char *s)
{
    put_u64(r, strlen(s));
    put(r, s, strlen(s));
}

static struct request request(enum varve_zmq_command id)
{
    return (struct request){{(uint8_t)id}, 1};
}

static struct call parsed(const struct request *r)
{
    struct call c;
    struct errmsg msg = {""};
    if (call_parse(slice_of(r->bytes, r->n), &c, &msg))
        fail_msg("%s", msg.text);
    return c;
}

static void refused(const struct request *r, const char *want)
{
    struct call c;
    struct errmsg msg = {""};
    assert_int_equal(call_parse(slice_of(r->bytes, r->n), &c, &msg), ERR_INVALID);
    assert_string_equal(msg.text, want);
}

static void assert_bytes(struct slice s, const char *want)
{
    assert_int_equal(s.n, strlen(want));
    assert_memory_equal(s.p, want, s.n);
}

static void numbers_are_wx_stores(void **state)
{
    assert_int_equal(VARVE_ZMQ_PUT_OTHER, 0);
    assert_int_equal(VARVE_ZMQ_GET_OTHER, 1);
    assert_int_equal(VARVE_ZMQ_PUT_EVENT, 2);
    assert_int_equal(VARVE_ZMQ_GET_EVENTS, 3);
    assert_string_equal(call_name(VARVE_ZMQ_GET_ALL_EVENTS), "GET_ALL_EVENTS");
    assert_string_equal(call_name(VARVE_ZMQ_READ_FAILURES), "READ_FAILURES");
}

static void others(void **state)
{
    struct request r = request(VARVE_ZMQ_PUT_OTHER);
    put_string(&r, "key");
    put_string(&r, "the value");
    struct call c = parsed(&r);
    assert_int_equal(c.id, VARVE_ZMQ_PUT_OTHER);
    assert_bytes(c.key, "key");
    assert_bytes(c.value, "the value");
    assert_int_equal(c.ttl_ms, 0);

    r.bytes[0] = VARVE_ZMQ_PUT_OTHER_TTL;
    refused(&r, "PUT_OTHER_TTL: 0 bytes are left where the time to live takes 8");
    put_u64(&r, 1500);
    assert_int_equal(parsed(&r).ttl_ms, 1500);
    r.bytes[0] = VARVE_ZMQ_PUT_OTHER;
    refused(&r, "PUT_OTHER: 8 bytes follow its arguments");

    r = request(VARVE_ZMQ_GET_OTHER);
    assert_bytes(parsed(&r).key, "");
    put(&r, "raw\0key", 7);
    c = parsed(&r);
    assert_int_equal(c.key.n, 7);
    assert_ptr_equal(c.key.p, r.bytes + 1);
}

static void times(void **state)
{
    struct request r = request(VARVE_ZMQ_GET_EVENTS);
    assert_false(parsed(&r).has_time);
    put_string(&r, "1700000000000000");
    struct call c = parsed(&r);
    assert_true(c.has_time);
    assert_true(c.time == 1700000000000000);

    r = request(VARVE_ZMQ_GET_FAILURES);
    put_string(&r, "9223372036854775807");
    assert_true(parsed(&r).time == INT64_MAX);
    static const char *const bad[][2] = {
        {"", "GET_FAILURES: the timestamp is an empty string"},
        {"9223372036854775808", "GET_FAILURES: the timestamp is out of range"},
        {"18446744073709551617", "GET_FAILURES: the timestamp is out of range"},
        {"-1", "GET_FAILURES: the timestamp's byte 0 is not a decimal digit"},
        {"12x", "GET_FAILURES: the timestamp's byte 2 is not a decimal digit"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        r = request(VARVE_ZMQ_GET_FAILURES);
        put_string(&r, bad[i][0]);
        refused(&r, bad[i][1]);
    }

    r = request(VARVE_ZMQ_DELETE_EVENT);
    put_u64(&r, 7);
    assert_int_equal(parsed(&r).time, 7);
    put(&r, "x", 1);
    refused(&r, "DELETE_EVENT: 1 bytes follow its arguments");
    r = request(VARVE_ZMQ_TRIM_FAILURES);
    put_u64(&r, UINT64_MAX);
    refused(&r, "TRIM_FAILURES: the timestamp 18446744073709551615 is out of range");
    r = request(VARVE_ZMQ_READ_EVENTS);
    put_u64(&r, 7);
    refused(&r, "READ_EVENTS: 0 bytes are left where the number of bytes takes 8");
    put_u64(&r, 100);
    c = parsed(&r);
    assert_true(c.has_time && c.time == 7 && c.max_bytes == 100);
    r = request(VARVE_ZMQ_GET_ALL_EVENTS);
    (void)parsed(&r);
    put(&r, "1", 1);
    refused(&r, "GET_ALL_EVENTS: 1 bytes follow its arguments");
}

static void lengths_that_are_not_true(void **state)
{
    static const uint64_t lengths[] = {4, 5, 0xffffffff, 0x100000003, UINT64_MAX - 2, UINT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct request r = request(VARVE_ZMQ_PUT_OTHER);
        char want[200];
        put_u64(&r, lengths[i]);
        put(&r, "key", 3);
        snprintf(want, sizeof want,
                 "PUT_OTHER: the key is said to have %llu bytes, but only 3 follow",
                 (unsigned long long)lengths[i]);
        refused(&r, want);
    }
    struct request r = request(VARVE_ZMQ_PUT_OTHER);
    refused(&r, "PUT_OTHER: 0 bytes are left where the key takes 8");
    put_string(&r, "key");
    put(&r, "\1\0\0", 3);
    refused(&r, "PUT_OTHER: 3 bytes are left where the value takes 8");
}

static void commands_that_are_none(void **state)
{
    struct request r = {.n = 0};
    refused(&r, "an empty request: its first byte is the command");
    r = request(VARVE_ZMQ_COMMAND_COUNT);
    refused(&r, "unknown command 15, the last is 14");
    r.bytes[0] = 255;
    refused(&r, "unknown command 255, the last is 14");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_wx_stores),
        cmocka_unit_test(others),
        cmocka_unit_test(times),
        cmocka_unit_test(lengths_that_are_not_true),
        cmocka_unit_test(commands_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
