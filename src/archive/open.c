// Taking logs: claims, and what the listing of a log says about it. For several logs of a keyspace
// one listing may tell all, so that a thousand new logs do not cost a thousand listings.
#include "archive/writer_int.h"
#include "base/assert.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGE = 1000, LOADS = 4 };

// The batch is the run of objects at the end that a compaction would merge: an object complete
// alone ends what was before it only if nothing is open. (The same rule as appending follows, so
// that all writers agree on the borders.)
static void take_path(const struct archive_writer *w, struct log *l, const struct tiles *t,
                      const size_t *path, size_t n)
{
    l->next_offset = l->batch_first = n ? t->v[path[0]].name.first : 1;
    l->next_nonce = 0;
    l->prior = l->objects = l->records = l->bytes = 0;
    l->complete = 0;
    l->watermark = 0;
    for (size_t i = 0; i < n; i++) {
        const struct tile *tile = &t->v[path[i]];
        log_advance(l, &tile->name);
        if (l->objects == 1 && log_complete(w, l->records, l->bytes)) {
            l->complete++;
            l->batch_first = l->next_offset;
            l->objects = l->records = l->bytes = 0;
        }
    }
}

// Deletes what an interrupted compaction or a fenced writer left.
static enum err clean(struct archive_writer *w, struct log *l, const struct tiles *t,
                      const size_t *path, size_t n, struct errmsg *msg)
{
    size_t fences = 0, sound = 0;
    enum err e = ERR_OK;
    for (size_t i = 0; i < t->n; i++)
        fences += t->v[i].stored == 0;
    sound = t->n - fences;
    l->fences = false;
    if (sound == n && fences == 0)
        return ERR_OK;
    size_t standing = 0;
    for (size_t i = 0; i < t->n; i++) {
        const struct name *f = &t->v[i].name;
        bool done = false;
        for (size_t j = 0; j < n && t->v[i].stored == 0 && !done; j++) {
            const struct name *p = &t->v[path[j]].name;
            done = (p->first < f->first && p->last >= f->first) ||
                   (p->first == f->first && p->last > f->last);
        }
        standing += t->v[i].stored == 0 && !done;
    }
    for (size_t j = 0; j < n && !e; j++) {
        bool other = false; // one that another object may still cover
        e = parts_delete(w, l, t, &t->v[path[j]].name, &other, msg);
    }
    l->fences = standing > 0;
    return e;
}

enum err log_load_listing(struct archive_writer *w, struct log *l, const struct tiles *t,
                          uint64_t from, struct errmsg *msg)
{
    size_t *path = malloc((t->n + 1) * sizeof *path);
    uint64_t border = from ? from : tiles_first(t), end;
    if (!path)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    size_t n = tiles_path(t, border, path, &end);
    enum err e = ERR_OK;
    if (tiles_beyond(t, end + 1))
        e = err_set(msg, ERR_DAMAGED, "%.300s: no object holds offset %" PRIu64 ", but later ones",
                    l->dir, end);
    else if (n == 0 && (from || t->watermark))
        e = err_set(msg, ERR_DAMAGED, "%.300s has a watermark, and no object begins there", l->dir);
    if (!e) {
        take_path(w, l, t, path, n);
        e = clean(w, l, t, path, n, msg);
    }
    l->loaded = e == ERR_OK;
    free(path);
    return e;
}

enum err log_get_watermark(struct archive_writer *w, const struct log *l, uint64_t *from,
                           struct errmsg *msg)
{
    char name[NAME_FULL_MAX];
    struct buf b;
    buf_init(&b, 8);
    snprintf(name, sizeof name, "%s/watermark", l->dir);
    enum err e = object_get(w->store, name, &b, msg);
    *from = 0;
    if (e == ERR_MISSING)
        e = ERR_OK;
    else if (e == ERR_TOO_BIG || (!e && buf_len(&b) != 8))
        e = err_set(msg, ERR_DAMAGED, "%.300s is damaged: it is not 8 bytes", name);
    else if (!e)
        *from = load64(buf_head(&b));
    buf_release(&b);
    return e;
}

