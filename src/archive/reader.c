// Pages. A page is gathered object by object: find the one that holds the next offset (seek.c), get
// its bytes (fetch.c), take records while there is room. While that goes on the objects after it
// are fetched ahead. When an object went between its listing and its get it was merged: the listing
// is thrown away and the page goes on from the same offset.
#include "archive/reader_int.h"
#include "base/limits.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { TRIES = 8 };

enum err archive_reader_new(struct archive_reader **out, struct object_store *store,
                            const struct archive_reader_options *options, struct errmsg *msg)
{
    struct archive_reader *r = *out = calloc(1, sizeof *r);
    if (!r)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    r->store = store;
    if (options)
        r->options = *options;
    struct archive_reader_options *o = &r->options;
    o->default_page_size = o->default_page_size ? o->default_page_size : 1000;
    o->page_bytes = o->page_bytes ? o->page_bytes : LIMIT_PAGE_BYTES;
    o->ahead = o->ahead ? o->ahead : 32;
    o->ahead_bytes = o->ahead_bytes ? o->ahead_bytes : 64 << 20;
    return ERR_OK;
}

void archive_reader_free(struct archive_reader *r)
{
    if (!r)
        return;
    fetch_release(r);
    window_release(&r->window);
    free(r->records);
    free(r);
}

// ---- metadata

enum err archive_keyspace_meta(struct archive_reader *r, struct slice keyspace,
                               uint64_t *created_ms, struct errmsg *msg)
{
    static const char key[] = "created=";
    char space[NAME_SPACE_MAX + 1], name[NAME_FULL_MAX];
    struct buf b;
    enum err e = name_encode(keyspace, true, space, sizeof space, msg);
    if (e)
        return e;
    snprintf(name, sizeof name, "%s_config.ini", space);
    buf_init(&b, 1 << 16);
    e = object_get(r->store, name, &b, msg);
    if (e == ERR_MISSING)
        e = err_set(msg, ERR_NO_KEYSPACE, "there is no keyspace \"%.200s\" at %.200s", space,
                    object_where(r->store));
    e = e ? e : buf_append(&b, "\n", 2); // ends the last line, and the text
    if (!e) {
        const char *at = strstr((const char *)buf_head(&b), key);
        u128 ms = 0;
        struct slice digits = slice_of(NULL, 0);
        if (at) {
            at += sizeof key - 1;
            digits = slice_of(at, strspn(at, "0123456789"));
        }
        if (!u128_parse(digits, &ms) || ms > UINT64_MAX)
            e = err_set(msg, ERR_DAMAGED, "%.300s does not say when it was created", name);
        *created_ms = (uint64_t)ms;
    }
    buf_release(&b);
    return e;
}

// Ends a try: true if there must be another one.
static bool again(struct archive_reader *r, enum err *e, unsigned tries)
{
    if ((*e != ERR_AGAIN && *e != ERR_MISSING) || tries + 1 >= TRIES)
        return false;
    r->window.dir[0] = 0;
    *e = ERR_OK;
    return true;
}

enum err archive_key_meta(struct archive_reader *r, const struct archive_log *log,
                          struct archive_meta *meta, struct errmsg *msg)
{
    char dir[NAME_DIR_MAX];
    enum err e = name_dir(log, dir, msg);
    r->call++;
    fetch_begin(r);
    for (unsigned i = 0; !e; i++) {
        e = seek_tail(r, dir, msg);
        if (e != ERR_AGAIN || !again(r, &e, i))
            break;
    }
    if (!e) {
        const struct name *n = &window_tile(&r->window, r->window.n - 1)->name;
        *meta = (struct archive_meta){n->last + 1, n->next_nonce};
    }
    if (e == ERR_MISSING)
        e = err_set(msg, e, "there is no log %.300s at %.200s", dir, object_where(r->store));
    return e;
}

// ---- where to begin

static bool time_reached(const struct name *n, const struct archive_query *q)
{
    return n->max_time >= q->timestamp;
}
static bool time_passed(const struct name *n, const struct archive_query *q)
{
    return n->min_time > q->timestamp;
}
static bool nonce_reached(const struct name *n, const struct archive_query *q)
{
    return n->next_nonce > q->nonce;
}
static bool nonce_passed(const struct name *n, const struct archive_query *q)
{
    return n->first_nonce > q->nonce;
}

static bool matches(const struct record *r, const struct archive_query *q)
{
    if (q->start == ARCHIVE_TIMESTAMP)
        return q->backwards ? r->timestamp <= q->timestamp : r->timestamp >= q->timestamp;
    return r->nonce != NONCE_NONE && (q->backwards ? r->nonce <= q->nonce : r->nonce >= q->nonce);
}

// True if the object cannot have a match, as its name says.
static bool hopeless(const struct name *n, const struct archive_query *q)
{
    return q->start == ARCHIVE_NONCE && n->first_nonce == n->next_nonce;
}

