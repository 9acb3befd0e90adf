#include "store/store_int.h"
#include "base/assert.h"
#include <stdlib.h>

// A new directory is only as durable as its name in the parent.
static enum err make_dir(struct os *os, const char *dir, struct errmsg *msg)
{
    enum err e = os_mkdir(os, dir);
    if (e == ERR_EXISTS)
        return ERR_OK;
    if (e != ERR_OK)
        return err_set(msg, e, "%s: cannot create directory: %s", dir, os_last_error());
    char parent[LIMIT_PATH] = ".";
    const char *slash = strrchr(dir, '/');
    if (slash) {
        size_t n = slash == dir ? 1 : (size_t)(slash - dir); // the parent of "/x" is "/"
        if (n >= sizeof parent)
            return err_set(msg, ERR_INVALID, "%s: path too long", dir);
        memcpy(parent, dir, n);
        parent[n] = '\0';
    }
    e = os_sync_dir(os, parent);
    if (e != ERR_OK)
        return err_set(msg, e, "%s: cannot sync directory: %s", parent, os_last_error());
    return ERR_OK;
}

enum err store_init(struct store *s, const struct store_ops *ops, const struct store_options *o,
                    struct errmsg *msg)
{
    s->ops = ops;
    s->os = o->os;
    atomic_init(&s->writing, false);
    s->dir = strdup(o->dir);
    if (!s->dir)
        return err_set(msg, ERR_NO_MEMORY, "%s: out of memory", o->dir);
    return make_dir(o->os, o->dir, msg);
}

void store_release(struct store *s)
{
    free(s->dir);
    s->dir = NULL;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    VERIFY(!atomic_load(&s->writing));
    s->ops->close(s);
}

enum err store_get(struct store *s, enum store_space space, struct slice key, bool memory_only,
                   struct buf *out)
{
    VERIFY((unsigned)space < STORE_SPACES);
    return s->ops->get(s, space, key, memory_only, out);
}

enum err store_begin(struct store *s, struct store_writer **out)
{
    // Two checkpoints at once would let the older one overwrite the newer.
    VERIFY(!atomic_exchange(&s->writing, true));
    struct store_writer *w = NULL;
    enum err e = s->ops->begin(s, &w);
    if (e != ERR_OK) {
        atomic_store(&s->writing, false);
        return e;
    }
    w->s = s;
    buf_init(&w->last, STORE_KEY_MAX);
    w->space = STORE_KEYS;
    w->any = false;
    w->failed = ERR_OK;
    w->why.text[0] = '\0';
    w->bytes = 0;
    *out = w;
    return ERR_OK;
}

void store_hurry(struct store_writer *w)
{
    w->hurry = true;
}

static enum err check_order(struct store_writer *w, enum store_space space, struct slice key)
{
    if (!w->any || space > w->space)
        return ERR_OK;
    if (space < w->space)
        return ERR_INVALID;
    return slice_compare(key, buf_slice(&w->last)) > 0 ? ERR_OK : ERR_INVALID;
}

enum err store_add(struct store_writer *w, enum store_space space, struct slice key,
                   struct slice value)
{
    VERIFY((unsigned)space < STORE_SPACES);
    if (w->failed != ERR_OK)
        return w->failed;
    if (key.n > STORE_KEY_MAX || value.n > STORE_VALUE_MAX)
        return ERR_TOO_BIG;
    enum err e = check_order(w, space, key);
    if (e != ERR_OK)
        return e;
    buf_clear(&w->last);
    e = buf_append(&w->last, key.p, key.n);
    if (e == ERR_OK)
        e = w->s->ops->add(w, space, key, value);
    w->failed = e;
    if (e != ERR_OK && w->why.text[0] == '\0')
        err_set(&w->why, e, "%s", err_text(e));
    w->any = true;
    w->space = space;
    w->bytes += key.n + value.n;
    return e;
}

uint64_t store_writer_bytes(const struct store_writer *w)
{
    return w->bytes;
}

enum err store_commit(struct store_writer *w, struct errmsg *msg)
{
    if (w->failed != ERR_OK) {
        enum err failed = err_set(msg, w->failed, "%s", w->why.text);
        store_abort(w);
        return failed;
    }
    struct store *s = w->s;
    buf_release(&w->last);
    enum err e = s->ops->commit(w, msg);
    atomic_store(&s->writing, false);
    return e;
}

void store_abort(struct store_writer *w)
{
    if (!w)
        return;
    struct store *s = w->s;
    buf_release(&w->last);
    s->ops->abort(w);
    atomic_store(&s->writing, false);
}

enum err store_iter_range(struct store *s, enum store_space space, struct slice start,
                          struct slice end, struct store_iter **it)
{
    VERIFY((unsigned)space < STORE_SPACES);
    enum err e = s->ops->iter_new(s, space, start, end, it);
    if (e == ERR_OK)
        (*it)->ops = s->ops;
    return e;
}

enum err store_iter_new(struct store *s, enum store_space space, struct slice start,
                        struct store_iter **it)
{
    return store_iter_range(s, space, start, (struct slice){0}, it);
}

bool store_iter_valid(const struct store_iter *it)
{
    return it->ops->iter_valid(it);
}

struct slice store_iter_key(const struct store_iter *it)
{
    return it->ops->iter_key(it);
}

struct slice store_iter_value(const struct store_iter *it)
{
    return it->ops->iter_value(it);
}

void store_iter_next(struct store_iter *it)
{
    it->ops->iter_next(it);
}

enum err store_iter_status(const struct store_iter *it, struct errmsg *msg)
{
    return it->ops->iter_status(it, msg);
}

void store_iter_free(struct store_iter *it)
{
    if (it)
        it->ops->iter_free(it);
}

enum err store_verify(struct store *s, struct errmsg *msg)
{
    return s->ops->verify(s, msg);
}

void store_get_stats(struct store *s, struct store_stats *out)
{
    *out = (struct store_stats){0};
    s->ops->get_stats(s, out);
}
