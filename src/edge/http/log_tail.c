// GET /v1/logs/KS/KEY/tail: records as server-sent events, endless.
//
//   id: OFFSET            event: truncated                  : (a comment: nothing else for 10 s)
//   data: {"offset":...}  data: {"first_offset":F}
//
// The reply has no length; it ends with the connection, which a tail takes for itself. What the
// client sends after its request is thrown away; the end of its input ends the tail.
//
// The connection stays in net's state OPEN. A turn reads pages of a bounded size until
// LIMIT_OUT_STOP reply bytes are pending (net calls again when they have drained) or the end of the
// log is reached: then one log_watch waits, holding the connection, and wakes it with conn_resume.
// Each turn begins by taking the watch back, so that between turns there is a watch or none, and
// whatever called, the log is read again. A page that is on disk is read by a job.
#include "base/assert.h"
#include "edge/http/log_int.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define TAIL_COMMENT_MS   10000u
#define TAIL_PAGE_BYTES   (256u << 10)
#define TAIL_PAGE_RECORDS 10000u
#define TAIL_TURN_PAGES   8u // then other connections have their turn

struct tail {
    struct commit *commit;
    struct log_watch watch;
    bool watching;          // the watch may be in use; it holds the connection
    bool base64;            // encoding
    struct log_query query; // `from` is where to go on
    uint8_t bytes[];        // what its slices point to
};

// ---- the watch ----

static void wake(void *arg)
{
    conn_resume(arg);
}

void tail_unwatch(struct conn *c, struct tail *t)
{
    // If it is not taken back, its conn_resume has come or is in the mailbox.
    if (t->watching && commit_log_unwatch(t->commit, &t->watch))
        conn_unhold(c);
    t->watching = false;
}

// Waits for a record at or past the place to go on. False: there is one now, or an error.
static bool tail_watch(struct conn *c, struct tail *t, uint64_t offset)
{
    struct errmsg m;
    t->watch.wake = wake;
    t->watch.arg = c;
    conn_hold(c);
    enum err e = commit_log_watch(t->commit, &t->query.name, offset, &t->watch, &m);
    if (e)
        conn_unhold(c);
    t->watching = e == ERR_OK;
    return t->watching;
}

// ---- events ----

static enum err put_record(struct buf *out, const struct record *r, bool base64)
{
    enum err e = buf_printf(out, "id: %" PRIu64 "\ndata: ", r->offset);
    if (!e)
        e = log_put_record(out, r, base64);
    return e ? e : buf_append(out, "\n\n", 2);
}

// Writes a page's records, and goes on behind it.
static enum err put_page(struct conn *c, struct tail *t, struct log_page *page, uint64_t dep)
{
    struct buf *out = conn_out(c);
    uint64_t mark = conn_mark(c);
    struct record r;
    enum err e = ERR_OK;
    struct log_from *from = &t->query.from;
    // Also when retention passed the place while the page was brought in from the disk.
    if (page->truncated || (from->start == LOG_START_OFFSET && page->first_offset > from->offset))
        e = buf_printf(out, "event: truncated\ndata: {\"first_offset\":%" PRIu64 "}\n\n",
                       page->first_offset);
    while (!e && log_page_next(page, &r))
        e = put_record(out, &r, t->base64);
    conn_gate(c, mark, dep);
    // A time or nonce that no record has reached is still waited for. With a filter the place may
    // have been passed.
    bool reached = page->records || page->more || t->query.filter != LOG_FILTER_NONE;
    if (reached || from->start == LOG_START_OFFSET || from->start == LOG_START_FIRST) {
        uint64_t at = from->start == LOG_START_OFFSET ? from->offset : 0;
        *from = (struct log_from){.direction = LOG_FORWARDS,
                                  .start = LOG_START_OFFSET,
                                  .offset = page->next > at ? page->next : at};
    }
    return e;
}

// ---- turns ----

// Reads one page. ERR_COLD: a job reads it now.
static enum err next_page(struct conn *c, struct http_conn *st, struct log_page *page,
                          uint64_t *dep)
{
    struct tail *t = st->tail;
    struct errmsg m;
    struct page_job *done = (struct page_job *)st->job;
    if (done) {
        enum err e = done->job.e;
        *page = done->page;
        *dep = done->job.dep;
        done->filled = false; // the page has a new owner
        st->job = NULL;
        done->job.free(&done->job);
        return e == ERR_COLD ? ERR_IO : e;
    }
    enum err e = commit_log_read(t->commit, &t->query, page, dep, &m);
    if (e != ERR_COLD)
        return e;
    struct page_job *j = page_job_new(&t->query);
    if (!j)
        return ERR_NO_MEMORY;
    job_hand_over(c, t->commit, &j->job);
    return ERR_COLD;
}

static void await_comment(struct conn *c, struct http_conn *st)
{
    st->timer = TIMER_TAIL;
    conn_deadline(c, TAIL_COMMENT_MS);
}

