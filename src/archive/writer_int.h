// What the writer's files share. Of this room only.
#ifndef VARVE_ARCHIVE_WRITER_INT_H
#define VARVE_ARCHIVE_WRITER_INT_H

#include "archive/data.h"
#include "archive/session.h"
#include "archive/tiles.h"
#include "archive/writer.h"

// What the writer knows of a log that is its own. The *batch* is what the next compaction merges:
// all objects since the newest complete one.
struct log {
    struct log *chain;         // in the hash table
    struct log *newer, *older; // by last use
    uint64_t hash;             // of dir
    bool claimed;              // by this session,
    uint64_t epoch;            // with this number
    bool loaded;               // what follows is known
    bool fences;               // fences stand that may not be cleaned up yet
    bool in_use;               // by the append under way
    uint64_t next_offset;
    u128 next_nonce;
    uint64_t prior;       // first offset of the last object; 0: none
    uint64_t batch_first; // where the batch begins: next_offset if it is empty
    uint64_t objects;     // in the batch
    uint64_t records;
    uint64_t bytes;
    unsigned complete;  // objects that were complete at once since the watermark was written
    uint64_t watermark; // as known; 0: there may be one
    char dir[];         // "keyspace/key", encoded
};

struct archive_writer {
    struct session session;
    struct object_store *store;
    struct os *os;
    struct archive_options options;
    struct log **table; // open hashing, a power of two
    size_t buckets;
    size_t logs;
    struct log *newest, *oldest;
};

// ---- writer.c
// The log's entry, made if it is not there, as the one used last.
MUST_USE enum err log_entry(struct archive_writer *w, const struct archive_log *name,
                            struct log **out, struct errmsg *msg);
// Forgets logs that are too many.
void logs_evict_old(struct archive_writer *w);

// The newest object becomes the log's state, and `t` from the border `from` on its batch. What the
// listing shows beyond the log is deleted. ERR_DAMAGED if there is a gap.
MUST_USE enum err log_load_listing(struct archive_writer *w, struct log *l, const struct tiles *t,
                                   uint64_t from, struct errmsg *msg);
// Lists and loads a log that is claimed.
MUST_USE enum err log_load(struct archive_writer *w, struct log *l, struct errmsg *msg);
// Claims and loads the logs that are not yet.
MUST_USE enum err logs_open(struct archive_writer *w, struct log **logs, size_t n,
                            struct errmsg *msg);

// The objects of a log from a border to its end, fetched.
struct parts {
    struct tiles listing;
    size_t *path; // indices into the listing
    size_t n;
    struct buf *bytes; // n of them
    int64_t min_time, max_time;
    uint64_t records, size;
};
MUST_USE enum err parts_fetch(struct archive_writer *w, const struct log *l, uint64_t from,
                              struct parts *p, struct errmsg *msg);
void parts_release(struct parts *p);
// Deletes what the object `by` covers of the listing, and fences that need stand no longer.
// *fences: others stand.
MUST_USE enum err parts_delete(struct archive_writer *w, const struct log *l,
                               const struct tiles *listing, const struct name *by, bool *fences,
                               struct errmsg *msg);
// Compacts the log's batch if a threshold is passed.
MUST_USE enum err log_compact(struct archive_writer *w, struct log *l, struct errmsg *msg);
// Takes an object that was put at the log's end into its state.
void log_advance(struct log *l, const struct name *n);
// True if `n` records of `bytes` are a complete object.
bool log_complete(const struct archive_writer *w, uint64_t records, uint64_t bytes);
// 0: there is none.
MUST_USE enum err log_get_watermark(struct archive_writer *w, const struct log *l, uint64_t *from,
                                    struct errmsg *msg);
MUST_USE enum err log_put_watermark(struct archive_writer *w, struct log *l, uint64_t first,
                                    struct errmsg *msg);

// The object of the log's path that holds `offset`, as a listing shows it now. ERR_MISSING: none.
// ERR_AGAIN, without a message: the log was trimmed past it.
MUST_USE enum err log_find(struct archive_writer *w, const struct log *l, uint64_t offset,
                           struct tile *out, struct errmsg *msg);

// What is put for one log.
struct put {
    struct log *log;
    struct archive_batch *batch;
    struct name name;
    char full[NAME_FULL_MAX];
    uint8_t *data; // the new records, encoded
    size_t size;
    bool merges; // the batch before them is in the same object
    struct parts parts;
    struct slice *slices; // what is put, in order
    size_t slice_count;
    enum err e; // of the put
    bool went;  // something was there, and was gone when it was looked at
    struct errmsg why;
};

// Puts what the batches' logs, which are open, do not have yet. ERR_OK: all of it is there.
MUST_USE enum err puts_run(struct archive_writer *w, struct put *puts, size_t n,
                           struct errmsg *msg);
void put_release(struct put *p);

#endif
