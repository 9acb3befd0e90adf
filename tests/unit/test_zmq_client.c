// The client library over ZeroMQ. Without arguments: against a server of its own thread that
// answers with whatever it is told, also nonsense. With an ENDPOINT: against a real server
// (tests/blackbox/test_zmq.py runs it so).
#include "varve-zmq.h"
#include "base/slice.h"
#include "unit.h"
#include <pthread.h>
#include <stdio.h>
#include <zmq.h>

#define TIMEOUT_MS 20000

static char endpoint[256];

// ---- a scripted server

struct script {
    void *context, *socket;
    pthread_t thread;
    pthread_mutex_t lock;
    // One round, locked: what it shall answer, and what it got.
    uint8_t reply[256];
    size_t reply_n;
    uint8_t request[256];
    size_t request_n;
};

static void *serve(void *arg)
{
    struct script *s = arg;
    for (;;) {
        uint8_t request[sizeof s->request];
        int n = zmq_recv(s->socket, request, sizeof request, 0);
        if (n < 0 || (n == 4 && !memcmp(request, "stop", 4)))
            return NULL;
        pthread_mutex_lock(&s->lock);
        memcpy(s->request, request, (size_t)n);
        s->request_n = (size_t)n;
        zmq_send(s->socket, s->reply, s->reply_n, 0);
        pthread_mutex_unlock(&s->lock);
    }
}

