#include "client/wire.h"
#include "base/limits.h"
#include "base/assert.h"
#include "op/op.h"

// The public types are the stored ones.
_Static_assert((int)VARVE_BYTES == VALUE_BYTES && (int)VARVE_STRING == VALUE_STRING &&
                   (int)VARVE_INT == VALUE_INT && (int)VARVE_FLOAT == VALUE_FLOAT &&
                   (int)VARVE_BOOL == VALUE_BOOL && (int)VARVE_ARRAY == VALUE_ARRAY &&
                   VALUE_TYPES == 6,
               "enum varve_type follows enum value_type");

enum {
    OP_HEADER = 28, // kind, type, flags, 0, key length, value length, version, ttl
    OP_VERSION = 1, // flags
    OP_TTL = 2,
};

const uint8_t *wire_take(struct slice *s, size_t n)
{
    if (s->n < n)
        return NULL;
    const uint8_t *p = s->p;
    s->p += n;
    s->n -= n;
    return p;
}

void wire_put32(struct buf *b, uint32_t v)
{
    uint8_t p[4];
    store32(p, v);
    buf_put(b, p, sizeof p);
}

static void put_arg(struct buf *b, struct slice s)
{
    wire_put32(b, (uint32_t)s.n);
    buf_put(b, s.p, s.n);
}

void wire_put_type(struct buf *b, enum wire_type type)
{
    uint8_t p[2];
    store16(p, (uint16_t)type);
    buf_put(b, p, sizeof p);
}

enum err wire_request(struct buf *b, enum wire_type type, const struct slice *args, size_t count)
{
    size_t n = 2;
    for (size_t i = 0; i < count; i++) {
        if (args[i].n > LIMIT_REQUEST_HARD)
            return ERR_TOO_BIG;
        n += 4 + args[i].n;
    }
    enum err e = buf_reserve(b, n);
    if (e)
        return e;
    wire_put_type(b, type);
    for (size_t i = 0; i < count; i++)
        put_arg(b, args[i]);
    return ERR_OK;
}

static bool is_relate(const struct varve_op *op)
{
    return op->kind == VARVE_OP_RELATE || op->kind == VARVE_OP_UNRELATE;
}

// The size of an operation's key and value in the request; false if one is over its limit.
static bool op_sizes(const struct varve_op *op, size_t *key, size_t *value)
{
    *key = op->key_size;
    *value = op->kind == VARVE_OP_ADD   ? sizeof op->delta
             : op->kind == VARVE_OP_PUT ? op->value_size
                                        : 0;
    if (is_relate(op))
        return wire_relate_sizes(op, key, value);
    if (op->kind != VARVE_OP_APPEND)
        return *key <= LIMIT_KEY_HARD && *value <= LIMIT_VALUE_HARD;
    if (op->log->keyspace_size > LIMIT_KEYSPACE_NAME || op->log->key_size > LIMIT_KEY_HARD)
        return false;
    *key = 2 + op->log->keyspace_size + op->log->key_size;
    *value = wire_records_size(op->records, op->record_count);
    return *value <= LIMIT_REQUEST_HARD;
}

static void put_op(struct buf *b, const struct varve_op *op)
{
    size_t key, value;
    VERIFY(op_sizes(op, &key, &value)); // looked at before
    bool versioned = op->has_version || op->kind == VARVE_OP_CHECK;
    uint8_t head[OP_HEADER] = {
        (uint8_t)op->kind,
        op->kind == VARVE_OP_PUT ? (uint8_t)op->type : 0,
        (uint8_t)((versioned ? OP_VERSION : 0) | (op->ttl_ms ? OP_TTL : 0)),
        0,
    };
    store32(head + 4, (uint32_t)key);
    store32(head + 8, (uint32_t)value);
    store64(head + 12, versioned ? op->version : 0);
    store64(head + 20, op->ttl_ms);
    buf_put(b, head, sizeof head);
    if (is_relate(op)) {
        wire_put_relate(b, op);
        return;
    }
    if (op->kind == VARVE_OP_APPEND) {
        uint8_t length[2];
        store16(length, (uint16_t)op->log->keyspace_size);
        buf_put(b, length, sizeof length);
        buf_put(b, op->log->keyspace, op->log->keyspace_size);
        buf_put(b, op->log->key, op->log->key_size);
        wire_put_records(b, op->records, op->record_count);
        return;
    }
    buf_put(b, op->key, op->key_size);
    // Little-endian host, see base/slice.h.
    buf_put(b, op->kind == VARVE_OP_ADD ? &op->delta : op->value, value);
}

