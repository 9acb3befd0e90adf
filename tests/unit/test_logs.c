// The logs in RAM against a model: arrays of what was appended, and what a store below would have.
#include "unit.h"

#include "base/limits.h"
#include "base/os.h"
#include "table/logs.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct random {
    uint64_t state;
};

static uint64_t next_random(struct random *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t below(struct random *r, uint64_t n)
{
    return next_random(r) % n;
}

static uint64_t test_seed(void)
{
    uint64_t seed;
    os_random(os_real(), &seed, sizeof seed);
    const char *given = os_env("VARVE_TEST_SEED");
    if (given)
        seed = strtoull(given, NULL, 0);
    print_message("seed: VARVE_TEST_SEED=%" PRIu64 "\n", seed);
    return seed;
}

// ---- the model

enum {
    LOGS = 5,
    RECORDS = 60000, // of one log, ever
    ROWS = 6000,
    RECORD_MAX = 100000,
    BATCH = 64,
    HELD = 16,
    PINS = 64,
};

struct fact { // a record; its bytes follow from its offset
    int64_t time;
    u128 nonce;
    uint32_t size;
    bool alive;
};

// What a store would have: chunks by their first offsets, in rising order.
struct row {
    struct chunk_meta meta;
    uint8_t *bytes;
};

struct model_log {
    struct log *log;
    unsigned shard;
    struct fact *facts; // of offset n at [n - 1]
    uint64_t first, end;
    uint64_t records, bytes, seq, settled, settling, settling_seq;
    u128 next_nonce;
    int64_t last_time;
    struct row *rows;
    size_t row_count;
};

// Spans somebody holds, and what was in them.
struct held {
    struct log_span span;
    uint8_t *copy;
};

struct model_pin {
    struct log_pin p;
    uint8_t **copies;
};

struct model {
    struct logs *l;
    struct random rnd;
    struct keyspace *keyspaces[2];
    struct model_log logs[LOGS];
    uint64_t seq;
    struct held held[HELD];
    struct model_pin pins[PINS];
    size_t pin_count;
    uint8_t *scratch;
};

static uint8_t byte_of(uint64_t offset, size_t i)
{
    return (uint8_t)(offset * 31 + i * 7);
}

static struct keyspace *put_keyspace(struct logs *l, uint32_t id, const char *name)
{
    struct log_policy p = {.max_bytes = id};
    struct keyspace *k = logs_keyspace_put(l, id, slice_str(name), 1, &p, id);
    assert_non_null(k);
    return k;
}

static struct log *add_log(struct logs *l, struct keyspace *k, const char *key, uint64_t id)
{
    uint64_t hash = logs_hash(l, k->id, slice_str(key));
    unsigned shard = logs_shard(hash);
    logs_lock(l, shard);
    assert_null(logs_find(l, hash, k, slice_str(key)));
    struct log *log = logs_prepare(l, hash, k, slice_str(key), id);
    assert_non_null(log);
    logs_publish(l, hash, log);
    assert_ptr_equal(logs_find(l, hash, k, slice_str(key)), log);
    assert_true(log->shard == shard && log->first == 1 && log->end == 1);
    logs_unlock(l, shard);
    return log;
}

static struct model *model_new(uint64_t seed)
{
    struct model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->rnd.state = seed;
    m->l = logs_new(seed);
    assert_non_null(m->l);
    m->keyspaces[0] = put_keyspace(m->l, 1, "a");
    m->keyspaces[1] = put_keyspace(m->l, 2, "b");
    m->scratch = malloc((size_t)BATCH * RECORD_MAX);
    assert_non_null(m->scratch);
    for (unsigned i = 0; i < LOGS; i++) {
        struct model_log *g = &m->logs[i];
        char key[16];
        snprintf(key, sizeof key, "log-%u", i / 2); // the same keys in both keyspaces
        g->log = add_log(m->l, m->keyspaces[i % 2], key, i + 1);
        g->shard = g->log->shard;
        g->facts = calloc(RECORDS, sizeof *g->facts);
        g->rows = calloc(ROWS, sizeof *g->rows);
        assert_true(g->facts && g->rows);
        g->first = g->end = 1;
        g->last_time = INT64_MIN;
    }
    return m;
}

static void model_free(struct model *m)
{
    logs_free(m->l);
    for (unsigned i = 0; i < LOGS; i++) {
        for (size_t k = 0; k < m->logs[i].row_count; k++)
            free(m->logs[i].rows[k].bytes);
        free(m->logs[i].rows);
        free(m->logs[i].facts);
    }
    free(m->scratch);
    free(m);
}

// ---- the store below

static size_t row_at(const struct model_log *g, uint64_t first)
{
    size_t i = 0;
    while (i < g->row_count && g->rows[i].meta.first < first)
        i++;
    return i;
}

static void put_row(struct model_log *g, const struct chunk *c)
{
    size_t i = row_at(g, c->meta.first);
    if (i == g->row_count || g->rows[i].meta.first != c->meta.first) {
        assert_true(g->row_count < ROWS);
        memmove(&g->rows[i + 1], &g->rows[i], (g->row_count - i) * sizeof g->rows[0]);
        g->row_count++;
    } else {
        free(g->rows[i].bytes);
    }
    g->rows[i].meta = c->meta;
    g->rows[i].bytes = malloc(c->meta.bytes + 1);
    assert_non_null(g->rows[i].bytes);
    if (c->meta.bytes)
        memcpy(g->rows[i].bytes, c->block->bytes, c->meta.bytes);
}

static void sweep_rows(struct model_log *g, uint64_t from, uint64_t to)
{
    size_t low = row_at(g, from), high = row_at(g, to);
    if (low >= high)
        return;
    for (size_t i = low; i < high; i++)
        free(g->rows[i].bytes);
    memmove(&g->rows[low], &g->rows[high], (g->row_count - high) * sizeof g->rows[0]);
    g->row_count -= high - low;
}

// What ERR_COLD asked for.
static void load(struct model *m, struct model_log *g, uint64_t first)
{
    if (first == 0) {
        struct chunk_meta *metas = calloc(g->row_count + 1, sizeof *metas);
        assert_non_null(metas);
        for (size_t i = 0; i < g->row_count; i++)
            metas[i] = g->rows[i].meta;
        assert_null(g->log->index);
        assert_ok(log_load_index(m->l, g->log, metas, g->row_count));
        free(metas);
        return;
    }
    assert_non_null(g->log->index);
    size_t i = row_at(g, first);
    assert_true(i < g->row_count && g->rows[i].meta.first == first);
    assert_ok(
        log_load_chunk(m->l, g->log, first, slice_of(g->rows[i].bytes, g->rows[i].meta.bytes)));
}

// ---- changes

static uint32_t random_size(struct random *r)
{
    switch (below(r, 40)) {
    case 0:
        return (uint32_t)below(r, RECORD_MAX - RECORD_OVERHEAD);
    case 1:
    case 2:
        return (uint32_t)below(r, 12000);
    case 3: // just about a chunk
        return LOGS_CHUNK - RECORD_OVERHEAD - 2 + (uint32_t)below(r, 5);
    default:
        return (uint32_t)below(r, 300);
    }
}

static int64_t random_time(struct random *r, const struct model_log *g)
{
    int64_t about = (int64_t)(g->end / 3); // rising, with neighbours that are equal
    switch (below(r, 16)) {
    case 0:
        return about - (int64_t)below(r, 3000);
    case 1:
        return about + (int64_t)below(r, 3000);
    default:
        return about;
    }
}

static struct fact random_fact(struct random *r, struct model_log *g, bool nonces)
{
    struct fact f = {.time = random_time(r, g), .nonce = NONCE_NONE, .alive = true};
    f.size = random_size(r);
    if (nonces && below(r, 3) > 0) {
        f.nonce = g->next_nonce + below(r, 4);
        g->next_nonce = f.nonce + 1;
    }
    if (f.time > g->last_time)
        g->last_time = f.time;
    return f;
}

static void append(struct model *m, struct model_log *g)
{
    size_t count = 1 + below(&m->rnd, below(&m->rnd, 3) ? 3 : BATCH);
    if (g->end + count >= RECORDS)
        return;
    uint64_t first, old_end = g->end;
    while (!log_can_append(g->log, &first))
        load(m, g, first);
    bool nonces = below(&m->rnd, 2);
    uint8_t *p = m->scratch;
    size_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        struct fact f = random_fact(&m->rnd, g, nonces);
        uint64_t offset = g->end++;
        g->facts[offset - 1] = f;
        static uint8_t bytes[RECORD_MAX];
        for (size_t k = 0; k < f.size; k++)
            bytes[k] = byte_of(offset, k);
        p = record_write(p, &(struct record){offset, f.time, f.nonce, slice_of(bytes, f.size)});
        largest = record_size(f.size) > largest ? record_size(f.size) : largest;
    }
    size_t n = (size_t)(p - m->scratch);
    assert_ok(log_reserve(m->l, g->log, n, largest, count));
    if (below(&m->rnd, 10) == 0) // room that is not used, or reserved twice
        assert_ok(log_reserve(m->l, g->log, n, largest, count));
    uint64_t durable = m->seq - below(&m->rnd, 3) % (m->seq + 1);
    if (durable >= g->seq) {
        g->settled = old_end;
        g->settling_seq = 0;
    } else if (!g->settling_seq || durable >= g->settling_seq) {
        g->settled = g->settling_seq ? g->settling : g->settled;
        g->settling = old_end;
        g->settling_seq = g->seq;
    }
    g->seq = ++m->seq;
    g->records += count;
    g->bytes += n;
    log_append(m->l, g->log, slice_of(m->scratch, n), g->seq, durable);
}

