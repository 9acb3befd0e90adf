#include "archive/tiles.h"
#include "archive/data.h"
#include "archive/sum.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { LISTING_MAX = 4000000 }; // objects of one log held at once

void tiles_release(struct tiles *t)
{
    free(t->v);
    *t = (struct tiles){.v = NULL};
}

void tiles_clear(struct tiles *t)
{
    *t = (struct tiles){.v = t->v, .cap = t->cap};
}

static enum err push(struct tiles *t, const struct tile *tile)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        struct tile *v = cap > LISTING_MAX ? NULL : realloc(t->v, cap * sizeof *v);
        if (!v)
            return ERR_NO_MEMORY;
        t->v = v;
        t->cap = cap;
    }
    t->v[t->n++] = *tile;
    return ERR_OK;
}

void tiles_take(struct tiles *t, const char *dir, const char *name, uint64_t size)
{
    struct slice s = slice_str(name);
    struct tile tile = {.stored = size};
    uint64_t epoch, begin;
    if (t->e)
        return;
    if (slice_starts(s, slice_str(NAME_DATA))) {
        struct errmsg why;
        if (name_parse(s, &tile.name, &why))
            t->e = err_set(&t->wrong, ERR_DAMAGED, "%.200s/: %.280s", dir, why.text);
        else if (tile.name.first < t->begin) // markers are listed before data
            return;
        else if (push(t, &tile))
            t->e = err_set(&t->wrong, ERR_NO_MEMORY, "%.200s/: no memory for its listing", dir);
    } else if (epoch_parse(s, &epoch)) {
        t->epoch = epoch > t->epoch ? epoch : t->epoch;
        t->epochs++;
    } else if (begin_parse(s, &begin)) {
        t->begin = begin > t->begin ? begin : t->begin;
    } else if (slice_equal(s, slice_str("watermark"))) {
        t->watermark = true;
    }
}

struct listing {
    struct tiles *t;
    const char *dir;
    size_t skip; // bytes of the directory and its '/'
    size_t seen;
    bool past; // a name that sorts after all data
};

static bool take_name(void *arg, const char *name, uint64_t size)
{
    struct listing *l = arg;
    l->seen++;
    l->past = l->past || strcmp(name + l->skip, NAME_DATA "p") > 0;
    tiles_take(l->t, l->dir, name + l->skip, size);
    return l->t->e == ERR_OK;
}

// An object of 0 bytes: a fence, unless its checksum says that there were some. Then it is data
// that was cut, and stands where it stood: who reads it finds that it is damaged.
static enum err look_at_fence(struct tile *f, struct object_store *store, const char *dir,
                              struct errmsg *msg)
{
    char full[NAME_FULL_MAX];
    struct buf none;
    data_full_name(dir, &f->name, full);
    buf_init(&none, 1);
    enum err e = sum_get(store, full, &none, msg);
    buf_release(&none);
    if (e == ERR_DAMAGED)
        f->stored = 1;
    // It may have gone since it was listed, and a stray may be there now.
    return e == ERR_DAMAGED || e == ERR_MISSING || e == ERR_TOO_BIG ? ERR_OK : e;
}

// Looks at those that do not begin within other objects: most stand there no longer than until the
// next append.
static enum err look_at_fences(struct tiles *t, struct object_store *store, const char *dir,
                               struct errmsg *msg)
{
    uint64_t reach = 0; // of data that begins no later
    enum err e = ERR_OK;
    for (size_t i = 0, j = 0; i < t->n && !e; i++) {
        uint64_t first = t->v[i].name.first;
        if (t->v[i].stored)
            continue;
        for (; j < t->n && t->v[j].name.first <= first; j++)
            if (t->v[j].stored && t->v[j].name.last > reach)
                reach = t->v[j].name.last;
        if (reach < first)
            e = look_at_fence(&t->v[i], store, dir, msg);
    }
    return e;
}

