// Files and the standard streams as the commands use them: whole input, lines, buffered output.
#ifndef VARVE_CLI_IO_H
#define VARVE_CLI_IO_H

#include "base/buf.h"
#include "base/os.h"

// Reads all of a file, or of standard input for "-", into `out`. ERR_TOO_BIG past out->max.
MUST_USE enum err input_all(const char *path, struct buf *out, struct errmsg *msg);

// Lines of a file or, with path NULL or "-", of standard input.
struct input {
    struct os *os;
    const char *name; // for errors
    int fd;           // -1: standard input
    bool ended;
    uint64_t at;   // bytes read
    uint64_t size; // of the file; 0: unknown
    uint64_t line; // number of the line that input_line gave last, from 1
    struct buf buf;
    size_t taken; // bytes of the line given last, to be dropped
    size_t seen;  // bytes of the next line that hold no newline
};
MUST_USE enum err input_open(struct input *in, const char *path, size_t max_line,
                             struct errmsg *msg);
// The next line without its newline, with BUF_PADDING readable bytes after it; lives until the next
// call. ERR_MISSING at the end; ERR_TOO_BIG, ERR_IO with msg.
MUST_USE enum err input_line(struct input *in, struct slice *line, struct errmsg *msg);
// True if the next line is here, or its file is: input_line will not wait for somebody to write.
bool input_ready(const struct input *in);
void input_close(struct input *in);

// A file, or standard output. The file gets its name only when all of it is on the disk: until then
// it is PATH.part.
struct output {
    struct os *os;
    const char *path; // NULL: standard output
    int fd;
    uint64_t at;
    struct buf buf; // append here, then output_flush
};
MUST_USE enum err output_open(struct output *out, const char *path, struct errmsg *msg);
// Writes the buffer if it holds at least `at_least` bytes.
MUST_USE enum err output_flush(struct output *out, size_t at_least, struct errmsg *msg);
// Writes the rest; with `keep` false the file is taken away again. Always releases.
MUST_USE enum err output_close(struct output *out, bool keep, struct errmsg *msg);

#endif
