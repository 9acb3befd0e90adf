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
#include "base/config.h"
#include "bridge/parse.h"
#include <librdkafka/rdkafka.h>

enum bad_policy { BAD_STOP, BAD_SKIP, BAD_DEAD_LETTER };

// As in base/config.h. "" and 0 of those of [bridge], [kafka] and [parser] are "not set".
#define BRIDGE_CONFIG(X)                                                                        \
    CONFIG_S3(X)                                                                                \
    CONFIG_BATCHER(X)                                                                           \
    X(kafka, topic, TEXT, "", 0, 0, "where records come from")                                  \
    X(kafka, offset_commit_interval_seconds, COUNT, "60", 1, 86400,                             \
      "how often all is stored and committed")                                                  \
    X(parser, keyspace_parser, TEXT, "", 0, 0, "of a record's keyspace")                        \
    X(parser, key_parser, TEXT, "", 0, 0, "of its key")                                         \
    X(parser, nonce_parser, TEXT, "", 0, 0, "of its nonce; none: None")                         \
    X(parser, timestamp_parser, TEXT, "", 0, 0, "of its time; none: None")                      \
    X(bridge, directory, TEXT, "", 0, 0, "objects go there, not to S3")                         \
    X(bridge, server, TEXT, "", 0, 0, "records go to this server")                              \
    X(bridge, on_bad_record, CHOICE, "stop", 0, 0, "stop|skip|dead_letter: what becomes of it") \
    X(bridge, dead_letter_topic, TEXT, "", 0, 0, "for dead_letter")                             \
    X(bridge, on_tombstone, CHOICE, "keep", 0, 0, "keep|skip: records without a value")         \
    X(bridge, metrics_file, TEXT, "", 0, 0, "counters are written there")                       \
    X(bridge, queue_bytes, SIZE, "64m", 65536, 1099511627776,                                   \
      "queued for a writing thread at most")                                                    \
    X(bridge, memory_bytes, SIZE, "256m", 65536, 1099511627776, "in its batches at most")

enum bridge_key {
#define X(section, key, kind, initial, min, max, help) BRIDGE_##section##_##key,
    BRIDGE_CONFIG(X)
#undef X
        BRIDGE_KEYS
};

struct bridge_config {
    struct config *keys;
    const char *text[BRIDGE_KEYS]; // of `keys`, once loaded
    uint64_t number[BRIDGE_KEYS];  // COUNT, SIZE
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
