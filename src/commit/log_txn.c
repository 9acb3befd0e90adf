// A transaction's appends to logs, as steps of txn.c's life of a transaction:
//
//   order    by hash, which groups them by shard; the same log named twice is found here
//   lock     the logs' shards, in rising order, after those of all keys
//   gather   the log, if it exists; what appending needs of it must be in memory
//   plan     each record's nonce, timestamp and offset; the records as they will lie everywhere
//   prepare  memory for them; new logs
//   log      a change for each log that takes records
//   publish  the records; tails wake up
#include "commit/log_int.h"
#include "commit/txn_int.h"
#include "base/assert.h"
#include <inttypes.h>
#include <stdlib.h>

// `operation 3: log "x" <what>`
static enum err log_error(struct work *w, const struct log_step *s, enum err e, const char *what)
{
    char key[NAME_TEXT];
    return err_set(w->msg, e, "operation %zu: log \"%s\" %s", (size_t)(s->op - w->t->ops),
                   quote_name(s->op->append->name.key, key), what);
}

enum err check_append(struct commit *c, size_t i, const struct log_append *a, struct errmsg *msg)
{
    struct errmsg why;
    enum err e = check_log_name(c, &a->name, &why);
    if (e)
        return err_set(msg, e, "operation %zu: %s", i, why.text);
    if (a->count == 0)
        return err_set(msg, ERR_INVALID, "operation %zu: no records to append", i);
    for (size_t r = 0; r < a->count; r++)
        if (a->records[r].bytes.n > c->o.max_value)
            return err_set(msg, ERR_TOO_BIG,
                           "operation %zu: record %zu has %zu bytes, the limit is %u", i, r,
                           a->records[r].bytes.n, c->o.max_value);
    return ERR_OK;
}

static int by_log_hash(const void *a, const void *b)
{
    uint64_t x = ((const struct log_step *)a)->hash, y = ((const struct log_step *)b)->hash;
    return (x > y) - (x < y);
}

enum err order_log_steps(struct work *w)
{
    size_t n = 0;
    for (size_t i = 0; i < w->t->count; i++) {
        struct txn_op *op = &w->t->ops[i];
        if (op->kind != TXN_APPEND)
            continue;
        struct log_step *s = &w->logs[n++];
        *s = (struct log_step){.op = op};
        struct errmsg why;
        enum err e = find_keyspace(w->c, op->append->name.keyspace, &s->keyspace, &why);
        if (e)
            return err_set(w->msg, e, "operation %zu: %s", i, why.text);
        s->hash = logs_hash(w->c->logs, s->keyspace->id, op->append->name.key);
    }
    VERIFY(n == w->log_count);
    qsort(w->logs, n, sizeof *w->logs, by_log_hash);
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n && w->logs[j].hash == w->logs[i].hash; j++)
            if (w->logs[i].keyspace == w->logs[j].keyspace &&
                slice_equal(w->logs[i].op->append->name.key, w->logs[j].op->append->name.key))
                return log_error(w, &w->logs[j], ERR_INVALID, "is appended to twice");
    return ERR_OK;
}

void unlock_logs(struct work *w)
{
    for (size_t i = w->log_count; i-- > 0;)
        if (i == 0 || logs_shard(w->logs[i].hash) != logs_shard(w->logs[i - 1].hash))
            logs_unlock(w->c->logs, logs_shard(w->logs[i].hash));
}

enum err lock_and_gather_logs(struct work *w)
{
    enum err e = ERR_OK;
    for (size_t i = 0; i < w->log_count; i++)
        if (i == 0 || logs_shard(w->logs[i].hash) != logs_shard(w->logs[i - 1].hash))
            logs_lock(w->c->logs, logs_shard(w->logs[i].hash));
    for (size_t i = 0; i < w->log_count; i++) {
        struct log_step *s = &w->logs[i];
        uint64_t first;
        s->log = logs_find(w->c->logs, s->hash, s->keyspace, s->op->append->name.key);
        if (s->log && !log_can_append(s->log, &first))
            e = ERR_COLD;
        uint64_t dep = s->log ? log_dep(w->c, s->log) : keyspace_dep(w->c, s->keyspace);
        w->dep = dep > w->dep ? dep : w->dep;
    }
    if (e)
        unlock_logs(w);
    return e;
}

// One moment for the whole transaction.
static uint64_t now_us(struct work *w)
{
    if (!w->now_us)
        w->now_us = os_wall_us(w->c->o.os);
    return w->now_us;
}

// The timestamp of a record. Event streams: later than every one before, also where the clock went
// back.
static int64_t give_time(struct work *w, const struct log_step *s, const struct log_input *in,
                         int64_t last)
{
    if (!s->keyspace->server_time)
        return in->has_timestamp ? in->timestamp : (int64_t)(now_us(w) / 1000);
    int64_t now = (int64_t)now_us(w);
    return now > last || VARVE_BUG == 27 ? now : last + 1;
}

// Room for all of an append at once, so that it need not be copied as it grows. If that is too
// much, the records that are not dropped may still fit: plan_log sees.
static enum err reserve_all(struct work *w, const struct log_append *a)
{
    size_t size = 0;
    for (size_t i = 0; i < a->count; i++)
        size += record_size(a->records[i].bytes.n);
    enum err e = buf_reserve(&w->encoded, size);
    return e == ERR_TOO_BIG ? ERR_OK : e;
}

