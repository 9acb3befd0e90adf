// The relations of the fake commit room: sorted arrays in memory that follow commit/rel.h, to test
// an edge. The reverse is looked for, not kept. One thread.
#ifndef VARVE_TESTS_FAKE_REL_H
#define VARVE_TESTS_FAKE_REL_H

#include "commit/commit.h"
#include "commit/rel.h"

struct fake_rels;

struct fake_rels *fake_rels_new(void);
void fake_rels_free(struct fake_rels *r);
// For commit_txn: whether an edit would do (ERR_COLD, ERR_INVALID, ERR_TOO_BIG); then does it. The
// clock of `created` counts relations, from 1.
MUST_USE enum err fake_rels_check(struct fake_rels *r, const struct rel_edit *e,
                                  struct errmsg *msg);
void fake_rels_apply(struct fake_rels *r, struct rel_edit *e, bool add);
bool fake_rels_relaxed(struct fake_rels *r, struct slice relation);

// The list is on disk only: ERR_COLD until it is fetched. Reverse lists of a relation are cold all
// together.
void fake_rel_cold(struct commit *c, const char *relation, uint64_t from, bool reverse);
void fake_rels_warm(struct fake_rels *r);
// commit_rel_combine stops after it has looked at so many members; 0: never.
void fake_rel_work(struct commit *c, size_t members);

// fake_commit.c, for fake_rel.c
struct fake_rels *fake_commit_rels(struct commit *c);
void fake_commit_later(struct commit *c, void (*done)(void *arg, enum err e), void *arg);

#endif
