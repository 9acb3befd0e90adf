// Trimming logs of objects (archive/trim.c): what goes and what stays; a reader looking between
// every two calls, and one that knows no markers; kills and lost answers at every call; readers of
// what is left. test_archive_fence.c has writers that trim while others take over.
#include "unit.h"

#include "archive/reader.h"
#include "archive_world.h"
#include "base/log.h"
#include "base/os.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIR "ks/key"

static struct archive_writer *writer(struct object_store *s, const struct archive_options *o)
{
    struct archive_writer *w;
    assert_ok(archive_writer_new(&w, s, os_real(), o, NULL));
    return w;
}

static struct archive_trim trim(struct archive_writer *w, uint64_t before)
{
    struct archive_trim t = {.log = world_log, .before = before};
    struct errmsg msg = {""};
    enum err e = archive_trim(w, &t, &msg);
    if (e)
        fail_msg("%s", msg.text);
    return t;
}

// The offsets that a reader gives, from `q` on; asserts that they are a run.
static void read_run(struct object_store *s, struct archive_query q, uint64_t *first,
                     uint64_t *last)
{
    struct archive_reader *r;
    struct archive_page page = {.count = 0};
    char token[ARCHIVE_TOKEN];
    struct errmsg msg = {""};
    *first = *last = 0;
    assert_ok(archive_reader_new(&r, s, NULL, NULL));
    do {
        enum err e = archive_read(r, &world_log, &q, &page, &msg);
        if (e)
            fail_msg("%s", msg.text);
        for (size_t i = 0; i < page.count; i++) {
            uint64_t at = page.records[i].offset;
            if (*first)
                assert_int_equal(at, q.backwards ? *last - 1 : *last + 1);
            *first = *first ? *first : at;
            *last = at;
        }
        memcpy(token, page.token, page.token_size);
        q.continuation = slice_of(token, page.token_size);
    } while (page.more);
    archive_reader_free(r);
}

static void assert_run(struct object_store *s, uint64_t first, uint64_t end)
{
    uint64_t a, b;
    read_run(s, (struct archive_query){.page_size = 3}, &a, &b);
    assert_true(a == first && b == end - 1);
    read_run(s, (struct archive_query){.page_size = 3, .backwards = true}, &a, &b);
    assert_true(a == end - 1 && b == first);
    for (uint64_t at = 1; at < end; at++) {
        read_run(s, (struct archive_query){.start = ARCHIVE_OFFSET, .offset = at}, &a, &b);
        assert_true(a == (at < first ? first : at) && b == end - 1);
        struct archive_query back = {.start = ARCHIVE_OFFSET, .offset = at, .backwards = true};
        read_run(s, back, &a, &b);
        if (at < first)
            assert_int_equal(a, 0);
        else
            assert_true(a == at && b == first);
    }
    read_run(s, (struct archive_query){.start = ARCHIVE_TIMESTAMP, .timestamp = 0}, &a, &b);
    assert_true(a == first && b == end - 1);
    struct archive_query none = {
        .start = ARCHIVE_TIMESTAMP, .timestamp = 0, .backwards = true, .page_size = 2};
    read_run(s, none, &a, &b);
    assert_int_equal(a, 0);
}

static uint64_t watermark(struct object_store *s)
{
    struct slice b = fake_object_bytes(s, DIR "/watermark");
    return b.n == 8 ? load64(b.p) : 0;
}

// Ten objects of two records, each complete, and a batch of two with one.
static struct object_store *ten_and_two(const struct archive_options *o, struct archive_writer **w)
{
    struct object_store *s = fake_object_new();
    *w = writer(s, o);
    for (unsigned i = 0; i < 10; i++)
        assert_ok(world_append(*w, &world_log, "a", 2, 2 * i, NULL));
    assert_ok(world_append(*w, &world_log, "b", 1, NONCE_NONE, NULL));
    return s;
}

static const struct archive_options two = {.compact_records_threshold = 2};

