#include "unit.h"

#include "base/limits.h"
#include "base/os.h"
#include "op/op.h"
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
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->space, b->space);
    assert_int_equal(a->type, b->type);
    assert_true(a->version == b->version);
    assert_true(a->expires_ms == b->expires_ms);
    assert_true(slice_equal(a->key, b->key));
    assert_true(slice_equal(a->value, b->value));
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

static void bytes_are_the_schemas(void **state)
{
    struct change put = {.kind = CHANGE_PUT,
                         .type = VALUE_STRING,
                         .version = 300,
                         .expires_ms = 0x0102030405060708,
                         .space = SPACE_IDEM,
                         .key = slice_str("k"),
                         .value = slice_str("val")};
    static const uint8_t expect[] = {
        0x0a, 26,   0x0a, 24,                    // changes, put
        0x0a, 1,    'k',                         // key
        0x10, 0xac, 0x02,                        // version
        0x18, 1,                                 // type
        0x22, 3,    'v',  'a',  'l',             // value
        0x29, 8,    7,    6,    5,   4, 3, 2, 1, // expires_ms
        0x30, 1,                                 // space
        0x0a, 7,    0x12, 5,                     // changes, delete
        0x0a, 1,    'k',  0x10, 5,               // key, version; space 0 is left out
    };
    struct change delete = {.kind = CHANGE_DELETE, .version = 5, .key = slice_str("k")};
    struct buf b;
    buf_init(&b, 1000);
    encode(&b, &put);
    encode(&b, &delete);
    assert_int_equal(buf_len(&b), sizeof expect);
    assert_memory_equal(buf_head(&b), expect, sizeof expect);

    struct op_reader r = op_read(buf_slice(&b));
    struct change got;
    assert_ok(op_next(&r, &got, NULL));
    assert_same(&got, &put);
    assert_ok(op_next(&r, &got, NULL));
    assert_same(&got, &delete);
    assert_err(op_next(&r, &got, NULL), ERR_MISSING);
    assert_err(op_next(&r, &got, NULL), ERR_MISSING);
    buf_release(&b);
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

// Bytes for keys and values to point into: all of them at most 1, as a bool's value must be.
static const uint8_t *content(void)
{
    static uint8_t bytes[LIMIT_VALUE_HARD];
    if (!bytes[0])
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = i % 3 == 0;
    return bytes;
}

static struct change random_change(uint64_t *rnd)
{
    struct change c = {.kind = next_random(rnd) % 4 ? CHANGE_PUT : CHANGE_DELETE,
                       .space = next_random(rnd) % 2 ? SPACE_KEYS : SPACE_IDEM,
                       .version = next_random(rnd) >> next_random(rnd) % 64,
                       .key = slice_of(content(), 1 + next_random(rnd) % 200)};
    if (c.kind == CHANGE_DELETE)
        return c;
    c.type = (enum value_type)(next_random(rnd) % VALUE_TYPES);
    c.expires_ms = next_random(rnd) % 2 ? next_random(rnd) : 0;
    size_t n = next_random(rnd) % 300;
    n = c.type == VALUE_INT || c.type == VALUE_FLOAT ? 8 : c.type == VALUE_BOOL ? 1 : n;
    c.value = slice_of(content() + next_random(rnd) % 100, n);
    return c;
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
        unsigned n = (unsigned)(next_random(&rnd) % 20);
        buf_clear(&b);
        for (unsigned i = 0; i < n; i++) {
            made[i] = random_change(&rnd);
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

static void limits_come_back(void **state)
{
    struct change c = {.kind = CHANGE_PUT,
                       .version = UINT64_MAX,
                       .expires_ms = UINT64_MAX,
                       .key = slice_of(content(), LIMIT_KEY_HARD),
                       .value = slice_of(content(), LIMIT_VALUE_HARD - 1)};
    struct buf b;
    buf_init(&b, LIMIT_WAL_FRAME);
    encode(&b, &c);
    struct change got;
    assert_ok(first(buf_slice(&b), &got));
    assert_same(&got, &c);
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
            struct change c = random_change(&rnd);
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

static void describes(void **state)
{
    char text[200];
    struct change c = {.kind = CHANGE_PUT,
                       .version = 3,
                       .key = slice_of("a\"\\\n\xff", 5),
                       .value = slice_of(content(), 100)};
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
                       .key = slice_of(content(), LIMIT_KEY_HARD)};
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
        cmocka_unit_test(bytes_are_the_schemas),
        cmocka_unit_test(random_transactions_come_back),
        cmocka_unit_test(limits_come_back),
        cmocka_unit_test(survives_damage),
        cmocka_unit_test(reads_what_others_may_write),
        cmocka_unit_test(refuses),
        cmocka_unit_test(describes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
