// The load generator: its histogram against sorted values, and that it believes nothing: a server
// that answers wrongly is counted as wrong.
#include "unit.h"

#include "base/os.h"
#include "base/os_net.h"
#include "cli/bench.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static void test_buckets(void **state)
{
    // Each value falls into a bucket whose top is not below it and at most 1/512 above.
    for (unsigned shift = 0; shift < 64; shift++) {
        for (uint64_t low = 0; low < 3; low++) {
            uint64_t v = (1ull << shift) + (low == 0   ? 0
                                            : low == 1 ? (1ull << shift) / 3
                                                       : (1ull << shift) - 1);
            size_t b = histogram_bucket(v);
            assert_true(b < HISTOGRAM_BUCKETS);
            assert_true(histogram_top(b) >= v);
            assert_true(histogram_top(b) - v <= v / HISTOGRAM_HALF);
            assert_true(b == 0 || histogram_top(b - 1) < v);
        }
    }
    for (size_t b = 0; b < HISTOGRAM_BUCKETS; b++)
        assert_int_equal(histogram_bucket(histogram_top(b)), b);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void test_percentiles(void **state)
{
    enum { N = 20000 };
    static uint64_t values[N];
    uint64_t seed;
    os_random(os_real(), &seed, sizeof seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    srandom((unsigned)seed);
    struct histogram *h = calloc(1, sizeof *h), *half = calloc(1, sizeof *h);
    assert_int_equal(histogram_at(h, 0.5), 0);
    for (size_t i = 0; i < N; i++) {
        values[i] = (uint64_t)random() >> (random() % 31);
        histogram_add(i % 2 ? h : half, values[i], 1);
    }
    histogram_merge(h, half);
    qsort(values, N, sizeof *values, by_value);
    static const double shares[] = {0.001, 0.5, 0.95, 0.99, 0.999, 1};
    for (size_t i = 0; i < 6; i++) {
        uint64_t exact = values[(size_t)(shares[i] * N + 0.999999) - 1];
        uint64_t got = histogram_at(h, shares[i]);
        assert_in_range(got, exact, exact + exact / HISTOGRAM_HALF);
    }
    assert_int_equal(histogram_at(h, 1), values[N - 1]);
    free(h);
    free(half);
}

// A server that answers each binary GET of "key" and 12 digits with `size` bytes of digits.
struct fake {
    int listener;
    char addr[64];
    pthread_t thread;
    size_t size;
    enum { RIGHT, WRONG, EMPTY, HUGE, SILENT_AFTER_10 } mode;
};

static bool answer(struct fake *f, int fd, const uint8_t *request, size_t count)
{
    uint8_t reply[256] = {0};
    size_t sent;
    store32(reply, f->mode == EMPTY ? 0 : f->mode == HUGE ? UINT32_MAX : (uint32_t)f->size);
    memset(reply + 4, 'v', f->size);
    memcpy(reply + 4, request + 9, 12); // after type, length and "key"
    if (f->mode == WRONG && count % 10 == 9)
        reply[4] = 'X';
    if (f->mode == SILENT_AFTER_10 && count == 10)
        return false;
    size_t n = f->mode == EMPTY ? 4 : 4 + f->size;
    size_t first = count % n; // in two pieces, cut anywhere
    return (!first || !os_send(fd, reply, first, &sent)) &&
           !os_send(fd, reply + first, n - first, &sent);
}

static void *fake_main(void *arg)
{
    struct fake *f = arg;
    int fd;
    if (os_accept(f->listener, &fd) || os_set_nonblocking(fd, false))
        return NULL;
    uint8_t request[21];
    size_t have = 0, got;
    for (size_t count = 0; !os_recv(fd, request + have, sizeof request - have, &got) && got;) {
        have += got;
        if (have < sizeof request)
            continue;
        have = 0;
        if (!answer(f, fd, request, count++))
            break;
    }
    os_close_socket(fd);
    return NULL;
}

static struct bench_result *run(struct fake *f, struct bench_spec s)
{
    struct errmsg msg;
    struct bench_result *r = malloc(sizeof *r);
    assert_ok(os_listen("127.0.0.1:0", 16, &f->listener, &msg));
    assert_ok(os_set_nonblocking(f->listener, false));
    assert_ok(os_bound_address(f->listener, f->addr, sizeof f->addr));
    assert_int_equal(pthread_create(&f->thread, NULL, fake_main, f), 0);
    s.server = f->addr;
    s.connections = s.threads = s.items = 1;
    s.keys = 1000;
    s.value_size = 40;
    assert_ok(bench_run(&s, r, NULL, NULL, &msg));
    pthread_join(f->thread, NULL);
    os_close_socket(f->listener);
    return r;
}

static void test_right(void **state)
{
    struct fake f = {.size = 40, .mode = RIGHT};
    struct bench_result *r = run(&f, (struct bench_spec){.pipeline = 7, .requests = 100});
    assert_int_equal(r->counts.requests, 100);
    assert_int_equal(r->counts.hits, 100);
    assert_int_equal(r->counts.errors, 0);
    assert_int_equal(r->counts.bytes_out, 2100);
    assert_int_equal(r->counts.bytes_in, 4400);
    assert_int_equal(r->latency.count, 100);
    assert_true(r->elapsed_ns > 0 && r->latency.max <= r->elapsed_ns);
    free(r);
}

static void test_by_time(void **state)
{
    struct fake f = {.size = 40, .mode = RIGHT};
    struct bench_result *r =
        run(&f, (struct bench_spec){.pipeline = 2, .duration_ms = 100, .warmup_ms = 20});
    assert_true(r->counts.requests > 0);
    assert_int_equal(r->counts.errors, 0);
    assert_in_range(r->elapsed_ns, 80000000, 5000000000);
    free(r);
}

static void test_wrong_values_are_errors(void **state)
{
    struct fake f = {.size = 40, .mode = WRONG};
    struct bench_result *r = run(&f, (struct bench_spec){.pipeline = 5, .requests = 100});
    assert_int_equal(r->counts.errors, 10);
    assert_int_equal(r->counts.hits, 90);
    assert_int_equal(r->counts.requests, 90);
    assert_non_null(strstr(r->error, "not the value"));
    free(r);

    struct fake g = {.size = 39, .mode = RIGHT}; // right digits, wrong size
    r = run(&g, (struct bench_spec){.pipeline = 5, .requests = 100});
    assert_int_equal(r->counts.errors, 100);
    free(r);
}

static void test_misses(void **state)
{
    struct fake f = {.mode = EMPTY};
    struct bench_result *r = run(&f, (struct bench_spec){.pipeline = 5, .requests = 50});
    assert_int_equal(r->counts.misses, 50);
    assert_int_equal(r->counts.requests, 50);
    free(r);
    struct fake g = {.mode = EMPTY};
    r = run(&g, (struct bench_spec){.pipeline = 5, .requests = 50, .expect_hits = true});
    assert_int_equal(r->counts.misses, 0);
    assert_int_equal(r->counts.errors, 50);
    free(r);
}

static void test_broken_servers(void **state)
{
    struct fake f = {.size = 40, .mode = HUGE};
    struct bench_result *r = run(&f, (struct bench_spec){.pipeline = 5, .requests = 50});
    assert_int_equal(r->counts.errors, 5); // the batch; the connection is given up
    assert_int_equal(r->counts.requests, 0);
    free(r);
    struct fake g = {.size = 40, .mode = SILENT_AFTER_10};
    r = run(&g, (struct bench_spec){.pipeline = 8, .requests = 50});
    assert_int_equal(r->counts.requests, 10);
    assert_int_equal(r->counts.errors, 6);
    free(r);
}

static void test_no_server(void **state)
{
    struct errmsg msg;
    struct bench_result *r = malloc(sizeof *r);
    struct bench_spec s = {.server = "127.0.0.1:1",
                           .connections = 4,
                           .threads = 2,
                           .pipeline = 1,
                           .items = 1,
                           .requests = 1,
                           .keys = 1,
                           .value_size = 1};
    assert_err(bench_run(&s, r, NULL, NULL, &msg), ERR_NETWORK);
    assert_non_null(strstr(msg.text, "127.0.0.1:1"));
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_percentiles),
        cmocka_unit_test(test_right),
        cmocka_unit_test(test_by_time),
        cmocka_unit_test(test_wrong_values_are_errors),
        cmocka_unit_test(test_misses),
        cmocka_unit_test(test_broken_servers),
        cmocka_unit_test(test_no_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
