// Batch first, then execute: what has arrived is parsed into about BATCH requests, the hash table's
// cache lines of all their keys and lists are asked for, then the requests run in order. Each reply
// is gated by what it rests on, so that a pipeline never stops for the disk.
//
// What is not in RAM stops the connection: the keys of the request and of those parsed behind it
// are fetched in one go (conn_hold, CONN_WAIT), and the request, still at the head of the input,
// runs again.
#include "edge/binary/binary_int.h"
#include "base/assert.h"
#include "base/json.h"
#include "base/limits.h"

#include <stdlib.h>

#define FETCH       64 // keys of one fetch
#define NUMBER_TEXT 32 // bytes of an integer's, float's or bool's text at most

static struct binary *binary_of(struct conn *c)
{
    return conn_arg(c);
}

// ---- replies

enum err binary_reply_begin(struct conn *c, struct binary_reply *r)
{
    *r = (struct binary_reply){c, conn_mark(c), buf_len(conn_out(c))};
    return buf_append(conn_out(c), "\0\0\0\0", 4);
}

void binary_reply_end(const struct binary_reply *r, uint64_t dep)
{
    struct buf *out = conn_out(r->c);
    store32(buf_head(out) + r->start, (uint32_t)(buf_len(out) - r->start - 4));
    conn_gate(r->c, r->mark, dep);
}

void binary_reply_cut(const struct binary_reply *r)
{
    struct buf *out = conn_out(r->c);
    out->end = out->start + r->start;
}

// The last reply: a text without a status, then the connection closes.
static enum conn_verdict refuse(struct conn *c, const char *text, uint64_t dep)
{
    struct binary_reply r;
    if (binary_reply_begin(c, &r) || buf_append(conn_out(c), text, strlen(text)))
        return CONN_DROP;
    binary_reply_end(&r, dep);
    return CONN_CLOSE;
}

enum conn_verdict binary_answer(struct conn *c, enum status status, const void *p, size_t n,
                                uint64_t dep)
{
    struct binary_reply r;
    uint8_t first = (uint8_t)status;
    if (binary_reply_begin(c, &r) || buf_append(conn_out(c), &first, 1) ||
        buf_append(conn_out(c), p, n))
        return CONN_DROP;
    binary_reply_end(&r, dep);
    return CONN_MORE;
}

enum conn_verdict binary_fail(struct conn *c, enum frame_type type, enum err e,
                              const struct errmsg *msg, uint64_t dep)
{
    const char *text = msg && msg->text[0] ? msg->text : err_text(e);
    if (type < FRAME_FIRST_STATUS)
        return refuse(c, text, dep);
    return binary_answer(c, STATUS_ERROR, text, strlen(text), dep);
}

enum err binary_need_size(const struct frame *f, unsigned arg, size_t size, const char *what,
                          struct errmsg *msg)
{
    if (f->arg[arg].n == size)
        return ERR_OK;
    return err_set(msg, ERR_INVALID, "%s: %s takes %zu bytes, not %zu", frame_name(f->type), what,
                   size, f->arg[arg].n);
}

// ---- waiting

static void on_ready(void *arg, enum err e)
{
    struct conn *c = arg;
    struct session *s = conn_state(c);
    s->wait_error = e;
    conn_resume(c);
}

static enum conn_verdict waits(struct conn *c, enum frame_type type, enum err e)
{
    if (e == ERR_OK)
        return CONN_WAIT;
    conn_unhold(c);
    return binary_fail(c, type, e, NULL, 0);
}

enum conn_verdict binary_fetch(struct conn *c, enum frame_type type, const struct key_ref *keys,
                               size_t count)
{
    conn_hold(c);
    return waits(c, type, commit_fetch(binary_of(c)->o.commit, keys, count, on_ready, c));
}

enum conn_verdict binary_txn_fetch(struct conn *c, enum frame_type type, const struct txn *t)
{
    struct session *s = conn_state(c);
    s->rounds = t->rounds;
    conn_hold(c);
    return waits(c, type, commit_txn_fetch(binary_of(c)->o.commit, t, on_ready, c));
}

uint32_t binary_rounds(struct conn *c)
{
    const struct session *s = conn_state(c);
    return s->rounds;
}

