#include "unit.h"
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void starts_empty_and_without_memory(void **state)
{
    struct buf b;
    buf_init(&b, 100);
    assert_int_equal(buf_len(&b), 0);
    assert_null(b.data);
    assert_ok(buf_append(&b, NULL, 0));
    assert_null(b.data);
    buf_release(&b);
}

static void refuses_what_passes_max_and_changes_nothing(void **state)
{
    struct buf b;
    buf_init(&b, 10);
    assert_err(buf_append(&b, "0123456789a", 11), ERR_TOO_BIG);
    assert_ok(buf_append(&b, "0123456789", 10)); // exactly max
    assert_err(buf_append(&b, "x", 1), ERR_TOO_BIG);
    assert_err(buf_reserve(&b, SIZE_MAX), ERR_TOO_BIG); // no sum may wrap
    assert_err(buf_reserve(&b, SIZE_MAX - 9), ERR_TOO_BIG);
    assert_err(buf_printf(&b, "%d", 7), ERR_TOO_BIG);
    assert_true(slice_equal(buf_slice(&b), slice_str("0123456789")));
    buf_consume(&b, 4); // room again, but only after moving down
    assert_ok(buf_append(&b, "abcd", 4));
    assert_true(slice_equal(buf_slice(&b), slice_str("456789abcd")));
    assert_true(b.cap <= 10);
    buf_release(&b);
    assert_ok(buf_append(&b, "again", 5)); // a released buffer keeps its max and can be used
    buf_release(&b);
}

static void consume_to_the_end_starts_over(void **state)
{
    struct buf b;
    buf_init(&b, 1000);
    assert_ok(buf_append(&b, "hello", 5));
    buf_consume(&b, 2);
    assert_true(slice_equal(buf_slice(&b), slice_str("llo")));
    buf_consume(&b, 3);
    assert_int_equal(b.start, 0);
    assert_int_equal(b.end, 0);
    buf_release(&b);
}

static void padding_is_readable(void **state)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    for (size_t n = 1; n < 5000; n = n * 2 + 1) {
        assert_ok(buf_reserve(&b, n));
        b.end = b.cap; // full
        unsigned sum = 0;
        for (size_t i = 0; i < BUF_PADDING; i++) // the address sanitizer watches
            sum += b.data[b.cap + i];
        assert_int_equal(sum, 0);
        buf_clear(&b);
    }
    buf_release(&b);
}

static void printf_in_place_and_grown(void **state)
{
    struct buf b;
    buf_init(&b, 4000);
    assert_ok(buf_printf(&b, "%s", "")); // nothing, from nothing
    assert_ok(buf_printf(&b, "a%db", 5));
    size_t fill = b.cap - b.end;
    char *long_text = malloc(fill + 2);
    assert_non_null(long_text);
    memset(long_text, 'x', fill + 1);
    long_text[fill] = 0;
    assert_ok(buf_printf(&b, "%s", long_text)); // exactly to cap: the NUL is in the padding
    assert_int_equal(b.end, b.cap);
    long_text[fill] = 'y';
    long_text[fill + 1] = 0;
    assert_ok(buf_printf(&b, "%s", long_text)); // has to grow
    assert_int_equal(buf_len(&b), 3 + fill + fill + 1);
    assert_int_equal(b.data[b.end - 1], 'y');
    free(long_text);
    buf_release(&b);
}

static void shrink_keeps_live_bytes(void **state)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    assert_ok(buf_reserve(&b, 100000));
    assert_ok(buf_append(&b, "0123456789", 10));
    buf_consume(&b, 3);
    size_t cap = b.cap;
    buf_shrink(&b, 6); // 7 bytes are live: it may not
    assert_int_equal(b.cap, cap);
    buf_shrink(&b, 64);
    assert_int_equal(b.cap, 64);
    assert_true(slice_equal(buf_slice(&b), slice_str("3456789")));
    buf_clear(&b);
    buf_shrink(&b, 0);
    assert_null(b.data);
    assert_int_equal(b.cap, 0);
    assert_int_equal(b.max, 1 << 20);
    buf_release(&b);
}

// Random appends, consumes and shrinks against a plain array.
static void random_against_model(void **state)
{
    unsigned seed = (unsigned)time(NULL);
    const char *fixed = getenv("VARVE_TEST_SEED");
    if (fixed)
        seed = (unsigned)strtoul(fixed, NULL, 10);
    printf("VARVE_TEST_SEED=%u\n", seed);
    enum { MAX = 3000 };
    uint8_t model[MAX], chunk[700];
    size_t len = 0;
    struct buf b;
    buf_init(&b, MAX);
    for (int step = 0; step < 20000; step++) {
        size_t n = (size_t)rand_r(&seed) % sizeof chunk;
        unsigned what = (unsigned)rand_r(&seed) % 16;
        if (what < 8) {
            for (size_t i = 0; i < n; i++)
                chunk[i] = (uint8_t)rand_r(&seed);
            bool fits = len + n <= MAX;
            assert_int_equal(buf_append(&b, chunk, n), fits ? ERR_OK : ERR_TOO_BIG);
            if (fits)
                memcpy(model + len, chunk, n);
            len += fits ? n : 0;
        } else if (what < 15) {
            n = n < len ? n : len;
            buf_consume(&b, n);
            memmove(model, model + n, len - n);
            len -= n;
        } else {
            buf_shrink(&b, n);
        }
        assert_true(slice_equal(buf_slice(&b), slice_of(model, len)));
        assert_true(b.end <= b.cap && b.cap <= MAX);
    }
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_empty_and_without_memory),
        cmocka_unit_test(refuses_what_passes_max_and_changes_nothing),
        cmocka_unit_test(consume_to_the_end_starts_over),
        cmocka_unit_test(padding_is_readable),
        cmocka_unit_test(printf_in_place_and_grown),
        cmocka_unit_test(shrink_keeps_live_bytes),
        cmocka_unit_test(random_against_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
