// The commit room on the simulated machine, without threads: what transactions, reads, listings,
// expiry, idempotency and checkpoints promise to a single caller. Crashes are in
// tests/crash/crash_commit.c.
#include "base/limits.h"
#include "base/os_sim.h"
#include "commit/commit.h"
#include "store/store_int.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

struct fix {
    struct os_sim *sim;
    struct commit *c;
    struct commit_options o;
};

static void open_it(struct fix *f)
{
    struct errmsg msg = {0};
    assert_int_equal(commit_open(&f->c, &f->o, NULL, &msg), ERR_OK);
}

static int set_up(void **state)
{
    struct fix *f = calloc(1, sizeof *f);
    f->sim = sim_new(7);
    f->o = (struct commit_options){
        .os = sim_os(f->sim),
        .dir = "/data",
        .store_open = store_open_sim,
        .segment_size = 65536,
        .max_segments = 8,
        .memory_limit = 64u << 20,
        .max_key = 64,
        .max_value = 1u << 20,
    };
    sim_set_wall_ms(f->sim, 1000000);
    open_it(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fix *f = *state;
    if (f->c)
        commit_abandon(f->c);
    sim_free(f->sim);
    free(f);
    return 0;
}

static void checkpoint(struct fix *f)
{
    struct errmsg msg = {0};
    assert_int_equal(commit_flush(f->c), ERR_OK);
    assert_int_equal(commit_checkpoint(f->c, &msg), ERR_OK);
}

static void restart(struct fix *f)
{
    assert_int_equal(commit_close(f->c), ERR_OK);
    open_it(f);
}

static void fetched(void *arg, enum err e)
{
    *(enum err *)arg = e;
}

static enum err txn(struct fix *f, struct txn *t, struct errmsg *msg)
{
    uint64_t dep;
    for (int i = 0; i < 100; i++) {
        enum err got = ERR_OK, e = commit_txn(f->c, t, &dep, msg);
        if (e == ERR_COLD) {
            struct key_ref refs[64];
            size_t n = commit_txn_cold(f->c, t, refs, 64);
            assert_true(n > 0);
            assert_int_equal(commit_fetch(f->c, refs, n, fetched, &got), ERR_OK);
            assert_int_equal(got, ERR_OK);
        } else if (e == ERR_FULL) {
            assert_int_equal(commit_flush(f->c), ERR_OK);
            assert_int_equal(commit_wait_room(f->c, fetched, &got), ERR_OK);
            assert_int_equal(got, ERR_OK);
        } else {
            return e;
        }
    }
    fail_msg("a transaction never ended");
    return ERR_AGAIN;
}

static struct txn_op put_op(struct fix *f, const char *key, const char *value)
{
    return (struct txn_op){.kind = TXN_PUT,
                           .type = VALUE_STRING,
                           .k = commit_ref(f->c, slice_str(key)),
                           .value = slice_str(value)};
}

static uint64_t put(struct fix *f, const char *key, const char *value)
{
    struct errmsg msg = {0};
    struct txn_op op = put_op(f, key, value);
    struct txn t = {.ops = &op, .count = 1};
    enum err e = txn(f, &t, &msg);
    if (e)
        fail_msg("put %s: %s %s", key, err_name(e), msg.text);
    return op.new_version;
}

static enum err erase(struct fix *f, const char *key)
{
    struct errmsg msg = {0};
    struct txn_op op = {.kind = TXN_DELETE, .k = commit_ref(f->c, slice_str(key))};
    struct txn t = {.ops = &op, .count = 1};
    return txn(f, &t, &msg);
}

struct got {
    char text[256];
    enum value_type type;
    uint64_t version, expires_ms;
    int64_t number;
};

static void take(void *arg, const struct value_view *v)
{
    struct got *g = arg;
    snprintf(g->text, sizeof g->text, "%.*s", (int)v->value.n, (const char *)v->value.p);
    g->type = v->type;
    g->version = v->version;
    g->expires_ms = v->expires_ms;
    g->number = v->type == VALUE_INT ? (int64_t)load64(v->value.p) : 0;
}

static enum err get(struct fix *f, const char *key, struct got *g)
{
    struct key_ref k = commit_ref(f->c, slice_str(key));
    uint64_t dep;
    *g = (struct got){0};
    for (int i = 0; i < 10; i++) {
        enum err got = ERR_OK, e = commit_get(f->c, &k, take, g, &dep);
        if (e != ERR_COLD)
            return e;
        assert_int_equal(commit_fetch(f->c, &k, 1, fetched, &got), ERR_OK);
        assert_int_equal(got, ERR_OK);
    }
    fail_msg("a read never ended");
    return ERR_AGAIN;
}

static void expect(struct fix *f, const char *key, const char *value)
{
    struct got g;
    enum err e = get(f, key, &g);
    assert_int_equal(e, value ? ERR_OK : ERR_MISSING);
    if (value)
        assert_string_equal(g.text, value);
}

// Nothing leaves before its sequence is durable: the deps say so, for reads and conflicts as for
// writes.
static void test_deps(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    struct got g;
    uint64_t dep;
    struct txn_op op = put_op(f, "a", "1");
    struct txn t = {.ops = &op, .count = 1};
    assert_int_equal(commit_txn(f->c, &t, &dep, &msg), ERR_OK);
    assert_int_equal(dep, t.seq);
    assert_true(commit_durable(f->c) < dep);
    uint64_t wrote = dep;
    assert_int_equal(commit_get(f->c, &op.k, take, &g, &dep), ERR_OK);
    assert_int_equal(dep, wrote);
    op.has_version = true;
    op.version = 9;
    assert_int_equal(commit_txn(f->c, &t, &dep, &msg), ERR_CONFLICT);
    assert_int_equal(dep, wrote);
    assert_int_equal(commit_flush(f->c), ERR_OK);
    assert_int_equal(commit_get(f->c, &op.k, take, &g, &dep), ERR_OK);
    assert_int_equal(dep, 0);
    // A deletion that is not durable is something a read depends on, too.
    assert_int_equal(erase(f, "a"), ERR_OK);
    assert_int_equal(commit_get(f->c, &op.k, take, &g, &dep), ERR_MISSING);
    assert_true(dep > wrote);
}

static void test_versions(void **state)
{
    struct fix *f = *state;
    for (uint64_t n = 1; n <= 5; n++)
        assert_int_equal(put(f, "a", "x"), n);
    assert_int_equal(erase(f, "a"), ERR_OK);
    assert_int_equal(put(f, "a", "x"), 6);
    assert_int_equal(put(f, "fresh", "x"), 6);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(erase(f, "a"), ERR_OK);
        if (round)
            checkpoint(f);
        restart(f);
        struct got g;
        uint64_t v = put(f, "a", "x");
        assert_int_equal(v, 7 + round);
        assert_int_equal(get(f, "a", &g), ERR_OK);
        assert_int_equal(g.version, v);
    }
}

