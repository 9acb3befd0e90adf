#include "table/logs_int.h"

#include "base/hash.h"
#include <stdlib.h>

#define BUCKETS_MIN 16u

// ---- life

struct logs *logs_new(uint64_t hash_seed)
{
    struct logs *l = aligned_alloc(64, sizeof *l);
    if (!l)
        return NULL;
    memset(l, 0, sizeof *l);
    l->seed = hash_seed;
    for (unsigned i = 0; i < LOGS_SHARDS; i++)
        VERIFY(pthread_mutex_init(&l->shards[i].lock, NULL) == 0);
    return l;
}

static uint64_t log_memory(const struct log *log)
{
    return offsetof(struct log, key) + log->key_len;
}

static void log_free(struct logs *l, struct log *log)
{
    struct log_index *x = log->index;
    for (uint32_t i = x ? x->begin : 0; x && i < x->end; i++) {
        if (!x->chunks[i].block)
            continue;
        chunk_uncount(l, log, &x->chunks[i]);
        chunk_set_block(l, log, &x->chunks[i], NULL);
    }
    index_free(l, log);
    count_bytes(&l->header_bytes, 0 - log_memory(log));
    free(log);
}

static void shard_release(struct logs *l, struct logs_shard *s)
{
    for (uint64_t i = 0; s->buckets && i <= s->bucket_mask; i++)
        for (struct log *log = s->buckets[i], *next; log; log = next) {
            next = log->next;
            log_free(l, log);
        }
    if (s->buckets)
        count_bytes(&l->header_bytes, 0 - (s->bucket_mask + 1) * sizeof *s->buckets);
    free(s->buckets);
    VERIFY(!s->oldest && s->resident == 0 && s->chunks == 0);
    VERIFY(pthread_mutex_destroy(&s->lock) == 0);
}

void logs_free(struct logs *l)
{
    if (!l)
        return;
    for (unsigned i = 0; i < LOGS_SHARDS; i++)
        shard_release(l, &l->shards[i]);
    for (unsigned i = 0; i < KEYSPACE_BUCKETS; i++)
        for (struct keyspace *k = atomic_load(&l->names[i]), *next; k; k = next) {
            next = atomic_load(&k->next);
            count_bytes(&l->header_bytes, 0 - (sizeof *k + k->name_len));
            free(k);
        }
    for (unsigned i = 0; i < KEYSPACE_PAGES; i++)
        free((void *)atomic_load(&l->pages[i]));
    // What a reader still held would be freed into nothing.
    VERIFY(atomic_load(&l->block_bytes) == 0 && atomic_load(&l->dirty_bytes) == 0);
    VERIFY(atomic_load(&l->header_bytes) == 0 && atomic_load(&l->index_bytes) == 0);
    free(l);
}

// ---- keyspaces

static _Atomic(struct keyspace *) *name_bucket(const struct logs *l, struct slice name)
{
    uint64_t hash = hash64(name, l->seed);
    return (_Atomic(struct keyspace *) *)&l->names[hash % KEYSPACE_BUCKETS];
}

struct keyspace *logs_keyspace(const struct logs *l, struct slice name)
{
    struct keyspace *k = atomic_load_explicit(name_bucket(l, name), memory_order_acquire);
    while (k && !slice_equal(keyspace_name(k), name))
        k = atomic_load_explicit(&k->next, memory_order_acquire);
    return k;
}

struct keyspace *logs_keyspace_id(const struct logs *l, uint32_t id)
{
    if (id / KEYSPACE_PAGE >= KEYSPACE_PAGES)
        return NULL;
    _Atomic(struct keyspace *) *page =
        atomic_load_explicit(&l->pages[id / KEYSPACE_PAGE], memory_order_acquire);
    return page ? atomic_load_explicit(&page[id % KEYSPACE_PAGE], memory_order_acquire) : NULL;
}

