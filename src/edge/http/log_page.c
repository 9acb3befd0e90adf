// GET /v1/logs/KS/KEY: a page of a log, in one of the encodings
//
//   json    an object whose "records" is an array of objects; a record that is not UTF-8 is in
//           base64
//   base64  the same, every record in base64
//   raw     the records' bytes one after another
//   lines   with a LF after each
//   binary  records as op/record.h lays them out
//
// A page that is in RAM is written from the log's blocks straight into the reply. One that has to
// be read from the disk is read by a job, and then written in the same way.
#include "base/assert.h"
#include "base/base64.h"
#include "edge/http/log_int.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PAGE_DEFAULT 1000u // records
#define TYPE_BYTES   "application/octet-stream"

enum encoding { ENCODING_JSON, ENCODING_BASE64, ENCODING_RAW, ENCODING_LINES, ENCODING_BINARY };

// ---- JSON ----

// Digits into room reserved before.
static void put_decimal(struct buf *b, uint64_t v)
{
    uint8_t digits[20];
    size_t at = sizeof digits;
    do
        digits[--at] = (uint8_t)('0' + v % 10);
    while (v /= 10);
    buf_put(b, digits + at, sizeof digits - at);
}

static void put_nonce(struct buf *b, u128 v)
{
    char text[U128_TEXT];
    if (v <= UINT64_MAX) // most are, and a division of 128 bits is slow
        put_decimal(b, (uint64_t)v);
    else
        buf_put(b, text, u128_format(v, text));
}

#define PUT(b, literal) buf_put(b, literal, sizeof literal - 1)

enum err log_put_record(struct buf *b, const struct record *r, bool base64)
{
    enum err e = buf_reserve(b, 160); // all but the bytes
    if (e)
        return e;
    PUT(b, "{\"offset\":");
    put_decimal(b, r->offset);
    PUT(b, ",\"timestamp\":");
    if (r->timestamp < 0)
        PUT(b, "-");
    put_decimal(b, r->timestamp < 0 ? 0 - (uint64_t)r->timestamp : (uint64_t)r->timestamp);
    if (r->nonce != NONCE_NONE) {
        PUT(b, ",\"nonce\":\"");
        put_nonce(b, r->nonce);
        PUT(b, "\"");
    }
    if (!base64 && utf8_valid(r->bytes)) {
        PUT(b, ",\"record\":");
        e = json_put_string(b, r->bytes);
        return e ? e : buf_append(b, "}", 1);
    }
    PUT(b, ",\"base64\":\"");
    e = base64_put(b, r->bytes);
    return e ? e : buf_append(b, "\"}", 2);
}

static void reply_json(struct request *rq, const struct log_name *name, struct log_page *page,
                       bool base64)
{
    struct record r;
    bool comma = false;
    reply_begin(rq, 200, TYPE_JSON, NULL);
    reply_text(rq, "{\"keyspace\":");
    reply_bytes(rq, name->keyspace);
    reply_text(rq, ",\"key\":");
    reply_bytes(rq, name->key);
    reply_text(rq, ",\"records\":[");
    // Grows once, in the common case.
    reply_note(rq, buf_reserve(rq->out, page->bytes + page->records * 48 + 256));
    while (!rq->failed && log_page_next(page, &r)) {
        if (comma)
            reply_text(rq, ",");
        comma = true;
        reply_note(rq, log_put_record(rq->out, &r, base64));
    }
    reply_text(rq, "],\"next_offset\":");
    reply_uint(rq, page->end_offset);
    if (page->truncated)
        reply_text(rq, ",\"truncated\":true");
    if (page->more) {
        reply_text(rq, ",\"continuation\":\"");
        reply_text(rq, page->continuation);
        reply_text(rq, "\"");
    }
    reply_text(rq, "}");
}

// ---- bytes ----

// Records that are laid out end to end in the order wanted: whole runs.
static void put_runs(struct buf *out, const struct log_page *page, size_t room)
{
    for (size_t i = 0; i < page->spans.count; i++) {
        const struct log_span *s = &page->spans.v[i];
        VERIFY(s->end - s->begin <= room);
        room -= s->end - s->begin;
        buf_put(out, s->block->bytes + s->begin, s->end - s->begin);
    }
}

static void put_records(struct buf *out, struct log_page *page, enum encoding how, size_t room)
{
    struct record r;
    while (log_page_next(page, &r)) {
        bool whole = how == ENCODING_BINARY;
        size_t n = whole ? record_size(r.bytes.n) : r.bytes.n + (how == ENCODING_LINES);
        VERIFY(n <= room);
        room -= n;
        buf_put(out, r.bytes.p - (whole ? RECORD_HEAD : 0), whole ? n : r.bytes.n);
        if (how == ENCODING_LINES)
            PUT(out, "\n");
    }
}

static void reply_raw(struct request *rq, struct log_page *page, enum encoding how)
{
    char fields[256];
    snprintf(fields, sizeof fields,
             "Varve-Records: %" PRIu64 "\r\nVarve-Next-Offset: %" PRIu64 "\r\n%s%s%s%s",
             page->records, page->end_offset, page->more ? "Varve-Continuation: " : "",
             page->more ? page->continuation : "", page->more ? "\r\n" : "",
             page->truncated ? "Varve-Truncated: true\r\n" : "");
    size_t size = page->bytes;
    if (how != ENCODING_BINARY)
        size -= page->records * RECORD_OVERHEAD;
    if (how == ENCODING_LINES)
        size += page->records;
    reply_begin(rq, 200, TYPE_BYTES, fields);
    reply_note(rq, buf_reserve(rq->out, size));
    if (rq->failed)
        return;
    if (how == ENCODING_BINARY && page->direction == LOG_FORWARDS)
        put_runs(rq->out, page, size);
    else
        put_records(rq->out, page, how, size);
}

