// The binary edge over a fake connection and a fake commit room.
#include "unit.h"

#include "base/hash.h"
#include "base/limits.h"
#include "edge/binary/binary.h"
#include "edge/binary/frame.h"
#include "fake_commit.h"
#include "fake_conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MAX_KEY = 100, MAX_VALUE = 3000000, MAX_REQUEST = 4000000, OUT = 1 << 20 };

static enum err stat_text(void *arg, struct buf *out)
{
    return buf_append(out, "up 1\n", 5);
}

struct room {
    struct commit *commit;
    struct binary *binary;
    struct conn *conn;
    struct buf script; // requests
    struct buf expect; // replies
};

static void enter(struct room *r)
{
    r->commit = fake_commit_new();
    struct binary_options o = {.commit = r->commit,
                               .max_key = MAX_KEY,
                               .max_value = MAX_VALUE,
                               .max_request = MAX_REQUEST,
                               .stat = stat_text};
    assert_ok(binary_new(&r->binary, &o));
    r->conn = fake_conn_new(binary_protocol(r->binary));
    buf_init(&r->script, 1 << 24);
    buf_init(&r->expect, 1 << 24);
}

static void leave(struct room *r)
{
    fake_conn_free(r->conn);
    binary_free(r->binary);
    fake_commit_free(r->commit);
    buf_release(&r->script);
    buf_release(&r->expect);
}

// ---- writing requests and expected replies

static void put(struct buf *b, const void *p, size_t n)
{
    assert_ok(buf_append(b, p, n));
}
static void put8(struct buf *b, uint8_t v)
{
    put(b, &v, 1);
}
static void put16(struct buf *b, uint16_t v)
{
    put(b, &v, 2);
}
static void put32(struct buf *b, uint32_t v)
{
    put(b, &v, 4);
}
static void put64(struct buf *b, uint64_t v)
{
    put(b, &v, 8);
}
static void put_arg(struct buf *b, const void *p, size_t n)
{
    put32(b, (uint32_t)n);
    put(b, p, n);
}
static void put_text(struct buf *b, const char *text)
{
    put_arg(b, text, strlen(text));
}

static void ask1(struct room *r, uint16_t type, const char *arg)
{
    put16(&r->script, type);
    put_text(&r->script, arg);
}
static void ask_set(struct room *r, const char *key, const char *value)
{
    ask1(r, FRAME_SET, key);
    put_text(&r->script, value);
}
static void ask_list(struct room *r, const char *prefix, const char *after, uint32_t limit,
                     uint32_t flags)
{
    ask1(r, FRAME_LIST, prefix);
    put_text(&r->script, after);
    put32(&r->script, 8);
    put32(&r->script, limit);
    put32(&r->script, flags);
}

struct op {
    uint8_t kind, type, flags;
    const char *key;
    const void *value;
    size_t n;
    uint64_t version, ttl;
};

static void ask_txn(struct room *r, const struct op *ops, size_t count, const char *idempotency)
{
    struct buf b;
    buf_init(&b, 1 << 24);
    for (size_t i = 0; i < count; i++) {
        const struct op *o = &ops[i];
        uint8_t head[4] = {o->kind, o->type, o->flags, 0};
        put(&b, head, 4);
        put32(&b, (uint32_t)strlen(o->key));
        put32(&b, (uint32_t)o->n);
        put64(&b, o->version);
        put64(&b, o->ttl);
        put(&b, o->key, strlen(o->key));
        put(&b, o->value, o->n);
    }
    put16(&r->script, FRAME_TXN);
    put_arg(&r->script, b.data, buf_len(&b));
    put_text(&r->script, idempotency);
    buf_release(&b);
}

static void expect_error(struct room *r, const char *text)
{
    put32(&r->expect, (uint32_t)strlen(text) + 1);
    put8(&r->expect, 3);
    put(&r->expect, text, strlen(text));
}

// What the connection has replied is exactly what is expected; both are forgotten.
static void check(struct room *r)
{
    struct buf *out = &r->conn->out;
    assert_int_equal(buf_len(out), buf_len(&r->expect));
    if (buf_len(out))
        assert_memory_equal(buf_head(out), buf_head(&r->expect), buf_len(out));
    fake_conn_take(r->conn);
    buf_clear(&r->expect);
}

