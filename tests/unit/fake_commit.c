#include "fake_commit.h"
#include "base/assert.h"
#include "base/hash.h"
#include "base/limits.h"
#include "fake_log.h"
#include "fake_rel.h"
#include <stdlib.h>

struct entry {
    struct entry *next; // in the order of keys
    bool live;
    bool cold;
    enum value_type type;
    uint64_t version;
    uint64_t expires;
    struct slice key;
    struct slice value;
};
struct result {
    struct result *next;
    struct slice key;
    uint64_t hash;
    uint64_t seq;
    size_t count;
    bool conflict;
    struct {
        uint64_t version;
        uint64_t actual;
        int64_t number;
        bool conflict;
    } ops[];
};
struct todo {
    void (*done)(void *arg, enum err e);
    void (*run)(void *arg);
    void *arg;
};
struct commit {
    struct entry *entries;
    struct result *results;
    uint64_t seq;
    uint64_t floor; // highest version a deleted key had
    enum err fail;
    enum err fetch_result;
    bool defer;
    bool apart; // see fake_commit_apart
    struct todo todo[64];
    size_t todos;
    const char *why;
    struct fake_logs *logs;
    struct fake_rels *rels;
};

struct fake_logs *fake_commit_logs(struct commit *c)
{
    return c->logs;
}

void fake_commit_apart(struct commit *c)
{
    c->apart = true;
}

struct fake_rels *fake_commit_rels(struct commit *c)
{
    return c->rels;
}

uint64_t fake_commit_bump(struct commit *c)
{
    return ++c->seq;
}

static struct slice copy(struct slice s)
{
    uint8_t *p = malloc(s.n + 1);
    VERIFY(p);
    if (s.n)
        memcpy(p, s.p, s.n);
    return slice_of(p, s.n);
}

struct commit *fake_commit_new(void)
{
    struct commit *c = calloc(1, sizeof *c);
    VERIFY(c);
    c->logs = fake_logs_new();
    c->rels = fake_rels_new();
    return c;
}

void fake_commit_free(struct commit *c)
{
    VERIFY(c->todos == 0);
    for (struct entry *e = c->entries, *next; e; e = next) {
        next = e->next;
        free((void *)e->key.p);
        free((void *)e->value.p);
        free(e);
    }
    for (struct result *r = c->results, *next; r; r = next) {
        next = r->next;
        free((void *)r->key.p);
        free(r);
    }
    fake_logs_free(c->logs);
    fake_rels_free(c->rels);
    free(c);
}

// The key's entry, made if `make`.
static struct entry *find(struct commit *c, struct slice key, bool make)
{
    struct entry **at = &c->entries;
    while (*at && slice_compare((*at)->key, key) < 0)
        at = &(*at)->next;
    if (*at && slice_equal((*at)->key, key))
        return *at;
    if (!make)
        return NULL;
    struct entry *e = calloc(1, sizeof *e);
    VERIFY(e);
    e->key = copy(key);
    e->next = *at;
    *at = e;
    return e;
}

static void set(struct commit *c, struct slice key, enum value_type type, struct slice value,
                uint64_t version, uint64_t expires)
{
    struct entry *e = find(c, key, true);
    struct slice fresh = copy(value);
    free((void *)e->value.p);
    e->value = fresh;
    e->type = type;
    e->version = version;
    e->expires = expires;
    e->live = true;
}

void fake_commit_set(struct commit *c, struct slice key, enum value_type type, struct slice value,
                     uint64_t version)
{
    set(c, key, type, value, version, 0);
}

void fake_commit_cold(struct commit *c, const char *key)
{
    find(c, slice_str(key), true)->cold = true;
}

void fake_commit_fail(struct commit *c, enum err e)
{
    c->fail = e;
}

void fake_commit_fetch_result(struct commit *c, enum err e)
{
    c->fetch_result = e;
}

void fake_commit_defer(struct commit *c, bool defer)
{
    c->defer = defer;
}

