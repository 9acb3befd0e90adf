// Logs over HTTP: the names and positions of requests, keyspaces, metadata, flushing, and taking
// records out. Pages, appends and tails have files of their own.
#include "edge/http/log_int.h"
#include <stdio.h>
#include <stdlib.h>

// ---- names, positions, filters ----

unsigned log_check_names(const struct http_options *o, const struct log_name *name,
                         struct errmsg *msg)
{
    if (name->keyspace.n == 0)
        return refuse(msg, 400, "the keyspace is empty");
    if (name->keyspace.n > LIMIT_KEYSPACE_NAME)
        return refuse(msg, 413, "a keyspace's name of %zu bytes is over %u", name->keyspace.n,
                      LIMIT_KEYSPACE_NAME);
    if (name->key.p && name->key.n == 0)
        return refuse(msg, 400, "the key is empty");
    if (name->key.n > o->max_key)
        return refuse(msg, 413, "a key of %zu bytes is over %u", name->key.n, o->max_key);
    return 0;
}

unsigned log_path(struct request *rq, struct log_name *name, struct errmsg *msg)
{
    struct slice rest = slice_of(rq->path.p + strlen("/v1/logs"), rq->path.n - strlen("/v1/logs"));
    *name = (struct log_name){0};
    unsigned status = path_segment(rq, &rest, "keyspace", &name->keyspace, msg);
    if (!status && rest.n)
        status = path_segment(rq, &rest, "key", &name->key, msg);
    return status ? status : log_check_names(&rq->http->o, name, msg);
}

// A whole number with perhaps a minus.
static bool parse_signed(struct slice s, int64_t *v)
{
    bool minus = s.n && s.p[0] == '-';
    u128 sum = 0;
    if (s.n > 20 || !u128_parse(slice_of(s.p + minus, s.n - minus), &sum) ||
        sum > (u128)INT64_MAX + minus)
        return false;
    *v = (int64_t)(minus ? 0 - (uint64_t)sum : (uint64_t)sum);
    return true;
}

unsigned query_signed(const struct param *p, int64_t *v, struct errmsg *msg)
{
    return parse_signed(p->value, v)
               ? 0
               : refuse(msg, 400, "argument \"%s\" must be a whole number of 64 bits signed",
                        p->name);
}

unsigned query_nonce(const struct param *p, u128 *v, struct errmsg *msg)
{
    return u128_parse(p->value, v) && *v != NONCE_NONE
               ? 0
               : refuse(msg, 400, "argument \"%s\" must be a whole number from 0 to 2^128 - 2",
                        p->name);
}

// The rest of `s` after `word`.
static bool after(struct slice s, const char *word, struct slice *rest)
{
    size_t n = strlen(word);
    if (!slice_starts(s, slice_of(word, n)))
        return false;
    *rest = slice_of(s.p + n, s.n - n);
    return true;
}

unsigned query_start(const struct param *p, bool nonce, struct log_from *from, struct errmsg *msg)
{
    struct param number = {.name = p->name};
    if (slice_equal(p->value, slice_str("first"))) {
        from->start = LOG_START_FIRST;
        return 0;
    }
    if (after(p->value, "offset:", &number.value)) {
        from->start = LOG_START_OFFSET;
        if (!query_number(&number, 1, UINT64_MAX, &from->offset, msg))
            return 0;
        return refuse(msg, 400, "argument \"%s\": the offset must be a whole number from 1",
                      p->name);
    }
    if (after(p->value, "timestamp:", &number.value)) {
        from->start = LOG_START_TIME;
        if (parse_signed(number.value, &from->time))
            return 0;
        return refuse(msg, 400,
                      "argument \"%s\": the timestamp must be a whole number of 64 bits signed",
                      p->name);
    }
    if (nonce && after(p->value, "nonce:", &number.value)) {
        from->start = LOG_START_NONCE;
        if (!query_nonce(&number, &from->nonce, msg))
            return 0;
        return refuse(msg, 400,
                      "argument \"%s\": the nonce must be a whole number from 0 to 2^128 - 2",
                      p->name);
    }
    return refuse(msg, 400, "argument \"%s\" must be %s", p->name,
                  nonce ? "first, offset:N, timestamp:T or nonce:N" : "offset:N or timestamp:T");
}

