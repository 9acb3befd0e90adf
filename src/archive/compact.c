// Compaction: the objects of a log's batch become one. No reader can notice: the merged object is
// put first, the parts are deleted then, and a reader who finds both takes the longer one
// (archive/tiles.h). It needs no fencing, because what is merged was in the log already: put late
// by a writer that was fenced meanwhile, it says the same as the objects in its range.
//
// An object that passes a threshold alone is complete without being merged. The watermark is then
// written only every WATERMARK_EVERY objects: it saves readers and writers a walk, and a little
// behind it does so as well, for a request less.
#include "archive/sum.h"
#include "archive/writer_int.h"
#include "base/limits.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { WATERMARK_EVERY = 8, FETCHES = 3 };

bool log_complete(const struct archive_writer *w, uint64_t records, uint64_t bytes)
{
    return records >= w->options.compact_records_threshold ||
           bytes >= w->options.compact_size_threshold;
}

void log_advance(struct log *l, const struct name *n)
{
    l->next_offset = n->last + 1;
    l->next_nonce = n->next_nonce;
    l->prior = n->first;
    l->objects++;
    l->records += n->last - n->first + 1;
    l->bytes += n->size;
}

static void begin_batch(struct log *l)
{
    l->batch_first = l->next_offset;
    l->objects = l->records = l->bytes = 0;
}

enum err log_put_watermark(struct archive_writer *w, struct log *l, uint64_t first,
                           struct errmsg *msg)
{
    char name[NAME_FULL_MAX];
    uint8_t bytes[8];
    store64(bytes, first);
    snprintf(name, sizeof name, "%s/watermark", l->dir);
    struct slice part = slice_of(bytes, sizeof bytes);
    enum err e = object_put(w->store, name, &part, 1, msg);
    if (!e) {
        l->complete = 0;
        l->watermark = first;
    }
    return e;
}

// ---- parts

void parts_release(struct parts *p)
{
    for (size_t i = 0; p->bytes && i < p->n; i++)
        buf_release(&p->bytes[i]);
    free(p->bytes);
    free(p->path);
    tiles_release(&p->listing);
}

static enum err list_parts(struct archive_writer *w, const struct log *l, uint64_t from,
                           struct parts *p, struct errmsg *msg)
{
    uint64_t end;
    enum err e = tiles_list(&p->listing, w->store, l->dir, from, 0, msg);
    if (e)
        return e;
    p->path = malloc((p->listing.n + 1) * sizeof *p->path);
    p->bytes = calloc(p->listing.n + 1, sizeof *p->bytes);
    if (!p->path || !p->bytes)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    p->n = tiles_path(&p->listing, from, p->path, &end);
    if (end != l->next_offset)
        return err_set(msg, ERR_AGAIN, "%.300s ends at offset %" PRIu64 ", not at %" PRIu64, l->dir,
                       end, l->next_offset);
    return ERR_OK;
}

static enum err fetch_parts(struct archive_writer *w, const struct log *l, struct parts *p,
                            struct errmsg *msg)
{
    struct object_call *calls = calloc(p->n + 1, sizeof *calls);
    char(*names)[NAME_FULL_MAX] = calloc(p->n + 1, sizeof *names);
    enum err e = ERR_OK;
    if (!calls || !names) {
        free(calls);
        free(names);
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < p->n; i++) {
        const struct name *n = &p->listing.v[p->path[i]].name;
        data_full_name(l->dir, n, names[i]);
        buf_init(&p->bytes[i], n->size + 1);
        calls[i] = (struct object_call){.op = OBJECT_GET, .name = names[i], .out = &p->bytes[i]};
    }
    ERR_IGNORE(object_run(w->store, calls, p->n)); // each call tells
    p->min_time = INT64_MAX;
    p->max_time = INT64_MIN;
    for (size_t i = 0; i < p->n && !e; i++) {
        const struct name *n = &p->listing.v[p->path[i]].name;
        int64_t min, max;
        e = calls[i].e == ERR_TOO_BIG ? data_too_long(l->dir, n, msg)
            : calls[i].e              ? err_set(msg, calls[i].e, "%s", calls[i].msg.text)
                         : data_check(l->dir, n, buf_slice(&p->bytes[i]), &min, &max, msg);
        e = e ? e : sum_check(&calls[i], buf_slice(&p->bytes[i]), msg);
        if (e)
            break;
        p->min_time = min < p->min_time ? min : p->min_time;
        p->max_time = max > p->max_time ? max : p->max_time;
    }
    free(calls);
    free(names);
    return e;
}

static enum err fetch_once(struct archive_writer *w, const struct log *l, uint64_t from,
                           struct parts *p, struct errmsg *msg)
{
    *p = (struct parts){.n = 0};
    enum err e = list_parts(w, l, from, p, msg);
    for (size_t i = 0; i < p->n && !e; i++) {
        p->records += tile_records(&p->listing.v[p->path[i]]);
        p->size += p->listing.v[p->path[i]].name.size;
    }
    if (!e && p->size > LIMIT_ARCHIVE_MERGE)
        e = err_set(msg, ERR_TOO_BIG, "%.300s: %" PRIu64 " bytes are too much to merge", l->dir,
                    p->size);
    e = e ? e : fetch_parts(w, l, p, msg);
    if (e)
        parts_release(p);
    return e;
}

