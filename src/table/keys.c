#include "table/keys_int.h"

#include "base/hash.h"
#include "base/limits.h"
#include "base/os_mem.h"
#include <stdlib.h>

#define SLOTS_PAGED ((size_t)64 << 10) // bytes from which an array is mapped, not malloc'ed
#define HUGE_PAGE   ((size_t)2 << 20)  // and from which it asks for huge pages

static struct shard *hash_shard(struct keys *k, uint64_t hash)
{
    return &k->shards[keys_shard(hash)];
}

static void tell(_Atomic uint64_t *sum, uint64_t *told, uint64_t now)
{
    uint64_t change = now - *told; // modulo 2^64, as the sum
    if (change + COUNT_STEP < 2 * COUNT_STEP)
        return;
    atomic_fetch_add_explicit(sum, change, memory_order_relaxed);
    *told = now;
}

void shard_tell(struct keys *k, struct shard *s)
{
    tell(&k->bytes, &s->told_bytes, shard_bytes(s));
    tell(&k->unwritten_bytes, &s->told_unwritten, s->unwritten_bytes);
}

// An array of empty slots, NULL when memory is out. Large ones come page by page, so that all their
// memory goes back when they are outgrown.
static uint64_t *slots_new(size_t bytes)
{
    if (bytes >= SLOTS_PAGED) {
        bool huge = bytes >= HUGE_PAGE;
        uint64_t *paged = os_pages_map(bytes, huge ? HUGE_PAGE : 4096);
        if (paged && huge)
            os_pages_huge(paged, bytes, true);
        return paged;
    }
    uint64_t *small = aligned_alloc(64, bytes);
    return small ? memset(small, 0, bytes) : NULL;
}

static void slots_free(struct slots t)
{
    size_t bytes = t.at ? (t.mask + 1) * sizeof *t.at : 0;
    if (bytes >= SLOTS_PAGED)
        os_pages_unmap(t.at, bytes);
    else
        free(t.at);
}

// ---- life

struct keys *keys_new(uint64_t hash_seed, bool complete)
{
    struct keys *k = aligned_alloc(64, sizeof *k);
    if (!k)
        return NULL;
    memset(k, 0, sizeof *k);
    k->seed = hash_seed;
    k->pool = pool_new();
    if (!k->pool) {
        free(k);
        return NULL;
    }
    for (unsigned i = 0; i < KEYS_SHARDS; i++) {
        struct shard *s = &k->shards[i];
        VERIFY(pthread_mutex_init(&s->lock, NULL) == 0);
        s->complete = complete;
        slab_heap_init(&s->heap, k->pool);
    }
    return k;
}

static void shard_release(struct shard *s)
{
    VERIFY(s->reserved == 0);
    struct slots t = shard_slots(s);
    // The pool takes the slabs with it; only what came from malloc has to be freed one by one.
    for (uint64_t i = 0; s->heap.large && i <= t.mask && t.at; i++)
        if (slot_holds_entry(t.at[i]))
            slab_free(&s->heap, slot_entry(t.at[i]), entry_size(slot_entry(t.at[i])));
    for (size_t i = 0; s->heap.large && i < s->aside_count; i++)
        slab_free(&s->heap, s->aside[i], entry_size(s->aside[i]));
    VERIFY(s->heap.large == 0);
    free(s->aside);
    slots_free(t);
    VERIFY(pthread_mutex_destroy(&s->lock) == 0);
}

void keys_free(struct keys *k)
{
    if (!k)
        return;
    for (unsigned i = 0; i < KEYS_SHARDS; i++)
        shard_release(&k->shards[i]);
    pool_free(k->pool);
    free(k);
}

uint64_t keys_hash(const struct keys *k, enum key_space space, struct slice key)
{
    return hash64(key, k->seed + (uint64_t)space * 0x9e3779b97f4a7c15u);
}

#ifdef __SANITIZE_THREAD__
// A transaction may lock every shard; ThreadSanitizer's search for deadlocks ends the process at 64
// locks. (Its runtime is a shared library, so it must be seen from outside.)
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "detect_deadlocks=0";
}
#endif

void keys_lock(struct keys *k, unsigned shard)
{
    VERIFY(pthread_mutex_lock(&numbered_shard(k, shard)->lock) == 0);
}

