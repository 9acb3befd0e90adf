// The directory store: on the simulated machine, with the power failing at each step, and on the
// real one.
#include "unit.h"
#include "base/hash.h"
#include "base/os_sim.h"
#include "object/object.h"
#include "tempdir.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct object_store *open_in(struct os *os, const char *dir, const char *prefix)
{
    struct object_store *s;
    struct errmsg msg = {""};
    struct object_options o = {.os = os, .kind = OBJECT_DIRECTORY, .dir = dir, .prefix = prefix};
    enum err e = object_open(&s, &o, &msg);
    if (e != ERR_OK)
        print_error("%s\n", msg.text);
    assert_ok(e);
    return s;
}

static enum err put(struct object_store *s, const char *name, const char *text, bool absent)
{
    size_t n = strlen(text);
    struct slice parts[] = {slice_of(text, n / 2), slice_of(text, 0),
                            slice_of(text + n / 2, n - n / 2)};
    struct object_call c = {.op = absent ? OBJECT_PUT_ABSENT : OBJECT_PUT,
                            .name = name,
                            .parts = parts,
                            .count = 3,
                            .sum = {true, crc32c(0, text, n)}};
    return object_run(s, &c, 1);
}

static struct object_sum got; // what the last get gave

// The object's text, "(ERROR)" if there is none; valid until the next call.
static const char *get(struct object_store *s, const char *name)
{
    static char text[256];
    struct buf b;
    buf_init(&b, 200);
    struct object_call c = {.op = OBJECT_GET, .name = name, .out = &b};
    enum err e = object_run(s, &c, 1);
    got = c.sum;
    if (e != ERR_OK)
        snprintf(text, sizeof text, "(%s)", err_name(e));
    else
        snprintf(text, sizeof text, "%.*s", (int)buf_len(&b), (const char *)buf_head(&b));
    buf_release(&b);
    return text;
}

static bool add(void *arg, const char *name, uint64_t size)
{
    char *text = arg;
    size_t n = strlen(text);
    snprintf(text + n, 1000 - n, "%s:%u ", name, (unsigned)size);
    return true;
}

// "name:size name:size ", valid until the next call.
static const char *list(struct object_store *s, const char *prefix, const char *after, uint64_t max)
{
    static char text[1000];
    text[0] = 0;
    assert_ok(object_list(s, prefix, after, max, add, text, NULL));
    return text;
}

static void objects_come_and_go(struct object_store *s)
{
    uint64_t size;
    struct errmsg msg;
    assert_string_equal(get(s, "a/b/c"), "(MISSING)");
    assert_err(object_head(s, "a/b/c", &size, &msg), ERR_MISSING);
    assert_ok(object_delete(s, "a/b/c", &msg));
    assert_ok(object_delete(s, "c", &msg));
    assert_ok(put(s, "a/b/c", "hello", false));
    assert_string_equal(get(s, "a/b/c"), "hello");
    assert_string_equal(get(s, "a/b"), "(MISSING)"); // a directory is no object
    assert_string_equal(get(s, "a/b/c/d"), "(MISSING)");
    assert_ok(object_delete(s, "a/b/c/d", &msg));
    assert_ok(object_delete(s, "a/b/c/d/e", &msg));
    assert_ok(object_head(s, "a/b/c", &size, &msg));
    assert_int_equal(size, 5);
    assert_ok(put(s, "a/b/c", "", false));
    assert_string_equal(get(s, "a/b/c"), "");
    assert_ok(put(s, "a/b/c", "second", false));
    assert_err(put(s, "a/b/c", "third", true), ERR_EXISTS);
    assert_string_equal(get(s, "a/b/c"), "second");
    assert_ok(put(s, "x", "third", true));
    assert_string_equal(get(s, "x"), "third");
    assert_ok(object_delete(s, "x", &msg));
    assert_string_equal(get(s, "x"), "(MISSING)");
    assert_string_equal(list(s, "", NULL, 0), "a/b/c:6 ");
    assert_true(put(s, "a/b/c/d", "no", false) != ERR_OK); // an object is no directory
    assert_string_equal(list(s, "", NULL, 0), "a/b/c:6 ");
    struct object_stats stats;
    object_get_stats(s, &stats);
    assert_int_equal(stats.put, 6);
    assert_int_equal(stats.delete, 5);
    assert_int_equal(stats.list, 2);
    assert_int_equal(stats.failed, 1);
    assert_int_equal(stats.bytes_out, 5 + 6 + 5);
}

