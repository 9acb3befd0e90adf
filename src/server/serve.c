// Starting and stopping, in order:
//
//   config (defaults, file, environment, flags) -> the tier's store of objects, if one is set ->
//   data directory and recovery -> loops and listeners -> the tier's mover -> "listening ..." and
//   "ready" on standard output -> a signal -> stop accepting, drain, close the loops -> the mover
//   ends -> checkpoint, orderly close of the log -> exit 0
//
// Threads: this one waits for signals; the loops (net/), the log's flusher and its preallocator
// (wal/), the housekeeper and the readers (commit/), the mover (tier/), RocksDB's and the store of
// objects' own. Standard output has the lines a script waits for; everything else goes to the log
// on standard error.
#include "server/serve.h"
#include "archive/settings.h"
#include "object/settings.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/os.h"
#include "base/os_net.h"
#include "commit/commit.h"
#include "edge/binary/binary.h"
#include "edge/http/http.h"
#include "edge/zmq/zmq.h"
#include "net/net.h"
#include "store/store.h"
#include "tier/tier.h"
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { EXIT_USAGE = 2, EXIT_BROKEN = 3 };
enum { DRAIN_MS = 5000 };
// Who waits for the tier's objects may keep one of few readers, or the end of the process, waiting.
enum { TIER_RETRY_MS = 10000 };

struct server {
    struct os *os;
    struct config *config;
    struct commit *commit;
    struct tier *tier; // NULL: none
    struct net *net;
    struct http *http;
    struct binary *binary;
    _Atomic(struct zmq_edge *) zmq; // NULL: off, or not there yet
    uint64_t started_ns;
};

static void on_durable(void *arg, uint64_t seq)
{
    struct server *s = arg;
    struct zmq_edge *zmq = atomic_load(&s->zmq);
    net_durable(s->net, seq);
    if (zmq)
        zmq_edge_durable(zmq);
}

// The log cannot be trusted any more: nothing that waits may be answered. Restart recovers what is
// on disk.
static void on_fatal(void *arg, const char *what)
{
    (void)arg;
    fprintf(stderr, "varve: fatal: %s\n", what);
    _Exit(EXIT_BROKEN);
}

static void after_batch(void *arg, bool alone)
{
    const struct server *s = arg;
    if (alone)
        commit_kick_alone(s->commit);
    else
        commit_kick(s->commit);
}

// The numbers of the process and its connections; X(name, type, help, value).
#define METRICS(X)                                                                     \
    X(varve_connections, gauge, "open client connections", n.connections)              \
    X(varve_connections_accepted_total, counter, "ever", n.accepted)                   \
    X(varve_connections_refused_total, counter, "over the limit", n.refused)           \
    X(varve_connections_slow_total, counter, "closed for not reading", n.slow_closed)  \
    X(varve_bytes_in_total, counter, "received from clients", n.bytes_in)              \
    X(varve_bytes_out_total, counter, "sent to clients", n.bytes_out)                  \
    X(varve_connection_buffer_bytes, gauge, "memory of their buffers", n.buffer_bytes) \
    X(process_cpu_microseconds_total, counter, "user and system", u.cpu_us)            \
    X(process_resident_memory_bytes, gauge, "resident set", u.rss_bytes)               \
    X(process_open_fds, gauge, "open descriptors", u.open_fds)                         \
    X(varve_uptime_seconds, gauge, "since start", (os_mono_ns(s->os) - s->started_ns) / 1000000000u)

