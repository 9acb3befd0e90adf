// Logs in the commit room with all its threads at once, on a real disk, under so little memory that
// chunks are evicted and read back without end: appends, pages in both directions, tails, trims,
// erasures and checkpoints. In a log that nobody cuts, offsets are dense and each writer's records
// are all there, once and in order; in one that is cut, offsets rise and never come back.
//
// The store is the small engine of the simulation, so that ThreadSanitizer sees all of it.
#include "unit.h"

#include "base/limits.h"
#include "base/os.h"
#include "commit/commit.h"
#include "commit/log.h"
#include "store/store.h"
#include "tempdir.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    WHOLE = 2, // logs that nobody cuts
    LOGS = 4,
    WRITERS = 3,
    BATCH = 30,            // records of one append, at most
    WHOLE_BYTES = 2500000, // at which such a log takes no more: both are more than fits in memory
    RECORD_MAX = 40000,
    SECONDS = 4,
};

struct world {
    struct commit *c;
    struct commit_options o;
    atomic_bool stop;
    atomic_ullong acked[LOGS];   // records below this offset are durable
    atomic_ullong trimmed[LOGS]; // none below this offset is left
    atomic_ullong bytes[LOGS];
    uint64_t written[LOGS][WRITERS]; // records acknowledged; each by its writer
    atomic_ullong done[6];
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

static uint64_t below(struct worker *me, uint64_t n)
{
    uint64_t z = me->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % n;
}

static struct log_name name_of(unsigned log)
{
    static const char *const keys[LOGS] = {"whole-a", "whole-b", "cut-a", "cut-b"};
    return (struct log_name){slice_str(log % 2 ? "times" : "plain"), slice_str(keys[log])};
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

static void raise_to(atomic_ullong *a, uint64_t n)
{
    unsigned long long was = atomic_load(a);
    while (was < n && !atomic_compare_exchange_weak(a, &was, n))
        ;
}

// ---- appending

static void append(struct world *w, struct log_append *a)
{
    struct txn_op op = {.kind = TXN_APPEND, .append = a};
    struct txn t = {.ops = &op, .count = 1};
    for (unsigned tries = 0;; tries++) {
        struct errmsg msg = {""};
        struct waiting x;
        uint64_t dep;
        CHECK(tries < 10000);
        enum err e = commit_txn(w->c, &t, &dep, &msg);
        waiting_init(&x);
        if (e == ERR_COLD) {
            await(&x, commit_txn_fetch(w->c, &t, wake, &x));
        } else if (e == ERR_FULL) {
            await(&x, commit_wait_room(w->c, wake, &x));
        } else {
            CHECK(e == ERR_OK && dep == t.seq);
            wait_durable(w, dep);
            return;
        }
    }
}

// A record: its writer, the writer's count of this log's, and a filling that those decide.
static void *append_records(void *arg)
{
    struct worker *me = arg;
    struct world *w = me->w;
    uint8_t *bytes = malloc(BATCH * RECORD_MAX);
    CHECK(bytes);
    while (!atomic_load(&w->stop)) {
        unsigned log = (unsigned)below(me, LOGS);
        struct log_input in[BATCH];
        size_t count = 1 + below(me, BATCH), used = 0;
        uint64_t first = w->written[log][me->number];
        if (log < WHOLE && atomic_load(&w->bytes[log]) > WHOLE_BYTES)
            log = WHOLE, first = w->written[log][me->number];
        for (size_t i = 0; i < count; i++) {
            size_t n = 16 + (below(me, 40) ? below(me, 600) : below(me, RECORD_MAX - 16));
            memset(bytes + used, (int)(first + i), n);
            store64(bytes + used, me->number);
            store64(bytes + used + 8, first + i);
            in[i] = (struct log_input){.bytes = slice_of(bytes + used, n), .nonce = NONCE_NONE};
            used += n;
        }
        struct log_append a = {.name = name_of(log), .records = in, .count = count};
        append(w, &a);
        CHECK(a.appended == count && a.end_offset == a.first_offset + count);
        w->written[log][me->number] += count;
        raise_to(&w->acked[log], a.end_offset);
        atomic_fetch_add(&w->bytes[log], used);
        atomic_fetch_add(&w->done[0], count);
    }
    free(bytes);
    return NULL;
}

// ---- reading

// What one way through a log has seen.
struct trail {
    unsigned log;
    enum log_direction direction;
    uint64_t last;          // offset; 0: none yet
    uint64_t next[WRITERS]; // each writer's next record's number (backwards: the last one's)
    bool known[WRITERS];
    int64_t time;
    uint64_t records;
};

static void check_record(struct trail *t, const struct record *r)
{
    bool forwards = t->direction == LOG_FORWARDS;
    CHECK(r->bytes.n >= 16);
    uint64_t writer = load64(r->bytes.p), n = load64(r->bytes.p + 8);
    CHECK(writer < WRITERS);
    for (size_t i = 16; i < r->bytes.n; i += 7)
        CHECK(r->bytes.p[i] == (uint8_t)n);
    if (t->last) {
        CHECK(forwards ? r->offset > t->last : r->offset < t->last);
        CHECK(t->log >= WHOLE || r->offset == (forwards ? t->last + 1 : t->last - 1));
        // Keyspaces of odd logs: the server gives strictly rising times.
        CHECK(t->log % 2 == 0 || (forwards ? r->timestamp > t->time : r->timestamp < t->time));
    }
    if (t->known[writer] && t->log < WHOLE)
        CHECK(n == (forwards ? t->next[writer] : t->next[writer] - 1));
    if (t->known[writer])
        CHECK(forwards ? n >= t->next[writer] : n < t->next[writer]);
    t->known[writer] = true;
    t->next[writer] = forwards ? n + 1 : n;
    t->last = r->offset;
    t->time = r->timestamp;
    t->records++;
}

// One page into the trail; waits until what it says is durable. Returns the page's `more`.
static bool read_page(struct world *w, struct log_query *q, struct trail *t, char token[LOG_TOKEN],
                      uint64_t *end)
{
    struct log_page page;
    struct errmsg msg = {""};
    struct record r;
    uint64_t dep;
    uint64_t gone = atomic_load(&w->trimmed[t->log]);
    enum err e = commit_log_read(w->c, q, &page, &dep, &msg);
    if (e == ERR_COLD) {
        q->may_block = true;
        e = commit_log_read(w->c, q, &page, &dep, &msg);
        q->may_block = false;
    }
    if (e) {
        fprintf(stderr, "read: %s\n", msg.text);
        abort();
    }
    while (log_page_next(&page, &r)) {
        CHECK(r.offset >= gone && r.offset < page.end_offset);
        check_record(t, &r);
    }
    CHECK(page.first_offset >= gone);
    bool more = page.more;
    *end = page.end_offset;
    if (more) {
        memcpy(token, page.continuation, LOG_TOKEN);
        q->continuation = slice_str(token);
    }
    log_page_release(&page);
    if (dep)
        wait_durable(w, dep);
    return more;
}

static void *read_logs(void *arg)
{
    struct worker *me = arg;
    struct world *w = me->w;
    while (!atomic_load(&w->stop)) {
        struct trail t = {.log = (unsigned)below(me, LOGS),
                          .direction = (enum log_direction)below(me, 2)};
        uint64_t acked = atomic_load(&w->acked[t.log]), end = 0;
        char token[LOG_TOKEN];
        struct log_query q = {
            .name = name_of(t.log),
            .from = {.direction = t.direction,
                     .start = below(me, 2) ? LOG_START_OFFSET : LOG_START_FIRST,
                     .offset = 1 + below(me, acked + 1)},
            .max_records = 1 + below(me, 1000),
            .max_bytes = 1 + below(me, LIMIT_PAGE_BYTES),
        };
        unsigned pages = 0;
        bool more;
        while ((more = read_page(w, &q, &t, token, &end)) && ++pages < 200 &&
               !atomic_load(&w->stop))
            ;
        if (!more && t.direction == LOG_FORWARDS) // with more behind it a page may say less
            CHECK(end >= acked);
        if (!more && t.log < WHOLE && t.records)
            CHECK(t.direction == LOG_FORWARDS ? t.last + 1 >= acked : t.last == 1);
        atomic_fetch_add(&w->done[1], t.records);
    }
    return NULL;
}

// ---- tails: from the first record on, none left out

static void tail_wakes(void *arg)
{
    wake(arg, ERR_OK);
}

static void *follow(void *arg)
{
    struct worker *me = arg;
    struct world *w = me->w;
    struct trail t = {.log = me->number % WHOLE};
    struct log_name name = name_of(t.log);
    while (!atomic_load(&w->stop)) {
        struct log_query q = {.name = name,
                              .from = {.start = LOG_START_OFFSET, .offset = t.last + 1},
                              .max_records = 1 + below(me, 100),
                              .max_bytes = LIMIT_PAGE_BYTES};
        char token[LOG_TOKEN];
        uint64_t end, before = t.records;
        struct errmsg msg = {""};
        struct waiting x;
        (void)read_page(w, &q, &t, token, &end);
        atomic_fetch_add(&w->done[2], t.records - before);
        if (t.records > before)
            continue;
        waiting_init(&x);
        struct log_watch watch = {.wake = tail_wakes, .arg = &x};
        enum err e = commit_log_watch(w->c, &name, t.last + 1, &watch, &msg);
        CHECK(e == ERR_OK || e == ERR_AGAIN);
        if (e == ERR_AGAIN)
            continue;
        while (!atomic_load(&w->stop)) { // the log may have had its last record
            os_sleep_us(w->o.os, 1000);
            pthread_mutex_lock(&x.lock);
            bool over = x.over;
            pthread_mutex_unlock(&x.lock);
            if (over)
                break;
        }
        if (!commit_log_unwatch(w->c, &watch))
            await(&x, ERR_OK); // woken: at least once, and by now or soon
    }
    return NULL;
}

// ---- taking out, and checkpoints

static void *cut_logs(void *arg)
{
    struct worker *me = arg;
    struct world *w = me->w;
    while (!atomic_load(&w->stop)) {
        unsigned log = WHOLE + (unsigned)below(me, LOGS - WHOLE);
        struct log_name name = name_of(log);
        struct errmsg msg = {""};
        uint64_t dep = 0, first, end = atomic_load(&w->acked[log]);
        uint64_t from = atomic_load(&w->trimmed[log]);
        from = from ? from : 1;
        if (end <= from)
            continue;
        uint64_t at = from + below(me, end - from);
        enum err e;
        if (below(me, 8) == 0) {
            struct log_from to = {.start = LOG_START_OFFSET, .offset = at};
            e = commit_log_trim(w->c, &name, &to, &first, &dep, &msg);
            CHECK(e == ERR_OK && first >= at);
            raise_to(&w->trimmed[log], at);
        } else {
            e = commit_log_erase(w->c, &name, at, &dep, &msg);
            CHECK(e == ERR_OK || e == ERR_MISSING);
        }
        wait_durable(w, dep);
        atomic_fetch_add(&w->done[3], 1);
    }
    return NULL;
}

static void *checkpoint(void *arg)
{
    struct worker *me = arg;
    struct world *w = me->w;
    while (!atomic_load(&w->stop)) {
        struct errmsg msg = {""};
        CHECK(commit_checkpoint(w->c, &msg) == ERR_OK);
        atomic_fetch_add(&w->done[4], 1);
        os_sleep_us(w->o.os, below(me, 20000));
    }
    return NULL;
}

// ---- all of it

static void open_world(struct world *w)
{
    struct errmsg msg = {""};
    enum err e = commit_open(&w->c, &w->o, NULL, &msg);
    if (e)
        fail_msg("%s", msg.text);
}

// Every record that was acknowledged, once.
static void compare(struct world *w)
{
    for (unsigned log = 0; log < LOGS; log++)
        for (int d = 0; d < 2; d++) {
            struct trail t = {.log = log, .direction = (enum log_direction)d};
            struct log_query q = {.name = name_of(log),
                                  .from = {.direction = t.direction},
                                  .max_records = 1000,
                                  .max_bytes = LIMIT_PAGE_BYTES};
            char token[LOG_TOKEN];
            struct log_meta m;
            struct errmsg msg = {""};
            uint64_t end, dep, all = 0;
            while (read_page(w, &q, &t, token, &end))
                ;
            for (unsigned i = 0; i < WRITERS; i++) {
                all += w->written[log][i];
                if (log < WHOLE && t.known[i])
                    assert_int_equal(t.next[i], d ? 0 : w->written[log][i]);
            }
            if (log < WHOLE)
                assert_int_equal(t.records, all);
            assert_int_equal(end, all + 1);
            if (all == 0)
                continue;
            assert_ok(commit_log_meta(w->c, &q.name, &m, &dep, &msg));
            assert_int_equal(m.records, t.records);
            assert_int_equal(m.end_offset, end);
        }
}

static void on_fatal(void *arg, const char *what)
{
    (void)arg;
    fprintf(stderr, "fatal: %s\n", what);
    abort();
}

static void make_keyspaces(struct world *w)
{
    for (int i = 0; i < 2; i++) {
        struct log_policy p = {.server_time = i == 1};
        struct errmsg msg = {""};
        uint64_t created, dep;
        assert_ok(
            commit_keyspace_create(w->c, name_of((unsigned)i).keyspace, &p, &created, &dep, &msg));
    }
}

static void all_at_once(void **state)
{
    static void *(*const kinds[])(void *) = {append_records, append_records, append_records,
                                             read_logs,      read_logs,      follow,
                                             follow,         cut_logs,       checkpoint};
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
        .memory_limit = 16u << 20, // of which logs get less than 3 MiB
        .max_key = 64,
        .max_value = RECORD_MAX,
        .read_threads = 2,
        .threads = true,
        .on_fatal = on_fatal,
        .arg = w,
    };
    open_world(w);
    make_keyspaces(w);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.w = w, .number = i, .random = seed + i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, kinds[i], &workers[i]), 0);
    }
    os_sleep_us(w->o.os, SECONDS * 1000000u);
    atomic_store(&w->stop, true);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    print_message("records appended %llu, read %llu, followed %llu; cuts %llu, checkpoints %llu\n",
                  atomic_load(&w->done[0]), atomic_load(&w->done[1]), atomic_load(&w->done[2]),
                  atomic_load(&w->done[3]), atomic_load(&w->done[4]));
    compare(w);
    for (int round = 0; round < 2; round++) { // in order, then as after a crash
        if (round)
            commit_abandon(w->c);
        else
            assert_ok(commit_close(w->c));
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
