#include "object/credentials.h"
#include "base/json.h"
#include "base/limits.h"

#include <stdio.h>
#include <stdlib.h>

#define FILE_MAX     (1u << 20)
#define BODY_MAX     (64u << 10)
#define STALE_MS     (300u * 1000u)
#define CONTAINER_IP "http://169.254.170.2"
#define INSTANCE_IP  "http://169.254.169.254"

static const char *text_or(const char *text, const char *other)
{
    return text && *text ? text : other;
}

bool credentials_stale(const struct credentials *c, uint64_t now_ms)
{
    return c->expires_ms && now_ms + STALE_MS >= c->expires_ms;
}

// Copies; false if it does not fit or holds what no header may.
static bool copy(char *to, size_t cap, struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= 0x20 || s.p[i] >= 0x7f)
            return false;
    if (s.n >= cap)
        return false;
    if (s.n)
        memcpy(to, s.p, s.n);
    to[s.n] = 0;
    return true;
}

static enum err take(struct credentials *c, const char *source, struct slice access,
                     struct slice secret, struct slice token, struct errmsg *msg)
{
    snprintf(c->source, sizeof c->source, "%s", source);
    if (access.n == 0 || secret.n == 0)
        return err_set(msg, ERR_DENIED, "%s: %s is missing beside the other half of the keys",
                       source, access.n == 0 ? "the access key" : "the secret key");
    if (!copy(c->access, sizeof c->access, access) || !copy(c->secret, sizeof c->secret, secret) ||
        !copy(c->token, sizeof c->token, token))
        return err_set(msg, ERR_DENIED, "%s: a key is too long or has blanks in it", source);
    return ERR_OK;
}

// ---- files of ~/.aws

static struct slice trim(struct slice s)
{
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = slice_of(s.p + 1, s.n - 1);
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t' || s.p[s.n - 1] == '\r'))
        s.n--;
    return s;
}

static bool next_line(struct slice *rest, struct slice *line)
{
    if (rest->n == 0)
        return false;
    const uint8_t *end = memchr(rest->p, '\n', rest->n);
    *line = slice_of(rest->p, end ? (size_t)(end - rest->p) : rest->n);
    size_t used = line->n + (end != NULL);
    *rest = slice_of(rest->p + used, rest->n - used);
    return true;
}

// The name of the section that the line begins, blanks within as one.
static bool section_of(struct slice line, char name[256])
{
    line = trim(line);
    const uint8_t *end = line.n && line.p[0] == '[' ? memchr(line.p, ']', line.n) : NULL;
    if (!end)
        return false;
    struct slice inner = trim(slice_of(line.p + 1, (size_t)(end - line.p) - 1));
    size_t to = 0;
    for (size_t i = 0; i < inner.n && to < 255; i++) {
        char c = inner.p[i] == '\t' ? ' ' : (char)inner.p[i];
        if (c != ' ' || name[to - 1] != ' ')
            name[to++] = c;
    }
    name[to] = 0;
    return true;
}

bool aws_file_find(struct slice file, const char *section, const char *key, struct slice *value)
{
    bool inside = false, found = false;
    char name[256];
    struct slice line;
    while (next_line(&file, &line)) {
        if (section_of(line, name)) {
            inside = strcmp(name, section) == 0;
            continue;
        }
        // An indented line belongs to the key before it ("s3 =" and its settings).
        bool nested = line.n > 0 && (line.p[0] == ' ' || line.p[0] == '\t');
        const uint8_t *equals = line.n ? memchr(line.p, '=', line.n) : NULL;
        if (!inside || nested || !equals || line.p[0] == '#' || line.p[0] == ';')
            continue;
        size_t at = (size_t)(equals - line.p);
        if (slice_equal(trim(slice_of(line.p, at)), slice_str(key))) {
            *value = trim(slice_of(equals + 1, line.n - at - 1)); // the last one counts
            found = true;
        }
    }
    return found;
}

bool aws_file_has(struct slice file, const char *section)
{
    char name[256];
    struct slice line;
    while (next_line(&file, &line))
        if (section_of(line, name) && strcmp(name, section) == 0)
            return true;
    return false;
}

