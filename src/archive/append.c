// Appending to logs that are held. Rules that all writers keep, for
// the path of archive/tiles.h to be the log:
//  - data is put only as session.c says, each object at the log's end;
//  - a merged object begins where the batch begins and ends at the log's end;
//  - while a fence stands, whatever is appended is merged with the batch in the same put (with the
//    newest complete object, if the batch is empty), so that the border at which the fence begins
//    is gone. The parts are deleted then, the fence last.
#include "archive/sum.h"
#include "archive/writer_int.h"
#include "base/assert.h"
#include "base/limits.h"
#include "base/log.h"
#include <inttypes.h>
#include <stdlib.h>

enum { PUT_TRIES = 4, LOOKS = 16, NAMES = 1000 };

void put_release(struct put *p)
{
    if (p->merges)
        parts_release(&p->parts);
    free(p->slices);
    free(p->data);
}

// Bytes and number of the records that the nonces let in.
static enum err measure(struct put *p, struct errmsg *msg)
{
    const struct archive_batch *b = p->batch;
    u128 next = p->log->next_nonce;
    p->size = 0;
    p->batch->taken = 0;
    for (size_t i = 0; i < b->count; i++) {
        const struct archive_insert *r = &b->records[i];
        if (r->nonce != NONCE_NONE && r->nonce < next)
            continue;
        if (r->bytes.n > LIMIT_ARCHIVE_RECORD)
            return err_set(msg, ERR_TOO_BIG, "a record of %zu bytes for %.200s; %u are the most",
                           r->bytes.n, p->log->dir, LIMIT_ARCHIVE_RECORD);
        next = r->nonce != NONCE_NONE ? r->nonce + 1 : next;
        p->size += record_size(r->bytes.n);
        p->batch->taken++;
        if (p->size > LIMIT_ARCHIVE_APPEND)
            return err_set(msg, ERR_TOO_BIG, "more than %u bytes of records for %.200s at once",
                           LIMIT_ARCHIVE_APPEND, p->log->dir);
    }
    return ERR_OK;
}

// Encodes them; fills the name.
static enum err encode(struct archive_writer *w, struct put *p, struct errmsg *msg)
{
    const struct archive_batch *b = p->batch;
    const struct log *l = p->log;
    int64_t now = (int64_t)os_wall_ms(w->os);
    struct name n = {.first = l->next_offset,
                     .min_time = INT64_MAX,
                     .max_time = INT64_MIN,
                     .first_nonce = l->next_nonce,
                     .next_nonce = l->next_nonce,
                     .size = p->size,
                     .prior = l->prior};
    bool numbered = false;
    uint64_t offset = l->next_offset;
    if (p->batch->taken >= UINT64_MAX - offset)
        return err_set(msg, ERR_OVERFLOW, "%.200s: its offsets are used up", l->dir);
    uint8_t *at = p->data = malloc(p->size);
    if (!at)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < b->count; i++) {
        const struct archive_insert *in = &b->records[i];
        struct record r = {offset, in->has_timestamp ? in->timestamp : now, in->nonce, in->bytes};
        if (r.nonce != NONCE_NONE && r.nonce < n.next_nonce)
            continue;
        if (r.nonce != NONCE_NONE) {
            n.first_nonce = numbered ? n.first_nonce : r.nonce;
            n.next_nonce = r.nonce + 1;
            numbered = true;
        }
        n.min_time = r.timestamp < n.min_time ? r.timestamp : n.min_time;
        n.max_time = r.timestamp > n.max_time ? r.timestamp : n.max_time;
        at = record_write(at, &r);
        offset++;
    }
    VERIFY((size_t)(at - p->data) == p->size);
    n.last = offset - 1;
    p->name = n;
    return ERR_OK;
}

// True if a fence stands at the name.
static bool is_fenced(const struct tiles *t, const struct name *n)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->v[i].stored == 0 && name_equal(&t->v[i].name, n))
            return true;
    return false;
}

