#include "table/logs_int.h"

#include <stdlib.h>

// ---- size

static size_t nodes_of(uint32_t cap, unsigned level)
{
    return (size_t)(((uint64_t)cap - 1) >> INDEX_FAN_LOG2 * (level + 1)) + 1;
}

static unsigned levels_of(uint32_t cap)
{
    unsigned levels = 0;
    for (uint64_t nodes = cap; nodes > INDEX_FAN; nodes = (nodes - 1) / INDEX_FAN + 1)
        levels++;
    return levels;
}

// The levels lie behind the chunks, in the same memory.
static size_t array_bytes(uint32_t cap)
{
    size_t bytes = cap * sizeof(struct chunk);
    for (unsigned i = 0; i < levels_of(cap); i++)
        bytes += nodes_of(cap, i) * sizeof(struct time_span);
    return bytes;
}

static void count_index(struct logs *l, struct log *log, uint64_t by)
{
    count_bytes(&l->index_bytes, by);
    log_shard(l, log)->memory += by;
}

static void set_array(struct log_index *x, struct chunk *array, uint32_t cap)
{
    x->chunks = array;
    x->cap = cap;
    x->levels = levels_of(cap);
    struct time_span *node = (struct time_span *)(void *)(array + cap);
    for (unsigned i = 0; i < x->levels; i++) {
        x->level[i] = node;
        node += nodes_of(cap, i);
    }
}

// Tells the levels of the chunk at `at`; all before it are told already.
static void tell_levels(struct log_index *x, uint32_t at)
{
    const struct chunk_meta *m = &x->chunks[at].meta;
    for (unsigned i = 0; i < x->levels; i++) {
        unsigned shift = INDEX_FAN_LOG2 * (i + 1);
        struct time_span *node = &x->level[i][at >> shift];
        // The first in a node; what trimming took from before it left nothing of the node.
        if (at == x->begin || (at & ((1u << shift) - 1)) == 0)
            *node = (struct time_span){m->min_time, m->max_time};
        if (node->min > m->min_time)
            node->min = m->min_time;
        if (node->max < m->max_time)
            node->max = m->max_time;
    }
}

// Moves the chunks to the front of `to`, which may be the array they are in.
static void move_chunks(struct log_index *x, struct chunk *to, uint32_t cap)
{
    uint32_t count = index_count(x);
    if (count)
        memmove(to, x->chunks + x->begin, count * sizeof *to);
    x->dirty_low = x->dirty_low > x->begin ? x->dirty_low - x->begin : 0;
    x->begin = 0;
    x->end = count;
    set_array(x, to, cap);
    for (uint32_t i = 0; i < count; i++)
        tell_levels(x, i);
}

enum err index_reserve(struct logs *l, struct log *log, uint32_t more)
{
    struct log_index *x = log->index;
    if (x->cap - x->end >= more && x != &l->empty)
        return ERR_OK;
    uint64_t need = (uint64_t)index_count(x) + more;
    if (x->begin > 0 && need <= x->cap && x->begin >= x->cap / 2) { // half of it is free again
        move_chunks(x, x->chunks, x->cap);
        return ERR_OK;
    }
    uint64_t cap = x->cap < 4 ? 1 : x->cap + (uint64_t)x->cap / 2;
    if (cap < need)
        cap = need;
    if (cap > UINT32_MAX / 2)
        return ERR_NO_MEMORY;
    if (x == &l->empty) {
        x = calloc(1, sizeof *x);
        if (!x)
            return ERR_NO_MEMORY;
        log->index = x;
        count_index(l, log, sizeof *x);
    }
    struct chunk *array = malloc(array_bytes((uint32_t)cap));
    if (!array)
        return ERR_NO_MEMORY;
    struct chunk *old = x->chunks;
    count_index(l, log, array_bytes((uint32_t)cap) - (old ? array_bytes(x->cap) : 0));
    move_chunks(x, array, (uint32_t)cap);
    free(old);
    return ERR_OK;
}

struct chunk *index_push(struct logs *l, struct log *log, const struct chunk_meta *m)
{
    struct log_index *x = log->index;
    VERIFY(x->end < x->cap);
    VERIFY(x->end == x->begin || x->chunks[x->end - 1].meta.first < m->first);
    struct chunk *c = &x->chunks[x->end++];
    *c = (struct chunk){.meta = *m, .written = m->bytes};
    tell_levels(x, x->end - 1);
    log_shard(l, log)->chunks++;
    return c;
}

void index_widened(struct log_index *x)
{
    tell_levels(x, x->end - 1);
}

void index_shift(struct logs *l, struct log *log)
{
    struct log_index *x = log->index;
    VERIFY(x->end > x->begin && !x->chunks[x->begin].block);
    x->begin++;
    log_shard(l, log)->chunks--;
    if (x->begin == x->end)
        x->begin = x->end = 0;
    if (x->dirty_low < x->begin || x->dirty_low > x->end)
        x->dirty_low = x->begin;
}

