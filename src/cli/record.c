#include "cli/record.h"
#include "base/base64.h"
#include "cli/args.h"

enum member { OFFSET, TIMESTAMP, NONCE, RECORD, BASE64, MEMBERS };
static const char *const names[MEMBERS] = {"offset", "timestamp", "nonce", "record", "base64"};

static u128 u128_of(struct varve_u128 v)
{
    return (u128)v.high << 64 | v.low;
}

struct varve_u128 record_nonce(u128 v)
{
    return (struct varve_u128){.low = (uint64_t)v, .high = (uint64_t)(v >> 64)};
}

enum err record_put_members(struct buf *b, const struct varve_record *r)
{
    struct slice s = slice_of(r->data, r->size);
    enum err e = buf_append(b, "\"offset\":", 9);
    e = e ? e : json_put_uint(b, r->offset);
    e = e ? e : buf_append(b, ",\"timestamp\":", 13);
    e = e ? e : json_put_int(b, r->timestamp);
    if (!e && r->has_nonce) {
        char digits[U128_TEXT];
        u128_format(u128_of(r->nonce), digits);
        e = buf_printf(b, ",\"nonce\":\"%s\"", digits);
    }
    if (!e && utf8_valid(s)) {
        e = buf_append(b, ",\"record\":", 10);
        return e ? e : json_put_string(b, s);
    }
    e = e ? e : buf_append(b, ",\"base64\":\"", 11);
    e = e ? e : base64_put(b, s);
    return e ? e : buf_append(b, "\"", 1);
}

enum err record_put_json(struct buf *b, const struct varve_record *r)
{
    enum err e = buf_append(b, "{", 1);
    e = e ? e : record_put_members(b, r);
    return e ? e : buf_append(b, "}\n", 2);
}

static enum err get_nonce(struct json v, struct varve_record *r, struct errmsg *msg)
{
    u128 n = U128_MAX;
    bool good = true;
    if (json_kind(v) == JSON_STRING)
        good = u128_parse(json_string(v), &n);
    else if (json_kind(v) == JSON_UINT)
        n = json_uint(v);
    else if (json_kind(v) == JSON_INT && json_int(v) >= 0)
        n = (u128)json_int(v);
    if (!good || n == U128_MAX)
        return err_set(msg, ERR_INVALID,
                       "nonce must be a whole number up to 2^128 - 2, as digits or a string");
    r->nonce = record_nonce(n);
    r->has_nonce = true;
    return ERR_OK;
}

enum err record_get_member(struct buf *out, struct slice name, struct json v,
                           struct varve_record *r, unsigned *has, struct errmsg *msg)
{
    unsigned m = 0;
    while (m < MEMBERS && !slice_equal(name, slice_str(names[m])))
        m++;
    if (m == MEMBERS)
        return ERR_MISSING;
    bool again = *has & 1u << m || (m == RECORD && *has & 1u << BASE64) ||
                 (m == BASE64 && *has & 1u << RECORD);
    *has |= 1u << m;
    if (again)
        return err_set(msg, ERR_INVALID, "member \"%s\" is given twice", names[m]);
    if (m == TIMESTAMP) {
        if (json_kind(v) != JSON_INT || json_int(v) == INT64_MIN)
            return err_set(msg, ERR_INVALID, "timestamp must be a whole number of 64 bits");
        r->timestamp = json_int(v);
        r->has_timestamp = true;
    } else if (m == NONCE) {
        return get_nonce(v, r, msg);
    } else if (m == RECORD || m == BASE64) {
        size_t before = buf_len(out);
        enum err e = json_kind(v) != JSON_STRING ? ERR_INVALID
                     : m == BASE64               ? base64_get(out, json_string(v))
                                   : buf_append(out, json_string(v).p, json_string(v).n);
        r->size = buf_len(out) - before;
        if (e == ERR_INVALID)
            return err_set(msg, e, m == RECORD ? "record must be a string" : "base64 is none");
        return e ? err_set(msg, e, "%s", err_text(e)) : ERR_OK;
    }
    return ERR_OK;
}

enum err record_got_members(unsigned has, struct errmsg *msg)
{
    return has & (1u << RECORD | 1u << BASE64)
               ? ERR_OK
               : err_set(msg, ERR_INVALID, "one of record and base64 is wanted");
}

enum err record_get_json(struct buf *out, struct json_parser *parser, struct slice text,
                         struct varve_record *r, struct errmsg *msg)
{
    struct json root;
    enum err e = json_parse(parser, text, &root, msg);
    return e ? e : record_get(out, root, r, msg);
}

enum err record_get(struct buf *out, struct json root, struct varve_record *r, struct errmsg *msg)
{
    size_t before = buf_len(out);
    struct json v;
    struct slice name;
    unsigned has = 0;
    *r = (struct varve_record){.offset = 0};
    enum err e = ERR_OK;
    if (json_kind(root) != JSON_OBJECT)
        e = err_set(msg, ERR_INVALID, "an object is wanted, not %s",
                    json_kind_name(json_kind(root)));
    if (!e) {
        struct json_iter it = json_iterate(root);
        while (!e && json_next(&it, &name, &v)) {
            e = record_get_member(out, name, v, r, &has, msg);
            if (e == ERR_MISSING)
                e = err_set(msg, ERR_INVALID, "member \"%.*s\" is unknown",
                            name.n < 60 ? (int)name.n : 60, (const char *)name.p);
        }
    }
    e = e ? e : record_got_members(has, msg);
    if (e)
        out->end = out->start + before;
    return e;
}

// What follows "word:" in `text`, or NULL.
static const char *after(const char *text, const char *word)
{
    size_t n = strlen(word);
    return !strncmp(text, word, n) && text[n] == ':' ? text + n + 1 : NULL;
}

enum err record_from(const char *text, struct varve_log_query *q, struct errmsg *msg)
{
    const char *offset = after(text, "offset");
    const char *timestamp = after(text, "timestamp");
    const char *nonce = after(text, "nonce");
    u128 n;
    enum err e = ERR_OK;
    if (!strcmp(text, "first")) {
        q->start = VARVE_START_FIRST;
    } else if (timestamp) {
        q->start = VARVE_START_TIMESTAMP;
        e = arg_int(timestamp, &q->timestamp);
    } else if (nonce) {
        q->start = VARVE_START_NONCE;
        e = u128_parse(slice_str(nonce), &n) && n < U128_MAX ? ERR_OK : ERR_INVALID;
        q->nonce = record_nonce(e ? 0 : n);
    } else {
        q->start = VARVE_START_OFFSET;
        e = arg_count(offset ? offset : text, &q->offset);
    }
    return e ? err_set(msg, ERR_INVALID,
                       "\"%s\" is not a place in a log: first, N or offset:N, timestamp:T, nonce:N",
                       text)
             : ERR_OK;
}
