// Pages of a log. Under the shard's lock only references to blocks are gathered; filtering and
// copying go without it.
//
// A continuation token is 30 hexadecimal digits: [u8 direction][u64 offset][u48 check], the check
// a hash of the rest and of the log's names. So it is good on any server that has the log, and
// tells damage and another log's token alike.
#include "commit/log_int.h"
#include "base/assert.h"
#include "base/hash.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    TOKEN_BODY = 9,
    TOKEN_CHECK = 6,
    TOKEN_TEXT = 2 * (TOKEN_BODY + TOKEN_CHECK),
    SPANS_FIRST = 16,        // room for spans to begin with
    FILTER_STEP = 256 << 10, // bytes gathered at a time to be filtered
    FILTER_NEAR = 1 << 20,   // bytes looked at on a thread that must not be held up
    FILTER_FAR = 16 << 20,   // and on one that may
    TRIES = 100000,          // parts brought in for one page; eviction may be that unkind
};
_Static_assert(TOKEN_TEXT < LOG_TOKEN, "a token and its end fit");

// ---- tokens

static uint64_t token_check(const uint8_t body[TOKEN_BODY], const struct log_name *name)
{
    uint64_t h = hash64(slice_of(body, TOKEN_BODY), 0x6c6f67);
    h = hash64(name->keyspace, h);
    return hash64(name->key, h);
}

static void token_write(char text[LOG_TOKEN], const struct log_name *name, enum log_direction d,
                        uint64_t offset)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t b[TOKEN_BODY + 8];
    b[0] = (uint8_t)d;
    store64(b + 1, offset);
    store64(b + TOKEN_BODY, token_check(b, name));
    for (int i = 0; i < TOKEN_BODY + TOKEN_CHECK; i++) {
        text[2 * i] = hex[b[i] >> 4];
        text[2 * i + 1] = hex[b[i] & 15];
    }
    text[TOKEN_TEXT] = 0;
}

static int digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum err token_read(struct slice text, const struct log_name *name, enum log_direction *d,
                           uint64_t *offset, struct errmsg *msg)
{
    uint8_t b[TOKEN_BODY + TOKEN_CHECK];
    bool good = text.n == TOKEN_TEXT;
    for (size_t i = 0; good && i < sizeof b; i++) {
        int high = digit(text.p[2 * i]), low = digit(text.p[2 * i + 1]);
        good = high >= 0 && low >= 0;
        b[i] = (uint8_t)(good ? high << 4 | low : 0);
    }
    uint8_t check[8];
    if (good) {
        store64(check, token_check(b, name));
        good = memcmp(check, b + TOKEN_BODY, TOKEN_CHECK) == 0 && b[0] <= LOG_BACKWARDS;
    }
    if (!good)
        return err_set(msg, ERR_INVALID,
                       "the continuation token is damaged or belongs to another log");
    *d = (enum log_direction)b[0];
    *offset = load64(b + 1);
    return ERR_OK;
}

// ---- one page under way
//
// A page is read in steps, each under the shard's lock: find the log; the first time, find the
// place where to begin (place); gather references to what is resident from `at` on (gather). A step
// that meets what is cold says ERR_COLD; that part is brought in without the lock, and the step is
// taken again (gather_all). Between steps anything may happen to the log: what was gathered stays
// readable, `at` is an offset and so stays good, and what was trimmed meanwhile makes the page
// `truncated`. `dep` only rises: a page rests on all that any of its steps saw.

struct reading {
    struct commit *c;
    const struct log_query *q;
    struct log_page *page;
    struct keyspace *keyspace;
    uint64_t hash;
    struct log *log;       // NULL: does not exist
    bool placed;           // `at` is known
    uint64_t at;           // where to go on
    uint64_t begun;        // where it began
    struct log_spans step; // with a filter: what is gathered and not yet looked at
    uint64_t looked;       // with a filter: bytes looked at
    bool ended;            // nothing more lies in this direction, as far as anybody can know
};

static enum err grow(struct log_spans *s)
{
    if (s->count < s->cap)
        return ERR_OK;
    size_t cap = s->cap ? 2 * s->cap : SPANS_FIRST;
    struct log_span *v = realloc(s->v, cap * sizeof *v);
    if (!v)
        return ERR_NO_MEMORY;
    s->v = v;
    s->cap = cap;
    return ERR_OK;
}

static void spans_release(struct log_spans *s)
{
    for (size_t i = 0; i < s->count; i++)
        block_unref(s->v[i].block);
    free(s->v);
    *s = (struct log_spans){0};
}

void log_page_release(struct log_page *page)
{
    spans_release(&page->spans);
}

