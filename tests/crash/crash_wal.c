// Power failure, enumerated, for the log alone.
//
// Random histories of appends, flushes, drops, closes, kills, faults and crashes run on the
// simulated machine with tiny segments. After every call that changes the disk, and after every
// report of durability, the power fails in many ways (nothing unsynced survives, all, each prefix,
// each single operation, random sectors); the log is recovered on what is left and compared with
// the oracle:
//   - every frame reported durable is there, with the right bytes;
//   - sequences have no holes; what was never appended, or was cut by an earlier recovery, is not
//   there;
//   - reading, opening, opening again, and opening after a crash at each step of an opening all
//   find
//     the same;
//   - the recovered log takes a frame, and keeps it.
// Each recovered disk counts as one state.
//
// crash_wal [--states N] [--seed S] [--bug B]. A failure prints the seed to run again with. With
// --bug the run must fail (the build has seeded bug B), and says after how many states.
#include "base/assert.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/os_sim.h"
#include "wal/format.h"
#include "wal/wal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DIR       "/wal"
#define STORE     77
#define FRAMES    2048 // appended in one history at most
#define PAYLOAD   6000 // bytes at most
#define LIVE      40   // frames the log grows to before it is dropped from
#define EACH_MOST 6    // prefixes and single operations tried at one crash point
#define RANDOMS   4    // random survivals tried at one crash point

struct frame {
    uint32_t length;
    uint64_t tag; // tells this frame from others that had its sequence; its bytes are made from it
};

struct oracle {
    struct frame frames[FRAMES + 1]; // by sequence
    uint64_t last;                   // appended
    uint64_t durable;                // reported
    uint64_t after;                  // the checkpoint: what is up to here may have been dropped
};

// The machine's calls with a crash point after each that changes the disk.
struct tap {
    struct os os; // first
    struct os *under;
    void (*point)(void *arg);
    bool (*before_sync)(void *arg);
    void *arg;
};

struct world {
    uint64_t seed; // of the history
    uint64_t random;
    struct os_sim *machine;
    struct tap tap;
    struct wal_options options;
    struct wal *wal;
    struct oracle o;
    uint64_t next_tag;
    bool enumerate; // crash at crash points
    bool append_in_sync;
    bool failed; // on_fatal was called
    uint64_t states, nested;
    uint64_t deep; // states since the last deep one
};

struct run {
    uint64_t states, histories, points;
    uint64_t want;
    int bug;
    struct timespec began;
};
static struct run run;

static uint64_t next_random(uint64_t *state)
{
    *state += 1;
    return hash64(slice_of(state, sizeof *state), 0x77616c);
}

static uint64_t below(struct world *w, uint64_t n)
{
    return next_random(&w->random) % n;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - run.began.tv_sec) +
           (double)(now.tv_nsec - run.began.tv_nsec) / 1e9;
}

__attribute__((noreturn, format(printf, 2, 3))) static void fail(const struct world *w,
                                                                 const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    printf("FAILED after %" PRIu64 " states (%" PRIu64 " of this history): %s\n",
           run.states + w->states, w->states, text);
    printf("again: crash_wal --seed %" PRIu64 "\n", w->seed);
    printf("oracle: checkpoint %" PRIu64 ", durable %" PRIu64 ", appended %" PRIu64 "\n",
           w->o.after, w->o.durable, w->o.last);
    if (run.bug)
        printf("seeded bug %d found after %" PRIu64 " states\n", run.bug, run.states + w->states);
    fflush(stdout);
    exit(run.bug ? 0 : 1);
}

// ---- the tap

static struct tap *tap_of(struct os *os)
{
    return (struct tap *)os;
}

static enum err tap_changed(struct os *os, enum err e)
{
    struct tap *t = tap_of(os);
    t->point(t->arg);
    return e;
}

static enum err tap_open(struct os *os, const char *path, unsigned flags, int *fd)
{
    enum err e = os_open(tap_of(os)->under, path, flags, fd);
    return flags & OS_CREATE ? tap_changed(os, e) : e;
}

static enum err tap_close(struct os *os, int fd)
{
    return os_close(tap_of(os)->under, fd);
}

static enum err tap_pread(struct os *os, int fd, void *p, size_t n, uint64_t off, size_t *got)
{
    return os_pread(tap_of(os)->under, fd, p, n, off, got);
}

static enum err tap_pwrite(struct os *os, int fd, const void *p, size_t n, uint64_t off)
{
    return tap_changed(os, os_pwrite(tap_of(os)->under, fd, p, n, off));
}

