// The flusher: takes what has gathered, writes it, syncs it, and only then says that it is durable.
// While it does, appenders fill the other gather buffer; it goes on with that at once.
#include "base/log.h"
#include "wal/read.h"
#include "wal/wal_int.h"

#include <stdio.h>
#include <time.h>

void wal_fail(struct wal *w, const char *what, const char *path, enum err e)
{
    char text[LIMIT_PATH + 256];
    snprintf(text, sizeof text, "log: %s %s: %s", what, path,
             e == ERR_IO ? os_last_error() : err_text(e));
    if (atomic_exchange(&w->failed, true))
        return;
    log_event(LOG_ERROR, "wal_failed", "what=%s", log_quote(text));
    pthread_mutex_lock(&w->lock);
    pthread_cond_broadcast(&w->work);
    pthread_cond_broadcast(&w->room);
    pthread_cond_broadcast(&w->done);
    pthread_cond_broadcast(&w->prepare);
    pthread_mutex_unlock(&w->lock);
    w->o.on_fatal(w->o.arg, text);
}

static enum err fail_segment(struct wal *w, const char *what, const struct segment *s, enum err e)
{
    char path[LIMIT_PATH];
    segment_path(w, s, path);
    wal_fail(w, what, path, e);
    return ERR_IO;
}

// ---- one run

// Fills in what was left open when the frames were gathered. Nobody else touches the group any
// more.
static void seal(struct wal *w, const struct run *r, uint8_t *p, size_t n)
{
    const uint8_t *end = p + n;
    if (r->header) {
        wal_header_put(p, &(struct wal_header){.store_id = w->o.store_id,
                                               .number = r->segment->number,
                                               .first = r->segment->first,
                                               .salt = r->segment->salt,
                                               .synced = r->last});
        p += WAL_HEADER;
    }
    uint64_t synced = atomic_load(&w->durable);
    while (p < end) {
        uint32_t length = load32(p + 4);
        size_t size = wal_frame_size(wal_is_mark(length) ? 0 : length);
        wal_frame_seal(p, size, r->segment->salt, synced);
        p += size;
    }
    VERIFY(p == end);
}

// Extends a small last run with zeros over blocks never written before; see FILL_STEP. Returns the
// bytes to write.
static size_t fill_ahead(struct gather *g, const struct run *r, size_t n)
{
    struct segment *s = r->segment;
    uint64_t end = r->off + n;
    if (end <= s->filled)
        return n;
    s->filled = end;
    if (n >= FILL_STEP / 4 || r != &g->runs[g->run_count - 1])
        return n;
    size_t fill = s->size - end < FILL_STEP ? (size_t)(s->size - end) : FILL_STEP;
    if (fill == 0 || buf_reserve(&g->bytes, fill) != ERR_OK)
        return n; // slower, not wrong
    memset(buf_tail(&g->bytes), 0, fill);
    s->filled += fill;
    return n + fill;
}

// Gives the segment its name; its header and first frames are synced already.
static enum err make_live(struct wal *w, struct segment *s)
{
    char from[LIMIT_PATH], to[LIMIT_PATH], name[WAL_NAME];
    segment_path(w, s, from);
    wal_segment_name(name, s->number);
    wal_path(to, w->dir, name);
    enum err e = os_rename(w->os, from, to);
    if (e != ERR_OK)
        return fail_segment(w, "cannot rename", s, e);
    os_crash_point("wal-renamed");
    if (VARVE_BUG != 5) // 5: directory not synced
        e = os_sync_dir(w->os, w->dir);
    if (e != ERR_OK)
        return fail_segment(w, "cannot sync the directory of", s, e);
    pthread_mutex_lock(&w->lock);
    s->live = true;
    pthread_mutex_unlock(&w->lock);
    return ERR_OK;
}

static void publish(struct wal *w, uint64_t seq)
{
    uint64_t before = atomic_load(&w->durable);
    VERIFY(seq >= before);
    atomic_store(&w->durable, seq);
    if (seq > before)
        w->o.on_durable(w->o.arg, seq);
}

