// The `from`s that have members, in the order of their hashes: the store below is in that order but
// only as new as the last checkpoint; what is resident has the last word. In steps: first what is
// resident in a range of hashes is gathered, then an iterator below is opened, so that a list which
// was not resident is seen there, and both are merged.
#include "commit/rel_int.h"
#include <stdlib.h>

enum { STEP = 1024 }; // resident lists gathered at once

struct seen {
    uint64_t hash, count; // count 0: it has none
};

struct froms {
    struct commit *c;
    uint32_t table;
    uint64_t next; // the hash to go on from
    bool end;      // there is none
    size_t left;   // 0 also once fn wants no more
    rel_from_fn fn;
    void *arg;
    struct seen *v;
    size_t n;
};

static uint64_t end_of_shard(uint64_t hash)
{
    return hash | (UINT64_MAX >> 6);
}

// What is resident from f->next on, in its shard. *last: the hash up to which that is all.
static void gather(struct froms *f, uint64_t *last)
{
    struct rels *rels = f->c->rels;
    unsigned shard = rels_shard(f->next);
    uint64_t at = f->next, hash;
    bool absent;
    f->n = 0;
    *last = end_of_shard(f->next);
    rels_lock(rels, shard);
    while (rels_next(rels, shard, f->table, at, &hash, &absent)) {
        f->v[f->n++] = (struct seen){hash, absent ? 0 : rels_count(rels, f->table, hash)};
        if (hash == *last)
            break;
        at = hash + 1;
        if (f->n == STEP) {
            *last = hash;
            break;
        }
    }
    rels_unlock(rels, shard);
}

static void give(struct froms *f, uint64_t hash, uint64_t members)
{
    if (members && f->left)
        f->left = f->fn(f->arg, rels_from(f->c->rels, hash), members) ? f->left - 1 : 0;
}

// A list's row that is below, unless it was gathered; those gathered before it first.
static enum err merge_row(struct froms *f, size_t *at, const struct rels_row *row)
{
    uint64_t members;
    while (*at < f->n && f->v[*at].hash < row->hash) {
        give(f, f->v[*at].hash, f->v[*at].count);
        ++*at;
    }
    if (*at < f->n && f->v[*at].hash == row->hash)
        return ERR_OK;
    if (!rel_row_is_head(row->bytes, &members)) {
        if (ids_check(row->bytes))
            return ERR_DAMAGED;
        members = ids_count(row->bytes.p);
    }
    give(f, row->hash, members);
    return ERR_OK;
}

static enum err merge(struct froms *f, struct store_iter *it)
{
    struct rels_row row;
    uint32_t table;
    size_t at = 0;
    for (; f->left && store_iter_valid(it); store_iter_next(it)) {
        if (!rel_row_of(store_iter_key(it), store_iter_value(it), &table, &row))
            return ERR_DAMAGED;
        enum err e = row.kind == RELS_ROW_LIST ? merge_row(f, &at, &row) : ERR_OK;
        if (e)
            return e;
    }
    for (; at < f->n && f->left; at++)
        give(f, f->v[at].hash, f->v[at].count);
    return ERR_OK;
}

static enum err froms_step(struct froms *f, struct errmsg *msg)
{
    uint8_t from[REL_ROW_KEY], to[REL_ROW_KEY];
    struct store_iter *it;
    uint64_t last;
    gather(f, &last);
    enum err e = store_iter_range(f->c->store, STORE_RELS, rel_list_key(from, f->table, f->next),
                                  rel_end_key(to, f->table, last), &it);
    if (e)
        return err_set(msg, e, "cannot read the store: %s", err_text(e));
    if ((e = merge(f, it)))
        err_set(msg, e, "a list in the store cannot be read: %s", err_text(e));
    else
        e = store_iter_status(it, msg);
    store_iter_free(it);
    f->end = last == UINT64_MAX;
    f->next = last + 1;
    return e;
}

enum err commit_rel_froms(struct commit *c, struct slice relation, bool reverse, bool has_after,
                          uint64_t after, size_t limit, rel_from_fn fn, void *arg, uint64_t *dep,
                          struct errmsg *msg)
{
    struct relation *r;
    struct froms f = {.c = c, .left = limit, .fn = fn, .arg = arg};
    enum err e = find_relation(c, relation, &r, msg);
    *dep = 0;
    if (e || !r)
        return e;
    if (reverse && !r->options.reverse)
        return err_set(msg, ERR_INVALID, "relation \"%.*s\" does not keep its reverse",
                       (int)relation.n, (const char *)relation.p);
    f.table = rel_table(r->id, reverse ? REL_REVERSE : REL_FORWARD);
    uint64_t hash = has_after ? rels_hash(c->rels, after) : 0;
    f.end = has_after && hash == UINT64_MAX;
    f.next = has_after ? hash + 1 : 0;
    if (!(f.v = malloc(STEP * sizeof *f.v)))
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    while (!e && f.left && !f.end)
        e = froms_step(&f, msg);
    free(f.v);
    // What was read may be as new as the newest change: the answer waits for all given out so far.
    if (!c->o.relaxed && !r->options.relaxed)
        *dep = wal_last(c->wal) > wal_durable(c->wal) ? wal_last(c->wal) : 0;
    commit_kick(c);
    return e;
}
