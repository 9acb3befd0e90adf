// How the store below holds logs. Rows of the spaces STORE_LOGS and STORE_EVENTS (the logs of
// keyspaces whose timestamps the server gives); keyspaces are all in STORE_LOGS. Ids and offsets in
// keys are big-endian, so that rows lie in their order; all else is little-endian.
//
//     key                                value
//     [1][u32 keyspace id]               keyspace: [u8 1][u8 flags: 1 server time][u64 created ms]
//                                        [u64 max age ms][u64 max bytes][u64 max records][name]
//     [2][u64 log id]                    log: [u8 1][u32 keyspace id][u64 first][u64 end]
//                                        [u128 next nonce][i64 last time][u64 records][u64 bytes]
//                                        [u64 swept][u64 seq][key]; of a log that is in the tier
//                                        [u8 2], and [u64 tiered][u64 local] before the key
//     [3][u64 log id][u64 chunk's first] chunk: [u8 1][u64 last][i64 min time][i64 max time]
//                                        [u128 first nonce][u128 next nonce][u32 bytes][u32
//                                        records]
//     [4][u64 log id][u64 chunk's first] the chunk's bytes, as op/record.h lays records out. A
//     chunk
//                                        before `local` that lacks no record has no such row: its
//                                        bytes are in objects
//
// All rows of a log lie in one space, and a checkpoint makes all its additions to a space visible
// at once: so what is found here of a log is its state at one moment.
#include "commit/log_int.h"

#include "base/assert.h"

enum {
    ROW_VERSION = 1,
    ROW_TIERED = 2, // of a log's header
    KEYSPACE_HEAD = 34,
    HEADER_HEAD = 77,
    TIERED_HEAD = HEADER_HEAD + 16,
    META_SIZE = 65
};

struct slice row_keyspace_key(uint8_t key[ROW_KEY], uint32_t id)
{
    key[0] = ROW_KEYSPACE;
    store32(key + 1, __builtin_bswap32(id));
    return slice_of(key, 5);
}

struct slice row_log_key(uint8_t key[ROW_KEY], uint64_t log)
{
    key[0] = ROW_LOG;
    store64(key + 1, __builtin_bswap64(log));
    return slice_of(key, 9);
}

struct slice row_chunk_key(uint8_t key[ROW_KEY], enum row_kind kind, uint64_t log, uint64_t first)
{
    key[0] = (uint8_t)kind;
    store64(key + 1, __builtin_bswap64(log));
    store64(key + 9, __builtin_bswap64(first));
    return slice_of(key, 17);
}

bool row_is_chunk_of(struct slice key, enum row_kind kind, uint64_t log, uint64_t *first)
{
    if (key.n != 17 || key.p[0] != kind || __builtin_bswap64(load64(key.p + 1)) != log)
        return false;
    *first = __builtin_bswap64(load64(key.p + 9));
    return true;
}

enum err row_put_keyspace(struct buf *b, const struct keyspace *k, const struct log_policy *p)
{
    uint8_t head[KEYSPACE_HEAD] = {ROW_VERSION, k->server_time};
    store64(head + 2, k->created_ms);
    store64(head + 10, p->max_age_ms);
    store64(head + 18, p->max_bytes);
    store64(head + 26, p->max_records);
    enum err e = buf_append(b, head, sizeof head);
    return e ? e : buf_append(b, k->name, k->name_len);
}

enum err row_get_keyspace(struct slice key, struct slice value, struct change *ch)
{
    if (key.n != 5 || value.n <= KEYSPACE_HEAD || value.p[0] != ROW_VERSION)
        return ERR_DAMAGED;
    *ch = (struct change){
        .kind = CHANGE_KEYSPACE,
        .keyspace = __builtin_bswap32(load32(key.p + 1)),
        .created_ms = load64(value.p + 2),
        .policy = {load64(value.p + 10), load64(value.p + 18), load64(value.p + 26),
                   value.p[1] & 1},
        .key = slice_of(value.p + KEYSPACE_HEAD, value.n - KEYSPACE_HEAD),
    };
    return ch->keyspace && ch->key.n <= LIMIT_KEYSPACE_NAME ? ERR_OK : ERR_DAMAGED;
}

enum err row_put_log(struct buf *b, const struct log *l)
{
    uint8_t h[TIERED_HEAD] = {l->tiered ? ROW_TIERED : ROW_VERSION};
    store32(h + 1, l->keyspace->id);
    store64(h + 5, l->first);
    store64(h + 13, l->end);
    store128(h + 21, VARVE_BUG == 22 ? 0 : l->next_nonce);
    store64(h + 37, (uint64_t)l->last_time);
    store64(h + 45, l->records);
    store64(h + 53, l->bytes);
    store64(h + 61, l->swept);
    store64(h + 69, l->seq);
    store64(h + HEADER_HEAD, l->tiered);
    store64(h + HEADER_HEAD + 8, l->local);
    enum err e = buf_append(b, h, l->tiered ? TIERED_HEAD : HEADER_HEAD);
    return e ? e : buf_append(b, l->key, l->key_len);
}

enum err row_get_log(struct slice key, struct slice value, struct log_row *r)
{
    bool tiered = value.n && value.p[0] == ROW_TIERED;
    size_t head = tiered ? TIERED_HEAD : HEADER_HEAD;
    if (key.n != 9 || value.n <= head || (!tiered && value.p[0] != ROW_VERSION) ||
        value.n - head > LIMIT_KEY_HARD)
        return ERR_DAMAGED;
    const uint8_t *h = value.p;
    *r = (struct log_row){
        .id = __builtin_bswap64(load64(key.p + 1)),
        .keyspace = load32(h + 1),
        .key = slice_of(h + head, value.n - head),
        .state = {.first = load64(h + 5),
                  .end = load64(h + 13),
                  .next_nonce = load128(h + 21),
                  .last_time = (int64_t)load64(h + 37),
                  .records = load64(h + 45),
                  .bytes = load64(h + 53),
                  .swept = load64(h + 61),
                  .seq = load64(h + 69),
                  .tiered = tiered ? load64(h + HEADER_HEAD) : 0,
                  .local = tiered ? load64(h + HEADER_HEAD + 8) : 0},
    };
    return r->id && r->state.first && r->state.first <= r->state.end &&
                   r->state.tiered <= r->state.end && r->state.local <= r->state.tiered
               ? ERR_OK
               : ERR_DAMAGED;
}

enum err row_put_meta(struct buf *b, const struct chunk_meta *m)
{
    uint8_t v[META_SIZE] = {ROW_VERSION};
    store64(v + 1, m->last);
    store64(v + 9, (uint64_t)m->min_time);
    store64(v + 17, (uint64_t)m->max_time);
    store128(v + 25, m->first_nonce);
    store128(v + 41, m->next_nonce);
    store32(v + 57, m->bytes);
    store32(v + 61, m->records);
    return buf_append(b, v, sizeof v);
}

enum err row_get_meta(uint64_t first, struct slice value, struct chunk_meta *m)
{
    if (value.n != META_SIZE || value.p[0] != ROW_VERSION)
        return ERR_DAMAGED;
    const uint8_t *v = value.p;
    *m = (struct chunk_meta){
        .first = first,
        .last = load64(v + 1),
        .min_time = (int64_t)load64(v + 9),
        .max_time = (int64_t)load64(v + 17),
        .first_nonce = load128(v + 25),
        .next_nonce = load128(v + 41),
        .bytes = load32(v + 57),
        .records = load32(v + 61),
    };
    return m->last >= first && m->first_nonce <= m->next_nonce ? ERR_OK : ERR_DAMAGED;
}
