#include "rels_oracle.h"
#include <string.h>

static const struct {
    const char *name;
    struct relation_options options;
} relations[RELS] = {
    {"auto", {false, false, false}}, // made by its first addition
    {"rev", {true, false, false}},   {"recent", {false, true, false}},
    {"both", {true, true, false}},   {"lax", {true, false, true}},
};

struct slice rel_name(int rel)
{
    return slice_str(relations[rel].name);
}

const struct relation_options *rel_options(int rel)
{
    return &relations[rel].options;
}

// In rising order: single ones, dense ones, of which bitmaps are made, and some far apart.
static uint64_t member_id(size_t i)
{
    if (i < 16)
        return i * i * 1000003;
    if (i < 80)
        return (1ull << 32) + i + i / 8;
    return i + 1 == MEMBERS ? UINT64_MAX : (1ull << 40) * (i - 70) * (i - 70) + i;
}

static uint64_t from_id(size_t i)
{
    static const uint64_t ids[FROMS] = {0, 12345, UINT64_MAX};
    return ids[i];
}

// ---- the model

static void model_apply(struct rels_model *m, const struct rels_history *h,
                        const struct rel_event *e)
{
    if (e->makes) {
        m->exists[e->rel] = true;
        return;
    }
    struct model_list *l = &m->lists[e->rel][e->from];
    for (size_t i = 0; i < e->count; i++) {
        l->stamp[h->pool[e->at + i]] = e->adds ? ++m->stamps : 0;
        l->seqs[h->pool[e->at + i]] = (uint16_t)e->seq;
    }
    l->seq = e->seq;
    if (e->highest > m->highest[e->rel])
        m->highest[e->rel] = e->highest;
}

static void add_event(struct rels_history *h, const struct rel_event *e)
{
    CHECK(h->count < REL_EVENTS, "too many changes of relations");
    h->events[h->count++] = *e;
    model_apply(&h->now, h, e);
}

static void rels_at(const struct rels_history *h, uint64_t seq, struct rels_model *m)
{
    memset(m, 0, sizeof *m);
    for (size_t i = 0; i < h->count && h->events[i].seq <= seq; i++)
        model_apply(m, h, &h->events[i]);
}

void rels_made(struct rels_history *h, int rel, uint64_t seq)
{
    add_event(h, &(struct rel_event){.seq = seq, .rel = (uint8_t)rel, .makes = true});
}

bool rels_made_itself(struct commit *c, const struct rels_history *h, int *rel)
{
    for (int i = 0; i < RELS; i++) {
        struct relation *r;
        struct errmsg msg;
        if (h->now.exists[i] || find_relation(c, rel_name(i), &r, &msg) || !r)
            continue;
        *rel = i;
        return true;
    }
    return false;
}

// Members of a list in rising order (by_stamp: the last that arrived first), or of its reverse.
static size_t model_members(const struct rels_model *m, int rel, bool reverse, size_t which,
                            bool by_stamp, uint64_t *ids)
{
    size_t n = 0;
    uint16_t stamps[MEMBERS];
    if (reverse) {
        for (size_t i = 0; i < FROMS; i++)
            if (m->lists[rel][i].stamp[which])
                ids[n++] = from_id(i);
        return n;
    }
    const struct model_list *l = &m->lists[rel][which];
    for (size_t i = 0; i < MEMBERS; i++) {
        if (!l->stamp[i])
            continue;
        size_t at = n++;
        for (; by_stamp && at > 0 && stamps[at - 1] < l->stamp[i]; at--) {
            stamps[at] = stamps[at - 1];
            ids[at] = ids[at - 1];
        }
        stamps[at] = l->stamp[i];
        ids[at] = member_id(i);
    }
    return n;
}

// ---- changing

int rels_undeclared(const struct rels_history *h, uint64_t *rng)
{
    int rel = (int)(next(rng) % RELS);
    return rel == 0 || h->now.exists[rel] ? -1 : rel;
}

