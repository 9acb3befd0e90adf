// A request's head: the request line and the header fields, up to the empty line.
//
//   head   = method SP target SP "HTTP/" digit "." digit CRLF  (name ":" blanks value blanks CRLF)*
//   CRLF
//
// A head is parsed only when all of it is there, so that any split of the input gives the same
// result and every part is one slice. It is read as strictly as RFC 9112 allows, because a proxy in
// front that reads it differently could be made to smuggle a request: lines end in CRLF (a bare CR
// or LF is refused), no folding, no blank before the colon, at most one Content-Length and
// Transfer-Encoding and never both, "chunked" the only coding, none in HTTP/1.0.
//
// This is not libhttp_parser, because that took 1600 of the 2900 instructions of a get, and Debian
// builds it in its lenient mode, so that most of the above had to be checked besides. The unit test
// holds the two against each other: what is accepted here, it accepts and understands in the same
// way.
#include "edge/http/http_int.h"

// The index of the first control character that is not a tab, or s.n. Eight bytes at a time: the
// lowest flag is exact, those above it may be carried over.
static size_t find_control(struct slice s)
{
    const uint64_t ones = 0x0101010101010101ull;
    const uint64_t tops = ones * 0x80;
    size_t i = 0;
    for (; i + 8 <= s.n; i += 8) {
        uint64_t x = load64(s.p + i);
        uint64_t del = x ^ ones * 0x7f;
        uint64_t tab = x ^ ones * '\t';
        uint64_t found = ((x - ones * 0x20) & ~x & tops) | ((del - ones) & ~del & tops);
        if (!found)
            continue;
        if (((tab - ones) & ~tab & tops) == 0)
            return i + (size_t)__builtin_ctzll(found) / 8;
        break; // tabs are rare: byte by byte from here
    }
    for (; i < s.n; i++)
        if ((s.p[i] < 0x20 && s.p[i] != '\t') || s.p[i] == 0x7f)
            break;
    return i;
}

bool line_clean(struct slice line)
{
    return find_control(line) == line.n;
}

static unsigned check_size(const struct head_scan *s, size_t end, struct errmsg *msg)
{
    if (!s->request_line && end > LIMIT_HTTP_URL)
        return refuse(msg, 414, "request line is over %u bytes", LIMIT_HTTP_URL);
    if (s->request_line && end - s->request_line > LIMIT_HTTP_HEADERS)
        return refuse(msg, 431, "header fields are over %u bytes", LIMIT_HTTP_HEADERS);
    return 0;
}

unsigned head_find(struct head_scan *s, struct slice in, struct errmsg *msg)
{
    if (in.n && (in.p[0] < 'A' || in.p[0] > 'Z'))
        return refuse(msg, 400, "malformed request: it begins with byte 0x%02x, not a method",
                      in.p[0]);
    for (;;) {
        size_t at = s->at + find_control(slice_of(in.p + s->at, in.n - s->at));
        unsigned status = check_size(s, at < in.n ? at + 1 : in.n, msg);
        s->at = (uint32_t)at;
        if (status || at == in.n)
            return status;
        if (in.p[at] == '\n')
            return refuse(msg, 400, "malformed request: a line ends in LF without CR");
        if (in.p[at] != '\r')
            return refuse(msg, 400, "malformed request: a control character in its head");
        if (at + 1 == in.n)
            return 0;
        if (in.p[at + 1] != '\n')
            return refuse(msg, 400, "malformed request: a CR without LF in its head");
        uint32_t end = (uint32_t)at + 2;
        if ((status = check_size(s, end, msg)))
            return status;
        bool empty = s->line == at;
        if (!s->request_line)
            s->request_line = end;
        s->line = s->at = end;
        if (empty) {
            s->size = end;
            return 0;
        }
    }
}

// ---- parsing ----

// The characters of a token (RFC 9110 section 5.6.2).
static bool token_char(uint8_t c)
{
    static const uint64_t set[4] = {0x03ff6cfa00000000ull, 0x57ffffffc7fffffeull, 0, 0};
    return set[c >> 6] >> (c & 63) & 1;
}

static bool is_token(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!token_char(s.p[i]))
            return false;
    return s.n > 0;
}

// True if a line's part without blanks has no tabs and no bytes beyond ASCII either.
static bool is_visible(struct slice s)
{
    uint64_t high = 0;
    size_t i = 0;
    for (; i + 8 <= s.n; i += 8)
        high |= load64(s.p + i);
    for (; i < s.n; i++)
        high |= s.p[i];
    return (high & 0x8080808080808080ull) == 0 && !memchr(s.p, '\t', s.n);
}

bool slice_is_nocase(struct slice s, const char *lower)
{
    for (size_t i = 0; i < s.n; i++)
        if ((s.p[i] | 0x20) != lower[i]) // '-' has that bit; a short `lower` ends it by its NUL
            return false;
    return lower[s.n] == 0;
}

// Takes what comes before the first `c` off s, and the `c`; all of it if there is none.
static struct slice take_until(struct slice *s, char c)
{
    const uint8_t *at = s->n ? memchr(s->p, c, s->n) : NULL;
    struct slice part = slice_of(s->p, at ? (size_t)(at - s->p) : s->n);
    size_t taken = part.n + (at != NULL);
    *s = slice_of(s->p + taken, s->n - taken);
    return part;
}

