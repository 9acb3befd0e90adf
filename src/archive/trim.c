// Trimming: a log's oldest objects go, and no reader is wrong in between.
//
//   1 marker   begin_{N}, put as data is (intent, look, put_absent): from here on the log begins at
//              N, a border, for all readers and writers (archive/tiles.h, rule 3)
//   2 delete   lower markers, then what begins before N, oldest first
//
// So what is left is a contiguous run whenever this stops, for those too who know no markers. What
// a kill leaves is deleted by the next trim. N is at most where the batch begins, or the newest
// object if that is empty: nothing is merged across it afterwards, by this writer or the next, who
// lists from the marker on (the watermark is put at N first, where it would lead to less).
//
// Why late calls do no harm. A marker put late, by a writer fenced since, is there already, or a
// higher one is: whoever fenced that writer put it, and markers are deleted only after a higher one
// was put. Deletes that come late name what begins before a marker. Data that comes late, a stray
// or a merged object that begins before a marker, is not of the log; a fence there is left to
// stand, so that no stray can be put where a reader who goes back would take it for what was there.
#include "archive/writer_int.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { LISTED = 1000, AT_ONCE = 256, MARKERS = 16, PUT_TRIES = 4, PEEK = 32 };

// The beginning of a log's listing.
struct listing {
    const char *dir;
    struct tiles live, dead; // dead: before the marker
    uint64_t markers[MARKERS];
    size_t marker_count;
    size_t seen;
};

static bool take_name(void *arg, const char *name, uint64_t size)
{
    struct listing *l = arg;
    const char *short_name = name + strlen(l->dir) + 1;
    size_t before = l->live.n;
    uint64_t marker;
    l->seen++;
    tiles_take(&l->live, l->dir, short_name, size);
    if (begin_parse(slice_str(short_name), &marker) && l->marker_count < MARKERS)
        l->markers[l->marker_count++] = marker;
    else if (slice_starts(slice_str(short_name), slice_str(NAME_DATA)) && l->live.n == before)
        tiles_take(&l->dead, l->dir, short_name, size);
    return l->live.e == ERR_OK;
}

static enum err list(struct object_store *store, const char *dir, size_t max, struct listing *l,
                     struct errmsg *msg)
{
    char prefix[NAME_FULL_MAX];
    *l = (struct listing){.dir = dir};
    snprintf(prefix, sizeof prefix, "%s/", dir);
    enum err e = object_list(store, prefix, NULL, max, take_name, l, msg);
    if (!e && l->live.e)
        e = err_set(msg, l->live.e, "%s", l->live.wrong.text);
    l->live.all = l->seen < max;
    return e;
}

static void listing_release(struct listing *l)
{
    tiles_release(&l->live);
    tiles_release(&l->dead);
}

// Deletes the objects that begin before `border`, in the listing's order, but no fences.
static enum err delete_before(struct archive_writer *w, const struct log *l, const struct tiles *t,
                              uint64_t border, struct archive_trim *trim, struct errmsg *msg)
{
    char full[NAME_FULL_MAX];
    enum err e = ERR_OK;
    size_t n = 0;
    for (size_t i = 0; i < t->n && t->v[i].name.first < border && !e; i++) {
        if (!t->v[i].stored)
            continue;
        if (n++ == AT_ONCE) {
            trim->more = true;
            break;
        }
        data_full_name(l->dir, &t->v[i].name, full);
        e = object_delete(w->store, full, msg);
        trim->deleted += e == ERR_OK;
    }
    return e;
}

static enum err delete_markers(struct archive_writer *w, const struct log *l,
                               const struct listing *listing, uint64_t below, struct errmsg *msg)
{
    char full[NAME_FULL_MAX];
    enum err e = ERR_OK;
    for (size_t i = 0; i < listing->marker_count && !e; i++) {
        begin_name(l->dir, listing->markers[i], full);
        if (listing->markers[i] < below)
            e = object_delete(w->store, full, msg);
    }
    return e;
}

// Where the log shall begin, by its path from where it begins now. Fills first, more and next.
static void choose(const struct log *l, const struct tiles *t, const size_t *path, size_t n,
                   struct archive_trim *trim)
{
    uint64_t limit = l->objects ? l->batch_first : l->prior;
    size_t i = 0;
    trim->first = n ? t->v[path[0]].name.first : l->next_offset;
    for (; i + 1 < n && t->v[path[i]].name.last < trim->before; i++) {
        uint64_t after = t->v[path[i]].name.last + 1;
        if (after > limit)
            break;
        if (i == AT_ONCE) {
            trim->more = true;
            return;
        }
        trim->first = after;
    }
    // Of a listing that was cut the last one stays, as the log's newest does: what it borders on is
    // not known.
    trim->more = i > 0 && i + 1 == n && !t->all;
    bool stays = i == n || t->v[path[i]].name.last >= limit;
    trim->next = stays ? l->next_offset : t->v[path[i]].name.last + 1;
}

