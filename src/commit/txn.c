// The life of a transaction:
//
//   1 order    the operations by hash, which groups them by shard; the same key written twice is
//              found here
//   2 lock     the shards it touches, in rising order: of keys, of logs, of relations' lists
//   3 gather   the current entry of each key; what is not in RAM is loaded first (unlocked), then
//              again
//   4 check    expected versions and types, against one moment; a disagreement ends it, nothing
//              done
//   5 prepare  the new entries and the log record; whatever can fail for want of memory fails here.
//              Lists change where they lie, see rel_txn.c, and are undone if a later step fails
//   6 log      append to the write-ahead log: gives the sequence; the last step that can fail
//   7 publish  the new entries; from here other transactions and reads see them (and depend on the
//              sequence)
//   8 unlock
//
// The shards stay locked from 3 to 8, so that the order of sequences is the order of effects on
// each key.
#include "commit/log_int.h"
#include "commit/txn_int.h"
#include "base/assert.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

// One moment for the whole transaction. Most never ask: only times to live need the clock.
static uint64_t now_ms(struct work *w)
{
    if (!w->now)
        w->now = os_wall_ms(w->c->o.os);
    return w->now;
}

static bool visible(struct work *w, const struct key_entry *e)
{
    return e && entry_visible(e, e->flags & ENTRY_EXPIRES ? now_ms(w) : 0);
}

static const char *quote_key(struct slice key, char *text, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < key.n && n + 8 < cap; i++) {
        uint8_t ch = key.p[i];
        if (i == 64) {
            n += (size_t)snprintf(text + n, cap - n, "...");
            break;
        }
        n += (size_t)snprintf(text + n, cap - n,
                              ch < 32 || ch > 126 || ch == '"' ? "\\x%02x" : "%c", ch);
    }
    text[n < cap ? n : cap - 1] = 0;
    return text;
}

// `op 3: key "x" <what>`
static enum err op_error(struct work *w, const struct txn_op *op, enum err e, const char *what)
{
    char key[320];
    return err_set(w->msg, e, "operation %zu: key \"%s\" %s", (size_t)(op - w->t->ops),
                   quote_key(op->k.key, key, sizeof key), what);
}

static enum err check_shape(struct work *w)
{
    struct commit *c = w->c;
    char what[96];
    if (w->t->count == 0)
        return err_set(w->msg, ERR_INVALID, "the transaction is empty");
    if (w->t->count > LIMIT_TXN_OPS)
        return err_set(w->msg, ERR_TOO_BIG, "%zu operations in one transaction, the limit is %u",
                       w->t->count, LIMIT_TXN_OPS);
    if (w->t->idempotency.n > LIMIT_IDEMPOTENCY_KEY)
        return err_set(w->msg, ERR_INVALID, "the idempotency key has %zu bytes, the limit is %u",
                       w->t->idempotency.n, LIMIT_IDEMPOTENCY_KEY);
    for (size_t i = 0; i < w->t->count; i++) {
        const struct txn_op *op = &w->t->ops[i];
        if (op->kind > TXN_UNRELATE || op->type >= VALUE_TYPES)
            return err_set(w->msg, ERR_INVALID, "operation %zu: unknown kind or value type", i);
        if (op->kind > TXN_APPEND) {
            enum err e = check_edit(w, i, op->edit);
            if (e)
                return e;
            continue;
        }
        if (op->kind == TXN_APPEND) {
            enum err e = check_append(c, i, op->append, w->msg);
            if (e)
                return e;
            if (++w->log_count > LIMIT_TXN_LOGS)
                return err_set(w->msg, ERR_TOO_BIG,
                               "a transaction appends to more than %u logs, the limit",
                               LIMIT_TXN_LOGS);
            continue;
        }
        if (op->k.key.n == 0)
            return err_set(w->msg, ERR_INVALID, "operation %zu: the key is empty", i);
        if (op->k.key.n > c->o.max_key) {
            snprintf(what, sizeof what, "has %zu bytes, the limit is %u", op->k.key.n,
                     c->o.max_key);
            return op_error(w, op, ERR_TOO_BIG, what);
        }
        if (op->kind == TXN_PUT && op->value.n > c->o.max_value) {
            snprintf(what, sizeof what, "has a value of %zu bytes, the limit is %u", op->value.n,
                     c->o.max_value);
            return op_error(w, op, ERR_TOO_BIG, what);
        }
        if (op->kind == TXN_PUT && ((op->type == VALUE_INT || op->type == VALUE_FLOAT)
                                        ? op->value.n != 8
                                        : op->type == VALUE_BOOL && op->value.n != 1))
            return op_error(w, op, ERR_INVALID, "has a value of the wrong size for its type");
    }
    return ERR_OK;
}