static void script_open(struct script *s)
{
    size_t cap = sizeof endpoint;
    memset(s, 0, sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    s->context = zmq_ctx_new();
    s->socket = zmq_socket(s->context, ZMQ_REP);
    assert_int_equal(zmq_bind(s->socket, "tcp://127.0.0.1:*"), 0);
    assert_int_equal(zmq_getsockopt(s->socket, ZMQ_LAST_ENDPOINT, endpoint, &cap), 0);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void script_close(struct script *s)
{
    void *stop = zmq_socket(s->context, ZMQ_REQ);
    assert_int_equal(zmq_connect(stop, endpoint), 0);
    assert_int_equal(zmq_send(stop, "stop", 4, 0), 4);
    pthread_join(s->thread, NULL);
    int linger = 0;
    zmq_setsockopt(stop, ZMQ_LINGER, &linger, sizeof linger);
    zmq_close(stop);
    zmq_close(s->socket);
    zmq_ctx_term(s->context);
    pthread_mutex_destroy(&s->lock);
}

static struct varve_zmq *open_client(enum varve_zmq_kind kind)
{
    struct varve_zmq *z;
    if (varve_zmq_open(&z, endpoint, kind, TIMEOUT_MS))
        fail_msg("%s", varve_zmq_error_text(z));
    return z;
}

// What the server shall answer from now on.
static void answers(struct script *s, const void *p, size_t n)
{
    pthread_mutex_lock(&s->lock);
    memcpy(s->reply, p, n);
    s->reply_n = n;
    pthread_mutex_unlock(&s->lock);
}
#define ANSWERS(s, text) answers(s, text, sizeof(text) - 1)

static void assert_request(struct script *s, const void *p, size_t n)
{
    pthread_mutex_lock(&s->lock);
    assert_int_equal(s->request_n, n);
    assert_memory_equal(s->request, p, n);
    pthread_mutex_unlock(&s->lock);
}
#define ASSERT_REQUEST(s, text) assert_request(s, text, sizeof(text) - 1)

static void bytes_of_requests(void **state)
{
    struct script s;
    script_open(&s);
    struct varve_zmq *z = open_client(VARVE_ZMQ_REQ);
    const void *data;
    size_t size;
    uint64_t time = 300;
    bool deleted;
    struct varve_zmq_events events;
    ANSWERS(&s, "\0key");
    assert_int_equal(varve_zmq_put_other(z, "key", 3, "v", 1, 0), VARVE_ZMQ_OK);
    ASSERT_REQUEST(&s, "\0\3\0\0\0\0\0\0\0key\1\0\0\0\0\0\0\0v");
    assert_int_equal(varve_zmq_put_other(z, "key", 3, NULL, 0, 256), VARVE_ZMQ_OK);
    ASSERT_REQUEST(&s, "\7\3\0\0\0\0\0\0\0key\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0");
    ANSWERS(&s, "\0value");
    assert_int_equal(varve_zmq_get_other(z, "key", 3, &data, &size), VARVE_ZMQ_OK);
    ASSERT_REQUEST(&s, "\1key");
    assert_true(size == 5 && !memcmp(data, "value", 5));
    ANSWERS(&s, "\0\1\2\0\0\0\0\0\0");
    assert_int_equal(varve_zmq_put_event(z, VARVE_ZMQ_FAILURES, "e", 1, &time), VARVE_ZMQ_OK);
    ASSERT_REQUEST(&s, "\5e");
    assert_int_equal(time, 513);
    ANSWERS(&s, "\0\2\0\0\0\0\0\0\0ab");
    assert_int_equal(varve_zmq_get_events(z, VARVE_ZMQ_EVENTS, &time, &events), VARVE_ZMQ_OK);
    ASSERT_REQUEST(&s, "\3\3\0\0\0\0\0\0\000513");
    assert_true(events.count == 2 && events.size == 2 && !memcmp(events.data, "ab", 2));
    assert_int_equal(varve_zmq_get_events(z, VARVE_ZMQ_FAILURES, NULL, &events), VARVE_ZMQ_OK);
    ASSERT_REQUEST(&s, "\6");
    ANSWERS(&s, "\0\1");
    assert_int_equal(varve_zmq_delete_event(z, 513, &deleted), VARVE_ZMQ_OK);
    ASSERT_REQUEST(&s, "\10\1\2\0\0\0\0\0\0");
    assert_true(deleted);
    ANSWERS(&s, "\1no such luck");
    assert_int_equal(varve_zmq_ping(z), VARVE_ZMQ_REFUSED);
    assert_string_equal(varve_zmq_error_text(z), "no such luck");
    varve_zmq_close(z);
    script_close(&s);
}

enum { EVENT, OTHER, ALL, READ, DELETE, TRIM };

static enum varve_zmq_error ask(struct varve_zmq *z, int what)
{
    uint64_t time;
    bool deleted;
    struct varve_zmq_events events;
    struct varve_zmq_page page;
    switch (what) {
    case EVENT:
        return varve_zmq_put_event(z, VARVE_ZMQ_EVENTS, "e", 1, &time);
    case OTHER:
        return varve_zmq_put_other(z, "k", 1, "v", 1, 0);
    case ALL:
        return varve_zmq_get_all_events(z, VARVE_ZMQ_EVENTS, &events);
    case READ:
        return varve_zmq_read_events(z, VARVE_ZMQ_EVENTS, 0, 100, &page);
    case DELETE:
        return varve_zmq_delete_event(z, 1, &deleted);
    default:
        return varve_zmq_trim_events(z, VARVE_ZMQ_EVENTS, 1);
    }
}

#define U64(n) n "\0\0\0\0\0\0\0"

// A reply that does not follow the protocol breaks the connection, and is never read past its end.
static void replies_that_are_nonsense(void **state)
{
    static const struct {
        int what;
        const char *reply;
        size_t n;
    } bad[] = {
#define BAD(what, text) {what, text, sizeof(text) - 1}
        BAD(EVENT, ""),
        BAD(EVENT, "\2"),
        BAD(EVENT, "\0"),
        BAD(EVENT, "\0\1\2\3\4\5\6\7"),
        BAD(EVENT, "\0\1\2\3\4\5\6\7\10\11"),
        BAD(OTHER, "\0"),
        BAD(OTHER, "\0K"),
        BAD(ALL, "\0\1\0\0"),
        BAD(READ, "\0"),
        BAD(READ, "\0" U64("\1")),
        BAD(READ, "\0" U64("\1") U64("\1")),
        BAD(READ, "\0" U64("\1") U64("\1") U64("\1")),
        BAD(READ, "\0" U64("\1") U64("\1") U64("\1") U64("\2") "a"),
        BAD(READ, "\0" U64("\1") U64("\1") U64("\1") "\xff\xff\xff\xff\xff\xff\xff\xff"
                                                     "a"),
        BAD(READ, "\0" U64("\1") U64("\2") U64("\1") U64("\1") "a"),
        BAD(READ, "\0" U64("\1") U64("\1") U64("\1") U64("\1") "ab"),
        BAD(DELETE, "\0"),
        BAD(TRIM, "\0\0"),
    };
    struct script s;
    script_open(&s);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct varve_zmq *z = open_client(VARVE_ZMQ_REQ);
        answers(&s, bad[i].reply, bad[i].n);
        if (ask(z, bad[i].what) != VARVE_ZMQ_PROTOCOL)
            fail_msg("reply %zu was taken", i);
        assert_true(varve_zmq_error_text(z)[0]);
        assert_int_equal(varve_zmq_ping(z), VARVE_ZMQ_PROTOCOL);
        varve_zmq_close(z);
    }
    script_close(&s);
}

static void wrong_use(void **state)
{
    struct varve_zmq *z;
    uint64_t time;
    assert_int_equal(varve_zmq_open(&z, "nonsense", VARVE_ZMQ_REQ, 100), VARVE_ZMQ_INVALID);
    assert_non_null(strstr(varve_zmq_error_text(z), "nonsense"));
    assert_int_not_equal(varve_zmq_ping(z), VARVE_ZMQ_OK);
    varve_zmq_close(z);
    varve_zmq_close(NULL);

    // Nobody listens there.
    assert_int_equal(varve_zmq_open(&z, "ipc://@varve-nobody", VARVE_ZMQ_REQ, 50), VARVE_ZMQ_OK);
    assert_int_equal(varve_zmq_send_event(z, VARVE_ZMQ_EVENTS, "e", 1), VARVE_ZMQ_INVALID);
    assert_int_equal(varve_zmq_receive_event(z, &time), VARVE_ZMQ_INVALID);
    assert_int_equal(varve_zmq_ping(z), VARVE_ZMQ_TIMEOUT);
    assert_int_equal(varve_zmq_ping(z), VARVE_ZMQ_TIMEOUT);
    varve_zmq_close(z);

    assert_int_equal(varve_zmq_open(&z, "ipc://@varve-nobody", VARVE_ZMQ_DEALER, 50), VARVE_ZMQ_OK);
    enum varve_zmq_error e;
    while (!(e = varve_zmq_send_event(z, VARVE_ZMQ_EVENTS, "e", 1)))
        ;
    assert_int_equal(e, VARVE_ZMQ_FULL);
    assert_true(varve_zmq_in_flight(z) > 0);
    assert_int_equal(varve_zmq_ping(z), VARVE_ZMQ_INVALID);
    assert_int_equal(varve_zmq_receive_event(z, &time), VARVE_ZMQ_TIMEOUT);
    varve_zmq_close(z);
}

// ---- against a real server, whose streams are empty

#define OK(call)                                             \
    do {                                                     \
        if ((call) != VARVE_ZMQ_OK)                          \
            fail_msg(#call ": %s", varve_zmq_error_text(z)); \
    } while (0)

static void everything(enum varve_zmq_kind kind)
{
    struct varve_zmq *z = open_client(kind);
    const void *data;
    size_t size;
    uint64_t t[3], last = 0;
    bool deleted;
    struct varve_zmq_events events;
    struct varve_zmq_page page;
    struct varve_zmq_event event;
    OK(varve_zmq_ping(z));
    OK(varve_zmq_put_other(z, "key", 3, "value", 5, 0));
    OK(varve_zmq_get_other(z, "key", 3, &data, &size));
    assert_true(size == 5 && !memcmp(data, "value", 5));
    OK(varve_zmq_get_other(z, "none", 4, &data, &size));
    assert_int_equal(size, 0);
    assert_int_equal(varve_zmq_put_other(z, "", 0, "v", 1, 0), VARVE_ZMQ_REFUSED);
    assert_non_null(strstr(varve_zmq_error_text(z), "key is empty"));
    for (int i = 0; i < 3; i++) {
        char text[] = {'e', (char)('0' + i)};
        OK(varve_zmq_put_event(z, VARVE_ZMQ_EVENTS, text, 2, &t[i]));
        assert_true(t[i] > last);
        last = t[i];
    }
    OK(varve_zmq_get_events(z, VARVE_ZMQ_EVENTS, &t[0], &events));
    assert_true(events.count == 2 && events.size == 4 && !memcmp(events.data, "e1e2", 4));
    OK(varve_zmq_delete_event(z, t[1], &deleted));
    assert_true(deleted);
    OK(varve_zmq_get_all_events(z, VARVE_ZMQ_EVENTS, &events));
    assert_true(events.count == 2 && !memcmp(events.data, "e0e2", 4));
    OK(varve_zmq_read_events(z, VARVE_ZMQ_EVENTS, 0, 1, &page));
    assert_true(page.count == 1 && page.last == t[0] && varve_zmq_next_event(&page, &event));
    assert_true(event.time == t[0] && event.size == 2 && !memcmp(event.data, "e0", 2));
    assert_false(varve_zmq_next_event(&page, &event));
    OK(varve_zmq_trim_events(z, VARVE_ZMQ_EVENTS, t[2] + 1));
    OK(varve_zmq_get_events(z, VARVE_ZMQ_EVENTS, NULL, &events));
    assert_int_equal(events.count, 0);
    if (kind == VARVE_ZMQ_DEALER) {
        for (int i = 0; i < 500; i++)
            OK(varve_zmq_send_event(z, VARVE_ZMQ_FAILURES, &i, sizeof i));
        for (int i = 0; i < 500; i++) {
            OK(varve_zmq_receive_event(z, &t[0]));
            assert_true(i == 0 || t[0] > t[1]);
            t[1] = t[0];
        }
        OK(varve_zmq_get_events(z, VARVE_ZMQ_FAILURES, NULL, &events));
        assert_true(events.count == 500 && events.size == 500 * sizeof(int));
        for (int i = 0; i < 500; i++)
            assert_memory_equal((const char *)events.data + (size_t)i * sizeof i, &i, sizeof i);
    }
    varve_zmq_close(z);
}

static void a_real_server(void **state)
{
    everything(VARVE_ZMQ_REQ);
    everything(VARVE_ZMQ_DEALER);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest alone[] = {
        cmocka_unit_test(bytes_of_requests),
        cmocka_unit_test(replies_that_are_nonsense),
        cmocka_unit_test(wrong_use),
    };
    const struct CMUnitTest real[] = {cmocka_unit_test(a_real_server)};
    if (argc < 2)
        return cmocka_run_group_tests(alone, NULL, NULL);
    snprintf(endpoint, sizeof endpoint, "%s", argv[1]);
    return cmocka_run_group_tests(real, NULL, NULL);
}
