// The pairs of an import: any ids come out as they went in, sorted, each once; the layout changes
// with what comes; a full batch takes nothing more.
#include "unit.h"

#include "cli/rel_pairs.h"
#include <stdlib.h>
#include <string.h>

struct pair {
    uint64_t from, member;
};

static uint64_t state;

static uint64_t next_random(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state ^ state >> 33;
}

static int compare(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    if (x->from != y->from)
        return x->from < y->from ? -1 : 1;
    return x->member == y->member ? 0 : x->member < y->member ? -1 : 1;
}

// Adds all, sorts, and compares with what sorting them otherwise gives.
static void check(const struct pair *in, size_t n, size_t cap, bool one_word)
{
    uint64_t *words = calloc(cap, sizeof *words), *scratch = calloc(cap, sizeof *scratch);
    struct pair *want = calloc(n + 1, sizeof *want);
    struct rel_pairs p;
    rel_pairs_init(&p, words, cap);
    for (size_t i = 0; i < n; i++)
        assert_true(rel_pairs_add(&p, in[i].from, in[i].member));
    assert_int_equal(rel_pairs_count(&p), n);
    assert_int_equal(p.shift != 0, one_word);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(rel_pairs_from(&p, i), in[i].from);
        assert_int_equal(rel_pairs_member(&p, i), in[i].member);
    }
    rel_pairs_sort(&p, &scratch, false);
    memcpy(want, in, n * sizeof *in);
    qsort(want, n, sizeof *want, compare);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || compare(&want[i], &want[i - 1]) != 0)
            want[kept++] = want[i];
    assert_int_equal(rel_pairs_count(&p), kept);
    for (size_t i = 0; i < kept; i++) {
        assert_int_equal(rel_pairs_from(&p, i), want[i].from);
        assert_int_equal(rel_pairs_member(&p, i), want[i].member);
    }
    free(p.words);
    free(scratch);
    free(want);
}

static void test_shapes(void **state_)
{
    enum { N = 5000 };
    static const struct {
        uint64_t froms, members; // ids below these; 0: all of 64 bits
        bool one_word;
    } shapes[] = {
        {1, 1, true},
        {10, 10, true},
        {5000000, 50000000, true},
        {(uint64_t)1 << 32, (uint64_t)1 << 32, true},
        {100, (uint64_t)1 << 56, true},
        {(uint64_t)1 << 56, 100, true},
        {(uint64_t)1 << 62, 1, true},
        {1, 0, false},
        {0, 1, false},
        {0, 0, false},
        {(uint64_t)1 << 40, (uint64_t)1 << 40, false},
    };
    struct pair *in = calloc(N, sizeof *in);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        state = s;
        for (size_t i = 0; i < N; i++) {
            uint64_t f = next_random(), m = next_random();
            in[i].from = shapes[s].froms ? f % shapes[s].froms : f;
            in[i].member = shapes[s].members ? m % shapes[s].members : m;
        }
        if (shapes[s].froms > 1) // the last one, which has all bits
            in[N / 2].from = shapes[s].froms - 1;
        if (shapes[s].members > 1)
            in[N / 3].member = shapes[s].members - 1;
        check(in, N, N * 2, shapes[s].one_word);
    }
    free(in);
}

static void test_few(void **state_)
{
    const struct pair extremes[] = {
        {UINT64_MAX, UINT64_MAX}, {0, 0}, {UINT64_MAX, 0}, {0, UINT64_MAX}, {0, 0}};
    check(extremes, 0, 2, true);
    check(extremes, 1, 2, false);
    check(extremes, 5, 10, false);
    check(extremes + 1, 1, 2, true);
}

static void test_order_kept(void **state_)
{
    const struct pair in[] = {{2, 9}, {1, 5}, {2, 3}, {1, 7}, {2, 9}, {1, 1}};
    static const uint64_t want[] = {5, 7, 1, 9, 3, 9};
    for (int wide = 0; wide < 2; wide++) {
        uint64_t *words = calloc(16, sizeof *words), *scratch = calloc(16, sizeof *scratch);
        struct rel_pairs p;
        rel_pairs_init(&p, words, 16);
        for (size_t i = 0; i < 6; i++)
            assert_true(rel_pairs_add(&p, in[i].from, in[i].member + (wide ? UINT64_MAX - 9 : 0)));
        assert_int_equal(p.shift == 0, wide);
        rel_pairs_sort(&p, &scratch, true);
        assert_int_equal(rel_pairs_count(&p), 6);
        for (size_t i = 0; i < 6; i++) {
            assert_int_equal(rel_pairs_from(&p, i), i < 3 ? 1 : 2);
            assert_int_equal(rel_pairs_member(&p, i), want[i] + (wide ? UINT64_MAX - 9 : 0));
        }
        free(p.words);
        free(scratch);
    }
}

static void test_full(void **state_)
{
    uint64_t words[4];
    struct rel_pairs p;
    rel_pairs_init(&p, words, 4);
    for (uint64_t i = 0; i < 3; i++)
        assert_true(rel_pairs_add(&p, i, i));
    // Three would need six words.
    assert_false(rel_pairs_add(&p, UINT64_MAX, 1));
    assert_int_equal(rel_pairs_count(&p), 3);
    assert_true(rel_pairs_add(&p, 3, 3));
    assert_false(rel_pairs_add(&p, 4, 4));
    for (uint64_t i = 0; i < 4; i++)
        assert_true(rel_pairs_from(&p, i) == i && rel_pairs_member(&p, i) == i);
    rel_pairs_clear(&p);
    assert_true(rel_pairs_add(&p, UINT64_MAX, 1));
    assert_true(rel_pairs_add(&p, 5, 6));
    assert_false(rel_pairs_add(&p, 7, 8));
    assert_int_equal(rel_pairs_count(&p), 2);
    rel_pairs_clear(&p); // the layout stays
    assert_true(rel_pairs_add(&p, 1, 2));
    assert_int_equal(p.count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_few),
        cmocka_unit_test(test_order_kept),
        cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
