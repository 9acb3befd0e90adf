#include "table/rels_int.h"

#include "base/limits.h"
#include "base/os_mem.h"
#include <stdlib.h>

#define SLOTS_PAGED ((size_t)64 << 10) // bytes from which an array is mapped, not malloc'ed
#define HUGE_PAGE   ((size_t)2 << 20)  // and from which it asks for huge pages
#define SLOT_NONE   UINT64_MAX         // the hash of an empty slot

enum {
    SPARE_MOST = 64, // slots behind the ideal places, if no more are needed
    LIST_LINES = 8,  // cache lines of a block that are worth prefetching
};

static void tell(_Atomic uint64_t *sum, uint64_t *told, uint64_t now)
{
    uint64_t change = now - *told; // modulo 2^64, as the sum
    if (change + COUNT_STEP < 2 * COUNT_STEP)
        return;
    atomic_fetch_add_explicit(sum, change, memory_order_relaxed);
    *told = now;
}

void rels_tell(struct rels *r, struct rel_shard *s)
{
    tell(&r->bytes, &s->told_bytes, shard_bytes(s));
    tell(&r->unwritten, &s->told_unwritten, s->unwritten);
}

// ---- life

static size_t whole_pages(size_t n)
{
    return (n + 4095) / 4096 * 4096;
}

// A step of a generator of keys (splitmix64): neighbouring states give unlike numbers.
static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

struct rels *rels_new(const uint64_t secret[4], bool complete)
{
    // Mapped, as most of it is never touched.
    struct rels *r = os_pages_map(whole_pages(sizeof *r), 4096);
    if (!r)
        return NULL;
    r->complete = complete;
    r->pool = pool_new();
    if (!r->pool) {
        os_pages_unmap(r, whole_pages(sizeof *r));
        return NULL;
    }
    for (unsigned i = 0; i < 4; i++) {
        r->keys[i] = mix(secret[i]);
        r->multiplier[i] = mix(r->keys[i] ^ secret[(i + 1) % 4]) | 1;
    }
    for (unsigned i = 0; i < RELS_SHARDS; i++) {
        struct rel_shard *s = &r->shards[i];
        VERIFY(pthread_mutex_init(&s->lock, NULL) == 0);
        slab_heap_init_fine(&s->heap, r->pool);
    }
    return r;
}

static size_t slots_memory(const struct rel_table *t)
{
    if (!table_slots(t))
        return 0;
    size_t n = (size_t)(t->total + 1) * sizeof(struct rel_slot);
    return n >= SLOTS_PAGED ? whole_pages(n) : (n + 63) / 64 * 64;
}

static void slots_free(struct rel_slot *at, size_t bytes)
{
    if (bytes >= SLOTS_PAGED)
        os_pages_unmap(at, bytes);
    else
        free(at);
}

static void table_free(struct rel_shard *s, struct rel_table *t)
{
    // The pool takes the slabs with it; only what came from malloc has to be freed one by one.
    if (s->heap.large)
        for (struct rel_slot *slot = slot_from(t, 0); slot; slot = slot_at(t, slot + 1))
            if (word_kind(slot->word) == WORD_LONG)
                list_free(s, slot->word);
    slots_free(table_slots(t), slots_memory(t));
    free(t);
}

void rels_free(struct rels *r)
{
    if (!r)
        return;
    for (unsigned i = 0; i < RELS_SHARDS; i++) {
        struct rel_shard *s = &r->shards[i];
        while (s->first) {
            struct rel_table *t = s->first;
            s->first = t->next;
            table_free(s, t);
        }
        VERIFY(s->heap.large == 0);
        VERIFY(pthread_mutex_destroy(&s->lock) == 0);
    }
    pool_free(r->pool);
    os_pages_unmap(r, whole_pages(sizeof *r));
}

enum err rels_table(struct rels *r, uint32_t table, bool payloads)
{
    VERIFY(table < RELS_TABLES);
    uint8_t known = atomic_load_explicit(&r->known[table], memory_order_relaxed);
    VERIFY(known == 0 || known == 1 + payloads);
    atomic_store_explicit(&r->known[table], (uint8_t)(1 + payloads), memory_order_release);
    return ERR_OK;
}

