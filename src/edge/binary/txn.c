// TXN: operations end to end, each
//
//     0  u8   kind          0 check, 1 put, 2 delete, 3 add, 4 append, 5 relate, 6 unrelate: enum
//                           txn_kind
//     1  u8   value type    put: enum value_type; otherwise 0
//     2  u8   flags         1 a version is given (always for check), 2 a time to live (put, add)
//     3  u8   0
//     4  u32  key length
//     8  u32  value length  check and delete 0, add 8
//    12  u64  version       ignored unless given; 0 means "does not exist"
//    20  u64  ttl ms        ignored unless given
//    28  the key, the value
//
// A value must have its type's layout: it is stored as it is. Only an array's text is written anew
// in the one form that every protocol stores (no blanks, the shortest text of each number).
//
// The key of an append is u16 length, keyspace, the log's key; its value is records as LOG_APPEND
// has them. The key of a relate or unrelate is u64 from, the relation's name; its value is packed
// ids.
#include "edge/binary/binary_int.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"

#include <math.h>
#include <stdlib.h>

enum { OP_HEADER = 28, OP_VERSION = 1, OP_TTL = 2 };

#define FEW         8u  // operations that need no allocation
#define NUMBER_TEXT 32u // bytes of a number in an array at most, with its comma
#define ARRAYS_MAX  (2 * LIMIT_REQUEST_HARD)

_Static_assert(TXN_CHECK == 0 && TXN_PUT == 1 && TXN_DELETE == 2 && TXN_ADD == 3 &&
                   TXN_APPEND == 4 && TXN_RELATE == 5 && TXN_UNRELATE == 6,
               "the protocol's kinds are the commit room's");

// A relate or unrelate: an edit of one group.
struct relate {
    struct rel_edit edit;
    struct rel_group group;
};

struct decoded {
    struct txn_op *ops; // `few` or allocated
    size_t count;
    struct buf arrays; // canonical text of all arrays, in the order of their operations
    struct json_parser *json;
    struct log_append *appends; // in the order of their operations
    struct log_input *records;  // of all appends
    size_t append_count, record_count;
    struct relate *relates; // likewise
    size_t relate_count;
    struct txn_op few[FEW];
};

static void decoded_release(struct decoded *d)
{
    if (d->ops != d->few)
        free(d->ops);
    buf_release(&d->arrays);
    json_parser_free(d->json);
    free(d->appends);
    free(d->records);
    free(d->relates);
}

static bool relates(unsigned kind)
{
    return kind == TXN_RELATE || kind == TXN_UNRELATE;
}

// Counts the operations, and the records of appends, and checks that they fill what they are in
// exactly.
static enum err count_ops(struct decoded *d, struct slice in, struct errmsg *msg)
{
    size_t n = 0;
    for (; in.n; n++) {
        if (n == LIMIT_TXN_OPS)
            return err_set(msg, ERR_TOO_BIG, "TXN: more than %u operations", LIMIT_TXN_OPS);
        if (in.n < OP_HEADER)
            return err_set(msg, ERR_INVALID, "TXN: operation %zu is cut short", n);
        uint64_t size = (uint64_t)OP_HEADER + load32(in.p + 4) + load32(in.p + 8);
        if (in.n < size)
            return err_set(msg, ERR_INVALID, "TXN: operation %zu is cut short", n);
        if (in.p[0] == TXN_APPEND) {
            struct errmsg why;
            size_t records;
            struct slice value = slice_of(in.p + OP_HEADER + load32(in.p + 4), load32(in.p + 8));
            enum err e = binary_records_count(value, &records, &why);
            if (e)
                return err_set(msg, e, "TXN: operation %zu: %s", n, why.text);
            d->append_count++;
            d->record_count += records;
        }
        d->relate_count += relates(in.p[0]);
        in.p += size;
        in.n -= size;
    }
    if (n == 0)
        return err_set(msg, ERR_INVALID, "TXN: no operations");
    d->count = n;
    return ERR_OK;
}

static enum err put_number(struct buf *b, struct json n, struct errmsg *msg)
{
    enum err e = buf_reserve(b, NUMBER_TEXT);
    if (e)
        return e;
    switch (json_kind(n)) {
    case JSON_INT:
        return json_put_int(b, json_int(n));
    case JSON_FLOAT:
        return json_put_float(b, json_float(n));
    case JSON_UINT:
        return err_set(msg, ERR_OVERFLOW, "an integer is beyond 64-bit signed");
    default:
        return err_set(msg, ERR_INVALID, "an array holds %s, not only numbers",
                       json_kind_name(json_kind(n)));
    }
}

