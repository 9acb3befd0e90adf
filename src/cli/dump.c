// dump and restore: all keys, logs and relations as JSON lines (cli/lines.h, cli/dump_logs.h,
// cli/dump_rels.h), from and to a running server or a data directory that no server has open.
#include "base/limits.h"
#include "base/os.h"
#include "cli/command.h"
#include "cli/dump_logs.h"
#include "cli/dump_rels.h"
#include "cli/io.h"
#include "cli/lines.h"
#include "cli/place.h"
#include "cli/progress.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    TIMEOUT_MS = 60000,
    FLUSH = 1 << 20,       // bytes of dump lines gathered before they are written
    BATCH_OPS = 1000,      // keys in a restoring transaction
    BATCH_BYTES = 1 << 20, // at which it ends early
    BATCH_MAX = 256 << 20, // bytes of a batch with one huge line
};

struct dump {
    struct place place;
    struct output out;
    struct json_parser *parser;
    struct progress progress;
    uint64_t keys, records, members;
    enum err e;
    struct errmsg msg;
};

static bool dump_key(void *arg, const void *key, size_t n, const struct varve_value *v)
{
    struct dump *d = arg;
    d->e = line_put(&d->out.buf, d->parser, slice_of(key, n), v);
    if (d->e)
        (void)err_set(&d->msg, d->e, "%s", err_text(d->e));
    else
        d->e = output_flush(&d->out, FLUSH, &d->msg);
    progress_show(&d->progress, ++d->keys);
    return !d->e;
}

// About how many keys there are, from the server's metrics; 0 if they do not tell.
static uint64_t estimate_keys(struct varve *v)
{
    static const char name[] = "\nvarve_keys_resident ";
    const char *text;
    size_t n;
    if (!v || varve_stat(v, &text, &n))
        return 0;
    const char *p = strstr(text, name);
    return p ? strtoull(p + sizeof name - 1, NULL, 10) : 0;
}

static void dump_all(struct dump *d, struct slice prefix)
{
    const struct command *c = d->place.c;
    struct errmsg msg;
    progress_begin(&d->progress, "dump", estimate_keys(d->place.server), "keys");
    if (d->place.server) {
        enum varve_error r =
            varve_list(d->place.server, prefix.p, prefix.n, NULL, 0, 0, true, dump_key, d);
        progress_end(&d->progress);
        if (r)
            d->place.code = command_failed_call(c, d->place.server, r);
    } else {
        enum err e = c->offline->list(d->place.data, prefix, dump_key, d, &msg);
        progress_end(&d->progress);
        if (e && !d->e)
            d->place.code = command_fail(c, CLI_FAILED, "%s", msg.text);
    }
    if (d->e && !d->place.code)
        d->place.code = command_fail(c, CLI_FAILED, "%s", d->msg.text);
    if (d->place.code || prefix.n)
        return;
    progress_begin(&d->progress, "dump", 0, "records");
    d->place.code = dump_logs(&d->place, &d->out, &d->progress, &d->records);
    progress_end(&d->progress);
    if (d->place.code)
        return;
    progress_begin(&d->progress, "dump", 0, "members");
    d->place.code = dump_rels(&d->place, &d->out, &d->progress, &d->members);
    progress_end(&d->progress);
}

int command_dump(const struct command *c, int argc, char **argv)
{
    const char *server = NULL, *dir = NULL, *prefix = "";
    uint64_t timeout = TIMEOUT_MS;
    const struct arg_option options[] = {
        {"server", ARG_TEXT, &server, "ADDR", "binary protocol, HOST:PORT"},
        {"data", ARG_TEXT, &dir, "DIR", "a data directory that no server has open, instead"},
        {"prefix", ARG_TEXT, &prefix, "TEXT", "only keys that begin so, no logs, no relations"},
        {"timeout", ARG_TIME, &timeout, "TIME", "for each answer (60s); 0: none"},
    };
    static const char more[] =
        "FILE gets its name when all of it is on the disk; without FILE the lines go to standard\n"
        "output. Keys changed meanwhile are dumped as they were or as they are.\n";
    struct arg_list a = {.options = options, .count = sizeof options / sizeof *options};
    struct dump d = {.keys = 0};
    int code;
    if (!command_parse(c, &a, argc, argv, 0, 1, more, &code))
        return code;
    const char *path = a.operand_count && strcmp(a.operands[0], "-") ? a.operands[0] : NULL;
    if (!place_open(&d.place, c, server, dir, timeout, false))
        return d.place.code;
    d.parser = json_parser_new(LINE_BYTES);
    d.e = d.parser ? output_open(&d.out, path, &d.msg) : ERR_NO_MEMORY;
    if (d.e) {
        d.place.code = command_fail(c, CLI_FAILED, "%s", d.parser ? d.msg.text : err_text(d.e));
    } else {
        dump_all(&d, slice_str(prefix));
        if (output_close(&d.out, !d.place.code, &d.msg) && !d.place.code)
            d.place.code = command_fail(c, CLI_FAILED, "%s", d.msg.text);
    }
    json_parser_free(d.parser);
    place_close(&d.place);
    if (!d.place.code && path)
        fprintf(stderr, "%llu keys and %llu records, %llu members of relations in %s\n",
                (unsigned long long)d.keys, (unsigned long long)d.records,
                (unsigned long long)d.members, path);
    return d.place.code;
}

