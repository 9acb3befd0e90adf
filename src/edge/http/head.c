// A request's head: the request line and the header fields, up to the empty line.
//
// A head is parsed only when all of it is there, in one call over contiguous bytes, so that any
// split of the input gives the same result and every part is one slice. What matters for framing is
// decided here as strictly as RFC 9112 allows, because a proxy in front that reads it differently
// could be made to smuggle a request: lines end in CRLF (a bare LF is refused), no folding, at most
// one Content-Length and Transfer-Encoding and never both, "chunked" the only coding, none in
// HTTP/1.0. The library is usually built without its strict mode, so names and the target are
// looked at again.
#include "edge/http/http_int.h"
#include <http_parser.h>
#include <strings.h>

bool line_clean(struct slice line)
{
    bool bad = false;
    for (size_t i = 0; i < line.n; i++) // no early end, so that it is done 16 bytes at a time
        bad |= (line.p[i] < 0x20 && line.p[i] != '\t') || line.p[i] == 0x7f;
    return !bad;
}

unsigned head_find(struct head_scan *s, struct slice in, struct errmsg *msg)
{
    if (in.n && (in.p[0] < 'A' || in.p[0] > 'Z'))
        return refuse(msg, 400, "malformed request: it begins with byte 0x%02x, not a method",
                      in.p[0]);
    while (s->at < in.n) {
        const uint8_t *lf = memchr(in.p + s->at, '\n', in.n - s->at);
        size_t end = lf ? (size_t)(lf - in.p) + 1 : in.n;
        if (!s->request_line && end > LIMIT_HTTP_URL)
            return refuse(msg, 414, "request line is over %u bytes", LIMIT_HTTP_URL);
        if (s->request_line && end - s->request_line > LIMIT_HTTP_HEADERS)
            return refuse(msg, 431, "header fields are over %u bytes", LIMIT_HTTP_HEADERS);
        s->at = (uint32_t)end;
        if (!lf)
            return 0;
        size_t size = end - s->line; // of this line with its end
        if (size < 2 || in.p[end - 2] != '\r')
            return refuse(msg, 400, "malformed request: a line ends in LF without CR");
        uint8_t first = in.p[s->line];
        if (first == ' ' || first == '\t')
            return refuse(msg, 400, "malformed request: a header field is folded");
        if (!line_clean(slice_of(in.p + s->line, size - 2))) // a CR alone among others
            return refuse(msg, 400, "malformed request: a control character in its head");
        s->line = (uint32_t)end;
        if (!s->request_line) {
            s->request_line = (uint32_t)end;
        } else if (size == 2) {
            s->size = (uint32_t)end;
            return 0;
        }
    }
    return 0;
}

struct parse {
    struct head *head;
    struct errmsg *msg;
    int field;       // enum head_field of the field under way, -1 for others
    unsigned status; // set when a callback refuses
};

static bool same_name(const char *a, const char *b, size_t n)
{
    return strncasecmp(a, b, n) == 0;
}

static int field_of(const char *at, size_t n)
{
    switch (n) {
    case 4:
        return same_name(at, "Host", n) ? FIELD_HOST : -1;
    case 6:
        return same_name(at, "Origin", n)   ? FIELD_ORIGIN
               : same_name(at, "Expect", n) ? FIELD_EXPECT
                                            : -1;
    case 13:
        return same_name(at, "X-Varve-Trace", n) ? FIELD_TRACE : -1;
    case 15:
        return same_name(at, "Idempotency-Key", n) ? FIELD_IDEMPOTENCY : -1;
    case 17:
        return same_name(at, "Transfer-Encoding", n) ? FIELD_ENCODING : -1;
    default:
        return -1;
    }
}

// Each callback runs once for its part, because the whole head is parsed in one call.
static int on_url(http_parser *p, const char *at, size_t n)
{
    struct parse *s = p->data;
    bool bad = false;
    for (size_t i = 0; i < n; i++)
        bad |= (uint8_t)at[i] <= 0x20 || (uint8_t)at[i] >= 0x7f;
    s->head->target = slice_of(at, n);
    if (bad)
        s->status = refuse(s->msg, 400,
                           "malformed request: a character in the target that must "
                           "be written as %%XX");
    return bad ? -1 : 0;
}

