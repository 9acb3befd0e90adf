// Moving, in rounds. Each takes some of the logs that are due and, a page of each:
//
//   1 read     the log's records from its mark on, and wait until they are durable
//   2 put      those that the archive has not yet, of all these logs at once
//   3 compare  what the archive gives back for all of them, byte by byte
//   4 note     commit_tier_done: the mark moves
//
// A crash between 2 and 4 costs a comparison: the archive's own end says what is there.
#include "tier/tier.h"

#include "archive/reader.h"
#include "archive/writer.h"
#include "base/assert.h"
#include "base/limits.h"
#include "base/log.h"
#include "commit/log.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    ROUND = 32,           // logs moved together
    READERS = 4,          // as many threads read from objects at once
    PAGE_BYTES = 4 << 20, // of a log in a round
    ROUND_BYTES = 64 << 20,
    PAGE_RECORDS = 100000,
    FILL = 10000, // empty records for missing ones in a round
    BACKOFF_MAX_MS = 60000,
    REST = 7, // times as long as a round took, while clients write
    REST_STEP_MS = 20,
};

// A reader and whoever uses it.
struct slot {
    pthread_mutex_t lock;
    struct archive_reader *reader;
};

struct tier {
    struct tier_options o;
    struct object_store *store;
    // The mover's only, after tier_new.
    bool probed;                   // what the store keeps is known, and enough
    struct archive_writer *writer; // NULL: to be opened
    const uint8_t **keyspaces;     // names, which stay where they are, of those that have their
    size_t keyspace_count;         // object; rising addresses
    struct slot slots[READERS];
    _Atomic unsigned turn; // whose slot is tried first
    struct commit *commit;
    pthread_t mover;
    bool started;
    pthread_mutex_t lock; // stopping
    pthread_cond_t wake;
    bool stopping;
    _Atomic bool fenced;
    _Atomic uint64_t rounds, moved_records, moved_bytes, compared_records, failures;
};

// ---- reading

// One of the readers, locked; prefers one that nobody uses.
static struct slot *take_slot(struct tier *t)
{
    unsigned first = atomic_fetch_add(&t->turn, 1);
    for (unsigned i = 0; i < READERS; i++) {
        struct slot *s = &t->slots[(first + i) % READERS];
        if (pthread_mutex_trylock(&s->lock) == 0)
            return s;
    }
    struct slot *s = &t->slots[first % READERS];
    pthread_mutex_lock(&s->lock);
    return s;
}

static enum err put_record(struct buf *out, const struct record *r)
{
    enum err e = buf_reserve(out, record_size(r->bytes.n));
    if (e)
        return e;
    record_write(buf_tail(out), r);
    out->end += record_size(r->bytes.n);
    return ERR_OK;
}

// Appends the records first..last as they are in objects.
static enum err read_range(struct archive_reader *reader, const struct log_name *name,
                           uint64_t first, uint64_t last, struct buf *out, struct errmsg *msg)
{
    struct archive_log log = {name->keyspace, name->key};
    struct archive_page page;
    for (uint64_t at = first; at <= last;) {
        struct archive_query q = {.start = ARCHIVE_OFFSET,
                                  .offset = at,
                                  .page_size =
                                      last - at < PAGE_RECORDS ? last - at + 1 : PAGE_RECORDS};
        enum err e = archive_read(reader, &log, &q, &page, msg);
        if (e)
            return e;
        if (page.count == 0)
            return err_set(msg, ERR_MISSING, "the objects end before offset %" PRIu64, at);
        for (size_t i = 0; i < page.count; i++, at++) {
            if (page.records[i].offset != at)
                return err_set(msg, ERR_DAMAGED, "the objects lack offset %" PRIu64, at);
            if ((e = put_record(out, &page.records[i])))
                return err_set(msg, e, "the records do not fit: %s", err_text(e));
        }
    }
    return ERR_OK;
}

static enum err tier_read(void *arg, const struct log_name *name, uint64_t first, uint64_t last,
                          struct buf *out, struct errmsg *msg)
{
    struct tier *t = arg;
    struct slot *s = take_slot(t);
    enum err e = read_range(s->reader, name, first, last, out, msg);
    pthread_mutex_unlock(&s->lock);
    return e;
}

struct commit_tier tier_hook(struct tier *t)
{
    return (struct commit_tier){.read = tier_read,
                                .arg = t,
                                .local_bytes = t->o.local_bytes,
                                .local_age_ms = t->o.local_age_ms};
}

// ---- moving

// One log's part of a round.
struct move {
    struct log_name name;
    struct log_page page;
    struct archive_insert *inserts; // the page's records, and empty ones for what is missing
    size_t count, cap;
    uint64_t first, end; // offsets of those
    struct archive_batch batch;
};

