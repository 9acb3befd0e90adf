// Relations over the binary edge, over a fake connection and a fake commit room.
#include "rel_world.h"

static void relations(void **state)
{
    struct room r;
    enter(&r);
    ask_create(&r, "b", WITH_REVERSE | WITH_RELAXED);
    expect64(&r, 1);
    ask_create(&r, "b", WITH_REVERSE | WITH_RELAXED);
    expect_status(&r, 2, 0);
    ask_create(&r, "a", WITH_RECENT);
    expect64(&r, 2);
    ask_create(&r, "c", 8);
    expect_error(&r, "REL_CREATE: unknown options 8");
    ask_create(&r, "-c", 0);
    expect_error(&r, "the relation's name is not one");
    ask_add(&r, "c", 1, IDS(5, 6));
    expect32(&r, 2);
    ask(&r, FRAME_REL_INFO, "b");
    expect_status(&r, 0, 28);
    put64(&r.expect, 1);
    put32(&r.expect, WITH_REVERSE | WITH_RELAXED);
    put(&r.expect, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    ask(&r, FRAME_REL_INFO, "c");
    expect_status(&r, 0, 28);
    put64(&r.expect, 3);
    put32(&r.expect, 0);
    put64(&r.expect, 1);
    put64(&r.expect, 2);
    ask(&r, FRAME_REL_INFO, "none");
    expect_status(&r, 1, 0);
    ask(&r, FRAME_REL_INFO, "");
    expect_error(&r, "the relation's name is not one");
    ask(&r, FRAME_REL_LIST, "a");
    put_arg(&r.script, "\x0a\0\0\0\0\0\0\0", 8);
    expect_status(&r, 0, 14);
    put32(&r.expect, 2);
    put_arg(&r.expect, "b", 1);
    put_arg(&r.expect, "c", 1);
    ask(&r, FRAME_REL_LIST, "");
    put_arg(&r.script, "\1\0\0\0\0\0\0\0", 8);
    expect_status(&r, 0, 9);
    put32(&r.expect, 1);
    put_arg(&r.expect, "a", 1);
    ask(&r, FRAME_REL_LIST, "c");
    put_arg(&r.script, "\1\0\0\0\0\0\0\0", 8);
    expect32(&r, 0);
    run(&r);
    leave(&r);
}

static void one_list(void **state)
{
    struct room r;
    enter(&r);
    // What a request does is seen by those behind it in the batch, also that it made the relation.
    ask_from(&r, FRAME_REL_GET, "f", 7);
    expect_ids(&r, nobody);
    ask_add(&r, "f", 7, IDS(3, UINT64_MAX, 1, 3));
    expect32(&r, 3);
    ask_from(&r, FRAME_REL_GET, "f", 7);
    expect_ids(&r, IDS(1, 3, UINT64_MAX));
    ask_add(&r, "f", 7, IDS(2, 3));
    expect32(&r, 1);
    ask_change(&r, FRAME_REL_REMOVE, "f", 7, IDS(1, 9), 0);
    expect32(&r, 1);
    ask_change(&r, FRAME_REL_REMOVE, "none", 7, IDS(1, 9), 0);
    expect32(&r, 0);
    ask_add(&r, "f", 7, nobody);
    expect32(&r, 0);
    ask_count(&r, "f", 7, 0);
    expect64(&r, 3);
    ask_count(&r, "f", 8, 0);
    expect64(&r, 0);
    ask_page(&r, "f", 7, RISING, 0, 2, 99);
    expect_page(&r, 3, true, 3, IDS(2, 3));
    ask_page(&r, "f", 7, RISING, PAGE_AFTER, 2, 3);
    expect_page(&r, 3, false, 0, IDS(UINT64_MAX));
    ask_page(&r, "f", 7, FALLING, PAGE_AFTER, 0, 3);
    expect_page(&r, 3, false, 0, IDS(2));
    ask_page(&r, "f", 7, NEWEST, 0, 0, 0);
    expect_error(&r, "the relation is not declared with order=recent");
    ask_page(&r, "f", 7, RISING, PAGE_REVERSE, 0, 0);
    expect_error(&r, "the relation is not declared with reverse");
    ask_page(&r, "none", 7, FALLING, 0, 1000000, 0);
    expect_page(&r, 0, false, 0, nobody);
    ask_change(&r, FRAME_REL_CONTAINS, "f", 7, IDS(3, 1, 2), 0);
    expect_status(&r, 0, 3);
    put(&r.expect, "\1\0\1", 3);
    ask_change(&r, FRAME_REL_CONTAINS, "f", 7, nobody, 0);
    expect_status(&r, 0, 0);
    run(&r);
    leave(&r);
}

static void reverse_and_recent(void **state)
{
    struct room r;
    enter(&r);
    ask_create(&r, "f", WITH_REVERSE | WITH_RECENT);
    expect64(&r, 1);
    ask_add(&r, "f", 7, IDS(5, 3, 4));
    expect32(&r, 3);
    ask_add(&r, "f", 8, IDS(3));
    expect32(&r, 1);
    ask_page(&r, "f", 7, NEWEST, 0, 2, 0);
    expect_page(&r, 3, true, 2, IDS(4, 3));
    ask_page(&r, "f", 7, NEWEST, PAGE_AFTER, 2, 2);
    expect_page(&r, 3, false, 0, IDS(5));
    ask_page(&r, "f", 3, RISING, PAGE_REVERSE, 0, 0);
    expect_page(&r, 2, false, 0, IDS(7, 8));
    ask_count(&r, "f", 3, REVERSE);
    expect64(&r, 2);
    ask_change(&r, FRAME_REL_CONTAINS, "f", 3, IDS(8, 9), REVERSE);
    expect_status(&r, 0, 2);
    put(&r.expect, "\1\0", 2);
    ask_many(&r, "f", IDS(3, 1), 0, REVERSE);
    expect_status(&r, 0, 2 * 12 + 16);
    put64(&r.expect, 2);
    put32(&r.expect, 2);
    put64(&r.expect, 7);
    put64(&r.expect, 8);
    put64(&r.expect, 0);
    put32(&r.expect, 0);
    run(&r);
    leave(&r);
}

static void edits(void **state)
{
    struct room r;
    enter(&r);
    const struct group groups[] = {{1, IDS(10, 11, 12), 0},
                                   {2, IDS(10), 0},
                                   {1, IDS(11, 13), 1},
                                   {3, nobody, 1},
                                   {1, IDS(11), 0}};
    ask_edit(&r, "f", groups, 5, 0, "once");
    ask_edit(&r, "f", groups, 5, 0, "once");
    ask_edit(&r, "f", groups, 4, 0, "once");
    ask_from(&r, FRAME_REL_GET, "f", 1);
    ask_edit(&r, "f", groups, 1, RELAXED, "");
    for (int i = 0; i < 2; i++) {
        expect_status(&r, 0, 16);
        put64(&r.expect, 5);
        put64(&r.expect, 1);
    }
    expect_error(&r, err_text(ERR_REUSED));
    expect_ids(&r, IDS(10, 11, 12));
    expect_status(&r, 0, 16);
    put(&r.expect, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    run(&r);
    leave(&r);
}

static void many_and_combined(void **state)
{
    struct room r;
    enter(&r);
    ask_add(&r, "f", 1, IDS(1, 2, 3, 4));
    ask_add(&r, "f", 2, IDS(2, 3, 9));
    ask_add(&r, "g", 1, IDS(3));
    expect32(&r, 4);
    expect32(&r, 3);
    expect32(&r, 1);
    ask_many(&r, "f", IDS(2, 5, 1, 2), 2, 0);
    expect_status(&r, 0, 4 * 12 + 6 * 8);
    for (int i = 0; i < 4; i++) {
        put64(&r.expect, i == 1 ? 0 : i == 2 ? 4 : 3);
        put32(&r.expect, i == 1 ? 0 : 2);
        put64(&r.expect, i == 2 ? 1 : 2);
        put64(&r.expect, i == 2 ? 2 : 3);
        r.expect.end -= i == 1 ? 16 : 0;
    }
    ask_many(&r, "none", IDS(1), 2, 0);
    expect_status(&r, 0, 12);
    put64(&r.expect, 0);
    put32(&r.expect, 0);
    ask_many(&r, "f", nobody, 2, 0);
    expect_status(&r, 0, 0);
    const struct list lists[] = {{"f", 1, 0}, {"f", 2, 0}, {"g", 1, 0}, {"none", 1, 0}};
    ask_combine(&r, INTERSECT, lists, 2, 0, 0, 0);
    expect_combined(&r, false, 0, IDS(2, 3));
    ask_combine(&r, INTERSECT, lists, 3, 0, 0, 0);
    expect_combined(&r, false, 0, IDS(3));
    ask_combine(&r, INTERSECT, lists, 4, 0, 0, 0);
    expect_combined(&r, false, 0, nobody);
    ask_combine(&r, UNION, lists, 4, 0, 3, 0);
    expect_combined(&r, true, 3, IDS(1, 2, 3));
    ask_combine(&r, UNION, lists, 4, PAGE_AFTER, 3, 3);
    expect_combined(&r, false, 0, IDS(4, 9));
    ask_combine(&r, DIFFERENCE, lists, 3, 0, 0, 0);
    expect_combined(&r, false, 0, IDS(1, 4));
    ask_combine(&r, DIFFERENCE, lists, 1, PAGE_AFTER, 1, 0);
    expect_combined(&r, true, 1, IDS(1));
    run(&r);
    // A page may end empty.
    fake_rel_work(r.commit, 1);
    ask_combine(&r, INTERSECT, lists, 2, 0, 0, 0);
    expect_combined(&r, true, 1, nobody);
    run(&r);
    leave(&r);
}

// What looks at many members is a job; a list may become cold before it runs.
static void combined_elsewhere(void **state)
{
    enum { MANY = 90000, TIMES = 12 };
    uint64_t *ids = malloc(MANY * sizeof *ids);
    struct room r;
    assert_non_null(ids);
    enter(&r);
    for (uint64_t part = 0; part < TIMES; part++) {
        for (uint64_t i = 0; i < MANY; i++)
            ids[i] = 5 + 3 * (part * MANY + i);
        ask_add(&r, "f", 1, (struct ids){ids, MANY * sizeof *ids});
        expect32(&r, MANY);
        run(&r);
    }
    free(ids);
    ask_add(&r, "f", 2, IDS(8, 9, 11));
    expect32(&r, 3);
    run(&r);
    const struct list same[] = {{"f", 1, 0}, {"f", 1, 0}}, few[] = {{"f", 1, 0}, {"f", 2, 0}};
    fake_commit_defer(r.commit, true);
    ask_combine(&r, INTERSECT, few, 2, 0, 0, 0); // three members at most: here
    expect_combined(&r, false, 0, IDS(8, 11));
    run(&r);
    ask_combine(&r, INTERSECT, same, 2, 0, 2, 0);
    ask_ping(&r);
    feed(&r);
    assert_true(r.conn->waiting && buf_len(&r.conn->out) == 0);
    fake_rel_cold(r.commit, "f", 1, false);
    work(&r); // the combination
    assert_true(r.conn->waiting && buf_len(&r.conn->out) == 0);
    work(&r); // the fetch
    work(&r); // the combination again
    expect_combined(&r, true, 8, IDS(5, 8));
    expect_ping(&r);
    check(&r);
    assert_false(r.conn->waiting || r.conn->holds);
    // The client goes away meanwhile.
    ask_combine(&r, DIFFERENCE, same, 2, 0, 2, 0);
    feed(&r);
    fake_commit_work(r.commit);
    leave(&r);
}

static bool next_from(struct slice *body, uint64_t *from, uint64_t *count)
{
    if (body->n == 0)
        return false;
    assert_true(body->n >= 16);
    *from = load64(body->p);
    *count = load64(body->p + 8);
    body->p += 16;
    body->n -= 16;
    return true;
}

static void froms(void **state)
{
    struct room r;
    uint64_t after = 0, from, count;
    unsigned pages = 0, seen = 0;
    enter(&r);
    ask_create(&r, "f", WITH_REVERSE);
    expect64(&r, 1);
    for (uint64_t i = 1; i <= 5; i++) {
        ask_add(&r, "f", i, (struct ids){(const uint64_t[]){0, 1, 2, 3, 4}, i * 8});
        expect32(&r, (uint32_t)i);
    }
    ask_change(&r, FRAME_REL_REMOVE, "f", 1, IDS(0), 0);
    expect32(&r, 1);
    run(&r);
    for (bool more = true; more; pages++) {
        fake_commit_defer(r.commit, pages % 2);
        ask(&r, FRAME_REL_FROMS, "f");
        put_page(&r.script, RISING, pages ? PAGE_AFTER : 0, 3, after);
        ask_ping(&r);
        feed(&r);
        work(&r);
        struct slice body = buf_slice(&r.conn->out);
        assert_true(body.n >= 5 + 6 && load32(body.p) + 4 + 6 == body.n && body.p[4] == 0);
        body = slice_of(body.p + 5, body.n - 11);
        for (more = false; next_from(&body, &from, &count); more = true) {
            assert_int_equal(count, from);
            seen |= 1u << from;
            after = from;
        }
        fake_conn_take(r.conn);
    }
    assert_int_equal(seen, 0x3c);
    assert_int_equal(pages, 3);
    fake_commit_defer(r.commit, false);
    ask(&r, FRAME_REL_FROMS, "f");
    put_page(&r.script, RISING, PAGE_REVERSE, 0, 0);
    feed(&r);
    assert_int_equal(buf_len(&r.conn->out), 5 + 5 * 16);
    fake_conn_take(r.conn);
    ask(&r, FRAME_REL_FROMS, "none");
    put_page(&r.script, RISING, 0, 0, 0);
    expect_status(&r, 0, 0);
    ask(&r, FRAME_REL_FROMS, ".");
    put_page(&r.script, RISING, 0, 0, 0);
    expect_error(&r, "the relation's name is not one");
    ask_add(&r, "g", 1, IDS(1));
    expect32(&r, 1);
    ask(&r, FRAME_REL_FROMS, "g");
    put_page(&r.script, RISING, PAGE_REVERSE, 0, 0);
    expect_error(&r, "the relation is not declared with reverse");
    run(&r);
    // The client goes away meanwhile.
    fake_commit_defer(r.commit, true);
    ask(&r, FRAME_REL_FROMS, "f");
    put_page(&r.script, RISING, 0, 0, 0);
    feed(&r);
    fake_commit_work(r.commit);
    leave(&r);
}

// ---- additions that are one transaction

// Feeds what was asked for, of which `gates` transactions are made.
static void run_gates(struct room *r, size_t gates)
{
    feed(r);
    check(r);
    assert_int_equal(r->conn->gates, gates);
    assert_false(r->conn->closed || r->conn->waiting);
}

static void together(void **state)
{
    struct room r;
    enter(&r);
    for (uint64_t i = 0; i < 100; i++)
        ask_add(&r, "f", i / 10, IDS(i / 2, 7));
    bool has[10][50] = {{false}};
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t from = i / 10;
        uint32_t added = !has[from][i / 2];
        has[from][i / 2] = true;
        added += !has[from][7];
        has[from][7] = true;
        expect32(&r, added);
    }
    run_gates(&r, 1);
    // What is not alike begins another one.
    static const struct {
        uint16_t type;
        const char *relation;
        uint32_t flags;
    } each[] = {{FRAME_REL_ADD, "f", 0},     {FRAME_REL_ADD, "g", 0}, {FRAME_REL_REMOVE, "g", 0},
                {FRAME_REL_REMOVE, "ff", 0}, {FRAME_REL_ADD, "f", 0}, {FRAME_REL_ADD, "f", RELAXED},
                {FRAME_REL_ADD, "f", 0}};
    static const uint32_t changed[] = {1, 1, 1, 0, 1, 1, 1};
    for (size_t i = 0; i < 7; i++)
        for (uint64_t j = 0; j < 3; j++) {
            bool removes = each[i].type == FRAME_REL_REMOVE;
            ask_change(&r, each[i].type, each[i].relation, 1000 + j, IDS(removes ? 1 : i),
                       each[i].flags);
            expect32(&r, changed[i]);
        }
    run_gates(&r, 6); // one is relaxed
    // More than a batch.
    for (uint64_t i = 0; i < 1000; i++) {
        ask_add(&r, "h", i, IDS(i));
        expect32(&r, 1);
    }
    feed(&r);
    check(&r);
    assert_int_equal(r.conn->gates, 2); // more than so many, and the rest
    // A request of another kind between them.
    ask_add(&r, "h", 1, IDS(5));
    ask_add(&r, "h", 1, IDS(6));
    ask_ping(&r);
    ask_add(&r, "h", 1, IDS(5));
    expect32(&r, 1);
    expect32(&r, 1);
    expect_ping(&r);
    expect32(&r, 0);
    run_gates(&r, 2);
    leave(&r);
}

static void relaxed(void **state)
{
    struct room r;
    enter(&r);
    ask_change(&r, FRAME_REL_ADD, "f", 1, IDS(1), RELAXED);
    ask_change(&r, FRAME_REL_ADD, "f", 1, IDS(2), RELAXED);
    expect32(&r, 1);
    expect32(&r, 1);
    run_gates(&r, 0);
    const struct group g = {1, IDS(3), 0};
    ask_edit(&r, "f", &g, 1, RELAXED, "");
    expect_status(&r, 0, 16);
    put64(&r.expect, 1);
    put64(&r.expect, 0);
    run_gates(&r, 0);
    ask_edit(&r, "f", &g, 1, 0, "");
    expect_status(&r, 0, 16);
    put64(&r.expect, 0);
    put64(&r.expect, 0);
    run_gates(&r, 1);
    leave(&r);
}

static void together_with_errors(void **state)
{
    struct room r;
    enter(&r);
    // One that is not valid, in the middle: the others are done.
    ask_add(&r, "f", 1, IDS(1));
    expect32(&r, 1);
    ask_add(&r, "f", 2, IDS(1));
    expect32(&r, 1);
    ask_from(&r, FRAME_REL_ADD, "f", 3);
    put_arg(&r.script, "1234567", 7);
    put_arg(&r.script, "\0\0\0\0", 4);
    expect_error(&r, "REL_ADD: members take 8 bytes each; 7 is not a multiple of it");
    ask_add(&r, "f", 4, IDS(1));
    expect32(&r, 1);
    ask_change(&r, FRAME_REL_ADD, "f", 4, IDS(1), 8);
    expect_error(&r, "REL_ADD: unknown flags 8");
    ask_change(&r, FRAME_REL_ADD, "f", 4, IDS(1), REVERSE);
    expect_error(&r, "REL_ADD: unknown flags 1");
    ask_add(&r, "f", 4, IDS(2));
    expect32(&r, 1);
    run_gates(&r, 3);
    // The transaction fails: each is executed on its own.
    fake_commit_fail(r.commit, ERR_NO_MEMORY);
    for (uint64_t i = 0; i < 5; i++) {
        ask_add(&r, "f", i, IDS(5, 6));
        expect32(&r, 2);
    }
    run_gates(&r, 5);
    for (uint64_t i = 0; i < 5; i++) {
        ask_add(&r, ":f", i, IDS(5, 6));
        expect_error(&r, "the relation's name is not one");
    }
    ask_ping(&r);
    expect_ping(&r);
    run(&r);
    // A single one fails for itself.
    fake_commit_fail(r.commit, ERR_NO_SPACE);
    ask_add(&r, "f", 1, IDS(7));
    expect_error(&r, err_text(ERR_NO_SPACE));
    run(&r);
    // Of those executed on their own one must wait: those before it are answered and not executed
    // again.
    fake_commit_defer(r.commit, true);
    fake_rel_cold(r.commit, "f", 2, false);
    fake_commit_fail(r.commit, ERR_NO_MEMORY);
    for (uint64_t i = 0; i < 5; i++)
        ask_add(&r, "f", i, IDS(8));
    expect32(&r, 1);
    expect32(&r, 1);
    feed(&r);
    check(&r);
    assert_true(r.conn->waiting);
    for (uint64_t i = 2; i < 5; i++)
        expect32(&r, 1);
    work(&r);
    check(&r);
    assert_true(!r.conn->waiting && r.conn->holds == 0 && buf_len(&r.conn->in) == 0);
    leave(&r);
}

static void put_zeros(struct buf *b, size_t n)
{
    static const uint8_t zeros[8000];
    for (size_t part; n; n -= part) {
        part = n < sizeof zeros ? n : sizeof zeros;
        put(b, zeros, part);
    }
}

// A change, or REL_CONTAINS, with so many members.
static void ask_members(struct room *r, uint16_t type, uint32_t count)
{
    ask_from(r, type, "f", 1);
    put32(&r->script, count * 8);
    put_zeros(&r->script, count * 8);
    put_arg(&r->script, "\0\0\0\0", 4);
}

static void too_many(void **state)
{
    struct room r;
    enter(&r);
    // Together they would be over the limit: the last two are one transaction.
    ask_members(&r, FRAME_REL_ADD, LIMIT_REL_MEMBERS - 1);
    ask_members(&r, FRAME_REL_ADD, LIMIT_REL_MEMBERS - 1);
    ask_members(&r, FRAME_REL_ADD, 1);
    expect32(&r, 1);
    expect32(&r, 0);
    expect32(&r, 0);
    run_gates(&r, 2);
    ask_members(&r, FRAME_REL_ADD, LIMIT_REL_MEMBERS + 1);
    expect_error(&r, "REL_ADD: 1000001 members are over the limit of 1000000");
    ask_members(&r, FRAME_REL_CONTAINS, LIMIT_REL_MEMBERS + 1);
    expect_error(&r, "REL_CONTAINS: 1000001 members are over the limit of 1000000");
    ask(&r, FRAME_REL_MANY, "f");
    put32(&r.script, (LIMIT_REL_MANY + 1) * 8);
    put_zeros(&r.script, (LIMIT_REL_MANY + 1) * 8);
    put_arg(&r.script, "\1\0\0\0\0\0\0\0", 8);
    expect_error(&r, "REL_MANY: 10001 froms are over the limit of 10000");
    run(&r);
    ask(&r, FRAME_REL_EDIT, "f");
    put32(&r.script, 2 * 16 + (LIMIT_REL_MEMBERS + 1) * 8);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t count = i ? LIMIT_REL_MEMBERS : 1;
        put64(&r.script, 1);
        put32(&r.script, count);
        put32(&r.script, i);
        put_zeros(&r.script, count * 8);
    }
    put_arg(&r.script, "\0\0\0\0", 4);
    put_arg(&r.script, "", 0);
    expect_error(&r, "REL_EDIT: more than 1000000 members");
    run(&r);
    leave(&r);
}

