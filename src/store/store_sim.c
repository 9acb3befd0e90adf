// The store as one file on the os seam, for power-failure tests on the simulated machine: small,
// deterministic, no threads of its own. All data is in memory; each commit writes all of it anew.
//
// DIR/state, integers little-endian:
//   0  8  magic "varvsto1"
//   8  4  CRC-32C of everything from offset 12 to the end
//  12  4  number of spaces (STORE_SPACES)
//  16  8  bytes of entries, which follow: the rest of the file
//  24     entries, sorted by (space, key), keys unique in their space
// An entry: u8 space, u32 key bytes, u32 value bytes, the key, the value.
// Valid: magic, CRC, count of spaces, length and order are all as said; anything else is damage,
// for the file is only ever replaced whole (written aside, synced, renamed). No file: an empty
// store. DIR/LOCK is locked while the store is open.
#include "store/store_int.h"
#include "base/assert.h"
#include "base/hash.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define STATE_NAME  "state"
#define STATE_MAGIC "varvsto1"
#define STATE_HEAD  24
#define ENTRY_HEAD  9
#define STATE_MAX   (1u << 30) // bytes of the file
#define DELETED     UINT32_MAX // as an addition's value bytes
#define WARM_BITS   (1u << 16)

// One version of the data; never changed once made, so iterators share it.
struct state {
    atomic_int refs;
    struct buf file; // as on disk, header included
    uint32_t *at;    // each entry's offset in `file`
    size_t count;
    size_t first[STORE_SPACES + 1]; // entries of space s: [first[s], first[s + 1])
};

struct sim_store {
    struct store base;
    int lock_fd;           // -1: not held
    pthread_mutex_t mutex; // guards `now` (the pointer) and `warm`
    struct state *now;
    // To make the cold path testable, one key in four answers ERR_COLD to a memory-only read until
    // a read of a key with the same hash bits was allowed to touch the disk. A commit forgets them.
    uint8_t warm[WARM_BITS / 8];
};

struct sim_writer {
    struct store_writer base;
    struct sim_store *s;
    struct buf added; // entries in order, some DELETED
};

struct sim_iter {
    struct store_iter base;
    struct state *state; // holds a reference
    size_t i;
    size_t end;
};

struct entry {
    unsigned space;
    bool deleted;
    struct slice key;
    struct slice value;
    size_t size; // of the whole entry
};

// ---- entries and states ----

// False if no whole entry begins at `at`.
static bool entry_read(const struct buf *b, size_t at, struct entry *e)
{
    size_t left = buf_len(b) - at;
    const uint8_t *p = buf_head(b) + at;
    if (left < ENTRY_HEAD)
        return false;
    uint32_t value_n = load32(p + 5);
    e->space = p[0];
    e->deleted = value_n == DELETED;
    e->key = slice_of(p + ENTRY_HEAD, load32(p + 1));
    e->value = slice_of(p + ENTRY_HEAD + e->key.n, e->deleted ? 0 : value_n);
    e->size = ENTRY_HEAD + e->key.n + e->value.n;
    return e->size <= left;
}

static enum err entry_append(struct buf *b, unsigned space, struct slice key, struct slice value,
                             bool deleted)
{
    enum err e = buf_reserve(b, ENTRY_HEAD + key.n + value.n);
    if (e != ERR_OK)
        return e;
    uint8_t head[ENTRY_HEAD];
    head[0] = (uint8_t)space;
    store32(head + 1, (uint32_t)key.n);
    store32(head + 5, deleted ? DELETED : (uint32_t)value.n);
    buf_put(b, head, sizeof head);
    buf_put(b, key.p, key.n);
    buf_put(b, value.p, value.n);
    return ERR_OK;
}

static int entry_order(const struct entry *a, const struct entry *b)
{
    if (a->space != b->space)
        return a->space < b->space ? -1 : 1;
    return slice_compare(a->key, b->key);
}

static struct entry state_entry(const struct state *st, size_t i)
{
    struct entry e;
    VERIFY(i < st->count && entry_read(&st->file, st->at[i], &e));
    return e;
}

static void state_unref(struct state *st)
{
    if (!st || atomic_fetch_sub(&st->refs, 1) > 1)
        return;
    buf_release(&st->file);
    free(st->at);
    free(st);
}

