// The tier: its store, the mover's thread, metrics. Moving is in move.c, deleting in trim.c,
// reading in read.c.
#include "tier/tier_int.h"

#include "base/log.h"
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

enum {
    TRIMS = 8, // logs whose objects are deleted, or looked at for that, in a round
    BACKOFF_MAX_MS = 60000,
    REST = 7, // times as long as a round took, while clients write
    REST_STEP_MS = 20,
    LOOK_MS = 1000, // at what waits, at least so often while nothing is moved
};

struct commit_tier tier_hook(struct tier *t)
{
    return (struct commit_tier){.read = tier_read,
                                .arg = t,
                                .local_bytes = t->o.local_bytes,
                                .local_age_ms = t->o.local_age_ms};
}

// ---- moving

// Finds out, once, what the store keeps.
static enum err probe(struct tier *t, struct errmsg *msg)
{
    struct object_guarantees g;
    enum err e = t->probed ? ERR_OK : object_probe(t->store, &g, msg);
    if (e || t->probed)
        return e;
    if (!g.put_absent || !g.list_after_put)
        return err_set(msg, ERR_UNSUPPORTED,
                       "%s does not keep %s: two servers could overwrite each other's logs, so it "
                       "cannot be a tier",
                       object_where(t->store),
                       g.put_absent ? "listings that show every put" : "If-None-Match");
    t->probed = true;
    return ERR_OK;
}

static enum err open_writer(struct tier *t, struct errmsg *msg)
{
    if (t->writer)
        return ERR_OK;
    return archive_writer_new(&t->writer, t->store, t->o.os, &t->o.archive, msg);
}

static bool stopping(struct tier *t)
{
    pthread_mutex_lock(&t->lock);
    bool stop = t->stopping;
    pthread_mutex_unlock(&t->lock);
    return stop;
}

// After a put whose answer was lost the writer only says so, and another one takes over from it.
static void close_broken(struct tier *t)
{
    if (!t->writer || !archive_writer_broken(t->writer))
        return;
    archive_writer_free(t->writer);
    t->writer = NULL;
}

// Moves and deletes what a pass found; *moved counts logs.
static enum err do_round(struct tier *t, struct commit *c, const struct tier_looking *k,
                         size_t *moved, struct errmsg *msg)
{
    struct trouble x = {.e = ERR_OK};
    enum err e = probe(t, msg);
    e = e ? e : open_writer(t, msg);
    if (e)
        return e;
    move_round(t, c, k->moves, k->move_count, moved, &x);
    close_broken(t);
    e = x.e ? ERR_OK : open_writer(t, msg);
    if (e)
        return e;
    if (!x.e)
        trim_round(t, c, k->trims, k->trim_count, moved, &x);
    close_broken(t);
    if (x.e == ERR_CONFLICT)
        atomic_store(&t->fenced, true);
    *msg = x.msg;
    return x.e;
}

static void sleep_ms(struct tier *t, uint64_t ms)
{
    uint64_t until = os_mono_ns(t->o.os) + ms * 1000000;
    struct timespec ts = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)};
    pthread_mutex_lock(&t->lock);
    while (!t->stopping && pthread_cond_timedwait(&t->wake, &t->lock, &ts) == 0)
        ;
    pthread_mutex_unlock(&t->lock);
}

// Appends come first: moving competes with them for the disk above all, where the tier is a
// directory on it. So while clients write it takes a part of the time, and all of it when they
// pause.
static void rest(struct tier *t, const struct commit *c, uint64_t ms)
{
    for (uint64_t slept = 0; slept < ms && !stopping(t); slept += REST_STEP_MS) {
        uint64_t durable = commit_durable(c);
        sleep_ms(t, REST_STEP_MS);
        if (commit_durable(c) == durable)
            return;
    }
}

// Waits, and keeps looking at what waits meanwhile: metrics tell it.
static void wait_looking(struct tier *t, uint64_t ms)
{
    struct tier_looking k = {.moves = NULL};
    for (uint64_t step; ms && !stopping(t); ms -= step) {
        step = ms < LOOK_MS ? ms : LOOK_MS;
        sleep_ms(t, step);
        if (ms > step)
            commit_tier_due(t->commit, &k);
    }
}

enum err tier_run(struct tier *t, struct commit *c, size_t *moved, struct errmsg *msg)
{
    struct tier_due due[TIER_ROUND + TRIMS];
    struct tier_looking k = {.min_bytes = t->o.min_bytes,
                             .max_age_ms = t->o.max_age_ms,
                             .moves = due,
                             .move_max = TIER_ROUND,
                             .trims = due + TIER_ROUND,
                             .trim_max = TRIMS};
    enum err e = ERR_OK;
    size_t before;
    *moved = 0;
    do {
        before = *moved;
        commit_tier_due(c, &k);
        uint64_t begin = os_mono_ns(t->o.os);
        if (k.move_count + k.trim_count)
            e = do_round(t, c, &k, moved, msg);
        if (*moved > before)
            rest(t, c, REST * (os_mono_ns(t->o.os) - begin) / 1000000);
    } while (!e && *moved > before && !stopping(t));
    return e;
}

