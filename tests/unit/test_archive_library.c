// libvarve-archive as others use it, on a directory: both writers, the reader, takeover, errors.
#include "unit.h"

#include "tempdir.h"
#include "varve-archive.h"

static const struct varve_log log_name = {"ks", 2, "a/b", 3};

static struct varve_archive *open_at(const char *dir)
{
    struct varve_archive_options o = VARVE_ARCHIVE_OPTIONS;
    struct varve_archive *a;
    o.directory = dir;
    o.object_prefix = "some/where/";
    o.compact_records_threshold = 5;
    if (varve_archive_open(&a, &o) != VARVE_OK)
        fail_msg("%s", varve_archive_error_text(a));
    return a;
}

static struct varve_record record(const char *text, uint64_t nonce)
{
    return (struct varve_record){
        .data = text, .size = strlen(text), .has_nonce = true, .nonce = {nonce, 0}};
}

static void read_back(struct varve_archive *a, bool backwards, const char *want)
{
    struct varve_archive_reader *r;
    struct varve_archive_page page;
    struct varve_log_query q = {.backwards = backwards, .page_size = 2};
    char text[200] = "";
    assert_int_equal(varve_archive_reader_open(&r, a), VARVE_OK);
    do {
        assert_int_equal(varve_archive_read(r, &log_name, &q, &page), VARVE_OK);
        for (size_t i = 0; i < page.count; i++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%.*s ",
                     (int)page.records[i].size, (const char *)page.records[i].data);
        q.continuation = page.continuation;
        q.continuation_size = page.continuation_size;
    } while (page.more);
    assert_string_equal(text, want);
    varve_archive_reader_close(r);
}

static void write_and_read(void **state)
{
    char dir[64];
    tempdir_make(dir);
    struct varve_archive *a = open_at(dir);
    struct varve_archive_writer *w, *batching;
    struct varve_archive_batching b = {0};
    struct varve_appended got;
    struct varve_record r[2] = {record("one", 1), record("two", 2)};
    uint64_t created = 0, again = 0;
    assert_int_equal(varve_archive_keyspace_create(a, "ks", 2, &created), VARVE_OK);
    assert_int_equal(varve_archive_keyspace_create(a, "ks", 2, &created), VARVE_CONFLICT);
    assert_int_equal(varve_archive_keyspace_get(a, "ks", 2, &again), VARVE_OK);
    assert_true(created == again);
    assert_int_equal(varve_archive_keyspace_get(a, "no", 2, &again), VARVE_MISSING);
    assert_int_equal(varve_archive_writer_open(&w, a, NULL), VARVE_OK);
    assert_int_equal(varve_archive_append(w, &log_name, r, 2, &got), VARVE_OK);
    assert_true(got.first_offset == 1 && got.next_offset == 3 && got.appended == 2);
    assert_int_equal(varve_archive_append(w, &log_name, r, 2, &got), VARVE_OK);
    assert_true(got.appended == 0 && got.next_nonce.low == 3);

    assert_int_equal(varve_archive_writer_open(&batching, a, &b), VARVE_OK);
    r[0] = record("three", 3);
    assert_int_equal(varve_archive_append(batching, &log_name, r, 1, &got), VARVE_INVALID);
    assert_int_equal(varve_archive_append(batching, &log_name, r, 1, NULL), VARVE_OK);
    r[0] = record("four", 4);
    assert_int_equal(varve_archive_append(batching, &log_name, r, 1, NULL), VARVE_OK);
    assert_int_equal(varve_archive_flush(batching, &log_name), VARVE_OK);
    // The first writer was taken over from.
    r[0] = record("five", 5);
    assert_int_equal(varve_archive_append(w, &log_name, r, 1, NULL), VARVE_CONFLICT);
    assert_non_null(strstr(varve_archive_error_text(a), "fenced"));
    varve_archive_writer_close(w);
    assert_int_equal(varve_archive_append(batching, &log_name, r, 1, NULL), VARVE_OK);
    assert_int_equal(varve_archive_flush(batching, NULL), VARVE_OK);
    assert_int_equal(varve_archive_release(batching, &log_name), VARVE_OK);
    uint64_t first = 0;
    assert_int_equal(varve_archive_trim(batching, &log_name, 3, &first), VARVE_INVALID);
    varve_archive_writer_close(batching);
    read_back(a, false, "one two three four five ");
    read_back(a, true, "five four three two one ");
    assert_int_equal(varve_archive_writer_open(&w, a, NULL), VARVE_OK);
    for (uint64_t i = 0; i < 3; i++) {
        r[0] = record("x", 10 + 2 * i);
        r[1] = record("y", 11 + 2 * i);
        assert_int_equal(varve_archive_append(w, &log_name, r, 2, NULL), VARVE_OK);
    }
    assert_int_equal(varve_archive_trim(w, &log_name, 8, &first), VARVE_OK);
    assert_int_equal(first, 6); // five made an object
    assert_int_equal(varve_archive_trim(w, &log_name, 8, NULL), VARVE_OK);
    varve_archive_writer_close(w);
    read_back(a, false, "x y x y x y ");
    varve_archive_close(a);
    tempdir_remove(dir);
}

static void refusals(void **state)
{
    char dir[64];
    tempdir_make(dir);
    struct varve_archive_options o = VARVE_ARCHIVE_OPTIONS;
    struct varve_archive *a;
    assert_int_equal(varve_archive_open(&a, &o), VARVE_INVALID);
    assert_non_null(strstr(varve_archive_error_text(a), "bucket_name"));
    a = open_at(dir);
    struct varve_archive_reader *r;
    struct varve_archive_page page;
    struct varve_log_query q = {.filter = VARVE_FILTER_PREFIX, .pattern = "x", .pattern_size = 1};
    uint64_t next;
    struct varve_u128 nonce;
    assert_int_equal(varve_archive_reader_open(&r, a), VARVE_OK);
    assert_int_equal(varve_archive_read(r, &log_name, &q, &page), VARVE_INVALID);
    q = (struct varve_log_query){.continuation = "f1-00000000", .continuation_size = 11};
    assert_int_equal(varve_archive_read(r, &log_name, &q, &page), VARVE_INVALID);
    assert_int_equal(varve_archive_meta(r, &log_name, &next, &nonce), VARVE_MISSING);
    varve_archive_reader_close(r);
    varve_archive_close(a);
    tempdir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_and_read),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
