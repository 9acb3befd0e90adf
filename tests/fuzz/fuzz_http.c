// The HTTP edge, over the unit tests' fake connection and commit room. The first byte seeds the
// splits, the rest is what the client sends. Properties: any split, with callbacks at once or late,
// gives the same replies; replies are framed and hold JSON that parses; all input is consumed,
// refused or waits for more of it.
#include "fuzz.h"
#include "base/json.h"
#include "edge/http/http.h"
#include "fake_commit.h"
#include "fake_conn.h"
#include "fake_rel.h"

#define MAX_INPUT 32768u

struct world {
    struct commit *commit;
    struct http *http;
    struct conn *conn;
    struct buf out; // all that was sent
};

// A relation with a list that is on disk only.
static void relate(struct commit *c)
{
    static const uint8_t members[16] = {3, [8] = 5};
    struct rel_group group = {.from = 1, .members = members, .count = 2};
    struct rel_edit e = {.relation = slice_str("cold"), .groups = &group, .count = 1};
    fake_rels_apply(fake_commit_rels(c), &e, true);
    fake_rel_cold(c, "cold", 1, false);
}

static void world_open(struct world *w)
{
    static const uint8_t raw[] = {0xff, 0, 'k'};
    static const uint8_t five[8] = {5};
    w->commit = fake_commit_new();
    fake_commit_set(w->commit, slice_str("a"), VALUE_STRING, slice_str("x\"y\n"), 1);
    fake_commit_set(w->commit, slice_str("n"), VALUE_INT, slice_of(five, 8), 3);
    fake_commit_set(w->commit, slice_of(raw, 3), VALUE_BYTES, slice_of(raw, 2), 6);
    fake_commit_set(w->commit, slice_str("cold"), VALUE_BYTES, slice_str("ice"), 7);
    fake_commit_cold(w->commit, "cold");
    relate(w->commit);
    struct http_options o = {
        .commit = w->commit, .max_key = 16, .max_value = 64, .max_request = 1000};
    VERIFY(http_new(&w->http, &o) == ERR_OK);
    w->conn = fake_conn_new(http_protocol(w->http));
    buf_init(&w->out, 256u << 20);
}

static void world_close(struct world *w)
{
    buf_release(&w->out);
    fake_conn_free(w->conn);
    http_free(w->http);
    fake_commit_free(w->commit);
}

// Lets everything that was put off happen, and takes the replies.
static void settle(struct world *w)
{
    struct buf *out = conn_out(w->conn);
    do {
        VERIFY(buf_append(&w->out, buf_head(out), buf_len(out)) == ERR_OK);
        fake_conn_take(w->conn);
        fake_commit_work(w->commit);
        fake_conn_run(w->conn);
    } while (buf_len(out) || (w->conn->waiting && !w->conn->closed));
}

// "100 Continue" is sent or not according to what had arrived; no body can hold it, for JSON
// escapes the line ends.
static void drop_continues(struct buf *out)
{
    static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    size_t n = sizeof line - 1;
    uint8_t *at = buf_head(out);
    while (at && (at = memmem(at, (size_t)(buf_tail(out) - at), line, n))) {
        memmove(at, at + n, (size_t)(buf_tail(out) - at) - n);
        out->end -= n;
    }
}

static void check_replies(struct slice out)
{
    struct json_parser *p = json_parser_new(1u << 20);
    VERIFY(p);
    while (out.p && out.n) {
        const uint8_t *end = memmem(out.p, out.n, "\r\n\r\n", 4);
        VERIFY(end && memcmp(out.p, "HTTP/1.1 ", 9) == 0);
        size_t head = (size_t)(end - out.p) + 4;
        if (memmem(out.p, head, "text/event-stream", 17))
            break; // to the end of the connection
        const char *length = memmem(out.p, head, "\r\nContent-Length:", 17);
        size_t body = length ? strtoul(length + 17, NULL, 10) : 0;
        VERIFY(out.n - head >= body);
        if (memmem(out.p, head, "application/json", 16)) {
            uint8_t *text = fuzz_copy(out.p + head, body, BUF_PADDING, 0);
            struct json root;
            VERIFY(json_parse(p, slice_of(text, body), &root, NULL) == ERR_OK);
            free(text);
        }
        out = slice_of(out.p + head + body, out.n - head - body);
    }
    json_parser_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > MAX_INPUT)
        return 0;
    uint32_t rng = data[0] + 1u;
    data++;
    size--;
    struct world whole, split;
    world_open(&whole);
    fake_conn_feed(whole.conn, data, size);
    settle(&whole);
    fake_conn_eof(whole.conn);
    settle(&whole);
    world_open(&split);
    fake_commit_defer(split.commit, true);
    for (size_t at = 0, n; at < size && !split.conn->closed; at += n) {
        rng = rng * 1664525u + 1013904223u;
        n = 1 + (rng >> 24) % (rng >> 31 ? 5 : 200);
        if (n > size - at)
            n = size - at;
        fake_conn_feed(split.conn, data + at, n);
        if (rng >> 20 & 1)
            settle(&split);
    }
    settle(&split);
    fake_conn_eof(split.conn);
    settle(&split);
    VERIFY(whole.conn->closed && split.conn->closed && !whole.conn->dropped);
    drop_continues(&whole.out);
    drop_continues(&split.out);
    VERIFY(slice_equal(buf_slice(&whole.out), buf_slice(&split.out)));
    VERIFY(fake_commit_seq(whole.commit) == fake_commit_seq(split.commit));
    if (!memmem(data, size, "HEAD", 4))
        check_replies(buf_slice(&whole.out));
    world_close(&whole);
    world_close(&split);
    return 0;
}
