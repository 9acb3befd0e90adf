// Ids in bodies, and the requests that add and remove members. Each is one transaction:
//
//   POST    /v1/relations/R/FROM  {"members":[ID,...]}
//   DELETE  /v1/relations/R/FROM  the same, or ?members=ID,ID,... and no body
//   POST    /v1/relations/R       {"add":[{"from":ID,"members":[ID,...]},...],"remove":[...]}
//
// ID is a JSON number, or a string of decimal digits: exact in all of their 64 bits. An array of
// numbers goes from the parser's tape to packed ids in one loop (json_take_uints).
#include "base/hash.h"
#include "edge/http/rel_int.h"
#include <stdio.h>

// ---- ids ----

// How a value that is not an id is shown.
static const char *value_text(struct json v, char text[KEY_TEXT])
{
    char key[KEY_TEXT];
    uint8_t room[32];
    struct buf number = {.data = room, .cap = sizeof room, .max = sizeof room};
    switch (json_kind(v)) {
    case JSON_INT:
        if (json_put_int(&number, json_int(v)))
            return "a number";
        break;
    case JSON_FLOAT:
        if (json_put_float(&number, json_float(v)))
            return "a number";
        break;
    case JSON_STRING:
        snprintf(text, KEY_TEXT, "\"%s\"", key_text(json_string(v), key));
        return text;
    case JSON_BOOL:
        return json_bool(v) ? "true" : "false";
    default:
        return json_kind_name(json_kind(v));
    }
    snprintf(text, KEY_TEXT, "%.*s", (int)number.end, (const char *)room);
    return text;
}

static bool take_id(struct json v, uint64_t *id)
{
    switch (json_kind(v)) {
    case JSON_INT:
        if (json_int(v) < 0)
            return false;
        *id = (uint64_t)json_int(v);
        return true;
    case JSON_UINT:
        *id = json_uint(v);
        return true;
    case JSON_STRING:
        return rel_parse_id(json_string(v), id);
    default:
        return false;
    }
}

unsigned rel_read_id(struct json v, const char *name, uint64_t *id, struct errmsg *msg)
{
    char text[KEY_TEXT];
    if (!take_id(v, id))
        return refuse(msg, 400, "%s: %s " REL_NOT_ID, name, value_text(v, text));
    return 0;
}

unsigned rel_read_ids(struct http_work *w, struct json list, const char *name, size_t max,
                      uint8_t **ids, size_t *count, struct errmsg *msg)
{
    char text[KEY_TEXT];
    if (json_kind(list) != JSON_ARRAY)
        return refuse(msg, 400, "\"%s\" must be an array of ids, not %s", name,
                      json_kind_name(json_kind(list)));
    *count = json_count(list);
    if (*count > max)
        return refuse(msg, 413, "\"%s\" holds %zu ids, over %zu", name, *count, max);
    uint8_t *to = *ids = work_alloc(w, 8 * *count);
    if (!to)
        return refuse(msg, 503, "%s", err_text(ERR_NO_MEMORY));
    struct json_iter it = json_iterate(list);
    uint64_t id;
    for (struct json v;; to += 8) {
        to += 8 * json_take_uints(&it, to);
        if (!json_next(&it, NULL, &v))
            return 0;
        if (!take_id(v, &id))
            return refuse(msg, 400, "%s[%zu]: %s " REL_NOT_ID, name, (size_t)(to - *ids) / 8,
                          value_text(v, text));
        store64(to, id);
    }
}

unsigned rel_in(const char *name, size_t index, unsigned status, struct errmsg *msg)
{
    struct errmsg inner = *msg;
    return refuse(msg, status, "%s[%zu]: %.400s", name, index, inner.text);
}

// ---- groups and edits ----

static unsigned missing(const char *name, struct errmsg *msg)
{
    return refuse(msg, 400, "\"%s\" is missing", name);
}

// `left` is how many members the request may still hold.
static unsigned read_members(struct http_work *w, struct json list, size_t *left,
                             struct rel_group *g, struct errmsg *msg)
{
    uint8_t *ids;
    size_t count;
    unsigned status = rel_read_ids(w, list, "members", LIMIT_REL_MEMBERS, &ids, &count, msg);
    if (status)
        return status;
    if (count > *left)
        return refuse(msg, 413, "the request holds over %u members", LIMIT_REL_MEMBERS);
    *left -= count;
    g->members = ids;
    g->count = (uint32_t)count;
    return 0;
}

