// A dump's line. Properties: what is refused leaves the buffer as it was and says why; what is
// read, written and read again is the same.
#include "fuzz.h"
#include "cli/lines.h"

static void check_again(struct json_parser *parser, const struct line *line, struct slice bytes)
{
    struct buf text, again;
    struct line second;
    struct errmsg msg;
    struct slice key = slice_of(bytes.p, line->key_n);
    struct varve_value v = {.type = line->type,
                            .data = bytes.p + line->key_n,
                            .size = line->value_n,
                            .version = 1,
                            .expires_ms = line->expires_ms};
    buf_init(&text, LINE_BYTES);
    buf_init(&again, LINE_BYTES);
    VERIFY(line_put(&text, parser, key, &v) == ERR_OK);
    VERIFY(utf8_valid(buf_slice(&text)));
    VERIFY(line_get(&again, parser, buf_slice(&text), &second, &msg) == ERR_OK);
    VERIFY(second.type == line->type && second.expires_ms == line->expires_ms);
    VERIFY(second.key_n == line->key_n && second.value_n == line->value_n);
    VERIFY(slice_equal(buf_slice(&again), bytes));
    buf_release(&text);
    buf_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct json_parser *parser = json_parser_new(LINE_BYTES);
    struct buf text, out;
    struct line line;
    struct errmsg msg;
    VERIFY(parser);
    buf_init(&text, LINE_BYTES);
    buf_init(&out, LINE_BYTES);
    VERIFY(buf_reserve(&text, n + 1) == ERR_OK);
    buf_put(&text, data, n);
    enum err e = line_get(&out, parser, slice_of(buf_head(&text), n), &line, &msg);
    VERIFY(e == ERR_OK || (buf_len(&out) == 0 && msg.text[0]));
    if (e == ERR_OK) {
        VERIFY(buf_len(&out) == line.key_n + line.value_n);
        // Fixed layouts are checked by the server; a line may hold any bytes as base64.
        bool fits = ((line.type != VARVE_INT && line.type != VARVE_FLOAT) || line.value_n == 8) &&
                    (line.type != VARVE_BOOL || line.value_n == 1);
        VERIFY(buf_reserve(&out, 1) == ERR_OK);
        if (fits)
            check_again(parser, &line, slice_of(buf_head(&out), buf_len(&out)));
    }
    buf_release(&text);
    buf_release(&out);
    json_parser_free(parser);
    return 0;
}
