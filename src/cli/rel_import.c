// rel import: pairs of a file or of standard input into a relation.
//
// The input is taken in batches as large as memory allows (--batch-memory), each sorted by from:
// the server merges a list once for every request that has members for it, so that few large
// batches are much faster than many small ones. While a batch is sent, in requests of about 4 MiB
// of which several are on their way, the next one is read, parsed and sorted (cli/rel_source.h).
//
// When all of a batch is durable, a key says so:
//
//     varve/import/RELATION/IDENTITY    a string: "BYTES LINES PAIRS BAD"
//
// IDENTITY is 16 hex digits of the file's size, its first and last bytes, and the format. The
// numbers say how far the input is in: bytes and lines (or pairs) taken, and how many of them were
// pairs and bad lines. A run that finds the key goes on there; a run that ends takes it away. What
// of a batch was sent before a kill is sent again, which changes nothing: lists are sets.
#include "base/limits.h"
#include "base/os.h"
#include "cli/progress.h"
#include "cli/rel.h"
#include "cli/rel_source.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    REQUEST_BYTES = 4 << 20, // of groups in a request
    GROUP = 16,              // bytes of a group before its members
    IN_FLIGHT = 4,           // requests
    MEMORY = 1 << 30,        // bytes, if --batch-memory does not say
    POLL_US = 1000,
    KEY_MAX = LIMIT_RELATION_NAME + 64,
};

struct importer {
    const struct command *c;
    struct varve *v;
    const char *relation;
    struct rel_input in;
    struct progress progress;
    struct rel_place done; // what is durable
    char key[KEY_MAX];     // where that is said; "": nowhere
    uint64_t added;        // members that were not there
    struct rel_batch const *batch;
    // The request being gathered.
    struct varve_rel_group *groups;
    size_t group_count;
    uint64_t *members;
    size_t member_count;
};

// ---- where an import that was interrupted goes on

// "B L P B" as it was written; false if it is anything else.
static bool parse_place(struct slice s, struct rel_place *p)
{
    uint64_t *const numbers[] = {&p->at, &p->line, &p->pairs, &p->bad};
    for (size_t i = 0; i < 4; i++) {
        const uint8_t *space = s.n ? memchr(s.p, ' ', s.n) : NULL;
        size_t n = space ? (size_t)(space - s.p) : s.n;
        if ((space != NULL) != (i < 3) || rel_id(slice_of(s.p, n), numbers[i]))
            return false;
        s = slice_of(s.p + n + (i < 3), s.n - n - (i < 3));
    }
    return true;
}

// Sets key and place of the import; exit code.
static int find_place(struct importer *im, bool restart)
{
    struct errmsg msg;
    struct varve_value value;
    uint64_t size, identity;
    enum err e = rel_input_identity(im->in.path, &size, &identity, &msg);
    if (e == ERR_UNSUPPORTED) {
        if (!im->in.path)
            command_fail(im->c, CLI_OK,
                         "standard input: if it is interrupted, this cannot go on where it was");
        return CLI_OK;
    }
    if (e)
        return command_fail(im->c, CLI_USAGE, "%s", msg.text);
    progress_begin(&im->progress, "import", size, "bytes");
    snprintf(im->key, sizeof im->key, "varve/import/%s/%016" PRIx64, im->relation,
             identity ^ im->in.pairs);
    if (restart)
        return CLI_OK;
    enum varve_error r = varve_get(im->v, im->key, strlen(im->key), &value);
    if (r == VARVE_MISSING)
        return CLI_OK;
    if (r)
        return command_failed_call(im->c, im->v, r);
    struct rel_place p;
    if (!parse_place(slice_of(value.data, value.size), &p))
        return command_fail(im->c, CLI_USAGE,
                            "the key %s is not of an import; --restart begins anew", im->key);
    im->done = p;
    return command_fail(im->c, CLI_OK,
                        "goes on at byte %" PRIu64 " of %" PRIu64 ", after %s %" PRIu64, p.at, size,
                        im->in.pairs ? "pair" : "line", p.line);
}

