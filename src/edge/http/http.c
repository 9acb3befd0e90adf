// A connection's requests, one after another: frames them, refuses what should not be served, runs
// the route and finishes the reply.
//
// A request is executed only when all of its bytes lie in the in-buffer, and they stay there until
// it is answered. So a request that must wait (cold keys, no room, a listing) is simply parsed and
// run again when the connection resumes; nothing of it has to be kept.
#include "base/assert.h"
#include "edge/http/log_int.h"
#include "edge/http/rel_int.h"
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

// ---- the routes ----

static enum conn_verdict route_help(struct request *rq)
{
    reply_begin(rq, 200, TYPE_TEXT, NULL);
    reply_text(
        rq, "varve " VARVE_VERSION "\n"
            "GET    /v1/get?key=K\n"
            "POST   /v1/put      [{\"key\":K,\"value\":V,\"version\":N},...]\n"
            "DELETE /v1/key?key=K[&version=N]\n"
            "GET    /v1/keys?prefix=&after=&limit=&values=\n"
            "POST   /v1/txn      {\"ops\":[{\"op\":\"check|put|delete|add|append|\n"
            "                                  relate|unrelate\",...},...]}\n"
            "GET    /v1/logs?after=&limit=\n"
            "PUT    /v1/logs/KEYSPACE      [{\"timestamps\":...,\"retention\":{...}}]\n"
            "POST   /v1/logs/KEYSPACE      {\"retention\":{...}}\n"
            "GET    /v1/logs/KEYSPACE?keys=&after=&limit=\n"
            "POST   /v1/logs/KEYSPACE/KEY  {\"records\":[{\"record\":V,...},...]}\n"
            "POST   /v1/logs/KEYSPACE/KEY?encoding=raw|lines[&nonce=N][&timestamp=T]\n"
            "GET    /v1/logs/KEYSPACE/KEY?direction=&start=&page_size=&encoding=\n"
            "       &prefix=&contains=, then ?continuation=\n"
            "DELETE /v1/logs/KEYSPACE/KEY?before=offset:N|timestamp:T or ?offset=N\n"
            "GET    /v1/logs/KEYSPACE/KEY/meta\n"
            "GET    /v1/logs/KEYSPACE/KEY/tail?start=&encoding=&prefix=&contains=\n"
            "POST   /v1/logs/KEYSPACE/KEY/flush, POST /v1/flush\n"
            "GET    /v1/relations?after=&limit=\n"
            "PUT    /v1/relations/R        [{\"reverse\":...,\"order\":...,\"durability\":...}]\n"
            "GET    /v1/relations/R\n"
            "POST   /v1/relations/R        "
            "{\"add\":[{\"from\":F,\"members\":[...]},...],\"remove\":[...]}\n"
            "POST   /v1/relations/R/FROM   {\"members\":[...]}\n"
            "DELETE /v1/relations/R/FROM   {\"members\":[...]} or ?members=1,2,3\n"
            "GET    /v1/relations/R/FROM?after=&limit=&order=&reverse=&ids=\n"
            "GET    /v1/relations/R/FROM/count?reverse=\n"
            "GET    /v1/relations/R/FROM/contains?members=1,2,3&reverse=\n"
            "POST   /v1/relations/R/get    {\"from\":[...],\"reverse\":...,\"limit\":...}\n"
            "POST   /v1/relations/R/intersect|union|difference\n"
            "       {\"lists\":[FROM|{\"from\":F,...},...],\"after\":...,\"limit\":...}\n"
            "GET    /v1/relations/R/froms?after=&limit=&reverse=\n"
            "GET    /metrics /healthz /readyz\n"
            "docs/PROTOCOLS.md says more.\n");
    return CONN_MORE;
}

static enum conn_verdict route_metrics(struct request *rq)
{
    reply_begin(rq, 200, "text/plain; version=0.0.4; charset=utf-8", NULL);
    if (!rq->failed && rq->http->o.metrics)
        reply_note(rq, rq->http->o.metrics(rq->http->o.arg, rq->out));
    return CONN_MORE;
}

static enum conn_verdict route_healthz(struct request *rq)
{
    reply_begin(rq, 200, TYPE_TEXT, NULL);
    reply_text(rq, "ok\n");
    return CONN_MORE;
}

