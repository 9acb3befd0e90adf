// Percent-encoding as SigV4 and S3 want it, and the endpoint's address.
#ifndef VARVE_OBJECT_URL_H
#define VARVE_OBJECT_URL_H

#include "base/buf.h"
#include "base/err.h"

// Appends `s` with every byte but A-Z a-z 0-9 - . _ ~ as %XX (upper case); '/' stays if keep_slash.
MUST_USE enum err url_encode(struct buf *b, struct slice s, bool keep_slash);
// Decodes %XX in place (and '+' as a space, which some servers write); returns the new length, or
// SIZE_MAX if a '%' is not followed by two hexadecimal digits.
size_t url_decode(char *s, size_t n);
// Sorts a query's members, "a=1&b=" already encoded, bytewise by name and value, as SigV4 signs
// them; appends to `b`. ERR_TOO_BIG for more than URL_QUERY_MEMBERS.
MUST_USE enum err url_sort_query(struct buf *b, const char *query);
#define URL_QUERY_MEMBERS 64

struct endpoint {
    char scheme[8];  // "http" or "https"
    char host[256];  // without the port; an IPv6 address in its brackets
    char port[8];    // "" if none or the scheme's own, so it is not in a Host header
    bool is_address; // an IP address or localhost: has no names below it
};

// Parses "http[s]://HOST[:PORT][/]". ERR_INVALID with what is wrong in `msg`.
MUST_USE enum err endpoint_parse(struct endpoint *e, const char *text, struct errmsg *msg);
// Whether ENDPOINT/BUCKET/ must be said, because BUCKET.ENDPOINT cannot be.
bool endpoint_needs_path(const struct endpoint *e, const char *bucket);

#endif