void index_free_spare(struct log_index *x)
{
    while (x->spare) {
        struct block *b = x->spare;
        x->spare = b->newer;
        block_unref(b);
    }
}

void index_free(struct logs *l, struct log *log)
{
    struct log_index *x = log->index;
    log->index = NULL;
    if (!x || x == &l->empty)
        return;
    index_free_spare(x);
    log_shard(l, log)->chunks -= index_count(x);
    count_index(l, log, 0 - (sizeof *x + (x->chunks ? array_bytes(x->cap) : 0)));
    free(x->chunks);
    free(x);
}

// ---- loading

enum err log_load_index(struct logs *l, struct log *log, const struct chunk_meta *m, size_t count)
{
    if (log->index)
        return ERR_OK;
    for (size_t i = 1; i < count; i++)
        if (m[i].first <= m[i - 1].first)
            return ERR_DAMAGED;
    log->index = &l->empty;
    if (count == 0)
        return ERR_OK;
    enum err e = count > UINT32_MAX / 2 ? ERR_NO_MEMORY : index_reserve(l, log, (uint32_t)count);
    if (e) {
        index_free(l, log);
        return e;
    }
    for (size_t i = 0; i < count; i++)
        index_push(l, log, &m[i]);
    log->index->dirty_low = log->index->end;
    log->index->used = true;
    return ERR_OK;
}

enum err log_load_chunk(struct logs *l, struct log *log, uint64_t first, struct slice bytes)
{
    struct chunk *c = log->index ? index_find(log->index, first) : NULL;
    if (!c || c->block || c->meta.bytes != bytes.n || bytes.n == 0)
        return ERR_OK;
    VERIFY(!chunk_dirty(c));
    struct block *b = block_new(l, bytes.n);
    if (!b)
        return ERR_NO_MEMORY;
    memcpy(b->bytes, bytes.p, bytes.n);
    b->len = (uint32_t)bytes.n;
    c->used = true;
    chunk_set_block(l, log, c, b);
    chunk_count(l, log, c);
    return ERR_OK;
}

// ---- finding

uint32_t index_at(const struct log_index *x, uint64_t offset)
{
    uint32_t low = x->begin, high = x->end; // the first chunk past the offset
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (x->chunks[middle].meta.first <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low == x->begin ? INDEX_NONE : low - 1;
}

struct chunk *index_find(const struct log_index *x, uint64_t first)
{
    uint32_t at = index_at(x, first);
    return at != INDEX_NONE && x->chunks[at].meta.first == first ? &x->chunks[at] : NULL;
}

bool log_lacks_chunk(const struct log *log, uint64_t first)
{
    const struct chunk *c = log->index ? index_find(log->index, first) : NULL;
    return c && !c->block && c->meta.bytes > 0;
}

bool log_chunk_meta(const struct log *log, uint64_t first, struct chunk_meta *m)
{
    const struct chunk *c = log->index ? index_find(log->index, first) : NULL;
    if (c)
        *m = c->meta;
    return c != NULL;
}

static struct time_span times_at(const struct log_index *x, unsigned level, uint32_t at)
{
    if (level > 0)
        return x->level[level - 1][at];
    return (struct time_span){x->chunks[at].meta.min_time, x->chunks[at].meta.max_time};
}

// Both walk to a neighbour, up where a node's last child was passed, down where a node may have it.
uint32_t index_time_next(const struct log_index *x, uint32_t from, int64_t t)
{
    unsigned level = 0;
    uint32_t at = from;
    for (;;) {
        if (x->end == 0 || at > (x->end - 1) >> INDEX_FAN_LOG2 * level)
            return x->end;
        if (times_at(x, level, at).max >= t) {
            if (level == 0)
                return at;
            level--;
            at <<= INDEX_FAN_LOG2;
            continue;
        }
        at++;
        while (level < x->levels && at % INDEX_FAN == 0) {
            at >>= INDEX_FAN_LOG2;
            level++;
        }
    }
}

uint32_t index_time_last(const struct log_index *x, uint32_t from, int64_t t)
{
    unsigned level = 0;
    uint32_t at = from;
    for (;;) {
        if (at < x->begin >> INDEX_FAN_LOG2 * level)
            return INDEX_NONE;
        if (times_at(x, level, at).min <= t) {
            if (level == 0)
                return at;
            level--;
            at = (at << INDEX_FAN_LOG2) + INDEX_FAN - 1;
            continue;
        }
        while (level < x->levels && at % INDEX_FAN == 0) {
            at >>= INDEX_FAN_LOG2;
            level++;
        }
        if (at == 0)
            return INDEX_NONE;
        at--;
    }
}

uint32_t index_nonce_next(const struct log_index *x, u128 n)
{
    uint32_t low = x->begin, high = x->end;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (x->chunks[middle].meta.next_nonce > n)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

uint32_t index_nonce_last(const struct log_index *x, u128 n)
{
    uint32_t low = x->begin, high = x->end;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (x->chunks[middle].meta.first_nonce <= n)
            low = middle + 1;
        else
            high = middle;
    }
    return low == x->begin ? INDEX_NONE : low - 1;
}