static enum err write_run(struct wal *w, struct gather *g, const struct run *r, size_t n)
{
    struct segment *s = r->segment;
    if (w->written != s && w->written) {
        // Everything in it is synced: its last group was, like every group.
        ERR_IGNORE(os_close(w->os, w->written->fd));
        w->written->fd = -1;
    }
    w->written = s;
    seal(w, r, buf_head(&g->bytes) + r->start, n);
    size_t size = fill_ahead(g, r, n);
    uint64_t began = os_mono_ns(w->os);
    if (VARVE_BUG == 3 && r->last > atomic_load(&w->durable) + 1)
        size = n / 2 & ~(size_t)7; // a short write taken for a whole one
    enum err e = os_pwrite(w->os, s->fd, buf_head(&g->bytes) + r->start, size, r->off);
    if (e != ERR_OK)
        return fail_segment(w, "cannot write", s, e);
    if (VARVE_BUG == 1) // durable before the sync
        publish(w, r->last);
    os_crash_point("wal-before-sync");
    e = os_sync(w->os, s->fd);
    if (e != ERR_OK)
        return fail_segment(w, "cannot sync", s, e);
    os_crash_point("wal-after-sync");
    if (r->header)
        e = make_live(w, s);
    if (e != ERR_OK)
        return e;
    uint64_t took = os_mono_ns(w->os) - began;
    atomic_fetch_add(&w->syncs, 1);
    atomic_fetch_add(&w->sync_ns, took);
    atomic_store(&w->sync_ns_last, took);
    atomic_fetch_add(&w->written_bytes, size);
    // 2: also what was appended after the write began
    publish(w, VARVE_BUG == 2 ? atomic_load(&w->last) : r->last);
    return ERR_OK;
}

// ---- one group