// {"from":ID,"members":[ID,...]}
static unsigned read_group(struct http_work *w, struct json v, size_t *left, struct rel_group *g,
                           struct errmsg *msg)
{
    struct json_member m[] = {{.name = "from"}, {.name = "members"}};
    *g = (struct rel_group){0};
    unsigned status = body_members(v, "a group", m, 2, msg);
    if (!status && !(m[0].given && m[1].given))
        status = missing(m[m[0].given].name, msg);
    if (!status)
        status = rel_read_id(m[0].v, "from", &g->from, msg);
    return status ? status : read_members(w, m[1].v, left, g, msg);
}

static unsigned read_groups(struct http_work *w, const struct json_member *m, size_t *left,
                            struct rel_edit *e, struct errmsg *msg)
{
    if (!m->given)
        return 0;
    if (json_kind(m->v) != JSON_ARRAY)
        return refuse(msg, 400, "\"%s\" must be an array of objects, not %s", m->name,
                      json_kind_name(json_kind(m->v)));
    e->count = json_count(m->v);
    if (e->count > LIMIT_REL_MEMBERS)
        return refuse(msg, 413, "\"%s\" holds %zu objects, over %u", m->name, e->count,
                      LIMIT_REL_MEMBERS);
    e->groups = work_alloc(w, e->count * sizeof *e->groups);
    if (!e->groups)
        return refuse(msg, 503, "%s", err_text(ERR_NO_MEMORY));
    struct json_iter it = json_iterate(m->v);
    struct rel_group *g = e->groups;
    for (struct json v; json_next(&it, NULL, &v); g++) {
        unsigned status = read_group(w, v, left, g, msg);
        if (status)
            return rel_in(m->name, (size_t)(g - e->groups), status, msg);
    }
    return 0;
}

unsigned rel_read_edit(struct http_work *w, struct json relation, struct json from,
                       struct json members, size_t *left, struct rel_edit **edit,
                       struct errmsg *msg)
{
    struct {
        struct rel_edit edit;
        struct rel_group group;
    } *both = work_alloc(w, sizeof *both);
    if (!both)
        return refuse(msg, 503, "%s", err_text(ERR_NO_MEMORY));
    both->group = (struct rel_group){0};
    both->edit = (struct rel_edit){.groups = &both->group, .count = 1};
    *edit = &both->edit;
    if (json_kind(relation) != JSON_STRING)
        return refuse(msg, 400, "\"relation\" must be a string, not %s",
                      json_kind_name(json_kind(relation)));
    both->edit.relation = json_string(relation);
    unsigned status = rel_read_id(from, "from", &both->group.from, msg);
    return status ? status : read_members(w, members, left, &both->group, msg);
}

// ---- the requests ----

// Takes the request's idempotency key. POST and DELETE to one path are not the same request.
static unsigned read_key(const struct request *rq, struct txn *t, struct errmsg *msg)
{
    if (!head_has(&rq->head, FIELD_IDEMPOTENCY))
        return 0;
    uint64_t seed =
        rq->head.method == METHOD_DELETE ? hash64(slice_str("DELETE"), REQUEST_SEED) : REQUEST_SEED;
    t->request_hash = hash64(rq->body, hash64(rq->head.target, seed));
    return read_idempotency(rq->head.field[FIELD_IDEMPOTENCY], t, msg);
}

static unsigned read_list_body(struct request *rq, struct http_work *w, struct rel_group *g,
                               struct errmsg *msg)
{
    struct json_member m = {.name = "members"};
    struct json root;
    size_t left = LIMIT_REL_MEMBERS;
    unsigned status = body_parse(rq, w, &root, msg);
    if (!status)
        status = body_members(root, "the body", &m, 1, msg);
    if (!status && !m.given)
        status = missing(m.name, msg);
    return status ? status : read_members(w, m.v, &left, g, msg);
}

// The members come in the body or, with DELETE, after '?'.
static unsigned read_change(struct request *rq, struct http_work *w, struct rel_group *g,
                            struct txn *t, struct errmsg *msg)
{
    struct param params[] = {{.name = "durability"}, {.name = "members"}};
    bool delete = rq->head.method == METHOD_DELETE;
    uint8_t *ids;
    size_t count;
    unsigned status = query_parse(rq, params, delete ? 2 : 1, msg);
    if (!status)
        status = query_relaxed(&params[0], &t->relaxed, msg);
    if (!status && delete &&params[1].given == (rq->body.n > 0))
        status = refuse(msg, 400, "the members are needed once: in a body or as argument \"%s\"",
                        params[1].name);
    if (!status && params[1].given) {
        status = query_ids(&params[1], w, &ids, &count, msg);
        if (status)
            return status;
        g->members = ids; // fewer than the target has bytes
        g->count = (uint32_t)count;
    } else if (!status) {
        status = read_list_body(rq, w, g, msg);
    }
    return status ? status : read_key(rq, t, msg);
}

