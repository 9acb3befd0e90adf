#include "bridge/parse.h"
#include <inttypes.h>
#include <stdio.h>

enum { NONCE_BYTES = 16, TIME_BYTES = 8 };

// ---- the configuration's words

struct word {
    const char *text; // with "(" if an argument follows
    enum parse_source source;
    enum parse_form form;
};

static const struct word texts[] = {
    {"Static(", PARSE_STATIC, PARSE_TEXT}, {"RecordHeader(", PARSE_HEADER, PARSE_TEXT},
    {"RecordKey", PARSE_KEY, PARSE_TEXT},  {"RecordPartition", PARSE_PARTITION, PARSE_TEXT},
    {NULL, PARSE_NONE, PARSE_TEXT},
};
static const struct word numbers[] = {
    {"None", PARSE_NONE, PARSE_TEXT},
    {"RecordHeaderBigEndian(", PARSE_HEADER, PARSE_BIG},
    {"RecordHeaderLittleEndian(", PARSE_HEADER, PARSE_LITTLE},
    {"RecordHeaderUtf8(", PARSE_HEADER, PARSE_TEXT},
    {"RecordKeyBigEndian", PARSE_KEY, PARSE_BIG},
    {"RecordKeyLittleEndian", PARSE_KEY, PARSE_LITTLE},
    {"RecordKeyUtf8", PARSE_KEY, PARSE_TEXT},
    {"RecordOffset", PARSE_OFFSET, PARSE_TEXT},
    {"RecordPartition", PARSE_PARTITION, PARSE_TEXT},
    {NULL, PARSE_NONE, PARSE_TEXT},
};

static enum err unknown(const struct word *words, const char *text, struct errmsg *msg)
{
    char all[300];
    size_t n = 0;
    all[0] = 0;
    for (; words->text && n < sizeof all; words++) {
        bool more = words->text[strlen(words->text) - 1] == '(';
        n += (size_t)snprintf(all + n, sizeof all - n, "%s%s%s", n ? ", " : "", words->text,
                              more ? "...)" : "");
    }
    return err_set(msg, ERR_INVALID, "\"%.60s\" is no parser; there are %s", text, all);
}

static enum err parser_of(const struct word *words, struct parser *p, const char *text,
                          struct errmsg *msg)
{
    size_t n = strlen(text);
    for (const struct word *w = words; w->text; w++) {
        size_t m = strlen(w->text);
        *p = (struct parser){.source = w->source, .form = w->form};
        if (w->text[m - 1] != '(') {
            if (!strcmp(text, w->text))
                return ERR_OK;
            continue;
        }
        if (strncmp(text, w->text, m) != 0)
            continue;
        if (text[n - 1] != ')' || n == m + 1)
            return err_set(msg, ERR_INVALID, "\"%.60s\": %s between the brackets", text,
                           text[n - 1] != ')' ? "the \")\" is missing; nothing may follow what is"
                                              : "there is nothing");
        if (n - m > PARSE_NAME_MAX)
            return err_set(msg, ERR_INVALID,
                           "\"%.60s...\": longer than %u bytes between the brackets", text,
                           PARSE_NAME_MAX - 1);
        memcpy(p->name, text + m, n - m - 1);
        if (!utf8_valid(slice_str(p->name)))
            return err_set(msg, ERR_INVALID, "what is between the brackets is not UTF-8");
        return ERR_OK;
    }
    return unknown(words, text, msg);
}

enum err parser_text(struct parser *p, const char *text, struct errmsg *msg)
{
    return parser_of(texts, p, text, msg);
}

enum err parser_number(struct parser *p, const char *text, struct errmsg *msg)
{
    return parser_of(numbers, p, text, msg);
}

// ---- records

// The bytes that a header's or the key's parser looks at.
static enum err find(const struct parser *p, const struct parse_record *r, struct slice *value,
                     struct errmsg *msg)
{
    if (p->source == PARSE_KEY) {
        *value = r->key;
        return r->has_key ? ERR_OK : err_set(msg, ERR_INVALID, "it has no key");
    }
    if (!r->header(r, p->name, value))
        return err_set(msg, ERR_INVALID, "it has no header \"%s\"", p->name);
    return ERR_OK;
}

// What the sentence is about: `header "h"` or `its key`.
static const char *what(const struct parser *p, char text[PARSE_NAME_MAX + 16])
{
    if (p->source == PARSE_KEY)
        return "its key";
    snprintf(text, PARSE_NAME_MAX + 16, "header \"%s\"", p->name);
    return text;
}

