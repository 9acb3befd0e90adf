// What crash_commit.c knows of relations: a model of who is in which list, the history of what
// changed it, and the comparison of a commit room with the model as it was at some sequence.
//
// Built with small blocks and leaves (IDS_BLOCK and RELS_LEAF in meson.build), so that lists of a
// hundred members have many chunks, and several leaves of them.
#ifndef VARVE_TESTS_RELS_ORACLE_H
#define VARVE_TESTS_RELS_ORACLE_H

#include "logs_oracle.h"

#include "commit/rel_int.h"

enum {
    RELS = 5,         // plain, reverse, recent, both, and one whose answers wait for nothing
    FROMS = 3,        // lists of each
    MEMBERS = 128,    // that there are
    EDITS_MAX = 2,    // of one transaction
    GROUPS_MAX = 3,   // of one edit
    REL_EVENTS = 400, // in a script
    REL_POOL = 16000, // members of all of them
};

struct model_list {
    uint16_t stamp[MEMBERS]; // 0: not there; else its place in the order of arrival
    uint16_t seqs[MEMBERS];  // each one's last change
    uint64_t seq;            // of the last change
};

struct rels_model {
    bool exists[RELS];
    struct model_list lists[RELS][FROMS];
    uint16_t stamps;
    uint64_t highest[RELS]; // stamp that the server gave
};

struct rel_event {
    uint64_t seq;
    uint8_t rel;
    bool makes; // the relation; else it changes a list of it
    bool adds;
    uint8_t from;
    uint16_t at, count; // of `pool`: what changed, in the order in which it was given
    uint64_t highest;   // adds to a relation with an order: the highest stamp that this gave
};

struct rels_history {
    struct rels_model now;
    struct rel_event events[REL_EVENTS];
    size_t count;
    uint8_t pool[REL_POOL];
    size_t pooled;
};

// Edits of one transaction, and what the model says that they do.
struct rel_plan {
    size_t count;
    uint8_t rels[EDITS_MAX];
    bool adds[EDITS_MAX];
    uint8_t froms[EDITS_MAX][GROUPS_MAX];
    uint8_t given[EDITS_MAX][GROUPS_MAX][MEMBERS];
    uint64_t members[EDITS_MAX][GROUPS_MAX][MEMBERS];
    struct rel_group groups[EDITS_MAX][GROUPS_MAX];
    struct rel_edit edits[EDITS_MAX];
};

// Chooses edits of relations of which all that need to be declared exist, or will be made.
void rels_choose(const struct rels_history *h, uint64_t *rng, struct rel_plan *p);
// The first relation that a script has to declare before rels_choose uses it, or -1.
int rels_undeclared(const struct rels_history *h, uint64_t *rng);
struct slice rel_name(int rel);
const struct relation_options *rel_options(int rel);
// A relation was made at this sequence.
void rels_made(struct rels_history *h, int rel, uint64_t seq);
// True if its first addition made a relation that the model does not have yet. *rel: which.
bool rels_made_itself(struct commit *c, const struct rels_history *h, int *rel);
// Compares what the transaction answered with the model. True: it changed something, and *binds:
// its answer waits for the disk.
bool rels_check(const struct rels_history *h, const struct rel_plan *p, bool *binds);
// The highest sequence that an answer to it shows something of, before it was remembered.
uint64_t rels_shown(const struct rels_history *h, const struct rel_plan *p);
// It took effect at this sequence.
void rels_remember(struct commit *c, struct rels_history *h, const struct rel_plan *p,
                   uint64_t seq);
// Reads one list against the model in one of the ways there are. *dep and *shows as for a reply.
// Not ERR_OK: it could not be read.
enum err rels_read(struct commit *c, const struct rels_model *m, uint64_t *rng, uint64_t *dep,
                   uint64_t *shows);
// Everything that can be read from below again has to be.
void rels_evict_all(struct commit *c);
// Compares all there is of relations with the model as it was at `seq`.
void rels_compare(struct commit *c, const struct rels_history *h, uint64_t seq, uint64_t *rng);
// Goes on as a client would after a restart: adds, and looks where it arrived.
void rels_go_on(struct commit *c, const struct rels_history *h, uint64_t seq, uint64_t *rng);

#endif
