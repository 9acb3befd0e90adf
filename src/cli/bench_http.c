// Replies over HTTP/1.1 with a Content-Length: of varve, of etcd's JSON gateway and of varve-echo
// --http; and the increment, whose second request depends on the first one's reply.
#include "cli/bench_int.h"
#include "base/os.h"
#include "base/os_net.h"
#include "cli/args.h"
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

// Reads the number after `name` in a header line that begins there, whatever the case.
static bool header_number(const uint8_t *line, size_t n, const char *name, size_t *value)
{
    size_t name_n = strlen(name);
    if (n <= name_n || strncasecmp((const char *)line, name, name_n) != 0)
        return false;
    size_t at = name_n, v = 0;
    while (at < n && line[at] == ' ')
        at++;
    for (; at < n && line[at] >= '0' && line[at] <= '9' && v < (1u << 30); at++)
        v = v * 10 + (size_t)(line[at] - '0');
    *value = v;
    return true;
}

// Parses a head of n bytes, its empty line included, and keeps it in t->head.
static bool parse_head(struct bench_thread *t, const uint8_t *p, size_t n)
{
    struct bench_http_head *h = &t->head;
    bool sized = false;
    h->n = 0;
    if (n < 16 || n > sizeof h->bytes || memcmp(p, "HTTP/1.1 ", 9) != 0)
        return false;
    h->status = (unsigned)(p[9] - '0') * 100 + (unsigned)(p[10] - '0') * 10 + (p[11] - '0');
    for (size_t at = 0; at < n;) {
        const uint8_t *end = memchr(p + at, '\n', n - at);
        size_t line = (size_t)(end - (p + at)) + 1; // there is one: the head ends with it
        sized = header_number(p + at, line, "content-length:", &h->body) || sized;
        at += line;
    }
    if (!sized || h->body > (64u << 20))
        return false;
    memcpy(h->bytes, p, n);
    h->n = n;
    return true;
}

size_t bench_http_head(struct bench_thread *t, const uint8_t *p, size_t n)
{
    struct bench_http_head *h = &t->head;
    if (h->n && n >= h->n && memcmp(p, h->bytes, h->n) == 0)
        return h->n;
    const uint8_t *end = memmem(p, n, "\r\n\r\n", 4);
    if (!end)
        return n > sizeof h->bytes ? BENCH_BAD : 0;
    return parse_head(t, p, (size_t)(end - p) + 4) ? h->n : BENCH_BAD;
}

// Finds a whole reply at p: 0 if it is not all there, BENCH_BAD, or its bytes.
static inline size_t whole_reply(struct bench_thread *t, const uint8_t *p, size_t n,
                                 struct slice *body)
{
    struct bench_http_head *h = &t->head;
    size_t head = bench_http_head(t, p, n);
    if (head == 0 || head == BENCH_BAD)
        return head;
    *body = slice_of(p + h->n, h->body);
    return n - h->n < h->body ? 0 : h->n + h->body;
}

static bool holds(struct slice body, const char *text)
{
    return memmem(body.p, body.n, text, strlen(text)) != NULL;
}

// True if the body of a get holds the key asked for and, after it, the value written for that key.
// The places are those of a reply without spaces.
static bool right_body(const struct bench_conn *c, struct slice body)
{
    const struct bench_layout *l = c->thread->layout;
    const uint8_t *key = bench_key(c, c->done);
    size_t digits = l->value_size < BENCH_KEY_DIGITS ? l->value_size : BENCH_KEY_DIGITS;
    size_t key_at = 8, value_at = key_at + BENCH_KEY + 11; // {"key":"K","value":"
    return body.n > value_at + l->value_size && !memcmp(body.p, "{\"key\":\"", 8) &&
           !memcmp(body.p + key_at, key, BENCH_KEY) &&
           !memcmp(body.p + key_at + BENCH_KEY, "\",\"value\":\"", 11) &&
           !memcmp(body.p + value_at, key + BENCH_KEY - digits, digits) &&
           body.p[value_at + l->value_size] == '"';
}

