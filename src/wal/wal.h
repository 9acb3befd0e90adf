// The write-ahead log: numbered segment files of checksummed frames, one frame a transaction, the
// payload opaque. Appends from any thread are given consecutive sequences and gathered in memory; a
// flusher writes and syncs whatever has gathered once the last sync has returned (group commit).
// See format.h for the file format, the validity rules and the recovery rule.
//
// A failed sync, or a failed write that cannot be told from a lost one, ends the process
// (wal_options.on_fatal): the page cache can no longer be trusted, and only recovery from what is
// on disk can.
#ifndef VARVE_WAL_WAL_H
#define VARVE_WAL_WAL_H

#include "base/err.h"
#include "base/os.h"
#include "base/slice.h"

struct wal;

struct wal_options {
    struct os *os;
    const char *dir;       // exists; holds the segments and nothing else
    uint64_t store_id;     // random number of the data directory, bound into each segment
    uint64_t segment_size; // bytes of a segment; a frame larger than that gets a segment of its own
    uint64_t batch_time_us;  // extra waiting for more to gather; 0: none
    uint64_t max_batch_size; // gathered bytes that end the extra waiting
    size_t buffer_max;       // bytes accepted and not yet written; an append past it blocks
    // Called once when the log can no longer be trusted; must not return in production. In tests it
    // may: the log is then closed for good and every call gives ERR_IO.
    void (*on_fatal)(void *arg, const char *what);
    // Called by the flusher (or wal_flush) after each sync with the new durable sequence.
    void (*on_durable)(void *arg, uint64_t seq);
    void *arg;
};

struct wal_stats {
    uint64_t appended;       // frames
    uint64_t appended_bytes; // of payload
    uint64_t syncs;
    uint64_t sync_ns;      // total time in write + sync
    uint64_t sync_ns_last; // of the last one
    uint64_t written_bytes;
    uint32_t segments;  // files that hold live frames
    uint32_t spares;    // preallocated, waiting
    uint64_t first_seq; // oldest sequence still in the log, or next_seq if none
    uint64_t next_seq;
};

// What recovery found; for the log and `varve check`.
struct wal_recovery {
    uint64_t frames;     // replayed (after `after_seq`)
    uint64_t bytes;      // of their payloads
    uint64_t last_seq;   // 0 if the log is empty
    uint64_t torn_bytes; // cut from the tail
    uint32_t segments;
    bool clean; // the log was closed in order
};

// A frame found in order. Payload lives until the call returns. An error ends recovery with it.
typedef enum err (*wal_replay_fn)(void *arg, uint64_t seq, struct slice payload,
                                  struct errmsg *msg);

// Opens the log: reads every segment, calls `replay` for each frame with seq > after_seq in order,
// cuts and syncs a torn tail, and is ready to append last_seq + 1 (or after_seq + 1 when the log
// ends before). ERR_DAMAGED with the file and offset for damage before the tail, for a missing
// segment, for a gap between after_seq and the first frame, or for a foreign segment (other
// store_id).
MUST_USE
enum err wal_open(struct wal **wal, const struct wal_options *o, uint64_t after_seq,
                  wal_replay_fn replay, void *replay_arg, struct wal_recovery *found,
                  struct errmsg *msg);
// The same reading without changing anything on disk, for `varve check`.
MUST_USE
enum err wal_verify(struct os *os, const char *dir, uint64_t store_id, uint64_t after_seq,
                    wal_replay_fn replay, void *replay_arg, struct wal_recovery *found,
                    struct errmsg *msg);
// Starts the flusher and preallocation threads. Without it (tests) the owner calls wal_flush
// itself.
MUST_USE
enum err wal_start(struct wal *w);
// Flushes, writes the mark of an orderly close, stops the threads, frees. ERR_IO if that failed.
MUST_USE
enum err wal_close(struct wal *w);
// Frees without flushing or writing anything (tests: the crash).
void wal_abandon(struct wal *w);

// Accepts one transaction: copies the payload, gives it the next sequence. Not durable when it
// returns. ERR_NO_SPACE when no disk space is reserved for it (nothing was accepted), ERR_TOO_BIG
// past LIMIT_WAL_FRAME, ERR_CLOSED. Blocks while buffer_max bytes are waiting. Thread-safe.
MUST_USE
enum err wal_append(struct wal *w, struct slice payload, uint64_t *seq);
// Tells the flusher that there is something to flush; cheap when it is awake. Callers append a
// batch and kick once.
void wal_kick(struct wal *w);
// The same from a caller that has nothing else to do until then: if the flusher sleeps and a single
// frame is waiting, writes and syncs it on the calling thread. That spares a lone client two
// wake-ups of sleeping threads, which cost a good part of a sync.
void wal_kick_alone(struct wal *w);
// Writes and syncs all that was appended before the call; for owners without a flusher thread.
MUST_USE
enum err wal_flush(struct wal *w);
// Blocks until `seq` is durable. ERR_CLOSED if the log closes first. Needs the flusher thread, or
// flushes itself without one.
MUST_USE
enum err wal_wait(struct wal *w, uint64_t seq);
// Highest sequence whose frame and all before it are durable. Any thread, one atomic load.
uint64_t wal_durable(const struct wal *w);
// Highest sequence given out so far.
uint64_t wal_last(const struct wal *w);
// Bytes of all frames so far, replayed ones included: what a checkpoint could make superfluous.
uint64_t wal_bytes(const struct wal *w);
// Gives up segments whose frames all have seq <= upto: recycled as spares or unlinked, directory
// synced.
MUST_USE
enum err wal_drop(struct wal *w, uint64_t upto);
// True while appends are refused for want of space; retried in the background (or by wal_flush).
bool wal_out_of_space(const struct wal *w);
void wal_get_stats(const struct wal *w, struct wal_stats *s);

#endif
