// Sockets and readiness: see base/os_net.h.
#include "base/os_net.h"
#include "base/os.h"
#include "base/os_int.h"
#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static enum err fail(int error)
{
    os_note_errno(error);
    switch (error) {
    case EAGAIN:
#if EWOULDBLOCK != EAGAIN
    case EWOULDBLOCK:
#endif
        return ERR_AGAIN;
    case EADDRINUSE:
        return ERR_IN_USE;
    case ENOMEM:
        return ERR_NO_MEMORY;
    default:
        return ERR_NETWORK;
    }
}

static enum err result(int rc)
{
    return rc == 0 ? ERR_OK : fail(errno);
}

// An address text taken apart.
struct endpoint {
    char host[256];
    char port[6];
};

// `[HOST]:PORT` or `HOST:PORT`; the port is 0 to 65535.
static enum err parse(const char *addr, struct endpoint *ep, struct errmsg *msg)
{
    const char *colon = strrchr(addr, ':');
    if (!colon || colon == addr)
        return err_set(msg, ERR_INVALID, "\"%s\" is not HOST:PORT", addr);
    const char *host = addr, *end = colon;
    if (*host == '[' && end[-1] == ']') {
        host++;
        end--;
    } else if (memchr(host, ':', (size_t)(end - host))) {
        return err_set(msg, ERR_INVALID, "\"%s\": an IPv6 address needs brackets, [::1]:80", addr);
    }
    size_t n = (size_t)(end - host);
    if (n == 0 || n >= sizeof ep->host)
        return err_set(msg, ERR_INVALID, "\"%s\": the host is empty or too long", addr);
    memcpy(ep->host, host, n);
    ep->host[n] = 0;
    unsigned port = 0;
    size_t digits = 0;
    for (const char *c = colon + 1; *c; c++, digits++) {
        if (*c < '0' || *c > '9' || digits == 5)
            return err_set(msg, ERR_INVALID, "\"%s\": the port is not a number to 65535", addr);
        port = port * 10 + (unsigned)(*c - '0');
    }
    if (digits == 0 || port > 65535)
        return err_set(msg, ERR_INVALID, "\"%s\": the port is not a number to 65535", addr);
    (void)snprintf(ep->port, sizeof ep->port, "%u", port);
    return ERR_OK;
}

// All stream addresses of "HOST:PORT", for freeaddrinfo(). `doing` begins the error.
static enum err resolve(const char *addr, const char *doing, struct addrinfo **list,
                        struct errmsg *msg)
{
    struct endpoint ep;
    struct errmsg why;
    enum err e = parse(addr, &ep, &why);
    if (e != ERR_OK)
        return err_set(msg, e, "cannot %s: %s", doing, why.text);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    int rc = getaddrinfo(ep.host, ep.port, &hints, list);
    if (rc == 0)
        return ERR_OK;
    os_note_errno(rc == EAI_SYSTEM ? errno : 0);
    return err_set(msg, ERR_NETWORK, "cannot %s %s: %s", doing, addr,
                   rc == EAI_SYSTEM ? os_last_error() : gai_strerror(rc));
}

static enum err listen_on(const struct addrinfo *ai, int backlog, int *fd)
{
    *fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return fail(errno);
    int on = 1;
    // A restart need not wait for the last run's connections to time out.
    int rc = setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (rc == 0)
        rc = bind(*fd, ai->ai_addr, ai->ai_addrlen);
    if (rc == 0)
        rc = listen(*fd, backlog);
    enum err e = result(rc);
    if (e != ERR_OK)
        os_close_socket(*fd);
    return e;
}

enum err os_listen(const char *addr, int backlog, int *fd, struct errmsg *msg)
{
    struct addrinfo *list;
    enum err e = resolve(addr, "listen on", &list, msg);
    if (e != ERR_OK)
        return e;
    for (const struct addrinfo *ai = list; ai; ai = ai->ai_next) {
        e = listen_on(ai, backlog, fd);
        // A name's next address is only for machines that do not have the first.
        if (e == ERR_OK || (os_last_errno() != EAFNOSUPPORT && os_last_errno() != EADDRNOTAVAIL))
            break;
    }
    freeaddrinfo(list);
    if (e != ERR_OK)
        return err_set(msg, e, "cannot listen on %s: %s", addr, os_last_error());
    return ERR_OK;
}

enum err os_bound_address(int fd, char *text, size_t cap)
{
    VERIFY(cap >= 64);
    struct sockaddr_storage sa;
    socklen_t len = sizeof sa;
    if (getsockname(fd, (struct sockaddr *)&sa, &len) != 0)
        return fail(errno);
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getnameinfo((struct sockaddr *)&sa, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return fail(EINVAL);
    int n = snprintf(text, cap, sa.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    return n > 0 && (size_t)n < cap ? ERR_OK : fail(ENAMETOOLONG);
}

static bool is_loopback(const struct sockaddr *sa)
{
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof in);
        return ntohl(in.sin_addr.s_addr) >> 24 == 127;
    }
    if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sa, sizeof in6);
        return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr) ||
               (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr) && in6.sin6_addr.s6_addr[12] == 127);
    }
    return false;
}

bool os_is_loopback(const char *addr)
{
    struct addrinfo *list;
    if (resolve(addr, "resolve", &list, NULL) != ERR_OK)
        return false;
    bool all = true;
    for (const struct addrinfo *ai = list; ai; ai = ai->ai_next)
        all = all && is_loopback(ai->ai_addr);
    freeaddrinfo(list);
    return all;
}