enum err tiles_list(struct tiles *t, struct object_store *store, const char *dir, uint64_t from,
                    size_t max, struct errmsg *msg)
{
    char prefix[NAME_FULL_MAX], after[NAME_FULL_MAX];
    struct listing l = {.t = t, .dir = dir, .skip = strlen(dir) + 1};
    tiles_clear(t);
    snprintf(prefix, sizeof prefix, "%s/", dir);
    // "data_o...5" sorts before "data_o...5-o7..."
    snprintf(after, sizeof after, "%s/" NAME_DATA "o%020" PRIu64, dir, from);
    enum err e = object_list(store, prefix, from ? after : NULL, max, take_name, &l, msg);
    if (!e && t->e)
        e = err_set(msg, t->e, "%s", t->wrong.text);
    t->all = l.past || max == 0 || l.seen < max;
    return e ? e : look_at_fences(t, store, dir, msg);
}

static bool take_begin(void *arg, const char *name, uint64_t size)
{
    uint64_t *begin = arg, at;
    const char *last = strrchr(name, '/');
    (void)size;
    if (last && begin_parse(slice_str(last + 1), &at) && at > *begin)
        *begin = at;
    return true;
}

enum err tiles_begin(struct object_store *store, const char *dir, uint64_t *begin,
                     struct errmsg *msg)
{
    char prefix[NAME_FULL_MAX];
    *begin = 0;
    snprintf(prefix, sizeof prefix, "%s/" NAME_BEGIN, dir);
    return object_list(store, prefix, NULL, 0, take_begin, begin, msg);
}

uint64_t tiles_first(const struct tiles *t)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->v[i].stored)
            return t->v[i].name.first;
    return 1;
}

// ---- the path

static bool sound(const struct tile *t)
{
    return t->stored != 0;
}

// The first index with first >= x.
static size_t lower(const struct tiles *t, uint64_t x)
{
    size_t low = 0, high = t->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (t->v[mid].name.first < x)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

// Of those that begin at x, the index with the farthest reach; t->n if there is none.
static size_t best_at(const struct tiles *t, const uint64_t *reach, uint64_t x)
{
    size_t best = t->n;
    for (size_t i = lower(t, x); i < t->n && t->v[i].name.first == x; i++) {
        if (!sound(&t->v[i]))
            continue;
        if (best == t->n || reach[i] > reach[best] ||
            (reach[i] == reach[best] && t->v[i].name.last > t->v[best].name.last))
            best = i;
    }
    return best;
}

// The usual listing has nothing but the path in it.
static size_t plain_path(const struct tiles *t, uint64_t from, size_t *path, uint64_t *end)
{
    size_t n = 0;
    *end = from;
    for (size_t i = 0; i < t->n; i++) {
        if (t->v[i].name.first < from)
            continue;
        if (t->v[i].name.first != *end || !sound(&t->v[i]))
            return SIZE_MAX;
        path[n++] = i;
        *end = t->v[i].name.last + 1;
    }
    return n;
}

size_t tiles_path(const struct tiles *t, uint64_t from, size_t *path, uint64_t *end)
{
    size_t n = plain_path(t, from, path, end);
    if (n != SIZE_MAX)
        return n;
    uint64_t *reach = calloc(t->n + 1, sizeof *reach);
    n = 0;
    *end = from;
    if (!reach)
        return 0;                     // looks like a gap: the caller fails
    for (size_t i = t->n; i-- > 0;) { // what begins later is done already
        size_t next = best_at(t, reach, t->v[i].name.last + 1);
        reach[i] = next < t->n ? reach[next] : t->v[i].name.last;
    }
    for (size_t i; (i = best_at(t, reach, *end)) < t->n; *end = t->v[i].name.last + 1)
        path[n++] = i;
    free(reach);
    return n;
}

uint64_t tiles_border(const struct tiles *t)
{
    for (size_t i = 1; i < t->n; i++) {
        const struct name *a = &t->v[i].name;
        if (!sound(&t->v[i]) || a->prior < t->v[0].name.first)
            continue;
        for (size_t j = lower(t, a->prior); j < t->n && t->v[j].name.first == a->prior; j++)
            if (sound(&t->v[j]) && t->v[j].name.last + 1 == a->first)
                return a->prior;
    }
    return 0;
}

bool tiles_beyond(const struct tiles *t, uint64_t end)
{
    for (size_t i = t->n; i-- > 0 && t->v[i].name.first >= end;)
        if (sound(&t->v[i]))
            return true;
    return false;
}
