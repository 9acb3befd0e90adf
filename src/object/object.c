// What all object stores have in common: checks, waiting, running many, counting.
#include "object/object_int.h"
#include "base/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

const char *object_op_name(enum object_op op)
{
    static const char *const names[OBJECT_OPS] = {"put",        "put if absent", "get",
                                                  "ranged get", "head",          "delete"};
    VERIFY((unsigned)op < OBJECT_OPS);
    return names[op];
}

uint64_t object_parts_size(const struct slice *parts, size_t count)
{
    uint64_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += parts[i].n;
    return n;
}

void object_sum_format(char text[OBJECT_SUM_TEXT], uint32_t sum)
{
    snprintf(text, OBJECT_SUM_TEXT, "%08" PRIx32, sum);
}

bool object_sum_parse(struct slice text, uint32_t *sum)
{
    *sum = 0;
    for (size_t i = 0; i < text.n; i++) {
        const char *digits = "0123456789abcdef0123456789ABCDEF";
        const char *digit = text.p[i] ? strchr(digits, text.p[i]) : NULL;
        if (!digit)
            return false;
        *sum = *sum << 4 | (uint32_t)((digit - digits) % 16);
    }
    return text.n == OBJECT_SUM_TEXT - 1;
}

// ---- names

// What is wrong with a full name, or NULL.
static const char *name_fault(const char *name)
{
    if (!utf8_valid(slice_str(name)))
        return "it is not UTF-8";
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return "it holds a control byte";
    for (const char *part = name;; part++) {
        size_t n = strcspn(part, "/");
        if (n == 0)
            return *name ? "a part of it is empty" : "it is empty";
        if ((n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
            return "a part of it is \".\" or \"..\"";
        part += n;
        if (!*part)
            return NULL;
    }
}

// Joins prefix and name in `full`, OBJECT_NAME_MAX + 1 bytes.
static enum err full_name(const struct object_store *s, const char *name, char *full,
                          struct errmsg *msg)
{
    int n = snprintf(full, OBJECT_NAME_MAX + 1, "%s%s", s->prefix, name);
    if (n < 0 || (unsigned)n > OBJECT_NAME_MAX)
        return err_set(msg, ERR_TOO_BIG, "%s: name \"%.100s...\" is longer than %u bytes", s->where,
                       name, OBJECT_NAME_MAX);
    const char *fault = *name ? name_fault(full) : "it is empty";
    if (fault)
        return err_set(msg, ERR_INVALID, "%s: name \"%.200s\": %s", s->where, name, fault);
    return ERR_OK;
}

// ---- opening

enum err object_base_init(struct object_store *s, const struct object_ops *ops,
                          const struct object_options *o, const char *where)
{
    s->ops = ops;
    s->os = o->os;
    s->prefix = strdup(o->prefix ? o->prefix : "");
    s->where = strdup(where);
    if (!s->prefix || !s->where) {
        free(s->prefix);
        free(s->where);
        return ERR_NO_MEMORY;
    }
    VERIFY(pthread_mutex_init(&s->lock, NULL) == 0);
    VERIFY(pthread_cond_init(&s->finished, NULL) == 0);
    return ERR_OK;
}

void object_base_release(struct object_store *s)
{
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->finished);
    free(s->prefix);
    free(s->where);
}

enum err object_open(struct object_store **s, const struct object_options *o, struct errmsg *msg)
{
    *s = NULL;
    const char *prefix = o->prefix ? o->prefix : "";
    char probe[OBJECT_NAME_MAX + 2];
    int n = snprintf(probe, sizeof probe, "%sx", prefix);
    if (n < 0 || (unsigned)n > OBJECT_NAME_MAX)
        return err_set(msg, ERR_INVALID, "object_prefix is longer than %u bytes",
                       OBJECT_NAME_MAX - 1);
    const char *fault = name_fault(probe);
    if (fault)
        return err_set(msg, ERR_INVALID, "object_prefix \"%.200s\" cannot begin a name: %s", prefix,
                       fault);
    switch (o->kind) {
    case OBJECT_DIRECTORY:
        return object_directory_open(s, o, msg);
    case OBJECT_S3:
        return object_s3_open(s, o, msg);
    }
    return err_set(msg, ERR_INVALID, "no such kind of object store: %d", (int)o->kind);
}

void object_close(struct object_store *s)
{
    if (s)
        s->ops->close(s);
}

void object_hurry(struct object_store *s)
{
    if (s->ops->hurry)
        s->ops->hurry(s);
}

const char *object_where(const struct object_store *s)
{
    return s->where;
}

// ---- calls

void object_finish(struct object_store *s, struct object_call *c)
{
    bool failed = c->e != ERR_OK && c->e != ERR_MISSING && c->e != ERR_EXISTS;
    void (*done)(struct object_call *) = c->done;
    pthread_mutex_lock(&s->lock);
    s->stats.calls++;
    s->stats.failed += failed;
    if (!done) {
        c->own.finished = true; // from the unlock on, who waits may free it
        pthread_cond_broadcast(&s->finished);
    }
    pthread_mutex_unlock(&s->lock);
    if (done)
        done(c);
}

static enum err check_call(struct object_store *s, struct object_call *c, char *full)
{
    VERIFY((unsigned)c->op < OBJECT_OPS);
    if (c->op == OBJECT_PUT || c->op == OBJECT_PUT_ABSENT) {
        uint64_t n = object_parts_size(c->parts, c->count);
        if (n > OBJECT_SIZE_MAX)
            return err_set(&c->msg, ERR_TOO_BIG, "%s: \"%.200s\" would have more than %u bytes",
                           s->where, c->name, OBJECT_SIZE_MAX);
    }
    if (c->op == OBJECT_GET || c->op == OBJECT_GET_RANGE)
        VERIFY(c->out);
    if (c->op != OBJECT_PUT && c->op != OBJECT_PUT_ABSENT)
        c->sum.there = false;
    return full_name(s, c->name, full, &c->msg);
}

void object_start(struct object_store *s, struct object_call *c)
{
    char full[OBJECT_NAME_MAX + 1];
    c->own.next = NULL;
    c->own.state = NULL;
    c->own.finished = false;
    c->size = 0;
    c->msg.text[0] = 0;
    c->e = check_call(s, c, full);
    if (c->e != ERR_OK)
        object_finish(s, c);
    else
        s->ops->start(s, c, full);
}

enum err object_wait(struct object_store *s, struct object_call *c)
{
    VERIFY(!c->done);
    pthread_mutex_lock(&s->lock);
    while (!c->own.finished)
        pthread_cond_wait(&s->finished, &s->lock);
    pthread_mutex_unlock(&s->lock);
    return c->e;
}

void object_cancel(struct object_store *s, struct object_call *c)
{
    VERIFY(!c->done);
    pthread_mutex_lock(&s->lock);
    if (!c->own.finished && s->ops->cancel)
        s->ops->cancel(s, c);
    pthread_mutex_unlock(&s->lock);
}

enum err object_run(struct object_store *s, struct object_call *calls, size_t n)
{
    enum err first = ERR_OK;
    for (size_t i = 0; i < n; i++)
        object_start(s, &calls[i]);
    for (size_t i = 0; i < n; i++) {
        enum err e = object_wait(s, &calls[i]);
        if (first == ERR_OK)
            first = e;
    }
    return first;
}

// ---- one at a time

static enum err run_one(struct object_store *s, struct object_call *c, struct errmsg *msg)
{
    object_start(s, c);
    enum err e = object_wait(s, c);
    if (msg)
        *msg = c->msg;
    return e;
}

enum err object_put(struct object_store *s, const char *name, const struct slice *parts,
                    size_t count, struct errmsg *msg)
{
    struct object_call c = {.op = OBJECT_PUT, .name = name, .parts = parts, .count = count};
    return run_one(s, &c, msg);
}

enum err object_put_absent(struct object_store *s, const char *name, const struct slice *parts,
                           size_t count, struct errmsg *msg)
{
    struct object_call c = {.op = OBJECT_PUT_ABSENT, .name = name, .parts = parts, .count = count};
    return run_one(s, &c, msg);
}

enum err object_get(struct object_store *s, const char *name, struct buf *out, struct errmsg *msg)
{
    struct object_call c = {.op = OBJECT_GET, .name = name, .out = out};
    return run_one(s, &c, msg);
}

enum err object_get_range(struct object_store *s, const char *name, uint64_t offset,
                          uint64_t length, struct buf *out, struct errmsg *msg)
{
    struct object_call c = {
        .op = OBJECT_GET_RANGE, .name = name, .offset = offset, .length = length, .out = out};
    return run_one(s, &c, msg);
}

enum err object_head(struct object_store *s, const char *name, uint64_t *size, struct errmsg *msg)
{
    struct object_call c = {.op = OBJECT_HEAD, .name = name};
    enum err e = run_one(s, &c, msg);
    *size = c.size;
    return e;
}

enum err object_delete(struct object_store *s, const char *name, struct errmsg *msg)
{
    struct object_call c = {.op = OBJECT_DELETE, .name = name};
    return run_one(s, &c, msg);
}

// ---- listing

struct listing {
    size_t prefix_n; // of the store's own prefix
    object_list_fn fn;
    void *arg;
};

static bool without_prefix(void *arg, const char *name, uint64_t size)
{
    struct listing *l = arg;
    return l->fn(l->arg, name + l->prefix_n, size);
}

enum err object_list(struct object_store *s, const char *prefix, const char *after, uint64_t max,
                     object_list_fn fn, void *arg, struct errmsg *msg)
{
    struct listing l = {strlen(s->prefix), fn, arg};
    size_t n = l.prefix_n + strlen(prefix), m = l.prefix_n + (after ? strlen(after) : 0);
    if (n > OBJECT_NAME_MAX || m > OBJECT_NAME_MAX)
        return err_set(msg, ERR_TOO_BIG, "%s: a name to list from is longer than %u bytes",
                       s->where, OBJECT_NAME_MAX);
    char full[OBJECT_NAME_MAX + 1], full_after[OBJECT_NAME_MAX + 1];
    snprintf(full, sizeof full, "%s%s", s->prefix, prefix);
    snprintf(full_after, sizeof full_after, "%s%s", s->prefix, after ? after : "");
    // After the prefix itself in any case: an object that is called just so has no name here.
    enum err e = s->ops->list(s, full, full_after, max ? max : UINT64_MAX, without_prefix, &l, msg);
    pthread_mutex_lock(&s->lock);
    s->stats.calls++;
    s->stats.failed += e != ERR_OK;
    pthread_mutex_unlock(&s->lock);
    return e;
}

void object_get_stats(struct object_store *s, struct object_stats *out)
{
    pthread_mutex_lock(&s->lock);
    *out = s->stats;
    pthread_mutex_unlock(&s->lock);
    if (s->ops->stats)
        s->ops->stats(s, out);
}