static void reply_page(struct request *rq, const struct log_name *name, struct log_page *page,
                       enum encoding how)
{
    if (how <= ENCODING_BASE64)
        reply_json(rq, name, page, how == ENCODING_BASE64);
    else
        reply_raw(rq, page, how);
    log_page_release(page);
}

// ---- pages from the disk ----

static void page_free(struct job *job)
{
    struct page_job *j = (struct page_job *)job;
    if (j->filled)
        log_page_release(&j->page);
    free(j);
}

static void page_run(struct job *job)
{
    struct page_job *j = (struct page_job *)job;
    job->e = commit_log_read(job->commit, &j->query, &j->page, &job->dep, &job->msg);
    j->filled = job->e == ERR_OK;
}

struct page_job *page_job_new(const struct log_query *q)
{
    const struct slice from[] = {q->name.keyspace, q->name.key, q->continuation, q->pattern};
    struct page_job *j = calloc(1, sizeof *j + from[0].n + from[1].n + from[2].n + from[3].n);
    if (!j)
        return NULL;
    j->job.run = page_run;
    j->job.free = page_free;
    j->query = *q;
    j->query.may_block = true;
    struct slice *to[] = {&j->query.name.keyspace, &j->query.name.key, &j->query.continuation,
                          &j->query.pattern};
    uint8_t *p = j->bytes;
    for (size_t i = 0; i < 4; i++) {
        if (from[i].n)
            memcpy(p, from[i].p, from[i].n);
        *to[i] = slice_of(p, from[i].n);
        p += from[i].n;
    }
    return j;
}

// ---- the request ----

enum { P_DIRECTION, P_START, P_SIZE, P_CONTINUATION, P_ENCODING, P_PREFIX, P_CONTAINS, PARAMS };

// One of the words, which end in NULL, as a number; 0 if it is not given.
static unsigned read_word(const struct param *p, const char *const *words, unsigned *v,
                          struct errmsg *msg)
{
    char all[100];
    size_t n = 0;
    *v = 0;
    if (!p->given)
        return 0;
    for (; words[*v]; ++*v) {
        if (slice_equal(p->value, slice_str(words[*v])))
            return 0;
        n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", n ? ", " : "", words[*v]);
    }
    return refuse(msg, 400, "argument \"%s\" must be one of: %s", p->name, all);
}

static unsigned read_query(struct request *rq, struct log_query *q, unsigned *encoding,
                           struct errmsg *msg)
{
    static const char *const directions[] = {"forwards", "backwards", NULL};
    static const char *const encodings[] = {"json", "base64", "raw", "lines", "binary", NULL};
    struct param p[PARAMS] = {{.name = "direction"},    {.name = "start"},    {.name = "page_size"},
                              {.name = "continuation"}, {.name = "encoding"}, {.name = "prefix"},
                              {.name = "contains"}};
    unsigned direction = 0;
    *q = (struct log_query){.max_records = PAGE_DEFAULT, .max_bytes = LIMIT_PAGE_BYTES};
    unsigned status = log_path(rq, &q->name, msg);
    if (!status)
        status = query_parse(rq, p, PARAMS, msg);
    if (!status)
        status = read_word(&p[P_DIRECTION], directions, &direction, msg);
    if (!status)
        status = read_word(&p[P_ENCODING], encodings, encoding, msg);
    if (!status && p[P_SIZE].given)
        status = query_number(&p[P_SIZE], 1, LIMIT_PAGE_RECORDS, &q->max_records, msg);
    if (!status && p[P_START].given)
        status = query_start(&p[P_START], true, &q->from, msg);
    if (!status)
        status = query_filter(&p[P_PREFIX], &p[P_CONTAINS], q, msg);
    if (status || !p[P_CONTINUATION].given) {
        q->from.direction = direction ? LOG_BACKWARDS : LOG_FORWARDS;
        return status;
    }
    if (p[P_DIRECTION].given || p[P_START].given)
        return refuse(msg, 400, "argument \"continuation\" stands in place of \"%s\"",
                      p[P_START].given ? "start" : "direction");
    if (p[P_CONTINUATION].value.n == 0)
        return refuse(msg, 400, "argument \"continuation\" is empty");
    q->continuation = p[P_CONTINUATION].value;
    return 0;
}

static enum conn_verdict read_failed(struct request *rq, const struct log_query *q, enum err e,
                                     const struct errmsg *msg)
{
    if (e == ERR_COLD) {
        struct page_job *j = page_job_new(q);
        if (j)
            return job_start(rq, &j->job);
        e = ERR_NO_MEMORY;
    }
    reply_err(rq, e, msg);
    return CONN_MORE;
}

enum conn_verdict route_log_page(struct request *rq)
{
    struct errmsg m = {""};
    struct log_query q;
    struct log_page page;
    unsigned encoding = 0;
    unsigned status = read_query(rq, &q, &encoding, &m);
    if (status) {
        reply_error(rq, status, m.text, NULL);
        return CONN_MORE;
    }
    struct page_job *done = (struct page_job *)job_take(rq);
    if (done) {
        rq->dep = done->job.dep;
        if (done->job.e)
            reply_err(rq, done->job.e, &done->job.msg);
        else
            reply_page(rq, &q.name, &done->page, (enum encoding)encoding);
        done->filled = false;
        done->job.free(&done->job);
        return CONN_MORE;
    }
    enum err e = commit_log_read(rq->http->o.commit, &q, &page, &rq->dep, &m);
    if (e)
        return read_failed(rq, &q, e, &m);
    reply_page(rq, &q.name, &page, (enum encoding)encoding);
    return CONN_MORE;
}
