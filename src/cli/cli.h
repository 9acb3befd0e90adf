// The command line: every word of `varve` but serve.
#ifndef VARVE_CLI_CLI_H
#define VARVE_CLI_CLI_H

#include "base/err.h"
#include "base/slice.h"
#include "varve.h"

// Exit codes of every command.
enum cli_exit {
    CLI_OK = 0,
    CLI_NO = 1,    // no such key; a version conflict
    CLI_USAGE = 2, // the command line or the input is wrong
    CLI_FAILED = 3 // the server, the network or the disk
};

typedef bool (*cli_record_fn)(void *arg, const struct varve_record *record);

// What the offline commands need from rooms that this one may not know: a data directory that no
// server has open. server/offline.c provides it.
struct cli_offline {
    // Verifies without changing anything and prints what was found to the FILE *.
    enum err (*check)(const char *dir, void *file, struct errmsg *msg);
    // Opens for dump (create false: ERR_MISSING if there is no data directory) or restore.
    enum err (*open)(void **data, const char *dir, bool create, struct errmsg *msg);
    // All keys with their values, in order.
    enum err (*list)(void *data, struct slice prefix, varve_list_fn fn, void *arg,
                     struct errmsg *msg);
    // One transaction, durable when it returns; fills in the operations' results. ERR_CONFLICT.
    enum err (*txn)(void *data, struct varve_op *ops, size_t count, struct errmsg *msg);
    // As the calls of varve.h: names after one, at most `limit`; ERR_MISSING; ERR_EXISTS.
    enum err (*log_list)(void *data, struct slice keyspace, struct slice after, size_t limit,
                         varve_list_fn fn, void *arg, struct errmsg *msg);
    enum err (*keyspace_get)(void *data, struct slice keyspace, struct varve_log_policy *policy,
                             struct errmsg *msg);
    enum err (*keyspace_create)(void *data, struct slice keyspace,
                                const struct varve_log_policy *policy, struct errmsg *msg);
    enum err (*log_meta)(void *data, const struct varve_log *log, struct varve_log_meta *meta,
                         struct errmsg *msg);
    // All records, in order; fn returns false to stop.
    enum err (*log_read)(void *data, const struct varve_log *log, cli_record_fn fn, void *arg,
                         struct errmsg *msg);
    // Relations, likewise; ERR_MISSING; ERR_EXISTS.
    enum err (*rel_list)(void *data, const char *after, size_t limit, varve_list_fn fn, void *arg,
                         struct errmsg *msg);
    enum err (*rel_info)(void *data, const char *relation, struct varve_rel_info *info,
                         struct errmsg *msg);
    enum err (*rel_create)(void *data, const char *relation,
                           const struct varve_rel_options *options, struct errmsg *msg);
    enum err (*rel_froms)(void *data, const char *relation, const uint64_t *after, size_t limit,
                          varve_rel_from_fn fn, void *arg, struct errmsg *msg);
    // The page lives until the next call.
    enum err (*rel_page)(void *data, const char *relation, uint64_t from,
                         const struct varve_rel_query *query, struct varve_members *page,
                         struct errmsg *msg);
    // Adds the members of all groups, in one transaction.
    enum err (*rel_add)(void *data, const char *relation, const struct varve_rel_group *groups,
                        size_t count, uint64_t *added, struct errmsg *msg);
    enum err (*close)(void *data, struct errmsg *msg);
};

// Runs `varve argv[1] ...` and returns the process's exit code.
int cli_main(int argc, char **argv, const struct cli_offline *offline);

#endif
