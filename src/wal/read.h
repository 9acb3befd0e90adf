// Reading a log directory: rules R1 to R4 of format.h. Changes nothing on disk.
#ifndef VARVE_WAL_READ_H
#define VARVE_WAL_READ_H

#include "wal/format.h"
#include "wal/wal.h"

struct wal_file {
    uint64_t number;
    struct wal_header header; // of the segments that were read
    uint64_t size;
};

// What a directory holds. Release it also after an error.
struct wal_scan {
    // in
    struct os *os;
    const char *dir;
    uint64_t store_id;
    uint64_t after_seq;
    wal_replay_fn replay;
    void *replay_arg;
    struct errmsg *msg;
    // out
    struct wal_file *segments; // in rising order; those before `start` are leftovers (R1)
    size_t count, start;
    uint64_t *spares; // ids
    size_t spare_count;
    uint64_t last_seq; // 0 if there is no segment
    // In the newest segment, if there is one: its frames end at `end`; those from `unproven` on may
    // not be durable (R5).
    uint64_t end, unproven;
    uint32_t unproven_crc; // CRC-32C of the bytes between the two
    struct wal_recovery found;
    // private
    size_t cap, spare_cap;
    char strange[64]; // first name that belongs to nothing
    bool no_memory;
};

MUST_USE
enum err wal_scan(struct wal_scan *s);
void wal_scan_release(struct wal_scan *s);

// dir/name into `path`.
void wal_path(char path[LIMIT_PATH], const char *dir, const char *name);

#endif