static void forget(struct model_log *g, uint64_t offset)
{
    struct fact *f = &g->facts[offset - 1];
    if (!f->alive)
        return;
    f->alive = false;
    g->records--;
    g->bytes -= record_size(f->size);
}

static void trim(struct model *m, struct model_log *g)
{
    uint64_t span = g->end - g->first;
    if (span == 0)
        return;
    uint64_t step = below(&m->rnd, 4) ? span / 8 + 1 : span;
    uint64_t before = g->first + 1 + below(&m->rnd, step), first;
    struct log_cut cut;
    enum err e;
    while ((e = log_trim_prepare(m->l, g->log, before, &cut, &first)) == ERR_COLD)
        load(m, g, first);
    assert_ok(e);
    if (below(&m->rnd, 5) == 0) {
        log_cut_discard(m->l, &cut);
        return;
    }
    g->seq = ++m->seq;
    log_trim(m->l, g->log, before, &cut, g->seq);
    for (; g->first < before; g->first++)
        forget(g, g->first);
    g->settled = 0;
    g->settling = g->end;
    g->settling_seq = g->seq;
}

static void erase(struct model *m, struct model_log *g)
{
    if (g->end == 1)
        return;
    uint64_t offset = below(&m->rnd, 3) ? 1 + below(&m->rnd, g->end - 1) : g->end - 1;
    bool there = g->facts[offset - 1].alive;
    struct log_cut cut;
    uint64_t first;
    enum err e;
    while ((e = log_erase_prepare(m->l, g->log, offset, &cut, &first)) == ERR_COLD)
        load(m, g, first);
    assert_ok(e);
    assert_int_equal(cut.removed, there);
    if (!there)
        return;
    g->seq = ++m->seq;
    log_erase(m->l, g->log, &cut, g->seq);
    forget(g, offset);
    g->settled = 0;
    g->settling = g->end;
    g->settling_seq = g->seq;
}

