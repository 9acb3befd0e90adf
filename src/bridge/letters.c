// Dead letters: bad records, as they were, in a topic of their own, with headers that say why. They
// are acknowledged by Kafka before the offset of their record is committed.
#include "base/log.h"
#include "bridge/bridge_int.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PATIENCE_MS = 60000, ROUND_MS = 100 };

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *bridge)
{
    struct bridge *b = bridge;
    if (!m->err)
        return;
    b->letters_failed++;
    log_event(LOG_ERROR, "dead_letter_failed", "error=%s text=%s", rd_kafka_err2name(m->err),
              log_quote(rd_kafka_err2str(m->err)));
}

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    // Most of it is about keys that are for consumers only.
    log_event(LOG_DEBUG, "librdkafka", "at=%s text=%s", facility, log_quote(text));
}

enum err letters_open(struct bridge *b, struct errmsg *msg)
{
    char why[300];
    if (b->config.on_bad != BAD_DEAD_LETTER)
        return ERR_OK;
    rd_kafka_conf_t *conf = rd_kafka_conf_dup(b->config.kafka);
    rd_kafka_conf_set_opaque(conf, b);
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rd_kafka_conf_set_log_cb(conf, on_log);
    b->producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (b->producer)
        return ERR_OK;
    rd_kafka_conf_destroy(conf);
    return err_set(msg, ERR_INVALID, "[kafka], for dead letters: %s", why);
}

static rd_kafka_headers_t *headers_of(const rd_kafka_message_t *m, const char *why)
{
    rd_kafka_headers_t *old, *h;
    char text[32];
    h = rd_kafka_message_headers(m, &old) ? rd_kafka_headers_new(4) : rd_kafka_headers_copy(old);
    rd_kafka_header_add(h, "varve.error", -1, why, -1);
    rd_kafka_header_add(h, "varve.topic", -1, rd_kafka_topic_name(m->rkt), -1);
    snprintf(text, sizeof text, "%" PRId32, m->partition);
    rd_kafka_header_add(h, "varve.partition", -1, text, -1);
    snprintf(text, sizeof text, "%" PRId64, m->offset);
    rd_kafka_header_add(h, "varve.offset", -1, text, -1);
    return h;
}

enum err letters_send(struct bridge *b, const rd_kafka_message_t *m, const char *why,
                      struct errmsg *msg)
{
    const char *topic = b->config.text[BRIDGE_bridge_dead_letter_topic];
    rd_kafka_headers_t *h = headers_of(m, why);
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__QUEUE_FULL;
    for (int ms = 0; code == RD_KAFKA_RESP_ERR__QUEUE_FULL && ms < PATIENCE_MS; ms += ROUND_MS) {
        code = rd_kafka_producev(b->producer, RD_KAFKA_V_TOPIC(topic),
                                 RD_KAFKA_V_KEY(m->key, m->key_len),
                                 RD_KAFKA_V_VALUE(m->payload, m->len), RD_KAFKA_V_HEADERS(h),
                                 RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        rd_kafka_poll(b->producer, code ? ROUND_MS : 0);
    }
    if (code) {
        rd_kafka_headers_destroy(h);
        return err_set(msg, ERR_NETWORK, "a dead letter cannot be sent to topic %s: %s", topic,
                       rd_kafka_err2str(code));
    }
    b->counters.dead_letters++;
    return ERR_OK;
}

enum err letters_flush(struct bridge *b, struct errmsg *msg)
{
    if (!b->producer)
        return ERR_OK;
    rd_kafka_resp_err_t code = rd_kafka_flush(b->producer, PATIENCE_MS);
    if (!code && !b->letters_failed)
        return ERR_OK;
    return err_set(msg, ERR_NETWORK,
                   "dead letters are not in topic %s (%s): is it there, and may it be written to?",
                   b->config.text[BRIDGE_bridge_dead_letter_topic],
                   code ? rd_kafka_err2str(code) : "the log has the reason");
}

void letters_close(struct bridge *b)
{
    if (b->producer)
        rd_kafka_destroy(b->producer);
    b->producer = NULL;
}
