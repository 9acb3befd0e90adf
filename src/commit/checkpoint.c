// Checkpoints: everything dirty goes below, then the log lets go of what it covers.
//
//   1 mark     C = the last sequence given out. Every change up to C is in the table once each
//              shard's lock has been taken after this moment: a transaction holds its shards from
//              append to publish.
//   2 pin      each shard's dirty entries become pinned and clean; writes from here make new
//              entries
//   3 sort     the pinned entries, by space and key
//   4 write    them as sorted files, aside; then what is dirty of relations, which is copied as it
//              is now, a piece at a time
//   5 wait     until the log is durable up to the last sequence given out before that was
//              complete: what was written may belong to a transaction later than C of which
//              another part was
//              not pinned. With all of it durable in the log, replay completes it; without, half
//              could surface.
//   6 ingest   the files become visible and durable below
//   7 record   CHECKPOINT = (C, floor), durable. From here recovery replays from C + 1
//   8 unpin    the entries are clean now and may be evicted
//   9 drop     log segments up to C
//
// A crash before 7 replays from the older mark over newer data below: changes say what is there
// afterwards, so replay ends in the same state.
#include "commit/log_int.h"
#include "commit/rel_int.h"
#include "base/assert.h"
#include "base/log.h"
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

struct pinned {
    uint64_t
        head; // first eight bytes of the key, big-endian, decide most comparisons; later the expiry
    struct key_entry *entry;
};

struct pins {
    struct pinned *v;
    size_t count, cap;
    bool failed;
};

static uint64_t key_head(struct slice key)
{
    uint64_t head = 0;
    if (key.n)
        memcpy(&head, key.p, key.n < 8 ? key.n : 8);
    return __builtin_bswap64(head);
}

static void add_pin(void *arg, struct key_entry *e)
{
    struct pins *p = arg;
    if (p->count == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 1024;
        struct pinned *v = p->failed ? NULL : realloc(p->v, cap * sizeof *v);
        if (!v) {
            p->failed = true;
            return;
        }
        p->v = v;
        p->cap = cap;
    }
    p->v[p->count++] = (struct pinned){key_head(entry_key(e)), e};
}

static int by_space_and_key(const void *a, const void *b)
{
    const struct pinned *x = a, *y = b;
    enum key_space sx = entry_space(x->entry), sy = entry_space(y->entry);
    if (sx != sy)
        return sx < sy ? -1 : 1;
    if (x->head != y->head)
        return x->head < y->head ? -1 : 1;
    return slice_compare(entry_key(x->entry), entry_key(y->entry));
}

static int by_expiry(const void *a, const void *b)
{
    const struct pinned *x = a, *y = b;
    if (x->head != y->head)
        return x->head < y->head ? -1 : 1;
    if (entry_space(x->entry) != entry_space(y->entry))
        return entry_space(x->entry) < entry_space(y->entry) ? -1 : 1;
    return slice_compare(entry_key(x->entry), entry_key(y->entry));
}

static void unpin_all(struct commit *c, bool written)
{
    for (unsigned s = 0; s < KEYS_SHARDS; s++) {
        keys_lock(c->keys, s);
        keys_unpin(c->keys, s, written);
        if (written)
            trim_shard(c, s);
        keys_unlock(c->keys, s);
    }
}

// Step 4, the entries themselves.
static enum err write_entries(struct store_writer *w, const struct pins *p, struct buf *b)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < p->count && !err; i++) {
        const struct key_entry *e = p->v[i].entry;
        struct slice value = {NULL, 0};
        if (!(e->flags & ENTRY_ABSENT)) {
            buf_clear(b);
            if ((err = stored_encode(b, e)))
                break;
            value = buf_slice(b);
        }
        err = store_add(w, (enum store_space)entry_space(e), entry_key(e), value);
    }
    return err;
}

// Step 4, the lines of the expiry index that expire.c is done with.
static enum err remove_lines(struct commit *c, struct store_writer *w, uint64_t cursor)
{
    struct store_iter *it;
    struct errmsg msg;
    enum err err = store_iter_new(c->store, STORE_EXPIRY, slice_of("", 0), &it);
    if (err)
        return err;
    for (; store_iter_valid(it) && !err; store_iter_next(it)) {
        struct slice line = store_iter_key(it);
        if (line.n >= 8 && __builtin_bswap64(load64(line.p)) >= cursor)
            break;
        err = store_add(w, STORE_EXPIRY, line, (struct slice){NULL, 0});
    }
    if (!err)
        err = store_iter_status(it, &msg);
    store_iter_free(it);
    return err;
}