// Makes the name one that is not fenced, if it is: times may be said to begin earlier than they do,
// as who looks for one looks at the records. False: too many are fenced.
static bool other_name(const struct tiles *t, struct name *n)
{
    for (unsigned i = 0; i < NAMES && n->min_time > INT64_MIN; i++, n->min_time--)
        if (!is_fenced(t, n))
            return true;
    return false;
}

// While a fence stands: the batch goes into the same object, under a name that is not fenced.
static enum err merge_before(struct archive_writer *w, struct put *p, struct errmsg *msg)
{
    const struct log *l = p->log;
    uint64_t from = l->objects ? l->batch_first : l->prior ? l->prior : l->next_offset;
    struct name whole = p->name;
    enum err e = parts_fetch(w, l, from, &p->parts, msg);
    if (e) { // perhaps because others go on with it
        enum err closed = session_check(&w->session, msg);
        return closed ? closed : e;
    }
    p->merges = true;
    if (p->parts.n) {
        const struct name *first = &p->parts.listing.v[p->parts.path[0]].name;
        whole.first = first->first;
        whole.prior = first->prior;
        whole.first_nonce = first->first_nonce;
        whole.size += p->parts.size;
        if (p->parts.min_time < whole.min_time)
            whole.min_time = p->parts.min_time;
        if (p->parts.max_time > whole.max_time)
            whole.max_time = p->parts.max_time;
    }
    if (!other_name(&p->parts.listing, &whole))
        return err_set(msg, ERR_AGAIN,
                       "%.300s: all names of an object of just these records were fenced: append "
                       "other records with them",
                       l->dir);
    p->name = whole;
    return ERR_OK;
}

// Encodes what goes to one log, or nothing (size 0).
static enum err prepare(struct archive_writer *w, struct put *p, struct errmsg *msg)
{
    p->batch->first_offset = p->batch->next_offset = p->log->next_offset;
    p->batch->next_nonce = p->log->next_nonce;
    enum err e = measure(p, msg);
    if (e || p->size == 0)
        return e;
    e = encode(w, p, msg);
    if (!e && p->log->fences)
        e = merge_before(w, p, msg);
    size_t before = p->merges ? p->parts.n : 0;
    p->slices = e ? NULL : calloc(before + 1, sizeof *p->slices);
    if (!e && !p->slices)
        e = err_set(msg, ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < before && !e; i++)
        p->slices[i] = buf_slice(&p->parts.bytes[i]);
    if (!e)
        p->slices[before] = slice_of(p->data, p->size);
    p->slice_count = before + 1;
    if (!e)
        data_full_name(p->log->dir, &p->name, p->full);
    return e;
}

// Something is at the name already. ERR_OK if it is what was to be put.
static enum err same_bytes(struct archive_writer *w, const struct put *p, struct errmsg *msg)
{
    struct buf found;
    buf_init(&found, p->name.size + 1);
    enum err e = object_get(w->store, p->full, &found, msg);
    size_t at = 0;
    bool same = !e && buf_len(&found) == p->name.size;
    for (size_t i = 0; same && i < p->slice_count; at += p->slices[i++].n)
        same = slice_equal(slice_of(buf_head(&found) + at, p->slices[i].n), p->slices[i]);
    buf_release(&found);
    if (e && e != ERR_TOO_BIG)
        return e;
    return same ? ERR_OK
                : err_set(msg, ERR_CONFLICT,
                          "fenced: another writer has taken over %.300s; close this one, and open "
                          "it again if it shall write",
                          p->log->dir);
}

// The result of one put, tried again where the answer was lost.
static enum err put_result(struct archive_writer *w, struct put *p, struct object_call *c,
                           struct errmsg *msg)
{
    enum err e = c->e;
    if (e)
        err_set(msg, e, "%s", c->msg.text);
    for (unsigned i = 1; i < PUT_TRIES && e == ERR_NETWORK; i++) {
        e = object_run(w->store, c, 1);
        if (e)
            err_set(msg, e, "%s", c->msg.text);
    }
    if (e == ERR_EXISTS)
        e = same_bytes(w, p, msg);
    // It was there and went: ours, and merged since, or a fence. accept_puts finds out.
    p->went = e == ERR_MISSING;
    return p->went ? ERR_OK : e;
}

