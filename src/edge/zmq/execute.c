// Running a request: "other" keys here, event streams in stream.c. A request that must wait is
// kept as it is and runs again from its start.
#include "edge/zmq/zmq_int.h"
#include "base/assert.h"
#include "base/json.h"
#include "base/os_net.h"
#include <stdlib.h>

#define FETCH       64u   // keys of one fetch
#define NUMBER_TEXT 32u   // bytes of an integer's, float's or bool's text at most
#define SMALL       4096u // replies up to this are not worth a parcel

enum { STATUS_OK, STATUS_ERROR };

// ---- replies

static void answered(struct request *q)
{
    q->answered = true;
    if (q->state != REQUEST_WAITING) // else the edge's thread says so when it has it back
        q->state = REQUEST_DONE;
}

// A reply of `size` bytes that libzmq makes room for; NULL: no memory.
static uint8_t *answer_message(struct request *q, uint8_t status, size_t size)
{
    zmq_msg_close(&q->reply);
    if (zmq_msg_init_size(&q->reply, size)) {
        zmq_msg_init(&q->reply);
        return NULL;
    }
    answered(q);
    uint8_t *p = zmq_msg_data(&q->reply);
    p[0] = status;
    return p + 1;
}

void answer_error(struct request *q, const char *text)
{
    static const char no_memory[] = "out of memory"; // so short that libzmq needs none for it
    atomic_fetch_add(&q->edge->errors, 1);
    uint8_t *p = answer_message(q, STATUS_ERROR, 1 + strlen(text));
    if (!p) {
        text = no_memory;
        p = answer_message(q, STATUS_ERROR, sizeof no_memory);
        VERIFY(p);
    }
    memcpy(p, text, strlen(text));
}

void answer_fail(struct request *q, enum err e, const struct errmsg *msg)
{
    answer_error(q, msg && msg->text[0] ? msg->text : err_text(e));
}

// On a thread of libzmq's, or where the request is freed.
static void parcel_free(void *data, void *hint)
{
    struct parcel *p = hint;
    struct client *c = p->client;
    size_t size = p->size;
    atomic_fetch_sub(&p->edge->unread, size);
    free(p);
    atomic_fetch_sub(&c->unread, size); // the last touch: the edge may forget the client now
}

bool answer_parcel(struct request *q, struct parcel *p)
{
    p->edge = q->edge;
    p->client = q->client;
    p->bytes[0] = STATUS_OK;
    zmq_msg_close(&q->reply);
    if (zmq_msg_init_data(&q->reply, p->bytes, p->size, parcel_free, p)) {
        free(p);
        zmq_msg_init(&q->reply);
        answer_fail(q, ERR_NO_MEMORY, NULL);
        return false;
    }
    atomic_fetch_add(&q->edge->unread, p->size);
    atomic_fetch_add(&q->client->unread, p->size);
    answered(q);
    return true;
}

uint8_t *answer_begin(struct request *q, size_t n)
{
    uint8_t *bytes = NULL;
    if (n < SMALL) {
        bytes = answer_message(q, STATUS_OK, 1 + n);
    } else {
        struct parcel *p = malloc(sizeof *p + 1 + n);
        if (p) {
            p->size = 1 + n;
            return answer_parcel(q, p) ? p->bytes + 1 : NULL;
        }
    }
    if (!bytes)
        answer_fail(q, ERR_NO_MEMORY, NULL);
    return bytes;
}

// ---- waiting

void request_wake(struct request *q)
{
    struct zmq_edge *z = q->edge;
    struct request *head = atomic_load(&z->woken);
    do
        q->woken = head;
    while (!atomic_compare_exchange_weak(&z->woken, &head, q));
    os_event_signal(z->wake); // the eventfd lives until the commit room is closed
}

void request_woken(void *arg, enum err e)
{
    struct request *q = arg;
    q->wait_error = e;
    request_wake(q);
}

// After a call that should have put the request on its way.
static void waits(struct request *q, enum err e)
{
    if (e == ERR_OK)
        return;
    q->state = REQUEST_READY;
    if (e == ERR_AGAIN)
        answer_error(q, "too much is waiting for the disk; try again");
    else
        answer_fail(q, e, NULL);
}

void request_background(struct request *q, void (*fn)(void *arg))
{
    q->state = REQUEST_WAITING; // before: it may come back at any moment
    waits(q, commit_background(q->edge->o.commit, fn, q));
}

// The keys of this request and of those that its client has queued behind it.
static void fetch_keys(struct request *q)
{
    struct commit *commit = q->edge->o.commit;
    struct key_ref keys[FETCH];
    size_t n = 0;
    for (struct request *r = q; r && n < FETCH && r->state == REQUEST_READY; r = r->next)
        if (r->call.id == VARVE_ZMQ_GET_OTHER && r->call.key.n)
            keys[n++] = commit_ref(commit, r->call.key);
    q->state = REQUEST_WAITING;
    waits(q, commit_fetch(commit, keys, n, request_woken, q));
}

