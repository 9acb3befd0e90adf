// What an import reads: lines and packed pairs, and what is said of those that are wrong.
#include "unit.h"

#include "cli/rel_text.h"

enum { CAP = 64 };

struct taken {
    uint64_t words[CAP];
    struct rel_pairs pairs;
    struct rel_text text;
    struct errmsg msg;
    size_t used;
};

static enum rel_took take(struct taken *t, const char *text, bool header)
{
    *t = (struct taken){.text = {.header = header}};
    rel_pairs_init(&t->pairs, t->words, CAP);
    return rel_text_take(&t->text, slice_str(text), &t->pairs, &t->used, &t->msg);
}

static void expect(const char *text, bool header, const uint64_t *ids, size_t count)
{
    struct taken t;
    assert_int_equal(take(&t, text, header), REL_TOOK_ALL);
    assert_int_equal(t.used, strlen(text));
    assert_int_equal(rel_pairs_count(&t.pairs), count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(rel_pairs_from(&t.pairs, i), ids[2 * i]);
        assert_int_equal(rel_pairs_member(&t.pairs, i), ids[2 * i + 1]);
    }
}

static void test_lines(void **state)
{
    static const uint64_t ids[] = {1, 2, 0, UINT64_MAX, 7, 8};
    expect("1,2\n0,18446744073709551615\n7,8\n", false, ids, 3);
    expect("1\t2\r\n0 18446744073709551615\r\n7  \t 8 \r\n", false, ids, 3);
    expect("1;2\n  0 , 00018446744073709551615\t\n7,\t8\n", false, ids, 3);
    expect("# from,to\n\n1,2\n  \t\n\r\n  # 5,6\n0,18446744073709551615\n7,8\n", false, ids, 3);
    expect("from,to\n1,2\n", true, ids, 1);
    expect("# c\n\nfrom to other\n1,2\n", true, ids, 1);
    expect("1,2\n", true, ids, 1); // no header after all
    expect("", false, ids, 0);
}

static void refuse(const char *text, uint64_t line, const char *what)
{
    struct taken t;
    assert_int_equal(take(&t, text, false), REL_TOOK_BAD);
    assert_int_equal(t.text.line, line);
    assert_string_equal(t.msg.text, what);
}

static void test_wrong_lines(void **state)
{
#define RANGE " is not a whole number from 0 to 2^64 - 1"
    refuse("from,to\n", 1, "from: \"from\"" RANGE);
    refuse("1,2\n3,-4\n", 2, "to: \"-4\"" RANGE);
    refuse("1.5,2\n", 1, "from: \"1.5\"" RANGE);
    refuse("1,2e3\r\n", 1, "to: \"2e3\"" RANGE);
    refuse("\n#\n18446744073709551616,1\n", 3, "from: \"18446744073709551616\"" RANGE);
    refuse("1,99999999999999999999999\n", 1, "to: \"99999999999999999999999\"" RANGE);
    refuse(",2\n", 1, "from: \"\"" RANGE);
    refuse("\"1\",2\n", 1, "from: \"\"1\"\"" RANGE);
    refuse("1\x01,2\n", 1, "from: \"1.\"" RANGE);
    refuse("1\n", 1, "from has no to");
    refuse("1,\n", 1, "from has no to");
    refuse("1 ,  \r\n", 1, "from has no to");
    refuse("1,2,3\n", 1, "more than from and to");
    refuse("1,2 3\n", 1, "more than from and to");
    refuse("1,,2\n", 1, "from has no to");
    refuse("1234567890123456789012345678901234567890123,2\n", 1,
           "from: \"1234567890123456789012345678901234567890...\"" RANGE);
#undef RANGE
}

static void test_goes_on_after_a_wrong_line(void **state)
{
    const char *text = "1,2\nx,3\n4,5\n";
    struct taken t;
    assert_int_equal(take(&t, text, false), REL_TOOK_BAD);
    assert_int_equal(t.used, 8);
    struct slice rest = slice_of((const uint8_t *)text + t.used, strlen(text) - t.used);
    assert_int_equal(rel_text_take(&t.text, rest, &t.pairs, &t.used, &t.msg), REL_TOOK_ALL);
    assert_int_equal(t.text.line, 3);
    assert_int_equal(rel_pairs_count(&t.pairs), 2);
}

static void test_full(void **state)
{
    uint64_t words[2];
    struct rel_pairs pairs;
    struct rel_text t = {.line = 10};
    struct errmsg msg;
    size_t used;
    rel_pairs_init(&pairs, words, 2);
    assert_int_equal(rel_text_take(&t, slice_str("1,2\n3,4\n5,6\n"), &pairs, &used, &msg),
                     REL_TOOK_FULL);
    assert_int_equal(used, 8);
    assert_int_equal(t.line, 12);
}

static void test_pairs(void **state)
{
    static const uint64_t ids[] = {1, 2, UINT64_MAX, 0, 5, 6};
    uint8_t bytes[sizeof ids + 1];
    struct taken t = {.text = {.pairs = true}};
    for (size_t i = 0; i < 6; i++)
        store64(bytes + 1 + 8 * i, ids[i]);
    rel_pairs_init(&t.pairs, t.words, 4); // room for two
    struct slice s = slice_of(bytes + 1, sizeof ids);
    assert_int_equal(rel_text_take(&t.text, s, &t.pairs, &t.used, &t.msg), REL_TOOK_FULL);
    assert_int_equal(t.used, 32);
    assert_int_equal(t.text.line, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(rel_pairs_from(&t.pairs, i), ids[2 * i]);
        assert_int_equal(rel_pairs_member(&t.pairs, i), ids[2 * i + 1]);
    }
}

static void test_ids(void **state)
{
    static const char *const wrong[] = {"",
                                        "-1",
                                        "+1",
                                        " 1",
                                        "1 ",
                                        "1.0",
                                        "0x1",
                                        "1e3",
                                        "18446744073709551616",
                                        "100000000000000000000"};
    uint64_t id;
    assert_ok(rel_id(slice_str("18446744073709551615"), &id));
    assert_true(id == UINT64_MAX);
    assert_ok(rel_id(slice_str("000"), &id));
    assert_true(id == 0);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_err(rel_id(slice_str(wrong[i]), &id), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_wrong_lines),
        cmocka_unit_test(test_goes_on_after_a_wrong_line),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
