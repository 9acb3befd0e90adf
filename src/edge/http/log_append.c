// POST /v1/logs/KS/KEY: a body becomes records, appended by a transaction of one operation.
//
//   JSON            {"records":[R,...]} or one R. R is {"record":V,"nonce":N,"timestamp":T} with
//                   V a string, or {"base64":"...",...} for bytes; N and T may be missing
//   encoding=raw    the body is one record
//   encoding=lines  each line is one, without its LF or CRLF
//
// Records are appended from where they lie: in the body, or in the JSON parser.
#include "base/base64.h"
#include "base/hash.h"
#include "edge/http/log_int.h"
#include <stdarg.h>
#include <stdio.h>

// ---- JSON ----

struct reading {
    const struct http_options *o;
    struct http_work *work;
    struct errmsg *msg;
    size_t index; // of the record under way
};

__attribute__((format(printf, 3, 4))) static unsigned
refuse_record(struct reading *r, unsigned status, const char *format, ...)
{
    char what[200];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return refuse(r->msg, status, "record %zu: %s", r->index, what);
}

static unsigned check_bytes(struct reading *r, struct slice s)
{
    if (s.n > r->o->max_value)
        return refuse_record(r, 413, "%zu bytes are over %u", s.n, r->o->max_value);
    return 0;
}

static unsigned read_base64(struct reading *r, struct slice text, struct slice *bytes)
{
    size_t cap = text.n / 4 * 3;
    if (text.n == 0) {
        *bytes = slice_of(NULL, 0);
        return 0;
    }
    if (text.n / 4 * 3 > (size_t)r->o->max_value + 2)
        return refuse_record(r, 413, "%zu characters of base64 are over %u bytes", text.n,
                             r->o->max_value);
    uint8_t *p = work_alloc(r->work, cap);
    if (!p)
        return refuse(r->msg, 503, "%s", err_text(ERR_NO_MEMORY));
    struct buf b = {.data = p, .cap = cap, .max = cap}; // never grows: the room is enough
    if (base64_get(&b, text))
        return refuse_record(r, 400, "\"base64\" is not base64 (RFC 4648, with padding)");
    *bytes = slice_of(p, b.end);
    return check_bytes(r, *bytes);
}

static unsigned read_nonce(struct reading *r, struct json v, u128 *nonce)
{
    enum json_kind k = json_kind(v);
    bool good = k == JSON_STRING ? u128_parse(json_string(v), nonce) && *nonce != NONCE_NONE
                                 : k == JSON_UINT || (k == JSON_INT && json_int(v) >= 0);
    if (!good)
        return refuse_record(r, 400,
                             "\"nonce\" must be a whole number from 0 to 2^128 - 2; past 2^64 - 1 "
                             "as a string of decimal digits");
    if (k != JSON_STRING)
        *nonce = json_uint(v);
    return 0;
}

enum member { M_RECORD, M_BASE64, M_NONCE, M_TIMESTAMP, MEMBERS };
static const char *const member_names[MEMBERS] = {"record", "base64", "nonce", "timestamp"};

static int member_of(struct slice name)
{
    for (int m = 0; m < MEMBERS; m++)
        if (slice_equal(name, slice_str(member_names[m])))
            return m;
    return -1;
}

static unsigned read_member(struct reading *r, int m, struct json v, struct log_input *in)
{
    switch (m) {
    case M_NONCE:
        return read_nonce(r, v, &in->nonce);
    case M_TIMESTAMP:
        if (json_kind(v) != JSON_INT)
            return refuse_record(r, 400, "\"timestamp\" must be a whole number of 64 bits signed");
        in->timestamp = json_int(v);
        in->has_timestamp = true;
        return 0;
    default:
        if (json_kind(v) != JSON_STRING)
            return refuse_record(r, 400, "\"%s\" must be a string, not %s", member_names[m],
                                 json_kind_name(json_kind(v)));
        if (m == M_BASE64)
            return read_base64(r, json_string(v), &in->bytes);
        in->bytes = json_string(v);
        return check_bytes(r, in->bytes);
    }
}