static void test_conflicts_name_every_key(void **state)
{
    struct fix *f = *state;
    put(f, "a", "1");
    put(f, "b", "1");
    struct txn_op ops[4] = {
        put_op(f, "a", "2"),
        put_op(f, "b", "2"),
        put_op(f, "c", "2"),
        {.kind = TXN_CHECK, .k = commit_ref(f->c, slice_str("d")), .version = 3}};
    for (int i = 0; i < 3; i++)
        ops[i].has_version = true;
    ops[1].version = 1;
    struct txn t = {.ops = ops, .count = 4};
    struct errmsg msg = {0};
    assert_int_equal(txn(f, &t, &msg), ERR_CONFLICT);
    assert_true(ops[0].conflict && !ops[1].conflict && !ops[2].conflict && ops[3].conflict);
    assert_int_equal(ops[0].actual, 1);
    assert_int_equal(ops[3].actual, 0);
    expect(f, "b", "1");
    expect(f, "c", NULL);
}

static void test_bad_transactions(void **state)
{
    struct fix *f = *state;
    static char big[65];
    memset(big, 'k', sizeof big - 1);
    struct txn_op twice[2] = {put_op(f, "a", "1"), put_op(f, "a", "2")};
    struct txn_op empty = put_op(f, "", "1");
    struct txn_op odd = put_op(f, "a", "123");
    odd.type = VALUE_INT;
    struct txn_op unknown = put_op(f, "a", "1");
    unknown.kind = 77;
    struct {
        struct txn t;
        enum err e;
    } cases[] = {{{.ops = twice, .count = 2}, ERR_INVALID},
                 {{.ops = twice, .count = 0}, ERR_INVALID},
                 {{.ops = &empty, .count = 1}, ERR_INVALID},
                 {{.ops = &odd, .count = 1}, ERR_INVALID},
                 {{.ops = &unknown, .count = 1}, ERR_INVALID}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct errmsg msg = {0};
        assert_int_equal(txn(f, &cases[i].t, &msg), cases[i].e);
        assert_true(msg.text[0]);
        assert_int_equal(cases[i].t.seq, 0);
    }
    char long_key[66];
    memset(long_key, 'k', 65);
    long_key[65] = 0;
    struct txn_op long_op = put_op(f, long_key, "1");
    struct txn t = {.ops = &long_op, .count = 1};
    struct errmsg msg = {0};
    assert_int_equal(txn(f, &t, &msg), ERR_TOO_BIG);
    expect(f, "a", NULL);
    // A key may be checked and written by the same transaction.
    struct txn_op both[2] = {{.kind = TXN_CHECK, .k = commit_ref(f->c, slice_str("a"))},
                             put_op(f, "a", "1")};
    struct txn ok = {.ops = both, .count = 2};
    assert_int_equal(txn(f, &ok, &msg), ERR_OK);
}