// What of a profile needs more than this program does.
static const char *unsupported_in(struct slice file, const char *section)
{
    static const char *const keys[] = {"credential_process", "role_arn", "sso_session",
                                       "sso_start_url"};
    struct slice value;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (aws_file_find(file, section, keys[i], &value))
            return keys[i];
    return NULL;
}

struct aws_file {
    const char *variable;
    const char *home_name;
    const char *section_prefix; // of profiles other than "default"
};

// ERR_MISSING: nothing there.
static enum err from_file(struct credentials *c, const struct credentials_options *o,
                          const struct aws_file *f, const char *profile, bool *has_profile,
                          struct errmsg *msg)
{
    char path[LIMIT_PATH], section[256], source[512];
    const char *named = os_env(f->variable), *home = os_env("HOME");
    if (named && *named)
        snprintf(path, sizeof path, "%s", named);
    else
        snprintf(path, sizeof path, "%s/.aws/%s", text_or(home, ""), f->home_name);
    uint8_t *data;
    size_t n;
    enum err e = os_read_file(o->os, path, FILE_MAX, &data, &n);
    if (e == ERR_MISSING || e == ERR_NO_MEMORY)
        return e;
    if (e != ERR_OK)
        return err_set(msg, ERR_DENIED, "%s: cannot be read: %s", path, err_text(e));
    snprintf(section, sizeof section, "%s%s", strcmp(profile, "default") ? f->section_prefix : "",
             profile);
    snprintf(source, sizeof source, "profile %.100s in %.300s", profile, path);
    struct slice file = slice_of(data, n), access = {0}, secret = {0}, token = {0};
    *has_profile = *has_profile || aws_file_has(file, section);
    bool any = aws_file_find(file, section, "aws_access_key_id", &access);
    any |= aws_file_find(file, section, "aws_secret_access_key", &secret);
    (void)aws_file_find(file, section, "aws_session_token", &token); // not every profile has one
    const char *other = any ? NULL : unsupported_in(file, section);
    if (any)
        e = take(c, source, access, secret, token, msg);
    else if (other)
        e = err_set(msg, ERR_DENIED,
                    "%s: %s is not supported here; give aws_access_key_id and "
                    "aws_secret_access_key, or export the keys to the environment",
                    source, other);
    else
        e = ERR_MISSING;
    free(data);
    return e;
}

static enum err from_files(struct credentials *c, const struct credentials_options *o,
                           struct errmsg *msg)
{
    static const struct aws_file files[] = {
        {"AWS_SHARED_CREDENTIALS_FILE", "credentials", ""},
        {"AWS_CONFIG_FILE", "config", "profile "},
    };
    const char *profile = text_or(o->profile, text_or(os_env("AWS_PROFILE"), "default"));
    bool has_profile = false;
    for (size_t i = 0; i < 2; i++) {
        enum err e = from_file(c, o, &files[i], profile, &has_profile, msg);
        if (e != ERR_MISSING)
            return e;
    }
    if (o->profile && *o->profile)
        return err_set(msg, ERR_DENIED, "profile %.100s %s in the files of ~/.aws", profile,
                       has_profile ? "has no keys" : "is not");
    return ERR_MISSING;
}

// ---- metadata services

uint64_t iso_date_ms(struct slice text)
{
    static const char pattern[] = "0000-00-00T00:00:00";
    unsigned v[6] = {0}, field = 0;
    if (text.n < sizeof pattern - 1 || text.p[text.n - 1] != 'Z')
        return 0;
    for (size_t i = 0; i < sizeof pattern - 1; i++) {
        char c = (char)text.p[i];
        if (pattern[i] != '0' && pattern[i] != c)
            return 0;
        if (pattern[i] != '0')
            field++;
        else if (c < '0' || c > '9')
            return 0;
        else
            v[field] = v[field] * 10 + (unsigned)(c - '0');
    }
    if (v[0] < 1970 || v[1] < 1 || v[1] > 12 || v[2] < 1 || v[2] > 31)
        return 0;
    uint64_t y = v[0] - (v[1] <= 2), mp = (v[1] + 9) % 12; // years from March on
    uint64_t days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * mp + 2) / 5 + v[2] - 1 - 719468;
    return (((days * 24 + v[3]) * 60 + v[4]) * 60 + v[5]) * 1000;
}

