// Relations of a data directory that no server has open.
#include "base/limits.h"
#include "commit/rel.h"
#include "server/offline_int.h"
#include <stdlib.h>

struct names {
    varve_list_fn fn;
    void *arg;
};

static bool list_name(void *arg, const struct relation_view *v)
{
    const struct names *n = arg;
    return n->fn(n->arg, v->name.p, v->name.n, NULL);
}

enum err offline_rel_list(void *data, const char *after, size_t limit, varve_list_fn fn, void *arg,
                          struct errmsg *msg)
{
    struct data *d = data;
    struct names n = {fn, arg};
    uint64_t dep;
    msg->text[0] = 0;
    return offline_told(
        commit_relation_list(d->commit, slice_str(after), limit, list_name, &n, &dep), msg);
}

enum err offline_rel_info(void *data, const char *relation, struct varve_rel_info *info,
                          struct errmsg *msg)
{
    struct data *d = data;
    struct relation_view v;
    uint64_t dep;
    msg->text[0] = 0;
    enum err e = commit_relation_get(d->commit, slice_str(relation), &v, &dep, msg);
    if (!e)
        *info = (struct varve_rel_info){
            .created_ms = v.created_ms,
            .options = {v.options.reverse, v.options.recent, v.options.relaxed},
            .resident_lists = v.resident_lists,
            .resident_members = v.resident_members,
        };
    return offline_told(e, msg);
}

enum err offline_rel_create(void *data, const char *relation,
                            const struct varve_rel_options *options, struct errmsg *msg)
{
    struct data *d = data;
    struct relation_options o = {options->reverse, options->recent, options->relaxed};
    uint64_t created, dep;
    msg->text[0] = 0;
    enum err e = commit_relation_create(d->commit, slice_str(relation), &o, &created, &dep, msg);
    commit_kick(d->commit);
    return offline_told(e ? e : commit_wait(d->commit, dep), msg);
}

enum err offline_rel_froms(void *data, const char *relation, const uint64_t *after, size_t limit,
                           varve_rel_from_fn fn, void *arg, struct errmsg *msg)
{
    struct data *d = data;
    uint64_t dep;
    msg->text[0] = 0;
    return offline_told(commit_rel_froms(d->commit, slice_str(relation), false, after != NULL,
                                         after ? *after : 0, limit, fn, arg, &dep, msg),
                        msg);
}

// The list is brought in from the disk if it must be.
static enum err read_page(struct data *d, const struct rel_ref *r, const struct rel_page_query *q,
                          struct rel_page *page, struct errmsg *msg)
{
    uint64_t dep;
    for (;;) {
        buf_clear(&d->page);
        enum err e = commit_rel_page(d->commit, r, q, &d->page, page, &dep, msg);
        if (e != ERR_COLD)
            return e;
        d->is_done = false;
        e = commit_rel_fetch(d->commit, r, 1, offline_woken, d);
        e = e ? e : offline_wait(d);
        if (e)
            return e;
    }
}

enum err offline_rel_page(void *data, const char *relation, uint64_t from,
                          const struct varve_rel_query *query, struct varve_members *page,
                          struct errmsg *msg)
{
    struct data *d = data;
    struct rel_ref r;
    struct rel_page p = {.total = 0};
    struct rel_page_query q = {.order = (enum rel_order)query->order,
                               .has_after = query->has_after,
                               .after = query->after,
                               .max = query->limit};
    bool reverse = query->flags & VARVE_REL_REVERSE;
    msg->text[0] = 0;
    enum err e = commit_rel_ref(d->commit, slice_str(relation), from, reverse, &r, msg);
    e = e ? e : read_page(d, &r, &q, &p, msg);
    if (!e)
        *page = (struct varve_members){.data = buf_head(&d->page),
                                       .count = p.count,
                                       .total = p.total,
                                       .more = p.more,
                                       .next = p.next};
    return offline_told(e, msg);
}

_Static_assert((int)VARVE_REL_RISING == REL_RISING && (int)VARVE_REL_FALLING == REL_FALLING &&
                   (int)VARVE_REL_NEWEST == REL_NEWEST,
               "the client library's orders are the commit room's");

enum err offline_rel_add(void *data, const char *relation, const struct varve_rel_group *groups,
                         size_t count, uint64_t *added, struct errmsg *msg)
{
    struct data *d = data;
    struct rel_edit edit = {.relation = slice_str(relation), .count = count};
    struct txn_op op = {.kind = TXN_RELATE, .edit = &edit};
    struct txn t = {.ops = &op, .count = 1};
    uint64_t dep = 0;
    edit.groups = calloc(count, sizeof *edit.groups);
    if (!edit.groups)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < count; i++)
        edit.groups[i] = (struct rel_group){
            .from = groups[i].from,
            .members = (const uint8_t *)groups[i].members,
            .count = (uint32_t)groups[i].count,
        };
    enum err e;
    msg->text[0] = 0;
    for (;;) {
        e = commit_txn(d->commit, &t, &dep, msg);
        if (e != ERR_COLD && e != ERR_FULL)
            break;
        e = offline_make_ready(d, &t, e);
        if (e)
            break;
    }
    commit_kick(d->commit);
    if (!e)
        e = commit_wait(d->commit, dep);
    *added = edit.changed;
    free(edit.groups);
    return offline_told(e, msg);
}