static size_t choose_members(const struct model_list *l, uint64_t *rng, bool adds, uint8_t *given)
{
    size_t n = 0;
    switch (next(rng) % 4) {
    case 0: // one
        given[n++] = (uint8_t)(next(rng) % MEMBERS);
        break;
    case 1: // some, in no order, one perhaps twice
        for (uint64_t k = next(rng) % 12; k > 0; k--)
            given[n++] = (uint8_t)(next(rng) % MEMBERS);
        break;
    case 2: { // a run of them
        size_t at = next(rng) % MEMBERS, most = next(rng) % 60;
        for (; n < most && at < MEMBERS; at++)
            given[n++] = (uint8_t)at;
        break;
    }
    default: // of all that are there (to be added: are not), most
        for (size_t i = 0; i < MEMBERS; i++)
            if ((l->stamp[i] == 0) == adds && next(rng) % 8)
                given[n++] = (uint8_t)i;
    }
    return n;
}

void rels_choose(const struct rels_history *h, uint64_t *rng, struct rel_plan *p)
{
    size_t count = 1 + next(rng) % EDITS_MAX;
    p->count = 0;
    for (size_t e = 0; e < count; e++) {
        int rel = (int)(next(rng) % RELS);
        if (rel && !h->now.exists[rel])
            continue;
        size_t k = p->count++, groups = next(rng) % 2 ? 1 : 1 + next(rng) % GROUPS_MAX;
        p->rels[k] = (uint8_t)rel;
        p->adds[k] = next(rng) % 5 < 3;
        for (size_t g = 0; g < groups; g++) {
            p->froms[k][g] = (uint8_t)(next(rng) % FROMS);
            size_t n =
                choose_members(&h->now.lists[rel][p->froms[k][g]], rng, p->adds[k], p->given[k][g]);
            for (size_t i = 0; i < n; i++)
                p->members[k][g][i] = member_id(p->given[k][g][i]);
            p->groups[k][g] = (struct rel_group){.from = from_id(p->froms[k][g]),
                                                 .members = (const uint8_t *)p->members[k][g],
                                                 .count = (uint32_t)n};
        }
        p->edits[k] =
            (struct rel_edit){.relation = rel_name(rel), .groups = p->groups[k], .count = groups};
    }
}

// What a group changes in a list, in the order in which it was given.
static size_t group_changes(const struct model_list *l, const struct rel_plan *p, size_t k,
                            size_t g, uint8_t *changed)
{
    bool seen[MEMBERS] = {0};
    size_t n = 0;
    for (size_t i = 0; i < p->groups[k][g].count; i++) {
        uint8_t m = p->given[k][g][i];
        if (!seen[m] && (l->stamp[m] != 0) != p->adds[k])
            changed[n++] = m;
        seen[m] = true;
    }
    return n;
}

bool rels_check(const struct rels_history *h, const struct rel_plan *p, bool *binds)
{
    static struct rels_model after;
    uint8_t changed[MEMBERS];
    bool any = false;
    after = h->now;
    *binds = false;
    for (size_t k = 0; k < p->count; k++) {
        const struct rel_edit *edit = &p->edits[k];
        uint64_t sum = 0;
        for (size_t g = 0; g < edit->count; g++) {
            struct model_list *l = &after.lists[p->rels[k]][p->froms[k][g]];
            size_t n = group_changes(l, p, k, g, changed);
            CHECK(edit->groups[g].changed == n,
                  "relation %s: %" PRIu32 " members changed, expected %zu",
                  relations[p->rels[k]].name, edit->groups[g].changed, n);
            for (size_t i = 0; i < n; i++)
                l->stamp[changed[i]] = p->adds[k];
            sum += n;
        }
        CHECK(edit->changed == sum, "relation %s: %" PRIu64 " changed in all, expected %" PRIu64,
              relations[p->rels[k]].name, edit->changed, sum);
        any = any || sum;
        *binds = *binds || (sum && !rel_options(p->rels[k])->relaxed);
    }
    return any;
}

uint64_t rels_shown(const struct rels_history *h, const struct rel_plan *p)
{
    uint64_t shows = 0;
    for (size_t k = 0; k < p->count; k++)
        for (size_t g = 0; g < p->edits[k].count && !rel_options(p->rels[k])->relaxed; g++) {
            const struct model_list *l = &h->now.lists[p->rels[k]][p->froms[k][g]];
            shows = l->seq > shows ? l->seq : shows;
        }
    return shows;
}

