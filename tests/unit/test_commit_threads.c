// The commit room with all its threads at once, on a real disk: transfers between accounts,
// counters, registers with versions, keys that expire, listings and cold reads, under so little
// memory and log that checkpoints, evictions and waits for room never end. Each thread keeps to
// itself what the room acknowledged; at the end, and again after a restart, what is there must be
// that.
//
// The store is the small engine of the simulation, so that ThreadSanitizer sees all of it.
#include "unit.h"

#include "base/limits.h"
#include "base/os.h"
#include "commit/commit.h"
#include "store/store.h"
#include "tempdir.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ACCOUNTS = 200,
    START = 1000, // in each account
    COUNTERS = 16,
    REGISTERS = 1000, // of each writer; together more than fits in memory
    WRITERS = 2,
    TOKENS = 400, // short-lived keys
    VALUE_MAX = 40000,
    SECONDS = 6,
};

struct world {
    struct commit *c;
    struct commit_options o;
    atomic_bool stop;
    bool filling;                 // before the threads begin: nobody waits for the disk
    atomic_llong added[COUNTERS]; // acknowledged
    atomic_ullong done[8];        // what each kind of thread got done
    atomic_ullong durable;        // as on_durable said last
    atomic_ullong cold, full;
};

struct worker {
    struct world *w;
    unsigned number; // among its kind
    uint64_t random;
    pthread_t thread;
    // A writer's registers as acknowledged: version 0 is none.
    uint64_t version[REGISTERS];
    uint64_t seed[REGISTERS];
    size_t length[REGISTERS];
    uint64_t highest; // version that any deleted one had
};

// The threads' failures are said and end the process: cmocka's jumps are not for threads.
#define CHECK(what)                                                                  \
    do {                                                                             \
        if (!(what)) {                                                               \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #what); \
            abort();                                                                 \
        }                                                                            \
    } while (0)

static uint64_t next_random(struct worker *me)
{
    uint64_t z = me->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t below(struct worker *me, uint64_t n)
{
    return next_random(me) % n;
}

// ---- calls that wait

struct waiting {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool over;
    enum err e;
};

static void wake(void *arg, enum err e)
{
    struct waiting *x = arg;
    pthread_mutex_lock(&x->lock);
    x->over = true;
    x->e = e;
    pthread_cond_signal(&x->cond);
    pthread_mutex_unlock(&x->lock);
}

static void await(struct waiting *x, enum err begun)
{
    CHECK(begun == ERR_OK);
    pthread_mutex_lock(&x->lock);
    while (!x->over)
        pthread_cond_wait(&x->cond, &x->lock);
    pthread_mutex_unlock(&x->lock);
    CHECK(x->e == ERR_OK);
    pthread_mutex_destroy(&x->lock);
    pthread_cond_destroy(&x->cond);
}

static void waiting_init(struct waiting *x)
{
    *x = (struct waiting){.e = ERR_OK};
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->cond, NULL);
}

static void fetch(struct world *w, const struct key_ref *keys, size_t count)
{
    struct waiting x;
    waiting_init(&x);
    atomic_fetch_add(&w->cold, 1);
    await(&x, commit_fetch(w->c, keys, count, wake, &x));
}

// Runs a transaction as an edge does. Its answer is given out only when it is durable.
static enum err run(struct world *w, struct txn *t)
{
    for (unsigned tries = 0;; tries++) {
        struct errmsg msg = {""};
        uint64_t dep;
        CHECK(tries < 10000); // it must end
        enum err e = commit_txn(w->c, t, &dep, &msg);
        if (e == ERR_COLD) {
            struct key_ref keys[8];
            fetch(w, keys, commit_txn_cold(w->c, t, keys, 8));
        } else if (e == ERR_FULL) {
            struct waiting x;
            waiting_init(&x);
            atomic_fetch_add(&w->full, 1);
            await(&x, commit_wait_room(w->c, wake, &x));
        } else {
            CHECK(e == ERR_OK || e == ERR_CONFLICT);
            CHECK(e != ERR_OK || t->replayed || t->seq == 0 || dep == t->seq);
            commit_kick(w->c);
            if (w->filling)
                return e;
            CHECK(commit_wait(w->c, dep) == ERR_OK);
            CHECK(commit_durable(w->c) >= dep);
            return e;
        }
    }
}

