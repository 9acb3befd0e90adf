// Finding a place in a log with few requests. Names tell offsets, times and nonces, and a listing
// tells a thousand names, from any offset on: so a search is for the listing that has the border in
// it. It looks at the log's start, at its end, where the watermark says that is, then halves what
// is between; every fourth step goes on just behind what is known to be before the place, so that a
// log with a few very long objects costs no more. Among 10,000 objects that is at most a dozen
// listings.
//
// A listing that begins within the log may begin with what is not of it (archive/tiles.h), so a
// window always begins at a known border: the `prior` of the object that was looked for.
#include "archive/reader_int.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGE = 1000, BACK = 600, PRIORS = 4, PROBES = 200 };

void window_release(struct window *w)
{
    tiles_release(&w->listing);
    free(w->path);
}

static const struct name *sound(const struct tiles *t, size_t nth)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->v[i].stored && nth-- == 0)
            return &t->v[i].name;
    return NULL;
}

static const struct name *last_sound(const struct tiles *t)
{
    for (size_t i = t->n; i-- > 0;)
        if (t->v[i].stored)
            return &t->v[i].name;
    return NULL;
}

// The listing in the window becomes a path from the border `from` (0: where the listing begins).
// ERR_AGAIN if there is a gap, or nothing at the border.
static enum err take_path(struct archive_reader *r, const char *dir, uint64_t from,
                          struct errmsg *msg)
{
    struct window *w = &r->window;
    const struct name *first = sound(&w->listing, 0);
    size_t *path = realloc(w->path, (w->listing.n + 1) * sizeof *path);
    if (!path)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    w->path = path;
    w->dir[0] = 0;
    w->from_start = from == 0;
    w->call = r->call;
    w->n = 0;
    w->end = from;
    if (first)
        w->n = tiles_path(&w->listing, from ? from : first->first, path, &w->end);
    if ((from && w->n == 0) || tiles_beyond(&w->listing, w->end + 1))
        return err_set(msg, ERR_AGAIN, "%.300s: no object holds offset %" PRIu64 ", but later ones",
                       dir, w->end);
    snprintf(w->dir, sizeof w->dir, "%s", dir);
    return ERR_OK;
}

static enum err list(struct archive_reader *r, const char *dir, uint64_t from, size_t max,
                     struct errmsg *msg)
{
    r->window.dir[0] = 0;
    r->window.n = 0;
    return tiles_list(&r->window.listing, r->store, dir, from, max, msg);
}

static enum err window_from(struct archive_reader *r, const char *dir, uint64_t border, size_t max,
                            struct errmsg *msg)
{
    enum err e = list(r, dir, border, max, msg);
    return e ? e : take_path(r, dir, border, msg);
}

