// How the store below holds relations: rows of the space STORE_RELS. Ids, hashes and lows in keys
// are big-endian, so that rows lie in their order; all else is little-endian.
//
//     key                                  value
//     [1][u32 table][u64 hash]             a list: one block (table/ids.h); or, if it is long, its
//                                          head [u8 255][u64 count of its ids], and its chunks
//                                          follow
//     [1][u32 table][u64 hash][u64 low]    a chunk of a long list: one block
//     [2][u32 relation]                    a relation: [u8 1][u8 flags: 1 reverse, 2 recent,
//                                          4 relaxed][u64 created ms][u64 stamps][name]
//
// A relation n, from 1, has the tables 4n (from -> members), 4n + 1 (member -> froms) and 4n + 2
// (from -> stamps); 4n + 3 is none. Which of them, its flags say; with `recent` the first and the
// third have payloads. The hash is that of the list's `from`, see table/rels.h; its key is made of
// the data directory's id. `stamps`: the highest stamp given out so far, at least every stamp in
// the lists that were written with the row or before it.
//
// A checkpoint writes tables one after another while they change, so what lies here is not of one
// moment; every change after the checkpoint's mark is in the log, and says what is there
// afterwards.
#include "commit/rel_int.h"

#include "base/assert.h"

enum { ROW_VERSION = 1, RELATION_HEAD = 18, LIST_KEY = 13 };
enum { FLAG_REVERSE = 1, FLAG_RECENT = 2, FLAG_RELAXED = 4 };

struct slice rel_list_key(uint8_t key[REL_ROW_KEY], uint32_t table, uint64_t hash)
{
    key[0] = REL_ROW_LIST;
    store32(key + 1, __builtin_bswap32(table));
    store64(key + 5, __builtin_bswap64(hash));
    return slice_of(key, LIST_KEY);
}

struct slice rel_chunk_key(uint8_t key[REL_ROW_KEY], uint32_t table, uint64_t hash, uint64_t low)
{
    (void)rel_list_key(key, table, hash);
    store64(key + LIST_KEY, __builtin_bswap64(low));
    return slice_of(key, REL_ROW_KEY);
}

struct slice rel_end_key(uint8_t key[REL_ROW_KEY], uint32_t table, uint64_t hash)
{
    return rel_list_key(key, hash == UINT64_MAX ? table + 1 : table, hash + 1);
}

struct slice rel_relation_key(uint8_t key[REL_ROW_KEY], uint32_t id)
{
    key[0] = REL_ROW_RELATION;
    store32(key + 1, __builtin_bswap32(id));
    return slice_of(key, 5);
}

bool rel_row_of(struct slice key, struct slice value, uint32_t *table, struct rels_row *row)
{
    if ((key.n != LIST_KEY && key.n != REL_ROW_KEY) || key.p[0] != REL_ROW_LIST)
        return false;
    *table = __builtin_bswap32(load32(key.p + 1));
    *row = (struct rels_row){
        .kind = key.n == LIST_KEY ? RELS_ROW_LIST : RELS_ROW_CHUNK,
        .hash = __builtin_bswap64(load64(key.p + 5)),
        .low = key.n == LIST_KEY ? 0 : __builtin_bswap64(load64(key.p + LIST_KEY)),
        .bytes = value,
    };
    return true;
}

bool rel_row_is_head(struct slice value, uint64_t *count)
{
    if (value.n != REL_ROW_HEAD || value.p[0] != 255)
        return false;
    *count = load64(value.p + 1);
    return true;
}

enum err rel_put_relation(struct buf *b, const struct relation *r, uint64_t stamps)
{
    const struct relation_options *o = &r->options;
    uint8_t head[RELATION_HEAD] = {ROW_VERSION};
    head[1] = (uint8_t)((o->reverse ? FLAG_REVERSE : 0) | (o->recent ? FLAG_RECENT : 0) |
                        (o->relaxed ? FLAG_RELAXED : 0));
    store64(head + 2, r->created_ms);
    store64(head + 10, VARVE_BUG == 40 ? 0 : stamps); // 40: stamps start anew after a restart
    enum err e = buf_append(b, head, sizeof head);
    return e ? e : buf_append(b, r->name, r->name_len);
}

enum err rel_get_relation(struct slice key, struct slice value, struct change *ch, uint64_t *stamps)
{
    if (key.n != 5 || value.n <= RELATION_HEAD || value.p[0] != ROW_VERSION)
        return ERR_DAMAGED;
    *ch = (struct change){
        .kind = CHANGE_RELATION,
        .relation = __builtin_bswap32(load32(key.p + 1)),
        .created_ms = load64(value.p + 2),
        .options = {value.p[1] & FLAG_REVERSE, value.p[1] & FLAG_RECENT, value.p[1] & FLAG_RELAXED},
        .key = slice_of(value.p + RELATION_HEAD, value.n - RELATION_HEAD),
    };
    *stamps = load64(value.p + 10);
    return ch->relation && op_relation_name(ch->key) ? ERR_OK : ERR_DAMAGED;
}
