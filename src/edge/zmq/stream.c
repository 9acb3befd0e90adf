// Event streams: the logs "events" and "failures" of the keyspace "events", whose server-given
// timestamps are strictly rising microseconds. Other protocols see them as logs.
//
// A reply with events is built in one block, into which each event is copied once, from the blocks
// that the table holds; libzmq takes the block as it is:
//
//     GET_*    u8 0, u64 count, then the events' bytes one after another
//     READ_*   u8 0, u64 timestamp to go on after, u64 count, then for each event
//              u64 timestamp, u64 length, the bytes
//
// What lies in one page in RAM is answered at once; what needs more, on a thread of the commit
// room.
#include "edge/zmq/zmq_int.h"
#include "base/assert.h"
#include "base/log.h"
#include <inttypes.h>
#include <stdlib.h>

#define KEYSPACE     "events"
#define ROOM_STEP_US 10000u // between two tries to make it at start
#define ROOM_TRIES   6000u
#define STATUS       1u  // bytes before the result
#define GET_HEAD     8u  // u64 count
#define READ_HEAD    16u // u64 timestamp, u64 count
#define EVENT_HEAD   16u // of each event in READ: u64 timestamp, u64 length

static bool about_failures(enum varve_zmq_command id)
{
    return id == VARVE_ZMQ_PUT_FAILURE || id == VARVE_ZMQ_GET_FAILURES ||
           id == VARVE_ZMQ_GET_ALL_FAILURES || id == VARVE_ZMQ_READ_FAILURES ||
           id == VARVE_ZMQ_TRIM_FAILURES;
}

static struct log_name name_of(enum varve_zmq_command id)
{
    return (struct log_name){slice_str(KEYSPACE),
                             slice_str(about_failures(id) ? "failures" : "events")};
}

static void raise_dep(struct request *q, uint64_t dep)
{
    if (q->dep < dep)
        q->dep = dep;
}

// ---- the keyspace

// Makes the keyspace, or gives it the policy that is configured.
static enum err make_keyspace(struct zmq_edge *z, struct errmsg *msg)
{
    struct slice name = slice_str(KEYSPACE);
    struct log_policy p = {.max_age_ms = z->o.event_max_age_ms,
                           .max_bytes = z->o.event_max_bytes,
                           .server_time = true};
    struct keyspace_view v;
    uint64_t created, dep = 0;
    enum err e = commit_keyspace_create(z->o.commit, name, &p, &created, &dep, msg);
    if (e == ERR_EXISTS && !(e = commit_keyspace_get(z->o.commit, name, &v, &dep, msg))) {
        if (!v.policy.server_time)
            return err_set(msg, ERR_INVALID,
                           "zmq: the keyspace \"%s\" has timestamps given by its clients; its "
                           "streams need the server's (--zmq off starts without them)",
                           KEYSPACE);
        p.max_records = v.policy.max_records;
        if (p.max_age_ms != v.policy.max_age_ms || p.max_bytes != v.policy.max_bytes)
            e = commit_keyspace_policy(z->o.commit, name, &p, &dep, msg);
    }
    if (e)
        return err_set(msg, e, "zmq: the keyspace \"%s\": %s", KEYSPACE, err_text(e));
    commit_kick(z->o.commit);
    return commit_wait(z->o.commit, dep);
}

// ---- putting

void stream_put(struct request *q)
{
    struct zmq_edge *z = q->edge;
    struct log_input record = {.bytes = q->call.value, .nonce = NONCE_NONE};
    struct log_append append = {.name = name_of(q->call.id), .records = &record, .count = 1};
    struct txn_op op = {.kind = TXN_APPEND, .append = &append};
    struct txn t = {.ops = &op, .count = 1};
    struct errmsg msg = {""};
    enum err e = commit_txn(z->o.commit, &t, &q->dep, &msg);
    if (e == ERR_NO_KEYSPACE && !(e = make_keyspace(z, &msg))) // the disk was full at start
        e = commit_txn(z->o.commit, &t, &q->dep, &msg);
    if (request_retry(q, &t, e))
        return;
    z->wrote = true;
    uint8_t *p = NULL;
    if (e)
        answer_fail(q, e, &msg);
    else
        p = answer_begin(q, 8);
    if (p)
        store64(p, (uint64_t)append.timestamp);
}

// ---- getting

// A reply under way.
struct gather {
    struct request *q;
    bool sized;        // READ: timestamps and lengths go along
    size_t head;       // bytes before the events, with the status
    uint64_t max;      // bytes of events, with their own heads
    struct parcel *p;  // NULL: none yet
    size_t cap;        // of p->bytes
    size_t size;       // used, the head counted
    uint64_t count;    // events
    int64_t last_time; // of the last one
};

