// The batching writer: records are queued, gathered by log on threads of its own, and written by a
// direct writer a thread when a batch is large or old enough. A log is always written by the same
// thread, in the order of its appends.
//
// The first error is sticky: it is what every later append and flush returns, and nothing more is
// written (records queued behind it are dropped). What was appended before a flush that returned
// ERR_OK is stored; close and open again to go on after an error, and append again what no flush
// has confirmed.
//
// Memory: a queued record costs its bytes, its names and 64 bytes, a batched one its bytes and 48.
// A thread's queue holds queue_capacity appends and queue_bytes at most, with what the thread sorts
// just now, or one append that is larger (archive_batcher_append waits for room). Its batches hold
// twice flush_size a log, and memory_bytes in all, with the room they keep for more (then all are
// written); a quarter of that again is encoded at a time.
//
// Threads: all functions may be called from any thread, free last.
#ifndef VARVE_ARCHIVE_BATCHER_H
#define VARVE_ARCHIVE_BATCHER_H

#include "archive/writer.h"

// [batcher]. Zero is the default.
struct archive_batcher_options {
    unsigned writer_thread_count;                // 1
    uint64_t writer_thread_queue_capacity;       // no limit but queue_bytes
    uint64_t batch_check_interval_millis;        // 100: how often a thread looks for due batches
    uint64_t batch_flush_interval_millis;        // 1000: a batch older than this is due
    uint64_t batch_flush_record_count_threshold; // no limit: or with so many records
    uint64_t batch_flush_size_threshold;         // 1,000,000: or so many bytes of them
    uint64_t queue_bytes;                        // 64 MiB a thread
    uint64_t memory_bytes;                       // 256 MiB a thread, in batches
};

struct archive_batcher;

MUST_USE enum err archive_batcher_new(struct archive_batcher **out, struct object_store *store,
                                      struct os *os, const struct archive_options *options,
                                      const struct archive_batcher_options *batching,
                                      struct errmsg *msg);
// Writes nothing more: flush first. NULL does nothing.
void archive_batcher_free(struct archive_batcher *b);

// Queues records (copied) for a log. Returns at once, unless the queue is full. msg may be NULL.
MUST_USE enum err archive_batcher_append(struct archive_batcher *b, const struct archive_log *log,
                                         const struct archive_insert *records, size_t count,
                                         struct errmsg *msg);
// Returns when all that was appended before the call, to one log or to all, is stored.
MUST_USE enum err archive_batcher_flush_key(struct archive_batcher *b,
                                            const struct archive_log *log, struct errmsg *msg);
MUST_USE enum err archive_batcher_flush_all(struct archive_batcher *b, struct errmsg *msg);
// Flushes a log and lets it go, so that another process can take it over without fencing this one.
MUST_USE enum err archive_batcher_release(struct archive_batcher *b, const struct archive_log *log,
                                          struct errmsg *msg);

struct archive_batcher_stats {
    uint64_t appended; // records queued, ever
    uint64_t stored;   // of them written
    uint64_t dropped;  // of them there already, by their nonces
    uint64_t batches;  // data objects written
    uint64_t waits;    // appends that waited for room
    uint64_t bytes;    // in queues and batches now
};
void archive_batcher_get_stats(struct archive_batcher *b, struct archive_batcher_stats *s);

#endif