static enum err add(struct fix *f, const char *key, int64_t delta, int64_t *sum)
{
    struct errmsg msg = {0};
    struct txn_op op = {.kind = TXN_ADD, .k = commit_ref(f->c, slice_str(key)), .delta = delta};
    struct txn t = {.ops = &op, .count = 1};
    enum err e = txn(f, &t, &msg);
    *sum = op.number;
    if (e)
        assert_true(msg.text[0]);
    return e;
}

static void test_add(void **state)
{
    struct fix *f = *state;
    int64_t n;
    assert_int_equal(add(f, "n", 5, &n), ERR_OK);
    assert_int_equal(add(f, "n", -7, &n), ERR_OK);
    assert_int_equal(n, -2);
    put(f, "text", "40");
    assert_int_equal(add(f, "text", 2, &n), ERR_OK); // came as text, as over a byte protocol
    assert_int_equal(n, 42);
    put(f, "words", "forty");
    assert_int_equal(add(f, "words", 2, &n), ERR_TYPE);
    assert_int_equal(add(f, "top", INT64_MAX, &n), ERR_OK);
    assert_int_equal(add(f, "top", 1, &n), ERR_OVERFLOW);
    assert_int_equal(add(f, "bottom", INT64_MIN, &n), ERR_OK);
    assert_int_equal(add(f, "bottom", -1, &n), ERR_OVERFLOW);
    restart(f);
    struct got g;
    assert_int_equal(get(f, "top", &g), ERR_OK);
    assert_true(g.type == VALUE_INT && g.number == INT64_MAX);
}

static void test_expiry(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    for (int cold = 0; cold < 2; cold++) {
        put(f, "stays", "x");
        struct txn_op op = put_op(f, "goes", "x");
        op.ttl_ms = 500;
        struct txn t = {.ops = &op, .count = 1};
        assert_int_equal(txn(f, &t, &msg), ERR_OK);
        uint64_t version = op.new_version;
        if (cold)
            restart(f);
        sim_advance_ms(f->sim, 499);
        assert_int_equal(commit_expire(f->c, 100), 0);
        expect(f, "goes", "x");
        sim_advance_ms(f->sim, 1);
        expect(f, "goes", NULL);
        assert_int_equal(commit_expire(f->c, 100), 1);
        assert_int_equal(commit_expire(f->c, 100), 0);
        checkpoint(f);
        assert_int_equal(commit_expire(f->c, 100), 0);
        restart(f);
        expect(f, "goes", NULL);
        expect(f, "stays", "x");
        assert_true(put(f, "goes", "again") > version);
        // A put without a time to live takes the old one away; its line in the index is stale.
        op = put_op(f, "goes", "x");
        op.ttl_ms = 500;
        assert_int_equal(txn(f, &t, &msg), ERR_OK);
        checkpoint(f);
        put(f, "goes", "for good");
        checkpoint(f);
        sim_advance_ms(f->sim, 1000);
        assert_int_equal(commit_expire(f->c, 100), 0);
        expect(f, "goes", "for good");
    }
}

