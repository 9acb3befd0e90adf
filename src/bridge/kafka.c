// The consumer: made of the configuration's [kafka], and what becomes of librdkafka's complaints.
// It mends by itself whatever can pass (brokers that go and come back, leaders that move); here is
// decided what will not pass, and that a person hears of the rest.
#include "base/log.h"
#include "bridge/bridge_int.h"
#include <stdio.h>
#include <string.h>

enum { METADATA_MS = 2000 };
#define COMPLAIN_NS 10000000000ull // a trouble that lasts is told so often

// ---- complaints

// What will not pass, and what to do. NULL: it may.
static const char *advice(rd_kafka_resp_err_t code, enum err *e)
{
    *e = ERR_DENIED;
    switch (code) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM:
    case RD_KAFKA_RESP_ERR_ILLEGAL_SASL_STATE:
        return "correct security.protocol, sasl.mechanism, sasl.username and sasl.password in "
               "[kafka]";
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
        return "the user of [kafka] must be allowed to read kafka.topic";
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
        return "the user of [kafka] must be allowed to read as kafka.group.id";
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        return "the user of [kafka] lacks a right on the cluster";
    default:
        break;
    }
    *e = ERR_MISSING;
    switch (code) {
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
        return "create the topic, or correct kafka.topic";
    default:
        break;
    }
    *e = ERR_INVALID;
    switch (code) {
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
        return "correct kafka.topic";
    case RD_KAFKA_RESP_ERR_INVALID_GROUP_ID:
        return "correct kafka.group.id";
    case RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL:
        return "all members of the group need a partition.assignment.strategy in common";
    case RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT:
        return "correct kafka.session.timeout.ms";
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
        return "records that were not read are gone from Kafka; set kafka.auto.offset.reset to "
               "earliest or latest to go on with those that are left";
    default:
        break;
    }
    *e = ERR_NETWORK;
    switch (code) {
    case RD_KAFKA_RESP_ERR__FATAL:
    case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
        return "librdkafka cannot go on; start the bridge again";
    default:
        return NULL;
    }
}

// What may pass, and what to look at if it does not.
static const char *suspicion(rd_kafka_resp_err_t code)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR__RESOLVE:
        return "correct bootstrap.servers";
    case RD_KAFKA_RESP_ERR__SSL:
        return "correct security.protocol and the keys that begin with ssl.";
    case RD_KAFKA_RESP_ERR__BAD_MSG:
        return "bootstrap.servers is not Kafka's address, or security.protocol is wrong";
    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
        return "start the brokers, or correct bootstrap.servers and security.protocol";
    default:
        return "wait: it may pass";
    }
}

// What passes by itself and happens all the time.
static bool is_noise(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR__PARTITION_EOF || code == RD_KAFKA_RESP_ERR_NO_ERROR;
}

// Only that nothing works, not why.
static bool is_sum(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || code == RD_KAFKA_RESP_ERR__TIMED_OUT;
}

void kafka_trouble(struct bridge *b, rd_kafka_resp_err_t code, const char *text)
{
    struct errmsg msg;
    enum err e;
    if (is_noise(code))
        return;
    b->counters.kafka_errors++;
    const char *what_to_do = advice(code, &e);
    if (what_to_do) {
        err_set(&msg, e, "Kafka: %.200s (%s): %s", text, rd_kafka_err2name(code), what_to_do);
        bridge_fail(b, e, &msg);
        return;
    }
    uint64_t now = os_mono_ns(b->os);
    if (b->cut_off && now - b->complained_ns < COMPLAIN_NS)
        return;
    b->cut_off = true;
    b->complained_ns = now;
    char whole[700];
    snprintf(whole, sizeof whole, "%.300s%s%.300s", text, is_sum(code) && *b->reason ? ": " : "",
             is_sum(code) ? b->reason : "");
    log_event(LOG_WARN, "kafka_trouble", "error=%s text=%s remedy=%s", rd_kafka_err2name(code),
              log_quote(whole), log_quote(suspicion(code)));
}

void kafka_fine(struct bridge *b)
{
    if (b->cut_off)
        log_event(LOG_INFO, "kafka_back", "");
    b->cut_off = false;
    b->reason[0] = 0;
}

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *bridge)
{
    struct bridge *b = bridge;
    char text[sizeof b->reason];
    rd_kafka_resp_err_t real = (rd_kafka_resp_err_t)code;
    snprintf(text, sizeof text, "%s", reason);
    if (real == RD_KAFKA_RESP_ERR__FATAL)
        rd_kafka_fatal_error(rk, text, sizeof text);
    kafka_trouble(b, real, text);
    if (!is_sum(real))
        snprintf(b->reason, sizeof b->reason, "%s", text);
}

