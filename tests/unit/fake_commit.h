// A commit room in a few arrays, to test an edge: takes the real one's place at link time. It
// follows commit.h's contract for keys, versions, conflicts and idempotency keys, without a log or
// a clock (a ttl expires at ttl_ms). One thread.
#ifndef VARVE_TESTS_FAKE_COMMIT_H
#define VARVE_TESTS_FAKE_COMMIT_H

#include "commit/commit.h"

struct commit *fake_commit_new(void);
void fake_commit_free(struct commit *c);
// The key is on disk only: ERR_COLD until commit_fetch.
void fake_commit_cold(struct commit *c, const char *key);
// The next commit_txn or commit_get fails like this, without effect. ERR_FULL: until
// commit_wait_room.
void fake_commit_fail(struct commit *c, enum err e);
// What callbacks of commit_fetch and commit_wait_room report; default ERR_OK.
void fake_commit_fetch_result(struct commit *c, enum err e);
// Callbacks and background work wait until fake_commit_work.
void fake_commit_defer(struct commit *c, bool defer);
void fake_commit_work(struct commit *c);
// NULL: writable.
void fake_commit_readonly(struct commit *c, const char *why);
// Writes without a check, for a test's setup.
void fake_commit_set(struct commit *c, struct slice key, enum value_type type, struct slice value,
                     uint64_t version);
// Each group of an edit counts as a transaction of its own: an edge may join them as it likes.
void fake_commit_apart(struct commit *c);
uint64_t fake_commit_seq(const struct commit *c);

#endif