static void in_the_simulation(void **state)
{
    struct os_sim *sim = sim_new(1);
    struct object_store *s = open_in(sim_os(sim), "/store/", "");
    objects_come_and_go(s);
    object_close(s);
    sim_free(sim);
}

static void on_the_machine(void **state)
{
    char dir[64], below[64 + 8];
    tempdir_make(dir);
    snprintf(below, sizeof below, "%s/store", dir);
    struct object_store *s = open_in(os_real(), below, "pre/fix");
    objects_come_and_go(s);
    object_close(s);
    s = open_in(os_real(), below, "");
    assert_string_equal(list(s, "", NULL, 0), "pre/fixa/b/c:6 ");
    object_close(s);
    tempdir_remove(dir);
}

static void ranges(void **state)
{
    struct os_sim *sim = sim_new(1);
    struct object_store *s = open_in(sim_os(sim), "/store", "");
    assert_ok(put(s, "o", "0123456789", false));
    static const struct {
        uint64_t offset, length;
        const char *text;
    } all[] = {{0, 10, "0123456789"}, {0, UINT64_MAX, "0123456789"}, {3, 4, "3456"}, {8, 5, "89"},
               {10, 1, ""},           {UINT64_MAX, UINT64_MAX, ""},  {4, 0, ""}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct buf b;
        buf_init(&b, 100);
        struct object_call c = {.op = OBJECT_GET_RANGE,
                                .name = "o",
                                .offset = all[i].offset,
                                .length = all[i].length,
                                .out = &b};
        assert_ok(object_run(s, &c, 1));
        assert_int_equal(c.size, 10);
        assert_true(slice_equal(buf_slice(&b), slice_str(all[i].text)));
        buf_release(&b);
    }
    struct buf b;
    struct errmsg msg;
    buf_init(&b, 9);
    assert_ok(buf_append(&b, "x", 1));
    assert_err(object_get(s, "o", &b, &msg), ERR_TOO_BIG);
    assert_int_equal(buf_len(&b), 1);
    assert_err(object_get_range(s, "p", 0, 1, &b, &msg), ERR_MISSING);
    buf_release(&b);
    object_close(s);
    sim_free(sim);
}

static void put_plain(struct object_store *s, const char *name)
{
    struct errmsg msg;
    struct slice part = slice_str("plain");
    assert_ok(object_put(s, name, &part, 1, &msg));
}

static void sums(void **state)
{
    struct os_sim *sim = sim_new(1);
    struct object_store *s = open_in(sim_os(sim), "/store", "");
    assert_ok(put(s, "o", "text", true));
    assert_string_equal(get(s, "o"), "text");
    assert_true(got.there && got.crc32c == crc32c(0, "text", 4));
    assert_err(put(s, "o", "other", true), ERR_EXISTS);
    assert_string_equal(get(s, "o"), "text");
    assert_true(got.crc32c == crc32c(0, "text", 4)); // the one that stayed
    assert_ok(put(s, "o", "", false));
    assert_string_equal(get(s, "o"), "");
    assert_true(got.there && got.crc32c == 0);
    put_plain(s, "o");
    assert_string_equal(get(s, "o"), "plain");
    assert_false(got.there); // that of the one before is gone with it
    struct buf b;
    buf_init(&b, 10);
    assert_ok(put(s, "o", "0123456789", false));
    struct object_call c = {
        .op = OBJECT_GET_RANGE, .name = "o", .offset = 2, .length = 3, .out = &b};
    assert_ok(object_run(s, &c, 1));
    assert_true(c.sum.there && c.sum.crc32c == crc32c(0, "0123456789", 10)); // the whole one's
    buf_release(&b);
    object_close(s);
    sim_free(sim);
}

static void sums_that_are_none(void **state)
{
    static const char *const bad[] = {"", "1234567", "123456789", "0123456g", "+1234567"};
    struct os_sim *sim = sim_new(1);
    struct object_store *s = open_in(sim_os(sim), "/store", "");
    assert_ok(put(s, "o", "text", true));
    for (size_t i = 0; i <= sizeof bad / sizeof *bad; i++) {
        int fd;
        const char *text = i < sizeof bad / sizeof *bad ? bad[i] : "89ABCdef";
        assert_ok(os_open(sim_os(sim), "/store/o", OS_WRITE, &fd));
        assert_ok(os_set_attribute(sim_os(sim), fd, "user.varve.crc32c", text, strlen(text)));
        assert_ok(os_close(sim_os(sim), fd));
        assert_string_equal(get(s, "o"), i < sizeof bad / sizeof *bad ? "(DAMAGED)" : "text");
    }
    assert_true(got.crc32c == 0x89abcdef);
    sim_fail(sim, SIM_ATTRIBUTE, 1, ERR_IO, false);
    assert_string_equal(get(s, "o"), "(IO)");
    sim_fail(sim, SIM_ATTRIBUTE, 1, ERR_NO_SPACE, false);
    assert_err(put(s, "p", "text", true), ERR_NO_SPACE);
    assert_string_equal(list(s, "", NULL, 0), "o:4 ");
    object_close(s);
    sim_free(sim);
}

