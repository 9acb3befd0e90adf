#include "unit.h"
#include "base/hash.h"

#include <stdlib.h>

// The check value of every CRC catalogue and the vectors of RFC 3720, B.4.
static void crc32c_vectors(void **state)
{
    uint8_t b[48];
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, "", 0), 0);
    memset(b, 0, 32);
    assert_int_equal(crc32c(0, b, 32), 0x8a9136aa);
    memset(b, 0xff, 32);
    assert_int_equal(crc32c(0, b, 32), 0x62a8ab43);
    for (unsigned i = 0; i < 32; i++)
        b[i] = (uint8_t)i;
    assert_int_equal(crc32c(0, b, 32), 0x46dd794e);
    for (unsigned i = 0; i < 32; i++)
        b[i] = (uint8_t)(31 - i);
    assert_int_equal(crc32c(0, b, 32), 0x113fdb5c);
    static const uint8_t iscsi_read[48] = {
        0x01, 0xc0, [16] = 0x14, [22] = 0x04, [27] = 0x14, [31] = 0x18, [32] = 0x28, [40] = 0x02};
    assert_int_equal(crc32c(0, iscsi_read, 48), 0xd9963a56);
}

// Every length over a few rounds of the streams, every alignment, and every split of the input.
static void crc32c_equals_portable(void **state)
{
    enum { N = 5000 };
    uint8_t *b = malloc(N);
    assert_non_null(b);
    uint32_t x = 12345;
    for (unsigned i = 0; i < N; i++)
        b[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
    for (size_t n = 0; n <= N - 8; n += n < 64 ? 1 : 37)
        for (size_t at = 0; at < 8; at++)
            assert_int_equal(crc32c(7, b + at, n), crc32c_portable(7, b + at, n));
    for (size_t split = 0; split <= N; split += 13)
        assert_int_equal(crc32c(crc32c(0, b, split), b + split, N - split), crc32c(0, b, N));
    free(b);
}

static void hash64_depends_on_seed(void **state)
{
    // XXH3's published value for the empty input.
    assert_true(hash64(slice_str(""), 0) == 0x2d06800538d394c2);
    assert_true(hash64(slice_str("key"), 1) != hash64(slice_str("key"), 2));
    assert_true(hash64(slice_str("key"), 1) != hash64(slice_str("kez"), 1));
    assert_true(hash64((struct slice){0}, 0) == hash64(slice_str(""), 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_vectors),
        cmocka_unit_test(crc32c_equals_portable),
        cmocka_unit_test(hash64_depends_on_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
