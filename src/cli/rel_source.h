// The input of an import: read, parsed and sorted by a thread of its own, a batch at a time, while
// the caller sends the batch before. Three arrays share the memory: two batches and what sorting
// needs.
#ifndef VARVE_CLI_REL_SOURCE_H
#define VARVE_CLI_REL_SOURCE_H

#include "base/buf.h"
#include "cli/rel_text.h"

enum { REL_MEMORY_LEAST = 64 << 10 }; // bytes

struct rel_input {
    const char *path; // NULL or "-": standard input
    bool pairs;       // the format: cli/rel_text.h
    bool header;
    bool skip_bad;   // go on after a bad line; else the input ends before it
    bool keep_order; // of a list's members
    size_t memory;   // bytes, REL_MEMORY_LEAST at least
};

// How far the input has been taken. What it counts of pairs and bad lines is of all the input, also
// of what was taken by a run before.
struct rel_place {
    uint64_t at; // bytes
    uint64_t line;
    uint64_t pairs;
    uint64_t bad;
};

struct rel_batch {
    struct rel_pairs pairs;
    struct rel_place end; // of the input, behind this batch
    struct buf notes;     // what is wrong with its bad lines, a line each; only the first few
    bool last;
    enum err e; // last: why the input ended, with msg
    struct errmsg msg;
};

struct rel_source;
// Opens and begins to read at `from`. ERR_MISSING, ERR_IO, ERR_NO_MEMORY with msg.
MUST_USE enum err rel_source_open(struct rel_source **source, const struct rel_input *in,
                                  const struct rel_place *from, struct errmsg *msg);
// The next batch, perhaps without a pair, or NULL: not there yet. It is the caller's until the next
// call that gives one. Not after the last.
const struct rel_batch *rel_source_next(struct rel_source *s);
void rel_source_close(struct rel_source *s);

// Tells a file from others and from what it was before it was changed: by its size and its first
// and last bytes. *size: of the file. ERR_UNSUPPORTED: it is no file but a pipe or the like.
MUST_USE enum err rel_input_identity(const char *path, uint64_t *size, uint64_t *identity,
                                     struct errmsg *msg);

#endif
