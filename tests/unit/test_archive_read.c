// The stateless reader (archive/reader.h) against a model: every start, both directions, any page
// size, tokens across readers and compactions; how many requests a search costs; what is refused.
#include "unit.h"

#include "archive/reader.h"
#include "archive_world.h"
#include "base/os.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t next_random(uint64_t *s)
{
    *s += 0x9e3779b97f4a7c15;
    uint64_t z = *s;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static uint64_t test_seed(void)
{
    uint64_t seed;
    os_random(os_real(), &seed, sizeof seed);
    const char *given = os_env("VARVE_TEST_SEED");
    seed = given ? strtoull(given, NULL, 0) : seed;
    print_message("seed: VARVE_TEST_SEED=%" PRIu64 "\n", seed);
    return seed;
}

// ---- a log and its model

enum { MODEL_MAX = 200000 };

struct model {
    struct object_store *store;
    struct archive_writer *w;
    struct record *v; // offsets 1, 2, ...; bytes.p is not kept, bytes.n is
    size_t n;
    u128 nonce;
    int64_t time;
    uint64_t rnd;
};

static void model_init(struct model *m, uint64_t seed, const struct archive_options *o)
{
    *m = (struct model){.store = fake_object_new(), .time = -500, .rnd = seed};
    m->v = calloc(MODEL_MAX, sizeof *m->v);
    assert_ok(archive_writer_new(&m->w, m->store, os_real(), o, NULL));
}

static void model_release(struct model *m)
{
    archive_writer_free(m->w);
    object_close(m->store);
    free(m->v);
}

static const uint8_t filler[64];

// Times rise from append to append, with disorder within; some records have no nonce.
static void model_append(struct model *m, size_t count, bool nonces)
{
    struct archive_insert *in = calloc(count, sizeof *in);
    int64_t base = m->time;
    for (size_t i = 0; i < count; i++) {
        u128 nonce = NONCE_NONE;
        if (nonces && next_random(&m->rnd) % 3) {
            m->nonce += next_random(&m->rnd) % 3;
            nonce = m->nonce++;
        }
        in[i] = (struct archive_insert){true, base + (int64_t)(next_random(&m->rnd) % 8), nonce,
                                        slice_of(filler, next_random(&m->rnd) % sizeof filler)};
        m->v[m->n] = (struct record){m->n + 1, in[i].timestamp, nonce, in[i].bytes};
        m->n++;
        m->time = in[i].timestamp > m->time ? in[i].timestamp : m->time;
    }
    m->time += (int64_t)(next_random(&m->rnd) % 3);
    struct archive_batch b = {.log = world_log, .records = in, .count = count};
    assert_ok(archive_append(m->w, &b, NULL));
    assert_int_equal(b.taken, count);
    assert_int_equal(b.next_offset, m->n + 1);
    free(in);
}

// Index + 1 of the record at which a reading begins, 0 if there is none.
static size_t model_begin(const struct model *m, const struct archive_query *q)
{
    size_t best = 0;
    for (size_t i = 0; i < m->n; i++) {
        const struct record *r = &m->v[i];
        bool match = q->start == ARCHIVE_FIRST;
        if (q->start == ARCHIVE_OFFSET)
            match = q->backwards ? r->offset <= q->offset : r->offset >= q->offset;
        else if (q->start == ARCHIVE_TIMESTAMP)
            match = q->backwards ? r->timestamp <= q->timestamp : r->timestamp >= q->timestamp;
        else if (q->start == ARCHIVE_NONCE)
            match = r->nonce != NONCE_NONE &&
                    (q->backwards ? r->nonce <= q->nonce : r->nonce >= q->nonce);
        if (!match)
            continue;
        best = i + 1;
        if (!q->backwards)
            break;
    }
    return best;
}

static void check_record(const struct model *m, const struct record *r, size_t at)
{
    const struct record *want = &m->v[at - 1];
    if (r->offset != want->offset || r->timestamp != want->timestamp || r->nonce != want->nonce ||
        r->bytes.n != want->bytes.n)
        fail_msg("record %" PRIu64 " where %" PRIu64 " was expected", r->offset, want->offset);
}

// Reads to the end, or `most` records, pages of random sizes by readers taken at random; `between`
// runs between pages.
static void read_and_check(struct model *m, struct archive_reader **readers, size_t n,
                           struct archive_query q, size_t most, void (*between)(struct model *))
{
    struct archive_page page;
    struct errmsg msg = {""};
    char token[ARCHIVE_TOKEN];
    size_t at = model_begin(m, &q), read = 0;
    do {
        q.page_size = 1 + next_random(&m->rnd) % 90;
        enum err e = archive_read(readers[next_random(&m->rnd) % n], &world_log, &q, &page, &msg);
        if (e)
            fail_msg("%s: %s", err_name(e), msg.text);
        assert_true(page.count <= q.page_size);
        for (size_t i = 0; i < page.count; i++, read++) {
            assert_true(at >= 1 && at <= m->n);
            check_record(m, &page.records[i], at);
            at = q.backwards ? at - 1 : at + 1;
        }
        bool left = at >= 1 && at <= m->n;
        if (page.more != left)
            fail_msg("more is %d at %zu of %zu", page.more, at, m->n);
        memcpy(token, page.token, page.token_size);
        q.continuation = slice_of(token, page.token_size);
        if (between)
            between(m);
    } while (page.more && read < most);
}

static struct archive_query random_query(struct model *m)
{
    uint64_t r = next_random(&m->rnd);
    return (struct archive_query){
        .backwards = r & 1,
        .start = (enum archive_start)(r >> 1 & 3),
        .offset = next_random(&m->rnd) % (m->n + 5),
        .timestamp = -510 + (int64_t)(next_random(&m->rnd) % (uint64_t)(m->time + 530)),
        .nonce = next_random(&m->rnd) % ((uint64_t)m->nonce + 5),
    };
}

static void against_the_model(void **state)
{
    uint64_t seed = test_seed();
    for (unsigned round = 0; round < 12; round++) {
        struct archive_options o = {.compact_records_threshold = 1 + next_random(&seed) % 200,
                                    .compact_objects_threshold = 2 + next_random(&seed) % 20};
        struct model m;
        struct archive_reader *readers[2];
        model_init(&m, seed + round, &o);
        for (unsigned i = 0; i < 2; i++)
            assert_ok(archive_reader_new(&readers[i], m.store, NULL, NULL));
        for (unsigned step = 0; step < 60; step++) {
            model_append(&m, 1 + next_random(&m.rnd) % 40, round % 4 != 0);
            read_and_check(&m, readers, 2, random_query(&m), 400, NULL);
        }
        read_and_check(&m, readers, 2, (struct archive_query){0}, SIZE_MAX, NULL);
        read_and_check(&m, readers, 2, (struct archive_query){.backwards = true}, SIZE_MAX, NULL);
        for (unsigned i = 0; i < 2; i++)
            archive_reader_free(readers[i]);
        model_release(&m);
    }
}

static void append_some(struct model *m)
{
    if (m->n < 3000)
        model_append(m, 1 + next_random(&m->rnd) % 9, true);
}

// Appends and compactions between pages; tokens go on all the same.
static void tokens_across_compactions(void **state)
{
    uint64_t seed = test_seed();
    struct archive_options o = {.compact_records_threshold = 64, .compact_objects_threshold = 5};
    struct model m;
    struct archive_reader *readers[3];
    model_init(&m, seed, &o);
    for (unsigned i = 0; i < 3; i++)
        assert_ok(archive_reader_new(&readers[i], m.store, NULL, NULL));
    for (unsigned i = 0; i < 40; i++) {
        append_some(&m);
        struct archive_query q = random_query(&m);
        if (q.backwards)
            read_and_check(&m, readers, 3, q, 500, append_some);
        else
            read_and_check(&m, readers, 3, q, 200, append_some);
    }
    for (unsigned i = 0; i < 3; i++)
        archive_reader_free(readers[i]);
    model_release(&m);
}

// ---- requests

static uint64_t requests(struct object_store *s)
{
    struct object_stats st;
    object_get_stats(s, &st);
    return st.put + st.get + st.head + st.list + st.delete + st.multipart;
}

// The most requests that a page of one record costs a new reader.
static uint64_t worst_search(struct model *m, unsigned tries, enum archive_start start)
{
    uint64_t worst = 0;
    for (unsigned i = 0; i < tries; i++) {
        struct archive_reader *r;
        struct archive_page page;
        struct archive_query q = random_query(m);
        q.start = start;
        q.page_size = 1;
        size_t at = model_begin(m, &q);
        assert_ok(archive_reader_new(&r, m->store, NULL, NULL));
        uint64_t before = requests(m->store);
        assert_ok(archive_read(r, &world_log, &q, &page, NULL));
        uint64_t cost = requests(m->store) - before;
        worst = cost > worst ? cost : worst;
        assert_int_equal(page.count, at ? 1 : 0);
        if (at)
            check_record(m, &page.records[0], at);
        archive_reader_free(r);
    }
    return worst;
}

enum shape { EVEN, RISING, FALLING, ONE_HUGE, SHAPES };

// 10,000 objects, of sizes that are even, grow, shrink, or with one far larger than all others.
static void fill(struct model *m, enum shape shape)
{
    for (unsigned i = 0; i < 10000; i++) {
        size_t n = shape == EVEN      ? 3
                   : shape == RISING  ? 1 + i / 500
                   : shape == FALLING ? 1 + (10000 - i) / 500
                                      : (i == 5000 ? 50000 : 1);
        model_append(m, n, true);
    }
}

static void few_requests(void **state)
{
    struct archive_options o = {.compact_records_threshold = 1}; // every object is complete
    static const char *const names[] = {"first", "offset", "timestamp", "nonce"};
    uint64_t seed = test_seed();
    for (enum shape shape = EVEN; shape < SHAPES; shape++) {
        struct model m;
        model_init(&m, seed, &o);
        fill(&m, shape);
        assert_int_equal(world_count(m.store, "ks/key/data_"), 10000);
        for (enum archive_start start = ARCHIVE_FIRST; start <= ARCHIVE_NONCE; start++) {
            uint64_t worst = worst_search(&m, 70, start);
            print_message("shape %d: %s: at most %" PRIu64 " requests\n", shape, names[start],
                          worst);
            assert_true(worst <= 16);
        }
        model_release(&m);
    }
}

// The same without a watermark, as nobody else must write one.
static void few_requests_without_watermark(void **state)
{
    struct archive_options o = {.compact_records_threshold = 1};
    struct model m;
    model_init(&m, test_seed(), &o);
    fill(&m, EVEN);
    fake_object_drop(m.store, "ks/key/watermark");
    for (enum archive_start start = ARCHIVE_FIRST; start <= ARCHIVE_NONCE; start++)
        assert_true(worst_search(&m, 50, start) <= 16);
    model_release(&m);
}

// What a reading from the start costs: two listings, and each object once, ahead of being read if
// that was asked for.
static void reading_on(void **state)
{
    struct archive_options o = {.compact_records_threshold = 1};
    struct model m;
    model_init(&m, test_seed(), &o);
    for (unsigned i = 0; i < 40; i++)
        model_append(&m, 3, true);
    for (unsigned ahead = 0; ahead < 2; ahead++) {
        struct archive_reader_options ro = {.ahead = 4};
        struct archive_query q = {.page_size = 2, .reads_on = ahead};
        struct archive_page page = {.more = true};
        struct archive_reader *r;
        struct object_stats before, after;
        char token[ARCHIVE_TOKEN];
        assert_ok(archive_reader_new(&r, m.store, &ro, NULL));
        object_get_stats(m.store, &before);
        for (size_t at = 1; page.more; at += page.count) {
            assert_ok(archive_read(r, &world_log, &q, &page, NULL));
            object_get_stats(m.store, &after);
            if (at == 1)
                assert_int_equal(after.get - before.get, ahead ? 5 : 1);
            for (size_t i = 0; i < page.count; i++)
                check_record(&m, &page.records[i], at + i);
            memcpy(token, page.token, page.token_size);
            q.continuation = slice_of(token, page.token_size);
        }
        assert_int_equal(after.list - before.list, 2); // the other: has the log grown?
        assert_int_equal(after.get - before.get, 40);
        archive_reader_free(r);
    }
    model_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_the_model),
        cmocka_unit_test(tokens_across_compactions),
        cmocka_unit_test(reading_on),
        cmocka_unit_test(few_requests),
        cmocka_unit_test(few_requests_without_watermark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
