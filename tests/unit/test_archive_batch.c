// The batching writer (archive/batcher.h): everything arrives once and in order, from many threads;
// what a million records cost; errors stick and are told; memory is bounded.
#include "unit.h"

#include "archive/batcher.h"
#include "archive/reader.h"
#include "archive_world.h"
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

// With no record, and with one that is not due, a thread sleeps: whatever the limits, it looks at
// the clock a few times an interval. Two intervals of a tenth of a second here.
static void sleeps(void **state)
{
    static const uint64_t capacities[] = {0, 1, 2, 4096, UINT64_MAX - 1, UINT64_MAX};
    for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) {
        struct object_store *s = fake_object_new();
        struct counting_os c = {.ops = *os_real()->ops};
        struct archive_batcher_options o = {.writer_thread_queue_capacity = capacities[i],
                                            .batch_flush_interval_millis = HOUR};
        struct archive_batcher *b;
        uint8_t bytes[100];
        char key[16];
        c.os.ops = &c.ops;
        c.ops.mono_ns = counted_mono_ns;
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
