// The batching writer (archive/batcher.h): everything arrives once and in order, from many threads;
// what a million records cost; errors stick and are told; memory is bounded.
#include "unit.h"

#include "archive/batcher.h"
#include "archive/reader.h"
#include "archive_world.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/os.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOGS = 100, HOUR = 3600000 };

static struct archive_log log_number(unsigned i, char key[16])
{
    int n = snprintf(key, 16, "key%u", i);
    return (struct archive_log){slice_str("ks"), slice_of(key, (size_t)n)};
}

static struct archive_insert number(uint8_t bytes[100], uint64_t v)
{
    memset(bytes, 'x', 100);
    store64(bytes, v);
    return (struct archive_insert){true, (int64_t)v, NONCE_NONE, slice_of(bytes, 100)};
}

// The records' numbers of a log, checked to rise by `step` from `first`; returns how many there
// are.
static uint64_t check_log(struct object_store *s, const struct archive_log *log, uint64_t first,
                          uint64_t step)
{
    struct archive_reader *r;
    struct archive_page page;
    struct archive_query q = {.page_size = 5000};
    char token[ARCHIVE_TOKEN];
    uint64_t n = 0;
    assert_ok(archive_reader_new(&r, s, NULL, NULL));
    do {
        assert_ok(archive_read(r, log, &q, &page, NULL));
        for (size_t i = 0; i < page.count; i++, n++) {
            assert_true(page.records[i].offset == n + 1);
            assert_true(load64(page.records[i].bytes.p) == first + n * step);
        }
        memcpy(token, page.token, page.token_size);
        q.continuation = slice_of(token, page.token_size);
    } while (page.more);
    archive_reader_free(r);
    return n;
}

static uint64_t requests(struct object_store *s)
{
    struct object_stats st;
    object_get_stats(s, &st);
    return st.put + st.get + st.head + st.list + st.delete + st.multipart;
}

// A million records of 100 bytes, a log after another.
static void append_million(struct archive_batcher *b, uint64_t from)
{
    uint8_t bytes[100];
    char key[16];
    for (uint64_t i = 0; i < 1000000; i++) {
        struct archive_insert in = number(bytes, from + i);
        struct archive_log log = log_number((unsigned)(i % LOGS), key);
        assert_ok(archive_batcher_append(b, &log, &in, 1, NULL));
    }
    assert_ok(archive_batcher_flush_all(b, NULL));
}

static void few_requests_a_million(void **state)
{
    struct object_store *s = fake_object_new();
    // As configured by default, but for time: how long this takes is not this test's matter.
    struct archive_batcher_options o = {.batch_flush_interval_millis = HOUR};
    struct archive_batcher *b;
    char key[16];
    assert_ok(archive_batcher_new(&b, s, os_real(), NULL, &o, NULL));
    for (unsigned i = 0; i < 3; i++) {
        uint64_t before = requests(s), start = os_mono_ns(os_real());
        append_million(b, i * 1000000);
        uint64_t cost = requests(s) - before;
        print_message("million %u: %" PRIu64 " requests, %.2f s\n", i, cost,
                      (double)(os_mono_ns(os_real()) - start) / 1e9);
        assert_true(cost <= 300);
    }
    archive_batcher_free(b);
    for (unsigned i = 0; i < LOGS; i++) {
        struct archive_log log = log_number(i, key);
        assert_int_equal(check_log(s, &log, i, LOGS), 30000);
    }
    object_close(s);
}

// ---- threads

struct producer {
    struct archive_batcher *b;
    unsigned number;
    unsigned count;
};

static void *produce(void *arg)
{
    struct producer *p = arg;
    uint8_t bytes[100];
    char key[16];
    for (unsigned i = 0; i < p->count; i++) {
        struct archive_insert in = number(bytes, i);
        struct archive_log log = log_number(p->number * 10 + i % 10, key);
        assert_ok(archive_batcher_append(p->b, &log, &in, 1, NULL));
        if (i % 5000 == 4999)
            assert_ok(i % 2 ? archive_batcher_flush_key(p->b, &log, NULL)
                            : archive_batcher_flush_all(p->b, NULL));
    }
    return NULL;
}