enum err wire_request_txn(struct buf *b, const struct varve_op *ops, size_t count,
                          struct slice idempotency)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        size_t key, value;
        if (!op_sizes(&ops[i], &key, &value))
            return ERR_TOO_BIG;
        if (ops[i].kind == VARVE_OP_APPEND &&
            !wire_records_valid(ops[i].records, ops[i].record_count))
            return ERR_INVALID;
        n += OP_HEADER + key + value;
        if (n > LIMIT_REQUEST_HARD)
            return ERR_TOO_BIG;
    }
    if (idempotency.n > LIMIT_IDEMPOTENCY_KEY)
        return ERR_TOO_BIG;
    enum err e = buf_reserve(b, 2 + 4 + n + 4 + idempotency.n);
    if (e)
        return e;
    wire_put_type(b, WIRE_TXN);
    wire_put32(b, (uint32_t)n);
    for (size_t i = 0; i < count; i++)
        put_op(b, &ops[i]);
    put_arg(b, idempotency);
    return ERR_OK;
}

void wire_list_page(uint8_t page[8], size_t limit, bool values)
{
    store32(page, limit < LIMIT_LIST ? (uint32_t)limit : LIMIT_LIST);
    store32(page + 4, values ? WIRE_LIST_VALUES : 0);
}

// Fixed sizes are checked here so that nobody reads 8 bytes of a 3-byte integer.
static bool value_fits(enum varve_type type, size_t size, const uint8_t *data)
{
    switch (type) {
    case VARVE_INT:
    case VARVE_FLOAT:
        return size == 8;
    case VARVE_BOOL:
        return size == 1 && data[0] <= 1;
    case VARVE_BYTES:
    case VARVE_STRING:
    case VARVE_ARRAY:
        return true;
    }
    return false;
}

enum err wire_read_value(struct slice body, struct varve_value *value)
{
    const uint8_t *head = wire_take(&body, 17);
    if (!head || !value_fits((enum varve_type)head[16], body.n, body.p))
        return ERR_INVALID;
    *value = (struct varve_value){
        .version = load64(head),
        .expires_ms = load64(head + 8),
        .type = (enum varve_type)head[16],
        .data = body.p,
        .size = body.n,
    };
    return ERR_OK;
}

enum err wire_read_txn(struct slice body, struct varve_op *ops, size_t count, uint64_t *sequence)
{
    const uint8_t *head = wire_take(&body, 12);
    if (!head || load32(head + 8) != count || body.n != count * 16)
        return ERR_INVALID;
    *sequence = load64(head);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *p = body.p + i * 16;
        bool append = ops[i].kind == VARVE_OP_APPEND;
        ops[i].new_version = append ? 0 : load64(p);
        ops[i].number = append ? 0 : (int64_t)load64(p + 8);
        ops[i].first_offset = append ? load64(p) : 0;
        ops[i].appended = append ? load64(p + 8) : 0;
        ops[i].conflict = false;
        ops[i].actual = 0;
    }
    return ERR_OK;
}

enum err wire_read_conflicts(struct slice body, struct varve_op *ops, size_t count)
{
    const uint8_t *head = wire_take(&body, 4);
    if (!head)
        return ERR_INVALID;
    size_t conflicts = load32(head);
    if (conflicts == 0 || conflicts > count || body.n != conflicts * 20)
        return ERR_INVALID;
    for (size_t i = 0; i < conflicts; i++)
        if (load32(body.p + i * 20) >= count)
            return ERR_INVALID;
    for (size_t i = 0; i < count; i++)
        ops[i].conflict = false;
    for (size_t i = 0; i < conflicts; i++) {
        struct varve_op *op = &ops[load32(body.p + i * 20)];
        op->conflict = true;
        op->actual = load64(body.p + i * 20 + 12);
    }
    return ERR_OK;
}

enum err wire_read_list(struct slice body, uint32_t *count, struct slice *rest)
{
    const uint8_t *head = wire_take(&body, 4);
    if (!head)
        return ERR_INVALID;
    *count = load32(head);
    *rest = body;
    return ERR_OK;
}

enum err wire_next_key(struct slice *rest, struct slice *key, struct varve_value *value)
{
    const uint8_t *length = wire_take(rest, 4);
    if (!length)
        return ERR_INVALID;
    size_t n = load32(length);
    const uint8_t *p = wire_take(rest, n);
    if (!p || n == 0)
        return ERR_INVALID;
    *key = slice_of(p, n);
    if (!value)
        return ERR_OK;
    const uint8_t *head = wire_take(rest, 21); // version, expires, type, value length
    if (!head)
        return ERR_INVALID;
    size_t size = load32(head + 17);
    const uint8_t *data = wire_take(rest, size);
    if (!data || !value_fits((enum varve_type)head[16], size, data))
        return ERR_INVALID;
    *value = (struct varve_value){
        .version = load64(head),
        .expires_ms = load64(head + 8),
        .type = (enum varve_type)head[16],
        .data = data,
        .size = size,
    };
    return ERR_OK;
}
