// Opening, recovery and closing. Recovery: the data directory's identity, the checkpoint's mark,
// the store below, then every log frame after the mark applied in order. What replay makes is
// dirty, as it was before the stop.
#include "commit/log_int.h"
#include "commit/rel_int.h"
#include "base/assert.h"
#include "base/hash.h"
#include "base/log.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

// Shares of memory_limit. The table's entries and slots get most; the store's block cache (index
// and filter blocks live in it too) an eighth; the rest is for the log's buffers, connections,
// compaction, and what allocators waste. Measured against resident memory: docs/BENCHMARKS.md.
// What this is too small for is the table's counters, off by up to 1 MiB: writes would wait for
// room that is there already.
#define MEMORY_MIN (16ull << 20)
// What the program and its libraries take before there is any data, about: under a small limit it
// counts.
#define MEMORY_FIXED (8ull << 20)

static void memory_init(struct commit *c, struct store_options *so)
{
    uint64_t limit = c->o.memory_limit > MEMORY_MIN ? c->o.memory_limit : MEMORY_MIN;
    limit -= limit / 16 < MEMORY_FIXED ? limit / 16 : MEMORY_FIXED;
    so->cache_bytes = limit / 8;
    if (so->cache_bytes < (8u << 20))
        so->cache_bytes = 8u << 20;
    if (so->cache_bytes > (2ull << 30))
        so->cache_bytes = 2ull << 30;
    c->table_limit = limit / 100 * 55;
    c->logs_limit = c->table_limit / 3;
    c->rels_slack = c->table_limit / 8;
    c->dirty_limit = c->table_limit / 4;
    uint64_t log = c->o.segment_size * c->o.max_segments;
    c->log_limit = log / 4;
    c->log_stop = log;
}

static enum err apply_key_change(struct commit *c, const struct change *ch, uint64_t seq,
                                 struct errmsg *msg)
{
    uint64_t hash = keys_hash(c->keys, ch->space, ch->key);
    unsigned shard = keys_shard(hash);
    struct key_fields f = fields_of(ch);
    if (ch->kind == CHANGE_DELETE && VARVE_BUG != 16)
        raise_floor(c, ch->version);
    keys_lock(c->keys, shard);
    struct key_entry *n = keys_prepare(c->keys, hash, &f);
    if (n) {
        if (ch->space == SPACE_IDEM && ch->value.n >= 8)
            store64((uint8_t *)entry_value(n).p, seq); // the record's own sequence, see txn.c
        keys_publish(c->keys, hash, n, seq, true);
    }
    keys_unlock(c->keys, shard);
    return n ? ERR_OK
             : err_set(msg, ERR_NO_MEMORY, "out of memory while replaying sequence %" PRIu64, seq);
}

static enum err apply(struct commit *c, const struct change *ch, uint64_t seq, struct errmsg *msg)
{
    if (ch->kind == CHANGE_PUT || ch->kind == CHANGE_DELETE)
        return apply_key_change(c, ch, seq, msg);
    if (ch->relation)
        return apply_rel_change(c, ch, seq, msg);
    return apply_log_change(c, ch, seq, msg);
}

static enum err replay(void *arg, uint64_t seq, struct slice payload, struct errmsg *msg)
{
    struct commit *c = arg;
    struct op_reader r = op_read(payload);
    struct change ch;
    enum err e;
    while (!(e = op_next(&r, &ch, msg)))
        if ((e = apply(c, &ch, seq, msg)))
            return e;
    if (e != ERR_MISSING)
        return e;
    return ERR_OK;
}

static enum err verify_frame(void *arg, uint64_t seq, struct slice payload, struct errmsg *msg)
{
    struct op_reader r = op_read(payload);
    struct change ch;
    enum err e;
    while (!(e = op_next(&r, &ch, msg)))
        ;
    return e == ERR_MISSING ? ERR_OK : e;
}

static void durable(void *arg, uint64_t seq)
{
    struct commit *c = arg;
    if (c->o.on_durable)
        c->o.on_durable(c->o.arg, seq);
}

static void fatal(void *arg, const char *what)
{
    struct commit *c = arg;
    if (c->o.on_fatal)
        c->o.on_fatal(c->o.arg, what);
}

