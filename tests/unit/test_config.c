#include "unit.h"
#include "tempdir.h"
#include "base/config.h"
#include "base/limits.h"

#include <unistd.h>

static char dir[64], path[96];

static int set_up(void **state)
{
    tempdir_make(dir);
    (void)snprintf(path, sizeof path, "%s/varve.conf", dir);
    return 0;
}

static int tear_down(void **state)
{
    tempdir_remove(dir);
    return 0;
}

static void write_conf(const char *text, size_t n)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static struct config *new_config(void)
{
    struct config *c = config_new(&config_server);
    assert_non_null(c);
    return c;
}

static enum err load(struct config *c, const char *text, struct errmsg *msg)
{
    write_conf(text, strlen(text));
    return config_load_file(c, path, msg);
}

// The file `text` is refused and the error is the path followed by `want`.
static void refused(const char *text, const char *want)
{
    struct config *c = new_config();
    struct errmsg msg = {"(none)"};
    enum err e = load(c, text, &msg);
    if (e == ERR_OK || strncmp(msg.text, path, strlen(path)) != 0 ||
        strcmp(msg.text + strlen(path), want) != 0)
        fail_msg("%s\n  gave %s: %s\n  not %s", text, err_name(e), msg.text, want);
    config_free(c);
}

static void defaults(void **state)
{
    struct config *c = new_config();
    assert_string_equal(config_text(c, CONFIG_server_data), "./varve-data");
    assert_string_equal(config_text(c, CONFIG_server_http), "127.0.0.1:8080");
    assert_int_equal(config_number(c, CONFIG_limits_key), 4096);
    assert_int_equal(config_number(c, CONFIG_limits_value), 1 << 20);
    assert_int_equal(config_number(c, CONFIG_storage_batch_time), 0);
    assert_int_equal(config_number(c, CONFIG_storage_checkpoint_interval), 60000000);
    assert_true(config_is(c, CONFIG_storage_durability, "fsync"));
    assert_false(config_is(c, CONFIG_storage_durability, "relaxed"));
    config_free(c);
    config_free(NULL);
}

static void a_file_is_read(void **state)
{
    struct config *c = new_config();
    struct errmsg msg = {""};
    enum err e = load(c,
                      "; concave's sample\r\n"
                      "# and more\n"
                      "[storage]\n"
                      "batch_time = 5\n"
                      "  max_batch_size = 8k ; indented, with a comment\n"
                      "\tmax_block_size: 4M\n"
                      "max_blocks=10\n"
                      "durability = relaxed\n"
                      "\n"
                      "[server]\n"
                      "http = [::1]:80\n"
                      "data = /a dir/with=signs",
                      &msg);
    if (e != ERR_OK)
        fail_msg("%s", msg.text);
    assert_int_equal(config_number(c, CONFIG_storage_batch_time), 5000);
    assert_int_equal(config_number(c, CONFIG_storage_max_batch_size), 8192);
    assert_int_equal(config_number(c, CONFIG_storage_max_block_size), 4 << 20);
    assert_int_equal(config_number(c, CONFIG_storage_max_blocks), 10);
    assert_true(config_is(c, CONFIG_storage_durability, "relaxed"));
    assert_string_equal(config_text(c, CONFIG_server_http), "[::1]:80");
    assert_string_equal(config_text(c, CONFIG_server_data), "/a dir/with=signs");
    assert_ok(load(c, "", &msg));
    config_free(c);
}

