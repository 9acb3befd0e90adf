#include "fake_log.h"
#include "base/assert.h"
#include "base/hash.h"
#include "base/limits.h"
#include "fake_commit.h"
#include <stdio.h>
#include <stdlib.h>

struct fake_log {
    struct fake_log *next; // in the order of keys
    struct slice key;
    struct record *records; // bytes are malloc'ed
    size_t count;
    uint64_t first;
    uint64_t end;
    u128 next_nonce;
    int64_t last_time;
    bool cold;
};
struct fake_keyspace {
    struct fake_keyspace *next; // in the order of names
    struct slice name;
    uint64_t created_ms;
    struct log_policy policy;
    struct fake_log *logs;
};
struct fake_logs {
    struct fake_keyspace *keyspaces;
    struct log_watch *watches;
    uint64_t created;
    int64_t clock;
};

static struct slice copy(struct slice s)
{
    uint8_t *p = malloc(s.n + 1);
    VERIFY(p);
    if (s.n)
        memcpy(p, s.p, s.n);
    return slice_of(p, s.n);
}

struct fake_logs *fake_logs_new(void)
{
    struct fake_logs *l = calloc(1, sizeof *l);
    VERIFY(l);
    l->clock = 1000;
    return l;
}

static void log_free(struct fake_log *g)
{
    for (size_t i = 0; i < g->count; i++)
        free((void *)g->records[i].bytes.p);
    free(g->records);
    free((void *)g->key.p);
    free(g);
}

void fake_logs_free(struct fake_logs *l)
{
    VERIFY(!l->watches);
    for (struct fake_keyspace *k = l->keyspaces, *next; k; k = next) {
        next = k->next;
        for (struct fake_log *g = k->logs, *after; g; g = after) {
            after = g->next;
            log_free(g);
        }
        free((void *)k->name.p);
        free(k);
    }
    free(l);
}

static struct fake_keyspace **place(struct fake_logs *l, struct slice name)
{
    struct fake_keyspace **at = &l->keyspaces;
    while (*at && slice_compare((*at)->name, name) < 0)
        at = &(*at)->next;
    return at;
}

static struct fake_keyspace *keyspace(struct fake_logs *l, struct slice name, struct errmsg *msg)
{
    struct fake_keyspace *k = *place(l, name);
    if (k && slice_equal(k->name, name))
        return k;
    (void)err_set(msg, ERR_NO_KEYSPACE, "no such keyspace");
    return NULL;
}

static struct fake_log *find(struct fake_keyspace *k, struct slice key, bool make)
{
    struct fake_log **at = &k->logs;
    while (*at && slice_compare((*at)->key, key) < 0)
        at = &(*at)->next;
    if ((*at && slice_equal((*at)->key, key)) || !make)
        return *at && slice_equal((*at)->key, key) ? *at : NULL;
    struct fake_log *g = calloc(1, sizeof *g);
    VERIFY(g);
    *g = (struct fake_log){.next = *at, .key = copy(key), .first = 1, .end = 1};
    g->last_time = INT64_MIN;
    return *at = g;
}

// ---- keyspaces

enum err commit_keyspace_create(struct commit *c, struct slice name, const struct log_policy *p,
                                uint64_t *created_ms, uint64_t *dep, struct errmsg *msg)
{
    struct fake_logs *l = fake_commit_logs(c);
    enum err e = fake_commit_forced(c);
    if (e)
        return e;
    *dep = fake_commit_seq(c);
    struct fake_keyspace **at = place(l, name);
    if (*at && slice_equal((*at)->name, name))
        return err_set(msg, ERR_EXISTS, "the keyspace exists already");
    struct fake_keyspace *k = calloc(1, sizeof *k);
    VERIFY(k);
    *k = (struct fake_keyspace){*at, copy(name), ++l->created, *p, NULL};
    *at = k;
    *created_ms = k->created_ms;
    *dep = fake_commit_bump(c);
    return ERR_OK;
}

enum err commit_keyspace_policy(struct commit *c, struct slice name, const struct log_policy *p,
                                uint64_t *dep, struct errmsg *msg)
{
    struct fake_keyspace *k = keyspace(fake_commit_logs(c), name, msg);
    *dep = fake_commit_seq(c);
    if (!k)
        return ERR_NO_KEYSPACE;
    if (p->server_time != k->policy.server_time)
        return err_set(msg, ERR_INVALID, "who gives the timestamps cannot be changed");
    k->policy = *p;
    *dep = fake_commit_bump(c);
    return ERR_OK;
}

enum err commit_keyspace_get(struct commit *c, struct slice name, struct keyspace_view *v,
                             uint64_t *dep, struct errmsg *msg)
{
    struct fake_keyspace *k = keyspace(fake_commit_logs(c), name, msg);
    *dep = fake_commit_seq(c);
    if (!k)
        return ERR_NO_KEYSPACE;
    *v = (struct keyspace_view){k->name, k->created_ms, k->policy};
    return ERR_OK;
}

