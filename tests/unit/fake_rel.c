#include "fake_rel.h"
#include "base/assert.h"
#include "base/limits.h"
#include "fake_commit.h"
#include "fake_log.h"
#include <stdlib.h>

struct fake_list {
    uint64_t from;
    uint64_t *members; // rising
    uint64_t *stamps;  // when each arrived
    size_t count, cap;
    bool cold;
};
struct relation {
    struct relation *next; // in the order of names
    char name[LIMIT_RELATION_NAME];
    size_t name_len;
    uint64_t created_ms;
    struct relation_options options;
    struct fake_list *lists; // in the order of their making
    size_t count;
    uint64_t stamp;
    bool cold_reverse;
};
struct fake_rels {
    struct relation *relations;
    uint64_t created;
    size_t work;
};

struct fake_rels *fake_rels_new(void)
{
    struct fake_rels *r = calloc(1, sizeof *r);
    VERIFY(r);
    return r;
}

void fake_rels_free(struct fake_rels *r)
{
    for (struct relation *n = r->relations, *next; n; n = next) {
        next = n->next;
        for (size_t i = 0; i < n->count; i++) {
            free(n->lists[i].members);
            free(n->lists[i].stamps);
        }
        free(n->lists);
        free(n);
    }
    free(r);
}

// ---- relations

static enum err check_name(struct slice name, struct errmsg *msg)
{
    bool good = name.n >= 1 && name.n <= LIMIT_RELATION_NAME;
    for (size_t i = 0; good && i < name.n; i++) {
        uint8_t c = name.p[i];
        good = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '_' ||
               (i && c && strchr(".:-", c));
    }
    return good ? ERR_OK : err_set(msg, ERR_INVALID, "the relation's name is not one");
}

static struct slice name_of(const struct relation *n)
{
    return slice_of(n->name, n->name_len);
}

static struct relation **place(struct fake_rels *r, struct slice name)
{
    struct relation **at = &r->relations;
    while (*at && slice_compare(name_of(*at), name) < 0)
        at = &(*at)->next;
    return at;
}

static struct relation *find(struct fake_rels *r, struct slice name)
{
    struct relation *n = *place(r, name);
    return n && slice_equal(name_of(n), name) ? n : NULL;
}

static struct relation *make(struct fake_rels *r, struct slice name,
                             const struct relation_options *o)
{
    struct relation **at = place(r, name);
    struct relation *n = calloc(1, sizeof *n);
    VERIFY(n && name.n <= sizeof n->name);
    *n = (struct relation){.next = *at, .name_len = name.n, .created_ms = ++r->created};
    memcpy(n->name, name.p, name.n);
    if (o)
        n->options = *o;
    return *at = n;
}

enum err commit_relation_create(struct commit *c, struct slice name,
                                const struct relation_options *o, uint64_t *created_ms,
                                uint64_t *dep, struct errmsg *msg)
{
    struct fake_rels *r = fake_commit_rels(c);
    enum err e = fake_commit_forced(c);
    if (!e)
        e = check_name(name, msg);
    if (e)
        return e;
    *dep = fake_commit_seq(c);
    if (find(r, name))
        return err_set(msg, ERR_EXISTS, "the relation exists already");
    *created_ms = make(r, name, o)->created_ms;
    *dep = fake_commit_bump(c);
    return ERR_OK;
}

static struct relation_view view(const struct relation *n)
{
    struct relation_view v = {
        .name = name_of(n), .created_ms = n->created_ms, .options = n->options};
    for (size_t i = 0; i < n->count; i++) {
        v.resident_lists += n->lists[i].count > 0;
        v.resident_members += n->lists[i].count;
    }
    return v;
}

enum err commit_relation_get(struct commit *c, struct slice name, struct relation_view *v,
                             uint64_t *dep, struct errmsg *msg)
{
    enum err e = check_name(name, msg);
    if (e)
        return e;
    struct relation *n = find(fake_commit_rels(c), name);
    *dep = fake_commit_seq(c);
    if (!n)
        return ERR_MISSING;
    *v = view(n);
    return ERR_OK;
}

enum err commit_relation_list(struct commit *c, struct slice after, size_t limit, relation_fn fn,
                              void *arg, uint64_t *dep)
{
    *dep = fake_commit_seq(c);
    for (struct relation *n = fake_commit_rels(c)->relations; n && limit; n = n->next) {
        struct relation_view v = view(n);
        if (slice_compare(v.name, after) <= 0)
            continue;
        limit--;
        if (!fn(arg, &v))
            break;
    }
    return ERR_OK;
}

