// Relations: REL_CREATE, REL_INFO, REL_LIST, and what is asked of one list: REL_GET, REL_PAGE,
// REL_COUNT, REL_CONTAINS. All of it is answered on the loop; a list that is not in RAM is fetched
// together with those of the requests behind it.
//
// What a page holds:
//     0  u8    order    enum rel_order; REL_COMBINE: 3 + enum rel_combine
//     1  u8    flags    1 reverse, 4 `after` is given
//     2  u16   0
//     4  u32   limit    members; 0: 1000
//     8  u64   after
//    16  u64   0
#include "edge/binary/binary_int.h"
#include "base/limits.h"

#define FETCH 64 // lists of one fetch

enum { PAGE_SIZE = 24, PAGE_DEFAULT = 1000, PAGE_REVERSE = 1, PAGE_AFTER = 4 };
enum { OPTION_REVERSE = 1, OPTION_RECENT = 2, OPTION_RELAXED = 4, OPTIONS = 7 };

_Static_assert(REL_RISING == 0 && REL_FALLING == 1 && REL_NEWEST == 2 && REL_INTERSECT == 0 &&
                   REL_UNION == 1 && REL_DIFFERENCE == 2,
               "the protocol's numbers are the commit room's");

static struct commit *commit_of(struct conn *c)
{
    const struct binary *b = conn_arg(c);
    return b->o.commit;
}

// ---- arguments

enum err binary_rel_flags(const struct frame *f, unsigned arg, uint32_t allowed, uint32_t *flags,
                          struct errmsg *msg)
{
    enum err e = binary_need_size(f, arg, 4, "the argument flags", msg);
    if (e)
        return e;
    *flags = load32(f->arg[arg].p);
    return *flags & ~allowed
               ? err_set(msg, ERR_INVALID, "%s: unknown flags %u", frame_name(f->type), *flags)
               : ERR_OK;
}

enum err binary_rel_ids(const struct frame *f, unsigned arg, const char *what, size_t max,
                        struct errmsg *msg)
{
    size_t n = f->arg[arg].n;
    if (n % 8)
        return err_set(msg, ERR_INVALID, "%s: %s take 8 bytes each; %zu is not a multiple of it",
                       frame_name(f->type), what, n);
    if (n / 8 > max)
        return err_set(msg, ERR_TOO_BIG, "%s: %zu %s are over the limit of %zu",
                       frame_name(f->type), n / 8, what, max);
    return ERR_OK;
}

enum err binary_rel_page_arg(const struct frame *f, unsigned arg, unsigned low, unsigned high,
                             struct rel_page_arg *p, struct errmsg *msg)
{
    const char *name = frame_name(f->type);
    const uint8_t *at = f->arg[arg].p;
    enum err e = binary_need_size(f, arg, PAGE_SIZE, "a page", msg);
    if (e)
        return e;
    if (at[0] < low || at[0] > high)
        return err_set(msg, ERR_INVALID, "%s: unknown order %u", name, at[0]);
    if (at[1] & ~(PAGE_REVERSE | PAGE_AFTER))
        return err_set(msg, ERR_INVALID, "%s: unknown flags %u of the page", name, at[1]);
    if (load16(at + 2) || load64(at + 16))
        return err_set(msg, ERR_INVALID, "%s: bytes 2, 3 and 16 to 23 of the page are not 0", name);
    *p = (struct rel_page_arg){
        .order = at[0],
        .reverse = at[1] & PAGE_REVERSE,
        .has_after = at[1] & PAGE_AFTER,
        .after = load64(at + 8),
        .limit = load32(at + 4),
    };
    if (p->limit > LIMIT_REL_PAGE)
        return err_set(msg, ERR_INVALID, "%s: a page of %u is over the limit of %u", name, p->limit,
                       LIMIT_REL_PAGE);
    if (p->limit == 0)
        p->limit = PAGE_DEFAULT;
    return ERR_OK;
}

