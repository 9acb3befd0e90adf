#include "unit.h"

#include "base/limits.h"
#include "base/os.h"
#include "op_random.h"
#include <inttypes.h>
#include <stdlib.h>

static void encode(struct buf *b, const struct change *c)
{
    size_t size = op_size(c);
    assert_ok(buf_reserve(b, size));
    size_t before = buf_len(b);
    op_append(b, c);
    assert_int_equal(buf_len(b) - before, size);
}

static void assert_same(const struct change *a, const struct change *b)
{
    char text[2][400];
    op_describe(a, text[0], sizeof text[0]);
    op_describe(b, text[1], sizeof text[1]);
    assert_string_equal(text[0], text[1]); // says more than the next line
    assert_true(same_change(a, b));
}

// The first change of `payload`.
static enum err first(struct slice payload, struct change *c)
{
    struct op_reader r = op_read(payload);
    struct errmsg msg = {""};
    enum err e = op_next(&r, c, &msg);
    assert_true((e == ERR_DAMAGED || e == ERR_FORMAT) == (msg.text[0] != 0));
    return e;
}

#define TEXT(s)                             \
    {                                       \
        (const uint8_t *)(s), sizeof(s) - 1 \
    }

// Every kind of change, in the bytes that version 1 of the log's payload has for it. They stay for
// ever: what becomes of a change later, these are read as they are here.
static const uint8_t golden_put[] = {
    0x0a, 26,   0x0a, 24,                   // changes, put
    0x0a, 1,    'k',                        // key
    0x10, 0xac, 0x02,                       // version
    0x18, 1,                                // type
    0x22, 3,    'v',  'a', 'l',             // value
    0x29, 8,    7,    6,   5,   4, 3, 2, 1, // expires_ms
    0x30, 1,                                // space
};
static const uint8_t golden_delete[] = {
    0x0a, 7, 0x12, 5,      // changes, delete
    0x0a, 1, 'k',  0x10, 5 // key, version; space 0 is left out
};
static const uint8_t golden_keyspace[] = {
    0x0a, 30,   0x1a, 28,                          // changes, keyspace
    0x0a, 6,    'e',  'v',  'e',  'n',  't',  's', // name
    0x10, 3,                                       // id
    0x18, 0x80, 0xd0, 0x95, 0xff, 0xbc, 0x31,      // created_ms
    0x20, 0xe8, 0x07,                              // max_age_ms
    0x28, 0x80, 0x80, 0x40,                        // max_bytes
    0x30, 100,                                     // max_records
    0x38, 1,                                       // server_time
};
static const uint8_t golden_append[] = {
    0x0a, 98,   0x22, 96,                                                         // changes, append
    0x08, 3,                                                                      // keyspace
    0x12, 1,    'k',                                                              // key
    0x18, 0x80, 1,                                                                // log
    0x22, 86,                                                                     // records
    7,    0,    0,    0,    0,    0,    0,    0,                                  // offset
    0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,                               // timestamp
    16,   15,   14,   13,   12,   11,   10,   9,    8,   7,   6,  5, 4,  3, 2, 1, // nonce
    6,    0,    0,    0,    'r',  'e',  'c',  'o',  'r', 'd', 42, 0, 0,  0,       // bytes
    9,    0,    0,    0,    0,    0,    0,    0,    // offset: 8 is gone
    1,    2,    3,    4,    5,    6,    7,    8,    // timestamp
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // no nonce
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0,   0,   0,  0, 36, 0, 0, 0, // no bytes
};
static const uint8_t golden_trim[] = {
    0x0a, 12, 0x2a, 10,                                 // changes, trim
    0x08, 3,  0x12, 1,  'k', 0x18, 7, 0x20, 0xac, 0x02, // keyspace, key, log, before
};
static const uint8_t golden_erase[] = {
    0x0a, 11, 0x32, 9,                        // changes, erase
    0x08, 3,  0x12, 1, 'k', 0x18, 7, 0x20, 9, // keyspace, key, log, offset
};
static const uint8_t golden_relation[] = {
    0x0a, 25,   0x3a, 23,                          // changes, relation
    0x0a, 6,    'f',  'a',  'n',  's',  ':',  '1', // name
    0x10, 2,                                       // id
    0x18, 0x80, 0xd0, 0x95, 0xff, 0xbc, 0x31,      // created_ms
    0x20, 1,    0x28, 1,    0x30, 1,               // reverse, recent, relaxed
};
#define SMALL64(n) n, 0, 0, 0, 0, 0, 0, 0
static const uint8_t golden_relate[] = {
    0x0a,       84, 0x42,        82,            // changes, relate
    0x08,       2,                              // relation
    0x12,       16, SMALL64(5),  SMALL64(0xff), // froms
    0x1a,       8,  2,           0,
    0,          0,  1,           0,
    0,          0, // counts
    0x22,       24, SMALL64(1),  SMALL64(200),
    SMALL64(0), // members: of 5, 1 and 200
    0x2a,       24, SMALL64(11), SMALL64(10),
    12,         0,  0,           0,
    0,          0,  0,           0x80, // stamps
};
static const uint8_t golden_unrelate[] = {
    0x0a, 30, 0x4a, 28,                   // changes, unrelate
    0x08, 2,                              // relation
    0x12, 8,  5,    0,  0, 0, 0, 0, 0, 0, // froms
    0x1a, 4,  1,    0,  0, 0,             // counts
    0x22, 8,  1,    2,  3, 4, 5, 6, 7, 8, // members
};

