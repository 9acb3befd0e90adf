// Relations in recovery: those below, then what was logged since. A checkpoint copied the tables
// one after another while they changed, so each may be ahead of what is replayed, and of another:
// every change is applied to each table by itself, and says what is there afterwards. The last
// change of a member is the one that counts, for all changes of it since the mark are in the log.
#include "commit/rel_int.h"

#include "base/assert.h"
#include <inttypes.h>
#include <stdlib.h>

enum { AHEAD_SLOT = 16, AHEAD_LIST = 8 }; // lists that are on their way into the cache

static enum err load_row(struct commit *c, struct slice key, struct slice value)
{
    struct change ch;
    uint64_t stamps;
    enum err e = rel_get_relation(key, value, &ch, &stamps);
    if (e)
        return e;
    if (ch.relation != atomic_load(&c->relations->count) + 1)
        return ERR_DAMAGED;
    struct relation *r = relation_put(c, ch.relation, ch.key, ch.created_ms, &ch.options, 0);
    if (!r)
        return ch.relation > LIMIT_RELATIONS ? ERR_DAMAGED : ERR_NO_MEMORY;
    raise_stamps(r, stamps);
    r->stored_stamps = stamps;
    return ERR_OK;
}

enum err load_relations(struct commit *c, struct errmsg *msg)
{
    struct store_iter *it;
    uint8_t from[] = {REL_ROW_RELATION}, to[] = {REL_ROW_RELATION + 1};
    enum err e = store_iter_range(c->store, STORE_RELS, slice_of(from, 1), slice_of(to, 1), &it);
    if (e)
        return err_set(msg, e, "cannot read the relations in the store: %s", err_text(e));
    for (; !e && store_iter_valid(it); store_iter_next(it))
        if ((e = load_row(c, store_iter_key(it), store_iter_value(it))))
            err_set(msg, e, "a relation's row in the store: %s", err_text(e));
    if (!e)
        e = store_iter_status(it, msg);
    store_iter_free(it);
    return e;
}

enum err any_lists_below(struct commit *c, bool *any, struct errmsg *msg)
{
    struct store_iter *it;
    uint8_t from[] = {REL_ROW_LIST}, to[] = {REL_ROW_LIST + 1};
    enum err e = store_iter_range(c->store, STORE_RELS, slice_of(from, 1), slice_of(to, 1), &it);
    if (e)
        return err_set(msg, e, "cannot read the lists in the store: %s", err_text(e));
    *any = store_iter_valid(it);
    e = store_iter_status(it, msg);
    store_iter_free(it);
    return e;
}

// ---- what was logged

// Room for one list's members in several forms.
struct redo {
    struct commit *c;
    const struct relation *relation;
    bool adds;
    uint64_t *members, *stamps;   // of one list, as logged
    uint64_t *ids, *payloads;     // stamps and their members, in the order of stamps
    uint64_t *out, *out_payloads; // what changed, which nobody asks here
    struct rel_pair *pairs, *other;
};

// Changes one list, which is loaded first if it is cold. Nobody else is about.
static enum err redo_list(struct redo *r, enum rel_part part, uint64_t hash, const uint64_t *ids,
                          const uint64_t *payloads, size_t n)
{
    struct rels *rels = r->c->rels;
    uint32_t table = rel_table(r->relation->id, part);
    uint64_t *out_payloads = rel_payloads(r->relation, part) ? r->out_payloads : NULL;
    unsigned shard = rels_shard(hash);
    size_t changed;
    enum err e = ERR_OK;
    rels_lock(rels, shard);
    while (!e && rels_find(rels, table, hash) == RELS_COLD) {
        rels_unlock(rels, shard);
        e = load_list(r->c, table, hash, false);
        rels_lock(rels, shard);
    }
    if (!e && r->adds)
        e = rels_add(rels, table, hash, ids, payloads, n, r->out, out_payloads, &changed);
    else if (!e)
        e = rels_remove(rels, table, hash, ids, n, r->out, out_payloads, &changed);
    rels_unlock(rels, shard);
    return e;
}

// The order of arrival: members by their stamps.
static enum err redo_recent(struct redo *r, uint64_t hash, size_t n)
{
    for (size_t i = 0; i < n; i++)
        r->pairs[i] = (struct rel_pair){r->stamps[i], r->members[i]};
    const struct rel_pair *p = sort_pairs(r->pairs, r->other, n);
    for (size_t i = 0; i < n; i++) {
        r->ids[i] = p[i].key;
        r->payloads[i] = p[i].at;
        if (i && p[i].key == p[i - 1].key)
            return ERR_DAMAGED;
    }
    return redo_list(r, REL_RECENT, hash, r->ids, r->payloads, n);
}

