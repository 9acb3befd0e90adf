// The seam between varve and the machine: files, time and randomness. Everything that touches a
// disk or a clock takes a `struct os *`, so that tests can put a simulated machine in its place
// (base/os_sim.h): a disk that loses, tears and reorders what was not synced, a clock that is set
// by hand, a random source with a seed, and an nth call that fails. Sockets are in base/os_net.h.
//
// Errors: ERR_IO for anything not named below; ERR_NO_SPACE for ENOSPC and EDQUOT; ERR_MISSING for
// ENOENT; ERR_EXISTS for EEXIST; ERR_IN_USE for a lock held elsewhere. os_last_errno() tells more.
// All calls are thread-safe. Interrupted and short calls are carried on with inside.
#ifndef VARVE_BASE_OS_H
#define VARVE_BASE_OS_H

#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    OS_READ = 0,
    OS_WRITE = 1,     // read and write
    OS_CREATE = 2,    // create if missing
    OS_EXCLUSIVE = 4, // with OS_CREATE: ERR_EXISTS if there
    OS_TRUNCATE = 8,
};

struct os_stat {
    bool is_dir;
    uint64_t size; // bytes of a file
};

struct os_usage {
    uint64_t cpu_us;    // user + system time of this process
    uint64_t rss_bytes; // resident set
    uint64_t open_fds;
};

typedef void (*os_list_fn)(void *arg, const char *name);

struct os;

struct os_ops {
    enum err (*open)(struct os *os, const char *path, unsigned flags, int *fd);
    enum err (*close)(struct os *os, int fd);
    // Reads up to n bytes at off; *got < n only at the end of the file.
    enum err (*pread)(struct os *os, int fd, void *p, size_t n, uint64_t off, size_t *got);
    // Writes all n bytes at off or fails; after a failure any part may have been written.
    enum err (*pwrite)(struct os *os, int fd, const void *p, size_t n, uint64_t off);
    // fdatasync: contents and size are durable when it returns ERR_OK.
    enum err (*sync)(struct os *os, int fd);
    // fsync: the file's attributes too.
    enum err (*sync_all)(struct os *os, int fd);
    // An attribute of the file, a few bytes under a name that begins with "user.". ERR_UNSUPPORTED
    // where the file system has none.
    enum err (*set_attribute)(struct os *os, int fd, const char *name, const void *p, size_t n);
    // Its *n bytes. ERR_MISSING if it has none of that name, ERR_TOO_BIG if it has more than `cap`.
    enum err (*get_attribute)(struct os *os, int fd, const char *name, void *p, size_t cap,
                              size_t *n);
    // Reserves disk space for [0, size) and sets the size to at least that; new bytes read as 0.
    enum err (*allocate)(struct os *os, int fd, uint64_t size);
    enum err (*truncate)(struct os *os, int fd, uint64_t size);
    enum err (*size)(struct os *os, int fd, uint64_t *size);
    enum err (*rename)(struct os *os, const char *from, const char *to);
    // The same, but ERR_EXISTS if there is a `to`: of several at once exactly one succeeds.
    enum err (*rename_new)(struct os *os, const char *from, const char *to);
    enum err (*unlink)(struct os *os, const char *path);
    // Creates a directory; ERR_EXISTS if there.
    enum err (*mkdir)(struct os *os, const char *path);
    // Makes creations, renames and unlinks in this directory durable.
    enum err (*sync_dir)(struct os *os, const char *path);
    enum err (*stat)(struct os *os, const char *path, struct os_stat *st);
    // Calls fn for each entry except . and .., in no order.
    enum err (*list)(struct os *os, const char *path, os_list_fn fn, void *arg);
    // Creates the file if missing and takes an exclusive lock that ends with the process or
    // os_close.
    enum err (*lock)(struct os *os, const char *path, int *fd);
    // Free bytes on the file system that holds `path`.
    enum err (*disk_free)(struct os *os, const char *path, uint64_t *bytes);
    uint64_t (*wall_us)(struct os *os); // microseconds since 1970
    uint64_t (*mono_ns)(struct os *os); // monotonic nanoseconds
    void (*random)(struct os *os, void *p, size_t n);
    void (*sleep_us)(struct os *os, uint64_t us);
};

struct os {
    const struct os_ops *ops;
};

// The real machine. One constant instance; never freed.
struct os *os_real(void);
// errno of the last failed call on this thread (0 in the simulation).
int os_last_errno(void);
// "No space left on device" and the like, for os_last_errno().
const char *os_last_error(void);
// What this process uses now; zeros where the machine does not tell.
void os_usage(struct os_usage *u);
// Number of CPUs this process may run on, at least 1.
unsigned os_cpus(void);
// Bytes of memory this process may use: the machine's, or its control group's limit if that is
// less.
uint64_t os_memory(void);
// The value of an environment variable or NULL.
const char *os_env(const char *name);
// Names the calling thread for top, perf and debuggers; at most 15 bytes of the name are kept.
void os_thread_name(const char *name);
// The calling thread yields to others when the CPUs are busy.
void os_thread_yields(void);
// True if the descriptor (0, 1, 2) is a terminal: whether a person sees what is written there.
bool os_is_terminal(int fd);
// Reads what standard input has, waiting if that is nothing yet. *got == 0 with ERR_OK: its end.
MUST_USE enum err os_input_read(void *p, size_t n, size_t *got);
// True if os_input_read would not wait.
bool os_input_ready(void);

