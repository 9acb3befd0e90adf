// rel: the table of its commands; those that declare relations and change them.
#include "cli/rel.h"
#include "base/limits.h"
#include "cli/rel_text.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

bool rel_operand(const struct command *c, const char *name, const char *text, uint64_t *id)
{
    struct errmsg msg;
    if (!rel_id(slice_str(text), id))
        return true;
    (void)rel_not_id(&msg, name, slice_str(text));
    command_fail(c, CLI_USAGE, "%s", msg.text);
    return false;
}

uint64_t *rel_operands(const struct command *c, const struct arg_list *a, size_t first)
{
    size_t n = a->operand_count - first;
    uint64_t *ids = calloc(n + 1, sizeof *ids);
    if (!ids)
        command_fail(c, CLI_FAILED, "out of memory");
    for (size_t i = 0; ids && i < n; i++) {
        if (!rel_operand(c, "MEMBER", a->operands[first + i], &ids[i])) {
            free(ids);
            return NULL;
        }
    }
    return ids;
}

int rel_done(const struct command *c, struct varve *v, enum varve_error e)
{
    int code = e ? command_failed_call(c, v, e) : CLI_OK;
    varve_close(v);
    return code;
}

static int rel_create(const struct command *c, int argc, char **argv)
{
    const char *server = NULL, *order = "id";
    uint64_t timeout = REL_TIMEOUT_MS;
    struct varve_rel_options o = {.reverse = false};
    const struct arg_option options[] = {
        {"reverse", ARG_FLAG, &o.reverse, NULL, "also keep, of each member, those that have it"},
        {"order", ARG_TEXT, &order, "NAME", "id, or recent: also keep the order of arrival (id)"},
        {"relaxed", ARG_FLAG, &o.relaxed, NULL, "replies do not wait for the disk"},
        REL_OPTIONS(server, timeout),
    };
    static const char more[] =
        "Without it, the first addition makes a relation with none of these options. A relation\n"
        "that exists is exit code 1.\n";
    struct arg_list a = {.options = options, .count = REL_COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 1, 1, more, &code))
        return code;
    o.recent = !strcmp(order, "recent");
    if (!o.recent && strcmp(order, "id"))
        return command_fail(c, CLI_USAGE, "--order must be id or recent");
    struct varve *v = command_connect(c, server, timeout);
    return v ? rel_done(c, v, varve_rel_create(v, a.operands[0], &o, NULL)) : CLI_FAILED;
}

static void print_info(const char *name, const struct varve_rel_info *i, bool json)
{
    const char *reverse = i->options.reverse ? "true" : "false";
    const char *order = i->options.recent ? "recent" : "id";
    const char *durability = i->options.relaxed ? "relaxed" : "fsync";
    if (json)
        printf("{\"relation\":\"%s\",\"created\":%" PRIu64 ",\"reverse\":%s,\"order\":\"%s\","
               "\"durability\":\"%s\",\"resident\":{\"lists\":%" PRIu64 ",\"members\":%" PRIu64
               "}}\n",
               name, i->created_ms, reverse, order, durability, i->resident_lists,
               i->resident_members);
    else
        printf("created %" PRIu64 "\nreverse %s\norder %s\ndurability %s\n"
               "resident_lists %" PRIu64 "\nresident_members %" PRIu64 "\n",
               i->created_ms, reverse, order, durability, i->resident_lists, i->resident_members);
}

static int rel_info(const struct command *c, int argc, char **argv)
{
    const char *server = NULL;
    uint64_t timeout = REL_TIMEOUT_MS;
    bool json = false;
    const struct arg_option options[] = {
        {"json", ARG_FLAG, &json, NULL, "one JSON object"},
        REL_OPTIONS(server, timeout),
    };
    struct arg_list a = {.options = options, .count = REL_COUNT(options)};
    struct varve_rel_info info;
    int code;
    if (!command_parse(c, &a, argc, argv, 1, 1, NULL, &code))
        return code;
    struct varve *v = command_connect(c, server, timeout);
    if (!v)
        return CLI_FAILED;
    code = rel_done(c, v, varve_rel_info(v, a.operands[0], &info));
    if (!code)
        print_info(a.operands[0], &info, json);
    return code;
}

