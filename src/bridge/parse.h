// What a Kafka record says about the log it goes to: klstore's parsers, named as in its
// configuration. Everything here is a pure function of its arguments.
//
//   keyspace_parser, key_parser: a name, 1 byte or more
//     Static(text)                      the text, up to the last ")"
//     RecordHeader(header)              its value, UTF-8
//     RecordKey                         the record's key, UTF-8
//     RecordPartition                   the partition's number in decimal
//   nonce_parser, timestamp_parser: a number
//     None                              there is none (a timestamp: the clock's)
//     RecordHeaderBigEndian(header)     the bytes of its value, the highest first
//     RecordHeaderLittleEndian(header)  the lowest first
//     RecordHeaderUtf8(header)          its value in decimal digits
//     RecordKeyBigEndian, RecordKeyLittleEndian, RecordKeyUtf8    the same of the record's key
//     RecordOffset, RecordPartition     the record's
//
// A nonce is unsigned: 1 to 16 bytes, and not 2^128 - 1. A timestamp is signed: 8 bytes are two's
// complement, 1 to 7 are a number from 0 up, as text it may have a sign; and it is not -2^63. A
// header that is there more than once counts with its last value.
#ifndef VARVE_BRIDGE_PARSE_H
#define VARVE_BRIDGE_PARSE_H

#include "base/err.h"
#include "base/u128.h"

#define PARSE_NAME_MAX 200u // bytes of a static text or a header's name, with its end

enum parse_source {
    PARSE_NONE,
    PARSE_STATIC,
    PARSE_HEADER,
    PARSE_KEY,
    PARSE_OFFSET,
    PARSE_PARTITION
};
enum parse_form { PARSE_TEXT, PARSE_BIG, PARSE_LITTLE };

struct parser {
    enum parse_source source;
    enum parse_form form;
    char name[PARSE_NAME_MAX]; // the header's, or the static text
};

// A record as the parsers see it.
struct parse_record {
    bool has_key;
    struct slice key;
    int32_t partition;
    int64_t offset;
    // The last header of this name; false if there is none.
    bool (*header)(const struct parse_record *r, const char *name, struct slice *value);
    const void *headers; // its
};

// From the configuration's text. ERR_INVALID, with the parsers that there are.
MUST_USE enum err parser_text(struct parser *p, const char *text, struct errmsg *msg);
MUST_USE enum err parser_number(struct parser *p, const char *text, struct errmsg *msg);

// `digits` is for what has to be written out; the result points there or into the record or the
// parser. ERR_INVALID with a sentence that does not name the record.
#define PARSE_DIGITS 16
MUST_USE enum err parse_name(const struct parser *p, const struct parse_record *r,
                             char digits[PARSE_DIGITS], struct slice *name, struct errmsg *msg);
// *has is false where the parser is None.
MUST_USE enum err parse_nonce(const struct parser *p, const struct parse_record *r, bool *has,
                              u128 *nonce, struct errmsg *msg);
MUST_USE enum err parse_timestamp(const struct parser *p, const struct parse_record *r, bool *has,
                                  int64_t *timestamp, struct errmsg *msg);

#endif
