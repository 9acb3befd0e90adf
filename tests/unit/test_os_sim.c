#include "unit.h"
#include "base/assert.h"
#include "base/limits.h"
#include "base/os_sim.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct os_sim *machine(void)
{
    struct os_sim *s = sim_new(1);
    assert_non_null(s);
    return s;
}

static int open_file(struct os_sim *s, const char *path, unsigned flags)
{
    int fd;
    assert_ok(os_open(sim_os(s), path, flags, &fd));
    return fd;
}

// A file that is there for good, with n bytes of `fill`.
static int durable_file(struct os_sim *s, const char *path, int fill, size_t n)
{
    uint8_t *p = malloc(n ? n : 1);
    assert_non_null(p);
    memset(p, fill, n);
    int fd = open_file(s, path, OS_WRITE | OS_CREATE);
    assert_ok(os_pwrite(sim_os(s), fd, p, n, 0));
    assert_ok(os_sync(sim_os(s), fd));
    assert_ok(os_sync_dir(sim_os(s), "/"));
    assert_int_equal(sim_pending(s), 0);
    free(p);
    return fd;
}

static void fill(struct os_sim *s, int fd, int byte, size_t n, uint64_t off)
{
    uint8_t *p = malloc(n);
    assert_non_null(p);
    memset(p, byte, n);
    assert_ok(os_pwrite(sim_os(s), fd, p, n, off));
    free(p);
}

static bool exists(struct os_sim *s, const char *path)
{
    int fd;
    enum err e = os_open(sim_os(s), path, OS_READ, &fd);
    if (e) {
        assert_err(e, ERR_MISSING);
        return false;
    }
    assert_ok(os_close(sim_os(s), fd));
    return true;
}

// Size of a file, or -1.
static int64_t size_of(struct os_sim *s, const char *path)
{
    if (!exists(s, path))
        return -1;
    uint64_t size;
    int fd = open_file(s, path, OS_READ);
    assert_ok(os_size(sim_os(s), fd, &size));
    assert_ok(os_close(sim_os(s), fd));
    return (int64_t)size;
}

// The byte at `off`, or -1 past the end.
static int byte_at(struct os_sim *s, const char *path, uint64_t off)
{
    uint8_t byte;
    size_t got;
    int fd = open_file(s, path, OS_READ);
    assert_ok(os_pread(sim_os(s), fd, &byte, 1, off, &got));
    assert_ok(os_close(sim_os(s), fd));
    return got ? byte : -1;
}

// Ends `s` and gives what a crash leaves.
static struct os_sim *after(struct os_sim *s, enum sim_survival how, uint64_t detail, uint64_t seed)
{
    struct os_sim *c = sim_crash(s, how, detail, seed);
    sim_free(s);
    assert_int_equal(sim_pending(c), 0);
    return c;
}

// ---- the calls, without any crash ----

static void files_read_what_was_written(void **state)
{
    struct os_sim *s = machine();
    struct os *os = sim_os(s);
    int fd = open_file(s, "/f", OS_WRITE | OS_CREATE);
    static uint8_t data[20000], back[20000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + i / 256);
    assert_ok(os_pwrite(os, fd, data, sizeof data, 0));
    assert_ok(os_pwrite(os, fd, data, 5000, 4000));
    size_t got;
    assert_ok(os_pread(os, fd, back, sizeof back, 0, &got));
    assert_int_equal(got, sizeof back);
    assert_memory_equal(back, data, 4000);
    assert_memory_equal(back + 4000, data, 5000);
    assert_memory_equal(back + 9000, data + 9000, sizeof data - 9000);
    assert_ok(os_pread(os, fd, back, 100, sizeof data - 10, &got));
    assert_int_equal(got, 10);
    assert_ok(os_pread(os, fd, back, 100, sizeof data + 10, &got));
    assert_int_equal(got, 0);
    assert_ok(os_pwrite(os, fd, "x", 1, 30000)); // the hole reads as zeros
    assert_int_equal(byte_at(s, "f", 25000), 0);
    assert_int_equal(byte_at(s, "f", 30000), 'x');
    assert_int_equal(size_of(s, "f"), 30001);
    assert_ok(os_truncate(os, fd, 100));
    assert_ok(os_truncate(os, fd, 200));
    assert_int_equal(byte_at(s, "f", 99), data[99]);
    assert_int_equal(byte_at(s, "f", 100), 0);
    assert_ok(os_allocate(os, fd, 150)); // never shrinks
    assert_int_equal(size_of(s, "f"), 200);
    assert_ok(os_allocate(os, fd, 300));
    assert_int_equal(size_of(s, "f"), 300);
    assert_int_equal(byte_at(s, "f", 299), 0);
    assert_ok(os_close(os, fd));
    sim_free(s);
}

static void open_follows_its_flags(void **state)
{
    struct os_sim *s = machine();
    struct os *os = sim_os(s);
    int fd;
    assert_err(os_open(os, "f", OS_WRITE, &fd), ERR_MISSING);
    assert_err(os_open(os, "d/f", OS_WRITE | OS_CREATE, &fd), ERR_MISSING);
    assert_ok(os_open(os, "f", OS_WRITE | OS_CREATE | OS_EXCLUSIVE, &fd));
    assert_ok(os_pwrite(os, fd, "abc", 3, 0));
    assert_ok(os_close(os, fd));
    assert_err(os_open(os, "f", OS_WRITE | OS_CREATE | OS_EXCLUSIVE, &fd), ERR_EXISTS);
    assert_ok(os_open(os, "./f", OS_WRITE | OS_CREATE, &fd));
    assert_int_equal(size_of(s, "/f"), 3);
    assert_ok(os_close(os, fd));
    assert_ok(os_open(os, "//f", OS_WRITE | OS_TRUNCATE, &fd));
    assert_int_equal(size_of(s, "f"), 0);
    assert_ok(os_close(os, fd));
    assert_err(os_open(os, "f/g", OS_WRITE | OS_CREATE, &fd), ERR_IO);
    assert_err(os_open(os, "/", OS_READ, &fd), ERR_IO);
    char path[LIMIT_PATH + 1];
    memset(path, 'p', LIMIT_PATH);
    path[LIMIT_PATH] = 0;
    assert_err(os_open(os, path, OS_WRITE | OS_CREATE, &fd), ERR_IO);
    path[256] = 0; // one more than a name may have
    assert_err(os_open(os, path, OS_WRITE | OS_CREATE, &fd), ERR_IO);
    path[255] = 0;
    assert_ok(os_open(os, path, OS_WRITE | OS_CREATE, &fd));
    assert_ok(os_close(os, fd));
    sim_free(s);
}

