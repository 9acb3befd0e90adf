// The command line's options and numbers.
#include "unit.h"

#include "cli/args.h"

#include <string.h>

struct got {
    bool flag;
    const char *text;
    uint64_t count, size, time;
};

static enum err parse(struct got *g, struct arg_list *a, struct errmsg *msg, int argc, char **argv)
{
    *g = (struct got){.count = 7};
    const struct arg_option options[] = {
        {"flag", ARG_FLAG, &g->flag, NULL, "a flag"},
        {"text", ARG_TEXT, &g->text, "TEXT", "a text"},
        {"count", ARG_COUNT, &g->count, "N", "a number"},
        {"size", ARG_SIZE, &g->size, "BYTES", "a size"},
        {"time", ARG_TIME, &g->time, "TIME", "a time"},
    };
    *a = (struct arg_list){.options = options, .count = 5};
    enum err e = args_parse(a, argc, argv, msg);
    a->options = NULL;
    return e;
}

#define PARSE(...)                \
    char *argv[] = {__VA_ARGS__}; \
    struct got g;                 \
    struct arg_list a;            \
    struct errmsg msg = {""};     \
    enum err e = parse(&g, &a, &msg, (int)(sizeof argv / sizeof *argv), argv)

static void test_all_kinds(void **state)
{
    PARSE("one", "--flag", "--text", "t", "--count=12", "-5", "--size", "4k", "--time=2m", "-",
          "--", "--flag", "two");
    assert_ok(e);
    assert_true(g.flag);
    assert_string_equal(g.text, "t");
    assert_int_equal(g.count, 12);
    assert_int_equal(g.size, 4096);
    assert_int_equal(g.time, 120000);
    assert_int_equal(a.operand_count, 5);
    const char *expect[] = {"one", "-5", "-", "--flag", "two"};
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(a.operands[i], expect[i]);
}

static void test_help_wins(void **state)
{
    PARSE("--help", "--nonsense");
    assert_ok(e);
    assert_true(a.help);
}

static void refused(char *one, char *two, const char *says)
{
    PARSE(one, two);
    assert_err(e, ERR_INVALID);
    if (!strstr(msg.text, says))
        fail_msg("\"%s\" does not say \"%s\"", msg.text, says);
}

static void test_errors_name_the_option(void **state)
{
    refused("--nope", "x", "--nope");
    refused("-x", "x", "-x");
    refused("--flag=yes", "x", "--flag takes no value");
    refused("x", "--count", "--count needs a value");
    refused("--count", "12x", "\"12x\"");
    refused("--count", "-1", "whole number");
    refused("--count", "", "whole number");
    refused("--count", "18446744073709551616", "whole number");
    refused("--size", "4q", "size");
    refused("--size", "18446744073709551615k", "size");
    refused("--time", "s", "time");
    refused("--time", "1.5s", "time");
    refused("--tex", "x", "--tex");
    refused("--texts", "x", "--texts");
}

static void test_int(void **state)
{
    int64_t n;
    assert_ok(arg_int("-9223372036854775808", &n));
    assert_int_equal(n, INT64_MIN);
    assert_ok(arg_int("9223372036854775807", &n));
    assert_int_equal(n, INT64_MAX);
    assert_err(arg_int("9223372036854775808", &n), ERR_OVERFLOW);
    assert_err(arg_int("-9223372036854775809", &n), ERR_OVERFLOW);
    assert_err(arg_int("-", &n), ERR_INVALID);
    assert_err(arg_int("--1", &n), ERR_INVALID);
    assert_err(arg_int("1 ", &n), ERR_INVALID);
    assert_ok(arg_int("-0", &n));
    assert_int_equal(n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_kinds),
        cmocka_unit_test(test_help_wins),
        cmocka_unit_test(test_errors_name_the_option),
        cmocka_unit_test(test_int),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
