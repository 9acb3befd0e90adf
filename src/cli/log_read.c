// log read and tail, event get and tail: pages of records, printed.
#include "base/os.h"
#include "cli/lines.h"
#include "cli/log.h"
#include "cli/objects.h"
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PAGE = 100000,      // records asked for at once; 4 MiB of them end a page earlier
    TAIL_LAST = 10,     // records a tail begins with
    TEXT_KEEP = 1 << 16 // bytes of text gathered before they are written
};

enum shape { AS_LINES, AS_JSON, AS_RAW };

struct reader {
    const struct command *c;
    struct varve *v;
    struct varve_log log;
    struct varve_log_query query;
    enum shape shape;
    uint64_t left; // records still wanted
    struct buf text;
};

static enum err put_record(struct reader *r, const struct varve_record *record)
{
    if (r->shape == AS_JSON)
        return record_put_json(&r->text, record);
    enum err e = buf_append(&r->text, record->data, record->size);
    return e || r->shape == AS_RAW ? e : buf_append(&r->text, "\n", 1);
}

static void write_text(struct reader *r)
{
    if (buf_len(&r->text)) // errors of standard output are looked at once, by cli_main
        (void)!fwrite(buf_head(&r->text), 1, buf_len(&r->text), stdout);
    buf_clear(&r->text);
}

static int print_page(struct reader *r, struct varve_page *page)
{
    struct varve_record record;
    enum err e = ERR_OK;
    if (page->truncated)
        command_fail(r->c, CLI_OK, "what was before offset %" PRIu64 " is no longer kept",
                     page->first_offset);
    while (!e && r->left && varve_page_next(page, &record)) {
        e = put_record(r, &record);
        r->left--;
        if (buf_len(&r->text) >= TEXT_KEEP)
            write_text(r);
    }
    write_text(r);
    return e ? command_fail(r->c, CLI_FAILED, "%s", err_text(e)) : CLI_OK;
}

static int read_all(struct reader *r)
{
    struct varve_page page;
    int code = CLI_OK;
    do {
        r->query.page_size = r->left < PAGE ? (uint32_t)r->left : PAGE;
        enum varve_error e = varve_log_read(r->v, &r->log, &r->query, &page);
        if (e)
            return command_failed_call(r->c, r->v, e);
        code = print_page(r, &page);
        r->query.continuation = page.continuation;
        r->query.continuation_size = page.continuation_size;
    } while (!code && page.more && r->left && !ferror(stdout));
    return code;
}

// ---- the same from objects, without a server

// True if the filter, which a server would apply, lets the record through.
static bool wanted(const struct varve_log_query *q, const struct record *r)
{
    if (q->filter == VARVE_FILTER_PREFIX)
        return slice_starts(r->bytes, slice_of(q->pattern, q->pattern_size));
    return q->filter == VARVE_FILTER_NONE ||
           (r->bytes.n && memmem(r->bytes.p, r->bytes.n, q->pattern, q->pattern_size));
}

static enum err put_page(struct reader *r, const struct archive_page *page)
{
    enum err e = ERR_OK;
    for (size_t i = 0; i < page->count && r->left && !e; i++) {
        const struct record *in = &page->records[i];
        if (!wanted(&r->query, in))
            continue;
        struct varve_record record = {.offset = in->offset,
                                      .timestamp = in->timestamp,
                                      .has_timestamp = true,
                                      .has_nonce = in->nonce != NONCE_NONE,
                                      .nonce = record_nonce(in->nonce),
                                      .data = in->bytes.p,
                                      .size = in->bytes.n};
        e = put_record(r, &record);
        r->left--;
        if (buf_len(&r->text) >= TEXT_KEEP)
            write_text(r);
    }
    write_text(r);
    return e;
}

