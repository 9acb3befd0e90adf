#include "cli/objects.h"
#include "archive/name.h"
#include "base/config.h"
#include "base/ini.h"
#include "object/settings.h"
#include <stdio.h>
#include <stdlib.h>

static const struct config_key keys[] = {CONFIG_S3(CONFIG_ROW)};
static const struct config_catalogue catalogue = {keys, sizeof keys / sizeof *keys};

bool objects_is(const char *operand)
{
    return !strncmp(operand, "s3://", 5) || !strncmp(operand, "dir://", 6);
}

// ---- settings

static enum err load_key(void *arg, const struct ini_key *key, struct errmsg *msg)
{
    return strcmp(key->section, "s3") ? ERR_OK : config_load_key(arg, key, NULL, msg);
}

static enum err gather(struct config *c, const struct objects_options *o, struct errmsg *msg)
{
    enum err e = o->config ? ini_read(o->config, load_key, c, msg) : ERR_OK;
    e = e ? e : config_load_env(c, "VARVE_S3_", msg);
    if (!e && o->endpoint)
        e = config_set(c, config_id(c, "s3.endpoint"), o->endpoint, "--endpoint", msg);
    if (!e && o->region)
        e = config_set(c, config_id(c, "s3.region"), o->region, "--region", msg);
    if (!e && o->profile)
        e = config_set(c, config_id(c, "s3.profile"), o->profile, "--profile", msg);
    if (!e && o->path_style)
        e = config_set(c, config_id(c, "s3.path_style"), "true", "--path-style", msg);
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
        return err_set(
            msg, ERR_INVALID,
            "a keyspace and a key are wanted at its end: s3://BUCKET/PREFIX/KEYSPACE/KEY or "
            "dir:///PATH/PREFIX/KEYSPACE/KEY");
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

static enum err open_store(struct objects *o, bool s3, char *path, const struct config *c,
                           struct errmsg *msg)
{
    char prefix[OBJECT_NAME_MAX + 2] = "";
    struct object_options options = {.os = os_real(),
                                     .kind = s3 ? OBJECT_S3 : OBJECT_DIRECTORY,
                                     .dir = *path ? path : "/",
                                     .prefix = prefix};
    if (s3) {
        char *rest = strchr(path, '/');
        if (rest == path || !*path)
            return err_set(msg, ERR_INVALID, "it names no bucket: s3://BUCKET/PREFIX/KEYSPACE/KEY");
        if (rest)
            *rest++ = 0;
        if (rest && strlen(rest) > OBJECT_NAME_MAX)
            return err_set(msg, ERR_TOO_BIG, "its prefix is too long");
        if (rest)
            snprintf(prefix, sizeof prefix, "%s/", rest);
        options.s3 = object_s3_settings(c);
        options.s3.bucket = path;
    }
    return object_open(&o->store, &options, msg);
}

static enum err open_operand(struct objects *o, const char *operand, bool named,
                             const struct objects_options *options, struct errmsg *msg)
{
    bool s3 = operand[0] == 's';
    struct os_stat st;
    struct config *c = config_new(&catalogue);
    char *path = strdup(operand + (s3 ? 5 : 6));
    *o = (struct objects){.store = NULL};
    buf_init(&o->names, 4096);
    enum err e = c && path ? ERR_OK : err_set(msg, ERR_NO_MEMORY, "out of memory");
    if (!e && !s3 && path[0] != '/')
        e = err_set(msg, ERR_INVALID, "a directory's path begins with '/': dir:///...");
    if (!e && named)
        e = take_names(o, path, msg);
    e = e ? e : gather(c, options, msg);
    if (!e && !s3 && os_stat(os_real(), *path ? path : "/", &st)) // reading makes no directories
        e = err_set(msg, ERR_IO, "%s: %s", path, os_last_error());
    e = e ? e : open_store(o, s3, path, c, msg);
    e = e ? e : archive_reader_new(&o->reader, o->store, NULL, msg);
    config_free(c);
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
