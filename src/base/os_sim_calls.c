// The calls of the simulated machine (struct os_ops), each between begin() and done(), and what
// plants faults in them: errors, a full disk, the loss of power. The model is in os_sim.c.
#include "base/os_sim.h"
#include "base/assert.h"
#include "base/limits.h"
#include "base/os_int.h"
#include "base/os_sim_int.h"

#include <sched.h>

#define MAX_FD       4096
#define MAX_FILE     (1ull << 32)
#define MAX_NAME     255
#define FREE_AT_MOST (1ull << 40) // what a disk without a limit says it has free

static struct os_sim *machine(struct os *os)
{
    return (struct os_sim *)os;
}

static bool power_is_off(const struct os_sim *s)
{
    return s->power_left == 0;
}

static enum err planted_error(struct os_sim *s, enum sim_call call)
{
    enum err e = ERR_OK;
    for (struct sim_fault *f = s->faults; f < s->faults + SIM_MAX_FAULTS; f++) {
        if (!f->left || (f->call != call && f->call != SIM_ANY))
            continue;
        if (f->left > 1) {
            f->left--;
            continue;
        }
        if (!e)
            e = f->err;
        if (!f->sticky)
            f->left = 0;
    }
    return e;
}

// Locks the machine, with or without an error; done() must follow.
static enum err begin(struct os_sim *s, enum sim_call call)
{
    sim_hold(s);
    return power_is_off(s) ? ERR_IO : planted_error(s, call);
}

static enum err done(struct os_sim *s, enum err e)
{
    sim_let_go(s);
    if (e)
        os_note_errno(0);
    return e;
}

// A call changed something.
static void step(struct os_sim *s)
{
    s->steps++;
    if (s->power_left != UINT64_MAX)
        s->power_left--;
}

static struct sim_handle *handle_of(struct os_sim *s, int fd)
{
    uint32_t at = (uint32_t)fd % MAX_FD;
    VERIFY(fd >= 0 && at < s->handle_count);
    struct sim_handle *h = &s->handles[at];
    VERIFY(h->inode && h->uses == (uint32_t)fd / MAX_FD); // open, and not closed and opened again
    return h;
}

static int new_handle(struct os_sim *s, uint32_t inode, bool writable)
{
    uint32_t at = 0;
    while (at < s->handle_count && s->handles[at].inode)
        at++;
    VERIFY(at < MAX_FD);
    if (at == s->handle_count) {
        s->handle_count = at ? 2 * at : 8;
        s->handles = sim_realloc(s->handles, s->handle_count * sizeof *s->handles);
        memset(s->handles + at, 0, (s->handle_count - at) * sizeof *s->handles);
    }
    struct sim_handle *h = &s->handles[at];
    *h = (struct sim_handle){
        .inode = inode, .uses = (h->uses + 1) % (INT32_MAX / MAX_FD), .writable = writable};
    s->inodes[inode].opens++;
    return (int)(h->uses * MAX_FD + at);
}

// A place in the tree of names: `inode` is 0 if `dir` has no such name.
struct place {
    uint32_t dir; // 0 for the root directory itself
    uint32_t inode;
    struct slice name;
};

static enum err resolve(struct os_sim *s, const char *path, struct place *at)
{
    if (strlen(path) >= LIMIT_PATH)
        return ERR_IO;
    *at = (struct place){.inode = SIM_ROOT};
    for (;;) {
        while (*path == '/' || (*path == '.' && (path[1] == '/' || path[1] == 0)))
            path++;
        if (!*path)
            return ERR_OK;
        if (!at->inode)
            return ERR_MISSING;
        if (s->inodes[at->inode].kind != SIM_DIR_INODE)
            return ERR_IO;
        at->name = slice_of(path, strcspn(path, "/"));
        if (at->name.n > MAX_NAME)
            return ERR_IO;
        at->dir = at->inode;
        at->inode = sim_names_find(s->inodes[at->dir].names, at->name);
        path += at->name.n;
    }
}

// Finds what must be there and of that kind.
static enum err find(struct os_sim *s, const char *path, enum sim_inode_kind kind, struct place *at)
{
    enum err e = resolve(s, path, at);
    if (e)
        return e;
    if (!at->inode)
        return ERR_MISSING;
    return s->inodes[at->inode].kind == kind ? ERR_OK : ERR_IO;
}

