// Dump lines, one JSON object a key:
//
//     {"key":K,"type":T,"version":N,"value":V,"expires_ms":E}
//
//   key         a string; "key_base64" instead if the key is not UTF-8
//   type        bytes string int float bool array
//   version     what it was; told for people, not restored
//   value       in JSON as its type is; "value_base64" instead, of the stored bytes (varve.h),
//   where JSON
//               cannot say them exactly
//   expires_ms  wall clock, milliseconds since 1970; left out if the key stays
//
// A reader takes the members in any order, type and version may be missing (a value has its JSON
// type then), others are an error.
#ifndef VARVE_CLI_LINES_H
#define VARVE_CLI_LINES_H

#include "base/buf.h"
#include "base/json.h"
#include "varve.h"

#define LINE_BYTES (128u << 20) // bytes; the largest value, all of it escaped

// Appends the member `name`, or name_base64 if the bytes are not UTF-8.
MUST_USE enum err line_put_bytes(struct buf *b, const char *name, struct slice s);
// Appends a line, with its newline.
MUST_USE enum err line_put(struct buf *b, struct json_parser *parser, struct slice key,
                           const struct varve_value *v);

struct line {
    size_t key_n;   // bytes appended for the key, then
    size_t value_n; // for the value
    enum varve_type type;
    uint64_t expires_ms; // 0: never
};
// Parses a line (BUF_PADDING readable bytes after it) and appends its key and value to `out`; on an
// error `out` is as before and msg says what is wrong.
MUST_USE enum err line_get(struct buf *out, struct json_parser *parser, struct slice text,
                           struct line *line, struct errmsg *msg);

#endif
