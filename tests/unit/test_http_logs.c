// Logs over HTTP, over a fake connection and a fake commit room.
#include "http_world.h"
#include "base/limits.h"
#include "fake_log.h"

#define NEW(name) "PUT /v1/logs/" name " " H "\r\n"
#define MADE(n)   "200 {\"result\":\"Success\",\"created\":" n "}\n"
#define DEL(path) "DELETE /v1/logs/" path " " H "\r\n"
#define APPENDED(first, next, n, duplicates, nonce)                                \
    "200 {\"result\":\"Success\",\"first_offset\":" first ",\"next_offset\":" next \
    ",\"appended\":" n ",\"duplicates\":" duplicates ",\"next_nonce\":\"" nonce "\""
#define AT(t) ",\"timestamp\":" t "}\n"
#define PAGE(records, next) \
    "200 {\"keyspace\":\"ks\",\"key\":\"k\",\"records\":[" records "],\"next_offset\":" next
#define THREE                                                                          \
    NEW("ks")                                                                          \
    "@/v1/logs/ks/k|{\"records\":[{\"record\":\"a\\n\",\"nonce\":1,\"timestamp\":-5}," \
    "{\"base64\":\"/wA=\",\"nonce\":\"340282366920938463463374607431768211454\"},"     \
    "{\"record\":\"c\"}]}"
#define THREE_MADE \
    MADE("1") APPENDED("1", "4", "3", "0", "340282366920938463463374607431768211455") AT("1001")
#define R1 "{\"offset\":1,\"timestamp\":-5,\"nonce\":\"1\",\"record\":\"a\\n\"}"
#define R2                                                                                    \
    "{\"offset\":2,\"timestamp\":1000,\"nonce\":\"340282366920938463463374607431768211454\"," \
    "\"base64\":\"/wA=\"}"
#define R3    "{\"offset\":3,\"timestamp\":1001,\"record\":\"c\"}"
#define NO_KS "no such keyspace"

static const struct exchange keyspaces[] = {
    {NEW("ks") NEW("ks"), MADE("1") FAIL("409", "the keyspace exists already")},
    {NEW("ks") GET("/v1/logs/ks"),
     MADE("1") "200 "
               "{\"keyspace\":\"ks\",\"created\":1,\"timestamps\":\"client\",\"retention\":{}}\n"},
    {"PUT /v1/logs/e " H "Content-Length: 59\r\n\r\n"
     "{\"timestamps\":\"server\",\"retention\":{\"max_records\":5    }  }" GET(
         "/v1/logs/e") "@/v1/logs/e|{\"retention\":{\"max_age_ms\":7,\"max_bytes\":8}}" GET("/v1/"
                                                                                            "logs/"
                                                                                            "e"),
     MADE("1") "200 {\"keyspace\":\"e\",\"created\":1,\"timestamps\":\"server\",\"retention\":"
               "{\"max_records\":5}}\n" OK200
               "200 {\"keyspace\":\"e\",\"created\":1,\"timestamps\":\"server\",\"retention\":"
               "{\"max_age_ms\":7,\"max_bytes\":8}}\n"},
    {"@/v1/logs/no|{\"retention\":{}}", FAIL("404", NO_KS)},
    {GET("/v1/logs/no"), ERROR("404", NO_KS)},
    {NEW("b") NEW("a") NEW("%FF%00") GET("/v1/logs") GET("/v1/logs?after=a&limit=1"),
     MADE("1") MADE("2") MADE("3") "200 {\"keyspaces\":[\"a\",\"b\",[255,0]],\"more\":false}\n"
                                   "200 {\"keyspaces\":[\"b\"],\"more\":true}\n"},
    {THREE GET("/v1/logs/ks?keys=true") GET("/v1/logs/ks?after=x"),
     THREE_MADE "200 {\"keyspace\":\"ks\",\"created\":1,\"timestamps\":\"client\",\"retention\":{},"
                "\"keys\":[\"k\"],\"more\":false}\n" ERROR(
                    "400", "arguments \\\"after\\\" and \\\"limit\\\" go with keys=true")},
    {GET("/v1/logs/"), ERROR("400", "the keyspace is empty")},
    {GET("/v1/logs/ks/"), ERROR("400", "the key is empty")},
    {GET("/v1/logs//k/meta"), ERROR("400", "the keyspace is empty")},
    {GET("/v1/logs/a%2"),
     ERROR("400", "the keyspace in the path has a % without two hexadecimal digits")},
    {GET("/v1/logs/a/%zz"),
     ERROR("400", "the key in the path has a % without two hexadecimal digits")},
    {GET("/v1/logsx"), ERROR("404", "no such path; GET / lists them")},
    {GET("/v1/logs/a/b/c"), ERROR("404", "no such path; GET / lists them")},
    {NEW("a%2Fb") GET("/v1/logs/a%2fb") GET("/v1/logs/a%2Bb"),
     MADE("1") "200 "
               "{\"keyspace\":\"a/"
               "b\",\"created\":1,\"timestamps\":\"client\",\"retention\":{}}\n" ERROR("404",
                                                                                       NO_KS)},
    {"PUT /v1/logs/ks/k " H "\r\n", ERROR("405", "this path does not take this method")},
};

