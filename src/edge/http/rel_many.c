// Requests that read several lists: many at once, combined, and the list of all lists.
//
//   POST /v1/relations/R/get        {"from":[ID,...],"reverse":B?,"limit":N?}
//   POST /v1/relations/R/intersect  {"lists":[L,...],"after":ID?,"limit":N?}, also union,
//   difference
//                                   L is ID or {"from":ID,"relation":R?,"reverse":B?}
//   GET  /v1/relations/R/froms      on a reader thread
#include "edge/http/rel_int.h"
#include <stdlib.h>

static unsigned read_flag(const struct json_member *m, bool *to, struct errmsg *msg)
{
    if (!m->given)
        return 0;
    if (json_kind(m->v) != JSON_BOOL)
        return refuse(msg, 400, "\"%s\" must be true or false", m->name);
    *to = json_bool(m->v);
    return 0;
}

static unsigned read_limit(const struct json_member *m, size_t *to, struct errmsg *msg)
{
    *to = LIST_DEFAULT;
    if (!m->given)
        return 0;
    if (json_kind(m->v) != JSON_INT || json_int(m->v) < 1 || json_int(m->v) > LIMIT_REL_PAGE)
        return refuse(msg, 400, "\"%s\" must be a whole number from 1 to %u", m->name,
                      LIMIT_REL_PAGE);
    *to = (size_t)json_int(m->v);
    return 0;
}

// The relation in the path, ids= and the parsed body.
static unsigned read_body(struct request *rq, struct http_work *w, struct slice *relation,
                          bool *quoted, struct json_member *members, size_t count,
                          struct errmsg *msg)
{
    struct param params[] = {{.name = "ids"}};
    struct json root;
    unsigned status = rel_path(rq, relation, NULL, msg);
    if (!status)
        status = query_parse(rq, params, 1, msg);
    if (!status)
        status = query_quoted(&params[0], quoted, msg);
    if (!status)
        status = body_parse(rq, w, &root, msg);
    if (!status)
        status = body_members(root, "the body", members, count, msg);
    if (!status && !members[0].given)
        status = refuse(msg, 400, "\"%s\" is missing", members[0].name);
    return status;
}

// ---- many ----

#define PREFETCH 32u // lists under way at a time

struct many {
    struct slice relation;
    bool reverse, quoted;
    size_t limit;
    const uint8_t *froms;
    size_t count;
    struct rel_ref *refs;
    struct rel_page *pages;
    size_t total; // members read
    size_t cold;  // refs[0] to refs[cold - 1] are those that are to be fetched
};

static unsigned read_many(struct request *rq, struct http_work *w, struct many *r,
                          struct errmsg *msg)
{
    struct json_member m[] = {{.name = "from"}, {.name = "reverse"}, {.name = "limit"}};
    uint8_t *froms;
    unsigned status = read_body(rq, w, &r->relation, &r->quoted, m, 3, msg);
    if (!status)
        status = rel_read_ids(w, m[0].v, "from", LIMIT_REL_MANY, &froms, &r->count, msg);
    if (!status)
        status = read_flag(&m[1], &r->reverse, msg);
    if (!status)
        status = read_limit(&m[2], &r->limit, msg);
    if (status)
        return status;
    r->froms = froms;
    r->refs = work_alloc(w, r->count * sizeof *r->refs);
    r->pages = work_alloc(w, r->count * sizeof *r->pages);
    return r->refs && r->pages ? 0 : refuse(msg, 503, "%s", err_text(ERR_NO_MEMORY));
}

// Reads lists [from, to) onto the end of w->ids.
static enum err read_lists(struct request *rq, struct http_work *w, struct many *r, size_t from,
                           size_t to, struct errmsg *msg)
{
    struct commit *c = rq->http->o.commit;
    enum err e = ERR_OK;
    for (size_t i = from; !e && i < to; i++) {
        e = rel_find(rq, r->relation, load64(r->froms + 8 * i), r->reverse, &r->refs[i], msg);
        if (!e)
            commit_rel_prefetch_slot(c, &r->refs[i]);
    }
    for (size_t i = from; !e && i < to; i++)
        commit_rel_prefetch_list(c, &r->refs[i]);
    for (size_t i = from; !e && i < to; i++) {
        struct rel_ref ref = r->refs[i];
        size_t left = LIMIT_REL_PAGE + 1 - r->total;
        struct rel_page_query q = {.max = r->limit < left ? r->limit : left};
        uint64_t dep = 0;
        e = commit_rel_page(c, &ref, &q, &w->ids, &r->pages[i], &dep, msg);
        if (e == ERR_COLD) {
            r->refs[r->cold++] = ref;
            e = ERR_OK;
            continue;
        }
        if (e)
            break;
        rq->dep = dep > rq->dep ? dep : rq->dep;
        r->total += r->pages[i].count;
        if (r->total > LIMIT_REL_PAGE)
            e = err_set(msg, ERR_TOO_BIG,
                        "these lists give over %u members: ask for fewer, or with a limit",
                        LIMIT_REL_PAGE);
    }
    return e;
}

