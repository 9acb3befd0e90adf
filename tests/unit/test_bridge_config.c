#include "unit.h"
#include "tempdir.h"
#include "base/log.h"
#include "bridge/config.h"
#include "bridge/feeds.h"

#include <stdio.h>
#include <stdlib.h>

static char dir[64], path[96];

static int set_up(void **state)
{
    log_set_level(LOG_NONE);
    tempdir_make(dir);
    (void)snprintf(path, sizeof path, "%s/bridge.ini", dir);
    return 0;
}

static int tear_down(void **state)
{
    tempdir_remove(dir);
    return 0;
}

static enum err load(struct bridge_config *c, const char *text, struct errmsg *msg)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    return bridge_config_load(c, path, msg);
}

// klstore's own example, unchanged.
static const char example[] = "[s3]\n"
                              "endpoint=\"http://localhost:4566\"\n"
                              "bucket_name=\"my-bucket\"\n"
                              "region=\"us-east-1\"\n"
                              "path_style=true\n"
                              "use_default_credentials=false\n"
                              "access_key=\"test\"\n"
                              "secret_key=\"test\"\n"
                              "security_token=\"test\"\n"
                              "session_token=\"test\"\n"
                              "profile=\"test\"\n"
                              "compact_size_threshold=1000000\n"
                              "compact_records_threshold=100\n"
                              "compact_objects_threshold=10\n"
                              "\n"
                              "[batcher]\n"
                              "writer_thread_count=1\n"
                              "writer_thread_queue_capacity=4096\n"
                              "batch_check_interval_millis=100\n"
                              "batch_flush_interval_millis=1000\n"
                              "batch_flush_record_count_threshold=100000\n"
                              "batch_flush_size_threshold=1000000\n"
                              "\n"
                              "[kafka]\n"
                              "topic=\"inbound\"\n"
                              "offset_commit_interval_seconds=60\n"
                              "group.id=\"test_group\"\n"
                              "bootstrap.servers=\"127.0.0.1:9092\"\n"
                              "auto.offset.reset=earliest\n"
                              "\n"
                              "[parser]\n"
                              "nonce_parser=\"RecordOffset\"\n"
                              "timestamp_parser=\"None\"\n"
                              "keyspace_parser=\"Static(my_keyspace)\"\n"
                              "key_parser=\"RecordPartition\"\n";

static void expect_kafka(const struct bridge_config *c, const char *name, const char *want)
{
    char value[100];
    size_t n = sizeof value;
    assert_int_equal(rd_kafka_conf_get(c->kafka, name, value, &n), RD_KAFKA_CONF_OK);
    assert_string_equal(value, want);
}

static void klstores_example(void **state)
{
    struct bridge_config c;
    struct errmsg msg = {""};
    enum err e = load(&c, example, &msg);
    if (e)
        fail_msg("%s", msg.text);
    assert_string_equal(c.text[BRIDGE_s3_endpoint], "http://localhost:4566");
    assert_string_equal(c.text[BRIDGE_s3_profile], "test");
    assert_string_equal(c.text[BRIDGE_s3_path_style], "true");
    assert_string_equal(c.text[BRIDGE_s3_use_default_credentials], "false");
    assert_int_equal(c.number[BRIDGE_s3_compact_records_threshold], 100);
    assert_int_equal(c.number[BRIDGE_batcher_writer_thread_queue_capacity], 4096);
    assert_int_equal(c.number[BRIDGE_kafka_offset_commit_interval_seconds], 60);
    assert_string_equal(c.text[BRIDGE_kafka_topic], "inbound");
    expect_kafka(&c, "group.id", "test_group");
    expect_kafka(&c, "bootstrap.servers", "127.0.0.1:9092");
    expect_kafka(&c, "enable.auto.commit", "false");
    expect_kafka(&c, "enable.auto.offset.store", "true");
    assert_int_equal(c.nonce.source, PARSE_OFFSET);
    assert_int_equal(c.timestamp.source, PARSE_NONE);
    assert_int_equal(c.keyspace.source, PARSE_STATIC);
    assert_string_equal(c.keyspace.name, "my_keyspace");
    assert_int_equal(c.key.source, PARSE_PARTITION);
    assert_int_equal(c.on_bad, BAD_STOP);
    assert_false(c.skip_tombstones);
    bridge_config_release(&c);
}

