// Where dump takes things from and restore brings them to: a running server, or a data directory
// that no server has open.
#ifndef VARVE_CLI_PLACE_H
#define VARVE_CLI_PLACE_H

#include "cli/command.h"

struct place {
    const struct command *c;
    struct varve *server; // one of the two is not NULL
    void *data;           // of c->offline
    int code;             // exit code of what went wrong; it has been told
};

// False: it has been told why, and `code` is set.
bool place_open(struct place *p, const struct command *c, const char *server, const char *dir,
                uint64_t timeout, bool create);
void place_close(struct place *p);

// Each gives an exit code. CLI_NO, which is left to the caller to tell: a conflict, marked in the
// operations; nothing of that name; a keyspace that exists. Anything else has been told.
int place_txn(struct place *p, struct varve_op *ops, size_t count);
// Names of keyspaces (empty `keyspace`) or logs that come after `after`, at most `limit`.
int place_names(struct place *p, struct slice keyspace, struct slice after, size_t limit,
                varve_list_fn fn, void *arg);
int place_keyspace(struct place *p, struct slice name, struct varve_log_policy *policy);
int place_create(struct place *p, struct slice name, const struct varve_log_policy *policy);
int place_meta(struct place *p, const struct varve_log *log, struct varve_log_meta *meta);
int place_records(struct place *p, const struct varve_log *log, cli_record_fn fn, void *arg);
// Names of relations past `after`, at most `limit`.
int place_relations(struct place *p, const char *after, size_t limit, varve_list_fn fn, void *arg);
int place_relation(struct place *p, const char *relation, struct varve_rel_info *info);
int place_declare(struct place *p, const char *relation, const struct varve_rel_options *options);
int place_froms(struct place *p, const char *relation, const uint64_t *after, size_t limit,
                varve_rel_from_fn fn, void *arg);
// The page lives until the next call.
int place_members(struct place *p, const char *relation, uint64_t from,
                  const struct varve_rel_query *query, struct varve_members *page);
// Adds to lists, in one transaction.
int place_relate(struct place *p, const char *relation, const struct varve_rel_group *groups,
                 size_t count, uint64_t *added);

#endif
