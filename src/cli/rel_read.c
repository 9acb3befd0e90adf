// rel get, count, contains, intersect, union, difference, froms.
#include "base/json.h"
#include "base/limits.h"
#include "cli/rel.h"
#include "cli/rel_text.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PAGE = 100000,      // members asked for at once
    TEXT_KEEP = 1 << 16 // bytes of text gathered before they are written
};

struct reader {
    const struct command *c;
    struct varve *v;
    const char *relation;
    uint64_t from;
    // Of a combination.
    const struct varve_rel_list *lists; // NULL: the list of `from`
    size_t list_count;
    enum varve_rel_combine how;
    struct varve_rel_query query;
    bool json;
    uint64_t left; // members still wanted
    struct buf text;
};

// Errors of standard output are looked at once, by cli_main.
static void write_text(struct reader *r)
{
    if (buf_len(&r->text))
        (void)!fwrite(buf_head(&r->text), 1, buf_len(&r->text), stdout);
    buf_clear(&r->text);
}

static enum varve_error next_page(struct reader *r, struct varve_members *page)
{
    r->query.limit = r->left < PAGE ? (uint32_t)r->left : PAGE;
    if (r->lists)
        return varve_rel_combine(r->v, r->how, r->lists, r->list_count, &r->query, page);
    return varve_rel_page(r->v, r->relation, r->from, &r->query, page);
}

static enum err put_members(struct reader *r, const struct varve_members *page, bool first)
{
    enum err e = ERR_OK;
    for (size_t i = 0; i < page->count && !e; i++) {
        if (r->json && (i || !first))
            e = buf_append(&r->text, ",", 1);
        e = e ? e : json_put_uint(&r->text, varve_rel_id(page, i));
        if (!r->json)
            e = e ? e : buf_append(&r->text, "\n", 1);
        if (buf_len(&r->text) >= TEXT_KEEP)
            write_text(r);
    }
    return e;
}

static enum err put_begin(struct reader *r, const struct varve_members *page)
{
    return r->lists ? buf_printf(&r->text, "{\"members\":[")
                    : buf_printf(&r->text,
                                 "{\"relation\":\"%s\",\"from\":%" PRIu64 ",\"count\":%" PRIu64
                                 ",\"members\":[",
                                 r->relation, r->from, page->total);
}

static enum err put_end(struct reader *r, const struct varve_members *page)
{
    enum err e = buf_printf(&r->text, "],\"more\":%s", page->more ? "true" : "false");
    if (page->more)
        e = e ? e : buf_printf(&r->text, ",\"next\":%" PRIu64, page->next);
    return e ? e : buf_append(&r->text, "}\n", 2);
}

static int read_all(struct reader *r)
{
    struct varve_members page = {.more = true};
    bool first = true; // no member has been put yet
    enum err e = ERR_OK;
    enum varve_error v = VARVE_OK;
    buf_init(&r->text, 1 << 20);
    for (bool began = false; page.more && r->left && !e; began = true) {
        v = next_page(r, &page);
        if (v)
            break;
        if (r->json && !began)
            e = put_begin(r, &page);
        e = e ? e : put_members(r, &page, first);
        first = first && page.count == 0;
        r->left -= page.count < r->left ? page.count : r->left;
        r->query.has_after = true;
        r->query.after = page.next;
    }
    if (r->json && !v && !e)
        e = put_end(r, &page);
    write_text(r);
    buf_release(&r->text);
    int code = e ? command_fail(r->c, CLI_FAILED, "%s", err_text(e)) : CLI_OK;
    int call = rel_done(r->c, r->v, v);
    return code ? code : call;
}

// "--after", an id. False: it has been told.
static bool set_after(const struct command *c, const char *text, struct varve_rel_query *q)
{
    q->has_after = text != NULL;
    return !text || rel_operand(c, "--after", text, &q->after);
}

static bool set_order(const struct command *c, const char *text, struct varve_rel_query *q)
{
    static const char *const names[] = {"id", "falling", "newest"};
    for (int i = 0; i < 3; i++) {
        if (!strcmp(text, names[i])) {
            q->order = (enum varve_rel_order)i;
            return true;
        }
    }
    command_fail(c, CLI_USAGE, "--order must be id, falling or newest");
    return false;
}