// The offset of the first record of the run that matches, or the last; 0: none does.
static uint64_t match_in(struct slice bytes, const struct archive_query *q)
{
    uint64_t found = 0;
    for (const uint8_t *p = bytes.p; p < bytes.p + bytes.n; p += record_span(p)) {
        struct record r = record_read(p);
        if (!matches(&r, q))
            continue;
        found = r.offset;
        if (!q->backwards)
            break;
    }
    return found;
}

// The record at which a search by time or nonce begins, from the tile on in the query's direction.
static enum err find_match(struct archive_reader *r, const char *dir, size_t i,
                           const struct archive_query *q, uint64_t *offset, struct errmsg *msg)
{
    for (;;) {
        struct name n = window_tile(&r->window, i)->name;
        struct slice bytes;
        if (!hopeless(&n, q)) {
            enum err e = fetch_get(r, dir, &n, &bytes, msg);
            if (e)
                return e == ERR_MISSING ? ERR_AGAIN : e;
            *offset = match_in(bytes, q);
            if (*offset)
                return ERR_OK;
        }
        enum err e =
            q->backwards ? seek_back(r, dir, &i, msg) : seek_offset(r, dir, n.last + 1, &i, msg);
        if (e)
            return e;
    }
}

// ERR_MISSING: there is nothing there; a page forwards would go on at *offset, if it is not 0.
static enum err begin_by_name(struct archive_reader *r, const char *dir,
                              const struct archive_query *q, uint64_t *offset, struct errmsg *msg)
{
    bool time = q->start == ARCHIVE_TIMESTAMP;
    tile_test past =
        q->backwards ? (time ? time_passed : nonce_passed) : (time ? time_reached : nonce_reached);
    size_t i;
    enum err e = seek_first(r, dir, past, q, &i, msg);
    if (!q->backwards) {
        e = e ? e : find_match(r, dir, i, q, offset, msg);
    } else if (e == ERR_MISSING && r->window.n) { // nothing is past it: from the end
        i = r->window.n - 1;
        e = find_match(r, dir, i, q, offset, msg);
    } else if (!e) {
        e = seek_back(r, dir, &i, msg);
        e = e ? e : find_match(r, dir, i, q, offset, msg);
    }
    if (e == ERR_MISSING)
        *offset = q->backwards ? 0 : r->window.end;
    return e;
}

// The offset at which the first page begins. ERR_MISSING: it is empty.
static enum err begin(struct archive_reader *r, const char *dir, const struct archive_query *q,
                      uint64_t *offset, struct errmsg *msg)
{
    size_t i;
    enum err e;
    switch (q->start) {
    case ARCHIVE_FIRST:
        if (!q->backwards) {
            *offset = 1;
            return ERR_OK;
        }
        e = seek_tail(r, dir, msg);
        *offset = e ? 0 : r->window.end - 1;
        return e;
    case ARCHIVE_OFFSET:
        *offset = q->offset;
        if (!q->backwards || q->offset == 0)
            return ERR_OK;
        e = seek_offset(r, dir, q->offset, &i, msg);
        if (e == ERR_MISSING && r->window.n) {
            *offset = r->window.end - 1;
            e = ERR_OK;
        } else if (!e && window_tile(&r->window, i)->name.first > q->offset) {
            *offset = 0; // before the log's first
        }
        return e;
    default:
        return begin_by_name(r, dir, q, offset, msg);
    }
}

// ---- gathering

struct gathering {
    struct archive_reader *r;
    const char *dir;
    bool backwards;
    uint64_t at;   // the next offset; backwards 0: the log's start was passed
    uint64_t want; // records
    size_t count;
    uint64_t bytes;
    bool more;
    bool sequential; // more objects will be read after this one
};

static bool full(const struct gathering *g, uint64_t next)
{
    return g->count == g->want || (g->count && g->bytes + next > g->r->options.page_bytes);
}

static enum err keep(struct gathering *g, const struct record *rec)
{
    struct archive_reader *r = g->r;
    if (g->count == r->records_cap) {
        size_t cap = r->records_cap ? r->records_cap * 2 : 1024;
        struct record *v = realloc(r->records, cap * sizeof *v);
        if (!v)
            return ERR_NO_MEMORY;
        r->records = v;
        r->records_cap = cap;
    }
    r->records[g->count++] = *rec;
    g->bytes += record_size(rec->bytes.n);
    return ERR_OK;
}

static enum err take_forwards(struct gathering *g, const struct name *n, struct slice run)
{
    enum err e = ERR_OK;
    const uint8_t *p = run.p, *end = run.p + run.n;
    while (p < end && record_offset(p) < g->at)
        p += record_span(p);
    for (; p < end && !e && !full(g, record_span(p)); p += record_span(p)) {
        struct record rec = record_read(p);
        __builtin_prefetch(p + DATA_PREFETCH);
        e = keep(g, &rec);
        g->at = rec.offset + 1;
    }
    if (p < end)
        g->more = true;
    (void)n;
    return e;
}

