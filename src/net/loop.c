// One event loop: the phases of a turn (net/net.h), its mailbox, its timer wheel.
//
// Sockets are watched edge-triggered for everything from the start, so that no change of what a
// connection waits for costs a system call; what an edge has told is kept in conn.readable and
// conn.full until it is used up.
//
// Sleeping and waking. Other threads have two kinds of news: a connection in the mailbox, and a
// durable sequence that opens gates. They signal wake_fd only if the loop sleeps and cares:
//
//     the loop, before epoll_wait                 another thread
//     (1) asleep = least sequence it wants        (3) mailbox = c, or durable = seq
//     (2) reads mailbox and durable:              (4) reads asleep: if it is not AWAKE and, for a
//         news, then it does not sleep                durable sequence, not above seq: signals
//
// No news is lost: all four are sequentially consistent, so in their one order either (3) comes
// before (2), and the loop sees the news; or (2) comes before (3), hence (1) before (4), and the
// other thread sees the loop asleep and what it wants. asleep is not AWAKE again before epoll_wait
// returns, unless another thread has taken it and is about to signal. A signal that comes too late
// only makes one turn in vain. wake_fd is edge-triggered: each signal is an edge, and it is never
// read.
#include "net/net_int.h"

#include <stdlib.h>

enum err loop_init(struct loop *l, struct net *n, unsigned index)
{
    l->wake = SOURCE_WAKE;
    l->wake_fd = l->epfd = -1;
    l->index = index;
    l->net = n;
    l->want = UINT64_MAX;
    buf_init(&l->chunk, LIMIT_READ_CHUNK);
    buf_init(&l->spare, LIMIT_OUT_CLOSE);
    link_init(&l->all);
    link_init(&l->gated);
    link_init(&l->again);
    link_init(&l->dead);
    link_init(&l->held);
    for (unsigned i = 0; i < WHEEL_SLOTS; i++)
        link_init(&l->wheel[i]);
    enum err e = buf_reserve(&l->chunk, LIMIT_READ_CHUNK);
    if (e == ERR_OK)
        e = os_epoll_new(&l->epfd);
    if (e == ERR_OK)
        e = os_event_new(&l->wake_fd);
    if (e == ERR_OK)
        e = os_epoll_set(l->epfd, EPOLL_CTL_ADD, l->wake_fd, EPOLLIN | EPOLLET, l);
    return e;
}

void loop_wake(struct loop *l)
{
    os_event_signal(l->wake_fd);
}

void loop_post(struct loop *l, struct conn *c)
{
    struct conn *top = atomic_load_explicit(&l->mailbox, memory_order_relaxed);
    do
        atomic_store_explicit(&c->mail_next, top, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&l->mailbox, &top, c)); // (3); c may be gone from here on
    if (atomic_load(&l->asleep) != AWAKE && atomic_exchange(&l->asleep, AWAKE) != AWAKE)
        loop_wake(l); // (4)
}

void loop_again(struct loop *l, struct conn *c)
{
    if (link_alone(&c->again))
        link_append(&l->again, &c->again);
}

// The wheel looks at `c` at `tick` or, if that is more than a round away, earlier.
void loop_arm(struct loop *l, struct conn *c, uint64_t tick)
{
    if (c->timer && c->timer <= tick)
        return;
    if (c->timer)
        link_take(&c->wheel);
    else
        l->timers++;
    if (tick <= l->tick)
        tick = l->tick + 1;
    if (tick > l->tick + WHEEL_SLOTS - 1)
        tick = l->tick + WHEEL_SLOTS - 1;
    c->timer = tick;
    link_append(&l->wheel[tick % WHEEL_SLOTS], &c->wheel);
}

static void loop_read_clock(struct loop *l)
{
    l->tick = os_mono_ns(l->net->o.os) / (TICK_MS * 1000000ull) + 1;
}

// Phase 1: wait. Returns the number of events.
static int loop_wait(struct loop *l)
{
    struct net *n = l->net;
    // A tick may be late by a tick when nothing else happens: that is the grain of deadlines.
    bool ticking = l->timers || l->stopping || (l->index == 0 && n->accept_pause);
    int timeout = ticking ? (int)TICK_MS : -1;
    if (!link_alone(&l->again)) {
        timeout = 0;
    } else {
        atomic_store(&l->asleep, l->want);                                   // (1)
        if (atomic_load(&l->mailbox) || atomic_load(&n->durable) >= l->want) // (2)
            timeout = 0;
    }
    int count;
    enum err e = os_epoll_wait(l->epfd, l->events, TURN_EVENTS, timeout, &count);
    VERIFY(e == ERR_OK);
    atomic_store_explicit(&l->asleep, AWAKE, memory_order_relaxed);
    loop_read_clock(l);
    return count;
}

// Every connection finishes what it has received; see conn_turn.
static void loop_begin_drain(struct loop *l)
{
    l->stopping = true;
    if (l->index == 0)
        net_close_listeners(l->net);
    for (struct link *i = l->all.next, *next; i != &l->all; i = next) {
        next = i->next;
        struct conn *c = LINK_CONN(i, all);
        c->readable = true;
        conn_turn(c);
    }
}

