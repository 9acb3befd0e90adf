#include "fake_conn.h"
#include "base/assert.h"
#include "base/limits.h"
#include <stdlib.h>

struct conn *fake_conn_new(const struct protocol *p)
{
    struct conn *c = calloc(1, sizeof *c);
    VERIFY(c);
    c->protocol = p;
    c->state = calloc(1, p->state_size ? p->state_size : 1);
    VERIFY(c->state);
    buf_init(&c->in, p->in_max);
    buf_init(&c->out, LIMIT_OUT_CLOSE);
    VERIFY(!p->on_open || p->on_open(c) == ERR_OK);
    return c;
}

// Holds are dropped when the resumes are delivered, not when they are made.
static void deliver(struct conn *c)
{
    VERIFY(c->holds >= c->resumes);
    c->holds -= c->resumes;
    c->resumes = 0;
}

void fake_conn_free(struct conn *c)
{
    if (c->protocol->on_dead)
        c->protocol->on_dead(c);
    deliver(c);
    VERIFY(c->holds == 0);
    if (c->protocol->on_close)
        c->protocol->on_close(c);
    buf_release(&c->in);
    buf_release(&c->out);
    free(c->state);
    free(c);
}

static void verdict(struct conn *c, enum conn_verdict v)
{
    c->waiting = v == CONN_WAIT;
    c->closed = v == CONN_CLOSE || v == CONN_DROP;
    c->dropped = v == CONN_DROP;
}

void fake_conn_run(struct conn *c)
{
    while (!c->closed && (!c->waiting || c->resumes)) {
        deliver(c);
        verdict(c, c->protocol->on_input(c));
        if (!c->resumes)
            return;
    }
    if (c->closed)
        deliver(c);
}

void fake_conn_feed(struct conn *c, const void *p, size_t n)
{
    struct buf fresh;
    buf_init(&fresh, c->protocol->in_max);
    VERIFY(buf_append(&fresh, buf_head(&c->in), buf_len(&c->in)) == ERR_OK);
    VERIFY(buf_append(&fresh, p, n) == ERR_OK);
    buf_release(&c->in);
    c->in = fresh;
    fake_conn_run(c);
}

void fake_conn_eof(struct conn *c)
{
    c->eof = true;
    fake_conn_run(c);
}

void fake_conn_deadline(struct conn *c)
{
    VERIFY(c->deadline);
    c->deadline = 0;
    verdict(c, c->protocol->on_deadline ? c->protocol->on_deadline(c) : CONN_DROP);
}

void fake_conn_take(struct conn *c)
{
    c->taken += buf_len(&c->out);
    buf_clear(&c->out);
}

struct buf *conn_in(struct conn *c)
{
    return &c->in;
}
struct buf *conn_out(struct conn *c)
{
    return &c->out;
}
void *conn_state(struct conn *c)
{
    return c->state;
}
void *conn_arg(struct conn *c)
{
    return c->protocol->arg;
}
bool conn_eof(struct conn *c)
{
    return c->eof;
}
size_t conn_pending(const struct conn *c)
{
    return buf_len(&c->out);
}
uint64_t conn_mark(const struct conn *c)
{
    return c->taken + buf_len(&c->out);
}
void conn_gate(struct conn *c, uint64_t mark, uint64_t seq)
{
    VERIFY(mark <= conn_mark(c));
    if (seq)
        c->gates++;
    if (seq > c->gate)
        c->gate = seq;
}
void conn_deadline(struct conn *c, uint64_t ms)
{
    c->deadline = ms;
}
void conn_hold(struct conn *c)
{
    c->holds++;
}
void conn_unhold(struct conn *c)
{
    VERIFY(c->holds > 0);
    c->holds--;
}
void conn_resume(struct conn *c)
{
    VERIFY(c->holds > c->resumes);
    c->resumes++;
}
bool conn_held(const struct conn *c)
{
    return c->holds > 0;
}
bool conn_dead(const struct conn *c)
{
    return c->closed;
}
