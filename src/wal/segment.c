// The log's files: making spares, beginning a new segment, giving up old ones.
#include "base/log.h"
#include "wal/read.h"
#include "wal/wal_int.h"

#include <stdlib.h>

void segment_path(const struct wal *w, const struct segment *s, char path[LIMIT_PATH])
{
    char name[WAL_NAME];
    if (s->live)
        wal_segment_name(name, s->number);
    else
        wal_spare_name(name, s->spare_id);
    wal_path(path, w->dir, name);
}

void segment_free(struct wal *w, struct segment *s)
{
    if (s->fd >= 0)
        ERR_IGNORE(os_close(w->os, s->fd)); // what matters was synced
    free(s);
}

// ---- spares

// Opens a spare's file and sees to it that it has its blocks.
static enum err spare_open(struct wal *w, struct segment *s, unsigned flags)
{
    char path[LIMIT_PATH];
    segment_path(w, s, path);
    enum err e = os_open(w->os, path, OS_WRITE | flags, &s->fd);
    if (e != ERR_OK)
        s->fd = -1;
    else
        e = os_allocate(w->os, s->fd, s->size);
    return e;
}

static struct segment *spare_new(uint64_t id, uint64_t size)
{
    struct segment *s = calloc(1, sizeof *s);
    if (s)
        *s = (struct segment){.spare_id = id, .size = size, .fd = -1};
    return s;
}

void spare_unlink(struct wal *w, uint64_t id)
{
    char name[WAL_NAME], path[LIMIT_PATH];
    wal_spare_name(name, id);
    wal_path(path, w->dir, name);
    ERR_IGNORE(os_unlink(w->os, path)); // if it stays, the next opening finds it
}

enum err spare_make(struct wal *w, uint64_t id, uint64_t size, struct segment **made)
{
    struct segment *s = spare_new(id, size);
    if (!s)
        return ERR_NO_MEMORY;
    enum err e = spare_open(w, s, OS_CREATE | OS_EXCLUSIVE);
    if (e != ERR_OK) {
        if (s->fd >= 0)
            spare_unlink(w, id);
        segment_free(w, s);
        return e;
    }
    *made = s;
    return ERR_OK;
}

// With `lock`.
static void spare_add(struct wal *w, struct segment *s)
{
    if (w->spare_count < SPARES_MAX) {
        w->spares[w->spare_count++] = s;
    } else {
        spare_unlink(w, s->spare_id);
        segment_free(w, s);
    }
    atomic_store(&w->out_of_space, false);
    w->prepare_failed = false;
}

void space_retry(struct wal *w)
{
    struct segment *s;
    if (atomic_load(&w->out_of_space) &&
        spare_make(w, w->next_spare++, w->o.segment_size, &s) == ERR_OK)
        spare_add(w, s);
}

// ---- a new segment

static uint64_t room_in(uint64_t size)
{
    return size - WAL_HEADER - WAL_FRAME_HEAD; // the closing mark always finds room
}

bool active_has_room(const struct wal *w, size_t size)
{
    return w->active && w->active->size - w->pos >= size + WAL_FRAME_HEAD;
}

// A file with room for a frame of `size` bytes: a spare, or one made on the spot.
static enum err take_file(struct wal *w, size_t size, struct segment **s)
{
    if (size > room_in(w->o.segment_size)) {
        uint64_t need = (size + WAL_HEADER + WAL_FRAME_HEAD + 4095) & ~(uint64_t)4095;
        return spare_make(w, w->next_spare++, need, s);
    }
    if (w->spare_count > 0) {
        *s = w->spares[--w->spare_count];
        return ERR_OK;
    }
    if (atomic_load(&w->out_of_space))
        return ERR_NO_SPACE; // space_retry() finds out when there is some again
    enum err e = spare_make(w, w->next_spare++, w->o.segment_size, s);
    if (e == ERR_NO_SPACE) {
        atomic_store(&w->out_of_space, true);
        pthread_cond_signal(&w->prepare);
    }
    return e;
}

enum err segment_roll(struct wal *w, size_t size)
{
    struct segment *s;
    enum err e = take_file(w, size, &s);
    if (e != ERR_OK)
        return e;
    s->number = w->next_number++;
    s->first = atomic_load(&w->last) + 1;
    os_random(w->os, &s->salt, sizeof s->salt);
    if (w->newest)
        w->newest->next = s;
    else
        w->oldest = s;
    w->newest = w->active = s;
    w->pos = WAL_HEADER;

