// Blocks of memory for slabs, shared by all shards: aligned blocks of three sizes, cut from runs of
// 4 MiB. A run whose blocks are all free is unmapped; the pages of single free blocks are given
// back when more than a sixteenth of what is in use lies idle. Thread-safe.
#ifndef VARVE_TABLE_POOL_H
#define VARVE_TABLE_POOL_H

#include <stddef.h>
#include <stdint.h>

enum pool_kind { POOL_4K, POOL_16K, POOL_64K, POOL_KINDS };

struct pool;
struct pool_run;

static inline size_t pool_block_size(enum pool_kind kind)
{
    return (size_t)4096 << (2 * kind);
}

// NULL when memory is out.
struct pool *pool_new(void);
// Frees every block, those still taken too.
void pool_free(struct pool *p);
// A block aligned to its size, contents undefined; `run` must be handed back with it. NULL when
// memory is out.
void *pool_take(struct pool *p, enum pool_kind kind, struct pool_run **run);
void pool_give(struct pool *p, struct pool_run *run, void *block);
// Bytes of free blocks whose pages are still with the process.
uint64_t pool_idle_bytes(struct pool *p);

#endif
