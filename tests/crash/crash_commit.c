// The power-failure enumerator for the whole commit room: log, tables, checkpoints and the store
// below, on the simulated disk.
//
// A script of random transactions on keys and logs, reads, flushes, checkpoints (also with writes
// meanwhile) and orderly restarts is run once to count its steps (calls that change the disk), then
// again for each step with the power failing there. What the disk then holds is crashed in several
// ways (os_sim.h, sim_survival) and recovered, and compared with an oracle:
//
//   - the recovered state is exactly the model's state after some transaction S: no holes, no
//   halves;
//   - S covers every reply that was released: a reply may leave once the durable sequence has
//   reached
//     its dep, for reads and conflicts as for writes;
//   - a key made again has a version that it never had before;
//   - a replayed idempotency key answers as the first time;
//   - logs are as logs_oracle.h compares them: pages in both directions, metadata, nonces, times,
//   continuation tokens from before the crash, and how a client goes on;
//   - relations are as rels_oracle.h compares them: lists in every order, their reverse lists, the
//   lists that there are, stamps, and how a client goes on;
//   - records whose bytes were left to the tier are read from there;
//   - a second crash, at a random step of that recovery, loses nothing of this either.
//
// With --faults, instead of losing power at each step, each call fails in turn (once or for ever,
// an I/O error or a full disk): what was refused must be absent, what was accepted and released
// present.
//
// usage: crash_commit [--faults] [--states N] [--seed S] [--stride N]; prints the seed of a failure
// and stops. With a stride only each Nth step, or call, is tried: more scripts in the same time.
#include "base/log.h"
#include "base/os_sim.h"
#include "rels_oracle.h"
#include "store/store_int.h"
#include <string.h>

enum { KEYS = 6, ACTIONS = 24, SEQS = 256, IDEMS = 4, VALUE_MAX = 1600, REPLIES = 1000 };
#define NOON_MS 1000000000ull // the clock, more or less

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
    } waiting[REPLIES];
    size_t waiting_count;
    uint64_t tag;
    bool broken;       // the power failed
    bool faults;       // a call may fail: what fails must have done nothing
    bool meanwhile;    // to write while the checkpoint goes below
    struct os_ops ops; // the simulated machine's, but for heard_rename
    const struct os_ops *under;
    struct store_ops store_ops; // the store's, but for heard_row
    const struct store_ops *store_under;
    bool tiers;           // this script is mostly about records that move to the tier
    uint64_t local_bytes; // of each log's newest records stay when others are there
    struct logs_history logs;
    struct rels_history rels;
};

uint64_t failing_seed, states;
static uint64_t stride = 1;

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
        .tier = {.read = logs_tier_read, .arg = &r->logs, .local_bytes = r->local_bytes},
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
    CHECK(r->waiting_count < REPLIES, "too many replies wait");
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
            if (commit_txn_fetch(c, t, fetched, &got) || got)
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

// The keys' part of a transaction: 1 to 3 operations on different ones, now and then with a wrong
// version.
struct key_plan {
    size_t count;
    int keys[3];
    bool wrong;
    struct model after;
    uint8_t values[3][VALUE_MAX];
    char names[3][4];
};

static void choose_keys(struct run *r, struct key_plan *p, struct txn_op *ops)
{
    int first = (int)(next(&r->rng) % KEYS);
    p->count = 1 + next(&r->rng) % 3;
    for (size_t i = 0; i < p->count; i++) {
        p->keys[i] = (first + (int)i) % KEYS;
        struct model_key *k = &p->after.keys[p->keys[i]];
        ops[i].k = commit_ref(r->commit, key_name(p->keys[i], p->names[i]));
        ops[i].has_version = true;
        ops[i].version = k->exists ? k->version : 0;
        if (next(&r->rng) % 16 == 0) {
            ops[i].version += 1;
            p->wrong = true;
        }
        if (next(&r->rng) % 4 == 0) {
            ops[i].kind = TXN_DELETE;
            k->exists = false;
            continue;
        }
        ops[i].kind = TXN_PUT;
        ops[i].type = VALUE_BYTES;
        ops[i].value = value_bytes(++r->tag, p->values[i]);
        *k = (struct model_key){true, 0, r->tag, k->highest};
    }
}