enum err parse_name(const struct parser *p, const struct parse_record *r, char digits[PARSE_DIGITS],
                    struct slice *name, struct errmsg *msg)
{
    char about[PARSE_NAME_MAX + 16];
    if (p->source == PARSE_STATIC) {
        *name = slice_str(p->name);
        return ERR_OK;
    }
    if (p->source == PARSE_PARTITION) {
        snprintf(digits, PARSE_DIGITS, "%" PRId32, r->partition);
        *name = slice_str(digits);
        return ERR_OK;
    }
    enum err e = find(p, r, name, msg);
    if (!e && name->n == 0)
        e = err_set(msg, ERR_INVALID, "%s is empty", what(p, about));
    if (!e && !utf8_valid(*name))
        e = err_set(msg, ERR_INVALID, "%s is not UTF-8", what(p, about));
    return e;
}

// Bytes to a number from 0 up.
static enum err from_bytes(const struct parser *p, struct slice s, size_t most, u128 *n,
                           struct errmsg *msg)
{
    char about[PARSE_NAME_MAX + 16];
    if (s.n == 0 || s.n > most)
        return err_set(msg, ERR_INVALID, "%s has %zu bytes; a number has 1 to %zu", what(p, about),
                       s.n, most);
    *n = 0;
    for (size_t i = 0; i < s.n; i++)
        *n = *n << 8 | s.p[p->form == PARSE_BIG ? i : s.n - 1 - i];
    return ERR_OK;
}

static enum err no_number(const struct parser *p, struct slice s, const char *range,
                          struct errmsg *msg)
{
    char about[PARSE_NAME_MAX + 16], shown[48];
    size_t n = s.n < sizeof shown - 1 ? s.n : sizeof shown - 1;
    if (n)
        memcpy(shown, s.p, n);
    shown[n] = 0;
    for (size_t i = 0; i < n; i++)
        if ((uint8_t)shown[i] < 0x20 || (uint8_t)shown[i] > 0x7e)
            shown[i] = '?';
    return err_set(msg, ERR_INVALID, "%s, \"%s\"%s, is not a decimal number from %s",
                   what(p, about), shown, s.n > n ? "..." : "", range);
}

static bool skip_sign(struct slice *s, char sign)
{
    if (s->n < 2 || s->p[0] != (uint8_t)sign)
        return false;
    *s = slice_of(s->p + 1, s->n - 1);
    return true;
}

enum err parse_nonce(const struct parser *p, const struct parse_record *r, bool *has, u128 *nonce,
                     struct errmsg *msg)
{
    struct slice s;
    *has = p->source != PARSE_NONE;
    *nonce = U128_MAX;
    if (p->source == PARSE_NONE)
        return ERR_OK;
    if (p->source == PARSE_OFFSET || p->source == PARSE_PARTITION) {
        *nonce = p->source == PARSE_OFFSET ? (u128)r->offset : (u128)r->partition;
        return ERR_OK;
    }
    enum err e = find(p, r, &s, msg);
    if (e)
        return e;
    if (p->form != PARSE_TEXT) {
        e = from_bytes(p, s, NONCE_BYTES, nonce, msg);
        if (!e && *nonce == U128_MAX)
            e = err_set(msg, ERR_INVALID, "its nonce is 2^128 - 1, which none may be");
        return e;
    }
    struct slice digits = s;
    (void)skip_sign(&digits, '+');
    if (!u128_parse(digits, nonce) || *nonce == U128_MAX)
        return no_number(p, s, "0 to 2^128 - 2", msg);
    return ERR_OK;
}

enum err parse_timestamp(const struct parser *p, const struct parse_record *r, bool *has,
                         int64_t *timestamp, struct errmsg *msg)
{
    static const char range[] = "-2^63 + 1 to 2^63 - 1";
    struct slice s;
    u128 n;
    *has = p->source != PARSE_NONE;
    *timestamp = 0;
    if (p->source == PARSE_NONE)
        return ERR_OK;
    if (p->source == PARSE_OFFSET || p->source == PARSE_PARTITION) {
        *timestamp = p->source == PARSE_OFFSET ? r->offset : r->partition;
        return ERR_OK;
    }
    enum err e = find(p, r, &s, msg);
    if (e)
        return e;
    if (p->form != PARSE_TEXT) {
        e = from_bytes(p, s, TIME_BYTES, &n, msg);
        if (!e && n == (u128)1 << 63)
            e = err_set(msg, ERR_INVALID, "its timestamp is -2^63, which none may be");
        if (!e)
            *timestamp = (int64_t)(uint64_t)n;
        return e;
    }
    struct slice digits = s;
    bool minus = skip_sign(&digits, '-');
    if (!minus)
        (void)skip_sign(&digits, '+');
    if (!u128_parse(digits, &n) || n > INT64_MAX)
        return no_number(p, s, range, msg);
    *timestamp = minus ? -(int64_t)n : (int64_t)n;
    return ERR_OK;
}
