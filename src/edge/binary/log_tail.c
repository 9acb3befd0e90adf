// LOG_TAIL: pages of a log, one reply after another. It belongs to the session from its request,
// which is consumed, until its last page. Meanwhile the connection is OPEN, so that the client's
// next request is seen, which ends a tail that follows:
//
//   reading    pages are appended, a few a call; between calls the loop looks after others and
//   after
//              input. It stops while LIMIT_OUT_STOP bytes of them wait
//   cold       a page is read as a job; the connection waits
//   watching   all is given; the commit room resumes the connection when there is more. At most
//              one resume is on its way then, and nothing else is begun before it has come: a
//              resume meant for the tail must not end another wait
//
// A tail that starts at a time or nonce that no record has reached goes on looking for it.
#include "edge/binary/binary_int.h"
#include "base/limits.h"

#include <stdlib.h>

#define TAIL_BYTES   (256u << 10) // of records in a page
#define TAIL_STEPS   4u           // a call: not much more than LIMIT_OUT_STOP
#define TAIL_IDLE_MS 10000u       // then an empty page

struct tail {
    struct binary_job job; // while cold
    struct log_query q;    // points into bytes[]; from is where it goes on
    struct log_page page;  // being read
    struct log_watch watch;
    bool watching;
    bool follow;
    bool seeking; // the first record, at a time or nonce, is not found yet
    bool read;    // at least once
    bool at_end;  // nothing was left when it was read last
    // What a page without records says.
    uint64_t first_offset;
    uint64_t end_offset;
    uint64_t dep;
    uint8_t bytes[];
};

static struct commit *commit_of(struct conn *c)
{
    const struct binary *b = conn_arg(c);
    return b->o.commit;
}

static uint64_t tail_next(const struct tail *t)
{
    return t->seeking ? t->end_offset : t->q.from.offset;
}

static enum conn_verdict put_empty(struct conn *c, const struct tail *t, unsigned flags)
{
    struct log_page page = {
        .first_offset = t->first_offset, .end_offset = t->end_offset, .next = tail_next(t)};
    return binary_put_page(c, &page, flags, t->dep);
}

void binary_tail_release(struct tail *t)
{
    if (!t)
        return;
    log_page_release(&t->page);
    free(t);
}

static enum conn_verdict tail_end(struct conn *c, struct tail *t)
{
    struct session *s = conn_state(c);
    enum conn_verdict v = put_empty(c, t, PAGE_END);
    s->tail = NULL;
    binary_tail_release(t);
    return v;
}

static enum conn_verdict tail_fail(struct conn *c, struct tail *t, enum err e,
                                   const struct errmsg *msg, uint64_t dep)
{
    struct session *s = conn_state(c);
    enum conn_verdict v = binary_fail(c, FRAME_LOG_TAIL, e, msg, dep > t->dep ? dep : t->dep);
    s->tail = NULL;
    binary_tail_release(t);
    return v;
}

// ---- reading

static enum err tail_read(struct tail *t, bool may_block, uint64_t *dep, struct errmsg *msg)
{
    struct log_query q = t->q;
    q.may_block = may_block;
    if (t->seeking) { // the first record, whatever the filter
        q.filter = LOG_FILTER_NONE;
        q.pattern = slice_of(NULL, 0);
        q.max_records = 1;
    }
    return commit_log_read(t->job.commit, &q, &t->page, dep, msg);
}

static void tail_move(struct tail *t, uint64_t offset)
{
    t->q.from = (struct log_from){.start = LOG_START_OFFSET, .offset = offset};
}

// A page has been read; goes on behind it.
static enum conn_verdict tail_take(struct conn *c, struct tail *t, uint64_t dep)
{
    struct log_page *page = &t->page;
    enum conn_verdict v = CONN_MORE;
    struct record r;
    t->read = true;
    t->dep = dep > t->dep ? dep : t->dep;
    t->first_offset = page->first_offset;
    t->end_offset = page->end_offset;
    if (t->seeking) {
        t->seeking = !log_page_next(page, &r);
        t->at_end = t->seeking;
        if (!t->seeking)
            tail_move(t, r.offset);
    } else {
        // A start past the end stays where it is.
        uint64_t least = t->q.from.start == LOG_START_OFFSET ? t->q.from.offset : 0;
        tail_move(t, page->next > least ? page->next : least);
        t->at_end = !page->more;
        page->next = t->q.from.offset;
        if (page->records || page->truncated)
            v = binary_put_page(c, page, 0, t->dep);
    }
    log_page_release(page);
    *page = (struct log_page){0};
    return v;
}

static void cold_run(struct binary_job *j)
{
    j->e = tail_read((struct tail *)j, true, &j->dep, &j->msg);
}