#define LEAST                                                     \
    "[kafka]\ntopic = t\ngroup.id = g\nbootstrap.servers = h:1\n" \
    "[parser]\nkeyspace_parser = Static(k)\nkey_parser = RecordKey\n"

static void defaults(void **state)
{
    struct bridge_config c;
    struct errmsg msg = {""};
    assert_ok(load(&c, LEAST "[bridge]\ndirectory = d\n", &msg));
    expect_kafka(&c, "queued.min.messages", "500000");
    assert_string_equal(c.text[BRIDGE_s3_use_default_credentials], "true");
    assert_int_equal(c.number[BRIDGE_kafka_offset_commit_interval_seconds], 60);
    assert_int_equal(c.nonce.source, PARSE_NONE);
    assert_int_equal(c.timestamp.source, PARSE_NONE);
    bridge_config_release(&c);
}

// The offsets are always committed by the bridge, whatever the file says.
static void what_is_always_so(void **state)
{
    struct bridge_config c;
    struct errmsg msg = {""};
    assert_ok(load(&c,
                   LEAST "[bridge]\ndirectory = d\n"
                         "[kafka]\nenable.auto.commit = true\nenable.auto.offset.store = false\n",
                   &msg));
    expect_kafka(&c, "enable.auto.commit", "false");
    expect_kafka(&c, "enable.auto.offset.store", "true");
    bridge_config_release(&c);
    assert_ok(load(&c, LEAST "[bridge]\ndirectory = d\n[kafka]\nqueued.min.messages = 7\n", &msg));
    expect_kafka(&c, "queued.min.messages", "7");
    bridge_config_release(&c);
}

static void refused(const char *text, const char *want)
{
    struct bridge_config c;
    struct errmsg msg = {"(none)"};
    enum err e = load(&c, text, &msg);
    if (e == ERR_OK || strncmp(msg.text, path, strlen(path)) != 0 ||
        strcmp(msg.text + strlen(path), want) != 0)
        fail_msg("%s\n  gave %s: %s\n  not %s", text, err_name(e), msg.text, want);
    bridge_config_release(&c);
}

static void errors_name_the_line(void **state)
{
    refused("[s3]\nbucket = b\n", ":2: unknown key \"s3.bucket\"");
    refused("[batcher]\nwriter_threads_count = 2\n",
            ":2: unknown key \"batcher.writer_threads_count\" (did you mean "
            "\"batcher.writer_thread_count\"?)");
    refused("[s4]\nbucket = b\n",
            ":2: unknown section [s4]; there are s3, batcher, kafka, parser and bridge");
    refused("[s3]\npath_style = yes\n", ":2: s3.path_style: \"yes\" is not one of false|true");
    refused("[batcher]\nwriter_thread_count = two\n",
            ":2: batcher.writer_thread_count: \"two\" is not a number");
    refused("[batcher]\nwriter_thread_count = 65\n",
            ":2: batcher.writer_thread_count: 65 is out of the range 1 to 64");
    refused("[s3]\ncompact_size_threshold = 1t\n", ":2: s3.compact_size_threshold: \"1t\" is not a "
                                                   "number of bytes, or of k, m or g (\"64k\")");
    refused("[kafka]\n\ntopic = a\ntopic = b\n", ":4: kafka.topic is set on line 3 already");
    refused("[kafka]\ngroup.idd = a\n", ":2: No such configuration property: \"group.idd\"");
    refused("[kafka]\nauto.offset.reset = never\n",
            ":2: Invalid value \"never\" for configuration property \"auto.offset.reset\"");
    refused("[parser]\nkey_parser = Recordkey\n",
            ":2: parser.key_parser: \"Recordkey\" is no parser; there are Static(...), "
            "RecordHeader(...), RecordKey, RecordPartition");
    refused("[bridge]\non_bad_record = ignore\n",
            ":2: bridge.on_bad_record: \"ignore\" is not one of stop|skip|dead_letter");
    refused("[bridge]\non_tombstone = drop\n",
            ":2: bridge.on_tombstone: \"drop\" is not one of keep|skip");
    refused("topic = a\n", ":1: key \"topic\" stands before any [section]");
}