static enum err read_pages(struct reader *r, struct objects *o, struct errmsg *msg)
{
    static const enum archive_start starts[] = {
        [VARVE_START_FIRST] = ARCHIVE_FIRST,
        [VARVE_START_OFFSET] = ARCHIVE_OFFSET,
        [VARVE_START_TIMESTAMP] = ARCHIVE_TIMESTAMP,
        [VARVE_START_NONCE] = ARCHIVE_NONCE,
    };
    struct archive_query q = {.backwards = r->query.backwards,
                              .start = starts[r->query.start],
                              .offset = r->query.offset,
                              .timestamp = r->query.timestamp,
                              .nonce = (u128)r->query.nonce.high << 64 | r->query.nonce.low};
    struct archive_page page = {.more = true};
    char token[ARCHIVE_TOKEN];
    enum err e = ERR_OK;
    while (!e && page.more && r->left && !ferror(stdout)) {
        q.reads_on = r->query.filter || r->left > PAGE;
        q.page_size = q.reads_on ? PAGE : r->left;
        e = archive_read(o->reader, &o->log, &q, &page, msg);
        if (e)
            break;
        e = put_page(r, &page);
        if (e)
            err_set(msg, e, "%s", err_text(e));
        memcpy(token, page.token, page.token_size);
        q.continuation = slice_of(token, page.token_size);
    }
    return e;
}

static int read_objects(struct reader *r, const char *operand, const struct objects_options *how)
{
    struct objects o;
    struct errmsg msg = {""};
    enum err e = objects_open(&o, operand, how, &msg);
    if (e)
        return command_fail(r->c, e == ERR_INVALID ? CLI_USAGE : CLI_FAILED, "%s: %s", operand,
                            msg.text);
    buf_init(&r->text, LINE_BYTES);
    uint64_t wanted = r->left;
    struct archive_meta meta;
    e = read_pages(r, &o, &msg);
    bool is_none = !e && wanted && r->left == wanted; // nothing at all: perhaps a wrong name
    e = is_none ? archive_key_meta(o.reader, &o.log, &meta, &msg) : e;
    buf_release(&r->text);
    objects_close(&o);
    return e ? command_fail(r->c, is_none && e == ERR_MISSING ? CLI_NO : CLI_FAILED, "%s: %s",
                            operand, msg.text)
             : CLI_OK;
}

// ---- tails

// Where the last records of the log begin; on an empty log, at its end.
static enum varve_error find_last(struct reader *r)
{
    struct varve_log_query q = {.backwards = true, .page_size = TAIL_LAST};
    struct varve_page page;
    struct varve_record record;
    uint64_t seen = 0;
    r->query.start = VARVE_START_OFFSET;
    do { // a page ends early at its 4 MiB
        enum varve_error e = varve_log_read(r->v, &r->log, &q, &page);
        if (e)
            return e;
        if (seen == 0)
            r->query.offset = page.next_offset;
        for (; seen < TAIL_LAST && varve_page_next(&page, &record); seen++)
            r->query.offset = record.offset;
        q.continuation = page.continuation;
        q.continuation_size = page.continuation_size;
    } while (page.more && seen < TAIL_LAST);
    return VARVE_OK;
}

static void interrupted(int signal)
{
    (void)signal;
    _Exit(CLI_OK); // everything printed was flushed
}

// Until it is interrupted.
static int follow(struct reader *r)
{
    struct varve_page page = {.end = false};
    signal(SIGINT, interrupted);
    enum varve_error e = varve_log_tail(r->v, &r->log, &r->query, true);
    while (!e && !page.end) {
        e = varve_log_tail_next(r->v, &page);
        int code = e ? CLI_OK : print_page(r, &page);
        if (code)
            return code;
        if (fflush(stdout))
            return CLI_OK; // cli_main tells
    }
    return e ? command_failed_call(r->c, r->v, e)
             : command_fail(r->c, CLI_FAILED, "the server ended the tail");
}

// Runs `what` with a connection.
static int with_server(struct reader *r, const char *server, uint64_t timeout,
                       int (*what)(struct reader *))
{
    buf_init(&r->text, LINE_BYTES);
    r->v = command_connect(r->c, server, timeout);
    int code = r->v ? what(r) : CLI_FAILED;
    varve_close(r->v);
    buf_release(&r->text);
    return code;
}

