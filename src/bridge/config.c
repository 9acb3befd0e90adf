#include "bridge/config.h"
#include "base/ini.h"
#include "base/log.h"
#include <string.h>

static const struct config_key keys[] = {BRIDGE_CONFIG(CONFIG_ROW)};
static const struct config_catalogue catalogue = {keys, BRIDGE_KEYS};

// ---- a key

static enum err parse(struct bridge_config *c, enum bridge_key id, const char *value,
                      struct errmsg *msg)
{
    switch (id) {
    case BRIDGE_parser_keyspace_parser:
        return parser_text(&c->keyspace, value, msg);
    case BRIDGE_parser_key_parser:
        return parser_text(&c->key, value, msg);
    case BRIDGE_parser_nonce_parser:
        return parser_number(&c->nonce, value, msg);
    case BRIDGE_parser_timestamp_parser:
        return parser_number(&c->timestamp, value, msg);
    default:
        return ERR_OK;
    }
}

// A key of librdkafka's.
static enum err set_kafka(struct bridge_config *c, const struct ini_key *in, struct errmsg *msg)
{
    char why[300];
    if (!strcmp(in->name, "enable.auto.commit") || !strcmp(in->name, "enable.auto.offset.store")) {
        bool store = strcmp(in->name, "enable.auto.commit") != 0;
        if (strcmp(in->value, store ? "true" : "false") != 0)
            log_event(LOG_WARN, "config_overruled", "at=%s key=%s value=%s", log_quote(in->where),
                      in->name, store ? "true" : "false");
        return ERR_OK;
    }
    if (rd_kafka_conf_set(c->kafka, in->name, in->value, why, sizeof why) == RD_KAFKA_CONF_OK)
        return ERR_OK;
    return err_set(msg, ERR_INVALID, "%s: %s", in->where, why);
}

// Those of [kafka] that are ours; the others are librdkafka's.
static bool is_ours(const struct ini_key *in)
{
    for (enum bridge_key id = 0; id < BRIDGE_KEYS; id++)
        if (!strcmp(in->section, keys[id].section) &&
            (strcmp(in->section, "kafka") != 0 || !strcmp(in->name, keys[id].name)))
            return true;
    return false;
}

static enum err load_key(void *arg, const struct ini_key *in, struct errmsg *msg)
{
    struct bridge_config *c = arg;
    struct errmsg why = {""};
    size_t id;
    if (is_ours(in)) {
        enum err e = config_load_key(c->keys, in, &id, msg);
        if (!e && parse(c, (enum bridge_key)id, in->value, &why))
            e = err_set(msg, ERR_INVALID, "%s: %s.%s: %s", in->where, in->section, in->name,
                        why.text);
        return e;
    }
    if (!strcmp(in->section, "kafka"))
        return set_kafka(c, in, msg);
    return err_set(msg, ERR_INVALID,
                   "%s: unknown section [%s]; there are s3, batcher, kafka, parser and bridge",
                   in->where, in->section);
}

// ---- the whole

static bool is_set(const struct bridge_config *c, enum bridge_key id)
{
    return *c->text[id] != 0;
}

static enum err check_sink(const struct bridge_config *c, const char *path, struct errmsg *msg)
{
    int sinks = is_set(c, BRIDGE_s3_bucket_name) + is_set(c, BRIDGE_bridge_directory) +
                is_set(c, BRIDGE_bridge_server);
    if (sinks == 0)
        return err_set(msg, ERR_INVALID,
                       "%s: says not where records go: set s3.bucket_name, bridge.directory or "
                       "bridge.server",
                       path);
    // A file made for S3 can be tried on a directory by one line more, so [s3] may stay.
    if (is_set(c, BRIDGE_bridge_directory) && is_set(c, BRIDGE_bridge_server))
        return err_set(msg, ERR_INVALID,
                       "%s: bridge.directory and bridge.server are both set; records go to one",
                       path);
    if (is_set(c, BRIDGE_bridge_dead_letter_topic) != (c->on_bad == BAD_DEAD_LETTER))
        return err_set(msg, ERR_INVALID,
                       "%s: bridge.on_bad_record = dead_letter and bridge.dead_letter_topic belong "
                       "together; only one is set",
                       path);
    if (is_set(c, BRIDGE_bridge_dead_letter_topic) &&
        !strcmp(c->text[BRIDGE_bridge_dead_letter_topic], c->text[BRIDGE_kafka_topic]))
        return err_set(msg, ERR_INVALID,
                       "%s: bridge.dead_letter_topic is kafka.topic itself: a bad record would "
                       "come back for ever",
                       path);
    return ERR_OK;
}

