// Data objects as a whole: checking what was fetched against its name. Of this room only.
#ifndef VARVE_ARCHIVE_DATA_H
#define VARVE_ARCHIVE_DATA_H

#include "archive/name.h"

// How far ahead a walk along records looks, in bytes: another thread has written them, and where a
// record begins is known only from the one before, so without looking ahead each is waited for.
enum { DATA_PREFETCH = 1024 };

// ERR_DAMAGED, which names the object, unless `bytes` are exactly the records that the name says:
// its size, every layout, all offsets from first to last. *min, *max (may be NULL): of their times.
MUST_USE enum err data_check(const char *dir, const struct name *n, struct slice bytes,
                             int64_t *min, int64_t *max, struct errmsg *msg);
// The full name, "keyspace/key/data_...".
void data_full_name(const char *dir, const struct name *n, char full[NAME_FULL_MAX]);

// Of an object that did not fit a buffer of its size and one byte more: ERR_DAMAGED.
enum err data_too_long(const char *dir, const struct name *n, struct errmsg *msg);

#endif