static void reply_many(struct request *rq, const struct http_work *w, const struct many *r)
{
    const uint8_t *members = buf_head(&w->ids);
    reply_begin(rq, 200, TYPE_JSON, NULL);
    reply_text(rq, "{\"relation\":");
    reply_bytes(rq, r->relation);
    reply_text(rq, ",\"lists\":[");
    for (size_t i = 0; i < r->count; i++) {
        const struct rel_page *p = &r->pages[i];
        reply_text(rq, i ? ",{\"from\":" : "{\"from\":");
        reply_id(rq, load64(r->froms + 8 * i), r->quoted);
        reply_text(rq, ",\"count\":");
        reply_uint(rq, p->total);
        reply_text(rq, ",\"members\":[");
        if (p->count) {
            reply_ids(rq, members, p->count, r->quoted);
            members += 8 * p->count;
        }
        reply_text(rq, "]}");
    }
    reply_text(rq, "]}");
}

static enum conn_verdict many(struct request *rq, struct http_work *w)
{
    struct errmsg m = {""};
    struct many r = {0};
    enum err e = ERR_OK;
    unsigned status = read_many(rq, w, &r, &m);
    if (status)
        return reply_refused(rq, status, &m);
    for (size_t i = 0; !e && i < r.count; i += PREFETCH)
        e = read_lists(rq, w, &r, i, r.count - i < PREFETCH ? r.count : i + PREFETCH, &m);
    if (!e && r.cold)
        e = ERR_COLD;
    if (e)
        return rel_failed(rq, e, r.refs, r.cold, &m);
    reply_many(rq, w, &r);
    return CONN_MORE;
}

enum conn_verdict route_rel_many(struct request *rq)
{
    return rel_with_work(rq, many);
}

// ---- combined ----

// Members that a combination may look at on the loop's thread; what may be more goes to a reader
// thread, and the loop's other connections do not wait for it.
#define COMBINE_INLINE (256u << 10)

struct combination {
    enum rel_combine how;
    bool quoted, has_after;
    uint64_t after;
    size_t limit;
    struct rel_ref lists[LIMIT_REL_LISTS];
    size_t count;
};
struct combine_job {
    struct job job;
    struct combination q;
    // the answer
    struct buf out;
    struct rel_page page;
};

static void combine_free(struct job *job)
{
    struct combine_job *j = (struct combine_job *)job;
    buf_release(&j->out);
    free(j);
}

static enum err run(struct commit *c, const struct combination *q, struct buf *out,
                    struct rel_page *page, uint64_t *dep)
{
    return commit_rel_combine(c, q->how, q->lists, q->count, q->has_after, q->after, q->limit, out,
                              page, dep);
}

static void combine_run(struct job *job)
{
    struct combine_job *j = (struct combine_job *)job;
    job->e = run(job->commit, &j->q, &j->out, &j->page, &job->dep);
}

// One of "lists".
static unsigned read_list(struct request *rq, struct slice relation, struct json v,
                          struct rel_ref *ref, struct errmsg *msg)
{
    struct json_member m[] = {{.name = "from"}, {.name = "relation"}, {.name = "reverse"}};
    bool reverse = false;
    uint64_t from = 0;
    unsigned status = 0;
    if (json_kind(v) == JSON_OBJECT) {
        status = body_members(v, "a list", m, 3, msg);
        if (!status && !m[0].given)
            status = refuse(msg, 400, "\"%s\" is missing", m[0].name);
        if (!status && m[1].given && json_kind(m[1].v) != JSON_STRING)
            status = refuse(msg, 400, "\"%s\" must be a string, not %s", m[1].name,
                            json_kind_name(json_kind(m[1].v)));
        if (!status && m[1].given)
            relation = json_string(m[1].v);
        if (!status)
            status = read_flag(&m[2], &reverse, msg);
        if (!status)
            v = m[0].v;
    }
    if (!status)
        status = rel_read_id(v, "from", &from, msg);
    if (!status && rel_find(rq, relation, from, reverse, ref, msg))
        status = 400;
    return status;
}