// librdkafka's own log lines, from threads of its own.
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    // Broken connections come as errors too (on_error), where they are counted and told.
    enum log_level to = level <= 4 ? LOG_WARN : level <= 6 ? LOG_INFO : LOG_DEBUG;
    if (!strcmp(facility, "FAIL") || !strcmp(facility, "ERROR") || !strcmp(facility, "CONFWARN"))
        to = LOG_DEBUG;
    log_event(to, "librdkafka", "at=%s text=%s", facility, log_quote(text));
}

// ---- opening

enum err kafka_open(struct bridge *b, struct errmsg *msg)
{
    char why[300];
    enum err e = letters_open(b, msg); // copies the configuration, which is used up below
    if (e)
        return e;
    rd_kafka_conf_set_opaque(b->config.kafka, b);
    rd_kafka_conf_set_rebalance_cb(b->config.kafka, group_rebalance);
    rd_kafka_conf_set_error_cb(b->config.kafka, on_error);
    rd_kafka_conf_set_log_cb(b->config.kafka, on_log);
    b->consumer = rd_kafka_new(RD_KAFKA_CONSUMER, b->config.kafka, why, sizeof why);
    if (!b->consumer)
        return err_set(msg, ERR_INVALID, "[kafka]: %s", why);
    b->config.kafka = NULL;
    rd_kafka_poll_set_consumer(b->consumer);
    b->records = rd_kafka_queue_new(b->consumer);
    return ERR_OK;
}

// Events, of which there is none but errors before the subscription.
static void serve(struct bridge *b)
{
    rd_kafka_message_t *m = rd_kafka_consumer_poll(b->consumer, 200);
    if (!m)
        return;
    kafka_trouble(b, m->err, rd_kafka_message_errstr(m));
    rd_kafka_message_destroy(m);
}

// One look. ERR_AGAIN: not yet, and it was said why.
static enum err look(struct bridge *b, rd_kafka_topic_t *topic, int *partitions, struct errmsg *msg)
{
    const struct rd_kafka_metadata *md = NULL;
    const char *name = b->config.text[BRIDGE_kafka_topic];
    rd_kafka_resp_err_t code = rd_kafka_metadata(b->consumer, 0, topic, &md, METADATA_MS);
    const char *asked = "no broker answers";
    if (!code && md->topic_cnt == 1) {
        code = md->topics[0].err;
        asked = name;
        *partitions = md->topics[0].partition_cnt;
    }
    if (md)
        rd_kafka_metadata_destroy(md);
    if (!code && *partitions > 0)
        return ERR_OK;
    serve(b); // why no broker answers comes as an event
    char text[300];
    snprintf(text, sizeof text, "%.200s: %s", asked, rd_kafka_err2str(code));
    // A connection that failed meanwhile is no more than that none answers.
    code = code == RD_KAFKA_RESP_ERR__TRANSPORT ? RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN : code;
    kafka_trouble(b, code ? code : RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, text);
    return b->e ? err_set(msg, b->e, "%s", b->why.text) : ERR_AGAIN;
}

enum err kafka_find_topic(struct bridge *b, int *partitions, struct errmsg *msg)
{
    const char *name = b->config.text[BRIDGE_kafka_topic];
    rd_kafka_topic_t *topic = rd_kafka_topic_new(b->consumer, name, NULL);
    if (!topic)
        return err_set(msg, ERR_INVALID, "kafka.topic: %s",
                       rd_kafka_err2str(rd_kafka_last_error()));
    enum err e = ERR_AGAIN;
    while (e == ERR_AGAIN) {
        e = look(b, topic, partitions, msg);
        if (e == ERR_AGAIN && stop_asked(b))
            e = ERR_CLOSED;
    }
    rd_kafka_topic_destroy(topic);
    return e;
}

enum err kafka_subscribe(struct bridge *b, struct errmsg *msg)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, b->config.text[BRIDGE_kafka_topic],
                                      RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t code = rd_kafka_subscribe(b->consumer, list);
    rd_kafka_topic_partition_list_destroy(list);
    return code ? err_set(msg, ERR_INVALID, "[kafka]: %s", rd_kafka_err2str(code)) : ERR_OK;
}