static void what_is_missing(void **state)
{
    refused("", ": kafka.topic is missing");
    refused("[kafka]\ntopic = t\n", ": parser.keyspace_parser is missing");
    refused("[kafka]\ntopic = ^t\n[parser]\nkeyspace_parser=RecordKey\nkey_parser=RecordKey\n",
            ": kafka.topic: \"^t\" is a pattern; a bridge takes one topic");
    refused("[kafka]\ntopic = t\n[parser]\nkeyspace_parser=RecordKey\nkey_parser=RecordKey\n",
            ": kafka.bootstrap.servers is missing");
    refused("[kafka]\ntopic = t\nbootstrap.servers = h\n[parser]\nkeyspace_parser=RecordKey\n"
            "key_parser=RecordKey\n",
            ": kafka.group.id is missing: the group's offsets say where to go on");
    refused(LEAST, ": says not where records go: set s3.bucket_name, bridge.directory or "
                   "bridge.server");
    refused(LEAST "[bridge]\ndirectory = d\nserver = h:1\n",
            ": bridge.directory and bridge.server are both set; records go to one");
    refused(LEAST "[bridge]\ndirectory = d\non_bad_record = dead_letter\n",
            ": bridge.on_bad_record = dead_letter and bridge.dead_letter_topic belong together; "
            "only one is set");
    refused(LEAST "[bridge]\ndirectory = d\non_bad_record = dead_letter\ndead_letter_topic = t\n",
            ": bridge.dead_letter_topic is kafka.topic itself: a bad record would come back for "
            "ever");
}

// A model: an array.
static void feeds_remember(void **state)
{
    enum { LOGS = 1000 };
    struct feeds f;
    feeds_init(&f, LOGS, 7);
    char names[LOGS][16];
    struct feed *feed;
    for (int i = 0; i < LOGS; i++) {
        snprintf(names[i], sizeof names[i], "%d", i);
        const struct archive_log log = {slice_str(names[i % 10]), slice_str(names[i])};
        assert_null(feeds_find(&f, &log));
        assert_ok(feeds_add(&f, &log, i % 7, &feed));
        assert_ptr_equal(feeds_find(&f, &log), feed);
        assert_false(f.full);
    }
    for (int i = 0; i < LOGS; i++) {
        const struct archive_log log = {slice_str(names[i % 10]), slice_str(names[i])};
        feed = feeds_find(&f, &log);
        assert_non_null(feed);
        assert_int_equal(feed->partition, i % 7);
        assert_true(slice_equal(feed->log.key, log.key));
        const struct archive_log other = {slice_str("other"), log.key};
        assert_null(feeds_find(&f, &other));
    }
    const struct archive_log more = {slice_str("ks"), slice_str("one more")};
    assert_ok(feeds_add(&f, &more, 0, &feed));
    assert_null(feed);
    assert_true(f.full);
    assert_null(feeds_find(&f, &more));
    feeds_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(klstores_example),  cmocka_unit_test(defaults),
        cmocka_unit_test(what_is_always_so), cmocka_unit_test(errors_name_the_line),
        cmocka_unit_test(what_is_missing),   cmocka_unit_test(feeds_remember),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