// ---- relations

static enum conn_verdict create(struct conn *c, const struct frame *f)
{
    struct errmsg msg = {""};
    uint64_t created = 0, dep = 0;
    uint8_t out[8];
    enum err e = binary_need_size(f, 1, 4, "the argument options", &msg);
    uint32_t bits = e ? 0 : load32(f->arg[1].p);
    struct relation_options o = {bits & OPTION_REVERSE, bits & OPTION_RECENT,
                                 bits & OPTION_RELAXED};
    if (bits & ~(uint32_t)OPTIONS)
        e = err_set(&msg, ERR_INVALID, "REL_CREATE: unknown options %u", bits);
    if (e == ERR_OK)
        e = commit_relation_create(commit_of(c), f->arg[0], &o, &created, &dep, &msg);
    if (e == ERR_EXISTS)
        return binary_answer(c, STATUS_CONFLICT, NULL, 0, dep);
    if (e)
        return binary_log_fail(c, f->type, e, &msg, dep);
    store64(out, created);
    return binary_answer(c, STATUS_OK, out, sizeof out, dep);
}

static enum conn_verdict info(struct conn *c, const struct frame *f)
{
    struct errmsg msg = {""};
    struct relation_view v;
    uint64_t dep = 0;
    uint8_t out[28];
    enum err e = commit_relation_get(commit_of(c), f->arg[0], &v, &dep, &msg);
    if (e)
        return binary_log_fail(c, f->type, e, &msg, dep);
    store64(out, v.created_ms);
    store32(out + 8, (v.options.reverse ? OPTION_REVERSE : 0u) |
                         (v.options.recent ? OPTION_RECENT : 0u) |
                         (v.options.relaxed ? OPTION_RELAXED : 0u));
    store64(out + 12, v.resident_lists);
    store64(out + 20, v.resident_members);
    return binary_answer(c, STATUS_OK, out, sizeof out, dep);
}

struct names {
    struct buf *out;
    uint32_t count;
    enum err e;
};

static bool put_name(void *arg, const struct relation_view *v)
{
    struct names *n = arg;
    n->e = buf_reserve(n->out, 4 + v->name.n);
    if (n->e)
        return false;
    uint8_t length[4];
    store32(length, (uint32_t)v->name.n);
    buf_put(n->out, length, sizeof length);
    buf_put(n->out, v->name.p, v->name.n);
    n->count++;
    return true;
}

// There are LIMIT_RELATIONS at most: a page of them is small.
static enum conn_verdict list_names(struct conn *c, const struct frame *f)
{
    struct errmsg msg = {""};
    struct names n = {.out = conn_out(c)};
    struct binary_reply r;
    uint64_t dep = 0;
    uint8_t head[5] = {STATUS_OK};
    enum err e = binary_need_size(f, 1, 8, "limit and flags", &msg);
    if (e == ERR_OK && load32(f->arg[1].p) == 0)
        e = err_set(&msg, ERR_INVALID, "REL_LIST: the limit is 0");
    if (e == ERR_OK && load32(f->arg[1].p + 4))
        e = err_set(&msg, ERR_INVALID, "REL_LIST: unknown flags %u", load32(f->arg[1].p + 4));
    if (e)
        return binary_fail(c, f->type, e, &msg, 0);
    if (binary_reply_begin(c, &r) || buf_append(n.out, head, sizeof head))
        return CONN_DROP;
    e = commit_relation_list(commit_of(c), f->arg[0], load32(f->arg[1].p), put_name, &n, &dep);
    if (n.e)
        return CONN_DROP;
    if (e) {
        binary_reply_cut(&r);
        return binary_fail(c, f->type, e, NULL, dep);
    }
    store32(buf_head(n.out) + r.start + 5, n.count);
    binary_reply_end(&r, dep);
    return CONN_MORE;
}

// ---- one list

