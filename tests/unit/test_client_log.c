// The client library's calls of logs against a scripted server: requests as docs/PROTOCOLS.md has
// them, pages whole and malformed, tails.
#include "fake_server.h"
#include "unit.h"

#include "base/buf.h"
#include "base/os.h"
#include "client/wire.h"
#include "op/record.h"

#include <stdio.h>
#include <stdlib.h>

static const struct varve_log name = {"ks", 2, "key", 3};

// Lays out a page; `offsets` end with 0. Returns its bytes, status byte first.
static size_t page_of(uint8_t *p, uint8_t flags, const char *token, const uint64_t *offsets)
{
    size_t n = 1 + 33, count = 0, length = strlen(token);
    memcpy(p + n, token, length);
    n += length;
    for (; offsets[count]; count++) {
        struct record r = {offsets[count], -5, count ? 7 : NONCE_NONE, slice_of("bytes!", count)};
        n = (size_t)(record_write(p + n, &r) - p);
    }
    p[0] = WIRE_OK;
    store64(p + 1, 1);
    store64(p + 9, 100);
    store64(p + 17, 50);
    store32(p + 25, (uint32_t)count);
    p[29] = flags;
    store32(p + 30, (uint32_t)length);
    return n;
}

static void test_page(void **state)
{
    static const uint64_t rising[] = {3, 4, 9, 0}, falling[] = {9, 4, 3, 0}, none[] = {0};
    const uint64_t *const runs[] = {rising, falling, none};
    for (size_t i = 0; i < 3; i++) {
        uint8_t bytes[512];
        struct varve_page page;
        struct varve_record r;
        size_t count = 0;
        size_t n = page_of(bytes, 3, "token", runs[i]);
        assert_ok(wire_read_page(slice_of(bytes + 1, n - 1), &page));
        assert_int_equal(page.first_offset, 1);
        assert_int_equal(page.next_offset, 100);
        assert_int_equal(page.next, 50);
        assert_true(page.truncated && page.more && !page.end);
        assert_int_equal(page.continuation_size, 5);
        assert_memory_equal(page.continuation, "token", 5);
        for (; varve_page_next(&page, &r); count++) {
            assert_int_equal(r.offset, runs[i][count]);
            assert_int_equal(r.timestamp, -5);
            assert_int_equal(r.has_nonce, count > 0);
            assert_int_equal(r.nonce.low, count ? 7 : 0);
            assert_int_equal(r.size, count);
            assert_memory_equal(r.data, "bytes!", count);
        }
        assert_int_equal(count, page.records);
        assert_false(varve_page_next(&page, &r));
    }
}

static void expect_malformed(const uint8_t *bytes, size_t n)
{
    // A block of its own, so that a read past it is seen.
    struct varve_page page;
    uint8_t *block = malloc(n ? n : 1);
    assert_non_null(block);
    if (n)
        memcpy(block, bytes, n);
    assert_int_equal(wire_read_page(slice_of(block, n), &page), ERR_INVALID);
    free(block);
}

