// Which logs have something to be moved to objects, and what has been moved. The bytes go from
// below in checkpoints (log_save.c) and come back as cold chunks do (log_load.c).
#include "commit/log_int.h"

// How soon a log that is moved is looked at for bytes that may go: when a checkpoint has to come
// first; when records have to get older.
#define LOOK_SOON_S  2u
#define LOOK_AGAIN_S 60u
// How long a log rests that could not be moved.
#define REST_MIN_S 1u
#define REST_MAX_S 60u

int64_t tier_keep_time(const struct commit *c, const struct log *l)
{
    uint64_t age = c->o.tier.local_age_ms;
    return age ? time_before(os_wall_ms(c->o.os), age, l->keyspace->server_time) : INT64_MAX;
}

// Seconds, never 0. Not of the wall clock, which may be set back: nothing is to wait for that.
static uint32_t now_s(const struct commit *c)
{
    return (uint32_t)(os_mono_ns(c->o.os) / 1000000000u) + 1;
}

struct looking {
    struct tier_looking *k;
    uint32_t max_age_s, now_s;
    uint64_t waiting; // bytes of the shard's logs
    uint32_t oldest;  // since when; 0: nothing waits
};

static struct tier_due due_of(const struct log *l, uint64_t end, uint64_t gone)
{
    return (struct tier_due){.keyspace = l->keyspace->name,
                             .key = l->key,
                             .keyspace_size = l->keyspace->name_len,
                             .key_size = l->key_len,
                             .tiered = l->tiered,
                             .end = end,
                             .gone = gone};
}

// What objects have may be gone here. But a trim that no checkpoint has written yet is carried out
// again after a crash, and reads the chunk that it cuts: so only what is gone from below counts.
static void look_for_trim(struct tier_looking *k, const struct log *l)
{
    uint64_t gone = l->dirty ? l->swept : l->first;
    bool passed = l->tiered && gone > 1 && gone >= l->tier_look && l->tiered > l->tier_look;
    if (passed && k->trim_count < k->trim_max)
        k->trims[k->trim_count++] = due_of(l, l->end, gone);
}

static void look_at_log(void *arg, struct log *l)
{
    struct looking *w = arg;
    struct tier_looking *k = w->k;
    bool moved = l->end <= l->tiered || l->records == 0;
    bool rests = l->tier_rest > w->now_s;
    if (!rests)
        look_for_trim(k, l);
    if (moved && l->local >= l->tiered)
        return;
    // For a log that is moved it says when to look again, for another one since when it waits.
    if (!l->tier_s || (!moved && l->tier_s > w->now_s))
        l->tier_s = w->now_s;
    if (!moved) {
        w->waiting += log_untiered(l);
        w->oldest = w->oldest && w->oldest < l->tier_s ? w->oldest : l->tier_s;
    }
    bool due = moved ? l->tier_s <= w->now_s
                     : log_untiered(l) >= k->min_bytes || w->now_s - l->tier_s >= w->max_age_s;
    if (due && !rests && k->moves && k->move_count < k->move_max)
        k->moves[k->move_count++] = due_of(l, moved ? l->tiered : l->end, 1);
}

void commit_tier_due(struct commit *c, struct tier_looking *k)
{
    unsigned shard = c->tier_shard;
    k->move_count = k->trim_count = 0;
    for (unsigned s = 0; s < LOGS_SHARDS && (!k->moves || k->move_count < k->move_max); s++) {
        struct looking w = {
            .k = k, .max_age_s = (uint32_t)(k->max_age_ms / 1000), .now_s = now_s(c)};
        shard = (c->tier_shard + s) % LOGS_SHARDS;
        logs_lock(c->logs, shard);
        logs_each(c->logs, shard, look_at_log, &w);
        logs_unlock(c->logs, shard);
        atomic_store_explicit(&c->tier_waiting[shard], w.waiting, memory_order_relaxed);
        atomic_store_explicit(&c->tier_oldest[shard], w.oldest, memory_order_relaxed);
    }
    c->tier_shard = (shard + 1) % LOGS_SHARDS;
}

