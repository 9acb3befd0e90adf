// LOG_READ, and pages as LOG_TAIL gives them too. A page that is in RAM is read on the loop, one
// that is not as a job.
//
// What a start holds:
//     0  u8    direction    0 forwards, 1 backwards
//     1  u8    start        enum log_start, or LOG_START_END
//     2  u8    filter       enum log_filter
//     3  u8    follow       LOG_TAIL
//     4  u32   page size    records; 0: 1000
//     8  u64   0
//    16  u128  value        offset, nonce, or timestamp as i64
#include "edge/binary/binary_int.h"
#include "base/assert.h"
#include "base/limits.h"

#include <stdlib.h>

enum { START_SIZE = 32, PAGE_DEFAULT = 1000, PAGE_HEAD = 33 };

_Static_assert(LOG_FORWARDS == 0 && LOG_BACKWARDS == 1 && LOG_START_FIRST == 0 &&
                   LOG_START_OFFSET == 1 && LOG_START_TIME == 2 && LOG_START_NONCE == 3 &&
                   LOG_FILTER_NONE == 0 && LOG_FILTER_PREFIX == 1 && LOG_FILTER_CONTAINS == 2,
               "the protocol's numbers are the commit room's");

// ---- queries

static enum err check_start(const struct frame *f, const uint8_t *p, struct errmsg *msg)
{
    const char *name = frame_name(f->type);
    bool tail = f->type == FRAME_LOG_TAIL;
    if (p[0] > (tail ? LOG_FORWARDS : LOG_BACKWARDS))
        return err_set(msg, ERR_INVALID,
                       tail && p[0] == LOG_BACKWARDS ? "%s: a tail reads forwards only"
                                                     : "%s: unknown direction %u",
                       name, p[0]);
    if (p[1] > (tail ? LOG_START_END : LOG_START_NONCE))
        return err_set(msg, ERR_INVALID, "%s: unknown start %u", name, p[1]);
    if (p[2] > LOG_FILTER_CONTAINS)
        return err_set(msg, ERR_INVALID, "%s: unknown filter %u", name, p[2]);
    if (p[3] > tail)
        return err_set(msg, ERR_INVALID, "%s: follow is %u", name, p[3]);
    if (load32(p + 4) > LIMIT_PAGE_RECORDS)
        return err_set(msg, ERR_INVALID, "%s: a page of %u records is over the limit of %u", name,
                       load32(p + 4), LIMIT_PAGE_RECORDS);
    if (load64(p + 8))
        return err_set(msg, ERR_INVALID, "%s: bytes 8 to 15 of the start are not 0", name);
    if ((p[1] == LOG_START_OFFSET || p[1] == LOG_START_TIME) && load64(p + 24))
        return err_set(msg, ERR_INVALID, "%s: the start's value takes 8 bytes; the others are 0",
                       name);
    return ERR_OK;
}

enum err binary_query(const struct frame *f, struct log_query *q, struct errmsg *msg)
{
    const char *name = frame_name(f->type);
    struct slice start = f->arg[2];
    enum err e = binary_log_name(f, &q->name, msg);
    if (e)
        return e;
    if (start.n != START_SIZE)
        return err_set(msg, ERR_INVALID, "%s: a start takes %d bytes, not %zu", name, START_SIZE,
                       start.n);
    e = check_start(f, start.p, msg);
    if (e)
        return e;
    uint32_t page_size = load32(start.p + 4);
    bool tail = f->type == FRAME_LOG_TAIL;
    *q = (struct log_query){.name = q->name,
                            .from = {.direction = start.p[0],
                                     .start = start.p[1],
                                     .offset = load64(start.p + 16),
                                     .time = (int64_t)load64(start.p + 16),
                                     .nonce = load128(start.p + 16)},
                            .continuation = tail ? slice_of(NULL, 0) : f->arg[3],
                            .max_records = page_size ? page_size : PAGE_DEFAULT,
                            .max_bytes = LIMIT_PAGE_BYTES,
                            .filter = start.p[2],
                            .pattern = tail ? f->arg[3] : f->arg[4]};
    if ((q->filter != LOG_FILTER_NONE) != (q->pattern.n != 0))
        return err_set(msg, ERR_INVALID, "%s: %s", name,
                       q->filter ? "the filter's pattern is empty" : "a pattern without a filter");
    return ERR_OK;
}

