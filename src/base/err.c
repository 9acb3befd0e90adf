#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>

const char *err_text(enum err e)
{
    static const char *const texts[] = {
#define X(name, text) text,
        VARVE_ERRORS(X)
#undef X
    };
    return (unsigned)e < ERR_COUNT ? texts[e] : "unknown error";
}

const char *err_name(enum err e)
{
    static const char *const names[] = {
#define X(name, text) #name,
        VARVE_ERRORS(X)
#undef X
    };
    return (unsigned)e < ERR_COUNT ? names[e] : "UNKNOWN";
}

enum err err_set(struct errmsg *m, enum err e, const char *format, ...)
{
    if (m) {
        va_list args;
        va_start(args, format);
        if (vsnprintf(m->text, sizeof m->text, format, args) < 0)
            m->text[0] = 0;
        va_end(args);
    }
    return e;
}
