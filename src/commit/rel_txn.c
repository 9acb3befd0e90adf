// A transaction's edits of relations, as steps of txn.c's life of a transaction:
//
//   order    the groups of each edit by the hashes of their lists; relations that an addition names
//            are made, in transactions of their own
//   lock     the shards of all lists, in rising order, after those of all keys and logs
//   gather   every list must be in memory, or be known to have no members
//   apply    the lists change where they lie; what really changed is noted in columns, which are
//            what is logged. Nobody sees it: the shards are locked
//   undo     if the log does not take it, the columns are walked backwards
//   log      a change for each edit that changed something
//   publish  the sequence is noted at every list that changed
//
// Of a relation each table is changed for itself, so that a change is the same whatever a
// checkpoint has captured of the others.
#include "commit/rel_int.h"
#include "commit/txn_int.h"
#include "base/assert.h"
#include <inttypes.h>
#include <stdlib.h>

enum {
    PREFETCH_MOST = 256, // lists brought into the cache before the shards are locked; of more
    AHEAD_SLOT = 16,     // groups, those that are this far ahead
    AHEAD_LIST = 8,
};

// ---- shape

enum err check_edit(struct work *w, size_t i, const struct rel_edit *edit)
{
    struct rel_work *r = &w->rels;
    if (edit->count == 0)
        return err_set(w->msg, ERR_INVALID, "operation %zu: no lists to change", i);
    r->groups += edit->count;
    for (size_t g = 0; g < edit->count && r->groups <= LIMIT_REL_MEMBERS; g++) {
        r->members += edit->groups[g].count;
        r->largest = edit->groups[g].count > r->largest ? edit->groups[g].count : r->largest;
    }
    if (r->groups > LIMIT_REL_MEMBERS || r->members > LIMIT_REL_MEMBERS)
        return err_set(w->msg, ERR_TOO_BIG,
                       "operation %zu: more than %u members, or lists, in one transaction, the "
                       "limit",
                       i, LIMIT_REL_MEMBERS);
    r->count++;
    return ERR_OK;
}

// ---- order

static void *take(uint8_t **at, size_t bytes)
{
    void *p = *at;
    *at += (bytes + 7) & ~(size_t)7;
    return p;
}

// All arrays in one piece of memory, on the caller's stack if it is small.
static enum err make_room(struct work *w, void *few, size_t few_bytes)
{
    struct rel_work *r = &w->rels;
    size_t g = r->groups, m = r->members, most = r->largest > g ? r->largest : g;
    size_t bytes = g * (sizeof *r->places + sizeof *r->froms) + (g + 1) * sizeof *r->counts +
                   m * (sizeof *r->changed + sizeof *r->stamps) + most * 2 * sizeof *r->pairs +
                   r->largest * 4 * sizeof *r->ids + 64;
    uint8_t *at = few;
    if (bytes > few_bytes && !(at = r->memory = malloc(bytes)))
        return err_set(w->msg, ERR_NO_MEMORY, "out of memory");
    r->places = take(&at, g * sizeof *r->places);
    r->froms = take(&at, g * sizeof *r->froms);
    r->changed = take(&at, m * sizeof *r->changed);
    r->stamps = take(&at, m * sizeof *r->stamps);
    r->pairs = take(&at, most * sizeof *r->pairs);
    r->other = take(&at, most * sizeof *r->other);
    r->ids = take(&at, r->largest * sizeof *r->ids);
    r->payloads = take(&at, r->largest * sizeof *r->payloads);
    r->out = take(&at, r->largest * sizeof *r->out);
    r->out_payloads = take(&at, r->largest * sizeof *r->out_payloads);
    r->counts = take(&at, g * sizeof *r->counts);
    return ERR_OK;
}

static void add_shards(struct work *w, const struct rel_step *s)
{
    struct rel_work *r = &w->rels;
    const struct rel_edit *edit = s->op->edit;
    for (size_t i = 0; i < s->count; i++)
        r->shards |= 1ull << rels_shard(s->places[i].key);
    for (size_t g = 0; s->relation->options.reverse && g < edit->count; g++)
        for (uint32_t i = 0; i < edit->groups[g].count && r->shards != UINT64_MAX; i++)
            r->shards |= 1ull << rels_shard(rels_hash(
                             w->c->rels, load64(edit->groups[g].members + 8 * (size_t)i)));
}