size_t binary_query_bytes(const struct log_query *q)
{
    return q->name.keyspace.n + q->name.key.n + q->continuation.n + q->pattern.n;
}

static struct slice copy(struct slice s, uint8_t **at)
{
    struct slice to = slice_of(*at, s.n);
    if (s.n)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return to;
}

struct log_query binary_query_copy(const struct log_query *q, uint8_t *bytes)
{
    struct log_query to = *q;
    to.name.keyspace = copy(q->name.keyspace, &bytes);
    to.name.key = copy(q->name.key, &bytes);
    to.continuation = copy(q->continuation, &bytes);
    to.pattern = copy(q->pattern, &bytes);
    return to;
}

// ---- pages

// A span's records lie as they are sent, but in rising order.
enum conn_verdict binary_put_page(struct conn *c, struct log_page *page, unsigned flags,
                                  uint64_t dep)
{
    struct buf *out = conn_out(c);
    struct binary_reply r;
    struct record record;
    size_t token = strlen(page->continuation);
    uint8_t head[1 + PAGE_HEAD] = {STATUS_OK};
    store64(head + 1, page->first_offset);
    store64(head + 9, page->end_offset);
    store64(head + 17, page->next);
    store32(head + 25, (uint32_t)page->records);
    head[29] =
        (uint8_t)(flags | (page->truncated ? PAGE_TRUNCATED : 0) | (page->more ? PAGE_MORE : 0));
    store32(head + 30, (uint32_t)token);
    if (binary_reply_begin(c, &r) || buf_reserve(out, sizeof head + token + page->bytes))
        return CONN_DROP;
    buf_put(out, head, sizeof head);
    buf_put(out, page->continuation, token);
    size_t end = out->end + page->bytes;
    if (page->direction == LOG_FORWARDS) {
        for (size_t i = 0; i < page->spans.count; i++) {
            const struct log_span *s = &page->spans.v[i];
            buf_put(out, s->block->bytes + s->begin, s->end - s->begin);
        }
    } else {
        while (log_page_next(page, &record))
            out->end = (size_t)(record_write(buf_tail(out), &record) - out->data);
    }
    VERIFY(out->end == end);
    binary_reply_end(&r, dep);
    return CONN_MORE;
}

// ---- LOG_READ

struct read_job {
    struct binary_job base;
    struct log_query q; // points into bytes[]
    struct log_page page;
    uint8_t bytes[];
};

static void read_run(struct binary_job *base)
{
    struct read_job *j = (struct read_job *)base;
    base->e = commit_log_read(base->commit, &j->q, &j->page, &base->dep, &base->msg);
}

static enum conn_verdict read_reply(struct binary_job *base)
{
    struct read_job *j = (struct read_job *)base;
    if (base->e)
        return binary_fail(base->c, base->type, base->e, &base->msg, base->dep);
    return binary_put_page(base->c, &j->page, 0, base->dep);
}

static void read_release(struct binary_job *base)
{
    struct read_job *j = (struct read_job *)base;
    log_page_release(&j->page);
    free(j);
}

static enum conn_verdict read_cold(struct conn *c, const struct log_query *q)
{
    const struct binary *b = conn_arg(c);
    struct read_job *j = calloc(1, sizeof *j + binary_query_bytes(q));
    if (!j)
        return binary_fail(c, FRAME_LOG_READ, ERR_NO_MEMORY, NULL, 0);
    j->base = (struct binary_job){.commit = b->o.commit,
                                  .type = FRAME_LOG_READ,
                                  .run = read_run,
                                  .reply = read_reply,
                                  .release = read_release};
    j->q = binary_query_copy(q, j->bytes);
    j->q.may_block = true;
    return binary_job_start(c, &j->base);
}

enum conn_verdict binary_read(struct conn *c, const struct frame *f)
{
    const struct binary *b = conn_arg(c);
    struct errmsg msg = {""};
    struct log_query q;
    struct log_page page = {0};
    uint64_t dep = 0;
    enum err e = binary_query(f, &q, &msg);
    if (e == ERR_OK)
        e = commit_log_read(b->o.commit, &q, &page, &dep, &msg);
    enum conn_verdict v;
    if (e == ERR_COLD)
        v = read_cold(c, &q);
    else if (e)
        v = binary_fail(c, FRAME_LOG_READ, e, &msg, dep);
    else
        v = binary_put_page(c, &page, 0, dep);
    log_page_release(&page);
    return v;
}
