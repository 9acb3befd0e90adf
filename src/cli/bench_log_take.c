// Replies about logs. Pages are taken record by record as they come, so that a page may be larger
// than what is read at once. Of each page the number of records, and of each record its offset and
// length are compared with what was asked for; of the first one the digits too.
#include "cli/bench_int.h"
#include "op/record.h"
#include <stdio.h>

enum {
    HEAD = 5,       // of a reply: its length, the status
    APPENDED = 48,  // bytes of LOG_APPEND's answer
    PAGE_HEAD = 33, // of a page, before the continuation token
    PAGE_END = 4,   // flag: the end of a tail
};

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

// Does the record begin with the digits of its number?
static bool right_digits(const struct bench_thread *t, const uint8_t *p, uint64_t number)
{
    uint8_t text[BENCH_KEY];
    size_t digits = min_size(t->spec->value_size, BENCH_KEY_DIGITS);
    bench_put_key(text, number);
    return memcmp(p, text + BENCH_KEY - digits, digits) == 0;
}

// Ends a page. A page that is not as asked for is one error, whatever is wrong with it.
static void end_page(struct bench_conn *c)
{
    struct bench_page *g = &c->page;
    const struct bench_spec *s = c->thread->spec;
    bool tail = s->op == BENCH_TAIL;
    g->inside = false;
    if (tail && !g->last)
        return;
    if (!g->wrong && (tail ? g->number != s->keys : g->records != s->items))
        g->wrong = "a page has fewer records than it should";
    if (g->wrong)
        bench_error(c->thread, 1, g->wrong, slice_of(NULL, 0));
    else
        c->thread->counts.requests++;
    c->done++;
    *g = (struct bench_page){0};
}

// A record has come; p: its bytes.
static inline void got_record(struct bench_conn *c, const uint8_t *p, size_t n)
{
    struct bench_page *g = &c->page;
    if (n != c->thread->spec->value_size)
        g->wrong = "a record is not as long as it was written";
    else if (g->records == 0 && !right_digits(c->thread, p, g->number))
        g->wrong = "not the record that was asked for";
    g->records++;
    g->number++;
    c->thread->counts.objects++;
}

// ---- binary

// The bytes of a refusal's text are read over.
static void refused(struct bench_conn *c, const uint8_t *p, size_t n)
{
    bench_error(c->thread, 1, "refused", slice_of(p, n));
    c->done++;
    c->page = (struct bench_page){0};
}

// The head of a page: 0 if it is not all there.
static size_t page_head(struct bench_conn *c, const uint8_t *p, size_t n)
{
    struct bench_page *g = &c->page;
    if (n < HEAD)
        return 0;
    size_t size = load32(p);
    if (size < 1 || size > (64u << 20))
        return BENCH_BAD;
    if (p[4] != 0) {
        if (size > 4096)
            return BENCH_BAD;
        if (n - 4 < size)
            return 0;
        refused(c, p + HEAD, size - 1);
        return 4 + size;
    }
    if (n < HEAD + PAGE_HEAD)
        return 0;
    size_t token = load32(p + HEAD + 29);
    if (size < 1 + PAGE_HEAD + token || token > 4096)
        return BENCH_BAD;
    if (n < HEAD + PAGE_HEAD + token)
        return 0;
    g->inside = true;
    g->last = p[HEAD + 28] & PAGE_END;
    g->left = size - 1 - PAGE_HEAD - token;
    g->records = 0;
    if (c->thread->spec->op != BENCH_TAIL)
        g->number = bench_asked(c);
    return HEAD + PAGE_HEAD + token;
}

// The page's records that are there whole.
static size_t page_records(struct bench_conn *c, const uint8_t *p, size_t n)
{
    struct bench_page *g = &c->page;
    size_t at = 0;
    n = min_size(n, g->left);
    while (n - at >= RECORD_OVERHEAD) {
        size_t size = record_span(p + at);
        if (size > n - at)
            break;
        if (record_offset(p + at) != g->number + 1)
            g->wrong = "a record has not the offset it should have";
        got_record(c, p + at + RECORD_HEAD, size - RECORD_OVERHEAD);
        at += size;
    }
    g->left -= at;
    return at;
}

static size_t take_appended(struct bench_conn *c, const uint8_t *p, size_t n)
{
    const struct bench_spec *s = c->thread->spec;
    if (n < HEAD)
        return 0;
    size_t size = load32(p);
    if (size < 1 || size > 4096 || (p[4] == 0 && size != 1 + APPENDED))
        return BENCH_BAD;
    if (n - 4 < size)
        return 0;
    const uint8_t *answer = p + HEAD;
    if (p[4] != 0) {
        refused(c, answer, size - 1);
        return 4 + size;
    }
    // What is loaded again is there already; the next nonce says so.
    bool all = s->sequential ? load64(answer + 24) >= bench_asked(c) + s->items
                             : load64(answer + 16) == s->items;
    if (!all || load64(answer) + load64(answer + 16) != load64(answer + 8)) {
        bench_error(c->thread, 1, "not all records were appended", slice_of(NULL, 0));
    } else {
        c->thread->counts.requests++;
        c->thread->counts.objects += s->items;
    }
    c->done++;
    return 4 + size;
}

static size_t take_binary(struct bench_conn *c, const uint8_t *p, size_t n)
{
    struct bench_page *g = &c->page;
    size_t at = 0;
    while (c->done < c->batch) {
        size_t used;
        if (c->thread->spec->op == BENCH_APPEND)
            used = take_appended(c, p + at, n - at);
        else if (!g->inside)
            used = page_head(c, p + at, n - at);
        else
            used = page_records(c, p + at, n - at);
        if (used == BENCH_BAD)
            return BENCH_BAD;
        at += used;
        if (g->inside && g->left == 0)
            end_page(c);
        else if (used == 0)
            break;
    }
    return at;
}