static enum conn_verdict cold_reply(struct binary_job *j)
{
    return j->e ? CONN_MORE : tail_take(j->c, (struct tail *)j, j->dep); // tail_step tells of j->e
}

// The tail goes on, or is released with its session.
static void cold_release(struct binary_job *j)
{
}

// ---- watching

static void tail_wake(void *conn)
{
    conn_resume(conn);
}

static enum conn_verdict tail_watch(struct conn *c, struct tail *t)
{
    struct errmsg msg = {""};
    t->at_end = false; // whatever ends the wait, it reads again
    t->watch.wake = tail_wake;
    t->watch.arg = c;
    conn_hold(c);
    enum err e = commit_log_watch(t->job.commit, &t->q.name, tail_next(t), &t->watch, &msg);
    if (e == ERR_OK) {
        t->watching = true;
        conn_deadline(c, TAIL_IDLE_MS);
        return CONN_MORE;
    }
    conn_unhold(c);
    return e == ERR_AGAIN ? CONN_MORE : tail_fail(c, t, e, &msg, 0);
}

static void tail_unwatch(struct conn *c, struct tail *t)
{
    if (!t->watching)
        return;
    t->watching = false;
    conn_deadline(c, 0);
    if (commit_log_unwatch(t->job.commit, &t->watch))
        conn_unhold(c);
}

// ---- what binary.c calls

static enum conn_verdict tail_step(struct conn *c, struct tail *t)
{
    struct errmsg msg = {""};
    uint64_t dep = 0;
    if (t->job.e)
        return tail_fail(c, t, t->job.e, &t->job.msg, t->job.dep);
    if (t->read && t->follow && (buf_len(conn_in(c)) || conn_eof(c)))
        return tail_end(c, t);
    if (t->at_end)
        return t->follow ? tail_watch(c, t) : tail_end(c, t);
    enum err e = tail_read(t, false, &dep, &msg);
    if (e == ERR_COLD)
        return binary_job_start(c, &t->job);
    return e ? tail_fail(c, t, e, &msg, dep) : tail_take(c, t, dep);
}

enum conn_verdict binary_tail_run(struct conn *c)
{
    struct session *s = conn_state(c);
    struct tail *t = s->tail;
    tail_unwatch(c, t);
    if (conn_held(c))
        return CONN_WAIT; // a resume is on its way
    for (unsigned i = 0; i < TAIL_STEPS && conn_pending(c) < LIMIT_OUT_STOP; i++) {
        enum conn_verdict v = tail_step(c, t);
        if (v != CONN_MORE || !s->tail || t->watching)
            return v;
    }
    if (conn_pending(c) < LIMIT_OUT_STOP) {
        conn_hold(c);
        conn_resume(c); // goes on after input and after the loop's other connections
    }
    return CONN_MORE;
}

enum conn_verdict binary_tail_idle(struct conn *c)
{
    struct session *s = conn_state(c);
    if (!s->tail)
        return CONN_MORE;
    conn_deadline(c, TAIL_IDLE_MS);
    return put_empty(c, s->tail, 0);
}

void binary_tail_dead(struct conn *c)
{
    struct session *s = conn_state(c);
    if (s->tail)
        tail_unwatch(c, s->tail);
}

// The end is an offset: that of the next record.
static enum err find_end(struct tail *t, struct errmsg *msg)
{
    struct log_meta m = {.end_offset = 1};
    enum err e = commit_log_meta(t->job.commit, &t->q.name, &m, &t->dep, msg);
    if (e == ERR_OK || e == ERR_MISSING)
        tail_move(t, e ? 1 : m.end_offset);
    return e == ERR_MISSING ? ERR_OK : e;
}

enum conn_verdict binary_tail(struct conn *c, const struct frame *f)
{
    struct session *s = conn_state(c);
    struct errmsg msg = {""};
    struct log_query q;
    enum err e = binary_query(f, &q, &msg);
    if (e)
        return binary_fail(c, FRAME_LOG_TAIL, e, &msg, 0);
    struct tail *t = calloc(1, sizeof *t + binary_query_bytes(&q));
    if (!t)
        return binary_fail(c, FRAME_LOG_TAIL, ERR_NO_MEMORY, NULL, 0);
    t->job = (struct binary_job){.commit = commit_of(c),
                                 .type = FRAME_LOG_TAIL,
                                 .run = cold_run,
                                 .reply = cold_reply,
                                 .release = cold_release};
    t->q = binary_query_copy(&q, t->bytes);
    t->q.max_bytes = TAIL_BYTES;
    t->follow = f->arg[2].p[3] != 0;
    t->seeking = q.from.start == LOG_START_TIME || q.from.start == LOG_START_NONCE;
    s->tail = t;
    if ((unsigned)q.from.start == LOG_START_END && (e = find_end(t, &msg)))
        return tail_fail(c, t, e, &msg, 0);
    return CONN_MORE;
}
