// Blocks of ids: a strictly rising run of u64 in few bytes, changed where it lies as far as that
// goes. A short list is one block; a long one is many (table/rels.h). The bytes of a block are the
// same in RAM and in the store below. Pure functions; no allocation.
//
// Two forms. All integers little-endian; bits from the lowest of the first byte on.
//
//   gaps    [u8 width w, 0 to 64; +128: has payloads][u8 count - 1][u8 n, bytes of the first, 0-8]
//           [u8 width p of payloads, 0 to 64, only with payloads]
//           [the first id, n bytes][count - 1 gaps of w bits, the last byte filled with zeros]
//           [count payloads of p bits, the last byte filled with zeros, only with payloads]
//           gap i = id i+1 - id i - 1. n is the least that holds the first id (0 for id 0). At most
//           IDS_BLOCK ids. w and p are at least what is needed, perhaps more.
//   bitmap  [u8 127][u8 words - 1][u16 count - 1][u64 base][words of u64]
//           bit i of word j: id (base + j) * 64 + i. Neither the first nor the last word is 0; at
//           most IDS_WORDS words. No payloads. Chosen for 32 ids and more where it takes at most
//           twice the bytes that gaps would: intersections and tests of dense lists are then a word
//           at a time.
//
// A payload is a u64 that goes with an id: relations in order of arrival keep them (table/rels.h).
#ifndef VARVE_TABLE_IDS_H
#define VARVE_TABLE_IDS_H

#include "base/err.h"
#include "base/slice.h"

#ifndef IDS_BLOCK      // tests like small ones
#define IDS_BLOCK 256u // ids of a block of gaps at most
#define IDS_WORDS 128u // words of a bitmap at most
#endif
#define IDS_MOST (IDS_WORDS * 64) // ids of any block at most
// Bytes of any block at most: gaps and payloads of 64 bits.
#define IDS_BYTES_MAX (4u + 8u + IDS_BLOCK * 16u)

// ---- of a valid block

size_t ids_size(const uint8_t *b);  // its bytes
size_t ids_count(const uint8_t *b); // its ids, 1 at least
uint64_t ids_first(const uint8_t *b);
uint64_t ids_last(const uint8_t *b);
bool ids_has_payloads(const uint8_t *b);
// *payload is set where there are payloads and it is not NULL. Reads no byte outside of the block
// (so do all of these).
bool ids_contains(const uint8_t *b, uint64_t id, uint64_t *payload);
// All ids in rising order as packed little-endian u64 to `out`, which need not be aligned and has
// room for ids_count(b); likewise the payloads where out_payloads is not NULL. Returns the count.
size_t ids_decode(const uint8_t *b, void *out, void *out_payloads);
// Only the ids > after (all without has_after), at most `max`.
size_t ids_decode_after(const uint8_t *b, bool has_after, uint64_t after, size_t max, void *out,
                        void *out_payloads);

// ---- making

// How many of the first of these rising ids the next block takes: as evenly filled as the rest
// allows, or as many as a bitmap holds where they are dense. n >= 1.
size_t ids_cut(const uint64_t *ids, size_t n, bool payloads);
// The bytes that ids_pack needs for exactly these (as ids_cut gave them).
size_t ids_pack_size(const uint64_t *ids, const uint64_t *payloads, size_t n);
// Writes them as one block in the smallest form (bitmaps: see the top). Returns its bytes.
size_t ids_pack(const uint64_t *ids, const uint64_t *payloads, size_t n, uint8_t *out);

// ---- changing in place

enum ids_result {
    IDS_DONE,   // changed; the block has now ids_size bytes, at most cap
    IDS_NONE,   // nothing to change: there already (add), not there (remove)
    IDS_REPACK, // cannot be done in place: decode, change, ids_cut, ids_pack
    IDS_EMPTY,  // remove: it was the only id; the block is unchanged
};
// Adds one id to a block that lies in `cap` bytes; the payload counts only if it has payloads, and
// an id that is there keeps its own. Nothing is changed unless DONE. REPACK when it would need more
// bytes, a wider gap or payload, more ids than a block has, or a bitmap that is larger or too thin.
MUST_USE enum ids_result ids_add(uint8_t *b, size_t cap, uint64_t id, uint64_t payload);
// Removes one id. *payload as in ids_contains, also with REPACK and EMPTY. Never makes the block
// larger; REPACK when it would, when a gap gets too wide for w, or a bitmap too thin.
MUST_USE enum ids_result ids_remove(uint8_t *b, uint64_t id, uint64_t *payload);

// ---- bytes from outside

// ERR_DAMAGED unless `s` is exactly one valid block: lengths, widths, ids that rise and end below
// 2^64, the least n, filling bits of zero, first and last word of a bitmap, its count.
MUST_USE enum err ids_check(struct slice s);

// ---- two blocks, or two rising runs; for intersections and the like

// The ids in both blocks to `out` (packed, unaligned, room for the smaller count). Word by word
// where both are bitmaps, by tests where one is.
size_t ids_intersect(const uint8_t *a, const uint8_t *b, void *out);
// Of two rising runs, into `out`, which may be `a` itself and has room for the shorter. Without
// branches that depend on the ids; gallops where one is much shorter.
size_t ids_intersect_runs(const uint64_t *a, size_t na, const uint64_t *b, size_t nb,
                          uint64_t *out);
// `out` is neither, and has room for both.
size_t ids_union_runs(const uint64_t *a, size_t na, const uint64_t *b, size_t nb, uint64_t *out);
// a without b. `out` may be `a` itself, and has room for it.
size_t ids_minus_runs(const uint64_t *a, size_t na, const uint64_t *b, size_t nb, uint64_t *out);

#endif
