// Logs in RAM: every log's header, an index of its chunks, and the chunks that are resident. No I/O
// and no clock; what is on disk, the commit room brings.
//
// A log's records are cut into chunks: runs of records (op/record.h) of about LOGS_CHUNK bytes, a
// larger record alone in its chunk. The bytes of a chunk are the same here, in the store below and
// on the wire. A chunk is named by its first offset, for ever, also when records were deleted from
// it; it may be empty for that reason. Chunks lie in a block each: append-only memory with a count
// of references, so that who holds one reads the bytes that were there when it took it, with no
// lock, while more are appended. What takes records out makes a new block.
//
//   header      always resident (struct log); never freed, so pointers to it stay good
//   index       struct chunk for each chunk: loaded when first needed, dropped when idle
//   block       resident, or only below. Dirty (differs from below; stays) or clean (may be
//   evicted)
#ifndef VARVE_TABLE_LOGS_H
#define VARVE_TABLE_LOGS_H

#include "base/err.h"
#include "op/op.h"
#include "op/record.h"
#include <stdatomic.h>

#define LOGS_SHARDS 256u
#ifndef LOGS_CHUNK             // tests like small ones
#define LOGS_CHUNK (32u << 10) // bytes at which a chunk is full
#endif

struct logs;

// ---- keyspaces: never freed, read without a lock

struct keyspace {
    _Atomic(struct keyspace *) next; // in its bucket
    uint32_t id;                     // from 1
    uint64_t created_ms;
    _Atomic uint64_t seq; // of its last change
    uint64_t stored_seq;  // of the change that is below; checkpoint only
    // The policy: single words, changed one by one.
    _Atomic uint64_t max_age_ms, max_bytes, max_records;
    bool server_time; // never changes
    uint8_t name_len;
    uint8_t name[];
};

static inline struct slice keyspace_name(const struct keyspace *k)
{
    return slice_of(k->name, k->name_len);
}

// Whoever finds a change in it finds the change's seq if it looks at that afterwards.
static inline struct log_policy keyspace_policy(const struct keyspace *k)
{
    return (struct log_policy){atomic_load(&k->max_age_ms), atomic_load(&k->max_bytes),
                               atomic_load(&k->max_records), k->server_time};
}

// ---- blocks

struct block {
    struct logs *owner;          // counts its memory
    struct log *log;             // of the chunk; this and below under the shard's lock
    struct block *older, *newer; // in the shard's list of clean blocks
    _Atomic uint32_t refs;       // one of them the chunk's, while it is resident
    uint32_t cap;
    uint32_t len;
    uint8_t bytes[];
};
void block_ref(struct block *b);
void block_unref(struct block *b); // frees with the last

// ---- logs

// What the store below keeps of a chunk beside its bytes. `last`, the times and the nonces cover
// all records ever in it, also deleted ones.
struct chunk_meta {
    uint64_t first; // offset of the first record it began with
    uint64_t last;
    int64_t min_time, max_time;
    u128 first_nonce; // the log's next nonce before the chunk: no record in it has a smaller one
    u128 next_nonce;  // and after it. Equal: the chunk has no nonces
    uint32_t bytes;   // now
    uint32_t records; // now
};

struct chunk {
    struct chunk_meta meta;
    struct block *block; // NULL: not resident
    uint32_t written;    // of its bytes, those that are below; clean: all. UINT32_MAX: other ones
    bool used;           // since the eviction hand passed
    bool cut;            // records were taken out since it was pinned last
};

struct log_index; // chunks in rising order, with what finds times among them

