// The log's files.
//
// A log directory holds segments, named by a number that only rises (20 decimal digits and ".wal":
// 00000000000000000001.wal), and spares ("spare-7.tmp"): preallocated files waiting to become
// segments. Other names ending in ".tmp" are left alone; anything else is refused by name.
// All integers are little-endian.
//
// Segment: one header block, then frames end to end, each at an offset divisible by 8. What follows
// the last frame is whatever the file held before: zeros, or frames of an earlier life of the file.
//
//   header, 4096 bytes, so that no frame shares a sector or a page with it
//     0  u8[8]  magic "varvewal"
//     8  u32    CRC-32C of the block from byte 12 to its end
//    12  u32    format version, 1
//    16  u64    store id: the random number of the data directory
//    24  u64    segment number, the same as in the name
//    32  u64    first: sequence of the segment's first frame
//    40  u64    salt: a random number, new each time a file becomes a segment
//    48  u64    synced: all frames up to this sequence are durable if the segment has its name
//    56         zeros
//   Magic, CRC and version keep their places in every later version.
//
//   frame, 24 bytes + payload + zeros up to a multiple of 8
//     0  u32    CRC-32C of the salt (8 bytes) and of the frame from byte 4 to its end
//     4  u32    length of the payload, or a mark: 0x80000000 idle, 0x80000001 closed
//     8  u64    sequence; a mark repeats that of the last frame before it
//    16  u64    synced: the highest sequence that was durable when this frame was written
//    24         payload; a mark has none
//
// How they are written. One thread writes: it takes the group of frames that gathered, fills in
// `synced` and CRC, writes the group with one write a segment, syncs, and only then calls the group
// durable. A segment gets its name in this order: every frame of the segment before is durable; its
// own header and first frames are written to the spare and synced; the spare is renamed; the
// directory is synced; then those frames are durable. A segment is written front to back by one
// opening of the log and never again: the next opening begins a new segment, so a torn tail needs
// no cutting, the new segment's `first` cuts it.
//
// A frame at offset o of a segment, where sequence s is expected, is valid if
//   F1  o is a multiple of 8, the length is at most LIMIT_WAL_FRAME or a mark, and the frame ends
//       within the file;
//   F2  its CRC is right for the segment's salt, so that it was written in this life of the file;
//   F3  its sequence is s and synced < s; or it is a mark, its sequence is s - 1 and synced = s
//   - 1.
// A header is valid if magic, CRC, version, store id and number are right, and synced >= first - 1.
//
// Recovery after checkpoint `after`:
//   R1  The first segment read is the newest with first <= after + 1. Older ones are leftovers of
//   an
//       interrupted drop and are removed unread. No such segment, though there are others: a gap.
//   R2  From there on numbers are consecutive, else a segment is missing.
//   R3  A segment that is not the newest ends where s reaches `first` of the next one. A frame that
//   is
//       invalid before that is damage: it had been durable before the next segment got its name.
//   R4  The newest segment ends at its first invalid frame or after a closed mark. If it is an
//   invalid
//       frame, expected to be s, then s had been durable, and this is damage, if the header's
//       synced
//       >= s, or if any later place of the segment (in steps of 8) holds a frame with the right
//       CRC, a sequence that fits, and synced >= s. Otherwise no reply ever rested on s: a torn
//       tail. It is left where it is, together with any whole frames after it, which nothing can
//       bring back.
//   R5  Frames of the newest segment past the highest `synced` seen may be in the page cache only
//   (a
//       killed process, a failed sync). They are written again in place and synced before anyone
//       is told of them.
//   R6  Appending goes on in a new segment, with first = the sequence after the last one found.
// R1 to R6 change nothing that a second recovery reads differently, wherever the first was cut
// short.
#ifndef VARVE_WAL_FORMAT_H
#define VARVE_WAL_FORMAT_H

#include "base/assert.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/slice.h"

enum {
    WAL_VERSION = 1,
    WAL_HEADER = 4096,   // bytes of a segment's header block
    WAL_FRAME_HEAD = 24, // bytes of a frame before its payload; all of a mark
    WAL_FRAME_ALIGN = 8,
};
#define WAL_MARK_IDLE   0x80000000u
#define WAL_MARK_CLOSED 0x80000001u

_Static_assert(LIMIT_WAL_FRAME < WAL_MARK_IDLE, "a length is never taken for a mark");

struct wal_header {
    uint64_t store_id;
    uint64_t number;
    uint64_t first;
    uint64_t salt;
    uint64_t synced;
};

// A frame's fixed part as read, before anything is known of its CRC.
struct wal_frame {
    uint32_t length; // or mark
    uint64_t seq;
    uint64_t synced;
    size_t size; // of the whole frame
};

static inline size_t wal_frame_size(size_t payload)
{
    return (WAL_FRAME_HEAD + payload + WAL_FRAME_ALIGN - 1) & ~(size_t)(WAL_FRAME_ALIGN - 1);
}

static inline bool wal_is_mark(uint32_t length)
{
    return length >= WAL_MARK_IDLE;
}

// Writes a frame whose synced and CRC are still open. `p` has wal_frame_size() bytes.
static inline void wal_frame_put(uint8_t *p, uint32_t length, uint64_t seq, struct slice payload)
{
    size_t size = wal_frame_size(payload.n);
    store64(p + size - 8, 0); // the padding, or a field set below
    store32(p + 4, length);
    store64(p + 8, seq);
    if (payload.n)
        memcpy(p + WAL_FRAME_HEAD, payload.p, payload.n);
}

// Reads the fixed part; false if the length cannot be one (F1, without the file's end).
static inline bool wal_frame_parse(const uint8_t *p, struct wal_frame *f)
{
    f->length = load32(p + 4);
    f->seq = load64(p + 8);
    f->synced = load64(p + 16);
    if (f->length <= LIMIT_WAL_FRAME)
        f->size = wal_frame_size(f->length);
    else if (f->length == WAL_MARK_IDLE || f->length == WAL_MARK_CLOSED)
        f->size = WAL_FRAME_HEAD;
    else
        return false;
    return wal_is_mark(f->length) ? f->synced == f->seq : f->synced < f->seq;
}

static inline uint32_t wal_frame_crc(const uint8_t *p, size_t size, uint64_t salt)
{
    if (VARVE_BUG == 4) // a frame of the file's earlier life looks valid; see also frame_is_next
        salt = 0;
    return crc32c(crc32c(0, &salt, sizeof salt), p + 4, size - 4);
}

// Fills in what is known only when the frame is about to be written.
static inline void wal_frame_seal(uint8_t *p, size_t size, uint64_t salt, uint64_t synced)
{
    store64(p + 16, synced);
    store32(p, wal_frame_crc(p, size, salt));
}

// Fills a block of WAL_HEADER bytes.
void wal_header_put(uint8_t *block, const struct wal_header *h);
// Checks and reads a block: ERR_DAMAGED or ERR_FORMAT with `file` in msg. Store id and number are
// the caller's to compare.
MUST_USE
enum err wal_header_get(const uint8_t *block, struct wal_header *h, const char *file,
                        struct errmsg *msg);

// A buffer for the longest name below, NUL included.
#define WAL_NAME 32
void wal_segment_name(char name[WAL_NAME], uint64_t number);
void wal_spare_name(char name[WAL_NAME], uint64_t id);
// True and the number if `name` is one that wal_segment_name or wal_spare_name makes.
bool wal_is_segment(const char *name, uint64_t *number);
bool wal_is_spare(const char *name, uint64_t *id);

#endif
