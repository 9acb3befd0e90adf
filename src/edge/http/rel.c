// Relations over HTTP: names, ids and arguments as they are written, declaring and naming
// relations, and reading one list. What takes a body, and what reads several lists, have files of
// their own.
#include "edge/http/rel_int.h"

#define RELATIONS_PATH "/v1/relations"

// ---- names, ids, arguments ----

bool rel_parse_id(struct slice s, uint64_t *id)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned digit = (unsigned)s.p[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(sum, 10u, &sum) ||
            __builtin_add_overflow(sum, digit, &sum))
            return false;
    }
    *id = sum;
    return s.n > 0;
}

unsigned rel_path(struct request *rq, struct slice *relation, uint64_t *from, struct errmsg *msg)
{
    char text[KEY_TEXT];
    size_t prefix = strlen(RELATIONS_PATH);
    struct slice rest = slice_of(rq->path.p + prefix, rq->path.n - prefix);
    struct slice number;
    unsigned status = path_segment(rq, &rest, "relation", relation, msg);
    if (status || !from)
        return status;
    status = path_segment(rq, &rest, "FROM", &number, msg);
    if (!status && !rel_parse_id(number, from))
        return refuse(msg, 400, "\"%s\" in the path " REL_NOT_ID, key_text(number, text));
    return status;
}

unsigned query_id(const struct param *p, uint64_t *id, struct errmsg *msg)
{
    char text[KEY_TEXT];
    if (!rel_parse_id(p->value, id))
        return refuse(msg, 400, "argument \"%s\": \"%s\" " REL_NOT_ID, p->name,
                      key_text(p->value, text));
    return 0;
}

unsigned query_ids(const struct param *p, struct http_work *w, uint8_t **ids, size_t *count,
                   struct errmsg *msg)
{
    char text[KEY_TEXT];
    struct slice rest = p->value;
    size_t n = 1;
    for (size_t i = 0; i < rest.n; i++)
        n += rest.p[i] == ',';
    uint8_t *to = work_alloc(w, 8 * n);
    if (!to)
        return refuse(msg, 503, "%s", err_text(ERR_NO_MEMORY));
    for (size_t i = 0; i < n; i++) {
        const uint8_t *comma = rest.n ? memchr(rest.p, ',', rest.n) : NULL;
        struct slice part = slice_of(rest.p, comma ? (size_t)(comma - rest.p) : rest.n);
        uint64_t id;
        if (!rel_parse_id(part, &id))
            return refuse(msg, 400, "argument \"%s\"[%zu]: \"%s\" " REL_NOT_ID, p->name, i,
                          key_text(part, text));
        store64(to + 8 * i, id);
        if (comma)
            rest = slice_of(comma + 1, rest.n - part.n - 1);
    }
    *ids = to;
    *count = n;
    return 0;
}

unsigned query_quoted(const struct param *p, bool *quoted, struct errmsg *msg)
{
    *quoted = slice_equal(p->value, slice_str("string"));
    if (p->given && !*quoted && !slice_equal(p->value, slice_str("number")))
        return refuse(msg, 400, "argument \"%s\" must be number or string", p->name);
    return 0;
}

unsigned query_relaxed(const struct param *p, bool *relaxed, struct errmsg *msg)
{
    *relaxed = p->given;
    if (p->given && !slice_equal(p->value, slice_str("relaxed")))
        return refuse(msg, 400, "argument \"%s\" must be relaxed", p->name);
    return 0;
}

static unsigned query_order(const struct param *p, bool reverse, enum rel_order *order,
                            struct errmsg *msg)
{
    static const char *const names[] = {
        [REL_RISING] = "id", [REL_FALLING] = "falling", [REL_NEWEST] = "newest"};
    *order = REL_RISING;
    for (size_t i = 0; p->given; i++) {
        if (i == sizeof names / sizeof *names)
            return refuse(msg, 400, "argument \"%s\" must be id, falling or newest", p->name);
        *order = (enum rel_order)i;
        if (slice_equal(p->value, slice_str(names[i])))
            break;
    }
    if (*order == REL_NEWEST && reverse)
        return refuse(msg, 400, "order=newest and reverse=true exclude each other");
    return 0;
}

// ---- parts of replies ----

void reply_ids(struct request *rq, const uint8_t *packed, size_t n, bool quoted)
{
    reply_note(rq, json_put_uints(rq->out, packed, n, quoted));
}

