// Rows of logs in the store (docs/FORMATS.md): keys of 17 bytes in kinds, values of about 100 bytes
// (metadata) or of about 32 KiB (chunks). Both engines on the real file system; then that RocksDB
// compresses chunks as it should and does not read them for the sake of metadata.
#include "unit.h"
#include "tempdir.h"

#include "base/buf.h"
#include "base/limits.h"
#include "store/store.h"
#include <dirent.h>

enum { ROW_META = 3, ROW_CHUNK = 4 };
enum { LOGS = 12, CHUNKS = 6, ROUNDS = 3, META_BYTES = 100, CHUNK_BYTES = 32 << 10 };
enum { CHUNK_MAX = LIMIT_VALUE_HARD + 64 }; // one record of the largest size, alone

typedef enum err (*open_fn)(struct store **s, const struct store_options *o, struct errmsg *msg);

struct fixture {
    open_fn open;
    char top[64];
    char dir[80];
    struct store *s;
};

struct row_key {
    uint8_t bytes[17];
};

static struct row_key row_key(uint8_t kind, uint64_t log, uint64_t first)
{
    struct row_key k = {{kind}};
    for (int i = 0; i < 8; i++) {
        k.bytes[1 + i] = (uint8_t)(log >> (56 - 8 * i));
        k.bytes[9 + i] = (uint8_t)(first >> (56 - 8 * i));
    }
    return k;
}

static struct slice key_slice(const struct row_key *k)
{
    return slice_of(k->bytes, sizeof k->bytes);
}

static int setup(void **state, open_fn open)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    f->open = open;
    tempdir_make(f->top);
    (void)snprintf(f->dir, sizeof f->dir, "%s/s", f->top);
    *state = f;
    return 0;
}
static int setup_rocks(void **state)
{
    return setup(state, store_open_rocks);
}
static int setup_sim(void **state)
{
    return setup(state, store_open_sim);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    store_close(f->s);
    tempdir_remove(f->top);
    free(f);
    return 0;
}

static void reopen(struct fixture *f)
{
    store_close(f->s);
    f->s = NULL;
    struct store_options o = {os_real(), f->dir, 8u << 20, 1};
    struct errmsg msg = {""};
    if (f->open(&f->s, &o, &msg) != ERR_OK)
        fail_msg("open: %s", msg.text);
}

static void commit(struct store_writer *w)
{
    struct errmsg msg = {""};
    if (store_commit(w, &msg) != ERR_OK)
        fail_msg("commit: %s", msg.text);
}

// What a row holds: its key, then bytes that do not compress and are its own.
static void fill_row(uint8_t *p, size_t n, const struct row_key *k)
{
    memcpy(p, k->bytes, sizeof k->bytes);
    uint64_t x = load64(k->bytes + 9) ^ load64(k->bytes + 1) * 31 ^ k->bytes[0];
    for (size_t i = sizeof k->bytes; i < n; i++)
        p[i] = (uint8_t)((x = x * 6364136223846793005u + 1442695040888963407u) >> 56);
}

static void add_rows(struct store_writer *w, enum store_space space, uint8_t kind, unsigned round)
{
    static uint8_t value[CHUNK_BYTES];
    size_t n = kind == ROW_META ? META_BYTES : CHUNK_BYTES;
    for (uint64_t log = 1; log <= LOGS; log++) {
        if (log % 3 == round) // so that each table lacks some of the logs
            continue;
        for (uint64_t i = 0; i < CHUNKS; i++) {
            struct row_key k = row_key(kind, log, 1 + (round * CHUNKS + i) * 1000);
            fill_row(value, n, &k);
            assert_ok(store_add(w, space, key_slice(&k), slice_of(value, n)));
        }
    }
}

// Checkpoints as the commit room makes them: rows of both kinds, offsets rising from one to the
// next.
static void write_rounds(struct fixture *f)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct store_writer *w;
        assert_ok(store_begin(f->s, &w));
        for (unsigned s = STORE_LOGS; s <= STORE_EVENTS; s++) {
            add_rows(w, (enum store_space)s, ROW_META, round);
            add_rows(w, (enum store_space)s, ROW_CHUNK, round);
        }
        commit(w);
    }
}

