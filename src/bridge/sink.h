// Where a bridge's records go: objects (a directory or S3, through the batching writer) or a varve
// server (through the client library). Belongs to the consumer's thread.
//
// The first error is sticky: what was appended before a flush that returned ERR_OK is stored, and
// after an error nothing more is known. ERR_CONFLICT: another writer has taken a log over.
#ifndef VARVE_BRIDGE_SINK_H
#define VARVE_BRIDGE_SINK_H

#include "bridge/config.h"

struct sink_stats {
    uint64_t appended; // records, ever
    uint64_t stored;   // of them
    uint64_t dropped;  // of them there already, by their nonces
    uint64_t batches;  // data objects, or requests to the server
    uint64_t waits;    // appends that waited for room
    uint64_t bytes;    // held in memory now
};

struct sink;

struct sink_ops {
    enum err (*check)(struct sink *s, const struct archive_log *log, struct errmsg *msg);
    enum err (*keyspace)(struct sink *s, struct slice keyspace, struct errmsg *msg);
    enum err (*append)(struct sink *s, const struct archive_log *log,
                       const struct archive_insert *record, struct errmsg *msg);
    enum err (*idle)(struct sink *s, struct errmsg *msg);
    enum err (*flush)(struct sink *s, struct errmsg *msg);
    enum err (*release)(struct sink *s, const struct archive_log *log, struct errmsg *msg);
    enum err (*renew)(struct sink *s, struct errmsg *msg);
    void (*stats)(struct sink *s, struct sink_stats *stats);
    void (*hurry)(struct sink *s);
    void (*close)(struct sink *s);
};

struct sink {
    const struct sink_ops *ops;
    char where[512]; // for messages
};

// The configuration and `os` are borrowed.
MUST_USE enum err sink_objects_open(struct sink **out, const struct bridge_config *c, struct os *os,
                                    struct errmsg *msg);
MUST_USE enum err sink_server_open(struct sink **out, const struct bridge_config *c,
                                   struct errmsg *msg);

// ERR_TOO_BIG, or ERR_INVALID, if there cannot be a log of this name. Not sticky.
MUST_USE static inline enum err sink_check(struct sink *s, const struct archive_log *log,
                                           struct errmsg *msg)
{
    return s->ops->check(s, log, msg);
}
// Makes a keyspace, unless it is there. A request each time.
MUST_USE static inline enum err sink_keyspace(struct sink *s, struct slice keyspace,
                                              struct errmsg *msg)
{
    return s->ops->keyspace(s, keyspace, msg);
}
// Takes a copy of a record for a log; waits while there is no room.
MUST_USE static inline enum err sink_append(struct sink *s, const struct archive_log *log,
                                            const struct archive_insert *record, struct errmsg *msg)
{
    return s->ops->append(s, log, record, msg);
}
// Nothing comes just now: sends what waits for more. Waits for nothing.
MUST_USE static inline enum err sink_idle(struct sink *s, struct errmsg *msg)
{
    return s->ops->idle(s, msg);
}
// Returns when all that was appended is stored.
MUST_USE static inline enum err sink_flush(struct sink *s, struct errmsg *msg)
{
    return s->ops->flush(s, msg);
}
// Stores a log's records and lets it go, so that another writer can take it without fencing us.
MUST_USE static inline enum err sink_release(struct sink *s, const struct archive_log *log,
                                             struct errmsg *msg)
{
    return s->ops->release(s, log, msg);
}
// Lets all logs go and begins anew. What was not flushed is dropped, or stored.
MUST_USE static inline enum err sink_renew(struct sink *s, struct errmsg *msg)
{
    return s->ops->renew(s, msg);
}
static inline void sink_get_stats(struct sink *s, struct sink_stats *stats)
{
    s->ops->stats(s, stats);
}
// From now on what a store does not answer within a second or so fails; a server has its time-out
// of a minute. Any thread.
static inline void sink_hurry(struct sink *s)
{
    if (s->ops->hurry)
        s->ops->hurry(s);
}
// Drops what was not flushed. NULL does nothing.
static inline void sink_close(struct sink *s)
{
    if (s)
        s->ops->close(s);
}

#endif
