// JSON for C: simdjson behind a C header (json.cc is the project's only C++ file). Parsing gives a
// tree that lives in the parser until its next parse; values are small cursors passed by value.
// Numbers keep their kind: an integer that fits i64 is JSON_INT, exact; one that fits only u64 is
// JSON_UINT; beyond is an error; anything with a fraction or exponent is JSON_FLOAT.
#ifndef VARVE_BASE_JSON_H
#define VARVE_BASE_JSON_H

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

enum json_kind {
    JSON_NULL,
    JSON_BOOL,
    JSON_INT,
    JSON_UINT,
    JSON_FLOAT,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
};

struct json_parser;
struct json {
    const void *doc;
    size_t at;
};
// Walks an array's elements or an object's members.
struct json_iter {
    struct json next;
    size_t end;
    bool object;
};

// NULL when memory is out. Not thread-safe; memory is kept from one parse to the next, except that
// the parse after one of a huge text gives the most of it back.
struct json_parser *json_parser_new(size_t max_bytes);
void json_parser_free(struct json_parser *p);
// `text` must have BUF_PADDING readable bytes after it; it may be reused once this returns.
// ERR_INVALID: msg says what and at which byte (from 0), also of ill-formed UTF-8, half a surrogate
// pair and nesting deeper than LIMIT_JSON_DEPTH; ERR_OVERFLOW for an integer beyond 64 bits or a
// float beyond the double range, with its text; ERR_TOO_BIG past max_bytes. Of members with the
// same name, all are in the tree.
MUST_USE
enum err json_parse(struct json_parser *p, struct slice text, struct json *root,
                    struct errmsg *msg);
enum json_kind json_kind(struct json v);
const char *json_kind_name(enum json_kind k);
// Each takes a value of its kind only (asserted); json_uint also a JSON_INT that is not negative.
bool json_bool(struct json v);
int64_t json_int(struct json v);
uint64_t json_uint(struct json v);
double json_float(struct json v);
struct slice json_string(struct json v);      // unescaped, lives in the parser
size_t json_count(struct json v);             // of an array or object
struct json_iter json_iterate(struct json v); // array or object
// False at the end. `name` is set for objects (may be NULL for arrays).
bool json_next(struct json_iter *it, struct slice *name, struct json *v);
// Takes an array's elements as long as they are whole numbers from 0 to 2^64 - 1: puts them into
// `to`, packed little-endian u64, moves past them and returns how many. `to` has room for all that
// are left.
size_t json_take_uints(struct json_iter *it, uint8_t *to);

// Writers. json_put_string quotes and escapes well-formed UTF-8; ill-formed bytes are the caller's
// to check.
MUST_USE
enum err json_put_string(struct buf *b, struct slice s);
// Shortest text that reads back as the same double, always with a '.' or an exponent; not for inf
// or nan.
MUST_USE
enum err json_put_float(struct buf *b, double v);
MUST_USE
enum err json_put_int(struct buf *b, int64_t v);
MUST_USE
enum err json_put_uint(struct buf *b, uint64_t v);
// Packed little-endian u64 with commas between them; `quoted`: each as a string.
MUST_USE
enum err json_put_uints(struct buf *b, const uint8_t *packed, size_t n, bool quoted);

#endif
