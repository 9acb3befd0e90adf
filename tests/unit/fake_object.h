// An object store in memory, to test what builds on object/: takes the real one's place at link
// time. Several connections share a store's objects; each has a hook that is asked before every
// call, and counts its calls as object_stats does. Thread-safe, but for the hooks.
#ifndef VARVE_TESTS_FAKE_OBJECT_H
#define VARVE_TESTS_FAKE_OBJECT_H

#include "object/object.h"

enum fake_fault {
    FAKE_NONE,
    FAKE_LOST,      // not done, ERR_NETWORK
    FAKE_ANSWER,    // done, ERR_NETWORK
    FAKE_DEAD,      // not done, and so is every later call of the connection: ERR_CLOSED
    FAKE_DEAD_DONE, // done, then likewise
};

// May do anything, call the store too (through another connection).
typedef enum fake_fault (*fake_hook)(void *arg, enum object_op op, const char *name);

enum { FAKE_LIST = OBJECT_OPS }; // the hook's `op` for a listing

struct object_store *fake_object_new(void);
// Another connection to the same objects. Close all, the first one last.
struct object_store *fake_object_connect(struct object_store *s);
void fake_object_hook(struct object_store *s, fake_hook hook, void *arg);
// The objects whose names begin with `prefix`, past `after`, as object_list, without a hook.
void fake_object_names(struct object_store *s, const char *prefix, object_list_fn fn, void *arg);
// An object's bytes, which live until the store changes; NULL p: there is none.
struct slice fake_object_bytes(struct object_store *s, const char *name);
// Puts an object as others do: without a checksum.
void fake_object_set(struct object_store *s, const char *name, struct slice bytes);
struct object_sum fake_object_sum(struct object_store *s, const char *name);
// Changes a bit of the byte `at`, and leaves the checksum.
void fake_object_flip(struct object_store *s, const char *name, size_t at);
// Cuts it to 0 bytes, and leaves the checksum.
void fake_object_cut(struct object_store *s, const char *name);
void fake_object_drop(struct object_store *s, const char *name);

#endif