// The stamp of a member that is there.
static uint64_t stamp_of(struct commit *c, int rel, uint64_t from, uint64_t member)
{
    struct relation *r = NULL;
    struct errmsg msg;
    uint8_t found = 0;
    uint64_t stamp = 0, hash = rels_hash(c->rels, from);
    CHECK(!find_relation(c, rel_name(rel), &r, &msg) && r, "%s is gone", relations[rel].name);
    rels_lock(c->rels, rels_shard(hash));
    if (rels_find(c->rels, rel_table(r->id, REL_FORWARD), hash) == RELS_HERE)
        rels_contains(c->rels, rel_table(r->id, REL_FORWARD), hash, &member, 1, &found, &stamp);
    rels_unlock(c->rels, rels_shard(hash));
    return found ? stamp : 0; // it may have been evicted at once, or removed by the next edit
}

void rels_remember(struct commit *c, struct rels_history *h, const struct rel_plan *p, uint64_t seq)
{
    for (size_t k = 0; k < p->count; k++)
        for (size_t g = 0; g < p->edits[k].count; g++) {
            struct rel_event e = {.seq = seq,
                                  .rel = p->rels[k],
                                  .adds = p->adds[k],
                                  .from = p->froms[k][g],
                                  .at = (uint16_t)h->pooled};
            CHECK(h->pooled + MEMBERS <= REL_POOL, "too many members");
            e.count =
                (uint16_t)group_changes(&h->now.lists[e.rel][e.from], p, k, g, h->pool + e.at);
            if (!e.count)
                continue;
            h->pooled += e.count;
            if (e.adds && rel_options(e.rel)->recent)
                e.highest =
                    stamp_of(c, e.rel, from_id(e.from), member_id(h->pool[e.at + e.count - 1]));
            add_event(h, &e);
        }
}

// ---- reading

static void got(void *arg, enum err e)
{
    *(enum err *)arg = e;
}

// Calls until nothing is cold.
#define WARMLY(c, e, refs, n, call)                           \
    do {                                                      \
        enum err got_ = ERR_OK;                               \
        (e) = (call);                                         \
        if ((e) != ERR_COLD)                                  \
            break;                                            \
        (e) = commit_rel_fetch((c), (refs), (n), got, &got_); \
        (e) = (e) ? (e) : got_ ? got_ : ERR_COLD;             \
    } while ((e) == ERR_COLD)

static struct rel_ref ref_to(struct commit *c, int rel, bool reverse, size_t which)
{
    struct rel_ref r;
    struct errmsg msg = {0};
    uint64_t id = reverse ? member_id(which) : from_id(which);
    CHECK(!commit_rel_ref(c, rel_name(rel), id, reverse, &r, &msg), "%s", msg.text);
    return r;
}

struct reading {
    struct commit *c;
    int rel;
    bool reverse;
    size_t which;
    struct rel_ref ref;
    uint64_t dep;
};

static void note_dep(struct reading *r, uint64_t dep)
{
    CHECK(!rel_options(r->rel)->relaxed || dep == 0, "%s: an answer waits", relations[r->rel].name);
    r->dep = dep > r->dep ? dep : r->dep;
}

