// The input of an import: what comes out in batches is what is in the file, wherever blocks and
// batches end; bad lines end it or are counted; a place is one that another run can begin at.
#include "unit.h"

#include "base/os.h"
#include "cli/rel_source.h"
#include "tempdir.h"
#include <stdio.h>
#include <stdlib.h>

static char dir[64], path[80];

static void write_file(const void *p, size_t n)
{
    int fd;
    assert_ok(os_open(os_real(), path, OS_WRITE | OS_CREATE | OS_TRUNCATE, &fd));
    assert_ok(os_pwrite(os_real(), fd, p, n, 0));
    assert_ok(os_close(os_real(), fd));
}

// Sums over what came.
struct sum {
    uint64_t pairs, froms, members;
    size_t batches;
    struct rel_place end;
    enum err e;
    struct errmsg msg;
    char notes[4096];
};

static struct sum read_from(const struct rel_input *in, struct rel_place place, size_t most)
{
    struct rel_source *s;
    struct sum sum = {.pairs = 0};
    assert_ok(rel_source_open(&s, in, &place, &sum.msg));
    for (bool last = false; !last && sum.batches < most; sum.batches++) {
        const struct rel_batch *b;
        while (!(b = rel_source_next(s)))
            os_sleep_us(os_real(), 100);
        for (size_t i = 0; i < rel_pairs_count(&b->pairs); i++) {
            sum.froms += rel_pairs_from(&b->pairs, i);
            sum.members += rel_pairs_member(&b->pairs, i);
        }
        sum.pairs += rel_pairs_count(&b->pairs);
        sum.end = b->end;
        sum.e = b->e;
        sum.msg = b->msg;
        if (buf_len(&b->notes))
            snprintf(sum.notes, sizeof sum.notes, "%.*s", (int)buf_len(&b->notes),
                     (const char *)buf_head(&b->notes));
        last = b->last;
    }
    rel_source_close(s);
    return sum;
}

// Enough for several blocks; lines of many lengths.
enum { LINES = 900000 };

static struct sum lines_file(size_t *size)
{
    struct sum sum = {.pairs = LINES};
    enum { LINE = 24 };
    char *text = malloc(LINES * LINE), *p = text;
    for (uint64_t i = 0; i < LINES; i++) {
        uint64_t member = i * 2654435761u % 1000000007u;
        p += snprintf(p, LINE, i + 1 < LINES ? "%llu,%llu\n" : "%llu,%llu", (unsigned long long)i,
                      (unsigned long long)member);
        sum.froms += i;
        sum.members += member;
    }
    *size = (size_t)(p - text);
    write_file(text, *size);
    free(text);
    return sum;
}

static void test_batches(void **state)
{
    size_t size;
    struct sum want = lines_file(&size);
    struct rel_input in = {.path = path, .memory = 3 * 8 * 100000};
    struct sum got = read_from(&in, (struct rel_place){.at = 0}, SIZE_MAX);
    assert_ok(got.e);
    assert_int_equal(got.batches, 9);
    assert_int_equal(got.pairs, want.pairs);
    assert_int_equal(got.froms, want.froms);
    assert_int_equal(got.members, want.members);
    assert_int_equal(got.end.line, LINES);
    assert_int_equal(got.end.pairs, LINES);
    // In two runs, the second from where the first was stopped.
    struct sum first = read_from(&in, (struct rel_place){.at = 0}, 3);
    assert_int_equal(first.end.line, 300000);
    struct sum second = read_from(&in, first.end, SIZE_MAX);
    assert_int_equal(first.froms + second.froms, want.froms);
    assert_int_equal(first.members + second.members, want.members);
    assert_int_equal(second.end.line, LINES);
    assert_int_equal(second.end.pairs, LINES);
}

static void test_pairs(void **state)
{
    uint8_t bytes[100 * REL_PAIR + 5] = {0};
    for (size_t i = 0; i < 100; i++)
        store64(bytes + i * REL_PAIR, i);
    write_file(bytes, sizeof bytes);
    struct rel_input in = {.path = path, .pairs = true, .memory = REL_MEMORY_LEAST};
    struct sum got = read_from(&in, (struct rel_place){.at = 0}, SIZE_MAX);
    assert_err(got.e, ERR_INVALID);
    assert_non_null(strstr(got.msg.text, "pair 101: the input ends within it"));
    assert_int_equal(got.pairs, 100);
    assert_int_equal(got.end.at, 1600);
    in.skip_bad = true;
    got = read_from(&in, (struct rel_place){.at = 0}, SIZE_MAX);
    assert_ok(got.e);
    assert_int_equal(got.froms, 4950);
    assert_int_equal(got.end.bad, 1);
}

