#include "base/slice.h"

// load16() to store64() and every stored format count on it.
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "varve needs a little-endian host");

// Length of the well-formed sequence that begins at p and has at most n bytes, 0 if ill-formed.
// The ranges are table 3-7 of the Unicode standard: only the second byte's range depends on the
// first.
static size_t utf8_sequence(const uint8_t *p, size_t n)
{
    uint8_t first = p[0], low = 0x80, high = 0xbf;
    size_t len;
    if (first < 0x80)
        return 1;
    if (first < 0xc2) // a continuation byte, or an overlong form of ASCII
        return 0;
    if (first < 0xe0) {
        len = 2;
    } else if (first < 0xf0) {
        len = 3;
        if (first == 0xe0)
            low = 0xa0; // below: overlong
        else if (first == 0xed)
            high = 0x9f; // above: surrogates
    } else if (first < 0xf5) {
        len = 4;
        if (first == 0xf0)
            low = 0x90; // below: overlong
        else if (first == 0xf4)
            high = 0x8f; // above: past U+10FFFF
    } else {
        return 0;
    }
    if (n < len || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

bool utf8_valid(struct slice s)
{
    size_t i = 0;
    while (i < s.n) {
        if (s.n - i >= 8 && !(load64(s.p + i) & 0x8080808080808080u)) {
            i += 8;
            continue;
        }
        size_t len = utf8_sequence(s.p + i, s.n - i);
        if (len == 0)
            return false;
        i += len;
    }
    return true;
}