static void test_malformed_page(void **state)
{
    static const uint64_t offsets[] = {3, 4, 9, 0};
    static const uint64_t bad_order[][4] = {{3, 3, 0}, {3, 4, 4, 0}, {3, 9, 4, 0}, {9, 3, 4, 0}};
    uint8_t bytes[512], *page = bytes + 1;
    size_t n = page_of(bytes, 0, "t", offsets) - 1;
    for (size_t cut = 0; cut < n; cut++)
        expect_malformed(page, cut);
    page[n] = 0;
    expect_malformed(page, n + 1); // bytes after the end
    for (size_t i = 0; i < 4; i++) {
        size_t m = page_of(bytes, 0, "t", bad_order[i]) - 1;
        expect_malformed(page, m);
    }
    // Numbers that do not fit: records, flags, the continuation's length, a record's two lengths.
    static const struct {
        size_t at;
        uint8_t to;
    } wrong[] = {{24, 2},   {24, 4},      {27, 255},      {28, 8},       {29, 2},     {30, 1},
                 {32, 255}, {34 + 32, 1}, {34 + 35, 255}, {34 + 36, 37}, {34 + 39, 1}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        n = page_of(bytes, 0, "t", offsets) - 1;
        page[wrong[i].at] = wrong[i].to;
        expect_malformed(page, n);
    }
    // A continuation that is too long.
    char token[VARVE_CONTINUATION + 2];
    memset(token, 'x', sizeof token);
    token[VARVE_CONTINUATION] = 0;
    struct varve_page good;
    n = page_of(bytes, 0, token, offsets) - 1;
    assert_ok(wire_read_page(slice_of(page, n), &good));
    token[VARVE_CONTINUATION] = 'x';
    token[VARVE_CONTINUATION + 1] = 0;
    n = page_of(bytes, 0, token, offsets) - 1;
    expect_malformed(page, n);
}

