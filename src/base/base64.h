// Base64 (RFC 4648 section 4, with padding).
#ifndef VARVE_BASE_BASE64_H
#define VARVE_BASE_BASE64_H

#include "base/buf.h"

#define BASE64_SIZE(n) (((n) + 2) / 3 * 4)

// Writes BASE64_SIZE(s.n) characters.
void base64_write(uint8_t *to, struct slice s);
MUST_USE enum err base64_put(struct buf *b, struct slice s);
// Strict: ERR_INVALID for anything base64_put would not have made.
MUST_USE enum err base64_get(struct buf *b, struct slice text);

#endif