// Step 4, new lines of the expiry index; sorts `p` anew. One that expired before the cursor gets
// the cursor's time, so that it is still looked at.
static enum err add_lines(struct store_writer *w, struct pins *p, struct buf *b, uint64_t cursor)
{
    size_t n = 0;
    enum err err = ERR_OK;
    for (size_t i = 0; i < p->count; i++)
        if (p->v[i].entry->flags & ENTRY_EXPIRES)
            p->v[n++] = p->v[i];
    for (size_t i = 0; i < n; i++)
        p->v[i].head =
            entry_expires(p->v[i].entry) > cursor ? entry_expires(p->v[i].entry) : cursor;
    if (n)
        qsort(p->v, n, sizeof *p->v, by_expiry);
    for (size_t i = 0; i < n && !err; i++) {
        const struct key_entry *e = p->v[i].entry;
        buf_clear(b);
        err = expiry_encode(b, p->v[i].head, entry_space(e), entry_key(e));
        if (!err)
            err = store_add(w, STORE_EXPIRY, buf_slice(b), slice_of("", 0));
    }
    return err;
}

// After an I/O error RocksDB takes no more writes until it is opened again, and what the disk holds
// is not known: as with a failed sync of the log, only recovery can tell. A full disk is not that.
static enum err store_said(struct commit *c, enum err e, const struct errmsg *msg)
{
    if ((e == ERR_IO || e == ERR_DAMAGED) && c->o.on_fatal)
        c->o.on_fatal(c->o.arg, msg ? msg->text : err_text(e));
    return e;
}

// Do checkpoints take more than half of the time? Then writers are about to wait for them.
static bool falls_behind(const struct commit *c)
{
    return c->checkpoint_took_ns &&
           os_mono_ns(c->o.os) - c->checkpoint_ended_ns < c->checkpoint_took_ns;
}

static uint64_t dirty_bytes(const struct commit *c)
{
    return keys_dirty_bytes(c->keys) + logs_dirty_bytes(c->logs) + rels_dirty_bytes(c->rels);
}

// Bytes of the log that a checkpoint would let go.
static uint64_t log_bytes(const struct commit *c)
{
    return wal_bytes(c->wal) - atomic_load_explicit(&c->log_mark, memory_order_relaxed);
}

bool writers_will_wait(const struct commit *c)
{
    return log_bytes(c) >= c->log_stop / 2 || dirty_bytes(c) >= c->dirty_limit + c->dirty_limit / 2;
}

// Steps 3 to 6.
static enum err write_below(struct commit *c, struct pins *p, const struct log_pins *logs,
                            uint64_t cursor, struct errmsg *msg)
{
    struct store_writer *w;
    if (p->failed)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    if (p->count)
        qsort(p->v, p->count, sizeof *p->v, by_space_and_key);
    enum err err = store_begin(c->store, &w);
    if (err)
        return store_said(c, err_set(msg, err, "cannot begin a checkpoint: %s", err_text(err)),
                          msg);
    if (falls_behind(c))
        store_hurry(w);
    struct buf b;
    buf_init(&b, LIMIT_VALUE_HARD + LIMIT_KEY_HARD);
    err = write_entries(w, p, &b);
    if (!err)
        err = remove_lines(c, w, cursor);
    if (!err)
        err = add_lines(w, p, &b, cursor);
    if (!err)
        err = log_pins_write(c, w, logs);
    if (!err)
        err = write_rels(c, w);
    buf_release(&b);
    if (!err && VARVE_BUG != 14)
        err = wal_wait(c->wal, wal_last(c->wal));
    if (err) {
        store_abort(w);
        return err_set(msg, err, "cannot write a checkpoint: %s", err_text(err));
    }
    os_crash_point("checkpoint-written");
    return store_said(c, store_commit(w, msg), msg);
}

