// The direct writer (archive/writer.h): names and bytes of what it puts, nonces, thresholds;
// compaction with a reader looking between every two calls; kills and lost answers at every call;
// objects of klstore's; what is damaged.
#include "unit.h"

#include "archive/check.h"
#include "archive/reader.h"
#include "archive_world.h"
#include "base/hash.h"
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

// All records' texts, read with pages of `size`.
static enum err read_text(struct object_store *s, uint64_t size, bool backwards, struct buf *out,
                          struct errmsg *msg)
{
    struct archive_reader *r;
    struct archive_page page = {.count = 0};
    struct archive_query q = {.page_size = size, .backwards = backwards};
    char token[ARCHIVE_TOKEN];
    enum err e;
    assert_ok(archive_reader_new(&r, s, NULL, NULL));
    do {
        e = archive_read(r, &world_log, &q, &page, msg);
        for (size_t i = 0; !e && i < page.count; i++) {
            assert_ok(buf_append(out, page.records[i].bytes.p, page.records[i].bytes.n));
            assert_ok(buf_append(out, " ", 1));
        }
        memcpy(token, page.token, page.token_size);
        q.continuation = slice_of(token, page.token_size);
    } while (!e && page.more);
    archive_reader_free(r);
    assert_ok(buf_append(out, "", 1));
    out->end--;
    return e;
}

static void assert_text(struct object_store *s, const char *want)
{
    struct buf got, same;
    buf_init(&got, 1 << 20);
    buf_init(&same, 1 << 20);
    assert_ok(read_text(s, 7, false, &got, NULL));
    assert_string_equal(buf_head(&got), want);
    world_text(s, DIR, &same); // and as the objects say
    world_check(s);
    assert_string_equal(buf_head(&same), want);
    buf_release(&got);
    buf_release(&same);
}

static void golden(void **state)
{
    struct object_store *s = fake_object_new();
    struct archive_writer *w = writer(s, NULL);
    struct archive_insert in[2] = {{true, -5, 7, slice_str("a")}, {true, -9, 9, slice_str("bc")}};
    struct archive_batch b = {
        .log = {slice_str("k s"), slice_str("a/b%")}, .records = in, .count = 2};
    assert_ok(archive_append(w, &b, NULL));
    assert_true(b.first_offset == 1 && b.next_offset == 3 && b.next_nonce == 10 && b.taken == 2);
    static const char name[] =
        "k s/a%2Fb%25/data_o00000000000000000001-o2_t-9-t-5_n7-n10_s83_p0.bin";
    static const uint8_t bytes[] = {
        1, 0, 0, 0, 0, 0, 0, 0, 0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 7,   0,  0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0,    0,    0,    1,    0,    0,    0,    'a',  37,  0,  0, 0, //
        2, 0, 0, 0, 0, 0, 0, 0, 0xf7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 9,   0,  0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0,    0,    0,    2,    0,    0,    0,    'b',  'c', 38, 0, 0, 0};
    struct slice got = fake_object_bytes(s, name);
    assert_int_equal(got.n, sizeof bytes);
    assert_memory_equal(got.p, bytes, sizeof bytes);
    // The next one: it names the first as its prior; without nonces the names carry the log's.
    in[0] = (struct archive_insert){true, 3, NONCE_NONE, slice_of(NULL, 0)};
    b.count = 1;
    assert_ok(archive_append(w, &b, NULL));
    assert_int_equal(
        fake_object_bytes(s, "k s/a%2Fb%25/data_o00000000000000000003-o3_t3-t3_n10-n10_s40_p1.bin")
            .n,
        40);
    archive_writer_free(w);
    assert_int_equal(world_count(s, NAME_WRITERS), 0); // it left nothing behind
    object_close(s);
}