// Appends the canonical text of an array to d->arrays; *size is its length.
static enum err put_array(struct decoded *d, struct slice text, size_t *size, struct errmsg *msg)
{
    struct json root, n;
    struct buf *b = &d->arrays;
    size_t before = buf_len(b);
    if (!d->json)
        d->json = json_parser_new(LIMIT_VALUE_HARD);
    if (!d->json)
        return ERR_NO_MEMORY;
    // The text lies in the connection's input, behind which there are BUF_PADDING bytes to read.
    enum err e = json_parse(d->json, text, &root, msg);
    if (e)
        return e;
    if (json_kind(root) != JSON_ARRAY)
        return err_set(msg, ERR_INVALID, "an array's text is %s", json_kind_name(json_kind(root)));
    e = buf_append(b, "[", 1);
    struct json_iter it = json_iterate(root);
    for (bool first = true; !e && json_next(&it, NULL, &n); first = false) {
        if (!first)
            e = buf_append(b, ",", 1);
        if (!e)
            e = put_number(b, n, msg);
    }
    if (!e)
        e = buf_append(b, "]", 1);
    *size = buf_len(b) - before;
    return e;
}

static enum err check_layout(enum value_type type, struct slice v, struct errmsg *msg)
{
    double d;
    switch (type) {
    case VALUE_BYTES:
    case VALUE_ARRAY: // put_array
        return ERR_OK;
    case VALUE_STRING:
        return utf8_valid(v) ? ERR_OK : err_set(msg, ERR_INVALID, "a string is not UTF-8");
    case VALUE_INT:
        if (v.n == 8)
            return ERR_OK;
        return err_set(msg, ERR_INVALID, "an integer takes 8 bytes, not %zu", v.n);
    case VALUE_FLOAT:
        if (v.n != 8)
            return err_set(msg, ERR_INVALID, "a float takes 8 bytes, not %zu", v.n);
        memcpy(&d, v.p, sizeof d);
        return isfinite(d) ? ERR_OK : err_set(msg, ERR_INVALID, "a float is not finite");
    case VALUE_BOOL:
        return v.n == 1 && v.p[0] <= 1
                   ? ERR_OK
                   : err_set(msg, ERR_INVALID, "a bool is not one byte, 0 or 1");
    default:
        return err_set(msg, ERR_INVALID, "unknown value type %u", (unsigned)type);
    }
}

// The parts of an operation that its kind does not have must be 0.
static enum err check_kind(const uint8_t *p, struct slice value, struct errmsg *msg)
{
    unsigned kind = p[0], flags = p[2];
    if (kind > TXN_UNRELATE)
        return err_set(msg, ERR_INVALID, "unknown kind %u", kind);
    if ((flags & ~(unsigned)(OP_VERSION | OP_TTL)) || p[3])
        return err_set(msg, ERR_INVALID, "unknown flags %u", flags | (unsigned)p[3] << 8);
    if (kind != TXN_PUT && p[1])
        return err_set(msg, ERR_INVALID, "only a put has a value type");
    if ((kind == TXN_CHECK || kind == TXN_DELETE) && (value.n || (flags & OP_TTL)))
        return err_set(msg, ERR_INVALID, "a check or delete has neither value nor time to live");
    if (kind == TXN_CHECK && !(flags & OP_VERSION))
        return err_set(msg, ERR_INVALID, "a check needs a version");
    if (kind >= TXN_APPEND && flags)
        return err_set(msg, ERR_INVALID, "%s has neither version nor time to live",
                       kind == TXN_APPEND   ? "an append"
                       : kind == TXN_RELATE ? "a relate"
                                            : "an unrelate");
    if (kind == TXN_ADD && value.n != 8)
        return err_set(msg, ERR_INVALID, "the number to add takes 8 bytes, not %zu", value.n);
    return ERR_OK;
}

