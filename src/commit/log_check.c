// Verifying the logs in a store, for `varve check`: that each log's chunks follow one another, that
// a chunk's bytes are what its row says, and that a header's sums are its chunks'.
#include "commit/log_int.h"
#include <inttypes.h>

struct checked {
    uint64_t records, bytes;
    uint64_t last;   // offset at which the chunk before ended
    u128 next_nonce; // after it
};

static enum err bad(const struct log_row *r, uint64_t first, struct errmsg *msg, const char *what)
{
    char key[NAME_TEXT];
    return err_set(msg, ERR_DAMAGED,
                   "log %" PRIu64 " (\"%s\" in keyspace %" PRIu32 "), chunk %" PRIu64 ": %s", r->id,
                   quote_name(r->key, key), r->keyspace, first, what);
}

// The bytes of one chunk against its row.
static enum err check_bytes(const struct log_row *r, const struct chunk_meta *m, struct slice bytes,
                            struct errmsg *msg)
{
    struct record_walk w = {.rest = bytes};
    struct record rec;
    struct errmsg why;
    uint32_t n = 0;
    enum err e;
    if (bytes.n != m->bytes)
        return bad(r, m->first, msg, "its bytes are not as many as its row says");
    while (!(e = record_next(&w, &rec, &why))) {
        bool inside = rec.offset >= m->first && rec.offset <= m->last &&
                      rec.timestamp >= m->min_time && rec.timestamp <= m->max_time;
        bool nonce =
            rec.nonce == NONCE_NONE || (rec.nonce >= m->first_nonce && rec.nonce < m->next_nonce);
        if (!inside || !nonce || rec.offset < r->state.first)
            return bad(r, m->first, msg, "a record lies outside what its row says");
        n++;
    }
    if (e != ERR_MISSING)
        return bad(r, m->first, msg, why.text);
    return n == m->records ? ERR_OK
                           : bad(r, m->first, msg, "its records are not as many as its row says");
}

static enum err check_chunk(struct commit *c, enum store_space space, const struct log_row *r,
                            const struct chunk_meta *m, struct checked *sum, struct buf *b,
                            struct errmsg *msg)
{
    uint8_t key[ROW_KEY];
    if (m->first <= sum->last || m->last >= r->state.end || m->first_nonce < sum->next_nonce)
        return bad(r, m->first, msg, "it does not follow the one before");
    buf_clear(b);
    enum err e =
        store_get(c->store, space, row_chunk_key(key, ROW_CHUNK, r->id, m->first), false, b);
    if (e == ERR_MISSING && m->last < r->state.local && chunk_is_whole(m)) // in the tier
        e = ERR_OK;
    else if (e == ERR_MISSING)
        return bad(r, m->first, msg, "its bytes are missing");
    if (e)
        return err_set(msg, e, "cannot read the store: %s", err_text(e));
    sum->records += m->records;
    sum->bytes += m->bytes;
    sum->last = m->last;
    sum->next_nonce = m->next_nonce;
    if (buf_len(b) == 0 && m->bytes)
        return ERR_OK;
    return check_bytes(r, m, buf_slice(b), msg);
}

static enum err check_log(struct commit *c, enum store_space space, const struct log_row *r,
                          struct buf *b, struct errmsg *msg)
{
    uint8_t from[ROW_KEY], to[ROW_KEY];
    struct store_iter *it;
    struct checked sum = {0};
    struct chunk_meta m;
    uint64_t first;
    enum err e =
        store_iter_range(c->store, space, row_chunk_key(from, ROW_META, r->id, r->state.swept),
                         row_chunk_key(to, ROW_META, r->id + 1, 0), &it);
    if (e)
        return err_set(msg, e, "cannot read the store: %s", err_text(e));
    for (; !e && store_iter_valid(it); store_iter_next(it)) {
        if (!row_is_chunk_of(store_iter_key(it), ROW_META, r->id, &first) ||
            row_get_meta(first, store_iter_value(it), &m))
            e = bad(r, 0, msg, "a row of one cannot be read");
        else
            e = check_chunk(c, space, r, &m, &sum, b, msg);
    }
    if (!e)
        e = store_iter_status(it, msg);
    store_iter_free(it);
    if (!e && (sum.records != r->state.records || sum.bytes != r->state.bytes ||
               sum.next_nonce > r->state.next_nonce))
        e = bad(r, 0, msg, "its header does not agree with its chunks");
    return e;
}

enum err check_logs(struct commit *c, struct errmsg *msg)
{
    static const enum store_space spaces[] = {STORE_LOGS, STORE_EVENTS};
    uint8_t from[] = {ROW_LOG}, to[] = {ROW_LOG + 1};
    struct buf b;
    enum err e = ERR_OK;
    buf_init(&b, LIMIT_VALUE_HARD + LOGS_CHUNK);
    for (int i = 0; i < 2 && !e; i++) {
        struct store_iter *it;
        struct log_row r;
        if ((e = store_iter_range(c->store, spaces[i], slice_of(from, 1), slice_of(to, 1), &it))) {
            err_set(msg, e, "cannot read the store: %s", err_text(e));
            break;
        }
        for (; !e && store_iter_valid(it); store_iter_next(it)) {
            if (row_get_log(store_iter_key(it), store_iter_value(it), &r))
                e = err_set(msg, ERR_DAMAGED, "a log's header in the store cannot be read");
            else
                e = check_log(c, spaces[i], &r, &b, msg);
        }
        if (!e)
            e = store_iter_status(it, msg);
        store_iter_free(it);
    }
    buf_release(&b);
    return e;
}