static void order_groups(struct work *w, struct rel_step *s, size_t at)
{
    struct rel_work *r = &w->rels;
    const struct rel_edit *edit = s->op->edit;
    s->places = r->places + at;
    s->count = s->relation ? edit->count : 0;
    for (size_t g = 0; g < s->count; g++)
        r->pairs[g] = (struct rel_pair){rels_hash(w->c->rels, edit->groups[g].from), g};
    if (s->count)
        memcpy(s->places, sort_pairs(r->pairs, r->other, s->count), s->count * sizeof *s->places);
    if (s->count)
        add_shards(w, s);
}

static enum err find_step(struct work *w, struct rel_step *s, struct txn_op *op)
{
    struct rel_edit *edit = op->edit;
    struct errmsg why;
    *s = (struct rel_step){.op = op, .adds = op->kind == TXN_RELATE};
    edit->changed = 0;
    for (size_t g = 0; g < edit->count; g++)
        edit->groups[g].changed = 0;
    op->conflict = false;
    op->actual = op->new_version = 0;
    op->number = 0;
    enum err e = s->adds ? need_relation(w->c, edit->relation, &s->relation, &why)
                         : find_relation(w->c, edit->relation, &s->relation, &why);
    if (e)
        return err_set(w->msg, e, "operation %zu: %s", (size_t)(op - w->t->ops), why.text);
    return ERR_OK;
}

// Calls fn for every list that the transaction looks at; stops when it returns false.
static inline __attribute__((always_inline)) bool
each_list(struct work *w, bool (*fn)(struct work *w, uint32_t table, uint64_t hash))
{
    for (size_t i = 0; i < w->rels.count; i++) {
        const struct rel_step *s = &w->rels.steps[i];
        for (size_t p = 0; p < s->count; p++) {
            const struct rel_group *g = &s->op->edit->groups[s->places[p].at];
            uint64_t hash = s->places[p].key;
            if (!fn(w, rel_table(s->relation->id, REL_FORWARD), hash) ||
                (s->relation->options.recent &&
                 !fn(w, rel_table(s->relation->id, REL_RECENT), hash)))
                return false;
            for (uint32_t m = 0; s->relation->options.reverse && m < g->count; m++)
                if (!fn(w, rel_table(s->relation->id, REL_REVERSE),
                        rels_hash(w->c->rels, load64(g->members + 8 * (size_t)m))))
                    return false;
        }
    }
    return true;
}

static bool prefetch_slot(struct work *w, uint32_t table, uint64_t hash)
{
    rels_prefetch_slot(w->c->rels, table, hash);
    return true;
}

static bool prefetch_list(struct work *w, uint32_t table, uint64_t hash)
{
    rels_prefetch_list(w->c->rels, table, hash);
    return true;
}

enum err order_rels(struct work *w, void *few, size_t few_bytes)
{
    struct rel_work *r = &w->rels;
    size_t n = 0, at = 0;
    if (r->count == 0)
        return ERR_OK;
    enum err e = make_room(w, few, few_bytes);
    for (size_t i = 0; i < w->t->count && !e; i++) {
        struct txn_op *op = &w->t->ops[i];
        if (op->kind != TXN_RELATE && op->kind != TXN_UNRELATE)
            continue;
        if ((e = find_step(w, &r->steps[n], op)))
            break;
        order_groups(w, &r->steps[n++], at);
        at += op->edit->count;
    }
    if (e)
        return e;
    VERIFY(n == r->count);
    if (r->groups + r->members <= PREFETCH_MOST) {
        (void)each_list(w, prefetch_slot);
        (void)each_list(w, prefetch_list);
    }
    return ERR_OK;
}

// ---- lock and gather

void unlock_rels(struct work *w)
{
    for (uint64_t left = w->rels.shards; left;) { // in falling order, as txn.c does
        unsigned shard = 63 - (unsigned)__builtin_clzll(left);
        rels_unlock(w->c->rels, shard);
        left &= ~(1ull << shard);
    }
}

static bool is_warm(struct work *w, uint32_t table, uint64_t hash)
{
    return rels_find(w->c->rels, table, hash) != RELS_COLD;
}

static bool load_in_place(struct work *w, uint32_t table, uint64_t hash)
{
    return !(w->rels.failed = load_list_locked(w->c, table, hash));
}

static bool load_from_memory(struct work *w, uint32_t table, uint64_t hash)
{
    return !(w->rels.failed = load_list(w->c, table, hash, true));
}

