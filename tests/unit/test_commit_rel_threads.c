// Relations in the commit room with all its threads at once, on a real disk: additions and
// removals, pages in every order, combinations and listings, while checkpoints are written and
// lists are evicted without end. Each writer changes members of its own, so it knows what its
// transactions change; some members are there throughout, so every reader must find them.
//
// The store is the small engine of the simulation, so that ThreadSanitizer sees all of it.
#include "unit.h"

#include "base/limits.h"
#include "base/os.h"
#include "commit/rel_int.h"
#include "tempdir.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    RELS = 2,
    FROMS = 40,
    WRITERS = 3,
    EACH = 1500, // members of each writer
    PINNED = 50, // members that are in every list
    GROUPS = 30, // of one transaction, at most
    MOST = 40,   // members of one group
    SECONDS = 3,
};

struct world {
    struct commit *c;
    struct commit_options o;
    atomic_bool stop;
    bool has[RELS][FROMS][WRITERS][EACH]; // each by its writer
    atomic_ullong done[5];
};

struct worker {
    struct world *w;
    unsigned number;
    uint64_t random;
    pthread_t thread;
};

#define CHECK(what)                                                                  \
    do {                                                                             \
        if (!(what)) {                                                               \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #what); \
            abort();                                                                 \
        }                                                                            \
    } while (0)

static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t below(struct worker *me, uint64_t n)
{
    return mix(me->random++) % n;
}

static struct slice relation(unsigned r)
{
    return slice_str(r ? "all" : "plain");
}

static uint64_t from_of(unsigned from)
{
    return from < FROMS / 2 ? from : mix(from);
}

// Two thirds lie close to each other.
static uint64_t member_of(unsigned writer, unsigned m)
{
    uint64_t n = m * WRITERS + writer;
    return m < EACH / 3 * 2 ? n : mix(n);
}

static uint64_t pinned_of(unsigned i)
{
    return 1000000000 + i * 7;
}

struct waiting {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool over;
    enum err e;
};

static void waiting_init(struct waiting *x)
{
    *x = (struct waiting){.e = ERR_OK};
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->cond, NULL);
}

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

static void wait_durable(struct world *w, uint64_t dep)
{
    commit_kick(w->c);
    CHECK(commit_wait(w->c, dep) == ERR_OK);
}

static void run(struct world *w, struct txn *t)
{
    for (unsigned tries = 0;; tries++) {
        struct errmsg msg = {""};
        struct waiting x;
        uint64_t dep;
        CHECK(tries < 10000);
        enum err e = commit_txn(w->c, t, &dep, &msg);
        waiting_init(&x);
        if (e == ERR_COLD) {
            await(&x, commit_txn_fetch(w->c, t, wake, &x));
        } else if (e == ERR_FULL) {
            await(&x, commit_wait_room(w->c, wake, &x));
        } else {
            if (e)
                fprintf(stderr, "%s\n", msg.text);
            CHECK(e == ERR_OK && (t->seq == 0 || dep == t->seq));
            wait_durable(w, dep);
            return;
        }
    }
}

static void *change(void *arg)
{
    struct worker *me = arg;
    struct world *w = me->w;
    uint64_t *ids = malloc(GROUPS * MOST * sizeof *ids);
    CHECK(ids);
    while (!atomic_load(&w->stop)) {
        struct rel_group groups[GROUPS];
        uint32_t want[GROUPS] = {0};
        unsigned r = (unsigned)below(me, RELS), n = 1 + (unsigned)below(me, GROUPS);
        bool adds = below(me, 5) < 3;
        for (unsigned g = 0; g < n; g++) {
            unsigned from = (unsigned)below(me, below(me, 2) ? 3 : FROMS);
            uint32_t count = 1 + (uint32_t)below(me, MOST);
            uint64_t *at = ids + g * MOST;
            for (uint32_t i = 0; i < count; i++) {
                unsigned m = (unsigned)below(me, EACH);
                bool *has = &w->has[r][from][me->number][m];
                at[i] = member_of(me->number, m);
                want[g] += *has != adds;
                *has = adds;
            }
            groups[g] = (struct rel_group){from_of(from), (const uint8_t *)at, count, 0};
        }
        struct rel_edit edit = {.relation = relation(r), .groups = groups, .count = n};
        struct txn_op op = {.kind = adds ? TXN_RELATE : TXN_UNRELATE, .edit = &edit};
        struct txn t = {.ops = &op, .count = 1};
        run(w, &t);
        for (unsigned g = 0; g < n; g++)
            CHECK(groups[g].changed == want[g]);
        atomic_fetch_add(&w->done[0], edit.changed);
    }
    free(ids);
    return NULL;
}

