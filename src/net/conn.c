// One connection: its states (net/net.h), its buffers, its gates. Everything here runs on the
// loop's thread but conn_resume and conn_dead.
#include "net/net_int.h"

#include <stdlib.h>

struct conn *conn_new(struct loop *l, const struct protocol *p, int fd)
{
    size_t size = sizeof(struct conn) + p->state_size;
    struct conn *c = calloc(1, size);
    if (!c)
        return NULL;
    c->source = SOURCE_CONN;
    c->fd = fd;
    c->loop = l;
    c->p = p;
    buf_init(&c->in, p->in_max);
    buf_init(&c->out, LIMIT_OUT_CLOSE);
    link_init(&c->all);
    link_init(&c->gated);
    link_init(&c->again);
    link_init(&c->wheel);
    atomic_fetch_add_explicit(&l->net->connections, 1, memory_order_relaxed);
    return c;
}

void conn_free(struct conn *c)
{
    VERIFY(c->state == CONN_DEAD && c->fd < 0);
    if (c->opened && c->p->on_close)
        c->p->on_close(c);
    free(c);
}

// ---- what protocols see

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
    return c->protocol_state;
}

void *conn_arg(struct conn *c)
{
    return c->p->arg;
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
    return c->sent + buf_len(&c->out);
}

void conn_hold(struct conn *c)
{
    c->holds++;
}

void conn_unhold(struct conn *c)
{
    VERIFY(c->holds > 0 && c->state != CONN_DEAD); // no callback runs on a dead connection
    c->holds--;
}

bool conn_held(const struct conn *c)
{
    return c->holds > 0;
}

void conn_resume(struct conn *c)
{
    struct loop *l = c->loop;
    // The first of several puts it in the mailbox; the others must not touch it after the addition.
    if (atomic_fetch_add(&c->resumes, 1) == 0)
        loop_post(l, c);
}

bool conn_dead(const struct conn *c)
{
    return atomic_load_explicit(&c->dead, memory_order_relaxed);
}

void conn_deadline(struct conn *c, uint64_t ms)
{
    if (ms == 0) {
        c->deadline = 0;
        return;
    }
    c->deadline = c->loop->tick + (ms + TICK_MS - 1) / TICK_MS + 1; // part of this tick is over
    loop_arm(c->loop, c, c->deadline);
}

// ---- gates

// Gates leave in the order they were made, so one behind another with a later sequence needs none
// of its own. When a batch has made its gate, or the ring is full, the newest gate takes the later
// sequence: its bytes leave a little later than they might, never earlier.
void conn_gate(struct conn *c, uint64_t mark, uint64_t seq)
{
    if (seq <= atomic_load_explicit(&c->loop->net->durable, memory_order_acquire))
        return;
    VERIFY(mark >= c->sent && mark <= conn_mark(c));
    struct gate *newest = &c->gates[(c->gate_first + c->gate_count - 1) % GATES];
    if (c->gate_count && newest->seq >= seq)
        return;
    if (c->gate_count && (c->gate_open || c->gate_count == GATES)) {
        newest->seq = seq;
        return;
    }
    VERIFY(c->gate_count == 0 || newest->mark <= mark);
    c->gates[(c->gate_first + c->gate_count) % GATES] = (struct gate){mark, seq};
    c->gate_count++;
    c->gate_open = true;
    if (seq < c->loop->want)
        c->loop->want = seq;
}

// Takes away the gates that are durable; how many bytes may leave.
static size_t conn_allowed(struct conn *c)
{
    size_t len = buf_len(&c->out);
    if (c->gate_count == 0)
        return len;
    uint64_t durable = atomic_load_explicit(&c->loop->net->durable, memory_order_acquire);
    while (c->gate_count && c->gates[c->gate_first].seq <= durable) {
        c->gate_first = (c->gate_first + 1) % GATES;
        c->gate_count--;
    }
    return c->gate_count ? (size_t)(c->gates[c->gate_first].mark - c->sent) : len;
}

// ---- buffers

// Counts the buffer memory that this connection keeps between turns.
static void conn_charge(struct conn *c)
{
    size_t now = c->in.cap + c->out.cap;
    if (now == c->charged)
        return;
    counter_add(&c->loop->buffer_bytes, now - c->charged); // may wrap: the sum is right
    c->charged = now;
}

