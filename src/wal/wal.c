// Opening, appending and closing. The file format, the validity rules and the recovery rule are at
// the top of format.h; reading is in read.c, writing groups in flush.c, files in segment.c.
//
// The way of a frame: wal_append copies it into the gather buffer with `lock` held and reserves its
// place in a segment (so that a full disk is seen before anything is accepted); the flusher takes
// the whole buffer, writes and syncs it (flush.c), and durable rises.
#include "wal/wal.h"

#include "base/log.h"
#include "wal/read.h"
#include "wal/wal_int.h"

#include <stdlib.h>

// ---- opening

static void init_locks(struct wal *w)
{
    pthread_condattr_t monotonic; // the clock of os_mono_ns
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_t *conds[] = {&w->work, &w->room, &w->done, &w->prepare};
    for (size_t i = 0; i < sizeof conds / sizeof *conds; i++)
        pthread_cond_init(conds[i], &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&w->lock, NULL);
    pthread_mutex_init(&w->flush_lock, NULL);
    pthread_mutex_init(&w->drop_lock, NULL);
}

static struct wal *new_wal(const struct wal_options *o)
{
    VERIFY(o->segment_size >= WAL_HEADER + 2 * WAL_FRAME_HEAD);
    struct wal *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->o = *o;
    w->os = o->os;
    w->dir = strdup(o->dir);
    w->gather = &w->gathers[0];
    size_t group = o->buffer_max > LIMIT_WAL_FRAME ? o->buffer_max : LIMIT_WAL_FRAME;
    for (int i = 0; i < 2; i++)
        buf_init(&w->gathers[i].bytes, group + 2 * WAL_HEADER + FILL_STEP);
    w->next_number = 1;
    init_locks(w);
    return w;
}

static void free_wal(struct wal *w)
{
    for (struct segment *s; (s = w->oldest);) {
        w->oldest = s->next;
        segment_free(w, s);
    }
    for (unsigned i = 0; i < w->spare_count; i++)
        segment_free(w, w->spares[i]); // the next opening removes the file
    for (int i = 0; i < 2; i++) {
        buf_release(&w->gathers[i].bytes);
        free(w->gathers[i].runs);
    }
    pthread_cond_t *conds[] = {&w->work, &w->room, &w->done, &w->prepare};
    for (size_t i = 0; i < sizeof conds / sizeof *conds; i++)
        pthread_cond_destroy(conds[i]);
    pthread_mutex_destroy(&w->lock);
    pthread_mutex_destroy(&w->flush_lock);
    pthread_mutex_destroy(&w->drop_lock);
    free(w->dir);
    free(w);
}

// Copies [unproven, end) of the file over itself and syncs it.
static enum err write_again(struct wal *w, const struct wal_scan *s, int fd, uint8_t *p,
                            size_t step)
{
    uint32_t crc = 0;
    for (uint64_t off = s->unproven; off < s->end;) {
        size_t n = s->end - off < step ? (size_t)(s->end - off) : step;
        size_t got = 0;
        enum err e = os_pread(w->os, fd, p, n, off, &got);
        if (e == ERR_OK && got < n)
            e = ERR_IO;
        if (e == ERR_OK)
            e = os_pwrite(w->os, fd, p, n, off);
        if (e != ERR_OK)
            return e;
        crc = crc32c(crc, p, n);
        off += n;
    }
    // Pages that a failed sync left clean may have been dropped since, and older bytes read this
    // time.
    return crc == s->unproven_crc ? os_sync(w->os, fd) : ERR_IO;
}

// R5: writes the frames that nothing proves durable once more, over themselves, and syncs them. A
// sync alone would not do: after a failed one the pages count as clean although the disk never had
// them.
static enum err rewrite_unproven(struct wal *w, const struct wal_scan *s)
{
    if (s->unproven == s->end)
        return ERR_OK;
    const size_t step = (size_t)1 << 20;
    uint8_t *p = malloc(step);
    if (!p)
        return err_set(s->msg, ERR_NO_MEMORY, "%s: no memory to recover the log", w->dir);
    char path[LIMIT_PATH], name[WAL_NAME];
    wal_segment_name(name, s->segments[s->count - 1].number);
    wal_path(path, w->dir, name);
    int fd;
    enum err e = os_open(w->os, path, OS_WRITE, &fd);
    if (e == ERR_OK) {
        e = write_again(w, s, fd, p, step);
        ERR_IGNORE(os_close(w->os, fd)); // what matters was synced
    }
    free(p);
    if (e != ERR_OK)
        err_set(s->msg, e, "%s: cannot write and sync the log's tail again: %s", path,
                os_last_error());
    return e;
}

