// Logs, all but their records: LOG_CREATE, LOG_POLICY, LOG_KEYSPACE, LOG_META and LOG_FLUSH at
// once, LOG_TRIM, LOG_ERASE and LOG_LIST as jobs.
//
// A policy:  0 u64 max age ms   8 u64 max bytes   16 u64 max records   24 u64 flags (1: the server
// gives timestamps); 0 is no limit, and an empty policy is all 0.
#include "edge/binary/binary_int.h"
#include "base/limits.h"

#include <stdlib.h>

enum { POLICY_SIZE = 32, POLICY_SERVER_TIME = 1 };
#define LIST_MAX (LIMIT_OUT_STOP + LIMIT_KEY_HARD + 64u) // bytes of a page of LOG_LIST

enum { BEFORE_OFFSET = 1, BEFORE_TIME = 2 }; // kinds of LOG_TRIM

static struct commit *commit_of(struct conn *c)
{
    const struct binary *b = conn_arg(c);
    return b->o.commit;
}

enum conn_verdict binary_log_fail(struct conn *c, enum frame_type type, enum err e,
                                  const struct errmsg *msg, uint64_t dep)
{
    if (e == ERR_MISSING)
        return binary_answer(c, STATUS_MISSING, NULL, 0, dep);
    if (e == ERR_FULL)
        return binary_wait_room(c, type);
    return binary_fail(c, type, e, msg, dep);
}

static enum err need(const struct frame *f, unsigned arg, const char *what, struct errmsg *msg)
{
    if (f->arg[arg].n)
        return ERR_OK;
    return err_set(msg, ERR_INVALID, "%s: the %s is empty", frame_name(f->type), what);
}

enum err binary_log_name(const struct frame *f, struct log_name *name, struct errmsg *msg)
{
    enum err e = need(f, 0, "keyspace", msg);
    if (e == ERR_OK)
        e = need(f, 1, "key", msg);
    *name = (struct log_name){f->arg[0], f->arg[1]};
    return e;
}

// ---- keyspaces

static enum err policy_read(const struct frame *f, struct log_policy *p, struct errmsg *msg)
{
    const uint8_t *at = f->arg[1].p;
    *p = (struct log_policy){0};
    if (f->arg[1].n == 0)
        return ERR_OK;
    enum err e = binary_need_size(f, 1, POLICY_SIZE, "a policy", msg);
    if (e)
        return e;
    uint64_t flags = load64(at + 24);
    if (flags & ~(uint64_t)POLICY_SERVER_TIME)
        return err_set(msg, ERR_INVALID, "%s: unknown policy flags %llu", frame_name(f->type),
                       (unsigned long long)flags);
    *p = (struct log_policy){load64(at), load64(at + 8), load64(at + 16), flags != 0};
    return ERR_OK;
}

static void policy_write(uint8_t *at, const struct log_policy *p)
{
    store64(at, p->max_age_ms);
    store64(at + 8, p->max_bytes);
    store64(at + 16, p->max_records);
    store64(at + 24, p->server_time ? POLICY_SERVER_TIME : 0);
}

static enum conn_verdict create_keyspace(struct conn *c, const struct frame *f)
{
    struct errmsg msg = {""};
    struct log_policy p;
    uint64_t created = 0, dep = 0;
    uint8_t out[8];
    enum err e = policy_read(f, &p, &msg);
    if (e == ERR_OK)
        e = commit_keyspace_create(commit_of(c), f->arg[0], &p, &created, &dep, &msg);
    if (e == ERR_EXISTS)
        return binary_answer(c, STATUS_CONFLICT, NULL, 0, dep);
    if (e)
        return binary_log_fail(c, f->type, e, &msg, dep);
    store64(out, created);
    return binary_answer(c, STATUS_OK, out, sizeof out, dep);
}

static enum conn_verdict change_policy(struct conn *c, const struct frame *f)
{
    struct errmsg msg = {""};
    struct log_policy p;
    uint64_t dep = 0;
    enum err e = policy_read(f, &p, &msg);
    if (e == ERR_OK)
        e = commit_keyspace_policy(commit_of(c), f->arg[0], &p, &dep, &msg);
    if (e)
        return binary_log_fail(c, f->type, e, &msg, dep);
    return binary_answer(c, STATUS_OK, NULL, 0, dep);
}