void fake_commit_readonly(struct commit *c, const char *why)
{
    c->why = why;
}

uint64_t fake_commit_seq(const struct commit *c)
{
    return c->seq;
}

static void later(struct commit *c, struct todo t)
{
    VERIFY(c->todos < sizeof c->todo / sizeof *c->todo);
    c->todo[c->todos++] = t;
    if (!c->defer)
        fake_commit_work(c);
}

void fake_commit_work(struct commit *c)
{
    while (c->todos) {
        struct todo t = c->todo[0];
        memmove(c->todo, c->todo + 1, --c->todos * sizeof t);
        if (t.run)
            t.run(t.arg);
        else
            t.done(t.arg, c->fetch_result);
    }
}

void fake_commit_later(struct commit *c, void (*done)(void *arg, enum err e), void *arg)
{
    later(c, (struct todo){.done = done, .arg = arg});
}

struct key_ref commit_ref(const struct commit *c, struct slice key)
{
    return (struct key_ref){.key = key, .hash = hash64(key, 0)};
}
void commit_prefetch_slot(const struct commit *c, const struct key_ref *k)
{
}
void commit_prefetch_entry(const struct commit *c, const struct key_ref *k)
{
}

static struct value_view view(const struct entry *e)
{
    return (struct value_view){e->value, e->type, e->version, e->expires};
}

static enum err forced(struct commit *c)
{
    enum err e = c->fail;
    if (e != ERR_FULL)
        c->fail = ERR_OK;
    return e;
}

enum err fake_commit_forced(struct commit *c)
{
    return forced(c);
}

enum err commit_get(struct commit *c, const struct key_ref *k, value_fn emit, void *arg,
                    uint64_t *dep)
{
    enum err failed = forced(c);
    if (failed)
        return failed;
    struct entry *e = find(c, k->key, false);
    if (e && e->cold)
        return ERR_COLD;
    *dep = c->seq;
    if (!e || !e->live)
        return ERR_MISSING;
    struct value_view v = view(e);
    emit(arg, &v);
    return ERR_OK;
}

static bool on_key(const struct txn_op *op)
{
    return op->kind <= TXN_ADD;
}

static bool relates(const struct txn_op *op)
{
    return op->kind == TXN_RELATE || op->kind == TXN_UNRELATE;
}

// Of an operation that is not on a key.
static enum err check_other(struct commit *c, struct txn_op *op, struct errmsg *msg)
{
    op->conflict = false;
    if (relates(op))
        return fake_rels_check(c->rels, op->edit, msg);
    if (fake_logs_is_cold(c->logs, op->append))
        return ERR_COLD;
    return fake_logs_check(c->logs, op->append, msg);
}

static enum err check(struct commit *c, struct txn *t, struct errmsg *msg)
{
    bool conflict = false;
    for (size_t i = 0; i < t->count; i++) {
        struct txn_op *op = &t->ops[i];
        if (!on_key(op)) {
            enum err e = check_other(c, op, msg);
            if (e)
                return e;
            continue;
        }
        VERIFY(op->k.hash == hash64(op->k.key, 0));
        for (size_t j = 0; j < i; j++)
            if (op->kind != TXN_CHECK && t->ops[j].kind != TXN_CHECK && on_key(&t->ops[j]) &&
                slice_equal(op->k.key, t->ops[j].k.key))
                return err_set(msg, ERR_INVALID, "the same key twice");
        if (op->k.key.n == 0)
            return err_set(msg, ERR_INVALID, "empty key");
        struct entry *e = find(c, op->k.key, false);
        if (e && e->cold)
            return ERR_COLD;
        op->actual = e && e->live ? e->version : 0;
        op->conflict = (op->has_version || op->kind == TXN_CHECK) && op->actual != op->version;
        conflict |= op->conflict;
    }
    if (conflict)
        return ERR_CONFLICT;
    for (size_t i = 0; i < t->count; i++) {
        struct txn_op *op = &t->ops[i];
        if (op->kind != TXN_ADD)
            continue;
        struct entry *e = find(c, op->k.key, false);
        op->number = 0;
        if (e && e->live && e->type != VALUE_INT)
            return err_set(msg, ERR_TYPE, "the value is not an integer");
        if (e && e->live)
            op->number = (int64_t)load64(e->value.p);
        if (__builtin_add_overflow(op->number, op->delta, &op->number))
            return err_set(msg, ERR_OVERFLOW, "the sum is out of range");
    }
    return ERR_OK;
}

