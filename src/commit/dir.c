// The data directory's own files, beside the log's and the store's:
//
//   LOCK        empty; locked while a process uses the directory
//   STORE       "varve store\nformat 1\nid <16 hex digits>\n", written last when the directory is
//   made CHECKPOINT  "varve checkpoint\nseq <n>\nfloor <n>\ncrc <8 hex digits of all before this
//   line>\n" wal/        log segments (wal/wal.c) db/         the store below (RocksDB)
//
// STORE and CHECKPOINT are replaced whole: written aside, synced, renamed, directory synced. A
// missing CHECKPOINT means that there has been none: sequence 0.
#include "commit/commit_int.h"
#include "base/assert.h"
#include "base/hash.h"
#include "base/log.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define STORE_FORMAT 1

void dir_path(const struct commit *c, const char *name, char *path, size_t cap)
{
    snprintf(path, cap, "%s/%s", c->dir, name);
}

struct dir_survey {
    bool store;
    char other[256]; // a name that does not belong in a new directory, or ""
};

static void survey_entry(void *arg, const char *name)
{
    struct dir_survey *s = arg;
    if (!strcmp(name, "STORE"))
        s->store = true;
    else if (strcmp(name, "LOCK") && strcmp(name, "wal") && strcmp(name, "db") &&
             strcmp(name, "STORE.tmp") && strcmp(name, "CHECKPOINT.tmp") &&
             strcmp(name, "lost+found"))
        snprintf(s->other, sizeof s->other, "%s", name);
}

static enum err make_dir(struct os *os, const char *path, struct errmsg *msg)
{
    enum err e = os_mkdir(os, path);
    if (e == ERR_EXISTS || e == ERR_OK)
        return ERR_OK;
    return err_set(msg, e, "cannot create directory %s: %s", path, os_last_error());
}

static enum err sync_parent(struct os *os, const char *path)
{
    char parent[LIMIT_PATH];
    snprintf(parent, sizeof parent, "%s", path);
    size_t n = strlen(parent);
    while (n > 1 && parent[n - 1] == '/')
        parent[--n] = 0;
    char *slash = strrchr(parent, '/');
    if (!slash)
        return os_sync_dir(os, ".");
    slash[slash == parent ? 1 : 0] = 0;
    return os_sync_dir(os, parent);
}

static enum err read_store_file(struct commit *c, struct errmsg *msg)
{
    char path[LIMIT_PATH];
    dir_path(c, "STORE", path, sizeof path);
    uint8_t *text;
    size_t n;
    enum err e = os_read_file(c->o.os, path, 4096, &text, &n);
    if (e)
        return err_set(msg, e, "cannot read %s: %s", path, os_last_error());
    unsigned format = 0;
    static const char head[] = "varve store\nformat ";
    static const char id[] = "\nid ";
    char *end = (char *)text;
    if (n < sizeof head || memcmp(text, head, sizeof head - 1)) {
        e = err_set(msg, ERR_DAMAGED, "%s does not say that this is a varve data directory", path);
    } else {
        format = (unsigned)strtoul((char *)text + sizeof head - 1, &end, 10);
        if (format != STORE_FORMAT)
            e = err_set(msg, ERR_FORMAT, "%s: the data is in format %u, this varve reads format %d",
                        path, format, STORE_FORMAT);
        else if (strncmp(end, id, sizeof id - 1))
            e = err_set(msg, ERR_DAMAGED, "%s has no id line", path);
        else
            c->store_id = strtoull(end + sizeof id - 1, NULL, 16);
    }
    free(text);
    return e;
}

static enum err write_store_file(struct commit *c, struct errmsg *msg)
{
    os_random(c->o.os, &c->store_id, sizeof c->store_id);
    char text[96];
    int n = snprintf(text, sizeof text, "varve store\nformat %d\nid %016" PRIx64 "\n", STORE_FORMAT,
                     c->store_id);
    enum err e = os_replace_file(c->o.os, c->dir, "STORE", text, (size_t)n);
    return e ? err_set(msg, e, "cannot write %s/STORE: %s", c->dir, os_last_error()) : ERR_OK;
}