// Where an operation goes in the order; sorted instead of the steps themselves, which are large.
struct place {
    uint64_t hash;
    size_t op; // index; t->count is the idempotency record
};

static int by_hash(const void *a, const void *b)
{
    uint64_t x = ((const struct place *)a)->hash, y = ((const struct place *)b)->hash;
    return (x > y) - (x < y);
}

static void insertion_sort(struct place *p, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct place x = p[i];
        size_t j = i;
        for (; j && p[j - 1].hash > x.hash; j--)
            p[j] = p[j - 1];
        p[j] = x;
    }
}

// Sorts by hash. Few in place; more of them by their shard first, which leaves runs so short that
// insertion does the rest. `other` has room for as many.
static struct place *sort_places(struct place *p, struct place *other, size_t count)
{
    if (count <= 16) {
        insertion_sort(p, count);
        return p;
    }
    size_t at[KEYS_SHARDS + 1] = {0};
    for (size_t i = 0; i < count; i++)
        at[keys_shard(p[i].hash) + 1]++;
    for (size_t i = 0; i < KEYS_SHARDS; i++)
        at[i + 1] += at[i];
    for (size_t i = 0; i < count; i++)
        other[at[keys_shard(p[i].hash)]++] = p[i];
    if (count > 32 * KEYS_SHARDS)
        qsort(other, count, sizeof *other, by_hash);
    else
        insertion_sort(other, count);
    return other;
}

// Step 1: w->steps in the order of their keys' hashes, and so of their shards.
static enum err order_steps(struct work *w)
{
    struct place few[2 * FEW], *p = few;
    if (w->count > FEW && !(p = malloc(2 * w->count * sizeof *p)))
        return err_set(w->msg, ERR_NO_MEMORY, "out of memory");
    size_t n = 0;
    for (size_t i = 0; i < w->t->count; i++)
        if (w->t->ops[i].kind < TXN_APPEND)
            p[n++] = (struct place){w->t->ops[i].k.hash, i};
    if (w->t->idempotency.n)
        p[n++] = (struct place){w->idem.hash, w->t->count};
    VERIFY(n == w->count);
    struct place *sorted = sort_places(p, p + w->count, w->count);
    for (size_t i = 0; i < w->count; i++)
        w->steps[i] = (struct step){
            .hash = sorted[i].hash,
            .op = sorted[i].op < w->t->count ? &w->t->ops[sorted[i].op] : NULL,
        };
    if (p != few)
        free(p);
    return ERR_OK;
}

// A key may be checked and written, but written only once.
static enum err find_twice(struct work *w)
{
    for (size_t i = 0; i < w->count; i++) {
        const struct txn_op *a = w->steps[i].op;
        if (!a || a->kind == TXN_CHECK) // one key may be checked any number of times
            continue;
        for (size_t j = i + 1; j < w->count && w->steps[j].hash == w->steps[i].hash; j++) {
            const struct txn_op *b = w->steps[j].op;
            if (b && b->kind != TXN_CHECK && slice_equal(a->k.key, b->k.key))
                return op_error(w, a > b ? a : b, ERR_INVALID, "is written twice");
        }
    }
    return ERR_OK;
}

static void lock_shards(struct work *w)
{
    for (size_t i = 0; i < w->count; i++)
        if (i == 0 || keys_shard(w->steps[i].hash) != keys_shard(w->steps[i - 1].hash))
            keys_lock(w->c->keys, keys_shard(w->steps[i].hash));
}

