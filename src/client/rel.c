// The calls of relations. What a reading returns points into the connection's buffer of replies.
#include "client/client_int.h"
#include "base/limits.h"

#define FROMS_PAGE 10000u // of varve_rel_froms

static enum varve_error name_of(struct varve *v, const char *relation, struct slice *name)
{
    *name = slice_of(relation, strnlen(relation, LIMIT_RELATION_NAME + 1));
    return name->n > LIMIT_RELATION_NAME
               ? client_fail(v, VARVE_INVALID, "a relation's name has at most %u bytes",
                             LIMIT_RELATION_NAME)
               : VARVE_OK;
}

static enum varve_error check_members(struct varve *v, size_t count)
{
    return count > LIMIT_REL_MEMBERS
               ? client_fail(v, VARVE_INVALID, "%zu members are over the limit of %u", count,
                             LIMIT_REL_MEMBERS)
               : VARVE_OK;
}

// ---- relations

enum varve_error varve_rel_create(struct varve *v, const char *relation,
                                  const struct varve_rel_options *options, uint64_t *created_ms)
{
    uint8_t bytes[4];
    struct slice args[2] = {{NULL, 0}, slice_of(bytes, sizeof bytes)};
    struct slice body;
    uint64_t created = 0;
    store32(bytes, options ? wire_rel_options(options) : 0);
    enum varve_error r = name_of(v, relation, &args[0]);
    r = r ? r : client_ask(v, WIRE_REL_CREATE, args, 2, &body);
    r = client_understood(v, r, r ? ERR_OK : wire_read_u64(body, &created));
    if (!r && created_ms)
        *created_ms = created;
    return r;
}

enum varve_error varve_rel_info(struct varve *v, const char *relation, struct varve_rel_info *info)
{
    struct slice name, body;
    enum varve_error r = name_of(v, relation, &name);
    r = r ? r : client_ask(v, WIRE_REL_INFO, &name, 1, &body);
    return client_understood(v, r, r ? ERR_OK : wire_read_rel_info(body, info));
}

enum varve_error varve_rel_list(struct varve *v, const char *after, size_t limit, varve_list_fn fn,
                                void *arg)
{
    struct client_listing l = {
        .type = WIRE_REL_LIST, .unscoped = true, .limit = limit, .fn = fn, .arg = arg};
    struct slice name = {NULL, 0};
    enum varve_error r = after ? name_of(v, after, &name) : VARVE_OK;
    return r ? r : client_list(v, &l, name);
}

// ---- changing

static enum varve_error queue_change(struct varve *v, enum wire_type type, const char *relation,
                                     uint64_t from, const uint64_t *members, size_t count,
                                     uint32_t flags)
{
    struct slice args[4] = {{NULL, 0},
                            slice_of(&from, sizeof from), // little-endian host, see base/slice.h
                            slice_of(members, count * sizeof *members),
                            slice_of(&flags, sizeof flags)};
    enum varve_error r = name_of(v, relation, &args[0]);
    r = r ? r : check_members(v, count);
    return r ? r : client_queue(v, type, args, 4);
}

enum varve_error varve_queue_rel_add(struct varve *v, const char *relation, uint64_t from,
                                     const uint64_t *members, size_t count, unsigned flags)
{
    return queue_change(v, WIRE_REL_ADD, relation, from, members, count, flags);
}

enum varve_error varve_queue_rel_remove(struct varve *v, const char *relation, uint64_t from,
                                        const uint64_t *members, size_t count, unsigned flags)
{
    return queue_change(v, WIRE_REL_REMOVE, relation, from, members, count, flags);
}

enum varve_error varve_queue_rel_edit(struct varve *v, const char *relation,
                                      const struct varve_rel_group *groups, size_t count,
                                      unsigned flags, const void *idempotency,
                                      size_t idempotency_size)
{
    struct slice name;
    enum varve_error r = name_of(v, relation, &name);
    size_t members = 0;
    for (size_t i = 0; !r && i < count; i++) {
        r = check_members(v, groups[i].count);
        members += groups[i].count;
        r = r ? r : check_members(v, members);
    }
    return r ? r
             : client_queue_edit(v, name, groups, count, flags,
                                 slice_of(idempotency, idempotency_size));
}

enum varve_error varve_rel_add(struct varve *v, const char *relation, uint64_t from,
                               const uint64_t *members, size_t count, unsigned flags,
                               uint64_t *added)
{
    struct varve_reply reply = {.error = VARVE_OK};
    enum varve_error r = client_begin_alone(v);
    r = r ? r : varve_queue_rel_add(v, relation, from, members, count, flags);
    r = client_only_reply(v, r, &reply);
    if (!r && added)
        *added = reply.added;
    return r;
}