static void a_file_system_without_attributes(void **state)
{
    struct os_sim *sim = sim_new(1);
    struct object_store *s = open_in(sim_os(sim), "/store", "");
    struct object_guarantees g;
    struct errmsg msg;
    assert_ok(object_probe(s, &g, &msg));
    assert_true(g.sums);
    sim_fail(sim, SIM_ATTRIBUTE, 1, ERR_UNSUPPORTED, true);
    assert_ok(put(s, "o", "text", true));
    assert_string_equal(get(s, "o"), "text");
    assert_false(got.there);
    assert_ok(object_probe(s, &g, &msg));
    assert_true(!g.sums && g.put_absent && g.read_after_put);
    assert_string_equal(msg.text, "");
    object_close(s);
    sim_free(sim);
}

static void names_are_checked(void **state)
{
    struct os_sim *sim = sim_new(1);
    struct object_store *s = open_in(sim_os(sim), "/store", "");
    char longest[OBJECT_NAME_MAX + 2];
    static const char *const bad[] = {"",     "/",    "/a",   "a/",   "a//b",
                                      "..",   "a/..", ".",    "./a",  "a/./b",
                                      "../a", "a\nb", "\x7f", "\xff", "a/%tmp-0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_err(put(s, bad[i], "x", false), ERR_INVALID);
        assert_string_equal(get(s, bad[i]), "(INVALID)");
    }
    memset(longest, 'a', sizeof longest);
    longest[OBJECT_NAME_MAX + 1] = 0;
    assert_err(put(s, longest, "x", false), ERR_TOO_BIG);
    longest[OBJECT_NAME_MAX] = 0;
    assert_err(put(s, longest, "x", false), ERR_TOO_BIG); // as one part
    for (size_t i = OBJECT_PART_MAX; i < OBJECT_NAME_MAX; i += OBJECT_PART_MAX + 1)
        longest[i] = '/';
    longest[OBJECT_NAME_MAX - 1] = 'a';
    longest[OBJECT_NAME_MAX - 3] = '/';
    assert_ok(put(s, longest, "long", false));
    assert_string_equal(get(s, longest), "long");
    assert_ok(put(s, "..a/...", "dots", false));
    assert_string_equal(get(s, "..a/..."), "dots");
    object_close(s);
    struct object_options o = {.os = sim_os(sim), .dir = "/store", .prefix = "../"};
    struct errmsg msg;
    assert_err(object_open(&s, &o, &msg), ERR_INVALID);
    assert_non_null(strstr(msg.text, "object_prefix \"../\""));
    sim_free(sim);
}

// ---- listing against a model

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const char *model(const char **names, size_t n, const char *prefix, const char *after,
                         uint64_t max)
{
    static char text[1000];
    text[0] = 0;
    for (size_t i = 0; i < n && max; i++)
        if (strncmp(names[i], prefix, strlen(prefix)) == 0 && strcmp(names[i], after) > 0) {
            add(text, names[i], 1);
            max--;
        }
    return text;
}