// ---- reading

static struct rel_ref ref(struct world *w, unsigned r, uint64_t from, bool reverse)
{
    struct rel_ref one;
    struct errmsg msg = {""};
    CHECK(commit_rel_ref(w->c, relation(r), from, reverse, &one, &msg) == ERR_OK);
    commit_rel_prefetch_slot(w->c, &one);
    commit_rel_prefetch_list(w->c, &one);
    return one;
}

static void fetch(struct world *w, const struct rel_ref *refs, size_t n)
{
    struct waiting x;
    waiting_init(&x);
    await(&x, commit_rel_fetch(w->c, refs, n, wake, &x));
}

// All of a list, page by page, with what changes meanwhile; returns how many.
static size_t read_list(struct world *w, const struct rel_ref *one, enum rel_order order,
                        size_t max, struct buf *b)
{
    struct rel_page_query q = {.order = order, .max = max};
    struct rel_page page = {.more = true};
    while (page.more) {
        struct errmsg msg = {""};
        uint64_t dep;
        enum err e = commit_rel_page(w->c, one, &q, b, &page, &dep, &msg);
        if (e == ERR_COLD) {
            page.more = true;
            fetch(w, one, 1);
            continue;
        }
        CHECK(e == ERR_OK && page.count <= max);
        CHECK(page.count || !page.more);
        q.has_after = true;
        q.after = page.next;
        if (dep)
            wait_durable(w, dep);
    }
    return buf_len(b) / 8;
}

static void read_pages(struct worker *me, unsigned r, unsigned from)
{
    struct world *w = me->w;
    struct buf b;
    buf_init(&b, 16u << 20);
    struct rel_ref one = ref(w, r, from_of(from), false);
    enum rel_order order = (enum rel_order)below(me, r ? 3 : 2);
    size_t n = read_list(w, &one, order, 1 + below(me, below(me, 2) ? 100 : 10000), &b);
    unsigned pinned = 0;
    const uint8_t *p = buf_head(&b);
    for (size_t i = 0; i < n; i++) {
        uint64_t id = load64(p + 8 * i);
        for (unsigned k = 0; k < PINNED; k++)
            pinned += id == pinned_of(k);
        if (i && order != REL_NEWEST)
            CHECK((load64(p + 8 * (i - 1)) < id) == (order == REL_RISING));
    }
    CHECK(pinned == PINNED);
    buf_release(&b);
}

static void read_reverse(struct worker *me)
{
    struct world *w = me->w;
    struct buf b;
    buf_init(&b, 1u << 20);
    struct rel_ref one = ref(w, 1, pinned_of((unsigned)below(me, PINNED)), true);
    CHECK(read_list(w, &one, REL_RISING, 1 + below(me, 100), &b) == FROMS);
    buf_release(&b);
}

static void read_combined(struct worker *me)
{
    struct world *w = me->w;
    struct rel_ref refs[8];
    size_t n = 1 + below(me, 8), max = 1 + below(me, 500), pinned = 0;
    enum rel_combine how = below(me, 2) ? REL_INTERSECT : REL_UNION;
    struct rel_page page = {.more = true};
    uint64_t after = 0, dep;
    bool has_after = false;
    for (size_t i = 0; i < n; i++)
        refs[i] = ref(w, (unsigned)below(me, RELS), from_of((unsigned)below(me, FROMS)), false);
    while (page.more) {
        struct buf b;
        buf_init(&b, 1u << 20);
        enum err e = commit_rel_combine(w->c, how, refs, n, has_after, after, max, &b, &page, &dep);
        if (e == ERR_COLD) {
            page.more = true;
            fetch(w, refs, n);
        } else {
            CHECK(e == ERR_OK && page.count <= max && buf_len(&b) == 8 * page.count);
            for (size_t i = 0; i < page.count; i++) {
                uint64_t id = load64(buf_head(&b) + 8 * i);
                CHECK(!has_after || id > after);
                has_after = true;
                after = id;
                for (unsigned k = 0; k < PINNED; k++)
                    pinned += id == pinned_of(k);
            }
            has_after = has_after || page.more;
            after = page.more ? page.next : after;
        }
        buf_release(&b);
    }
    CHECK(pinned == PINNED);
}

