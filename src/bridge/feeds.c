#include "bridge/feeds.h"
#include "base/hash.h"
#include <stdlib.h>

void feeds_init(struct feeds *f, size_t max, uint64_t seed)
{
    *f = (struct feeds){.max = max, .seed = seed};
}

void feeds_release(struct feeds *f)
{
    for (size_t i = 0; i < f->slots; i++)
        free(f->table[i]);
    free(f->table);
    *f = (struct feeds){0};
}

static uint64_t hash_of(const struct feeds *f, const struct archive_log *log)
{
    return hash64(log->key, hash64(log->keyspace, f->seed));
}

// Where it is, or where it would be.
static size_t slot_of(const struct feeds *f, uint64_t hash, const struct archive_log *log)
{
    size_t i = hash & (f->slots - 1);
    while (f->table[i] &&
           (f->table[i]->hash != hash || !slice_equal(f->table[i]->log.key, log->key) ||
            !slice_equal(f->table[i]->log.keyspace, log->keyspace)))
        i = (i + 1) & (f->slots - 1);
    return i;
}

struct feed *feeds_find(const struct feeds *f, const struct archive_log *log)
{
    return f->slots ? f->table[slot_of(f, hash_of(f, log), log)] : NULL;
}

static enum err grow(struct feeds *f)
{
    size_t slots = f->slots ? f->slots * 2 : 256;
    struct feed **table = calloc(slots, sizeof *table);
    if (!table)
        return ERR_NO_MEMORY;
    for (size_t i = 0; i < f->slots; i++) {
        struct feed *feed = f->table[i];
        size_t to = feed ? feed->hash & (slots - 1) : 0;
        while (feed && table[to])
            to = (to + 1) & (slots - 1);
        if (feed)
            table[to] = feed;
    }
    free(f->table);
    f->table = table;
    f->slots = slots;
    return ERR_OK;
}

enum err feeds_add(struct feeds *f, const struct archive_log *log, int32_t partition,
                   struct feed **out)
{
    *out = NULL;
    f->full |= f->count >= f->max;
    if (f->full)
        return ERR_OK;
    if (f->count >= f->slots / 2 && grow(f))
        return ERR_NO_MEMORY;
    struct feed *feed = malloc(sizeof *feed + log->keyspace.n + log->key.n);
    if (!feed)
        return ERR_NO_MEMORY;
    uint8_t *names = (uint8_t *)(feed + 1);
    memcpy(names, log->keyspace.p, log->keyspace.n);
    memcpy(names + log->keyspace.n, log->key.p, log->key.n);
    *feed = (struct feed){
        .hash = hash_of(f, log),
        .log = {slice_of(names, log->keyspace.n), slice_of(names + log->keyspace.n, log->key.n)},
        .partition = partition};
    f->table[slot_of(f, feed->hash, log)] = feed;
    f->count++;
    *out = feed;
    return ERR_OK;
}
