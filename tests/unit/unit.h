// What every unit test includes first: cmocka and the headers it wants before it.
#ifndef VARVE_TESTS_UNIT_H
#define VARVE_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/err.h"

// The call succeeded; if not, the failure shows the error's name.
#define assert_ok(call)          assert_string_equal(err_name(call), "OK")
#define assert_err(call, expect) assert_string_equal(err_name(call), err_name(expect))

#endif