static void check_sums(const struct model_log *g)
{
    const struct log *log = g->log;
    assert_true(log->first == g->first && log->end == g->end && log->records == g->records);
    assert_true(log->bytes == g->bytes && log->seq == g->seq && log->settled == g->settled);
    assert_int_equal(log_settled(log, UINT64_MAX), g->settling_seq ? g->settling : g->settled);
    assert_true(log->last_time == g->last_time && log->next_nonce == g->next_nonce);
}

// ---- reading

static void check_record(const struct model_log *g, uint64_t offset, struct record r)
{
    const struct fact *f = &g->facts[offset - 1];
    assert_int_equal(r.offset, offset);
    assert_true(f->alive && r.timestamp == f->time && r.nonce == f->nonce);
    assert_int_equal(r.bytes.n, f->size);
    for (size_t i = 0; i < r.bytes.n; i += i < 8 ? 1 : 97)
        assert_int_equal(r.bytes.p[i], byte_of(offset, i));
    assert_int_equal(load32(r.bytes.p + r.bytes.n), RECORD_HEAD + f->size);
}

// The next record that exists, `at` included; forwards g->end, backwards 0 if there is none.
static uint64_t next_alive(const struct model_log *g, enum log_direction d, uint64_t at)
{
    if (d == LOG_FORWARDS) {
        while (at < g->end && !g->facts[at - 1].alive)
            at++;
        return at;
    }
    while (at >= g->first && at > 0 && !g->facts[at - 1].alive)
        at--;
    return at >= g->first ? at : 0;
}

static void drop_held(struct held *h)
{
    if (!h->copy)
        return;
    size_t n = h->span.end - h->span.begin;
    assert_memory_equal(h->span.block->bytes + h->span.begin, h->copy, n);
    block_unref(h->span.block);
    free(h->copy);
    h->copy = NULL;
}

// Takes over a reference, or gives it back.
static void hold(struct model *m, const struct log_span *span)
{
    if (below(&m->rnd, 10)) {
        block_unref(span->block);
        return;
    }
    struct held *h = &m->held[below(&m->rnd, HELD)];
    drop_held(h);
    h->span = *span;
    h->copy = malloc(span->end - span->begin);
    assert_non_null(h->copy);
    memcpy(h->copy, span->block->bytes + span->begin, span->end - span->begin);
}