// As long as can be is not over at once.
static void test_endless_time_to_live(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    const uint64_t ttl[] = {UINT64_MAX, UINT64_MAX - 1000000, UINT64_MAX - 999999};
    for (size_t i = 0; i < 3; i++) {
        struct txn_op op = put_op(f, "a", "x");
        op.ttl_ms = ttl[i];
        struct txn t = {.ops = &op, .count = 1};
        assert_int_equal(txn(f, &t, &msg), ERR_OK);
        struct got g;
        assert_int_equal(get(f, "a", &g), ERR_OK);
        assert_true(g.expires_ms == UINT64_MAX);
        restart(f);
        assert_int_equal(commit_expire(f->c, 100), 0);
        expect(f, "a", "x");
    }
}

static void test_many_expire_at_once(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    for (int i = 0; i < 500; i++) {
        char key[16];
        snprintf(key, sizeof key, "t%d", i);
        struct txn_op op = put_op(f, key, "x");
        op.ttl_ms = 100;
        struct txn t = {.ops = &op, .count = 1};
        assert_int_equal(txn(f, &t, &msg), ERR_OK);
    }
    restart(f);
    sim_advance_ms(f->sim, 200);
    size_t gone = 0;
    for (int i = 0; i < 20; i++)
        gone += commit_expire(f->c, 100);
    assert_int_equal(gone, 500);
    checkpoint(f);
    restart(f);
    assert_int_equal(commit_expire(f->c, 100), 0);
}

static void test_idempotency(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    struct txn_op op = put_op(f, "a", "1");
    struct txn t = {.ops = &op, .count = 1, .idempotency = slice_str("id"), .request_hash = 5};
    op.has_version = true;
    assert_int_equal(txn(f, &t, &msg), ERR_OK);
    uint64_t seq = t.seq;
    for (int i = 0; i < 3; i++) {
        op.k = commit_ref(f->c, slice_str("a"));
        assert_int_equal(txn(f, &t, &msg), ERR_OK);
        assert_true(t.replayed && t.seq == seq && op.new_version == 1);
        if (i == 1)
            checkpoint(f);
        restart(f);
    }
    op.k = commit_ref(f->c, slice_str("a"));
    t.request_hash = 6;
    assert_int_equal(txn(f, &t, &msg), ERR_REUSED);
    // The first result may be a conflict: it stays one.
    t = (struct txn){.ops = &op, .count = 1, .idempotency = slice_str("other"), .request_hash = 7};
    assert_int_equal(txn(f, &t, &msg), ERR_CONFLICT);
    assert_int_equal(erase(f, "a"), ERR_OK);
    assert_int_equal(txn(f, &t, &msg), ERR_CONFLICT);
    assert_true(t.replayed && op.conflict && op.actual == 1);
    // A day later it is forgotten.
    sim_advance_ms(f->sim, 90000000);
    while (commit_expire(f->c, 100))
        ;
    assert_int_equal(txn(f, &t, &msg), ERR_OK);
}

struct names {
    char text[4096];
    size_t n;
};

static bool add_name(void *arg, struct slice key, const struct value_view *v)
{
    struct names *n = arg;
    n->n += (size_t)snprintf(n->text + n->n, sizeof n->text - n->n, "%.*s=%.*s ", (int)key.n,
                             (const char *)key.p, (int)v->value.n, (const char *)v->value.p);
    return true;
}

static void expect_list(struct fix *f, const char *prefix, const char *after, size_t limit,
                        const char *want)
{
    struct names n = {.text = ""};
    struct errmsg msg = {0};
    uint64_t dep;
    assert_int_equal(
        commit_list(f->c, slice_str(prefix), slice_str(after), limit, add_name, &n, &dep, &msg),
        ERR_OK);
    assert_string_equal(n.text, want);
}

