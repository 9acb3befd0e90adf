// What the reader's files share. Of this room only.
#ifndef VARVE_ARCHIVE_READER_INT_H
#define VARVE_ARCHIVE_READER_INT_H

#include "archive/data.h"
#include "archive/reader.h"
#include "archive/tiles.h"

// An object that is fetched, or being.
struct fetched {
    char full[NAME_FULL_MAX];
    struct name name;
    struct buf bytes;
    struct object_call call;
    bool waited;   // the call is done,
    bool checked;  // and its bytes are what the name says
    bool pinned;   // the page at hand shows records of it
    uint64_t used; // when last, in calls
};

// A stretch of a log's path, as one listing showed it.
struct window {
    char dir[NAME_DIR_MAX]; // "": none
    struct tiles listing;
    size_t *path; // indices into the listing
    size_t n;
    uint64_t end;    // the offset after it
    bool from_start; // it begins where the log does
    uint64_t call;   // the reader's call in which it was listed
};

enum { READER_SPARE = 64 };

struct archive_reader {
    struct object_store *store;
    struct archive_reader_options options;
    struct window window;
    struct fetched **objects;
    size_t objects_n, objects_cap;
    uint64_t fetching;              // bytes of objects, by their names, held or on their way
    struct buf spare[READER_SPARE]; // blocks of objects that were passed
    size_t spare_n;
    uint64_t spare_bytes;
    uint64_t call; // number of the call under way
    struct record *records;
    size_t records_cap;
};

static inline const struct tile *window_tile(const struct window *w, size_t i)
{
    return &w->listing.v[w->path[i]];
}
static inline bool window_ends_log(const struct window *w)
{
    return w->listing.all;
}

// ---- seek.c: windows. ERR_AGAIN: objects went between two requests, try again.

void window_release(struct window *w);
// Makes the window one that holds `offset`; *i is its tile. ERR_MISSING: the log ends before it
// (the window then is its end, or empty). An offset before the first there is: the first.
MUST_USE enum err seek_offset(struct archive_reader *r, const char *dir, uint64_t offset, size_t *i,
                              struct errmsg *msg);
// The log's end. ERR_MISSING: it is empty.
MUST_USE enum err seek_tail(struct archive_reader *r, const char *dir, struct errmsg *msg);
// Goes one tile back; ERR_MISSING at the log's start.
MUST_USE enum err seek_back(struct archive_reader *r, const char *dir, size_t *i,
                            struct errmsg *msg);
// The first tile for which `past` is true; it is false and then true along the log. ERR_MISSING:
// there is none (the window then is the log's end, or empty).
typedef bool (*tile_test)(const struct name *n, const struct archive_query *q);
MUST_USE enum err seek_first(struct archive_reader *r, const char *dir, tile_test past,
                             const struct archive_query *q, size_t *i, struct errmsg *msg);

// ---- fetch.c: objects

// The object's bytes, checked; they stay until the end of the call after this one. ERR_MISSING: it
// went.
MUST_USE enum err fetch_get(struct archive_reader *r, const char *dir, const struct name *n,
                            struct slice *bytes, struct errmsg *msg);
// Begins to fetch it, if there is room.
void fetch_ahead(struct archive_reader *r, const char *dir, const struct name *n);
// At the beginning of a call: what no page shows any more may go.
void fetch_begin(struct archive_reader *r);
void fetch_release(struct archive_reader *r);

#endif