enum varve_error varve_rel_remove(struct varve *v, const char *relation, uint64_t from,
                                  const uint64_t *members, size_t count, unsigned flags,
                                  uint64_t *removed)
{
    struct varve_reply reply = {.error = VARVE_OK};
    enum varve_error r = client_begin_alone(v);
    r = r ? r : varve_queue_rel_remove(v, relation, from, members, count, flags);
    r = client_only_reply(v, r, &reply);
    if (!r && removed)
        *removed = reply.removed;
    return r;
}

enum varve_error varve_rel_edit(struct varve *v, const char *relation,
                                const struct varve_rel_group *groups, size_t count, unsigned flags,
                                const void *idempotency, size_t idempotency_size, uint64_t *added,
                                uint64_t *removed)
{
    struct varve_reply reply = {.error = VARVE_OK};
    enum varve_error r = client_begin_alone(v);
    r = r ? r
          : varve_queue_rel_edit(v, relation, groups, count, flags, idempotency, idempotency_size);
    r = client_only_reply(v, r, &reply);
    if (!r && added)
        *added = reply.added;
    if (!r && removed)
        *removed = reply.removed;
    return r;
}

// ---- reading

enum varve_error varve_queue_rel_get(struct varve *v, const char *relation, uint64_t from)
{
    struct slice args[2] = {{NULL, 0}, slice_of(&from, sizeof from)};
    enum varve_error r = name_of(v, relation, &args[0]);
    return r ? r : client_queue(v, WIRE_REL_GET, args, 2);
}

enum varve_error varve_queue_rel_page(struct varve *v, const char *relation, uint64_t from,
                                      const struct varve_rel_query *q)
{
    uint8_t page[WIRE_REL_PAGE_BYTES];
    struct slice args[3] = {{NULL, 0}, slice_of(&from, sizeof from), slice_of(page, sizeof page)};
    enum varve_error r = name_of(v, relation, &args[0]);
    wire_rel_page(page, (unsigned)q->order, q);
    return r ? r : client_queue(v, WIRE_REL_PAGE, args, 3);
}

enum varve_error varve_rel_get(struct varve *v, const char *relation, uint64_t from,
                               struct varve_members *members)
{
    struct varve_reply reply = {.error = VARVE_OK};
    enum varve_error r = client_begin_alone(v);
    r = client_only_reply(v, r ? r : varve_queue_rel_get(v, relation, from), &reply);
    if (!r)
        *members = reply.members;
    return r;
}

enum varve_error varve_rel_page(struct varve *v, const char *relation, uint64_t from,
                                const struct varve_rel_query *query, struct varve_members *page)
{
    struct varve_reply reply = {.error = VARVE_OK};
    enum varve_error r = client_begin_alone(v);
    r = client_only_reply(v, r ? r : varve_queue_rel_page(v, relation, from, query), &reply);
    if (!r)
        *page = reply.members;
    return r;
}

enum varve_error varve_rel_count(struct varve *v, const char *relation, uint64_t from,
                                 unsigned flags, uint64_t *count)
{
    uint32_t bits = flags;
    struct slice args[3] = {{NULL, 0}, slice_of(&from, sizeof from), slice_of(&bits, sizeof bits)};
    struct slice body;
    enum varve_error r = name_of(v, relation, &args[0]);
    r = r ? r : client_ask(v, WIRE_REL_COUNT, args, 3, &body);
    return client_understood(v, r, r ? ERR_OK : wire_read_u64(body, count));
}

enum varve_error varve_rel_contains(struct varve *v, const char *relation, uint64_t from,
                                    const uint64_t *members, size_t count, unsigned flags,
                                    bool *found)
{
    uint32_t bits = flags;
    struct slice args[4] = {{NULL, 0},
                            slice_of(&from, sizeof from),
                            slice_of(members, count * sizeof *members),
                            slice_of(&bits, sizeof bits)};
    struct slice body;
    enum varve_error r = name_of(v, relation, &args[0]);
    r = r ? r : check_members(v, count);
    r = r ? r : client_ask(v, WIRE_REL_CONTAINS, args, 4, &body);
    return client_understood(v, r, r ? ERR_OK : wire_read_contains(body, found, count));
}

