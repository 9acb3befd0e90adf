// Starting, the loop, and stopping, in order:
//
//   configuration -> the sink (its store is probed) -> the topic -> subscribe
//   -> the loop: poll; take the record; now and then store, commit, tell
//   -> a signal or an error -> store and commit, unless the sink's state is unknown -> leave the
//      group, letting all logs go -> close
//
// Threads: this one, librdkafka's own, which read ahead, the sink's, and one that waits for signals
// (stop.c). Records come through a
// queue of their own, to which those of all partitions are forwarded (group.c), many at a time:
// rd_kafka_consumer_poll takes a record a call, and three times as long for it. Rebalances and
// errors stay in the consumer's queue, which is served between two batches, so none happens while
// records are in our hands.
#include "bridge/bridge.h"
#include "base/limits.h"
#include "base/log.h"
#include "bridge/bridge_int.h"
#include <stdlib.h>

enum {
    BATCH = 1000,  // records taken at once
    WAIT_MS = 50,  // and how long they are waited for
    EVENTS = 1000, // served between two batches
};

enum err bridge_fail(struct bridge *b, enum err e, const struct errmsg *why)
{
    if (!b->e) {
        b->e = e;
        b->why = *why;
    }
    return e;
}

enum err bridge_break(struct bridge *b, enum err e, const struct errmsg *why)
{
    struct errmsg told = *why;
    if (e == ERR_CONFLICT)
        err_set(&told, e,
                "%.380s. Is there another bridge, of another group perhaps, or a second one for a "
                "log that several partitions feed?",
                why->text);
    b->broken = true;
    return bridge_fail(b, e, &told);
}

// Nonces from offsets and one log for all: wrong from the second partition on, whoever reads it.
static enum err check_names(const struct bridge_config *c, int partitions, struct errmsg *msg)
{
    if (c->nonce.source != PARSE_OFFSET || c->keyspace.source != PARSE_STATIC ||
        c->key.source != PARSE_STATIC || partitions < 2)
        return ERR_OK;
    return err_set(msg, ERR_INVALID,
                   "topic %s has %d partitions, which would all feed the log \"%.80s/%.80s\" with "
                   "nonce_parser = RecordOffset: of equal offsets only the first would be stored. "
                   "Let key_parser or keyspace_parser be RecordPartition, or take nonces from a "
                   "header",
                   c->text[BRIDGE_kafka_topic], partitions, c->keyspace.name, c->key.name);
}

static enum err start(struct bridge *b, struct errmsg *msg)
{
    int partitions = 0;
    uint64_t seed;
    os_random(b->os, &seed, sizeof seed);
    feeds_init(&b->feeds, b->config.number[BRIDGE_s3_max_cached_keys], seed);
    feeds_init(&b->keyspaces, LIMIT_KEYSPACES, seed);
    enum err e = *b->config.text[BRIDGE_bridge_server]
                     ? sink_server_open(&b->sink, &b->config, msg)
                     : sink_objects_open(&b->sink, &b->config, b->os, msg);
    atomic_store(&b->stop.sink, e ? NULL : b->sink);
    e = e ? e : kafka_open(b, msg);
    e = e ? e : kafka_find_topic(b, &partitions, msg);
    e = e ? e : check_names(&b->config, partitions, msg);
    e = e ? e : kafka_subscribe(b, msg);
    if (!e)
        log_event(LOG_INFO, "bridge_started", "topic=%s partitions=%d to=%s",
                  log_quote(b->config.text[BRIDGE_kafka_topic]), partitions,
                  log_quote(b->sink->where));
    return e;
}

// Between records: false when it is time to stop.
static bool look(struct bridge *b)
{
    if (stop_asked(b))
        return false;
    if (os_mono_ns(b->os) < b->next_commit_ns)
        return true;
    group_commit(b);
    metrics_write(b);
    b->next_commit_ns = os_mono_ns(b->os) +
                        b->config.number[BRIDGE_kafka_offset_commit_interval_seconds] * 1000000000;
    return true;
}

// A record, or an error in its place.
static void take(struct bridge *b, rd_kafka_message_t *m)
{
    if (m->err) {
        kafka_trouble(b, m->err, rd_kafka_message_errstr(m));
    } else if (!b->e) {
        kafka_fine(b);
        record_take(b, m);
        os_crash_point("bridge_taken");
    }
    rd_kafka_message_destroy(m);
}

// Rebalances and errors: their callbacks run in here.
static void serve_events(struct bridge *b)
{
    rd_kafka_message_t *m;
    for (int i = 0; i < EVENTS && !b->e && (m = rd_kafka_consumer_poll(b->consumer, 0)); i++)
        take(b, m);
}

static void run(struct bridge *b)
{
    rd_kafka_message_t *batch[BATCH];
    struct errmsg msg;
    b->next_commit_ns = os_mono_ns(b->os) +
                        b->config.number[BRIDGE_kafka_offset_commit_interval_seconds] * 1000000000;
    do {
        serve_events(b);
        ssize_t n = b->e ? 0 : rd_kafka_consume_batch_queue(b->records, WAIT_MS, batch, BATCH);
        for (ssize_t i = 0; i < n; i++)
            take(b, batch[i]);
        enum err e = n < BATCH && !b->e ? sink_idle(b->sink, &msg) : ERR_OK;
        if (e)
            bridge_break(b, e, &msg);
    } while (!b->e && look(b));
}

static void stop(struct bridge *b)
{
    group_commit(b);
    rd_kafka_consumer_close(b->consumer); // hands the partitions over: group_rebalance
    metrics_write(b);
    metrics_log(b);
}

static void release(struct bridge *b)
{
    letters_close(b);
    if (b->records)
        rd_kafka_queue_destroy(b->records);
    if (b->consumer)
        rd_kafka_destroy(b->consumer);
    sink_close(b->sink);
    feeds_release(&b->feeds);
    feeds_release(&b->keyspaces);
    free(b->partitions);
    bridge_config_release(&b->config);
}

enum err bridge_run(const char *config_path, struct errmsg *msg)
{
    struct bridge b = {.os = os_real()};
    enum err e = stop_begin(&b, msg);
    e = e ? e : bridge_config_load(&b.config, config_path, msg);
    e = e ? e : start(&b, msg);
    if (!e) {
        run(&b);
        stop(&b);
        e = b.e;
        *msg = b.why;
    }
    stop_end(&b); // before the sink goes
    release(&b);
    log_event(LOG_INFO, "bridge_stopped", "result=%s", err_name(e == ERR_CLOSED ? ERR_OK : e));
    return e == ERR_CLOSED ? ERR_OK : e;
}
