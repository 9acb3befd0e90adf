// `varve bench`: presets, options, loading, the report.
#include "cli/bench.h"
#include "base/limits.h"
#include "base/os.h"
#include "cli/command.h"
#include "cli/progress.h"
#include "op/record.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    MAX_CONNECTIONS = 60000,
    MAX_THREADS = 64,
    MAX_PIPELINE = 100000,
    MAX_ITEMS = 10000,
    MAX_REDIS_IDS = 1000000000, // cli/bench_rel.c adds as many
    LOAD_MEMBERS = 10000,       // of a list that is loaded, in a request
};

static const char *const default_servers[BENCH_PROTOCOLS] = {
    [BENCH_BINARY] = "127.0.0.1:3000", [BENCH_HTTP] = "127.0.0.1:8080",
    [BENCH_RESP] = "127.0.0.1:6379",   [BENCH_ETCD] = "127.0.0.1:2379",
    [BENCH_ECHO] = "127.0.0.1:7000",   [BENCH_ECHO_HTTP] = "127.0.0.1:7000",
};

// One run of a preset. Zeros leave the general default.
struct preset {
    const char *name;
    const char *help;
    struct bench_spec spec;
    bool load; // the key space is written first
};

// The concave runs are those of seed benchmarks: 512 clients, UUIDs as keys and values.
static const struct preset presets[] = {
    {"binary-get",
     "binary GET of loaded keys",
     {.protocol = BENCH_BINARY, .op = BENCH_GET, .connections = 50, .pipeline = 100},
     true},
    {"binary-set",
     "binary SET of random keys",
     {.protocol = BENCH_BINARY, .op = BENCH_SET, .connections = 50, .pipeline = 100},
     false},
    {"http-get",
     "HTTP GET of loaded keys",
     {.protocol = BENCH_HTTP, .op = BENCH_GET, .connections = 50, .pipeline = 1},
     true},
    {"durable-put-1",
     "one client, one new object at a time over HTTP",
     {.protocol = BENCH_HTTP, .op = BENCH_PUT, .connections = 1, .value_size = BENCH_UUID},
     false},
    {"concave-get-missing",
     "512 clients, each 1000 gets of keys that do not exist",
     {.protocol = BENCH_HTTP,
      .op = BENCH_GET,
      .connections = 512,
      .requests = 1000,
      .missing = true},
     false},
    {"concave-put-1",
     "512 clients, each 500 puts of one new object",
     {.protocol = BENCH_HTTP,
      .op = BENCH_PUT,
      .connections = 512,
      .requests = 500,
      .value_size = BENCH_UUID},
     false},
    {"concave-put-500",
     "512 clients, each 5 puts of 500 new objects",
     {.protocol = BENCH_HTTP,
      .op = BENCH_PUT,
      .connections = 512,
      .requests = 5,
      .items = 500,
      .value_size = BENCH_UUID},
     false},
    {"concave-increment",
     "512 clients, each 1000 times get a number and put it back plus 1",
     {.protocol = BENCH_HTTP, .op = BENCH_INCREMENT, .connections = 512, .requests = 1000},
     false},
    {"log-append",
     "binary appends of 100 records to one log",
     {.protocol = BENCH_BINARY,
      .op = BENCH_APPEND,
      .connections = 4,
      .pipeline = 16,
      .items = 100,
      .value_size = 100},
     false},
    {"log-read",
     "binary pages of 1000 records, from the first to the last of a loaded log",
     {.protocol = BENCH_BINARY,
      .op = BENCH_READ,
      .connections = 2,
      .pipeline = 4,
      .items = 1000,
      .keys = 1000000,
      .value_size = 100},
     true},
    {"log-tail",
     "the same in one stream",
     {.protocol = BENCH_BINARY,
      .op = BENCH_TAIL,
      .connections = 2,
      .keys = 1000000,
      .value_size = 100},
     true},
    {"log-seek",
     "one record at a random offset, timestamp or nonce (--start) of a loaded log",
     {.protocol = BENCH_BINARY,
      .op = BENCH_SEEK,
      .connections = 1,
      .keys = 1000000,
      .value_size = 100},
     true},
    {"rel-load",
     "binary additions to a relation: lists of random members, each list once",
     {.protocol = BENCH_BINARY,
      .op = BENCH_RELATE,
      .connections = 4,
      .pipeline = 100,
      .members = 100,
      .sequential = true},
     false},
    {"rel-get",
     "binary reads of random lists",
     {.protocol = BENCH_BINARY,
      .op = BENCH_MEMBERS,
      .connections = 10,
      .pipeline = 100,
      .members = 100},
     true},
    {"rel-add",
     "binary additions of one random member to a random list",
     {.protocol = BENCH_BINARY, .op = BENCH_RELATE, .connections = 10, .pipeline = 1000},
     false},
    {"rel-intersect",
     "binary intersections of two lists of a million members below ten million",
     {.protocol = BENCH_BINARY,
      .op = BENCH_INTERSECT,
      .connections = 1,
      .keys = 2,
      .members = 1000000},
     true},
    // kv-run is these three, one after another.
    {"kv-run",
     "binary SET, GET and DELETE of random keys",
     {.protocol = BENCH_BINARY, .op = BENCH_SET, .connections = 50, .pipeline = 100},
     true},
    {"kv-run",
     NULL,
     {.protocol = BENCH_BINARY, .op = BENCH_GET, .connections = 50, .pipeline = 100},
     false},
    {"kv-run",
     NULL,
     {.protocol = BENCH_BINARY, .op = BENCH_DELETE, .connections = 50, .pipeline = 100},
     false},
};
enum { PRESETS = sizeof presets / sizeof *presets };