static void what_goes(void **state)
{
    struct archive_writer *w;
    struct object_store *s = ten_and_two(&two, &w);
    struct archive_meta meta;
    assert_int_equal(watermark(s), 15);
    struct archive_trim t = trim(w, 2); // not all of the first object
    assert_true(t.first == 1 && t.deleted == 0 && !t.more && t.next == 3);
    assert_int_equal(world_count(s, DIR "/begin_"), 0);
    t = trim(w, 3);
    assert_true(t.first == 3 && t.deleted == 1 && t.next == 5);
    assert_int_equal(world_count(s, DIR "/begin_00000000000000000003"), 1);
    t = trim(w, 8); // two whole ones, and a record of the third
    assert_true(t.first == 7 && t.deleted == 2 && t.next == 9);
    assert_int_equal(world_count(s, DIR "/begin_"), 1);
    assert_int_equal(world_count(s, DIR "/data_"), 8);
    assert_run(s, 7, 22);
    t = trim(w, 7); // nothing more
    assert_true(t.first == 7 && t.deleted == 0);
    assert_int_equal(watermark(s), 15);
    t = trim(w, 1000); // all but what may be merged
    assert_true(t.first == 21 && t.deleted == 7 && !t.more && t.next == 22);
    assert_int_equal(world_count(s, DIR "/data_"), 1);
    assert_int_equal(watermark(s), 21); // what was there would lead to nothing
    assert_run(s, 21, 22);
    // On with it: offsets and nonces are known, by this writer and the next.
    assert_ok(world_append(w, &world_log, "c", 1, 19, NULL)); // there already
    assert_ok(world_append(w, &world_log, "c", 1, 20, NULL)); // the batch is complete
    assert_int_equal(world_count(s, DIR "/data_"), 1);
    t = trim(w, 1000); // the newest object stays
    assert_true(t.first == 21 && t.deleted == 0 && t.next == 23);
    archive_writer_free(w);
    w = writer(s, &two);
    assert_ok(archive_writer_meta(w, &world_log, &meta, NULL));
    assert_true(meta.next_offset == 23 && meta.next_nonce == 21);
    assert_ok(world_append(w, &world_log, "d", 2, 21, NULL));
    t = trim(w, 23);
    assert_true(t.first == 23 && t.deleted == 1);
    assert_run(s, 23, 25);
    archive_writer_free(w);
    assert_int_equal(world_count(s, NAME_WRITERS), 0);
    object_close(s);
}

static void nothing_there(void **state)
{
    struct object_store *s = fake_object_new();
    struct archive_writer *w = writer(s, NULL);
    uint64_t next = 0;
    assert_ok(archive_trim_due(s, &world_log, 100, &next, NULL));
    assert_true(next == UINT64_MAX);
    struct archive_trim t = trim(w, 100);
    assert_true(t.first == 1 && t.deleted == 0 && !t.more);
    assert_ok(world_append(w, &world_log, "a", 1, NONCE_NONE, NULL));
    assert_ok(archive_trim_due(s, &world_log, 100, &next, NULL));
    assert_int_equal(next, 2); // the only object stays
    archive_writer_free(w);
    object_close(s);
}

// More than one call deletes.
static void many(void **state)
{
    struct object_store *s = fake_object_new();
    struct archive_writer *w = writer(s, &two);
    unsigned calls = 0;
    uint64_t next;
    for (unsigned i = 0; i < 5000; i++)
        assert_ok(world_append(w, &world_log, "a", 2, NONCE_NONE, NULL));
    struct archive_trim t;
    do {
        assert_ok(archive_trim_due(s, &world_log, 4001, &next, NULL));
        assert_int_equal(next, 0);
        t = trim(w, 4001);
        assert_true(t.deleted > 0 && t.deleted <= 256);
        calls++;
    } while (t.more);
    assert_ok(archive_trim_due(s, &world_log, 4002, &next, NULL));
    assert_int_equal(next, 4003);
    assert_int_equal(t.first, 4001);
    assert_int_equal(world_count(s, DIR "/data_"), 3000);
    assert_true(calls >= 8 && calls < 12);
    uint64_t first, last; // one listing does not show all
    struct archive_query back = {.backwards = true, .page_size = 500};
    read_run(s, back, &first, &last);
    assert_true(first == 10000 && last == 4001);
    struct archive_query by_time = {.start = ARCHIVE_TIMESTAMP, .timestamp = 0};
    read_run(s, by_time, &first, &last);
    assert_true(first == 4001 && last == 10000);
    // Back through all of it, whose objects have no nonces.
    struct archive_query by_nonce = {.start = ARCHIVE_NONCE, .nonce = 7, .backwards = true};
    read_run(s, by_nonce, &first, &last);
    assert_int_equal(first, 0);
    struct object_stats before, after;
    object_get_stats(s, &before);
    struct archive_query at = {.start = ARCHIVE_OFFSET, .offset = 4001, .backwards = true};
    read_run(s, at, &first, &last);
    object_get_stats(s, &after);
    assert_true(first == 4001 && last == 4001);
    assert_true(after.list - before.list <= 8); // without walking through the log
    archive_writer_free(w);
    object_close(s);
}

// ---- a reader between every two calls

// One that knows of no markers: the objects from the first on must be a run.
struct plain {
    struct tiles t;
};