// Makes room for `more` bytes; `hint`: the size that it may grow to.
static enum err make_room(struct gather *g, uint64_t more, uint64_t hint)
{
    if (g->size - g->head + more > g->max)
        return ERR_TOO_BIG;
    size_t want = g->size + (size_t)more;
    if (g->p && want <= g->cap)
        return ERR_OK;
    if (want < 2 * g->cap)
        want = 2 * g->cap;
    if (want < hint && hint <= g->max)
        want = (size_t)hint;
    struct parcel *p = realloc(g->p, sizeof *p + want);
    if (!p)
        return ERR_NO_MEMORY;
    g->p = p;
    g->cap = want;
    return ERR_OK;
}

// The records of [p, end), without what surrounds them.
static uint8_t *copy_events(uint8_t *out, const uint8_t *p, const uint8_t *end)
{
    while (p < end) {
        size_t n = load32(p + 32);
        memcpy(out, p + RECORD_HEAD, n);
        out += n;
        p += RECORD_OVERHEAD + n;
    }
    return out;
}

static uint8_t *copy_sized(uint8_t *out, const uint8_t *p, const uint8_t *end)
{
    while (p < end) {
        struct record r = record_read(p);
        store64(out, (uint64_t)r.timestamp);
        store64(out + 8, r.bytes.n);
        memcpy(out + EVENT_HEAD, r.bytes.p, r.bytes.n);
        out += EVENT_HEAD + r.bytes.n;
        p += record_size(r.bytes.n);
    }
    return out;
}

static enum err take_page(struct gather *g, const struct log_page *page, uint64_t hint)
{
    uint64_t bytes = page->bytes - page->records * RECORD_OVERHEAD;
    if (g->sized)
        bytes += page->records * EVENT_HEAD;
    enum err e = make_room(g, bytes, hint);
    if (e)
        return e;
    uint8_t *out = g->p->bytes + g->size;
    for (size_t i = 0; i < page->spans.count; i++) {
        const struct log_span *s = &page->spans.v[i];
        const uint8_t *begin = s->block->bytes + s->begin, *end = s->block->bytes + s->end;
        out = g->sized ? copy_sized(out, begin, end) : copy_events(out, begin, end);
    }
    if (page->spans.count) {
        const struct log_span *last = &page->spans.v[page->spans.count - 1];
        const uint8_t *end = last->block->bytes + last->end;
        g->last_time = record_read(end - record_span_before(end)).timestamp;
    }
    g->size += (size_t)bytes;
    g->count += page->records;
    VERIFY(out == g->p->bytes + g->size);
    return ERR_OK;
}

// Where a request's reading begins.
static struct log_from from_of(struct request *q)
{
    const struct zmq_options *o = &q->edge->o;
    const struct call *c = &q->call;
    struct log_from from = {.direction = LOG_FORWARDS, .start = LOG_START_TIME};
    if (c->id == VARVE_ZMQ_GET_ALL_EVENTS || c->id == VARVE_ZMQ_GET_ALL_FAILURES)
        from.start = LOG_START_FIRST;
    else if (c->has_time)
        from.time = c->time < INT64_MAX ? c->time + 1 : c->time; // strictly after
    else
        from.time = (int64_t)(os_wall_us(o->os) -
                              (about_failures(c->id) ? o->failure_window_us : o->event_window_us));
    return from;
}

// Where a stream of several pages ends for this reply, and what all of it would take. A page's own
// end will not do: one that waits for nothing may know of less than others were told is stored.
static void look_ahead(struct gather *g, const struct log_name *name, uint64_t *end, uint64_t *hint)
{
    struct log_meta m;
    uint64_t dep = 0;
    if (commit_log_meta(g->q->edge->o.commit, name, &m, &dep, NULL))
        return; // it has pages, so it is there
    raise_dep(g->q, dep);
    *end = m.end_offset;
    *hint = g->head + m.bytes - m.records * RECORD_OVERHEAD;
}

// ERR_COLD: only where it may block.
static enum err read_pages(struct gather *g, bool may_block, struct errmsg *msg)
{
    struct request *q = g->q;
    struct log_query query = {
        .name = name_of(q->call.id),
        .from = from_of(q),
        .max_records = LIMIT_PAGE_RECORDS,
        .max_bytes = LIMIT_PAGE_BYTES,
        .may_block = may_block,
    };
    if (g->sized && q->call.max_bytes < LIMIT_PAGE_BYTES)
        query.max_bytes = q->call.max_bytes ? q->call.max_bytes : 1;
    char token[LOG_TOKEN];
    uint64_t end = 0, hint = 0; // end: of the log when the reading began
    for (;;) {
        struct log_page page;
        uint64_t dep = 0;
        enum err e = commit_log_read(q->edge->o.commit, &query, &page, &dep, msg);
        raise_dep(q, dep);
        if (e)
            return e;
        bool more = page.more && !g->sized;
        if (more && !may_block)
            e = ERR_COLD;
        else if (more && end == 0)
            look_ahead(g, &query.name, &end, &hint);
        if (!e)
            e = take_page(g, &page, hint);
        more = more && page.next < end;
        memcpy(token, page.continuation, sizeof token);
        query.continuation = slice_of(token, strnlen(token, sizeof token));
        log_page_release(&page);
        if (e || !more)
            return e;
    }
}