static void test_bad_lines(void **state)
{
    static const char text[] = "f,t\n1,2\nx,y\n3,4\n5\n6,7\n";
    write_file(text, sizeof text - 1);
    struct rel_input in = {.path = path, .header = true, .memory = REL_MEMORY_LEAST};
    struct sum got = read_from(&in, (struct rel_place){.at = 0}, SIZE_MAX);
    assert_err(got.e, ERR_INVALID);
    assert_non_null(strstr(got.msg.text, ": line 3: from: \"x\""));
    assert_int_equal(got.pairs, 1);
    assert_int_equal(got.end.at, 8); // before the bad line
    assert_int_equal(got.end.line, 2);
    in.skip_bad = true;
    got = read_from(&in, got.end, SIZE_MAX);
    assert_ok(got.e);
    assert_int_equal(got.pairs, 2);
    assert_int_equal(got.end.bad, 2);
    assert_int_equal(got.end.line, 6);
    assert_non_null(strstr(got.notes, ": line 3: from"));
    assert_non_null(strstr(got.notes, ": line 5: from has no to\n"));
}

static void test_many_bad_lines(void **state)
{
    char text[200];
    for (size_t i = 0; i < sizeof text; i += 2)
        memcpy(text + i, "x\n", 2);
    write_file(text, sizeof text);
    struct rel_input in = {.path = path, .skip_bad = true, .memory = REL_MEMORY_LEAST};
    struct sum got = read_from(&in, (struct rel_place){.at = 0}, SIZE_MAX);
    assert_ok(got.e);
    assert_int_equal(got.end.bad, 100);
    assert_non_null(strstr(got.notes, "line 20: "));
    assert_null(strstr(got.notes, "line 21: "));
}

static void test_long_line(void **state)
{
    size_t n = (9 << 20) + 100;
    char *text = malloc(n);
    memset(text, '1', n);
    memcpy(text, "1,2\n", 4);
    memcpy(text + n - 5, "\n3,4\n", 5);
    write_file(text, n);
    struct rel_input in = {.path = path, .skip_bad = true, .memory = REL_MEMORY_LEAST};
    struct sum got = read_from(&in, (struct rel_place){.at = 0}, SIZE_MAX);
    assert_ok(got.e);
    assert_int_equal(got.pairs, 2);
    assert_int_equal(got.end.bad, 1);
    assert_int_equal(got.end.line, 3);
    in.skip_bad = false;
    got = read_from(&in, (struct rel_place){.at = 0}, SIZE_MAX);
    assert_err(got.e, ERR_INVALID);
    assert_non_null(strstr(got.msg.text, "line 2: it is over 4 MiB"));
    assert_int_equal(got.end.at, 4);
    free(text);
}

static void test_empty_and_missing(void **state)
{
    struct rel_input in = {.path = path, .memory = REL_MEMORY_LEAST};
    struct rel_source *s;
    struct rel_place begin = {.at = 0};
    struct errmsg msg;
    uint64_t size, identity;
    write_file("", 0);
    struct sum got = read_from(&in, begin, SIZE_MAX);
    assert_ok(got.e);
    assert_int_equal(got.pairs, 0);
    assert_err(rel_input_identity(path, &size, &identity, &msg), ERR_UNSUPPORTED);
    in.path = "/nowhere/at/all";
    assert_err(rel_source_open(&s, &in, &begin, &msg), ERR_MISSING);
    assert_err(rel_input_identity(in.path, &size, &identity, &msg), ERR_MISSING);
}

static void test_identity(void **state)
{
    static char text[200000];
    struct errmsg msg;
    uint64_t size, ids[5];
    memset(text, 'x', sizeof text);
    write_file(text, sizeof text);
    assert_ok(rel_input_identity(path, &size, &ids[0], &msg));
    assert_int_equal(size, sizeof text);
    assert_ok(rel_input_identity(path, &size, &ids[1], &msg));
    text[0] = 'y';
    write_file(text, sizeof text);
    assert_ok(rel_input_identity(path, &size, &ids[2], &msg));
    text[sizeof text - 1] = 'y';
    write_file(text, sizeof text);
    assert_ok(rel_input_identity(path, &size, &ids[3], &msg));
    write_file(text, sizeof text - 1);
    assert_ok(rel_input_identity(path, &size, &ids[4], &msg));
    assert_true(ids[0] == ids[1]);
    for (size_t i = 1; i < 5; i++)
        for (size_t j = i + 1; j < 5; j++)
            assert_true(ids[i] != ids[j]);
}

static int setup(void **state)
{
    tempdir_make(dir);
    snprintf(path, sizeof path, "%s/in", dir);
    return 0;
}

static int teardown(void **state)
{
    tempdir_remove(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches),   cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_bad_lines), cmocka_unit_test(test_many_bad_lines),
        cmocka_unit_test(test_long_line), cmocka_unit_test(test_empty_and_missing),
        cmocka_unit_test(test_identity),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
