// varve-echo: a bare epoll echo, the least a request and reply over TCP costs on this machine.
//
// It counts requests and answers each with the same bytes, and does nothing else: no parsing beyond
// the end of a request, no allocation after the start, one recv and one send a batch. Connections
// are handed out in turn to one epoll set a thread, as varve does, so that the two can be compared.
//
//     varve-echo [--port N] [--threads N] [--request-bytes N] [--reply-bytes N] [--http]
//
// A request ends with "\r\n\r\n", or after --request-bytes bytes. --http makes the reply a valid
// HTTP/1.1 reply of at least --reply-bytes bytes in all.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_THREADS 256
#define MAX_FDS     65536
#define MAX_REPLY   (1u << 20)
#define CHUNK       (256u << 10)
#define EVENTS      256

struct options {
    unsigned port;
    unsigned threads;
    size_t request_bytes; // 0: requests end with an empty line
    size_t reply_bytes;
    bool http;
};

// All that is kept of a connection: how far into a request its last bytes were, and what of the
// replies the kernel has not taken.
struct peer {
    size_t matched; // bytes of the terminator, or of the request
    uint64_t owed;  // reply bytes
};

struct echo {
    struct options o;
    int listener;
    int epolls[MAX_THREADS];
    struct peer peers[MAX_FDS];
    // Enough copies of the reply for a batch, so that a batch is one send. The stream of replies is
    // periodic: what is owed begins at a place within the first reply.
    char *replies;
    size_t replies_n;
};

struct worker {
    struct echo *echo;
    unsigned index;
};

static void die(const char *what)
{
    (void)fprintf(stderr, "varve-echo: %s: %s\n", what, strerror(errno));
    exit(1);
}

// Counts the requests that end in these bytes.
static uint64_t count_requests(const struct options *o, struct peer *p, const char *at, size_t n)
{
    static const char end[] = "\r\n\r\n";
    uint64_t count = 0;
    if (o->request_bytes) {
        p->matched += n;
        count = p->matched / o->request_bytes;
        p->matched %= o->request_bytes;
        return count;
    }
    const char *stop = at + n;
    while (at < stop) {
        if (p->matched == 0) {
            at = memchr(at, '\r', (size_t)(stop - at));
            if (!at)
                break;
        }
        p->matched = *at == end[p->matched] ? p->matched + 1 : *at == '\r';
        at++;
        if (p->matched == 4) {
            p->matched = 0;
            count++;
        }
    }
    return count;
}

// Sends what is owed, as far as the kernel takes it. False: the peer is gone.
static bool pay(struct echo *e, int fd, struct peer *p)
{
    size_t reply = e->o.reply_bytes;
    while (p->owed) {
        size_t skip = (reply - p->owed % reply) % reply; // of the first reply, sent before
        size_t room = e->replies_n - skip;
        size_t n = p->owed < room ? p->owed : room;
        ssize_t sent = send(fd, e->replies + skip, n, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN || errno == EINTR;
        p->owed -= (uint64_t)sent;
        if ((size_t)sent < n)
            return true;
    }
    return true;
}

static bool serve(struct echo *e, int fd, char *chunk)
{
    struct peer *p = &e->peers[fd];
    if (!pay(e, fd, p))
        return false;
    while (p->owed == 0) {
        ssize_t got = recv(fd, chunk, CHUNK, 0);
        if (got < 0)
            return errno == EAGAIN || errno == EINTR;
        if (got == 0)
            return false;
        p->owed = count_requests(&e->o, p, chunk, (size_t)got) * e->o.reply_bytes;
        if (!pay(e, fd, p))
            return false;
        if ((size_t)got < CHUNK)
            return true;
    }
    return true;
}

static void accept_all(struct echo *e, unsigned *next)
{
    for (;;) {
        int fd = accept4(e->listener, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0)
            return;
        if (fd >= MAX_FDS) {
            close(fd);
            continue;
        }
        int on = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        e->peers[fd] = (struct peer){0, 0};
        struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                 .data.fd = fd};
        if (epoll_ctl(e->epolls[*next], EPOLL_CTL_ADD, fd, &ev) != 0)
            close(fd);
        *next = (*next + 1) % e->o.threads;
    }
}