static enum err redo_one(struct redo *r, uint64_t from, size_t n)
{
    uint64_t hash = rels_hash(r->c->rels, from);
    const struct relation_options *o = &r->relation->options;
    enum err e = redo_list(r, REL_FORWARD, hash, r->members, o->recent ? r->stamps : NULL, n);
    if (!e && o->recent)
        e = redo_recent(r, hash, n);
    uint32_t table = rel_table(r->relation->id, REL_REVERSE);
    for (size_t i = 0; o->reverse && i < n && !e && VARVE_BUG != 36; i++) {
        if (i + AHEAD_SLOT < n)
            rels_prefetch_slot(r->c->rels, table,
                               rels_hash(r->c->rels, r->members[i + AHEAD_SLOT]));
        if (i + AHEAD_LIST < n)
            rels_prefetch_list(r->c->rels, table,
                               rels_hash(r->c->rels, r->members[i + AHEAD_LIST]));
        e = redo_list(r, REL_REVERSE, rels_hash(r->c->rels, r->members[i]), &from, NULL, 1);
    }
    return e;
}

static enum err redo_lists(struct redo *r, const struct change *ch)
{
    struct rels *rels = r->c->rels;
    uint32_t table = rel_table(r->relation->id, REL_FORWARD);
    size_t lists = ch->froms.n / 8, at = 0;
    enum err e = ERR_OK;
    for (size_t i = 0; i < lists && !e; i++) {
        uint32_t n = load32(ch->counts.p + 4 * i);
        if (i + AHEAD_SLOT < lists)
            rels_prefetch_slot(rels, table,
                               rels_hash(rels, load64(ch->froms.p + 8 * (i + AHEAD_SLOT))));
        if (i + AHEAD_LIST < lists)
            rels_prefetch_list(rels, table,
                               rels_hash(rels, load64(ch->froms.p + 8 * (i + AHEAD_LIST))));
        memcpy(r->members, ch->members.p + 8 * at, 8 * (size_t)n);
        if (ch->stamps.n)
            memcpy(r->stamps, ch->stamps.p + 8 * at, 8 * (size_t)n);
        e = redo_one(r, load64(ch->froms.p + 8 * i), n);
        at += n;
    }
    return e;
}

static enum err redo_change(struct commit *c, const struct change *ch)
{
    enum { FEW = 64, WORDS = 10 }; // words for each member of the largest list
    uint64_t few[FEW * WORDS], *room = few;
    struct redo r = {c, .relation = relation_of_id(c, ch->relation),
                     .adds = ch->kind == CHANGE_RELATE};
    size_t most = 0;
    if (!r.relation || r.relation->options.recent != (ch->stamps.n > 0))
        return ERR_DAMAGED;
    for (size_t i = 0; i < ch->counts.n; i += 4)
        most = load32(ch->counts.p + i) > most ? load32(ch->counts.p + i) : most;
    if (most > FEW && !(room = malloc(most * WORDS * sizeof *room)))
        return ERR_NO_MEMORY;
    r.members = room;
    r.stamps = r.members + most;
    r.ids = r.stamps + most;
    r.payloads = r.ids + most;
    r.out = r.payloads + most;
    r.out_payloads = r.out + most;
    r.pairs = (struct rel_pair *)(r.out_payloads + most);
    r.other = r.pairs + most;
    enum err e = redo_lists(&r, ch);
    for (size_t i = 0; r.adds && i < ch->stamps.n; i += 8)
        raise_stamps(relation_of_id(c, ch->relation), load64(ch->stamps.p + i));
    if (room != few)
        free(room);
    return e;
}

// One that is below already is the same.
static enum err redo_relation(struct commit *c, const struct change *ch, uint64_t seq)
{
    const struct relation *r = relation_of_id(c, ch->relation);
    if (r)
        return slice_equal(relation_name(r), ch->key) ? ERR_OK : ERR_DAMAGED;
    if (ch->relation > LIMIT_RELATIONS || ch->relation != atomic_load(&c->relations->count) + 1)
        return ERR_DAMAGED;
    bool made = relation_put(c, ch->relation, ch->key, ch->created_ms, &ch->options, seq) != NULL;
    return made ? ERR_OK : ERR_NO_MEMORY;
}

enum err apply_rel_change(struct commit *c, const struct change *ch, uint64_t seq,
                          struct errmsg *msg)
{
    enum err e = ch->kind == CHANGE_RELATION ? redo_relation(c, ch, seq) : redo_change(c, ch);
    return e ? err_set(msg, e, "sequence %" PRIu64 " does not fit relation %" PRIu32 ": %s", seq,
                       ch->relation, err_text(e))
             : ERR_OK;
}
