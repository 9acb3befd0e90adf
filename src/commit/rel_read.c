// Reads of lists. A loop thread only ever takes what is in memory; the rest goes to the reader
// threads (commit_rel_fetch).
#include "commit/rel_int.h"
#include "base/assert.h"
#include <stdlib.h>

enum err commit_rel_ref(struct commit *c, struct slice relation, uint64_t from, bool reverse,
                        struct rel_ref *r, struct errmsg *msg)
{
    struct relation *rel;
    enum err e = find_relation(c, relation, &rel, msg);
    *r = (struct rel_ref){.relation = rel};
    if (e || !rel)
        return e;
    if (reverse && !rel->options.reverse)
        return err_set(msg, ERR_INVALID, "relation \"%.*s\" does not keep its reverse",
                       (int)relation.n, (const char *)relation.p);
    r->table = rel_table(rel->id, reverse ? REL_REVERSE : REL_FORWARD);
    r->hash = rels_hash(c->rels, from);
    return ERR_OK;
}

void commit_rel_prefetch_slot(const struct commit *c, const struct rel_ref *r)
{
    if (r->relation)
        rels_prefetch_slot(c->rels, r->table, r->hash);
}

void commit_rel_prefetch_list(const struct commit *c, const struct rel_ref *r)
{
    if (r->relation)
        rels_prefetch_list(c->rels, r->table, r->hash);
}

// ---- locking what is read

// Twice would do but for a shard so short of memory that what was loaded is evicted at once.
enum { READ_TRIES = 8 };

// Locks the list's shard with the list in memory. Not locked unless ERR_OK.
static enum err lock_warm(struct commit *c, uint32_t table, uint64_t hash)
{
    unsigned shard = rels_shard(hash);
    for (int tries = 0; tries < READ_TRIES; tries++) {
        rels_lock(c->rels, shard);
        if (rels_find(c->rels, table, hash) != RELS_COLD)
            return ERR_OK;
        rels_unlock(c->rels, shard);
        enum err e = load_list(c, table, hash, true);
        if (e)
            return e;
    }
    return ERR_COLD;
}

enum err commit_rel_count(struct commit *c, const struct rel_ref *r, uint64_t *n, uint64_t *dep)
{
    *dep = *n = 0;
    if (!r->relation)
        return ERR_OK;
    enum err e = lock_warm(c, r->table, r->hash);
    if (e)
        return e;
    *n = rels_count(c->rels, r->table, r->hash);
    *dep = rel_dep(c, r->relation, r->table, r->hash);
    rels_unlock(c->rels, rels_shard(r->hash));
    return ERR_OK;
}

enum err commit_rel_contains(struct commit *c, const struct rel_ref *r, const uint8_t *members,
                             size_t n, uint8_t *found, uint64_t *dep)
{
    uint64_t ids[256];
    *dep = 0;
    if (n)
        memset(found, 0, n);
    if (!r->relation)
        return ERR_OK;
    enum err e = lock_warm(c, r->table, r->hash);
    if (e)
        return e;
    for (size_t at = 0, some; at < n; at += some) {
        some = n - at < 256 ? n - at : 256;
        memcpy(ids, members + 8 * at, 8 * some);
        rels_contains(c->rels, r->table, r->hash, ids, some, found + at, NULL);
    }
    *dep = rel_dep(c, r->relation, r->table, r->hash);
    rels_unlock(c->rels, rels_shard(r->hash));
    return ERR_OK;
}

// ---- pages

// Members in the order of arrival, the last first. `at` has room for `max`.
static void page_newest(struct commit *c, const struct rel_ref *r, uint32_t table,
                        const struct rel_page_query *q, size_t max, uint8_t *at,
                        struct rel_page *page)
{
    uint64_t stamps[256], after = q->after;
    bool has_after = q->has_after;
    page->more = true;
    while (page->count < max && page->more) {
        size_t room = max - page->count < 256 ? max - page->count : 256;
        size_t n = rels_page(c->rels, table, r->hash, true, has_after, after, room, stamps,
                             at + 8 * page->count, &page->more);
        page->count += n;
        if (n == 0)
            break;
        has_after = true;
        after = stamps[n - 1];
    }
    page->next = after;
}

// Shard locked, the list in memory.
static enum err page_locked(struct commit *c, const struct rel_ref *r, uint32_t table,
                            const struct rel_page_query *q, struct buf *out, struct rel_page *page)
{
    page->total = rels_count(c->rels, table, r->hash);
    size_t max = q->max < page->total ? q->max : (size_t)page->total;
    enum err e = max ? buf_reserve(out, 8 * max) : ERR_OK;
    if (e || max == 0)
        return e;
    uint8_t *at = buf_tail(out);
    if (q->order == REL_NEWEST) {
        page_newest(c, r, table, q, max, at, page);
    } else {
        page->count = rels_page(c->rels, table, r->hash, q->order == REL_FALLING, q->has_after,
                                q->after, max, at, NULL, &page->more);
        if (page->count)
            page->next = load64(at + 8 * (page->count - 1));
    }
    out->end += 8 * page->count;
    return ERR_OK;
}

