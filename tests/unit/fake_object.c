#include "fake_object.h"
#include "base/assert.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    char *name;
    uint8_t *p;
    size_t n;
    struct object_sum sum;
};

struct objects {
    pthread_mutex_t lock;
    struct entry *v; // sorted
    size_t n, cap;
    unsigned connections;
};

struct object_store {
    struct objects *o;
    fake_hook hook;
    void *arg;
    bool dead;
    struct object_stats stats;
};

struct object_store *fake_object_new(void)
{
    struct object_store *s = calloc(1, sizeof *s);
    s->o = calloc(1, sizeof *s->o);
    s->o->connections = 1;
    pthread_mutex_init(&s->o->lock, NULL);
    return s;
}

struct object_store *fake_object_connect(struct object_store *s)
{
    struct object_store *c = calloc(1, sizeof *c);
    c->o = s->o;
    c->o->connections++;
    return c;
}

void fake_object_hook(struct object_store *s, fake_hook hook, void *arg)
{
    s->hook = hook;
    s->arg = arg;
}

void object_close(struct object_store *s)
{
    struct objects *o = s ? s->o : NULL;
    if (o && --o->connections == 0) {
        for (size_t i = 0; i < o->n; i++) {
            free(o->v[i].name);
            free(o->v[i].p);
        }
        free(o->v);
        pthread_mutex_destroy(&o->lock);
        free(o);
    }
    free(s);
}

const char *object_where(const struct object_store *s)
{
    (void)s;
    return "memory";
}

void object_get_stats(struct object_store *s, struct object_stats *out)
{
    pthread_mutex_lock(&s->o->lock);
    *out = s->stats;
    pthread_mutex_unlock(&s->o->lock);
}

