// The batching writer's far side: a thread takes what is queued, sorts it into batches by log, and
// writes those that are due. A batch is due when it reaches a threshold or is old enough; that is
// looked at every batch_check_interval, so that logs which fill at the same pace are written
// together, with one intent and few requests (archive/session.c). A batch of twice the size does
// not wait for the next look, nor do batches that together hold memory_bytes. A thread without
// records looks at nothing until there are some.
#include "archive/batcher_int.h"
#include "base/assert.h"
#include "base/limits.h"
#include <stdlib.h>
#include <time.h>

enum {
    GROUP = 1000,          // logs written at once
    SPARES = 128,          // empty blocks kept
    KEEP_BYTES = 64 << 10, // an empty batch does not keep buffers larger than this
    IDLE_BATCHES = 10000,  // empty batches kept
};

static uint64_t now_ns(const struct worker *w)
{
    return os_mono_ns(w->b->os);
}

// The thread's error, if it has one, is the appends' and flushes' too.
static void fail(struct worker *w, enum err e, const char *why)
{
    pthread_mutex_lock(&w->lock);
    if (!w->failed) {
        w->failed = true;
        w->e = err_set(&w->why, e, "%s", why);
    }
    pthread_cond_broadcast(&w->room);
    pthread_mutex_unlock(&w->lock);
}

// ---- batches

static enum err grow_table(struct worker *w)
{
    size_t buckets = w->buckets ? w->buckets * 2 : 256;
    struct batch **table = calloc(buckets, sizeof *table);
    if (!table)
        return ERR_NO_MEMORY;
    for (size_t i = 0; i < w->buckets; i++)
        for (struct batch *b = w->table[i], *next; b; b = next) {
            next = b->chain;
            b->chain = table[b->hash & (buckets - 1)];
            table[b->hash & (buckets - 1)] = b;
        }
    free(w->table);
    w->table = table;
    w->buckets = buckets;
    return ERR_OK;
}

static struct batch *find(struct worker *w, uint64_t hash, struct slice keyspace, struct slice key)
{
    struct batch *b = w->buckets ? w->table[hash & (w->buckets - 1)] : NULL;
    while (b &&
           (b->hash != hash || !slice_equal(b->key, key) || !slice_equal(b->keyspace, keyspace)))
        b = b->chain;
    return b;
}

// Memory of its records, whether it holds some or not.
static size_t weight(const struct batch *b)
{
    return b->bytes_cap + b->records_cap * sizeof *b->records;
}

static void drop_buffers(struct worker *w, struct batch *b)
{
    w->held -= weight(b);
    free(b->bytes);
    free(b->records);
    b->bytes = NULL;
    b->records = NULL;
    b->bytes_cap = b->records_cap = 0;
}

static void free_batch(struct worker *w, struct batch *b)
{
    drop_buffers(w, b);
    free(b);
}

// Drops the batches that are empty, when there are many.
static void drop_idle(struct worker *w)
{
    for (size_t i = 0; i < w->buckets; i++)
        for (struct batch **at = &w->table[i], *b; (b = *at);) {
            if (b->count) {
                at = &b->chain;
                continue;
            }
            *at = b->chain;
            free_batch(w, b);
            w->batches--;
        }
}

static struct batch *make(struct worker *w, uint64_t hash, struct slice keyspace, struct slice key)
{
    if (w->batches > IDLE_BATCHES + 2 * w->active_n)
        drop_idle(w);
    if (w->batches >= w->buckets && grow_table(w))
        return NULL;
    struct batch *b = calloc(1, sizeof *b + keyspace.n + key.n + 1);
    if (!b)
        return NULL;
    uint8_t *names = (uint8_t *)(b + 1);
    memcpy(names, keyspace.p, keyspace.n);
    memcpy(names + keyspace.n, key.p, key.n);
    b->keyspace = slice_of(names, keyspace.n);
    b->key = slice_of(names + keyspace.n, key.n);
    b->hash = hash;
    b->chain = w->table[hash & (w->buckets - 1)];
    w->table[hash & (w->buckets - 1)] = b;
    w->batches++;
    return b;
}

static enum err activate(struct worker *w, struct batch *b)
{
    if (w->active_n == w->active_cap) {
        size_t cap = w->active_cap ? w->active_cap * 2 : 64;
        struct batch **v = realloc(w->active, cap * sizeof *v);
        if (!v)
            return ERR_NO_MEMORY;
        w->active = v;
        w->active_cap = cap;
    }
    b->active = w->active_n;
    w->active[w->active_n++] = b;
    b->born_ns = now_ns(w);
    return ERR_OK;
}