static int follow_last(struct reader *r)
{
    enum varve_error e = find_last(r);
    return e ? command_failed_call(r->c, r->v, e) : follow(r);
}

struct filter_options {
    const char *prefix, *contains;
};
#define FILTER_OPTIONS(f)                                                            \
    {"contains", ARG_TEXT, &(f).contains, "TEXT", "only records that hold this"},    \
    {                                                                                \
        "prefix", ARG_TEXT, &(f).prefix, "TEXT", "only records that begin with this" \
    }

// Sets the query's filter and the shape; exit code.
static int set_up(struct reader *r, const struct filter_options *f, bool json, bool raw)
{
    const char *pattern = f->prefix ? f->prefix : f->contains;
    if (f->prefix && f->contains)
        return command_fail(r->c, CLI_USAGE, "--prefix and --contains exclude each other");
    if (json && raw)
        return command_fail(r->c, CLI_USAGE, "--json and --raw exclude each other");
    r->shape = json ? AS_JSON : raw ? AS_RAW : AS_LINES;
    if (pattern && *pattern) {
        r->query.filter = f->prefix ? VARVE_FILTER_PREFIX : VARVE_FILTER_CONTAINS;
        r->query.pattern = pattern;
        r->query.pattern_size = strlen(pattern);
    }
    return CLI_OK;
}

int command_log_read(const struct command *c, int argc, char **argv)
{
    const char *server = NULL, *from = "first";
    uint64_t timeout = LOG_TIMEOUT_MS, limit = 0;
    bool json = false, raw = false;
    struct filter_options filter = {NULL, NULL};
    struct objects_options objects = {0};
    struct reader r = {.c = c};
    const struct arg_option options[] = {
        {"from", ARG_TEXT, &from, "PLACE", "first, N or offset:N, timestamp:T, nonce:N (first)"},
        {"start", ARG_TEXT, &from, "PLACE", "the same as --from"},
        {"backwards", ARG_FLAG, &r.query.backwards, NULL, "newest first"},
        {"limit", ARG_COUNT, &limit, "N", "so many records at most (all)"},
        FILTER_OPTIONS(filter),
        {"json", ARG_FLAG, &json, NULL, "a JSON object a record"},
        {"raw", ARG_FLAG, &raw, NULL, "the records' bytes, end to end"},
        OBJECTS_OPTIONS(objects),
        LOG_OPTIONS(server, timeout),
    };
    static const char more[] =
        "Prints a record a line, and a log that does not exist as an empty one. Reading begins\n"
        "with the first record at or past PLACE; backwards, with the last one at or before it, or\n"
        "the newest. Logs kept as objects are read without a server:\n"
        "  s3://BUCKET/PREFIX/KEYSPACE/KEY   dir:///PATH/PREFIX/KEYSPACE/KEY\n";
    struct arg_list a = {.options = options, .count = LOG_COUNT(options)};
    struct errmsg msg;
    int code;
    if (!command_parse(c, &a, argc, argv, 1, 2, more, &code))
        return code;
    bool is_objects = a.operand_count == 1 && objects_is(a.operands[0]);
    if (a.operand_count == 1 && !is_objects)
        return command_fail(c, CLI_USAGE, "a keyspace and a key are wanted, or s3:// or dir://");
    if (record_from(from, &r.query, &msg))
        return command_fail(c, CLI_USAGE, "--from: %s", msg.text);
    code = set_up(&r, &filter, json, raw);
    if (code)
        return code;
    r.left = limit ? limit : UINT64_MAX;
    if (is_objects)
        return read_objects(&r, a.operands[0], &objects);
    r.log = log_named(a.operands[0], a.operands[1]);
    return with_server(&r, server, timeout, read_all);
}

