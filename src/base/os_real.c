// The real machine behind base/os.h: Linux system calls.
#include "base/os.h"
#include "base/assert.h"
#include "base/os_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdatomic.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

// The data is nobody else's to read.
#define FILE_MODE 0600
#define DIR_MODE  0700

#define IO_STEP   (1u << 30) // bytes asked for in one call; Linux moves at most 2 GiB - 4 KiB
#define ZERO_STEP 65536u     // bytes of zeros written at a time where fallocate is not supported

static _Thread_local int last_errno;

void os_note_errno(int error)
{
    last_errno = error;
}

int os_last_errno(void)
{
    return last_errno;
}

const char *os_last_error(void)
{
    return strerror(last_errno);
}

static enum err fail(int error)
{
    os_note_errno(error);
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_SPACE;
    case ENOENT:
        return ERR_MISSING;
    case EEXIST:
        return ERR_EXISTS;
    default:
        return ERR_IO;
    }
}

static enum err result(int rc)
{
    return rc == 0 ? ERR_OK : fail(errno);
}

static enum err open_with(const char *path, int flags, int *fd)
{
    do
        *fd = open(path, flags | O_CLOEXEC, FILE_MODE);
    while (*fd < 0 && errno == EINTR);
    return *fd >= 0 ? ERR_OK : fail(errno);
}

static enum err real_open(struct os *os, const char *path, unsigned flags, int *fd)
{
    int f = flags & OS_WRITE ? O_RDWR : O_RDONLY;
    if (flags & OS_CREATE)
        f |= O_CREAT;
    if (flags & OS_EXCLUSIVE)
        f |= O_EXCL;
    if (flags & OS_TRUNCATE)
        f |= O_TRUNC;
    return open_with(path, f, fd);
}

static enum err real_close(struct os *os, int fd)
{
    // After EINTR Linux has closed the descriptor; calling again could close another thread's.
    return close(fd) == 0 || errno == EINTR ? ERR_OK : fail(errno);
}

static enum err real_pread(struct os *os, int fd, void *p, size_t n, uint64_t off, size_t *got)
{
    *got = 0;
    while (*got < n) {
        size_t step = n - *got < IO_STEP ? n - *got : IO_STEP;
        ssize_t r = pread(fd, (char *)p + *got, step, (off_t)(off + *got));
        if (r == 0)
            break;
        if (r > 0)
            *got += (size_t)r;
        else if (errno != EINTR)
            return fail(errno);
    }
    return ERR_OK;
}

static enum err real_pwrite(struct os *os, int fd, const void *p, size_t n, uint64_t off)
{
    size_t done = 0;
    while (done < n) {
        size_t step = n - done < IO_STEP ? n - done : IO_STEP;
        ssize_t r = pwrite(fd, (const char *)p + done, step, (off_t)(off + done));
        if (r == 0)
            return fail(EIO);
        if (r > 0)
            done += (size_t)r;
        else if (errno != EINTR)
            return fail(errno);
    }
    return ERR_OK;
}

static enum err real_sync(struct os *os, int fd)
{
    int rc;
    // An interrupted call promised nothing, so it is made again. Any other error is final: the
    // kernel tells of a failed write-back once, and a second call would succeed without the data.
    do
        rc = fdatasync(fd);
    while (rc != 0 && errno == EINTR);
    return result(rc);
}

static enum err real_sync_all(struct os *os, int fd)
{
    int rc;
    do
        rc = fsync(fd);
    while (rc != 0 && errno == EINTR);
    return result(rc);
}

static enum err attribute_failed(int error)
{
    enum err e = fail(error);
    if (error == ENOTSUP || error == ENOSYS)
        e = ERR_UNSUPPORTED;
    if (error == ENODATA)
        e = ERR_MISSING;
    return error == ERANGE ? ERR_TOO_BIG : e;
}

static enum err real_set_attribute(struct os *os, int fd, const char *name, const void *p, size_t n)
{
    return fsetxattr(fd, name, p, n, 0) == 0 ? ERR_OK : attribute_failed(errno);
}

static enum err real_get_attribute(struct os *os, int fd, const char *name, void *p, size_t cap,
                                   size_t *n)
{
    ssize_t r = fgetxattr(fd, name, p, cap);
    *n = r < 0 ? 0 : (size_t)r;
    return r < 0 ? attribute_failed(errno) : ERR_OK;
}

