// The calls of logs. What a reading returns points into the connection's buffer of replies.
#include "client/client_int.h"
#include "base/limits.h"

static enum varve_error nothing(struct varve *v, enum varve_error r, struct slice body)
{
    return client_understood(v, r, body.n ? ERR_INVALID : ERR_OK);
}

static struct slice keyspace_of(const struct varve_log *log)
{
    return slice_of(log->keyspace, log->keyspace_size);
}

static struct slice key_of(const struct varve_log *log)
{
    return slice_of(log->key, log->key_size);
}

enum varve_error varve_keyspace_create(struct varve *v, const void *keyspace, size_t keyspace_size,
                                       const struct varve_log_policy *policy, uint64_t *created_ms)
{
    uint8_t bytes[WIRE_POLICY_BYTES];
    struct slice args[2] = {slice_of(keyspace, keyspace_size), slice_of(NULL, 0)};
    struct slice body;
    uint64_t created = 0;
    if (policy) {
        wire_policy(bytes, policy);
        args[1] = slice_of(bytes, sizeof bytes);
    }
    enum varve_error r = client_ask(v, WIRE_LOG_CREATE, args, 2, &body);
    r = client_understood(v, r, r ? ERR_OK : wire_read_keyspace(body, &created, NULL));
    if (!r && created_ms)
        *created_ms = created;
    return r;
}

enum varve_error varve_keyspace_policy(struct varve *v, const void *keyspace, size_t keyspace_size,
                                       const struct varve_log_policy *policy)
{
    uint8_t bytes[WIRE_POLICY_BYTES];
    struct slice args[2] = {slice_of(keyspace, keyspace_size), slice_of(bytes, sizeof bytes)};
    struct slice body;
    wire_policy(bytes, policy);
    return nothing(v, client_ask(v, WIRE_LOG_POLICY, args, 2, &body), body);
}

enum varve_error varve_keyspace_get(struct varve *v, const void *keyspace, size_t keyspace_size,
                                    struct varve_log_policy *policy, uint64_t *created_ms)
{
    struct slice name = slice_of(keyspace, keyspace_size);
    struct slice body;
    struct varve_log_policy p;
    uint64_t created = 0;
    enum varve_error r = client_ask(v, WIRE_LOG_KEYSPACE, &name, 1, &body);
    r = client_understood(v, r, r ? ERR_OK : wire_read_keyspace(body, &created, &p));
    if (!r && policy)
        *policy = p;
    if (!r && created_ms)
        *created_ms = created;
    return r;
}

enum varve_error varve_log_list(struct varve *v, const void *keyspace, size_t keyspace_size,
                                const void *after, size_t after_size, size_t limit,
                                varve_list_fn fn, void *arg)
{
    struct client_listing l = {.type = WIRE_LOG_LIST,
                               .scope = slice_of(keyspace, keyspace_size),
                               .limit = limit,
                               .fn = fn,
                               .arg = arg};
    return client_list(v, &l, slice_of(after, after_size));
}

enum varve_error varve_log_append(struct varve *v, const struct varve_log *log,
                                  const struct varve_record *records, size_t count,
                                  struct varve_appended *result)
{
    struct varve_reply reply = {.error = VARVE_OK};
    enum varve_error r = client_begin_alone(v);
    r = client_only_reply(v, r ? r : varve_queue_log_append(v, log, records, count), &reply);
    if (!r && result)
        *result = reply.appended;
    return r;
}

enum varve_error varve_queue_log_read(struct varve *v, const struct varve_log *log,
                                      const struct varve_log_query *q)
{
    uint8_t start[WIRE_START_BYTES];
    struct slice args[5] = {keyspace_of(log), key_of(log), slice_of(start, sizeof start),
                            slice_of(q->continuation, q->continuation_size),
                            slice_of(q->pattern, q->pattern_size)};
    wire_start(start, q, false);
    return client_queue(v, WIRE_LOG_READ, args, 5);
}