// What to do with keys that exist already.
enum existing { REFUSE, SKIP, REPLACE };

struct restore {
    struct place place;
    struct input in;
    struct json_parser *parser;
    struct progress progress;
    enum existing existing;
    uint64_t restored, skipped, expired;
    // The batch under way.
    struct varve_op ops[BATCH_OPS];
    size_t count;
    struct buf bytes; // its keys and values end to end
    struct log_restore logs;
    struct rel_restore rels;
};

// Tells of the first key that exists, or takes all of them out of the batch.
static int resolve_conflicts(struct restore *r)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->count; i++) {
        const struct varve_op *op = &r->ops[i];
        if (!op->conflict) {
            r->ops[kept++] = *op;
            continue;
        }
        if (r->existing == REFUSE)
            return command_fail(
                r->place.c, CLI_NO,
                "key \"%.*s\" exists (version %llu); %llu keys were restored before "
                "its batch. --skip-existing goes on without such keys, --replace "
                "overwrites them",
                op->key_size < 100 ? (int)op->key_size : 100, (const char *)op->key,
                (unsigned long long)op->actual, (unsigned long long)r->restored);
        r->skipped++;
    }
    bool none = kept == r->count;
    r->count = kept;
    return none ? command_fail(r->place.c, CLI_FAILED, "a conflict that names no key") : CLI_OK;
}

static int commit_batch(struct restore *r)
{
    const uint8_t *p = buf_len(&r->bytes) ? buf_head(&r->bytes) : NULL;
    for (size_t i = 0; i < r->count; i++) {
        r->ops[i].key = p;
        r->ops[i].value = p + r->ops[i].key_size;
        p += r->ops[i].key_size + r->ops[i].value_size;
    }
    int code = CLI_OK;
    while (r->count && !code) {
        code = place_txn(&r->place, r->ops, r->count);
        if (code == CLI_OK)
            break;
        if (code == CLI_NO)
            code = resolve_conflicts(r);
    }
    r->restored += code ? 0 : r->count;
    r->count = 0;
    buf_clear(&r->bytes);
    return code;
}

static int bad_line(const struct restore *r, const char *what)
{
    return command_fail(r->place.c, CLI_USAGE, "%s: line %llu: %s", r->in.name,
                        (unsigned long long)r->in.line, what);
}

static int restore_line(struct restore *r, struct slice text)
{
    struct line line;
    struct errmsg msg;
    size_t before = buf_len(&r->bytes);
    if (text.n == 0)
        return CLI_OK;
    if (log_line_is(text))
        return log_restore_line(&r->logs, r->parser, text);
    if (rel_line_is(text))
        return rel_restore_line(&r->rels, r->parser, text);
    if (line_get(&r->bytes, r->parser, text, &line, &msg))
        return bad_line(r, msg.text);
    uint64_t now = line.expires_ms ? os_wall_ms(os_real()) : 0;
    if (line.expires_ms && line.expires_ms <= now) {
        r->bytes.end = r->bytes.start + before;
        r->expired++;
        return CLI_OK;
    }
    r->ops[r->count++] = (struct varve_op){
        .kind = VARVE_OP_PUT,
        .type = line.type,
        .key_size = line.key_n,
        .value_size = line.value_n,
        .has_version = r->existing != REPLACE,
        .ttl_ms = line.expires_ms ? line.expires_ms - now : 0,
    };
    return r->count == BATCH_OPS || buf_len(&r->bytes) >= BATCH_BYTES ? commit_batch(r) : CLI_OK;
}