enum conn_verdict tail_input(struct conn *c, struct http_conn *st)
{
    struct tail *t = st->tail;
    buf_clear(conn_in(c));
    tail_unwatch(c, t);
    // The resume of a watch, or of a turn that was cut short, may come while a job runs.
    if (st->job && !atomic_load_explicit(&st->job->done, memory_order_acquire))
        return CONN_WAIT;
    if (conn_eof(c))
        return CONN_CLOSE;
    for (unsigned pages = 0; pages < TAIL_TURN_PAGES; pages++) {
        struct log_page page;
        uint64_t dep = 0;
        if (conn_pending(c) >= LIMIT_OUT_STOP)
            return CONN_MORE; // comes again when they have drained
        enum err e = next_page(c, st, &page, &dep);
        if (e == ERR_COLD)
            return CONN_WAIT;
        if (e)
            return CONN_CLOSE; // the reader asks again, and is then told what is wrong
        size_t before = conn_pending(c);
        e = put_page(c, t, &page, dep);
        if (conn_pending(c) > before || st->timer != TIMER_TAIL)
            await_comment(c, st);
        bool more = page.more;
        uint64_t next = page.next;
        log_page_release(&page);
        if (e)
            return CONN_DROP; // half an event may be there
        if (t->query.from.start == LOG_START_OFFSET)
            next = t->query.from.offset;
        if (!more && tail_watch(c, t, next))
            return CONN_MORE;
    }
    conn_hold(c);
    conn_resume(c);
    return CONN_MORE;
}

enum conn_verdict tail_deadline(struct conn *c)
{
    if (buf_append(conn_out(c), ":\n\n", 3))
        return CONN_DROP;
    conn_deadline(c, TAIL_COMMENT_MS);
    return CONN_MORE;
}

// ---- the request ----

static struct tail *tail_new(struct commit *c, const struct log_query *q, bool base64)
{
    const struct slice from[] = {q->name.keyspace, q->name.key, q->pattern};
    struct tail *t = calloc(1, sizeof *t + from[0].n + from[1].n + from[2].n);
    if (!t)
        return NULL;
    t->commit = c;
    t->base64 = base64;
    t->query = *q;
    struct slice *to[] = {&t->query.name.keyspace, &t->query.name.key, &t->query.pattern};
    uint8_t *p = t->bytes;
    for (size_t i = 0; i < 3; i++) {
        if (from[i].n)
            memcpy(p, from[i].p, from[i].n);
        *to[i] = slice_of(p, from[i].n);
        p += from[i].n;
    }
    return t;
}

// Where it begins, from start or Last-Event-ID; *end: with what comes from now on.
static unsigned read_start(const struct request *rq, const struct param *start,
                           struct log_from *from, bool *end, struct errmsg *msg)
{
    *end = !start->given || slice_equal(start->value, slice_str("end"));
    unsigned status = *end ? 0 : query_start(start, true, from, msg);
    if (status || !head_has(&rq->head, FIELD_LAST_EVENT))
        return status;
    struct param last = {.name = "Last-Event-ID", .value = rq->head.field[FIELD_LAST_EVENT]};
    if (last.value.n == 0) // an event stream that has seen no id yet
        return 0;
    if (query_number(&last, 0, UINT64_MAX - 1, &from->offset, msg))
        return refuse(msg, 400, "Last-Event-ID must be the offset of a record");
    from->start = LOG_START_OFFSET;
    from->offset++;
    *end = false;
    return 0;
}

static unsigned read_query(struct request *rq, struct log_query *q, bool *base64, bool *end,
                           struct errmsg *msg)
{
    struct param p[] = {
        {.name = "start"}, {.name = "encoding"}, {.name = "prefix"}, {.name = "contains"}};
    *q = (struct log_query){.max_records = TAIL_PAGE_RECORDS, .max_bytes = TAIL_PAGE_BYTES};
    unsigned status = log_path(rq, &q->name, msg);
    if (!status)
        status = query_parse(rq, p, 4, msg);
    if (!status)
        status = read_start(rq, &p[0], &q->from, end, msg);
    if (!status)
        status = query_filter(&p[2], &p[3], q, msg);
    *base64 = slice_equal(p[1].value, slice_str("base64"));
    if (!status && p[1].given && !*base64 && !slice_equal(p[1].value, slice_str("json")))
        return refuse(msg, 400, "argument \"encoding\" must be json or base64");
    return status;
}

enum conn_verdict route_log_tail(struct request *rq)
{
    struct errmsg m = {""};
    struct log_query q;
    struct log_meta meta;
    bool base64 = false, end = false;
    unsigned status = read_query(rq, &q, &base64, &end, &m);
    if (status) {
        reply_error(rq, status, m.text, NULL);
        return CONN_MORE;
    }
    // A log that has no record yet can be waited for; a keyspace that does not exist cannot.
    enum err e = commit_log_meta(rq->http->o.commit, &q.name, &meta, &rq->dep, &m);
    if (e == ERR_MISSING)
        meta.end_offset = 1;
    else if (e) {
        reply_err(rq, e, &m);
        return CONN_MORE;
    }
    if (end)
        q.from = (struct log_from){.start = LOG_START_OFFSET, .offset = meta.end_offset};
    if (rq->head.method != METHOD_HEAD &&
        !(rq->state->tail = tail_new(rq->http->o.commit, &q, base64))) {
        reply_err(rq, ERR_NO_MEMORY, NULL);
        return CONN_MORE;
    }
    rq->head.keep_alive = false; // "Connection: close": the reply ends with the connection
    reply_begin(rq, 200, NULL, "Content-Type: text/event-stream\r\nCache-Control: no-cache\r\n");
    return CONN_MORE;
}