// Phase 2: input, of connections with events and of those that had no turn left.
static void loop_input(struct loop *l, int count)
{
    struct link todo;
    link_move_all(&todo, &l->again);
    if (!l->stopping && atomic_load_explicit(&l->net->drain_until, memory_order_acquire))
        loop_begin_drain(l);
    for (int i = 0; i < count; i++) {
        enum source *source = l->events[i].data.ptr;
        if (*source == SOURCE_CONN)
            conn_event((struct conn *)(void *)source, l->events[i].events);
        else if (*source == SOURCE_LISTENER && !l->stopping)
            net_accept((struct listener *)(void *)source);
    }
    while (!link_alone(&todo)) {
        struct conn *c = LINK_CONN(todo.next, again);
        link_take(&c->again);
        conn_turn(c);
    }
}

// Phase 3: mailbox, in the order of posting.
static void loop_mailbox(struct loop *l)
{
    if (!atomic_load_explicit(&l->mailbox, memory_order_relaxed))
        return;
    struct conn *newest = atomic_exchange(&l->mailbox, NULL);
    struct conn *first = NULL;
    while (newest) {
        struct conn *next = atomic_load_explicit(&newest->mail_next, memory_order_relaxed);
        atomic_store_explicit(&newest->mail_next, first, memory_order_relaxed);
        first = newest;
        newest = next;
    }
    while (first) {
        struct conn *c = first;
        first = atomic_load_explicit(&c->mail_next, memory_order_relaxed);
        // From here on another thread may post it again: mail_next is no longer ours.
        unsigned resumes = atomic_exchange(&c->resumes, 0);
        if (resumes)
            conn_resumed(c, resumes);
        else
            conn_open(c);
    }
}

// Phase 4: kick.
static void loop_kick(struct loop *l)
{
    if (l->ran && l->net->o.after_batch)
        l->net->o.after_batch(l->net->o.arg, l->streak >= ALONE_AFTER);
    l->ran = false;
}

// Phase 5: release. l->want becomes exact again.
static void loop_open_gates(struct loop *l)
{
    if (l->want == UINT64_MAX)
        return;
    uint64_t durable = atomic_load_explicit(&l->net->durable, memory_order_acquire);
    if (durable < l->want)
        return;
    l->want = UINT64_MAX;
    for (struct link *i = l->gated.next, *next; i != &l->gated; i = next) {
        next = i->next;
        struct conn *c = LINK_CONN(i, gated);
        if (c->gates[c->gate_first].seq <= durable)
            conn_flush(c);
        if (c->gate_count && c->gates[c->gate_first].seq < l->want)
            l->want = c->gates[c->gate_first].seq;
    }
}

// Phase 6: timers.
static void loop_timers(struct loop *l)
{
    if (l->timed >= l->tick)
        return;
    if (l->index == 0)
        net_accept_timer(l->net);
    if (l->tick - l->timed > WHEEL_SLOTS)
        l->timed = l->tick - WHEEL_SLOTS; // one round reaches every slot
    while (l->timed < l->tick) {
        l->timed++;
        struct link due;
        link_move_all(&due, &l->wheel[l->timed % WHEEL_SLOTS]);
        while (!link_alone(&due)) {
            struct conn *c = LINK_CONN(due.next, wheel);
            link_take(&c->wheel);
            c->timer = 0;
            l->timers--;
            conn_timers(c);
        }
    }
}

// Ends the turn: nothing on the stack or in events[] points to a dead connection any more.
static void loop_bury(struct loop *l)
{
    while (!link_alone(&l->dead)) {
        struct conn *c = LINK_CONN(l->dead.next, all);
        link_take(&c->all);
        if (c->holds)
            link_append(&l->held, &c->all);
        else
            conn_free(c);
    }
}

static bool loop_drained(const struct loop *l)
{
    if (!l->stopping)
        return false;
    return link_alone(&l->all) ||
           os_mono_ns(l->net->o.os) >=
               atomic_load_explicit(&l->net->drain_until, memory_order_relaxed);
}

static void loop_kill_all(struct loop *l)
{
    while (!link_alone(&l->all))
        conn_kill(LINK_CONN(l->all.next, all));
    loop_bury(l);
}

void *loop_main(void *arg)
{
    struct loop *l = arg;
    loop_read_clock(l);
    l->timed = l->tick;
    while (!loop_drained(l)) {
        int count = loop_wait(l);
        loop_input(l, count);
        loop_mailbox(l);
        loop_kick(l);
        loop_open_gates(l);
        loop_timers(l);
        loop_bury(l);
    }
    loop_kill_all(l);
    return NULL;
}

// The thread has ended, or was never started, and no other thread holds a connection.
void loop_release(struct loop *l)
{
    l->stopping = true; // a connection that comes out of the mailbox new is closed
    loop_mailbox(l);
    loop_kill_all(l);
    while (!link_alone(&l->held)) {
        struct conn *c = LINK_CONN(l->held.next, all);
        link_take(&c->all);
        conn_free(c);
    }
    buf_release(&l->chunk);
    buf_release(&l->spare);
    if (l->wake_fd >= 0)
        os_close_socket(l->wake_fd);
    if (l->epfd >= 0)
        os_close_socket(l->epfd);
}