static void finish_gather(struct gather *g)
{
    uint8_t *head = g->p->bytes + STATUS;
    if (g->sized) {
        store64(head, (uint64_t)g->last_time);
        head += 8;
    }
    store64(head, g->count);
    g->p->size = g->size;
    (void)answer_parcel(g->q, g->p);
}

static void get(struct request *q, bool may_block)
{
    const struct call *c = &q->call;
    bool sized = c->id == VARVE_ZMQ_READ_EVENTS || c->id == VARVE_ZMQ_READ_FAILURES;
    struct gather g = {.q = q,
                       .sized = sized,
                       .head = STATUS + (sized ? READ_HEAD : GET_HEAD),
                       .max = q->edge->o.max_reply,
                       .last_time = c->time};
    struct errmsg msg = {""};
    g.size = g.head;
    enum err e = read_pages(&g, may_block, &msg);
    if (e == ERR_OK) {
        finish_gather(&g);
        return;
    }
    free(g.p);
    if (e == ERR_TOO_BIG)
        (void)err_set(&msg, e,
                      "%s: the events have more than %" PRIu64 " bytes (zmq.max_reply); ask for "
                      "fewer, or with READ_%s for one page after the other",
                      call_name(c->id), g.max, about_failures(c->id) ? "FAILURES" : "EVENTS");
    if (e == ERR_COLD && !may_block)
        return; // the caller goes on
    answer_fail(q, e, &msg);
}

static void get_blocking(void *arg)
{
    get(arg, true);
    request_wake(arg);
}

void stream_get(struct request *q)
{
    get(q, false);
    if (!q->answered)
        request_background(q, get_blocking);
}

// ---- taking out, on a thread of the commit room

// Gives a request that took something out its reply, or lets it wait for room and run again.
static void taken_out(struct request *q, enum err e, const struct errmsg *msg, bool was_there)
{
    bool counts = q->call.id == VARVE_ZMQ_DELETE_EVENT;
    commit_kick(q->edge->o.commit);
    if (e == ERR_FULL && !commit_wait_room(q->edge->o.commit, request_woken, q))
        return;
    if (e) {
        answer_fail(q, e, msg);
    } else {
        uint8_t *p = answer_begin(q, counts);
        if (p && counts)
            p[0] = was_there;
    }
    request_wake(q);
}

// The offset of the event with this very timestamp. ERR_MISSING.
static enum err find_event(struct request *q, const struct log_name *name, uint64_t *offset,
                           struct errmsg *msg)
{
    struct log_query query = {
        .name = *name,
        .from = {.start = LOG_START_TIME, .time = q->call.time},
        .max_records = 1,
        .max_bytes = 1,
        .may_block = true,
    };
    struct log_page page;
    struct record r;
    uint64_t dep = 0;
    enum err e = commit_log_read(q->edge->o.commit, &query, &page, &dep, msg);
    raise_dep(q, dep);
    if (e)
        return e;
    e = log_page_next(&page, &r) && r.timestamp == q->call.time ? ERR_OK : ERR_MISSING;
    if (!e)
        *offset = r.offset;
    log_page_release(&page);
    return e;
}

static void delete_blocking(void *arg)
{
    struct request *q = arg;
    struct log_name name = name_of(q->call.id);
    struct errmsg msg = {""};
    uint64_t offset, dep = 0;
    enum err e = find_event(q, &name, &offset, &msg);
    if (!e)
        e = commit_log_erase(q->edge->o.commit, &name, offset, &dep, &msg);
    raise_dep(q, dep);
    taken_out(q, e == ERR_MISSING ? ERR_OK : e, &msg, e == ERR_OK);
}

static void trim_blocking(void *arg)
{
    struct request *q = arg;
    struct log_name name = name_of(q->call.id);
    struct log_from to = {.start = LOG_START_TIME, .time = q->call.time};
    struct errmsg msg = {""};
    uint64_t first, dep = 0;
    enum err e = commit_log_trim(q->edge->o.commit, &name, &to, &first, &dep, &msg);
    raise_dep(q, dep);
    taken_out(q, e == ERR_MISSING ? ERR_OK : e, &msg, true);
}

void stream_delete(struct request *q)
{
    request_background(q, delete_blocking);
}

void stream_trim(struct request *q)
{
    request_background(q, trim_blocking);
}

// ---- at start

enum err stream_prepare(struct zmq_edge *z, struct errmsg *msg)
{
    enum err e = make_keyspace(z, msg);
    // What was replayed may be more than the limits take: a checkpoint makes room.
    for (unsigned tries = 0; e == ERR_FULL && tries < ROOM_TRIES; tries++) {
        os_sleep_us(z->o.os, ROOM_STEP_US);
        e = make_keyspace(z, msg);
    }
    // A full disk does not keep what is there from being read. As long as the keyspace is missing,
    // requests about streams are told so.
    if (e == ERR_NO_SPACE) {
        log_event(LOG_WARN, "zmq-streams-not-prepared", "reason=%s", log_quote(msg->text));
        return ERR_OK;
    }
    return e;
}