static void feed(struct room *r)
{
    fake_conn_feed(r->conn, buf_head(&r->script), buf_len(&r->script));
    buf_clear(&r->script);
}

static void run(struct room *r)
{
    feed(r);
    check(r);
    assert_false(r->conn->closed);
    assert_int_equal(buf_len(&r->conn->in), 0);
}

// The connection is closed after `text`, which is a whole reply.
static void check_refused(struct room *r, const char *text)
{
    struct buf *out = &r->conn->out;
    assert_true(r->conn->closed && !r->conn->dropped);
    assert_true(buf_len(out) >= 4);
    uint32_t n = load32(buf_head(out));
    assert_int_equal(buf_len(out), 4 + n);
    char got[512];
    assert_true(n < sizeof got);
    memcpy(got, buf_head(out) + 4, n);
    got[n] = 0;
    if (text)
        assert_string_equal(got, text);
    assert_true(utf8_valid(slice_of(got, n)) && n > 5);
}

// ---- tests

static void types_one_to_three(void **state)
{
    struct room r;
    enter(&r);
    ask1(&r, FRAME_GET, "k");
    put_text(&r.expect, "");
    ask_set(&r, "k", "one");
    put_text(&r.expect, "");
    ask1(&r, FRAME_GET, "k");
    put_text(&r.expect, "one");
    ask_set(&r, "k", "");
    put_text(&r.expect, "one");
    ask_set(&r, "k", "three");
    put_text(&r.expect, "");
    ask1(&r, FRAME_DELETE, "k");
    put_text(&r.expect, "three");
    ask1(&r, FRAME_DELETE, "k");
    put_text(&r.expect, "");
    ask1(&r, FRAME_GET, "k");
    put_text(&r.expect, "");
    run(&r);
    assert_int_equal(r.conn->gate, fake_commit_seq(r.commit));
    // Bytes that are no text, the longest key.
    char key[MAX_KEY], value[256];
    memset(key, 0xff, sizeof key);
    for (int i = 0; i < 256; i++)
        value[i] = (char)i;
    put16(&r.script, FRAME_SET);
    put_arg(&r.script, key, sizeof key);
    put_arg(&r.script, value, sizeof value);
    put16(&r.script, FRAME_GET);
    put_arg(&r.script, key, sizeof key);
    put_text(&r.expect, "");
    put_arg(&r.expect, value, sizeof value);
    run(&r);
    leave(&r);
}

static void other_types_as_text(void **state)
{
    struct room r;
    enter(&r);
    int64_t number = INT64_MIN;
    double real = 0.1;
    fake_commit_set(r.commit, slice_str("i"), VALUE_INT, slice_of(&number, 8), 1);
    fake_commit_set(r.commit, slice_str("f"), VALUE_FLOAT, slice_of(&real, 8), 1);
    fake_commit_set(r.commit, slice_str("t"), VALUE_BOOL, slice_of("\1", 1), 1);
    fake_commit_set(r.commit, slice_str("n"), VALUE_BOOL, slice_of("\0", 1), 1);
    fake_commit_set(r.commit, slice_str("a"), VALUE_ARRAY, slice_str("[1,2.5]"), 1);
    fake_commit_set(r.commit, slice_str("s"), VALUE_STRING, slice_str("text"), 1);
    const char *keys[] = {"i", "f", "t", "n", "a", "s"};
    const char *texts[] = {"-9223372036854775808", "0.1", "true", "false", "[1,2.5]", "text"};
    for (int i = 0; i < 6; i++) {
        ask1(&r, FRAME_GET, keys[i]);
        put_text(&r.expect, texts[i]);
    }
    for (int i = 0; i < 6; i++) {
        ask_set(&r, keys[i], "x");
        put_text(&r.expect, texts[i]);
    }
    run(&r);
    leave(&r);
}

static void vget(void **state)
{
    struct room r;
    enter(&r);
    int64_t number = -7;
    fake_commit_set(r.commit, slice_str("i"), VALUE_INT, slice_of(&number, 8), 42);
    ask1(&r, FRAME_VGET, "i");
    put32(&r.expect, 1 + 17 + 8);
    put8(&r.expect, 0);
    put64(&r.expect, 42);
    put64(&r.expect, 0);
    put8(&r.expect, VALUE_INT);
    put64(&r.expect, (uint64_t)number);
    ask1(&r, FRAME_VGET, "none");
    put32(&r.expect, 1);
    put8(&r.expect, 1);
    ask1(&r, FRAME_VGET, "");
    expect_error(&r, "VGET: the key is empty");
    run(&r);
    leave(&r);
}