// In falling order: another transaction that waits for one of these waits for its lowest, and when
// it gets that, all the others are free. In rising order it would run after this one from lock to
// lock.
static void unlock_shards(struct work *w)
{
    for (size_t i = w->count; i-- > 0;)
        if (i == 0 || keys_shard(w->steps[i].hash) != keys_shard(w->steps[i - 1].hash))
            keys_unlock(w->c->keys, keys_shard(w->steps[i].hash));
}

static struct key_ref step_ref(const struct work *w, const struct step *s)
{
    return s->op ? s->op->k : w->idem;
}

// Step 3 under the locks. False when keys have to be loaded first.
static bool gather(struct work *w)
{
    struct keys *keys = w->c->keys;
    bool all = true;
    w->dep = 0;
    for (size_t i = 0; i < w->count; i++) {
        struct step *s = &w->steps[i];
        struct key_ref k = step_ref(w, s);
        s->before = keys_find(keys, k.hash, k.space, k.key);
        if (!s->before) {
            all = all && keys_complete(keys, keys_shard(k.hash));
            continue;
        }
        keys_touch(s->before);
        uint64_t dep = entry_dep(w->c, s->before);
        w->dep = dep > w->dep ? dep : w->dep;
    }
    return all;
}

// Loads what is missing with the shards locked, so that nothing is evicted before all is there:
// keys that are more than their shards may hold would push each other out for ever.
static enum err load_locked(struct work *w)
{
    for (size_t i = 0; i < w->count; i++) {
        struct key_ref k = step_ref(w, &w->steps[i]);
        enum err e = w->steps[i].before ? ERR_OK : load_key_locked(w->c, &k);
        if (e)
            return e;
    }
    return gather(w) ? ERR_OK : ERR_COLD;
}

// Locks and gathers keys; loads from memory what is missing, as often as needed. ERR_OK: locked.
static enum err lock_and_gather_keys(struct work *w)
{
    for (int tries = 0;; tries++) {
        lock_shards(w);
        if (gather(w))
            return ERR_OK;
        if (tries == 2) {
            enum err e = load_locked(w);
            if (e)
                unlock_shards(w);
            return e && e != ERR_COLD ? err_set(w->msg, e, "cannot read the store: %s", err_text(e))
                                      : e;
        }
        unlock_shards(w);
        for (size_t i = 0; i < w->count; i++) {
            struct key_ref k = step_ref(w, &w->steps[i]);
            if (w->steps[i].before)
                continue;
            enum err e = load_key(w->c, &k, true);
            if (e)
                return e == ERR_COLD ? e
                                     : err_set(w->msg, e, "cannot read the store: %s", err_text(e));
        }
    }
}

enum { REL_ROUNDS = 100 }; // of fetching, after which a transaction's lists do not fit memory

// Keys, logs, lists; loads from memory what is missing of lists, as lock_and_gather_keys does.
static enum err lock_and_gather(struct work *w)
{
    for (int tries = 0;; tries++) {
        enum err e = lock_and_gather_keys(w);
        if (!e && (e = lock_and_gather_logs(w)))
            unlock_shards(w);
        if (e || !(e = lock_and_gather_rels(w, tries == 2)))
            return e;
        unlock_logs(w);
        unlock_shards(w);
        if (e == ERR_COLD && tries < 2 && !(e = load_rels(w)))
            continue;
        if (e == ERR_COLD && ++w->t->rounds > REL_ROUNDS)
            return err_set(w->msg, ERR_TOO_BIG,
                           "the lists that the transaction changes do not fit storage.memory_limit "
                           "all at once");
        return e == ERR_COLD ? e : err_set(w->msg, e, "cannot read a list: %s", err_text(e));
    }
}

// ---- idempotency: the first result, kept as an entry of SPACE_IDEM, written by the same
// transaction. [u64 sequence][u64 request hash][u8 conflict][u32 count] then for each operation
// [u64 new version][i64 number][u64 actual version][u8 conflict].
// The sequence is not known when the record is logged: it is filled in when it is applied.
enum { RESULT_HEAD = 21, RESULT_OP = 25 };