static int on_field(http_parser *p, const char *at, size_t n)
{
    struct parse *s = p->data;
    s->field = field_of(at, n);
    if (!memchr(at, ' ', n))
        return 0;
    s->status = refuse(s->msg, 400, "malformed request: a blank in a header field's name");
    return -1;
}

static int on_value(http_parser *p, const char *at, size_t n)
{
    struct parse *s = p->data;
    if (s->field < 0)
        return 0;
    unsigned bit = 1u << s->field;
    if (s->head->given & bit)
        s->status = refuse(s->msg, 400, "malformed request: a header field is given twice");
    s->head->given |= bit;
    while (n && (at[n - 1] == ' ' || at[n - 1] == '\t'))
        n--;
    s->head->field[s->field] = slice_of(at, n);
    return s->status ? -1 : 0;
}

static enum head_method method_of(unsigned m)
{
    switch (m) {
    case HTTP_GET:
        return METHOD_GET;
    case HTTP_HEAD:
        return METHOD_HEAD;
    case HTTP_POST:
        return METHOD_POST;
    case HTTP_DELETE:
        return METHOD_DELETE;
    case HTTP_OPTIONS:
        return METHOD_OPTIONS;
    default:
        return METHOD_OTHER;
    }
}

static unsigned refuse_parsed(enum http_errno e, struct slice text, struct errmsg *msg)
{
    if (e == HPE_INVALID_METHOD) {
        size_t n = 0;
        while (n < text.n && text.p[n] >= 'A' && text.p[n] <= 'Z')
            n++;
        if (text.p[n] == ' ')
            return refuse(msg, 501, "method %.*s is not known", n < 20 ? (int)n : 20,
                          (const char *)text.p);
    }
    if (e == HPE_INVALID_TRANSFER_ENCODING)
        return refuse(msg, 501, "the only transfer encoding is \"chunked\"");
    return refuse(msg, 400, "malformed request: %s",
                  e ? http_errno_description(e) : "the head ends too early");
}

static bool has(const struct head *h, enum head_field f)
{
    return h->given >> f & 1;
}

// What the grammar alone does not say.
static unsigned check_framing(struct head *h, const http_parser *p, struct errmsg *msg)
{
    if (p->http_major != 1)
        return refuse(msg, 505, "HTTP version %u.%u is not spoken here, 1.1 is", p->http_major,
                      p->http_minor);
    const uint8_t *after = h->target.p + h->target.n;
    if (h->target.p[-2] == ' ' || memcmp(after, " HTTP/", 6) != 0)
        return refuse(msg, 400, "malformed request: more than one blank in the request line");
    h->old = p->http_minor == 0;
    if (!h->old && !has(h, FIELD_HOST))
        return refuse(msg, 400, "malformed request: HTTP/1.1 needs a Host header field");
    h->has_length = (p->flags & F_CONTENTLENGTH) != 0;
    h->length = h->has_length ? p->content_length : 0;
    if (!has(h, FIELD_ENCODING))
        return 0;
    if (h->has_length)
        return refuse(msg, 400,
                      "malformed request: both Content-Length and Transfer-Encoding are given");
    if (h->old)
        return refuse(msg, 400, "malformed request: Transfer-Encoding in HTTP/1.0");
    struct slice coding = h->field[FIELD_ENCODING];
    h->chunked = coding.n == 7 && same_name((const char *)coding.p, "chunked", 7);
    if (!h->chunked)
        return refuse(msg, 501, "the only transfer encoding is \"chunked\"");
    return 0;
}

unsigned head_parse(struct head *h, struct slice text, struct errmsg *msg)
{
    static const http_parser_settings callbacks = {
        .on_url = on_url, .on_header_field = on_field, .on_header_value = on_value};
    *h = (struct head){.method = METHOD_OTHER};
    struct parse s = {.head = h, .msg = msg, .field = -1};
    http_parser p;
    http_parser_init(&p, HTTP_REQUEST);
    p.data = &s;
    size_t n = http_parser_execute(&p, &callbacks, (const char *)text.p, text.n);
    if (s.status)
        return s.status;
    enum http_errno e = HTTP_PARSER_ERRNO(&p);
    if (e != HPE_OK || n != text.n)
        return refuse_parsed(e, text, msg);
    h->method = method_of(p.method);
    h->keep_alive = http_should_keep_alive(&p) != 0;
    return check_framing(h, &p, msg);
}