// The next of d's appends and records become this operation's.
static enum err decode_append(const struct binary *b, struct decoded *d, struct slice key,
                              struct slice value, struct txn_op *op, struct errmsg *msg)
{
    if (key.n < 2 || key.n - 2 < load16(key.p))
        return err_set(msg, ERR_INVALID, "the keyspace of an append is cut short");
    struct slice keyspace = slice_of(key.p + 2, load16(key.p));
    struct slice log = slice_of(keyspace.p + keyspace.n, key.n - 2 - keyspace.n);
    if (keyspace.n == 0 || log.n == 0)
        return err_set(msg, ERR_INVALID, "the %s is empty", log.n ? "keyspace" : "key");
    if (keyspace.n > LIMIT_KEYSPACE_NAME || log.n > b->limits.key)
        return err_set(msg, ERR_TOO_BIG,
                       "keyspace of %zu or key of %zu bytes is over the limit of %u or %u",
                       keyspace.n, log.n, LIMIT_KEYSPACE_NAME, b->limits.key);
    struct log_append *a = &d->appends[d->append_count++];
    struct log_input *records = &d->records[d->record_count];
    *a = (struct log_append){.name = {keyspace, log}, .records = records};
    a->count = binary_records_decode(value, records);
    d->record_count += a->count;
    *op = (struct txn_op){.kind = TXN_APPEND, .append = a};
    return ERR_OK;
}

// The next of d's relates becomes this operation's.
static enum err decode_relate(struct decoded *d, unsigned kind, struct slice key,
                              struct slice value, struct txn_op *op, struct errmsg *msg)
{
    if (key.n < 8)
        return err_set(msg, ERR_INVALID, "the `from` takes 8 bytes, not %zu", key.n);
    if (value.n % 8)
        return err_set(msg, ERR_INVALID, "members take 8 bytes each; %zu is not a multiple of it",
                       value.n);
    if (value.n / 8 > LIMIT_REL_MEMBERS)
        return err_set(msg, ERR_TOO_BIG, "%zu members are over the limit of %u", value.n / 8,
                       LIMIT_REL_MEMBERS);
    struct relate *r = &d->relates[d->relate_count++];
    r->group = (struct rel_group){
        .from = load64(key.p), .members = value.p, .count = (uint32_t)(value.n / 8)};
    r->edit = (struct rel_edit){
        .relation = slice_of(key.p + 8, key.n - 8), .groups = &r->group, .count = 1};
    *op = (struct txn_op){.kind = (uint8_t)kind, .edit = &r->edit};
    return ERR_OK;
}

// Decodes one operation whose header is at p.
static enum err decode_op(const struct binary *b, struct decoded *d, const uint8_t *p,
                          struct txn_op *op, struct errmsg *msg)
{
    struct slice key = slice_of(p + OP_HEADER, load32(p + 4));
    struct slice value = slice_of(key.p + key.n, load32(p + 8));
    enum err e = check_kind(p, value, msg);
    if (e)
        return e;
    if (p[0] == TXN_APPEND)
        return decode_append(b, d, key, value, op, msg);
    if (relates(p[0]))
        return decode_relate(d, p[0], key, value, op, msg);
    if (key.n > b->limits.key || value.n > b->limits.value)
        return err_set(msg, ERR_TOO_BIG,
                       "key of %zu or value of %zu bytes is over the limit of %u or %u", key.n,
                       value.n, b->limits.key, b->limits.value);
    *op = (struct txn_op){.kind = p[0],
                          .type = p[1],
                          .has_version = (p[2] & OP_VERSION) != 0,
                          .k = commit_ref(b->o.commit, key),
                          .version = p[2] & OP_VERSION ? load64(p + 12) : 0,
                          .ttl_ms = p[2] & OP_TTL ? load64(p + 20) : 0};
    commit_prefetch_slot(b->o.commit, &op->k);
    if (op->kind == TXN_ADD) {
        op->delta = (int64_t)load64(value.p);
    } else if (op->kind == TXN_PUT) {
        op->value = value;
        e = check_layout((enum value_type)op->type, value, msg);
        if (e == ERR_OK && op->type == VALUE_ARRAY)
            e = put_array(d, value, &op->value.n, msg);
    }
    return e;
}

static enum err make_room(struct decoded *d)
{
    if (d->count > FEW) {
        struct txn_op *ops = malloc(d->count * sizeof *ops);
        if (!ops)
            return ERR_NO_MEMORY;
        d->ops = ops;
    }
    if (d->append_count) {
        d->appends = malloc(d->append_count * sizeof *d->appends);
        d->records = malloc(d->record_count * sizeof *d->records);
        if (!d->appends || !d->records)
            return ERR_NO_MEMORY;
    }
    if (d->relate_count) {
        d->relates = malloc(d->relate_count * sizeof *d->relates);
        if (!d->relates)
            return ERR_NO_MEMORY;
    }
    d->append_count = d->record_count = d->relate_count = 0; // as many are decoded
    return ERR_OK;
}