static void nonces(void **state)
{
    struct object_store *s = fake_object_new();
    struct archive_writer *w = writer(s, NULL);
    struct archive_batch b;
    assert_ok(world_append(w, &world_log, "a", 3, 10, &b)); // 10 11 12
    assert_true(b.taken == 3 && b.next_nonce == 13);
    assert_ok(world_append(w, &world_log, "b", 4, 11, &b)); // 13 14 are new
    assert_true(b.taken == 2 && b.first_offset == 4 && b.next_offset == 6);
    assert_ok(world_append(w, &world_log, "c", 2, 0, &b));
    assert_true(b.taken == 0 && b.next_offset == 6 && b.next_nonce == 15);
    archive_writer_free(w);
    w = writer(s, NULL); // what is stored is all that there is to know
    assert_ok(world_append(w, &world_log, "d", 3, 14, &b));
    assert_true(b.taken == 2 && b.first_offset == 6);
    assert_text(s, "a0 a1 a2 b2 b3 d1 d2 ");
    archive_writer_free(w);
    object_close(s);
}

static uint64_t watermark(struct object_store *s)
{
    struct slice b = fake_object_bytes(s, DIR "/watermark");
    return b.n == 8 ? load64(b.p) : 0;
}

static void thresholds(void **state)
{
    struct object_store *s = fake_object_new();
    struct archive_options o = {.compact_records_threshold = 10, .compact_objects_threshold = 3};
    struct archive_writer *w = writer(s, &o);
    for (unsigned i = 0; i < 2; i++)
        assert_ok(world_append(w, &world_log, "a", 1, NONCE_NONE, NULL));
    assert_int_equal(world_count(s, DIR "/data_"), 2);
    assert_ok(world_append(w, &world_log, "b", 1, NONCE_NONE, NULL)); // three objects are one
    assert_int_equal(world_count(s, DIR "/data_"), 1);
    assert_int_equal(watermark(s), 0);
    assert_ok(world_append(w, &world_log, "c", 7, NONCE_NONE, NULL)); // ten records are complete
    assert_int_equal(world_count(s, DIR "/data_"), 1);
    assert_int_equal(watermark(s), 1);
    assert_ok(world_append(w, &world_log, "d", 1, NONCE_NONE, NULL));
    assert_ok(world_append(w, &world_log, "e", 9, NONCE_NONE, NULL));
    assert_int_equal(world_count(s, DIR "/data_"), 2);
    assert_int_equal(watermark(s), 11);
    assert_text(s, "a0 a0 b0 c0 c1 c2 c3 c4 c5 c6 d0 e0 e1 e2 e3 e4 e5 e6 e7 e8 ");
    archive_writer_free(w);
    o.compact_records_threshold = 0;
    o.compact_size_threshold = 100;
    w = writer(s, &o);
    for (unsigned i = 0; i < 3; i++) // 42 bytes each
        assert_ok(world_append(w, &world_log, "f", 1, NONCE_NONE, NULL));
    assert_int_equal(watermark(s), 21);
    archive_writer_free(w);
    object_close(s);
}

// ---- a reader between every two calls

struct watcher {
    struct object_store *store;
    struct buf seen;
    unsigned looks;
};

static enum fake_fault watch(void *arg, enum object_op op, const char *name)
{
    struct watcher *w = arg;
    struct buf now;
    buf_init(&now, 1 << 20);
    assert_ok(read_text(w->store, 1 + w->looks % 9, false, &now, NULL));
    assert_true(slice_starts(buf_slice(&now), buf_slice(&w->seen)));
    buf_release(&w->seen);
    w->seen = now;
    w->looks++;
    (void)op;
    (void)name;
    return FAKE_NONE;
}

static void nobody_notices(void **state)
{
    struct object_store *s = fake_object_new(), *own = fake_object_connect(s);
    struct archive_options o = {.compact_records_threshold = 12, .compact_objects_threshold = 3};
    struct watcher look = {.store = s};
    struct archive_writer *w = writer(own, &o);
    buf_init(&look.seen, 1 << 20);
    fake_object_hook(own, watch, &look);
    for (unsigned i = 0; i < 20; i++)
        assert_ok(world_append(w, &world_log, "r", 1 + i % 4, NONCE_NONE, NULL));
    archive_writer_free(w);
    assert_true(look.looks > 100);
    buf_release(&look.seen);
    object_close(own);
    object_close(s);
}