void tier_waits(const struct commit *c, uint64_t *bytes, uint64_t *seconds)
{
    uint32_t now = now_s(c), since = now;
    *bytes = 0;
    for (unsigned s = 0; s < LOGS_SHARDS; s++) {
        uint32_t oldest = atomic_load_explicit(&c->tier_oldest[s], memory_order_relaxed);
        *bytes += atomic_load_explicit(&c->tier_waiting[s], memory_order_relaxed);
        since = oldest && oldest < since ? oldest : since;
    }
    *seconds = now - since;
}

// Of a log that is moved: true if more may go from here than a checkpoint will find by itself. Says
// when to look again: soon while one is due, and never, until something is appended, where only age
// could let more go and does not.
static bool look_for_more(const struct commit *c, struct log *l)
{
    bool more = log_local_border(l, c->o.tier.local_bytes, tier_keep_time(c, l)) > l->local;
    if (more)
        l->tier_s = now_s(c) + LOOK_SOON_S;
    else
        l->tier_s = c->o.tier.local_age_ms ? now_s(c) + LOOK_AGAIN_S : UINT32_MAX;
    return more && !l->dirty;
}

// Shard locked. ERR_COLD: the index is needed.
static enum err note_moved(struct commit *c, struct log *l, uint64_t before, struct errmsg *msg)
{
    uint64_t seq;
    uint64_t durable = wal_durable(c->wal);
    if (before < l->tiered)
        return ERR_OK;
    // What was noted was durable then; the note itself may not be yet.
    bool settled = l->seq <= durable || before <= log_settled(l, durable);
    if (before > l->end || (before > l->tiered && !settled))
        return err_set(msg, ERR_INVALID, "not all of that is durable yet");
    if (!l->index)
        return ERR_COLD;
    if (before == l->tiered && !look_for_more(c, l))
        return ERR_OK;
    enum err e = log_the_cut(c, CHANGE_TIER, l, before, &seq);
    if (e)
        return err_set(msg, e, "%s", err_text(e));
    if (before > l->tiered)
        l->tier_s = 0;
    log_tier(c->logs, l, before, seq);
    return ERR_OK;
}

enum err commit_tier_done(struct commit *c, const struct log_name *name, uint64_t before,
                          struct errmsg *msg)
{
    struct keyspace *k;
    enum err e = find_keyspace(c, name->keyspace, &k, msg);
    if (e)
        return e;
    if ((e = admit_patiently(c)))
        return err_set(msg, e, "%s", err_text(e));
    uint64_t hash = logs_hash(c->logs, k->id, name->key);
    do {
        logs_lock(c->logs, logs_shard(hash));
        struct log *l = logs_find(c->logs, hash, k, name->key);
        e = l ? note_moved(c, l, before, msg) : err_set(msg, ERR_MISSING, "no such log");
        logs_unlock(c->logs, logs_shard(hash));
        if (e != ERR_COLD) {
            commit_kick(c);
            return e;
        }
        e = load_log_part(c, l, 0, false);
    } while (!e);
    return err_set(msg, e, "cannot read the log: %s", err_text(e));
}

// Calls fn for the log, locked, if there is one.
static void with_log(struct commit *c, const struct log_name *name,
                     void (*fn)(struct commit *c, struct log *l, uint64_t arg), uint64_t arg)
{
    struct keyspace *k = logs_keyspace(c->logs, name->keyspace);
    if (!k)
        return;
    uint64_t hash = logs_hash(c->logs, k->id, name->key);
    logs_lock(c->logs, logs_shard(hash));
    struct log *l = logs_find(c->logs, hash, k, name->key);
    if (l)
        fn(c, l, arg);
    logs_unlock(c->logs, logs_shard(hash));
}

static void set_look(struct commit *c, struct log *l, uint64_t look)
{
    (void)c;
    l->tier_look = look;
    l->tier_rest = 0;
}

void commit_tier_trimmed(struct commit *c, const struct log_name *name, uint64_t look)
{
    with_log(c, name, set_look, look);
}

static void set_rest(struct commit *c, struct log *l, uint64_t unused)
{
    (void)unused;
    uint32_t now = now_s(c), waited = l->tier_s && l->tier_s < now ? now - l->tier_s : 0;
    waited = waited > REST_MIN_S ? waited : REST_MIN_S;
    l->tier_rest = now + (waited < REST_MAX_S ? waited : REST_MAX_S);
}

void commit_tier_rest(struct commit *c, const struct log_name *name)
{
    with_log(c, name, set_rest, 0);
}