static enum err add_insert(struct move *m, const struct record *r)
{
    if (m->count == m->cap) {
        size_t cap = m->cap ? 2 * m->cap : 256;
        struct archive_insert *v = realloc(m->inserts, cap * sizeof *v);
        if (!v)
            return ERR_NO_MEMORY;
        m->inserts = v;
        m->cap = cap;
    }
    m->inserts[m->count++] = (struct archive_insert){true, r->timestamp, r->nonce, r->bytes};
    m->end++;
    return ERR_OK;
}

static void move_release(struct move *m)
{
    log_page_release(&m->page);
    free(m->inserts);
    *m = (struct move){0};
}

// Step 1. The page's records from m->first on, without holes. Where the log was trimmed further
// than it was moved, and the archive has some of it, what is missing is empty records too.
static enum err take_records(struct move *m)
{
    struct record r;
    enum err e = ERR_OK;
    size_t filled = 0;
    while (!e && log_page_next(&m->page, &r)) {
        struct record none = {
            .timestamp = r.timestamp, .nonce = NONCE_NONE, .bytes = slice_of("", 0)};
        for (; !e && m->end < r.offset && filled < FILL; filled++)
            e = add_insert(m, &none);
        if (e || m->end < r.offset)
            break;
        e = add_insert(m, &r);
    }
    return e;
}

static enum err read_page(struct tier *t, struct commit *c, struct move *m, uint64_t from,
                          struct errmsg *msg)
{
    struct log_query q = {.name = m->name,
                          .from = {.start = LOG_START_OFFSET, .offset = from},
                          .max_records = PAGE_RECORDS,
                          .max_bytes = PAGE_BYTES,
                          .may_block = true};
    uint64_t dep;
    enum err e = commit_log_read(c, &q, &m->page, &dep, msg);
    if (!e && dep && (e = commit_wait(c, dep)))
        return err_set(msg, e, "%s", err_text(e));
    return e;
}

// Makes the keyspace's object, once.
static enum err need_keyspace(struct tier *t, struct slice name, struct errmsg *msg)
{
    size_t low = 0, high = t->keyspace_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (t->keyspaces[middle] == name.p)
            return ERR_OK;
        if (t->keyspaces[middle] < name.p)
            low = middle + 1;
        else
            high = middle;
    }
    enum err e = archive_create_keyspace(t->store, t->o.os, name, NULL, msg);
    if (e && e != ERR_EXISTS)
        return e;
    const uint8_t **v = realloc(t->keyspaces, (t->keyspace_count + 1) * sizeof *v);
    if (!v)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    memmove(v + low + 1, v + low, (t->keyspace_count - low) * sizeof *v);
    v[low] = name.p;
    t->keyspaces = v;
    t->keyspace_count++;
    return ERR_OK;
}

static enum err begin_move(struct tier *t, struct commit *c, const struct tier_due *d,
                           struct move *m, struct errmsg *msg)
{
    *m = (struct move){
        .name = {slice_of(d->keyspace, d->keyspace_size), slice_of(d->key, d->key_size)}};
    struct archive_log log = {m->name.keyspace, m->name.key};
    struct archive_meta meta;
    enum err e = need_keyspace(t, m->name.keyspace, msg);
    e = e ? e : archive_writer_meta(t->writer, &log, &meta, msg);
    uint64_t mark = d->tiered ? d->tiered : 1;
    if (!e && meta.next_offset < mark)
        e = err_set(msg, ERR_DAMAGED,
                    "the objects end at offset %" PRIu64 ", but the server had moved all before "
                    "%" PRIu64 ": objects were deleted, or the prefix is another one",
                    meta.next_offset, mark);
    e = e ? e : read_page(t, c, m, mark, msg);
    if (e)
        return e;
    // A log that the archive has not begins where it begins here.
    m->first = m->end =
        meta.next_offset == 1 && m->page.first_offset > mark ? m->page.first_offset : mark;
    if ((e = take_records(m)))
        return err_set(msg, e, "%s", err_text(e));
    uint64_t there = meta.next_offset > m->first ? meta.next_offset - m->first : 0;
    there = there < m->count ? there : m->count;
    m->batch = (struct archive_batch){
        .log = log, .start = m->first, .records = m->inserts + there, .count = m->count - there};
    return ERR_OK;
}

// Step 2, of the moves that have something to put.
static enum err put_all(struct tier *t, struct move *moves, size_t n, struct errmsg *msg)
{
    struct archive_batch batches[ROUND];
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (moves[i].batch.count)
            batches[count++] = moves[i].batch;
    if (count == 0)
        return ERR_OK;
    enum err e = archive_append_many(t->writer, batches, count, msg);
    for (size_t i = 0; i < count && !e; i++) {
        atomic_fetch_add(&t->moved_records, batches[i].taken);
        if (batches[i].taken != batches[i].count)
            e = err_set(msg, ERR_DAMAGED, "the archive dropped records as known by their nonces");
    }
    return e;
}