// A reader whose calls are the ones that a writer's compactions come between.
struct meddler {
    struct archive_writer *w;
    unsigned left;
};

static enum fake_fault meddle(void *arg, enum object_op op, const char *name)
{
    struct meddler *m = arg;
    (void)op;
    (void)name;
    if (m->left) {
        m->left--;
        assert_ok(world_append(m->w, &world_log, "m", 2, NONCE_NONE, NULL));
    }
    return FAKE_NONE;
}

static void reads_while_it_changes(void **state)
{
    for (unsigned at = 0; at < 30; at++) {
        struct object_store *s = fake_object_new(), *theirs = fake_object_connect(s);
        struct archive_options o = {.compact_records_threshold = 9, .compact_objects_threshold = 3};
        struct meddler m = {.w = writer(s, &o), .left = 40};
        struct buf text;
        buf_init(&text, 1 << 20);
        for (unsigned i = 0; i < 5 + at; i++)
            assert_ok(world_append(m.w, &world_log, "m", 1, NONCE_NONE, NULL));
        fake_object_hook(theirs, meddle, &m);
        assert_ok(read_text(theirs, 1 + at % 7, at % 2, &text, NULL));
        assert_true(buf_len(&text) >= (5 + at) * 3);
        buf_release(&text);
        archive_writer_free(m.w);
        object_close(theirs);
        object_close(s);
    }
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

// Appends the script's records from `from` on: one or two at a time, with nonces. Returns how far
// it came, in appends that were reported as stored.
static unsigned script(struct archive_writer *w, unsigned from)
{
    char label[16];
    for (unsigned i = from; i < SCRIPT; i++) {
        snprintf(label, sizeof label, "s%u.", i);
        if (world_append(w, &world_log, label, 1 + i % 2, 2 * i, NULL))
            return i;
    }
    return SCRIPT;
}

// The script with one fault, then the rest of it by a new writer, which begins `again` appends
// before what was reported: all is there once. Returns false if there was no such call.
static bool with_fault(struct fault f, unsigned again)
{
    struct object_store *s = fake_object_new(), *first = fake_object_connect(s);
    struct archive_options o = {.compact_records_threshold = 8, .compact_objects_threshold = 3};
    char want[SCRIPT * 16] = "";
    fake_object_hook(first, fault_at, &f);
    struct archive_writer *w = writer(first, &o);
    unsigned done = script(w, 0);
    bool reached = f.calls > f.at;
    archive_writer_free(w);
    w = writer(s, &o);
    unsigned end = script(w, done > again ? done - again : 0);
    assert_int_equal(end, SCRIPT);
    archive_writer_free(w);
    for (unsigned i = 0; i < SCRIPT; i++)
        for (unsigned j = 0; j < 1 + i % 2; j++)
            snprintf(want + strlen(want), sizeof want - strlen(want), "s%u.%u ", i, j);
    assert_text(s, want);
    assert_true(world_count(s, NAME_WRITERS) <= 4);
    assert_true(world_count(s, DIR "/epoch_") <= 2);
    object_close(first);
    object_close(s);
    return reached;
}

static void faults_everywhere(void **state)
{
    static const enum fake_fault kinds[] = {FAKE_DEAD, FAKE_DEAD_DONE, FAKE_LOST, FAKE_ANSWER};
    for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        unsigned at = 0;
        while (with_fault((struct fault){.at = at, .kind = kinds[k]}, at % 3))
            at++;
        print_message("%u calls\n", at);
        assert_true(at > 60);
    }
}

// The same record, that gets its fence again and again instead: each time the put is not done, and
// the next writer is asked for just the same. Other names are found for it, in a log that has
// nothing else and in one that has.
static enum fake_fault no_data(void *arg, enum object_op op, const char *name)
{
    (void)arg;
    return op == OBJECT_PUT_ABSENT && !strncmp(name, DIR "/data_", 12) ? FAKE_DEAD : FAKE_NONE;
}