static bool take_plain(void *arg, const char *name, uint64_t size)
{
    struct plain *p = arg;
    const char *last = strrchr(name, '/') + 1;
    if (!strncmp(last, NAME_DATA, 5))
        tiles_take(&p->t, DIR, last, size);
    return true;
}

static uint64_t plain_end(struct object_store *s, uint64_t *first)
{
    struct plain p = {.t = {.v = NULL}};
    size_t path[200];
    uint64_t end;
    fake_object_names(s, DIR "/", take_plain, &p);
    assert_true(p.t.n < 200 && !p.t.e);
    *first = tiles_first(&p.t);
    tiles_path(&p.t, *first, path, &end);
    assert_false(tiles_beyond(&p.t, end + 1));
    tiles_release(&p.t);
    return end;
}

struct watcher {
    struct object_store *store;
    uint64_t first, end, asked;
    unsigned looks;
};

static enum fake_fault watch(void *arg, enum object_op op, const char *name)
{
    struct watcher *w = arg;
    uint64_t first, last, plain;
    (void)op;
    (void)name;
    read_run(w->store, (struct archive_query){.page_size = 1 + w->looks % 9}, &first, &last);
    if (first) {
        assert_true(first >= w->first && last + 1 >= w->end);
        assert_true(first == 1 || first <= w->asked);
        assert_true(plain_end(w->store, &plain) == last + 1 && plain <= first);
        w->first = first;
        w->end = last + 1;
    }
    w->looks++;
    return FAKE_NONE;
}

static void nobody_notices(void **state)
{
    struct object_store *s = fake_object_new(), *own = fake_object_connect(s);
    struct archive_options o = {.compact_records_threshold = 6, .compact_objects_threshold = 3};
    struct watcher look = {.store = s};
    struct archive_writer *w = writer(own, &o);
    fake_object_hook(own, watch, &look);
    uint64_t next = 1;
    for (unsigned i = 0; i < 30; i++) {
        assert_ok(world_append(w, &world_log, "r", 1 + i % 4, NONCE_NONE, NULL));
        next += 1 + i % 4;
        if (i % 5 == 4) {
            look.asked = next - 10;
            trim(w, look.asked);
        }
    }
    assert_true(look.first > 30);
    archive_writer_free(w);
    assert_true(look.looks > 200);
    object_close(own);
    object_close(s);
}

// ---- faults at every call

struct fault {
    unsigned at, calls;
    enum fake_fault kind;
};

static enum fake_fault fault_at(void *arg, enum object_op op, const char *name)
{
    struct fault *f = arg;
    (void)op;
    (void)name;
    return f->calls++ == f->at ? f->kind : FAKE_NONE;
}

enum { SCRIPT = 14 };

// Appends two records at a time, and trims all but the last five. Stops at the first error.
static unsigned script(struct archive_writer *w, unsigned from)
{
    for (unsigned i = from; i < SCRIPT; i++) {
        struct archive_trim t = {.log = world_log, .before = i > 3 ? 2 * i - 5 : 0};
        struct errmsg msg;
        if (world_append(w, &world_log, "s", 2, 2 * i, NULL) || archive_trim(w, &t, &msg))
            return i;
    }
    return SCRIPT;
}

static bool with_fault(struct fault f)
{
    struct object_store *s = fake_object_new(), *first = fake_object_connect(s);
    struct archive_options o = {.compact_records_threshold = 3, .compact_objects_threshold = 3};
    fake_object_hook(first, fault_at, &f);
    struct archive_writer *w = writer(first, &o);
    unsigned done = script(w, 0);
    bool reached = f.calls > f.at;
    archive_writer_free(w);
    uint64_t from, to;
    if (done) {
        plain_end(s, &from); // a run, whatever was left
        read_run(s, (struct archive_query){.page_size = 4}, &from, &to);
        assert_true(to >= 2 * done && (from == 1 || from <= 2 * done - 5));
    }
    o.compact_records_threshold = 7; // another idea of batches
    w = writer(s, &o);
    assert_int_equal(script(w, done), SCRIPT);
    struct archive_trim t = trim(w, 2 * SCRIPT - 7);
    assert_false(t.more);
    archive_writer_free(w);
    read_run(s, (struct archive_query){.page_size = 4}, &from, &to);
    assert_true(from == t.first && to == 2 * SCRIPT);
    // Nothing that begins before it is left but fences.
    plain_end(s, &from);
    assert_int_equal(from, t.first);
    assert_true(world_count(s, DIR "/begin_") <= 1);
    assert_true(world_count(s, NAME_WRITERS) <= 4);
    object_close(first);
    object_close(s);
    return reached;
}

