// Requests about logs: APPEND, READ, TAIL, SEEK. The logs are those of the keyspace "bench", named
// as keys are (newly appended to: "new" and digits). Record number n of a log that was loaded has
// the offset n + 1, the nonce n, the timestamp n, and its bytes begin with n's digits, so that what
// comes back can be told from what was asked for.
//
// Redis's streams stand beside them: an append is XADD, a page XRANGE with COUNT; a loaded entry's
// ID is OFFSET-0.
#include "cli/bench_int.h"
#include "varve.h"
#include <stdio.h>

#define KEYSPACE "bench"

enum {
    LOG_APPEND = 25, // docs/PROTOCOLS.md
    LOG_READ = 26,
    LOG_TAIL = 27,
    RECORD_IN = 28, // before the bytes of a record to append: nonce, timestamp, length
    START = 32,
    START_VALUE = 16, // where a start's value stands
};

const char *const bench_start_names[BENCH_STARTS] = {"offset", "timestamp", "nonce"};

// ---- layouts

// An argument of the binary protocol, its bytes to come.
static enum err put_length(struct bench_layout *l, size_t n)
{
    uint8_t size[4];
    store32(size, (uint32_t)n);
    return buf_append(&l->bytes, size, sizeof size);
}

static enum err put_argument(struct bench_layout *l, const void *p, size_t n)
{
    enum err e = put_length(l, n);
    return e ? e : buf_append(&l->bytes, p, n);
}

// n bytes that are written over, or stay as they are.
static enum err put_filler(struct bench_layout *l, size_t n)
{
    enum err e = buf_reserve(&l->bytes, n);
    if (e)
        return e;
    memset(buf_tail(&l->bytes), 'v', n);
    l->bytes.end += n;
    return ERR_OK;
}

// The bytes of a record. Not all the same: the store below compresses records, and a run of one
// letter is not what anybody keeps.
static enum err put_record(struct bench_layout *l, size_t n, uint64_t *random)
{
    static const char letters[] = "etaoin shrdlucmfwypvbgkjqxz,.-01";
    enum err e = put_filler(l, n);
    for (size_t i = n; !e && i > 0; i--) {
        *random = *random * 6364136223846793005u + 1442695040888963407u; // Knuth, MMIX
        uint64_t a = *random >> 59, b = *random >> 54 & 31; // letters to the left are more frequent
        buf_tail(&l->bytes)[-(ptrdiff_t)i] = (uint8_t)letters[a < b ? a : b];
    }
    return e;
}

static enum err put_log_name(struct bench_layout *l, unsigned type)
{
    uint8_t head[2];
    store16(head, (uint16_t)type);
    enum err e = buf_append(&l->bytes, head, sizeof head);
    e = e ? e : put_argument(l, KEYSPACE, strlen(KEYSPACE));
    e = e ? e : put_length(l, BENCH_KEY);
    l->key_at = buf_len(&l->bytes);
    return e ? e : put_filler(l, BENCH_KEY);
}

static enum err layout_append(struct bench_layout *l, const struct bench_spec *s)
{
    uint8_t head[RECORD_IN];
    memset(head, 0xff, 16); // no nonce
    store64(head + 16, (uint64_t)INT64_MIN);
    store32(head + 24, (uint32_t)s->value_size);
    l->stride = RECORD_IN + s->value_size;
    uint64_t random = 1;
    enum err e = put_log_name(l, LOG_APPEND);
    e = e ? e : put_length(l, l->stride * s->items);
    l->value_at = buf_len(&l->bytes) + RECORD_IN;
    for (size_t i = 0; !e && i < s->items; i++) {
        e = buf_append(&l->bytes, head, sizeof head);
        e = e ? e : put_record(l, s->value_size, &random);
    }
    return e;
}

