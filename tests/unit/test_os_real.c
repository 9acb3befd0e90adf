#include "unit.h"
#include "tempdir.h"
#include "base/limits.h"
#include "base/os.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];

static int make_dir(void **state)
{
    tempdir_make(dir);
    return 0;
}

static int remove_dir(void **state)
{
    tempdir_remove(dir);
    return 0;
}

// dir/name; one of a few static buffers.
static const char *at(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *p = paths[next++ % 4];
    (void)snprintf(p, sizeof paths[0], "%s/%s", dir, name);
    return p;
}

static void write_sync_read_back(void **state)
{
    struct os *os = os_real();
    int fd;
    uint64_t size;
    size_t got;
    char b[32];
    assert_ok(os_open(os, at("f"), OS_WRITE | OS_CREATE, &fd));
    assert_ok(os_pwrite(os, fd, "hello", 5, 3));
    assert_ok(os_sync(os, fd));
    assert_ok(os_size(os, fd, &size));
    assert_int_equal(size, 8);
    assert_ok(os_pread(os, fd, b, sizeof b, 0, &got));
    assert_int_equal(got, 8);
    assert_memory_equal(b, "\0\0\0hello", 8);
    assert_ok(os_pread(os, fd, b, 3, 3, &got));
    assert_int_equal(got, 3);
    assert_ok(os_pread(os, fd, b, 3, 100, &got)); // past the end
    assert_int_equal(got, 0);
    assert_ok(os_truncate(os, fd, 4));
    assert_ok(os_size(os, fd, &size));
    assert_int_equal(size, 4);
    assert_ok(os_close(os, fd));
    struct stat st;
    assert_int_equal(stat(at("f"), &st), 0);
    assert_int_equal(st.st_mode & 077, 0); // for its owner only
}

static void attributes(void **state)
{
    struct os *os = os_real();
    int fd;
    size_t n;
    char b[8];
    assert_ok(os_open(os, at("f"), OS_WRITE | OS_CREATE, &fd));
    enum err e = os_set_attribute(os, fd, "user.varve.a", "12345", 5);
    if (e == ERR_UNSUPPORTED) {
        assert_err(os_get_attribute(os, fd, "user.varve.a", b, sizeof b, &n), ERR_UNSUPPORTED);
        assert_ok(os_close(os, fd));
        print_message("the file system of %s has no attributes\n", dir);
        return;
    }
    assert_ok(e);
    assert_ok(os_sync_all(os, fd));
    assert_ok(os_close(os, fd));
    assert_ok(os_rename(os, at("f"), at("g")));
    assert_ok(os_open(os, at("g"), OS_READ, &fd));
    assert_ok(os_get_attribute(os, fd, "user.varve.a", b, sizeof b, &n));
    assert_int_equal(n, 5);
    assert_memory_equal(b, "12345", 5);
    assert_err(os_get_attribute(os, fd, "user.varve.a", b, 4, &n), ERR_TOO_BIG);
    assert_err(os_get_attribute(os, fd, "user.varve.b", b, sizeof b, &n), ERR_MISSING);
    assert_int_equal(n, 0);
    assert_ok(os_close(os, fd));
    assert_ok(os_open(os, "/proc/self/stat", OS_READ, &fd)); // which has none
    assert_err(os_get_attribute(os, fd, "user.varve.a", b, sizeof b, &n), ERR_UNSUPPORTED);
    assert_ok(os_close(os, fd));
}

static void open_flags(void **state)
{
    struct os *os = os_real();
    int fd;
    uint64_t size;
    assert_err(os_open(os, at("f"), OS_READ, &fd), ERR_MISSING);
    assert_int_equal(os_last_errno(), ENOENT);
    assert_string_equal(os_last_error(), "No such file or directory");
    assert_ok(os_open(os, at("f"), OS_WRITE | OS_CREATE | OS_EXCLUSIVE, &fd));
    assert_ok(os_pwrite(os, fd, "x", 1, 0));
    assert_ok(os_close(os, fd));
    assert_err(os_open(os, at("f"), OS_WRITE | OS_CREATE | OS_EXCLUSIVE, &fd), ERR_EXISTS);
    assert_ok(os_open(os, at("f"), OS_READ, &fd));
    assert_err(os_pwrite(os, fd, "x", 1, 0), ERR_IO); // opened for reading
    assert_ok(os_close(os, fd));
    assert_ok(os_open(os, at("f"), OS_WRITE | OS_TRUNCATE, &fd));
    assert_ok(os_size(os, fd, &size));
    assert_int_equal(size, 0);
    assert_ok(os_close(os, fd));
    assert_err(os_close(os, fd), ERR_IO);
}

