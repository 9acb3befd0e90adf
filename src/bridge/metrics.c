// What the bridge counts: for bridge.metrics_file, in the Prometheus text format, and for the log.
#include "base/limits.h"
#include "base/log.h"
#include "bridge/bridge_int.h"
#include <inttypes.h>
#include <string.h>

enum { METRICS_BYTES = 1 << 20 };

struct gauges {
    struct sink_stats sink;
    struct os_usage usage;
    uint64_t assigned;
    uint64_t lag; // records in Kafka that were not taken, of assigned partitions, as last heard
};

static void measure(struct bridge *b, struct gauges *g)
{
    const char *topic = b->config.text[BRIDGE_kafka_topic];
    *g = (struct gauges){0};
    sink_get_stats(b->sink, &g->sink);
    os_usage(&g->usage);
    for (size_t i = 0; i < b->partition_count; i++) {
        const struct partition *p = &b->partitions[i];
        int64_t low, high;
        g->assigned += p->assigned;
        if (p->assigned && p->next >= 0 &&
            !rd_kafka_get_watermark_offsets(b->consumer, topic, (int32_t)i, &low, &high) &&
            high > p->next)
            g->lag += (uint64_t)(high - p->next);
    }
}

#define SINK(X)                                                                            \
    X(stored_total, counter, "records stored", g.sink.stored)                              \
    X(duplicates_total, counter, "records that were there already", g.sink.dropped)        \
    X(batches_total, counter, "objects written, or appends to the server", g.sink.batches) \
    X(waits_total, counter, "times that a record waited for room", g.sink.waits)           \
    X(buffered_bytes, gauge, "bytes that are not stored yet", g.sink.bytes)                \
    X(assigned_partitions, gauge, "partitions that this bridge has", g.assigned)           \
    X(lag_records, gauge, "records in those that were not taken yet", g.lag)               \
    X(last_write_seconds, gauge, "when this was written, since 1970", os_wall_us(b->os) / 1000000)

static enum err format(struct bridge *b, struct buf *out)
{
    struct gauges g;
    enum err e = ERR_OK;
    measure(b, &g);
#define X(name, help) \
    if (!e)           \
        e = buf_metric(out, "varve_bridge_" #name "_total", "counter", help, b->counters.name);
    BRIDGE_COUNTERS(X)
#undef X
#define X(name, type, help, value) \
    if (!e)                        \
        e = buf_metric(out, "varve_bridge_" #name, #type, help, value);
    SINK(X)
#undef X
    if (!e)
        e = buf_metric(out, "process_resident_memory_bytes", "gauge", "resident set",
                       g.usage.rss_bytes);
    return e;
}

void metrics_write(struct bridge *b)
{
    const char *path = b->config.text[BRIDGE_bridge_metrics_file];
    const char *slash = strrchr(path, '/');
    char dir[LIMIT_PATH] = ".";
    struct buf out;
    if (!*path)
        return;
    if (slash) {
        size_t n = slash == path ? 1 : (size_t)(slash - path);
        memcpy(dir, path, n);
        dir[n] = 0;
    }
    buf_init(&out, METRICS_BYTES);
    enum err e = format(b, &out);
    e = e ? e
          : os_replace_file(b->os, dir, slash ? slash + 1 : path, buf_head(&out), buf_len(&out));
    if (e)
        log_event(LOG_WARN, "metrics_failed", "path=%s error=%s", log_quote(path), err_name(e));
    buf_release(&out);
}

void metrics_log(struct bridge *b)
{
    struct gauges g;
    measure(b, &g);
    log_event(LOG_INFO, "bridge_counts",
              "records=%" PRIu64 " stored=%" PRIu64 " duplicates=%" PRIu64 " bad=%" PRIu64
              " dead_letters=%" PRIu64 " tombstones=%" PRIu64 " commits=%" PRIu64
              " rebalances=%" PRIu64 " lag=%" PRIu64,
              b->counters.records, g.sink.stored, g.sink.dropped, b->counters.bad_records,
              b->counters.dead_letters, b->counters.tombstones, b->counters.commits,
              b->counters.rebalances, g.lag);
}