void reply_id(struct request *rq, uint64_t id, bool quoted)
{
    uint8_t packed[8];
    store64(packed, id);
    reply_ids(rq, packed, 1, quoted);
}

void reply_list_name(struct request *rq, struct slice relation, uint64_t from, bool quoted)
{
    reply_text(rq, "{\"relation\":");
    reply_bytes(rq, relation);
    reply_text(rq, ",\"from\":");
    reply_id(rq, from, quoted);
}

void reply_page_end(struct request *rq, const struct rel_page *page, bool quoted)
{
    if (!page->more) {
        reply_text(rq, "],\"more\":false}");
        return;
    }
    reply_text(rq, "],\"more\":true,\"next\":");
    reply_id(rq, page->next, quoted);
    reply_text(rq, "}");
}

// ---- failures and waits ----

// A refusal, when a relation lacks what can only be declared: says how that is done.
static void undeclared(struct request *rq, struct slice relation, bool reverse, struct errmsg *msg)
{
    char name[KEY_TEXT];
    struct relation_view v;
    struct errmsg ignored;
    uint64_t dep = 0;
    if (commit_relation_get(rq->http->o.commit, relation, &v, &dep, &ignored))
        return; // it is the name that is wrong, and msg says so
    rq->dep = dep > rq->dep ? dep : rq->dep;
    if (reverse ? v.options.reverse : v.options.recent)
        return;
    (void)refuse(msg, 400,
                 "relation \"%s\" %s: it must be declared before its first member, with PUT and %s",
                 key_text(relation, name),
                 reverse ? "is not kept in reverse" : "does not keep the order of arrival",
                 reverse ? "{\"reverse\":true}" : "{\"order\":\"recent\"}");
}

enum err rel_find(struct request *rq, struct slice relation, uint64_t from, bool reverse,
                  struct rel_ref *r, struct errmsg *msg)
{
    enum err e = commit_rel_ref(rq->http->o.commit, relation, from, reverse, r, msg);
    if (e == ERR_INVALID && reverse)
        undeclared(rq, relation, true, msg);
    return e;
}

enum conn_verdict rel_failed(struct request *rq, enum err e, const struct rel_ref *cold, size_t n,
                             const struct errmsg *msg)
{
    if (e == ERR_COLD)
        return request_rel_fetch(rq, cold, n);
    if (e == ERR_FULL)
        return request_room(rq);
    reply_err(rq, e, msg);
    return CONN_MORE;
}

enum conn_verdict rel_with_work(struct request *rq,
                                enum conn_verdict (*run)(struct request *rq, struct http_work *w))
{
    struct http_work *w = work_get(rq->http);
    if (!w) {
        reply_err(rq, ERR_NO_MEMORY, NULL);
        return CONN_MORE;
    }
    enum conn_verdict v = run(rq, w);
    work_put(rq->http, w);
    return v;
}

// ---- relations ----

struct names {
    struct slice *at, *end;
};

static bool name_item(void *arg, const struct relation_view *v)
{
    struct names *names = arg;
    if (names->at == names->end)
        return false;
    *names->at++ = v->name;
    return true;
}

enum conn_verdict route_relations(struct request *rq)
{
    struct param params[] = {{.name = "after"}, {.name = "limit"}};
    struct errmsg m;
    uint64_t limit = LIST_DEFAULT;
    struct slice found[LIMIT_RELATIONS + 1]; // live as long as the process
    unsigned status = query_parse(rq, params, 2, &m);
    if (!status && params[1].given)
        status = query_number(&params[1], 1, LIMIT_LIST, &limit, &m);
    if (status)
        return reply_refused(rq, status, &m);
    size_t max = limit < LIMIT_RELATIONS ? (size_t)limit : LIMIT_RELATIONS;
    struct names names = {found, found + max + 1};
    enum err e = commit_relation_list(rq->http->o.commit, params[0].value, max + 1, name_item,
                                      &names, &rq->dep);
    if (e) {
        reply_err(rq, e, NULL);
        return CONN_MORE;
    }
    size_t count = (size_t)(names.at - found);
    reply_begin(rq, 200, TYPE_JSON, NULL);
    reply_text(rq, "{\"relations\":[");
    for (size_t i = 0; i < count && i < max; i++) {
        reply_text(rq, i ? "," : "");
        reply_bytes(rq, found[i]);
    }
    reply_text(rq, count > max ? "],\"more\":true}" : "],\"more\":false}");
    return CONN_MORE;
}