enum err log_load(struct archive_writer *w, struct log *l, struct errmsg *msg)
{
    struct tiles t = {.v = NULL};
    uint64_t from = 0, begin = 0;
    enum err e = ERR_AGAIN;
    // A compaction of a writer that was fenced may still be going on: what looks like a gap then is
    // none when listed again.
    for (unsigned i = 0; i < LOADS && (e == ERR_AGAIN || e == ERR_DAMAGED); i++) {
        e = log_get_watermark(w, l, &from, msg);
        if (!e && from) // what it leads to may be trimmed, and not be deleted yet
            e = tiles_begin(w->store, l->dir, &begin, msg);
        from = from && begin > from ? begin : from;
        e = e ? e : tiles_list(&t, w->store, l->dir, from, 0, msg);
        e = e ? e : log_load_listing(w, l, &t, from, msg);
        if (e == ERR_DAMAGED && from) { // the watermark was a fenced writer's
            e = tiles_list(&t, w->store, l->dir, 0, 0, msg);
            e = e ? e : log_load_listing(w, l, &t, 0, msg);
        }
    }
    tiles_release(&t);
    return e;
}

enum err log_find(struct archive_writer *w, const struct log *l, uint64_t offset, struct tile *out,
                  struct errmsg *msg)
{
    struct tiles t = {.v = NULL};
    uint64_t end;
    enum err e = tiles_list(&t, w->store, l->dir, 0, 0, msg); // rare: no short way is needed
    size_t *path = e ? NULL : malloc((t.n + 1) * sizeof *path);
    if (!e && !path)
        e = err_set(msg, ERR_NO_MEMORY, "out of memory");
    if (!e) {
        size_t n = tiles_path(&t, tiles_first(&t), path, &end);
        e = ERR_MISSING;
        for (size_t i = 0; i < n && e; i++)
            if (t.v[path[i]].name.last >= offset && t.v[path[i]].name.first <= offset) {
                *out = t.v[path[i]];
                e = ERR_OK;
            }
        if (e && n && offset < t.v[path[0]].name.first)
            e = ERR_AGAIN;
    }
    free(path);
    tiles_release(&t);
    return e;
}

// ---- several

// One listing of a keyspace from log i on, and what it says about the logs after it.
struct sweep {
    struct archive_writer *w;
    struct log **logs; // sorted by directory
    size_t n, at;
    struct tiles t;
    char last[NAME_FULL_MAX]; // name seen
    size_t seen;
    size_t loaded;
    struct errmsg *msg;
    enum err e;
};

// True if `name` lies in the log's directory.
static bool inside(const struct log *l, const char *name)
{
    size_t n = strlen(l->dir);
    return !strncmp(name, l->dir, n) && name[n] == '/';
}

// Negative if all of the log's objects sort before `name`, 0 if it is one of them.
static int side(const struct log *l, const char *name)
{
    char prefix[NAME_DIR_MAX + 1];
    if (inside(l, name))
        return 0;
    snprintf(prefix, sizeof prefix, "%s/", l->dir);
    return strcmp(prefix, name) < 0 ? -1 : 1;
}

// A gap may be a compaction going on: logs_open lists such a log again.
static enum err load_once(struct archive_writer *w, struct log *l, const struct tiles *t,
                          struct errmsg *msg)
{
    enum err e = log_load_listing(w, l, t, 0, msg);
    return e == ERR_DAMAGED ? ERR_OK : e;
}

static enum err check_claim(struct archive_writer *w, const struct log *l, const struct tiles *t,
                            struct errmsg *msg)
{
    bool alone = t->epochs == 1 && t->epoch == 1;
    return alone ? ERR_OK : session_claim_stands(&w->session, l->dir, msg);
}

// All that there is of logs[at] was seen.
static void finish_one(struct sweep *s)
{
    struct log *l = s->logs[s->at++];
    s->e = s->t.e ? err_set(s->msg, s->t.e, "%s", s->t.wrong.text)
                  : check_claim(s->w, l, &s->t, s->msg);
    if (!s->e)
        s->e = load_once(s->w, l, &s->t, s->msg);
    s->loaded++;
    tiles_clear(&s->t);
}

static bool sweep_name(void *arg, const char *name, uint64_t size)
{
    struct sweep *s = arg;
    s->seen++;
    snprintf(s->last, sizeof s->last, "%s", name);
    while (s->at < s->n && !s->e && side(s->logs[s->at], name) < 0)
        finish_one(s);
    if (s->at < s->n && !s->e && inside(s->logs[s->at], name)) {
        const char *dir = s->logs[s->at]->dir;
        tiles_take(&s->t, dir, name + strlen(dir) + 1, size);
    }
    return !s->e && s->at < s->n;
}