static unsigned read_record(struct reading *r, struct json v, struct log_input *in)
{
    char text[KEY_TEXT];
    struct slice name;
    struct json value;
    unsigned seen = 0;
    *in = (struct log_input){.nonce = NONCE_NONE};
    if (json_kind(v) != JSON_OBJECT)
        return refuse_record(r, 400, "must be an object, not %s", json_kind_name(json_kind(v)));
    for (struct json_iter it = json_iterate(v); json_next(&it, &name, &value);) {
        int m = member_of(name);
        if (m < 0)
            return refuse_record(r, 400, "unknown member \"%s\"", key_text(name, text));
        if (seen >> m & 1)
            return refuse_record(r, 400, "member \"%s\" is given twice", member_names[m]);
        seen |= 1u << m;
        unsigned status = read_member(r, m, value, in);
        if (status)
            return status;
    }
    unsigned both = 1u << M_RECORD | 1u << M_BASE64;
    if ((seen & both) == both)
        return refuse_record(r, 400, "\"record\" and \"base64\" exclude each other");
    if (!(seen & both))
        return refuse_record(r, 400, "\"record\" is missing");
    return 0;
}

static unsigned records_alloc(struct http_work *w, size_t count, struct log_input **to,
                              struct errmsg *msg)
{
    if (count > LIMIT_APPEND_RECORDS)
        return refuse(msg, 413, "%zu records in one append are over %u", count,
                      LIMIT_APPEND_RECORDS);
    *to = work_alloc(w, count * sizeof **to);
    return *to ? 0 : refuse(msg, 503, "%s", err_text(ERR_NO_MEMORY));
}

unsigned log_read_records(const struct http_options *o, struct http_work *w, struct json list,
                          struct log_append *a, struct errmsg *msg)
{
    struct reading r = {.o = o, .work = w, .msg = msg};
    struct log_input *to;
    if (json_kind(list) != JSON_ARRAY)
        return refuse(msg, 400, "\"records\" must be an array of objects, not %s",
                      json_kind_name(json_kind(list)));
    a->count = json_count(list);
    if (a->count == 0)
        return refuse(msg, 400, "\"records\" is an empty array");
    unsigned status = records_alloc(w, a->count, &to, msg);
    if (status)
        return status;
    a->records = to;
    struct json_iter it = json_iterate(list);
    for (struct json v; !status && json_next(&it, NULL, &v); r.index++)
        status = read_record(&r, v, &to[r.index]);
    return status;
}

static unsigned read_json(struct request *rq, struct http_work *w, struct log_append *a,
                          struct errmsg *msg)
{
    struct json root, v;
    struct slice name;
    struct log_input *to;
    unsigned status = body_parse(rq, w, &root, msg);
    if (status)
        return status;
    if (json_kind(root) != JSON_OBJECT)
        return refuse(msg, 400, "the body must be {\"records\":[...]} or one record, not %s",
                      json_kind_name(json_kind(root)));
    struct json_iter it = json_iterate(root);
    if (json_next(&it, &name, &v) && slice_equal(name, slice_str("records"))) {
        char text[KEY_TEXT];
        struct json other;
        if (json_next(&it, &name, &other))
            return refuse(msg, 400, "unknown member \"%s\" beside \"records\"",
                          key_text(name, text));
        return log_read_records(&rq->http->o, w, v, a, msg);
    }
    status = records_alloc(w, 1, &to, msg);
    if (status)
        return status;
    a->records = to;
    a->count = 1;
    struct reading r = {.o = &rq->http->o, .work = w, .msg = msg};
    return read_record(&r, root, to);
}

// ---- raw and lines ----

// Takes a line off `s`, without its end.
static struct slice take_line(struct slice *s)
{
    const uint8_t *lf = memchr(s->p, '\n', s->n);
    size_t n = lf ? (size_t)(lf - s->p) : s->n;
    struct slice line = slice_of(s->p, n && lf && lf[-1] == '\r' ? n - 1 : n);
    *s = slice_of(s->p + n + (lf != NULL), s->n - n - (lf != NULL));
    return line;
}

static size_t count_lines(struct slice s)
{
    size_t n = 0;
    for (const uint8_t *lf; s.n && (lf = memchr(s.p, '\n', s.n)); n++)
        s = slice_of(lf + 1, s.n - (size_t)(lf + 1 - s.p));
    return n + (s.n > 0);
}