static int keep_place(struct importer *im)
{
    char text[4 * 21];
    if (!im->key[0] || im->done.at == 0)
        return CLI_OK;
    int n = snprintf(text, sizeof text, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, im->done.at,
                     im->done.line, im->done.pairs, im->done.bad);
    struct varve_op op = {.kind = VARVE_OP_PUT,
                          .type = VARVE_STRING,
                          .key = im->key,
                          .key_size = strlen(im->key),
                          .value = text,
                          .value_size = (size_t)n};
    enum varve_error e = varve_txn(im->v, &op, 1, NULL, 0, NULL);
    return e ? command_failed_call(im->c, im->v, e) : CLI_OK;
}

// ---- sending

static int take_reply(struct importer *im)
{
    struct varve_reply reply;
    enum varve_error e = varve_next_reply(im->v, &reply);
    e = e ? e : reply.error;
    if (e)
        return command_failed_call(im->c, im->v, e);
    im->added += reply.added;
    return CLI_OK;
}

static int send_request(struct importer *im)
{
    int code = CLI_OK;
    if (im->group_count == 0)
        return CLI_OK;
    while (!code && varve_outstanding(im->v) >= IN_FLIGHT)
        code = take_reply(im);
    if (code)
        return code;
    enum varve_error e =
        varve_queue_rel_edit(im->v, im->relation, im->groups, im->group_count, 0, NULL, 0);
    e = e ? e : varve_flush(im->v);
    im->group_count = im->member_count = 0;
    return e ? command_failed_call(im->c, im->v, e) : CLI_OK;
}

// Shows how much of the input is sent, `share` of this batch.
static void show(struct importer *im, double share)
{
    uint64_t end = im->batch ? im->batch->end.at : im->done.at;
    double part = (double)(end - im->done.at) * share;
    progress_show(&im->progress, im->done.at + (uint64_t)part);
}

static int send_batch(struct importer *im)
{
    const struct rel_pairs *p = &im->batch->pairs;
    size_t n = rel_pairs_count(p), i = 0;
    int code = CLI_OK;
    while (i < n && !code) {
        size_t bytes = im->group_count * GROUP + im->member_count * sizeof(uint64_t);
        if (bytes > REQUEST_BYTES - GROUP - sizeof(uint64_t)) {
            code = send_request(im);
            show(im, (double)i / (double)n);
            continue;
        }
        size_t room = (REQUEST_BYTES - bytes - GROUP) / sizeof(uint64_t);
        uint64_t from = rel_pairs_from(p, i);
        struct varve_rel_group *g = &im->groups[im->group_count++];
        *g = (struct varve_rel_group){.from = from, .members = im->members + im->member_count};
        for (; i < n && g->count < room && rel_pairs_from(p, i) == from; i++, g->count++)
            im->members[im->member_count + g->count] = rel_pairs_member(p, i);
        im->member_count += g->count;
    }
    code = code ? code : send_request(im);
    while (!code && varve_outstanding(im->v))
        code = take_reply(im);
    return code;
}

static int import_batch(struct importer *im)
{
    if (buf_len(&im->batch->notes)) {
        progress_hide(&im->progress);
        (void)!fwrite(buf_head(&im->batch->notes), 1, buf_len(&im->batch->notes), stderr);
    }
    int code = send_batch(im);
    if (code)
        return code;
    im->done = im->batch->end;
    if (im->batch->last && !im->batch->e)
        return CLI_OK;
    code = keep_place(im);
    os_crash_point("import_batch");
    return code;
}

// All of it; the input's own end is in the last batch.
static int import_all(struct importer *im, struct rel_source *s)
{
    int code = CLI_OK;
    bool last = false;
    while (!code && !last) {
        im->batch = NULL;
        while (!(im->batch = rel_source_next(s))) {
            show(im, 0);
            os_sleep_us(os_real(), POLL_US);
        }
        show(im, 0); // also where batches are there before they are asked for
        last = im->batch->last;
        code = import_batch(im);
    }
    progress_end(&im->progress);
    if (!code && im->batch->e)
        code = command_fail(im->c, im->batch->e == ERR_INVALID ? CLI_USAGE : CLI_FAILED, "%s",
                            im->batch->msg.text);
    if (!code && im->key[0]) {
        enum varve_error e = varve_delete(im->v, im->key, strlen(im->key), NULL);
        if (e && e != VARVE_MISSING)
            code = command_failed_call(im->c, im->v, e);
    }
    return code;
}

