// txn: the JSON of POST /v1/txn (docs/PROTOCOLS.md), committed over the binary protocol; prints
// JSON like that of the HTTP reply.
#include "base/json.h"
#include "base/limits.h"
#include "cli/command.h"
#include "cli/io.h"
#include "cli/record.h"
#include "cli/rel_text.h"
#include "cli/value.h"
#include <stdio.h>
#include <stdlib.h>

enum { TIMEOUT_MS = 10000 };

enum member {
    OP,
    KEY,
    VALUE,
    VERSION,
    TTL,
    DELTA,
    KEYSPACE,
    RECORDS,
    RELATION,
    FROM,
    IDS,
    MEMBERS
};
static const char *const member_names[MEMBERS] = {"op",       "key",   "value",    "version",
                                                  "ttl_ms",   "delta", "keyspace", "records",
                                                  "relation", "from",  "members"};
#define BIT(m) (1u << (m))

// Which members an operation must have, and may have besides.
static const struct {
    const char *name;
    enum varve_op_kind kind;
    unsigned must, may;
} shapes[] = {
    {"check", VARVE_OP_CHECK, BIT(KEY) | BIT(VERSION), 0},
    {"put", VARVE_OP_PUT, BIT(KEY) | BIT(VALUE), BIT(VERSION) | BIT(TTL)},
    {"delete", VARVE_OP_DELETE, BIT(KEY), BIT(VERSION)},
    {"add", VARVE_OP_ADD, BIT(KEY) | BIT(DELTA), BIT(VERSION) | BIT(TTL)},
    {"append", VARVE_OP_APPEND, BIT(KEY) | BIT(KEYSPACE) | BIT(RECORDS), 0},
    {"relate", VARVE_OP_RELATE, BIT(RELATION) | BIT(FROM) | BIT(IDS), 0},
    {"unrelate", VARVE_OP_UNRELATE, BIT(RELATION) | BIT(FROM) | BIT(IDS), 0},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

#define OPS_TEXT "check, put, delete, add, append, relate or unrelate"

// What an operation points to besides its bytes: an append; a relate or unrelate.
struct parts {
    struct varve_log log;
    struct varve_record *records;
    char relation[LIMIT_RELATION_NAME + 1];
    uint64_t *members;
};

struct request {
    struct json_parser *parser;
    struct varve_op *ops;
    struct parts *parts; // one for each operation
    size_t count;
    struct buf bytes; // of each operation: key, value or keyspace and records
    struct slice idempotency;
    struct errmsg *msg;
};

static enum err read_whole(struct json v, const char *name, uint64_t *n, struct errmsg *msg)
{
    enum json_kind k = json_kind(v);
    if (k == JSON_UINT)
        *n = json_uint(v);
    else if (k == JSON_INT && json_int(v) >= 0)
        *n = (uint64_t)json_int(v);
    else
        return err_set(msg, ERR_INVALID, "%s must be a whole number", name);
    return ERR_OK;
}

static enum err read_members(struct json v, struct json at[MEMBERS], unsigned *has,
                             struct errmsg *msg)
{
    struct json_iter it;
    struct slice name;
    struct json member;
    *has = 0;
    if (json_kind(v) != JSON_OBJECT)
        return err_set(msg, ERR_INVALID, "an object is wanted, not %s",
                       json_kind_name(json_kind(v)));
    for (it = json_iterate(v); json_next(&it, &name, &member);) {
        unsigned m = 0;
        while (m < MEMBERS && !slice_equal(name, slice_str(member_names[m])))
            m++;
        if (m == MEMBERS || *has & BIT(m))
            return err_set(msg, ERR_INVALID, "member \"%.*s\" is %s",
                           name.n < 60 ? (int)name.n : 60, (const char *)name.p,
                           m == MEMBERS ? "unknown" : "given twice");
        *has |= BIT(m);
        at[m] = member;
    }
    return ERR_OK;
}

static enum err read_shape(const struct json at[MEMBERS], unsigned has, struct varve_op *op,
                           struct errmsg *msg)
{
    if (!(has & BIT(OP)) || json_kind(at[OP]) != JSON_STRING)
        return err_set(msg, ERR_INVALID, "\"op\" must be " OPS_TEXT);
    for (size_t i = 0; i < SHAPES; i++) {
        if (!slice_equal(json_string(at[OP]), slice_str(shapes[i].name)))
            continue;
        unsigned given = has & ~BIT(OP);
        for (unsigned m = 0; m < MEMBERS; m++) {
            if (shapes[i].must & ~given & BIT(m))
                return err_set(msg, ERR_INVALID, "%s needs \"%s\"", shapes[i].name,
                               member_names[m]);
            if (given & ~(shapes[i].must | shapes[i].may) & BIT(m))
                return err_set(msg, ERR_INVALID, "%s takes no \"%s\"", shapes[i].name,
                               member_names[m]);
        }
        op->kind = shapes[i].kind;
        return ERR_OK;
    }
    return err_set(msg, ERR_INVALID, "\"op\" must be " OPS_TEXT);
}

static enum err read_records(struct request *r, struct json v, struct parts *a, struct varve_op *op)
{
    size_t count = json_kind(v) == JSON_ARRAY ? json_count(v) : 0;
    if (count == 0)
        return err_set(r->msg, ERR_INVALID, "records must be an array of one record or more");
    a->records = calloc(count, sizeof *a->records);
    if (!a->records)
        return ERR_NO_MEMORY;
    op->log = &a->log;
    op->records = a->records;
    op->record_count = count;
    struct json_iter it = json_iterate(v);
    struct json one;
    enum err e = ERR_OK;
    for (size_t i = 0; !e && json_next(&it, NULL, &one); i++)
        e = record_get(&r->bytes, one, &a->records[i], r->msg);
    return e;
}

static enum err read_append(struct request *r, const struct json at[MEMBERS], struct parts *a,
                            struct varve_op *op)
{
    size_t before = buf_len(&r->bytes);
    enum err e = value_key_from_json(&r->bytes, at[KEYSPACE], r->msg);
    a->log.keyspace_size = buf_len(&r->bytes) - before;
    a->log.key_size = op->key_size;
    return e ? e : read_records(r, at[RECORDS], a, op);
}

static enum err read_id(struct json v, const char *name, uint64_t *id, struct errmsg *msg)
{
    enum json_kind k = json_kind(v);
    if (k == JSON_UINT || (k == JSON_INT && json_int(v) >= 0))
        *id = json_uint(v);
    else if (k != JSON_STRING)
        return err_set(msg, ERR_INVALID, "%s must be a whole number from 0 to 2^64 - 1", name);
    else if (rel_id(json_string(v), id))
        return rel_not_id(msg, name, json_string(v));
    return ERR_OK;
}

static enum err read_relate(struct request *r, const struct json at[MEMBERS], struct parts *a,
                            struct varve_op *op)
{
    bool text = json_kind(at[RELATION]) == JSON_STRING;
    struct slice name = text ? json_string(at[RELATION]) : slice_of(NULL, 0);
    if (name.n == 0 || name.n > LIMIT_RELATION_NAME || memchr(name.p, 0, name.n))
        return err_set(r->msg, ERR_INVALID,
                       "relation must be a name of 1 to %u letters and the like",
                       LIMIT_RELATION_NAME);
    memcpy(a->relation, name.p, name.n);
    op->relation = a->relation;
    enum err e = read_id(at[FROM], "from", &op->from, r->msg);
    if (e)
        return e;
    if (json_kind(at[IDS]) != JSON_ARRAY || json_count(at[IDS]) > LIMIT_REL_MEMBERS)
        return err_set(r->msg, ERR_INVALID, "members must be an array of at most %u",
                       LIMIT_REL_MEMBERS);
    a->members = calloc(json_count(at[IDS]) + 1, sizeof *a->members);
    if (!a->members)
        return ERR_NO_MEMORY;
    op->members = a->members;
    struct json_iter it = json_iterate(at[IDS]);
    struct json one;
    while (!e && json_next(&it, NULL, &one))
        e = read_id(one, "a member", &a->members[op->member_count++], r->msg);
    return e;
}

// Sets the pointers of an operation whose bytes begin at p; returns where they end.
static const uint8_t *place_op(struct varve_op *op, struct parts *a, const uint8_t *p)
{
    op->key = p;
    op->value = p + op->key_size;
    p += op->key_size + op->value_size;
    if (op->kind != VARVE_OP_APPEND)
        return p;
    a->log.key = op->key;
    a->log.keyspace = p;
    p += a->log.keyspace_size;
    for (size_t i = 0; i < op->record_count; i++) {
        a->records[i].data = p;
        p += a->records[i].size;
    }
    return p;
}

// Reads one operation; its key and value are appended to r->bytes and only their sizes set.
static enum err read_op(struct request *r, struct json v, struct varve_op *op, struct parts *a)
{
    struct json at[MEMBERS];
    unsigned has;
    enum err e = read_members(v, at, &has, r->msg);
    e = e ? e : read_shape(at, has, op, r->msg);
    if (!e && has & BIT(RELATION))
        return read_relate(r, at, a, op);
    size_t before = buf_len(&r->bytes);
    e = e ? e : value_key_from_json(&r->bytes, at[KEY], r->msg);
    op->key_size = buf_len(&r->bytes) - before;
    if (!e && has & BIT(VALUE))
        e = value_from_json(&r->bytes, at[VALUE], false, &op->type, r->msg);
    op->value_size = buf_len(&r->bytes) - before - op->key_size;
    if (!e && op->kind == VARVE_OP_APPEND)
        e = read_append(r, at, a, op);
    op->has_version = has & BIT(VERSION);
    if (!e && has & BIT(VERSION))
        e = read_whole(at[VERSION], member_names[VERSION], &op->version, r->msg);
    if (!e && has & BIT(TTL))
        e = read_whole(at[TTL], member_names[TTL], &op->ttl_ms, r->msg);
    if (!e && has & BIT(DELTA) && json_kind(at[DELTA]) != JSON_INT)
        e = err_set(r->msg, ERR_INVALID, "delta must be an integer");
    if (!e && has & BIT(DELTA))
        op->delta = json_int(at[DELTA]);
    return e;
}

static enum err read_ops(struct request *r, struct json ops)
{
    if (json_kind(ops) != JSON_ARRAY || json_count(ops) == 0 || json_count(ops) > LIMIT_TXN_OPS)
        return err_set(r->msg, ERR_INVALID, "\"ops\" must be an array of 1 to %u operations",
                       LIMIT_TXN_OPS);
    r->ops = calloc(json_count(ops), sizeof *r->ops);
    r->parts = calloc(json_count(ops), sizeof *r->parts);
    if (!r->ops || !r->parts)
        return err_set(r->msg, ERR_NO_MEMORY, "out of memory");
    struct json_iter it = json_iterate(ops);
    struct json v;
    while (json_next(&it, NULL, &v)) {
        r->msg->text[0] = 0;
        size_t i = r->count++;
        enum err e = read_op(r, v, &r->ops[i], &r->parts[i]);
        if (e) {
            struct errmsg why = *r->msg;
            return err_set(r->msg, e, "operation %zu: %s", i, why.text[0] ? why.text : err_text(e));
        }
    }
    // Now that nothing moves any more.
    const uint8_t *p = buf_len(&r->bytes) ? buf_head(&r->bytes) : NULL;
    for (size_t i = 0; i < r->count; i++)
        p = place_op(&r->ops[i], &r->parts[i], p);
    return ERR_OK;
}

static enum err read_request(struct request *r, struct slice text)
{
    struct json root, v;
    struct slice name;
    bool has_ops = false;
    enum err e = json_parse(r->parser, text, &root, r->msg);
    if (e)
        return e;
    if (json_kind(root) != JSON_OBJECT)
        return err_set(r->msg, ERR_INVALID, "an object with \"ops\" is wanted");
    struct json_iter it = json_iterate(root);
    while (!e && json_next(&it, &name, &v)) {
        if (slice_equal(name, slice_str("ops")) && !has_ops) {
            has_ops = true;
            e = read_ops(r, v);
        } else if (slice_equal(name, slice_str("idempotency_key")) && json_kind(v) == JSON_STRING) {
            r->idempotency = json_string(v);
        } else {
            e = err_set(r->msg, ERR_INVALID,
                        "only \"ops\", once, and a string \"idempotency_key\" are wanted");
        }
    }
    return e || has_ops ? e : err_set(r->msg, ERR_INVALID, "an object with \"ops\" is wanted");
}

// A key as the server's JSON has it: a string, or an array of byte values.
static enum err put_key(struct buf *b, const char *name, struct slice key)
{
    enum err e = buf_printf(b, "\"%s\":", name);
    if (e || utf8_valid(key))
        return e ? e : json_put_string(b, key);
    for (size_t i = 0; !e && i < key.n; i++)
        e = buf_printf(b, "%s%u", i ? "," : "[", key.p[i]);
    return e ? e : buf_append(b, "]", 1);
}

static enum err put_result(struct buf *b, const struct varve_op *op)
{
    if (op->relation)
        return buf_printf(b, "{\"relation\":\"%s\",\"from\":%llu,\"changed\":%lld}", op->relation,
                          (unsigned long long)op->from, (long long)op->number);
    bool check = op->kind == VARVE_OP_CHECK;
    enum err e = buf_append(b, "{", 1);
    if (!e && op->kind == VARVE_OP_APPEND) {
        e = put_key(b, "keyspace", slice_of(op->log->keyspace, op->log->keyspace_size));
        e = e ? e : buf_append(b, ",", 1);
    }
    e = e ? e : put_key(b, "key", slice_of(op->key, op->key_size));
    if (!e && op->kind == VARVE_OP_APPEND)
        return buf_printf(b, ",\"first_offset\":%llu,\"next_offset\":%llu,\"appended\":%llu}",
                          (unsigned long long)op->first_offset,
                          (unsigned long long)op->first_offset + op->appended,
                          (unsigned long long)op->appended);
    if (!e)
        e = buf_printf(b, ",\"version\":%llu",
                       (unsigned long long)(check ? op->version : op->new_version));
    if (!e && op->kind == VARVE_OP_ADD)
        e = buf_printf(b, ",\"value\":%lld", (long long)op->number);
    return e ? e : buf_append(b, "}", 1);
}

static enum err put_results(struct buf *b, const struct request *r, uint64_t sequence)
{
    enum err e = buf_printf(b, "{\"result\":\"Success\",\"sequence\":%llu,\"results\":[",
                            (unsigned long long)sequence);
    for (size_t i = 0; !e && i < r->count; i++) {
        e = i ? buf_append(b, ",", 1) : ERR_OK;
        e = e ? e : put_result(b, &r->ops[i]);
    }
    return e ? e : buf_append(b, "]}\n", 3);
}

static enum err put_conflicts(struct buf *b, const struct request *r)
{
    const char *comma = "";
    enum err e = buf_printf(b, "{\"result\":\"Failure\",\"error\":\"version conflict\","
                               "\"conflicts\":[");
    for (size_t i = 0; !e && i < r->count; i++) {
        const struct varve_op *op = &r->ops[i];
        if (!op->conflict)
            continue;
        e = buf_append(b, comma, strlen(comma));
        e = e ? e : buf_append(b, "{", 1);
        e = e ? e : put_key(b, "key", slice_of(op->key, op->key_size));
        if (!e)
            e = buf_printf(b, ",\"expected\":%llu,\"version\":%llu}",
                           (unsigned long long)op->version, (unsigned long long)op->actual);
        comma = ",";
    }
    return e ? e : buf_append(b, "]}\n", 3);
}

static int send_request(const struct command *c, struct request *r, const char *server,
                        uint64_t timeout)
{
    struct buf out;
    uint64_t sequence;
    struct varve *v = command_connect(c, server, timeout);
    if (!v)
        return CLI_FAILED;
    int code = CLI_OK;
    buf_init(&out, 256u << 20);
    enum varve_error e =
        varve_txn(v, r->ops, r->count, r->idempotency.p, r->idempotency.n, &sequence);
    if (e && e != VARVE_CONFLICT)
        code = command_failed_call(c, v, e);
    else if (e ? put_conflicts(&out, r) : put_results(&out, r, sequence))
        code = command_fail(c, CLI_FAILED, "committed, but out of memory for the results");
    else if (e)
        code = CLI_NO;
    if (buf_len(&out))
        (void)!fwrite(buf_head(&out), 1, buf_len(&out), stdout); // looked at in cli_main
    buf_release(&out);
    varve_close(v);
    return code;
}

int command_txn(const struct command *c, int argc, char **argv)
{
    const char *server = NULL;
    uint64_t timeout = TIMEOUT_MS;
    const struct arg_option options[] = {
        {"server", ARG_TEXT, &server, "ADDR", "binary protocol, HOST:PORT"},
        {"timeout", ARG_TIME, &timeout, "TIME", "for the server's answer (10s); 0: none"},
    };
    static const char more[] =
        "The input is the JSON of POST /v1/txn:\n"
        "  {\"ops\":[{\"op\":\"check\",\"key\":K,\"version\":N},\n"
        "          {\"op\":\"put\",\"key\":K,\"value\":V,\"version\":N?,\"ttl_ms\":T?},\n"
        "          {\"op\":\"delete\",\"key\":K,\"version\":N?},\n"
        "          {\"op\":\"add\",\"key\":K,\"delta\":D,\"version\":N?,\"ttl_ms\":T?},\n"
        "          {\"op\":\"append\",\"keyspace\":KS,\"key\":K,\"records\":[R,...]},\n"
        "          {\"op\":\"relate\" or "
        "\"unrelate\",\"relation\":R,\"from\":N,\"members\":[N,...]}],\n"
        "   \"idempotency_key\":\"...\"?}\n";
    struct arg_list a = {.options = options, .count = sizeof options / sizeof *options};
    struct errmsg msg;
    struct request r = {.msg = &msg};
    struct buf text;
    int code;
    if (!command_parse(c, &a, argc, argv, 1, 1, more, &code))
        return code;
    buf_init(&text, LIMIT_REQUEST_HARD);
    buf_init(&r.bytes, LIMIT_REQUEST_HARD);
    r.parser = json_parser_new(LIMIT_REQUEST_HARD);
    enum err e = r.parser ? ERR_OK : err_set(&msg, ERR_NO_MEMORY, "out of memory");
    e = e ? e : input_all(a.operands[0], &text, &msg);
    if (!e && buf_len(&text) == 0)
        e = err_set(&msg, ERR_INVALID, "%s is empty", a.operands[0]);
    e = e ? e : read_request(&r, buf_slice(&text));
    code = e ? command_fail(c, CLI_USAGE, "%s", msg.text) : send_request(c, &r, server, timeout);
    for (size_t i = 0; i < r.count; i++) {
        free(r.parts[i].records);
        free(r.parts[i].members);
    }
    free(r.parts);
    free(r.ops);
    buf_release(&text);
    buf_release(&r.bytes);
    json_parser_free(r.parser);
    return code;
}
