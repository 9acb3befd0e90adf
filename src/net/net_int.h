// What the files of the net room know of each other: net.c (start, stop, accept), loop.c (the
// phases of a turn), conn.c (one connection).
#ifndef VARVE_NET_NET_INT_H
#define VARVE_NET_NET_INT_H

#include "base/assert.h"
#include "base/limits.h"
#include "base/os_net.h"
#include "net/net.h"

#include <pthread.h>
#include <stdatomic.h>

#define TICK_MS     100u // grain of all deadlines
#define WHEEL_SLOTS 128u // a later deadline is looked at once a round
#define LINGER_MS   1000u
#define GATES       8u  // of one connection; past it the newest gate takes the later sequence
#define TURN_EVENTS 256 // taken from one epoll_wait
#define ALONE_AFTER 16u // times in a row that a connection is the only one that does something
#define TURN_READS  4u  // of one connection, then the others' turn
#define LISTENERS   8u
#define SMALL_OUT   1024u // an output buffer not worth replacing by a smaller one

// Circular doubly linked lists. A link that is in no list points to itself.
struct link {
    struct link *next;
    struct link *prev;
};

static inline void link_init(struct link *l)
{
    l->next = l->prev = l;
}
static inline bool link_alone(const struct link *l)
{
    return l->next == l;
}
static inline void link_take(struct link *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    link_init(l);
}
static inline void link_append(struct link *list, struct link *l)
{
    l->prev = list->prev;
    l->next = list;
    list->prev->next = l;
    list->prev = l;
}
// Moves all of `from` to `to`, which must be empty.
static inline void link_move_all(struct link *to, struct link *from)
{
    link_init(to);
    if (link_alone(from))
        return;
    to->next = from->next;
    to->prev = from->prev;
    to->next->prev = to;
    to->prev->next = to;
    link_init(from);
}

#define LINK_CONN(l, member) ((struct conn *)(void *)((char *)(l)-offsetof(struct conn, member)))

// What an epoll event points to begins with this.
enum source { SOURCE_CONN, SOURCE_LISTENER, SOURCE_WAKE };

enum conn_state { CONN_OPEN, CONN_WAITING, CONN_BLOCKED, CONN_CLOSING, CONN_DEAD };

// Reply bytes from stream position `mark` on wait for `seq`.
struct gate {
    uint64_t mark;
    uint64_t seq;
};

struct conn {
    enum source source;
    int fd;
    enum conn_state state;
    bool opened;    // on_open has returned ERR_OK
    bool readable;  // the kernel may have input: no event will tell again
    bool rdhup;     // the kernel has told of the end of input; a recv has yet to find it
    bool eof;       // recv has found it
    bool recall;    // on_input is to be called although no input came
    bool full;      // the kernel takes no more; an event will tell
    bool fin_sent;  // CLOSING: everything has left, lingering
    bool in_shared; // `in` is the loop's chunk
    bool gate_open; // the newest gate was made in this call of on_input
    struct loop *loop;
    const struct protocol *p;
    struct buf in;
    struct buf out;
    uint64_t sent;  // reply bytes ever taken by the kernel: the stream position of out.start
    size_t charged; // buffer memory of this connection counted in loop->buffer_bytes
    unsigned holds; // the loop's thread counts; other threads give theirs back through the mailbox
    unsigned gate_count;
    unsigned gate_first;
    struct gate gates[GATES]; // ring
    // Ticks; 0: none.
    uint64_t deadline; // the protocol's
    uint64_t stall;    // when a full kernel buffer will have lasted too long
    uint64_t linger;
    uint64_t timer; // when the wheel looks at this connection next
    struct link all;
    struct link gated; // in loop->gated while gate_count
    struct link again;
    struct link wheel;
    // Shared with other threads.
    struct conn *_Atomic mail_next;
    atomic_uint resumes; // not yet taken by the loop; in the mailbox while it is not 0
    atomic_bool dead;
    _Alignas(16) uint8_t protocol_state[];
};

// loop.asleep says what wakes the loop, see loop_wait.
#define AWAKE         0u
#define ASLEEP_NOGATE UINT64_MAX

struct loop {
    enum source wake; // SOURCE_WAKE: the epoll set's name for wake_fd
    int wake_fd;
    int epfd;
    unsigned index;
    struct net *net;
    pthread_t thread;
    bool stopping;
    bool ran;                    // on_input was called this turn
    const struct conn *ran_last; // of which connection; compared only
    unsigned streak;             // how many times in a row
    uint64_t tick;
    uint64_t timed;   // ticks up to this one have been looked at
    uint64_t timers;  // connections in the wheel
    uint64_t want;    // no gated connection waits for less
    struct buf chunk; // input of the connection whose turn it is; LIMIT_READ_CHUNK
    struct buf spare; // an empty output buffer for the next that needs one; may have no memory
    struct link all;
    struct link gated;
    struct link again; // conn_turn is to be called next turn: no event will tell
    struct link dead;  // to be buried at the end of the turn
    struct link held;  // dead, but other threads hold them
    struct link wheel[WHEEL_SLOTS];
    // Counters: written by this thread only, read by any.
    _Atomic uint64_t bytes_in;
    _Atomic uint64_t bytes_out;
    _Atomic uint64_t buffer_bytes;
    _Atomic uint64_t slow_closed;
    // Written by other threads.
    _Alignas(64) _Atomic uint64_t asleep;
    struct conn *_Atomic mailbox; // newest first
    struct epoll_event events[TURN_EVENTS];
};

struct listener {
    enum source source;
    int fd;
    const struct protocol *p;
    struct net *net;
};

struct net {
    struct net_options o;
    struct loop *loops;
    struct listener listeners[LISTENERS];
    unsigned listener_count;
    bool started;
    bool stopped;
    // The first loop's.
    unsigned next_loop;
    uint64_t accept_pause; // tick at which accepting goes on; 0: it does
    bool accept_failed;    // and that has been logged
    // Shared.
    _Alignas(64) _Atomic uint64_t durable;
    _Alignas(64) _Atomic uint64_t connections;
    _Atomic uint64_t accepted;
    _Atomic uint64_t refused;
    _Atomic uint64_t drain_until; // mono_ns; 0: not stopping
};

// A counter that only this thread writes.
static inline void counter_add(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t v = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, v + n, memory_order_relaxed);
}

// conn.c. All on the loop's thread. Any of them may leave the connection DEAD; its memory stays
// until the end of the turn.
struct conn *conn_new(struct loop *l, const struct protocol *p,
                      int fd); // counts it; NULL: no memory
void conn_open(struct conn *c);
// The kernel told of `events`.
void conn_event(struct conn *c, uint32_t events);
// Reads and executes while there is something to do, for a few rounds.
void conn_turn(struct conn *c);
// Sends what may leave, then takes the steps that wait for that.
void conn_flush(struct conn *c);
void conn_resumed(struct conn *c, unsigned count);
void conn_timers(struct conn *c); // the tick it armed has come
void conn_kill(struct conn *c);
void conn_free(struct conn *c); // of a dead one without holds

// loop.c
MUST_USE
enum err loop_init(struct loop *l, struct net *n, unsigned index);
void loop_release(struct loop *l); // frees every connection as well
void *loop_main(void *loop);
void loop_wake(struct loop *l);
void loop_post(struct loop *l, struct conn *c); // any thread
void loop_again(struct loop *l, struct conn *c);
void loop_arm(struct loop *l, struct conn *c, uint64_t tick);

// net.c, on the first loop's thread.
void net_accept(struct listener *from);
void net_accept_timer(struct net *n);
void net_close_listeners(struct net *n);

#endif