// Lists at the limit of what one reply holds.
static void long_lists(void **state)
{
    struct room r;
    enter(&r);
    uint64_t *m = malloc((LIMIT_REL_PAGE + 1) * sizeof *m);
    assert_non_null(m);
    for (size_t i = 0; i <= LIMIT_REL_PAGE; i++)
        m[i] = i * 3;
    ask_add(&r, "f", 1, (struct ids){m, LIMIT_REL_PAGE * 8});
    expect32(&r, LIMIT_REL_PAGE);
    run(&r);
    ask_from(&r, FRAME_REL_GET, "f", 1);
    expect_ids(&r, (struct ids){m, LIMIT_REL_PAGE * 8});
    run(&r);
    ask_add(&r, "f", 1, (struct ids){m + LIMIT_REL_PAGE, 8});
    expect32(&r, 1);
    ask_from(&r, FRAME_REL_GET, "f", 1);
    expect_error(&r, "REL_GET: the list has 1000001 members: read it in pages");
    ask_ping(&r);
    expect_ping(&r);
    run(&r);
    // The reply is full after the first list: of those that follow only the totals are told.
    ask_add(&r, "f", 2, IDS(5));
    expect32(&r, 1);
    run(&r);
    ask_many(&r, "f", IDS(2, 1, 2, 3), LIMIT_REL_PAGE, 0);
    expect_status(&r, 0, 4 * 12 + LIMIT_REL_PAGE * 8);
    put64(&r.expect, 1);
    put32(&r.expect, 1);
    put64(&r.expect, 5);
    put64(&r.expect, LIMIT_REL_PAGE + 1);
    put32(&r.expect, LIMIT_REL_PAGE - 1);
    put(&r.expect, m, (LIMIT_REL_PAGE - 1) * 8);
    put64(&r.expect, 1);
    put32(&r.expect, 0);
    put64(&r.expect, 0);
    put32(&r.expect, 0);
    run(&r);
    free(m);
    leave(&r);
}