static bool member(struct json object, const char *name, struct slice *value)
{
    struct json_iter it = json_iterate(object);
    struct slice key;
    struct json v;
    while (json_next(&it, &key, &v))
        if (slice_equal(key, slice_str(name)) && json_kind(v) == JSON_STRING) {
            *value = json_string(v);
            return true;
        }
    return false;
}

// {"AccessKeyId": ..., "SecretAccessKey": ..., "Token": ..., "Expiration": ...}
static enum err from_json(struct credentials *c, const char *source, struct buf *body,
                          struct errmsg *msg)
{
    struct json_parser *parser = json_parser_new(BODY_MAX);
    struct slice access = {0}, secret = {0}, token = {0}, expires = {0};
    struct json root;
    struct errmsg why = {""};
    enum err e = parser ? json_parse(parser, buf_slice(body), &root, &why) : ERR_NO_MEMORY;
    if (e == ERR_OK && json_kind(root) != JSON_OBJECT)
        e = err_set(&why, ERR_INVALID, "it is no object");
    if (e == ERR_NO_MEMORY) {
        e = err_set(msg, e, "%s", err_text(e));
    } else if (e != ERR_OK) {
        e = err_set(msg, ERR_DENIED, "%s: its answer is not what such a service gives: %.200s",
                    source, why.text);
    } else {
        bool complete = member(root, "AccessKeyId", &access);
        complete &= member(root, "SecretAccessKey", &secret);
        complete &= member(root, "Token", &token);
        complete &= member(root, "Expiration", &expires);
        e = take(c, source, access, secret, token, msg);
        c->expires_ms = complete ? iso_date_ms(expires) : 0;
    }
    json_parser_free(parser);
    return e;
}

// One request; anything but 200 is an error that names the source. The body replaces `body`.
static enum err ask(const struct credentials_options *o, const char *source,
                    const struct metadata_request *r, struct buf *body, struct errmsg *msg)
{
    unsigned status = 0;
    buf_clear(body);
    enum err e = o->metadata(o->metadata_arg, r, body, &status);
    if (e == ERR_OK && status != 200)
        return err_set(msg, ERR_DENIED, "%s: %s answers with status %u", source, r->url, status);
    if (e == ERR_NO_MEMORY)
        return err_set(msg, e, "%s", err_text(e));
    if (e != ERR_OK)
        return err_set(msg, ERR_NETWORK, "%s: %s does not answer", source, r->url);
    return ERR_OK;
}