static enum err record_build(struct work *w, bool conflict)
{
    buf_init(&w->record, RESULT_HEAD + (size_t)LIMIT_TXN_OPS * RESULT_OP);
    enum err e = buf_reserve(&w->record, RESULT_HEAD + w->t->count * RESULT_OP);
    if (e)
        return err_set(w->msg, e, "out of memory");
    uint8_t *p = buf_tail(&w->record);
    store64(p, 0);
    store64(p + 8, w->t->request_hash);
    p[16] = conflict;
    store32(p + 17, (uint32_t)w->t->count);
    p += RESULT_HEAD;
    for (size_t i = 0; i < w->t->count; i++, p += RESULT_OP) {
        const struct txn_op *op = &w->t->ops[i];
        store64(p, op->new_version);
        store64(p + 8, (uint64_t)op->number);
        store64(p + 16, op->actual);
        p[24] = op->conflict;
    }
    w->record.end += RESULT_HEAD + w->t->count * RESULT_OP;
    return ERR_OK;
}

static enum err record_replay(struct work *w, struct slice r)
{
    struct txn *t = w->t;
    if (r.n < RESULT_HEAD || r.n != RESULT_HEAD + (size_t)load32(r.p + 17) * RESULT_OP)
        return err_set(w->msg, ERR_DAMAGED, "the idempotency record is damaged");
    if (load64(r.p + 8) != t->request_hash || load32(r.p + 17) != t->count)
        return err_set(w->msg, ERR_REUSED,
                       "the idempotency key was used before with another request");
    const uint8_t *p = r.p + RESULT_HEAD;
    for (size_t i = 0; i < t->count; i++, p += RESULT_OP) {
        struct txn_op *op = &t->ops[i];
        op->new_version = load64(p);
        op->number = (int64_t)load64(p + 8);
        op->actual = load64(p + 16);
        op->conflict = p[24];
        if (op->kind == TXN_APPEND) {
            op->append->first_offset = op->new_version;
            op->append->end_offset = op->actual;
            op->append->appended = (uint64_t)op->number;
            op->append->next_nonce = 0;
            op->append->timestamp = 0;
        }
        if (op->kind == TXN_RELATE || op->kind == TXN_UNRELATE) {
            op->edit->changed = (uint64_t)op->number;
            if (op->edit->count == 1)
                op->edit->groups[0].changed = (uint32_t)op->number;
        }
    }
    t->seq = load64(r.p);
    t->replayed = true;
    count(&w->c->replays, 1);
    return r.p[16] ? ERR_CONFLICT : ERR_OK;
}

// ---- step 4

static bool parse_decimal(struct slice s, int64_t *n)
{
    char text[24], *end;
    if (s.n == 0 || s.n >= sizeof text || !(s.p[0] == '-' || (s.p[0] >= '0' && s.p[0] <= '9')))
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    errno = 0;
    errno = 0;
    *n = strtoll(text, &end, 10);
    return end == text + s.n && errno == 0;
}

// The sum of an add, into op->number and the step's stored form.
static enum err add_number(struct work *w, struct step *s, bool there)
{
    int64_t base = 0;
    if (there) {
        struct slice v = entry_value(s->before);
        enum value_type type = entry_type(s->before);
        if (type == VALUE_INT)
            base = (int64_t)load64(v.p);
        else if ((type != VALUE_BYTES && type != VALUE_STRING) || !parse_decimal(v, &base))
            return op_error(w, s->op, ERR_TYPE, "does not hold an integer, cannot add to it");
    }
    if (__builtin_add_overflow(base, s->op->delta, &s->op->number))
        return op_error(w, s->op, ERR_OVERFLOW, "would pass the 64-bit range");
    store64(s->number, (uint64_t)s->op->number);
    return ERR_OK;
}

