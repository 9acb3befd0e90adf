// Taking records out of logs: trim, erase, and the retention that keyspaces ask for. Offsets are
// never given again and nonces stay known.
#include "commit/log_int.h"
#include "base/assert.h"
#include <stdlib.h>

enum err log_the_cut(struct commit *c, enum change_kind kind, const struct log *l, uint64_t offset,
                     uint64_t *seq)
{
    struct change ch = {.kind = kind,
                        .keyspace = l->keyspace->id,
                        .key = log_key(l),
                        .log = l->id,
                        .offset = offset};
    struct buf b;
    buf_init(&b, op_size(&ch));
    enum err e = buf_reserve(&b, op_size(&ch));
    if (!e) {
        op_append(&b, &ch);
        if (VARVE_BUG == 25 && kind == CHANGE_TRIM)
            *seq = wal_last(c->wal); // applied, not logged
        else
            e = wal_append(c->wal, buf_slice(&b), seq);
    }
    buf_release(&b);
    return e;
}

// Shard locked. ERR_COLD with *cold.
static enum err try_trim(struct commit *c, struct log *l, uint64_t before, uint64_t *cold)
{
    struct log_cut cut = {0};
    uint64_t seq = 0;
    if (before <= l->first)
        return ERR_OK;
    enum err e = log_trim_prepare(c->logs, l, before, &cut, cold);
    if (!e && (e = log_the_cut(c, CHANGE_TRIM, l, before, &seq)))
        log_cut_discard(c->logs, &cut);
    if (e)
        return e;
    log_trim(c->logs, l, before, &cut, seq);
    count(&c->trims, 1);
    return ERR_OK;
}

static enum err try_erase(struct commit *c, struct log *l, uint64_t offset, uint64_t *cold)
{
    struct log_cut cut = {0};
    uint64_t seq = 0;
    enum err e = log_erase_prepare(c->logs, l, offset, &cut, cold);
    if (e)
        return e;
    if (cut.removed == 0)
        e = ERR_MISSING;
    else
        e = log_the_cut(c, CHANGE_ERASE, l, offset, &seq);
    if (e) {
        log_cut_discard(c->logs, &cut);
        return e;
    }
    log_erase(c->logs, l, &cut, seq);
    count(&c->erased, 1);
    return ERR_OK;
}

enum err admit_patiently(struct commit *c)
{
    enum err e = admit_write(c);
    for (int i = 0; i < 3000 && e == ERR_FULL; i++) {
        os_sleep_us(c->o.os, 10000);
        e = admit_write(c);
    }
    return e;
}

// What is to be done to a log, once what it needs is in memory.
struct cut_job {
    bool erase;
    struct log_from at; // erase: its offset
    uint64_t before;    // trim: 0 until `at` was found
};

// Shard locked.
static enum err try_cut(struct commit *c, struct log *l, struct cut_job *j, uint64_t *cold)
{
    enum err e = ERR_OK;
    if (j->erase)
        return try_erase(c, l, j->at.offset, cold);
    if (j->at.start == LOG_START_OFFSET)
        j->before = j->at.offset;
    else if (!j->before)
        e = log_seek(c->logs, l, &j->at, &j->before, cold);
    if (e) {
        j->before = 0; // where a search that met a cold chunk stood is not what it found
        return e;
    }
    return try_trim(c, l, j->before < l->end ? j->before : l->end, cold);
}