// `in` becomes the loop's chunk, with what was left of earlier input at its start.
static void conn_borrow_in(struct conn *c)
{
    struct buf *chunk = &c->loop->chunk;
    struct buf own = c->in;
    VERIFY(!c->in_shared && buf_len(&own) <= chunk->cap);
    c->in = (struct buf){.data = chunk->data, .cap = chunk->cap, .max = own.max};
    buf_put(&c->in, buf_len(&own) ? buf_head(&own) : NULL, buf_len(&own));
    buf_release(&own);
    c->in_shared = true;
}

// Gives the chunk back, keeping what is left of the input; a buffer of its own that has become too
// large shrinks. False when memory is out.
static bool conn_settle_in(struct conn *c)
{
    size_t len = buf_len(&c->in);
    if (c->in_shared) {
        VERIFY(c->in.data == c->loop->chunk.data);
        struct buf own;
        buf_init(&own, c->in.max);
        enum err e = len ? buf_append(&own, buf_head(&c->in), len) : ERR_OK;
        c->in = own;
        c->in_shared = false;
        return e == ERR_OK;
    }
    if (len == 0)
        buf_release(&c->in);
    else if (c->in.cap > LIMIT_READ_CHUNK && len <= c->in.cap / 4)
        buf_shrink(&c->in, len);
    return true;
}

// Makes the loop's spare buffer the output, with what waits already moved into it, unless `out` is
// as good itself.
static void conn_borrow_out(struct conn *c)
{
    struct buf *spare = &c->loop->spare;
    if (c->out.cap >= spare->cap / 4)
        return;
    struct buf own = c->out;
    c->out = *spare;
    buf_init(spare, spare->max);
    // The spare is empty and more than four times as large.
    if (buf_len(&own))
        buf_put(&c->out, buf_head(&own), buf_len(&own));
    buf_release(&own);
}

// Keeps no more output buffer than what waits needs; the rest of it becomes the loop's spare.
static void conn_settle_out(struct conn *c)
{
    size_t len = buf_len(&c->out);
    if (c->out.cap == 0 || (len && (len > c->out.cap / 4 || c->out.cap <= SMALL_OUT)))
        return;
    struct buf own;
    buf_init(&own, c->out.max);
    // Without memory for a smaller one it keeps the large one.
    if (len && buf_append(&own, buf_head(&c->out), len) != ERR_OK)
        return;
    struct buf *spare = &c->loop->spare;
    if (c->out.cap > spare->cap && c->out.cap <= LIMIT_OUT_STOP) {
        buf_release(spare);
        *spare = c->out;
        buf_clear(spare);
    } else {
        buf_release(&c->out);
    }
    c->out = own;
}

// ---- life and death

void conn_open(struct conn *c)
{
    struct loop *l = c->loop;
    link_append(&l->all, &c->all);
    // Edge-triggered, and for everything at once: see loop.c.
    uint32_t events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    if (l->stopping || os_epoll_set(l->epfd, EPOLL_CTL_ADD, c->fd, events, c) != ERR_OK) {
        conn_kill(c);
        return;
    }
    if (c->p->on_open && c->p->on_open(c) != ERR_OK) {
        conn_kill(c);
        return;
    }
    c->opened = true;
    conn_flush(c);
}

void conn_kill(struct conn *c)
{
    struct loop *l = c->loop;
    if (c->state == CONN_DEAD)
        return;
    if (c->opened && c->p->on_dead)
        c->p->on_dead(c);
    c->state = CONN_DEAD;
    atomic_store_explicit(&c->dead, true, memory_order_relaxed);
    os_close_socket(c->fd); // leaves the epoll set as well
    c->fd = -1;
    link_take(&c->gated);
    link_take(&c->again);
    c->gate_count = 0;
    if (c->timer) {
        link_take(&c->wheel);
        c->timer = 0;
        l->timers--;
    }
    if (c->in_shared)
        buf_init(&c->in, c->in.max);
    c->in_shared = false;
    buf_release(&c->in);
    buf_clear(&c->out);
    conn_settle_out(c);
    conn_charge(c);
    link_take(&c->all);
    link_append(&l->dead, &c->all);
    atomic_fetch_sub_explicit(&l->net->connections, 1, memory_order_relaxed);
}