static void check_keys(struct run *r, struct key_plan *p, const struct txn_op *ops)
{
    for (size_t i = 0; i < p->count; i++) {
        struct model_key *k = &p->after.keys[p->keys[i]];
        if (!k->exists)
            continue;
        CHECK(ops[i].new_version > k->highest, "k%d made at version %" PRIu64 ", had %" PRIu64,
              p->keys[i], ops[i].new_version, k->highest);
        k->version = k->highest = ops[i].new_version;
    }
    r->now = p->after;
}

static uint64_t wall_us(const struct run *r)
{
    return os_wall_us(sim_os(r->sim));
}

static void woken(void *arg)
{
    ++*(int *)arg;
}

// Somebody waits for the next record of the log.
static void watch_begin(struct run *r, struct log_watch *w, int *wakes, int log)
{
    const struct model_log *l = &r->logs.now.logs[log];
    struct log_name name = log_name(log);
    struct errmsg msg = {0};
    *wakes = 0;
    *w = (struct log_watch){.wake = woken, .arg = wakes};
    enum err e = commit_log_watch(r->commit, &name, l->exists ? l->end : 1, w, &msg);
    CHECK(e == ERR_OK, "watch: %s", msg.text);
}

static void watch_end(struct run *r, struct log_watch *w, int wakes, bool must_wake)
{
    bool waiting = commit_log_unwatch(r->commit, w);
    CHECK(waiting == !must_wake && wakes == must_wake, "a tail was woken %d times", wakes);
}

// Makes a keyspace, or gives it another policy. False: it is not there.
static bool do_space(struct run *r, int space)
{
    struct model_space *m = &r->logs.now.spaces[space];
    struct log_event e = {.kind = EVENT_SPACE, .which = space, .space = *m};
    struct errmsg msg = {0};
    struct log_policy *p = &e.space.policy;
    uint64_t dep;
    p->server_time = space == 1;
    if (space == 2) {
        p->max_records = next(&r->rng) % 2 ? 1 + next(&r->rng) % 8 : 0;
        p->max_bytes = next(&r->rng) % 2 ? 300 + next(&r->rng) % 4000 : 0;
    }
    if (m->exists)
        p->max_age_ms = next(&r->rng) % 2 ? 1 + next(&r->rng) % 1000 : 0;
    if (m->exists && next(&r->rng) % 4 == 0) {
        uint64_t created;
        enum err x = commit_keyspace_create(r->commit, space_name(space), p, &created, &dep, &msg);
        CHECK(x == ERR_EXISTS, "keyspace made twice: %s", err_name(x));
        reply(r, dep, m->seq);
        return true;
    }
    e.space.exists = true;
    for (bool again = false;; again = true) {
        enum err x = m->exists ? commit_keyspace_policy(r->commit, space_name(space), p, &dep, &msg)
                               : commit_keyspace_create(r->commit, space_name(space), p,
                                                        &e.space.created_ms, &dep, &msg);
        if (x == ERR_FULL && !again && !commit_checkpoint(r->commit, &msg))
            continue;
        if (given_up(r, x))
            return m->exists;
        CHECK(x == ERR_OK, "keyspace: %s", msg.text);
        break;
    }
    e.seq = dep; // nothing is durable before the next flush
    remember(r, e.seq);
    logs_remember(&r->logs, &e);
    reply(r, dep, e.seq);
    return true;
}

// Chooses a log whose keyspace exists; -1 if there is none.
static int choose_log(struct run *r)
{
    int log = (int)(next(&r->rng) % (r->tiers ? 2 : LOGS));
    if (!r->logs.now.spaces[space_of(log)].exists && !do_space(r, space_of(log)))
        return -1;
    return r->broken || !r->logs.now.spaces[space_of(log)].exists ? -1 : log;
}

// What an answer to the appends shows, after its events were remembered.
static uint64_t check_appends(struct run *r, const struct append_plan *plans, size_t n,
                              uint64_t seq, uint64_t now)
{
    uint64_t shows = seq;
    for (size_t i = 0; i < n; i++) {
        struct log_event event;
        if (append_check(&r->logs, &plans[i], now, &event)) {
            event.seq = seq;
            logs_remember(&r->logs, &event);
        } else if (r->logs.now.logs[plans[i].log].seq > shows) {
            shows = r->logs.now.logs[plans[i].log].seq; // that all of it is there already
        }
    }
    return shows;
}