// Removes leftovers of interrupted drops, and spares: what an earlier opening did to their size may
// be in memory only, if its sync failed. Nothing depends on it; what fails is tried again at the
// next opening.
static void tidy(struct wal *w, const struct wal_scan *s)
{
    for (size_t i = 0; i < s->start; i++) {
        char path[LIMIT_PATH], name[WAL_NAME];
        wal_segment_name(name, s->segments[i].number);
        wal_path(path, w->dir, name);
        ERR_IGNORE(os_unlink(w->os, path));
    }
    for (size_t i = 0; i < s->spare_count; i++) {
        spare_unlink(w, s->spares[i]);
        w->next_spare = s->spares[i] + 1; // past one that could not be removed
    }
}

static enum err keep_segments(struct wal *w, const struct wal_scan *s)
{
    struct segment **tail = &w->oldest;
    for (size_t i = s->start; i < s->count; i++) {
        const struct wal_file *f = &s->segments[i];
        struct segment *keep = calloc(1, sizeof *keep);
        if (!keep)
            return err_set(s->msg, ERR_NO_MEMORY, "%s: no memory to open the log", w->dir);
        *keep = (struct segment){
            .number = f->number, .first = f->header.first, .size = f->size, .fd = -1, .live = true};
        *tail = w->newest = keep;
        tail = &keep->next;
        w->next_number = f->number + 1;
    }
    return ERR_OK;
}

static enum err recover(struct wal *w, struct wal_scan *s)
{
    // A name that a killed process gave but did not sync counts from here on.
    enum err e = os_sync_dir(w->os, w->dir);
    if (e != ERR_OK)
        return err_set(s->msg, e, "%s: cannot sync the directory: %s", w->dir, os_last_error());
    e = wal_scan(s);
    if (e == ERR_OK && VARVE_BUG != 6) // 6: the tail is believed without making it durable
        e = rewrite_unproven(w, s);
    if (e == ERR_OK)
        e = keep_segments(w, s);
    if (e != ERR_OK)
        return e;
    tidy(w, s);
    uint64_t last = s->last_seq > s->after_seq ? s->last_seq : s->after_seq;
    atomic_store(&w->last, last);
    atomic_store(&w->durable, last);
    w->taken = last;
    w->unclean = !s->found.clean;
    atomic_store(&w->bytes, s->found.bytes + s->found.frames * WAL_FRAME_HEAD);
    return ERR_OK;
}

enum err wal_open(struct wal **wal, const struct wal_options *o, uint64_t after_seq,
                  wal_replay_fn replay, void *replay_arg, struct wal_recovery *found,
                  struct errmsg *msg)
{
    *found = (struct wal_recovery){0};
    struct wal *w = new_wal(o);
    if (!w || !w->dir) {
        if (w)
            free_wal(w);
        return err_set(msg, ERR_NO_MEMORY, "%s: no memory to open the log", o->dir);
    }
    struct wal_scan s = {.os = o->os,
                         .dir = o->dir,
                         .store_id = o->store_id,
                         .after_seq = after_seq,
                         .replay = replay,
                         .replay_arg = replay_arg,
                         .msg = msg};
    enum err e = recover(w, &s);
    *found = s.found;
    wal_scan_release(&s);
    if (e != ERR_OK)
        free_wal(w);
    else
        *wal = w;
    return e;
}

// ---- threads, closing

static void stop_threads(struct wal *w)
{
    pthread_mutex_lock(&w->lock);
    pthread_cond_broadcast(&w->work);
    pthread_cond_broadcast(&w->room);
    pthread_cond_broadcast(&w->done);
    pthread_cond_broadcast(&w->prepare);
    pthread_mutex_unlock(&w->lock);
    if (!w->started)
        return;
    pthread_join(w->flusher, NULL);
    pthread_join(w->preparer, NULL);
    pthread_mutex_lock(&w->lock);
    w->started = false;
    pthread_mutex_unlock(&w->lock);
}