static void set_policy(struct keyspace *k, const struct log_policy *p, uint64_t seq)
{
    atomic_store(&k->seq, seq); // first: see keyspace_policy
    atomic_store(&k->max_age_ms, p->max_age_ms);
    atomic_store(&k->max_bytes, p->max_bytes);
    atomic_store(&k->max_records, p->max_records);
}

struct keyspace *logs_keyspace_new(struct logs *l, uint32_t id, struct slice name,
                                   uint64_t created_ms, const struct log_policy *p)
{
    VERIFY(id > 0 && id <= LIMIT_KEYSPACES && name.n > 0 && name.n <= LIMIT_KEYSPACE_NAME);
    VERIFY(!logs_keyspace(l, name) && !logs_keyspace_id(l, id));
    _Atomic(_Atomic(struct keyspace *) *) *slot = &l->pages[id / KEYSPACE_PAGE];
    if (!atomic_load_explicit(slot, memory_order_relaxed)) {
        _Atomic(struct keyspace *) *page = calloc(KEYSPACE_PAGE, sizeof *page);
        if (!page)
            return NULL;
        atomic_store_explicit(slot, page, memory_order_release);
    }
    struct keyspace *k = calloc(1, sizeof *k + name.n);
    if (!k)
        return NULL;
    k->id = id;
    k->created_ms = created_ms;
    k->server_time = p->server_time;
    k->name_len = (uint8_t)name.n;
    memcpy(k->name, name.p, name.n);
    set_policy(k, p, 0);
    return k;
}

void logs_keyspace_publish(struct logs *l, struct keyspace *k, uint64_t seq)
{
    _Atomic(struct keyspace *) *page =
        atomic_load_explicit(&l->pages[k->id / KEYSPACE_PAGE], memory_order_relaxed);
    _Atomic(struct keyspace *) *bucket = name_bucket(l, keyspace_name(k));
    count_bytes(&l->header_bytes, sizeof *k + k->name_len);
    atomic_store(&k->seq, seq);
    atomic_store_explicit(&k->next, atomic_load_explicit(bucket, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(&page[k->id % KEYSPACE_PAGE], k, memory_order_release);
    atomic_store_explicit(bucket, k, memory_order_release);
    atomic_fetch_add_explicit(&l->keyspaces, 1, memory_order_release);
}

struct keyspace *logs_keyspace_put(struct logs *l, uint32_t id, struct slice name,
                                   uint64_t created_ms, const struct log_policy *p, uint64_t seq)
{
    struct keyspace *k = logs_keyspace(l, name);
    if (k) {
        VERIFY(k->id == id && k->server_time == p->server_time);
        set_policy(k, p, seq);
    } else if ((k = logs_keyspace_new(l, id, name, created_ms, p))) {
        logs_keyspace_publish(l, k, seq);
    }
    return k;
}

uint32_t logs_keyspace_count(const struct logs *l)
{
    return atomic_load_explicit(&l->keyspaces, memory_order_acquire);
}

// ---- blocks

struct block *block_new(struct logs *l, size_t cap)
{
    VERIFY(cap > 0 && cap < UINT32_MAX);
    struct block *b = malloc(sizeof *b + cap);
    if (!b)
        return NULL;
    *b = (struct block){.owner = l, .refs = 1, .cap = (uint32_t)cap};
    count_bytes(&l->block_bytes, block_memory(b));
    return b;
}

void block_ref(struct block *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
}

void block_unref(struct block *b)
{
    if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) > 1)
        return;
    count_bytes(&b->owner->block_bytes, 0 - block_memory(b));
    free(b);
}

void clean_push(struct logs_shard *s, struct block *b)
{
    b->newer = NULL;
    b->older = s->newest;
    if (s->newest)
        s->newest->newer = b;
    else
        s->oldest = b;
    s->newest = b;
}

void clean_remove(struct logs_shard *s, struct block *b)
{
    if (b->older)
        b->older->newer = b->newer;
    else
        s->oldest = b->newer;
    if (b->newer)
        b->newer->older = b->older;
    else
        s->newest = b->older;
    b->older = b->newer = NULL;
}