static struct wal_options wal_options_of(struct commit *c, const char *path)
{
    return (struct wal_options){
        .os = c->o.os,
        .dir = path,
        .store_id = c->store_id,
        .segment_size = c->o.segment_size,
        .batch_time_us = c->o.batch_time_us,
        .max_batch_size = c->o.max_batch_size,
        .buffer_max = LIMIT_WAL_BUFFER,
        .on_fatal = fatal,
        .on_durable = durable,
        .arg = c,
    };
}

static struct commit *make(const struct commit_options *o)
{
    struct commit *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->o = *o;
    c->lock_fd = -1;
    c->dir = strdup(o->dir);
    pthread_mutex_init(&c->readers.lock, NULL);
    pthread_cond_init(&c->readers.wake, NULL);
    pthread_mutex_init(&c->house_lock, NULL);
    pthread_mutex_init(&c->checkpoint_lock, NULL);
    pthread_mutex_init(&c->keyspace_lock, NULL);
    pthread_mutex_init(&c->relation_lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->house_wake, &attr);
    pthread_condattr_destroy(&attr);
    if (!c->dir) {
        free(c);
        return NULL;
    }
    return c;
}

static void destroy(struct commit *c)
{
    if (c->store)
        store_close(c->store);
    if (c->keys)
        keys_free(c->keys);
    if (c->logs)
        logs_free(c->logs);
    rels_free(c->rels);
    relations_free(c->relations);
    if (c->lock_fd >= 0)
        ERR_IGNORE(os_close(c->o.os, c->lock_fd)); // the lock goes with the process at the latest
    pthread_mutex_destroy(&c->readers.lock);
    pthread_cond_destroy(&c->readers.wake);
    pthread_mutex_destroy(&c->house_lock);
    pthread_cond_destroy(&c->house_wake);
    pthread_mutex_destroy(&c->checkpoint_lock);
    pthread_mutex_destroy(&c->keyspace_lock);
    pthread_mutex_destroy(&c->relation_lock);
    free(c->dir);
    free(c);
}

// Empty tables of lists, and the relations that are below. The order of lists' hashes is on disk,
// so their secret is that of the data directory.
static enum err make_relations(struct commit *c, uint64_t seed, struct errmsg *msg)
{
    uint64_t secret[4];
    bool any;
    for (unsigned i = 0; i < 4; i++)
        secret[i] = hash64(slice_of(&c->store_id, sizeof c->store_id), i + 1);
    enum err e = any_lists_below(c, &any, msg);
    if (e)
        return e;
    if (!(c->rels = rels_new(secret, !any)) || !(c->relations = relations_new(seed)))
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    return load_relations(c, msg);
}

static enum err recover(struct commit *c, struct errmsg *msg)
{
    char path[LIMIT_PATH];
    struct wal_recovery found = {0};
    struct store_options so = {.os = c->o.os, .dir = path, .background = 1};
    enum err e;
    uint64_t begin = os_mono_ns(c->o.os);
    if ((e = dir_open(c, true, &c->recovery.created, msg)) ||
        (e = dir_read_mark(c, &c->mark, msg)) || (e = dir_keep_mark(c, msg)))
        return e;
    memory_init(c, &so);
    dir_path(c, "db", path, sizeof path);
    if ((e = c->o.store_open(&c->store, &so, msg)))
        return e;
    uint64_t seed;
    os_random(c->o.os, &seed, sizeof seed);
    // Without a checkpoint the log holds everything, so after replay nothing is only below.
    if (!(c->keys = keys_new(seed, c->mark.seq == 0)) || !(c->logs = logs_new(seed)))
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    if ((e = load_logs(c, msg)) || (e = make_relations(c, seed, msg)))
        return e;
    atomic_store(&c->floor, c->mark.floor);
    atomic_store(&c->checkpointed, c->mark.seq);
    dir_path(c, "wal", path, sizeof path);
    struct wal_options wo = wal_options_of(c, path);
    uint64_t replay_begin = os_mono_ns(c->o.os);
    if ((e = wal_open(&c->wal, &wo, c->mark.seq, replay, c, &found, msg)))
        return e;
    os_crash_point("recovered");
    uint64_t end = os_mono_ns(c->o.os);
    c->recovery.checkpoint_seq = c->mark.seq;
    c->recovery.frames = found.frames;
    c->recovery.bytes = found.bytes;
    c->recovery.last_seq = found.last_seq > c->mark.seq ? found.last_seq : c->mark.seq;
    c->recovery.torn_bytes = found.torn_bytes;
    c->recovery.clean = found.clean;
    c->recovery.replay_ns = end - replay_begin;
    c->recovery.total_ns = end - begin;
    return ERR_OK;
}

