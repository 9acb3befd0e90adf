// Lists and relations in checkpoints. A list's rows are copied under its shard's lock, about a
// megabyte at a time, and written without it; there are no pins. What changes after it was copied
// is dirty again, and in the log after the checkpoint's mark.
#include "commit/rel_int.h"

#include "base/assert.h"
#include <stdlib.h>

#define SLICE_BYTES (1u << 20)   // of rows copied with the lock held once
#define SLICE_MAX   (4ull << 30) // a long list is copied whole

// Rows copied: [u8 kind][u64 hash][u64 low][u32 bytes, UINT32_MAX: the row goes][the bytes]
enum { COPY_HEAD = 21 };

struct copied {
    struct buf rows;
    enum err failed;
};

static void copy_row(void *arg, const struct rels_row *row)
{
    struct copied *d = arg;
    bool gone = row->bytes.p == NULL;
    if (VARVE_BUG == 39 && gone && row->kind == RELS_ROW_CHUNK)
        return;
    if (d->failed || (d->failed = buf_reserve(&d->rows, COPY_HEAD + row->bytes.n)))
        return;
    uint8_t head[COPY_HEAD] = {(uint8_t)row->kind};
    store64(head + 1, row->hash);
    store64(head + 9, row->low);
    store32(head + 17, gone ? UINT32_MAX : (uint32_t)row->bytes.n);
    buf_put(&d->rows, head, sizeof head);
    buf_put(&d->rows, row->bytes.p, row->bytes.n);
}

static enum err write_copied(struct store_writer *w, uint32_t table, struct buf *rows)
{
    uint8_t key[REL_ROW_KEY];
    enum err e = ERR_OK;
    while (buf_len(rows) && !e) {
        const uint8_t *p = buf_head(rows);
        uint64_t hash = load64(p + 1), low = load64(p + 9);
        uint32_t n = load32(p + 17);
        bool gone = n == UINT32_MAX;
        struct slice k = p[0] == RELS_ROW_LIST ? rel_list_key(key, table, hash)
                                               : rel_chunk_key(key, table, hash, low);
        struct slice bytes = gone ? (struct slice){NULL, 0} : slice_of(p + COPY_HEAD, n);
        e = store_add(w, STORE_RELS, k, bytes);
        buf_consume(rows, COPY_HEAD + bytes.n);
    }
    return e;
}

static enum err write_table(struct commit *c, struct store_writer *w, uint32_t table,
                            struct copied *d)
{
    for (unsigned shard = 0; shard < RELS_SHARDS; shard++) {
        uint64_t cursor = 0;
        for (bool all = false; !all;) {
            rels_lock(c->rels, shard);
            all = rels_capture(c->rels, shard, table, &cursor, SLICE_BYTES, copy_row, d);
            rels_unlock(c->rels, shard);
            enum err e = d->failed ? d->failed : write_copied(w, table, &d->rows);
            if (e)
                return e;
            buf_shrink(&d->rows, 2 * SLICE_BYTES);
        }
    }
    return ERR_OK;
}

// After all lists, so that no stamp in them is higher than what their relation's row says.
static enum err write_relations(struct commit *c, struct store_writer *w, uint32_t count,
                                struct buf *b)
{
    uint8_t key[REL_ROW_KEY];
    enum err e = ERR_OK;
    for (uint32_t id = 1; id <= count && !e && VARVE_BUG != 44; id++) {
        struct relation *r = relation_of_id(c, id);
        uint64_t stamps = atomic_load(&r->stamps);
        if (r->stored && stamps == r->stored_stamps)
            continue;
        buf_clear(b);
        e = rel_put_relation(b, r, stamps);
        if (!e)
            e = store_add(w, STORE_RELS, rel_relation_key(key, id), buf_slice(b));
        r->writing = true;
        r->writing_stamps = stamps;
    }
    return e;
}

enum err write_rels(struct commit *c, struct store_writer *w)
{
    struct copied d = {0};
    enum err e = ERR_OK;
    // A relation is in place as soon as this lock is let go after its change was logged; those that
    // are made later are in the log after the mark.
    pthread_mutex_lock(&c->relation_lock);
    uint32_t relations = atomic_load(&c->relations->count);
    pthread_mutex_unlock(&c->relation_lock);
    buf_init(&d.rows, SLICE_MAX);
    for (uint32_t id = 1; id <= relations && !e; id++)
        for (enum rel_part part = 0; part < REL_PARTS && !e; part++)
            if (relation_has(relation_of_id(c, id), part))
                e = write_table(c, w, rel_table(id, part), &d);
    os_crash_point("checkpoint-captured");
    if (!e)
        e = write_relations(c, w, relations, &d.rows);
    buf_release(&d.rows);
    return e;
}

void rels_done(struct commit *c, bool written)
{
    uint32_t relations = atomic_load(&c->relations->count);
    for (unsigned shard = 0; relations && shard < RELS_SHARDS; shard++) {
        rels_lock(c->rels, shard);
        rels_captured(c->rels, shard, written);
        if (written)
            trim_rel_shard(c, shard);
        rels_unlock(c->rels, shard);
    }
    for (uint32_t id = 1; id <= relations; id++) {
        struct relation *r = relation_of_id(c, id);
        if (r->writing && written) {
            r->stored = true;
            r->stored_stamps = r->writing_stamps;
        }
        r->writing = false;
    }
}
