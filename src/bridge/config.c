#include "bridge/config.h"
#include "base/config.h"
#include "base/ini.h"
#include "base/limits.h"
#include "base/log.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { KIND_TEXT, KIND_COUNT, KIND_SIZE, KIND_BOOL };

struct key {
    const char *section, *name;
    enum kind kind;
    uint64_t min, max;
};

static const struct key keys[] = {
#define X(section, key, kind, min, max) {#section, #key, KIND_##kind, min, max},
    BRIDGE_CONFIG(X)
#undef X
};

// ---- a key

static enum err set_number(const struct key *k, const struct ini_key *in, uint64_t *n,
                           struct errmsg *msg)
{
    u128 wide = 0;
    enum err e = ERR_OK;
    if (k->kind == KIND_SIZE)
        e = config_size(in->value, n);
    else if (!u128_parse(slice_str(in->value), &wide))
        e = ERR_INVALID;
    else if (wide > UINT64_MAX)
        e = ERR_OVERFLOW;
    else
        *n = (uint64_t)wide;
    if (e == ERR_INVALID)
        return err_set(msg, e, "%s: %s.%s: \"%s\" is not a number%s", in->where, k->section,
                       k->name, in->value,
                       k->kind == KIND_SIZE ? " of bytes, or of k, m or g" : "");
    if (e || *n < k->min || *n > k->max)
        return err_set(msg, ERR_INVALID,
                       "%s: %s.%s: %s is out of the range %" PRIu64 " to %" PRIu64, in->where,
                       k->section, k->name, in->value, k->min, k->max);
    return ERR_OK;
}

static enum err set_bool(const struct key *k, const struct ini_key *in, uint64_t *n,
                         struct errmsg *msg)
{
    *n = !strcmp(in->value, "true");
    if (!*n && strcmp(in->value, "false") != 0)
        return err_set(msg, ERR_INVALID, "%s: %s.%s: \"%s\" is neither true nor false", in->where,
                       k->section, k->name, in->value);
    return ERR_OK;
}

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
    case BRIDGE_bridge_on_bad_record:
        c->on_bad = !strcmp(value, "skip")          ? BAD_SKIP
                    : !strcmp(value, "dead_letter") ? BAD_DEAD_LETTER
                                                    : BAD_STOP;
        if (c->on_bad == BAD_STOP && strcmp(value, "stop") != 0)
            return err_set(msg, ERR_INVALID, "\"%s\" is not one of stop|skip|dead_letter", value);
        return ERR_OK;
    case BRIDGE_bridge_on_tombstone:
        c->skip_tombstones = !strcmp(value, "skip");
        if (!c->skip_tombstones && strcmp(value, "keep") != 0)
            return err_set(msg, ERR_INVALID, "\"%s\" is not one of keep|skip", value);
        return ERR_OK;
    default:
        return ERR_OK;
    }
}

static enum err set(struct bridge_config *c, enum bridge_key id, const struct ini_key *in,
                    struct errmsg *msg)
{
    const struct key *k = &keys[id];
    struct errmsg why = {""};
    if (c->line[id])
        return err_set(msg, ERR_INVALID, "%s: %s.%s is set on line %u already", in->where,
                       k->section, k->name, c->line[id]);
    if (strlen(in->value) >= LIMIT_PATH)
        return err_set(msg, ERR_TOO_BIG, "%s: %s.%s is longer than %u bytes", in->where, k->section,
                       k->name, LIMIT_PATH - 1);
    enum err e = k->kind == KIND_BOOL   ? set_bool(k, in, &c->number[id], msg)
                 : k->kind != KIND_TEXT ? set_number(k, in, &c->number[id], msg)
                                        : ERR_OK;
    if (e)
        return e;
    if (parse(c, id, in->value, &why))
        return err_set(msg, ERR_INVALID, "%s: %s.%s: %s", in->where, k->section, k->name, why.text);
    char *copy = strdup(in->value);
    if (!copy)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    free(c->text[id]);
    c->text[id] = copy;
    c->line[id] = in->line;
    return ERR_OK;
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

static enum err load_key(void *arg, const struct ini_key *in, struct errmsg *msg)
{
    struct bridge_config *c = arg;
    bool known = false;
    for (enum bridge_key id = 0; id < BRIDGE_KEYS; id++) {
        bool same = !strcmp(in->section, keys[id].section);
        known |= same;
        if (same && !strcmp(in->name, keys[id].name))
            return set(c, id, in, msg);
    }
    if (!strcmp(in->section, "kafka"))
        return set_kafka(c, in, msg);
    if (!known)
        return err_set(msg, ERR_INVALID,
                       "%s: unknown section [%s]; there are s3, batcher, kafka, parser and bridge",
                       in->where, in->section);
    return err_set(msg, ERR_INVALID, "%s: unknown key \"%s.%s\"", in->where, in->section, in->name);
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

enum err bridge_config_load(struct bridge_config *c, const char *path, struct errmsg *msg)
{
    char why[300];
    *c = (struct bridge_config){.kafka = rd_kafka_conf_new()};
    c->number[BRIDGE_s3_use_default_credentials] = 1;
    c->number[BRIDGE_kafka_offset_commit_interval_seconds] = 60;
    for (size_t i = 0; i < BRIDGE_KEYS; i++) {
        c->text[i] = strdup("");
        if (!c->text[i])
            return err_set(msg, ERR_NO_MEMORY, "out of memory");
    }
    enum err e = ini_read(path, load_key, c, msg);
    if (!e && (rd_kafka_conf_set(c->kafka, "enable.auto.commit", "false", why, sizeof why) ||
               rd_kafka_conf_set(c->kafka, "enable.auto.offset.store", "true", why, sizeof why)))
        e = err_set(msg, ERR_INVALID, "%s: %s", path, why);
    return e ? e : check(c, path, msg);
}

void bridge_config_release(struct bridge_config *c)
{
    for (size_t i = 0; i < BRIDGE_KEYS; i++)
        free(c->text[i]);
    if (c->kafka)
        rd_kafka_conf_destroy(c->kafka);
    *c = (struct bridge_config){0};
}
