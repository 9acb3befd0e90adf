// JSON by simdjson's DOM parser, whose tree ("tape") is walked here directly:
//
//   A tape is an array of 64-bit words; the top byte of a word is its type, the rest its payload.
//     [ {   payload: low 32 bits the index of the word after the matching ] or }, next 24 bits the
//           count of elements or members, 0xFFFFFF if there are that many or more
//     ] }   the end; in an object names (strings) and values alternate
//     "     payload: offset in the string buffer of a u32 length and that many bytes
//     l u d the next word is the i64, u64 or double
//     t f n true, false, null
//   Word 0 is the root; the document's value begins at word 1.
//   (simdjson doc/tape.md; the library's version is checked at compile time below.)
//
// A `struct json` is the document and an index into its tape, so a cursor costs two registers.
// simdjson says that a text is wrong but not where; explain() below finds that out, only then.
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <simdjson.h>
#include <string>

extern "C" { // the C headers do not say so themselves
#include "base/assert.h"
#include "base/json.h"
#include "base/limits.h"
}

static_assert(BUF_PADDING >= simdjson::SIMDJSON_PADDING, "buffers must satisfy simdjson");
static_assert(simdjson::SIMDJSON_VERSION_MAJOR == 3,
              "the tape's layout was checked against simdjson 3");

namespace
{

using simdjson::dom::document;

// Memory for texts up to this many bytes is kept between parses; more is given back by the next
// parse of a text that does not need it.
constexpr size_t KEEP_BYTES = 256u << 10;
constexpr size_t FIRST_BYTES = 4u << 10;
constexpr uint32_t COUNT_SATURATED = 0xFFFFFF;

inline uint64_t tape_word(struct json v)
{
    return static_cast<const document *>(v.doc)->tape[v.at];
}

inline char tape_type(struct json v)
{
    return static_cast<char>(tape_word(v) >> 56);
}

inline uint64_t tape_number(struct json v)
{
    return static_cast<const document *>(v.doc)->tape[v.at + 1];
}

inline size_t tape_after(struct json v)
{
    switch (tape_type(v)) {
    case '[':
    case '{':
        return static_cast<uint32_t>(tape_word(v));
    case 'l':
    case 'u':
    case 'd':
        return v.at + 2;
    default:
        return v.at + 1;
    }
}

inline struct slice tape_string(struct json v)
{
    const document *doc = static_cast<const document *>(v.doc);
    const uint8_t *s = doc->string_buf.get() + (tape_word(v) & 0x00FFFFFFFFFFFFFF);
    return slice_of(s + 4, load32(s));
}

// A plain validator: finds the first byte at which a text stops being JSON that varve takes.
class explainer
{
  public:
    explainer(struct slice text, struct errmsg *to) : begin(text.p), p(text.p), msg(to)
    {
        end = begin + text.n;
    }

    // ERR_OK if it finds nothing wrong.
    enum err run()
    {
        skip_space();
        if (p == end)
            return err_set(msg, ERR_INVALID, "JSON text is empty");
        enum err e = document_value();
        if (e)
            return e;
        skip_space();
        return p == end ? ERR_OK : unexpected("the end of the text");
    }

  private:
    const uint8_t *begin;
    const uint8_t *p;
    const uint8_t *end;
    struct errmsg *msg;
    bool in_object[LIMIT_JSON_DEPTH];

    size_t at(const uint8_t *q) const
    {
        return static_cast<size_t>(q - begin);
    }

    void skip_space()
    {
        while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
            p++;
    }

    enum err unexpected(const char *wanted) const
    {
        if (p == end)
            return err_set(msg, ERR_INVALID, "JSON text ends at byte %zu where %s should be", at(p),
                           wanted);
        if (*p > ' ' && *p < 0x7F)
            return err_set(msg, ERR_INVALID, "JSON has '%c' at byte %zu where %s should be", *p,
                           at(p), wanted);
        return err_set(msg, ERR_INVALID, "JSON has byte 0x%02X at byte %zu where %s should be", *p,
                       at(p), wanted);
    }

