#include "base/u128.h"

size_t u128_format(u128 v, char text[U128_TEXT])
{
    char digits[U128_TEXT];
    size_t n = 0;
    do
        digits[n++] = (char)('0' + (int)(v % 10));
    while (v /= 10);
    for (size_t i = 0; i < n; i++)
        text[i] = digits[n - 1 - i];
    text[n] = 0;
    return n;
}

bool u128_parse(struct slice s, u128 *v)
{
    u128 sum = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned digit = (unsigned)s.p[i] - '0';
        if (digit > 9 || sum > (U128_MAX - digit) / 10)
            return false;
        sum = sum * 10 + digit;
    }
    *v = sum;
    return s.n > 0;
}