// Where reading begins, once; shard locked.
static enum err place(struct reading *r, uint64_t *cold)
{
    const struct log_from *from = &r->q->from;
    if (r->placed)
        return ERR_OK;
    enum err e = log_seek(r->c->logs, r->log, from, &r->at, cold);
    if (e)
        return e;
    r->placed = true;
    r->begun = r->at;
    // Backwards from offset 0 asks for nothing.
    r->page->truncated = from->start == LOG_START_OFFSET && from->offset < r->log->first &&
                         r->log->first > 1 && (from->direction == LOG_FORWARDS || from->offset > 0);
    return ERR_OK;
}

// Is there more in this direction? Forwards, what comes later counts too, but not for a page.
static bool more_from(const struct reading *r)
{
    const struct log *l = r->log;
    return r->page->direction == LOG_FORWARDS ? r->at < l->end : r->at != 0 && r->at >= l->first;
}

// Takes what the lock is needed for: spans until there are `records` records or `bytes` bytes of
// them in all. What the page says of the log, and rests on, is as of now.
static enum err gather(struct reading *r, struct log_spans *s, uint64_t records, uint64_t bytes,
                       uint64_t *dep, uint64_t *cold)
{
    struct log_page *page = r->page;
    unsigned shard = logs_shard(r->hash);
    enum err e = ERR_OK;
    logs_lock(r->c->logs, shard);
    r->log = logs_find(r->c->logs, r->hash, r->keyspace, r->q->name.key);
    if (r->log && !(e = place(r, cold))) {
        if (r->at && r->at < r->log->first) { // between two pages, or since this one began
            page->truncated = true;
            r->at = page->direction == LOG_FORWARDS ? r->log->first : 0;
        }
        e = log_gather(r->c->logs, r->log, page->direction, &r->at, records, bytes, s, cold);
        uint64_t top = page->direction == LOG_FORWARDS ? r->at
                       : r->begun < r->log->end        ? r->begun + 1
                                                       : r->log->end;
        uint64_t need = log_dep_below(r->c, r->log, top);
        *dep = need > *dep ? need : *dep;
        // Of what is pending, an answer that does not rest on it does not speak.
        page->end_offset = !need && log_dep(r->c, r->log)
                               ? log_settled(r->log, wal_durable(r->c->wal))
                               : r->log->end;
        page->first_offset = r->log->first;
    }
    if (!r->log)
        *dep = keyspace_dep(r->c, r->keyspace);
    if (r->log && !e)
        r->ended = !more_from(r);
    logs_unlock(r->c->logs, shard);
    return e;
}

// Gathers; brings in what is cold.
static enum err gather_all(struct reading *r, struct log_spans *s, uint64_t records, uint64_t bytes,
                           uint64_t *dep)
{
    enum err e = ERR_OK;
    for (int tries = 0; tries < TRIES; tries++) {
        uint64_t cold = 0;
        if ((e = grow(s)))
            return e;
        e = gather(r, s, records, bytes, dep, &cold);
        if (e == ERR_COLD)
            e = load_log_part(r->c, r->log, cold, !r->q->may_block);
        else if (!r->log || r->ended || s->count < s->cap)
            return e;
        if (e)
            return e;
    }
    return ERR_AGAIN;
}

// ---- filters

static bool matches(const struct log_query *q, struct slice bytes)
{
    if (q->filter == LOG_FILTER_PREFIX)
        return slice_starts(bytes, q->pattern);
    return memmem(bytes.p, bytes.n, q->pattern.p, q->pattern.n) != NULL;
}

// Adds a record to the page's spans: to the last one if it lies right beside it.
static enum err page_add(struct log_page *page, struct block *block, uint32_t begin, uint32_t end)
{
    struct log_span *last = page->spans.count ? &page->spans.v[page->spans.count - 1] : NULL;
    bool forwards = page->direction == LOG_FORWARDS;
    page->spans.records++;
    page->spans.bytes += end - begin;
    if (last && last->block == block && (forwards ? last->end == begin : last->begin == end)) {
        *(forwards ? &last->end : &last->begin) = forwards ? end : begin;
        last->records++;
        return ERR_OK;
    }
    enum err e = grow(&page->spans);
    if (e)
        return e;
    block_ref(block);
    page->spans.v[page->spans.count++] = (struct log_span){block, begin, end, 1};
    return ERR_OK;
}

// Looks at the records of one span in the page's direction. *done: the page is full, and goes on
// behind the last one looked at.
static enum err filter_span(struct reading *r, const struct log_span *s, bool *done)
{
    bool forwards = r->page->direction == LOG_FORWARDS;
    uint32_t at = forwards ? s->begin : s->end;
    for (uint32_t i = 0; i < s->records; i++) {
        const uint8_t *bytes = s->block->bytes;
        uint32_t size =
            (uint32_t)(forwards ? record_span(bytes + at) : record_span_before(bytes + at));
        uint32_t begin = forwards ? at : at - size;
        struct record rec = record_read(bytes + begin);
        if (matches(r->q, rec.bytes)) {
            struct log_spans *p = &r->page->spans;
            *done = p->records >= r->q->max_records ||
                    (p->records && p->bytes + size > r->q->max_bytes);
            if (*done) { // this one is the next page's first
                r->at = rec.offset;
                return ERR_OK;
            }
            enum err e = page_add(r->page, s->block, begin, begin + size);
            if (e)
                return e;
        }
        at = forwards ? at + size : begin;
    }
    return ERR_OK;
}

