// What the files of the offline commands share.
#ifndef VARVE_SERVER_OFFLINE_INT_H
#define VARVE_SERVER_OFFLINE_INT_H

#include "cli/cli.h"
#include "commit/commit.h"
#include <pthread.h>

struct tier;

// A data directory opened by this process alone.
struct data {
    struct config *config;
    struct tier *tier; // NULL: none
    struct commit *commit;
    struct buf page; // of a relation's list, given last
    // A call that waits for the commit room's threads.
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool is_done;
    enum err error;
};

// An error has a text.
enum err offline_told(enum err e, struct errmsg *msg);
// Set is_done to false, hand offline_woken with the data to the commit room, then wait.
void offline_woken(void *arg, enum err e);
enum err offline_wait(struct data *d);
// Does what commit_txn asked for before it can be tried again.
enum err offline_make_ready(struct data *d, const struct txn *t, enum err why);

enum err offline_rel_list(void *data, const char *after, size_t limit, varve_list_fn fn, void *arg,
                          struct errmsg *msg);
enum err offline_rel_info(void *data, const char *relation, struct varve_rel_info *info,
                          struct errmsg *msg);
enum err offline_rel_create(void *data, const char *relation,
                            const struct varve_rel_options *options, struct errmsg *msg);
enum err offline_rel_froms(void *data, const char *relation, const uint64_t *after, size_t limit,
                           varve_rel_from_fn fn, void *arg, struct errmsg *msg);
enum err offline_rel_page(void *data, const char *relation, uint64_t from,
                          const struct varve_rel_query *query, struct varve_members *page,
                          struct errmsg *msg);
enum err offline_rel_add(void *data, const char *relation, const struct varve_rel_group *groups,
                         size_t count, uint64_t *added, struct errmsg *msg);

#endif
