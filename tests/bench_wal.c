// What the log adds to the disk: bench_wal DIR [ROUNDS [BYTES]] prints the latency of one write and
// fdatasync by hand, growing a file and overwriting one, and of one client that appends to the log
// and waits; then frames a second of 8 and 64 such clients. Not part of a suite.
#include "base/assert.h"
#include "base/os.h"
#include "wal/wal.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_CLIENTS = 64, PAYLOAD_MOST = 65536 };

struct bench {
    char dir[512];
    uint64_t rounds;
    size_t bytes;
    uint64_t *ns;
    struct wal *wal;
};

static uint8_t payload[PAYLOAD_MOST];

static uint64_t now_ns(void)
{
    return os_mono_ns(os_real());
}

static int rising(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void print(struct bench *b, const char *what)
{
    qsort(b->ns, b->rounds, sizeof *b->ns, rising);
    printf("%-34s p50 %6.1f us  p90 %6.1f us  p99 %6.1f us\n", what,
           (double)b->ns[b->rounds / 2] / 1e3, (double)b->ns[b->rounds * 9 / 10] / 1e3,
           (double)b->ns[b->rounds * 99 / 100] / 1e3);
}

static void by_hand(struct bench *b, bool overwrite, const char *what)
{
    char path[600];
    snprintf(path, sizeof path, "%s/by-hand.tmp", b->dir);
    struct os *os = os_real();
    int fd;
    VERIFY(os_open(os, path, OS_CREATE | OS_WRITE | OS_TRUNCATE, &fd) == ERR_OK);
    for (uint64_t i = 0; overwrite && i < b->rounds * b->bytes; i += sizeof payload)
        VERIFY(os_pwrite(os, fd, payload, sizeof payload, i) == ERR_OK);
    VERIFY(os_sync(os, fd) == ERR_OK);
    for (uint64_t i = 0; i < b->rounds; i++) {
        uint64_t began = now_ns();
        VERIFY(os_pwrite(os, fd, payload, b->bytes, i * b->bytes) == ERR_OK);
        VERIFY(os_sync(os, fd) == ERR_OK);
        b->ns[i] = now_ns() - began;
    }
    VERIFY(os_close(os, fd) == ERR_OK);
    VERIFY(os_unlink(os, path) == ERR_OK);
    print(b, what);
}

static void on_durable(void *arg, uint64_t seq)
{
}

static void on_fatal(void *arg, const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static enum err on_frame(void *arg, uint64_t seq, struct slice p, struct errmsg *msg)
{
    return ERR_OK;
}

static void append_and_wait(struct bench *b)
{
    uint64_t seq;
    VERIFY(wal_append(b->wal, slice_of(payload, b->bytes), &seq) == ERR_OK);
    VERIFY(wal_wait(b->wal, seq) == ERR_OK);
}

static void *client(void *arg)
{
    struct bench *b = arg;
    for (uint64_t i = 0; i < b->rounds; i++)
        append_and_wait(b);
    return NULL;
}

static void clients(struct bench *b, unsigned count)
{
    pthread_t threads[MOST_CLIENTS];
    struct wal_stats before, after;
    wal_get_stats(b->wal, &before);
    uint64_t began = now_ns();
    for (unsigned i = 0; i < count; i++)
        VERIFY(pthread_create(&threads[i], NULL, client, b) == 0);
    for (unsigned i = 0; i < count; i++)
        VERIFY(pthread_join(threads[i], NULL) == 0);
    double s = (double)(now_ns() - began) / 1e9;
    wal_get_stats(b->wal, &after);
    double frames = (double)(after.appended - before.appended);
    printf("%2u clients: %8.0f frames/s, %5.1f frames a sync\n", count, frames / s,
           frames / (double)(after.syncs - before.syncs));
}

int main(int argc, char **argv)
{
    struct bench b = {.rounds = argc > 2 ? strtoull(argv[2], NULL, 10) : 2000,
                      .bytes = argc > 3 ? strtoull(argv[3], NULL, 10) : 150};
    if (argc < 2 || b.rounds == 0 || b.bytes == 0 || b.bytes > PAYLOAD_MOST) {
        fprintf(stderr, "usage: bench_wal DIR [ROUNDS [BYTES]]; DIR must exist\n");
        return 2;
    }
    snprintf(b.dir, sizeof b.dir, "%s", argv[1]);
    b.ns = calloc(b.rounds, sizeof *b.ns);
    VERIFY(b.ns);
    by_hand(&b, false, "write + fdatasync, file grows");
    by_hand(&b, true, "write + fdatasync, overwriting");
    struct wal_options o = {.os = os_real(),
                            .dir = b.dir,
                            .store_id = 1,
                            .segment_size = 64 << 20,
                            .buffer_max = 32 << 20,
                            .on_fatal = on_fatal,
                            .on_durable = on_durable};
    struct wal_recovery found;
    struct errmsg msg;
    if (wal_open(&b.wal, &o, 0, on_frame, NULL, &found, &msg) != ERR_OK) {
        fprintf(stderr, "%s\n", msg.text);
        return 1;
    }
    VERIFY(wal_start(b.wal) == ERR_OK);
    for (uint64_t i = 0; i < b.rounds; i++) {
        uint64_t began = now_ns();
        append_and_wait(&b);
        b.ns[i] = now_ns() - began;
    }
    print(&b, "log, one client appends and waits");
    clients(&b, 8);
    clients(&b, MOST_CLIENTS);
    VERIFY(wal_close(b.wal) == ERR_OK);
    free(b.ns);
    return 0;
}