struct rel_table *table_make(struct rels *r, struct rel_shard *s, uint32_t table)
{
    VERIFY(table < RELS_TABLES);
    struct rel_table *t = shard_table(s, table);
    if (t)
        return t;
    uint8_t known = atomic_load_explicit(&r->known[table], memory_order_acquire);
    VERIFY(known != 0);
    t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->number = table;
    t->payloads = known == 2;
    t->complete = r->complete;
    // In rising order of numbers: a hand that goes on after one finds the next.
    struct rel_table **link = &s->first;
    while (*link && (*link)->number < table)
        link = &(*link)->next;
    t->next = *link;
    *link = t;
    atomic_store_explicit(&s->tables[table], t, memory_order_release);
    return t;
}

void rels_lock(struct rels *r, unsigned shard)
{
    VERIFY(pthread_mutex_lock(&numbered_shard(r, shard)->lock) == 0);
}

void rels_unlock(struct rels *r, unsigned shard)
{
    VERIFY(pthread_mutex_unlock(&numbered_shard(r, shard)->lock) == 0);
}

// ---- the permutation: a Feistel network of four rounds over the halves

static uint32_t scramble(const struct rels *r, unsigned round, uint32_t half)
{
    uint64_t product = (half ^ r->keys[round]) * r->multiplier[round];
    return (uint32_t)((product ^ product >> 29) * r->multiplier[round] >> 32);
}

uint64_t rels_hash(const struct rels *r, uint64_t from)
{
    uint32_t left = (uint32_t)(from >> 32), right = (uint32_t)from;
    for (unsigned i = 0; i < 4; i += 2) {
        left ^= scramble(r, i, right);
        right ^= scramble(r, i + 1, left);
    }
    return (uint64_t)left << 32 | right;
}

uint64_t rels_from(const struct rels *r, uint64_t hash)
{
    uint32_t left = (uint32_t)(hash >> 32), right = (uint32_t)hash;
    for (unsigned i = 4; i > 0; i -= 2) {
        right ^= scramble(r, i - 1, left);
        left ^= scramble(r, i - 2, right);
    }
    return (uint64_t)left << 32 | right;
}

// ---- slots

// The part of `ideal` places that the hash is of all hashes of its shard.
static uint64_t place_of(uint64_t hash, uint64_t ideal)
{
    return (uint64_t)((unsigned __int128)(hash << 6) * ideal >> 64);
}

static struct rel_slot *slot_place(const struct rel_table *t, uint64_t hash)
{
    struct rel_slot *slot = table_slots(t);
    slot += place_of(hash, atomic_load_explicit(&t->ideal, memory_order_relaxed));
    while (slot->hash < hash)
        slot++;
    return slot;
}

struct rel_slot *slot_find(const struct rel_table *t, uint64_t hash)
{
    if (!table_slots(t))
        return NULL;
    struct rel_slot *slot = slot_place(t, hash);
    return slot->hash == hash && slot->word ? slot : NULL;
}

struct rel_slot *slot_at(const struct rel_table *t, struct rel_slot *slot)
{
    struct rel_slot *end = table_slots(t) + t->total;
    while (slot < end && !slot->word)
        slot++;
    return slot < end ? slot : NULL;
}

struct rel_slot *slot_from(const struct rel_table *t, uint64_t hash)
{
    return table_slots(t) ? slot_at(t, slot_place(t, hash)) : NULL;
}

static struct rel_slot *slots_new(size_t bytes)
{
    if (bytes < SLOTS_PAGED)
        return aligned_alloc(64, bytes);
    bool huge = bytes >= HUGE_PAGE;
    struct rel_slot *at = os_pages_map(bytes, huge ? HUGE_PAGE : 4096);
    if (at && huge)
        os_pages_huge(at, bytes, true);
    return at;
}

// Where the last slot comes to lie if there are so many ideal places, plus one.
static uint64_t slots_needed(const struct rel_table *t, uint64_t ideal)
{
    uint64_t next = 0;
    for (struct rel_slot *slot = slot_from(t, 0); slot; slot = slot_at(t, slot + 1)) {
        uint64_t place = place_of(slot->hash, ideal);
        next = (place > next ? place : next) + 1;
    }
    return next;
}

