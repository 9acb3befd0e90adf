// The HTTP edge over a fake connection and a fake commit room: what goes in, what comes out, at
// every split of the input.
#include "http_world.h"
#include "base/limits.h"

// ---- reading ----

static const struct exchange reads[] = {
    {GET("/v1/get?key=a"), "200 {\"key\":\"a\",\"value\":\"x\\\"y\",\"version\":1}\n"},
    {GET("/v1/get?key=a+b"), "200 {\"key\":\"a b\",\"value\":true,\"version\":2}\n"},
    {GET("/v1/get?key=a%20b"), "200 {\"key\":\"a b\",\"value\":true,\"version\":2}\n"},
    {GET("/v1/get?key=n"), "200 {\"key\":\"n\",\"value\":5,\"version\":3}\n"},
    {GET("/v1/get?key=f"), "200 {\"key\":\"f\",\"value\":0.5,\"version\":4}\n"},
    {GET("/v1/get?key=l"), "200 {\"key\":\"l\",\"value\":[1,2.5],\"version\":5}\n"},
    {GET("/v1/get?key=%ff%00k"), "200 {\"key\":[255,0,107],\"value\":[255,0],\"version\":6}\n"},
    {GET("/v1/get?key=cold"), "200 {\"key\":\"cold\",\"value\":\"ice\",\"version\":7}\n"},
    {GET("http://h:80/v1/get?key=n"), "200 {\"key\":\"n\",\"value\":5,\"version\":3}\n"},
    {GET("/v1/get?key=no"), ERROR("404", "no such key")},
    {GET("/v1/get"), ERROR("400", "argument \\\"key\\\" is missing")},
    {GET("/v1/get?key="), ERROR("400", "argument \\\"key\\\" is empty")},
    {GET("/v1/get?key"), ERROR("400", "argument \\\"key\\\" has no value")},
    {GET("/v1/get?key=a&key=b"), ERROR("400", "argument \\\"key\\\" is given twice")},
    {GET("/v1/get?kay=a"), ERROR("400", "unknown argument \\\"kay\\\"")},
    {GET("/v1/get?key=%4"),
     ERROR("400", "argument \\\"key\\\" has a % without two hexadecimal digits")},
    {GET("/v1/get?key=%zz"),
     ERROR("400", "argument \\\"key\\\" has a % without two hexadecimal digits")},
    {GET("/v1/get?key=0123456789012345678901234567890123456789012345678901234567890123x"),
     ERROR("413", "argument \\\"key\\\" of 65 bytes is over 64")},
    {GET("/v1/keys?limit=2"),
     "200 {\"keys\":[{\"key\":\"a\",\"version\":1},{\"key\":\"a b\",\"version\":2}],"
     "\"more\":true}\n"},
    {GET("/v1/keys?after=l&values=true"),
     "200 {\"keys\":[{\"key\":\"n\",\"version\":3,\"value\":5},"
     "{\"key\":[255,0,107],\"version\":6,\"value\":[255,0]}],\"more\":false}\n"},
    {GET("/v1/keys?prefix=a&after=a"),
     "200 {\"keys\":[{\"key\":\"a b\",\"version\":2}],\"more\":false}\n"},
    {GET("/v1/keys?prefix=zz"), "200 {\"keys\":[],\"more\":false}\n"},
    {GET("/v1/keys?limit=0"),
     ERROR("400", "argument \\\"limit\\\" must be a whole number from 1 to 10000")},
    {GET("/v1/keys?limit=99999999999999999999"),
     ERROR("400", "argument \\\"limit\\\" must be a whole number from 1 to 10000")},
    {GET("/v1/keys?limit=-1"),
     ERROR("400", "argument \\\"limit\\\" must be a whole number from 1 to 10000")},
    {GET("/v1/keys?values=yes"), ERROR("400", "argument \\\"values\\\" must be true or false")},
    {GET("/healthz"), "200 ok\n\n"},
    {GET("/readyz"), "200 ready\n\n"},
    {GET("/metrics"), "200 varve_fake 1\n\n"},
    {"\r\n\r\n" GET("/healthz"), "200 ok\n\n"},
    {GET("/v1/nothing"), ERROR("404", "no such path; GET / lists them")},
    {GET("/v1/getx?key=a"), ERROR("404", "no such path; GET / lists them")},
    {GET("/v1/put"), FAIL("405", "this path does not take this method")},
    {"PUT /v1/put " H "\r\n", FAIL("405", "this path does not take this method")},
    {"OPTIONS /v1/get " H "\r\n", "204 \n"},
    {"OPTIONS * " H "\r\n", "204 \n"},
    {"GET /v1/get?key=n HTTP/1.0\r\n\r\n",
     "200 {\"key\":\"n\",\"value\":5,\"version\":3}\nclosed\n"},
    {"GET /v1/get?key=n HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
     "200 {\"key\":\"n\",\"value\":5,\"version\":3}\n"},
    {"GET /healthz " H "Connection: close\r\n\r\n", "200 ok\n\nclosed\n"},
    {"GET /healthz " H "Connection: x, Close\r\n\r\n", "200 ok\n\nclosed\n"},
    {"GET /healthz " H "Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "200 ok\n\n"},
};

// ---- framing ----

static const struct exchange framings[] = {
    {"GET /healthz HTTP/1.1\r\n\r\n", BAD("HTTP/1.1 needs a Host header field")},
    {"GET /healthz " H "Host: h\r\n\r\n", BAD("Host is given twice")},
    {"GET /healthz HTTP/1.1\nHost: h\n\n", BAD("a line ends in LF without CR")},
    {"GET /healthz HTTP/1.1\r\nHost: h\r\n\n", BAD("a line ends in LF without CR")},
    {"GET /healthz " H " folded: x\r\n\r\n", BAD("a header field is folded")},
    {"GET /healthz " H "X: 1\r\n\tmore\r\n\r\n", BAD("a header field is folded")},
    {"GET /healthz HTTP/1.1\r\nHost : h\r\n\r\n",
     BAD("a header field's name is not a token and a colon")},
    {"\x16\x03\x01", BAD("it begins with byte 0x16, not a method")},
    {"\n", BAD("it begins with byte 0x0a, not a method")},
    {"get / " H "\r\n", BAD("it begins with byte 0x67, not a method")},
    {"GET  / " H "\r\n", NULL},
    {"GET /  " H "\r\n", NULL},
    {"GET / x " H "\r\n", NULL},
    {"GET\t/ " H "\r\n", NULL},
    {"GET / " H "X: \x01\r\n\r\n", NULL},
    {"GET / " H ": x\r\n\r\n", NULL},
    {"GET / " H "X\r\n\r\n", NULL},
    {"GET / " H "X: a\rb\r\n\r\n", NULL},
    {"GET / " H "X: \rTransfer-Encoding: chunked\r\n\r\n", NULL},
    {"GET / " H "X\r: y\r\n\r\n", NULL},
    {"GET /\r " H "\r\n", NULL},
    {"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", NULL},
    {"CONNECT h:80 " H "\r\n", ERROR("404", "no such path; GET / lists them")},
    {"GET /\xff " H "\r\n", NULL},
    {"GET /x#y " H "\r\n", ERROR("400", "malformed request: a fragment in the target")},
    {"FROB / " H "\r\n", ERROR("501", "method FROB is not known") "closed\n"},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ERROR("501", "method PRI is not known") "closed\n"},
    {"GET / HTTP/2.0\r\nHost: h\r\n\r\n",
     ERROR("505", "HTTP version 2.0 is not spoken here, 1.1 is") "closed\n"},
    {"GET / HTTP/0.9\r\n\r\n",
     ERROR("505", "HTTP version 0.9 is not spoken here, 1.1 is") "closed\n"},
    {"GET / HTTP/11.1\r\nHost: h\r\n\r\n", NULL},
    {"GET /healthz " H "Content-Length: 4\r\n\r\nbody",
     ERROR("400", "this path takes its arguments after '?', not in a body") "closed\n"},
    {"GET /healthz " H "Content-Length: 0\r\n\r\n", "200 ok\n\n"},
    {POST("/v1/put", "", ""),
     FAIL("411", "a body with Content-Length or chunked encoding is needed") "closed\n"},
    {POST("/v1/nothing", "Content-Length: 2\r\n", "[]"),
     ERROR("404", "no such path; GET / lists them") "closed\n"},
    {POST("/v1/put", "Content-Length: 4097\r\n", ""),
     FAIL("413", "request body of 4097 bytes is over 4096") "closed\n"},
    {POST("/v1/put", "Expect: 100-continue\r\nContent-Length: 4097\r\n", ""),
     FAIL("413", "request body of 4097 bytes is over 4096") "closed\n"},
    {POST("/v1/put", "Expect: magic\r\nContent-Length: 2\r\n", "[]"),
     FAIL("417", "the only expectation met is 100-continue") "closed\n"},
    // Smuggling: everything that two parsers could frame in two ways.
    {POST("/v1/put", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "[]"), NULL},
    {POST("/v1/put", "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", "0\r\n\r\n"), NULL},
    {POST("/v1/put", "Content-Length: 2\r\nContent-Length: 3\r\n", "[] "), NULL},
    {POST("/v1/put", "Content-Length: 2\r\nContent-Length: 2\r\n", "[]"), NULL},
    {POST("/v1/put", "Content-Length: 2, 2\r\n", "[]"), NULL},
    {POST("/v1/put", "Content-Length: +2\r\n", "[]"), NULL},
    {POST("/v1/put", "Content-Length: -2\r\n", "[]"), NULL},
    {POST("/v1/put", "Content-Length: 0x2\r\n", "[]"), NULL},
    {POST("/v1/put", "Content-Length: 2 2\r\n", "[]"), NULL},
    {POST("/v1/put", "Content-Length: 99999999999999999999999\r\n", ""), NULL},
    {POST("/v1/put", "Content-Length:\r\n", "[]"), NULL},
    {POST("/v1/put", "Content-Length: \r\n", "[]"), NULL},
    {POST("/v1/put", "Content-Length : 2\r\n", "[]"), NULL},
    {POST("/v1/put", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", ""), NULL},
    {POST("/v1/put", "Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), NULL},
    {"POST /v1/put HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     BAD("Transfer-Encoding in HTTP/1.0")},
    {POST("/v1/put", "Transfer-Encoding: gzip, chunked\r\n", ""),
     ERROR("501", "the only transfer encoding is \\\"chunked\\\"") "closed\n"},
    {POST("/v1/put", "Transfer-Encoding: xchunked\r\n", ""),
     ERROR("501", "the only transfer encoding is \\\"chunked\\\"") "closed\n"},
    {POST("/v1/put", "Transfer-Encoding: identity\r\n", ""),
     ERROR("501", "the only transfer encoding is \\\"chunked\\\"") "closed\n"},
    {POST("/v1/put", "Transfer-Encoding:\r\n", ""),
     ERROR("501", "the only transfer encoding is \\\"chunked\\\"") "closed\n"},
};

#define CHUNKED(body) POST("/v1/put", "Transfer-Encoding: chunked\r\n", body)
#define NEW_Q         "[{\"key\":\"q\",\"value\":1,\"version\":0}]"

static const struct exchange chunks[] = {
    {CHUNKED("23\r\n" NEW_Q "\r\n0\r\n\r\n"), OK200},
    {CHUNKED("1;x=\"y\"\r\n[\r\n00022\r\n{\"key\":\"q\",\"value\":1,\"version\":0}]\r\n0;z\r\nA: "
             "b\r\n\r\n"),
     OK200},
    {CHUNKED("23\r\n" NEW_Q "\r\n0\r\n\r\n") GET("/healthz"), OK200 "200 ok\n\n"},
    {CHUNKED("0\r\n\r\n"), FAIL("400", "JSON text is empty")},
    {CHUNKED("x\r\n"),
     FAIL("400", "malformed request: a chunk's size is not a hexadecimal number") "closed\n"},
    {CHUNKED("\r\n"),
     FAIL("400", "malformed request: a chunk's size is not a hexadecimal number") "closed\n"},
    {CHUNKED("-1\r\n"),
     FAIL("400", "malformed request: a chunk's size is not a hexadecimal number") "closed\n"},
    {CHUNKED("2 \r\n[]"),
     FAIL("400", "malformed request: a chunk's size is not a hexadecimal number") "closed\n"},
    {CHUNKED("2\n[]\r\n0\r\n\r\n"),
     FAIL("400", "malformed request: a line of a chunked body ends in LF without CR") "closed\n"},
    {CHUNKED("2\r\n[]xx"),
     FAIL("400", "malformed request: a chunk's data does not end in CRLF") "closed\n"},
    {CHUNKED("2;\x01\r\n"),
     FAIL("400", "malformed request: a control character in a chunked body") "closed\n"},
    {CHUNKED("1001\r\n"), FAIL("413", "request body is over 4096 bytes") "closed\n"},
    {CHUNKED("fffffffffffffffff\r\n"), FAIL("413", "request body is over 4096 bytes") "closed\n"},
    {CHUNKED("2\r\n[]\r\n0\r\nnocolon\r\n"),
     FAIL("400", "malformed request: a trailer field without a name") "closed\n"},
};

// ---- writing ----

#define RESULT(seq, results) \
    "200 {\"result\":\"Success\",\"sequence\":" seq ",\"results\":[" results "]}\n"

#define CONFLICT_A                                                                              \
    "409 {\"result\":\"Failure\",\"error\":\"version conflict: key \\\"a\\\" is at version 1, " \
    "not 2\",\"conflicts\":[{\"key\":\"a\",\"expected\":2,\"version\":1}]}\n"

static const struct exchange writes[] = {
    {PUT(NEW_Q), OK200},
    {PUT(" [ {\"version\":1 , \"key\":\"a\", \"value\":\"\\u00e9\"} ] ") GET("/v1/get?key=a"),
     OK200 "200 {\"key\":\"a\",\"value\":\"\xc3\xa9\",\"version\":2}\n"},
    {PUT("[{\"key\":\"i\",\"value\":-9223372036854775808,\"version\":0},"
         "{\"key\":\"j\",\"value\":9223372036854775807,\"version\":0},"
         "{\"key\":\"k\",\"value\":1.0,\"version\":0},"
         "{\"key\":\"l\",\"value\":[1, -2.50,1e3,\t9007199254740993],\"version\":5},"
         "{\"key\":\"m\",\"value\":[],\"version\":0},"
         "{\"key\":\"o\",\"value\":false,\"version\":0}]") GET("/v1/get?key=i") GET("/v1/get?key=j")
         GET("/v1/get?key=k") GET("/v1/get?key=l") GET("/v1/get?key=m") GET("/v1/get?key=o"),
     OK200 "200 {\"key\":\"i\",\"value\":-9223372036854775808,\"version\":1}\n"
           "200 {\"key\":\"j\",\"value\":9223372036854775807,\"version\":1}\n"
           "200 {\"key\":\"k\",\"value\":1.0,\"version\":1}\n"
           "200 {\"key\":\"l\",\"value\":[1,-2.5,1000.0,9007199254740993],\"version\":6}\n"
           "200 {\"key\":\"m\",\"value\":[],\"version\":1}\n"
           "200 {\"key\":\"o\",\"value\":false,\"version\":1}\n"},
    {PUT("[{\"key\":[255,0,107],\"value\":\"w\",\"version\":6}]") GET("/v1/get?key=%FF%00k"),
     OK200 "200 {\"key\":[255,0,107],\"value\":\"w\",\"version\":7}\n"},
    {PUT("[{\"key\":\"a\",\"value\":1,\"version\":2},{\"key\":\"n\",\"value\":1,\"version\":3},"
         "{\"key\":\"z\",\"value\":1,\"version\":9}]") GET("/v1/get?key=n"),
     "409 {\"result\":\"Failure\",\"error\":\"version conflict: key \\\"a\\\" is at version 1, not "
     "2, "
     "and 1 more\",\"conflicts\":[{\"key\":\"a\",\"expected\":2,\"version\":1},"
     "{\"key\":\"z\",\"expected\":9,\"version\":0}]}\n"
     "200 {\"key\":\"n\",\"value\":5,\"version\":3}\n"},
    {PUT("[]"), FAIL("400", "the body is an empty array")},
    {PUT("{}"), FAIL("400", "the body must be an array of objects, not object")},
    {PUT("[1]"), FAIL("400", "object 0: must be an object, not integer")},
    {PUT("[{\"key\":\"a\",\"value\":1}]"),
     FAIL("400", "object 0, key \\\"a\\\": \\\"version\\\" is missing")},
    {PUT("[{\"value\":1,\"version\":0}]"), FAIL("400", "object 0: \\\"key\\\" is missing")},
    {PUT("[{\"key\":\"q\",\"value\":1,\"version\":0},{\"key\":\"a\",\"value\":1,\"version\":-1}]"),
     FAIL("400", "object 1, key \\\"a\\\": \\\"version\\\" must be a whole number from 0 to "
                 "9223372036854775807")},
    {PUT("[{\"key\":\"a\",\"value\":1,\"version\":1.0}]"),
     FAIL("400", "object 0, key \\\"a\\\": \\\"version\\\" must be a whole number from 0 to "
                 "9223372036854775807")},
    {PUT("[{\"key\":\"a\",\"value\":1,\"version\":9223372036854775808}]"),
     FAIL("400", "object 0, key \\\"a\\\": \\\"version\\\" must be a whole number from 0 to "
                 "9223372036854775807")},
    {PUT("[{\"key\":\"a\",\"value\":1,\"version\":1,\"vresion\":2}]"),
     FAIL("400", "object 0, key \\\"a\\\": unknown member \\\"vresion\\\"")},
    {PUT("[{\"key\":\"a\",\"value\":1,\"version\":1,\"delta\":2}]"),
     FAIL("400", "object 0, key \\\"a\\\": unknown member \\\"delta\\\"")},
    {PUT("[{\"key\":\"a\",\"value\":1,\"version\":1,\"value\":2}]"),
     FAIL("400", "object 0, key \\\"a\\\": member \\\"value\\\" is given twice")},
    {PUT("[{\"key\":\"a\",\"value\":null,\"version\":1}]"),
     FAIL("400",
          "object 0, key \\\"a\\\": \\\"value\\\" must be a string, number, bool or array of "
          "numbers, not null")},
    {PUT("[{\"key\":\"a\",\"value\":{},\"version\":1}]"),
     FAIL("400",
          "object 0, key \\\"a\\\": \\\"value\\\" must be a string, number, bool or array of "
          "numbers, not object")},
    {PUT("[{\"key\":\"a\",\"value\":[1,\"2\"],\"version\":1}]"),
     FAIL("400",
          "object 0, key \\\"a\\\": an array in \\\"value\\\" must hold numbers only, not string")},
    {PUT("[{\"key\":\"a\",\"value\":9223372036854775808,\"version\":1}]"),
     FAIL("400", "object 0, key \\\"a\\\": \\\"value\\\" is an integer beyond 64-bit signed")},
    {PUT("[{\"key\":\"a\",\"value\":[9223372036854775808],\"version\":1}]"),
     FAIL("400", "object 0, key \\\"a\\\": an integer in \\\"value\\\" is beyond 64-bit signed")},
    {PUT("[{\"key\":\"\",\"value\":1,\"version\":1}]"), FAIL("400", "object 0: the key is empty")},
    {PUT("[{\"key\":7,\"value\":1,\"version\":1}]"),
     FAIL("400", "object 0: \\\"key\\\" must be a string or an array of bytes, not integer")},
    {PUT("[{\"key\":[256],\"value\":1,\"version\":1}]"),
     FAIL("400", "object 0: a key that is an array must hold bytes, 0 to 255")},
    {PUT("[{\"key\":[1.5],\"value\":1,\"version\":1}]"),
     FAIL("400", "object 0: a key that is an array must hold bytes, 0 to 255")},
    {PUT("[{\"key\":\"q\",\"value\":1,\"version\":0},{\"key\":\"q\",\"value\":1,\"version\":0}]"),
     FAIL("400", "the same key twice")},
    {PUT("[{\"key\":\"cold\",\"value\":1,\"version\":7}]"), OK200},
    {PUT("[{\"key\":\"q\",\"value\":1,\"version\":0,\"ttl_ms\":5000}]") GET("/v1/get?key=q"),
     OK200 "200 {\"key\":\"q\",\"value\":1,\"version\":1,\"expires_ms\":5000}\n"},
    {PUT("[{\"key\":\"q\",\"value\":1,\"version\":0,\"ttl_ms\":-5}]"),
     FAIL("400", "object 0, key \\\"q\\\": \\\"ttl_ms\\\" must be a whole number from 0 to "
                 "3162240000000")},
    {"DELETE /v1/key?key=a " H "\r\n" GET("/v1/get?key=a")
         PUT("[{\"key\":\"a\",\"value\":1,\"version\":0}]") GET("/v1/get?key=a"),
     "200 {\"result\":\"Success\",\"deleted\":true}\n" ERROR("404", "no such key") OK200
     "200 {\"key\":\"a\",\"value\":1,\"version\":2}\n"},
    {"DELETE /v1/key?key=no " H "\r\n", "200 {\"result\":\"Success\",\"deleted\":false}\n"},
    {"DELETE /v1/key?key=cold&version=7 " H "\r\n",
     "200 {\"result\":\"Success\",\"deleted\":true}\n"},
    {"DELETE /v1/key?key=a&version=2 " H "\r\n",
     "409 {\"result\":\"Failure\",\"error\":\"version conflict: key \\\"a\\\" is at version 1, not "
     "2\","
     "\"conflicts\":[{\"key\":\"a\",\"expected\":2,\"version\":1}]}\n"},
    {"DELETE /v1/key?key=a&version=x " H "\r\n",
     FAIL("400", "argument \\\"version\\\" must be a whole number from 0 to 9223372036854775807")},
    {"DELETE /v1/key " H "\r\n", FAIL("400", "argument \\\"key\\\" is missing")},
    {TXN("{\"ops\":[{\"op\":\"check\",\"key\":\"a\",\"version\":1},"
         "{\"op\":\"put\",\"key\":\"q\",\"value\":\"v\"},"
         "{\"op\":\"add\",\"key\":\"n\",\"delta\":-7,\"version\":3},"
         "{\"op\":\"add\",\"key\":\"new\",\"delta\":2},"
         "{\"op\":\"delete\",\"key\":\"f\",\"version\":4}]}"),
     RESULT(
         "1",
         "{\"key\":\"a\",\"version\":1},{\"key\":\"q\",\"version\":1},"
         "{\"key\":\"n\",\"version\":4,\"value\":-2},{\"key\":\"new\",\"version\":1,\"value\":2},"
         "{\"key\":\"f\",\"version\":0}")},
    {TXN("{\"idempotency_key\":\"i\",\"ops\":[{\"op\":\"add\",\"key\":\"n\",\"delta\":1}]}") TXN(
         "{\"idempotency_key\":\"i\",\"ops\":[{\"op\":\"add\",\"key\":\"n\",\"delta\":1}]}")
         TXN("{\"idempotency_key\":\"i\",\"ops\":[{\"op\":\"add\",\"key\":\"n\",\"delta\":2}]}"),
     RESULT("1", "{\"key\":\"n\",\"version\":4,\"value\":6}")
         RESULT("1", "{\"key\":\"n\",\"version\":4,\"value\":6}")
             FAIL("422", "idempotency key was used with another request")},
    {TXN("{\"idempotency_key\":\"i\",\"ops\":[{\"op\":\"delete\",\"key\":\"a\",\"version\":2}]}")
         TXN("{\"idempotency_key\":\"i\",\"ops\":[{\"op\":\"delete\",\"key\":\"a\",\"version\":2}]"
             "}"),
     CONFLICT_A CONFLICT_A},
    {TXN("{\"ops\":[{\"op\":\"check\",\"key\":\"a\",\"version\":5}]}"),
     "409 {\"result\":\"Failure\",\"error\":\"version conflict: key \\\"a\\\" is at version 1, not "
     "5\","
     "\"conflicts\":[{\"key\":\"a\",\"expected\":5,\"version\":1}]}\n"},
    {TXN("{\"ops\":[{\"op\":\"add\",\"key\":\"a\",\"delta\":5}]}"),
     FAIL("422", "the value is not an integer")},
    {TXN("{\"ops\":[{\"op\":\"add\",\"key\":\"n\",\"delta\":9223372036854775807}]}"),
     FAIL("422", "the sum is out of range")},
    {TXN("{\"ops\":[{\"op\":\"add\",\"key\":\"n\",\"delta\":1.5}]}"),
     FAIL("400",
          "operation 0, key \\\"n\\\": \\\"delta\\\" must be an integer within 64-bit signed")},
    {TXN("{\"ops\":[{\"op\":\"check\",\"key\":\"n\"}]}"),
     FAIL("400", "operation 0, key \\\"n\\\": \\\"version\\\" is missing")},
    {TXN("{\"ops\":[{\"op\":\"check\",\"key\":\"n\",\"version\":1,\"value\":2}]}"),
     FAIL("400", "operation 0, key \\\"n\\\": unknown member \\\"value\\\" for check")},
    {TXN("{\"ops\":[{\"op\":\"frob\",\"key\":\"n\"}]}"),
     FAIL("400",
          "operation 0, key \\\"n\\\": \\\"op\\\" must be \\\"check\\\", \\\"put\\\", "
          "\\\"delete\\\", \\\"add\\\", \\\"append\\\", \\\"relate\\\" or \\\"unrelate\\\"")},
    {TXN("{\"ops\":[{\"key\":\"n\"}]}"),
     FAIL("400",
          "operation 0, key \\\"n\\\": \\\"op\\\" must be \\\"check\\\", \\\"put\\\", "
          "\\\"delete\\\", \\\"add\\\", \\\"append\\\", \\\"relate\\\" or \\\"unrelate\\\"")},
    {TXN("{\"ops\":[]}"), FAIL("400", "\\\"ops\\\" is an empty array")},
    {TXN("{\"ops\":{}}"), FAIL("400", "\\\"ops\\\" must be an array of objects, not object")},
    {TXN("{}"), FAIL("400", "\\\"ops\\\" is missing")},
    {TXN("[]"), FAIL("400", "the body must be an object with \\\"ops\\\", not array")},
    {TXN("{\"ops\":[{\"op\":\"delete\",\"key\":\"n\"}],\"x\":1}"),
     FAIL("400", "unknown member \\\"x\\\"")},
    {TXN("{\"ops\":[{\"op\":\"delete\",\"key\":\"n\"}],\"idempotency_key\":\"\"}"),
     FAIL("400", "the idempotency key must have 1 to 128 bytes")},
    {POST("/v1/put?x=1", "Content-Length: 2\r\n", "[]"),
     FAIL("400", "this path takes no arguments after '?'")},
    {POST("/v1/put", "Content-Length: 35\r\nIdempotency-Key: k\r\n", NEW_Q)
         POST("/v1/put", "Content-Length: 35\r\nIdempotency-Key: k\r\n", NEW_Q),
     OK200 OK200},
    {POST("/v1/put", "Content-Length: 35\r\nIdempotency-Key:\r\n", NEW_Q),
     FAIL("400", "the idempotency key must have 1 to 128 bytes")},
    {"DELETE /v1/key?key=a " H "Idempotency-Key: k\r\n\r\n",
     FAIL("400", "Idempotency-Key is for POST; /v1/txn deletes too")},
    {POST("/v1/put", "Origin: http://evil\r\nContent-Length: 35\r\n", NEW_Q),
     FAIL("403", "refused: sent by a web page of another site (Origin is not Host)") "closed\n"},
    {"DELETE /v1/key?key=a " H "Origin: null\r\n\r\n",
     FAIL("403", "refused: sent by a web page of another site (Origin is not Host)")},
    {POST("/v1/put", "Origin: http://H\r\nContent-Length: 35\r\n", NEW_Q), OK200},
    {"GET /v1/get?key=n " H "Origin: http://evil\r\n\r\n",
     "200 {\"key\":\"n\",\"value\":5,\"version\":3}\n"},
};

TABLE_TEST(reads)
TABLE_TEST(framings)
TABLE_TEST(chunks)
TABLE_TEST(writes)

// ---- what a table does not show ----

static void head_of_replies(void **state)
{
    static const struct {
        const char *input;
        const char *output;
    } cases[] = {
        {GET("/v1/get?key=n"), "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                               "Content-Length:        33\r\n\r\n"
                               "{\"key\":\"n\",\"value\":5,\"version\":3}"},
        {"HEAD /v1/get?key=n " H "\r\n", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                         "Content-Length:        33\r\n\r\n"},
        {"HEAD /v1/get?key=no " H "\r\n",
         "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n"
         "Content-Length:        23\r\n\r\n"},
        {"OPTIONS /v1/put " H "\r\n", "HTTP/1.1 204 No Content\r\nAllow: POST, OPTIONS\r\n\r\n"},
        {"DELETE /v1/get " H "\r\n",
         "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD, OPTIONS\r\n"
         "Content-Type: application/json\r\nContent-Length:        47\r\n\r\n"
         "{\"error\":\"this path does not take this method\"}"},
        {"GET /healthz HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
         "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Type: text/plain; charset=utf-8\r\n"
         "Content-Length:         3\r\n\r\nok\n"},
        {"GET /healthz " H "Connection: close\r\n\r\n",
         "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
         "Content-Length:         3\r\n\r\nok\n"},
        {"DELETE /v1/key?key=a " H "X-Varve-Trace: 1\r\n\r\n",
         "HTTP/1.1 200 OK\r\nX-Varve-Sequence:                     1\r\n"
         "Content-Type: application/json\r\nContent-Length:        35\r\n\r\n"
         "{\"result\":\"Success\",\"deleted\":true}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world w;
        world_open(&w);
        feed(&w, cases[i].input);
        snprintf(got, sizeof got, "%.*s", (int)buf_len(conn_out(w.conn)),
                 (const char *)buf_head(conn_out(w.conn)));
        assert_string_equal(got, cases[i].output);
        world_close(&w);
    }
}

static void gates(void **state)
{
    struct world w;
    world_open(&w);
    feed(&w, GET("/v1/get?key=a"));
    assert_int_equal(w.conn->gate, 0);
    feed(&w, POST("/v1/put", "Content-Length: 35\r\n", NEW_Q));
    assert_int_equal(w.conn->gate, 1);
    // Reads, missing keys and conflicts rest on what was committed before them.
    w.conn->gate = 0;
    feed(&w, GET("/v1/get?key=a"));
    assert_int_equal(w.conn->gate, 1);
    w.conn->gate = 0;
    feed(&w, GET("/v1/get?key=none"));
    assert_int_equal(w.conn->gate, 1);
    w.conn->gate = 0;
    feed(&w, POST("/v1/put", "Content-Length: 35\r\n", NEW_Q));
    assert_int_equal(w.conn->gate, 1);
    w.conn->gate = 0;
    feed(&w, GET("/v1/keys"));
    assert_int_equal(w.conn->gate, 1);
    assert_int_equal(w.conn->gates, 5);
    world_close(&w);
}

static void expect_continue(void **state)
{
    struct world w;
    world_open(&w);
    feed(&w, POST("/v1/put", "Expect: 100-Continue\r\nContent-Length: 35\r\n", ""));
    assert_output(&w, "100 \n");
    feed(&w, NEW_Q);
    assert_output(&w, OK200);
    // Not when the body did not wait for it, nor for HTTP/1.0.
    feed(&w, POST("/v1/put", "Expect: 100-continue\r\nContent-Length: 2\r\n", "[]"));
    assert_output(&w, FAIL("400", "the body is an empty array"));
    feed(&w, POST("/v1/put", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", ""));
    assert_output(&w, "100 \n");
    feed(&w, "0\r\n\r\n");
    summary(&w, got, sizeof got);
    feed(&w, "POST /v1/put HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_output(&w, "");
    world_close(&w);
}

static void deadlines(void **state)
{
    struct world w;
    world_open(&w);
    assert_int_equal(w.conn->deadline, 300000);
    feed(&w, "G");
    assert_int_equal(w.conn->deadline, 5000);
    w.conn->deadline = 1; // more of the head does not begin it anew
    feed(&w, "ET /heal");
    assert_int_equal(w.conn->deadline, 1);
    feed(&w, "thz " H "\r\nGET /");
    assert_int_equal(w.conn->deadline, 5000); // but the next head does
    feed(&w, "healthz " H "\r\n");
    assert_int_equal(w.conn->deadline, 300000);
    feed(&w, POST("/v1/put", "Content-Length: 35\r\n", "["));
    assert_int_equal(w.conn->deadline, 30000);
    w.conn->deadline = 1;
    feed(&w, "{");
    assert_int_equal(w.conn->deadline, 30000);
    fake_conn_deadline(w.conn);
    assert_output(&w, "200 ok\n\n200 ok\n\n" FAIL(
                          "408", "the request's body made no progress for 30 s") "closed\n");
    world_close(&w);
    world_open(&w);
    feed(&w, "GET ");
    fake_conn_deadline(w.conn);
    assert_output(&w, ERROR("408", "the request's head did not arrive within 5 s") "closed\n");
    world_close(&w);
    world_open(&w);
    fake_conn_deadline(w.conn);
    assert_output(&w, "closed\n");
    world_close(&w);
    // No deadline runs while the server is the one who is awaited.
    world_open(&w);
    fake_commit_defer(w.commit, true);
    feed(&w, GET("/v1/get?key=cold"));
    assert_true(w.conn->waiting);
    assert_int_equal(w.conn->deadline, 0);
    fake_commit_work(w.commit);
    fake_conn_run(w.conn);
    assert_int_equal(w.conn->deadline, 300000);
    world_close(&w);
}

static void end_of_input(void **state)
{
    static const char *const parts[] = {
        "", "GET / HTT", POST("/v1/put", "Content-Length: 9\r\n", "["), CHUNKED("1\r\n")};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        struct world w;
        world_open(&w);
        feed(&w, parts[i]);
        fake_conn_eof(w.conn);
        assert_output(&w, "closed\n");
        world_close(&w);
    }
}

// A text of `n` bytes: before, then x's, then after.
static char *padded(const char *before, const char *after, size_t n)
{
    char *s = malloc(n + 1);
    assert_non_null(s);
    memset(s, 'x', n);
    memcpy(s, before, strlen(before));
    memcpy(s + n - strlen(after), after, strlen(after) + 1);
    return s;
}

static void head_limits(void **state)
{
    static const struct {
        const char *before;
        const char *after;
        size_t n;
        const char *output;
    } cases[] = {
        {"GET /", " HTTP/1.1\r\n", LIMIT_HTTP_URL, ERROR("404", "no such path; GET / lists them")},
        {"GET /", " HTTP/1.1\r\n", LIMIT_HTTP_URL + 1,
         ERROR("414", "request line is over 32768 bytes") "closed\n"},
        {"GET /", "", LIMIT_HTTP_URL + 1,
         ERROR("414", "request line is over 32768 bytes") "closed\n"},
        {"X: ", "\r\n", LIMIT_HTTP_HEADERS - 11, ERROR("404", "no such path; GET / lists them")},
        {"X: ", "\r\n", LIMIT_HTTP_HEADERS - 10,
         ERROR("431", "header fields are over 16384 bytes") "closed\n"},
        {"X: ", "", LIMIT_HTTP_HEADERS + 1,
         ERROR("431", "header fields are over 16384 bytes") "closed\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t step = 1; step < 60000; step = step * 5 + 8) {
            struct world w;
            char *s = padded(cases[i].before, cases[i].after, cases[i].n);
            size_t n = cases[i].n;
            world_open(&w);
            if (s[0] == 'X')
                feed(&w, "GET /none HTTP/1.1\r\n");
            for (size_t at = 0; at < n && !w.conn->closed; at += step)
                fake_conn_feed(w.conn, s + at, n - at < step ? n - at : step);
            if (!w.conn->closed)
                feed(&w, "Host: h\r\n\r\n");
            assert_output(&w, cases[i].output);
            free(s);
            world_close(&w);
        }
}

static void value_limits(void **state)
{
    struct world w;
    char body[2048];
    char text[4096];
    world_open(&w);
    for (unsigned n = 512; n <= 513; n++) {
        snprintf(body, sizeof body, "@/v1/put|[{\"key\":\"v%u\",\"value\":\"%0*u\",\"version\":0}]",
                 n, (int)n, 7);
        expand(body, text, sizeof text);
        feed(&w, text);
        assert_output(&w, n == 512
                              ? OK200
                              : FAIL("413", "object 0, key \\\"v513\\\": a value of 513 bytes is "
                                            "over 512"));
    }
    for (unsigned n = 64; n <= 65; n++) {
        snprintf(body, sizeof body, "@/v1/put|[{\"key\":\"%0*u\",\"value\":1,\"version\":0}]",
                 (int)n, 7);
        expand(body, text, sizeof text);
        feed(&w, text);
        summary(&w, got, sizeof got);
        assert_int_equal(strncmp(got, n == 64 ? "200" : "413", 3), 0);
    }
    world_close(&w);
}

static void failures(void **state)
{
    static const struct {
        enum err e;
        const char *output;
    } cases[] = {
        {ERR_NO_SPACE, "503 {\"result\":\"Failure\",\"error\":\"no space left on the data disk: "
                       "writes are refused "
                       "until space returns\"}\n"},
        {ERR_CLOSED, FAIL("503", "shutting down")},
        {ERR_NO_MEMORY, FAIL("503", "out of memory")},
        {ERR_TOO_BIG, FAIL("413", "over a size limit")},
        {ERR_IO, FAIL("500", "input/output error")},
        {ERR_FULL, OK200}, // waits for room
    };
    struct world w;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        world_open(&w);
        fake_commit_fail(w.commit, cases[i].e);
        feed(&w, POST("/v1/put", "Content-Length: 35\r\n", NEW_Q));
        assert_output(&w, cases[i].output);
        world_close(&w);
    }
    // What was waited for failed.
    world_open(&w);
    fake_commit_fetch_result(w.commit, ERR_IO);
    feed(&w, GET("/v1/get?key=cold") GET("/v1/keys"));
    assert_output(&w, ERROR("500", "input/output error") ERROR("500", "reading failed"));
    fake_commit_fail(w.commit, ERR_AGAIN);
    feed(&w, GET("/v1/keys"));
    assert_output(&w, ERROR("503", "not now"));
    fake_commit_readonly(w.commit, "disk full");
    feed(&w, GET("/readyz") GET("/healthz"));
    assert_output(&w, ERROR("503", "disk full") "200 ok\n\n");
    world_close(&w);
}

// The connection dies while a listing runs: it ends early and is never taken.
static void list_abandoned(void **state)
{
    struct world w;
    world_open(&w);
    fake_commit_defer(w.commit, true);
    feed(&w, GET("/v1/keys"));
    assert_true(w.conn->waiting);
    w.conn->closed = true;
    fake_commit_work(w.commit);
    world_close(&w);
}

// One who sends without reading: execution stops, and goes on when the replies are taken.
static void out_stop(void **state)
{
    static char big[LIMIT_OUT_STOP];
    struct world w;
    world_open(&w);
    memset(big, 'v', sizeof big);
    fake_commit_set(w.commit, slice_str("big"), VALUE_STRING, slice_of(big, sizeof big), 1);
    feed(&w, GET("/v1/get?key=n") GET("/v1/get?key=big") GET("/v1/get?key=n"));
    assert_true(buf_len(conn_in(w.conn)) == sizeof GET("/v1/get?key=n") - 1);
    assert_int_equal(w.conn->deadline, 0);
    fake_conn_take(w.conn);
    fake_conn_run(w.conn);
    assert_output(&w, "200 {\"key\":\"n\",\"value\":5,\"version\":3}\n");
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),      cmocka_unit_test(test_framings),
        cmocka_unit_test(test_chunks),     cmocka_unit_test(test_writes),
        cmocka_unit_test(head_of_replies), cmocka_unit_test(gates),
        cmocka_unit_test(expect_continue), cmocka_unit_test(deadlines),
        cmocka_unit_test(end_of_input),    cmocka_unit_test(head_limits),
        cmocka_unit_test(value_limits),    cmocka_unit_test(failures),
        cmocka_unit_test(list_abandoned),  cmocka_unit_test(out_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
