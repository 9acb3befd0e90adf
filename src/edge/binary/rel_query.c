// Many lists at once: REL_MANY, REL_COMBINE, which is a job where it may take long, and REL_FROMS,
// which reads the disk and so is always one.
//
// A list of REL_COMBINE: 0 u64 from  8 u8 flags (1 reverse)  9 u8 length  10 the relation's name
#include "edge/binary/binary_int.h"
#include "base/limits.h"

#include <stdlib.h>

#define FROM_BYTES 16u            // of a `from` in the reply to REL_FROMS
#define PAGE_BYTES LIMIT_OUT_STOP // a page of REL_FROMS ends when it has grown to this
#define FETCH      1024u          // lists of one fetch
// Members that a combination may look at on the loop's thread, which takes 2 ms: a job's wake-up
// and its copy of the reply would be a tenth of that.
#define COMBINE_INLINE (2u << 20)
// Ids of a combination: a page, and what it may overshoot.
#define COMBINE_BYTES (8u * (LIMIT_REL_PAGE + 1) + (64u << 10))

enum { LIST_HEAD = 10, MANY_HEAD = 12, MANY_DEFAULT = 1000 };
enum { ORDER_INTERSECT = 3, ORDER_DIFFERENCE = 5 };

static struct commit *commit_of(struct conn *c)
{
    const struct binary *b = conn_arg(c);
    return b->o.commit;
}

// Begins a reply: its status, and `head` bytes to be filled in later.
static enum err begin(struct conn *c, struct binary_reply *r, size_t head)
{
    static const uint8_t zero[1 + 16] = {STATUS_OK};
    enum err e = binary_reply_begin(c, r);
    return e ? e : buf_append(conn_out(c), zero, 1 + head);
}

// Fetches those of `count` lists that exist.
static enum conn_verdict fetch(struct conn *c, enum frame_type type, struct rel_ref *lists,
                               size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count && n < FETCH; i++)
        if (lists[i].relation)
            lists[n++] = lists[i];
    return binary_rel_fetch(c, type, lists, n);
}

// ---- REL_MANY

struct many {
    const struct frame *f;
    struct rel_ref *lists;
    size_t count;
    uint32_t limit;
    bool reverse;
    uint64_t dep;
};

static enum err many_read(struct many *m, const struct frame *f, struct errmsg *msg)
{
    enum err e = binary_rel_ids(f, 1, "froms", LIMIT_REL_MANY, msg);
    e = e ? e : binary_need_size(f, 2, 8, "limit and flags", msg);
    if (e)
        return e;
    uint32_t limit = load32(f->arg[2].p), flags = load32(f->arg[2].p + 4);
    *m = (struct many){.f = f,
                       .count = f->arg[1].n / 8,
                       .limit = limit ? limit : MANY_DEFAULT,
                       .reverse = flags & REL_FLAG_REVERSE};
    if (flags & ~(uint32_t)REL_FLAG_REVERSE)
        return err_set(msg, ERR_INVALID, "REL_MANY: unknown flags %u", flags);
    if (limit > LIMIT_REL_PAGE)
        return err_set(msg, ERR_INVALID, "REL_MANY: %u members of a list are over the limit of %u",
                       limit, LIMIT_REL_PAGE);
    return ERR_OK;
}

static enum err many_look_up(struct many *m, struct commit *commit, struct errmsg *msg)
{
    m->lists = malloc((m->count + 1) * sizeof *m->lists);
    if (!m->lists)
        return ERR_NO_MEMORY;
    // Also without any froms, so that a name that is not one is refused.
    enum err e = commit_rel_ref(commit, m->f->arg[0], 0, m->reverse, &m->lists[0], msg);
    for (size_t i = 0; e == ERR_OK && i < m->count; i++) {
        e = commit_rel_ref(commit, m->f->arg[0], load64(m->f->arg[1].p + i * 8), m->reverse,
                           &m->lists[i], msg);
        if (e == ERR_OK && m->lists[i].relation)
            commit_rel_prefetch_slot(commit, &m->lists[i]);
    }
    for (size_t i = 0; e == ERR_OK && i < m->count; i++)
        if (m->lists[i].relation)
            commit_rel_prefetch_list(commit, &m->lists[i]);
    return e;
}