static enum err read_pages(struct reading *r, const struct rels_model *m, enum rel_order order,
                           size_t max)
{
    uint64_t want[MEMBERS];
    size_t n = model_members(m, r->rel, r->reverse, r->which, order == REL_NEWEST, want), at = 0;
    struct rel_page_query q = {.order = order, .max = max};
    struct rel_page page = {.more = true};
    struct errmsg msg = {0};
    struct buf b;
    buf_init(&b, sizeof want);
    while (page.more) {
        enum err e;
        uint64_t dep;
        buf_clear(&b);
        WARMLY(r->c, e, &r->ref, 1, commit_rel_page(r->c, &r->ref, &q, &b, &page, &dep, &msg));
        if (e) {
            buf_release(&b);
            return e;
        }
        note_dep(r, dep);
        CHECK(page.total == n && at + page.count <= n && buf_len(&b) == 8 * page.count,
              "%s%s %zu: a page of %zu members of %" PRIu64 " after %zu, expected %zu in all",
              relations[r->rel].name, r->reverse ? " reverse" : "", r->which, page.count,
              page.total, at, n);
        for (size_t i = 0; i < page.count; i++, at++) {
            uint64_t id = load64(buf_head(&b) + 8 * i);
            CHECK(id == want[order == REL_FALLING ? n - 1 - at : at],
                  "%s%s %zu order %d: member %zu of %zu is %" PRIu64, relations[r->rel].name,
                  r->reverse ? " reverse" : "", r->which, (int)order, at, n, id);
        }
        CHECK(!page.more || page.count == max, "%s: a page of %zu members has a next one",
              relations[r->rel].name, page.count);
        q.has_after = true;
        q.after = page.next;
    }
    CHECK(at == n, "%s%s %zu order %d: the pages end after %zu members of %zu",
          relations[r->rel].name, r->reverse ? " reverse" : "", r->which, (int)order, at, n);
    buf_release(&b);
    return ERR_OK;
}

static bool model_has(const struct rels_model *m, const struct reading *r, size_t i)
{
    size_t from = r->reverse ? i : r->which, member = r->reverse ? r->which : i;
    return m->lists[r->rel][from].stamp[member] != 0;
}

static enum err read_tests(struct reading *r, const struct rels_model *m)
{
    uint64_t ids[MEMBERS], dep;
    uint8_t found[MEMBERS];
    size_t n = r->reverse ? FROMS : MEMBERS;
    enum err e;
    for (size_t i = 0; i < n; i++)
        ids[i] = r->reverse ? from_id(i) : member_id(i);
    WARMLY(r->c, e, &r->ref, 1,
           commit_rel_contains(r->c, &r->ref, (const uint8_t *)ids, n, found, &dep));
    if (e)
        return e;
    note_dep(r, dep);
    for (size_t i = 0; i < n; i++)
        CHECK(found[i] == model_has(m, r, i), "%s%s %zu: has %" PRIu64 ": %d",
              relations[r->rel].name, r->reverse ? " reverse" : "", r->which, ids[i], found[i]);
    return ERR_OK;
}

// Two lists of a relation, not a reverse one, combined.
static enum err read_combined(struct reading *r, const struct rels_model *m, enum rel_combine how,
                              size_t other, size_t max)
{
    struct rel_ref refs[2] = {r->ref, ref_to(r->c, r->rel, false, other)};
    const uint16_t *a = m->lists[r->rel][r->which].stamp, *b = m->lists[r->rel][other].stamp;
    struct rel_page page = {.more = true};
    struct buf out;
    bool has_after = false;
    size_t i = 0;
    enum err e = ERR_OK;
    buf_init(&out, sizeof(uint64_t) * MEMBERS);
    while (page.more && !e) {
        uint64_t after = page.next, dep;
        buf_clear(&out);
        WARMLY(r->c, e, refs, 2,
               commit_rel_combine(r->c, how, refs, 2, has_after, after, max, &out, &page, &dep));
        if (e)
            break;
        note_dep(r, dep);
        for (size_t k = 0; k < page.count; k++, i++) {
            for (; i < MEMBERS; i++)
                if (how == REL_UNION ? a[i] || b[i] : a[i] && !b[i] == (how == REL_DIFFERENCE))
                    break;
            uint64_t id = load64(buf_head(&out) + 8 * k);
            CHECK(i < MEMBERS && id == member_id(i), "%s: combined %d: %" PRIu64,
                  relations[r->rel].name, (int)how, id);
        }
        has_after = true;
    }
    for (; i < MEMBERS && !e; i++)
        CHECK(!(how == REL_UNION ? a[i] || b[i] : a[i] && !b[i] == (how == REL_DIFFERENCE)),
              "%s: combined %d lacks %" PRIu64, relations[r->rel].name, (int)how, member_id(i));
    buf_release(&out);
    return e;
}

// Pages in any order.
static enum err read_list(struct reading *r, const struct rels_model *m, uint64_t *rng)
{
    bool newest = rel_options(r->rel)->recent && !r->reverse;
    size_t max = next(rng) % 2 ? MEMBERS : 1 + next(rng) % 40;
    enum rel_order order = (enum rel_order)(next(rng) % (newest ? 3 : 2));
    return read_pages(r, m, order, max);
}