    // A value with all that is in it; nesting is kept in in_object, not on the C stack.
    enum err document_value()
    {
        size_t depth = 0;
        for (;;) {
            bool opened;
            enum err e = value(&depth, &opened);
            if (e)
                return e;
            if (opened)
                continue;
            for (;;) { // after a value: what may follow it
                if (depth == 0)
                    return ERR_OK;
                skip_space();
                bool object = in_object[depth - 1];
                if (p < end && *p == ',') {
                    p++;
                    if (object && (e = name()))
                        return e;
                    break;
                }
                if (p == end || *p != (object ? '}' : ']'))
                    return unexpected(object ? "',' or '}'" : "',' or ']'");
                p++;
                depth--;
            }
        }
    }

    // One scalar or empty container, or only the opening of another (and an object's first name).
    enum err value(size_t *depth, bool *opened)
    {
        *opened = false;
        skip_space();
        if (p == end)
            return unexpected("a value");
        switch (*p) {
        case '{':
        case '[':
            return open(depth, opened);
        case '"':
            return string();
        case 't':
            return word("true");
        case 'f':
            return word("false");
        case 'n':
            return word("null");
        default:
            return number();
        }
    }

    enum err open(size_t *depth, bool *opened)
    {
        const uint8_t *start = p;
        bool object = *p++ == '{';
        skip_space();
        if (p < end && *p == (object ? '}' : ']')) {
            p++;
            return ERR_OK;
        }
        if (*depth == LIMIT_JSON_DEPTH)
            return err_set(msg, ERR_INVALID, "JSON is nested deeper than %u levels at byte %zu",
                           LIMIT_JSON_DEPTH, at(start));
        in_object[(*depth)++] = object;
        *opened = true;
        return object ? name() : ERR_OK;
    }

    // A member's name and the colon.
    enum err name()
    {
        skip_space();
        if (p == end || *p != '"')
            return unexpected("a member name");
        enum err e = string();
        if (e)
            return e;
        skip_space();
        if (p == end || *p != ':')
            return unexpected("':'");
        p++;
        return ERR_OK;
    }

    enum err word(const char *w)
    {
        const uint8_t *start = p;
        for (; *w; w++, p++)
            if (p == end || *p != static_cast<uint8_t>(*w))
                break;
        bool longer = p < end && (*p == '_' || (*p >= '0' && *p <= '9') ||
                                  ((*p | 32) >= 'a' && (*p | 32) <= 'z'));
        if (!*w && !longer)
            return ERR_OK;
        p = start;
        return unexpected("a value");
    }

    bool digits()
    {
        const uint8_t *start = p;
        while (p < end && *p >= '0' && *p <= '9')
            p++;
        return p > start;
    }

    enum err number()
    {
        const uint8_t *start = p;
        bool integer = true;
        if (*p == '-')
            p++;
        else if (*p < '0' || *p > '9')
            return unexpected("a value");
        if (p < end && *p == '0')
            p++;
        else if (!digits())
            return unexpected("a digit");
        if (p < end && *p == '.') {
            integer = false;
            p++;
            if (!digits())
                return unexpected("a digit");
        }
        if (p < end && (*p == 'e' || *p == 'E')) {
            integer = false;
            p++;
            if (p < end && (*p == '+' || *p == '-'))
                p++;
            if (!digits())
                return unexpected("a digit");
        }
        return range(start, integer);
    }

    enum err range(const uint8_t *start, bool integer) const
    {
        const char *first = reinterpret_cast<const char *>(start);
        const char *last = reinterpret_cast<const char *>(p);
        bool fits;
        if (integer && *start == '-') {
            int64_t v;
            fits = std::from_chars(first, last, v).ec == std::errc();
        } else if (integer) {
            uint64_t v;
            fits = std::from_chars(first, last, v).ec == std::errc();
        } else {
            // from_chars does not tell an underflow, which is read as 0, from an overflow.
            fits = std::isfinite(std::strtod(std::string(first, last).c_str(), nullptr));
        }
        if (fits)
            return ERR_OK;
        int shown = static_cast<int>(last - first > 60 ? 60 : last - first);
        return err_set(msg, ERR_OVERFLOW, "number %.*s%s at byte %zu is beyond %s", shown, first,
                       last - first > 60 ? "..." : "", at(start),
                       integer ? "64 bits" : "the range of a double");
    }