static enum err cut(struct commit *c, const struct log_name *name, struct cut_job *j,
                    uint64_t *first, uint64_t *dep, struct errmsg *msg)
{
    char text[NAME_TEXT];
    struct keyspace *k;
    enum err e = check_log_name(c, name, msg);
    *dep = 0;
    if (e || (e = find_keyspace(c, name->keyspace, &k, msg)))
        return e;
    if ((e = admit_patiently(c)))
        return err_set(msg, e, "%s", err_text(e));
    uint64_t hash = logs_hash(c->logs, k->id, name->key);
    for (;;) {
        uint64_t cold = 0;
        logs_lock(c->logs, logs_shard(hash));
        struct log *l = logs_find(c->logs, hash, k, name->key);
        if (l) {
            e = try_cut(c, l, j, &cold);
            *first = l->first;
            *dep = log_dep(c, l);
        }
        logs_unlock(c->logs, logs_shard(hash));
        if (!l) {
            *dep = keyspace_dep(c, k);
            return err_set(msg, ERR_MISSING, "no log \"%s\"", quote_name(name->key, text));
        }
        if (e == ERR_COLD && !(e = load_log_part(c, l, cold, false)))
            continue;
        commit_kick(c);
        if (e == ERR_MISSING)
            return err_set(msg, e, "no record at offset %llu", (unsigned long long)j->at.offset);
        return e ? err_set(msg, e, "%s", err_text(e)) : ERR_OK;
    }
}

enum err commit_log_trim(struct commit *c, const struct log_name *name, const struct log_from *to,
                         uint64_t *first_offset, uint64_t *dep, struct errmsg *msg)
{
    struct cut_job j = {.at = *to};
    if (to->start != LOG_START_OFFSET && to->start != LOG_START_TIME)
        return err_set(msg, ERR_INVALID, "a log is trimmed before an offset or a timestamp");
    j.at.direction = LOG_FORWARDS;
    return cut(c, name, &j, first_offset, dep, msg);
}

enum err commit_log_erase(struct commit *c, const struct log_name *name, uint64_t offset,
                          uint64_t *dep, struct errmsg *msg)
{
    struct cut_job j = {.erase = true, .at = {.start = LOG_START_OFFSET, .offset = offset}};
    uint64_t first;
    return cut(c, name, &j, &first, dep, msg);
}

// ---- retention

#define RETAIN_LATEST_MS 3600000u // a log is looked at for its records' age this often at least

struct over {
    struct log **v;
    size_t n, max;
    uint64_t now_us;
};

static bool over_count(const struct log *l, const struct log_policy *p)
{
    return p->max_records && l->records > p->max_records;
}

static bool over_bytes(const struct log *l, const struct log_policy *p)
{
    return p->max_bytes && l->bytes > p->max_bytes;
}

static bool over_age(const struct log *l, const struct log_policy *p, uint64_t now_us)
{
    return p->max_age_ms && l->records && l->retain_ms <= now_us / 1000;
}

static void look_at_log(void *arg, struct log *l)
{
    struct over *o = arg;
    if (o->n == o->max)
        return;
    struct log_policy p = keyspace_policy(l->keyspace);
    if (over_count(l, &p) || over_bytes(l, &p) || over_age(l, &p, o->now_us))
        o->v[o->n++] = l;
}

static void later(uint64_t *before, uint64_t offset)
{
    if (offset > *before)
        *before = offset;
}

int64_t time_before(uint64_t now_ms, uint64_t age_ms, bool server_time)
{
    int64_t oldest;
    if (__builtin_sub_overflow(now_ms, age_ms, &oldest) ||
        __builtin_mul_overflow(oldest, server_time ? 1000 : 1, &oldest))
        return INT64_MIN;
    return oldest;
}

// The offset that what is kept of the log begins with. Shard locked.
static enum err kept_from(struct commit *c, struct log *l, const struct log_policy *p,
                          uint64_t now_us, uint64_t *before, uint64_t *cold)
{
    uint64_t offset;
    enum err e = ERR_OK;
    *before = l->first;
    if (over_count(l, p)) {
        if ((e = log_skip(c->logs, l, l->records - p->max_records, 0, &offset, cold)))
            return e;
        later(before, offset);
    }
    if (over_bytes(l, p)) {
        if ((e = log_skip(c->logs, l, 0, l->bytes - p->max_bytes, &offset, cold)))
            return e;
        later(before, offset);
    }
    if (over_age(l, p, now_us)) {
        struct log_from from = {.start = LOG_START_TIME,
                                .time = time_before(now_us / 1000, p->max_age_ms, p->server_time)};
        if ((e = log_seek(c->logs, l, &from, &offset, cold)))
            return e;
        later(before, offset);
    }
    return e;
}