static void expect_txn(struct room *r, uint64_t seq, const uint64_t *versions,
                       const int64_t *numbers, uint32_t count)
{
    put32(&r->expect, 1 + 12 + 16 * count);
    put8(&r->expect, 0);
    put64(&r->expect, seq);
    put32(&r->expect, count);
    for (uint32_t i = 0; i < count; i++) {
        put64(&r->expect, versions[i]);
        put64(&r->expect, (uint64_t)numbers[i]);
    }
}

static void transactions(void **state)
{
    struct room r;
    enter(&r);
    int64_t five = 5;
    struct op make[] = {{TXN_PUT, VALUE_STRING, 1, "a", "x", 1, 0, 0},
                        {TXN_ADD, 0, 0, "n", &five, 8, 99, 99}, // not given: ignored
                        {TXN_CHECK, 0, 1, "none", NULL, 0, 0, 0},
                        {TXN_DELETE, 0, 0, "gone", NULL, 0, 0, 0}};
    ask_txn(&r, make, 4, "");
    expect_txn(&r, 1, (uint64_t[]){1, 1, 0, 0}, (int64_t[]){0, 5, 0, 0}, 4);
    ask_txn(&r, make, 4, "");
    put32(&r.expect, 1 + 4 + 20);
    put8(&r.expect, 2);
    put32(&r.expect, 1);
    put32(&r.expect, 0);
    put64(&r.expect, 0);
    put64(&r.expect, 1);
    // The same idempotency key: the first result; with another request: refused.
    ask_txn(&r, make + 1, 1, "once");
    ask_txn(&r, make + 1, 1, "once");
    ask_txn(&r, make + 1, 2, "once");
    expect_txn(&r, 2, (uint64_t[]){2}, (int64_t[]){10}, 1);
    expect_txn(&r, 2, (uint64_t[]){2}, (int64_t[]){10}, 1);
    expect_error(&r, err_text(ERR_REUSED));
    run(&r);
    // More operations than need no memory of their own, and all value types.
    char keys[20][4];
    double real = -1.5;
    struct op many[20];
    for (int i = 0; i < 20; i++) {
        (void)snprintf(keys[i], sizeof keys[i], "m%d", i);
        many[i] = (struct op){TXN_PUT, VALUE_ARRAY, 2, keys[i], "[ 1, 2.50 ,3e2]", 15, 0, 1000};
    }
    many[3] = (struct op){TXN_PUT, VALUE_FLOAT, 0, "m3", &real, 8, 0, 0};
    many[4] = (struct op){TXN_PUT, VALUE_BOOL, 0, "m4", "\1", 1, 0, 0};
    many[5] = (struct op){TXN_PUT, VALUE_BYTES, 0, "m5", "\xff", 1, 0, 0};
    many[6] = (struct op){TXN_PUT, VALUE_ARRAY, 0, "m6", "[]", 2, 0, 0};
    ask_txn(&r, many, 20, "");
    uint64_t versions[20];
    int64_t numbers[20] = {0};
    for (int i = 0; i < 20; i++)
        versions[i] = 1;
    expect_txn(&r, 3, versions, numbers, 20);
    const char *texts[] = {"[1,2.5,300.0]", "-1.5", "true", "\xff", "[]", "[1,2.5,300.0]"};
    const char *where[] = {"m19", "m3", "m4", "m5", "m6", "m7"};
    for (int i = 0; i < 6; i++) {
        ask1(&r, FRAME_GET, where[i]);
        put_text(&r.expect, texts[i]);
    }
    run(&r);
    leave(&r);
}