// ---- redis

// One element "$n\r\n...\r\n": its bytes. 0 if it is not all there.
static size_t resp_bulk(const uint8_t *p, size_t n, struct slice *bytes)
{
    int64_t size = 0;
    size_t line = n && p[0] == '$' ? bench_resp_line(p, n, &size) : n ? BENCH_BAD : 0;
    if (line == 0 || line == BENCH_BAD)
        return line;
    if (size < 0 || size > (64 << 20))
        return BENCH_BAD;
    if (n - line < (size_t)size + 2)
        return 0;
    *bytes = slice_of(p + line, (size_t)size);
    return line + (size_t)size + 2;
}

// *2, the ID, *2, the field, the value.
static size_t resp_entry(struct bench_conn *c, const uint8_t *p, size_t n)
{
    struct slice id, field, value;
    struct slice *parts[] = {NULL, &id, NULL, &field, &value};
    size_t at = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        int64_t two = 2;
        size_t used = parts[i] ? resp_bulk(p + at, n - at, parts[i])
                      : at < n ? bench_resp_line(p + at, n - at, &two)
                               : 0;
        if (used == 0 || used == BENCH_BAD || two != 2)
            return used ? BENCH_BAD : 0;
        at += used;
    }
    got_record(c, value.p, value.n);
    c->page.left--;
    return at;
}

static size_t resp_added(struct bench_conn *c, const uint8_t *p, size_t n)
{
    static const char there[] = "-ERR The ID specified in XADD is equal or smaller";
    struct slice id;
    if (n == 0)
        return 0;
    if (p[0] != '-') {
        size_t used = resp_bulk(p, n, &id);
        if (used == 0 || used == BENCH_BAD)
            return used;
        c->thread->counts.requests++;
        c->thread->counts.objects++;
        c->done++;
        return used;
    }
    const uint8_t *end = memchr(p, '\n', n);
    if (!end)
        return n > 4096 ? BENCH_BAD : 0;
    size_t size = (size_t)(end - p) + 1;
    if (c->thread->spec->sequential && size > sizeof there &&
        memcmp(p, there, sizeof there - 1) == 0) {
        c->thread->counts.requests++;
        c->done++;
    } else {
        refused(c, p, size - 1);
    }
    return size;
}

static size_t resp_page(struct bench_conn *c, const uint8_t *p, size_t n)
{
    int64_t count = 0;
    size_t line = n == 0 ? 0 : p[0] == '*' ? bench_resp_line(p, n, &count) : BENCH_BAD;
    if (line == 0 || line == BENCH_BAD || count < 0)
        return line ? BENCH_BAD : 0;
    c->page = (struct bench_page){
        .inside = true, .last = true, .left = (size_t)count, .number = bench_asked(c)};
    return line;
}

static size_t take_resp(struct bench_conn *c, const uint8_t *p, size_t n)
{
    struct bench_page *g = &c->page;
    size_t at = 0;
    while (c->done < c->batch) {
        bool append = c->thread->spec->op == BENCH_APPEND;
        if (append && at == n)
            break;
        size_t used = append       ? resp_added(c, p + at, n - at)
                      : !g->inside ? resp_page(c, p + at, n - at)
                      : g->left    ? resp_entry(c, p + at, n - at)
                                   : 0;
        if (used == BENCH_BAD)
            return BENCH_BAD;
        at += used;
        if (g->inside && g->left == 0)
            end_page(c);
        else if (used == 0)
            break;
    }
    return at;
}

// ---- raw pages over HTTP: records of one length, end to end

static size_t raw_head(struct bench_conn *c, const uint8_t *p, size_t n)
{
    struct bench_thread *t = c->thread;
    size_t head = bench_http_head(t, p, n);
    if (head == 0 || head == BENCH_BAD)
        return head;
    if (t->head.status != 200) {
        if (n - head < t->head.body)
            return n > 8192 ? BENCH_BAD : 0;
        refused(c, p + head, t->head.body);
        return head + t->head.body;
    }
    c->page = (struct bench_page){
        .inside = true, .last = true, .left = t->head.body, .number = bench_asked(c)};
    return head;
}

static size_t raw_records(struct bench_conn *c, const uint8_t *p, size_t n)
{
    struct bench_page *g = &c->page;
    size_t size = c->thread->spec->value_size, at = 0;
    n = min_size(n, g->left);
    while (n - at >= size) {
        got_record(c, p + at, size);
        at += size;
    }
    if (g->left == n && at < n) { // the page ends within a record
        g->wrong = g->wrong ? g->wrong : "a page ends within a record";
        at = n;
    }
    g->left -= at;
    return at;
}

static size_t take_raw(struct bench_conn *c, const uint8_t *p, size_t n)
{
    struct bench_page *g = &c->page;
    size_t at = 0;
    while (c->done < c->batch) {
        size_t used = g->inside ? raw_records(c, p + at, n - at) : raw_head(c, p + at, n - at);
        if (used == BENCH_BAD)
            return BENCH_BAD;
        at += used;
        if (g->inside && g->left == 0)
            end_page(c);
        else if (used == 0)
            break;
    }
    return at;
}

size_t bench_take_log(struct bench_conn *c, const uint8_t *p, size_t n)
{
    switch (c->thread->spec->protocol) {
    case BENCH_HTTP:
        return take_raw(c, p, n);
    case BENCH_RESP:
        return take_resp(c, p, n);
    default:
        return take_binary(c, p, n);
    }
}
