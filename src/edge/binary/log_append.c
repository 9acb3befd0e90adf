// LOG_APPEND. Its records, and those of an append in a TXN, stand end to end, each
//
//     0  u128  nonce       all ones: none
//    16  i64   timestamp   the smallest i64: the server's clock
//    24  u32   length
//    28  the bytes
#include "edge/binary/binary_int.h"
#include "base/assert.h"

#include <stdlib.h>

#define INPUT_HEAD 28u
#define FEW        128u // records that need no allocation

enum err binary_records_count(struct slice in, size_t *count, struct errmsg *msg)
{
    size_t n = 0;
    for (; in.n; n++) {
        if (in.n < INPUT_HEAD || in.n - INPUT_HEAD < load32(in.p + 24))
            return err_set(msg, ERR_INVALID, "record %zu is cut short", n);
        size_t size = INPUT_HEAD + (size_t)load32(in.p + 24);
        in.p += size;
        in.n -= size;
    }
    if (n == 0)
        return err_set(msg, ERR_INVALID, "no records");
    *count = n;
    return ERR_OK;
}

size_t binary_records_decode(struct slice in, struct log_input *records)
{
    size_t n = 0;
    for (const uint8_t *p = in.p, *end = in.p + in.n; p < end; n++) {
        int64_t timestamp = (int64_t)load64(p + 16);
        records[n] = (struct log_input){.bytes = slice_of(p + INPUT_HEAD, load32(p + 24)),
                                        .nonce = load128(p),
                                        .timestamp = timestamp,
                                        .has_timestamp = timestamp != INT64_MIN};
        p += INPUT_HEAD + records[n].bytes.n;
    }
    return n;
}

static enum conn_verdict reply(struct conn *c, const struct log_append *a, uint64_t dep)
{
    uint8_t out[48];
    store64(out, a->first_offset);
    store64(out + 8, a->end_offset);
    store64(out + 16, a->appended);
    store128(out + 24, a->next_nonce);
    store64(out + 40, (uint64_t)a->timestamp);
    return binary_answer(c, STATUS_OK, out, sizeof out, dep);
}

static enum conn_verdict append(struct conn *c, struct log_append *a)
{
    const struct binary *b = conn_arg(c);
    struct errmsg msg = {""};
    struct txn_op op = {.kind = TXN_APPEND, .append = a};
    struct txn t = {.ops = &op, .count = 1};
    uint64_t dep = 0;
    enum err e = commit_txn(b->o.commit, &t, &dep, &msg);
    switch (e) {
    case ERR_OK:
        return reply(c, a, dep);
    case ERR_COLD:
        return binary_txn_fetch(c, FRAME_LOG_APPEND, &t);
    case ERR_FULL:
        return binary_wait_room(c, FRAME_LOG_APPEND);
    default:
        return binary_fail(c, FRAME_LOG_APPEND, e, &msg, dep);
    }
}

enum conn_verdict binary_append(struct conn *c, const struct frame *f)
{
    struct log_input few[FEW], *records = few;
    struct log_append a = {.records = few};
    struct errmsg msg = {""}, why = {""};
    enum err e = binary_log_name(f, &a.name, &msg);
    if (e == ERR_OK && (e = binary_records_count(f->arg[2], &a.count, &why)))
        (void)err_set(&msg, e, "LOG_APPEND: %s", why.text);
    if (e == ERR_OK && a.count > FEW) {
        records = malloc(a.count * sizeof *records);
        if (!records)
            e = ERR_NO_MEMORY;
    }
    if (e)
        return binary_fail(c, FRAME_LOG_APPEND, e, &msg, 0);
    VERIFY(binary_records_decode(f->arg[2], records) == a.count);
    a.records = records;
    enum conn_verdict v = append(c, &a);
    if (records != few)
        free(records);
    return v;
}
