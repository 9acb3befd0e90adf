#include "cli/io.h"
#include "base/limits.h"
#include <stdio.h>
#include <stdlib.h>

enum { CHUNK = 256 << 10, OUT_MAX = 256 << 20 };

static bool is_stdin(const char *path)
{
    return !path || !strcmp(path, "-");
}

enum err input_open(struct input *in, const char *path, size_t max_line, struct errmsg *msg)
{
    *in = (struct input){.os = os_real(), .fd = -1};
    in->name = is_stdin(path) ? "standard input" : path;
    buf_init(&in->buf, max_line + CHUNK);
    if (is_stdin(path))
        return ERR_OK;
    enum err e = os_open(in->os, path, OS_READ, &in->fd);
    if (e) {
        in->fd = -1;
        return err_set(msg, e, "%s: %s", path, os_last_error());
    }
    // Not for pipes and the like, which tell no size.
    if (os_size(in->os, in->fd, &in->size))
        in->size = 0;
    return ERR_OK;
}

// Reads a chunk more.
static enum err fill(struct input *in, struct errmsg *msg)
{
    size_t got = 0;
    enum err e = buf_reserve(&in->buf, CHUNK);
    if (e)
        return err_set(msg, e, "%s: line %llu: %s", in->name, (unsigned long long)in->line + 1,
                       err_text(e));
    if (in->fd >= 0) {
        e = os_pread(in->os, in->fd, buf_tail(&in->buf), CHUNK, in->at, &got);
    } else {
        e = os_input_read(buf_tail(&in->buf), CHUNK, &got);
    }
    if (e)
        return err_set(msg, e, "%s: %s", in->name, err_text(e));
    in->buf.end += got;
    in->at += got;
    in->ended = got == 0;
    return ERR_OK;
}

enum err input_line(struct input *in, struct slice *line, struct errmsg *msg)
{
    buf_consume(&in->buf, in->taken);
    in->taken = in->seen = 0;
    for (;;) {
        size_t have = buf_len(&in->buf);
        const uint8_t *head = have ? buf_head(&in->buf) : NULL;
        const uint8_t *end =
            have > in->seen ? memchr(head + in->seen, '\n', have - in->seen) : NULL;
        if (end || (in->ended && have)) {
            size_t n = end ? (size_t)(end - head) : have;
            *line = slice_of(head, n);
            in->taken = end ? n + 1 : n;
            in->line++;
            return ERR_OK;
        }
        if (in->ended)
            return ERR_MISSING;
        in->seen = have;
        enum err e = fill(in, msg);
        if (e)
            return e;
    }
}

bool input_ready(const struct input *in)
{
    const uint8_t *head = buf_len(&in->buf) > in->taken ? buf_head(&in->buf) + in->taken : NULL;
    bool line = head && memchr(head, '\n', buf_len(&in->buf) - in->taken);
    return line || in->fd >= 0 || in->ended || os_input_ready();
}

void input_close(struct input *in)
{
    if (in->fd >= 0)
        (void)!os_close(in->os, in->fd);
    buf_release(&in->buf);
}

enum err input_all(const char *path, struct buf *out, struct errmsg *msg)
{
    struct input in;
    enum err e = input_open(&in, path, 0, msg);
    while (!e && !in.ended) {
        e = fill(&in, msg);
        if (!e && buf_len(&in.buf)) {
            e = buf_append(out, buf_head(&in.buf), buf_len(&in.buf));
            if (e)
                (void)err_set(msg, e, "%s: %s", in.name, err_text(e));
        }
        buf_clear(&in.buf);
    }
    input_close(&in);
    return e;
}

static bool part_name(const struct output *out, char *name, size_t cap)
{
    int n = snprintf(name, cap, "%s.part", out->path);
    return n > 0 && (size_t)n < cap;
}

enum err output_open(struct output *out, const char *path, struct errmsg *msg)
{
    char part[LIMIT_PATH];
    *out = (struct output){.os = os_real(), .path = path, .fd = -1};
    buf_init(&out->buf, OUT_MAX);
    if (!path)
        return ERR_OK;
    if (!part_name(out, part, sizeof part))
        return err_set(msg, ERR_INVALID, "the file name is too long");
    enum err e = os_open(out->os, part, OS_WRITE | OS_CREATE | OS_TRUNCATE, &out->fd);
    if (e)
        out->fd = -1;
    return e ? err_set(msg, e, "%s: %s", part, os_last_error()) : ERR_OK;
}

enum err output_flush(struct output *out, size_t at_least, struct errmsg *msg)
{
    size_t n = buf_len(&out->buf);
    enum err e = ERR_OK;
    if (n < at_least || n == 0)
        return ERR_OK;
    if (!out->path && fwrite(buf_head(&out->buf), 1, n, stdout) < n)
        return err_set(msg, ERR_IO, "standard output: %s", err_text(ERR_IO));
    if (out->path)
        e = os_pwrite(out->os, out->fd, buf_head(&out->buf), n, out->at);
    if (e)
        return err_set(msg, e, "%s.part: %s", out->path, os_last_error());
    out->at += n;
    buf_clear(&out->buf);
    return ERR_OK;
}

// The directory of a path, for syncing.
static void directory(const char *path, char *dir, size_t cap)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        snprintf(dir, cap, ".");
    else
        snprintf(dir, cap, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

static enum err finish_file(struct output *out, const char *part, struct errmsg *msg)
{
    char dir[LIMIT_PATH];
    directory(out->path, dir, sizeof dir);
    enum err e = os_sync(out->os, out->fd);
    e = e ? e : os_rename(out->os, part, out->path);
    e = e ? e : os_sync_dir(out->os, dir);
    return e ? err_set(msg, e, "%s: %s", out->path, os_last_error()) : ERR_OK;
}

enum err output_close(struct output *out, bool keep, struct errmsg *msg)
{
    char part[LIMIT_PATH];
    enum err e = keep ? output_flush(out, 0, msg) : ERR_OK;
    if (!out->path && !e && fflush(stdout))
        e = err_set(msg, ERR_IO, "standard output: %s", err_text(ERR_IO));
    if (out->fd >= 0 && part_name(out, part, sizeof part)) {
        if (keep && !e)
            e = finish_file(out, part, msg);
        (void)!os_close(out->os, out->fd);
        if (!keep || e)
            (void)!os_unlink(out->os, part);
    }
    buf_release(&out->buf);
    return e;
}
