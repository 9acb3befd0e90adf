// Bringing indexes and chunks of logs in from the store below. What is read there is only used if
// no checkpoint became visible meanwhile: the log may have been loaded, changed, written and
// evicted in between, and what was read be old.
#include "commit/log_int.h"
#include "base/log.h"
#include <inttypes.h>
#include <stdlib.h>

// Says in the log which log is damaged, for that is more than an answer can.
static enum err damaged(const struct log *l, uint64_t first, const char *what)
{
    log_event(LOG_ERROR, "log-damaged", "log=%" PRIu64 " chunk=%" PRIu64 " what=%s", l->id, first,
              log_quote(what));
    return ERR_DAMAGED;
}

struct metas {
    struct chunk_meta *v;
    size_t n, cap;
};

static enum err metas_add(struct metas *m, const struct chunk_meta *one)
{
    if (m->n == m->cap) {
        size_t cap = m->cap ? 2 * m->cap : 16;
        struct chunk_meta *v = realloc(m->v, cap * sizeof *v);
        if (!v)
            return ERR_NO_MEMORY;
        m->v = v;
        m->cap = cap;
    }
    m->v[m->n++] = *one;
    return ERR_OK;
}

// From `from` on: rows of chunks before it are gone, but their traces may take time to step over.
static enum err read_metas(struct commit *c, const struct log *l, uint64_t from, struct metas *m)
{
    uint8_t key[ROW_KEY];
    struct store_iter *it;
    struct errmsg msg;
    struct chunk_meta one;
    uint64_t first;
    m->n = 0;
    uint8_t end[ROW_KEY];
    enum err e = store_iter_range(c->store, log_space(l->keyspace),
                                  row_chunk_key(key, ROW_META, l->id, from),
                                  row_chunk_key(end, ROW_META, l->id + 1, 0), &it);
    if (e)
        return e;
    for (; !e && store_iter_valid(it); store_iter_next(it)) {
        if (!row_is_chunk_of(store_iter_key(it), ROW_META, l->id, &first))
            break;
        e = row_get_meta(first, store_iter_value(it), &one);
        e = e ? damaged(l, first, "its row") : metas_add(m, &one);
    }
    if (!e)
        e = store_iter_status(it, &msg);
    store_iter_free(it);
    return e;
}

static enum err load_index(struct commit *c, struct log *l)
{
    unsigned shard = l->shard;
    struct metas m = {0};
    enum err e;
    for (bool again = true; again;) {
        uint64_t ingests = atomic_load(&c->ingests);
        logs_lock(c->logs, shard);
        uint64_t from = l->swept;
        logs_unlock(c->logs, shard);
        if ((e = read_metas(c, l, from, &m)))
            break;
        logs_lock(c->logs, shard);
        again = !l->index && atomic_load(&c->ingests) != ingests;
        if (!again)
            e = log_load_index(c->logs, l, m.v, m.n);
        logs_unlock(c->logs, shard);
    }
    free(m.v);
    return e;
}

// Are these the bytes of a chunk?
static enum err check_chunk(const struct log *l, uint64_t first, struct slice bytes)
{
    struct record_walk w = {.rest = bytes, .last = first - 1};
    struct record r;
    struct errmsg msg;
    enum err e;
    while (!(e = record_next(&w, &r, &msg)))
        ;
    return e == ERR_MISSING ? ERR_OK : damaged(l, first, msg.text);
}

// True if a chunk's bytes are in objects, and the same there.
static bool in_tier(struct commit *c, const struct log *l, uint64_t first, struct chunk_meta *m)
{
    logs_lock(c->logs, l->shard);
    bool there = log_chunk_meta(l, first, m) && m->last < l->tiered && chunk_is_whole(m);
    logs_unlock(c->logs, l->shard);
    return there;
}