// Moves all slots to a new array with room for `need`, filled to 0.88 then.
static bool slots_rebuild(struct rel_shard *s, struct rel_table *t, uint64_t need)
{
    uint64_t ideal = need + need / 8 + need / 64 + 1;
    uint64_t spare = ideal / 16 + 3 < SPARE_MOST ? ideal / 16 + 3 : SPARE_MOST;
    uint64_t total = slots_needed(t, ideal) + 2;
    total = total > ideal + spare ? total : ideal + spare;
    struct rel_table made = {.total = total, .at = (struct rel_slot *)(uintptr_t)16};
    size_t bytes = slots_memory(&made);
    total = bytes / sizeof(struct rel_slot) - 1; // what rounding gave
    struct rel_slot *fresh = slots_new(bytes);
    if (!fresh)
        return false;
    uint64_t next = 0;
    for (struct rel_slot *slot = slot_from(t, 0); slot; slot = slot_at(t, slot + 1)) {
        uint64_t place = place_of(slot->hash, ideal);
        for (; next < place; next++)
            fresh[next] = (struct rel_slot){SLOT_NONE, WORD_EMPTY};
        fresh[next++] = *slot;
    }
    VERIFY(next <= total);
    for (; next <= total; next++)
        fresh[next] = (struct rel_slot){SLOT_NONE, WORD_EMPTY};
    s->slot_bytes += bytes - slots_memory(t);
    slots_free(table_slots(t), slots_memory(t));
    atomic_store_explicit(&t->at, fresh, memory_order_relaxed);
    atomic_store_explicit(&t->ideal, ideal, memory_order_relaxed);
    t->total = total;
    return true;
}

// More than 15/16 full; what has no ideal place of its own does not count.
static bool slots_crowded(const struct rel_table *t)
{
    uint64_t ideal = atomic_load_explicit(&t->ideal, memory_order_relaxed);
    return t->count + 1 > ideal - ideal / 16;
}

// The empty slot nearest behind, NULL: only the last one, which stays.
static struct rel_slot *slot_gap(const struct rel_table *t, struct rel_slot *slot)
{
    while (slot->word)
        slot++;
    return slot < table_slots(t) + t->total ? slot : NULL;
}

struct rel_slot *slot_insert(struct rel_shard *s, struct rel_table *t, uint64_t hash, uint64_t word)
{
    VERIFY(word);
    // Rather crowded than refused.
    if ((!table_slots(t) || slots_crowded(t)) && !slots_rebuild(s, t, t->count + 1) &&
        !table_slots(t))
        return NULL;
    struct rel_slot *slot = slot_place(t, hash);
    struct rel_slot *gap = slot_gap(t, slot);
    if (!gap) {
        if (!slots_rebuild(s, t, t->count + 1))
            return NULL;
        slot = slot_place(t, hash);
        gap = slot_gap(t, slot);
        VERIFY(gap);
    }
    VERIFY(slot->hash != hash || !slot->word);
    memmove(slot + 1, slot, (size_t)(gap - slot) * sizeof *slot);
    *slot = (struct rel_slot){hash, word};
    t->count++;
    list_count(s, t, word);
    return slot;
}

void slot_remove(struct rel_shard *s, struct rel_table *t, struct rel_slot *slot)
{
    struct rel_slot *at = table_slots(t);
    uint64_t ideal = atomic_load_explicit(&t->ideal, memory_order_relaxed);
    struct rel_slot *end = slot + 1; // those before it move one to the left
    while (end->word && place_of(end->hash, ideal) < (uint64_t)(end - at))
        end++;
    memmove(slot, slot + 1, (size_t)(end - slot - 1) * sizeof *slot);
    end[-1] = (struct rel_slot){SLOT_NONE, WORD_EMPTY};
    t->count--;
    (void)s;
}

void slots_shrink(struct rel_shard *s, struct rel_table *t)
{
    if (t->count == 0 && table_slots(t)) {
        s->slot_bytes -= slots_memory(t);
        slots_free(table_slots(t), slots_memory(t));
        atomic_store_explicit(&t->at, NULL, memory_order_relaxed);
        atomic_store_explicit(&t->ideal, 0, memory_order_relaxed);
        t->total = 0;
    } else if (table_slots(t) && t->count < t->total / 4 * 3 && t->total > 16) {
        (void)slots_rebuild(s, t, t->count); // else it stays large
    }
}