static enum err tap_sync(struct os *os, int fd)
{
    struct tap *t = tap_of(os);
    t->before_sync(t->arg);
    return tap_changed(os, os_sync(t->under, fd));
}

static enum err tap_allocate(struct os *os, int fd, uint64_t size)
{
    return tap_changed(os, os_allocate(tap_of(os)->under, fd, size));
}

static enum err tap_truncate(struct os *os, int fd, uint64_t size)
{
    return tap_changed(os, os_truncate(tap_of(os)->under, fd, size));
}

static enum err tap_size(struct os *os, int fd, uint64_t *size)
{
    return os_size(tap_of(os)->under, fd, size);
}

static enum err tap_rename(struct os *os, const char *from, const char *to)
{
    return tap_changed(os, os_rename(tap_of(os)->under, from, to));
}

static enum err tap_unlink(struct os *os, const char *path)
{
    return tap_changed(os, os_unlink(tap_of(os)->under, path));
}

static enum err tap_mkdir(struct os *os, const char *path)
{
    return tap_changed(os, os_mkdir(tap_of(os)->under, path));
}

static enum err tap_sync_dir(struct os *os, const char *path)
{
    return tap_changed(os, os_sync_dir(tap_of(os)->under, path));
}

static enum err tap_list(struct os *os, const char *path, os_list_fn fn, void *arg)
{
    return os_list(tap_of(os)->under, path, fn, arg);
}

static enum err tap_lock(struct os *os, const char *path, int *fd)
{
    return os_lock(tap_of(os)->under, path, fd);
}

static enum err tap_disk_free(struct os *os, const char *path, uint64_t *bytes)
{
    return os_disk_free(tap_of(os)->under, path, bytes);
}

static uint64_t tap_wall_us(struct os *os)
{
    return os_wall_us(tap_of(os)->under);
}

static uint64_t tap_mono_ns(struct os *os)
{
    return os_mono_ns(tap_of(os)->under);
}

static void tap_random(struct os *os, void *p, size_t n)
{
    os_random(tap_of(os)->under, p, n);
}

static void tap_sleep_us(struct os *os, uint64_t us)
{
    os_sleep_us(tap_of(os)->under, us);
}

static const struct os_ops tap_ops = {
    .open = tap_open,
    .close = tap_close,
    .pread = tap_pread,
    .pwrite = tap_pwrite,
    .sync = tap_sync,
    .allocate = tap_allocate,
    .truncate = tap_truncate,
    .size = tap_size,
    .rename = tap_rename,
    .unlink = tap_unlink,
    .mkdir = tap_mkdir,
    .sync_dir = tap_sync_dir,
    .list = tap_list,
    .lock = tap_lock,
    .disk_free = tap_disk_free,
    .wall_us = tap_wall_us,
    .mono_ns = tap_mono_ns,
    .random = tap_random,
    .sleep_us = tap_sleep_us,
};

// ---- the oracle

static void frame_bytes(uint8_t *p, const struct frame *f)
{
    uint64_t x = f->tag * 0x9e3779b97f4a7c15;
    for (uint32_t i = 0; i < f->length; i += 8, x += f->tag) {
        uint32_t n = f->length - i < 8 ? f->length - i : 8;
        memcpy(p + i, &x, n);
    }
}

struct reading {
    const struct world *w;
    const struct oracle *o;
    uint64_t last;
    const char *what; // is wrong; NULL: nothing
};

static enum err on_frame(void *arg, uint64_t seq, struct slice payload, struct errmsg *msg)
{
    struct reading *r = arg;
    static _Thread_local uint8_t want[PAYLOAD];
    if (seq != r->last + 1)
        r->what = "a sequence is out of order";
    r->last = seq;
    if (seq > r->o->last) {
        r->what = "a frame that was never appended";
        return ERR_OK;
    }
    const struct frame *f = &r->o->frames[seq];
    frame_bytes(want, f);
    if (!slice_equal(payload, slice_of(want, f->length)))
        r->what = "a frame has other bytes than those appended";
    return ERR_OK;
}

// What a log must hold by the oracle: everything reported durable, maybe more of what was appended.
// Returns the last sequence.
static uint64_t judge(const struct world *w, const struct oracle *o, const struct reading *r,
                      enum err e, const struct errmsg *msg, const char *doing)
{
    if (e != ERR_OK)
        fail(w, "%s: %s: %s", doing, err_name(e), msg->text);
    if (r->what)
        fail(w, "%s: sequence %" PRIu64 ": %s", doing, r->last, r->what);
    if (r->last < o->durable)
        fail(w, "%s: ends at sequence %" PRIu64 ", but %" PRIu64 " was reported durable", doing,
             r->last, o->durable);
    return r->last;
}

