// Random changes of every kind, valid ones, for the tests of op/.
#ifndef VARVE_TESTS_OP_RANDOM_H
#define VARVE_TESTS_OP_RANDOM_H

#include "op/op.h"
#include "op/record.h"

// What a random change's slices point into.
struct change_bytes {
    uint8_t key[300];
    uint8_t value[1200];
};

static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

// Small numbers are as likely as large ones.
static inline uint64_t random_number(uint64_t *rnd)
{
    return next_random(rnd) >> next_random(rnd) % 64;
}

// A run of 1 to `most` records of up to 100 bytes each; returns the place after it.
static inline uint8_t *random_records(uint64_t *rnd, uint8_t *p, unsigned most)
{
    uint8_t bytes[100];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)next_random(rnd);
    uint64_t offset = random_number(rnd) >> 8;
    for (unsigned left = 1 + (unsigned)(next_random(rnd) % most); left; left--) {
        offset += 1 + next_random(rnd) % 3;
        struct record r = {.offset = offset,
                           .timestamp = (int64_t)next_random(rnd),
                           .nonce = NONCE_NONE,
                           .bytes = slice_of(bytes, next_random(rnd) % sizeof bytes)};
        if (next_random(rnd) % 2)
            r.nonce = (u128)random_number(rnd) << 64 | next_random(rnd);
        p = record_write(p, &r);
    }
    return p;
}

static inline void random_put(uint64_t *rnd, struct change *c, struct change_bytes *to)
{
    for (size_t i = 0; i < sizeof to->value; i++)
        to->value[i] = (uint8_t)next_random(rnd);
    c->type = (enum value_type)(next_random(rnd) % VALUE_TYPES);
    c->expires_ms = next_random(rnd) % 2 ? random_number(rnd) : 0;
    size_t n = next_random(rnd) % 300;
    if (c->type == VALUE_BOOL)
        to->value[0] %= 2;
    n = c->type == VALUE_INT || c->type == VALUE_FLOAT ? 8 : c->type == VALUE_BOOL ? 1 : n;
    c->value = slice_of(to->value, n);
}

// One to four lists of one to eight members, with stamps or without.
static inline void random_lists(uint64_t *rnd, struct change *c, struct change_bytes *to)
{
    uint8_t *froms = to->value, *counts = froms + 32, *members = counts + 16, *stamps;
    size_t lists = 1 + next_random(rnd) % 4, n = 0;
    for (size_t i = 0; i < lists; i++) {
        uint64_t member = random_number(rnd) >> 1;
        unsigned count = 1 + (unsigned)(next_random(rnd) % 8);
        store64(froms + 8 * i, random_number(rnd));
        store32(counts + 4 * i, count);
        for (; count; count--, member += 1 + random_number(rnd) / 16)
            store64(members + 8 * n++, member);
    }
    stamps = members + 8 * n;
    for (size_t i = 0; i < n; i++)
        store64(stamps + 8 * i, random_number(rnd));
    c->froms = slice_of(froms, 8 * lists);
    c->counts = slice_of(counts, 4 * lists);
    c->members = slice_of(members, 8 * n);
    c->stamps = slice_of(stamps, next_random(rnd) % 2 ? 8 * n : 0);
}

static inline void random_relation(uint64_t *rnd, struct change *c, struct change_bytes *to)
{
    static const char letters[] = "_09azAZ.:-"; // the first seven may begin a name
    c->relation = 1 + (uint32_t)(random_number(rnd) >> 33);
    if (c->kind != CHANGE_RELATION) {
        c->key = slice_of("", 0);
        random_lists(rnd, c, to);
        return;
    }
    c->key.n = 1 + next_random(rnd) % 128;
    for (size_t i = 0; i < c->key.n; i++)
        to->key[i] = (uint8_t)letters[next_random(rnd) % (i ? 10 : 7)];
    c->created_ms = random_number(rnd);
    uint64_t bits = next_random(rnd);
    c->options = (struct relation_options){bits & 1, bits & 2, bits & 4};
}

static inline struct change random_change(uint64_t *rnd, struct change_bytes *to)
{
    static const enum change_kind kinds[] = {
#define X(name, field, text) CHANGE_##name,
        VARVE_CHANGES(X)
#undef X
    };
    for (size_t i = 0; i < sizeof to->key; i++)
        to->key[i] = (uint8_t)next_random(rnd);
    struct change c = {.kind = kinds[next_random(rnd) % (sizeof kinds / sizeof *kinds)],
                       .key = slice_of(to->key, 1 + next_random(rnd) % 255)};
    if (c.kind == CHANGE_PUT || c.kind == CHANGE_DELETE) {
        c.space = next_random(rnd) % 2 ? SPACE_KEYS : SPACE_IDEM;
        c.version = random_number(rnd);
        if (c.kind == CHANGE_PUT)
            random_put(rnd, &c, to);
        return c;
    }
    if (c.kind >= CHANGE_RELATION && c.kind <= CHANGE_UNRELATE) {
        random_relation(rnd, &c, to);
        return c;
    }
    c.keyspace = 1 + (uint32_t)(random_number(rnd) >> 33);
    if (c.kind == CHANGE_KEYSPACE) {
        c.created_ms = random_number(rnd);
        c.policy = (struct log_policy){random_number(rnd), random_number(rnd) / 2,
                                       random_number(rnd) / 2, next_random(rnd) % 2};
        return c;
    }
    c.log = 1 + (random_number(rnd) >> 1);
    if (c.kind == CHANGE_APPEND)
        c.value = slice_of(to->value, (size_t)(random_records(rnd, to->value, 8) - to->value));
    else
        c.offset = 1 + (random_number(rnd) >> 1);
    return c;
}

static inline bool same_change(const struct change *a, const struct change *b)
{
    return a->kind == b->kind && a->space == b->space && a->type == b->type &&
           a->version == b->version && a->expires_ms == b->expires_ms &&
           a->keyspace == b->keyspace && a->log == b->log && a->offset == b->offset &&
           a->created_ms == b->created_ms && a->policy.max_age_ms == b->policy.max_age_ms &&
           a->policy.max_bytes == b->policy.max_bytes &&
           a->policy.max_records == b->policy.max_records &&
           a->policy.server_time == b->policy.server_time && slice_equal(a->key, b->key) &&
           slice_equal(a->value, b->value) && a->relation == b->relation &&
           a->options.reverse == b->options.reverse && a->options.recent == b->options.recent &&
           a->options.relaxed == b->options.relaxed && slice_equal(a->froms, b->froms) &&
           slice_equal(a->counts, b->counts) && slice_equal(a->members, b->members) &&
           slice_equal(a->stamps, b->stamps);
}

#endif