// Compares a page with the records from *expect on; moves *expect past them.
static void check_page(struct model *m, const struct model_log *g, enum log_direction d,
                       const struct log_spans *s, uint64_t *expect)
{
    uint64_t records = 0, bytes = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct log_span *span = &s->v[i];
        const uint8_t *begin = span->block->bytes + span->begin;
        const uint8_t *end = span->block->bytes + span->end;
        bytes += span->end - span->begin;
        records += span->records;
        for (uint32_t k = 0; k < span->records; k++) {
            *expect = next_alive(g, d, *expect);
            assert_true(*expect > 0 && *expect < g->end);
            const uint8_t *p = d == LOG_FORWARDS ? begin : end - record_span_before(end);
            check_record(g, *expect, record_read(p));
            if (d == LOG_FORWARDS)
                begin += record_span(p);
            else
                end = p;
            *expect = d == LOG_FORWARDS ? *expect + 1 : *expect - 1;
        }
        assert_ptr_equal(begin, end);
        hold(m, span);
    }
    assert_true(records == s->records && bytes == s->bytes);
}

// Reads pages of any size from `at` on, `pages` of them at most, and compares with the model.
static void read_pages(struct model *m, struct model_log *g, enum log_direction d, uint64_t at,
                       unsigned pages)
{
    uint64_t expect = at < g->first ? g->first : at, stop = d == LOG_FORWARDS ? g->end : 0;
    if (d == LOG_BACKWARDS)
        expect = at >= g->end ? g->end - 1 : at < g->first ? 0 : at;
    while (at != stop && pages-- > 0) {
        struct log_span v[8];
        struct log_spans s = {.v = v, .cap = 1 + below(&m->rnd, 8)};
        uint64_t max_records = 1 + below(&m->rnd, below(&m->rnd, 2) ? 10 : 1000);
        uint64_t max_bytes = 1 + below(&m->rnd, below(&m->rnd, 2) ? 5000 : 1 << 20), first;
        enum err e;
        while ((e = log_gather(m->l, g->log, d, &at, max_records, max_bytes, &s, &first)) ==
               ERR_COLD)
            load(m, g, first);
        assert_ok(e);
        assert_true(s.records <= max_records && (s.records <= 1 || s.bytes <= max_bytes));
        check_page(m, g, d, &s, &expect);
        uint64_t next = next_alive(g, d, expect);
        if (next == stop) {
            assert_int_equal(at, stop); // known at once that nothing is left
        } else {
            assert_int_equal(next_alive(g, d, at), next);
            assert_true(s.count == s.cap || s.records == max_records ||
                        s.bytes + record_size(g->facts[next - 1].size) > max_bytes);
        }
    }
}

static bool matches(const struct log_from *from, const struct fact *f)
{
    bool forwards = from->direction == LOG_FORWARDS;
    if (from->start == LOG_START_TIME)
        return forwards ? f->time >= from->time : f->time <= from->time;
    if (from->start == LOG_START_NONCE)
        return f->nonce != NONCE_NONE &&
               (forwards ? f->nonce >= from->nonce : f->nonce <= from->nonce);
    return true;
}

static uint64_t expected_start(const struct model_log *g, const struct log_from *from)
{
    bool forwards = from->direction == LOG_FORWARDS;
    uint64_t at = forwards ? g->first : g->end - 1;
    uint64_t offset = from->offset;
    if (from->start == LOG_START_OFFSET && (forwards ? offset > at : offset < at))
        at = offset;
    if (forwards && at > g->end)
        at = g->end;
    for (;; at = forwards ? at + 1 : at - 1) {
        at = next_alive(g, from->direction, at);
        if (at == (forwards ? g->end : 0) || matches(from, &g->facts[at - 1]))
            return at;
    }
}

static void seek(struct model *m, struct model_log *g)
{
    struct log_from from = {
        .direction = below(&m->rnd, 2) ? LOG_FORWARDS : LOG_BACKWARDS,
        .start = (enum log_start)below(&m->rnd, 4),
        .offset = below(&m->rnd, g->end + 3),
        .time = (int64_t)below(&m->rnd, g->end / 3 + 100) - 50,
        .nonce = below(&m->rnd, (uint64_t)g->next_nonce + 3),
    };
    if (below(&m->rnd, 50) == 0)
        from.nonce = below(&m->rnd, 2) ? NONCE_NONE : NONCE_NONE - 1;
    uint64_t at, first, expect = expected_start(g, &from);
    enum err e;
    while ((e = log_seek(m->l, g->log, &from, &at, &first)) == ERR_COLD)
        load(m, g, first);
    assert_ok(e);
    if (expect == 0 || expect == g->end) {
        if (from.start == LOG_START_TIME || from.start == LOG_START_NONCE)
            assert_int_equal(at, expect);
    }
    assert_int_equal(next_alive(g, from.direction, at), expect);
    read_pages(m, g, from.direction, at, (unsigned)below(&m->rnd, 4));
}

// ---- checkpoints

