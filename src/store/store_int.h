// What the store's two engines share: the table of functions behind store.h, and the parts of a
// store, a writer and an iterator that do not depend on the engine. store.c holds the common half
// (order of additions, limits, one writer at a time), so that an engine may take them for granted.
#ifndef VARVE_STORE_STORE_INT_H
#define VARVE_STORE_STORE_INT_H

#include "base/buf.h"
#include "base/limits.h"
#include "store/store.h"
#include <stdatomic.h>

#define STORE_KEY_MAX   (LIMIT_KEY_HARD + 64)           // a user key and the expiry space's prefix
#define STORE_VALUE_MAX (LIMIT_VALUE_HARD + (1u << 20)) // a user value and what wraps it

struct store_ops {
    void (*close)(struct store *s);
    enum err (*get)(struct store *s, enum store_space space, struct slice key, bool memory_only,
                    struct buf *out);
    // The engine makes its writer; store.c fills in the common part afterwards.
    enum err (*begin)(struct store *s, struct store_writer **w);
    // Keys arrive checked: spaces rising, keys strictly rising in each, within the limits.
    enum err (*add)(struct store_writer *w, enum store_space space, struct slice key,
                    struct slice value);
    // Both free the engine's part and `w` itself.
    enum err (*commit)(struct store_writer *w, struct errmsg *msg);
    void (*abort)(struct store_writer *w);

    // An empty end: none.
    enum err (*iter_new)(struct store *s, enum store_space space, struct slice start,
                         struct slice end, struct store_iter **it);
    bool (*iter_valid)(const struct store_iter *it);
    struct slice (*iter_key)(const struct store_iter *it);
    struct slice (*iter_value)(const struct store_iter *it);
    void (*iter_next)(struct store_iter *it);
    enum err (*iter_status)(const struct store_iter *it, struct errmsg *msg);
    void (*iter_free)(struct store_iter *it);

    enum err (*verify)(struct store *s, struct errmsg *msg);
    void (*get_stats)(struct store *s, struct store_stats *out);
};

// First member of each engine's store.
struct store {
    const struct store_ops *ops;
    struct os *os;
    char *dir;
    atomic_bool writing; // between store_begin and store_commit or store_abort
};

// First member of each engine's writer.
struct store_writer {
    struct store *s;
    struct buf last; // the key added last
    enum store_space space;
    bool hurry;        // see store_hurry
    bool any;          // something was added, so `space` and `last` count
    enum err failed;   // what an addition ended with; the commit then fails with it too
    struct errmsg why; // and its words, filled in by the engine
    uint64_t bytes;    // of keys and values added
};

// First member of each engine's iterator.
struct store_iter {
    const struct store_ops *ops;
};

// Fills the common part of a store: copies `o->dir`, makes the directory and its name durable.
MUST_USE enum err store_init(struct store *s, const struct store_ops *ops,
                             const struct store_options *o, struct errmsg *msg);
void store_release(struct store *s);

#endif
