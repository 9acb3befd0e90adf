// A fresh directory for one test, removed with its files at the end.
#ifndef VARVE_TESTS_TEMPDIR_H
#define VARVE_TESTS_TEMPDIR_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline int tempdir_remove_one(const char *path, const struct stat *st, int kind,
                                     struct FTW *where)
{
    (void)st, (void)kind, (void)where;
    return remove(path);
}

// Makes the directory; `path` holds at least 64 bytes. Under TMPDIR or /tmp.
static inline void tempdir_make(char path[64])
{
    const char *base = getenv("TMPDIR");
    if (!base || strlen(base) > 32)
        base = "/tmp";
    (void)snprintf(path, 64, "%s/varve-test-XXXXXX", base);
    if (!mkdtemp(path))
        abort();
}

static inline void tempdir_remove(const char *path)
{
    (void)nftw(path, tempdir_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
