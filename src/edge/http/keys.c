// Reading keys, deleting one, and listing them.
#include "edge/http/http_int.h"
#include <stdlib.h>

// Checks a key that was given as an argument.
static unsigned check_key(const struct request *rq, const struct param *p, struct errmsg *msg)
{
    uint32_t max = rq->http->o.max_key;
    if (p->value.n == 0)
        return refuse(msg, 400, "argument \"%s\" is empty", p->name);
    if (p->value.n > max)
        return refuse(msg, 413, "argument \"%s\" of %zu bytes is over %u", p->name, p->value.n,
                      max);
    return 0;
}

// ---- GET /v1/get ----

// Values up to this are written as JSON while the key's shard is locked; larger ones are copied out
// first, so that nobody waits for their escaping.
#define EMIT_LOCKED 4096u

struct get {
    struct request *rq;
    struct slice key;
    struct value_view copy; // of a large value; its bytes are malloc'ed
    bool copied;
};

static void get_write(struct get *g, const struct value_view *v)
{
    struct request *rq = g->rq;
    reply_begin(rq, 200, TYPE_JSON, NULL);
    reply_text(rq, "{\"key\":");
    reply_bytes(rq, g->key);
    reply_text(rq, ",\"value\":");
    reply_value(rq, v);
    reply_text(rq, ",\"version\":");
    reply_uint(rq, v->version);
    if (v->expires_ms) {
        reply_text(rq, ",\"expires_ms\":");
        reply_uint(rq, v->expires_ms);
    }
    reply_text(rq, "}");
}

static void get_emit(void *arg, const struct value_view *v)
{
    struct get *g = arg;
    if (v->value.n <= EMIT_LOCKED) {
        get_write(g, v);
        return;
    }
    uint8_t *p = malloc(v->value.n);
    g->copied = true;
    g->copy = *v;
    g->copy.value.p = p;
    if (p)
        memcpy(p, v->value.p, v->value.n);
}

enum conn_verdict route_get(struct request *rq)
{
    struct param params[] = {{.name = "key", .required = true}};
    struct errmsg m;
    unsigned status = query_parse(rq, params, 1, &m);
    if (!status)
        status = check_key(rq, &params[0], &m);
    if (status)
        return reply_refused(rq, status, &m);
    struct get g = {.rq = rq, .key = params[0].value};
    struct key_ref ref = commit_ref(rq->http->o.commit, g.key);
    enum err e = commit_get(rq->http->o.commit, &ref, get_emit, &g, &rq->dep);
    if (e == ERR_COLD)
        return request_fetch(rq, &ref, 1);
    if (e == ERR_OK && g.copied && !g.copy.value.p)
        e = ERR_NO_MEMORY;
    if (e)
        reply_err(rq, e, NULL);
    else if (g.copied)
        get_write(&g, &g.copy);
    free((void *)g.copy.value.p);
    return CONN_MORE;
}

// ---- DELETE /v1/key ----

static void delete_emit(void *arg, size_t op, const struct value_view *v)
{
    bool *there = arg;
    *there = v != NULL;
}

enum conn_verdict route_delete(struct request *rq)
{
    struct param params[] = {{.name = "key", .required = true}, {.name = "version"}};
    struct errmsg m;
    struct txn_op op = {.kind = TXN_DELETE, .want_old = true};
    unsigned status = query_parse(rq, params, 2, &m);
    if (!status)
        status = check_key(rq, &params[0], &m);
    if (!status && head_has(&rq->head, FIELD_IDEMPOTENCY))
        status = refuse(&m, 400, "Idempotency-Key is for POST; /v1/txn deletes too");
    op.has_version = params[1].given;
    if (!status && op.has_version)
        status = query_number(&params[1], 0, INT64_MAX, &op.version, &m);
    if (status)
        return reply_refused(rq, status, &m);
    bool there = false;
    struct txn t = {.ops = &op, .count = 1, .emit_old = delete_emit, .arg = &there};
    op.k = commit_ref(rq->http->o.commit, params[0].value);
    m.text[0] = 0;
    enum err e = commit_txn(rq->http->o.commit, &t, &rq->dep, &m);
    if (e)
        return txn_failed(rq, &t, e, &m);
    rq->seq = t.seq;
    reply_begin(rq, 200, TYPE_JSON, NULL);
    reply_text(rq, there ? "{\"result\":\"Success\",\"deleted\":true}"
                         : "{\"result\":\"Success\",\"deleted\":false}");
    return CONN_MORE;
}