static enum err layout_page(struct bench_layout *l, const struct bench_spec *s)
{
    static const uint8_t starts[] = {1, 2, 3}; // of enum bench_start
    uint8_t start[START] = {0};
    bool tail = s->op == BENCH_TAIL;
    if (!tail) {
        start[1] = starts[s->start];
        store32(start + 4, (uint32_t)s->items);
    }
    enum err e = put_log_name(l, tail ? LOG_TAIL : LOG_READ);
    l->number_at = tail ? 0 : buf_len(&l->bytes) + 4 + START_VALUE;
    e = e ? e : put_argument(l, start, sizeof start);
    e = e || tail ? e : put_length(l, 0); // no continuation
    return e ? e : put_length(l, 0);      // no pattern
}

static enum err layout_stream(struct bench_layout *l, const struct bench_spec *s)
{
    bool append = s->op == BENCH_APPEND;
    enum err e = buf_printf(
        &l->bytes, append ? "*5\r\n$4\r\nXADD\r\n$%d\r\n" : "*6\r\n$6\r\nXRANGE\r\n$%d\r\n",
        BENCH_KEY);
    l->key_at = buf_len(&l->bytes);
    e = e ? e : put_filler(l, BENCH_KEY);
    if (e)
        return e;
    if (append && !s->sequential)
        e = buf_printf(&l->bytes, "\r\n$1\r\n*");
    else {
        e = buf_printf(&l->bytes, "\r\n$%d\r\n", BENCH_KEY_DIGITS);
        l->number_at = buf_len(&l->bytes);
        e = e ? e : put_filler(l, BENCH_KEY_DIGITS);
    }
    if (e)
        return e;
    if (!append) {
        char count[24];
        int n = snprintf(count, sizeof count, "%llu", (unsigned long long)s->items);
        return buf_printf(&l->bytes, "\r\n$1\r\n+\r\n$5\r\nCOUNT\r\n$%d\r\n%s\r\n", n, count);
    }
    e = buf_printf(&l->bytes, "\r\n$1\r\nd\r\n$%zu\r\n", s->value_size);
    l->value_at = buf_len(&l->bytes);
    e = e ? e : put_filler(l, s->value_size);
    return e ? e : buf_append(&l->bytes, "\r\n", 2);
}

static enum err layout_raw_page(struct bench_layout *l, const struct bench_spec *s)
{
    enum err e = buf_printf(&l->bytes, "GET /v1/logs/%s/", KEYSPACE);
    l->key_at = buf_len(&l->bytes);
    e = e ? e : put_filler(l, BENCH_KEY);
    e = e ? e
          : buf_printf(&l->bytes,
                       "?encoding=raw&page_size=%llu&start=offset:", (unsigned long long)s->items);
    l->number_at = buf_len(&l->bytes);
    e = e ? e : put_filler(l, BENCH_KEY_DIGITS);
    return e ? e : buf_printf(&l->bytes, " HTTP/1.1\r\nHost: %s\r\n\r\n", s->server);
}

enum err bench_layout_log(struct bench_layout *l, const struct bench_spec *s)
{
    if (s->protocol == BENCH_RESP)
        return layout_stream(l, s);
    if (s->protocol == BENCH_HTTP)
        return layout_raw_page(l, s);
    return s->op == BENCH_APPEND ? layout_append(l, s) : layout_page(l, s);
}

// ---- what each request is about

// Which records of which log.
struct place {
    uint64_t log;
    uint64_t number; // of the first one
};

// Loading: every record of every log once, one log after another.
static struct place next_load(struct bench_conn *c)
{
    const struct bench_spec *s = c->thread->spec;
    uint64_t requests = (s->keys + s->items - 1) / s->items; // a log
    uint64_t r = c->next;
    c->next += s->connections;
    struct place p = {r / requests % s->logs, r % requests * s->items};
    if (p.number + s->items > s->keys) // the last one repeats some, which are there then
        p.number = s->keys - s->items;
    return p;
}

static struct place next_place(struct bench_conn *c)
{
    const struct bench_spec *s = c->thread->spec;
    if (s->op == BENCH_APPEND && s->sequential)
        return next_load(c);
    if (s->op == BENCH_SEEK)
        return (struct place){bench_random_below(c->thread, s->logs),
                              bench_random_below(c->thread, s->keys)};
    struct place p = {c->id % s->logs, c->next};
    if (s->op == BENCH_APPEND)
        p.log = s->logs > 1 ? bench_random_below(c->thread, s->logs) : 0;
    else if (p.number + s->items > s->keys)
        p.number = 0; // a reader begins anew
    c->next = p.number + s->items;
    return p;
}