static enum err all_metrics(void *arg, struct buf *out)
{
    struct server *s = arg;
    struct zmq_edge *zmq = atomic_load(&s->zmq);
    struct net_stats n;
    struct os_usage u;
    enum err e = commit_metrics(s->commit, out);
    net_get_stats(s->net, &n);
    os_usage(&u);
#define X(name, type, help, value) \
    if (!e)                        \
        e = buf_metric(out, #name, #type, help, (uint64_t)(value));
    METRICS(X)
#undef X
    if (!e && zmq)
        e = zmq_edge_metrics(zmq, out);
    if (!e && s->tier)
        e = tier_metrics(s->tier, out);
    return e;
}

void serve_commit_options(const struct config *c, struct os *os, struct commit_options *o)
{
    uint64_t memory = config_number(c, CONFIG_storage_memory_limit);
    *o = (struct commit_options){
        .os = os,
        .dir = config_text(c, CONFIG_server_data),
        .store_open = store_open_rocks,
        .segment_size = config_number(c, CONFIG_storage_max_block_size),
        .max_segments = config_number(c, CONFIG_storage_max_blocks),
        .batch_time_us = config_number(c, CONFIG_storage_batch_time),
        .max_batch_size = config_number(c, CONFIG_storage_max_batch_size),
        .memory_limit = memory ? memory : os_memory() / 2,
        .checkpoint_interval_us = config_number(c, CONFIG_storage_checkpoint_interval),
        .max_key = (uint32_t)config_number(c, CONFIG_limits_key),
        .max_value = (uint32_t)config_number(c, CONFIG_limits_value),
        .read_threads = (unsigned)config_number(c, CONFIG_storage_read_threads),
        .relaxed = config_is(c, CONFIG_storage_durability, "relaxed"),
        .threads = true,
    };
}

enum err serve_tier(const struct config *c, struct os *os, struct tier **t, struct errmsg *msg)
{
    const char *dir = config_text(c, CONFIG_tier_dir);
    const char *bucket = config_text(c, CONFIG_s3_bucket_name);
    *t = NULL;
    if (!*dir && !*bucket)
        return ERR_OK;
    if (*dir && *bucket)
        return err_set(msg, ERR_INVALID,
                       "tier.dir and s3.bucket_name are both set; logs can be "
                       "moved to one of them only");
    const struct tier_options o = {
        .os = os,
        .objects = {.os = os,
                    .kind = *dir ? OBJECT_DIRECTORY : OBJECT_S3,
                    .prefix = config_text(c, CONFIG_s3_object_prefix),
                    .dir = dir,
                    .retry_ms = TIER_RETRY_MS,
                    .s3 = object_s3_settings(c)},
        .archive = archive_settings(c),
        .min_bytes = config_number(c, CONFIG_tier_min_bytes),
        .max_age_ms = config_number(c, CONFIG_tier_max_age) / 1000,
        .interval_ms = config_number(c, CONFIG_tier_interval) / 1000,
        .read_threads = (unsigned)config_number(c, CONFIG_storage_read_threads),
        .local_bytes = config_number(c, CONFIG_tier_local_bytes),
        .local_age_ms = config_number(c, CONFIG_tier_local_age) / 1000,
    };
    struct errmsg why;
    enum err e = tier_new(t, &o, &why);
    return e ? err_set(msg, e, "tier: %s", why.text) : ERR_OK;
}

static enum err open_store(struct server *s, struct errmsg *msg)
{
    struct commit_options o;
    struct commit_recovery r;
    enum err tiered = serve_tier(s->config, s->os, &s->tier, msg);
    if (tiered)
        return tiered;
    serve_commit_options(s->config, s->os, &o);
    if (s->tier)
        o.tier = tier_hook(s->tier);
    o.on_durable = on_durable;
    o.on_fatal = on_fatal;
    o.arg = s;
    enum err e = commit_open(&s->commit, &o, &r, msg);
    if (!e)
        net_durable(s->net, commit_durable(s->commit)); // what was recovered is
    if (!e)
        log_event(LOG_INFO, "recovered",
                  "dir=%s created=%d checkpoint=%" PRIu64 " frames=%" PRIu64 " bytes=%" PRIu64
                  " sequence=%" PRIu64 " torn_bytes=%" PRIu64 " clean=%d replay_ms=%" PRIu64
                  " total_ms=%" PRIu64,
                  log_quote(o.dir), r.created, r.checkpoint_seq, r.frames, r.bytes, r.last_seq,
                  r.torn_bytes, r.clean, r.replay_ns / 1000000, r.total_ns / 1000000);
    return e;
}

// Whether an address may be listened on that others can reach.
static enum err check_open(struct server *s, const char *addr, bool local, struct errmsg *msg)
{
    if (local || config_is(s->config, CONFIG_server_insecure_listen, "on"))
        return ERR_OK;
    return err_set(msg, ERR_INVALID,
                   "refusing to listen on %s: there is no authentication yet, so anybody who "
                   "reaches it could read and write everything; use a loopback address, or "
                   "--insecure-listen on if the network is yours alone",
                   addr);
}

static enum err listen_on(struct server *s, enum config_id id, const char *name,
                          const struct protocol *p, struct errmsg *msg)
{
    const char *addr = config_text(s->config, id);
    char bound[64];
    if (!strcmp(addr, "off"))
        return ERR_OK;
    enum err e = check_open(s, addr, os_is_loopback(addr), msg);
    if (!e)
        e = net_listen(s->net, p, addr, bound, sizeof bound, msg);
    if (!e)
        printf("listening %s %s\n", name, bound);
    return e;
}

// Binds every endpoint of a list with commas.
static enum err listen_zmq(struct server *s, struct zmq_edge *z, struct errmsg *msg)
{
    const char *at = config_text(s->config, CONFIG_server_zmq);
    enum err e = ERR_OK;
    while (!e && *at) {
        char endpoint[LIMIT_PATH], bound[LIMIT_PATH];
        size_t n = strcspn(at, ",");
        snprintf(endpoint, sizeof endpoint, "%.*s", (int)n, at);
        at += n + (at[n] == ',');
        e = check_open(s, endpoint, zmq_edge_is_local(endpoint), msg);
        if (!e)
            e = zmq_edge_listen(z, endpoint, bound, sizeof bound, msg);
        if (!e) // the endpoint is libzmq's to read: what it made of it counts
            e = check_open(s, bound, zmq_edge_is_local(bound), msg);
        if (!e)
            printf("listening zmq %s\n", bound);
    }
    return e;
}

static enum err open_zmq(struct server *s, struct errmsg *msg)
{
    const struct config *c = s->config;
    struct zmq_options o = {
        .os = s->os,
        .commit = s->commit,
        .max_request = config_number(c, CONFIG_limits_request),
        .max_reply = config_number(c, CONFIG_zmq_max_reply),
        .event_window_us = config_number(c, CONFIG_zmq_event_window),
        .failure_window_us = config_number(c, CONFIG_zmq_failure_window),
        .other_ttl_ms = config_number(c, CONFIG_zmq_other_ttl) / 1000,
        .event_max_age_ms = config_number(c, CONFIG_zmq_event_max_age) / 1000,
        .event_max_bytes = config_number(c, CONFIG_zmq_event_max_bytes),
    };
    struct zmq_edge *z;
    if (!strcmp(config_text(c, CONFIG_server_zmq), "off"))
        return ERR_OK;
    enum err e = zmq_edge_new(&z, &o, msg);
    if (e)
        return e;
    atomic_store(&s->zmq, z);
    e = listen_zmq(s, z, msg);
    return e ? e : zmq_edge_start(z, msg);
}

// The loops come before the store: its flusher reports to them.
static enum err open_net(struct server *s, struct errmsg *msg)
{
    const struct config *c = s->config;
    uint64_t fds, connections = config_number(c, CONFIG_server_max_connections);
    os_raise_fd_limit(connections + 1024, &fds);
    if (fds < connections + 64)
        log_event(LOG_WARN, "few-descriptors", "limit=%" PRIu64 " max_connections=%" PRIu64, fds,
                  connections);
    struct net_options no = {
        .os = s->os,
        .loops = (unsigned)config_number(c, CONFIG_server_threads),
        .max_connections = connections,
        .after_batch = after_batch,
        .arg = s,
    };
    if (!no.loops)
        no.loops = os_cpus();
    enum err e = net_new(&s->net, &no);
    return e ? err_set(msg, e, "cannot start: %s: %s", err_text(e), os_last_error()) : ERR_OK;
}

static enum err open_edges(struct server *s, struct errmsg *msg)
{
    const struct config *c = s->config;
    struct http_options ho = {
        .commit = s->commit,
        .max_key = (uint32_t)config_number(c, CONFIG_limits_key),
        .max_value = (uint32_t)config_number(c, CONFIG_limits_value),
        .max_request = config_number(c, CONFIG_limits_request),
        .metrics = all_metrics,
        .arg = s,
    };
    struct binary_options bo = {
        .commit = s->commit,
        .max_key = ho.max_key,
        .max_value = ho.max_value,
        .max_request = (uint32_t)ho.max_request,
        .stat = all_metrics,
        .stat_arg = s,
    };
    enum err e;
    if ((e = http_new(&s->http, &ho)) || (e = binary_new(&s->binary, &bo)))
        return err_set(msg, e, "cannot start: %s: %s", err_text(e), os_last_error());
    if ((e = listen_on(s, CONFIG_server_http, "http", http_protocol(s->http), msg)) ||
        (e = listen_on(s, CONFIG_server_binary, "binary", binary_protocol(s->binary), msg)) ||
        (e = open_zmq(s, msg)))
        return e;
    e = net_start(s->net);
    return e ? err_set(msg, e, "cannot start threads: %s", os_last_error()) : ERR_OK;
}

// Frees what there is; 0 if everything acknowledged is on disk in order.
static int shut(struct server *s)
{
    int status = 0;
    struct zmq_edge *zmq = atomic_load(&s->zmq);
    if (s->net)
        net_stop(s->net, DRAIN_MS);
    if (zmq)
        zmq_edge_stop(zmq, DRAIN_MS);
    if (s->tier)
        tier_stop(s->tier); // reads the commit room, as that may read it
    if (s->commit) {
        enum err e = commit_close(s->commit);
        if (e) {
            log_event(LOG_ERROR, "close-failed", "error=%s", log_quote(err_text(e)));
            status = EXIT_BROKEN;
        }
    }
    if (s->net)
        net_free(s->net); // closes what connections are left, which still asks their protocols
    if (s->http)
        http_free(s->http);
    if (s->binary)
        binary_free(s->binary);
    if (zmq)
        zmq_edge_free(zmq); // the commit room's threads are gone
    tier_free(s->tier);
    return status;
}

static void wait_for_signal(const sigset_t *signals)
{
    int sig = 0;
    do
        sigwait(signals, &sig);
    while (sig == SIGHUP); // nothing to reload yet
    log_event(LOG_INFO, "stopping", "signal=%d", sig);
}

static int run(struct config *config)
{
    struct server s = {.os = os_real(), .config = config};
    struct errmsg msg = {0};
    sigset_t signals;
    s.started_ns = os_mono_ns(s.os);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); // every thread made from here on
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    for (int i = 0; i < 4; i++)
        if (config_is(config, CONFIG_server_log_level, levels[i]))
            log_set_level((enum log_level)i);
    if (open_net(&s, &msg) || open_store(&s, &msg) || open_edges(&s, &msg)) {
        fprintf(stderr, "varve: %s\n", msg.text);
        shut(&s);
        return EXIT_BROKEN;
    }
    if (s.tier && tier_start(s.tier, s.commit)) {
        fprintf(stderr, "varve: cannot start threads: %s\n", os_last_error());
        shut(&s);
        return EXIT_BROKEN;
    }
    printf("ready\n");
    fflush(stdout);
    wait_for_signal(&signals);
    int status = shut(&s);
    log_event(LOG_INFO, "stopped", "status=%d", status);
    return status;
}

