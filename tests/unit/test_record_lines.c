// Records as JSON lines: what goes out comes back, what is wrong is refused and leaves nothing.
#include "unit.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/limits.h"
#include "cli/record.h"

static struct json_parser *parser;

static int setup(void **state)
{
    parser = json_parser_new(1 << 20);
    return parser ? 0 : -1;
}

static int teardown(void **state)
{
    json_parser_free(parser);
    return 0;
}

static void round_trip(struct varve_record in)
{
    struct buf text, out;
    struct varve_record r;
    struct errmsg msg;
    buf_init(&text, 1 << 20);
    buf_init(&out, 1 << 20);
    assert_ok(buf_append(&out, "before", 6));
    assert_ok(record_put_json(&text, &in));
    assert_true(utf8_valid(buf_slice(&text)));
    assert_ok(record_get_json(&out, parser, buf_slice(&text), &r, &msg));
    assert_int_equal(r.has_nonce, in.has_nonce);
    assert_int_equal(r.nonce.low, in.nonce.low);
    assert_int_equal(r.nonce.high, in.nonce.high);
    assert_true(r.has_timestamp && r.timestamp == in.timestamp);
    assert_int_equal(r.size, in.size);
    assert_int_equal(buf_len(&out), 6 + in.size);
    if (in.size)
        assert_memory_equal(buf_head(&out) + 6, in.data, in.size);
    buf_release(&text);
    buf_release(&out);
}

static void test_round_trip(void **state)
{
    round_trip((struct varve_record){.offset = 1, .data = "text", .size = 4});
    round_trip((struct varve_record){.offset = UINT64_MAX, .timestamp = INT64_MAX});
    round_trip((struct varve_record){.timestamp = INT64_MIN + 1, .data = "\xff\0\n", .size = 3});
    round_trip((struct varve_record){.has_nonce = true, .data = "\"\\\n\t\x01", .size = 5});
    round_trip((struct varve_record){.has_nonce = true, .nonce = {UINT64_MAX - 1, UINT64_MAX}});
}

static enum err parse(const char *line, struct varve_record *r, struct errmsg *msg)
{
    struct buf text, out;
    buf_init(&text, 1 << 16);
    buf_init(&out, 1 << 16);
    msg->text[0] = 0;
    assert_ok(buf_append(&text, line, strlen(line)));
    enum err e = record_get_json(&out, parser, buf_slice(&text), r, msg);
    if (e)
        assert_int_equal(buf_len(&out), 0);
    buf_release(&text);
    buf_release(&out);
    return e;
}

static void test_parse(void **state)
{
    struct varve_record r;
    struct errmsg msg;
    assert_ok(parse("{\"record\":\"\"}", &r, &msg));
    assert_false(r.has_nonce || r.has_timestamp);
    assert_ok(parse("{\"nonce\":18446744073709551615,\"base64\":\"AA==\"}", &r, &msg));
    assert_true(r.has_nonce && r.nonce.low == UINT64_MAX && r.nonce.high == 0 && r.size == 1);
    assert_ok(
        parse("{\"nonce\":\"18446744073709551616\",\"record\":\"x\",\"offset\":7}", &r, &msg));
    assert_true(r.nonce.low == 0 && r.nonce.high == 1);
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"record\":1}",
        "{\"record\":\"a\",\"record\":\"b\"}",
        "{\"record\":\"a\",\"base64\":\"\"}",
        "{\"base64\":\"A\"}",
        "{\"record\":\"a\",\"other\":1}",
        "{\"record\":\"a\",\"nonce\":-1}",
        "{\"record\":\"a\",\"nonce\":1.5}",
        "{\"record\":\"a\",\"nonce\":\"\"}",
        "{\"record\":\"a\",\"nonce\":\"1 \"}",
        "{\"record\":\"a\",\"nonce\":\"340282366920938463463374607431768211455\"}",
        "{\"record\":\"a\",\"timestamp\":\"1\"}",
        "{\"record\":\"a\",\"timestamp\":9223372036854775808}",
        "{\"record\":\"a\",\"timestamp\":-9223372036854775808}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (parse(bad[i], &r, &msg) == ERR_OK)
            fail_msg("taken: %s", bad[i]);
        assert_true(msg.text[0] != 0);
    }
}

static void test_from(void **state)
{
    struct varve_log_query q = {.backwards = false};
    struct errmsg msg;
    assert_ok(record_from("first", &q, &msg));
    assert_int_equal(q.start, VARVE_START_FIRST);
    assert_ok(record_from("12", &q, &msg));
    assert_true(q.start == VARVE_START_OFFSET && q.offset == 12);
    assert_ok(record_from("offset:18446744073709551615", &q, &msg));
    assert_true(q.start == VARVE_START_OFFSET && q.offset == UINT64_MAX);
    assert_ok(record_from("timestamp:-5", &q, &msg));
    assert_true(q.start == VARVE_START_TIMESTAMP && q.timestamp == -5);
    assert_ok(record_from("nonce:18446744073709551617", &q, &msg));
    assert_true(q.start == VARVE_START_NONCE && q.nonce.low == 1 && q.nonce.high == 1);
    static const char *const bad[] = {"",        "last",
                                      "offset:", "offset:-1",
                                      "-1",      "timestamp:",
                                      "nonce:",  "nonce:x",
                                      "1x",      "nonce:340282366920938463463374607431768211455"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(record_from(bad[i], &q, &msg), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_from),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