void keys_unlock(struct keys *k, unsigned shard)
{
    VERIFY(pthread_mutex_unlock(&numbered_shard(k, shard)->lock) == 0);
}

bool keys_complete(const struct keys *k, unsigned shard)
{
    VERIFY(shard < KEYS_SHARDS);
    return k->shards[shard].complete;
}

// ---- finding

void keys_prefetch_slot(const struct keys *k, uint64_t hash)
{
    const struct shard *s = &k->shards[keys_shard(hash)];
    struct slots t = shard_slots(s);
    // The array may be gone by now: a prefetch of any address does no harm.
    __builtin_prefetch((const void *)((uintptr_t)t.at + (hash & t.mask) * sizeof *t.at));
}

void keys_prefetch_entry(const struct keys *k, uint64_t hash)
{
    // This one reads slots, so it needs the lock; if another thread has it, the line comes later.
    struct shard *s = (struct shard *)(uintptr_t)&k->shards[keys_shard(hash)];
    if (pthread_mutex_trylock(&s->lock) != 0)
        return;
    struct slots t = shard_slots(s);
    for (uint64_t i = hash & t.mask; t.at && t.at[i] != SLOT_EMPTY; i = (i + 1) & t.mask) {
        if ((t.at[i] ^ hash_tag(hash)) >> SLOT_TAG_SHIFT)
            continue;
        const uint8_t *e = (const uint8_t *)slot_entry(t.at[i]);
        __builtin_prefetch(e);
        __builtin_prefetch(e + 64);
        break;
    }
    VERIFY(pthread_mutex_unlock(&s->lock) == 0);
}

static bool entry_is(const struct key_entry *e, enum key_space space, struct slice key)
{
    return e->key_len == key.n && entry_space(e) == space &&
           memcmp(entry_key(e).p, key.p, key.n) == 0;
}

uint64_t *shard_find(struct slots t, uint64_t hash, enum key_space space, struct slice key,
                     uint64_t **room)
{
    uint64_t tag = hash_tag(hash);
    uint64_t *tomb = NULL;
    for (uint64_t i = hash & t.mask;; i = (i + 1) & t.mask) {
        uint64_t slot = t.at[i];
        if (slot == SLOT_EMPTY) {
            *room = tomb ? tomb : &t.at[i];
            return NULL;
        }
        if (slot == SLOT_TOMB)
            tomb = tomb ? tomb : &t.at[i];
        else if ((slot ^ tag) >> SLOT_TAG_SHIFT == 0 && entry_is(slot_entry(slot), space, key))
            return &t.at[i];
    }
}

struct key_entry *keys_find(struct keys *k, uint64_t hash, enum key_space space, struct slice key)
{
    struct shard *s = hash_shard(k, hash);
    struct slots t = shard_slots(s);
    s->lookups++;
    if (!t.at)
        return NULL;
    uint64_t *room;
    const uint64_t *slot = shard_find(t, hash, space, key, &room);
    return slot ? slot_entry(*slot) : NULL;
}

// ---- growing and shrinking

// Slots that may be taken, tombstones included, so that probes stay short and always end.
static uint64_t slots_limit(uint64_t slots)
{
    return slots - slots / 8;
}

// Moves everything into a fresh array of 2^log2 slots, leaving the tombstones behind.
static bool rehash(struct keys *k, struct shard *s, unsigned log2)
{
    VERIFY(log2 <= TABLE_LOG2_MAX);
    uint64_t *fresh = slots_new(sizeof *fresh << log2);
    if (!fresh)
        return false;
    struct slots from = shard_slots(s);
    uint64_t mask = (1ull << log2) - 1;
    VERIFY(s->count + s->reserved <= slots_limit(mask + 1));
    for (uint64_t i = 0; from.at && i <= from.mask; i++) {
        prefetch_ahead(from, i);
        if (!slot_holds_entry(from.at[i]))
            continue;
        uint64_t to = entry_hash(k, slot_entry(from.at[i])) & mask;
        while (fresh[to] != SLOT_EMPTY)
            to = (to + 1) & mask;
        fresh[to] = from.at[i];
    }
    s->tombs = 0;
    s->hand &= mask;
    atomic_store_explicit(&s->table, (uintptr_t)fresh | log2, memory_order_relaxed);
    slots_free(from);
    return true;
}