static void file_errors_name_line_key_and_reason(void **state)
{
    refused("[storage]\n\nbatch_tme = 5\n",
            ":3: unknown key \"storage.batch_tme\" (did you mean \"storage.batch_time\"?)");
    refused("[server]\nbatch_time = 5\n",
            ":2: unknown key \"server.batch_time\" (did you mean \"storage.batch_time\"?)");
    refused("[sevrer]\nhttp = off\n",
            ":2: unknown key \"sevrer.http\" (did you mean \"server.http\"?)");
    refused("[x]\nqqqqqq = 5\n", ":2: unknown key \"x.qqqqqq\"");
    refused("http = off\n", ":1: key \"http\" stands before any [section]");
    refused("[server]\nhttp\n", ":2: neither [section] nor key = value");
    refused("[server\nhttp = off\n", ":1: neither [section] nor key = value");
    refused("[server]\njunk\n[nowhere]\nkey=1\n", ":2: neither [section] nor key = value");
    refused("[server]\nhttq=1\njunk\n",
            ":2: unknown key \"server.httq\" (did you mean \"server.http\"?)");
    refused("[server]\nhttp = off\n  http = off\n", ":3: server.http is set on line 2 already");
    refused("[server]\nhttp =\n", ":2: server.http is empty");
    refused("[storage]\nmax_blocks = 1\n",
            ":2: storage.max_blocks: 1 is out of the range 2 to 10000");
    refused("[storage]\nmax_block_size = 2g\n",
            ":2: storage.max_block_size: 2g is out of the range 64k to 1g");
    refused("[storage]\nbatch_time = 11s\n",
            ":2: storage.batch_time: 11s is out of the range 0 to 10s");
    refused("[storage]\nmax_blocks = ten\n", ":2: storage.max_blocks: \"ten\" is not a number");
    refused("[storage]\nmax_blocks = -3\n", ":2: storage.max_blocks: \"-3\" is not a number");
    refused("[storage]\nmax_blocks = 10k\n", ":2: storage.max_blocks: \"10k\" is not a number");
    refused("[storage]\nbatch_time = 5 parsecs\n",
            ":2: storage.batch_time: \"5 parsecs\" is not a number of milliseconds, or of us, ms, "
            "s, m, h or d (\"5s\")");
    refused("[limits]\nkey = 4kk\n", ":2: limits.key: \"4kk\" is not a number of bytes, or of k, m "
                                     "or g (\"64k\")");
    refused("[storage]\ndurability = maybe\n",
            ":2: storage.durability: \"maybe\" is not one of fsync|relaxed");
    refused("[storage]\ndurability = fsync|relaxed\n",
            ":2: storage.durability: \"fsync|relaxed\" is not one of fsync|relaxed");
    refused("[storage]\nmax_blocks = 99999999999999999999999\n",
            ":2: storage.max_blocks: 99999999999999999999999 is out of the range 2 to 10000");
    // 2^64 + 5 must not become 5, nor 2^54k become 0.
    refused("[storage]\nmax_blocks = 18446744073709551621\n",
            ":2: storage.max_blocks: 18446744073709551621 is out of the range 2 to 10000");
    refused("[storage]\nmemory_limit = 18014398509481984k\n",
            ":2: storage.memory_limit: 18014398509481984k is out of the range 0 to 1024g");
}

static void lines_that_libinih_would_split_are_refused(void **state)
{
    char text[400] = "[server]\ndata = /";
    size_t at = strlen(text);
    memset(text + at, 'x', 300);
    refused(text, ":2: the line is longer than 198 bytes");

    struct config *c = new_config();
    struct errmsg msg;
    at = strlen("[server]\n") + 198; // the longest that fits
    text[at] = 0;
    assert_ok(load(c, text, &msg));
    assert_int_equal(strlen(config_text(c, CONFIG_server_data)), 198 - strlen("data = "));

    char nul[] = "[server]\nhttp = off\0x\n";
    write_conf(nul, sizeof nul - 1);
    assert_err(config_load_file(c, path, &msg), ERR_INVALID);
    assert_non_null(strstr(msg.text, ":2: a NUL byte"));
    config_free(c);
}

static void unreadable_files(void **state)
{
    struct config *c = new_config();
    struct errmsg msg;
    assert_err(config_load_file(c, "/nowhere/varve.conf", &msg), ERR_MISSING);
    assert_string_equal(msg.text, "cannot read /nowhere/varve.conf: No such file or directory");
    assert_err(config_load_file(c, dir, &msg), ERR_IO);
    assert_non_null(strstr(msg.text, "Is a directory"));
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(ftruncate(fileno(f), LIMIT_CONFIG_FILE + 1), 0);
    assert_int_equal(fclose(f), 0);
    assert_err(config_load_file(c, path, &msg), ERR_TOO_BIG);
    config_free(c);
}

static void sizes_and_times(void **state)
{
    static const struct {
        enum config_id id;
        const char *text;
        uint64_t value;
    } good[] = {
        {CONFIG_limits_key, "60k", 61440},
        {CONFIG_limits_key, "1", 1},
        {CONFIG_limits_key, "1K", 1024},
        {CONFIG_storage_max_block_size, "1G", 1 << 30},
        {CONFIG_storage_batch_time, "250us", 250},
        {CONFIG_storage_batch_time, "250", 250000},
        {CONFIG_storage_batch_time, "250ms", 250000},
        {CONFIG_storage_batch_time, "10s", 10000000},
        {CONFIG_storage_checkpoint_interval, "2m", 120000000},
        {CONFIG_storage_checkpoint_interval, "3h", 10800000000},
        {CONFIG_storage_checkpoint_interval, "1d", 86400000000},
    };
    struct config *c = new_config();
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_ok(config_set(c, good[i].id, good[i].text, "--flag", NULL));
        assert_true(config_number(c, good[i].id) == good[i].value);
        assert_string_equal(config_text(c, good[i].id), good[i].text);
    }
    static const char *const bad[] = {"",    " 1",  "1 ",  "+1",  "-1",  "k",   "1.5k",
                                      "0x1", "1kb", "1e3", "1us", "1\n", "0k0", "0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_err(config_set(c, CONFIG_limits_key, bad[i], "--limits-key", NULL), ERR_INVALID);
    assert_int_equal(config_number(c, CONFIG_limits_key), 1024); // what was refused changed nothing
    struct errmsg msg;
    assert_err(config_set(c, CONFIG_limits_key, "0", "--limits-key", &msg), ERR_INVALID);
    assert_string_equal(msg.text, "--limits-key: limits.key: 0 is out of the range 1 to 60k");
    config_free(c);
}

