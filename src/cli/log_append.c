// log append, event put: records from lines, JSON lines or a whole input.
//
// One request is on its way while the next is being gathered, and never two: when one is refused,
// nothing behind it has been stored. Were it otherwise, the nonces of those behind it would have
// the refused records taken for duplicates when they are sent again.
#include "base/limits.h"
#include "cli/io.h"
#include "cli/lines.h"
#include "cli/log.h"
#include "cli/progress.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    BATCH = 1000,          // records in a request, if --batch does not say
    BATCH_MOST = 100000,   // and what it may say
    BATCH_BYTES = 1 << 20, // of records, at which a request is sent in any case
    RECORD_MAX = LIMIT_REQUEST_HARD,
};

enum form { FORM_LINES, FORM_JSON, FORM_RAW };

struct appender {
    const struct command *c;
    struct varve *v;
    struct varve_log log;
    enum form form;
    bool numbered; // records get nonces, from `nonce` up
    u128 nonce;
    struct json_parser *parser;
    struct input in;
    // The request being gathered.
    struct varve_record *records;
    size_t batch, count;
    struct buf bytes; // of the records, end to end
    uint64_t first_line, last_line;
    // The one on its way.
    bool sent;
    size_t sent_count;
    uint64_t sent_first_line, sent_last_line;
    // So far.
    uint64_t appended, duplicates;
    uint64_t first_offset; // of the first record appended, 0: none yet
    uint64_t next_offset;
    struct varve_u128 next_nonce;
};

static int fail_lines(const struct appender *a, int code, uint64_t first, uint64_t last,
                      const char *what)
{
    if (a->form == FORM_RAW)
        return command_fail(a->c, code, "%s: %s", a->in.name, what);
    if (first == last)
        return command_fail(a->c, code, "%s: line %" PRIu64 ": %s", a->in.name, first, what);
    return command_fail(a->c, code, "%s: lines %" PRIu64 " to %" PRIu64 ": %s", a->in.name, first,
                        last, what);
}

// Waits for the reply to the request on its way, if there is one.
static int take_reply(struct appender *a)
{
    struct varve_reply reply;
    if (!a->sent)
        return CLI_OK;
    a->sent = false;
    enum varve_error e = varve_next_reply(a->v, &reply);
    e = e ? e : reply.error;
    if (e)
        return fail_lines(a, CLI_FAILED, a->sent_first_line, a->sent_last_line,
                          varve_error_text(a->v));
    const struct varve_appended *r = &reply.appended;
    if (a->first_offset == 0 && r->appended)
        a->first_offset = r->first_offset;
    a->appended += r->appended;
    a->duplicates += a->sent_count - r->appended;
    a->next_offset = r->next_offset;
    a->next_nonce = r->next_nonce;
    return CLI_OK;
}

static int send_batch(struct appender *a)
{
    if (a->count == 0)
        return CLI_OK;
    int code = take_reply(a);
    if (code)
        return code;
    const uint8_t *p = buf_len(&a->bytes) ? buf_head(&a->bytes) : NULL;
    for (size_t i = 0; i < a->count; i++) {
        a->records[i].data = p;
        p = a->records[i].size ? p + a->records[i].size : p;
    }
    enum varve_error e = varve_queue_log_append(a->v, &a->log, a->records, a->count);
    e = e ? e : varve_flush(a->v);
    if (e)
        return fail_lines(a, e == VARVE_INVALID ? CLI_USAGE : CLI_FAILED, a->first_line,
                          a->last_line, varve_error_text(a->v));
    a->sent = true;
    a->sent_count = a->count;
    a->sent_first_line = a->first_line;
    a->sent_last_line = a->last_line;
    a->count = 0;
    buf_clear(&a->bytes);
    return CLI_OK;
}

// Adds the record whose bytes are already in the buffer.
static int add_record(struct appender *a, struct varve_record r)
{
    uint64_t line = a->in.line;
    if (a->numbered && a->nonce == U128_MAX)
        return fail_lines(a, CLI_USAGE, line, line, "the nonces end at 2^128 - 2");
    if (a->numbered && !r.has_nonce) {
        r.nonce = record_nonce(a->nonce);
        r.has_nonce = true;
    }
    a->nonce += a->numbered;
    if (a->count == 0)
        a->first_line = line;
    a->last_line = line;
    a->records[a->count++] = r;
    return a->count == a->batch || buf_len(&a->bytes) >= BATCH_BYTES ? send_batch(a) : CLI_OK;
}

