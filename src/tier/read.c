// Reading from objects, on the threads that read cold data. Those serve other readers too, so a
// store that hangs must not have them all:
//
//   at most half of them (and four) read from objects at once. Who comes when as many do waits, but
//   not longer than SLOW_MS after the one of them began that took longest;
//   after a read has failed because the store did not answer, all are refused at once, but for one
//   that tries it after a second, and then more and more rarely (AWAY_MAX_MS). Should that fail
//   while the store answers, its object was the matter, and the others are let in.
//
// Who is refused gets ERR_AWAY. A log is read by the reader that has its objects, if that is free,
// so that a client who pages through it gets each object once.
#include "tier/tier_int.h"

#include "base/hash.h"
#include "base/log.h"
#include <inttypes.h>
#include <time.h>

enum { SLOW_MS = 1000, AWAY_MIN_MS = 1000, AWAY_MAX_MS = 30000 };

enum err read_range(struct archive_reader *reader, const struct log_name *name, uint64_t first,
                    uint64_t last, take_record *take, void *arg, struct errmsg *msg)
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
            if ((e = take(arg, &page.records[i], msg)))
                return e;
        }
    }
    return ERR_OK;
}

// Appends a record as it is in objects.
static enum err put_record(void *arg, const struct record *r, struct errmsg *msg)
{
    struct buf *out = arg;
    enum err e = buf_reserve(out, record_size(r->bytes.n));
    if (e)
        return err_set(msg, e, "the records do not fit: %s", err_text(e));
    record_write(buf_tail(out), r);
    out->end += record_size(r->bytes.n);
    return ERR_OK;
}

// ---- who may

static uint64_t log_hash(const struct log_name *name)
{
    return hash64(name->key, hash64(name->keyspace, 0));
}

// A slot that is free: the log's, or the one that was used longest ago. NULL: as many as may are
// busy; *since_ns: since when the first of them.
static struct slot *free_slot(struct reading *r, uint64_t log, uint64_t *since_ns)
{
    struct slot *best = NULL;
    unsigned busy = 0;
    *since_ns = UINT64_MAX;
    for (unsigned i = 0; i < READERS; i++) {
        struct slot *s = &r->slots[i];
        if (s->busy) {
            busy++;
            *since_ns = s->since_ns < *since_ns ? s->since_ns : *since_ns;
        } else if (!best || s->log == log || (best->log != log && s->used < best->used)) {
            best = s;
        }
    }
    return busy < r->most ? best : NULL;
}

static enum err refuse(struct reading *r, const char *why, struct errmsg *msg)
{
    atomic_fetch_add(&r->refused, 1);
    return err_set(msg, ERR_AWAY, "%s: %s", err_text(ERR_AWAY), why);
}

// Locked; gives *slot, busy.
static enum err enter(struct tier *t, uint64_t log, struct slot **slot, bool *tries,
                      struct errmsg *msg)
{
    struct reading *r = &t->reading;
    uint64_t since;
    for (;;) {
        uint64_t now = os_mono_ns(t->o.os);
        if (r->away && (r->trying || now < r->next_ns))
            return refuse(r, "it did not answer lately", msg);
        if ((*slot = free_slot(r, log, &since)))
            break;
        uint64_t until = since + SLOW_MS * UINT64_C(1000000);
        if (now >= until)
            return refuse(r, "all who read from it have waited for a while", msg);
        struct timespec ts = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)};
        (void)pthread_cond_timedwait(&r->free, &r->lock, &ts);
    }
    (*slot)->busy = true;
    (*slot)->since_ns = os_mono_ns(t->o.os);
    (*slot)->log = log;
    (*slot)->used = ++r->count;
    *tries = r->away;
    r->trying = r->trying || r->away;
    return ERR_OK;
}

static void leave(struct tier *t, struct slot *slot, bool tries, enum err e)
{
    struct reading *r = &t->reading;
    slot->busy = false;
    if (tries)
        r->trying = false;
    if (e == ERR_NETWORK) {
        // Of several that had begun before the first of them failed, one counts.
        if (tries || !r->away)
            r->wait_ms = 2 * r->wait_ms < AWAY_MAX_MS ? 2 * r->wait_ms : AWAY_MAX_MS;
        r->next_ns = os_mono_ns(t->o.os) + r->wait_ms * 1000000;
        r->away = true;
    } else {
        r->away = false;
        r->wait_ms = AWAY_MIN_MS / 2;
    }
    pthread_cond_broadcast(&r->free);
}

enum err tier_read(void *arg, const struct log_name *name, uint64_t first, uint64_t last,
                   struct buf *out, struct errmsg *msg)
{
    struct tier *t = arg;
    struct reading *r = &t->reading;
    struct slot *slot;
    bool tries;
    pthread_mutex_lock(&r->lock);
    enum err e = enter(t, log_hash(name), &slot, &tries, msg);
    pthread_mutex_unlock(&r->lock);
    if (e)
        return e;
    e = read_range(slot->reader, name, first, last, put_record, out, msg);
    bool there = tries && e == ERR_NETWORK && store_answers(t);
    pthread_mutex_lock(&r->lock);
    bool before = r->away;
    leave(t, slot, tries, there ? ERR_AWAY : e);
    bool now = r->away;
    pthread_mutex_unlock(&r->lock);
    if (now && !before)
        log_event(LOG_WARN, "tier-away", "error=%s", log_quote(msg->text));
    else if (before && !now)
        log_event(LOG_INFO, "tier-back", "store=%s", log_quote(object_where(t->store)));
    return e == ERR_NETWORK ? ERR_AWAY : e;
}

// ---- opening and closing

enum err reading_init(struct reading *r)
{
    pthread_condattr_t attr;
    bool good = pthread_condattr_init(&attr) == 0;
    good = good && pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 &&
           pthread_cond_init(&r->free, &attr) == 0 && pthread_mutex_init(&r->lock, NULL) == 0;
    pthread_condattr_destroy(&attr);
    r->wait_ms = AWAY_MIN_MS / 2;
    return good ? ERR_OK : ERR_NO_MEMORY;
}

enum err reading_open(struct reading *r, struct tier *t, struct errmsg *msg)
{
    struct archive_reader_options o = {.ahead_bytes = 16u << 20};
    unsigned half = t->o.read_threads / 2;
    r->most = half < 1 ? 1 : half < READERS ? half : READERS;
    enum err e = ERR_OK;
    for (unsigned i = 0; i <= READERS && !e; i++)
        e = archive_reader_new(&r->slots[i].reader, t->store, &o, msg);
    return e;
}

void reading_free(struct reading *r)
{
    for (unsigned i = 0; i <= READERS; i++)
        archive_reader_free(r->slots[i].reader);
    pthread_cond_destroy(&r->free);
    pthread_mutex_destroy(&r->lock);
}