unsigned query_filter(const struct param *prefix, const struct param *contains, struct log_query *q,
                      struct errmsg *msg)
{
    const struct param *p = prefix->given ? prefix : contains;
    if (prefix->given && contains->given)
        return refuse(msg, 400, "arguments \"prefix\" and \"contains\" exclude each other");
    if (!p->given)
        return 0;
    if (p->value.n == 0)
        return refuse(msg, 400, "argument \"%s\" is empty", p->name);
    if (p->value.n > LIMIT_FILTER)
        return refuse(msg, 413, "argument \"%s\" of %zu bytes is over %u", p->name, p->value.n,
                      LIMIT_FILTER);
    q->filter = p == prefix ? LOG_FILTER_PREFIX : LOG_FILTER_CONTAINS;
    q->pattern = p->value;
    return 0;
}

// A failed call of the commit room, or the wait for what it needs.
static enum conn_verdict failed(struct request *rq, enum err e, const struct errmsg *m)
{
    if (e == ERR_FULL)
        return request_room(rq);
    reply_err(rq, e, m);
    return CONN_MORE;
}

static enum conn_verdict success(struct request *rq)
{
    reply_begin(rq, 200, TYPE_JSON, NULL);
    reply_text(rq, "{\"result\":\"Success\"}");
    return CONN_MORE;
}

// ---- policies ----

static unsigned read_limit(struct json v, const char *name, uint64_t *to, struct errmsg *msg)
{
    if (json_kind(v) != JSON_INT || json_int(v) < 0)
        return refuse(msg, 400, "\"%s\" must be a whole number from 0 to %lld", name,
                      (long long)INT64_MAX);
    *to = (uint64_t)json_int(v);
    return 0;
}

static unsigned read_retention(struct json v, struct log_policy *p, struct errmsg *msg)
{
    struct json_member m[] = {
        {.name = "max_age_ms"}, {.name = "max_bytes"}, {.name = "max_records"}};
    uint64_t *to[] = {&p->max_age_ms, &p->max_bytes, &p->max_records};
    unsigned status = body_members(v, "\"retention\"", m, 3, msg);
    for (size_t i = 0; !status && i < 3; i++)
        if (m[i].given)
            status = read_limit(m[i].v, m[i].name, to[i], msg);
    return status;
}

// The body of PUT (`create`) and POST.
static unsigned read_policy(struct json root, bool create, struct log_policy *p, struct errmsg *msg)
{
    struct json_member m[] = {{.name = "retention"}, {.name = "timestamps"}};
    unsigned status = body_members(root, "the body", m, create ? 2 : 1, msg);
    if (!status && !create && !m[0].given)
        return refuse(msg, 400, "\"retention\" is missing");
    if (!status && m[0].given)
        status = read_retention(m[0].v, p, msg);
    if (status || !m[1].given)
        return status;
    bool string = json_kind(m[1].v) == JSON_STRING;
    p->server_time = string && slice_equal(json_string(m[1].v), slice_str("server"));
    if (!p->server_time && !(string && slice_equal(json_string(m[1].v), slice_str("client"))))
        return refuse(msg, 400, "\"timestamps\" must be \"client\" or \"server\"");
    return 0;
}

static unsigned read_policy_body(struct request *rq, bool create, struct log_policy *p,
                                 struct errmsg *msg)
{
    struct json root;
    if (create && rq->body.n == 0)
        return 0;
    struct http_work *w = work_get(rq->http);
    if (!w)
        return refuse(msg, 503, "%s", err_text(ERR_NO_MEMORY));
    unsigned status = body_parse(rq, w, &root, msg);
    if (!status)
        status = read_policy(root, create, p, msg);
    work_put(rq->http, w);
    return status;
}

static void reply_policy(struct request *rq, const struct log_policy *p)
{
    const char *names[] = {"\"max_age_ms\":", "\"max_bytes\":", "\"max_records\":"};
    uint64_t values[] = {p->max_age_ms, p->max_bytes, p->max_records};
    bool comma = false;
    reply_text(rq, p->server_time ? ",\"timestamps\":\"server\",\"retention\":{"
                                  : ",\"timestamps\":\"client\",\"retention\":{");
    for (size_t i = 0; i < 3; i++) {
        if (!values[i])
            continue;
        reply_text(rq, comma ? "," : "");
        reply_text(rq, names[i]);
        reply_uint(rq, values[i]);
        comma = true;
    }
    reply_text(rq, "}");
}

// ---- keyspaces ----