static int import_from(struct importer *im, bool restart)
{
    struct rel_source *source;
    struct varve_rel_info info = {.options = {.recent = false}};
    struct errmsg msg;
    enum varve_error r = varve_rel_info(im->v, im->relation, &info);
    if (r && r != VARVE_MISSING)
        return command_failed_call(im->c, im->v, r);
    im->in.keep_order = info.options.recent;
    int code = find_place(im, restart);
    if (code)
        return code;
    im->groups = calloc(REQUEST_BYTES / GROUP + 1, sizeof *im->groups);
    im->members = calloc(REQUEST_BYTES / sizeof(uint64_t), sizeof *im->members);
    if (!im->groups || !im->members)
        return command_fail(im->c, CLI_FAILED, "out of memory");
    if (rel_source_open(&source, &im->in, &im->done, &msg))
        return command_fail(im->c, CLI_FAILED, "%s", msg.text);
    code = import_all(im, source);
    rel_source_close(source);
    printf("pairs %" PRIu64 "\nadded %" PRIu64 "\nbad %" PRIu64 "\n", im->done.pairs, im->added,
           im->done.bad);
    if (code && im->key[0] && im->done.at)
        command_fail(im->c, code, "the same command goes on at byte %" PRIu64, im->done.at);
    return code;
}

int command_rel_import(const struct command *c, int argc, char **argv)
{
    const char *server = NULL, *format = "csv", *on_error = "stop";
    uint64_t timeout = REL_TIMEOUT_MS, memory = MEMORY;
    bool header = false, restart = false;
    const struct arg_option options[] = {
        {"format", ARG_TEXT, &format, "NAME", "csv, or pairs: from, to of 8 bytes each (csv)"},
        {"header", ARG_FLAG, &header, NULL, "csv: the first line may be one"},
        {"on-error", ARG_TEXT, &on_error, "NAME", "at a bad line: stop before it, or skip (stop)"},
        {"restart", ARG_FLAG, &restart, NULL, "do not go on where a run before was interrupted"},
        {"batch-memory", ARG_SIZE, &memory, "SIZE", "for sorting; more is faster (1g)"},
        REL_OPTIONS(server, timeout),
    };
    static const char more[] =
        "Each line of FILE, or of standard input for -, has two numbers: from, and a member of "
        "its\n"
        "list, separated by a comma, semicolon, tab or blanks. Lines that begin with # are left\n"
        "out. With --format pairs the numbers are little-endian, end to end. A run on a FILE that\n"
        "was interrupted goes on when it is run again.\n";
    struct arg_list a = {.options = options, .count = REL_COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 2, 2, more, &code))
        return code;
    bool pairs = !strcmp(format, "pairs"), skip = !strcmp(on_error, "skip");
    if (!pairs && strcmp(format, "csv"))
        return command_fail(c, CLI_USAGE, "--format must be csv or pairs");
    if (!skip && strcmp(on_error, "stop"))
        return command_fail(c, CLI_USAGE, "--on-error must be stop or skip");
    if (memory < REL_MEMORY_LEAST || memory > (uint64_t)1 << 40)
        return command_fail(c, CLI_USAGE, "--batch-memory must be 64k to 1024g");
    struct importer im = {.c = c, .relation = a.operands[0]};
    im.in = (struct rel_input){.path = strcmp(a.operands[1], "-") ? a.operands[1] : NULL,
                               .pairs = pairs,
                               .header = header,
                               .skip_bad = skip,
                               .memory = memory};
    progress_begin(&im.progress, "import", 0, "bytes");
    im.v = command_connect(c, server, timeout);
    if (!im.v)
        return CLI_FAILED;
    code = import_from(&im, restart);
    varve_close(im.v);
    free(im.groups);
    free(im.members);
    return code;
}
