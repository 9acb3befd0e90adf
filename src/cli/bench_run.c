// Threads, connections and the loop of the load generator.
//
// Each thread has an epoll set and its share of the connections. All connect, wait for each other,
// and begin. What is measured begins with the phase MEASURE (after the warm-up; at once in a run by
// count) and ends with STOP, or with the last reply.
#include "cli/bench_int.h"
#include "base/os.h"
#include "base/os_net.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum phase { CONNECT, WARM, MEASURE, STOP };

struct bench_shared {
    _Atomic int phase;
    _Atomic uint64_t ready;   // threads that have connected, or failed to
    _Atomic uint64_t running; // threads that have not ended
};

enum {
    EVENTS = 256,
    IN_CHUNK = 256 << 10, // bytes one read may bring
    TURN_MS = 20,         // how soon a thread sees that the phase changed
    CONNECT_MS = 10000,
};

const char *const bench_protocol_names[BENCH_PROTOCOLS] = {"binary", "http", "resp",
                                                           "etcd",   "echo", "echo-http"};
const char *const bench_op_names[BENCH_OPS] = {"get",       "set",    "delete",  "put",
                                               "increment", "append", "read",    "tail",
                                               "seek",      "relate", "members", "intersect"};

uint64_t bench_process_cpu_us(uint64_t pid)
{
    char path[64], text[1024];
    int fd;
    size_t n = 0;
    struct os *os = os_real();
    snprintf(path, sizeof path, "/proc/%llu/stat", (unsigned long long)pid);
    if (os_open(os, path, OS_READ, &fd))
        return 0;
    enum err e = os_pread(os, fd, text, sizeof text - 1, 0, &n);
    (void)!os_close(os, fd);
    text[n] = 0;
    // The name in brackets may hold spaces; utime and stime are the 12th and 13th field after it.
    const char *p = e ? NULL : strrchr(text, ')');
    for (int i = 0; p && i < 12; i++)
        p = strchr(p + 1, ' ');
    if (!p)
        return 0;
    char *rest;
    uint64_t user = strtoull(p, &rest, 10);
    uint64_t kernel = strtoull(rest, NULL, 10);
    return (user + kernel) * 10000; // USER_HZ is 100 on every Linux of today
}

static void close_conn(struct bench_thread *t, struct bench_conn *c)
{
    os_close_socket(c->fd);
    c->fd = -1;
    t->open--;
}

// What is under way on it counts as errors, at least one.
static void lose_conn(struct bench_thread *t, struct bench_conn *c, const char *why)
{
    bench_error(t, c->done < c->batch ? c->batch - c->done : 1, why, slice_of(NULL, 0));
    close_conn(t, c);
}

static void want_out(struct bench_thread *t, struct bench_conn *c, bool on)
{
    if (c->wants_out == on)
        return;
    c->wants_out = on;
    if (os_epoll_set(t->epfd, EPOLL_CTL_MOD, c->fd, EPOLLIN | (on ? EPOLLOUT : 0), c))
        lose_conn(t, c, "epoll");
}

static void send_rest(struct bench_thread *t, struct bench_conn *c)
{
    while (c->out_at < c->out_len) {
        size_t sent = 0;
        enum err e = os_send(c->fd, c->out + c->out_at, c->out_len - c->out_at, &sent);
        if (e == ERR_AGAIN) {
            want_out(t, c, true);
            return;
        }
        if (e) {
            lose_conn(t, c, "connection lost in sending");
            return;
        }
        c->out_at += sent;
        t->counts.bytes_out += sent;
    }
    want_out(t, c, false);
}

// Sends the next batch, or closes when all are done.
static void next_batch(struct bench_thread *t, struct bench_conn *c)
{
    const struct bench_spec *s = t->spec;
    c->batch = s->pipeline < c->left ? s->pipeline : c->left;
    c->done = 0;
    if (c->batch == 0) {
        close_conn(t, c);
        return;
    }
    if (c->left != UINT64_MAX)
        c->left -= c->batch;
    if (s->op == BENCH_INCREMENT)
        bench_fill_increment(c);
    else if (bench_is_log(s->op))
        bench_fill_log(c);
    else if (bench_is_rel(s->op))
        bench_fill_rel(c);
    else
        bench_fill(c);
    c->sent_ns = os_mono_ns(os_real());
    send_rest(t, c);
}

