#include "base/os_mem.h"

#include "base/assert.h"
#include <stdint.h>
#include <sys/mman.h>

void *os_pages_map(size_t n, size_t align)
{
    size_t more = align > 4096 ? n + align : n; // the kernel aligns to pages
    VERIFY(more >= n);
    uint8_t *p = mmap(NULL, more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    if (more == n)
        return p;
    size_t before = (align - ((uintptr_t)p & (align - 1))) & (align - 1);
    if (before)
        os_pages_unmap(p, before);
    os_pages_unmap(p + before + n, align - before);
    return p + before;
}

void os_pages_unmap(void *p, size_t n)
{
    // Fails only for want of kernel memory to split a mapping; the pages then stay mapped, unused.
    if (munmap(p, n) != 0)
        os_pages_drop(p, n);
}

void os_pages_drop(void *p, size_t n)
{
    // Cannot fail on anonymous memory that is not locked; if it is, the memory stays in use.
    (void)madvise(p, n, MADV_DONTNEED);
}

void os_pages_huge(void *p, size_t n, bool on)
{
    (void)madvise(p, n, on ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}