static void do_declare(struct run *r, int rel)
{
    struct errmsg msg = {0};
    uint64_t dep, created;
    for (bool again = false;; again = true) {
        enum err e = commit_relation_create(r->commit, rel_name(rel), rel_options(rel), &created,
                                            &dep, &msg);
        if (e == ERR_FULL && !again && !commit_checkpoint(r->commit, &msg))
            continue;
        if (given_up(r, e))
            return;
        CHECK(e == ERR_OK, "relation: %s", msg.text);
        break;
    }
    remember(r, dep);
    rels_made(&r->rels, rel, dep);
    reply(r, dep, dep);
}

// Relations that were made by their first addition, also by one that then failed.
static void note_made(struct run *r)
{
    int rel;
    while (rels_made_itself(r->commit, &r->rels, &rel)) {
        remember(r, r->last + 1);
        rels_made(&r->rels, rel, r->last);
    }
}

struct done {
    struct key_plan *keys;
    const struct txn_op *ops;
    const struct append_plan *plans;
    size_t appends;
    const struct rel_plan *rels;
    uint64_t seq, now;
};

static void finish_txn(struct run *r, const struct done *d, uint64_t dep)
{
    bool binds, changed = rels_check(&r->rels, d->rels, &binds);
    CHECK(!changed || d->seq, "lists changed, and nothing was logged");
    for (size_t i = 0; i < d->keys->count; i++) // but for deletions of what is not there
        binds = binds || d->ops[i].kind == TXN_PUT || r->now.keys[d->keys->keys[i]].exists;
    check_keys(r, d->keys, d->ops);
    if (d->seq)
        remember(r, d->seq);
    uint64_t records = r->logs.pooled, older = rels_shown(&r->rels, d->rels);
    uint64_t shows = check_appends(r, d->plans, d->appends, d->seq, d->now);
    if (changed)
        rels_remember(r->commit, &r->rels, d->rels, d->seq);
    // What changed may be in relations alone whose answers wait for nothing.
    if (shows == d->seq && !binds && r->logs.pooled == records)
        shows = 0;
    reply(r, dep, older > shows ? older : shows);
}

enum { ON_KEYS = 1, ON_LOGS = 2, ON_RELS = 4 };

// A transaction on keys, on one or two logs, on relations, or on several of them.
static void do_txn(struct run *r, unsigned on)
{
    static struct append_plan plans[2];
    static struct rel_plan rels;
    bool keys = on & ON_KEYS, logs = on & ON_LOGS;
    struct txn_op ops[5 + EDITS_MAX] = {0};
    struct key_plan k = {.after = r->now};
    struct log_watch watches[2];
    int wakes[2];
    size_t appends = 0;
    bool watched = logs && next(&r->rng) % 4 == 0;
    if (keys)
        choose_keys(r, &k, ops);
    for (uint64_t n = logs ? 1 + next(&r->rng) % 2 : 0; n > 0; n--) {
        int log = choose_log(r);
        if (r->broken)
            return;
        if (log < 0 || (appends && plans[0].log == log))
            continue;
        append_choose(&r->logs, &r->rng, &r->tag, log, &plans[appends]);
        ops[k.count + appends] = (struct txn_op){.kind = TXN_APPEND, .append = &plans[appends].a};
        appends++;
    }
    struct txn t = {.ops = ops, .count = k.count + appends};
    rels.count = 0;
    if (on & ON_RELS)
        rels_choose(&r->rels, &r->rng, &rels);
    for (size_t i = 0; i < rels.count; i++)
        ops[t.count++] = (struct txn_op){.kind = rels.adds[i] ? TXN_RELATE : TXN_UNRELATE,
                                         .edit = &rels.edits[i]};
    if (t.count == 0)
        return;
    for (size_t i = 0; i < appends && watched; i++)
        watch_begin(r, &watches[i], &wakes[i], plans[i].log);
    uint64_t dep, now = wall_us(r);
    struct errmsg msg = {0};
    enum err e = run_txn(r->commit, &t, &dep, &msg);
    for (size_t i = 0; i < appends && watched; i++)
        watch_end(r, &watches[i], wakes[i], e == ERR_OK && plans[i].a.appended > 0);
    if (rels.count)
        note_made(r);
    if (given_up(r, e))
        return;
    CHECK(e == (k.wrong ? ERR_CONFLICT : ERR_OK), "%s %s", err_name(e), msg.text);
    if (k.wrong) {
        reply(r, dep, 0);
        return;
    }
    finish_txn(r, &(struct done){&k, ops, plans, appends, &rels, t.seq, now}, dep);
}

