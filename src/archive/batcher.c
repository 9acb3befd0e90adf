// The batching writer's near side: queues, flushes and threads. An append copies its records into
// its thread's newest block under the thread's lock; the thread takes all blocks at once. It is not
// woken for an append before a quarter of the queue is full or somebody waits for room, as it looks
// by itself at every check; but for the first one after it had nothing at all.
#include "archive/batcher_int.h"
#include "archive/name.h"
#include "base/hash.h"
#include "base/limits.h"
#include <stdlib.h>
#include <time.h>

enum { BLOCK = 256 << 10, THREADS_MAX = 64 };
#define MILLIS_MAX (UINT64_MAX / 4 / 1000000) // more than a century; a sum of two still fits

uint64_t batcher_hash(const struct archive_batcher *b, const struct archive_log *log)
{
    return hash64(log->key, hash64(log->keyspace, b->seed));
}

static struct worker *worker_of(struct archive_batcher *b, uint64_t hash)
{
    return &b->workers[(hash >> 32) % b->options.writer_thread_count];
}

static uint64_t or_default(uint64_t v, uint64_t def)
{
    return v ? v : def;
}

static uint64_t millis(uint64_t v, uint64_t def)
{
    v = or_default(v, def);
    return v < MILLIS_MAX ? v : MILLIS_MAX;
}

static void set_defaults(struct archive_batcher_options *o)
{
    o->writer_thread_count = o->writer_thread_count ? o->writer_thread_count : 1;
    o->writer_thread_queue_capacity = or_default(o->writer_thread_queue_capacity, UINT64_MAX);
    o->batch_check_interval_millis = millis(o->batch_check_interval_millis, 100);
    o->batch_flush_interval_millis = millis(o->batch_flush_interval_millis, 1000);
    o->batch_flush_record_count_threshold =
        or_default(o->batch_flush_record_count_threshold, UINT64_MAX);
    o->batch_flush_size_threshold = or_default(o->batch_flush_size_threshold, 1000000);
    if (o->batch_flush_size_threshold > LIMIT_ARCHIVE_APPEND / 4)
        o->batch_flush_size_threshold = LIMIT_ARCHIVE_APPEND / 4;
    o->queue_bytes = or_default(o->queue_bytes, 64 << 20);
    o->memory_bytes = or_default(o->memory_bytes, 256 << 20);
}

static enum err start(struct archive_batcher *b, struct worker *w, struct object_store *store,
                      const struct archive_options *options, struct errmsg *msg)
{
    w->b = b;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_cond_init(&w->room, NULL);
    pthread_cond_init(&w->done, NULL);
    enum err e = archive_writer_new(&w->writer, store, b->os, options, msg);
    if (!e && pthread_create(&w->thread, NULL, worker_main, w))
        e = err_set(msg, ERR_NO_MEMORY, "a writing thread cannot be started");
    w->started = e == ERR_OK;
    return e;
}

enum err archive_batcher_new(struct archive_batcher **out, struct object_store *store,
                             struct os *os, const struct archive_options *options,
                             const struct archive_batcher_options *batching, struct errmsg *msg)
{
    struct archive_batcher *b = *out = calloc(1, sizeof *b);
    if (!b)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    b->os = os;
    os_random(os, &b->seed, sizeof b->seed);
    b->options = batching ? *batching : (struct archive_batcher_options){0};
    set_defaults(&b->options);
    enum err e = ERR_OK;
    if (b->options.writer_thread_count > THREADS_MAX)
        e = err_set(msg, ERR_INVALID, "writer_thread_count: %u; %d are the most",
                    b->options.writer_thread_count, THREADS_MAX);
    b->workers = e ? NULL : calloc(b->options.writer_thread_count, sizeof *b->workers);
    if (!e && !b->workers)
        e = err_set(msg, ERR_NO_MEMORY, "out of memory");
    for (unsigned i = 0; i < b->options.writer_thread_count && !e; i++)
        e = start(b, &b->workers[i], store, options, msg);
    if (e) {
        archive_batcher_free(b);
        *out = NULL;
    }
    return e;
}