enum err dir_open(struct commit *c, bool create, bool *created, struct errmsg *msg)
{
    struct os *os = c->o.os;
    char path[LIMIT_PATH];
    enum err e;
    *created = false;
    if (create && (e = make_dir(os, c->dir, msg)))
        return e;
    dir_path(c, "LOCK", path, sizeof path);
    e = os_lock(os, path, &c->lock_fd);
    if (e == ERR_IN_USE)
        return err_set(msg, e, "data directory %s is in use by another process", c->dir);
    if (e)
        return err_set(msg, e, "cannot lock data directory %s: %s", c->dir, os_last_error());
    struct dir_survey s = {0};
    if ((e = os_list(os, c->dir, survey_entry, &s)))
        return err_set(msg, e, "cannot list %s: %s", c->dir, os_last_error());
    if (s.store)
        return read_store_file(c, msg);
    if (!create)
        return err_set(msg, ERR_MISSING, "%s is not a varve data directory (no STORE file)",
                       c->dir);
    if (s.other[0])
        return err_set(msg, ERR_INVALID,
                       "%s is not empty and not a varve data directory: it holds %s", c->dir,
                       s.other);
    dir_path(c, "wal", path, sizeof path);
    if ((e = make_dir(os, path, msg)))
        return e;
    dir_path(c, "db", path, sizeof path);
    if ((e = make_dir(os, path, msg)))
        return e;
    // STORE says that the rest is there, so the rest comes first.
    if ((e = os_sync_dir(os, c->dir)))
        return err_set(msg, e, "cannot sync %s: %s", c->dir, os_last_error());
    if ((e = write_store_file(c, msg)))
        return e;
    if ((e = sync_parent(os, c->dir)))
        return err_set(msg, e, "cannot sync the directory above %s: %s", c->dir, os_last_error());
    *created = true;
    return ERR_OK;
}

// Reads "name <number>\n" at *p and steps over it.
static bool read_line(const char **p, const char *name, uint64_t *number)
{
    size_t n = strlen(name);
    if (strncmp(*p, name, n) || (*p)[n] != ' ')
        return false;
    char *end;
    *number = strtoull(*p + n + 1, &end, 10);
    if (end == *p + n + 1 || *end != '\n')
        return false;
    *p = end + 1;
    return true;
}

enum err dir_read_mark(struct commit *c, struct checkpoint_mark *m, struct errmsg *msg)
{
    char path[LIMIT_PATH];
    dir_path(c, "CHECKPOINT", path, sizeof path);
    uint8_t *text;
    size_t n;
    *m = (struct checkpoint_mark){0};
    enum err e = os_read_file(c->o.os, path, 4096, &text, &n);
    if (e == ERR_MISSING)
        return ERR_OK;
    if (e)
        return err_set(msg, e, "cannot read %s: %s", path, os_last_error());
    const char *p = (const char *)text;
    static const char head[] = "varve checkpoint\n";
    bool ok = !strncmp(p, head, sizeof head - 1);
    p += ok ? sizeof head - 1 : 0;
    ok = ok && read_line(&p, "seq", &m->seq) && read_line(&p, "floor", &m->floor);
    if (ok) {
        uint32_t crc = crc32c(0, text, (size_t)(p - (const char *)text));
        char want[32];
        snprintf(want, sizeof want, "crc %08" PRIx32 "\n", crc);
        ok = !strcmp(p, want);
    }
    free(text);
    return ok ? ERR_OK : err_set(msg, ERR_DAMAGED, "%s is damaged", path);
}

enum err dir_write_mark(struct commit *c, const struct checkpoint_mark *m)
{
    char text[160];
    int n = snprintf(text, sizeof text, "varve checkpoint\nseq %" PRIu64 "\nfloor %" PRIu64 "\n",
                     m->seq, m->floor);
    uint32_t crc = crc32c(0, text, (size_t)n);
    n += snprintf(text + n, sizeof text - (size_t)n, "crc %08" PRIx32 "\n", crc);
    return os_replace_file(c->o.os, c->dir, "CHECKPOINT", text, (size_t)n);
}

// A process that ended between the renaming of CHECKPOINT and the sync of its directory, or whose
// sync failed, left a mark that is seen and not durable. Recovery lets go of the log that the mark
// covers, so the mark is written anew first: a second sync need not keep what a first one lost.
enum err dir_keep_mark(struct commit *c, struct errmsg *msg)
{
    if (c->mark.seq == 0 || VARVE_BUG == 53)
        return ERR_OK;
    enum err e = dir_write_mark(c, &c->mark);
    return e ? err_set(msg, e, "cannot write %s/CHECKPOINT: %s", c->dir, os_last_error()) : ERR_OK;
}
