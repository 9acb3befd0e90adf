// The power-failure enumerator for the whole commit room: log, tables, checkpoints and the store
// below, on the simulated disk.
//
// A script of random transactions, reads, flushes, checkpoints and orderly restarts is run once to
// count its steps (calls that change the disk), then again for each step with the power failing
// there. What the disk then holds is crashed in several ways (os_sim.h, sim_survival) and
// recovered, and compared with an oracle:
//
//   - the recovered state is exactly the model's state after some transaction S: no holes, no
//   halves;
//   - S covers every reply that was released: a reply may leave once the durable sequence has
//   reached
//     its dep, for reads and conflicts as for writes;
//   - a key made again has a version that it never had before;
//   - a replayed idempotency key answers as the first time;
//   - a second crash, at a random step of that recovery, loses nothing of this either.
//
// With --faults, instead of losing power at each step, each call fails in turn (once or for ever,
// an I/O error or a full disk): what was refused must be absent, what was accepted and released
// present.
//
// usage: crash_commit [--faults] [--states N] [--seed S]; prints the seed of a failure and stops.
#include "base/log.h"
#include "base/os_sim.h"
#include "commit/commit.h"
#include "store/store.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS = 6, ACTIONS = 24, SEQS = 256, IDEMS = 4, VALUE_MAX = 1600 };

struct model_key {
    bool exists;
    uint64_t version;
    uint64_t value;
    uint64_t highest; // version this key ever had
};

struct model {
    struct model_key keys[KEYS];
    uint64_t idem_seq[IDEMS];     // 0: not used
    uint64_t idem_version[IDEMS]; // first result
    int idem_key[IDEMS];
    uint64_t idem_value[IDEMS];
};

struct run {
    struct os_sim *sim;
    struct commit *commit;
    uint64_t rng;
    struct model now;
    struct model at[SEQS]; // state after sequence i; at[0] empty
    uint64_t last;         // highest sequence given out
    uint64_t released;     // highest sequence that a released reply rests on
    // Replies given but not yet released: dep and what they showed.
    struct {
        uint64_t dep, shows;
    } waiting[ACTIONS * 4];
    size_t waiting_count;
    uint64_t tag;
    bool broken; // the power failed
    bool faults; // a call may fail: what fails must have done nothing
};

static uint64_t failing_seed, states;