static void free_blocks(struct block *b)
{
    while (b) {
        struct block *next = b->next;
        free(b);
        b = next;
    }
}

void archive_batcher_free(struct archive_batcher *b)
{
    for (unsigned i = 0; b && b->workers && i < b->options.writer_thread_count; i++) {
        struct worker *w = &b->workers[i];
        if (!w->b) // never begun
            continue;
        if (w->started) {
            pthread_mutex_lock(&w->lock);
            w->stop = true;
            pthread_cond_broadcast(&w->wake);
            pthread_mutex_unlock(&w->lock);
            pthread_join(w->thread, NULL);
        }
        worker_release(w);
        free_blocks(w->head);
        free_blocks(w->spare);
        pthread_mutex_destroy(&w->lock);
        pthread_cond_destroy(&w->wake);
        pthread_cond_destroy(&w->room);
        pthread_cond_destroy(&w->done);
    }
    if (b)
        free(b->workers);
    free(b);
}

// ---- appending

static enum err check_append(const struct archive_log *log, const struct archive_insert *records,
                             size_t count, size_t *bytes, struct errmsg *msg)
{
    char dir[NAME_DIR_MAX];
    // A name that cannot be too long however it is encoded needs no closer look.
    if (log->keyspace.n - 1 >= NAME_SPACE_MAX / 3 || log->key.n - 1 >= OBJECT_PART_MAX / 3) {
        enum err e = name_dir(log, dir, msg);
        if (e)
            return e;
    }
    *bytes = 0;
    for (size_t i = 0; i < count; i++) {
        if (records[i].bytes.n > LIMIT_ARCHIVE_RECORD)
            return err_set(msg, ERR_TOO_BIG, "a record of %zu bytes; %u are the most",
                           records[i].bytes.n, LIMIT_ARCHIVE_RECORD);
        *bytes += records[i].bytes.n + sizeof(struct entry) + log->keyspace.n + log->key.n;
    }
    return ERR_OK;
}

// The lock is held. A block with room for `n` bytes.
static struct block *block_for(struct worker *w, size_t n)
{
    if (w->tail && w->tail->cap - w->tail->used >= n)
        return w->tail;
    size_t cap = n > BLOCK ? n : BLOCK;
    struct block *b = w->spare;
    if (b && b->cap >= cap) {
        w->spare = b->next;
        w->spares--;
    } else {
        b = malloc(sizeof *b + cap);
        if (!b)
            return NULL;
        b->cap = cap;
    }
    b->next = NULL;
    b->used = 0;
    b->appends = b->bytes = 0;
    *(w->tail ? &w->tail->next : &w->head) = b;
    w->tail = b;
    return b;
}

static enum err put_entry(struct worker *w, const struct archive_log *log,
                          const struct archive_insert *r, uint64_t hash)
{
    struct entry e = {r->nonce,
                      r->timestamp,
                      (uint32_t)log->keyspace.n,
                      (uint32_t)log->key.n,
                      (uint32_t)r->bytes.n,
                      r->has_timestamp,
                      hash};
    struct block *b = block_for(w, entry_size(&e));
    if (!b)
        return ERR_NO_MEMORY;
    uint8_t *p = b->data + b->used;
    memcpy(p, &e, sizeof e);
    p += sizeof e;
    memcpy(p, log->keyspace.p, e.keyspace_n);
    memcpy(p + e.keyspace_n, log->key.p, e.key_n);
    if (e.n)
        memcpy(p + e.keyspace_n + e.key_n, r->bytes.p, e.n);
    b->used += entry_size(&e);
    b->bytes += sizeof e + e.keyspace_n + e.key_n + e.n;
    w->queued_bytes += sizeof e + e.keyspace_n + e.key_n + e.n;
    return ERR_OK;
}

static enum err told(const struct worker *w, struct errmsg *msg)
{
    return w->failed ? err_set(msg, w->e, "%s", w->why.text) : ERR_OK;
}

static void fail_locked(struct worker *w, enum err e, const char *why)
{
    if (w->failed)
        return;
    w->failed = true;
    w->e = err_set(&w->why, e, "%s", why);
}