static void many_threads(void **state)
{
    struct object_store *s = fake_object_new();
    struct archive_options w = {.compact_records_threshold = 700, .compact_objects_threshold = 4};
    struct archive_batcher_options o = {.writer_thread_count = 3,
                                        .writer_thread_queue_capacity = 500,
                                        .batch_check_interval_millis = 1,
                                        .batch_flush_interval_millis = 2,
                                        .batch_flush_size_threshold = 20000};
    enum { PRODUCERS = 4, EACH = 20000 };
    struct archive_batcher *b;
    struct producer p[PRODUCERS];
    pthread_t threads[PRODUCERS];
    struct archive_batcher_stats st;
    char key[16];
    assert_ok(archive_batcher_new(&b, s, os_real(), &w, &o, NULL));
    for (unsigned i = 0; i < PRODUCERS; i++) {
        p[i] = (struct producer){b, i, EACH};
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &p[i]), 0);
    }
    for (unsigned i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    assert_ok(archive_batcher_flush_all(b, NULL));
    archive_batcher_get_stats(b, &st);
    assert_true(st.appended == PRODUCERS * EACH && st.stored == st.appended && st.dropped == 0);
    assert_true(st.bytes == 0);
    archive_batcher_free(b);
    for (unsigned i = 0; i < 10 * PRODUCERS; i++) {
        struct archive_log log = log_number(i, key);
        assert_int_equal(check_log(s, &log, i % 10, 10), EACH / 10);
    }
    object_close(s);
}

// ---- errors

struct fault {
    const char *inside; // of the names that fail
    unsigned count;
};

static enum fake_fault fail_named(void *arg, enum object_op op, const char *name)
{
    struct fault *f = arg;
    if (op == OBJECT_PUT_ABSENT && strstr(name, f->inside)) {
        f->count++;
        return FAKE_LOST;
    }
    return FAKE_NONE;
}

static void errors_stick(void **state)
{
    struct object_store *s = fake_object_new();
    struct fault f = {.inside = "key7/data_"};
    struct archive_batcher_options o = {.batch_flush_interval_millis = HOUR};
    struct archive_batcher *b;
    struct errmsg msg = {""};
    uint8_t bytes[100];
    char key[16];
    fake_object_hook(s, fail_named, &f);
    assert_ok(archive_batcher_new(&b, s, os_real(), NULL, &o, NULL));
    struct archive_insert in = number(bytes, 0);
    for (unsigned i = 5; i < 7; i++) {
        struct archive_log log = log_number(i, key);
        assert_ok(archive_batcher_append(b, &log, &in, 1, NULL));
    }
    assert_ok(archive_batcher_flush_all(b, NULL));
    struct archive_log bad = log_number(7, key);
    assert_ok(archive_batcher_append(b, &bad, &in, 1, NULL)); // only queued
    assert_err(archive_batcher_flush_all(b, &msg), ERR_NETWORK);
    assert_non_null(strstr(msg.text, "lost"));
    assert_true(f.count > 1); // it was tried again
    assert_err(archive_batcher_append(b, &bad, &in, 1, NULL), ERR_NETWORK);
    assert_err(archive_batcher_flush_key(b, &bad, NULL), ERR_NETWORK);
    archive_batcher_free(b);
    assert_int_equal(world_count(s, "ks/key7/data_"), 0);
    object_close(s);
}