static enum err real_truncate(struct os *os, int fd, uint64_t size)
{
    int rc;
    do
        rc = ftruncate(fd, (off_t)size);
    while (rc != 0 && errno == EINTR);
    return result(rc);
}

static enum err real_size(struct os *os, int fd, uint64_t *size)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return fail(errno);
    *size = (uint64_t)st.st_size;
    return ERR_OK;
}

// For file systems without fallocate. Only what is past the end is written: holes further down keep
// being holes.
static enum err extend_with_zeros(struct os *os, int fd, uint64_t size)
{
    static const char zeros[ZERO_STEP];
    uint64_t at;
    enum err e = real_size(os, fd, &at);
    while (e == ERR_OK && at < size) {
        size_t step = size - at < ZERO_STEP ? (size_t)(size - at) : ZERO_STEP;
        e = real_pwrite(os, fd, zeros, step, at);
        at += step;
    }
    return e;
}

static enum err real_allocate(struct os *os, int fd, uint64_t size)
{
    if (size == 0)
        return ERR_OK;
    int rc;
    do
        rc = fallocate(fd, 0, 0, (off_t)size);
    while (rc != 0 && errno == EINTR);
    if (rc != 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
        return extend_with_zeros(os, fd, size);
    return result(rc);
}

static enum err real_rename(struct os *os, const char *from, const char *to)
{
    return result(rename(from, to));
}

static enum err real_rename_new(struct os *os, const char *from, const char *to)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return ERR_OK;
    if (errno != EINVAL && errno != ENOSYS)
        return fail(errno);
    // A file system without it (NFS): a second name is as exclusive, and the first then goes.
    return link(from, to) == 0 ? result(unlink(from)) : fail(errno);
}

static enum err real_unlink(struct os *os, const char *path)
{
    return result(unlink(path));
}

static enum err real_mkdir(struct os *os, const char *path)
{
    return result(mkdir(path, DIR_MODE));
}

static enum err real_sync_dir(struct os *os, const char *path)
{
    int fd;
    enum err e = open_with(path, O_RDONLY | O_DIRECTORY, &fd);
    if (e != ERR_OK)
        return e;
    e = real_sync_all(os, fd);
    ERR_IGNORE(real_close(os, fd)); // nothing was written through it
    return e;
}

static enum err real_stat(struct os *os, const char *path, struct os_stat *st)
{
    struct stat s;
    if (stat(path, &s) != 0)
        return fail(errno);
    *st = (struct os_stat){S_ISDIR(s.st_mode), S_ISDIR(s.st_mode) ? 0 : (uint64_t)s.st_size};
    return ERR_OK;
}

static enum err real_list(struct os *os, const char *path, os_list_fn fn, void *arg)
{
    DIR *dir = opendir(path);
    if (!dir)
        return fail(errno);
    enum err e = ERR_OK;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (!entry) {
            if (errno)
                e = fail(errno);
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            fn(arg, entry->d_name);
    }
    closedir(dir);
    return e;
}

static enum err real_lock(struct os *os, const char *path, int *fd)
{
    enum err e = open_with(path, O_RDWR | O_CREAT, fd);
    if (e != ERR_OK)
        return e;
    int rc;
    do
        rc = flock(*fd, LOCK_EX | LOCK_NB);
    while (rc != 0 && errno == EINTR);
    if (rc == 0)
        return ERR_OK;
    e = fail(errno);
    if (os_last_errno() == EWOULDBLOCK)
        e = ERR_IN_USE;
    ERR_IGNORE(real_close(os, *fd)); // the error is told already
    return e;
}