static void bad_transactions(void **state)
{
    struct room r;
    enter(&r);
    double inf = 1e308 * 10;
    char long_key[MAX_KEY + 2];
    memset(long_key, 'k', sizeof long_key);
    long_key[MAX_KEY + 1] = 0;
    struct {
        struct op op;
        const char *text;
    } bad[] = {
        {{9, 0, 0, "k", NULL, 0, 0, 0}, "unknown kind 9"},
        {{TXN_PUT, 0, 8, "k", NULL, 0, 0, 0}, "unknown flags 8"},
        {{TXN_DELETE, 1, 0, "k", NULL, 0, 0, 0}, "only a put has a value type"},
        {{TXN_DELETE, 0, 0, "k", "x", 1, 0, 0},
         "a check or delete has neither value nor time to live"},
        {{TXN_CHECK, 0, 0, "k", NULL, 0, 0, 0}, "a check needs a version"},
        {{TXN_ADD, 0, 0, "k", "123", 3, 0, 0}, "the number to add takes 8 bytes, not 3"},
        {{TXN_PUT, VALUE_INT, 0, "k", "1", 1, 0, 0}, "an integer takes 8 bytes, not 1"},
        {{TXN_PUT, VALUE_FLOAT, 0, "k", "1", 1, 0, 0}, "a float takes 8 bytes, not 1"},
        {{TXN_PUT, VALUE_FLOAT, 0, "k", &inf, 8, 0, 0}, "a float is not finite"},
        {{TXN_PUT, VALUE_BOOL, 0, "k", "\2", 1, 0, 0}, "a bool is not one byte, 0 or 1"},
        {{TXN_PUT, VALUE_STRING, 0, "k", "\xff", 1, 0, 0}, "a string is not UTF-8"},
        {{TXN_PUT, VALUE_TYPES, 0, "k", "x", 1, 0, 0}, "unknown value type 6"},
        {{TXN_PUT, VALUE_ARRAY, 0, "k", "{}", 2, 0, 0}, "an array's text is object"},
        {{TXN_PUT, VALUE_ARRAY, 0, "k", "[\"a\"]", 5, 0, 0},
         "an array holds string, not only numbers"},
        {{TXN_PUT, VALUE_ARRAY, 0, "k", "[18446744073709551615]", 22, 0, 0},
         "an integer is beyond 64-bit signed"},
        {{TXN_PUT, 0, 0, long_key, NULL, 0, 0, 0},
         "key of 101 or value of 0 bytes is over the limit of 100 or 3000000"},
    };
    struct op good = {TXN_PUT, VALUE_BYTES, 0, "good", "x", 1, 0, 0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[256];
        (void)snprintf(text, sizeof text, "TXN: operation 1: %s", bad[i].text);
        ask_txn(&r, (struct op[]){good, bad[i].op}, 2, "");
        expect_error(&r, text);
        run(&r);
    }
    ask_txn(&r, NULL, 0, "");
    expect_error(&r, "TXN: no operations");
    // Lengths that do not fit the argument.
    for (uint32_t n = 1; n < 30; n++) {
        put16(&r.script, FRAME_TXN);
        put32(&r.script, n);
        for (uint32_t i = 0; i < n; i++)
            put8(&r.script, i == 4 || i == 8 ? 0xff : 0);
        put_text(&r.script, "");
        expect_error(&r, "TXN: operation 0 is cut short");
    }
    run(&r);
    assert_int_equal(fake_commit_seq(r.commit), 0);
    leave(&r);
}

static void listings(void **state)
{
    struct room r;
    enter(&r);
    for (int i = 0; i < 5; i++) {
        char key[8];
        (void)snprintf(key, sizeof key, "k%d", i);
        fake_commit_set(r.commit, slice_str(key), VALUE_BYTES, slice_str("val"), 7);
    }
    fake_commit_set(r.commit, slice_str("z"), VALUE_BYTES, slice_str("val"), 7);
    ask_list(&r, "k", "k1", 2, 0);
    put32(&r.expect, 1 + 4 + 2 * 6);
    put8(&r.expect, 0);
    put32(&r.expect, 2);
    put_text(&r.expect, "k2");
    put_text(&r.expect, "k3");
    ask1(&r, FRAME_GET, "z"); // in its place, although the listing runs elsewhere
    put_text(&r.expect, "val");
    ask_list(&r, "", "k4", UINT32_MAX, 1);
    put32(&r.expect, 1 + 4 + 5 + 21 + 3);
    put8(&r.expect, 0);
    put32(&r.expect, 1);
    put_text(&r.expect, "z");
    put64(&r.expect, 7);
    put64(&r.expect, 0);
    put8(&r.expect, VALUE_BYTES);
    put_text(&r.expect, "val");
    ask_list(&r, "none", "", 10, 0);
    put32(&r.expect, 5);
    put8(&r.expect, 0);
    put32(&r.expect, 0);
    ask_list(&r, "", "", 0, 0);
    expect_error(&r, "LIST: the limit is 0");
    ask_list(&r, "", "", 1, 2);
    expect_error(&r, "LIST: unknown flags 2");
    ask1(&r, FRAME_LIST, "");
    put_text(&r.script, "");
    put_text(&r.script, "1234567");
    expect_error(&r, "LIST: limit and flags take 8 bytes, not 7");
    run(&r);
    // Too many wait already; the disk fails.
    fake_commit_fail(r.commit, ERR_AGAIN);
    ask_list(&r, "", "", 1, 0);
    expect_error(&r, "LIST: too many requests wait for the disk; try again");
    run(&r);
    fake_commit_fetch_result(r.commit, ERR_IO);
    ask_list(&r, "", "", 1, 0);
    expect_error(&r, "reading failed");
    run(&r);
    assert_int_equal(r.conn->holds, 0);
    leave(&r);
}