// Runs that append have logs of their own, so that those that read find what was loaded.
static void put_log(const struct bench_spec *s, uint8_t *p, uint64_t log)
{
    bench_put_key(p, log);
    if (s->op == BENCH_APPEND && !s->sequential)
        memcpy(p, "new", 3);
}

static void number_records(const struct bench_spec *s, const struct bench_layout *l,
                           uint8_t *request, uint64_t number)
{
    size_t digits = l->value_size < BENCH_KEY_DIGITS ? l->value_size : BENCH_KEY_DIGITS;
    for (size_t j = 0; j < l->items; j++, number++) {
        uint8_t text[BENCH_KEY], *value = request + l->value_at + j * l->stride;
        bench_put_key(text, number);
        memcpy(value, text + BENCH_KEY - digits, digits);
        if (!s->sequential || s->protocol != BENCH_BINARY)
            continue;
        store64(value - RECORD_IN, number);
        store64(value - RECORD_IN + 8, 0);
        store64(value - RECORD_IN + 16, number);
    }
}

// Where a page begins, or the entry's ID: as an offset but for a seek by another start.
static void put_number(const struct bench_spec *s, uint8_t *to, uint64_t number)
{
    uint64_t v = s->op == BENCH_SEEK && s->start != BENCH_BY_OFFSET ? number : number + 1;
    if (s->protocol == BENCH_BINARY) {
        store64(to, v);
        return;
    }
    uint8_t text[BENCH_KEY];
    bench_put_key(text, v);
    memcpy(to, text + BENCH_KEY - BENCH_KEY_DIGITS, BENCH_KEY_DIGITS);
}

void bench_fill_log(struct bench_conn *c)
{
    const struct bench_spec *s = c->thread->spec;
    const struct bench_layout *l = c->thread->layout;
    size_t n = buf_len(&l->bytes);
    for (uint64_t i = 0; i < c->batch; i++) {
        uint8_t *request = c->out + i * n;
        struct place p = next_place(c);
        put_log(s, request + l->key_at, p.log);
        if (l->value_at)
            number_records(s, l, request, p.number);
        if (l->number_at)
            put_number(s, request + l->number_at, p.number);
    }
    c->out_len = c->batch * n;
    c->out_at = 0;
}

uint64_t bench_asked(const struct bench_conn *c)
{
    const struct bench_spec *s = c->thread->spec;
    const struct bench_layout *l = c->thread->layout;
    const uint8_t *request = c->out + c->done * buf_len(&l->bytes);
    if (l->value_at && s->protocol == BENCH_BINARY)
        return load64(request + l->value_at - RECORD_IN);
    if (!l->number_at)
        return 0;
    const uint8_t *p = request + l->number_at;
    if (s->protocol == BENCH_BINARY)
        return load64(p) - (s->op == BENCH_SEEK && s->start != BENCH_BY_OFFSET ? 0 : 1);
    uint64_t v = 0;
    for (size_t i = 0; i < BENCH_KEY_DIGITS; i++)
        v = v * 10 + (uint64_t)(p[i] - '0');
    return v - 1;
}

enum err bench_prepare_logs(const struct bench_spec *s, struct errmsg *msg)
{
    struct varve *v;
    if (s->protocol != BENCH_BINARY || s->op != BENCH_APPEND)
        return ERR_OK;
    enum varve_error e = varve_connect(&v, s->server, 10000);
    if (!e)
        e = varve_keyspace_create(v, KEYSPACE, strlen(KEYSPACE), NULL, NULL);
    enum err result = ERR_OK;
    if (e && e != VARVE_CONFLICT)
        result = err_set(msg, ERR_NETWORK, "cannot make the keyspace \"%s\": %s", KEYSPACE,
                         v ? varve_error_text(v) : "out of memory");
    varve_close(v);
    return result;
}
