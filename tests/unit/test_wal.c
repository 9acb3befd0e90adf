// The log on the real file system: what goes in comes out, and damage is told from a torn tail.
// Power failures are tested in tests/crash/crash_wal.c.
#include "unit.h"
#include "tempdir.h"

#include "base/hash.h"
#include "base/limits.h"
#include "wal/format.h"
#include "wal/wal.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STORE   0x1122334455667788u
#define SEGMENT 16384
#define MAX     4096 // frames in a test

// What the log should hold: frame i has lengths[i] bytes made from i.
static size_t lengths[MAX];

static void expect_bytes(uint8_t *p, uint64_t seq, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(hash64(slice_of(&seq, 8), i / 8) >> (i % 8 * 8));
}

struct replayed {
    uint64_t from, to; // first and last sequence seen; 0 none
    bool wrong;        // bytes differ or a sequence is out of order
};

static enum err on_frame(void *arg, uint64_t seq, struct slice payload, struct errmsg *msg)
{
    struct replayed *r = arg;
    if (r->to && seq != r->to + 1)
        r->wrong = true;
    if (!r->from)
        r->from = seq;
    r->to = seq;
    if (seq >= MAX || payload.n != lengths[seq]) {
        r->wrong = true;
        return ERR_OK;
    }
    uint8_t *want = malloc(payload.n + 1);
    expect_bytes(want, seq, payload.n);
    r->wrong |= memcmp(want, payload.p, payload.n) != 0;
    free(want);
    return ERR_OK;
}

struct watch {
    atomic_uint_least64_t durable;
    atomic_int fatal;
};
static struct watch watch;

static void on_durable(void *arg, uint64_t seq)
{
    struct watch *w = arg;
    assert_true(seq > atomic_load(&w->durable));
    atomic_store(&w->durable, seq);
}

static void on_fatal(void *arg, const char *what)
{
    struct watch *w = arg;
    atomic_fetch_add(&w->fatal, 1);
}

static char dir[64];

static int setup(void **state)
{
    tempdir_make(dir);
    memset(&watch, 0, sizeof watch);
    return 0;
}

static int teardown(void **state)
{
    tempdir_remove(dir);
    return 0;
}

static struct wal_options options(void)
{
    return (struct wal_options){.os = os_real(),
                                .dir = dir,
                                .store_id = STORE,
                                .segment_size = SEGMENT,
                                .max_batch_size = 1 << 20,
                                .buffer_max = 1 << 20,
                                .on_fatal = on_fatal,
                                .on_durable = on_durable,
                                .arg = &watch};
}

// Opens and expects frames (after, last] in the log.
static struct wal *open_expecting(const struct wal_options *o, uint64_t after, uint64_t last,
                                  struct wal_recovery *found)
{
    struct wal *w = NULL;
    struct replayed r = {0};
    struct wal_recovery here;
    struct errmsg msg = {.text = ""};
    enum err e = wal_open(&w, o, after, on_frame, &r, found ? found : &here, &msg);
    if (e != ERR_OK)
        fail_msg("%s: %s", err_name(e), msg.text);
    assert_false(r.wrong);
    assert_int_equal(r.to, last > after ? last : 0);
    assert_int_equal(r.from, last > after ? after + 1 : 0);
    assert_int_equal(wal_last(w), last > after ? last : after);
    assert_int_equal(wal_durable(w), wal_last(w));
    atomic_store(&watch.durable, wal_durable(w));
    return w;
}

static enum err append(struct wal *w, size_t n)
{
    static uint8_t p[256 << 10];
    uint64_t next = wal_last(w) + 1, seq = 0;
    lengths[next] = n;
    expect_bytes(p, next, n);
    enum err e = wal_append(w, slice_of(p, n), &seq);
    if (e == ERR_OK)
        assert_int_equal(seq, next);
    return e;
}

static unsigned count_files(const char *suffix)
{
    unsigned n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d));) {
        size_t len = strlen(e->d_name), want = strlen(suffix);
        n += len > want && strcmp(e->d_name + len - want, suffix) == 0;
    }
    closedir(d);
    return n;
}