static void apply(struct commit *c, struct txn *t, size_t i)
{
    struct txn_op *op = &t->ops[i];
    if (op->kind == TXN_APPEND) {
        fake_logs_append(c->logs, op->append);
        op->new_version = op->append->first_offset;
        op->actual = op->append->end_offset;
        op->number = (int64_t)op->append->appended;
        return;
    }
    if (relates(op)) {
        fake_rels_apply(c->rels, op->edit, op->kind == TXN_RELATE);
        op->number = (int64_t)op->edit->changed;
        if (c->apart)
            c->seq += op->edit->count - 1;
        return;
    }
    struct entry *e = find(c, op->k.key, false);
    bool live = e && e->live;
    if (op->want_old) {
        struct value_view v = {0};
        if (live)
            v = view(e);
        t->emit_old(t->arg, i, live ? &v : NULL);
    }
    op->new_version = 0;
    if (op->kind == TXN_DELETE) {
        if (live && e->version > c->floor)
            c->floor = e->version;
        if (live)
            e->live = false;
    } else if (op->kind != TXN_CHECK) {
        uint8_t number[8];
        store64(number, (uint64_t)op->number);
        op->new_version = (live ? e->version : c->floor) + 1;
        set(c, op->k.key, op->kind == TXN_ADD ? VALUE_INT : op->type,
            op->kind == TXN_ADD ? slice_of(number, 8) : op->value, op->new_version, op->ttl_ms);
    }
}

static enum err replay(struct commit *c, struct txn *t, bool *found)
{
    for (struct result *r = c->results; r; r = r->next) {
        if (!slice_equal(r->key, t->idempotency))
            continue;
        *found = true;
        if (r->hash != t->request_hash || r->count != t->count)
            return ERR_REUSED;
        for (size_t i = 0; i < t->count; i++) {
            t->ops[i].new_version = r->ops[i].version;
            t->ops[i].actual = r->ops[i].actual;
            t->ops[i].number = r->ops[i].number;
            t->ops[i].conflict = r->ops[i].conflict;
            if (t->ops[i].kind == TXN_APPEND)
                fake_logs_replay(c->logs, t->ops[i].append, r->ops[i].version, r->ops[i].actual,
                                 (uint64_t)r->ops[i].number);
            if (relates(&t->ops[i]))
                t->ops[i].edit->changed = (uint64_t)r->ops[i].number;
        }
        t->seq = r->seq;
        t->replayed = true;
        return r->conflict ? ERR_CONFLICT : ERR_OK;
    }
    return ERR_OK;
}

static void remember(struct commit *c, const struct txn *t, bool conflict)
{
    struct result *r = calloc(1, sizeof *r + t->count * sizeof r->ops[0]);
    VERIFY(r);
    r->key = copy(t->idempotency);
    r->hash = t->request_hash;
    r->seq = t->seq;
    r->count = t->count;
    for (size_t i = 0; i < t->count; i++) {
        r->ops[i].version = t->ops[i].new_version;
        r->ops[i].actual = t->ops[i].actual;
        r->ops[i].number = t->ops[i].number;
        r->ops[i].conflict = t->ops[i].conflict;
    }
    r->conflict = conflict;
    r->next = c->results;
    c->results = r;
}

