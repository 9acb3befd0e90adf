// A log record's bytes, the same everywhere: in the write-ahead log, in memory, in the store below,
// on the wire and in archived objects. All integers little-endian.
//
//     0  u64   offset      position in its log, from 1; rises by 1, with holes where records were
//                          deleted
//     8  i64   timestamp   milliseconds the client or the server gave; microseconds in event
//                          streams
//    16  u128  nonce       all ones: none
//    32  u32   length
//    36        the bytes
//  36+n  u32   36 + n      so that a run of records reads backwards
//
// A run is records end to end in rising order of offset. It is valid if every length stays within
// it, both lengths of each record agree, and offsets rise.
#ifndef VARVE_OP_RECORD_H
#define VARVE_OP_RECORD_H

#include "base/err.h"
#include "base/u128.h"

#define RECORD_HEAD     36u
#define RECORD_OVERHEAD 40u
#define NONCE_NONE      U128_MAX

struct record {
    uint64_t offset;
    int64_t timestamp;
    u128 nonce;
    struct slice bytes;
};

static inline size_t record_size(size_t n)
{
    return RECORD_OVERHEAD + n;
}

// Writes record_size(r->bytes.n) bytes; returns the place after them.
static inline uint8_t *record_write(uint8_t *p, const struct record *r)
{
    store64(p, r->offset);
    store64(p + 8, (uint64_t)r->timestamp);
    store128(p + 16, r->nonce);
    store32(p + 32, (uint32_t)r->bytes.n);
    if (r->bytes.n)
        memcpy(p + RECORD_HEAD, r->bytes.p, r->bytes.n);
    store32(p + RECORD_HEAD + r->bytes.n, RECORD_HEAD + (uint32_t)r->bytes.n);
    return p + RECORD_OVERHEAD + r->bytes.n;
}

// The record at p, in a run known to be valid; the next one begins record_size(bytes.n) later.
static inline struct record record_read(const uint8_t *p)
{
    return (struct record){load64(p), (int64_t)load64(p + 8), load128(p + 16),
                           slice_of(p + RECORD_HEAD, load32(p + 32))};
}
static inline uint64_t record_offset(const uint8_t *p)
{
    return load64(p);
}
// Bytes of the whole record at p.
static inline size_t record_span(const uint8_t *p)
{
    return RECORD_OVERHEAD + (size_t)load32(p + 32);
}
// Bytes of the whole record that ends at `end`.
static inline size_t record_span_before(const uint8_t *end)
{
    return (size_t)load32(end - 4) + 4;
}

// Walks bytes that nobody has checked. ERR_OK and the next record, ERR_MISSING at the end,
// ERR_DAMAGED (msg names the byte) when the run is not valid. Start with the whole run in rest.
struct record_walk {
    struct slice rest;
    size_t at;     // bytes taken
    uint64_t last; // offset of the record before; 0: none
};
MUST_USE enum err record_next(struct record_walk *w, struct record *r, struct errmsg *msg);

#endif
