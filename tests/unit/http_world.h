// What the tests of the HTTP edge share: an edge over a fake connection and a fake commit room, and
// tables of what goes in and what comes out, at every split of the input.
#ifndef VARVE_TESTS_HTTP_WORLD_H
#define VARVE_TESTS_HTTP_WORLD_H

#include "unit.h"
#include "edge/http/http.h"
#include "fake_commit.h"
#include "fake_conn.h"
#include <stdio.h>
#include <stdlib.h>

#define MAX_BODY 4096u

struct world {
    struct commit *commit;
    struct http *http;
    struct conn *conn;
};

// With a few keys.
void world_open(struct world *w);
void world_close(struct world *w);
void feed(struct world *w, const char *text);

// What the last summary or assert_output has seen.
#define GOT_SIZE (1u << 16)
extern char got[GOT_SIZE];
// The replies as "STATUS body" lines, then "closed" if the connection is. Checks their framing.
void summary(struct world *w, char *text, size_t cap);
void assert_output(struct world *w, const char *want);

#define H                          "HTTP/1.1\r\nHost: h\r\n"
#define GET(target)                "GET " target " " H "\r\n"
#define POST(target, fields, body) "POST " target " " H fields "\r\n" body
// A put or txn; the length is filled in.
#define PUT(body)           "@/v1/put|" body
#define TXN(body)           "@/v1/txn|" body
#define FAIL(status, text)  status " {\"result\":\"Failure\",\"error\":\"" text "\"}\n"
#define ERROR(status, text) status " {\"error\":\"" text "\"}\n"
#define BAD(text)           ERROR("400", "malformed request: " text) "closed\n"
#define OK200               "200 {\"result\":\"Success\"}\n"

struct exchange {
    const char *input;
    const char *output;
};

// "@path|body" becomes a POST with its length, "@PUT path|body" a PUT; the body ends where the next
// request begins.
size_t expand(const char *s, char *to, size_t cap);
void run_exchange(const struct exchange *x);

#define TABLE_TEST(table)                                         \
    static void test_##table(void **state)                        \
    {                                                             \
        for (size_t i = 0; i < sizeof table / sizeof *table; i++) \
            run_exchange(&table[i]);                              \
    }

#endif
