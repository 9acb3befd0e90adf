// POST /v1/put and POST /v1/txn: a JSON body becomes one transaction.
//
//   put   [{"key":K,"value":V,"version":N,"ttl_ms":T?},...]
//   txn   {"ops":[OP,...],"idempotency_key":"..."?} where OP is one of
//         {"op":"check","key":K,"version":N}
//         {"op":"put","key":K,"value":V,"version":N?,"ttl_ms":T?}
//         {"op":"delete","key":K,"version":N?}
//         {"op":"add","key":K,"delta":D,"version":N?,"ttl_ms":T?}
//         {"op":"append","keyspace":K,"key":K,"records":[R,...]}, R as in log_append.c
//         {"op":"relate","relation":R,"from":ID,"members":[ID,...]}, ID as in rel_edit.c
//         {"op":"unrelate",...}, the same
//
// K is a string or, for keys that are not UTF-8, an array of byte values. V is a string, an integer
// of 64 bits signed, a float, a bool or an array of numbers. Member names not listed, or given
// twice, are errors.
#include "base/hash.h"
#include "edge/http/log_int.h"
#include "edge/http/rel_int.h"
#include <stdarg.h>
#include <stdio.h>

#define TTL_MAX_MS (100ll * 366 * 86400 * 1000) // 100 years

enum member {
    M_OP,
    M_KEY,
    M_VALUE,
    M_VERSION,
    M_TTL,
    M_DELTA,
    M_KEYSPACE,
    M_RECORDS,
    M_RELATION,
    M_FROM,
    M_MEMBERS,
    MEMBERS
};
static const char *const member_names[MEMBERS] = {"op",       "key",   "value",    "version",
                                                  "ttl_ms",   "delta", "keyspace", "records",
                                                  "relation", "from",  "members"};
#define BIT(m) (1u << (m))

// Which members an operation must and may have.
struct shape {
    const char *name;
    enum txn_kind kind;
    unsigned required;
    unsigned allowed;
};
static const struct shape put_shape = {NULL, TXN_PUT, BIT(M_KEY) | BIT(M_VALUE) | BIT(M_VERSION),
                                       BIT(M_KEY) | BIT(M_VALUE) | BIT(M_VERSION) | BIT(M_TTL)};
static const struct shape op_shapes[] = {
    {"check", TXN_CHECK, BIT(M_OP) | BIT(M_KEY) | BIT(M_VERSION),
     BIT(M_OP) | BIT(M_KEY) | BIT(M_VERSION)},
    {"put", TXN_PUT, BIT(M_OP) | BIT(M_KEY) | BIT(M_VALUE),
     BIT(M_OP) | BIT(M_KEY) | BIT(M_VALUE) | BIT(M_VERSION) | BIT(M_TTL)},
    {"delete", TXN_DELETE, BIT(M_OP) | BIT(M_KEY), BIT(M_OP) | BIT(M_KEY) | BIT(M_VERSION)},
    {"add", TXN_ADD, BIT(M_OP) | BIT(M_KEY) | BIT(M_DELTA),
     BIT(M_OP) | BIT(M_KEY) | BIT(M_DELTA) | BIT(M_VERSION) | BIT(M_TTL)},
    {"append", TXN_APPEND, BIT(M_OP) | BIT(M_KEYSPACE) | BIT(M_KEY) | BIT(M_RECORDS),
     BIT(M_OP) | BIT(M_KEYSPACE) | BIT(M_KEY) | BIT(M_RECORDS)},
    {"relate", TXN_RELATE, BIT(M_OP) | BIT(M_RELATION) | BIT(M_FROM) | BIT(M_MEMBERS),
     BIT(M_OP) | BIT(M_RELATION) | BIT(M_FROM) | BIT(M_MEMBERS)},
    {"unrelate", TXN_UNRELATE, BIT(M_OP) | BIT(M_RELATION) | BIT(M_FROM) | BIT(M_MEMBERS),
     BIT(M_OP) | BIT(M_RELATION) | BIT(M_FROM) | BIT(M_MEMBERS)},
};

