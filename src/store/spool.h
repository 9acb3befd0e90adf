// DIR/ingest-tmp: table files that are written but not yet RocksDB's. Named SPACE-INDEX.sst,
// indices from 0 in each space, in key order. Plain file work on the os seam; knows nothing of
// RocksDB but its names for tables, DIR/NUMBER.sst.
//
// A commit normally empties it. What is found here at open is left from a crash and deleted, except
// after one kind of failure, for which spool_left and spool_move exist: see README.md, "A failed
// sync of the MANIFEST".
#ifndef VARVE_STORE_SPOOL_H
#define VARVE_STORE_SPOOL_H

#include "base/err.h"
#include "base/os.h"

struct spool {
    struct os *os;
    const char *dir; // DIR, the caller's
    char *path;      // DIR/ingest-tmp
};

// Files [first, first + count) of the lowest space that has any.
struct spool_group {
    unsigned space;
    uint64_t first;
    uint64_t count;
};

MUST_USE enum err spool_init(struct spool *sp, struct os *os, const char *dir);
void spool_release(struct spool *sp);
// The path of a file, to be freed by the caller; NULL when memory is out.
char *spool_file(const struct spool *sp, unsigned space, uint64_t index);
// Makes the directory if needed and deletes all in it.
MUST_USE enum err spool_clean(struct spool *sp, struct errmsg *msg);
// False if there is no file or a gap in the indices.
bool spool_left(struct spool *sp, struct spool_group *g);
// Renames each file INDEX of the group to DIR/(base + INDEX).sst, or back, and makes that durable.
// Never replaces a file: ERR_EXISTS, and nothing is changed then.
MUST_USE enum err spool_move(struct spool *sp, const struct spool_group *g, uint64_t base);
MUST_USE enum err spool_move_back(struct spool *sp, const struct spool_group *g, uint64_t base);

#endif
