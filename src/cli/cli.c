#include "cli/command.h"
#include "base/os.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct command commands[] = {
    {"get", "KEY", "read a key", command_get, NULL},
    {"put", "KEY VALUE|-", "write a key", command_put, NULL},
    {"delete", "KEY", "delete a key", command_delete, NULL},
    {"txn", "FILE|-", "commit checks and changes as one", command_txn, NULL},
    {"log", "COMMAND ...", "logs: create append read tail and more", command_log, NULL},
    {"event", "put|get|tail ...", "event streams", command_event, NULL},
    {"rel", "COMMAND ...", "relations: add get intersect import and more", command_rel, NULL},
    {"list", "", "list keys in order", command_list, NULL},
    {"dump", "[FILE]", "write keys, logs and relations as JSON lines", command_dump, NULL},
    {"restore", "[FILE]", "read keys, logs and relations from JSON lines", command_restore, NULL},
    {"stat", "", "show what the server counts", command_stat, NULL},
    {"check", "", "verify a data directory that no server has open", command_check, NULL},
    {"bench", "", "measure a server", command_bench, NULL},
    {"bridge", "", "put a Kafka topic's records into logs", command_bridge, NULL},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_words(FILE *f, const struct command *words, size_t count)
{
    size_t width = 26;
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(words[i].name) + 1 + strlen(words[i].operands);
        width = n > width ? n : width;
    }
    for (size_t i = 0; i < count; i++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", words[i].name, words[i].operands);
        fprintf(f, "  %-*s %s\n", (int)width, left, words[i].summary);
    }
}

static void usage(FILE *f)
{
    fprintf(f, "usage: varve COMMAND [OPTIONS]\n\n  %-26s %s\n", "serve", "run the server");
    print_words(f, commands, COMMANDS);
    fprintf(f, "  %-26s %s\n", "version", "print the version");
    fputs("\n`varve COMMAND --help` tells more; so does the man page varve(1).\n", f);
}

static bool is_help(const char *word)
{
    return !strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help");
}

int command_group(const struct command *group, const struct command *words, size_t count, int argc,
                  char **argv)
{
    const char *word = argc > 0 ? argv[0] : "";
    bool help = is_help(word);
    for (size_t i = 0; i < count; i++) {
        struct command c = words[i];
        c.offline = group->offline;
        if (!strcmp(word, c.name + strlen(group->name) + 1))
            return c.run(&c, argc - 1, argv + 1);
    }
    if (*word && !help)
        command_fail(group, CLI_USAGE, "unknown %s \"%s\"", *word == '-' ? "option" : "command",
                     word);
    FILE *f = help ? stdout : stderr;
    fprintf(f, "usage: varve %s COMMAND [OPTIONS]\n\n", group->name);
    print_words(f, words, count);
    fprintf(f, "\n`varve %s COMMAND --help` tells more; so does the man page varve(1).\n",
            group->name);
    return help ? CLI_OK : CLI_USAGE;
}

bool command_parse(const struct command *c, struct arg_list *a, int argc, char **argv, size_t least,
                   size_t most, const char *more, int *exit_code)
{
    struct errmsg msg;
    *exit_code = CLI_OK;
    if (args_parse(a, argc, argv, &msg)) {
        *exit_code = command_fail(c, CLI_USAGE, "%s", msg.text);
    } else if (a->help) {
        printf("usage: varve %s [OPTIONS]%s%s\n\n%s\n\n", c->name, *c->operands ? " " : "",
               c->operands, c->summary);
        args_help(a, stdout);
        if (more)
            printf("\n%s", more);
        return false;
    } else if (a->operand_count > most) {
        *exit_code =
            command_fail(c, CLI_USAGE, "\"%s\" is one argument too many", a->operands[most]);
    } else if (a->operand_count < least) {
        *exit_code = command_fail(c, CLI_USAGE, "too few arguments, wants %s", c->operands);
    }
    if (*exit_code)
        fprintf(stderr, "`varve %s --help` shows how\n", c->name);
    return *exit_code == CLI_OK;
}

int command_fail(const struct command *c, int exit_code, const char *format, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    fflush(stdout); // in the order of things
    fprintf(stderr, "varve %s: %s\n", c->name, text);
    return exit_code;
}

const char *command_server(const char *option)
{
    const char *env = os_env(CLI_SERVER_ENV);
    return option ? option : env && *env ? env : CLI_SERVER;
}

struct varve *command_connect(const struct command *c, const char *option, uint64_t timeout_ms)
{
    struct varve *v;
    enum varve_error e = varve_connect(&v, command_server(option),
                                       timeout_ms < UINT32_MAX ? (unsigned)timeout_ms : 0);
    if (!e)
        return v;
    command_fail(c, CLI_FAILED, "%s", varve_error_text(v));
    varve_close(v);
    return NULL;
}

int command_failed_call(const struct command *c, const struct varve *v, enum varve_error e)
{
    bool no = e == VARVE_MISSING || e == VARVE_CONFLICT;
    return command_fail(c, no ? CLI_NO : CLI_FAILED, "%s", varve_error_text(v));
}

int cli_main(int argc, char **argv, const struct cli_offline *offline)
{
    const char *word = argc > 1 ? argv[1] : "";
    if (is_help(word)) {
        usage(stdout);
        return CLI_OK;
    }
    if (!strcmp(word, "--version") || !strcmp(word, "version")) {
        puts("varve " VARVE_VERSION);
        return CLI_OK;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        struct command c = commands[i];
        c.offline = offline;
        if (!strcmp(word, c.name)) {
            int code = c.run(&c, argc - 2, argv + 2);
            if ((fflush(stdout) || ferror(stdout)) && code == CLI_OK)
                return command_fail(&c, CLI_FAILED, "cannot write to standard output");
            return code;
        }
    }
    if (*word)
        fprintf(stderr, "varve: unknown command \"%s\"\n", word);
    usage(stderr);
    return CLI_USAGE;
}
