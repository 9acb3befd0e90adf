// Logs over the binary edge, over a fake connection and a fake commit room.
#include "unit.h"

#include "base/limits.h"
#include "edge/binary/binary.h"
#include "edge/binary/frame.h"
#include "fake_commit.h"
#include "fake_conn.h"
#include "fake_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { FORWARDS, BACKWARDS };
enum { FIRST, OFFSET, TIME, NONCE, END }; // starts
enum { TRUNCATED = 1, MORE = 2, ENDED = 4 };

struct room {
    struct commit *commit;
    struct binary *binary;
    struct conn *conn;
    struct buf script; // requests
};

static void enter(struct room *r)
{
    r->commit = fake_commit_new();
    struct binary_options o = {
        .commit = r->commit, .max_key = 100, .max_value = 1000, .max_request = 4000000};
    assert_ok(binary_new(&r->binary, &o));
    r->conn = fake_conn_new(binary_protocol(r->binary));
    buf_init(&r->script, 1 << 24);
}

static void leave(struct room *r)
{
    fake_conn_free(r->conn);
    binary_free(r->binary);
    fake_commit_free(r->commit);
    buf_release(&r->script);
}

// ---- requests

static void put(struct buf *b, const void *p, size_t n)
{
    assert_ok(buf_append(b, p, n));
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

// A request that begins with `count` texts.
static void ask(struct room *r, uint16_t type, unsigned count, const char *const *texts)
{
    put(&r->script, &type, 2);
    for (unsigned i = 0; i < count; i++)
        put_arg(&r->script, texts[i], strlen(texts[i]));
}
#define ASK(r, type, ...)                                                      \
    ask(r, type, sizeof((const char *[]){__VA_ARGS__}) / sizeof(const char *), \
        (const char *[]){__VA_ARGS__})

static void put_record(struct buf *b, const char *text, u128 nonce, int64_t timestamp)
{
    put(b, &nonce, 16);
    put64(b, (uint64_t)timestamp);
    put_arg(b, text, strlen(text));
}

static void ask_append(struct room *r, const char *key, const char *text, u128 nonce)
{
    ASK(r, FRAME_LOG_APPEND, "ks", key);
    put32(&r->script, 28 + (uint32_t)strlen(text));
    put_record(&r->script, text, nonce, INT64_MIN);
}

static void put_start(struct buf *b, int direction, int start, int filter, int follow,
                      uint32_t size, uint64_t value)
{
    uint8_t bytes[32] = {(uint8_t)direction, (uint8_t)start, (uint8_t)filter, (uint8_t)follow};
    store32(bytes + 4, size);
    store64(bytes + 16, value);
    put_arg(b, bytes, sizeof bytes);
}

static void ask_read(struct room *r, int direction, uint32_t size, const char *contains)
{
    ASK(r, FRAME_LOG_READ, "ks", "k");
    put_start(&r->script, direction, FIRST, *contains ? 2 : 0, 0, size, 0);
    put32(&r->script, 0);
    put_arg(&r->script, contains, strlen(contains));
}

static void ask_tail(struct room *r, int start, uint64_t value, int follow, uint32_t size)
{
    ASK(r, FRAME_LOG_TAIL, "ks", "k");
    put_start(&r->script, FORWARDS, start, 0, follow, size, value);
    put32(&r->script, 0);
}

static void feed(struct room *r)
{
    fake_conn_feed(r->conn, buf_head(&r->script), buf_len(&r->script));
    buf_clear(&r->script);
}

// ---- replies

// The next reply, which it takes.
static struct slice reply(struct room *r)
{
    struct buf *out = &r->conn->out;
    assert_true(buf_len(out) >= 5);
    uint32_t n = load32(buf_head(out));
    assert_true(buf_len(out) >= 4 + n);
    struct slice s = slice_of(buf_head(out) + 4, n);
    r->conn->taken += 4 + n;
    buf_consume(out, 4 + n);
    return s;
}

static void expect_ok(struct room *r)
{
    assert_int_equal(reply(r).p[0], 0);
}

static void expect_error(struct room *r, const char *text)
{
    struct slice s = reply(r);
    assert_int_equal(s.p[0], 3);
    assert_int_equal(s.n - 1, strlen(text));
    assert_memory_equal(s.p + 1, text, s.n - 1);
}

// A page whose records' texts, with a blank after each, are `texts`.
static void expect_page(struct room *r, const char *texts, unsigned flags, uint64_t next)
{
    struct slice s = reply(r);
    char got[1000];
    size_t n = 0;
    assert_int_equal(s.p[0], 0);
    assert_int_equal(load64(s.p + 17), next);
    assert_int_equal(s.p[29], flags);
    unsigned count = load32(s.p + 25);
    const uint8_t *p = s.p + 34 + load32(s.p + 30);
    for (; p < s.p + s.n; count--) {
        struct record record = record_read(p);
        n += (size_t)snprintf(got + n, sizeof got - n, "%.*s ", (int)record.bytes.n,
                              (const char *)record.bytes.p);
        p += record_size(record.bytes.n);
    }
    got[n] = 0;
    assert_string_equal(got, texts);
    assert_true(p == s.p + s.n && count == 0);
}

static void expect_nothing(struct room *r)
{
    assert_int_equal(buf_len(&r->conn->out), 0);
}

// ---- setting up

static void make(struct room *r, const char *const *texts)
{
    ASK(r, FRAME_LOG_CREATE, "ks", "");
    for (u128 i = 0; texts[i]; i++)
        ask_append(r, "k", texts[i], i);
    feed(r);
    fake_conn_take(r->conn);
}

// As another connection would.
static void append_elsewhere(struct room *r, const char *text)
{
    struct log_input in = {.bytes = slice_str(text), .nonce = NONCE_NONE};
    struct log_append a = {.name = {slice_str("ks"), slice_str("k")}, .records = &in, .count = 1};
    struct txn_op op = {.kind = TXN_APPEND, .append = &a};
    struct txn t = {.ops = &op, .count = 1};
    uint64_t dep;
    struct errmsg msg;
    assert_ok(commit_txn(r->commit, &t, &dep, &msg));
}

// ---- tests

static const char *const abc[] = {"a", "b", "c", NULL};

static void pages(void **state)
{
    struct room r;
    enter(&r);
    make(&r, abc);
    assert_int_equal(r.conn->gate, fake_commit_seq(r.commit));
    ask_read(&r, FORWARDS, 0, "");
    ask_read(&r, BACKWARDS, 0, "");
    ask_read(&r, FORWARDS, 0, "b");
    ask_read(&r, FORWARDS, 2, "");
    ask_append(&r, "k", "d", 3);
    ask_append(&r, "k", "dropped", 3);
    ask_read(&r, FORWARDS, 0, "");
    feed(&r);
    expect_page(&r, "a b c ", 0, 4);
    expect_page(&r, "c b a ", 0, 0);
    expect_page(&r, "b ", 0, 4);
    expect_page(&r, "a b ", MORE, 3);
    expect_ok(&r);
    expect_ok(&r);
    expect_page(&r, "a b c d ", 0, 5);
    expect_nothing(&r);
    leave(&r);
}

static void cold_and_full(void **state)
{
    struct room r;
    enter(&r);
    make(&r, abc);
    fake_commit_defer(r.commit, true);
    fake_log_cold(r.commit, "ks", "k");
    ask_read(&r, FORWARDS, 0, "");
    ASK(&r, FRAME_PING, "x");
    feed(&r);
    assert_true(r.conn->waiting && r.conn->holds == 1);
    expect_nothing(&r);
    fake_commit_work(r.commit);
    fake_conn_run(r.conn);
    expect_page(&r, "a b c ", 0, 4);
    expect_ok(&r);
    fake_log_cold(r.commit, "ks", "k");
    ask_append(&r, "k", "d", NONCE_NONE);
    feed(&r);
    assert_true(r.conn->waiting);
    fake_commit_work(r.commit);
    fake_conn_run(r.conn);
    expect_ok(&r);
    fake_commit_defer(r.commit, false);
    fake_commit_fail(r.commit, ERR_FULL);
    ask_append(&r, "k", "e", NONCE_NONE);
    feed(&r);
    expect_ok(&r);
    fake_commit_fail(r.commit, ERR_FULL);
    ASK(&r, FRAME_LOG_CREATE, "more", "");
    feed(&r);
    expect_ok(&r);
    // What waits for the disk is refused when too much does; the connection goes on.
    fake_commit_fail(r.commit, ERR_AGAIN);
    ASK(&r, FRAME_LOG_LIST, "", "");
    put_arg(&r.script, "\1\0\0\0\0\0\0\0", 8);
    ASK(&r, FRAME_PING, "x");
    feed(&r);
    expect_error(&r, "LOG_LIST: too many requests wait for the disk; try again");
    expect_ok(&r);
    assert_int_equal(r.conn->holds, 0);
    leave(&r);
}

static void tail_follows(void **state)
{
    struct room r;
    enter(&r);
    make(&r, abc);
    ask_tail(&r, OFFSET, 2, 1, 1);
    feed(&r);
    while (r.conn->resumes)
        fake_conn_run(r.conn);
    expect_page(&r, "b ", MORE, 3);
    expect_page(&r, "c ", 0, 4);
    expect_nothing(&r);
    assert_true(!r.conn->waiting && fake_log_watches(r.commit) == 1 && r.conn->holds == 1);
    assert_int_equal(r.conn->deadline, 10000);
    fake_conn_deadline(r.conn);
    expect_page(&r, "", 0, 4);
    assert_int_equal(r.conn->deadline, 10000);
    append_elsewhere(&r, "d");
    fake_conn_run(r.conn);
    expect_page(&r, "d ", 0, 5);
    assert_int_equal(fake_log_watches(r.commit), 1);
    ASK(&r, FRAME_PING, "x"); // the first byte ends the tail
    fake_conn_feed(r.conn, buf_head(&r.script), 1);
    expect_page(&r, "", ENDED, 5);
    assert_true(fake_log_watches(r.commit) == 0 && r.conn->holds == 0 && !r.conn->deadline);
    fake_conn_feed(r.conn, buf_head(&r.script) + 1, buf_len(&r.script) - 1);
    expect_ok(&r);
    expect_nothing(&r);
    leave(&r);
}

// What is sent together with a tail ends it after a page; the end of input does too.
static void tail_and_more(void **state)
{
    struct room r;
    enter(&r);
    make(&r, abc);
    ask_tail(&r, FIRST, 0, 1, 0);
    ask_tail(&r, TIME, 9000, 0, 0); // no record has reached that time
    ask_tail(&r, END, 0, 0, 0);
    ASK(&r, FRAME_LOG_TAIL, "none", "k");
    put_start(&r.script, FORWARDS, FIRST, 0, 1, 0, 0);
    put32(&r.script, 0);
    ask_tail(&r, NONCE, 2, 1, 0);
    feed(&r);
    expect_page(&r, "a b c ", 0, 4);
    expect_page(&r, "", ENDED, 4);
    expect_page(&r, "", ENDED, 4);
    expect_page(&r, "", ENDED, 4);
    expect_error(&r, "no such keyspace");
    expect_page(&r, "c ", 0, 4);
    expect_nothing(&r);
    fake_conn_eof(r.conn);
    expect_page(&r, "", ENDED, 4);
    leave(&r);
}

// Input comes after the tail's watch has been woken and before the resume is delivered: the resume
// must not end the wait of the request that the input holds.
static void resume_on_its_way(void **state)
{
    struct room r;
    enter(&r);
    make(&r, abc);
    ask_tail(&r, END, 0, 1, 0);
    feed(&r);
    fake_commit_defer(r.commit, true);
    append_elsewhere(&r, "d");
    assert_int_equal(r.conn->resumes, 1);
    ASK(&r, FRAME_LOG_LIST, "ks", "");
    put_arg(&r.script, "\1\0\0\0\0\0\0\0", 8);
    put(&r.conn->in, buf_head(&r.script), buf_len(&r.script));
    assert_int_equal(r.conn->protocol->on_input(r.conn), CONN_WAIT);
    r.conn->waiting = true;
    expect_nothing(&r);
    fake_conn_run(r.conn); // delivers it: the tail has given a page before, and ends
    expect_page(&r, "", ENDED, 4);
    expect_nothing(&r);
    assert_true(r.conn->waiting && r.conn->holds == 1 && r.conn->resumes == 0);
    fake_commit_work(r.commit);
    fake_conn_run(r.conn);
    expect_ok(&r);
    expect_nothing(&r);
    leave(&r);
}

static void tail_dies(void **state)
{
    struct room r;
    enter(&r);
    make(&r, abc);
    ask_tail(&r, END, 0, 1, 0);
    feed(&r);
    assert_int_equal(fake_log_watches(r.commit), 1);
    leave(&r); // while it watches
    enter(&r);
    make(&r, abc);
    ask_tail(&r, END, 0, 1, 0);
    feed(&r);
    append_elsewhere(&r, "d");
    leave(&r); // with a resume on its way
    enter(&r);
    make(&r, abc);
    fake_commit_defer(r.commit, true);
    fake_log_cold(r.commit, "ks", "k");
    ask_tail(&r, FIRST, 0, 1, 0);
    feed(&r);
    assert_true(r.conn->waiting);
    r.conn->closed = true;
    fake_commit_work(r.commit);
    leave(&r); // with a page read for nobody
}

static void tail_cold(void **state)
{
    struct room r;
    enter(&r);
    make(&r, abc);
    fake_commit_defer(r.commit, true);
    fake_log_cold(r.commit, "ks", "k");
    ask_tail(&r, TIME, 0, 0, 0);
    feed(&r);
    for (int i = 0; i < 3; i++) {
        fake_commit_work(r.commit);
        fake_conn_run(r.conn);
    }
    expect_page(&r, "a b c ", 0, 4);
    expect_page(&r, "", ENDED, 4);
    fake_log_cold(r.commit, "ks", "k");
    fake_commit_fail(r.commit, ERR_AGAIN);
    ask_tail(&r, FIRST, 0, 1, 0);
    ASK(&r, FRAME_PING, "x");
    feed(&r);
    expect_error(&r, "LOG_TAIL: too many requests wait for the disk; try again");
    expect_ok(&r);
    leave(&r);
}

// Retention overtakes a reader; the client takes nothing for a while.
static void tail_unread(void **state)
{
    struct room r;
    char text[40001];
    memset(text, 'x', 40000);
    text[40000] = 0;
    enter(&r);
    ASK(&r, FRAME_LOG_CREATE, "ks", "");
    feed(&r);
    for (int i = 0; i < 200; i++)
        append_elsewhere(&r, text);
    fake_conn_take(r.conn);
    ask_tail(&r, FIRST, 0, 1, 0);
    feed(&r);
    size_t replies = 0;
    while (buf_len(&r.conn->out)) {
        assert_true(buf_len(&r.conn->out) < LIMIT_OUT_STOP + (300u << 10));
        for (; buf_len(&r.conn->out); replies++)
            (void)reply(&r);
        fake_conn_run(r.conn);
    }
    assert_true(replies >= 200 * 40000 / (256 << 10) && fake_log_watches(r.commit) == 1);
    ASK(&r, FRAME_LOG_TRIM, "ks", "k");
    put_arg(&r.script, "\1\xc8\0\0\0\0\0\0\0", 9); // before 200
    ask_tail(&r, OFFSET, 7, 0, 0);
    feed(&r);
    expect_page(&r, "", ENDED, 201);
    expect_ok(&r);
    struct slice s = reply(&r);
    assert_true(s.p[29] == TRUNCATED && load32(s.p + 25) == 1);
    expect_page(&r, "", ENDED, 201);
    leave(&r);
}

static void ask_txn(struct room *r, const char *key, size_t key_n, const char *record)
{
    struct buf b;
    buf_init(&b, 1000);
    uint8_t head[28] = {TXN_APPEND};
    store32(head + 4, (uint32_t)key_n);
    store32(head + 8, 28 + (uint32_t)strlen(record));
    put(&b, head, sizeof head);
    put(&b, key, key_n);
    put_record(&b, record, 9, 77);
    uint16_t type = FRAME_TXN;
    put(&r->script, &type, 2);
    put_arg(&r->script, buf_head(&b), buf_len(&b));
    put_arg(&r->script, "once", 4);
    buf_release(&b);
}

static void transactions(void **state)
{
    struct room r;
    enter(&r);
    make(&r, abc);
    ask_txn(&r, "\2\0ksk", 5, "d");
    ask_txn(&r, "\2\0ksk", 5, "d"); // replayed
    ask_read(&r, BACKWARDS, 1, "");
    ask_txn(&r, "\2", 1, "d");
    ask_txn(&r, "\3\0ks", 4, "d");
    ask_txn(&r, "\2\0ks", 4, "d");
    ask_txn(&r, "\0\0k", 3, "d");
    feed(&r);
    for (int i = 0; i < 2; i++) {
        struct slice s = reply(&r);
        assert_true(s.n == 29 && s.p[0] == 0 && load64(s.p + 13) == 4 && load64(s.p + 21) == 1);
    }
    expect_page(&r, "d ", MORE, 3);
    expect_error(&r, "TXN: operation 0: the keyspace of an append is cut short");
    expect_error(&r, "TXN: operation 0: the keyspace of an append is cut short");
    expect_error(&r, "TXN: operation 0: the key is empty");
    expect_error(&r, "TXN: operation 0: the keyspace is empty");
    expect_nothing(&r);
    leave(&r);
}

static void write_script(struct room *r)
{
    static const uint8_t policy[32] = {1};
    ASK(r, FRAME_LOG_CREATE, "ks");
    put_arg(&r->script, policy, sizeof policy);
    ASK(r, FRAME_LOG_POLICY, "ks", "");
    ASK(r, FRAME_LOG_KEYSPACE, "ks");
    for (unsigned i = 0; i < 20; i++)
        ask_append(r, i % 5 ? "k" : "other", "text", i);
    ask_read(r, FORWARDS, 3, "x");
    ask_tail(r, OFFSET, 2, 1, 0);
    ASK(r, FRAME_LOG_META, "ks", "k");
    ASK(r, FRAME_LOG_TRIM, "ks", "k");
    put_arg(&r->script, "\2\x05\0\0\0\0\0\0\0", 9);
    ASK(r, FRAME_LOG_ERASE, "ks", "k");
    put_arg(&r->script, "\7\0\0\0\0\0\0\0", 8);
    ASK(r, FRAME_LOG_FLUSH, "ks", "k");
    ASK(r, FRAME_LOG_LIST, "ks", "");
    put_arg(&r->script, "\5\0\0\0\0\0\0\0", 8);
    ask_txn(r, "\2\0ksk", 5, "d");
    ask_tail(r, FIRST, 0, 0, 5);
    ask_read(r, BACKWARDS, 0, "");
    ASK(r, FRAME_LOG_READ, "none", "k");
    put_start(&r->script, 0, 0, 0, 0, 0, 0);
    put32(&r->script, 0);
    put32(&r->script, 0);
    ASK(r, FRAME_PING, "end");
}

static void every_split(void **state)
{
    struct room r, s;
    enter(&r);
    write_script(&r);
    size_t n = buf_len(&r.script);
    uint8_t *script = malloc(n);
    memcpy(script, buf_head(&r.script), n);
    feed(&r);
    for (size_t split = 0; split <= n + 1; split++) {
        enter(&s);
        fake_commit_defer(s.commit, split % 2);
        for (size_t i = 0; split > n && i < n; i++)
            fake_conn_feed(s.conn, script + i, 1);
        if (split <= n) {
            fake_conn_feed(s.conn, script, split);
            fake_conn_feed(s.conn, script + split, n - split);
        }
        do {
            fake_commit_work(s.commit);
            fake_conn_run(s.conn);
        } while (s.conn->waiting || s.conn->resumes);
        assert_true(slice_equal(buf_slice(&s.conn->out), buf_slice(&r.conn->out)));
        assert_true(buf_len(&s.conn->in) == 0 && s.conn->holds == 0);
        leave(&s);
    }
    free(script);
    leave(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages),
        cmocka_unit_test(cold_and_full),
        cmocka_unit_test(tail_follows),
        cmocka_unit_test(tail_and_more),
        cmocka_unit_test(resume_on_its_way),
        cmocka_unit_test(tail_dies),
        cmocka_unit_test(tail_cold),
        cmocka_unit_test(tail_unread),
        cmocka_unit_test(transactions),
        cmocka_unit_test(every_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