#define CHECK(cond, ...)                                                                          \
    do {                                                                                          \
        if (!(cond)) {                                                                            \
            printf("FAIL seed %" PRIu64 " state %" PRIu64 ": %s: ", failing_seed, states, #cond); \
            printf(__VA_ARGS__);                                                                  \
            printf("\n");                                                                         \
            exit(1);                                                                              \
        }                                                                                         \
    } while (0)

static uint64_t next(uint64_t *rng)
{
    uint64_t z = (*rng += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void power_failed(void *arg, const char *what)
{
    ((struct run *)arg)->broken = true;
}

static struct commit_options options(struct os_sim *sim, struct run *r)
{
    return (struct commit_options){
        .os = sim_os(sim),
        .dir = "/data",
        .store_open = store_open_sim,
        .segment_size = 8192, // one to four transactions
        .max_segments = 4,
        .memory_limit = 64u << 20,
        .max_key = 64,
        .max_value = 4096,
        .on_fatal = power_failed,
        .arg = r,
    };
}

static struct slice key_name(int i, char name[4])
{
    memcpy(name, "k0", 3);
    name[1] = (char)('0' + i);
    return slice_of(name, 2);
}

// The bytes of value number `n`: the number, then a filling whose length it decides.
static struct slice value_bytes(uint64_t n, uint8_t bytes[VALUE_MAX])
{
    memset(bytes, (int)n, VALUE_MAX);
    store64(bytes, n);
    return slice_of(bytes, 8 + n * 397 % (VALUE_MAX - 8));
}

static void release(struct run *r)
{
    uint64_t durable = commit_durable(r->commit);
    size_t kept = 0;
    for (size_t i = 0; i < r->waiting_count; i++)
        if (r->waiting[i].dep <= durable) {
            if (r->waiting[i].shows > r->released)
                r->released = r->waiting[i].shows;
        } else {
            r->waiting[kept++] = r->waiting[i];
        }
    r->waiting_count = kept;
}

static void reply(struct run *r, uint64_t dep, uint64_t shows)
{
    r->waiting[r->waiting_count].dep = dep;
    r->waiting[r->waiting_count++].shows = shows;
    release(r);
}

static void fetched(void *arg, enum err e)
{
    *(enum err *)arg = e;
}

// Runs a transaction to its end, fetching what is cold.
static enum err run_txn(struct commit *c, struct txn *t, uint64_t *dep, struct errmsg *msg)
{
    for (;;) {
        enum err e = commit_txn(c, t, dep, msg), got = ERR_OK;
        if (e == ERR_COLD) {
            struct key_ref refs[KEYS + 1];
            size_t n = commit_txn_cold(c, t, refs, KEYS + 1);
            if (commit_fetch(c, refs, n, fetched, &got) || got)
                return got ? got : ERR_IO;
        } else if (e == ERR_FULL) {
            if (commit_wait_room(c, fetched, &got) || got)
                return got ? got : ERR_IO;
        } else {
            return e;
        }
    }
}

struct seen {
    bool exists;
    uint64_t version, value;
};

static void see(void *arg, const struct value_view *v)
{
    struct seen *s = arg;
    uint8_t bytes[VALUE_MAX];
    uint64_t n = load64(v->value.p);
    bool whole = slice_equal(v->value, value_bytes(n, bytes));
    *s = (struct seen){true, v->version, whole ? n : UINT64_MAX};
}

static enum err run_get(struct commit *c, int key, struct seen *s, uint64_t *dep)
{
    char name[4];
    struct key_ref k = commit_ref(c, key_name(key, name));
    for (;;) {
        *s = (struct seen){0};
        enum err got = ERR_OK, e = commit_get(c, &k, see, s, dep);
        if (e != ERR_COLD)
            return e;
        if (commit_fetch(c, &k, 1, fetched, &got) || got)
            return got ? got : ERR_IO;
    }
}

static void remember(struct run *r, uint64_t seq)
{
    CHECK(seq == r->last + 1 && seq < SEQS, "sequence %" PRIu64 " after %" PRIu64, seq, r->last);
    r->last = seq;
    r->at[seq] = r->now;
}

// True if the operation was refused for the disk's sake, or the log is closed for good.
static bool given_up(struct run *r, enum err e)
{
    if (e == ERR_IO || e == ERR_CLOSED)
        r->broken = r->broken || !r->faults || commit_flush(r->commit) != ERR_OK;
    return r->broken || (r->faults && (e == ERR_IO || e == ERR_NO_SPACE));
}

// A transaction of 1 to 3 operations on different keys, now and then with a wrong version.
static void do_txn(struct run *r)
{
    struct txn_op ops[3] = {0};
    uint8_t values[3][VALUE_MAX];
    char names[3][4];
    int keys[3];
    struct txn t = {.ops = ops, .count = 1 + next(&r->rng) % 3};
    struct model after = r->now;
    bool wrong = false;
    int first = (int)(next(&r->rng) % KEYS);
    for (size_t i = 0; i < t.count; i++) {
        keys[i] = (first + (int)i) % KEYS;
        struct model_key *k = &after.keys[keys[i]];
        ops[i].k = commit_ref(r->commit, key_name(keys[i], names[i]));
        ops[i].has_version = true;
        ops[i].version = k->exists ? k->version : 0;
        if (next(&r->rng) % 16 == 0) {
            ops[i].version += 1;
            wrong = true;
        }
        if (next(&r->rng) % 4 == 0) {
            ops[i].kind = TXN_DELETE;
            k->exists = false;
            continue;
        }
        ops[i].kind = TXN_PUT;
        ops[i].type = VALUE_BYTES;
        ops[i].value = value_bytes(++r->tag, values[i]);
        *k = (struct model_key){true, 0, r->tag, k->highest};
    }
    uint64_t dep;
    struct errmsg msg = {0};
    enum err e = run_txn(r->commit, &t, &dep, &msg);
    if (given_up(r, e))
        return;
    CHECK(e == (wrong ? ERR_CONFLICT : ERR_OK), "%s %s", err_name(e), msg.text);
    if (wrong) {
        reply(r, dep, 0);
        return;
    }
    for (size_t i = 0; i < t.count; i++) {
        struct model_key *k = &after.keys[keys[i]];
        if (!k->exists)
            continue;
        CHECK(ops[i].new_version > k->highest, "k%d made at version %" PRIu64 ", had %" PRIu64,
              keys[i], ops[i].new_version, k->highest);
        k->version = k->highest = ops[i].new_version;
    }
    r->now = after;
    if (t.seq)
        remember(r, t.seq);
    reply(r, dep, t.seq);
}

// A put without a version check under an idempotency key; now and then the same one again.
static void do_idempotent(struct run *r)
{
    int id = (int)(next(&r->rng) % IDEMS);
    bool again = r->now.idem_seq[id] != 0;
    int key = again ? r->now.idem_key[id] : (int)(next(&r->rng) % KEYS);
    uint64_t value = again ? r->now.idem_value[id] : ++r->tag;
    char name[4], idem[8];
    uint8_t bytes[VALUE_MAX];
    snprintf(idem, sizeof idem, "i%d", id);
    struct txn_op op = {.kind = TXN_PUT,
                        .k = commit_ref(r->commit, key_name(key, name)),
                        .value = value_bytes(value, bytes)};
    struct txn t = {.ops = &op, .count = 1, .idempotency = slice_str(idem), .request_hash = value};
    uint64_t dep;
    struct errmsg msg = {0};
    enum err e = run_txn(r->commit, &t, &dep, &msg);
    if (given_up(r, e))
        return;
    CHECK(e == ERR_OK, "%s %s", err_name(e), msg.text);
    CHECK(t.replayed == again, "replayed %d", t.replayed);
    if (again) {
        CHECK(t.seq == r->now.idem_seq[id] && op.new_version == r->now.idem_version[id],
              "first result %" PRIu64 ", now %" PRIu64, r->now.idem_seq[id], t.seq);
    } else {
        struct model_key *k = &r->now.keys[key];
        CHECK(op.new_version > k->highest, "version %" PRIu64, op.new_version);
        *k = (struct model_key){true, op.new_version, value, op.new_version};
        r->now.idem_seq[id] = t.seq;
        r->now.idem_version[id] = op.new_version;
        r->now.idem_key[id] = key;
        r->now.idem_value[id] = value;
        remember(r, t.seq);
    }
    reply(r, dep, t.seq);
}

static void do_read(struct run *r)
{
    int key = (int)(next(&r->rng) % KEYS);
    const struct model_key *k = &r->now.keys[key];
    struct seen s;
    uint64_t dep, shows = 0;
    enum err e = run_get(r->commit, key, &s, &dep);
    if (given_up(r, e))
        return;
    CHECK(s.exists == k->exists && (!k->exists || (s.version == k->version && s.value == k->value)),
          "k%d read wrong before any crash", key);
    // What was read has been so since the newest sequence at which it changed.
    for (uint64_t q = r->last; q > 0; q--)
        if (memcmp(&r->at[q].keys[key], &r->at[q - 1].keys[key], sizeof *k)) {
            shows = q;
            break;
        }
    reply(r, dep, shows);
}

static void reopen(struct run *r)
{
    struct commit_options o = options(r->sim, r);
    struct errmsg msg = {0};
    if (commit_open(&r->commit, &o, NULL, &msg)) {
        CHECK(sim_power_is_off(r->sim) || r->broken || r->faults, "cannot open: %s", msg.text);
        r->broken = true;
        r->commit = NULL;
    }
}

static void run_actions(struct run *r);

// Runs the whole script or until the power fails. The script is a function of the seed alone.
static void run_script(struct run *r, uint64_t seed, uint64_t power_off)
{
    memset(r, 0, sizeof *r);
    r->sim = sim_new(seed);
    r->rng = seed;
    sim_power_off_after(r->sim, power_off);
    reopen(r);
    run_actions(r);
}

static void run_actions(struct run *r)
{
    for (int i = 0; i < ACTIONS && !r->broken; i++) {
        struct errmsg msg = {0};
        uint64_t dice = next(&r->rng) % 100;
        if (dice < 50) {
            do_txn(r);
        } else if (dice < 60) {
            do_idempotent(r);
        } else if (dice < 70) {
            do_read(r);
        } else if (dice < 84) {
            r->broken = commit_flush(r->commit) != ERR_OK || r->broken;
        } else if (dice < 95) {
            r->broken = (commit_checkpoint(r->commit, &msg) && !r->faults) || r->broken;
        } else {
            // Everything given out is durable once an orderly close says so.
            uint64_t last = r->last;
            r->broken = commit_close(r->commit) != ERR_OK || r->broken;
            r->commit = NULL;
            if (r->broken)
                break;
            r->released = last;
            r->waiting_count = 0;
            reopen(r);
        }
        if (r->commit)
            release(r);
    }
}

static void end_script(struct run *r)
{
    if (r->commit)
        commit_abandon(r->commit);
    sim_free(r->sim);
}

// Compares a recovered machine with the oracle. Leaves its data changed.
static void compare(struct run *r, struct commit *c, uint64_t s)
{
    CHECK(s >= r->released && s <= r->last,
          "recovered to sequence %" PRIu64 ", released replies rest on %" PRIu64
          ", given out %" PRIu64,
          s, r->released, r->last);
    const struct model *m = &r->at[s];
    uint64_t dep;
    for (int i = 0; i < KEYS; i++) {
        struct seen seen;
        enum err e = run_get(c, i, &seen, &dep);
        CHECK(e == (m->keys[i].exists ? ERR_OK : ERR_MISSING), "k%d at sequence %" PRIu64 ": %s", i,
              s, err_name(e));
        CHECK(!seen.exists ||
                  (seen.version == m->keys[i].version && seen.value == m->keys[i].value),
              "k%d at sequence %" PRIu64 ": version %" PRIu64 " value %" PRIu64
              ", expected %" PRIu64 " and %" PRIu64,
              i, s, seen.version, seen.value, m->keys[i].version, m->keys[i].value);
    }
    for (int i = 0; i < IDEMS; i++) {
        if (!m->idem_seq[i])
            continue;
        char name[4], idem[8];
        uint8_t bytes[VALUE_MAX];
        snprintf(idem, sizeof idem, "i%d", i);
        uint64_t value = m->idem_value[i];
        struct txn_op op = {.kind = TXN_PUT,
                            .k = commit_ref(c, key_name(m->idem_key[i], name)),
                            .value = value_bytes(value, bytes)};
        struct txn t = {
            .ops = &op, .count = 1, .idempotency = slice_str(idem), .request_hash = value};
        struct errmsg msg = {0};
        enum err e = run_txn(c, &t, &dep, &msg);
        CHECK(!e && t.replayed && t.seq == m->idem_seq[i] && op.new_version == m->idem_version[i],
              "idempotency key %d: %s %s, sequence %" PRIu64 " instead of %" PRIu64, i, err_name(e),
              msg.text, t.seq, m->idem_seq[i]);
    }
    // Deleted keys remember their versions themselves while they are in memory; after a checkpoint
    // only the floor does.
    struct errmsg failed = {0};
    CHECK(s % 2 || !commit_checkpoint(c, &failed), "%s", failed.text);
    for (int i = 0; i < KEYS; i++) {
        if (m->keys[i].exists)
            continue;
        char name[4];
        uint8_t bytes[VALUE_MAX];
        uint64_t value = 1;
        struct txn_op op = {.kind = TXN_PUT,
                            .k = commit_ref(c, key_name(i, name)),
                            .value = value_bytes(value, bytes)};
        struct txn t = {.ops = &op, .count = 1};
        struct errmsg msg = {0};
        enum err e = run_txn(c, &t, &dep, &msg);
        CHECK(!e && op.new_version > m->keys[i].highest,
              "k%d made again at version %" PRIu64 ", it had %" PRIu64 " before", i, op.new_version,
              m->keys[i].highest);
    }
}

static void recover_and_compare(struct run *r, struct os_sim *disk)
{
    struct run ignored = {0};
    struct commit_options o = options(disk, &ignored);
    struct commit_recovery found;
    struct commit *c;
    struct errmsg msg = {0};
    enum err e = commit_open(&c, &o, &found, &msg);
    CHECK(e == ERR_OK, "cannot recover: %s %s", err_name(e), msg.text);
    compare(r, c, found.last_seq);
    commit_abandon(c);
    states++;
}

// Loses power again in the middle of recovery, then recovers for good.
static void crash_in_recovery(struct run *r, const struct os_sim *disk, uint64_t *rng)
{
    struct run ignored = {0};
    struct os_sim *again = sim_clone(disk);
    struct commit_options o = options(again, &ignored);
    struct commit *c;
    struct errmsg msg;
    sim_power_off_after(again, next(rng) % 8);
    if (commit_open(&c, &o, NULL, &msg) == ERR_OK)
        commit_abandon(c);
    struct os_sim *dead = sim_crash(again, SIM_RANDOM, 0, next(rng));
    recover_and_compare(r, dead);
    sim_free(dead);
    sim_free(again);
}

static void crash_everywhere(uint64_t seed, uint64_t max_states)
{
    static struct run r;
    failing_seed = seed;
    run_script(&r, seed, UINT64_MAX);
    uint64_t steps = sim_steps(r.sim), rng = seed ^ 0x5bd1e995;
    end_script(&r);
    for (uint64_t at = 0; at <= steps && states < max_states; at++) {
        run_script(&r, seed, at);
        struct {
            enum sim_survival how;
            uint64_t detail;
        } ways[] = {{SIM_NONE, 0},
                    {SIM_ALL, 0},
                    {SIM_RANDOM, 0},
                    {SIM_RANDOM, 0},
                    {SIM_PREFIX, next(&rng) % (sim_pending(r.sim) + 1)},
                    {SIM_SINGLE, next(&rng) % (sim_pending(r.sim) + 1)}};
        for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
            struct os_sim *disk = sim_crash(r.sim, ways[i].how, ways[i].detail, next(&rng));
            if (next(&rng) % 4 == 0)
                crash_in_recovery(&r, disk, &rng);
            recover_and_compare(&r, disk);
            sim_free(disk);
        }
        end_script(&r);
    }
}

// The nth call of each kind fails, once or for ever; then the process is killed, or the power fails
// too. False when the script does not make that many calls.
static bool fail_once(uint64_t seed, enum sim_call call, uint64_t nth, enum err e, bool sticky)
{
    static struct run r;
    memset(&r, 0, sizeof r);
    r.sim = sim_new(seed);
    r.rng = seed;
    r.faults = true;
    reopen(&r); // a disk that fails from the first day has nothing to lose
    uint64_t steps = sim_steps(r.sim);
    sim_fail(r.sim, call, nth, e, sticky);
    run_actions(&r);
    bool more = nth < sim_steps(r.sim) - steps;
    static const enum sim_survival ways[] = {SIM_ALL, SIM_NONE, SIM_RANDOM};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct os_sim *disk = sim_crash(r.sim, ways[i], 0, seed);
        recover_and_compare(&r, disk);
        sim_free(disk);
    }
    end_script(&r);
    return more;
}

static void fail_everywhere(uint64_t seed, uint64_t max_states)
{
    static const enum sim_call calls[] = {SIM_OPEN,     SIM_PREAD,    SIM_PWRITE, SIM_SYNC,
                                          SIM_ALLOCATE, SIM_TRUNCATE, SIM_RENAME, SIM_UNLINK,
                                          SIM_MKDIR,    SIM_SYNC_DIR};
    failing_seed = seed;
    for (size_t c = 0; c < sizeof calls / sizeof *calls; c++)
        for (int kind = 0; kind < 4; kind++)
            for (uint64_t nth = 1; states < max_states; nth++)
                if (!fail_once(seed, calls[c], nth, kind & 1 ? ERR_NO_SPACE : ERR_IO, kind & 2))
                    break;
}

int main(int argc, char **argv)
{
    uint64_t want = 20000, seed = 1;
    bool faults = argc > 1 && !strcmp(argv[1], "--faults");
    for (int i = faults ? 2 : 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--states"))
            want = strtoull(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--seed"))
            seed = strtoull(argv[i + 1], NULL, 10);
    }
    log_set_level(LOG_NONE); // every crash is an error worth a line
    uint64_t begin = os_mono_ns(os_real());
    while (states < want && faults)
        fail_everywhere(seed++, want);
    while (states < want)
        crash_everywhere(seed++, want);
    double s = (double)(os_mono_ns(os_real()) - begin) / 1e9;
    printf("%" PRIu64 " states, %.0f a second, seeds up to %" PRIu64 "\n", states,
           (double)states / s, seed - 1);
    return 0;
}
