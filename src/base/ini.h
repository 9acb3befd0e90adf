// Reading INI files: what the server's configuration and the bridge's have in common. The syntax is
// libinih's, less its surprises (base/README.md, "Format of a config file").
#ifndef VARVE_BASE_INI_H
#define VARVE_BASE_INI_H

#include "base/err.h"

struct ini_key {
    const char *where; // "FILE:LINE", for errors
    unsigned line;     // from 1
    const char *section, *name;
    const char *value; // without the double quotes that it stood in
};

// Told of each key in the file's order; its error ends the reading and is what ini_read returns.
typedef enum err (*ini_fn)(void *arg, const struct ini_key *key, struct errmsg *msg);

// Errors name the file and line. ERR_INVALID for a line that is no INI, or too long, or a key
// before any section; ERR_TOO_BIG for the file; ERR_NO_MEMORY; those of os_read_file; those of
// `fn`.
MUST_USE enum err ini_read(const char *path, ini_fn fn, void *arg, struct errmsg *msg);

#endif