enum varve_error varve_rel_many(struct varve *v, const char *relation, const uint64_t *froms,
                                size_t count, uint32_t limit, unsigned flags,
                                struct varve_rel_lists *lists)
{
    uint32_t how[2] = {limit, flags};
    struct slice args[3] = {
        {NULL, 0}, slice_of(froms, count * sizeof *froms), slice_of(how, sizeof how)};
    struct slice body;
    enum varve_error r = name_of(v, relation, &args[0]);
    if (!r && count > LIMIT_REL_MANY)
        r = client_fail(v, VARVE_INVALID, "%zu lists are over the limit of %u", count,
                        LIMIT_REL_MANY);
    r = r ? r : client_ask(v, WIRE_REL_MANY, args, 3, &body);
    return client_understood(v, r, r ? ERR_OK : wire_read_lists(body, froms, count, lists));
}

enum varve_error varve_rel_combine(struct varve *v, enum varve_rel_combine how,
                                   const struct varve_rel_list *lists, size_t count,
                                   const struct varve_rel_query *query, struct varve_members *page)
{
    uint8_t bytes[LIMIT_REL_LISTS * (WIRE_REL_LIST_BYTES + LIMIT_RELATION_NAME)];
    uint8_t how_much[WIRE_REL_PAGE_BYTES];
    struct varve_rel_query q = query ? *query : (struct varve_rel_query){.has_after = false};
    struct slice body;
    size_t n = 0;
    if (count > LIMIT_REL_LISTS)
        return client_fail(v, VARVE_INVALID, "%zu lists are over the limit of %u", count,
                           LIMIT_REL_LISTS);
    for (size_t i = 0; i < count; i++) {
        struct slice name;
        enum varve_error r = name_of(v, lists[i].relation, &name);
        if (r)
            return r;
        store64(bytes + n, lists[i].from);
        bytes[n + 8] = lists[i].reverse ? VARVE_REL_REVERSE : 0;
        bytes[n + 9] = (uint8_t)name.n;
        memcpy(bytes + n + WIRE_REL_LIST_BYTES, name.p, name.n);
        n += WIRE_REL_LIST_BYTES + name.n;
    }
    q.flags = 0; // each list has its own
    wire_rel_page(how_much, (unsigned)how, &q);
    struct slice args[2] = {slice_of(bytes, n), slice_of(how_much, sizeof how_much)};
    enum varve_error r = client_ask(v, WIRE_REL_COMBINE, args, 2, &body);
    return client_understood(v, r, r ? ERR_OK : wire_read_rel_page(body, false, page));
}

// Hands one page of froms to fn. *q goes on after it; *left is what is still wanted. *more: there
// may be another page, and nobody said stop.
static enum varve_error take_froms(struct varve *v, struct slice body, struct varve_rel_query *q,
                                   size_t *left, varve_rel_from_fn fn, void *arg, bool *more)
{
    size_t count = body.n / 16;
    *more = false;
    if (body.n % 16 || count > q->limit)
        return client_malformed(v, "a listing has no whole lists, or more than were asked for");
    if (count == 0)
        return VARVE_OK;
    for (size_t i = 0; i < count; i++)
        if (!fn(arg, load64(body.p + i * 16), load64(body.p + i * 16 + 8)))
            return VARVE_OK;
    uint64_t last = load64(body.p + (count - 1) * 16);
    if (q->has_after && last == q->after) // it would never end
        return client_malformed(v, "a listing does not go on");
    q->has_after = true;
    q->after = last;
    if (*left != SIZE_MAX)
        *left -= count;
    *more = *left > 0;
    return VARVE_OK;
}

enum varve_error varve_rel_froms(struct varve *v, const char *relation, const uint64_t *after,
                                 size_t limit, unsigned flags, varve_rel_from_fn fn, void *arg)
{
    struct varve_rel_query q = {.flags = flags, .has_after = after, .after = after ? *after : 0};
    struct slice args[2];
    size_t left = limit ? limit : SIZE_MAX;
    enum varve_error r = name_of(v, relation, &args[0]);
    for (bool more = true; !r && more;) {
        uint8_t page[WIRE_REL_PAGE_BYTES];
        struct slice body;
        q.limit = left < FROMS_PAGE ? (uint32_t)left : FROMS_PAGE;
        wire_rel_page(page, VARVE_REL_RISING, &q);
        args[1] = slice_of(page, sizeof page);
        r = client_ask(v, WIRE_REL_FROMS, args, 2, &body);
        r = r ? r : take_froms(v, body, &q, &left, fn, arg, &more);
    }
    return r;
}
