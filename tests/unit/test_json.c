#include "unit.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/os.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fixture {
    struct json_parser *parser;
    uint8_t *text; // of the last parse, with exactly the padding that is asked for
    struct errmsg msg;
    struct buf out;
};

static enum err parse_bytes(struct fixture *f, const void *p, size_t n, struct json *root)
{
    free(f->text);
    f->text = malloc(n + BUF_PADDING);
    assert_non_null(f->text);
    memset(f->text, '7', n + BUF_PADDING); // padding that must not be taken for text
    memcpy(f->text, p, n);
    memset(&f->msg, 0, sizeof f->msg);
    return json_parse(f->parser, slice_of(f->text, n), root, &f->msg);
}

static struct json parse(struct fixture *f, const char *text)
{
    struct json root = {0};
    assert_ok(parse_bytes(f, text, strlen(text), &root));
    return root;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->parser = json_parser_new(64u << 20);
    assert_non_null(f->parser);
    buf_init(&f->out, 1u << 20);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    json_parser_free(f->parser);
    buf_release(&f->out);
    free(f->text);
    free(f);
    return 0;
}

static void assert_slice(struct slice s, const char *p, size_t n)
{
    assert_int_equal(s.n, n);
    assert_memory_equal(s.p, p, n);
}

static void scalars_keep_their_kind(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(json_kind(parse(f, "null")), JSON_NULL);
    assert_int_equal(json_kind(parse(f, " true ")), JSON_BOOL);
    assert_true(json_bool(parse(f, "true")));
    assert_false(json_bool(parse(f, "false")));
    assert_int_equal(json_kind(parse(f, "12")), JSON_INT);
    assert_int_equal(json_int(parse(f, "-12")), -12);
    assert_int_equal(json_uint(parse(f, "12")), 12);
    assert_int_equal(json_kind(parse(f, "12.0")), JSON_FLOAT);
    assert_int_equal(json_kind(parse(f, "1e2")), JSON_FLOAT);
    assert_true(json_float(parse(f, "1e2")) == 100);
    assert_int_equal(json_kind(parse(f, "\"a\"")), JSON_STRING);
    assert_int_equal(json_kind(parse(f, "[]")), JSON_ARRAY);
    assert_int_equal(json_kind(parse(f, "{}")), JSON_OBJECT);
    assert_string_equal(json_kind_name(JSON_UINT), "integer");
    assert_string_equal(json_kind_name(JSON_OBJECT), "object");
}

static void integers_are_exact(void **state)
{
    struct fixture *f = *state;
    assert_true(json_int(parse(f, "-9223372036854775808")) == INT64_MIN);
    assert_true(json_int(parse(f, "9223372036854775807")) == INT64_MAX);
    assert_int_equal(json_kind(parse(f, "9223372036854775807")), JSON_INT);
    struct json v = parse(f, "9223372036854775808");
    assert_int_equal(json_kind(v), JSON_UINT);
    assert_true(json_uint(v) == 9223372036854775808u);
    assert_true(json_uint(parse(f, "18446744073709551615")) == UINT64_MAX);
    assert_true(json_int(parse(f, "9007199254740993")) == 9007199254740993);
    assert_int_equal(json_int(parse(f, "-0")), 0);
}

static void floats_are_nearest(void **state)
{
    struct fixture *f = *state;
    assert_true(signbit(json_float(parse(f, "-0.0"))));
    assert_true(json_float(parse(f, "-0.0")) == 0);
    assert_true(json_float(parse(f, "4.9e-324")) == 4.9e-324);
    assert_true(json_float(parse(f, "2.2250738585072011e-308")) == 2.2250738585072011e-308);
    assert_true(json_float(parse(f, "1.7976931348623157e308")) == 1.7976931348623157e308);
    assert_true(json_float(parse(f, "1e-400")) == 0);
    assert_true(json_float(parse(f, "9007199254740993.0")) == 9007199254740992.0);
}