struct options {
    const char *server, *preset, *protocol, *op, *start;
    uint64_t threads, connections, pipeline, items, requests, duration_ms, warmup_ms, keys,
        value_size, logs, members, ids, server_pid, seed;
    bool missing, shared_key, load, no_load, json;
};

// `unset` marks numbers that no option gave.
#define UNSET UINT64_MAX

static void pick(uint64_t *to, uint64_t option, uint64_t fallback)
{
    if (option != UNSET)
        *to = option;
    else if (*to == 0)
        *to = fallback;
}

static bool find_name(const char *const *names, int count, const char *name, int *at)
{
    for (*at = 0; *at < count; ++*at)
        if (!strcmp(names[*at], name))
            return true;
    return false;
}

// Of runs on logs.
static const char *wrong_log_spec(const struct bench_spec *s)
{
    bool raw = s->protocol == BENCH_HTTP && s->op == BENCH_READ;
    bool stream = s->protocol == BENCH_RESP && (s->op == BENCH_APPEND || s->op == BENCH_READ);
    if (s->protocol != BENCH_BINARY && !raw && !stream)
        return "append, read, tail and seek are for --protocol binary; read also for http, append "
               "and read for resp";
    if (s->items > 1 && (s->op == BENCH_TAIL || s->op == BENCH_SEEK))
        return "a tail has pages of its own size, a seek brings one record: no --items";
    if (s->items > 1 && s->op == BENCH_APPEND && stream)
        return "XADD adds one: --items must be 1, --pipeline as many";
    if (s->op == BENCH_READ && s->items * (s->value_size + RECORD_OVERHEAD) > LIMIT_PAGE_BYTES)
        return "a page has at most 4m bytes, 40 of each record around its value";
    if (s->logs < 1 || s->logs > 100000000)
        return "--logs must be 1 to 100000000";
    return NULL;
}

// Of runs on relations.
static const char *wrong_rel_spec(const struct bench_spec *s)
{
    bool redis = s->protocol == BENCH_RESP;
    if (s->protocol != BENCH_BINARY && !redis)
        return "relate, members and intersect are for --protocol binary and resp";
    if (s->ids < 2 || s->ids > (redis ? MAX_REDIS_IDS : (uint64_t)1 << 62))
        return "--ids must be 2 to 2^62, to 1000000000 over resp";
    if (s->members < 1 || s->members > s->ids || s->members > LIMIT_REL_MEMBERS)
        return "--members must be 1 to 1000000, and not more than ids";
    if (s->members > LOAD_MEMBERS && s->members % LOAD_MEMBERS)
        return "--members over 10000 must be a multiple of it";
    if (s->items > 1 && s->op != BENCH_RELATE)
        return "--items is for relate";
    return NULL;
}

