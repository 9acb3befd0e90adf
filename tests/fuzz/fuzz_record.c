// record_next() over any bytes. Properties: it ends; what it accepts is what record_write lays out,
// in rising order, and reads backwards to the same places; what it refuses has a reason.
#include "fuzz.h"
#include "op/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *run = fuzz_copy(data, size, 0, 0);
    uint8_t *again = malloc(size + 1);
    VERIFY(again);
    struct record_walk w = {.rest = slice_of(run, size)};
    struct record r;
    struct errmsg msg = {""};
    uint8_t *p = again;
    uint64_t last = 0;
    size_t count = 0;
    enum err e;
    while ((e = record_next(&w, &r, &msg)) == ERR_OK) {
        VERIFY(r.offset > last && record_span(run + (p - again)) == record_size(r.bytes.n));
        last = r.offset;
        p = record_write(p, &r);
        count++;
    }
    size_t n = (size_t)(p - again);
    VERIFY(w.at == n && w.rest.n == size - n && memcmp(run, again, n) == 0);
    VERIFY(e == ERR_MISSING ? n == size : e == ERR_DAMAGED && msg.text[0]);
    for (const uint8_t *back = run + n; back > run; back -= record_span_before(back), count--)
        VERIFY(record_span_before(back) <= (size_t)(back - run));
    VERIFY(count == 0);
    free(again);
    free(run);
    return 0;
}
