#include "server/offline.h"
#include "base/config.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/os.h"
#include "commit/commit.h"
#include "server/serve.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

// A data directory opened by this process alone.
struct data {
    struct config *config;
    struct commit *commit;
    // A call that waits for the commit room's threads.
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool is_done;
    enum err error;
};

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
    *config = config_new();
    if (!*config)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    enum err e = config_load_env(*config, msg);
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

static void free_data(struct data *d)
{
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->done);
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
    if ((e = load_config(&d->config, dir, msg))) {
        d->config = NULL;
        free_data(d);
        return e;
    }
    log_set_level(LOG_WARN);
    serve_commit_options(d->config, os_real(), &o);
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

static void woken(void *arg, enum err e)
{
    struct data *d = arg;
    pthread_mutex_lock(&d->lock);
    d->is_done = true;
    d->error = e;
    pthread_cond_signal(&d->done);
    pthread_mutex_unlock(&d->lock);
}

static enum err wait_woken(struct data *d)
{
    pthread_mutex_lock(&d->lock);
    while (!d->is_done)
        pthread_cond_wait(&d->done, &d->lock);
    pthread_mutex_unlock(&d->lock);
    return d->error;
}

// Does what commit_txn asked for before it can be tried again.
static enum err make_ready(struct data *d, const struct txn *t, enum err why)
{
    enum err e;
    d->is_done = false;
    if (why == ERR_FULL)
        e = commit_wait_room(d->commit, woken, d);
    else
        e = commit_txn_fetch(d->commit, t, woken, d);
    return e ? e : wait_woken(d);
}

static void to_txn(const struct commit *c, struct txn_op *to, const struct varve_op *from)
{
    *to = (struct txn_op){
        .kind = (uint8_t)from->kind,
        .type = (uint8_t)from->type,
        .has_version = from->has_version,
        .k = commit_ref(c, slice_of(from->key, from->key_size)),
        .value = slice_of(from->value, from->value_size),
        .delta = from->delta,
        .version = from->version,
        .ttl_ms = from->ttl_ms,
    };
}

_Static_assert((int)VARVE_OP_CHECK == TXN_CHECK && (int)VARVE_OP_PUT == TXN_PUT &&
                   (int)VARVE_OP_DELETE == TXN_DELETE && (int)VARVE_OP_ADD == TXN_ADD,
               "the client library's operations are the commit room's");

static enum err txn(void *data, struct varve_op *ops, size_t count, struct errmsg *msg)
{
    struct data *d = data;
    struct txn t = {.ops = calloc(count, sizeof *t.ops), .count = count};
    uint64_t dep = 0;
    if (!t.ops)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < count; i++)
        to_txn(d->commit, &t.ops[i], &ops[i]);
    enum err e;
    msg->text[0] = 0;
    while ((e = commit_txn(d->commit, &t, &dep, msg)) == ERR_COLD || e == ERR_FULL) {
        if ((e = make_ready(d, &t, e)))
            break;
    }
    commit_kick(d->commit);
    if (!e)
        e = commit_wait(d->commit, dep);
    for (size_t i = 0; i < count; i++) {
        ops[i].conflict = t.ops[i].conflict;
        ops[i].actual = t.ops[i].actual;
        ops[i].new_version = t.ops[i].new_version;
        ops[i].number = t.ops[i].number;
    }
    free(t.ops);
    return e && !msg->text[0] ? err_set(msg, e, "%s", err_text(e)) : e;
}

const struct cli_offline offline = {
    .check = check,
    .open = open_data,
    .list = list,
    .txn = txn,
    .close = close_data,
};
