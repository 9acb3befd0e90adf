// Checksums of whole data objects: CRC-32C of their bytes, kept with them (object/object.h), since
// their layout has none. Of this room only.
#ifndef VARVE_ARCHIVE_SUM_H
#define VARVE_ARCHIVE_SUM_H

#include "object/object.h"

// Of the concatenation of the parts.
struct object_sum sum_of(const struct slice *parts, size_t count);
// Before anything of a data object is used: ERR_DAMAGED, which names it and both sums, unless
// `bytes`, which `get` brought, are those that its writer put. One without a sum is taken as it is.
MUST_USE enum err sum_check(const struct object_call *get, struct slice bytes, struct errmsg *msg);
// object_get of a data object, with sum_check.
MUST_USE enum err sum_get(struct object_store *store, const char *name, struct buf *out,
                          struct errmsg *msg);

#endif
