#include "table/logs_int.h"

// ---- appending

// The last chunk, if it takes more records: an empty one does, a full one does not.
// NULL also where the last chunk's bytes are only in objects: an append does not wait for those,
// and a chunk that is there as it is stays so.
static struct chunk *open_tail(const struct log *log)
{
    struct chunk *c = index_last(log->index);
    if (!c || c->meta.bytes >= LOGS_CHUNK)
        return NULL;
    return c->meta.last < log->local && chunk_is_whole(&c->meta) ? NULL : c;
}

bool log_can_append(const struct log *log, uint64_t *first)
{
    *first = 0;
    if (!log->index)
        return false;
    const struct chunk *c = open_tail(log);
    if (!c || c->block || c->meta.bytes == 0)
        return true;
    return chunk_cold(log->index, c, first) == ERR_OK;
}

// What a block that is to hold `need` bytes of records has room for.
static size_t block_size(size_t need)
{
    if (need >= LOGS_CHUNK)
        return need;
    size_t size = BLOCK_MIN;
    while (size < need)
        size *= 2;
    return size;
}

// The smallest spare block with room for `need` bytes, out of the chain; NULL: none.
static struct block *take_spare(struct log_index *x, size_t need)
{
    struct block **best = NULL;
    for (struct block **p = &x->spare; *p; p = &(*p)->newer)
        if ((*p)->cap >= need && (!best || (*p)->cap < (*best)->cap)) {
            best = p;
            if ((*p)->cap <= LOGS_CHUNK) // of many, none is smaller
                break;
        }
    if (!best)
        return NULL;
    struct block *b = *best;
    *best = b->newer;
    b->newer = NULL;
    return b;
}

// A block in which the chunk can have `need` bytes in all. Readers may hold the old one.
static enum err chunk_grow(struct logs *l, struct log *log, struct chunk *c, size_t need)
{
    if (c->block && c->block->cap >= need)
        return ERR_OK;
    struct block *b = take_spare(log->index, need);
    if (!b)
        b = block_new(l, block_size(need));
    if (!b)
        return ERR_NO_MEMORY;
    VERIFY(c->block || c->meta.bytes == 0);
    chunk_uncount(l, log, c);
    if (c->block)
        memcpy(b->bytes, c->block->bytes, c->block->len);
    b->len = c->meta.bytes;
    chunk_set_block(l, log, c, b);
    chunk_count(l, log, c);
    return ERR_OK;
}

static enum err add_spare(struct logs *l, struct log_index *x, size_t size)
{
    struct block *b = block_new(l, size);
    if (!b)
        return ERR_NO_MEMORY;
    b->newer = x->spare;
    x->spare = b;
    return ERR_OK;
}

// Blocks for the new chunks that `bytes` bytes may begin. How they are cut up is not known: two
// chunks side by side have more than LOGS_CHUNK together, and the nth largest record has at most an
// nth of all bytes.
static enum err reserve_spare(struct logs *l, struct log_index *x, size_t bytes, size_t largest,
                              size_t count)
{
    if (bytes <= LOGS_CHUNK) // a log that has filled chunks will fill another one: grow less often
        return add_spare(l, x, block_size(bytes < BLOCK_NEXT && x->end ? BLOCK_NEXT : bytes));
    size_t chunks = 2 * bytes / LOGS_CHUNK + 1;
    for (size_t i = 1; i <= chunks && i <= count; i++) {
        size_t size = bytes / i < largest ? bytes / i : largest;
        enum err e = add_spare(l, x, size < LOGS_CHUNK ? LOGS_CHUNK : size);
        if (e)
            return e;
    }
    return ERR_OK;
}

enum err log_reserve(struct logs *l, struct log *log, size_t bytes, size_t largest, size_t count)
{
    uint64_t first;
    VERIFY(log_can_append(log, &first) && largest <= bytes && bytes < UINT32_MAX);
    if (count == 0)
        return ERR_OK;
    struct chunk *tail = open_tail(log);
    if (tail && tail->meta.bytes + bytes <= LOGS_CHUNK)
        return chunk_grow(l, log, tail, tail->meta.bytes + bytes);
    size_t chunks = 2 * bytes / LOGS_CHUNK + 1;
    enum err e = index_reserve(l, log, (uint32_t)(chunks < count ? chunks : count));
    if (e)
        return e;
    struct log_index *x = log->index;
    tail = open_tail(log);
    // With several records the tail may take the first few.
    if (tail && count > 1 && (e = chunk_grow(l, log, tail, LOGS_CHUNK)) != ERR_OK)
        return e;
    index_free_spare(x);
    return reserve_spare(l, x, bytes, largest, count);
}

// How far a chunk that has `used` bytes takes records, and what is in those.
struct run {
    size_t bytes;
    uint32_t records;
    uint64_t last;
    int64_t min_time, max_time;
    u128 next_nonce; // 0: no nonces
};