// Takes one flag at argv[*i] and its value (--flag VALUE or --flag=VALUE); *i ends on the last word
// taken.
static enum err read_flag(int argc, char **argv, int *i, char *flag, size_t cap, const char **value,
                          struct errmsg *msg)
{
    const char *word = argv[*i];
    const char *equals = strchr(word, '=');
    size_t n = equals ? (size_t)(equals - word) : strlen(word);
    if (strncmp(word, "--", 2) || n - 2 >= cap)
        return err_set(msg, ERR_INVALID, "%s is not a flag; varve serve --help lists them", word);
    snprintf(flag, cap, "%.*s", (int)(n - 2), word + 2);
    *value = equals ? equals + 1 : NULL;
    if (!*value && *i + 1 >= argc)
        return err_set(msg, ERR_INVALID, "%s needs a value", word);
    if (!*value)
        *value = argv[++*i];
    return ERR_OK;
}

// The file is read first wherever --config stands, then the environment, then the other flags.
static enum err load_config(struct config *c, int argc, char **argv, struct errmsg *msg)
{
    enum err e;
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1 && (e = config_load_env(c, "VARVE_", msg)))
            return e;
        for (int i = 1; i < argc; i++) {
            enum config_id id;
            char flag[64], where[80];
            const char *value;
            if ((e = read_flag(argc, argv, &i, flag, sizeof flag, &value, msg)))
                return e;
            bool is_config = !strcmp(flag, "config");
            snprintf(where, sizeof where, "--%s", flag);
            if (!is_config && !config_find_flag(flag, &id))
                return err_set(msg, ERR_INVALID, "unknown flag %s; varve serve --help lists them",
                               where);
            if (pass == 0 && is_config)
                e = config_load_file(c, value, msg);
            else if (pass == 1 && !is_config)
                e = config_set(c, id, value, where, msg);
            if (e)
                return e;
        }
    }
    return ERR_OK;
}

static int help(void)
{
    printf(
        "usage: varve serve [--config FILE] [--KEY VALUE ...]\n\n"
        "Starts the server. Every key below is a line of the config file ([section] key = value),\n"
        "a flag (--key for [server], --section-key for the others, _ written as -) and an\n"
        "environment variable (VARVE_SECTION_KEY). Flags win over the environment, the "
        "environment\n"
        "over the file. The addresses really bound are printed on standard output, then "
        "\"ready\".\n"
        "SIGTERM and SIGINT stop it in order.\n\n");
    return config_help(stdout) ? EXIT_BROKEN : 0;
}

int serve_main(int argc, char **argv)
{
    struct errmsg msg = {0};
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return help();
    struct config *config = config_new(&config_server);
    if (!config)
        return EXIT_BROKEN;
    int status = EXIT_USAGE;
    if (load_config(config, argc, argv, &msg))
        fprintf(stderr, "varve: %s\n", msg.text);
    else
        status = run(config);
    config_free(config);
    return status;
}
