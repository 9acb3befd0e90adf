// What the commands of relations share.
#ifndef VARVE_CLI_REL_H
#define VARVE_CLI_REL_H

#include "cli/command.h"

enum { REL_TIMEOUT_MS = 60000 };

// The options of a command that talks to a server, for its table.
#define REL_OPTIONS(server, timeout)                                              \
    {"server", ARG_TEXT, &(server), "ADDR", "binary protocol, HOST:PORT"},        \
    {                                                                             \
        "timeout", ARG_TIME, &(timeout), "TIME", "for each answer (60s); 0: none" \
    }
#define REL_COUNT(a) (sizeof(a) / sizeof *(a))

int command_rel_get(const struct command *c, int argc, char **argv);
int command_rel_count(const struct command *c, int argc, char **argv);
int command_rel_contains(const struct command *c, int argc, char **argv);
int command_rel_intersect(const struct command *c, int argc, char **argv);
int command_rel_union(const struct command *c, int argc, char **argv);
int command_rel_difference(const struct command *c, int argc, char **argv);
int command_rel_froms(const struct command *c, int argc, char **argv);
int command_rel_import(const struct command *c, int argc, char **argv);
int command_rel_export(const struct command *c, int argc, char **argv);

// An operand that must be an id; false: it has been told.
bool rel_operand(const struct command *c, const char *name, const char *text, uint64_t *id);
// The operands from `first` on, MEMBERs; the caller's to free. NULL: it has been told.
uint64_t *rel_operands(const struct command *c, const struct arg_list *a, size_t first);
// Ends a call: tells what failed, closes.
int rel_done(const struct command *c, struct varve *v, enum varve_error e);

#endif