enum varve_error varve_log_read(struct varve *v, const struct varve_log *log,
                                const struct varve_log_query *query, struct varve_page *page)
{
    struct varve_reply reply = {.error = VARVE_OK};
    enum varve_error r = client_begin_alone(v);
    r = client_only_reply(v, r ? r : varve_queue_log_read(v, log, query), &reply);
    if (!r)
        *page = reply.page; // not before: the query may point into it
    return r;
}

enum varve_error varve_log_meta(struct varve *v, const struct varve_log *log,
                                struct varve_log_meta *meta)
{
    struct slice args[2] = {keyspace_of(log), key_of(log)};
    struct slice body;
    enum varve_error r = client_ask(v, WIRE_LOG_META, args, 2, &body);
    return client_understood(v, r, r ? ERR_OK : wire_read_meta(body, meta));
}

enum varve_error varve_log_tail(struct varve *v, const struct varve_log *log,
                                const struct varve_log_query *q, bool follow)
{
    uint8_t start[WIRE_START_BYTES];
    struct slice args[4] = {keyspace_of(log), key_of(log), slice_of(start, sizeof start),
                            slice_of(q->pattern, q->pattern_size)};
    wire_start(start, q, follow);
    enum varve_error r = client_begin_alone(v);
    r = r ? r : client_queue(v, WIRE_LOG_TAIL, args, 4);
    return r ? r : varve_flush(v);
}

enum varve_error varve_log_tail_next(struct varve *v, struct varve_page *page)
{
    struct varve_reply reply = {.error = VARVE_OK};
    if (!client_tailing(v))
        return client_fail(v, VARVE_INVALID, "no tail is open");
    enum varve_error r = client_only_reply(v, VARVE_OK, &reply);
    if (!r)
        *page = reply.page;
    return r;
}

enum varve_error varve_log_tail_close(struct varve *v)
{
    return client_tailing(v) ? client_end_tail(v) : VARVE_OK;
}

static enum varve_error trim(struct varve *v, const struct varve_log *log, enum varve_start kind,
                             uint64_t before, uint64_t *first_offset)
{
    uint8_t to[WIRE_TRIM_BYTES] = {(uint8_t)kind};
    struct slice args[3] = {keyspace_of(log), key_of(log), slice_of(to, sizeof to)};
    struct slice body;
    uint64_t first = 0;
    store64(to + 1, before);
    enum varve_error r = client_ask(v, WIRE_LOG_TRIM, args, 3, &body);
    r = client_understood(v, r, r ? ERR_OK : wire_read_u64(body, &first));
    if (!r && first_offset)
        *first_offset = first;
    return r;
}

enum varve_error varve_log_trim(struct varve *v, const struct varve_log *log, uint64_t before,
                                uint64_t *first_offset)
{
    return trim(v, log, VARVE_START_OFFSET, before, first_offset);
}

enum varve_error varve_log_trim_time(struct varve *v, const struct varve_log *log, int64_t before,
                                     uint64_t *first_offset)
{
    return trim(v, log, VARVE_START_TIMESTAMP, (uint64_t)before, first_offset);
}

enum varve_error varve_log_erase(struct varve *v, const struct varve_log *log, uint64_t offset)
{
    uint8_t bytes[8];
    struct slice args[3] = {keyspace_of(log), key_of(log), slice_of(bytes, sizeof bytes)};
    struct slice body;
    store64(bytes, offset);
    return nothing(v, client_ask(v, WIRE_LOG_ERASE, args, 3, &body), body);
}

enum varve_error varve_log_flush(struct varve *v, const struct varve_log *log)
{
    struct slice args[2] = {log ? keyspace_of(log) : slice_of(NULL, 0),
                            log ? key_of(log) : slice_of(NULL, 0)};
    struct slice body;
    return nothing(v, client_ask(v, WIRE_LOG_FLUSH, args, 2, &body), body);
}