static void take_pin(void *arg, struct log_pin *p)
{
    struct model *m = arg;
    assert_true(m->pin_count < PINS);
    struct model_pin *mine = &m->pins[m->pin_count++];
    *mine = (struct model_pin){.p = *p};
    mine->copies = calloc(p->count + 1, sizeof *mine->copies);
    assert_non_null(mine->copies);
    for (size_t i = 0; i < p->count; i++) {
        const struct chunk *c = &p->chunks[i];
        assert_true((c->block == NULL) == (c->meta.bytes == 0));
        assert_true((c->meta.records == 0) == (c->meta.bytes == 0));
        assert_true(i == 0 || c->meta.first > p->chunks[i - 1].meta.first);
        mine->copies[i] = malloc(c->meta.bytes + 1);
        assert_non_null(mine->copies[i]);
        if (c->block)
            memcpy(mine->copies[i], c->block->bytes, c->meta.bytes);
    }
}

static void pin(struct model *m)
{
    if (m->pin_count)
        return;
    for (unsigned s = 0; s < LOGS_SHARDS; s++) {
        logs_lock(m->l, s);
        assert_ok(logs_pin_dirty(m->l, s, take_pin, m));
        logs_unlock(m->l, s);
    }
}

static void end_pins(struct model *m, bool written)
{
    for (; m->pin_count; m->pin_count--) {
        struct model_pin *mine = &m->pins[m->pin_count - 1];
        struct log_pin *p = &mine->p;
        struct model_log *g = m->logs;
        while (g->log != p->log)
            g++;
        for (size_t i = 0; i < p->count; i++) {
            if (p->chunks[i].block)
                assert_memory_equal(p->chunks[i].block->bytes, mine->copies[i],
                                    p->chunks[i].meta.bytes);
            if (written)
                put_row(g, &p->chunks[i]);
            free(mine->copies[i]);
        }
        free(mine->copies);
        if (written)
            sweep_rows(g, p->sweep_from, p->sweep_to);
        logs_lock(m->l, g->shard);
        if (written)
            logs_written(m->l, p);
        assert_true(g->log->dirty == (g->log->seq != g->log->stored_seq));
        logs_unlock(m->l, g->shard);
        log_pin_release(p);
    }
}

static void evict(struct model *m, uint64_t target)
{
    for (unsigned i = 0; i < LOGS; i++) {
        logs_lock(m->l, m->logs[i].shard);
        logs_evict(m->l, m->logs[i].shard, target);
        logs_unlock(m->l, m->logs[i].shard);
    }
}

// ---- together

static void step(struct model *m)
{
    struct model_log *g = &m->logs[below(&m->rnd, LOGS)];
    uint64_t what = below(&m->rnd, 100);
    if (what >= 92) {
        if (what < 95)
            pin(m);
        else if (what < 98)
            end_pins(m, what > 95);
        else
            evict(m, below(&m->rnd, 3) * (1 << 18));
        return;
    }
    logs_lock(m->l, g->shard);
    if (what < 40)
        append(m, g);
    else if (what < 43)
        trim(m, g);
    else if (what < 55)
        erase(m, g);
    else
        seek(m, g);
    check_sums(g);
    logs_unlock(m->l, g->shard);
}

static void read_all(struct model *m)
{
    for (unsigned i = 0; i < LOGS; i++) {
        struct model_log *g = &m->logs[i];
        logs_lock(m->l, g->shard);
        read_pages(m, g, LOG_FORWARDS, 1, UINT32_MAX);
        read_pages(m, g, LOG_BACKWARDS, g->end, UINT32_MAX);
        logs_unlock(m->l, g->shard);
    }
}

static void follows_the_model(void **state)
{
    (void)state;
    struct model *m = model_new(test_seed());
    for (unsigned i = 0; i < 6000; i++)
        step(m);
    read_all(m);
    end_pins(m, true);
    pin(m);
    end_pins(m, true);
    for (unsigned i = 0; i < HELD; i++)
        drop_held(&m->held[i]);
    assert_int_equal(logs_dirty_bytes(m->l), 0);
    for (unsigned i = 0; i < 8; i++) // takes the marks off; evicts chunks; indexes, few at a time
        evict(m, 0);
    struct logs_stats s;
    logs_get_stats(m->l, &s);
    assert_true(s.resident == 0 && s.chunks == 0 && s.block_bytes == 0 && s.index_bytes == 0);
    assert_true(s.dirty_bytes == 0 && s.logs == LOGS && s.keyspaces == 2);
    assert_int_equal(logs_bytes(m->l), s.header_bytes);
    read_all(m); // from below
    for (unsigned i = 0; i < HELD; i++)
        drop_held(&m->held[i]);
    model_free(m);
}

// ---- parts of it alone