enum err wal_start(struct wal *w)
{
    VERIFY(!w->started);
    if (pthread_create(&w->flusher, NULL, flusher_main, w) != 0)
        return ERR_NO_MEMORY;
    if (pthread_create(&w->preparer, NULL, preparer_main, w) != 0) {
        pthread_mutex_lock(&w->lock);
        w->abandoned = true;
        pthread_cond_signal(&w->work);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->flusher, NULL);
        w->abandoned = false;
        return ERR_NO_MEMORY;
    }
    w->started = true;
    return ERR_OK;
}

// Everything is durable already, so the mark's `synced` says so.
static enum err mark_closed(struct wal *w)
{
    pthread_mutex_lock(&w->lock);
    enum err e = gather_reserve(w, WAL_FRAME_HEAD);
    // A log that was recovered and not appended to gets a segment for the mark alone. Without space
    // for it the next opening only takes longer.
    bool alone = !w->active && w->unclean;
    if (e == ERR_OK && (!alone || segment_roll(w, WAL_FRAME_HEAD) == ERR_OK))
        put_mark(w, WAL_MARK_CLOSED);
    pthread_mutex_unlock(&w->lock);
    return e == ERR_OK ? flush_gathered(w) : e;
}

enum err wal_close(struct wal *w)
{
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    pthread_mutex_unlock(&w->lock);
    stop_threads(w);
    enum err e = flush_gathered(w);
    if (e == ERR_OK)
        e = mark_closed(w);
    // A closed log takes no more space than it must. Nothing depends on these.
    if (e == ERR_OK && w->active)
        ERR_IGNORE(os_truncate(w->os, w->active->fd, w->pos));
    for (unsigned i = 0; i < w->spare_count; i++)
        spare_unlink(w, w->spares[i]->spare_id);
    free_wal(w);
    return e == ERR_OK ? ERR_OK : ERR_IO;
}

void wal_abandon(struct wal *w)
{
    pthread_mutex_lock(&w->lock);
    w->abandoned = true;
    pthread_mutex_unlock(&w->lock);
    stop_threads(w);
    free_wal(w);
}

// ---- appending

enum err gather_reserve(struct wal *w, size_t size)
{
    struct gather *g = w->gather;
    if (g->run_count == g->run_cap) {
        size_t cap = g->run_cap ? g->run_cap * 2 : 4;
        struct run *runs = realloc(g->runs, cap * sizeof *runs);
        if (!runs)
            return ERR_NO_MEMORY;
        g->runs = runs;
        g->run_cap = cap;
    }
    return buf_reserve(&g->bytes, WAL_HEADER + size);
}

void gather_put(struct wal *w, uint32_t length, uint64_t seq, struct slice payload)
{
    struct gather *g = w->gather;
    size_t size = wal_frame_size(payload.n);
    VERIFY(g->bytes.cap - g->bytes.end >= size);
    VERIFY(w->active->size - w->pos >= size);
    if (g->run_count == 0 || g->runs[g->run_count - 1].segment != w->active)
        g->runs[g->run_count++] =
            (struct run){.segment = w->active, .start = buf_len(&g->bytes), .off = w->pos};
    g->runs[g->run_count - 1].last = seq;
    wal_frame_put(buf_tail(&g->bytes), length, seq, payload);
    g->bytes.end += size;
    w->pos += size;
    w->pending += size;
}

// Waits for room in the buffer, then makes sure of room in a segment. With `lock`, which waiting
// gives up.
static enum err admit(struct wal *w, size_t size)
{
    while (w->pending && w->pending + size + WAL_HEADER > w->o.buffer_max) {
        if (w->closing || w->abandoned || atomic_load(&w->failed))
            break;
        if (!w->started) {
            pthread_mutex_unlock(&w->lock);
            enum err e = flush_gathered(w);
            pthread_mutex_lock(&w->lock);
            if (e != ERR_OK)
                return e;
            continue;
        }
        w->blocked++;
        pthread_cond_signal(&w->work);
        pthread_cond_wait(&w->room, &w->lock);
        w->blocked--;
    }
    if (atomic_load(&w->failed))
        return ERR_IO;
    if (w->closing || w->abandoned)
        return ERR_CLOSED;
    enum err e = gather_reserve(w, size);
    if (e == ERR_OK && !active_has_room(w, size))
        e = segment_roll(w, size);
    return e;
}

