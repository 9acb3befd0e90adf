// The layout of a record, and the walk over records that nobody has checked.
#include "unit.h"

#include "base/os.h"
#include "op_random.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Version 1 of the layout; it stays for ever.
static const uint8_t golden[] = {
    8,    7,    6,    5,    4,    3,    2,    1,                            // offset
    0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,                         // timestamp
    16,   15,   14,   13,   12,   11,   10,   9,    8, 7, 6, 5, 4, 3, 2, 1, // nonce
    3,    0,    0,    0,    'a',  0,    0xff,                               // length, bytes
    39,   0,    0,    0,                                                    // length before
};

static uint64_t test_seed(void)
{
    uint64_t seed;
    os_random(os_real(), &seed, sizeof seed);
    const char *given = os_env("VARVE_TEST_SEED");
    if (given)
        seed = strtoull(given, NULL, 0);
    print_message("seed: VARVE_TEST_SEED=%" PRIu64 "\n", seed);
    return seed;
}

static bool same(const struct record *a, const struct record *b)
{
    return a->offset == b->offset && a->timestamp == b->timestamp && a->nonce == b->nonce &&
           slice_equal(a->bytes, b->bytes);
}

static void golden_layout(void **state)
{
    struct record r = {.offset = 0x0102030405060708,
                       .timestamp = -2,
                       .nonce = (u128)0x0102030405060708 << 64 | 0x090a0b0c0d0e0f10,
                       .bytes = slice_of("a\0\xff", 3)};
    uint8_t made[sizeof golden];
    assert_int_equal(record_size(r.bytes.n), sizeof golden);
    assert_ptr_equal(record_write(made, &r), made + sizeof golden);
    assert_memory_equal(made, golden, sizeof golden);

    struct record got = record_read(golden);
    assert_true(same(&got, &r));
    assert_true(record_offset(golden) == r.offset);
    assert_int_equal(record_span(golden), sizeof golden);
    assert_int_equal(record_span_before(golden + sizeof golden), sizeof golden);
    struct record_walk w = {.rest = slice_of(golden, sizeof golden)};
    assert_ok(record_next(&w, &got, NULL));
    assert_true(same(&got, &r));
    assert_err(record_next(&w, &got, NULL), ERR_MISSING);
}

static void empty_and_extreme(void **state)
{
    struct record r = {.offset = UINT64_MAX, .timestamp = INT64_MIN, .nonce = NONCE_NONE};
    uint8_t made[RECORD_OVERHEAD];
    assert_ptr_equal(record_write(made, &r), made + sizeof made);
    struct record_walk w = {.rest = slice_of(made, sizeof made)};
    struct record got;
    assert_ok(record_next(&w, &got, NULL));
    assert_true(same(&got, &r));
    assert_err(record_next(&w, &got, NULL), ERR_MISSING);
    w = (struct record_walk){0};
    assert_err(record_next(&w, &got, NULL), ERR_MISSING); // a run of nothing is one
}

enum { RECORDS = 50, ROOM = RECORDS * (RECORD_OVERHEAD + 100) };

// Starts of the records of a run, read forwards without checks; the last is its end.
static size_t starts_of(const uint8_t *run, size_t n, size_t starts[RECORDS + 1])
{
    size_t count = 0, at = 0;
    for (; at < n; at += record_span(run + at))
        starts[count++] = at;
    assert_int_equal(at, n);
    starts[count] = n;
    return count;
}

static void reads_both_ways(void **state)
{
    uint64_t rnd = test_seed();
    static uint8_t run[ROOM];
    size_t starts[RECORDS + 1];
    for (unsigned round = 0; round < 300; round++) {
        size_t n = (size_t)(random_records(&rnd, run, RECORDS) - run);
        size_t count = starts_of(run, n, starts);
        struct record_walk w = {.rest = slice_of(run, n)};
        struct record r;
        for (size_t i = 0; i < count; i++) {
            assert_ok(record_next(&w, &r, NULL));
            assert_int_equal(w.at, starts[i + 1]);
            assert_true(w.last == r.offset && record_offset(run + starts[i]) == r.offset);
            assert_int_equal(w.rest.n, n - w.at);
        }
        assert_err(record_next(&w, &r, NULL), ERR_MISSING);
        const uint8_t *p = run + n;
        for (size_t i = count; i > 0; i--) {
            p -= record_span_before(p);
            assert_ptr_equal(p, run + starts[i - 1]);
        }
        assert_ptr_equal(p, run);
    }
}

