// Moving, in rounds. Each takes some of the logs that are due and, a page of each:
//
//   1 read     the log's records from its mark on, and wait until they are durable
//   2 put      those that the archive has not yet, of all these logs at once
//   3 compare  what the archive gives back for all of them, byte by byte
//   4 note     commit_tier_done: the mark moves
//
// A crash between 2 and 4 costs a comparison: the archive's own end says what is there.
//
// What goes wrong belongs to a log, which then rests (commit_tier_rest) while the others go on, or
// to the store. An error of the network or the disk may be either, so the store is asked for a name
// that it has not: if it answers, the log's own object was the matter. If it does not the round
// ends, and moving waits. So a store that is away gets a request or two a round, not one a log.
#include "tier/tier_int.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/log.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PAGE_BYTES = 4 << 20, // of a log in a round
    ROUND_BYTES = 64 << 20,
    FILL = 10000, // empty records for missing ones in a round
};

// One log's part of a round.
struct move {
    struct log_name name;
    struct log_page page;
    struct archive_insert *inserts; // the page's records, and empty ones for what is missing
    size_t count, cap;
    uint64_t first, end; // offsets of those
    struct archive_batch batch;
};

// The bytes of records that are gone: a place, so that they differ from those of empty records.
static const uint8_t gone[1];

static bool is_gone(const struct archive_insert *in)
{
    return in->bytes.p == gone;
}

static enum err add_insert(struct move *m, const struct record *r)
{
    if (m->count == m->cap) {
        size_t cap = m->cap ? 2 * m->cap : 256;
        struct archive_insert *v = realloc(m->inserts, cap * sizeof *v);
        if (!v)
            return ERR_NO_MEMORY;
        m->inserts = v;
        m->cap = cap;
    }
    m->inserts[m->count++] = (struct archive_insert){true, r->timestamp, r->nonce, r->bytes};
    m->end++;
    return ERR_OK;
}

static void move_release(struct move *m)
{
    log_page_release(&m->page);
    free(m->inserts);
    *m = (struct move){0};
}

// Step 1. The page's records from m->first on, without holes. Where the log was trimmed further
// than it was moved, and the archive has some of it, what is missing is empty records too.
static enum err take_records(struct move *m)
{
    struct record r;
    enum err e = ERR_OK;
    size_t filled = 0;
    while (!e && log_page_next(&m->page, &r)) {
        struct record none = {
            .timestamp = r.timestamp, .nonce = NONCE_NONE, .bytes = slice_of(gone, 0)};
        for (; !e && m->end < r.offset && filled < FILL; filled++)
            e = add_insert(m, &none);
        if (e || m->end < r.offset)
            break;
        e = add_insert(m, &r);
    }
    return e;
}

static enum err read_page(struct tier *t, struct commit *c, struct move *m, uint64_t from,
                          struct errmsg *msg)
{
    struct log_query q = {.name = m->name,
                          .from = {.start = LOG_START_OFFSET, .offset = from},
                          .max_records = PAGE_RECORDS,
                          .max_bytes = PAGE_BYTES,
                          .may_block = true};
    uint64_t dep;
    enum err e = commit_log_read(c, &q, &m->page, &dep, msg);
    if (!e && dep && (e = commit_wait(c, dep)))
        return err_set(msg, e, "%s", err_text(e));
    return e;
}

// Makes the keyspace's object, once.
static enum err need_keyspace(struct tier *t, struct slice name, struct errmsg *msg)
{
    size_t low = 0, high = t->keyspace_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (t->keyspaces[middle] == name.p)
            return ERR_OK;
        if (t->keyspaces[middle] < name.p)
            low = middle + 1;
        else
            high = middle;
    }
    enum err e = archive_create_keyspace(t->store, t->o.os, name, NULL, msg);
    if (e && e != ERR_EXISTS)
        return e;
    const uint8_t **v = realloc(t->keyspaces, (t->keyspace_count + 1) * sizeof *v);
    if (!v)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    memmove(v + low + 1, v + low, (t->keyspace_count - low) * sizeof *v);
    v[low] = name.p;
    t->keyspaces = v;
    t->keyspace_count++;
    return ERR_OK;
}

