// Where keys are looked for, over files of the simulated machine and a metadata service of the
// test's own.
#include "unit.h"
#include "base/os_sim.h"
#include "object/credentials.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct answer {
    const char *method, *url, *header; // as asked
    unsigned status;
    const char *body;
};

struct world {
    struct os_sim *sim;
    const struct answer *answers;
    size_t count;
    unsigned asked;
    struct credentials_options o;
    struct credentials c;
    struct errmsg msg;
};

static enum err metadata(void *arg, const struct metadata_request *r, struct buf *body,
                         unsigned *status)
{
    struct world *w = arg;
    w->asked++;
    for (size_t i = 0; i < w->count; i++) {
        const struct answer *a = &w->answers[i];
        const char *header = r->header ? r->header : "";
        if (strcmp(a->method, r->method) == 0 && strcmp(a->url, r->url) == 0 &&
            strcmp(a->header, header) == 0) {
            *status = a->status;
            return buf_append(body, a->body, strlen(a->body));
        }
    }
    *status = 0;
    return ERR_NETWORK;
}

static int set_up(void **state)
{
    static const char *const variables[] = {"AWS_ACCESS_KEY_ID",
                                            "AWS_SECRET_ACCESS_KEY",
                                            "AWS_SESSION_TOKEN",
                                            "AWS_PROFILE",
                                            "AWS_SHARED_CREDENTIALS_FILE",
                                            "AWS_CONFIG_FILE",
                                            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                                            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                                            "AWS_CONTAINER_AUTHORIZATION_TOKEN",
                                            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                                            "AWS_EC2_METADATA_DISABLED",
                                            "AWS_EC2_METADATA_SERVICE_ENDPOINT"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
    setenv("HOME", "/me", 1);
    struct world *w = calloc(1, sizeof *w);
    w->sim = sim_new(1);
    w->o = (struct credentials_options){
        .os = sim_os(w->sim), .use_default = true, .metadata = metadata, .metadata_arg = w};
    assert_ok(os_mkdir(w->o.os, "/me"));
    assert_ok(os_mkdir(w->o.os, "/me/.aws"));
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    sim_free(w->sim);
    free(w);
    return 0;
}

static void file(struct world *w, const char *dir, const char *name, const char *text)
{
    assert_ok(os_replace_file(w->o.os, dir, name, text, strlen(text)));
}

static void expect(struct world *w, const char *access, const char *secret, const char *token)
{
    enum err e = credentials_get(&w->c, &w->o, &w->msg);
    if (e != ERR_OK)
        print_error("%s\n", w->msg.text);
    assert_ok(e);
    assert_string_equal(w->c.access, access);
    assert_string_equal(w->c.secret, secret);
    assert_string_equal(w->c.token, token);
}

static void expect_none(struct world *w, const char *part)
{
    w->msg.text[0] = 0;
    assert_err(credentials_get(&w->c, &w->o, &w->msg), ERR_DENIED);
    if (!strstr(w->msg.text, part))
        print_error("%s\n", w->msg.text);
    assert_non_null(strstr(w->msg.text, part));
}

static void options_come_first(void **state)
{
    struct world *w = *state;
    setenv("AWS_ACCESS_KEY_ID", "env", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "env", 1);
    w->o.access_key = "a";
    w->o.secret_key = "s";
    w->o.token = "t";
    expect(w, "a", "s", "t");
    assert_int_equal(w->c.expires_ms, 0);
    w->o.secret_key = "";
    expect_none(w, "the secret key is missing");
    w->o.secret_key = "s\n";
    expect_none(w, "blanks");
    w->o = (struct credentials_options){.os = w->o.os};
    expect_none(w, "use_default_credentials is off");
}

static void environment(void **state)
{
    struct world *w = *state;
    file(w, "/me/.aws", "credentials", "[default]\naws_access_key_id=f\naws_secret_access_key=f\n");
    setenv("AWS_ACCESS_KEY_ID", "e1", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "e2", 1);
    expect(w, "e1", "e2", "");
    setenv("AWS_SESSION_TOKEN", "e3", 1);
    expect(w, "e1", "e2", "e3");
    unsetenv("AWS_SECRET_ACCESS_KEY");
    expect_none(w, "environment");
}

static void files_and_profiles(void **state)
{
    struct world *w = *state;
    file(w, "/me/.aws", "credentials",
         "# keys\r\n[ default ]\r\naws_access_key_id = d1\r\naws_secret_access_key = d=2+/\r\n\n"
         "[other]\naws_access_key_id=o1\naws_secret_access_key=o2\naws_session_token=o3\n"
         "[half]\naws_access_key_id=h1\n");
    file(w, "/me/.aws", "config",
         "[default]\nregion=x\n[profile  conf]\naws_access_key_id=c1\ns3 =\n"
         "  aws_access_key_id=nested\naws_secret_access_key=c2\n"
         "[profile role]\nrole_arn=arn:x\n[plain]\naws_access_key_id=p1\n");
    expect(w, "d1", "d=2+/", "");
    setenv("AWS_PROFILE", "other", 1);
    expect(w, "o1", "o2", "o3");
    setenv("AWS_ACCESS_KEY_ID", "env", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "env", 1);
    expect(w, "env", "env", "");
    w->o.profile = "conf"; // a profile that is asked for counts more than the environment
    expect(w, "c1", "c2", "");
    assert_non_null(strstr(w->c.source, "conf"));
    w->o.profile = "half";
    expect_none(w, "profile half in /me/.aws/credentials: the secret key is missing");
    w->o.profile = "role";
    expect_none(w, "role_arn is not supported");
    w->o.profile = "plain";
    expect_none(w, "profile plain is not in the files");
    setenv("AWS_SHARED_CREDENTIALS_FILE", "/elsewhere", 1);
    file(w, "/", "elsewhere", "[plain]\naws_access_key_id=e1\naws_secret_access_key=e2\n");
    expect(w, "e1", "e2", "");
    assert_int_equal(w->asked, 0);
}

static void container(void **state)
{
    static const struct answer answers[] = {
        {"GET", "http://169.254.170.2/v2/x", "", 200,
         "{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"s\",\"Token\":\"t\","
         "\"Expiration\":\"2026-01-01T00:00:00Z\"}"},
        {"GET", "http://here/full", "Authorization: secret", 200,
         "{\"AccessKeyId\":\"a2\",\"SecretAccessKey\":\"s2\"}"},
        {"GET", "http://here/bad", "Authorization: secret", 500, "oops"},
        {"GET", "http://here/text", "Authorization: secret", 200, "oops"},
    };
    struct world *w = *state;
    w->answers = answers;
    w->count = 4;
    setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x", 1);
    expect(w, "a", "s", "t");
    assert_true(w->c.expires_ms == 1767225600000u);
    assert_false(credentials_stale(&w->c, 1767225600000u - 300001u));
    assert_true(credentials_stale(&w->c, 1767225600000u - 300000u));
    unsetenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://here/full", 1);
    file(w, "/", "token", "secret\n");
    setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/token", 1);
    expect(w, "a2", "s2", "");
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://here/bad", 1);
    expect_none(w, "http://here/bad answers with status 500");
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://here/text", 1);
    expect_none(w, "container: its answer is not");
    setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/none", 1);
    expect_none(w, "/none cannot be read");
}

static void instance(void **state)
{
#define BASE  "http://169.254.169.254/latest/"
#define ROLES BASE "meta-data/iam/security-credentials/"
    static const struct answer answers[] = {
        {"PUT", BASE "api/token", "X-aws-ec2-metadata-token-ttl-seconds: 21600", 200, "tok"},
        {"GET", ROLES, "X-aws-ec2-metadata-token: tok", 200, "my-role\n"},
        {"GET", ROLES "my-role", "X-aws-ec2-metadata-token: tok", 200,
         "{\"Code\":\"Success\",\"AccessKeyId\":\"i1\",\"SecretAccessKey\":\"i2\","
         "\"Token\":\"i3\",\"Expiration\":\"2030-02-28T12:34:56Z\"}"},
    };
    struct world *w = *state;
    expect_none(w, "no keys: looked at AWS_ACCESS_KEY_ID");
    w->answers = answers;
    w->count = 3;
    expect(w, "i1", "i2", "i3");
    assert_string_equal(w->c.source, "instance");
    assert_true(w->c.expires_ms == 1898512496000u);
    w->count = 1;
    assert_err(credentials_get(&w->c, &w->o, &w->msg), ERR_NETWORK);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    w->asked = 0;
    expect_none(w, "no keys");
    assert_int_equal(w->asked, 0);
}

static void dates(void **state)
{
    assert_true(iso_date_ms(slice_str("1970-01-01T00:00:01Z")) == 1000);
    assert_true(iso_date_ms(slice_str("2000-02-29T00:00:00Z")) == 951782400000u);
    assert_true(iso_date_ms(slice_str("2026-01-01T00:00:00.123Z")) == 1767225600000u);
    const char *bad[] = {"",
                         "2026-01-01",
                         "2026-13-01T00:00:00Z",
                         "2026-01-01 00:00:00Z",
                         "2026-01-01T00:00:00+01",
                         "x026-01-01T00:00:00Z"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_true(iso_date_ms(slice_str(bad[i])) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(options_come_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(environment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(files_and_profiles, set_up, tear_down),
        cmocka_unit_test_setup_teardown(container, set_up, tear_down),
        cmocka_unit_test_setup_teardown(instance, set_up, tear_down),
        cmocka_unit_test(dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
