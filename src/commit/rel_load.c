// Bringing lists in from the store below, and keeping their memory within its limit. What is read
// below is only used if the list is still cold and no checkpoint became visible meanwhile: it may
// have been loaded, changed, written and evicted in between, and what was read be old.
#include "commit/rel_int.h"

#include "base/assert.h"
#include "base/log.h"
#include <inttypes.h>

static enum err damaged(uint32_t table, uint64_t hash)
{
    log_event(LOG_ERROR, "relation-damaged",
              "relation=%" PRIu32 " table=%" PRIu32 " hash=%016" PRIx64, table / 4, table, hash);
    return ERR_DAMAGED;
}

static enum err read_chunks(struct commit *c, uint32_t table, uint64_t hash, struct rels_image *m)
{
    uint8_t from[REL_ROW_KEY], to[REL_ROW_KEY];
    struct store_iter *it;
    struct rels_row row;
    struct errmsg msg;
    uint32_t of;
    enum err e = store_iter_range(c->store, STORE_RELS, rel_chunk_key(from, table, hash, 0),
                                  rel_end_key(to, table, hash), &it);
    if (e)
        return e;
    for (; !e && store_iter_valid(it); store_iter_next(it))
        e = rel_row_of(store_iter_key(it), store_iter_value(it), &of, &row)
                ? rels_image_add(m, &row)
                : ERR_DAMAGED;
    if (!e)
        e = store_iter_status(it, &msg);
    store_iter_free(it);
    return e;
}

// What the store below says of a list, also if that is nothing. memory_only: not of a long one,
// because nobody says whether a range of rows is in memory.
static enum err read_image(struct commit *c, uint32_t table, uint64_t hash, bool memory_only,
                           struct rels_image **image)
{
    uint8_t key[REL_ROW_KEY];
    struct rels_image *m = NULL;
    struct buf b;
    uint64_t count;
    buf_init(&b, IDS_BYTES_MAX + REL_ROW_HEAD);
    enum err e = store_get(c->store, STORE_RELS, rel_list_key(key, table, hash), memory_only, &b);
    bool there = e == ERR_OK;
    if (e && e != ERR_MISSING)
        goto out;
    bool is_long = there && rel_row_is_head(buf_slice(&b), &count);
    e = is_long && memory_only ? ERR_COLD : ERR_OK;
    if (!e && !(m = rels_image_new(c->rels, table, hash)))
        e = ERR_NO_MEMORY;
    if (!e && there) {
        struct rels_row row = {RELS_ROW_LIST, hash, 0, buf_slice(&b)};
        e = rels_image_add(m, &row);
    }
    if (!e && is_long)
        e = read_chunks(c, table, hash, m);
out:
    buf_release(&b);
    if (e && m)
        rels_image_free(m);
    *image = e ? NULL : m;
    return e == ERR_TOO_BIG ? ERR_DAMAGED : e; // no row is that large
}

// Puts an image in place. Shard locked, the list cold.
static enum err install(struct commit *c, uint32_t table, uint64_t hash, struct rels_image *m)
{
    enum err e = rels_install(c->rels, m);
    if (!e)
        count(&c->rel_loads, 1);
    return e == ERR_DAMAGED ? damaged(table, hash) : e;
}

static uint64_t rels_limit(const struct commit *c)
{
    return memory_share(c, keys_bytes(c->keys) + logs_memory(c));
}

// Makes room in another shard, each in its turn: a read or a transaction may need several lists of
// one shard, which would push each other out for ever. Unlocked.
static void evict_elsewhere(struct commit *c, unsigned shard)
{
    uint64_t limit = rels_limit(c);
    unsigned other = (unsigned)(atomic_fetch_add(&c->rel_hand, 1) % RELS_SHARDS);
    if (rels_bytes(c->rels) <= limit || other == shard)
        return;
    rels_lock(c->rels, other);
    rels_evict(c->rels, other, limit / RELS_SHARDS);
    rels_unlock(c->rels, other);
}

static enum err load(struct commit *c, uint32_t table, uint64_t hash, bool memory_only, bool evict)
{
    unsigned shard = rels_shard(hash);
    for (;;) {
        struct rels_image *m;
        rels_lock(c->rels, shard);
        bool cold = rels_find(c->rels, table, hash) == RELS_COLD;
        rels_unlock(c->rels, shard);
        if (!cold)
            return ERR_OK;
        if (evict)
            evict_elsewhere(c, shard);
        uint64_t ingests = atomic_load(&c->ingests);
        enum err e = read_image(c, table, hash, memory_only, &m);
        if (e && e != ERR_DAMAGED)
            return e;
        rels_lock(c->rels, shard);
        cold = rels_find(c->rels, table, hash) == RELS_COLD;
        bool again = atomic_load(&c->ingests) != ingests && VARVE_BUG != 42;
        if (cold && !again && !e) {
            if (rels_bytes(c->rels) > rels_limit(c) + c->rels_slack)
                trim_rel_shard(c, shard);
            e = install(c, table, hash, m);
            m = NULL;
        } else if (cold && !again) {
            e = damaged(table, hash);
        }
        rels_unlock(c->rels, shard);
        if (m)
            rels_image_free(m);
        if (!cold || !again)
            return cold ? e : ERR_OK; // not cold: somebody was faster, and is right
    }
}

enum err load_list(struct commit *c, uint32_t table, uint64_t hash, bool memory_only)
{
    return load(c, table, hash, memory_only, true);
}

enum err load_list_of_txn(struct commit *c, uint32_t table, uint64_t hash)
{
    return load(c, table, hash, false, false);
}

// What is below cannot be older than what was resident last: a list is evicted under this lock, and
// after what it says became visible below.
enum err load_list_locked(struct commit *c, uint32_t table, uint64_t hash)
{
    struct rels_image *m;
    if (rels_find(c->rels, table, hash) != RELS_COLD)
        return ERR_OK;
    enum err e = read_image(c, table, hash, true, &m);
    if (e)
        return e == ERR_DAMAGED ? damaged(table, hash) : e;
    return install(c, table, hash, m);
}

// ---- memory

void trim_rel_shard(struct commit *c, unsigned shard)
{
    uint64_t limit = rels_limit(c);
    if (rels_bytes(c->rels) > limit)
        rels_evict(c->rels, shard, limit / RELS_SHARDS);
}

enum { COMPACT_MOST = 16 }; // slabs of a shard emptied in one round

void tend_rels(struct commit *c)
{
    for (unsigned shard = 0; shard < RELS_SHARDS; shard++) {
        bool more = true;
        for (int i = 0; more && i < COMPACT_MOST; i++) {
            rels_lock(c->rels, shard);
            if (i == 0)
                trim_rel_shard(c, shard);
            more = rels_compact(c->rels, shard);
            rels_unlock(c->rels, shard);
        }
    }
}
