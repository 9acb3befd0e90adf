// The binary edge, over the unit tests' fake connection and commit room. The first byte seeds the
// splits, the rest is what the client sends. Properties: any split, with callbacks at once or late,
// gives the same replies; each is framed; the input is executed, refused or waits for more of it,
// and never fills its buffer. A tail that follows ends with the next request when that is seen, so
// what it gives before depends on the split, and only the framing is looked at.
#include "fuzz.h"
#include "edge/binary/binary.h"
#include "edge/binary/frame.h"
#include "fake_commit.h"
#include "fake_conn.h"

#define MAX_INPUT 16384u

static const struct frame_limits limits = {16, 64, 240};

struct world {
    struct commit *commit;
    struct binary *binary;
    struct conn *conn;
    struct buf out; // all that was sent
};

static enum err stat_text(void *arg, struct buf *out)
{
    return buf_append(out, "up 1\n", 5);
}

static void world_open(struct world *w)
{
    static const uint8_t five[8] = {5};
    w->commit = fake_commit_new();
    fake_commit_apart(w->commit);
    fake_commit_set(w->commit, slice_str("a"), VALUE_STRING, slice_str("text"), 1);
    fake_commit_set(w->commit, slice_str("n"), VALUE_INT, slice_of(five, 8), 3);
    fake_commit_set(w->commit, slice_str("cold"), VALUE_BYTES, slice_str("ice"), 7);
    fake_commit_cold(w->commit, "cold");
    // So small a request holds at most 8 operations, as many as the fake remembers.
    struct binary_options o = {.commit = w->commit,
                               .max_key = limits.key,
                               .max_value = limits.value,
                               .max_request = limits.request,
                               .stat = stat_text};
    VERIFY(binary_new(&w->binary, &o) == ERR_OK);
    w->conn = fake_conn_new(binary_protocol(w->binary));
    buf_init(&w->out, 256u << 20);
}

static void world_close(struct world *w)
{
    buf_release(&w->out);
    fake_conn_free(w->conn);
    binary_free(w->binary);
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
    } while (buf_len(out) || w->conn->resumes || (w->conn->waiting && !w->conn->closed));
    VERIFY(w->conn->closed || buf_len(conn_in(w->conn)) < binary_protocol(w->binary)->in_max);
}

// As much at a time as the input buffer takes.
static void feed(struct world *w, const uint8_t *p, size_t n)
{
    while (n && !w->conn->closed) {
        size_t part = binary_protocol(w->binary)->in_max - buf_len(conn_in(w->conn));
        if (part == 0) {
            settle(w);
            continue;
        }
        if (part > n)
            part = n;
        fake_conn_feed(w->conn, p, part);
        p += part;
        n -= part;
    }
}

static bool has_following_tail(struct slice in)
{
    struct frame f;
    for (; frame_parse(in, &limits, &f, NULL) == ERR_OK; in.p += f.size, in.n -= f.size)
        if (f.type == FRAME_LOG_TAIL && f.arg[2].n > 3 && f.arg[2].p[3])
            return true;
    return false;
}

static void check_framing(struct slice out)
{
    while (out.n) {
        VERIFY(out.n >= 4 && out.n - 4 >= load32(out.p));
        size_t n = 4 + (size_t)load32(out.p);
        out = slice_of(out.p + n, out.n - n);
    }
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
    feed(&whole, data, size);
    settle(&whole);
    world_open(&split);
    fake_commit_defer(split.commit, true);
    for (size_t at = 0, n; at < size && !split.conn->closed; at += n) {
        rng = rng * 1664525u + 1013904223u;
        n = 1 + (rng >> 24) % (rng >> 31 ? 5 : 200);
        if (n > size - at)
            n = size - at;
        feed(&split, data + at, n);
        if (rng >> 20 & 1)
            settle(&split);
    }
    settle(&split);
    VERIFY(!whole.conn->dropped && whole.conn->closed == split.conn->closed);
    // One hold is the watch of a tail that follows.
    bool tail = has_following_tail(slice_of(data, size));
    VERIFY(whole.conn->holds <= tail && split.conn->holds <= tail);
    VERIFY(tail || slice_equal(buf_slice(&whole.out), buf_slice(&split.out)));
    check_framing(buf_slice(&whole.out));
    check_framing(buf_slice(&split.out));
    world_close(&whole);
    world_close(&split);
    return 0;
}