static unsigned read_combination(struct request *rq, struct http_work *w, struct combination *q,
                                 struct errmsg *msg)
{
    struct json_member m[] = {{.name = "lists"}, {.name = "after"}, {.name = "limit"}};
    struct slice relation;
    unsigned status = read_body(rq, w, &relation, &q->quoted, m, 3, msg);
    if (!status)
        status = read_limit(&m[2], &q->limit, msg);
    q->has_after = m[1].given;
    if (!status && m[1].given)
        status = rel_read_id(m[1].v, m[1].name, &q->after, msg);
    if (!status && json_kind(m[0].v) != JSON_ARRAY)
        status = refuse(msg, 400, "\"lists\" must be an array, not %s",
                        json_kind_name(json_kind(m[0].v)));
    if (status)
        return status;
    size_t n = json_count(m[0].v);
    if (n == 0)
        return refuse(msg, 400, "\"lists\" is an empty array");
    if (n > LIMIT_REL_LISTS)
        return refuse(msg, 413, "\"lists\" holds %zu lists, over %u", n, LIMIT_REL_LISTS);
    struct json_iter it = json_iterate(m[0].v);
    for (struct json v; json_next(&it, NULL, &v); q->count++) {
        status = read_list(rq, relation, v, &q->lists[q->count], msg);
        if (status)
            return rel_in("lists", q->count, status, msg);
    }
    return 0;
}

static void reply_combination(struct request *rq, const struct combination *q,
                              const struct rel_page *page, const struct buf *out)
{
    reply_begin(rq, 200, TYPE_JSON, NULL);
    reply_text(rq, "{\"members\":[");
    reply_ids(rq, buf_head(out), page->count, q->quoted);
    reply_page_end(rq, page, q->quoted);
}

static enum conn_verdict combine_start(struct request *rq, const struct combination *q)
{
    struct combine_job *j = calloc(1, sizeof *j);
    if (!j) {
        reply_err(rq, ERR_NO_MEMORY, NULL);
        return CONN_MORE;
    }
    j->job.run = combine_run;
    j->job.free = combine_free;
    j->q = *q;
    buf_init(&j->out, WORK_IDS);
    return job_start(rq, &j->job);
}

// Those of a relation that exists, which can be cold, moved to the front.
static size_t existing(struct rel_ref *lists, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (lists[i].relation)
            lists[kept++] = lists[i];
    return kept;
}

static enum conn_verdict combine_failed(struct request *rq, enum err e, struct combination *q,
                                        const struct errmsg *msg)
{
    return rel_failed(rq, e, q->lists, existing(q->lists, q->count), msg);
}

static enum conn_verdict combine_done(struct request *rq, struct combine_job *j)
{
    enum conn_verdict v = CONN_MORE;
    rq->dep = j->job.dep;
    if (j->job.e)
        v = combine_failed(rq, j->job.e, &j->q, &j->job.msg);
    else
        reply_combination(rq, &j->q, &j->page, &j->out);
    combine_free(&j->job);
    return v;
}

static enum conn_verdict combine(struct request *rq, struct http_work *w, enum rel_combine how)
{
    struct errmsg m = {""};
    struct combination q = {.how = how};
    struct rel_page page;
    uint64_t members = 0;
    struct job *done = job_take(rq);
    if (done)
        return combine_done(rq, (struct combine_job *)done);
    unsigned status = read_combination(rq, w, &q, &m);
    if (status)
        return reply_refused(rq, status, &m);
    enum err e = commit_rel_cost(rq->http->o.commit, q.how, q.lists, q.count, q.limit, &members);
    if (!e && members > COMBINE_INLINE)
        return combine_start(rq, &q);
    if (!e)
        e = run(rq->http->o.commit, &q, &w->ids, &page, &rq->dep);
    if (e)
        return combine_failed(rq, e, &q, &m);
    reply_combination(rq, &q, &page, &w->ids);
    return CONN_MORE;
}

static enum conn_verdict intersect(struct request *rq, struct http_work *w)
{
    return combine(rq, w, REL_INTERSECT);
}
static enum conn_verdict unite(struct request *rq, struct http_work *w)
{
    return combine(rq, w, REL_UNION);
}
static enum conn_verdict differ(struct request *rq, struct http_work *w)
{
    return combine(rq, w, REL_DIFFERENCE);
}
enum conn_verdict route_rel_intersect(struct request *rq)
{
    return rel_with_work(rq, intersect);
}
enum conn_verdict route_rel_union(struct request *rq)
{
    return rel_with_work(rq, unite);
}
enum conn_verdict route_rel_difference(struct request *rq)
{
    return rel_with_work(rq, differ);
}