static enum conn_verdict get_keyspace(struct conn *c, const struct frame *f)
{
    struct errmsg msg = {""};
    struct keyspace_view v;
    uint64_t dep = 0;
    uint8_t out[8 + POLICY_SIZE];
    enum err e = commit_keyspace_get(commit_of(c), f->arg[0], &v, &dep, &msg);
    if (e)
        return binary_log_fail(c, f->type, e == ERR_NO_KEYSPACE ? ERR_MISSING : e, &msg, dep);
    store64(out, v.created_ms);
    policy_write(out + 8, &v.policy);
    return binary_answer(c, STATUS_OK, out, sizeof out, dep);
}

// ---- one log

static enum conn_verdict get_meta(struct conn *c, const struct frame *f)
{
    struct errmsg msg = {""};
    struct log_name name;
    struct log_meta m;
    uint64_t dep = 0;
    uint8_t out[56];
    enum err e = binary_log_name(f, &name, &msg);
    if (e == ERR_OK)
        e = commit_log_meta(commit_of(c), &name, &m, &dep, &msg);
    if (e)
        return binary_log_fail(c, f->type, e, &msg, dep);
    store64(out, m.first_offset);
    store64(out + 8, m.end_offset);
    store128(out + 16, m.next_nonce);
    store64(out + 32, (uint64_t)m.last_timestamp);
    store64(out + 40, m.records);
    store64(out + 48, m.bytes);
    return binary_answer(c, STATUS_OK, out, sizeof out, dep);
}

static enum conn_verdict flush(struct conn *c, const struct frame *f)
{
    struct errmsg msg = {""};
    struct log_name name;
    uint64_t dep = 0;
    bool all = f->arg[0].n == 0 && f->arg[1].n == 0;
    enum err e = all ? ERR_OK : binary_log_name(f, &name, &msg);
    if (e == ERR_OK)
        e = commit_log_flush(commit_of(c), all ? NULL : &name, &dep, &msg);
    if (e)
        return binary_log_fail(c, f->type, e, &msg, dep);
    return binary_answer(c, STATUS_OK, NULL, 0, dep);
}

// ---- jobs

struct log_job {
    struct binary_job base;
    struct log_name name;   // all slices in bytes[]
    struct log_from before; // LOG_TRIM
    uint64_t offset;        // LOG_ERASE; LOG_TRIM's answer
    struct slice after;     // LOG_LIST, of name.keyspace
    uint32_t limit;
    uint32_t count;
    struct buf page; // LOG_LIST's answer
    uint8_t bytes[];
};

static void log_job_release(struct binary_job *base)
{
    struct log_job *j = (struct log_job *)base;
    buf_release(&j->page);
    free(j);
}

static void trim_run(struct binary_job *base)
{
    struct log_job *j = (struct log_job *)base;
    base->e =
        commit_log_trim(base->commit, &j->name, &j->before, &j->offset, &base->dep, &base->msg);
}

static enum conn_verdict trim_reply(struct binary_job *base)
{
    uint8_t out[8];
    if (base->e)
        return binary_log_fail(base->c, base->type, base->e, &base->msg, base->dep);
    store64(out, ((struct log_job *)base)->offset);
    return binary_answer(base->c, STATUS_OK, out, sizeof out, base->dep);
}

static void erase_run(struct binary_job *base)
{
    struct log_job *j = (struct log_job *)base;
    base->e = commit_log_erase(base->commit, &j->name, j->offset, &base->dep, &base->msg);
}

static enum conn_verdict erase_reply(struct binary_job *base)
{
    if (base->e)
        return binary_log_fail(base->c, base->type, base->e, &base->msg, base->dep);
    return binary_answer(base->c, STATUS_OK, NULL, 0, base->dep);
}

static bool list_name(void *arg, struct slice name)
{
    struct log_job *j = arg;
    uint8_t n[4];
    j->base.e = buf_reserve(&j->page, sizeof n + name.n);
    if (j->base.e)
        return false;
    store32(n, (uint32_t)name.n);
    buf_put(&j->page, n, sizeof n);
    buf_put(&j->page, name.p, name.n);
    j->count++;
    return buf_len(&j->page) < LIMIT_OUT_STOP && !conn_dead(j->base.c);
}

static void list_run(struct binary_job *base)
{
    struct log_job *j = (struct log_job *)base;
    enum err e = commit_log_list(base->commit, j->name.keyspace, j->after, j->limit, list_name, j,
                                 &base->dep, &base->msg);
    if (e)
        base->e = e;
}

static enum conn_verdict list_reply(struct binary_job *base)
{
    struct log_job *j = (struct log_job *)base;
    struct buf *page = &j->page;
    if (base->e)
        return binary_log_fail(base->c, base->type, base->e, &base->msg, base->dep);
    store32(buf_head(page), j->count);
    return binary_answer(base->c, STATUS_OK, buf_head(page), buf_len(page), base->dep);
}