static enum err take_backwards(struct gathering *g, const struct name *n, struct slice run)
{
    enum err e = ERR_OK;
    const uint8_t *p = run.p + run.n;
    while (p > run.p && !e) {
        size_t span = record_span_before(p);
        struct record rec = record_read(p - span);
        if (rec.offset <= g->at) {
            if (full(g, span))
                break;
            e = keep(g, &rec);
            g->at = rec.offset - 1;
        }
        p -= span;
    }
    g->more = p > run.p;
    (void)n;
    return e;
}

// Begins to fetch the tiles after tile i of the window.
static void read_ahead(struct archive_reader *r, const char *dir, size_t i, bool backwards)
{
    const struct window *w = &r->window;
    for (size_t k = 1; k <= r->options.ahead; k++) {
        if (backwards ? k > i : i + k >= w->n)
            break;
        fetch_ahead(r, dir, &window_tile(w, backwards ? i - k : i + k)->name);
    }
}

// The tile that holds g->at. ERR_MISSING: past the end of what there is to read.
static enum err find_tile(struct gathering *g, size_t *i, struct errmsg *msg)
{
    if (g->backwards && g->at == 0)
        return ERR_MISSING;
    enum err e = seek_offset(g->r, g->dir, g->at, i, msg);
    if (e)
        return e;
    const struct name *n = &window_tile(&g->r->window, *i)->name;
    if (n->first > g->at) { // the log no longer goes back so far
        if (g->backwards)
            return ERR_MISSING;
        g->at = n->first;
    }
    return ERR_OK;
}

// Takes from one object. ERR_MISSING: nothing is left.
static enum err gather_one(struct gathering *g, struct errmsg *msg)
{
    size_t i;
    struct slice run;
    enum err e = find_tile(g, &i, msg);
    if (e)
        return e;
    struct name n = window_tile(&g->r->window, i)->name;
    if (g->sequential) { // the object itself is asked for before those ahead of it
        fetch_ahead(g->r, g->dir, &n);
        read_ahead(g->r, g->dir, i, g->backwards);
    }
    g->sequential = true;
    e = fetch_get(g->r, g->dir, &n, &run, msg);
    if (e)
        return e == ERR_MISSING ? ERR_AGAIN : e;
    g->more = false;
    e = g->backwards ? take_backwards(g, &n, run) : take_forwards(g, &n, run);
    return e ? err_set(msg, e, "out of memory") : ERR_OK;
}

// True if there is something past a page that ended with an object.
static enum err look_further(struct gathering *g, struct errmsg *msg)
{
    size_t i;
    if (g->more)
        return ERR_OK;
    enum err e = find_tile(g, &i, msg);
    g->more = e == ERR_OK;
    return e == ERR_MISSING ? ERR_OK : e;
}

static enum err gather(struct gathering *g, struct errmsg *msg)
{
    enum err e = ERR_OK;
    for (unsigned tries = 0; !e;) {
        e = full(g, 0) || g->more ? ERR_MISSING : gather_one(g, msg);
        if (e == ERR_AGAIN && again(g->r, &e, tries))
            tries++;
    }
    for (unsigned tries = 0; e == ERR_MISSING; tries++) {
        e = look_further(g, msg);
        if (e == ERR_AGAIN && again(g->r, &e, tries))
            e = ERR_MISSING;
    }
    return e;
}

static enum err first_offset(struct archive_reader *r, const char *dir,
                             const struct archive_query *q, uint64_t *at, bool *nothing,
                             struct errmsg *msg)
{
    enum err e = ERR_OK;
    for (unsigned i = 0;; i++) {
        e = begin(r, dir, q, at, msg);
        if (e != ERR_AGAIN || !again(r, &e, i))
            break;
    }
    *nothing = e == ERR_MISSING;
    return *nothing ? ERR_OK : e;
}

enum err archive_read(struct archive_reader *r, const struct archive_log *log,
                      const struct archive_query *q, struct archive_page *page, struct errmsg *msg)
{
    char dir[NAME_DIR_MAX];
    uint64_t want = q->page_size ? q->page_size : r->options.default_page_size;
    struct gathering g = {.r = r,
                          .dir = dir,
                          .backwards = q->backwards,
                          .want = want,
                          .sequential = q->reads_on || q->continuation.n > 0};
    bool nothing = false;
    enum err e = name_dir(log, dir, msg);
    r->call++;
    fetch_begin(r);
    g.want = want < LIMIT_PAGE_RECORDS ? want : LIMIT_PAGE_RECORDS;
    if (!e && q->continuation.n)
        e = token_parse(q->continuation, log, &g.backwards, &g.at, msg);
    else if (!e)
        e = first_offset(r, dir, q, &g.at, &nothing, msg);
    if (!e && !nothing)
        e = gather(&g, msg);
    if (e == ERR_AGAIN) // tried again and again: no compaction takes so long
        e = ERR_DAMAGED;
    if (e)
        return e;
    if (!g.backwards && g.at == 0) // an empty log
        g.at = 1;
    *page = (struct archive_page){.records = r->records, .count = g.count, .more = g.more};
    page->token_size = token_format(log, g.backwards, g.at, page->token);
    return ERR_OK;
}