static void flags(void **state)
{
    enum config_id id;
    assert_true(config_find_flag("http", &id));
    assert_int_equal(id, CONFIG_server_http);
    assert_true(config_find_flag("max-connections", &id));
    assert_int_equal(id, CONFIG_server_max_connections);
    assert_true(config_find_flag("storage-batch-time", &id));
    assert_int_equal(id, CONFIG_storage_batch_time);
    assert_false(config_find_flag("server-http", &id));
    assert_false(config_find_flag("batch-time", &id));
    assert_false(config_find_flag("storage-batch_time", &id));
    assert_false(config_find_flag("", &id));
}

static void environment(void **state)
{
    struct config *c = new_config();
    struct errmsg msg = {""};
    clearenv();
    assert_ok(config_load_env(c, "VARVE_", &msg));
    setenv("VARVE_SERVER_HTTP", "off", 1);
    setenv("VARVE_STORAGE_MAX_BLOCKS", "7", 1);
    setenv("VARVE_TEST_SEED", "1", 1);
    setenv("VARVE_BENCH_ANYTHING", "1", 1);
    setenv("VARVE", "not ours", 1);
    setenv("PATH", "/bin", 1);
    assert_ok(config_load_env(c, "VARVE_", &msg));
    assert_string_equal(config_text(c, CONFIG_server_http), "off");
    assert_int_equal(config_number(c, CONFIG_storage_max_blocks), 7);

    setenv("VARVE_STORAGE_MAX_BLOCKS", "many", 1);
    assert_err(config_load_env(c, "VARVE_", &msg), ERR_INVALID);
    assert_string_equal(msg.text,
                        "VARVE_STORAGE_MAX_BLOCKS: storage.max_blocks: \"many\" is not a number");
    unsetenv("VARVE_STORAGE_MAX_BLOCKS");
    static const char *const unknown[][2] = {
        {"VARVE_STORAGE_MAX_BLOKS", "environment: unknown key \"VARVE_STORAGE_MAX_BLOKS\" (did you "
                                    "mean \"VARVE_STORAGE_MAX_BLOCKS\"?)"},
        {"VARVE_HTTP",
         "environment: unknown key \"VARVE_HTTP\" (did you mean \"VARVE_SERVER_HTTP\"?)"},
        {"VARVE_server_http", "environment: unknown key \"VARVE_server_http\" (did you mean "
                              "\"VARVE_SERVER_HTTP\"?)"},
        {"VARVE_", "environment: unknown key \"VARVE_\""},
    };
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        setenv(unknown[i][0], "1", 1);
        assert_err(config_load_env(c, "VARVE_", &msg), ERR_INVALID);
        assert_string_equal(msg.text, unknown[i][1]);
        unsetenv(unknown[i][0]);
    }
    char name[3000] = "VARVE_";
    memset(name + 6, 'X', sizeof name - 7);
    setenv(name, "1", 1);
    assert_err(config_load_env(c, "VARVE_", &msg), ERR_INVALID);
    config_free(c);
}

// --help prints a file that reads back as the defaults.
static void help_is_a_valid_file_of_the_defaults(void **state)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_ok(config_help(f));
    assert_int_equal(fclose(f), 0);
    struct config *c = new_config(), *d = new_config();
    struct errmsg msg = {""};
    enum err e = config_load_file(c, path, &msg);
    if (e != ERR_OK)
        fail_msg("%s", msg.text);
    for (enum config_id id = 0; id < CONFIG_COUNT; id++)
        assert_string_equal(config_text(c, id), config_text(d, id));
    config_free(c);
    config_free(d);
    f = fopen("/dev/full", "w");
    if (f) {
        assert_err(config_help(f), ERR_IO);
        (void)fclose(f);
    }
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        IN_DIR(a_file_is_read),
        IN_DIR(file_errors_name_line_key_and_reason),
        IN_DIR(lines_that_libinih_would_split_are_refused),
        IN_DIR(unreadable_files),
        cmocka_unit_test(sizes_and_times),
        cmocka_unit_test(flags),
        cmocka_unit_test(environment),
        IN_DIR(help_is_a_valid_file_of_the_defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