enum err commit_rel_page(struct commit *c, const struct rel_ref *r, const struct rel_page_query *q,
                         struct buf *out, struct rel_page *page, uint64_t *dep, struct errmsg *msg)
{
    *dep = 0;
    *page = (struct rel_page){0};
    if (q->max == 0 || q->max > LIMIT_REL_PAGE)
        return err_set(msg, ERR_INVALID, "%zu members in a page, not within 1 and %u", q->max,
                       LIMIT_REL_PAGE);
    if (!r->relation)
        return ERR_OK;
    uint32_t table = r->table;
    if (q->order == REL_NEWEST) {
        if (table != rel_table(r->relation->id, REL_FORWARD))
            return err_set(msg, ERR_INVALID, "the reverse of a relation has no order of arrival");
        if (!r->relation->options.recent)
            return err_set(msg, ERR_INVALID, "relation \"%.*s\" does not keep the order of arrival",
                           (int)r->relation->name_len, (const char *)r->relation->name);
        table = rel_table(r->relation->id, REL_RECENT);
    }
    enum err e = lock_warm(c, table, r->hash);
    if (e)
        return e == ERR_COLD ? e : err_set(msg, e, "cannot read the store: %s", err_text(e));
    e = page_locked(c, r, table, q, out, page);
    if (!e)
        *dep = rel_dep(c, r->relation, table, r->hash);
    rels_unlock(c->rels, rels_shard(r->hash));
    return e ? err_set(msg, e, "%s", err_text(e)) : ERR_OK;
}

// ---- combinations

static void lock_all(struct commit *c, uint64_t shards)
{
    for (uint64_t left = shards; left; left &= left - 1)
        rels_lock(c->rels, (unsigned)__builtin_ctzll(left));
}

static void unlock_all(struct commit *c, uint64_t shards)
{
    for (uint64_t left = shards; left; left &= left - 1)
        rels_unlock(c->rels, (unsigned)__builtin_ctzll(left));
}

// Locks the shards with all lists in memory. Not locked unless ERR_OK.
static enum err lock_warm_all(struct commit *c, const struct rels_list *lists, size_t n,
                              uint64_t shards)
{
    for (int tries = 0; tries < READ_TRIES; tries++) {
        uint64_t cold = 0;
        lock_all(c, shards);
        for (size_t i = 0; i < n; i++)
            if (rels_find(c->rels, lists[i].table, lists[i].hash) == RELS_COLD)
                cold |= 1ull << i;
        if (!cold)
            return ERR_OK;
        unlock_all(c, shards);
        for (; cold; cold &= cold - 1) {
            const struct rels_list *l = &lists[__builtin_ctzll(cold)];
            enum err e = load_list(c, l->table, l->hash, true);
            if (e)
                return e;
        }
    }
    return ERR_COLD;
}

// Lists that exist, of those that are combined. False: the result is empty.
static bool existing(enum rel_combine how, const struct rel_ref *lists, size_t n,
                     struct rels_list *some, const struct relation **of, size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < n; i++) {
        if (lists[i].relation) {
            of[*count] = lists[i].relation;
            some[(*count)++] = (struct rels_list){lists[i].table, lists[i].hash};
        } else if (how == REL_INTERSECT || (how == REL_DIFFERENCE && i == 0)) {
            return false;
        }
    }
    return *count > 0;
}

enum err commit_rel_combine(struct commit *c, enum rel_combine how, const struct rel_ref *lists,
                            size_t n, bool has_after, uint64_t after, size_t max, struct buf *out,
                            struct rel_page *page, uint64_t *dep)
{
    static const enum rels_combine hows[] = {RELS_INTERSECT, RELS_UNION, RELS_DIFFERENCE};
    struct rels_list some[LIMIT_REL_LISTS];
    const struct relation *of[LIMIT_REL_LISTS];
    size_t count;
    uint64_t shards = 0;
    *dep = 0;
    *page = (struct rel_page){0};
    if (n == 0 || n > LIMIT_REL_LISTS || max == 0 || max > LIMIT_REL_PAGE)
        return ERR_INVALID;
    if (!existing(how, lists, n, some, of, &count))
        return ERR_OK;
    for (size_t i = 0; i < count; i++)
        shards |= 1ull << rels_shard(some[i].hash);
    enum err e = lock_warm_all(c, some, count, shards);
    if (e)
        return e;
    size_t before = buf_len(out);
    e = rels_combine(c->rels, hows[how], some, count, has_after, after, max, LIMIT_REL_WORK, out,
                     &page->more, &page->next);
    for (size_t i = 0; i < count && !e; i++) {
        uint64_t one = rel_dep(c, of[i], some[i].table, some[i].hash);
        *dep = one > *dep ? one : *dep;
    }
    unlock_all(c, shards);
    if (e) {
        out->end = out->start + before;
        return e;
    }
    page->count = (buf_len(out) - before) / 8;
    return ERR_OK;
}

// ---- fetching

struct rel_fetch {
    struct commit *c;
    void (*done)(void *arg, enum err e);
    void *arg;
    size_t n;
    struct rels_list lists[];
};

static void rel_fetch_run(void *arg)
{
    struct rel_fetch *f = arg;
    enum err e = ERR_OK;
    for (size_t i = 0; i < f->n && !e; i++)
        e = load_list(f->c, f->lists[i].table, f->lists[i].hash, false);
    f->done(f->arg, e);
    free(f);
}

enum err commit_rel_fetch(struct commit *c, const struct rel_ref *lists, size_t n,
                          void (*done)(void *arg, enum err e), void *arg)
{
    struct rel_fetch *f = malloc(sizeof *f + 2 * n * sizeof *f->lists);
    if (!f)
        return ERR_NO_MEMORY;
    *f = (struct rel_fetch){.c = c, .done = done, .arg = arg};
    for (size_t i = 0; i < n; i++) {
        const struct relation *r = lists[i].relation;
        if (!r)
            continue;
        f->lists[f->n++] = (struct rels_list){lists[i].table, lists[i].hash};
        if (r->options.recent && lists[i].table == rel_table(r->id, REL_FORWARD)) // for its pages
            f->lists[f->n++] = (struct rels_list){rel_table(r->id, REL_RECENT), lists[i].hash};
    }
    count(&c->cold_waits, 1);
    enum err e = readers_add(&c->readers, rel_fetch_run, f);
    if (e)
        free(f);
    return e;
}
