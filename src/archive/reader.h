// The stateless reader: pages of a log's records, straight from the objects. A continuation token
// holds all that is needed to go on, with any reader, also after a compaction. (A reader keeps
// listings and objects that it has fetched, and fetches ahead; that is a cache and nothing more.)
//
// Everything read is verified: the layout, offsets against the object's name, and the bytes against
// the checksum that is kept with the object, where there is one. An object that is not what these
// say is ERR_DAMAGED, which names it, and nothing of it is served.
// Errors besides: those of object/object.h; ERR_INVALID for a token that is none of this log's;
// ERR_AGAIN if objects were replaced faster than they could be read.
//
// Threads: a reader belongs to one thread at a time.
#ifndef VARVE_ARCHIVE_READER_H
#define VARVE_ARCHIVE_READER_H

#include "archive/archive.h"

struct archive_reader;

struct archive_reader_options {
    uint64_t default_page_size; // 1000 records
    uint64_t page_bytes;        // 4 MiB of records in a page, if more than one
    unsigned ahead;             // objects fetched ahead; 0: 32
    uint64_t ahead_bytes;       // of objects fetched ahead and kept; 0: 64 MiB
};

MUST_USE enum err archive_reader_new(struct archive_reader **out, struct object_store *store,
                                     const struct archive_reader_options *options,
                                     struct errmsg *msg);
void archive_reader_free(struct archive_reader *r);

// ERR_NO_KEYSPACE if there is none.
MUST_USE enum err archive_keyspace_meta(struct archive_reader *r, struct slice keyspace,
                                        uint64_t *created_ms, struct errmsg *msg);
// ERR_MISSING if there is no such log.
MUST_USE enum err archive_key_meta(struct archive_reader *r, const struct archive_log *log,
                                   struct archive_meta *meta, struct errmsg *msg);

enum archive_start {
    ARCHIVE_FIRST,     // the oldest record; backwards: the newest
    ARCHIVE_OFFSET,    // the first at or past `offset`; backwards: the last at or before it
    ARCHIVE_TIMESTAMP, // likewise
    ARCHIVE_NONCE,     // likewise, of the records that have one
};

// What to read; all zero: the first page forwards.
struct archive_query {
    bool backwards;
    enum archive_start start;
    uint64_t offset;
    int64_t timestamp;
    u128 nonce;
    uint64_t page_size;        // records at most; 0: the default
    bool reads_on;             // the pages after it will be wanted too: objects are fetched ahead
                               // from the first page on, not only from the second
    struct slice continuation; // of the page before; then direction and start are not looked at
};

// A page; its records lie in the reader's memory until the next call on it.
struct archive_page {
    const struct record *records; // in the page's direction
    size_t count;
    bool more; // there was another page when this one was read
    size_t token_size;
    char token[ARCHIVE_TOKEN]; // where to go on; at the end of the log too, for what comes later
};

// A log that does not exist is empty.
MUST_USE enum err archive_read(struct archive_reader *r, const struct archive_log *log,
                               const struct archive_query *q, struct archive_page *page,
                               struct errmsg *msg);

#endif
