#include "table/logs_int.h"

#include <stdlib.h>

void log_touch(struct logs *l, struct log *log, uint64_t seq)
{
    VERIFY(seq >= log->seq && seq > log->stored_seq);
    log->seq = seq;
    log->dirty = true;
    if (log->listed)
        return;
    struct logs_shard *s = log_shard(l, log);
    log->listed = true;
    log->next_dirty = s->dirty;
    s->dirty = log;
}

void index_dirty(struct log_index *x, const struct chunk *c)
{
    uint32_t at = (uint32_t)(c - x->chunks);
    if (at < x->dirty_low)
        x->dirty_low = at;
}

// ---- pins

static uint32_t next_dirty_chunk(const struct log_index *x, uint32_t at)
{
    at = at > x->begin ? at : x->begin;
    while (at < x->end && !chunk_dirty(&x->chunks[at]))
        at++;
    return at;
}

static void pin_chunk(struct log_pin *p, struct chunk *c)
{
    c->cut = false;
    p->chunks[p->count++] = *c;
    if (c->block)
        block_ref(c->block);
}

static enum err pin_log(struct log *log, struct log_pin *p)
{
    struct log_index *x = log->index;
    VERIFY(x); // a dirty log keeps it
    size_t dirty = 0;
    for (uint32_t i = next_dirty_chunk(x, x->dirty_low); i < x->end; i = next_dirty_chunk(x, i + 1))
        dirty++;
    size_t size = offsetof(struct log, key) + log->key_len;
    *p = (struct log_pin){.log = log};
    p->image = malloc(size);
    p->chunks = dirty ? malloc(dirty * sizeof *p->chunks) : NULL;
    if (!p->image || (dirty && !p->chunks)) {
        log_pin_release(p);
        return ERR_NO_MEMORY;
    }
    memcpy(p->image, log, size);
    for (uint32_t i = next_dirty_chunk(x, x->dirty_low); i < x->end; i = next_dirty_chunk(x, i + 1))
        pin_chunk(p, &x->chunks[i]);
    p->sweep_from = log->swept;
    p->sweep_to = x->begin < x->end ? x->chunks[x->begin].meta.first : log->end;
    return ERR_OK;
}

enum err logs_pin_dirty(struct logs *l, unsigned shard, void (*fn)(void *arg, struct log_pin *p),
                        void *arg)
{
    VERIFY(shard < LOGS_SHARDS);
    enum err result = ERR_OK;
    for (struct log **link = &l->shards[shard].dirty; *link;) {
        struct log *log = *link;
        if (!log->dirty) {
            *link = log->next_dirty;
            log->next_dirty = NULL;
            log->listed = false;
            continue;
        }
        struct log_pin p;
        enum err e = pin_log(log, &p);
        if (e)
            result = e;
        else
            fn(arg, &p);
        link = &log->next_dirty;
    }
    return result;
}

void logs_written(struct logs *l, const struct log_pin *p)
{
    struct log *log = p->log;
    struct log_index *x = log->index;
    VERIFY(x);
    for (size_t i = 0; i < p->count; i++) {
        struct chunk *c = index_find(x, p->chunks[i].meta.first);
        if (!c || c->cut) // gone, or other bytes by now
            continue;
        VERIFY(p->chunks[i].meta.bytes <= c->meta.bytes);
        chunk_uncount(l, log, c);
        c->written = VARVE_BUG == 32 ? c->meta.bytes : p->chunks[i].meta.bytes;
        chunk_count(l, log, c);
    }
    x->dirty_low = next_dirty_chunk(x, x->dirty_low);
    log->swept = log->swept > p->sweep_to ? log->swept : p->sweep_to;
    log->local = log->local > p->drop_to ? log->local : p->drop_to;
    log->stored_seq = p->image->seq;
    log->dirty = log->seq != log->stored_seq;
    VERIFY(log->dirty || x->dirty_low == x->end);
}

void log_pin_release(struct log_pin *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->chunks[i].block)
            block_unref(p->chunks[i].block);
    free(p->chunks);
    free(p->image);
    *p = (struct log_pin){0};
}

// ---- eviction

static bool index_idle(const struct logs *l, const struct log *log)
{
    return log->index && log->index != &l->empty && log->resident == 0 && !log->dirty;
}

// The hand looks at the oldest clean block: one that was used goes to the other end.
static void evict_oldest(struct logs *l, struct logs_shard *s)
{
    struct block *b = s->oldest;
    struct log *log = b->log;
    // An empty block is that of an emptied chunk, which is the last one: it was reserved in vain.
    uint32_t at = b->len ? index_at(log->index, record_offset(b->bytes)) : log->index->end - 1;
    VERIFY(at != INDEX_NONE);
    struct chunk *c = &log->index->chunks[at];
    VERIFY(c->block == b && !chunk_dirty(c));
    chunk_uncount(l, log, c);
    if (c->used) {
        c->used = false;
    } else {
        chunk_set_block(l, log, c, NULL);
        s->evictions++;
    }
    chunk_count(l, log, c);
    if (index_idle(l, log) && !log->index->used)
        index_free(l, log);
}

// Of a log with nothing resident, unless a chunk is being loaded.
static void evict_index(struct logs *l, struct log *log)
{
    if (!index_idle(l, log))
        return;
    if (log->index->used)
        log->index->used = false;
    else
        index_free(l, log);
}

enum { EVICT_BUCKETS = 8 }; // looked at in one call

void logs_evict(struct logs *l, unsigned shard, uint64_t target)
{
    VERIFY(shard < LOGS_SHARDS);
    struct logs_shard *s = &l->shards[shard];
    // Only once round: what was used since the last call stays, so that whoever needs several
    // chunks gets on though the target cannot be reached.
    for (uint64_t steps = s->resident; steps > 0 && s->oldest && s->memory > target; steps--)
        evict_oldest(l, s);
    // Then indexes that were loaded and of which no chunk was. Few buckets at a time: headers alone
    // may be past the target, and every append comes here then.
    for (unsigned i = 0; s->buckets && i < EVICT_BUCKETS && s->memory > target; i++) {
        for (struct log *log = s->buckets[s->hand & s->bucket_mask]; log; log = log->next)
            evict_index(l, log);
        s->hand++;
    }
}