// What the answer rests on: also one which says that nothing changed.
static void gather_deps(struct work *w)
{
    for (size_t i = 0; i < w->rels.count; i++) {
        const struct rel_step *s = &w->rels.steps[i];
        for (size_t p = 0; p < s->count && !s->relation->options.relaxed; p++) {
            uint64_t dep = rel_dep(w->c, s->relation, rel_table(s->relation->id, REL_FORWARD),
                                   s->places[p].key);
            w->dep = dep > w->dep ? dep : w->dep;
        }
    }
}

// Loads what is missing with the shards locked if `in_place`, so that nothing is evicted before all
// is there.
enum err lock_and_gather_rels(struct work *w, bool in_place)
{
    for (uint64_t left = w->rels.shards; left; left &= left - 1)
        rels_lock(w->c->rels, (unsigned)__builtin_ctzll(left));
    w->rels.failed = ERR_COLD;
    bool warm = each_list(w, is_warm) || (in_place && each_list(w, load_in_place));
    if (!warm) {
        unlock_rels(w);
        return w->rels.failed;
    }
    gather_deps(w);
    return ERR_OK;
}

// Unlocked.
enum err load_rels(struct work *w)
{
    return each_list(w, load_from_memory) ? ERR_OK : w->rels.failed;
}

static void put_list(struct rels_list *out, size_t cap, size_t *n, uint32_t table, uint64_t hash)
{
    if (*n < cap)
        out[*n] = (struct rels_list){table, hash};
    ++*n;
}

size_t rel_lists(struct commit *c, const struct txn *t, struct rels_list *out, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < t->count; i++) {
        const struct txn_op *op = &t->ops[i];
        struct relation *r;
        struct errmsg msg;
        if ((op->kind != TXN_RELATE && op->kind != TXN_UNRELATE) ||
            find_relation(c, op->edit->relation, &r, &msg) || !r)
            continue;
        for (size_t k = 0; k < op->edit->count; k++) {
            const struct rel_group *g = &op->edit->groups[k];
            uint64_t hash = rels_hash(c->rels, g->from);
            put_list(out, cap, &n, rel_table(r->id, REL_FORWARD), hash);
            if (r->options.recent)
                put_list(out, cap, &n, rel_table(r->id, REL_RECENT), hash);
            for (uint32_t m = 0; r->options.reverse && m < g->count; m++)
                put_list(out, cap, &n, rel_table(r->id, REL_REVERSE),
                         rels_hash(c->rels, load64(g->members + 8 * (size_t)m)));
        }
    }
    return n;
}

// ---- apply

// The members of a group, rising and each once, to r->ids; if they come to a relation with an order
// of arrival, their stamps to r->payloads: in the order in which they were given.
static size_t take_members(struct rel_work *r, const struct rel_step *s, const struct rel_group *g)
{
    size_t n = g->count, kept = 0;
    uint64_t falls = 0, stamp = 0;
    if (n)
        memcpy(r->ids, g->members, 8 * n);
    for (size_t i = 1; i < n; i++)
        falls |= r->ids[i] <= r->ids[i - 1];
    bool stamped = s->adds && s->relation->options.recent;
    if (stamped)
        stamp = atomic_fetch_add_explicit(&s->relation->stamps, n, memory_order_relaxed) + 1;
    for (size_t i = 0; i < n && stamped && !falls; i++)
        r->payloads[i] = stamp + i;
    if (!falls)
        return n;
    for (size_t i = 0; i < n; i++)
        r->pairs[i] = (struct rel_pair){r->ids[i], i};
    const struct rel_pair *p = sort_pairs(r->pairs, r->other, n);
    for (size_t i = 0; i < n; i++) {
        if (kept && r->ids[kept - 1] == p[i].key)
            continue; // again: the first one counts
        r->ids[kept] = p[i].key;
        r->payloads[kept++] = stamp + p[i].at;
    }
    return kept;
}

// Changes one table's list of `hash`. What changed goes to r->out.
static enum err change_list(struct work *w, bool adds, uint32_t table, uint64_t hash,
                            const uint64_t *ids, const uint64_t *payloads, size_t n)
{
    struct rel_work *r = &w->rels;
    uint64_t *out_payloads = payloads ? r->out_payloads : NULL;
    size_t changed;
    return adds
               ? rels_add(w->c->rels, table, hash, ids, payloads, n, r->out, out_payloads, &changed)
               : rels_remove(w->c->rels, table, hash, ids, n, r->out, out_payloads, &changed);
}