int command_rel_get(const struct command *c, int argc, char **argv)
{
    const char *server = NULL, *after = NULL, *order = "id";
    uint64_t timeout = REL_TIMEOUT_MS, limit = UINT64_MAX;
    bool reverse = false;
    struct reader r = {.c = c};
    const struct arg_option options[] = {
        {"order", ARG_TEXT, &order, "NAME", "id, falling, or newest: the last that arrived first"},
        {"after", ARG_TEXT, &after, "ID", "only past it; newest: past a \"next\" of --json"},
        {"limit", ARG_COUNT, &limit, "N", "so many at most (all)"},
        {"reverse", ARG_FLAG, &reverse, NULL, "those that have FROM as a member"},
        {"json", ARG_FLAG, &r.json, NULL, "one JSON object"},
        REL_OPTIONS(server, timeout),
    };
    static const char more[] =
        "Prints a member a line. --reverse is for relations that were created with it, newest for\n"
        "those with --order recent.\n";
    struct arg_list a = {.options = options, .count = REL_COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 2, 2, more, &code))
        return code;
    if (!rel_operand(c, "FROM", a.operands[1], &r.from) || !set_after(c, after, &r.query) ||
        !set_order(c, order, &r.query))
        return CLI_USAGE;
    if (limit == 0)
        return command_fail(c, CLI_USAGE, "--limit must be 1 or more");
    r.relation = a.operands[0];
    r.query.flags = reverse ? VARVE_REL_REVERSE : 0;
    r.left = limit;
    r.v = command_connect(c, server, timeout);
    return r.v ? read_all(&r) : CLI_FAILED;
}

int command_rel_count(const struct command *c, int argc, char **argv)
{
    const char *server = NULL;
    uint64_t timeout = REL_TIMEOUT_MS, from, count;
    bool reverse = false;
    const struct arg_option options[] = {
        {"reverse", ARG_FLAG, &reverse, NULL, "of those that have FROM as a member"},
        REL_OPTIONS(server, timeout),
    };
    struct arg_list a = {.options = options, .count = REL_COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 2, 2, NULL, &code))
        return code;
    if (!rel_operand(c, "FROM", a.operands[1], &from))
        return CLI_USAGE;
    struct varve *v = command_connect(c, server, timeout);
    if (!v)
        return CLI_FAILED;
    enum varve_error e =
        varve_rel_count(v, a.operands[0], from, reverse ? VARVE_REL_REVERSE : 0, &count);
    if (!e)
        printf("%" PRIu64 "\n", count);
    return rel_done(c, v, e);
}

int command_rel_contains(const struct command *c, int argc, char **argv)
{
    const char *server = NULL;
    uint64_t timeout = REL_TIMEOUT_MS, from;
    bool reverse = false, all = true;
    const struct arg_option options[] = {
        {"reverse", ARG_FLAG, &reverse, NULL, "in the list of those that have FROM as a member"},
        REL_OPTIONS(server, timeout),
    };
    struct arg_list a = {.options = options, .count = REL_COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 3, LIMIT_REL_MEMBERS + 2,
                       "Prints each MEMBER with true or false. Exit code 1 if one is not there.\n",
                       &code))
        return code;
    if (!rel_operand(c, "FROM", a.operands[1], &from))
        return CLI_USAGE;
    size_t n = a.operand_count - 2;
    uint64_t *members = rel_operands(c, &a, 2);
    if (!members)
        return CLI_USAGE;
    bool *found = calloc(n, sizeof *found);
    struct varve *v = found ? command_connect(c, server, timeout) : NULL;
    code = CLI_FAILED;
    if (v) {
        enum varve_error e = varve_rel_contains(v, a.operands[0], from, members, n,
                                                reverse ? VARVE_REL_REVERSE : 0, found);
        code = rel_done(c, v, e);
    }
    for (size_t i = 0; i < n && !code; i++) {
        printf("%" PRIu64 " %s\n", members[i], found[i] ? "true" : "false");
        all = all && found[i];
    }
    free(members);
    free(found);
    return code ? code : all ? CLI_OK : CLI_NO;
}