static enum err run_checkpoint(struct commit *c, struct errmsg *msg)
{
    struct pins p = {0};
    struct log_pins logs;
    struct checkpoint_mark mark = {.seq = wal_last(c->wal)};
    uint64_t log_mark = wal_bytes(c->wal);
    uint64_t cursor =
        atomic_load(&c->expired_cursor); // before the pins: its deletes are in the table
    if (mark.seq == c->mark.seq)
        return ERR_OK;
    for (unsigned s = 0; s < KEYS_SHARDS; s++) {
        keys_lock(c->keys, s);
        keys_pin_dirty(c->keys, s, add_pin, &p);
        keys_unlock(c->keys, s);
    }
    log_pins_take(c, &logs);
    os_crash_point("checkpoint-pinned");
    mark.floor = VARVE_BUG == 15 ? 0 : atomic_load(&c->floor);
    uint64_t entries = p.count + logs.n;
    enum err e = ERR_OK;
    if (VARVE_BUG == 11)
        ERR_IGNORE(wal_drop(c->wal, mark.seq)); // the log lets go before the checkpoint is durable
    if (VARVE_BUG == 19)
        e = dir_write_mark(c, &mark); // recorded before it is below
    if (p.count || logs.n || logs.keyspace_count || logs.failed ||
        atomic_load(&c->relations->count))
        e = write_below(c, &p, &logs, cursor, msg);
    else
        e = wal_wait(c->wal, mark.seq);
    free(p.v);
    os_crash_point("checkpoint-ingested");
    if (!e)
        atomic_fetch_add(&c->ingests, 1);
    if (!e && (e = dir_write_mark(c, &mark)))
        err_set(msg, e, "cannot write %s/CHECKPOINT: %s", c->dir, os_last_error());
    os_crash_point("checkpoint-recorded");
    unpin_all(c, e == ERR_OK || VARVE_BUG == 20); // 20: what could not be written counts as written
    log_pins_done(c, &logs, e == ERR_OK || VARVE_BUG == 26);
    rels_done(c, e == ERR_OK);
    if (e)
        return e;
    c->mark = mark;
    atomic_store(&c->checkpointed, mark.seq);
    atomic_store(&c->log_mark, log_mark);
    count(&c->checkpoint_entries, entries);
    if ((e = wal_drop(c->wal, mark.seq)))
        err_set(msg, e, "cannot drop log segments: %s", err_text(e));
    os_crash_point("checkpoint-dropped");
    return e;
}

enum err commit_checkpoint(struct commit *c, struct errmsg *msg)
{
    pthread_mutex_lock(&c->checkpoint_lock);
    uint64_t begin = os_mono_ns(c->o.os);
    uint64_t before = c->mark.seq;
    enum err e = run_checkpoint(c, msg);
    uint64_t ns = os_mono_ns(c->o.os) - begin;
    atomic_store(&c->checkpoint_error, (int)e);
    if (e) {
        count(&c->checkpoint_failures, 1);
    } else if (c->mark.seq != before) {
        count(&c->checkpoints, 1);
        count(&c->checkpoint_ns, ns);
        c->checkpoint_took_ns = ns;
        c->checkpoint_ended_ns = begin + ns;
        log_event(LOG_DEBUG, "checkpoint", "seq=%" PRIu64 " ms=%" PRIu64, c->mark.seq,
                  ns / 1000000);
    }
    pthread_mutex_unlock(&c->checkpoint_lock);
    return e;
}

// ---- memory and log space

uint64_t logs_memory(const struct commit *c)
{
    uint64_t logs = logs_bytes(c->logs);
    return logs < c->logs_limit ? logs : c->logs_limit;
}

uint64_t memory_share(const struct commit *c, uint64_t others)
{
    uint64_t third = c->table_limit / 3;
    return others < c->table_limit - third ? c->table_limit - others : third;
}

void trim_shard(struct commit *c, unsigned shard)
{
    uint64_t limit = memory_share(c, logs_memory(c) + rels_bytes(c->rels));
    if (keys_bytes(c->keys) > limit)
        keys_evict(c->keys, shard, limit / KEYS_SHARDS);
}

// What nobody writes to is not trimmed by writes: the room that others need, it must give up too.
static void tend_memory(struct commit *c)
{
    uint64_t limit = memory_share(c, logs_memory(c) + rels_bytes(c->rels));
    for (unsigned s = 0; s < KEYS_SHARDS && keys_bytes(c->keys) > limit; s++) {
        keys_lock(c->keys, s);
        trim_shard(c, s);
        keys_unlock(c->keys, s);
    }
    if (atomic_load(&c->relations->count))
        tend_rels(c);
}

