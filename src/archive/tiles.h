// What a listing of a log's directory shows, and the run of data objects that is the log.
//
// A listing may show more than that: parts whose merged object is there already, and what fencing
// (archive/session.c) leaves: *fences*, data objects of 0 bytes at names that a fenced writer must
// not use, and *strays*, put by such a writer after its fence was cleaned up. The rule that tells
// them apart, for every reader: the log is a path of objects, each beginning where the one before
// ends, from an offset known to be a border; of several that begin there, the one whose path leads
// farthest, then the longest. It holds because (archive/writer.c keeps it)
//
//  1. a merged object covers whole objects of the log, from the border where its batch begins to
//     the log's end at that time; parts are deleted after it was put, by one who owned the log then
//     (a merged object put later, by one who did not, may overlap others, and leads nowhere);
//  2. a fence stands until no stray at its name can be on the path: the log then has an object that
//     begins before it and ends in or past it, or one that begins there too and is longer.
//  3. what begins before the offset of the highest *begin marker* (archive/trim.c) is not of the
//     log: whatever is left there, or is put there late, leads nowhere. The marker's offset is a
//     border for ever: nothing is merged across it.
//
// Borders known: where the whole listing begins (at the marker, if there is one); the watermark,
// unless a fenced writer put it late
// (then nothing begins there, or what does leads nowhere); the `prior` of any object (a
// stray's too: it was written by one who owned the log); an object that another one names its
// prior.
#ifndef VARVE_ARCHIVE_TILES_H
#define VARVE_ARCHIVE_TILES_H

#include "archive/name.h"

struct tile {
    struct name name;
    uint64_t stored; // bytes that the listing says there are; 0: a fence. (1, where it says 0: data
                     // that was cut, as its checksum tells)
};

struct tiles {
    struct tile *v; // in rising order of first
    size_t n, cap;
    bool all;            // no data object past these
    uint64_t begin;      // the begin marker seen: what is below was not taken; 0: none
    bool watermark;      // seen
    uint64_t epoch;      // the highest seen; 0: none
    uint64_t epochs;     // seen
    struct errmsg wrong; // of `e`
    enum err e;          // a name that does not parse
};

void tiles_release(struct tiles *t);
void tiles_clear(struct tiles *t);
// Takes one name of the listing, without "keyspace/key/". Sets t->e when it is none of ours.
void tiles_take(struct tiles *t, const char *dir, const char *name, uint64_t size);
// Lists `dir`: objects with first >= `from` (0: all), at most `max` names (0: all), and with what
// is not data if the listing gets there. A get for each fence that does not begin within data, to
// see that it is one.
MUST_USE enum err tiles_list(struct tiles *t, struct object_store *store, const char *dir,
                             uint64_t from, size_t max, struct errmsg *msg);

// The offset of the log's begin marker; 0: none.
MUST_USE enum err tiles_begin(struct object_store *store, const char *dir, uint64_t *begin,
                              struct errmsg *msg);
// Where the listing of a whole log begins; 1: it has nothing.
uint64_t tiles_first(const struct tiles *t);

// The path from the border `from`: indices into t->v, in order, in path[] (room for t->n). *end is
// the offset at which it ends (`from`, if nothing begins there).
size_t tiles_path(const struct tiles *t, uint64_t from, size_t *path, uint64_t *end);
// The first border of a listing that began somewhere within the log; 0: none is known.
uint64_t tiles_border(const struct tiles *t);
// True if data objects begin past `end` (which the path from here cannot reach).
bool tiles_beyond(const struct tiles *t, uint64_t end);

static inline uint64_t tile_records(const struct tile *t)
{
    return t->name.last - t->name.first + 1;
}

#endif