enum verdict { HIT, MISS, CONFLICT, WRONG };

static enum verdict judge_varve(const struct bench_conn *c, unsigned status, struct slice body)
{
    enum bench_op op = c->thread->spec->op;
    if (op == BENCH_GET && status == 200 && !c->thread->layout->uuid)
        return right_body(c, body) ? HIT : WRONG;
    if (op == BENCH_GET && status == 404)
        return MISS;
    if (op == BENCH_DELETE && status == 200)
        return holds(body, "\"deleted\":true") ? HIT : MISS;
    if (status == 409)
        return CONFLICT;
    return status == 200 && holds(body, "\"Success\"") ? HIT : WRONG;
}

static enum verdict judge_etcd(const struct bench_conn *c, unsigned status, struct slice body)
{
    enum bench_op op = c->thread->spec->op;
    if (status != 200 || !holds(body, "\"revision\""))
        return WRONG;
    if (op == BENCH_DELETE)
        return holds(body, "\"deleted\"") ? HIT : MISS;
    if (op != BENCH_GET)
        return HIT;
    if (!holds(body, "\"kvs\""))
        return MISS;
    // The digits of the value are the last 16 characters of the key's 20.
    const uint8_t *key = bench_key(c, c->done);
    char value[32];
    snprintf(value, sizeof value, "\"value\":\"%.16s", (const char *)key + 4);
    return c->thread->layout->value_size < BENCH_KEY_DIGITS || holds(body, value) ? HIT : WRONG;
}

static void count(struct bench_conn *c, enum verdict v, struct slice reply)
{
    struct bench_thread *t = c->thread;
    bool reads = t->spec->op == BENCH_GET || t->spec->op == BENCH_DELETE;
    if (v == WRONG || (v == MISS && t->spec->expect_hits)) {
        bench_error(t, 1, v == MISS ? "a key that was loaded is missing" : "unexpected reply",
                    reply);
        return;
    }
    t->counts.requests++;
    t->counts.hits += v == HIT && reads;
    t->counts.misses += v == MISS;
    t->counts.conflicts += v == CONFLICT;
}

size_t bench_take_http(struct bench_conn *c, const uint8_t *p, size_t n)
{
    struct bench_thread *t = c->thread;
    size_t at = 0;
    while (c->done < c->batch) {
        struct slice body;
        size_t size = whole_reply(t, p + at, n - at, &body);
        if (size == 0 || size == BENCH_BAD)
            return size ? BENCH_BAD : at;
        enum verdict v;
        if (t->spec->protocol == BENCH_ECHO_HTTP)
            v = t->head.status == 200 ? HIT : WRONG;
        else if (t->spec->protocol == BENCH_ETCD)
            v = judge_etcd(c, t->head.status, body);
        else
            v = judge_varve(c, t->head.status, body);
        count(c, v, body);
        at += size;
        c->done++;
    }
    return at;
}

// The whole number after `name` in a JSON body without spaces.
static bool member_number(struct slice body, const char *name, int64_t *number)
{
    const uint8_t *p = memmem(body.p, body.n, name, strlen(name));
    if (!p)
        return false;
    p += strlen(name);
    size_t left = body.n - (size_t)(p - body.p);
    char text[24];
    size_t n = 0;
    while (n < left && n < sizeof text - 1 && (p[n] == '-' || (p[n] >= '0' && p[n] <= '9'))) {
        text[n] = (char)p[n];
        n++;
    }
    text[n] = 0;
    return arg_int(text, number) == ERR_OK;
}

static bool read_value(unsigned status, struct slice body, int64_t *number, uint64_t *version)
{
    int64_t v = 0;
    *number = 0;
    *version = 0;
    if (status == 404)
        return true;
    if (status != 200 || !member_number(body, "\"value\":", number) ||
        !member_number(body, "\"version\":", &v) || v < 1)
        return false;
    *version = (uint64_t)v;
    return true;
}

// Numbers have keys of their own, so that the other runs find the values they wrote.
static void put_number_key(uint8_t *p, uint64_t n)
{
    bench_put_key(p, n);
    memcpy(p, "num", 3);
}

