// Logs in checkpoints and in recovery. A checkpoint pins what is dirty as of a moment after its
// mark (a reference to each changed chunk, a copy of each header) and writes that; what is appended
// meanwhile stays dirty. Recovery reads all headers, then applies the log's tail, for which it
// loads the chunks it needs: a change that is below already changes nothing.
#include "commit/log_int.h"
#include "base/assert.h"
#include <inttypes.h>
#include <stdlib.h>

// ---- pinning

// Which chunks' bytes may go from below: they are tiered, and need not be here too. Shard locked.
static void plan_drop(const struct commit *c, struct log_pin *pin)
{
    const struct log *l = pin->log;
    const struct commit_tier *t = &c->o.tier;
    if (!t->read || !l->tiered)
        return;
    uint64_t from = l->local > pin->sweep_to ? l->local : pin->sweep_to;
    uint64_t to = log_local_border(l, t->local_bytes, tier_keep_time(c, l));
    if (pin->count && to > pin->chunks[0].meta.first)
        to = pin->chunks[0].meta.first; // rows are written in their order
    if (to <= from)
        return;
    pin->drop_from = from;
    pin->drop_to = pin->image->local = to;
}

static void add_log_pin(void *arg, struct log_pin *pin)
{
    struct log_pins *p = arg;
    plan_drop(p->c, pin);
    if (p->n == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 256;
        struct log_pin *v = p->failed ? NULL : realloc(p->v, cap * sizeof *v);
        if (!v) {
            p->failed = true;
            log_pin_release(pin);
            return;
        }
        p->v = v;
        p->cap = cap;
    }
    p->v[p->n++] = *pin;
}

