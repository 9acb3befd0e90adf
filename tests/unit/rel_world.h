// Relations over the binary edge, over a fake connection and a fake commit room: requests, and the
// replies that are expected.
#ifndef VARVE_TESTS_REL_WORLD_H
#define VARVE_TESTS_REL_WORLD_H

#include "edge/binary/binary.h"
#include "edge/binary/frame.h"
#include "fake_commit.h"
#include "fake_conn.h"
#include "fake_rel.h"
#include "unit.h"

#include "base/limits.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { RISING, FALLING, NEWEST, INTERSECT, UNION, DIFFERENCE };
enum { REVERSE = 1, RELAXED = 2 };                            // flags
enum { PAGE_REVERSE = 1, PAGE_AFTER = 4 };                    // of a page
enum { WITH_REVERSE = 1, WITH_RECENT = 2, WITH_RELAXED = 4 }; // options

struct room {
    struct commit *commit;
    struct binary *binary;
    struct conn *conn;
    struct buf script; // requests
    struct buf expect; // replies
};

void enter(struct room *r);
void leave(struct room *r);

// ---- requests

void put(struct buf *b, const void *p, size_t n);
void put8(struct buf *b, uint8_t v);
void put32(struct buf *b, uint32_t v);
void put64(struct buf *b, uint64_t v);
void put_arg(struct buf *b, const void *p, size_t n);

// Some ids; n in bytes.
struct ids {
    const uint64_t *p;
    size_t n;
};
#define IDS(...)                                                                 \
    (struct ids)                                                                 \
    {                                                                            \
        (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) \
    }
static const struct ids nobody = {NULL, 0};

void ask(struct room *r, uint16_t type, const char *relation);
void ask_from(struct room *r, uint16_t type, const char *relation, uint64_t from);
void ask_change(struct room *r, uint16_t type, const char *relation, uint64_t from, struct ids m,
                uint32_t flags);
void ask_add(struct room *r, const char *relation, uint64_t from, struct ids m);
void ask_count(struct room *r, const char *relation, uint64_t from, uint32_t flags);
void put_page(struct buf *b, uint8_t order, uint8_t flags, uint32_t limit, uint64_t after);
void ask_page(struct room *r, const char *relation, uint64_t from, uint8_t order, uint8_t flags,
              uint32_t limit, uint64_t after);
void ask_create(struct room *r, const char *relation, uint32_t options);
void ask_many(struct room *r, const char *relation, struct ids froms, uint32_t limit,
              uint32_t flags);
void ask_ping(struct room *r);

struct group {
    uint64_t from;
    struct ids members;
    uint32_t remove;
};
void ask_edit(struct room *r, const char *relation, const struct group *groups, size_t count,
              uint32_t flags, const char *idempotency);

struct list {
    const char *relation;
    uint64_t from;
    uint8_t flags;
};
void ask_combine(struct room *r, uint8_t how, const struct list *lists, size_t count, uint8_t flags,
                 uint32_t limit, uint64_t after);
// Any type with `args` arguments, each as B("bytes").
void raw(struct room *r, uint16_t type, unsigned args, ...);
#define B(s)  (s), sizeof(s) - 1
#define ZERO4 "\0\0\0\0"
#define ZERO8 ZERO4 ZERO4

// ---- replies

void expect_status(struct room *r, uint8_t status, size_t more);
void expect32(struct room *r, uint32_t n);
void expect64(struct room *r, uint64_t n);
void expect_ids(struct room *r, struct ids m);
void expect_page(struct room *r, uint64_t total, bool more, uint64_t next, struct ids m);
void expect_combined(struct room *r, bool more, uint64_t next, struct ids m);
void expect_error(struct room *r, const char *text);
void expect_ping(struct room *r);
// What the connection has replied is exactly what is expected; both are forgotten.
void check(struct room *r);
void feed(struct room *r);
// Both: all that was asked for is answered at once.
void run(struct room *r);
// What was put off happens.
void work(struct room *r);

#endif
