// Expiry: a key past its time is invisible at once to whoever looks (table/keys.h entry_visible).
// This deletes such keys for good, through the log like any delete, so that their versions are
// remembered in the floor. Two places are looked through: the table's entries that are not below
// yet, and the expiry index below, a line an expiry in order of time. Lines before the cursor are
// done with: their keys were deleted or had moved on; the next checkpoint removes them.
#include "commit/commit_int.h"
#include "base/assert.h"
#include <stdlib.h>

struct victims {
    struct commit *c;
    uint64_t now;
    struct key_ref *v; // keys are malloc'ed copies
    size_t count, cap;
    size_t max; // where looking stops, at the next change of time
    bool failed;
};

static void victim_add(struct victims *vs, enum key_space space, struct slice key)
{
    if (vs->count == vs->cap) {
        size_t cap = vs->cap ? 2 * vs->cap : 256;
        struct key_ref *v = realloc(vs->v, cap * sizeof *v);
        if (v) {
            vs->v = v;
            vs->cap = cap;
        }
    }
    uint8_t *copy = vs->count < vs->cap ? malloc(key.n + 1) : NULL;
    if (!copy) {
        vs->failed = true; // the next round finds it
        return;
    }
    memcpy(copy, key.p, key.n);
    struct slice own = slice_of(copy, key.n);
    vs->v[vs->count++] = (struct key_ref){own, keys_hash(vs->c->keys, space, own), space};
}

static void look_at_entry(void *arg, const struct key_entry *e)
{
    struct victims *vs = arg;
    if (!(e->flags & ENTRY_ABSENT) && (e->flags & ENTRY_EXPIRES) && !entry_visible(e, vs->now))
        victim_add(vs, entry_space(e), entry_key(e));
}

static void look_in_table(struct victims *vs)
{
    for (unsigned s = 0; s < KEYS_SHARDS && vs->count < vs->max; s++) {
        keys_lock(vs->c->keys, s);
        keys_each_dirty(vs->c->keys, s, look_at_entry, vs);
        keys_unlock(vs->c->keys, s);
    }
}

// From the cursor on; returns the cursor for the next round, once this round's keys are deleted.
// All lines of one millisecond are taken together.
static uint64_t look_below(struct victims *vs)
{
    uint8_t start[8];
    uint64_t cursor = atomic_load(&vs->c->expired_cursor);
    store64(start, __builtin_bswap64(cursor));
    struct store_iter *it;
    if (store_iter_new(vs->c->store, STORE_EXPIRY, slice_of(start, sizeof start), &it))
        return cursor;
    for (; store_iter_valid(it); store_iter_next(it)) {
        struct slice line = store_iter_key(it);
        uint64_t expires = line.n >= 10 ? __builtin_bswap64(load64(line.p)) : cursor;
        if (expires > vs->now || (expires >= cursor && vs->count >= vs->max))
            break;
        cursor = expires + 1;
        if (line.n >= 10)
            victim_add(vs, line.p[8] ? SPACE_IDEM : SPACE_KEYS, slice_of(line.p + 9, line.n - 9));
    }
    store_iter_free(it);
    return cursor;
}

// Logs and applies the deletion of an entry that is expired. Shard locked.
static enum err delete_entry(struct commit *c, const struct key_ref *k, uint64_t version)
{
    struct change ch = {
        .kind = CHANGE_DELETE, .space = k->space, .key = k->key, .version = version};
    struct key_fields f = {.space = k->space, .absent = true, .version = version, .key = k->key};
    struct key_entry *gone = keys_prepare(c->keys, k->hash, &f);
    struct buf b;
    uint64_t seq;
    buf_init(&b, op_size(&ch));
    enum err e = gone ? buf_reserve(&b, op_size(&ch)) : ERR_NO_MEMORY;
    if (!e) {
        op_append(&b, &ch);
        e = wal_append(c->wal, buf_slice(&b), &seq);
    }
    if (!e) {
        raise_floor(c, version);
        keys_publish(c->keys, k->hash, gone, seq, true);
        count(&c->expired, 1);
    } else if (gone) {
        keys_discard(c->keys, k->hash, gone);
    }
    buf_release(&b);
    return e;
}

// Deletes the key if it is expired now, wherever it is.
static enum err expire_one(struct commit *c, const struct key_ref *k, uint64_t now, size_t *done)
{
    unsigned shard = keys_shard(k->hash);
    enum err e = ERR_OK;
    for (int tries = 0; tries < 8; tries++) {
        keys_lock(c->keys, shard);
        const struct key_entry *entry = keys_find(c->keys, k->hash, k->space, k->key);
        bool known = entry || keys_complete(c->keys, shard);
        if (entry && !(entry->flags & ENTRY_ABSENT) && !entry_visible(entry, now)) {
            // Versions of idempotency records mean nothing to the floor.
            e = delete_entry(c, k, k->space == SPACE_KEYS ? entry->version : 0);
            *done += e == ERR_OK;
        }
        keys_unlock(c->keys, shard);
        if (known || (e = load_key(c, k, false)))
            return e;
    }
    return ERR_AGAIN;
}

size_t commit_expire(struct commit *c, size_t max)
{
    struct victims vs = {.c = c, .now = os_wall_ms(c->o.os), .max = max};
    if (admit_write(c))
        return 0;
    look_in_table(&vs);
    uint64_t cursor = look_below(&vs);
    size_t done = 0;
    bool failed = vs.failed;
    for (size_t i = 0; i < vs.count; i++) {
        failed = expire_one(c, &vs.v[i], vs.now, &done) || failed;
        free((void *)vs.v[i].key.p);
    }
    free(vs.v);
    if (!failed)
        atomic_store(&c->expired_cursor, cursor);
    if (done)
        commit_kick(c);
    return done;
}
