#include "server/offline.h"
#include "base/config.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/os.h"
#include "commit/commit.h"
#include "commit/log.h"
#include "server/offline_int.h"
#include "server/serve.h"
#include "tier/tier.h"
#include <stdio.h>
#include <stdlib.h>

static void on_durable(void *arg, uint64_t seq)
{
}

static void on_fatal(void *arg, const char *what)
{
    fprintf(stderr, "varve: fatal: %s\n", what);
    _Exit(CLI_FAILED);
}

// The config a server started in the same environment would have, but for the directory.
static enum err load_config(struct config **config, const char *dir, struct errmsg *msg)
{
    *config = config_new(&config_server);
    if (!*config)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    enum err e = config_load_env(*config, "VARVE_", msg);
    e = e ? e : config_set(*config, CONFIG_server_data, dir, "--data", msg);
    if (e)
        config_free(*config);
    return e;
}

static void ignore_entry(void *arg, const char *name)
{
}

static enum err must_exist(const char *dir, struct errmsg *msg)
{
    enum err e = os_list(os_real(), dir, ignore_entry, NULL);
    return e ? err_set(msg, e, "data directory %s: %s", dir, os_last_error()) : ERR_OK;
}

static enum err check(const char *dir, void *file, struct errmsg *msg)
{
    struct config *config;
    struct commit_options o;
    struct commit_recovery found = {0};
    enum err e = must_exist(dir, msg);
    e = e ? e : load_config(&config, dir, msg);
    if (e)
        return e;
    serve_commit_options(config, os_real(), &o);
    e = commit_check(&o, &found, msg);
    if (!e)
        fprintf(file,
                "%s: sound\n"
                "  last sequence        %llu\n"
                "  checkpoint at        %llu\n"
                "  log since then       %llu frames, %llu bytes\n"
                "  torn tail            %llu bytes, never acknowledged\n"
                "  closed in order      %s\n",
                dir, (unsigned long long)found.last_seq, (unsigned long long)found.checkpoint_seq,
                (unsigned long long)found.frames, (unsigned long long)found.bytes,
                (unsigned long long)found.torn_bytes, found.clean ? "yes" : "no");
    config_free(config);
    return e;
}

enum err offline_told(enum err e, struct errmsg *msg)
{
    return e && !msg->text[0] ? err_set(msg, e, "%s", err_text(e)) : e;
}

void offline_woken(void *arg, enum err e)
{
    struct data *d = arg;
    pthread_mutex_lock(&d->lock);
    d->is_done = true;
    d->error = e;
    pthread_cond_signal(&d->done);
    pthread_mutex_unlock(&d->lock);
}

enum err offline_wait(struct data *d)
{
    pthread_mutex_lock(&d->lock);
    while (!d->is_done)
        pthread_cond_wait(&d->done, &d->lock);
    pthread_mutex_unlock(&d->lock);
    return d->error;
}

enum err offline_make_ready(struct data *d, const struct txn *t, enum err why)
{
    enum err e;
    d->is_done = false;
    if (why == ERR_FULL)
        e = commit_wait_room(d->commit, offline_woken, d);
    else
        e = commit_txn_fetch(d->commit, t, offline_woken, d);
    return e ? e : offline_wait(d);
}

static void free_data(struct data *d)
{
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->done);
    buf_release(&d->page);
    tier_free(d->tier);
    config_free(d->config);
    free(d);
}

static enum err open_data(void **data, const char *dir, bool create, struct errmsg *msg)
{
    struct commit_options o;
    struct commit_recovery found;
    enum err e = create ? ERR_OK : must_exist(dir, msg);
    if (e)
        return e;
    struct data *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->done, NULL);
    buf_init(&d->page, LIMIT_REL_PAGE * sizeof(uint64_t));
    if ((e = load_config(&d->config, dir, msg))) {
        d->config = NULL;
        free_data(d);
        return e;
    }
    log_set_level(LOG_WARN);
    if ((e = serve_tier(d->config, os_real(), &d->tier, msg))) {
        free_data(d);
        return e;
    }
    serve_commit_options(d->config, os_real(), &o);
    if (d->tier) // read from, never moved to
        o.tier = tier_hook(d->tier);
    // Here the server's limits would only keep what was stored under other limits from coming back.
    o.max_key = LIMIT_KEY_HARD;
    o.max_value = LIMIT_VALUE_HARD - 1;
    o.relaxed = false;
    o.on_durable = on_durable;
    o.on_fatal = on_fatal;
    if ((e = commit_open(&d->commit, &o, &found, msg))) {
        free_data(d);
        return e;
    }
    *data = d;
    return ERR_OK;
}

static enum err close_data(void *data, struct errmsg *msg)
{
    struct data *d = data;
    enum err e = commit_close(d->commit);
    free_data(d);
    return e ? err_set(msg, e, "closing the data directory: %s", err_text(e)) : ERR_OK;
}

struct page {
    varve_list_fn fn;
    void *arg;
    struct buf last; // the last key seen
    size_t count;
    bool stopped;
    enum err e;
};