static uint64_t read_log(const struct world *w, const struct oracle *o, struct os *os, bool *clean)
{
    struct reading r = {.w = w, .o = o, .last = o->after};
    struct wal_recovery found;
    struct errmsg msg = {.text = ""};
    enum err e = wal_verify(os, DIR, STORE, o->after, on_frame, &r, &found, &msg);
    *clean = found.clean;
    return judge(w, o, &r, e, &msg, "reading");
}

// ---- worlds

static bool step_append(struct world *w);
static void crash_point(void *arg);

static void on_durable(void *arg, uint64_t seq)
{
    struct world *w = arg;
    if (seq > w->o.last || seq < w->o.durable)
        fail(w, "durable reported as %" PRIu64, seq);
    w->o.durable = seq;
    crash_point(w);
}

static void on_fatal(void *arg, const char *what)
{
    struct world *w = arg;
    w->failed = true;
}

// Appends while a sync is under way, as other threads do.
static bool before_sync(void *arg)
{
    struct world *w = arg;
    return w->append_in_sync && w->wal && below(w, 3) == 0 && step_append(w);
}

static struct world *world_new(uint64_t seed, struct os_sim *machine, uint64_t segment_size)
{
    struct world *w = calloc(1, sizeof *w);
    VERIFY(w);
    w->seed = seed;
    w->random = seed;
    w->machine = machine;
    w->next_tag = 1;
    w->tap = (struct tap){.os = {&tap_ops},
                          .under = sim_os(machine),
                          .point = crash_point,
                          .before_sync = before_sync,
                          .arg = w};
    w->options = (struct wal_options){.os = &w->tap.os,
                                      .dir = DIR,
                                      .store_id = STORE,
                                      .segment_size = segment_size,
                                      .buffer_max = 1 << 20,
                                      .on_fatal = on_fatal,
                                      .on_durable = on_durable,
                                      .arg = w};
    return w;
}

static void world_free(struct world *w)
{
    sim_free(w->machine);
    free(w);
}

// Opens the log on a machine on which no process runs. `durable`: nothing of its disk is in memory
// only.
static bool reopen(struct world *w, bool durable)
{
    w->failed = false;
    bool clean;
    // From here on the log must go on holding exactly this; on the disk once the opening is done.
    w->o.last = read_log(w, &w->o, sim_os(w->machine), &clean);
    if (durable)
        w->o.durable = w->o.last;
    for (int tries = 0; tries < 3; tries++) {
        struct reading r = {.w = w, .o = &w->o, .last = w->o.after};
        struct wal_recovery found;
        struct errmsg msg = {.text = ""};
        enum err e = wal_open(&w->wal, &w->options, w->o.after, on_frame, &r, &found, &msg);
        if (e == ERR_IO)
            continue; // a fault that was planted and had not struck
        if (judge(w, &w->o, &r, e, &msg, "opening") != w->o.last)
            fail(w, "opening finds the end at %" PRIu64 ", reading at %" PRIu64, r.last, w->o.last);
        if (found.clean != clean)
            fail(w, "opening finds it %s, reading does not", clean ? "not clean" : "clean");
        w->o.durable = w->o.last;
        return clean;
    }
    fail(w, "does not open");
}

// ---- crash points

// The power has failed and left this disk: `c` is used up.
static void check_state(struct world *w, struct os_sim *c, bool deep)
{
    w->states++;
    bool clean;
    if (!deep) {
        read_log(w, &w->o, sim_os(c), &clean);
        sim_free(c);
        return;
    }
    // Another world goes on from here: each step of its opening and of its first frames is a crash
    // point.
    struct world *inner = world_new(w->seed, c, w->options.segment_size);
    inner->random = next_random(&w->random);
    inner->o = w->o;
    inner->next_tag = w->next_tag;
    inner->nested = w->nested + 1;
    inner->states = w->states;
    inner->enumerate = true;
    reopen(inner, true);
    wal_abandon(inner->wal);
    reopen(inner, true);
    for (int i = 0; i < 3 && inner->o.last < FRAMES; i++) {
        step_append(inner);
        if (i != 1 && wal_flush(inner->wal) != ERR_OK)
            fail(inner, "a flush fails after recovery");
    }
    wal_abandon(inner->wal);
    w->states = inner->states;
    world_free(inner);
}

