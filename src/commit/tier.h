// Tiering: logs' records also in objects, and their bytes not here any more. The commit room says
// what is due and remembers what has been moved; who moves it (room tier) stands above.
//
// The index of a log's chunks always stays here, so that every search, page, tail and token is as
// it was. What moves are the chunks' bytes: once records are verified in objects (commit_tier_done,
// a change in the log), a checkpoint takes the bytes of their chunks from the store below as far as
// local retention allows. Reading such a chunk is reading a cold one that takes longer. A chunk
// that lacks records (some were erased) stays here: objects have all of them.
#ifndef VARVE_COMMIT_TIER_H
#define VARVE_COMMIT_TIER_H

#include "base/buf.h"
#include "base/err.h"

struct commit;
struct log_name;

// In commit_options.
struct commit_tier {
    // Appends exactly the records first..last of a log, as op/record.h lays them out. Blocks; on
    // any thread that may. ERR_MISSING, ERR_DAMAGED, ERR_AWAY (for now: the
    // store does not answer), ... with msg.
    enum err (*read)(void *arg, const struct log_name *name, uint64_t first, uint64_t last,
                     struct buf *out, struct errmsg *msg);
    void *arg;
    uint64_t local_bytes; // of each log's newest records stay here too; 0: none need to, as appends
                          // go to a new chunk then
    uint64_t local_age_ms; // so do records younger than this
};

// A log that has something to be moved. The names live as long as the process.
struct tier_due {
    const struct log_name *name; // points into this
    const uint8_t *keyspace, *key;
    size_t keyspace_size, key_size;
    uint64_t tiered; // records before this offset have been
    uint64_t end;    // its end now; not all of it need be durable yet
    uint64_t gone;   // records before this offset are gone, and no recovery asks for them any more
};
// What is due, of a pass over logs.
struct tier_looking {
    uint64_t min_bytes, max_age_ms;
    struct tier_due *moves; // logs with about min_bytes bytes that are not moved yet, or with any
    size_t move_max;        // that have waited for max_age_ms; and, with tiered == end, those of
    size_t move_count;      // which more could go from here. NULL: none are wanted
    struct tier_due *trims; // logs of which objects may hold records that are gone
    size_t trim_max, trim_count;
};
// Fills moves and trims, of the caller's, and their counts; goes round all logs from call to call,
// of one caller. Ends when there is no room for moves. Also finds out what commit_metrics says of
// logs that wait.
void commit_tier_due(struct commit *c, struct tier_looking *k);
// Says that every record before `before` is in objects, read back and compared. Blocks.
// ERR_MISSING, ERR_INVALID (past what is durable), ERR_FULL, ERR_NO_SPACE, ... with msg.
enum err commit_tier_done(struct commit *c, const struct log_name *name, uint64_t before,
                          struct errmsg *msg) __attribute__((warn_unused_result));
// Says that a log's objects have nothing to be deleted before both what is gone and what has been
// moved are past `look`. Not remembered through a restart.
void commit_tier_trimmed(struct commit *c, const struct log_name *name, uint64_t look);
// Something was the matter with this log alone: it rests, as long as it has waited to be moved, a
// second at least and a minute at most.
void commit_tier_rest(struct commit *c, const struct log_name *name);

#endif
