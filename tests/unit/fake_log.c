// In place of the logs of the commit room: nothing is supported. Logs are tested with the real
// room: tests/unit/test_commit_logs.c and tests/blackbox.
#include "commit/log.h"

enum err commit_keyspace_create(struct commit *c, struct slice name, const struct log_policy *p,
                                uint64_t *created_ms, uint64_t *dep, struct errmsg *msg)
{
    return ERR_UNSUPPORTED;
}

enum err commit_keyspace_policy(struct commit *c, struct slice name, const struct log_policy *p,
                                uint64_t *dep, struct errmsg *msg)
{
    return ERR_UNSUPPORTED;
}

enum err commit_keyspace_get(struct commit *c, struct slice name, struct keyspace_view *v,
                             uint64_t *dep, struct errmsg *msg)
{
    return ERR_UNSUPPORTED;
}

enum err commit_log_list(struct commit *c, struct slice keyspace, struct slice after, size_t limit,
                         log_list_fn fn, void *arg, uint64_t *dep, struct errmsg *msg)
{
    return ERR_UNSUPPORTED;
}

enum err commit_log_meta(struct commit *c, const struct log_name *name, struct log_meta *m,
                         uint64_t *dep, struct errmsg *msg)
{
    return ERR_UNSUPPORTED;
}

enum err commit_log_flush(struct commit *c, const struct log_name *name, uint64_t *dep,
                          struct errmsg *msg)
{
    return ERR_UNSUPPORTED;
}

enum err commit_log_read(struct commit *c, const struct log_query *q, struct log_page *page,
                         uint64_t *dep, struct errmsg *msg)
{
    return ERR_UNSUPPORTED;
}

enum err commit_log_watch(struct commit *c, const struct log_name *name, uint64_t offset,
                          struct log_watch *w, struct errmsg *msg)
{
    return ERR_UNSUPPORTED;
}

enum err commit_log_trim(struct commit *c, const struct log_name *name, const struct log_from *to,
                         uint64_t *first_offset, uint64_t *dep, struct errmsg *msg)
{
    return ERR_UNSUPPORTED;
}

enum err commit_log_erase(struct commit *c, const struct log_name *name, uint64_t offset,
                          uint64_t *dep, struct errmsg *msg)
{
    return ERR_UNSUPPORTED;
}

bool log_page_next(struct log_page *page, struct record *r)
{
    return false;
}

void log_page_release(struct log_page *page)
{
}

bool commit_log_unwatch(struct commit *c, struct log_watch *w)
{
    return false;
}