static int add_line(struct appender *a, struct slice text)
{
    struct errmsg msg;
    struct varve_record r = {.size = 0};
    int code = CLI_OK;
    if (a->form == FORM_JSON && text.n == 0)
        return CLI_OK;
    // A huge line goes alone, so that an error names it.
    if (buf_len(&a->bytes) + text.n > BATCH_BYTES)
        code = send_batch(a);
    if (code)
        return code;
    if (a->form == FORM_JSON) {
        if (record_get_json(&a->bytes, a->parser, text, &r, &msg))
            return fail_lines(a, CLI_USAGE, a->in.line, a->in.line, msg.text);
        return add_record(a, r);
    }
    r.size = text.n && text.p[text.n - 1] == '\r' ? text.n - 1 : text.n;
    enum err e = buf_append(&a->bytes, text.p, r.size);
    return e ? fail_lines(a, CLI_FAILED, a->in.line, a->in.line, err_text(e)) : add_record(a, r);
}

static int append_lines(struct appender *a)
{
    struct progress progress;
    struct slice text;
    struct errmsg msg;
    enum err e = ERR_OK;
    int code = CLI_OK;
    progress_begin(&progress, "append", a->in.size, "bytes");
    while (!code) {
        // What has been gathered does not wait for somebody who types.
        if (a->count && !input_ready(&a->in))
            code = send_batch(a);
        if (code || (e = input_line(&a->in, &text, &msg)))
            break;
        code = add_line(a, text);
        progress_show(&progress, a->in.at);
    }
    progress_end(&progress);
    if (!code && e == ERR_MISSING)
        code = send_batch(a);
    int last = take_reply(a); // also of what was sent before a wrong line
    if (!code && e && e != ERR_MISSING)
        code = command_fail(a->c, e == ERR_TOO_BIG ? CLI_USAGE : CLI_FAILED, "%s", msg.text);
    return code ? code : last;
}

static int append_whole(struct appender *a, const char *path)
{
    struct errmsg msg;
    enum err e = input_all(path ? path : "-", &a->bytes, &msg);
    if (e)
        return command_fail(a->c, e == ERR_TOO_BIG ? CLI_USAGE : CLI_FAILED, "%s", msg.text);
    a->batch = 2; // send_batch is called here, not in add_record, whatever the size
    int code = add_record(a, (struct varve_record){.size = buf_len(&a->bytes)});
    code = code ? code : send_batch(a);
    return code ? code : take_reply(a);
}

static void print_totals(const struct appender *a)
{
    char nonce[U128_TEXT];
    u128_format((u128)a->next_nonce.high << 64 | a->next_nonce.low, nonce);
    printf("appended %" PRIu64 "\nduplicates %" PRIu64 "\n", a->appended, a->duplicates);
    if (a->first_offset)
        printf("first_offset %" PRIu64 "\n", a->first_offset);
    if (a->next_offset)
        printf("next_offset %" PRIu64 "\nnext_nonce %s\n", a->next_offset, nonce);
}

static int append_from(struct appender *a, const char *path)
{
    struct errmsg msg;
    int code;
    buf_init(&a->bytes, RECORD_MAX + BATCH_BYTES);
    a->records = calloc(a->batch + 1, sizeof *a->records);
    a->parser = json_parser_new(LINE_BYTES);
    enum err e = input_open(&a->in, path, LINE_BYTES, &msg);
    if (e)
        code = command_fail(a->c, CLI_USAGE, "%s", msg.text);
    else if (!a->records || !a->parser)
        code = command_fail(a->c, CLI_FAILED, "out of memory");
    else
        code = a->form == FORM_RAW ? append_whole(a, path) : append_lines(a);
    input_close(&a->in);
    json_parser_free(a->parser);
    free(a->records);
    buf_release(&a->bytes);
    print_totals(a);
    return code;
}

