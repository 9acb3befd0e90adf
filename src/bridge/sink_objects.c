// Records into objects, through the batching writer.
#include "archive/name.h"
#include "archive/settings.h"
#include "bridge/sink.h"
#include "object/settings.h"
#include <stdio.h>
#include <stdlib.h>

struct objects {
    struct sink base;
    struct os *os;
    struct object_store *store;
    struct archive_options archive;
    struct archive_batcher_options batching;
    struct archive_batcher *batcher;
    struct sink_stats before; // of the batchers that are closed
};

static enum err check(struct sink *base, const struct archive_log *log, struct errmsg *msg)
{
    char dir[NAME_DIR_MAX];
    // A name that cannot be too long however it is encoded needs no closer look.
    if (log->keyspace.n < NAME_SPACE_MAX / 3 && log->key.n < OBJECT_PART_MAX / 3)
        return ERR_OK;
    return name_dir(log, dir, msg);
}

static enum err keyspace(struct sink *base, struct slice name, struct errmsg *msg)
{
    struct objects *s = (struct objects *)base;
    enum err e = archive_create_keyspace(s->store, s->os, name, NULL, msg);
    return e == ERR_EXISTS ? ERR_OK : e;
}

static enum err append(struct sink *base, const struct archive_log *log,
                       const struct archive_insert *record, struct errmsg *msg)
{
    return archive_batcher_append(((struct objects *)base)->batcher, log, record, 1, msg);
}

static enum err idle(struct sink *base, struct errmsg *msg)
{
    return ERR_OK; // the batcher's threads look at the clock
}

static enum err flush(struct sink *base, struct errmsg *msg)
{
    return archive_batcher_flush_all(((struct objects *)base)->batcher, msg);
}

static enum err release(struct sink *base, const struct archive_log *log, struct errmsg *msg)
{
    return archive_batcher_release(((struct objects *)base)->batcher, log, msg);
}

static void stats(struct sink *base, struct sink_stats *sum)
{
    struct objects *s = (struct objects *)base;
    struct archive_batcher_stats now = {0};
    if (s->batcher)
        archive_batcher_get_stats(s->batcher, &now);
    *sum = s->before;
    sum->appended += now.appended;
    sum->stored += now.stored;
    sum->dropped += now.dropped;
    sum->batches += now.batches;
    sum->waits += now.waits;
    sum->bytes = now.bytes;
}

static void hurry(struct sink *base)
{
    object_hurry(((struct objects *)base)->store);
}

static enum err renew(struct sink *base, struct errmsg *msg)
{
    struct objects *s = (struct objects *)base;
    struct sink_stats sum;
    stats(base, &sum);
    s->before = sum;
    archive_batcher_free(s->batcher);
    s->batcher = NULL;
    return archive_batcher_new(&s->batcher, s->store, s->os, &s->archive, &s->batching, msg);
}

static void close_objects(struct sink *base)
{
    struct objects *s = (struct objects *)base;
    archive_batcher_free(s->batcher);
    object_close(s->store);
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
                                    .hurry = hurry,
                                    .close = close_objects};

static enum err open_store(struct objects *s, const struct bridge_config *c, struct errmsg *msg)
{
    const char *dir = c->text[BRIDGE_bridge_directory];
    const struct object_options o = {.os = s->os,
                                     .kind = *dir ? OBJECT_DIRECTORY : OBJECT_S3,
                                     .prefix = c->text[BRIDGE_s3_object_prefix],
                                     .dir = dir,
                                     .s3 = object_s3_settings(c->keys)};
    enum err e = object_open(&s->store, &o, msg);
    struct object_guarantees g = {0};
    if (!e)
        snprintf(s->base.where, sizeof s->base.where, "%s", object_where(s->store));
    e = e ? e : object_probe(s->store, &g, msg);
    if (!e && !(g.put_absent && g.list_after_put && g.read_after_put && g.list_in_order)) {
        char why[400];
        snprintf(why, sizeof why, "%.399s", msg->text);
        e = err_set(msg, ERR_UNSUPPORTED, "%s: two writers could overwrite each other's logs there",
                    why);
    }
    return e;
}

enum err sink_objects_open(struct sink **out, const struct bridge_config *c, struct os *os,
                           struct errmsg *msg)
{
    struct objects *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    s->base.ops = &ops;
    s->os = os;
    s->archive = archive_settings(c->keys);
    s->batching = archive_batcher_settings(c->keys);
    s->batching.queue_bytes = c->number[BRIDGE_bridge_queue_bytes];
    s->batching.memory_bytes = c->number[BRIDGE_bridge_memory_bytes];
    enum err e = open_store(s, c, msg);
    e = e ? e : archive_batcher_new(&s->batcher, s->store, os, &s->archive, &s->batching, msg);
    if (e)
        close_objects(&s->base);
    else
        *out = &s->base;
    return e;
}