// One of two words; `*second` says which it is.
static unsigned read_choice(const struct json_member *m, const char *first, const char *other,
                            bool *second, struct errmsg *msg)
{
    if (!m->given)
        return 0;
    bool string = json_kind(m->v) == JSON_STRING;
    *second = string && slice_equal(json_string(m->v), slice_str(other));
    if (!*second && !(string && slice_equal(json_string(m->v), slice_str(first))))
        return refuse(msg, 400, "\"%s\" must be \"%s\" or \"%s\"", m->name, first, other);
    return 0;
}

static unsigned read_options(struct request *rq, struct http_work *w, struct relation_options *o,
                             struct errmsg *msg)
{
    struct json_member m[] = {{.name = "reverse"}, {.name = "order"}, {.name = "durability"}};
    struct json root;
    *o = (struct relation_options){0};
    if (rq->body.n == 0)
        return 0;
    unsigned status = body_parse(rq, w, &root, msg);
    if (!status)
        status = body_members(root, "the body", m, 3, msg);
    if (!status && m[0].given && json_kind(m[0].v) != JSON_BOOL)
        status = refuse(msg, 400, "\"reverse\" must be true or false");
    if (!status)
        status = read_choice(&m[1], "id", "recent", &o->recent, msg);
    if (!status)
        status = read_choice(&m[2], "fsync", "relaxed", &o->relaxed, msg);
    if (!status && m[0].given)
        o->reverse = json_bool(m[0].v);
    return status;
}

static enum conn_verdict create(struct request *rq, struct http_work *w)
{
    struct errmsg m = {""};
    struct slice name;
    struct relation_options o;
    uint64_t created = 0;
    unsigned status = rel_path(rq, &name, NULL, &m);
    if (!status)
        status = query_parse(rq, NULL, 0, &m);
    if (!status)
        status = read_options(rq, w, &o, &m);
    if (status)
        return reply_refused(rq, status, &m);
    enum err e = commit_relation_create(rq->http->o.commit, name, &o, &created, &rq->dep, &m);
    if (e)
        return rel_failed(rq, e, NULL, 0, &m);
    reply_begin(rq, 200, TYPE_JSON, NULL);
    reply_text(rq, "{\"result\":\"Success\",\"created\":");
    reply_uint(rq, created);
    reply_text(rq, "}");
    return CONN_MORE;
}

enum conn_verdict route_relation_create(struct request *rq)
{
    return rel_with_work(rq, create);
}

enum conn_verdict route_relation_get(struct request *rq)
{
    struct errmsg m = {""};
    struct slice name;
    struct relation_view v;
    unsigned status = rel_path(rq, &name, NULL, &m);
    if (!status)
        status = query_parse(rq, NULL, 0, &m);
    if (status)
        return reply_refused(rq, status, &m);
    enum err e = commit_relation_get(rq->http->o.commit, name, &v, &rq->dep, &m);
    if (e == ERR_MISSING && !m.text[0])
        (void)refuse(&m, 404, "no such relation");
    if (e)
        return rel_failed(rq, e, NULL, 0, &m);
    reply_begin(rq, 200, TYPE_JSON, NULL);
    reply_text(rq, "{\"relation\":");
    reply_bytes(rq, v.name);
    reply_text(rq, ",\"created\":");
    reply_uint(rq, v.created_ms);
    reply_text(rq, v.options.reverse ? ",\"reverse\":true" : ",\"reverse\":false");
    reply_text(rq, v.options.recent ? ",\"order\":\"recent\"" : ",\"order\":\"id\"");
    reply_text(rq, v.options.relaxed ? ",\"durability\":\"relaxed\"" : ",\"durability\":\"fsync\"");
    reply_text(rq, ",\"resident\":{\"lists\":");
    reply_uint(rq, v.resident_lists);
    reply_text(rq, ",\"members\":");
    reply_uint(rq, v.resident_members);
    reply_text(rq, "}}");
    return CONN_MORE;
}

// ---- one list ----

// The list that a request names, by its path and `reverse`.
struct list {
    struct slice relation;
    uint64_t from;
    bool reverse, quoted;
    struct rel_ref ref;
};

// Reads the path and the arguments, of which the first are reverse and ids.
static unsigned read_list(struct request *rq, struct list *l, struct param *params, size_t count,
                          struct errmsg *msg)
{
    unsigned status = rel_path(rq, &l->relation, &l->from, msg);
    if (!status)
        status = query_parse(rq, params, count, msg);
    if (!status)
        status = query_bool(&params[0], &l->reverse, msg);
    if (!status)
        status = query_quoted(&params[1], &l->quoted, msg);
    return status;
}