static const uint8_t golden_tier[] = {
    0x0a, 12, 0x52, 10,                                 // changes, tier
    0x08, 3,  0x12, 1,  'k', 0x18, 7, 0x20, 0xac, 0x02, // keyspace, key, log, before
};

#define GOLDEN(name)                        \
    {                                       \
        golden_##name, sizeof golden_##name \
    }
static const struct {
    struct slice bytes;
    struct change change;
} golden[] = {
    {GOLDEN(put),
     {.kind = CHANGE_PUT,
      .type = VALUE_STRING,
      .version = 300,
      .expires_ms = 0x0102030405060708,
      .space = SPACE_IDEM,
      .key = TEXT("k"),
      .value = TEXT("val")}},
    {GOLDEN(delete), {.kind = CHANGE_DELETE, .version = 5, .key = TEXT("k")}},
    {GOLDEN(keyspace),
     {.kind = CHANGE_KEYSPACE,
      .key = TEXT("events"),
      .keyspace = 3,
      .created_ms = 1700000000000,
      .policy = {1000, 1 << 20, 100, true}}},
    {GOLDEN(append),
     {.kind = CHANGE_APPEND,
      .keyspace = 3,
      .key = TEXT("k"),
      .log = 128,
      .value = {golden_append + 14, sizeof golden_append - 14}}},
    {GOLDEN(trim), {.kind = CHANGE_TRIM, .keyspace = 3, .key = TEXT("k"), .log = 7, .offset = 300}},
    {GOLDEN(erase), {.kind = CHANGE_ERASE, .keyspace = 3, .key = TEXT("k"), .log = 7, .offset = 9}},
    {GOLDEN(relation),
     {.kind = CHANGE_RELATION,
      .key = TEXT("fans:1"),
      .relation = 2,
      .created_ms = 1700000000000,
      .options = {true, true, true}}},
    {GOLDEN(relate),
     {.kind = CHANGE_RELATE,
      .relation = 2,
      .froms = {golden_relate + 8, 16},
      .counts = {golden_relate + 26, 8},
      .members = {golden_relate + 36, 24},
      .stamps = {golden_relate + 62, 24}}},
    {GOLDEN(unrelate),
     {.kind = CHANGE_UNRELATE,
      .relation = 2,
      .froms = {golden_unrelate + 8, 8},
      .counts = {golden_unrelate + 18, 4},
      .members = {golden_unrelate + 24, 8}}},
    {GOLDEN(tier), {.kind = CHANGE_TIER, .keyspace = 3, .key = TEXT("k"), .log = 7, .offset = 300}},
};
enum { GOLDENS = sizeof golden / sizeof *golden };