// Appends one list, with at most `max` members.
static enum err many_list(struct commit *commit, const struct rel_ref *list, size_t max,
                          struct buf *out, struct rel_page *page, uint64_t *dep, struct errmsg *msg)
{
    static const uint8_t head[MANY_HEAD];
    size_t start = buf_len(out);
    enum err e = buf_append(out, head, sizeof head);
    *page = (struct rel_page){.count = 0};
    if (e)
        return e;
    if (max == 0) {
        e = commit_rel_count(commit, list, &page->total, dep);
    } else {
        struct rel_page_query q = {.order = REL_RISING, .max = max};
        e = commit_rel_page(commit, list, &q, out, page, dep, msg);
    }
    store64(buf_head(out) + start, page->total);
    store32(buf_head(out) + start + 8, (uint32_t)page->count);
    return e;
}

static enum conn_verdict many_run(struct conn *c, struct many *m, struct errmsg *msg)
{
    struct binary_reply r;
    size_t left = LIMIT_REL_PAGE; // members of the whole reply
    if (begin(c, &r, 0))
        return CONN_DROP;
    for (size_t i = 0; i < m->count; i++) {
        struct rel_page page;
        uint64_t dep = 0;
        size_t max = left < m->limit ? left : m->limit;
        enum err e = many_list(commit_of(c), &m->lists[i], max, conn_out(c), &page, &dep, msg);
        if (e) {
            binary_reply_cut(&r);
            return e == ERR_COLD ? fetch(c, FRAME_REL_MANY, &m->lists[i], m->count - i)
                                 : binary_fail(c, FRAME_REL_MANY, e, msg, 0);
        }
        left -= page.count;
        m->dep = dep > m->dep ? dep : m->dep;
    }
    binary_reply_end(&r, m->dep);
    return CONN_MORE;
}

enum conn_verdict binary_rel_many(struct conn *c, const struct frame *f)
{
    struct errmsg msg = {""};
    struct many m = {.lists = NULL};
    enum err e = many_read(&m, f, &msg);
    e = e ? e : many_look_up(&m, commit_of(c), &msg);
    enum conn_verdict v = e ? binary_fail(c, FRAME_REL_MANY, e, &msg, 0) : many_run(c, &m, &msg);
    free(m.lists);
    return v;
}

// ---- REL_COMBINE

static enum err combine_read(struct commit *commit, struct slice in, struct rel_ref *lists,
                             size_t *count, struct errmsg *msg)
{
    size_t n = 0;
    for (; in.n; n++) {
        if (n == LIMIT_REL_LISTS)
            return err_set(msg, ERR_TOO_BIG, "REL_COMBINE: more than %u lists", LIMIT_REL_LISTS);
        if (in.n < LIST_HEAD || in.n - LIST_HEAD < in.p[9])
            return err_set(msg, ERR_INVALID, "REL_COMBINE: list %zu is cut short", n);
        if (in.p[8] & ~REL_FLAG_REVERSE)
            return err_set(msg, ERR_INVALID, "REL_COMBINE: unknown flags %u of list %zu", in.p[8],
                           n);
        struct slice name = slice_of(in.p + LIST_HEAD, in.p[9]);
        struct errmsg why = {""};
        enum err e = commit_rel_ref(commit, name, load64(in.p), in.p[8], &lists[n], &why);
        if (e)
            return err_set(msg, e, "REL_COMBINE: list %zu: %s", n,
                           why.text[0] ? why.text : err_text(e));
        if (lists[n].relation)
            commit_rel_prefetch_slot(commit, &lists[n]);
        in.p += LIST_HEAD + name.n;
        in.n -= LIST_HEAD + name.n;
    }
    if (n == 0)
        return err_set(msg, ERR_INVALID, "REL_COMBINE: no lists");
    for (size_t i = 0; i < n; i++)
        if (lists[i].relation)
            commit_rel_prefetch_list(commit, &lists[i]);
    *count = n;
    return ERR_OK;
}

