#include "wal/read.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define WINDOW ((size_t)1 << 20) // bytes read at a time

void wal_path(char path[LIMIT_PATH], const char *dir, const char *name)
{
    int n = snprintf(path, LIMIT_PATH, "%s/%s", dir, name);
    VERIFY(n > 0 && (size_t)n < LIMIT_PATH);
}

// ---- a file seen through a window

struct reader {
    struct os *os;
    int fd;
    uint64_t size;
    uint8_t *data;
    size_t cap;
    uint64_t at;
    size_t have;
};

static enum err reader_load(struct reader *r, uint64_t off, size_t n)
{
    size_t want = n < WINDOW ? WINDOW : n;
    if (want > r->size - off)
        want = (size_t)(r->size - off);
    if (r->cap < want) {
        free(r->data);
        r->cap = r->have = 0;
        r->data = malloc(want);
        if (!r->data)
            return ERR_NO_MEMORY;
        r->cap = want;
    }
    r->at = off;
    r->have = 0;
    return os_pread(r->os, r->fd, r->data, want, off, &r->have);
}

// The n bytes at off, or NULL if the file ends before. They live until the next call.
static inline enum err reader_at(struct reader *r, uint64_t off, size_t n, const uint8_t **p)
{
    *p = NULL;
    if (off > r->size || r->size - off < n)
        return ERR_OK;
    if (off < r->at || off - r->at > r->have || r->have - (off - r->at) < n) {
        enum err e = reader_load(r, off, n);
        if (e != ERR_OK || r->have < n)
            return e;
    }
    *p = r->data + (off - r->at);
    return ERR_OK;
}

// ---- one segment

struct segment_read {
    struct wal_scan *scan;
    const struct wal_file *file;
    struct reader in;
    char path[LIMIT_PATH];
    uint64_t salt;
    uint64_t off;      // of the next frame
    uint64_t next;     // its sequence
    uint64_t synced;   // highest sequence proved durable
    uint64_t unproven; // offset of the first frame past that
    uint32_t crc;      // of the bytes from there to `off`
    bool closed;       // a closed mark was read
};

static enum err segment_open(struct segment_read *r, const struct wal_file *file)
{
    struct wal_scan *s = r->scan;
    char name[WAL_NAME];
    wal_segment_name(name, file->number);
    wal_path(r->path, s->dir, name);
    r->file = file;
    r->in.os = s->os;
    r->in.have = 0;
    enum err e = os_open(s->os, r->path, OS_READ, &r->in.fd);
    if (e != ERR_OK)
        return err_set(s->msg, ERR_IO, "%s: cannot open: %s", r->path, os_last_error());
    e = os_size(s->os, r->in.fd, &r->in.size);
    if (e != ERR_OK)
        e = err_set(s->msg, ERR_IO, "%s: cannot get its size: %s", r->path, os_last_error());
    if (e != ERR_OK)
        ERR_IGNORE(os_close(s->os, r->in.fd)); // the error is told already
    return e;
}

static void segment_close(struct segment_read *r)
{
    ERR_IGNORE(os_close(r->in.os, r->in.fd)); // only read
}

static enum err segment_bytes(struct segment_read *r, uint64_t off, size_t n, const uint8_t **p)
{
    enum err e = reader_at(&r->in, off, n, p);
    if (e == ERR_NO_MEMORY)
        return err_set(r->scan->msg, e, "%s: no memory for %zu bytes", r->path, n);
    if (e != ERR_OK)
        return err_set(r->scan->msg, ERR_IO, "%s: cannot read at offset %" PRIu64 ": %s", r->path,
                       off, os_last_error());
    return ERR_OK;
}

static enum err read_header(struct wal_scan *s, struct wal_file *file, struct segment_read *r)
{
    enum err e = segment_open(r, file);
    if (e != ERR_OK)
        return e;
    const uint8_t *block;
    struct wal_header *h = &file->header;
    file->size = r->in.size;
    e = segment_bytes(r, 0, WAL_HEADER, &block);
    if (e == ERR_OK && !block)
        e = err_set(s->msg, ERR_DAMAGED, "%s: shorter than its header", r->path);
    if (e == ERR_OK)
        e = wal_header_get(block, h, r->path, s->msg);
    if (e == ERR_OK && h->store_id != s->store_id)
        e = err_set(s->msg, ERR_DAMAGED,
                    "%s: belongs to another store (%016" PRIx64 ", this one is %016" PRIx64 ")",
                    r->path, h->store_id, s->store_id);
    if (e == ERR_OK && h->number != file->number)
        e = err_set(s->msg, ERR_DAMAGED, "%s: is segment %" PRIu64 " under a wrong name", r->path,
                    h->number);
    segment_close(r);
    return e;
}