// On success the operations point into `in` and into d. On failure msg names the operation.
static enum err decode(const struct binary *b, struct slice in, struct decoded *d,
                       struct errmsg *msg)
{
    buf_init(&d->arrays, ARRAYS_MAX);
    d->json = NULL;
    d->ops = d->few;
    d->appends = NULL;
    d->records = NULL;
    d->append_count = d->record_count = d->relate_count = 0;
    d->relates = NULL;
    enum err e = count_ops(d, in, msg);
    if (e == ERR_OK)
        e = make_room(d);
    if (e)
        return e;
    for (size_t i = 0; i < d->count; i++) {
        struct errmsg why = {""};
        e = decode_op(b, d, in.p, &d->ops[i], &why);
        if (e)
            return err_set(msg, e, "TXN: operation %zu: %s", i,
                           why.text[0] ? why.text : err_text(e));
        in.p += OP_HEADER + load32(in.p + 4) + load32(in.p + 8);
    }
    // d->arrays does not move any more.
    const uint8_t *text = buf_len(&d->arrays) ? buf_head(&d->arrays) : NULL;
    for (size_t i = 0; i < d->count; i++) {
        struct txn_op *op = &d->ops[i];
        if (op->kind >= TXN_APPEND)
            continue;
        commit_prefetch_entry(b->o.commit, &op->k);
        if (op->kind == TXN_PUT && op->type == VALUE_ARRAY) {
            op->value.p = text;
            text += op->value.n;
        }
    }
    return ERR_OK;
}

static enum conn_verdict reply_ok(struct conn *c, const struct txn *t, uint64_t dep)
{
    struct buf *out = conn_out(c);
    struct binary_reply r;
    uint8_t head[13] = {STATUS_OK};
    store64(head + 1, t->seq);
    store32(head + 9, (uint32_t)t->count);
    if (binary_reply_begin(c, &r) || buf_reserve(out, sizeof head + t->count * 16))
        return CONN_DROP;
    buf_put(out, head, sizeof head);
    for (size_t i = 0; i < t->count; i++) {
        uint8_t p[16];
        store64(p, t->ops[i].new_version);
        store64(p + 8, (uint64_t)t->ops[i].number);
        buf_put(out, p, sizeof p);
    }
    binary_reply_end(&r, dep);
    return CONN_MORE;
}

static enum conn_verdict reply_conflict(struct conn *c, const struct txn *t, uint64_t dep)
{
    struct buf *out = conn_out(c);
    struct binary_reply r;
    uint8_t head[5] = {STATUS_CONFLICT};
    uint32_t conflicts = 0;
    for (size_t i = 0; i < t->count; i++)
        conflicts += t->ops[i].conflict;
    store32(head + 1, conflicts);
    if (binary_reply_begin(c, &r) || buf_reserve(out, sizeof head + (size_t)conflicts * 20))
        return CONN_DROP;
    buf_put(out, head, sizeof head);
    for (size_t i = 0; i < t->count; i++) {
        if (!t->ops[i].conflict)
            continue;
        uint8_t p[20];
        store32(p, (uint32_t)i);
        store64(p + 4, t->ops[i].version);
        store64(p + 12, t->ops[i].actual);
        buf_put(out, p, sizeof p);
    }
    binary_reply_end(&r, dep);
    return CONN_MORE;
}

static enum conn_verdict run(struct conn *c, struct commit *commit, struct txn *t)
{
    struct errmsg msg = {""};
    uint64_t dep = 0;
    enum err e = commit_txn(commit, t, &dep, &msg);
    switch (e) {
    case ERR_OK:
        return reply_ok(c, t, dep);
    case ERR_CONFLICT:
        return reply_conflict(c, t, dep);
    case ERR_COLD:
        return binary_txn_fetch(c, FRAME_TXN, t);
    case ERR_FULL:
        return binary_wait_room(c, FRAME_TXN);
    default:
        return binary_fail(c, FRAME_TXN, e, &msg, dep);
    }
}

enum conn_verdict binary_txn(struct conn *c, const struct frame *f)
{
    struct binary *b = conn_arg(c);
    struct decoded d;
    struct errmsg msg = {""};
    enum conn_verdict v;
    enum err e = decode(b, f->arg[0], &d, &msg);
    if (e) {
        v = binary_fail(c, FRAME_TXN, e, &msg, 0);
    } else {
        struct txn t = {.ops = d.ops,
                        .count = d.count,
                        .idempotency = f->arg[1],
                        .request_hash = hash64(f->arg[0], 0),
                        .rounds = binary_rounds(c)};
        v = run(c, b->o.commit, &t);
    }
    decoded_release(&d);
    return v;
}
