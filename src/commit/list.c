// Sorted listings: the store below is sorted but only as new as the last checkpoint; what changed
// since is in the table, unsorted. A listing first gathers the smallest `limit` live dirty keys of
// its range, then opens an iterator below (so that what became clean in between is seen there), and
// merges. For each key the table, where it holds the key, has the last word. Where the gathered
// keys were as many as fit, the merge ends with the last of them, for others may follow; if it gave
// too few by then, because some were gone when their turn came, another round goes on from there.
#include "commit/commit_int.h"
#include "base/assert.h"
#include <stdlib.h>

// A max-heap of the smallest `cap` keys seen; each a malloc'ed copy.
struct smallest {
    struct slice prefix, after;
    uint64_t now;
    struct slice *keys;
    size_t count, cap;
    bool failed;
};

static void sift_down(struct smallest *h, size_t at)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= h->count)
            return;
        if (child + 1 < h->count && slice_compare(h->keys[child], h->keys[child + 1]) < 0)
            child++;
        if (slice_compare(h->keys[at], h->keys[child]) >= 0)
            return;
        struct slice t = h->keys[at];
        h->keys[at] = h->keys[child];
        h->keys[child] = t;
        at = child;
    }
}

static void sift_up(struct smallest *h, size_t at)
{
    while (at && slice_compare(h->keys[(at - 1) / 2], h->keys[at]) < 0) {
        struct slice t = h->keys[at];
        h->keys[at] = h->keys[(at - 1) / 2];
        h->keys[(at - 1) / 2] = t;
        at = (at - 1) / 2;
    }
}

static void smallest_offer(void *arg, const struct key_entry *e)
{
    struct smallest *h = arg;
    struct slice key = entry_key(e);
    if (h->failed || entry_space(e) != SPACE_KEYS || !entry_visible(e, h->now) ||
        !slice_starts(key, h->prefix) || slice_compare(key, h->after) <= 0)
        return;
    if (h->count == h->cap && slice_compare(key, h->keys[0]) >= 0)
        return;
    uint8_t *copy = malloc(key.n);
    if (!copy) {
        h->failed = true;
        return;
    }
    memcpy(copy, key.p, key.n);
    if (h->count == h->cap) {
        free((void *)h->keys[0].p);
        h->keys[0] = slice_of(copy, key.n);
        sift_down(h, 0);
    } else {
        h->keys[h->count++] = slice_of(copy, key.n);
        sift_up(h, h->count - 1);
    }
}