static bool count_from(void *arg, uint64_t from, uint64_t members)
{
    unsigned *seen = arg;
    for (unsigned i = 0; i < FROMS; i++)
        *seen += from == from_of(i) && members >= PINNED;
    return true;
}

static void *read_lists(void *arg)
{
    struct worker *me = arg;
    struct world *w = me->w;
    while (!atomic_load(&w->stop)) {
        unsigned r = (unsigned)below(me, RELS), seen = 0;
        struct errmsg msg = {""};
        uint64_t dep;
        switch (below(me, 4)) {
        case 0:
            read_reverse(me);
            break;
        case 1:
            read_combined(me);
            break;
        case 2:
            CHECK(commit_rel_froms(w->c, relation(r), false, false, 0, 1000, count_from, &seen,
                                   &dep, &msg) == ERR_OK);
            CHECK(seen == FROMS);
            break;
        default:
            read_pages(me, r, (unsigned)below(me, FROMS));
        }
        atomic_fetch_add(&w->done[1], 1);
    }
    return NULL;
}

// ---- checkpoints, eviction, metadata

static void *checkpoint(void *arg)
{
    struct worker *me = arg;
    struct world *w = me->w;
    while (!atomic_load(&w->stop)) {
        struct errmsg msg = {""};
        CHECK(commit_checkpoint(w->c, &msg) == ERR_OK);
        atomic_fetch_add(&w->done[2], 1);
        os_sleep_us(w->o.os, below(me, 20000));
    }
    return NULL;
}

static void *evict(void *arg)
{
    struct worker *me = arg;
    struct world *w = me->w;
    while (!atomic_load(&w->stop)) {
        unsigned shard = (unsigned)below(me, RELS_SHARDS);
        rels_lock(w->c->rels, shard);
        (void)rels_evict(w->c->rels, shard, 0);
        (void)rels_compact(w->c->rels, shard);
        rels_unlock(w->c->rels, shard);
        atomic_fetch_add(&w->done[3], 1);
        os_sleep_us(w->o.os, below(me, 300));
    }
    return NULL;
}

static bool look(void *arg, const struct relation_view *v)
{
    CHECK(v->options.reverse == (v->name.n == 3));
    return true;
}

static void *make_relations(void *arg)
{
    struct worker *me = arg;
    struct world *w = me->w;
    uint64_t id = 1, dep;
    for (unsigned i = 0; i < 200 && !atomic_load(&w->stop); i++) {
        char name[20];
        snprintf(name, sizeof name, "made-%u", i);
        struct rel_group g = {i, (const uint8_t *)&id, 1, 0};
        struct rel_edit edit = {.relation = slice_str(name), .groups = &g, .count = 1};
        struct txn_op op = {.kind = TXN_RELATE, .edit = &edit};
        struct txn t = {.ops = &op, .count = 1};
        run(w, &t);
        CHECK(g.changed == 1);
        CHECK(commit_relation_list(w->c, slice_str(""), 10000, look, NULL, &dep) == ERR_OK);
        struct buf b;
        buf_init(&b, 1u << 20);
        CHECK(commit_metrics(w->c, &b) == ERR_OK);
        buf_release(&b);
        atomic_fetch_add(&w->done[4], 1);
        os_sleep_us(w->o.os, 10000);
    }
    return NULL;
}

// ---- all of it

static void open_world(struct world *w)
{
    struct errmsg msg = {""};
    if (commit_open(&w->c, &w->o, NULL, &msg))
        fail_msg("%s", msg.text);
}

static void add_pinned(struct world *w)
{
    uint64_t ids[PINNED], created, dep;
    struct rel_group groups[FROMS];
    struct relation_options o = {.reverse = true, .recent = true};
    struct errmsg msg = {""};
    assert_ok(commit_relation_create(w->c, relation(1), &o, &created, &dep, &msg));
    for (unsigned i = 0; i < PINNED; i++)
        ids[i] = pinned_of(i);
    for (unsigned r = 0; r < RELS; r++) {
        for (unsigned from = 0; from < FROMS; from++)
            groups[from] = (struct rel_group){from_of(from), (const uint8_t *)ids, PINNED, 0};
        struct rel_edit edit = {.relation = relation(r), .groups = groups, .count = FROMS};
        struct txn_op op = {.kind = TXN_RELATE, .edit = &edit};
        struct txn t = {.ops = &op, .count = 1};
        run(w, &t);
        assert_int_equal(edit.changed, FROMS * PINNED);
    }
}