static const struct exchange logs[] = {
    {THREE GET("/v1/logs/ks/k"), THREE_MADE PAGE(R1 "," R2 "," R3, "4") "}\n"},
    {THREE GET("/v1/logs/ks/k?direction=backwards&start=offset:2&encoding=base64"),
     THREE_MADE PAGE(R2 ",{\"offset\":1,\"timestamp\":-5,\"nonce\":\"1\",\"base64\":\"YQo=\"}",
                     "4") "}\n"},
    {THREE GET("/v1/logs/ks/k?encoding=lines&start=nonce:1&contains=%0A"),
     THREE_MADE "200 a\n\n\n"},
    {THREE GET("/v1/logs/ks/k?encoding=raw&start=timestamp:1001"), THREE_MADE "200 c\n"},
    {THREE GET("/v1/logs/ks/none"),
     THREE_MADE "200 {\"keyspace\":\"ks\",\"key\":\"none\",\"records\":[],\"next_offset\":1}\n"},
    {THREE GET("/v1/logs/ks/k/meta"),
     THREE_MADE "200 {\"keyspace\":\"ks\",\"key\":\"k\",\"first_offset\":1,\"next_offset\":4,"
                "\"next_nonce\":\"340282366920938463463374607431768211455\","
                "\"last_timestamp\":1001,\"records\":3,\"bytes\":125}\n"},
    {NEW("ks") GET("/v1/logs/ks/k/meta"), MADE("1") ERROR("404", "no such key")},
    {THREE "POST /v1/logs/ks/k/flush " H "\r\n"
           "POST /v1/flush " H "\r\n",
     THREE_MADE OK200 OK200},
    {THREE DEL("ks/k?before=offset:2") DEL("ks/k?offset=3") DEL("ks/k?offset=3")
         GET("/v1/logs/ks/k?start=offset:1"),
     THREE_MADE "200 {\"result\":\"Success\",\"first_offset\":2}\n" OK200 FAIL(
         "404", "no such record") PAGE(R2, "4") ",\"truncated\":true}\n"},
    {DEL("no/k?offset=3"), FAIL("404", NO_KS)},
    {"@/v1/logs/no/k|{\"record\":\"x\"}", FAIL("404", NO_KS)},
    {NEW("ks") "@/v1/logs/ks/k?encoding=lines&nonce=5&timestamp=9|x\r\n\ny"
               "@/v1/logs/ks/k?encoding=lines&nonce=6|x\ny\nz",
     MADE("1") APPENDED("1", "4", "3", "0", "8") AT("1001") APPENDED("4", "5", "1", "2", "9")
         AT("1002")},
    {NEW("ks") "@/v1/logs/ks/k?encoding=lines|a\n@/v1/logs/ks/k?encoding=raw|",
     MADE("1") APPENDED("1", "2", "1", "0", "0") AT("1000") APPENDED("2", "3", "1", "0", "0")
         AT("1001")},
    {NEW("ks") "@/v1/logs/ks/k|{\"record\":\"x\",\"nonce\":5}"
               "@/v1/logs/ks/k|{\"record\":\"x\",\"nonce\":5}",
     MADE("1") APPENDED("1", "2", "1", "0", "6") AT("1000")
         APPENDED("2", "2", "0", "1", "6") "}\n"},
    {NEW("ks") "@/v1/logs/ks/k|{\"records\":[{\"record\":\"x\"},{\"record\":\"y\",\"nonce\":-1}]}",
     MADE("1") FAIL("400", "record 1: \\\"nonce\\\" must be a whole number from 0 to 2^128 - 2; "
                           "past 2^64 - 1 as a string of decimal digits")},
    {NEW("ks") "@/v1/logs/ks/k|{\"records\":[{\"record\":\"x\"},{\"nonce\":1}]}",
     MADE("1") FAIL("400", "record 1: \\\"record\\\" is missing")},
    {NEW("ks") "@/v1/logs/ks/k?encoding=lines&nonce=340282366920938463463374607431768211454|a\nb",
     MADE("1") FAIL("400", "argument \\\"nonce\\\": the nonces of 2 lines pass 2^128 - 2")},
    {NEW("ks") "@/v1/logs/ks/k?encoding=lines&nonce=340282366920938463463374607431768211453|a\nb",
     MADE("1") APPENDED("1", "3", "2", "0", "340282366920938463463374607431768211455") AT("1001")},
    {NEW("ks") "@/v1/txn|{\"ops\":[{\"op\":\"put\",\"key\":\"q\",\"value\":1},{\"op\":\"append\","
               "\"keyspace\":\"ks\",\"key\":[107],\"records\":[{\"record\":\"x\"}]}]}",
     MADE("1") "200 "
               "{\"result\":\"Success\",\"sequence\":2,\"results\":[{\"key\":\"q\",\"version\":1},"
               "{\"keyspace\":\"ks\",\"key\":\"k\",\"first_offset\":1,\"next_offset\":2,"
               "\"appended\":1}]}\n"},
    {"@/v1/"
     "txn|{\"ops\":[{\"op\":\"append\",\"keyspace\":\"ks\",\"key\":\"k\",\"records\":[{\"base64\":"
     "\"x\"}]}]}",
     FAIL("400",
          "operation 0, key \\\"k\\\": record 0: \\\"base64\\\" is not base64 (RFC 4648, with "
          "padding)")},
    {THREE GET("/v1/logs/ks/k?page_size=0"),
     THREE_MADE ERROR("400",
                      "argument \\\"page_size\\\" must be a whole number from 1 to 1000000")},
    {THREE GET("/v1/logs/ks/k?start=middle"),
     THREE_MADE ERROR("400",
                      "argument \\\"start\\\" must be first, offset:N, timestamp:T or nonce:N")},
    {THREE GET("/v1/logs/ks/k?continuation=f2&start=first"),
     THREE_MADE ERROR("400", "argument \\\"continuation\\\" stands in place of \\\"start\\\"")},
    {THREE GET("/v1/logs/ks/k?continuation=f2"),
     THREE_MADE ERROR("400", "the continuation token is damaged or belongs to another log")},
    {GET("/v1/logs/ks/k/tail?start=offset:0"),
     ERROR("400", "argument \\\"start\\\": the offset must be a whole number from 1")},
    {GET("/v1/logs/ks/k/tail"), ERROR("404", NO_KS)},
};

