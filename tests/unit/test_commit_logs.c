// Logs in the commit room on the simulated machine, without threads: a model that is a plain array
// of records, against random appends, trims, deletions, checkpoints and restarts; pages of any size
// in both directions from any start. Crashes are in tests/crash/crash_commit.c.
#include "base/limits.h"
#include "base/os_sim.h"
#include "commit/commit.h"
#include "commit/log.h"
#include "store/store_int.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <inttypes.h>
#include <cmocka.h>

enum { RECORDS = 4000, MOVED = 100000 };

struct model_record {
    uint64_t offset;
    int64_t time;
    u128 nonce;
    size_t n;
    uint8_t fill;
};

struct model {
    struct model_record v[RECORDS]; // there now, in order
    size_t n;
    uint64_t first, end;
    u128 next_nonce;
};

struct fix {
    struct os_sim *sim;
    struct commit *c;
    struct commit_options o;
    uint64_t rng;
    struct model m;
    uint8_t bytes[100000];
    bool tiered;
    // What stands for a tier of objects: records as they were moved, by offset.
    struct buf moved[MOVED];
    uint64_t moved_end, tier_reads;
    uint64_t deleted_to, deletions; // what was moved before this offset was deleted
};

static const struct log_name name = {{(const uint8_t *)"ks", 2}, {(const uint8_t *)"a/b\0c", 5}};

static uint64_t random_below(struct fix *f, uint64_t n)
{
    f->rng ^= f->rng << 13;
    f->rng ^= f->rng >> 7;
    f->rng ^= f->rng << 17;
    return f->rng % n;
}

static void open_it(struct fix *f)
{
    struct errmsg msg = {0};
    enum err e = commit_open(&f->c, &f->o, NULL, &msg);
    if (e)
        fail_msg("open: %s", msg.text);
}

