// How the store below holds a value, and how its expiry index names one.
#include "commit/commit_int.h"

enum { STORED_EXPIRES = 1 };

enum err stored_encode(struct buf *b, const struct key_entry *e)
{
    struct slice value = entry_value(e);
    uint64_t expires = entry_expires(e);
    enum err err = buf_reserve(b, STORED_HEADER_MAX + value.n);
    if (err)
        return err;
    uint8_t head[STORED_HEADER_MAX] = {(uint8_t)entry_type(e), expires ? STORED_EXPIRES : 0};
    store64(head + 2, e->version);
    store64(head + 10, expires);
    buf_put(b, head, expires ? 18 : 10);
    buf_put(b, value.p, value.n);
    return ERR_OK;
}

enum err stored_decode(struct slice s, struct value_view *v)
{
    if (s.n < 10 || s.p[0] >= VALUE_TYPES || (s.p[1] & ~STORED_EXPIRES))
        return ERR_DAMAGED;
    size_t head = s.p[1] & STORED_EXPIRES ? 18 : 10;
    if (s.n < head)
        return ERR_DAMAGED;
    *v = (struct value_view){
        .type = (enum value_type)s.p[0],
        .version = load64(s.p + 2),
        .expires_ms = head == 18 ? load64(s.p + 10) : 0,
        .value = slice_of(s.p + head, s.n - head),
    };
    return ERR_OK;
}

enum err expiry_encode(struct buf *b, uint64_t expires_ms, enum key_space space, struct slice key)
{
    enum err err = buf_reserve(b, 9 + key.n);
    if (err)
        return err;
    uint8_t head[9];
    store64(head, __builtin_bswap64(expires_ms));
    head[8] = (uint8_t)space;
    buf_put(b, head, sizeof head);
    buf_put(b, key.p, key.n);
    return ERR_OK;
}