static void test_list_merges_memory_and_below(void **state)
{
    struct fix *f = *state;
    put(f, "a/1", "1");
    put(f, "a/3", "3");
    put(f, "b", "b");
    checkpoint(f);
    restart(f);
    put(f, "a/2", "2");
    put(f, "a/3", "new");
    put(f, "a/4", "4");
    put(f, "c", "c");
    expect_list(f, "a/", "", 10, "a/1=1 a/2=2 a/3=new a/4=4 ");
    expect_list(f, "a/", "a/1", 2, "a/2=2 a/3=new ");
    expect_list(f, "", "a/4", 10, "b=b c=c ");
    assert_int_equal(erase(f, "a/1"), ERR_OK);
    assert_int_equal(erase(f, "a/4"), ERR_OK);
    expect_list(f, "a/", "", 10, "a/2=2 a/3=new ");
    checkpoint(f);
    expect_list(f, "a/", "", 10, "a/2=2 a/3=new ");
    expect_list(f, "zzz", "", 10, "");
    // The largest page, and one more to see whether it is the last.
    expect_list(f, "a/", "", LIMIT_LIST + 1, "a/2=2 a/3=new ");
}

// Keys in memory that are gone when a listing comes to them must not end its page early, nor hide
// those behind them.
static bool erase_next(void *arg, struct slice key, const struct value_view *v)
{
    struct fix *f = arg;
    char next[8] = "";
    memcpy(next, key.p, key.n);
    next[key.n - 1]++;
    return erase(f, next) == ERR_OK;
}

static void test_list_passes_what_goes(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    uint64_t dep;
    put(f, "e", "e");
    checkpoint(f);
    for (const char *key = "a b"; *key; key += 2) {
        struct txn_op op = put_op(f, (char[]){*key, 0}, "x");
        op.ttl_ms = 100;
        struct txn t = {.ops = &op, .count = 1};
        assert_int_equal(txn(f, &t, &msg), ERR_OK);
        if (!key[1])
            break;
    }
    put(f, "c", "c");
    put(f, "d", "d");
    sim_advance_ms(f->sim, 200);
    expect_list(f, "", "", 2, "c=c d=d ");
    expect_list(f, "", "", 10, "c=c d=d e=e ");
    // Each key that is given takes the next one away: k1 k3 k5 are left.
    for (char name[] = "k1"; name[1] <= '6'; name[1]++)
        put(f, name, "x");
    struct names n = {.text = ""};
    assert_int_equal(commit_list(f->c, slice_str("k"), slice_str(""), 3, erase_next, f, &dep, &msg),
                     ERR_OK);
    assert_int_equal(commit_list(f->c, slice_str("k"), slice_str(""), 9, add_name, &n, &dep, &msg),
                     ERR_OK);
    assert_string_equal(n.text, "k1=x k3=x k5=x ");
}

static void test_checkpoint_keeps_the_log_short(void **state)
{
    struct fix *f = *state;
    char value[1000];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    for (int i = 0; i < 3000; i++) { // many times the log's bound; ERR_FULL leads to checkpoints
        char key[16];
        snprintf(key, sizeof key, "k%d", i % 700);
        put(f, key, value);
    }
    restart(f);
    for (int i = 0; i < 700; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        struct got g;
        assert_int_equal(get(f, key, &g), ERR_OK);
        assert_int_equal(g.version, 3000 / 700 + (i < 3000 % 700));
    }
}

static void test_full_disk_refuses_and_loses_nothing(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    put(f, "before", "x");
    assert_int_equal(commit_flush(f->c), ERR_OK);
    sim_set_capacity(f->sim, 0);
    char value[2000], key[16];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    enum err e = ERR_OK;
    int accepted = 0;
    for (int i = 0; i < 1000 && !e; i++) {
        snprintf(key, sizeof key, "k%d", i);
        struct txn_op op = put_op(f, key, value);
        struct txn t = {.ops = &op, .count = 1};
        uint64_t dep;
        e = commit_txn(f->c, &t, &dep, &msg);
        if (!e && !(e = commit_flush(f->c)))
            accepted++;
    }
    assert_int_equal(e, ERR_NO_SPACE);
    assert_true(msg.text[0]);
    const char *why;
    assert_false(commit_writable(f->c, &why));
    assert_non_null(why);
    expect(f, "before", "x");
    sim_set_capacity(f->sim, UINT64_MAX);
    assert_int_equal(commit_flush(f->c), ERR_OK);
    put(f, "after", "y");
    restart(f);
    expect(f, "before", "x");
    expect(f, "after", "y");
    for (int i = 0; i < accepted; i++) {
        snprintf(key, sizeof key, "k%d", i);
        struct got g;
        assert_int_equal(get(f, key, &g), ERR_OK);
    }
}