enum err rels_read(struct commit *c, const struct rels_model *m, uint64_t *rng, uint64_t *dep,
                   uint64_t *shows)
{
    struct reading r = {.c = c, .rel = (int)(next(rng) % RELS)};
    const struct relation_options *o = rel_options(r.rel);
    r.reverse = m->exists[r.rel] && o->reverse && next(rng) % 2;
    r.which = next(rng) % (r.reverse ? MEMBERS : FROMS);
    r.ref = ref_to(c, r.rel, r.reverse, r.which);
    size_t other = next(rng) % FROMS;
    uint64_t way = next(rng) % 4;
    enum err e;
    *shows = r.reverse ? 0 : m->lists[r.rel][r.which].seq;
    for (size_t i = 0; i < FROMS && r.reverse; i++)
        if (m->lists[r.rel][i].seqs[r.which] > *shows)
            *shows = m->lists[r.rel][i].seqs[r.which];
    if (way == 0 && !r.reverse) {
        e = read_combined(&r, m, (enum rel_combine)(next(rng) % 3), other, 1 + next(rng) % 60);
        if (m->lists[r.rel][other].seq > *shows)
            *shows = m->lists[r.rel][other].seq;
    } else {
        e = way == 1 ? read_tests(&r, m) : read_list(&r, m, rng);
    }
    *dep = r.dep;
    if (o->relaxed || !m->exists[r.rel])
        *shows = 0;
    return e;
}

void rels_evict_all(struct commit *c)
{
    for (unsigned s = 0; s < RELS_SHARDS; s++) {
        rels_lock(c->rels, s);
        (void)rels_evict(c->rels, s, 0);
        rels_unlock(c->rels, s);
    }
}

// ---- after a crash

struct listing {
    const struct rels_model *m;
    int rel;
    bool reverse;
    size_t seen;
};

static bool list_one(void *arg, uint64_t from, uint64_t count)
{
    struct listing *l = arg;
    uint64_t ids[MEMBERS];
    size_t all = l->reverse ? MEMBERS : FROMS, i = 0;
    while (i < all && (l->reverse ? member_id(i) : from_id(i)) != from)
        i++;
    CHECK(i < all, "%s: a list of %" PRIu64, relations[l->rel].name, from);
    size_t n = model_members(l->m, l->rel, l->reverse, i, false, ids);
    CHECK(count == n && n > 0, "%s%s: the list of %" PRIu64 " has %" PRIu64 ", expected %zu",
          relations[l->rel].name, l->reverse ? " reverse" : "", from, count, n);
    l->seen++;
    return true;
}

static void compare_froms(struct commit *c, const struct rels_model *m, int rel, bool reverse)
{
    struct listing l = {m, rel, reverse, 0};
    struct errmsg msg = {0};
    uint64_t dep, ids[MEMBERS];
    size_t want = 0;
    CHECK(!commit_rel_froms(c, rel_name(rel), reverse, false, 0, 1000, list_one, &l, &dep, &msg),
          "%s", msg.text);
    for (size_t i = 0; i < (reverse ? MEMBERS : FROMS); i++)
        want += model_members(m, rel, reverse, i, false, ids) > 0;
    CHECK(l.seen == want, "%s%s: %zu lists are listed, expected %zu", relations[rel].name,
          reverse ? " reverse" : "", l.seen, want);
}

static void compare_relation(struct commit *c, const struct rels_model *m, int rel)
{
    struct relation_view v;
    struct errmsg msg = {0};
    uint64_t dep;
    enum err e = commit_relation_get(c, rel_name(rel), &v, &dep, &msg);
    CHECK(e == (m->exists[rel] ? ERR_OK : ERR_MISSING), "relation %s: %s", relations[rel].name,
          err_name(e));
    const struct relation_options *o = rel_options(rel);
    CHECK(e || (v.options.reverse == o->reverse && v.options.recent == o->recent &&
                v.options.relaxed == o->relaxed),
          "relation %s has other options", relations[rel].name);
    struct relation *r = NULL;
    CHECK(e || (!find_relation(c, rel_name(rel), &r, &msg) &&
                atomic_load(&r->stamps) >= m->highest[rel]),
          "relation %s: goes on after stamp %" PRIu64 ", %" PRIu64 " was given",
          relations[rel].name, atomic_load(&r->stamps), m->highest[rel]);
}