static enum conn_verdict page(struct request *rq, struct http_work *w)
{
    struct param params[] = {{.name = "reverse"},
                             {.name = "ids"},
                             {.name = "after"},
                             {.name = "limit"},
                             {.name = "order"}};
    struct errmsg m = {""};
    struct list l;
    struct rel_page p;
    uint64_t limit = LIST_DEFAULT;
    struct rel_page_query q = {.order = REL_RISING};
    unsigned status = read_list(rq, &l, params, 5, &m);
    if (!status && params[2].given)
        status = query_id(&params[2], &q.after, &m);
    if (!status && params[3].given)
        status = query_number(&params[3], 1, LIMIT_REL_PAGE, &limit, &m);
    if (!status)
        status = query_order(&params[4], l.reverse, &q.order, &m);
    if (status)
        return reply_refused(rq, status, &m);
    q.has_after = params[2].given;
    q.max = (size_t)limit;
    enum err e = rel_find(rq, l.relation, l.from, l.reverse, &l.ref, &m);
    if (!e)
        e = commit_rel_page(rq->http->o.commit, &l.ref, &q, &w->ids, &p, &rq->dep, &m);
    if (e == ERR_INVALID && q.order == REL_NEWEST)
        undeclared(rq, l.relation, false, &m);
    if (e)
        return rel_failed(rq, e, &l.ref, 1, &m);
    reply_begin(rq, 200, TYPE_JSON, NULL);
    reply_list_name(rq, l.relation, l.from, l.quoted);
    reply_text(rq, ",\"count\":");
    reply_uint(rq, p.total);
    reply_text(rq, ",\"members\":[");
    reply_ids(rq, buf_head(&w->ids), p.count, l.quoted);
    reply_page_end(rq, &p, l.quoted);
    return CONN_MORE;
}

enum conn_verdict route_rel_page(struct request *rq)
{
    return rel_with_work(rq, page);
}

enum conn_verdict route_rel_count(struct request *rq)
{
    struct param params[] = {{.name = "reverse"}, {.name = "ids"}};
    struct errmsg m = {""};
    struct list l;
    uint64_t n = 0;
    unsigned status = read_list(rq, &l, params, 2, &m);
    if (status)
        return reply_refused(rq, status, &m);
    enum err e = rel_find(rq, l.relation, l.from, l.reverse, &l.ref, &m);
    if (!e)
        e = commit_rel_count(rq->http->o.commit, &l.ref, &n, &rq->dep);
    if (e)
        return rel_failed(rq, e, &l.ref, 1, &m);
    reply_begin(rq, 200, TYPE_JSON, NULL);
    reply_list_name(rq, l.relation, l.from, l.quoted);
    reply_text(rq, ",\"count\":");
    reply_uint(rq, n);
    reply_text(rq, "}");
    return CONN_MORE;
}

static enum conn_verdict contains(struct request *rq, struct http_work *w)
{
    struct param params[] = {
        {.name = "reverse"}, {.name = "ids"}, {.name = "members", .required = true}};
    struct errmsg m = {""};
    struct list l;
    uint8_t *members, *found = NULL;
    size_t count;
    unsigned status = read_list(rq, &l, params, 3, &m);
    if (!status)
        status = query_ids(&params[2], w, &members, &count, &m);
    if (status)
        return reply_refused(rq, status, &m);
    enum err e = rel_find(rq, l.relation, l.from, l.reverse, &l.ref, &m);
    if (!e && !(found = work_alloc(w, count)))
        e = ERR_NO_MEMORY;
    if (!e)
        e = commit_rel_contains(rq->http->o.commit, &l.ref, members, count, found, &rq->dep);
    if (e)
        return rel_failed(rq, e, &l.ref, 1, &m);
    reply_begin(rq, 200, TYPE_JSON, NULL);
    reply_list_name(rq, l.relation, l.from, l.quoted);
    reply_text(rq, ",\"contains\":[");
    for (size_t i = 0; i < count; i++) {
        reply_text(rq, i ? "," : "");
        reply_text(rq, found[i] ? "true" : "false");
    }
    reply_text(rq, "]}");
    return CONN_MORE;
}

enum conn_verdict route_rel_contains(struct request *rq)
{
    return rel_with_work(rq, contains);
}