static enum conn_verdict route_readyz(struct request *rq)
{
    const char *why = NULL;
    if (!commit_writable(rq->http->o.commit, &why)) {
        reply_error(rq, 503, why ? why : err_text(ERR_CLOSED), "Retry-After: 1\r\n");
        return CONN_MORE;
    }
    reply_begin(rq, 200, TYPE_TEXT, NULL);
    reply_text(rq, "ready\n");
    return CONN_MORE;
}

// A path of these takes one method.
static const struct route routes[] = {
    {"/v1/get", METHOD_GET, false, route_get, false},
    {"/v1/put", METHOD_POST, true, route_put, false},
    {"/v1/txn", METHOD_POST, true, route_txn, false},
    {"/v1/key", METHOD_DELETE, true, route_delete, false},
    {"/v1/keys", METHOD_GET, false, route_list, false},
    {"/v1/flush", METHOD_POST, true, route_flush_all, true},
    {"/metrics", METHOD_GET, false, route_metrics, false},
    {"/healthz", METHOD_GET, false, route_healthz, false},
    {"/readyz", METHOD_GET, false, route_readyz, false},
    {"/", METHOD_GET, false, route_help, false},
};

// Compared segment by segment. One pattern's routes stand together, and where a path fits two
// patterns, the first has it.
#define LOGS_PATH      "/v1/logs"
#define RELATIONS_PATH "/v1/relations"
static const struct route tree_routes[] = {
    {LOGS_PATH, METHOD_GET, false, route_keyspaces, false},
    {LOGS_PATH "/*", METHOD_GET, false, route_keyspace_get, false},
    {LOGS_PATH "/*", METHOD_PUT, true, route_keyspace_create, true},
    {LOGS_PATH "/*", METHOD_POST, true, route_keyspace_policy, false},
    {LOGS_PATH "/*/*", METHOD_GET, false, route_log_page, false},
    {LOGS_PATH "/*/*", METHOD_POST, true, route_log_append, false},
    {LOGS_PATH "/*/*", METHOD_DELETE, true, route_log_delete, false},
    {LOGS_PATH "/*/*/meta", METHOD_GET, false, route_log_meta, false},
    {LOGS_PATH "/*/*/tail", METHOD_GET, false, route_log_tail, false},
    {LOGS_PATH "/*/*/flush", METHOD_POST, true, route_log_flush, true},
    {RELATIONS_PATH, METHOD_GET, false, route_relations, false},
    {RELATIONS_PATH "/*", METHOD_GET, false, route_relation_get, false},
    {RELATIONS_PATH "/*", METHOD_PUT, true, route_relation_create, true},
    {RELATIONS_PATH "/*", METHOD_POST, true, route_rel_edit, false},
    {RELATIONS_PATH "/*/get", METHOD_POST, false, route_rel_many, false},
    {RELATIONS_PATH "/*/intersect", METHOD_POST, false, route_rel_intersect, false},
    {RELATIONS_PATH "/*/union", METHOD_POST, false, route_rel_union, false},
    {RELATIONS_PATH "/*/difference", METHOD_POST, false, route_rel_difference, false},
    {RELATIONS_PATH "/*/froms", METHOD_GET, false, route_rel_froms, false},
    {RELATIONS_PATH "/*/*", METHOD_GET, false, route_rel_page, false},
    {RELATIONS_PATH "/*/*", METHOD_POST, true, route_rel_add, false},
    {RELATIONS_PATH "/*/*", METHOD_DELETE, true, route_rel_remove, true},
    {RELATIONS_PATH "/*/*/count", METHOD_GET, false, route_rel_count, false},
    {RELATIONS_PATH "/*/*/contains", METHOD_GET, false, route_rel_contains, false},
};

#define METHOD_BIT(m) (1u << (m))

// The Allow field for a path's methods.
#define ALLOW_TEXT 64
static const char *allow_text(unsigned methods, char text[ALLOW_TEXT])
{
    static const struct {
        enum head_method method;
        const char *name;
    } names[] = {{METHOD_GET, "GET, HEAD, "},
                 {METHOD_POST, "POST, "},
                 {METHOD_PUT, "PUT, "},
                 {METHOD_DELETE, "DELETE, "}};
    size_t n = (size_t)snprintf(text, ALLOW_TEXT, "Allow: ");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (methods & METHOD_BIT(names[i].method))
            n += (size_t)snprintf(text + n, ALLOW_TEXT - n, "%s", names[i].name);
    snprintf(text + n, ALLOW_TEXT - n, "OPTIONS\r\n");
    return text;
}

