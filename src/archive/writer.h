// The direct writer: an append is one data object, compacted when thresholds are passed. What is
// appended is there for all readers when the call returns ERR_OK, and not before.
//
// Two writers on one log cannot both succeed (archive/session.c explains how): the one that came
// last takes over, the other stops with ERR_CONFLICT and has written nothing that a reader sees.
// All logs that a writer has written are its session's: who loses one loses all, and must be closed
// and opened again. So give each process, and each thread that writes, a writer of its own, and a
// log to one of them. archive_writer_release lets logs go without that.
//
// The store must keep put_absent and list_after_put (object_probe tells; nobody here asks).
//
// Errors: those of object/object.h, and
//   ERR_CONFLICT   fenced: another writer has taken over a log. Nothing of this call's records
//                  that was not reported as written is there, and every later call says the same
//   ERR_DAMAGED    an object is not what its name or its checksum says, or the log has a gap;
//                  names it
//   ERR_TOO_BIG    a record, a name, or the append as a whole
//   ERR_AGAIN      too many takeovers at once
// After ERR_NETWORK or ERR_IO of an append the records may or may not be there; the writer is
// broken like a fenced one, and a new one finds out (with nonces, appending again is right).
//
// Threads: a writer belongs to one thread at a time. The object store may be shared.
#ifndef VARVE_ARCHIVE_WRITER_H
#define VARVE_ARCHIVE_WRITER_H

#include "archive/archive.h"

struct archive_writer;

// Opens a session (no request is made before the first append). `store` and its os are borrowed.
MUST_USE enum err archive_writer_new(struct archive_writer **out, struct object_store *store,
                                     struct os *os, const struct archive_options *options,
                                     struct errmsg *msg);
// Ends the session. NULL does nothing.
void archive_writer_free(struct archive_writer *w);

// True if every further call will fail: it was fenced, or cannot know what became of a put.
bool archive_writer_broken(const struct archive_writer *w);

// ERR_EXISTS if there is one. *created_ms may be NULL.
MUST_USE enum err archive_create_keyspace(struct object_store *store, struct os *os,
                                          struct slice keyspace, uint64_t *created_ms,
                                          struct errmsg *msg);

// One log's part of an append, and what became of it.
struct archive_batch {
    struct archive_log log;
    uint64_t start; // the first offset, if the log has no records yet; 0: 1
    const struct archive_insert *records;
    size_t count;
    // Results, valid after ERR_OK.
    uint64_t first_offset; // of the first record taken; next_offset if none was
    uint64_t next_offset;
    u128 next_nonce;
    uint64_t taken; // records; the others were there already
    enum err e;     // valid in any case: why this log's records are not there, as far as it is only
                    // this log's matter; ERR_OK if they are, or if what the call returns says it
};

// Appends to one log; creates it. The keyspace is not looked for.
MUST_USE enum err archive_append(struct archive_writer *w, struct archive_batch *b,
                                 struct errmsg *msg);
// Appends to several logs, each named once, in parallel; much fewer requests a log than one by one
// (one more request a log that this writer has not yet, 3 for all, and one for the data of each).
// Not atomic: on an error some logs may have their records; `taken` tells (UINT64_MAX: unknown). A
// log that cannot be appended to keeps the others from nothing, but one that this writer has not
// yet, and cannot take over or list, keeps all of them from it: take those with
// archive_writer_meta first, where it matters.
MUST_USE enum err archive_append_many(struct archive_writer *w, struct archive_batch *batches,
                                      size_t n, struct errmsg *msg);
// Deletes data objects of a log from its beginning, oldest first.
struct archive_trim {
    struct archive_log log;
    uint64_t before; // only objects all of whose records have smaller offsets
    // Results, valid after ERR_OK.
    uint64_t first;   // where the log begins now; its next offset if it has nothing
    uint64_t deleted; // objects
    bool more;        // others can go: call again
    uint64_t next; // else: the least `before` with which, or (it is the next offset) the end from
                   // which on, there may be something to do
};
// What is being merged or may be merged next stays, and so does the newest object. A few hundred
// objects a call. To readers the objects are gone at once, before the first of them is deleted.
// ERR_CONFLICT: fenced, and nothing was deleted that whoever took over has not agreed to. After
// other errors what could not be deleted is deleted by the next call.
MUST_USE enum err archive_trim(struct archive_writer *w, struct archive_trim *t,
                               struct errmsg *msg);
// Whether that may find something to do: one request, and nothing is claimed. *next: 0 if it may,
// else as in struct archive_trim (UINT64_MAX: there is no object).
MUST_USE enum err archive_trim_due(struct object_store *store, const struct archive_log *log,
                                   uint64_t before, uint64_t *next, struct errmsg *msg);
// Forgets a log, so that another writer can take it over without fencing this one.
MUST_USE enum err archive_writer_release(struct archive_writer *w, const struct archive_log *log,
                                         struct errmsg *msg);
// The next offset and nonce of a log, which the writer takes over if it has not.
MUST_USE enum err archive_writer_meta(struct archive_writer *w, const struct archive_log *log,
                                      struct archive_meta *meta, struct errmsg *msg);

#endif
