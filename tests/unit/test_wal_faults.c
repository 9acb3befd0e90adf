// The log on the simulated machine: full disks, calls that fail, and the file format byte by byte.
#include "unit.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/os_sim.h"
#include "wal/format.h"
#include "wal/wal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DIR     "/wal"
#define STORE   5
#define SEGMENT (WAL_HEADER + 1000)
#define CALLS   100 // more than the script makes

static atomic_int fatal;

static void on_fatal(void *arg, const char *what)
{
    assert_non_null(strstr(what, DIR)); // says where
    atomic_fetch_add(&fatal, 1);
}

static void on_durable(void *arg, uint64_t seq)
{
}

// Frame i has i % 200 bytes of value i.
static enum err append(struct wal *w)
{
    uint64_t next = wal_last(w) + 1, seq = 0;
    uint8_t p[200];
    memset(p, (int)(next & 0xff), sizeof p);
    enum err e = wal_append(w, slice_of(p, next % 200), &seq);
    assert_int_equal(wal_last(w), e == ERR_OK ? next : next - 1);
    if (e == ERR_OK)
        assert_int_equal(seq, next);
    return e;
}

static enum err on_frame(void *arg, uint64_t seq, struct slice payload, struct errmsg *msg)
{
    uint64_t *last = arg;
    assert_int_equal(seq, *last + 1);
    *last = seq;
    assert_int_equal(payload.n, seq % 200);
    for (size_t i = 0; i < payload.n; i++)
        assert_int_equal(payload.p[i], seq & 0xff);
    return ERR_OK;
}

static struct os_sim *machine(void)
{
    struct os_sim *s = sim_new(1);
    assert_ok(os_mkdir(sim_os(s), DIR));
    assert_ok(os_sync_dir(sim_os(s), "/"));
    atomic_store(&fatal, 0);
    return s;
}

static struct wal_options options(struct os_sim *s)
{
    return (struct wal_options){.os = sim_os(s),
                                .dir = DIR,
                                .store_id = STORE,
                                .segment_size = SEGMENT,
                                .buffer_max = 1 << 20,
                                .on_fatal = on_fatal,
                                .on_durable = on_durable};
}

static enum err open_log(struct os_sim *s, uint64_t after, struct wal **w,
                         struct wal_recovery *found, struct errmsg *msg)
{
    struct wal_options o = options(s);
    uint64_t last = after;
    msg->text[0] = 0;
    enum err e = wal_open(w, &o, after, on_frame, &last, found, msg);
    if (e == ERR_OK)
        assert_int_equal(wal_last(*w), last);
    return e;
}

static struct wal *open_ok(struct os_sim *s, uint64_t after)
{
    struct wal *w = NULL;
    struct wal_recovery found;
    struct errmsg msg;
    enum err e = open_log(s, after, &w, &found, &msg);
    if (e != ERR_OK)
        fail_msg("%s: %s", err_name(e), msg.text);
    return w;
}

// ---- a full disk

static void test_full_disk(void **state)
{
    struct os_sim *s = machine();
    struct wal *w = open_ok(s, 0);
    assert_ok(append(w));
    sim_set_capacity(s, 2 * SEGMENT + 10);
    enum err e = ERR_OK;
    while (e == ERR_OK)
        e = append(w);
    assert_err(e, ERR_NO_SPACE);
    assert_true(wal_out_of_space(w));
    assert_err(append(w), ERR_NO_SPACE);
    uint64_t accepted = wal_last(w);
    assert_true(accepted > 10);
    assert_ok(wal_flush(w)); // what was accepted has its space
    assert_int_equal(wal_durable(w), accepted);
    assert_true(wal_out_of_space(w));
    // A restart on the full disk: everything is read, nothing can be appended.
    assert_ok(wal_close(w));
    w = open_ok(s, 0);
    assert_int_equal(wal_last(w), accepted);
    assert_false(wal_out_of_space(w));
    assert_err(append(w), ERR_NO_SPACE);
    assert_true(wal_out_of_space(w));
    assert_ok(wal_close(w));
    // A checkpoint gives a segment back.
    w = open_ok(s, accepted);
    assert_ok(append(w));
    assert_ok(wal_flush(w));
    sim_set_capacity(s, UINT64_MAX);
    for (int i = 0; i < 50; i++)
        assert_ok(append(w));
    assert_ok(wal_close(w));
    assert_int_equal(fatal, 0);
    w = open_ok(s, accepted);
    assert_int_equal(wal_last(w), accepted + 51);
    wal_abandon(w);
    sim_free(s);
}

