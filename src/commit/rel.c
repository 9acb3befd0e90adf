// Relations: names, options, metadata. Their lists are in the other files: rel_int.h says which.
#include "commit/rel_int.h"
#include "base/assert.h"
#include "base/hash.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

// ---- finding

struct relations *relations_new(uint64_t seed)
{
    struct relations *r = calloc(1, sizeof *r);
    if (r)
        r->seed = seed;
    return r;
}

void relations_free(struct relations *r)
{
    for (uint32_t id = 1; r && id <= LIMIT_RELATIONS; id++)
        free(atomic_load(&r->ids[id]));
    free(r);
}

static _Atomic(struct relation *) *name_bucket(const struct commit *c, struct slice name)
{
    uint64_t hash = hash64(name, c->relations->seed);
    return &c->relations->names[hash % RELATION_BUCKETS];
}

static struct relation *relation_of_name(const struct commit *c, struct slice name)
{
    struct relation *r = atomic_load_explicit(name_bucket(c, name), memory_order_acquire);
    while (r && !slice_equal(relation_name(r), name))
        r = r->next;
    return r;
}

struct relation *relation_of_id(const struct commit *c, uint32_t id)
{
    if (id > LIMIT_RELATIONS)
        return NULL;
    return atomic_load_explicit(&c->relations->ids[id], memory_order_acquire);
}

enum err find_relation(const struct commit *c, struct slice name, struct relation **r,
                       struct errmsg *msg)
{
    *r = relation_of_name(c, name);
    if (*r || op_relation_name(name))
        return ERR_OK;
    if (name.n == 0)
        return err_set(msg, ERR_INVALID, "the relation has no name");
    if (name.n > LIMIT_RELATION_NAME)
        return err_set(msg, ERR_INVALID, "the relation's name has %zu bytes, the limit is %u",
                       name.n, LIMIT_RELATION_NAME);
    return err_set(msg, ERR_INVALID,
                   "a relation's name is letters, digits and \"_.:-\", and begins with a letter, "
                   "a digit or \"_\"");
}

static uint64_t not_durable(const struct commit *c, uint64_t seq)
{
    return c->o.relaxed || seq <= wal_durable(c->wal) ? 0 : seq;
}

uint64_t rel_dep(const struct commit *c, const struct relation *r, uint32_t table, uint64_t hash)
{
    return r->options.relaxed ? 0 : not_durable(c, rels_seq(c->rels, table, hash));
}

// ---- making

void raise_stamps(struct relation *r, uint64_t stamp)
{
    uint64_t had = atomic_load_explicit(&r->stamps, memory_order_relaxed);
    while (had < stamp && !atomic_compare_exchange_weak(&r->stamps, &had, stamp))
        ;
}

static struct relation *relation_new(uint32_t id, struct slice name, uint64_t created_ms,
                                     const struct relation_options *o)
{
    VERIFY(name.n > 0 && name.n <= LIMIT_RELATION_NAME);
    struct relation *r = calloc(1, sizeof *r + name.n);
    if (!r)
        return NULL;
    r->id = id;
    r->created_ms = created_ms;
    r->options = *o;
    r->name_len = (uint8_t)name.n;
    memcpy(r->name, name.p, name.n);
    return r;
}

// Its tables first: who finds it uses them. By one thread at a time.
static enum err publish_relation(struct commit *c, struct relation *r, uint64_t seq)
{
    for (enum rel_part part = 0; part < REL_PARTS; part++) {
        if (!relation_has(r, part))
            continue;
        enum err e = rels_table(c->rels, rel_table(r->id, part), rel_payloads(r, part));
        if (e)
            return e;
    }
    r->seq = seq;
    r->stored = seq == 0;
    _Atomic(struct relation *) *bucket = name_bucket(c, relation_name(r));
    r->next = atomic_load_explicit(bucket, memory_order_relaxed);
    atomic_store_explicit(&c->relations->ids[r->id], r, memory_order_release);
    atomic_store_explicit(bucket, r, memory_order_release);
    atomic_store_explicit(&c->relations->count, r->id, memory_order_release);
    return ERR_OK;
}

struct relation *relation_put(struct commit *c, uint32_t id, struct slice name, uint64_t created_ms,
                              const struct relation_options *o, uint64_t seq)
{
    uint32_t count = atomic_load(&c->relations->count);
    struct relation *r = NULL;
    if (id == count + 1 && id <= LIMIT_RELATIONS)
        r = relation_new(id, name, created_ms, o);
    if (r && publish_relation(c, r, seq)) {
        free(r);
        r = NULL;
    }
    return r;
}

