// What the command line's own files share: the table of commands and the ways to talk to a person.
#ifndef VARVE_CLI_COMMAND_H
#define VARVE_CLI_COMMAND_H

#include "cli/args.h"
#include "cli/cli.h"

#define CLI_SERVER     "127.0.0.1:3000"
#define CLI_SERVER_ENV "VARVE_SERVER" // the one VARVE_* name that is no config key

struct command {
    const char *name;
    const char *operands; // "KEY [VALUE]"
    const char *summary;  // one line
    // argc, argv: what comes after the command's name.
    int (*run)(const struct command *c, int argc, char **argv);
    const struct cli_offline *offline;
};

int command_get(const struct command *c, int argc, char **argv);
int command_put(const struct command *c, int argc, char **argv);
int command_delete(const struct command *c, int argc, char **argv);
int command_list(const struct command *c, int argc, char **argv);
int command_txn(const struct command *c, int argc, char **argv);
int command_dump(const struct command *c, int argc, char **argv);
int command_restore(const struct command *c, int argc, char **argv);
int command_stat(const struct command *c, int argc, char **argv);
int command_check(const struct command *c, int argc, char **argv);
int command_bench(const struct command *c, int argc, char **argv);
int command_log(const struct command *c, int argc, char **argv);
int command_event(const struct command *c, int argc, char **argv);
int command_rel(const struct command *c, int argc, char **argv);
int command_bridge(const struct command *c, int argc, char **argv);

// Runs the one of `words`, whose names are the group's and a word more, that argv[0] names.
int command_group(const struct command *group, const struct command *words, size_t count, int argc,
                  char **argv);

// Parses; *exit_code is set and false returned when there is nothing more to do: after --help
// (which prints the command's usage, its options and `more`, which may be NULL), or after a wrong
// option, or if there are not `least` to `most` operands.
bool command_parse(const struct command *c, struct arg_list *a, int argc, char **argv, size_t least,
                   size_t most, const char *more, int *exit_code);
// Prints "varve NAME: ..." on standard error and returns `exit_code`.
int command_fail(const struct command *c, int exit_code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// The server's address: `option` if not NULL, else the environment's, else the default.
const char *command_server(const char *option);
// Connects, or says why not; NULL then. timeout_ms 0 waits for ever.
struct varve *command_connect(const struct command *c, const char *option, uint64_t timeout_ms);
// Prints what a failed call said and gives its exit code.
int command_failed_call(const struct command *c, const struct varve *v, enum varve_error e);

#endif