enum err commit_log_list(struct commit *c, struct slice name, struct slice after, size_t limit,
                         log_list_fn fn, void *arg, uint64_t *dep, struct errmsg *msg)
{
    struct fake_logs *l = fake_commit_logs(c);
    *dep = fake_commit_seq(c);
    if (name.n == 0) {
        for (struct fake_keyspace *k = l->keyspaces; k; k = k->next)
            if (slice_compare(k->name, after) > 0 && (limit-- == 0 || !fn(arg, k->name)))
                break;
        return ERR_OK;
    }
    struct fake_keyspace *k = keyspace(l, name, msg);
    for (struct fake_log *g = k ? k->logs : NULL; g; g = g->next)
        if (slice_compare(g->key, after) > 0 && (limit-- == 0 || !fn(arg, g->key)))
            break;
    return k ? ERR_OK : ERR_NO_KEYSPACE;
}

// ---- appending

enum err fake_logs_check(struct fake_logs *l, const struct log_append *a, struct errmsg *msg)
{
    struct fake_keyspace *k = keyspace(l, a->name.keyspace, msg);
    if (!k)
        return ERR_NO_KEYSPACE;
    VERIFY(a->count && a->name.key.n);
    for (size_t i = 0; i < a->count; i++)
        if (k->policy.server_time && a->records[i].has_timestamp)
            return err_set(msg, ERR_INVALID, "record %zu: the server gives timestamps", i);
    return ERR_OK;
}

static void append(struct fake_logs *l, struct fake_log *g, const struct log_input *in,
                   struct log_append *a)
{
    if (in->nonce != NONCE_NONE && in->nonce < g->next_nonce)
        return;
    if (in->nonce != NONCE_NONE)
        g->next_nonce = in->nonce + 1;
    g->records = realloc(g->records, (g->count + 1) * sizeof *g->records);
    VERIFY(g->records);
    int64_t time = in->has_timestamp ? in->timestamp : l->clock++;
    g->records[g->count++] = (struct record){g->end++, time, in->nonce, copy(in->bytes)};
    if (time > g->last_time)
        g->last_time = time;
    a->timestamp = time;
    a->appended++;
}

void fake_logs_append(struct fake_logs *l, struct log_append *a)
{
    struct fake_log *g = find(keyspace(l, a->name.keyspace, NULL), a->name.key, true);
    a->appended = 0;
    a->timestamp = 0;
    a->first_offset = g->end;
    for (size_t i = 0; i < a->count; i++)
        append(l, g, &a->records[i], a);
    a->end_offset = g->end;
    a->next_nonce = g->next_nonce;
    while (l->watches) { // one wake too many does no harm
        struct log_watch *w = l->watches;
        l->watches = w->next;
        w->link = NULL;
        w->wake(w->arg);
    }
}

void fake_logs_replay(struct fake_logs *l, struct log_append *a, uint64_t first, uint64_t end,
                      uint64_t appended)
{
    struct fake_keyspace *k = keyspace(l, a->name.keyspace, NULL);
    struct fake_log *g = k ? find(k, a->name.key, false) : NULL;
    a->first_offset = first;
    a->end_offset = end;
    a->appended = appended;
    a->next_nonce = g ? g->next_nonce : 0;
    a->timestamp = 0;
}

static struct fake_log *by_name(struct fake_logs *l, const struct log_name *name)
{
    struct fake_keyspace *k = keyspace(l, name->keyspace, NULL);
    return k ? find(k, name->key, false) : NULL;
}

void fake_log_cold(struct commit *c, const char *name, const char *key)
{
    struct log_name n = {slice_str(name), slice_str(key)};
    by_name(fake_commit_logs(c), &n)->cold = true;
}

void fake_logs_warm(struct fake_logs *l)
{
    for (struct fake_keyspace *k = l->keyspaces; k; k = k->next)
        for (struct fake_log *g = k->logs; g; g = g->next)
            g->cold = false;
}

bool fake_logs_is_cold(struct fake_logs *l, const struct log_append *a)
{
    struct fake_log *g = by_name(l, &a->name);
    return g && g->cold;
}

// ---- metadata

enum err commit_log_meta(struct commit *c, const struct log_name *name, struct log_meta *m,
                         uint64_t *dep, struct errmsg *msg)
{
    *dep = fake_commit_seq(c);
    if (!keyspace(fake_commit_logs(c), name->keyspace, msg))
        return ERR_NO_KEYSPACE;
    struct fake_log *g = by_name(fake_commit_logs(c), name);
    if (!g)
        return ERR_MISSING;
    *m = (struct log_meta){g->first, g->end, g->next_nonce, g->last_time, g->count, 0};
    for (size_t i = 0; i < g->count; i++)
        m->bytes += record_size(g->records[i].bytes.n);
    return ERR_OK;
}

