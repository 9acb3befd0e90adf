// The one catalogue of errors. A function that can fail returns `enum err` and must be listened to;
// where a person has to be told what is wrong and where, it also fills a `struct errmsg`.
#ifndef VARVE_BASE_ERR_H
#define VARVE_BASE_ERR_H

#include <stddef.h>

#define MUST_USE __attribute__((warn_unused_result))

// X(name, text)
#define VARVE_ERRORS(X)                                                                   \
    X(OK, "ok")                                                                           \
    X(MISSING, "no such key")                                                             \
    X(NO_KEYSPACE, "no such keyspace")                                                    \
    X(CONFLICT, "version conflict")                                                       \
    X(INVALID, "invalid request")                                                         \
    X(TOO_BIG, "over a size limit")                                                       \
    X(COLD, "must be read from disk first")                                               \
    X(FULL, "memory is full of data that no checkpoint has written yet")                  \
    X(NO_SPACE, "no space left on the data disk: writes are refused until space returns") \
    X(NO_MEMORY, "out of memory")                                                         \
    X(IO, "input/output error")                                                           \
    X(EXISTS, "already exists")                                                           \
    X(IN_USE, "in use by another process")                                                \
    X(DAMAGED, "stored data is damaged")                                                  \
    X(FORMAT, "written in another format version")                                        \
    X(OVERFLOW, "number out of the 64-bit range")                                         \
    X(TYPE, "value has another type")                                                     \
    X(REUSED, "idempotency key was used with another request")                            \
    X(CLOSED, "shutting down")                                                            \
    X(AGAIN, "not now")                                                                   \
    X(NETWORK, "network error")                                                           \
    X(DENIED, "access denied")                                                            \
    X(UNSUPPORTED, "not supported")                                                       \
    X(AWAY, "not for now, ask again later: the store of objects does not answer")

enum err {
#define X(name, text) ERR_##name,
    VARVE_ERRORS(X)
#undef X
        ERR_COUNT
};

// For the rare failure that changes nothing; each use says why.
#define ERR_IGNORE(call)            \
    do {                            \
        enum err ignored_ = (call); \
        (void)ignored_;             \
    } while (0)

// A sentence for a person; always NUL-terminated, cut if too long.
struct errmsg {
    char text[512];
};

// The catalogue's text for `e`.
const char *err_text(enum err e);
// The catalogue's name for `e`, e.g. "CONFLICT".
const char *err_name(enum err e);
// Formats into `m` (which may be NULL) and returns `e`, so callers can `return err_set(...)`.
enum err err_set(struct errmsg *m, enum err e, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
