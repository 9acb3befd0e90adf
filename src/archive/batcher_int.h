// What the batcher's files share. Of this room only.
#ifndef VARVE_ARCHIVE_BATCHER_INT_H
#define VARVE_ARCHIVE_BATCHER_INT_H

#include "archive/batcher.h"
#include <pthread.h>

// Queued records, end to end: an entry's head, the names, the bytes, padded to 16.
struct block {
    struct block *next;
    size_t used, cap;
    uint64_t appends, bytes; // what it counts in worker.queued_*
    _Alignas(16) uint8_t data[];
};

struct entry {
    u128 nonce;
    int64_t timestamp;
    uint32_t keyspace_n, key_n, n;
    uint32_t has_timestamp;
    uint64_t hash; // of the log's name
};

enum request_kind { FLUSH_ALL, FLUSH_KEY, RELEASE_KEY };

// A flush in waiting; lives on its caller's stack.
struct request {
    struct request *next;
    enum request_kind kind;
    const struct archive_log *log;
    uint64_t hash;
    bool done;
    enum err e;
    struct errmsg msg;
};

// A log's records that are not written yet. Of its thread only.
struct batch {
    struct batch *chain;
    uint64_t hash;
    struct slice keyspace, key;     // behind this struct
    struct archive_insert *records; // bytes.p holds an offset into `bytes` until it is written
    size_t count, records_cap;
    uint8_t *bytes;
    size_t size, bytes_cap;
    uint64_t born_ns;
    size_t active; // its place in worker.active; meaningless while it is empty
};

// One writing thread.
struct worker {
    struct archive_batcher *b;
    pthread_t thread;
    bool started;
    // Under the lock.
    pthread_mutex_t lock;
    pthread_cond_t wake; // of the thread
    pthread_cond_t room; // of appends that wait
    pthread_cond_t done; // of flushes
    struct block *head, *tail;
    struct block *spare; // empty ones
    size_t spares;
    struct request *requests;
    uint64_t queued_appends, queued_bytes; // with those that the thread has taken
    uint64_t taken_appends, taken_bytes;   // of them: not in the list any more, not sorted yet
    unsigned wanting;                      // appends that wait for room
    bool resting;                          // the thread holds nothing: whatever comes wakes it
    struct archive_batcher_stats stats;
    bool stop;
    _Atomic bool failed; // set under the lock, told to appends and flushes from then on
    enum err e;
    struct errmsg why;
    // Of the thread.
    struct archive_writer *writer;
    struct batch **table;
    size_t buckets, batches;
    struct batch **active; // those with records
    size_t active_n, active_cap;
    size_t waiting; // bytes of records in batches
    size_t held;    // memory of those, and what batches keep for more
    uint64_t next_check_ns;
};

struct archive_batcher {
    struct os *os;
    uint64_t seed; // of the names' hashes
    struct archive_batcher_options options;
    struct worker *workers;
};

// True if the thread should not wait for its next look: much is queued, or somebody wants room that
// taking it makes. Locked.
static inline bool worker_should_take(const struct worker *w)
{
    const struct archive_batcher_options *o = &w->b->options;
    uint64_t half =
        o->writer_thread_queue_capacity - o->writer_thread_queue_capacity / 2; // 1 at least
    uint64_t quarter = o->queue_bytes - o->queue_bytes / 4 * 3;                // 1 at least
    return w->head && (w->wanting || w->queued_appends - w->taken_appends >= half ||
                       w->queued_bytes - w->taken_bytes >= quarter);
}

// The thread's part (gather.c).
void *worker_main(void *worker);
void worker_release(struct worker *w);
uint64_t batcher_hash(const struct archive_batcher *b, const struct archive_log *log);

static inline size_t entry_size(const struct entry *e)
{
    size_t n = sizeof *e + e->keyspace_n + e->key_n + e->n;
    return (n + 15) & ~(size_t)15;
}

#endif
