// Whole-file helpers: only what the os seam offers, so that they run in the simulation too.
#include "base/os.h"
#include "base/limits.h"

#include <stdio.h>
#include <stdlib.h>

enum err os_read_file(struct os *os, const char *path, size_t max, uint8_t **data, size_t *n)
{
    *data = NULL;
    *n = 0;
    int fd;
    enum err e = os_open(os, path, OS_READ, &fd);
    if (e != ERR_OK)
        return e;
    uint64_t size = 0;
    e = os_size(os, fd, &size);
    if (e == ERR_OK && size > max)
        e = ERR_TOO_BIG;
    uint8_t *block = NULL;
    if (e == ERR_OK && !(block = malloc((size_t)size + 1)))
        e = ERR_NO_MEMORY;
    size_t got = 0;
    if (e == ERR_OK)
        e = os_pread(os, fd, block, (size_t)size, 0, &got);
    ERR_IGNORE(os_close(os, fd)); // only read
    if (e != ERR_OK) {
        free(block);
        return e;
    }
    block[got] = 0;
    *data = block;
    *n = got;
    return ERR_OK;
}

// Writes and syncs a new file at `path`.
static enum err write_file(struct os *os, const char *path, const void *p, size_t n)
{
    int fd;
    enum err e = os_open(os, path, OS_WRITE | OS_CREATE | OS_TRUNCATE, &fd);
    if (e != ERR_OK)
        return e;
    e = os_pwrite(os, fd, p, n, 0);
    if (e == ERR_OK)
        e = os_sync(os, fd);
    enum err closed = os_close(os, fd);
    return e != ERR_OK ? e : closed;
}

enum err os_replace_file(struct os *os, const char *dir, const char *name, const void *p, size_t n)
{
    char path[LIMIT_PATH], tmp[LIMIT_PATH];
    int a = snprintf(path, sizeof path, "%s/%s", dir, name);
    int b = snprintf(tmp, sizeof tmp, "%s/%s.tmp", dir, name);
    if (a < 0 || b < 0 || (size_t)b >= sizeof tmp)
        return ERR_TOO_BIG;
    enum err e = write_file(os, tmp, p, n);
    if (e == ERR_OK)
        e = os_rename(os, tmp, path); // only after the sync: a rename may survive alone
    if (e != ERR_OK) {
        ERR_IGNORE(os_unlink(os, tmp)); // the next replace would truncate it anyway
        return e;
    }
    return os_sync_dir(os, dir);
}
