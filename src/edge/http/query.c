// What a target holds: the segments of its path, and the arguments after '?',
// name=value&name=value, as HTML forms write them.
#include "edge/http/http_int.h"

// Most values hold nothing to decode and are used where they lie.
bool percent_decode(struct slice *s, uint8_t *to, bool plus)
{
    if (!memchr(s->p, '%', s->n) && !(plus && memchr(s->p, '+', s->n)))
        return true;
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        uint8_t c = s->p[i];
        if (c == '+' && plus) {
            c = ' ';
        } else if (c == '%') {
            int high = i + 2 < s->n ? hex_digit(s->p[i + 1]) : -1;
            int low = i + 2 < s->n ? hex_digit(s->p[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (uint8_t)(high << 4 | low);
            i += 2;
        }
        to[n++] = c;
    }
    *s = slice_of(to, n);
    return true;
}

unsigned path_segment(struct request *rq, struct slice *path, const char *what, struct slice *name,
                      struct errmsg *msg)
{
    const uint8_t *begin = path->p + 1;
    const uint8_t *slash = memchr(begin, '/', path->n - 1);
    *name = slice_of(begin, slash ? (size_t)(slash - begin) : path->n - 1);
    *path = slice_of(begin + name->n, path->n - 1 - name->n);
    if (!percent_decode(name, rq->scratch, false))
        return refuse(msg, 400, "the %s in the path has a %% without two hexadecimal digits", what);
    rq->scratch += name->n;
    return 0;
}

static struct param *find(struct param *params, size_t count, struct slice name)
{
    for (size_t i = 0; i < count; i++)
        if (slice_equal(slice_str(params[i].name), name))
            return &params[i];
    return NULL;
}

unsigned query_parse(const struct request *rq, struct param *params, size_t count,
                     struct errmsg *msg)
{
    struct slice rest = rq->query;
    uint8_t *to = rq->scratch; // decoding never makes it longer, so the query's length is enough
    while (rest.n) {
        const uint8_t *amp = memchr(rest.p, '&', rest.n);
        struct slice part = slice_of(rest.p, amp ? (size_t)(amp - rest.p) : rest.n);
        rest = slice_of(rest.p + part.n, rest.n - part.n);
        if (amp)
            rest = slice_of(rest.p + 1, rest.n - 1);
        if (part.n == 0)
            continue;
        const uint8_t *eq = memchr(part.p, '=', part.n);
        struct slice name = slice_of(part.p, eq ? (size_t)(eq - part.p) : part.n);
        char text[KEY_TEXT];
        struct param *p = find(params, count, name);
        if (!p)
            return refuse(msg, 400, "unknown argument \"%s\"", key_text(name, text));
        if (p->given)
            return refuse(msg, 400, "argument \"%s\" is given twice", p->name);
        if (!eq)
            return refuse(msg, 400, "argument \"%s\" has no value", p->name);
        p->given = true;
        p->value = slice_of(eq + 1, part.n - name.n - 1);
        if (!percent_decode(&p->value, to, true))
            return refuse(msg, 400, "argument \"%s\" has a %% without two hexadecimal digits",
                          p->name);
        to += p->value.n;
    }
    for (size_t i = 0; i < count; i++)
        if (params[i].required && !params[i].given)
            return refuse(msg, 400, "argument \"%s\" is missing", params[i].name);
    return 0;
}

unsigned query_number(const struct param *p, uint64_t min, uint64_t max, uint64_t *v,
                      struct errmsg *msg)
{
    uint64_t sum = 0;
    bool good = p->value.n > 0 && p->value.n <= 20;
    for (size_t i = 0; good && i < p->value.n; i++) {
        uint8_t c = p->value.p[i];
        good = c >= '0' && c <= '9' && !__builtin_mul_overflow(sum, 10u, &sum) &&
               !__builtin_add_overflow(sum, (uint64_t)(c - '0'), &sum);
    }
    if (!good || sum < min || sum > max)
        return refuse(msg, 400, "argument \"%s\" must be a whole number from %llu to %llu", p->name,
                      (unsigned long long)min, (unsigned long long)max);
    *v = sum;
    return 0;
}

unsigned query_bool(const struct param *p, bool *v, struct errmsg *msg)
{
    *v = slice_equal(p->value, slice_str("true"));
    if (p->given && !*v && !slice_equal(p->value, slice_str("false")))
        return refuse(msg, 400, "argument \"%s\" must be true or false", p->name);
    return 0;
}
