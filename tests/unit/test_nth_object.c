// Object stores with the nth allocation failing: every call ends with ERR_OK or ERR_NO_MEMORY, a
// store that could be opened goes on, and what was acknowledged is there.
#include "unit.h"

#include "base/log.h"
#include "base/os_sim.h"
#include "nth.h"
#include "object/credentials.h"
#include "object/object.h"
#include "object/sign.h"
#include "object/url.h"
#include "object/xml.h"
#include <stdio.h>
#include <string.h>

static void allowed(enum err e)
{
    if (e != ERR_NO_MEMORY)
        assert_ok(e);
}

// ---- pure functions

static bool parse_list(void *arg, uint64_t n, bool for_ever)
{
    const char *text = arg;
    struct xml_answer a;
    nth_arm(n, for_ever);
    enum err e = xml_parse(&a, slice_str(text), NULL);
    xml_release(&a);
    bool failed = nth_disarm();
    allowed(e);
    assert_true(failed == (e != ERR_OK));
    return failed;
}

static void xml(void **state)
{
    static char text[300000];
    size_t n =
        (size_t)snprintf(text, sizeof text, "<ListBucketResult><EncodingType>url</EncodingType>");
    for (int i = 0; i < 3000; i++)
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "<Contents><Key>a%%20name%d</Key><Size>1</Size></Contents>", i);
    snprintf(text + n, sizeof text - n, "</ListBucketResult>");
    nth_each(parse_list, text);
}

static bool sign_request(void *arg, uint64_t n, bool for_ever)
{
    (void)arg;
    struct buf query, out;
    char many[600] = "", hash[SHA256_HEX];
    for (int i = 9; i >= 0; i--)
        snprintf(many + strlen(many), sizeof many - strlen(many), "%sm%d=%040d", i < 9 ? "&" : "",
                 i, i);
    buf_init(&query, 4096);
    buf_init(&out, 4096);
    nth_arm(n, for_ever);
    enum err e = url_sort_query(&query, many);
    e = e ? e : url_encode(&out, slice_str("a name/with + and \xc3\xa9"), true);
    buf_clear(&out);
    e = e ? e : buf_append(&query, "", 1);
    struct slice part = slice_str("payload");
    e = e ? e : sha256_hex(hash, &part, 1, 0, part.n);
    if (!e) {
        const struct sign_header h[] = {{"host", "example.com"},
                                        {"x-amz-date", "20130524T000000Z"}};
        const struct sign_key key = {"access", "secret", "us-east-1", "s3"};
        const struct sign_request r = {"GET", "/", (const char *)buf_head(&query), h, 2, hash};
        e = sign_v4(&out, &key, h[1].value, &r);
    }
    bool failed = nth_disarm();
    buf_release(&query);
    buf_release(&out);
    allowed(e);
    assert_true(failed == (e != ERR_OK));
    return failed;
}

static void signatures(void **state)
{
    nth_each(sign_request, NULL);
}

// ---- credentials, from every source that answers

static enum err answer(void *arg, const struct metadata_request *r, struct buf *body,
                       unsigned *status)
{
    (void)arg;
    static const char json[] =
        "{\"Code\":\"Success\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\",\"Token\":\"T\","
        "\"Expiration\":\"2037-01-01T00:00:00Z\"}";
    *status = 200;
    if (strstr(r->url, "/api/token"))
        return buf_append(body, "token", 5);
    bool role = r->url[strlen(r->url) - 1] != '/';
    return role ? buf_append(body, json, sizeof json - 1) : buf_append(body, "role", 4);
}

static bool fetch_keys(void *arg, uint64_t n, bool for_ever)
{
    struct credentials c;
    struct credentials_options o = {.os = sim_os(arg), .use_default = true, .metadata = answer};
    nth_arm(n, for_ever);
    enum err e = credentials_get(&c, &o, NULL);
    bool failed = nth_disarm();
    allowed(e);
    assert_true(failed == (e != ERR_OK));
    if (!e)
        assert_string_equal(c.access, "A");
    return failed;
}

static void credentials(void **state)
{
    struct os_sim *sim = sim_new(3);
    unsetenv("AWS_ACCESS_KEY_ID");
    unsetenv("AWS_EC2_METADATA_DISABLED");
    nth_each(fetch_keys, sim);
    sim_free(sim);
}

// ---- the directory

static bool count_names(void *arg, const char *name, uint64_t size)
{
    (void)size;
    assert_true(!strncmp(name, "d/n", 3));
    ++*(unsigned *)arg;
    return true;
}

enum { NAMES = 6 };