// What a cut is to do, and does if all goes well.
struct cut_plan {
    int log;
    bool erase;
    bool cuts; // there is something to do
    struct log_from to;
    uint64_t after; // trim by time: what goes is past this offset
};

static void choose_cut(struct run *r, const struct model_log *l, struct cut_plan *p)
{
    size_t i = l->n ? next(&r->rng) % l->n : 0;
    p->to.start = LOG_START_OFFSET;
    p->to.offset = l->n ? l->v[i].offset : l->end;
    if (next(&r->rng) % 8 == 0)
        p->to.offset = p->erase ? l->first - 1 : l->end; // never there; all of it
    p->cuts = p->erase ? l->n && p->to.offset >= l->first : p->to.offset > l->first;
    if (p->erase || !l->n || next(&r->rng) % 4)
        return;
    p->to.start = LOG_START_TIME;
    p->to.time = l->v[i].time;
    for (i = 0; l->v[i].time < p->to.time;)
        i++;
    p->to.offset = l->v[i].offset;
    p->after = i ? l->v[i - 1].offset : 0;
    p->cuts = p->to.offset > l->first;
}

// Takes records out of a log: all before an offset or a time, or one.
static void do_cut(struct run *r, bool erase)
{
    struct cut_plan p = {.log = choose_log(r), .erase = erase};
    if (p.log < 0 || !r->logs.now.logs[p.log].exists)
        return;
    const struct model_log *l = &r->logs.now.logs[p.log];
    struct log_name name = log_name(p.log);
    struct errmsg msg = {0};
    uint64_t dep, first = 0;
    choose_cut(r, l, &p);
    enum err e;
    for (bool again = false;; again = true) {
        e = erase ? commit_log_erase(r->commit, &name, p.to.offset, &dep, &msg)
                  : commit_log_trim(r->commit, &name, &p.to, &first, &dep, &msg);
        if (e != ERR_FULL || again || commit_checkpoint(r->commit, &msg))
            break;
    }
    if (given_up(r, e))
        return;
    CHECK(e == (erase && !p.cuts ? ERR_MISSING : ERR_OK), "log %d: %s", p.log, msg.text);
    // By time, what is kept may begin in a hole before the record.
    CHECK(erase || !p.cuts || first == p.to.offset ||
              (p.to.start == LOG_START_TIME && first < p.to.offset && first > p.after),
          "log %d: trimmed to %" PRIu64 ", expected %" PRIu64, p.log, first, p.to.offset);
    bool cuts = p.cuts && (erase || first > l->first);
    struct log_event event = {.kind = erase ? EVENT_ERASE : EVENT_TRIM,
                              .which = p.log,
                              .seq = cuts ? r->last + 1 : l->seq,
                              .offset = erase ? p.to.offset : first};
    if (cuts) {
        remember(r, event.seq);
        logs_remember(&r->logs, &event);
    }
    reply(r, dep, event.seq);
}

static void do_retain(struct run *r)
{
    struct log_event events[LOGS];
    size_t n = logs_retain(r->commit, &r->logs, wall_us(r), r->faults ? NULL : r->sim, events);
    for (size_t i = 0; i < n; i++) {
        remember(r, events[i].seq);
        logs_remember(&r->logs, &events[i]);
    }
}

static void page_reply(void *arg, uint64_t dep, uint64_t shows)
{
    reply(arg, dep, shows);
}

static void do_read_log(struct run *r)
{
    int log = choose_log(r);
    enum err e;
    if (log < 0 || !r->logs.now.logs[log].exists)
        return;
    if (!log_compare(r->commit, &r->logs.now.logs[log], log, &r->rng, &r->logs, page_reply, r, &e))
        CHECK(given_up(r, e), "read: %s", err_name(e));
}

static void do_read_list(struct run *r)
{
    uint64_t dep, shows;
    enum err e = rels_read(r->commit, &r->rels.now, &r->rng, &dep, &shows);
    if (e)
        CHECK(given_up(r, e), "read: %s", err_name(e));
    else
        reply(r, dep, shows);
}

