// Partitions that come and go, and their offsets. Three rules:
//
//   An offset is committed after a flush that came after its record was taken.
//   A partition that is handed over has its records stored, its offset committed and its logs let
//   go before the group hears that we have let go of it (librdkafka waits for the callback).
//   A partition that was lost (the group has given us up: a session ran out) may be somebody's by
//   now. Nothing more is stored or committed for it: whoever has it reads from the last commit on,
//   and nonces keep what we had stored from being stored again.
#include "base/log.h"
#include "bridge/bridge_int.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { PARTITIONS_MAX = 1 << 20 };

struct partition *group_partition(struct bridge *b, int32_t id)
{
    if (id >= 0 && (size_t)id < b->partition_count)
        return &b->partitions[id];
    size_t count = b->partition_count ? b->partition_count : 16;
    while (id >= 0 && count <= (size_t)id && count < PARTITIONS_MAX)
        count *= 2;
    struct partition *p =
        id >= 0 && (size_t)id < count ? realloc(b->partitions, count * sizeof *p) : NULL;
    if (!p) {
        struct errmsg msg;
        bridge_fail(b, err_set(&msg, ERR_NO_MEMORY, "no memory for partition %" PRId32, id), &msg);
        return NULL;
    }
    for (size_t i = b->partition_count; i < count; i++)
        p[i] = (struct partition){.next = -1, .committed = -1};
    b->partitions = p;
    b->partition_count = count;
    return &p[id];
}

// ---- offsets

static rd_kafka_topic_partition_list_t *to_commit(const struct bridge *b)
{
    const char *topic = b->config.text[BRIDGE_kafka_topic];
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
    for (size_t i = 0; i < b->partition_count; i++) {
        const struct partition *p = &b->partitions[i];
        if (p->assigned && p->next > p->committed)
            rd_kafka_topic_partition_list_add(list, topic, (int32_t)i)->offset = p->next;
    }
    return list;
}

static void send_offsets(struct bridge *b, rd_kafka_topic_partition_list_t *list)
{
    rd_kafka_resp_err_t code = rd_kafka_commit(b->consumer, list, 0);
    int failed = 0;
    for (int i = 0; i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *one = &list->elems[i];
        if (code || one->err)
            failed++;
        else
            b->partitions[one->partition].committed = one->offset;
        code = code ? code : one->err;
    }
    if (!failed) {
        b->counters.commits++;
        return;
    }
    b->counters.commit_failures++;
    log_event(LOG_WARN, "commit_failed", "partitions=%d of=%d error=%s text=%s", failed, list->cnt,
              rd_kafka_err2name(code), log_quote(rd_kafka_err2str(code)));
}

void group_commit(struct bridge *b)
{
    struct errmsg msg;
    if (b->broken)
        return;
    rd_kafka_topic_partition_list_t *list = to_commit(b);
    enum err e = list->cnt ? sink_flush(b->sink, &msg) : ERR_OK;
    if (!e && list->cnt) {
        os_crash_point("bridge_flushed");
        e = letters_flush(b, &msg);
        if (!e)
            send_offsets(b, list);
        os_crash_point("bridge_committed");
    }
    if (e)
        bridge_break(b, e, &msg);
    rd_kafka_topic_partition_list_destroy(list);
}

// ---- logs

static bool is_going(const rd_kafka_topic_partition_list_t *list, int32_t id)
{
    for (int i = 0; i < list->cnt; i++)
        if (list->elems[i].partition == id)
            return true;
    return false;
}

// Lets go the logs that these partitions feed. Everything is flushed.
static void let_go(struct bridge *b, const rd_kafka_topic_partition_list_t *list)
{
    struct errmsg msg;
    enum err e = ERR_OK;
    size_t staying = 0;
    for (size_t i = 0; i < b->partition_count; i++)
        staying += b->partitions[i].assigned && !is_going(list, (int32_t)i);
    // One by one only where that spares others; and not if we may not know them all.
    bool all = staying == 0 || b->feeds.full;
    if (all)
        e = sink_renew(b->sink, &msg);
    for (size_t i = 0; i < b->feeds.slots && !e; i++) {
        struct feed *f = b->feeds.table[i];
        if (!f || !f->held || !(all || f->several || is_going(list, f->partition)))
            continue;
        e = all ? ERR_OK : sink_release(b->sink, &f->log, &msg);
        f->held = false;
    }
    if (e)
        bridge_break(b, e, &msg);
}

// ---- coming and going

static void say(const char *event, const rd_kafka_topic_partition_list_t *list)
{
    char text[400] = "";
    size_t n = 0;
    for (int i = 0; i < list->cnt && n + 16 < sizeof text; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%" PRId32, i ? "," : "",
                              list->elems[i].partition);
    log_event(LOG_INFO, event, "count=%d partitions=%s", list->cnt, log_quote(text));
}

// The partition's records go to our queue. Before it is assigned, so that none went elsewhere;
// librdkafka leaves a queue alone that the application has forwarded.
static void forward(struct bridge *b, const rd_kafka_topic_partition_t *one)
{
    rd_kafka_queue_t *q = rd_kafka_queue_get_partition(b->consumer, one->topic, one->partition);
    if (!q)
        return; // then they come with the events
    rd_kafka_queue_forward(q, b->records);
    rd_kafka_queue_destroy(q);
}

static void take_in(struct bridge *b, const rd_kafka_topic_partition_list_t *list)
{
    say("partitions_assigned", list);
    for (int i = 0; i < list->cnt; i++) {
        struct partition *p = group_partition(b, list->elems[i].partition);
        forward(b, &list->elems[i]);
        if (p)
            *p = (struct partition){.assigned = true, .next = -1, .committed = -1};
    }
}

static void hand_over(struct bridge *b, const rd_kafka_topic_partition_list_t *list, bool lost)
{
    struct errmsg msg;
    say(lost ? "partitions_lost" : "partitions_revoked", list);
    if (lost) {
        b->counters.partitions_lost += (uint64_t)list->cnt;
        enum err e = b->broken ? ERR_OK : sink_renew(b->sink, &msg);
        if (e)
            bridge_break(b, e, &msg);
        for (size_t i = 0; i < b->feeds.slots; i++)
            if (b->feeds.table[i])
                b->feeds.table[i]->held = false;
    } else {
        group_commit(b);
        if (!b->broken)
            let_go(b, list);
    }
    for (int i = 0; i < list->cnt; i++) {
        struct partition *p = group_partition(b, list->elems[i].partition);
        if (p)
            *p = (struct partition){.next = -1, .committed = -1};
    }
}

void group_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *list,
                     void *bridge)
{
    struct bridge *b = bridge;
    bool steps = !strcmp(rd_kafka_rebalance_protocol(rk), "COOPERATIVE");
    bool assigns = err == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
    rd_kafka_error_t *error = NULL;
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
    b->counters.rebalances++;
    if (assigns)
        take_in(b, list);
    else if (err == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS)
        hand_over(b, list, rd_kafka_assignment_lost(rk));
    if (assigns && steps)
        error = rd_kafka_incremental_assign(rk, list);
    else if (steps)
        error = rd_kafka_incremental_unassign(rk, list);
    else
        code = rd_kafka_assign(rk, assigns ? list : NULL);
    if (error || code) {
        struct errmsg msg;
        err_set(&msg, ERR_NETWORK, "librdkafka does not take the partitions that it gave: %s",
                error ? rd_kafka_error_string(error) : rd_kafka_err2str(code));
        bridge_fail(b, ERR_NETWORK, &msg);
    }
    if (error)
        rd_kafka_error_destroy(error);
}