static enum err make_room(struct worker *w, struct batch *b, size_t n)
{
    if (b->count == b->records_cap) {
        size_t cap = b->records_cap ? b->records_cap * 2 : 8;
        void *p = realloc(b->records, cap * sizeof *b->records);
        if (!p)
            return ERR_NO_MEMORY;
        w->held += (cap - b->records_cap) * sizeof *b->records;
        b->records = p;
        b->records_cap = cap;
    }
    if (b->bytes_cap - b->size < n) {
        size_t cap = b->bytes_cap ? b->bytes_cap * 2 : 256;
        while (cap - b->size < n)
            cap *= 2;
        void *p = realloc(b->bytes, cap);
        if (!p)
            return ERR_NO_MEMORY;
        w->held += cap - b->bytes_cap;
        b->bytes = p;
        b->bytes_cap = cap;
    }
    return ERR_OK;
}

static enum err add(struct worker *w, struct batch *b, const struct entry *e, const uint8_t *bytes)
{
    enum err err = b->count == 0 ? activate(w, b) : ERR_OK;
    err = err ? err : make_room(w, b, e->n);
    if (err)
        return err;
    // The offset, as `bytes` may still move.
    b->records[b->count++] =
        (struct archive_insert){e->has_timestamp != 0, e->timestamp, e->nonce,
                                (struct slice){(const uint8_t *)(uintptr_t)b->size, e->n}};
    if (e->n)
        memcpy(b->bytes + b->size, bytes, e->n);
    b->size += e->n;
    w->waiting += e->n + sizeof *b->records;
    return ERR_OK;
}

static void empty(struct worker *w, struct batch *b)
{
    w->waiting -= b->size + b->count * sizeof *b->records;
    w->active[b->active] = w->active[--w->active_n];
    w->active[b->active]->active = b->active;
    b->count = b->size = 0;
    // What is kept for the next records counts as held, so it must leave room for others'.
    if (weight(b) > KEEP_BYTES || w->held > w->b->options.memory_bytes / 4)
        drop_buffers(w, b);
}

// ---- writing

// Writes the batches, which are active, and empties them.
static enum err write_group(struct worker *w, struct batch **group, size_t n, struct errmsg *msg)
{
    struct archive_batch *in = calloc(n, sizeof *in);
    uint64_t stored = 0, dropped = 0, objects = 0;
    if (!in)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) {
        struct batch *b = group[i];
        for (size_t j = 0; j < b->count; j++)
            b->records[j].bytes.p = b->bytes + (uintptr_t)b->records[j].bytes.p;
        in[i] = (struct archive_batch){
            .log = {b->keyspace, b->key}, .records = b->records, .count = b->count};
    }
    enum err e = archive_append_many(w->writer, in, n, msg);
    for (size_t i = 0; i < n; i++) {
        if (!e) {
            stored += in[i].taken;
            dropped += in[i].count - in[i].taken;
            objects += in[i].taken > 0;
        }
        empty(w, group[i]);
    }
    pthread_mutex_lock(&w->lock);
    w->stats.stored += stored;
    w->stats.dropped += dropped;
    w->stats.batches += objects;
    w->stats.bytes = w->waiting;
    pthread_mutex_unlock(&w->lock);
    free(in);
    return e;
}

enum due { DUE_ALL, DUE_LOOK, DUE_SIZE };

// True if a writer would soon refuse the batch as too large: many records with few bytes.
static bool is_long(const struct batch *b)
{
    return b->size + b->count * RECORD_OVERHEAD >= LIMIT_ARCHIVE_APPEND / 2;
}

static bool is_due(const struct worker *w, const struct batch *b, enum due due, uint64_t now)
{
    const struct archive_batcher_options *o = &w->b->options;
    return due == DUE_ALL || b->size >= o->batch_flush_size_threshold ||
           b->count >= o->batch_flush_record_count_threshold || is_long(b) ||
           (due == DUE_LOOK && now - b->born_ns >= o->batch_flush_interval_millis * 1000000);
}

// Writes what is due, a group at a time. A group's records are encoded all at once, beside the
// batches, so its bytes are bounded too; one batch is one of any size.
static void write_due(struct worker *w, enum due due)
{
    struct batch *group[GROUP];
    struct errmsg msg = {""};
    uint64_t now = now_ns(w), most = w->b->options.memory_bytes / 4;
    enum err e = ERR_OK;
    for (size_t n = 1; n && !e;) {
        size_t bytes = 0;
        n = 0;
        for (size_t i = w->active_n; i-- > 0 && n < GROUP && (n == 0 || bytes < most);)
            if (is_due(w, w->active[i], due, now)) {
                bytes += weight(w->active[i]);
                group[n++] = w->active[i];
            }
        e = n ? write_group(w, group, n, &msg) : ERR_OK;
    }
    if (e)
        fail(w, e, msg.text);
}

static void drop_all(struct worker *w)
{
    while (w->active_n)
        empty(w, w->active[w->active_n - 1]);
}

// ---- the thread

