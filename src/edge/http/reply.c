// Writes replies straight into the connection's out-buffer. The status line and fields come first
// although the body's length is not known yet: Content-Length is written as blanks (optional
// whitespace, RFC 9112 section 5.1) and filled in by reply_end.
//
// Replies are as small as they can be: no Server and no Date field (nothing here may be cached,
// which is what Date is for).
#include "base/assert.h"
#include "edge/http/http_int.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define LENGTH_FIELD  "Content-Length:         0\r\n\r\n"
#define LENGTH_DIGITS 9u // of which the first stays blank
#define SEQ_FIELD     "X-Varve-Sequence:                     0\r\n"
#define SEQ_DIGITS    21u
_Static_assert(LIMIT_OUT_CLOSE < 100000000u, "a reply's length has at most 8 digits");

static const char *status_line(unsigned status)
{
    switch (status) {
#define X(code, text) \
    case code:        \
        return "HTTP/1.1 " #code " " text "\r\n";
        X(200, "OK")
        X(204, "No Content")
        X(400, "Bad Request")
        X(403, "Forbidden")
        X(404, "Not Found")
        X(405, "Method Not Allowed")
        X(408, "Request Timeout")
        X(409, "Conflict")
        X(411, "Length Required")
        X(413, "Content Too Large")
        X(414, "URI Too Long")
        X(417, "Expectation Failed")
        X(422, "Unprocessable Content")
        X(431, "Request Header Fields Too Large")
        X(501, "Not Implemented")
        X(503, "Service Unavailable")
        X(505, "HTTP Version Not Supported")
#undef X
    default:
        return "HTTP/1.1 500 Internal Server Error\r\n";
    }
}

unsigned refuse(struct errmsg *msg, unsigned status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(msg->text, sizeof msg->text, format, args);
    va_end(args);
    return status;
}

const char *key_text(struct slice key, char text[KEY_TEXT])
{
    static const char hex[] = "0123456789abcdef";
    size_t max = key.n > 64 ? 61 : key.n;
    bool utf8 = utf8_valid(key);
    if (utf8)
        while (max < key.n && max && (key.p[max] & 0xc0) == 0x80)
            max--; // not inside a character
    size_t n = 0;
    for (size_t i = 0; i < max; i++) {
        uint8_t c = key.p[i];
        if (c >= 0x20 && (c < 0x7f || (utf8 && c > 0x7f))) {
            text[n++] = (char)c;
        } else {
            text[n++] = '\\';
            text[n++] = 'x';
            text[n++] = hex[c >> 4];
            text[n++] = hex[c & 15];
        }
    }
    memcpy(text + n, max < key.n ? "..." : "", max < key.n ? 4 : 1);
    return text;
}

static void put(struct buf *out, const char *s)
{
    buf_put(out, s, strlen(s));
}

void reply_begin(struct request *rq, unsigned status, const char *type, const char *extra)
{
    struct buf *out = rq->out;
    rq->begin = buf_len(out);
    rq->length_at = rq->seq_at = 0;
    reply_note(rq, buf_reserve(out, 384 + (extra ? strlen(extra) : 0)));
    if (rq->failed)
        return;
    put(out, status_line(status));
    if (!rq->head.keep_alive)
        put(out, "Connection: close\r\n");
    else if (rq->head.old)
        put(out, "Connection: keep-alive\r\n");
    if (head_has(&rq->head, FIELD_TRACE)) {
        rq->seq_at = buf_len(out) + strlen(SEQ_FIELD) - 2;
        put(out, SEQ_FIELD);
    }
    if (extra)
        put(out, extra);
    if (type) {
        put(out, "Content-Type: ");
        put(out, type);
        put(out, "\r\n" LENGTH_FIELD);
        rq->length_at = buf_len(out) - 4;
    } else {
        put(out, "\r\n");
    }
    rq->body_at = buf_len(out);
}

// Writes the digits of v so that they end before `end`.
static void put_digits(uint8_t *end, uint64_t v, size_t most)
{
    do {
        VERIFY(most-- > 1);
        *--end = (uint8_t)('0' + v % 10);
        v /= 10;
    } while (v);
}

enum err reply_end(struct request *rq)
{
    struct buf *out = rq->out;
    if (rq->failed) {
        out->end = out->start + rq->begin;
        return rq->failed;
    }
    if (rq->length_at)
        put_digits(buf_head(out) + rq->length_at, buf_len(out) - rq->body_at, LENGTH_DIGITS);
    if (rq->seq_at)
        put_digits(buf_head(out) + rq->seq_at, rq->seq ? rq->seq : rq->dep, SEQ_DIGITS);
    if (rq->head.method == METHOD_HEAD)
        out->end = out->start + rq->body_at;
    return ERR_OK;
}