static size_t print_get(char *out, size_t cap, const struct bench_spec *s, uint64_t key)
{
    uint8_t text[BENCH_KEY];
    put_number_key(text, key);
    int n = snprintf(out, cap, "GET /v1/get?key=%.*s HTTP/1.1\r\nHost: %.200s\r\n\r\n", BENCH_KEY,
                     (const char *)text, s->server);
    return n > 0 && (size_t)n < cap ? (size_t)n : 0;
}

void bench_fill_increment(struct bench_conn *c)
{
    c->out_len = print_get((char *)c->out, BENCH_INCREMENT_OUT, c->thread->spec, c->key);
    c->out_at = 0;
    c->putting = false;
}

static void fill_put(struct bench_conn *c)
{
    uint8_t key[BENCH_KEY];
    char body[160];
    put_number_key(key, c->key);
    int n = snprintf(body, sizeof body, "[{\"key\":\"%.*s\",\"value\":%lld,\"version\":%llu}]",
                     BENCH_KEY, (const char *)key, (long long)c->number + 1,
                     (unsigned long long)c->version);
    n = snprintf((char *)c->out, BENCH_INCREMENT_OUT,
                 "POST /v1/put HTTP/1.1\r\nHost: %.200s\r\nContent-Type: application/json\r\n"
                 "Content-Length: %d\r\n\r\n%s",
                 c->thread->spec->server, n, body);
    c->out_len = (size_t)n; // the sizes above leave room
    c->out_at = 0;
    c->putting = true;
}

// A get's reply becomes the put; a put's reply ends the increment or, after a conflict, begins it
// anew.
static void step(struct bench_conn *c, unsigned status, struct slice body)
{
    struct bench_thread *t = c->thread;
    int64_t was = c->number;
    if (!c->putting) {
        bool known = c->known && !t->spec->shared_key;
        if (!read_value(status, body, &c->number, &c->version) || (known && c->number != was)) {
            bench_error(t, 1, "not the number written last", body);
            c->done++;
            return;
        }
        fill_put(c);
        c->resend = true;
    } else if (status == 409) {
        t->counts.conflicts++;
        c->known = false;
        bench_fill_increment(c);
        c->resend = true;
    } else {
        if (status == 200 && holds(body, "\"Success\""))
            t->counts.requests++;
        else
            bench_error(t, 1, "unexpected reply", body);
        c->number++;
        c->known = status == 200;
        c->done++;
    }
}

size_t bench_take_increment(struct bench_conn *c, const uint8_t *p, size_t n)
{
    struct slice body;
    size_t size = whole_reply(c->thread, p, n, &body);
    if (size == 0 || size == BENCH_BAD)
        return size;
    step(c, c->thread->head.status, body);
    return size;
}

enum err bench_read_number(const struct bench_spec *spec, uint64_t key, int64_t *number,
                           struct errmsg *msg)
{
    char request[BENCH_INCREMENT_OUT];
    uint8_t reply[4096];
    size_t n = print_get(request, sizeof request, spec, key), sent = 0, got = 1, have = 0;
    int fd;
    enum err e = os_connect(spec->server, 10000, &fd, msg);
    if (e)
        return e;
    struct bench_thread *t = calloc(1, sizeof *t);
    e = t ? os_send(fd, request, n, &sent) : ERR_NO_MEMORY;
    struct slice body;
    size_t size = 0;
    while (!e && got && size == 0 && have < sizeof reply) {
        e = os_recv(fd, reply + have, sizeof reply - have, &got);
        have += got;
        size = e ? 0 : whole_reply(t, reply, have, &body);
    }
    uint64_t version;
    if (!e &&
        (size == 0 || size == BENCH_BAD || !read_value(t->head.status, body, number, &version)))
        e = ERR_INVALID;
    free(t);
    os_close_socket(fd);
    return e ? err_set(msg, e, "cannot read the number from %s: %s", spec->server, err_text(e)) : e;
}
