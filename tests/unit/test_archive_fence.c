// Fencing (archive/session.c) under every order of several writers' calls to the store. Each writer
// runs on a stack of its own and gives way before every call; who goes on is enumerated: all orders
// with at most so many switches, then random ones. After every call the log, as a reader would see
// it, must begin with what it was before; at the end, every append that was reported as written
// must be there once and in order, and nothing of those that were not. Writers that trim too may
// only make the log begin later, and not past what they asked for.
#include "unit.h"

#include "archive_world.h"
#include "base/log.h"
#include "base/os.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { WRITERS = 3, APPENDS = 4, STACK = 512 << 10, STEPS = 800, LOGS = 2 };

static const char *const dirs[LOGS] = {"ks/key", "ks/bad"};
static const struct archive_log bad_log = {{(const uint8_t *)"ks", 2}, {(const uint8_t *)"bad", 3}};

struct fate {
    char label[16];
    unsigned records;
    unsigned logs; // that it was appended to
    enum err e[LOGS];
    char why[512];
};

struct actor {
    struct world *world;
    struct object_store *store;
    unsigned number;
    ucontext_t context;
    char *stack;
    bool done;
    struct fate fates[APPENDS];
    unsigned appended;
};

struct world {
    struct object_store *store;
    const struct archive_options *options;
    bool trims;           // each after its appends, and each with thresholds of its own
    uint64_t trimmed;     // the highest offset asked for
    unsigned logs;        // 2: bad is written too,
    unsigned bad_calls;   // and the first so many puts of data to it fail
    uint64_t first[LOGS]; // where a log began when it was seen last
    struct actor actors[WRITERS];
    unsigned writers;
    unsigned appends[WRITERS];
    ucontext_t scheduler;
    struct buf seen[LOGS];
    bool faults; // answers get lost, too
    uint64_t rnd;
};

