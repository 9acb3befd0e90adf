// op_next() over any bytes. Properties: it ends; what it accepts can be written (op_append asserts
// the limits), reads back as the same changes, and written again is the same bytes; what it refuses
// has a reason.
#include "fuzz.h"
#include "base/limits.h"
#include "../unit/op_random.h"

static void append(struct buf *b, const struct change *c)
{
    size_t before = buf_len(b);
    VERIFY(buf_reserve(b, op_size(c)) == ERR_OK);
    op_append(b, c);
    VERIFY(buf_len(b) - before == op_size(c));
}

// Reads `in` to its end or first error and writes what it says to `out`.
static enum err rewrite(struct slice in, struct buf *out)
{
    struct op_reader r = op_read(in);
    for (;;) {
        struct change c;
        struct errmsg msg = {""};
        enum err e = op_next(&r, &c, &msg);
        if (e != ERR_OK) {
            VERIFY(e == ERR_MISSING || msg.text[0]);
            VERIFY(e == ERR_MISSING || e == ERR_DAMAGED || e == ERR_FORMAT);
            return e;
        }
        char text[400];
        op_describe(&c, text, 1 + c.key.n % sizeof text);
        size_t at = buf_len(out);
        append(out, &c);
        struct change again;
        struct op_reader one = op_read(slice_of(buf_head(out) + at, buf_len(out) - at));
        VERIFY(op_next(&one, &again, NULL) == ERR_OK && same_change(&c, &again) && one.rest.n == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = fuzz_copy(data, size, 0, 0);
    struct buf once, twice;
    buf_init(&once, LIMIT_WAL_FRAME);
    buf_init(&twice, LIMIT_WAL_FRAME);
    (void)rewrite(slice_of(copy, size), &once);
    // Leaving zeros out never makes it longer; what is known of it is all there.
    VERIFY(buf_len(&once) <= size);
    VERIFY(rewrite(buf_slice(&once), &twice) == ERR_MISSING);
    VERIFY(slice_equal(buf_slice(&once), buf_slice(&twice)));
    buf_release(&once);
    buf_release(&twice);
    free(copy);
    return 0;
}
