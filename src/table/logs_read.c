#include "table/logs_int.h"

// ---- seeking

// What a record has to be for reading to begin with it.
static bool wanted(const struct log_from *from, const uint8_t *p)
{
    bool forwards = from->direction == LOG_FORWARDS;
    if (from->start == LOG_START_TIME) {
        int64_t time = (int64_t)load64(p + 8);
        return forwards ? time >= from->time : time <= from->time;
    }
    u128 nonce = load128(p + 16);
    return nonce != NONCE_NONE && (forwards ? nonce >= from->nonce : nonce <= from->nonce);
}

// The offset of the first (backwards: last) record in the chunk that is wanted; 0: none.
static uint64_t search_chunk(struct chunk *c, const struct log_from *from)
{
    uint64_t found = 0;
    c->used = true;
    for (uint32_t at = 0; at < c->block->len; at += (uint32_t)record_span(c->block->bytes + at)) {
        if (!wanted(from, c->block->bytes + at)) {
            if (VARVE_BUG == 24 && found && from->start == LOG_START_TIME)
                break; // as if later records were no earlier
            continue;
        }
        found = record_offset(c->block->bytes + at);
        if (from->direction == LOG_FORWARDS)
            break;
    }
    return found;
}

// True if every record of the chunk is wanted, so that it need not be looked at.
static bool all_wanted(const struct chunk *c, const struct log_from *from)
{
    if (from->start != LOG_START_TIME)
        return false;
    return from->direction == LOG_FORWARDS ? c->meta.min_time >= from->time
                                           : c->meta.max_time <= from->time;
}

// The first chunk, not before `at`, that may have what is wanted; x->end: none.
static uint32_t candidate_next(const struct log_index *x, uint32_t at, const struct log_from *from)
{
    if (at >= x->end)
        return x->end;
    if (from->start == LOG_START_TIME)
        return index_time_next(x, at, from->time);
    uint32_t low = index_nonce_next(x, from->nonce);
    at = low > at ? low : at;
    // Past chunks without nonces at once: the next that has some raises next_nonce.
    if (at < x->end && x->chunks[at].meta.first_nonce == x->chunks[at].meta.next_nonce)
        at = index_nonce_next(x, x->chunks[at].meta.next_nonce);
    return at;
}

// The last one, not past `at`; INDEX_NONE: none.
static uint32_t candidate_last(const struct log_index *x, uint32_t at, const struct log_from *from)
{
    if (at == INDEX_NONE || at < x->begin || x->begin == x->end)
        return INDEX_NONE;
    if (from->start == LOG_START_TIME)
        return index_time_last(x, at, from->time);
    uint32_t high = index_nonce_last(x, from->nonce);
    if (high == INDEX_NONE)
        return INDEX_NONE;
    at = high < at ? high : at;
    const struct chunk_meta *m = &x->chunks[at].meta;
    if (m->first_nonce == m->next_nonce)
        at = m->first_nonce == 0 ? INDEX_NONE : index_nonce_last(x, m->first_nonce - 1);
    return at;
}

static enum err seek_by_content(const struct log *log, const struct log_from *from,
                                uint64_t *offset, uint64_t *first)
{
    struct log_index *x = log->index;
    bool forwards = from->direction == LOG_FORWARDS;
    uint32_t at = forwards ? x->begin : x->end - 1;
    *offset = forwards ? log->end : 0;
    for (;;) {
        at = forwards ? candidate_next(x, at, from) : candidate_last(x, at, from);
        if (at == (forwards ? x->end : INDEX_NONE))
            return ERR_OK;
        struct chunk *c = &x->chunks[at];
        if (c->meta.records > 0) {
            if (all_wanted(c, from)) {
                *offset = !forwards                    ? c->meta.last
                          : c->meta.first < log->first ? log->first
                                                       : c->meta.first;
                return ERR_OK;
            }
            if (!c->block)
                return chunk_cold(log->index, c, first);
            uint64_t found = search_chunk(c, from);
            if (found) {
                *offset = found;
                return ERR_OK;
            }
        }
        at = forwards ? at + 1 : at - 1; // before 0 comes INDEX_NONE
    }
}

