// log: keyspaces and what is known of a log; trim, erase, flush. The tables of log and event.
#include "cli/log.h"
#include "archive/writer.h"
#include "cli/lines.h"
#include "cli/objects.h"
#include <inttypes.h>
#include <stdio.h>

struct varve_log log_named(const char *keyspace, const char *key)
{
    return (struct varve_log){keyspace, strlen(keyspace), key, strlen(key)};
}

// Ends a call: tells what failed, closes.
static int done(const struct command *c, struct varve *v, enum varve_error e)
{
    int code = e ? command_failed_call(c, v, e) : CLI_OK;
    varve_close(v);
    return code;
}

#define RETENTION_UNSET UINT64_MAX

struct retention {
    uint64_t age, size, records; // RETENTION_UNSET: not given
};

#define RETENTION_OPTIONS(r)                                                                   \
    {"retention-age", ARG_TIME, &(r).age, "TIME", "records older than this go; 0: none"},      \
        {"retention-size", ARG_SIZE, &(r).size, "SIZE", "a log's oldest go past it; 0: none"}, \
    {                                                                                          \
        "retention-records", ARG_COUNT, &(r).records, "N", "likewise; 0: none"                 \
    }

// What was given goes into the policy; false if nothing was.
static bool set_retention(struct varve_log_policy *p, const struct retention *r)
{
    if (r->age != RETENTION_UNSET)
        p->max_age_ms = r->age;
    if (r->size != RETENTION_UNSET)
        p->max_bytes = r->size;
    if (r->records != RETENTION_UNSET)
        p->max_records = r->records;
    return r->age != RETENTION_UNSET || r->size != RETENTION_UNSET || r->records != RETENTION_UNSET;
}

static int log_create(const struct command *c, int argc, char **argv)
{
    const char *server = NULL;
    uint64_t timeout = LOG_TIMEOUT_MS;
    struct retention retention = {RETENTION_UNSET, RETENTION_UNSET, RETENTION_UNSET};
    struct varve_log_policy policy = {.server_time = false};
    const struct arg_option options[] = {
        RETENTION_OPTIONS(retention),
        {"server-time", ARG_FLAG, &policy.server_time, NULL,
         "the server gives timestamps: microseconds, strictly rising"},
        LOG_OPTIONS(server, timeout),
    };
    struct arg_list a = {.options = options, .count = LOG_COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 1, 1, "A keyspace that exists is exit code 1.\n", &code))
        return code;
    set_retention(&policy, &retention);
    struct varve *v = command_connect(c, server, timeout);
    if (!v)
        return CLI_FAILED;
    const char *name = a.operands[0];
    return done(c, v, varve_keyspace_create(v, name, strlen(name), &policy, NULL));
}

static enum err put_policy(struct buf *b, struct slice name, uint64_t created,
                           const struct varve_log_policy *p, bool json)
{
    const char *clock = p->server_time ? "server" : "client";
    if (!json)
        return buf_printf(b,
                          "created %" PRIu64 "\ntimestamps %s\nmax_age_ms %" PRIu64
                          "\nmax_bytes %" PRIu64 "\nmax_records %" PRIu64 "\n",
                          created, clock, p->max_age_ms, p->max_bytes, p->max_records);
    enum err e = buf_append(b, "{", 1);
    e = e ? e : line_put_bytes(b, "keyspace", name);
    return e ? e
             : buf_printf(b,
                          ",\"created\":%" PRIu64 ",\"timestamps\":\"%s\",\"retention\":"
                          "{\"max_age_ms\":%" PRIu64 ",\"max_bytes\":%" PRIu64
                          ",\"max_records\":%" PRIu64 "}}\n",
                          created, clock, p->max_age_ms, p->max_bytes, p->max_records);
}

// Prints what was put into `b`, and gives the exit code.
static int print(const struct command *c, struct buf *b, enum err e)
{
    if (!e && buf_len(b))
        (void)!fwrite(buf_head(b), 1, buf_len(b), stdout); // cli_main looks at its errors
    buf_release(b);
    return e ? command_fail(c, CLI_FAILED, "%s", err_text(e)) : CLI_OK;
}