// Takes the replies in t->in[0..n), which begins with what was kept of the last read.
static void take(struct bench_thread *t, struct bench_conn *c, size_t n, uint64_t now)
{
    uint64_t done = c->done;
    size_t used = t->take(c, t->in, n);
    if (used == BENCH_BAD || (used < n && c->done == c->batch && !c->resend)) {
        bench_error(t, 0, "a reply that cannot be one", slice_of(t->in, n));
        lose_conn(t, c, "a reply that cannot be one");
        return;
    }
    if (c->done > done)
        histogram_add(&t->latency, now - c->sent_ns, c->done - done);
    buf_clear(&c->part);
    if (buf_append(&c->part, t->in + used, n - used))
        lose_conn(t, c, "a reply is too long");
    else if (c->resend) {
        c->resend = false;
        send_rest(t, c);
    } else if (c->done == c->batch)
        next_batch(t, c);
}

static void readable(struct bench_thread *t, struct bench_conn *c)
{
    size_t kept = buf_len(&c->part), got = 0;
    if (kept)
        memcpy(t->in, buf_head(&c->part), kept);
    enum err e = os_recv(c->fd, t->in + kept, t->in_cap - kept, &got);
    if (e == ERR_AGAIN)
        return;
    if (e || got == 0) {
        lose_conn(t, c, e ? "connection lost" : "the server closed a connection");
        return;
    }
    t->counts.bytes_in += got;
    take(t, c, kept + got, os_mono_ns(os_real()));
}

static bool connect_all(struct bench_thread *t, struct errmsg *msg)
{
    if (os_epoll_new(&t->epfd)) {
        (void)err_set(msg, ERR_NETWORK, "epoll: %s", os_last_error());
        return false;
    }
    for (size_t i = 0; i < t->count; i++) {
        struct bench_conn *c = &t->conns[i];
        if (os_connect(t->spec->server, CONNECT_MS, &c->fd, msg)) {
            c->fd = -1;
            return false;
        }
        t->open++;
        if (os_set_nonblocking(c->fd, true) ||
            os_epoll_set(t->epfd, EPOLL_CTL_ADD, c->fd, EPOLLIN, c)) {
            (void)err_set(msg, ERR_NETWORK, "epoll: %s", os_last_error());
            return false;
        }
    }
    return true;
}

static void begin_measuring(struct bench_thread *t)
{
    uint64_t errors = t->counts.errors; // those of the warm-up stay
    t->counts = (struct bench_counts){.errors = errors};
    memset(&t->latency, 0, sizeof t->latency);
    t->begin_ns = os_mono_ns(os_real());
}

// `measuring`: what is counted so far is part of it already.
static void loop(struct bench_thread *t, bool measuring)
{
    struct epoll_event events[EVENTS];
    while (t->open) {
        int phase = atomic_load_explicit(&t->shared->phase, memory_order_relaxed);
        if (phase == STOP)
            break;
        if (phase == MEASURE && !measuring) {
            measuring = true;
            begin_measuring(t);
        }
        int count;
        if (os_epoll_wait(t->epfd, events, EVENTS, TURN_MS, &count)) {
            bench_error(t, 1, "epoll", slice_of(NULL, 0));
            break;
        }
        for (int i = 0; i < count; i++) {
            struct bench_conn *c = events[i].data.ptr;
            if (c->fd >= 0 && events[i].events & EPOLLOUT)
                send_rest(t, c);
            if (c->fd >= 0 && events[i].events & ~(uint32_t)EPOLLOUT)
                readable(t, c);
        }
        atomic_store_explicit(&t->live, t->counts.requests, memory_order_relaxed);
    }
    t->end_ns = os_mono_ns(os_real());
}

static void *thread_main(void *arg)
{
    struct bench_thread *t = arg;
    struct errmsg msg = {""};
    if (!connect_all(t, &msg)) {
        snprintf(t->error, sizeof t->error, "%.*s", BENCH_ERROR - 1, msg.text);
        t->failed_to_start = true;
    }
    atomic_fetch_add(&t->shared->ready, 1);
    while (atomic_load(&t->shared->phase) == CONNECT)
        os_sleep_us(os_real(), 100);
    int phase = atomic_load(&t->shared->phase);
    begin_measuring(t);
    if (phase != STOP) {
        for (size_t i = 0; i < t->count; i++)
            next_batch(t, &t->conns[i]);
        loop(t, phase == MEASURE);
    }
    atomic_fetch_sub(&t->shared->running, 1);
    return NULL;
}