static void crash(struct world *w, enum sim_survival how, uint64_t detail)
{
    uint64_t seed = next_random(&w->random);
    bool deep = w->nested == 0 && below(w, 50) == 0;
    check_state(w, sim_crash(w->machine, how, detail, seed), deep);
}

// All of 1..n, or some.
static void crash_each(struct world *w, enum sim_survival how, uint64_t n)
{
    uint64_t most = w->nested ? 2 : EACH_MOST;
    for (uint64_t i = 1; i <= n && i <= most; i++)
        crash(w, how, n <= most ? i : 1 + below(w, n));
}

static void crash_point(void *arg)
{
    struct world *w = arg;
    if (!w->enumerate)
        return;
    run.points++;
    uint64_t pending = sim_pending(w->machine);
    crash(w, SIM_NONE, 0);
    if (pending == 0)
        return;
    crash(w, SIM_ALL, 0);
    crash_each(w, SIM_PREFIX, pending - 1);
    crash_each(w, SIM_SINGLE, pending);
    for (int i = 0; i < (w->nested ? 2 : RANDOMS); i++)
        crash(w, SIM_RANDOM, 0);
}

// ---- what a history does

static uint32_t random_length(struct world *w)
{
    switch (below(w, 12)) {
    case 0:
        return (uint32_t)below(w, PAYLOAD);
    case 1:
        return 0;
    case 2:
        return (uint32_t)below(w, 1200);
    case 3:
    case 4:
    case 5:
        return 40; // of one size, so that new frames lie where lost ones did
    default:
        return (uint32_t)below(w, 120);
    }
}

// True if the frame was accepted.
static bool step_append(struct world *w)
{
    uint8_t bytes[PAYLOAD]; // not static: crash points within the append append too
    if (w->o.last == FRAMES)
        return false;
    struct frame *f = &w->o.frames[w->o.last + 1];
    *f = (struct frame){.length = random_length(w), .tag = w->next_tag++};
    frame_bytes(bytes, f);
    uint64_t seq = 0;
    enum err e = wal_append(w->wal, slice_of(bytes, f->length), &seq);
    if (e == ERR_OK) {
        w->o.last++;
        if (seq != w->o.last || wal_last(w->wal) != seq)
            fail(w, "an append is given sequence %" PRIu64, seq);
    } else if (e != ERR_NO_SPACE && !(e == ERR_IO && w->failed)) {
        fail(w, "an append fails: %s", err_name(e));
    }
    return e == ERR_OK;
}

static void step_flush(struct world *w)
{
    uint64_t want = w->o.last;
    w->append_in_sync = true;
    enum err e = wal_flush(w->wal);
    w->append_in_sync = false;
    if (w->failed ? e != ERR_IO : e != ERR_OK || w->o.durable < want)
        fail(w, "a flush ends with %s, durable %" PRIu64, err_name(e), w->o.durable);
}

static void step_drop(struct world *w)
{
    w->o.after += below(w, w->o.durable - w->o.after + 1);
    if (wal_drop(w->wal, w->o.after) != ERR_OK && !w->failed)
        fail(w, "a drop fails");
}

// Goes on with the log on another machine; true if it was closed and nothing happened to it.
static bool restart(struct world *w, struct os_sim *machine, bool durable)
{
    if (w->wal)
        wal_abandon(w->wal);
    w->wal = NULL;
    sim_free(w->machine);
    w->machine = machine;
    w->tap.under = sim_os(machine);
    return reopen(w, durable);
}

static void step_kill(struct world *w)
{
    restart(w, sim_clone(w->machine), false);
}

static void step_crash(struct world *w)
{
    restart(w, sim_crash(w->machine, SIM_RANDOM, 0, next_random(&w->random)), true);
}

static void step_close(struct world *w)
{
    enum err e = wal_close(w->wal);
    w->wal = NULL;
    if (w->failed) { // a planted fault that struck only now
        restart(w, sim_crash(w->machine, SIM_RANDOM, 0, next_random(&w->random)), true);
        return;
    }
    if (e != ERR_OK)
        fail(w, "a close fails");
    if (w->o.durable != w->o.last)
        fail(w, "a close leaves frames that are not durable");
    struct os_sim *machine =
        below(w, 2) ? sim_clone(w->machine) : sim_crash(w->machine, SIM_NONE, 0, w->next_tag);
    uint64_t last = w->o.last;
    bool clean = restart(w, machine, true);
    if (w->o.last != last || !clean)
        fail(w, "a closed log is found %s, up to %" PRIu64, clean ? "clean" : "not clean",
             w->o.last);
}