static void do_tier(struct run *r)
{
    struct log_event event;
    enum err e;
    int log = choose_log(r);
    if (log < 0 || !r->logs.now.logs[log].exists)
        return;
    if (next(&r->rng) % 2)
        r->broken = commit_flush(r->commit) != ERR_OK || r->broken;
    if (logs_move(r->commit, &r->logs, &r->rng, log, &event, &e)) {
        remember(r, event.seq);
        logs_remember(&r->logs, &event);
    }
    CHECK(!e || e == ERR_INVALID || given_up(r, e), "tier: %s", err_name(e));
    if (next(&r->rng) % 2)
        logs_delete_moved(r->commit, &r->logs);
}

// Everything that can be read from below again has to be.
static void do_evict(struct run *r)
{
    rels_evict_all(r->commit);
    struct logs *l = r->commit->logs;
    for (unsigned s = 0; s < LOGS_SHARDS; s++) {
        logs_lock(l, s);
        logs_evict(l, s, 0);
        logs_unlock(l, s);
    }
}

// While a checkpoint goes below, others write: when the store renames its file.
static struct run *running;

static bool all_spaces(const struct run *r)
{
    bool all = true;
    for (int i = 0; i < SPACES; i++)
        all = all && r->logs.now.spaces[i].exists;
    return all;
}

// Others write, if that needs no checkpoint of its own.
static void write_meanwhile(struct run *r)
{
    r->meanwhile = false;
    if (!all_spaces(r) || admit_write(r->commit))
        return;
    if (next(&r->rng) % 6 == 0)
        do_tier(r);
    else
        do_txn(r, 1 + (unsigned)(next(&r->rng) % 7));
}

static enum err heard_rename(struct os *os, const char *from, const char *to)
{
    struct run *r = running;
    if (r->meanwhile && strstr(from, "/db/"))
        write_meanwhile(r);
    return r->under->rename(os, from, to);
}

// Lists are copied one table after another: what changes meanwhile is in some of them.
static enum err heard_row(struct store_writer *w, enum store_space space, struct slice key,
                          struct slice value)
{
    struct run *r = running;
    if (r->meanwhile && space == STORE_RELS && next(&r->rng) % 16 == 0)
        write_meanwhile(r);
    return r->store_under->add(w, space, key, value);
}

static void listen(struct run *r)
{
    struct os *os = sim_os(r->sim);
    r->under = os->ops;
    r->ops = *os->ops;
    r->ops.rename = heard_rename;
    os->ops = &r->ops;
    running = r;
}

static void listen_to_store(struct run *r)
{
    r->store_under = r->commit->store->ops;
    r->store_ops = *r->store_under;
    r->store_ops.add = heard_row;
    r->commit->store->ops = &r->store_ops;
}

static void do_checkpoint(struct run *r)
{
    struct errmsg msg = {0};
    r->meanwhile = next(&r->rng) % 2;
    r->broken = (commit_checkpoint(r->commit, &msg) && !r->faults) || r->broken;
    r->meanwhile = false;
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
        return;
    }
    listen_to_store(r);
}

// Back too, but not so far that an idempotency key would expire.
static void move_clock(struct os_sim *sim, uint64_t *rng)
{
    sim_set_wall_ms(sim, NOON_MS + next(rng) % 200);
}

static void run_actions(struct run *r);

// Runs the whole script or until the power fails. The script is a function of the seed alone.
static void run_script(struct run *r, uint64_t seed, uint64_t power_off)
{
    memset(r, 0, sizeof *r);
    r->sim = sim_new(seed);
    r->rng = seed;
    r->tiers = seed % 4 == 3;
    r->local_bytes = seed % 3 * 1200;
    listen(r);
    sim_set_wall_ms(r->sim, NOON_MS);
    sim_power_off_after(r->sim, power_off);
    reopen(r);
    run_actions(r);
}

// Everything given out is durable once an orderly close says so.
static void do_restart(struct run *r)
{
    uint64_t last = r->last;
    r->broken = commit_close(r->commit) != ERR_OK || r->broken;
    r->commit = NULL;
    if (r->broken)
        return;
    r->released = last;
    r->waiting_count = 0;
    move_clock(r->sim, &r->rng);
    reopen(r);
}

