#include "cli/dump_logs.h"
#include "base/base64.h"
#include "base/limits.h"
#include "cli/lines.h"
#include <inttypes.h>

enum {
    NAMES = 1000,         // names asked for at once
    FLUSH = 1 << 20,      // bytes of lines gathered before they are written
    BYTES_MAX = 256 << 20 // of a batch with one huge record
};

struct dump {
    struct place *place;
    struct output *out;
    struct progress *progress;
    uint64_t *records;
    struct slice keyspace, key; // under way
    enum err e;
    struct errmsg msg;
};

static bool put_line(void *arg, const struct varve_record *record)
{
    struct dump *d = arg;
    struct buf *b = &d->out->buf;
    enum err e = buf_append(b, "{", 1);
    e = e ? e : line_put_bytes(b, "keyspace", d->keyspace);
    e = e ? e : buf_append(b, ",", 1);
    e = e ? e : line_put_bytes(b, "log", d->key);
    e = e ? e : buf_append(b, ",", 1);
    e = e ? e : record_put_members(b, record);
    e = e ? e : buf_append(b, "}\n", 2);
    d->e = e ? err_set(&d->msg, e, "%s", err_text(e)) : output_flush(d->out, FLUSH, &d->msg);
    progress_show(d->progress, ++*d->records);
    return !d->e;
}

static enum err put_keyspace(struct buf *b, struct slice name, const struct varve_log_policy *p)
{
    const struct {
        const char *name;
        uint64_t value;
    } limits[] = {{"max_age_ms", p->max_age_ms},
                  {"max_bytes", p->max_bytes},
                  {"max_records", p->max_records}};
    enum err e = buf_append(b, "{", 1);
    e = e ? e : line_put_bytes(b, "keyspace", name);
    e = e ? e : buf_printf(b, ",\"timestamps\":\"%s\"", p->server_time ? "server" : "client");
    for (size_t i = 0; i < 3 && !e; i++)
        if (limits[i].value)
            e = buf_printf(b, ",\"%s\":%" PRIu64, limits[i].name, limits[i].value);
    return e ? e : buf_append(b, "}\n", 2);
}

// Copies a page of names, since the place may not be used while it lists: u32 length, name.
static bool keep_name(void *arg, const void *name, size_t n, const struct varve_value *value)
{
    struct buf *b = arg;
    uint8_t length[4];
    (void)value;
    store32(length, (uint32_t)n);
    return !buf_append(b, length, sizeof length) && !buf_append(b, name, n);
}

static int each_name(struct dump *d, struct slice keyspace, int (*fn)(struct dump *, struct slice))
{
    struct buf names, last;
    size_t count = NAMES;
    int code = CLI_OK;
    buf_init(&names, NAMES * (size_t)(4 + LIMIT_KEY_HARD));
    buf_init(&last, LIMIT_KEY_HARD);
    while (!code && count == NAMES) {
        buf_clear(&names);
        code = place_names(d->place, keyspace, buf_slice(&last), NAMES, keep_name, &names);
        struct slice rest = buf_slice(&names);
        for (count = 0; !code && rest.n; count++) {
            struct slice name = slice_of(rest.p + 4, load32(rest.p));
            rest = slice_of(name.p + name.n, rest.n - 4 - name.n);
            code = fn(d, name);
            buf_clear(&last);
            if (!code && buf_append(&last, name.p, name.n))
                code = command_fail(d->place->c, CLI_FAILED, "out of memory");
        }
    }
    buf_release(&names);
    buf_release(&last);
    return code;
}

static int dump_log(struct dump *d, struct slice key)
{
    struct varve_log log = {d->keyspace.p, d->keyspace.n, key.p, key.n};
    d->key = key;
    int code = place_records(d->place, &log, put_line, d);
    return !code && d->e ? command_fail(d->place->c, CLI_FAILED, "%s", d->msg.text) : code;
}

static int dump_keyspace(struct dump *d, struct slice name)
{
    struct varve_log_policy policy;
    d->keyspace = name;
    int code = place_keyspace(d->place, name, &policy);
    if (!code && put_keyspace(&d->out->buf, name, &policy))
        code = command_fail(d->place->c, CLI_FAILED, "out of memory");
    return code ? code : each_name(d, name, dump_log);
}

int dump_logs(struct place *p, struct output *out, struct progress *progress, uint64_t *records)
{
    struct dump d = {.place = p, .out = out, .progress = progress, .records = records};
    return each_name(&d, slice_of(NULL, 0), dump_keyspace);
}