static bool takes(const struct route *r, enum head_method m)
{
    return m == r->method || (m == METHOD_HEAD && r->method == METHOD_GET);
}

// True if the path has the pattern's segments; '*' stands for any one.
static bool path_is(struct slice path, const char *pattern)
{
    size_t i = 0;
    for (; *pattern; pattern++) {
        if (*pattern == '*') {
            while (i < path.n && path.p[i] != '/')
                i++;
        } else if (i == path.n || path.p[i++] != (uint8_t)*pattern) {
            return false;
        }
    }
    return i == path.n;
}

static void find_tree_route(struct request *rq)
{
    if (!slice_starts(rq->path, slice_str(LOGS_PATH)) &&
        !slice_starts(rq->path, slice_str(RELATIONS_PATH)))
        return;
    const struct route *end = tree_routes + sizeof tree_routes / sizeof *tree_routes;
    const struct route *r = tree_routes;
    while (r < end && !path_is(rq->path, r->path))
        r++;
    for (const char *pattern = r < end ? r->path : ""; r < end && !strcmp(r->path, pattern); r++) {
        rq->methods |= METHOD_BIT(r->method);
        if (!rq->route || takes(r, rq->head.method))
            rq->route = r;
    }
}

// ---- what is refused before the body is looked at ----

// The authority of an absolute target is passed over: there is one site here.
static void split_target(struct request *rq)
{
    struct slice t = rq->head.target;
    if (t.n > 7 && slice_is_nocase(slice_of(t.p, 7), "http://")) {
        const uint8_t *slash = memchr(t.p + 7, '/', t.n - 7);
        t = slash ? slice_of(slash, t.n - (size_t)(slash - t.p)) : slice_str("/");
    }
    const uint8_t *mark = memchr(t.p, '?', t.n);
    rq->path = slice_of(t.p, mark ? (size_t)(mark - t.p) : t.n);
    rq->query = mark ? slice_of(mark + 1, t.n - rq->path.n - 1) : slice_of(NULL, 0);
    for (size_t i = 0; i < sizeof routes / sizeof *routes && !rq->route; i++)
        if (slice_equal(rq->path, slice_str(routes[i].path)))
            rq->route = &routes[i];
    if (rq->route)
        rq->methods = METHOD_BIT(rq->route->method);
    else
        find_tree_route(rq);
}

// True unless a web page of another site is behind the request. Browsers name the page's site in
// Origin with every request that is not a plain GET, and nothing here asks for a password, so any
// page could otherwise write to a server on its reader's machine. (A page cannot read our replies:
// they carry no CORS fields. A site whose name is made to resolve to this machine would pass both;
// only authentication stops that.)
static bool same_origin(const struct head *h)
{
    if (!head_has(h, FIELD_ORIGIN))
        return true;
    struct slice o = h->field[FIELD_ORIGIN];
    struct slice host = h->field[FIELD_HOST];
    for (size_t i = 0; i + 2 < o.n; i++)
        if (memcmp(o.p + i, "://", 3) == 0)
            return host.n && o.n - i - 3 == host.n &&
                   strncasecmp((const char *)o.p + i + 3, (const char *)host.p, host.n) == 0;
    return false; // "null" among others
}

static bool expects_continue(const struct head *h)
{
    return slice_is_nocase(h->field[FIELD_EXPECT], "100-continue");
}

static bool takes_body(const struct route *r)
{
    return r->method == METHOD_POST || r->method == METHOD_PUT || r->bare;
}

