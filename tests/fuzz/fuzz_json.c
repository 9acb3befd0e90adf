// json_parse() and the writers. Properties: whether a text parses does not depend on the padding
// after it; what parses, written again, parses to the same; what does not parse gets an error that
// says where, from a validator that agrees with simdjson.
#include "fuzz.h"
#include "base/json.h"
#include "base/limits.h"

static void write_value(struct buf *out, struct json v, size_t depth);

static void put(struct buf *out, const char *text)
{
    VERIFY(buf_append(out, text, strlen(text)) == ERR_OK);
}

// What json_take_uints takes of an array is what json_next finds, and json_put_uints writes it as
// json_put_uint does.
static void check_run(struct json v)
{
    struct json_iter run = json_iterate(v), it = run;
    uint8_t *packed = malloc(8 * json_count(v) + 1);
    VERIFY(packed);
    size_t n = json_take_uints(&run, packed);
    struct buf each, together;
    struct json inner;
    buf_init(&each, 64u << 20);
    buf_init(&together, 64u << 20);
    for (size_t i = 0; i < n; i++) {
        VERIFY(json_next(&it, NULL, &inner) && json_uint(inner) == load64(packed + 8 * i));
        put(&each, i ? "," : "");
        VERIFY(json_put_uint(&each, load64(packed + 8 * i)) == ERR_OK);
    }
    VERIFY(json_put_uints(&together, packed, n, false) == ERR_OK);
    VERIFY(slice_equal(buf_slice(&each), buf_slice(&together)));
    bool more = json_next(&it, NULL, &inner);
    VERIFY(more == json_next(&run, NULL, &inner));
    VERIFY(!more || (json_kind(inner) != JSON_UINT &&
                     (json_kind(inner) != JSON_INT || json_int(inner) < 0)));
    buf_release(&each);
    buf_release(&together);
    free(packed);
}

static void write_container(struct buf *out, struct json v, size_t depth)
{
    bool object = json_kind(v) == JSON_OBJECT;
    struct json_iter it = json_iterate(v);
    struct slice name;
    struct json inner;
    size_t count = 0;
    if (!object)
        check_run(v);
    put(out, object ? "{" : "[");
    while (json_next(&it, &name, &inner)) {
        if (count++)
            put(out, ",");
        if (object) {
            VERIFY(utf8_valid(name));
            VERIFY(json_put_string(out, name) == ERR_OK);
            put(out, ":");
        }
        write_value(out, inner, depth + 1);
    }
    VERIFY(count == json_count(v));
    put(out, object ? "}" : "]");
}

static void write_value(struct buf *out, struct json v, size_t depth)
{
    VERIFY(depth <= LIMIT_JSON_DEPTH + 1);
    switch (json_kind(v)) {
    case JSON_NULL:
        put(out, "null");
        break;
    case JSON_BOOL:
        put(out, json_bool(v) ? "true" : "false");
        break;
    case JSON_INT:
        VERIFY(json_put_int(out, json_int(v)) == ERR_OK);
        break;
    case JSON_UINT:
        VERIFY(json_uint(v) > INT64_MAX);
        VERIFY(json_put_uint(out, json_uint(v)) == ERR_OK);
        break;
    case JSON_FLOAT:
        VERIFY(json_put_float(out, json_float(v)) == ERR_OK);
        break;
    case JSON_STRING:
        VERIFY(utf8_valid(json_string(v)));
        VERIFY(json_put_string(out, json_string(v)) == ERR_OK);
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        write_container(out, v, depth);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_parser *p = json_parser_new(1u << 20);
    struct json root;
    struct errmsg msg = {0};
    VERIFY(p);
    // Padding that could continue the text: a digit, then the end of a string.
    uint8_t *text = fuzz_copy(data, size, BUF_PADDING, '"');
    enum err other = json_parse(p, slice_of(text, size), &root, NULL);
    memset(text + size, '7', BUF_PADDING);
    enum err e = json_parse(p, slice_of(text, size), &root, &msg);
    VERIFY(e == other);
    if (e) {
        VERIFY(e == ERR_INVALID || e == ERR_OVERFLOW || (e == ERR_TOO_BIG && size > 1u << 20));
        VERIFY(msg.text[0] && strncmp(msg.text, "JSON: ", 6) != 0);
    } else {
        struct buf first, second;
        buf_init(&first, 64u << 20);
        buf_init(&second, 64u << 20);
        write_value(&first, root, 0);
        VERIFY(buf_reserve(&first, BUF_PADDING) == ERR_OK);
        struct json_parser *q = json_parser_new(64u << 20);
        VERIFY(q && json_parse(q, buf_slice(&first), &root, NULL) == ERR_OK);
        write_value(&second, root, 0);
        VERIFY(slice_equal(buf_slice(&first), buf_slice(&second)));
        json_parser_free(q);
        buf_release(&first);
        buf_release(&second);
    }
    free(text);
    json_parser_free(p);
    return 0;
}