// CLOSING, and everything has left.
static void conn_finish(struct conn *c)
{
    if (c->fin_sent)
        return;
    if (c->eof) {
        conn_kill(c);
        return;
    }
    // To close with input unread would reset the connection, and the reset can overtake the reply
    // in the peer's kernel. So: FIN, then read and throw away until the peer closes too.
    os_shutdown_send(c->fd);
    c->fin_sent = true;
    c->readable = true;
    c->deadline = c->stall = 0;
    c->linger = c->loop->tick + (c->loop->stopping ? 1 : LINGER_MS / TICK_MS) + 1;
    loop_arm(c->loop, c, c->linger);
    loop_again(c->loop, c);
}

// ---- output

static void conn_send(struct conn *c, size_t allowed)
{
    struct loop *l = c->loop;
    size_t sent;
    enum err e = os_send(c->fd, buf_head(&c->out), allowed, &sent);
    if (e != ERR_OK && e != ERR_AGAIN) {
        conn_kill(c);
        return;
    }
    if (e == ERR_OK) {
        buf_consume(&c->out, sent);
        c->sent += sent;
        counter_add(&l->bytes_out, sent);
    }
    c->full = sent < allowed;
    if (!c->full) {
        c->stall = 0;
    } else if (sent || !c->stall) {
        c->stall = l->tick + LIMIT_SLOW_READER_MS / TICK_MS + 1;
        loop_arm(l, c, c->stall);
    }
}

void conn_flush(struct conn *c)
{
    size_t allowed = conn_allowed(c);
    if (allowed && !c->full) {
        conn_send(c, allowed);
        if (c->state == CONN_DEAD)
            return;
    }
    if (c->gate_count == 0)
        link_take(&c->gated);
    else if (link_alone(&c->gated))
        link_append(&c->loop->gated, &c->gated);
    conn_settle_out(c);
    conn_charge(c);
    if (c->state == CONN_BLOCKED && conn_pending(c) < LIMIT_OUT_STOP / 2) {
        c->state = CONN_OPEN;
        c->recall = true;
        loop_again(c->loop, c);
    } else if (c->state == CONN_CLOSING && conn_pending(c) == 0) {
        conn_finish(c);
    }
}

// ---- input

// One recv. False when on_input has nothing new to look at, or the connection died.
static bool conn_read(struct conn *c)
{
    size_t have = buf_len(&c->in);
    size_t room = c->p->in_max - have; // not 0: conn_execute drops what fills it
    if (have <= LIMIT_READ_CHUNK / 2) {
        conn_borrow_in(c);
    } else if (buf_reserve(&c->in, have < room ? have : room) != ERR_OK) {
        conn_kill(c);
        return false;
    }
    size_t n = c->in.cap - c->in.end;
    n = n < room ? n : room;
    n = n < LIMIT_READ_CHUNK ? n : LIMIT_READ_CHUNK;
    size_t got;
    enum err e = os_recv(c->fd, buf_tail(&c->in), n, &got);
    if (e == ERR_OK && got) {
        c->in.end += got;
        counter_add(&c->loop->bytes_in, got);
        // A short recv has emptied the kernel's buffer; only a FIN may be behind it.
        c->readable = got == n || c->rdhup;
        return true;
    }
    c->readable = false;
    if (e == ERR_OK) {
        c->eof = true;
        return true;
    }
    if (e != ERR_AGAIN || !conn_settle_in(c))
        conn_kill(c);
    return false;
}

// What on_input or on_deadline has said; then sends.
static void conn_conclude(struct conn *c, enum conn_verdict v)
{
    c->gate_open = false;
    if (v == CONN_DROP || !conn_settle_in(c)) {
        conn_kill(c);
        return;
    }
    size_t len = buf_len(&c->in);
    if (v == CONN_CLOSE) {
        c->state = CONN_CLOSING;
    } else if (v == CONN_WAIT) {
        c->state = CONN_WAITING;
    } else if (conn_pending(c) >= LIMIT_OUT_STOP) {
        c->state = CONN_BLOCKED;
    } else if (c->eof) {
        c->state = CONN_CLOSING;
    } else if (len == c->p->in_max) {
        conn_kill(c); // it can neither read nor execute
        return;
    }
    if (c->state == CONN_CLOSING)
        buf_release(&c->in);
    conn_flush(c);
}

