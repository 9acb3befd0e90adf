// Recovery of the log from any bytes. The input says what two segments hold; headers and CRCs are
// made right where the input asks for it, or nothing would get past them. Properties: recovery
// ends, with frames in order or with an error that names a file; reading and opening agree; a log
// that opens takes a frame, closes, and is found again with it, clean.
#include "fuzz.h"
#include "base/log.h"
#include "base/os_sim.h"
#include "wal/format.h"
#include "wal/wal.h"

#include <stdio.h>

#define DIR   "/wal"
#define STORE 9

// Input: u8 flags, u8 after, u8 first of segment 2, u8 synced of segment 1, u16 bytes of segment
// 1's frames, then the frames of both.
enum { HEAD = 6, SEAL_FRAMES = 1, TWO_SEGMENTS = 2, BREAK_HEADER = 4 };

struct seen {
    uint64_t last;
    uint64_t bytes;
};

static enum err on_frame(void *arg, uint64_t seq, struct slice payload, struct errmsg *msg)
{
    struct seen *s = arg;
    VERIFY(seq == s->last + 1);
    s->last = seq;
    s->bytes += payload.n;
    return ERR_OK;
}

static void on_durable(void *arg, uint64_t seq)
{
}

static void on_fatal(void *arg, const char *what)
{
    abort(); // the machine has no faults
}

// Gives each frame, as long as they follow each other, the right CRC.
static void seal_frames(uint8_t *p, size_t n, uint64_t salt)
{
    while (n >= WAL_FRAME_HEAD) {
        struct wal_frame f;
        if (!wal_frame_parse(p, &f) || f.size > n)
            return;
        wal_frame_seal(p, f.size, salt, f.synced);
        p += f.size;
        n -= f.size;
    }
}

static void put_segment(struct os *os, const struct wal_header *h, const uint8_t *data, size_t n,
                        uint8_t flags)
{
    uint8_t *p = malloc(WAL_HEADER + n);
    VERIFY(p);
    wal_header_put(p, h);
    if (flags & BREAK_HEADER && n > 1)
        p[data[0] % 64] ^= data[1];
    if (n)
        memcpy(p + WAL_HEADER, data, n);
    if (flags & SEAL_FRAMES)
        seal_frames(p + WAL_HEADER, n, h->salt);
    char name[WAL_NAME], path[64];
    wal_segment_name(name, h->number);
    snprintf(path, sizeof path, DIR "/%s", name);
    int fd;
    VERIFY(os_open(os, path, OS_CREATE | OS_WRITE, &fd) == ERR_OK);
    VERIFY(os_pwrite(os, fd, p, WAL_HEADER + n, 0) == ERR_OK);
    VERIFY(os_sync(os, fd) == ERR_OK);
    VERIFY(os_close(os, fd) == ERR_OK);
    free(p);
}

static struct os_sim *disk(const uint8_t *data, size_t size)
{
    struct os_sim *s = sim_new(1);
    struct os *os = sim_os(s);
    VERIFY(os_mkdir(os, DIR) == ERR_OK);
    uint8_t flags = data[0];
    size_t n = size - HEAD, part = flags & TWO_SEGMENTS ? load16(data + 4) : n;
    if (part > n)
        part = n;
    struct wal_header h = {.store_id = STORE, .number = 1, .first = 1, .salt = 3};
    h.synced = data[3];
    put_segment(os, &h, data + HEAD, part, flags);
    h = (struct wal_header){.store_id = STORE, .number = 2, .first = data[2] + 1u, .salt = 4};
    h.synced = h.first - 1;
    if (flags & TWO_SEGMENTS)
        put_segment(os, &h, data + HEAD + part, n - part, flags & SEAL_FRAMES);
    VERIFY(os_sync_dir(os, DIR) == ERR_OK);
    return s;
}

static enum err verify(struct os *os, uint64_t after, struct seen *seen, struct wal_recovery *found)
{
    struct errmsg msg = {.text = ""};
    *seen = (struct seen){.last = after};
    enum err e = wal_verify(os, DIR, STORE, after, on_frame, seen, found, &msg);
    VERIFY(e == ERR_OK || ((e == ERR_DAMAGED || e == ERR_FORMAT) && strstr(msg.text, ".wal")));
    return e;
}

// The log on this disk goes on.
static void go_on(struct os *os, uint64_t after, const struct seen *first)
{
    struct wal_options o = {.os = os,
                            .dir = DIR,
                            .store_id = STORE,
                            .segment_size = WAL_HEADER + 1024,
                            .buffer_max = 1 << 20,
                            .on_fatal = on_fatal,
                            .on_durable = on_durable};
    struct seen seen = {.last = after};
    struct wal_recovery found;
    struct errmsg msg;
    struct wal *w;
    VERIFY(wal_open(&w, &o, after, on_frame, &seen, &found, &msg) == ERR_OK);
    VERIFY(seen.last == first->last && seen.bytes == first->bytes);
    uint64_t seq;
    VERIFY(wal_append(w, slice_str("goes on"), &seq) == ERR_OK);
    VERIFY(seq == first->last + 1);
    VERIFY(wal_close(w) == ERR_OK);
    VERIFY(verify(os, after, &seen, &found) == ERR_OK);
    VERIFY(seen.last == seq && seen.bytes == first->bytes + 7 && found.clean);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD)
        return 0;
    log_set_level(LOG_ERROR);
    struct os_sim *s = disk(data, size);
    struct seen seen;
    struct wal_recovery found;
    uint64_t after = data[1];
    if (verify(sim_os(s), after, &seen, &found) == ERR_OK) {
        VERIFY(seen.bytes <= size);
        go_on(sim_os(s), after, &seen);
    }
    sim_free(s);
    return 0;
}