static enum err real_disk_free(struct os *os, const char *path, uint64_t *bytes)
{
    struct statvfs st;
    if (statvfs(path, &st) != 0)
        return fail(errno);
    *bytes = (uint64_t)st.f_bavail * st.f_frsize;
    return ERR_OK;
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    VERIFY(clock_gettime(clock, &t) == 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t real_wall_us(struct os *os)
{
    return clock_ns(CLOCK_REALTIME) / 1000u;
}

static uint64_t real_mono_ns(struct os *os)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static void real_random(struct os *os, void *p, size_t n)
{
    char *at = p;
    while (n > 0) {
        ssize_t r = getrandom(at, n, 0);
        VERIFY(r > 0 || errno == EINTR);
        if (r > 0) {
            at += r;
            n -= (size_t)r;
        }
    }
}

static void real_sleep_us(struct os *os, uint64_t us)
{
    struct timespec left = {.tv_sec = (time_t)(us / 1000000u),
                            .tv_nsec = (long)(us % 1000000u) * 1000};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
    }
}

struct os *os_real(void)
{
    static const struct os_ops ops = {
        .open = real_open,
        .close = real_close,
        .pread = real_pread,
        .pwrite = real_pwrite,
        .sync = real_sync,
        .sync_all = real_sync_all,
        .set_attribute = real_set_attribute,
        .get_attribute = real_get_attribute,
        .allocate = real_allocate,
        .truncate = real_truncate,
        .size = real_size,
        .rename = real_rename,
        .rename_new = real_rename_new,
        .unlink = real_unlink,
        .mkdir = real_mkdir,
        .sync_dir = real_sync_dir,
        .stat = real_stat,
        .list = real_list,
        .lock = real_lock,
        .disk_free = real_disk_free,
        .wall_us = real_wall_us,
        .mono_ns = real_mono_ns,
        .random = real_random,
        .sleep_us = real_sleep_us,
    };
    static struct os real = {.ops = &ops}; // never written to
    return &real;
}

static uint64_t resident_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    char line[128] = ""; // pages: the whole size, the resident part, ...
    char *resident = fgets(line, sizeof line, f) ? strchr(line, ' ') : NULL;
    (void)fclose(f);
    long page = sysconf(_SC_PAGESIZE);
    return resident && page > 0 ? strtoull(resident, NULL, 10) * (uint64_t)page : 0;
}

static void count_entry(void *arg, const char *name)
{
    ++*(uint64_t *)arg;
}

static uint64_t micros(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_usec;
}

void os_usage(struct os_usage *u)
{
    *u = (struct os_usage){0};
    struct rusage r;
    if (getrusage(RUSAGE_SELF, &r) == 0)
        u->cpu_us = micros(r.ru_utime) + micros(r.ru_stime);
    u->rss_bytes = resident_bytes();
    uint64_t fds = 0;
    if (real_list(os_real(), "/proc/self/fd", count_entry, &fds) == ERR_OK && fds > 0)
        u->open_fds = fds - 1; // without the one that read the list
}

unsigned os_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (unsigned)CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN); // more CPUs than a cpu_set_t holds
    return n > 0 ? (unsigned)n : 1;
}

uint64_t os_memory(void)
{
    uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint8_t *text;
    size_t n;
    if (os_read_file(os_real(), "/sys/fs/cgroup/memory.max", 64, &text, &n))
        return machine;
    uint64_t group = strtoull((const char *)text, NULL, 10); // 0 for "max"
    free(text);
    return group && group < machine ? group : machine;
}

const char *os_env(const char *name)
{
    return getenv(name);
}

void os_thread_name(const char *name)
{
    char kept[16];
    (void)snprintf(kept, sizeof kept, "%s", name);
    (void)pthread_setname_np(pthread_self(), kept);
}

void os_thread_yields(void)
{
    (void)setpriority(PRIO_PROCESS, 0, 10); // on Linux: of this thread; no harm if it is refused
}

bool os_is_terminal(int fd)
{
    return isatty(fd) == 1;
}

enum err os_input_read(void *p, size_t n, size_t *got)
{
    ssize_t r;
    do
        r = read(STDIN_FILENO, p, n);
    while (r < 0 && errno == EINTR);
    last_errno = r < 0 ? errno : 0;
    *got = r < 0 ? 0 : (size_t)r;
    return r < 0 ? ERR_IO : ERR_OK;
}

bool os_input_ready(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&input, 1, 0) != 0;
}

#if VARVE_TESTS
void os_crash_point(const char *name)
{
    static atomic_long passed;
    const char *want = getenv("VARVE_TEST_CRASH");
    size_t n = strlen(name);
    if (!want || strncmp(want, name, n) || want[n] != ':')
        return;
    if (atomic_fetch_add(&passed, 1) + 1 == strtol(want + n + 1, NULL, 10))
        kill(getpid(), SIGKILL);
}
#endif