// A body being read.
struct reading {
    const struct http_options *o;
    struct http_work *work;
    bool put;         // the objects of a put, not the operations of a txn
    size_t index;     // of the object under way
    struct slice key; // its key, once known
    size_t ids_left;  // members of relations that the request may still hold
    struct errmsg *msg;
};

// A refusal that names the object: its index, and its key if that is known.
__attribute__((format(printf, 3, 4))) static unsigned refuse_op(struct reading *r, unsigned status,
                                                                const char *format, ...)
{
    char what[200];
    char key[KEY_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    const char *kind = r->put ? "object" : "operation";
    if (r->key.n)
        return refuse(r->msg, status, "%s %zu, key \"%s\": %s", kind, r->index,
                      key_text(r->key, key), what);
    return refuse(r->msg, status, "%s %zu: %s", kind, r->index, what);
}

static int member_of(struct slice name)
{
    enum member m;
    switch (name.n) {
    case 2:
        m = M_OP;
        break;
    case 3:
        m = M_KEY;
        break;
    case 4:
        m = M_FROM;
        break;
    case 5:
        m = name.p[0] == 'v' ? M_VALUE : M_DELTA;
        break;
    case 6:
        m = M_TTL;
        break;
    case 7:
        m = name.p[0] == 'v' ? M_VERSION : name.p[0] == 'r' ? M_RECORDS : M_MEMBERS;
        break;
    case 8:
        m = name.p[0] == 'k' ? M_KEYSPACE : M_RELATION;
        break;
    default:
        return -1;
    }
    return memcmp(name.p, member_names[m], name.n) == 0 ? (int)m : -1;
}

static unsigned read_members(struct reading *r, struct json v, struct json at[MEMBERS],
                             unsigned *seen)
{
    char text[KEY_TEXT];
    *seen = 0;
    r->key = slice_of(NULL, 0);
    if (json_kind(v) != JSON_OBJECT)
        return refuse_op(r, 400, "must be an object, not %s", json_kind_name(json_kind(v)));
    struct json_iter it = json_iterate(v);
    struct slice name;
    struct json value;
    while (json_next(&it, &name, &value)) {
        int m = member_of(name);
        if (m == M_KEY && json_kind(value) == JSON_STRING)
            r->key = json_string(value); // for the errors to come
        if (m < 0)
            return refuse_op(r, 400, "unknown member \"%s\"", key_text(name, text));
        if (*seen & BIT(m))
            return refuse_op(r, 400, "member \"%s\" is given twice", member_names[m]);
        *seen |= BIT(m);
        at[m] = value;
    }
    return 0;
}

static unsigned no_memory(struct reading *r)
{
    return refuse(r->msg, 503, "%s", err_text(ERR_NO_MEMORY));
}

// A key, or a keyspace: a string, or an array of bytes.
static unsigned read_name(struct reading *r, struct json v, const char *what, struct slice *name)
{
    enum json_kind kind = json_kind(v);
    if (kind == JSON_STRING) {
        *name = json_string(v);
        return 0;
    }
    if (kind != JSON_ARRAY)
        return refuse_op(r, 400, "\"%s\" must be a string or an array of bytes, not %s", what,
                         json_kind_name(kind));
    size_t n = json_count(v);
    if (n > r->o->max_key)
        return refuse_op(r, 413, "a %s of %zu bytes is over %u", what, n, r->o->max_key);
    uint8_t *p = work_alloc(r->work, n);
    if (!p)
        return no_memory(r);
    *name = slice_of(p, n);
    struct json_iter it = json_iterate(v);
    for (struct json e; json_next(&it, NULL, &e); *p++ = (uint8_t)json_int(e))
        if (json_kind(e) != JSON_INT || json_int(e) < 0 || json_int(e) > 255)
            return refuse_op(r, 400, "a %s that is an array must hold bytes, 0 to 255", what);
    return 0;
}

static unsigned read_key(struct reading *r, struct json v)
{
    struct slice key;
    unsigned status = read_name(r, v, "key", &key);
    if (status)
        return status;
    r->key = key;
    if (r->key.n == 0)
        return refuse_op(r, 400, "the key is empty");
    if (r->key.n > r->o->max_key)
        return refuse_op(r, 413, "a key of %zu bytes is over %u", r->key.n, r->o->max_key);
    return 0;
}

static unsigned read_append(struct reading *r, struct json keyspace, struct json records,
                            struct txn_op *op)
{
    struct errmsg m;
    struct log_append *a = work_alloc(r->work, sizeof *a);
    if (!a)
        return no_memory(r);
    *a = (struct log_append){.name.key = r->key};
    unsigned status = read_name(r, keyspace, "keyspace", &a->name.keyspace);
    if (status)
        return status;
    status = log_check_names(r->o, &a->name, &m);
    if (!status)
        status = log_read_records(r->o, r->work, records, a, &m);
    op->append = a;
    return status ? refuse_op(r, status, "%s", m.text) : 0;
}

static unsigned read_edit(struct reading *r, const struct json at[MEMBERS], struct txn_op *op)
{
    struct errmsg m;
    unsigned status = rel_read_edit(r->work, at[M_RELATION], at[M_FROM], at[M_MEMBERS],
                                    &r->ids_left, &op->edit, &m);
    return status ? refuse_op(r, status, "%s", m.text) : 0;
}

#define NUMBER_TEXT 28u // characters of a number and a comma at most

// An array of numbers as canonical text: no blanks, integers exact, floats as short as can be.
static unsigned read_array(struct reading *r, struct json v, struct txn_op *op)
{
    size_t count = json_count(v);
    if (count > r->o->max_value) // two characters each at least
        return refuse_op(r, 413, "a value of %zu numbers is over %u bytes", count, r->o->max_value);
    size_t cap = count * NUMBER_TEXT + 2;
    uint8_t *p = work_alloc(r->work, cap);
    if (!p)
        return no_memory(r);
    // A buffer over arena memory: it never grows, because the room is enough.
    struct buf text = {.data = p, .cap = cap, .max = cap};
    buf_put(&text, "[", 1);
    enum err e = ERR_OK;
    struct json_iter it = json_iterate(v);
    for (struct json n; !e && json_next(&it, NULL, &n);) {
        if (text.end > 1)
            buf_put(&text, ",", 1);
        switch (json_kind(n)) {
        case JSON_INT:
            e = json_put_int(&text, json_int(n));
            break;
        case JSON_FLOAT:
            e = json_put_float(&text, json_float(n));
            break;
        case JSON_UINT:
            return refuse_op(r, 400, "an integer in \"value\" is beyond 64-bit signed");
        default:
            return refuse_op(r, 400, "an array in \"value\" must hold numbers only, not %s",
                             json_kind_name(json_kind(n)));
        }
    }
    if (e)
        return no_memory(r);
    buf_put(&text, "]", 1);
    work_trim(r->work, cap - text.end);
    op->type = VALUE_ARRAY;
    op->value = slice_of(p, text.end);
    return 0;
}

static unsigned read_scalar(struct reading *r, enum value_type type, const void *p, size_t n,
                            struct txn_op *op)
{
    void *to = work_alloc(r->work, 8);
    if (!to)
        return no_memory(r);
    memcpy(to, p, n);
    op->type = (uint8_t)type;
    op->value = slice_of(to, n);
    return 0;
}

static unsigned read_value(struct reading *r, struct json v, struct txn_op *op)
{
    int64_t i;
    double d;
    uint8_t b;
    unsigned status = 0;
    switch (json_kind(v)) {
    case JSON_STRING:
        op->type = VALUE_STRING;
        op->value = json_string(v);
        break;
    case JSON_INT:
        i = json_int(v);
        return read_scalar(r, VALUE_INT, &i, sizeof i, op);
    case JSON_FLOAT:
        d = json_float(v);
        return read_scalar(r, VALUE_FLOAT, &d, sizeof d, op);
    case JSON_BOOL:
        b = json_bool(v);
        return read_scalar(r, VALUE_BOOL, &b, sizeof b, op);
    case JSON_ARRAY:
        status = read_array(r, v, op);
        break;
    case JSON_UINT:
        return refuse_op(r, 400, "\"value\" is an integer beyond 64-bit signed");
    default:
        return refuse_op(r, 400,
                         "\"value\" must be a string, number, bool or array of numbers, not %s",
                         json_kind_name(json_kind(v)));
    }
    if (!status && op->value.n > r->o->max_value)
        return refuse_op(r, 413, "a value of %zu bytes is over %u", op->value.n, r->o->max_value);
    return status;
}

static unsigned read_count(struct reading *r, struct json v, enum member m, int64_t max,
                           uint64_t *count)
{
    if (json_kind(v) != JSON_INT || json_int(v) < 0 || json_int(v) > max)
        return refuse_op(r, 400, "\"%s\" must be a whole number from 0 to %lld", member_names[m],
                         (long long)max);
    *count = (uint64_t)json_int(v);
    return 0;
}

static const struct shape *find_shape(struct reading *r, const struct json at[MEMBERS],
                                      unsigned seen)
{
    if (r->put)
        return &put_shape;
    if (!(seen & BIT(M_OP)) || json_kind(at[M_OP]) != JSON_STRING)
        return NULL;
    for (size_t i = 0; i < sizeof op_shapes / sizeof *op_shapes; i++)
        if (slice_equal(json_string(at[M_OP]), slice_str(op_shapes[i].name)))
            return &op_shapes[i];
    return NULL;
}

static unsigned read_op(struct reading *r, struct json v, struct txn_op *op)
{
    struct json at[MEMBERS];
    unsigned seen;
    unsigned status = read_members(r, v, at, &seen);
    if (status)
        return status;
    const struct shape *shape = find_shape(r, at, seen);
    if (!shape)
        return refuse_op(r, 400,
                         "\"op\" must be \"check\", \"put\", \"delete\", \"add\", "
                         "\"append\", \"relate\" or \"unrelate\"");
    for (int m = 0; m < MEMBERS; m++) {
        if ((seen & ~shape->allowed) & BIT(m))
            return refuse_op(r, 400, "unknown member \"%s\"%s%s", member_names[m],
                             shape->name ? " for " : "", shape->name ? shape->name : "");
        if ((shape->required & ~seen) & BIT(m))
            return refuse_op(r, 400, "\"%s\" is missing", member_names[m]);
    }
    *op = (struct txn_op){.kind = (uint8_t)shape->kind, .has_version = seen >> M_VERSION & 1};
    if (seen & BIT(M_RELATION))
        return read_edit(r, at, op);
    status = read_key(r, at[M_KEY]);
    op->k.key = r->key;
    if (!status && shape->kind == TXN_APPEND)
        return read_append(r, at[M_KEYSPACE], at[M_RECORDS], op);
    if (!status && (seen & BIT(M_VALUE)))
        status = read_value(r, at[M_VALUE], op);
    if (!status && (seen & BIT(M_VERSION)))
        status = read_count(r, at[M_VERSION], M_VERSION, INT64_MAX, &op->version);
    if (!status && (seen & BIT(M_TTL)))
        status = read_count(r, at[M_TTL], M_TTL, TTL_MAX_MS, &op->ttl_ms);
    if (!status && (seen & BIT(M_DELTA))) {
        if (json_kind(at[M_DELTA]) != JSON_INT)
            return refuse_op(r, 400, "\"delta\" must be an integer within 64-bit signed");
        op->delta = json_int(at[M_DELTA]);
    }
    return status;
}

// Reads an array of objects into work->ops.
static unsigned read_ops(struct reading *r, struct json list, struct txn *t)
{
    const char *what = r->put ? "the body" : "\"ops\"";
    if (json_kind(list) != JSON_ARRAY)
        return refuse(r->msg, 400, "%s must be an array of objects, not %s", what,
                      json_kind_name(json_kind(list)));
    t->count = json_count(list);
    if (t->count == 0)
        return refuse(r->msg, 400, "%s is an empty array", what);
    if (t->count > LIMIT_TXN_OPS)
        return refuse(r->msg, 413, "%s has %zu objects, over %u", what, t->count, LIMIT_TXN_OPS);
    if (!work_ops(r->work, t->count))
        return no_memory(r);
    t->ops = r->work->ops;
    struct json_iter it = json_iterate(list);
    for (struct json v; json_next(&it, NULL, &v); r->index++) {
        unsigned status = read_op(r, v, &t->ops[r->index]);
        if (status)
            return status;
    }
    return 0;
}

unsigned read_idempotency(struct slice key, struct txn *t, struct errmsg *msg)
{
    if (key.n == 0 || key.n > LIMIT_IDEMPOTENCY_KEY)
        return refuse(msg, 400, "the idempotency key must have 1 to %u bytes",
                      LIMIT_IDEMPOTENCY_KEY);
    if (t->idempotency.n)
        return refuse(msg, 400, "the idempotency key is given twice");
    t->idempotency = key;
    return 0;
}

// The members of a txn's body.
static unsigned read_txn(struct reading *r, struct json root, struct txn *t)
{
    char text[KEY_TEXT];
    struct slice name;
    struct json v;
    bool ops = false;
    if (json_kind(root) != JSON_OBJECT)
        return refuse(r->msg, 400, "the body must be an object with \"ops\", not %s",
                      json_kind_name(json_kind(root)));
    struct json_iter it = json_iterate(root);
    while (json_next(&it, &name, &v)) {
        unsigned status;
        if (slice_equal(name, slice_str("ops"))) {
            status = ops ? refuse(r->msg, 400, "\"ops\" is given twice") : read_ops(r, v, t);
            ops = true;
        } else if (slice_equal(name, slice_str("idempotency_key"))) {
            status = json_kind(v) == JSON_STRING
                         ? read_idempotency(json_string(v), t, r->msg)
                         : refuse(r->msg, 400, "\"idempotency_key\" must be a string, not %s",
                                  json_kind_name(json_kind(v)));
        } else {
            status = refuse(r->msg, 400, "unknown member \"%s\"", key_text(name, text));
        }
        if (status)
            return status;
    }
    return ops ? 0 : refuse(r->msg, 400, "\"ops\" is missing");
}

static unsigned read_body(struct request *rq, struct reading *r, struct txn *t)
{
    struct json root;
    unsigned status = 0;
    if (rq->query.n)
        return refuse(r->msg, 400, "this path takes no arguments after '?'");
    status = body_parse(rq, r->work, &root, r->msg);
    if (!status && head_has(&rq->head, FIELD_IDEMPOTENCY))
        status = read_idempotency(rq->head.field[FIELD_IDEMPOTENCY], t, r->msg);
    if (!status)
        status = r->put ? read_ops(r, root, t) : read_txn(r, root, t);
    if (!status && t->idempotency.n)
        t->request_hash = hash64(rq->body, REQUEST_SEED);
    return status;
}

static bool on_key(const struct txn_op *op)
{
    return op->kind <= TXN_ADD;
}

static void prefetch(const struct commit *c, struct txn *t)
{
    for (size_t i = 0; i < t->count; i++) {
        if (!on_key(&t->ops[i]))
            continue;
        t->ops[i].k = commit_ref(c, t->ops[i].k.key);
        commit_prefetch_slot(c, &t->ops[i].k);
    }
    for (size_t i = 0; i < t->count; i++)
        if (on_key(&t->ops[i]))
            commit_prefetch_entry(c, &t->ops[i].k);
}

// ---- replies ----

static void reply_conflicts(struct request *rq, const struct txn *t)
{
    char key[KEY_TEXT];
    struct errmsg m;
    size_t count = 0;
    const struct txn_op *first = NULL;
    for (size_t i = 0; i < t->count; i++) {
        if (t->ops[i].conflict && !first)
            first = &t->ops[i];
        count += t->ops[i].conflict;
    }
    if (!first) {
        reply_err(rq, ERR_CONFLICT, NULL);
        return;
    }
    int n =
        snprintf(m.text, sizeof m.text, "version conflict: key \"%s\" is at version %llu, not %llu",
                 key_text(first->k.key, key), (unsigned long long)first->actual,
                 (unsigned long long)first->version);
    if (count > 1)
        snprintf(m.text + n, sizeof m.text - (size_t)n, ", and %zu more", count - 1);
    reply_error(rq, 409, m.text, t->replayed ? REPLAYED : NULL);
    if (rq->failed)
        return;
    rq->out->end--; // the closing brace: more members follow
    reply_text(rq, ",\"conflicts\":[");
    bool comma = false;
    for (size_t i = 0; i < t->count; i++) {
        const struct txn_op *op = &t->ops[i];
        if (!op->conflict)
            continue;
        reply_text(rq, comma ? ",{\"key\":" : "{\"key\":");
        comma = true;
        reply_bytes(rq, op->k.key);
        reply_text(rq, ",\"expected\":");
        reply_uint(rq, op->version);
        reply_text(rq, ",\"version\":");
        reply_uint(rq, op->actual);
        reply_text(rq, "}");
    }
    reply_text(rq, "]}");
}

enum conn_verdict txn_failed(struct request *rq, const struct txn *t, enum err e,
                             const struct errmsg *msg)
{
    if (e == ERR_COLD)
        return request_txn_fetch(rq, t);
    if (e == ERR_FULL)
        return request_room(rq);
    rq->seq = 0;
    if (e == ERR_CONFLICT)
        reply_conflicts(rq, t);
    else
        reply_err(rq, e, msg);
    return CONN_MORE;
}

static void reply_append(struct request *rq, const struct log_append *a)
{
    reply_text(rq, "{\"keyspace\":");
    reply_bytes(rq, a->name.keyspace);
    reply_text(rq, ",\"key\":");
    reply_bytes(rq, a->name.key);
    reply_text(rq, ",\"first_offset\":");
    reply_uint(rq, a->first_offset);
    reply_text(rq, ",\"next_offset\":");
    reply_uint(rq, a->end_offset);
    reply_text(rq, ",\"appended\":");
    reply_uint(rq, a->appended);
    reply_text(rq, "}");
}

static void reply_related(struct request *rq, const struct txn_op *op)
{
    reply_list_name(rq, op->edit->relation, op->edit->groups[0].from, false);
    reply_text(rq, ",\"changed\":");
    reply_uint(rq, (uint64_t)op->number);
    reply_text(rq, "}");
}

static void reply_results(struct request *rq, const struct txn *t)
{
    reply_text(rq, "{\"result\":\"Success\",\"sequence\":");
    reply_uint(rq, t->seq);
    reply_text(rq, ",\"results\":[");
    for (size_t i = 0; i < t->count; i++) {
        const struct txn_op *op = &t->ops[i];
        reply_text(rq, i ? "," : "");
        if (op->kind == TXN_APPEND)
            reply_append(rq, op->append);
        if (op->kind == TXN_RELATE || op->kind == TXN_UNRELATE)
            reply_related(rq, op);
        if (!on_key(op))
            continue;
        reply_text(rq, "{\"key\":");
        reply_bytes(rq, op->k.key);
        reply_text(rq, ",\"version\":");
        reply_uint(rq, op->kind == TXN_CHECK ? op->version : op->new_version);
        if (op->kind == TXN_ADD) {
            reply_text(rq, ",\"value\":");
            reply_note(rq, json_put_int(rq->out, op->number));
        }
        reply_text(rq, "}");
    }
    reply_text(rq, "]}");
}

static enum conn_verdict execute(struct request *rq, struct http_work *w, bool put)
{
    struct errmsg m = {""};
    struct txn t = {0};
    struct reading r = {
        .o = &rq->http->o, .work = w, .put = put, .ids_left = LIMIT_REL_MEMBERS, .msg = &m};
    unsigned status = read_body(rq, &r, &t);
    if (status)
        return reply_refused(rq, status, &m);
    prefetch(rq->http->o.commit, &t);
    enum err e = commit_txn(rq->http->o.commit, &t, &rq->dep, &m);
    if (e)
        return txn_failed(rq, &t, e, &m);
    rq->seq = t.seq;
    reply_begin(rq, 200, TYPE_JSON, t.replayed ? REPLAYED : NULL);
    if (put)
        reply_text(rq, "{\"result\":\"Success\"}");
    else
        reply_results(rq, &t);
    return CONN_MORE;
}

static enum conn_verdict with_work(struct request *rq, bool put)
{
    struct http_work *w = work_get(rq->http);
    if (!w) {
        reply_err(rq, ERR_NO_MEMORY, NULL);
        return CONN_MORE;
    }
    enum conn_verdict v = execute(rq, w, put);
    work_put(rq->http, w);
    return v;
}

enum conn_verdict route_put(struct request *rq)
{
    return with_work(rq, true);
}

enum conn_verdict route_txn(struct request *rq)
{
    return with_work(rq, false);
}