// With copies of the first two arguments.
static struct log_job *job_new(struct commit *commit, const struct frame *f)
{
    struct slice first = f->arg[0], second = f->arg[1];
    struct log_job *j = calloc(1, sizeof *j + first.n + second.n);
    if (!j)
        return NULL;
    j->base = (struct binary_job){.commit = commit, .type = f->type, .release = log_job_release};
    if (first.n)
        memcpy(j->bytes, first.p, first.n);
    if (second.n)
        memcpy(j->bytes + first.n, second.p, second.n);
    j->name.keyspace = slice_of(j->bytes, first.n);
    j->name.key = j->after = slice_of(j->bytes + first.n, second.n);
    buf_init(&j->page, LIST_MAX);
    return j;
}

static enum err trim_read(const struct frame *f, struct log_job *j, struct errmsg *msg)
{
    enum err e = binary_need_size(f, 2, 9, "kind and border", msg);
    if (e)
        return e;
    const uint8_t *p = f->arg[2].p;
    if (p[0] != BEFORE_OFFSET && p[0] != BEFORE_TIME)
        return err_set(msg, ERR_INVALID, "LOG_TRIM: unknown kind %u", p[0]);
    j->before.start = p[0] == BEFORE_OFFSET ? LOG_START_OFFSET : LOG_START_TIME;
    j->before.offset = load64(p + 1);
    j->before.time = (int64_t)load64(p + 1);
    j->base.run = trim_run;
    j->base.reply = trim_reply;
    return ERR_OK;
}

static enum err erase_read(const struct frame *f, struct log_job *j, struct errmsg *msg)
{
    enum err e = binary_need_size(f, 2, 8, "an offset", msg);
    if (e)
        return e;
    j->offset = load64(f->arg[2].p);
    j->base.run = erase_run;
    j->base.reply = erase_reply;
    return ERR_OK;
}

static enum err list_read(const struct frame *f, struct log_job *j, struct errmsg *msg)
{
    enum err e = binary_need_size(f, 2, 8, "limit and flags", msg);
    if (e)
        return e;
    uint32_t limit = load32(f->arg[2].p), flags = load32(f->arg[2].p + 4);
    if (limit == 0)
        return err_set(msg, ERR_INVALID, "LOG_LIST: the limit is 0");
    if (flags)
        return err_set(msg, ERR_INVALID, "LOG_LIST: unknown flags %u", flags);
    j->limit = limit < LIMIT_LIST ? limit : LIMIT_LIST;
    j->base.run = list_run;
    j->base.reply = list_reply;
    return buf_append(&j->page, "\0\0\0\0", 4); // the count
}

static enum conn_verdict start_job(struct conn *c, const struct frame *f)
{
    struct errmsg msg = {""};
    struct log_name name;
    enum err e = f->type == FRAME_LOG_LIST ? ERR_OK : binary_log_name(f, &name, &msg);
    if (e)
        return binary_fail(c, f->type, e, &msg, 0);
    struct log_job *j = job_new(commit_of(c), f);
    if (!j)
        return binary_fail(c, f->type, ERR_NO_MEMORY, NULL, 0);
    if (f->type == FRAME_LOG_TRIM)
        e = trim_read(f, j, &msg);
    else if (f->type == FRAME_LOG_ERASE)
        e = erase_read(f, j, &msg);
    else
        e = list_read(f, j, &msg);
    if (e == ERR_OK)
        return binary_job_start(c, &j->base);
    log_job_release(&j->base);
    return binary_fail(c, f->type, e, &msg, 0);
}

enum conn_verdict binary_log(struct conn *c, const struct frame *f)
{
    struct errmsg msg;
    if (f->type <= FRAME_LOG_KEYSPACE && need(f, 0, "keyspace", &msg))
        return binary_fail(c, f->type, ERR_INVALID, &msg, 0);
    switch (f->type) {
    case FRAME_LOG_CREATE:
        return create_keyspace(c, f);
    case FRAME_LOG_POLICY:
        return change_policy(c, f);
    case FRAME_LOG_KEYSPACE:
        return get_keyspace(c, f);
    case FRAME_LOG_META:
        return get_meta(c, f);
    case FRAME_LOG_FLUSH:
        return flush(c, f);
    default: // LOG_TRIM, LOG_ERASE, LOG_LIST
        return start_job(c, f);
    }
}
