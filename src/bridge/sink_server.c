// Records into a varve server. Neighbouring records of one log are an append; appends are sent
// without waiting for the replies of those before, up to PIPELINE of them. Nothing is fenced
// there: a log that two bridges feed keeps what both send, so its nonces must come from one.
#include "base/limits.h"
#include "bridge/sink.h"
#include "varve.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    RUN_RECORDS = 1000,
    RUN_BYTES = 256 << 10,
    PIPELINE = 2048, // where each record is another log's, so many share a sync of the server
    SEND_APPENDS = PIPELINE / 4, // queued before they are sent,
    SEND_BYTES = 1 << 20,        // or so many bytes, so that the server has work meanwhile
    TIMEOUT_MS = 60000,
};

struct server {
    struct sink base;
    struct varve *conn;
    // The run: records of one log that are not sent yet. Their data are offsets until then.
    struct buf names; // the log's keyspace and key
    size_t keyspace_n;
    struct buf bytes;
    struct varve_record records[RUN_RECORDS];
    size_t count;
    uint64_t sent[PIPELINE]; // records of the appends on their way: a ring
    uint64_t first, next;
    size_t unsent_appends, unsent_bytes;
    struct sink_stats stats;
};

static enum err told(const struct server *s, enum varve_error e, struct errmsg *msg)
{
    enum err to = e == VARVE_NO_MEMORY                       ? ERR_NO_MEMORY
                  : e == VARVE_TIMEOUT || e == VARVE_NETWORK ? ERR_NETWORK
                                                             : ERR_IO;
    return err_set(msg, to, "%s: %s", s->base.where, varve_error_text(s->conn));
}

// Takes one reply.
static enum err take(struct server *s, struct errmsg *msg)
{
    struct varve_reply reply;
    enum varve_error e = varve_next_reply(s->conn, &reply);
    e = e ? e : reply.error;
    if (e)
        return told(s, e, msg);
    s->stats.stored += reply.appended.appended;
    s->stats.dropped += s->sent[s->first++ % PIPELINE] - reply.appended.appended;
    return ERR_OK;
}

static enum err take_all(struct server *s, struct errmsg *msg)
{
    enum err e = ERR_OK;
    while (!e && s->first < s->next)
        e = take(s, msg);
    return e;
}

static enum err send_run(struct server *s, struct errmsg *msg)
{
    const uint8_t *names = buf_head(&s->names);
    const struct varve_log log = {names, s->keyspace_n, names + s->keyspace_n,
                                  buf_len(&s->names) - s->keyspace_n};
    enum err e = ERR_OK;
    if (s->count == 0)
        return ERR_OK;
    for (size_t i = 0; i < s->count; i++)
        s->records[i].data =
            s->records[i].size ? buf_head(&s->bytes) + (uintptr_t)s->records[i].data : NULL;
    if (s->next - s->first == PIPELINE) {
        s->stats.waits++;
        while (!e && s->next - s->first > PIPELINE / 2)
            e = take(s, msg);
    }
    enum varve_error v = VARVE_FULL;
    while (!e && (v = varve_queue_log_append(s->conn, &log, s->records, s->count)) == VARVE_FULL) {
        if (s->first == s->next)
            return err_set(msg, ERR_TOO_BIG, "%s: an append does not fit its buffer",
                           s->base.where);
        e = take(s, msg);
    }
    if (!e && v)
        e = told(s, v, msg);
    if (e)
        return e;
    s->sent[s->next++ % PIPELINE] = s->count;
    s->stats.batches++;
    s->count = 0;
    s->unsent_appends++;
    s->unsent_bytes += buf_len(&s->bytes);
    buf_clear(&s->bytes);
    if (s->unsent_appends < SEND_APPENDS && s->unsent_bytes < SEND_BYTES)
        return ERR_OK;
    s->unsent_appends = s->unsent_bytes = 0;
    v = varve_flush(s->conn);
    return v && v != VARVE_FULL ? told(s, v, msg) : ERR_OK;
}

static enum err check(struct sink *base, const struct archive_log *log, struct errmsg *msg)
{
    if (log->keyspace.n > LIMIT_KEYSPACE_NAME)
        return err_set(msg, ERR_TOO_BIG, "a keyspace's name of %zu bytes; %u are the most",
                       log->keyspace.n, LIMIT_KEYSPACE_NAME);
    if (log->key.n > LIMIT_KEY_HARD)
        return err_set(msg, ERR_TOO_BIG, "a key of %zu bytes; %u are the most", log->key.n,
                       LIMIT_KEY_HARD);
    return ERR_OK;
}