static void note_name(void *arg, const char *name)
{
    char *names = arg;
    strncat(names, name, 90 - strlen(names));
}

static void directories_name_files(void **state)
{
    struct os_sim *s = machine();
    struct os *os = sim_os(s);
    assert_ok(os_mkdir(os, "d"));
    assert_err(os_mkdir(os, "d"), ERR_EXISTS);
    assert_err(os_mkdir(os, "/"), ERR_EXISTS);
    assert_err(os_mkdir(os, "x/y"), ERR_MISSING);
    int fd = open_file(s, "d/a", OS_WRITE | OS_CREATE);
    fill(s, fd, 'a', 3, 0);
    assert_ok(os_rename(os, "d/a", "d/b"));
    assert_false(exists(s, "d/a"));
    assert_int_equal(size_of(s, "d/b"), 3);
    assert_err(os_rename(os, "d/a", "d/b"), ERR_MISSING);
    assert_err(os_rename(os, "d/b", "b"), ERR_UNSUPPORTED);
    assert_ok(os_rename(os, "d/b", "d/b"));
    assert_err(os_rename_new(os, "d/b", "d/b"), ERR_EXISTS);
    assert_ok(os_rename_new(os, "d/b", "d/a"));
    assert_err(os_rename_new(os, "d/b", "d/c"), ERR_MISSING);
    assert_ok(os_rename(os, "d/a", "d/b"));
    struct os_stat st;
    assert_ok(os_stat(os, "d", &st));
    assert_true(st.is_dir);
    assert_ok(os_stat(os, "d/b", &st));
    assert_true(!st.is_dir && st.size == 3);
    assert_err(os_stat(os, "d/a", &st), ERR_MISSING);
    assert_err(os_stat(os, "d/b/x", &st), ERR_IO);
    assert_ok(os_close(os, open_file(s, "d/c", OS_WRITE | OS_CREATE)));
    assert_ok(os_rename(os, "d/b", "d/c")); // replaces
    char names[100] = "";
    assert_ok(os_list(os, "d", note_name, names));
    assert_string_equal(names, "c");
    assert_int_equal(size_of(s, "d/c"), 3);
    assert_err(os_list(os, "d/c", note_name, names), ERR_IO);
    assert_err(os_list(os, "e", note_name, names), ERR_MISSING);
    assert_err(os_unlink(os, "d"), ERR_IO);
    assert_err(os_unlink(os, "d/x"), ERR_MISSING);
    assert_ok(os_unlink(os, "d/c"));
    assert_false(exists(s, "d/c"));
    uint8_t byte; // an open file outlives its name
    size_t got;
    assert_ok(os_pread(os, fd, &byte, 1, 0, &got));
    assert_int_equal(byte, 'a');
    assert_ok(os_close(os, fd));
    assert_err(os_sync_dir(os, "x"), ERR_MISSING);
    sim_free(s);
}

static void unlink_each(void *arg, const char *name)
{
    assert_ok(os_unlink(sim_os(arg), name));
}

static void list_takes_calls_from_inside(void **state)
{
    struct os_sim *s = machine();
    for (int i = 0; i < 30; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%d", i);
        assert_ok(os_close(sim_os(s), open_file(s, name, OS_WRITE | OS_CREATE)));
    }
    assert_ok(os_list(sim_os(s), "/", unlink_each, s));
    char names[100] = "";
    assert_ok(os_list(sim_os(s), "/", note_name, names));
    assert_string_equal(names, "");
    sim_free(s);
}

static void locks_exclude(void **state)
{
    struct os_sim *s = machine();
    struct os *os = sim_os(s);
    int a, b;
    assert_ok(os_lock(os, "lock", &a));
    assert_err(os_lock(os, "lock", &b), ERR_IN_USE);
    b = open_file(s, "lock", OS_READ); // a lock is no hindrance to others' reads
    assert_ok(os_close(os, b));
    assert_err(os_lock(os, "lock", &b), ERR_IN_USE);
    assert_ok(os_close(os, a));
    assert_ok(os_lock(os, "lock", &a));
    struct os_sim *c = sim_clone(s); // the process is gone there, and its lock
    assert_ok(os_lock(sim_os(c), "lock", &b));
    sim_free(c);
    c = after(s, SIM_ALL, 0, 0);
    assert_ok(os_lock(sim_os(c), "lock", &b));
    sim_free(c);
}

static void time_is_set_by_hand(void **state)
{
    struct os_sim *s = machine();
    struct os *os = sim_os(s);
    uint64_t wall = os_wall_ms(os);
    uint64_t mono = os_mono_ns(os);
    assert_true(os_wall_ms(os) == wall && os_mono_ns(os) == mono);
    os_sleep_us(os, 2500);
    assert_int_equal(os_mono_ns(os) - mono, 2500000);
    sim_advance_ms(s, 10);
    assert_int_equal(os_wall_ms(os) - wall, 12);
    assert_int_equal(os_mono_ns(os) - mono, 12500000);
    sim_set_wall_ms(s, 77);
    assert_int_equal(os_wall_ms(os), 77);
    assert_int_equal(os_mono_ns(os) - mono, 12500000);
    s = after(s, SIM_NONE, 0, 0);
    assert_int_equal(os_wall_ms(sim_os(s)), 77);
    sim_free(s);
}

static void random_follows_the_seed(void **state)
{
    uint8_t a[33], b[33], c[33];
    struct os_sim *s = sim_new(5), *same = sim_new(5), *other = sim_new(6);
    os_random(sim_os(s), a, sizeof a);
    os_random(sim_os(same), b, sizeof b);
    os_random(sim_os(other), c, sizeof c);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    sim_free(s);
    sim_free(same);
    sim_free(other);
}

// ---- what a crash keeps ----

static void what_was_synced_is_there(void **state)
{
    for (int how = SIM_NONE; how <= SIM_SINGLE; how++) {
        struct os_sim *s = machine();
        durable_file(s, "f", 'a', 5000);
        s = after(s, (enum sim_survival)how, 0, 3);
        assert_int_equal(size_of(s, "f"), 5000);
        assert_int_equal(byte_at(s, "f", 0), 'a');
        assert_int_equal(byte_at(s, "f", 4999), 'a');
        assert_int_equal(byte_at(s, "f", 5000), -1);
        sim_free(s);
    }
}

