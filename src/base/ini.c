// INI files over libinih. Lines are cut here, so that every error knows its line and nothing is
// silently joined, split or dropped.
#include "base/ini.h"
#include "base/limits.h"
#include "base/os.h"

#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A file being read. libinih goes on after an error; the first one is kept.
struct load {
    ini_fn fn;
    void *arg;
    const char *path;
    const char *at, *end; // what is left of the text
    unsigned line;        // number of the last line handed to libinih
    enum err err;
    struct errmsg *msg;
};

// libinih's reader: one line a call, without indentation (which it would take for a continuation of
// the line before), or NULL at the end.
static char *load_line(char *line, int cap, void *arg)
{
    struct load *l = arg;
    if (l->err != ERR_OK || l->at == l->end)
        return NULL;
    l->line++;
    const char *newline = memchr(l->at, '\n', (size_t)(l->end - l->at));
    const char *start = l->at, *end = newline ? newline : l->end;
    l->at = newline ? newline + 1 : l->end;
    while (start < end && (*start == ' ' || *start == '\t'))
        start++;
    size_t n = (size_t)(end - start);
    if (memchr(start, 0, n)) {
        l->err = err_set(l->msg, ERR_INVALID, "%s:%u: a NUL byte", l->path, l->line);
        return NULL;
    }
    if (n + 2 > (size_t)cap) {
        l->err = err_set(l->msg, ERR_INVALID, "%s:%u: the line is longer than %d bytes", l->path,
                         l->line, cap - 2);
        return NULL;
    }
    memcpy(line, start, n);
    line[n] = '\n';
    line[n + 1] = 0;
    return line;
}

// libinih's handler: 0 for an error.
static int load_key(void *arg, const char *section, const char *name, const char *value)
{
    struct load *l = arg;
    if (l->err != ERR_OK)
        return 0;
    char where[LIMIT_PATH + 16], plain[INI_MAX_LINE];
    (void)snprintf(where, sizeof where, "%s:%u", l->path, l->line);
    // A value in double quotes is what is between them.
    size_t n = strlen(value);
    bool quoted = n >= 2 && n < sizeof plain && value[0] == '"' && value[n - 1] == '"';
    if (quoted) {
        memcpy(plain, value + 1, n - 2);
        plain[n - 2] = 0;
    }
    const struct ini_key key = {where, l->line, section, name, quoted ? plain : value};
    if (!*section)
        l->err =
            err_set(l->msg, ERR_INVALID, "%s: key \"%s\" stands before any [section]", where, name);
    else
        l->err = l->fn(l->arg, &key, l->msg);
    return l->err == ERR_OK;
}

enum err ini_read(const char *path, ini_fn fn, void *arg, struct errmsg *msg)
{
    uint8_t *text;
    size_t n;
    enum err e = os_read_file(os_real(), path, LIMIT_CONFIG_FILE, &text, &n);
    if (e == ERR_TOO_BIG)
        return err_set(msg, e, "%s: longer than %u bytes", path, LIMIT_CONFIG_FILE);
    if (e != ERR_OK)
        return err_set(msg, e, "cannot read %s: %s", path,
                       e == ERR_NO_MEMORY ? err_text(e) : os_last_error());
    struct load l = {.fn = fn,
                     .arg = arg,
                     .path = path,
                     .at = (const char *)text,
                     .end = (const char *)text + n,
                     .msg = msg};
    int bad_line = ini_parse_stream(load_line, &l, load_key, &l);
    // libinih's own complaint comes without a call of the handler, so it counts when nothing was
    // wrong before that line.
    if (bad_line < 0)
        l.err = err_set(msg, ERR_NO_MEMORY, "%s: out of memory", path);
    else if (bad_line > 0 && (l.err == ERR_OK || (unsigned)bad_line < l.line))
        l.err =
            err_set(msg, ERR_INVALID, "%s:%d: neither [section] nor key = value", path, bad_line);
    free(text);
    return l.err;
}