static enum err thread_init(struct bench_thread *t, const struct bench_spec *s,
                            const struct bench_layout *l, uint64_t index, uint64_t seed)
{
    size_t request = buf_len(&l->bytes);
    size_t batch = s->op == BENCH_INCREMENT ? BENCH_INCREMENT_OUT : request * s->pipeline;
    // Values in base64 are a third longer; a conflict names every object.
    size_t reply_max = s->value_size * 2 + s->items * 256 + 4096;
    t->spec = s;
    t->layout = l;
    t->count = (s->connections - index + s->threads - 1) / s->threads;
    t->in_cap = IN_CHUNK + reply_max;
    t->in = malloc(t->in_cap);
    t->conns = calloc(t->count, sizeof *t->conns);
    t->random[0] = (seed ^ (index + 1) * 0x9e3779b97f4a7c15u) | 1;
    t->random[1] = (seed + index) * 0xbf58476d1ce4e5b9u | 1;
    if (!t->in || !t->conns)
        return ERR_NO_MEMORY;
    for (size_t i = 0; i < t->count; i++) {
        struct bench_conn *c = &t->conns[i];
        c->thread = t;
        c->fd = -1;
        c->id = c->next = index + i * s->threads;
        c->key = s->shared_key ? 0 : c->id;
        c->left = s->requests ? s->requests : UINT64_MAX;
        buf_init(&c->part, reply_max);
        c->out = malloc(batch ? batch : 1);
        if (!c->out)
            return ERR_NO_MEMORY;
        for (uint64_t j = 0; s->op != BENCH_INCREMENT && j < s->pipeline; j++)
            memcpy(c->out + j * request, buf_head(&l->bytes), request);
    }
    return ERR_OK;
}

static void thread_release(struct bench_thread *t)
{
    for (size_t i = 0; t->conns && i < t->count; i++) {
        struct bench_conn *c = &t->conns[i];
        if (c->thread && c->fd >= 0)
            os_close_socket(c->fd);
        buf_release(&c->part);
        free(c->out);
    }
    if (t->epfd >= 0)
        os_close_socket(t->epfd);
    free(t->conns);
    free(t->in);
}

static bench_take choose_take(const struct bench_spec *s)
{
    static const bench_take takes[BENCH_PROTOCOLS] = {
        [BENCH_BINARY] = bench_take_binary, [BENCH_HTTP] = bench_take_http,
        [BENCH_RESP] = bench_take_resp,     [BENCH_ETCD] = bench_take_http,
        [BENCH_ECHO] = bench_take_echo,     [BENCH_ECHO_HTTP] = bench_take_http,
    };
    if (bench_is_log(s->op))
        return bench_take_log;
    if (bench_is_rel(s->op))
        return bench_take_rel;
    return s->op == BENCH_INCREMENT ? bench_take_increment : takes[s->protocol];
}

struct run {
    const struct bench_spec *spec;
    struct bench_shared shared;
    struct bench_thread *threads;
    struct bench_result *result;
    void (*live)(void *arg, uint64_t requests);
    void *arg;
};

// Sleeps until `ms` have passed or every thread has ended.
static void wait_ms(struct run *r, uint64_t ms)
{
    struct os *os = os_real();
    uint64_t end = ms == UINT64_MAX ? UINT64_MAX : os_mono_ns(os) + ms * 1000000u;
    uint64_t shown = 0;
    while (atomic_load(&r->shared.running)) {
        uint64_t now = os_mono_ns(os);
        if (now >= end)
            break;
        uint64_t left_us = (end - now) / 1000;
        os_sleep_us(os, left_us < 10000 ? left_us + 1 : 10000);
        if (!r->live || now - shown < 100000000)
            continue;
        shown = now;
        uint64_t sum = 0;
        for (size_t i = 0; i < r->spec->threads; i++)
            sum += atomic_load_explicit(&r->threads[i].live, memory_order_relaxed);
        r->live(r->arg, sum);
    }
}