static void without_sync_none_or_all(void **state)
{
    struct os_sim *s = machine();
    int fd = durable_file(s, "f", 'a', 1000);
    fill(s, fd, 'b', 100, 500);
    fill(s, fd, 'c', 1000, 2000);
    int g = open_file(s, "g", OS_WRITE | OS_CREATE);
    assert_int_equal(sim_pending(s), 4); // write; size, write; name
    struct os_sim *none = sim_crash(s, SIM_NONE, 0, 0);
    assert_int_equal(size_of(none, "f"), 1000);
    assert_int_equal(byte_at(none, "f", 500), 'a');
    assert_false(exists(none, "g"));
    sim_free(none);
    struct os_sim *all = sim_crash(s, SIM_ALL, 0, 0);
    assert_int_equal(size_of(all, "f"), 3000);
    assert_int_equal(byte_at(all, "f", 499), 'a');
    assert_int_equal(byte_at(all, "f", 500), 'b');
    assert_int_equal(byte_at(all, "f", 1500), 0);
    assert_int_equal(byte_at(all, "f", 2999), 'c');
    assert_int_equal(size_of(all, "g"), 0);
    sim_free(all);
    assert_int_equal(byte_at(s, "f", 500), 'b'); // the machine itself goes on
    assert_ok(os_close(sim_os(s), g));
    sim_free(s);
}

static void each_sector_is_old_or_new(void **state)
{
    enum { SECTORS = 12 };
    struct os_sim *s = machine();
    int fd = durable_file(s, "f", 'a', SECTORS * 512);
    fill(s, fd, 'b', SECTORS * 512 - 200, 100); // all sectors, the first and last in part
    unsigned old = 0, new = 0;
    bool mixed = false;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct os_sim *c = sim_crash(s, SIM_RANDOM, 0, seed);
        unsigned here = 0;
        for (unsigned n = 0; n < SECTORS; n++) {
            unsigned from = n == 0 ? 100 : 0, to = n == SECTORS - 1 ? 411 : 511;
            int first = byte_at(c, "f", n * 512 + from);
            assert_true(first == 'a' || first == 'b');
            assert_int_equal(byte_at(c, "f", n * 512 + to), first);
            here += first == 'b';
        }
        assert_int_equal(byte_at(c, "f", 0), 'a');
        assert_int_equal(byte_at(c, "f", SECTORS * 512 - 1), 'a');
        new += here;
        old += SECTORS - here;
        mixed = mixed || (here > 0 && here < SECTORS);
        sim_free(c);
    }
    assert_true(old > 500 && new > 500 && mixed);
    sim_free(s);
}

static void a_write_brings_only_its_own_sectors(void **state)
{
    struct os_sim *s = machine();
    int fd = durable_file(s, "f", 'a', 1536);
    fill(s, fd, 'b', 1536, 0);
    fill(s, fd, 'c', 512, 512);
    s = after(s, SIM_SINGLE, 2, 0);
    assert_int_equal(byte_at(s, "f", 511), 'a');
    assert_int_equal(byte_at(s, "f", 512), 'c');
    assert_int_equal(byte_at(s, "f", 1023), 'c');
    assert_int_equal(byte_at(s, "f", 1024), 'a');
    sim_free(s);
}

// Writes 'b' then 'c' beside it in one sector: the page cache never held 'c' without 'b'.
static void a_sector_is_at_one_of_its_versions(void **state)
{
    struct os_sim *s = machine();
    int fd = durable_file(s, "f", 'a', 512);
    fill(s, fd, 'b', 10, 0);
    fill(s, fd, 'c', 10, 10);
    bool seen[3] = {0};
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct os_sim *c = sim_crash(s, SIM_RANDOM, 0, seed);
        int b = byte_at(c, "f", 0), second = byte_at(c, "f", 10);
        assert_true(b == 'b' || second == 'a');
        seen[(b == 'b') + (second == 'c')] = true;
        sim_free(c);
    }
    assert_true(seen[0] && seen[1] && seen[2]);
    sim_free(s);
}

static void a_file_may_grow_without_its_data(void **state)
{
    struct os_sim *s = machine();
    int fd = durable_file(s, "f", 'a', 100);
    fill(s, fd, 'b', 1000, 100);
    assert_int_equal(sim_pending(s), 2);
    struct os_sim *grown = sim_crash(s, SIM_SINGLE, 1, 0);
    assert_int_equal(size_of(grown, "f"), 1100);
    assert_int_equal(byte_at(grown, "f", 99), 'a');
    assert_int_equal(byte_at(grown, "f", 100), 0);
    assert_int_equal(byte_at(grown, "f", 1099), 0);
    sim_free(grown);
    // The data without the growth is not seen, not even when the file grows later.
    struct os_sim *data = sim_crash(s, SIM_SINGLE, 2, 0);
    assert_int_equal(size_of(data, "f"), 100);
    assert_ok(os_truncate(sim_os(data), open_file(data, "f", OS_WRITE), 1100));
    assert_int_equal(byte_at(data, "f", 99), 'a');
    assert_int_equal(byte_at(data, "f", 100), 0);
    assert_int_equal(byte_at(data, "f", 600), 0);
    sim_free(data);
    sim_free(s);
}

static void size_changes_survive_whole(void **state)
{
    struct os_sim *s = machine();
    int fd = durable_file(s, "f", 'a', 3000);
    assert_ok(os_truncate(sim_os(s), fd, 1000));
    assert_ok(os_allocate(sim_os(s), fd, 5000));
    static const struct {
        int64_t size;
        int at_2000;
    } single[] = {{1000, -1}, {5000, 'a'}}, prefix[] = {{3000, 'a'}, {1000, -1}, {5000, 0}};
    for (uint64_t n = 0; n <= 2; n++) {
        struct os_sim *c = sim_crash(s, SIM_PREFIX, n, 0);
        assert_int_equal(size_of(c, "f"), prefix[n].size);
        assert_int_equal(byte_at(c, "f", 2000), prefix[n].at_2000);
        assert_int_equal(byte_at(c, "f", 999), 'a');
        sim_free(c);
    }
    for (uint64_t n = 1; n <= 2; n++) {
        struct os_sim *c = sim_crash(s, SIM_SINGLE, n, 0);
        assert_int_equal(size_of(c, "f"), single[n - 1].size);
        assert_int_equal(byte_at(c, "f", 2000), single[n - 1].at_2000);
        sim_free(c);
    }
    assert_ok(os_sync(sim_os(s), fd)); // and a sync makes sizes durable
    s = after(s, SIM_NONE, 0, 0);
    assert_int_equal(size_of(s, "f"), 5000);
    assert_int_equal(byte_at(s, "f", 2000), 0);
    sim_free(s);
}

