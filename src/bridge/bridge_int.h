// What the bridge's files share. Of this room only. Everything but `stop` belongs to the consumer's
// thread: librdkafka calls back from within its polls.
#ifndef VARVE_BRIDGE_BRIDGE_INT_H
#define VARVE_BRIDGE_BRIDGE_INT_H

#include "base/os.h"
#include "bridge/config.h"
#include "bridge/feeds.h"
#include "bridge/sink.h"
#include <pthread.h>
#include <stdatomic.h>

struct partition {
    bool assigned;
    int64_t next;      // the offset after the last record taken; -1: none since it was assigned
    int64_t committed; // as far as this process has, -1
    struct feed *last; // the log of its last record; NULL
};

// Counted for ever; X(name, help).
#define BRIDGE_COUNTERS(X)                                               \
    X(records, "records taken from Kafka")                               \
    X(record_bytes, "bytes of their values")                             \
    X(bad_records, "records that the parsers refused")                   \
    X(dead_letters, "bad records given to the dead letter topic")        \
    X(tombstones, "records without a value")                             \
    X(commits, "times that offsets were committed")                      \
    X(commit_failures, "times that committing them failed")              \
    X(rebalances, "times that partitions came or went")                  \
    X(partitions_lost, "partitions that went without being handed over") \
    X(kafka_errors, "errors that librdkafka told of")

struct bridge {
    struct os *os;
    struct bridge_config config;
    struct sink *sink;
    struct {
        pthread_t thread;
        bool begun;
        atomic_bool asked;           // by a signal
        atomic_bool over;            // the thread ends without one
        _Atomic(struct sink *) sink; // as above once it is open
    } stop;
    rd_kafka_t *consumer;
    rd_kafka_queue_t *records; // of all partitions; the consumer's own queue has the rest
    rd_kafka_t *producer;      // of dead letters; NULL
    uint64_t letters_failed;   // deliveries that failed
    struct partition *partitions;
    size_t partition_count; // places there
    struct feeds feeds;
    struct feeds keyspaces; // known to be there: "logs" without a key; forgotten when they are many
    // The first error ends everything; with `broken` the sink's state is unknown and nothing may be
    // committed any more.
    enum err e;
    struct errmsg why;
    bool broken;
    bool cut_off;           // from Kafka, and it was said
    uint64_t complained_ns; // when it was said last
    char reason[300];       // what librdkafka said last that tells why; ""
    uint64_t next_commit_ns;
    struct {
#define X(name, help) uint64_t name;
        BRIDGE_COUNTERS(X)
#undef X
    } counters;
};

// Keeps the first error; returns it.
enum err bridge_fail(struct bridge *b, enum err e, const struct errmsg *why);
// The same of the sink's.
enum err bridge_break(struct bridge *b, enum err e, const struct errmsg *why);

// ---- kafka.c: the clients, and what librdkafka complains about

MUST_USE enum err kafka_open(struct bridge *b, struct errmsg *msg);
// Waits until the topic is known. ERR_CLOSED: a signal came. ERR_MISSING, ERR_DENIED.
MUST_USE enum err kafka_find_topic(struct bridge *b, int *partitions, struct errmsg *msg);
MUST_USE enum err kafka_subscribe(struct bridge *b, struct errmsg *msg);
// An error event or message: ends the bridge if it will not pass, or is said now and then.
void kafka_trouble(struct bridge *b, rd_kafka_resp_err_t code, const char *text);
// A record came, so the connection is there.
void kafka_fine(struct bridge *b);

// ---- stop.c: SIGTERM and SIGINT

enum { STOP_HURRIED = 3 }; // the process's exit status, as for a store that does not answer
// Blocks the signals for this thread and those that it makes from here on.
MUST_USE enum err stop_begin(struct bridge *b, struct errmsg *msg);
void stop_end(struct bridge *b);
bool stop_asked(const struct bridge *b);

// ---- group.c: partitions that come and go, and their offsets

// Stores all that was taken and commits. An error of the sink breaks the bridge; one of Kafka's is
// logged and the next commit makes up for it.
void group_commit(struct bridge *b);
void group_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *list,
                     void *bridge);
// The place of a partition; NULL: no memory, and the bridge has failed.
struct partition *group_partition(struct bridge *b, int32_t id);

// ---- record.c: a record's way

void record_take(struct bridge *b, const rd_kafka_message_t *m);

// ---- letters.c: dead letters

MUST_USE enum err letters_open(struct bridge *b, struct errmsg *msg);
MUST_USE enum err letters_send(struct bridge *b, const rd_kafka_message_t *m, const char *why,
                               struct errmsg *msg);
// Returns when all are in Kafka.
MUST_USE enum err letters_flush(struct bridge *b, struct errmsg *msg);
void letters_close(struct bridge *b);

// ---- metrics.c

// Replaces bridge.metrics_file, if there is one.
void metrics_write(struct bridge *b);
void metrics_log(struct bridge *b);

#endif