enum err commit_log_flush(struct commit *c, const struct log_name *name, uint64_t *dep,
                          struct errmsg *msg)
{
    *dep = fake_commit_seq(c);
    return !name || keyspace(fake_commit_logs(c), name->keyspace, msg) ? ERR_OK : ERR_NO_KEYSPACE;
}

// ---- reading

#define NOWHERE UINT64_MAX

// The index of the first record that `from` names, in its direction; NOWHERE: none.
static size_t seek(const struct fake_log *g, const struct log_from *from)
{
    bool forwards = from->direction == LOG_FORWARDS;
    if (from->start == LOG_START_FIRST)
        return g->count == 0 ? NOWHERE : forwards ? 0 : g->count - 1;
    for (size_t i = 0; i < g->count; i++) {
        size_t at = forwards ? i : g->count - 1 - i;
        const struct record *r = &g->records[at];
        int order = 0;
        if (from->start == LOG_START_OFFSET)
            order = (r->offset > from->offset) - (r->offset < from->offset);
        else if (from->start == LOG_START_TIME)
            order = (r->timestamp > from->time) - (r->timestamp < from->time);
        else if (r->nonce == NONCE_NONE)
            continue;
        else
            order = (r->nonce > from->nonce) - (r->nonce < from->nonce);
        if (forwards ? order >= 0 : order <= 0)
            return at;
    }
    return NOWHERE;
}

static bool matches(const struct log_query *q, struct slice s)
{
    return q->filter == LOG_FILTER_NONE ||
           (q->filter == LOG_FILTER_PREFIX ? slice_starts(s, q->pattern)
                                           : memmem(s.p, s.n, q->pattern.p, q->pattern.n) != NULL);
}

static void token(const struct log_name *name, enum log_direction d, uint64_t offset, char *text)
{
    uint64_t h = hash64(name->key, hash64(name->keyspace, offset * 2 + d));
    snprintf(text, LOG_TOKEN, "%c%x-%016llx", d ? 'b' : 'f', (unsigned)offset,
             (unsigned long long)h);
}

static enum err read_token(const struct log_query *q, struct log_from *from, struct errmsg *msg)
{
    char text[LOG_TOKEN], right[LOG_TOKEN];
    snprintf(text, sizeof text, "%.*s", (int)q->continuation.n, (const char *)q->continuation.p);
    from->start = LOG_START_OFFSET;
    from->direction = text[0] == 'b' ? LOG_BACKWARDS : LOG_FORWARDS;
    from->offset = strtoul(text + 1, NULL, 16);
    token(&q->name, from->direction, from->offset, right);
    if (q->continuation.n >= LOG_TOKEN || strcmp(text, right) != 0)
        return err_set(msg, ERR_INVALID,
                       "the continuation token is damaged or belongs to another log");
    return ERR_OK;
}

// Lays the chosen records, in rising order, out in a block.
static void fill(struct log_page *page, const struct record *const *chosen, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += record_size(chosen[i]->bytes.n);
    struct block *b = malloc(sizeof *b + bytes + 1);
    page->spans.v = malloc(sizeof *page->spans.v);
    VERIFY(b && page->spans.v);
    b->refs = 1;
    uint8_t *p = b->bytes;
    for (size_t i = 0; i < count; i++)
        p = record_write(p, chosen[page->direction == LOG_FORWARDS ? i : count - 1 - i]);
    page->spans.v[0] = (struct log_span){b, 0, (uint32_t)bytes, (uint32_t)count};
    page->spans.count = 1;
    page->records = page->spans.records = count;
    page->bytes = page->spans.bytes = bytes;
}

static void gather(const struct fake_log *g, const struct log_query *q, const struct log_from *from,
                   struct log_page *page)
{
    const struct record **chosen = malloc((g->count + 1) * sizeof *chosen);
    VERIFY(chosen);
    size_t at = seek(g, from), n = 0, bytes = 0;
    bool forwards = from->direction == LOG_FORWARDS;
    page->next = forwards ? g->end : 0;
    for (; at < g->count; at = forwards ? at + 1 : at - 1) { // past 0 it wraps
        const struct record *r = &g->records[at];
        if (!matches(q, r->bytes))
            continue;
        if (n == q->max_records || (n && bytes + record_size(r->bytes.n) > q->max_bytes)) {
            page->next = r->offset;
            page->more = true;
            token(&q->name, page->direction, r->offset, page->continuation);
            break;
        }
        chosen[n++] = r;
        bytes += record_size(r->bytes.n);
    }
    fill(page, chosen, n);
    free(chosen);
}

