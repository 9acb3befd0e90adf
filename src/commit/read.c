// Reads: from the table when the key is resident, else from the store below, whose answer then
// becomes resident. A loop thread only ever takes what is in memory; the rest goes to the reader
// threads.
#include "commit/txn_int.h"
#include "base/assert.h"
#include <stdlib.h>

struct key_ref commit_ref(const struct commit *c, struct slice key)
{
    return (struct key_ref){key, keys_hash(c->keys, SPACE_KEYS, key), SPACE_KEYS};
}

void commit_prefetch_slot(const struct commit *c, const struct key_ref *k)
{
    keys_prefetch_slot(c->keys, k->hash);
}

void commit_prefetch_entry(const struct commit *c, const struct key_ref *k)
{
    keys_prefetch_entry(c->keys, k->hash);
}

// An entry keeps only the low 32 bits of its sequence. Against the durable sequence they name one
// in the 2^32 around it; one that seems to lie ahead but was never given out belongs to a long past
// one. Where the low bits of an old entry happen to match a pending sequence, the answer waits for
// that one: late by a group commit at worst, never early.
uint64_t entry_dep(const struct commit *c, const struct key_entry *e)
{
    if (c->o.relaxed || VARVE_BUG == 13)
        return 0;
    uint64_t durable = wal_durable(c->wal);
    uint32_t ahead = e->seq32 - (uint32_t)durable;
    if (ahead == 0 || ahead > UINT32_MAX / 2)
        return 0;
    uint64_t dep = durable + ahead;
    return dep <= wal_last(c->wal) ? dep : 0;
}

struct value_view entry_view(const struct key_entry *e)
{
    return (struct value_view){entry_value(e), entry_type(e), e->version, entry_expires(e)};
}

void raise_floor(struct commit *c, uint64_t version)
{
    uint64_t floor = atomic_load(&c->floor);
    while (floor < version && !atomic_compare_exchange_weak(&c->floor, &floor, version))
        ;
}

// What the store below says of a key; the value lies in `b`. ERR_OK also if that is "nothing".
static enum err ask_below(struct commit *c, const struct key_ref *k, bool memory_only,
                          struct buf *b, struct key_fields *f)
{
    struct value_view v = {0};
    buf_clear(b);
    enum err e = store_get(c->store, (enum store_space)k->space, k->key, memory_only, b);
    bool absent = e == ERR_MISSING;
    if (e == ERR_OK)
        e = stored_decode(buf_slice(b), &v);
    *f = (struct key_fields){
        .space = k->space,
        .type = v.type,
        .absent = absent,
        .version = v.version,
        .expires_ms = v.expires_ms,
        .key = k->key,
        .value = v.value,
    };
    return absent ? ERR_OK : e;
}

// Shard locked, the key not resident.
static enum err make_resident(struct commit *c, const struct key_ref *k, const struct key_fields *f)
{
    struct key_entry *n = keys_prepare(c->keys, k->hash, f);
    if (!n)
        return ERR_NO_MEMORY;
    keys_touch(n);
    keys_publish(c->keys, k->hash, n, wal_durable(c->wal), false);
    count(&c->cold_reads, 1);
    return ERR_OK;
}

enum err load_key(struct commit *c, const struct key_ref *k, bool memory_only)
{
    unsigned shard = keys_shard(k->hash);
    struct key_fields f;
    struct buf b;
    enum err e;
    buf_init(&b, LIMIT_VALUE_HARD + STORED_HEADER_MAX + 1);
    for (bool again = true; again;) {
        again = false;
        uint64_t ingests = atomic_load(&c->ingests);
        if ((e = ask_below(c, k, memory_only, &b, &f)))
            break;
        keys_lock(c->keys, shard);
        if (keys_find(c->keys, k->hash, k->space, k->key)) {
            // somebody was faster, and is right
        } else if (atomic_load(&c->ingests) != ingests) {
            again = true; // a newer value may have gone below and been evicted
        } else {
            trim_shard(c, shard);
            e = make_resident(c, k, &f);
        }
        keys_unlock(c->keys, shard);
    }
    buf_release(&b);
    return e;
}

// What is below cannot be older than what was resident last: an entry is evicted under this lock,
// and after what it says became visible below.
enum err load_key_locked(struct commit *c, const struct key_ref *k)
{
    struct key_fields f;
    struct buf b;
    buf_init(&b, LIMIT_VALUE_HARD + STORED_HEADER_MAX + 1);
    enum err e = ask_below(c, k, true, &b, &f);
    // A key that the transaction names twice is here by now.
    if (!e && !keys_find(c->keys, k->hash, k->space, k->key))
        e = make_resident(c, k, &f);
    buf_release(&b);
    return e;
}