// One look at the log: true if it has just these records at their offsets.
static enum err look_for(struct archive_writer *w, const struct put *p, bool *there,
                         struct errmsg *msg)
{
    uint64_t first = p->name.last - p->batch->taken + 1;
    char full[NAME_FULL_MAX];
    struct tile tile;
    struct buf bytes;
    *there = false;
    enum err e = log_find(w, p->log, first, &tile, msg);
    if (e || tile.name.first > first || tile.name.last < p->name.last)
        return e == ERR_MISSING ? ERR_OK : e;
    data_full_name(p->log->dir, &tile.name, full);
    buf_init(&bytes, tile.name.size + 1);
    e = sum_get(w->store, full, &bytes, msg);
    e = e ? e : data_check(p->log->dir, &tile.name, buf_slice(&bytes), NULL, NULL, msg);
    if (!e) {
        const uint8_t *at = buf_head(&bytes), *end = at + buf_len(&bytes);
        while (at < end && record_offset(at) < first)
            at += record_span(at);
        *there = (size_t)(end - at) >= p->size && !memcmp(at, p->data, p->size);
    }
    buf_release(&bytes);
    return e;
}

// The same, again if the object went between the listing and the get: it was merged.
static enum err in_log(struct archive_writer *w, const struct put *p, bool *there,
                       struct errmsg *msg)
{
    enum err e = ERR_MISSING;
    for (unsigned i = 0; i < LOOKS && (e == ERR_MISSING || e == ERR_NETWORK); i++)
        e = look_for(w, p, there, msg);
    if (e == ERR_AGAIN)
        return err_set(
            msg, ERR_NETWORK,
            "%.300s was taken over, and trimmed past what was appended: it may have been "
            "there",
            p->log->dir);
    return e == ERR_MISSING ? err_set(msg, ERR_NETWORK, "%.300s changes too fast", p->log->dir) : e;
}

// Step 7 of session.c: after the puts the session's record must still be there; else each put
// counts only if the log shows its records.
static enum err accept_puts(struct archive_writer *w, struct put **puts, size_t n,
                            struct errmsg *msg)
{
    enum err e = session_check(&w->session, msg);
    if (e && e != ERR_CONFLICT)
        return e; // perhaps they count
    struct errmsg m;
    bool there = false;
    for (size_t i = 0; i < n; i++) {
        if (puts[i]->e || (!e && !puts[i]->went))
            continue;
        enum err looked = in_log(w, puts[i], &there, &m);
        if (looked || !there) {
            puts[i]->e = looked ? looked : ERR_CONFLICT;
            if (looked)
                puts[i]->why = m;
            else
                err_set(&puts[i]->why, ERR_CONFLICT, "fenced: %.300s was taken over",
                        puts[i]->log->dir);
        }
    }
    return ERR_OK; // the session is broken: the next call tells
}

// After the put of p was accepted: the log's state, and the merged parts go.
static void put_done(struct archive_writer *w, struct put *p)
{
    struct log *l = p->log;
    struct errmsg m;
    enum err e = ERR_OK;
    p->batch->next_offset = p->name.last + 1;
    p->batch->next_nonce = p->name.next_nonce;
    if (p->merges) {
        bool fences = false;
        l->batch_first = p->name.first;
        l->objects = l->records = l->bytes = 0;
        log_advance(l, &p->name);
        e = parts_delete(w, l, &p->parts.listing, &p->name, &fences, &m);
        l->fences = fences;
    } else {
        log_advance(l, &p->name);
    }
    e = e ? e : log_compact(w, l, &m);
    if (e) // what was appended is there; listed again, and tried again, at the next append
        l->loaded = false;
    if (e && e != ERR_AGAIN && e != ERR_MISSING) { // as when others have taken over since
        log_event(LOG_WARN, "archive_compact", "log=%s error=%s", log_quote(l->dir),
                  log_quote(m.text));
    }
}