enum { COMBINE_HEAD = 16 }; // of a reply's body: u64 next, u32 more, u32 0

static void combine_head(uint8_t *at, const struct rel_page *page)
{
    store64(at, page->more ? page->next : 0);
    store32(at + 8, page->more);
}

struct combine_job {
    struct binary_job base;
    struct rel_page_arg arg;
    struct rel_ref lists[LIMIT_REL_LISTS];
    size_t count;
    struct rel_page page;
    struct buf out; // the reply's body
};

static void combine_release(struct binary_job *base)
{
    struct combine_job *j = (struct combine_job *)base;
    buf_release(&j->out);
    free(j);
}

static enum err combine(struct commit *c, const struct rel_page_arg *arg,
                        const struct rel_ref *lists, size_t count, struct buf *out,
                        struct rel_page *page, uint64_t *dep)
{
    return commit_rel_combine(c, (enum rel_combine)(arg->order - ORDER_INTERSECT), lists, count,
                              arg->has_after, arg->after, arg->limit, out, page, dep);
}

static void combine_run(struct binary_job *base)
{
    static const uint8_t zero[COMBINE_HEAD];
    struct combine_job *j = (struct combine_job *)base;
    buf_clear(&j->out);
    base->e = buf_append(&j->out, zero, sizeof zero);
    if (!base->e)
        base->e = combine(base->commit, &j->arg, j->lists, j->count, &j->out, &j->page, &base->dep);
}

static enum err combine_fetch(struct binary_job *base, void (*done)(void *arg, enum err e),
                              void *arg)
{
    struct combine_job *j = (struct combine_job *)base;
    return commit_rel_fetch(base->commit, j->lists, j->count, done, arg);
}

static enum conn_verdict combine_reply(struct binary_job *base)
{
    struct combine_job *j = (struct combine_job *)base;
    if (base->e)
        return binary_fail(base->c, FRAME_REL_COMBINE, base->e, &base->msg, 0);
    combine_head(buf_head(&j->out), &j->page);
    return binary_answer(base->c, STATUS_OK, buf_head(&j->out), buf_len(&j->out), base->dep);
}

static enum conn_verdict combine_start(struct conn *c, const struct rel_page_arg *arg,
                                       const struct rel_ref *lists, size_t count)
{
    struct combine_job *j = calloc(1, sizeof *j);
    if (!j)
        return binary_fail(c, FRAME_REL_COMBINE, ERR_NO_MEMORY, NULL, 0);
    j->base = (struct binary_job){.commit = commit_of(c),
                                  .type = FRAME_REL_COMBINE,
                                  .run = combine_run,
                                  .reply = combine_reply,
                                  .release = combine_release,
                                  .fetch = combine_fetch};
    j->arg = *arg;
    memcpy(j->lists, lists, count * sizeof *lists);
    j->count = count;
    buf_init(&j->out, COMBINE_HEAD + COMBINE_BYTES);
    return binary_job_start(c, &j->base);
}