enum err log_seek(struct logs *l, struct log *log, const struct log_from *from, uint64_t *offset,
                  uint64_t *first)
{
    (void)l;
    *first = 0;
    bool forwards = from->direction == LOG_FORWARDS;
    if (from->start == LOG_START_TIME || from->start == LOG_START_NONCE)
        return log->index ? seek_by_content(log, from, offset, first) : ERR_COLD;
    uint64_t at = from->start == LOG_START_OFFSET ? from->offset : forwards ? 0 : UINT64_MAX;
    if (forwards) {
        at = at > log->first ? at : log->first;
        *offset = at < log->end ? at : log->end;
    } else {
        at = at < log->end ? at : log->end - 1;
        *offset = at >= log->first ? at : 0;
    }
    return ERR_OK;
}

enum err log_skip(struct logs *l, struct log *log, uint64_t records, uint64_t bytes,
                  uint64_t *offset, uint64_t *first)
{
    (void)l;
    const struct log_index *x = log->index;
    *first = 0;
    *offset = log->end;
    if (!x)
        return ERR_COLD;
    for (uint32_t i = x->begin; i < x->end; i++) {
        const struct chunk *c = &x->chunks[i];
        if (c->meta.records <= records || c->meta.bytes <= bytes) { // all of it is to be skipped
            records -= records < c->meta.records ? records : c->meta.records;
            bytes -= bytes < c->meta.bytes ? bytes : c->meta.bytes;
            continue;
        }
        if (records == 0 && bytes == 0) {
            *offset = c->meta.first > log->first ? c->meta.first : log->first;
            return ERR_OK;
        }
        if (!c->block)
            return chunk_cold(log->index, c, first);
        for (uint32_t at = 0; at < c->block->len;) {
            if (records == 0 && bytes == 0) {
                *offset = record_offset(c->block->bytes + at);
                return ERR_OK;
            }
            uint64_t size = record_span(c->block->bytes + at);
            records -= records > 0;
            bytes -= bytes > size ? size : bytes;
            at += (uint32_t)size;
        }
    }
    return ERR_OK;
}

// ---- gathering

// The part of a chunk that is taken: `span`, and whether nothing is left of the chunk in the
// direction.
struct part {
    struct log_span span;
    bool all;
};

static bool room_for(const struct log_spans *s, uint64_t max_records, uint64_t max_bytes,
                     const struct log_span *span, size_t size)
{
    uint64_t records = s->records + span->records;
    uint64_t bytes = s->bytes + (span->end - span->begin);
    return records < max_records && (records == 0 || bytes + size <= max_bytes);
}

static bool room_for_all(const struct log_spans *s, uint64_t max_records, uint64_t max_bytes,
                         const struct chunk *c)
{
    return s->records + c->meta.records <= max_records && s->bytes + c->meta.bytes <= max_bytes;
}

static struct part part_forwards(const struct chunk *c, uint64_t offset, const struct log_spans *s,
                                 uint64_t max_records, uint64_t max_bytes)
{
    const struct block *b = c->block;
    if (offset <= c->meta.first && room_for_all(s, max_records, max_bytes, c))
        return (struct part){{.begin = 0, .end = b->len, .records = c->meta.records}, true};
    uint32_t begin = 0;
    while (begin < b->len && record_offset(b->bytes + begin) < offset)
        begin += (uint32_t)record_span(b->bytes + begin);
    struct log_span span = {.begin = begin, .end = begin};
    while (span.end < b->len) {
        size_t size = record_span(b->bytes + span.end);
        if (!room_for(s, max_records, max_bytes, &span, size))
            break;
        span.end += (uint32_t)size;
        span.records++;
    }
    return (struct part){span, span.end == b->len};
}

static uint64_t offset_before(const struct block *b, uint32_t end)
{
    return record_offset(b->bytes + end - record_span_before(b->bytes + end));
}