static bool has_kafka(const struct bridge_config *c, const char *name)
{
    char value[8];
    size_t n = sizeof value;
    // Too small a buffer: there is more than that.
    return rd_kafka_conf_get(c->kafka, name, NULL, &n) == RD_KAFKA_CONF_OK && n > 1;
}

static enum err check(const struct bridge_config *c, const char *path, struct errmsg *msg)
{
    static const enum bridge_key wanted[] = {BRIDGE_kafka_topic, BRIDGE_parser_keyspace_parser,
                                             BRIDGE_parser_key_parser};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (!is_set(c, wanted[i]))
            return err_set(msg, ERR_INVALID, "%s: %s.%s is missing", path, keys[wanted[i]].section,
                           keys[wanted[i]].name);
    if (c->text[BRIDGE_kafka_topic][0] == '^')
        return err_set(msg, ERR_INVALID,
                       "%s: kafka.topic: \"%s\" is a pattern; a bridge takes one topic", path,
                       c->text[BRIDGE_kafka_topic]);
    if (!has_kafka(c, "bootstrap.servers"))
        return err_set(msg, ERR_INVALID, "%s: kafka.bootstrap.servers is missing", path);
    if (!has_kafka(c, "group.id"))
        return err_set(msg, ERR_INVALID,
                       "%s: kafka.group.id is missing: the group's offsets say where to go on",
                       path);
    if (c->nonce.source == PARSE_NONE)
        log_event(LOG_WARN, "no_nonces",
                  "effect=\"records read again after a crash or a rebalance are stored again\"");
    if (c->nonce.source == PARSE_PARTITION)
        log_event(LOG_WARN, "constant_nonces",
                  "effect=\"a log takes one record of a partition; the others are duplicates\"");
    return check_sink(c, path, msg);
}

// librdkafka stops fetching while so many messages wait, and looks again up to a second later. Its
// own default of 100,000 lasts a tenth of a second here; a second's worth keeps us busy. Larger
// messages reach the bound in bytes first (queued.max.messages.kbytes, 64 MiB).
static enum err read_ahead(struct bridge_config *c, const char *path, struct errmsg *msg)
{
    char why[300];
    if (rd_kafka_conf_set(c->kafka, "queued.min.messages", "500000", why, sizeof why))
        return err_set(msg, ERR_INVALID, "%s: %s", path, why);
    return ERR_OK;
}

enum err bridge_config_load(struct bridge_config *c, const char *path, struct errmsg *msg)
{
    char why[300];
    *c = (struct bridge_config){.keys = config_new(&catalogue), .kafka = rd_kafka_conf_new()};
    if (!c->keys)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    enum err e = read_ahead(c, path, msg);
    e = e ? e : ini_read(path, load_key, c, msg);
    for (size_t i = 0; i < BRIDGE_KEYS; i++) {
        c->text[i] = config_text(c->keys, i);
        c->number[i] = config_number(c->keys, i);
    }
    c->skip_tombstones = config_is(c->keys, BRIDGE_bridge_on_tombstone, "skip");
    c->on_bad = config_is(c->keys, BRIDGE_bridge_on_bad_record, "skip")          ? BAD_SKIP
                : config_is(c->keys, BRIDGE_bridge_on_bad_record, "dead_letter") ? BAD_DEAD_LETTER
                                                                                 : BAD_STOP;
    if (!e && (rd_kafka_conf_set(c->kafka, "enable.auto.commit", "false", why, sizeof why) ||
               rd_kafka_conf_set(c->kafka, "enable.auto.offset.store", "true", why, sizeof why)))
        e = err_set(msg, ERR_INVALID, "%s: %s", path, why);
    return e ? e : check(c, path, msg);
}

void bridge_config_release(struct bridge_config *c)
{
    config_free(c->keys);
    if (c->kafka)
        rd_kafka_conf_destroy(c->kafka);
    *c = (struct bridge_config){0};
}