static enum err begin_move(struct tier *t, struct commit *c, const struct tier_due *d,
                           struct move *m, struct errmsg *msg)
{
    *m = (struct move){
        .name = {slice_of(d->keyspace, d->keyspace_size), slice_of(d->key, d->key_size)}};
    struct archive_log log = {m->name.keyspace, m->name.key};
    struct archive_meta meta;
    enum err e = need_keyspace(t, m->name.keyspace, msg);
    e = e ? e : archive_writer_meta(t->writer, &log, &meta, msg);
    uint64_t mark = d->tiered ? d->tiered : 1;
    if (!e && meta.next_offset < mark)
        e = err_set(msg, ERR_DAMAGED,
                    "the objects end at offset %" PRIu64 ", but the server had moved all before "
                    "%" PRIu64 ": objects were deleted, or the prefix is another one",
                    meta.next_offset, mark);
    e = e ? e : read_page(t, c, m, mark, msg);
    if (e)
        return e;
    // A log that the archive has not begins where it begins here. One that has lost all its records
    // since it was due does not: the mark must not pass the archive's end.
    m->first = m->end = meta.next_offset == 1 && m->page.records && m->page.first_offset > mark
                            ? m->page.first_offset
                            : mark;
    if ((e = take_records(m)))
        return err_set(msg, e, "%s", err_text(e));
    uint64_t there = meta.next_offset > m->first ? meta.next_offset - m->first : 0;
    there = there < m->count ? there : m->count;
    m->batch = (struct archive_batch){
        .log = log, .start = m->first, .records = m->inserts + there, .count = m->count - there};
    return ERR_OK;
}

// Step 2, of the moves that have something to put. What went wrong with a log is in its batch.
static enum err put_all(struct tier *t, struct move *moves, size_t n, struct errmsg *msg)
{
    struct archive_batch batches[TIER_ROUND];
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (moves[i].batch.count)
            batches[count++] = moves[i].batch;
    enum err e = count ? archive_append_many(t->writer, batches, count, msg) : ERR_OK;
    count = 0;
    for (size_t i = 0; i < n; i++) {
        struct archive_batch *b = &moves[i].batch;
        if (!b->count)
            continue;
        *b = batches[count++];
        if (b->taken != UINT64_MAX)
            atomic_fetch_add(&t->moved_records, b->taken);
    }
    return e;
}

// After step 2, which returned e: why this log's records are not all there.
static enum err put_failed(const struct move *m, enum err e, struct errmsg *msg)
{
    const struct archive_batch *b = &m->batch;
    if (!b->count || b->taken == b->count)
        return ERR_OK;
    if (b->e)
        return b->e; // msg is the first one's
    return e ? e
             : err_set(msg, ERR_DAMAGED, "the archive dropped records as known by their nonces");
}

// A record that is gone here may be any in objects: it went after it was put, in a round that ended
// before step 4.
static enum err compare_one(void *arg, const struct record *there, struct errmsg *msg)
{
    const struct move *m = arg;
    const struct archive_insert *in = &m->inserts[there->offset - m->first];
    bool same = there->timestamp == in->timestamp && there->nonce == in->nonce &&
                slice_equal(there->bytes, in->bytes);
    return same || is_gone(in) ? ERR_OK
                               : err_set(msg, ERR_DAMAGED,
                                         "objects have other records from offset %" PRIu64
                                         " on: the prefix is not this server's alone",
                                         there->offset);
}

// Step 3. What is gone from the beginning may have no object any more.
static enum err compare(struct tier *t, struct move *m, struct errmsg *msg)
{
    size_t from = 0, bytes = 0;
    for (size_t i = 0; i < m->count; i++)
        bytes += record_size(m->inserts[i].bytes.n);
    while (from < m->count && is_gone(&m->inserts[from]))
        from++;
    enum err e = ERR_OK;
    if (from < m->count)
        e = read_range(t->reading.slots[MOVER].reader, &m->name, m->first + from, m->end - 1,
                       compare_one, m, msg);
    atomic_fetch_add(&t->compared_records, e ? 0 : m->count);
    atomic_fetch_add(&t->moved_bytes, e ? 0 : bytes);
    return e;
}

// ---- what goes wrong