static enum err from_container(struct credentials *c, const struct credentials_options *o,
                               struct buf *body, struct errmsg *msg)
{
    const char *relative = os_env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = os_env("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    const char *token = os_env("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    const char *token_file = os_env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    bool is_relative = relative && *relative;
    if (!is_relative && !(full && *full))
        return ERR_MISSING;
    char url[LIMIT_PATH], header[LIMIT_PATH] = "";
    snprintf(url, sizeof url, "%s%s", is_relative ? CONTAINER_IP : "",
             is_relative ? relative : full);
    uint8_t *data = NULL;
    size_t n;
    if (token_file && *token_file &&
        os_read_file(o->os, token_file, sizeof header - 64, &data, &n) != ERR_OK)
        return err_set(msg, ERR_DENIED, "container: %s cannot be read (%s)", token_file,
                       "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    const char *secret = data ? (const char *)data : token;
    if (secret && *secret)
        snprintf(header, sizeof header, "Authorization: %.*s", (int)strcspn(secret, "\r\n"),
                 secret);
    free(data);
    struct metadata_request r = {"GET", url, *header ? header : NULL};
    enum err e = ask(o, "container", &r, body, msg);
    return e == ERR_OK ? from_json(c, "container", body, msg) : e;
}

// ERR_MISSING: there is no such service here.
static enum err from_instance(struct credentials *c, const struct credentials_options *o,
                              struct buf *body, struct errmsg *msg)
{
    const char *disabled = os_env("AWS_EC2_METADATA_DISABLED");
    if (disabled && strcmp(disabled, "true") == 0)
        return ERR_MISSING;
    const char *base = text_or(os_env("AWS_EC2_METADATA_SERVICE_ENDPOINT"), INSTANCE_IP);
    int base_n = (int)(base[strlen(base) - 1] == '/' ? strlen(base) - 1 : strlen(base));
    char url[LIMIT_PATH], header[LIMIT_PATH];
    snprintf(url, sizeof url, "%.*s/latest/api/token", base_n, base);
    struct metadata_request r = {"PUT", url, "X-aws-ec2-metadata-token-ttl-seconds: 21600"};
    enum err e = ask(o, "instance", &r, body, msg);
    if (e == ERR_NETWORK)
        return ERR_MISSING;
    if (e != ERR_OK)
        return e;
    snprintf(header, sizeof header, "X-aws-ec2-metadata-token: %.*s", (int)buf_len(body),
             (const char *)buf_head(body));
    static const char path[] = "/latest/meta-data/iam/security-credentials/";
    snprintf(url, sizeof url, "%.*s%s", base_n, base, path);
    r = (struct metadata_request){"GET", url, header};
    e = ask(o, "instance", &r, body, msg);
    if (e != ERR_OK)
        return e;
    char role[256];
    struct slice line = buf_slice(body), first;
    if (!next_line(&line, &first) || trim(first).n == 0 || !copy(role, sizeof role, trim(first)))
        return err_set(msg, ERR_DENIED, "instance: it has no role");
    snprintf(url, sizeof url, "%.*s%s%s", base_n, base, path, role);
    e = ask(o, "instance", &r, body, msg);
    return e == ERR_OK ? from_json(c, "instance", body, msg) : e;
}

// ---- all

static enum err from_environment(struct credentials *c, struct errmsg *msg)
{
    const char *access = text_or(os_env("AWS_ACCESS_KEY_ID"), "");
    const char *secret = text_or(os_env("AWS_SECRET_ACCESS_KEY"), "");
    if (!*access && !*secret)
        return ERR_MISSING;
    return take(c, "environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)", slice_str(access),
                slice_str(secret), slice_str(text_or(os_env("AWS_SESSION_TOKEN"), "")), msg);
}

static enum err from_defaults(struct credentials *c, const struct credentials_options *o,
                              struct errmsg *msg)
{
    enum err e = ERR_MISSING;
    if (!(o->profile && *o->profile))
        e = from_environment(c, msg);
    if (e == ERR_MISSING)
        e = from_files(c, o, msg);
    if (e != ERR_MISSING)
        return e;
    struct buf body;
    buf_init(&body, BODY_MAX);
    e = from_container(c, o, &body, msg);
    if (e == ERR_MISSING)
        e = from_instance(c, o, &body, msg);
    buf_release(&body);
    if (e == ERR_MISSING)
        e = err_set(
            msg, ERR_DENIED,
            "no keys: looked at AWS_ACCESS_KEY_ID, ~/.aws/credentials, ~/.aws/config, the "
            "container's and the instance's metadata. Set access_key and secret_key, or one "
            "of these");
    return e;
}

enum err credentials_get(struct credentials *c, const struct credentials_options *o,
                         struct errmsg *msg)
{
    *c = (struct credentials){0};
    const char *access = text_or(o->access_key, ""), *secret = text_or(o->secret_key, "");
    const char *token = text_or(o->token, "");
    if (*access || *secret)
        return take(
            c, *token ? "access_key, secret_key and session_token" : "access_key and secret_key",
            slice_str(access), slice_str(secret), slice_str(token), msg);
    if (!o->use_default)
        return err_set(
            msg, ERR_DENIED,
            "access_key and secret_key must be set where use_default_credentials is off");
    return from_defaults(c, o, msg);
}
