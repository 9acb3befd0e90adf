// varve-zmq: events over ZeroMQ, and what libzmq itself costs.
//
//     varve-zmq --endpoint ENDPOINT --op put|get|echo-put|echo-get [--flight N] [--events N]
//               [--bytes N] [--duration MS] [--warmup MS]
//
// put sends PUT_EVENT: with --flight 1 on a REQ socket in lockstep, with more on a DEALER that
// always has so many under way. get writes `events` events to a stream that must be empty, if no
// earlier run did, then asks for all of them, on a REQ socket in lockstep, and looks into each
// event of each reply. echo-put and echo-get are the same against a ROUTER on a thread of this
// process, which answers with as many bytes as varve and does nothing else; ENDPOINT is then where
// it binds.
//
// An event begins with its number in 8 bytes, little-endian. Prints one JSON object with the names
// of `varve bench --json`; for get an object is an event.
#include "base/slice.h"
#include "cli/histogram.h"
#include "varve-zmq.h"
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <zmq.h>

enum {
    MAX_BYTES = 1 << 20,
    MAX_EVENTS = 1000000,
    MAX_FLIGHT = 100000,
    FILL_FLIGHT = 1000,
    WAIT_MS = 30000
};
enum { HEAD = 9 }; // of a reply: status, then a time or the number of events

struct options {
    const char *endpoint;
    bool get, echo;
    uint64_t flight, events, bytes, duration_ms, warmup_ms;
};

struct run {
    struct options o;
    void *context;
    uint8_t *request;  // PUT_EVENT and the event
    uint64_t next;     // the next event's number
    uint64_t *sent_ns; // of the requests under way, a ring
    uint8_t *all;      // echo: the reply to get
    struct histogram latency;
    uint64_t requests;
};

static void die(const char *what)
{
    (void)fprintf(stderr, "varve-zmq: %s: %s\n", what, zmq_strerror(errno));
    exit(1);
}