// With flush_lock, without lock.
static enum err write_group(struct wal *w, struct gather *g)
{
    if (atomic_load(&w->failed))
        return ERR_IO;
    size_t total = buf_len(&g->bytes);
    for (size_t i = 0; i < g->run_count; i++) {
        size_t end = i + 1 < g->run_count ? g->runs[i + 1].start : total;
        enum err e = write_run(w, g, &g->runs[i], end - g->runs[i].start);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

// Takes the group that has gathered, leaving the other buffer to the appenders. With both locks.
static struct gather *take_group(struct wal *w)
{
    struct gather *g = w->gather;
    w->gather = g == &w->gathers[0] ? &w->gathers[1] : &w->gathers[0];
    VERIFY(w->gather->run_count == 0);
    return g;
}

// With both locks.
static void group_done(struct wal *w, struct gather *g)
{
    w->pending -= buf_len(&g->bytes);
    buf_clear(&g->bytes);
    buf_shrink(&g->bytes, GATHER_KEEP);
    g->run_count = 0;
    g->since_ns = 0;
    if (w->blocked)
        pthread_cond_broadcast(&w->room);
    if (w->waiters)
        pthread_cond_broadcast(&w->done);
}

// Both locks held before and after; `lock` not while writing.
static enum err flush_group(struct wal *w)
{
    struct gather *g = take_group(w);
    uint64_t before = w->taken;
    w->taken = atomic_load(&w->last);
    pthread_mutex_unlock(&w->lock);
    enum err e = write_group(w, g);
    pthread_mutex_lock(&w->lock);
    group_done(w, g);
    w->expected = atomic_load(&w->last) + (w->taken - before);
    w->group_ended_ns = os_mono_ns(w->os);
    return e;
}

enum err flush_gathered(struct wal *w)
{
    enum err e = ERR_OK;
    pthread_mutex_lock(&w->flush_lock);
    pthread_mutex_lock(&w->lock);
    if (!w->started)
        space_retry(w);
    if (w->gather->run_count)
        e = flush_group(w);
    else if (atomic_load(&w->failed))
        e = ERR_IO;
    pthread_mutex_unlock(&w->lock);
    pthread_mutex_unlock(&w->flush_lock);
    return e;
}

// ---- marks

void put_mark(struct wal *w, uint32_t mark)
{
    struct gather *g = w->gather;
    w->unmarked = false;
    // An idle mark leaves room for the closed one.
    size_t room = mark == WAL_MARK_CLOSED ? WAL_FRAME_HEAD : 2 * WAL_FRAME_HEAD;
    if (!w->active || w->active->size - w->pos < room)
        return;
    if (gather_reserve(w, WAL_FRAME_HEAD) != ERR_OK)
        return; // a mark is a help, not a need
    gather_put(w, mark, atomic_load(&w->last), slice_of(NULL, 0));
    VERIFY(g->run_count == 1);
}

// ---- the thread

void flusher_wake(struct wal *w)
{
    // Whoever appended did so with `lock` held, and the flusher sets `sleeping` under the same lock
    // after it has seen that nothing has gathered, so an appender that came later sees it set. Most
    // kicks come from batches that only read: there is nothing to wake for.
    if (!atomic_load_explicit(&w->sleeping, memory_order_relaxed) || wal_last(w) == wal_durable(w))
        return;
    // With `lock`, for then the flusher is in its wait, not on the way there: a signal that came
    // before it waits would be lost, and with `sleeping` cleared every later one would be left out.
    pthread_mutex_lock(&w->lock);
    if (atomic_exchange(&w->sleeping, false))
        pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->lock);
}

static bool must_end(const struct wal *w)
{
    return w->abandoned || atomic_load(&w->failed);
}

// The flusher holds flush_lock while it sleeps too; `stand_in` is what keeps it out meanwhile. It
// is woken only if there is something for it to do afterwards.
bool flush_in_place(struct wal *w)
{
    bool mine = false;
    pthread_mutex_lock(&w->lock);
    if (w->gather->run_count && atomic_exchange(&w->sleeping, false)) {
        mine = w->stand_in = true;
        ERR_IGNORE(flush_group(w)); // wal_fail has told everybody
        w->stand_in = false;
        bool idle = !w->gather->run_count && !w->closing && !must_end(w);
        atomic_store(&w->sleeping, idle);
        if (!idle || !w->dozing) // it has work, or the log's end to mark after a while
            pthread_cond_signal(&w->work);
    }
    pthread_mutex_unlock(&w->lock);
    return mine;
}

bool wait_ns(struct wal *w, pthread_cond_t *c, uint64_t ns)
{
    uint64_t until = os_mono_ns(w->os) + ns;
    struct timespec t = {.tv_sec = (time_t)(until / 1000000000),
                         .tv_nsec = (long)(until % 1000000000)};
    return pthread_cond_timedwait(c, &w->lock, &t) == 0;
}

// Has nothing happened for so long that the log's end is marked?
static bool mark_due(const struct wal *w)
{
    return !w->gather->run_count && !w->stand_in &&
           os_mono_ns(w->os) - w->group_ended_ns >= IDLE_MARK_NS;
}

// Sleeps until something has gathered or the log closes.
static void wait_for_frames(struct wal *w)
{
    while (w->stand_in || (!w->gather->run_count && !w->closing && !must_end(w))) {
        atomic_store(&w->sleeping, !w->stand_in);
        w->dozing = w->unmarked;
        if (!w->dozing)
            pthread_cond_wait(&w->work, &w->lock);
        else if (!wait_ns(w, &w->work, IDLE_MARK_NS) && mark_due(w))
            put_mark(w, WAL_MARK_IDLE);
        atomic_store(&w->sleeping, false);
    }
}

// With batch_time set, lets more frames gather.
static void wait_for_more(struct wal *w)
{
    uint64_t until = w->gather->since_ns + w->o.batch_time_us * 1000;
    while (w->o.batch_time_us && !w->closing && !must_end(w) && !w->blocked &&
           buf_len(&w->gather->bytes) < w->o.max_batch_size) {
        uint64_t now = os_mono_ns(w->os);
        if (now >= until)
            break;
        wait_ns(w, &w->work, until - now);
    }
}

// The clients that the last group's sync let go tend to be back within a fraction of a sync, each
// with its next frame. To go on without them splits them into two halves that wait for each other's
// syncs, at half the frames a sync. So they are waited for, but no longer than a part of a sync,
// and more and more rarely if they do not come.
static void wait_for_return(struct wal *w)
{
    if (!w->gather->run_count || atomic_load(&w->last) >= w->expected)
        return;
    if (w->return_skip) {
        w->return_skip--;
        return;
    }
    uint64_t until = w->group_ended_ns + atomic_load(&w->sync_ns_last) / RETURN_PART;
    uint64_t now = os_mono_ns(w->os);
    if (now >= until)
        return;
    w->awaited = w->expected;
    while (now < until && atomic_load(&w->last) < w->awaited && !w->closing && !must_end(w) &&
           !w->blocked) {
        wait_ns(w, &w->work, until - now);
        now = os_mono_ns(w->os);
    }
    bool back = atomic_load(&w->last) >= w->awaited;
    w->awaited = 0;
    w->return_misses = back ? 0 : 2 * w->return_misses + 1;
    if (w->return_misses > RETURN_SKIP_MAX)
        w->return_misses = RETURN_SKIP_MAX;
    w->return_skip = w->return_misses;
}

void *flusher_main(void *arg)
{
    struct wal *w = arg;
    os_thread_name("wal-flusher");
    pthread_mutex_lock(&w->flush_lock);
    pthread_mutex_lock(&w->lock);
    for (;;) {
        wait_for_frames(w);
        wait_for_more(w);
        wait_for_return(w);
        if (must_end(w) || !w->gather->run_count)
            break;
        if (flush_group(w) != ERR_OK)
            break;
    }
    pthread_mutex_unlock(&w->lock);
    pthread_mutex_unlock(&w->flush_lock);
    return NULL;
}