static enum err read_filtered(struct reading *r, uint64_t *dep)
{
    uint64_t budget = r->q->may_block ? FILTER_FAR : FILTER_NEAR;
    enum err e = ERR_OK;
    bool done = false;
    while (!e && !done && !r->ended && r->looked < budget) {
        e = gather_all(r, &r->step, UINT64_MAX / 2, FILTER_STEP, dep);
        if (!r->log)
            break;
        r->looked += r->step.bytes;
        for (size_t i = 0; !e && !done && i < r->step.count; i++)
            e = filter_span(r, &r->step.v[i], &done);
        spans_release(&r->step);
    }
    if (done)
        r->ended = false;
    return e;
}

static enum err check_query(const struct commit *c, const struct log_query *q, struct errmsg *msg)
{
    enum err e = check_log_name(c, &q->name, msg);
    if (e)
        return e;
    if (q->max_records == 0 || q->max_records > LIMIT_PAGE_RECORDS)
        return err_set(msg, ERR_INVALID, "the page size is %llu, not within 1 and %u",
                       (unsigned long long)q->max_records, LIMIT_PAGE_RECORDS);
    if (q->max_bytes == 0 || q->max_bytes > LIMIT_PAGE_BYTES)
        return err_set(msg, ERR_INVALID, "the page's bytes are %llu, not within 1 and %u",
                       (unsigned long long)q->max_bytes, LIMIT_PAGE_BYTES);
    if (q->filter && (q->pattern.n == 0 || q->pattern.n > LIMIT_FILTER))
        return err_set(msg, ERR_INVALID, "what to look for has %zu bytes, not within 1 and %u",
                       q->pattern.n, LIMIT_FILTER);
    return ERR_OK;
}

static void finish(struct reading *r)
{
    struct log_page *page = r->page;
    page->records = page->spans.records;
    page->bytes = page->spans.bytes;
    page->next = r->at;
    page->more = r->log && !r->ended;
    if (page->more)
        token_write(page->continuation, &r->q->name, page->direction,
                    r->at - (VARVE_BUG == 33 && page->direction == LOG_FORWARDS));
    count(&r->c->pages, 1);
    count(&r->c->page_records, page->records);
}

enum err commit_log_read(struct commit *c, const struct log_query *q, struct log_page *page,
                         uint64_t *dep, struct errmsg *msg)
{
    struct reading r = {.c = c, .q = q, .page = page};
    *page = (struct log_page){
        .direction = q->from.direction, .first_offset = 1, .end_offset = 1, .next = 1};
    *dep = 0;
    enum err e = check_query(c, q, msg);
    if (!e && q->continuation.n) {
        e = token_read(q->continuation, &q->name, &page->direction, &r.at, msg);
        r.begun = r.at;
        r.placed = true;
    }
    if (e || (e = find_keyspace(c, q->name.keyspace, &r.keyspace, msg)))
        return e;
    r.hash = logs_hash(c->logs, r.keyspace->id, q->name.key);
    if (q->filter)
        e = read_filtered(&r, dep);
    else
        e = gather_all(&r, &page->spans, q->max_records, q->max_bytes, dep);
    spans_release(&r.step); // of a log that does not exist there is room, too
    if (e) {
        log_page_release(page);
        return e == ERR_COLD ? e : err_set(msg, e, "cannot read the log: %s", err_text(e));
    }
    if (!r.log && !r.placed)
        r.at = 1;
    finish(&r);
    if (*dep)
        commit_kick(c);
    return ERR_OK;
}

bool log_page_next(struct log_page *page, struct record *r)
{
    for (; page->span < page->spans.count; page->span++, page->at = NULL) {
        const struct log_span *s = &page->spans.v[page->span];
        const uint8_t *begin = s->block->bytes + s->begin, *end = s->block->bytes + s->end;
        if (page->direction == LOG_FORWARDS) {
            if (!page->at)
                page->at = begin;
            if (page->at == end)
                continue;
            *r = record_read(page->at);
            page->at += record_size(r->bytes.n);
            return true;
        }
        if (!page->at)
            page->at = end;
        if (page->at == begin)
            continue;
        page->at -= record_span_before(page->at);
        *r = record_read(page->at);
        return true;
    }
    return false;
}