struct log {
    struct log *next;       // in its bucket
    struct log *next_dirty; // in the shard's list
    struct keyspace *keyspace;
    struct log_index *index; // NULL: not loaded; a log without chunks has an empty one
    uint64_t id;
    uint64_t first;    // offsets below are gone
    uint64_t end;      // the next record's offset
    int64_t last_time; // of the last record with the highest timestamp so far; INT64_MIN: none
    u128 next_nonce;   // smallest that is accepted
    uint64_t records;  // there now
    uint64_t bytes;    // there now, as encoded
    uint64_t seq;      // of the last change
    uint64_t settled;  // records below this offset are durable, as they are
    uint64_t settling, settling_seq; // likewise once this sequence is; 0: no such
    uint64_t retain_ms;              // commit/: when its age is looked at again
    uint64_t swept;                  // rows below of chunks before this offset are gone
    uint64_t stored_seq;             // of the change that is below; < seq: dirty
    uint64_t tiered;                 // records before this offset are in objects too
    uint64_t local;     // bytes below of chunks before this are gone, if the chunks lack no record
    uint64_t tier_look; // commit/: there is nothing to delete from objects before what is gone and
                        // `tiered` are past this; 0: unknown
    uint32_t resident;  // blocks
    uint32_t tier_s;    // commit/: since when something waits to be tiered, or when to look again
    uint32_t tier_rest; // commit/: not to be moved or deleted from before this second; 0: now
    uint16_t key_len;
    uint8_t shard;
    bool dirty;  // differs from below
    bool listed; // in the shard's list of dirty logs, which a clean one leaves at the next pinning
    uint8_t key[];
};

// Records below this offset are durable, as they are, if `durable` is the sequence that is.
static inline uint64_t log_settled(const struct log *l, uint64_t durable)
{
    return l->settling_seq && durable >= l->settling_seq ? l->settling : l->settled;
}

static inline struct slice log_key(const struct log *l)
{
    return slice_of(l->key, l->key_len);
}

struct logs_stats {
    uint64_t keyspaces;
    uint64_t logs;
    uint64_t chunks;      // in loaded indexes
    uint64_t resident;    // blocks
    uint64_t block_bytes; // memory of blocks, also of those that only readers hold
    uint64_t index_bytes;
    uint64_t header_bytes;
    uint64_t dirty_bytes; // not below yet
    uint64_t evictions;
};

struct logs *logs_new(uint64_t hash_seed);
void logs_free(struct logs *l); // no reader holds a block any more

// ---- keyspaces
struct keyspace *logs_keyspace(const struct logs *l, struct slice name); // NULL: none
struct keyspace *logs_keyspace_id(const struct logs *l, uint32_t id);
// Adds one, or gives an old one a new policy. One caller at a time. NULL: memory is out.
struct keyspace *logs_keyspace_put(struct logs *l, uint32_t id, struct slice name,
                                   uint64_t created_ms, const struct log_policy *p, uint64_t seq);
// The same in two steps, for who must not fail in the second one. What was not published is
// free()'d.
struct keyspace *logs_keyspace_new(struct logs *l, uint32_t id, struct slice name,
                                   uint64_t created_ms, const struct log_policy *p);
void logs_keyspace_publish(struct logs *l, struct keyspace *k, uint64_t seq);
uint32_t logs_keyspace_count(const struct logs *l);

// ---- one log; all calls with its shard locked, up to the next line of dashes
uint64_t logs_hash(const struct logs *l, uint32_t keyspace, struct slice key);
static inline unsigned logs_shard(uint64_t hash)
{
    return (unsigned)(hash >> 56);
}
void logs_lock(struct logs *l, unsigned shard);
bool logs_trylock(struct logs *l, unsigned shard); // false: somebody has it
void logs_unlock(struct logs *l, unsigned shard);
uint64_t logs_shard_bytes(const struct logs *l, unsigned shard); // its memory

struct log *logs_find(struct logs *l, uint64_t hash, const struct keyspace *k, struct slice key);
// Memory for a log that does not exist: end 1, first 1, no chunks, an index that is loaded and
// empty. Shown to nobody before logs_publish, which cannot fail. NULL: memory is out.
struct log *logs_prepare(struct logs *l, uint64_t hash, struct keyspace *k, struct slice key,
                         uint64_t id);