static enum err get(struct world *w, struct slice key, value_fn fn, void *arg, uint64_t *dep)
{
    struct key_ref k = commit_ref(w->c, key);
    for (unsigned tries = 0;; tries++) {
        CHECK(tries < 10000);
        enum err e = commit_get(w->c, &k, fn, arg, dep);
        if (e != ERR_COLD)
            return e;
        fetch(w, &k, 1);
    }
}

struct name {
    char text[32];
};

static struct slice name_of(struct name *n, const char *kind, unsigned a, unsigned b)
{
    int len = snprintf(n->text, sizeof n->text, "%s/%u/%05u", kind, a, b);
    return slice_of(n->text, (size_t)len);
}

// ---- transfers: the sum over all accounts never changes, at any moment that anybody can see

static void take_number(void *arg, const struct value_view *v)
{
    CHECK(v->type == VALUE_INT && v->value.n == 8);
    *(int64_t *)arg = (int64_t)load64(v->value.p);
}

static void *transfer(void *arg)
{
    struct worker *me = arg;
    struct world *w = me->w;
    for (unsigned n = 0; !atomic_load(&w->stop); n++) {
        struct name names[4];
        struct txn_op ops[4];
        unsigned from = (unsigned)below(me, ACCOUNTS);
        size_t count = 2 + below(me, 3);
        for (size_t i = 0; i < count; i++) {
            unsigned id = (from + (unsigned)i * 31) % ACCOUNTS;
            ops[i] = (struct txn_op){.kind = TXN_ADD,
                                     .k = commit_ref(w->c, name_of(&names[i], "acc", 0, id)),
                                     .delta = (int64_t)below(me, 20)};
        }
        ops[0].delta = 0;
        for (size_t i = 1; i < count; i++)
            ops[0].delta -= ops[i].delta;
        char id[32];
        struct txn t = {.ops = ops, .count = count, .request_hash = n};
        if (below(me, 8) == 0) { // twice with the same id: once
            int len = snprintf(id, sizeof id, "t%u-%u", me->number, n);
            t.idempotency = slice_of(id, (size_t)len);
        }
        CHECK(run(w, &t) == ERR_OK && !t.replayed);
        if (t.idempotency.n) {
            uint64_t seq = t.seq;
            int64_t number = ops[0].number;
            CHECK(run(w, &t) == ERR_OK && t.replayed);
            CHECK(t.seq == seq && ops[0].number == number);
        }
        atomic_fetch_add(&w->done[0], 1);
    }
    return NULL;
}

// ---- counters: each has a mirror that the same transactions add the same to

static void *count_up(void *arg)
{
    struct worker *me = arg;
    struct world *w = me->w;
    int64_t seen[COUNTERS] = {0};
    while (!atomic_load(&w->stop)) {
        unsigned i = (unsigned)below(me, COUNTERS / 2);
        struct name a, b;
        int64_t delta = (int64_t)below(me, 100);
        struct txn_op ops[2] = {
            {.kind = TXN_ADD, .k = commit_ref(w->c, name_of(&a, "ctr", 0, i)), .delta = delta},
            {.kind = TXN_ADD,
             .k = commit_ref(w->c, name_of(&b, "ctr", 0, i + COUNTERS / 2)),
             .delta = delta}};
        struct txn t = {.ops = ops, .count = 2};
        CHECK(run(w, &t) == ERR_OK);
        CHECK(ops[0].number == ops[1].number);
        CHECK(ops[0].number >= seen[i] + delta); // nobody takes away
        seen[i] = ops[0].number;
        atomic_fetch_add(&w->added[i], delta);
        atomic_fetch_add(&w->added[i + COUNTERS / 2], delta);
        atomic_fetch_add(&w->done[1], 1);
    }
    return NULL;
}

// ---- registers: only their own thread writes them

struct seen {
    uint64_t version;
    size_t length;
    uint64_t seed;
};

// A value is its seed over and over, so that a torn or freed one shows.
static void take_register(void *arg, const struct value_view *v)
{
    struct seen *s = arg;
    CHECK(v->type == VALUE_BYTES && v->value.n >= 8);
    *s = (struct seen){v->version, v->value.n, load64(v->value.p)};
    for (size_t i = 8; i + 8 <= v->value.n; i += 8)
        CHECK(load64(v->value.p + i) == s->seed);
}