    enum err string()
    {
        const uint8_t *start = p++;
        while (p < end && *p != '"') {
            enum err e;
            if (*p == '\\')
                e = escape(start);
            else if (*p < 0x20)
                e = err_set(msg, ERR_INVALID,
                            "control character 0x%02X at byte %zu must be escaped in a JSON string",
                            *p, at(p));
            else if (*p < 0x80)
                e = (p++, ERR_OK);
            else
                e = utf8();
            if (e)
                return e;
        }
        if (p == end)
            return unclosed(start);
        p++;
        return ERR_OK;
    }

    enum err unclosed(const uint8_t *start) const
    {
        return err_set(msg, ERR_INVALID, "JSON string that begins at byte %zu has no end",
                       at(start));
    }

    // One well-formed UTF-8 sequence of two to four bytes (Unicode 15, table 3-7).
    enum err utf8()
    {
        uint8_t c = *p;
        unsigned more = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;
        uint8_t low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
        uint8_t high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
        bool good = c >= 0xC2 && c <= 0xF4 && static_cast<size_t>(end - p) > more;
        for (unsigned i = 1; good && i <= more; i++) {
            good = p[i] >= low && p[i] <= high;
            low = 0x80;
            high = 0xBF;
        }
        if (!good)
            return err_set(msg, ERR_INVALID, "JSON is not UTF-8 at byte %zu (0x%02X)", at(p), c);
        p += 1 + more;
        return ERR_OK;
    }

    // The four digits at q as a number, or -1.
    int32_t hex4(const uint8_t *q) const
    {
        int32_t v = 0;
        for (int i = 0; i < 4; i++, q++) {
            if (q >= end)
                return -1;
            uint8_t c = *q | 32;
            if (*q >= '0' && *q <= '9')
                v = v * 16 + (*q - '0');
            else if (c >= 'a' && c <= 'f')
                v = v * 16 + (c - 'a' + 10);
            else
                return -1;
        }
        return v;
    }

    enum err escape(const uint8_t *string_start)
    {
        if (end - p < 2)
            return unclosed(string_start);
        if (p[1] != 'u') {
            if (!p[1] || !std::strchr("\"\\/bfnrt", p[1]))
                return err_set(msg, ERR_INVALID, "JSON string has a bad escape at byte %zu", at(p));
            p += 2;
            return ERR_OK;
        }
        int32_t u = hex4(p + 2);
        if (u < 0)
            return err_set(msg, ERR_INVALID,
                           "JSON string has \\u without four hexadecimal digits at byte %zu",
                           at(p));
        if (u < 0xD800 || u > 0xDFFF) {
            p += 6;
            return ERR_OK;
        }
        bool pair = u < 0xDC00 && end - p >= 12 && p[6] == '\\' && p[7] == 'u';
        int32_t second = pair ? hex4(p + 8) : -1;
        if (second < 0xDC00 || second > 0xDFFF)
            return err_set(msg, ERR_INVALID, "JSON string has half a surrogate pair at byte %zu",
                           at(p));
        p += 12;
        return ERR_OK;
    }
};

__attribute__((cold)) enum err explain(struct slice text, simdjson::error_code code,
                                       struct errmsg *msg)
{
    if (code == simdjson::MEMALLOC || code == simdjson::CAPACITY)
        return err_set(msg, ERR_NO_MEMORY, "no memory to parse %zu bytes of JSON", text.n);
    try {
        enum err e = explainer(text, msg).run();
        if (e)
            return e;
    } catch (const std::bad_alloc &) {
        return err_set(msg, ERR_NO_MEMORY, "no memory to explain an error in JSON");
    }
    return err_set(msg, ERR_INVALID, "JSON: %s", simdjson::error_message(code));
}

} // namespace