static enum err open_file(struct os_sim *s, const char *path, unsigned flags, uint32_t *inode)
{
    struct place at;
    enum err e = resolve(s, path, &at);
    if (e)
        return e;
    if (at.inode && (flags & OS_CREATE) && (flags & OS_EXCLUSIVE))
        return ERR_EXISTS;
    if (at.inode && s->inodes[at.inode].kind != SIM_FILE_INODE)
        return ERR_IO;
    if (!at.inode && !(flags & OS_CREATE))
        return ERR_MISSING;
    if (!at.inode) {
        at.inode = sim_new_inode(s, SIM_FILE_INODE);
        sim_link_inode(s, at.dir, at.name, at.inode);
        step(s);
    } else if ((flags & OS_TRUNCATE) && s->inodes[at.inode].size) {
        sim_set_size(s, at.inode, 0);
        step(s);
    }
    *inode = at.inode;
    return ERR_OK;
}

static enum err sim_open(struct os *os, const char *path, unsigned flags, int *fd)
{
    struct os_sim *s = machine(os);
    uint32_t inode;
    enum err e = begin(s, SIM_OPEN);
    if (!e)
        e = open_file(s, path, flags, &inode);
    *fd = e ? -1 : new_handle(s, inode, flags & OS_WRITE);
    return done(s, e);
}

static enum err sim_lock(struct os *os, const char *path, int *fd)
{
    struct os_sim *s = machine(os);
    uint32_t inode;
    enum err e = begin(s, SIM_OPEN);
    if (!e)
        e = open_file(s, path, OS_WRITE | OS_CREATE, &inode);
    if (!e && s->inodes[inode].locked)
        e = ERR_IN_USE;
    *fd = -1;
    if (!e) {
        *fd = new_handle(s, inode, true);
        handle_of(s, *fd)->holds_lock = s->inodes[inode].locked = true;
    }
    return done(s, e);
}

static enum err sim_close(struct os *os, int fd)
{
    struct os_sim *s = machine(os);
    sim_hold(s);
    struct sim_handle *h = handle_of(s, fd);
    struct sim_inode *i = &s->inodes[h->inode];
    if (h->holds_lock)
        i->locked = false;
    i->opens--;
    h->inode = 0;
    return done(s, power_is_off(s) ? ERR_IO : ERR_OK);
}

static enum err sim_pread(struct os *os, int fd, void *p, size_t n, uint64_t off, size_t *got)
{
    struct os_sim *s = machine(os);
    enum err e = begin(s, SIM_PREAD);
    *got = 0;
    if (!e) {
        const struct sim_inode *i = &s->inodes[handle_of(s, fd)->inode];
        uint64_t left = off < i->size ? i->size - off : 0;
        *got = n < left ? n : (size_t)left;
        sim_bytes_read(i->bytes, p, *got, off);
    }
    return done(s, e);
}

static uint64_t used_bytes(const struct os_sim *s)
{
    uint64_t used = 0;
    for (uint32_t n = 1; n < s->inode_count; n++)
        if (s->inodes[n].named || s->inodes[n].opens)
            used += s->inodes[n].charged;
    return used;
}

// How far the file may reach: MAX_FILE or what the disk's free space allows.
static uint64_t reach(const struct os_sim *s, const struct sim_inode *i, uint64_t want)
{
    if (want <= i->charged || s->capacity == UINT64_MAX)
        return want;
    uint64_t others = used_bytes(s) - i->charged;
    uint64_t most = others < s->capacity ? s->capacity - others : 0;
    if (most < i->charged)
        most = i->charged;
    return want < most ? want : most;
}

static enum err sim_pwrite(struct os *os, int fd, const void *p, size_t n, uint64_t off)
{
    struct os_sim *s = machine(os);
    enum err e = begin(s, SIM_PWRITE);
    if (!power_is_off(s)) {
        const struct sim_handle *h = handle_of(s, fd);
        VERIFY(h->writable);
        if (off > MAX_FILE || n > MAX_FILE - off)
            return done(s, ERR_IO);
        uint64_t end = reach(s, &s->inodes[h->inode], off + n);
        size_t part = end > off ? (size_t)(end - off) : 0;
        if (e)
            part = (size_t)(sim_next_random(&s->random) % (part + 1));
        else if (part < n)
            e = ERR_NO_SPACE;
        sim_write_bytes(s, h->inode, p, part, off);
        step(s);
    }
    return done(s, e);
}