enum err commit_open(struct commit **out, const struct commit_options *o,
                     struct commit_recovery *found, struct errmsg *msg)
{
    struct commit *c = make(o);
    *out = NULL;
    if (!c)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    enum err e = recover(c, msg);
    if (!e && o->threads) {
        if ((e = wal_start(c->wal)) || (e = readers_start(&c->readers, o->read_threads)) ||
            pthread_create(&c->housekeeper, NULL, housekeeper_main, c))
            e = err_set(msg, e ? e : ERR_NO_MEMORY, "cannot start threads");
        else
            c->housekeeper_started = true;
        if (!e && admit_write(c)) // what was replayed may be more than this memory limit takes
            log_event(LOG_INFO, "checkpoint-first", "reason=replayed-more-than-the-limit");
    }
    if (found)
        *found = c->recovery;
    if (e) {
        commit_abandon(c);
        return e;
    }
    *out = c;
    return ERR_OK;
}

static void stop_threads(struct commit *c)
{
    if (c->housekeeper_started) {
        pthread_mutex_lock(&c->house_lock);
        c->stopping = true;
        pthread_cond_signal(&c->house_wake);
        pthread_mutex_unlock(&c->house_lock);
        pthread_join(c->housekeeper, NULL);
        c->housekeeper_started = false;
    }
    readers_stop(&c->readers);
}

enum err commit_close(struct commit *c)
{
    struct errmsg msg = {0};
    stop_threads(c);
    enum err e = commit_checkpoint(c, &msg);
    if (e) // the log still has everything
        log_event(LOG_WARN, "checkpoint-failed", "error=%s", log_quote(msg.text));
    e = wal_close(c->wal);
    c->wal = NULL;
    destroy(c);
    return e;
}

void commit_abandon(struct commit *c)
{
    stop_threads(c);
    if (c->wal)
        wal_abandon(c->wal);
    destroy(c);
}

enum err commit_check(const struct commit_options *o, struct commit_recovery *found,
                      struct errmsg *msg)
{
    struct commit *c = make(o);
    char path[LIMIT_PATH];
    struct wal_recovery w = {0};
    bool created;
    enum err e;
    if (!c)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    struct store_options so = {.os = o->os, .dir = path, .cache_bytes = 32u << 20, .background = 1};
    if (!(e = dir_open(c, false, &created, msg)) && !(e = dir_read_mark(c, &c->mark, msg))) {
        dir_path(c, "wal", path, sizeof path);
        e = wal_verify(o->os, path, c->store_id, c->mark.seq, verify_frame, c, &w, msg);
    }
    if (!e) {
        dir_path(c, "db", path, sizeof path);
        e = o->store_open(&c->store, &so, msg);
    }
    if (!e)
        e = store_verify(c->store, msg);
    if (!e)
        e = check_logs(c, msg);
    if (!e)
        e = check_rels(c, msg);
    *found = (struct commit_recovery){
        .checkpoint_seq = c->mark.seq,
        .frames = w.frames,
        .bytes = w.bytes,
        .last_seq = w.last_seq > c->mark.seq ? w.last_seq : c->mark.seq,
        .torn_bytes = w.torn_bytes,
        .clean = w.clean,
    };
    destroy(c);
    return e;
}

void commit_kick(struct commit *c)
{
    wal_kick(c->wal);
}

void commit_kick_alone(struct commit *c)
{
    wal_kick_alone(c->wal);
}

uint64_t commit_durable(const struct commit *c)
{
    return wal_durable(c->wal);
}

enum err commit_wait(struct commit *c, uint64_t seq)
{
    return wal_wait(c->wal, seq);
}

enum err commit_flush(struct commit *c)
{
    return wal_flush(c->wal);
}

bool commit_writable(const struct commit *c, const char **why)
{
    enum err e = (enum err)atomic_load(&c->checkpoint_error);
    *why = NULL;
    if (wal_out_of_space(c->wal) || e == ERR_NO_SPACE)
        *why = err_text(ERR_NO_SPACE);
    else if (e)
        *why = "the last checkpoint failed; see the log";
    return !*why;
}