// Random damage to a good page: refused, or records within it.
static void test_damaged_page(void **state)
{
    static const uint64_t offsets[] = {3, 4, 9, 10, 0};
    uint64_t seed;
    os_random(os_real(), &seed, sizeof seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    srandom((unsigned)seed);
    for (size_t round = 0; round < 20000; round++) {
        uint8_t bytes[512];
        struct varve_page page;
        struct varve_record r;
        size_t n = page_of(bytes, 0, "t", offsets) - 1;
        uint8_t *block = malloc(n);
        assert_non_null(block);
        memcpy(block, bytes + 1, n);
        for (long i = random() % 3; i >= 0; i--)
            block[(size_t)random() % n] = (uint8_t)random();
        if (!wire_read_page(slice_of(block, n), &page))
            while (varve_page_next(&page, &r)) {
                const uint8_t *p = r.data;
                assert_true(p > block && p + r.size < block + n);
            }
        free(block);
    }
}

// Keeps the one request in f->arg's buffer and answers with what stands there first.
struct exchange {
    struct slice reply; // body
    uint16_t type;
    uint8_t args[1024];
    size_t n;
};

static void script_exchange(struct fake *f)
{
    struct exchange *x = (struct exchange *)(uintptr_t)f->arg;
    if (fake_request(f, &x->type, x->args, sizeof x->args, &x->n))
        fake_reply(f, x->reply.p, x->reply.n);
}

static void test_append(void **state)
{
    static const char reply[] = "\0"
                                "\x05\0\0\0\0\0\0\0"
                                "\x07\0\0\0\0\0\0\0"
                                "\x02\0\0\0\0\0\0\0"
                                "\x09\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"
                                "\xff\xff\xff\xff\xff\xff\xff\xff";
    static const char request[] = "kskey"
                                  "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
                                  "\0\0\0\0\0\0\0\x80"
                                  "\3\0\0\0one"
                                  "\x08\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"
                                  "\xff\xff\xff\xff\xff\xff\xff\xff"
                                  "\0\0\0\0";
    struct varve_record records[2] = {
        {.data = "one", .size = 3},
        {.has_nonce = true, .nonce = {8, 1}, .has_timestamp = true, .timestamp = -1},
    };
    struct exchange x = {.reply = slice_of(reply, sizeof reply - 1)};
    struct fake f = {.arg = &x};
    struct varve *v = fake_start(&f, script_exchange, 5000);
    struct varve_appended a;
    assert_int_equal(varve_log_append(v, &name, records, 2, &a), VARVE_OK);
    assert_int_equal(a.first_offset, 5);
    assert_int_equal(a.next_offset, 7);
    assert_int_equal(a.appended, 2);
    assert_int_equal(a.next_nonce.low, 9);
    assert_int_equal(a.next_nonce.high, 1);
    assert_int_equal(a.timestamp, -1);
    assert_int_equal(x.type, WIRE_LOG_APPEND);
    assert_int_equal(x.n, sizeof request - 1);
    assert_memory_equal(x.args, request, x.n);
    // Numbers that mean "none" are refused before anything is sent.
    records[0].has_nonce = true;
    records[0].nonce = (struct varve_u128){UINT64_MAX, UINT64_MAX};
    assert_int_equal(varve_log_append(v, &name, records, 2, &a), VARVE_INVALID);
    records[0].has_nonce = false;
    records[0].has_timestamp = true;
    records[0].timestamp = INT64_MIN;
    assert_int_equal(varve_log_append(v, &name, records, 2, &a), VARVE_INVALID);
    struct varve_op op = {
        .kind = VARVE_OP_APPEND, .log = &name, .records = records, .record_count = 2};
    assert_int_equal(varve_txn(v, &op, 1, NULL, 0, NULL), VARVE_INVALID);
    assert_non_null(strstr(varve_error_text(v), "nonce"));
    fake_end(&f, v);
}

static void test_append_in_txn(void **state)
{
    static const char reply[] = "\0"
                                "\x09\0\0\0\0\0\0\0"
                                "\2\0\0\0"
                                "\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                                "\4\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0";
    struct varve_record record = {.data = "r", .size = 1, .has_nonce = true};
    struct varve_op ops[2] = {
        {.kind = VARVE_OP_PUT, .key = "a", .key_size = 1},
        {.kind = VARVE_OP_APPEND, .log = &name, .records = &record, .record_count = 1},
    };
    struct exchange x = {.reply = slice_of(reply, sizeof reply - 1)};
    struct fake f = {.arg = &x};
    struct varve *v = fake_start(&f, script_exchange, 5000);
    uint64_t sequence;
    assert_int_equal(varve_txn(v, ops, 2, NULL, 0, &sequence), VARVE_OK);
    assert_int_equal(sequence, 9);
    assert_int_equal(ops[0].new_version, 3);
    assert_int_equal(ops[1].first_offset, 4);
    assert_int_equal(ops[1].appended, 1);
    static const char append[] = "\4\0\0\0"
                                 "\7\0\0\0"
                                 "\x1d\0\0\0"
                                 "\0\0\0\0\0\0\0\0"
                                 "\0\0\0\0\0\0\0\0"
                                 "\2\0kskey"
                                 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                                 "\0\0\0\0\0\0\0\x80"
                                 "\1\0\0\0r";
    assert_int_equal(x.n, 28 + 1 + sizeof append - 1);
    assert_memory_equal(x.args + 29, append, sizeof append - 1);
    fake_end(&f, v);
}

static void test_read_request(void **state)
{
    static const uint64_t none[] = {0};
    uint8_t reply[64];
    struct exchange x = {.reply = slice_of(reply, page_of(reply, 2, "token", none))};
    struct fake f = {.arg = &x};
    struct varve *v = fake_start(&f, script_exchange, 5000);
    struct varve_page page = {.continuation = "old", .continuation_size = 3};
    struct varve_log_query q = {.backwards = true,
                                .start = VARVE_START_NONCE,
                                .offset = 99,
                                .nonce = {1, 2},
                                .filter = VARVE_FILTER_CONTAINS,
                                .pattern = "pat",
                                .pattern_size = 3,
                                .page_size = 10,
                                .continuation = page.continuation,
                                .continuation_size = page.continuation_size};
    assert_int_equal(varve_log_read(v, &name, &q, &page), VARVE_OK);
    static const char request[] = "kskey"
                                  "\1\3\2\0"
                                  "\x0a\0\0\0"
                                  "\0\0\0\0\0\0\0\0"
                                  "\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0"
                                  "oldpat";
    assert_int_equal(x.type, WIRE_LOG_READ);
    assert_int_equal(x.n, sizeof request - 1);
    assert_memory_equal(x.args, request, x.n);
    assert_memory_equal(page.continuation, "token", 5);
    fake_end(&f, v);
}

// Each small call with a good reply, and with one a byte shorter and longer.
static void call(struct varve *v, size_t which, enum varve_error expect)
{
    struct varve_log_policy policy = {0};
    struct varve_log_meta meta;
    struct varve_appended a;
    struct varve_record record = {.data = "r", .size = 1};
    uint64_t n = 0;
    enum varve_error got = VARVE_OK;
    switch (which) {
    case 0:
        got = varve_keyspace_create(v, "ks", 2, &policy, &n);
        break;
    case 1:
        got = varve_keyspace_policy(v, "ks", 2, &policy);
        break;
    case 2:
        got = varve_keyspace_get(v, "ks", 2, &policy, &n);
        break;
    case 3:
        got = varve_log_meta(v, &name, &meta);
        break;
    case 4:
        got = varve_log_append(v, &name, &record, 1, &a);
        break;
    case 5:
        got = varve_log_trim(v, &name, 5, &n);
        break;
    case 6:
        got = varve_log_trim_time(v, &name, -5, NULL);
        break;
    case 7:
        got = varve_log_erase(v, &name, 5);
        break;
    case 8:
        got = varve_log_flush(v, NULL);
        break;
    default:
        break;
    }
    if (got != expect)
        fail_msg("call %zu: %s (%s)", which, varve_error_name(got), varve_error_text(v));
    if (!got && which == 2)
        assert_true(policy.server_time && policy.max_records == 0x0101010101010101);
    if (!got && (which == 2 || which == 0 || which == 5))
        assert_int_equal(n, 0x0101010101010101);
}

static void test_small_calls(void **state)
{
    static const size_t sizes[] = {8, 0, 40, 56, 48, 8, 8, 0, 0};
    static const bool missing[] = {0, 0, 1, 1, 0, 1, 1, 1, 0};
    uint8_t body[64];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t j = 0; j < 6; j++) {
            memset(body, 1, sizeof body);
            body[0] = j < 3 ? 0 : (uint8_t)(j - 2); // statuses 0 0 0 1 2 3
            size_t n = 1 + (j < 3 ? sizes[i] + j : 0);
            bool conflict = i == 0;
            enum varve_error expect = j == 0   ? VARVE_OK
                                      : j < 3  ? VARVE_PROTOCOL
                                      : j == 3 ? missing[i] ? VARVE_MISSING : VARVE_PROTOCOL
                                      : j == 4 ? conflict ? VARVE_CONFLICT : VARVE_PROTOCOL
                                               : VARVE_ERROR;
            struct exchange x = {.reply = slice_of(body, n)};
            struct fake f = {.arg = &x};
            struct varve *v = fake_start(&f, script_exchange, 5000);
            call(v, i, expect);
            fake_end(&f, v);
        }
    }
}