void rels_prefetch_slot(const struct rels *r, uint32_t table, uint64_t hash)
{
    VERIFY(table < RELS_TABLES);
    const struct rel_table *t = shard_table(&r->shards[rels_shard(hash)], table);
    if (!t)
        return;
    // The array may be gone by now, and the two not belong together: a prefetch of any address
    // does no harm.
    uint64_t ideal = atomic_load_explicit(&t->ideal, memory_order_relaxed);
    uintptr_t at = (uintptr_t)table_slots(t) + place_of(hash, ideal) * sizeof(struct rel_slot);
    __builtin_prefetch((const void *)at);
    __builtin_prefetch((const void *)(at + 64));
    __builtin_prefetch((const void *)(at + 128));
}

void rels_prefetch_list(const struct rels *r, uint32_t table, uint64_t hash)
{
    VERIFY(table < RELS_TABLES);
    // This one reads slots, so it needs the lock; if another thread has it, the lines come later.
    struct rel_shard *s = (struct rel_shard *)(uintptr_t)&r->shards[rels_shard(hash)];
    const struct rel_table *t = shard_table(s, table);
    if (!t || pthread_mutex_trylock(&s->lock) != 0)
        return;
    const struct rel_slot *slot = slot_find(t, hash);
    if (slot && (word_kind(slot->word) == WORD_BLOCK || word_kind(slot->word) == WORD_LONG)) {
        const uint8_t *p = word_object(slot->word);
        size_t n = word_size(slot->word);
        for (size_t i = 0; i < LIST_LINES && i * 64 < n; i++)
            __builtin_prefetch(p + i * 64);
    }
    VERIFY(pthread_mutex_unlock(&s->lock) == 0);
}

enum rels_where rels_find(struct rels *r, uint32_t table, uint64_t hash)
{
    VERIFY(table < RELS_TABLES);
    const struct rel_table *t = shard_table(hash_shard(r, hash), table);
    if (!t)
        return r->complete ? RELS_NONE : RELS_COLD;
    struct rel_slot *slot = slot_find(t, hash);
    if (!slot)
        return t->complete ? RELS_NONE : RELS_COLD;
    if (!(slot->word & WORD_USED))
        slot->word |= WORD_USED;
    if (word_kind(slot->word) == WORD_ABSENT)
        return RELS_NONE;
    if (word_kind(slot->word) == WORD_LONG && word_long(slot->word)->count == 0)
        return RELS_NONE;
    return RELS_HERE;
}

uint64_t rels_count(struct rels *r, uint32_t table, uint64_t hash)
{
    VERIFY(table < RELS_TABLES);
    const struct rel_table *t = shard_table(hash_shard(r, hash), table);
    const struct rel_slot *slot = t ? slot_find(t, hash) : NULL;
    return slot ? word_count(slot->word) : 0;
}

// ---- lists

uint64_t list_weight(uint64_t word)
{
    if (!(word & WORD_UNWRITTEN))
        return 0;
    uint64_t weight = sizeof(struct rel_slot);
    if (word_kind(word) == WORD_BLOCK)
        weight += word_size(word);
    else if (word_kind(word) == WORD_LONG)
        weight += word_long(word)->unwritten;
    return weight;
}

// Adds a list to the sums; `by` is 1, or -1 modulo 2^64 to take it out.
static void list_sum(struct rel_shard *s, struct rel_table *t, uint64_t word, uint64_t by)
{
    uint64_t count = word_count(word);
    t->lists += count ? by : 0;
    t->members += by * count;
    if (word_kind(word) == WORD_ONE || word_kind(word) == WORD_TWO)
        t->inlined += by;
    if (word_kind(word) == WORD_LONG)
        t->chunks += by * word_long(word)->chunks;
    t->dirty += word & WORD_DIRTY ? by : 0;
    t->captured += word & WORD_CAPTURED ? by : 0;
    s->clean += word & WORD_UNWRITTEN ? 0 : by;
    uint64_t weight = by * list_weight(word);
    t->unwritten += weight;
    s->unwritten += weight;
}

void list_count(struct rel_shard *s, struct rel_table *t, uint64_t word)
{
    list_sum(s, t, word, 1);
}

void list_uncount(struct rel_shard *s, struct rel_table *t, uint64_t word)
{
    list_sum(s, t, word, UINT64_MAX);
}

