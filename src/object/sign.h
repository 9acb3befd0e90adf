// AWS Signature Version 4: what says that a request comes from the owner of a key. Pure functions.
// Source: "AWS Signature Version 4 signing process" in AWS's general reference; for S3 the path is
// encoded once and not normalised.
//
//   canonical = METHOD \n path \n query \n (name:value\n for each header) \n names \n payload hash
//   to sign   = AWS4-HMAC-SHA256 \n date \n DAY/REGION/SERVICE/aws4_request \n
//   hex(sha256(canonical)) key       = hmac(hmac(hmac(hmac("AWS4" secret, DAY), REGION), SERVICE),
//   "aws4_request") signature = hex(hmac(key, to sign))
#ifndef VARVE_OBJECT_SIGN_H
#define VARVE_OBJECT_SIGN_H

#include "base/buf.h"
#include "base/err.h"

#define SHA256_BYTES  32
#define SHA256_HEX    65 // with the NUL
#define SIGN_DATE     17 // "20130524T000000Z" with the NUL
#define SIGN_HEADERS  16 // at most in one request
#define UNSIGNED_HASH "UNSIGNED-PAYLOAD"
#define EMPTY_HASH    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct sign_header {
    const char *name;  // lower case
    const char *value; // as it is sent
};

struct sign_request {
    const char *method;
    const char *path;                  // encoded
    const char *query;                 // encoded and sorted (url_sort_query), "" if none
    const struct sign_header *headers; // in rising order of names; those of one name in theirs
    size_t header_count;               // at most SIGN_HEADERS
    const char *payload_hash;
};

struct sign_key {
    const char *access;
    const char *secret;
    const char *region;
    const char *service; // "s3"
};

// Writes the Authorization header's value to `out`. ERR_NO_MEMORY, ERR_TOO_BIG.
MUST_USE enum err sign_v4(struct buf *out, const struct sign_key *key, const char *date,
                          const struct sign_request *r);
// The two intermediate texts, for tests and for whoever has to find out why a signature is refused.
MUST_USE enum err sign_canonical(struct buf *out, const struct sign_request *r);
MUST_USE enum err sign_text(struct buf *out, const struct sign_key *key, const char *date,
                            const struct sign_request *r);
// Writes the time, seconds since 1970, as SigV4 has it.
void sign_date(char date[SIGN_DATE], uint64_t seconds);

// Hexadecimal SHA-256 of the concatenation of bytes [from, from + n) of the parts.
MUST_USE enum err sha256_hex(char hex[SHA256_HEX], const struct slice *parts, size_t count,
                             uint64_t from, uint64_t n);
// MD5 (16 bytes) of `s`: only to foretell the ETag of an object that went up in parts.
MUST_USE enum err md5_of(uint8_t digest[16], struct slice s);
void hex_of(char *hex, const uint8_t *p, size_t n); // 2n digits and a NUL

#endif
