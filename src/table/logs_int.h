// What the files logs*.c share.
//
//   logs.c         shards, keyspaces, finding logs, blocks, sums
//   logs_index.c   a log's chunks, and finding one by offset, time, nonce
//   logs_change.c  appending, trimming, erasing
//   logs_read.c    seeking and gathering
//   logs_pin.c     checkpoints and eviction
//
// A chunk with a block is counted: dirty in the sum of dirty bytes, clean in the shard's list of
// clean blocks, the oldest of which the eviction hand looks at first. Whatever changes which of the
// two it is, or its block, takes it out before (chunk_uncount) and puts it back after.
//
// An index keeps its chunks in one array, at [begin, end): trimming moves `begin`. Above the array
// lie levels of spans of time: a node of level n covers 32 to the n neighbours in the array. A node
// may cover more time than its chunks do (some were trimmed), never less.
#ifndef VARVE_TABLE_LOGS_INT_H
#define VARVE_TABLE_LOGS_INT_H

#include "table/logs.h"

#include "base/assert.h"
#include "base/limits.h"
#include <pthread.h>

#define INDEX_FAN_LOG2 5u
#define INDEX_FAN      (1u << INDEX_FAN_LOG2)
#define INDEX_LEVELS   6u // enough for 2^32 chunks
#define INDEX_NONE     UINT32_MAX

enum {
    BLOCK_MIN = 256,             // bytes of the smallest block that is appended to
    BLOCK_NEXT = LOGS_CHUNK / 4, // of the smallest after the first chunk
    KEYSPACE_BUCKETS = 1024,
    KEYSPACE_PAGE = 1024, // ids in a page
    KEYSPACE_PAGES = LIMIT_KEYSPACES / KEYSPACE_PAGE + 1,
};

struct time_span {
    int64_t min, max;
};

struct log_index {
    uint32_t begin, end, cap; // chunks in the array
    uint32_t dirty_low;       // no chunk before this one is dirty
    uint32_t levels;          // of spans
    struct chunk *chunks;
    struct time_span *level[INDEX_LEVELS]; // level[0] covers INDEX_FAN chunks a node
    struct block *spare;                   // of log_reserve, in a chain by `newer`
    bool used;                             // somebody loads a chunk; eviction takes it off
};

struct __attribute__((aligned(64))) logs_shard {
    pthread_mutex_t lock;
    struct log **buckets; // a power of two, or NULL
    uint64_t bucket_mask;
    uint64_t count;    // logs
    uint64_t chunks;   // in loaded indexes
    uint64_t resident; // blocks of chunks
    uint64_t memory;   // of headers, buckets, indexes, chunks' blocks
    uint64_t evictions;
    uint64_t hand;                 // next bucket whose idle indexes are looked at
    struct log *dirty;             // chain by next_dirty
    struct block *oldest, *newest; // clean blocks
};

struct logs {
    uint64_t seed;
    struct log_index empty; // of every log without chunks; never written
    _Atomic(struct keyspace *) names[KEYSPACE_BUCKETS];
    _Atomic(_Atomic(struct keyspace *) *) pages[KEYSPACE_PAGES];
    _Atomic uint32_t keyspaces;
    _Alignas(64) _Atomic uint64_t block_bytes;
    _Atomic uint64_t index_bytes;
    _Atomic uint64_t header_bytes;
    _Atomic uint64_t dirty_bytes;
    struct logs_shard shards[LOGS_SHARDS];
};

static inline struct logs_shard *log_shard(struct logs *l, const struct log *log)
{
    return &l->shards[log->shard];
}
// Adds to a sum of bytes; `by` may be negative modulo 2^64.
static inline void count_bytes(_Atomic uint64_t *sum, uint64_t by)
{
    atomic_fetch_add_explicit(sum, by, memory_order_relaxed);
}

// ---- logs.c

// A block with one reference, empty. NULL: memory is out.
struct block *block_new(struct logs *l, size_t cap);
static inline uint64_t block_memory(const struct block *b)
{
    return sizeof *b + b->cap;
}
static inline bool chunk_dirty(const struct chunk *c)
{
    return c->written != c->meta.bytes;
}
void chunk_uncount(struct logs *l, struct log *log, struct chunk *c);
void chunk_count(struct logs *l, struct log *log, struct chunk *c);
// Gives the chunk a block, whose reference it takes over, in place of the one it has. NULL: none.
void chunk_set_block(struct logs *l, struct log *log, struct chunk *c, struct block *b);
// A shard's list of clean blocks.
void clean_push(struct logs_shard *s, struct block *b);
void clean_remove(struct logs_shard *s, struct block *b);

// ---- logs_pin.c

// Notes a change.
void log_touch(struct logs *l, struct log *log, uint64_t seq);
// Notes that a chunk is dirty.
void index_dirty(struct log_index *x, const struct chunk *c);

// ---- logs_index.c

static inline uint32_t index_count(const struct log_index *x)
{
    return x->end - x->begin;
}
static inline struct chunk *index_last(const struct log_index *x)
{
    return x->end > x->begin ? &x->chunks[x->end - 1] : NULL;
}
// ERR_COLD: the chunk is needed. The index stays until whoever asked has brought it.
static inline enum err chunk_cold(struct log_index *x, const struct chunk *c, uint64_t *first)
{
    x->used = true;
    *first = c->meta.first;
    return ERR_COLD;
}
// Makes room for `more` chunks at the end. The log gets an index of its own.
MUST_USE enum err index_reserve(struct logs *l, struct log *log, uint32_t more);
// Adds a chunk for which there is room; all but its times may be filled in later.
struct chunk *index_push(struct logs *l, struct log *log, const struct chunk_meta *m);
// Tells the levels that the last chunk's times have widened.
void index_widened(struct log_index *x);
// Drops the first chunk.
void index_shift(struct logs *l, struct log *log);
// Drops the index; no chunk has a block.
void index_free(struct logs *l, struct log *log);
void index_free_spare(struct log_index *x);

// Positions. The last chunk that begins at or before an offset, or INDEX_NONE.
uint32_t index_at(const struct log_index *x, uint64_t offset);
// The chunk of this name or NULL.
struct chunk *index_find(const struct log_index *x, uint64_t first);
// The first chunk from `from` on that may have a record of time >= t (x->end: none); the last one
// up to `from` that may have one of time <= t (INDEX_NONE: none).
uint32_t index_time_next(const struct log_index *x, uint32_t from, int64_t t);
uint32_t index_time_last(const struct log_index *x, uint32_t from, int64_t t);
// The first chunk whose next_nonce is > n (x->end: none); the last one whose first_nonce is <= n
// (INDEX_NONE: none).
uint32_t index_nonce_next(const struct log_index *x, u128 n);
uint32_t index_nonce_last(const struct log_index *x, u128 n);

#endif
