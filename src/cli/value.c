#include "cli/value.h"
#include "cli/args.h"
#include <math.h>
#include <stdio.h>

static const char *const kinds[] = {"bytes", "string", "int", "float", "bool", "array"};
enum { KINDS = sizeof kinds / sizeof *kinds };

const char *value_kind(enum varve_type type)
{
    return (size_t)type < KINDS ? kinds[type] : "unknown";
}

enum err value_kind_parse(struct slice name, enum varve_type *type)
{
    for (size_t i = 0; i < KINDS; i++) {
        if (slice_equal(name, slice_str(kinds[i]))) {
            *type = (enum varve_type)i;
            return ERR_OK;
        }
    }
    return ERR_INVALID;
}

static enum err put_number(struct buf *b, struct json v)
{
    switch (json_kind(v)) {
    case JSON_INT:
        return json_put_int(b, json_int(v));
    case JSON_UINT:
        return json_put_uint(b, json_uint(v));
    case JSON_FLOAT:
        return json_put_float(b, json_float(v));
    default:
        return ERR_TYPE;
    }
}

// An array of numbers in the form that is stored: no spaces, each number in its shortest form.
static enum err put_array(struct buf *b, struct json v, struct errmsg *msg)
{
    if (json_kind(v) != JSON_ARRAY)
        return err_set(msg, ERR_TYPE, "an array is wanted, not %s", json_kind_name(json_kind(v)));
    enum err e = buf_append(b, "[", 1);
    struct json_iter it = json_iterate(v);
    struct json element;
    for (size_t i = 0; !e && json_next(&it, NULL, &element); i++) {
        if (i)
            e = buf_append(b, ",", 1);
        e = e ? e : put_number(b, element);
        if (e == ERR_TYPE)
            return err_set(msg, e, "element %zu of the array is no number", i);
    }
    return e ? e : buf_append(b, "]", 1);
}

static enum err put_int(struct buf *b, int64_t n)
{
    return buf_append(b, &n, sizeof n); // little-endian, see base/slice.h
}

static enum err put_double(struct buf *b, double d)
{
    return buf_append(b, &d, sizeof d);
}

// The type a JSON value has by itself.
static enum err own_type(struct json v, enum varve_type *type, struct errmsg *msg)
{
    switch (json_kind(v)) {
    case JSON_STRING:
        *type = VARVE_STRING;
        return ERR_OK;
    case JSON_INT:
        *type = VARVE_INT;
        return ERR_OK;
    case JSON_FLOAT:
        *type = VARVE_FLOAT;
        return ERR_OK;
    case JSON_BOOL:
        *type = VARVE_BOOL;
        return ERR_OK;
    case JSON_ARRAY:
        *type = VARVE_ARRAY;
        return ERR_OK;
    case JSON_UINT:
        return err_set(msg, ERR_OVERFLOW, "an integer is out of the signed 64-bit range");
    case JSON_NULL:
    case JSON_OBJECT:
        break;
    }
    return err_set(msg, ERR_TYPE,
                   "a value must be a string, number, bool or array of numbers, not %s",
                   json_kind_name(json_kind(v)));
}

enum err value_from_json(struct buf *out, struct json v, bool typed, enum varve_type *type,
                         struct errmsg *msg)
{
    enum varve_type own = VARVE_BYTES;
    enum err e = own_type(v, &own, msg);
    if (e)
        return e;
    if (!typed)
        *type = own;
    // Bytes that are UTF-8 stand in a string; a float may have been written without its point.
    bool fits = own == *type || (*type == VARVE_BYTES && own == VARVE_STRING) ||
                (*type == VARVE_FLOAT && own == VARVE_INT);
    if (!fits)
        return err_set(msg, ERR_TYPE, "type %s, but the value is %s", value_kind(*type),
                       json_kind_name(json_kind(v)));
    uint8_t truth;
    switch (*type) {
    case VARVE_BYTES:
    case VARVE_STRING:
        return buf_append(out, json_string(v).p, json_string(v).n);
    case VARVE_INT:
        return put_int(out, json_int(v));
    case VARVE_FLOAT:
        return put_double(out, own == VARVE_INT ? (double)json_int(v) : json_float(v));
    case VARVE_BOOL:
        truth = json_bool(v);
        return buf_append(out, &truth, 1);
    case VARVE_ARRAY:
        return put_array(out, v, msg);
    }
    return ERR_INVALID;
}

