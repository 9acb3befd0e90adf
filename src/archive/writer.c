// The direct writer: which logs it holds.
#include "archive/writer_int.h"
#include "base/hash.h"
#include "base/limits.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { MANY_MAX = 10000 };

// ---- the cache

static void unlink_log(struct archive_writer *w, struct log *l)
{
    *(l->newer ? &l->newer->older : &w->newest) = l->older;
    *(l->older ? &l->older->newer : &w->oldest) = l->newer;
}

static void link_newest(struct archive_writer *w, struct log *l)
{
    l->newer = NULL;
    l->older = w->newest;
    *(w->newest ? &w->newest->newer : &w->oldest) = l;
    w->newest = l;
}

static struct log **slot_of(struct archive_writer *w, const char *dir, uint64_t hash)
{
    struct log **at = &w->table[hash & (w->buckets - 1)];
    while (*at && ((*at)->hash != hash || strcmp((*at)->dir, dir) != 0))
        at = &(*at)->chain;
    return at;
}

static void forget(struct archive_writer *w, struct log *l)
{
    *slot_of(w, l->dir, l->hash) = l->chain;
    unlink_log(w, l);
    w->logs--;
    free(l);
}

static enum err grow(struct archive_writer *w)
{
    size_t buckets = w->buckets ? w->buckets * 2 : 64;
    struct log **table = calloc(buckets, sizeof *table);
    if (!table)
        return ERR_NO_MEMORY;
    free(w->table);
    w->table = table;
    w->buckets = buckets;
    for (struct log *l = w->newest; l; l = l->older) {
        struct log **at = &table[l->hash & (buckets - 1)];
        l->chain = *at;
        *at = l;
    }
    return ERR_OK;
}

enum err log_entry(struct archive_writer *w, const struct archive_log *name, struct log **out,
                   struct errmsg *msg)
{
    char dir[NAME_DIR_MAX];
    enum err e = name_dir(name, dir, msg);
    if (!e && w->logs >= w->buckets && grow(w))
        e = err_set(msg, ERR_NO_MEMORY, "out of memory");
    if (e)
        return e;
    size_t n = strlen(dir);
    uint64_t hash = hash64(slice_of(dir, n), w->session.id);
    struct log **at = slot_of(w, dir, hash), *l = *at;
    if (l) {
        unlink_log(w, l);
    } else {
        l = calloc(1, sizeof *l + n + 1);
        if (!l)
            return err_set(msg, ERR_NO_MEMORY, "out of memory");
        memcpy(l->dir, dir, n + 1);
        l->hash = hash;
        *at = l;
        w->logs++;
    }
    link_newest(w, l);
    *out = l;
    return ERR_OK;
}

void logs_evict_old(struct archive_writer *w)
{
    while (w->logs > w->options.max_cached_keys && w->oldest && !w->oldest->in_use)
        forget(w, w->oldest);
}

static uint64_t or_default(uint64_t v, uint64_t def, uint64_t max)
{
    v = v ? v : def;
    return v < max ? v : max;
}

enum err archive_writer_new(struct archive_writer **out, struct object_store *store, struct os *os,
                            const struct archive_options *options, struct errmsg *msg)
{
    struct archive_writer *w = *out = calloc(1, sizeof *w);
    struct archive_options o = options ? *options : (struct archive_options){0};
    if (!w || session_init(&w->session, store, os) || grow(w)) {
        archive_writer_free(w);
        *out = NULL;
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    }
    w->store = store;
    w->os = os;
    o.compact_records_threshold = or_default(o.compact_records_threshold, 1000, UINT64_MAX);
    o.compact_size_threshold =
        or_default(o.compact_size_threshold, 1 << 20, LIMIT_ARCHIVE_MERGE / 2);
    o.compact_objects_threshold = or_default(o.compact_objects_threshold, 100, 100000);
    o.compact_objects_threshold += o.compact_objects_threshold == 1; // one object needs no merging
    o.max_cached_keys = or_default(o.max_cached_keys, 100000, UINT64_MAX);
    w->options = o;
    return ERR_OK;
}