// A page of large values ends early, but never empty.
static void long_listing(void **state)
{
    struct room r;
    enter(&r);
    char *value = calloc(1, 600000);
    for (int i = 0; i < 5; i++) {
        char key[8];
        (void)snprintf(key, sizeof key, "k%d", i);
        fake_commit_set(r.commit, slice_str(key), VALUE_BYTES, slice_of(value, 600000), 7);
    }
    ask_list(&r, "", "", 10, 1);
    feed(&r);
    assert_int_equal(load32(buf_head(&r.conn->out) + 5), 2);
    free(value);
    leave(&r);
}

static void ping_and_stat(void **state)
{
    struct room r;
    enter(&r);
    ask1(&r, FRAME_PING, "hello");
    put32(&r.expect, 6);
    put8(&r.expect, 0);
    put(&r.expect, "hello", 5);
    ask1(&r, FRAME_PING, "");
    put32(&r.expect, 1);
    put8(&r.expect, 0);
    put16(&r.script, FRAME_STAT);
    put32(&r.expect, 6);
    put8(&r.expect, 0);
    put(&r.expect, "up 1\n", 5);
    run(&r);
    leave(&r);
}

// Some of everything, several batches long.
static void write_script(struct room *r)
{
    int64_t one = 1;
    struct op ops[] = {{TXN_PUT, VALUE_ARRAY, 2, "arr", "[1, 2]", 6, 0, 1000},
                       {TXN_ADD, 0, 0, "n", &one, 8, 0, 0}};
    ask_txn(r, ops, 2, "idem");
    for (int i = 0; i < 300; i++) {
        char key[8];
        (void)snprintf(key, sizeof key, "k%d", i % 20);
        ask_set(r, key, i % 3 ? "value" : "");
        ask1(r, i % 2 ? FRAME_GET : FRAME_VGET, key);
        if (i % 7 == 0)
            ask1(r, FRAME_DELETE, key);
        if (i % 50 == 0)
            ask_txn(r, ops, 2, i % 100 ? "" : "idem");
        if (i % 90 == 0)
            ask_list(r, "k", "", 3, 1);
    }
    put16(&r->script, FRAME_STAT);
    ask1(r, FRAME_PING, "end");
    ask1(r, FRAME_GET, "arr");
}

static void make_cold(struct room *r)
{
    fake_commit_cold(r->commit, "k3");
    fake_commit_cold(r->commit, "k4");
    fake_commit_cold(r->commit, "n");
}

static void every_split(void **state)
{
    struct room r;
    enter(&r);
    write_script(&r);
    size_t n = buf_len(&r.script);
    uint8_t *script = malloc(n);
    memcpy(script, buf_head(&r.script), n);
    make_cold(&r);
    feed(&r);
    size_t want_n = buf_len(&r.conn->out);
    uint8_t *want = malloc(want_n);
    memcpy(want, buf_head(&r.conn->out), want_n);
    assert_false(r.conn->closed);
    leave(&r);
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    for (size_t split = 0; split <= n + 20; split++) {
        enter(&r);
        make_cold(&r);
        if (split == n + 20) { // byte by byte
            for (size_t i = 0; i < n; i++)
                fake_conn_feed(r.conn, script + i, 1);
        } else if (split > n) { // many pieces
            for (size_t at = 0, len; at < n; at += len) {
                len = (size_t)rand() % 2000;
                len = len < n - at ? len : n - at;
                fake_conn_feed(r.conn, script + at, len);
            }
        } else {
            fake_conn_feed(r.conn, script, split);
            fake_conn_feed(r.conn, script + split, n - split);
        }
        put(&r.expect, want, want_n);
        check(&r);
        assert_int_equal(buf_len(&r.conn->in), 0);
        leave(&r);
    }
    free(script);
    free(want);
}

