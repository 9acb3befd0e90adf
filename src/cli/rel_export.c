// rel export: all pairs of a relation, list after list.
#include "base/json.h"
#include "cli/io.h"
#include "cli/progress.h"
#include "cli/rel.h"
#include "cli/rel_lists.h"
#include "cli/rel_text.h"
#include <inttypes.h>
#include <stdio.h>

enum { FLUSH = 1 << 20 }; // bytes gathered before they are written

struct exporter {
    struct output out;
    struct progress progress;
    bool pairs;
    uint64_t count;
    enum err e;
    struct errmsg msg;
};

static enum err put_text(struct buf *b, uint64_t from, const struct varve_members *m)
{
    enum err e = ERR_OK;
    for (size_t i = 0; i < m->count && !e; i++) {
        e = json_put_uint(b, from);
        e = e ? e : buf_append(b, ",", 1);
        e = e ? e : json_put_uint(b, varve_rel_id(m, i));
        e = e ? e : buf_append(b, "\n", 1);
    }
    return e;
}

static enum err put_pairs(struct buf *b, uint64_t from, const struct varve_members *m)
{
    enum err e = buf_reserve(b, m->count * REL_PAIR);
    for (size_t i = 0; i < m->count && !e; i++) {
        uint8_t pair[REL_PAIR];
        store64(pair, from);
        store64(pair + 8, varve_rel_id(m, i));
        buf_put(b, pair, sizeof pair);
    }
    return e;
}

static bool put_list(void *arg, uint64_t from, const struct varve_members *m)
{
    struct exporter *x = arg;
    x->e = (x->pairs ? put_pairs : put_text)(&x->out.buf, from, m);
    if (x->e)
        (void)err_set(&x->msg, x->e, "%s", err_text(x->e));
    else
        x->e = output_flush(&x->out, FLUSH, &x->msg);
    x->count += m->count;
    progress_show(&x->progress, x->count);
    return !x->e;
}

static int export_all(const struct command *c, struct varve *v, const char *relation,
                      unsigned flags, struct exporter *x, const char *path)
{
    struct varve_rel_info info;
    enum varve_error r = varve_rel_info(v, relation, &info);
    if (r)
        return command_failed_call(c, v, r);
    if (output_open(&x->out, path, &x->msg))
        return command_fail(c, CLI_FAILED, "%s", x->msg.text);
    int code = CLI_OK;
    progress_begin(&x->progress, "export", info.resident_members, "pairs");
    r = rel_each_list(v, relation, flags, put_list, x);
    progress_end(&x->progress);
    if (r)
        code = r == VARVE_NO_MEMORY ? command_fail(c, CLI_FAILED, "out of memory")
                                    : command_failed_call(c, v, r);
    else if (x->e)
        code = command_fail(c, CLI_FAILED, "%s", x->msg.text);
    if (output_close(&x->out, !code, &x->msg) && !code)
        code = command_fail(c, CLI_FAILED, "%s", x->msg.text);
    return code;
}

int command_rel_export(const struct command *c, int argc, char **argv)
{
    const char *server = NULL, *format = "csv";
    uint64_t timeout = REL_TIMEOUT_MS;
    bool reverse = false;
    struct exporter x = {.count = 0};
    const struct arg_option options[] = {
        {"format", ARG_TEXT, &format, "NAME", "csv, or pairs: from, to of 8 bytes each (csv)"},
        {"reverse", ARG_FLAG, &reverse, NULL, "the other way round: to,from"},
        REL_OPTIONS(server, timeout),
    };
    static const char more[] =
        "FILE gets its name when all of it is on the disk; without FILE the pairs go to standard\n"
        "output, list after list in an order of the server's own, the members of a list rising.\n"
        "Lists changed meanwhile are written as they were or as they are.\n";
    struct arg_list a = {.options = options, .count = REL_COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 1, 2, more, &code))
        return code;
    x.pairs = !strcmp(format, "pairs");
    if (!x.pairs && strcmp(format, "csv"))
        return command_fail(c, CLI_USAGE, "--format must be csv or pairs");
    bool file = a.operand_count > 1 && strcmp(a.operands[1], "-");
    const char *path = file ? a.operands[1] : NULL;
    struct varve *v = command_connect(c, server, timeout);
    if (!v)
        return CLI_FAILED;
    code = export_all(c, v, a.operands[0], reverse ? VARVE_REL_REVERSE : 0, &x, path);
    varve_close(v);
    if (!code && path)
        fprintf(stderr, "%" PRIu64 " pairs in %s\n", x.count, path);
    return code;
}