static const char *segment(uint64_t number)
{
    static char paths[2][128]; // in turn, so that a call may name two
    static unsigned turn;
    char *path = paths[turn++ % 2], name[WAL_NAME];
    wal_segment_name(name, number);
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static enum err verify(uint64_t after, struct replayed *r, struct wal_recovery *found,
                       struct errmsg *msg)
{
    *r = (struct replayed){0};
    msg->text[0] = 0;
    return wal_verify(os_real(), dir, STORE, after, on_frame, r, found, msg);
}

// ---- going in and coming out

static void test_round_trip(void **state)
{
    struct wal_options o = options();
    struct wal_recovery found;
    struct wal *w = open_expecting(&o, 0, 0, &found);
    assert_true(found.clean);
    assert_ok(append(w, 0));
    assert_ok(append(w, 1));
    assert_int_equal(wal_durable(w), 0);
    assert_ok(wal_flush(w));
    assert_int_equal(wal_durable(w), 2);
    assert_int_equal(watch.durable, 2);
    assert_ok(append(w, 8));
    assert_ok(append(w, 999));
    assert_ok(wal_wait(w, 4));
    assert_ok(append(w, 77)); // flushed by the close
    assert_ok(wal_close(w));
    assert_int_equal(watch.durable, 5);
    struct stat st;
    assert_int_equal(stat(segment(1), &st), 0);
    assert_true(st.st_size < WAL_HEADER + 2000); // cut to its length

    w = open_expecting(&o, 0, 5, &found);
    assert_true(found.clean);
    assert_int_equal(found.frames, 5);
    assert_int_equal(found.bytes, 1085);
    assert_int_equal(found.torn_bytes, 0);
    assert_ok(wal_close(w)); // nothing appended: nothing changed
    w = open_expecting(&o, 3, 5, &found);
    assert_true(found.clean);
    assert_int_equal(found.frames, 2);
    assert_int_equal(found.segments, 1);
    assert_ok(append(w, 12));
    assert_ok(wal_flush(w));
    wal_abandon(w);
    w = open_expecting(&o, 0, 6, &found);
    assert_false(found.clean);
    assert_ok(wal_close(w)); // this time a mark is due
    w = open_expecting(&o, 0, 6, &found);
    assert_true(found.clean);
    wal_abandon(w);
    assert_int_equal(watch.fatal, 0);
}

static void test_checkpoint_past_the_log(void **state)
{
    struct wal_options o = options();
    struct wal *w = open_expecting(&o, 0, 0, NULL);
    assert_ok(append(w, 10));
    assert_ok(wal_close(w));
    w = open_expecting(&o, 7, 1, NULL);
    assert_ok(append(w, 20));
    assert_int_equal(wal_last(w), 8);
    assert_ok(wal_close(w));
    w = open_expecting(&o, 7, 8, NULL);
    wal_abandon(w);
    struct replayed r;
    struct wal_recovery found;
    struct errmsg msg;
    assert_err(verify(3, &r, &found, &msg), ERR_DAMAGED); // 4 to 7 are in no file
}

static void test_rolls(void **state)
{
    struct wal_options o = options();
    struct wal *w = open_expecting(&o, 0, 0, NULL);
    uint64_t last = 0;
    for (; last < 200; last++) {
        assert_ok(append(w, last * 37 % 1500));
        if (last % 7 == 0)
            assert_ok(wal_flush(w));
        if (last % 50 == 49) {
            assert_ok(wal_close(w));
            w = open_expecting(&o, 0, last + 1, NULL);
        }
    }
    struct wal_stats s;
    wal_get_stats(w, &s);
    assert_int_equal(s.first_seq, 1);
    assert_int_equal(s.next_seq, 201);
    assert_int_equal(s.segments, count_files(".wal"));
    assert_true(s.segments > 10);
    assert_ok(wal_close(w));
    w = open_expecting(&o, 0, last, NULL);
    wal_abandon(w);
}

// A frame of just any size up to far past a segment, each fits where it must.
static void test_oversized(void **state)
{
    struct wal_options o = options();
    struct wal *w = open_expecting(&o, 0, 0, NULL);
    size_t room = SEGMENT - WAL_HEADER - 2 * WAL_FRAME_HEAD;
    size_t sizes[] = {10, room - 8, room, room + 1, 5, 100000, 7, 200000, 200000, 1};
    size_t n = sizeof sizes / sizeof *sizes;
    for (size_t i = 0; i < n; i++)
        assert_ok(append(w, sizes[i]));
    assert_ok(wal_flush(w));
    assert_int_equal(wal_durable(w), n);
    uint64_t seq;
    assert_err(wal_append(w, (struct slice){NULL, LIMIT_WAL_FRAME + 1}, &seq), ERR_TOO_BIG);
    assert_ok(wal_close(w));
    w = open_expecting(&o, 0, n, NULL);
    assert_ok(wal_drop(w, n));
    wal_abandon(w);
}

static void test_drop_and_recycle(void **state)
{
    struct wal_options o = options();
    struct wal *w = open_expecting(&o, 0, 0, NULL);
    struct wal_stats s;
    for (int i = 0; i < 60; i++) {
        assert_ok(append(w, 1000));
        assert_ok(wal_flush(w));
    }
    wal_get_stats(w, &s);
    uint32_t before = s.segments;
    assert_true(before > 5);
    assert_ok(wal_drop(w, 0));
    wal_get_stats(w, &s);
    assert_int_equal(s.segments, before);
    assert_ok(wal_drop(w, 30));
    wal_get_stats(w, &s);
    assert_true(s.segments < before);
    assert_true(s.first_seq <= 31 && s.first_seq > 20);
    assert_int_equal(s.spares, 2);
    assert_int_equal(count_files(".wal"), s.segments);
    assert_int_equal(count_files(".tmp"), 2);
    assert_ok(wal_drop(w, 60));
    wal_get_stats(w, &s);
    assert_int_equal(s.segments, 1); // the active one stays
    for (int i = 0; i < 40; i++) {   // into recycled files
        assert_ok(append(w, 500 + (size_t)i));
        if (i % 3 == 0)
            assert_ok(wal_flush(w));
    }
    assert_ok(wal_flush(w));
    wal_abandon(w);
    w = open_expecting(&o, 60, 100, NULL);
    wal_abandon(w);
    struct replayed r;
    struct wal_recovery found;
    struct errmsg msg;
    assert_err(verify(10, &r, &found, &msg), ERR_DAMAGED);
    assert_non_null(strstr(msg.text, "from 11 on are missing"));
}

// ---- refusals

static void patch(const char *path, off_t at, const void *p, size_t n)
{
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, p, n, at), n);
    close(fd);
}

