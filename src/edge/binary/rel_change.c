// Changes of relations: REL_ADD, REL_REMOVE, REL_EDIT.
//
// Additions that arrive together, to one relation and with the same flags, are one transaction: one
// round of locks and one entry in the log for all of them, with the members where they are in the
// input. So are removals. Each has its own reply. Should the transaction fail, each is executed on
// its own, so that each gets its own answer. Of what had to wait for lists half as many are tried
// together.
//
// A group of REL_EDIT: 0 u64 from  8 u32 count  12 u32 remove (0 adds, 1 removes)  16 the members
#include "edge/binary/binary_int.h"
#include "base/hash.h"
#include "base/limits.h"

#include <stdlib.h>

enum { GROUP_HEAD = 16, REPLY = 9 /* bytes of a reply to REL_ADD */ };

static struct commit *commit_of(struct conn *c)
{
    const struct binary *b = conn_arg(c);
    return b->o.commit;
}

// ---- REL_ADD, REL_REMOVE

static enum err check_change(const struct frame *f, struct errmsg *msg)
{
    uint32_t flags;
    enum err e = binary_need_size(f, 1, 8, "from", msg);
    e = e ? e : binary_rel_ids(f, 2, "members", LIMIT_REL_MEMBERS, msg);
    return e ? e : binary_rel_flags(f, 3, REL_FLAG_RELAXED, &flags, msg);
}

// The same in fewer steps.
static bool good_change(const struct frame *f)
{
    return f->arg[1].n == 8 && f->arg[2].n % 8 == 0 && f->arg[3].n == 4 &&
           (load32(f->arg[3].p) & ~(uint32_t)REL_FLAG_RELAXED) == 0;
}

static bool alike(const struct frame *a, const struct frame *b)
{
    return a->type == b->type && good_change(b) && load32(a->arg[3].p) == load32(b->arg[3].p) &&
           slice_equal(a->arg[0], b->arg[0]);
}

// Groups of as many of the `count` requests at q as are one transaction. The first is known to be
// good.
static size_t gather(const struct request *q, size_t count, struct rel_group groups[BATCH_CHANGES])
{
    size_t n = 0, members = 0;
    for (; n < count; n++) {
        const struct frame *f = &q[n].frame;
        if (n && !alike(&q->frame, f))
            break;
        members += f->arg[2].n / 8;
        if (n && members > LIMIT_REL_MEMBERS)
            break;
        groups[n] = (struct rel_group){.from = load64(f->arg[1].p),
                                       .members = f->arg[2].p,
                                       .count = (uint32_t)(f->arg[2].n / 8)};
    }
    return n;
}

static enum conn_verdict reply_changes(struct conn *c, const struct rel_group *groups, size_t n,
                                       uint64_t dep)
{
    struct buf *out = conn_out(c);
    uint64_t mark = conn_mark(c);
    if (buf_reserve(out, n * REPLY))
        return CONN_DROP;
    uint8_t *p = buf_tail(out);
    for (size_t i = 0; i < n; i++, p += REPLY) {
        store32(p, REPLY - 4);
        p[4] = STATUS_OK;
        store32(p + 5, groups[i].changed);
    }
    out->end += n * REPLY;
    conn_gate(c, mark, dep);
    return CONN_MORE;
}

// Commits n groups of requests like q.
static enum err commit_groups(struct conn *c, const struct request *q, struct rel_group *groups,
                              size_t n, uint64_t *dep, struct errmsg *msg,
                              enum conn_verdict *waiting)
{
    struct rel_edit edit = {.relation = q->frame.arg[0], .groups = groups, .count = n};
    struct txn_op op = {.kind = q->frame.type == FRAME_REL_ADD ? TXN_RELATE : TXN_UNRELATE,
                        .edit = &edit};
    struct txn t = {.ops = &op,
                    .count = 1,
                    .relaxed = load32(q->frame.arg[3].p) & REL_FLAG_RELAXED,
                    .rounds = binary_rounds(c)};
    enum err e = commit_txn(commit_of(c), &t, dep, msg);
    if (e == ERR_COLD)
        *waiting = binary_txn_fetch(c, q->frame.type, &t);
    else if (e == ERR_FULL)
        *waiting = binary_wait_room(c, q->frame.type);
    return e;
}

enum conn_verdict binary_rel_change(struct conn *c, const struct request *q, size_t count,
                                    size_t *before)
{
    struct rel_group groups[BATCH_CHANGES];
    struct errmsg msg;
    enum conn_verdict v = CONN_MORE;
    uint64_t dep = 0;
    msg.text[0] = 0;
    enum err e = check_change(&q->frame, &msg);
    if (e)
        return binary_fail(c, q->frame.type, e, &msg, 0);
    // Lists that were fetched and are cold again may not fit memory all at once: half of them may.
    uint32_t rounds = binary_rounds(c);
    size_t most = rounds < 16 ? count >> rounds : 0;
    size_t n = gather(q, most ? most : 1, groups);
    e = commit_groups(c, q, groups, n, &dep, &msg, &v);
    if (e == ERR_OK) {
        *before = n - 1;
        return reply_changes(c, groups, n, dep);
    }
    if (e == ERR_COLD || e == ERR_FULL)
        return v;
    if (n == 1)
        return binary_fail(c, q->frame.type, e, &msg, dep);
    for (size_t i = 0; i < n && v == CONN_MORE; i++) {
        *before = i;
        dep = 0;
        msg.text[0] = 0;
        e = commit_groups(c, q, &groups[i], 1, &dep, &msg, &v);
        if (e == ERR_OK)
            v = reply_changes(c, &groups[i], 1, dep);
        else if (e != ERR_COLD && e != ERR_FULL)
            v = binary_fail(c, q->frame.type, e, &msg, dep);
    }
    return v;
}