static void golden_payloads(void **state)
{
    struct buf b;
    buf_init(&b, 1000);
    struct change got;
    for (size_t i = 0; i < GOLDENS; i++) {
        assert_ok(first(golden[i].bytes, &got));
        assert_same(&got, &golden[i].change);
        size_t at = buf_len(&b);
        encode(&b, &golden[i].change);
        assert_int_equal(buf_len(&b) - at, golden[i].bytes.n);
        assert_memory_equal(buf_head(&b) + at, golden[i].bytes.p, golden[i].bytes.n);
    }
    struct op_reader r = op_read(buf_slice(&b)); // all in one transaction
    for (size_t i = 0; i < GOLDENS; i++) {
        assert_ok(op_next(&r, &got, NULL));
        assert_same(&got, &golden[i].change);
    }
    assert_err(op_next(&r, &got, NULL), ERR_MISSING);
    assert_err(op_next(&r, &got, NULL), ERR_MISSING);
    buf_release(&b);
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

static void random_transactions_come_back(void **state)
{
    uint64_t rnd = test_seed();
    struct buf b;
    buf_init(&b, LIMIT_WAL_FRAME);
    for (unsigned round = 0; round < 2000; round++) {
        struct change made[20];
        struct change_bytes bytes[20];
        unsigned n = (unsigned)(next_random(&rnd) % 20);
        buf_clear(&b);
        for (unsigned i = 0; i < n; i++) {
            made[i] = random_change(&rnd, &bytes[i]);
            encode(&b, &made[i]);
        }
        struct op_reader r = op_read(buf_slice(&b));
        struct change got;
        for (unsigned i = 0; i < n; i++) {
            assert_ok(op_next(&r, &got, NULL));
            assert_same(&got, &made[i]);
        }
        assert_err(op_next(&r, &got, NULL), ERR_MISSING);
    }
    buf_release(&b);
}

static void comes_back(struct buf *b, const struct change *c)
{
    buf_clear(b);
    encode(b, c);
    struct change got;
    assert_ok(first(buf_slice(b), &got));
    assert_same(&got, c);
}

static void limits_come_back(void **state)
{
    uint8_t *zeros = calloc(1, LIMIT_VALUE_HARD);
    uint8_t *record = malloc(record_size(LIMIT_VALUE_HARD));
    assert_true(zeros && record);
    struct slice key = slice_of(zeros, LIMIT_KEY_HARD);
    struct record r = {.offset = UINT64_MAX,
                       .timestamp = INT64_MIN,
                       .nonce = U128_MAX - 1,
                       .bytes = slice_of(zeros, LIMIT_VALUE_HARD - 1)};
    record_write(record, &r);
    const struct change all[] = {
        {.kind = CHANGE_PUT,
         .version = UINT64_MAX,
         .expires_ms = UINT64_MAX,
         .key = key,
         .value = r.bytes},
        {.kind = CHANGE_KEYSPACE,
         .key = slice_of(zeros, LIMIT_KEYSPACE_NAME),
         .keyspace = UINT32_MAX,
         .created_ms = UINT64_MAX,
         .policy = {UINT64_MAX, UINT64_MAX, UINT64_MAX, true}},
        {.kind = CHANGE_APPEND,
         .key = key,
         .keyspace = UINT32_MAX,
         .log = UINT64_MAX,
         .value = slice_of(record, record_size(r.bytes.n))},
        {.kind = CHANGE_ERASE,
         .key = key,
         .keyspace = UINT32_MAX,
         .log = UINT64_MAX,
         .offset = UINT64_MAX},
    };
    struct buf b;
    buf_init(&b, LIMIT_WAL_FRAME);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        comes_back(&b, &all[i]);

    free(zeros);
    free(record);
    buf_release(&b);
}

// Every truncation and every damaged byte of some transactions: never a change that no writer could
// have written, and what is read can be written again.
static void survives_damage(void **state)
{
    uint64_t rnd = test_seed();
    struct buf b, again;
    buf_init(&b, 1 << 20);
    buf_init(&again, 1 << 20);
    for (unsigned round = 0; round < 300; round++) {
        buf_clear(&b);
        for (unsigned i = 0; i < 3; i++) {
            struct change_bytes bytes;
            struct change c = random_change(&rnd, &bytes);
            encode(&b, &c);
        }
        for (size_t i = 0; i < buf_len(&b); i++) {
            // An exact copy on the heap, so that a sanitizer sees a read past its end.
            bool cut = next_random(&rnd) % 2;
            size_t n = cut ? i : buf_len(&b);
            uint8_t *copy = malloc(n ? n : 1);
            assert_non_null(copy);
            memcpy(copy, buf_head(&b), n);
            if (!cut)
                copy[i] = (uint8_t)next_random(&rnd);
            struct op_reader r = op_read(slice_of(copy, n));
            struct change got;
            while (op_next(&r, &got, NULL) == ERR_OK) {
                buf_clear(&again);
                encode(&again, &got);
            }
            free(copy);
        }
    }
    buf_release(&b);
    buf_release(&again);
}

#define BYTES(...) slice_of((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void reads_what_others_may_write(void **state)
{
    struct change c;
    // Fields out of order, the last of two counts, a varint longer than it need be.
    assert_ok(
        first(BYTES(0x0a, 13, 0x12, 11, 0x10, 1, 0x0a, 1, 'x', 0x10, 0x85, 0, 0x0a, 1, 'k'), &c));
    assert_true(c.kind == CHANGE_DELETE && c.version == 5);
    assert_true(slice_equal(c.key, slice_str("k")));
    // Unknown fields of every wire type at every level.
    assert_ok(first(BYTES(0x10, 1, 0x1a, 2, 9, 9, 0x21, 1, 2, 3, 4, 5, 6, 7, 8, 0x0a, 13, 0x7a, 1,
                          0, 0x12, 8, 0x7d, 1, 2, 3, 4, 0x0a, 1, 'k'),
                    &c));
    assert_true(slice_equal(c.key, slice_str("k")));
    assert_err(first(BYTES(0x10, 1), &c), ERR_MISSING);
}

static void refuses(void **state)
{
    struct change c;
    assert_err(first(BYTES(0x0a, 2, 0x7a, 0), &c), ERR_FORMAT);  // a kind of change not yet known
    assert_err(first(BYTES(0x0a, 0), &c), ERR_DAMAGED);          // no kind
    assert_err(first(BYTES(0x0a, 2, 0x12, 0), &c), ERR_DAMAGED); // no key
    assert_err(first(BYTES(0x0a, 3, 0x12, 0), &c), ERR_DAMAGED); // cut
    assert_err(first(BYTES(0x08, 1), &c), ERR_DAMAGED);          // changes of another wire type
    assert_err(first(BYTES(0x0b), &c), ERR_DAMAGED);             // a group
    assert_err(first(BYTES(0x02, 0), &c), ERR_DAMAGED);          // field number 0
    assert_err(first(BYTES(0x0a, 2, 0x10, 0), &c), ERR_DAMAGED); // a kind that is no message
    assert_err(first(BYTES(0x0a, 4, 0x12, 2, 0x08, 1), &c), ERR_DAMAGED); // a key that is a number
    assert_err(first(BYTES(0x0a, 10, 0x12, 3, 0x0a, 1, 'k', 0x12, 3, 0x0a, 1, 'k'), &c),
               ERR_DAMAGED);                                                            // two kinds
    assert_err(first(BYTES(0x0a, 7, 0x12, 5, 0x0a, 1, 'k', 0x18, 2), &c), ERR_DAMAGED); // space 2
    assert_err(first(BYTES(0x0a, 7, 0x0a, 5, 0x0a, 1, 'k', 0x18, 6), &c), ERR_DAMAGED); // type 6
    assert_err(first(BYTES(0x0a, 7, 0x0a, 5, 0x0a, 1, 'k', 0x18, 2), &c),
               ERR_DAMAGED); // int of 0 bytes
    assert_err(first(BYTES(0x0a, 10, 0x0a, 8, 0x0a, 1, 'k', 0x18, 4, 0x22, 1, 2), &c),
               ERR_DAMAGED); // bool of 2
    assert_err(
        first(BYTES(0x0a, 11, 0x12, 9, 0x0a, 1, 'k', 0x18, 0x80, 0x80, 0x80, 0x80, 0x10), &c),
        ERR_DAMAGED); // a space past 32 bits
    assert_err(first(BYTES(0x0a, 16, 0x12, 14, 0x0a, 1, 'k', 0x10, 0xff, 0xff, 0xff, 0xff, 0xff,
                           0xff, 0xff, 0xff, 0xff, 2),
                     &c),
               ERR_DAMAGED); // a version past 64 bits
    assert_ok(first(BYTES(0x0a, 16, 0x12, 14, 0x0a, 1, 'k', 0x10, 0xff, 0xff, 0xff, 0xff, 0xff,
                          0xff, 0xff, 0xff, 0xff, 1),
                    &c));
    assert_true(c.version == UINT64_MAX);
}

// A field of bytes whose length is written in four bytes.
static uint8_t *start_bytes(uint8_t *p, unsigned number, size_t n)
{
    *p++ = (uint8_t)(number << 3 | 2);
    for (int i = 0; i < 3; i++, n >>= 7)
        *p++ = (uint8_t)(n | 0x80);
    *p++ = (uint8_t)n;
    return p;
}

// An append of `records` to keyspace 1, key "k", log 1.
static enum err read_append(struct slice records, struct change *c)
{
    static const uint8_t names[] = {0x08, 1, 0x12, 1, 'k', 0x18, 1};
    uint8_t *bytes = malloc(30 + records.n);
    assert_non_null(bytes);
    size_t body = sizeof names + 5 + records.n;
    uint8_t *p = start_bytes(start_bytes(bytes, 1, 5 + body), CHANGE_APPEND, body);
    memcpy(p, names, sizeof names);
    p = start_bytes(p + sizeof names, 4, records.n);
    memcpy(p, records.p, records.n);
    enum err e = first(slice_of(bytes, (size_t)(p - bytes) + records.n), c);
    free(bytes);
    return e;
}

static void refuses_logs(void **state)
{
    struct change c;
    assert_err(first(BYTES(0x0a, 5, 0x1a, 3, 0x0a, 1, 'k'), &c), ERR_DAMAGED); // no id
    assert_err(first(BYTES(0x0a, 4, 0x1a, 2, 0x10, 1), &c), ERR_DAMAGED);      // no name
    assert_ok(first(BYTES(0x0a, 7, 0x1a, 5, 0x0a, 1, 'k', 0x10, 1), &c));      // no limits
    assert_false(c.policy.server_time);
    assert_err(
        first(BYTES(0x0a, 12, 0x1a, 10, 0x0a, 1, 'k', 0x10, 0x80, 0x80, 0x80, 0x80, 0x10), &c),
        ERR_DAMAGED); // an id past 32 bits
    uint8_t name[3 + 3 + 3 + LIMIT_KEYSPACE_NAME + 1 + 2] = {0x0a, 0x88, 0x02, 0x1a, 0x85,
                                                             0x02, 0x0a, 0x80, 0x02};
    name[sizeof name - 2] = 0x10;
    name[sizeof name - 1] = 1;
    assert_err(first(slice_of(name, sizeof name), &c), ERR_DAMAGED); // 256 bytes of name

    static const uint8_t kinds[] = {CHANGE_TRIM, CHANGE_ERASE, CHANGE_TIER};
    for (int i = 0; i < 3; i++) {
        uint8_t tag = (uint8_t)(kinds[i] << 3 | 2);
        assert_ok(first(BYTES(0x0a, 11, tag, 9, 0x08, 1, 0x12, 1, 'k', 0x18, 1, 0x20, 1), &c));
        assert_err(first(BYTES(0x0a, 9, tag, 7, 0x08, 1, 0x12, 1, 'k', 0x18, 1), &c), ERR_DAMAGED);
        assert_err(first(BYTES(0x0a, 9, tag, 7, 0x08, 1, 0x12, 1, 'k', 0x20, 1), &c), ERR_DAMAGED);
        assert_err(first(BYTES(0x0a, 9, tag, 7, 0x12, 1, 'k', 0x18, 1, 0x20, 1), &c), ERR_DAMAGED);
        assert_err(first(BYTES(0x0a, 8, tag, 6, 0x08, 1, 0x18, 1, 0x20, 1), &c), ERR_DAMAGED);
    }

    struct slice two = golden[3].change.value; // of 46 and 40 bytes
    assert_ok(read_append(two, &c));
    assert_err(read_append(slice_of(two.p, 0), &c), ERR_DAMAGED);
    for (size_t n = 1; n < two.n; n++)
        assert_string_equal(err_name(read_append(slice_of(two.p, n), &c)),
                            n == 46 ? "OK" : err_name(ERR_DAMAGED));
    uint8_t swapped[86];
    memcpy(swapped, two.p + 46, 40);
    memcpy(swapped + 40, two.p, 46);
    assert_err(read_append(slice_of(swapped, 86), &c), ERR_DAMAGED);

    size_t room = record_size(LIMIT_VALUE_HARD);
    uint8_t *record = calloc(1, room);
    assert_non_null(record);
    store64(record, 1);
    store32(record + 32, LIMIT_VALUE_HARD);
    store32(record + room - 4, LIMIT_VALUE_HARD + RECORD_HEAD);
    assert_err(read_append(slice_of(record, room), &c), ERR_DAMAGED); // a byte more than any has
    store32(record + 32, LIMIT_VALUE_HARD - 1);
    store32(record + room - 5, LIMIT_VALUE_HARD + RECORD_HEAD - 1);
    assert_ok(read_append(slice_of(record, room - 1), &c));
    free(record);
}

// A relate of relation 1 with these columns, each of up to 100 bytes.
static enum err read_relate(struct slice froms, struct slice counts, struct slice members,
                            struct slice stamps, struct change *c)
{
    const struct slice columns[] = {froms, counts, members, stamps};
    uint8_t body[500] = {0x08, 1}, bytes[600], *p = body + 2;
    for (unsigned i = 0; i < 4; i++) {
        if (!columns[i].n)
            continue;
        p = start_bytes(p, 2 + i, columns[i].n);
        memcpy(p, columns[i].p, columns[i].n);
        p += columns[i].n;
    }
    size_t n = (size_t)(p - body);
    p = start_bytes(start_bytes(bytes, 1, 5 + n), CHANGE_RELATE, n);
    memcpy(p, body, n);
    return first(slice_of(bytes, (size_t)(p - bytes) + n), c);
}

static void refuses_relations(void **state)
{
    struct change c;
    assert_ok(first(BYTES(0x0a, 7, 0x3a, 5, 0x0a, 1, 'k', 0x10, 1), &c));
    assert_false(c.options.reverse || c.options.recent || c.options.relaxed);
    assert_err(first(BYTES(0x0a, 5, 0x3a, 3, 0x0a, 1, 'k'), &c), ERR_DAMAGED);          // no id
    assert_err(first(BYTES(0x0a, 4, 0x3a, 2, 0x10, 1), &c), ERR_DAMAGED);               // no name
    assert_err(first(BYTES(0x0a, 7, 0x3a, 5, 0x0a, 1, '-', 0x10, 1), &c), ERR_DAMAGED); // a bad one
    assert_err(first(BYTES(0x0a, 4, 0x42, 2, 0x08, 1), &c), ERR_DAMAGED);               // no lists

    struct slice from = BYTES(1, 0, 0, 0, 0, 0, 0, 0), one = BYTES(1, 0, 0, 0), none = {0};
    struct slice two = BYTES(2, 0, 0, 0), zero = BYTES(0, 0, 0, 0);
    struct slice rise = BYTES(255, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0);
    struct slice fall = BYTES(0, 1, 0, 0, 0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0);
    struct slice same = BYTES(7, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0);
    struct slice more = BYTES(3, 0, 0, 0), huge = BYTES(255, 255, 255, 255);
    assert_ok(read_relate(from, two, rise, none, &c));
    assert_ok(read_relate(from, two, rise, fall, &c));
    assert_ok(read_relate(same, BYTES(1, 0, 0, 0, 1, 0, 0, 0), fall, none, &c)); // a from twice
    assert_err(read_relate(from, two, fall, none, &c), ERR_DAMAGED);
    assert_err(read_relate(from, two, same, none, &c), ERR_DAMAGED);
    assert_err(read_relate(from, one, rise, none, &c), ERR_DAMAGED);
    assert_err(read_relate(from, more, rise, none, &c), ERR_DAMAGED);
    assert_err(read_relate(from, huge, rise, none, &c), ERR_DAMAGED);
    assert_err(read_relate(from, zero, none, none, &c), ERR_DAMAGED);
    assert_err(read_relate(from, none, none, none, &c), ERR_DAMAGED);
    assert_err(read_relate(none, none, none, none, &c), ERR_DAMAGED);
    assert_err(read_relate(from, two, rise, from, &c), ERR_DAMAGED); // a stamp too few
    assert_err(read_relate(same, BYTES(2, 0, 0, 0, 0, 0, 0, 0), rise, none, &c), ERR_DAMAGED);
    assert_err(read_relate(slice_of(from.p, 7), two, rise, none, &c), ERR_DAMAGED);
    assert_err(read_relate(from, slice_of(two.p, 3), rise, none, &c), ERR_DAMAGED);
    assert_err(read_relate(from, one, slice_of(rise.p, 9), none, &c), ERR_DAMAGED);
}

static void names_relations(void **state)
{
    static const char *const good[] = {"a", "_", "9", "user:likes.v2-x", "Z_"};
    static const char *const bad[] = {"", ".", ":a", "-", "a b", "a/b", "\xc3\xa4", "a\n"};
    char name[LIMIT_RELATION_NAME + 1];
    memset(name, 'n', sizeof name);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(op_relation_name(slice_str(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(op_relation_name(slice_str(bad[i])));
    assert_false(op_relation_name(slice_of("a\0", 2)));
    assert_true(op_relation_name(slice_of(name, LIMIT_RELATION_NAME)));
    assert_false(op_relation_name(slice_of(name, sizeof name)));
}

static void describes_logs_and_relations(void **state)
{
    static const char *const texts[] = {
        "keyspace \"events\" id 3",
        "append \"k\" in keyspace 3 log 128, 86 bytes",
        "trim \"k\" in keyspace 3 log 7 offset 300",
        "erase \"k\" in keyspace 3 log 7 offset 9",
        "relation \"fans:1\" id 2, reverse, recent, relaxed",
        "relate 3 members in 2 lists of relation 2",
        "unrelate 1 members in 1 lists of relation 2",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char text[200];
        op_describe(&golden[2 + i].change, text, sizeof text);
        assert_string_equal(text, texts[i]);
        for (size_t cap = 1; cap < 60; cap++) {
            op_describe(&golden[2 + i].change, text, cap);
            assert_true(strlen(text) < cap);
        }
    }
}

static void describes(void **state)
{
    char text[200];
    static const uint8_t zeros[LIMIT_KEY_HARD];
    struct change c = {.kind = CHANGE_PUT,
                       .version = 3,
                       .key = slice_of("a\"\\\n\xff", 5),
                       .value = slice_of(zeros, 100)};
    op_describe(&c, text, sizeof text);
    assert_string_equal(text, "put \"a\\\"\\\\\\x0a\\xff\" version 3, 100 bytes");
    c.type = VALUE_STRING;
    c.expires_ms = 12;
    op_describe(&c, text, sizeof text);
    assert_string_equal(text,
                        "put \"a\\\"\\\\\\x0a\\xff\" version 3, string of 100 bytes, expires 12");
    struct change d = {.kind = CHANGE_DELETE,
                       .space = SPACE_IDEM,
                       .version = UINT64_MAX,
                       .key = slice_of(zeros, sizeof zeros)};
    char long_text[400];
    op_describe(&d, long_text, sizeof long_text);
    assert_non_null(strstr(long_text, "... (idempotency) version 18446744073709551615"));
    for (size_t cap = 1; cap < 60; cap++) {
        op_describe(&c, text, cap);
        assert_true(strlen(text) < cap);
    }
    assert_string_equal(value_type_name(VALUE_ARRAY), "array");
    assert_string_equal(value_type_name((enum value_type)99), "unknown type");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_payloads),
        cmocka_unit_test(random_transactions_come_back),
        cmocka_unit_test(limits_come_back),
        cmocka_unit_test(survives_damage),
        cmocka_unit_test(reads_what_others_may_write),
        cmocka_unit_test(refuses),
        cmocka_unit_test(refuses_logs),
        cmocka_unit_test(refuses_relations),
        cmocka_unit_test(names_relations),
        cmocka_unit_test(describes),
        cmocka_unit_test(describes_logs_and_relations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