static int set_up(void **state)
{
    struct fix *f = calloc(1, sizeof *f);
    struct log_policy p = {0};
    struct errmsg msg = {0};
    uint64_t dep, created;
    f->sim = sim_new(7);
    const char *given = os_env("VARVE_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : 88172645463325252u;
    print_message("seed: VARVE_TEST_SEED=%" PRIu64 "\n", seed);
    f->rng = seed ? seed : 1; // xorshift stays at 0
    f->m.first = f->m.end = 1;
    f->o = (struct commit_options){
        .os = sim_os(f->sim),
        .dir = "/data",
        .store_open = store_open_sim,
        .segment_size = 1 << 20,
        .max_segments = 8,
        .memory_limit = 64u << 20,
        .max_key = 64,
        .max_value = 1u << 20,
    };
    sim_set_wall_ms(f->sim, 1000000);
    open_it(f);
    assert_int_equal(commit_keyspace_create(f->c, name.keyspace, &p, &created, &dep, &msg), ERR_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fix *f = *state;
    if (f->c)
        commit_abandon(f->c);
    for (size_t i = 0; i < MOVED; i++)
        buf_release(&f->moved[i]);
    sim_free(f->sim);
    free(f);
    return 0;
}

static void checkpoint(struct fix *f)
{
    struct errmsg msg = {0};
    assert_int_equal(commit_flush(f->c), ERR_OK);
    if (commit_checkpoint(f->c, &msg))
        fail_msg("checkpoint: %s", msg.text);
}

static void fetched(void *arg, enum err e)
{
    *(enum err *)arg = e;
}

static enum err txn(struct fix *f, struct txn *t, struct errmsg *msg)
{
    uint64_t dep;
    for (int i = 0; i < 100; i++) {
        enum err got = ERR_OK, e = commit_txn(f->c, t, &dep, msg);
        if (e == ERR_COLD)
            assert_int_equal(commit_txn_fetch(f->c, t, fetched, &got), ERR_OK);
        else if (e == ERR_FULL)
            checkpoint(f);
        else
            return e;
        assert_int_equal(got, ERR_OK);
    }
    fail_msg("a transaction never ended");
    return ERR_AGAIN;
}

static enum err append(struct fix *f, struct log_append *a, struct errmsg *msg)
{
    struct txn_op op = {.kind = TXN_APPEND, .append = a};
    struct txn t = {.ops = &op, .count = 1};
    return txn(f, &t, msg);
}

static void append_some(struct fix *f)
{
    struct model *m = &f->m;
    struct log_input in[40];
    struct errmsg msg = {0};
    size_t n = 1 + random_below(f, 40), taken = 0, used = 0;
    uint64_t first = m->end;
    for (size_t i = 0; i < n; i++) {
        size_t size = random_below(f, 50) ? random_below(f, 300) : random_below(f, 50000);
        if (used + size > sizeof f->bytes || m->n >= RECORDS) {
            n = i;
            break;
        }
        uint8_t fill = (uint8_t)random_below(f, 256);
        memset(f->bytes + used, fill, size);
        u128 nonce = NONCE_NONE;
        if (random_below(f, 3))
            nonce = (m->next_nonce > 5 ? m->next_nonce - 5 : 0) + random_below(f, 20);
        in[i] = (struct log_input){slice_of(f->bytes + used, size), nonce,
                                   (int64_t)random_below(f, 100000) - 50000, true};
        used += size;
        if (nonce != NONCE_NONE && nonce < m->next_nonce)
            continue;
        if (nonce != NONCE_NONE)
            m->next_nonce = nonce + 1;
        m->v[m->n++] = (struct model_record){m->end++, in[i].timestamp, nonce, size, fill};
        taken++;
    }
    if (n == 0)
        return;
    struct log_append a = {.name = name, .records = in, .count = n};
    if (append(f, &a, &msg))
        fail_msg("append: %s", msg.text);
    assert_int_equal(a.appended, taken);
    assert_int_equal(a.first_offset, first);
    assert_int_equal(a.end_offset, m->end);
    assert_true(a.next_nonce == m->next_nonce);
}

static void trim_some(struct fix *f)
{
    struct model *m = &f->m;
    struct errmsg msg = {0};
    uint64_t dep, first, span = m->end - m->first + 1;
    uint64_t before = m->first + random_below(f, random_below(f, 5) ? span / 8 + 1 : span);
    struct log_from to = {.start = LOG_START_OFFSET, .offset = before};
    enum err e = commit_log_trim(f->c, &name, &to, &first, &dep, &msg);
    if (e == ERR_MISSING && m->end == 1)
        return;
    if (e)
        fail_msg("trim: %s", msg.text);
    size_t gone = 0;
    while (gone < m->n && m->v[gone].offset < before)
        gone++;
    memmove(m->v, m->v + gone, (m->n - gone) * sizeof *m->v);
    m->n -= gone;
    m->first = before > m->first ? before : m->first;
    assert_int_equal(first, m->first);
}

static void erase_one(struct fix *f)
{
    struct model *m = &f->m;
    struct errmsg msg = {0};
    uint64_t dep, offset = m->first + random_below(f, m->end - m->first + 1);
    size_t i = 0;
    while (i < m->n && m->v[i].offset != offset)
        i++;
    enum err e = commit_log_erase(f->c, &name, offset, &dep, &msg);
    assert_int_equal(e, i < m->n ? ERR_OK : ERR_MISSING);
    if (e)
        return;
    memmove(m->v + i, m->v + i + 1, (m->n - i - 1) * sizeof *m->v);
    m->n--;
}

// The model's record that a start names, as an index; m->n or SIZE_MAX: none.
static size_t model_start(const struct model *m, const struct log_from *from)
{
    bool forwards = from->direction == LOG_FORWARDS;
    for (size_t k = 0; k < m->n; k++) {
        size_t i = forwards ? k : m->n - 1 - k;
        const struct model_record *r = &m->v[i];
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
    return forwards ? m->n : SIZE_MAX;
}

static void check_record(const struct record *r, const struct model_record *want)
{
    assert_int_equal(r->offset, want->offset);
    assert_int_equal(r->timestamp, want->time);
    assert_true(r->nonce == want->nonce);
    assert_int_equal(r->bytes.n, want->n);
    for (size_t i = 0; i<want->n; i += want->n> 50 ? 37 : 1)
        assert_int_equal(r->bytes.p[i], want->fill);
}

static bool wanted(const struct log_query *q, const struct model_record *r)
{
    if (q->filter == LOG_FILTER_NONE)
        return true;
    return r->n && r->fill == q->pattern.p[0]; // one byte: prefix and contains say the same
}

// Reads from a random start to the end, in pages of random size, against the model.
static void read_all(struct fix *f)
{
    struct model *m = &f->m;
    uint8_t pattern = m->n ? m->v[random_below(f, m->n)].fill : 0;
    struct log_query q = {
        .name = name,
        .from = {.direction = (enum log_direction)random_below(f, 2),
                 .start = (enum log_start)random_below(f, 4),
                 .offset = random_below(f, m->end + 3),
                 .time = (int64_t)random_below(f, 110000) - 55000,
                 .nonce = random_below(f, (uint64_t)m->next_nonce + 3)},
        .max_records = 1 + random_below(f, random_below(f, 2) ? 10 : 500),
        .max_bytes = 1 + random_below(f, 200000),
        .filter = (enum log_filter)(random_below(f, 3) ? 0 : 1 + random_below(f, 2)),
        .pattern = slice_of(&pattern, 1),
        .may_block = true,
    };
    char token[LOG_TOKEN] = "";
    size_t i = model_start(m, &q.from);
    bool forwards = q.from.direction == LOG_FORWARDS, more = true;
    while (more) {
        struct log_page page;
        struct errmsg msg = {0};
        struct record r;
        uint64_t dep, seen = 0, bytes = 0;
        enum err e = commit_log_read(f->c, &q, &page, &dep, &msg);
        if (e)
            fail_msg("read: %s", msg.text);
        while (log_page_next(&page, &r)) {
            while (i < m->n && !wanted(&q, &m->v[i]))
                i = forwards ? i + 1 : i - 1;
            assert_true(i < m->n);
            check_record(&r, &m->v[i]);
            i = forwards ? i + 1 : i - 1;
            seen++;
            bytes += record_size(r.bytes.n);
        }
        assert_int_equal(page.records, seen);
        assert_int_equal(page.bytes, bytes);
        assert_true(seen <= q.max_records && (seen <= 1 || bytes <= q.max_bytes));
        // Of what is not durable an answer speaks only if it waits for that.
        assert_true(page.end_offset == m->end || (dep == 0 && page.end_offset < m->end));
        assert_int_equal(page.first_offset, m->first);
        more = page.more;
        if (more && !q.filter)
            assert_true(seen > 0);
        memcpy(token, page.continuation, sizeof token);
        q.continuation = slice_str(token);
        log_page_release(&page);
    }
    while (i < m->n && !wanted(&q, &m->v[i]))
        i = forwards ? i + 1 : i - 1;
    assert_true(i >= m->n);
}

static void check_meta(struct fix *f)
{
    struct model *m = &f->m;
    struct log_meta meta;
    struct errmsg msg = {0};
    uint64_t dep, bytes = 0;
    enum err e = commit_log_meta(f->c, &name, &meta, &dep, &msg);
    assert_int_equal(e, m->end == 1 ? ERR_MISSING : ERR_OK);
    if (e)
        return;
    for (size_t i = 0; i < m->n; i++)
        bytes += record_size(m->v[i].n);
    assert_int_equal(meta.records, m->n);
    assert_int_equal(meta.bytes, bytes);
    assert_int_equal(meta.first_offset, m->first);
    assert_int_equal(meta.end_offset, m->end);
    assert_true(meta.next_nonce == m->next_nonce);
}

// ---- tiering

static enum err read_moved(void *arg, const struct log_name *n, uint64_t first, uint64_t last,
                           struct buf *out, struct errmsg *msg)
{
    struct fix *f = arg;
    assert_true(slice_equal(n->keyspace, name.keyspace) && slice_equal(n->key, name.key));
    assert_true(last < f->moved_end);
    f->tier_reads++;
    for (uint64_t o = first; o <= last; o++) {
        if (!buf_len(&f->moved[o]))
            return err_set(msg, ERR_MISSING, "no record %" PRIu64, o);
        assert_int_equal(buf_append(out, buf_head(&f->moved[o]), buf_len(&f->moved[o])), ERR_OK);
    }
    return ERR_OK;
}

// What is gone goes from the objects too.
static void delete_moved(struct fix *f, const struct tier_due *d)
{
    assert_true(d->gone > 1 && d->tiered > 1);
    for (uint64_t o = f->deleted_to; o < d->gone; o++)
        buf_release(&f->moved[o]);
    f->deletions += d->gone > f->deleted_to;
    f->deleted_to = d->gone > f->deleted_to ? d->gone : f->deleted_to;
    commit_tier_trimmed(f->c, &name, d->gone + 1 + random_below(f, 20));
}

// Moves what is due: all that is durable from the log's mark on.
static void move_some(struct fix *f)
{
    struct errmsg msg = {0};
    struct tier_due due[2], trims[1];
    struct tier_looking k = {.min_bytes = 1 + random_below(f, 100000),
                             .max_age_ms = 3600000,
                             .moves = due,
                             .move_max = 2,
                             .trims = trims,
                             .trim_max = 1};
    struct log_page page;
    struct record r;
    uint64_t dep;
    if (random_below(f, 2))
        assert_int_equal(commit_flush(f->c), ERR_OK);
    commit_tier_due(f->c, &k);
    if (k.trim_count)
        delete_moved(f, &trims[0]);
    if (!k.move_count)
        return;
    struct log_query q = {.name = name,
                          .from = {.start = LOG_START_OFFSET, .offset = due[0].tiered},
                          .max_records = 1 + random_below(f, 100),
                          .max_bytes = LIMIT_PAGE_BYTES,
                          .may_block = true};
    assert_int_equal(commit_log_read(f->c, &q, &page, &dep, &msg), ERR_OK);
    while (log_page_next(&page, &r)) {
        struct buf *b = &f->moved[r.offset];
        assert_true(r.offset < MOVED);
        buf_release(b);
        buf_init(b, record_size(r.bytes.n));
        assert_int_equal(buf_reserve(b, record_size(r.bytes.n)), ERR_OK);
        record_write(buf_tail(b), &r);
        b->end += record_size(r.bytes.n);
    }
    uint64_t before = due[0].tiered == due[0].end ? due[0].end : page.next;
    log_page_release(&page);
    f->moved_end = before > f->moved_end ? before : f->moved_end;
    enum err e = commit_tier_done(f->c, &name, before, &msg);
    if (e != ERR_OK)
        assert_int_equal(e, dep ? ERR_INVALID : ERR_OK); // not durable yet
}

static uint64_t dropped(struct fix *f)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    assert_int_equal(commit_metrics(f->c, &b), ERR_OK);
    assert_int_equal(buf_append(&b, "", 1), ERR_OK);
    const char *at = strstr((const char *)buf_head(&b), "\nvarve_tier_dropped_total ");
    assert_non_null(at);
    uint64_t n = strtoull(at + strlen("\nvarve_tier_dropped_total "), NULL, 10);
    buf_release(&b);
    return n;
}

// What `varve check` looks at.
static void check_below(struct fix *f)
{
    struct commit_recovery found;
    struct errmsg msg = {0};
    assert_int_equal(commit_close(f->c), ERR_OK);
    if (commit_check(&f->o, &found, &msg))
        fail_msg("check: %s", msg.text);
    open_it(f);
}

static void run_model(struct fix *f)
{
    uint64_t gone = 0;
    for (int round = 0; round < 3000; round++) {
        switch (random_below(f, 12)) {
        case 0:
            trim_some(f);
            break;
        case 1:
        case 2:
            erase_one(f);
            break;
        case 3:
            if (f->tiered)
                move_some(f);
            checkpoint(f);
            break;
        case 4:
            gone += f->tiered ? dropped(f) : 0;
            assert_int_equal(commit_close(f->c), ERR_OK);
            open_it(f);
            break;
        case 5:
            assert_int_equal(commit_flush(f->c), ERR_OK);
            commit_abandon(f->c); // recovers from the log
            open_it(f);
            break;
        case 6:
        case 7:
        case 8:
            append_some(f);
            break;
        default:
            read_all(f);
        }
        if (round % 10 == 0)
            check_meta(f);
        if (f->tiered && round % 7 == 0)
            move_some(f);
        if (f->tiered && round % 100 == 0)
            check_below(f);
    }
    if (f->tiered)
        assert_true(gone > 0 && f->tier_reads > 0 && f->deletions > 5);
}

static void test_model(void **state)
{
    run_model(*state);
}

// The same with a tier into which things move now and then, and from which they are read.
static void test_model_tiered(void **state)
{
    struct fix *f = *state;
    assert_int_equal(commit_close(f->c), ERR_OK);
    f->tiered = true;
    f->o.tier = (struct commit_tier){
        .read = read_moved, .arg = f, .local_bytes = random_below(f, 2) ? 0 : 100000};
    open_it(f);
    run_model(f);
}

static enum err no_objects(void *arg, const struct log_name *n, uint64_t first, uint64_t last,
                           struct buf *out, struct errmsg *msg)
{
    return err_set(msg, ERR_NETWORK, "nobody answers");
}

static void reopen_without_objects(struct fix *f)
{
    assert_int_equal(commit_close(f->c), ERR_OK);
    f->o.tier = (struct commit_tier){.read = no_objects, .arg = f};
    open_it(f);
}

// All of a log is in objects, which cannot be reached: it still takes records, as recovery does.
static void test_append_without_objects(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    struct log_input in = {slice_str("record"), NONCE_NONE, 1, true};
    struct log_append a = {.name = name, .records = &in, .count = 1};
    reopen_without_objects(f);
    for (uint64_t end = 2; end < 12; end++) {
        if (append(f, &a, &msg))
            fail_msg("append: %s", msg.text);
        assert_int_equal(a.end_offset, end);
        if (end % 3 == 0) { // the bytes of all of it go
            uint64_t before = dropped(f);
            assert_int_equal(commit_flush(f->c), ERR_OK);
            assert_int_equal(commit_tier_done(f->c, &name, end, &msg), ERR_OK);
            checkpoint(f); // the rows of what is dropped are below
            assert_int_equal(commit_tier_done(f->c, &name, end, &msg), ERR_OK);
            checkpoint(f);
            assert_true(dropped(f) > before);
        }
        assert_int_equal(commit_flush(f->c), ERR_OK);
        if (end % 2)
            commit_abandon(f->c);
        else
            assert_int_equal(commit_close(f->c), ERR_OK);
        open_it(f);
    }
}

static size_t due_logs(struct fix *f)
{
    struct tier_due due[2];
    struct tier_looking k = {.min_bytes = 1, .moves = due, .move_max = 2};
    commit_tier_due(f->c, &k);
    return k.move_count;
}

// A log that rests, or waits for its age, does so for as long also where the clock is set back.
static void test_clock_set_back(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    struct log_input in = {slice_str("record"), NONCE_NONE, 1, true};
    struct log_append a = {.name = name, .records = &in, .count = 1};
    reopen_without_objects(f);
    sim_set_wall_ms(f->sim, 1000000000);
    assert_int_equal(append(f, &a, &msg), ERR_OK);
    assert_int_equal(commit_flush(f->c), ERR_OK);
    assert_int_equal(due_logs(f), 1);
    sim_advance_ms(f->sim, 100000);
    commit_tier_rest(f->c, &name);
    assert_int_equal(due_logs(f), 0);
    sim_set_wall_ms(f->sim, 1000000); // days ago
    sim_advance_ms(f->sim, 59000);
    assert_int_equal(due_logs(f), 0);
    sim_advance_ms(f->sim, 2000);
    assert_int_equal(due_logs(f), 1);
    assert_int_equal(commit_tier_done(f->c, &name, 2, &msg), ERR_OK);
    assert_int_equal(due_logs(f), 1); // its bytes may go, though the note is not durable yet
    assert_int_equal(commit_tier_done(f->c, &name, 2, &msg), ERR_OK);
    assert_int_equal(due_logs(f), 0); // for now
    sim_set_wall_ms(f->sim, 1000);
    sim_advance_ms(f->sim, 3000);
    assert_int_equal(due_logs(f), 1);
}

static void bad_token(struct fix *f, const char *text, const struct log_name *n)
{
    struct log_query q = {
        .name = *n, .max_records = 1, .max_bytes = 1, .continuation = slice_str(text)};
    struct log_page page;
    struct errmsg msg = {0};
    uint64_t dep;
    assert_int_equal(commit_log_read(f->c, &q, &page, &dep, &msg), ERR_INVALID);
    assert_non_null(strstr(msg.text, "continuation"));
}

static void test_tokens(void **state)
{
    struct fix *f = *state;
    struct log_query q = {.name = name, .max_records = 1, .max_bytes = 1 << 20};
    struct log_page page;
    struct errmsg msg = {0};
    uint64_t dep;
    char token[LOG_TOKEN];
    for (int i = 0; i < 5; i++)
        append_some(f);
    assert_int_equal(commit_log_read(f->c, &q, &page, &dep, &msg), ERR_OK);
    assert_true(page.more);
    memcpy(token, page.continuation, sizeof token);
    log_page_release(&page);
    struct log_name other = {name.keyspace, slice_str("other")};
    bad_token(f, token, &other);
    for (size_t i = 0; i < strlen(token); i++) {
        char was = token[i];
        token[i] = was == 'f' ? '0' : 'f';
        bad_token(f, token, &name);
        token[i] = was;
    }
    token[29] = 0;
    bad_token(f, token, &name);
    bad_token(f, "x", &name);
}

static void test_bad(void **state)
{
    struct fix *f = *state;
    struct log_input in = {.bytes = slice_str("x"), .nonce = NONCE_NONE};
    struct log_append a = {.name = {slice_str("none"), slice_str("k")}, .records = &in, .count = 1};
    struct errmsg msg = {0};
    struct log_policy p = {0};
    uint64_t dep, created;
    assert_int_equal(append(f, &a, &msg), ERR_NO_KEYSPACE);
    assert_non_null(strstr(msg.text, "no keyspace \"none\""));
    a.name = (struct log_name){name.keyspace, slice_str("")};
    assert_int_equal(append(f, &a, &msg), ERR_INVALID);
    a.name = name;
    a.count = 0;
    assert_int_equal(append(f, &a, &msg), ERR_INVALID);
    assert_int_equal(commit_keyspace_create(f->c, name.keyspace, &p, &created, &dep, &msg),
                     ERR_EXISTS);
    struct log_query q = {.name = name, .max_records = 0, .max_bytes = 1};
    struct log_page page;
    assert_int_equal(commit_log_read(f->c, &q, &page, &dep, &msg), ERR_INVALID);
    q.max_records = LIMIT_PAGE_RECORDS + 1;
    assert_int_equal(commit_log_read(f->c, &q, &page, &dep, &msg), ERR_INVALID);
}

static void put_op(struct fix *f, struct txn_op *op, const char *key, uint64_t version)
{
    *op = (struct txn_op){.kind = TXN_PUT,
                          .type = VALUE_STRING,
                          .k = commit_ref(f->c, slice_str(key)),
                          .value = slice_str("v"),
                          .has_version = true,
                          .version = version};
}

// A put, an append and an idempotency key as one.
static void test_mixed(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    struct log_input in = {.bytes = slice_str("x"), .nonce = NONCE_NONE};
    struct log_append a = {.name = name, .records = &in, .count = 1};
    struct txn_op ops[2];
    struct log_meta meta;
    uint64_t dep;
    put_op(f, &ops[0], "key", 7);
    ops[1] = (struct txn_op){.kind = TXN_APPEND, .append = &a};
    struct txn t = {.ops = ops, .count = 2};
    assert_int_equal(txn(f, &t, &msg), ERR_CONFLICT);
    assert_int_equal(commit_log_meta(f->c, &name, &meta, &dep, &msg), ERR_MISSING);
    t.idempotency = slice_str("once");
    put_op(f, &ops[0], "key", 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(txn(f, &t, &msg), ERR_OK);
        assert_int_equal(t.replayed, i > 0);
        assert_int_equal(a.first_offset, 1);
        assert_int_equal(a.end_offset, 2);
        assert_int_equal(a.appended, 1);
        if (i == 1)
            checkpoint(f);
    }
    assert_int_equal(commit_log_meta(f->c, &name, &meta, &dep, &msg), ERR_OK);
    assert_int_equal(meta.records, 1);
    struct txn_op twice[2] = {ops[1], ops[1]};
    struct txn t2 = {.ops = twice, .count = 2};
    assert_int_equal(txn(f, &t2, &msg), ERR_INVALID);
}

// What shows only that a keyspace exists rests on that; a token from elsewhere, on what is shown.
static void test_dep(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    struct log_policy p = {0};
    struct log_name n = {slice_str("new"), slice_str("k")};
    struct log_query q = {.name = n, .max_records = 10, .max_bytes = 1000};
    struct log_page page;
    struct log_meta meta;
    uint64_t dep, made, created, first;
    assert_int_equal(commit_keyspace_create(f->c, n.keyspace, &p, &created, &made, &msg), ERR_OK);
    assert_int_equal(commit_log_read(f->c, &q, &page, &dep, &msg), ERR_OK);
    assert_int_equal(dep, made);
    log_page_release(&page);
    assert_int_equal(commit_log_meta(f->c, &n, &meta, &dep, &msg), ERR_MISSING);
    assert_int_equal(dep, made);
    assert_int_equal(commit_log_flush(f->c, &n, &dep, &msg), ERR_OK);
    assert_int_equal(dep, made);
    assert_int_equal(commit_log_erase(f->c, &n, 1, &dep, &msg), ERR_MISSING);
    assert_int_equal(dep, made);
    struct log_from to = {.start = LOG_START_OFFSET, .offset = 1};
    assert_int_equal(commit_log_trim(f->c, &n, &to, &first, &dep, &msg), ERR_MISSING);
    assert_int_equal(dep, made);
    assert_int_equal(commit_flush(f->c), ERR_OK);
    assert_int_equal(commit_log_read(f->c, &q, &page, &dep, &msg), ERR_OK);
    assert_int_equal(dep, 0);
    log_page_release(&page);
}

static void woken(void *arg)
{
    ++*(int *)arg;
}

static void test_watch(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    int wakes = 0;
    struct log_watch w = {.wake = woken, .arg = &wakes}, v = {.wake = woken, .arg = &wakes};
    assert_false(commit_log_unwatch(f->c, &w));
    assert_int_equal(commit_log_watch(f->c, &name, 1, &w, &msg), ERR_OK); // not even a log yet
    assert_int_equal(commit_log_watch(f->c, &name, 1000000, &v, &msg), ERR_OK);
    append_some(f);
    append_some(f);
    assert_int_equal(wakes, 1);
    assert_false(commit_log_unwatch(f->c, &w));
    assert_true(commit_log_unwatch(f->c, &v));
    assert_int_equal(commit_log_watch(f->c, &name, f->m.end - 1, &w, &msg), ERR_AGAIN);
}

// Event streams: strictly rising microseconds, also when the clock goes back and across a restart.
static void test_server_time(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    struct log_policy p = {.server_time = true};
    struct log_input in[3] = {{.bytes = slice_str("a"), .nonce = NONCE_NONE},
                              {.bytes = slice_str("b"), .nonce = NONCE_NONE},
                              {.bytes = slice_str("c"), .nonce = NONCE_NONE}};
    struct log_name events = {slice_str("events"), slice_str("events")};
    struct log_append a = {.name = events, .records = in, .count = 3};
    uint64_t dep, created;
    int64_t last = 0;
    assert_int_equal(commit_keyspace_create(f->c, events.keyspace, &p, &created, &dep, &msg),
                     ERR_OK);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(append(f, &a, &msg), ERR_OK);
        assert_true(a.timestamp >= last + 3);
        last = a.timestamp;
        sim_set_wall_ms(f->sim, i % 2 ? 2000000 : 1000);
        if (i % 5 == 0) {
            assert_int_equal(commit_close(f->c), ERR_OK);
            open_it(f);
        }
    }
    in[1].has_timestamp = true;
    assert_int_equal(append(f, &a, &msg), ERR_INVALID);
    p.server_time = false;
    assert_int_equal(commit_keyspace_policy(f->c, events.keyspace, &p, &dep, &msg), ERR_INVALID);
}

static void append_lines(struct fix *f, const struct log_name *n, int count, int64_t time)
{
    struct errmsg msg = {0};
    for (int i = 0; i < count; i++) {
        struct log_input in = {.bytes = slice_of(f->bytes, 1000),
                               .nonce = NONCE_NONE,
                               .timestamp = time + i,
                               .has_timestamp = true};
        struct log_append a = {.name = *n, .records = &in, .count = 1};
        assert_int_equal(append(f, &a, &msg), ERR_OK);
    }
}

// What is left after retention: records [first, end) and no others.
static void check_kept(struct fix *f, const struct log_name *n, uint64_t first, uint64_t end)
{
    struct errmsg msg = {0};
    struct log_meta meta;
    uint64_t dep;
    while (commit_retain(f->c, 10))
        ;
    assert_int_equal(commit_log_meta(f->c, n, &meta, &dep, &msg), ERR_OK);
    assert_int_equal(meta.first_offset, first);
    assert_int_equal(meta.end_offset, end);
    assert_int_equal(meta.records, end - first);
}

static void set_policy(struct fix *f, struct slice keyspace, uint64_t age, uint64_t bytes,
                       uint64_t records)
{
    struct errmsg msg = {0};
    uint64_t dep;
    struct log_policy p = {.max_age_ms = age, .max_bytes = bytes, .max_records = records};
    assert_int_equal(commit_keyspace_policy(f->c, keyspace, &p, &dep, &msg), ERR_OK);
}

// What is asked for and no longer kept is said, in both directions, from a start and from a token.
static void test_truncated(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    struct log_page page;
    uint64_t dep, first;
    char token[2][LOG_TOKEN];
    append_lines(f, &name, 10, 0);
    for (int d = 0; d < 2; d++) {
        struct log_query q = {.name = name,
                              .from = {.direction = (enum log_direction)d},
                              .max_records = d ? 7 : 1,
                              .max_bytes = 1 << 20};
        assert_int_equal(commit_log_read(f->c, &q, &page, &dep, &msg), ERR_OK);
        assert_false(page.truncated);
        memcpy(token[d], page.continuation, LOG_TOKEN); // at 2, and at 3
        log_page_release(&page);
    }
    struct log_from to = {.start = LOG_START_OFFSET, .offset = 5};
    assert_int_equal(commit_log_trim(f->c, &name, &to, &first, &dep, &msg), ERR_OK);
    for (int d = 0; d < 2; d++) {
        for (uint64_t offset = 0; offset < 7; offset++) { // 0: the token
            struct log_query q = {.name = name,
                                  .from = {(enum log_direction)d, LOG_START_OFFSET, offset, 0, 0},
                                  .continuation = slice_of(token[d], offset ? 0 : strlen(token[d])),
                                  .max_records = 100,
                                  .max_bytes = 1 << 20};
            assert_int_equal(commit_log_read(f->c, &q, &page, &dep, &msg), ERR_OK);
            assert_int_equal(page.truncated, offset < 5);
            assert_int_equal(page.records,
                             d ? (offset < 5 ? 0 : offset - 4) : (offset < 5 ? 6 : 11 - offset));
            assert_false(page.more);
            log_page_release(&page);
        }
    }
}

static void test_retention(void **state)
{
    struct fix *f = *state;
    append_lines(f, &name, 200, 1000);
    check_kept(f, &name, 1, 201);
    set_policy(f, name.keyspace, 0, 0, 150);
    check_kept(f, &name, 51, 201);
    set_policy(f, name.keyspace, 0, 100 * record_size(1000), 150);
    check_kept(f, &name, 101, 201);
    assert_int_equal(commit_close(f->c), ERR_OK); // cold, and the policy is remembered
    open_it(f);
    append_lines(f, &name, 10, 5000);
    check_kept(f, &name, 111, 211);
    set_policy(f, name.keyspace, 100, 0, 0);
    sim_set_wall_ms(f->sim, 1190); // kept: 1090 and later, of 1110 to 1199
    check_kept(f, &name, 111, 211);
    sim_set_wall_ms(f->sim, 1250); // 1150 and later
    check_kept(f, &name, 151, 211);
    sim_set_wall_ms(f->sim, 100000);
    check_kept(f, &name, 211, 211);
    append_lines(f, &name, 1, 99950);
    check_kept(f, &name, 211, 212);
    append_lines(f, &name, 5, -20000); // before 1970
    set_policy(f, name.keyspace, UINT64_MAX, 0, 0);
    check_kept(f, &name, 211, 217);
    sim_set_wall_ms(f->sim, 30000 + 3600000);
    set_policy(f, name.keyspace, 3650000, 0, 0); // from -20000 on
    check_kept(f, &name, 211, 217);
}

// One append to each of many logs that are all cold, where memory is over its limit for good:
// loading one must not push out another.
static void test_many_cold(void **state)
{
    enum { OTHERS = 16000, COLD = 1000 };
    struct fix *f = *state;
    struct errmsg msg = {0};
    struct log_input in = {.bytes = slice_of(f->bytes, 4000), .nonce = NONCE_NONE};
    struct log_append *a = calloc(COLD, sizeof *a);
    struct txn_op *ops = calloc(COLD, sizeof *ops);
    char(*keys)[64] = calloc(COLD, sizeof *keys);
    assert_true(a && ops && keys);
    f->o.memory_limit = 16u << 20;
    assert_int_equal(commit_close(f->c), ERR_OK);
    open_it(f);
    for (int i = 0; i < COLD; i++) {
        int n = snprintf(keys[i], sizeof keys[i], "cold %d", i);
        a[i] = (struct log_append){
            .name = {name.keyspace, slice_of(keys[i], (size_t)n)}, .records = &in, .count = 1};
        ops[i] = (struct txn_op){.kind = TXN_APPEND, .append = &a[i]};
        assert_int_equal(append(f, &a[i], &msg), ERR_OK);
    }
    for (int i = 0; i < OTHERS; i++) { // as many as there is room for
        char key[65];
        int n = snprintf(key, sizeof key, "%064d", i);
        struct log_input small = {.bytes = slice_str("x"), .nonce = NONCE_NONE};
        struct log_append b = {
            .name = {name.keyspace, slice_of(key, (size_t)n)}, .records = &small, .count = 1};
        enum err e = append(f, &b, &msg);
        if (e == ERR_NO_MEMORY)
            break;
        assert_int_equal(e, ERR_OK);
    }
    assert_int_equal(commit_close(f->c), ERR_OK);
    open_it(f);
    struct txn t = {.ops = ops, .count = COLD};
    assert_int_equal(txn(f, &t, &msg), ERR_OK);
    for (int i = 0; i < COLD; i++)
        assert_int_equal(a[i].end_offset, 3);
    free(a);
    free(ops);
    free(keys);
}

// Logs cannot take all memory: at some number a new one is refused, and those that are there go on.
static void test_too_many(void **state)
{
    struct fix *f = *state;
    struct errmsg msg = {0};
    struct log_input in = {.bytes = slice_str("x"), .nonce = NONCE_NONE};
    char key[32];
    enum err e = ERR_OK;
    uint64_t n = 0;
    for (; n < 1000000 && !e; n++) {
        snprintf(key, sizeof key, "log-%llu", (unsigned long long)n);
        struct log_append a = {.name = {name.keyspace, slice_str(key)}, .records = &in, .count = 1};
        e = append(f, &a, &msg);
    }
    assert_int_equal(e, ERR_NO_MEMORY);
    assert_non_null(strstr(msg.text, "storage.memory_limit"));
    assert_true(n > 10000);
    struct log_append a = {.name = {name.keyspace, slice_str("log-0")}, .records = &in, .count = 1};
    assert_int_equal(append(f, &a, &msg), ERR_OK);
    assert_int_equal(a.first_offset, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_model, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_model_tiered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_append_without_objects, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_clock_set_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tokens, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_mixed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_watch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_server_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_retention, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_truncated, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_many, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dep, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_cold, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