// True if the request was answered already, with a refusal. Whether the connection goes on is in
// head.keep_alive: not if a body follows, because it will not be read.
static bool refuse_early(struct request *rq)
{
    struct head *h = &rq->head;
    const struct route *r = rq->route;
    size_t most = rq->http->o.max_request;
    struct errmsg m;
    char allow[ALLOW_TEXT];
    bool was_alive = h->keep_alive;
    if (h->chunked || h->length)
        h->keep_alive = false;
    if (memchr(h->target.p, '#', h->target.n)) {
        reply_error(rq, 400, "malformed request: a fragment in the target", NULL);
    } else if (h->method == METHOD_OPTIONS && slice_equal(h->target, slice_str("*"))) {
        reply_empty(rq, 204, "Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS\r\n");
    } else if (!r) {
        reply_error(rq, 404, "no such path; GET / lists them", NULL);
    } else if (h->method == METHOD_OPTIONS) {
        reply_empty(rq, 204, allow_text(rq->methods, allow));
    } else if (!takes(r, h->method)) {
        reply_error(rq, 405, "this path does not take this method", allow_text(rq->methods, allow));
    } else if (r->method != METHOD_GET && !same_origin(h)) {
        reply_error(rq, 403, "refused: sent by a web page of another site (Origin is not Host)",
                    NULL);
    } else if (head_has(h, FIELD_EXPECT) && !expects_continue(h)) {
        reply_error(rq, 417, "the only expectation met is 100-continue", NULL);
    } else if (takes_body(r) && !r->bare && !head_has(h, FIELD_LENGTH) && !h->chunked) {
        h->keep_alive = false;
        reply_error(rq, 411, "a body with Content-Length or chunked encoding is needed", NULL);
    } else if (!takes_body(r) && (h->length || h->chunked)) {
        reply_error(rq, 400, "this path takes its arguments after '?', not in a body", NULL);
    } else if (h->length > most) {
        refuse(&m, 413, "request body of %llu bytes is over %zu", (unsigned long long)h->length,
               most);
        reply_error(rq, 413, m.text, NULL);
    } else {
        h->keep_alive = was_alive;
        return false;
    }
    return true;
}

// ---- requests ----

// What to do with a connection after a step.
enum step {
    STEP_RUN,   // a whole request lies at the start of the in-buffer: run it
    STEP_AGAIN, // something was done: look again
    STEP_MORE,  // the rest are verdicts
    STEP_WAIT,
    STEP_CLOSE,
    STEP_DROP,
};

static void set_timer(struct conn *c, struct http_conn *st, enum http_timer t, uint64_t ms)
{
    st->timer = (uint8_t)t;
    conn_deadline(c, ms);
}

// More input is needed: how long for is a matter of the phase.
static enum step want_more(struct conn *c, struct http_conn *st)
{
    if (conn_eof(c))
        return STEP_CLOSE;
    if (st->phase != PHASE_HEAD)
        set_timer(c, st, TIMER_BODY, HTTP_BODY_MS);
    else if (buf_len(conn_in(c)) == 0)
        set_timer(c, st, TIMER_IDLE, HTTP_IDLE_MS);
    else if (st->timer != TIMER_HEAD) // counts from the head's first byte
        set_timer(c, st, TIMER_HEAD, HTTP_HEAD_MS);
    return STEP_MORE;
}

// Ends the reply that began at `mark`; it leaves when its truth is durable.
static enum step finish(struct request *rq, uint64_t mark)
{
    enum err e = reply_end(rq);
    if (e == ERR_TOO_BIG) {
        rq->failed = ERR_OK;
        reply_error(rq, 500, "the reply is over the connection's reply buffer", NULL);
        e = reply_end(rq);
    }
    if (e)
        return STEP_DROP; // no memory for even an error
    conn_gate(rq->conn, mark, rq->dep);
    return rq->head.keep_alive ? STEP_AGAIN : STEP_CLOSE;
}

// The head lies at the start of the in-buffer, also while the body is coming.
static unsigned parse_head(struct request *rq, struct errmsg *msg)
{
    struct slice in = buf_slice(conn_in(rq->conn));
    return head_parse(&rq->head, slice_of(in.p, rq->state->scan.size), msg);
}

// A refusal after which the rest of the input has no meaning.
static enum step refuse_input(struct request *rq, unsigned status, const struct errmsg *m)
{
    uint64_t mark = conn_mark(rq->conn);
    struct errmsg ignored;
    // In the middle of a body: its head was good, and tells how the path words its failures.
    if (rq->state->phase != PHASE_HEAD && !parse_head(rq, &ignored))
        split_target(rq);
    rq->head.keep_alive = false;
    reply_error(rq, status, m->text, NULL);
    buf_clear(conn_in(rq->conn));
    return finish(rq, mark);
}

// Waits for a head. STEP_RUN: it is there.
static enum step take_head(struct request *rq)
{
    struct http_conn *st = rq->state;
    struct buf *in = conn_in(rq->conn);
    struct errmsg m;
    // Blank lines before a request are passed over (RFC 9112 section 2.2).
    while (st->scan.at == 0 && buf_len(in) >= 2 && memcmp(buf_head(in), "\r\n", 2) == 0)
        buf_consume(in, 2);
    if (buf_len(in) == 0 || (buf_len(in) == 1 && *buf_head(in) == '\r'))
        return want_more(rq->conn, st);
    unsigned status = head_find(&st->scan, buf_slice(in), &m);
    if (status)
        return refuse_input(rq, status, &m);
    return st->scan.size ? STEP_RUN : want_more(rq->conn, st);
}