// ---- waiting

// What was asked for waits once, and then gives what is expected.
static void run_waiting(struct room *r)
{
    feed(r);
    assert_true(r->conn->waiting && r->conn->holds == 1);
    work(r);
    check(r);
    assert_true(!r->conn->waiting && !r->conn->holds && buf_len(&r->conn->in) == 0);
}

static void cold_lists(void **state)
{
    struct room r;
    const struct list lists[] = {{"none", 1, 0}, {"f", 1, 0}, {"f", 2, 0}};
    enter(&r);
    ask_create(&r, "f", WITH_REVERSE);
    ask_add(&r, "f", 1, IDS(1, 2));
    ask_add(&r, "f", 2, IDS(2, 3));
    expect64(&r, 1);
    expect32(&r, 2);
    expect32(&r, 2);
    run(&r);
    fake_commit_defer(r.commit, true);
    // All of a batch are fetched in one go.
    for (uint64_t i = 0; i < 3; i++)
        fake_rel_cold(r.commit, "f", 1 + i % 2, false);
    ask_ping(&r);
    ask_from(&r, FRAME_REL_GET, "f", 1);
    ask_from(&r, FRAME_REL_GET, "none", 1);
    ask_page(&r, "f", 2, FALLING, 0, 1, 0);
    ask_count(&r, "f", 1, 0);
    ask_change(&r, FRAME_REL_CONTAINS, "f", 2, IDS(3), 0);
    ask_add(&r, "f", 1, IDS(9));
    expect_ping(&r);
    expect_ids(&r, IDS(1, 2));
    expect_ids(&r, nobody);
    expect_page(&r, 2, true, 3, IDS(3));
    expect64(&r, 2);
    expect_status(&r, 0, 1);
    put8(&r.expect, 1);
    expect32(&r, 1);
    run_waiting(&r);
    // Each kind of request first.
    for (int i = 0; i < 8; i++) {
        const struct group g = {1, IDS(9), 1};
        fake_rel_cold(r.commit, "f", 1, i == 3);
        switch (i) {
        case 0:
            ask_page(&r, "f", 1, RISING, 0, 1, 0);
            expect_page(&r, 3, true, 1, IDS(1));
            break;
        case 1:
            ask_count(&r, "f", 1, 0);
            expect64(&r, 3);
            break;
        case 2:
            ask_change(&r, FRAME_REL_CONTAINS, "f", 1, IDS(3), 0);
            expect_status(&r, 0, 1);
            put8(&r.expect, 0);
            break;
        case 3:
            ask_count(&r, "f", 2, REVERSE);
            expect64(&r, 2);
            break;
        case 4:
            ask_add(&r, "f", 2, IDS(9));
            ask_add(&r, "f", 1, IDS(9));
            expect32(&r, 1);
            expect32(&r, 0);
            break;
        case 5:
            ask_many(&r, "f", IDS(7, 2, 1), 1, 0);
            expect_status(&r, 0, 3 * 12 + 16);
            put64(&r.expect, 0);
            put32(&r.expect, 0);
            put64(&r.expect, 3);
            put32(&r.expect, 1);
            put64(&r.expect, 2);
            put64(&r.expect, 3);
            put32(&r.expect, 1);
            put64(&r.expect, 1);
            break;
        case 6:
            ask_combine(&r, UNION, lists, 3, 0, 0, 0);
            expect_combined(&r, false, 0, IDS(1, 2, 3, 9));
            break;
        default:
            ask_edit(&r, "f", &g, 1, 0, "");
            expect_status(&r, 0, 16);
            put64(&r.expect, 0);
            put64(&r.expect, 1);
        }
        ask_ping(&r);
        expect_ping(&r);
        run_waiting(&r);
    }
    leave(&r);
}