static void check_register(struct worker *me, unsigned i)
{
    struct name n;
    struct seen s;
    uint64_t dep;
    enum err e = get(me->w, name_of(&n, "reg", me->number, i), take_register, &s, &dep);
    if (!me->version[i]) {
        CHECK(e == ERR_MISSING);
        return;
    }
    CHECK(e == ERR_OK);
    CHECK(s.version == me->version[i] && s.seed == me->seed[i] && s.length == me->length[i]);
}

static void write_register(struct worker *me, unsigned i)
{
    uint8_t value[VALUE_MAX + 8];
    struct name n;
    struct txn_op op = {.kind = TXN_PUT,
                        .type = VALUE_BYTES,
                        .has_version = true,
                        .version = me->version[i],
                        .k = commit_ref(me->w->c, name_of(&n, "reg", me->number, i))};
    uint64_t seed = next_random(me);
    bool same = me->length[i] && below(me, 2); // as long as before: overwritten in place
    size_t length = same ? me->length[i] : 8 + below(me, below(me, 3) ? 300 : VALUE_MAX - 8);
    if (below(me, 8) == 0)
        op.kind = TXN_DELETE;
    for (size_t b = 0; b < length; b += 8)
        store64(value + b, seed);
    op.value = op.kind == TXN_PUT ? slice_of(value, length) : slice_of(NULL, 0);
    struct txn t = {.ops = &op, .count = 1};
    bool wrong = below(me, 16) == 0; // another version than it has: nothing happens
    op.version += wrong ? 1000000 : 0;
    enum err e = run(me->w, &t);
    CHECK(e == (wrong ? ERR_CONFLICT : ERR_OK));
    if (wrong) {
        CHECK(op.actual == me->version[i]);
        return;
    }
    if (op.kind == TXN_DELETE) {
        me->highest = me->version[i] > me->highest ? me->version[i] : me->highest;
        me->version[i] = 0;
        me->length[i] = 0;
        return;
    }
    // Never a version that it, or any that was deleted, had.
    CHECK(op.new_version > me->version[i]);
    CHECK(me->version[i] || op.new_version > me->highest);
    me->version[i] = op.new_version;
    me->seed[i] = seed;
    me->length[i] = length;
}

static void *write_registers(void *arg)
{
    struct worker *me = arg;
    while (!atomic_load(&me->w->stop)) {
        write_register(me, (unsigned)below(me, REGISTERS));
        check_register(me, (unsigned)below(me, REGISTERS));
        atomic_fetch_add(&me->w->done[2], 1);
    }
    return NULL;
}

// ---- readers of what others write: versions never go back

static void *read_others(void *arg)
{
    struct worker *me = arg;
    struct world *w = me->w;
    struct seen last[WRITERS][REGISTERS] = {0};
    while (!atomic_load(&w->stop)) {
        unsigned who = (unsigned)below(me, WRITERS), i = (unsigned)below(me, REGISTERS);
        struct name n;
        struct seen s = {0};
        uint64_t dep;
        enum err e = get(w, name_of(&n, "reg", who, i), take_register, &s, &dep);
        CHECK(e == ERR_OK || e == ERR_MISSING);
        struct seen *l = &last[who][i];
        CHECK(e || s.version >= l->version);
        CHECK(e || s.version != l->version || s.seed == l->seed);
        if (e == ERR_OK)
            *l = s;
        if (dep) {
            commit_kick(w->c);
            CHECK(commit_wait(w->c, dep) == ERR_OK);
        }
        atomic_fetch_add(&w->done[3], 1);
    }
    return NULL;
}

// ---- keys that expire

static void *pass_tokens(void *arg)
{
    struct worker *me = arg;
    struct world *w = me->w;
    struct os *os = w->o.os;
    // When what was written expires: at the earliest and at the latest.
    uint64_t early[TOKENS] = {0}, late[TOKENS] = {0};
    while (!atomic_load(&w->stop)) {
        unsigned i = (unsigned)below(me, TOKENS);
        struct name n;
        struct slice key = name_of(&n, "tok", 0, i);
        uint64_t dep, now = os_wall_ms(os);
        struct seen s;
        enum err e = get(w, key, take_register, &s, &dep);
        uint64_t after = os_wall_ms(os);
        CHECK(e == ERR_OK || e == ERR_MISSING);
        CHECK(e == ERR_OK || early[i] <= after);
        CHECK(e == ERR_MISSING || now < late[i]);
        uint8_t value[8];
        store64(value, i);
        struct txn_op op = {.kind = TXN_PUT,
                            .type = VALUE_BYTES,
                            .k = commit_ref(w->c, key),
                            .value = slice_of(value, 8),
                            .ttl_ms = 1 + below(me, below(me, 4) ? 50 : 1500)};
        struct txn t = {.ops = &op, .count = 1};
        now = os_wall_ms(os);
        CHECK(run(w, &t) == ERR_OK);
        early[i] = now + op.ttl_ms;
        late[i] = os_wall_ms(os) + op.ttl_ms;
        atomic_fetch_add(&w->done[4], 1);
    }
    return NULL;
}

