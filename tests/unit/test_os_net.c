#include "unit.h"
#include "base/os.h"
#include "base/os_net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// A listener on a free loopback port and its address.
static int listen_free(char addr[64])
{
    int fd;
    struct errmsg msg;
    enum err e = os_listen("127.0.0.1:0", 16, &fd, &msg);
    if (e != ERR_OK)
        fail_msg("%s", msg.text);
    assert_ok(os_bound_address(fd, addr, 64));
    return fd;
}

// Waits for readiness so that no test depends on timing.
static void wait_for(int fd, uint32_t events)
{
    int ep, n;
    struct epoll_event e;
    assert_ok(os_epoll_new(&ep));
    assert_ok(os_epoll_set(ep, EPOLL_CTL_ADD, fd, events, &ep));
    assert_ok(os_epoll_wait(ep, &e, 1, 5000, &n));
    assert_int_equal(n, 1);
    assert_ptr_equal(e.data.ptr, &ep);
    os_close_socket(ep);
}

static void connect_accept_talk(void **state)
{
    char addr[64], b[16];
    int client, server, none;
    size_t n;
    int listener = listen_free(addr);
    assert_int_equal(strncmp(addr, "127.0.0.1:", 10), 0);
    assert_err(os_accept(listener, &none), ERR_AGAIN);
    assert_ok(os_connect(addr, 2000, &client, NULL));
    wait_for(listener, EPOLLIN);
    assert_ok(os_accept(listener, &server));
    assert_err(os_recv(server, b, sizeof b, &n), ERR_AGAIN); // accepted ones do not block
    assert_int_equal(n, 0);

    assert_ok(os_send(client, "hello", 5, &n));
    assert_int_equal(n, 5);
    wait_for(server, EPOLLIN);
    assert_ok(os_recv(server, b, sizeof b, &n));
    assert_int_equal(n, 5);
    assert_memory_equal(b, "hello", 5);

    struct iovec iov[2] = {{"ab", 2}, {"cd", 2}};
    assert_ok(os_sendv(server, iov, 2, &n));
    assert_int_equal(n, 4);
    assert_ok(os_recv(client, b, sizeof b, &n)); // blocks until it is there
    assert_memory_equal(b, "abcd", n);

    os_shutdown_send(client);
    wait_for(server, EPOLLIN);
    assert_ok(os_recv(server, b, sizeof b, &n));
    assert_int_equal(n, 0); // the end
    os_close_socket(client);
    os_close_socket(server);
    os_close_socket(listener);
}

static void sending_to_nobody_is_an_error_not_a_signal(void **state)
{
    char addr[64];
    int client, server;
    size_t n;
    enum err e = ERR_OK;
    int listener = listen_free(addr);
    assert_ok(os_connect(addr, 2000, &client, NULL));
    wait_for(listener, EPOLLIN);
    assert_ok(os_accept(listener, &server));
    os_close_socket(server);
    struct iovec iov = {"x", 1};
    for (int i = 0; i < 1000 && e == ERR_OK; i++) {
        e = i % 2 ? os_send(client, "x", 1, &n) : os_sendv(client, &iov, 1, &n);
        os_sleep_us(os_real(), 1000);
    }
    assert_err(e, ERR_NETWORK);
    assert_true(os_last_errno() == EPIPE || os_last_errno() == ECONNRESET);
    os_close_socket(client);
    os_close_socket(listener);
}

static void a_full_socket_says_again_and_many_pieces_are_cut(void **state)
{
    char addr[64];
    int client, server;
    size_t n, total = 0;
    int listener = listen_free(addr);
    assert_ok(os_connect(addr, 2000, &client, NULL));
    assert_ok(os_set_nonblocking(client, true));
    wait_for(listener, EPOLLIN);
    assert_ok(os_accept(listener, &server));
    static struct iovec iov[3000]; // more than the kernel takes in one call
    for (size_t i = 0; i < 3000; i++)
        iov[i] = (struct iovec){"0123456789", 10};
    assert_ok(os_sendv(client, iov, 3000, &n));
    assert_true(n > 0 && n < 30000);
    enum err e;
    while ((e = os_sendv(client, iov, 3000, &n)) == ERR_OK)
        total += n;
    assert_err(e, ERR_AGAIN);
    assert_int_equal(n, 0);
    assert_true(total > 0);
    os_close_socket(client);
    os_close_socket(server);
    os_close_socket(listener);
}

static void a_port_in_use_is_named(void **state)
{
    char addr[64], want[128];
    int second;
    struct errmsg msg;
    int listener = listen_free(addr);
    assert_err(os_listen(addr, 16, &second, &msg), ERR_IN_USE);
    (void)snprintf(want, sizeof want, "cannot listen on %s: Address already in use", addr);
    assert_string_equal(msg.text, want);
    os_close_socket(listener);
    assert_ok(os_listen(addr, 16, &second, &msg)); // and free again at once
    os_close_socket(second);
}

static void connection_refused_is_named(void **state)
{
    char addr[64], want[128];
    int fd;
    struct errmsg msg;
    os_close_socket(listen_free(addr));
    assert_err(os_connect(addr, 2000, &fd, &msg), ERR_NETWORK);
    (void)snprintf(want, sizeof want, "cannot connect to %s: Connection refused", addr);
    assert_string_equal(msg.text, want);
    assert_int_equal(os_last_errno(), ECONNREFUSED);
}