struct json_parser {
    simdjson::dom::parser dom;
    size_t max_bytes;
    size_t capacity; // text bytes that the memory held now is good for
};

// Makes the parser's memory fit for n bytes: at least doubles it, or gives a huge one back.
static simdjson::error_code fit(struct json_parser *p, size_t n)
{
    size_t want = p->capacity ? p->capacity : FIRST_BYTES;
    if (want > KEEP_BYTES && n <= KEEP_BYTES)
        want = KEEP_BYTES;
    while (want < n)
        want *= 2;
    if (want > p->max_bytes)
        want = p->max_bytes;
    if (want == p->capacity)
        return simdjson::SUCCESS;
    // The old blocks go first, so that old and new are never held together.
    p->capacity = 0;
    simdjson::error_code code = p->dom.doc.allocate(0);
    if (!code)
        code = p->dom.doc.allocate(want);
    if (!code) // simdjson needs one level more than it accepts
        code = p->dom.allocate(want, LIMIT_JSON_DEPTH + 1);
    if (!code)
        p->capacity = want;
    return code;
}

struct json_parser *json_parser_new(size_t max_bytes)
{
    struct json_parser *p = new (std::nothrow) json_parser;
    if (!p)
        return nullptr;
    p->max_bytes = max_bytes;
    p->capacity = 0;
    return p;
}

void json_parser_free(struct json_parser *p)
{
    delete p;
}

enum err json_parse(struct json_parser *p, struct slice text, struct json *root, struct errmsg *msg)
{
    if (text.n > p->max_bytes)
        return err_set(msg, ERR_TOO_BIG, "JSON text of %zu bytes is over the limit of %zu", text.n,
                       p->max_bytes);
    simdjson::error_code code = simdjson::SUCCESS;
    if (text.n > p->capacity || p->capacity > KEEP_BYTES)
        code = fit(p, text.n);
    if (!code)
        code = p->dom.parse(text.p, text.n, false).error();
    if (code)
        return explain(text, code, msg);
    *root = {&p->dom.doc, 1};
    return ERR_OK;
}

enum json_kind json_kind(struct json v)
{
    switch (tape_type(v)) {
    case '"':
        return JSON_STRING;
    case 'l':
        return JSON_INT;
    case 'u':
        return JSON_UINT;
    case 'd':
        return JSON_FLOAT;
    case '[':
        return JSON_ARRAY;
    case '{':
        return JSON_OBJECT;
    case 't':
    case 'f':
        return JSON_BOOL;
    default:
        VERIFY(tape_type(v) == 'n');
        return JSON_NULL;
    }
}

const char *json_kind_name(enum json_kind k)
{
    switch (k) {
    case JSON_NULL:
        return "null";
    case JSON_BOOL:
        return "bool";
    case JSON_INT:
    case JSON_UINT:
        return "integer";
    case JSON_FLOAT:
        return "float";
    case JSON_STRING:
        return "string";
    case JSON_ARRAY:
        return "array";
    case JSON_OBJECT:
        return "object";
    }
    return "?";
}

bool json_bool(struct json v)
{
    char t = tape_type(v);
    VERIFY(t == 't' || t == 'f');
    return t == 't';
}

int64_t json_int(struct json v)
{
    VERIFY(tape_type(v) == 'l');
    return static_cast<int64_t>(tape_number(v));
}

uint64_t json_uint(struct json v)
{
    uint64_t n = tape_number(v);
    VERIFY(tape_type(v) == 'u' || (tape_type(v) == 'l' && n <= INT64_MAX));
    return n;
}