void logs_discard(struct logs *l, struct log *unpublished);
void logs_publish(struct logs *l, uint64_t hash, struct log *prepared);

// Recovery: the header of a log made just now becomes what it is below; its index is not loaded.
struct log_state {
    uint64_t first, end;
    u128 next_nonce;
    int64_t last_time;
    uint64_t records, bytes, swept, seq;
    uint64_t tiered, local;
};
void log_restore(struct logs *l, struct log *log, const struct log_state *below);
// Gives a log without an index the metas of its chunks, in rising order.
MUST_USE enum err log_load_index(struct logs *l, struct log *log, const struct chunk_meta *m,
                                 size_t count);
// Makes a chunk resident with what is below: `bytes` are m.bytes long. Does nothing if it is
// resident already, has other bytes by now, or is gone.
MUST_USE enum err log_load_chunk(struct logs *l, struct log *log, uint64_t first,
                                 struct slice bytes);

// True if the log has a chunk of this name that is not resident.
bool log_lacks_chunk(const struct log *log, uint64_t first);
// What is known of a chunk, if its log has it and its index.
bool log_chunk_meta(const struct log *log, uint64_t first, struct chunk_meta *m);

// Tiering: notes that all records before `before`, which is not below log->tiered, are in objects.
// The log has its index.
void log_tier(struct logs *l, struct log *log, uint64_t before, uint64_t seq);
// The offset before which no chunk's bytes need to stay below: all of them are tiered, at least
// keep_bytes bytes of records come after them, and they have no record of keep_time or later. The
// log has its index.
uint64_t log_local_border(const struct log *log, uint64_t keep_bytes, int64_t keep_time);
// Bytes that are not tiered yet, about.
static inline uint64_t log_untiered(const struct log *log)
{
    uint64_t from = log->tiered > log->first ? log->tiered : log->first;
    return log->records && log->end > from
               ? (uint64_t)((double)(log->end - from) / (double)log->records * (double)log->bytes)
               : 0;
}
// True if it lacks no record between its first and its last: then objects have the same bytes.
static inline bool chunk_is_whole(const struct chunk_meta *m)
{
    return m->records == m->last - m->first + 1;
}

// Appending: true if log_reserve and log_append need nothing from below; otherwise *first is the
// chunk to load (0: the index).
bool log_can_append(const struct log *log, uint64_t *first);
// Makes room for records of `bytes` bytes in all, so that log_append cannot fail. `largest`: bytes
// of the largest of them. May be called for more than is then appended, or for nothing.
MUST_USE enum err log_reserve(struct logs *l, struct log *log, size_t bytes, size_t largest,
                              size_t count);
// Takes records that begin at log->end, as written by seq; sets end, next_nonce, last_time.
// `durable`: the sequence that is durable now, for `settled`.
void log_append(struct logs *l, struct log *log, struct slice records, uint64_t seq,
                uint64_t durable);

// Taking records out. log_cut_prepare makes the block that a chunk will have without the records
// from <= offset <= to; ERR_COLD with *first, ERR_NO_MEMORY. *cut says what is in it.
struct log_cut {
    struct block *block; // NULL: nothing is left of the chunk, or no chunk is concerned
    uint64_t chunk;      // its first offset; 0: no chunk is concerned
    uint32_t records;    // left
    uint32_t removed;
};
// For log_trim to `before`: cuts the chunk at the border.
MUST_USE enum err log_trim_prepare(struct logs *l, struct log *log, uint64_t before,
                                   struct log_cut *cut, uint64_t *first);
void log_trim(struct logs *l, struct log *log, uint64_t before, struct log_cut *cut, uint64_t seq);
// For log_erase of one record; cut->removed is 0 if it does not exist.
MUST_USE enum err log_erase_prepare(struct logs *l, struct log *log, uint64_t offset,
                                    struct log_cut *cut, uint64_t *first);
