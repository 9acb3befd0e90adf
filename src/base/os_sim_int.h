// What only the files of the simulated machine know: what its disk is made of, and its state.
#ifndef VARVE_BASE_OS_SIM_INT_H
#define VARVE_BASE_OS_SIM_INT_H

#include "base/os_sim.h"
#include "base/slice.h"
#include <pthread.h>

// ---- os_sim_data.c: file contents and directories, shared until changed (copy on write), so that
// copying a machine costs a few counters.
//
// Each is a counted block behind a pointer; NULL is a content of zeros or a directory without
// names. A change through `struct sim_x **` first copies what others share. Counters are atomic, so
// machines that share blocks may live on different threads; one machine's own calls are under its
// mutex.

#define SIM_SECTOR 512u

// Never NULL: a test without memory ends.
void *sim_alloc(size_t n);
void *sim_realloc(void *p, size_t n);

// A counted run of bytes that never changes.
struct sim_blob;
struct sim_blob *sim_blob_new(size_t n);
uint8_t *sim_blob_data(struct sim_blob *b); // to be filled before it is shared
size_t sim_blob_size(const struct sim_blob *b);
struct slice sim_blob_slice(const struct sim_blob *b);
struct sim_blob *sim_blob_ref(struct sim_blob *b); // b may be NULL
void sim_blob_unref(struct sim_blob *b);

// A file's content: bytes in pages, without a size; what was never written reads as zeros.
struct sim_bytes;
struct sim_bytes *sim_bytes_ref(struct sim_bytes *b);
void sim_bytes_unref(struct sim_bytes *b);
void sim_bytes_read(const struct sim_bytes *b, void *to, size_t n, uint64_t off);
void sim_bytes_write(struct sim_bytes **b, const void *from, size_t n, uint64_t off);
// Makes everything from `off` on zeros.
void sim_bytes_cut(struct sim_bytes **b, uint64_t off);

// A directory: names (blobs) of inodes, numbers from 1. No inode has two names.
struct sim_names;
struct sim_names *sim_names_ref(struct sim_names *d);
void sim_names_unref(struct sim_names *d);
// 0 if there is no such name.
uint32_t sim_names_find(const struct sim_names *d, struct slice name);
size_t sim_names_count(const struct sim_names *d);
// The i-th of sim_names_count(), in no order.
struct sim_blob *sim_names_at(const struct sim_names *d, size_t i, uint32_t *inode);
// Takes away the inode's name if it has one.
void sim_names_remove(struct sim_names **d, uint32_t inode);
// Makes `name` (a reference of its own is taken) the only name of the inode, and the inode's only.
void sim_names_set(struct sim_names **d, struct sim_blob *name, uint32_t inode);

// ---- os_sim.c: the machine.

#define SIM_MAX_FAULTS 16

enum { SIM_ROOT = 1 }; // the root directory's inode; 0 is none

enum sim_inode_kind { SIM_NO_INODE, SIM_FILE_INODE, SIM_DIR_INODE };

struct sim_inode {
    enum sim_inode_kind kind;
    bool named;     // has a name now
    bool locked;    // os_lock holds it
    bool marked;    // by sim_sweep()
    uint32_t opens; // descriptors
    uint32_t ops;   // operations in the list
    struct sim_bytes *bytes, *durable_bytes;
    struct sim_names *names, *durable_names;
    struct sim_blob *attribute, *durable_attribute; // name, NUL, value; NULL: none
    uint64_t size, durable_size;
    uint64_t charged; // bytes of disk space taken
};

enum sim_op_kind { SIM_OP_SIZE, SIM_OP_WRITE, SIM_OP_LINK, SIM_OP_UNLINK, SIM_OP_ATTRIBUTE };
enum sim_op_state { SIM_OP_PENDING, SIM_OP_LOST, SIM_OP_SYNCED };

struct sim_op {
    enum sim_op_kind kind;
    enum sim_op_state state;
    uint32_t inode;        // the file or directory that changes
    uint32_t target;       // LINK, UNLINK: the inode that is named
    uint64_t at;           // SIZE: the new size; WRITE: the first sector
    struct sim_blob *blob; // WRITE: the images; LINK: the name; ATTRIBUTE: it
};

struct sim_handle {
    uint32_t inode; // 0: closed
    uint32_t uses;  // makes numbers differ, so that one used after its close is found
    bool writable;
    bool holds_lock;
};

struct sim_fault {
    enum sim_call call;
    enum err err;
    uint64_t left; // matching calls up to and with the first that fails; 0: free
    bool sticky;
};

struct os_sim {
    struct os os;
    pthread_mutex_t mutex;    // over everything below
    struct sim_inode *inodes; // [0] is not used
    uint32_t inode_count;
    struct sim_op *ops;
    size_t op_count, op_cap;
    struct sim_handle *handles;
    uint32_t handle_count;
    struct sim_fault faults[SIM_MAX_FAULTS];
    uint64_t steps;
    uint64_t power_left; // steps until the power goes; UINT64_MAX: never
    uint64_t capacity;
    uint64_t random;
    uint64_t wall_us, mono_us;
};

// The mutex.
void sim_hold(const struct os_sim *s);
void sim_let_go(const struct os_sim *s);
uint64_t sim_next_random(uint64_t *state);
// Of those below, each changes the current state and notes the operation. They do not fail.
uint32_t sim_new_inode(struct os_sim *s, enum sim_inode_kind kind);
void sim_set_size(struct os_sim *s, uint32_t n, uint64_t size);
void sim_write_bytes(struct os_sim *s, uint32_t n, const void *p, size_t len, uint64_t off);
// Replaces what had the name, and the target's old name.
void sim_link_inode(struct os_sim *s, uint32_t dir, struct slice name, uint32_t target);
void sim_unlink_inode(struct os_sim *s, uint32_t dir, uint32_t target);
void sim_set_attribute_of(struct os_sim *s, uint32_t n, struct slice name, struct slice value);
// What a sync of the file (with its attribute, or not) or directory does, for better (`good`) or
// worse.
void sim_sync_inode(struct os_sim *s, uint32_t n, bool attribute, bool good);
// Frees the inodes that nothing leads to any more.
void sim_sweep(struct os_sim *s);

// ---- os_sim_calls.c

extern const struct os_ops sim_calls;

#endif