static void test_refusals(void **state)
{
    struct wal_options o = options();
    struct wal *w = open_expecting(&o, 0, 0, NULL);
    for (int i = 0; i < 30; i++)
        assert_ok(append(w, 1000));
    assert_ok(wal_close(w));
    struct replayed r;
    struct wal_recovery found;
    struct errmsg msg;
    // Another store's log.
    enum err e = wal_verify(os_real(), dir, 1, 0, on_frame, &r, &found, &msg);
    assert_err(e, ERR_DAMAGED);
    assert_non_null(strstr(msg.text, "another store"));
    // A file that is not ours, and one that is on its way.
    char path[128];
    snprintf(path, sizeof path, "%s/notes.txt", dir);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_err(verify(0, &r, &found, &msg), ERR_DAMAGED);
    assert_non_null(strstr(msg.text, "notes.txt"));
    char tmp[128];
    snprintf(tmp, sizeof tmp, "%s/notes.tmp", dir);
    assert_int_equal(rename(path, tmp), 0);
    assert_ok(verify(0, &r, &found, &msg));
    // A segment in the middle gone, under a wrong name, of a later version, shorter than a header.
    snprintf(path, sizeof path, "%s/away.tmp", dir);
    assert_int_equal(rename(segment(2), path), 0);
    assert_err(verify(0, &r, &found, &msg), ERR_DAMAGED);
    assert_non_null(
        strstr(msg.text, "00000000000000000002.wal: this segment of the log is missing"));
    assert_int_equal(link(segment(1), segment(2)), 0);
    assert_err(verify(0, &r, &found, &msg), ERR_DAMAGED);
    assert_non_null(strstr(msg.text, "wrong name"));
    assert_int_equal(rename(path, segment(2)), 0);
    assert_ok(verify(0, &r, &found, &msg));
    uint8_t block[WAL_HEADER];
    int fd = open(segment(1), O_RDONLY);
    assert_int_equal(pread(fd, block, sizeof block, 0), sizeof block);
    close(fd);
    store32(block + 12, WAL_VERSION + 1);
    store32(block + 8, crc32c(0, block + 12, WAL_HEADER - 12));
    patch(segment(1), 0, block, sizeof block);
    assert_err(verify(0, &r, &found, &msg), ERR_FORMAT);
    assert_non_null(strstr(msg.text, "00000000000000000001.wal"));
    assert_int_equal(truncate(segment(1), 100), 0);
    assert_err(verify(0, &r, &found, &msg), ERR_DAMAGED);
    assert_non_null(strstr(msg.text, "shorter than its header"));
}