void log_erase(struct logs *l, struct log *log, struct log_cut *cut, uint64_t seq);
void log_cut_discard(struct logs *l, struct log_cut *cut);

// Reading
enum log_direction { LOG_FORWARDS, LOG_BACKWARDS };
enum log_start { LOG_START_FIRST, LOG_START_OFFSET, LOG_START_TIME, LOG_START_NONCE };
struct log_from {
    enum log_direction direction;
    enum log_start start; // FIRST: forwards from the oldest, backwards from the newest
    uint64_t offset;
    int64_t time;
    u128 nonce;
};
// Where reading begins. Forwards: the first record at or past the start; backwards: the last one at
// or before it. *offset: where to go on with log_gather (forwards log->end, backwards 0: nothing).
// ERR_COLD with *first: the chunk, or 0 the index, to load before asking again.
MUST_USE enum err log_seek(struct logs *l, struct log *log, const struct log_from *from,
                           uint64_t *offset, uint64_t *first);

// A run of records of one block, in rising order also when reading backwards. Whoever gets one owns
// a reference to the block.
struct log_span {
    struct block *block;
    uint32_t begin, end; // bytes in it
    uint32_t records;
};
// Appends spans, from *offset on in the direction, until `spans` has max_records records or
// max_bytes bytes in all (one record at least, whatever its size); moves *offset to where the next
// call goes on (forwards: log->end at the end of the log; backwards: 0). Stops when `cap` spans are
// there. ERR_COLD with *first: what was found so far stands.
struct log_spans {
    struct log_span *v;
    size_t count, cap;
    uint64_t records, bytes;
};
MUST_USE enum err log_gather(struct logs *l, struct log *log, enum log_direction d,
                             uint64_t *offset, uint64_t max_records, uint64_t max_bytes,
                             struct log_spans *spans, uint64_t *first);

// The offset before which at least `records` records and at least `bytes` bytes of them lie, or
// log->end. ERR_COLD with *first.
MUST_USE enum err log_skip(struct logs *l, struct log *log, uint64_t records, uint64_t bytes,
                           uint64_t *offset, uint64_t *first);

// Checkpoints: what a dirty log has to put below, as of now. References blocks; the log may change
// meanwhile.
struct log_pin {
    struct log *log;
    struct log *image;    // copy of the header, malloc'ed, to be freed with the pin
    struct chunk *chunks; // dirty ones; malloc'ed; each owns a reference to its block
    size_t count;
    uint64_t sweep_from, sweep_to; // rows of chunks in [from, to) go from below
    uint64_t drop_from, drop_to; // bytes of whole chunks in [from, to) go; set by the caller, from
                                 // log->local on, not past a chunk of this pin
};
// Calls fn for each dirty log of the shard; fn owns what the pin holds (log_pin_release).
// ERR_NO_MEMORY: some were not pinned and stay dirty.
MUST_USE enum err logs_pin_dirty(struct logs *l, unsigned shard,
                                 void (*fn)(void *arg, struct log_pin *p), void *arg);
// The pin is below now.
void logs_written(struct logs *l, const struct log_pin *p);
void log_pin_release(struct log_pin *p);

// Evicts clean blocks not used of late, and the indexes of logs left without any, until the
// shard's memory is at most `target` or the hand went round once: what was used since the last call
// stays. Not between log_reserve and log_append of any log of the shard: its tail might go.
void logs_evict(struct logs *l, unsigned shard, uint64_t target);
void logs_each(struct logs *l, unsigned shard, void (*fn)(void *arg, struct log *log), void *arg);
// ---------------------------------------------------------------------------------------------
// Sums over all shards, locking each in turn.
void logs_get_stats(struct logs *l, struct logs_stats *s);
// Memory, from counters, without locks.
uint64_t logs_bytes(const struct logs *l);        // all of it
uint64_t logs_header_bytes(const struct logs *l); // of what is always resident
uint64_t logs_dirty_bytes(const struct logs *l);  // of blocks that are not below yet

#endif