// The frame at `off` with its CRC checked (F1, F2); *p is NULL if there is none. It lives until the
// next read.
static enum err frame_at(struct segment_read *r, uint64_t off, struct wal_frame *f,
                         const uint8_t **p)
{
    enum err e = segment_bytes(r, off, WAL_FRAME_HEAD, p);
    if (e != ERR_OK || !*p)
        return e;
    if (!wal_frame_parse(*p, f)) {
        *p = NULL;
        return ERR_OK;
    }
    e = segment_bytes(r, off, f->size, p);
    if (e == ERR_OK && *p && wal_frame_crc(*p, f->size, r->salt) != load32(*p))
        *p = NULL;
    return e;
}

// F3
static bool frame_is_next(const struct segment_read *r, const struct wal_frame *f)
{
    if (wal_is_mark(f->length))
        return f->seq == r->next - 1;
    // 4, with wal_frame_crc: a frame of the file's earlier life is taken for the next
    return f->seq == r->next || (VARVE_BUG == 4 && f->seq < r->next);
}

static void all_proved_before(struct segment_read *r, uint64_t off)
{
    r->unproven = off;
    r->crc = 0;
}

static enum err frame_take(struct segment_read *r, const struct wal_frame *f, const uint8_t *p)
{
    struct wal_scan *s = r->scan;
    if (f->synced > r->synced) {
        // The frames from here on (this one too, unless it is a mark) are the unproven ones: those
        // of one group say the same `synced`, and what lies before the first of them it proves.
        r->synced = f->synced;
        all_proved_before(r, r->off);
    }
    r->off += f->size;
    r->crc = crc32c(r->crc, p, f->size);
    if (wal_is_mark(f->length)) {
        all_proved_before(r, r->off);
        r->closed = f->length == WAL_MARK_CLOSED;
        return ERR_OK;
    }
    if (r->next > s->after_seq) {
        s->found.frames++;
        s->found.bytes += f->length;
        enum err e =
            s->replay(s->replay_arg, r->next, slice_of(p + WAL_FRAME_HEAD, f->length), s->msg);
        if (e != ERR_OK)
            return e;
    }
    if (r->next == r->file->header.synced)
        all_proved_before(r, r->off);
    r->next++;
    return ERR_OK;
}

static enum err damaged(const struct segment_read *r, const char *proof, uint64_t where)
{
    return err_set(r->scan->msg, ERR_DAMAGED,
                   "%s: the frame with sequence %" PRIu64 " at offset %" PRIu64
                   " is damaged or missing; it had been durable, as %s %" PRIu64 " proves",
                   r->path, r->next, r->off, proof, where);
}

// R4, at the first invalid frame of the newest segment: damage, or how many bytes are torn.
static enum err look_past_the_end(struct segment_read *r)
{
    if (r->next <= r->file->header.synced)
        return damaged(r, "the header of segment", r->file->number);
    uint64_t torn_end = r->off;
    uint64_t off = r->off;
    while (off + WAL_FRAME_HEAD <= r->in.size) {
        struct wal_frame f;
        const uint8_t *p;
        enum err e = segment_bytes(r, off, WAL_FRAME_HEAD, &p);
        if (e != ERR_OK)
            return e;
        if (!p)
            break;
        // Cheap tests first: sequences past the missing one, no more than would fit in between.
        uint64_t fit = (off - r->off) / WAL_FRAME_HEAD;
        if (!wal_frame_parse(p, &f) || f.seq < r->next || f.seq - r->next > fit) {
            off += WAL_FRAME_ALIGN;
            continue;
        }
        if (f.seq == r->next && off == r->off && f.size <= r->in.size - off)
            torn_end = off + f.size; // the frame itself, begun and not finished
        e = frame_at(r, off, &f, &p);
        if (e != ERR_OK)
            return e;
        if (!p) {
            off += WAL_FRAME_ALIGN;
            continue;
        }
        if (f.synced >= r->next)
            return damaged(r, "the frame at offset", off);
        off += f.size;
        torn_end = off;
    }
    r->scan->found.torn_bytes = torn_end - r->off;
    return ERR_OK;
}

// Reads the frames of one segment. `following` is the next one, NULL for the newest.
static enum err read_frames(struct segment_read *r, const struct wal_file *file,
                            const struct wal_file *following)
{
    enum err e = segment_open(r, file);
    if (e != ERR_OK)
        return e;
    r->salt = file->header.salt;
    r->next = file->header.first;
    r->synced = file->header.first - 1;
    r->off = WAL_HEADER;
    all_proved_before(r, WAL_HEADER);
    r->closed = false;
    while (e == ERR_OK && !r->closed && !(following && r->next == following->header.first)) {
        struct wal_frame f;
        const uint8_t *p;
        e = frame_at(r, r->off, &f, &p);
        if (e != ERR_OK)
            break;
        if (p && frame_is_next(r, &f)) {
            e = frame_take(r, &f, p);
        } else if (following) {
            e = damaged(r, "the name of segment", following->number);
        } else {
            e = look_past_the_end(r);
            break;
        }
    }
    if (e == ERR_OK && following && r->next != following->header.first)
        e = damaged(r, "the name of segment", following->number);
    segment_close(r);
    return e;
}

