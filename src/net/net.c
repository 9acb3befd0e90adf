// Starting, stopping, accepting, and what other threads may call.
#include "net/net_int.h"
#include "base/log.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define BACKLOG      4096
#define TURN_ACCEPTS 64u

enum err net_new(struct net **out, const struct net_options *o)
{
    VERIFY(o->loops >= 1 && o->loops <= LIMIT_THREADS);
    struct net *n = aligned_alloc(_Alignof(struct net), sizeof *n);
    if (!n)
        return ERR_NO_MEMORY;
    memset(n, 0, sizeof *n);
    n->o = *o;
    n->loops = aligned_alloc(_Alignof(struct loop), o->loops * sizeof *n->loops);
    if (!n->loops) {
        free(n);
        return ERR_NO_MEMORY;
    }
    memset(n->loops, 0, o->loops * sizeof *n->loops);
    enum err e = ERR_OK;
    // Each is at least brought to a state that loop_release takes.
    for (unsigned i = 0; i < o->loops; i++) {
        enum err one = loop_init(&n->loops[i], n, i);
        e = e == ERR_OK ? one : e;
    }
    if (e != ERR_OK) {
        net_free(n);
        return e;
    }
    *out = n;
    return ERR_OK;
}

enum err net_listen(struct net *n, const struct protocol *p, const char *addr, char *bound,
                    size_t cap, struct errmsg *msg)
{
    VERIFY(!n->started && p->in_max > 0);
    if (n->listener_count == LISTENERS)
        return err_set(msg, ERR_TOO_BIG, "cannot listen on %s: already %u listeners", addr,
                       LISTENERS);
    struct listener *li = &n->listeners[n->listener_count];
    *li = (struct listener){SOURCE_LISTENER, -1, p, n};
    enum err e = os_listen(addr, BACKLOG, &li->fd, msg);
    if (e != ERR_OK)
        return e;
    e = os_bound_address(li->fd, bound, cap);
    if (e == ERR_OK)
        e = os_epoll_set(n->loops[0].epfd, EPOLL_CTL_ADD, li->fd, EPOLLIN, li);
    if (e != ERR_OK) {
        os_close_socket(li->fd);
        return err_set(msg, e, "cannot listen on %s: %s", addr, os_last_error());
    }
    n->listener_count++;
    return ERR_OK;
}