TABLE_TEST(keyspaces)
TABLE_TEST(logs)

// ---- what a table does not show ----

static void send_text(struct world *w, const char *text)
{
    char full[4096];
    fake_conn_feed(w->conn, full, expand(text, full, sizeof full));
}

// The output as it is, and forgets it.
static const char *taken(struct world *w)
{
    struct buf *out = conn_out(w->conn);
    snprintf(got, sizeof got, "%.*s", (int)buf_len(out), (const char *)buf_head(out));
    fake_conn_take(w->conn);
    return got;
}

static void open_three(struct world *w)
{
    world_open(w);
    send_text(w, THREE);
    assert_output(w, THREE_MADE);
}

static void fields_of_pages(void **state)
{
    struct world w;
    open_three(&w);
    feed(&w, GET("/v1/logs/ks/k?encoding=lines&page_size=1"));
    const char *text = taken(&w);
    const char *token = strstr(text, "Varve-Continuation: ");
    assert_non_null(token);
    assert_non_null(strstr(text, "Varve-Records: 1\r\nVarve-Next-Offset: 4\r\n"));
    assert_null(strstr(text, "Varve-Truncated"));
    char next[256];
    snprintf(next, sizeof next, "GET /v1/logs/ks/k?encoding=lines&continuation=%.*s " H "\r\n",
             (int)strcspn(token + 20, "\r"), token + 20);
    feed(&w, next);
    text = taken(&w);
    assert_non_null(strstr(text, "Varve-Records: 2\r\n"));
    assert_null(strstr(text, "Varve-Continuation"));
    feed(&w, "OPTIONS /v1/logs/ks/k " H "\r\n");
    assert_string_equal(taken(&w), "HTTP/1.1 204 No Content\r\n"
                                   "Allow: GET, HEAD, POST, DELETE, OPTIONS\r\n\r\n");
    world_close(&w);
}

