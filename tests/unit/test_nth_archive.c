// Log objects with the nth allocation failing: every call ends with ERR_OK or ERR_NO_MEMORY (or
// says again what broke its writer), what was acknowledged is there, and a new writer carries on.
#include "unit.h"

#include "archive/batcher.h"
#include "archive/reader.h"
#include "archive_world.h"
#include "base/log.h"
#include "base/os.h"
#include "nth.h"
#include <stdio.h>
#include <string.h>

#define DIR "ks/key"

static void allowed(enum err e)
{
    if (e != ERR_NO_MEMORY)
        assert_ok(e);
}

static void assert_text(struct object_store *s, const char *dir, const char *want)
{
    struct buf got;
    buf_init(&got, 1 << 20);
    world_text(s, dir, &got);
    assert_string_equal(buf_head(&got), want);
    buf_release(&got);
}

// At least what was acknowledged is there, and nothing that was never given.
static void assert_between(struct object_store *s, const char *least, const char *most)
{
    struct buf got;
    buf_init(&got, 1 << 20);
    world_text(s, DIR, &got);
    const char *text = (const char *)buf_head(&got);
    assert_memory_equal(text, least, strlen(least));
    assert_memory_equal(text, most, strlen(text));
    buf_release(&got);
}

// ---- the direct writer: five appends of two, merging as thresholds say

enum { STEPS = 5 };
static const char *const labels[STEPS] = {"a", "b", "c", "d", "e"};
static const char whole[] = "a0 a1 b0 b1 c0 c1 d0 d1 e0 e1 ";
static const struct archive_options options = {.compact_records_threshold = 4,
                                               .compact_objects_threshold = 3};

static enum err append_step(struct archive_writer *w, unsigned i, bool counted)
{
    struct archive_batch b;
    nth_pause(); // world_append works with memory of its own
    struct archive_insert in[2];
    char texts[2][8];
    for (unsigned k = 0; k < 2; k++) {
        int n = snprintf(texts[k], sizeof texts[k], "%s%u", labels[i], k);
        in[k] = (struct archive_insert){true, 1000 + 2 * i + k, 2 * i + k,
                                        slice_of(texts[k], (size_t)n)};
    }
    b = (struct archive_batch){.log = world_log, .records = in, .count = 2};
    if (counted)
        nth_go_on();
    struct errmsg msg = {""};
    enum err e = archive_append(w, &b, &msg);
    if (!e)
        assert_true(b.next_offset >= 2 * i + 3); // more where it had been appended before
    return e;
}

static void carry_on(struct object_store *s)
{
    struct archive_writer *w;
    assert_ok(archive_writer_new(&w, s, os_real(), &options, NULL));
    for (unsigned i = 0; i < STEPS; i++)
        assert_ok(append_step(w, i, false));
    archive_writer_free(w);
    assert_text(s, DIR, whole);
}

static bool write_some(void *arg, uint64_t n, bool for_ever)
{
    const bool taken_over = *(const bool *)arg;
    struct object_store *s = fake_object_new();
    struct archive_writer *w, *other = NULL;
    unsigned acknowledged = 0;
    if (taken_over) { // from one that is still there
        assert_ok(archive_writer_new(&other, s, os_real(), &options, NULL));
        assert_ok(append_step(other, 0, false));
        acknowledged = 1;
    }
    nth_arm(n, for_ever);
    enum err e = archive_writer_new(&w, s, os_real(), &options, NULL);
    if (!e) {
        for (unsigned i = acknowledged; i < STEPS && !e; i++) {
            e = append_step(w, i, true);
            acknowledged += !e;
        }
        struct archive_meta meta;
        if (!e && !(e = archive_writer_meta(w, &world_log, &meta, NULL)))
            assert_true(meta.next_offset == 2 * STEPS + 1 && meta.next_nonce == 2 * STEPS);
        if (!e)
            e = archive_writer_release(w, &world_log, NULL);
        archive_writer_free(w);
    }
    bool failed = nth_disarm();
    allowed(e);
    assert_true(failed || !e);
    archive_writer_free(other);
    char least[sizeof whole];
    snprintf(least, sizeof least, "%.*s", (int)(6 * acknowledged), whole);
    assert_between(s, least, whole);
    carry_on(s);
    object_close(s);
    return failed;
}

static void writer(void **state)
{
    bool taken_over = false;
    nth_each(write_some, &taken_over);
}

static void takeover(void **state)
{
    bool taken_over = true;
    nth_each(write_some, &taken_over);
}

// ---- several logs at once

static const struct archive_log logs[3] = {{{(const uint8_t *)"ks", 2}, {(const uint8_t *)"x", 1}},
                                           {{(const uint8_t *)"ks", 2}, {(const uint8_t *)"y", 1}},
                                           {{(const uint8_t *)"kt", 2}, {(const uint8_t *)"z", 1}}};
static const char *const dirs[3] = {"ks/x", "ks/y", "kt/z"};