enum err commit_log_read(struct commit *c, const struct log_query *q, struct log_page *page,
                         uint64_t *dep, struct errmsg *msg)
{
    struct log_from from = q->from;
    VERIFY(q->max_records && q->max_bytes);
    *dep = fake_commit_seq(c);
    if (!keyspace(fake_commit_logs(c), q->name.keyspace, msg))
        return ERR_NO_KEYSPACE;
    enum err e = q->continuation.n ? read_token(q, &from, msg) : ERR_OK;
    if (e)
        return e;
    *page = (struct log_page){.direction = from.direction, .first_offset = 1, .end_offset = 1};
    page->next = 1;
    struct fake_log *g = by_name(fake_commit_logs(c), &q->name);
    if (!g)
        return ERR_OK;
    if (g->cold && !q->may_block)
        return ERR_COLD;
    g->cold = false;
    page->first_offset = g->first;
    page->end_offset = g->end;
    page->truncated =
        from.direction == LOG_FORWARDS && from.start == LOG_START_OFFSET && from.offset < g->first;
    gather(g, q, &from, page);
    return ERR_OK;
}

bool log_page_next(struct log_page *page, struct record *r)
{
    if (page->spans.count == 0)
        return false;
    const struct log_span *s = page->spans.v;
    bool forwards = page->direction == LOG_FORWARDS;
    if (!page->at)
        page->at = s->block->bytes + (forwards ? s->begin : s->end);
    if (page->at == s->block->bytes + (forwards ? s->end : s->begin))
        return false;
    if (!forwards)
        page->at -= record_span_before(page->at);
    *r = record_read(page->at);
    if (forwards)
        page->at += record_size(r->bytes.n);
    return true;
}

void log_page_release(struct log_page *page)
{
    for (size_t i = 0; i < page->spans.count; i++)
        free(page->spans.v[i].block);
    free(page->spans.v);
    page->spans = (struct log_spans){0};
}

// ---- tails

enum err commit_log_watch(struct commit *c, const struct log_name *name, uint64_t offset,
                          struct log_watch *w, struct errmsg *msg)
{
    struct fake_logs *l = fake_commit_logs(c);
    if (!keyspace(l, name->keyspace, msg))
        return ERR_NO_KEYSPACE;
    struct fake_log *g = by_name(l, name);
    if (g && g->end > offset)
        return ERR_AGAIN;
    VERIFY(!w->link);
    w->next = l->watches;
    w->link = &l->watches;
    if (w->next)
        w->next->link = &w->next;
    l->watches = w;
    return ERR_OK;
}

bool commit_log_unwatch(struct commit *c, struct log_watch *w)
{
    if (!w->link)
        return false;
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
    w->link = NULL;
    return true;
}

size_t fake_log_watches(struct commit *c)
{
    size_t n = 0;
    for (struct log_watch *w = fake_commit_logs(c)->watches; w; w = w->next)
        n++;
    return n;
}

// ---- taking records out

static void remove_at(struct fake_log *g, size_t i)
{
    free((void *)g->records[i].bytes.p);
    memmove(&g->records[i], &g->records[i + 1], (--g->count - i) * sizeof *g->records);
}

enum err commit_log_trim(struct commit *c, const struct log_name *name, const struct log_from *to,
                         uint64_t *first_offset, uint64_t *dep, struct errmsg *msg)
{
    *dep = fake_commit_seq(c);
    if (!keyspace(fake_commit_logs(c), name->keyspace, msg))
        return ERR_NO_KEYSPACE;
    struct fake_log *g = by_name(fake_commit_logs(c), name);
    if (!g)
        return ERR_MISSING;
    uint64_t before = to->offset < g->end ? to->offset : g->end;
    if (to->start == LOG_START_TIME) {
        size_t at = seek(g, to);
        before = at < g->count ? g->records[at].offset : g->end;
    }
    while (g->count && g->records[0].offset < before)
        remove_at(g, 0);
    g->first = before > g->first ? before : g->first;
    *first_offset = g->first;
    *dep = fake_commit_bump(c);
    return ERR_OK;
}

enum err commit_log_erase(struct commit *c, const struct log_name *name, uint64_t offset,
                          uint64_t *dep, struct errmsg *msg)
{
    *dep = fake_commit_seq(c);
    if (!keyspace(fake_commit_logs(c), name->keyspace, msg))
        return ERR_NO_KEYSPACE;
    struct fake_log *g = by_name(fake_commit_logs(c), name);
    for (size_t i = 0; g && i < g->count; i++)
        if (g->records[i].offset == offset) {
            remove_at(g, i);
            *dep = fake_commit_bump(c);
            return ERR_OK;
        }
    return ERR_MISSING;
}