static void set_nodelay(int fd)
{
    int on = 1;
    // Not for all kinds of sockets, and only a matter of speed.
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// Errors that belong to the connection that was waiting, not to the listener: take the next one
// (accept(2), "Error handling").
static bool accept_again(int error)
{
    switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return true;
    default:
        return false;
    }
}

enum err os_accept(int listener, int *fd)
{
    do
        *fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    while (*fd < 0 && accept_again(errno));
    if (*fd < 0)
        return fail(errno);
    set_nodelay(*fd);
    return ERR_OK;
}

static uint64_t now_ms(void)
{
    return os_mono_ns(os_real()) / 1000000u;
}

// Waits until the connect under way on fd has ended; its error, 0 for success.
static int connect_result(int fd, uint64_t deadline_ms)
{
    for (;;) {
        uint64_t now = now_ms();
        uint64_t left = now < deadline_ms ? deadline_ms - now : 0;
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        int n = poll(&p, 1, left > INT_MAX ? INT_MAX : (int)left);
        if (n < 0 && errno != EINTR)
            return errno;
        if (n == 0 && left == 0)
            return ETIMEDOUT;
        if (n > 0)
            break;
    }
    int error;
    socklen_t len = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 ? error : errno;
}

static enum err connect_to(const struct addrinfo *ai, uint64_t deadline_ms, int *fd)
{
    *fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return fail(errno);
    int error = connect(*fd, ai->ai_addr, ai->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS || error == EINTR)
        error = connect_result(*fd, deadline_ms);
    enum err e = error ? fail(error) : os_set_nonblocking(*fd, false);
    if (e != ERR_OK) {
        os_close_socket(*fd);
        return e == ERR_AGAIN ? ERR_NETWORK : e; // EAGAIN here means: no local ports left
    }
    set_nodelay(*fd);
    return ERR_OK;
}

enum err os_connect(const char *addr, unsigned timeout_ms, int *fd, struct errmsg *msg)
{
    struct addrinfo *list;
    enum err e = resolve(addr, "connect to", &list, msg);
    if (e != ERR_OK)
        return e;
    uint64_t deadline = now_ms() + timeout_ms;
    for (const struct addrinfo *ai = list; ai; ai = ai->ai_next) {
        e = connect_to(ai, deadline, fd);
        if (e == ERR_OK)
            break;
    }
    freeaddrinfo(list);
    if (e != ERR_OK)
        return err_set(msg, e, "cannot connect to %s: %s", addr, os_last_error());
    return ERR_OK;
}

enum err os_set_nonblocking(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return fail(errno);
    return result(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

enum err os_recv(int fd, void *p, size_t n, size_t *got)
{
    ssize_t r;
    do
        r = recv(fd, p, n, 0);
    while (r < 0 && errno == EINTR);
    *got = r > 0 ? (size_t)r : 0;
    return r >= 0 ? ERR_OK : fail(errno);
}

enum err os_send(int fd, const void *p, size_t n, size_t *sent)
{
    ssize_t r;
    do
        r = send(fd, p, n, MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    *sent = r > 0 ? (size_t)r : 0;
    return r >= 0 ? ERR_OK : fail(errno);
}

enum err os_sendv(int fd, const struct iovec *iov, int count, size_t *sent)
{
    // sendmsg instead of writev: a peer that is gone is an error, not a SIGPIPE. Past IOV_MAX the
    // rest waits for the next call, like after any short send.
    struct msghdr m = {.msg_iov = (struct iovec *)iov,
                       .msg_iovlen = (size_t)(count < IOV_MAX ? count : IOV_MAX)};
    ssize_t r;
    do
        r = sendmsg(fd, &m, MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    *sent = r > 0 ? (size_t)r : 0;
    return r >= 0 ? ERR_OK : fail(errno);
}

void os_shutdown_send(int fd)
{
    (void)shutdown(fd, SHUT_WR); // fails only when the peer is gone already
}

// Keeps os_last_errno(): it is called on the way out of failures.
void os_close_socket(int fd)
{
    (void)close(fd);
}

enum err os_epoll_new(int *fd)
{
    *fd = epoll_create1(EPOLL_CLOEXEC);
    return *fd >= 0 ? ERR_OK : fail(errno);
}

enum err os_epoll_set(int epfd, int op, int fd, uint32_t events, void *ptr)
{
    struct epoll_event e = {.events = events, .data.ptr = ptr};
    return result(epoll_ctl(epfd, op, fd, &e));
}

enum err os_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms, int *count)
{
    int n = epoll_wait(epfd, events, max, timeout_ms);
    *count = n > 0 ? n : 0;
    return n >= 0 || errno == EINTR ? ERR_OK : fail(errno);
}

enum err os_event_new(int *fd)
{
    *fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return *fd >= 0 ? ERR_OK : fail(errno);
}

void os_event_signal(int fd)
{
    uint64_t one = 1;
    ssize_t r;
    do
        r = write(fd, &one, sizeof one);
    while (r < 0 && errno == EINTR);
    VERIFY(r == sizeof one || errno == EAGAIN); // a full counter wakes the loop as well
}

void os_event_clear(int fd)
{
    uint64_t count;
    ssize_t r;
    do
        r = read(fd, &count, sizeof count);
    while (r < 0 && errno == EINTR);
    VERIFY(r == sizeof count || errno == EAGAIN);
}

void os_raise_fd_limit(uint64_t want, uint64_t *got)
{
    struct rlimit limit = {0};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < want) {
        struct rlimit more = limit;
        more.rlim_cur = want < limit.rlim_max ? want : limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &more) == 0)
            limit = more;
    }
    *got = limit.rlim_cur;
}