static enum conn_verdict change(struct request *rq, struct http_work *w)
{
    struct errmsg m = {""};
    bool delete = rq->head.method == METHOD_DELETE;
    struct rel_group group = {0};
    struct rel_edit edit = {.groups = &group, .count = 1};
    struct txn_op op = {.kind = delete ? TXN_UNRELATE : TXN_RELATE, .edit = &edit};
    struct txn t = {.ops = &op, .count = 1};
    unsigned status = rel_path(rq, &edit.relation, &group.from, &m);
    if (!status)
        status = read_change(rq, w, &group, &t, &m);
    if (status)
        return reply_refused(rq, status, &m);
    enum err e = commit_txn(rq->http->o.commit, &t, &rq->dep, &m);
    if (e)
        return txn_failed(rq, &t, e, &m);
    rq->seq = t.seq;
    reply_begin(rq, 200, TYPE_JSON, t.replayed ? REPLAYED : NULL);
    reply_text(rq, delete ? "{\"result\":\"Success\",\"removed\":"
                          : "{\"result\":\"Success\",\"added\":");
    reply_uint(rq, (uint64_t)op.number);
    reply_text(rq, "}");
    return CONN_MORE;
}

enum conn_verdict route_rel_add(struct request *rq)
{
    return rel_with_work(rq, change);
}

enum conn_verdict route_rel_remove(struct request *rq)
{
    return rel_with_work(rq, change);
}

// The operations of a body: what is added, then what is removed.
static unsigned read_body(struct request *rq, struct http_work *w, struct rel_edit edits[2],
                          struct txn *t, struct errmsg *msg)
{
    struct param params[] = {{.name = "durability"}};
    struct json_member m[] = {{.name = "add"}, {.name = "remove"}};
    struct json root;
    size_t left = LIMIT_REL_MEMBERS;
    unsigned status = query_parse(rq, params, 1, msg);
    if (!status)
        status = query_relaxed(&params[0], &t->relaxed, msg);
    if (!status)
        status = body_parse(rq, w, &root, msg);
    if (!status)
        status = body_members(root, "the body", m, 2, msg);
    for (size_t i = 0; !status && i < 2; i++) {
        status = read_groups(w, &m[i], &left, &edits[i], msg);
        if (status || edits[i].count == 0)
            continue;
        t->ops[t->count++] =
            (struct txn_op){.kind = i ? TXN_UNRELATE : TXN_RELATE, .edit = &edits[i]};
    }
    if (!status && t->count == 0)
        status = refuse(msg, 400, "\"add\" or \"remove\" is needed, with one object at least");
    return status ? status : read_key(rq, t, msg);
}

static enum conn_verdict edit(struct request *rq, struct http_work *w)
{
    struct errmsg m = {""};
    struct slice relation;
    struct rel_edit edits[2] = {{.count = 0}, {.count = 0}};
    struct txn_op ops[2];
    struct txn t = {.ops = ops};
    unsigned status = rel_path(rq, &relation, NULL, &m);
    edits[0].relation = edits[1].relation = relation;
    if (!status)
        status = read_body(rq, w, edits, &t, &m);
    if (status)
        return reply_refused(rq, status, &m);
    enum err e = commit_txn(rq->http->o.commit, &t, &rq->dep, &m);
    if (e)
        return txn_failed(rq, &t, e, &m);
    rq->seq = t.seq;
    uint64_t changed[2] = {0, 0};
    for (size_t i = 0; i < t.count; i++)
        changed[ops[i].kind == TXN_UNRELATE] = (uint64_t)ops[i].number;
    reply_begin(rq, 200, TYPE_JSON, t.replayed ? REPLAYED : NULL);
    reply_text(rq, "{\"result\":\"Success\",\"added\":");
    reply_uint(rq, changed[0]);
    reply_text(rq, ",\"removed\":");
    reply_uint(rq, changed[1]);
    reply_text(rq, "}");
    return CONN_MORE;
}

enum conn_verdict route_rel_edit(struct request *rq)
{
    return rel_with_work(rq, edit);
}