static bool print_name(void *arg, const void *name, size_t n, const struct varve_value *value)
{
    (void)arg;
    (void)value;
    (void)!fwrite(name, 1, n, stdout);
    putchar('\n');
    return !ferror(stdout);
}

static int rel_list(const struct command *c, int argc, char **argv)
{
    const char *server = NULL, *after = "";
    uint64_t timeout = REL_TIMEOUT_MS, limit = 0;
    const struct arg_option options[] = {
        {"after", ARG_TEXT, &after, "NAME", "only names after this one"},
        {"limit", ARG_COUNT, &limit, "N", "so many names at most (all)"},
        REL_OPTIONS(server, timeout),
    };
    struct arg_list a = {.options = options, .count = REL_COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 0, 0, NULL, &code))
        return code;
    struct varve *v = command_connect(c, server, timeout);
    return v ? rel_done(c, v, varve_rel_list(v, after, limit, print_name, NULL)) : CLI_FAILED;
}

// add and remove.
static int change(const struct command *c, int argc, char **argv, bool remove)
{
    const char *server = NULL;
    uint64_t timeout = REL_TIMEOUT_MS, from, changed = 0;
    bool relaxed = false;
    const struct arg_option options[] = {
        {"relaxed", ARG_FLAG, &relaxed, NULL, "do not wait for the disk"},
        REL_OPTIONS(server, timeout),
    };
    struct arg_list a = {.options = options, .count = REL_COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 3, LIMIT_REL_MEMBERS + 2,
                       remove ? "Prints how many were there.\n"
                              : "Prints how many were not there. Many are `rel import`'s.\n",
                       &code))
        return code;
    if (!rel_operand(c, "FROM", a.operands[1], &from))
        return CLI_USAGE;
    uint64_t *members = rel_operands(c, &a, 2);
    if (!members)
        return CLI_USAGE;
    struct varve *v = command_connect(c, server, timeout);
    if (!v) {
        free(members);
        return CLI_FAILED;
    }
    enum varve_error e = (remove ? varve_rel_remove : varve_rel_add)(
        v, a.operands[0], from, members, a.operand_count - 2, relaxed ? VARVE_REL_RELAXED : 0,
        &changed);
    free(members);
    if (!e)
        printf("%s %" PRIu64 "\n", remove ? "removed" : "added", changed);
    return rel_done(c, v, e);
}

static int rel_add(const struct command *c, int argc, char **argv)
{
    return change(c, argc, argv, false);
}

static int rel_remove(const struct command *c, int argc, char **argv)
{
    return change(c, argc, argv, true);
}

int command_rel(const struct command *c, int argc, char **argv)
{
    static const struct command words[] = {
        {"rel create", "RELATION", "declare a relation", rel_create, NULL},
        {"rel info", "RELATION", "show a relation's options", rel_info, NULL},
        {"rel list", "", "list relations", rel_list, NULL},
        {"rel add", "RELATION FROM MEMBER...", "add members to a list", rel_add, NULL},
        {"rel remove", "RELATION FROM MEMBER...", "remove members from a list", rel_remove, NULL},
        {"rel get", "RELATION FROM", "print a list", command_rel_get, NULL},
        {"rel count", "RELATION FROM", "print how many members a list has", command_rel_count,
         NULL},
        {"rel contains", "RELATION FROM MEMBER...", "tell which are in a list",
         command_rel_contains, NULL},
        {"rel intersect", "RELATION LIST...", "print what is in all lists", command_rel_intersect,
         NULL},
        {"rel union", "RELATION LIST...", "print what is in any list", command_rel_union, NULL},
        {"rel difference", "RELATION LIST...", "print what is in the first only",
         command_rel_difference, NULL},
        {"rel froms", "RELATION", "list what has members", command_rel_froms, NULL},
        {"rel import", "RELATION FILE|-", "read pairs", command_rel_import, NULL},
        {"rel export", "RELATION [FILE]", "write all pairs", command_rel_export, NULL},
    };
    return command_group(c, words, REL_COUNT(words), argc, argv);
}
