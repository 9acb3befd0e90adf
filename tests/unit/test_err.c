#include "unit.h"

#include <string.h>

static void every_error_has_a_name_and_a_text(void **state)
{
    for (int i = 0; i < ERR_COUNT; i++) {
        assert_true(strlen(err_text((enum err)i)) > 1);
        assert_true(strlen(err_name((enum err)i)) > 1);
    }
    assert_string_equal(err_name(ERR_CONFLICT), "CONFLICT");
    assert_string_equal(err_text(ERR_CONFLICT), "version conflict");
    assert_string_equal(err_text(ERR_COUNT), "unknown error");
    assert_string_equal(err_name((enum err) - 1), "UNKNOWN");
}

static void set_formats_cuts_and_returns(void **state)
{
    struct errmsg m;
    assert_int_equal(err_set(&m, ERR_INVALID, "%s:%d", "here", 3), ERR_INVALID);
    assert_string_equal(m.text, "here:3");
    assert_int_equal(err_set(NULL, ERR_IO, "nobody listens"), ERR_IO);
    char big[2000];
    memset(big, 'x', sizeof big);
    big[sizeof big - 1] = 0;
    assert_int_equal(err_set(&m, ERR_TOO_BIG, "%s", big), ERR_TOO_BIG);
    assert_int_equal(strlen(m.text), sizeof m.text - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_has_a_name_and_a_text),
        cmocka_unit_test(set_formats_cuts_and_returns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