// Where the flag reverse stands, if the type has one and it is all there.
static bool wants_reverse(const struct frame *f)
{
    switch (f->type) {
    case FRAME_REL_PAGE:
        return f->arg[2].n == PAGE_SIZE && f->arg[2].p[1] & PAGE_REVERSE;
    case FRAME_REL_COUNT:
        return f->arg[2].n == 4 && f->arg[2].p[0] & REL_FLAG_REVERSE;
    case FRAME_REL_CONTAINS:
        return f->arg[3].n == 4 && f->arg[3].p[0] & REL_FLAG_REVERSE;
    default:
        return false;
    }
}

void binary_rel_look_up(const struct binary *b, struct request *q)
{
    const struct frame *f = &q->frame;
    // A request before it in the batch may make the relation, or answer with an error: what cannot
    // be found now is looked up again when its turn has come.
    if (f->arg[1].n != 8 || commit_rel_ref(b->o.commit, f->arg[0], load64(f->arg[1].p),
                                           wants_reverse(f), &q->list, NULL))
        q->list.relation = NULL;
    else if (q->list.relation)
        commit_rel_prefetch_slot(b->o.commit, &q->list);
}

// The list that a request names.
static enum err list_of(struct conn *c, const struct request *q, struct rel_ref *r,
                        struct errmsg *msg)
{
    const struct frame *f = &q->frame;
    *r = q->list;
    if (r->relation)
        return ERR_OK;
    enum err e = binary_need_size(f, 1, 8, "from", msg);
    return e ? e
             : commit_rel_ref(commit_of(c), f->arg[0], load64(f->arg[1].p), wants_reverse(f), r,
                              msg);
}

// The list of the first of `count` requests is not in RAM; those behind it may not be either.
static enum conn_verdict fetch_ahead(struct conn *c, const struct rel_ref *first,
                                     const struct request *q, size_t count)
{
    struct rel_ref lists[FETCH];
    size_t n = 0;
    lists[n++] = *first;
    for (size_t i = 1; i < count && n < FETCH; i++)
        if (binary_rel_has_list(q[i].frame.type) && q[i].list.relation)
            lists[n++] = q[i].list;
    return binary_rel_fetch(c, q->frame.type, lists, n);
}

// What a reply to one of these has before it is known how it goes.
static enum err begin(struct conn *c, struct binary_reply *r, size_t room)
{
    static const uint8_t status = STATUS_OK;
    enum err e = binary_reply_begin(c, r);
    e = e ? e : buf_reserve(conn_out(c), 1 + room);
    if (e == ERR_OK)
        buf_put(conn_out(c), &status, 1);
    return e;
}

// Ends a reply whose list could be read, or not.
static enum conn_verdict conclude(struct conn *c, const struct request *q, size_t count,
                                  const struct rel_ref *list, const struct binary_reply *r,
                                  enum err e, const struct errmsg *msg, uint64_t dep)
{
    if (e == ERR_OK) {
        binary_reply_end(r, dep);
        return CONN_MORE;
    }
    binary_reply_cut(r);
    return e == ERR_COLD ? fetch_ahead(c, list, q, count)
                         : binary_fail(c, q->frame.type, e, msg, 0);
}

static enum conn_verdict get(struct conn *c, const struct request *q, size_t count)
{
    static const struct rel_page_query all = {.order = REL_RISING, .max = LIMIT_REL_PAGE};
    struct errmsg msg;
    struct rel_ref list;
    struct rel_page page;
    struct binary_reply r;
    uint64_t dep = 0;
    msg.text[0] = 0;
    enum err e = list_of(c, q, &list, &msg);
    if (e)
        return binary_fail(c, FRAME_REL_GET, e, &msg, 0);
    if (begin(c, &r, 0))
        return CONN_DROP;
    e = commit_rel_page(commit_of(c), &list, &all, conn_out(c), &page, &dep, &msg);
    if (e == ERR_OK && page.more)
        e = err_set(&msg, ERR_TOO_BIG, "REL_GET: the list has %llu members: read it in pages",
                    (unsigned long long)page.total);
    return conclude(c, q, count, &list, &r, e, &msg, dep);
}

