// Verifying relations in a store, for `varve check`: that every list belongs to a relation and is a
// valid block, or a head and chunks that follow one another and have as many ids as it says.
#include "commit/rel_int.h"
#include <inttypes.h>
#include <stdlib.h>

struct rel_checked {
    uint8_t tables[RELS_TABLES]; // 0: none; 1: without payloads, 2: with
    // The long list whose chunks are being read.
    bool open;
    bool any; // it had one
    uint32_t table;
    uint64_t hash;
    uint64_t left; // ids still to come
    uint64_t last; // id of the chunk before
};

static enum err bad(uint32_t table, uint64_t hash, struct errmsg *msg, const char *what)
{
    static const char *const parts[] = {"forward", "reverse", "recent", "unknown"};
    return err_set(msg, ERR_DAMAGED, "relation %" PRIu32 ", %s list %016" PRIx64 ": %s", table / 4,
                   parts[table % 4], hash, what);
}

static enum err check_relations(struct commit *c, struct rel_checked *k, struct errmsg *msg)
{
    uint8_t from[] = {REL_ROW_RELATION}, to[] = {REL_ROW_RELATION + 1};
    struct store_iter *it;
    struct change ch;
    uint64_t stamps;
    uint32_t last = 0;
    enum err e = store_iter_range(c->store, STORE_RELS, slice_of(from, 1), slice_of(to, 1), &it);
    if (e)
        return err_set(msg, e, "cannot read the store: %s", err_text(e));
    for (; !e && store_iter_valid(it); store_iter_next(it)) {
        if (rel_get_relation(store_iter_key(it), store_iter_value(it), &ch, &stamps) ||
            ch.relation != ++last || ch.relation > LIMIT_RELATIONS) {
            e = err_set(msg, ERR_DAMAGED, "relation %" PRIu32 ": its row cannot be read", last);
            break;
        }
        k->tables[rel_table(last, REL_FORWARD)] = ch.options.recent ? 2 : 1;
        k->tables[rel_table(last, REL_REVERSE)] = ch.options.reverse ? 1 : 0;
        k->tables[rel_table(last, REL_RECENT)] = ch.options.recent ? 2 : 0;
    }
    if (!e)
        e = store_iter_status(it, msg);
    store_iter_free(it);
    return e;
}

static enum err end_list(struct rel_checked *k, struct errmsg *msg)
{
    bool whole = !k->open || k->left == 0;
    k->open = false;
    return whole ? ERR_OK : bad(k->table, k->hash, msg, "chunks are missing");
}

static enum err check_block(const struct rel_checked *k, uint32_t table, const struct rels_row *row,
                            struct errmsg *msg)
{
    if (ids_check(row->bytes))
        return bad(table, row->hash, msg, "a block that is not valid");
    if (ids_has_payloads(row->bytes.p) != (k->tables[table] == 2))
        return bad(table, row->hash, msg, "a block with payloads where none are, or without");
    return ERR_OK;
}

static enum err check_chunk(struct rel_checked *k, uint32_t table, const struct rels_row *row,
                            struct errmsg *msg)
{
    if (!k->open || k->table != table || k->hash != row->hash)
        return bad(table, row->hash, msg, "a chunk that belongs to no long list");
    enum err e = check_block(k, table, row, msg);
    if (e)
        return e;
    uint64_t n = ids_count(row->bytes.p);
    if (row->low > ids_first(row->bytes.p) || (k->any ? k->last >= row->low : row->low != 0))
        return bad(table, row->hash, msg, "a chunk that does not follow the one before");
    if (n > k->left)
        return bad(table, row->hash, msg, "chunks with more ids than its head says");
    k->any = true;
    k->last = ids_last(row->bytes.p);
    k->left -= n;
    return ERR_OK;
}

static enum err check_row(struct rel_checked *k, struct slice key, struct slice value,
                          struct errmsg *msg)
{
    struct rels_row row;
    uint32_t table;
    uint64_t members;
    if (!rel_row_of(key, value, &table, &row))
        return err_set(msg, ERR_DAMAGED, "a list's row in the store cannot be read");
    if (table >= RELS_TABLES || !k->tables[table])
        return bad(table, row.hash, msg, "there is no such relation");
    if (row.kind == RELS_ROW_CHUNK)
        return check_chunk(k, table, &row, msg);
    enum err e = end_list(k, msg);
    if (e || !rel_row_is_head(value, &members))
        return e ? e : check_block(k, table, &row, msg);
    k->open = true;
    k->any = false;
    k->table = table;
    k->hash = row.hash;
    k->left = members;
    return members ? ERR_OK : bad(table, row.hash, msg, "a long list without ids");
}

enum err check_rels(struct commit *c, struct errmsg *msg)
{
    uint8_t from[] = {REL_ROW_LIST}, to[] = {REL_ROW_LIST + 1};
    struct store_iter *it;
    struct rel_checked *k = calloc(1, sizeof *k);
    if (!k)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    enum err e = check_relations(c, k, msg);
    if (!e && (e = store_iter_range(c->store, STORE_RELS, slice_of(from, 1), slice_of(to, 1), &it)))
        err_set(msg, e, "cannot read the store: %s", err_text(e));
    else if (!e) {
        for (; !e && store_iter_valid(it); store_iter_next(it))
            e = check_row(k, store_iter_key(it), store_iter_value(it), msg);
        if (!e)
            e = store_iter_status(it, msg);
        store_iter_free(it);
    }
    if (!e)
        e = end_list(k, msg);
    free(k);
    return e;
}