enum conn_verdict binary_rel_fetch(struct conn *c, enum frame_type type,
                                   const struct rel_ref *lists, size_t count)
{
    struct session *s = conn_state(c);
    struct errmsg msg;
    if (++s->rounds > BINARY_ROUNDS)
        return binary_fail(c, type,
                           err_set(&msg, ERR_TOO_BIG,
                                   "the lists of the request do not fit storage.memory_limit all "
                                   "at once"),
                           &msg, 0);
    conn_hold(c);
    return waits(c, type, commit_rel_fetch(binary_of(c)->o.commit, lists, count, on_ready, c));
}

enum conn_verdict binary_wait_room(struct conn *c, enum frame_type type)
{
    conn_hold(c);
    return waits(c, type, commit_wait_room(binary_of(c)->o.commit, on_ready, c));
}

static bool has_ref(enum frame_type type)
{
    return type <= FRAME_VGET; // GET, DELETE, SET, VGET
}

// The first of `count` requests has met a cold key; those behind it may be about to.
static enum conn_verdict fetch_ahead(struct conn *c, const struct request *q, size_t count)
{
    struct key_ref keys[FETCH];
    size_t n = 0;
    for (size_t i = 0; i < count && n < FETCH; i++)
        if (has_ref(q[i].frame.type) && q[i].ref.key.n)
            keys[n++] = q[i].ref;
    return binary_fetch(c, q->frame.type, keys, n);
}

// ---- single keys

struct emit {
    struct buf *out;
    enum err e;
};

// GET and what SET and DELETE found: numbers and bools as their JSON text. v == NULL: nothing
// there.
static void emit_plain(void *arg, size_t op, const struct value_view *v)
{
    struct emit *m = arg;
    double d;
    if (!v)
        return;
    m->e = buf_reserve(m->out, v->value.n > NUMBER_TEXT ? v->value.n : NUMBER_TEXT);
    if (m->e)
        return;
    switch (v->type) {
    case VALUE_INT:
        VERIFY(v->value.n == 8);
        m->e = json_put_int(m->out, (int64_t)load64(v->value.p));
        break;
    case VALUE_FLOAT:
        VERIFY(v->value.n == 8);
        memcpy(&d, v->value.p, sizeof d);
        m->e = json_put_float(m->out, d);
        break;
    case VALUE_BOOL:
        VERIFY(v->value.n == 1);
        buf_put(m->out, v->value.p[0] ? "true" : "false", v->value.p[0] ? 4 : 5);
        break;
    default: // bytes, text
        buf_put(m->out, v->value.p, v->value.n);
    }
}

static void emit_get(void *arg, const struct value_view *v)
{
    emit_plain(arg, 0, v);
}

static void emit_vget(void *arg, const struct value_view *v)
{
    struct emit *m = arg;
    uint8_t head[18] = {STATUS_OK};
    store64(head + 1, v->version);
    store64(head + 9, v->expires_ms);
    head[17] = (uint8_t)v->type;
    m->e = buf_reserve(m->out, sizeof head + v->value.n);
    if (m->e)
        return;
    buf_put(m->out, head, sizeof head);
    buf_put(m->out, v->value.p, v->value.n);
}

// Ends what `e` says about a request with one key; `count` requests begin at q.
static enum conn_verdict conclude(struct conn *c, const struct request *q, size_t count,
                                  const struct binary_reply *r, enum err e,
                                  const struct errmsg *msg, uint64_t dep)
{
    if (e == ERR_OK) {
        binary_reply_end(r, dep);
        return CONN_MORE;
    }
    binary_reply_cut(r);
    if (e == ERR_COLD)
        return fetch_ahead(c, q, count);
    if (e == ERR_FULL)
        return binary_wait_room(c, q->frame.type);
    return binary_fail(c, q->frame.type, e, msg, dep);
}

static enum conn_verdict execute_get(struct conn *c, const struct request *q, size_t count)
{
    bool versioned = q->frame.type == FRAME_VGET;
    struct emit m = {conn_out(c), ERR_OK};
    struct binary_reply r;
    uint64_t dep = 0;
    if (binary_reply_begin(c, &r))
        return CONN_DROP;
    enum err e =
        commit_get(binary_of(c)->o.commit, &q->ref, versioned ? emit_vget : emit_get, &m, &dep);
    if (e == ERR_MISSING) {
        uint8_t status = STATUS_MISSING;
        e = ERR_OK;
        if (versioned)
            m.e = buf_append(m.out, &status, 1);
    }
    if (m.e)
        return CONN_DROP;
    return conclude(c, q, count, &r, e, NULL, dep);
}