static void *run(void *arg)
{
    struct worker *w = arg;
    struct echo *e = w->echo;
    unsigned next = 0;
    struct epoll_event events[EVENTS];
    char *chunk = malloc(CHUNK);
    if (!chunk)
        die("memory");
    for (;;) {
        int n = epoll_wait(e->epolls[w->index], events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == e->listener)
                accept_all(e, &next);
            else if ((events[i].events & (EPOLLERR | EPOLLHUP)) || !serve(e, fd, chunk))
                close(fd);
            else if ((events[i].events & EPOLLRDHUP) && e->peers[fd].owed == 0)
                close(fd);
        }
    }
    return NULL;
}

static void make_replies(struct echo *e)
{
    char head[128] = "";
    int n = 0;
    if (e->o.http) {
        // The body fills what the head leaves; the head's length depends on the body's digits only.
        size_t body = e->o.reply_bytes > 80 ? e->o.reply_bytes - 80 : 0;
        n = snprintf(
            head, sizeof head,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n",
            body);
        e->o.reply_bytes = (size_t)n + body;
    }
    size_t copies = MAX_REPLY / e->o.reply_bytes + 2;
    e->replies_n = copies * e->o.reply_bytes;
    e->replies = malloc(e->replies_n);
    if (!e->replies)
        die("memory");
    memset(e->replies, 'x', e->replies_n);
    for (size_t i = 0; i < copies; i++)
        memcpy(e->replies + i * e->o.reply_bytes, head, (size_t)n);
}

static unsigned long number(const char *name, const char *text, unsigned long max)
{
    char *end;
    unsigned long v = text ? strtoul(text, &end, 10) : 0;
    if (!text || end == text || *end || v > max) {
        (void)fprintf(stderr, "varve-echo: %s wants a number up to %lu\n", name, max);
        exit(2);
    }
    return v;
}

static void parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){.port = 3999, .reply_bytes = 128};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(name, "--http") == 0) {
            o->http = true;
            continue;
        }
        i++;
        if (strcmp(name, "--port") == 0) {
            o->port = (unsigned)number(name, value, 65535);
        } else if (strcmp(name, "--threads") == 0) {
            o->threads = (unsigned)number(name, value, MAX_THREADS);
        } else if (strcmp(name, "--request-bytes") == 0) {
            o->request_bytes = number(name, value, 1u << 30);
        } else if (strcmp(name, "--reply-bytes") == 0) {
            o->reply_bytes = number(name, value, MAX_REPLY);
        } else {
            (void)fprintf(stderr, "usage: varve-echo [--port N] [--threads N] [--request-bytes N] "
                                  "[--reply-bytes N] [--http]\n");
            exit(2);
        }
    }
    if (o->threads == 0) {
        long cpus = sysconf(_SC_NPROCESSORS_ONLN);
        o->threads = cpus < 1 ? 1 : cpus > MAX_THREADS ? MAX_THREADS : (unsigned)cpus;
    }
    if (o->reply_bytes == 0)
        o->reply_bytes = 1;
}

static void listen_on(struct echo *e)
{
    e->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int on = 1;
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)e->o.port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    if (e->listener < 0 || setsockopt(e->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(e->listener, (struct sockaddr *)&addr, sizeof addr) != 0 ||
        listen(e->listener, 4096) != 0 ||
        getsockname(e->listener, (struct sockaddr *)&addr, &len) != 0)
        die("listen");
    (void)printf("listening echo 127.0.0.1:%u\nready\n", ntohs(addr.sin_port));
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    static struct echo e;
    static struct worker workers[MAX_THREADS];
    parse(&e.o, argc, argv);
    make_replies(&e);
    for (unsigned i = 0; i < e.o.threads; i++) {
        e.epolls[i] = epoll_create1(0);
        if (e.epolls[i] < 0)
            die("epoll_create");
        workers[i] = (struct worker){&e, i};
    }
    listen_on(&e);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = e.listener};
    if (epoll_ctl(e.epolls[0], EPOLL_CTL_ADD, e.listener, &ev) != 0)
        die("epoll_ctl");
    for (unsigned i = 1; i < e.o.threads; i++) {
        pthread_t t;
        if (pthread_create(&t, NULL, run, &workers[i]) != 0)
            die("thread");
    }
    (void)run(&workers[0]);
    return 0;
}