// Parts go while they are fetched only if a fenced writer's compaction is still going on, or if we
// are that writer.
enum err parts_fetch(struct archive_writer *w, const struct log *l, uint64_t from, struct parts *p,
                     struct errmsg *msg)
{
    enum err e = ERR_AGAIN;
    for (unsigned i = 0; i < FETCHES && (e == ERR_AGAIN || e == ERR_MISSING); i++)
        e = fetch_once(w, l, from, p, msg);
    return e;
}

// Rule 2 of archive/tiles.h: a stray at the fence's name could not be on the path.
static bool fence_done(const struct name *fence, const struct name *by)
{
    return (by->first < fence->first && by->last >= fence->first) ||
           (by->first == fence->first && by->last > fence->last);
}

enum err parts_delete(struct archive_writer *w, const struct log *l, const struct tiles *listing,
                      const struct name *by, bool *fences, struct errmsg *msg)
{
    struct object_call *calls = calloc(listing->n + 1, sizeof *calls);
    char(*names)[NAME_FULL_MAX] = calloc(listing->n + 1, sizeof *names);
    char merged[NAME_FULL_MAX];
    size_t n = 0;
    enum err e = calls && names ? ERR_OK : err_set(msg, ERR_NO_MEMORY, "out of memory");
    data_full_name(l->dir, by, merged);
    // Parts and strays first, then fences.
    for (unsigned round = 0; round < 2 && !e; round++) {
        n = 0;
        for (size_t i = 0; i < listing->n; i++) {
            const struct tile *t = &listing->v[i];
            bool fence = t->stored == 0;
            if (fence && !fence_done(&t->name, by))
                *fences = true;
            bool covered = fence ? fence_done(&t->name, by)
                                 : t->name.first >= by->first && t->name.last <= by->last;
            data_full_name(l->dir, &t->name, names[n]);
            if (fence != (round == 1) || !covered || !strcmp(names[n], merged))
                continue;
            calls[n] = (struct object_call){.op = OBJECT_DELETE, .name = names[n]};
            n++;
        }
        if (n)
            e = object_run(w->store, calls, n);
    }
    if (e && calls)
        e = err_set(msg, e, "%.300s: its parts could not be deleted", l->dir);
    free(calls);
    free(names);
    return e;
}

// ---- merging

static enum err put_merged(struct archive_writer *w, const struct log *l, const struct parts *p,
                           struct name *merged, struct errmsg *msg)
{
    char full[NAME_FULL_MAX];
    struct slice *slices = calloc(p->n, sizeof *slices);
    if (!slices)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < p->n; i++)
        slices[i] = buf_slice(&p->bytes[i]);
    *merged = p->listing.v[p->path[0]].name;
    merged->last = l->next_offset - 1;
    merged->min_time = p->min_time;
    merged->max_time = p->max_time;
    merged->next_nonce = l->next_nonce;
    merged->size = p->size;
    data_full_name(l->dir, merged, full);
    os_crash_point("archive_merge_before_put");
    struct object_call put = {.op = OBJECT_PUT,
                              .name = full,
                              .parts = slices,
                              .count = p->n,
                              .sum = sum_of(slices, p->n)};
    enum err e = object_run(w->store, &put, 1);
    if (e)
        err_set(msg, e, "%s", put.msg.text);
    os_crash_point("archive_merge_after_put");
    free(slices);
    return e;
}

static enum err merge(struct archive_writer *w, struct log *l, struct errmsg *msg)
{
    struct parts p;
    struct name merged;
    bool fences = false;
    enum err e = parts_fetch(w, l, l->batch_first, &p, msg);
    if (e)
        return e;
    if (p.n > 1) {
        e = put_merged(w, l, &p, &merged, msg);
        e = e ? e : session_check(&w->session, msg);
        if (!e) {
            l->prior = merged.first;
            e = parts_delete(w, l, &p.listing, &merged, &fences, msg);
            os_crash_point("archive_merge_deleted");
        }
        if (!e)
            l->fences = fences;
    }
    l->objects = 1;
    parts_release(&p);
    return e;
}

enum err log_compact(struct archive_writer *w, struct log *l, struct errmsg *msg)
{
    bool complete = log_complete(w, l->records, l->bytes);
    bool merged = l->objects > 1;
    enum err e = ERR_OK;
    if (!complete && l->objects < w->options.compact_objects_threshold)
        return ERR_OK;
    if (merged && l->bytes <= LIMIT_ARCHIVE_MERGE) // more comes only from elsewhere, and stays
        e = merge(w, l, msg);
    if (!e && complete) {
        if (merged || ++l->complete >= WATERMARK_EVERY)
            e = log_put_watermark(w, l, l->batch_first, msg);
        os_crash_point("archive_watermark");
        if (!e)
            begin_batch(l);
    }
    return e;
}