static enum err keep_watermark(struct archive_writer *w, struct log *l, uint64_t first,
                               struct errmsg *msg)
{
    enum err e = ERR_OK;
    if (!l->watermark)
        e = log_get_watermark(w, l, &l->watermark, msg);
    if (!e && l->watermark && l->watermark < first)
        e = log_put_watermark(w, l, first, msg);
    return e;
}

static enum err put_marker(struct archive_writer *w, const struct log *l, uint64_t first,
                           struct errmsg *msg)
{
    char full[NAME_FULL_MAX], old[NAME_FULL_MAX];
    const char *name = full;
    struct errmsg ignored, why = {""};
    begin_name(l->dir, first, full);
    enum err e = session_intend(&w->session, &name, 1, msg);
    if (e)
        return e;
    os_crash_point("archive_trim_before_marker");
    e = ERR_NETWORK;
    for (unsigned i = 0; i < PUT_TRIES && e == ERR_NETWORK; i++)
        e = object_put_absent(w->store, full, NULL, 0, &why);
    os_crash_point("archive_trim_after_marker");
    if (e && e != ERR_EXISTS) { // it may be put yet: the next intent must not take this one away
        session_break(&w->session, e, &why);
        return err_set(msg, e, "%s", why.text);
    }
    if (session_old_intent(&w->session, old))
        ERR_IGNORE(object_delete(w->store, old, &ignored)); // litter
    return ERR_OK;
}

// The log is held.
static enum err trim_log(struct archive_writer *w, struct log *l, struct archive_trim *trim,
                         struct errmsg *msg)
{
    struct listing listing;
    size_t *path = NULL;
    uint64_t end;
    enum err e = list(w->store, l->dir, LISTED, &listing, msg);
    const struct tiles *t = &listing.live;
    if (!e && !(path = malloc((t->n + 1) * sizeof *path)))
        e = err_set(msg, ERR_NO_MEMORY, "out of memory");
    e = e ? e : delete_markers(w, l, &listing, t->begin, msg);
    e = e ? e : delete_before(w, l, &listing.dead, UINT64_MAX, trim, msg);
    if (!e) {
        bool dead = trim->more; // these first, so that listings do not grow
        uint64_t begin = tiles_first(t);
        choose(l, t, path, tiles_path(t, begin, path, &end), trim);
        if (dead) {
            trim->first = t->n ? begin : l->next_offset;
            trim->more = true;
        } else if (trim->first > begin && trim->first > t->begin && t->n) {
            e = keep_watermark(w, l, trim->first, msg);
            e = e ? e : put_marker(w, l, trim->first, msg);
            e = e ? e : delete_markers(w, l, &listing, trim->first, msg);
            e = e ? e : delete_before(w, l, t, trim->first, trim, msg);
        }
    }
    free(path);
    listing_release(&listing);
    return e;
}

enum err archive_trim(struct archive_writer *w, struct archive_trim *trim, struct errmsg *msg)
{
    struct log *l;
    enum err e = session_state(&w->session, msg);
    trim->first = trim->deleted = trim->next = 0;
    trim->more = false;
    e = e ? e : log_entry(w, &trim->log, &l, msg);
    e = e ? e : logs_open(w, &l, 1, msg);
    e = e ? e : trim_log(w, l, trim, msg);
    logs_evict_old(w);
    return e;
}

enum err archive_trim_due(struct object_store *store, const struct archive_log *log,
                          uint64_t before, uint64_t *next, struct errmsg *msg)
{
    char dir[NAME_DIR_MAX];
    struct listing listing;
    enum err e = name_dir(log, dir, msg);
    if (e)
        return e;
    e = list(store, dir, PEEK, &listing, msg);
    const struct tiles *t = &listing.live, *dead = &listing.dead;
    bool due = t->n + dead->n == 0 && !t->all; // let archive_trim look
    *next = UINT64_MAX;
    for (size_t i = 0; i < dead->n; i++)
        due = due || dead->v[i].stored;
    for (size_t i = t->n; i-- > 0;) {
        if (!t->v[i].stored)
            continue;
        due = due || (*next != UINT64_MAX && t->v[i].name.last < before); // not the only one
        *next = t->v[i].name.last + 1;
    }
    *next = due ? 0 : *next;
    listing_release(&listing);
    return e;
}