enum conn_verdict binary_rel_combine(struct conn *c, const struct frame *f)
{
    struct errmsg msg = {""};
    struct rel_ref lists[LIMIT_REL_LISTS];
    struct rel_page_arg arg;
    struct rel_page page;
    struct binary_reply r;
    uint64_t dep = 0, members = 0;
    size_t count = 0;
    enum err e = binary_rel_page_arg(f, 1, ORDER_INTERSECT, ORDER_DIFFERENCE, &arg, &msg);
    if (e == ERR_OK && arg.reverse)
        e = err_set(&msg, ERR_INVALID, "REL_COMBINE: each list has its own flag reverse");
    e = e ? e : combine_read(commit_of(c), f->arg[0], lists, &count, &msg);
    if (e)
        return binary_fail(c, FRAME_REL_COMBINE, e, &msg, 0);
    e = commit_rel_cost(commit_of(c), (enum rel_combine)(arg.order - ORDER_INTERSECT), lists, count,
                        arg.limit, &members);
    if (!e && members > COMBINE_INLINE)
        return combine_start(c, &arg, lists, count);
    if (!e && begin(c, &r, COMBINE_HEAD))
        return CONN_DROP;
    if (!e && (e = combine(commit_of(c), &arg, lists, count, conn_out(c), &page, &dep)))
        binary_reply_cut(&r);
    if (e)
        return e == ERR_COLD ? fetch(c, FRAME_REL_COMBINE, lists, count)
                             : binary_fail(c, FRAME_REL_COMBINE, e, &msg, 0);
    combine_head(buf_head(conn_out(c)) + r.start + 5, &page);
    binary_reply_end(&r, dep);
    return CONN_MORE;
}

// ---- REL_FROMS

struct froms_job {
    struct binary_job base;
    struct slice relation; // in bytes[]
    struct rel_page_arg page;
    struct buf out; // froms, as in the reply
    uint8_t bytes[];
};

static void froms_release(struct binary_job *base)
{
    struct froms_job *j = (struct froms_job *)base;
    buf_release(&j->out);
    free(j);
}

static bool froms_one(void *arg, uint64_t from, uint64_t count)
{
    struct froms_job *j = arg;
    j->base.e = buf_reserve(&j->out, FROM_BYTES);
    if (j->base.e)
        return false;
    store64(buf_tail(&j->out), from);
    store64(buf_tail(&j->out) + 8, count);
    j->out.end += FROM_BYTES;
    return buf_len(&j->out) < PAGE_BYTES && !conn_dead(j->base.c);
}

static void froms_run(struct binary_job *base)
{
    struct froms_job *j = (struct froms_job *)base;
    enum err e =
        commit_rel_froms(base->commit, j->relation, j->page.reverse, j->page.has_after,
                         j->page.after, j->page.limit, froms_one, j, &base->dep, &base->msg);
    if (e)
        base->e = e;
}

static enum conn_verdict froms_reply(struct binary_job *base)
{
    struct froms_job *j = (struct froms_job *)base;
    if (base->e)
        return binary_fail(base->c, FRAME_REL_FROMS, base->e, &base->msg, base->dep);
    return binary_answer(base->c, STATUS_OK, buf_head(&j->out), buf_len(&j->out), base->dep);
}

enum conn_verdict binary_rel_froms(struct conn *c, const struct frame *f)
{
    struct errmsg msg = {""};
    struct rel_page_arg page;
    enum err e = binary_rel_page_arg(f, 1, REL_RISING, REL_RISING, &page, &msg);
    if (e)
        return binary_fail(c, FRAME_REL_FROMS, e, &msg, 0);
    struct froms_job *j = calloc(1, sizeof *j + f->arg[0].n);
    if (!j)
        return binary_fail(c, FRAME_REL_FROMS, ERR_NO_MEMORY, NULL, 0);
    j->base = (struct binary_job){.commit = commit_of(c),
                                  .type = FRAME_REL_FROMS,
                                  .run = froms_run,
                                  .reply = froms_reply,
                                  .release = froms_release};
    memcpy(j->bytes, f->arg[0].p, f->arg[0].n);
    j->relation = slice_of(j->bytes, f->arg[0].n);
    j->page = page;
    buf_init(&j->out, PAGE_BYTES + FROM_BYTES);
    return binary_job_start(c, &j->base);
}