static int by_space_and_id(const void *a, const void *b)
{
    const struct log *x = ((const struct log_pin *)a)->log, *y = ((const struct log_pin *)b)->log;
    enum store_space sx = log_space(x->keyspace), sy = log_space(y->keyspace);
    if (sx != sy)
        return sx < sy ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

// A keyspace is in the table as soon as its lock is let go after its change was logged.
static void take_keyspaces(struct commit *c, struct log_pins *p)
{
    pthread_mutex_lock(&c->keyspace_lock);
    uint32_t all = logs_keyspace_count(c->logs);
    p->keyspaces = malloc((all + 1) * sizeof *p->keyspaces);
    p->failed = p->failed || !p->keyspaces;
    for (uint32_t id = 1; !p->failed && id <= all; id++) {
        struct keyspace *k = logs_keyspace_id(c->logs, id);
        uint64_t seq = atomic_load(&k->seq);
        if (seq == k->stored_seq)
            continue;
        p->keyspaces[p->keyspace_count++] = (struct keyspace_pin){k, seq, keyspace_policy(k)};
    }
    pthread_mutex_unlock(&c->keyspace_lock);
}

void log_pins_take(struct commit *c, struct log_pins *p)
{
    *p = (struct log_pins){.c = c};
    take_keyspaces(c, p);
    for (unsigned s = 0; s < LOGS_SHARDS; s++) {
        logs_lock(c->logs, s);
        if (logs_pin_dirty(c->logs, s, add_log_pin, p))
            p->failed = true;
        logs_unlock(c->logs, s);
    }
    if (p->n)
        qsort(p->v, p->n, sizeof *p->v, by_space_and_id);
}

void log_pins_done(struct commit *c, struct log_pins *p, bool written)
{
    count(&c->tier_dropped, written ? c->tier_dropping : 0);
    c->tier_dropping = 0;
    for (size_t i = 0; i < p->n; i++) {
        const struct log *l = p->v[i].log;
        unsigned shard = l->shard;
        logs_lock(c->logs, shard);
        if (written) {
            logs_written(c->logs, &p->v[i]);
            trim_log_shard(c, shard);
        }
        logs_unlock(c->logs, shard);
        log_pin_release(&p->v[i]);
    }
    for (size_t i = 0; written && i < p->keyspace_count; i++)
        p->keyspaces[i].keyspace->stored_seq = p->keyspaces[i].seq;
    free(p->v);
    free(p->keyspaces);
}

// ---- writing, rows in rising order

static enum err write_keyspaces(struct store_writer *w, const struct log_pins *p, struct buf *b)
{
    uint8_t key[ROW_KEY];
    enum err e = ERR_OK;
    for (size_t i = 0; i < p->keyspace_count && !e; i++) {
        buf_clear(b);
        const struct keyspace_pin *k = &p->keyspaces[i];
        e = row_put_keyspace(b, k->keyspace, &k->policy);
        if (!e)
            e = store_add(w, STORE_LOGS, row_keyspace_key(key, k->keyspace->id), buf_slice(b));
    }
    return e;
}

static enum err write_headers(struct store_writer *w, enum store_space space,
                              const struct log_pin *v, size_t n, struct buf *b)
{
    uint8_t key[ROW_KEY];
    enum err e = ERR_OK;
    for (size_t i = 0; i < n && !e; i++) {
        buf_clear(b);
        e = row_put_log(b, v[i].image);
        if (!e)
            e = store_add(w, space, row_log_key(key, v[i].log->id), buf_slice(b));
    }
    return e;
}

// Takes the rows of chunks that were trimmed away from below.
static enum err sweep(struct commit *c, struct store_writer *w, enum store_space space,
                      enum row_kind kind, const struct log_pin *p)
{
    uint8_t key[ROW_KEY];
    struct store_iter *it;
    struct errmsg msg;
    uint64_t first;
    if (p->sweep_from >= p->sweep_to || VARVE_BUG == 29)
        return ERR_OK;
    uint8_t end[ROW_KEY];
    enum err e =
        store_iter_range(c->store, space, row_chunk_key(key, ROW_META, p->log->id, p->sweep_from),
                         row_chunk_key(end, ROW_META, p->log->id, p->sweep_to), &it);
    if (e)
        return e;
    for (; !e && store_iter_valid(it); store_iter_next(it)) {
        if (!row_is_chunk_of(store_iter_key(it), ROW_META, p->log->id, &first))
            break;
        e = store_add(w, space, row_chunk_key(key, kind, p->log->id, first),
                      (struct slice){NULL, 0});
    }
    if (!e)
        e = store_iter_status(it, &msg);
    store_iter_free(it);
    return e;
}

// Takes the bytes of whole chunks from below that are in the tier and need not be here too.
static enum err drop(struct commit *c, struct store_writer *w, enum store_space space,
                     const struct log_pin *p)
{
    uint8_t key[ROW_KEY], end[ROW_KEY];
    struct store_iter *it;
    struct errmsg msg;
    struct chunk_meta m;
    uint64_t first;
    if (p->drop_from >= p->drop_to)
        return ERR_OK;
    enum err e =
        store_iter_range(c->store, space, row_chunk_key(key, ROW_META, p->log->id, p->drop_from),
                         row_chunk_key(end, ROW_META, p->log->id, p->drop_to), &it);
    if (e)
        return e;
    for (; !e && store_iter_valid(it); store_iter_next(it)) {
        if (!row_is_chunk_of(store_iter_key(it), ROW_META, p->log->id, &first))
            break;
        if ((e = row_get_meta(first, store_iter_value(it), &m)))
            break;
        if (m.last < p->drop_to && m.bytes && chunk_is_whole(&m))
            e = store_add(w, space, row_chunk_key(key, ROW_CHUNK, p->log->id, first),
                          (struct slice){NULL, 0});
        c->tier_dropping += e == ERR_OK;
    }
    if (!e)
        e = store_iter_status(it, &msg);
    store_iter_free(it);
    return e;
}

static enum err write_chunks(struct commit *c, struct store_writer *w, enum store_space space,
                             enum row_kind kind, const struct log_pin *v, size_t n, struct buf *b)
{
    uint8_t key[ROW_KEY];
    enum err e = ERR_OK;
    for (size_t i = 0; i < n && !e; i++) {
        e = sweep(c, w, space, kind, &v[i]);
        if (!e && kind == ROW_CHUNK)
            e = drop(c, w, space, &v[i]);
        for (size_t j = 0; j < v[i].count && !e; j++) {
            const struct chunk *ch = &v[i].chunks[j];
            struct slice row =
                slice_of(ch->block ? (const void *)ch->block->bytes : "", ch->meta.bytes);
            if (kind == ROW_META) {
                buf_clear(b);
                if ((e = row_put_meta(b, &ch->meta)))
                    break;
                row = buf_slice(b);
            }
            if (kind == ROW_CHUNK && writers_will_wait(c))
                store_hurry(w);
            e = store_add(w, space, row_chunk_key(key, kind, v[i].log->id, ch->meta.first), row);
        }
    }
    return e;
}

enum err log_pins_write(struct commit *c, struct store_writer *w, const struct log_pins *p)
{
    struct buf b;
    size_t logs = 0; // of STORE_LOGS; the rest are of STORE_EVENTS
    if (p->failed)
        return ERR_NO_MEMORY;
    while (logs < p->n && log_space(p->v[logs].log->keyspace) == STORE_LOGS)
        logs++;
    buf_init(&b, LIMIT_KEY_HARD + 256);
    enum err e = write_keyspaces(w, p, &b);
    for (int i = 0; i < 2 && !e; i++) {
        enum store_space space = i ? STORE_EVENTS : STORE_LOGS;
        const struct log_pin *v = p->v + (i ? logs : 0);
        size_t n = i ? p->n - logs : logs;
        if (!(e = write_headers(w, space, v, n, &b)) &&
            !(e = write_chunks(c, w, space, ROW_META, v, n, &b)))
            e = write_chunks(c, w, space, ROW_CHUNK, v, n, &b);
    }
    buf_release(&b);
    return e;
}

// ---- recovery: what is below

static enum err load_header(struct commit *c, const struct log_row *r)
{
    struct keyspace *k = logs_keyspace_id(c->logs, r->keyspace);
    if (!k)
        return ERR_DAMAGED;
    uint64_t hash = logs_hash(c->logs, k->id, r->key);
    unsigned shard = logs_shard(hash);
    logs_lock(c->logs, shard);
    struct log *l = logs_prepare(c->logs, hash, k, r->key, r->id);
    if (l) {
        logs_publish(c->logs, hash, l);
        log_restore(c->logs, l, &r->state);
    }
    logs_unlock(c->logs, shard);
    if (r->id > atomic_load(&c->log_ids))
        atomic_store(&c->log_ids, r->id);
    return l ? ERR_OK : ERR_NO_MEMORY;
}

static enum err load_row(struct commit *c, struct slice key, struct slice value)
{
    if (key.n && key.p[0] == ROW_KEYSPACE) {
        struct change ch;
        enum err e = row_get_keyspace(key, value, &ch);
        if (e)
            return e;
        struct keyspace *k =
            logs_keyspace_put(c->logs, ch.keyspace, ch.key, ch.created_ms, &ch.policy, 0);
        return k ? ERR_OK : ERR_NO_MEMORY;
    }
    struct log_row r;
    enum err e = row_get_log(key, value, &r);
    return e ? e : load_header(c, &r);
}

enum err load_logs(struct commit *c, struct errmsg *msg)
{
    static const enum store_space spaces[] = {STORE_LOGS, STORE_EVENTS};
    enum err e = ERR_OK;
    for (int i = 0; i < 2 && !e; i++) {
        struct store_iter *it;
        if ((e = store_iter_range(c->store, spaces[i], slice_of("", 0), slice_of("\3", 1), &it)))
            return err_set(msg, e, "cannot read the logs in the store: %s", err_text(e));
        for (; !e && store_iter_valid(it); store_iter_next(it)) {
            if ((e = load_row(c, store_iter_key(it), store_iter_value(it))))
                err_set(msg, e, "a row of a log or keyspace in the store: %s", err_text(e));
        }
        if (!e)
            e = store_iter_status(it, msg);
        store_iter_free(it);
    }
    return e;
}

// ---- recovery: what was logged since

// Calls `change` until nothing it needs is cold. Nobody else is about.
static enum err warmly(struct commit *c, struct log *l, const struct change *ch, uint64_t seq,
                       enum err (*change)(struct commit *c, struct log *l, const struct change *ch,
                                          uint64_t seq, uint64_t *cold))
{
    unsigned shard = l->shard;
    enum err e;
    do {
        uint64_t cold = 0;
        logs_lock(c->logs, shard);
        e = change(c, l, ch, seq, &cold);
        logs_unlock(c->logs, shard);
        if (e != ERR_COLD)
            return e;
        e = load_log_part(c, l, cold, false);
    } while (!e);
    return e;
}

static enum err redo_append(struct commit *c, struct log *l, const struct change *ch, uint64_t seq,
                            uint64_t *cold)
{
    struct record_walk w = {.rest = ch->value};
    struct record r;
    size_t largest = 0, records = 0;
    uint64_t first = 0;
    while (record_next(&w, &r, NULL) == ERR_OK) {
        size_t size = record_size(r.bytes.n);
        largest = size > largest ? size : largest;
        first = records++ ? first : r.offset;
    }
    if (first < l->end)
        return ERR_OK; // below already
    if (first > l->end)
        return ERR_DAMAGED;
    if (!log_can_append(l, cold))
        return ERR_COLD;
    enum err e = log_reserve(c->logs, l, ch->value.n, largest, records);
    if (!e)
        log_append(c->logs, l, ch->value, seq, seq);
    return e;
}

static enum err redo_trim(struct commit *c, struct log *l, const struct change *ch, uint64_t seq,
                          uint64_t *cold)
{
    struct log_cut cut = {0};
    if (ch->offset <= l->first)
        return ERR_OK;
    if (ch->offset > l->end)
        return ERR_DAMAGED;
    enum err e = log_trim_prepare(c->logs, l, ch->offset, &cut, cold);
    if (!e)
        log_trim(c->logs, l, ch->offset, &cut, seq);
    return e;
}

static enum err redo_erase(struct commit *c, struct log *l, const struct change *ch, uint64_t seq,
                           uint64_t *cold)
{
    struct log_cut cut = {0};
    enum err e = log_erase_prepare(c->logs, l, ch->offset, &cut, cold);
    if (e)
        return e;
    if (cut.removed && VARVE_BUG != 31)
        log_erase(c->logs, l, &cut, seq);
    else
        log_cut_discard(c->logs, &cut);
    return ERR_OK;
}

// The log a change is of; the first append makes it.
static struct log *log_of(struct commit *c, const struct change *ch, struct keyspace *k)
{
    uint64_t hash = logs_hash(c->logs, k->id, ch->key);
    logs_lock(c->logs, logs_shard(hash));
    struct log *l = logs_find(c->logs, hash, k, ch->key);
    if (!l && (l = logs_prepare(c->logs, hash, k, ch->key, ch->log)))
        logs_publish(c->logs, hash, l);
    logs_unlock(c->logs, logs_shard(hash));
    if (ch->log > atomic_load(&c->log_ids))
        atomic_store(&c->log_ids, ch->log);
    return l;
}

static enum err redo_tier(struct commit *c, struct log *l, const struct change *ch, uint64_t seq,
                          uint64_t *cold)
{
    *cold = 0;
    if (ch->offset <= l->tiered || VARVE_BUG == 52) // 52: it is not replayed
        return ERR_OK;
    if (ch->offset > l->end)
        return ERR_DAMAGED;
    if (!l->index)
        return ERR_COLD;
    log_tier(c->logs, l, ch->offset, seq);
    return ERR_OK;
}

enum err apply_log_change(struct commit *c, const struct change *ch, uint64_t seq,
                          struct errmsg *msg)
{
    enum err e;
    if (ch->kind == CHANGE_KEYSPACE) {
        bool made = logs_keyspace_put(c->logs, ch->keyspace, ch->key, ch->created_ms, &ch->policy,
                                      seq) != NULL;
        return made ? ERR_OK : err_set(msg, ERR_NO_MEMORY, "out of memory");
    }
    struct keyspace *k = logs_keyspace_id(c->logs, ch->keyspace);
    if (!k)
        return err_set(msg, ERR_DAMAGED,
                       "sequence %" PRIu64 " changes a log of keyspace %" PRIu32
                       ", which does not exist",
                       seq, ch->keyspace);
    struct log *l = log_of(c, ch, k);
    if (!l)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    if (ch->kind == CHANGE_APPEND)
        e = warmly(c, l, ch, seq, redo_append);
    else
        e = warmly(c, l, ch, seq,
                   ch->kind == CHANGE_TRIM    ? redo_trim
                   : ch->kind == CHANGE_ERASE ? redo_erase
                                              : redo_tier);
    return e ? err_set(msg, e, "sequence %" PRIu64 " does not fit the log it changes: %s", seq,
                       err_text(e))
             : ERR_OK;
}
