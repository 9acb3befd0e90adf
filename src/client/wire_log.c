// The requests and replies of logs.
#include "base/limits.h"
#include "client/wire.h"
#include "op/record.h"

enum {
    INPUT_HEAD = 28, // of a record in LOG_APPEND: nonce, timestamp, length
    PAGE_HEAD = 33,  // first offset, next offset, next, records, flags, length of the continuation
    PAGE_TRUNCATED = 1, // flags
    PAGE_MORE = 2,
    PAGE_END = 4,
    POLICY_SERVER_TIME = 1, // flags
};

static u128 u128_of(struct varve_u128 v)
{
    return (u128)v.high << 64 | v.low;
}

static struct varve_u128 load_nonce(const uint8_t *p)
{
    return (struct varve_u128){load64(p), load64(p + 8)};
}

size_t wire_records_size(const struct varve_record *records, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (records[i].size > LIMIT_REQUEST_HARD)
            return SIZE_MAX;
        n += INPUT_HEAD + records[i].size;
        if (n > LIMIT_REQUEST_HARD)
            return SIZE_MAX;
    }
    return n;
}

bool wire_records_valid(const struct varve_record *records, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if ((records[i].has_nonce && u128_of(records[i].nonce) == NONCE_NONE) ||
            (records[i].has_timestamp && records[i].timestamp == INT64_MIN))
            return false;
    return true;
}

void wire_put_records(struct buf *b, const struct varve_record *records, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct varve_record *r = &records[i];
        uint8_t head[INPUT_HEAD];
        store128(head, r->has_nonce ? u128_of(r->nonce) : NONCE_NONE);
        store64(head + 16, (uint64_t)(r->has_timestamp ? r->timestamp : INT64_MIN));
        store32(head + 24, (uint32_t)r->size);
        buf_put(b, head, sizeof head);
        buf_put(b, r->data, r->size);
    }
}

enum err wire_request_append(struct buf *b, const struct varve_log *log,
                             const struct varve_record *records, size_t count)
{
    size_t n = wire_records_size(records, count);
    if (n > LIMIT_REQUEST_HARD || log->keyspace_size > LIMIT_KEY_HARD ||
        log->key_size > LIMIT_KEY_HARD)
        return ERR_TOO_BIG;
    if (!wire_records_valid(records, count))
        return ERR_INVALID;
    enum err e = buf_reserve(b, 2 + 4 + log->keyspace_size + 4 + log->key_size + 4 + n);
    if (e)
        return e;
    wire_put_type(b, WIRE_LOG_APPEND);
    wire_put32(b, (uint32_t)log->keyspace_size);
    buf_put(b, log->keyspace, log->keyspace_size);
    wire_put32(b, (uint32_t)log->key_size);
    buf_put(b, log->key, log->key_size);
    wire_put32(b, (uint32_t)n);
    wire_put_records(b, records, count);
    return ERR_OK;
}

void wire_start(uint8_t start[WIRE_START_BYTES], const struct varve_log_query *q, bool follow)
{
    memset(start, 0, WIRE_START_BYTES);
    start[0] = q->backwards;
    start[1] = (uint8_t)q->start;
    start[2] = (uint8_t)q->filter;
    start[3] = follow;
    store32(start + 4, q->page_size);
    if (q->start == VARVE_START_OFFSET)
        store64(start + 16, q->offset);
    else if (q->start == VARVE_START_TIMESTAMP)
        store64(start + 16, (uint64_t)q->timestamp);
    else if (q->start == VARVE_START_NONCE)
        store128(start + 16, u128_of(q->nonce));
}

void wire_policy(uint8_t policy[WIRE_POLICY_BYTES], const struct varve_log_policy *p)
{
    store64(policy, p->max_age_ms);
    store64(policy + 8, p->max_bytes);
    store64(policy + 16, p->max_records);
    store64(policy + 24, p->server_time ? POLICY_SERVER_TIME : 0);
}

