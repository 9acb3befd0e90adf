// `varve serve`: the process. Wires the rooms together and runs them until a signal.
#ifndef VARVE_SERVER_SERVE_H
#define VARVE_SERVER_SERVE_H

#include "base/config.h"
#include "base/err.h"

struct commit_options;
struct os;
struct tier;

// argv[0] is "serve". Returns the process's exit status: 0 after an orderly stop, 2 for a bad flag
// or config, 3 when it could not start or could not stop in order.
int serve_main(int argc, char **argv);

// The commit room's options from the config; used by the offline tools too. `os` and the strings
// live as long as `config`.
void serve_commit_options(const struct config *config, struct os *os, struct commit_options *o);
// The tier that the config asks for; NULL: none. ERR_INVALID and what tier_new says, with msg.
MUST_USE enum err serve_tier(const struct config *config, struct os *os, struct tier **t,
                             struct errmsg *msg);

#endif