// All rows of a range are there, and no others.
static void expect_range(struct fixture *f, enum store_space space, uint8_t kind, uint64_t from,
                         uint64_t to)
{
    static uint8_t value[CHUNK_BYTES];
    size_t n = kind == ROW_META ? META_BYTES : CHUNK_BYTES;
    struct row_key start = row_key(kind, from, 0), end = row_key(kind, to, 0);
    struct store_iter *it;
    assert_ok(store_iter_range(f->s, space, key_slice(&start), key_slice(&end), &it));
    for (uint64_t log = from; log < to; log++)
        for (unsigned i = 0; i < ROUNDS * CHUNKS; i++) {
            if (log == 0 || log > LOGS || log % 3 == i / CHUNKS)
                continue;
            struct row_key k = row_key(kind, log, 1 + (uint64_t)i * 1000);
            struct errmsg msg = {""};
            if (!store_iter_valid(it) && store_iter_status(it, &msg) != ERR_OK)
                fail_msg("log %u: %s", (unsigned)log, msg.text);
            assert_true(store_iter_valid(it));
            assert_true(slice_equal(store_iter_key(it), key_slice(&k)));
            fill_row(value, n, &k);
            assert_true(slice_equal(store_iter_value(it), slice_of(value, n)));
            store_iter_next(it);
        }
    assert_false(store_iter_valid(it));
    assert_ok(store_iter_status(it, NULL));
    store_iter_free(it);
}

static void ranges_of_rows(void **state)
{
    struct fixture *f = *state;
    reopen(f);
    expect_range(f, STORE_LOGS, ROW_META, LOGS + 1, LOGS + 5); // an empty store
    write_rounds(f);
    for (int again = 0; again < 2; again++) {
        for (unsigned s = STORE_LOGS; s <= STORE_EVENTS; s++)
            for (uint64_t log = 0; log <= LOGS + 1; log++) {
                expect_range(f, (enum store_space)s, ROW_META, log, log + 1);
                expect_range(f, (enum store_space)s, ROW_CHUNK, log, log + 1);
                expect_range(f, (enum store_space)s, ROW_META, log, LOGS + 2);
                expect_range(f, (enum store_space)s, ROW_META, log, log); // nothing
            }
        struct row_key low = row_key(ROW_META, 2, 0), high = row_key(ROW_META, 9, 0);
        struct store_iter *it;
        assert_ok(store_iter_range(f->s, STORE_LOGS, key_slice(&high), key_slice(&low), &it));
        assert_false(store_iter_valid(it));
        assert_ok(store_iter_status(it, NULL));
        store_iter_free(it);
        struct errmsg msg;
        assert_ok(store_verify(f->s, &msg));
        reopen(f);
    }
}

static void largest_chunk(void **state)
{
    struct fixture *f = *state;
    reopen(f);
    uint8_t *value = malloc(CHUNK_MAX);
    assert_non_null(value);
    struct row_key k = row_key(ROW_CHUNK, 1, 1), next = row_key(ROW_CHUNK, 1, 2);
    fill_row(value, CHUNK_MAX, &k);
    struct store_writer *w;
    assert_ok(store_begin(f->s, &w));
    for (unsigned s = STORE_LOGS; s <= STORE_EVENTS; s++) {
        assert_ok(store_add(w, (enum store_space)s, key_slice(&k), slice_of(value, CHUNK_MAX)));
        assert_ok(store_add(w, (enum store_space)s, key_slice(&next), slice_of(value, 40)));
    }
    commit(w);
    reopen(f);
    struct buf b;
    buf_init(&b, CHUNK_MAX);
    for (unsigned s = STORE_LOGS; s <= STORE_EVENTS; s++) {
        buf_clear(&b);
        assert_ok(store_get(f->s, (enum store_space)s, key_slice(&k), false, &b));
        assert_true(slice_equal(buf_slice(&b), slice_of(value, CHUNK_MAX)));
        buf_clear(&b);
        assert_ok(store_get(f->s, (enum store_space)s, key_slice(&next), false, &b));
        assert_int_equal(buf_len(&b), 40);
    }
    buf_release(&b);
    free(value);
}

// ---- RocksDB's tables

struct table {
    char path[200];
    uint8_t *data;
    size_t n;
};

// Calls fn for each table of the directory and returns how many there are.
static unsigned each_table(const struct fixture *f, void (*fn)(void *arg, struct table *t),
                           void *arg)
{
    unsigned count = 0;
    DIR *d = opendir(f->dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (!strstr(e->d_name, ".sst"))
            continue;
        struct table t;
        (void)snprintf(t.path, sizeof t.path, "%s/%.60s", f->dir, e->d_name);
        assert_ok(os_read_file(os_real(), t.path, 1u << 30, &t.data, &t.n));
        fn(arg, &t);
        free(t.data);
        count++;
    }
    closedir(d);
    return count;
}

