// The client library against a scripted server in a thread: what it says when the server answers
// well, in pieces, wrongly, too late or not at all.
#include "fake_server.h"
#include "unit.h"

#include "base/buf.h"
#include "base/os.h"
#include "base/os_net.h"
#include "client/wire.h"

#include <stdio.h>
#include <stdlib.h>

// A tiny key-value server: the value of a key is the key itself, at version 7; "none" is missing.
static void script_echo(struct fake *f)
{
    uint8_t args[4096], body[4096 + 18] = {0};
    uint16_t type;
    size_t n;
    while (fake_request(f, &type, args, sizeof args, &n)) {
        body[0] = WIRE_OK;
        if (type == WIRE_VGET && n == 4 && !memcmp(args, "none", 4)) {
            body[0] = WIRE_MISSING;
            fake_reply(f, body, 1);
        } else if (type == WIRE_VGET) {
            store64(body + 1, 7);
            store64(body + 9, 99);
            body[17] = VARVE_STRING;
            memcpy(body + 18, args, n);
            fake_reply(f, body, 18 + n);
        } else if (type == WIRE_PING) {
            memcpy(body + 1, args, n);
            fake_reply(f, body, 1 + n);
        } else {
            fake_reply(f, args, n);
        }
    }
}

static void test_get(void **state)
{
    for (size_t chunk = 0; chunk < 4; chunk++) {
        struct fake f = {.chunk = chunk};
        struct varve *v = fake_start(&f, script_echo, 5000);
        struct varve_value value;
        assert_int_equal(varve_get(v, "some key", 8, &value), VARVE_OK);
        assert_int_equal(value.type, VARVE_STRING);
        assert_int_equal(value.version, 7);
        assert_int_equal(value.expires_ms, 99);
        assert_int_equal(value.size, 8);
        assert_memory_equal(value.data, "some key", 8);
        assert_int_equal(varve_get(v, "none", 4, &value), VARVE_MISSING);
        assert_string_equal(varve_error_text(v), "no such key");
        assert_int_equal(varve_ping(v), VARVE_OK);
        fake_end(&f, v);
    }
}

static void test_set_believes_only_what_is_followed(void **state)
{
    struct fake f = {.chunk = 3};
    struct varve *v = fake_start(&f, script_echo, 5000);
    struct varve_value old;
    assert_int_equal(varve_set(v, "k", 1, "value", 5, &old), VARVE_OK);
    assert_int_equal(old.size, 6);
    assert_memory_equal(old.data, "kvalue", 6);
    assert_int_equal(varve_ping(v), VARVE_OK); // past the guard
    assert_int_equal(varve_delete(v, "k", 1, NULL), VARVE_OK);
    fake_end(&f, v);

    static const char refused[] = "\x0d\0\0\0value too big";
    struct fake g = {.arg = refused, .n = sizeof refused - 1};
    v = fake_start(&g, script_bytes, 5000);
    assert_int_equal(varve_set(v, "k", 1, "value", 5, &old), VARVE_NETWORK);
    assert_non_null(strstr(varve_error_text(v), "value too big"));
    assert_int_equal(varve_ping(v), VARVE_NETWORK);
    assert_non_null(strstr(varve_error_text(v), "value too big"));
    fake_end(&g, v);

    // An error text is never empty: this is a success although the connection goes.
    struct fake h = {.arg = "\0\0\0\0", .n = 4};
    v = fake_start(&h, script_bytes, 5000);
    assert_int_equal(varve_set(v, "k", 1, "value", 5, &old), VARVE_OK);
    assert_int_equal(old.size, 0);
    fake_end(&h, v);
}

#define BYTES(text) text, sizeof text - 1