static void fenced_again(void **state)
{
    for (unsigned before = 0; before < 2; before++) {
        struct object_store *s = fake_object_new();
        struct archive_insert in = {true, 1000, 7, slice_str("x0")};
        struct archive_batch b = {.log = world_log, .records = &in, .count = 1};
        struct errmsg msg = {""};
        struct archive_writer *w = writer(s, NULL);
        if (before)
            assert_ok(world_append(w, &world_log, "a", 1, 5, NULL));
        archive_writer_free(w);
        for (unsigned i = 0; i < 5; i++) {
            struct object_store *theirs = fake_object_connect(s);
            fake_object_hook(theirs, no_data, NULL);
            w = writer(theirs, NULL);
            assert_int_equal(archive_append(w, &b, &msg), ERR_CLOSED);
            archive_writer_free(w);
            object_close(theirs);
        }
        w = writer(s, NULL);
        if (archive_append(w, &b, &msg))
            fail_msg("%s", msg.text);
        archive_writer_free(w);
        assert_text(s, before ? "a0 x0 " : "x0 ");
        object_close(s);
    }
}

// ---- one object that cannot be put

static enum fake_fault bad_data(void *arg, enum object_op op, const char *name)
{
    const enum fake_fault *kind = arg;
    bool bad = op == OBJECT_PUT_ABSENT && !strncmp(name, "ks/bad/data_", 12);
    return bad ? *kind : FAKE_NONE;
}

static const char *const three[] = {"a", "bad", "c"};

static struct archive_log log_named(const char *key)
{
    return (struct archive_log){slice_str("ks"), slice_str(key)};
}

// Appends a record of this nonce to each of the three at once. Returns what came of each.
static void append_three(struct archive_writer *w, unsigned nonce, enum err fates[3])
{
    struct archive_insert in = {true, 1000 + nonce, nonce, slice_str("r")};
    struct archive_batch b[3];
    struct errmsg msg = {""};
    for (unsigned i = 0; i < 3; i++)
        b[i] = (struct archive_batch){.log = log_named(three[i]), .records = &in, .count = 1};
    enum err e = archive_append_many(w, b, 3, &msg);
    for (unsigned i = 0; i < 3; i++)
        fates[i] = b[i].taken == 1 ? ERR_OK : b[i].e ? b[i].e : e;
}

static enum err append_nonce(struct archive_writer *w, const char *key, unsigned nonce)
{
    struct archive_log log = log_named(key);
    return world_append(w, &log, "r", 1, nonce, NULL);
}

static void assert_records(struct object_store *s, const char *key, size_t want)
{
    struct archive_reader *r;
    struct archive_page page;
    struct archive_log log = log_named(key);
    struct archive_query q = {.page_size = 0};
    assert_ok(archive_reader_new(&r, s, NULL, NULL));
    assert_ok(archive_read(r, &log, &q, &page, NULL));
    assert_int_equal(page.count, want);
    for (size_t i = 0; i < want; i++)
        assert_true(page.records[i].nonce == i);
    archive_reader_free(r);
    world_check(s);
}