void log_restore_init(struct log_restore *r, struct place *place, const struct input *in,
                      bool skip_existing)
{
    r->place = place;
    r->in = in;
    r->skip_existing = skip_existing;
    buf_init(&r->keyspace, LINE_BYTES);
    buf_init(&r->key, LINE_BYTES);
    buf_init(&r->bytes, BYTES_MAX);
}

void log_restore_release(struct log_restore *r)
{
    buf_release(&r->keyspace);
    buf_release(&r->key);
    buf_release(&r->bytes);
}

bool log_line_is(struct slice text)
{
    return slice_starts(text, slice_str("{\"keyspace"));
}

static int bad_line(const struct log_restore *r, const char *what)
{
    return command_fail(r->place->c, CLI_USAGE, "%s: line %" PRIu64 ": %s", r->in->name,
                        r->in->line, what);
}

struct log_line {
    struct buf keyspace, key;
    bool has_keyspace, is_record, has_policy;
    struct varve_log_policy policy;
    struct varve_record record;
};

static enum err get_name(struct buf *to, bool *has, bool base64, struct json v, struct errmsg *msg)
{
    enum err e = json_kind(v) != JSON_STRING ? ERR_INVALID
                 : base64                    ? base64_get(to, json_string(v))
                                             : buf_append(to, json_string(v).p, json_string(v).n);
    if (*has || e)
        return err_set(msg, ERR_INVALID, "the name of a keyspace or log is %s",
                       e ? "no string or base64" : "given twice");
    *has = true;
    return ERR_OK;
}

static enum err get_limit(struct slice name, struct json v, struct varve_log_policy *p,
                          struct errmsg *msg)
{
    uint64_t *to = slice_equal(name, slice_str("max_age_ms"))    ? &p->max_age_ms
                   : slice_equal(name, slice_str("max_bytes"))   ? &p->max_bytes
                   : slice_equal(name, slice_str("max_records")) ? &p->max_records
                                                                 : NULL;
    enum json_kind k = json_kind(v);
    if (!to)
        return err_set(msg, ERR_INVALID, "member \"%.*s\" is unknown",
                       name.n < 60 ? (int)name.n : 60, (const char *)name.p);
    if (k != JSON_UINT && (k != JSON_INT || json_int(v) < 0))
        return err_set(msg, ERR_INVALID, "%.*s must be a whole number", (int)name.n,
                       (const char *)name.p);
    *to = json_uint(v);
    return ERR_OK;
}

static enum err get_member(struct log_line *l, struct buf *bytes, struct slice name, struct json v,
                           unsigned *has, struct errmsg *msg)
{
    if (slice_equal(name, slice_str("keyspace")) || slice_equal(name, slice_str("keyspace_base64")))
        return get_name(&l->keyspace, &l->has_keyspace, name.n > 8, v, msg);
    if (slice_equal(name, slice_str("log")) || slice_equal(name, slice_str("log_base64")))
        return get_name(&l->key, &l->is_record, name.n > 3, v, msg);
    enum err e = record_get_member(bytes, name, v, &l->record, has, msg);
    if (e != ERR_MISSING)
        return e;
    l->has_policy = true;
    if (!slice_equal(name, slice_str("timestamps")))
        return get_limit(name, v, &l->policy, msg);
    struct slice clock = json_kind(v) == JSON_STRING ? json_string(v) : slice_of(NULL, 0);
    l->policy.server_time = slice_equal(clock, slice_str("server"));
    return l->policy.server_time || slice_equal(clock, slice_str("client"))
               ? ERR_OK
               : err_set(msg, ERR_INVALID, "timestamps must be client or server");
}

static enum err get_line(struct log_line *l, struct buf *bytes, struct json_parser *parser,
                         struct slice text, struct errmsg *msg)
{
    struct json root, v;
    struct slice name;
    unsigned has = 0;
    enum err e = json_parse(parser, text, &root, msg);
    if (e)
        return e;
    struct json_iter it = json_iterate(root); // an object: it begins as one
    while (!e && json_next(&it, &name, &v))
        e = get_member(l, bytes, name, v, &has, msg);
    if (e)
        return e;
    if (l->is_record ? l->has_policy : has != 0)
        return err_set(msg, ERR_INVALID, "members of a keyspace and of a record are mixed");
    return l->is_record ? record_got_members(has, msg) : ERR_OK;
}