// SET and DELETE: a transaction of one operation. The reply is written while the shard is locked,
// from the value that the operation replaces.
static enum conn_verdict execute_write(struct conn *c, const struct request *q, size_t count)
{
    bool set = q->frame.type == FRAME_SET;
    struct emit m = {conn_out(c), ERR_OK};
    struct txn_op op = {.kind = set ? TXN_PUT : TXN_DELETE,
                        .type = VALUE_BYTES,
                        .want_old = true,
                        .k = q->ref,
                        .value = q->frame.arg[1]};
    struct txn t = {.ops = &op, .count = 1, .emit_old = emit_plain, .arg = &m};
    struct errmsg msg = {""};
    struct binary_reply r;
    uint64_t dep = 0;
    if (binary_reply_begin(c, &r))
        return CONN_DROP;
    enum err e = commit_txn(binary_of(c)->o.commit, &t, &dep, &msg);
    if (e == ERR_OK && m.e)
        return CONN_DROP; // it is done, but there is no memory to say so
    return conclude(c, q, count, &r, e, &msg, dep);
}

// ---- STAT

static enum conn_verdict execute_stat(struct conn *c)
{
    const struct binary_options *o = &binary_of(c)->o;
    struct binary_reply r;
    uint8_t status = STATUS_OK;
    if (binary_reply_begin(c, &r) || buf_append(conn_out(c), &status, 1))
        return CONN_DROP;
    enum err e = o->stat ? o->stat(o->stat_arg, conn_out(c)) : ERR_UNSUPPORTED;
    if (e == ERR_OK) {
        binary_reply_end(&r, 0);
        return CONN_MORE;
    }
    binary_reply_cut(&r);
    return binary_fail(c, FRAME_STAT, e, NULL, 0);
}

// ---- batches

// *before: see binary_rel_change.
static enum conn_verdict execute(struct conn *c, const struct request *q, size_t count,
                                 size_t *before)
{
    struct session *s = conn_state(c);
    if (s->wait_error) {
        enum err e = s->wait_error;
        s->wait_error = ERR_OK;
        return binary_fail(c, q->frame.type, e, NULL, 0);
    }
    if (has_ref(q->frame.type) && q->ref.key.n == 0) {
        struct errmsg msg;
        (void)err_set(&msg, ERR_INVALID, "%s: the key is empty", frame_name(q->frame.type));
        return binary_fail(c, q->frame.type, ERR_INVALID, &msg, 0);
    }
    switch (q->frame.type) {
    case FRAME_GET:
    case FRAME_VGET:
        return execute_get(c, q, count);
    case FRAME_SET:
    case FRAME_DELETE:
        return execute_write(c, q, count);
    case FRAME_TXN:
        return binary_txn(c, &q->frame);
    case FRAME_LIST:
        return binary_list(c, &q->frame);
    case FRAME_STAT:
        return execute_stat(c);
    case FRAME_PING:
        return binary_answer(c, STATUS_OK, q->frame.arg[0].p, q->frame.arg[0].n, 0);
    case FRAME_LOG_APPEND:
        return binary_append(c, &q->frame);
    case FRAME_LOG_READ:
        return binary_read(c, &q->frame);
    case FRAME_LOG_TAIL:
        return binary_tail(c, &q->frame);
    case FRAME_LOG_CREATE:
    case FRAME_LOG_POLICY:
    case FRAME_LOG_KEYSPACE:
    case FRAME_LOG_META:
    case FRAME_LOG_TRIM:
    case FRAME_LOG_ERASE:
    case FRAME_LOG_FLUSH:
    case FRAME_LOG_LIST:
        return binary_log(c, &q->frame);
    case FRAME_REL_ADD:
    case FRAME_REL_REMOVE:
        return binary_rel_change(c, q, count, before);
    case FRAME_REL_EDIT:
        return binary_rel_edit(c, &q->frame);
    case FRAME_REL_CREATE:
    case FRAME_REL_INFO:
    case FRAME_REL_LIST:
    case FRAME_REL_GET:
    case FRAME_REL_PAGE:
    case FRAME_REL_COUNT:
    case FRAME_REL_CONTAINS:
        return binary_rel(c, q, count);
    case FRAME_REL_MANY:
        return binary_rel_many(c, &q->frame);
    case FRAME_REL_COMBINE:
        return binary_rel_combine(c, &q->frame);
    case FRAME_REL_FROMS:
        return binary_rel_froms(c, &q->frame);
    }
    return CONN_DROP; // not reached: the parser knows no other
}