// A chunk whose bytes are not below: they may be in the tier. ERR_MISSING: they are not.
static enum err read_tier(struct commit *c, const struct log *l, uint64_t first, bool memory_only,
                          struct buf *b)
{
    struct chunk_meta m;
    struct errmsg msg = {""};
    if (!in_tier(c, l, first, &m))
        return ERR_MISSING;
    if (memory_only)
        return ERR_COLD;
    struct log_name name = {keyspace_name(l->keyspace), log_key(l)};
    enum err e = ERR_UNSUPPORTED;
    if (c->o.tier.read)
        e = c->o.tier.read(c->o.tier.arg, &name, first, m.last, b, &msg);
    else
        (void)err_set(&msg, e, "the chunk is in a tier, and none is configured");
    // Trimmed meanwhile, its objects may be gone.
    if (e && !in_tier(c, l, first, &m))
        return ERR_MISSING;
    if (!e && buf_len(b) != m.bytes)
        return damaged(l, first, "the tier has other bytes");
    count(&c->tier_reads, e == ERR_OK);
    count(&c->tier_read_failures, e != ERR_OK);
    if (e && e != ERR_AWAY) // the tier says that, once
        log_event(LOG_ERROR, "tier-read-failed", "log=%" PRIu64 " chunk=%" PRIu64 " error=%s",
                  l->id, first, log_quote(msg.text));
    return e == ERR_MISSING ? ERR_DAMAGED : e;
}

static enum err load_chunk(struct commit *c, struct log *l, uint64_t first, bool memory_only)
{
    unsigned shard = l->shard;
    uint8_t key[ROW_KEY];
    struct buf b;
    enum err e;
    buf_init(&b, LIMIT_VALUE_HARD + LOGS_CHUNK);
    for (bool again = true; again;) {
        uint64_t ingests = atomic_load(&c->ingests);
        buf_clear(&b);
        e = store_get(c->store, log_space(l->keyspace), row_chunk_key(key, ROW_CHUNK, l->id, first),
                      memory_only, &b);
        if (e == ERR_MISSING)
            e = read_tier(c, l, first, memory_only, &b);
        if (e && e != ERR_MISSING)
            break;
        if (!e && (e = check_chunk(l, first, buf_slice(&b))))
            break;
        e = ERR_OK; // what is missing may have been swept meanwhile
        logs_lock(c->logs, shard);
        again = atomic_load(&c->ingests) != ingests;
        if (!again) {
            e = log_load_chunk(c->logs, l, first, buf_slice(&b));
            if (!e && log_lacks_chunk(l, first))
                e = damaged(l, first, "its bytes are missing");
            count(&c->cold_reads, 1);
        }
        logs_unlock(c->logs, shard);
    }
    buf_release(&b);
    return e;
}

static enum err load_part(struct commit *c, struct log *l, uint64_t first, bool memory_only)
{
    if (first == 0) // a range of rows: nobody says whether they are in memory
        return memory_only ? ERR_COLD : load_index(c, l);
    return load_chunk(c, l, first, memory_only);
}

enum err load_log_part(struct commit *c, struct log *l, uint64_t first, bool memory_only)
{
    logs_lock(c->logs, l->shard);
    trim_log_shard(c, l->shard);
    logs_unlock(c->logs, l->shard);
    return load_part(c, l, first, memory_only);
}

enum err load_log_tail(struct commit *c, const struct log_name *name)
{
    struct keyspace *k = logs_keyspace(c->logs, name->keyspace);
    enum err e = ERR_OK;
    if (!k)
        return ERR_OK; // the append will say so
    uint64_t hash = logs_hash(c->logs, k->id, name->key);
    for (;;) {
        uint64_t first = 0;
        logs_lock(c->logs, logs_shard(hash));
        struct log *l = logs_find(c->logs, hash, k, name->key);
        bool ready = !l || log_can_append(l, &first);
        logs_unlock(c->logs, logs_shard(hash));
        // Nothing is evicted for it: a transaction needs all of its logs' tails at once, and they
        // would push each other out for ever. The append evicts.
        if (ready || (e = load_part(c, l, first, false)))
            return e;
    }
}
