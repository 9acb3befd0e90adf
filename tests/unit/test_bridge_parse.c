#include "unit.h"
#include "bridge/parse.h"

#include <stdio.h>

// Headers h (`value`, if it has one) and nothing else.
struct fixed {
    struct slice value;
    bool has;
};

static bool header(const struct parse_record *r, const char *name, struct slice *value)
{
    const struct fixed *f = r->headers;
    *value = f->value;
    return f->has && !strcmp(name, "h");
}

#define BYTES(text) slice_of(text, sizeof(text) - 1)

static struct parser text_parser(const char *text)
{
    struct parser p;
    struct errmsg msg;
    assert_ok(parser_text(&p, text, &msg));
    return p;
}

static struct parser number_parser(const char *text)
{
    struct parser p;
    struct errmsg msg;
    assert_ok(parser_number(&p, text, &msg));
    return p;
}

static void expect_text(const char *parser, const struct parse_record *r, const char *want)
{
    struct parser p = text_parser(parser);
    char digits[PARSE_DIGITS];
    struct slice name;
    struct errmsg msg = {""};
    assert_ok(parse_name(&p, r, digits, &name, &msg));
    assert_int_equal(name.n, strlen(want));
    assert_memory_equal(name.p, want, name.n);
}

static void refuse_text(const char *parser, const struct parse_record *r, const char *why)
{
    struct parser p = text_parser(parser);
    char digits[PARSE_DIGITS];
    struct slice name;
    struct errmsg msg = {""};
    assert_err(parse_name(&p, r, digits, &name, &msg), ERR_INVALID);
    assert_string_equal(msg.text, why);
}

// `value` as header h and as the key: both kinds of parser give the same.
static void expect_number(const char *form, struct slice value, bool has_nonce, u128 nonce,
                          bool has_time, int64_t time)
{
    const struct fixed f = {value, true};
    const struct parse_record r = {.has_key = true, .key = value, .header = header, .headers = &f};
    char parser[2][60];
    snprintf(parser[0], sizeof parser[0], "RecordHeader%s(h)", form);
    snprintf(parser[1], sizeof parser[1], "RecordKey%s", form);
    for (int i = 0; i < 2; i++) {
        struct parser p = number_parser(parser[i]);
        struct errmsg msg = {""};
        bool has;
        u128 n;
        int64_t t;
        enum err e = parse_nonce(&p, &r, &has, &n, &msg);
        assert_true(has_nonce ? !e && has && n == nonce : e == ERR_INVALID && *msg.text);
        msg.text[0] = 0;
        e = parse_timestamp(&p, &r, &has, &t, &msg);
        assert_true(has_time ? !e && has && t == time : e == ERR_INVALID && *msg.text);
    }
}

static void names(void **state)
{
    const struct fixed f = {BYTES("h\xc3\xa9"), true};
    const struct parse_record r = {.has_key = true,
                                   .key = BYTES("the key"),
                                   .partition = 2147483647,
                                   .header = header,
                                   .headers = &f};
    expect_text("Static(x)", &r, "x");
    expect_text("Static(a (b))", &r, "a (b)");
    expect_text("RecordHeader(h)", &r, "h\xc3\xa9");
    expect_text("RecordKey", &r, "the key");
    expect_text("RecordPartition", &r, "2147483647");
    refuse_text("RecordHeader(g)", &r, "it has no header \"g\"");
}

static void names_that_are_none(void **state)
{
    struct fixed f = {BYTES("\xff"), true};
    struct parse_record r = {.header = header, .headers = &f};
    refuse_text("RecordHeader(h)", &r, "header \"h\" is not UTF-8");
    f.value = BYTES("");
    refuse_text("RecordHeader(h)", &r, "header \"h\" is empty");
    refuse_text("RecordKey", &r, "it has no key");
    r.has_key = true;
    refuse_text("RecordKey", &r, "its key is empty");
    r.key = BYTES("\xc3");
    refuse_text("RecordKey", &r, "its key is not UTF-8");
}

static void bytes_to_numbers(void **state)
{
    expect_number("BigEndian", BYTES("\x01\x02"), true, 0x0102, true, 0x0102);
    expect_number("LittleEndian", BYTES("\x01\x02"), true, 0x0201, true, 0x0201);
    expect_number("BigEndian", BYTES("\x00"), true, 0, true, 0);
    expect_number("BigEndian", BYTES("\xff"), true, 255, true, 255);
    // Eight bytes are a signed timestamp and an unsigned nonce.
    expect_number("BigEndian", BYTES("\xff\xff\xff\xff\xff\xff\xff\xfe"), true, UINT64_MAX - 1,
                  true, -2);
    expect_number("LittleEndian", BYTES("\xfe\xff\xff\xff\xff\xff\xff\xff"), true, UINT64_MAX - 1,
                  true, -2);
    expect_number("BigEndian", BYTES("\x80\0\0\0\0\0\0\0"), true, (u128)1 << 63, false, 0);
    // Nine to sixteen bytes are no timestamp; seventeen are nothing.
    expect_number("BigEndian", BYTES("\x01\0\0\0\0\0\0\0\x05"), true, ((u128)1 << 64) + 5, false,
                  0);
    expect_number("LittleEndian", BYTES("\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x80"), true,
                  ((u128)1 << 127) + 5, false, 0);
    expect_number("BigEndian", BYTES("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05"), false, 0, false, 0);
    expect_number("BigEndian", BYTES(""), false, 0, false, 0);
    expect_number("BigEndian",
                  BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), false,
                  0, false, 0);
}