static bool list_one(void *arg, struct slice key, const struct value_view *v)
{
    struct page *p = arg;
    struct varve_value value = {
        .type = (enum varve_type)v->type,
        .data = v->value.p,
        .size = v->value.n,
        .version = v->version,
        .expires_ms = v->expires_ms,
    };
    buf_clear(&p->last);
    p->count++;
    p->e = buf_append(&p->last, key.p, key.n);
    p->stopped = p->e || !p->fn(p->arg, key.p, key.n, &value);
    return !p->stopped;
}

static enum err list(void *data, struct slice prefix, varve_list_fn fn, void *arg,
                     struct errmsg *msg)
{
    struct data *d = data;
    struct page p = {.fn = fn, .arg = arg, .count = LIMIT_LIST};
    uint64_t dep;
    enum err e = ERR_OK;
    msg->text[0] = 0;
    buf_init(&p.last, LIMIT_KEY_HARD);
    while (!e && p.count == LIMIT_LIST && !p.stopped) {
        // The key seen last is overwritten while the page is read: the page begins after a copy.
        struct buf after;
        buf_init(&after, LIMIT_KEY_HARD);
        if (buf_len(&p.last))
            e = buf_append(&after, buf_head(&p.last), buf_len(&p.last));
        p.count = 0;
        if (!e)
            e = commit_list(d->commit, prefix, buf_slice(&after), LIMIT_LIST, list_one, &p, &dep,
                            msg);
        e = e ? e : p.e;
        buf_release(&after);
    }
    buf_release(&p.last);
    return e && !msg->text[0] ? err_set(msg, e, "%s", err_text(e)) : e;
}

static struct log_name to_name(const struct varve_log *log)
{
    return (struct log_name){slice_of(log->keyspace, log->keyspace_size),
                             slice_of(log->key, log->key_size)};
}

struct names {
    varve_list_fn fn;
    void *arg;
};

static bool list_name(void *arg, struct slice name)
{
    const struct names *n = arg;
    return n->fn(n->arg, name.p, name.n, NULL);
}

static enum err log_list(void *data, struct slice keyspace, struct slice after, size_t limit,
                         varve_list_fn fn, void *arg, struct errmsg *msg)
{
    struct data *d = data;
    struct names n = {fn, arg};
    uint64_t dep;
    msg->text[0] = 0;
    return offline_told(
        commit_log_list(d->commit, keyspace, after, limit, list_name, &n, &dep, msg), msg);
}

static enum err keyspace_get(void *data, struct slice name, struct varve_log_policy *policy,
                             struct errmsg *msg)
{
    struct data *d = data;
    struct keyspace_view view;
    uint64_t dep;
    msg->text[0] = 0;
    enum err e = commit_keyspace_get(d->commit, name, &view, &dep, msg);
    if (!e)
        *policy = (struct varve_log_policy){
            .max_age_ms = view.policy.max_age_ms,
            .max_bytes = view.policy.max_bytes,
            .max_records = view.policy.max_records,
            .server_time = view.policy.server_time,
        };
    return e == ERR_NO_KEYSPACE ? ERR_MISSING : offline_told(e, msg);
}

static enum err keyspace_create(void *data, struct slice name,
                                const struct varve_log_policy *policy, struct errmsg *msg)
{
    struct data *d = data;
    struct log_policy p = {
        .max_age_ms = policy->max_age_ms,
        .max_bytes = policy->max_bytes,
        .max_records = policy->max_records,
        .server_time = policy->server_time,
    };
    uint64_t created, dep;
    msg->text[0] = 0;
    enum err e = commit_keyspace_create(d->commit, name, &p, &created, &dep, msg);
    commit_kick(d->commit);
    return offline_told(e ? e : commit_wait(d->commit, dep), msg);
}

static enum err log_meta(void *data, const struct varve_log *log, struct varve_log_meta *meta,
                         struct errmsg *msg)
{
    struct data *d = data;
    struct log_name name = to_name(log);
    struct log_meta m;
    uint64_t dep;
    msg->text[0] = 0;
    enum err e = commit_log_meta(d->commit, &name, &m, &dep, msg);
    if (!e)
        *meta = (struct varve_log_meta){
            .first_offset = m.first_offset,
            .next_offset = m.end_offset,
            .next_nonce = {.low = (uint64_t)m.next_nonce, .high = (uint64_t)(m.next_nonce >> 64)},
            .last_timestamp = m.last_timestamp,
            .records = m.records,
            .bytes = m.bytes,
        };
    return offline_told(e, msg);
}

static bool give_page(struct log_page *page, cli_record_fn fn, void *arg)
{
    struct record r;
    while (log_page_next(page, &r)) {
        bool has_nonce = r.nonce != NONCE_NONE;
        struct varve_record record = {
            .offset = r.offset,
            .timestamp = r.timestamp,
            .has_timestamp = true,
            .has_nonce = has_nonce,
            .nonce = {.low = has_nonce ? (uint64_t)r.nonce : 0,
                      .high = has_nonce ? (uint64_t)(r.nonce >> 64) : 0},
            .data = r.bytes.p,
            .size = r.bytes.n,
        };
        if (!fn(arg, &record))
            return false;
    }
    return true;
}