static void connect_gives_up_after_its_time(void **state)
{
    // A listener whose queue is full drops what comes next, so the connect hangs.
    int listener, fds[64];
    unsigned n = 0;
    char addr[64];
    struct errmsg msg;
    assert_ok(os_listen("127.0.0.1:0", 1, &listener, NULL));
    assert_ok(os_bound_address(listener, addr, sizeof addr));
    enum err e = ERR_OK;
    while (n < 64 && (e = os_connect(addr, 100, &fds[n], &msg)) == ERR_OK)
        n++;
    assert_err(e, ERR_NETWORK);
    assert_non_null(strstr(msg.text, "Connection timed out"));
    while (n > 0)
        os_close_socket(fds[--n]);
    os_close_socket(listener);
}

static void bad_addresses_are_explained(void **state)
{
    static const char *const bad[][2] = {
        {"127.0.0.1", "is not HOST:PORT"},
        {"", "is not HOST:PORT"},
        {":80", "is not HOST:PORT"},
        {"[]:80", "the host is empty"},
        {"::1:80", "needs brackets"},
        {"[::1", "needs brackets"},
        {"127.0.0.1:", "the port is not a number"},
        {"127.0.0.1:x", "the port is not a number"},
        {"127.0.0.1:-1", "the port is not a number"},
        {"127.0.0.1:+1", "the port is not a number"},
        {"127.0.0.1:65536", "the port is not a number"},
        {"127.0.0.1:000080", "the port is not a number"},
        {"127.0.0.1:99999999999999999999", "the port is not a number"},
    };
    int fd;
    struct errmsg msg;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_err(os_listen(bad[i][0], 1, &fd, &msg), ERR_INVALID);
        if (!strstr(msg.text, bad[i][1]) || !strstr(msg.text, bad[i][0]))
            fail_msg("%s: %s", bad[i][0], msg.text);
        assert_err(os_connect(bad[i][0], 1, &fd, &msg), ERR_INVALID);
        assert_false(os_is_loopback(bad[i][0]));
    }
    char big[600];
    memset(big, 'h', sizeof big);
    memcpy(big + sizeof big - 4, ":80", 4);
    assert_err(os_listen(big, 1, &fd, &msg), ERR_INVALID);
}

static void loopback_is_recognised(void **state)
{
    assert_true(os_is_loopback("127.0.0.1:80"));
    assert_true(os_is_loopback("127.8.9.1:0"));
    assert_true(os_is_loopback("[::1]:80"));
    assert_true(os_is_loopback("[::ffff:127.0.0.1]:80"));
    assert_true(os_is_loopback("localhost:80"));
    assert_false(os_is_loopback("0.0.0.0:80"));
    assert_false(os_is_loopback("[::]:80"));
    assert_false(os_is_loopback("10.0.0.1:80"));
    assert_false(os_is_loopback("128.0.0.1:80"));
    assert_false(os_is_loopback("[::ffff:10.0.0.1]:80"));
}

static void ipv6(void **state)
{
    int listener, client;
    char addr[64];
    struct errmsg msg;
    if (os_listen("[::1]:0", 4, &listener, &msg) != ERR_OK) {
        print_message("SKIPPED: this machine has no IPv6: %s\n", msg.text);
        skip();
    }
    assert_ok(os_bound_address(listener, addr, sizeof addr));
    assert_int_equal(strncmp(addr, "[::1]:", 6), 0);
    assert_ok(os_connect(addr, 2000, &client, &msg));
    os_close_socket(client);
    os_close_socket(listener);
}

static void an_event_wakes_until_cleared(void **state)
{
    int ev, ep, n;
    struct epoll_event e;
    assert_ok(os_event_new(&ev));
    assert_ok(os_epoll_new(&ep));
    assert_ok(os_epoll_set(ep, EPOLL_CTL_ADD, ev, EPOLLIN, &ev));
    assert_err(os_epoll_set(ep, EPOLL_CTL_ADD, ev, EPOLLIN, &ev), ERR_NETWORK);
    assert_ok(os_epoll_wait(ep, &e, 1, 0, &n));
    assert_int_equal(n, 0);
    os_event_clear(ev); // nothing to clear is no harm
    os_event_signal(ev);
    os_event_signal(ev);
    assert_ok(os_epoll_wait(ep, &e, 1, 0, &n));
    assert_int_equal(n, 1);
    os_event_clear(ev);
    assert_ok(os_epoll_wait(ep, &e, 1, 0, &n));
    assert_int_equal(n, 0);
    os_close_socket(ev);
    os_close_socket(ep);
}

static void fd_limit(void **state)
{
    uint64_t got = 0, same = 0;
    os_raise_fd_limit(64, &got);
    assert_true(got >= 64);
    os_raise_fd_limit(1, &same); // never lowered
    assert_true(same == got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connect_accept_talk),
        cmocka_unit_test(sending_to_nobody_is_an_error_not_a_signal),
        cmocka_unit_test(a_full_socket_says_again_and_many_pieces_are_cut),
        cmocka_unit_test(a_port_in_use_is_named),
        cmocka_unit_test(connection_refused_is_named),
        cmocka_unit_test(connect_gives_up_after_its_time),
        cmocka_unit_test(bad_addresses_are_explained),
        cmocka_unit_test(loopback_is_recognised),
        cmocka_unit_test(ipv6),
        cmocka_unit_test(an_event_wakes_until_cleared),
        cmocka_unit_test(fd_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