static enum err sync_file(struct os_sim *s, int fd, bool attribute)
{
    enum err e = begin(s, SIM_SYNC);
    if (!power_is_off(s)) {
        sim_sync_inode(s, handle_of(s, fd)->inode, attribute, !e);
        step(s);
    }
    return done(s, e);
}

static enum err sim_sync(struct os *os, int fd)
{
    return sync_file(machine(os), fd, false);
}

static enum err sim_sync_all(struct os *os, int fd)
{
    return sync_file(machine(os), fd, true);
}

static enum err sim_set_attribute(struct os *os, int fd, const char *name, const void *p, size_t n)
{
    struct os_sim *s = machine(os);
    enum err e = begin(s, SIM_ATTRIBUTE);
    if (!e) {
        const struct sim_handle *h = handle_of(s, fd);
        VERIFY(h->writable);
        sim_set_attribute_of(s, h->inode, slice_str(name), slice_of(p, n));
        step(s);
    }
    return done(s, e);
}

static enum err sim_get_attribute(struct os *os, int fd, const char *name, void *p, size_t cap,
                                  size_t *n)
{
    struct os_sim *s = machine(os);
    size_t skip = strlen(name) + 1;
    enum err e = begin(s, SIM_ATTRIBUTE);
    *n = 0;
    if (!e) {
        const struct sim_blob *b = s->inodes[handle_of(s, fd)->inode].attribute;
        struct slice all = b ? sim_blob_slice(b) : slice_of(NULL, 0);
        if (!slice_starts(all, slice_of(name, skip)))
            e = ERR_MISSING;
        else if (all.n - skip > cap)
            e = ERR_TOO_BIG;
        else
            memcpy(p, all.p + skip, *n = all.n - skip);
    }
    return done(s, e);
}

static enum err sim_allocate(struct os *os, int fd, uint64_t size)
{
    struct os_sim *s = machine(os);
    enum err e = begin(s, SIM_ALLOCATE);
    if (!e) {
        const struct sim_handle *h = handle_of(s, fd);
        struct sim_inode *i = &s->inodes[h->inode];
        VERIFY(h->writable);
        if (size > MAX_FILE)
            e = ERR_IO;
        else if (reach(s, i, size) < size)
            e = ERR_NO_SPACE;
        if (!e) {
            if (size > i->size)
                sim_set_size(s, h->inode, size);
            if (size > i->charged)
                i->charged = size;
            step(s);
        }
    }
    return done(s, e);
}

static enum err sim_truncate(struct os *os, int fd, uint64_t size)
{
    struct os_sim *s = machine(os);
    enum err e = begin(s, SIM_TRUNCATE);
    if (!e) {
        const struct sim_handle *h = handle_of(s, fd);
        VERIFY(h->writable);
        if (size > MAX_FILE)
            return done(s, ERR_IO);
        sim_set_size(s, h->inode, size);
        step(s);
    }
    return done(s, e);
}

static enum err sim_size(struct os *os, int fd, uint64_t *size)
{
    struct os_sim *s = machine(os);
    enum err e = begin(s, SIM_ANY);
    *size = e ? 0 : s->inodes[handle_of(s, fd)->inode].size;
    return done(s, e);
}

static enum err rename_file(struct os_sim *s, const char *from, const char *to, bool only_new)
{
    struct place old, new;
    enum err e = resolve(s, from, &old);
    if (!e)
        e = resolve(s, to, &new);
    if (e)
        return e;
    if (!old.inode)
        return ERR_MISSING;
    if (only_new && new.inode)
        return ERR_EXISTS;
    if (!old.dir || old.dir != new.dir)
        return ERR_UNSUPPORTED;
    if (old.inode == new.inode)
        return ERR_OK;
    if (new.inode &&
        (s->inodes[old.inode].kind == SIM_DIR_INODE || s->inodes[new.inode].kind == SIM_DIR_INODE))
        return ERR_IO;
    sim_link_inode(s, new.dir, new.name, old.inode);
    step(s);
    return ERR_OK;
}