static void faults_everywhere(void **state)
{
    static const enum fake_fault kinds[] = {FAKE_DEAD, FAKE_DEAD_DONE, FAKE_LOST, FAKE_ANSWER};
    for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        unsigned at = 0;
        while (with_fault((struct fault){.at = at, .kind = kinds[k]}))
            at++;
        print_message("%u calls\n", at);
        assert_true(at > 100);
    }
}

// A fenced writer put its watermark late: it leads to what is trimmed, but not deleted yet. Whoever
// opens the log there and has another idea of batches must not merge that with the rest.
static void late_watermark(void **state)
{
    struct archive_writer *w;
    struct object_store *s = ten_and_two(&two, &w), *dying = fake_object_connect(s);
    archive_writer_free(w);
    w = writer(dying, &two);
    assert_ok(world_append(w, &world_log, "c", 1, NONCE_NONE, NULL));
    struct fault f = {.at = 4, .kind = FAKE_DEAD}; // listing, watermark, intent, look, marker
    fake_object_hook(dying, fault_at, &f);
    struct archive_trim t = {.log = world_log, .before = 10};
    do {
        f.at++;
        assert_err(archive_trim(w, &t, NULL), ERR_CLOSED);
    } while (world_count(s, DIR "/begin_") == 0);
    archive_writer_free(w);
    assert_int_equal(world_count(s, DIR "/data_o00000000000000000007"), 1); // not deleted
    uint8_t mark[8];
    store64(mark, 7);
    fake_object_set(s, DIR "/watermark", slice_of(mark, 8));
    struct archive_options o = {.compact_records_threshold = 1000, .compact_objects_threshold = 2};
    w = writer(s, &o);
    assert_ok(world_append(w, &world_log, "d", 1, NONCE_NONE, NULL));
    uint64_t first, last;
    read_run(s, (struct archive_query){.page_size = 4}, &first, &last);
    assert_true(first == 9 && last == 23);
    assert_int_equal(trim(w, 9).first, 9);
    assert_run(s, 9, 24);
    assert_int_equal(world_count(s, DIR "/data_o00000000000000000007"), 0);
    archive_writer_free(w);
    object_close(dying);
    object_close(s);
}

// What a fenced writer puts late, before the log's beginning, is seen by nobody, and is deleted.
static void late_data(void **state)
{
    struct archive_writer *w;
    struct object_store *s = ten_and_two(&two, &w);
    struct plain p = {.t = {.v = NULL}};
    fake_object_names(s, DIR "/data_o00000000000000000003", take_plain, &p);
    assert_int_equal(p.t.n, 1);
    trim(w, 9);
    char full[NAME_FULL_MAX];
    data_full_name(DIR, &p.t.v[0].name, full);
    fake_object_set(s, full, slice_str("anything"));
    assert_run(s, 9, 22);
    uint64_t next;
    assert_ok(archive_trim_due(s, &world_log, 9, &next, NULL));
    assert_int_equal(next, 0);
    struct archive_trim t = trim(w, 9);
    assert_true(t.deleted == 1 && t.first == 9);
    assert_int_equal(world_count(s, full), 0);
    tiles_release(&p.t);
    archive_writer_free(w);
    object_close(s);
}

// A keyspace whose name looks like a closure: who takes over finds the intents all the same.
static void closed_keyspace(void **state)
{
    struct object_store *s = fake_object_new(), *dying = fake_object_connect(s);
    struct archive_log log = {slice_str("closed by me"), slice_str("key")};
    struct archive_writer *w = writer(dying, NULL), *other = writer(s, NULL);
    assert_ok(world_append(w, &log, "a", 1, NONCE_NONE, NULL));
    struct fault f = {.at = 2, .kind = FAKE_DEAD}; // intent, look, data
    fake_object_hook(dying, fault_at, &f);
    assert_int_equal(world_append(w, &log, "b", 1, NONCE_NONE, NULL), ERR_CLOSED);
    struct archive_meta meta;
    assert_ok(archive_writer_meta(other, &log, &meta, NULL));
    assert_int_equal(world_count(s, "closed by me/key/data_o00000000000000000002"), 1); // the fence
    archive_writer_free(w);
    archive_writer_free(other);
    object_close(dying);
    object_close(s);
}

int main(void)
{
    log_set_level(LOG_NONE);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes),
        cmocka_unit_test(nothing_there),
        cmocka_unit_test(many),
        cmocka_unit_test(nobody_notices),
        cmocka_unit_test(faults_everywhere),
        cmocka_unit_test(late_watermark),
        cmocka_unit_test(late_data),
        cmocka_unit_test(closed_keyspace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