static void test_full_disk_dropped_from(void **state)
{
    struct os_sim *s = machine();
    struct wal *w = open_ok(s, 0);
    sim_set_capacity(s, 3 * SEGMENT);
    while (append(w) == ERR_OK)
        ;
    assert_ok(wal_flush(w));
    assert_ok(wal_drop(w, wal_last(w)));
    assert_false(wal_out_of_space(w)); // two segments became spares
    assert_ok(append(w));
    assert_ok(wal_close(w));
    sim_free(s);
}

// With threads: refused until space is back, which is found out in the background.
static void test_full_disk_retried(void **state)
{
    struct os_sim *s = machine();
    struct wal *w = open_ok(s, 0);
    assert_ok(wal_start(w));
    sim_set_capacity(s, 3 * SEGMENT);
    while (append(w) == ERR_OK)
        ;
    assert_true(wal_out_of_space(w));
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL); // it is tried, and fails, meanwhile
    assert_true(wal_out_of_space(w));
    sim_set_capacity(s, UINT64_MAX);
    for (int i = 0; i < 500 && wal_out_of_space(w); i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_false(wal_out_of_space(w));
    assert_ok(append(w));
    assert_ok(wal_close(w));
    assert_int_equal(fatal, 0);
    sim_free(s);
}

// ---- calls that fail

static void test_failed_sync_is_final(void **state)
{
    struct os_sim *s = machine();
    struct wal *w = open_ok(s, 0);
    assert_ok(append(w));
    assert_ok(wal_flush(w));
    assert_ok(append(w));
    sim_fail(s, SIM_SYNC, 1, ERR_IO, false);
    assert_err(wal_flush(w), ERR_IO);
    assert_int_equal(fatal, 1);
    assert_int_equal(wal_durable(w), 1);
    // The next sync would succeed and mean nothing.
    assert_err(append(w), ERR_IO);
    assert_err(wal_flush(w), ERR_IO);
    assert_err(wal_wait(w, 2), ERR_IO);
    assert_err(wal_drop(w, 1), ERR_IO);
    assert_int_equal(wal_durable(w), 1);
    assert_int_equal(fatal, 1); // said once
    assert_err(wal_close(w), ERR_IO);
    // The process starts again, finds frame 2 in the page cache, says so: now it must be on disk.
    struct os_sim *again = sim_clone(s);
    w = open_ok(again, 0);
    assert_int_equal(wal_last(w), 2);
    wal_abandon(w);
    struct os_sim *crashed = sim_crash(again, SIM_NONE, 0, 1);
    w = open_ok(crashed, 0);
    assert_int_equal(wal_last(w), 2);
    wal_abandon(w);
    sim_free(crashed);
    sim_free(again);
    sim_free(s);
}

static void test_failed_sync_with_threads(void **state)
{
    struct os_sim *s = machine();
    struct wal *w = open_ok(s, 0);
    assert_ok(wal_start(w));
    assert_ok(append(w));
    assert_ok(wal_wait(w, 1));
    sim_fail(s, SIM_SYNC, 1, ERR_IO, true);
    assert_ok(append(w));
    assert_err(wal_wait(w, 2), ERR_IO);
    assert_err(append(w), ERR_IO);
    assert_err(wal_close(w), ERR_IO);
    assert_int_equal(fatal, 1);
    sim_free(s);
}

// Some work that touches every kind of call. Stops at the first error; *accepted and *durable say
// how far it came.
static enum err script(struct os_sim *s, uint64_t *after, uint64_t *accepted, uint64_t *durable)
{
    struct wal *w;
    struct wal_recovery found;
    struct errmsg msg;
    enum err e = open_log(s, 0, &w, &found, &msg);
    if (e != ERR_OK) {
        assert_true(msg.text[0] != 0);
        return e;
    }
    for (int i = 0; e == ERR_OK && i < 60; i++) {
        e = append(w);
        if (e == ERR_OK && i % 4 == 0)
            e = wal_flush(w);
        if (e == ERR_OK && i % 25 == 24) {
            *after = wal_durable(w) - 3;
            e = wal_drop(w, *after);
        }
    }
    if (e == ERR_OK)
        e = wal_flush(w);
    *accepted = wal_last(w);
    *durable = wal_durable(w);
    if (e == ERR_OK)
        return wal_close(w);
    wal_abandon(w);
    return e;
}