static enum err plan_log(struct work *w, struct log_step *s)
{
    struct log_append *a = s->op->append;
    uint64_t end = s->log ? s->log->end : 1;
    u128 next_nonce = s->log ? s->log->next_nonce : 0;
    int64_t last = s->log ? s->log->last_time : INT64_MIN;
    a->first_offset = end;
    a->timestamp = 0;
    s->at = buf_len(&w->encoded);
    if (reserve_all(w, a))
        return err_set(w->msg, ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < a->count; i++) {
        const struct log_input *in = &a->records[i];
        if (s->keyspace->server_time && in->has_timestamp)
            return log_error(w, s, ERR_INVALID, "is given its timestamps by the server");
        if (in->nonce != NONCE_NONE && in->nonce < next_nonce && VARVE_BUG != 21) {
            count(&w->c->duplicates, 1);
            continue;
        }
        size_t size = record_size(in->bytes.n);
        struct record r = {end++, give_time(w, s, in, last), in->nonce, in->bytes};
        if (in->nonce != NONCE_NONE)
            next_nonce = in->nonce + 1;
        last = r.timestamp > last ? r.timestamp : last;
        a->timestamp = r.timestamp;
        s->largest = size > s->largest ? size : s->largest;
        enum err e = buf_reserve(&w->encoded, size);
        if (e)
            return err_set(w->msg, e, "%s",
                           e == ERR_TOO_BIG ? "the transaction is too large" : err_text(e));
        record_write(buf_tail(&w->encoded), &r);
        w->encoded.end += size;
    }
    s->bytes = buf_len(&w->encoded) - s->at;
    a->end_offset = end;
    a->appended = end - a->first_offset;
    a->next_nonce = next_nonce;
    s->op->new_version = a->first_offset;
    s->op->number = (int64_t)a->appended;
    s->op->actual = a->end_offset;
    return ERR_OK;
}

enum err plan_logs(struct work *w)
{
    buf_init(&w->encoded, LIMIT_WAL_FRAME);
    for (size_t i = 0; i < w->log_count; i++) {
        w->logs[i].op->conflict = false;
        enum err e = plan_log(w, &w->logs[i]);
        if (e)
            return e;
    }
    return ERR_OK;
}

void discard_logs(struct work *w)
{
    for (size_t i = 0; i < w->log_count; i++)
        if (w->logs[i].made)
            logs_discard(w->c->logs, w->logs[i].made);
}

// Headers are never evicted: half of the logs' share is for them, so that the rest has chunks in
// it.
static enum err admit_log(struct work *w, const struct log_step *s)
{
    if (logs_header_bytes(w->c->logs) <= w->c->logs_limit / 2)
        return ERR_OK;
    return log_error(
        w, s, ERR_NO_MEMORY,
        "would be new, and there are as many logs as storage.memory_limit has room for");
}

enum err prepare_logs(struct work *w)
{
    for (size_t i = 0; i < w->log_count; i++) {
        struct log_step *s = &w->logs[i];
        const struct log_append *a = s->op->append;
        if (s->bytes == 0)
            continue;
        enum err e = s->log ? ERR_OK : admit_log(w, s);
        if (e) {
            discard_logs(w);
            return e;
        }
        if (!s->log) {
            uint64_t id = atomic_fetch_add(&w->c->log_ids, 1) + 1;
            s->made = logs_prepare(w->c->logs, s->hash, s->keyspace, a->name.key, id);
        }
        struct log *l = s->log ? s->log : s->made;
        if (!l || log_reserve(w->c->logs, l, s->bytes, s->largest, a->appended)) {
            discard_logs(w);
            return err_set(w->msg, ERR_NO_MEMORY, "out of memory");
        }
        s->change = (struct change){
            .kind = CHANGE_APPEND,
            .keyspace = s->keyspace->id,
            .key = a->name.key,
            .log = l->id,
            .value = slice_of(buf_head(&w->encoded) + s->at, s->bytes),
        };
    }
    return ERR_OK;
}

void publish_logs(struct work *w, uint64_t seq)
{
    for (size_t i = 0; i < w->log_count; i++) {
        struct log_step *s = &w->logs[i];
        struct log *l = s->log ? s->log : s->made;
        if (s->bytes == 0)
            continue;
        if (s->made)
            logs_publish(w->c->logs, s->hash, s->made);
        log_append(w->c->logs, l, s->change.value, seq, wal_durable(w->c->wal));
        VERIFY(l->end == s->op->append->end_offset && l->next_nonce == s->op->append->next_nonce);
        wake_watches(w->c, s->hash, l->end);
        count(&w->c->appended, s->op->append->appended);
    }
    // Only now: it may evict tails that others of these appends counted on.
    for (size_t i = 0; i < w->log_count; i++)
        if (i == 0 || logs_shard(w->logs[i].hash) != logs_shard(w->logs[i - 1].hash))
            trim_log_shard(w->c, logs_shard(w->logs[i].hash));
}