static void keyspaces_stay(void **state)
{
    (void)state;
    enum { COUNT = 3000 };
    struct logs *l = logs_new(test_seed());
    assert_non_null(l);
    assert_null(logs_keyspace(l, slice_str("k1")));
    for (uint32_t i = 1; i <= COUNT; i++) {
        char name[16];
        snprintf(name, sizeof name, "k%u", i);
        struct keyspace *k = put_keyspace(l, i, name);
        assert_true(k->id == i && k->created_ms == 1 && atomic_load(&k->max_bytes) == i);
    }
    assert_int_equal(logs_keyspace_count(l), COUNT);
    for (uint32_t i = 1; i <= COUNT; i++) {
        char name[16];
        snprintf(name, sizeof name, "k%u", i);
        struct keyspace *k = logs_keyspace(l, slice_str(name));
        assert_non_null(k);
        assert_true(slice_equal(keyspace_name(k), slice_str(name)));
        assert_ptr_equal(logs_keyspace_id(l, i), k);
    }
    assert_null(logs_keyspace_id(l, 0));
    assert_null(logs_keyspace_id(l, COUNT + 1));
    assert_null(logs_keyspace_id(l, UINT32_MAX));
    struct log_policy p = {.max_age_ms = 5, .max_records = 7};
    struct keyspace *k = logs_keyspace(l, slice_str("k9"));
    assert_ptr_equal(logs_keyspace_put(l, 9, slice_str("k9"), 2, &p, 77), k);
    assert_true(k->created_ms == 1 && atomic_load(&k->seq) == 77 &&
                atomic_load(&k->max_bytes) == 0);
    assert_int_equal(logs_keyspace_count(l), COUNT);
    logs_free(l);
}

// One record of n bytes; the shard is locked.
static void append_one(struct logs *l, struct log *log, size_t n, uint64_t seq)
{
    static uint8_t zeros[LOGS_CHUNK], run[LOGS_CHUNK + RECORD_OVERHEAD];
    struct record r = {log->end, (int64_t)log->end, NONCE_NONE, slice_of(zeros, n)};
    size_t size = (size_t)(record_write(run, &r) - run);
    uint64_t first;
    assert_true(log_can_append(log, &first));
    assert_ok(log_reserve(l, log, size, size, 1));
    log_append(l, log, slice_of(run, size), seq, 0);
}

static void write_pin(void *arg, struct log_pin *p)
{
    logs_written(arg, p);
    log_pin_release(p);
}

static void write_all(struct logs *l)
{
    for (unsigned i = 0; i < LOGS_SHARDS; i++) {
        logs_lock(l, i);
        assert_ok(logs_pin_dirty(l, i, write_pin, l));
        logs_unlock(l, i);
    }
}

static void evict_all(struct logs *l)
{
    for (unsigned i = 0; i < LOGS_SHARDS; i++) {
        logs_lock(l, i);
        logs_evict(l, i, 0);
        logs_unlock(l, i);
    }
}

static void count_one(void *arg, struct log *log)
{
    (void)log;
    *(uint64_t *)arg += 1;
}

static void idle_logs_are_small(void **state)
{
    (void)state;
    enum { COUNT = 40000 };
    struct logs *l = logs_new(test_seed());
    assert_non_null(l);
    struct keyspace *k = put_keyspace(l, 1, "k");
    for (unsigned i = 0; i < COUNT; i++) {
        char key[24];
        snprintf(key, sizeof key, "device-0123456-%05u", i); // 20 bytes
        struct log *log = add_log(l, k, key, i + 1);
        logs_lock(l, log->shard);
        append_one(l, log, 20, 1);
        struct log *other = logs_prepare(l, (uint64_t)log->shard << 56, k, slice_str("other"), 9);
        assert_non_null(other);
        assert_ok(log_reserve(l, other, 100, 100, 1));
        logs_discard(l, other);
        logs_unlock(l, log->shard);
    }
    assert_true(logs_dirty_bytes(l) > COUNT * (20ull + RECORD_OVERHEAD));
    write_all(l);
    for (unsigned i = 0; i < 3; i++)
        evict_all(l);
    struct logs_stats s;
    logs_get_stats(l, &s);
    assert_true(s.logs == COUNT && s.evictions == COUNT);
    assert_true(s.block_bytes == 0 && s.index_bytes == 0 && s.dirty_bytes == 0);
    print_message("an idle log: %.1f bytes\n", (double)logs_bytes(l) / COUNT);
    assert_true(logs_bytes(l) + 16ull * COUNT <= 244ull * COUNT); // 16: what malloc adds
    uint64_t seen = 0;
    for (unsigned i = 0; i < LOGS_SHARDS; i++) {
        logs_lock(l, i);
        logs_each(l, i, count_one, &seen);
        logs_unlock(l, i);
    }
    assert_int_equal(seen, COUNT);
    logs_free(l);
}