static enum err use(struct object_store *s, bool stored[NAMES])
{
    enum err all = ERR_OK;
    char name[NAMES][16];
    struct object_call calls[NAMES];
    struct slice part = slice_str("some bytes");
    for (int i = 0; i < NAMES; i++) {
        snprintf(name[i], sizeof name[i], "d/n%d", i);
        enum err e = i % 2 ? object_put(s, name[i], &part, 1, NULL)
                           : object_put_absent(s, name[i], &part, 1, NULL);
        allowed(e);
        stored[i] = !e;
        all = all ? all : e;
    }
    for (int i = 0; i < NAMES; i++) {
        struct buf b;
        uint64_t size;
        buf_init(&b, 100);
        enum err e = object_get(s, name[i], &b, NULL);
        if (e != ERR_MISSING || stored[i])
            allowed(e);
        assert_true(e || buf_len(&b) == part.n);
        assert_true(!e || buf_len(&b) == 0);
        all = all ? all : e;
        enum err h = object_head(s, name[i], &size, NULL);
        if (h != ERR_MISSING || stored[i])
            allowed(h);
        all = all ? all : h;
        buf_release(&b);
    }
    unsigned n = 0, have = 0;
    for (int i = 0; i < NAMES; i++)
        have += stored[i];
    enum err e = object_list(s, "d/", NULL, 0, count_names, &n, NULL);
    allowed(e);
    assert_true(e || n >= have);
    all = all ? all : e;
    memset(calls, 0, sizeof calls);
    for (int i = 0; i < NAMES; i++)
        calls[i] = (struct object_call){.op = OBJECT_HEAD, .name = name[i]};
    e = object_run(s, calls, NAMES);
    if (e != ERR_MISSING)
        allowed(e);
    all = all ? all : e;
    e = object_delete(s, name[NAMES - 1], NULL);
    allowed(e);
    if (!e)
        stored[NAMES - 1] = false;
    return all ? all : e;
}

static bool use_directory(void *arg, uint64_t n, bool for_ever)
{
    (void)arg;
    struct os_sim *sim = sim_new(5);
    struct object_options o = {.os = sim_os(sim), .kind = OBJECT_DIRECTORY, .dir = "/objects"};
    struct object_store *s;
    bool stored[NAMES] = {false};
    nth_arm(n, for_ever);
    enum err e = object_open(&s, &o, NULL);
    if (!e) {
        e = use(s, stored);
        object_close(s);
    }
    bool failed = nth_disarm();
    assert_true(failed || !e);
    // It is as good as new, and what was acknowledged is there.
    assert_ok(object_open(&s, &o, NULL));
    for (int i = 0; i < NAMES; i++) {
        char name[16];
        uint64_t size;
        snprintf(name, sizeof name, "d/n%d", i);
        if (stored[i])
            assert_ok(object_head(s, name, &size, NULL));
        ERR_IGNORE(object_delete(s, name, NULL));
    }
    assert_ok(use(s, stored));
    object_close(s);
    sim_free(sim);
    return failed;
}

static void directory(void **state)
{
    nth_each(use_directory, NULL);
}

// ---- S3, at an address where nobody is: all the way to the request and back

static bool ask_nobody(void *arg, uint64_t n, bool for_ever)
{
    (void)arg;
    struct object_options o = {
        .os = os_real(),
        .kind = OBJECT_S3,
        .prefix = "p/",
        .s3 = {.bucket = "bucket",
               .endpoint = "http://127.0.0.1:1",
               .access_key = "A",
               .secret_key = "S"},
        .retry_ms = 1,
    };
    struct object_store *s;
    nth_arm(n, for_ever);
    enum err e = object_open(&s, &o, NULL);
    bool opened = !e;
    if (opened) {
        struct slice part = slice_str("some bytes");
        struct buf b;
        unsigned count = 0;
        buf_init(&b, 100);
        enum err got[] = {object_put_absent(s, "a", &part, 1, NULL), object_get(s, "a", &b, NULL),
                          object_list(s, "", NULL, 0, count_names, &count, NULL),
                          object_delete(s, "a", NULL)};
        for (size_t i = 0; i < sizeof got / sizeof *got; i++) {
            assert_true(got[i] == ERR_NETWORK || got[i] == ERR_NO_MEMORY);
            e = e && e != ERR_NETWORK ? e : got[i];
        }
        buf_release(&b);
        object_close(s);
    }
    bool failed = nth_disarm();
    assert_true(failed || e == ERR_NETWORK);
    assert_true(opened || e == ERR_NO_MEMORY);
    return failed;
}

static void s3(void **state)
{
    nth_each(ask_nobody, NULL);
}

int main(void)
{
    log_set_level(LOG_NONE);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(xml),       cmocka_unit_test(signatures), cmocka_unit_test(credentials),
        cmocka_unit_test(directory), cmocka_unit_test(s3),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
