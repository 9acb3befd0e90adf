#include "unit.h"
#include "base/slice.h"

#include <stdlib.h>

static bool valid(const char *s)
{
    return utf8_valid(slice_str(s));
}

static void utf8_accepts_the_edges_of_every_length(void **state)
{
    assert_true(utf8_valid((struct slice){0}));
    assert_true(utf8_valid(slice_of("\0", 1)));
    assert_true(valid("\x7f"));
    assert_true(valid("\xc2\x80"));         // U+0080
    assert_true(valid("\xdf\xbf"));         // U+07FF
    assert_true(valid("\xe0\xa0\x80"));     // U+0800
    assert_true(valid("\xed\x9f\xbf"));     // U+D7FF
    assert_true(valid("\xee\x80\x80"));     // U+E000
    assert_true(valid("\xef\xbf\xbf"));     // U+FFFF
    assert_true(valid("\xf0\x90\x80\x80")); // U+10000
    assert_true(valid("\xf4\x8f\xbf\xbf")); // U+10FFFF
}

static void utf8_refuses(void **state)
{
    static const char *const bad[] = {
        "\x80",             // continuation alone
        "\xbf",             //
        "\xc0\x80",         // overlong NUL
        "\xc1\xbf",         // overlong U+007F
        "\xe0\x9f\xbf",     // overlong U+07FF
        "\xf0\x8f\xbf\xbf", // overlong U+FFFF
        "\xed\xa0\x80",     // surrogate U+D800
        "\xed\xbf\xbf",     // surrogate U+DFFF
        "\xf4\x90\x80\x80", // U+110000
        "\xf5\x80\x80\x80", // never a first byte
        "\xff",             //
        "\xfe",             //
        "\xc3",             // cut short
        "\xe2\x82",         //
        "\xf0\x9f\x98",     //
        "\xc3(",            // not continued
        "\xe2(\xa1",        //
        "\xe2\x82(",        //
        "\xf0\x9f\x98(",    //
        "\xf8\x88\x80\x80\x80",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (valid(bad[i]))
            fail_msg("bad[%zu] was accepted", i);
}

// A bad or good sequence at every place around the eight-byte steps, in a block that ends with it.
static void utf8_at_every_offset(void **state)
{
    for (size_t before = 0; before < 20; before++)
        for (size_t after = 0; after < 20; after++) {
            size_t n = before + 3 + after;
            uint8_t *s = malloc(n);
            assert_non_null(s);
            memset(s, 'a', n);
            memcpy(s + before, "\xe2\x82\xac", 3);
            assert_true(utf8_valid(slice_of(s, n)));
            s[before + 1] = 'a';
            assert_false(utf8_valid(slice_of(s, n)));
            free(s);
        }
}

static void cut_short_at_the_slice_end(void **state)
{
    // The missing byte is there, but past the slice.
    assert_false(utf8_valid(slice_of("\xe2\x82\xac", 2)));
    assert_false(utf8_valid(slice_of("aaaaaaaa\xc3\xa4", 9)));
}

static void order_is_bytewise_and_prefix_first(void **state)
{
    assert_true(slice_compare(slice_str("a"), slice_str("b")) < 0);
    assert_true(slice_compare(slice_str("a"), slice_str("aa")) < 0);
    assert_true(slice_compare(slice_str("b"), slice_str("aa")) > 0);
    assert_true(slice_compare(slice_str("\xff"), slice_str("a")) > 0);
    assert_true(slice_compare((struct slice){0}, slice_str("")) == 0);
    assert_true(slice_equal((struct slice){0}, slice_str("")));
    assert_false(slice_equal(slice_str("a"), slice_str("ab")));
    assert_true(slice_starts(slice_str("ab"), slice_str("a")));
    assert_true(slice_starts(slice_str("ab"), (struct slice){0}));
    assert_false(slice_starts(slice_str("a"), slice_str("ab")));
}

static void loads_and_stores_are_little_endian(void **state)
{
    uint8_t b[9] = {0};
    store64(b + 1, 0x0807060504030201u);
    for (unsigned i = 1; i < 9; i++)
        assert_int_equal(b[i], i);
    assert_true(load64(b + 1) == 0x0807060504030201u);
    assert_int_equal(load32(b + 1), 0x04030201);
    assert_int_equal(load16(b + 1), 0x0201);
    store32(b + 1, 0xfffefdfcu);
    store16(b + 5, 0xfbfa);
    assert_int_equal(load16(b + 4), 0xfaff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_accepts_the_edges_of_every_length),
        cmocka_unit_test(utf8_refuses),
        cmocka_unit_test(utf8_at_every_offset),
        cmocka_unit_test(cut_short_at_the_slice_end),
        cmocka_unit_test(order_is_bytewise_and_prefix_first),
        cmocka_unit_test(loads_and_stores_are_little_endian),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
