#include "archive/data.h"
#include <inttypes.h>
#include <stdio.h>

void data_full_name(const char *dir, const struct name *n, char full[NAME_FULL_MAX])
{
    char data[NAME_DATA_MAX];
    name_format(n, data);
    snprintf(full, NAME_FULL_MAX, "%s/%s", dir, data);
}

static enum err damaged(const char *dir, const struct name *n, const char *why, struct errmsg *msg)
{
    char full[NAME_FULL_MAX];
    data_full_name(dir, n, full);
    return err_set(msg, ERR_DAMAGED, "%.300s is damaged: %s", full, why);
}

// What is wrong with the bytes of an object that are not what its name says.
static enum err explain(const char *dir, const struct name *n, struct slice bytes,
                        struct errmsg *msg)
{
    struct record_walk w = {.rest = bytes};
    struct record r;
    struct errmsg why;
    uint64_t next = n->first;
    enum err e;
    if (bytes.n != n->size) {
        err_set(&why, ERR_DAMAGED, "it has %zu bytes, its name says %" PRIu64, bytes.n, n->size);
        return damaged(dir, n, why.text, msg);
    }
    while ((e = record_next(&w, &r, &why)) == ERR_OK && r.offset == next)
        next++;
    if (e == ERR_OK)
        err_set(&why, ERR_DAMAGED, "offset %" PRIu64 " where %" PRIu64 " is due", r.offset, next);
    else if (e == ERR_MISSING)
        err_set(&why, ERR_DAMAGED, "it ends before offset %" PRIu64, next);
    return damaged(dir, n, why.text, msg);
}

enum err data_too_long(const char *dir, const struct name *n, struct errmsg *msg)
{
    char why[80];
    snprintf(why, sizeof why, "it has more than the %" PRIu64 " bytes that its name says", n->size);
    return damaged(dir, n, why, msg);
}

enum err data_check(const char *dir, const struct name *n, struct slice bytes, int64_t *min,
                    int64_t *max, struct errmsg *msg)
{
    int64_t low = INT64_MAX, high = INT64_MIN;
    uint64_t next = n->first;
    const uint8_t *p = bytes.p;
    // All records of an object pass here before they are served: as little as tells.
    for (size_t left = bytes.n; left >= RECORD_OVERHEAD; next++) {
        uint32_t length = load32(p + 32);
        size_t span = RECORD_OVERHEAD + (size_t)length;
        if (span > left || load32(p + span - 4) != length + RECORD_HEAD || load64(p) != next)
            break;
        __builtin_prefetch(p + DATA_PREFETCH);
        int64_t time = (int64_t)load64(p + 8);
        low = time < low ? time : low;
        high = time > high ? time : high;
        left -= span;
        p += span;
    }
    if (bytes.n != n->size || p != bytes.p + bytes.n || next != n->last + 1)
        return explain(dir, n, bytes, msg);
    if (min)
        *min = low;
    if (max)
        *max = high;
    return ERR_OK;
}