static enum conn_verdict get_page(struct conn *c, const struct request *q, size_t count)
{
    struct errmsg msg = {""};
    struct rel_page_arg arg;
    struct rel_ref list;
    struct rel_page page;
    struct binary_reply r;
    uint64_t dep = 0;
    uint8_t head[24] = {0};
    enum err e = binary_rel_page_arg(&q->frame, 2, REL_RISING, REL_NEWEST, &arg, &msg);
    e = e ? e : list_of(c, q, &list, &msg);
    if (e)
        return binary_fail(c, FRAME_REL_PAGE, e, &msg, 0);
    struct rel_page_query query = {.order = (enum rel_order)arg.order,
                                   .has_after = arg.has_after,
                                   .after = arg.after,
                                   .max = arg.limit};
    if (begin(c, &r, sizeof head))
        return CONN_DROP;
    buf_put(conn_out(c), head, sizeof head);
    e = commit_rel_page(commit_of(c), &list, &query, conn_out(c), &page, &dep, &msg);
    if (e == ERR_OK) {
        uint8_t *at = buf_head(conn_out(c)) + r.start + 5;
        store64(at, page.total);
        store64(at + 8, page.more ? page.next : 0);
        store32(at + 16, page.more);
    }
    return conclude(c, q, count, &list, &r, e, &msg, dep);
}

static enum conn_verdict get_count(struct conn *c, const struct request *q, size_t count)
{
    struct errmsg msg = {""};
    struct rel_ref list;
    struct binary_reply r;
    uint64_t n = 0, dep = 0;
    uint32_t flags;
    enum err e = binary_rel_flags(&q->frame, 2, REL_FLAG_REVERSE, &flags, &msg);
    e = e ? e : list_of(c, q, &list, &msg);
    if (e)
        return binary_fail(c, FRAME_REL_COUNT, e, &msg, 0);
    if (begin(c, &r, sizeof n))
        return CONN_DROP;
    e = commit_rel_count(commit_of(c), &list, &n, &dep);
    buf_put(conn_out(c), &n, sizeof n); // little-endian host, see base/slice.h
    return conclude(c, q, count, &list, &r, e, NULL, dep);
}

static enum conn_verdict contains(struct conn *c, const struct request *q, size_t count)
{
    struct errmsg msg = {""};
    struct slice members = q->frame.arg[2];
    struct rel_ref list;
    struct binary_reply r;
    uint64_t dep = 0;
    uint32_t flags;
    enum err e = binary_rel_ids(&q->frame, 2, "members", LIMIT_REL_MEMBERS, &msg);
    e = e ? e : binary_rel_flags(&q->frame, 3, REL_FLAG_REVERSE, &flags, &msg);
    e = e ? e : list_of(c, q, &list, &msg);
    if (e)
        return binary_fail(c, FRAME_REL_CONTAINS, e, &msg, 0);
    size_t n = members.n / 8;
    if (begin(c, &r, n))
        return CONN_DROP;
    e = commit_rel_contains(commit_of(c), &list, members.p, n, buf_tail(conn_out(c)), &dep);
    conn_out(c)->end += n;
    return conclude(c, q, count, &list, &r, e, NULL, dep);
}

enum conn_verdict binary_rel(struct conn *c, const struct request *q, size_t count)
{
    switch (q->frame.type) {
    case FRAME_REL_GET:
        return get(c, q, count);
    case FRAME_REL_PAGE:
        return get_page(c, q, count);
    case FRAME_REL_COUNT:
        return get_count(c, q, count);
    case FRAME_REL_CONTAINS:
        return contains(c, q, count);
    case FRAME_REL_CREATE:
        return create(c, &q->frame);
    case FRAME_REL_INFO:
        return info(c, &q->frame);
    default:
        return list_names(c, &q->frame);
    }
}