// `first` holds the nonce and timestamp that were given.
static unsigned read_bytes(struct request *rq, struct http_work *w, bool lines,
                           const struct log_input *first, struct log_append *a, struct errmsg *msg)
{
    struct reading r = {.o = &rq->http->o, .work = w, .msg = msg};
    struct slice rest = rq->body;
    struct log_input *to;
    a->count = lines ? count_lines(rest) : 1;
    if (a->count == 0)
        return refuse(msg, 400, "the body holds no line");
    unsigned status = records_alloc(w, a->count, &to, msg);
    if (status)
        return status;
    if (first->nonce != NONCE_NONE && first->nonce > NONCE_NONE - a->count)
        return refuse(msg, 400, "argument \"nonce\": the nonces of %zu lines pass 2^128 - 2",
                      a->count);
    a->records = to;
    for (; r.index < a->count; r.index++) {
        to[r.index] =
            (struct log_input){.bytes = lines ? take_line(&rest) : rest, .nonce = NONCE_NONE};
        if (first->nonce != NONCE_NONE)
            to[r.index].nonce = first->nonce + r.index;
        if ((status = check_bytes(&r, to[r.index].bytes)))
            return status;
    }
    to[0].timestamp = first->timestamp;
    to[0].has_timestamp = first->has_timestamp;
    return 0;
}

// ---- the request ----

static unsigned read_body(struct request *rq, struct http_work *w, struct log_append *a,
                          struct errmsg *msg)
{
    struct param params[] = {{.name = "encoding"}, {.name = "nonce"}, {.name = "timestamp"}};
    struct log_input first = {.nonce = NONCE_NONE};
    unsigned status = query_parse(rq, params, 3, msg);
    if (!status && params[1].given)
        status = query_nonce(&params[1], &first.nonce, msg);
    if (!status && params[2].given)
        status = query_signed(&params[2], &first.timestamp, msg);
    if (status)
        return status;
    first.has_timestamp = params[2].given;
    struct slice encoding = params[0].value;
    bool lines = slice_equal(encoding, slice_str("lines"));
    if (lines || slice_equal(encoding, slice_str("raw")))
        return read_bytes(rq, w, lines, &first, a, msg);
    if (params[0].given && !slice_equal(encoding, slice_str("json")))
        return refuse(msg, 400, "argument \"encoding\" must be json, raw or lines");
    if (params[1].given || params[2].given)
        return refuse(msg, 400,
                      "arguments \"nonce\" and \"timestamp\" go with encoding=raw or lines");
    return read_json(rq, w, a, msg);
}

static void reply_appended(struct request *rq, const struct txn *t, const struct log_append *a)
{
    char nonce[U128_TEXT];
    reply_begin(rq, 200, TYPE_JSON, t->replayed ? REPLAYED : NULL);
    reply_text(rq, "{\"result\":\"Success\",\"first_offset\":");
    reply_uint(rq, a->first_offset);
    reply_text(rq, ",\"next_offset\":");
    reply_uint(rq, a->end_offset);
    reply_text(rq, ",\"appended\":");
    reply_uint(rq, a->appended);
    reply_text(rq, ",\"duplicates\":");
    reply_uint(rq, a->count - a->appended);
    reply_text(rq, ",\"next_nonce\":\"");
    u128_format(a->next_nonce, nonce);
    reply_text(rq, nonce);
    reply_text(rq, "\"");
    if (a->appended && !t->replayed) {
        reply_text(rq, ",\"timestamp\":");
        reply_note(rq, json_put_int(rq->out, a->timestamp));
    }
    reply_text(rq, "}");
}

static enum conn_verdict append(struct request *rq, struct http_work *w)
{
    struct errmsg m = {""};
    struct log_append a = {0};
    struct txn_op op = {.kind = TXN_APPEND, .append = &a};
    struct txn t = {.ops = &op, .count = 1};
    unsigned status = log_path(rq, &a.name, &m);
    if (!status)
        status = read_body(rq, w, &a, &m);
    if (!status && head_has(&rq->head, FIELD_IDEMPOTENCY)) {
        status = read_idempotency(rq->head.field[FIELD_IDEMPOTENCY], &t, &m);
        t.request_hash = hash64(rq->body, hash64(rq->head.target, REQUEST_SEED));
    }
    if (status)
        return reply_refused(rq, status, &m);
    enum err e = commit_txn(rq->http->o.commit, &t, &rq->dep, &m);
    if (e)
        return txn_failed(rq, &t, e, &m);
    rq->seq = t.seq;
    reply_appended(rq, &t, &a);
    return CONN_MORE;
}

enum conn_verdict route_log_append(struct request *rq)
{
    struct http_work *w = work_get(rq->http);
    if (!w) {
        reply_err(rq, ERR_NO_MEMORY, NULL);
        return CONN_MORE;
    }
    enum conn_verdict v = append(rq, w);
    work_put(rq->http, w);
    return v;
}