// Seeks over chunks of which none is resident: what they ask for is the first that may match.
static void many_chunks_are_searched(void **state)
{
    (void)state;
    struct random rnd = {test_seed()};
    for (size_t count = 1; count < 40000; count = count * 5 + below(&rnd, 40)) {
        struct logs *l = logs_new(1);
        assert_non_null(l);
        struct log *log = add_log(l, put_keyspace(l, 1, "k"), "log", 1);
        struct chunk_meta *m = calloc(count, sizeof *m);
        assert_non_null(m);
        for (size_t i = 0; i < count; i++) {
            m[i] = (struct chunk_meta){
                .first = i * 10 + 1, .last = i * 10 + 10, .bytes = 1000, .records = 10};
            m[i].min_time = (int64_t)(i + below(&rnd, 1 + count / 2));
            m[i].max_time = m[i].min_time + 5 + (int64_t)below(&rnd, 40);
            m[i].next_nonce = m[i].first_nonce = i ? m[i - 1].next_nonce : 0;
            if (below(&rnd, 3) == 0)
                m[i].next_nonce += 10;
        }
        logs_lock(l, log->shard);
        log->index = NULL; // as if it had been read from below
        log->end = count * 10 + 1;
        log->records = count * 10;
        log->bytes = count * 1000;
        assert_ok(log_load_index(l, log, m, count));
        assert_ok(log_load_index(l, log, NULL, 0)); // is there
        size_t gone = 0;
        for (unsigned i = 0; i < 400; i++) {
            if (i % 40 == 39 && gone + 1 < count) {
                gone += below(&rnd, (count - gone) / 4 + 1);
                struct log_cut cut;
                uint64_t cold;
                assert_ok(log_trim_prepare(l, log, gone * 10 + 1, &cut, &cold));
                log_trim(l, log, gone * 10 + 1, &cut, i + 1);
                assert_int_equal(log->records, (count - gone) * 10);
            }
            bool forwards = i % 2, nonce = i % 4 > 1;
            struct log_from from = {.direction = forwards ? LOG_FORWARDS : LOG_BACKWARDS,
                                    .start = nonce ? LOG_START_NONCE : LOG_START_TIME,
                                    .time = (int64_t)below(&rnd, 2 * count),
                                    .nonce = below(&rnd, 4 * count + 2)};
            size_t at = forwards ? gone : count - 1;
            for (; at < count && at >= gone; at = forwards ? at + 1 : at - 1) {
                bool has = m[at].first_nonce < m[at].next_nonce;
                if (nonce && has &&
                    (forwards ? m[at].next_nonce > from.nonce : m[at].first_nonce <= from.nonce))
                    break;
                if (!nonce &&
                    (forwards ? m[at].max_time >= from.time : m[at].min_time <= from.time))
                    break;
            }
            bool found = at < count && at >= gone;
            uint64_t offset, cold;
            enum err e = log_seek(l, log, &from, &offset, &cold);
            if (e == ERR_COLD) {
                assert_true(found);
                assert_int_equal(cold, m[at].first);
            } else if (found) {
                assert_int_equal(offset, forwards ? m[at].first : m[at].last);
            } else {
                assert_int_equal(offset, forwards ? log->end : 0);
            }
        }
        logs_unlock(l, log->shard);
        free(m);
        logs_free(l);
    }
}

static void used_chunks_outlive_others(void **state)
{
    (void)state;
    enum { CHUNKS = 40, BYTES = 20000 }; // two records do not fit into a chunk
    struct logs *l = logs_new(test_seed());
    assert_non_null(l);
    struct log *log = add_log(l, put_keyspace(l, 1, "k"), "log", 1);
    for (unsigned i = 1; i <= CHUNKS; i++) {
        logs_lock(l, log->shard);
        append_one(l, log, BYTES, i);
        logs_evict(l, log->shard, 0); // dirty ones stay
        logs_unlock(l, log->shard);
    }
    struct logs_stats s;
    logs_get_stats(l, &s);
    assert_true(s.resident == CHUNKS && s.evictions == 0 && s.chunks == CHUNKS);
    write_all(l);
    // The hand takes the marks of appending off all and evicts the oldest few.
    logs_lock(l, log->shard);
    logs_evict(l, log->shard, 0);
    logs_evict(l, log->shard, logs_bytes(l) - 5 * BYTES);
    uint64_t offset = CHUNKS / 2, cold; // is read now
    struct log_span span;
    struct log_spans spans = {.v = &span, .cap = 1};
    assert_ok(log_gather(l, log, LOG_FORWARDS, &offset, 1, 1, &spans, &cold));
    assert_true(spans.records == 1 && offset == CHUNKS / 2 + 1);
    block_unref(span.block);
    logs_evict(l, log->shard, BYTES * 14); // nearly all others
    spans = (struct log_spans){.v = &span, .cap = 1};
    offset = CHUNKS / 2;
    assert_ok(log_gather(l, log, LOG_FORWARDS, &offset, 1, 1, &spans, &cold));
    block_unref(span.block);
    offset = CHUNKS / 2 - 1;
    spans = (struct log_spans){.v = &span, .cap = 1};
    assert_err(log_gather(l, log, LOG_FORWARDS, &offset, 1, 1, &spans, &cold), ERR_COLD);
    assert_int_equal(cold, CHUNKS / 2 - 1);
    logs_unlock(l, log->shard);
    logs_free(l);
}