static void fetch_fails(void **state)
{
    struct room r;
    enter(&r);
    ask_add(&r, "f", 1, IDS(1));
    expect32(&r, 1);
    run(&r);
    fake_commit_fetch_result(r.commit, ERR_IO);
    fake_rel_cold(r.commit, "f", 1, false);
    ask_from(&r, FRAME_REL_GET, "f", 1);
    expect_error(&r, err_text(ERR_IO));
    ask_from(&r, FRAME_REL_GET, "f", 1);
    expect_ids(&r, IDS(1)); // the fake has warmed it all the same
    run(&r);
    // Only the first of those that were to be executed together.
    fake_rel_cold(r.commit, "f", 1, false);
    ask_add(&r, "f", 1, IDS(2));
    ask_add(&r, "f", 1, IDS(3));
    expect_error(&r, err_text(ERR_IO));
    expect32(&r, 1);
    run(&r);
    leave(&r);
}

// Lists that are cold again whenever they were fetched: every request ends, and those behind it are
// answered.
static void never_warm(void **state)
{
    static const char reads[] = "the lists of the request do not fit storage.memory_limit all at "
                                "once";
    static const char changes[] = "too many rounds"; // the fake's
    const struct list lists[] = {{"f", 2, 0}, {"f", 1, 0}};
    const struct group g = {1, IDS(9), 0};
    struct room r;
    enter(&r);
    ask_add(&r, "f", 1, IDS(1));
    ask_add(&r, "f", 2, IDS(1));
    expect32(&r, 1);
    expect32(&r, 1);
    run(&r);
    fake_commit_defer(r.commit, true);
    fake_rel_cold(r.commit, "f", 1, false);
    fake_rel_frozen(r.commit, true);
    ask_from(&r, FRAME_REL_GET, "f", 1);
    expect_error(&r, reads);
    ask_page(&r, "f", 1, RISING, 0, 1, 0);
    expect_error(&r, reads);
    ask_count(&r, "f", 1, 0);
    expect_error(&r, reads);
    ask_many(&r, "f", IDS(2, 1), 1, 0);
    expect_error(&r, reads);
    ask_combine(&r, UNION, lists, 2, 0, 0, 0);
    expect_error(&r, reads);
    ask_edit(&r, "f", &g, 1, 0, "");
    expect_error(&r, changes);
    // Additions that are tried together first: only the one that cannot be fails.
    for (uint64_t from = 4; from; from--)
        ask_add(&r, "f", from, IDS(9));
    expect32(&r, 1);
    expect32(&r, 1);
    expect32(&r, 1);
    expect_error(&r, changes);
    ask_ping(&r);
    expect_ping(&r);
    feed(&r);
    int rounds = 0;
    for (; r.conn->waiting; rounds++) {
        assert_true(rounds < 1000);
        fake_commit_work(r.commit);
        fake_conn_run(r.conn);
    }
    assert_true(rounds >= 700); // each of them was tried so often
    check(&r);
    leave(&r);
}