static void text_to_numbers(void **state)
{
    expect_number("Utf8", BYTES("0"), true, 0, true, 0);
    expect_number("Utf8", BYTES("+17"), true, 17, true, 17);
    expect_number("Utf8", BYTES("-17"), false, 0, true, -17);
    expect_number("Utf8", BYTES("9223372036854775807"), true, INT64_MAX, true, INT64_MAX);
    expect_number("Utf8", BYTES("-9223372036854775807"), false, 0, true, -INT64_MAX);
    expect_number("Utf8", BYTES("-9223372036854775808"), false, 0, false, 0);
    expect_number("Utf8", BYTES("9223372036854775808"), true, (u128)1 << 63, false, 0);
    expect_number("Utf8", BYTES("340282366920938463463374607431768211454"), true, U128_MAX - 1,
                  false, 0);
    expect_number("Utf8", BYTES("340282366920938463463374607431768211455"), false, 0, false, 0);
    expect_number("Utf8", BYTES("340282366920938463463374607431768211456"), false, 0, false, 0);
    static const char *const none[] = {"",   "-",  "+",   "+-1", "--1",     " 1",
                                       "1 ", "1x", "0x1", "1.0", "\xc2\xb2"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        expect_number("Utf8", slice_str(none[i]), false, 0, false, 0);
}

static void what_the_record_has(void **state)
{
    const struct fixed f = {.has = false};
    const struct parse_record r = {
        .partition = 3, .offset = INT64_MAX, .header = header, .headers = &f};
    struct errmsg msg = {""};
    struct parser p = number_parser("None");
    bool has;
    u128 n;
    int64_t t;
    assert_ok(parse_nonce(&p, &r, &has, &n, &msg));
    assert_true(!has && n == U128_MAX);
    assert_ok(parse_timestamp(&p, &r, &has, &t, &msg));
    assert_false(has);
    p = number_parser("RecordOffset");
    assert_ok(parse_nonce(&p, &r, &has, &n, &msg));
    assert_true(has && n == INT64_MAX);
    assert_ok(parse_timestamp(&p, &r, &has, &t, &msg));
    assert_true(has && t == INT64_MAX);
    p = number_parser("RecordPartition");
    assert_ok(parse_nonce(&p, &r, &has, &n, &msg));
    assert_true(has && n == 3);
    assert_ok(parse_timestamp(&p, &r, &has, &t, &msg));
    assert_true(has && t == 3);
    p = number_parser("RecordHeaderUtf8(h)");
    assert_err(parse_nonce(&p, &r, &has, &n, &msg), ERR_INVALID);
    assert_string_equal(msg.text, "it has no header \"h\"");
    p = number_parser("RecordKeyBigEndian");
    assert_err(parse_timestamp(&p, &r, &has, &t, &msg), ERR_INVALID);
    assert_string_equal(msg.text, "it has no key");
}

static void words(void **state)
{
    struct parser p;
    struct errmsg msg;
    assert_err(parser_text(&p, "RecordOffset", &msg), ERR_INVALID);
    assert_string_equal(msg.text,
                        "\"RecordOffset\" is no parser; there are Static(...), RecordHeader(...), "
                        "RecordKey, RecordPartition");
    static const char *const texts[] = {"",           "Static",    "Static()",       "Static(a",
                                        "Static(a) ", "static(a)", "RecordHeader()", "RecordKey()",
                                        "None"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_err(parser_text(&p, texts[i], &msg), ERR_INVALID);
    static const char *const numbers[] = {"",         "RecordKey",        "RecordHeader(h)",
                                          "none",     "RecordHeaderUtf8", "RecordKeyUtf8(h)",
                                          "Static(1)"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        assert_err(parser_number(&p, numbers[i], &msg), ERR_INVALID);
    char long_name[PARSE_NAME_MAX + 20];
    snprintf(long_name, sizeof long_name, "Static(%0*d)", (int)PARSE_NAME_MAX - 1, 0);
    assert_ok(parser_text(&p, long_name, &msg));
    assert_int_equal(strlen(p.name), PARSE_NAME_MAX - 1);
    snprintf(long_name, sizeof long_name, "Static(%0*d)", (int)PARSE_NAME_MAX, 0);
    assert_err(parser_text(&p, long_name, &msg), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(names_that_are_none),
        cmocka_unit_test(bytes_to_numbers),
        cmocka_unit_test(text_to_numbers),
        cmocka_unit_test(what_the_record_has),
        cmocka_unit_test(words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