static struct run measure(struct slice records, size_t used)
{
    struct run r = {.min_time = INT64_MAX, .max_time = INT64_MIN};
    while (r.bytes < records.n && used + r.bytes < LOGS_CHUNK) {
        const uint8_t *p = records.p + r.bytes;
        struct record record = record_read(p);
        size_t size = record_size(record.bytes.n);
        if (used + r.bytes > 0 && used + r.bytes + size > LOGS_CHUNK)
            break;
        r.bytes += size;
        r.records++;
        r.last = record.offset;
        if (record.timestamp < r.min_time)
            r.min_time = record.timestamp;
        if (record.timestamp > r.max_time)
            r.max_time = record.timestamp;
        if (record.nonce != NONCE_NONE)
            r.next_nonce = record.nonce + 1;
    }
    return r;
}

static void add_run(struct logs *l, struct log *log, struct chunk *c, const uint8_t *bytes,
                    const struct run *r)
{
    enum err e = chunk_grow(l, log, c, c->meta.bytes + r->bytes);
    VERIFY(e == ERR_OK); // reserved
    struct block *b = c->block;
    bool was_dirty = chunk_dirty(c);
    if (!was_dirty)
        chunk_uncount(l, log, c);
    memcpy(b->bytes + b->len, bytes, r->bytes);
    b->len += (uint32_t)r->bytes;
    struct chunk_meta *m = &c->meta;
    m->bytes = b->len;
    m->records += r->records;
    m->last = r->last;
    m->next_nonce = r->next_nonce ? r->next_nonce : m->next_nonce;
    if (r->min_time < m->min_time || r->max_time > m->max_time) {
        m->min_time = r->min_time < m->min_time ? r->min_time : m->min_time;
        m->max_time = r->max_time > m->max_time ? r->max_time : m->max_time;
        index_widened(log->index);
    }
    c->used = true;
    if (!was_dirty) {
        chunk_count(l, log, c);
        index_dirty(log->index, c);
    }
    log->end = r->last + 1;
    log->next_nonce = r->next_nonce ? r->next_nonce : log->next_nonce;
    log->last_time = r->max_time > log->last_time ? r->max_time : log->last_time;
    log->records += r->records;
    log->bytes += r->bytes;
}

static struct chunk *new_tail(struct logs *l, struct log *log, const struct run *r)
{
    VERIFY(index_reserve(l, log, 1) == ERR_OK); // reserved
    struct chunk_meta m = {.first = log->end,
                           .min_time = r->min_time,
                           .max_time = r->max_time,
                           .first_nonce = log->next_nonce,
                           .next_nonce = log->next_nonce};
    return index_push(l, log, &m);
}

// Before an append: what is durable of the log as it is. Under steady appends the last change never
// is; then one change is remembered until it is.
static void settle(struct log *log, uint64_t durable)
{
    if (durable >= log->seq) {
        log->settled = log->end;
        log->settling_seq = 0;
    } else if (durable >= log->settling_seq) {
        if (log->settling_seq)
            log->settled = log->settling;
        log->settling = log->end;
        log->settling_seq = log->seq;
    }
}

// After a change by seq that took records out: nothing can be said before it is durable.
static void unsettle(struct log *log, uint64_t seq)
{
    log->settled = 0;
    log->settling = log->end;
    log->settling_seq = seq;
}

void log_append(struct logs *l, struct log *log, struct slice records, uint64_t seq,
                uint64_t durable)
{
    uint64_t first;
    VERIFY(records.n > 0 && record_offset(records.p) == log->end);
    VERIFY(log_can_append(log, &first));
    settle(log, durable);
    while (records.n) {
        struct chunk *tail = open_tail(log);
        struct run r = {0};
        if (tail)
            r = measure(records, tail->meta.bytes);
        if (r.bytes == 0) {
            r = measure(records, 0);
            tail = new_tail(l, log, &r);
        }
        add_run(l, log, tail, records.p, &r);
        records = slice_of(records.p + r.bytes, records.n - r.bytes);
    }
    index_free_spare(log->index);
    log_touch(l, log, seq);
}

// ---- taking records out

void log_cut_discard(struct logs *l, struct log_cut *cut)
{
    (void)l;
    if (cut->block)
        block_unref(cut->block);
    *cut = (struct log_cut){0};
}

// A block like the chunk's without the `records` records that lie in [begin, end) of it.
static enum err prepare_cut(struct logs *l, const struct chunk *c, uint32_t begin, uint32_t end,
                            uint32_t records, struct log_cut *cut)
{
    const struct block *old = c->block;
    size_t left = old->len - (end - begin);
    if (left > 0) {
        cut->block = block_new(l, left);
        if (!cut->block)
            return ERR_NO_MEMORY;
        memcpy(cut->block->bytes, old->bytes, begin);
        memcpy(cut->block->bytes + begin, old->bytes + end, old->len - end);
        cut->block->len = (uint32_t)left;
    }
    cut->chunk = c->meta.first;
    cut->records = c->meta.records - records;
    cut->removed = records;
    VERIFY((cut->records > 0) == (left > 0));
    return ERR_OK;
}

