// Replies of the binary protocol, of RESP and of the echo: counted and compared with what was
// asked.
#include "cli/bench_int.h"
#include <stdio.h>

void bench_error(struct bench_thread *t, uint64_t times, const char *what, struct slice detail)
{
    t->counts.errors += times;
    if (t->error[0])
        return;
    char text[BENCH_ERROR / 2];
    size_t n = detail.n < sizeof text - 1 ? detail.n : sizeof text - 1;
    for (size_t i = 0; i < n; i++)
        text[i] = detail.p[i] < 0x20 || detail.p[i] >= 0x7f ? '.' : (char)detail.p[i];
    text[n] = 0;
    snprintf(t->error, sizeof t->error, "%s%s%s", what, n ? ": " : "", text);
}

static inline void hit(struct bench_conn *c)
{
    c->thread->counts.hits++;
    c->thread->counts.requests++;
}

static inline void miss(struct bench_conn *c)
{
    struct bench_thread *t = c->thread;
    if (t->spec->expect_hits) {
        bench_error(t, 1, "a key that was loaded is missing", slice_of(NULL, 0));
        return;
    }
    t->counts.misses++;
    t->counts.requests++;
}

// A value that comes back for the next request of the batch must begin with the digits that
// bench_fill writes for its key.
static inline bool right_value(const struct bench_conn *c, const uint8_t *p, size_t n)
{
    size_t digits = n < BENCH_KEY_DIGITS ? n : BENCH_KEY_DIGITS;
    return !c->thread->layout->uuid &&
           !memcmp(p, bench_key(c, c->done) + BENCH_KEY - digits, digits);
}

// An old value, which SET and DELETE bring back. It may be of another size, from an earlier run.
static inline void old_value(struct bench_conn *c, const uint8_t *p, size_t n)
{
    if (n == 0) {
        c->thread->counts.misses++;
        c->thread->counts.requests++;
    } else if (right_value(c, p, n)) {
        hit(c);
    } else {
        bench_error(c->thread, 1, "not the value that was there before", slice_of(p, n));
    }
}

static inline void got_value(struct bench_conn *c, const uint8_t *p, size_t n)
{
    if (n == c->thread->layout->value_size && right_value(c, p, n))
        hit(c);
    else
        bench_error(c->thread, 1, "not the value of the key asked for", slice_of(p, n));
}

size_t bench_take_binary(struct bench_conn *c, const uint8_t *p, size_t n)
{
    bool get = c->thread->spec->op == BENCH_GET;
    size_t at = 0;
    for (; c->done < c->batch && n - at >= 4; c->done++) {
        size_t size = load32(p + at);
        if (size > (64u << 20))
            return BENCH_BAD;
        if (n - at - 4 < size)
            break;
        if (!get)
            old_value(c, p + at + 4, size);
        else if (size == 0)
            miss(c);
        else
            got_value(c, p + at + 4, size);
        at += 4 + size;
    }
    return at;
}

size_t bench_take_echo(struct bench_conn *c, const uint8_t *p, size_t n)
{
    size_t size = 4 + c->thread->spec->value_size;
    size_t at = 0;
    for (; c->done < c->batch && n - at >= size; c->done++) {
        at += size;
        hit(c);
    }
    return at;
}

size_t bench_resp_line(const uint8_t *p, size_t n, int64_t *number)
{
    size_t at = 1;
    bool minus = n > 1 && p[1] == '-';
    int64_t v = 0;
    for (at += minus; at < n && p[at] >= '0' && p[at] <= '9' && at < 12; at++)
        v = v * 10 + (p[at] - '0');
    if (n - at < 2)
        return n > 16 ? BENCH_BAD : 0;
    *number = minus ? -v : v;
    return p[at] == '\r' && p[at + 1] == '\n' ? at + 2 : BENCH_BAD;
}

static size_t resp_one(struct bench_conn *c, const uint8_t *p, size_t n)
{
    enum bench_op op = c->thread->spec->op;
    int64_t number = 0;
    if (p[0] == '-' || p[0] == '+') {
        const uint8_t *end = memchr(p, '\n', n);
        if (!end)
            return n > 4096 ? BENCH_BAD : 0;
        size_t size = (size_t)(end - p) + 1;
        if (op != BENCH_GET && op != BENCH_DELETE && size == 5 && !memcmp(p, "+OK\r\n", 5))
            c->thread->counts.requests++;
        else
            bench_error(c->thread, 1, "refused", slice_of(p, size - 1));
        return size;
    }
    size_t line = bench_resp_line(p, n, &number);
    if (line == 0 || line == BENCH_BAD)
        return line;
    if (p[0] == ':' && op == BENCH_DELETE) {
        number ? hit(c) : miss(c);
        return line;
    }
    if (p[0] != '$' || op != BENCH_GET || number > (64 << 20))
        return BENCH_BAD;
    if (number < 0) {
        miss(c);
        return line;
    }
    size_t size = (size_t)number;
    if (n - line < size + 2)
        return 0;
    got_value(c, p + line, size);
    return line + size + 2;
}

size_t bench_take_resp(struct bench_conn *c, const uint8_t *p, size_t n)
{
    size_t at = 0;
    while (c->done < c->batch && at < n) {
        size_t size = resp_one(c, p + at, n - at);
        if (size == 0)
            break;
        if (size == BENCH_BAD)
            return BENCH_BAD;
        at += size;
        c->done++;
    }
    return at;
}
