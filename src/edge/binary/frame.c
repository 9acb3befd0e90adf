#include "edge/binary/frame.h"
#include "base/limits.h"

#define CONTINUATION_MAX 64u  // any bytes up to this are judged by the commit room
#define RELATION_MAX     255u // likewise

// X(NAME, "for people", bytes at most); key, value and request are the limits of frame_parse.
#define ARGS(X)                                              \
    X(NONE, "no argument", 0)                                \
    X(KEY, "key", limits->key)                               \
    X(VALUE, "value", limits->value)                         \
    X(OPERATIONS, "operations", limits->request)             \
    X(IDEMPOTENCY, "idempotency key", LIMIT_IDEMPOTENCY_KEY) \
    X(PREFIX, "prefix", limits->key)                         \
    X(AFTER, "after", limits->key)                           \
    X(PAGE, "page", 8)                                       \
    X(BYTES, "bytes", limits->request)                       \
    X(KEYSPACE, "keyspace", LIMIT_KEYSPACE_NAME)             \
    X(POLICY, "policy", 32)                                  \
    X(RECORDS, "records", limits->request)                   \
    X(START, "start", 32)                                    \
    X(CONTINUATION, "continuation", CONTINUATION_MAX)        \
    X(PATTERN, "pattern", LIMIT_FILTER)                      \
    X(BEFORE, "before", 9)                                   \
    X(OFFSET, "offset", 8)                                   \
    X(RELATION, "relation", RELATION_MAX)                    \
    X(OPTIONS, "options", 4)                                 \
    X(FROM, "from", 8)                                       \
    X(MEMBERS, "members", limits->request)                   \
    X(FLAGS, "flags", 4)                                     \
    X(GROUPS, "groups", limits->request)                     \
    X(REL_PAGE, "page", 24)                                  \
    X(FROMS, "froms", limits->request)                       \
    X(LISTS, "lists", limits->request)

enum arg_kind {
#define X(name, text, limit) ARG_##name,
    ARGS(X)
#undef X
};

static const char *const arg_names[] = {
#define X(name, text, limit) text,
    ARGS(X)
#undef X
};

struct shape {
    const char *name; // NULL: no such type
    unsigned args;
    enum arg_kind kinds[FRAME_ARGS];
};

#define LAST_TYPE FRAME_REL_FROMS

static const struct shape shapes[LAST_TYPE + 1] = {
#define X(name, type, args, ...) [type] = {#name, args, {__VA_ARGS__}},
    FRAMES(X)
#undef X
};

const char *frame_name(enum frame_type type)
{
    return shapes[type].name;
}

static uint32_t arg_limit(enum arg_kind kind, const struct frame_limits *limits)
{
    switch (kind) {
#define X(name, text, limit) \
    case ARG_##name:         \
        return limit;
        ARGS(X)
#undef X
    }
    return 0;
}

enum err frame_parse(struct slice in, const struct frame_limits *limits, struct frame *f,
                     struct errmsg *msg)
{
    if (in.n < 2)
        return ERR_AGAIN;
    unsigned type = load16(in.p);
    if (type > LAST_TYPE || !shapes[type].name)
        return err_set(msg, ERR_INVALID, "unknown request type %u", type);
    const struct shape *shape = &shapes[type];
    f->type = (enum frame_type)type;
    size_t at = 2;
    for (unsigned i = 0; i < FRAME_ARGS; i++)
        f->arg[i] = slice_of(NULL, 0);
    for (unsigned i = 0; i < shape->args; i++) {
        if (in.n - at < 4)
            return ERR_AGAIN;
        uint32_t n = load32(in.p + at);
        at += 4;
        uint32_t limit = arg_limit(shape->kinds[i], limits);
        if (n > limit)
            return err_set(msg, ERR_TOO_BIG, "%s: %s of %u bytes is over the limit of %u",
                           shape->name, arg_names[shape->kinds[i]], n, limit);
        if (at + n > limits->request)
            return err_set(msg, ERR_TOO_BIG, "%s: request of %zu bytes is over the limit of %u",
                           shape->name, at + n, limits->request);
        if (in.n - at < n)
            return ERR_AGAIN;
        f->arg[i] = slice_of(in.p + at, n);
        at += n;
    }
    f->size = at;
    return ERR_OK;
}