// Pages, appends and trims of what is on disk; room; gates.
static void waits(void **state)
{
    struct world w;
    open_three(&w);
    fake_commit_defer(w.commit, true);
    fake_log_cold(w.commit, "ks", "k");
    w.conn->gate = 0;
    feed(&w, GET("/v1/logs/ks/k?encoding=lines"));
    assert_true(w.conn->waiting);
    assert_output(&w, "");
    fake_commit_work(w.commit);
    fake_conn_run(w.conn);
    assert_int_equal(w.conn->gate, 2);
    assert_non_null(strstr(taken(&w), "a\n"));
    fake_log_cold(w.commit, "ks", "k");
    fake_commit_fail(w.commit, ERR_OK);
    send_text(&w, "@/v1/logs/ks/k|{\"record\":\"x\"}");
    assert_true(w.conn->waiting);
    fake_commit_work(w.commit);
    fake_conn_run(w.conn);
    assert_int_equal(w.conn->gate, 3);
    assert_non_null(strstr(taken(&w), "\"first_offset\":4"));
    fake_commit_fail(w.commit, ERR_FULL);
    send_text(&w, "@/v1/logs/ks/k|{\"record\":\"x\"}");
    assert_true(w.conn->waiting);
    fake_commit_work(w.commit);
    fake_conn_run(w.conn);
    assert_non_null(strstr(taken(&w), "\"first_offset\":5"));
    // The connection dies while a page is read.
    fake_log_cold(w.commit, "ks", "k");
    feed(&w, GET("/v1/logs/ks/k"));
    assert_true(w.conn->waiting);
    fake_commit_work(w.commit);
    world_close(&w);
}

#define TAIL_HEAD                                                                 \
    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\n" \
    "Cache-Control: no-cache\r\n\r\n"

static void append(struct world *w, const char *bytes)
{
    struct log_input in = {.bytes = slice_str(bytes), .nonce = NONCE_NONE};
    struct log_append a = {.name = {slice_str("ks"), slice_str("k")}, .records = &in, .count = 1};
    fake_logs_append(fake_commit_logs(w->commit), &a);
    fake_commit_bump(w->commit);
}