static void a_synced_file_needs_its_name(void **state)
{
    struct os_sim *s = machine();
    int fd = open_file(s, "f", OS_WRITE | OS_CREATE);
    fill(s, fd, 'a', 100, 0);
    assert_ok(os_sync(sim_os(s), fd));
    assert_int_equal(sim_pending(s), 1);
    struct os_sim *c = sim_crash(s, SIM_NONE, 0, 0);
    assert_false(exists(c, "f"));
    sim_free(c);
    c = sim_crash(s, SIM_ALL, 0, 0);
    assert_int_equal(byte_at(c, "f", 99), 'a');
    sim_free(c);
    assert_ok(os_sync_dir(sim_os(s), "/"));
    s = after(s, SIM_NONE, 0, 0);
    assert_int_equal(byte_at(s, "f", 99), 'a');
    sim_free(s);
}

// "none", or the attribute's text.
static const char *attribute(struct os_sim *s, const char *path)
{
    static char text[16];
    size_t n;
    int fd = open_file(s, path, OS_READ);
    enum err e = os_get_attribute(sim_os(s), fd, "user.a", text, sizeof text - 1, &n);
    text[n] = 0;
    assert_true(e == ERR_OK || e == ERR_MISSING);
    assert_ok(os_close(sim_os(s), fd));
    return e ? "none" : text;
}

static void attributes_are_durable_when_all_is_synced(void **state)
{
    struct os_sim *s = machine();
    struct os *os = sim_os(s);
    char b[8];
    size_t n;
    int fd = durable_file(s, "f", 1, 10);
    assert_string_equal(attribute(s, "f"), "none");
    assert_ok(os_set_attribute(os, fd, "user.a", "one", 3));
    assert_string_equal(attribute(s, "f"), "one");
    assert_err(os_get_attribute(os, fd, "user.a", b, 2, &n), ERR_TOO_BIG);
    assert_err(os_get_attribute(os, fd, "user.b", b, sizeof b, &n), ERR_MISSING);
    assert_ok(os_sync(os, fd)); // which is for the content
    assert_int_equal(sim_pending(s), 1);
    struct os_sim *c = sim_crash(s, SIM_NONE, 0, 1);
    assert_string_equal(attribute(c, "f"), "none");
    sim_free(c);
    c = sim_crash(s, SIM_ALL, 0, 1);
    assert_string_equal(attribute(c, "f"), "one");
    sim_free(c);
    sim_fail(s, SIM_SYNC, 1, ERR_IO, false);
    assert_err(os_sync_all(os, fd), ERR_IO);
    assert_ok(os_sync_all(os, fd)); // does not make good what failed
    c = sim_crash(s, SIM_NONE, 0, 1);
    assert_string_equal(attribute(c, "f"), "none");
    sim_free(c);
    assert_ok(os_set_attribute(os, fd, "user.a", "two", 3));
    assert_ok(os_sync_all(os, fd));
    c = sim_clone(s);
    assert_string_equal(attribute(c, "f"), "two");
    sim_free(c);
    sim_fail(s, SIM_ATTRIBUTE, 1, ERR_UNSUPPORTED, false);
    assert_err(os_set_attribute(os, fd, "user.a", "no", 2), ERR_UNSUPPORTED);
    s = after(s, SIM_NONE, 0, 1);
    assert_string_equal(attribute(s, "f"), "two");
    sim_free(s);
}

// A name that was synced without the content: an empty file.
static void a_name_may_come_without_content(void **state)
{
    struct os_sim *s = machine();
    int fd = open_file(s, "f", OS_WRITE | OS_CREATE);
    fill(s, fd, 'a', 100, 0);
    assert_ok(os_sync_dir(sim_os(s), "/"));
    s = after(s, SIM_NONE, 0, 0);
    assert_int_equal(size_of(s, "f"), 0);
    sim_free(s);
}

static void directories_need_their_names_too(void **state)
{
    struct os_sim *s = machine();
    assert_ok(os_mkdir(sim_os(s), "d"));
    assert_ok(os_mkdir(sim_os(s), "d/e"));
    int fd = open_file(s, "d/e/f", OS_WRITE | OS_CREATE);
    fill(s, fd, 'a', 100, 0);
    assert_ok(os_sync(sim_os(s), fd));
    assert_ok(os_sync_dir(sim_os(s), "d/e"));
    assert_ok(os_sync_dir(sim_os(s), "d"));
    char names[100] = "";
    struct os_sim *c = sim_crash(s, SIM_NONE, 0, 0);
    assert_ok(os_list(sim_os(c), "/", note_name, names));
    assert_string_equal(names, "");
    assert_err(os_list(sim_os(c), "d", note_name, names), ERR_MISSING);
    sim_free(c);
    assert_ok(os_sync_dir(sim_os(s), "/"));
    s = after(s, SIM_NONE, 0, 0);
    assert_int_equal(byte_at(s, "d/e/f", 99), 'a');
    sim_free(s);
}

// Which of the names are there after a random crash, as bits, for many seeds; and what they hold.
static unsigned outcomes(struct os_sim *s, const char *a, const char *b, bool *held_old)
{
    unsigned seen = 0;
    *held_old = false;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct os_sim *c = sim_crash(s, SIM_RANDOM, 0, seed);
        bool has_a = exists(c, a), has_b = exists(c, b);
        seen |= 1u << (has_a + 2 * has_b);
        *held_old = *held_old || (has_b && byte_at(c, b, 0) == 'o');
        sim_free(c);
    }
    return seen;
}

static void a_rename_is_old_or_new(void **state)
{
    struct os_sim *s = machine();
    bool old;
    durable_file(s, "a", 'n', 10);
    assert_ok(os_rename(sim_os(s), "a", "b"));
    assert_int_equal(sim_pending(s), 1);
    assert_int_equal(outcomes(s, "a", "b", &old),
                     1 << 1 | 1 << 2); // one of them, never both or none
    assert_ok(os_sync_dir(sim_os(s), "/"));
    assert_int_equal(outcomes(s, "a", "b", &old), 1 << 2);
    sim_free(s);
}

static void a_replacing_rename_keeps_old_or_new(void **state)
{
    struct os_sim *s = machine();
    bool old;
    durable_file(s, "a", 'n', 10);
    durable_file(s, "b", 'o', 10);
    assert_ok(os_rename(sim_os(s), "a", "b"));
    assert_int_equal(byte_at(s, "b", 0), 'n');
    assert_int_equal(outcomes(s, "a", "b", &old), 1 << 2 | 1 << 3);
    assert_true(old);
    assert_ok(os_sync_dir(sim_os(s), "/"));
    assert_int_equal(outcomes(s, "a", "b", &old), 1 << 2);
    assert_false(old);
    sim_free(s);
}