static void conn_execute(struct conn *c)
{
    c->recall = false;
    c->loop->ran = true;
    c->loop->streak = c->loop->ran_last == c ? c->loop->streak + 1 : 0;
    c->loop->ran_last = c;
    conn_borrow_out(c);
    conn_conclude(c, c->p->on_input(c));
}

// CLOSING and lingering: input is thrown away.
static void conn_discard(struct conn *c)
{
    struct buf *chunk = &c->loop->chunk;
    for (unsigned i = 0; i < TURN_READS && c->readable; i++) {
        size_t got;
        enum err e = os_recv(c->fd, chunk->data, chunk->cap, &got);
        if (e == ERR_AGAIN) {
            c->readable = false;
        } else if (e != ERR_OK || got == 0) {
            conn_kill(c);
            return;
        } else {
            c->readable = got == chunk->cap || c->rdhup;
        }
    }
    if (c->readable)
        loop_again(c->loop, c);
}

void conn_turn(struct conn *c)
{
    for (unsigned i = 0; i < TURN_READS && c->state == CONN_OPEN; i++) {
        if (!c->recall && (!c->readable || !conn_read(c)))
            break;
        conn_execute(c);
    }
    if (c->state == CONN_CLOSING && c->fin_sent) {
        conn_discard(c);
    } else if (c->state == CONN_OPEN) {
        if (c->recall || c->readable) {
            loop_again(c->loop, c);
        } else if (c->loop->stopping && buf_len(&c->in) == 0) {
            c->state = CONN_CLOSING;
            conn_flush(c);
        }
    }
}

// ---- events

void conn_event(struct conn *c, uint32_t events)
{
    if (c->state == CONN_DEAD)
        return;
    if (events & (EPOLLERR | EPOLLHUP)) {
        conn_kill(c); // reset, or both sides have closed
        return;
    }
    if (events & EPOLLRDHUP)
        c->rdhup = true;
    if (events & (EPOLLIN | EPOLLRDHUP))
        c->readable = true;
    if ((events & EPOLLOUT) && c->full) {
        c->full = false;
        c->stall = 0;
        conn_flush(c);
    }
    conn_turn(c);
}

void conn_resumed(struct conn *c, unsigned count)
{
    VERIFY(c->holds >= count);
    c->holds -= count;
    if (c->state == CONN_DEAD) {
        if (c->holds == 0) { // from loop->held, or it died this turn
            link_take(&c->all);
            link_append(&c->loop->dead, &c->all);
        }
        return;
    }
    if (c->state == CONN_WAITING)
        c->state = conn_pending(c) >= LIMIT_OUT_STOP ? CONN_BLOCKED : CONN_OPEN;
    c->recall = true;
    conn_turn(c);
}

static bool conn_due(const struct conn *c, uint64_t tick)
{
    return tick && tick <= c->loop->tick;
}

static void conn_pass_deadline(struct conn *c)
{
    c->deadline = 0;
    conn_borrow_out(c);
    conn_conclude(c, c->p->on_deadline ? c->p->on_deadline(c) : CONN_DROP);
}

void conn_timers(struct conn *c)
{
    struct loop *l = c->loop;
    if (conn_due(c, c->linger)) {
        conn_kill(c);
        return;
    }
    if (conn_due(c, c->stall)) {
        // No event tells of a little room; only trying does.
        uint64_t sent = c->sent;
        c->full = false;
        conn_flush(c);
        if (c->state != CONN_DEAD && c->full && c->sent == sent) {
            counter_add(&l->slow_closed, 1);
            conn_kill(c);
        }
        if (c->state == CONN_DEAD)
            return;
        if (!c->full)
            c->stall = 0;
    }
    if (c->state == CONN_OPEN && conn_due(c, c->deadline)) {
        conn_pass_deadline(c);
        if (c->state == CONN_DEAD)
            return;
    }
    if (c->state == CONN_CLOSING)
        c->deadline = 0;
    if (c->deadline)
        loop_arm(l, c, c->deadline); // the next tick, if it was put off
    if (c->stall)
        loop_arm(l, c, c->stall);
    if (c->linger)
        loop_arm(l, c, c->linger);
}