static void allocate_grows_with_zeros_and_keeps_content(void **state)
{
    struct os *os = os_real();
    int fd;
    uint64_t size;
    size_t got;
    char b[4] = "????";
    assert_ok(os_open(os, at("f"), OS_WRITE | OS_CREATE, &fd));
    assert_ok(os_pwrite(os, fd, "abc", 3, 0));
    assert_ok(os_allocate(os, fd, 1 << 20));
    assert_ok(os_size(os, fd, &size));
    assert_int_equal(size, 1 << 20);
    assert_ok(os_pread(os, fd, b, 4, 0, &got));
    assert_memory_equal(b, "abc\0", 4);
    assert_ok(os_pread(os, fd, b, 4, (1 << 20) - 4, &got));
    assert_memory_equal(b, "\0\0\0\0", 4);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(st.st_blocks * 512 >= 1 << 20); // really reserved
    assert_ok(os_allocate(os, fd, 10));         // smaller: nothing happens
    assert_ok(os_allocate(os, fd, 0));
    assert_ok(os_size(os, fd, &size));
    assert_int_equal(size, 1 << 20);
    assert_ok(os_close(os, fd));
}

static void count_name(void *arg, const char *name)
{
    unsigned *seen = arg;
    *seen |= strcmp(name, "a") == 0 ? 1u : strcmp(name, "d") == 0 ? 2u : 4u;
}

static void directories(void **state)
{
    struct os *os = os_real();
    int fd;
    unsigned seen = 0;
    assert_ok(os_mkdir(os, at("d")));
    assert_err(os_mkdir(os, at("d")), ERR_EXISTS);
    assert_ok(os_open(os, at("b"), OS_WRITE | OS_CREATE, &fd));
    assert_ok(os_close(os, fd));
    assert_ok(os_rename(os, at("b"), at("a")));
    assert_err(os_rename(os, at("b"), at("a")), ERR_MISSING);
    assert_err(os_rename_new(os, at("a"), at("a")), ERR_EXISTS);
    assert_err(os_rename_new(os, at("a"), at("d")), ERR_EXISTS);
    assert_ok(os_rename_new(os, at("a"), at("b")));
    assert_err(os_rename_new(os, at("a"), at("c")), ERR_MISSING);
    assert_ok(os_rename(os, at("b"), at("a")));
    struct os_stat st;
    assert_ok(os_stat(os, at("a"), &st));
    assert_true(!st.is_dir && st.size == 0);
    assert_ok(os_stat(os, at("d"), &st));
    assert_true(st.is_dir);
    assert_err(os_stat(os, at("b"), &st), ERR_MISSING);
    assert_ok(os_sync_dir(os, dir));
    assert_err(os_sync_dir(os, at("none")), ERR_MISSING);
    assert_ok(os_list(os, dir, count_name, &seen));
    assert_int_equal(seen, 3);
    assert_err(os_list(os, at("none"), count_name, &seen), ERR_MISSING);
    assert_ok(os_unlink(os, at("a")));
    assert_err(os_unlink(os, at("a")), ERR_MISSING);
    uint64_t bytes = 0;
    assert_ok(os_disk_free(os, dir, &bytes));
    assert_err(os_disk_free(os, at("none"), &bytes), ERR_MISSING);
}

static void a_lock_ends_with_close_or_the_process(void **state)
{
    struct os *os = os_real();
    int fd, other;
    assert_ok(os_lock(os, at("LOCK"), &fd));
    assert_err(os_lock(os, at("LOCK"), &other), ERR_IN_USE);
    assert_ok(os_close(os, fd));
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        char ok = os_lock(os, at("LOCK"), &fd) == ERR_OK;
        if (write(ready[1], &ok, 1) == 1)
            pause();
        _exit(1);
    }
    char ok = 0;
    assert_int_equal(read(ready[0], &ok, 1), 1);
    assert_int_equal(ok, 1);
    assert_err(os_lock(os, at("LOCK"), &fd), ERR_IN_USE);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_ok(os_lock(os, at("LOCK"), &fd));
    assert_ok(os_close(os, fd));
    close(ready[0]);
    close(ready[1]);
}

