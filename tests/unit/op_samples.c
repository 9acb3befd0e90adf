// For test_op_protoc.py. `encode SEED COUNT` prints random changes, a line each: the fields, then
// the encoded transaction. `decode` reads encoded transactions from standard input and prints the
// fields of their first change. A line is: kind space type version expires key value [encoded],
// bytes in hex.
#include "base/assert.h"
#include "base/limits.h"
#include "op/op.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void print_hex(struct slice s)
{
    putchar(' ');
    for (size_t i = 0; i < s.n; i++)
        printf("%02x", s.p[i]);
    if (!s.n)
        putchar('-');
}

static void print_change(const struct change *c)
{
    printf("%d %d %d %" PRIu64 " %" PRIu64, (int)c->kind, (int)c->space, (int)c->type, c->version,
           c->expires_ms);
    print_hex(c->key);
    print_hex(c->value);
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void encode(uint64_t seed, unsigned count)
{
    uint64_t rnd = seed;
    uint8_t bytes[600];
    struct buf b;
    buf_init(&b, sizeof bytes * 2);
    for (unsigned i = 0; i < count; i++) {
        for (size_t j = 0; j < sizeof bytes; j++)
            bytes[j] = (uint8_t)next_random(&rnd);
        struct change c = {.kind = next_random(&rnd) % 3 ? CHANGE_PUT : CHANGE_DELETE,
                           .space = next_random(&rnd) % 2 ? SPACE_KEYS : SPACE_IDEM,
                           .version = next_random(&rnd) >> next_random(&rnd) % 64,
                           .key = slice_of(bytes, 1 + next_random(&rnd) % 299)};
        if (c.kind == CHANGE_PUT) {
            const enum value_type types[] = {VALUE_BYTES, VALUE_STRING, VALUE_INT, VALUE_ARRAY};
            c.type = types[next_random(&rnd) % 4];
            c.value = slice_of(bytes + 300, c.type == VALUE_INT ? 8 : next_random(&rnd) % 300);
            c.expires_ms = next_random(&rnd) % 2 ? next_random(&rnd) >> next_random(&rnd) % 64 : 0;
        }
        buf_clear(&b);
        VERIFY(buf_reserve(&b, op_size(&c)) == ERR_OK);
        op_append(&b, &c);
        print_change(&c);
        print_hex(buf_slice(&b));
        putchar('\n');
    }
    buf_release(&b);
}

static void decode(void)
{
    static char line[1 << 16];
    static uint8_t bytes[sizeof line / 2];
    while (fgets(line, sizeof line, stdin)) {
        size_t n = 0;
        unsigned byte;
        for (const char *p = line; sscanf(p, "%2x", &byte) == 1; p += 2)
            bytes[n++] = (uint8_t)byte;
        struct op_reader r = op_read(slice_of(bytes, n));
        struct change c;
        struct errmsg msg;
        enum err e = op_next(&r, &c, &msg);
        if (e == ERR_OK)
            print_change(&c);
        else
            printf("%s", err_name(e));
        putchar('\n');
    }
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "encode") == 0)
        encode(strtoull(argv[2], NULL, 0), (unsigned)strtoul(argv[3], NULL, 0));
    else if (argc == 2 && strcmp(argv[1], "decode") == 0)
        decode();
    else
        return 2;
    return 0;
}