static int by_key(const void *a, const void *b)
{
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

struct copied {
    struct buf bytes;
    struct value_view view;
    enum err err;
};

static void copy_value(void *arg, const struct value_view *v)
{
    struct copied *d = arg;
    buf_clear(&d->bytes);
    d->err = buf_append(&d->bytes, v->value.p, v->value.n);
    d->view = *v;
}

// Reads one key wherever it is; blocking. ERR_MISSING if it is gone.
static enum err read_key(struct commit *c, struct slice key, struct copied *d)
{
    struct key_ref k = commit_ref(c, key);
    uint64_t dep;
    for (;;) {
        enum err e = commit_get(c, &k, copy_value, d, &dep);
        if (e == ERR_COLD)
            e = load_key(c, &k, false);
        else
            return e ? e : d->err;
        if (e)
            return e;
    }
}

// A key of the store's snapshot: the table decides if it holds the key, else the snapshot.
static enum err read_snapshot(struct commit *c, struct slice key, struct slice stored,
                              struct copied *d)
{
    struct key_ref k = commit_ref(c, key);
    unsigned shard = keys_shard(k.hash);
    uint64_t now = os_wall_ms(c->o.os);
    enum err e;
    keys_lock(c->keys, shard);
    const struct key_entry *entry = keys_find(c->keys, k.hash, SPACE_KEYS, key);
    if (entry) {
        bool visible = entry_visible(entry, now);
        struct value_view v = entry_view(entry);
        if (visible)
            copy_value(d, &v);
        keys_unlock(c->keys, shard);
        return visible ? d->err : ERR_MISSING;
    }
    keys_unlock(c->keys, shard);
    struct value_view v;
    if ((e = stored_decode(stored, &v)))
        return e;
    if (v.expires_ms && v.expires_ms <= now)
        return ERR_MISSING;
    copy_value(d, &v);
    return d->err;
}

// The next key of the merge into *key; false at the end of the round. Steps past a dirty one; past
// one that is only below the caller does, after reading it.
static bool merge_next(const struct smallest *h, size_t *at, struct store_iter *it,
                       struct slice *key, bool *below)
{
    bool has_dirty = *at < h->count;
    bool has_below = store_iter_valid(it) && slice_starts(store_iter_key(it), h->prefix);
    if (!has_dirty && (!has_below || h->count == h->cap))
        return false;
    int c = !has_dirty ? 1 : !has_below ? -1 : slice_compare(h->keys[*at], store_iter_key(it));
    *below = c > 0;
    *key = c > 0 ? store_iter_key(it) : h->keys[*at];
    if (c == 0)
        store_iter_next(it); // the dirty one speaks for both
    if (c <= 0)
        ++*at;
    return true;
}

// What is left to give, and to whom.
struct giving {
    list_fn fn;
    void *arg;
    size_t left; // 0 also once fn wants no more
};

static enum err merge(struct commit *c, const struct smallest *h, struct store_iter *it,
                      struct giving *g)
{
    struct copied d = {0};
    buf_init(&d.bytes, LIMIT_VALUE_HARD + 1);
    struct slice key;
    size_t at = 0;
    bool below;
    enum err e = ERR_OK;
    while (g->left && merge_next(h, &at, it, &key, &below)) {
        e = below ? read_snapshot(c, key, store_iter_value(it), &d) : read_key(c, key, &d);
        if (e == ERR_OK) {
            d.view.value = buf_slice(&d.bytes);
            g->left = g->fn(g->arg, key, &d.view) ? g->left - 1 : 0;
        } else if (e != ERR_MISSING) {
            break;
        }
        e = ERR_OK;
        if (below)
            store_iter_next(it);
    }
    buf_release(&d.bytes);
    return e;
}

static void forget_keys(struct smallest *h)
{
    for (size_t i = 0; i < h->count; i++)
        free((void *)h->keys[i].p);
    h->count = 0;
}

// Gathers, opens the iterator, merges.
static enum err list_round(struct commit *c, struct smallest *h, struct giving *g,
                           struct errmsg *msg)
{
    struct store_iter *it = NULL;
    h->now = os_wall_ms(c->o.os);
    for (unsigned s = 0; s < KEYS_SHARDS; s++) {
        keys_lock(c->keys, s);
        keys_each_dirty(c->keys, s, smallest_offer, h);
        keys_unlock(c->keys, s);
    }
    qsort(h->keys, h->count, sizeof *h->keys, by_key);
    struct slice start = slice_compare(h->after, h->prefix) > 0 ? h->after : h->prefix;
    enum err e = h->failed ? ERR_NO_MEMORY : store_iter_new(c->store, STORE_KEYS, start, &it);
    if (e)
        return err_set(msg, e, "cannot read the store: %s", err_text(e));
    if (store_iter_valid(it) && h->after.n && slice_equal(store_iter_key(it), h->after))
        store_iter_next(it);
    e = merge(c, h, it, g);
    if (e)
        err_set(msg, e, "cannot read a value: %s", err_text(e));
    else
        e = store_iter_status(it, msg);
    store_iter_free(it);
    return e;
}

enum err commit_list(struct commit *c, struct slice prefix, struct slice after, size_t limit,
                     list_fn fn, void *arg, uint64_t *dep, struct errmsg *msg)
{
    struct smallest h = {.prefix = prefix, .after = after, .cap = limit};
    struct giving g = {fn, arg, limit};
    struct slice last = {NULL, 0}; // of the round before, ours
    *dep = 0;
    count(&c->lists, 1);
    if (limit == 0 || limit > LIMIT_LIST + 1)
        return err_set(msg, ERR_INVALID, "limit is %zu, not within 1 and %u", limit,
                       LIMIT_LIST + 1);
    h.keys = calloc(limit, sizeof *h.keys);
    if (!h.keys)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    enum err e = list_round(c, &h, &g, msg);
    while (!e && g.left && h.count == h.cap) {
        free((void *)last.p);
        last = h.after = h.keys[--h.count];
        forget_keys(&h);
        e = list_round(c, &h, &g, msg);
    }
    forget_keys(&h);
    free((void *)last.p);
    free(h.keys);
    // What was read may be as new as the newest change: the answer waits for all given out so far.
    if (!c->o.relaxed)
        *dep = wal_last(c->wal) > wal_durable(c->wal) ? wal_last(c->wal) : 0;
    commit_kick(c);
    return e;
}