// A reservation that was for nothing leaves an emptied chunk with an empty block.
static void reserved_for_nothing(void **state)
{
    (void)state;
    struct logs *l = logs_new(test_seed());
    assert_non_null(l);
    struct log *log = add_log(l, put_keyspace(l, 1, "k"), "log", 1);
    struct log_cut cut;
    uint64_t cold;
    logs_lock(l, log->shard);
    append_one(l, log, 100, 1);
    assert_ok(log_erase_prepare(l, log, 1, &cut, &cold));
    log_erase(l, log, &cut, 2);
    logs_unlock(l, log->shard);
    for (unsigned i = 0; i < 2; i++) {
        logs_lock(l, log->shard);
        if (log_can_append(log, &cold))
            assert_ok(log_reserve(l, log, 1000, 1000, 1)); // and then the disk was full
        logs_unlock(l, log->shard);
        write_all(l);
        for (unsigned j = 0; j < 3; j++)
            evict_all(l);
        struct logs_stats s;
        logs_get_stats(l, &s);
        assert_true(s.block_bytes == 0 && s.index_bytes == 0);
    }
    logs_free(l);
}

// ---- threads: one appends, one reads without the lock, one writes checkpoints and evicts

struct common {
    struct logs *l;
    struct log *log;
    _Atomic bool done;
};

enum { THREAD_APPENDS = 20000 };

static void *run_append(void *arg)
{
    struct common *c = arg;
    for (uint64_t i = 1; i <= THREAD_APPENDS; i++) {
        uint64_t cold = 0;
        logs_lock(c->l, c->log->shard);
        if (log_can_append(c->log, &cold)) // there is no store below to load from
            append_one(c->l, c->log, i % 500, i + 1);
        logs_unlock(c->l, c->log->shard);
    }
    atomic_store(&c->done, true);
    return NULL;
}

static void *run_read(void *arg)
{
    struct common *c = arg;
    uint64_t records = 0;
    for (unsigned round = 0; !atomic_load(&c->done) || round < 10; round++) {
        struct log_span v[4];
        struct log_spans s = {.v = v, .cap = 4};
        uint64_t offset = UINT64_MAX, cold;
        logs_lock(c->l, c->log->shard);
        ERR_IGNORE(log_gather(c->l, c->log, LOG_BACKWARDS, &offset, 500, 50000, &s, &cold));
        logs_unlock(c->l, c->log->shard);
        for (size_t i = 0; i < s.count; i++) {
            struct record_walk w = {
                .rest = slice_of(v[i].block->bytes + v[i].begin, v[i].end - v[i].begin)};
            struct record r;
            uint32_t seen = 0;
            while (record_next(&w, &r, NULL) == ERR_OK)
                seen++;
            assert_true(seen == v[i].records && w.rest.n == 0);
            records += seen;
            block_unref(v[i].block);
        }
    }
    assert_true(records > 0);
    return NULL;
}

static void *run_checkpoint(void *arg)
{
    struct common *c = arg;
    while (!atomic_load(&c->done)) {
        write_all(c->l);
        logs_lock(c->l, c->log->shard);
        if (c->log->resident > 3) // the tail and the last few are in use, and stay
            logs_evict(c->l, c->log->shard, 4 * LOGS_CHUNK);
        logs_unlock(c->l, c->log->shard);
    }
    return NULL;
}

static void threads_agree(void **state)
{
    (void)state;
    struct common c = {.l = logs_new(test_seed())};
    assert_non_null(c.l);
    c.log = add_log(c.l, put_keyspace(c.l, 1, "k"), "log", 1);
    void *(*const what[])(void *) = {run_append, run_read, run_checkpoint};
    pthread_t threads[3];
    logs_lock(c.l, c.log->shard);
    append_one(c.l, c.log, 1, 1);
    logs_unlock(c.l, c.log->shard);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, what[i], &c), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    write_all(c.l);
    for (unsigned i = 0; i < 3; i++)
        evict_all(c.l);
    struct logs_stats s;
    logs_get_stats(c.l, &s);
    assert_true(s.block_bytes == 0 && s.dirty_bytes == 0 && s.index_bytes == 0);
    logs_free(c.l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_the_model),
        cmocka_unit_test(keyspaces_stay),
        cmocka_unit_test(idle_logs_are_small),
        cmocka_unit_test(many_chunks_are_searched),
        cmocka_unit_test(used_chunks_outlive_others),
        cmocka_unit_test(reserved_for_nothing),
        cmocka_unit_test(threads_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