double json_float(struct json v)
{
    VERIFY(tape_type(v) == 'd');
    uint64_t bits = tape_number(v);
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

struct slice json_string(struct json v)
{
    VERIFY(tape_type(v) == '"');
    return tape_string(v);
}

size_t json_count(struct json v)
{
    VERIFY(tape_type(v) == '[' || tape_type(v) == '{');
    uint32_t n = static_cast<uint32_t>(tape_word(v) >> 32) & COUNT_SATURATED;
    if (n < COUNT_SATURATED)
        return n;
    struct json_iter it = json_iterate(v);
    struct json element;
    size_t walked = 0;
    while (json_next(&it, nullptr, &element))
        walked++;
    return walked;
}

struct json_iter json_iterate(struct json v)
{
    char t = tape_type(v);
    VERIFY(t == '[' || t == '{');
    return {{v.doc, v.at + 1}, tape_after(v) - 1, t == '{'};
}

bool json_next(struct json_iter *it, struct slice *name, struct json *v)
{
    if (it->next.at == it->end)
        return false;
    if (it->object) {
        if (name)
            *name = tape_string(it->next);
        it->next.at++;
    }
    *v = it->next;
    it->next.at = tape_after(it->next);
    return true;
}

size_t json_take_uints(struct json_iter *it, uint8_t *to)
{
    VERIFY(!it->object);
    const uint64_t *tape = static_cast<const document *>(it->next.doc)->tape.get();
    size_t at = it->next.at;
    size_t n = 0;
    for (; at < it->end; at += 2, n++) {
        uint64_t type = tape[at] >> 56;
        if (type != 'u' && (type != 'l' || tape[at + 1] > INT64_MAX))
            break;
        store64(to + 8 * n, tape[at + 1]);
    }
    it->next.at = at;
    return n;
}

// True if one of the eight bytes must be escaped: below 0x20, '"' or '\\'.
static inline bool must_escape8(uint64_t w)
{
    constexpr uint64_t ones = 0x0101010101010101;
    uint64_t quote = w ^ (ones * '"');
    uint64_t slash = w ^ (ones * '\\');
    // x - 1 borrows into a byte's top bit only if the byte was 0 (for x - 0x20: below 0x20), or,
    // after such a byte, in a higher one: never a false negative, and false positives only beside
    // true ones.
    uint64_t hit = ((w - ones * 0x20) & ~w) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash);
    return hit & (ones * 0x80);
}

static inline bool must_escape(uint8_t c)
{
    return c < 0x20 || c == '"' || c == '\\';
}

// Writes the escape of `c` and returns its end.
static uint8_t *escape_byte(uint8_t *to, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    static const char brief[] = "btn\0fr"; // for bytes 8 to 13
    *to++ = '\\';
    if (c == '"' || c == '\\') {
        *to++ = c;
    } else if (c >= 8 && c <= 13 && brief[c - 8]) {
        *to++ = static_cast<uint8_t>(brief[c - 8]);
    } else {
        memcpy(to, "u00", 3);
        to[3] = static_cast<uint8_t>(hex[c >> 4]);
        to[4] = static_cast<uint8_t>(hex[c & 15]);
        to += 5;
    }
    return to;
}

enum err json_put_string(struct buf *b, struct slice s)
{
    constexpr size_t longest_escape = 6;
    size_t before = buf_len(b);
    enum err e = buf_reserve(b, s.n + 2);
    if (e)
        return e;
    uint8_t *to = buf_tail(b);
    *to++ = '"';
    size_t i = 0;
    while (i < s.n) {
        size_t run = i;
        while (run + 8 <= s.n && !must_escape8(load64(s.p + run)))
            run += 8;
        while (run < s.n && !must_escape(s.p[run]))
            run++;
        memcpy(to, s.p + i, run - i);
        to += run - i;
        i = run;
        if (i == s.n)
            break;
        b->end = static_cast<size_t>(to - b->data);
        e = buf_reserve(b, longest_escape + (s.n - i - 1) + 1);
        if (e) {
            b->end = b->start + before;
            return e;
        }
        to = escape_byte(buf_tail(b), s.p[i++]);
    }
    *to++ = '"';
    b->end = static_cast<size_t>(to - b->data);
    return ERR_OK;
}