static void bad_input(void **state)
{
    struct object_store *s = fake_object_new();
    struct archive_batcher *b;
    struct errmsg msg = {""};
    uint8_t bytes[100];
    static char longest[2000];
    memset(longest, 'k', sizeof longest);
    struct archive_insert in = number(bytes, 0);
    struct archive_log empty = {slice_str("ks"), slice_of("", 0)};
    struct archive_log large = {slice_str("ks"), slice_of(longest, sizeof longest)};
    assert_ok(archive_batcher_new(&b, s, os_real(), NULL, NULL, NULL));
    assert_err(archive_batcher_append(b, &empty, &in, 1, &msg), ERR_INVALID);
    assert_non_null(strstr(msg.text, "empty"));
    assert_err(archive_batcher_append(b, &large, &in, 1, &msg), ERR_TOO_BIG);
    assert_ok(archive_batcher_append(b, &world_log, &in, 1, &msg)); // nobody else is harmed
    assert_ok(archive_batcher_release(b, &world_log, &msg));
    // Another writer takes it over, and this one is not fenced by that.
    struct archive_writer *w;
    assert_ok(archive_writer_new(&w, s, os_real(), NULL, NULL));
    assert_ok(world_append(w, &world_log, "w", 1, NONCE_NONE, NULL));
    struct archive_log other = {slice_str("ks"), slice_str("other")};
    assert_ok(archive_batcher_append(b, &other, &in, 1, &msg));
    assert_ok(archive_batcher_flush_all(b, NULL));
    // But taking back what was not let go fences.
    assert_ok(archive_batcher_append(b, &world_log, &in, 1, &msg));
    assert_ok(archive_batcher_flush_all(b, NULL));
    assert_err(world_append(w, &world_log, "w", 1, NONCE_NONE, NULL), ERR_CONFLICT);
    archive_writer_free(w);
    archive_batcher_free(b);
    object_close(s);
}

// A queue and batches of a few kilobytes: all gets through, and never more than that is held.
static void bounded(void **state)
{
    struct object_store *s = fake_object_new();
    struct archive_batcher_options o = {
        .queue_bytes = 4000, .memory_bytes = 8000, .batch_check_interval_millis = 1};
    struct archive_batcher_stats st;
    struct archive_batcher *b;
    uint8_t bytes[100];
    char key[16];
    assert_ok(archive_batcher_new(&b, s, os_real(), NULL, &o, NULL));
    for (unsigned i = 0; i < 2000; i++) {
        struct archive_insert in = number(bytes, i);
        struct archive_log log = log_number(i % 20, key);
        assert_ok(archive_batcher_append(b, &log, &in, 1, NULL));
        archive_batcher_get_stats(b, &st);
        assert_true(st.bytes <= 4000 + 8000 + 500);
    }
    assert_true(st.waits > 0);
    assert_ok(archive_batcher_flush_all(b, NULL));
    archive_batcher_free(b);
    for (unsigned i = 0; i < 20; i++) {
        struct archive_log log = log_number(i, key);
        assert_int_equal(check_log(s, &log, i, 20), 100);
    }
    object_close(s);
}

// ---- at rest

// The real machine, whose clock counts how often it is looked at.
struct counting_os {
    struct os os;
    struct os_ops ops;
    _Atomic uint64_t looks;
};

static uint64_t counted_mono_ns(struct os *os)
{
    ((struct counting_os *)os)->looks++;
    return os_mono_ns(os_real());
}

static void counting_init(struct counting_os *c)
{
    c->ops = *os_real()->ops;
    c->ops.mono_ns = counted_mono_ns;
    c->os.ops = &c->ops;
    c->looks = 0;
}

// With no record, and with one that is not due, a thread sleeps: whatever the limits, it looks at
// the clock a few times an interval. Two intervals of a tenth of a second here.
static void sleeps(void **state)
{
    static const uint64_t capacities[] = {0, 1, 2, 4096, UINT64_MAX - 1, UINT64_MAX};
    for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) {
        struct object_store *s = fake_object_new();
        struct counting_os c;
        struct archive_batcher_options o = {.writer_thread_queue_capacity = capacities[i],
                                            .batch_flush_interval_millis = HOUR};
        struct archive_batcher *b;
        uint8_t bytes[100];
        char key[16];
        counting_init(&c);
        assert_ok(archive_batcher_new(&b, s, &c.os, NULL, &o, NULL));
        os_sleep_us(os_real(), 100000);
        struct archive_insert in = number(bytes, i);
        struct archive_log log = log_number(1, key);
        assert_ok(archive_batcher_append(b, &log, &in, 1, NULL));
        os_sleep_us(os_real(), 100000);
        assert_true(c.looks < 1000); // a thread that spins: some hundred thousand
        archive_batcher_free(b);
        object_close(s);
    }
}

// ---- extremes

