// Verifying logs: every data object there is in a store, against its name and its checksum, and
// each log's path (archive/tiles.h) for gaps. Reads only, and may run beside writers: what a
// compaction takes away meanwhile is listed again.
//
// Found: objects that are cut, altered, or not named as what they hold; objects missing between
// others, or before the first (which names the one before it), or as far as the watermark tells at
// the end. Not found: newest objects that are gone whole; an altered byte of a record's data in an
// object that has no checksum.
#ifndef VARVE_ARCHIVE_CHECK_H
#define VARVE_ARCHIVE_CHECK_H

#include "object/object.h"

// X(name): counted
#define ARCHIVE_CHECKED(X)                                     \
    X(logs)                                                    \
    X(objects)     /* of data, whole or not */                 \
    X(records)     /* in those that are whole */               \
    X(bytes)       /* of those */                              \
    X(without_sum) /* objects that no checksum is kept with */ \
    X(fences)      /* objects of 0 bytes, archive/session.c */ \
    X(defects)     /* told */

struct archive_check {
    unsigned ahead;       // objects fetched at once; 0: 16
    uint64_t ahead_bytes; // of them, or one object; 0: 64 MiB
    bool require_sums;    // an object without a checksum is a defect
    // Told of each defect, a sentence that names the object or log. Required.
    void (*defect)(void *arg, const char *what);
    // Called after each object; may be NULL.
    void (*progress)(void *arg);
    void *arg;
    // Results; they rise while it runs.
#define X(name) uint64_t name;
    ARCHIVE_CHECKED(X)
#undef X
};

// All logs of the store below its prefix, which may also be within one log's directory. ERR_OK
// when all was looked at, defects or not; another error when that could not be. Memory: the names
// of one log's objects, and what is fetched.
MUST_USE enum err archive_check(struct object_store *store, struct archive_check *c,
                                struct errmsg *msg);

#endif