// Damages every chunk: values that do not compress lie in the table as they are.
static void damage_chunks(void *arg, struct table *t)
{
    unsigned *damaged = arg;
    FILE *file = fopen(t->path, "r+b");
    assert_non_null(file);
    for (uint64_t log = 1; log <= LOGS; log++)
        for (uint64_t i = 0; i < ROUNDS * CHUNKS; i++) {
            struct row_key k = row_key(ROW_CHUNK, log, 1 + i * 1000);
            uint8_t start[64];
            fill_row(start, sizeof start, &k);
            uint8_t *at = memmem(t->data, t->n, start, sizeof start);
            if (!at)
                continue;
            assert_int_equal(fseek(file, (long)(at - t->data) + 40, SEEK_SET), 0);
            assert_int_equal(fputc(start[40] ^ 1, file), start[40] ^ 1);
            ++*damaged;
        }
    assert_int_equal(fclose(file), 0);
}

// With all chunks damaged, whoever reads one finds out. No range of metadata does, though each
// table has both, lacks some of the logs, and overlaps the others.
static void metadata_is_read_without_chunks(void **state)
{
    struct fixture *f = *state;
    reopen(f);
    write_rounds(f);
    store_close(f->s);
    f->s = NULL;
    unsigned damaged = 0;
    assert_int_equal(each_table(f, damage_chunks, &damaged), 2 * ROUNDS);
    assert_int_equal(damaged, 2 * LOGS * CHUNKS * 2);
    reopen(f);
    for (unsigned s = STORE_LOGS; s <= STORE_EVENTS; s++) {
        for (uint64_t log = 0; log <= LOGS + 1; log++)
            expect_range(f, (enum store_space)s, ROW_META, log, log + 1);
        expect_range(f, (enum store_space)s, ROW_META, 0, LOGS + 2);
        struct row_key k = row_key(ROW_CHUNK, 1, 1);
        struct buf b;
        buf_init(&b, CHUNK_BYTES);
        assert_err(store_get(f->s, (enum store_space)s, key_slice(&k), false, &b), ERR_DAMAGED);
        buf_release(&b);
    }
}

// A table's properties, which are not compressed, name its codec. Counts the tables with LZ4HC.
static void count_codec(void *arg, struct table *t)
{
    *(unsigned *)arg += memmem(t->data, t->n, "LZ4HC", 5) != NULL;
}

// From the row on from which it is in a hurry, in LZ4, which is there as well.
static void chunks_compressed(struct fixture *f, uint64_t hurry_from)
{
    reopen(f);
    static uint8_t text[CHUNK_BYTES];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = i % 8 == 0 ? (uint8_t)('a' + i / 8 * 7919 % 26) : (uint8_t) "a line, "[i % 8];
    struct store_writer *w;
    assert_ok(store_begin(f->s, &w));
    if (hurry_from == 0)
        store_hurry(w);
    assert_ok(store_add(w, STORE_KEYS, slice_str("k"), slice_str("not a chunk")));
    for (uint64_t i = 0; i < 50; i++) {
        struct row_key k = row_key(ROW_CHUNK, 1, 1 + i);
        if (i >= hurry_from)
            store_hurry(w);
        assert_ok(store_add(w, STORE_LOGS, key_slice(&k), slice_of(text, sizeof text)));
    }
    commit(w);
    for (uint64_t i = 0; i < 50; i++) {
        struct row_key k = row_key(ROW_CHUNK, 1, 1 + i);
        struct buf got;
        buf_init(&got, 2 * CHUNK_BYTES);
        assert_ok(store_get(f->s, STORE_LOGS, key_slice(&k), false, &got));
        assert_true(slice_equal(buf_slice(&got), slice_of(text, sizeof text)));
        buf_release(&got);
    }
    unsigned with = 0;
    bool both = hurry_from > 0 && hurry_from < 50;
    assert_int_equal(each_table(f, count_codec, &with), both ? 3 : 2);
    assert_int_equal(with, hurry_from ? 1 : 0);
    struct store_stats stats;
    store_get_stats(f->s, &stats);
    assert_true(stats.disk_bytes < 50 * CHUNK_BYTES / 2);
}

static void chunks_are_compressed(void **state)
{
    chunks_compressed(*state, 50);
}

static void chunks_are_compressed_in_a_hurry(void **state)
{
    chunks_compressed(*state, 0);
}

static void chunks_are_compressed_in_a_hurry_from_some_on(void **state)
{
    chunks_compressed(*state, 20);
}

#define BOTH(test)                                         \
    {#test " (rocks)", test, setup_rocks, teardown, NULL}, \
    {                                                      \
#test " (sim)", test, setup_sim, teardown, NULL    \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(ranges_of_rows),
        BOTH(largest_chunk),
        cmocka_unit_test_setup_teardown(metadata_is_read_without_chunks, setup_rocks, teardown),
        cmocka_unit_test_setup_teardown(chunks_are_compressed, setup_rocks, teardown),
        cmocka_unit_test_setup_teardown(chunks_are_compressed_in_a_hurry, setup_rocks, teardown),
        cmocka_unit_test_setup_teardown(chunks_are_compressed_in_a_hurry_from_some_on, setup_rocks,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
