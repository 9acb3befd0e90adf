#include "store/spool.h"
#include "base/buf.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NAMES_MAX (16u << 20) // bytes of file names in the directory

static char *join(const char *dir, const char *name)
{
    size_t n = strlen(dir) + strlen(name) + 2;
    char *path = malloc(n);
    if (path)
        snprintf(path, n, "%s/%s", dir, name);
    return path;
}

enum err spool_init(struct spool *sp, struct os *os, const char *dir)
{
    *sp = (struct spool){.os = os, .dir = dir, .path = join(dir, "ingest-tmp")};
    return sp->path ? ERR_OK : ERR_NO_MEMORY;
}

void spool_release(struct spool *sp)
{
    free(sp->path);
    sp->path = NULL;
}

char *spool_file(const struct spool *sp, unsigned space, uint64_t index)
{
    char name[48];
    snprintf(name, sizeof name, "%u-%06" PRIu64 ".sst", space, index);
    return join(sp->path, name);
}

// DIR/NUMBER.sst
static char *table_file(const struct spool *sp, uint64_t number)
{
    char name[32];
    snprintf(name, sizeof name, "%06" PRIu64 ".sst", number);
    return join(sp->dir, name);
}

struct name_list {
    struct buf names; // NUL-terminated, one after another
    enum err e;
};

static void add_name(void *arg, const char *name)
{
    struct name_list *l = arg;
    if (l->e == ERR_OK)
        l->e = buf_append(&l->names, name, strlen(name) + 1);
}

enum err spool_clean(struct spool *sp, struct errmsg *msg)
{
    enum err e = os_mkdir(sp->os, sp->path);
    if (e != ERR_OK && e != ERR_EXISTS)
        return err_set(msg, e, "%s: cannot create directory: %s", sp->path, os_last_error());
    struct name_list l = {.e = ERR_OK};
    buf_init(&l.names, NAMES_MAX);
    e = os_list(sp->os, sp->path, add_name, &l);
    if (e == ERR_OK)
        e = l.e;
    while (e == ERR_OK && buf_len(&l.names) > 0) {
        const char *name = (const char *)buf_head(&l.names);
        char *path = join(sp->path, name);
        e = path ? os_unlink(sp->os, path) : ERR_NO_MEMORY;
        free(path);
        buf_consume(&l.names, strlen(name) + 1);
    }
    buf_release(&l.names);
    if (e != ERR_OK)
        return err_set(msg, e, "%s: cannot be emptied: %s", sp->path, err_text(e));
    return ERR_OK;
}

struct find {
    struct spool_group g;
    uint64_t last;
};

static void note_name(void *arg, const char *name)
{
    struct find *f = arg;
    char *end;
    unsigned long space = strtoul(name, &end, 10);
    if (end == name || *end != '-')
        return;
    const char *digits = end + 1;
    uint64_t index = strtoull(digits, &end, 10);
    if (end == digits || strcmp(end, ".sst") != 0)
        return;
    if (f->g.count == 0 || space < f->g.space)
        *f = (struct find){{(unsigned)space, index, 0}, index};
    if (space != f->g.space)
        return;
    f->g.count++;
    if (index < f->g.first)
        f->g.first = index;
    if (index > f->last)
        f->last = index;
}

bool spool_left(struct spool *sp, struct spool_group *g)
{
    struct find f = {0};
    if (os_list(sp->os, sp->path, note_name, &f) != ERR_OK)
        return false;
    *g = f.g;
    return g->count > 0 && f.last - g->first + 1 == g->count;
}

static enum err move_one(struct spool *sp, unsigned space, uint64_t index, uint64_t number,
                         bool back)
{
    char *here = spool_file(sp, space, index), *there = table_file(sp, number);
    enum err e = here && there ? ERR_OK : ERR_NO_MEMORY;
    int fd;
    if (e == ERR_OK && !back && os_open(sp->os, there, OS_READ, &fd) == ERR_OK) {
        ERR_IGNORE(os_close(sp->os, fd)); // only looked at
        e = ERR_EXISTS;
    }
    if (e == ERR_OK)
        e = back ? os_rename(sp->os, there, here) : os_rename(sp->os, here, there);
    free(here);
    free(there);
    return e;
}

static enum err sync_dirs(struct spool *sp)
{
    enum err e = os_sync_dir(sp->os, sp->dir);
    return e == ERR_OK ? os_sync_dir(sp->os, sp->path) : e;
}

enum err spool_move(struct spool *sp, const struct spool_group *g, uint64_t base)
{
    enum err e = ERR_OK;
    uint64_t i = 0;
    // Upwards, so that a crash in between leaves a group without gaps.
    for (; i < g->count && e == ERR_OK; i++)
        e = move_one(sp, g->space, g->first + i, base + g->first + i, false);
    if (e == ERR_OK)
        return sync_dirs(sp);
    struct spool_group done = {g->space, g->first, i - 1};
    enum err back = spool_move_back(sp, &done, base);
    return back == ERR_OK ? e : back;
}

enum err spool_move_back(struct spool *sp, const struct spool_group *g, uint64_t base)
{
    enum err e = ERR_OK;
    for (uint64_t i = g->count; i-- > 0 && e == ERR_OK;)
        e = move_one(sp, g->space, g->first + i, base + g->first + i, true);
    return e == ERR_OK ? sync_dirs(sp) : e;
}