// What can be asked for at all; the text says what is wrong, NULL if nothing.
static const char *wrong_spec(const struct bench_spec *s)
{
    bool plain = s->protocol != BENCH_HTTP;
    if (s->op == BENCH_INCREMENT && plain)
        return "increment is for --protocol http";
    if (s->items > 1 && !bench_is_log(s->op) && !bench_is_rel(s->op) &&
        (plain || (s->op != BENCH_PUT && s->op != BENCH_SET)))
        return "--items is for put and set over http";
    if (s->op == BENCH_INCREMENT && s->pipeline > 1)
        return "an increment waits for its get: --pipeline must be 1";
    if (s->connections < 1 || s->connections > MAX_CONNECTIONS)
        return "--connections must be 1 to 60000";
    if (s->threads < 1 || s->threads > MAX_THREADS || s->threads > s->connections)
        return "--threads must be 1 to 64, and not more than connections";
    if (s->pipeline < 1 || s->pipeline > MAX_PIPELINE || s->items < 1 || s->items > MAX_ITEMS)
        return "--pipeline must be 1 to 100000, --items 1 to 10000";
    if (s->keys < (bench_is_rel(s->op) ? 1 : s->items) || s->keys > 1000000000000)
        return "--keys must be 1 to 1000000000000, and not less than items";
    uint64_t written = bench_is_log(s->op) && s->op != BENCH_APPEND ? 1 : s->items;
    if (s->value_size < 1 || s->value_size > (16u << 20) ||
        s->value_size * written * s->pipeline > (64u << 20))
        return "--value-size must be 1 byte to 16m, and a batch not over 64m";
    if (!s->requests && !s->duration_ms)
        return "--duration or --requests must be over 0";
    return bench_is_log(s->op) ? wrong_log_spec(s) : bench_is_rel(s->op) ? wrong_rel_spec(s) : NULL;
}

static const char *make_spec(const struct options *o, const struct preset *p, struct bench_spec *s)
{
    int n;
    *s = p->spec;
    if (o->protocol) {
        if (!find_name(bench_protocol_names, BENCH_PROTOCOLS, o->protocol, &n))
            return "--protocol must be binary, http, resp, etcd, echo or echo-http";
        s->protocol = (enum bench_protocol)n;
    }
    if (o->op) {
        if (!find_name(bench_op_names, BENCH_OPS, o->op, &n))
            return "--op must be get, set, delete, put, increment, append, read, tail, seek, "
                   "relate, "
                   "members or intersect";
        s->op = (enum bench_op)n;
    }
    if (o->start) {
        if (!find_name(bench_start_names, BENCH_STARTS, o->start, &n))
            return "--start must be offset, timestamp or nonce";
        s->start = (enum bench_start)n;
    }
    s->server = o->server ? o->server : default_servers[s->protocol];
    pick(&s->connections, o->connections, 50);
    pick(&s->threads, o->threads, 1);
    pick(&s->pipeline, o->pipeline, 1);
    pick(&s->items, o->items, 1);
    pick(&s->requests, o->requests, 0);
    pick(&s->duration_ms, o->duration_ms, 5000);
    pick(&s->warmup_ms, o->warmup_ms, 1000);
    pick(&s->keys, o->keys, 100000);
    pick(&s->value_size, o->value_size, 64);
    pick(&s->logs, o->logs, 1);
    pick(&s->members, o->members, 100);
    pick(&s->ids, o->ids, 10000000);
    pick(&s->server_pid, o->server_pid, 0);
    pick(&s->seed, o->seed, 0);
    if (o->duration_ms != UNSET && o->requests == UNSET)
        s->requests = 0; // a preset by count, made one by time
    s->missing = s->missing || o->missing;
    s->shared_key = o->shared_key;
    return wrong_spec(s);
}

static double per_second(uint64_t n, uint64_t ns)
{
    return ns ? (double)n * 1e9 / (double)ns : 0;
}

static const char *const percent_names[] = {"p50", "p95", "p99", "p99.9", "max"};
static const double percents[] = {0.5, 0.95, 0.99, 0.999, 1};
enum { PERCENTS = 5 };

static double latency_us(const struct bench_result *r, int i)
{
    uint64_t ns = i == PERCENTS - 1 ? r->latency.max : histogram_at(&r->latency, percents[i]);
    return (double)ns / 1000;
}

static double us_each(uint64_t us, uint64_t n)
{
    return n ? (double)us / (double)n : 0;
}

