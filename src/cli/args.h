// Command-line options: a table a command, from which both the parser and --help work.
#ifndef VARVE_CLI_ARGS_H
#define VARVE_CLI_ARGS_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum arg_kind {
    ARG_FLAG,  // bool *; no value
    ARG_TEXT,  // const char **; lives as long as argv
    ARG_COUNT, // uint64_t *
    ARG_SIZE,  // uint64_t *, bytes; suffixes k m g
    ARG_TIME,  // uint64_t *, milliseconds; suffixes ms s m h d, none means milliseconds
};

struct arg_option {
    const char *name; // without the dashes
    enum arg_kind kind;
    void *to;
    const char *value; // what --help calls the value, "ADDR"; NULL for a flag
    const char *help;
};

struct arg_list {
    const struct arg_option *options;
    size_t count;
    const char **operands; // what is no option, in order; points into argv
    size_t operand_count;
    bool help; // --help or -h was there; nothing else was looked at
};

// Parses argv[0..argc), sorting operands to the front of argv. `--name value`, `--name=value`; `--`
// ends the options; `-` and negative numbers are operands. ERR_INVALID with a sentence that names
// the option.
MUST_USE enum err args_parse(struct arg_list *a, int argc, char **argv, struct errmsg *msg);
// Prints the options as lines of --help to a FILE *.
void args_help(const struct arg_list *a, void *file);

// Text to numbers, the whole text; ERR_INVALID or ERR_OVERFLOW.
MUST_USE enum err arg_count(const char *text, uint64_t *n);
MUST_USE enum err arg_size(const char *text, uint64_t *bytes);
MUST_USE enum err arg_time(const char *text, uint64_t *ms);
MUST_USE enum err arg_int(const char *text, int64_t *n);

#endif
