#include "base/base64.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_write(uint8_t *to, struct slice s)
{
    for (size_t i = 0; i < s.n; i += 3, to += 4) {
        size_t left = s.n - i;
        uint32_t v = (uint32_t)s.p[i] << 16;
        if (left > 1)
            v |= (uint32_t)s.p[i + 1] << 8;
        if (left > 2)
            v |= s.p[i + 2];
        to[0] = (uint8_t)digits[v >> 18];
        to[1] = (uint8_t)digits[v >> 12 & 63];
        to[2] = left > 1 ? (uint8_t)digits[v >> 6 & 63] : '=';
        to[3] = left > 2 ? (uint8_t)digits[v & 63] : '=';
    }
}

enum err base64_put(struct buf *b, struct slice s)
{
    size_t n = BASE64_SIZE(s.n);
    enum err e = buf_reserve(b, n);
    if (e)
        return e;
    base64_write(buf_tail(b), s);
    b->end += n;
    return ERR_OK;
}

static int digit(uint8_t c)
{
    const char *p = c ? memchr(digits, c, 64) : NULL;
    return p ? (int)(p - digits) : -1;
}

enum err base64_get(struct buf *b, struct slice text)
{
    if (text.n % 4)
        return ERR_INVALID;
    enum err e = buf_reserve(b, text.n / 4 * 3);
    if (e)
        return e;
    uint8_t *to = buf_tail(b);
    for (size_t i = 0; i < text.n; i += 4) {
        const uint8_t *p = text.p + i;
        bool last = i + 4 == text.n;
        int pad = last && p[3] == '=' ? p[2] == '=' ? 2 : 1 : 0;
        int d[4] = {digit(p[0]), digit(p[1]), pad < 2 ? digit(p[2]) : 0, pad < 1 ? digit(p[3]) : 0};
        if (d[0] < 0 || d[1] < 0 || d[2] < 0 || d[3] < 0)
            return ERR_INVALID;
        uint32_t v =
            (uint32_t)d[0] << 18 | (uint32_t)d[1] << 12 | (uint32_t)d[2] << 6 | (uint32_t)d[3];
        if ((pad == 1 && v & 0xff) || (pad == 2 && v & 0xffff))
            return ERR_INVALID; // bits that say nothing must be 0
        *to++ = (uint8_t)(v >> 16);
        if (pad < 2)
            *to++ = (uint8_t)(v >> 8);
        if (pad < 1)
            *to++ = (uint8_t)v;
    }
    b->end = (size_t)(to - b->data);
    return ERR_OK;
}