static void report(const char *name, const struct bench_spec *s, const struct bench_result *r)
{
    const struct bench_counts *c = &r->counts;
    printf("%s: %s %s, %llu connections, pipeline %llu, %llu thread%s\n", name,
           bench_protocol_names[s->protocol], bench_op_names[s->op],
           (unsigned long long)s->connections, (unsigned long long)s->pipeline,
           (unsigned long long)s->threads, s->threads > 1 ? "s" : "");
    printf("  %-12s %.0f %s/s", "throughput", per_second(c->requests, r->elapsed_ns),
           s->op == BENCH_INCREMENT ? "increments" : "requests");
    if (s->items > 1 || bench_is_log(s->op) || bench_is_rel(s->op))
        printf(", %.0f %s/s", per_second(c->objects, r->elapsed_ns),
               bench_is_log(s->op)   ? "records"
               : bench_is_rel(s->op) ? "members"
                                     : "objects");
    printf("  (%llu in %.2f s)\n  %-12s", (unsigned long long)c->requests,
           (double)r->elapsed_ns / 1e9, "latency us");
    for (int i = 0; i < PERCENTS; i++)
        printf(" %s %.1f ", percent_names[i], latency_us(r, i));
    printf("\n  %-12s %llu hits, %llu misses, %llu conflicts, %llu errors\n", "replies",
           (unsigned long long)c->hits, (unsigned long long)c->misses,
           (unsigned long long)c->conflicts, (unsigned long long)c->errors);
    printf("  %-12s client %.3f us a request", "CPU", us_each(r->client_cpu_us, c->requests));
    if (s->server_pid)
        printf(", server %.3f us a request", us_each(r->server_cpu_us, c->requests));
    printf("\n  %-12s %.1f MB/s out, %.1f MB/s in\n", "network",
           per_second(c->bytes_out, r->elapsed_ns) / 1e6,
           per_second(c->bytes_in, r->elapsed_ns) / 1e6);
    if (c->errors)
        printf("  %-12s %s\n", "first error", r->error);
}

static void report_json(const char *name, const struct bench_spec *s, const struct bench_result *r)
{
    const struct bench_counts *c = &r->counts;
    printf(
        "{\"name\":\"%s\",\"protocol\":\"%s\",\"op\":\"%s\",\"connections\":%llu,\"pipeline\":%llu,"
        "\"threads\":%llu,\"items\":%llu,\"value_size\":%llu,\"keys\":%llu,",
        name, bench_protocol_names[s->protocol], bench_op_names[s->op],
        (unsigned long long)s->connections, (unsigned long long)s->pipeline,
        (unsigned long long)s->threads, (unsigned long long)s->items,
        (unsigned long long)s->value_size, (unsigned long long)s->keys);
    printf("\"seconds\":%.6f,\"requests\":%llu,\"objects\":%llu,"
           "\"requests_per_second\":%.1f,"
           "\"objects_per_second\":%.1f,\"hits\":%llu,\"misses\":%llu,\"conflicts\":%llu,"
           "\"errors\":%llu,",
           (double)r->elapsed_ns / 1e9, (unsigned long long)c->requests,
           (unsigned long long)c->objects, per_second(c->requests, r->elapsed_ns),
           per_second(c->objects, r->elapsed_ns), (unsigned long long)c->hits,
           (unsigned long long)c->misses, (unsigned long long)c->conflicts,
           (unsigned long long)c->errors);
    printf("\"latency_us\":{");
    for (int i = 0; i < PERCENTS; i++)
        printf("\"%s\":%.3f,", percent_names[i], latency_us(r, i));
    printf("\"mean\":%.3f},\"client_cpu_us_per_request\":%.4f,",
           us_each(r->latency.sum, r->latency.count) / 1000,
           us_each(r->client_cpu_us, c->requests));
    if (s->server_pid)
        printf("\"server_cpu_us_per_request\":%.4f,\"server_cpu_us_per_object\":%.6f}\n",
               us_each(r->server_cpu_us, c->requests), us_each(r->server_cpu_us, c->objects));
    else
        printf("\"server_cpu_us_per_request\":null,\"server_cpu_us_per_object\":null}\n");
}

static void show_live(void *arg, uint64_t requests)
{
    progress_show(arg, requests);
}

// Runs with a progress line. The result is the caller's to free; NULL and a message when it failed.
static struct bench_result *run(const struct command *c, const char *doing,
                                const struct bench_spec *s)
{
    struct errmsg msg = {""};
    struct progress p;
    struct bench_result *r = malloc(sizeof *r);
    progress_begin(&p, doing, s->requests * s->connections, "requests");
    enum err e = r ? bench_run(s, r, show_live, &p, &msg) : ERR_NO_MEMORY;
    progress_end(&p);
    if (!e)
        return r;
    free(r);
    command_fail(c, CLI_FAILED, "%s", msg.text[0] ? msg.text : err_text(e));
    return NULL;
}