enum err wal_append(struct wal *w, struct slice payload, uint64_t *seq)
{
    if (payload.n > LIMIT_WAL_FRAME)
        return ERR_TOO_BIG;
    size_t size = wal_frame_size(payload.n);
    pthread_mutex_lock(&w->lock);
    enum err e = admit(w, size);
    if (e == ERR_OK) {
        *seq = atomic_load(&w->last) + 1;
        struct gather *g = w->gather;
        if (w->o.batch_time_us && g->since_ns == 0)
            g->since_ns = os_mono_ns(w->os);
        gather_put(w, (uint32_t)payload.n, *seq, payload);
        atomic_store_explicit(&w->last, *seq, memory_order_release);
        w->unmarked = true;
        w->appended++;
        w->appended_bytes += payload.n;
        atomic_store_explicit(&w->bytes,
                              atomic_load_explicit(&w->bytes, memory_order_relaxed) + size,
                              memory_order_relaxed);
        if (w->o.batch_time_us && buf_len(&g->bytes) >= w->o.max_batch_size)
            pthread_cond_signal(&w->work);
        if (*seq == w->awaited)
            pthread_cond_signal(&w->work);
        uint64_t half = w->active->size / 2;
        if (w->pos > half && w->pos - size <= half)
            pthread_cond_signal(&w->prepare);
    }
    pthread_mutex_unlock(&w->lock);
    return e;
}

// ---- waiting and asking

void wal_kick(struct wal *w)
{
    flusher_wake(w);
}

void wal_kick_alone(struct wal *w)
{
    if (!w->started || w->o.batch_time_us || wal_last(w) != wal_durable(w) + 1 ||
        !flush_in_place(w))
        flusher_wake(w);
}

enum err wal_flush(struct wal *w)
{
    return w->started ? wal_wait(w, wal_last(w)) : flush_gathered(w);
}

enum err wal_wait(struct wal *w, uint64_t seq)
{
    VERIFY(seq <= wal_last(w));
    if (wal_durable(w) >= seq)
        return ERR_OK;
    if (!w->started)
        return flush_gathered(w);
    flusher_wake(w);
    pthread_mutex_lock(&w->lock);
    w->waiters++;
    while (wal_durable(w) < seq && !w->abandoned && !atomic_load(&w->failed))
        pthread_cond_wait(&w->done, &w->lock);
    w->waiters--;
    pthread_mutex_unlock(&w->lock);
    if (wal_durable(w) >= seq)
        return ERR_OK;
    return atomic_load(&w->failed) ? ERR_IO : ERR_CLOSED;
}

uint64_t wal_durable(const struct wal *w)
{
    return atomic_load_explicit(&w->durable, memory_order_acquire);
}

uint64_t wal_bytes(const struct wal *w)
{
    return atomic_load_explicit(&w->bytes, memory_order_relaxed);
}

uint64_t wal_last(const struct wal *w)
{
    return atomic_load_explicit(&w->last, memory_order_acquire);
}

bool wal_out_of_space(const struct wal *w)
{
    return atomic_load_explicit(&w->out_of_space, memory_order_relaxed);
}

void wal_get_stats(const struct wal *w, struct wal_stats *s)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&w->lock; // a lock changes nothing a caller sees
    pthread_mutex_lock(lock);
    *s = (struct wal_stats){.appended = w->appended,
                            .appended_bytes = w->appended_bytes,
                            .syncs = atomic_load(&w->syncs),
                            .sync_ns = atomic_load(&w->sync_ns),
                            .sync_ns_last = atomic_load(&w->sync_ns_last),
                            .written_bytes = atomic_load(&w->written_bytes),
                            .spares = w->spare_count,
                            .next_seq = atomic_load(&w->last) + 1};
    s->first_seq = w->oldest ? w->oldest->first : s->next_seq;
    for (const struct segment *at = w->oldest; at; at = at->next)
        s->segments++;
    pthread_mutex_unlock(lock);
}