// Sorts a block's records into batches; once the thread has failed it drops them.
static void take_block(struct worker *w, const struct block *block)
{
    const struct archive_batcher_options *o = &w->b->options;
    for (size_t at = 0; at < block->used && !w->failed;) {
        const uint8_t *p = block->data + at;
        struct entry e;
        memcpy(&e, p, sizeof e);
        p += sizeof e;
        struct slice keyspace = slice_of(p, e.keyspace_n);
        struct slice key = slice_of(p + e.keyspace_n, e.key_n);
        struct batch *b = find(w, e.hash, keyspace, key);
        b = b ? b : make(w, e.hash, keyspace, key);
        if (!b || add(w, b, &e, key.p + key.n)) {
            fail(w, ERR_NO_MEMORY, "no memory for batches");
            return;
        }
        if (b->size >= 2 * o->batch_flush_size_threshold || is_long(b))
            write_due(w, DUE_SIZE);
        else if (w->held > o->memory_bytes)
            write_due(w, DUE_ALL);
        at += entry_size(&e);
    }
}

static void serve(struct worker *w, struct request *r)
{
    struct errmsg msg = {""};
    enum err e = ERR_OK;
    if (r->kind == FLUSH_ALL) {
        write_due(w, DUE_ALL);
    } else {
        struct batch *b = find(w, r->hash, r->log->keyspace, r->log->key);
        if (b && b->count && !w->failed)
            e = write_group(w, &b, 1, &msg);
        if (!e && r->kind == RELEASE_KEY && !w->failed)
            e = archive_writer_release(w->writer, r->log, &msg);
        if (e)
            fail(w, e, msg.text);
    }
    pthread_mutex_lock(&w->lock);
    r->e = w->failed ? err_set(&r->msg, w->e, "%s", w->why.text) : ERR_OK;
    r->done = true;
    pthread_cond_broadcast(&w->done);
    pthread_mutex_unlock(&w->lock);
}

// Waits until there is something to do. Locked.
static void wait_for_work(struct worker *w, uint64_t check_ns)
{
    w->resting = !w->active_n;
    while (!w->active_n && !w->stop && !w->requests && !w->head) {
        pthread_cond_wait(&w->wake, &w->lock);
        w->next_check_ns = 0;
    }
    w->resting = false;
    w->next_check_ns = w->next_check_ns ? w->next_check_ns : now_ns(w) + check_ns;
    struct timespec until = {.tv_sec = (time_t)(w->next_check_ns / 1000000000),
                             .tv_nsec = (long)(w->next_check_ns % 1000000000)};
    while (!w->stop && !w->requests && !worker_should_take(w) && now_ns(w) < w->next_check_ns)
        if (pthread_cond_timedwait(&w->wake, &w->lock, &until))
            break;
}

// Gives a block back that is sorted: its records are the batches' now. Locked.
static void give_back(struct worker *w, struct block *b)
{
    w->queued_appends -= b->appends;
    w->queued_bytes -= b->bytes;
    w->taken_appends -= b->appends;
    w->taken_bytes -= b->bytes;
    w->stats.bytes = w->waiting;
    if (w->wanting)
        pthread_cond_broadcast(&w->room);
    if (w->spares < SPARES && b->cap < KEEP_BYTES * 8) {
        b->next = w->spare;
        w->spare = b;
        w->spares++;
    } else {
        free(b);
    }
}

void *worker_main(void *arg)
{
    struct worker *w = arg;
    os_thread_name("batcher");
    uint64_t check_ns = w->b->options.batch_check_interval_millis * 1000000;
    pthread_mutex_lock(&w->lock);
    while (!w->stop) {
        wait_for_work(w, check_ns);
        struct block *blocks = w->head;
        struct request *requests = w->requests;
        w->head = w->tail = NULL;
        w->requests = NULL;
        w->taken_appends = w->queued_appends;
        w->taken_bytes = w->queued_bytes;
        pthread_mutex_unlock(&w->lock);
        for (struct block *b = blocks, *next; b; b = next) {
            next = b->next;
            take_block(w, b);
            pthread_mutex_lock(&w->lock);
            give_back(w, b);
            pthread_mutex_unlock(&w->lock);
        }
        bool look = now_ns(w) >= w->next_check_ns;
        if (look && !w->failed)
            write_due(w, DUE_LOOK);
        if (look)
            w->next_check_ns = 0;
        for (struct request *r = requests, *next; r; r = next) {
            next = r->next; // it is gone once it is done
            serve(w, r);
        }
        if (w->failed)
            drop_all(w);
        pthread_mutex_lock(&w->lock);
        w->stats.bytes = w->waiting;
    }
    // Flushes that came too late.
    for (struct request *r = w->requests, *next; r; r = next) {
        next = r->next;
        r->e = err_set(&r->msg, ERR_CLOSED, "the writer is being closed");
        r->done = true;
    }
    pthread_cond_broadcast(&w->done);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

void worker_release(struct worker *w)
{
    for (size_t i = 0; i < w->buckets; i++)
        for (struct batch *b = w->table[i], *next; b; b = next) {
            next = b->chain;
            free_batch(w, b);
        }
    free(w->table);
    free(w->active);
    archive_writer_free(w->writer);
}
