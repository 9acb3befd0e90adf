#include "unit.h"
#include "base/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Standard error goes into a file while a test runs.
static int capture_fd = -1, saved_fd = -1;

static void capture(void)
{
    char path[] = "/tmp/varve-log-XXXXXX";
    capture_fd = mkstemp(path);
    assert_true(capture_fd >= 0);
    unlink(path);
    assert_int_equal(fcntl(capture_fd, F_SETFL, O_APPEND), 0);
    saved_fd = dup(STDERR_FILENO);
    assert_true(dup2(capture_fd, STDERR_FILENO) >= 0);
}

// What was written since; static, until the next call.
static const char *captured(void)
{
    static char text[1 << 20];
    dup2(saved_fd, STDERR_FILENO);
    close(saved_fd);
    ssize_t n = pread(capture_fd, text, sizeof text - 1, 0);
    close(capture_fd);
    assert_true(n >= 0);
    text[n] = 0;
    return text;
}

static bool matches(const char *text, const char *pattern)
{
    regex_t re;
    assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
    bool yes = regexec(&re, text, 0, NULL, 0) == 0;
    regfree(&re);
    return yes;
}

static unsigned lines(const char *text)
{
    unsigned n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

#define TIME "^20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\\.[0-9]{3}Z "

static void a_line_has_time_level_event_and_fields(void **state)
{
    capture();
    log_event(LOG_INFO, "segment_new", "segment=%u bytes=%zu", 7u, (size_t)64);
    assert_true(matches(captured(), TIME "info segment_new segment=7 bytes=64\n$"));
    capture();
    log_event(LOG_ERROR, "stop", "%s", "");
    assert_true(matches(captured(), TIME "error stop \n$"));
}

static void an_event_without_fields(void **state)
{
    capture();
    log_event(LOG_WARN, "stop", "");
    assert_true(matches(captured(), TIME "warn stop\n$"));
}

static void levels_below_the_set_one_are_dropped(void **state)
{
    capture();
    log_event(LOG_DEBUG, "quiet", "a=%d", 1);
    assert_string_equal(captured(), "");
    capture();
    log_set_level(LOG_ERROR);
    log_event(LOG_WARN, "quiet", "a=%d", 1);
    log_event(LOG_ERROR, "loud", "a=%d", 1);
    log_set_level(LOG_INFO);
    const char *text = captured();
    assert_int_equal(lines(text), 1);
    assert_non_null(strstr(text, "loud"));
}

static void a_value_cannot_forge_a_line_or_a_field(void **state)
{
    const char *evil = "x\n2026-01-02T03:04:05.678Z info forged a=1\r\x1b[2J\" b=2";
    assert_string_equal(log_quote(evil),
                        "\"x\\x0a2026-01-02T03:04:05.678Z info forged a=1\\x0d\\x1b[2J\\\" b=2\"");
    capture();
    log_event(LOG_INFO, "client", "name=%s", log_quote(evil));
    log_event(LOG_INFO, "client", "name=%s", evil); // even when somebody forgets to quote
    const char *text = captured();
    assert_int_equal(lines(text), 2);
    for (; *text; text++)
        assert_true(*text == '\n' || ((unsigned char)*text >= 0x20 && *text != 0x7f));
}

static void quote_leaves_plain_values_alone(void **state)
{
    assert_string_equal(log_quote("127.0.0.1:80/a-b_c"), "127.0.0.1:80/a-b_c");
    assert_string_equal(log_quote(""), "\"\"");
    assert_string_equal(log_quote(NULL), "\"\"");
    assert_string_equal(log_quote("a b"), "\"a b\"");
    assert_string_equal(log_quote("a=b"), "\"a=b\"");
    assert_string_equal(log_quote("a\"b"), "\"a\\\"b\"");
    assert_string_equal(log_quote("a\\"), "\"a\\\\\"");
    assert_string_equal(log_quote("\xc3\xa4"), "\"\\xc3\\xa4\"");
    assert_string_equal(log_quote("\x7f"), "\"\\x7f\"");
}

static void quote_holds_four_values(void **state)
{
    const char *a = log_quote("a"), *b = log_quote("b"), *c = log_quote("c"), *d = log_quote("d");
    assert_string_equal(a, "a");
    assert_string_equal(b, "b");
    assert_string_equal(c, "c");
    assert_string_equal(d, "d");
}

static void long_values_and_lines_are_cut_and_closed(void **state)
{
    char big[6000];
    for (size_t n = 1000; n < 1040; n++) { // around the limit, plain and with four bytes a byte
        memset(big, 'x', n);
        big[n] = 0;
        assert_true(strlen(log_quote(big)) < 1024);
        memset(big, 1, n);
        const char *q = log_quote(big);
        assert_true(strlen(q) < 1024);
        assert_string_equal(q + strlen(q) - 4, "...\"");
    }
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    capture();
    log_event(LOG_INFO, "big", "a=%s b=%s", big, "after");
    log_event(LOG_INFO, "next", "a=%d", 1);
    const char *text = captured();
    assert_int_equal(lines(text), 2);
    assert_true((size_t)(strchr(text, '\n') - text) < 4096);
    assert_non_null(strstr(text, " info next a=1\n"));
}

static void *chatter(void *arg)
{
    for (int i = 0; i < 200; i++)
        log_event(LOG_INFO, "chatter", "who=%s n=%d end=1", log_quote((const char *)arg), i);
    return NULL;
}

static void threads_do_not_mix_lines(void **state)
{
    pthread_t t[4];
    char *names[4] = {"a a", "b b", "c c", "d d"};
    capture();
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, chatter, names[i]), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(t[i], NULL), 0);
    char *text = strdup(captured());
    assert_non_null(text);
    unsigned n = 0;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1, n++) {
        *end = 0;
        assert_true(matches(line, TIME "info chatter who=\"(a a|b b|c c|d d)\" n=[0-9]+ end=1$"));
    }
    assert_int_equal(n, 800);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_time_level_event_and_fields),
        cmocka_unit_test(an_event_without_fields),
        cmocka_unit_test(levels_below_the_set_one_are_dropped),
        cmocka_unit_test(a_value_cannot_forge_a_line_or_a_field),
        cmocka_unit_test(quote_leaves_plain_values_alone),
        cmocka_unit_test(quote_holds_four_values),
        cmocka_unit_test(long_values_and_lines_are_cut_and_closed),
        cmocka_unit_test(threads_do_not_mix_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