// The store takes everything but data of one log. Writers, one after the other and the same one
// again and again, go on with the others; then that log has its records, once.
static void one_name_fails(enum fake_fault kind, bool late)
{
    struct object_store *s = fake_object_new(), *theirs = fake_object_connect(s);
    enum err fates[3];
    unsigned n = 0;
    fake_object_hook(theirs, bad_data, &kind);
    struct archive_writer *w = writer(theirs, NULL);
    append_three(w, n, fates);
    assert_true(fates[0] == ERR_OK && fates[1] == ERR_NETWORK && fates[2] == ERR_OK);
    assert_true(archive_writer_broken(w));
    for (unsigned turn = 0; turn < 3; turn++) {
        archive_writer_free(w);
        w = writer(theirs, NULL);
        for (unsigned i = 0; i < 100; i++) {
            n++;
            assert_ok(append_nonce(w, "a", n));
            assert_int_equal(append_nonce(w, "bad", 0), ERR_NETWORK);
            assert_ok(append_nonce(w, "c", n));
            assert_false(archive_writer_broken(w));
        }
    }
    assert_true(world_count(s, "ks/bad/epoch_") <= 4);
    assert_true(world_count(s, NAME_WRITERS) <= 6);
    if (late) { // the very first put arrives after all
        char name[NAME_FULL_MAX], text[64];
        struct name d = {.first = 1,
                         .last = 1,
                         .min_time = 1000,
                         .max_time = 1000,
                         .next_nonce = 1,
                         .size = record_size(1)};
        struct record r = {1, 1000, 0, slice_str("r")};
        record_write((uint8_t *)text, &r);
        data_full_name("ks/bad", &d, name);
        struct slice bytes = slice_of(text, d.size);
        struct object_call put = {.op = OBJECT_PUT_ABSENT,
                                  .name = name,
                                  .parts = &bytes,
                                  .count = 1,
                                  .sum = {true, crc32c(0, text, d.size)}};
        assert_ok(object_run(s, &put, 1));
    }
    kind = FAKE_NONE;
    for (unsigned i = 0; i <= n; i++)
        assert_ok(append_nonce(w, "bad", i));
    archive_writer_free(w);
    for (unsigned i = 0; i < 3; i++)
        assert_records(s, three[i], n + 1);
    assert_int_equal(world_count(s, NAME_WRITERS), 0);
    object_close(theirs);
    object_close(s);
}

static void one_object_fails(void **state)
{
    one_name_fails(FAKE_LOST, false);
    one_name_fails(FAKE_LOST, true);
    one_name_fails(FAKE_ANSWER, false);
}

// ---- what klstore lays down, and damage

static void put_object(struct object_store *s, struct name n, const char *texts)
{
    uint8_t bytes[2000], *at = bytes;
    char full[NAME_FULL_MAX];
    for (uint64_t i = n.first; i <= n.last; i++)
        at = record_write(at, &(struct record){i, (int64_t)i * 10, NONCE_NONE,
                                               slice_of(texts + (i - n.first), 1)});
    n.size = (uint64_t)(at - bytes);
    data_full_name(DIR, &n, full);
    fake_object_set(s, full, slice_of(bytes, n.size));
}

static void from_klstore(void **state)
{
    struct object_store *s = fake_object_new();
    // Two complete objects, whose times klstore takes from the first and last of the parts; parts.
    put_object(s, (struct name){1, 3, 30, 10, 0, 5, 0, 0}, "abc");
    put_object(s, (struct name){4, 6, 40, 60, 5, 9, 0, 1}, "def");
    put_object(s, (struct name){7, 7, 70, 70, 9, 9, 0, 4}, "g");
    put_object(s, (struct name){8, 9, 80, 90, 9, 12, 0, 7}, "hi");
    uint8_t mark[8];
    store64(mark, 4);
    fake_object_set(s, DIR "/watermark", slice_of(mark, 8));
    struct buf text;
    buf_init(&text, 1000);
    assert_ok(read_text(s, 2, false, &text, NULL));
    assert_string_equal(buf_head(&text), "a b c d e f g h i ");
    buf_clear(&text);
    assert_ok(read_text(s, 2, true, &text, NULL));
    assert_string_equal(buf_head(&text), "i h g f e d c b a ");
    buf_release(&text);
    struct archive_options o = {.compact_records_threshold = 3};
    struct archive_writer *w = writer(s, &o);
    struct archive_batch b;
    assert_ok(world_append(w, &world_log, "n", 2, 11, &b)); // 11 is there
    assert_true(b.taken == 1 && b.first_offset == 10 && b.next_nonce == 13);
    archive_writer_free(w);
    assert_int_equal(watermark(s), 7); // merged with the parts
    assert_int_equal(world_count(s, DIR "/data_"), 3);
    object_close(s);
}