// Step 3.
static enum err compare(struct tier *t, const struct move *m, struct errmsg *msg)
{
    struct buf here, there;
    size_t bytes = 0;
    for (size_t i = 0; i < m->count; i++)
        bytes += record_size(m->inserts[i].bytes.n);
    buf_init(&here, bytes);
    buf_init(&there, bytes);
    enum err e = ERR_OK;
    for (size_t i = 0; i < m->count && !e; i++) {
        const struct archive_insert *in = &m->inserts[i];
        struct record r = {m->first + i, in->timestamp, in->nonce, in->bytes};
        e = put_record(&here, &r);
    }
    if (e)
        (void)err_set(msg, e, "%s", err_text(e));
    if (!e && m->count)
        e = tier_read(t, &m->name, m->first, m->end - 1, &there, msg);
    // What does not fit is longer than what is here.
    if (e == ERR_TOO_BIG || (!e && !slice_equal(buf_slice(&here), buf_slice(&there))))
        e = err_set(msg, ERR_DAMAGED,
                    "objects have other records from offset %" PRIu64 " on: the prefix is not this "
                    "server's alone",
                    m->first);
    atomic_fetch_add(&t->compared_records, e ? 0 : m->count);
    atomic_fetch_add(&t->moved_bytes, e ? 0 : bytes);
    buf_release(&here);
    buf_release(&there);
    return e;
}

// Says which log it was.
static enum err failed(struct tier *t, const struct log_name *name, enum err e,
                       const struct errmsg *why)
{
    char keyspace[64], key[64];
    snprintf(keyspace, sizeof keyspace, "%.*s",
             (int)(name->keyspace.n < 60 ? name->keyspace.n : 60), (const char *)name->keyspace.p);
    snprintf(key, sizeof key, "%.*s", (int)(name->key.n < 60 ? name->key.n : 60),
             (const char *)name->key.p);
    atomic_fetch_add(&t->failures, 1);
    log_event(LOG_ERROR, "tier-failed", "keyspace=%s key=%s error=%s", log_quote(keyspace),
              log_quote(key), log_quote(why->text));
    return e;
}

// After these the writer has to be opened anew; after the first, never.
static bool breaks_writer(enum err e)
{
    return e == ERR_CONFLICT || e == ERR_NETWORK || e == ERR_IO;
}

static enum err nothing_to_move(struct tier *t, struct commit *c, const struct tier_due *d,
                                struct move *m, struct errmsg *msg)
{
    *m = (struct move){
        .name = {slice_of(d->keyspace, d->keyspace_size), slice_of(d->key, d->key_size)}};
    enum err e = commit_tier_done(c, &m->name, d->tiered, msg);
    if (e)
        (void)failed(t, &m->name, e, msg);
    return breaks_writer(e) ? e : ERR_OK;
}

// Logs that fail for reasons of their own do not keep the others. The first error that does is
// returned.
static enum err move_round(struct tier *t, struct commit *c, const struct tier_due *due, size_t n,
                           size_t *moved, struct errmsg *msg)
{
    struct move moves[ROUND];
    struct errmsg why = {""};
    size_t count = 0, bytes = 0;
    enum err e = ERR_OK;
    for (size_t i = 0; i < n && !e && bytes < ROUND_BYTES; i++) {
        struct move *m = &moves[count++];
        if (due[i].end == due[i].tiered) { // moved already; more bytes may go from here
            e = nothing_to_move(t, c, &due[i], m, &why);
            *moved += e == ERR_OK; // many of these, after a start, do not keep others waiting
            count--;
            continue;
        }
        e = begin_move(t, c, &due[i], m, &why);
        bytes += m->page.bytes;
        if (e) {
            (void)failed(t, &m->name, e, &why);
            move_release(m);
            count--;
            e = breaks_writer(e) ? e : ERR_OK;
        }
    }
    if (!e && (e = put_all(t, moves, count, &why)))
        (void)failed(t, &moves[0].name, e, &why);
    for (size_t i = 0; i < count; i++) {
        enum err one = e ? e : compare(t, &moves[i], &why);
        if (!one)
            one = commit_tier_done(c, &moves[i].name, moves[i].end, &why);
        if (one && !e)
            (void)failed(t, &moves[i].name, one, &why);
        *moved += one == ERR_OK && moves[i].count > 0;
        e = e ? e : breaks_writer(one) ? one : ERR_OK;
        move_release(&moves[i]);
    }
    atomic_fetch_add(&t->rounds, 1);
    if (e)
        *msg = why;
    return e;
}

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