// True if the array is, byte for byte, what reading it as JSON would store.
static bool array_is_canonical(struct json_parser *parser, struct slice text)
{
    struct buf padded, again;
    struct json root;
    buf_init(&padded, text.n + 1);
    buf_init(&again, text.n * 2 + 64);
    bool same = !buf_append(&padded, text.p, text.n) &&
                !json_parse(parser, buf_slice(&padded), &root, NULL) &&
                !put_array(&again, root, NULL) && slice_equal(buf_slice(&again), text);
    buf_release(&padded);
    buf_release(&again);
    return same;
}

enum err value_put_json(struct buf *b, struct json_parser *parser, const struct varve_value *v)
{
    struct slice s = slice_of(v->data, v->size);
    switch (v->type) {
    case VARVE_BYTES:
    case VARVE_STRING:
        return utf8_valid(s) ? json_put_string(b, s) : ERR_INVALID;
    case VARVE_INT:
        return json_put_int(b, varve_value_int(v));
    case VARVE_FLOAT:
        return isfinite(varve_value_float(v)) ? json_put_float(b, varve_value_float(v))
                                              : ERR_INVALID;
    case VARVE_BOOL:
        return varve_value_bool(v) ? buf_append(b, "true", 4) : buf_append(b, "false", 5);
    case VARVE_ARRAY:
        return array_is_canonical(parser, s) ? buf_append(b, s.p, s.n) : ERR_INVALID;
    }
    return ERR_INVALID;
}

enum err value_put_text(struct buf *b, const struct varve_value *v)
{
    switch (v->type) {
    case VARVE_INT:
        return json_put_int(b, varve_value_int(v));
    case VARVE_FLOAT:
        return isfinite(varve_value_float(v)) ? json_put_float(b, varve_value_float(v))
                                              : buf_printf(b, "%f", varve_value_float(v));
    case VARVE_BOOL:
        return varve_value_bool(v) ? buf_append(b, "true", 4) : buf_append(b, "false", 5);
    case VARVE_BYTES:
    case VARVE_STRING:
    case VARVE_ARRAY:
        break;
    }
    return buf_append(b, v->data, v->size);
}

enum err value_from_text(struct buf *out, struct json_parser *parser, struct slice text,
                         const char *type_name, enum varve_type *type, struct errmsg *msg)
{
    *type = utf8_valid(text) ? VARVE_STRING : VARVE_BYTES;
    if (type_name && value_kind_parse(slice_str(type_name), type))
        return err_set(msg, ERR_INVALID, "--type must be bytes, string, int, float, bool or array");
    if (*type == VARVE_STRING && !utf8_valid(text))
        return err_set(msg, ERR_INVALID, "the value is not UTF-8; --type bytes takes any bytes");
    if (*type == VARVE_STRING || *type == VARVE_BYTES)
        return buf_append(out, text.p, text.n);
    // Numbers, bools and arrays are written as in JSON, and their type is what was asked for.
    struct buf padded;
    struct json root;
    struct errmsg why;
    buf_init(&padded, text.n + 1);
    enum err e = buf_append(&padded, text.p, text.n);
    e = e ? e : json_parse(parser, buf_slice(&padded), &root, &why);
    e = e ? e : value_from_json(out, root, true, type, &why);
    buf_release(&padded);
    return e ? err_set(msg, e, "\"%.*s\" is no %s: %s", text.n < 60 ? (int)text.n : 60,
                       (const char *)text.p, value_kind(*type), why.text)
             : ERR_OK;
}

enum err value_key_from_json(struct buf *out, struct json v, struct errmsg *msg)
{
    if (json_kind(v) == JSON_STRING)
        return buf_append(out, json_string(v).p, json_string(v).n);
    if (json_kind(v) != JSON_ARRAY)
        return err_set(msg, ERR_TYPE, "a key must be a string or an array of byte values");
    struct json_iter it = json_iterate(v);
    struct json element;
    while (json_next(&it, NULL, &element)) {
        int64_t n = json_kind(element) == JSON_INT ? json_int(element) : -1;
        uint8_t byte = (uint8_t)n;
        if (n < 0 || n > 255)
            return err_set(msg, ERR_TYPE, "a key's array must hold byte values, 0 to 255");
        enum err e = buf_append(out, &byte, 1);
        if (e)
            return e;
    }
    return ERR_OK;
}