static void damage(struct object_store *s, const char *words)
{
    struct buf text;
    struct errmsg msg = {""};
    buf_init(&text, 1000);
    assert_err(read_text(s, 100, false, &text, &msg), ERR_DAMAGED);
    if (!strstr(msg.text, words))
        fail_msg("\"%s\" is not in \"%s\"", words, msg.text);
    assert_int_equal(buf_len(&text), 0);
    buf_release(&text);
}

static void damaged(void **state)
{
    struct object_store *s = fake_object_new();
    static const char second[] = DIR "/data_o00000000000000000004-o6_t40-t60_n5-n9_s123_p1.bin";
    struct name one = {1, 3, 10, 30, 0, 5, 0, 0}, two = {4, 6, 40, 60, 5, 9, 0, 1};
    uint8_t copy[123];
    put_object(s, one, "abc");
    put_object(s, two, "def");
    memcpy(copy, fake_object_bytes(s, second).p, sizeof copy);
    fake_object_set(s, second, slice_of(copy, 122)); // cut
    damage(s, "data_o00000000000000000004-o6");
    damage(s, "122 bytes");
    copy[41]++; // an offset
    fake_object_set(s, second, slice_of(copy, 123));
    damage(s, "data_o00000000000000000004-o6");
    copy[41]--;
    copy[32]++; // a length
    fake_object_set(s, second, slice_of(copy, 123));
    damage(s, "data_o00000000000000000004-o6");
    fake_object_drop(s, second);
    put_object(s, (struct name){7, 7, 70, 70, 9, 9, 0, 4}, "g");
    damage(s, "no object holds offset 4");
    struct archive_writer *w = writer(s, NULL);
    assert_err(world_append(w, &world_log, "n", 1, NONCE_NONE, NULL), ERR_DAMAGED);
    archive_writer_free(w);
    put_object(s, two, "def");
    fake_object_set(s, DIR "/data_o5.bin", slice_str("x"));
    damage(s, "data_o5.bin");
    fake_object_drop(s, DIR "/data_o5.bin");
    uint8_t mark[8];
    store64(mark, 5);
    fake_object_set(s, DIR "/watermark", slice_of(mark, 8));
    w = writer(s, NULL); // a watermark where nothing begins is left aside
    assert_ok(world_append(w, &world_log, "n", 1, NONCE_NONE, NULL));
    archive_writer_free(w);
    fake_object_set(s, DIR "/watermark", slice_of(mark, 7));
    w = writer(s, NULL);
    assert_err(world_append(w, &world_log, "n", 1, NONCE_NONE, NULL), ERR_DAMAGED);
    archive_writer_free(w);
    object_close(s);
}

static bool take_last(void *arg, const char *name, uint64_t size)
{
    (void)size;
    snprintf(arg, NAME_FULL_MAX, "%s", name);
    return true;
}

// A compaction between the listing and the gets of archive_check: what is new is looked at then.
struct merging {
    struct archive_writer *w;
    unsigned gets;
};

static enum fake_fault merge_meanwhile(void *arg, enum object_op op, const char *name)
{
    struct merging *m = arg;
    if (op == OBJECT_GET && m->gets++ == 1)
        assert_ok(world_append(m->w, &world_log, "c", 2, NONCE_NONE, NULL));
    return FAKE_NONE;
}

static void told(void *arg, const char *what)
{
    snprintf(arg, 512, "%s", what);
}

static void checked_while_it_is_compacted(void **state)
{
    struct object_store *s = fake_object_new();
    struct archive_options o = {.compact_objects_threshold = 3};
    struct merging m = {.w = writer(s, &o)};
    char what[512] = "", last[NAME_FULL_MAX] = "";
    struct archive_check c = {.defect = told, .arg = what};
    assert_ok(world_append(m.w, &world_log, "a", 2, NONCE_NONE, NULL));
    assert_ok(world_append(m.w, &world_log, "b", 2, NONCE_NONE, NULL));
    struct object_store *other = fake_object_connect(s);
    fake_object_hook(other, merge_meanwhile, &m);
    assert_ok(archive_check(other, &c, NULL));
    assert_string_equal(what, "");
    assert_true(c.objects == 2 && c.records == 2 + 6 && c.logs == 1); // one part, and the whole
    fake_object_names(s, DIR "/data_", take_last, last);
    fake_object_drop(s, last);
    assert_ok(archive_check(other, &c, NULL));
    assert_int_equal(c.defects, 0); // of a log that is gone whole nothing is known
    object_close(other);
    archive_writer_free(m.w);
    object_close(s);
}

