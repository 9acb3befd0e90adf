// Which logs have something to be moved to objects, and what has been moved. The bytes go from
// below in checkpoints (log_save.c) and come back as cold chunks do (log_load.c).
#include "commit/log_int.h"

// How soon a log that is moved is looked at for bytes that may go: when a checkpoint has to come
// first; when records have to get older.
#define LOOK_SOON_S  2u
#define LOOK_AGAIN_S 60u

int64_t tier_keep_time(const struct commit *c, const struct log *l)
{
    uint64_t age = c->o.tier.local_age_ms;
    return age ? time_before(os_wall_ms(c->o.os), age, l->keyspace->server_time) : INT64_MAX;
}

static uint32_t now_s(const struct commit *c)
{
    return (uint32_t)(os_wall_ms(c->o.os) / 1000);
}

struct looking {
    struct tier_due *v;
    size_t n, max;
    uint64_t min_bytes;
    uint32_t max_age_s, now_s;
};

static void look_at_log(void *arg, struct log *l)
{
    struct looking *k = arg;
    bool moved = l->end <= l->tiered || l->records == 0;
    if (k->n == k->max || (moved && l->local >= l->tiered))
        return;
    // For a log that is moved it says when to look again, for another one since when it waits.
    if (!l->tier_s || (!moved && l->tier_s > k->now_s))
        l->tier_s = k->now_s;
    bool due = moved ? l->tier_s <= k->now_s
                     : log_untiered(l) >= k->min_bytes || k->now_s - l->tier_s >= k->max_age_s;
    if (due)
        k->v[k->n++] = (struct tier_due){.keyspace = l->keyspace->name,
                                         .key = l->key,
                                         .keyspace_size = l->keyspace->name_len,
                                         .key_size = l->key_len,
                                         .tiered = l->tiered,
                                         .end = moved ? l->tiered : l->end};
}

size_t commit_tier_due(struct commit *c, uint64_t min_bytes, uint64_t max_age_ms,
                       struct tier_due *v, size_t max)
{
    struct looking k = {.v = v,
                        .max = max,
                        .min_bytes = min_bytes,
                        .max_age_s = (uint32_t)(max_age_ms / 1000),
                        .now_s = now_s(c)};
    unsigned shard = c->tier_shard;
    for (unsigned s = 0; s < LOGS_SHARDS && k.n < max; s++) {
        shard = (c->tier_shard + s) % LOGS_SHARDS;
        logs_lock(c->logs, shard);
        logs_each(c->logs, shard, look_at_log, &k);
        logs_unlock(c->logs, shard);
    }
    c->tier_shard = (shard + 1) % LOGS_SHARDS;
    return k.n;
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
    if (before > l->end || (l->seq > durable && before > log_settled(l, durable)))
        return err_set(msg, ERR_INVALID, "not all of that is durable yet");
    if (before < l->tiered)
        return ERR_OK;
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
