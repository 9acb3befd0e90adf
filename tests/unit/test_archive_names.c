// Names of objects and continuation tokens (archive/name.h): one form each, hostile ones refused.
#include "unit.h"

#include "archive/name.h"
#include "base/os.h"
#include <stdlib.h>
#include <string.h>

static void data_names(void **state)
{
    static const struct {
        const char *text;
        struct name n;
    } good[] = {
        {"data_o00000000000000000001-o1_t0-t0_n0-n0_s40_p0.bin", {1, 1, 0, 0, 0, 0, 40, 0}},
        {"data_o00000000000000000007-o9_t-9223372036854775808-t9223372036854775807_n5-n8_s300_p6."
         "bin",
         {7, 9, INT64_MIN, INT64_MAX, 5, 8, 300, 6}},
        {"data_o18446744073709551613-o18446744073709551614_t-1-t-1_n0-n"
         "340282366920938463463374607431768211455_s18446744073709551615_p18446744073709551612.bin",
         {UINT64_MAX - 2, UINT64_MAX - 1, -1, -1, 0, U128_MAX, UINT64_MAX, UINT64_MAX - 3}},
        // klstore's merged objects take their times from the first and the last part.
        {"data_o00000000000000000001-o2_t9-t3_n0-n0_s80_p0.bin", {1, 2, 9, 3, 0, 0, 80, 0}},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct name n;
        char text[NAME_DATA_MAX];
        struct errmsg msg = {""};
        enum err e = name_parse(slice_str(good[i].text), &n, &msg);
        if (e)
            fail_msg("%s", msg.text);
        assert_true(n.first == good[i].n.first && n.last == good[i].n.last);
        assert_true(n.min_time == good[i].n.min_time && n.max_time == good[i].n.max_time);
        assert_true(n.first_nonce == good[i].n.first_nonce);
        assert_true(n.next_nonce == good[i].n.next_nonce);
        assert_true(n.size == good[i].n.size && n.prior == good[i].n.prior);
        assert_int_equal(name_format(&n, text), strlen(good[i].text));
        assert_string_equal(text, good[i].text);
    }
}

static void bad_data_names(void **state)
{
    static const char *const bad[] = {
        "",
        "data_",
        "data_o1-o1_t0-t0_n0-n0_s40_p0.bin",                                      // not 20 digits
        "data_o000000000000000000001-o1_t0-t0_n0-n0_s40_p0.bin",                  // 21
        "data_o00000000000000000000-o1_t0-t0_n0-n0_s80_p0.bin",                   // offset 0
        "data_o00000000000000000002-o1_t0-t0_n0-n0_s40_p0.bin",                   // ends before
        "data_o00000000000000000001-o01_t0-t0_n0-n0_s40_p0.bin",                  // a zero too many
        "data_o00000000000000000001-o+1_t0-t0_n0-n0_s40_p0.bin",                  // a sign
        "data_o00000000000000000001-o1_t-0-t0_n0-n0_s40_p0.bin",                  // minus nothing
        "data_o00000000000000000001-o1_t9223372036854775808-t0_n0-n0_s40_p0.bin", // past 64 bits
        "data_o00000000000000000001-o1_t0-t-9223372036854775809_n0-n0_s40_p0.bin", // likewise
        "data_o99999999999999999999-o1_t0-t0_n0-n0_s40_p0.bin",
        "data_o18446744073709551615-o18446744073709551615_t0-t0_n0-n0_s40_p0.bin", // no offset
                                                                                   // after
        ("data_o00000000000000000001-o1_t0-t0_n340282366920938463463374607431768211456-n0_s40_p0."
         "bin"),
        "data_o00000000000000000001-o1_t0-t0_n2-n1_s40_p0.bin",    // nonces that fall
        "data_o00000000000000000001-o1_t0-t0_n0-n0_s39_p0.bin",    // no room for a record
        "data_o00000000000000000001-o2_t0-t0_n0-n0_s79_p0.bin",    // for two
        "data_o00000000000000000001-o1_t0-t0_n0-n0_s40_p1.bin",    // its own prior
        "data_o00000000000000000001-o1_t0-t0_n0-n0_s40_p0.bin.gz", // more
        "data_o00000000000000000001-o1_t0-t0_n0-n0_s40_p0.binx",
        "data_o00000000000000000001-o1_t0-t0_n0-n0_s40_p0",
        "Data_o00000000000000000001-o1_t0-t0_n0-n0_s40_p0.bin",
        " data_o00000000000000000001-o1_t0-t0_n0-n0_s40_p0.bin",
        "data_o00000000000000000001-o1_t0-t0_n-n0_s40_p0.bin",
        "data_o00000000000000000001-o1_t -1-t0_n0-n0_s40_p0.bin",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct name n;
        struct errmsg msg = {""};
        if (name_parse(slice_str(bad[i]), &n, &msg) != ERR_INVALID)
            fail_msg("\"%s\" was taken", bad[i]);
        assert_non_null(strstr(msg.text, bad[i])); // it is named
    }
    struct name n;
    static const char nul[] = "data_o00000000000000000001-o1_t0-t0_n0-n0_s40_p0.bin";
    assert_err(name_parse(slice_of(nul, sizeof nul), &n, NULL), ERR_INVALID); // with its NUL
}