static int log_policy(const struct command *c, int argc, char **argv)
{
    const char *server = NULL;
    uint64_t timeout = LOG_TIMEOUT_MS, created = 0;
    bool json = false;
    struct retention retention = {RETENTION_UNSET, RETENTION_UNSET, RETENTION_UNSET};
    struct varve_log_policy policy;
    const struct arg_option options[] = {
        RETENTION_OPTIONS(retention),
        {"json", ARG_FLAG, &json, NULL, "one JSON object"},
        LOG_OPTIONS(server, timeout),
    };
    struct arg_list a = {.options = options, .count = LOG_COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 1, 1,
                       "Changes what is given and prints the whole; 0 there means no limit.\n",
                       &code))
        return code;
    struct slice name = slice_str(a.operands[0]);
    struct varve *v = command_connect(c, server, timeout);
    if (!v)
        return CLI_FAILED;
    enum varve_error r = varve_keyspace_get(v, name.p, name.n, &policy, &created);
    if (!r && set_retention(&policy, &retention))
        r = varve_keyspace_policy(v, name.p, name.n, &policy);
    code = done(c, v, r);
    if (code)
        return code;
    struct buf b;
    buf_init(&b, 1 << 16);
    return print(c, &b, put_policy(&b, name, created, &policy, json));
}

static enum err put_meta(struct buf *b, const struct varve_log *log, const struct varve_log_meta *m,
                         bool json)
{
    char nonce[U128_TEXT];
    u128_format((u128)m->next_nonce.high << 64 | m->next_nonce.low, nonce);
    enum err e = ERR_OK;
    if (json) {
        e = buf_append(b, "{", 1);
        e = e ? e : line_put_bytes(b, "keyspace", slice_of(log->keyspace, log->keyspace_size));
        e = e ? e : buf_append(b, ",", 1);
        e = e ? e : line_put_bytes(b, "key", slice_of(log->key, log->key_size));
    }
    const char *const shape = json ? ",\"%s\":%s" : "%s %s\n";
    struct {
        const char *name;
        char text[U128_TEXT + 2];
    } lines[6] = {{"first_offset", ""},   {"next_offset", ""}, {"next_nonce", ""},
                  {"last_timestamp", ""}, {"records", ""},     {"bytes", ""}};
    snprintf(lines[0].text, sizeof lines[0].text, "%" PRIu64, m->first_offset);
    snprintf(lines[1].text, sizeof lines[1].text, "%" PRIu64, m->next_offset);
    snprintf(lines[2].text, sizeof lines[2].text, json ? "\"%s\"" : "%s", nonce);
    snprintf(lines[3].text, sizeof lines[3].text, "%" PRId64, m->last_timestamp);
    snprintf(lines[4].text, sizeof lines[4].text, "%" PRIu64, m->records);
    snprintf(lines[5].text, sizeof lines[5].text, "%" PRIu64, m->bytes);
    for (size_t i = 0; i < 6 && !e; i++)
        if (i != 3 || m->last_timestamp != INT64_MIN) // which means that there is none
            e = buf_printf(b, shape, lines[i].name, lines[i].text);
    return e || !json ? e : buf_append(b, "}\n", 2);
}

static enum err put_objects_meta(struct buf *b, const struct objects *o,
                                 const struct archive_meta *m, bool json)
{
    char nonce[U128_TEXT];
    u128_format(m->next_nonce, nonce);
    if (!json)
        return buf_printf(b, "next_offset %" PRIu64 "\nnext_nonce %s\n", m->next_offset, nonce);
    enum err e = buf_append(b, "{", 1);
    e = e ? e : line_put_bytes(b, "keyspace", o->log.keyspace);
    e = e ? e : buf_append(b, ",", 1);
    e = e ? e : line_put_bytes(b, "key", o->log.key);
    return e ? e
             : buf_printf(b, ",\"next_offset\":%" PRIu64 ",\"next_nonce\":\"%s\"}\n",
                          m->next_offset, nonce);
}

static int objects_meta(const struct command *c, const char *operand,
                        const struct objects_options *how, bool json)
{
    struct objects o;
    struct archive_meta meta;
    struct errmsg msg = {""};
    struct buf b;
    enum err e = objects_open(&o, operand, how, &msg);
    if (e)
        return command_fail(c, e == ERR_INVALID ? CLI_USAGE : CLI_FAILED, "%s: %s", operand,
                            msg.text);
    e = archive_key_meta(o.reader, &o.log, &meta, &msg);
    int code = e ? command_fail(c, e == ERR_MISSING ? CLI_NO : CLI_FAILED, "%s", msg.text) : CLI_OK;
    if (!code) {
        buf_init(&b, 1 << 17);
        code = print(c, &b, put_objects_meta(&b, &o, &meta, json));
    }
    objects_close(&o);
    return code;
}