MUST_USE static inline enum err os_open(struct os *os, const char *path, unsigned flags, int *fd)
{
    return os->ops->open(os, path, flags, fd);
}
MUST_USE static inline enum err os_close(struct os *os, int fd)
{
    return os->ops->close(os, fd);
}
MUST_USE static inline enum err os_pread(struct os *os, int fd, void *p, size_t n, uint64_t off,
                                         size_t *got)
{
    return os->ops->pread(os, fd, p, n, off, got);
}
MUST_USE static inline enum err os_pwrite(struct os *os, int fd, const void *p, size_t n,
                                          uint64_t off)
{
    return os->ops->pwrite(os, fd, p, n, off);
}
MUST_USE static inline enum err os_sync(struct os *os, int fd)
{
    return os->ops->sync(os, fd);
}
MUST_USE static inline enum err os_sync_all(struct os *os, int fd)
{
    return os->ops->sync_all(os, fd);
}
MUST_USE static inline enum err os_set_attribute(struct os *os, int fd, const char *name,
                                                 const void *p, size_t n)
{
    return os->ops->set_attribute(os, fd, name, p, n);
}
MUST_USE static inline enum err os_get_attribute(struct os *os, int fd, const char *name, void *p,
                                                 size_t cap, size_t *n)
{
    return os->ops->get_attribute(os, fd, name, p, cap, n);
}
MUST_USE static inline enum err os_allocate(struct os *os, int fd, uint64_t size)
{
    return os->ops->allocate(os, fd, size);
}
MUST_USE static inline enum err os_truncate(struct os *os, int fd, uint64_t size)
{
    return os->ops->truncate(os, fd, size);
}
MUST_USE static inline enum err os_size(struct os *os, int fd, uint64_t *size)
{
    return os->ops->size(os, fd, size);
}
MUST_USE static inline enum err os_rename(struct os *os, const char *from, const char *to)
{
    return os->ops->rename(os, from, to);
}
MUST_USE static inline enum err os_rename_new(struct os *os, const char *from, const char *to)
{
    return os->ops->rename_new(os, from, to);
}
MUST_USE static inline enum err os_unlink(struct os *os, const char *path)
{
    return os->ops->unlink(os, path);
}
MUST_USE static inline enum err os_mkdir(struct os *os, const char *path)
{
    return os->ops->mkdir(os, path);
}
MUST_USE static inline enum err os_sync_dir(struct os *os, const char *path)
{
    return os->ops->sync_dir(os, path);
}
MUST_USE static inline enum err os_stat(struct os *os, const char *path, struct os_stat *st)
{
    return os->ops->stat(os, path, st);
}
MUST_USE static inline enum err os_list(struct os *os, const char *path, os_list_fn fn, void *arg)
{
    return os->ops->list(os, path, fn, arg);
}
MUST_USE static inline enum err os_lock(struct os *os, const char *path, int *fd)
{
    return os->ops->lock(os, path, fd);
}
MUST_USE static inline enum err os_disk_free(struct os *os, const char *path, uint64_t *bytes)
{
    return os->ops->disk_free(os, path, bytes);
}
static inline uint64_t os_wall_us(struct os *os)
{
    return os->ops->wall_us(os);
}
static inline uint64_t os_wall_ms(struct os *os)
{
    return os_wall_us(os) / 1000;
}
static inline uint64_t os_mono_ns(struct os *os)
{
    return os->ops->mono_ns(os);
}
static inline void os_random(struct os *os, void *p, size_t n)
{
    os->ops->random(os, p, n);
}
static inline void os_sleep_us(struct os *os, uint64_t us)
{
    os->ops->sleep_us(os, us);
}

// A named place where a test may have the process killed (SIGKILL): VARVE_TEST_CRASH=NAME:N kills
// at the Nth passing. Nothing at all in builds without tests.
#if VARVE_TESTS
void os_crash_point(const char *name);
#else
static inline void os_crash_point(const char *name)
{
    (void)name;
}
#endif

// Whole-file helpers on top of the above.
// Reads a file of at most `max` bytes into a fresh malloc'ed, NUL-terminated block.
MUST_USE enum err os_read_file(struct os *os, const char *path, size_t max, uint8_t **data,
                               size_t *n);
// Replaces `dir`/`name` so that after a crash either the old or the new content is there:
// writes name.tmp, syncs it, renames it, syncs dir.
MUST_USE enum err os_replace_file(struct os *os, const char *dir, const char *name, const void *p,
                                  size_t n);

#endif
