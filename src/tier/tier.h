// The tier: a server's logs also as log objects (room archive), moved there in the background, and
// read from there once their bytes are gone from here. What is due, what may go and when is the
// commit room's to say (commit/tier.h).
//
// A log is moved when about min_bytes of it wait, or something has waited for max_age_ms, so many
// small logs cost few requests. What was put is read back and compared, byte by byte, before the
// commit room is told. Records that the log lacks (erased, or trimmed before they were moved) are
// empty records in objects, so that offsets have no holes there.
//
// Objects of which every record is gone here, by retention or trims, are deleted.
//
// Errors of the store of objects stop nothing but the moving: it is tried again after a while, and
// the log says so. When another server has taken over a log (ERR_CONFLICT of the archive) moving
// stops for good, and metrics and the log say so: two servers must not share a prefix.
#ifndef VARVE_TIER_TIER_H
#define VARVE_TIER_TIER_H

#include "archive/archive.h"
#include "commit/commit.h"

struct tier;

struct tier_options {
    struct os *os;
    struct object_options objects;
    struct archive_options archive;
    uint64_t min_bytes;    // of a log that are worth an object
    uint64_t max_age_ms;   // how long less than that waits
    uint64_t interval_ms;  // between two looks
    unsigned read_threads; // that read cold data
    uint64_t local_bytes;  // see commit/tier.h
    uint64_t local_age_ms;
};

// Opens the store of objects; asks it what it guarantees, and refuses one that does not keep
// put-if-absent (ERR_UNSUPPORTED). One that does not answer is asked again before anything is
// moved. msg says what is wrong.
MUST_USE enum err tier_new(struct tier **t, const struct tier_options *o, struct errmsg *msg);
// For commit_open's options.
struct commit_tier tier_hook(struct tier *t);
// Begins to move; `c` was opened with this tier's hook.
MUST_USE enum err tier_start(struct tier *t, struct commit *c);
// Stops moving, waiting for what is under way; reading goes on until tier_free.
void tier_stop(struct tier *t);
void tier_free(struct tier *t);
// Moves all that is due now, on the caller's thread (tests, instead of tier_start). *moved: logs of
// which something was, or that turned out to need nothing.
MUST_USE enum err tier_run(struct tier *t, struct commit *c, size_t *moved, struct errmsg *msg);
// Prometheus text.
MUST_USE enum err tier_metrics(struct tier *t, struct buf *out);

#endif
