// Pages of froms; short lists are then read many at once, long ones page by page.
#include "cli/rel_lists.h"
#include "base/limits.h"
#include <stdlib.h>

enum {
    FROMS = LIMIT_REL_MANY, // in a page
    SHORT = 10000,          // members of a list that is read with others
    TOGETHER = 250000,      // members of those, in one request
    PAGE = 100000,          // members of a long list
};

struct lists {
    struct varve *v;
    const char *relation;
    unsigned flags;
    rel_list_fn fn;
    void *arg;
    bool stopped;
    uint64_t froms[FROMS], counts[FROMS];
    size_t count;
    // Of short lists that have grown meanwhile: where they go on.
    uint64_t grown[FROMS], past[FROMS];
    size_t grown_count;
};

static bool keep_from(void *arg, uint64_t from, uint64_t count)
{
    struct lists *l = arg;
    l->froms[l->count] = from;
    l->counts[l->count++] = count;
    return true;
}

// The members of a list past *after, all of them without it.
static enum varve_error read_pages(struct lists *l, uint64_t from, const uint64_t *after)
{
    struct varve_rel_query q = {.flags = l->flags, .limit = PAGE};
    struct varve_members page = {.more = true};
    q.has_after = after != NULL;
    q.after = after ? *after : 0;
    while (page.more && !l->stopped) {
        enum varve_error e = varve_rel_page(l->v, l->relation, from, &q, &page);
        if (e)
            return e;
        l->stopped = page.count && !l->fn(l->arg, from, &page);
        q.has_after = true;
        q.after = page.next;
    }
    return VARVE_OK;
}

// Short lists, froms[at] to froms[end - 1].
static enum varve_error read_together(struct lists *l, size_t at, size_t end)
{
    struct varve_rel_lists lists;
    struct varve_members list;
    uint64_t longest = 1;
    for (size_t i = at; i < end; i++)
        longest = l->counts[i] > longest ? l->counts[i] : longest;
    l->grown_count = 0;
    enum varve_error e = varve_rel_many(l->v, l->relation, l->froms + at, end - at,
                                        (uint32_t)longest, l->flags, &lists);
    while (!e && !l->stopped && varve_rel_lists_next(&lists, &list)) {
        l->stopped = list.count && !l->fn(l->arg, list.from, &list);
        if (list.more) {
            l->grown[l->grown_count] = list.from;
            l->past[l->grown_count++] = list.next;
        }
    }
    for (size_t i = 0; i < l->grown_count && !e; i++)
        e = read_pages(l, l->grown[i], &l->past[i]);
    return e;
}

static enum varve_error read_froms(struct lists *l)
{
    enum varve_error e = VARVE_OK;
    for (size_t i = 0; i < l->count && !e && !l->stopped;) {
        size_t end = i;
        uint64_t sum = 0;
        while (end < l->count && l->counts[end] <= SHORT && sum + l->counts[end] <= TOGETHER)
            sum += l->counts[end++];
        e = end > i ? read_together(l, i, end) : read_pages(l, l->froms[i], NULL);
        i = end > i ? end : i + 1;
    }
    return e;
}

enum varve_error rel_each_list(struct varve *v, const char *relation, unsigned flags,
                               rel_list_fn fn, void *arg)
{
    struct lists *l = calloc(1, sizeof *l);
    if (!l)
        return VARVE_NO_MEMORY;
    l->v = v;
    l->relation = relation;
    l->flags = flags;
    l->fn = fn;
    l->arg = arg;
    uint64_t last;
    const uint64_t *after = NULL;
    enum varve_error e = VARVE_OK;
    do {
        l->count = 0;
        e = varve_rel_froms(v, relation, after, FROMS, flags, keep_from, l);
        if (!e && l->count) {
            last = l->froms[l->count - 1];
            after = &last;
            e = read_froms(l);
        }
    } while (!e && !l->stopped && l->count == FROMS);
    free(l);
    return e;
}
