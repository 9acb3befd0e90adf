// Unsigned integers of 128 bits: the nonces of log records.
#ifndef VARVE_BASE_U128_H
#define VARVE_BASE_U128_H

#include "base/slice.h"

__extension__ typedef unsigned __int128 u128;

#define U128_MAX  (~(u128)0)
#define U128_TEXT 40 // decimal digits and the end

static inline u128 load128(const void *p)
{
    u128 v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void store128(void *p, u128 v)
{
    memcpy(p, &v, sizeof v);
}

// Decimal, NUL-terminated; returns the number of digits.
size_t u128_format(u128 v, char text[U128_TEXT]);
// True if `s` is all decimal digits, at least one, and within range.
bool u128_parse(struct slice s, u128 *v);

#endif
