#include "fake_server.h"
#include "unit.h"

#include "base/os.h"
#include "base/os_net.h"
#include "client/wire.h"

static void *fake_main(void *arg)
{
    struct fake *f = arg;
    if (os_accept(f->listener, &f->fd))
        return NULL;
    assert_ok(os_set_nonblocking(f->fd, false));
    f->script(f);
    os_shutdown_send(f->fd);
    // Reads on to the end, so that the close does not reset what was sent.
    uint8_t sink[4096];
    size_t got;
    while (!os_recv(f->fd, sink, sizeof sink, &got) && got)
        ;
    os_close_socket(f->fd);
    return NULL;
}

struct varve *fake_start(struct fake *f, void (*script)(struct fake *), unsigned timeout_ms)
{
    struct errmsg msg;
    struct varve *v;
    f->script = script;
    assert_ok(os_listen("127.0.0.1:0", 16, &f->listener, &msg));
    assert_ok(os_set_nonblocking(f->listener, false));
    assert_ok(os_bound_address(f->listener, f->addr, sizeof f->addr));
    assert_int_equal(pthread_create(&f->thread, NULL, fake_main, f), 0);
    assert_int_equal(varve_connect(&v, f->addr, timeout_ms), VARVE_OK);
    return v;
}

void fake_end(struct fake *f, struct varve *v)
{
    varve_close(v);
    pthread_join(f->thread, NULL);
    os_close_socket(f->listener);
}

void fake_send(struct fake *f, const void *p, size_t n)
{
    const uint8_t *at = p;
    while (n) {
        size_t sent = 0;
        if (os_send(f->fd, at, f->chunk && f->chunk < n ? f->chunk : n, &sent))
            return;
        at += sent;
        n -= sent;
        if (f->chunk && n)
            os_sleep_us(os_real(), 200);
    }
}

static bool fake_recv(struct fake *f, void *p, size_t n)
{
    uint8_t *at = p;
    while (n) {
        size_t got;
        if (os_recv(f->fd, at, n, &got) || got == 0)
            return false;
        at += got;
        n -= got;
    }
    return true;
}

bool fake_request(struct fake *f, uint16_t *type, uint8_t *args, size_t cap, size_t *n)
{
    uint8_t head[4];
    if (!fake_recv(f, head, 2))
        return false;
    *type = load16(head);
    static const uint8_t arguments[] = {
        [WIRE_GET] = 1,         [WIRE_DELETE] = 1,       [WIRE_SET] = 2,
        [WIRE_VGET] = 1,        [WIRE_TXN] = 2,          [WIRE_LIST] = 3,
        [WIRE_STAT] = 0,        [WIRE_PING] = 1,         [WIRE_LOG_CREATE] = 2,
        [WIRE_LOG_POLICY] = 2,  [WIRE_LOG_KEYSPACE] = 1, [WIRE_LOG_META] = 2,
        [WIRE_LOG_APPEND] = 3,  [WIRE_LOG_READ] = 5,     [WIRE_LOG_TAIL] = 4,
        [WIRE_LOG_TRIM] = 3,    [WIRE_LOG_ERASE] = 3,    [WIRE_LOG_FLUSH] = 2,
        [WIRE_LOG_LIST] = 3,    [WIRE_REL_CREATE] = 2,   [WIRE_REL_INFO] = 1,
        [WIRE_REL_LIST] = 2,    [WIRE_REL_ADD] = 4,      [WIRE_REL_REMOVE] = 4,
        [WIRE_REL_EDIT] = 4,    [WIRE_REL_GET] = 2,      [WIRE_REL_PAGE] = 3,
        [WIRE_REL_COUNT] = 3,   [WIRE_REL_CONTAINS] = 4, [WIRE_REL_MANY] = 3,
        [WIRE_REL_COMBINE] = 2, [WIRE_REL_FROMS] = 2,
    };
    assert_true(*type < sizeof arguments);
    size_t count = arguments[*type];
    *n = 0;
    for (size_t i = 0; i < count; i++) {
        if (!fake_recv(f, head, 4))
            return false;
        size_t size = load32(head);
        assert_true(*n + size <= cap);
        if (!fake_recv(f, args + *n, size))
            return false;
        *n += size;
    }
    return true;
}

void fake_reply(struct fake *f, const void *body, size_t n)
{
    uint8_t frame[16384];
    assert_true(n + 4 <= sizeof frame);
    store32(frame, (uint32_t)n);
    if (n)
        memcpy(frame + 4, body, n);
    fake_send(f, frame, n + 4);
}

void script_bytes(struct fake *f)
{
    uint8_t args[4096];
    uint16_t type;
    size_t n;
    if (fake_request(f, &type, args, sizeof args, &n))
        fake_send(f, f->arg, f->n);
}

void script_silent(struct fake *f)
{
    uint8_t args[4096];
    uint16_t type;
    size_t n;
    while (fake_request(f, &type, args, sizeof args, &n))
        ;
}