enum err json_put_float(struct buf *b, double v)
{
    VERIFY(std::isfinite(v));
    char text[32]; // the longest is -2.2250738585072014e-308
    std::to_chars_result r = std::to_chars(text, text + sizeof text - 2, v);
    VERIFY(r.ec == std::errc());
    size_t n = static_cast<size_t>(r.ptr - text);
    if (!memchr(text, '.', n) && !memchr(text, 'e', n)) {
        memcpy(r.ptr, ".0", 2);
        n += 2;
    }
    enum err e = buf_reserve(b, n);
    if (!e)
        buf_put(b, text, n);
    return e;
}

template <typename T> static enum err put_integer(struct buf *b, T v)
{
    char text[20]; // the longest is -9223372036854775808
    std::to_chars_result r = std::to_chars(text, text + sizeof text, v);
    VERIFY(r.ec == std::errc());
    size_t n = static_cast<size_t>(r.ptr - text);
    enum err e = buf_reserve(b, n);
    if (!e)
        buf_put(b, text, n);
    return e;
}

enum err json_put_int(struct buf *b, int64_t v)
{
    return put_integer(b, v);
}

enum err json_put_uint(struct buf *b, uint64_t v)
{
    return put_integer(b, v);
}

// How many decimal digits v has: from its bits, one too many where it is below that power of ten.
static inline unsigned digit_count(uint64_t v)
{
    static const uint64_t powers[20] = {0,
                                        10,
                                        100,
                                        1000,
                                        10000,
                                        100000,
                                        1000000,
                                        10000000,
                                        100000000,
                                        1000000000,
                                        10000000000,
                                        100000000000,
                                        1000000000000,
                                        10000000000000,
                                        100000000000000,
                                        1000000000000000,
                                        10000000000000000,
                                        100000000000000000,
                                        1000000000000000000,
                                        10000000000000000000u};
    unsigned bits = 64 - static_cast<unsigned>(__builtin_clzll(v | 1));
    unsigned n = bits * 1233 >> 12; // log10(2) is 0.30103, 1233 / 4096 is 0.30102
    return n + (v >= powers[n]);
}

// Writes the digits of v so that they end before `end`, two at a time, in parts of eight whose
// arithmetic is of 32 bits.
static inline void put_digits(uint8_t *end, uint64_t v)
{
    static const char pairs[] = "0001020304050607080910111213141516171819"
                                "2021222324252627282930313233343536373839"
                                "4041424344454647484950515253545556575859"
                                "6061626364656667686970717273747576777879"
                                "8081828384858687888990919293949596979899";
    constexpr uint64_t part = 100000000;
    while (v >= part) {
        uint32_t low = static_cast<uint32_t>(v % part);
        v /= part;
        for (int i = 0; i < 4; i++, low /= 100)
            memcpy(end -= 2, pairs + 2 * (low % 100), 2);
    }
    uint32_t rest = static_cast<uint32_t>(v);
    for (; rest >= 100; rest /= 100)
        memcpy(end -= 2, pairs + 2 * (rest % 100), 2);
    if (rest >= 10)
        memcpy(end - 2, pairs + 2 * rest, 2);
    else
        end[-1] = static_cast<uint8_t>('0' + rest);
}

enum err json_put_uints(struct buf *b, const uint8_t *packed, size_t n, bool quoted)
{
    if (n == 0)
        return ERR_OK;
    size_t size = n - 1 + (quoted ? 2 * n : 0);
    for (size_t i = 0; i < n; i++)
        size += digit_count(load64(packed + 8 * i));
    enum err e = buf_reserve(b, size);
    if (e)
        return e;
    uint8_t *to = buf_tail(b);
    for (size_t i = 0; i < n; i++) {
        uint64_t v = load64(packed + 8 * i);
        if (i)
            *to++ = ',';
        if (quoted)
            *to++ = '"';
        to += digit_count(v);
        put_digits(to, v);
        if (quoted)
            *to++ = '"';
    }
    VERIFY(to == buf_tail(b) + size);
    b->end += size;
    return ERR_OK;
}