void want_checkpoint(struct commit *c)
{
    if (atomic_load_explicit(&c->want, memory_order_relaxed) || atomic_exchange(&c->want, true))
        return;
    pthread_mutex_lock(&c->house_lock);
    pthread_cond_signal(&c->house_wake);
    pthread_mutex_unlock(&c->house_lock);
}

enum err admit_write(struct commit *c)
{
    uint64_t log = log_bytes(c), dirty = dirty_bytes(c);
    if (log < c->log_limit && dirty < c->dirty_limit)
        return ERR_OK;
    want_checkpoint(c);
    // Dirty entries cannot be evicted: past twice the mark at which a checkpoint starts, writers
    // wait.
    if (log < c->log_stop && dirty < 2 * c->dirty_limit)
        return ERR_OK;
    return atomic_load(&c->checkpoint_error) == ERR_NO_SPACE ? ERR_NO_SPACE : ERR_FULL;
}

enum err commit_wait_room(struct commit *c, void (*done)(void *arg, enum err e), void *arg)
{
    if (!c->housekeeper_started) {
        struct errmsg msg;
        done(arg, commit_checkpoint(c, &msg));
        return ERR_OK;
    }
    struct room_waiter *w = malloc(sizeof *w);
    if (!w)
        return ERR_NO_MEMORY;
    count(&c->full_waits, 1);
    pthread_mutex_lock(&c->house_lock);
    *w = (struct room_waiter){c->rooms, done, arg};
    c->rooms = w;
    atomic_store(&c->want, true);
    pthread_cond_signal(&c->house_wake);
    pthread_mutex_unlock(&c->house_lock);
    return ERR_OK;
}

// ---- the housekeeper

static void release_waiters(struct room_waiter *w, enum err e)
{
    while (w) {
        struct room_waiter *next = w->next;
        w->done(w->arg, e);
        free(w);
        w = next;
    }
}

enum { EXPIRE_STEP = 1000 }; // between two looks whether a checkpoint is wanted or the room closes

#define HOUSE_NS 1000000000u

// Waits up to a second, or less for a shorter checkpoint interval, or until a checkpoint is wanted
// or the room closes. Locked.
static void house_sleep(struct commit *c)
{
    uint64_t most = c->o.checkpoint_interval_us * 1000;
    if (most == 0 || most > HOUSE_NS)
        most = HOUSE_NS;
    uint64_t until = os_mono_ns(c->o.os) + most;
    struct timespec ts = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)};
    while (!c->stopping && !atomic_load(&c->want) &&
           pthread_cond_timedwait(&c->house_wake, &c->house_lock, &ts) == 0)
        ;
}

void *housekeeper_main(void *arg)
{
    struct commit *c = arg;
    os_thread_name("checkpoints");
    os_thread_yields(); // to those who answer clients: compressing a checkpoint takes a CPU
    uint64_t last = os_mono_ns(c->o.os);
    bool more = false; // keys may have expired than one step deletes
    pthread_mutex_lock(&c->house_lock);
    while (!c->stopping) {
        if (!more)
            house_sleep(c);
        uint64_t now = os_mono_ns(c->o.os);
        uint64_t interval = c->o.checkpoint_interval_us * 1000;
        bool due = atomic_exchange(&c->want, false) || (interval && now - last >= interval);
        struct room_waiter *waiters = c->rooms;
        c->rooms = NULL;
        pthread_mutex_unlock(&c->house_lock);
        if (due) {
            struct errmsg msg = {0};
            enum err e = commit_checkpoint(c, &msg);
            if (e)
                log_event(LOG_ERROR, "checkpoint-failed", "error=%s", log_quote(msg.text));
            last = os_mono_ns(c->o.os);
            release_waiters(waiters, e);
            if (e)
                os_sleep_us(c->o.os, 500000); // do not spin on a full disk
        }
        // A step ends with a whole shard or millisecond, so it may delete more than it was asked.
        more = commit_expire(c, EXPIRE_STEP) >= EXPIRE_STEP;
        more = commit_retain(c, EXPIRE_STEP) || more;
        if (!more)
            tend_memory(c);
        pthread_mutex_lock(&c->house_lock);
    }
    struct room_waiter *waiters = c->rooms;
    c->rooms = NULL;
    pthread_mutex_unlock(&c->house_lock);
    release_waiters(waiters, ERR_CLOSED);
    return NULL;
}
