// The cold half of the store: all data as of the last checkpoint, sorted, on disk. Two engines
// behind one interface: RocksDB (store_rocks.c, the only file that includes rocksdb/c.h) and a
// small one on the os seam for the power-failure tests (store_sim.c). Values are opaque here.
//
// Writing: one checkpoint at a time. store_begin, store_add with keys in strictly rising bytewise
// order within each space (spaces in rising order too), then store_commit makes all of it visible
// and durable, or store_abort. After a crash within store_commit either everything or nothing of
// one space's additions is there, and of a later space only if of all before it; adding the same
// again is harmless.
#ifndef VARVE_STORE_STORE_H
#define VARVE_STORE_STORE_H

#include "base/err.h"
#include "base/os.h"
#include "base/slice.h"

struct buf;

// Spaces are separate sorted maps: RocksDB column families.
enum store_space {
    STORE_KEYS = 0,   // user keys ("default")
    STORE_IDEM = 1,   // idempotency keys and their first results ("idempotency")
    STORE_EXPIRY = 2, // [expiry ms, big-endian u64][space u8][key] -> "" ("expiry")
    STORE_LOGS = 3,   // keyspaces and logs ("logs"); rows as in commit/log_rows.c
    STORE_EVENTS = 4, // the logs of keyspaces whose timestamps the server gives ("events")
    STORE_RELS = 5,   // relations and their lists ("relations"); rows as in commit/rel_rows.c
    STORE_SPACES
};

struct store;
struct store_writer;
struct store_iter;

struct store_options {
    struct os *os;
    const char *dir;      // created if missing
    uint64_t cache_bytes; // block cache
    unsigned background;  // compaction threads, at least 1
};

struct store_stats {
    uint64_t disk_bytes; // of live files
    uint64_t estimated_keys[STORE_SPACES];
    uint64_t cache_used; // bytes
    uint64_t memory;     // index, filter and memtable bytes outside the cache
    uint64_t pending_compaction_bytes;
    uint64_t files;
};

// ERR_IN_USE, ERR_DAMAGED, ERR_IO with the engine's own words in msg.
MUST_USE enum err store_open_rocks(struct store **s, const struct store_options *o,
                                   struct errmsg *msg);
MUST_USE enum err store_open_sim(struct store **s, const struct store_options *o,
                                 struct errmsg *msg);
void store_close(struct store *s);

// Reads a value into `out` (appended). ERR_MISSING. With `memory_only`, ERR_COLD when answering
// would need the disk. Thread-safe.
MUST_USE enum err store_get(struct store *s, enum store_space space, struct slice key,
                            bool memory_only, struct buf *out);
MUST_USE enum err store_begin(struct store *s, struct store_writer **w);
// What is added from here on is wanted soon rather than small. Chunks of logs are then compressed
// with LZ4 instead of LZ4HC, 3.5 times as fast and an eighth larger.
void store_hurry(struct store_writer *w);
// value.p == NULL deletes the key. ERR_INVALID if the key is not past the last one, ERR_TOO_BIG if
// key or value are larger than any that a client may send: nothing is added then. After any other
// error every further addition and the commit fail.
MUST_USE enum err store_add(struct store_writer *w, enum store_space space, struct slice key,
                            struct slice value);
// Bytes of keys and values added so far, for showing progress.
uint64_t store_writer_bytes(const struct store_writer *w);
MUST_USE enum err store_commit(struct store_writer *w, struct errmsg *msg); // frees w
void store_abort(struct store_writer *w);                                   // frees w

// Iterates a space from the first key >= start, over a snapshot taken now.
MUST_USE enum err store_iter_new(struct store *s, enum store_space space, struct slice start,
                                 struct store_iter **it);
// The same for the keys with start <= key < end only: what lies past the end is not read from disk.
// An empty end: no end. end < start: nothing.
MUST_USE enum err store_iter_range(struct store *s, enum store_space space, struct slice start,
                                   struct slice end, struct store_iter **it);
bool store_iter_valid(const struct store_iter *it);
// Live until the next call on `it`.
struct slice store_iter_key(const struct store_iter *it);
struct slice store_iter_value(const struct store_iter *it);
void store_iter_next(struct store_iter *it);
// ERR_OK, or why iteration ended early (ERR_IO, ERR_DAMAGED).
MUST_USE enum err store_iter_status(const struct store_iter *it, struct errmsg *msg);
void store_iter_free(struct store_iter *it);

// Verifies checksums of every file, for `varve check`. May take long.
MUST_USE enum err store_verify(struct store *s, struct errmsg *msg);
void store_get_stats(struct store *s, struct store_stats *out);

#endif
