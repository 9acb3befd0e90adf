// Records of logs between the client library's form and what a person types or reads.
//
// As JSON a record is a line like the objects of a page over HTTP (docs/PROTOCOLS.md):
//
//     {"offset":O,"timestamp":T,"nonce":"N","record":"..."}
//
//   nonce   a decimal string, since it has 128 bits; left out if there is none
//   record  a string; "base64" instead if the bytes are not UTF-8
//
// A reader takes the members in any order, the nonce as a number too; only record or base64 has to
// be there. The offset is for people: the log gives a new one.
#ifndef VARVE_CLI_RECORD_H
#define VARVE_CLI_RECORD_H

#include "base/buf.h"
#include "base/json.h"
#include "base/u128.h"
#include "varve.h"

// Appends the members, without the braces.
MUST_USE enum err record_put_members(struct buf *b, const struct varve_record *r);
// Appends a line, with its newline.
MUST_USE enum err record_put_json(struct buf *b, const struct varve_record *r);
// Parses a line (BUF_PADDING readable bytes after it): appends its bytes to `out` and sets all of
// *r but data. On an error `out` is as before and msg says what is wrong.
MUST_USE enum err record_get_json(struct buf *out, struct json_parser *parser, struct slice text,
                                  struct varve_record *r, struct errmsg *msg);
// The same of a value that has been parsed.
MUST_USE enum err record_get(struct buf *out, struct json root, struct varve_record *r,
                             struct errmsg *msg);
// One member of such a line, for readers of lines that have others too: ERR_MISSING if `name` is
// none of them. *has has a bit for each that was there; start with 0.
MUST_USE enum err record_get_member(struct buf *out, struct slice name, struct json v,
                                    struct varve_record *r, unsigned *has, struct errmsg *msg);
// After the last: ERR_INVALID if the record itself was not there.
MUST_USE enum err record_got_members(unsigned has, struct errmsg *msg);

struct varve_u128 record_nonce(u128 v);
// Where to begin: first, N or offset:N, timestamp:T, nonce:N. ERR_INVALID with msg.
MUST_USE enum err record_from(const char *text, struct varve_log_query *q, struct errmsg *msg);

#endif
