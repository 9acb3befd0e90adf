// Logs as objects: what writers and readers of them share. The layout is klstore's, so either's
// logs can be read, and carried on, by the other (docs/FORMATS.md, "Log objects").
//
// A log is named by a keyspace and a key, each 1 byte or more of any kind; in object names they are
// percent-encoded (archive/name.h), and what gets too long then is ERR_TOO_BIG. Offsets begin at 1
// and have no holes. Nonces rise: a record whose nonce is below the log's next nonce is there
// already and is dropped. Timestamps are as given, in no particular order; searching by them wants
// them to rise from object to object.
#ifndef VARVE_ARCHIVE_ARCHIVE_H
#define VARVE_ARCHIVE_ARCHIVE_H

#include "object/object.h"
#include "op/record.h"

#define ARCHIVE_TOKEN 32 // bytes of a continuation token at most, with its end

struct archive_log {
    struct slice keyspace, key;
};

// A record to be appended.
struct archive_insert {
    bool has_timestamp; // else the clock's milliseconds
    int64_t timestamp;
    u128 nonce; // NONCE_NONE: none, the record is always taken
    struct slice bytes;
};

struct archive_meta {
    uint64_t next_offset; // what the next record will get; 1: the log does not exist
    u128 next_nonce;      // the least nonce that is taken
};

// The thresholds of [s3] and the cache. Zero is the default.
struct archive_options {
    uint64_t compact_records_threshold; // 1000; merged and complete from so many records on,
    uint64_t compact_size_threshold;    // 1 MiB; or so many bytes of records (with their 40 each)
    uint64_t compact_objects_threshold; // 100; merged from so many objects on, not complete
    uint64_t max_cached_keys;           // 100,000 logs whose state a writer remembers
    uint64_t default_page_size;         // 1000 records
};

#endif
