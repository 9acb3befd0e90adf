// The bridge's configuration and its table of logs with the nth allocation failing.
#include "unit.h"
#include "nth.h"
#include "tempdir.h"

#include "base/log.h"
#include "bridge/config.h"
#include "bridge/feeds.h"
#include <stdio.h>
#include <string.h>

static bool load(void *arg, uint64_t n, bool for_ever)
{
    struct bridge_config c;
    nth_arm(n, for_ever);
    enum err e = bridge_config_load(&c, arg, NULL);
    bool failed = nth_disarm();
    bridge_config_release(&c);
    assert_string_equal(err_name(e), failed ? "NO_MEMORY" : "OK");
    return failed;
}

static void configuration(void **state)
{
    char dir[64], path[96];
    tempdir_make(dir);
    (void)snprintf(path, sizeof path, "%s/bridge.ini", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs("[kafka]\ntopic = t\ngroup.id = g\nbootstrap.servers = h:1\n"
                      "[parser]\nkeyspace_parser = Static(k)\nkey_parser = RecordKey\n"
                      "nonce_parser = RecordOffset\n"
                      "[bridge]\ndirectory = d\non_bad_record = skip\n",
                      f) >= 0);
    assert_int_equal(fclose(f), 0);
    nth_each(load, path);
    tempdir_remove(dir);
}

enum { LOGS = 300 };

static bool feed(void *arg, uint64_t n, bool for_ever)
{
    (void)arg;
    struct feeds f;
    bool known[LOGS];
    char key[LOGS][8];
    feeds_init(&f, LOGS, 7);
    nth_arm(n, for_ever);
    for (int i = 0; i < LOGS; i++) {
        struct feed *out;
        struct archive_log log = {
            slice_str("ks"), slice_of(key[i], (size_t)snprintf(key[i], sizeof key[i], "%d", i))};
        enum err e = feeds_add(&f, &log, i, &out);
        if (e)
            assert_err(e, ERR_NO_MEMORY);
        known[i] = !e;
    }
    bool failed = nth_disarm();
    for (int i = 0; i < LOGS; i++) {
        struct archive_log log = {slice_str("ks"), slice_str(key[i])};
        struct feed *found = feeds_find(&f, &log);
        assert_true(known[i] ? found && found->partition == i : !found);
        assert_true(failed || known[i]);
    }
    feeds_release(&f);
    return failed;
}

static void table(void **state)
{
    nth_each(feed, NULL);
}

int main(void)
{
    log_set_level(LOG_NONE);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configuration),
        cmocka_unit_test(table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