static void tail(void **state)
{
    struct world w;
    open_three(&w);
    feed(&w, GET("/v1/logs/ks/k/tail"));
    assert_string_equal(taken(&w), TAIL_HEAD);
    assert_int_equal(fake_log_watches(w.commit), 1);
    assert_int_equal(w.conn->deadline, 10000);
    fake_conn_deadline(w.conn);
    assert_string_equal(taken(&w), ":\n\n");
    assert_int_equal(w.conn->deadline, 10000);
    w.conn->gate = 0;
    append(&w, "x");
    fake_conn_run(w.conn);
    assert_int_equal(w.conn->gate, 3);
    assert_string_equal(taken(&w),
                        "id: 4\ndata: {\"offset\":4,\"timestamp\":1002,\"record\":\"x\"}\n\n");
    feed(&w, "this is ignored");
    assert_int_equal(buf_len(conn_in(w.conn)), 0);
    assert_int_equal(fake_log_watches(w.commit), 1);
    assert_string_equal(taken(&w), "");
    // Cold, while an older resume is on its way.
    fake_commit_defer(w.commit, true);
    append(&w, "y");
    fake_log_cold(w.commit, "ks", "k");
    fake_conn_run(w.conn);
    assert_true(w.conn->waiting);
    fake_commit_work(w.commit);
    fake_conn_run(w.conn);
    assert_string_equal(taken(&w),
                        "id: 5\ndata: {\"offset\":5,\"timestamp\":1003,\"record\":\"y\"}\n\n");
    fake_conn_eof(w.conn);
    assert_true(w.conn->closed);
    assert_int_equal(fake_log_watches(w.commit), 0);
    world_close(&w);
    // Dies while it waits.
    open_three(&w);
    feed(&w, GET("/v1/logs/ks/k/tail?start=first&encoding=base64"));
    assert_non_null(strstr(taken(&w), "id: 3\n"));
    assert_int_equal(fake_log_watches(w.commit), 1);
    world_close(&w);
}

static void tail_starts(void **state)
{
    struct world w;
    open_three(&w);
    send_text(&w, DEL("ks/k?before=offset:3"));
    (void)taken(&w);
    feed(&w, "GET /v1/logs/ks/k/tail?start=end " H "Last-Event-ID: 1\r\n\r\n");
    assert_string_equal(taken(&w), TAIL_HEAD "event: truncated\ndata: {\"first_offset\":3}\n\n"
                                             "id: 3\ndata: " R3 "\n\n");
    world_close(&w);
    // A nonce that no record has reached is waited for.
    world_open(&w);
    feed(&w, NEW("ks") GET("/v1/logs/ks/k/tail?start=nonce:5"));
    (void)taken(&w);
    append(&w, "early");
    fake_conn_run(w.conn);
    assert_string_equal(taken(&w), "");
    struct log_input in = {.bytes = slice_str("it"), .nonce = 6};
    struct log_append a = {.name = {slice_str("ks"), slice_str("k")}, .records = &in, .count = 1};
    fake_logs_append(fake_commit_logs(w.commit), &a);
    fake_conn_run(w.conn);
    append(&w, "later");
    fake_conn_run(w.conn);
    assert_non_null(strstr(taken(&w), "id: 2\n"));
    assert_non_null(strstr(got, "id: 3\n"));
    world_close(&w);
    world_open(&w);
    feed(&w, NEW("ks") "HEAD /v1/logs/ks/k/tail " H "\r\n");
    assert_true(w.conn->closed);
    assert_int_equal(fake_log_watches(w.commit), 0);
    world_close(&w);
}

// One who does not read: a bounded output, and nothing is lost.
static void slow_tail(void **state)
{
    static char big[100000];
    struct world w;
    open_three(&w);
    memset(big, 'b', sizeof big - 1);
    for (int i = 0; i < 50; i++)
        append(&w, big);
    feed(&w, GET("/v1/logs/ks/k/tail?start=offset:4"));
    uint64_t want = 4;
    for (int turns = 0; want < 54; turns++) {
        assert_true(turns < 100);
        assert_true(buf_len(conn_out(w.conn)) < LIMIT_OUT_STOP + (512u << 10));
        char id[32];
        size_t n = buf_len(conn_out(w.conn));
        const uint8_t *p = buf_head(conn_out(w.conn));
        for (;; want++) {
            snprintf(id, sizeof id, "id: %u\n", (unsigned)want);
            if (n == 0 || !memmem(p, n, id, strlen(id)))
                break;
        }
        fake_conn_take(w.conn);
        fake_conn_run(w.conn);
    }
    assert_int_equal(want, 54);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keyspaces),
        cmocka_unit_test(test_logs),
        cmocka_unit_test(fields_of_pages),
        cmocka_unit_test(waits),
        cmocka_unit_test(tail),
        cmocka_unit_test(tail_starts),
        cmocka_unit_test(slow_tail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