    struct gather *g = w->gather;
    VERIFY(g->run_count < g->run_cap);
    g->runs[g->run_count++] = (struct run){
        .segment = s, .start = buf_len(&g->bytes), .last = s->first - 1, .header = true};
    VERIFY(g->bytes.cap - g->bytes.end >= WAL_HEADER);
    g->bytes.end += WAL_HEADER; // its bytes are put there when the run is written
    w->pending += WAL_HEADER;
    return ERR_OK;
}

// ---- the preparer: keeps a spare ready from the time the active segment is half full

static bool spare_wanted(const struct wal *w)
{
    return w->spare_count == 0 &&
           (!w->active || w->pos > w->active->size / 2 || atomic_load(&w->out_of_space));
}

void *preparer_main(void *arg)
{
    struct wal *w = arg;
    os_thread_name("wal-preparer");
    pthread_mutex_lock(&w->lock);
    while (!w->closing && !w->abandoned && !atomic_load(&w->failed)) {
        if (!spare_wanted(w)) {
            pthread_cond_wait(&w->prepare, &w->lock);
            continue;
        }
        if (w->prepare_failed && wait_ns(w, &w->prepare, SPACE_RETRY_NS))
            continue; // woken for another reason than the time
        uint64_t id = w->next_spare++;
        pthread_mutex_unlock(&w->lock);
        struct segment *s;
        enum err e = spare_make(w, id, w->o.segment_size, &s);
        pthread_mutex_lock(&w->lock);
        if (e == ERR_OK) {
            spare_add(w, s);
        } else {
            if (!w->prepare_failed)
                log_event(LOG_WARN, "wal_prepare", "error=%s", log_quote(err_text(e)));
            w->prepare_failed = true;
        }
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

// ---- dropping

// Takes the segments that may go out of the list. With `lock`.
static struct segment *take_old(struct wal *w, uint64_t upto)
{
    struct segment *old = NULL, **tail = &old;
    for (struct segment *s; (s = w->oldest) && s->next && s->next->live;) {
        if (s->next->first > upto + 1)
            break;
        w->oldest = s->next;
        s->next = NULL;
        *tail = s;
        tail = &s->next;
    }
    return old;
}

// Gives one file up; true if it became a spare, which may be used once the directory is synced.
static enum err give_up(struct wal *w, struct segment *s, bool recycle)
{
    char from[LIMIT_PATH], to[LIMIT_PATH];
    segment_path(w, s, from);
    if (!recycle)
        return os_unlink(w->os, from);
    s->live = false;
    segment_path(w, s, to);
    return os_rename(w->os, from, to);
}

enum err wal_drop(struct wal *w, uint64_t upto)
{
    if (atomic_load(&w->failed))
        return ERR_IO;
    struct segment *recycled[SPARES_MAX];
    unsigned count = 0;
    pthread_mutex_lock(&w->drop_lock);
    pthread_mutex_lock(&w->lock);
    struct segment *old = take_old(w, upto);
    unsigned wanted = SPARES_MAX - w->spare_count;
    for (struct segment *s = old; s; s = s->next)
        s->spare_id = w->next_spare++;
    pthread_mutex_unlock(&w->lock);

    os_crash_point("wal-dropping");
    // Oldest first. Whichever of these changes a crash leaves undone, recovery begins at a newer
    // segment and removes what is left below it (R1).
    enum err e = ERR_OK;
    bool any = old != NULL;
    while (old) {
        struct segment *s = old;
        old = s->next;
        s->next = NULL;
        bool recycle = count < wanted && s->size == w->o.segment_size;
        enum err failed = give_up(w, s, recycle);
        if (failed == ERR_OK && recycle)
            recycled[count++] = s;
        else
            segment_free(w, s);
        if (failed != ERR_OK)
            e = failed;
    }
    if (any && VARVE_BUG != 5) { // 5: directory not synced
        // Before a recycled file is written to: until then the disk may still know it as a segment.
        enum err failed = os_sync_dir(w->os, w->dir);
        if (failed != ERR_OK)
            wal_fail(w, "cannot sync", w->dir, failed);
        if (failed != ERR_OK)
            e = failed;
    }
    for (unsigned i = 0; i < count; i++) {
        struct segment *s = recycled[i];
        enum err failed = e == ERR_OK ? spare_open(w, s, 0) : e;
        if (failed != ERR_OK) {
            spare_unlink(w, s->spare_id);
            segment_free(w, s);
            continue;
        }
        pthread_mutex_lock(&w->lock);
        spare_add(w, s);
        pthread_mutex_unlock(&w->lock);
    }
    pthread_mutex_unlock(&w->drop_lock);
    return e == ERR_OK ? ERR_OK : ERR_IO;
}