static void test_malformed_value(void **state)
{
    static const struct {
        const char *p;
        size_t n;
        enum varve_error expect;
    } cases[] = {
        {BYTES("\xff\xff\xff\xff"), VARVE_PROTOCOL},
        {BYTES("\0\0\0\0"), VARVE_PROTOCOL},
        {BYTES("\1\0\0\0\4"), VARVE_PROTOCOL},
        {BYTES("\1\0\0\0\2"), VARVE_PROTOCOL},
        {BYTES("\1\0\0\0\0"), VARVE_PROTOCOL},
        {BYTES("\x12\0\0\0\0"
               "11111111"
               "22222222"
               "\6"),
         VARVE_PROTOCOL},
        {BYTES("\x15\0\0\0\0"
               "11111111"
               "22222222"
               "\2"
               "123"),
         VARVE_PROTOCOL},
        {BYTES("\x13\0\0\0\0"
               "11111111"
               "22222222"
               "\4"
               "\2"),
         VARVE_PROTOCOL},
        {BYTES("\x12\0\0\0\0"
               "11111111"
               "22222222"
               "\4"),
         VARVE_PROTOCOL},
        {BYTES("\x12\0\0\0\0"
               "11111111"
               "222"),
         VARVE_NETWORK},
        {BYTES("\3\0\0"), VARVE_NETWORK},
        {BYTES(""), VARVE_NETWORK},
        {BYTES("\x07\0\0\0\3"
               "broken"),
         VARVE_ERROR},
        {BYTES("\x0c\0\0\0"
               "key too long"),
         VARVE_ERROR},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fake f = {.arg = cases[i].p, .n = cases[i].n, .chunk = i % 3};
        struct varve *v = fake_start(&f, script_bytes, 5000);
        struct varve_value value;
        enum varve_error got = varve_get(v, "k", 1, &value);
        if (got != cases[i].expect)
            fail_msg("case %zu: %s (%s)", i, varve_error_name(got), varve_error_text(v));
        assert_true(varve_error_text(v)[0] != 0);
        assert_int_equal(value.size, 0);
        // Nothing after a protocol error is believed.
        if (got == VARVE_PROTOCOL)
            assert_int_equal(varve_ping(v), VARVE_PROTOCOL);
        fake_end(&f, v);
    }
}

static bool count_keys(void *arg, const void *key, size_t n, const struct varve_value *value)
{
    ++*(size_t *)arg;
    return true;
}

// Whatever comes back, there is an error or a value, and no reads outside of what came (ASan,
// valgrind).
static void test_garbage(void **state)
{
    uint64_t seed;
    os_random(os_real(), &seed, sizeof seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    srandom((unsigned)seed);
    for (size_t round = 0; round < 400; round++) {
        uint8_t bytes[96];
        size_t n = (size_t)random() % sizeof bytes;
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)(random() % 3 ? random() % 4 : random());
        if (n >= 4 && random() % 4)
            store32(bytes, (uint32_t)(n - 4)); // whole frames get further
        struct fake f = {.arg = bytes, .n = n};
        struct varve *v = fake_start(&f, script_bytes, 5000);
        struct varve_value value;
        struct varve_op ops[3] = {{.kind = VARVE_OP_CHECK, .key = "k", .key_size = 1}};
        const char *text;
        size_t size, keys = 0;
        switch (random() % 5) {
        case 0:
            if (varve_get(v, "k", 1, &value) == VARVE_OK)
                assert_true(value.size < n);
            break;
        case 1:
            (void)!varve_txn(v, ops, 1 + (size_t)random() % 3, NULL, 0, NULL);
            break;
        case 2:
            (void)!varve_list(v, NULL, 0, NULL, 0, 0, random() % 2, count_keys, &keys);
            break;
        case 3:
            if (varve_stat(v, &text, &size) == VARVE_OK)
                assert_int_equal(text[size], 0);
            break;
        case 4:
            (void)!varve_set(v, "k", 1, "v", 1, &value);
            break;
        }
        fake_end(&f, v);
    }
}

static void test_timeout(void **state)
{
    struct fake f = {0};
    struct varve *v = fake_start(&f, script_silent, 150);
    struct varve_value value;
    uint64_t begin = os_mono_ns(os_real());
    assert_int_equal(varve_get(v, "k", 1, &value), VARVE_TIMEOUT);
    uint64_t ms = (os_mono_ns(os_real()) - begin) / 1000000;
    assert_in_range(ms, 149, 10000);
    assert_int_equal(varve_ping(v), VARVE_TIMEOUT);
    assert_int_equal(varve_queue_get(v, "k", 1), VARVE_TIMEOUT);
    assert_int_equal(varve_set(v, "k", 1, "v", 1, NULL), VARVE_TIMEOUT);
    fake_end(&f, v);
}