// Makes sure that one more entry can be published after those already prepared.
static bool reserve_slot(struct keys *k, struct shard *s)
{
    struct slots t = shard_slots(s);
    uint64_t need = s->count + s->reserved + 1;
    if (t.at && need + s->tombs <= slots_limit(t.mask + 1))
        return true;
    // The same size again only where that clears a good part of it of tombstones.
    unsigned log2 = TABLE_LOG2_MIN;
    while (need > (3ull << log2) / 4)
        log2++;
    if (rehash(k, s, log2))
        return true;
    return t.at && need + s->tombs < t.mask; // rather crowded than refused
}

// At most 5/16 full: half the array would be 5/8 full, as far from growing as this is from
// shrinking.
bool shard_oversized(const struct shard *s)
{
    struct slots t = shard_slots(s);
    uint64_t need = s->count + s->reserved + 1;
    return t.at && t.mask + 1 > 1u << TABLE_LOG2_MIN && need <= (t.mask + 1) / 16 * 5;
}

bool shard_shrink(struct keys *k, struct shard *s)
{
    if (!shard_oversized(s))
        return false;
    uint64_t need = s->count + s->reserved + 1;
    unsigned log2 = TABLE_LOG2_MIN;
    while (need > (5ull << log2) / 8)
        log2++;
    return rehash(k, s, log2);
}

// ---- writing

// Room to put every pinned entry aside that the prepared ones may replace.
static bool reserve_aside(struct shard *s)
{
    uint64_t in_question = s->reserved + 1 < s->pinned ? s->reserved + 1 : s->pinned;
    size_t need = s->aside_count + (size_t)in_question;
    if (need <= s->aside_cap)
        return true;
    size_t cap = need < 8 ? 8 : 2 * need;
    struct key_entry **grown = realloc(s->aside, cap * sizeof *grown);
    if (!grown)
        return false;
    s->aside = grown;
    s->aside_cap = cap;
    return true;
}

static void fill(struct key_entry *e, const struct key_fields *f)
{
    unsigned flags = (unsigned)f->type | ENTRY_USED;
    flags |= f->space == SPACE_IDEM ? ENTRY_SPACE : 0u;
    flags |= f->absent ? ENTRY_ABSENT : 0u;
    flags |= f->expires_ms ? ENTRY_EXPIRES : 0u;
    e->version = f->version;
    e->seq32 = 0;
    e->value_len = (uint32_t)f->value.n & 0xffffff;
    e->flags = flags & 0xff;
    e->key_len = (uint16_t)f->key.n;
    uint8_t *p = e->bytes;
    if (f->expires_ms) {
        store64(p, f->expires_ms);
        p += 8;
    }
    memcpy(p, f->key.p, f->key.n);
    if (f->value.n)
        memcpy(p + f->key.n, f->value.p, f->value.n);
}

struct key_entry *keys_prepare(struct keys *k, uint64_t hash, const struct key_fields *f)
{
    VERIFY(f->key.n > 0 && f->key.n <= LIMIT_KEY_HARD && f->value.n < LIMIT_VALUE_HARD);
    VERIFY((unsigned)f->type < VALUE_TYPES);
    struct shard *s = hash_shard(k, hash);
    struct key_entry *e = NULL;
    if (reserve_slot(k, s) && reserve_aside(s))
        e = slab_alloc(&s->heap, fields_size(f->key.n, f->value.n, f->expires_ms != 0));
    if (e) {
        fill(e, f);
        s->reserved++;
    }
    shard_tell(k, s);
    return e;
}

void keys_discard(struct keys *k, uint64_t hash, struct key_entry *prepared)
{
    struct shard *s = hash_shard(k, hash);
    VERIFY(s->reserved > 0);
    s->reserved--;
    slab_free(&s->heap, prepared, entry_size(prepared));
    shard_tell(k, s);
}

void shard_drop(struct shard *s, uint64_t slot)
{
    struct key_entry *e = slot_entry(slot);
    s->count--;
    s->live -= !(e->flags & ENTRY_ABSENT);
    if (slot & SLOT_PINNED) {
        VERIFY(s->aside_count < s->aside_cap);
        s->pinned--;
        s->aside[s->aside_count++] = e;
        return;
    }
    if (slot & SLOT_DIRTY) {
        s->dirty--;
        s->unwritten_bytes -= entry_usable(e);
    }
    slab_free(&s->heap, e, entry_size(e));
}