static enum err sim_rename(struct os *os, const char *from, const char *to)
{
    struct os_sim *s = machine(os);
    enum err e = begin(s, SIM_RENAME);
    return done(s, e ? e : rename_file(s, from, to, false));
}

static enum err sim_rename_new(struct os *os, const char *from, const char *to)
{
    struct os_sim *s = machine(os);
    enum err e = begin(s, SIM_RENAME);
    return done(s, e ? e : rename_file(s, from, to, true));
}

static enum err sim_unlink(struct os *os, const char *path)
{
    struct os_sim *s = machine(os);
    struct place at;
    enum err e = begin(s, SIM_UNLINK);
    if (!e)
        e = find(s, path, SIM_FILE_INODE, &at);
    if (!e) {
        sim_unlink_inode(s, at.dir, at.inode);
        step(s);
    }
    return done(s, e);
}

static enum err sim_mkdir(struct os *os, const char *path)
{
    struct os_sim *s = machine(os);
    struct place at;
    enum err e = begin(s, SIM_MKDIR);
    if (!e)
        e = resolve(s, path, &at);
    if (!e && at.inode)
        e = ERR_EXISTS;
    if (!e) {
        uint32_t n = sim_new_inode(s, SIM_DIR_INODE);
        sim_link_inode(s, at.dir, at.name, n);
        step(s);
    }
    return done(s, e);
}

static enum err sim_sync_dir(struct os *os, const char *path)
{
    struct os_sim *s = machine(os);
    struct place at;
    enum err e = begin(s, SIM_SYNC_DIR);
    if (!power_is_off(s)) {
        enum err missing = find(s, path, SIM_DIR_INODE, &at);
        if (missing)
            return done(s, e ? e : missing);
        sim_sync_inode(s, at.inode, true, !e);
        sim_sweep(s);
        step(s);
    }
    return done(s, e);
}

static enum err sim_stat(struct os *os, const char *path, struct os_stat *st)
{
    struct os_sim *s = machine(os);
    struct place at;
    enum err e = begin(s, SIM_ANY);
    if (!e)
        e = resolve(s, path, &at);
    if (!e && !at.inode)
        e = ERR_MISSING;
    *st = (struct os_stat){0};
    if (!e)
        *st = (struct os_stat){s->inodes[at.inode].kind == SIM_DIR_INODE, s->inodes[at.inode].size};
    return done(s, e);
}

static enum err sim_list(struct os *os, const char *path, os_list_fn fn, void *arg)
{
    struct os_sim *s = machine(os);
    struct place at;
    enum err e = begin(s, SIM_ANY);
    if (!e)
        e = find(s, path, SIM_DIR_INODE, &at);
    // A reference of our own: fn may call the machine, and change the directory.
    struct sim_names *names = e ? NULL : sim_names_ref(s->inodes[at.inode].names);
    size_t count = sim_names_count(names);
    size_t first = count ? (size_t)(sim_next_random(&s->random) % count) : 0; // no order to rely on
    e = done(s, e);
    for (size_t k = 0; k < count; k++) {
        uint32_t inode;
        struct slice name = sim_blob_slice(sim_names_at(names, (first + k) % count, &inode));
        char text[MAX_NAME + 1];
        memcpy(text, name.p, name.n);
        text[name.n] = 0;
        fn(arg, text);
    }
    sim_names_unref(names);
    return e;
}

static enum err sim_disk_free(struct os *os, const char *path, uint64_t *bytes)
{
    struct os_sim *s = machine(os);
    struct place at;
    enum err e = begin(s, SIM_ANY);
    if (!e)
        e = resolve(s, path, &at);
    if (!e && !at.inode)
        e = ERR_MISSING;
    uint64_t used = used_bytes(s);
    uint64_t capacity = s->capacity < FREE_AT_MOST ? s->capacity : FREE_AT_MOST;
    *bytes = e || used > capacity ? 0 : capacity - used;
    return done(s, e);
}

static uint64_t sim_wall_us(struct os *os)
{
    struct os_sim *s = machine(os);
    sim_hold(s);
    uint64_t us = s->wall_us;
    sim_let_go(s);
    return us;
}

