#include "base/log.h"
#include "base/os.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE \
    4096                 // bytes of a line, newline included; the rest is cut. As PIPE_BUF: a pipe
                         // takes that much in one piece
#define LOG_QUOTE   1024 // bytes of a quoted value
#define LOG_QUOTES  4
#define LOG_ELLIPSE "..."

static _Atomic int least = LOG_INFO;

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&least, (int)level, memory_order_relaxed);
}

// Appends at *at and moves it; cuts at `cap`, where a NUL always fits.
static void put(char *line, size_t cap, size_t *at, const char *format, va_list args)
{
    int n = vsnprintf(line + *at, cap - *at, format, args);
    if (n > 0)
        *at = (size_t)n < cap - *at ? *at + (size_t)n : cap - 1;
}

__attribute__((format(printf, 4, 5))) static void putf(char *line, size_t cap, size_t *at,
                                                       const char *format, ...)
{
    va_list args;
    va_start(args, format);
    put(line, cap, at, format, args);
    va_end(args);
}

void log_event(enum log_level level, const char *event, const char *fields, ...)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if ((int)level < atomic_load_explicit(&least, memory_order_relaxed))
        return;
    char line[LOG_LINE];
    size_t at = 0, cap = sizeof line - 1; // the last byte is for the newline
    uint64_t ms = os_wall_ms(os_real());
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    putf(line, cap, &at, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ %s %s", tm.tm_year + 1900,
         tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (unsigned)(ms % 1000),
         names[level], event);
    if (*fields) {
        putf(line, cap, &at, " ");
        va_list args;
        va_start(args, fields);
        put(line, cap, &at, fields, args);
        va_end(args);
    }
    // Whatever a field held, an event is one line: nobody can write a second one through a value.
    for (size_t i = 0; i < at; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[at++] = '\n';
    if (write(STDERR_FILENO, line, at) < 0)
        return; // there is nowhere left to say so
}

static bool is_plain(const char *s)
{
    size_t n = 0;
    for (; s[n]; n++)
        if ((unsigned char)s[n] <= 0x20 || (unsigned char)s[n] >= 0x7f || strchr("\"\\=", s[n]))
            return false;
    return n > 0 && n < LOG_QUOTE;
}

const char *log_quote(const char *s)
{
    static _Thread_local char quotes[LOG_QUOTES][LOG_QUOTE];
    static _Thread_local unsigned next;
    char *q = quotes[next++ % LOG_QUOTES];
    if (!s)
        s = "";
    if (is_plain(s)) {
        memcpy(q, s, strlen(s) + 1);
        return q;
    }
    size_t at = 0;
    q[at++] = '"';
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        // Room for the longest escape, the ellipse, the closing quote and the NUL.
        if (at + 4 + sizeof LOG_ELLIPSE + 1 > LOG_QUOTE) {
            memcpy(q + at, LOG_ELLIPSE, sizeof LOG_ELLIPSE - 1);
            at += sizeof LOG_ELLIPSE - 1;
            break;
        }
        if (c == '"' || c == '\\') {
            q[at++] = '\\';
            q[at++] = (char)c;
        } else if (c >= 0x20 && c < 0x7f) {
            q[at++] = (char)c;
        } else {
            at += (size_t)snprintf(q + at, LOG_QUOTE - at, "\\x%02x", c);
        }
    }
    q[at++] = '"';
    q[at] = 0;
    return q;
}
