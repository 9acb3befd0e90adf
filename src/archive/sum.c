#include "archive/sum.h"
#include "base/hash.h"
#include <inttypes.h>

struct object_sum sum_of(const struct slice *parts, size_t count)
{
    struct object_sum sum = {.there = true};
    for (size_t i = 0; i < count; i++)
        sum.crc32c = crc32c(sum.crc32c, parts[i].p, parts[i].n);
    return sum;
}

enum err sum_check(const struct object_call *get, struct slice bytes, struct errmsg *msg)
{
    uint32_t found = get->sum.there ? crc32c(0, bytes.p, bytes.n) : 0;
    if (!get->sum.there || found == get->sum.crc32c)
        return ERR_OK;
    return err_set(msg, ERR_DAMAGED,
                   "%.300s is damaged: the CRC-32C of its bytes is %08" PRIx32
                   ", its writer's was %08" PRIx32,
                   get->name, found, get->sum.crc32c);
}

enum err sum_get(struct object_store *store, const char *name, struct buf *out, struct errmsg *msg)
{
    struct object_call c = {.op = OBJECT_GET, .name = name, .out = out};
    size_t before = buf_len(out);
    enum err e = object_run(store, &c, 1);
    if (e)
        return err_set(msg, e, "%s", c.msg.text);
    return sum_check(&c, slice_of(buf_head(out) + before, buf_len(out) - before), msg);
}