// Loads logs[*at..] of one keyspace as far as a listing of 1000 names goes.
static enum err sweep_page(struct sweep *s)
{
    char prefix[NAME_DIR_MAX + 1], after[NAME_DIR_MAX + 1];
    const char *dir = s->logs[s->at]->dir;
    int space = (int)(strchr(dir, '/') - dir + 1);
    snprintf(prefix, sizeof prefix, "%.*s", space, dir);
    snprintf(after, sizeof after, "%s/", dir);
    tiles_clear(&s->t);
    s->seen = s->loaded = 0;
    enum err e = object_list(s->w->store, prefix, after, PAGE, sweep_name, s, s->msg);
    if (!e && s->seen < PAGE) // nothing more in this keyspace
        while (s->at < s->n && !s->e && !strncmp(s->logs[s->at]->dir, prefix, (size_t)space))
            finish_one(s);
    return e ? e : s->e;
}

static int by_dir(const void *a, const void *b)
{
    const struct log *x = *(struct log *const *)a, *y = *(struct log *const *)b;
    char p[NAME_DIR_MAX + 1], q[NAME_DIR_MAX + 1];
    snprintf(p, sizeof p, "%s/", x->dir);
    snprintf(q, sizeof q, "%s/", y->dir);
    return strcmp(p, q);
}

// Loads logs whose first claim is ours.
static enum err load_fresh(struct archive_writer *w, struct log **logs, size_t n,
                           struct errmsg *msg)
{
    struct sweep s = {.w = w, .logs = logs, .n = n, .msg = msg};
    qsort(logs, n, sizeof *logs, by_dir);
    bool worth = n > 0;
    enum err e = ERR_OK;
    while (!e && worth && s.at < n) {
        e = sweep_page(&s);
        worth = s.loaded > 1;
    }
    for (size_t i = s.at; i < n && !e; i++) { // logs among many others: one by one
        e = tiles_list(&s.t, w->store, logs[i]->dir, 0, PAGE, msg);
        e = e ? e : check_claim(w, logs[i], &s.t, msg);
        if (!e && s.t.all) // else log_load will do it
            e = load_once(w, logs[i], &s.t, msg);
    }
    tiles_release(&s.t);
    return e;
}

static enum err claim_fresh(struct archive_writer *w, struct log **logs, size_t n,
                            struct errmsg *msg)
{
    struct claim *claims = calloc(n + 1, sizeof *claims);
    struct log **fresh = calloc(n + 1, sizeof *fresh);
    enum err e = claims && fresh ? ERR_OK : err_set(msg, ERR_NO_MEMORY, "out of memory");
    size_t m = 0;
    for (size_t i = 0; i < n && !e; i++)
        claims[i].dir = logs[i]->dir;
    e = e ? e : session_claim_fresh(&w->session, claims, n, msg);
    for (size_t i = 0; i < n && !e; i++)
        if (claims[i].held) {
            logs[i]->claimed = true;
            logs[i]->epoch = claims[i].epoch;
            fresh[m++] = logs[i];
        }
    e = e ? e : load_fresh(w, fresh, m, msg);
    free(claims);
    free(fresh);
    return e;
}

enum err logs_open(struct archive_writer *w, struct log **logs, size_t n, struct errmsg *msg)
{
    struct log **unclaimed = calloc(n + 1, sizeof *unclaimed);
    size_t m = 0;
    enum err e = unclaimed ? ERR_OK : err_set(msg, ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < n && !e; i++)
        if (!logs[i]->claimed)
            unclaimed[m++] = logs[i];
    if (!e && m)
        e = claim_fresh(w, unclaimed, m, msg);
    free(unclaimed);
    for (size_t i = 0; i < n && !e; i++) {
        struct claim c = {.dir = logs[i]->dir};
        if (!logs[i]->claimed) {
            e = session_claim(&w->session, &c, msg);
            logs[i]->claimed = c.held;
            logs[i]->epoch = c.epoch;
            logs[i]->loaded = false;
        }
        if (!e && !logs[i]->loaded)
            e = log_load(w, logs[i], msg);
    }
    return e;
}