// Walks an exact copy on the heap, so that a sanitizer sees a read past its end. What is accepted
// must be the layout of what was read.
static enum err walk(const uint8_t *run, size_t n, size_t *taken)
{
    uint8_t *copy = malloc(n ? n : 1), *again = malloc(n ? n : 1);
    assert_true(copy && again);
    memcpy(copy, run, n);
    struct record_walk w = {.rest = slice_of(copy, n)};
    struct record r;
    struct errmsg msg = {""};
    uint8_t *p = again;
    uint64_t last = 0;
    enum err e;
    while ((e = record_next(&w, &r, &msg)) == ERR_OK) {
        assert_true(r.offset > last);
        last = r.offset;
        p = record_write(p, &r);
        assert_int_equal(w.at, p - again);
    }
    *taken = w.at;
    assert_memory_equal(copy, again, w.at);
    if (e == ERR_MISSING) {
        assert_int_equal(w.at, n);
        for (const uint8_t *back = copy + n; back > copy; back -= record_span_before(back))
            assert_in_range(record_span_before(back), RECORD_OVERHEAD, back - copy);
    } else {
        char byte[40];
        snprintf(byte, sizeof byte, "byte %zu: ", w.at);
        assert_true(strncmp(msg.text, byte, strlen(byte)) == 0); // names the record's first byte
        assert_err(record_next(&w, &r, &msg), e);                // and stays there
    }
    free(copy);
    free(again);
    return e;
}

static void every_truncation(void **state)
{
    uint64_t rnd = test_seed();
    static uint8_t run[ROOM];
    size_t starts[RECORDS + 1];
    size_t n = (size_t)(random_records(&rnd, run, RECORDS) - run);
    (void)starts_of(run, n, starts);
    size_t whole = 0, taken;
    for (size_t cut = 0; cut <= n; cut++) {
        if (cut == starts[whole + 1])
            whole++;
        assert_err(walk(run, cut, &taken), cut == starts[whole] ? ERR_MISSING : ERR_DAMAGED);
        assert_int_equal(taken, starts[whole]);
    }
}

static void random_damage(void **state)
{
    uint64_t rnd = test_seed();
    static uint8_t run[ROOM];
    for (unsigned round = 0; round < 20000; round++) {
        size_t n = (size_t)(random_records(&rnd, run, 5) - run), taken;
        for (uint64_t hits = 1 + next_random(&rnd) % 3; hits; hits--)
            run[next_random(&rnd) % n] = (uint8_t)next_random(&rnd);
        enum err e = walk(run, n, &taken);
        assert_true(e == ERR_MISSING || e == ERR_DAMAGED);
    }
}

// One wrong thing at a time, in the second of two records.
static void says_what_is_wrong(void **state)
{
    struct record r = {.offset = 5, .nonce = NONCE_NONE, .bytes = slice_str("ab")};
    uint8_t run[2 * (RECORD_OVERHEAD + 2)];
    uint8_t *second = record_write(run, &r);
    struct record_walk w;
    struct errmsg msg;
    struct record got;
    static const struct {
        uint64_t offset;
        uint32_t before, after;
        const char *words;
    } wrong[] = {
        {6, 3, 38, "byte 42: a record of 3 bytes is cut short"},
        {6, UINT32_MAX, 38, "byte 42: a record of 4294967295 bytes is cut short"},
        {6, 2, 39, "byte 42: a record's two lengths disagree"},
        {6, 1, 38, "byte 42: a record's two lengths disagree"},
        {5, 2, 38, "byte 42: offset 5 follows 5"},
        {0, 2, 38, "byte 42: offset 0 follows 5"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        r.offset = wrong[i].offset;
        record_write(second, &r);
        store32(second + 32, wrong[i].before);
        store32(second + 38, wrong[i].after);
        w = (struct record_walk){.rest = slice_of(run, sizeof run)};
        assert_ok(record_next(&w, &got, &msg));
        assert_err(record_next(&w, &got, &msg), ERR_DAMAGED);
        assert_string_equal(msg.text, wrong[i].words);
    }
    store64(run, 0); // offsets begin at 1
    w = (struct record_walk){.rest = slice_of(run, sizeof run)};
    assert_err(record_next(&w, &got, &msg), ERR_DAMAGED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_layout),   cmocka_unit_test(empty_and_extreme),
        cmocka_unit_test(reads_both_ways), cmocka_unit_test(every_truncation),
        cmocka_unit_test(random_damage),   cmocka_unit_test(says_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
