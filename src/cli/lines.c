#include "cli/lines.h"
#include "base/base64.h"
#include "cli/value.h"

enum err line_put_bytes(struct buf *b, const char *name, struct slice s)
{
    enum err e;
    if (utf8_valid(s)) {
        e = buf_printf(b, "\"%s\":", name);
        return e ? e : json_put_string(b, s);
    }
    e = buf_printf(b, "\"%s_base64\":\"", name);
    e = e ? e : base64_put(b, s);
    return e ? e : buf_append(b, "\"", 1);
}

static enum err put_value(struct buf *b, struct json_parser *parser, const struct varve_value *v)
{
    size_t before = buf_len(b);
    enum err e = buf_printf(b, ",\"value\":");
    e = e ? e : value_put_json(b, parser, v);
    if (e != ERR_INVALID)
        return e;
    b->end = b->start + before;
    e = buf_printf(b, ",\"value_base64\":\"");
    e = e ? e : base64_put(b, slice_of(v->data, v->size));
    return e ? e : buf_append(b, "\"", 1);
}

enum err line_put(struct buf *b, struct json_parser *parser, struct slice key,
                  const struct varve_value *v)
{
    enum err e = buf_append(b, "{", 1);
    e = e ? e : line_put_bytes(b, "key", key);
    if (!e)
        e = buf_printf(b, ",\"type\":\"%s\",\"version\":%llu", value_kind(v->type),
                       (unsigned long long)v->version);
    e = e ? e : put_value(b, parser, v);
    if (!e && v->expires_ms)
        e = buf_printf(b, ",\"expires_ms\":%llu", (unsigned long long)v->expires_ms);
    return e ? e : buf_append(b, "}\n", 2);
}

enum member { KEY, KEY64, VALUE, VALUE64, TYPE, VERSION, EXPIRES, MEMBERS };
static const char *const names[MEMBERS] = {"key",  "key_base64", "value",     "value_base64",
                                           "type", "version",    "expires_ms"};

struct members {
    struct json at[MEMBERS];
    bool has[MEMBERS];
};

static enum err read_members(struct json root, struct members *m, struct errmsg *msg)
{
    *m = (struct members){.has = {false}};
    if (json_kind(root) != JSON_OBJECT)
        return err_set(msg, ERR_INVALID, "an object is wanted, not %s",
                       json_kind_name(json_kind(root)));
    struct json_iter it = json_iterate(root);
    struct slice name;
    struct json v;
    while (json_next(&it, &name, &v)) {
        int i = 0;
        while (i < MEMBERS && !slice_equal(name, slice_str(names[i])))
            i++;
        if (i == MEMBERS || m->has[i])
            return err_set(msg, ERR_INVALID, "member \"%.*s\" is %s",
                           name.n < 60 ? (int)name.n : 60, (const char *)name.p,
                           i == MEMBERS ? "unknown" : "given twice");
        m->has[i] = true;
        m->at[i] = v;
    }
    if (m->has[KEY] == m->has[KEY64] || m->has[VALUE] == m->has[VALUE64])
        return err_set(msg, ERR_INVALID,
                       "one of key and key_base64 is wanted, and one of value "
                       "and value_base64");
    return ERR_OK;
}

static enum err get_base64(struct buf *out, struct json v, const char *name, struct errmsg *msg)
{
    enum err e = json_kind(v) == JSON_STRING ? base64_get(out, json_string(v)) : ERR_INVALID;
    return e == ERR_INVALID ? err_set(msg, e, "%s is no base64", name) : e;
}

static enum err get_key(struct buf *out, const struct members *m, struct errmsg *msg)
{
    if (m->has[KEY64])
        return get_base64(out, m->at[KEY64], names[KEY64], msg);
    if (json_kind(m->at[KEY]) != JSON_STRING)
        return err_set(msg, ERR_TYPE, "key must be a string");
    struct slice key = json_string(m->at[KEY]);
    return buf_append(out, key.p, key.n);
}

static enum err get_value(struct buf *out, const struct members *m, struct line *line,
                          struct errmsg *msg)
{
    bool typed = m->has[TYPE];
    if (typed && (json_kind(m->at[TYPE]) != JSON_STRING ||
                  value_kind_parse(json_string(m->at[TYPE]), &line->type)))
        return err_set(msg, ERR_INVALID, "type must be bytes, string, int, float, bool or array");
    if (m->has[VALUE])
        return value_from_json(out, m->at[VALUE], typed, &line->type, msg);
    if (!typed)
        line->type = VARVE_BYTES;
    return get_base64(out, m->at[VALUE64], names[VALUE64], msg);
}

enum err line_get(struct buf *out, struct json_parser *parser, struct slice text, struct line *line,
                  struct errmsg *msg)
{
    size_t before = buf_len(out);
    struct json root;
    struct members m;
    *line = (struct line){.expires_ms = 0};
    msg->text[0] = 0;
    enum err e = json_parse(parser, text, &root, msg);
    e = e ? e : read_members(root, &m, msg);
    if (!e && m.has[EXPIRES]) {
        if (json_kind(m.at[EXPIRES]) != JSON_INT || json_int(m.at[EXPIRES]) < 0)
            e = err_set(msg, ERR_TYPE, "expires_ms must be a whole number");
        else
            line->expires_ms = (uint64_t)json_int(m.at[EXPIRES]);
    }
    e = e ? e : get_key(out, &m, msg);
    line->key_n = buf_len(out) - before;
    e = e ? e : get_value(out, &m, line, msg);
    line->value_n = buf_len(out) - before - line->key_n;
    if (!e)
        return ERR_OK;
    out->end = out->start + before;
    return msg->text[0] ? e : err_set(msg, e, "%s", err_text(e));
}