enum err archive_batcher_append(struct archive_batcher *b, const struct archive_log *log,
                                const struct archive_insert *records, size_t count,
                                struct errmsg *msg)
{
    size_t bytes;
    uint64_t hash = batcher_hash(b, log);
    struct worker *w = worker_of(b, hash);
    const struct archive_batcher_options *o = &b->options;
    enum err e = check_append(log, records, count, &bytes, msg);
    if (e || count == 0)
        return e;
    pthread_mutex_lock(&w->lock);
    bool waits = false;
    while (!w->failed && w->queued_appends &&
           (w->queued_appends >= o->writer_thread_queue_capacity ||
            w->queued_bytes + bytes > o->queue_bytes)) {
        w->stats.waits += !waits;
        waits = true;
        w->wanting++;
        pthread_cond_signal(&w->wake);
        pthread_cond_wait(&w->room, &w->lock);
        w->wanting--;
    }
    e = told(w, msg);
    for (size_t i = 0; i < count && !e; i++)
        if (put_entry(w, log, &records[i], hash)) { // some may be queued: no flush may be good now
            fail_locked(w, ERR_NO_MEMORY, "no memory for queued records");
            e = told(w, msg);
        }
    if (!e) {
        w->tail->appends++;
        w->queued_appends++;
        w->stats.appended += count;
        if (w->resting || worker_should_take(w))
            pthread_cond_signal(&w->wake);
        w->resting = false;
    }
    pthread_mutex_unlock(&w->lock);
    return e;
}

// ---- flushing

static void ask(struct worker *w, struct request *r)
{
    pthread_mutex_lock(&w->lock);
    r->next = w->requests;
    w->requests = r;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

static enum err answer(struct worker *w, struct request *r, struct errmsg *msg)
{
    pthread_mutex_lock(&w->lock);
    while (!r->done)
        pthread_cond_wait(&w->done, &w->lock);
    pthread_mutex_unlock(&w->lock);
    return r->e ? err_set(msg, r->e, "%s", r->msg.text) : ERR_OK;
}

static enum err ask_key(struct archive_batcher *b, enum request_kind kind,
                        const struct archive_log *log, struct errmsg *msg)
{
    struct request r = {.kind = kind, .log = log, .hash = batcher_hash(b, log)};
    struct worker *w = worker_of(b, r.hash);
    ask(w, &r);
    return answer(w, &r, msg);
}

enum err archive_batcher_flush_key(struct archive_batcher *b, const struct archive_log *log,
                                   struct errmsg *msg)
{
    return ask_key(b, FLUSH_KEY, log, msg);
}

enum err archive_batcher_release(struct archive_batcher *b, const struct archive_log *log,
                                 struct errmsg *msg)
{
    return ask_key(b, RELEASE_KEY, log, msg);
}

enum err archive_batcher_flush_all(struct archive_batcher *b, struct errmsg *msg)
{
    struct request r[THREADS_MAX];
    enum err e = ERR_OK;
    for (unsigned i = 0; i < b->options.writer_thread_count; i++) {
        r[i] = (struct request){.kind = FLUSH_ALL};
        ask(&b->workers[i], &r[i]);
    }
    for (unsigned i = 0; i < b->options.writer_thread_count; i++) {
        enum err one = answer(&b->workers[i], &r[i], e ? NULL : msg);
        e = e ? e : one;
    }
    return e;
}

void archive_batcher_get_stats(struct archive_batcher *b, struct archive_batcher_stats *s)
{
    *s = (struct archive_batcher_stats){0};
    for (unsigned i = 0; i < b->options.writer_thread_count; i++) {
        struct worker *w = &b->workers[i];
        pthread_mutex_lock(&w->lock);
        s->appended += w->stats.appended;
        s->stored += w->stats.stored;
        s->dropped += w->stats.dropped;
        s->batches += w->stats.batches;
        s->waits += w->stats.waits;
        s->bytes += w->stats.bytes + w->queued_bytes;
        pthread_mutex_unlock(&w->lock);
    }
}
