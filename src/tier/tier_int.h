// What the files of this room share.
#ifndef VARVE_TIER_TIER_INT_H
#define VARVE_TIER_TIER_INT_H

#include "archive/reader.h"
#include "archive/writer.h"
#include "commit/log.h"
#include "tier/tier.h"
#include <pthread.h>
#include <stdatomic.h>

enum {
    TIER_ROUND = 32, // logs moved together
    READERS = 4,     // as many threads read from objects at once
    MOVER = READERS, // the mover's own reader, to compare
    PAGE_RECORDS = 100000,
    OWN_MAX = 3, // logs that fail while they are begun: a round begins no more then
};

// A reader, and for which log it has objects.
struct slot {
    struct archive_reader *reader;
    bool busy;
    uint64_t since_ns; // then since when
    uint64_t log;      // a hash of its name
    uint64_t used;     // when last, in reads
};

// read.c: at its top is what it decides.
struct reading {
    pthread_mutex_t lock; // this struct, but for the readers of busy slots
    pthread_cond_t free;
    struct slot slots[READERS + 1];
    unsigned most;    // slots that may be busy at once
    uint64_t count;   // reads
    bool away;        // the last read failed for the store
    bool trying;      // one goes to see whether it still is
    uint64_t wait_ms; // between two of those
    uint64_t next_ns; // the next
    _Atomic uint64_t refused;
};

struct tier {
    struct tier_options o;
    struct object_store *store;
    // The mover's only, after tier_new.
    bool probed;                   // what the store keeps is known, and enough
    struct archive_writer *writer; // NULL: to be opened
    const uint8_t **keyspaces;     // names, which stay where they are, of those that have their
    size_t keyspace_count;         // object; rising addresses
    struct reading reading;
    struct commit *commit;
    pthread_t mover;
    bool started;
    pthread_mutex_t lock; // stopping
    pthread_cond_t wake;
    bool stopping;
    _Atomic bool fenced;
    _Atomic uint64_t rounds, moved_records, moved_bytes, compared_records, failures, deleted;
};

// ---- read.c
MUST_USE enum err reading_init(struct reading *r);
MUST_USE enum err reading_open(struct reading *r, struct tier *t, struct errmsg *msg);
void reading_free(struct reading *r);
enum err tier_read(void *arg, const struct log_name *name, uint64_t first, uint64_t last,
                   struct buf *out, struct errmsg *msg);
// Gives the records first..last of a log, as objects have them, to `take`. ERR_MISSING and
// ERR_DAMAGED if one is not there, and what `take` says. The mover calls it with its own reader.
typedef enum err take_record(void *arg, const struct record *r, struct errmsg *msg);
MUST_USE enum err read_range(struct archive_reader *reader, const struct log_name *name,
                             uint64_t first, uint64_t last, take_record *take, void *arg,
                             struct errmsg *msg);

// ---- move.c
// What is the matter with a round. A log's own failures let it rest and the others go on.
struct trouble {
    enum err e; // ends the round: ERR_CONFLICT, or the store is away
    struct errmsg msg;
    unsigned own;  // failures of logs
    bool answered; // the store was asked, and is there
};
// Whether the store is there: it says that it has no object of some name, or refuses to say.
bool store_answers(struct tier *t);
// Takes a log's failure: counts and logs it. Returns true if the round must end.
bool note_trouble(struct tier *t, struct commit *c, const struct log_name *name, enum err e,
                  const struct errmsg *why, struct trouble *x);
// Moves some of what is due; *moved counts logs.
void move_round(struct tier *t, struct commit *c, const struct tier_due *due, size_t n,
                size_t *moved, struct trouble *x);

// ---- trim.c
// Deletes objects of which records are gone; *done counts logs of which it did, or that need no
// more looks.
void trim_round(struct tier *t, struct commit *c, const struct tier_due *due, size_t n,
                size_t *done, struct trouble *x);

#endif