void reply_empty(struct request *rq, unsigned status, const char *extra)
{
    reply_begin(rq, status, NULL, extra);
}

void reply_error(struct request *rq, unsigned status, const char *text, const char *extra)
{
    reply_begin(rq, status, TYPE_JSON, extra);
    reply_text(rq, rq->route && rq->route->writes ? "{\"result\":\"Failure\",\"error\":"
                                                  : "{\"error\":");
    struct errmsg safe; // a text that was cut may end inside a character
    size_t n = strnlen(text, sizeof safe.text - 1);
    for (size_t i = 0; i < n; i++)
        safe.text[i] = (text[i] & 0x80) ? '?' : text[i];
    reply_note(rq, json_put_string(rq->out, utf8_valid(slice_str(text)) ? slice_str(text)
                                                                        : slice_of(safe.text, n)));
    reply_text(rq, "}");
}

enum conn_verdict reply_refused(struct request *rq, unsigned status, const struct errmsg *m)
{
    reply_error(rq, status, m->text, status == 503 ? "Retry-After: 1\r\n" : NULL);
    return CONN_MORE;
}

void reply_err(struct request *rq, enum err e, const struct errmsg *msg)
{
    const char *text = msg && msg->text[0] ? msg->text : err_text(e);
    switch (e) {
    case ERR_INVALID:
        reply_error(rq, 400, text, NULL);
        break;
    case ERR_MISSING:
    case ERR_NO_KEYSPACE:
        reply_error(rq, 404, text, NULL);
        break;
    case ERR_CONFLICT:
    case ERR_EXISTS:
        reply_error(rq, 409, text, NULL);
        break;
    case ERR_TOO_BIG:
        reply_error(rq, 413, text, NULL);
        break;
    case ERR_TYPE:
    case ERR_OVERFLOW:
    case ERR_REUSED: // well-formed, but cannot be carried out on what is stored
        reply_error(rq, 422, text, NULL);
        break;
    case ERR_UNSUPPORTED:
        reply_error(rq, 501, text, NULL);
        break;
    case ERR_NO_SPACE:
        reply_error(rq, 503, text, "Retry-After: 10\r\n");
        break;
    case ERR_FULL:
    case ERR_AGAIN:
    case ERR_AWAY:
    case ERR_NO_MEMORY:
    case ERR_CLOSED:
        reply_error(rq, 503, text, "Retry-After: 1\r\n");
        break;
    default:
        reply_error(rq, 500, text, NULL);
    }
}

void reply_uint(struct request *rq, uint64_t v)
{
    reply_note(rq, json_put_uint(rq->out, v));
}

void reply_bytes(struct request *rq, struct slice s)
{
    reply_note(rq, json_put_bytes(rq->out, s));
}

void reply_value(struct request *rq, const struct value_view *v)
{
    reply_note(rq, json_put_value(rq->out, v));
}

enum err json_put_bytes(struct buf *b, struct slice s)
{
    if (utf8_valid(s))
        return json_put_string(b, s);
    enum err e = buf_reserve(b, 4 * s.n + 1);
    if (e)
        return e;
    uint8_t *to = buf_tail(b);
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        *to++ = i ? ',' : '[';
        if (c >= 100)
            *to++ = (uint8_t)('0' + c / 100);
        if (c >= 10)
            *to++ = (uint8_t)('0' + c / 10 % 10);
        *to++ = (uint8_t)('0' + c % 10);
    }
    *to++ = ']';
    b->end = (size_t)(to - b->data);
    return ERR_OK;
}

enum err json_put_value(struct buf *b, const struct value_view *v)
{
    double d;
    switch (v->type) {
    case VALUE_INT:
        VERIFY(v->value.n == 8);
        return json_put_int(b, (int64_t)load64(v->value.p));
    case VALUE_FLOAT:
        VERIFY(v->value.n == 8);
        memcpy(&d, v->value.p, sizeof d);
        return isfinite(d) ? json_put_float(b, d) : buf_append(b, "null", 4);
    case VALUE_BOOL:
        VERIFY(v->value.n == 1);
        return v->value.p[0] ? buf_append(b, "true", 4) : buf_append(b, "false", 5);
    case VALUE_ARRAY:
        return buf_append(b, v->value.p, v->value.n);
    case VALUE_STRING:
        return json_put_string(b, v->value);
    default:
        return json_put_bytes(b, v->value);
    }
}