// Logs and publishes a relation. relation_lock held.
static enum err make_relation(struct commit *c, struct slice name, const struct relation_options *o,
                              struct relation **made, struct errmsg *msg)
{
    uint8_t room[256];
    struct buf b = {.data = room, .cap = sizeof room, .max = sizeof room};
    uint32_t count = atomic_load(&c->relations->count);
    uint64_t seq;
    if (count >= LIMIT_RELATIONS)
        return err_set(msg, ERR_TOO_BIG, "there are %u relations, no more are allowed",
                       LIMIT_RELATIONS);
    enum err e = admit_write(c);
    if (e)
        return err_set(msg, e, "%s", err_text(e));
    struct change ch = {.kind = CHANGE_RELATION,
                        .key = name,
                        .relation = count + 1,
                        .created_ms = os_wall_ms(c->o.os),
                        .options = *o};
    struct relation *r = relation_new(ch.relation, name, ch.created_ms, o);
    if (!r)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    VERIFY(op_size(&ch) <= sizeof room);
    op_append(&b, &ch);
    if ((e = wal_append(c->wal, buf_slice(&b), &seq))) {
        free(r);
        return err_set(msg, e, "%s", err_text(e));
    }
    // Its tables take memory with their first lists, so this cannot fail.
    VERIFY(publish_relation(c, r, seq) == ERR_OK);
    commit_kick(c);
    *made = r;
    return ERR_OK;
}

enum err need_relation(struct commit *c, struct slice name, struct relation **r, struct errmsg *msg)
{
    static const struct relation_options defaults = {0};
    enum err e = find_relation(c, name, r, msg);
    if (e || *r)
        return e;
    pthread_mutex_lock(&c->relation_lock);
    *r = relation_of_name(c, name);
    if (!*r)
        e = make_relation(c, name, &defaults, r, msg);
    pthread_mutex_unlock(&c->relation_lock);
    return e;
}

enum err commit_relation_create(struct commit *c, struct slice name,
                                const struct relation_options *o, uint64_t *created_ms,
                                uint64_t *dep, struct errmsg *msg)
{
    struct relation *r;
    enum err e = find_relation(c, name, &r, msg);
    *dep = 0;
    if (e)
        return e;
    pthread_mutex_lock(&c->relation_lock);
    r = relation_of_name(c, name);
    if (r)
        e = err_set(msg, ERR_EXISTS, "relation \"%.*s\" exists: reverse %s, recent %s, relaxed %s",
                    (int)name.n, (const char *)name.p, r->options.reverse ? "yes" : "no",
                    r->options.recent ? "yes" : "no", r->options.relaxed ? "yes" : "no");
    else
        e = make_relation(c, name, o, &r, msg);
    if (r) {
        *created_ms = r->created_ms;
        *dep = not_durable(c, r->seq);
    }
    pthread_mutex_unlock(&c->relation_lock);
    return e;
}

// ---- metadata

static struct relation_view view_of(struct commit *c, const struct relation *r)
{
    struct rels_stats s = {0};
    rels_get_stats(c->rels, rel_table(r->id, REL_FORWARD), &s);
    return (struct relation_view){relation_name(r), r->created_ms, r->options, s.lists, s.members};
}

enum err commit_relation_get(struct commit *c, struct slice name, struct relation_view *v,
                             uint64_t *dep, struct errmsg *msg)
{
    struct relation *r;
    enum err e = find_relation(c, name, &r, msg);
    *dep = 0;
    if (e)
        return e;
    if (!r)
        return err_set(msg, ERR_MISSING, "no relation \"%.*s\"", (int)name.n, (const char *)name.p);
    *v = view_of(c, r);
    *dep = not_durable(c, r->seq);
    return ERR_OK;
}

static int by_name(const void *a, const void *b)
{
    return slice_compare(relation_name(*(struct relation *const *)a),
                         relation_name(*(struct relation *const *)b));
}

enum err commit_relation_list(struct commit *c, struct slice after, size_t limit, relation_fn fn,
                              void *arg, uint64_t *dep)
{
    struct relation **all = malloc(LIMIT_RELATIONS * sizeof *all);
    size_t n = 0;
    uint64_t last = 0;
    *dep = 0;
    if (!all)
        return ERR_NO_MEMORY;
    uint32_t count = atomic_load_explicit(&c->relations->count, memory_order_acquire);
    for (uint32_t id = 1; id <= count; id++) {
        struct relation *r = relation_of_id(c, id);
        last = r->seq > last ? r->seq : last;
        if (slice_compare(relation_name(r), after) > 0)
            all[n++] = r;
    }
    qsort(all, n, sizeof *all, by_name);
    bool more = true;
    for (size_t i = 0; i < n && i < limit && more; i++) {
        struct relation_view v = view_of(c, all[i]);
        more = fn(arg, &v);
    }
    free(all);
    *dep = not_durable(c, last);
    return ERR_OK;
}
