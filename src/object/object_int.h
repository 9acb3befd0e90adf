// What only the room knows: what an implementation of a store gives, and is given.
#ifndef VARVE_OBJECT_OBJECT_INT_H
#define VARVE_OBJECT_OBJECT_INT_H

#include "object/object.h"
#include <pthread.h>

struct object_ops {
    void (*close)(struct object_store *s);
    // Begins a call whose fields have been checked; `full` is prefix and name. object_finish
    // follows, from here or from another thread.
    void (*start)(struct object_store *s, struct object_call *c, const char *full);
    // May be NULL: calls are done when `start` returns. Called with the lock held.
    void (*cancel)(struct object_store *s, struct object_call *c);
    void (*hurry)(struct object_store *s); // may be NULL
    // May be NULL: adds what the implementation counts for itself.
    void (*stats)(struct object_store *s, struct object_stats *out);
    // Prefix and after are full names; fn gets full names.
    enum err (*list)(struct object_store *s, const char *prefix, const char *after, uint64_t max,
                     object_list_fn fn, void *arg, struct errmsg *msg);
};

// The part that every implementation begins with.
struct object_store {
    const struct object_ops *ops;
    struct os *os;
    char *prefix;
    char *where;
    pthread_mutex_t lock; // over stats, and own.finished of the calls
    pthread_cond_t finished;
    struct object_stats stats;
};

MUST_USE enum err object_directory_open(struct object_store **s, const struct object_options *o,
                                        struct errmsg *msg);
MUST_USE enum err object_s3_open(struct object_store **s, const struct object_options *o,
                                 struct errmsg *msg);

// Fills the common part; `where` is copied. ERR_NO_MEMORY: nothing is held.
MUST_USE enum err object_base_init(struct object_store *s, const struct object_ops *ops,
                                   const struct object_options *o, const char *where);
void object_base_release(struct object_store *s);
// The call is done with c->e and its text: counts it, tells who waits. `c` is the caller's from
// here on. Not with the lock held.
void object_finish(struct object_store *s, struct object_call *c);
// "put", "get", ...
const char *object_op_name(enum object_op op);
#define OBJECT_SUM_TEXT 9 // with the NUL
void object_sum_format(char text[OBJECT_SUM_TEXT], uint32_t sum);
// False if `text` is not 8 hexadecimal digits.
bool object_sum_parse(struct slice text, uint32_t *sum);
// Bytes of all parts.
uint64_t object_parts_size(const struct slice *parts, size_t count);

#endif