// The order of arrival: members by their stamps.
static enum err change_recent(struct work *w, const struct rel_step *s, bool adds, uint64_t hash,
                              const uint64_t *members, const uint64_t *stamps, size_t n)
{
    struct rel_work *r = &w->rels;
    uint32_t table = rel_table(s->relation->id, REL_RECENT);
    uint64_t falls = 0;
    for (size_t i = 1; i < n; i++)
        falls |= stamps[i] <= stamps[i - 1];
    if (!falls)
        return change_list(w, adds, table, hash, stamps, members, n);
    for (size_t i = 0; i < n; i++)
        r->pairs[i] = (struct rel_pair){stamps[i], members[i]};
    const struct rel_pair *p = sort_pairs(r->pairs, r->other, n);
    for (size_t i = 0; i < n; i++) {
        r->ids[i] = p[i].key;
        r->payloads[i] = p[i].at;
    }
    return change_list(w, adds, table, hash, r->ids, r->payloads, n);
}

// The other tables of a relation after the list of `from` changed by these members.
static enum err change_others(struct work *w, const struct rel_step *s, bool adds, uint64_t from,
                              uint64_t hash, const uint64_t *members, const uint64_t *stamps,
                              size_t n)
{
    struct rels *rels = w->c->rels;
    uint32_t table = rel_table(s->relation->id, REL_REVERSE);
    enum err e = ERR_OK;
    if (s->relation->options.recent)
        e = change_recent(w, s, adds, hash, members, stamps, n);
    if (VARVE_BUG == 47 && !adds) // the reverse side stays
        return e;
    for (size_t i = 0; s->relation->options.reverse && i < n && !e; i++) {
        if (i + AHEAD_SLOT < n)
            rels_prefetch_slot(rels, table, rels_hash(rels, members[i + AHEAD_SLOT]));
        if (i + AHEAD_LIST < n)
            rels_prefetch_list(rels, table, rels_hash(rels, members[i + AHEAD_LIST]));
        e = change_list(w, adds, table, rels_hash(rels, members[i]), &from, NULL, 1);
    }
    return e;
}

static enum err apply_group(struct work *w, struct rel_step *s, const struct rel_pair *place)
{
    struct rel_work *r = &w->rels;
    struct rel_group *g = &s->op->edit->groups[place->at];
    bool recent = s->relation->options.recent;
    uint32_t table = rel_table(s->relation->id, REL_FORWARD);
    size_t n = take_members(r, s, g), changed = 0;
    uint64_t *members = r->changed + r->change_count, *stamps = r->stamps + r->change_count;
    if (n == 0)
        return ERR_OK;
    enum err e = s->adds
                     ? rels_add(w->c->rels, table, place->key, r->ids, recent ? r->payloads : NULL,
                                n, members, recent ? stamps : NULL, &changed)
                     : rels_remove(w->c->rels, table, place->key, r->ids, n, members,
                                   recent ? stamps : NULL, &changed);
    if (e || changed == 0)
        return e;
    r->froms[r->list_count] = g->from;
    r->counts[r->list_count++] = (uint32_t)changed;
    r->change_count += changed;
    s->lists++;
    s->members += changed;
    g->changed = (uint32_t)changed;
    return change_others(w, s, s->adds, g->from, place->key, members, stamps, changed);
}

static enum err apply_edit(struct work *w, struct rel_step *s)
{
    struct rel_work *r = &w->rels;
    uint32_t table = s->count ? rel_table(s->relation->id, REL_FORWARD) : 0;
    bool ahead = s->count > PREFETCH_MOST;
    s->list_at = r->list_count;
    s->member_at = r->change_count;
    for (size_t i = 0; i < s->count; i++) {
        if (ahead && i + AHEAD_SLOT < s->count)
            rels_prefetch_slot(w->c->rels, table, s->places[i + AHEAD_SLOT].key);
        if (ahead && i + AHEAD_LIST < s->count)
            rels_prefetch_list(w->c->rels, table, s->places[i + AHEAD_LIST].key);
        enum err e = apply_group(w, s, &s->places[i]);
        if (e)
            return e;
    }
    s->op->edit->changed = s->members;
    s->op->number = (int64_t)s->members;
    return ERR_OK;
}