static void collect(struct run *r)
{
    struct bench_result *to = r->result;
    uint64_t begin = UINT64_MAX, end = 0;
    for (size_t i = 0; i < r->spec->threads; i++) {
        const struct bench_thread *t = &r->threads[i];
        to->counts.requests += t->counts.requests;
        to->counts.objects += bench_is_log(r->spec->op) || bench_is_rel(r->spec->op)
                                  ? t->counts.objects
                                  : t->counts.requests * r->spec->items;
        to->counts.hits += t->counts.hits;
        to->counts.misses += t->counts.misses;
        to->counts.conflicts += t->counts.conflicts;
        to->counts.errors += t->counts.errors;
        to->counts.bytes_in += t->counts.bytes_in;
        to->counts.bytes_out += t->counts.bytes_out;
        histogram_merge(&to->latency, &t->latency);
        if (t->begin_ns < begin)
            begin = t->begin_ns;
        if (t->end_ns > end)
            end = t->end_ns;
        if (!to->error[0])
            memcpy(to->error, t->error, sizeof to->error);
    }
    to->elapsed_ns = end > begin ? end - begin : 0;
}

static void measure(struct run *r)
{
    const struct bench_spec *s = r->spec;
    struct os_usage before, after;
    atomic_store(&r->shared.phase, s->requests ? MEASURE : WARM);
    if (!s->requests)
        wait_ms(r, s->warmup_ms);
    os_usage(&before);
    uint64_t server = s->server_pid ? bench_process_cpu_us(s->server_pid) : 0;
    atomic_store(&r->shared.phase, MEASURE);
    wait_ms(r, s->requests ? UINT64_MAX : s->duration_ms);
    r->result->server_cpu_us = s->server_pid ? bench_process_cpu_us(s->server_pid) - server : 0;
    os_usage(&after);
    r->result->client_cpu_us = after.cpu_us - before.cpu_us;
}

// Starts the threads, measures, joins them.
static enum err run_threads(struct run *r, struct errmsg *msg)
{
    const struct bench_spec *s = r->spec;
    pthread_t *ids = calloc(s->threads, sizeof *ids);
    if (!ids)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    size_t started = 0;
    enum err e = ERR_OK;
    atomic_store(&r->shared.running, s->threads);
    while (started < s->threads &&
           pthread_create(&ids[started], NULL, thread_main, &r->threads[started]) == 0)
        started++;
    if (started < s->threads)
        e = err_set(msg, ERR_NO_MEMORY, "cannot start thread %zu", started + 1);
    while (atomic_load(&r->shared.ready) < started)
        os_sleep_us(os_real(), 100);
    for (size_t i = 0; !e && i < started; i++)
        if (r->threads[i].failed_to_start)
            e = err_set(msg, ERR_NETWORK, "%s", r->threads[i].error);
    if (!e)
        measure(r);
    atomic_store(&r->shared.phase, STOP);
    for (size_t i = 0; i < started; i++)
        pthread_join(ids[i], NULL);
    free(ids);
    return e;
}

enum err bench_run(const struct bench_spec *spec, struct bench_result *result,
                   void (*live)(void *arg, uint64_t requests), void *arg, struct errmsg *msg)
{
    struct run r = {.spec = spec, .result = result, .live = live, .arg = arg};
    struct bench_layout layout;
    uint64_t seed = spec->seed, fds;
    if (!seed)
        os_random(os_real(), &seed, sizeof seed);
    memset(result, 0, sizeof *result);
    os_raise_fd_limit(spec->connections + 64, &fds);
    enum err prepared = bench_is_log(spec->op) ? bench_prepare_logs(spec, msg) : ERR_OK;
    if (prepared)
        return prepared;
    enum err e = bench_layout_init(&layout, spec);
    r.threads = e ? NULL : calloc(spec->threads, sizeof *r.threads);
    if (!e && !r.threads)
        e = ERR_NO_MEMORY;
    if (e)
        (void)err_set(msg, e, "cannot lay out the requests: %s", err_text(e));
    for (size_t i = 0; r.threads && i < spec->threads; i++)
        r.threads[i].epfd = -1;
    for (size_t i = 0; !e && i < spec->threads; i++) {
        r.threads[i].shared = &r.shared;
        r.threads[i].take = choose_take(spec);
        e = thread_init(&r.threads[i], spec, &layout, i, seed);
        if (e)
            (void)err_set(msg, e, "%s", err_text(e));
    }
    if (!e)
        e = run_threads(&r, msg);
    if (!e)
        collect(&r);
    for (size_t i = 0; r.threads && i < spec->threads; i++)
        thread_release(&r.threads[i]);
    free(r.threads);
    buf_release(&layout.bytes);
    return e;
}