// ---- the directory

static void *grown(struct wal_scan *s, void *p, size_t count, size_t *cap, size_t item)
{
    if (count < *cap)
        return p;
    size_t more = *cap ? *cap * 2 : 16;
    void *q = realloc(p, more * item);
    if (q)
        *cap = more;
    else
        s->no_memory = true;
    return q ? q : p;
}

static void note_name(void *arg, const char *name)
{
    struct wal_scan *s = arg;
    uint64_t n;
    if (wal_is_segment(name, &n)) {
        s->segments = grown(s, s->segments, s->count, &s->cap, sizeof *s->segments);
        if (!s->no_memory)
            s->segments[s->count++] = (struct wal_file){.number = n};
    } else if (wal_is_spare(name, &n)) {
        s->spares = grown(s, s->spares, s->spare_count, &s->spare_cap, sizeof *s->spares);
        if (!s->no_memory)
            s->spares[s->spare_count++] = n;
    } else {
        size_t len = strlen(name);
        bool temporary = len >= 4 && strcmp(name + len - 4, ".tmp") == 0;
        if (!temporary && !s->strange[0])
            snprintf(s->strange, sizeof s->strange, "%s", name);
    }
}

static int by_number(const void *a, const void *b)
{
    const struct wal_file *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

static int by_id(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static enum err list_files(struct wal_scan *s)
{
    enum err e = os_list(s->os, s->dir, note_name, s);
    if (e != ERR_OK)
        return err_set(s->msg, e, "%s: cannot list: %s", s->dir, os_last_error());
    if (s->no_memory)
        return err_set(s->msg, ERR_NO_MEMORY, "%s: no memory to list it", s->dir);
    if (s->strange[0])
        return err_set(s->msg, ERR_DAMAGED, "%s/%s: not a file of the log", s->dir, s->strange);
    if (s->count)
        qsort(s->segments, s->count, sizeof *s->segments, by_number);
    if (s->spare_count)
        qsort(s->spares, s->spare_count, sizeof *s->spares, by_id);
    return ERR_OK;
}

// R1 and R2: reads headers from the newest back to the first segment that matters.
static enum err find_start(struct wal_scan *s, struct segment_read *r)
{
    for (size_t i = s->count; i-- > 0;) {
        if (i + 1 < s->count && s->segments[i].number + 1 != s->segments[i + 1].number) {
            char name[WAL_NAME];
            wal_segment_name(name, s->segments[i].number + 1);
            return err_set(s->msg, ERR_DAMAGED, "%s/%s: this segment of the log is missing", s->dir,
                           name);
        }
        enum err e = read_header(s, &s->segments[i], r);
        if (e != ERR_OK)
            return e;
        s->start = i;
        if (s->segments[i].header.first <= s->after_seq + 1)
            return ERR_OK;
    }
    if (s->count == 0)
        return ERR_OK;
    char name[WAL_NAME];
    wal_segment_name(name, s->segments[0].number);
    return err_set(s->msg, ERR_DAMAGED,
                   "%s/%s: begins with sequence %" PRIu64 "; those from %" PRIu64 " on are missing",
                   s->dir, name, s->segments[0].header.first, s->after_seq + 1);
}

enum err wal_scan(struct wal_scan *s)
{
    struct segment_read r = {.scan = s};
    enum err e = list_files(s);
    s->found.clean = s->count == 0;
    if (e == ERR_OK)
        e = find_start(s, &r);
    for (size_t i = s->start; e == ERR_OK && i < s->count; i++) {
        const struct wal_file *following = i + 1 < s->count ? &s->segments[i + 1] : NULL;
        e = read_frames(&r, &s->segments[i], following);
        s->last_seq = r.next - 1;
        s->found.clean = r.closed;
    }
    s->end = r.off;
    s->unproven = r.unproven;
    s->unproven_crc = r.crc;
    s->found.segments = (uint32_t)(s->count - s->start);
    s->found.last_seq = s->last_seq;
    free(r.in.data);
    return e;
}

void wal_scan_release(struct wal_scan *s)
{
    free(s->segments);
    free(s->spares);
    s->segments = NULL;
    s->spares = NULL;
    s->count = s->spare_count = 0;
}

enum err wal_verify(struct os *os, const char *dir, uint64_t store_id, uint64_t after_seq,
                    wal_replay_fn replay, void *replay_arg, struct wal_recovery *found,
                    struct errmsg *msg)
{
    struct wal_scan s = {.os = os,
                         .dir = dir,
                         .store_id = store_id,
                         .after_seq = after_seq,
                         .replay = replay,
                         .replay_arg = replay_arg,
                         .msg = msg};
    enum err e = wal_scan(&s);
    *found = s.found;
    wal_scan_release(&s);
    return e;
}
