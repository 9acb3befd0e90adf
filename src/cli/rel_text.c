#include "cli/rel_text.h"

enum {
    SHOWN = 40,       // bytes of a wrong number that are shown
    SAFE_DIGITS = 19, // that never go beyond 64 bits
};

static bool is_digit(uint8_t c)
{
    return (uint8_t)(c - '0') <= 9;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static bool fits(const uint8_t *p, const uint8_t *end)
{
    uint64_t v = 0;
    for (; p < end; p++)
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
            return false;
    return true;
}

// The number at p, which something that is no digit follows; where it ends, NULL if there is none.
static inline const uint8_t *number(const uint8_t *p, uint64_t *v)
{
    const uint8_t *begin = p;
    uint64_t sum = 0;
    for (; is_digit(*p); p++)
        sum = sum * 10 + (uint64_t)(*p - '0');
    *v = sum;
    if (p == begin || (p - begin > SAFE_DIGITS && !fits(begin, p)))
        return NULL;
    return p;
}

enum err rel_id(struct slice s, uint64_t *id)
{
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++)
        if (!is_digit(s.p[i]))
            return ERR_INVALID;
        else
            v = v * 10 + (uint64_t)(s.p[i] - '0');
    *id = v;
    return s.n && fits(s.p, s.p + s.n) ? ERR_OK : ERR_INVALID;
}

enum err rel_not_id(struct errmsg *msg, const char *name, struct slice s)
{
    char shown[SHOWN + 4] = "";
    size_t n = s.n < SHOWN ? s.n : SHOWN;
    for (size_t i = 0; i < n; i++)
        shown[i] = s.p[i] < 0x20 || s.p[i] >= 0x7f ? '.' : (char)s.p[i];
    if (s.n > SHOWN)
        memcpy(shown + n, "...", 4);
    return err_set(msg, ERR_INVALID, "%s: \"%s\" is not a whole number from 0 to 2^64 - 1", name,
                   shown);
}

static const uint8_t *past_blanks(const uint8_t *p)
{
    while (is_blank(*p))
        p++;
    return p;
}

// Past what stands between two numbers; NULL if nothing does.
static inline const uint8_t *past_separator(const uint8_t *p)
{
    const uint8_t *begin = p;
    p = past_blanks(p);
    if (*p == ',' || *p == ';')
        p = past_blanks(p + 1);
    return p > begin ? p : NULL;
}

// The end of a line whose numbers end at p: past its newline, NULL if something else follows.
static inline const uint8_t *past_end(const uint8_t *p)
{
    p = past_blanks(p);
    p += *p == '\r';
    return *p == '\n' ? p + 1 : NULL;
}

// Parses the line at p. NULL: it is no pair.
static inline const uint8_t *pair(const uint8_t *p, uint64_t *from, uint64_t *member)
{
    p = number(past_blanks(p), from);
    p = p ? past_separator(p) : NULL;
    p = p ? number(p, member) : NULL;
    return p ? past_end(p) : NULL;
}

// The part of a line up to a separator or its end.
static struct slice field(const uint8_t *p)
{
    const uint8_t *end = p;
    while (*end != '\n' && *end != ',' && *end != ';' && !is_blank(*end))
        end++;
    end -= end > p && *end == '\n' && end[-1] == '\r';
    return slice_of(p, (size_t)(end - p));
}

// What is wrong with the line at p, which is no pair.
static void explain(const uint8_t *p, struct errmsg *msg)
{
    static const char *const names[] = {"from", "to"};
    uint64_t id;
    for (int i = 0; i < 2; i++) {
        p = past_blanks(p);
        struct slice s = field(p);
        if (i && s.n == 0) {
            (void)err_set(msg, ERR_INVALID, "from has no to");
            return;
        }
        if (rel_id(s, &id)) {
            (void)rel_not_id(msg, names[i], s);
            return;
        }
        p = past_blanks(s.p + s.n);
        if (i == 0 && (*p == ',' || *p == ';'))
            p++;
    }
    (void)err_set(msg, ERR_INVALID, "more than from and to");
}

static const uint8_t *after_line(const uint8_t *p, const uint8_t *end)
{
    return (const uint8_t *)memchr(p, '\n', (size_t)(end - p)) + 1;
}

// A line that is no pair; where it ends, and in *bad whether it should have been one.
static const uint8_t *other_line(struct rel_text *t, const uint8_t *p, const uint8_t *end,
                                 bool *bad)
{
    const uint8_t *q = past_blanks(p);
    bool empty = *q == '#' || *q == '\n' || (*q == '\r' && q[1] == '\n');
    *bad = !empty && !t->header;
    t->header = t->header && empty;
    return after_line(q, end);
}

static enum rel_took take_lines(struct rel_text *t, struct slice text, struct rel_pairs *to,
                                size_t *used, struct errmsg *msg)
{
    const uint8_t *p = text.p, *end = text.p + text.n;
    uint64_t from, member;
    bool bad;
    while (p < end) {
        const uint8_t *next = pair(p, &from, &member);
        if (next) {
            if (!rel_pairs_add(to, from, member)) {
                *used = (size_t)(p - text.p);
                return REL_TOOK_FULL;
            }
            t->header = false;
            t->line++;
            p = next;
            continue;
        }
        next = other_line(t, p, end, &bad);
        t->line++;
        if (bad) {
            explain(p, msg);
            *used = (size_t)(next - text.p);
            return REL_TOOK_BAD;
        }
        p = next;
    }
    *used = text.n;
    return REL_TOOK_ALL;
}

enum rel_took rel_text_take(struct rel_text *t, struct slice text, struct rel_pairs *to,
                            size_t *used, struct errmsg *msg)
{
    if (!t->pairs)
        return take_lines(t, text, to, used, msg);
    for (*used = 0; *used < text.n; *used += REL_PAIR) {
        const uint8_t *p = text.p + *used;
        if (!rel_pairs_add(to, load64(p), load64(p + 8)))
            return REL_TOOK_FULL;
        t->line++;
    }
    return REL_TOOK_ALL;
}
