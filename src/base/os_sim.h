// The simulated machine behind base/os.h, for tests only. One process, deterministic, in memory.
//
// Disk model. A file is a size and bytes; a directory maps names to files. Each has a durable state
// and a log of operations since. `sync` makes a file's content and size durable, `sync_dir` a
// directory's entries. At a crash:
//   - what was synced is there;
//   - of the operations not synced, any subset survives, at the grain of 512-byte sectors for
//     writes (each sector old or new on its own), whole for size changes, creations, renames, unlinks;
//   - a file may have grown without its data (the new bytes read as zeros).
// What survives is chosen by a seeded random source, or by named policies (all, none, each single
// operation alone) so that short histories can be enumerated.
#ifndef VARVE_BASE_OS_SIM_H
#define VARVE_BASE_OS_SIM_H

#include "base/os.h"

struct os_sim;

enum sim_survival {
    SIM_NONE,   // only what was synced
    SIM_ALL,    // everything issued so far
    SIM_RANDOM, // each sector and each metadata operation by a fair coin
    SIM_PREFIX, // all up to the nth unsynced operation, nothing after (detail = n)
    SIM_SINGLE, // only the nth unsynced operation (detail = n)
};

// Calls that a fault can be planted on.
enum sim_call {
    SIM_OPEN,
    SIM_PREAD,
    SIM_PWRITE,
    SIM_SYNC,
    SIM_ALLOCATE,
    SIM_TRUNCATE,
    SIM_RENAME,
    SIM_UNLINK,
    SIM_MKDIR,
    SIM_SYNC_DIR,
    SIM_ANY,
};

struct os_sim *sim_new(uint64_t seed);
void sim_free(struct os_sim *s);
struct os *sim_os(struct os_sim *s);

// A copy of the machine as it stands, history of unsynced operations included.
struct os_sim *sim_clone(const struct os_sim *s);
// The machine as it would be found after losing power now: a new simulated machine whose state is
// all durable. `detail` is read as the policy says; `seed` drives SIM_RANDOM.
struct os_sim *sim_crash(const struct os_sim *s, enum sim_survival how, uint64_t detail,
                         uint64_t seed);
// Number of unsynced operations (writes, size changes, directory changes) right now.
uint64_t sim_pending(const struct os_sim *s);
// Number of state-changing calls so far (writes, syncs, renames, ...): the crash points passed.
uint64_t sim_steps(const struct os_sim *s);
// After this many more state-changing calls the power is off: every later call returns ERR_IO and
// changes nothing, so that a run can be cut at exactly one point. UINT64_MAX: never.
void sim_power_off_after(struct os_sim *s, uint64_t steps);
bool sim_power_is_off(const struct os_sim *s);
// The nth call of this kind from now (1 = next) fails with `e`; for ever after if `sticky`.
// A failing pwrite writes a random part of its bytes first; a failing sync leaves everything unsynced
// and marks it clean, as Linux does (a later sync that succeeds does not cover it).
void sim_fail(struct os_sim *s, enum sim_call call, uint64_t nth, enum err e, bool sticky);
// Bytes the disk can hold in all; past it ERR_NO_SPACE. UINT64_MAX by default.
void sim_set_capacity(struct os_sim *s, uint64_t bytes);
void sim_set_wall_ms(struct os_sim *s, uint64_t ms);
void sim_advance_ms(struct os_sim *s, uint64_t ms);
// Flips one bit of a file's durable and current content. ERR_MISSING if not there.
MUST_USE enum err sim_flip_bit(struct os_sim *s, const char *path, uint64_t bit);

#endif