enum conn_verdict route_keyspace_create(struct request *rq)
{
    struct errmsg m = {""};
    struct log_name name;
    struct log_policy policy = {0};
    uint64_t created = 0;
    unsigned status = log_path(rq, &name, &m);
    if (!status)
        status = query_parse(rq, NULL, 0, &m);
    if (!status)
        status = read_policy_body(rq, true, &policy, &m);
    if (status)
        return reply_refused(rq, status, &m);
    enum err e =
        commit_keyspace_create(rq->http->o.commit, name.keyspace, &policy, &created, &rq->dep, &m);
    if (e)
        return failed(rq, e, &m);
    reply_begin(rq, 200, TYPE_JSON, NULL);
    reply_text(rq, "{\"result\":\"Success\",\"created\":");
    reply_uint(rq, created);
    reply_text(rq, "}");
    return CONN_MORE;
}

enum conn_verdict route_keyspace_policy(struct request *rq)
{
    struct errmsg m = {""};
    struct log_name name;
    struct log_policy policy = {0};
    struct keyspace_view view;
    unsigned status = log_path(rq, &name, &m);
    if (!status)
        status = query_parse(rq, NULL, 0, &m);
    if (!status)
        status = read_policy_body(rq, false, &policy, &m);
    if (status)
        return reply_refused(rq, status, &m);
    enum err e = commit_keyspace_get(rq->http->o.commit, name.keyspace, &view, &rq->dep, &m);
    if (!e) {
        policy.server_time = view.policy.server_time;
        e = commit_keyspace_policy(rq->http->o.commit, name.keyspace, &policy, &rq->dep, &m);
    }
    return e ? failed(rq, e, &m) : success(rq);
}

// ---- lists of names ----

// Gathers names on a reader thread: there may be many logs to sort.
struct names_job {
    struct job job;
    struct slice keyspace; // empty: lists keyspaces
    struct slice after;
    size_t limit;
    // the answer
    size_t count;
    bool more;
    enum err failed;
    struct buf out; // the array's elements
    uint8_t bytes[];
};

static void names_free(struct job *job)
{
    struct names_job *j = (struct names_job *)job;
    buf_release(&j->out);
    free(j);
}

static bool names_item(void *arg, struct slice name)
{
    struct names_job *j = arg;
    j->more = j->count == j->limit || buf_len(&j->out) >= LIST_PAGE;
    if (j->more || conn_dead(j->job.conn))
        return false;
    j->failed = j->count ? buf_append(&j->out, ",", 1) : ERR_OK;
    if (!j->failed)
        j->failed = json_put_bytes(&j->out, name);
    j->count++;
    return !j->failed;
}

static void names_run(struct job *job)
{
    struct names_job *j = (struct names_job *)job;
    job->e = commit_log_list(job->commit, j->keyspace, j->after, j->limit + 1, names_item, j,
                             &job->dep, &job->msg);
    if (!job->e)
        job->e = j->failed;
}

static enum conn_verdict names_start(struct request *rq, struct slice keyspace,
                                     const struct param *after_arg, const struct param *limit_arg)
{
    struct errmsg m;
    uint64_t limit = LIST_DEFAULT;
    struct slice from = after_arg->value;
    unsigned status = limit_arg->given ? query_number(limit_arg, 1, LIMIT_LIST, &limit, &m) : 0;
    if (status)
        return reply_refused(rq, status, &m);
    struct names_job *j = calloc(1, sizeof *j + keyspace.n + from.n);
    if (!j)
        return failed(rq, ERR_NO_MEMORY, NULL);
    j->job.run = names_run;
    j->job.free = names_free;
    j->limit = (size_t)limit;
    // A byte becomes six characters at most, and one name may pass the page's end.
    size_t longest =
        rq->http->o.max_key > LIMIT_KEYSPACE_NAME ? rq->http->o.max_key : LIMIT_KEYSPACE_NAME;
    buf_init(&j->out, LIST_PAGE + 6 * longest + 3);
    j->keyspace = slice_of(j->bytes, keyspace.n);
    j->after = slice_of(j->bytes + keyspace.n, from.n);
    if (keyspace.n)
        memcpy(j->bytes, keyspace.p, keyspace.n);
    if (from.n)
        memcpy(j->bytes + keyspace.n, from.p, from.n);
    return job_start(rq, &j->job);
}

