#include "logs_oracle.h"
#include "base/os_sim.h"
#include <string.h>

uint64_t next(uint64_t *rng)
{
    uint64_t z = (*rng += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int space_of(int log)
{
    static const int of[LOGS] = {0, 0, 1, 1, 2};
    return of[log];
}

struct slice space_name(int space)
{
    static const char *const names[SPACES] = {"plain", "events", "kept"};
    return slice_str(names[space]);
}

struct log_name log_name(int log)
{
    static const char *const keys[LOGS] = {"a", "b", "a", "c", "a"};
    return (struct log_name){space_name(space_of(log)), slice_str(keys[log])};
}

// ---- the model

static void model_trim(struct model_log *l, uint64_t first)
{
    size_t gone = 0;
    while (gone < l->n && l->v[gone].offset < first)
        gone++;
    memmove(l->v, l->v + gone, (l->n - gone) * sizeof *l->v);
    l->n -= gone;
    l->first = first;
}

static void model_erase(struct model_log *l, uint64_t offset)
{
    size_t i = 0;
    while (i < l->n && l->v[i].offset != offset)
        i++;
    CHECK(i < l->n, "record %" PRIu64 " is not there to be erased", offset);
    memmove(l->v + i, l->v + i + 1, (l->n - i - 1) * sizeof *l->v);
    l->n--;
}

static void model_append(struct model_log *l, const struct model_record *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        l->v[l->n++] = v[i];
        l->end = v[i].offset + 1;
        l->last_time = v[i].time > l->last_time ? v[i].time : l->last_time;
        if (v[i].nonce != NONCE_NONE)
            l->next_nonce = v[i].nonce + 1;
    }
}

static void model_apply(struct logs_model *m, const struct logs_history *h,
                        const struct log_event *e)
{
    if (e->kind == EVENT_SPACE) {
        m->spaces[e->which] = e->space;
        m->spaces[e->which].seq = e->seq;
        return;
    }
    struct model_log *l = &m->logs[e->which];
    if (!l->exists) {
        l->exists = true;
        l->first = l->end = 1;
        l->last_time = INT64_MIN;
        l->next_nonce = 0;
        l->tiered = l->tier_seq = 0;
        l->n = 0;
    }
    if (e->kind == EVENT_TIER) { // nobody sees that
        l->tiered = e->offset;
        l->tier_seq = e->seq;
        return;
    }
    l->seq = e->seq;
    if (e->kind == EVENT_APPEND) {
        model_append(l, h->pool + e->from, e->count);
        return;
    }
    l->cut_seq = e->seq;
    if (e->kind == EVENT_TRIM)
        model_trim(l, e->offset);
    else
        model_erase(l, e->offset);
}

void logs_remember(struct logs_history *h, const struct log_event *e)
{
    CHECK(h->count < LOG_EVENTS, "too many events");
    h->events[h->count++] = *e;
    for (size_t i = 0; e->kind == EVENT_APPEND && i < e->count; i++)
        h->pool[e->from + i].seq = e->seq;
    model_apply(&h->now, h, e);
}

void logs_at(const struct logs_history *h, uint64_t seq, struct logs_model *m)
{
    for (int i = 0; i < SPACES; i++)
        m->spaces[i] = (struct model_space){0};
    for (int i = 0; i < LOGS; i++) // not the records: most of it
        m->logs[i].exists = false, m->logs[i].seq = m->logs[i].cut_seq = 0;
    for (size_t i = 0; i < h->count; i++)
        if (h->events[i].seq <= seq)
            model_apply(m, h, &h->events[i]);
}

static size_t record_length(uint64_t tag)
{
    if (tag % 16 == 0) // alone in a chunk
        return 1000 + tag * 397 % (RECORD_MAX - 1000);
    return tag % 16 == 1 ? 0 : tag * 397 % 300;
}

static struct slice record_bytes(uint64_t tag, uint8_t bytes[RECORD_MAX])
{
    size_t n = record_length(tag);
    memset(bytes, (int)tag, n);
    if (n >= 8)
        store64(bytes, tag);
    return slice_of(bytes, n);
}

// ---- appends

void append_choose(const struct logs_history *h, uint64_t *rng, uint64_t *tag, int log,
                   struct append_plan *p)
{
    const struct model_log *l = &h->now.logs[log];
    bool server_time = h->now.spaces[space_of(log)].policy.server_time;
    size_t count = next(rng) % 2 ? 1 : 1 + next(rng) % APPEND_MAX;
    u128 nonce = l->exists ? l->next_nonce : 0;
    p->log = log;
    for (size_t i = 0; i < count; i++) {
        struct log_input *in = &p->in[i];
        p->tags[i] = ++*tag;
        *in =
            (struct log_input){.bytes = record_bytes(p->tags[i], p->bytes[i]), .nonce = NONCE_NONE};
        if (next(rng) % 3 == 0) { // a duplicate, the next one, or later
            u128 from = nonce > 2 ? nonce - 2 : 0;
            nonce = in->nonce = from + next(rng) % 6;
        }
        if (!server_time && next(rng) % 4) { // in no order
            in->has_timestamp = true;
            in->timestamp = (int64_t)(next(rng) % 1000) - 500;
        }
    }
    p->a = (struct log_append){.name = log_name(log), .records = p->in, .count = count};
}

bool append_check(struct logs_history *h, const struct append_plan *p, uint64_t now_us,
                  struct log_event *e)
{
    static const struct model_log none = {.first = 1, .end = 1, .last_time = INT64_MIN};
    const struct model_log *l = h->now.logs[p->log].exists ? &h->now.logs[p->log] : &none;
    bool server_time = h->now.spaces[space_of(p->log)].policy.server_time;
    uint64_t end = l->end;
    u128 next_nonce = l->next_nonce;
    int64_t last = l->last_time, time = 0;
    *e = (struct log_event){.kind = EVENT_APPEND, .which = p->log, .from = h->pooled};
    for (size_t i = 0; i < p->a.count; i++) {
        const struct log_input *in = &p->in[i];
        if (in->nonce != NONCE_NONE && in->nonce < next_nonce)
            continue;
        if (server_time)
            time = (int64_t)now_us > last ? (int64_t)now_us : last + 1;
        else
            time = in->has_timestamp ? in->timestamp : (int64_t)(now_us / 1000);
        last = time > last ? time : last;
        CHECK(h->pooled < LOG_RECORDS, "too many records");
        h->pool[h->pooled++] = (struct model_record){end++, time, in->nonce, p->tags[i], 0};
        if (in->nonce != NONCE_NONE)
            next_nonce = in->nonce + 1;
        e->count++;
    }
    const struct log_append *a = &p->a;
    CHECK(a->first_offset == l->end && a->end_offset == end && a->appended == e->count,
          "log %d: appended %" PRIu64 " to %" PRIu64 ", expected %" PRIu64 " to %" PRIu64, p->log,
          a->first_offset, a->end_offset, l->end, end);
    CHECK(a->next_nonce == next_nonce, "log %d: next nonce %" PRIu64 ", expected %" PRIu64, p->log,
          (uint64_t)a->next_nonce, (uint64_t)next_nonce);
    CHECK(a->timestamp == time, "log %d: timestamp %" PRId64 ", expected %" PRId64, p->log,
          a->timestamp, time);
    return e->count > 0;
}

// ---- reading

// The model's record that a start names, as an index; l->n or SIZE_MAX: none.
static size_t model_start(const struct model_log *l, const struct log_from *from)
{
    bool forwards = from->direction == LOG_FORWARDS;
    for (size_t k = 0; k < l->n; k++) {
        size_t i = forwards ? k : l->n - 1 - k;
        const struct model_record *r = &l->v[i];
        bool hit = from->start == LOG_START_FIRST;
        if (from->start == LOG_START_OFFSET)
            hit = forwards ? r->offset >= from->offset : r->offset <= from->offset;
        if (from->start == LOG_START_TIME)
            hit = forwards ? r->time >= from->time : r->time <= from->time;
        if (from->start == LOG_START_NONCE && r->nonce != NONCE_NONE)
            hit = forwards ? r->nonce >= from->nonce : r->nonce <= from->nonce;
        if (hit)
            return i;
    }
    return forwards ? l->n : SIZE_MAX;
}

static void check_record(const struct model_record *m, int log, const struct record *r)
{
    uint8_t bytes[RECORD_MAX];
    CHECK(r->offset == m->offset, "log %d: record %" PRIu64 " where %" PRIu64 " was expected", log,
          r->offset, m->offset);
    CHECK(r->timestamp == m->time && r->nonce == m->nonce,
          "log %d record %" PRIu64 ": time %" PRId64 " nonce %" PRIu64 ", expected %" PRId64
          " and %" PRIu64,
          log, r->offset, r->timestamp, (uint64_t)r->nonce, m->time, (uint64_t)m->nonce);
    CHECK(slice_equal(r->bytes, record_bytes(m->tag, bytes)), "log %d record %" PRIu64 ": bytes",
          log, r->offset);
}

// The records of one page, from index i of the model on; moves i. Returns the highest sequence that
// the page shows something of.
static uint64_t compare_page(const struct model_log *m, int log, struct log_page *page, size_t *i)
{
    uint64_t shows = m->cut_seq, seen = 0;
    struct record r;
    while (log_page_next(page, &r)) {
        CHECK(*i < m->n, "log %d: record %" PRIu64 " that should not be there (of %zu, %s)", log,
              r.offset, m->n, page->direction ? "backwards" : "forwards");
        check_record(&m->v[*i], log, &r);
        shows = m->v[*i].seq > shows ? m->v[*i].seq : shows;
        *i = page->direction == LOG_FORWARDS ? *i + 1 : *i - 1;
        seen++;
    }
    CHECK(page->records == seen, "log %d: %" PRIu64 " records in a page that says %" PRIu64, log,
          seen, page->records);
    if (page->end_offset == m->end && m->seq > shows)
        shows = m->seq;
    return shows;
}

static enum err read_page(struct commit *c, struct log_query *q, struct log_page *page,
                          uint64_t *dep)
{
    struct errmsg msg = {0};
    enum err e = commit_log_read(c, q, page, dep, &msg);
    if (e == ERR_COLD) {
        q->may_block = true;
        e = commit_log_read(c, q, page, dep, &msg);
    }
    CHECK(e == ERR_OK || e == ERR_IO, "read: %s", msg.text);
    return e;
}

bool log_compare(struct commit *c, const struct model_log *m, int log, uint64_t *rng,
                 struct logs_history *h, replied_fn replied, void *arg, enum err *e)
{
    uint64_t dice = next(rng);
    struct log_query q = {
        .name = log_name(log),
        .from = {.direction = (enum log_direction)(dice & 1),
                 .start = dice & 2 ? (enum log_start)(dice >> 2 & 3) : LOG_START_FIRST,
                 .offset = next(rng) % (m->end + 2),
                 .time = m->n ? m->v[next(rng) % m->n].time + (int64_t)(dice >> 8 & 1) : 0,
                 .nonce = next(rng) % ((uint64_t)m->next_nonce + 2)},
        .max_records = dice & 16 ? 1 + (dice >> 20 & 3) : 1000,
        .max_bytes = dice & 32 ? 1 + next(rng) % 3000 : LIMIT_PAGE_BYTES,
        .may_block = dice & 64,
    };
    char token[LOG_TOKEN];
    size_t i = model_start(m, &q.from);
    for (bool more = true; more;) {
        struct log_page page;
        uint64_t dep;
        if ((*e = read_page(c, &q, &page, &dep)))
            return false;
        CHECK(page.first_offset == m->first && page.end_offset <= m->end,
              "log %d: from %" PRIu64 " to %" PRIu64 ", expected %" PRIu64 " to %" PRIu64, log,
              page.first_offset, page.end_offset, m->first, m->end);
        uint64_t shows = compare_page(m, log, &page, &i);
        if (replied)
            replied(arg, dep, shows);
        else
            CHECK(page.end_offset == m->end, "log %d ends at %" PRIu64, log, page.end_offset);
        if (page.more) {
            CHECK(page.records > 0, "log %d: an empty page in between", log);
            memcpy(token, page.continuation, sizeof token);
            q.continuation = slice_str(token);
            if (h) {
                memcpy(h->token, token, sizeof token);
                h->token_log = log;
                h->token_direction = page.direction;
                h->token_next = page.next;
            }
        }
        more = page.more;
        log_page_release(&page);
    }
    CHECK(i >= m->n, "log %d: reading %s from %d ended before record %" PRIu64, log,
          q.from.direction ? "backwards" : "forwards", (int)q.from.start, m->v[i].offset);
    *e = ERR_OK;
    return true;
}

// A token that was given out before the crash goes on where its page ended.
static void use_token(struct commit *c, const struct logs_history *h, const struct logs_model *m)
{
    const struct model_log *l = &m->logs[h->token_log];
    if (!h->token[0] || !l->exists)
        return;
    struct log_query q = {.name = log_name(h->token_log),
                          .continuation = slice_str(h->token),
                          .max_records = 1000,
                          .max_bytes = LIMIT_PAGE_BYTES,
                          .may_block = true};
    struct log_from from = {
        .direction = h->token_direction, .start = LOG_START_OFFSET, .offset = h->token_next};
    struct log_page page;
    uint64_t dep;
    size_t i = model_start(l, &from);
    CHECK(read_page(c, &q, &page, &dep) == ERR_OK, "a token is not taken");
    compare_page(l, h->token_log, &page, &i);
    CHECK(i >= l->n && !page.more, "log %d: a token's page ends early", h->token_log);
    log_page_release(&page);
}

static void compare_space(struct commit *c, const struct model_space *m, int space)
{
    struct keyspace_view v;
    struct errmsg msg = {0};
    uint64_t dep;
    enum err e = commit_keyspace_get(c, space_name(space), &v, &dep, &msg);
    CHECK(e == (m->exists ? ERR_OK : ERR_NO_KEYSPACE), "keyspace %d: %s", space, err_name(e));
    CHECK(e || (v.created_ms == m->created_ms && v.policy.max_age_ms == m->policy.max_age_ms &&
                v.policy.max_bytes == m->policy.max_bytes &&
                v.policy.max_records == m->policy.max_records &&
                v.policy.server_time == m->policy.server_time),
          "keyspace %d: created %" PRIu64 " policy %" PRIu64 " %" PRIu64 " %" PRIu64
          ", expected %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64,
          space, v.created_ms, v.policy.max_age_ms, v.policy.max_bytes, v.policy.max_records,
          m->created_ms, m->policy.max_age_ms, m->policy.max_bytes, m->policy.max_records);
}

static void compare_meta(struct commit *c, const struct model_log *l, int log)
{
    struct log_name name = log_name(log);
    struct log_meta m;
    struct errmsg msg = {0};
    uint64_t dep, bytes = 0;
    enum err e = commit_log_meta(c, &name, &m, &dep, &msg);
    CHECK(e == ERR_OK, "log %d: %s", log, msg.text);
    for (size_t i = 0; i < l->n; i++)
        bytes += record_size(record_length(l->v[i].tag));
    CHECK(m.first_offset == l->first && m.end_offset == l->end && m.next_nonce == l->next_nonce &&
              m.last_timestamp == l->last_time && m.records == l->n && m.bytes == bytes,
          "log %d: [%" PRIu64 ", %" PRIu64 ") nonce %" PRIu64 " time %" PRId64 " records %" PRIu64
          " bytes %" PRIu64 ", expected [%" PRIu64 ", %" PRIu64 ") %" PRIu64 " %" PRId64
          " %zu %" PRIu64,
          log, m.first_offset, m.end_offset, (uint64_t)m.next_nonce, m.last_timestamp, m.records,
          m.bytes, l->first, l->end, (uint64_t)l->next_nonce, l->last_time, l->n, bytes);
    struct keyspace *k = logs_keyspace(c->logs, name.keyspace);
    uint64_t hash = logs_hash(c->logs, k->id, name.key);
    logs_lock(c->logs, logs_shard(hash));
    uint64_t tiered = logs_find(c->logs, hash, k, name.key)->tiered;
    logs_unlock(c->logs, logs_shard(hash));
    CHECK(tiered == l->tiered, "log %d: tiered before %" PRIu64 ", expected %" PRIu64, log, tiered,
          l->tiered);
}

static bool count_name(void *arg, struct slice name)
{
    return ++*(size_t *)arg < 100;
}

static void compare_lists(struct commit *c, const struct logs_model *m)
{
    for (int s = -1; s < SPACES; s++) {
        struct errmsg msg = {0};
        size_t seen = 0, there = 0;
        uint64_t dep;
        if (s >= 0 && !m->spaces[s].exists)
            continue;
        CHECK(!commit_log_list(c, s < 0 ? slice_of("", 0) : space_name(s), slice_of("", 0), 100,
                               count_name, &seen, &dep, &msg),
              "%s", msg.text);
        for (int i = 0; i < (s < 0 ? SPACES : LOGS); i++)
            there += s < 0 ? m->spaces[i].exists : space_of(i) == s && m->logs[i].exists;
        CHECK(seen == there, "a listing of keyspace %d has %zu names, expected %zu", s, seen,
              there);
    }
}

void logs_compare(struct commit *c, const struct logs_history *h, uint64_t seq, uint64_t *rng)
{
    static struct logs_model m;
    logs_at(h, seq, &m);
    for (int i = 0; i < SPACES; i++)
        compare_space(c, &m.spaces[i], i);
    for (int i = 0; i < LOGS; i++) {
        enum err e = ERR_OK;
        struct log_name name = log_name(i);
        struct log_meta meta;
        struct errmsg msg;
        uint64_t dep;
        if (!m.logs[i].exists) {
            e = commit_log_meta(c, &name, &meta, &dep, &msg);
            CHECK(e == (m.spaces[space_of(i)].exists ? ERR_MISSING : ERR_NO_KEYSPACE),
                  "log %d exists at sequence %" PRIu64, i, seq);
            continue;
        }
        compare_meta(c, &m.logs[i], i);
        CHECK(log_compare(c, &m.logs[i], i, rng, NULL, NULL, NULL, &e), "%s", err_name(e));
    }
    use_token(c, h, &m);
    if (next(rng) % 8 == 0)
        compare_lists(c, &m);
}

static enum err run_append(struct commit *c, struct log_append *a)
{
    struct txn_op op = {.kind = TXN_APPEND, .append = a};
    struct txn t = {.ops = &op, .count = 1};
    struct errmsg msg = {0};
    uint64_t dep;
    enum err e = commit_txn(c, &t, &dep, &msg);
    if (e == ERR_COLD && !(e = load_log_tail(c, &a->name)))
        e = commit_txn(c, &t, &dep, &msg);
    if (e == ERR_FULL && !(e = commit_checkpoint(c, &msg)))
        e = commit_txn(c, &t, &dep, &msg);
    CHECK(e == ERR_OK, "append: %s %s", err_name(e), msg.text);
    return e;
}

void logs_go_on(struct commit *c, const struct logs_history *h, uint64_t seq)
{
    static struct logs_model m;
    logs_at(h, seq, &m);
    for (int i = 0; i < LOGS; i++) {
        const struct model_log *l = &m.logs[i];
        uint8_t bytes[RECORD_MAX];
        if (!l->exists)
            continue;
        // The first is there already as far as its nonce says.
        struct log_input in[2] = {
            {.bytes = record_bytes(3, bytes), .nonce = l->next_nonce ? l->next_nonce - 1 : 0},
            {.bytes = record_bytes(3, bytes), .nonce = l->next_nonce}};
        size_t skip = l->next_nonce ? 0 : 1;
        struct log_append a = {.name = log_name(i), .records = in + skip, .count = 2 - skip};
        (void)run_append(c, &a);
        CHECK(a.appended == 1 && a.first_offset == l->end && a.next_nonce == l->next_nonce + 1,
              "log %d goes on at %" PRIu64 " with %" PRIu64 " records, nonce %" PRIu64, i,
              a.first_offset, a.appended, (uint64_t)a.next_nonce);
        CHECK(space_of(i) != 1 || a.timestamp > l->last_time,
              "log %d: time %" PRId64 " after %" PRId64, i, a.timestamp, l->last_time);
    }
}

// ---- the tier

static const struct model_record *appended(const struct logs_history *h, int log, uint64_t offset)
{
    for (size_t i = 0; i < h->count; i++) {
        const struct log_event *e = &h->events[i];
        if (e->kind != EVENT_APPEND || e->which != log)
            continue;
        for (size_t k = e->from; k < e->from + e->count; k++)
            if (h->pool[k].offset == offset)
                return &h->pool[k];
    }
    return NULL;
}

static int which_log(const struct log_name *name)
{
    int log = 0;
    while (log < LOGS && !(slice_equal(name->keyspace, space_name(space_of(log))) &&
                           slice_equal(name->key, log_name(log).key)))
        log++;
    CHECK(log < LOGS, "the tier is asked for another log");
    return log;
}

enum err logs_tier_read(void *arg, const struct log_name *name, uint64_t first, uint64_t last,
                        struct buf *out, struct errmsg *msg)
{
    const struct logs_history *h = arg;
    int log = which_log(name);
    for (uint64_t at = first; at <= last; at++) {
        bool there = at >= h->deleted[log] && at < h->moved[log];
        const struct model_record *m = there ? appended(h, log, at) : NULL;
        uint8_t bytes[RECORD_MAX], record[RECORD_MAX + RECORD_OVERHEAD];
        if (!m)
            return err_set(msg, ERR_MISSING, "record %" PRIu64 " is not in the tier", at);
        struct record r = {at, m->time, m->nonce, record_bytes(m->tag, bytes)};
        enum err e = buf_append(out, record, (size_t)(record_write(record, &r) - record));
        if (e)
            return e;
    }
    return ERR_OK;
}

bool logs_move(struct commit *c, struct logs_history *h, uint64_t *rng, int log,
               struct log_event *event, enum err *e)
{
    const struct model_log *m = &h->now.logs[log];
    struct log_name name = log_name(log);
    struct errmsg msg = {0};
    uint64_t before = next(rng) % 2 ? m->end : 1 + next(rng) % m->end;
    uint64_t was = h->moved[log], last = wal_last(c->wal), durable = wal_durable(c->wal);
    h->moved[log] = before > was ? before : was;
    *e = commit_tier_done(c, &name, before, &msg);
    *event =
        (struct log_event){.kind = EVENT_TIER, .which = log, .seq = last + 1, .offset = before};
    bool logged = wal_last(c->wal) != last;
    if (*e) {
        CHECK(!logged, "log %d: %s, and logged", log, err_name(*e));
        CHECK(*e != ERR_INVALID || m->seq > durable || m->tier_seq > durable, "log %d: %s", log,
              msg.text);
        h->moved[log] = was;
        return false;
    }
    const struct model_record *newest = before > 1 ? appended(h, log, before - 1) : NULL;
    CHECK(!newest || newest->seq <= wal_durable(c->wal), "log %d: what is not durable is moved",
          log);
    CHECK(logged ? before >= m->tiered : before <= m->tiered,
          "log %d: moved before %" PRIu64 ", was %" PRIu64, log, before, m->tiered);
    return logged;
}

void logs_delete_moved(struct commit *c, struct logs_history *h)
{
    struct tier_due due[LOGS];
    struct tier_looking k = {.trims = due, .trim_max = LOGS};
    commit_tier_due(c, &k);
    for (size_t i = 0; i < k.trim_count; i++) {
        int log = which_log(&(struct log_name){slice_of(due[i].keyspace, due[i].keyspace_size),
                                               slice_of(due[i].key, due[i].key_size)});
        h->deleted[log] = due[i].gone > h->deleted[log] ? due[i].gone : h->deleted[log];
    }
}

// ---- retention

// How many records a policy takes out of a log: exactly, for count and bytes.
static size_t over_policy(const struct model_log *l, const struct log_policy *p)
{
    uint64_t bytes = 0;
    size_t gone = 0;
    for (size_t i = 0; i < l->n; i++)
        bytes += record_size(record_length(l->v[i].tag));
    while ((p->max_records && l->n - gone > p->max_records) ||
           (p->max_bytes && bytes > p->max_bytes)) {
        bytes -= record_size(record_length(l->v[gone].tag));
        gone++;
    }
    return gone;
}

static size_t over_age(const struct model_log *l, const struct log_policy *p, uint64_t now_us)
{
    uint64_t now_ms = now_us / 1000;
    uint64_t oldest = now_ms > p->max_age_ms ? now_ms - p->max_age_ms : 0;
    size_t gone = 0;
    if (!p->max_age_ms)
        return 0;
    while (gone < l->n && l->v[gone].time < (int64_t)(p->server_time ? oldest * 1000 : oldest))
        gone++;
    return gone;
}

size_t logs_retain(struct commit *c, struct logs_history *h, uint64_t now_us, struct os_sim *sim,
                   struct log_event events[LOGS])
{
    size_t n = 0;
    bool whole = sim && admit_write(c) == ERR_OK;
    (void)commit_retain(c, 1000);
    whole = whole && !sim_power_is_off(sim);
    for (int i = 0; i < LOGS; i++) {
        const struct model_log *m = &h->now.logs[i];
        const struct log_policy *p = &h->now.spaces[space_of(i)].policy;
        if (!m->exists)
            continue;
        size_t least = over_policy(m, p), most = over_age(m, p, now_us);
        most = most > least ? most : least;
        struct log_name name = log_name(i);
        struct keyspace *k = logs_keyspace(c->logs, name.keyspace);
        uint64_t hash = logs_hash(c->logs, k->id, name.key);
        logs_lock(c->logs, logs_shard(hash));
        const struct log *l = logs_find(c->logs, hash, k, name.key);
        uint64_t first = l->first, seq = l->seq;
        logs_unlock(c->logs, logs_shard(hash));
        if (first == m->first) {
            CHECK(!whole || least == 0, "log %d: retention left %zu records too many", i, least);
            continue;
        }
        size_t gone = 0;
        while (gone < m->n && m->v[gone].offset < first)
            gone++;
        // Ages are not looked at each time.
        CHECK(gone == least || gone == most, "log %d: retention took %zu records, expected %zu", i,
              gone, least);
        events[n++] =
            (struct log_event){.kind = EVENT_TRIM, .which = i, .seq = seq, .offset = first};
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            if (events[j].seq < events[i].seq) {
                struct log_event e = events[i];
                events[i] = events[j];
                events[j] = e;
            }
    return n;
}