bool request_retry(struct request *q, const struct txn *t, enum err e)
{
    struct commit *commit = q->edge->o.commit;
    if (e != ERR_COLD && e != ERR_FULL)
        return false;
    q->state = REQUEST_WAITING;
    waits(q, e == ERR_COLD ? commit_txn_fetch(commit, t, request_woken, q)
                           : commit_wait_room(commit, request_woken, q));
    return true;
}

// ---- other

// Numbers, bools and arrays go out as their JSON text, text and bytes as they are.
static void emit_value(void *arg, const struct value_view *v)
{
    struct request *q = arg;
    struct slice s = v->value;
    struct buf text;
    double d;
    buf_init(&text, NUMBER_TEXT);
    enum err e = ERR_OK;
    if (v->type == VALUE_INT) {
        e = json_put_int(&text, (int64_t)load64(s.p));
    } else if (v->type == VALUE_FLOAT) {
        memcpy(&d, s.p, sizeof d);
        e = json_put_float(&text, d);
    } else if (v->type == VALUE_BOOL) {
        s = slice_str(s.p[0] ? "true" : "false");
    }
    if (buf_len(&text))
        s = buf_slice(&text);
    if (e)
        answer_fail(q, e, NULL);
    uint8_t *p = e ? NULL : answer_begin(q, s.n);
    if (p && s.n)
        memcpy(p, s.p, s.n);
    buf_release(&text);
}

static void get_other(struct request *q)
{
    struct commit *commit = q->edge->o.commit;
    if (q->call.key.n == 0) {
        answer_error(q, "the key is empty");
        return;
    }
    struct key_ref k = commit_ref(commit, q->call.key);
    enum err e = commit_get(commit, &k, emit_value, q, &q->dep);
    if (e == ERR_COLD)
        fetch_keys(q);
    else if (e == ERR_MISSING)
        (void)answer_begin(q, 0);
    else if (e)
        answer_fail(q, e, NULL);
}

static void put_other(struct request *q)
{
    struct zmq_edge *z = q->edge;
    const struct call *c = &q->call;
    struct txn_op op = {
        .kind = TXN_PUT,
        .type = VALUE_BYTES,
        .k = commit_ref(z->o.commit, c->key),
        .value = c->value,
        .ttl_ms = c->id == VARVE_ZMQ_PUT_OTHER ? z->o.other_ttl_ms : c->ttl_ms,
    };
    struct txn t = {.ops = &op, .count = 1};
    struct errmsg msg = {""};
    if (c->key.n == 0) {
        answer_error(q, "the key is empty");
        return;
    }
    enum err e = commit_txn(z->o.commit, &t, &q->dep, &msg);
    if (request_retry(q, &t, e))
        return;
    z->wrote = true;
    uint8_t *p = NULL;
    if (e)
        answer_fail(q, e, &msg);
    else
        p = answer_begin(q, c->key.n);
    if (p)
        memcpy(p, c->key.p, c->key.n);
}

static void ping(struct request *q)
{
    uint8_t *p = answer_begin(q, q->call.value.n);
    if (p && q->call.value.n)
        memcpy(p, q->call.value.p, q->call.value.n);
}

void request_run(struct request *q)
{
    if (q->wait_error) {
        answer_fail(q, q->wait_error, NULL);
        return;
    }
    switch (q->call.id) {
    case VARVE_ZMQ_PUT_OTHER:
    case VARVE_ZMQ_PUT_OTHER_TTL:
        put_other(q);
        return;
    case VARVE_ZMQ_GET_OTHER:
        get_other(q);
        return;
    case VARVE_ZMQ_PUT_EVENT:
    case VARVE_ZMQ_PUT_FAILURE:
        stream_put(q);
        return;
    case VARVE_ZMQ_GET_EVENTS:
    case VARVE_ZMQ_GET_ALL_EVENTS:
    case VARVE_ZMQ_GET_FAILURES:
    case VARVE_ZMQ_GET_ALL_FAILURES:
    case VARVE_ZMQ_READ_EVENTS:
    case VARVE_ZMQ_READ_FAILURES:
        stream_get(q);
        return;
    case VARVE_ZMQ_DELETE_EVENT:
        stream_delete(q);
        return;
    case VARVE_ZMQ_TRIM_EVENTS:
    case VARVE_ZMQ_TRIM_FAILURES:
        stream_trim(q);
        return;
    case VARVE_ZMQ_PING:
        ping(q);
        return;
    case VARVE_ZMQ_COMMAND_COUNT:
        break;
    }
    VERIFY(q->call.id < VARVE_ZMQ_COMMAND_COUNT); // the parser knows no other
}