static void an_unlink_may_not_have_happened(void **state)
{
    struct os_sim *s = machine();
    bool old;
    int fd = durable_file(s, "a", 'o', 10);
    durable_file(s, "b", 'o', 10);
    assert_ok(os_unlink(sim_os(s), "a"));
    assert_int_equal(outcomes(s, "a", "b", &old), 1 << 2 | 1 << 3);
    struct os_sim *c = sim_crash(s, SIM_NONE, 0, 0);
    assert_int_equal(byte_at(c, "a", 9), 'o');
    sim_free(c);
    assert_ok(os_sync_dir(sim_os(s), "/"));
    uint8_t byte;
    size_t got;
    assert_ok(os_pread(sim_os(s), fd, &byte, 1, 0, &got)); // still open
    assert_int_equal(byte, 'o');
    fill(s, fd, 'x', 10, 0);
    assert_ok(os_sync(sim_os(s), fd));
    assert_int_equal(outcomes(s, "a", "b", &old), 1 << 2);
    assert_ok(os_close(sim_os(s), fd));
    sim_free(s);
}

// Only the history still knows the file: it must last as long as its operations may survive.
static void a_file_made_and_unlinked_may_come_back(void **state)
{
    struct os_sim *s = machine();
    int fd = open_file(s, "f", OS_WRITE | OS_CREATE);
    fill(s, fd, 'a', 10, 0);
    assert_ok(os_close(sim_os(s), fd));
    assert_ok(os_unlink(sim_os(s), "f"));
    for (int i = 0; i < 40; i++) { // more files than the machine begins with
        char name[16];
        snprintf(name, sizeof name, "g%d", i);
        assert_ok(os_close(sim_os(s), open_file(s, name, OS_WRITE | OS_CREATE)));
    }
    struct os_sim *c = sim_crash(s, SIM_PREFIX, 3, 0);
    assert_int_equal(byte_at(c, "f", 9), 'a');
    sim_free(c);
    assert_ok(os_sync_dir(sim_os(s), "/")); // gone for good, its writes too
    assert_int_equal(sim_pending(s), 0);
    sim_free(s);
}

static void a_name_made_again_is_another_file(void **state)
{
    struct os_sim *s = machine();
    durable_file(s, "f", 'o', 10);
    assert_ok(os_unlink(sim_os(s), "f"));
    int fd = open_file(s, "f", OS_WRITE | OS_CREATE);
    fill(s, fd, 'n', 20, 0);
    assert_ok(os_sync(sim_os(s), fd));
    bool seen[3] = {0}; // none, old, new
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct os_sim *c = sim_crash(s, SIM_RANDOM, 0, seed);
        int byte = exists(c, "f") ? byte_at(c, "f", 0) : 0;
        assert_true(byte == 0 || (byte == 'o' && size_of(c, "f") == 10) ||
                    (byte == 'n' && size_of(c, "f") == 20));
        seen[byte == 0 ? 0 : byte == 'o' ? 1 : 2] = true;
        sim_free(c);
    }
    assert_true(seen[0] && seen[1] && seen[2]);
    sim_free(s);
}

static void prefix_and_single_walk_the_history(void **state)
{
    struct os_sim *s = machine();
    int a = durable_file(s, "a", '0', 100), b = durable_file(s, "b", '0', 100);
    fill(s, a, '1', 1, 0);
    fill(s, b, '2', 1, 0);
    assert_ok(os_rename(sim_os(s), "b", "c"));
    fill(s, a, '4', 1, 0);
    assert_int_equal(sim_pending(s), 4);
    static const struct {
        int a, b;
        const char *b_name;
    } prefix[] = {{'0', '0', "b"},
                  {'1', '0', "b"},
                  {'1', '2', "b"},
                  {'1', '2', "c"},
                  {'4', '2', "c"}},
      single[] = {{'1', '0', "b"}, {'0', '2', "b"}, {'0', '0', "c"}, {'4', '0', "b"}};
    for (uint64_t n = 0; n <= 4; n++) {
        struct os_sim *c = sim_crash(s, SIM_PREFIX, n, 0);
        assert_int_equal(byte_at(c, "a", 0), prefix[n].a);
        assert_int_equal(byte_at(c, prefix[n].b_name, 0), prefix[n].b);
        sim_free(c);
    }
    for (uint64_t n = 1; n <= 4; n++) {
        struct os_sim *c = sim_crash(s, SIM_SINGLE, n, 0);
        assert_int_equal(byte_at(c, "a", 0), single[n - 1].a);
        assert_int_equal(byte_at(c, single[n - 1].b_name, 0), single[n - 1].b);
        sim_free(c);
    }
    sim_free(s);
}

static void a_crash_is_all_durable(void **state)
{
    struct os_sim *s = machine();
    int fd = durable_file(s, "f", 'a', 4096);
    fill(s, fd, 'b', 4096, 2048);
    s = after(s, SIM_RANDOM, 0, 9);
    uint8_t first[6144], second[6144];
    size_t got, again;
    assert_ok(os_pread(sim_os(s), open_file(s, "f", OS_READ), first, sizeof first, 0, &got));
    s = after(s, SIM_NONE, 0, 10);
    assert_ok(os_pread(sim_os(s), open_file(s, "f", OS_READ), second, sizeof second, 0, &again));
    assert_int_equal(got, again);
    assert_memory_equal(first, second, got);
    sim_free(s);
}

static void a_clone_is_a_copy(void **state)
{
    struct os_sim *s = machine();
    int fd = durable_file(s, "f", 'a', 9000);
    fill(s, fd, 'b', 1000, 500);
    struct os_sim *c = sim_clone(s);
    assert_int_equal(sim_pending(c), sim_pending(s));
    assert_int_equal(sim_steps(c), sim_steps(s));
    int cfd = open_file(c, "f", OS_WRITE);
    fill(c, cfd, 'c', 9000, 0);
    assert_ok(os_sync(sim_os(c), cfd));
    assert_ok(os_unlink(sim_os(c), "f"));
    assert_int_equal(byte_at(s, "f", 0), 'a'); // neither sees the other's changes
    assert_int_equal(byte_at(s, "f", 500), 'b');
    fill(s, fd, 'd', 1, 0);
    c = after(c, SIM_NONE, 0, 0);
    assert_int_equal(byte_at(c, "f", 0), 'c');
    sim_free(c);
    s = after(s, SIM_NONE, 0, 0);
    assert_int_equal(byte_at(s, "f", 500), 'a');
    sim_free(s);
}

// ---- faults ----

