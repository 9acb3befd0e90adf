// All lists of a relation of a running server, one after another: for export and dump. Lists that
// change meanwhile are given as they were or as they are.
#ifndef VARVE_CLI_REL_LISTS_H
#define VARVE_CLI_REL_LISTS_H

#include "varve.h"

// Called for each list, or for each part of a long one, one after another: members rise. Returns
// false to stop. It must not use the connection.
typedef bool (*rel_list_fn)(void *arg, uint64_t from, const struct varve_members *members);
// flags: VARVE_REL_REVERSE. VARVE_NO_MEMORY, or what a call gave.
VARVE_MUST_USE enum varve_error rel_each_list(struct varve *v, const char *relation, unsigned flags,
                                              rel_list_fn fn, void *arg);

#endif
