// Dump lines, base64 and typed values: what goes out comes back, byte for byte; what is wrong is
// refused and leaves nothing behind.
#include "unit.h"

#include "base/os.h"
#include "base/base64.h"
#include "cli/lines.h"
#include "cli/value.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct json_parser *parser;

static int setup(void **state)
{
    parser = json_parser_new(LINE_BYTES);
    return parser ? 0 : -1;
}

static int teardown(void **state)
{
    json_parser_free(parser);
    return 0;
}

static void round_trip(struct slice key, struct varve_value v)
{
    struct buf text, out;
    struct line line;
    struct errmsg msg;
    buf_init(&text, LINE_BYTES);
    buf_init(&out, LINE_BYTES);
    assert_ok(buf_append(&out, "before", 6));
    assert_ok(line_put(&text, parser, key, &v));
    struct slice s = buf_slice(&text);
    assert_int_equal(s.p[s.n - 1], '\n');
    assert_null(memchr(s.p, '\n', s.n - 1));
    assert_true(utf8_valid(s));
    if (line_get(&out, parser, slice_of(s.p, s.n - 1), &line, &msg))
        fail_msg("%s: %.*s", msg.text, (int)s.n, (const char *)s.p);
    assert_int_equal(line.type, v.type);
    assert_int_equal(line.expires_ms, v.expires_ms);
    assert_int_equal(line.key_n, key.n);
    assert_int_equal(line.value_n, v.size);
    assert_memory_equal(buf_head(&out), "before", 6);
    assert_memory_equal(buf_head(&out) + 6, key.p, key.n);
    if (v.size)
        assert_memory_equal(buf_head(&out) + 6 + key.n, v.data, v.size);
    buf_release(&text);
    buf_release(&out);
}

static void trip(enum varve_type type, const void *data, size_t n)
{
    round_trip(slice_str("k"), (struct varve_value){type, data, n, 3, 0});
}

static void test_values(void **state)
{
    static const int64_t ints[] = {0, 1, -1, INT64_MAX, INT64_MIN, 1ll << 53, (1ll << 53) + 1};
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        trip(VARVE_INT, &ints[i], 8);
    const double floats[] = {0.0,      -0.0,
                             1,        1.5,
                             0.1,      1e300,
                             -1e-300,  DBL_MAX,
                             DBL_MIN,  DBL_TRUE_MIN,
                             INFINITY, -INFINITY,
                             NAN,      9007199254740993.0};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        trip(VARVE_FLOAT, &floats[i], 8);
    trip(VARVE_BOOL, "\0", 1);
    trip(VARVE_BOOL, "\1", 1);
    static const char *const arrays[] = {"[]",
                                         "[1,2.5,-3]",
                                         "[18446744073709551615]",
                                         "[1e+30]",
                                         "[ 1]",
                                         "[-0]",
                                         "[1.0,2.50]",
                                         "[1,",
                                         "nonsense",
                                         ""};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        trip(VARVE_ARRAY, arrays[i], strlen(arrays[i]));
    static const char *const strings[] = {"",
                                          "plain",
                                          "\"quoted\\\"",
                                          "tab\tnewline\n\x7f\x01",
                                          "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
                                          "\xff\xfe",
                                          "\xed\xa0\x80",
                                          "\xe2\x80\xa8"};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        trip(VARVE_STRING, strings[i], strlen(strings[i]));
        trip(VARVE_BYTES, strings[i], strlen(strings[i]));
    }
    trip(VARVE_STRING, "a\0b", 3);
    round_trip(slice_of("\0\xff", 2), (struct varve_value){VARVE_BYTES, "x", 1, 1, 123456789012});
    round_trip(slice_of("a\0b", 3), (struct varve_value){VARVE_STRING, "x", 1, 1, 0});
}