int log_restore_commit(struct log_restore *r)
{
    struct varve_log log = {buf_head(&r->keyspace), buf_len(&r->keyspace), buf_head(&r->key),
                            buf_len(&r->key)};
    struct varve_op op = {
        .kind = VARVE_OP_APPEND, .log = &log, .records = r->records, .record_count = r->count};
    const uint8_t *p = buf_head(&r->bytes);
    if (r->count == 0)
        return CLI_OK;
    for (size_t i = 0; i < r->count; i++) {
        r->records[i].data = p;
        p = r->records[i].size ? p + r->records[i].size : p;
    }
    int code = place_txn(r->place, &op, 1);
    if (code)
        return code == CLI_NO ? command_fail(r->place->c, CLI_FAILED, "a log conflicts") : code;
    if (op.appended != r->count)
        return bad_line(r, "up to here, records were taken for duplicates: somebody else appends "
                           "to the log");
    r->restored += r->count;
    r->retimed += r->server_time ? r->count : 0;
    r->count = 0;
    buf_clear(&r->bytes);
    return CLI_OK;
}

static int restore_keyspace(struct log_restore *r, const struct log_line *l)
{
    struct varve_log_policy there;
    int code = place_create(r->place, buf_slice(&l->keyspace), &l->policy);
    if (code != CLI_NO)
        return code;
    code = place_keyspace(r->place, buf_slice(&l->keyspace), &there);
    if (!code && there.server_time != l->policy.server_time)
        return bad_line(r, "the keyspace exists and its timestamps are of the other kind");
    return code; // what is there keeps its retention
}

// A log's first record: what is there already?
static int begin_log(struct log_restore *r, const struct log_line *l)
{
    struct varve_log_policy policy;
    struct varve_log_meta meta = {.next_offset = 1};
    int code = log_restore_commit(r);
    buf_clear(&r->keyspace);
    buf_clear(&r->key);
    if (!code && (buf_append(&r->keyspace, buf_head(&l->keyspace), buf_len(&l->keyspace)) ||
                  buf_append(&r->key, buf_head(&l->key), buf_len(&l->key))))
        code = command_fail(r->place->c, CLI_FAILED, "out of memory");
    struct varve_log log = {buf_head(&r->keyspace), buf_len(&r->keyspace), buf_head(&r->key),
                            buf_len(&r->key)};
    code = code ? code : place_keyspace(r->place, buf_slice(&r->keyspace), &policy);
    if (code == CLI_NO)
        return bad_line(r, "the keyspace does not exist, and no line before made it");
    code = code ? code : place_meta(r->place, &log, &meta);
    if (code && code != CLI_NO)
        return code;
    r->server_time = policy.server_time;
    r->skip = meta.next_offset - 1;
    if (r->skip && !r->skip_existing)
        return command_fail(r->place->c, CLI_NO,
                            "log \"%.*s\" exists. --skip-existing appends what it lacks",
                            log.key_size < 100 ? (int)log.key_size : 100, (const char *)log.key);
    return CLI_OK;
}

static int restore_record(struct log_restore *r, struct log_line *l, size_t before)
{
    if (r->skip) {
        r->skip--;
        r->skipped++;
        r->bytes.end = r->bytes.start + before;
        return CLI_OK;
    }
    if (r->server_time)
        l->record.has_timestamp = false;
    r->records[r->count++] = l->record;
    return r->count == LOG_BATCH || buf_len(&r->bytes) >= LOG_BATCH_BYTES ? log_restore_commit(r)
                                                                          : CLI_OK;
}

int log_restore_line(struct log_restore *r, struct json_parser *parser, struct slice text)
{
    struct log_line l = {.is_record = false};
    struct errmsg msg = {""};
    struct buf record;
    int code = CLI_OK;
    buf_init(&l.keyspace, LINE_BYTES);
    buf_init(&l.key, LINE_BYTES);
    buf_init(&record, LINE_BYTES);
    enum err e = get_line(&l, &record, parser, text, &msg);
    if (e)
        code = bad_line(r, msg.text[0] ? msg.text : err_text(e));
    else if (!l.is_record)
        code = restore_keyspace(r, &l);
    else if (!slice_equal(buf_slice(&l.keyspace), buf_slice(&r->keyspace)) ||
             !slice_equal(buf_slice(&l.key), buf_slice(&r->key)))
        code = begin_log(r, &l);
    size_t before = buf_len(&r->bytes);
    if (!code && l.is_record) {
        code = buf_append(&r->bytes, buf_head(&record), buf_len(&record))
                   ? command_fail(r->place->c, CLI_FAILED, "out of memory")
                   : restore_record(r, &l, before);
    }
    buf_release(&l.keyspace);
    buf_release(&l.key);
    buf_release(&record);
    return code;
}