// Whatever the options are: a record that a flush confirmed is there, and nothing spins.
static void extremes(void **state)
{
    static const struct archive_batcher_options all[] = {
        {.queue_bytes = 1},
        {.queue_bytes = 3},
        {.queue_bytes = UINT64_MAX},
        {.memory_bytes = 1},
        {.memory_bytes = 3},
        {.memory_bytes = UINT64_MAX},
        {.batch_check_interval_millis = UINT64_MAX},
        {.batch_check_interval_millis = UINT64_MAX / 1000000},
        {.batch_flush_interval_millis = UINT64_MAX},
        {.batch_flush_record_count_threshold = 1},
        {.batch_flush_record_count_threshold = UINT64_MAX},
        {.batch_flush_size_threshold = 1},
        {.batch_flush_size_threshold = UINT64_MAX},
        {.writer_thread_count = 64, .writer_thread_queue_capacity = 1},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct object_store *s = fake_object_new();
        struct counting_os c;
        struct archive_batcher_stats st;
        struct archive_batcher *b;
        uint8_t bytes[100];
        char key[16];
        struct archive_log log = log_number(1, key);
        counting_init(&c);
        assert_ok(archive_batcher_new(&b, s, &c.os, NULL, &all[i], NULL));
        os_sleep_us(os_real(), 50000);
        for (unsigned j = 0; j < 3; j++) {
            struct archive_insert in = number(bytes, j);
            assert_ok(archive_batcher_append(b, &log, &in, 1, NULL));
        }
        os_sleep_us(os_real(), 50000);
        assert_true(c.looks < 2000); // a thread that spins: some hundred thousand
        assert_ok(archive_batcher_flush_all(b, NULL));
        archive_batcher_get_stats(b, &st);
        assert_int_equal(st.stored, 3);
        archive_batcher_free(b);
        assert_int_equal(check_log(s, &log, 0, 1), 3);
        object_close(s);
    }
}

// What waits for room gets it at once, however little is queued, and not at the next look.
static void room_is_made(void **state)
{
    struct object_store *s = fake_object_new();
    struct archive_batcher_options o = {.queue_bytes = 4000, .batch_check_interval_millis = HOUR};
    struct archive_batcher *b;
    static uint8_t bytes[3900];
    struct archive_insert small = {true, 1, NONCE_NONE, slice_of(bytes, 10)};
    struct archive_insert large = {true, 1, NONCE_NONE, slice_of(bytes, sizeof bytes)};
    assert_ok(archive_batcher_new(&b, s, os_real(), NULL, &o, NULL));
    for (unsigned i = 0; i < 100; i++) {
        assert_ok(archive_batcher_append(b, &world_log, &small, 1, NULL));
        assert_ok(archive_batcher_append(b, &world_log, &large, 1, NULL));
    }
    assert_ok(archive_batcher_flush_all(b, NULL));
    archive_batcher_free(b);
    object_close(s);
}

// A store that does not answer, until it is told to.
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool shut, reached;
};

static enum fake_fault wait_at_gate(void *arg, enum object_op op, const char *name)
{
    struct gate *g = arg;
    pthread_mutex_lock(&g->lock);
    while (g->shut) {
        g->reached = true;
        pthread_cond_broadcast(&g->changed);
        pthread_cond_wait(&g->changed, &g->lock);
    }
    pthread_mutex_unlock(&g->lock);
    return FAKE_NONE;
}

static void *produce_many(void *arg)
{
    uint8_t bytes[100];
    for (unsigned i = 0; i < 2000; i++) {
        struct archive_insert in = number(bytes, i);
        assert_ok(archive_batcher_append(arg, &world_log, &in, 1, NULL));
    }
    return NULL;
}