static int log_meta(const struct command *c, int argc, char **argv)
{
    const char *server = NULL;
    uint64_t timeout = LOG_TIMEOUT_MS;
    bool json = false;
    struct varve_log_meta meta;
    struct objects_options objects = {0};
    const struct arg_option options[] = {
        {"json", ARG_FLAG, &json, NULL, "one JSON object"},
        OBJECTS_OPTIONS(objects),
        LOG_OPTIONS(server, timeout),
    };
    struct arg_list a = {.options = options, .count = LOG_COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 1, 2,
                       "Of a log kept as objects (s3://BUCKET/PREFIX/KEYSPACE/KEY, or\n"
                       "dir:///PATH/PREFIX/KEYSPACE/KEY) it shows what the next record will get.\n",
                       &code))
        return code;
    if (a.operand_count == 1 && objects_is(a.operands[0]))
        return objects_meta(c, a.operands[0], &objects, json);
    if (a.operand_count == 1)
        return command_fail(c, CLI_USAGE, "a keyspace and a key are wanted, or s3:// or dir://");
    struct varve_log log = log_named(a.operands[0], a.operands[1]);
    struct varve *v = command_connect(c, server, timeout);
    if (!v)
        return CLI_FAILED;
    code = done(c, v, varve_log_meta(v, &log, &meta));
    if (code)
        return code;
    struct buf b;
    buf_init(&b, 1 << 17);
    return print(c, &b, put_meta(&b, &log, &meta, json));
}

// The log, which there is, becomes this writer's for as long as it takes.
static enum err trim_log(const struct objects *o, uint64_t before, uint64_t *first,
                         struct errmsg *msg)
{
    struct archive_writer *w;
    struct archive_trim t = {.log = o->log, .before = before};
    struct archive_meta meta;
    struct errmsg ignored;
    enum err e = archive_key_meta(o->reader, &o->log, &meta, msg);
    e = e ? e : archive_writer_new(&w, o->store, os_real(), NULL, msg);
    if (e)
        return e;
    do
        e = archive_trim(w, &t, msg);
    while (!e && t.more);
    *first = t.first;
    if (!e)
        ERR_IGNORE(archive_writer_release(w, &o->log, &ignored)); // the next one closes it else
    archive_writer_free(w);
    return e;
}

static int objects_trim(const struct command *c, const char *operand,
                        const struct objects_options *how, uint64_t before)
{
    struct objects o;
    struct errmsg msg = {""};
    uint64_t first = 0;
    enum err e = objects_open(&o, operand, how, &msg);
    if (e)
        return command_fail(c, e == ERR_INVALID ? CLI_USAGE : CLI_FAILED, "%s: %s", operand,
                            msg.text);
    e = trim_log(&o, before, &first, &msg);
    int code = e ? command_fail(c, e == ERR_MISSING ? CLI_NO : CLI_FAILED, "%s", msg.text) : CLI_OK;
    if (!code)
        printf("%" PRIu64 "\n", first);
    objects_close(&o);
    return code;
}

static int log_trim(const struct command *c, int argc, char **argv)
{
    const char *server = NULL, *before = NULL;
    uint64_t timeout = LOG_TIMEOUT_MS, first = 0;
    struct objects_options objects = {0};
    const struct arg_option options[] = {
        {"before", ARG_TEXT, &before, "PLACE", "N or offset:N, or timestamp:T"},
        OBJECTS_OPTIONS(objects),
        LOG_OPTIONS(server, timeout),
    };
    struct arg_list a = {.options = options, .count = LOG_COUNT(options)};
    struct varve_log_query q = {.start = VARVE_START_FIRST};
    struct errmsg msg;
    int code;
    if (!command_parse(c, &a, argc, argv, 1, 2,
                       "Removes the records before an offset, or before the first one whose "
                       "timestamp is not\nbelow T. Prints the offset at which what is kept "
                       "begins. Of a log kept as objects\n(s3://BUCKET/PREFIX/KEYSPACE/KEY, or "
                       "dir:///PATH/PREFIX/KEYSPACE/KEY) it deletes whole\nobjects before an "
                       "offset, and fences whoever writes it: not for a server's logs.\n",
                       &code))
        return code;
    bool is_objects = a.operand_count == 1 && objects_is(a.operands[0]);
    if (a.operand_count == 1 && !is_objects)
        return command_fail(c, CLI_USAGE, "a keyspace and a key are wanted, or s3:// or dir://");
    if (!before)
        return command_fail(c, CLI_USAGE, "--before is wanted");
    if (record_from(before, &q, &msg))
        return command_fail(c, CLI_USAGE, "--before: %s", msg.text);
    if (q.start != VARVE_START_OFFSET && q.start != VARVE_START_TIMESTAMP)
        return command_fail(c, CLI_USAGE, "--before takes an offset or timestamp:T");
    if (is_objects && q.start != VARVE_START_OFFSET)
        return command_fail(c, CLI_USAGE, "--before takes an offset where a log is objects");
    if (is_objects)
        return objects_trim(c, a.operands[0], &objects, q.offset);
    struct varve_log log = log_named(a.operands[0], a.operands[1]);
    struct varve *v = command_connect(c, server, timeout);
    if (!v)
        return CLI_FAILED;
    enum varve_error r = q.start == VARVE_START_OFFSET
                             ? varve_log_trim(v, &log, q.offset, &first)
                             : varve_log_trim_time(v, &log, q.timestamp, &first);
    if (!r)
        printf("%" PRIu64 "\n", first);
    return done(c, v, r);
}

