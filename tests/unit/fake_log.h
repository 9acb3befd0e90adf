// The logs of the fake commit room: arrays in memory that follow commit/log.h, without retention,
// to test an edge. One thread.
#ifndef VARVE_TESTS_FAKE_LOG_H
#define VARVE_TESTS_FAKE_LOG_H

#include "commit/log.h"

struct fake_logs;

struct fake_logs *fake_logs_new(void);
void fake_logs_free(struct fake_logs *l);
// For commit_txn: whether an append would do; then does it. The clock stands at 1000 and rises by 1
// with each record that needs it.
MUST_USE enum err fake_logs_check(struct fake_logs *l, const struct log_append *a,
                                  struct errmsg *msg);
void fake_logs_append(struct fake_logs *l, struct log_append *a);
// What a replay says.
void fake_logs_replay(struct fake_logs *l, struct log_append *a, uint64_t first, uint64_t end,
                      uint64_t appended);

// The log is on disk only: ERR_COLD until it is read with may_block or fetched.
void fake_log_cold(struct commit *c, const char *keyspace, const char *key);
void fake_logs_warm(struct fake_logs *l);
bool fake_logs_is_cold(struct fake_logs *l, const struct log_append *a);
size_t fake_log_watches(struct commit *c);

// fake_commit.c, for fake_log.c
struct fake_logs *fake_commit_logs(struct commit *c);
uint64_t fake_commit_bump(struct commit *c); // a new sequence
enum err fake_commit_forced(struct commit *c);

#endif