static void survives(struct os_sim *s, enum sim_survival how, uint64_t after, uint64_t accepted,
                     uint64_t durable)
{
    struct os_sim *c = sim_crash(s, how, 0, 99);
    struct wal *w = open_ok(c, after);
    assert_in_range(wal_last(w), durable, accepted);
    assert_ok(append(w));
    assert_ok(wal_close(w));
    sim_free(c);
}

// The nth call of the script fails, once or for ever, with either error: what was reported durable
// is there after a crash, and what was not accepted is not.
static void each_call_fails(enum err with, bool sticky)
{
    uint64_t failures = 0;
    for (uint64_t n = 1; n <= CALLS; n++) {
        struct os_sim *s = machine();
        uint64_t after = 0, accepted = 0, durable = 0;
        sim_fail(s, SIM_ANY, n, with, sticky);
        enum err e = script(s, &after, &accepted, &durable);
        failures += e != ERR_OK;
        if (n == CALLS)
            assert_ok(e); // the script makes fewer calls
        survives(s, SIM_NONE, after, accepted, durable);
        survives(s, SIM_ALL, after, accepted, durable);
        survives(s, SIM_RANDOM, after, accepted, durable);
        sim_free(s);
    }
    print_message("%lu runs failed\n", (unsigned long)failures);
    assert_true(failures > 50);
}

static void test_each_call_fails_once(void **state)
{
    each_call_fails(ERR_IO, false);
}

static void test_each_call_fails_for_ever(void **state)
{
    each_call_fails(ERR_IO, true);
}

static void test_each_call_without_space_once(void **state)
{
    each_call_fails(ERR_NO_SPACE, false);
}

static void test_each_call_without_space_for_ever(void **state)
{
    each_call_fails(ERR_NO_SPACE, true);
}

// Every call of an opening that has a tail to make durable, leftovers and a spare to remove, and an
// older segment to read.
static void test_each_call_of_an_opening_fails(void **state)
{
    struct os_sim *s = machine();
    struct wal *w = open_ok(s, 0);
    for (int i = 0; i < 45; i++) {
        assert_ok(append(w));
        if (i % 5 == 4)
            assert_ok(wal_flush(w));
    }
    assert_ok(append(w));
    assert_ok(append(w));
    sim_fail(s, SIM_SYNC, 1, ERR_IO, false);
    assert_err(wal_flush(w), ERR_IO);
    unsigned failures = 0;
    for (uint64_t n = 1; n < 60; n++) {
        struct os_sim *c = sim_clone(s);
        struct wal *again;
        struct wal_recovery found;
        struct errmsg msg;
        sim_fail(c, SIM_ANY, n, ERR_IO, false);
        enum err e = open_log(c, 25, &again, &found, &msg);
        if (e == ERR_OK) {
            assert_int_equal(wal_last(again), 47);
            wal_abandon(again);
        } else {
            assert_err(e, ERR_IO);
            assert_non_null(strstr(msg.text, DIR));
            failures++;
        }
        survives(c, SIM_NONE, 25, 47, e == ERR_OK ? 47 : 45);
        survives(c, SIM_RANDOM, 25, 47, e == ERR_OK ? 47 : 45);
        sim_free(c);
    }
    assert_in_range(failures, 10, 50);
    wal_abandon(w);
    sim_free(s);
}

// Without a flusher thread, an append that finds the buffer full writes it out itself.
static void test_buffer_full_without_threads(void **state)
{
    struct os_sim *s = machine();
    struct wal_options o = options(s);
    o.buffer_max = 2 * WAL_HEADER;
    struct wal *w;
    struct wal_recovery found;
    struct errmsg msg;
    uint64_t last = 0;
    assert_ok(wal_open(&w, &o, 0, on_frame, &last, &found, &msg));
    for (int i = 0; i < 100; i++)
        assert_ok(append(w));
    assert_in_range(wal_durable(w), 60, 99);
    sim_fail(s, SIM_SYNC, 1, ERR_IO, false);
    enum err e = ERR_OK;
    while (e == ERR_OK)
        e = append(w);
    assert_err(e, ERR_IO);
    wal_abandon(w);
    sim_free(s);
}

// ---- reading changes nothing

static void test_verify_changes_nothing(void **state)
{
    struct os_sim *s = machine();
    struct wal *w = open_ok(s, 0);
    for (int i = 0; i < 30; i++)
        assert_ok(append(w));
    assert_ok(wal_flush(w));
    assert_ok(wal_drop(w, 10));
    wal_abandon(w);
    uint64_t steps = sim_steps(s), last = 10;
    struct wal_recovery found;
    struct errmsg msg;
    assert_ok(wal_verify(sim_os(s), DIR, STORE, 10, on_frame, &last, &found, &msg));
    assert_int_equal(last, 30);
    assert_int_equal(sim_steps(s), steps);
    sim_free(s);
}