static void long_free(struct rel_shard *s, uint64_t word)
{
    struct rel_long *l = word_long(word);
    const struct leaf_ref *dir = long_dir(l);
    for (uint32_t i = 0; i < l->leaves; i++) {
        struct rel_leaf *leaf = dir[i].leaf;
        for (uint64_t j = 0; j < leaf->count; j++)
            rel_block_free(s, leaf->at[j].word);
        slab_free(&s->heap, leaf, sizeof *leaf + leaf->count * sizeof leaf->at[0]);
    }
    if (l->dir)
        slab_free(&s->heap, l->dir, l->leaves * sizeof *l->dir);
    if (l->gone)
        slab_free(&s->heap, l->gone, l->gone_cap * sizeof *l->gone);
    slab_free(&s->heap, l, word_size(word));
}

void list_free(struct rel_shard *s, uint64_t word)
{
    if (word_kind(word) == WORD_BLOCK)
        rel_block_free(s, word);
    else if (word_kind(word) == WORD_LONG)
        long_free(s, word);
}

uint64_t rel_block_new(struct rel_shard *s, const void *bytes, size_t n)
{
    VERIFY(n <= IDS_BYTES_MAX);
    void *p = slab_alloc(&s->heap, n);
    if (!p)
        return 0;
    memcpy(p, bytes, n);
    return word_make(WORD_BLOCK, p, slab_size(&s->heap, p, n));
}

uint64_t rel_block_pack(struct rel_shard *s, const uint64_t *ids, const uint64_t *payloads,
                        size_t n)
{
    uint8_t bytes[IDS_BYTES_MAX];
    return rel_block_new(s, bytes, ids_pack(ids, payloads, n, bytes));
}

void rel_block_free(struct rel_shard *s, uint64_t word)
{
    slab_free(&s->heap, word_object(word), word_size(word));
}

size_t ids_below(const uint64_t *ids, size_t n, uint64_t limit)
{
    size_t step = 1, low = 0;
    while (low + step <= n && ids[low + step - 1] < limit) {
        low += step;
        step *= 2;
    }
    size_t high = low + step <= n ? low + step - 1 : n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (ids[mid] < limit)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

// ---- sequences

static _Atomic uint64_t *seq_cell(const struct rels *r, uint32_t table, uint64_t hash)
{
    struct rel_shard *s = (struct rel_shard *)(uintptr_t)&r->shards[rels_shard(hash)];
    return &s->seqs[(hash ^ table * 0x9e3779b97f4a7c15u >> 40) % SEQ_CELLS];
}

void rels_note(struct rels *r, uint32_t table, uint64_t hash, uint64_t seq)
{
    _Atomic uint64_t *cell = seq_cell(r, table, hash);
    if (atomic_load_explicit(cell, memory_order_relaxed) < seq)
        atomic_store_explicit(cell, seq, memory_order_relaxed);
}

uint64_t rels_seq(const struct rels *r, uint32_t table, uint64_t hash)
{
    return atomic_load_explicit(seq_cell(r, table, hash), memory_order_relaxed);
}

// ---- sums

void rels_get_stats(struct rels *r, uint32_t table, struct rels_stats *out)
{
    *out = (struct rels_stats){0};
    bool all = table == RELS_TABLES;
    for (unsigned i = 0; i < RELS_SHARDS; i++) {
        rels_lock(r, i);
        const struct rel_shard *s = &r->shards[i];
        const struct rel_table *t = all ? s->first : shard_table(s, table);
        for (; t; t = all ? t->next : NULL) {
            out->lists += t->lists;
            out->members += t->members;
            out->inlined += t->inlined;
            out->chunks += t->chunks;
            out->slot_bytes += slots_memory(t);
            out->dirty_bytes += t->unwritten;
        }
        out->bytes += s->heap.bytes;
        out->used += s->heap.used;
        out->evictions += s->evictions;
        rels_unlock(r, i);
    }
}

uint64_t rels_bytes(const struct rels *r)
{
    return atomic_load_explicit(&r->bytes, memory_order_relaxed);
}

uint64_t rels_dirty_bytes(const struct rels *r)
{
    return atomic_load_explicit(&r->unwritten, memory_order_relaxed);
}
