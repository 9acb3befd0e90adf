#include "cli/objects.h"
#include "archive/name.h"
#include "cli/io.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

// The keys of [s3] that say how to reach a store; the others of that section are writers'.
#define S3_TEXTS(X)   \
    X(endpoint)       \
    X(region)         \
    X(access_key)     \
    X(secret_key)     \
    X(security_token) \
    X(session_token)  \
    X(profile)
#define S3_FLAGS(X) \
    X(path_style)   \
    X(use_default_credentials)

enum {
#define X(name) S3_##name,
    S3_TEXTS(X) S3_FLAGS(X)
#undef X
        S3_KEYS
};

static const char *const names[S3_KEYS] = {
#define X(name) #name,
    S3_TEXTS(X) S3_FLAGS(X)
#undef X
};

enum { VALUE_MAX = 2048, LINE_MAX_BYTES = 4096 };

struct settings {
    char value[S3_KEYS][VALUE_MAX]; // "": not set
};

bool objects_is(const char *operand)
{
    return !strncmp(operand, "s3://", 5) || !strncmp(operand, "dir://", 6);
}

// ---- settings

static enum err set(struct settings *s, int key, const char *value, const char *where,
                    struct errmsg *msg)
{
    bool flag = key >= S3_path_style;
    if (strlen(value) >= VALUE_MAX)
        return err_set(msg, ERR_TOO_BIG, "%s: %s is too long", where, names[key]);
    if (flag && *value && strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
        return err_set(msg, ERR_INVALID, "%s: %s: \"%.100s\" is neither true nor false", where,
                       names[key], value);
    snprintf(s->value[key], VALUE_MAX, "%s", value);
    return ERR_OK;
}

static struct slice trim(struct slice s)
{
    while (s.n && isspace(s.p[0]))
        s = slice_of(s.p + 1, s.n - 1);
    while (s.n && isspace(s.p[s.n - 1]))
        s.n--;
    return s;
}

// One line of [s3]: KEY = VALUE, perhaps in double quotes.
static enum err take_line(struct settings *s, struct slice line, const char *where,
                          struct errmsg *msg)
{
    const uint8_t *equals = memchr(line.p, '=', line.n);
    char text[LINE_MAX_BYTES];
    if (!equals)
        return err_set(msg, ERR_INVALID, "%s: neither [section] nor key = value", where);
    struct slice key = trim(slice_of(line.p, (size_t)(equals - line.p)));
    struct slice value = trim(slice_of(equals + 1, (size_t)(line.p + line.n - (equals + 1))));
    if (value.n >= 2 && value.p[0] == '"' && value.p[value.n - 1] == '"')
        value = slice_of(value.p + 1, value.n - 2);
    for (int i = 0; i < S3_KEYS; i++)
        if (slice_equal(key, slice_str(names[i]))) {
            snprintf(text, sizeof text, "%.*s", (int)value.n, (const char *)value.p);
            return set(s, i, text, where, msg);
        }
    return ERR_OK;
}

static enum err load_file(struct settings *s, const char *path, struct errmsg *msg)
{
    struct input in;
    struct slice line;
    bool ours = false;
    enum err e = input_open(&in, path, LINE_MAX_BYTES - 1, msg);
    if (e)
        return e;
    while (!(e = input_line(&in, &line, msg))) {
        char where[300];
        snprintf(where, sizeof where, "%.200s:%llu", path, (unsigned long long)in.line);
        line = trim(line);
        if (line.n == 0 || line.p[0] == '#' || line.p[0] == ';')
            continue;
        if (line.p[0] == '[')
            ours = slice_equal(line, slice_str("[s3]"));
        else if (ours)
            e = take_line(s, line, where, msg);
        if (e)
            break;
    }
    input_close(&in);
    return e == ERR_MISSING ? ERR_OK : e;
}

static enum err load_env(struct settings *s, struct errmsg *msg)
{
    enum err e = ERR_OK;
    for (int i = 0; i < S3_KEYS && !e; i++) {
        char name[64];
        int n = snprintf(name, sizeof name, "VARVE_S3_%s", names[i]);
        for (int j = 0; j < n; j++)
            name[j] = (char)toupper((unsigned char)name[j]);
        if (os_env(name))
            e = set(s, i, os_env(name), name, msg);
    }
    return e;
}

static enum err gather(struct settings *s, const struct objects_options *o, struct errmsg *msg)
{
    enum err e = o->config ? load_file(s, o->config, msg) : ERR_OK;
    e = e ? e : load_env(s, msg);
    if (!e && o->endpoint)
        e = set(s, S3_endpoint, o->endpoint, "--endpoint", msg);
    if (!e && o->region)
        e = set(s, S3_region, o->region, "--region", msg);
    if (!e && o->profile)
        e = set(s, S3_profile, o->profile, "--profile", msg);
    if (!e && o->path_style)
        e = set(s, S3_path_style, "true", "--path-style", msg);
    return e;
}

// ---- opening

// Cuts the last two parts off `path`, which is ended before them, and decodes them.
static enum err take_names(struct objects *o, char *path, struct errmsg *msg)
{
    char *key = strrchr(path, '/');
    if (key)
        *key++ = 0;
    char *keyspace = key ? strrchr(path, '/') : NULL;
    if (!keyspace)
        return err_set(msg, ERR_INVALID, "a keyspace and a key are wanted at its end");
    *keyspace++ = 0;
    enum err e = name_decode(slice_str(keyspace), true, &o->names);
    size_t n = buf_len(&o->names);
    e = e ? e : name_decode(slice_str(key), false, &o->names);
    if (e)
        return err_set(msg, ERR_INVALID,
                       "\"%.200s/%.200s\" is not how a keyspace and a key stand in object names: "
                       "percent-encode what is special (%%2F for /), and only that",
                       keyspace, key);
    o->log.keyspace = slice_of(buf_head(&o->names), n);
    o->log.key = slice_of(buf_head(&o->names) + n, buf_len(&o->names) - n);
    return ERR_OK;
}

static enum err open_store(struct objects *o, bool s3, char *path, const struct settings *s,
                           struct errmsg *msg)
{
    char prefix[OBJECT_NAME_MAX + 2] = "";
    struct object_options options = {.os = os_real(),
                                     .kind = s3 ? OBJECT_S3 : OBJECT_DIRECTORY,
                                     .dir = *path ? path : "/",
                                     .prefix = prefix};
    if (s3) {
        char *rest = strchr(path, '/');
        if (rest)
            *rest++ = 0;
        if (rest && strlen(rest) > OBJECT_NAME_MAX)
            return err_set(msg, ERR_TOO_BIG, "its prefix is too long");
        if (rest)
            snprintf(prefix, sizeof prefix, "%s/", rest);
        options.s3 = (struct object_s3_options){
            .bucket = path,
#define X(name) .name = s->value[S3_##name],
            S3_TEXTS(X)
#undef X
                .path_style = !strcmp(s->value[S3_path_style], "true"),
            .use_default_credentials = strcmp(s->value[S3_use_default_credentials], "false") != 0};
    }
    return object_open(&o->store, &options, msg);
}

static enum err open_operand(struct objects *o, const char *operand, bool named,
                             const struct objects_options *options, struct errmsg *msg)
{
    bool s3 = operand[0] == 's';
    struct os_stat st;
    struct settings *s = calloc(1, sizeof *s);
    char *path = strdup(operand + (s3 ? 5 : 6));
    *o = (struct objects){.store = NULL};
    buf_init(&o->names, 4096);
    enum err e = s && path ? ERR_OK : err_set(msg, ERR_NO_MEMORY, "out of memory");
    if (!e && !s3 && path[0] != '/')
        e = err_set(msg, ERR_INVALID, "a directory's path begins with '/': dir:///...");
    if (!e && named)
        e = take_names(o, path, msg);
    e = e ? e : gather(s, options, msg);
    if (!e && !s3 && os_stat(os_real(), *path ? path : "/", &st)) // reading makes no directories
        e = err_set(msg, ERR_IO, "%s: %s", path, os_last_error());
    e = e ? e : open_store(o, s3, path, s, msg);
    e = e ? e : archive_reader_new(&o->reader, o->store, NULL, msg);
    free(s);
    free(path);
    if (e)
        objects_close(o);
    return e;
}

enum err objects_open(struct objects *o, const char *operand, const struct objects_options *options,
                      struct errmsg *msg)
{
    return open_operand(o, operand, true, options, msg);
}

enum err objects_open_below(struct objects *o, const char *operand,
                            const struct objects_options *options, struct errmsg *msg)
{
    char text[OBJECT_NAME_MAX + 256];
    size_t n = strlen(operand), least = operand[0] == 's' ? 5 : 7; // "s3://", "dir:///"
    while (n > least && operand[n - 1] == '/')
        n--;
    if (n >= sizeof text) {
        *o = (struct objects){.store = NULL};
        return err_set(msg, ERR_TOO_BIG, "it is too long");
    }
    snprintf(text, sizeof text, "%.*s", (int)n, operand);
    return open_operand(o, text, false, options, msg);
}

void objects_close(struct objects *o)
{
    archive_reader_free(o->reader);
    object_close(o->store);
    buf_release(&o->names);
    *o = (struct objects){.store = NULL};
}