// ---- all lists of a relation ----

struct froms_job {
    struct job job;
    bool reverse, quoted, has_after;
    uint64_t after;
    size_t limit;
    // the answer
    size_t count;
    bool more;
    enum err failed;
    struct buf out; // the array's elements
    struct slice relation;
    uint8_t bytes[];
};
#define FROM_TEXT 80u // {"from":"18446744073709551615","count":18446744073709551615} and a comma

static void froms_free(struct job *job)
{
    struct froms_job *j = (struct froms_job *)job;
    buf_release(&j->out);
    free(j);
}

static bool froms_item(void *arg, uint64_t from, uint64_t count)
{
    struct froms_job *j = arg;
    uint8_t packed[8];
    j->more = j->count == j->limit || buf_len(&j->out) >= LIST_PAGE;
    if (j->more || conn_dead(j->job.conn))
        return false;
    store64(packed, from);
    static const char begin[] = ",{\"from\":"; // the first one without the comma
    enum err e = buf_append(&j->out, &begin[!j->count], sizeof begin - 1 - !j->count);
    if (!e)
        e = json_put_uints(&j->out, packed, 1, j->quoted);
    if (!e)
        e = buf_append(&j->out, ",\"count\":", 9);
    if (!e)
        e = json_put_uint(&j->out, count);
    if (!e)
        e = buf_append(&j->out, "}", 1);
    j->failed = e;
    j->count++;
    return !e;
}

static void froms_run(struct job *job)
{
    struct froms_job *j = (struct froms_job *)job;
    job->e = commit_rel_froms(job->commit, j->relation, j->reverse, j->has_after, j->after,
                              j->limit + 1, froms_item, j, &job->dep, &job->msg);
    if (!job->e)
        job->e = j->failed;
}

static enum conn_verdict froms_reply(struct request *rq, struct froms_job *j)
{
    rq->dep = j->job.dep;
    if (j->job.e) {
        reply_err(rq, j->job.e, &j->job.msg);
    } else {
        reply_begin(rq, 200, TYPE_JSON, NULL);
        reply_text(rq, "{\"relation\":");
        reply_bytes(rq, j->relation);
        reply_text(rq, ",\"froms\":[");
        reply_note(rq, buf_append(rq->out, buf_head(&j->out), buf_len(&j->out)));
        reply_text(rq, j->more ? "],\"more\":true}" : "],\"more\":false}");
    }
    froms_free(&j->job);
    return CONN_MORE;
}

static enum conn_verdict froms_start(struct request *rq, struct slice relation,
                                     const struct froms_job *like)
{
    struct froms_job *j = calloc(1, sizeof *j + relation.n);
    if (!j) {
        reply_err(rq, ERR_NO_MEMORY, NULL);
        return CONN_MORE;
    }
    *j = *like;
    j->job.run = froms_run;
    j->job.free = froms_free;
    buf_init(&j->out, LIST_PAGE + FROM_TEXT);
    j->relation = slice_of(j->bytes, relation.n);
    memcpy(j->bytes, relation.p, relation.n);
    return job_start(rq, &j->job);
}

enum conn_verdict route_rel_froms(struct request *rq)
{
    struct param params[] = {
        {.name = "after"}, {.name = "limit"}, {.name = "reverse"}, {.name = "ids"}};
    struct errmsg m = {""};
    struct slice relation;
    struct froms_job q = {0};
    uint64_t limit = LIST_DEFAULT;
    struct rel_ref ref;
    struct job *done = job_take(rq);
    if (done)
        return froms_reply(rq, (struct froms_job *)done);
    unsigned status = rel_path(rq, &relation, NULL, &m);
    if (!status)
        status = query_parse(rq, params, 4, &m);
    if (!status && params[0].given)
        status = query_id(&params[0], &q.after, &m);
    if (!status && params[1].given)
        status = query_number(&params[1], 1, LIMIT_REL_PAGE, &limit, &m);
    if (!status)
        status = query_bool(&params[2], &q.reverse, &m);
    if (!status)
        status = query_quoted(&params[3], &q.quoted, &m);
    if (status)
        return reply_refused(rq, status, &m);
    q.has_after = params[0].given;
    q.limit = (size_t)limit;
    // A name or a reverse that cannot be is found out before a thread is asked.
    enum err e = rel_find(rq, relation, 0, q.reverse, &ref, &m);
    return e ? rel_failed(rq, e, NULL, 0, &m) : froms_start(rq, relation, &q);
}
