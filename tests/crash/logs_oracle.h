// What crash_commit.c knows of logs: a model of all of them, the history of what changed it, and
// the comparison of a commit room with the model as it was at some sequence.
//
// Built with small chunks (LOGS_CHUNK in meson.build), so that every log has several and records
// that are larger than one are cheap.
#ifndef VARVE_TESTS_LOGS_ORACLE_H
#define VARVE_TESTS_LOGS_ORACLE_H

#include "commit/log_int.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    SPACES = 3, // keyspaces: clients give times, the server gives them, and one with a policy
    LOGS = 5,   // over those keyspaces
    LOG_RECORDS = 160, // of all logs, in a script
    LOG_EVENTS = 100,
    RECORD_MAX = 2600, // bytes; a chunk is 1024
    APPEND_MAX = 6,    // records of one append
};

extern uint64_t failing_seed, states;

#define CHECK(cond, ...)                                                                          \
    do {                                                                                          \
        if (!(cond)) {                                                                            \
            printf("FAIL seed %" PRIu64 " state %" PRIu64 ": %s: ", failing_seed, states, #cond); \
            printf(__VA_ARGS__);                                                                  \
            printf("\n");                                                                         \
            exit(1);                                                                              \
        }                                                                                         \
    } while (0)

struct model_record {
    uint64_t offset;
    int64_t time;
    u128 nonce;
    uint64_t tag; // decides the bytes
    uint64_t seq; // of its append
};

struct model_log {
    bool exists;
    uint64_t first, end;
    u128 next_nonce;
    int64_t last_time;
    uint64_t seq;      // of the last change
    uint64_t cut_seq;  // of the last trim or erase
    uint64_t tiered;   // records before this offset are in the tier
    uint64_t tier_seq; // where it was logged
    size_t n;
    struct model_record v[LOG_RECORDS];
};

struct model_space {
    bool exists;
    uint64_t created_ms;
    struct log_policy policy;
    uint64_t seq;
};

struct logs_model {
    struct model_space spaces[SPACES];
    struct model_log logs[LOGS];
};

enum log_event_kind { EVENT_SPACE, EVENT_APPEND, EVENT_TRIM, EVENT_ERASE, EVENT_TIER };

struct log_event {
    enum log_event_kind kind;
    int which; // keyspace or log
    uint64_t seq;
    uint64_t offset;          // trim: what is kept begins there; erase; tier: before it
    size_t from, count;       // append: of `pool`
    struct model_space space; // keyspace: as it is from now on
};

struct logs_history {
    struct logs_model now;
    struct log_event events[LOG_EVENTS];
    size_t count;
    struct model_record pool[LOG_RECORDS];
    size_t pooled;
    // A continuation token that was given out: it has to be good whatever happens meanwhile.
    char token[LOG_TOKEN];
    int token_log;
    enum log_direction token_direction;
    uint64_t token_next;
    // The tier's objects, which are durable at once: each log's records before this, also those
    // that were cut since.
    uint64_t moved[LOGS];
    uint64_t deleted[LOGS]; // and of those, before this offset, deleted since
};

struct os_sim;
uint64_t next(uint64_t *rng);
int space_of(int log);
struct log_name log_name(int log);
struct slice space_name(int space);

// Adds an event to the history and to `now`.
void logs_remember(struct logs_history *h, const struct log_event *e);
// The model as of a sequence.
void logs_at(const struct logs_history *h, uint64_t seq, struct logs_model *m);

// ---- appends

struct append_plan {
    int log;
    struct log_input in[APPEND_MAX];
    uint64_t tags[APPEND_MAX];
    uint8_t bytes[APPEND_MAX][RECORD_MAX];
    struct log_append a;
};
// Chooses records for a log: some with nonces, some of those duplicates.
void append_choose(const struct logs_history *h, uint64_t *rng, uint64_t *tag, int log,
                   struct append_plan *p);
// Compares what the append answered with the model, which had `now_us` on its clock, and makes the
// event of it. False: nothing was taken, there is no event.
bool append_check(struct logs_history *h, const struct append_plan *p, uint64_t now_us,
                  struct log_event *e);

// ---- reading

// Reads a log, from a random start in pages of random size, against the model. `replied` gets the
// dep of each page, and the highest sequence that the page shows something of. With h, keeps one
// of the tokens. False: a page could not be read, e says why.
typedef void (*replied_fn)(void *arg, uint64_t dep, uint64_t shows);
bool log_compare(struct commit *c, const struct model_log *m, int log, uint64_t *rng,
                 struct logs_history *h, replied_fn replied, void *arg, enum err *e);
// Compares all there is of logs with the model as it was at `seq`.
void logs_compare(struct commit *c, const struct logs_history *h, uint64_t seq, uint64_t *rng);
// Goes on with the logs as a client would after a restart: resends, appends.
void logs_go_on(struct commit *c, const struct logs_history *h, uint64_t seq);

// The tier's hook (commit/tier.h); arg: the history.
enum err logs_tier_read(void *arg, const struct log_name *name, uint64_t first, uint64_t last,
                        struct buf *out, struct errmsg *msg);
// Moves records to the tier, and says so. True: there is an event. *e is what that ended with.
bool logs_move(struct commit *c, struct logs_history *h, uint64_t *rng, int log,
               struct log_event *event, enum err *e);

// Deletes from the tier what it may of records that are gone.
void logs_delete_moved(struct commit *c, struct logs_history *h);

// Runs retention, and makes events of what it took out, in the order of their sequences; returns
// how many. With `sim` it must have taken out all that the policies ask for,
// unless the power failed.
size_t logs_retain(struct commit *c, struct logs_history *h, uint64_t now_us, struct os_sim *sim,
                   struct log_event events[LOGS]);

#endif