// ---- listings

struct listing {
    char last[32];
    size_t count;
    int64_t sum;
};

static bool list_account(void *arg, struct slice key, const struct value_view *v)
{
    struct listing *l = arg;
    CHECK(key.n < sizeof l->last);
    CHECK(slice_compare(slice_str(l->last), key) < 0); // in order, none twice
    memcpy(l->last, key.p, key.n);
    l->last[key.n] = 0;
    l->count++;
    if (v->type == VALUE_INT)
        l->sum += (int64_t)load64(v->value.p);
    return true;
}

// All accounts are there at all times, so every listing has them all, in pages of any size.
static void list_all(struct world *w, const char *prefix, size_t page, struct listing *l)
{
    size_t before;
    do {
        struct errmsg msg = {""};
        char after[32];
        uint64_t dep;
        before = l->count;
        memcpy(after, l->last, sizeof after);
        CHECK(commit_list(w->c, slice_str(prefix), slice_str(after), page, list_account, l, &dep,
                          &msg) == ERR_OK);
        CHECK(commit_wait(w->c, dep) == ERR_OK);
    } while (l->count - before == page);
}

static void *list_keys(void *arg)
{
    struct worker *me = arg;
    while (!atomic_load(&me->w->stop)) {
        struct listing l = {.last = ""};
        list_all(me->w, "acc/", 1 + below(me, 2 * ACCOUNTS), &l);
        CHECK(l.count == ACCOUNTS);
        l = (struct listing){.last = ""};
        list_all(me->w, "tok/", 1 + below(me, TOKENS), &l);
        CHECK(l.count <= TOKENS);
        atomic_fetch_add(&me->w->done[5], 1);
    }
    return NULL;
}

// ---- all of it

static void on_durable(void *arg, uint64_t seq)
{
    struct world *w = arg;
    CHECK(seq > atomic_load(&w->durable));
    atomic_store(&w->durable, seq);
}

static void on_fatal(void *arg, const char *what)
{
    (void)arg;
    fprintf(stderr, "fatal: %s\n", what);
    abort();
}

static void open_world(struct world *w)
{
    struct errmsg msg = {""};
    atomic_store(&w->durable, 0);
    enum err e = commit_open(&w->c, &w->o, NULL, &msg);
    if (e)
        fail_msg("%s", msg.text);
}

static void fill(struct world *w, struct worker *writers)
{
    w->filling = true;
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        struct name n;
        struct txn_op op = {
            .kind = TXN_ADD, .k = commit_ref(w->c, name_of(&n, "acc", 0, i)), .delta = START};
        struct txn t = {.ops = &op, .count = 1};
        assert_ok(run(w, &t));
    }
    for (unsigned r = 0; r < WRITERS; r++)
        for (unsigned i = 0; i < REGISTERS; i++)
            write_register(&writers[r], i);
    w->filling = false;
}

static void compare(struct world *w, struct worker *writers)
{
    struct listing l = {.last = ""};
    list_all(w, "acc/", 64, &l);
    assert_int_equal(l.count, ACCOUNTS);
    assert_true(l.sum == (int64_t)ACCOUNTS * START);
    for (unsigned i = 0; i < COUNTERS; i++) {
        struct name n;
        uint64_t dep;
        int64_t number = 0;
        (void)get(w, name_of(&n, "ctr", 0, i), take_number, &number, &dep);
        assert_true(number == atomic_load(&w->added[i]));
    }
    for (unsigned r = 0; r < WRITERS; r++) {
        size_t there = 0;
        char prefix[16];
        for (unsigned i = 0; i < REGISTERS; i++) {
            check_register(&writers[r], i);
            there += writers[r].version[i] != 0;
        }
        l = (struct listing){.last = ""};
        snprintf(prefix, sizeof prefix, "reg/%u/", r);
        list_all(w, prefix, 100, &l);
        assert_int_equal(l.count, there);
    }
}