static void power_goes_off_at_a_step(void **state)
{
    struct os_sim *s = machine();
    struct os *os = sim_os(s);
    int fd = open_file(s, "f", OS_WRITE | OS_CREATE);
    assert_int_equal(sim_steps(s), 1);
    sim_power_off_after(s, 2);
    assert_ok(os_pwrite(os, fd, "abc", 3, 0));
    assert_int_equal(byte_at(s, "f", 0), 'a');   // no step
    assert_err(os_unlink(os, "x"), ERR_MISSING); // nor that
    assert_false(sim_power_is_off(s));
    assert_ok(os_sync(os, fd));
    assert_true(sim_power_is_off(s));
    assert_int_equal(sim_steps(s), 3);
    uint8_t byte;
    size_t got;
    uint64_t n;
    int other;
    char names[100] = "";
    assert_err(os_pread(os, fd, &byte, 1, 0, &got), ERR_IO);
    assert_err(os_pwrite(os, fd, "x", 1, 0), ERR_IO);
    assert_err(os_sync(os, fd), ERR_IO);
    assert_err(os_size(os, fd, &n), ERR_IO);
    assert_err(os_allocate(os, fd, 1000), ERR_IO);
    assert_err(os_truncate(os, fd, 0), ERR_IO);
    assert_err(os_open(os, "g", OS_WRITE | OS_CREATE, &other), ERR_IO);
    assert_err(os_lock(os, "g", &other), ERR_IO);
    assert_err(os_rename(os, "f", "g"), ERR_IO);
    assert_err(os_unlink(os, "f"), ERR_IO);
    assert_err(os_mkdir(os, "d"), ERR_IO);
    assert_err(os_sync_dir(os, "/"), ERR_IO);
    assert_err(os_list(os, "/", note_name, names), ERR_IO);
    assert_err(os_disk_free(os, "/", &n), ERR_IO);
    assert_err(os_close(os, fd), ERR_IO);
    assert_int_equal(sim_steps(s), 3);
    assert_int_equal(sim_pending(s), 1);
    s = after(s, SIM_ALL, 0, 0);
    assert_false(sim_power_is_off(s));
    assert_int_equal(size_of(s, "f"), 3);
    sim_power_off_after(s, 0);
    assert_true(sim_power_is_off(s));
    sim_free(s);
}

static void the_nth_call_fails(void **state)
{
    struct os_sim *s = machine();
    struct os *os = sim_os(s);
    int fd = open_file(s, "f", OS_WRITE | OS_CREATE), other;
    sim_fail(s, SIM_SYNC, 2, ERR_IO, false);
    assert_ok(os_sync(os, fd));
    assert_err(os_sync(os, fd), ERR_IO);
    assert_int_equal(os_last_errno(), 0);
    assert_ok(os_sync(os, fd));
    sim_fail(s, SIM_ALLOCATE, 1, ERR_NO_SPACE, true);
    assert_err(os_allocate(os, fd, 100), ERR_NO_SPACE);
    assert_err(os_allocate(os, fd, 100), ERR_NO_SPACE);
    assert_int_equal(size_of(s, "f"), 0);
    static const enum sim_call calls[] = {SIM_OPEN,   SIM_PREAD, SIM_TRUNCATE, SIM_RENAME,
                                          SIM_UNLINK, SIM_MKDIR, SIM_SYNC_DIR};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        sim_fail(s, calls[i], 1, ERR_NO_MEMORY, false);
    uint8_t byte;
    size_t got;
    for (int round = 0; round < 2; round++) {
        enum err e = round == 0 ? ERR_NO_MEMORY : ERR_OK;
        assert_err(os_open(os, "f", OS_WRITE, &other), e);
        assert_err(os_pread(os, fd, &byte, 1, 0, &got), e);
        assert_err(os_truncate(os, fd, 0), e);
        assert_err(os_rename(os, "f", "g"), e);
        assert_err(os_mkdir(os, "d"), e);
        assert_err(os_sync_dir(os, "/"), e);
        assert_err(os_unlink(os, "g"), e);
    }
    sim_fail(s, SIM_ANY, 3, ERR_IO, true);
    char names[100] = "";
    assert_ok(os_list(os, "/", note_name, names));
    assert_ok(os_mkdir(os, "e"));
    assert_err(os_mkdir(os, "h"), ERR_IO);
    assert_err(os_list(os, "/", note_name, names), ERR_IO);
    sim_free(s);
}

static void a_failed_write_has_written_a_part(void **state)
{
    bool part_seen = false;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct os_sim *s = sim_new(seed);
        int fd = durable_file(s, "f", 'a', 2000);
        uint8_t data[2000];
        memset(data, 'b', sizeof data);
        sim_fail(s, SIM_PWRITE, 1, ERR_IO, false);
        assert_err(os_pwrite(sim_os(s), fd, data, sizeof data, 0), ERR_IO);
        uint64_t part = 0;
        while (byte_at(s, "f", part) == 'b')
            part++;
        for (uint64_t off = part; off < 2000; off += 100)
            assert_int_equal(byte_at(s, "f", off), 'a');
        part_seen = part_seen || (part > 0 && part < 2000);
        sim_free(s);
    }
    assert_true(part_seen);
}

// The first two sectors are lost by a failed sync; the third is written and synced after it.
static void a_failed_sync_marks_clean(void **state)
{
    struct os_sim *s = machine();
    int fd = durable_file(s, "f", 'a', 1536);
    fill(s, fd, 'b', 1024, 0);
    sim_fail(s, SIM_SYNC, 1, ERR_IO, false);
    assert_err(os_sync(sim_os(s), fd), ERR_IO);
    assert_int_equal(byte_at(s, "f", 0), 'b'); // still read from the cache
    fill(s, fd, 'c', 512, 1024);
    assert_ok(os_sync(sim_os(s), fd));
    assert_int_equal(sim_pending(s), 1);
    struct os_sim *c = sim_crash(s, SIM_NONE, 0, 0);
    assert_int_equal(byte_at(c, "f", 0), 'a');
    assert_int_equal(byte_at(c, "f", 1024), 'c');
    sim_free(c);
    c = sim_crash(s, SIM_ALL, 0, 0); // unsynced is not gone for certain
    assert_int_equal(byte_at(c, "f", 0), 'b');
    assert_int_equal(byte_at(c, "f", 1024), 'c');
    sim_free(c);
    c = sim_crash(s, SIM_PREFIX, sim_pending(s), 0); // what was synced does not count as pending
    assert_int_equal(byte_at(c, "f", 0), 'b');
    sim_free(c);
    fill(s, fd, 'e', 1, 1100);
    assert_int_equal(sim_pending(s), 2);
    c = sim_crash(s, SIM_SINGLE, 2, 0);
    assert_int_equal(byte_at(c, "f", 1100), 'e');
    sim_free(c);
    // What is written again is synced again, whatever comes of the older version.
    fill(s, fd, 'd', 512, 0);
    assert_ok(os_sync(sim_os(s), fd));
    for (uint64_t seed = 0; seed < 20; seed++) {
        c = sim_crash(s, SIM_RANDOM, 0, seed);
        assert_int_equal(byte_at(c, "f", 0), 'd');
        assert_true(byte_at(c, "f", 512) == 'a' || byte_at(c, "f", 512) == 'b');
        assert_int_equal(byte_at(c, "f", 1024), 'c');
        sim_free(c);
    }
    sim_free(s);
}

