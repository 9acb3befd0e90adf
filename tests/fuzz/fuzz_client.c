// The readers of replies in the client library. Properties: no byte outside of the body is looked
// at (the body is a block of its own, for ASan); what is read lies within it; sizes fit their
// types.
#include "fuzz.h"
#include "client/wire.h"

static void check_value(struct slice body, const struct varve_value *v)
{
    const uint8_t *p = v->data;
    VERIFY(p >= body.p && v->size <= body.n && p + v->size <= body.p + body.n);
    VERIFY(v->type <= VARVE_ARRAY);
    VERIFY((v->type != VARVE_INT && v->type != VARVE_FLOAT) || v->size == 8);
    VERIFY(v->type != VARVE_BOOL || v->size == 1);
    (void)varve_value_int(v);
    (void)varve_value_float(v);
    (void)varve_value_bool(v);
}

static void read_list(struct slice body, bool values)
{
    uint32_t count;
    struct slice rest, key;
    struct varve_value v;
    if (wire_read_list(body, &count, &rest))
        return;
    for (uint32_t i = 0; i < count && !wire_next_key(&rest, &key, values ? &v : NULL); i++) {
        VERIFY(key.n > 0 && key.p > body.p && key.p + key.n <= body.p + body.n);
        if (values)
            check_value(body, &v);
    }
}

static void read_logs(struct slice body)
{
    struct varve_page page;
    struct varve_record r;
    struct varve_log_policy policy;
    struct varve_log_meta meta;
    struct varve_appended appended;
    uint64_t n;
    (void)!wire_read_keyspace(body, &n, NULL);
    (void)!wire_read_keyspace(body, &n, &policy);
    (void)!wire_read_meta(body, &meta);
    (void)!wire_read_appended(body, &appended);
    (void)!wire_read_u64(body, &n);
    if (wire_read_page(body, &page))
        return;
    uint32_t count = 0;
    for (; varve_page_next(&page, &r); count++) {
        const uint8_t *p = r.data;
        VERIFY(p > body.p && p + r.size < body.p + body.n && r.offset > 0);
    }
    VERIFY(count == page.records);
}

static void check_members(struct slice body, const struct varve_members *m)
{
    const uint8_t *p = m->data;
    VERIFY(m->count == 0 || (p >= body.p && m->count <= body.n / 8));
    VERIFY(m->count == 0 || p + m->count * 8 <= body.p + body.n);
    if (m->count)
        (void)(varve_rel_id(m, 0) + varve_rel_id(m, m->count - 1));
}

static void read_relations(struct slice body, size_t count)
{
    static const uint64_t froms[3] = {1, 2, 3};
    struct varve_rel_info info;
    struct varve_members m;
    struct varve_rel_lists lists;
    bool found[3];
    uint64_t n;
    (void)!wire_read_u32(body, &n);
    (void)!wire_read_rel_info(body, &info);
    (void)!wire_read_edited(body, &n, &n);
    (void)!wire_read_contains(body, found, count);
    if (!wire_read_members(body, &m))
        check_members(body, &m);
    for (int total = 0; total < 2; total++)
        if (!wire_read_rel_page(body, total, &m))
            check_members(body, &m);
    if (wire_read_lists(body, froms, count, &lists))
        return;
    for (; varve_rel_lists_next(&lists, &m); count--) {
        VERIFY(m.more == (m.count < m.total));
        check_members(body, &m);
    }
    VERIFY(count == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    size_t count = 1 + data[0] % 3;
    uint8_t *block = malloc(n);
    VERIFY(block);
    memcpy(block, data + 1, n - 1);
    struct slice body = slice_of(block, n - 1);
    struct varve_op ops[3] = {{.kind = VARVE_OP_CHECK}};
    struct varve_value v;
    uint64_t sequence;
    if (!wire_read_value(body, &v))
        check_value(body, &v);
    if (!wire_read_txn(body, ops, count, &sequence))
        VERIFY(body.n == 12 + count * 16);
    if (!wire_read_conflicts(body, ops, count)) {
        size_t marked = 0;
        for (size_t i = 0; i < count; i++)
            marked += ops[i].conflict;
        VERIFY(marked > 0);
    }
    read_list(body, false);
    read_list(body, true);
    read_logs(body);
    read_relations(body, count);
    free(block);
    return 0;
}