// Every record of every log once. In order, so that their nonces rise: over one connection.
static void spec_of_records(struct bench_spec *s)
{
    bool binary = s->protocol == BENCH_BINARY;
    uint64_t batch = 10000000 / (s->value_size + RECORD_OVERHEAD) + 1; // records
    s->op = BENCH_APPEND;
    s->connections = s->threads = 1;
    s->items = binary ? (s->keys < 100 ? s->keys : 100) : 1;
    s->pipeline = binary ? 100 : 1000;
    s->pipeline = s->pipeline * s->items < batch ? s->pipeline : (batch + s->items - 1) / s->items;
    s->requests = (s->keys + s->items - 1) / s->items * s->logs;
}

// Every member of every list once.
static void spec_of_lists(struct bench_spec *s)
{
    uint64_t batch = 4000000 / (s->members * 8) + 1; // lists in about 4 MB
    s->op = BENCH_RELATE;
    s->sequential = true;
    s->items = s->members < LOAD_MEMBERS ? s->members : LOAD_MEMBERS;
    uint64_t requests = s->members / s->items * s->keys;
    s->connections = s->connections < 4 ? s->connections : 4;
    s->connections = s->connections < requests ? s->connections : requests;
    s->threads = s->threads < s->connections ? s->threads : s->connections;
    s->pipeline = batch < 100 ? batch : 100;
    s->requests = (requests + s->connections - 1) / s->connections;
}

// Every key of the key space once.
static void spec_of_keys(struct bench_spec *s)
{
    s->op = BENCH_SET;
    s->connections = s->keys < 50 ? s->keys : 50;
    s->threads = s->threads < s->connections ? s->threads : s->connections;
    s->items = s->protocol == BENCH_HTTP ? s->keys / s->connections : 1;
    s->items = s->items < 100 ? s->items : 100;
    s->pipeline = s->items > 1 || s->value_size > 65536 ? 1 : 100;
    s->requests = (s->keys + s->connections * s->items - 1) / (s->connections * s->items);
}

static int load(const struct command *c, const struct bench_spec *for_spec)
{
    struct bench_spec s = *for_spec;
    s.missing = false;
    s.sequential = true;
    if (bench_is_log(s.op) && s.protocol == BENCH_HTTP)
        return command_fail(c, CLI_USAGE, "logs are loaded over --protocol binary: --no-load here");
    (bench_is_log(s.op) ? spec_of_records : bench_is_rel(s.op) ? spec_of_lists : spec_of_keys)(&s);
    struct bench_result *r = run(c, "loading", &s);
    if (!r)
        return CLI_FAILED;
    int code = CLI_OK;
    if (r->counts.errors || r->counts.conflicts)
        code = command_fail(c, CLI_FAILED, "loading: %llu errors; the first: %s",
                            (unsigned long long)r->counts.errors, r->error);
    free(r);
    return code;
}

// With one key for all: what the server holds afterwards must be what it held before plus the
// number of increments that it said yes to.
static int run_and_report(const struct command *c, const char *name, const struct bench_spec *s,
                          bool json)
{
    struct errmsg msg;
    int64_t before = 0, after = 0;
    if (s->shared_key && bench_read_number(s, 0, &before, &msg))
        return command_fail(c, CLI_FAILED, "%s", msg.text);
    struct bench_result *r = run(c, name, s);
    if (!r)
        return CLI_FAILED;
    (json ? report_json : report)(name, s, r);
    int code = r->counts.errors ? CLI_FAILED : CLI_OK;
    if (s->shared_key && s->requests && !code) {
        if (bench_read_number(s, 0, &after, &msg))
            code = command_fail(c, CLI_FAILED, "%s", msg.text);
        else if (after - before != (int64_t)r->counts.requests)
            code = command_fail(c, CLI_FAILED, "%llu increments made %lld of %lld",
                                (unsigned long long)r->counts.requests, (long long)after,
                                (long long)before);
    }
    free(r);
    return code;
}

static int run_preset(const struct command *c, const struct options *o, const struct preset *p)
{
    struct bench_spec s;
    const char *wrong = make_spec(o, p, &s);
    if (wrong)
        return command_fail(c, CLI_USAGE, "%s", wrong);
    bool echo = s.protocol == BENCH_ECHO || s.protocol == BENCH_ECHO_HTTP;
    bool loads = (p->load || o->load) && !o->no_load && !s.missing && !echo;
    int code = loads ? load(c, &s) : CLI_OK;
    if (s.op == BENCH_RELATE && s.sequential)
        spec_of_lists(&s);
    s.expect_hits = s.op == BENCH_GET && (loads || p->load) && !s.missing;
    return code ? code : run_and_report(c, p->name, &s, o->json);
}