// What the thread took to write is of the queue until it is in batches or stored: a store that
// hangs lets no more in than queue_bytes and what batches hold.
static void bounded_while_the_store_hangs(void **state)
{
    struct object_store *s = fake_object_new();
    struct gate g = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, true, false};
    struct archive_batcher_options o = {.queue_bytes = 64000, .batch_flush_size_threshold = 1000};
    struct archive_batcher_stats st;
    struct archive_batcher *b;
    pthread_t thread;
    fake_object_hook(s, wait_at_gate, &g);
    assert_ok(archive_batcher_new(&b, s, os_real(), NULL, &o, NULL));
    assert_int_equal(pthread_create(&thread, NULL, produce_many, b), 0);
    pthread_mutex_lock(&g.lock);
    while (!g.reached)
        pthread_cond_wait(&g.changed, &g.lock);
    pthread_mutex_unlock(&g.lock);
    do {
        os_sleep_us(os_real(), 1000);
        archive_batcher_get_stats(b, &st);
    } while (!st.waits);
    assert_true(st.bytes <= 64000);
    assert_true(st.bytes >= st.appended * (100 + 5)); // bytes and names: all of them are counted
    pthread_mutex_lock(&g.lock);
    g.shut = false;
    pthread_cond_broadcast(&g.changed);
    pthread_mutex_unlock(&g.lock);
    pthread_join(thread, NULL);
    assert_ok(archive_batcher_flush_all(b, NULL));
    archive_batcher_get_stats(b, &st);
    assert_true(st.stored == 2000 && st.bytes == 0);
    archive_batcher_free(b);
    object_close(s);
}

// Records without bytes never reach a size, but an object of them has one: what is written at once
// stays below what a writer takes.
static void empty_records_are_written_in_time(void **state)
{
    enum { COUNT = LIMIT_ARCHIVE_APPEND / RECORD_OVERHEAD + 1 };
    struct object_store *s = fake_object_new();
    struct archive_batcher_options o = {.batch_flush_interval_millis = HOUR,
                                        .memory_bytes = (uint64_t)4 << 30};
    struct archive_batcher_stats st;
    struct archive_batcher *b;
    static struct archive_insert none[1000];
    for (size_t i = 0; i < 1000; i++)
        none[i] = (struct archive_insert){true, 1, NONCE_NONE, slice_of("", 0)};
    assert_ok(archive_batcher_new(&b, s, os_real(), NULL, &o, NULL));
    for (size_t i = 0; i < COUNT; i += 1000)
        assert_ok(archive_batcher_append(b, &world_log, none, 1000, NULL));
    assert_ok(archive_batcher_flush_all(b, NULL));
    archive_batcher_get_stats(b, &st);
    assert_true(st.stored == st.appended && st.batches > 1);
    archive_batcher_free(b);
    object_close(s);
}

// A thread that holds nothing is not there to look at the clock: it sleeps until something comes.
static void rests(void **state)
{
    struct object_store *s = fake_object_new();
    struct counting_os c;
    struct archive_batcher_options o = {.batch_check_interval_millis = 1,
                                        .batch_flush_interval_millis = 1};
    struct archive_batcher_stats st;
    struct archive_batcher *b;
    uint8_t bytes[100];
    counting_init(&c);
    assert_ok(archive_batcher_new(&b, s, &c.os, NULL, &o, NULL));
    for (unsigned i = 0; i < 3; i++) {
        os_sleep_us(os_real(), 20000);
        uint64_t looks = c.looks;
        os_sleep_us(os_real(), 200000);
        assert_true(c.looks - looks < 20); // one that does not rest: some hundred
        struct archive_insert in = number(bytes, i);
        assert_ok(archive_batcher_append(b, &world_log, &in, 1, NULL));
        do { // nobody asks for a flush: it is due after a millisecond
            os_sleep_us(os_real(), 1000);
            archive_batcher_get_stats(b, &st);
        } while (st.stored <= i);
    }
    archive_batcher_free(b);
    object_close(s);
}

int main(void)
{
    log_set_level(LOG_NONE);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_requests_a_million),
        cmocka_unit_test(many_threads),
        cmocka_unit_test(errors_stick),
        cmocka_unit_test(bad_input),
        cmocka_unit_test(bounded),
        cmocka_unit_test(sleeps),
        cmocka_unit_test(rests),
        cmocka_unit_test(extremes),
        cmocka_unit_test(room_is_made),
        cmocka_unit_test(bounded_while_the_store_hangs),
        cmocka_unit_test(empty_records_are_written_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
