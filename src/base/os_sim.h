// The simulated machine behind base/os.h, for tests only. One process, deterministic, in memory.
//
// Disk model. A file is a size and bytes, and one attribute at most; a directory maps names to
// files. Each has a durable state and a log of operations since. `sync` makes a file's content and
// size durable, `sync_all` its attribute too, `sync_dir` a directory's entries. At a crash:
//   - what was synced is there;
//   - of the operations not synced, any subset survives, at the grain of 512-byte sectors for
//     writes (each sector old or new on its own), whole for size changes, attributes, creations,
//     renames, unlinks; a sector written more than once may be at any of its versions;
//   - a file may have grown without its data (the new bytes read as zeros).
// What survives is chosen by a seeded random source, or by named policies (all, none, each single
// operation alone) so that short histories can be enumerated.
//
// A file's name is its directory's: a file that was synced is gone after a crash if the directory
// was not. A rename stays within a directory (else ERR_UNSUPPORTED). No links, no "..", no removal
// of directories; a path is from the root "/", with or without the slash. Time stands still until
// it is moved by sleeping or by hand. A wrong descriptor ends the process: it is a bug in the
// caller.
#ifndef VARVE_BASE_OS_SIM_H
#define VARVE_BASE_OS_SIM_H

#include "base/os.h"

struct os_sim;

enum sim_survival {
    SIM_NONE,   // only what was synced
    SIM_ALL,    // everything issued so far
    SIM_RANDOM, // each sector and each metadata operation by a coin: half the seeds take a fair one
    SIM_PREFIX, // the first n unsynced operations, nothing after (detail = n, up to sim_pending)
    SIM_SINGLE, // only the nth unsynced operation (detail = n, from 1)
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
    SIM_ATTRIBUTE, // set or get
    SIM_ANY, // all of them, and os_size, os_stat, os_list, os_disk_free; os_lock is a SIM_OPEN,
             // os_rename_new a SIM_RENAME, os_sync_all a SIM_SYNC
};

struct os_sim *sim_new(uint64_t seed);
void sim_free(struct os_sim *s);
struct os *sim_os(struct os_sim *s);

// A copy of the machine as it stands, history of unsynced operations and planted faults included,
// but with no process on it: no file is open, no lock is held. So also what kill -9 leaves.
struct os_sim *sim_clone(const struct os_sim *s);
// The machine as it would be found after losing power now: a new simulated machine whose state is
// all durable. `detail` is read as the policy says; `seed` drives SIM_RANDOM.
struct os_sim *sim_crash(const struct os_sim *s, enum sim_survival how, uint64_t detail,
                         uint64_t seed);
// Number of unsynced operations (writes, size changes, directory changes) right now. A write that
// makes its file longer is two: the size, then the data.
uint64_t sim_pending(const struct os_sim *s);
// Number of state-changing calls so far (writes, syncs, renames, ...): the crash points passed. A
// call that fails without changing anything does not count.
uint64_t sim_steps(const struct os_sim *s);
// After this many more state-changing calls the power is off: every later call returns ERR_IO and
// changes nothing, so that a run can be cut at exactly one point. UINT64_MAX: never.
void sim_power_off_after(struct os_sim *s, uint64_t steps);
bool sim_power_is_off(const struct os_sim *s);
// The nth call of this kind from now (1 = next) fails with `e`; for ever after if `sticky`. At most
// 16 at a time. A failing pwrite writes a random part of its bytes first; a failing sync or
// sync_dir leaves everything unsynced and marks it clean, as Linux does (a later sync that succeeds
// does not cover it).
void sim_fail(struct os_sim *s, enum sim_call call, uint64_t nth, enum err e, bool sticky);
// Bytes the disk can hold in all; past it ERR_NO_SPACE, and a write has written what fitted.
// UINT64_MAX by default. Holes below a file's last written or allocated byte take space too.
void sim_set_capacity(struct os_sim *s, uint64_t bytes);
void sim_set_wall_ms(struct os_sim *s, uint64_t ms);
void sim_advance_ms(struct os_sim *s, uint64_t ms);
// Flips one bit of a file's durable and current content. ERR_MISSING if not there.
MUST_USE
enum err sim_flip_bit(struct os_sim *s, const char *path, uint64_t bit);

#endif
