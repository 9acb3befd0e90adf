// A shard's allocator: objects of like size side by side in slabs, so that an entry costs its
// bytes, rounded up to 16 (to an eighth above 1 KiB), and next to nothing more. Objects over
// SLAB_MAX bytes come from malloc. Not thread-safe: the shard's lock guards it; the pool behind it
// is shared.
#ifndef VARVE_TABLE_SLAB_H
#define VARVE_TABLE_SLAB_H

#include "table/pool.h"
#include <stdbool.h>

#define SLAB_MAX     8192u
#define SLAB_CLASSES 120u // 64 up to 1 KiB, then 8 an octave; 32 more of fine heaps

struct slab;

struct slab_heap {
    struct pool *pool;
    uint64_t bytes;                  // memory: slabs as far as ever written, and large objects
    uint64_t used;                   // of those, in objects handed out
    uint64_t large;                  // objects from malloc
    bool fine;                       // see slab_heap_init_fine
    struct slab *room[SLAB_CLASSES]; // circular lists of the slabs that have room
    struct slab *thin;               // and of those that slab_thin_begin chose
};

void slab_heap_init(struct slab_heap *h, struct pool *pool);
// One whose objects of up to 256 bytes are rounded up to 8 and only 8-byte aligned.
void slab_heap_init_fine(struct slab_heap *h, struct pool *pool);
// 16-byte aligned. NULL when memory is out.
void *slab_alloc(struct slab_heap *h, size_t n);
// `n` is what it was allocated with.
void slab_free(struct slab_heap *h, void *object, size_t n);
// True if an object allocated with `n` bytes could as well have been with `m`.
bool slab_same(size_t n, size_t m);
// Memory that this object occupies; slab_same and slab_usable are of heaps that are not fine.
size_t slab_usable(void *object, size_t n);
size_t slab_size(const struct slab_heap *h, void *object, size_t n);

// Tries to empty one thinly filled slab of a class into the room of others of that class, without
// taking new memory: calls `move` for each of its objects, which allocates anew, copies and frees
// the old one, or leaves it. True if the slab could be given back; false when nothing could be won.
bool slab_compact(struct slab_heap *h, unsigned class, void (*move)(void *arg, void *object),
                  void *arg);

// For who finds objects by their owners only. Chooses of every class the thinnest slabs, as many as
// the others have room for: nothing is handed out from them until slab_thin_end, and one whose
// objects are all freed by then is given back. False: none was chosen.
bool slab_thin_begin(struct slab_heap *h);
// True if an object allocated with `n` bytes lies in one of those.
bool slab_thin(const struct slab_heap *h, const void *object, size_t n);
void slab_thin_end(struct slab_heap *h);

#endif