// Pages until the next request comes, then the end of the tail and that request's reply.
static void script_tail(struct fake *f)
{
    static const uint64_t first[] = {1, 2, 0}, second[] = {3, 0}, none[] = {0};
    const uint64_t *const pages[] = {first, none, second};
    uint8_t bytes[512];
    uint16_t type;
    size_t n;
    if (!fake_request(f, &type, bytes, sizeof bytes, &n) || type != WIRE_LOG_TAIL)
        return;
    bool follow = bytes[5 + 3];
    for (size_t i = 0; i < 3; i++)
        fake_reply(f, bytes, page_of(bytes, 0, "", pages[i]));
    if (!follow)
        fake_reply(f, bytes, page_of(bytes, 4, "", none));
    if (fake_request(f, &type, bytes + 1, sizeof bytes - 1, &n)) {
        uint8_t end[64];
        if (follow)
            fake_reply(f, end, page_of(end, 4, "", none));
        bytes[0] = WIRE_OK;
        fake_reply(f, bytes, 1 + n);
    }
}

static void test_tail(void **state)
{
    struct varve_log_query q = {.backwards = false};
    struct varve_page page;
    struct varve_record r;
    for (int follow = 0; follow < 2; follow++) {
        struct fake f = {.chunk = 7};
        struct varve *v = fake_start(&f, script_tail, 5000);
        assert_int_equal(varve_log_tail_next(v, &page), VARVE_INVALID);
        assert_int_equal(varve_log_tail_close(v), VARVE_OK);
        assert_int_equal(varve_log_tail(v, &name, &q, follow), VARVE_OK);
        assert_int_equal(varve_log_tail_next(v, &page), VARVE_OK);
        assert_int_equal(varve_ping(v), VARVE_INVALID);
        assert_true(varve_page_next(&page, &r) && varve_page_next(&page, &r));
        assert_int_equal(r.offset, 2);
        assert_int_equal(varve_log_tail_next(v, &page), VARVE_OK);
        assert_false(varve_page_next(&page, &r));
        if (!follow) {
            assert_int_equal(varve_log_tail_next(v, &page), VARVE_OK);
            assert_int_equal(varve_log_tail_next(v, &page), VARVE_OK);
            assert_true(page.end);
            assert_int_equal(varve_log_tail_next(v, &page), VARVE_INVALID);
            assert_int_equal(varve_ping(v), VARVE_OK);
        } else {
            assert_int_equal(varve_log_tail_close(v), VARVE_OK);
        }
        assert_int_equal(varve_outstanding(v), 0);
        fake_end(&f, v);
    }
}

