// The bridge's configuration: klstore's INI, read unchanged, and a section of ours.
//
//   [s3]       where objects go (docs/OPERATIONS.md, "Kafka bridge", has all keys and defaults)
//   [batcher]  how records are gathered
//   [kafka]    topic, offset_commit_interval_seconds; every other key is librdkafka's, as it is
//   [parser]   keyspace_parser, key_parser, nonce_parser, timestamp_parser (bridge/parse.h)
//   [bridge]   ours
#ifndef VARVE_BRIDGE_CONFIG_H
#define VARVE_BRIDGE_CONFIG_H

#include "archive/batcher.h"
#include "bridge/parse.h"
#include <librdkafka/rdkafka.h>

enum bad_policy { BAD_STOP, BAD_SKIP, BAD_DEAD_LETTER };

// X(section, key, kind, minimum, maximum): kinds are TEXT, COUNT, SIZE (bytes; k m g), BOOL. Zero
// or "" is "not set". default_page_size is for klstore's readers; nobody looks at it here.
#define BRIDGE_CONFIG(X)                                                 \
    X(s3, object_prefix, TEXT, 0, 0)                                     \
    X(s3, bucket_name, TEXT, 0, 0)                                       \
    X(s3, endpoint, TEXT, 0, 0)                                          \
    X(s3, region, TEXT, 0, 0)                                            \
    X(s3, path_style, BOOL, 0, 0)                                        \
    X(s3, use_default_credentials, BOOL, 0, 0)                           \
    X(s3, access_key, TEXT, 0, 0)                                        \
    X(s3, secret_key, TEXT, 0, 0)                                        \
    X(s3, security_token, TEXT, 0, 0)                                    \
    X(s3, session_token, TEXT, 0, 0)                                     \
    X(s3, profile, TEXT, 0, 0)                                           \
    X(s3, default_page_size, COUNT, 1, 1000000)                          \
    X(s3, max_cached_keys, COUNT, 1, 100000000)                          \
    X(s3, compact_records_threshold, COUNT, 1, 1000000000)               \
    X(s3, compact_size_threshold, SIZE, 1, 1073741824)                   \
    X(s3, compact_objects_threshold, COUNT, 2, 1000000)                  \
    X(batcher, writer_thread_count, COUNT, 1, 64)                        \
    X(batcher, writer_thread_queue_capacity, COUNT, 1, 1000000000000)    \
    X(batcher, batch_check_interval_millis, COUNT, 1, 3600000)           \
    X(batcher, batch_flush_interval_millis, COUNT, 1, 86400000)          \
    X(batcher, batch_flush_record_count_threshold, COUNT, 1, UINT64_MAX) \
    X(batcher, batch_flush_size_threshold, SIZE, 1, UINT64_MAX)          \
    X(kafka, topic, TEXT, 0, 0)                                          \
    X(kafka, offset_commit_interval_seconds, COUNT, 1, 86400)            \
    X(parser, keyspace_parser, TEXT, 0, 0)                               \
    X(parser, key_parser, TEXT, 0, 0)                                    \
    X(parser, nonce_parser, TEXT, 0, 0)                                  \
    X(parser, timestamp_parser, TEXT, 0, 0)                              \
    X(bridge, directory, TEXT, 0, 0)                                     \
    X(bridge, server, TEXT, 0, 0)                                        \
    X(bridge, on_bad_record, TEXT, 0, 0)                                 \
    X(bridge, dead_letter_topic, TEXT, 0, 0)                             \
    X(bridge, on_tombstone, TEXT, 0, 0)                                  \
    X(bridge, metrics_file, TEXT, 0, 0)                                  \
    X(bridge, queue_bytes, SIZE, 65536, 1099511627776)                   \
    X(bridge, memory_bytes, SIZE, 65536, 1099511627776)

enum bridge_key {
#define X(section, key, kind, min, max) BRIDGE_##section##_##key,
    BRIDGE_CONFIG(X)
#undef X
        BRIDGE_KEYS
};

struct bridge_config {
    char *text[BRIDGE_KEYS];      // never NULL once loaded
    uint64_t number[BRIDGE_KEYS]; // COUNT, SIZE; BOOL: 0, 1
    unsigned line[BRIDGE_KEYS];   // 0: not set
    struct parser keyspace, key, nonce, timestamp;
    enum bad_policy on_bad;
    bool skip_tombstones;
    rd_kafka_conf_t *kafka; // the consumer's; NULL once it was handed to librdkafka
};

// ERR_INVALID with FILE:LINE for an unknown key, a value that none takes, librdkafka's own text for
// a key of its; and for what is missing or does not go together. Warnings go to the log.
// bridge_config_release in any case.
MUST_USE enum err bridge_config_load(struct bridge_config *c, const char *path, struct errmsg *msg);
void bridge_config_release(struct bridge_config *c);

#endif