static void check_encoding(const char *raw, size_t n, bool keyspace, const char *want)
{
    char text[NAME_DIR_MAX];
    struct buf back;
    buf_init(&back, 1000);
    assert_ok(name_encode(slice_of(raw, n), keyspace, text, sizeof text, NULL));
    assert_string_equal(text, want);
    assert_ok(name_decode(slice_str(text), keyspace, &back));
    assert_true(slice_equal(buf_slice(&back), slice_of(raw, n)));
    buf_release(&back);
}

static void encoded_names(void **state)
{
    check_encoding("my_keyspace", 11, true, "my_keyspace");
    check_encoding("a b:c@d=é", 10, false, "a b:c@d=é"); // as klstore writes it
    check_encoding("..", 2, false, "%2E%2E");
    check_encoding(".", 1, true, "%2E");
    check_encoding("...", 3, false, "...");
    check_encoding("a/../b", 6, false, "a%2F..%2Fb");
    check_encoding("/", 1, false, "%2F");
    check_encoding("\\", 1, false, "%5C");
    check_encoding("50%", 3, false, "50%25");
    check_encoding("%2F", 3, false, "%252F");
    check_encoding("\0\x1f\x7f", 3, false, "%00%1F%7F");
    check_encoding("\xff\xc3\xa9", 3, false, "%FF%C3%A9"); // not UTF-8 as a whole
    check_encoding("~writers", 8, true, "%7Ewriters");     // where sessions are
    check_encoding("~writers", 8, false, "~writers");
    check_encoding("a_config.ini", 12, true, "a_config.in%69"); // a keyspace's own object
    check_encoding("_config.ini", 11, true, "_config.in%69");
    check_encoding("a_config.ini", 12, false, "a_config.ini");
}

static void hostile_names(void **state)
{
    static const char *const bad[] = {"",     "..",    ".",    "a/b", "%2f", "%41", "%",      "%2",
                                      "%%41", "\x01x", "\xff", "a\\", "%G0", "%2E", "%2E%2Ea"};
    char text[NAME_DIR_MAX], dir[NAME_DIR_MAX];
    struct buf out;
    struct errmsg msg = {""};
    buf_init(&out, 1000);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bool alone = !strcmp(bad[i], "%2E"); // this is "."
        assert_err(name_decode(slice_str(bad[i]), false, &out), alone ? ERR_OK : ERR_INVALID);
        buf_clear(&out);
    }
    assert_err(name_decode(slice_str("~writers"), true, &out), ERR_INVALID);
    assert_err(name_decode(slice_of(NULL, 0), false, &out), ERR_INVALID);
    buf_release(&out);
    assert_err(name_encode(slice_str(""), true, text, sizeof text, &msg), ERR_INVALID);
    static uint8_t longest[OBJECT_PART_MAX + 1];
    memset(longest, 'k', sizeof longest);
    struct archive_log log = {slice_str("ks"), slice_of(longest, OBJECT_PART_MAX)};
    assert_ok(name_dir(&log, dir, &msg));
    log.key.n++;
    assert_err(name_dir(&log, dir, &msg), ERR_TOO_BIG);
    assert_non_null(strstr(msg.text, "256 bytes"));
    log = (struct archive_log){slice_of(longest, NAME_SPACE_MAX), slice_str("k")};
    assert_ok(name_dir(&log, dir, &msg));
    log.keyspace.n++;
    assert_err(name_dir(&log, dir, &msg), ERR_TOO_BIG);
    memset(longest, '/', sizeof longest);
    log = (struct archive_log){slice_str("ks"), slice_of(longest, 86)}; // three bytes each
    assert_err(name_dir(&log, dir, &msg), ERR_TOO_BIG);
}

static void tokens(void **state)
{
    struct archive_log a = {slice_str("ks"), slice_str("key")};
    struct archive_log b = {slice_str("k"), slice_str("skey")};
    char text[ARCHIVE_TOKEN], other[ARCHIVE_TOKEN];
    uint64_t offset;
    bool backwards;
    static const uint64_t offsets[] = {0, 1, 10, UINT64_MAX};
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++)
        for (int way = 0; way < 2; way++) {
            size_t n = token_format(&a, way, offsets[i], text);
            assert_true(n < ARCHIVE_TOKEN && n == strlen(text));
            assert_ok(token_parse(slice_of(text, n), &a, &backwards, &offset, NULL));
            assert_true(backwards == way && offset == offsets[i]);
            assert_err(token_parse(slice_of(text, n), &b, &backwards, &offset, NULL), ERR_INVALID);
            for (size_t at = 0; at < n; at++) {
                memcpy(other, text, n);
                other[at]++;
                assert_err(token_parse(slice_of(other, n), &a, &backwards, &offset, NULL),
                           ERR_INVALID);
                assert_err(token_parse(slice_of(text, at), &a, &backwards, &offset, NULL),
                           ERR_INVALID);
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_names),    cmocka_unit_test(bad_data_names),
        cmocka_unit_test(encoded_names), cmocka_unit_test(hostile_names),
        cmocka_unit_test(tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