static void a_full_disk_has_its_own_error(void **state)
{
    struct os *os = os_real();
    int fd;
    if (access("/dev/full", W_OK) != 0) {
        print_message("SKIPPED: this machine has no /dev/full\n");
        skip();
    }
    assert_ok(os_open(os, "/dev/full", OS_WRITE, &fd));
    assert_err(os_pwrite(os, fd, "x", 1, 0), ERR_NO_SPACE);
    assert_int_equal(os_last_errno(), ENOSPC);
    assert_ok(os_close(os, fd));
}

static void read_file(void **state)
{
    struct os *os = os_real();
    uint8_t *data;
    size_t n;
    assert_err(os_read_file(os, at("f"), 10, &data, &n), ERR_MISSING);
    assert_ok(os_replace_file(os, dir, "f", "0123456789", 10));
    assert_err(os_read_file(os, at("f"), 9, &data, &n), ERR_TOO_BIG);
    assert_null(data);
    assert_ok(os_read_file(os, at("f"), 10, &data, &n));
    assert_int_equal(n, 10);
    assert_string_equal((const char *)data, "0123456789"); // NUL-terminated
    free(data);
    assert_ok(os_replace_file(os, dir, "f", NULL, 0));
    assert_ok(os_read_file(os, at("f"), 10, &data, &n));
    assert_int_equal(n, 0);
    assert_int_equal(*data, 0);
    free(data);
}

static void replace_file_leaves_no_temporary(void **state)
{
    struct os *os = os_real();
    uint8_t *data;
    size_t n;
    // What an interrupted replace left behind, longer than the new content.
    assert_ok(os_replace_file(os, dir, "f.tmp", "left over and long", 18));
    assert_ok(os_replace_file(os, dir, "f", "old", 3));
    assert_ok(os_replace_file(os, dir, "f", "new!", 4));
    assert_ok(os_read_file(os, at("f"), 100, &data, &n));
    assert_int_equal(n, 4);
    assert_memory_equal(data, "new!", 4);
    free(data);
    assert_int_equal(access(at("f.tmp"), F_OK), -1);

    assert_ok(os_mkdir(os, at("d")));
    assert_err(os_replace_file(os, dir, "d", "x", 1), ERR_IO); // a directory is in the way
    assert_int_equal(access(at("d.tmp"), F_OK), -1);
    assert_err(os_replace_file(os, at("none"), "f", "x", 1), ERR_MISSING);
    char name[LIMIT_PATH + 1];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    assert_err(os_replace_file(os, dir, name, "x", 1), ERR_TOO_BIG);
}

static void time_and_randomness(void **state)
{
    struct os *os = os_real();
    uint64_t a = os_mono_ns(os);
    os_sleep_us(os, 2000);
    assert_true(os_mono_ns(os) - a >= 2000000);
    assert_true(os_wall_ms(os) > 1700000000000u); // after 2023
    uint8_t x[600] = {0}, y[600] = {0};
    os_random(os, x, sizeof x);
    os_random(os, y, sizeof y);
    assert_memory_not_equal(x, y, sizeof x);
    assert_memory_not_equal(x + 568, y + 568, 32); // to the last byte
    os_random(os, x, 0);
}

static void what_the_process_uses(void **state)
{
    struct os_usage u, more;
    os_usage(&u);
    assert_true(u.rss_bytes > 100000);
    assert_true(u.open_fds >= 3);
    int fd;
    assert_ok(os_open(os_real(), at("f"), OS_WRITE | OS_CREATE, &fd));
    os_usage(&more);
    assert_int_equal(more.open_fds, u.open_fds + 1);
    assert_ok(os_close(os_real(), fd));
    assert_true(os_cpus() >= 1);
    assert_null(os_env("VARVE_TEST_NOT_THERE"));
    setenv("VARVE_TEST_THERE", "yes", 1);
    assert_string_equal(os_env("VARVE_TEST_THERE"), "yes");
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIR(write_sync_read_back),
        IN_DIR(attributes),
        IN_DIR(open_flags),
        IN_DIR(allocate_grows_with_zeros_and_keeps_content),
        IN_DIR(directories),
        IN_DIR(a_lock_ends_with_close_or_the_process),
        IN_DIR(a_full_disk_has_its_own_error),
        IN_DIR(read_file),
        IN_DIR(replace_file_leaves_no_temporary),
        cmocka_unit_test(time_and_randomness),
        IN_DIR(what_the_process_uses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
