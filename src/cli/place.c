#include "cli/place.h"

bool place_open(struct place *p, const struct command *c, const char *server, const char *dir,
                uint64_t timeout, bool create)
{
    struct errmsg msg;
    *p = (struct place){.c = c};
    if (server && dir)
        p->code = command_fail(c, CLI_USAGE, "--server and --data exclude each other");
    else if (dir && !c->offline)
        p->code = command_fail(c, CLI_USAGE, "--data is not built in");
    else if (dir && c->offline->open(&p->data, dir, create, &msg))
        p->code = command_fail(c, CLI_FAILED, "%s", msg.text);
    else if (!dir && !(p->server = command_connect(c, server, timeout)))
        p->code = CLI_FAILED;
    return !p->code;
}

void place_close(struct place *p)
{
    struct errmsg msg;
    varve_close(p->server);
    if (p->data && p->c->offline->close(p->data, &msg) && !p->code)
        p->code = command_fail(p->c, CLI_FAILED, "%s", msg.text);
}

// The exit code of a call to the server or to the directory; the other one's error is 0.
static int ended(struct place *p, enum varve_error r, enum err e, const struct errmsg *msg)
{
    if (!r && !e)
        return CLI_OK;
    if (r == VARVE_CONFLICT || r == VARVE_MISSING || e == ERR_CONFLICT || e == ERR_MISSING ||
        e == ERR_EXISTS)
        return CLI_NO;
    return r ? command_failed_call(p->c, p->server, r)
             : command_fail(p->c, CLI_FAILED, "%s", msg->text);
}

#define CALL(p, on_server, on_data)                                  \
    do {                                                             \
        struct errmsg msg = {""};                                    \
        if ((p)->server)                                             \
            return ended((p), (on_server), ERR_OK, &msg);            \
        return ended((p), VARVE_OK, (p)->c->offline->on_data, &msg); \
    } while (0)

int place_txn(struct place *p, struct varve_op *ops, size_t count)
{
    CALL(p, varve_txn(p->server, ops, count, NULL, 0, NULL), txn(p->data, ops, count, &msg));
}

int place_names(struct place *p, struct slice keyspace, struct slice after, size_t limit,
                varve_list_fn fn, void *arg)
{
    CALL(p, varve_log_list(p->server, keyspace.p, keyspace.n, after.p, after.n, limit, fn, arg),
         log_list(p->data, keyspace, after, limit, fn, arg, &msg));
}

int place_keyspace(struct place *p, struct slice name, struct varve_log_policy *policy)
{
    CALL(p, varve_keyspace_get(p->server, name.p, name.n, policy, NULL),
         keyspace_get(p->data, name, policy, &msg));
}

int place_create(struct place *p, struct slice name, const struct varve_log_policy *policy)
{
    CALL(p, varve_keyspace_create(p->server, name.p, name.n, policy, NULL),
         keyspace_create(p->data, name, policy, &msg));
}

int place_meta(struct place *p, const struct varve_log *log, struct varve_log_meta *meta)
{
    CALL(p, varve_log_meta(p->server, log, meta), log_meta(p->data, log, meta, &msg));
}

static enum varve_error read_from_server(struct varve *v, const struct varve_log *log,
                                         cli_record_fn fn, void *arg)
{
    struct varve_log_query q = {.page_size = 100000};
    struct varve_page page;
    struct varve_record record;
    uint64_t end = 0; // as it was at first: a log that is being appended to might never end
    do {
        enum varve_error r = varve_log_read(v, log, &q, &page);
        if (r)
            return r;
        end = end ? end : page.next_offset;
        while (varve_page_next(&page, &record))
            if (record.offset >= end || !fn(arg, &record))
                return VARVE_OK;
        q.continuation = page.continuation;
        q.continuation_size = page.continuation_size;
    } while (page.more);
    return VARVE_OK;
}

int place_records(struct place *p, const struct varve_log *log, cli_record_fn fn, void *arg)
{
    CALL(p, read_from_server(p->server, log, fn, arg), log_read(p->data, log, fn, arg, &msg));
}

int place_relations(struct place *p, const char *after, size_t limit, varve_list_fn fn, void *arg)
{
    CALL(p, varve_rel_list(p->server, after, limit, fn, arg),
         rel_list(p->data, after, limit, fn, arg, &msg));
}

int place_relation(struct place *p, const char *relation, struct varve_rel_info *info)
{
    CALL(p, varve_rel_info(p->server, relation, info), rel_info(p->data, relation, info, &msg));
}

int place_declare(struct place *p, const char *relation, const struct varve_rel_options *options)
{
    CALL(p, varve_rel_create(p->server, relation, options, NULL),
         rel_create(p->data, relation, options, &msg));
}

int place_froms(struct place *p, const char *relation, const uint64_t *after, size_t limit,
                varve_rel_from_fn fn, void *arg)
{
    CALL(p, varve_rel_froms(p->server, relation, after, limit, 0, fn, arg),
         rel_froms(p->data, relation, after, limit, fn, arg, &msg));
}

int place_members(struct place *p, const char *relation, uint64_t from,
                  const struct varve_rel_query *query, struct varve_members *page)
{
    CALL(p, varve_rel_page(p->server, relation, from, query, page),
         rel_page(p->data, relation, from, query, page, &msg));
}

int place_relate(struct place *p, const char *relation, const struct varve_rel_group *groups,
                 size_t count, uint64_t *added)
{
    CALL(p, varve_rel_edit(p->server, relation, groups, count, 0, NULL, 0, added, NULL),
         rel_add(p->data, relation, groups, count, added, &msg));
}
