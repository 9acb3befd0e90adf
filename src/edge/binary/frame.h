// Request frames of the binary protocol (docs/PROTOCOLS.md), from bytes. Pure: no I/O, no state.
//
//     u16 type, then the type's arguments, each: u32 length, the bytes     (little-endian)
//
// A frame is valid if its type is one of FRAMES, no argument is longer than its kind allows, and
// the whole is no longer than the limit on requests. A length is judged as soon as its four bytes
// are there, so that nothing over a limit is ever waited for.
#ifndef VARVE_EDGE_BINARY_FRAME_H
#define VARVE_EDGE_BINARY_FRAME_H

#include "base/err.h"
#include "base/slice.h"

#define FRAME_ARGS 5
// Bytes of a frame that may be looked at before it is known to be over the limit on requests.
#define FRAME_HEADERS (2u + 4u * FRAME_ARGS)

// X(NAME, type, number of arguments, kinds of arguments...); for ever, never renumber.
#define FRAMES(X)                                                                       \
    X(GET, 1, 1, ARG_KEY)                                                               \
    X(DELETE, 2, 1, ARG_KEY)                                                            \
    X(SET, 3, 2, ARG_KEY, ARG_VALUE)                                                    \
    X(VGET, 16, 1, ARG_KEY)                                                             \
    X(TXN, 17, 2, ARG_OPERATIONS, ARG_IDEMPOTENCY)                                      \
    X(LIST, 18, 3, ARG_PREFIX, ARG_AFTER, ARG_PAGE)                                     \
    X(STAT, 19, 0, ARG_NONE)                                                            \
    X(PING, 20, 1, ARG_BYTES)                                                           \
    X(LOG_CREATE, 21, 2, ARG_KEYSPACE, ARG_POLICY)                                      \
    X(LOG_POLICY, 22, 2, ARG_KEYSPACE, ARG_POLICY)                                      \
    X(LOG_KEYSPACE, 23, 1, ARG_KEYSPACE)                                                \
    X(LOG_META, 24, 2, ARG_KEYSPACE, ARG_KEY)                                           \
    X(LOG_APPEND, 25, 3, ARG_KEYSPACE, ARG_KEY, ARG_RECORDS)                            \
    X(LOG_READ, 26, 5, ARG_KEYSPACE, ARG_KEY, ARG_START, ARG_CONTINUATION, ARG_PATTERN) \
    X(LOG_TAIL, 27, 4, ARG_KEYSPACE, ARG_KEY, ARG_START, ARG_PATTERN)                   \
    X(LOG_TRIM, 28, 3, ARG_KEYSPACE, ARG_KEY, ARG_BEFORE)                               \
    X(LOG_ERASE, 29, 3, ARG_KEYSPACE, ARG_KEY, ARG_OFFSET)                              \
    X(LOG_FLUSH, 30, 2, ARG_KEYSPACE, ARG_KEY)                                          \
    X(LOG_LIST, 31, 3, ARG_KEYSPACE, ARG_AFTER, ARG_PAGE)                               \
    X(REL_CREATE, 32, 2, ARG_RELATION, ARG_OPTIONS)                                     \
    X(REL_INFO, 33, 1, ARG_RELATION)                                                    \
    X(REL_LIST, 34, 2, ARG_RELATION, ARG_PAGE)                                          \
    X(REL_ADD, 35, 4, ARG_RELATION, ARG_FROM, ARG_MEMBERS, ARG_FLAGS)                   \
    X(REL_REMOVE, 36, 4, ARG_RELATION, ARG_FROM, ARG_MEMBERS, ARG_FLAGS)                \
    X(REL_EDIT, 37, 4, ARG_RELATION, ARG_GROUPS, ARG_FLAGS, ARG_IDEMPOTENCY)            \
    X(REL_GET, 38, 2, ARG_RELATION, ARG_FROM)                                           \
    X(REL_PAGE, 39, 3, ARG_RELATION, ARG_FROM, ARG_REL_PAGE)                            \
    X(REL_COUNT, 40, 3, ARG_RELATION, ARG_FROM, ARG_FLAGS)                              \
    X(REL_CONTAINS, 41, 4, ARG_RELATION, ARG_FROM, ARG_MEMBERS, ARG_FLAGS)              \
    X(REL_MANY, 42, 3, ARG_RELATION, ARG_FROMS, ARG_PAGE)                               \
    X(REL_COMBINE, 43, 2, ARG_LISTS, ARG_REL_PAGE)                                      \
    X(REL_FROMS, 44, 2, ARG_RELATION, ARG_REL_PAGE)

enum frame_type {
#define X(name, type, ...) FRAME_##name = type,
    FRAMES(X)
#undef X
};

// Types from this one up have a status byte in their replies, and so a place for an error.
#define FRAME_FIRST_STATUS 16u

struct frame_limits {
    uint32_t key;
    uint32_t value;
    uint32_t request; // of a whole frame
};

struct frame {
    enum frame_type type;
    struct slice arg[FRAME_ARGS]; // point into the input; those the type does not have are empty
    size_t size;                  // of the whole
};

// The first frame of `in`. ERR_AGAIN: it is not all there yet. ERR_INVALID (unknown type) and
// ERR_TOO_BIG say why in msg; nothing after such a frame can be made sense of.
MUST_USE enum err frame_parse(struct slice in, const struct frame_limits *limits, struct frame *f,
                              struct errmsg *msg);
// "GET" and so on.
const char *frame_name(enum frame_type type);

#endif
