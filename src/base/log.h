// The structured log on standard error: one line an event, `time level event key=value ...`.
// Thread-safe (one write(2) a line). Values with spaces or quotes are quoted.
#ifndef VARVE_BASE_LOG_H
#define VARVE_BASE_LOG_H

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_NONE };

// Lines below `level` are dropped. Default LOG_INFO. Call before threads start.
void log_set_level(enum log_level level);
// `fields` is a printf format of key=value pairs, e.g. "segment=%u bytes=%zu"; may be "".
// A %s value that may hold spaces goes through log_quote().
void log_event(enum log_level level, const char *event, const char *fields, ...)
    __attribute__((format(printf, 3, 4)));
// Quotes `s` into one of a few thread-local buffers (valid until four more calls on this thread).
const char *log_quote(const char *s);

#endif