static enum err log_read(void *data, const struct varve_log *log, cli_record_fn fn, void *arg,
                         struct errmsg *msg)
{
    struct data *d = data;
    struct log_query q = {
        .name = to_name(log),
        .from = {.direction = LOG_FORWARDS, .start = LOG_START_FIRST},
        .max_records = LIMIT_PAGE_RECORDS,
        .max_bytes = LIMIT_PAGE_BYTES,
        .may_block = true,
    };
    char continuation[LOG_TOKEN];
    bool more = true;
    while (more) {
        struct log_page page = {.records = 0};
        uint64_t dep;
        msg->text[0] = 0;
        enum err e = commit_log_read(d->commit, &q, &page, &dep, msg);
        if (e)
            return offline_told(e, msg);
        more = give_page(&page, fn, arg) && page.more;
        memcpy(continuation, page.continuation, sizeof continuation);
        q.continuation = slice_of(continuation, more ? strlen(continuation) : 0);
        log_page_release(&page);
    }
    return ERR_OK;
}

// The records of an operation, for the commit room. NULL: no memory.
static struct log_append *to_append(const struct varve_op *from)
{
    struct log_append *a = calloc(1, sizeof *a + from->record_count * sizeof *a->records);
    if (!a)
        return NULL;
    struct log_input *records = (struct log_input *)(a + 1);
    for (size_t i = 0; i < from->record_count; i++) {
        const struct varve_record *r = &from->records[i];
        records[i] = (struct log_input){
            .bytes = slice_of(r->data, r->size),
            .nonce = r->has_nonce ? (u128)r->nonce.high << 64 | r->nonce.low : NONCE_NONE,
            .timestamp = r->timestamp,
            .has_timestamp = r->has_timestamp,
        };
    }
    a->name = to_name(from->log);
    a->records = records;
    a->count = from->record_count;
    return a;
}

static enum err to_txn(const struct commit *c, struct txn_op *to, const struct varve_op *from)
{
    struct log_append *append = from->kind == VARVE_OP_APPEND ? to_append(from) : NULL;
    *to = (struct txn_op){
        .append = append,
        .kind = (uint8_t)from->kind,
        .type = (uint8_t)from->type,
        .has_version = from->has_version,
        .k = commit_ref(c, slice_of(from->key, from->key_size)),
        .value = slice_of(from->value, from->value_size),
        .delta = from->delta,
        .version = from->version,
        .ttl_ms = from->ttl_ms,
    };
    return from->kind == VARVE_OP_APPEND && !append ? ERR_NO_MEMORY : ERR_OK;
}

_Static_assert((int)VARVE_OP_CHECK == TXN_CHECK && (int)VARVE_OP_PUT == TXN_PUT &&
                   (int)VARVE_OP_DELETE == TXN_DELETE && (int)VARVE_OP_ADD == TXN_ADD &&
                   (int)VARVE_OP_APPEND == TXN_APPEND,
               "the client library's operations are the commit room's");

static enum err txn(void *data, struct varve_op *ops, size_t count, struct errmsg *msg)
{
    struct data *d = data;
    struct txn t = {.ops = calloc(count, sizeof *t.ops), .count = count};
    uint64_t dep = 0;
    if (!t.ops)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    enum err e = ERR_OK;
    for (size_t i = 0; i < count && !e; i++)
        e = to_txn(d->commit, &t.ops[i], &ops[i]);
    msg->text[0] = 0;
    while (!e) {
        e = commit_txn(d->commit, &t, &dep, msg);
        if (e != ERR_COLD && e != ERR_FULL)
            break;
        e = offline_make_ready(d, &t, e);
    }
    commit_kick(d->commit);
    if (!e)
        e = commit_wait(d->commit, dep);
    for (size_t i = 0; i < count; i++) {
        ops[i].conflict = t.ops[i].conflict;
        ops[i].actual = t.ops[i].actual;
        ops[i].new_version = t.ops[i].new_version;
        ops[i].number = t.ops[i].number;
        if (t.ops[i].append) {
            ops[i].first_offset = t.ops[i].append->first_offset;
            ops[i].appended = t.ops[i].append->appended;
        }
        free(t.ops[i].append);
    }
    free(t.ops);
    return offline_told(e, msg);
}

const struct cli_offline offline = {
    .check = check,
    .open = open_data,
    .list = list,
    .txn = txn,
    .log_list = log_list,
    .keyspace_get = keyspace_get,
    .keyspace_create = keyspace_create,
    .log_meta = log_meta,
    .log_read = log_read,
    .rel_list = offline_rel_list,
    .rel_info = offline_rel_info,
    .rel_create = offline_rel_create,
    .rel_froms = offline_rel_froms,
    .rel_page = offline_rel_page,
    .rel_add = offline_rel_add,
    .close = close_data,
};
