// os_mem.h for the enumerator, which recovers hundreds of thousands of times: what one recovery
// unmaps the next one gets again. Without this the kernel takes half of the time, to clear and map
// pages.
#include "base/os_mem.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

enum { KEPT = 64, PAGE = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char *at; // NULL: free
    size_t n;
} kept[KEPT];

static char *take(size_t n, size_t align)
{
    char *p = NULL;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < KEPT && !p; i++) {
        if (kept[i].at && kept[i].n == n && (size_t)kept[i].at % align == 0) {
            p = kept[i].at;
            kept[i].at = NULL;
        }
    }
    pthread_mutex_unlock(&lock);
    return p;
}

void *os_pages_map(size_t n, size_t align)
{
    char *p = take(n, align);
    // Aligned ones are the pool's (table/pool.h), which promises its users no zeros.
    if (p)
        return align > PAGE ? p : memset(p, 0, n);
    p = mmap(NULL, n + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p + (align - (size_t)p % align) % align;
}

void os_pages_unmap(void *p, size_t n)
{
    pthread_mutex_lock(&lock);
    size_t i = 0;
    while (i < KEPT && kept[i].at)
        i++;
    if (i < KEPT) {
        kept[i].at = p;
        kept[i].n = n;
    }
    pthread_mutex_unlock(&lock);
    if (i == KEPT)
        munmap(p, n);
}

void os_pages_drop(void *p, size_t n)
{
    (void)madvise(p, n, MADV_DONTNEED);
}

void os_pages_huge(void *p, size_t n, bool on)
{
    (void)p, (void)n, (void)on;
}