// One list as it was before. Parts of it that did not change yet stay as they are.
static enum err undo_list(struct work *w, const struct rel_step *s, size_t list, size_t at)
{
    struct rel_work *r = &w->rels;
    const uint64_t *members = r->changed + at, *stamps = r->stamps + at;
    uint64_t hash = rels_hash(w->c->rels, r->froms[list]);
    uint32_t table = rel_table(s->relation->id, REL_FORWARD);
    enum err e =
        change_others(w, s, !s->adds, r->froms[list], hash, members, stamps, r->counts[list]);
    enum err f = change_list(w, !s->adds, table, hash, members,
                             s->relation->options.recent ? stamps : NULL, r->counts[list]);
    return e ? e : f;
}

// Undoing may need memory too. Without, what is in memory is not what is in the log, and only
// recovery can go on.
void undo_rels(struct work *w)
{
    struct rel_work *r = &w->rels;
    size_t at = r->change_count;
    if (VARVE_BUG == 37)
        return;
    for (size_t i = r->count; i-- > 0;) {
        const struct rel_step *s = &r->steps[i];
        for (size_t list = s->list_at + s->lists; s->lists && list-- > s->list_at;) {
            at -= r->counts[list];
            if (undo_list(w, s, list, at) && w->c->o.on_fatal)
                w->c->o.on_fatal(w->c->o.arg, "out of memory while a change of relations that "
                                              "could not be logged was undone");
        }
    }
}

enum err apply_rels(struct work *w)
{
    for (size_t i = 0; i < w->rels.count; i++) {
        enum err e = apply_edit(w, &w->rels.steps[i]);
        if (e) {
            undo_rels(w);
            return err_set(w->msg, e, "%s", err_text(e));
        }
    }
    return ERR_OK;
}

// ---- log and publish

bool rel_change(const struct work *w, size_t i, struct change *ch)
{
    const struct rel_work *r = &w->rels;
    const struct rel_step *s = &r->steps[i];
    if (s->members == 0 || (VARVE_BUG == 35 && !s->adds))
        return false;
    *ch = (struct change){
        .kind = s->adds ? CHANGE_RELATE : CHANGE_UNRELATE,
        .relation = s->relation->id,
        .froms = slice_of(r->froms + s->list_at, s->lists * sizeof *r->froms),
        .counts = slice_of(r->counts + s->list_at, s->lists * sizeof *r->counts),
        .members = slice_of(r->changed + s->member_at, s->members * sizeof *r->changed),
    };
    if (s->relation->options.recent)
        ch->stamps = slice_of(r->stamps + s->member_at, s->members * sizeof *r->stamps);
    if (VARVE_BUG == 43 && s->lists > 1) { // of several lists the last is not logged
        size_t less = 8 * (size_t)r->counts[s->list_at + s->lists - 1];
        ch->froms.n -= 8;
        ch->counts.n -= 4;
        ch->members.n -= less;
        ch->stamps.n -= ch->stamps.n ? less : 0;
    }
    return true;
}

bool rels_bind(const struct work *w)
{
    for (size_t i = 0; i < w->rels.count; i++)
        if (w->rels.steps[i].members && !w->rels.steps[i].relation->options.relaxed)
            return true;
    return false;
}

static void note_list(struct work *w, const struct relation *rel, uint64_t from,
                      const uint64_t *members, size_t n, uint64_t seq)
{
    struct rels *rels = w->c->rels;
    uint64_t hash = rels_hash(rels, from);
    if (VARVE_BUG == 41) // answers about it leave before the sync
        return;
    rels_note(rels, rel_table(rel->id, REL_FORWARD), hash, seq);
    if (rel->options.recent)
        rels_note(rels, rel_table(rel->id, REL_RECENT), hash, seq);
    for (size_t i = 0; rel->options.reverse && i < n; i++)
        rels_note(rels, rel_table(rel->id, REL_REVERSE), rels_hash(rels, members[i]), seq);
}

void publish_rels(struct work *w, uint64_t seq)
{
    struct rel_work *r = &w->rels;
    for (size_t i = 0; i < r->count; i++) {
        const struct rel_step *s = &r->steps[i];
        size_t at = s->member_at;
        for (size_t list = s->list_at; list < s->list_at + s->lists; at += r->counts[list++])
            note_list(w, s->relation, r->froms[list], r->changed + at, r->counts[list], seq);
        count(s->adds ? &w->c->related : &w->c->unrelated, s->members);
    }
    for (uint64_t left = r->change_count ? r->shards : 0; left; left &= left - 1)
        trim_rel_shard(w->c, (unsigned)__builtin_ctzll(left));
}