// ---- REL_EDIT

// Groups, and the operations that they are: one for each run of groups that all add, or all remove.
struct decoded {
    struct rel_group *groups;
    struct rel_edit *edits;
    struct txn_op *ops;
    size_t group_count, op_count;
};

static void decoded_release(struct decoded *d)
{
    free(d->groups);
    free(d->edits);
    free(d->ops);
}

// Counts groups and operations and checks that they fill the argument exactly.
static enum err count_groups(struct decoded *d, struct slice in, struct errmsg *msg)
{
    size_t members = 0;
    uint32_t last = 2;
    for (; in.n; d->group_count++) {
        if (d->group_count == LIMIT_REL_MEMBERS)
            return err_set(msg, ERR_TOO_BIG, "REL_EDIT: more than %u groups", LIMIT_REL_MEMBERS);
        uint64_t size = in.n < GROUP_HEAD ? UINT64_MAX : (uint64_t)load32(in.p + 8) * 8;
        if (in.n < GROUP_HEAD || in.n - GROUP_HEAD < size)
            return err_set(msg, ERR_INVALID, "REL_EDIT: group %zu is cut short", d->group_count);
        uint32_t remove = load32(in.p + 12);
        if (remove > 1)
            return err_set(msg, ERR_INVALID, "REL_EDIT: group %zu neither adds nor removes: %u",
                           d->group_count, remove);
        members += load32(in.p + 8);
        if (members > LIMIT_REL_MEMBERS)
            return err_set(msg, ERR_TOO_BIG, "REL_EDIT: more than %u members", LIMIT_REL_MEMBERS);
        d->op_count += remove != last;
        last = remove;
        in.p += GROUP_HEAD + size;
        in.n -= GROUP_HEAD + size;
    }
    if (d->group_count == 0)
        return err_set(msg, ERR_INVALID, "REL_EDIT: no groups");
    if (d->op_count > LIMIT_TXN_OPS)
        return err_set(msg, ERR_TOO_BIG,
                       "REL_EDIT: groups change between adding and removing more than %u times",
                       LIMIT_TXN_OPS);
    return ERR_OK;
}

static enum err decode(struct decoded *d, const struct frame *f, struct errmsg *msg)
{
    struct slice in = f->arg[1];
    enum err e = count_groups(d, in, msg);
    if (e)
        return e;
    d->groups = malloc(d->group_count * sizeof *d->groups);
    d->edits = malloc(d->op_count * sizeof *d->edits);
    d->ops = malloc(d->op_count * sizeof *d->ops);
    if (!d->groups || !d->edits || !d->ops)
        return ERR_NO_MEMORY;
    size_t ops = 0;
    for (size_t i = 0; i < d->group_count; i++) {
        uint32_t count = load32(in.p + 8);
        uint8_t kind = load32(in.p + 12) ? TXN_UNRELATE : TXN_RELATE;
        d->groups[i] =
            (struct rel_group){.from = load64(in.p), .members = in.p + GROUP_HEAD, .count = count};
        if (ops == 0 || d->ops[ops - 1].kind != kind) {
            d->edits[ops] = (struct rel_edit){.relation = f->arg[0], .groups = &d->groups[i]};
            d->ops[ops] = (struct txn_op){.kind = kind, .edit = &d->edits[ops]};
            ops++;
        }
        d->edits[ops - 1].count++;
        in.p += GROUP_HEAD + (size_t)count * 8;
    }
    return ERR_OK;
}

static enum conn_verdict run_edit(struct conn *c, struct txn *t)
{
    struct errmsg msg = {""};
    uint64_t dep = 0, changed[2] = {0, 0};
    uint8_t out[16];
    enum err e = commit_txn(commit_of(c), t, &dep, &msg);
    if (e == ERR_COLD)
        return binary_txn_fetch(c, FRAME_REL_EDIT, t);
    if (e == ERR_FULL)
        return binary_wait_room(c, FRAME_REL_EDIT);
    if (e)
        return binary_fail(c, FRAME_REL_EDIT, e, &msg, dep);
    for (size_t i = 0; i < t->count; i++)
        changed[t->ops[i].kind == TXN_UNRELATE] += (uint64_t)t->ops[i].number;
    store64(out, changed[0]);
    store64(out + 8, changed[1]);
    return binary_answer(c, STATUS_OK, out, sizeof out, dep);
}

enum conn_verdict binary_rel_edit(struct conn *c, const struct frame *f)
{
    struct decoded d = {.groups = NULL};
    struct errmsg msg = {""};
    uint32_t flags;
    enum conn_verdict v;
    enum err e = binary_rel_flags(f, 2, REL_FLAG_RELAXED, &flags, &msg);
    e = e ? e : decode(&d, f, &msg);
    if (e) {
        v = binary_fail(c, FRAME_REL_EDIT, e, &msg, 0);
    } else {
        struct txn t = {.ops = d.ops,
                        .count = d.op_count,
                        .relaxed = flags & REL_FLAG_RELAXED,
                        .idempotency = f->arg[3],
                        .request_hash = hash64(f->arg[1], hash64(f->arg[0], 0)),
                        .rounds = binary_rounds(c)};
        v = run_edit(c, &t);
    }
    decoded_release(&d);
    return v;
}