// ---- GET /v1/keys ----

// A listing reads the disk, so it runs on a reader thread.
struct list_job {
    struct job job;
    struct slice prefix; // in bytes
    struct slice after;
    size_t limit;
    bool values;
    // the answer
    enum err failed;
    size_t count;
    bool more;
    struct buf out; // the array's elements
    uint8_t bytes[];
};

static void list_free(struct job *job)
{
    struct list_job *j = (struct list_job *)job;
    buf_release(&j->out);
    free(j);
}

static enum err list_append(struct list_job *j, struct slice key, const struct value_view *v)
{
    enum err e = buf_append(&j->out, ",{\"key\":", j->count ? 8 : 0);
    if (!e && !j->count)
        e = buf_append(&j->out, "{\"key\":", 7);
    if (!e)
        e = json_put_bytes(&j->out, key);
    if (!e)
        e = buf_append(&j->out, ",\"version\":", 11);
    if (!e)
        e = json_put_uint(&j->out, v->version);
    if (!e && j->values)
        e = buf_append(&j->out, ",\"value\":", 9);
    if (!e && j->values)
        e = json_put_value(&j->out, v);
    if (!e && v->expires_ms)
        e = buf_append(&j->out, ",\"expires_ms\":", 14);
    if (!e && v->expires_ms)
        e = json_put_uint(&j->out, v->expires_ms);
    return e ? e : buf_append(&j->out, "}", 1);
}

static bool list_item(void *arg, struct slice key, const struct value_view *v)
{
    struct list_job *j = arg;
    if (conn_dead(j->job.conn))
        return false;
    j->more = j->count == j->limit || buf_len(&j->out) >= LIST_PAGE;
    if (j->more)
        return false;
    j->failed = list_append(j, key, v);
    j->count++;
    return j->failed == ERR_OK;
}

static void list_run(struct job *job)
{
    struct list_job *j = (struct list_job *)job;
    job->e = commit_list(job->commit, j->prefix, j->after, j->limit + 1, list_item, j, &job->dep,
                         &job->msg);
    if (!job->e)
        job->e = j->failed;
}

static enum conn_verdict list_reply(struct request *rq, struct list_job *j)
{
    rq->dep = j->job.dep;
    if (j->job.e) {
        reply_err(rq, j->job.e, &j->job.msg);
    } else {
        reply_begin(rq, 200, TYPE_JSON, NULL);
        reply_text(rq, "{\"keys\":[");
        reply_note(rq, buf_append(rq->out, buf_head(&j->out), buf_len(&j->out)));
        reply_text(rq, j->more ? "],\"more\":true}" : "],\"more\":false}");
    }
    j->job.free(&j->job);
    return CONN_MORE;
}

static enum conn_verdict list_start(struct request *rq, struct slice prefix, struct slice after,
                                    uint64_t limit, bool values)
{
    const struct http_options *o = &rq->http->o;
    struct list_job *j = calloc(1, sizeof *j + prefix.n + after.n);
    if (!j) {
        reply_err(rq, ERR_NO_MEMORY, NULL);
        return CONN_MORE;
    }
    j->job.run = list_run;
    j->job.free = list_free;
    j->limit = (size_t)limit;
    j->values = values;
    // A byte becomes six characters at most, and one key may pass the page's end.
    buf_init(&j->out, LIST_PAGE + 6 * ((size_t)o->max_value + o->max_key) + 256);
    j->prefix = slice_of(j->bytes, prefix.n);
    j->after = slice_of(j->bytes + prefix.n, after.n);
    if (prefix.n)
        memcpy(j->bytes, prefix.p, prefix.n);
    if (after.n)
        memcpy(j->bytes + prefix.n, after.p, after.n);
    return job_start(rq, &j->job);
}

enum conn_verdict route_list(struct request *rq)
{
    struct job *done = job_take(rq);
    if (done)
        return list_reply(rq, (struct list_job *)done);
    struct param params[] = {
        {.name = "prefix"}, {.name = "after"}, {.name = "limit"}, {.name = "values"}};
    struct errmsg m;
    uint64_t limit = LIST_DEFAULT;
    unsigned status = query_parse(rq, params, 4, &m);
    if (!status && params[2].given)
        status = query_number(&params[2], 1, LIMIT_LIST, &limit, &m);
    bool values = false;
    if (!status)
        status = query_bool(&params[3], &values, &m);
    if (status)
        return reply_refused(rq, status, &m);
    return list_start(rq, params[0].value, params[1].value, limit, values);
}
