// Values between the stored form (varve.h), JSON and the text a person types or reads.
#ifndef VARVE_CLI_VALUE_H
#define VARVE_CLI_VALUE_H

#include "base/buf.h"
#include "base/json.h"
#include "varve.h"

// Names as in --type and dump lines: bytes string int float bool array.
const char *value_kind(enum varve_type type);
MUST_USE enum err value_kind_parse(struct slice name, enum varve_type *type);

// Appends a value as JSON. ERR_INVALID, and nothing appended, when JSON cannot say it exactly:
// bytes that are not UTF-8, an infinite float, an array that is not in the form value_from_json
// makes.
MUST_USE enum err value_put_json(struct buf *b, struct json_parser *parser,
                                 const struct varve_value *v);
// Appends a value as a person wants to see it: strings and bytes as they are, the rest as JSON.
MUST_USE enum err value_put_text(struct buf *b, const struct varve_value *v);

// Appends the stored form of a JSON value to `out`. The type is the JSON value's own, or *type if
// `typed`; ERR_TYPE, ERR_INVALID with msg.
MUST_USE enum err value_from_json(struct buf *out, struct json v, bool typed, enum varve_type *type,
                                  struct errmsg *msg);
// The same from what was typed: `type` NULL makes a string, or bytes if it is not UTF-8.
MUST_USE enum err value_from_text(struct buf *out, struct json_parser *parser, struct slice text,
                                  const char *type_name, enum varve_type *type, struct errmsg *msg);
// Appends the bytes of a JSON key: a string, or an array of byte values.
MUST_USE enum err value_key_from_json(struct buf *out, struct json v, struct errmsg *msg);

#endif