static const char *list_presets(char *text, size_t cap)
{
    size_t n = (size_t)snprintf(text, cap, "Presets (options change them):\n");
    for (size_t i = 0; i < PRESETS && n < cap; i++)
        if (presets[i].help)
            n += (size_t)snprintf(text + n, cap - n, "  %-26s %s\n", presets[i].name,
                                  presets[i].help);
    return text;
}

int command_bench(const struct command *c, int argc, char **argv)
{
    static const struct preset custom = {.name = "custom"};
    struct options o = {.threads = UNSET,
                        .connections = UNSET,
                        .pipeline = UNSET,
                        .items = UNSET,
                        .requests = UNSET,
                        .duration_ms = UNSET,
                        .warmup_ms = UNSET,
                        .keys = UNSET,
                        .value_size = UNSET,
                        .logs = UNSET,
                        .members = UNSET,
                        .ids = UNSET,
                        .server_pid = UNSET,
                        .seed = UNSET};
    const struct arg_option options[] = {
        {"preset", ARG_TEXT, &o.preset, "NAME", "a named run, see below"},
        {"server", ARG_TEXT, &o.server, "ADDR", "HOST:PORT; the protocol's usual port on loopback"},
        {"protocol", ARG_TEXT, &o.protocol, "NAME", "binary, http, resp, etcd, echo, echo-http"},
        {"op", ARG_TEXT, &o.op, "NAME",
         "get, set, delete, put (new keys), increment; append, read, tail, seek; relate, members, "
         "intersect"},
        {"threads", ARG_COUNT, &o.threads, "N", "client threads (1)"},
        {"connections", ARG_COUNT, &o.connections, "N", "connections (50)"},
        {"pipeline", ARG_COUNT, &o.pipeline, "N", "requests in one batch (1)"},
        {"items", ARG_COUNT, &o.items, "N",
         "objects in one put or set over http, records in an append or page, members in a relate "
         "(1)"},
        {"requests", ARG_COUNT, &o.requests, "N", "by each connection, instead of a duration"},
        {"duration", ARG_TIME, &o.duration_ms, "TIME", "how long to measure (5s)"},
        {"warmup", ARG_TIME, &o.warmup_ms, "TIME", "before that; not with --requests (1s)"},
        {"keys", ARG_COUNT, &o.keys, "N",
         "size of the key space; records in a log; lists (100000)"},
        {"value-size", ARG_SIZE, &o.value_size, "BYTES", "bytes of a value (64)"},
        {"logs", ARG_COUNT, &o.logs, "N", "logs that are written or read (1)"},
        {"members", ARG_COUNT, &o.members, "N",
         "of a relation's list that is loaded or read (100)"},
        {"ids", ARG_COUNT, &o.ids, "N", "members are below this (10000000)"},
        {"start", ARG_TEXT, &o.start, "NAME", "seek: by offset, timestamp or nonce (offset)"},
        {"missing", ARG_FLAG, &o.missing, NULL, "get: random UUIDs, which are not there"},
        {"shared-key", ARG_FLAG, &o.shared_key, NULL, "increment: one key for all connections"},
        {"load", ARG_FLAG, &o.load, NULL, "write the key space first"},
        {"no-load", ARG_FLAG, &o.no_load, NULL, "do not, although the preset does"},
        {"server-pid", ARG_COUNT, &o.server_pid, "PID", "measure the CPU time of this process"},
        {"seed", ARG_COUNT, &o.seed, "N", "of the random keys"},
        {"json", ARG_FLAG, &o.json, NULL, "one JSON object a run"},
    };
    struct arg_list a = {.options = options, .count = sizeof options / sizeof *options};
    char more[4096];
    int code;
    if (!command_parse(c, &a, argc, argv, 0, 0, list_presets(more, sizeof more), &code))
        return code;
    if (!o.preset)
        return run_preset(c, &o, &custom);
    bool found = false;
    for (size_t i = 0; i < PRESETS && !code; i++) {
        if (!strcmp(presets[i].name, o.preset)) {
            found = true;
            code = run_preset(c, &o, &presets[i]);
        }
    }
    return found ? code : command_fail(c, CLI_USAGE, "no preset \"%s\"", o.preset);
}