int command_log_append(const struct command *c, int argc, char **argv)
{
    const char *server = NULL, *nonce = NULL;
    uint64_t timeout = LOG_TIMEOUT_MS, batch = BATCH;
    bool raw = false, json = false;
    const struct arg_option options[] = {
        {"json", ARG_FLAG, &json, NULL, "each line is an object, see below"},
        {"raw", ARG_FLAG, &raw, NULL, "the whole input is one record"},
        {"nonce", ARG_TEXT, &nonce, "N", "of the first record, rising by 1 from line to line"},
        {"batch", ARG_COUNT, &batch, "N", "records in a request (1000)"},
        LOG_OPTIONS(server, timeout),
    };
    static const char more[] =
        "Each line of FILE or standard input, without its end, is a record. With --json it is\n"
        "{\"record\":\"...\"} or {\"base64\":\"...\"}, with \"timestamp\" and \"nonce\" if wanted; "
        "a\n"
        "line of `varve log read --json` is one. With nonces, a run that was interrupted is\n"
        "repeated as it was: what is there already is counted and not stored again. A line that\n"
        "is refused ends the run, and nothing after it is stored.\n";
    struct arg_list args = {.options = options, .count = LOG_COUNT(options)};
    int code;
    if (!command_parse(c, &args, argc, argv, 2, 3, more, &code))
        return code;
    struct appender a = {.c = c, .numbered = nonce != NULL, .batch = batch};
    if (raw && json)
        return command_fail(c, CLI_USAGE, "--raw and --json exclude each other");
    if (nonce && (!u128_parse(slice_str(nonce), &a.nonce) || a.nonce == U128_MAX))
        return command_fail(c, CLI_USAGE, "--nonce: \"%s\" is not a whole number up to 2^128 - 2",
                            nonce);
    if (batch == 0 || batch > BATCH_MOST)
        return command_fail(c, CLI_USAGE, "--batch must be 1 to %d", BATCH_MOST);
    a.form = raw ? FORM_RAW : json ? FORM_JSON : FORM_LINES;
    a.log = log_named(args.operands[0], args.operands[1]);
    a.v = command_connect(c, server, timeout);
    if (!a.v)
        return CLI_FAILED;
    code = append_from(&a, args.operand_count > 2 ? args.operands[2] : NULL);
    varve_close(a.v);
    return code;
}

// The keyspace of events, if this is the first of them.
static enum varve_error need_events(struct varve *v)
{
    struct varve_log_policy policy = {.server_time = true};
    struct slice name = slice_str(EVENT_KEYSPACE);
    enum varve_error e = varve_keyspace_get(v, name.p, name.n, NULL, NULL);
    if (e == VARVE_MISSING)
        e = varve_keyspace_create(v, name.p, name.n, &policy, NULL);
    return e == VARVE_CONFLICT ? VARVE_OK : e; // somebody else has just made it
}

int command_event_put(const struct command *c, int argc, char **argv)
{
    const char *server = NULL;
    uint64_t timeout = LOG_TIMEOUT_MS;
    bool raw = false;
    const struct arg_option options[] = {
        {"raw", ARG_FLAG, &raw, NULL, "the whole input is one event"},
        LOG_OPTIONS(server, timeout),
    };
    static const char more[] =
        "Each line of standard input, without its end, is an event. The stream is \"" EVENT_STREAM
        "\"\nif none is named.\n";
    struct arg_list args = {.options = options, .count = LOG_COUNT(options)};
    int code;
    if (!command_parse(c, &args, argc, argv, 0, 1, more, &code))
        return code;
    struct appender a = {.c = c, .batch = BATCH, .form = raw ? FORM_RAW : FORM_LINES};
    a.log = log_named(EVENT_KEYSPACE, args.operand_count ? args.operands[0] : EVENT_STREAM);
    a.v = command_connect(c, server, timeout);
    if (!a.v)
        return CLI_FAILED;
    enum varve_error e = need_events(a.v);
    code = e ? command_failed_call(c, a.v, e) : append_from(&a, NULL);
    varve_close(a.v);
    return code;
}