static uint64_t sim_mono_ns(struct os *os)
{
    struct os_sim *s = machine(os);
    sim_hold(s);
    uint64_t ns = s->mono_us * 1000;
    sim_let_go(s);
    return ns;
}

static void sim_random(struct os *os, void *p, size_t n)
{
    struct os_sim *s = machine(os);
    sim_hold(s);
    for (uint8_t *at = p; n;) {
        uint64_t r = sim_next_random(&s->random);
        size_t part = n < sizeof r ? n : sizeof r;
        memcpy(at, &r, part);
        at += part;
        n -= part;
    }
    sim_let_go(s);
}

static void advance_us(struct os_sim *s, uint64_t us)
{
    sim_hold(s);
    s->wall_us += us;
    s->mono_us += us;
    sim_let_go(s);
}

// Takes no real time, but lets other threads run.
static void sim_sleep_us(struct os *os, uint64_t us)
{
    advance_us(machine(os), us);
    sched_yield();
}

const struct os_ops sim_calls = {
    .open = sim_open,
    .close = sim_close,
    .pread = sim_pread,
    .pwrite = sim_pwrite,
    .sync = sim_sync,
    .sync_all = sim_sync_all,
    .set_attribute = sim_set_attribute,
    .get_attribute = sim_get_attribute,
    .allocate = sim_allocate,
    .truncate = sim_truncate,
    .size = sim_size,
    .rename = sim_rename,
    .rename_new = sim_rename_new,
    .unlink = sim_unlink,
    .mkdir = sim_mkdir,
    .sync_dir = sim_sync_dir,
    .stat = sim_stat,
    .list = sim_list,
    .lock = sim_lock,
    .disk_free = sim_disk_free,
    .wall_us = sim_wall_us,
    .mono_ns = sim_mono_ns,
    .random = sim_random,
    .sleep_us = sim_sleep_us,
};

uint64_t sim_steps(const struct os_sim *s)
{
    sim_hold(s);
    uint64_t steps = s->steps;
    sim_let_go(s);
    return steps;
}

void sim_power_off_after(struct os_sim *s, uint64_t steps)
{
    sim_hold(s);
    s->power_left = steps;
    sim_let_go(s);
}

bool sim_power_is_off(const struct os_sim *s)
{
    sim_hold(s);
    bool off = power_is_off(s);
    sim_let_go(s);
    return off;
}

void sim_fail(struct os_sim *s, enum sim_call call, uint64_t nth, enum err e, bool sticky)
{
    VERIFY(nth > 0 && e != ERR_OK);
    sim_hold(s);
    struct sim_fault *f = s->faults;
    while (f < s->faults + SIM_MAX_FAULTS && f->left)
        f++;
    VERIFY(f < s->faults + SIM_MAX_FAULTS);
    *f = (struct sim_fault){.call = call, .err = e, .left = nth, .sticky = sticky};
    sim_let_go(s);
}

void sim_set_capacity(struct os_sim *s, uint64_t bytes)
{
    sim_hold(s);
    s->capacity = bytes;
    sim_let_go(s);
}

void sim_set_wall_ms(struct os_sim *s, uint64_t ms)
{
    sim_hold(s);
    s->wall_us = ms * 1000;
    sim_let_go(s);
}

void sim_advance_ms(struct os_sim *s, uint64_t ms)
{
    advance_us(s, ms * 1000);
}

static void flip(struct sim_bytes **b, uint64_t bit)
{
    uint8_t byte;
    sim_bytes_read(*b, &byte, 1, bit / 8);
    byte ^= (uint8_t)(1u << (bit % 8));
    sim_bytes_write(b, &byte, 1, bit / 8);
}

enum err sim_flip_bit(struct os_sim *s, const char *path, uint64_t bit)
{
    struct place at;
    sim_hold(s);
    enum err e = find(s, path, SIM_FILE_INODE, &at);
    struct sim_inode *i = e ? NULL : &s->inodes[at.inode];
    if (!e && bit / 8 >= i->size && bit / 8 >= i->durable_size)
        e = ERR_MISSING;
    if (!e && bit / 8 < i->size)
        flip(&i->bytes, bit);
    if (!e && bit / 8 < i->durable_size)
        flip(&i->durable_bytes, bit);
    sim_let_go(s);
    return e;
}