enum err wire_read_keyspace(struct slice body, uint64_t *created_ms,
                            struct varve_log_policy *policy)
{
    if (body.n != 8 + (policy ? WIRE_POLICY_BYTES : 0u))
        return ERR_INVALID;
    *created_ms = load64(body.p);
    if (policy)
        *policy = (struct varve_log_policy){
            .max_age_ms = load64(body.p + 8),
            .max_bytes = load64(body.p + 16),
            .max_records = load64(body.p + 24),
            .server_time = load64(body.p + 32) & POLICY_SERVER_TIME,
        };
    return ERR_OK;
}

enum err wire_read_meta(struct slice body, struct varve_log_meta *meta)
{
    if (body.n != 56)
        return ERR_INVALID;
    *meta = (struct varve_log_meta){
        .first_offset = load64(body.p),
        .next_offset = load64(body.p + 8),
        .next_nonce = load_nonce(body.p + 16),
        .last_timestamp = (int64_t)load64(body.p + 32),
        .records = load64(body.p + 40),
        .bytes = load64(body.p + 48),
    };
    return ERR_OK;
}

enum err wire_read_appended(struct slice body, struct varve_appended *a)
{
    if (body.n != 48)
        return ERR_INVALID;
    *a = (struct varve_appended){
        .first_offset = load64(body.p),
        .next_offset = load64(body.p + 8),
        .appended = load64(body.p + 16),
        .next_nonce = load_nonce(body.p + 24),
        .timestamp = (int64_t)load64(body.p + 40),
    };
    return ERR_OK;
}

// True if `run` is `count` whole records whose offsets all rise or all fall.
static bool run_is_valid(struct slice run, size_t count)
{
    uint64_t last = 0;
    bool falls = false;
    size_t i;
    for (i = 0; i < count && run.n >= RECORD_OVERHEAD; i++) {
        size_t size = load32(run.p + 32);
        uint64_t offset = record_offset(run.p);
        if (run.n - RECORD_OVERHEAD < size ||
            load32(run.p + RECORD_HEAD + size) != size + RECORD_HEAD)
            return false;
        if (i == 1)
            falls = offset < last;
        if (offset == 0 || offset == last || (i && (offset < last) != falls))
            return false;
        last = offset;
        run.p += record_size(size);
        run.n -= record_size(size);
    }
    return i == count && run.n == 0;
}

enum err wire_read_page(struct slice body, struct varve_page *page)
{
    const uint8_t *head = wire_take(&body, PAGE_HEAD);
    if (!head)
        return ERR_INVALID;
    size_t n = load32(head + 29);
    const uint8_t *token = n <= VARVE_CONTINUATION ? wire_take(&body, n) : NULL;
    uint8_t flags = head[28];
    if (!token || flags > (PAGE_TRUNCATED | PAGE_MORE | PAGE_END) ||
        !run_is_valid(body, load32(head + 24)))
        return ERR_INVALID;
    *page = (struct varve_page){
        .first_offset = load64(head),
        .next_offset = load64(head + 8),
        .next = load64(head + 16),
        .records = load32(head + 24),
        .truncated = flags & PAGE_TRUNCATED,
        .more = flags & PAGE_MORE,
        .end = flags & PAGE_END,
        .continuation_size = n,
        .at = body.p,
        .left = body.n,
    };
    memcpy(page->continuation, token, n);
    return ERR_OK;
}

bool varve_page_next(struct varve_page *page, struct varve_record *record)
{
    if (page->left == 0)
        return false;
    struct record r = record_read(page->at); // wire_read_page has looked at all of them
    bool has_nonce = r.nonce != NONCE_NONE;
    *record = (struct varve_record){
        .offset = r.offset,
        .timestamp = r.timestamp,
        .nonce = has_nonce ? load_nonce(page->at + 16) : (struct varve_u128){0, 0},
        .has_timestamp = true,
        .has_nonce = has_nonce,
        .data = r.bytes.p,
        .size = r.bytes.n,
    };
    page->at += record_size(r.bytes.n);
    page->left -= record_size(r.bytes.n);
    return true;
}

enum err wire_read_u64(struct slice body, uint64_t *n)
{
    if (body.n != 8)
        return ERR_INVALID;
    *n = load64(body.p);
    return ERR_OK;
}