static void wrong(const char *what)
{
    (void)fprintf(stderr, "varve-zmq: %s\n", what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t cpu_us(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000u +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void set(void *socket, int option, int value)
{
    if (zmq_setsockopt(socket, option, &value, sizeof value) != 0)
        die("zmq_setsockopt");
}

static void *client_socket(struct run *r, int type)
{
    void *s = zmq_socket(r->context, type);
    if (!s)
        die("zmq_socket");
    set(s, ZMQ_LINGER, 0);
    set(s, ZMQ_RCVTIMEO, WAIT_MS);
    set(s, ZMQ_SNDTIMEO, WAIT_MS);
    set(s, ZMQ_SNDHWM, 0);
    set(s, ZMQ_RCVHWM, 0);
    if (zmq_connect(s, r->o.endpoint) != 0)
        die(r->o.endpoint);
    return s;
}

// ---- the echo

static void keep(void *data, void *hint)
{
    (void)data;
    (void)hint;
}

// Answers a request with the bytes that varve would: what came before it goes back as it came.
static void echo_one(const struct run *r, void *socket, zmq_msg_t *request)
{
    static const uint8_t put_reply[HEAD];
    zmq_msg_t reply;
    bool get = *(const uint8_t *)zmq_msg_data(request) == VARVE_ZMQ_GET_ALL_EVENTS;
    if (get ? zmq_msg_init_data(&reply, r->all, HEAD + r->o.events * r->o.bytes, keep, NULL) != 0
            : zmq_msg_init_size(&reply, HEAD) != 0)
        die("memory");
    if (!get)
        memcpy(zmq_msg_data(&reply), put_reply, sizeof put_reply);
    if (zmq_msg_send(&reply, socket, 0) < 0)
        die("echo: send");
}

static void *echo_main(void *arg)
{
    const struct run *r = arg;
    void *socket = zmq_socket(r->context, ZMQ_ROUTER);
    if (!socket)
        die("echo");
    set(socket, ZMQ_LINGER, 0);
    set(socket, ZMQ_SNDHWM, 0);
    set(socket, ZMQ_RCVHWM, 0);
    if (zmq_bind(socket, r->o.endpoint) != 0)
        die(r->o.endpoint);
    for (;;) {
        zmq_msg_t m;
        (void)zmq_msg_init(&m);
        if (zmq_msg_recv(&m, socket, 0) < 0)
            break; // the context ends
        if (zmq_msg_more(&m)) {
            if (zmq_msg_send(&m, socket, ZMQ_SNDMORE) < 0)
                die("echo: send");
        } else {
            echo_one(r, socket, &m);
        }
        (void)zmq_msg_close(&m);
    }
    zmq_close(socket);
    return NULL;
}

static void make_all(struct run *r)
{
    size_t size = HEAD + r->o.events * r->o.bytes;
    r->all = malloc(size);
    if (!r->all)
        wrong("no memory");
    memset(r->all, 'v', size);
    r->all[0] = 0;
    store64(r->all + 1, r->o.events);
    for (uint64_t i = 0; i < r->o.events; i++)
        store64(r->all + HEAD + i * r->o.bytes, i);
}

// ---- putting

// `bare`: on a socket that does not add the empty frame before a request itself.
static void send_put(struct run *r, void *socket, bool bare)
{
    store64(r->request + 1, r->next);
    r->sent_ns[r->next++ % r->o.flight] = now_ns();
    if (bare && zmq_send(socket, "", 0, ZMQ_SNDMORE) < 0)
        die("send");
    if (zmq_send(socket, r->request, 1 + r->o.bytes, 0) < 0)
        die("send");
}

static void take_put(struct run *r, void *socket, bool bare, uint64_t number)
{
    uint8_t reply[256];
    if (bare && zmq_recv(socket, reply, sizeof reply, 0) != 0)
        die("no empty frame before a reply");
    int n = zmq_recv(socket, reply, sizeof reply, 0);
    if (n < 0)
        die("receive");
    if (n != HEAD || reply[0] != 0) {
        reply[n < 255 ? n : 255] = 0;
        wrong(n > 1 ? (const char *)reply + 1 : "a reply to PUT_EVENT that cannot be one");
    }
    histogram_add(&r->latency, now_ns() - r->sent_ns[number % r->o.flight], 1);
    r->requests++;
}

// Puts until `end_ns`, or `count` events; waits for what is under way.
static void put(struct run *r, void *socket, uint64_t end_ns, uint64_t count)
{
    bool bare = r->o.flight > 1;
    uint64_t first = r->next, taken = first;
    for (;;) {
        bool more = count ? r->next - first < count : now_ns() < end_ns;
        if (more && r->next - taken < r->o.flight)
            send_put(r, socket, bare);
        else if (taken < r->next)
            take_put(r, socket, bare, taken++);
        else if (!more)
            return;
    }
}

// ---- getting

static void check_events(const struct run *r, const uint8_t *p, size_t n)
{
    if (n != HEAD + r->o.events * r->o.bytes || p[0] != 0 || load64(p + 1) != r->o.events)
        wrong("not the events that were put: was the stream empty before?");
    p += HEAD;
    for (uint64_t i = 0; i < r->o.events; i++, p += r->o.bytes)
        if (load64(p) != i)
            wrong("an event is not the one that was put");
}

static void get(struct run *r, void *socket, uint64_t end_ns)
{
    static const uint8_t request[] = {VARVE_ZMQ_GET_ALL_EVENTS};
    uint64_t begin;
    while ((begin = now_ns()) < end_ns) {
        zmq_msg_t m;
        (void)zmq_msg_init(&m);
        if (zmq_send(socket, request, sizeof request, 0) < 0 || zmq_msg_recv(&m, socket, 0) < 0)
            die("get");
        check_events(r, zmq_msg_data(&m), zmq_msg_size(&m));
        histogram_add(&r->latency, now_ns() - begin, 1);
        r->requests++;
        (void)zmq_msg_close(&m);
    }
}

// Writes the events to be got, unless an earlier run did.
static void fill(struct run *r)
{
    static const uint8_t request[] = {VARVE_ZMQ_GET_ALL_EVENTS};
    uint8_t head[HEAD];
    void *asks = client_socket(r, ZMQ_REQ);
    if (zmq_send(asks, request, sizeof request, 0) < 0)
        die("send");
    int n = zmq_recv(asks, head, sizeof head, 0); // the rest is cut off
    if (n < 0)
        die("receive");
    zmq_close(asks);
    if (n > HEAD) // get() tells whether these are the right ones
        return;
    uint64_t flight = r->o.flight;
    r->o.flight = FILL_FLIGHT;
    void *socket = client_socket(r, ZMQ_DEALER);
    put(r, socket, 0, r->o.events);
    zmq_close(socket);
    r->o.flight = flight;
}

// ---- the run

static void work(struct run *r, void *socket, uint64_t ms)
{
    uint64_t end_ns = now_ns() + ms * 1000000u;
    r->requests = 0;
    memset(&r->latency, 0, sizeof r->latency);
    if (r->o.get)
        get(r, socket, end_ns);
    else
        put(r, socket, end_ns, 0);
}

static void report(const struct run *r, uint64_t ns, uint64_t cpu)
{
    double rate = (double)r->requests * 1e9 / (double)ns;
    printf("{\"requests_per_second\":%.1f,\"objects_per_second\":%.1f,\"requests\":%llu,"
           "\"hits\":0,\"misses\":0,\"conflicts\":0,\"errors\":0,",
           rate, rate * (double)(r->o.get ? r->o.events : 1), (unsigned long long)r->requests);
    printf("\"latency_us\":{\"p50\":%.3f,\"p95\":%.3f,\"p99\":%.3f},"
           "\"client_cpu_us_per_request\":%.4f,\"server_cpu_us_per_request\":null}\n",
           (double)histogram_at(&r->latency, 0.5) / 1000,
           (double)histogram_at(&r->latency, 0.95) / 1000,
           (double)histogram_at(&r->latency, 0.99) / 1000,
           r->requests ? (double)cpu / (double)r->requests : 0);
}

static bool parse_op(struct options *o, const char *name)
{
    o->echo = strncmp(name, "echo-", 5) == 0;
    name += o->echo ? 5 : 0;
    o->get = strcmp(name, "get") == 0;
    return o->get || strcmp(name, "put") == 0;
}

static void parse(struct options *o, int argc, char **argv)
{
    const struct {
        const char *name;
        uint64_t *to;
        uint64_t min, max;
    } numbers[] = {
        {"--flight", &o->flight, 1, MAX_FLIGHT}, {"--events", &o->events, 1, MAX_EVENTS},
        {"--bytes", &o->bytes, 8, MAX_BYTES},    {"--duration", &o->duration_ms, 1, 3600000},
        {"--warmup", &o->warmup_ms, 1, 3600000},
    };
    bool bad = argc % 2 == 0, op = false;
    *o = (struct options){NULL, false, false, 1, 10000, 100, 5000, 1000};
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        bool known = false;
        for (size_t j = 0; j < sizeof numbers / sizeof *numbers; j++) {
            char *end = NULL;
            if (strcmp(name, numbers[j].name) != 0)
                continue;
            *numbers[j].to = strtoull(value, &end, 10);
            known = !*end && *numbers[j].to >= numbers[j].min && *numbers[j].to <= numbers[j].max;
        }
        if (strcmp(name, "--endpoint") == 0) {
            o->endpoint = value;
            known = true;
        } else if (strcmp(name, "--op") == 0) {
            known = op = parse_op(o, value);
        }
        bad = bad || !known;
    }
    if (bad || !op || !o->endpoint) {
        (void)fprintf(stderr,
                      "usage: varve-zmq --endpoint ENDPOINT --op put|get|echo-put|echo-get\n"
                      "       [--flight N] [--events N] [--bytes N] [--duration MS] "
                      "[--warmup MS]\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    static struct run r;
    pthread_t echo;
    parse(&r.o, argc, argv);
    r.context = zmq_ctx_new();
    r.request = malloc(1 + r.o.bytes);
    r.sent_ns = calloc(MAX_FLIGHT, sizeof *r.sent_ns);
    if (!r.context || !r.request || !r.sent_ns)
        wrong("no memory");
    memset(r.request, 'v', 1 + r.o.bytes);
    r.request[0] = VARVE_ZMQ_PUT_EVENT;
    if (r.o.echo) {
        make_all(&r);
        if (pthread_create(&echo, NULL, echo_main, &r) != 0)
            wrong("cannot start a thread");
    }
    if (r.o.get && !r.o.echo)
        fill(&r);
    void *socket = client_socket(&r, r.o.flight > 1 && !r.o.get ? ZMQ_DEALER : ZMQ_REQ);
    work(&r, socket, r.o.warmup_ms);
    uint64_t cpu = cpu_us(), begin = now_ns();
    work(&r, socket, r.o.duration_ms);
    report(&r, now_ns() - begin, cpu_us() - cpu);
    zmq_close(socket);
    zmq_ctx_shutdown(r.context);
    if (r.o.echo)
        pthread_join(echo, NULL);
    zmq_ctx_term(r.context);
    free(r.all);
    free(r.sent_ns);
    free(r.request);
    return 0;
}