// Waits for a body. STEP_RUN: it is there, and lies behind the head.
static enum step take_body(struct request *rq)
{
    struct http_conn *st = rq->state;
    struct buf *in = conn_in(rq->conn);
    struct errmsg m;
    bool ready = true;
    if (st->phase == PHASE_LENGTH) {
        ready = buf_len(in) - st->scan.size >= st->body_len;
    } else if (st->phase == PHASE_CHUNKS) {
        unsigned status = chunk_decode(&st->chunk, in, rq->http->o.max_request, &ready, &m);
        if (status)
            return refuse_input(rq, status, &m);
        st->body_len = st->chunk.write - st->scan.size;
    }
    if (!ready)
        return want_more(rq->conn, st);
    st->phase = PHASE_READY;
    return STEP_RUN;
}

// The head is there and in order.
static enum step begin_body(struct request *rq)
{
    struct http_conn *st = rq->state;
    const struct head *h = &rq->head;
    size_t head = st->scan.size;
    size_t got = buf_len(conn_in(rq->conn)) - head;
    st->body_len = (size_t)h->length;
    if (!h->chunked && got >= st->body_len)
        return STEP_RUN;
    if (expects_continue(h) && !h->old && got == 0) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        if (buf_append(rq->out, go_on, sizeof go_on - 1) != ERR_OK)
            return STEP_DROP;
    }
    st->phase = h->chunked ? PHASE_CHUNKS : PHASE_LENGTH;
    st->chunk = (struct chunk_decoder){.head = head, .write = head, .read = head};
    return STEP_AGAIN;
}

static void next_request(struct http_conn *st, struct buf *in)
{
    buf_consume(in, st->scan.size + st->body_len);
    st->phase = PHASE_HEAD;
    st->body_len = 0;
    st->scan = (struct head_scan){0};
    st->timer = TIMER_NONE; // the next head's time begins anew
}

// Brings a request together at the start of the in-buffer.
static enum step gather(struct request *rq)
{
    struct http_conn *st = rq->state;
    struct buf *in = conn_in(rq->conn);
    struct errmsg m;
    bool fresh = st->phase == PHASE_HEAD;
    enum step s = fresh ? take_head(rq) : take_body(rq);
    if (s != STEP_RUN)
        return s;
    // After a wait the bytes may lie elsewhere: the head is parsed anew, never kept.
    unsigned status = parse_head(rq, &m);
    if (status)
        return refuse_input(rq, status, &m);
    split_target(rq);
    if (!fresh)
        return STEP_RUN;
    uint64_t mark = conn_mark(rq->conn);
    if (!refuse_early(rq))
        return begin_body(rq);
    next_request(st, in);
    return finish(rq, mark);
}

// Runs the request at the start of the in-buffer; STEP_WAIT leaves it there.
static enum step run(struct request *rq)
{
    struct http_conn *st = rq->state;
    struct buf *in = conn_in(rq->conn);
    uint64_t mark = conn_mark(rq->conn);
    rq->body = slice_of(buf_head(in) + st->scan.size, st->body_len);
    enum err waited = st->wait_err;
    st->wait_err = ERR_OK;
    if (waited) {
        reply_err(rq, waited, NULL);
    } else if (rq->route->run(rq) == CONN_WAIT) {
        st->phase = PHASE_READY;
        set_timer(rq->conn, st, TIMER_NONE, 0);
        return STEP_WAIT;
    }
    next_request(st, in);
    enum step s = finish(rq, mark);
    return s == STEP_CLOSE && st->tail ? STEP_AGAIN : s; // its body has only begun
}

static enum conn_verdict on_input(struct conn *c)
{
    static const enum conn_verdict verdicts[] = {[STEP_MORE] = CONN_MORE,
                                                 [STEP_WAIT] = CONN_WAIT,
                                                 [STEP_CLOSE] = CONN_CLOSE,
                                                 [STEP_DROP] = CONN_DROP};
    struct http_conn *st = conn_state(c);
    uint8_t scratch[LIMIT_HTTP_URL];
    for (;;) {
        if (st->tail)
            return tail_input(c, st);
        if (conn_pending(c) >= LIMIT_OUT_STOP) { // net counts the time of those who do not read
            set_timer(c, st, TIMER_NONE, 0);
            return CONN_MORE;
        }
        struct request rq = {
            .http = conn_arg(c), .conn = c, .state = st, .out = conn_out(c), .scratch = scratch};
        enum step s = gather(&rq);
        if (s == STEP_RUN)
            s = run(&rq);
        if (s >= STEP_MORE)
            return verdicts[s];
    }
}