static bool write_many(void *arg, uint64_t n, bool for_ever)
{
    (void)arg;
    struct object_store *s = fake_object_new();
    struct archive_writer *w;
    struct archive_batch b[3];
    const struct archive_insert in[2] = {{true, 1, 0, slice_str("p")},
                                         {true, 2, 1, slice_str("q")}};
    for (unsigned i = 0; i < 3; i++)
        b[i] = (struct archive_batch){.log = logs[i], .records = in, .count = 2};
    nth_arm(n, for_ever);
    enum err e = archive_writer_new(&w, s, os_real(), &options, NULL);
    if (!e) {
        e = archive_append_many(w, b, 3, NULL);
        archive_writer_free(w);
        nth_pause();
        for (unsigned i = 0; i < 3; i++)
            if (e ? b[i].taken == 2 : true)
                assert_text(s, dirs[i], "p q ");
    }
    bool failed = nth_disarm();
    allowed(e);
    assert_true(failed || !e);
    assert_ok(archive_writer_new(&w, s, os_real(), &options, NULL));
    assert_ok(archive_append_many(w, b, 3, NULL));
    archive_writer_free(w);
    for (unsigned i = 0; i < 3; i++)
        assert_text(s, dirs[i], "p q ");
    object_close(s);
    return failed;
}

static void many(void **state)
{
    nth_each(write_many, NULL);
}

// ---- the batching writer

static bool write_batches(void *arg, uint64_t n, bool for_ever)
{
    (void)arg;
    struct object_store *s = fake_object_new();
    struct archive_batcher *b;
    struct archive_batcher_options o = {.writer_thread_count = 2,
                                        .batch_check_interval_millis = 1,
                                        .batch_flush_interval_millis = 1};
    unsigned stored = 0;
    nth_arm(n, for_ever);
    enum err e = archive_batcher_new(&b, s, os_real(), &options, &o, NULL);
    if (!e) {
        for (unsigned i = 0; i < 4 && !e; i++) {
            struct archive_insert in = {true, i, i, slice_of(&"0123"[i], 1)};
            for (unsigned k = 0; k < 3 && !e; k++)
                e = archive_batcher_append(b, &logs[k], &in, 1, NULL);
            if (!e)
                e = archive_batcher_flush_all(b, NULL);
            stored += !e;
        }
        for (unsigned k = 0; k < 3 && !e; k++)
            e = archive_batcher_release(b, &logs[k], NULL);
        archive_batcher_free(b);
    }
    bool failed = nth_disarm();
    allowed(e);
    assert_true(failed || !e);
    struct buf got;
    buf_init(&got, 1000);
    for (unsigned k = 0; k < 3; k++) {
        buf_clear(&got);
        world_text(s, dirs[k], &got);
        assert_true(buf_len(&got) >= 2 * stored);
        assert_memory_equal(buf_head(&got), "0 1 2 3 ", buf_len(&got));
    }
    buf_release(&got);
    object_close(s);
    return failed;
}

static void batcher(void **state)
{
    nth_each(write_batches, NULL);
}

// ---- the reader

static bool read_some(void *arg, uint64_t n, bool for_ever)
{
    struct object_store *s = arg;
    struct archive_reader *r;
    nth_arm(n, for_ever);
    enum err e = archive_reader_new(&r, s, NULL, NULL);
    if (!e) {
        static const struct archive_query queries[] = {
            {.page_size = 3},
            {.page_size = 3, .backwards = true},
            {.start = ARCHIVE_OFFSET, .offset = 4, .page_size = 2},
            {.start = ARCHIVE_TIMESTAMP, .timestamp = 1005, .page_size = 2},
            {.start = ARCHIVE_NONCE, .nonce = 7, .page_size = 2, .backwards = true},
        };
        static const uint64_t first[] = {1, 10, 4, 6, 8};
        for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
            struct archive_query q = queries[i];
            struct archive_page page = {.count = 0};
            char token[ARCHIVE_TOKEN];
            uint64_t next = first[i];
            do {
                enum err now = archive_read(r, &world_log, &q, &page, NULL);
                allowed(now); // and the reader goes on: the next query is answered as if nothing
                e = e ? e : now;
                if (now)
                    break;
                for (size_t k = 0; k < page.count; k++, next += q.backwards ? -1ul : 1)
                    assert_int_equal(page.records[k].offset, next);
                memcpy(token, page.token, page.token_size);
                q.continuation = slice_of(token, page.token_size);
            } while (page.more);
        }
        struct archive_meta meta;
        enum err now = archive_key_meta(r, &world_log, &meta, NULL);
        allowed(now);
        assert_true(now || meta.next_offset == 11);
        e = e ? e : now;
        archive_reader_free(r);
    }
    bool failed = nth_disarm();
    allowed(e);
    assert_true(failed || !e);
    return failed;
}

static void reader(void **state)
{
    struct object_store *s = fake_object_new();
    carry_on(s);
    nth_each(read_some, s);
    object_close(s);
}

int main(void)
{
    log_set_level(LOG_NONE);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writer),  cmocka_unit_test(takeover), cmocka_unit_test(many),
        cmocka_unit_test(batcher), cmocka_unit_test(reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