// ---- damage

// Several groups in the last of two segments: frames up to `proved` are proved durable by later
// ones.
static uint64_t make_small_log(bool clean, uint64_t *proved)
{
    struct wal_options o = options();
    o.segment_size = WAL_HEADER + 1024;
    struct wal *w = open_expecting(&o, 0, 0, NULL);
    static const size_t sizes[] = {100, 0, 7, 300, 24, 240, 300, 9, 8, 64, 100, 30, 50};
    size_t n = sizeof sizes / sizeof *sizes;
    for (size_t i = 0; i < n; i++) {
        assert_ok(append(w, sizes[i]));
        if (i % 3 != 1) {
            *proved = wal_durable(w);
            assert_ok(wal_flush(w));
        }
    }
    assert_int_equal(count_files(".wal"), 2);
    if (clean)
        assert_ok(wal_close(w));
    else
        wal_abandon(w);
    return n;
}

static void flip_each_byte(bool clean)
{
    uint64_t proved = 0, last = make_small_log(clean, &proved);
    unsigned damaged = 0, shorter = 0, same = 0;
    for (uint64_t number = 1; number <= 2; number++) {
        int fd = open(segment(number), O_RDWR);
        struct stat st;
        fstat(fd, &st);
        for (off_t at = 0; at < st.st_size; at++) {
            uint8_t was, now;
            assert_int_equal(pread(fd, &was, 1, at), 1);
            now = was ^ (uint8_t)(1u << (at * 5 % 8));
            assert_int_equal(pwrite(fd, &now, 1, at), 1);
            struct replayed r;
            struct wal_recovery found;
            struct errmsg msg;
            enum err e = verify(0, &r, &found, &msg);
            if (e == ERR_DAMAGED) {
                assert_non_null(strstr(msg.text, strrchr(segment(number), '/') + 1));
                damaged++;
            } else {
                assert_ok(e);
                assert_false(r.wrong);
                assert_in_range(r.to, clean ? last : proved, last);
                *(r.to < last ? &shorter : &same) += 1;
            }
            assert_int_equal(pwrite(fd, &was, 1, at), 1);
        }
        close(fd);
    }
    print_message("%u flips refused, %u a shorter log, %u without effect\n", damaged, shorter,
                  same);
    assert_true(damaged > 2 * WAL_HEADER);
    assert_true(clean ? shorter == 0 : shorter > 50);
}

static void test_flip_each_byte(void **state)
{
    flip_each_byte(false);
}

static void test_flip_each_byte_closed(void **state)
{
    flip_each_byte(true);
}

// Cut at every length, the log is refused or a prefix of itself.
static void test_each_truncation(void **state)
{
    uint64_t proved = 0, last = make_small_log(true, &proved);
    uint64_t shortest = last;
    struct stat st;
    stat(segment(2), &st);
    for (off_t size = st.st_size; size-- > 0;) {
        assert_int_equal(truncate(segment(2), size), 0);
        struct replayed r;
        struct wal_recovery found;
        struct errmsg msg;
        enum err e = verify(0, &r, &found, &msg);
        if (e != ERR_DAMAGED)
            assert_ok(e);
        assert_false(r.wrong);
        assert_true(e == ERR_DAMAGED || r.to <= shortest);
        if (e == ERR_OK)
            shortest = r.to;
    }
    assert_true(shortest < last);
}