static int restore_all(struct restore *r)
{
    struct slice text;
    struct errmsg msg;
    enum err e;
    int code = CLI_OK;
    progress_begin(&r->progress, "restore", r->in.size, "bytes");
    while (!code && !(e = input_line(&r->in, &text, &msg))) {
        code = restore_line(r, text);
        progress_show(&r->progress, r->in.at);
    }
    if (!code && e != ERR_MISSING)
        code = command_fail(r->place.c, CLI_FAILED, "%s", msg.text);
    if (!code)
        code = commit_batch(r);
    if (!code)
        code = log_restore_commit(&r->logs);
    if (!code)
        code = rel_restore_commit(&r->rels);
    progress_end(&r->progress);
    return code;
}

static int restore_from(struct restore *r, const char *path)
{
    struct errmsg msg;
    int code;
    buf_init(&r->bytes, BATCH_MAX);
    log_restore_init(&r->logs, &r->place, &r->in, r->existing == SKIP);
    rel_restore_init(&r->rels, &r->place, &r->in, r->existing == SKIP);
    r->parser = json_parser_new(LINE_BYTES);
    if (!r->parser)
        code = command_fail(r->place.c, CLI_FAILED, "out of memory");
    else if (input_open(&r->in, path, LINE_BYTES, &msg))
        code = command_fail(r->place.c, CLI_USAGE, "%s", msg.text);
    else
        code = restore_all(r);
    input_close(&r->in);
    buf_release(&r->bytes);
    log_restore_release(&r->logs);
    json_parser_free(r->parser);
    return code;
}

int command_restore(const struct command *c, int argc, char **argv)
{
    const char *server = NULL, *dir = NULL;
    uint64_t timeout = TIMEOUT_MS;
    bool skip = false, replace = false;
    const struct arg_option options[] = {
        {"server", ARG_TEXT, &server, "ADDR", "binary protocol, HOST:PORT"},
        {"data", ARG_TEXT, &dir, "DIR", "a data directory that no server has open, or a new one"},
        {"skip-existing", ARG_FLAG, &skip, NULL,
         "leave keys that exist; add to logs and relations what they lack"},
        {"replace", ARG_FLAG, &replace, NULL, "overwrite keys that exist (not logs, relations)"},
        {"timeout", ARG_TIME, &timeout, "TIME", "for each answer (60s); 0: none"},
    };
    static const char more[] =
        "Reads the lines of `varve dump` from FILE or standard input. Types and values come back\n"
        "exactly; versions do not: a restored key is new and begins with a new version. A key "
        "that\n"
        "exists ends the restore with exit code 1, unless one of the options says otherwise.\n"
        "An interrupted restore is finished by running it again with --skip-existing: a log that\n"
        "exists then is taken for the beginning of the dumped one. Records get offsets from 1 on,\n"
        "and new timestamps where the server gives them.\n";
    struct arg_list a = {.options = options, .count = sizeof options / sizeof *options};
    int code;
    if (!command_parse(c, &a, argc, argv, 0, 1, more, &code))
        return code;
    if (skip && replace)
        return command_fail(c, CLI_USAGE, "--skip-existing and --replace exclude each other");
    struct restore *r = calloc(1, sizeof *r);
    if (!r)
        return command_fail(c, CLI_FAILED, "out of memory");
    r->existing = skip ? SKIP : replace ? REPLACE : REFUSE;
    if (place_open(&r->place, c, server, dir, timeout, true)) {
        r->place.code = restore_from(r, a.operand_count ? a.operands[0] : NULL);
        place_close(&r->place);
        fprintf(stderr, "%llu keys restored, %llu skipped, %llu past their time\n",
                (unsigned long long)r->restored, (unsigned long long)r->skipped,
                (unsigned long long)r->expired);
        fprintf(stderr, "%llu records restored, %llu of them with new timestamps, %llu skipped\n",
                (unsigned long long)r->logs.restored, (unsigned long long)r->logs.retimed,
                (unsigned long long)r->logs.skipped);
        fprintf(stderr, "%llu members of relations restored, %llu skipped\n",
                (unsigned long long)r->rels.restored, (unsigned long long)r->rels.skipped);
    }
    code = r->place.code;
    free(r);
    return code;
}