static int log_erase(const struct command *c, int argc, char **argv)
{
    const char *server = NULL;
    uint64_t timeout = LOG_TIMEOUT_MS, offset;
    const struct arg_option options[] = {LOG_OPTIONS(server, timeout)};
    struct arg_list a = {.options = options, .count = LOG_COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 3, 3, NULL, &code))
        return code;
    if (arg_count(a.operands[2], &offset))
        return command_fail(c, CLI_USAGE, "\"%s\" is not an offset", a.operands[2]);
    struct varve_log log = log_named(a.operands[0], a.operands[1]);
    struct varve *v = command_connect(c, server, timeout);
    return v ? done(c, v, varve_log_erase(v, &log, offset)) : CLI_FAILED;
}

static int log_flush(const struct command *c, int argc, char **argv)
{
    const char *server = NULL;
    uint64_t timeout = LOG_TIMEOUT_MS;
    const struct arg_option options[] = {LOG_OPTIONS(server, timeout)};
    struct arg_list a = {.options = options, .count = LOG_COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 0, 2,
                       "Returns when what was appended to the log, or to all of them, is on the "
                       "disk.\n",
                       &code))
        return code;
    if (a.operand_count == 1)
        return command_fail(c, CLI_USAGE, "a keyspace and a key are wanted, or neither");
    struct varve_log log = {.keyspace = NULL};
    if (a.operand_count)
        log = log_named(a.operands[0], a.operands[1]);
    struct varve *v = command_connect(c, server, timeout);
    return v ? done(c, v, varve_log_flush(v, a.operand_count ? &log : NULL)) : CLI_FAILED;
}

static bool print_name(void *arg, const void *name, size_t n, const struct varve_value *value)
{
    (void)arg;
    (void)value;
    (void)!fwrite(name, 1, n, stdout);
    putchar('\n');
    return !ferror(stdout);
}

static int log_list(const struct command *c, int argc, char **argv)
{
    const char *server = NULL, *after = "";
    uint64_t timeout = LOG_TIMEOUT_MS, limit = 0;
    const struct arg_option options[] = {
        {"after", ARG_TEXT, &after, "NAME", "only names after this one"},
        {"limit", ARG_COUNT, &limit, "N", "so many names at most (all)"},
        LOG_OPTIONS(server, timeout),
    };
    struct arg_list a = {.options = options, .count = LOG_COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 0, 1, NULL, &code))
        return code;
    struct slice keyspace = a.operand_count ? slice_str(a.operands[0]) : slice_of(NULL, 0);
    if (a.operand_count && keyspace.n == 0)
        return command_fail(c, CLI_USAGE, "a keyspace's name cannot be empty");
    struct varve *v = command_connect(c, server, timeout);
    return v ? done(c, v,
                    varve_log_list(v, keyspace.p, keyspace.n, after, strlen(after), limit,
                                   print_name, NULL))
             : CLI_FAILED;
}

int command_log(const struct command *c, int argc, char **argv)
{
    static const struct command words[] = {
        {"log create", "KEYSPACE", "make a keyspace", log_create, NULL},
        {"log policy", "KEYSPACE", "show or change how long logs are kept", log_policy, NULL},
        {"log append", "KEYSPACE KEY [FILE]", "append records", command_log_append, NULL},
        {"log read", "KEYSPACE KEY|URL", "print records", command_log_read, NULL},
        {"log tail", "KEYSPACE KEY", "print records as they come", command_log_tail, NULL},
        {"log meta", "KEYSPACE KEY|URL", "show a log's offsets, nonce and size", log_meta, NULL},
        {"log check", "URL", "verify logs kept as objects", command_log_check, NULL},
        {"log trim", "KEYSPACE KEY|URL", "remove the oldest records", log_trim, NULL},
        {"log erase", "KEYSPACE KEY OFFSET", "delete one record", log_erase, NULL},
        {"log flush", "[KEYSPACE KEY]", "wait until all is on the disk", log_flush, NULL},
        {"log list", "[KEYSPACE]", "list keyspaces, or the logs of one", log_list, NULL},
    };
    return command_group(c, words, LOG_COUNT(words), argc, argv);
}

int command_event(const struct command *c, int argc, char **argv)
{
    static const struct command words[] = {
        {"event put", "[STREAM]", "append events", command_event_put, NULL},
        {"event get", "[STREAM]", "print events", command_event_get, NULL},
        {"event tail", "[STREAM]", "print events as they come", command_event_tail, NULL},
    };
    return command_group(c, words, LOG_COUNT(words), argc, argv);
}
