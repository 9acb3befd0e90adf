// What the files of the log's writing side share: wal.c (opening, appending, closing), flush.c (the
// flusher) and segment.c (files: spares, rolling, dropping).
//
// Locks. `lock` guards all that is not said to be otherwise and is held for a copy of the payload,
// not for I/O, except when a new file must be made because none was prepared. `flush_lock` is held
// by whoever writes a group, `drop_lock` by whoever drops segments; each is taken before `lock`.
#ifndef VARVE_WAL_INT_H
#define VARVE_WAL_INT_H

#include "base/assert.h"
#include "base/buf.h"
#include "wal/format.h"
#include "wal/wal.h"

#include <pthread.h>
#include <stdatomic.h>

#define SPARES_MAX 2
// Zeros are written this far ahead of small groups, so that their syncs overwrite blocks that are
// written already, which spares the file system a journal commit a sync.
#define FILL_STEP ((size_t)256 << 10)
// Capacity that an idle gather buffer keeps.
#define GATHER_KEEP ((size_t)4 << 20)
// A log without appends for this long writes an idle mark, so that from then on damage to its last
// frames is told from a torn tail.
#define IDLE_MARK_NS   100000000ull
#define SPACE_RETRY_NS 1000000000ull
// The part of a sync's time that the next group may wait for the clients that the last one let go,
// and how many groups go without that wait when it was in vain again and again.
#define RETURN_PART     4
#define RETURN_SKIP_MAX 63

// A file of the log, as a segment or a spare.
struct segment {
    struct segment *next; // newer
    uint64_t number;
    uint64_t first;
    uint64_t salt;
    uint64_t size;     // of the file
    uint64_t filled;   // bytes from the start that have been written before; flusher's
    uint64_t spare_id; // its name until it is live
    int fd;            // -1 unless it is a spare or still written to
    bool live;         // durable under its own name
};

// The part of a group that goes into one segment: the bytes from `start` up to the next run's
// start.
struct run {
    struct segment *segment;
    size_t start;
    uint64_t off;  // file offset of `start`
    uint64_t last; // sequence of its last frame
    bool header;   // begins with the segment's header
};

// Frames gathered for one write. Headers, `synced` and CRCs are filled in when it is written.
struct gather {
    struct buf bytes;
    struct run *runs;
    size_t run_count, run_cap;
    uint64_t since_ns; // when the first frame came in, with batch_time; 0: not yet
};

struct wal {
    struct wal_options o;
    struct os *os;
    char *dir;

    pthread_mutex_t lock, flush_lock, drop_lock;
    pthread_cond_t work;    // flusher: something to do
    pthread_cond_t room;    // appenders: bytes were written
    pthread_cond_t done;    // wal_wait: durable rose
    pthread_cond_t prepare; // preparer: a spare is wanted
    pthread_t flusher, preparer;
    bool started;
    bool closing;   // no more appends; the threads end when everything is written
    bool abandoned; // the threads end at once
    atomic_bool failed;
    atomic_bool sleeping; // the flusher waits for work; changed with `lock` held
    bool dozing;          // the flusher sleeps for a time only: it will mark the log's end
    bool stand_in;        // another thread does the flusher's work, and the flusher leaves it alone
    atomic_bool out_of_space;
    unsigned waiters; // in wal_wait
    unsigned blocked; // in wal_append for room

    struct gather gathers[2];
    struct gather *gather; // the one being filled
    size_t pending;        // bytes accepted and not yet written
    bool unmarked;         // frames were appended after the last mark
    uint64_t taken;        // last sequence in a group that was written or is being written
    uint64_t awaited;      // the flusher waits until this sequence is given out; 0: it does not
    uint64_t expected;     // given out once everyone the last group let go is back
    uint64_t group_ended_ns;
    unsigned return_skip, return_misses;

    atomic_uint_least64_t last;    // sequence given out; changed with `lock` held
    atomic_uint_least64_t durable; // changed with flush_lock held, or by the stand-in

    struct segment *oldest, *newest;
    uint64_t next_number;
    struct segment *active;  // newest if this opening writes to it, else NULL
    uint64_t pos;            // where the next frame goes in `active`
    struct segment *written; // the one the last group ended in; flush_lock

    struct segment *spares[SPARES_MAX];
    unsigned spare_count;
    uint64_t next_spare;
    bool prepare_failed;
    bool unclean; // recovery found no closed mark

    uint64_t appended, appended_bytes;
    _Atomic uint64_t bytes; // written with `lock`, read without: see wal_bytes
    atomic_uint_least64_t syncs, sync_ns, sync_ns_last, written_bytes;
};

// ---- wal.c

// Makes room in the gather buffer for a frame of `size` bytes, a segment's header and a run. With
// `lock`.
MUST_USE
enum err gather_reserve(struct wal *w, size_t size);
// Adds a frame or mark, for which there is room in the buffer and in the active segment. With
// `lock`.
void gather_put(struct wal *w, uint32_t length, uint64_t seq, struct slice payload);

// ---- flush.c

// Writes and syncs all that has gathered. Takes flush_lock and lock.
MUST_USE
enum err flush_gathered(struct wal *w);
// Adds a mark to what has gathered, if there is room. With `lock`.
void put_mark(struct wal *w, uint32_t mark);
// Closes the log for good and tells the owner. Without `lock`.
void wal_fail(struct wal *w, const char *what, const char *path, enum err e);
void *flusher_main(void *w);
// Wakes the flusher if it sleeps.
void flusher_wake(struct wal *w);
// Flushes what has gathered in the flusher's place. False: the flusher does not sleep.
bool flush_in_place(struct wal *w);
// Waits on `c` for at most `ns`; false if the time is over. With `lock`.
bool wait_ns(struct wal *w, pthread_cond_t *c, uint64_t ns);

// ---- segment.c

void segment_path(const struct wal *w, const struct segment *s, char path[LIMIT_PATH]);
void segment_free(struct wal *w, struct segment *s); // closes its file
// Makes a spare file of at least `size` bytes, without `lock` or with it.
MUST_USE
enum err spare_make(struct wal *w, uint64_t id, uint64_t size, struct segment **s);
// Removes a spare's file.
void spare_unlink(struct wal *w, uint64_t id);
// Begins a new segment with room for a frame of `size` bytes. The gather buffer has room for its
// header and a run. With `lock`.
MUST_USE
enum err segment_roll(struct wal *w, size_t size);
// Tries again to get a spare after the disk was full. With `lock`.
void space_retry(struct wal *w);
// True if the frame fits in the active segment, its closing mark included. With `lock`.
bool active_has_room(const struct wal *w, size_t size);
void *preparer_main(void *w);

#endif