enum err commit_get(struct commit *c, const struct key_ref *k, value_fn emit, void *arg,
                    uint64_t *dep)
{
    unsigned shard = keys_shard(k->hash);
    *dep = 0;
    // Twice would do but for a shard so short of memory that what was loaded is evicted at once.
    for (int tries = 0; tries < 8; tries++) {
        keys_lock(c->keys, shard);
        struct key_entry *e = keys_find(c->keys, k->hash, k->space, k->key);
        if (e) {
            uint64_t now = e->flags & ENTRY_EXPIRES ? os_wall_ms(c->o.os) : 0;
            bool visible = entry_visible(e, now);
            *dep = entry_dep(c, e);
            keys_touch(e);
            if (visible) {
                struct value_view v = entry_view(e);
                emit(arg, &v);
            }
            keys_unlock(c->keys, shard);
            return visible ? ERR_OK : ERR_MISSING;
        }
        bool complete = keys_complete(c->keys, shard);
        keys_unlock(c->keys, shard);
        if (complete)
            return ERR_MISSING;
        enum err err = load_key(c, k, true);
        if (err)
            return err;
    }
    return ERR_COLD;
}

// What a fetch brings in.
struct wanted {
    const struct key_ref *keys;
    size_t key_count;
    const struct log_name *logs;
    size_t log_count;
    const struct rels_list *lists;
    size_t list_count;
};

// The names lie behind the arrays.
struct fetch {
    struct commit *c;
    void (*done)(void *arg, enum err e);
    void *arg;
    size_t key_count, log_count, list_count;
    struct key_ref *keys;
    struct log_name *logs;
    struct rels_list *lists;
};

static void fetch_run(void *arg)
{
    struct fetch *f = arg;
    enum err e = ERR_OK;
    for (size_t i = 0; i < f->key_count && !e; i++)
        e = load_key(f->c, &f->keys[i], false);
    for (size_t i = 0; i < f->log_count && !e; i++)
        e = load_log_tail(f->c, &f->logs[i]);
    for (size_t i = 0; i < f->list_count && !e; i++)
        e = load_list_of_txn(f->c, f->lists[i].table, f->lists[i].hash);
    f->done(f->arg, e);
    free(f);
}

static struct slice copy_name(uint8_t **p, struct slice s)
{
    struct slice copy = slice_of(*p, s.n);
    if (s.n)
        memcpy(*p, s.p, s.n);
    *p += s.n;
    return copy;
}

static enum err fetch_start(struct commit *c, const struct wanted *x,
                            void (*done)(void *arg, enum err e), void *arg)
{
    size_t bytes = x->key_count * sizeof *x->keys + x->log_count * sizeof *x->logs +
                   x->list_count * sizeof *x->lists;
    for (size_t i = 0; i < x->key_count; i++)
        bytes += x->keys[i].key.n;
    for (size_t i = 0; i < x->log_count; i++)
        bytes += x->logs[i].keyspace.n + x->logs[i].key.n;
    struct fetch *f = malloc(sizeof *f + bytes);
    if (!f)
        return ERR_NO_MEMORY;
    *f = (struct fetch){c, done, arg, x->key_count, x->log_count, x->list_count, NULL, NULL, NULL};
    f->keys = (struct key_ref *)(f + 1);
    f->logs = (struct log_name *)(f->keys + x->key_count);
    f->lists = (struct rels_list *)(f->logs + x->log_count);
    uint8_t *p = (uint8_t *)(f->lists + x->list_count);
    for (size_t i = 0; i < x->key_count; i++) {
        f->keys[i] = x->keys[i];
        f->keys[i].key = copy_name(&p, x->keys[i].key);
    }
    for (size_t i = 0; i < x->log_count; i++) {
        f->logs[i].keyspace = copy_name(&p, x->logs[i].keyspace);
        f->logs[i].key = copy_name(&p, x->logs[i].key);
    }
    if (x->list_count)
        memcpy(f->lists, x->lists, x->list_count * sizeof *x->lists);
    count(&c->cold_waits, 1);
    enum err e = readers_add(&c->readers, fetch_run, f);
    if (e)
        free(f);
    return e;
}

enum err commit_fetch(struct commit *c, const struct key_ref *keys, size_t count_of,
                      void (*done)(void *arg, enum err e), void *arg)
{
    struct wanted x = {.keys = keys, .key_count = count_of};
    return fetch_start(c, &x, done, arg);
}

enum err commit_txn_fetch(struct commit *c, const struct txn *t,
                          void (*done)(void *arg, enum err e), void *arg)
{
    size_t lists = rel_lists(c, t, NULL, 0);
    struct key_ref *keys = malloc((t->count + 1) * (sizeof *keys + sizeof(struct log_name)) +
                                  lists * sizeof(struct rels_list));
    if (!keys)
        return ERR_NO_MEMORY;
    struct log_name *logs = (struct log_name *)(keys + t->count + 1);
    struct rels_list *list = (struct rels_list *)(logs + t->count + 1);
    struct wanted x = {.keys = keys, .logs = logs, .lists = list};
    x.key_count = commit_txn_cold(c, t, keys, t->count + 1);
    for (size_t i = 0; i < t->count; i++)
        if (t->ops[i].kind == TXN_APPEND)
            logs[x.log_count++] = t->ops[i].append->name;
    size_t now = rel_lists(c, t, list, lists); // a relation may have been made meanwhile
    x.list_count = now < lists ? now : lists;
    enum err e = fetch_start(c, &x, done, arg);
    free(keys);
    return e;
}

enum err commit_background(struct commit *c, void (*fn)(void *arg), void *arg)
{
    return readers_add(&c->readers, fn, arg);
}