// Decides what one operation writes. Sets its results.
static enum err plan(struct work *w, struct step *s, uint64_t floor)
{
    struct txn_op *op = s->op;
    bool there = visible(w, s->before);
    uint64_t had = s->before ? s->before->version : 0; // of a dead entry too
    op->actual = there ? had : 0;
    op->new_version = 0;
    op->number = 0;
    op->conflict = (op->has_version || op->kind == TXN_CHECK) && op->actual != op->version;
    s->writes = false;
    if (op->kind == TXN_CHECK || op->conflict)
        return ERR_OK;
    s->change = (struct change){.space = SPACE_KEYS, .key = op->k.key};
    if (op->kind == TXN_DELETE) {
        s->writes = there;
        s->change.kind = CHANGE_DELETE;
        s->change.version = had;
        return ERR_OK;
    }
    enum err e = op->kind == TXN_ADD ? add_number(w, s, there) : ERR_OK;
    if (e)
        return e;
    // A key that is made again goes past every version that a deleted or expired key had.
    uint64_t from = there || had > floor ? had : floor;
    if (VARVE_BUG == 10)
        from = there ? had : 0; // versions reused after delete
    op->new_version = from + 1;
    s->writes = true;
    s->change.kind = CHANGE_PUT;
    s->change.version = op->new_version;
    s->change.type = op->kind == TXN_ADD ? VALUE_INT : (enum value_type)op->type;
    s->change.value = op->kind == TXN_ADD ? slice_of(s->number, 8) : op->value;
    if (op->ttl_ms)
        s->change.expires_ms =
            op->ttl_ms < UINT64_MAX - now_ms(w) ? now_ms(w) + op->ttl_ms : UINT64_MAX;
    else if (op->kind == TXN_ADD && there)
        s->change.expires_ms = entry_expires(s->before);
    return ERR_OK;
}

static enum err plan_all(struct work *w, bool *conflict)
{
    uint64_t floor = atomic_load(&w->c->floor);
    *conflict = false;
    for (size_t i = 0; i < w->count; i++) {
        if (!w->steps[i].op)
            continue;
        enum err e = plan(w, &w->steps[i], floor);
        if (e)
            return e;
        *conflict = *conflict || w->steps[i].op->conflict;
    }
    return plan_logs(w);
}

static void plan_record(struct work *w, bool conflict)
{
    for (size_t i = 0; conflict && i < w->log_count; i++)
        w->logs[i].bytes = 0;
    for (size_t i = 0; i < w->count; i++) {
        struct step *s = &w->steps[i];
        s->writes = s->writes && !conflict;
        if (s->op)
            continue;
        s->writes = true;
        s->change = (struct change){
            .kind = CHANGE_PUT,
            .space = SPACE_IDEM,
            .type = VALUE_BYTES,
            .version = 1,
            .expires_ms = now_ms(w) + LIMIT_IDEMPOTENCY_TTL_MS,
            .key = w->idem.key,
            .value = buf_slice(&w->record),
        };
    }
}

// ---- steps 5 to 7

static void discard(struct work *w, size_t prepared)
{
    for (size_t i = 0; i < prepared; i++)
        if (w->steps[i].next)
            keys_discard(w->c->keys, w->steps[i].hash, w->steps[i].next);
}

static enum err prepare(struct work *w)
{
    for (size_t i = 0; i < w->count; i++) {
        struct step *s = &w->steps[i];
        s->next = NULL;
        s->overwrites = false;
        if (!s->writes)
            continue;
        struct key_fields f = fields_of(&s->change);
        s->overwrites = s->op && s->before && keys_fits(s->before, &f);
        if (s->overwrites)
            continue;
        s->next = keys_prepare(w->c->keys, s->hash, &f);
        if (!s->next) {
            discard(w, i);
            return err_set(w->msg, ERR_NO_MEMORY, "out of memory");
        }
    }
    enum err e = prepare_logs(w);
    if (e)
        discard(w, w->count);
    return e;
}

static bool logged(const struct work *w, size_t i)
{
    bool bug = (VARVE_BUG == 17 && !w->steps[i].op) ||       // the first result is not logged
               (VARVE_BUG == 18 && i > 0 && w->steps[i].op); // half a transaction is
    return w->steps[i].writes && !bug;
}

static bool appends(const struct work *w, size_t i)
{
    return w->logs[i].bytes && !(VARVE_BUG == 30 && w->count); // only half of a mixed one is logged
}