// Moves `n` logs; *moved counts.
static enum err move_some(struct tier *t, struct commit *c, const struct tier_due *due, size_t n,
                          size_t *moved, struct errmsg *msg)
{
    enum err e = probe(t, msg);
    e = e ? e : open_writer(t, msg);
    e = e ? e : move_round(t, c, due, n, moved, msg);
    if (e == ERR_CONFLICT)
        atomic_store(&t->fenced, true);
    if (breaks_writer(e)) {
        archive_writer_free(t->writer);
        t->writer = NULL;
    }
    return e;
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

enum err tier_run(struct tier *t, struct commit *c, size_t *moved, struct errmsg *msg)
{
    struct tier_due due[ROUND];
    enum err e = ERR_OK;
    size_t n, before;
    *moved = 0;
    do {
        before = *moved;
        n = commit_tier_due(c, t->o.min_bytes, t->o.max_age_ms, due, ROUND);
        uint64_t begin = os_mono_ns(t->o.os);
        if (n)
            e = move_some(t, c, due, n, moved, msg);
        if (*moved > before)
            rest(t, c, REST * (os_mono_ns(t->o.os) - begin) / 1000000);
    } while (!e && *moved > before && !stopping(t));
    return e;
}

static void *mover_main(void *arg)
{
    struct tier *t = arg;
    uint64_t wait = t->o.interval_ms;
    os_thread_yields();
    while (!stopping(t) && !atomic_load(&t->fenced)) {
        struct errmsg msg = {""};
        size_t moved;
        uint64_t failures = atomic_load(&t->failures);
        enum err e = tier_run(t, t->commit, &moved, &msg);
        // Also where only logs that fail for reasons of their own are left.
        bool bad = e || (moved == 0 && atomic_load(&t->failures) != failures);
        wait = !bad ? t->o.interval_ms : 2 * wait < BACKOFF_MAX_MS ? 2 * wait : BACKOFF_MAX_MS;
        if (e == ERR_CONFLICT)
            log_event(LOG_ERROR, "tier-fenced", "error=%s", log_quote(msg.text));
        else
            sleep_ms(t, wait);
    }
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
    for (int i = 0; i < READERS; i++)
        good = good && pthread_mutex_init(&t->slots[i].lock, NULL) == 0;
    return good ? ERR_OK : ERR_NO_MEMORY;
}

static enum err open_all(struct tier *t, struct errmsg *msg)
{
    enum err e = object_open(&t->store, &t->o.objects, msg);
    e = e ? e : probe(t, msg);
    if (e == ERR_NETWORK) { // what is here can be served meanwhile
        log_event(LOG_WARN, "tier-away", "error=%s", log_quote(msg->text));
        e = ERR_OK;
    }
    struct archive_reader_options ro = {.ahead_bytes = 16u << 20};
    for (int i = 0; i < READERS && !e; i++)
        e = archive_reader_new(&t->slots[i].reader, t->store, &ro, msg);
    return e;
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
    for (int i = 0; i < READERS; i++) {
        archive_reader_free(t->slots[i].reader);
        pthread_mutex_destroy(&t->slots[i].lock);
    }
    object_close(t->store);
    free(t->keyspaces);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

// X(name, type, help, value)
#define METRICS(X)                                                                            \
    X(varve_tier_moved_records_total, counter, "records put into objects", t->moved_records)  \
    X(varve_tier_compared_records_total, counter, "records read back and compared",           \
      t->compared_records)                                                                    \
    X(varve_tier_moved_bytes_total, counter, "bytes of those", t->moved_bytes)                \
    X(varve_tier_rounds_total, counter, "rounds of moving", t->rounds)                        \
    X(varve_tier_failures_total, counter, "logs that could not be moved, times", t->failures) \
    X(varve_tier_fenced, gauge, "1: another server took the logs over, nothing is moved",     \
      t->fenced)                                                                              \
    X(varve_tier_puts_total, counter, "requests that put", s.put)                             \
    X(varve_tier_gets_total, counter, "requests that got", s.get)                             \
    X(varve_tier_lists_total, counter, "requests that listed", s.list)                        \
    X(varve_tier_retries_total, counter, "requests that were repeated", s.retries)

enum err tier_metrics(struct tier *t, struct buf *out)
{
    struct object_stats s;
    object_get_stats(t->store, &s);
    enum err e = ERR_OK;
#define X(name, type, help, value) \
    if (!e)                        \
        e = buf_metric(out, #name, #type, help, (uint64_t)(value));
    METRICS(X)
#undef X
    return e;
}
