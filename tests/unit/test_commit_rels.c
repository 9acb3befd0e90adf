// Relations in the commit room on the simulated machine, without threads: a model that is a plain
// table of who is in which list, against random transactions that mix relations with keys and logs,
// appends that fail, checkpoints that fail, evictions, and restarts. Crashes are in
// tests/crash/crash_commit.c.
#include "unit.h"

#include "base/limits.h"
#include "base/os_sim.h"
#include "commit/log.h"
#include "commit/rel_int.h"
#include "store/store_int.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    RELS = 5,
    FROMS = 24,
    MEMBERS = 900,
    EDITS = 3,
    GROUPS = 320, // of one edit
    GIVEN = 2000, // members of one transaction
    KEYS = 4,
};

static const struct {
    const char *name;
    struct relation_options options;
} rels[RELS] = {
    {"auto", {false, false, false}}, // made by its first addition
    {"rev", {true, false, false}},   {"rec.ent", {false, true, false}},
    {"both:1", {true, true, false}}, {"lax", {true, false, true}},
};

struct model {
    uint32_t stamp[RELS][FROMS][MEMBERS]; // 0: not there; else its place in the order of arrival
    uint32_t stamps;
    uint32_t keys[KEYS];
    uint64_t records;
};

struct fix {
    struct os_sim *sim;
    struct commit *c;
    struct commit_options o;
    uint64_t rng;
    uint64_t froms[FROMS], members[MEMBERS]; // both rising
    struct model m;
    bool small; // memory
    bool fatal;
    struct store_ops ops, store_ops; // the store's, with what goes on meanwhile, and its own
    bool meddles;                    // test_model wants that
    bool meddling;                   // it goes on now, and has nothing else going on meanwhile
    bool outdated;                   // a list changed while it was read
    unsigned serial;
};

static uint64_t below(struct fix *f, uint64_t n)
{
    f->rng ^= f->rng << 13;
    f->rng ^= f->rng >> 7;
    f->rng ^= f->rng << 17;
    return (f->rng >> 11) % n;
}

static void fatal(void *arg, const char *what)
{
    (void)what;
    ((struct fix *)arg)->fatal = true;
}

static enum err meddle_commit(struct store_writer *w, struct errmsg *msg);
static enum err meddle_get(struct store *s, enum store_space space, struct slice key,
                           bool memory_only, struct buf *out);
static struct fix *meddler;