// Says which log it was.
static void failed(struct tier *t, const struct log_name *name, const struct errmsg *why)
{
    char keyspace[64], key[64];
    snprintf(keyspace, sizeof keyspace, "%.*s",
             (int)(name->keyspace.n < 60 ? name->keyspace.n : 60), (const char *)name->keyspace.p);
    snprintf(key, sizeof key, "%.*s", (int)(name->key.n < 60 ? name->key.n : 60),
             (const char *)name->key.p);
    atomic_fetch_add(&t->failures, 1);
    log_event(LOG_ERROR, "tier-failed", "keyspace=%s key=%s error=%s", log_quote(keyspace),
              log_quote(key), log_quote(why->text));
}

bool store_answers(struct tier *t)
{
    struct errmsg msg;
    uint64_t size;
    enum err e = object_head(t->store, "varve-tier-is-it-there", &size, &msg);
    return !e || e == ERR_MISSING || e == ERR_DENIED;
}

bool note_trouble(struct tier *t, struct commit *c, const struct log_name *name, enum err e,
                  const struct errmsg *why, struct trouble *x)
{
    if (x->e)
        return true;
    failed(t, name, why);
    bool may_be_store = e == ERR_NETWORK || e == ERR_IO;
    if (may_be_store && !x->answered)
        x->answered = store_answers(t);
    if (e == ERR_CONFLICT || (may_be_store && !x->answered)) {
        x->e = e;
        x->msg = *why;
        return true;
    }
    x->own++;
    commit_tier_rest(c, name);
    return false;
}

// ---- a round

static struct log_name name_of(const struct tier_due *d)
{
    return (struct log_name){slice_of(d->keyspace, d->keyspace_size),
                             slice_of(d->key, d->key_size)};
}

// Moved already; more bytes may go from here. Many of these, after a start, keep nobody waiting.
static bool nothing_to_move(struct tier *t, struct commit *c, const struct tier_due *d,
                            struct trouble *x)
{
    struct errmsg why;
    struct log_name name = name_of(d);
    enum err e = commit_tier_done(c, &name, d->tiered, &why);
    if (e)
        (void)note_trouble(t, c, &name, e, &why, x);
    return e == ERR_OK;
}

// Step 1 of all. Returns how many were begun.
static size_t begin_all(struct tier *t, struct commit *c, const struct tier_due *due, size_t n,
                        struct move *moves, size_t *moved, struct trouble *x)
{
    size_t count = 0, bytes = 0;
    for (size_t i = 0; i < n && !x->e && x->own < OWN_MAX && bytes < ROUND_BYTES; i++) {
        struct errmsg why = {""};
        struct move *m = &moves[count];
        if (due[i].end == due[i].tiered) {
            *moved += nothing_to_move(t, c, &due[i], x);
            continue;
        }
        enum err e = begin_move(t, c, &due[i], m, &why);
        bytes += m->page.bytes;
        if (!e) {
            count++;
            continue;
        }
        (void)note_trouble(t, c, &m->name, e, &why, x);
        move_release(m);
    }
    return count;
}

// Steps 3 and 4 of one.
static enum err end_move(struct tier *t, struct commit *c, struct move *m, struct errmsg *msg)
{
    if (m->count == 0 && m->first == 1) // there is nothing, and no object: nothing to be noted
        return ERR_OK;
    enum err e = compare(t, m, msg);
    return e ? e : commit_tier_done(c, &m->name, m->end, msg);
}

void move_round(struct tier *t, struct commit *c, const struct tier_due *due, size_t n,
                size_t *moved, struct trouble *x)
{
    struct move moves[TIER_ROUND];
    struct errmsg put_why = {""};
    enum err put = ERR_OK;
    size_t count = begin_all(t, c, due, n, moves, moved, x);
    if (!x->e)
        put = put_all(t, moves, count, &put_why);
    for (size_t i = 0; i < count; i++) {
        struct move *m = &moves[i];
        struct errmsg why = put_why;
        enum err e = x->e ? x->e : put_failed(m, put, &why);
        if (!e)
            e = end_move(t, c, m, &why);
        if (e && !x->e)
            (void)note_trouble(t, c, &m->name, e, &why, x);
        *moved += e == ERR_OK && m->count > 0;
        move_release(m);
    }
    atomic_fetch_add(&t->rounds, 1);
}