static void listings_are_in_order(void **state)
{
    struct os_sim *sim = sim_new(1);
    struct object_store *s = open_in(sim_os(sim), "/store", "");
    // What lies around '/' (0x2f): a directory's names stand among files'.
    const char *names[] = {"a",      "a-b",  "a!/x", "b/x",    "b-/x",    "b.",    "b/",
                           "b/x2/y", "b/x-", "b0",   "b0/c/d", "c/d/e/f", "c/d/e", "c\xc3\xa9/x"};
    size_t n = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (put(s, names[i], "1", false) == ERR_OK) // some are both: only one of the two can be
            names[n++] = names[i];
    assert_true(n >= 10);
    qsort(names, n, sizeof *names, by_text);
    static const char *const prefixes[] = {"",   "a",   "b",    "b/", "b/x",
                                           "b-", "c/d", "c/d/", "z",  "b0/c"};
    static const char *const afters[] = {"",   "a",  "a-",     "b",       "b/",  "b/x", "b/x/",
                                         "b.", "b0", "b/x2/y", "c/d/e/f", "c/e", "z"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        for (size_t j = 0; j < sizeof afters / sizeof *afters; j++)
            for (uint64_t max = 1; max < 20; max += 3)
                assert_string_equal(list(s, prefixes[i], afters[j], max),
                                    model(names, n, prefixes[i], afters[j], max));
    object_close(s);
    sim_free(sim);
}

static bool stop_after_two(void *arg, const char *name, uint64_t size)
{
    return ++*(int *)arg < 2;
}

static void a_listing_can_be_stopped(void **state)
{
    struct os_sim *sim = sim_new(1);
    struct object_store *s = open_in(sim_os(sim), "/store", "p/");
    int seen = 0;
    const char *names[] = {"a", "b/c", "d", "e"};
    for (size_t i = 0; i < 4; i++)
        assert_ok(put(s, names[i], "1", false));
    assert_ok(object_list(s, "", NULL, 0, stop_after_two, &seen, NULL));
    assert_int_equal(seen, 2);
    assert_string_equal(list(s, "", "a", 2), "b/c:1 d:1 ");
    object_close(s);
    sim_free(sim);
}

static void old_temporaries_go(void **state)
{
    struct os_sim *sim = sim_new(1);
    struct os *os = sim_os(sim);
    sim_set_wall_ms(sim, 1000000);
    struct object_store *s = open_in(os, "/store", "");
    assert_ok(put(s, "a", "1", false));
    sim_fail(sim, SIM_UNLINK, 1, ERR_IO, false);
    sim_fail(sim, SIM_SYNC, 1, ERR_IO, false);
    assert_err(put(s, "b", "1", false), ERR_IO); // and leaves its temporary
    assert_string_equal(list(s, "", NULL, 0), "a:1 ");
    uint64_t before = sim_steps(sim);
    sim_advance_ms(sim, 86400000 - 1000);
    assert_string_equal(list(s, "", NULL, 0), "a:1 ");
    assert_true(sim_steps(sim) == before);
    sim_advance_ms(sim, 2000);
    assert_string_equal(list(s, "", NULL, 0), "a:1 ");
    assert_true(sim_steps(sim) == before + 1); // unlinked
    object_close(s);
    sim_free(sim);
}

// ---- the power fails

enum { STEPS = 5 };

// The same puts and deletes each time; returns how many were answered with success.
static int history(struct object_store *s)
{
    int done = 0;
    for (;; done++) {
        enum err e = done == 0   ? put(s, "k/one", "first", true)
                     : done == 1 ? put(s, "k/l/two", "second", false)
                     : done == 2 ? put(s, "k/one", "changed", false)
                     : done == 3 ? put(s, "k/three", "third", true)
                     : done == 4 ? object_delete(s, "k/l/two", NULL)
                                 : ERR_CLOSED;
        if (e != ERR_OK)
            return done;
    }
}

// What each name may be after `done` steps were answered, and one more perhaps carried out.
static void check_after(struct object_store *s, int done)
{
    static const char *const one[] = {"(MISSING)", "first",   "first",
                                      "changed",   "changed", "changed"};
    static const char *const two[] = {"(MISSING)", "(MISSING)", "second",
                                      "second",    "second",    "(MISSING)"};
    static const char *const three[] = {"(MISSING)", "(MISSING)", "(MISSING)",
                                        "(MISSING)", "third",     "third"};
    int next = done < STEPS ? done + 1 : done;
    const char *const *all[] = {one, two, three}, *names[] = {"k/one", "k/l/two", "k/three"};
    for (int i = 0; i < 3; i++) {
        const char *is = get(s, names[i]);
        bool good = strcmp(is, all[i][done]) == 0 || strcmp(is, all[i][next]) == 0;
        if (!good)
            print_error("after %d: %s is %s\n", done, names[i], is);
        assert_true(good);
        if (*is != '(') // a file never comes without it
            assert_true(got.there && got.crc32c == crc32c(0, is, strlen(is)));
    }
}

static void crash_here(uint64_t steps)
{
    for (int how = SIM_NONE; how <= SIM_SINGLE; how++)
        for (uint64_t detail = 0; detail < 12; detail++) {
            struct os_sim *sim = sim_new(7);
            struct object_store *s = open_in(sim_os(sim), "/store", "");
            sim_power_off_after(sim, steps);
            int done = history(s);
            object_close(s);
            uint64_t pending = sim_pending(sim);
            struct os_sim *after =
                sim_crash(sim, (enum sim_survival)how, detail < pending ? detail : pending, detail);
            sim_free(sim);
            s = open_in(sim_os(after), "/store", "");
            check_after(s, done);
            // What is listed is whole: sizes are those of a version.
            const char *names = list(s, "", NULL, 0);
            assert_null(strstr(names, ":0"));
            assert_null(strstr(names, "tmp"));
            object_close(s);
            sim_free(after);
        }
}

static void what_was_answered_survives_any_crash(void **state)
{
    struct os_sim *sim = sim_new(7);
    struct object_store *s = open_in(sim_os(sim), "/store", "");
    uint64_t before = sim_steps(sim);
    assert_int_equal(history(s), STEPS);
    uint64_t steps = sim_steps(sim) - before;
    object_close(s);
    sim_free(sim);
    assert_true(steps > 20);
    for (uint64_t i = 0; i <= steps; i++)
        crash_here(i);
}

static void each_call_fails_once(void **state)
{
    for (uint64_t nth = 1;; nth++) {
        struct os_sim *sim = sim_new(7);
        struct object_store *s = open_in(sim_os(sim), "/store", "");
        sim_fail(sim, SIM_ANY, nth, ERR_IO, false);
        int done = history(s);
        if (done == STEPS) { // the fault lies beyond
            object_close(s);
            sim_free(sim);
            assert_true(nth > 20);
            return;
        }
        check_after(s, done);
        struct errmsg msg;
        struct slice part = slice_str("later");
        assert_ok(object_put(s, "k/later", &part, 1, &msg)); // it goes on
        assert_string_equal(get(s, "k/later"), "later");
        object_close(s);
        sim_free(sim);
    }
}

static void a_full_disk_is_told(void **state)
{
    struct os_sim *sim = sim_new(7);
    struct object_store *s = open_in(sim_os(sim), "/store", "");
    struct errmsg msg = {""};
    static uint8_t data[64 << 10];
    struct slice part = slice_of(data, sizeof data);
    sim_set_capacity(sim, 32 << 10);
    assert_err(object_put(s, "big", &part, 1, &msg), ERR_NO_SPACE);
    assert_non_null(strstr(msg.text, "\"big\""));
    assert_string_equal(get(s, "big"), "(MISSING)");
    assert_ok(put(s, "small", "fits", false)); // the temporary is gone
    object_close(s);
    sim_free(sim);
}

// ---- racing

#define RACERS 4
#define RACES  50

struct racer {
    const char *dir;
    int id;
    int won[RACES];
};

static void *race(void *arg)
{
    struct racer *r = arg;
    struct object_store *s = open_in(os_real(), r->dir, ""); // as other processes do
    char name[16], text[16];
    snprintf(text, sizeof text, "racer %d", r->id);
    for (int i = 0; i < RACES; i++) {
        snprintf(name, sizeof name, "d%d/o", i);
        enum err e = put(s, name, text, true);
        assert_true(e == ERR_OK || e == ERR_EXISTS);
        r->won[i] = e == ERR_OK;
    }
    object_close(s);
    return NULL;
}

static void of_racing_writers_one_wins(void **state)
{
    char dir[64];
    tempdir_make(dir);
    struct racer racers[RACERS];
    pthread_t threads[RACERS];
    for (int i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){.dir = dir, .id = i};
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < RACERS; i++)
        pthread_join(threads[i], NULL);
    struct object_store *s = open_in(os_real(), dir, "");
    for (int i = 0; i < RACES; i++) {
        char name[16], text[16] = "";
        int winners = 0;
        for (int j = 0; j < RACERS; j++)
            if (racers[j].won[i]) {
                winners++;
                snprintf(text, sizeof text, "racer %d", j);
            }
        assert_int_equal(winners, 1);
        snprintf(name, sizeof name, "d%d/o", i);
        assert_string_equal(get(s, name), text);
    }
    struct object_guarantees g;
    struct errmsg msg;
    assert_ok(object_probe(s, &g, &msg));
    assert_string_equal(msg.text, "");
    assert_true(g.put_absent && g.list_after_put && g.read_after_put && g.ranges &&
                g.list_in_order && g.sums);
    object_close(s);
    tempdir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_the_simulation),
        cmocka_unit_test(on_the_machine),
        cmocka_unit_test(ranges),
        cmocka_unit_test(sums),
        cmocka_unit_test(sums_that_are_none),
        cmocka_unit_test(a_file_system_without_attributes),
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(listings_are_in_order),
        cmocka_unit_test(a_listing_can_be_stopped),
        cmocka_unit_test(old_temporaries_go),
        cmocka_unit_test(what_was_answered_survives_any_crash),
        cmocka_unit_test(each_call_fails_once),
        cmocka_unit_test(a_full_disk_is_told),
        cmocka_unit_test(of_racing_writers_one_wins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