void archive_writer_free(struct archive_writer *w)
{
    if (!w)
        return;
    if (w->session.closed)
        session_release(&w->session);
    while (w->newest)
        forget(w, w->newest);
    free(w->table);
    free(w);
}

bool archive_writer_broken(const struct archive_writer *w)
{
    return w->session.broken != ERR_OK;
}

enum err archive_create_keyspace(struct object_store *store, struct os *os, struct slice keyspace,
                                 uint64_t *created_ms, struct errmsg *msg)
{
    char space[NAME_SPACE_MAX + 1], name[NAME_FULL_MAX], text[64];
    uint64_t now = os_wall_ms(os);
    enum err e = name_encode(keyspace, true, space, sizeof space, msg);
    if (e)
        return e;
    snprintf(name, sizeof name, "%s_config.ini", space);
    struct slice part =
        slice_of(text, (size_t)snprintf(text, sizeof text, "[keyspace]\ncreated=%" PRIu64, now));
    e = object_put_absent(store, name, &part, 1, msg);
    if (e == ERR_EXISTS)
        e = err_set(msg, e, "keyspace \"%.200s\" exists", space);
    if (!e && created_ms)
        *created_ms = now;
    return e;
}

enum err archive_append_many(struct archive_writer *w, struct archive_batch *batches, size_t n,
                             struct errmsg *msg)
{
    if (n == 0)
        return ERR_OK;
    if (n > MANY_MAX)
        return err_set(msg, ERR_TOO_BIG, "more than %d logs in one append", MANY_MAX);
    struct put *puts = calloc(n, sizeof *puts);
    struct log **logs = calloc(n, sizeof *logs);
    enum err e = puts && logs ? session_state(&w->session, msg)
                              : err_set(msg, ERR_NO_MEMORY, "out of memory");
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        batches[i].taken = 0;
        batches[i].e = ERR_OK;
    }
    for (; found < n && !e; found++) {
        e = log_entry(w, &batches[found].log, &logs[found], msg);
        if (!e && logs[found]->in_use)
            e = err_set(msg, ERR_INVALID, "%.300s is named twice", logs[found]->dir);
        if (e)
            break;
        logs[found]->in_use = true;
        puts[found] = (struct put){.log = logs[found], .batch = &batches[found]};
    }
    e = e ? e : logs_open(w, logs, n, msg);
    for (size_t i = 0; i < n && !e; i++)
        if (batches[i].start && logs[i]->prior == 0)
            logs[i]->next_offset = logs[i]->batch_first = batches[i].start;
    e = e ? e : puts_run(w, puts, n, msg);
    for (size_t i = 0; i < found; i++) {
        puts[i].log->in_use = false;
        put_release(&puts[i]);
    }
    free(puts);
    free(logs);
    logs_evict_old(w);
    return e;
}

enum err archive_append(struct archive_writer *w, struct archive_batch *b, struct errmsg *msg)
{
    return archive_append_many(w, b, 1, msg);
}

enum err archive_writer_release(struct archive_writer *w, const struct archive_log *log,
                                struct errmsg *msg)
{
    struct log *l;
    enum err e = session_state(&w->session, msg);
    e = e ? e : log_entry(w, log, &l, msg);
    if (e)
        return e;
    if (l->claimed)
        e = session_unclaim(&w->session, l->dir, l->epoch, msg);
    forget(w, l);
    return e;
}

enum err archive_writer_meta(struct archive_writer *w, const struct archive_log *log,
                             struct archive_meta *meta, struct errmsg *msg)
{
    struct log *l;
    enum err e = session_state(&w->session, msg);
    e = e ? e : log_entry(w, log, &l, msg);
    e = e ? e : logs_open(w, &l, 1, msg);
    if (!e)
        *meta = (struct archive_meta){l->next_offset, l->next_nonce};
    logs_evict_old(w);
    return e;
}