void keys_publish(struct keys *k, uint64_t hash, struct key_entry *prepared, uint64_t seq,
                  bool dirty)
{
    struct shard *s = hash_shard(k, hash);
    struct slots t = shard_slots(s);
    VERIFY(s->reserved > 0 && t.at);
    s->reserved--;
    prepared->seq32 = (uint32_t)seq;
    uint64_t *room;
    uint64_t *slot = shard_find(t, hash, entry_space(prepared), entry_key(prepared), &room);
    if (slot) {
        // A clean entry is what the store below has: it must not hide a newer one.
        VERIFY(dirty || !(*slot & (SLOT_DIRTY | SLOT_PINNED)));
        shard_drop(s, *slot);
    } else {
        slot = room;
        s->tombs -= *slot == SLOT_TOMB;
    }
    *slot = make_slot(prepared, hash, dirty ? SLOT_DIRTY : 0);
    s->count++;
    s->live += !(prepared->flags & ENTRY_ABSENT);
    if (dirty) {
        s->writes++;
        s->dirty++;
        s->unwritten_bytes += entry_usable(prepared);
    }
    shard_tell(k, s);
}

// The slot that holds this entry.
static uint64_t *entry_slot(struct slots t, uint64_t hash, const struct key_entry *e)
{
    for (uint64_t i = hash & t.mask;; i = (i + 1) & t.mask) {
        VERIFY(t.at[i] != SLOT_EMPTY);
        if (slot_holds_entry(t.at[i]) && slot_entry(t.at[i]) == e)
            return &t.at[i];
    }
}

bool keys_fits(const struct key_entry *e, const struct key_fields *f)
{
    bool expires = f->expires_ms != 0;
    return !(e->flags & ENTRY_PINNED) && !f->absent == !(e->flags & ENTRY_ABSENT) &&
           expires == ((e->flags & ENTRY_EXPIRES) != 0) &&
           slab_same(entry_size(e), fields_size(f->key.n, f->value.n, expires));
}

void keys_overwrite(struct keys *k, uint64_t hash, struct key_entry *e, const struct key_fields *f,
                    uint64_t seq)
{
    struct shard *s = hash_shard(k, hash);
    uint64_t *slot = entry_slot(shard_slots(s), hash, e);
    VERIFY(keys_fits(e, f) && !(*slot & SLOT_PINNED) && f->value.n < LIMIT_VALUE_HARD);
    e->version = f->version;
    e->seq32 = (uint32_t)seq;
    e->value_len = (uint32_t)f->value.n & 0xffffff;
    e->flags = ((e->flags & ~(unsigned)ENTRY_TYPE) | (unsigned)f->type | ENTRY_USED) & 0xff;
    if (f->expires_ms)
        store64(e->bytes, f->expires_ms);
    if (f->value.n)
        memcpy((uint8_t *)entry_value(e).p, f->value.p, f->value.n);
    s->writes++;
    if (*slot & SLOT_DIRTY)
        return;
    *slot |= SLOT_DIRTY;
    s->dirty++;
    s->unwritten_bytes += entry_usable(e);
    shard_tell(k, s);
}

// ---- sums

uint64_t keys_shard_bytes(const struct keys *k, unsigned shard)
{
    VERIFY(shard < KEYS_SHARDS);
    return shard_bytes(&k->shards[shard]);
}

void keys_get_stats(struct keys *k, struct keys_stats *out)
{
    *out = (struct keys_stats){0};
    for (unsigned i = 0; i < KEYS_SHARDS; i++) {
        keys_lock(k, i);
        const struct shard *s = &k->shards[i];
        out->entries += s->count;
        out->live += s->live;
        out->dirty += s->dirty + s->pinned + s->aside_count;
        out->dirty_bytes += s->unwritten_bytes;
        out->bytes += s->heap.bytes;
        out->slot_bytes += slot_bytes(s);
        out->evictions += s->evictions;
        out->lookups += s->lookups;
        out->writes += s->writes;
        keys_unlock(k, i);
    }
}

uint64_t keys_bytes(const struct keys *k)
{
    return atomic_load_explicit(&k->bytes, memory_order_relaxed);
}

uint64_t keys_dirty_bytes(const struct keys *k)
{
    return atomic_load_explicit(&k->unwritten_bytes, memory_order_relaxed);
}
