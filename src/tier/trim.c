// Deleting objects of which every record is gone: what retention, trims and erasures took from the
// beginning of logs. Which logs those may be the commit room knows (tier_look); after a start it
// knows it of none, and each log is looked at once, with one request.
#include "tier/tier_int.h"

#include <inttypes.h>

static enum err trim_one(struct tier *t, const struct tier_due *d, const struct log_name *name,
                         uint64_t *look, struct errmsg *msg)
{
    struct archive_trim trim = {.log = {name->keyspace, name->key}, .before = d->gone};
    enum err e = archive_trim_due(t->store, &trim.log, d->gone, look, msg);
    if (e || *look)
        return e;
    e = archive_trim(t->writer, &trim, msg);
    atomic_fetch_add(&t->deleted, trim.deleted);
    *look = trim.more ? 0 : trim.next;
    return e;
}

void trim_round(struct tier *t, struct commit *c, const struct tier_due *due, size_t n,
                size_t *done, struct trouble *x)
{
    for (size_t i = 0; i < n && !x->e && !archive_writer_broken(t->writer); i++) {
        struct errmsg why = {""};
        struct log_name name = {slice_of(due[i].keyspace, due[i].keyspace_size),
                                slice_of(due[i].key, due[i].key_size)};
        uint64_t look = 0;
        enum err e = trim_one(t, &due[i], &name, &look, &why);
        if (!e)
            commit_tier_trimmed(c, &name, look);
        else
            (void)note_trouble(t, c, &name, e, &why, x);
        *done += e == ERR_OK;
    }
}