static void strings_are_unescaped(void **state)
{
    struct fixture *f = *state;
    assert_slice(json_string(parse(f, "\"\"")), "", 0);
    assert_slice(json_string(parse(f, "\"a\\u0000b\"")), "a\0b", 3);
    assert_slice(json_string(parse(f, "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"")), "\"\\/\b\f\n\r\t", 8);
    assert_slice(json_string(parse(f, "\"\\u00e9\\uD83D\\ude00\"")), "\xc3\xa9\xf0\x9f\x98\x80", 6);
    assert_slice(json_string(parse(f, "\"\xf4\x8f\xbf\xbf\x7f\"")), "\xf4\x8f\xbf\xbf\x7f", 5);
}

static void walks_arrays_and_objects(void **state)
{
    struct fixture *f = *state;
    struct json root =
        parse(f, "{\"a\":[1,[2,3],{\"x\":[]},\"s\",1.5,18446744073709551615],\"\":{},\"a\":null}");
    assert_int_equal(json_count(root), 3);
    struct json_iter members = json_iterate(root);
    struct slice name;
    struct json v;
    assert_true(json_next(&members, &name, &v));
    assert_slice(name, "a", 1);
    assert_int_equal(json_count(v), 6);
    static const enum json_kind kinds[] = {JSON_INT,    JSON_ARRAY, JSON_OBJECT,
                                           JSON_STRING, JSON_FLOAT, JSON_UINT};
    struct json_iter elements = json_iterate(v);
    struct json e;
    for (size_t i = 0; i < 6; i++) {
        assert_true(json_next(&elements, NULL, &e));
        assert_int_equal(json_kind(e), kinds[i]);
    }
    assert_false(json_next(&elements, NULL, &e));
    assert_false(json_next(&elements, NULL, &e));
    assert_true(json_next(&members, &name, &v));
    assert_slice(name, "", 0);
    assert_int_equal(json_count(v), 0);
    elements = json_iterate(v);
    assert_false(json_next(&elements, &name, &e));
    assert_true(json_next(&members, &name, &v)); // a name may come twice: the caller's to see
    assert_slice(name, "a", 1);
    assert_int_equal(json_kind(v), JSON_NULL);
    assert_false(json_next(&members, &name, &v));
}

struct bad {
    const char *text;
    enum err err;
    const char *says; // must be in the message
};

static void check_bad(struct fixture *f, const struct bad *b)
{
    struct json root;
    assert_err(parse_bytes(f, b->text, strlen(b->text), &root), b->err);
    if (!strstr(f->msg.text, b->says))
        fail_msg("for %s: '%s' does not say '%s'", b->text, f->msg.text, b->says);
    assert_err(json_parse(f->parser, slice_of(f->text, strlen(b->text)), &root, NULL), b->err);
}

static void errors_name_the_byte(void **state)
{
    static const struct bad bad[] = {
        {"", ERR_INVALID, "empty"},
        {" \n ", ERR_INVALID, "empty"},
        {"[1]x", ERR_INVALID, "'x' at byte 3"},
        {"[1] [2]", ERR_INVALID, "'[' at byte 4"},
        {"[1,]", ERR_INVALID, "']' at byte 3"},
        {"[1 2]", ERR_INVALID, "'2' at byte 3"},
        {"[", ERR_INVALID, "ends at byte 1"},
        {"[1", ERR_INVALID, "ends at byte 2"},
        {"]", ERR_INVALID, "']' at byte 0"},
        {"[1}", ERR_INVALID, "'}' at byte 2"},
        {"{\"a\":1]", ERR_INVALID, "']' at byte 6"},
        {"{1:2}", ERR_INVALID, "member name"},
        {"{\"a\" 1}", ERR_INVALID, "'1' at byte 5 where ':'"},
        {"{\"a\":1,}", ERR_INVALID, "'}' at byte 7"},
        {"{\"a\"}", ERR_INVALID, "'}' at byte 4"},
        {"{\"a\":}", ERR_INVALID, "'}' at byte 5"},
        {"nul", ERR_INVALID, "byte 0"},
        {"nulll", ERR_INVALID, "byte 0"},
        {"tru1", ERR_INVALID, "byte 0"},
        {"[NaN]", ERR_INVALID, "'N' at byte 1"},
        {"[Infinity]", ERR_INVALID, "'I' at byte 1"},
        {"[-Infinity]", ERR_INVALID, "'I' at byte 2"},
        {"01", ERR_INVALID, "byte 1"},
        {"-", ERR_INVALID, "ends at byte 1 where a digit"},
        {"+1", ERR_INVALID, "'+' at byte 0"},
        {".5", ERR_INVALID, "'.' at byte 0"},
        {"1.", ERR_INVALID, "byte 2"},
        {"1.e3", ERR_INVALID, "'e' at byte 2"},
        {"1e", ERR_INVALID, "byte 2"},
        {"1e+", ERR_INVALID, "byte 3"},
        {"0x10", ERR_INVALID, "'x' at byte 1"},
        {"'a'", ERR_INVALID, "''' at byte 0"},
        {"\"a", ERR_INVALID, "begins at byte 0"},
        {"[\"a\\", ERR_INVALID, "begins at byte 1"},
        {"\"a\nb\"", ERR_INVALID, "0x0A at byte 2"},
        {"\"\\x\"", ERR_INVALID, "bad escape at byte 1"},
        {"\"\\u12g4\"", ERR_INVALID, "at byte 1"},
        {"\"\\ud800\"", ERR_INVALID, "half a surrogate pair at byte 1"},
        {"\"ab\\udc00\"", ERR_INVALID, "half a surrogate pair at byte 3"},
        {"\"\\ud800\\u0041\"", ERR_INVALID, "half a surrogate pair at byte 1"},
        {"\"\\ud800\\ud800\"", ERR_INVALID, "half a surrogate pair at byte 1"},
        {"\"a\xc3(\"", ERR_INVALID, "not UTF-8 at byte 2"},
        {"\"\xc0\x80\"", ERR_INVALID, "not UTF-8 at byte 1"},
        {"\"\xed\xa0\x80\"", ERR_INVALID, "not UTF-8 at byte 1"},
        {"\"\xe0\x80\x80\"", ERR_INVALID, "not UTF-8 at byte 1"},
        {"\"\xf4\x90\x80\x80\"", ERR_INVALID, "not UTF-8 at byte 1"},
        {"\"\xff\"", ERR_INVALID, "not UTF-8 at byte 1"},
        {"\"\xe2\x82\"", ERR_INVALID, "not UTF-8 at byte 1"},
        {"[1] \xff", ERR_INVALID, "0xFF at byte 4"},
        {"\xef\xbb\xbf[]", ERR_INVALID, "0xEF at byte 0"},
        {"18446744073709551616", ERR_OVERFLOW, "18446744073709551616 at byte 0 is beyond 64 bits"},
        {"[-9223372036854775809]", ERR_OVERFLOW, "-9223372036854775809 at byte 1"},
        {"[1, 100000000000000000000000]", ERR_OVERFLOW, "at byte 4"},
        {"1e400", ERR_OVERFLOW, "1e400 at byte 0 is beyond the range of a double"},
        {"[-1.5E+999]", ERR_OVERFLOW, "-1.5E+999 at byte 1"},
        {"[1e-400, 1e309]", ERR_OVERFLOW, "1e309 at byte 9"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_bad(*state, &bad[i]);
    parse(*state, "[1]"); // an error leaves the parser usable
}

static void a_zero_byte_is_no_end(void **state)
{
    struct fixture *f = *state;
    struct json root;
    assert_err(parse_bytes(f, "[1]\0", 4, &root), ERR_INVALID);
    assert_non_null(strstr(f->msg.text, "0x00 at byte 3"));
    assert_err(parse_bytes(f, "\"\\\0\"", 4, &root), ERR_INVALID);
    assert_non_null(strstr(f->msg.text, "bad escape at byte 1"));
    assert_err(parse_bytes(f, "\"a\0\"", 4, &root), ERR_INVALID);
    assert_non_null(strstr(f->msg.text, "0x00 at byte 2"));
}

static void long_numbers_are_cut_in_the_message(void **state)
{
    struct fixture *f = *state;
    char text[2000];
    memset(text, '9', sizeof text);
    struct json root;
    assert_err(parse_bytes(f, text, sizeof text, &root), ERR_OVERFLOW);
    assert_non_null(strstr(f->msg.text, "999... at byte 0"));
}

// `open` and `close` n times around `inner`.
static enum err parse_nested(struct fixture *f, size_t n, const char *open, const char *inner,
                             const char *close)
{
    struct json root;
    buf_clear(&f->out);
    for (size_t i = 0; i < n; i++)
        assert_ok(buf_append(&f->out, open, strlen(open)));
    assert_ok(buf_append(&f->out, inner, strlen(inner)));
    for (size_t i = 0; i < n; i++)
        assert_ok(buf_append(&f->out, close, strlen(close)));
    return parse_bytes(f, buf_head(&f->out), buf_len(&f->out), &root);
}

static void nesting_has_a_limit(void **state)
{
    struct fixture *f = *state;
    assert_ok(parse_nested(f, LIMIT_JSON_DEPTH, "[", "1", "]"));
    assert_ok(parse_nested(f, LIMIT_JSON_DEPTH, "{\"a\":", "1", "}"));
    assert_err(parse_nested(f, LIMIT_JSON_DEPTH + 1, "[", "1", "]"), ERR_INVALID);
    assert_non_null(strstr(f->msg.text, "nested deeper than 128 levels at byte 128"));
    assert_err(parse_nested(f, LIMIT_JSON_DEPTH + 1, "{\"a\":", "1", "}"), ERR_INVALID);
    assert_non_null(strstr(f->msg.text, "nested deeper"));
    assert_err(parse_nested(f, 100000, "[", "", ""), ERR_INVALID);
    assert_non_null(strstr(f->msg.text, "nested deeper"));
}

static void texts_have_a_limit(void **state)
{
    struct json_parser *small = json_parser_new(4);
    assert_non_null(small);
    char text[5 + BUF_PADDING] = "[123]";
    struct json root;
    struct errmsg msg;
    assert_err(json_parse(small, slice_of(text, 5), &root, &msg), ERR_TOO_BIG);
    assert_non_null(strstr(msg.text, "5 bytes"));
    memcpy(text, "[12]", 4);
    assert_ok(json_parse(small, slice_of(text, 4), &root, &msg));
    assert_int_equal(json_count(root), 1);
    json_parser_free(small);
}

// Sizes around every growth, up and down.
static void memory_follows_the_texts(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {3, 4095,    4096, 4097, 9,       70001,      300000,
                                   5, 2000000, 2,    2,    1000000, 256u << 10, 100 + 250u * 1024};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        char *text = malloc(n);
        assert_non_null(text);
        memset(text, ' ', n);
        text[0] = '[';
        for (size_t at = 1; at + 2 < n; at += 2)
            memcpy(text + at, at > 1 ? ",1" : " 1", 2);
        text[n - 1] = ']';
        struct json root;
        assert_ok(parse_bytes(f, text, n, &root));
        struct json_iter it = json_iterate(root);
        struct json v;
        size_t count = 0;
        while (json_next(&it, NULL, &v))
            count += (size_t)json_int(v);
        assert_int_equal(count, json_count(root));
        assert_int_equal(count, n < 4 ? 0 : (n - 2) / 2);
        free(text);
    }
}

// The tape's own count stops at 2^24 - 1.
static void counts_beyond_the_tapes_field(void **state)
{
    struct fixture *f = *state;
    size_t elements = (1u << 24) + 5;
    char *text = malloc(elements * 2 + 1);
    assert_non_null(text);
    for (size_t i = 0; i < elements; i++)
        memcpy(text + i * 2, ",1", 2);
    text[0] = '[';
    text[elements * 2] = ']';
    struct json root;
    assert_ok(parse_bytes(f, text, elements * 2 + 1, &root));
    assert_int_equal(json_count(root), elements);
    free(text);
}

static void assert_out(struct fixture *f, const char *expect)
{
    assert_slice(buf_slice(&f->out), expect, strlen(expect));
    buf_clear(&f->out);
}

static void writes_strings(void **state)
{
    struct fixture *f = *state;
    assert_ok(json_put_string(&f->out, slice_str("")));
    assert_out(f, "\"\"");
    assert_ok(json_put_string(&f->out, (struct slice){0}));
    assert_out(f, "\"\"");
    assert_ok(
        json_put_string(&f->out, slice_str("plain text of more than eight bytes \xc3\xa9\x7f/")));
    assert_out(f, "\"plain text of more than eight bytes \xc3\xa9\x7f/\"");
    assert_ok(json_put_string(&f->out, slice_str("\"\\\b\f\n\r\t\x01\x0b\x1f")));
    assert_out(f, "\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u000b\\u001f\"");
    assert_ok(json_put_string(&f->out, slice_of("a\0b", 3)));
    assert_out(f, "\"a\\u0000b\"");
}

// Each byte that needs an escape, at each place of strings of each small length.
static void strings_survive_the_round_trip(void **state)
{
    struct fixture *f = *state;
    for (size_t n = 1; n <= 20; n++)
        for (size_t at = 0; at < n; at++)
            for (unsigned c = 0; c < 0x80; c++) {
                char s[20];
                memset(s, 'x', n);
                s[at] = (char)c;
                s[(at * 7 + 3) % n] = (char)c;
                buf_clear(&f->out);
                assert_ok(json_put_string(&f->out, slice_of(s, n)));
                struct json root;
                assert_ok(parse_bytes(f, buf_head(&f->out), buf_len(&f->out), &root));
                assert_slice(json_string(root), s, n);
            }
}

static void writers_respect_the_maximum(void **state)
{
    struct buf b;
    buf_init(&b, 12);
    assert_ok(buf_append(&b, "1234", 4));
    assert_err(json_put_string(&b, slice_str("1234567")), ERR_TOO_BIG);
    assert_err(json_put_string(&b, slice_str("12\x01")), ERR_TOO_BIG);
    assert_err(json_put_string(&b, slice_str("\n\n\n\n")), ERR_TOO_BIG);
    assert_err(json_put_int(&b, INT64_MIN), ERR_TOO_BIG);
    assert_err(json_put_float(&b, 1.2345678901234567), ERR_TOO_BIG);
    assert_int_equal(buf_len(&b), 4);
    assert_ok(json_put_string(&b, slice_str("123456")));
    assert_slice(buf_slice(&b), "1234\"123456\"", 12);
    buf_release(&b);
}

static void writes_numbers(void **state)
{
    struct fixture *f = *state;
    assert_ok(json_put_int(&f->out, INT64_MIN));
    assert_out(f, "-9223372036854775808");
    assert_ok(json_put_int(&f->out, INT64_MAX));
    assert_out(f, "9223372036854775807");
    assert_ok(json_put_int(&f->out, 0));
    assert_out(f, "0");
    assert_ok(json_put_uint(&f->out, UINT64_MAX));
    assert_out(f, "18446744073709551615");
    static const struct {
        double v;
        const char *text;
    } floats[] = {
        {0, "0.0"},
        {-0.0, "-0.0"},
        {1, "1.0"},
        {-1.5, "-1.5"},
        {0.1, "0.1"},
        {1e22, "1e+22"},
        {1e-7, "1e-07"},
        {4.9e-324, "5e-324"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {-2.2250738585072014e-308, "-2.2250738585072014e-308"},
        {9007199254740992, "9007199254740992.0"},
    };
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
        assert_ok(json_put_float(&f->out, floats[i].v));
        assert_out(f, floats[i].text);
    }
}

static void takes_whole_numbers_in_a_run(void **state)
{
    struct fixture *f = *state;
    static const uint64_t first[] = {0, 9007199254740993u, INT64_MAX, (uint64_t)INT64_MAX + 1,
                                     UINT64_MAX};
    static const char *const stops[] = {"-1", "1.0", "1e3", "\"1\"", "null", "true", "[]", "{}"};
    uint8_t packed[64];
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        char text[200];
        snprintf(text, sizeof text,
                 "[0,9007199254740993,9223372036854775807,9223372036854775808,"
                 "18446744073709551615,%s,7,8]",
                 stops[i]);
        struct json v;
        struct json_iter it = json_iterate(parse(f, text));
        assert_int_equal(json_take_uints(&it, packed), 5);
        assert_memory_equal(packed, first, sizeof first);
        assert_int_equal(json_take_uints(&it, packed), 0);
        assert_true(json_next(&it, NULL, &v));
        assert_int_equal(json_take_uints(&it, packed), 2);
        assert_true(load64(packed) == 7 && load64(packed + 8) == 8);
        assert_false(json_next(&it, NULL, &v));
        assert_int_equal(json_take_uints(&it, packed), 0);
    }
    struct json_iter none = json_iterate(parse(f, "[]"));
    assert_int_equal(json_take_uints(&none, packed), 0);
}

// Against json_put_uint, around every power of ten and of two, and at random.
static void writes_many_numbers(void **state)
{
    struct fixture *f = *state;
    enum { MOST = 4096 };
    uint8_t *packed = malloc(8 * MOST);
    assert_non_null(packed);
    size_t n = 0;
    uint64_t seed;
    os_random(os_real(), &seed, sizeof seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    uint64_t ten = 1;
    for (int i = 0; i < 20; i++, ten *= 10)
        for (int d = -1; d <= 1; d++)
            store64(packed + 8 * n++, ten + (uint64_t)d);
    for (int i = 0; i < 64; i++)
        for (int d = -1; d <= 1; d++)
            store64(packed + 8 * n++, (UINT64_C(1) << i) + (uint64_t)d);
    store64(packed + 8 * n++, UINT64_MAX);
    for (; n < MOST; n++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        store64(packed + 8 * n, (seed ^ (seed >> 29)) >> (seed >> 58));
    }
    struct buf want;
    buf_init(&want, 1u << 20);
    for (int quoted = 0; quoted <= 1; quoted++) {
        buf_clear(&want);
        for (size_t i = 0; i < n; i++) {
            assert_ok(buf_printf(&want, "%s%s", i ? "," : "", quoted ? "\"" : ""));
            assert_ok(json_put_uint(&want, load64(packed + 8 * i)));
            assert_ok(buf_append(&want, "\"", (size_t)quoted));
        }
        buf_clear(&f->out);
        assert_ok(json_put_uints(&f->out, packed, n, quoted));
        assert_int_equal(buf_len(&f->out), buf_len(&want));
        assert_memory_equal(buf_head(&f->out), buf_head(&want), buf_len(&want));
    }
    buf_release(&want);
    buf_clear(&f->out);
    assert_ok(json_put_uints(&f->out, packed, 0, true));
    assert_out(f, "");
    struct buf small; // all or nothing
    buf_init(&small, 3);
    store64(packed, 12);
    store64(packed + 8, 3);
    assert_int_equal(json_put_uints(&small, packed, 2, false), ERR_TOO_BIG);
    assert_int_equal(buf_len(&small), 0);
    assert_ok(json_put_uints(&small, packed + 8, 1, true));
    assert_int_equal(buf_len(&small), 3);
    buf_release(&small);
    free(packed);
}

static void doubles_survive_the_round_trip(void **state)
{
    struct fixture *f = *state;
    uint64_t seed;
    os_random(os_real(), &seed, sizeof seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < 100000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t bits = seed ^ (seed >> 29);
        double v;
        memcpy(&v, &bits, sizeof v);
        if (!isfinite(v))
            continue;
        if (i % 3 == 0)
            v = (double)(int64_t)bits / 1000; // everyday magnitudes too
        buf_clear(&f->out);
        assert_ok(json_put_float(&f->out, v));
        struct json root;
        assert_ok(parse_bytes(f, buf_head(&f->out), buf_len(&f->out), &root));
        assert_int_equal(json_kind(root), JSON_FLOAT);
        double back = json_float(root);
        assert_memory_equal(&back, &v, sizeof v);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(scalars_keep_their_kind),
        TEST(integers_are_exact),
        TEST(floats_are_nearest),
        TEST(strings_are_unescaped),
        TEST(walks_arrays_and_objects),
        TEST(errors_name_the_byte),
        TEST(a_zero_byte_is_no_end),
        TEST(long_numbers_are_cut_in_the_message),
        TEST(nesting_has_a_limit),
        TEST(texts_have_a_limit),
        TEST(memory_follows_the_texts),
        TEST(counts_beyond_the_tapes_field),
        TEST(writes_strings),
        TEST(strings_survive_the_round_trip),
        TEST(writers_respect_the_maximum),
        TEST(writes_numbers),
        TEST(takes_whole_numbers_in_a_run),
        TEST(writes_many_numbers),
        TEST(doubles_survive_the_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