// Data that was altered where no layout tells: who reads is told, and nobody merges it.
static void altered(void **state)
{
    struct object_store *s = fake_object_new();
    struct archive_options o = {.compact_objects_threshold = 3};
    struct archive_writer *w = writer(s, &o);
    struct buf text;
    char last[NAME_FULL_MAX] = "";
    buf_init(&text, 1000);
    assert_ok(world_append(w, &world_log, "a", 2, NONCE_NONE, NULL));
    assert_ok(world_append(w, &world_log, "b", 2, NONCE_NONE, NULL));
    fake_object_names(s, DIR "/data_", take_last, last);
    fake_object_flip(s, last, 36); // the first byte of its first record
    damage(s, last);
    damage(s, "CRC-32C");
    assert_ok(world_append(w, &world_log, "c", 2, NONCE_NONE, NULL)); // it is not compacted
    assert_int_equal(world_count(s, DIR "/data_"), 3);
    damage(s, last);
    fake_object_flip(s, last, 36);
    assert_ok(world_append(w, &world_log, "d", 2, NONCE_NONE, NULL)); // now it is
    assert_int_equal(world_count(s, DIR "/data_"), 1);
    fake_object_names(s, DIR "/data_", take_last, last);
    fake_object_flip(s, last, 42 + 36); // in the second record, which was in another object
    damage(s, last);
    uint8_t copy[500];
    struct slice bytes = fake_object_bytes(s, last);
    assert_true(bytes.n <= sizeof copy);
    memcpy(copy, bytes.p, bytes.n);
    fake_object_set(s, last, slice_of(copy, bytes.n)); // without a sum nobody can tell
    assert_ok(read_text(s, 100, false, &text, NULL));
    assert_int_equal(buf_len(&text), 8 * 3);
    buf_release(&text);
    archive_writer_free(w);
    object_close(s);
}

// Data that was cut to nothing is no fence, wherever it stands: who reads it is told, and others
// are not; and a writer does not go on where it begins.
static void cut_to_nothing(void **state)
{
    for (unsigned at = 0; at < 3; at++) {
        struct object_store *s = fake_object_new();
        struct archive_writer *w = writer(s, NULL);
        char names[3][NAME_FULL_MAX] = {""};
        for (unsigned i = 0; i < 3; i++) {
            assert_ok(world_append(w, &world_log, "a", 2, NONCE_NONE, NULL));
            fake_object_names(s, DIR "/data_", take_last, names[i]);
        }
        archive_writer_free(w);
        fake_object_cut(s, names[at]);
        damage(s, names[at]);
        damage(s, "0 bytes");
        struct archive_reader *r;
        struct archive_page page;
        assert_ok(archive_reader_new(&r, s, NULL, NULL));
        for (unsigned i = 0; i < 6; i++) {
            struct archive_query q = {.start = ARCHIVE_OFFSET, .offset = i + 1, .page_size = 1};
            assert_int_equal(archive_read(r, &world_log, &q, &page, NULL),
                             i / 2 == at ? ERR_DAMAGED : ERR_OK);
        }
        struct archive_meta meta;
        assert_ok(archive_key_meta(r, &world_log, &meta, NULL));
        assert_int_equal(meta.next_offset, 7);
        archive_reader_free(r);
        struct archive_batch b;
        w = writer(s, NULL);
        assert_ok(world_append(w, &world_log, "b", 2, NONCE_NONE, &b));
        assert_int_equal(b.first_offset, 7);
        archive_writer_free(w);
        object_close(s);
    }
}