// The list's part of a reply, which ends it.
static void names_reply(struct request *rq, const struct names_job *j)
{
    reply_note(rq, buf_append(rq->out, buf_head(&j->out), buf_len(&j->out)));
    reply_text(rq, j->more ? "],\"more\":true}" : "],\"more\":false}");
}

enum conn_verdict route_keyspaces(struct request *rq)
{
    struct param params[] = {{.name = "after"}, {.name = "limit"}};
    struct errmsg m;
    struct job *done = job_take(rq);
    if (!done) {
        unsigned status = query_parse(rq, params, 2, &m);
        if (status)
            return reply_refused(rq, status, &m);
        return names_start(rq, slice_of(NULL, 0), &params[0], &params[1]);
    }
    if (done->e) {
        reply_err(rq, done->e, &done->msg);
    } else {
        reply_begin(rq, 200, TYPE_JSON, NULL);
        reply_text(rq, "{\"keyspaces\":[");
        names_reply(rq, (struct names_job *)done);
    }
    done->free(done);
    return CONN_MORE;
}

static enum conn_verdict keyspace_reply(struct request *rq, struct slice name,
                                        const struct names_job *keys)
{
    struct errmsg m = {""};
    struct keyspace_view v;
    uint64_t dep = 0;
    enum err e = commit_keyspace_get(rq->http->o.commit, name, &v, &dep, &m);
    rq->dep = dep > rq->dep ? dep : rq->dep;
    if (e)
        return failed(rq, e, &m);
    reply_begin(rq, 200, TYPE_JSON, NULL);
    reply_text(rq, "{\"keyspace\":");
    reply_bytes(rq, name);
    reply_text(rq, ",\"created\":");
    reply_uint(rq, v.created_ms);
    reply_policy(rq, &v.policy);
    if (keys) {
        reply_text(rq, ",\"keys\":[");
        names_reply(rq, keys);
    } else {
        reply_text(rq, "}");
    }
    return CONN_MORE;
}

enum conn_verdict route_keyspace_get(struct request *rq)
{
    struct param params[] = {{.name = "keys"}, {.name = "after"}, {.name = "limit"}};
    struct errmsg m;
    struct log_name name;
    unsigned status = log_path(rq, &name, &m);
    if (!status)
        status = query_parse(rq, params, 3, &m);
    bool keys = false;
    if (!status)
        status = query_bool(&params[0], &keys, &m);
    if (!status && !keys && (params[1].given || params[2].given))
        status = refuse(&m, 400, "arguments \"after\" and \"limit\" go with keys=true");
    if (status)
        return reply_refused(rq, status, &m);
    if (!keys)
        return keyspace_reply(rq, name.keyspace, NULL);
    struct job *done = job_take(rq);
    if (!done)
        return names_start(rq, name.keyspace, &params[1], &params[2]);
    rq->dep = done->dep;
    if (done->e)
        reply_err(rq, done->e, &done->msg);
    else
        keyspace_reply(rq, name.keyspace, (struct names_job *)done);
    done->free(done);
    return CONN_MORE;
}

// ---- one log ----

enum conn_verdict route_log_meta(struct request *rq)
{
    struct errmsg m = {""};
    struct log_name name;
    struct log_meta meta;
    char nonce[U128_TEXT];
    unsigned status = log_path(rq, &name, &m);
    if (!status)
        status = query_parse(rq, NULL, 0, &m);
    if (status)
        return reply_refused(rq, status, &m);
    enum err e = commit_log_meta(rq->http->o.commit, &name, &meta, &rq->dep, &m);
    if (e)
        return failed(rq, e, &m);
    reply_begin(rq, 200, TYPE_JSON, NULL);
    reply_text(rq, "{\"keyspace\":");
    reply_bytes(rq, name.keyspace);
    reply_text(rq, ",\"key\":");
    reply_bytes(rq, name.key);
    reply_text(rq, ",\"first_offset\":");
    reply_uint(rq, meta.first_offset);
    reply_text(rq, ",\"next_offset\":");
    reply_uint(rq, meta.end_offset);
    reply_text(rq, ",\"next_nonce\":\"");
    u128_format(meta.next_nonce, nonce);
    reply_text(rq, nonce);
    reply_text(rq, "\"");
    if (meta.last_timestamp != INT64_MIN) {
        reply_text(rq, ",\"last_timestamp\":");
        reply_note(rq, json_put_int(rq->out, meta.last_timestamp));
    }
    reply_text(rq, ",\"records\":");
    reply_uint(rq, meta.records);
    reply_text(rq, ",\"bytes\":");
    reply_uint(rq, meta.bytes);
    reply_text(rq, "}");
    return CONN_MORE;
}

