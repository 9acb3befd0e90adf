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

enum err data_check(const char *dir, const struct name *n, struct slice bytes, int64_t *min,
                    int64_t *max, struct errmsg *msg)
{
    struct record_walk w = {.rest = bytes};
    struct record r;
    struct errmsg why;
    uint64_t next = n->first;
    int64_t low = INT64_MAX, high = INT64_MIN;
    enum err e;
    if (bytes.n != n->size) {
        err_set(&why, ERR_DAMAGED, "it has %zu bytes, its name says %" PRIu64, bytes.n, n->size);
        return damaged(dir, n, why.text, msg);
    }
    while ((e = record_next(&w, &r, &why)) == ERR_OK && r.offset == next) {
        low = r.timestamp < low ? r.timestamp : low;
        high = r.timestamp > high ? r.timestamp : high;
        next++;
    }
    if (e == ERR_OK)
        err_set(&why, ERR_DAMAGED, "offset %" PRIu64 " where %" PRIu64 " is due", r.offset, next);
    if (e == ERR_MISSING && next == n->last + 1) {
        if (min)
            *min = low;
        if (max)
            *max = high;
        return ERR_OK;
    }
    if (e == ERR_MISSING)
        err_set(&why, ERR_DAMAGED, "it ends before offset %" PRIu64, next);
    return damaged(dir, n, why.text, msg);
}