static void open_it(struct fix *f)
{
    struct errmsg msg = {0};
    if (commit_open(&f->c, &f->o, NULL, &msg))
        fail_msg("open: %s", msg.text);
    meddler = f;
    f->ops = f->store_ops = *f->c->store->ops;
    f->ops.commit = meddle_commit;
    f->ops.get = meddle_get;
    f->c->store->ops = &f->ops;
    if (f->small) // whatever is clean goes
        f->c->table_limit = 1000;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// Some close to each other, some anywhere, both ends among them.
static void make_ids(struct fix *f, uint64_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ids[i] = i < n * 2 / 3 ? 5000 + i + i / 64 : below(f, UINT64_MAX) + (below(f, 2) << 63);
    ids[n - 1] = UINT64_MAX;
    ids[n - 2] = 0;
    qsort(ids, n, sizeof *ids, by_number);
    for (size_t i = 1; i < n; i++)
        assert_true(ids[i] > ids[i - 1]);
}

static void declare(struct fix *f)
{
    for (int r = 1; r < RELS; r++) {
        struct errmsg msg = {0};
        uint64_t created, dep;
        assert_ok(commit_relation_create(f->c, slice_str(rels[r].name), &rels[r].options, &created,
                                         &dep, &msg));
        assert_int_equal(created, 1000000);
        assert_true(dep > 0);
    }
}

static int set_up(void **state)
{
    struct fix *f = calloc(1, sizeof *f);
    f->sim = sim_new(7);
    const char *given = os_env("VARVE_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : 88172645463325252u;
    print_message("seed: VARVE_TEST_SEED=%" PRIu64 "\n", seed);
    f->rng = seed ? seed : 1; // xorshift stays at 0
    make_ids(f, f->froms, FROMS);
    make_ids(f, f->members, MEMBERS);
    f->o = (struct commit_options){
        .os = sim_os(f->sim),
        .dir = "/data",
        .store_open = store_open_sim,
        .segment_size = 1 << 18,
        .max_segments = 16,
        .memory_limit = 64u << 20,
        .max_key = 64,
        .max_value = 1u << 20,
        .on_fatal = fatal,
        .arg = f,
    };
    sim_set_wall_ms(f->sim, 1000000);
    open_it(f);
    struct log_policy p = {0};
    struct errmsg msg = {0};
    uint64_t created, dep;
    assert_ok(commit_keyspace_create(f->c, slice_str("ks"), &p, &created, &dep, &msg));
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
    assert_ok(commit_flush(f->c));
    if (commit_checkpoint(f->c, &msg))
        fail_msg("checkpoint: %s", msg.text);
}

static void fetched(void *arg, enum err e)
{
    *(enum err *)arg = e;
}

static enum err txn(struct fix *f, struct txn *t, uint64_t *dep, struct errmsg *msg)
{
    for (int i = 0; i < 200; i++) {
        enum err got = ERR_OK, e = commit_txn(f->c, t, dep, msg);
        if (e == ERR_COLD)
            assert_ok(commit_txn_fetch(f->c, t, fetched, &got));
        else if (e == ERR_FULL)
            checkpoint(f);
        else
            return e;
        assert_ok(got);
    }
    fail_msg("a transaction never ended");
    return ERR_AGAIN;
}

// ---- transactions

// One transaction and what it is made of.
struct made {
    struct txn t;
    struct txn_op ops[EDITS + 3];
    struct rel_edit edits[EDITS];
    struct rel_group groups[EDITS][GROUPS];
    int of[EDITS]; // relation
    uint16_t from[EDITS][GROUPS], member[GIVEN];
    uint64_t ids[GIVEN + 1];
    size_t given;
    struct log_input in;
    struct log_append append;
    uint32_t value;
    int key; // -1: none
    char idem[20];
};

static void make_group(struct fix *f, struct made *x, int e, size_t g, size_t most)
{
    struct rel_group *to = &x->groups[e][g];
    x->from[e][g] = (uint16_t)below(f, below(f, 3) ? 4 : FROMS); // a few get long
    *to = (struct rel_group){.from = f->froms[x->from[e][g]], .changed = 77};
    // Not aligned.
    to->members = (const uint8_t *)x->ids + 8 * x->given + 3;
    size_t n = below(f, 50) ? below(f, most + 1) : 0, run = below(f, MEMBERS);
    bool rises = below(f, 2);
    for (; n && x->given < GIVEN; n--) {
        size_t m = rises ? run++ % MEMBERS : below(f, MEMBERS);
        x->member[x->given] = (uint16_t)m;
        memcpy((uint8_t *)x->ids + 8 * x->given++ + 3, &f->members[m], 8);
        to->count++;
    }
}

static void make_edit(struct fix *f, struct made *x, int e, size_t most)
{
    struct rel_edit *to = &x->edits[e];
    bool adds = below(f, 5) < 3;
    x->of[e] = (int)below(f, RELS);
    *to = (struct rel_edit){.relation = slice_str(rels[x->of[e]].name), .groups = x->groups[e]};
    to->count = below(f, 8) ? 1 + below(f, 4) : 1 + below(f, GROUPS);
    for (size_t g = 0; g < to->count; g++)
        make_group(f, x, e, g, to->count > 10 ? 2 : most);
    x->ops[x->t.count++] = (struct txn_op){.kind = adds ? TXN_RELATE : TXN_UNRELATE, .edit = to};
}

static void make_txn(struct fix *f, struct made *x, size_t most)
{
    memset(x, 0, sizeof *x);
    x->t.ops = x->ops;
    int edits = 1 + (below(f, 3) ? 0 : (int)below(f, EDITS));
    for (int e = 0; e < edits; e++)
        make_edit(f, x, e, most);
    x->key = -1;
    if (below(f, 4) == 0) {
        static const char *const names[KEYS] = {"k0", "k1", "k2", "k3"};
        x->key = (int)below(f, KEYS);
        x->value = ++f->serial;
        x->ops[x->t.count++] = (struct txn_op){.kind = TXN_PUT,
                                               .k = commit_ref(f->c, slice_str(names[x->key])),
                                               .value = slice_of(&x->value, 4)};
    }
    if (below(f, 6) == 0) {
        x->in = (struct log_input){.bytes = slice_str("x"), .nonce = NONCE_NONE};
        x->append = (struct log_append){
            .name = {slice_str("ks"), slice_str("log")}, .records = &x->in, .count = 1};
        x->ops[x->t.count++] = (struct txn_op){.kind = TXN_APPEND, .append = &x->append};
    }
    if (below(f, 5) == 0) {
        snprintf(x->idem, sizeof x->idem, "once-%u", ++f->serial);
        x->t.idempotency = slice_str(x->idem);
    }
}

// What the model says that an edit changes, while it changes.
static uint64_t model_edit(struct fix *f, struct made *x, int e, bool adds, size_t *at)
{
    uint64_t sum = 0;
    uint64_t changed[GROUPS] = {0};
    for (size_t g = 0; g < x->edits[e].count; g++) {
        uint32_t *list = f->m.stamp[x->of[e]][x->from[e][g]];
        for (uint32_t i = 0; i < x->groups[e][g].count; i++) {
            uint32_t *stamp = &list[x->member[(*at)++]];
            changed[g] += adds ? !*stamp : *stamp != 0;
            *stamp = !adds ? 0 : *stamp ? *stamp : ++f->m.stamps;
        }
        sum += changed[g];
    }
    // Groups of one list take effect in the order in which they stand.
    for (size_t g = 0; g < x->edits[e].count; g++)
        assert_int_equal(x->groups[e][g].changed, changed[g]);
    return sum;
}

static void model_txn(struct fix *f, struct made *x)
{
    size_t at = 0;
    for (size_t i = 0; i < x->t.count; i++) {
        struct txn_op *op = &x->t.ops[i];
        if (op->kind == TXN_RELATE || op->kind == TXN_UNRELATE) {
            int e = (int)(op->edit - x->edits);
            uint64_t sum = model_edit(f, x, e, op->kind == TXN_RELATE, &at);
            assert_int_equal(op->number, sum);
            assert_int_equal(op->edit->changed, sum);
        }
    }
    if (x->key >= 0)
        f->m.keys[x->key] = x->value;
    if (x->append.count)
        f->m.records++;
}

static bool only_relaxed(const struct made *x)
{
    bool all = x->key < 0 && !x->append.count && !x->t.idempotency.n;
    for (size_t i = 0; i < x->t.count; i++)
        all = all && x->t.ops[i].edit && x->t.ops[i].edit->relation.n == 3 &&
              !memcmp(x->t.ops[i].edit->relation.p, "lax", 3);
    return all;
}

static void change_some(struct fix *f, size_t most)
{
    static struct made x;
    struct errmsg msg = {0};
    uint64_t dep;
    make_txn(f, &x, most);
    x.t.relaxed = below(f, 10) == 0;
    enum err e = txn(f, &x.t, &dep, &msg);
    if (e)
        fail_msg("transaction: %s", msg.text);
    model_txn(f, &x);
    if (only_relaxed(&x) || x.t.relaxed)
        assert_int_equal(dep, 0);
    else if (x.t.seq)
        assert_true(dep == x.t.seq || (dep < x.t.seq && !x.t.idempotency.n));
    if (x.t.idempotency.n) { // its first result again
        int64_t first = x.ops[0].number;
        if (below(f, 2))
            checkpoint(f);
        x.ops[0].number = -1;
        assert_ok(txn(f, &x.t, &dep, &msg));
        assert_true(x.t.replayed);
        assert_int_equal(x.ops[0].number, first);
        assert_int_equal(x.edits[0].changed, first);
    }
}

static void conflict_some(struct fix *f)
{
    static struct made x;
    struct errmsg msg = {0};
    uint64_t dep;
    make_txn(f, &x, 30);
    x.ops[x.t.count++] = (struct txn_op){
        .kind = TXN_CHECK, .k = commit_ref(f->c, slice_str("no such key")), .version = 5};
    assert_err(txn(f, &x.t, &dep, &msg), ERR_CONFLICT);
    for (size_t g = 0; g < x.edits[0].count; g++)
        assert_int_equal(x.groups[0][g].changed, 0);
    assert_int_equal(x.edits[0].changed, 0);
}

// Until the log has no room. What is refused is as if it had not been.
static void fail_appends(struct fix *f)
{
    static struct made x;
    struct errmsg msg = {0};
    uint64_t dep;
    enum err e = ERR_OK;
    int refused = 0;
    assert_ok(commit_flush(f->c));
    sim_set_capacity(f->sim, 0);
    for (int i = 0; i < 2000 && refused < 5; i++) {
        make_txn(f, &x, 400);
        do {
            enum err got = ERR_OK;
            e = commit_txn(f->c, &x.t, &dep, &msg);
            if (e == ERR_COLD)
                assert_ok(commit_txn_fetch(f->c, &x.t, fetched, &got));
            assert_ok(got);
        } while (e == ERR_COLD);
        if (e == ERR_OK)
            model_txn(f, &x);
        else if (e == ERR_NO_SPACE)
            refused++;
        else
            break; // it is full: no checkpoint can be made now
        if (commit_flush(f->c))
            break;
    }
    sim_set_capacity(f->sim, UINT64_MAX);
    assert_ok(commit_flush(f->c));
    assert_false(f->fatal);
}

static void fail_checkpoint(struct fix *f)
{
    struct errmsg msg = {0};
    assert_ok(commit_flush(f->c));
    if (wal_last(f->c->wal) == f->c->mark.seq)
        return; // nothing would be written
    sim_fail(f->sim, SIM_PWRITE, 1, ERR_NO_SPACE, false);
    assert_err(commit_checkpoint(f->c, &msg), ERR_NO_SPACE);
    atomic_store(&f->c->checkpoint_error, ERR_OK); // writes are not refused for it
}

// ---- what goes on while a checkpoint is written, and while a list is read below

// Adds or removes one member, unless there is no room or the list is not in memory.
static void change_one(struct fix *f, int r, size_t from)
{
    size_t m = below(f, MEMBERS);
    uint32_t *stamp = &f->m.stamp[r][from][m];
    struct rel_group g = {f->froms[from], (const uint8_t *)&f->members[m], 1, 0};
    struct rel_edit edit = {.relation = slice_str(rels[r].name), .groups = &g, .count = 1};
    struct txn_op op = {.kind = *stamp ? TXN_UNRELATE : TXN_RELATE, .edit = &edit};
    struct txn t = {.ops = &op, .count = 1};
    struct errmsg msg;
    uint64_t dep;
    enum err e = commit_txn(f->c, &t, &dep, &msg), got = ERR_OK;
    if (e == ERR_COLD && !commit_txn_fetch(f->c, &t, fetched, &got) && !got)
        e = commit_txn(f->c, &t, &dep, &msg);
    if (e)
        return;
    assert_int_equal(g.changed, 1);
    *stamp = *stamp ? 0 : ++f->m.stamps;
}

static enum err meddle_commit(struct store_writer *w, struct errmsg *msg)
{
    struct fix *f = meddler;
    bool mine = f->meddles && !f->meddling;
    f->meddling = f->meddling || mine;
    for (int i = 0; mine && i < 3; i++) // captured, not yet visible
        change_one(f, (int)below(f, RELS), below(f, 5));
    enum err e = f->store_ops.commit(w, msg);
    for (int i = 0; mine && i < 3; i++) // visible, and nobody knows yet
        change_one(f, (int)below(f, RELS), below(f, 5));
    f->meddling = !mine && f->meddling;
    return e;
}

// The list that was read changes, goes below and is evicted before what was read is put in place.
static void outdate(struct fix *f, struct slice key)
{
    struct errmsg msg = {0};
    struct rels_row row;
    uint32_t table;
    size_t from = 0;
    if (!rel_row_of(key, (struct slice){NULL, 0}, &table, &row) || table % 4 != REL_FORWARD)
        return;
    while (from < FROMS && f->froms[from] != rels_from(f->c->rels, row.hash))
        from++;
    struct slice name = relation_name(relation_of_id(f->c, table / 4));
    int r = 0;
    while (r < RELS && !slice_equal(name, slice_str(rels[r].name)))
        r++;
    if (from == FROMS || r == RELS || commit_flush(f->c))
        return;
    change_one(f, r, from);
    ERR_IGNORE(commit_flush(f->c));
    if (commit_checkpoint(f->c, &msg))
        return;
    rels_lock(f->c->rels, rels_shard(row.hash));
    (void)rels_evict(f->c->rels, rels_shard(row.hash), 0);
    (void)rels_evict(f->c->rels, rels_shard(row.hash), 0);
    rels_unlock(f->c->rels, rels_shard(row.hash));
}

static enum err meddle_get(struct store *s, enum store_space space, struct slice key,
                           bool memory_only, struct buf *out)
{
    struct fix *f = meddler;
    enum err e = f->store_ops.get(s, space, key, memory_only, out);
    // A read that may block holds no lock.
    if (memory_only || space != STORE_RELS || !f->meddles || f->meddling || below(f, 8))
        return e;
    f->meddling = f->outdated = true;
    outdate(f, key);
    f->meddling = false;
    return e;
}

// ---- reading

static int rel_of(struct fix *f, bool reverse)
{
    int r;
    do
        r = (int)below(f, RELS);
    while (reverse && !rels[r].options.reverse);
    return r;
}

// The model's list in rising order. Of reverse lists `which` is a member.
static size_t model_list(struct fix *f, int r, bool reverse, size_t which, uint64_t *ids)
{
    size_t n = 0;
    for (size_t i = 0; i < (reverse ? FROMS : MEMBERS); i++)
        if (reverse ? f->m.stamp[r][i][which] : f->m.stamp[r][which][i])
            ids[n++] = reverse ? f->froms[i] : f->members[i];
    return n;
}

static struct rel_ref ref(struct fix *f, int r, bool reverse, size_t which)
{
    struct rel_ref got;
    struct errmsg msg = {0};
    uint64_t from = reverse ? f->members[which] : f->froms[which];
    if (commit_rel_ref(f->c, slice_str(rels[r].name), from, reverse, &got, &msg))
        fail_msg("ref: %s", msg.text);
    commit_rel_prefetch_slot(f->c, &got);
    commit_rel_prefetch_list(f->c, &got);
    return got;
}

// ERR_AGAIN: the list is not any more what the model said before.
#define WARMLY(f, e, refs, n, call)                                       \
    do {                                                                  \
        enum err got_ = ERR_OK;                                           \
        (e) = (call);                                                     \
        if ((e) != ERR_COLD)                                              \
            break;                                                        \
        assert_ok(commit_rel_fetch((f)->c, (refs), (n), fetched, &got_)); \
        assert_ok(got_);                                                  \
        if ((f)->outdated)                                                \
            (e) = ERR_AGAIN;                                              \
    } while ((e) == ERR_COLD)

static int by_stamp_falling(const void *a, const void *b)
{
    return by_number(b, a);
}

static void model_newest(struct fix *f, int r, size_t which, uint64_t *ids, size_t *n)
{
    uint64_t order[MEMBERS];
    *n = 0;
    for (size_t i = 0; i < MEMBERS; i++)
        if (f->m.stamp[r][which][i])
            order[(*n)++] = (uint64_t)f->m.stamp[r][which][i] << 32 | i;
    qsort(order, *n, sizeof *order, by_stamp_falling);
    for (size_t i = 0; i < *n; i++)
        ids[i] = f->members[(uint32_t)order[i]];
}

static void check_pages(struct fix *f, int r, bool reverse, size_t which, enum rel_order order)
{
    uint64_t want[MEMBERS], got[MEMBERS];
    size_t n = model_list(f, r, reverse, which, want), at = 0;
    struct rel_ref one = ref(f, r, reverse, which);
    struct rel_page_query q = {.order = order, .max = 1 + below(f, below(f, 2) ? 10 : 1000)};
    if (order == REL_NEWEST)
        model_newest(f, r, which, want, &n);
    for (size_t i = 0; order == REL_FALLING && i < n / 2; i++) {
        uint64_t t = want[i];
        want[i] = want[n - 1 - i];
        want[n - 1 - i] = t;
    }
    struct rel_page page = {.more = true};
    f->outdated = false;
    while (page.more) {
        struct buf b;
        struct errmsg msg = {0};
        uint64_t dep;
        enum err e;
        buf_init(&b, 1 << 20);
        assert_ok(buf_append(&b, "abc", 3)); // what is there stays
        WARMLY(f, e, &one, 1, commit_rel_page(f->c, &one, &q, &b, &page, &dep, &msg));
        if (e == ERR_AGAIN) {
            buf_release(&b);
            return;
        }
        if (e)
            fail_msg("page: %s", msg.text);
        assert_int_equal(page.total, n);
        assert_int_equal(buf_len(&b), 3 + 8 * page.count);
        assert_true(page.count <= q.max && at + page.count <= n);
        assert_int_equal(page.more, at + page.count < n);
        if (page.count)
            memcpy(got, buf_head(&b) + 3, 8 * page.count);
        for (size_t i = 0; i < page.count; i++)
            assert_int_equal(got[i], want[at++]);
        q.has_after = true;
        q.after = page.next;
        buf_release(&b);
    }
    assert_int_equal(at, n);
}

static void check_contains(struct fix *f, int r, bool reverse, size_t which)
{
    uint64_t ids[300], list[MEMBERS], n, dep;
    uint8_t found[300];
    size_t count = below(f, 300), has = model_list(f, r, reverse, which, list);
    for (size_t i = 0; i < count; i++)
        ids[i] = has && below(f, 2) ? list[below(f, has)] : f->members[below(f, MEMBERS)];
    struct rel_ref one = ref(f, r, reverse, which);
    enum err e;
    f->outdated = false;
    WARMLY(f, e, &one, 1,
           commit_rel_contains(f->c, &one, (const uint8_t *)ids, count, found, &dep));
    if (e == ERR_AGAIN)
        return;
    assert_ok(e);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(found[i],
                         has && bsearch(&ids[i], list, has, sizeof *list, by_number) != NULL);
    WARMLY(f, e, &one, 1, commit_rel_count(f->c, &one, &n, &dep));
    if (e == ERR_AGAIN)
        return;
    assert_ok(e);
    assert_int_equal(n, has);
}

static void check_list(struct fix *f)
{
    bool reverse = below(f, 2);
    int r = rel_of(f, reverse);
    size_t which = below(f, reverse ? MEMBERS : below(f, 2) ? 4 : FROMS);
    bool recent = rels[r].options.recent && !reverse;
    check_pages(f, r, reverse, which, (enum rel_order)below(f, recent ? 3 : 2));
    check_contains(f, r, reverse, which);
}

// Which members are in all, any, or only the first of some lists.
static void check_combination(struct fix *f)
{
    struct rel_ref refs[5];
    uint8_t in[MEMBERS] = {0}, first[MEMBERS] = {0};
    size_t n = 1 + below(f, 5), at = 0;
    enum rel_combine how = (enum rel_combine)below(f, 3);
    for (size_t i = 0; i < n; i++) {
        int r = (int)below(f, RELS);
        size_t which = below(f, 5);
        refs[i] = ref(f, r, false, which);
        for (size_t m = 0; m < MEMBERS; m++) {
            bool there = f->m.stamp[r][which][m] != 0;
            in[m] = (uint8_t)(in[m] + there);
            first[m] = i == 0 ? there : first[m];
        }
    }
    size_t max = 1 + below(f, below(f, 2) ? 10 : 1000);
    bool has_after = false;
    uint64_t after = 0;
    struct rel_page page = {.more = true};
    f->outdated = false;
    while (page.more) {
        struct buf b;
        uint64_t dep, id;
        enum err e;
        buf_init(&b, 1 << 20);
        WARMLY(f, e, refs, n,
               commit_rel_combine(f->c, how, refs, n, has_after, after, max, &b, &page, &dep));
        if (e == ERR_AGAIN) {
            buf_release(&b);
            return;
        }
        assert_ok(e);
        assert_int_equal(buf_len(&b), 8 * page.count);
        assert_true(page.count <= max);
        for (size_t i = 0; i < page.count; i++, at++) {
            while (at < MEMBERS && !(how == REL_INTERSECT ? in[at] == n
                                     : how == REL_UNION   ? in[at] > 0
                                                          : first[at] && in[at] == 1))
                at++;
            assert_true(at < MEMBERS);
            memcpy(&id, buf_head(&b) + 8 * i, 8);
            assert_int_equal(id, f->members[at]);
        }
        has_after = true;
        after = page.next;
        buf_release(&b);
    }
    for (; at < MEMBERS; at++)
        assert_false(how == REL_INTERSECT ? in[at] == n
                     : how == REL_UNION   ? in[at] > 0
                                          : first[at] && in[at] == 1);
}

struct listed {
    uint64_t from[MEMBERS], count[MEMBERS];
    size_t n, stop;
};

static bool list_one(void *arg, uint64_t from, uint64_t members)
{
    struct listed *l = arg;
    assert_true(l->n < MEMBERS);
    l->from[l->n] = from;
    l->count[l->n++] = members;
    return l->n < l->stop;
}

static void check_froms(struct fix *f)
{
    bool reverse = below(f, 2);
    int r = rel_of(f, reverse);
    struct listed l = {.stop = SIZE_MAX};
    struct errmsg msg = {0};
    uint64_t dep, list[MEMBERS];
    size_t limit = 1 + below(f, below(f, 2) ? 5 : 1000), before;
    do {
        before = l.n;
        enum err e = commit_rel_froms(f->c, slice_str(rels[r].name), reverse, l.n > 0,
                                      l.n ? l.from[l.n - 1] : 0, limit, list_one, &l, &dep, &msg);
        if (e)
            fail_msg("froms: %s", msg.text);
        assert_true(l.n - before <= limit);
    } while (l.n - before == limit);
    size_t all = 0;
    for (size_t which = 0; which < (reverse ? MEMBERS : FROMS); which++) {
        size_t has = model_list(f, r, reverse, which, list), i = 0;
        while (i < l.n && l.from[i] != (reverse ? f->members[which] : f->froms[which]))
            i++;
        assert_int_equal(i<l.n, has> 0);
        if (has)
            assert_int_equal(l.count[i], has);
        all += has > 0;
    }
    assert_int_equal(all, l.n);
}

static void emit(void *arg, const struct value_view *v)
{
    memcpy(arg, v->value.p, 4);
}

static void check_others(struct fix *f)
{
    static const char *const names[KEYS] = {"k0", "k1", "k2", "k3"};
    uint64_t dep;
    for (int k = 0; k < KEYS; k++) {
        struct key_ref key = commit_ref(f->c, slice_str(names[k]));
        uint32_t value = 0;
        enum err e, got = ERR_OK;
        while ((e = commit_get(f->c, &key, emit, &value, &dep)) == ERR_COLD)
            assert_ok(commit_fetch(f->c, &key, 1, fetched, &got));
        assert_err(e, f->m.keys[k] ? ERR_OK : ERR_MISSING);
        assert_int_equal(value, f->m.keys[k]);
    }
    struct log_name name = {slice_str("ks"), slice_str("log")};
    struct log_meta meta = {0};
    struct errmsg msg = {0};
    enum err e = commit_log_meta(f->c, &name, &meta, &dep, &msg);
    assert_err(e, f->m.records ? ERR_OK : ERR_MISSING);
    assert_int_equal(meta.records, f->m.records);
}

// Answers about what is not durable say so; about what is, not.
static void check_deps(struct fix *f)
{
    size_t from = below(f, FROMS);
    uint64_t id = below(f, UINT64_MAX), n, dep, made;
    struct errmsg msg = {0};
    f->meddles = false; // later changes would be what answers rest on
    for (int r = 0; r < RELS; r++)
        for (int adds = 1; adds >= 0; adds--) {
            struct rel_group g = {f->froms[from], (const uint8_t *)&id, 1, 0};
            struct rel_edit edit = {.relation = slice_str(rels[r].name), .groups = &g, .count = 1};
            struct txn_op op = {.kind = adds ? TXN_RELATE : TXN_UNRELATE, .edit = &edit};
            struct txn t = {.ops = &op, .count = 1};
            assert_ok(txn(f, &t, &made, &msg));
            assert_int_equal(g.changed, 1);
            bool relaxed = rels[r].options.relaxed;
            assert_int_equal(made, relaxed ? 0 : t.seq);
            for (int reverse = 0; reverse <= rels[r].options.reverse; reverse++) {
                struct rel_ref one;
                assert_ok(commit_rel_ref(f->c, edit.relation, reverse ? id : f->froms[from],
                                         reverse, &one, &msg));
                assert_ok(commit_rel_count(f->c, &one, &n, &dep));
                assert_true(relaxed ? dep == 0 : dep >= t.seq);
            }
            if (rels[r].options.recent) {
                struct rel_ref one = ref(f, r, false, from);
                struct rel_page_query q = {.order = REL_NEWEST, .max = 1};
                struct rel_page page;
                struct buf b;
                buf_init(&b, 100);
                assert_ok(commit_rel_page(f->c, &one, &q, &b, &page, &dep, &msg));
                assert_true(dep >= t.seq);
                if (adds)
                    assert_memory_equal(buf_head(&b), &id, 8);
                buf_release(&b);
            }
            // Again: nothing changes, and the answer rests on the change before.
            assert_ok(txn(f, &t, &dep, &msg));
            assert_true(g.changed == 0 && t.seq == 0 && op.number == 0);
            assert_true(relaxed ? dep == 0 : dep >= made);
            assert_ok(commit_flush(f->c));
            assert_ok(txn(f, &t, &dep, &msg));
            assert_int_equal(dep, 0);
            f->m.stamps++;
        }
    f->meddles = true;
}

static void restart(struct fix *f)
{
    struct commit_recovery found;
    struct errmsg msg = {0};
    f->small = below(f, 2);
    if (below(f, 2)) {
        assert_ok(commit_flush(f->c));
        commit_abandon(f->c); // recovers from the log
    } else {
        assert_ok(commit_close(f->c));
    }
    f->c = NULL;
    if (below(f, 4) == 0 && commit_check(&f->o, &found, &msg))
        fail_msg("check: %s", msg.text);
    open_it(f);
}

static void test_model(void **state)
{
    struct fix *f = *state;
    declare(f);
    f->meddles = true;
    for (int round = 0; round < 2500; round++) {
        switch (below(f, 24)) {
        case 0:
            checkpoint(f);
            break;
        case 1:
            if (below(f, 3) == 0)
                restart(f);
            break;
        case 2:
            if (below(f, 8) == 0)
                fail_appends(f);
            break;
        case 3:
            fail_checkpoint(f);
            break;
        case 4:
            conflict_some(f);
            break;
        case 5:
            check_froms(f);
            break;
        case 6:
            check_deps(f);
            break;
        case 7:
            check_others(f);
            tend_rels(f->c);
            break;
        case 8:
        case 9:
            check_combination(f);
            break;
        case 10:
        case 11:
        case 12:
        case 13:
        case 14:
            change_some(f, below(f, 3) ? 4 : 500);
            break;
        default:
            check_list(f);
        }
    }
    for (int r = 0; r < RELS; r++) // everything, once
        for (size_t from = 0; from < FROMS; from++)
            check_pages(f, r, false, from, REL_RISING);
    assert_false(f->fatal);
}

// ---- single cases

static enum err relate(struct fix *f, const char *name, enum txn_kind kind, uint64_t from,
                       const uint64_t *ids, uint32_t n, uint64_t *dep, struct errmsg *msg)
{
    struct rel_group g = {from, (const uint8_t *)ids, n, 0};
    struct rel_edit edit = {.relation = slice_str(name), .groups = &g, .count = 1};
    struct txn_op op = {.kind = (uint8_t)kind, .edit = &edit};
    struct txn t = {.ops = &op, .count = 1};
    return txn(f, &t, dep, msg);
}

static void test_relations(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    struct relation_view v;
    uint64_t dep, created, one = 1;
    struct relation_options o = {.recent = true};
    assert_err(commit_relation_get(f->c, slice_str("new"), &v, &dep, &msg), ERR_MISSING);
    assert_err(relate(f, "", TXN_RELATE, 1, &one, 1, &dep, &msg), ERR_INVALID);
    assert_err(relate(f, "-a", TXN_RELATE, 1, &one, 1, &dep, &msg), ERR_INVALID);
    assert_non_null(strstr(msg.text, "operation 0"));
    char name[LIMIT_RELATION_NAME + 2] = {0};
    memset(name, 'n', LIMIT_RELATION_NAME + 1);
    assert_err(relate(f, name, TXN_RELATE, 1, &one, 1, &dep, &msg), ERR_INVALID);
    // Nothing to remove where there is nothing.
    assert_ok(relate(f, "new", TXN_UNRELATE, 1, &one, 1, &dep, &msg));
    assert_int_equal(dep, 0);
    assert_err(commit_relation_get(f->c, slice_str("new"), &v, &dep, &msg), ERR_MISSING);
    assert_ok(relate(f, "new", TXN_RELATE, 1, &one, 1, &dep, &msg));
    assert_ok(commit_relation_get(f->c, slice_str("new"), &v, &dep, &msg));
    assert_true(v.created_ms == 1000000 && !v.options.recent && dep > 0);
    assert_int_equal(v.resident_members, 1);
    assert_err(commit_relation_create(f->c, slice_str("new"), &o, &created, &dep, &msg),
               ERR_EXISTS);
    assert_non_null(strstr(msg.text, "recent no"));
    assert_int_equal(created, 1000000);
    assert_ok(commit_relation_create(f->c, slice_str("a"), &o, &created, &dep, &msg));
    assert_ok(commit_flush(f->c));
    for (int i = 0; i < 3; i++) { // from memory, from the log, from below
        assert_ok(commit_relation_get(f->c, slice_str("a"), &v, &dep, &msg));
        assert_true(v.options.recent && !v.options.reverse && dep == 0);
        if (i == 0)
            commit_abandon(f->c);
        else
            assert_ok(commit_close(f->c));
        f->c = NULL;
        open_it(f);
    }
}

static bool name_one(void *arg, const struct relation_view *v)
{
    char *text = arg;
    size_t n = strlen(text);
    assert_true(n + v->name.n + 2 < 100);
    memcpy(text + n, v->name.p, v->name.n);
    memcpy(text + n + v->name.n, " ", 2);
    return true;
}

static void test_list_relations(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    uint64_t dep, created;
    char text[100] = "";
    static const char *const names[] = {"c", "a", "bb", "b"};
    struct relation_options o = {0};
    for (int i = 0; i < 4; i++)
        assert_ok(commit_relation_create(f->c, slice_str(names[i]), &o, &created, &dep, &msg));
    assert_ok(commit_relation_list(f->c, slice_str(""), 10, name_one, text, &dep));
    assert_string_equal(text, "a b bb c ");
    assert_true(dep > 0);
    text[0] = 0;
    assert_ok(commit_relation_list(f->c, slice_str("a"), 2, name_one, text, &dep));
    assert_string_equal(text, "b bb ");
    for (unsigned i = 4; i < LIMIT_RELATIONS; i++) {
        snprintf(text, sizeof text, "r%u", i);
        assert_ok(commit_relation_create(f->c, slice_str(text), &o, &created, &dep, &msg));
    }
    assert_err(commit_relation_create(f->c, slice_str("more"), &o, &created, &dep, &msg),
               ERR_TOO_BIG);
    assert_err(relate(f, "more", TXN_RELATE, 1, &created, 1, &dep, &msg), ERR_TOO_BIG);
    assert_ok(relate(f, "r999", TXN_RELATE, 1, &created, 1, &dep, &msg));
    checkpoint(f);
    assert_ok(commit_close(f->c));
    open_it(f);
    assert_ok(relate(f, "r999", TXN_RELATE, 1, &created, 1, &dep, &msg));
}

static void test_bad(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    uint64_t dep, one = 1;
    struct rel_ref r;
    struct rel_page page;
    struct buf b;
    buf_init(&b, 100);
    declare(f);
    assert_ok(relate(f, "auto", TXN_RELATE, 1, &one, 1, &dep, &msg));
    assert_err(commit_rel_ref(f->c, slice_str("auto"), 1, true, &r, &msg), ERR_INVALID);
    assert_err(commit_rel_ref(f->c, slice_str("a b"), 1, false, &r, &msg), ERR_INVALID);
    struct rel_page_query q = {.order = REL_NEWEST, .max = 1};
    assert_ok(commit_rel_ref(f->c, slice_str("auto"), 1, false, &r, &msg));
    assert_err(commit_rel_page(f->c, &r, &q, &b, &page, &dep, &msg), ERR_INVALID);
    assert_non_null(strstr(msg.text, "order of arrival"));
    q.order = REL_RISING;
    q.max = 0;
    assert_err(commit_rel_page(f->c, &r, &q, &b, &page, &dep, &msg), ERR_INVALID);
    assert_ok(commit_rel_ref(f->c, slice_str("both:1"), 1, true, &r, &msg));
    q = (struct rel_page_query){.order = REL_NEWEST, .max = 1};
    assert_err(commit_rel_page(f->c, &r, &q, &b, &page, &dep, &msg), ERR_INVALID);
    struct rel_edit edit = {.relation = slice_str("auto")};
    struct txn_op op = {.kind = TXN_RELATE, .edit = &edit};
    struct txn t = {.ops = &op, .count = 1};
    assert_err(commit_txn(f->c, &t, &dep, &msg), ERR_INVALID); // no groups
    struct rel_group two[2] = {{1, NULL, LIMIT_REL_MEMBERS, 0}, {2, NULL, 1, 0}};
    edit.groups = two;
    edit.count = 2;
    assert_err(commit_txn(f->c, &t, &dep, &msg), ERR_TOO_BIG);
    // A full buffer takes nothing.
    uint64_t many[20];
    for (uint64_t i = 0; i < 20; i++)
        many[i] = i;
    assert_ok(relate(f, "auto", TXN_RELATE, 2, many, 20, &dep, &msg));
    assert_ok(commit_rel_ref(f->c, slice_str("auto"), 2, false, &r, &msg));
    q = (struct rel_page_query){.max = 20};
    assert_err(commit_rel_page(f->c, &r, &q, &b, &page, &dep, &msg), ERR_TOO_BIG);
    assert_int_equal(buf_len(&b), 0);
    // A relation that does not exist has empty lists.
    assert_ok(commit_rel_ref(f->c, slice_str("none"), 2, true, &r, &msg));
    assert_ok(commit_rel_page(f->c, &r, &q, &b, &page, &dep, &msg));
    assert_true(page.total == 0 && page.count == 0 && !page.more && dep == 0);
    buf_release(&b);
}

// As many as one transaction may have: added, read, removed, also by recovery.
static void test_bulk(void **state)
{
    struct fix *f = *state;
    enum { LISTS = 20000, EACH = 10 };
    struct errmsg msg = {0};
    uint64_t dep, *ids = malloc(sizeof *ids * LISTS * EACH);
    struct rel_group *g = calloc(LISTS, sizeof *g);
    assert_true(ids && g);
    declare(f);
    for (uint64_t i = 0; i < (uint64_t)LISTS * EACH; i++)
        ids[i] = i * 0x9e3779b97f4a7c15u >> 40;
    for (int i = 0; i < LISTS; i++)
        g[i] = (struct rel_group){(uint64_t)i * 977, (const uint8_t *)(ids + i * EACH), EACH, 0};
    struct rel_edit edit = {.relation = slice_str("both:1"), .groups = g, .count = LISTS};
    struct txn_op op = {.kind = TXN_RELATE, .edit = &edit};
    struct txn t = {.ops = &op, .count = 1};
    for (int i = 0; i < 2; i++) {
        assert_ok(txn(f, &t, &dep, &msg));
        assert_int_equal(edit.changed, i ? 0 : LISTS * EACH); // no two of a group are the same
        assert_ok(commit_flush(f->c));
        commit_abandon(f->c);
        open_it(f);
    }
    struct rel_ref r;
    uint64_t n;
    assert_ok(commit_rel_ref(f->c, edit.relation, 977, false, &r, &msg));
    assert_ok(commit_rel_count(f->c, &r, &n, &dep));
    assert_int_equal(n, EACH);
    checkpoint(f);
    assert_ok(commit_close(f->c));
    open_it(f);
    op.kind = TXN_UNRELATE;
    assert_ok(txn(f, &t, &dep, &msg));
    assert_int_equal(edit.changed, LISTS * EACH);
    checkpoint(f);
    struct store_iter *it;
    uint8_t from[] = {REL_ROW_LIST}, to[] = {REL_ROW_LIST + 1};
    assert_ok(store_iter_range(f->c->store, STORE_RELS, slice_of(from, 1), slice_of(to, 1), &it));
    assert_false(store_iter_valid(it)); // nothing is left below
    store_iter_free(it);
    free(ids);
    free(g);
}

// A row that is wrong is found.
static void damage(struct fix *f, struct slice key, struct slice value)
{
    struct store *s = f->c->store;
    struct store_writer *w;
    struct errmsg msg = {0};
    struct buf was;
    buf_init(&was, 1 << 20);
    enum err there = store_get(s, STORE_RELS, key, false, &was);
    assert_ok(store_begin(s, &w));
    assert_ok(store_add(w, STORE_RELS, key, value));
    assert_ok(store_commit(w, &msg));
    assert_err(check_rels(f->c, &msg), ERR_DAMAGED);
    assert_non_null(strstr(msg.text, "relation"));
    assert_ok(store_begin(s, &w));
    assert_ok(store_add(w, STORE_RELS, key, there ? (struct slice){NULL, 0} : buf_slice(&was)));
    assert_ok(store_commit(w, &msg));
    assert_ok(check_rels(f->c, &msg));
    buf_release(&was);
}

// The first chunk of a long list begins with 0: one that does not is not loaded.
static void move_first_chunk(struct fix *f, uint64_t from)
{
    struct rel_ref r;
    struct store_writer *w;
    struct errmsg msg = {0};
    uint8_t key[REL_ROW_KEY];
    struct buf was;
    buf_init(&was, 1 << 20);
    assert_ok(commit_rel_ref(f->c, slice_str("rev"), from, false, &r, &msg));
    assert_ok(
        store_get(f->c->store, STORE_RELS, rel_chunk_key(key, r.table, r.hash, 0), false, &was));
    assert_ok(store_begin(f->c->store, &w));
    assert_ok(
        store_add(w, STORE_RELS, rel_chunk_key(key, r.table, r.hash, 0), (struct slice){NULL, 0}));
    assert_ok(store_add(w, STORE_RELS, rel_chunk_key(key, r.table, r.hash, 1), buf_slice(&was)));
    assert_ok(store_commit(w, &msg));
    assert_err(check_rels(f->c, &msg), ERR_DAMAGED);
    buf_release(&was);
}

static void test_check_finds(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    struct commit_recovery found;
    uint64_t dep, ids[2000];
    for (uint64_t i = 0; i < 2000; i++)
        ids[i] = i * i * 1000;
    declare(f);
    assert_ok(relate(f, "rev", TXN_RELATE, 7, ids, 2000, &dep, &msg)); // a long list
    assert_ok(relate(f, "rev", TXN_RELATE, 8, ids, 5, &dep, &msg));
    assert_ok(relate(f, "rev", TXN_RELATE, 9, ids + 1, 1999, &dep, &msg));
    assert_ok(commit_close(f->c));
    f->c = NULL;
    assert_ok(commit_check(&f->o, &found, &msg));
    open_it(f);
    struct rel_ref r;
    assert_ok(commit_rel_ref(f->c, slice_str("rev"), 7, false, &r, &msg));
    uint8_t key[REL_ROW_KEY], head[REL_ROW_HEAD] = {255};
    store64(head + 1, 1999);
    struct slice none = {NULL, 0}, text = slice_str("abcdef");
    damage(f, rel_list_key(key, r.table, r.hash), slice_of(head, sizeof head)); // another count
    damage(f, rel_list_key(key, r.table, r.hash), none);                        // no head
    damage(f, rel_list_key(key, r.table, r.hash), slice_of("\0\0\0", 3));       // not long
    damage(f, rel_chunk_key(key, r.table, r.hash, 0), none);
    damage(f, rel_chunk_key(key, r.table, r.hash + 1, 0), slice_of("\0\0\0", 3)); // no head
    damage(f, rel_list_key(key, 4 * 99, r.hash), slice_of("\0\0\0", 3));          // no relation
    damage(f, rel_list_key(key, r.table + 1, r.hash), text);                      // no block
    damage(f, rel_relation_key(key, 1), text);
    damage(f, rel_relation_key(key, 1), none);
    move_first_chunk(f, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_model, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_relations, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_list_relations, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bulk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_check_finds, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