static void full(void **state)
{
    struct room r;
    const struct group g = {1, IDS(9), 0};
    enter(&r);
    fake_commit_defer(r.commit, true);
    for (int i = 0; i < 3; i++) {
        fake_commit_fail(r.commit, ERR_FULL);
        if (i == 0) {
            ask_add(&r, "f", 1, IDS(1));
            ask_add(&r, "f", 2, IDS(1));
            expect32(&r, 1);
            expect32(&r, 1);
        } else if (i == 1) {
            ask_edit(&r, "f", &g, 1, 0, "");
            expect_status(&r, 0, 16);
            put64(&r.expect, 1);
            put64(&r.expect, 0);
        } else {
            ask_create(&r, "g", 0);
            expect64(&r, 2);
        }
        run_waiting(&r);
    }
    leave(&r);
}

// ---- transactions

static void put_op(struct buf *b, uint8_t kind, uint64_t from, const char *relation, struct ids m)
{
    put8(b, kind);
    put(b, "\0\0", 3);
    put32(b, 8 + (uint32_t)strlen(relation));
    put32(b, (uint32_t)m.n);
    put64(b, 0);
    put64(b, 0);
    put64(b, from);
    put(b, relation, strlen(relation));
    put(b, m.p, m.n);
}

static void ask_txn(struct room *r, const struct buf *ops)
{
    uint16_t type = FRAME_TXN;
    put(&r->script, &type, 2);
    put_arg(&r->script, buf_head(ops), buf_len(ops));
    put32(&r->script, 0);
}