static void a_failed_directory_sync_marks_clean(void **state)
{
    struct os_sim *s = machine();
    assert_ok(os_close(sim_os(s), open_file(s, "a", OS_WRITE | OS_CREATE)));
    sim_fail(s, SIM_SYNC_DIR, 1, ERR_IO, false);
    assert_err(os_sync_dir(sim_os(s), "/"), ERR_IO);
    assert_ok(os_close(sim_os(s), open_file(s, "b", OS_WRITE | OS_CREATE)));
    assert_ok(os_sync_dir(sim_os(s), "/"));
    s = after(s, SIM_NONE, 0, 0);
    assert_false(exists(s, "a"));
    assert_true(exists(s, "b"));
    sim_free(s);
}

static void the_disk_has_a_capacity(void **state)
{
    struct os_sim *s = machine();
    struct os *os = sim_os(s);
    uint64_t bytes;
    sim_set_capacity(s, 10000);
    assert_ok(os_disk_free(os, "/", &bytes));
    assert_int_equal(bytes, 10000);
    int fd = open_file(s, "f", OS_WRITE | OS_CREATE);
    assert_ok(os_allocate(os, fd, 6000));
    int g = open_file(s, "g", OS_WRITE | OS_CREATE);
    assert_err(os_allocate(os, g, 4001), ERR_NO_SPACE);
    assert_int_equal(size_of(s, "g"), 0);
    fill(s, fd, 'a', 6000, 0); // what was allocated can be written
    fill(s, g, 'a', 3000, 0);
    uint8_t data[2000] = {1};
    assert_err(os_pwrite(os, g, data, sizeof data, 3000), ERR_NO_SPACE);
    assert_int_equal(size_of(s, "g"), 4000); // what fitted
    assert_ok(os_disk_free(os, "/", &bytes));
    assert_int_equal(bytes, 0);
    fill(s, g, 'b', 4000, 0); // overwriting takes no space
    assert_ok(os_unlink(os, "f"));
    assert_ok(os_disk_free(os, "/", &bytes));
    assert_int_equal(bytes, 0); // still open
    assert_ok(os_close(os, fd));
    assert_ok(os_disk_free(os, "/", &bytes));
    assert_int_equal(bytes, 6000);
    assert_ok(os_truncate(os, g, 1000));
    assert_ok(os_disk_free(os, "/", &bytes));
    assert_int_equal(bytes, 9000);
    assert_err(os_disk_free(os, "/x", &bytes), ERR_MISSING);
    assert_ok(os_sync(os, g));
    assert_ok(os_sync_dir(os, "/"));
    sim_set_capacity(s, 500); // less than is taken: what is there can be written, nothing more
    fill(s, g, 'c', 1000, 0);
    assert_err(os_pwrite(os, g, data, 100, 950), ERR_NO_SPACE);
    assert_int_equal(byte_at(s, "g", 950), data[0]);
    assert_int_equal(size_of(s, "g"), 1000);
    sim_set_capacity(s, 10000);
    int h = open_file(s, "h", OS_WRITE | OS_CREATE);
    fill(s, h, 'a', 300, 0);
    assert_ok(os_sync(os, h)); // but its name is lost by the crash
    struct os_sim *c = sim_crash(s, SIM_NONE, 0, 0);
    assert_ok(os_disk_free(sim_os(c), "/", &bytes));
    assert_int_equal(bytes, 9000);
    sim_free(c);
    c = sim_clone(s);
    assert_ok(os_rename(sim_os(c), "h", "g")); // no one has the old g open there
    assert_ok(os_disk_free(sim_os(c), "/", &bytes));
    assert_int_equal(bytes, 9700);
    sim_free(c);
    sim_free(s);
}

static void a_bit_flips(void **state)
{
    struct os_sim *s = machine();
    durable_file(s, "f", 'a', 5000);
    struct os_sim *twin = sim_clone(s);
    assert_ok(sim_flip_bit(s, "f", 4500 * 8 + 1));
    assert_int_equal(byte_at(s, "f", 4500), 'a' ^ 2);
    assert_int_equal(byte_at(s, "f", 4499), 'a');
    assert_int_equal(byte_at(twin, "f", 4500), 'a');
    assert_err(sim_flip_bit(s, "f", 5000 * 8), ERR_MISSING);
    assert_err(sim_flip_bit(s, "g", 0), ERR_MISSING);
    s = after(s, SIM_NONE, 0, 0);
    assert_int_equal(byte_at(s, "f", 4500), 'a' ^ 2);
    sim_free(s);
    sim_free(twin);
}

// ---- properties of random histories ----

enum { MODEL_SECTORS = 24, MODEL_SIZE = MODEL_SECTORS * 512, MODEL_VERSIONS = 400 };

// An independent account of one preallocated file: every version each sector has had.
struct model {
    uint8_t versions[MODEL_SECTORS][MODEL_VERSIONS][512];
    unsigned count[MODEL_SECTORS];
    unsigned synced[MODEL_SECTORS]; // the first version that may be found after a crash
};

static uint64_t random_below(struct os_sim *s, uint64_t n)
{
    uint64_t r;
    os_random(sim_os(s), &r, sizeof r);
    return r % n;
}

static void model_write(struct model *m, const uint8_t *p, size_t n, size_t off)
{
    for (size_t k = off / 512; k <= (off + n - 1) / 512; k++) {
        assert_true(m->count[k] < MODEL_VERSIONS);
        uint8_t *new = m->versions[k][m->count[k]];
        memcpy(new, m->versions[k][m->count[k] - 1], 512);
        for (size_t i = 0; i < 512; i++)
            if (k * 512 + i >= off && k * 512 + i < off + n)
                new[i] = p[k * 512 + i - off];
        m->count[k]++;
    }
}

static void model_check(const struct model *m, struct os_sim *c, enum sim_survival how)
{
    static uint8_t back[MODEL_SIZE];
    size_t got;
    int fd = open_file(c, "f", OS_READ);
    assert_ok(os_pread(sim_os(c), fd, back, sizeof back, 0, &got));
    assert_int_equal(got, MODEL_SIZE);
    for (unsigned k = 0; k < MODEL_SECTORS; k++) {
        unsigned from = how == SIM_ALL ? m->count[k] - 1 : m->synced[k];
        unsigned to = how == SIM_NONE ? m->synced[k] + 1 : m->count[k];
        bool known = false;
        for (unsigned v = from; v < to && !known; v++)
            known = memcmp(back + k * 512, m->versions[k][v], 512) == 0;
        assert_true(known);
    }
}

