// varve-bare-sync: what one durable write costs without a server: pwrite and fdatasync in a loop.
//
// Two ways, one after the other: over a file that was written full of zeros and synced before, so
// that a sync writes data only; and past the end of a file, so that a sync writes its size too.
//
//     varve-bare-sync --file PATH [--bytes N] [--duration MS]
//
// PATH is kept, so that a further run need not fill it again; PATH.append is made and removed.
// Prints one JSON object; latencies are in microseconds.
#include "cli/histogram.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PREALLOCATED = 16 << 20, MAX_BYTES = 1 << 20 };

static void die(const char *what)
{
    (void)fprintf(stderr, "varve-bare-sync: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void write_at(int fd, const char *p, size_t n, uint64_t off)
{
    if (pwrite(fd, p, n, (off_t)off) != (ssize_t)n)
        die("write");
}

static int open_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        die(path);
    return fd;
}

// Full of zeros or of what an earlier run wrote; synced.
static void fill_file(int fd)
{
    static char zeros[MAX_BYTES];
    struct stat st;
    if (fstat(fd, &st) != 0)
        die("stat");
    if (st.st_size == PREALLOCATED)
        return;
    for (uint64_t off = 0; off < PREALLOCATED; off += sizeof zeros)
        write_at(fd, zeros, sizeof zeros, off);
    if (fsync(fd) != 0)
        die("fsync");
}

static void run(int fd, bool overwrite, size_t bytes, uint64_t duration_ms, struct histogram *h)
{
    static char data[MAX_BYTES];
    uint64_t off = 0, end = now_ns() + duration_ms * 1000000u, at;
    memset(h, 0, sizeof *h);
    memset(data, 'x', bytes);
    while ((at = now_ns()) < end) {
        if (overwrite && off + bytes > PREALLOCATED)
            off = 0;
        write_at(fd, data, bytes, off);
        if (fdatasync(fd) != 0)
            die("fdatasync");
        histogram_add(h, now_ns() - at, 1);
        off += bytes;
    }
}

static void print(const char *name, const struct histogram *h)
{
    printf("\"%s\":{\"count\":%llu,\"p50\":%.2f,\"p95\":%.2f,\"p99\":%.2f}", name,
           (unsigned long long)h->count, (double)histogram_at(h, 0.5) / 1000,
           (double)histogram_at(h, 0.95) / 1000, (double)histogram_at(h, 0.99) / 1000);
}

static uint64_t number(const char *name, const char *text, uint64_t max)
{
    char *end = NULL;
    uint64_t v = strtoull(text, &end, 10);
    if (end == text || *end || v < 1 || v > max) {
        (void)fprintf(stderr, "varve-bare-sync: %s wants a number from 1 to %llu\n", name,
                      (unsigned long long)max);
        exit(2);
    }
    return v;
}

int main(int argc, char **argv)
{
    static struct histogram h;
    const char *file = NULL;
    uint64_t bytes = 128, duration = 1000;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--file") == 0)
            file = argv[i + 1];
        else if (strcmp(argv[i], "--bytes") == 0)
            bytes = number(argv[i], argv[i + 1], MAX_BYTES);
        else if (strcmp(argv[i], "--duration") == 0)
            duration = number(argv[i], argv[i + 1], 3600000);
        else
            argc = 0; // not known
    }
    if (!file || argc % 2 == 0) {
        (void)fprintf(stderr, "usage: varve-bare-sync --file PATH [--bytes N] [--duration MS]\n");
        return 2;
    }
    char appended[4096];
    int n = snprintf(appended, sizeof appended, "%s.append", file);
    if (n < 0 || (size_t)n >= sizeof appended) {
        errno = ENAMETOOLONG;
        die(file);
    }
    int over = open_file(file), past = open_file(appended);
    if (unlink(appended) != 0)
        die(appended);
    fill_file(over);
    printf("{\"bytes\":%llu,", (unsigned long long)bytes);
    run(over, true, bytes, duration, &h);
    print("overwrite", &h);
    run(past, false, bytes, duration, &h);
    printf(",");
    print("append", &h);
    printf("}\n");
    return 0;
}