static enum conn_verdict flush(struct request *rq, const struct log_name *name)
{
    struct errmsg m = {""};
    unsigned status = query_parse(rq, NULL, 0, &m);
    if (!status && rq->body.n)
        status = refuse(&m, 400, "this path takes no body");
    if (status)
        return reply_refused(rq, status, &m);
    enum err e = commit_log_flush(rq->http->o.commit, name, &rq->dep, &m);
    return e ? failed(rq, e, &m) : success(rq);
}

enum conn_verdict route_log_flush(struct request *rq)
{
    struct errmsg m;
    struct log_name name;
    unsigned status = log_path(rq, &name, &m);
    return status ? reply_refused(rq, status, &m) : flush(rq, &name);
}

enum conn_verdict route_flush_all(struct request *rq)
{
    return flush(rq, NULL);
}

// ---- taking records out ----

struct delete_job {
    struct job job;
    struct log_name name;
    bool trim; // else it deletes the record at to.offset
    struct log_from to;
    uint64_t first_offset;
    uint8_t bytes[];
};

static void delete_free(struct job *job)
{
    free(job);
}

static void delete_run(struct job *job)
{
    struct delete_job *j = (struct delete_job *)job;
    if (j->trim)
        job->e =
            commit_log_trim(job->commit, &j->name, &j->to, &j->first_offset, &job->dep, &job->msg);
    else
        job->e = commit_log_erase(job->commit, &j->name, j->to.offset, &job->dep, &job->msg);
}

static enum conn_verdict delete_start(struct request *rq, const struct log_name *name, bool trim,
                                      const struct log_from *to)
{
    struct delete_job *j = calloc(1, sizeof *j + name->keyspace.n + name->key.n);
    if (!j)
        return failed(rq, ERR_NO_MEMORY, NULL);
    j->job.run = delete_run;
    j->job.free = delete_free;
    j->trim = trim;
    j->to = *to;
    memcpy(j->bytes, name->keyspace.p, name->keyspace.n);
    memcpy(j->bytes + name->keyspace.n, name->key.p, name->key.n);
    j->name = (struct log_name){slice_of(j->bytes, name->keyspace.n),
                                slice_of(j->bytes + name->keyspace.n, name->key.n)};
    return job_start(rq, &j->job);
}

static enum conn_verdict delete_reply(struct request *rq, struct delete_job *j)
{
    enum err e = j->job.e;
    struct errmsg m = j->job.msg;
    rq->dep = j->job.dep;
    bool trim = j->trim;
    uint64_t first = j->first_offset;
    j->job.free(&j->job);
    if (e == ERR_MISSING && !m.text[0])
        refuse(&m, 404, trim ? "no such log" : "no such record");
    if (e)
        return failed(rq, e, &m);
    if (!trim)
        return success(rq);
    reply_begin(rq, 200, TYPE_JSON, NULL);
    reply_text(rq, "{\"result\":\"Success\",\"first_offset\":");
    reply_uint(rq, first);
    reply_text(rq, "}");
    return CONN_MORE;
}

enum conn_verdict route_log_delete(struct request *rq)
{
    struct param params[] = {{.name = "before"}, {.name = "offset"}};
    struct errmsg m;
    struct log_name name;
    struct log_from to = {0};
    struct job *done = job_take(rq);
    if (done)
        return delete_reply(rq, (struct delete_job *)done);
    unsigned status = log_path(rq, &name, &m);
    if (!status)
        status = query_parse(rq, params, 2, &m);
    if (!status && params[0].given == params[1].given)
        status = refuse(&m, 400, "one of the arguments \"before\" and \"offset\" is needed");
    if (!status && params[1].given)
        status = query_number(&params[1], 1, UINT64_MAX, &to.offset, &m);
    if (!status && params[0].given)
        status = query_start(&params[0], false, &to, &m);
    if (!status && params[0].given && to.start == LOG_START_FIRST)
        status = refuse(&m, 400, "argument \"before\" must be offset:N or timestamp:T");
    if (status)
        return reply_refused(rq, status, &m);
    return delete_start(rq, &name, params[0].given, &to);
}