// ---- lists

static struct fake_list *list_of(const struct relation *n, uint64_t from)
{
    for (size_t i = 0; n && i < n->count; i++)
        if (n->lists[i].from == from)
            return &n->lists[i];
    return NULL;
}

static struct fake_list *list_make(struct relation *n, uint64_t from)
{
    struct fake_list *l = list_of(n, from);
    if (l)
        return l;
    n->lists = realloc(n->lists, (n->count + 1) * sizeof *n->lists);
    VERIFY(n->lists);
    l = &n->lists[n->count++];
    *l = (struct fake_list){.from = from};
    return l;
}

// The index of the first member that is not below m.
static size_t seek(const struct fake_list *l, uint64_t m)
{
    size_t low = 0, high = l ? l->count : 0;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (l->members[mid] < m)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static bool has(const struct fake_list *l, uint64_t m)
{
    size_t at = seek(l, m);
    return l && at < l->count && l->members[at] == m;
}

static void insert(struct fake_list *l, uint64_t m, uint64_t stamp)
{
    if (l->count == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 4;
        l->members = realloc(l->members, l->cap * sizeof *l->members);
        l->stamps = realloc(l->stamps, l->cap * sizeof *l->stamps);
        VERIFY(l->members && l->stamps);
    }
    size_t at = seek(l, m);
    size_t behind = (l->count++ - at) * 8;
    memmove(&l->members[at + 1], &l->members[at], behind);
    memmove(&l->stamps[at + 1], &l->stamps[at], behind);
    l->members[at] = m;
    l->stamps[at] = stamp;
}

static void take_out(struct fake_list *l, uint64_t m)
{
    size_t at = seek(l, m);
    size_t behind = (--l->count - at) * 8;
    memmove(&l->members[at], &l->members[at + 1], behind);
    memmove(&l->stamps[at], &l->stamps[at + 1], behind);
}

void fake_rel_cold(struct commit *c, const char *relation, uint64_t from, bool reverse)
{
    struct relation *n = find(fake_commit_rels(c), slice_str(relation));
    if (reverse)
        n->cold_reverse = true;
    else
        list_of(n, from)->cold = true;
}

void fake_rels_warm(struct fake_rels *r)
{
    for (struct relation *n = r->relations; n; n = n->next) {
        n->cold_reverse = false;
        for (size_t i = 0; i < n->count; i++)
            n->lists[i].cold = false;
    }
}

void fake_rel_work(struct commit *c, size_t members)
{
    fake_commit_rels(c)->work = members;
}

// ---- changing

bool fake_rels_relaxed(struct fake_rels *r, struct slice relation)
{
    struct relation *n = find(r, relation);
    return n && n->options.relaxed;
}

enum err fake_rels_check(struct fake_rels *r, const struct rel_edit *e, struct errmsg *msg)
{
    enum err bad = check_name(e->relation, msg);
    if (bad)
        return bad;
    struct relation *n = find(r, e->relation);
    size_t members = 0;
    VERIFY(e->count > 0);
    for (size_t i = 0; i < e->count; i++) {
        struct fake_list *l = list_of(n, e->groups[i].from);
        members += e->groups[i].count;
        if (l && l->cold)
            return ERR_COLD;
    }
    if (members > LIMIT_REL_MEMBERS || e->count > LIMIT_REL_MEMBERS)
        return err_set(msg, ERR_TOO_BIG, "too many members");
    return ERR_OK;
}

void fake_rels_apply(struct fake_rels *r, struct rel_edit *e, bool add)
{
    struct relation *n = find(r, e->relation);
    if (!n && add)
        n = make(r, e->relation, NULL);
    e->changed = 0;
    for (size_t i = 0; i < e->count; i++) {
        struct rel_group *g = &e->groups[i];
        g->changed = 0;
        if (!n)
            continue;
        struct fake_list *l = list_make(n, g->from);
        for (size_t j = 0; j < g->count; j++) {
            uint64_t m = load64(g->members + 8 * j);
            if (has(l, m) == add)
                continue;
            if (add)
                insert(l, m, ++n->stamp);
            else
                take_out(l, m);
            g->changed++;
        }
        e->changed += g->changed;
    }
}

// ---- reading

enum err commit_rel_ref(struct commit *c, struct slice relation, uint64_t from, bool reverse,
                        struct rel_ref *r, struct errmsg *msg)
{
    enum err e = check_name(relation, msg);
    if (e)
        return e;
    struct relation *n = find(fake_commit_rels(c), relation);
    if (n && reverse && !n->options.reverse)
        return err_set(msg, ERR_INVALID, "the relation is not declared with reverse");
    *r = (struct rel_ref){n, from, reverse};
    return ERR_OK;
}

void commit_rel_prefetch_slot(const struct commit *c, const struct rel_ref *r)
{
}
void commit_rel_prefetch_list(const struct commit *c, const struct rel_ref *r)
{
}

// A copy of a list, forwards or reverse; its members and stamps are the caller's to free.
static struct fake_list copied(const struct rel_ref *r)
{
    struct fake_list out = {.from = r->hash};
    const struct relation *n = r->relation;
    for (size_t i = 0; n && i < n->count; i++) {
        const struct fake_list *l = &n->lists[i];
        if (r->table && has(l, r->hash))
            insert(&out, l->from, 0);
        for (size_t j = 0; !r->table && l->from == r->hash && j < l->count; j++)
            insert(&out, l->members[j], l->stamps[j]);
    }
    return out;
}

static void drop(struct fake_list *l)
{
    free(l->members);
    free(l->stamps);
}

// What every read begins with.
static enum err enter(struct commit *c, const struct rel_ref *r, uint64_t *dep)
{
    enum err e = fake_commit_forced(c);
    if (e)
        return e;
    const struct relation *n = r->relation;
    const struct fake_list *l = list_of(n, r->hash);
    if (n && (r->table ? n->cold_reverse : l && l->cold))
        return ERR_COLD;
    *dep = n && n->options.relaxed ? 0 : fake_commit_seq(c);
    return ERR_OK;
}

// Puts the members in the order asked for: keys to compare `after` with, and the members.
static void arrange(struct fake_list *l, enum rel_order order)
{
    for (size_t i = 1; order == REL_NEWEST && i < l->count; i++) // by rising stamps
        for (size_t j = i; j && l->stamps[j - 1] > l->stamps[j]; j--) {
            uint64_t s = l->stamps[j], m = l->members[j];
            l->stamps[j] = l->stamps[j - 1];
            l->members[j] = l->members[j - 1];
            l->stamps[j - 1] = s;
            l->members[j - 1] = m;
        }
    for (size_t i = 0; order != REL_RISING && i < l->count / 2; i++) {
        size_t j = l->count - 1 - i;
        uint64_t s = l->stamps[j], m = l->members[j];
        l->stamps[j] = l->stamps[i];
        l->members[j] = l->members[i];
        l->stamps[i] = s;
        l->members[i] = m;
    }
}

enum err commit_rel_page(struct commit *c, const struct rel_ref *r, const struct rel_page_query *q,
                         struct buf *out, struct rel_page *page, uint64_t *dep, struct errmsg *msg)
{
    VERIFY(q->max >= 1 && q->max <= LIMIT_REL_PAGE);
    enum err e = enter(c, r, dep);
    if (e)
        return e;
    if (q->order == REL_NEWEST && r->relation && (!r->relation->options.recent || r->table))
        return err_set(msg, ERR_INVALID, "the relation is not declared with order=recent");
    struct fake_list l = copied(r);
    arrange(&l, q->order);
    *page = (struct rel_page){.total = l.count};
    size_t before = buf_len(out);
    for (size_t i = 0; !e && i < l.count; i++) {
        uint64_t key = q->order == REL_NEWEST ? l.stamps[i] : l.members[i];
        if (q->has_after && (q->order == REL_RISING ? key <= q->after : key >= q->after))
            continue;
        page->more = page->count == q->max;
        if (page->more)
            break;
        e = buf_append(out, &l.members[i], 8);
        page->next = key;
        page->count++;
    }
    if (e)
        out->end = out->start + before;
    drop(&l);
    return e;
}

enum err commit_rel_count(struct commit *c, const struct rel_ref *r, uint64_t *n, uint64_t *dep)
{
    enum err e = enter(c, r, dep);
    if (e)
        return e;
    struct fake_list l = copied(r);
    *n = l.count;
    drop(&l);
    return ERR_OK;
}

enum err commit_rel_contains(struct commit *c, const struct rel_ref *r, const uint8_t *members,
                             size_t n, uint8_t *found, uint64_t *dep)
{
    enum err e = enter(c, r, dep);
    if (e)
        return e;
    struct fake_list l = copied(r);
    for (size_t i = 0; i < n; i++)
        found[i] = has(&l, load64(members + 8 * i));
    drop(&l);
    return ERR_OK;
}

static bool combined(enum rel_combine how, const struct fake_list *lists, size_t n, uint64_t m)
{
    bool first = has(&lists[0], m);
    for (size_t i = 1; i < n; i++) {
        bool in = has(&lists[i], m);
        first = how == REL_INTERSECT ? first && in : how == REL_UNION ? first || in : first && !in;
    }
    return first;
}

enum err commit_rel_combine(struct commit *c, enum rel_combine how, const struct rel_ref *refs,
                            size_t n, bool has_after, uint64_t after, size_t max, struct buf *out,
                            struct rel_page *page, uint64_t *dep)
{
    struct fake_list all = {0}, *lists = calloc(n, sizeof *lists);
    enum err e = ERR_OK;
    uint64_t highest = 0;
    size_t work = fake_commit_rels(c)->work, before = buf_len(out);
    VERIFY(lists && n >= 1 && n <= LIMIT_REL_LISTS && max >= 1 && max <= LIMIT_REL_PAGE);
    *page = (struct rel_page){0};
    for (size_t i = 0; !e && i < n; i++) {
        e = enter(c, &refs[i], dep);
        highest = !e && *dep > highest ? *dep : highest;
        lists[i] = copied(&refs[i]);
        for (size_t j = 0; j < lists[i].count; j++)
            if (!has(&all, lists[i].members[j]))
                insert(&all, lists[i].members[j], 0);
    }
    for (size_t i = 0, looked = 0; !e && i < all.count; i++) {
        uint64_t m = all.members[i];
        if (has_after && m <= after)
            continue;
        bool in = combined(how, lists, n, m);
        page->more = (work && looked == work) || (in && page->count == max);
        if (page->more)
            break;
        looked++;
        page->next = m;
        if (in) {
            e = buf_append(out, &m, 8);
            page->count++;
        }
    }
    if (e)
        out->end = out->start + before;
    for (size_t i = 0; i < n; i++)
        drop(&lists[i]);
    drop(&all);
    free(lists);
    *dep = highest;
    return e;
}

enum err commit_rel_fetch(struct commit *c, const struct rel_ref *lists, size_t n,
                          void (*done)(void *arg, enum err e), void *arg)
{
    VERIFY(n > 0);
    for (size_t i = 0; i < n; i++)
        VERIFY(lists[i].relation);
    fake_rels_warm(fake_commit_rels(c));
    fake_commit_later(c, done, arg);
    return ERR_OK;
}

// The order that is the server's own.
static uint64_t shuffled(uint64_t from)
{
    return from * 0x9e3779b97f4a7c15u;
}

// The first of the keys past `after` in that order; false: none.
static bool next_from(const struct fake_list *keys, bool has_after, uint64_t after, uint64_t *from)
{
    bool found = false;
    for (size_t i = 0; i < keys->count; i++) {
        uint64_t k = keys->members[i];
        if (has_after && shuffled(k) <= shuffled(after))
            continue;
        if (!found || shuffled(k) < shuffled(*from))
            *from = k;
        found = true;
    }
    return found;
}

enum err commit_rel_froms(struct commit *c, struct slice relation, bool reverse, bool has_after,
                          uint64_t after, size_t limit, rel_from_fn fn, void *arg, uint64_t *dep,
                          struct errmsg *msg)
{
    struct rel_ref ref;
    enum err e = commit_rel_ref(c, relation, 0, reverse, &ref, msg);
    if (e)
        return e;
    *dep = fake_commit_seq(c);
    struct fake_list keys = {0};
    for (size_t i = 0; ref.relation && i < ref.relation->count; i++) {
        const struct fake_list *l = &ref.relation->lists[i];
        if (!reverse && l->count)
            insert(&keys, l->from, 0);
        for (size_t j = 0; reverse && j < l->count; j++)
            if (!has(&keys, l->members[j]))
                insert(&keys, l->members[j], 0);
    }
    for (uint64_t from = 0; limit && next_from(&keys, has_after, after, &from); limit--) {
        ref.hash = after = from;
        has_after = true;
        struct fake_list l = copied(&ref);
        size_t count = l.count;
        drop(&l);
        if (!fn(arg, from, count))
            break;
    }
    drop(&keys);
    return ERR_OK;
}