static void test_connect_errors(void **state)
{
    struct varve *v;
    assert_int_equal(varve_connect(&v, "nonsense", 100), VARVE_INVALID);
    assert_non_null(strstr(varve_error_text(v), "nonsense"));
    assert_int_equal(varve_ping(v), VARVE_INVALID);
    varve_close(v);
    // A port that was free a moment ago.
    int fd;
    char addr[64];
    struct errmsg msg;
    assert_ok(os_listen("127.0.0.1:0", 1, &fd, &msg));
    assert_ok(os_bound_address(fd, addr, sizeof addr));
    os_close_socket(fd);
    assert_int_equal(varve_connect(&v, addr, 100), VARVE_NETWORK);
    assert_true(varve_error_text(v)[0] != 0);
    varve_close(v);
    varve_close(NULL);
}

static void test_pipeline(void **state)
{
    struct fake f = {0};
    struct varve *v = fake_start(&f, script_echo, 20000);
    char key[2000];
    memset(key, 'x', sizeof key);
    enum { COUNT = 20000 }; // 40 MB each way: neither side could buffer it
    for (int i = 0; i < COUNT; i++) {
        int n = snprintf(key, 16, "%d", i);
        key[n] = 'x';
        enum varve_error r = i % 3 ? varve_queue_get(v, key, sizeof key)
                                   : varve_queue_set(v, key, 16, key, sizeof key - 16);
        assert_int_equal(r, VARVE_OK);
        if (i % 1000 == 999)
            assert_int_equal(varve_flush(v), VARVE_OK);
    }
    struct varve_value value;
    assert_int_equal(varve_get(v, "k", 1, &value), VARVE_INVALID);
    for (int i = 0; i < COUNT; i++) {
        struct varve_reply reply;
        char digits[16];
        snprintf(digits, sizeof digits, "%d", i);
        assert_int_equal(varve_outstanding(v), COUNT - i);
        assert_int_equal(varve_next_reply(v, &reply), VARVE_OK);
        assert_int_equal(reply.error, VARVE_OK);
        assert_int_equal(reply.value.size, sizeof key);
        assert_memory_equal(reply.value.data, digits, strlen(digits));
    }
    struct varve_reply reply;
    assert_int_equal(varve_next_reply(v, &reply), VARVE_INVALID);
    assert_int_equal(varve_ping(v), VARVE_OK);
    fake_end(&f, v);
}

// Replies that came before the connection was lost are handed out.
static void test_lost_in_pipeline(void **state)
{
    static const char two[] = "\1\0\0\0\1"
                              "\1\0\0\0\1"
                              "\1\0";
    struct fake f = {.arg = two, .n = sizeof two - 1};
    struct varve *v = fake_start(&f, script_bytes, 5000);
    struct varve_reply reply;
    for (int i = 0; i < 3; i++)
        assert_int_equal(varve_queue_get(v, "k", 1), VARVE_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(varve_next_reply(v, &reply), VARVE_OK);
        assert_int_equal(reply.error, VARVE_MISSING);
    }
    assert_int_equal(varve_next_reply(v, &reply), VARVE_NETWORK);
    assert_string_equal(varve_error_text(v), "the server closed the connection");
    fake_end(&f, v);
}

static void test_too_big(void **state)
{
    struct fake f = {0};
    struct varve *v = fake_start(&f, script_silent, 5000);
    size_t big = 65u << 20;
    char *p = calloc(1, big);
    assert_int_equal(varve_set(v, "k", 1, p, big, NULL), VARVE_INVALID);
    assert_int_equal(varve_queue_set(v, "k", 1, p, 40u << 20), VARVE_OK);
    assert_int_equal(varve_queue_set(v, "k", 1, p, 40u << 20), VARVE_FULL);
    assert_int_equal(varve_outstanding(v), 1);
    free(p);
    fake_end(&f, v);
}