static void keyspaces_and_meta(void **state)
{
    struct object_store *s = fake_object_new();
    struct archive_reader *r;
    struct archive_meta meta;
    struct errmsg msg = {""};
    uint64_t made, read;
    assert_ok(archive_reader_new(&r, s, NULL, NULL));
    assert_err(archive_keyspace_meta(r, slice_str("ks"), &read, &msg), ERR_NO_KEYSPACE);
    assert_ok(archive_create_keyspace(s, os_real(), slice_str("ks"), &made, &msg));
    assert_err(archive_create_keyspace(s, os_real(), slice_str("ks"), &made, &msg), ERR_EXISTS);
    assert_ok(archive_keyspace_meta(r, slice_str("ks"), &read, &msg));
    assert_true(made == read);
    fake_object_set(s, "ks_config.ini", slice_str("[keyspace]\ncreated=123\n"));
    assert_ok(archive_keyspace_meta(r, slice_str("ks"), &read, &msg));
    assert_true(read == 123);
    fake_object_set(s, "ks_config.ini", slice_str("nothing"));
    assert_err(archive_keyspace_meta(r, slice_str("ks"), &read, &msg), ERR_DAMAGED);
    assert_err(archive_key_meta(r, &world_log, &meta, &msg), ERR_MISSING);
    struct archive_writer *w = writer(s, NULL);
    assert_ok(world_append(w, &world_log, "a", 3, 10, NULL));
    assert_ok(archive_key_meta(r, &world_log, &meta, &msg));
    assert_true(meta.next_offset == 4 && meta.next_nonce == 13);
    assert_ok(archive_writer_meta(w, &world_log, &meta, &msg));
    assert_true(meta.next_offset == 4 && meta.next_nonce == 13);
    struct archive_log other = {slice_str("ks"), slice_str("other")};
    struct archive_query q = {.page_size = 1};
    struct archive_page page;
    assert_ok(archive_read(r, &other, &q, &page, &msg));
    assert_true(page.count == 0 && !page.more);
    assert_ok(archive_read(r, &world_log, &q, &page, &msg));
    q.continuation = slice_of(page.token, page.token_size);
    assert_err(archive_read(r, &other, &q, &page, &msg), ERR_INVALID); // another log's
    archive_writer_free(w);
    archive_reader_free(r);
    object_close(s);
}

// More logs than the cache holds: what is forgotten is looked up again.
static void small_cache(void **state)
{
    struct object_store *s = fake_object_new();
    struct archive_options o = {.max_cached_keys = 3};
    struct archive_writer *w = writer(s, &o);
    for (unsigned round = 0; round < 3; round++)
        for (unsigned i = 0; i < 8; i++) {
            char key[16];
            int n = snprintf(key, sizeof key, "%u", i);
            struct archive_log log = {slice_str("ks"), slice_of(key, (size_t)n)};
            struct archive_batch b;
            assert_ok(world_append(w, &log, "r", 2, round, &b));
            assert_int_equal(b.taken, round ? 1 : 2);
        }
    archive_writer_free(w);
    assert_int_equal(world_count(s, "ks/3/epoch_"), 2);
    object_close(s);
}

int main(void)
{
    log_set_level(LOG_NONE);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),
        cmocka_unit_test(nonces),
        cmocka_unit_test(thresholds),
        cmocka_unit_test(nobody_notices),
        cmocka_unit_test(reads_while_it_changes),
        cmocka_unit_test(faults_everywhere),
        cmocka_unit_test(fenced_again),
        cmocka_unit_test(one_object_fails),
        cmocka_unit_test(from_klstore),
        cmocka_unit_test(damaged),
        cmocka_unit_test(altered),
        cmocka_unit_test(cut_to_nothing),
        cmocka_unit_test(checked_while_it_is_compacted),
        cmocka_unit_test(keyspaces_and_meta),
        cmocka_unit_test(small_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