// [RELATION:]FROM[/reverse]. `name` has room for a relation's name. False: it has been told.
static bool parse_list(const struct command *c, const char *text, const char *relation,
                       bool reverse, char name[LIMIT_RELATION_NAME + 1], struct varve_rel_list *l)
{
    static const char other[] = "/reverse";
    struct slice s = slice_str(text);
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    *l = (struct varve_rel_list){.relation = relation, .reverse = reverse};
    if (n > LIMIT_RELATION_NAME) {
        command_fail(c, CLI_USAGE, "LIST: the name in \"%.60s...\" is too long", text);
        return false;
    }
    if (colon) {
        memcpy(name, text, n);
        name[n] = 0;
        l->relation = name;
        s = slice_str(colon + 1);
    }
    if (s.n > strlen(other) && !memcmp(s.p + s.n - strlen(other), other, strlen(other))) {
        l->reverse = true;
        s.n -= strlen(other);
    }
    struct errmsg msg;
    if (!rel_id(s, &l->from))
        return true;
    (void)rel_not_id(&msg, "LIST", s);
    command_fail(c, CLI_USAGE, "%s", msg.text);
    return false;
}

static int combine(const struct command *c, int argc, char **argv, enum varve_rel_combine how)
{
    const char *server = NULL, *after = NULL;
    uint64_t timeout = REL_TIMEOUT_MS, limit = UINT64_MAX;
    bool reverse = false;
    struct reader r = {.c = c, .how = how};
    struct varve_rel_list lists[LIMIT_REL_LISTS];
    char names[LIMIT_REL_LISTS][LIMIT_RELATION_NAME + 1];
    const struct arg_option options[] = {
        {"after", ARG_TEXT, &after, "ID", "only past it"},
        {"limit", ARG_COUNT, &limit, "N", "so many at most (all)"},
        {"reverse", ARG_FLAG, &reverse, NULL, "all lists are of those that have FROM as a member"},
        {"json", ARG_FLAG, &r.json, NULL, "one JSON object"},
        REL_OPTIONS(server, timeout),
    };
    static const char more[] =
        "A LIST is FROM; RELATION:FROM of another relation; with /reverse behind it, those that\n"
        "have FROM as a member. Prints a member a line, rising.\n";
    struct arg_list a = {.options = options, .count = REL_COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 2, LIMIT_REL_LISTS + 1, more, &code))
        return code;
    if (!set_after(c, after, &r.query))
        return CLI_USAGE;
    if (limit == 0)
        return command_fail(c, CLI_USAGE, "--limit must be 1 or more");
    r.list_count = a.operand_count - 1;
    for (size_t i = 0; i < r.list_count; i++)
        if (!parse_list(c, a.operands[i + 1], a.operands[0], reverse, names[i], &lists[i]))
            return CLI_USAGE;
    r.lists = lists;
    r.left = limit;
    r.v = command_connect(c, server, timeout);
    return r.v ? read_all(&r) : CLI_FAILED;
}

int command_rel_intersect(const struct command *c, int argc, char **argv)
{
    return combine(c, argc, argv, VARVE_REL_INTERSECT);
}

int command_rel_union(const struct command *c, int argc, char **argv)
{
    return combine(c, argc, argv, VARVE_REL_UNION);
}

int command_rel_difference(const struct command *c, int argc, char **argv)
{
    return combine(c, argc, argv, VARVE_REL_DIFFERENCE);
}

static bool print_from(void *arg, uint64_t from, uint64_t count)
{
    printf(*(bool *)arg ? "{\"from\":%" PRIu64 ",\"count\":%" PRIu64 "}\n"
                        : "%" PRIu64 " %" PRIu64 "\n",
           from, count);
    return !ferror(stdout);
}

int command_rel_froms(const struct command *c, int argc, char **argv)
{
    const char *server = NULL, *after = NULL;
    uint64_t timeout = REL_TIMEOUT_MS, limit = 0;
    bool reverse = false, json = false;
    struct varve_rel_query q = {.has_after = false};
    const struct arg_option options[] = {
        {"after", ARG_TEXT, &after, "ID", "only past it, in this order"},
        {"limit", ARG_COUNT, &limit, "N", "so many at most (all)"},
        {"reverse", ARG_FLAG, &reverse, NULL, "what is a member, and of how many lists"},
        {"json", ARG_FLAG, &json, NULL, "a JSON object a line"},
        REL_OPTIONS(server, timeout),
    };
    static const char more[] =
        "Prints what has members, and how many, in an order of the server's own that never\n"
        "changes.\n";
    struct arg_list a = {.options = options, .count = REL_COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 1, 1, more, &code))
        return code;
    if (!set_after(c, after, &q))
        return CLI_USAGE;
    struct varve *v = command_connect(c, server, timeout);
    return v ? rel_done(c, v,
                        varve_rel_froms(v, a.operands[0], after ? &q.after : NULL, limit,
                                        reverse ? VARVE_REL_REVERSE : 0, print_from, &json))
             : CLI_FAILED;
}
