// The requests and replies of relations. Ids are packed on the wire as in memory: the host is
// little-endian, see base/slice.h.
#include "base/limits.h"
#include "client/wire.h"

enum {
    GROUP_HEAD = 16, // of a group in REL_EDIT: from, count, remove
    LIST_HEAD = 12,  // of a list in the reply to REL_MANY: total, count
    ID = 8,
    OPTION_REVERSE = 1,
    OPTION_RECENT = 2,
    OPTION_RELAXED = 4,
    PAGE_REVERSE = 1, // flags of a page
    PAGE_AFTER = 4,
};

bool wire_relate_sizes(const struct varve_op *op, size_t *key, size_t *value)
{
    size_t name = strnlen(op->relation, LIMIT_RELATION_NAME + 1);
    *key = ID + name;
    *value = op->member_count * ID;
    return name <= LIMIT_RELATION_NAME && op->member_count <= LIMIT_REL_MEMBERS;
}

void wire_put_relate(struct buf *b, const struct varve_op *op)
{
    buf_put(b, &op->from, ID);
    buf_put(b, op->relation, strlen(op->relation));
    buf_put(b, op->members, op->member_count * ID);
}

enum err wire_request_edit(struct buf *b, struct slice relation,
                           const struct varve_rel_group *groups, size_t count, uint32_t flags,
                           struct slice idempotency)
{
    size_t members = 0;
    for (size_t i = 0; i < count; i++) {
        if (groups[i].count > LIMIT_REL_MEMBERS - members)
            return ERR_TOO_BIG;
        members += groups[i].count;
    }
    if (count > LIMIT_REL_MEMBERS || idempotency.n > LIMIT_IDEMPOTENCY_KEY)
        return ERR_TOO_BIG;
    size_t n = count * GROUP_HEAD + members * ID;
    enum err e = buf_reserve(b, 2 + 4 + relation.n + 4 + n + 4 + 4 + 4 + idempotency.n);
    if (e)
        return e;
    wire_put_type(b, WIRE_REL_EDIT);
    wire_put32(b, (uint32_t)relation.n);
    buf_put(b, relation.p, relation.n);
    wire_put32(b, (uint32_t)n);
    for (size_t i = 0; i < count; i++) {
        uint8_t head[GROUP_HEAD];
        store64(head, groups[i].from);
        store32(head + 8, (uint32_t)groups[i].count);
        store32(head + 12, groups[i].remove);
        buf_put(b, head, sizeof head);
        buf_put(b, groups[i].members, groups[i].count * ID);
    }
    wire_put32(b, sizeof flags);
    wire_put32(b, flags);
    wire_put32(b, (uint32_t)idempotency.n);
    buf_put(b, idempotency.p, idempotency.n);
    return ERR_OK;
}

void wire_rel_page(uint8_t page[WIRE_REL_PAGE_BYTES], unsigned order,
                   const struct varve_rel_query *q)
{
    memset(page, 0, WIRE_REL_PAGE_BYTES);
    page[0] = (uint8_t)order;
    page[1] = (uint8_t)((q->flags & VARVE_REL_REVERSE ? PAGE_REVERSE : 0) |
                        (q->has_after ? PAGE_AFTER : 0));
    store32(page + 4, q->limit);
    store64(page + 8, q->has_after ? q->after : 0);
}

uint32_t wire_rel_options(const struct varve_rel_options *o)
{
    return (o->reverse ? OPTION_REVERSE : 0u) | (o->recent ? OPTION_RECENT : 0u) |
           (o->relaxed ? OPTION_RELAXED : 0u);
}

enum err wire_read_u32(struct slice body, uint64_t *n)
{
    if (body.n != 4)
        return ERR_INVALID;
    *n = load32(body.p);
    return ERR_OK;
}

enum err wire_read_rel_info(struct slice body, struct varve_rel_info *info)
{
    if (body.n != 28)
        return ERR_INVALID;
    uint32_t options = load32(body.p + 8);
    *info = (struct varve_rel_info){
        .created_ms = load64(body.p),
        .options = {.reverse = options & OPTION_REVERSE,
                    .recent = options & OPTION_RECENT,
                    .relaxed = options & OPTION_RELAXED},
        .resident_lists = load64(body.p + 12),
        .resident_members = load64(body.p + 20),
    };
    return ERR_OK;
}

enum err wire_read_edited(struct slice body, uint64_t *added, uint64_t *removed)
{
    if (body.n != 16)
        return ERR_INVALID;
    *added = load64(body.p);
    *removed = load64(body.p + 8);
    return ERR_OK;
}

enum err wire_read_members(struct slice body, struct varve_members *m)
{
    if (body.n % ID)
        return ERR_INVALID;
    *m = (struct varve_members){.data = body.p, .count = body.n / ID, .total = body.n / ID};
    return ERR_OK;
}

enum err wire_read_rel_page(struct slice body, bool total, struct varve_members *m)
{
    const uint8_t *first = total ? wire_take(&body, 8) : NULL;
    const uint8_t *head = wire_take(&body, 16); // next, more, 0
    if ((total && !first) || !head || load32(head + 8) > 1 || load32(head + 12) || body.n % ID)
        return ERR_INVALID;
    *m = (struct varve_members){
        .data = body.p,
        .count = body.n / ID,
        .total = first ? load64(first) : 0,
        .more = load32(head + 8),
        .next = load64(head),
    };
    return ERR_OK;
}

enum err wire_read_lists(struct slice body, const uint64_t *froms, size_t count,
                         struct varve_rel_lists *lists)
{
    *lists = (struct varve_rel_lists){.count = count, .froms = froms, .at = body.p};
    for (size_t i = 0; i < count; i++) {
        const uint8_t *head = wire_take(&body, LIST_HEAD);
        if (!head || load32(head + 8) > load64(head) ||
            !wire_take(&body, (size_t)load32(head + 8) * ID))
            return ERR_INVALID;
    }
    return body.n ? ERR_INVALID : ERR_OK;
}

bool varve_rel_lists_next(struct varve_rel_lists *lists, struct varve_members *list)
{
    if (lists->count == 0)
        return false;
    const uint8_t *head = lists->at; // wire_read_lists has looked at all of them
    uint64_t total = load64(head);
    size_t n = load32(head + 8);
    *list = (struct varve_members){
        .data = head + LIST_HEAD,
        .count = n,
        .total = total,
        .more = n < total,
        .next = n ? load64(head + LIST_HEAD + (n - 1) * ID) : 0,
        .from = *lists->froms,
    };
    lists->count--;
    lists->froms++;
    lists->at = head + LIST_HEAD + n * ID;
    return true;
}

enum err wire_read_contains(struct slice body, bool *found, size_t count)
{
    if (body.n != count)
        return ERR_INVALID;
    for (size_t i = 0; i < count; i++) {
        if (body.p[i] > 1)
            return ERR_INVALID;
        found[i] = body.p[i];
    }
    return ERR_OK;
}
