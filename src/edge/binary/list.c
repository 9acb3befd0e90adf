// LIST: a page of keys in order. It may read the disk, so it runs on a thread of the commit room,
// into a buffer of its own; the connection waits.
#include "edge/binary/binary_int.h"
#include "base/limits.h"

#include <stdlib.h>

#define LIST_VALUES 1u             // flag
#define PAGE_BYTES  LIMIT_OUT_STOP // a page ends when it has grown to this
#define PAGE_MAX    (PAGE_BYTES + LIMIT_KEY_HARD + LIMIT_VALUE_HARD + 64u)

struct list_job {
    struct binary_job base;
    struct slice prefix; // both in bytes[]
    struct slice after;
    uint32_t limit;
    bool values;
    // The answer.
    struct buf page; // keys, and values, as in the reply
    uint32_t count;
    uint8_t bytes[];
};

static void list_release(struct binary_job *base)
{
    struct list_job *j = (struct list_job *)base;
    buf_release(&j->page);
    free(j);
}

static bool list_key(void *arg, struct slice key, const struct value_view *v)
{
    struct list_job *j = arg;
    uint8_t n[4], head[21];
    j->base.e = buf_reserve(&j->page, 4 + key.n + (j->values ? sizeof head + v->value.n : 0));
    if (j->base.e)
        return false;
    store32(n, (uint32_t)key.n);
    buf_put(&j->page, n, sizeof n);
    buf_put(&j->page, key.p, key.n);
    if (j->values) {
        store64(head, v->version);
        store64(head + 8, v->expires_ms);
        head[16] = (uint8_t)v->type;
        store32(head + 17, (uint32_t)v->value.n);
        buf_put(&j->page, head, sizeof head);
        buf_put(&j->page, v->value.p, v->value.n);
    }
    j->count++;
    return buf_len(&j->page) < PAGE_BYTES && !conn_dead(j->base.c);
}

static void list_run(struct binary_job *base)
{
    struct list_job *j = (struct list_job *)base;
    enum err e = commit_list(base->commit, j->prefix, j->after, j->limit, list_key, j, &base->dep,
                             &base->msg);
    if (e)
        base->e = e;
}

static enum conn_verdict list_reply(struct binary_job *base)
{
    struct list_job *j = (struct list_job *)base;
    struct conn *c = base->c;
    struct binary_reply r;
    uint8_t head[5] = {STATUS_OK};
    if (base->e)
        return binary_fail(c, FRAME_LIST, base->e, &base->msg, base->dep);
    store32(head + 1, j->count);
    if (binary_reply_begin(c, &r) || buf_append(conn_out(c), head, sizeof head) ||
        buf_append(conn_out(c), buf_head(&j->page), buf_len(&j->page)))
        return CONN_DROP;
    binary_reply_end(&r, base->dep);
    return CONN_MORE;
}

static struct list_job *list_job_new(struct commit *commit, const struct frame *f)
{
    struct slice prefix = f->arg[0], after = f->arg[1];
    struct list_job *j = calloc(1, sizeof *j + prefix.n + after.n);
    if (!j)
        return NULL;
    j->base = (struct binary_job){.commit = commit,
                                  .type = FRAME_LIST,
                                  .run = list_run,
                                  .reply = list_reply,
                                  .release = list_release};
    memcpy(j->bytes, prefix.p, prefix.n);
    memcpy(j->bytes + prefix.n, after.p, after.n);
    j->prefix = slice_of(j->bytes, prefix.n);
    j->after = slice_of(j->bytes + prefix.n, after.n);
    uint32_t limit = load32(f->arg[2].p);
    j->limit = limit < LIMIT_LIST ? limit : LIMIT_LIST;
    j->values = load32(f->arg[2].p + 4) & LIST_VALUES;
    buf_init(&j->page, PAGE_MAX);
    return j;
}

enum conn_verdict binary_list(struct conn *c, const struct frame *f)
{
    struct binary *b = conn_arg(c);
    struct errmsg msg = {""};
    enum err e = ERR_OK;
    if (f->arg[2].n != 8)
        e = err_set(&msg, ERR_INVALID, "LIST: limit and flags take 8 bytes, not %zu", f->arg[2].n);
    else if (load32(f->arg[2].p) == 0)
        e = err_set(&msg, ERR_INVALID, "LIST: the limit is 0");
    else if (load32(f->arg[2].p + 4) & ~LIST_VALUES)
        e = err_set(&msg, ERR_INVALID, "LIST: unknown flags %u", load32(f->arg[2].p + 4));
    if (e)
        return binary_fail(c, FRAME_LIST, e, &msg, 0);
    struct list_job *j = list_job_new(b->o.commit, f);
    if (!j)
        return binary_fail(c, FRAME_LIST, ERR_NO_MEMORY, NULL, 0);
    return binary_job_start(c, &j->base);
}