static void test_txn(void **state)
{
    struct varve_op ops[2] = {
        {.kind = VARVE_OP_PUT, .key = "a", .key_size = 1, .value = "v", .value_size = 1},
        {.kind = VARVE_OP_ADD, .key = "b", .key_size = 1, .delta = -5, .has_version = true},
    };
    uint64_t sequence;
    static const char ok[] = "\x2d\0\0\0\0"
                             "\x09\0\0\0\0\0\0\0"
                             "\2\0\0\0"
                             "\3\0\0\0\0\0\0\0"
                             "\0\0\0\0\0\0\0\0"
                             "\4\0\0\0\0\0\0\0"
                             "\xfb\xff\xff\xff\xff\xff\xff\xff";
    struct fake f = {.arg = ok, .n = sizeof ok - 1};
    struct varve *v = fake_start(&f, script_bytes, 5000);
    assert_int_equal(varve_txn(v, ops, 2, "id", 2, &sequence), VARVE_OK);
    assert_int_equal(sequence, 9);
    assert_int_equal(ops[0].new_version, 3);
    assert_int_equal(ops[1].new_version, 4);
    assert_int_equal(ops[1].number, -5);
    fake_end(&f, v);

    static const char conflict[] = "\x19\0\0\0\2"
                                   "\1\0\0\0"
                                   "\1\0\0\0"
                                   "\0\0\0\0\0\0\0\0"
                                   "\x0c\0\0\0\0\0\0\0";
    struct fake g = {.arg = conflict, .n = sizeof conflict - 1};
    v = fake_start(&g, script_bytes, 5000);
    assert_int_equal(varve_txn(v, ops, 2, NULL, 0, &sequence), VARVE_CONFLICT);
    assert_false(ops[0].conflict);
    assert_true(ops[1].conflict);
    assert_int_equal(ops[1].actual, 12);
    fake_end(&g, v);

    // An index outside of the transaction.
    v = fake_start(&g, script_bytes, 5000);
    assert_int_equal(varve_txn(v, ops, 1, NULL, 0, &sequence), VARVE_PROTOCOL);
    fake_end(&g, v);
}

// Two pages and an empty one; then keys that do not rise.
static void script_list(struct fake *f)
{
    static const char *const pages[] = {"\0\2\0\0\0\2\0\0\0p1\2\0\0\0p2", "\0\1\0\0\0\2\0\0\0p3",
                                        "\0\0\0\0\0"};
    static const size_t sizes[] = {17, 11, 5};
    uint8_t args[256];
    uint16_t type;
    size_t n;
    for (size_t i = 0; fake_request(f, &type, args, sizeof args, &n); i++) {
        size_t at = f->n ? 0 : i < 2 ? i : 2;
        fake_reply(f, pages[at], sizes[at]);
    }
}

static void test_list(void **state)
{
    struct fake f = {.n = 0};
    size_t keys = 0;
    struct varve *v = fake_start(&f, script_list, 5000);
    assert_int_equal(varve_list(v, "p", 1, NULL, 0, 0, false, count_keys, &keys), VARVE_OK);
    assert_int_equal(keys, 3);
    fake_end(&f, v);

    struct fake g = {.n = 1};
    v = fake_start(&g, script_list, 5000);
    assert_int_equal(varve_list(v, "p", 1, NULL, 0, 0, false, count_keys, &keys), VARVE_PROTOCOL);
    fake_end(&g, v);
    v = fake_start(&g, script_list, 5000);
    assert_int_equal(varve_list(v, "q", 1, NULL, 0, 0, false, count_keys, &keys), VARVE_PROTOCOL);
    fake_end(&g, v);
    v = fake_start(&g, script_list, 5000);
    assert_int_equal(varve_list(v, "p", 1, NULL, 0, 1, false, count_keys, &keys), VARVE_PROTOCOL);
    fake_end(&g, v);
}

static void test_stat(void **state)
{
    static const char reply[] = "\4\0\0\0\0a 1";
    struct fake f = {.arg = reply, .n = sizeof reply - 1};
    struct varve *v = fake_start(&f, script_bytes, 5000);
    const char *text;
    size_t n;
    assert_int_equal(varve_stat(v, &text, &n), VARVE_OK);
    assert_int_equal(n, 3);
    assert_string_equal(text, "a 1");
    fake_end(&f, v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get),
        cmocka_unit_test(test_set_believes_only_what_is_followed),
        cmocka_unit_test(test_malformed_value),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_connect_errors),
        cmocka_unit_test(test_pipeline),
        cmocka_unit_test(test_lost_in_pipeline),
        cmocka_unit_test(test_too_big),
        cmocka_unit_test(test_txn),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_stat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
