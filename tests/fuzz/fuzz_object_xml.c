// What S3 says in XML, and a file of ~/.aws. Properties: what is refused says why; a listing's
// names are as many as counted, none empty, memory bounded by the input.
#include "fuzz.h"
#include "object/credentials.h"
#include "object/xml.h"

static void check_names(const struct xml_answer *a, size_t input)
{
    const uint8_t *p = buf_head(&a->names), *end = buf_tail(&a->names);
    for (size_t i = 0; i < a->count; i++) {
        VERIFY((size_t)(end - p) > sizeof(uint64_t) + 1);
        const uint8_t *name = p + sizeof(uint64_t);
        const uint8_t *nul = memchr(name, 0, (size_t)(end - name));
        VERIFY(nul && nul > name);
        p = nul + 1;
    }
    VERIFY(p == end);
    VERIFY(buf_len(&a->names) <= input);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct xml_answer a;
    struct errmsg msg = {""};
    enum err e = xml_parse(&a, slice_of(data, n), &msg);
    VERIFY(e == ERR_OK || msg.text[0]);
    if (e == ERR_OK)
        check_names(&a, n);
    xml_release(&a);
    struct slice value = {0};
    if (aws_file_find(slice_of(data, n), "default", "aws_access_key_id", &value)) {
        VERIFY(aws_file_has(slice_of(data, n), "default"));
        VERIFY(value.n <= n);
    }
    (void)iso_date_ms(slice_of(data, n)); // any bytes are survived
    return 0;
}