int command_log_tail(const struct command *c, int argc, char **argv)
{
    const char *server = NULL, *from = NULL;
    uint64_t timeout = LOG_TIMEOUT_MS;
    bool json = false, raw = false;
    struct filter_options filter = {NULL, NULL};
    const struct arg_option options[] = {
        {"from", ARG_TEXT, &from, "PLACE", "as for read, or end (the last 10 records)"},
        FILTER_OPTIONS(filter),
        {"json", ARG_FLAG, &json, NULL, "a JSON object a record"},
        {"raw", ARG_FLAG, &raw, NULL, "the records' bytes, end to end"},
        LOG_OPTIONS(server, timeout),
    };
    static const char more[] =
        "Goes on until it is interrupted, also with a log that does not exist yet. Records that\n"
        "retention takes before they were read are told of on standard error.\n";
    struct arg_list a = {.options = options, .count = LOG_COUNT(options)};
    struct reader r = {.c = c, .left = UINT64_MAX};
    struct errmsg msg;
    int code;
    if (!command_parse(c, &a, argc, argv, 2, 2, more, &code))
        return code;
    if (from && !strcmp(from, "end"))
        r.query.start = VARVE_START_END;
    else if (from && record_from(from, &r.query, &msg))
        return command_fail(c, CLI_USAGE, "--from: %s", msg.text);
    code = set_up(&r, &filter, json, raw);
    if (code)
        return code;
    r.log = log_named(a.operands[0], a.operands[1]);
    return with_server(&r, server, timeout, from ? follow : follow_last);
}

// "-1h": so long ago; else a timestamp in microseconds. Events after it are wanted, not at it.
static enum err since_time(const char *text, struct varve_log_query *q)
{
    uint64_t ms;
    int64_t us;
    if (*text == '-') {
        enum err e = arg_time(text + 1, &ms);
        uint64_t now = os_wall_us(os_real());
        if (e || __builtin_mul_overflow(ms, 1000u, &ms))
            return ERR_INVALID;
        us = ms < now ? (int64_t)(now - ms) : 0;
    } else if (arg_int(text, &us) || us == INT64_MAX) {
        return ERR_INVALID;
    }
    q->start = VARVE_START_TIMESTAMP;
    q->timestamp = us + 1;
    return ERR_OK;
}

static int event_read(const struct command *c, int argc, char **argv, bool tail)
{
    const char *server = NULL, *since = NULL;
    uint64_t timeout = LOG_TIMEOUT_MS, limit = 0;
    bool json = false, raw = false;
    const struct arg_option options[] = {
        {"since", ARG_TEXT, &since, "TIME", "only after this: microseconds since 1970, or -1h"},
        {"json", ARG_FLAG, &json, NULL, "a JSON object an event"},
        {"raw", ARG_FLAG, &raw, NULL, "the events' bytes, end to end"},
        LOG_OPTIONS(server, timeout),
        {"limit", ARG_COUNT, &limit, "N", "so many events at most (all)"}, // last: not for tail
    };
    static const char get_more[] =
        "Prints an event a line. The stream is \"" EVENT_STREAM "\" if none is named.\n";
    static const char tail_more[] =
        "Begins with the last 10 events if --since is not given, and goes on until it is\n"
        "interrupted. The stream is \"" EVENT_STREAM "\" if none is named.\n";
    struct arg_list a = {.options = options, .count = LOG_COUNT(options) - tail};
    struct filter_options none = {NULL, NULL};
    struct reader r = {.c = c};
    int code;
    if (!command_parse(c, &a, argc, argv, 0, 1, tail ? tail_more : get_more, &code))
        return code;
    if (since && since_time(since, &r.query))
        return command_fail(
            c, CLI_USAGE, "--since: \"%s\" is neither microseconds nor a time such as -1h", since);
    code = set_up(&r, &none, json, raw);
    if (code)
        return code;
    r.left = limit ? limit : UINT64_MAX;
    r.log = log_named(EVENT_KEYSPACE, a.operand_count ? a.operands[0] : EVENT_STREAM);
    return with_server(&r, server, timeout, !tail ? read_all : since ? follow : follow_last);
}

int command_event_get(const struct command *c, int argc, char **argv)
{
    return event_read(c, argc, argv, false);
}

int command_event_tail(const struct command *c, int argc, char **argv)
{
    return event_read(c, argc, argv, true);
}