enum err commit_txn(struct commit *c, struct txn *t, uint64_t *dep, struct errmsg *msg)
{
    enum err e = forced(c);
    if (e)
        return e;
    *dep = c->seq;
    t->seq = 0;
    t->replayed = false;
    bool found = false;
    if (t->idempotency.n)
        e = replay(c, t, &found);
    if (e || found)
        return e;
    e = check(c, t, msg);
    if (e == ERR_COLD && ++t->rounds > 100)
        e = err_set(msg, ERR_TOO_BIG, "too many rounds");
    if (e == ERR_CONFLICT && t->idempotency.n) { // a result too
        *dep = t->seq = ++c->seq;
        remember(c, t, true);
    }
    if (e)
        return e;
    for (size_t i = 0; i < t->count; i++) {
        if (t->ops[i].kind != TXN_CHECK && !t->seq)
            t->seq = ++c->seq;
        apply(c, t, i);
    }
    bool relaxed = t->relaxed;
    for (size_t i = 0; i < t->count; i++)
        relaxed |= relates(&t->ops[i]) && fake_rels_relaxed(c->rels, t->ops[i].edit->relation);
    *dep = relaxed ? 0 : c->seq;
    if (t->idempotency.n)
        remember(c, t, false);
    return ERR_OK;
}

enum err commit_fetch(struct commit *c, const struct key_ref *keys, size_t count,
                      void (*done)(void *arg, enum err e), void *arg)
{
    VERIFY(count > 0);
    for (size_t i = 0; i < count; i++) {
        struct entry *e = find(c, keys[i].key, false);
        if (e)
            e->cold = false;
    }
    later(c, (struct todo){.done = done, .arg = arg});
    return ERR_OK;
}

enum err commit_wait_room(struct commit *c, void (*done)(void *arg, enum err e), void *arg)
{
    c->fail = ERR_OK;
    later(c, (struct todo){.done = done, .arg = arg});
    return ERR_OK;
}

size_t commit_txn_cold(struct commit *c, const struct txn *t, struct key_ref *refs, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < t->count; i++) {
        struct entry *e = find(c, t->ops[i].k.key, false);
        if (e && e->cold && n < cap)
            refs[n++] = t->ops[i].k;
    }
    return n;
}

enum err commit_txn_fetch(struct commit *c, const struct txn *t,
                          void (*done)(void *arg, enum err e), void *arg)
{
    fake_logs_warm(c->logs);
    fake_rels_warm(c->rels);
    for (size_t i = 0; i < t->count; i++) {
        struct entry *e = find(c, t->ops[i].k.key, false);
        if (e)
            e->cold = false;
    }
    later(c, (struct todo){.done = done, .arg = arg});
    return ERR_OK;
}

enum err commit_background(struct commit *c, void (*fn)(void *arg), void *arg)
{
    enum err e = forced(c);
    if (e)
        return e;
    later(c, (struct todo){.run = fn, .arg = arg});
    return ERR_OK;
}

enum err commit_list(struct commit *c, struct slice prefix, struct slice after, size_t limit,
                     list_fn fn, void *arg, uint64_t *dep, struct errmsg *msg)
{
    *dep = c->seq;
    for (struct entry *e = c->entries; e && limit; e = e->next) {
        struct value_view v = view(e);
        if (!e->live || !slice_starts(e->key, prefix) || slice_compare(e->key, after) <= 0)
            continue;
        limit--;
        if (!fn(arg, e->key, &v))
            break;
    }
    return c->fetch_result ? err_set(msg, c->fetch_result, "reading failed") : ERR_OK;
}

bool commit_writable(const struct commit *c, const char **why)
{
    *why = c->why;
    return !c->why;
}

void commit_kick_alone(struct commit *c)
{
    commit_kick(c);
}

void commit_kick(struct commit *c)
{
}

uint64_t commit_durable(const struct commit *c)
{
    return c->seq;
}

enum err commit_metrics(struct commit *c, struct buf *out)
{
    return buf_printf(out, "varve_fake 1\n");
}