// The first entry whose name is not below.
static size_t lower(const struct objects *o, const char *name)
{
    size_t low = 0, high = o->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (strcmp(o->v[mid].name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct entry *find(struct objects *o, const char *name)
{
    size_t i = lower(o, name);
    return i < o->n && !strcmp(o->v[i].name, name) ? &o->v[i] : NULL;
}

static void drop(struct objects *o, struct entry *e)
{
    free(e->name);
    free(e->p);
    memmove(e, e + 1, (size_t)(o->v + o->n - (e + 1)) * sizeof *e);
    o->n--;
}

static void put(struct objects *o, const char *name, const struct slice *parts, size_t count,
                struct object_sum sum)
{
    struct entry *e = find(o, name);
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += parts[i].n;
    uint8_t *p = malloc(n + 1), *at = p;
    VERIFY(p);
    for (size_t i = 0; i < count; at += parts[i++].n)
        if (parts[i].n)
            memcpy(at, parts[i].p, parts[i].n);
    if (e) {
        free(e->p);
    } else {
        size_t i = lower(o, name);
        if (o->n == o->cap) {
            o->cap = o->cap ? o->cap * 2 : 64;
            o->v = realloc(o->v, o->cap * sizeof *o->v);
        }
        e = &o->v[i];
        memmove(e + 1, e, (o->n - i) * sizeof *e);
        o->n++;
        e->name = strdup(name);
    }
    e->p = p;
    e->n = n;
    e->sum = sum;
}

static enum err get(struct objects *o, struct object_call *c)
{
    struct entry *e = find(o, c->name);
    if (!e)
        return err_set(&c->msg, ERR_MISSING, "no object %.400s", c->name);
    size_t from = 0, n = e->n;
    c->size = e->n;
    c->sum = e->sum;
    if (c->op == OBJECT_GET_RANGE) {
        from = c->offset < e->n ? c->offset : e->n;
        n = c->length < e->n - from ? c->length : e->n - from;
    }
    return buf_append(c->out, e->p + from, n);
}

static enum err perform(struct object_store *s, struct object_call *c)
{
    struct objects *o = s->o;
    struct entry *e = find(o, c->name);
    switch (c->op) {
    case OBJECT_PUT_ABSENT:
        s->stats.put++;
        if (e)
            return err_set(&c->msg, ERR_EXISTS, "%.400s exists", c->name);
        put(o, c->name, c->parts, c->count, c->sum);
        return ERR_OK;
    case OBJECT_PUT:
        s->stats.put++;
        put(o, c->name, c->parts, c->count, c->sum);
        return ERR_OK;
    case OBJECT_GET:
    case OBJECT_GET_RANGE:
        s->stats.get++;
        return get(o, c);
    case OBJECT_HEAD:
        s->stats.head++;
        c->size = e ? e->n : 0;
        return e ? ERR_OK : err_set(&c->msg, ERR_MISSING, "no object %.400s", c->name);
    default:
        s->stats.delete ++;
        if (e)
            drop(o, e);
        return ERR_OK;
    }
}

// Asks the hook. ERR_OK: go on; *after: fail nevertheless, afterwards.
static enum err ask(struct object_store *s, enum object_op op, const char *name, enum err *after,
                    struct errmsg *msg)
{
    *after = ERR_OK;
    if (s->dead)
        return err_set(msg, ERR_CLOSED, "the connection is dead");
    enum fake_fault f = s->hook ? s->hook(s->arg, op, name) : FAKE_NONE;
    s->dead = s->dead || f == FAKE_DEAD || f == FAKE_DEAD_DONE;
    if (f == FAKE_LOST)
        return err_set(msg, ERR_NETWORK, "the request was lost");
    if (f == FAKE_DEAD)
        return err_set(msg, ERR_CLOSED, "the connection died");
    if (f == FAKE_ANSWER)
        *after = err_set(msg, ERR_NETWORK, "the answer was lost");
    if (f == FAKE_DEAD_DONE)
        *after = err_set(msg, ERR_CLOSED, "the connection died");
    return ERR_OK;
}

void object_start(struct object_store *s, struct object_call *c)
{
    enum err after;
    c->e = ask(s, c->op, c->name, &after, &c->msg);
    if (!c->e) {
        struct errmsg kept = c->msg;
        pthread_mutex_lock(&s->o->lock);
        c->e = perform(s, c);
        s->stats.calls++;
        pthread_mutex_unlock(&s->o->lock);
        if (after) {
            c->e = after;
            c->msg = kept;
        }
    }
    c->own.finished = true;
    if (c->done)
        c->done(c);
}

enum err object_wait(struct object_store *s, struct object_call *c)
{
    (void)s;
    VERIFY(c->own.finished);
    return c->e;
}

void object_cancel(struct object_store *s, struct object_call *c)
{
    (void)s;
    (void)c;
}

enum err object_run(struct object_store *s, struct object_call *calls, size_t n)
{
    enum err e = ERR_OK;
    for (size_t i = 0; i < n; i++) {
        object_start(s, &calls[i]);
        e = e ? e : calls[i].e;
    }
    return e;
}

static enum err one(struct object_store *s, struct object_call *c, struct errmsg *msg)
{
    object_start(s, c);
    return c->e ? err_set(msg, c->e, "%s", c->msg.text) : ERR_OK;
}

enum err object_put(struct object_store *s, const char *name, const struct slice *parts,
                    size_t count, struct errmsg *msg)
{
    struct object_call c = {.op = OBJECT_PUT, .name = name, .parts = parts, .count = count};
    return one(s, &c, msg);
}

enum err object_put_absent(struct object_store *s, const char *name, const struct slice *parts,
                           size_t count, struct errmsg *msg)
{
    struct object_call c = {.op = OBJECT_PUT_ABSENT, .name = name, .parts = parts, .count = count};
    return one(s, &c, msg);
}

enum err object_get(struct object_store *s, const char *name, struct buf *out, struct errmsg *msg)
{
    struct object_call c = {.op = OBJECT_GET, .name = name, .out = out};
    return one(s, &c, msg);
}

enum err object_get_range(struct object_store *s, const char *name, uint64_t offset,
                          uint64_t length, struct buf *out, struct errmsg *msg)
{
    struct object_call c = {
        .op = OBJECT_GET_RANGE, .name = name, .offset = offset, .length = length, .out = out};
    return one(s, &c, msg);
}

enum err object_head(struct object_store *s, const char *name, uint64_t *size, struct errmsg *msg)
{
    struct object_call c = {.op = OBJECT_HEAD, .name = name};
    enum err e = one(s, &c, msg);
    *size = c.size;
    return e;
}

enum err object_delete(struct object_store *s, const char *name, struct errmsg *msg)
{
    struct object_call c = {.op = OBJECT_DELETE, .name = name};
    return one(s, &c, msg);
}

// A copy of what is listed, so that the callback may change the store.
static size_t copy(struct object_store *s, const char *prefix, const char *after, uint64_t max,
                   struct entry **out)
{
    struct objects *o = s->o;
    size_t n = 0, cap = max && max < o->n ? max : o->n;
    struct entry *v = calloc(cap + 1, sizeof *v);
    const char *from = after && strcmp(after, prefix) > 0 ? after : prefix;
    for (size_t i = lower(o, from); i < o->n && n < cap; i++) {
        if (after && strcmp(o->v[i].name, after) <= 0)
            continue;
        if (strncmp(o->v[i].name, prefix, strlen(prefix)) != 0)
            break;
        v[n++] = (struct entry){.name = strdup(o->v[i].name), .n = o->v[i].n};
    }
    *out = v;
    return n;
}

static void give(struct entry *v, size_t n, object_list_fn fn, void *arg)
{
    bool go_on = true;
    for (size_t i = 0; i < n; i++) {
        go_on = go_on && fn(arg, v[i].name, v[i].n);
        free(v[i].name);
    }
    free(v);
}

enum err object_list(struct object_store *s, const char *prefix, const char *after, uint64_t max,
                     object_list_fn fn, void *arg, struct errmsg *msg)
{
    enum err later;
    enum err e = ask(s, (enum object_op)FAKE_LIST, prefix, &later, msg);
    if (e)
        return e;
    struct entry *v;
    pthread_mutex_lock(&s->o->lock);
    size_t n = copy(s, prefix, after, max, &v);
    s->stats.list += n / 1000 + (n % 1000 != 0 || n == 0);
    pthread_mutex_unlock(&s->o->lock);
    give(v, n, fn, arg);
    return later;
}

void fake_object_names(struct object_store *s, const char *prefix, object_list_fn fn, void *arg)
{
    struct entry *v;
    pthread_mutex_lock(&s->o->lock);
    size_t n = copy(s, prefix, NULL, 0, &v);
    pthread_mutex_unlock(&s->o->lock);
    give(v, n, fn, arg);
}

struct slice fake_object_bytes(struct object_store *s, const char *name)
{
    struct entry *e = find(s->o, name);
    return e ? slice_of(e->p, e->n) : slice_of(NULL, 0);
}

void fake_object_set(struct object_store *s, const char *name, struct slice bytes)
{
    pthread_mutex_lock(&s->o->lock);
    put(s->o, name, &bytes, 1, (struct object_sum){false, 0});
    pthread_mutex_unlock(&s->o->lock);
}

struct object_sum fake_object_sum(struct object_store *s, const char *name)
{
    const struct entry *e = find(s->o, name);
    return e ? e->sum : (struct object_sum){false, 0};
}

void fake_object_flip(struct object_store *s, const char *name, size_t at)
{
    struct entry *e = find(s->o, name);
    VERIFY(e && at < e->n);
    e->p[at] ^= 1;
}

void fake_object_cut(struct object_store *s, const char *name)
{
    struct entry *e = find(s->o, name);
    VERIFY(e);
    e->n = 0;
}

void fake_object_drop(struct object_store *s, const char *name)
{
    pthread_mutex_lock(&s->o->lock);
    struct entry *e = find(s->o, name);
    if (e)
        drop(s->o, e);
    pthread_mutex_unlock(&s->o->lock);
}
