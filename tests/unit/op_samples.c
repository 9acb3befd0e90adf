// For test_op_protoc.py. `encode SEED COUNT` prints random changes, a line each: the fields, then
// the encoded transaction. `decode` reads encoded transactions from standard input and prints the
// fields of their first change. A line is: kind space type version expires keyspace log offset
// created max_age max_bytes max_records server_time relation reverse recent relaxed key value froms
// counts members stamps [encoded], bytes in hex.
#include "base/assert.h"
#include "base/limits.h"
#include "op_random.h"
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
    printf(" %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64, c->keyspace, c->log, c->offset,
           c->created_ms);
    printf(" %" PRIu64 " %" PRIu64 " %" PRIu64 " %d", c->policy.max_age_ms, c->policy.max_bytes,
           c->policy.max_records, c->policy.server_time);
    printf(" %" PRIu32 " %d %d %d", c->relation, c->options.reverse, c->options.recent,
           c->options.relaxed);
    print_hex(c->key);
    print_hex(c->value);
    print_hex(c->froms);
    print_hex(c->counts);
    print_hex(c->members);
    print_hex(c->stamps);
}

static void encode(uint64_t seed, unsigned count)
{
    uint64_t rnd = seed;
    struct change_bytes bytes;
    struct buf b;
    buf_init(&b, 2 * sizeof bytes);
    for (unsigned i = 0; i < count; i++) {
        struct change c = random_change(&rnd, &bytes);
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