static struct slice trim(struct slice s)
{
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = slice_of(s.p + 1, s.n - 1);
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

static enum head_method method_of(struct slice m)
{
    static const struct {
        const char *name;
        enum head_method method;
    } methods[] = {{"GET", METHOD_GET},       {"POST", METHOD_POST},       {"HEAD", METHOD_HEAD},
                   {"DELETE", METHOD_DELETE}, {"OPTIONS", METHOD_OPTIONS}, {"PUT", METHOD_PUT},
                   {"PATCH", METHOD_OTHER},   {"CONNECT", METHOD_OTHER},   {"TRACE", METHOD_OTHER}};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (slice_equal(m, slice_str(methods[i].name)))
            return methods[i].method;
    return METHOD_UNKNOWN;
}

static unsigned parse_request_line(struct head *h, struct slice line, struct errmsg *msg)
{
    struct slice method = take_until(&line, ' ');
    h->target = take_until(&line, ' ');
    h->method = method_of(method);
    if (h->method == METHOD_UNKNOWN) {
        if (!is_token(method))
            return refuse(msg, 400, "malformed request: the method is not a token");
        return refuse(msg, 501, "method %.*s is not known", method.n < 20 ? (int)method.n : 20,
                      (const char *)method.p);
    }
    if (h->target.n == 0 || !is_visible(h->target))
        return refuse(msg, 400,
                      "malformed request: the target is empty or holds a character that "
                      "must be written as %%XX");
    if (line.n != 8 || memcmp(line.p, "HTTP/", 5) != 0 || line.p[6] != '.' ||
        (unsigned)line.p[5] - '0' > 9 || (unsigned)line.p[7] - '0' > 9)
        return refuse(msg, 400,
                      "malformed request: the request line does not end in one blank and "
                      "an HTTP version");
    if (line.p[5] != '1')
        return refuse(msg, 505, "HTTP version %c.%c is not spoken here, 1.1 is", line.p[5],
                      line.p[7]);
    h->old = line.p[7] == '0';
    return 0;
}

static int field_of(struct slice name)
{
    static const struct {
        uint8_t n;
        const char *name;
    } fields[FIELD_COUNT] = {
        [FIELD_HOST] = {4, "host"},
        [FIELD_ORIGIN] = {6, "origin"},
        [FIELD_EXPECT] = {6, "expect"},
        [FIELD_TRACE] = {13, "x-varve-trace"},
        [FIELD_IDEMPOTENCY] = {15, "idempotency-key"},
        [FIELD_LAST_EVENT] = {13, "last-event-id"},
        [FIELD_LENGTH] = {14, "content-length"},
        [FIELD_ENCODING] = {17, "transfer-encoding"},
        [FIELD_CONNECTION] = {10, "connection"},
    };
    for (int i = 0; i < FIELD_COUNT; i++)
        if (name.n == fields[i].n && slice_is_nocase(name, fields[i].name))
            return i;
    return -1;
}

// Connection is a list, in as many fields as the sender likes.
static void parse_connection(struct head *h, struct slice list)
{
    while (list.n) {
        struct slice option = trim(take_until(&list, ','));
        h->close |= slice_is_nocase(option, "close");
        h->keep |= slice_is_nocase(option, "keep-alive");
    }
}

static unsigned parse_field(struct head *h, struct slice line, struct errmsg *msg)
{
    char text[KEY_TEXT];
    if (line.p[0] == ' ' || line.p[0] == '\t')
        return refuse(msg, 400, "malformed request: a header field is folded");
    struct slice value = line;
    struct slice name = take_until(&value, ':');
    int field = field_of(name);
    if (name.n == line.n || (field < 0 && !is_token(name)))
        return refuse(msg, 400,
                      "malformed request: a header field's name is not a token and a colon");
    if (field < 0)
        return 0;
    value = trim(value);
    if (field == FIELD_CONNECTION)
        parse_connection(h, value);
    else if (head_has(h, (enum head_field)field))
        return refuse(msg, 400, "malformed request: %s is given twice", key_text(name, text));
    h->given |= 1u << field;
    h->field[field] = value;
    return 0;
}

static unsigned parse_length(struct head *h, struct errmsg *msg)
{
    struct slice s = h->field[FIELD_LENGTH];
    bool good = s.n > 0 && s.n < 19;
    for (size_t i = 0; good && i < s.n; i++) {
        good = s.p[i] >= '0' && s.p[i] <= '9';
        h->length = h->length * 10 + (uint64_t)(s.p[i] - '0');
    }
    return good ? 0 : refuse(msg, 400, "malformed request: Content-Length is not a number");
}

static unsigned parse_framing(struct head *h, struct errmsg *msg)
{
    if (!h->old && !head_has(h, FIELD_HOST))
        return refuse(msg, 400, "malformed request: HTTP/1.1 needs a Host header field");
    h->keep_alive = !h->close && (!h->old || h->keep);
    if (!head_has(h, FIELD_ENCODING))
        return head_has(h, FIELD_LENGTH) ? parse_length(h, msg) : 0;
    if (head_has(h, FIELD_LENGTH))
        return refuse(msg, 400,
                      "malformed request: both Content-Length and Transfer-Encoding are given");
    if (h->old)
        return refuse(msg, 400, "malformed request: Transfer-Encoding in HTTP/1.0");
    h->chunked = slice_is_nocase(h->field[FIELD_ENCODING], "chunked");
    return h->chunked ? 0 : refuse(msg, 501, "the only transfer encoding is \"chunked\"");
}

unsigned head_parse(struct head *h, struct slice text, struct errmsg *msg)
{
    *h = (struct head){0};
    struct slice line = take_until(&text, '\r');
    unsigned status = parse_request_line(h, line, msg);
    while (!status) {
        text = slice_of(text.p + 1, text.n - 1); // the LF that head_find has seen
        line = take_until(&text, '\r');
        if (line.n == 0)
            return parse_framing(h, msg);
        status = parse_field(h, line, msg);
    }
    return status;
}
