// Keyspaces, the metadata of logs, listings, flush.
#include "commit/log_int.h"
#include "base/assert.h"
#include <stdio.h>
#include <stdlib.h>

const char *quote_name(struct slice name, char text[NAME_TEXT])
{
    size_t at = 0;
    for (size_t i = 0; i < name.n && i < 64; i++) {
        uint8_t ch = name.p[i];
        bool plain = ch >= 32 && ch < 127 && ch != '"' && ch != '\\';
        at += (size_t)snprintf(text + at, NAME_TEXT - at, plain ? "%c" : "\\x%02x", ch);
    }
    if (name.n > 64)
        at += (size_t)snprintf(text + at, NAME_TEXT - at, "...");
    text[at] = 0;
    return text;
}

uint64_t log_dep(const struct commit *c, const struct log *l)
{
    return c->o.relaxed || VARVE_BUG == 28 || l->seq <= wal_durable(c->wal) ? 0 : l->seq;
}

uint64_t log_dep_below(const struct commit *c, const struct log *l, uint64_t end)
{
    return end <= log_settled(l, wal_durable(c->wal)) ? 0 : log_dep(c, l);
}

static enum err check_keyspace_name(struct slice name, struct errmsg *msg)
{
    if (name.n == 0)
        return err_set(msg, ERR_INVALID, "the keyspace has no name");
    if (name.n > LIMIT_KEYSPACE_NAME)
        return err_set(msg, ERR_TOO_BIG, "the keyspace's name has %zu bytes, the limit is %u",
                       name.n, LIMIT_KEYSPACE_NAME);
    return ERR_OK;
}

enum err find_keyspace(struct commit *c, struct slice name, struct keyspace **k, struct errmsg *msg)
{
    char text[NAME_TEXT];
    enum err e = check_keyspace_name(name, msg);
    *k = NULL;
    if (!e && !(*k = logs_keyspace(c->logs, name)))
        e = err_set(msg, ERR_NO_KEYSPACE, "no keyspace \"%s\"", quote_name(name, text));
    return e;
}

enum err check_log_name(const struct commit *c, const struct log_name *name, struct errmsg *msg)
{
    enum err e = check_keyspace_name(name->keyspace, msg);
    if (e)
        return e;
    if (name->key.n == 0)
        return err_set(msg, ERR_INVALID, "the log's key is empty");
    if (name->key.n > c->o.max_key)
        return err_set(msg, ERR_TOO_BIG, "the log's key has %zu bytes, the limit is %u",
                       name->key.n, c->o.max_key);
    return ERR_OK;
}

// ---- keyspaces

uint64_t keyspace_dep(const struct commit *c, const struct keyspace *k)
{
    uint64_t seq = atomic_load(&k->seq);
    return c->o.relaxed || seq <= wal_durable(c->wal) ? 0 : seq;
}

// Logs and publishes a keyspace as it is from now on. keyspace_lock held.
static enum err put_keyspace(struct commit *c, const struct change *ch, uint64_t *dep,
                             struct errmsg *msg)
{
    uint8_t room[512];
    struct buf b = {.data = room, .cap = sizeof room, .max = sizeof room};
    uint64_t seq;
    VERIFY(op_size(ch) <= sizeof room);
    op_append(&b, ch);
    struct keyspace *made = NULL;
    enum err e = admit_write(c);
    // Memory first: what is in the log must come to be.
    if (!e && !logs_keyspace_id(c->logs, ch->keyspace) &&
        !(made = logs_keyspace_new(c->logs, ch->keyspace, ch->key, ch->created_ms, &ch->policy)))
        e = ERR_NO_MEMORY;
    if (!e)
        e = wal_append(c->wal, buf_slice(&b), &seq);
    if (e) {
        free(made);
        return err_set(msg, e, "%s", err_text(e));
    }
    if (made)
        logs_keyspace_publish(c->logs, made, seq);
    else
        VERIFY(logs_keyspace_put(c->logs, ch->keyspace, ch->key, ch->created_ms, &ch->policy, seq));
    *dep = c->o.relaxed ? 0 : seq;
    commit_kick(c);
    return ERR_OK;
}

enum err commit_keyspace_create(struct commit *c, struct slice name, const struct log_policy *p,
                                uint64_t *created_ms, uint64_t *dep, struct errmsg *msg)
{
    char text[NAME_TEXT];
    enum err e = check_keyspace_name(name, msg);
    *dep = 0;
    if (e)
        return e;
    pthread_mutex_lock(&c->keyspace_lock);
    struct keyspace *there = logs_keyspace(c->logs, name);
    if (there) {
        *dep = keyspace_dep(c, there);
        e = err_set(msg, ERR_EXISTS, "keyspace \"%s\" exists", quote_name(name, text));
    } else if (logs_keyspace_count(c->logs) >= LIMIT_KEYSPACES) {
        e = err_set(msg, ERR_TOO_BIG, "there are %u keyspaces, no more are allowed",
                    LIMIT_KEYSPACES);
    } else {
        struct change ch = {.kind = CHANGE_KEYSPACE,
                            .key = name,
                            .keyspace = logs_keyspace_count(c->logs) + 1,
                            .created_ms = os_wall_ms(c->o.os),
                            .policy = *p};
        *created_ms = ch.created_ms;
        e = put_keyspace(c, &ch, dep, msg);
    }
    pthread_mutex_unlock(&c->keyspace_lock);
    return e;
}