static uint64_t next_random(uint64_t *s)
{
    *s += 0x9e3779b97f4a7c15;
    uint64_t z = *s;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

// Gives way before each call.
static enum fake_fault yield(void *arg, enum object_op op, const char *name)
{
    struct actor *a = arg;
    swapcontext(&a->context, &a->world->scheduler);
    bool bad = op == OBJECT_PUT_ABSENT && !strncmp(name, "ks/bad/data_", 12);
    if (bad && a->world->bad_calls) {
        a->world->bad_calls--;
        return next_random(&a->world->rnd) % 4 ? FAKE_LOST : FAKE_ANSWER;
    }
    if (!a->world->faults || next_random(&a->world->rnd) % 12)
        return FAKE_NONE;
    return next_random(&a->world->rnd) % 2 ? FAKE_LOST : FAKE_ANSWER;
}

// Trims all but the last record.
static void trim(struct actor *a, struct archive_writer *w)
{
    struct archive_meta meta;
    struct errmsg msg = {""};
    enum err e = archive_writer_meta(w, &world_log, &meta, &msg);
    struct archive_trim t = {.log = world_log, .before = e ? 0 : meta.next_offset - 1};
    if (!e && t.before > a->world->trimmed)
        a->world->trimmed = t.before;
    e = e ? e : archive_trim(w, &t, &msg);
    if (e && e != ERR_CONFLICT && !a->world->faults)
        fail_msg("trim: %s: %s", err_name(e), msg.text);
}

// Appends the same to both logs at once.
static void append_both(struct archive_writer *w, struct fate *f)
{
    static int64_t now = 1000;
    struct archive_insert in[2];
    char texts[2][32];
    for (unsigned i = 0; i < f->records; i++) {
        int n = snprintf(texts[i], sizeof texts[i], "%s%u", f->label, i);
        in[i] = (struct archive_insert){true, now++, NONCE_NONE, slice_of(texts[i], (size_t)n)};
    }
    struct archive_batch b[LOGS] = {{.log = world_log, .records = in, .count = f->records},
                                    {.log = bad_log, .records = in, .count = f->records}};
    struct errmsg msg = {""};
    enum err e = archive_append_many(w, b, LOGS, &msg);
    for (unsigned l = 0; l < LOGS; l++) {
        f->e[l] = b[l].taken == f->records ? ERR_OK : b[l].e ? b[l].e : e;
        assert_true(b[l].taken == f->records || f->e[l]);
    }
    snprintf(f->why, sizeof f->why, "%s", msg.text);
}

static void act(unsigned high, unsigned low)
{
    struct actor *a = (struct actor *)((uintptr_t)high << 32 | low);
    struct archive_writer *w;
    struct archive_options o = a->world->options ? *a->world->options : (struct archive_options){0};
    if (a->world->trims)
        o.compact_records_threshold += 2 * a->number;
    assert_ok(archive_writer_new(&w, a->store, os_real(), &o, NULL));
    for (unsigned i = 0; i < a->world->appends[a->number]; i++) {
        struct fate *f = &a->fates[a->appended++];
        f->records = 1 + (a->number + i) % 2;
        snprintf(f->label, sizeof f->label, "%c%u.", 'a' + a->number, i);
        f->e[0] = f->e[1] = ERR_AGAIN; // under way
        f->logs = a->world->logs == 2 && i == 1 ? 2 : 1;
        if (f->logs == 2) {
            append_both(w, f);
        } else {
            f->e[0] = world_append(w, &world_log, f->label, f->records, NONCE_NONE, NULL);
            snprintf(f->why, sizeof f->why, "%s", world_why());
        }
        if (a->world->logs == 2 && archive_writer_broken(w)) {
            archive_writer_free(w);
            assert_ok(archive_writer_new(&w, a->store, os_real(), &o, NULL));
        }
        if (a->world->trims)
            trim(a, w);
    }
    archive_writer_free(w);
    a->done = true;
    swapcontext(&a->context, &a->world->scheduler);
}

static void actor_start(struct world *w, unsigned number)
{
    struct actor *a = &w->actors[number];
    char *stack = a->stack ? a->stack : malloc(STACK);
    *a = (struct actor){.world = w, .number = number, .stack = stack};
    a->store = fake_object_connect(w->store);
    fake_object_hook(a->store, yield, a);
    getcontext(&a->context);
    a->context.uc_stack = (stack_t){.ss_sp = stack, .ss_size = STACK};
    a->context.uc_link = NULL;
    uintptr_t p = (uintptr_t)a;
    makecontext(&a->context, (void (*)(void))act, 2, (unsigned)(p >> 32), (unsigned)p);
}

// What a reader sees goes on from what one saw before. `seen` keeps what was trimmed.
static void look_at(struct world *w, unsigned l)
{
    struct buf now;
    uint64_t first, last = w->first[l];
    struct buf *was = &w->seen[l];
    buf_init(&now, 1 << 16);
    world_text_from(w->store, dirs[l], &now, &first);
    const char *seen = buf_len(was) ? (const char *)buf_head(was) : "", *from = seen;
    for (uint64_t i = 1; i < first; i++) {
        from = strchr(from, ' ');
        if (!from++)
            fail_msg("%s begins at %" PRIu64 ", and was \"%s\"", dirs[l], first, seen);
    }
    if (first < last || (first > 1 && (l || first > w->trimmed)))
        fail_msg("the log began at %" PRIu64 ", was trimmed to %" PRIu64 ", begins at %" PRIu64,
                 last, w->trimmed, first);
    w->first[l] = first;
    if (strncmp(from, (char *)buf_head(&now), strlen(from)) != 0)
        fail_msg("%s was \"%s\" and is \"%s\", from %" PRIu64 " on", dirs[l], seen,
                 (char *)buf_head(&now), first);
    struct buf all;
    buf_init(&all, 1 << 16);
    assert_ok(buf_printf(&all, "%.*s%s", (int)(from - seen), seen, (char *)buf_head(&now)));
    assert_ok(buf_append(&all, "", 1)); // a string
    all.end--;
    buf_release(&now);
    buf_release(was);
    *was = all;
}

static void look(struct world *w)
{
    for (unsigned l = 0; l < w->logs; l++)
        look_at(w, l);
}

static unsigned times_in(const char *text, const char *what)
{
    unsigned n = 0;
    for (const char *p = text; (p = strstr(p, what)); p++)
        n++;
    return n;
}

// What became of an append to a log.
static void judge_one(const struct world *w, const struct fate *f, unsigned l)
{
    const char *text = (const char *)buf_head(&w->seen[l]);
    enum err e = f->e[l];
    char run[64] = "";
    for (unsigned k = 0; k < f->records; k++)
        snprintf(run + strlen(run), sizeof run - strlen(run), "%s%u ", f->label, k);
    unsigned n = times_in(text, run), parts = times_in(text, f->label);
    if (e == ERR_OK && (n != 1 || parts != f->records))
        fail_msg("%s was written to %s, and it is \"%s\"", f->label, dirs[l], text);
    // Where answers get lost an append may have failed and be there, whole and once. Where others
    // trim it may have been there.
    bool unknown = (w->faults || w->trims || f->logs == 2) && e == ERR_NETWORK;
    if (e && parts && !(unknown && n == 1 && parts == f->records))
        fail_msg("%s failed (%s), and %s is \"%s\"", f->label, err_name(e), dirs[l], text);
    if (e && e != ERR_CONFLICT && !w->faults && !unknown)
        fail_msg("%s: %s: %s", f->label, err_name(e), f->why);
}

static void judge(struct world *w)
{
    world_check(w->store); // whatever fences and strays are left: nothing is damaged
    unsigned good = 0;
    for (unsigned i = 0; i < w->writers; i++)
        for (unsigned j = 0; j < w->actors[i].appended; j++)
            for (unsigned l = 0; l < w->actors[i].fates[j].logs; l++) {
                judge_one(w, &w->actors[i].fates[j], l);
                good += w->actors[i].fates[j].e[l] == ERR_OK;
            }
    if (!w->faults && w->logs == 1)
        assert_true(good > 0); // somebody gets on
}

static enum fake_fault still_bad(void *arg, enum object_op op, const char *name)
{
    return op == OBJECT_PUT_ABSENT && !strncmp(name, "ks/bad/data_", 12) ? FAKE_LOST : FAKE_NONE;
}

// Whatever is left: the next writer goes on with the first log, and, as soon as it is let, with
// bad.
static void go_on(struct world *w)
{
    struct object_store *s = fake_object_connect(w->store);
    struct archive_writer *next;
    fake_object_hook(s, still_bad, NULL);
    assert_ok(archive_writer_new(&next, s, os_real(), w->options, NULL));
    assert_ok(world_append(next, &world_log, "z", 1, NONCE_NONE, NULL));
    fake_object_hook(s, NULL, NULL);
    assert_ok(world_append(next, &bad_log, "z", 1, NONCE_NONE, NULL));
    archive_writer_free(next);
    object_close(s);
    look(w);
}

// One order: order[i] says who goes on at step i (modulo those who can); past n, whoever went last.
// Returns the number of steps; choices[i] is how many could go on at step i.
static unsigned run(struct world *w, const unsigned char *order, unsigned n, unsigned char *went)
{
    w->store = fake_object_new();
    w->trimmed = 1;
    w->logs = w->logs ? w->logs : 1;
    for (unsigned l = 0; l < LOGS; l++) {
        w->first[l] = 1;
        buf_init(&w->seen[l], 1 << 16);
    }
    for (unsigned i = 0; i < w->writers; i++)
        actor_start(w, i);
    unsigned steps = 0, last = 0;
    for (bool any = true; any && steps < STEPS; steps++) {
        unsigned who = steps < n ? order[steps] : last;
        for (unsigned i = 0; i < w->writers && w->actors[who].done; i++)
            who = (who + 1) % w->writers;
        if (w->actors[who].done)
            break;
        went[steps] = (unsigned char)(last = who);
        swapcontext(&w->scheduler, &w->actors[who].context);
        look(w);
    }
    assert_true(steps < STEPS);
    judge(w);
    if (w->logs > 1)
        go_on(w);
    for (unsigned i = 0; i < w->writers; i++)
        object_close(w->actors[i].store);
    // What is left of claims and sessions is bounded: a later one cleans up, if it is let. Where
    // answers get lost each append, and each trim, may leave a claim.
    unsigned spare = w->faults || w->logs > 1 ? APPENDS * w->writers * (w->trims ? 2 : 1) : 0;
    for (unsigned l = 0; l < w->logs; l++) {
        char claim[64];
        snprintf(claim, sizeof claim, "%s/epoch_", dirs[l]);
        size_t claims = world_count(w->store, claim);
        if (claims > w->writers + 1 + spare)
            fail_msg("%zu claims are left (faults %d, trims %d)", claims, w->faults, w->trims);
        buf_release(&w->seen[l]);
    }
    assert_true(world_count(w->store, NAME_WRITERS) <= (w->logs > 1 ? 20u : 4u) * w->writers);
    object_close(w->store);
    return steps;
}

// VARVE_TEST_DEPTH: so many switches more than usual.
static unsigned depth(unsigned usual)
{
    const char *more = os_env("VARVE_TEST_DEPTH");
    return usual + (more ? (unsigned)strtoul(more, NULL, 10) : 0);
}

// All orders that begin with order[0..n) and switch at most `switches` times more.
static unsigned long enumerate(struct world *w, unsigned char *order, unsigned n, unsigned switches)
{
    unsigned char went[STEPS];
    unsigned steps = run(w, order, n, went);
    unsigned long runs = 1;
    if (!switches)
        return runs;
    for (unsigned at = n; at < steps; at++)
        for (unsigned who = 0; who < w->writers; who++) {
            if (who == went[at])
                continue;
            unsigned char next[STEPS];
            memcpy(next, went, at);
            next[at] = (unsigned char)who;
            runs += enumerate(w, next, at + 1, switches - 1);
        }
    return runs;
}

static void world_free(struct world *w)
{
    for (unsigned i = 0; i < WRITERS; i++)
        free(w->actors[i].stack);
}

static void two_writers(void **state)
{
    static const struct archive_options options = {.compact_objects_threshold = 2};
    struct world w = {.writers = 2, .appends = {2, 2}, .options = &options};
    unsigned char order[STEPS];
    for (unsigned first = 0; first < 2; first++) {
        order[0] = (unsigned char)first;
        print_message("%lu orders\n", enumerate(&w, order, 1, depth(2)));
    }
    world_free(&w);
}

static void one_append_each(void **state)
{
    struct world w = {.writers = 2, .appends = {1, 1}};
    unsigned char order[STEPS] = {0};
    print_message("%lu orders\n", enumerate(&w, order, 0, depth(3)));
    world_free(&w);
}

static void three_writers(void **state)
{
    static const struct archive_options options = {.compact_objects_threshold = 3};
    struct world w = {.writers = 3, .appends = {1, 1, 2}, .options = &options};
    unsigned char order[STEPS] = {0};
    print_message("%lu orders\n", enumerate(&w, order, 0, depth(2)));
    world_free(&w);
}

static void trimmers(void **state)
{
    static const struct archive_options options = {.compact_records_threshold = 2,
                                                   .compact_objects_threshold = 2};
    struct world w = {.writers = 2, .appends = {2, 2}, .options = &options, .trims = true};
    unsigned char order[STEPS] = {0};
    print_message("%lu orders\n", enumerate(&w, order, 0, depth(2)));
    world_free(&w);
}

static void random_runs(unsigned rounds, unsigned logs)
{
    static const struct archive_options options = {.compact_objects_threshold = 2,
                                                   .compact_records_threshold = 5};
    uint64_t seed;
    os_random(os_real(), &seed, sizeof seed);
    const char *given = os_env("VARVE_TEST_SEED");
    seed = given ? strtoull(given, NULL, 0) : seed;
    print_message("seed: VARVE_TEST_SEED=%" PRIu64 "\n", seed);
    for (unsigned round = 0; round < rounds; round++) {
        struct world w = {.writers = 2 + round % 2,
                          .appends = {3, 3, 2},
                          .options = &options,
                          .faults = round % 3 == 0,
                          .trims = round % 4 < 2,
                          .logs = logs,
                          .rnd = seed + round};
        unsigned char order[STEPS], went[STEPS], who = 0;
        uint64_t rnd = seed ^ round;
        unsigned stay = 1 + (unsigned)(next_random(&rnd) % 12);
        if (logs > 1)
            w.bad_calls = (unsigned)(next_random(&rnd) % (round % 5 ? 12 : 1000));
        for (unsigned i = 0; i < STEPS; i++) {
            if (next_random(&rnd) % stay == 0)
                who = (unsigned char)(next_random(&rnd) % w.writers);
            order[i] = who;
        }
        run(&w, order, STEPS, went);
        world_free(&w);
    }
}

static void random_orders(void **state)
{
    random_runs(6000 * depth(1), 1);
}

static void one_log_fails(void **state)
{
    random_runs(3000 * depth(1), 2);
}

int main(void)
{
    log_set_level(LOG_NONE); // compactions that fail because others have taken over
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_append_each), cmocka_unit_test(two_writers),
        cmocka_unit_test(three_writers),   cmocka_unit_test(trimmers),
        cmocka_unit_test(random_orders),   cmocka_unit_test(one_log_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