static void random_histories_stay_in_the_model(void **state)
{
    uint64_t seed;
    os_random(os_real(), &seed, sizeof seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    struct model *m = malloc(sizeof *m);
    assert_non_null(m);
    for (int round = 0; round < 30; round++) {
        struct os_sim *s = sim_new(seed + (uint64_t)round);
        int fd = durable_file(s, "f", 0, MODEL_SIZE);
        memset(m->synced, 0, sizeof m->synced);
        for (unsigned k = 0; k < MODEL_SECTORS; k++) {
            memset(m->versions[k][0], 0, 512);
            m->count[k] = 1;
        }
        for (int n = 0; n < 100; n++) {
            uint8_t data[3000];
            size_t len = 1 + random_below(s, random_below(s, 4) ? 300 : sizeof data);
            size_t off = random_below(s, MODEL_SIZE - len);
            os_random(sim_os(s), data, len);
            assert_ok(os_pwrite(sim_os(s), fd, data, len, off));
            model_write(m, data, len, off);
            if (random_below(s, 8) == 0) {
                assert_ok(os_sync(sim_os(s), fd));
                for (unsigned k = 0; k < MODEL_SECTORS; k++)
                    m->synced[k] = m->count[k] - 1;
            }
            for (int how = SIM_NONE; how <= SIM_SINGLE; how++) {
                uint64_t nth = random_below(s, sim_pending(s) + 1);
                struct os_sim *c = sim_crash(s, (enum sim_survival)how, nth, (uint64_t)n);
                model_check(m, c, (enum sim_survival)how);
                sim_free(c);
            }
        }
        sim_free(s);
    }
    free(m);
}

static void no_inode_has_two_names(void **state)
{
    uint64_t seed;
    os_random(os_real(), &seed, sizeof seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < 200; round++) {
        struct os_sim *s = sim_new(seed + (uint64_t)round);
        for (int n = 0; n < 40; n++) {
            char a[2] = {(char)('a' + random_below(s, 5)), 0},
                 b[2] = {(char)('a' + random_below(s, 5)), 0};
            int fd;
            switch (random_below(s, 4)) {
            case 0:
                if (os_open(sim_os(s), a, OS_WRITE | OS_CREATE | OS_EXCLUSIVE, &fd) == ERR_OK) {
                    fill(s, fd, n + 1, 1, 0); // each file its own content
                    assert_ok(os_sync(sim_os(s), fd));
                    assert_ok(os_close(sim_os(s), fd));
                }
                break;
            case 1:
                ERR_IGNORE(os_rename(sim_os(s), a, b)); // may be missing
                break;
            case 2:
                ERR_IGNORE(os_unlink(sim_os(s), a)); // may be missing
                break;
            case 3:
                if (random_below(s, 4) == 0)
                    assert_ok(os_sync_dir(sim_os(s), "/"));
                break;
            }
            struct os_sim *c = sim_crash(s, SIM_RANDOM, 0, (uint64_t)n);
            bool seen[256] = {0};
            for (char name[2] = "a"; name[0] < 'f'; name[0]++) {
                if (!exists(c, name))
                    continue;
                int byte = byte_at(c, name, 0);
                assert_true(byte > 0 && !seen[byte]);
                seen[byte] = true;
            }
            sim_free(c);
        }
        sim_free(s);
    }
}

// ---- threads ----

static void *hammer(void *arg)
{
    struct os_sim *s = arg;
    static _Atomic unsigned next;
    char name[16];
    snprintf(name, sizeof name, "t%u", next++);
    int fd;
    VERIFY(os_open(sim_os(s), name, OS_WRITE | OS_CREATE, &fd) == ERR_OK);
    for (int i = 0; i < 300; i++) {
        uint8_t data[100];
        os_random(sim_os(s), data, sizeof data);
        VERIFY(os_pwrite(sim_os(s), fd, data, sizeof data, (uint64_t)i * 50) == ERR_OK);
        if (i % 10 == 0)
            VERIFY(os_sync(sim_os(s), fd) == ERR_OK);
        if (i % 40 == 0) {
            struct os_sim *c = sim_crash(s, SIM_RANDOM, 0, (uint64_t)i);
            sim_free(c);
        }
    }
    VERIFY(os_close(sim_os(s), fd) == ERR_OK);
    return NULL;
}

static void calls_are_thread_safe(void **state)
{
    struct os_sim *s = machine();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, s), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    sim_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_read_what_was_written),
        cmocka_unit_test(open_follows_its_flags),
        cmocka_unit_test(directories_name_files),
        cmocka_unit_test(list_takes_calls_from_inside),
        cmocka_unit_test(locks_exclude),
        cmocka_unit_test(time_is_set_by_hand),
        cmocka_unit_test(random_follows_the_seed),
        cmocka_unit_test(what_was_synced_is_there),
        cmocka_unit_test(without_sync_none_or_all),
        cmocka_unit_test(each_sector_is_old_or_new),
        cmocka_unit_test(a_write_brings_only_its_own_sectors),
        cmocka_unit_test(a_sector_is_at_one_of_its_versions),
        cmocka_unit_test(a_file_may_grow_without_its_data),
        cmocka_unit_test(size_changes_survive_whole),
        cmocka_unit_test(a_synced_file_needs_its_name),
        cmocka_unit_test(attributes_are_durable_when_all_is_synced),
        cmocka_unit_test(a_name_may_come_without_content),
        cmocka_unit_test(directories_need_their_names_too),
        cmocka_unit_test(a_rename_is_old_or_new),
        cmocka_unit_test(a_replacing_rename_keeps_old_or_new),
        cmocka_unit_test(an_unlink_may_not_have_happened),
        cmocka_unit_test(a_file_made_and_unlinked_may_come_back),
        cmocka_unit_test(a_name_made_again_is_another_file),
        cmocka_unit_test(prefix_and_single_walk_the_history),
        cmocka_unit_test(a_crash_is_all_durable),
        cmocka_unit_test(a_clone_is_a_copy),
        cmocka_unit_test(power_goes_off_at_a_step),
        cmocka_unit_test(the_nth_call_fails),
        cmocka_unit_test(a_failed_write_has_written_a_part),
        cmocka_unit_test(a_failed_sync_marks_clean),
        cmocka_unit_test(a_failed_directory_sync_marks_clean),
        cmocka_unit_test(the_disk_has_a_capacity),
        cmocka_unit_test(a_bit_flips),
        cmocka_unit_test(random_histories_stay_in_the_model),
        cmocka_unit_test(no_inode_has_two_names),
        cmocka_unit_test(calls_are_thread_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