enum err commit_keyspace_policy(struct commit *c, struct slice name, const struct log_policy *p,
                                uint64_t *dep, struct errmsg *msg)
{
    struct keyspace *k;
    enum err e = find_keyspace(c, name, &k, msg);
    *dep = 0;
    if (e)
        return e;
    if (k->server_time != p->server_time)
        return err_set(msg, ERR_INVALID, "who gives a keyspace's timestamps cannot be changed");
    struct change ch = {.kind = CHANGE_KEYSPACE,
                        .key = name,
                        .keyspace = k->id,
                        .created_ms = k->created_ms,
                        .policy = *p};
    pthread_mutex_lock(&c->keyspace_lock);
    e = put_keyspace(c, &ch, dep, msg);
    pthread_mutex_unlock(&c->keyspace_lock);
    return e;
}

enum err commit_keyspace_get(struct commit *c, struct slice name, struct keyspace_view *v,
                             uint64_t *dep, struct errmsg *msg)
{
    struct keyspace *k;
    enum err e = find_keyspace(c, name, &k, msg);
    *dep = 0;
    if (e)
        return e;
    *v = (struct keyspace_view){
        .name = keyspace_name(k),
        .created_ms = k->created_ms,
        .policy = keyspace_policy(k),
    };
    *dep = keyspace_dep(c, k);
    return ERR_OK;
}

// ---- listings: all names are in memory, in no order

struct names {
    const struct keyspace *keyspace; // whose keys; NULL: keyspaces
    struct slice after;
    struct slice *v; // the smallest past `after`, sorted; malloc'ed copies
    size_t n, cap;
    bool failed;
};

static void names_offer(struct names *s, struct slice name)
{
    if (s->failed || slice_compare(name, s->after) <= 0 ||
        (s->n == s->cap && slice_compare(name, s->v[s->n - 1]) >= 0))
        return;
    uint8_t *copy = malloc(name.n);
    if (!copy) {
        s->failed = true;
        return;
    }
    memcpy(copy, name.p, name.n);
    size_t low = 0, high = s->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (slice_compare(s->v[mid], name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    if (s->n == s->cap)
        free((void *)s->v[--s->n].p);
    memmove(s->v + low + 1, s->v + low, (s->n - low) * sizeof *s->v);
    s->v[low] = slice_of(copy, name.n);
    s->n++;
}

static void offer_log(void *arg, struct log *l)
{
    struct names *s = arg;
    if (l->keyspace == s->keyspace)
        names_offer(s, log_key(l));
}

enum err commit_log_list(struct commit *c, struct slice keyspace, struct slice after, size_t limit,
                         log_list_fn fn, void *arg, uint64_t *dep, struct errmsg *msg)
{
    struct keyspace *k = NULL;
    struct names s = {.after = after, .cap = limit};
    enum err e = keyspace.n ? find_keyspace(c, keyspace, &k, msg) : ERR_OK;
    *dep = 0;
    if (e)
        return e;
    if (limit == 0 || limit > LIMIT_LIST + 1)
        return err_set(msg, ERR_INVALID, "limit is %zu, not within 1 and %u", limit,
                       LIMIT_LIST + 1);
    if (!(s.v = malloc((limit + 1) * sizeof *s.v)))
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    s.keyspace = k;
    for (uint32_t id = 1; !k && id <= logs_keyspace_count(c->logs); id++)
        names_offer(&s, keyspace_name(logs_keyspace_id(c->logs, id)));
    for (unsigned shard = 0; k && shard < LOGS_SHARDS; shard++) {
        logs_lock(c->logs, shard);
        logs_each(c->logs, shard, offer_log, &s);
        logs_unlock(c->logs, shard);
    }
    bool more = !s.failed;
    for (size_t i = 0; i < s.n; i++) {
        more = more && fn(arg, s.v[i]);
        free((void *)s.v[i].p);
    }
    free(s.v);
    if (!c->o.relaxed)
        *dep = wal_last(c->wal) > wal_durable(c->wal) ? wal_last(c->wal) : 0;
    commit_kick(c);
    return s.failed ? err_set(msg, ERR_NO_MEMORY, "out of memory") : ERR_OK;
}

// ---- metadata and flush

enum err commit_log_meta(struct commit *c, const struct log_name *name, struct log_meta *m,
                         uint64_t *dep, struct errmsg *msg)
{
    struct keyspace *k;
    char text[NAME_TEXT];
    enum err e = check_log_name(c, name, msg);
    *dep = 0;
    if (e || (e = find_keyspace(c, name->keyspace, &k, msg)))
        return e;
    uint64_t hash = logs_hash(c->logs, k->id, name->key);
    logs_lock(c->logs, logs_shard(hash));
    const struct log *l = logs_find(c->logs, hash, k, name->key);
    if (l) {
        *m = (struct log_meta){l->first, l->end, l->next_nonce, l->last_time, l->records, l->bytes};
        *dep = log_dep(c, l);
    } else {
        *dep = keyspace_dep(c, k);
    }
    logs_unlock(c->logs, logs_shard(hash));
    return l ? ERR_OK : err_set(msg, ERR_MISSING, "no log \"%s\"", quote_name(name->key, text));
}

enum err commit_log_flush(struct commit *c, const struct log_name *name, uint64_t *dep,
                          struct errmsg *msg)
{
    struct keyspace *k;
    enum err e;
    *dep = wal_last(c->wal);
    if (name) {
        if ((e = check_log_name(c, name, msg)) || (e = find_keyspace(c, name->keyspace, &k, msg)))
            return e;
        uint64_t hash = logs_hash(c->logs, k->id, name->key);
        logs_lock(c->logs, logs_shard(hash));
        const struct log *l = logs_find(c->logs, hash, k, name->key);
        *dep = l ? l->seq : atomic_load(&k->seq);
        logs_unlock(c->logs, logs_shard(hash));
    }
    commit_kick(c);
    return ERR_OK;
}