static void test_directories_that_are_refused(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    struct commit *c;
    assert_int_equal(commit_open(&c, &f->o, NULL, &msg), ERR_IN_USE);
    assert_non_null(strstr(msg.text, "/data"));
    assert_int_equal(commit_close(f->c), ERR_OK);
    f->c = NULL;
    struct os *os = f->o.os;
    static const char newer[] = "varve store\nformat 9\nid 0000000000000001\n";
    assert_int_equal(os_replace_file(os, "/data", "STORE", newer, sizeof newer - 1), ERR_OK);
    assert_int_equal(commit_open(&c, &f->o, NULL, &msg), ERR_FORMAT);
    assert_non_null(strstr(msg.text, "format 9"));
    assert_int_equal(os_mkdir(os, "/other"), ERR_OK);
    assert_int_equal(os_replace_file(os, "/other", "thesis.tex", "x", 1), ERR_OK);
    f->o.dir = "/other";
    assert_int_equal(commit_open(&c, &f->o, NULL, &msg), ERR_INVALID);
    assert_non_null(strstr(msg.text, "thesis.tex"));
    f->o.dir = "/no/such/parent";
    assert_int_not_equal(commit_open(&c, &f->o, NULL, &msg), ERR_OK);
    assert_non_null(strstr(msg.text, "/no/such/parent"));
}

// Writes go on under any memory limit, however silly.
static void test_least_memory(void **state)
{
    struct fix *f = *state;
    char key[16], value[200];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    f->o.memory_limit = 1;
    restart(f);
    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "k%d", i);
        put(f, key, value);
    }
    expect(f, "k0", value);
}

// Keys whose values are together more than their shard may hold do not push each other out for
// ever.
static void test_transaction_larger_than_its_shard(void **state)
{
    struct fix *f = *state;
    enum { N = 400, SIZE = 100000, SAME = 4 };
    struct errmsg msg = {0};
    char names[SAME][16];
    size_t same = 0;
    char *value = calloc(1, SIZE + 1);
    memset(value, 'v', SIZE);
    f->o.memory_limit = 32u << 20; // 70 KB a shard
    f->o.segment_size = 1u << 20;
    restart(f);
    for (int i = 0; i < N || same < SAME; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        bool one = commit_ref(f->c, slice_str(key)).hash >> 56 == 7;
        if (i < N || one)
            put(f, key, value);
        if (one && same < SAME)
            memcpy(names[same++], key, sizeof key);
    }
    checkpoint(f);
    struct txn_op ops[SAME];
    for (int i = 0; i < SAME; i++)
        ops[i] = (struct txn_op){
            .kind = TXN_CHECK, .k = commit_ref(f->c, slice_str(names[i])), .version = 1};
    struct txn t = {.ops = ops, .count = SAME};
    assert_int_equal(txn(f, &t, &msg), ERR_OK);
    free(value);
}

// ---- a cold read that is overtaken

// Does something once, when the store has just been read.
struct overtaking {
    struct store_ops ops;
    const struct store_ops *real;
    struct fix *f; // NULL: not now
};

static struct overtaking overtaking; // the ops have no argument to carry it

static void overtake(struct fix *f)
{
    enum { SIZE = 100000 };
    char *value = calloc(1, SIZE + 1);
    uint64_t hash = commit_ref(f->c, slice_str("a")).hash;
    memset(value, 'n', SIZE);
    put(f, "a", value);
    checkpoint(f);
    // Past the table's limit, and into the shard of "a", so that it goes.
    for (int i = 0, same = 0; i < 120 || same < 3; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        bool one = commit_ref(f->c, slice_str(key)).hash >> 56 == hash >> 56;
        if (i < 120 || one)
            put(f, key, value);
        same += one;
    }
    struct key_ref k = commit_ref(f->c, slice_str("a")), cold;
    struct txn_op op = {.kind = TXN_CHECK, .k = k};
    struct txn t = {.ops = &op, .count = 1};
    assert_int_equal(commit_txn_cold(f->c, &t, &cold, 1), 1);
    free(value);
}