static enum err on_open(struct conn *c)
{
    set_timer(c, conn_state(c), TIMER_IDLE, HTTP_IDLE_MS);
    return ERR_OK;
}

static enum conn_verdict on_deadline(struct conn *c)
{
    struct http_conn *st = conn_state(c);
    struct errmsg m;
    if (st->timer == TIMER_TAIL)
        return tail_deadline(c);
    if (st->timer != TIMER_HEAD && st->timer != TIMER_BODY)
        return CONN_CLOSE;
    struct request rq = {.http = conn_arg(c), .conn = c, .state = st, .out = conn_out(c)};
    if (st->timer == TIMER_HEAD)
        refuse(&m, 408, "the request's head did not arrive within %u s", HTTP_HEAD_MS / 1000);
    else
        refuse(&m, 408, "the request's body made no progress for %u s", HTTP_BODY_MS / 1000);
    return refuse_input(&rq, 408, &m) == STEP_DROP ? CONN_DROP : CONN_CLOSE;
}

static void on_dead(struct conn *c)
{
    struct http_conn *st = conn_state(c);
    if (st->tail)
        tail_unwatch(c, st->tail);
}

// No thread holds the connection any more, so a job under way has ended.
static void on_close(struct conn *c)
{
    struct http_conn *st = conn_state(c);
    if (st->job)
        st->job->free(st->job);
    free(st->tail);
}

// ---- waiting ----

// Any thread; the hold keeps the state.
static void waited(void *arg, enum err e)
{
    struct conn *c = arg;
    struct http_conn *st = conn_state(c);
    st->wait_err = e;
    conn_resume(c);
}

enum conn_verdict request_fetch(struct request *rq, const struct key_ref *keys, size_t count)
{
    conn_hold(rq->conn);
    enum err e = commit_fetch(rq->http->o.commit, keys, count, waited, rq->conn);
    if (e)
        waited(rq->conn, e);
    return CONN_WAIT;
}

enum conn_verdict request_txn_fetch(struct request *rq, const struct txn *t)
{
    conn_hold(rq->conn);
    enum err e = commit_txn_fetch(rq->http->o.commit, t, waited, rq->conn);
    if (e)
        waited(rq->conn, e);
    return CONN_WAIT;
}

enum conn_verdict request_rel_fetch(struct request *rq, const struct rel_ref *lists, size_t count)
{
    conn_hold(rq->conn);
    enum err e = commit_rel_fetch(rq->http->o.commit, lists, count, waited, rq->conn);
    if (e)
        waited(rq->conn, e);
    return CONN_WAIT;
}

enum conn_verdict request_room(struct request *rq)
{
    conn_hold(rq->conn);
    enum err e = commit_wait_room(rq->http->o.commit, waited, rq->conn);
    if (e)
        waited(rq->conn, e);
    return CONN_WAIT;
}

// ---- the edge ----

enum err http_new(struct http **h, const struct http_options *o)
{
    VERIFY(o->max_request >= 1 && o->max_request <= LIMIT_REQUEST_HARD);
    struct http *n = calloc(1, sizeof *n);
    if (!n)
        return ERR_NO_MEMORY;
    n->o = *o;
    pthread_mutex_init(&n->lock, NULL);
    n->protocol = (struct protocol){
        .name = "http",
        .state_size = sizeof(struct http_conn),
        // a head, a body, and a line or the trailer of a chunked body
        .in_max = o->max_request + LIMIT_HTTP_URL + 3 * LIMIT_HTTP_HEADERS,
        .arg = n,
        .on_open = on_open,
        .on_input = on_input,
        .on_deadline = on_deadline,
        .on_dead = on_dead,
        .on_close = on_close,
    };
    *h = n;
    return ERR_OK;
}

const struct protocol *http_protocol(const struct http *h)
{
    return &h->protocol;
}

void http_free(struct http *h)
{
    while (h && h->idle) {
        struct http_work *w = h->idle;
        h->idle = w->next;
        work_free(w);
    }
    if (h)
        pthread_mutex_destroy(&h->lock);
    free(h);
}