enum err net_start(struct net *n)
{
    VERIFY(!n->started);
    n->started = true;
    // Signals are the server's: no loop may be interrupted by one.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    unsigned i = 0;
    for (; i < n->o.loops; i++) {
        struct loop *l = &n->loops[i];
        if (pthread_create(&l->thread, NULL, loop_main, l) != 0)
            break;
        char name[16];
        (void)snprintf(name, sizeof name, "net-%u", i);
        (void)pthread_setname_np(l->thread, name);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (i == n->o.loops)
        return ERR_OK;
    n->stopped = true;
    atomic_store(&n->drain_until, 1);
    while (i-- > 0) {
        loop_wake(&n->loops[i]);
        (void)pthread_join(n->loops[i].thread, NULL);
    }
    return ERR_NO_MEMORY;
}

void net_stop(struct net *n, uint64_t drain_ms)
{
    if (!n->started || n->stopped)
        return;
    n->stopped = true;
    atomic_store(&n->drain_until, os_mono_ns(n->o.os) + drain_ms * 1000000u);
    // Unconditionally: the edge stays in the epoll set until the loop takes it.
    for (unsigned i = 0; i < n->o.loops; i++)
        loop_wake(&n->loops[i]);
    for (unsigned i = 0; i < n->o.loops; i++)
        (void)pthread_join(n->loops[i].thread, NULL);
}

void net_free(struct net *n)
{
    if (!n)
        return;
    net_stop(n, 0);
    net_close_listeners(n);
    for (unsigned i = 0; i < n->o.loops; i++)
        loop_release(&n->loops[i]);
    free(n->loops);
    free(n);
}

void net_durable(struct net *n, uint64_t seq)
{
    uint64_t before = atomic_load_explicit(&n->durable, memory_order_relaxed);
    do {
        if (before >= seq)
            return;
    } while (!atomic_compare_exchange_weak(&n->durable, &before, seq)); // (3) of loop.c
    for (unsigned i = 0; i < n->o.loops; i++) {
        struct loop *l = &n->loops[i];
        uint64_t asleep = atomic_load(&l->asleep); // (4)
        if (asleep != AWAKE && asleep <= seq && atomic_exchange(&l->asleep, AWAKE) != AWAKE)
            loop_wake(l);
    }
}

void net_get_stats(const struct net *n, struct net_stats *s)
{
    *s = (struct net_stats){
        .connections = atomic_load_explicit(&n->connections, memory_order_relaxed),
        .accepted = atomic_load_explicit(&n->accepted, memory_order_relaxed),
        .refused = atomic_load_explicit(&n->refused, memory_order_relaxed),
    };
    for (unsigned i = 0; i < n->o.loops; i++) {
        const struct loop *l = &n->loops[i];
        s->bytes_in += atomic_load_explicit(&l->bytes_in, memory_order_relaxed);
        s->bytes_out += atomic_load_explicit(&l->bytes_out, memory_order_relaxed);
        s->buffer_bytes += atomic_load_explicit(&l->buffer_bytes, memory_order_relaxed);
        s->slow_closed += atomic_load_explicit(&l->slow_closed, memory_order_relaxed);
    }
}

static void net_watch_listeners(struct net *n, uint32_t events)
{
    for (unsigned i = 0; i < n->listener_count; i++) {
        struct listener *li = &n->listeners[i];
        // Fails only without kernel memory; then accepting goes on failing and is logged.
        if (os_epoll_set(n->loops[0].epfd, EPOLL_CTL_MOD, li->fd, events, li) != ERR_OK)
            log_event(LOG_WARN, "listener_lost", "protocol=%s error=%s", li->p->name,
                      log_quote(os_last_error()));
    }
}

// Out of descriptors or memory: the connection stays in the backlog, and trying again at once would
// spin.
static void net_pause_accept(struct net *n, const char *why)
{
    if (!n->accept_failed)
        log_event(LOG_WARN, "accept_failed", "error=%s", log_quote(why));
    n->accept_failed = true;
    n->accept_pause = n->loops[0].tick + 1;
    net_watch_listeners(n, 0);
}

void net_accept_timer(struct net *n)
{
    if (!n->accept_pause || n->loops[0].tick < n->accept_pause)
        return;
    n->accept_pause = 0;
    net_watch_listeners(n, EPOLLIN);
}

void net_accept(struct listener *from)
{
    struct net *n = from->net;
    for (unsigned i = 0; i < TURN_ACCEPTS && !n->accept_pause; i++) {
        int fd;
        enum err e = os_accept(from->fd, &fd);
        if (e == ERR_AGAIN)
            return;
        if (e != ERR_OK) {
            net_pause_accept(n, os_last_error());
            return;
        }
        n->accept_failed = false;
        if (atomic_load_explicit(&n->connections, memory_order_relaxed) >= n->o.max_connections) {
            counter_add(&n->refused, 1); // before the peer can see it
            os_close_socket(fd);
            continue;
        }
        struct loop *l = &n->loops[n->next_loop];
        n->next_loop = (n->next_loop + 1) % n->o.loops;
        struct conn *c = conn_new(l, from->p, fd);
        if (!c) {
            os_close_socket(fd);
            net_pause_accept(n, err_text(ERR_NO_MEMORY));
            return;
        }
        counter_add(&n->accepted, 1);
        if (l->index == 0)
            conn_open(c);
        else
            loop_post(l, c);
    }
}

void net_close_listeners(struct net *n)
{
    for (unsigned i = 0; i < n->listener_count; i++)
        os_close_socket(n->listeners[i].fd);
    n->listener_count = 0;
    n->accept_pause = 0;
}