static enum err keyspace(struct sink *base, struct slice name, struct errmsg *msg)
{
    struct server *s = (struct server *)base;
    enum err e = send_run(s, msg);
    e = e ? e : take_all(s, msg);
    enum varve_error v = e ? VARVE_OK : varve_keyspace_create(s->conn, name.p, name.n, NULL, NULL);
    if (e)
        return e;
    if (v && v != VARVE_CONFLICT) // which is: it exists
        return told(s, v, msg);
    return ERR_OK;
}

static bool is_run_of(const struct server *s, const struct archive_log *log)
{
    struct slice names = buf_slice(&s->names);
    return s->keyspace_n == log->keyspace.n && names.n == s->keyspace_n + log->key.n &&
           !memcmp(names.p, log->keyspace.p, log->keyspace.n) &&
           !memcmp(names.p + s->keyspace_n, log->key.p, log->key.n);
}

static enum err append(struct sink *base, const struct archive_log *log,
                       const struct archive_insert *r, struct errmsg *msg)
{
    struct server *s = (struct server *)base;
    enum err e = ERR_OK;
    if (s->count && (s->count == RUN_RECORDS || buf_len(&s->bytes) + r->bytes.n > RUN_BYTES ||
                     !is_run_of(s, log)))
        e = send_run(s, msg);
    if (!e && s->count == 0) {
        buf_clear(&s->names);
        s->keyspace_n = log->keyspace.n;
        e = buf_append(&s->names, log->keyspace.p, log->keyspace.n);
        e = e ? e : buf_append(&s->names, log->key.p, log->key.n);
    }
    size_t at = buf_len(&s->bytes);
    if (!e && buf_append(&s->bytes, r->bytes.p, r->bytes.n))
        e = err_set(msg, ERR_NO_MEMORY, "no memory for a record");
    if (e)
        return e;
    s->records[s->count++] =
        (struct varve_record){.timestamp = r->timestamp,
                              .has_timestamp = r->has_timestamp,
                              .has_nonce = r->nonce != NONCE_NONE,
                              .nonce = {(uint64_t)r->nonce, (uint64_t)(r->nonce >> 64)},
                              .data = (const void *)(uintptr_t)at,
                              .size = r->bytes.n};
    s->stats.appended++;
    return ERR_OK;
}

static enum err idle(struct sink *base, struct errmsg *msg)
{
    struct server *s = (struct server *)base;
    enum err e = send_run(s, msg);
    enum varve_error v = e ? VARVE_OK : varve_flush(s->conn);
    return e || v == VARVE_OK || v == VARVE_FULL ? e : told(s, v, msg);
}

static enum err flush(struct sink *base, struct errmsg *msg)
{
    struct server *s = (struct server *)base;
    enum err e = send_run(s, msg);
    e = e ? e : take_all(s, msg);
    // A server whose durability is relaxed answers before it has written.
    enum varve_error v = e ? VARVE_OK : varve_log_flush(s->conn, NULL);
    return e || !v ? e : told(s, v, msg);
}

static enum err release(struct sink *base, const struct archive_log *log, struct errmsg *msg)
{
    return ERR_OK; // nothing is held there
}

static enum err renew(struct sink *base, struct errmsg *msg)
{
    struct server *s = (struct server *)base;
    s->count = 0;
    buf_clear(&s->bytes);
    return take_all(s, msg);
}

static void stats(struct sink *base, struct sink_stats *sum)
{
    const struct server *s = (struct server *)base;
    *sum = s->stats;
    sum->bytes = buf_len(&s->bytes);
}

static void close_server(struct sink *base)
{
    struct server *s = (struct server *)base;
    varve_close(s->conn);
    buf_release(&s->names);
    buf_release(&s->bytes);
    free(s);
}

static const struct sink_ops ops = {.check = check,
                                    .keyspace = keyspace,
                                    .append = append,
                                    .idle = idle,
                                    .flush = flush,
                                    .release = release,
                                    .renew = renew,
                                    .stats = stats,
                                    .close = close_server};

enum err sink_server_open(struct sink **out, const struct bridge_config *c, struct errmsg *msg)
{
    struct server *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    s->base.ops = &ops;
    snprintf(s->base.where, sizeof s->base.where, "server %.400s", c->text[BRIDGE_bridge_server]);
    buf_init(&s->names, LIMIT_KEYSPACE_NAME + LIMIT_KEY_HARD);
    buf_init(&s->bytes, RUN_BYTES + LIMIT_REQUEST_HARD);
    enum varve_error v = varve_connect(&s->conn, c->text[BRIDGE_bridge_server], TIMEOUT_MS);
    enum err e = v ? told(s, v, msg) : ERR_OK;
    if (e)
        close_server(&s->base);
    else
        *out = &s->base;
    return e;
}
