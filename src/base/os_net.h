// Sockets and readiness, the part of the seam that the simulation does not replace: thin, inline
// where hot, all of it here so that no other room calls the kernel for itself.
// ERR_AGAIN: would block. ERR_NETWORK: os_last_errno() tells.
#ifndef VARVE_BASE_OS_NET_H
#define VARVE_BASE_OS_NET_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/uio.h>

// Parses "HOST:PORT" ("127.0.0.1:8080", "[::1]:0", "localhost:80"), binds and listens,
// non-blocking. Without SO_REUSEPORT, so that a port in use is an error: ERR_IN_USE with the
// address in `msg`.
MUST_USE enum err os_listen(const char *addr, int backlog, int *fd, struct errmsg *msg);
// The bound address as text, "127.0.0.1:8080"; cap is at least 64.
MUST_USE enum err os_bound_address(int fd, char *text, size_t cap);
// True if the "HOST:PORT" text names only loopback addresses.
bool os_is_loopback(const char *addr);
// Accepts one connection: non-blocking, TCP_NODELAY, close-on-exec.
MUST_USE enum err os_accept(int listener, int *fd);
// Connects, blocking up to timeout_ms (and as long as a host's name takes to resolve); the socket
// is then blocking with TCP_NODELAY.
MUST_USE enum err os_connect(const char *addr, unsigned timeout_ms, int *fd, struct errmsg *msg);
MUST_USE enum err os_set_nonblocking(int fd, bool on);
// *got == 0 with ERR_OK: the peer closed its side.
MUST_USE enum err os_recv(int fd, void *p, size_t n, size_t *got);
MUST_USE enum err os_send(int fd, const void *p, size_t n, size_t *sent);
MUST_USE enum err os_sendv(int fd, const struct iovec *iov, int count, size_t *sent);
void os_shutdown_send(int fd);
void os_close_socket(int fd);
MUST_USE enum err os_epoll_new(int *fd);
MUST_USE enum err os_epoll_set(int epfd, int op, int fd, uint32_t events, void *ptr);
// timeout_ms < 0 waits for ever. EINTR gives *count = 0.
MUST_USE enum err os_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms,
                                int *count);
// An eventfd used to wake a loop.
MUST_USE enum err os_event_new(int *fd);
void os_event_signal(int fd);
void os_event_clear(int fd);
// Raises the soft limit on open files to at least `want` where the hard limit allows;
// *got is the limit in force afterwards.
void os_raise_fd_limit(uint64_t want, uint64_t *got);

#endif