static void *mover_main(void *arg)
{
    struct tier *t = arg;
    os_thread_name("tier");
    uint64_t wait = t->o.interval_ms;
    os_thread_yields();
    while (!stopping(t) && !atomic_load(&t->fenced)) {
        struct errmsg msg = {""};
        size_t moved;
        uint64_t failures = atomic_load(&t->failures);
        enum err e = tier_run(t, t->commit, &moved, &msg);
        // Logs that fail for reasons of their own rest by themselves. Where they are several, and
        // no other one is moved, it is the store's reason: its disk is full, or the keys were taken
        // away.
        bool bad = e || (!moved && atomic_load(&t->failures) - failures >= OWN_MAX);
        wait = !bad ? t->o.interval_ms : 2 * wait < BACKOFF_MAX_MS ? 2 * wait : BACKOFF_MAX_MS;
        if (e == ERR_CONFLICT)
            log_event(LOG_ERROR, "tier-fenced", "error=%s", log_quote(msg.text));
        wait_looking(t, wait);
    }
    while (!stopping(t)) // fenced: for the metrics
        wait_looking(t, BACKOFF_MAX_MS);
    return NULL;
}

// ---- opening and closing

static enum err init_sync(struct tier *t)
{
    pthread_condattr_t attr;
    bool good = pthread_condattr_init(&attr) == 0;
    good = good && pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 &&
           pthread_cond_init(&t->wake, &attr) == 0 && pthread_mutex_init(&t->lock, NULL) == 0;
    pthread_condattr_destroy(&attr);
    return good ? reading_init(&t->reading) : ERR_NO_MEMORY;
}

static enum err open_all(struct tier *t, struct errmsg *msg)
{
    enum err e = object_open(&t->store, &t->o.objects, msg);
    e = e ? e : probe(t, msg);
    if (e == ERR_NETWORK) { // what is here can be served meanwhile
        log_event(LOG_WARN, "tier-away", "error=%s", log_quote(msg->text));
        e = ERR_OK;
    }
    return e ? e : reading_open(&t->reading, t, msg);
}

enum err tier_new(struct tier **out, const struct tier_options *o, struct errmsg *msg)
{
    struct tier *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t || init_sync(t)) {
        free(t);
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    }
    t->o = *o;
    enum err e = open_all(t, msg);
    if (e)
        tier_free(t);
    else
        *out = t;
    return e;
}

enum err tier_start(struct tier *t, struct commit *c)
{
    t->commit = c;
    if (pthread_create(&t->mover, NULL, mover_main, t))
        return ERR_NO_MEMORY;
    t->started = true;
    return ERR_OK;
}

void tier_stop(struct tier *t)
{
    pthread_mutex_lock(&t->lock);
    t->stopping = true;
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
    if (t->store) // the mover may be waiting for it
        object_hurry(t->store);
    if (t->started)
        pthread_join(t->mover, NULL);
    t->started = false;
    archive_writer_free(t->writer);
    t->writer = NULL;
}

void tier_free(struct tier *t)
{
    if (!t)
        return;
    tier_stop(t);
    reading_free(&t->reading);
    object_close(t->store);
    free(t->keyspaces);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

// X(name, type, help, value)
#define METRICS(X)                                                                               \
    X(varve_tier_moved_records_total, counter, "records put into objects", t->moved_records)     \
    X(varve_tier_compared_records_total, counter, "records read back and compared",              \
      t->compared_records)                                                                       \
    X(varve_tier_moved_bytes_total, counter, "bytes of those", t->moved_bytes)                   \
    X(varve_tier_deleted_objects_total, counter, "objects deleted, as their records are gone",   \
      t->deleted)                                                                                \
    X(varve_tier_rounds_total, counter, "rounds of moving", t->rounds)                           \
    X(varve_tier_failures_total, counter, "logs that could not be moved, times", t->failures)    \
    X(varve_tier_fenced, gauge, "1: another server took the logs over, nothing is moved",        \
      t->fenced)                                                                                 \
    X(varve_tier_away, gauge, "1: the store did not answer the last reader, others are refused", \
      away)                                                                                      \
    X(varve_tier_refused_total, counter, "reads refused for that, or as too many waited",        \
      t->reading.refused)                                                                        \
    X(varve_tier_puts_total, counter, "requests that put", s.put)                                \
    X(varve_tier_gets_total, counter, "requests that got", s.get)                                \
    X(varve_tier_lists_total, counter, "requests that listed", s.list)                           \
    X(varve_tier_deletes_total, counter, "requests that deleted", s.delete)                      \
    X(varve_tier_retries_total, counter, "requests that were repeated", s.retries)

enum err tier_metrics(struct tier *t, struct buf *out)
{
    struct object_stats s;
    object_get_stats(t->store, &s);
    pthread_mutex_lock(&t->reading.lock);
    bool away = t->reading.away;
    pthread_mutex_unlock(&t->reading.lock);
    enum err e = ERR_OK;
#define X(name, type, help, value) \
    if (!e)                        \
        e = buf_metric(out, #name, #type, help, (uint64_t)(value));
    METRICS(X)
#undef X
    return e;
}
