#include "http_world.h"

static enum err metrics(void *arg, struct buf *out)
{
    return commit_metrics(arg, out);
}

void world_open(struct world *w)
{
    static const uint8_t raw[] = {0xff, 0, 'k'};
    static const uint8_t five[8] = {5};
    static const uint8_t half[8] = {0, 0, 0, 0, 0, 0, 0xe0, 0x3f};
    w->commit = fake_commit_new();
    struct commit *c = w->commit;
    fake_commit_set(c, slice_str("a"), VALUE_STRING, slice_str("x\"y"), 1);
    fake_commit_set(c, slice_str("a b"), VALUE_BOOL, slice_of("\1", 1), 2);
    fake_commit_set(c, slice_str("n"), VALUE_INT, slice_of(five, 8), 3);
    fake_commit_set(c, slice_str("f"), VALUE_FLOAT, slice_of(half, 8), 4);
    fake_commit_set(c, slice_str("l"), VALUE_ARRAY, slice_str("[1,2.5]"), 5);
    fake_commit_set(c, slice_of(raw, 3), VALUE_BYTES, slice_of(raw, 2), 6);
    fake_commit_set(c, slice_str("cold"), VALUE_BYTES, slice_str("ice"), 7);
    fake_commit_cold(c, "cold");
    struct http_options o = {.commit = c,
                             .max_key = 64,
                             .max_value = 512,
                             .max_request = MAX_BODY,
                             .metrics = metrics,
                             .arg = c};
    assert_ok(http_new(&w->http, &o));
    w->conn = fake_conn_new(http_protocol(w->http));
}

void world_close(struct world *w)
{
    fake_conn_free(w->conn);
    http_free(w->http);
    fake_commit_free(w->commit);
}

void feed(struct world *w, const char *text)
{
    fake_conn_feed(w->conn, text, strlen(text));
}

void summary(struct world *w, char *text, size_t cap)
{
    struct buf *out = conn_out(w->conn);
    size_t n = 0;
    text[0] = 0;
    while (buf_len(out)) {
        char head[1024];
        const uint8_t *end = memmem(buf_head(out), buf_len(out), "\r\n\r\n", 4);
        assert_non_null(end);
        size_t size = (size_t)(end - buf_head(out)) + 4;
        assert_true(size < sizeof head);
        memcpy(head, buf_head(out), size);
        head[size] = 0;
        unsigned status = 0;
        assert_int_equal(sscanf(head, "HTTP/1.1 %u ", &status), 1);
        const char *length = strstr(head, "\r\nContent-Length:");
        size_t body = length ? strtoul(length + 17, NULL, 10) : 0;
        assert_true(length || status == 204 || status == 100);
        assert_true(buf_len(out) >= size + body);
        if (text)
            n += (size_t)snprintf(text + n, cap - n, "%u %.*s\n", status, (int)body,
                                  (const char *)buf_head(out) + size);
        assert_true(n < cap);
        buf_consume(out, size + body);
    }
    if (w->conn->closed)
        snprintf(text + n, cap - n, "closed\n");
}

char got[GOT_SIZE];

void assert_output(struct world *w, const char *want)
{
    summary(w, got, sizeof got);
    assert_string_equal(got, want);
}

static bool begins_request(const char *s)
{
    static const char *const begins[] = {"@", "GET ", "HEAD ", "POST ", "PUT ", "DELETE "};
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        if (strncmp(s, begins[i], strlen(begins[i])) == 0)
            return true;
    return false;
}

size_t expand(const char *s, char *to, size_t cap)
{
    size_t n = 0;
    while (*s) {
        if (*s != '@') {
            assert_true(n + 1 < cap);
            to[n++] = *s++;
            continue;
        }
        const char *bar = strchr(s, '|');
        const char *end = bar + 1;
        while (*end && !begins_request(end))
            end++;
        n += (size_t)snprintf(to + n, cap - n, "%s%.*s " H "Content-Length: %zu\r\n\r\n%.*s",
                              s[1] == '/' ? "POST " : "", (int)(bar - s - 1), s + 1,
                              (size_t)(end - bar - 1), (int)(end - bar - 1), bar + 1);
        s = end;
    }
    to[n] = 0;
    return n;
}

static void check_output(struct world *w, const struct exchange *x, const char *how, size_t split)
{
    summary(w, got, sizeof got);
    bool good = x->output ? strcmp(got, x->output) == 0
                          : strncmp(got, "400 ", 4) == 0 && strstr(got, "closed");
    if (!good)
        print_error("%s %zu\n--- sent\n%s\n--- wanted\n%s--- got\n%s", how, split, x->input,
                    x->output ? x->output : "400 and closed\n", got);
    assert_true(good);
}

void run_exchange(const struct exchange *x)
{
    char text[8192];
    struct world w;
    size_t n = expand(x->input, text, sizeof text);
    for (size_t split = 0; split < n; split++) { // 0 is whole
        world_open(&w);
        if (split)
            fake_conn_feed(w.conn, text, split);
        if (!w.conn->closed)
            fake_conn_feed(w.conn, text + split, n - split);
        check_output(&w, x, "split at", split);
        world_close(&w);
    }
    world_open(&w);
    for (size_t i = 0; i < n && !w.conn->closed; i++)
        fake_conn_feed(w.conn, text + i, 1);
    check_output(&w, x, "byte by byte", n);
    world_close(&w);
    // With its callbacks late, between two other requests.
    world_open(&w);
    feed(&w, GET("/healthz"));
    buf_clear(conn_out(w.conn));
    fake_commit_defer(w.commit, true);
    memcpy(text + n, GET("/v1/get?key=n"), sizeof GET("/v1/get?key=n"));
    fake_conn_feed(w.conn, text, n + strlen(text + n));
    for (int i = 0; i < 8; i++) {
        fake_commit_work(w.commit);
        fake_conn_run(w.conn);
    }
    size_t body = buf_len(conn_out(w.conn));
    if (!w.conn->closed) {
        const char *last = "\"version\":";
        assert_non_null(memmem(buf_head(conn_out(w.conn)), body, last, strlen(last)));
    }
    fake_commit_work(w.commit);
    world_close(&w);
}