// Of reverse lists, some: the listing of all has their counts.
static void compare_lists(struct commit *c, const struct rels_model *m, int rel, bool reverse,
                          uint64_t *rng)
{
    size_t all = reverse ? MEMBERS : FROMS, step = reverse ? 16 : 1;
    for (size_t i = next(rng) % step; i < all; i += step) {
        struct reading r = {c, rel, reverse, i, ref_to(c, rel, reverse, i), 0};
        enum err e = read_list(&r, m, rng);
        if (!e && next(rng) % 4 == 0)
            e = read_tests(&r, m);
        CHECK(!e, "%s: %s", relations[rel].name, err_name(e));
    }
}

void rels_compare(struct commit *c, const struct rels_history *h, uint64_t seq, uint64_t *rng)
{
    static struct rels_model m;
    rels_at(h, seq, &m);
    for (int i = 0; i < RELS; i++) {
        bool reverse = rel_options(i)->reverse;
        compare_relation(c, &m, i);
        if (!m.exists[i])
            continue;
        if (next(rng) % 2)
            compare_froms(c, &m, i, reverse && next(rng) % 4);
        compare_lists(c, &m, i, false, rng);
        if (reverse)
            compare_lists(c, &m, i, true, rng);
    }
}

static void run_edit(struct commit *c, struct rel_edit *edit, enum txn_kind kind)
{
    struct txn_op op = {.kind = (uint8_t)kind, .edit = edit};
    struct txn t = {.ops = &op, .count = 1};
    for (;;) {
        struct errmsg msg = {0};
        uint64_t dep;
        enum err e = commit_txn(c, &t, &dep, &msg), fetched = ERR_OK;
        if (e == ERR_FULL && !commit_checkpoint(c, &msg))
            continue;
        if (e == ERR_COLD && !commit_txn_fetch(c, &t, got, &fetched) && !fetched)
            continue;
        CHECK(e == ERR_OK, "relation: %s %s", err_name(e), msg.text);
        return;
    }
}

void rels_go_on(struct commit *c, const struct rels_history *h, uint64_t seq, uint64_t *rng)
{
    static struct rels_model m;
    rels_at(h, seq, &m);
    int rel = (int)(next(rng) % RELS);
    size_t from = next(rng) % FROMS;
    struct model_list *l = &m.lists[rel][from];
    uint64_t in[4], out[4];
    uint32_t add = 0, remove = 0;
    if (!m.exists[rel])
        return;
    for (size_t i = 0, at = next(rng) % MEMBERS; i < MEMBERS; i++, at = (at + 37) % MEMBERS) {
        if (l->stamp[at] && remove < 4) {
            out[remove++] = member_id(at);
            l->stamp[at] = 0;
        } else if (!l->stamp[at] && add < 4) {
            in[add++] = member_id(at);
            l->stamp[at] = ++m.stamps;
        }
    }
    struct rel_group gone = {from_id(from), (const uint8_t *)out, remove, 0};
    struct rel_group came = {from_id(from), (const uint8_t *)in, add, 0};
    run_edit(c, &(struct rel_edit){rel_name(rel), &gone, 1, 0}, TXN_UNRELATE);
    run_edit(c, &(struct rel_edit){rel_name(rel), &came, 1, 0}, TXN_RELATE);
    CHECK(gone.changed == remove && came.changed == add,
          "%s: %" PRIu32 " removed, %" PRIu32 " added", relations[rel].name, gone.changed,
          came.changed);
    struct reading r = {c, rel, false, from, ref_to(c, rel, false, from), 0};
    enum rel_order order = rel_options(rel)->recent ? REL_NEWEST : REL_RISING;
    CHECK(!read_pages(&r, &m, order, 50), "%s", relations[rel].name);
    if (rel_options(rel)->reverse)
        compare_froms(c, &m, rel, true);
}