static void test_random(void **state)
{
    uint64_t seed;
    os_random(os_real(), &seed, sizeof seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    srandom((unsigned)seed);
    for (int i = 0; i < 3000; i++) {
        uint8_t key[20], value[60];
        size_t kn = 1 + (size_t)random() % 19, vn = (size_t)random() % 60;
        bool ascii = random() % 2;
        for (size_t j = 0; j < sizeof value; j++)
            value[j] = (uint8_t)(ascii ? random() % 128 : random());
        memcpy(key, value + 40, sizeof key);
        round_trip(slice_of(key, kn),
                   (struct varve_value){random() % 2 ? VARVE_BYTES : VARVE_STRING, value, vn, 1,
                                        (uint64_t)random()});
        round_trip(slice_of(key, kn), (struct varve_value){VARVE_FLOAT, value, 8, 1, 0});
        round_trip(slice_of(key, kn), (struct varve_value){VARVE_INT, value, 8, 1, 0});
    }
}

static void test_bad_lines(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "JSON"},
        {"{", "JSON"},
        {"[]", "object"},
        {"{\"key\":\"a\"}", "value"},
        {"{\"value\":1}", "key"},
        {"{\"key\":\"a\",\"key_base64\":\"YQ==\",\"value\":1}", "key"},
        {"{\"key\":1,\"value\":1}", "key must be a string"},
        {"{\"key\":\"a\",\"key\":\"a\",\"value\":1}", "twice"},
        {"{\"key\":\"a\",\"value\":1,\"extra\":2}", "\"extra\" is unknown"},
        {"{\"key\":\"a\",\"value\":null}", "null"},
        {"{\"key\":\"a\",\"value\":{}}", "object"},
        {"{\"key\":\"a\",\"value\":[\"x\"]}", "element 0"},
        {"{\"key\":\"a\",\"value\":\"x\",\"type\":\"int\"}", "type int"},
        {"{\"key\":\"a\",\"value\":1.5,\"type\":\"int\"}", "type int"},
        {"{\"key\":\"a\",\"value\":18446744073709551615}", "64-bit"},
        {"{\"key\":\"a\",\"value\":1,\"type\":\"text\"}", "type must be"},
        {"{\"key\":\"a\",\"value_base64\":\"%%%%\"}", "value_base64"},
        {"{\"key_base64\":\"YQ\",\"value\":1}", "key_base64"},
        {"{\"key\":\"a\",\"value\":1,\"expires_ms\":-1}", "expires_ms"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf text, out;
        struct line line;
        struct errmsg msg;
        buf_init(&text, 4096);
        buf_init(&out, 4096);
        assert_ok(buf_append(&text, cases[i].text, strlen(cases[i].text)));
        assert_ok(buf_reserve(&text, 1));
        if (!line_get(&out, parser, slice_of(buf_head(&text), buf_len(&text)), &line, &msg))
            fail_msg("accepted: %s", cases[i].text);
        if (!strstr(msg.text, cases[i].says))
            fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].text, msg.text, cases[i].says);
        assert_int_equal(buf_len(&out), 0);
        buf_release(&text);
        buf_release(&out);
    }
}

static void test_lines_without_type(void **state)
{
    struct buf text, out;
    struct line line;
    struct errmsg msg;
    buf_init(&text, 4096);
    buf_init(&out, 4096);
    assert_ok(buf_printf(&text, "{ \"value\" : -7, \"key\" : \"a\" }\r"));
    assert_ok(line_get(&out, parser, buf_slice(&text), &line, &msg));
    assert_int_equal(line.type, VARVE_INT);
    assert_int_equal((int64_t)load64(buf_head(&out) + 1), -7);
    buf_release(&text);
    buf_release(&out);
}

static void test_base64(void **state)
{
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < 7; i++) { // RFC 4648 section 10
        struct buf a, b;
        buf_init(&a, 64);
        buf_init(&b, 64);
        assert_ok(base64_put(&a, slice_str(pairs[i][0])));
        assert_true(slice_equal(buf_slice(&a), slice_str(pairs[i][1])));
        assert_ok(base64_get(&b, slice_str(pairs[i][1])));
        assert_true(slice_equal(buf_slice(&b), slice_str(pairs[i][0])));
        buf_release(&a);
        buf_release(&b);
    }
    static const char *const bad[] = {"Z",    "Zg",   "Zg=",    "Zh==", "Zm9=", "Zg==Zg==",
                                      "Z===", "====", "Zm9v\n", "Zm 9", "Zm9-", "=Zg="};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct buf b;
        buf_init(&b, 64);
        assert_err(base64_get(&b, slice_str(bad[i])), ERR_INVALID);
        assert_int_equal(buf_len(&b), 0);
        buf_release(&b);
    }
}

static void typed(const char *text, const char *type, enum err expect)
{
    struct buf out;
    enum varve_type t;
    struct errmsg msg;
    buf_init(&out, 4096);
    assert_err(value_from_text(&out, parser, slice_str(text), type, &t, &msg), expect);
    if (expect == ERR_OK)
        assert_string_equal(value_kind(t), type);
    buf_release(&out);
}

static void test_typed_values(void **state)
{
    typed("5", "string", ERR_OK);
    typed("5", "int", ERR_OK);
    typed("-9223372036854775808", "int", ERR_OK);
    typed("5", "float", ERR_OK);
    typed("true", "bool", ERR_OK);
    typed("[1, 2]", "array", ERR_OK);
    typed("\xff", "bytes", ERR_OK);
    typed("\xff", "string", ERR_INVALID);
    typed("5.5", "int", ERR_TYPE);
    typed("9223372036854775808", "int", ERR_OVERFLOW);
    typed("", "int", ERR_INVALID);
    typed("yes", "bool", ERR_INVALID);
    typed("1", "bool", ERR_TYPE);
    typed("[\"a\"]", "array", ERR_TYPE);
    typed("5", "number", ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),    cmocka_unit_test(test_random),
        cmocka_unit_test(test_bad_lines), cmocka_unit_test(test_lines_without_type),
        cmocka_unit_test(test_base64),    cmocka_unit_test(test_typed_values),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