// Logs that have whole chunks to be moved, moved, dropped here and read.
static void act_on_tier(struct run *r)
{
    uint64_t dice = next(&r->rng) % 10;
    if (dice < 4)
        do_txn(r, ON_LOGS);
    else if (dice < 7)
        do_tier(r);
    else if (dice < 8)
        do_checkpoint(r);
    else if (dice < 9)
        do_evict(r);
    else
        do_read_log(r);
}

static void act(struct run *r, int i)
{
    if (r->tiers && next(&r->rng) % 2) {
        act_on_tier(r);
        return;
    }
    uint64_t dice = next(&r->rng) % 100;
    int rel = rels_undeclared(&r->rels, &r->rng);
    if (i < SPACES && next(&r->rng) % 4)
        (void)do_space(r, i);
    else if (rel >= 0 && next(&r->rng) % 2)
        do_declare(r, rel);
    else if (dice < 12)
        do_txn(r, ON_KEYS);
    else if (dice < 16)
        do_idempotent(r);
    else if (dice < 19)
        do_read(r);
    else if (dice < 27)
        do_txn(r, ON_LOGS);
    else if (dice < 39)
        do_txn(r, ON_RELS);
    else if (dice < 47)
        do_txn(r, (unsigned)(next(&r->rng) % 8));
    else if (dice < 50)
        do_read_log(r);
    else if (dice < 54)
        do_read_list(r);
    else if (dice < 60)
        do_cut(r, dice % 2);
    else if (dice < 63)
        do_retain(r);
    else if (dice < 65)
        (void)do_space(r, (int)(next(&r->rng) % SPACES));
    else if (dice < 69)
        do_evict(r);
    else if (dice < 73)
        do_tier(r);
    else if (dice < 85)
        r->broken = commit_flush(r->commit) != ERR_OK || r->broken;
    else if (dice < 96)
        do_checkpoint(r);
    else
        do_restart(r);
}

static void run_actions(struct run *r)
{
    for (int i = 0; i < ACTIONS && !r->broken; i++) {
        act(r, i);
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
    uint64_t rng = states;
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
    logs_compare(c, &r->logs, s, &rng);
    rels_compare(c, &r->rels, s, &rng);
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
    logs_go_on(c, &r->logs, s);
    rels_go_on(c, &r->rels, s, &rng);
}

static void recover_and_compare(struct run *r, struct os_sim *disk)
{
    struct commit_options o = options(disk, r);
    struct commit_recovery found;
    struct commit *c;
    struct errmsg msg = {0};
    uint64_t rng = states;
    move_clock(disk, &rng);
    enum err e = commit_open(&c, &o, &found, &msg);
    if (e == ERR_OK && states % 8 == 0) { // killed as soon as it was ready
        uint64_t last = found.last_seq;
        commit_abandon(c);
        CHECK(!commit_check(&o, &found, &msg), "check: %s", msg.text);
        e = commit_open(&c, &o, &found, &msg);
        CHECK(e || found.last_seq == last, "recovered to sequence %" PRIu64 ", then to %" PRIu64,
              last, found.last_seq);
    }
    CHECK(e == ERR_OK, "cannot recover: %s %s", err_name(e), msg.text);
    compare(r, c, found.last_seq);
    commit_abandon(c);
    CHECK(states % 8 != 4 || !commit_check(&o, &found, &msg), "check: %s", msg.text);
    states++;
}

// Loses power again in the middle of recovery, then recovers for good.
static void crash_in_recovery(struct run *r, const struct os_sim *disk, uint64_t *rng)
{
    struct os_sim *again = sim_clone(disk);
    struct commit_options o = options(again, r);
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
    for (uint64_t at = seed % stride; at <= steps && states < max_states; at += stride) {
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
    r.tiers = seed % 4 == 3;
    r.local_bytes = seed % 3 * 1200;
    r.faults = true;
    listen(&r);
    sim_set_wall_ms(r.sim, NOON_MS);
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
            for (uint64_t nth = 1 + seed % stride; states < max_states; nth += stride)
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
        else if (!strcmp(argv[i], "--stride"))
            stride = strtoull(argv[i + 1], NULL, 10);
    }
    CHECK(stride > 0, "a stride is 1 at least");
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