void chunk_uncount(struct logs *l, struct log *log, struct chunk *c)
{
    if (!c->block)
        return;
    if (chunk_dirty(c))
        count_bytes(&l->dirty_bytes, 0 - block_memory(c->block));
    else
        clean_remove(log_shard(l, log), c->block);
}

void chunk_count(struct logs *l, struct log *log, struct chunk *c)
{
    if (!c->block)
        return;
    if (chunk_dirty(c))
        count_bytes(&l->dirty_bytes, block_memory(c->block));
    else
        clean_push(log_shard(l, log), c->block);
}

void chunk_set_block(struct logs *l, struct log *log, struct chunk *c, struct block *b)
{
    struct logs_shard *s = log_shard(l, log);
    if (c->block) {
        log->resident--;
        s->resident--;
        s->memory -= block_memory(c->block);
        block_unref(c->block);
    }
    c->block = b;
    if (b) {
        b->log = log;
        log->resident++;
        s->resident++;
        s->memory += block_memory(b);
    }
}

// ---- logs

uint64_t logs_hash(const struct logs *l, uint32_t keyspace, struct slice key)
{
    return hash64(key, l->seed + keyspace * 0x9e3779b97f4a7c15u);
}

bool logs_trylock(struct logs *l, unsigned shard)
{
    VERIFY(shard < LOGS_SHARDS);
    return pthread_mutex_trylock(&l->shards[shard].lock) == 0;
}

uint64_t logs_shard_bytes(const struct logs *l, unsigned shard)
{
    VERIFY(shard < LOGS_SHARDS);
    return l->shards[shard].memory;
}

void logs_lock(struct logs *l, unsigned shard)
{
    VERIFY(shard < LOGS_SHARDS);
    VERIFY(pthread_mutex_lock(&l->shards[shard].lock) == 0);
}

void logs_unlock(struct logs *l, unsigned shard)
{
    VERIFY(shard < LOGS_SHARDS);
    VERIFY(pthread_mutex_unlock(&l->shards[shard].lock) == 0);
}

struct log *logs_find(struct logs *l, uint64_t hash, const struct keyspace *k, struct slice key)
{
    const struct logs_shard *s = &l->shards[logs_shard(hash)];
    struct log *log = s->buckets ? s->buckets[hash & s->bucket_mask] : NULL;
    while (log && !(log->keyspace == k && slice_equal(log_key(log), key)))
        log = log->next;
    return log;
}

struct log *logs_prepare(struct logs *l, uint64_t hash, struct keyspace *k, struct slice key,
                         uint64_t id)
{
    VERIFY(key.n > 0 && key.n <= LIMIT_KEY_HARD);
    struct logs_shard *s = &l->shards[logs_shard(hash)];
    if (!s->buckets) {
        s->buckets = calloc(BUCKETS_MIN, sizeof *s->buckets);
        if (!s->buckets)
            return NULL;
        s->bucket_mask = BUCKETS_MIN - 1;
        s->memory += BUCKETS_MIN * sizeof *s->buckets;
        count_bytes(&l->header_bytes, BUCKETS_MIN * sizeof *s->buckets);
    }
    struct log *log = malloc(offsetof(struct log, key) + key.n);
    if (!log)
        return NULL;
    memset(log, 0, offsetof(struct log, key));
    log->keyspace = k;
    log->index = &l->empty;
    log->id = id;
    log->first = log->end = log->swept = 1;
    log->last_time = INT64_MIN;
    log->shard = (uint8_t)logs_shard(hash);
    log->key_len = (uint16_t)key.n;
    memcpy(log->key, key.p, key.n);
    s->memory += log_memory(log);
    count_bytes(&l->header_bytes, log_memory(log));
    return log;
}