// When the ages of a log's records are looked at again, in ms.
static uint64_t next_look(const struct log_policy *p, uint64_t now_us)
{
    uint64_t tenth = p->max_age_ms / 10;
    return now_us / 1000 + (tenth < RETAIN_LATEST_MS ? tenth : RETAIN_LATEST_MS);
}

static enum err retain_log(struct commit *c, struct log *l, uint64_t now_us)
{
    unsigned shard = l->shard;
    for (;;) {
        uint64_t before, had, cold = 0;
        logs_lock(c->logs, shard);
        had = l->records;
        struct log_policy p = keyspace_policy(l->keyspace); // once: it may change meanwhile
        bool aged = over_age(l, &p, now_us);
        enum err e = kept_from(c, l, &p, now_us, &before, &cold);
        if (!e)
            e = try_trim(c, l, before, &cold);
        if (!e && aged) // not before it is done: what is cold or fails is looked at again at once
            l->retain_ms = next_look(&p, now_us);
        uint64_t gone = had - l->records;
        logs_unlock(c->logs, shard);
        count(&c->retained_out, gone);
        if (e != ERR_COLD || (e = load_log_part(c, l, cold, false)))
            return e;
    }
}

static bool any_policy(const struct commit *c)
{
    for (uint32_t id = 1; id <= logs_keyspace_count(c->logs); id++) {
        struct log_policy p = keyspace_policy(logs_keyspace_id(c->logs, id));
        if (p.max_age_ms || p.max_bytes || p.max_records)
            return true;
    }
    return false;
}

bool commit_retain(struct commit *c, size_t max)
{
    struct over o = {.max = max, .now_us = os_wall_us(c->o.os)};
    if (!any_policy(c) || admit_write(c) || !(o.v = malloc(max * sizeof(struct log *))))
        return false;
    uint64_t begin = os_mono_ns(c->o.os);
    unsigned shard = c->retain_shard;
    for (unsigned s = 0; s < LOGS_SHARDS && o.n < max; s++) {
        shard = (c->retain_shard + s) % LOGS_SHARDS;
        logs_lock(c->logs, shard);
        logs_each(c->logs, shard, look_at_log, &o);
        logs_unlock(c->logs, shard);
    }
    c->retain_shard = shard; // it may have more
    bool all = true;         // one log that is damaged does not keep the others from their turn
    // Writers may wait for a checkpoint, which this thread has to make.
    for (size_t i = 0; i < o.n && !(c->housekeeper_started && atomic_load(&c->want)); i++)
        all = !retain_log(c, o.v[i], o.now_us) && all;
    free(o.v);
    if (o.n)
        commit_kick(c);
    count(&c->retention_runs, 1);
    count(&c->retention_ns, os_mono_ns(c->o.os) - begin);
    return all && o.n == max; // what failed waits for the next round
}

// Bytes that logs have too much.
static uint64_t logs_over(const struct commit *c)
{
    uint64_t all = logs_bytes(c->logs), sum = all + keys_bytes(c->keys) + rels_bytes(c->rels);
    uint64_t alone = all > c->logs_limit ? all - c->logs_limit : 0;
    uint64_t together = sum > c->table_limit ? sum - c->table_limit : 0;
    return alone > together ? alone : together;
}

// A shard that has more than its share (one large log, say) gives up what is too much, no more:
// others may have less. They are looked at in turn, so that what lies idle in them goes too.
void trim_log_shard(struct commit *c, unsigned shard)
{
    uint64_t over = logs_over(c), share = c->logs_limit / LOGS_SHARDS;
    if (!over)
        return;
    unsigned other = (unsigned)(atomic_fetch_add(&c->log_hand, 1) % LOGS_SHARDS);
    if (logs_trylock(c->logs, other)) { // fails for those that this thread holds
        logs_evict(c->logs, other, share);
        logs_unlock(c->logs, other);
    }
    uint64_t has = logs_shard_bytes(c->logs, shard);
    uint64_t keep = has > over ? has - over : 0;
    logs_evict(c->logs, shard, keep > share ? keep : share);
}
