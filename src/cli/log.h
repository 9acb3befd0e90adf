// What the commands of logs and of event streams share.
#ifndef VARVE_CLI_LOG_H
#define VARVE_CLI_LOG_H

#include "cli/command.h"
#include "cli/record.h"

// An event stream is a log of this keyspace, whose timestamps are the server's, in microseconds.
#define EVENT_KEYSPACE "events"
#define EVENT_STREAM   "events" // if none is named

enum { LOG_TIMEOUT_MS = 60000 };

// The options of a command that talks to a server, for its table.
#define LOG_OPTIONS(server, timeout)                                              \
    {"server", ARG_TEXT, &(server), "ADDR", "binary protocol, HOST:PORT"},        \
    {                                                                             \
        "timeout", ARG_TIME, &(timeout), "TIME", "for each answer (60s); 0: none" \
    }
#define LOG_COUNT(a) (sizeof(a) / sizeof *(a))

// The log that two operands name.
struct varve_log log_named(const char *keyspace, const char *key);

int command_log_append(const struct command *c, int argc, char **argv);
int command_log_check(const struct command *c, int argc, char **argv);
int command_log_read(const struct command *c, int argc, char **argv);
int command_log_tail(const struct command *c, int argc, char **argv);
int command_event_put(const struct command *c, int argc, char **argv);
int command_event_get(const struct command *c, int argc, char **argv);
int command_event_tail(const struct command *c, int argc, char **argv);

#endif
