// Signatures against the vectors that AWS publishes: its SigV4 test suite (service "service", keys
// AKIDEXAMPLE) and the examples of S3's own documentation ("Signature Calculations for the
// Authorization Header: Transferring Payload in a Single Chunk").
#include "unit.h"
#include "object/sign.h"
#include "object/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct sign_key suite = {"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                                      "us-east-1", "service"};
static const struct sign_key s3_docs = {
    "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1", "s3"};

#define MAX_HEADERS 6

struct vector {
    const char *name;
    const char *method;
    const char *path; // not encoded
    const char *query;
    struct sign_header headers[MAX_HEADERS]; // up to one without a name
    const char *body;
    const char *signature;
};

#define HOST                            \
    {                                   \
        "host", "example.amazonaws.com" \
    }
#define DATE                             \
    {                                    \
        "x-amz-date", "20150830T123600Z" \
    }

static const struct vector suite_vectors[] = {
    {"get-vanilla",
     "GET",
     "/",
     "",
     {HOST, DATE},
     "",
     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
    {"get-vanilla-query-order-key-case",
     "GET",
     "/",
     "Param2=value2&Param1=value1",
     {HOST, DATE},
     "",
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
    {"get-vanilla-empty-query-key",
     "GET",
     "/",
     "Param1=value1",
     {HOST, DATE},
     "",
     "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"},
    {"get-vanilla-query-unreserved",
     "GET",
     "/",
     "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz="
     "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
     {HOST, DATE},
     "",
     "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"},
    {"get-utf8",
     "GET",
     "/\xe1\x88\xb4",
     "",
     {HOST, DATE},
     "",
     "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"},
    {"get-space",
     "GET",
     "/example space/",
     "",
     {HOST, DATE},
     "",
     "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"},
    {"get-header-key-duplicate",
     "GET",
     "/",
     "",
     {HOST, {"my-header1", "value2"}, {"my-header1", "value2"}, {"my-header1", "value1"}, DATE},
     "",
     "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"},
    {"get-header-value-trim",
     "GET",
     "/",
     "",
     {HOST, {"my-header1", " value1"}, {"my-header2", " \"a   b   c\""}, DATE},
     "",
     "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
    {"post-vanilla",
     "POST",
     "/",
     "",
     {HOST, DATE},
     "",
     "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
    {"post-x-www-form-urlencoded",
     "POST",
     "/",
     "",
     {{"content-type", "application/x-www-form-urlencoded"}, HOST, DATE},
     "Param1=value1",
     "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
};

#define S3_HOST                                  \
    {                                            \
        "host", "examplebucket.s3.amazonaws.com" \
    }
#define S3_DATE                          \
    {                                    \
        "x-amz-date", "20130524T000000Z" \
    }
#define S3_EMPTY                           \
    {                                      \
        "x-amz-content-sha256", EMPTY_HASH \
    }

static const struct vector s3_vectors[] = {
    {"get object",
     "GET",
     "/test.txt",
     "",
     {S3_HOST, {"range", "bytes=0-9"}, S3_EMPTY, S3_DATE},
     "",
     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
    {"put object",
     "PUT",
     "/test$file.text",
     "",
     {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
      S3_HOST,
      {"x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"},
      S3_DATE,
      {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
     "Welcome to Amazon S3.",
     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
    {"get bucket lifecycle",
     "GET",
     "/",
     "lifecycle",
     {S3_HOST, S3_EMPTY, S3_DATE},
     "",
     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
    {"list objects",
     "GET",
     "/",
     "prefix=J&max-keys=2",
     {S3_HOST, S3_EMPTY, S3_DATE},
     "",
     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
};

static void check(const struct vector *v, const struct sign_key *key, const char *date)
{
    struct buf path, query, out;
    buf_init(&path, 4096);
    buf_init(&query, 4096);
    buf_init(&out, 4096);
    assert_ok(url_encode(&path, slice_str(v->path), true));
    assert_ok(buf_append(&path, "", 1));
    assert_ok(url_sort_query(&query, v->query));
    assert_ok(buf_append(&query, "", 1));
    struct slice body = slice_str(v->body);
    char hash[SHA256_HEX];
    assert_ok(sha256_hex(hash, &body, 1, 0, body.n));
    struct sign_request r = {
        v->method, (const char *)buf_head(&path), (const char *)buf_head(&query), v->headers, 0,
        hash};
    while (r.header_count < MAX_HEADERS && v->headers[r.header_count].name)
        r.header_count++;
    assert_ok(sign_v4(&out, key, date, &r));
    assert_ok(buf_append(&out, "", 1));
    const char *signature = strstr((const char *)buf_head(&out), "Signature=");
    assert_non_null(signature);
    if (strcmp(signature + 10, v->signature) != 0)
        print_error("%s: %s\n", v->name, signature);
    assert_string_equal(signature + 10, v->signature);
    buf_release(&path);
    buf_release(&query);
    buf_release(&out);
}

static void vectors_of_the_suite(void **state)
{
    for (size_t i = 0; i < sizeof suite_vectors / sizeof *suite_vectors; i++)
        check(&suite_vectors[i], &suite, "20150830T123600Z");
}

static void examples_of_s3(void **state)
{
    for (size_t i = 0; i < sizeof s3_vectors / sizeof *s3_vectors; i++)
        check(&s3_vectors[i], &s3_docs, "20130524T000000Z");
}

static void texts_on_the_way(void **state)
{
    struct sign_header headers[] = {HOST, DATE};
    struct sign_request r = {"GET", "/", "", headers, 2, EMPTY_HASH};
    struct buf b;
    buf_init(&b, 4096);
    assert_ok(sign_canonical(&b, &r));
    assert_ok(buf_append(&b, "", 1));
    assert_string_equal((char *)buf_head(&b),
                        "GET\n/\n\nhost:example.amazonaws.com\n"
                        "x-amz-date:20150830T123600Z\n\nhost;x-amz-date\n" EMPTY_HASH);
    buf_clear(&b);
    assert_ok(sign_text(&b, &suite, "20150830T123600Z", &r));
    assert_ok(buf_append(&b, "", 1));
    assert_string_equal((char *)buf_head(&b),
                        "AWS4-HMAC-SHA256\n20150830T123600Z\n"
                        "20150830/us-east-1/service/aws4_request\n"
                        "bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63");
    buf_clear(&b);
    assert_ok(sign_v4(&b, &suite, "20150830T123600Z", &r));
    assert_ok(buf_append(&b, "", 1));
    assert_non_null(strstr((char *)buf_head(&b),
                           "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
                           "SignedHeaders=host;x-amz-date, Signature="));
    buf_release(&b);
}

static void dates(void **state)
{
    const struct {
        uint64_t seconds;
        const char *text;
    } all[] = {{0, "19700101T000000Z"},          {951782399, "20000228T235959Z"},
               {951782400, "20000229T000000Z"},  {951868800, "20000301T000000Z"},
               {1369353600, "20130524T000000Z"}, {1440938160, "20150830T123600Z"},
               {1735689599, "20241231T235959Z"}, {4107542400, "21000301T000000Z"}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char date[SIGN_DATE];
        sign_date(date, all[i].seconds);
        assert_string_equal(date, all[i].text);
    }
}

static void hashes_of_ranges_of_parts(void **state)
{
    const char *text = "0123456789abcdefghij";
    struct slice parts[] = {slice_of(text, 3), slice_of(text, 0), slice_of(text + 3, 10),
                            slice_of(text + 13, 7)};
    for (size_t from = 0; from <= 20; from++)
        for (size_t n = 0; from + n <= 20; n++) {
            struct slice one = slice_of(text + from, n);
            char a[SHA256_HEX], b[SHA256_HEX];
            assert_ok(sha256_hex(a, parts, 4, from, n));
            assert_ok(sha256_hex(b, &one, 1, 0, n));
            assert_string_equal(a, b);
        }
}

static void encoding(void **state)
{
    struct buf b;
    buf_init(&b, 4096);
    assert_ok(url_encode(&b, slice_of("a/b c+%\x00\xff~", 10), true));
    assert_ok(url_encode(&b, slice_str("/="), false));
    assert_ok(buf_append(&b, "", 1));
    assert_string_equal((char *)buf_head(&b), "a/b%20c%2B%25%00%FF~%2F%3D");
    char text[] = "a%2Fb+%e1%88%b4%2B";
    size_t n = url_decode(text, strlen(text));
    assert_int_equal(n, 8);
    assert_memory_equal(text, "a/b \xe1\x88\xb4+", 8);
    const char *bad[] = {"%", "%2", "a%zz", "%2g"};
    for (size_t i = 0; i < 4; i++) {
        char copy[8];
        snprintf(copy, sizeof copy, "%s", bad[i]);
        assert_true(url_decode(copy, strlen(copy)) == SIZE_MAX);
    }
    buf_clear(&b);
    assert_ok(url_sort_query(&b, "b=1&a-b=2&a=3&a=1&acl&&c="));
    assert_ok(buf_append(&b, "", 1));
    assert_string_equal((char *)buf_head(&b), "a=1&a=3&a-b=2&acl=&b=1&c=");
    buf_release(&b);
}

static void endpoints(void **state)
{
    struct endpoint e;
    struct errmsg msg;
    assert_ok(endpoint_parse(&e, "http://127.0.0.1:9000/", &msg));
    assert_string_equal(e.scheme, "http");
    assert_string_equal(e.host, "127.0.0.1");
    assert_string_equal(e.port, "9000");
    assert_true(e.is_address);
    assert_true(endpoint_needs_path(&e, "bucket"));
    assert_ok(endpoint_parse(&e, "https://s3.example.org:443", &msg));
    assert_string_equal(e.port, ""); // as it stands in a Host header
    assert_false(endpoint_needs_path(&e, "bucket"));
    assert_true(endpoint_needs_path(&e, "my.bucket")); // no certificate is for that
    assert_true(endpoint_needs_path(&e, "My_Bucket"));
    assert_ok(endpoint_parse(&e, "http://[::1]:80", &msg));
    assert_string_equal(e.host, "[::1]");
    assert_string_equal(e.port, "");
    const char *bad[] = {"localhost:9000", "ftp://h",        "http://",     "http://u@h",
                         "http://h:0",     "http://h:65536", "http://h:x",  "http://h/path",
                         "http://h?a",     "http://[::1",    "http://h:80x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        msg.text[0] = 0;
        assert_err(endpoint_parse(&e, bad[i], &msg), ERR_INVALID);
        assert_non_null(strstr(msg.text, bad[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_of_the_suite),
        cmocka_unit_test(examples_of_s3),
        cmocka_unit_test(texts_on_the_way),
        cmocka_unit_test(dates),
        cmocka_unit_test(hashes_of_ranges_of_parts),
        cmocka_unit_test(encoding),
        cmocka_unit_test(endpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