static void options_of(struct world *w, const char *dir)
{
    w->o = (struct commit_options){
        .os = os_real(),
        .dir = dir,
        .store_open = store_open_sim,
        .segment_size = 1u << 19,
        .max_segments = 4,
        .memory_limit = 16u << 20,
        .max_key = 64,
        .max_value = VALUE_MAX,
        .read_threads = 2,
        .threads = true,
        .on_durable = on_durable,
        .on_fatal = on_fatal,
        .arg = w,
    };
}

static void all_at_once(void **state)
{
    static void *(*const kinds[])(void *) = {transfer,  transfer,        count_up,
                                             count_up,  read_others,     pass_tokens,
                                             list_keys, write_registers, write_registers};
    enum { THREADS = sizeof kinds / sizeof *kinds };
    struct world *w = calloc(1, sizeof *w);
    struct worker *workers = calloc(THREADS, sizeof *workers);
    char dir[64];
    uint64_t seed;
    assert_true(w && workers);
    os_random(os_real(), &seed, sizeof seed);
    const char *given = os_env("VARVE_TEST_SEED");
    if (given)
        seed = strtoull(given, NULL, 0);
    print_message("seed: VARVE_TEST_SEED=%" PRIu64 "\n", seed);
    tempdir_make(dir);
    options_of(w, dir);
    open_world(w);
    unsigned writer = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        bool writes = kinds[i] == write_registers;
        workers[i] = (struct worker){.w = w, .number = writes ? writer++ : i, .random = seed + i};
    }
    struct worker *writers = &workers[THREADS - WRITERS];
    fill(w, writers);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&workers[i].thread, NULL, kinds[i], &workers[i]), 0);
    os_sleep_us(w->o.os, SECONDS * 1000000u);
    atomic_store(&w->stop, true);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    print_message("transfers %llu, adds %llu, registers %llu, reads %llu, tokens %llu, lists %llu; "
                  "cold %llu, full %llu\n",
                  atomic_load(&w->done[0]), atomic_load(&w->done[1]), atomic_load(&w->done[2]),
                  atomic_load(&w->done[3]), atomic_load(&w->done[4]), atomic_load(&w->done[5]),
                  atomic_load(&w->cold), atomic_load(&w->full));
    compare(w, writers);
    for (int round = 0; round < 2; round++) { // in order, then as after a crash
        if (round)
            commit_abandon(w->c);
        else
            assert_ok(commit_close(w->c));
        open_world(w);
        compare(w, writers);
    }
    assert_ok(commit_close(w->c));
    tempdir_remove(dir);
    free(workers);
    free(w);
}

static uint64_t expired(struct world *w)
{
    struct buf text;
    buf_init(&text, 1u << 20);
    assert_ok(commit_metrics(w->c, &text));
    assert_ok(buf_append(&text, "", 1));
    const char *line = strstr((const char *)buf_head(&text), "\nvarve_expired_total ");
    assert_non_null(line);
    uint64_t n = strtoull(strchr(line, ' '), NULL, 10);
    buf_release(&text);
    return n;
}

// However many keys expire together, the housekeeper has them deleted soon.
static void expires_all_that_is_due(void **state)
{
    enum { COUNT = 20000, BATCH = 100 };
    struct world *w = calloc(1, sizeof *w);
    char dir[64];
    assert_non_null(w);
    tempdir_make(dir);
    options_of(w, dir);
    open_world(w);
    w->filling = true;
    for (unsigned i = 0; i < COUNT; i += BATCH) {
        struct name names[BATCH];
        struct txn_op ops[BATCH];
        for (unsigned b = 0; b < BATCH; b++)
            ops[b] = (struct txn_op){.kind = TXN_ADD,
                                     .k = commit_ref(w->c, name_of(&names[b], "due", 0, i + b)),
                                     .ttl_ms = 1};
        struct txn t = {.ops = ops, .count = BATCH};
        assert_ok(run(w, &t));
    }
    for (unsigned tries = 0; expired(w) < COUNT; tries++) {
        assert_true(tries < 100);
        os_sleep_us(w->o.os, 100000);
    }
    assert_ok(commit_close(w->c));
    tempdir_remove(dir);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_at_once),
        cmocka_unit_test(expires_all_that_is_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