// A request queued behind a tail: its reply comes after the tail's end.
static void test_tail_in_pipeline(void **state)
{
    struct fake f = {0};
    struct varve *v = fake_start(&f, script_tail, 5000);
    struct varve_log_query q = {.backwards = false};
    struct varve_reply reply;
    size_t pages = 0;
    assert_int_equal(varve_log_tail(v, &name, &q, true), VARVE_OK);
    assert_int_equal(varve_queue_get(v, "aaaaaaaabbbbbbbb\0value", 22), VARVE_OK);
    assert_int_equal(varve_log_tail_close(v), VARVE_INVALID);
    do {
        assert_int_equal(varve_next_reply(v, &reply), VARVE_OK);
        assert_int_equal(reply.error, VARVE_OK);
        pages++;
    } while (!reply.page.end);
    assert_int_equal(pages, 4);
    assert_int_equal(varve_next_reply(v, &reply), VARVE_OK);
    assert_int_equal(reply.value.size, 5);
    fake_end(&f, v);
}

static void test_tail_errors(void **state)
{
    static const char refused[] = "\x05\0\0\0\3none";
    static const char cut[] = "\x02\0\0\0\0x";
    static const struct {
        const char *p;
        size_t n;
        enum varve_error expect;
    } cases[] = {{refused, sizeof refused - 1, VARVE_ERROR}, {cut, sizeof cut - 1, VARVE_PROTOCOL}};
    for (size_t i = 0; i < 2; i++) {
        struct fake f = {.arg = cases[i].p, .n = cases[i].n};
        struct varve *v = fake_start(&f, script_bytes, 5000);
        struct varve_log_query q = {.backwards = false};
        struct varve_page page;
        assert_int_equal(varve_log_tail(v, &name, &q, true), VARVE_OK);
        assert_int_equal(varve_log_tail_next(v, &page), cases[i].expect);
        assert_int_equal(varve_log_tail_next(v, &page), i ? VARVE_PROTOCOL : VARVE_INVALID);
        fake_end(&f, v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page),
        cmocka_unit_test(test_malformed_page),
        cmocka_unit_test(test_damaged_page),
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_append_in_txn),
        cmocka_unit_test(test_read_request),
        cmocka_unit_test(test_small_calls),
        cmocka_unit_test(test_tail),
        cmocka_unit_test(test_tail_in_pipeline),
        cmocka_unit_test(test_tail_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