// What is left after a torn tail never comes back, though frames of the same size follow in its
// place.
static void test_torn_tail_stays_dead(void **state)
{
    struct wal_options o = options();
    struct wal *w = open_expecting(&o, 0, 0, NULL);
    assert_ok(append(w, 100));
    assert_ok(wal_flush(w));
    for (int i = 0; i < 4; i++)
        assert_ok(append(w, 100));
    assert_ok(wal_flush(w));
    wal_abandon(w);
    patch(segment(1), (off_t)(WAL_HEADER + 2 * wal_frame_size(100) + 30), "torn", 4);
    struct wal_recovery found;
    w = open_expecting(&o, 0, 2, &found);
    assert_int_equal(found.torn_bytes, 3 * wal_frame_size(100));
    wal_abandon(w);
    w = open_expecting(&o, 0, 2, &found); // recovering twice is recovering once
    assert_ok(append(w, 100));
    assert_ok(wal_flush(w));
    wal_abandon(w);
    w = open_expecting(&o, 0, 3, &found);
    assert_int_equal(found.torn_bytes, 0);
    assert_ok(append(w, 100));
    assert_ok(wal_close(w));
    w = open_expecting(&o, 0, 4, &found);
    assert_true(found.clean);
    wal_abandon(w);
}

// ---- threads

struct client {
    struct wal *w;
    unsigned id, count;
    bool wait;
    bool alone; // kicks so
    pthread_t thread;
};

static void *client_main(void *arg)
{
    struct client *c = arg;
    for (unsigned i = 0; i < c->count; i++) {
        uint32_t p[20] = {c->id, i};
        uint64_t seq;
        assert_ok(wal_append(c->w, slice_of(p, 8 + (c->id * 7 + i * 13) % 70), &seq));
        if (c->alone && c->id % 3)
            wal_kick_alone(c->w);
        if (c->wait)
            assert_ok(wal_wait(c->w, seq));
        else if (i % 5 == 0)
            wal_kick(c->w);
        if (c->wait)
            assert_true(wal_durable(c->w) >= seq);
    }
    return NULL;
}

#define CLIENTS 8

static enum err on_client_frame(void *arg, uint64_t seq, struct slice payload, struct errmsg *msg)
{
    uint32_t *next = arg;
    uint32_t id = load32(payload.p);
    assert_true(id < CLIENTS);
    assert_int_equal(load32(payload.p + 4), next[id]); // each client's frames in its order
    next[id]++;
    return ERR_OK;
}

static void run_clients(struct wal_options *o, unsigned count, bool wait, bool alone)
{
    struct wal *w;
    struct wal_recovery found;
    struct errmsg msg;
    uint32_t next[CLIENTS] = {0};
    assert_ok(wal_open(&w, o, 0, on_client_frame, next, &found, &msg));
    assert_ok(wal_start(w));
    struct client clients[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.w = w, .id = i, .count = count, .wait = wait, .alone = alone};
        pthread_create(&clients[i].thread, NULL, client_main, &clients[i]);
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        pthread_join(clients[i].thread, NULL);
    struct wal_stats s;
    wal_get_stats(w, &s);
    assert_int_equal(s.appended, CLIENTS * count);
    assert_ok(wal_close(w));
    assert_int_equal(watch.durable, CLIENTS * count);
    assert_int_equal(watch.fatal, 0);
    assert_ok(wal_verify(os_real(), dir, STORE, 0, on_client_frame, next, &found, &msg));
    assert_true(found.clean);
    for (unsigned i = 0; i < CLIENTS; i++)
        assert_int_equal(next[i], count);
}

static void test_clients_wait(void **state)
{
    struct wal_options o = options();
    run_clients(&o, 100, true, false);
}

