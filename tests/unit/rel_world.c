#include "rel_world.h"

void enter(struct room *r)
{
    r->commit = fake_commit_new();
    fake_commit_apart(r->commit);
    struct binary_options o = {
        .commit = r->commit, .max_key = 100, .max_value = 1000, .max_request = 20000000};
    assert_ok(binary_new(&r->binary, &o));
    r->conn = fake_conn_new(binary_protocol(r->binary));
    buf_init(&r->script, 1 << 25);
    buf_init(&r->expect, 1 << 25);
}

void leave(struct room *r)
{
    fake_conn_free(r->conn);
    binary_free(r->binary);
    fake_commit_free(r->commit);
    buf_release(&r->script);
    buf_release(&r->expect);
}

void put(struct buf *b, const void *p, size_t n)
{
    assert_ok(buf_append(b, p, n));
}

void put8(struct buf *b, uint8_t v)
{
    put(b, &v, 1);
}

void put32(struct buf *b, uint32_t v)
{
    put(b, &v, 4);
}

void put64(struct buf *b, uint64_t v)
{
    put(b, &v, 8);
}

void put_arg(struct buf *b, const void *p, size_t n)
{
    put32(b, (uint32_t)n);
    put(b, p, n);
}

void ask(struct room *r, uint16_t type, const char *relation)
{
    put(&r->script, &type, 2);
    put_arg(&r->script, relation, strlen(relation));
}

void ask_from(struct room *r, uint16_t type, const char *relation, uint64_t from)
{
    ask(r, type, relation);
    put_arg(&r->script, &from, 8);
}

void ask_change(struct room *r, uint16_t type, const char *relation, uint64_t from, struct ids m,
                uint32_t flags)
{
    ask_from(r, type, relation, from);
    put_arg(&r->script, m.p, m.n);
    put_arg(&r->script, &flags, 4);
}

void ask_add(struct room *r, const char *relation, uint64_t from, struct ids m)
{
    ask_change(r, FRAME_REL_ADD, relation, from, m, 0);
}

void ask_count(struct room *r, const char *relation, uint64_t from, uint32_t flags)
{
    ask_from(r, FRAME_REL_COUNT, relation, from);
    put_arg(&r->script, &flags, 4);
}

void put_page(struct buf *b, uint8_t order, uint8_t flags, uint32_t limit, uint64_t after)
{
    put32(b, 24);
    put8(b, order);
    put8(b, flags);
    put(b, "\0", 2);
    put32(b, limit);
    put64(b, after);
    put64(b, 0);
}

void ask_page(struct room *r, const char *relation, uint64_t from, uint8_t order, uint8_t flags,
              uint32_t limit, uint64_t after)
{
    ask_from(r, FRAME_REL_PAGE, relation, from);
    put_page(&r->script, order, flags, limit, after);
}

void ask_create(struct room *r, const char *relation, uint32_t options)
{
    ask(r, FRAME_REL_CREATE, relation);
    put_arg(&r->script, &options, 4);
}

void ask_many(struct room *r, const char *relation, struct ids froms, uint32_t limit,
              uint32_t flags)
{
    ask(r, FRAME_REL_MANY, relation);
    put_arg(&r->script, froms.p, froms.n);
    put32(&r->script, 8);
    put32(&r->script, limit);
    put32(&r->script, flags);
}

void ask_ping(struct room *r)
{
    ask(r, FRAME_PING, "x");
}

void ask_edit(struct room *r, const char *relation, const struct group *groups, size_t count,
              uint32_t flags, const char *idempotency)
{
    struct buf b;
    buf_init(&b, 1 << 25);
    for (size_t i = 0; i < count; i++) {
        put64(&b, groups[i].from);
        put32(&b, (uint32_t)groups[i].members.n / 8);
        put32(&b, groups[i].remove);
        put(&b, groups[i].members.p, groups[i].members.n);
    }
    ask(r, FRAME_REL_EDIT, relation);
    put_arg(&r->script, buf_head(&b), buf_len(&b));
    put_arg(&r->script, &flags, 4);
    put_arg(&r->script, idempotency, strlen(idempotency));
    buf_release(&b);
}

void ask_combine(struct room *r, uint8_t how, const struct list *lists, size_t count, uint8_t flags,
                 uint32_t limit, uint64_t after)
{
    struct buf b;
    uint16_t type = FRAME_REL_COMBINE;
    buf_init(&b, 1 << 16);
    for (size_t i = 0; i < count; i++) {
        put64(&b, lists[i].from);
        put8(&b, lists[i].flags);
        put8(&b, (uint8_t)strlen(lists[i].relation));
        put(&b, lists[i].relation, strlen(lists[i].relation));
    }
    put(&r->script, &type, 2);
    put_arg(&r->script, buf_head(&b), buf_len(&b));
    put_page(&r->script, how, flags, limit, after);
    buf_release(&b);
}

void raw(struct room *r, uint16_t type, unsigned args, ...)
{
    va_list ap;
    va_start(ap, args);
    put(&r->script, &type, 2);
    for (unsigned i = 0; i < args; i++) {
        const char *p = va_arg(ap, const char *);
        put_arg(&r->script, p, va_arg(ap, size_t));
    }
    va_end(ap);
}

void expect_status(struct room *r, uint8_t status, size_t more)
{
    put32(&r->expect, 1 + (uint32_t)more);
    put8(&r->expect, status);
}

void expect32(struct room *r, uint32_t n)
{
    expect_status(r, 0, 4);
    put32(&r->expect, n);
}

void expect64(struct room *r, uint64_t n)
{
    expect_status(r, 0, 8);
    put64(&r->expect, n);
}

void expect_ids(struct room *r, struct ids m)
{
    expect_status(r, 0, m.n);
    put(&r->expect, m.p, m.n);
}

void expect_page(struct room *r, uint64_t total, bool more, uint64_t next, struct ids m)
{
    expect_status(r, 0, 24 + m.n);
    put64(&r->expect, total);
    put64(&r->expect, next);
    put64(&r->expect, more);
    put(&r->expect, m.p, m.n);
}

void expect_combined(struct room *r, bool more, uint64_t next, struct ids m)
{
    expect_status(r, 0, 16 + m.n);
    put64(&r->expect, next);
    put64(&r->expect, more);
    put(&r->expect, m.p, m.n);
}

void expect_error(struct room *r, const char *text)
{
    expect_status(r, 3, strlen(text));
    put(&r->expect, text, strlen(text));
}

void expect_ping(struct room *r)
{
    expect_status(r, 0, 1);
    put8(&r->expect, 'x');
}

void check(struct room *r)
{
    struct buf *out = &r->conn->out;
    assert_int_equal(buf_len(out), buf_len(&r->expect));
    if (buf_len(out))
        assert_memory_equal(buf_head(out), buf_head(&r->expect), buf_len(out));
    fake_conn_take(r->conn);
    buf_clear(&r->expect);
}

void feed(struct room *r)
{
    r->conn->gates = 0;
    r->conn->gate = 0;
    fake_conn_feed(r->conn, buf_head(&r->script), buf_len(&r->script));
    buf_clear(&r->script);
}

void run(struct room *r)
{
    feed(r);
    check(r);
    assert_false(r->conn->closed || r->conn->waiting || r->conn->holds);
    assert_int_equal(buf_len(&r->conn->in), 0);
}

void work(struct room *r)
{
    fake_commit_work(r->commit);
    fake_conn_run(r->conn);
}
