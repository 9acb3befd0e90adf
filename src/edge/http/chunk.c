// Takes the chunking out of a request's body, in place: decoded bytes move down over the chunk
// headers, so that at the end the buffer holds head and body just as if a length had been
// announced.
//
//   body     = chunk* last trailer
//   chunk    = size-in-hex [";" extension] CRLF bytes CRLF
//   last     = "0" [";" extension] CRLF
//   trailer  = (field CRLF)* CRLF
//
// Extensions and trailer fields are passed over. Line ends are CRLF only, as in heads.
#include "edge/http/http_int.h"

#define CHUNK_LINE 256u // bytes of a chunk's first line at most

enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_DATA_END, CHUNK_TRAILER };

// A whole line at d->read, without its end. *got is false if it is not all there yet.
static unsigned take_line(struct chunk_decoder *d, const struct buf *in, size_t max, bool *got,
                          struct slice *line, struct errmsg *msg)
{
    const uint8_t *p = buf_head(in) + d->read;
    size_t n = buf_len(in) - d->read;
    const uint8_t *lf = n ? memchr(p, '\n', n) : NULL;
    size_t size = lf ? (size_t)(lf - p) + 1 : n;
    *got = lf != NULL;
    if (size > max)
        return d->state == CHUNK_SIZE
                   ? refuse(msg, 400, "malformed request: a chunk's first line is over %zu bytes",
                            max)
                   : refuse(msg, 431, "trailer fields are over %u bytes", LIMIT_HTTP_HEADERS);
    if (!lf)
        return 0;
    if (size < 2 || p[size - 2] != '\r')
        return refuse(msg, 400,
                      "malformed request: a line of a chunked body ends in LF without CR");
    *line = slice_of(p, size - 2);
    if (!line_clean(*line))
        return refuse(msg, 400, "malformed request: a control character in a chunked body");
    d->read += size;
    return 0;
}

static unsigned begin_chunk(struct chunk_decoder *d, struct slice line, size_t body_max,
                            struct errmsg *msg)
{
    size_t i = 0;
    uint64_t size = 0;
    for (int v; i < line.n && (v = hex_digit(line.p[i])) >= 0; i++) {
        size = size << 4 | (uint64_t)v;
        if (size > LIMIT_REQUEST_HARD)
            return refuse(msg, 413, "request body is over %zu bytes", body_max);
    }
    if (i == 0 || (i < line.n && line.p[i] != ';'))
        return refuse(msg, 400, "malformed request: a chunk's size is not a hexadecimal number");
    if (size > body_max - (d->write - d->head))
        return refuse(msg, 413, "request body is over %zu bytes", body_max);
    d->left = size;
    d->state = size ? CHUNK_DATA : CHUNK_TRAILER;
    return 0;
}

static void copy_data(struct chunk_decoder *d, const struct buf *in)
{
    size_t n = buf_len(in) - d->read;
    if (n > d->left)
        n = (size_t)d->left;
    if (d->read != d->write)
        memmove(buf_head(in) + d->write, buf_head(in) + d->read, n);
    d->read += n;
    d->write += n;
    d->left -= n;
    if (d->left == 0)
        d->state = CHUNK_DATA_END;
}

// One step; *go is false when more input is needed.
static unsigned step(struct chunk_decoder *d, const struct buf *in, size_t body_max, bool *go,
                     bool *done, struct errmsg *msg)
{
    struct slice line;
    unsigned status;
    size_t before = d->read;
    switch (d->state) {
    case CHUNK_SIZE:
        status = take_line(d, in, CHUNK_LINE, go, &line, msg);
        return status || !*go ? status : begin_chunk(d, line, body_max, msg);
    case CHUNK_DATA:
        copy_data(d, in);
        *go = d->left == 0;
        return 0;
    case CHUNK_DATA_END:
        *go = buf_len(in) - d->read >= 2;
        if (!*go)
            return 0;
        if (memcmp(buf_head(in) + d->read, "\r\n", 2) != 0)
            return refuse(msg, 400, "malformed request: a chunk's data does not end in CRLF");
        d->read += 2;
        d->state = CHUNK_SIZE;
        return 0;
    default:
        status = take_line(d, in, LIMIT_HTTP_HEADERS - d->trailer, go, &line, msg);
        if (status || !*go)
            return status;
        d->trailer += (uint32_t)(d->read - before);
        *done = line.n == 0;
        if (line.n && (line.p[0] == ':' || !memchr(line.p, ':', line.n)))
            return refuse(msg, 400, "malformed request: a trailer field without a name");
        return 0;
    }
}

unsigned chunk_decode(struct chunk_decoder *d, struct buf *in, size_t body_max, bool *done,
                      struct errmsg *msg)
{
    *done = false;
    for (bool go = true; go && !*done;) {
        unsigned status = step(d, in, body_max, &go, done, msg);
        if (status)
            return status;
    }
    size_t gap = d->read - d->write;
    if (*done) { // head and body go up to what follows, which may be much
        memmove(buf_head(in) + gap, buf_head(in), d->write);
        in->start += gap;
    } else { // what is left is part of a line at most
        memmove(buf_head(in) + d->write, buf_head(in) + d->read, buf_len(in) - d->read);
        in->end -= gap;
        d->read = d->write;
    }
    return 0;
}