static enum err overtaken_get(struct store *s, enum store_space space, struct slice key,
                              bool memory_only, struct buf *out)
{
    struct fix *f = overtaking.f;
    enum err e = overtaking.real->get(s, space, key, memory_only, out);
    if (f && e == ERR_OK && slice_equal(key, slice_str("a"))) {
        overtaking.f = NULL;
        overtake(f);
    }
    return e;
}

static enum err open_overtaken(struct store **s, const struct store_options *o, struct errmsg *msg)
{
    enum err e = store_open_sim(s, o, msg);
    if (e)
        return e;
    overtaking.real = (*s)->ops;
    overtaking.ops = *(*s)->ops;
    overtaking.ops.get = overtaken_get;
    (*s)->ops = &overtaking.ops;
    return ERR_OK;
}

// Between a reader's look below and its locking of the shard the key is written, checkpointed and
// evicted: what the reader holds is old, though nothing newer is in memory.
static void test_overtaken_cold_read(void **state)
{
    struct fix *f = *state;
    put(f, "a", "old");
    f->o.memory_limit = 16u << 20;
    f->o.segment_size = 1u << 20;
    f->o.store_open = open_overtaken;
    restart(f);
    overtaking.f = f;
    struct got g;
    assert_int_equal(get(f, "a", &g), ERR_OK);
    assert_null(overtaking.f);
    assert_int_equal(g.version, 2);
    assert_int_equal(g.text[0], 'n');
}

// A request of a few megabytes must not hold a loop for seconds.
static void test_many_checks_of_one_key(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    struct txn_op *ops = calloc(LIMIT_TXN_OPS, sizeof *ops);
    for (size_t i = 0; i < LIMIT_TXN_OPS; i++)
        ops[i] = (struct txn_op){.kind = TXN_CHECK, .k = commit_ref(f->c, slice_str("a"))};
    ops[LIMIT_TXN_OPS / 2] = put_op(f, "a", "x");
    struct txn t = {.ops = ops, .count = LIMIT_TXN_OPS};
    uint64_t begin = os_mono_ns(os_real());
    assert_int_equal(txn(f, &t, &msg), ERR_OK);
    assert_true(os_mono_ns(os_real()) - begin < 2000000000u);
    expect(f, "a", "x");
    free(ops);
}

static void test_large_transaction(void **state)
{
    struct fix *f = *state;
    enum { N = 20000 };
    struct errmsg msg = {0};
    struct txn_op *ops = calloc(N, sizeof *ops);
    char(*names)[16] = calloc(N, sizeof *names);
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "k%d", i);
        ops[i] = put_op(f, names[i], names[i]);
        ops[i].has_version = true;
    }
    struct txn t = {.ops = ops, .count = N};
    assert_int_equal(txn(f, &t, &msg), ERR_OK);
    uint64_t dep;
    assert_int_equal(commit_txn(f->c, &t, &dep, &msg), ERR_CONFLICT);
    for (int i = 0; i < N; i++)
        assert_true(ops[i].conflict && ops[i].actual == 1);
    // A name twice is found in any size.
    for (size_t n = 2; n < N; n *= 7) {
        ops[n] = ops[n - 1];
        t.count = n + 1;
        assert_int_equal(commit_txn(f->c, &t, &dep, &msg), ERR_INVALID);
        ops[n] = put_op(f, names[n], names[n]);
    }
    restart(f);
    for (int i = 0; i < N; i += 97)
        expect(f, names[i], names[i]);
    free(ops);
    free(names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(test_deps),
        T(test_versions),
        T(test_conflicts_name_every_key),
        T(test_bad_transactions),
        T(test_add),
        T(test_expiry),
        T(test_endless_time_to_live),
        T(test_many_expire_at_once),
        T(test_idempotency),
        T(test_list_merges_memory_and_below),
        T(test_list_passes_what_goes),
        T(test_checkpoint_keeps_the_log_short),
        T(test_full_disk_refuses_and_loses_nothing),
        T(test_directories_that_are_refused),
        T(test_large_transaction),
        T(test_overtaken_cold_read),
        T(test_many_checks_of_one_key),
        T(test_least_memory),
        T(test_transaction_larger_than_its_shard),
#undef T
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