// Encodes what is written and appends it. *seq stays 0 if nothing is.
static enum err append(struct work *w, uint64_t *seq)
{
    size_t bytes = 0;
    uint8_t small[1024];
    struct buf b = {.data = small, .cap = sizeof small, .max = sizeof small};
    *seq = 0;
    for (size_t i = 0; i < w->count; i++)
        if (logged(w, i))
            bytes += op_size(&w->steps[i].change);
    for (size_t i = 0; i < w->log_count; i++)
        if (appends(w, i))
            bytes += op_size(&w->logs[i].change);
    struct change ch;
    for (size_t i = 0; i < w->rels.count; i++)
        if (rel_change(w, i, &ch))
            bytes += op_size(&ch);
    if (bytes == 0)
        return ERR_OK;
    if (bytes > LIMIT_WAL_FRAME)
        return err_set(w->msg, ERR_TOO_BIG, "the transaction has %zu bytes, the limit is %u", bytes,
                       LIMIT_WAL_FRAME);
    if (bytes > sizeof small) {
        buf_init(&b, bytes);
        if (buf_reserve(&b, bytes))
            return err_set(w->msg, ERR_NO_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < w->count; i++)
        if (logged(w, i))
            op_append(&b, &w->steps[i].change);
    for (size_t i = 0; i < w->log_count; i++)
        if (appends(w, i))
            op_append(&b, &w->logs[i].change);
    for (size_t i = 0; i < w->rels.count; i++)
        if (rel_change(w, i, &ch))
            op_append(&b, &ch);
    VERIFY(buf_len(&b) == bytes);
    enum err e = wal_append(w->c->wal, buf_slice(&b), seq);
    if (b.data != small)
        buf_release(&b);
    if (e)
        return err_set(w->msg, e, "%s", err_text(e));
    return ERR_OK;
}

static void emit_old(struct work *w)
{
    for (size_t i = 0; i < w->count; i++) {
        const struct step *s = &w->steps[i];
        if (!s->op || !s->op->want_old)
            continue;
        bool there = visible(w, s->before);
        struct value_view v = there ? entry_view(s->before) : (struct value_view){0};
        w->t->emit_old(w->t->arg, (size_t)(s->op - w->t->ops), there ? &v : NULL);
    }
}

static void publish(struct work *w, uint64_t seq)
{
    for (size_t i = 0; i < w->count; i++) {
        struct step *s = &w->steps[i];
        if (s->overwrites) {
            struct key_fields f = fields_of(&s->change);
            keys_overwrite(w->c->keys, s->hash, s->before, &f, seq);
        }
        if (!s->next)
            continue;
        if (!s->op)
            store64((uint8_t *)entry_value(s->next).p, seq); // the record's own sequence
        if (s->change.kind == CHANGE_DELETE)
            raise_floor(w->c, s->change.version);
        keys_publish(w->c->keys, s->hash, s->next, seq, true);
    }
    for (size_t i = 0; i < w->count; i++)
        if (i == 0 || keys_shard(w->steps[i].hash) != keys_shard(w->steps[i - 1].hash))
            trim_shard(w->c, keys_shard(w->steps[i].hash));
    publish_logs(w, seq);
    publish_rels(w, seq);
}

// Does the answer wait for what was written? Not if that is all in relations whose answers do not.
static bool binds(const struct work *w)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->steps[i].writes)
            return true;
    for (size_t i = 0; i < w->log_count; i++)
        if (w->logs[i].bytes)
            return true;
    return rels_bind(w);
}

// Steps 5 and 6 but for lists, which are changed by now.
static enum err prepare_and_append(struct work *w, bool conflict, uint64_t *seq)
{
    enum err e = ERR_OK;
    if (w->t->idempotency.n && (e = record_build(w, conflict)))
        return e;
    plan_record(w, conflict);
    if ((e = prepare(w)))
        return e;
    if ((e = append(w, seq))) {
        discard(w, w->count);
        discard_logs(w);
    }
    return e;
}