static enum err on_frame_refuse(void *arg, uint64_t seq, struct slice payload, struct errmsg *msg)
{
    return seq == 7 ? err_set(msg, ERR_INVALID, "not this one") : ERR_OK;
}

static void test_replay_refuses(void **state)
{
    struct os_sim *s = machine();
    struct wal *w = open_ok(s, 0);
    for (int i = 0; i < 30; i++)
        assert_ok(append(w));
    assert_ok(wal_close(w));
    struct wal_options o = options(s);
    struct wal_recovery found;
    struct errmsg msg;
    assert_err(wal_open(&w, &o, 0, on_frame_refuse, NULL, &found, &msg), ERR_INVALID);
    assert_string_equal(msg.text, "not this one");
    assert_int_equal(found.frames, 7);
    sim_free(s);
}

// ---- the format, version 1, as it is in files out there: these bytes never change

static const uint8_t golden_header[56] = {
    0x76, 0x61, 0x72, 0x76, 0x65, 0x77, 0x61, 0x6c, 0x50, 0x76, 0x2c, 0xce, 0x01, 0x00,
    0x00, 0x00, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01, 0x03, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xef, 0xbe,
    0xfe, 0xca, 0xce, 0xfa, 0xed, 0xfe, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
static const uint8_t golden_frames[] = {
    0x55, 0x44, 0x78, 0x5c, 0x03, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x6f, 0x6e, 0x65, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x8f, 0x90, 0x4b, 0x79, 0x06, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x73, 0x65, 0x63, 0x6f, 0x6e, 0x64, 0x00, 0x00,
    0x75, 0x72, 0x5f, 0x6a, 0x00, 0x00, 0x00, 0x80, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x7d, 0xa7, 0x74, 0xda, 0x0b, 0x00, 0x00, 0x00,
    0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x74, 0x68, 0x65, 0x20, 0x74, 0x68, 0x69, 0x72, 0x64, 0x2c, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x11, 0xf5, 0x2c, 0xe6, 0x01, 0x00, 0x00, 0x80, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};

static enum err on_golden(void *arg, uint64_t seq, struct slice payload, struct errmsg *msg)
{
    static const char *const want[] = {"", "one", "second", "the third, "};
    assert_in_range(seq, 1, 3);
    assert_true(slice_equal(payload, slice_str(want[seq])));
    *(uint64_t *)arg = seq;
    return ERR_OK;
}

static void test_golden_version_1(void **state)
{
    struct os_sim *s = machine();
    uint8_t header[WAL_HEADER] = {0};
    memcpy(header, golden_header, sizeof golden_header);
    int fd;
    struct os *os = sim_os(s);
    assert_ok(os_open(os, DIR "/00000000000000000003.wal", OS_CREATE | OS_WRITE, &fd));
    assert_ok(os_pwrite(os, fd, header, sizeof header, 0));
    assert_ok(os_pwrite(os, fd, golden_frames, sizeof golden_frames, WAL_HEADER));
    assert_ok(os_close(os, fd));
    struct wal_recovery found;
    struct errmsg msg = {.text = ""};
    uint64_t last = 0;
    enum err e = wal_verify(os, DIR, 0x0123456789abcdef, 0, on_golden, &last, &found, &msg);
    if (e != ERR_OK)
        fail_msg("%s", msg.text);
    assert_int_equal(last, 3);
    assert_true(found.clean);
    sim_free(s);
}

int main(void)
{
    log_set_level((enum log_level)(LOG_ERROR + 1)); // planted faults are not news
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_full_disk_dropped_from),
        cmocka_unit_test(test_full_disk_retried),
        cmocka_unit_test(test_failed_sync_is_final),
        cmocka_unit_test(test_failed_sync_with_threads),
        cmocka_unit_test(test_each_call_fails_once),
        cmocka_unit_test(test_each_call_fails_for_ever),
        cmocka_unit_test(test_each_call_without_space_once),
        cmocka_unit_test(test_each_call_without_space_for_ever),
        cmocka_unit_test(test_each_call_of_an_opening_fails),
        cmocka_unit_test(test_buffer_full_without_threads),
        cmocka_unit_test(test_verify_changes_nothing),
        cmocka_unit_test(test_replay_refuses),
        cmocka_unit_test(test_golden_version_1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
