// A record's way: parsers, the log's feeder, the sink. What a parser refuses goes where
// on_bad_record says; nothing is left out without a line in the log.
#include "base/log.h"
#include "bridge/bridge_int.h"
#include <inttypes.h>
#include <stdio.h>

// What the parsers made of a record.
struct parsed {
    struct archive_log log;
    struct archive_insert insert;
    char digits[2][PARSE_DIGITS];
};

static bool header(const struct parse_record *r, const char *name, struct slice *value)
{
    rd_kafka_headers_t *headers;
    const void *p;
    size_t n;
    if (rd_kafka_message_headers(r->headers, &headers) ||
        rd_kafka_header_get_last(headers, name, &p, &n))
        return false;
    *value = slice_of(p, p ? n : 0);
    return p != NULL; // one without a value is no better than none
}

static enum err parse(struct bridge *b, const rd_kafka_message_t *m, struct parsed *to,
                      struct errmsg *msg)
{
    const struct bridge_config *c = &b->config;
    const struct parse_record r = {.has_key = m->key != NULL,
                                   .key = slice_of(m->key, m->key ? m->key_len : 0),
                                   .partition = m->partition,
                                   .offset = m->offset,
                                   .header = header,
                                   .headers = m};
    struct archive_insert *in = &to->insert;
    bool has_nonce;
    enum err e = parse_name(&c->keyspace, &r, to->digits[0], &to->log.keyspace, msg);
    e = e ? e : parse_name(&c->key, &r, to->digits[1], &to->log.key, msg);
    e = e ? e : sink_check(b->sink, &to->log, msg);
    e = e ? e : parse_nonce(&c->nonce, &r, &has_nonce, &in->nonce, msg);
    e = e ? e : parse_timestamp(&c->timestamp, &r, &in->has_timestamp, &in->timestamp, msg);
    in->bytes = slice_of(m->payload, m->payload ? m->len : 0);
    return e;
}

// ---- bad records

static enum err refuse(struct bridge *b, const rd_kafka_message_t *m, const char *why,
                       struct errmsg *msg)
{
    static const char *const goes[] = {"stop", "skip", "dead_letter"};
    b->counters.bad_records++;
    log_event(b->config.on_bad == BAD_STOP ? LOG_ERROR : LOG_WARN, "bad_record",
              "partition=%" PRId32 " offset=%" PRId64 " goes=%s why=%s", m->partition, m->offset,
              goes[b->config.on_bad], log_quote(why));
    if (b->config.on_bad == BAD_DEAD_LETTER)
        return letters_send(b, m, why, msg);
    if (b->config.on_bad == BAD_SKIP)
        return ERR_OK;
    return err_set(msg, ERR_INVALID,
                   "partition %" PRId32 ", offset %" PRId64
                   ": %s. Correct the parsers in [parser], "
                   "or set bridge.on_bad_record to skip or dead_letter",
                   m->partition, m->offset, why);
}

// ---- whose log it is

static bool same_log(const struct feed *f, const struct archive_log *log)
{
    return f && slice_equal(f->log.key, log->key) && slice_equal(f->log.keyspace, log->keyspace);
}

static void say_full(const struct bridge *b)
{
    log_event(LOG_WARN, "many_logs",
              "remembered=%zu effect=\"two partitions that feed one of the others are not noticed, "
              "and all logs are let go at a rebalance\" key=s3.max_cached_keys",
              b->feeds.count);
}

// Makes a keyspace that is not known to be there.
static enum err keyspace(struct bridge *b, struct slice name, struct errmsg *msg)
{
    const struct archive_log whole = {name, slice_of("", 0)};
    struct feeds *known = &b->keyspaces;
    struct feed *f = feeds_find(known, &whole);
    if (f)
        return ERR_OK;
    enum err e = sink_keyspace(b->sink, name, msg);
    if (e)
        return bridge_break(b, e, msg);
    if (known->count == known->max) { // they are made again, which changes nothing
        size_t max = known->max;
        uint64_t seed = known->seed;
        feeds_release(known);
        feeds_init(known, max, seed);
    }
    e = feeds_add(known, &whole, -1, &f);
    return e ? err_set(msg, e, "no memory for keyspaces") : ERR_OK;
}

static enum err meet(struct bridge *b, const struct archive_log *log, int32_t id, struct feed **f,
                     struct errmsg *msg)
{
    bool was_full = b->feeds.full;
    enum err e = keyspace(b, log->keyspace, msg);
    if (e)
        return e;
    e = feeds_add(&b->feeds, log, id, f);
    if (e)
        return err_set(msg, e, "no memory for logs");
    if (b->feeds.full && !was_full)
        say_full(b);
    return ERR_OK;
}

static enum err clash(const struct feed *f, const rd_kafka_message_t *m, struct errmsg *msg)
{
    char name[162]; // names are bytes; for a sentence they need an end
    snprintf(name, sizeof name, "%.*s/%.*s", f->log.keyspace.n < 80 ? (int)f->log.keyspace.n : 80,
             (const char *)f->log.keyspace.p, f->log.key.n < 80 ? (int)f->log.key.n : 80,
             (const char *)f->log.key.p);
    return err_set(
        msg, ERR_INVALID,
        "partitions %" PRId32 " and %" PRId32 " (offset %" PRId64
        ") both feed the log \"%s\" with nonce_parser = RecordOffset: the lower offsets "
        "of one would be dropped as duplicates of the other's. Let key_parser or "
        "keyspace_parser be RecordPartition, take nonces from a header, or produce a key "
        "into one partition only",
        f->partition, m->partition, m->offset, name);
}

static enum err feed(struct bridge *b, struct partition *p, const rd_kafka_message_t *m,
                     const struct archive_log *log, struct errmsg *msg)
{
    struct feed *f = p->last;
    if (!same_log(f, log))
        f = feeds_find(&b->feeds, log);
    if (!f) {
        enum err e = meet(b, log, m->partition, &f, msg);
        if (e || !f)
            return e;
    }
    if (f->partition != m->partition) {
        if (b->config.nonce.source == PARSE_OFFSET)
            return clash(f, m, msg);
        f->partition = m->partition;
        f->several = true;
    }
    f->held = true;
    p->last = f;
    return ERR_OK;
}

// ---- all of it

static enum err take(struct bridge *b, struct partition *p, const rd_kafka_message_t *m,
                     struct errmsg *msg)
{
    struct parsed parsed;
    struct errmsg why;
    b->counters.records++;
    b->counters.record_bytes += m->payload ? m->len : 0;
    if (!m->payload) {
        b->counters.tombstones++;
        if (b->config.skip_tombstones)
            return ERR_OK;
    }
    if (parse(b, m, &parsed, &why))
        return refuse(b, m, why.text, msg);
    enum err e = feed(b, p, m, &parsed.log, msg);
    if (e)
        return e;
    e = sink_append(b->sink, &parsed.log, &parsed.insert, msg);
    return e ? bridge_break(b, e, msg) : ERR_OK;
}

void record_take(struct bridge *b, const rd_kafka_message_t *m)
{
    struct errmsg msg = {""};
    struct partition *p = group_partition(b, m->partition);
    if (!p || !p->assigned) // whoever has the partition reads it
        return;
    enum err e = take(b, p, m, &msg);
    if (e)
        bridge_fail(b, e, &msg);
    else
        p->next = m->offset + 1; // from here on it may be committed, after a flush
}
