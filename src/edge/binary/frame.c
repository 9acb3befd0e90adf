#include "edge/binary/frame.h"
#include "base/limits.h"

enum arg_kind {
    ARG_NONE,
    ARG_KEY,
    ARG_VALUE,
    ARG_OPERATIONS,
    ARG_IDEMPOTENCY,
    ARG_PREFIX,
    ARG_AFTER,
    ARG_PAGE,
    ARG_BYTES,
};

static const char *const arg_names[] = {
    "no argument", "key",   "value", "operations", "idempotency key",
    "prefix",      "after", "page",  "bytes",
};

struct shape {
    const char *name; // NULL: no such type
    unsigned args;
    enum arg_kind kinds[FRAME_ARGS];
};

#define LAST_TYPE FRAME_PING

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
    case ARG_KEY:
    case ARG_PREFIX:
    case ARG_AFTER:
        return limits->key;
    case ARG_VALUE:
        return limits->value;
    case ARG_IDEMPOTENCY:
        return LIMIT_IDEMPOTENCY_KEY;
    case ARG_PAGE:
        return 8;
    default:
        return limits->request;
    }
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