// A call fails, the log gives up, and the process starts again with or without the page cache.
static void step_fault(struct world *w)
{
    static const enum sim_call calls[] = {SIM_PWRITE, SIM_SYNC, SIM_SYNC, SIM_SYNC_DIR};
    enum sim_call call = calls[below(w, 4)];
    sim_fail(w->machine, call, 1 + below(w, 2), ERR_IO, false);
    for (uint64_t n = 1 + below(w, 3); n > 0; n--)
        step_append(w);
    step_flush(w);
    // A failed directory sync is not outlived by a kill alone: see the README.
    if (call != SIM_SYNC_DIR && below(w, 2))
        step_kill(w);
    else
        step_crash(w);
}

static void step_full_disk(struct world *w)
{
    uint64_t free_bytes;
    VERIFY(os_disk_free(sim_os(w->machine), DIR, &free_bytes) == ERR_OK);
    sim_set_capacity(w->machine, (1ull << 40) - free_bytes + below(w, 3000));
    bool refused = false;
    for (int i = 0; i < 30 && !wal_out_of_space(w->wal); i++) {
        uint64_t last = w->o.last;
        refused = !step_append(w);
        if (wal_last(w->wal) != w->o.last || (refused && w->o.last != last))
            fail(w, "a refused append is given a sequence");
        if (below(w, 4) == 0)
            step_flush(w);
    }
    step_flush(w);
    sim_set_capacity(w->machine, UINT64_MAX);
    step_flush(w);
    if (w->failed)
        return;
    if (wal_out_of_space(w->wal) || (!step_append(w) && w->o.last < FRAMES))
        fail(w, "an append is refused though space has returned");
}

static void one_step(struct world *w)
{
    if (w->failed) { // a planted fault that struck late
        step_crash(w);
        return;
    }
    if (w->o.last - w->o.after > LIVE)
        step_drop(w);
    switch (below(w, 40)) {
    case 0:
        step_kill(w);
        break;
    case 1:
        step_crash(w);
        break;
    case 2:
        step_close(w);
        break;
    case 3:
        step_fault(w);
        break;
    case 4:
        step_full_disk(w);
        break;
    case 5:
    case 6:
    case 7:
        step_drop(w);
        break;
    default:
        for (uint64_t n = below(w, 5); n > 0; n--)
            step_append(w);
        step_flush(w);
        break;
    }
}

static void history(uint64_t seed)
{
    struct os_sim *machine = sim_new(seed);
    VERIFY(os_mkdir(sim_os(machine), DIR) == ERR_OK);
    VERIFY(os_sync_dir(sim_os(machine), "/") == ERR_OK);
    struct world *w = world_new(seed, machine, 0);
    w->options.segment_size = WAL_HEADER + 300 + below(w, 1500);
    reopen(w, true);
    w->enumerate = true;
    for (uint64_t steps = 20 + below(w, 60); steps > 0; steps--) {
        one_step(w);
        if (run.states + w->states >= run.want)
            break;
    }
    wal_abandon(w->wal);
    run.states += w->states;
    run.histories++;
    world_free(w);
}

int main(int argc, char **argv)
{
    run.want = 100000;
    uint64_t seed = 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t n = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--states") == 0)
            run.want = n;
        else if (strcmp(argv[i], "--seed") == 0)
            seed = n;
        else if (strcmp(argv[i], "--bug") == 0)
            run.bug = (int)n;
        else
            argc = 0;
    }
    if (argc % 2 == 0) {
        fprintf(stderr, "usage: crash_wal [--states N] [--seed S] [--bug B]\n");
        return 2;
    }
    log_set_level((enum log_level)(LOG_ERROR + 1)); // planted faults are not news
    clock_gettime(CLOCK_MONOTONIC, &run.began);
    printf("seed %" PRIu64 "\n", seed);
    while (run.states < run.want)
        history(seed++);
    printf("%" PRIu64 " states, %" PRIu64 " crash points, %" PRIu64
           " histories in %.1f s: %.0f states/s\n",
           run.states, run.points, run.histories, seconds(), (double)run.states / seconds());
    if (run.bug)
        printf("seeded bug %d was not found\n", run.bug);
    return run.bug ? 1 : 0;
}