static void transactions(void **state)
{
    struct room r;
    struct buf b;
    enter(&r);
    buf_init(&b, 1 << 16);
    put_op(&b, 5, 1, "f", IDS(3, 4));
    put(&b, "\3\0\0\0\1\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0k\5\0\0\0\0\0\0\0", 37);
    put_op(&b, 6, 1, "f", IDS(4, 5));
    put_op(&b, 5, 1, "g", nobody);
    ask_txn(&r, &b);
    expect_status(&r, 0, 12 + 4 * 16);
    put64(&r.expect, 1);
    put32(&r.expect, 4);
    put64(&r.expect, 0);
    put64(&r.expect, 2);
    put64(&r.expect, 1);
    put64(&r.expect, 5);
    put64(&r.expect, 0);
    put64(&r.expect, 1);
    put64(&r.expect, 0);
    put64(&r.expect, 0);
    ask_from(&r, FRAME_REL_GET, "f", 1);
    expect_ids(&r, IDS(3));
    run(&r);
    static const struct {
        size_t at;
        uint8_t to;
        const char *text;
    } wrong[] = {
        {0, 7, "unknown kind 7"},
        {1, 1, "only a put has a value type"},
        {2, 1, "a relate has neither version nor time to live"},
        {2, 2, "a relate has neither version nor time to live"},
        {4, 7, "the `from` takes 8 bytes, not 7"},
        {8, 15, "members take 8 bytes each; 15 is not a multiple of it"},
        {4 + 32, '!', "the relation's name is not one"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[128];
        buf_clear(&b);
        put_op(&b, 5, 1, "f", IDS(3, 4));
        buf_head(&b)[wrong[i].at] = wrong[i].to;
        // A shorter operation must still fill its argument.
        b.end -= wrong[i].at == 4 ? 2 : wrong[i].at == 8 ? 1 : 0;
        ask_txn(&r, &b);
        (void)snprintf(text, sizeof text, "TXN: operation 0: %s", wrong[i].text);
        expect_error(&r, wrong[i].at > 28 ? wrong[i].text : text);
    }
    run(&r);
    fake_rel_cold(r.commit, "f", 1, false);
    buf_clear(&b);
    put_op(&b, 6, 1, "f", IDS(3));
    ask_txn(&r, &b);
    ask_count(&r, "f", 1, 0);
    expect_status(&r, 0, 12 + 16);
    put64(&r.expect, 2);
    put32(&r.expect, 1);
    put64(&r.expect, 0);
    put64(&r.expect, 1);
    expect64(&r, 0);
    run(&r);
    buf_release(&b);
    leave(&r);
}

// ---- every split

static void write_script(struct room *r)
{
    const struct group groups[] = {{1, IDS(1, 2), 0}, {2, IDS(1), 1}};
    const struct list lists[] = {{"f", 1, 0}, {"f", 1, REVERSE}};
    struct buf b;
    buf_init(&b, 1 << 16);
    ask_from(r, FRAME_REL_GET, "f", 1);
    ask_create(r, "f", WITH_REVERSE | WITH_RECENT);
    ask(r, FRAME_REL_INFO, "f");
    for (uint64_t i = 0; i < 6; i++)
        ask_add(r, "f", i % 3, IDS(i, 3));
    raw(r, FRAME_REL_ADD, 4, B("f"), B(ZERO8), B("odd"), B(ZERO4));
    ask_add(r, "f", 7, nobody);
    for (uint64_t i = 0; i < 3; i++)
        ask_change(r, FRAME_REL_REMOVE, "f", i, IDS(i), 0);
    ask_change(r, FRAME_REL_ADD, "f", 1, IDS(8), RELAXED);
    for (uint64_t i = 0; i < 3; i++)
        ask_from(r, FRAME_REL_GET, "f", i);
    ask_page(r, "f", 1, NEWEST, 0, 2, 0);
    ask_edit(r, "f", groups, 2, 0, "key");
    ask_edit(r, "f", groups, 2, 0, "key");
    put_op(&b, 5, 1, "g", IDS(9));
    ask_txn(r, &b);
    ask(r, FRAME_REL_LIST, "");
    put_arg(&r->script, "\5\0\0\0\0\0\0\0", 8);
    ask_count(r, "f", 3, REVERSE);
    ask_change(r, FRAME_REL_CONTAINS, "f", 1, IDS(1, 2), 0);
    ask_many(r, "f", IDS(1, 2, 3), 2, 0);
    ask_combine(r, UNION, lists, 2, 0, 0, 0);
    ask(r, FRAME_REL_FROMS, "f");
    put_page(&r->script, RISING, 0, 0, 0);
    ask_add(r, "f!", 1, IDS(1));
    ask_add(r, "f!", 1, IDS(2));
    ask_ping(r);
    buf_release(&b);
}

static void every_split(void **state)
{
    struct room r, s;
    enter(&r);
    write_script(&r);
    size_t n = buf_len(&r.script);
    uint8_t *script = malloc(n);
    assert_non_null(script);
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
        assert_true(buf_len(&s.conn->in) == 0 && s.conn->holds == 0 && !s.conn->closed);
        leave(&s);
    }
    free(script);
    leave(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relations),
        cmocka_unit_test(one_list),
        cmocka_unit_test(reverse_and_recent),
        cmocka_unit_test(edits),
        cmocka_unit_test(many_and_combined),
        cmocka_unit_test(combined_elsewhere),
        cmocka_unit_test(froms),
        cmocka_unit_test(together),
        cmocka_unit_test(relaxed),
        cmocka_unit_test(together_with_errors),
        cmocka_unit_test(too_many),
        cmocka_unit_test(long_lists),
        cmocka_unit_test(cold_lists),
        cmocka_unit_test(never_warm),
        cmocka_unit_test(fetch_fails),
        cmocka_unit_test(full),
        cmocka_unit_test(transactions),
        cmocka_unit_test(every_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