static void hostile_lengths(void **state)
{
    // For each argument of each type: the limit, what is before the length.
    struct {
        uint16_t type;
        const char *before;
        size_t before_n;
        uint32_t limit;
        const char *text;
    } cases[] = {
        {FRAME_GET, "", 0, MAX_KEY, "GET: key of 101 bytes is over the limit of 100"},
        {FRAME_DELETE, "", 0, MAX_KEY, "DELETE: key of 101 bytes is over the limit of 100"},
        {FRAME_SET, "", 0, MAX_KEY, "SET: key of 101 bytes is over the limit of 100"},
        {FRAME_SET, "\1\0\0\0k", 5, MAX_VALUE,
         "SET: value of 3000001 bytes is over the limit of 3000000"},
        {FRAME_VGET, "", 0, MAX_KEY, "VGET: key of 101 bytes is over the limit of 100"},
        {FRAME_TXN, "", 0, MAX_REQUEST,
         "TXN: operations of 4000001 bytes is over the limit of 4000000"},
        {FRAME_TXN, "\0\0\0\0", 4, LIMIT_IDEMPOTENCY_KEY,
         "TXN: idempotency key of 129 bytes is over the limit of 128"},
        {FRAME_LIST, "", 0, MAX_KEY, "LIST: prefix of 101 bytes is over the limit of 100"},
        {FRAME_LIST, "\0\0\0\0", 4, MAX_KEY, "LIST: after of 101 bytes is over the limit of 100"},
        {FRAME_LIST, "\0\0\0\0\0\0\0\0", 8, 8, "LIST: page of 9 bytes is over the limit of 8"},
        {FRAME_PING, "", 0, MAX_REQUEST - 6,
         "PING: request of 4000001 bytes is over the limit of 4000000"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t lengths[] = {cases[i].limit + 1, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
        for (size_t j = 0; j < sizeof lengths / sizeof *lengths; j++) {
            struct room r;
            enter(&r);
            ask_set(&r, "before", "1");
            put16(&r.script, cases[i].type);
            put(&r.script, cases[i].before, cases[i].before_n);
            feed(&r);
            assert_false(r.conn->closed);
            fake_conn_take(r.conn);
            put32(&r.script, lengths[j]); // refused as soon as it is seen
            feed(&r);
            check_refused(&r, j == 0 ? cases[i].text : NULL);
            assert_int_equal(fake_commit_seq(r.commit), 1);
            leave(&r);
        }
    }
}

// Every request, however cut, is executed or refused before the input buffer is full.
static void request_limit(void **state)
{
    for (size_t key = 0; key <= 64; key++) {
        struct commit *commit = fake_commit_new();
        struct binary_options o = {
            .commit = commit, .max_key = 1000, .max_value = 1000, .max_request = 64};
        struct binary *b;
        assert_ok(binary_new(&b, &o));
        for (size_t value = 0; value <= 64; value++) {
            struct conn *c = fake_conn_new(binary_protocol(b));
            uint8_t text[2 + 4 + 64 + 4 + 64] = {FRAME_SET, 0};
            size_t n = 10 + key + value;
            memset(text + 2, 'x', sizeof text - 2);
            store32(text + 2, (uint32_t)key);
            store32(text + 6 + key, (uint32_t)value);
            for (size_t i = 0; i < n && !c->closed; i++) {
                assert_true(buf_len(&c->in) < c->in.max);
                fake_conn_feed(c, text + i, 1);
            }
            assert_int_equal(c->closed, n > 64 || key == 0);
            fake_conn_free(c);
        }
        binary_free(b);
        fake_commit_free(commit);
    }
}

static void unknown_types(void **state)
{
    for (unsigned type = 0; type < 65536; type += type < 64 ? 1 : 97) {
        if ((type >= 1 && type <= 3) || (type >= 16 && type <= 44))
            continue;
        struct room r;
        enter(&r);
        put16(&r.script, (uint16_t)type);
        feed(&r);
        char text[64];
        (void)snprintf(text, sizeof text, "unknown request type %u", type);
        check_refused(&r, text);
        leave(&r);
    }
    const char *http[] = {"GET / HTTP/1.1\r\n", "POST /",   "PUT /", "HEAD /",
                          "DELETE /",           "OPTIONS *"};
    for (int i = 0; i < 6; i++) {
        struct room r;
        enter(&r);
        put(&r.script, http[i], strlen(http[i]));
        feed(&r);
        check_refused(&r, NULL);
        leave(&r);
    }
}

// What was complete before is answered first.
static void refused_in_its_place(void **state)
{
    struct room r;
    enter(&r);
    ask_set(&r, "k", "v");
    ask1(&r, FRAME_GET, "k");
    put16(&r.script, 99);
    ask1(&r, FRAME_DELETE, "k");
    feed(&r);
    put_text(&r.expect, "");
    put_text(&r.expect, "v");
    put_text(&r.expect, "unknown request type 99");
    check(&r);
    assert_true(r.conn->closed && !r.conn->dropped);
    assert_int_equal(fake_commit_seq(r.commit), 1);
    leave(&r);
    // An error that has no place in a reply of types 1 to 3.
    enter(&r);
    ask1(&r, FRAME_GET, "");
    feed(&r);
    check_refused(&r, "GET: the key is empty");
    leave(&r);
    enter(&r);
    fake_commit_fail(r.commit, ERR_NO_SPACE);
    ask_set(&r, "k", "v");
    ask_set(&r, "l", "v");
    feed(&r);
    check_refused(&r, err_text(ERR_NO_SPACE));
    assert_int_equal(fake_commit_seq(r.commit), 0);
    leave(&r);
    // Where it has one, the connection goes on.
    enter(&r);
    fake_commit_fail(r.commit, ERR_NO_SPACE);
    struct op op = {TXN_PUT, VALUE_BYTES, 0, "k", "v", 1, 0, 0};
    ask_txn(&r, &op, 1, "");
    ask_txn(&r, &op, 1, "");
    expect_error(&r, err_text(ERR_NO_SPACE));
    expect_txn(&r, 1, (uint64_t[]){1}, (int64_t[]){0}, 1);
    run(&r);
    leave(&r);
}

static void cold_keys(void **state)
{
    struct room r;
    enter(&r);
    struct op op = {TXN_PUT, VALUE_BYTES, 0, "t", "v", 1, 0, 0};
    const char *keys[] = {"a", "b", "c"};
    fake_commit_defer(r.commit, true);
    for (int i = 0; i < 3; i++) {
        fake_commit_set(r.commit, slice_str(keys[i]), VALUE_BYTES, slice_str(keys[i]), 1);
        fake_commit_cold(r.commit, keys[i]);
    }
    ask1(&r, FRAME_PING, "");
    put32(&r.expect, 1);
    put8(&r.expect, 0);
    ask1(&r, FRAME_GET, "a");
    ask_set(&r, "b", "B");
    ask1(&r, FRAME_DELETE, "c");
    feed(&r);
    check(&r); // the ping; the rest waits
    assert_true(r.conn->waiting && r.conn->holds == 1);
    fake_commit_work(r.commit); // one fetch brings all three
    fake_conn_run(r.conn);
    for (int i = 0; i < 3; i++)
        put_text(&r.expect, keys[i]);
    check(&r);
    assert_true(!r.conn->waiting && r.conn->holds == 0);
    fake_commit_defer(r.commit, false);
    fake_commit_cold(r.commit, "t");
    ask_txn(&r, &op, 1, "");
    expect_txn(&r, fake_commit_seq(r.commit) + 1, (uint64_t[]){2}, (int64_t[]){0}, 1);
    run(&r);
    // Memory is full until a checkpoint.
    fake_commit_fail(r.commit, ERR_FULL);
    ask_set(&r, "b", "2");
    put_text(&r.expect, "B");
    run(&r);
    fake_commit_fail(r.commit, ERR_FULL);
    ask_txn(&r, &op, 1, "");
    expect_txn(&r, fake_commit_seq(r.commit) + 1, (uint64_t[]){3}, (int64_t[]){0}, 1);
    run(&r);
    leave(&r);
}

static void cold_read_fails(void **state)
{
    struct room r;
    enter(&r);
    fake_commit_set(r.commit, slice_str("a"), VALUE_BYTES, slice_str("v"), 1);
    fake_commit_cold(r.commit, "a");
    fake_commit_fetch_result(r.commit, ERR_IO);
    ask1(&r, FRAME_VGET, "a");
    expect_error(&r, err_text(ERR_IO));
    run(&r);
    fake_commit_cold(r.commit, "a");
    ask1(&r, FRAME_GET, "a");
    ask1(&r, FRAME_GET, "a");
    feed(&r);
    check_refused(&r, err_text(ERR_IO));
    leave(&r);
}

// The connection goes while its listing is under way.
static void gone_while_listing(void **state)
{
    struct room r;
    enter(&r);
    fake_commit_defer(r.commit, true);
    ask_list(&r, "", "", 10, 0);
    feed(&r);
    assert_true(r.conn->waiting && r.conn->holds == 1);
    r.conn->closed = true;
    fake_commit_work(r.commit);
    leave(&r); // on_close frees the job
}

// Execution stops while LIMIT_OUT_STOP bytes of replies wait.
static void unread_replies(void **state)
{
    struct room r;
    enter(&r);
    char *value = calloc(1, MAX_VALUE);
    fake_commit_set(r.commit, slice_str("big"), VALUE_BYTES, slice_of(value, 400000), 1);
    for (int i = 0; i < 1000; i++)
        ask1(&r, FRAME_GET, "big");
    feed(&r);
    size_t replies = 0;
    while (buf_len(&r.conn->out)) {
        assert_true(buf_len(&r.conn->out) < LIMIT_OUT_STOP + 400004);
        replies += buf_len(&r.conn->out) / 400004;
        fake_conn_take(r.conn);
        fake_conn_run(r.conn);
    }
    assert_int_equal(replies, 1000);
    assert_int_equal(buf_len(&r.conn->in), 0);
    free(value);
    leave(&r);
}

// Whole replies come out, or the connection ends with one; whatever the bytes are.
static void arbitrary_bytes(void **state)
{
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    for (int round = 0; round < 3000; round++) {
        struct room r;
        enter(&r);
        if (round % 4 == 0) {
            for (int i = 0; i < 200; i++)
                put8(&r.script, (uint8_t)(rand() % 3 ? rand() % 24 : rand()));
        } else { // a valid script with a few bytes changed
            write_script(&r);
            for (int i = 0; i < round % 9; i++) {
                size_t at = (size_t)rand() % buf_len(&r.script);
                buf_head(&r.script)[at] = (uint8_t)(rand() % 2 ? rand() : rand() % 4);
            }
        }
        while (buf_len(&r.script) && !r.conn->closed) {
            size_t n = (size_t)rand() % 4096 + 1;
            n = n < buf_len(&r.script) ? n : buf_len(&r.script);
            fake_conn_feed(r.conn, buf_head(&r.script), n);
            buf_consume(&r.script, n);
            assert_true(r.conn->closed || buf_len(&r.conn->in) < r.conn->in.max);
        }
        assert_int_equal(r.conn->holds, 0);
        struct slice out = buf_slice(&r.conn->out);
        while (out.n) {
            assert_true(out.n >= 4 && out.n - 4 >= load32(out.p));
            size_t n = 4 + load32(out.p);
            out = slice_of(out.p + n, out.n - n);
        }
        leave(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_one_to_three),
        cmocka_unit_test(other_types_as_text),
        cmocka_unit_test(vget),
        cmocka_unit_test(transactions),
        cmocka_unit_test(bad_transactions),
        cmocka_unit_test(listings),
        cmocka_unit_test(long_listing),
        cmocka_unit_test(ping_and_stat),
        cmocka_unit_test(every_split),
        cmocka_unit_test(hostile_lengths),
        cmocka_unit_test(request_limit),
        cmocka_unit_test(unknown_types),
        cmocka_unit_test(refused_in_its_place),
        cmocka_unit_test(cold_keys),
        cmocka_unit_test(cold_read_fails),
        cmocka_unit_test(gone_while_listing),
        cmocka_unit_test(unread_replies),
        cmocka_unit_test(arbitrary_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
