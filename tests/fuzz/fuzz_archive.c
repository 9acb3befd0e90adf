// Names of objects and continuation tokens from any bytes. The first byte says what the rest is.
// Properties: what parses is written back as it was, and nothing else is; what is encoded is one
// part of a path, and decodes to what it was.
#include "fuzz.h"
#include "archive/name.h"

static void data_name(struct slice s)
{
    struct name n;
    char again[NAME_DATA_MAX];
    struct errmsg msg = {""};
    enum err e = name_parse(s, &n, &msg);
    VERIFY(e == ERR_OK || (e == ERR_INVALID && msg.text[0]));
    if (e)
        return;
    VERIFY(slice_equal(slice_of(again, name_format(&n, again)), s));
    VERIFY(n.first >= 1 && n.last >= n.first && n.prior < n.first);
}

static void encoded(struct slice s, bool keyspace)
{
    struct buf raw, back;
    char text[NAME_DIR_MAX];
    buf_init(&raw, 4096);
    buf_init(&back, 4096);
    if (!name_decode(s, keyspace, &raw)) {
        VERIFY(!name_encode(buf_slice(&raw), keyspace, text, sizeof text, NULL));
        VERIFY(slice_equal(slice_str(text), s));
    }
    if (!name_encode(s, keyspace, text, sizeof text, NULL)) {
        VERIFY(*text && !strchr(text, '/') && strcmp(text, ".") != 0 && strcmp(text, "..") != 0);
        VERIFY(!keyspace || *text != '~');
        VERIFY(!name_decode(slice_str(text), keyspace, &back));
        VERIFY(slice_equal(buf_slice(&back), s));
    }
    buf_release(&raw);
    buf_release(&back);
}

static void token(struct slice s)
{
    struct archive_log log = {slice_str("ks"), slice_str("key")};
    char again[ARCHIVE_TOKEN];
    uint64_t offset;
    bool backwards;
    if (!token_parse(s, &log, &backwards, &offset, NULL))
        VERIFY(slice_equal(slice_of(again, token_format(&log, backwards, offset, again)), s));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    uint8_t *copy = fuzz_copy(data + 1, size - 1, 0, 0);
    struct slice s = slice_of(copy, size - 1);
    if (data[0] == 'd')
        data_name(s);
    else if (data[0] == 'k' || data[0] == 's')
        encoded(s, data[0] == 's');
    else
        token(s);
    free(copy);
    return 0;
}