static struct state *state_new(void)
{
    struct state *st = calloc(1, sizeof *st);
    if (!st)
        return NULL;
    atomic_init(&st->refs, 1);
    buf_init(&st->file, STATE_MAX);
    return st;
}

// Makes room for the header, to be filled in by state_seal.
static enum err state_start(struct state *st)
{
    static const uint8_t blank[STATE_HEAD];
    return buf_append(&st->file, blank, sizeof blank);
}

static void state_seal(struct state *st)
{
    uint8_t *p = buf_head(&st->file);
    size_t n = buf_len(&st->file);
    memcpy(p, STATE_MAGIC, 8);
    store32(p + 12, STORE_SPACES);
    store64(p + 16, n - STATE_HEAD);
    store32(p + 8, crc32c(0, p + 12, n - 12));
}

// Checks the file's content and builds the index. ERR_DAMAGED with what is wrong.
static enum err state_index(struct state *st, const char *dir, struct errmsg *msg)
{
    const uint8_t *p = buf_head(&st->file);
    size_t n = buf_len(&st->file);
    if (n < STATE_HEAD || memcmp(p, STATE_MAGIC, 8) != 0)
        return err_set(msg, ERR_DAMAGED, "%s/" STATE_NAME ": not a store's state file", dir);
    if (load32(p + 8) != crc32c(0, p + 12, n - 12))
        return err_set(msg, ERR_DAMAGED, "%s/" STATE_NAME ": checksum mismatch", dir);
    if (load32(p + 12) != STORE_SPACES || load64(p + 16) != n - STATE_HEAD)
        return err_set(msg, ERR_DAMAGED, "%s/" STATE_NAME ": wrong header", dir);
    size_t room = (n - STATE_HEAD) / ENTRY_HEAD + 1;
    st->at = malloc(room * sizeof *st->at);
    if (!st->at)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    struct entry e, prior = {0};
    for (size_t at = STATE_HEAD; at < n; at += e.size) {
        if (!entry_read(&st->file, at, &e) || e.deleted || e.space >= STORE_SPACES ||
            (st->count > 0 && entry_order(&prior, &e) >= 0))
            return err_set(msg, ERR_DAMAGED, "%s/" STATE_NAME ": bad entry at offset %zu", dir, at);
        st->at[st->count++] = (uint32_t)at;
        st->first[e.space + 1] = st->count;
        prior = e;
    }
    for (int s = 1; s <= STORE_SPACES; s++)
        if (st->first[s] == 0)
            st->first[s] = st->first[s - 1];
    return ERR_OK;
}

