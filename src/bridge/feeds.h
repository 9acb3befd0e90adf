// Which partition feeds which log: so that two partitions whose offsets are the nonces of one log
// are noticed (the lower offsets would be taken for duplicates and dropped), and so that the logs
// of a partition that goes to another bridge can be let go.
//
// Bounded: past `max` logs new ones are not remembered and `full` is set.
#ifndef VARVE_BRIDGE_FEEDS_H
#define VARVE_BRIDGE_FEEDS_H

#include "archive/archive.h"

struct feed {
    uint64_t hash;
    struct archive_log log; // its names stand behind this struct
    int32_t partition;      // that fed it last
    bool several;           // others have fed it too
    bool held;              // it was written to since it was let go last
};

struct feeds {
    struct feed **table; // open addressing, a power of two of slots
    size_t slots, count, max;
    uint64_t seed;
    bool full;
};

void feeds_init(struct feeds *f, size_t max, uint64_t seed);
void feeds_release(struct feeds *f);
// NULL if it is not known.
struct feed *feeds_find(const struct feeds *f, const struct archive_log *log);
// A log that is not known yet. *out is NULL if there is no room; ERR_NO_MEMORY.
MUST_USE enum err feeds_add(struct feeds *f, const struct archive_log *log, int32_t partition,
                            struct feed **out);

#endif