static struct part part_backwards(const struct chunk *c, uint64_t offset, const struct log_spans *s,
                                  uint64_t max_records, uint64_t max_bytes)
{
    const struct block *b = c->block;
    if (offset >= c->meta.last && room_for_all(s, max_records, max_bytes, c))
        return (struct part){{.begin = 0, .end = b->len, .records = c->meta.records}, true};
    uint32_t end = b->len;
    while (end > 0 && offset_before(b, end) > offset)
        end -= (uint32_t)record_span_before(b->bytes + end);
    struct log_span span = {.begin = end, .end = end};
    while (span.begin > 0) {
        size_t size = record_span_before(b->bytes + span.begin);
        if (!room_for(s, max_records, max_bytes, &span, size))
            break;
        span.begin -= (uint32_t)size;
        span.records++;
    }
    return (struct part){span, span.begin == 0};
}

static void add_span(struct log_spans *s, struct chunk *c, const struct log_span *span)
{
    c->used = true;
    if (span->records == 0)
        return;
    block_ref(c->block);
    s->v[s->count] = *span;
    s->v[s->count++].block = c->block;
    s->records += span->records;
    s->bytes += span->end - span->begin;
}

static bool spans_full(const struct log_spans *s, uint64_t max_records, uint64_t max_bytes)
{
    return s->count == s->cap || s->records >= max_records ||
           (s->records > 0 && s->bytes >= max_bytes);
}

static enum err gather_forwards(const struct log *log, uint64_t *offset, uint64_t max_records,
                                uint64_t max_bytes, struct log_spans *spans, uint64_t *first)
{
    const struct log_index *x = log->index;
    uint32_t at = index_at(x, *offset);
    for (at = at == INDEX_NONE ? x->begin : at; at < x->end; at++) {
        struct chunk *c = &x->chunks[at];
        if (c->meta.records > 0 && *offset <= c->meta.last) {
            if (spans_full(spans, max_records, max_bytes))
                return ERR_OK;
            if (!c->block)
                return chunk_cold(log->index, c, first);
            struct part p = part_forwards(c, *offset, spans, max_records, max_bytes);
            add_span(spans, c, &p.span);
            if (!p.all) {
                *offset = record_offset(c->block->bytes + p.span.end);
                return ERR_OK;
            }
        }
        *offset = at + 1 < x->end ? x->chunks[at + 1].meta.first + (VARVE_BUG == 23) : log->end;
    }
    *offset = log->end;
    return ERR_OK;
}

static enum err gather_backwards(const struct log *log, uint64_t *offset, uint64_t max_records,
                                 uint64_t max_bytes, struct log_spans *spans, uint64_t *first)
{
    const struct log_index *x = log->index;
    for (uint32_t at = index_at(x, *offset); at != INDEX_NONE && at >= x->begin; at--) {
        struct chunk *c = &x->chunks[at];
        if (c->meta.records > 0) {
            if (spans_full(spans, max_records, max_bytes))
                return ERR_OK;
            if (!c->block)
                return chunk_cold(log->index, c, first);
            struct part p = part_backwards(c, *offset, spans, max_records, max_bytes);
            add_span(spans, c, &p.span);
            if (!p.all) {
                *offset = offset_before(c->block, p.span.begin);
                return ERR_OK;
            }
        }
        *offset = c->meta.first - 1;
    }
    *offset = 0;
    return ERR_OK;
}

enum err log_gather(struct logs *l, struct log *log, enum log_direction d, uint64_t *offset,
                    uint64_t max_records, uint64_t max_bytes, struct log_spans *spans,
                    uint64_t *first)
{
    (void)l;
    *first = 0;
    if (d == LOG_FORWARDS) {
        *offset = *offset > log->first ? *offset : log->first;
        *offset = *offset < log->end ? *offset : log->end;
        if (*offset == log->end)
            return ERR_OK;
    } else {
        *offset = *offset < log->end ? *offset : log->end - 1;
        *offset = *offset >= log->first ? *offset : 0;
        if (*offset == 0)
            return ERR_OK;
    }
    if (!log->index)
        return ERR_COLD;
    return d == LOG_FORWARDS ? gather_forwards(log, offset, max_records, max_bytes, spans, first)
                             : gather_backwards(log, offset, max_records, max_bytes, spans, first);
}
