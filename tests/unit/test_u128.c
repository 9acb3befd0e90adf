#include "unit.h"

#include "base/u128.h"
#include <string.h>

#define U128(high, low) ((u128)(high) << 64 | (low))

static const struct {
    u128 v;
    const char *text;
} pairs[] = {
    {0, "0"},
    {1, "1"},
    {9, "9"},
    {10, "10"},
    {UINT64_MAX, "18446744073709551615"},
    {U128(1, 0), "18446744073709551616"},
    {U128(0x0123456789abcdef, 0xfedcba9876543210), "1512366075204170947332355369683137040"},
    {U128_MAX - 1, "340282366920938463463374607431768211454"},
    {U128_MAX, "340282366920938463463374607431768211455"},
};

static void formats_and_parses(void **state)
{
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char text[U128_TEXT];
        assert_int_equal(u128_format(pairs[i].v, text), strlen(pairs[i].text));
        assert_string_equal(text, pairs[i].text);
        u128 v = 7;
        assert_true(u128_parse(slice_str(text), &v));
        assert_true(v == pairs[i].v);
    }
    u128 v;
    assert_true(u128_parse(slice_str("0000000000000000000000000000000000000000000000000042"), &v));
    assert_true(v == 42);
}

// Around each power of ten and of two, where digits and words begin.
static void comes_back(void **state)
{
    u128 ten = 1, two = 1;
    for (int i = 0; i < 128; i++) {
        for (unsigned step = 0; step < 3; step++) {
            const u128 near[] = {ten + step - 1, two + step - 1};
            for (int j = 0; j < 2; j++) {
                char text[U128_TEXT];
                size_t n = u128_format(near[j], text);
                u128 v = 0;
                assert_true(n < U128_TEXT && u128_parse(slice_of(text, n), &v));
                assert_true(v == near[j]);
            }
        }
        ten *= 10; // wraps: any number will do
        two *= 2;
    }
}

static void refuses(void **state)
{
    static const char *const wrong[] = {
        "",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1.0",
        "0x1",
        "1e3",
        "/",
        ":",
        "\xb1",
        "340282366920938463463374607431768211456",
        "340282366920938463463374607431768211460",
        "3402823669209384634633746074317682114550",
        "99999999999999999999999999999999999999999999999999",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        u128 v;
        assert_false(u128_parse(slice_str(wrong[i]), &v));
    }
    u128 v;
    assert_false(u128_parse(slice_of("1\0", 2), &v));
}

static void bytes_are_little_endian(void **state)
{
    static const uint8_t bytes[] = {16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1};
    uint8_t stored[17] = {0};
    store128(stored + 1, U128(0x0102030405060708, 0x090a0b0c0d0e0f10));
    assert_memory_equal(stored + 1, bytes, 16);
    assert_true(load128(stored + 1) == U128(0x0102030405060708, 0x090a0b0c0d0e0f10));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_and_parses),
        cmocka_unit_test(comes_back),
        cmocka_unit_test(refuses),
        cmocka_unit_test(bytes_are_little_endian),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