// The first entry of `space` whose key is >= key; st->first[space + 1] if there is none.
static size_t state_find(const struct state *st, enum store_space space, struct slice key)
{
    size_t low = st->first[space], high = st->first[space + 1];
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (slice_compare(state_entry(st, middle).key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// Entries of `old` and `added` in order; of two with one key the added one counts.
static enum err state_merge(struct state *st, const struct state *old, const struct buf *added)
{
    enum err e = state_start(st);
    size_t i = 0, at = 0;
    while (e == ERR_OK && (i < old->count || at < buf_len(added))) {
        struct entry a = {0}, b = {0};
        bool has_a = i < old->count, has_b = at < buf_len(added);
        if (has_a)
            a = state_entry(old, i);
        if (has_b)
            VERIFY(entry_read(added, at, &b));
        int order = !has_b ? -1 : !has_a ? 1 : entry_order(&a, &b);
        struct entry *next = order < 0 ? &a : &b;
        if (order <= 0)
            i++;
        if (order >= 0)
            at += b.size;
        if (!next->deleted)
            e = entry_append(&st->file, next->space, next->key, next->value, false);
    }
    return e;
}

// ---- open and close ----

static enum err load_state(struct sim_store *s, struct errmsg *msg)
{
    struct state *st = s->now;
    char path[LIMIT_PATH];
    int len = snprintf(path, sizeof path, "%s/" STATE_NAME, s->base.dir);
    if (len < 0 || (size_t)len >= sizeof path)
        return err_set(msg, ERR_INVALID, "%s: path too long", s->base.dir);
    uint8_t *data;
    size_t n;
    enum err e = os_read_file(s->base.os, path, STATE_MAX, &data, &n);
    if (e == ERR_MISSING) {
        e = state_start(st);
        if (e == ERR_OK)
            state_seal(st);
    } else if (e == ERR_OK) {
        e = buf_append(&st->file, data, n);
        free(data);
    }
    if (e != ERR_OK)
        return err_set(msg, e, "%s: %s", path, err_text(e));
    return state_index(st, s->base.dir, msg);
}

static enum err take_lock(struct sim_store *s, struct errmsg *msg)
{
    char path[LIMIT_PATH];
    int len = snprintf(path, sizeof path, "%s/LOCK", s->base.dir);
    if (len < 0 || (size_t)len >= sizeof path)
        return err_set(msg, ERR_INVALID, "%s: path too long", s->base.dir);
    enum err e = os_lock(s->base.os, path, &s->lock_fd);
    if (e != ERR_OK) {
        s->lock_fd = -1;
        return err_set(msg, e, "%s: %s", path, err_text(e));
    }
    return ERR_OK;
}

static void sim_close(struct store *b)
{
    struct sim_store *s = (struct sim_store *)b;
    if (s->lock_fd >= 0)
        ERR_IGNORE(os_close(b->os, s->lock_fd)); // the lock ends with the process at the latest
    state_unref(s->now);
    pthread_mutex_destroy(&s->mutex);
    store_release(b);
    free(s);
}

// ---- reading ----

static struct state *current(struct sim_store *s)
{
    pthread_mutex_lock(&s->mutex);
    struct state *st = s->now;
    atomic_fetch_add(&st->refs, 1);
    pthread_mutex_unlock(&s->mutex);
    return st;
}

// True if the answer is to be had without the simulated disk; a disk read makes it so.
static bool is_warm(struct sim_store *s, enum store_space space, struct slice key, bool memory_only)
{
    uint64_t h = hash64(key, space);
    if (h % 4 != 0)
        return true;
    size_t bit = (h >> 8) % WARM_BITS;
    uint8_t mask = (uint8_t)(1u << (bit % 8));
    pthread_mutex_lock(&s->mutex);
    if (!memory_only)
        s->warm[bit / 8] |= mask;
    bool warm = s->warm[bit / 8] & mask;
    pthread_mutex_unlock(&s->mutex);
    return warm;
}

static enum err sim_get(struct store *b, enum store_space space, struct slice key, bool memory_only,
                        struct buf *out)
{
    struct sim_store *s = (struct sim_store *)b;
    struct state *st = current(s);
    enum err e = ERR_MISSING;
    size_t i = state_find(st, space, key);
    if (st->first[space] < st->first[space + 1] && !is_warm(s, space, key, memory_only)) {
        e = ERR_COLD;
    } else if (i < st->first[space + 1]) {
        struct entry found = state_entry(st, i);
        if (slice_equal(found.key, key))
            e = buf_append(out, found.value.p, found.value.n);
    }
    state_unref(st);
    return e;
}

static enum err sim_iter_new(struct store *b, enum store_space space, struct slice start,
                             struct slice end, struct store_iter **out)
{
    struct sim_iter *it = calloc(1, sizeof *it);
    if (!it)
        return ERR_NO_MEMORY;
    it->state = current((struct sim_store *)b);
    it->i = state_find(it->state, space, start);
    it->end = end.n ? state_find(it->state, space, end) : it->state->first[space + 1];
    *out = &it->base;
    return ERR_OK;
}

static bool sim_iter_valid(const struct store_iter *b)
{
    const struct sim_iter *it = (const struct sim_iter *)b;
    return it->i < it->end;
}

static struct slice sim_iter_key(const struct store_iter *b)
{
    const struct sim_iter *it = (const struct sim_iter *)b;
    return state_entry(it->state, it->i).key;
}

static struct slice sim_iter_value(const struct store_iter *b)
{
    const struct sim_iter *it = (const struct sim_iter *)b;
    return state_entry(it->state, it->i).value;
}

static void sim_iter_next(struct store_iter *b)
{
    struct sim_iter *it = (struct sim_iter *)b;
    VERIFY(it->i < it->end);
    it->i++;
}

static enum err sim_iter_status(const struct store_iter *b, struct errmsg *msg)
{
    return ERR_OK;
}

static void sim_iter_free(struct store_iter *b)
{
    struct sim_iter *it = (struct sim_iter *)b;
    state_unref(it->state);
    free(it);
}

// Reads the file again: what is in memory was checked when it was read or is what was written.
static enum err sim_verify(struct store *b, struct errmsg *msg)
{
    struct sim_store fresh = {.base = *b};
    fresh.now = state_new();
    if (!fresh.now)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    enum err e = load_state(&fresh, msg);
    state_unref(fresh.now);
    return e;
}

static void sim_get_stats(struct store *b, struct store_stats *out)
{
    struct state *st = current((struct sim_store *)b);
    for (int i = 0; i < STORE_SPACES; i++)
        out->estimated_keys[i] = st->first[i + 1] - st->first[i];
    out->disk_bytes = buf_len(&st->file);
    out->memory = st->file.cap + st->count * sizeof *st->at;
    out->files = 1;
    state_unref(st);
}

// ---- writing ----

static enum err sim_begin(struct store *b, struct store_writer **out)
{
    struct sim_writer *w = calloc(1, sizeof *w);
    if (!w)
        return ERR_NO_MEMORY;
    w->s = (struct sim_store *)b;
    buf_init(&w->added, STATE_MAX);
    *out = &w->base;
    return ERR_OK;
}

static enum err sim_add(struct store_writer *b, enum store_space space, struct slice key,
                        struct slice value)
{
    struct sim_writer *w = (struct sim_writer *)b;
    return entry_append(&w->added, space, key, value, value.p == NULL);
}

static void sim_abort(struct store_writer *b)
{
    struct sim_writer *w = (struct sim_writer *)b;
    buf_release(&w->added);
    free(w);
}

// The new state is read by others only once it is durable.
static void publish(struct sim_store *s, struct state *st)
{
    pthread_mutex_lock(&s->mutex);
    struct state *old = s->now;
    s->now = st;
    memset(s->warm, 0, sizeof s->warm);
    pthread_mutex_unlock(&s->mutex);
    state_unref(old);
}

static enum err write_state(struct sim_writer *w, struct state *st, struct errmsg *msg)
{
    struct sim_store *s = w->s;
    enum err e = state_merge(st, s->now, &w->added); // only commits change s->now
    if (e != ERR_OK)
        return err_set(msg, e, "%s/" STATE_NAME ": %s", s->base.dir, err_text(e));
    state_seal(st);
    e = state_index(st, s->base.dir, msg);
    if (e != ERR_OK)
        return e;
    e = os_replace_file(s->base.os, s->base.dir, STATE_NAME, buf_head(&st->file),
                        buf_len(&st->file));
    if (e != ERR_OK)
        return err_set(msg, e, "%s/" STATE_NAME ": cannot be written: %s", s->base.dir,
                       err_text(e));
    return ERR_OK;
}

static enum err sim_commit(struct store_writer *b, struct errmsg *msg)
{
    struct sim_writer *w = (struct sim_writer *)b;
    enum err e = ERR_OK;
    if (buf_len(&w->added) > 0) {
        struct state *st = state_new();
        e = st ? write_state(w, st, msg) : err_set(msg, ERR_NO_MEMORY, "out of memory");
        if (e == ERR_OK)
            publish(w->s, st);
        else
            state_unref(st);
    }
    sim_abort(b);
    return e;
}

static const struct store_ops sim_ops = {
    .close = sim_close,
    .get = sim_get,
    .begin = sim_begin,
    .add = sim_add,
    .commit = sim_commit,
    .abort = sim_abort,
    .iter_new = sim_iter_new,
    .iter_valid = sim_iter_valid,
    .iter_key = sim_iter_key,
    .iter_value = sim_iter_value,
    .iter_next = sim_iter_next,
    .iter_status = sim_iter_status,
    .iter_free = sim_iter_free,
    .verify = sim_verify,
    .get_stats = sim_get_stats,
};

enum err store_open_sim(struct store **out, const struct store_options *o, struct errmsg *msg)
{
    struct sim_store *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(msg, ERR_NO_MEMORY, "%s: out of memory", o->dir);
    s->lock_fd = -1;
    pthread_mutex_init(&s->mutex, NULL);
    enum err e = store_init(&s->base, &sim_ops, o, msg);
    if (e == ERR_OK)
        e = take_lock(s, msg);
    if (e == ERR_OK && !(s->now = state_new()))
        e = err_set(msg, ERR_NO_MEMORY, "%s: out of memory", o->dir);
    if (e == ERR_OK)
        e = load_state(s, msg);
    if (e != ERR_OK) {
        sim_close(&s->base);
        return e;
    }
    *out = &s->base;
    return ERR_OK;
}