// Parses complete requests, about BATCH of them. ERR_OK: there may be more; ERR_AGAIN: what is left
// is not a whole one; else it is not valid.
static enum err parse_batch(const struct binary *b, struct slice in, struct request *batch,
                            size_t *count, struct errmsg *msg)
{
    size_t n = 0;
    enum err e = ERR_OK;
    for (; n < BATCH || (n < BATCH_CHANGES && binary_rel_changes(batch[n - 1].frame.type)); n++) {
        e = frame_parse(in, &b->limits, &batch[n].frame, msg);
        if (e)
            break;
        in.p += batch[n].frame.size;
        in.n -= batch[n].frame.size;
        if (has_ref(batch[n].frame.type)) {
            batch[n].ref = commit_ref(b->o.commit, batch[n].frame.arg[0]);
            commit_prefetch_slot(b->o.commit, &batch[n].ref);
        } else if (binary_rel_has_list(batch[n].frame.type)) {
            binary_rel_look_up(b, &batch[n]);
        }
    }
    for (size_t i = 0; i < n; i++)
        if (has_ref(batch[i].frame.type))
            commit_prefetch_entry(b->o.commit, &batch[i].ref);
        else if (binary_rel_has_list(batch[i].frame.type) && batch[i].list.relation)
            commit_rel_prefetch_list(b->o.commit, &batch[i].list);
    *count = n;
    return e;
}

static enum conn_verdict binary_input(struct conn *c)
{
    struct binary *b = binary_of(c);
    struct session *s = conn_state(c);
    struct request batch[BATCH_CHANGES];
    enum conn_verdict v = s->job ? binary_job_reply(c) : CONN_MORE;
    while (v == CONN_MORE && conn_pending(c) < LIMIT_OUT_STOP) {
        struct errmsg msg;
        size_t count, i = 0, used = 0;
        if (s->tail) {
            v = binary_tail_run(c);
            if (s->tail)
                break;
            continue;
        }
        enum err parsed = parse_batch(b, buf_slice(conn_in(c)), batch, &count, &msg);
        while (i < count && v == CONN_MORE && !s->tail && conn_pending(c) < LIMIT_OUT_STOP) {
            size_t before = 0;
            v = execute(c, &batch[i], count - i, &before);
            for (; before; before--, s->rounds = 0)
                used += batch[i++].frame.size;
            if (v == CONN_WAIT && !s->job)
                break; // it stays at the head of the input and runs again
            s->rounds = 0;
            used += batch[i++].frame.size;
        }
        buf_consume(conn_in(c), used);
        if (i < count || v != CONN_MORE || s->tail || parsed == ERR_OK)
            continue;
        if (parsed == ERR_AGAIN)
            break;
        v = refuse(c, msg.text, 0);
    }
    return v;
}

static void binary_close(struct conn *c)
{
    struct session *s = conn_state(c);
    binary_job_release(s->job);
    binary_tail_release(s->tail);
}

// ---- making

enum err binary_new(struct binary **out, const struct binary_options *o)
{
    VERIFY(o->max_key <= LIMIT_KEY_HARD && o->max_value < LIMIT_VALUE_HARD &&
           o->max_request <= LIMIT_REQUEST_HARD);
    struct binary *b = calloc(1, sizeof *b);
    if (!b)
        return ERR_NO_MEMORY;
    b->o = *o;
    b->limits = (struct frame_limits){o->max_key, o->max_value, o->max_request};
    b->protocol = (struct protocol){.name = "binary",
                                    .state_size = sizeof(struct session),
                                    .in_max = o->max_request + FRAME_HEADERS,
                                    .arg = b,
                                    .on_input = binary_input,
                                    .on_deadline = binary_tail_idle,
                                    .on_dead = binary_tail_dead,
                                    .on_close = binary_close};
    *out = b;
    return ERR_OK;
}

void binary_free(struct binary *b)
{
    free(b);
}

const struct protocol *binary_protocol(const struct binary *b)
{
    return &b->protocol;
}