// Each takes the flusher's place whenever it sleeps.
static void test_clients_alone(void **state)
{
    struct wal_options o = options();
    o.segment_size = 1 << 20;
    run_clients(&o, 300, true, true);
}

// More is appended than the buffer holds: appenders block and go on.
static void test_clients_fill_the_buffer(void **state)
{
    struct wal_options o = options();
    o.buffer_max = 2 * WAL_HEADER;
    o.segment_size = 1 << 20;
    run_clients(&o, 2000, false, false);
}

static void test_clients_batch_time(void **state)
{
    struct wal_options o = options();
    o.batch_time_us = 2000;
    o.max_batch_size = 600;
    o.segment_size = 1 << 20;
    run_clients(&o, 30, true, false);
}

struct kicker {
    struct wal *w;
    atomic_bool stop;
    pthread_t thread;
};

static void *kicker_main(void *arg)
{
    struct kicker *k = arg;
    while (!atomic_load(&k->stop))
        wal_kick(k->w);
    return NULL;
}

// Kicks by those who appended nothing come at any moment, also when the flusher is about to sleep;
// the next appender still wakes it. This test hangs where it does not.
static void test_idle_kicks(void **state)
{
    struct wal_options o = options();
    for (uint64_t i = 0; i < 100; i++) {
        struct kicker k = {.w = open_expecting(&o, 0, i, NULL)};
        assert_ok(wal_start(k.w));
        pthread_create(&k.thread, NULL, kicker_main, &k);
        usleep(1000);
        assert_ok(append(k.w, 10));
        assert_ok(wal_wait(k.w, i + 1));
        atomic_store(&k.stop, true);
        pthread_join(k.thread, NULL);
        wal_abandon(k.w);
    }
}

// A lone client's frame is durable when its kick returns; the log's end is marked all the same.
static void test_alone(void **state)
{
    struct wal_options o = options();
    struct wal *w = open_expecting(&o, 0, 0, NULL);
    struct wal_stats s;
    uint64_t in_place = 0, n = 0;
    assert_ok(wal_start(w));
    for (; n < 1000 && in_place < 5; n++) { // the flusher may be awake still
        assert_ok(append(w, 100));
        wal_kick_alone(w);
        in_place += wal_durable(w) == n + 1;
        assert_ok(wal_wait(w, n + 1));
    }
    assert_true(in_place >= 5);
    for (int i = 0; i < 500; i++) {
        wal_get_stats(w, &s);
        if (s.syncs > n)
            break;
        usleep(10000);
    }
    assert_true(s.syncs > n);
    assert_ok(wal_close(w));
}

// Left alone, the log marks its end: from then on damage to the last frame is seen.
static void test_idle_mark(void **state)
{
    struct wal_options o = options();
    struct wal *w = open_expecting(&o, 0, 0, NULL);
    assert_ok(wal_start(w));
    assert_ok(append(w, 100));
    assert_ok(wal_wait(w, 1));
    struct wal_stats s;
    for (int i = 0; i < 500; i++) {
        wal_get_stats(w, &s);
        if (s.syncs == 2)
            break;
        usleep(10000);
    }
    assert_int_equal(s.syncs, 2);
    wal_abandon(w);
    struct replayed r;
    struct wal_recovery found;
    struct errmsg msg;
    assert_ok(verify(0, &r, &found, &msg));
    assert_false(found.clean);
    patch(segment(1), WAL_HEADER + 50, "x", 1);
    assert_err(verify(0, &r, &found, &msg), ERR_DAMAGED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(test_round_trip),
        T(test_checkpoint_past_the_log),
        T(test_rolls),
        T(test_oversized),
        T(test_drop_and_recycle),
        T(test_refusals),
        T(test_flip_each_byte),
        T(test_flip_each_byte_closed),
        T(test_each_truncation),
        T(test_torn_tail_stays_dead),
        T(test_clients_wait),
        T(test_clients_alone),
        T(test_alone),
        T(test_clients_fill_the_buffer),
        T(test_clients_batch_time),
        T(test_idle_kicks),
        T(test_idle_mark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