// Steps 4 to 7, shards locked.
static enum err execute(struct work *w)
{
    bool conflict;
    for (size_t i = 0; i < w->count; i++) {
        const struct step *s = &w->steps[i];
        if (!s->op && visible(w, s->before))
            return record_replay(w, entry_value(s->before));
    }
    enum err e = plan_all(w, &conflict);
    if (e || (conflict && !w->t->idempotency.n))
        return e ? e : ERR_CONFLICT;
    uint64_t seq;
    if (!conflict && (e = apply_rels(w)))
        return e;
    if ((e = prepare_and_append(w, conflict, &seq))) {
        undo_rels(w);
        return e;
    }
    emit_old(w);
    if (seq) {
        publish(w, seq);
        if (binds(w))
            w->dep = seq;
        w->t->seq = seq;
    }
    return conflict ? ERR_CONFLICT : ERR_OK;
}

static struct key_ref idem_ref(const struct commit *c, const struct txn *t)
{
    return (struct key_ref){t->idempotency, keys_hash(c->keys, SPACE_IDEM, t->idempotency),
                            SPACE_IDEM};
}

// Memory for the steps, in place of the few on the stack.
static enum err steps_new(struct work *w)
{
    w->count = w->t->count - w->log_count - w->rels.count + (w->t->idempotency.n ? 1 : 0);
    if (w->count > FEW && !(w->steps = malloc(w->count * sizeof *w->steps)))
        return err_set(w->msg, ERR_NO_MEMORY, "out of memory");
    if (w->log_count > FEW_LOGS && !(w->logs = malloc(w->log_count * sizeof *w->logs)))
        return err_set(w->msg, ERR_NO_MEMORY, "out of memory");
    size_t edits = w->rels.count * sizeof *w->rels.steps;
    if (w->rels.count > FEW_EDITS && !(w->rels.steps = malloc(edits)))
        return err_set(w->msg, ERR_NO_MEMORY, "out of memory");
    return ERR_OK;
}

enum err commit_txn(struct commit *c, struct txn *t, uint64_t *dep, struct errmsg *msg)
{
    struct step few[FEW];
    struct log_step few_logs[FEW_LOGS];
    struct rel_step few_edits[FEW_EDITS];
    uint64_t few_rels[FEW_RELS_BYTES / 8];
    struct work w = {.c = c, .t = t, .msg = msg, .steps = few, .logs = few_logs};
    w.rels.steps = few_edits;
    *dep = 0;
    t->seq = 0;
    t->replayed = false;
    enum err e = check_shape(&w);
    if (e)
        return e;
    if ((e = admit_write(c))) {
        count(&c->refused, e == ERR_NO_SPACE);
        return err_set(msg, e, "%s", err_text(e));
    }
    if (t->idempotency.n)
        w.idem = idem_ref(c, t);
    if (!(e = steps_new(&w)) && !(e = order_steps(&w)) && !(e = find_twice(&w)) &&
        !(e = order_log_steps(&w)) && !(e = order_rels(&w, few_rels, sizeof few_rels)) &&
        !(e = lock_and_gather(&w))) {
        e = execute(&w);
        unlock_rels(&w);
        unlock_logs(&w);
        unlock_shards(&w);
        *dep = c->o.relaxed || t->relaxed || VARVE_BUG == 12 ? 0 : w.dep;
        if (e == ERR_CONFLICT)
            count(&c->conflicts, 1);
    }
    buf_release(&w.record);
    buf_release(&w.encoded);
    if (w.steps != few)
        free(w.steps);
    if (w.logs != few_logs)
        free(w.logs);
    if (w.rels.steps != few_edits)
        free(w.rels.steps);
    free(w.rels.memory);
    return e;
}

size_t commit_txn_cold(struct commit *c, const struct txn *t, struct key_ref *refs, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i <= t->count && n < cap; i++) {
        struct key_ref k;
        if (i < t->count && t->ops[i].kind >= TXN_APPEND)
            continue;
        if (i < t->count)
            k = t->ops[i].k;
        else if (t->idempotency.n)
            k = idem_ref(c, t);
        else
            break;
        unsigned shard = keys_shard(k.hash);
        keys_lock(c->keys, shard);
        bool here = keys_complete(c->keys, shard) || keys_find(c->keys, k.hash, k.space, k.key);
        keys_unlock(c->keys, shard);
        if (!here)
            refs[n++] = k;
    }
    return n;
}