// The tile of the window that holds the offset; w->n: none.
static size_t index_of(const struct window *w, uint64_t offset)
{
    size_t low = 0, high = w->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (window_tile(w, mid)->name.last < offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low < w->n && window_tile(w, low)->name.first <= offset ? low : w->n;
}

static bool holds(const struct archive_reader *r, const char *dir, uint64_t offset, size_t *i)
{
    const struct window *w = &r->window;
    if (strcmp(w->dir, dir) != 0 || w->n == 0)
        return false;
    *i = index_of(w, offset);
    if (*i == w->n && w->from_start && offset < window_tile(w, 0)->name.first)
        *i = 0;
    return *i < w->n;
}

// ---- the end

static enum err get_watermark(struct archive_reader *r, const char *dir, uint64_t *from,
                              struct errmsg *msg)
{
    char name[NAME_FULL_MAX];
    struct buf b;
    buf_init(&b, 8);
    snprintf(name, sizeof name, "%s/watermark", dir);
    enum err e = object_get(r->store, name, &b, msg);
    *from = 0;
    if (e == ERR_TOO_BIG || (!e && buf_len(&b) != 8))
        e = err_set(msg, ERR_DAMAGED, "%.300s is damaged: it is not 8 bytes", name);
    else if (!e)
        *from = load64(buf_head(&b));
    buf_release(&b);
    return e == ERR_MISSING ? ERR_OK : e;
}

static bool never(const struct name *n, const struct archive_query *q)
{
    (void)n;
    (void)q;
    return false;
}

enum err seek_tail(struct archive_reader *r, const char *dir, struct errmsg *msg)
{
    uint64_t from;
    size_t i;
    enum err e = get_watermark(r, dir, &from, msg);
    if (e)
        return e;
    if (from)
        e = window_from(r, dir, from, 0, msg);
    if (from && e != ERR_AGAIN)
        return e;
    // There is none, or a writer that was fenced put it late.
    e = seek_first(r, dir, never, NULL, &i, msg);
    return e == ERR_MISSING && r->window.n ? ERR_OK : e;
}

// ---- by offset

// The window that begins with the object before the nth of the listing at hand.
static enum err window_before(struct archive_reader *r, const char *dir, const struct name *n,
                              struct errmsg *msg)
{
    uint64_t border = n->prior;
    return border ? window_from(r, dir, border, PAGE, msg) : window_from(r, dir, 0, PAGE, msg);
}

// True if the log was trimmed, so that the object before is gone: `offset`, or what is the first
// past it, lies where the log begins. The window is another one in any case.
static bool begins_past(struct archive_reader *r, const char *dir, uint64_t offset, size_t *i,
                        struct errmsg *msg)
{
    return window_from(r, dir, 0, PAGE, msg) == ERR_OK && holds(r, dir, offset, i);
}

// Looks through the whole log: strays have hidden every border.
static enum err walk_all(struct archive_reader *r, const char *dir, uint64_t offset, size_t *i,
                         struct errmsg *msg)
{
    enum err e = window_from(r, dir, 0, 0, msg);
    if (e)
        return e;
    return holds(r, dir, offset, i) ? ERR_OK : ERR_MISSING;
}

enum err seek_offset(struct archive_reader *r, const char *dir, uint64_t offset, size_t *i,
                     struct errmsg *msg)
{
    struct window *w = &r->window;
    enum err e;
    if (holds(r, dir, offset, i))
        return ERR_OK;
    if (!strcmp(w->dir, dir) && w->n && offset == w->end) {
        if (window_ends_log(w) && w->call == r->call)
            return ERR_MISSING;
        e = window_from(r, dir, window_tile(w, w->n - 1)->name.first, PAGE, msg);
        if (!e && holds(r, dir, offset, i))
            return ERR_OK;
        if (!e && window_ends_log(w))
            return ERR_MISSING;
        if (e && e != ERR_AGAIN)
            return e;
    }
    if (offset <= 1) { // nothing is before it, so one listing does
        e = window_from(r, dir, 0, PAGE, msg);
        if (e && e != ERR_AGAIN)
            return e;
        *i = 0;
        if (!e && (w->n || w->listing.all))
            return w->n ? ERR_OK : ERR_MISSING;
    }
    for (size_t nth = 0; nth < PRIORS; nth++) {
        e = list(r, dir, offset, PAGE, msg);
        const struct name *n = e ? NULL : sound(&w->listing, nth);
        if (e || (!n && nth))
            return e ? e : walk_all(r, dir, offset, i, msg);
        struct name after = n ? *n : (struct name){0};
        e = n ? window_before(r, dir, &after, msg) : seek_tail(r, dir, msg);
        if (e && e != ERR_AGAIN)
            return e;
        if (!e && holds(r, dir, offset, i))
            return ERR_OK;
        if (!n) // past the end, or a log that changes
            return e ? e : ERR_MISSING;
        if (nth == 0 && begins_past(r, dir, offset, i, msg))
            return ERR_OK;
    }
    return walk_all(r, dir, offset, i, msg);
}

// ERR_MISSING if the tile found is the log's first, and past the offset.
static enum err back_at(const struct window *w, uint64_t offset, size_t i)
{
    return window_tile(w, i)->name.first > offset ? ERR_MISSING : ERR_OK;
}

enum err seek_back(struct archive_reader *r, const char *dir, size_t *i, struct errmsg *msg)
{
    struct window *w = &r->window;
    if (*i > 0) {
        --*i;
        return ERR_OK;
    }
    struct name first = window_tile(w, 0)->name;
    if (w->from_start || first.first == 1 || first.prior == 0)
        return ERR_MISSING;
    uint64_t records = w->end - first.first, back = records / w->n * BACK;
    uint64_t guess = first.first > back ? first.first - back : 0;
    if (guess > first.prior) // rather one object than none
        guess = first.prior;
    enum err e = list(r, dir, guess, PAGE, msg);
    if (e)
        return e;
    uint64_t border = guess ? tiles_border(&w->listing) : 0;
    if (!guess || border)
        e = take_path(r, dir, border, msg);
    if (!e && (!guess || border) && holds(r, dir, first.first - 1, i))
        return back_at(w, first.first - 1, *i);
    e = window_before(r, dir, &first, msg);
    if (e == ERR_AGAIN) // it may have been trimmed
        e = window_from(r, dir, 0, PAGE, msg);
    if (!e && !holds(r, dir, first.first - 1, i))
        e = err_set(msg, ERR_AGAIN, "%.300s changes", dir);
    return e ? e : back_at(w, first.first - 1, *i);
}

// ---- by what names say

struct search {
    uint64_t low, high; // first offsets: what lies at or below low is before the place
    uint64_t step, each;
    unsigned probes;
};

static uint64_t next_probe(struct search *s)
{
    s->probes++;
    if (!s->high) {
        uint64_t at = s->low + s->step;
        s->step *= 2;
        return at > s->low ? at : UINT64_MAX;
    }
    uint64_t room = s->high - s->low;
    if (room <= s->each * (PAGE - PAGE / 10) || s->probes % 4 == 0)
        return s->low + 1;
    return s->low + room / 2;
}

// Looks at the listing: 1 the place is in it, -1 before it, 0 past it (then low is raised).
static int look(const struct tiles *t, tile_test past, const struct archive_query *q,
                struct search *s, struct name *found)
{
    const struct name *first = sound(t, 0), *last = last_sound(t);
    if (!first)
        return -1;
    for (size_t i = 0; i < t->n; i++)
        if (t->v[i].stored && past(&t->v[i].name, q)) {
            *found = t->v[i].name;
            return past(first, q) && found->first == first->first ? -1 : 1;
        }
    s->low = last->first;
    s->each = (last->last - first->first) / t->n + 1;
    return 0;
}

// The window has the place in it, or nothing that is past: ERR_MISSING.
static enum err in_window(const struct archive_reader *r, tile_test past,
                          const struct archive_query *q, size_t *i)
{
    for (*i = 0; *i < r->window.n; ++*i)
        if (past(&window_tile(&r->window, *i)->name, q))
            return ERR_OK;
    return ERR_MISSING;
}

// The window with the found object in it, and the first tile of the path that is past.
static enum err settle(struct archive_reader *r, const char *dir, const struct name *found,
                       tile_test past, const struct archive_query *q, size_t *i, struct errmsg *msg)
{
    size_t at;
    enum err e = window_before(r, dir, found, msg);
    if (e == ERR_AGAIN)
        e = seek_offset(r, dir, found->first, &at, msg);
    e = e ? e : in_window(r, past, q, i);
    return e == ERR_MISSING ? err_set(msg, ERR_AGAIN, "%.300s changes", dir) : e;
}

// Looks at the log's end, where the watermark says it is, which bounds the search. *known: that
// decides.
static enum err look_at_end(struct archive_reader *r, const char *dir, tile_test past,
                            const struct archive_query *q, struct search *s, struct name *found,
                            bool *known, struct errmsg *msg)
{
    uint64_t mark, low = s->low, each = s->each;
    enum err e = get_watermark(r, dir, &mark, msg);
    *known = false;
    if (e || mark <= low)
        return e;
    e = list(r, dir, mark, 0, msg);
    if (e)
        return e;
    int where = look(&r->window.listing, past, q, s, found);
    *known = where >= 0;
    s->low = low;
    s->each = each;
    s->high = mark;
    e = *known ? take_path(r, dir, mark, msg) : ERR_OK;
    if (e != ERR_AGAIN)
        return e;
    *known = false; // it is not to be trusted: on without it
    s->high = 0;
    *found = (struct name){0};
    return ERR_OK;
}

enum err seek_first(struct archive_reader *r, const char *dir, tile_test past,
                    const struct archive_query *q, size_t *i, struct errmsg *msg)
{
    struct tiles *t = &r->window.listing;
    struct search s = {.low = 0};
    struct name found, candidate = {0};
    bool known = false;
    enum err e = list(r, dir, 0, PAGE, msg);
    int where = e ? 0 : look(t, past, q, &s, &found);
    if (!e && (where || t->all || t->n == 0)) { // the first listing decides
        known = true;
        e = take_path(r, dir, 0, msg);
    } else if (!e && q) {
        e = look_at_end(r, dir, past, q, &s, &candidate, &known, msg);
    }
    if (e || known)
        return e ? e : in_window(r, past, q, i);
    s.step = s.low;
    while (s.probes < PROBES) {
        uint64_t at = next_probe(&s);
        e = list(r, dir, at, PAGE, msg);
        if (e)
            return e;
        where = look(t, past, q, &s, &found);
        bool none = sound(t, 0) == NULL;
        // It is the one, if nothing can lie between it and what is before the place.
        if (where > 0 || (where < 0 && !none && (at == s.low + 1 || found.prior <= s.low)))
            return settle(r, dir, &found, past, q, i, msg);
        if (where < 0) { // nothing begins between an object's prior and it
            s.high = none || found.prior >= at ? at : found.prior + 1;
            candidate = none ? candidate : found;
        }
        bool end = (where == 0 && t->all) || (none && at == s.low + 1);
        if (!end)
            continue;
        if (candidate.first) // the listing's end is where another one began
            return settle(r, dir, &candidate, past, q, i, msg);
        struct name last = where == 0 ? *last_sound(t) : (struct name){.prior = s.low};
        e = window_before(r, dir, &last, msg);
        return e ? e : ERR_MISSING;
    }
    return err_set(msg, ERR_AGAIN, "%.300s: too many steps to find a place in it", dir);
}