// What writers added and did not remove, and nothing else, from both sides.
static void compare(struct world *w)
{
    for (unsigned r = 0; r < RELS; r++)
        for (unsigned from = 0; from < FROMS; from++)
            for (enum rel_order order = REL_RISING; order <= (r ? REL_NEWEST : REL_RISING);
                 order += REL_NEWEST) {
                struct rel_ref one = ref(w, r, from_of(from), false);
                struct buf b;
                size_t all = PINNED;
                buf_init(&b, 16u << 20);
                size_t n = read_list(w, &one, order, 777, &b);
                for (unsigned writer = 0; writer < WRITERS; writer++)
                    for (unsigned m = 0; m < EACH; m++) {
                        uint64_t id = member_of(writer, m), dep;
                        uint8_t found;
                        enum err e;
                        while ((e = commit_rel_contains(w->c, &one, (const uint8_t *)&id, 1, &found,
                                                        &dep)) == ERR_COLD)
                            fetch(w, &one, 1);
                        assert_ok(e);
                        assert_int_equal(found, w->has[r][from][writer][m]);
                        all += found;
                    }
                assert_int_equal(n, all);
                buf_release(&b);
            }
    for (unsigned m = 0; m < EACH; m += 7) {
        struct rel_ref one = ref(w, 1, member_of(1, m), true);
        struct buf b;
        size_t all = 0;
        buf_init(&b, 1u << 20);
        size_t n = read_list(w, &one, REL_FALLING, 7, &b);
        for (unsigned from = 0; from < FROMS; from++)
            all += w->has[1][from][1][m];
        assert_int_equal(n, all);
        buf_release(&b);
    }
}

static void on_fatal(void *arg, const char *what)
{
    (void)arg;
    fprintf(stderr, "fatal: %s\n", what);
    abort();
}

static void all_at_once(void **state)
{
    static void *(*const kinds[])(void *) = {change,     change,     change, read_lists,
                                             read_lists, checkpoint, evict,  make_relations};
    enum { THREADS = sizeof kinds / sizeof *kinds };
    struct world *w = calloc(1, sizeof *w);
    struct worker workers[THREADS];
    char dir[64];
    uint64_t seed;
    assert_non_null(w);
    os_random(os_real(), &seed, sizeof seed);
    const char *given = os_env("VARVE_TEST_SEED");
    if (given)
        seed = strtoull(given, NULL, 0);
    print_message("seed: VARVE_TEST_SEED=%" PRIu64 "\n", seed);
    tempdir_make(dir);
    w->o = (struct commit_options){
        .os = os_real(),
        .dir = dir,
        .store_open = store_open_sim,
        .segment_size = 1u << 20,
        .max_segments = 8,
        .memory_limit = 16u << 20,
        .max_key = 64,
        .max_value = 1u << 20,
        .read_threads = 2,
        .threads = true,
        .on_fatal = on_fatal,
        .arg = w,
    };
    open_world(w);
    add_pinned(w);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.w = w, .number = i, .random = seed + ((uint64_t)i << 40)};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, kinds[i], &workers[i]), 0);
    }
    os_sleep_us(w->o.os, SECONDS * 1000000u);
    atomic_store(&w->stop, true);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    print_message("members changed %llu, lists read %llu; checkpoints %llu, evictions %llu, "
                  "relations made %llu\n",
                  atomic_load(&w->done[0]), atomic_load(&w->done[1]), atomic_load(&w->done[2]),
                  atomic_load(&w->done[3]), atomic_load(&w->done[4]));
    compare(w);
    for (int round = 0; round < 2; round++) { // in order, then as after a crash
        struct commit_recovery found;
        struct errmsg msg = {""};
        if (round)
            commit_abandon(w->c);
        else
            assert_ok(commit_close(w->c));
        if (commit_check(&w->o, &found, &msg))
            fail_msg("%s", msg.text);
        open_world(w);
        compare(w);
    }
    assert_ok(commit_close(w->c));
    tempdir_remove(dir);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_at_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
