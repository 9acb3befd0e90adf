// Tails' waits: for each shard of logs a few lists, under the shard's lock, of who waits for what.
// Every append looks through the one of its log.
#include "commit/log_int.h"
#include "base/assert.h"

static void take(struct log_watch *w)
{
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
    w->link = NULL;
}

static struct log_watch **list_of(struct commit *c, uint64_t hash)
{
    struct log_watch **list = &c->watches[hash >> 52];
    _Static_assert(LOGS_SHARDS * WATCH_LISTS == 1u << 12, "the upper 12 bits choose a list");
    return list;
}

enum err commit_log_watch(struct commit *c, const struct log_name *name, uint64_t offset,
                          struct log_watch *w, struct errmsg *msg)
{
    struct keyspace *k;
    enum err e = check_log_name(c, name, msg);
    if (e || (e = find_keyspace(c, name->keyspace, &k, msg)))
        return e;
    w->hash = logs_hash(c->logs, k->id, name->key);
    w->shard = logs_shard(w->hash);
    w->offset = offset;
    logs_lock(c->logs, w->shard);
    const struct log *l = logs_find(c->logs, w->hash, k, name->key);
    if (l && l->end > offset) {
        e = ERR_AGAIN;
    } else {
        struct log_watch **first = list_of(c, w->hash);
        w->next = *first;
        w->link = first;
        if (w->next)
            w->next->link = &w->next;
        *first = w;
    }
    logs_unlock(c->logs, w->shard);
    return e;
}

bool commit_log_unwatch(struct commit *c, struct log_watch *w)
{
    logs_lock(c->logs, w->shard);
    bool waiting = w->link != NULL;
    if (waiting)
        take(w);
    logs_unlock(c->logs, w->shard);
    return waiting;
}

// Two logs of one hash wake each other's tails, which then wait again.
void wake_watches(struct commit *c, uint64_t hash, uint64_t end)
{
    struct log_watch *next;
    for (struct log_watch *w = *list_of(c, hash); w; w = next) {
        next = w->next;
        if (w->hash != hash || w->offset + (VARVE_BUG == 34) >= end)
            continue;
        take(w);
        w->wake(w->arg); // w may be gone after this
    }
}