static void apply_cut(struct logs *l, struct log *log, struct log_cut *cut)
{
    if (cut->chunk == 0)
        return;
    struct chunk *c = index_find(log->index, cut->chunk);
    VERIFY(c && c->block && c->meta.records == cut->records + cut->removed);
    uint32_t left = cut->block ? cut->block->len : 0;
    chunk_uncount(l, log, c);
    chunk_set_block(l, log, c, cut->block);
    log->records -= cut->removed;
    log->bytes -= c->meta.bytes - left;
    c->meta.records = cut->records;
    c->meta.bytes = left;
    c->written = UINT32_MAX;
    c->cut = true;
    chunk_count(l, log, c);
    index_dirty(log->index, c);
    *cut = (struct log_cut){0};
}

enum err log_trim_prepare(struct logs *l, struct log *log, uint64_t before, struct log_cut *cut,
                          uint64_t *first)
{
    *cut = (struct log_cut){0};
    *first = 0;
    VERIFY(before <= log->end);
    if (!log->index)
        return ERR_COLD;
    uint32_t at = before > log->first ? index_at(log->index, before - 1) : INDEX_NONE;
    if (at == INDEX_NONE)
        return ERR_OK;
    struct chunk *c = &log->index->chunks[at];
    if (c->meta.last < before || c->meta.records == 0)
        return ERR_OK; // goes as a whole, or has nothing to give
    if (!c->block)
        return chunk_cold(log->index, c, first);
    uint32_t end = 0, records = 0;
    while (end < c->block->len && record_offset(c->block->bytes + end) < before) {
        end += (uint32_t)record_span(c->block->bytes + end);
        records++;
    }
    return records ? prepare_cut(l, c, 0, end, records, cut) : ERR_OK;
}

void log_trim(struct logs *l, struct log *log, uint64_t before, struct log_cut *cut, uint64_t seq)
{
    if (before <= log->first) {
        log_cut_discard(l, cut);
        return;
    }
    VERIFY(log->index && before <= log->end);
    struct log_index *x = log->index;
    while (x->begin < x->end && x->chunks[x->begin].meta.last < before) {
        struct chunk *c = &x->chunks[x->begin];
        chunk_uncount(l, log, c);
        chunk_set_block(l, log, c, NULL);
        log->records -= c->meta.records;
        log->bytes -= c->meta.bytes;
        index_shift(l, log);
    }
    apply_cut(l, log, cut);
    log->first = before;
    unsettle(log, seq);
    VERIFY(x->begin < x->end || (log->records == 0 && log->bytes == 0));
    log_touch(l, log, seq);
}

enum err log_erase_prepare(struct logs *l, struct log *log, uint64_t offset, struct log_cut *cut,
                           uint64_t *first)
{
    *cut = (struct log_cut){0};
    *first = 0;
    if (!log->index)
        return ERR_COLD;
    uint32_t at = offset >= log->first ? index_at(log->index, offset) : INDEX_NONE;
    if (at == INDEX_NONE)
        return ERR_OK;
    struct chunk *c = &log->index->chunks[at];
    if (offset > c->meta.last || c->meta.records == 0)
        return ERR_OK;
    if (!c->block)
        return chunk_cold(log->index, c, first);
    uint32_t begin = 0;
    while (begin < c->block->len && record_offset(c->block->bytes + begin) < offset)
        begin += (uint32_t)record_span(c->block->bytes + begin);
    if (begin == c->block->len || record_offset(c->block->bytes + begin) != offset)
        return ERR_OK;
    uint32_t end = begin + (uint32_t)record_span(c->block->bytes + begin);
    return prepare_cut(l, c, begin, end, 1, cut);
}

void log_erase(struct logs *l, struct log *log, struct log_cut *cut, uint64_t seq)
{
    if (cut->removed == 0)
        return;
    apply_cut(l, log, cut);
    unsettle(log, seq);
    log_touch(l, log, seq);
}

// ---- tiering

void log_tier(struct logs *l, struct log *log, uint64_t before, uint64_t seq)
{
    VERIFY(log->index && before >= log->tiered && before <= log->end);
    log->tiered = before;
    log_touch(l, log, seq);
}

uint64_t log_local_border(const struct log *log, uint64_t keep_bytes, int64_t keep_time)
{
    const struct log_index *x = log->index;
    uint64_t after = log->bytes; // of the chunks from i on, then past i
    uint64_t border = 0;
    for (uint32_t i = x->begin; i < x->end; i++) {
        const struct chunk_meta *m = &x->chunks[i].meta;
        after -= m->bytes;
        if (VARVE_BUG == 51 && m->last >= log->tiered) // one chunk too many goes
            return m->last + 1;
        if (m->last >= log->tiered || after < keep_bytes || m->max_time >= keep_time)
            break;
        border = m->last + 1;
    }
    return border;
}