void log_restore(struct logs *l, struct log *log, const struct log_state *below)
{
    VERIFY(log->index == &l->empty && log->end == 1);
    log->index = NULL;
    log->first = below->first;
    log->end = log->settled = below->end;
    log->next_nonce = below->next_nonce;
    log->last_time = below->last_time;
    log->records = below->records;
    log->bytes = below->bytes;
    log->swept = below->swept;
    log->tiered = below->tiered;
    log->local = below->local;
    log->seq = log->stored_seq = below->seq;
}

void logs_discard(struct logs *l, struct log *unpublished)
{
    VERIFY(!unpublished->listed && unpublished->resident == 0);
    log_shard(l, unpublished)->memory -= log_memory(unpublished);
    log_free(l, unpublished);
}

// Twice as many buckets; without the memory for them the chains grow longer.
static void grow_buckets(struct logs *l, struct logs_shard *s)
{
    uint64_t size = s->bucket_mask + 1;
    struct log **grown = calloc(2 * size, sizeof *grown);
    if (!grown)
        return;
    for (uint64_t i = 0; i < size; i++)
        for (struct log *log = s->buckets[i], *next; log; log = next) {
            next = log->next;
            uint64_t hash = logs_hash(l, log->keyspace->id, log_key(log));
            log->next = grown[hash & (2 * size - 1)];
            grown[hash & (2 * size - 1)] = log;
        }
    free(s->buckets);
    s->buckets = grown;
    s->bucket_mask = 2 * size - 1;
    s->memory += size * sizeof *grown;
    count_bytes(&l->header_bytes, size * sizeof *grown);
}

void logs_publish(struct logs *l, uint64_t hash, struct log *prepared)
{
    struct logs_shard *s = &l->shards[logs_shard(hash)];
    VERIFY(prepared->shard == logs_shard(hash) && s->buckets);
    if (s->count > s->bucket_mask)
        grow_buckets(l, s);
    struct log **bucket = &s->buckets[hash & s->bucket_mask];
    prepared->next = *bucket;
    *bucket = prepared;
    s->count++;
}

void logs_each(struct logs *l, unsigned shard, void (*fn)(void *arg, struct log *log), void *arg)
{
    VERIFY(shard < LOGS_SHARDS);
    const struct logs_shard *s = &l->shards[shard];
    for (uint64_t i = 0; s->buckets && i <= s->bucket_mask; i++)
        for (struct log *log = s->buckets[i]; log; log = log->next)
            fn(arg, log);
}

// ---- sums

void logs_get_stats(struct logs *l, struct logs_stats *out)
{
    *out = (struct logs_stats){
        .keyspaces = logs_keyspace_count(l),
        .block_bytes = atomic_load_explicit(&l->block_bytes, memory_order_relaxed),
        .index_bytes = atomic_load_explicit(&l->index_bytes, memory_order_relaxed),
        .header_bytes = atomic_load_explicit(&l->header_bytes, memory_order_relaxed),
        .dirty_bytes = logs_dirty_bytes(l),
    };
    for (unsigned i = 0; i < LOGS_SHARDS; i++) {
        logs_lock(l, i);
        const struct logs_shard *s = &l->shards[i];
        out->logs += s->count;
        out->chunks += s->chunks;
        out->resident += s->resident;
        out->evictions += s->evictions;
        logs_unlock(l, i);
    }
}

uint64_t logs_bytes(const struct logs *l)
{
    return atomic_load_explicit(&l->block_bytes, memory_order_relaxed) +
           atomic_load_explicit(&l->index_bytes, memory_order_relaxed) +
           atomic_load_explicit(&l->header_bytes, memory_order_relaxed);
}

uint64_t logs_header_bytes(const struct logs *l)
{
    return atomic_load_explicit(&l->header_bytes, memory_order_relaxed);
}

uint64_t logs_dirty_bytes(const struct logs *l)
{
    return atomic_load_explicit(&l->dirty_bytes, memory_order_relaxed);
}
