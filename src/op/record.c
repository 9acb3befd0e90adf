#include "op/record.h"

#include <inttypes.h>

enum err record_next(struct record_walk *w, struct record *r, struct errmsg *msg)
{
    if (w->rest.n == 0)
        return ERR_MISSING;
    if (w->rest.n < RECORD_OVERHEAD)
        return err_set(msg, ERR_DAMAGED, "byte %zu: a record is cut short", w->at);
    *r = record_read(w->rest.p);
    size_t size = record_size(r->bytes.n);
    if (size > w->rest.n)
        return err_set(msg, ERR_DAMAGED, "byte %zu: a record of %zu bytes is cut short", w->at,
                       r->bytes.n);
    if (load32(w->rest.p + size - 4) != size - 4)
        return err_set(msg, ERR_DAMAGED, "byte %zu: a record's two lengths disagree", w->at);
    if (r->offset <= w->last)
        return err_set(msg, ERR_DAMAGED, "byte %zu: offset %" PRIu64 " follows %" PRIu64, w->at,
                       r->offset, w->last);
    w->last = r->offset;
    w->at += size;
    w->rest = slice_of(w->rest.p + size, w->rest.n - size);
    return ERR_OK;
}