// Puts all, and deletes the intent before this one meanwhile.
static enum err put_all(struct archive_writer *w, struct put **puts, size_t n, struct errmsg *msg)
{
    struct object_call *calls = calloc(n + 1, sizeof *calls);
    char old[NAME_FULL_MAX];
    for (size_t i = 0; i < n && !calls; i++)
        puts[i]->batch->taken = 0; // nothing was put
    if (!calls)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++)
        calls[i] = (struct object_call){.op = OBJECT_PUT_ABSENT,
                                        .name = puts[i]->full,
                                        .parts = puts[i]->slices,
                                        .count = puts[i]->slice_count,
                                        .sum = sum_of(puts[i]->slices, puts[i]->slice_count)};
    bool intent = session_old_intent(&w->session, old);
    calls[n] = (struct object_call){.op = OBJECT_DELETE, .name = old};
    ERR_IGNORE(object_run(w->store, calls, n + intent)); // each call tells; an old intent is litter
    for (size_t i = 0; i < n; i++)
        puts[i]->e = put_result(w, puts[i], &calls[i], &puts[i]->why);
    free(calls);
    enum err e = accept_puts(w, puts, n, msg);
    if (e)
        session_break(&w->session, e, msg);
    for (size_t i = 0; i < n; i++) {
        struct put *p = puts[i];
        if (!e && !p->e) {
            put_done(w, p);
            continue;
        }
        p->batch->taken = UINT64_MAX;
        p->batch->e = p->e;
        p->log->loaded = false;
        if (p->e)
            session_break(&w->session, p->e, &p->why);
    }
    for (size_t i = 0; i < n && !e; i++)
        if (puts[i]->e)
            e = err_set(msg, puts[i]->e, "%s", puts[i]->why.text);
    return e;
}

static enum err intend(struct archive_writer *w, struct put **puts, size_t n, struct errmsg *msg)
{
    const char **names = calloc(n, sizeof *names);
    if (!names)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++)
        names[i] = puts[i]->full;
    enum err e = session_intend(&w->session, names, n, msg);
    free(names);
    return e;
}

// What is to be put, into puts[*m]. A log's own error is its batch's, the first of them is *own.
static enum err prepare_all(struct archive_writer *w, struct put *all, size_t n, struct put **puts,
                            size_t *m, enum err *own, struct errmsg *msg)
{
    for (size_t i = 0; i < n; i++) {
        struct errmsg why;
        enum err e = prepare(w, &all[i], &why);
        if (e && !*own)
            *msg = why;
        if (e == ERR_NO_MEMORY || e == ERR_CONFLICT)
            return err_set(msg, e, "%s", why.text);
        if (!e && all[i].size)
            puts[(*m)++] = &all[i];
        if (!e)
            continue;
        *own = *own ? *own : e;
        all[i].batch->e = e;
        all[i].batch->taken = 0;
        all[i].log->loaded = false; // it may be another one by now
    }
    return ERR_OK;
}

enum err puts_run(struct archive_writer *w, struct put *all, size_t n, struct errmsg *msg)
{
    struct put **puts = calloc(n, sizeof *puts);
    size_t m = 0;
    enum err own = ERR_OK;
    struct errmsg why = {""};
    enum err e = puts ? ERR_OK : err_set(&why, ERR_NO_MEMORY, "out of memory");
    e = e ? e : prepare_all(w, all, n, puts, &m, &own, &why);
    if (e)
        (void)err_set(msg, e, "%s", why.text);
    os_crash_point("archive_before_intent");
    if (!e && m)
        e = intend(w, puts, m, msg);
    for (size_t i = 0; i < n && e; i++)
        all[i].batch->taken = 0; // nothing was put
    os_crash_point("archive_after_intent");
    if (!e && m)
        e = put_all(w, puts, m, msg);
    os_crash_point("archive_after_put");
    free(puts);
    return e || !own ? e : err_set(msg, own, "%s", why.text);
}
