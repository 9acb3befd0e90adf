// Pages straight from the kernel, the seam's part for the rooms that manage memory of their own.
// Sizes and alignments are multiples of 4 KiB (alignment a power of two). Thread-safe.
#ifndef VARVE_BASE_OS_MEM_H
#define VARVE_BASE_OS_MEM_H

#include <stdbool.h>
#include <stddef.h>

// Address space of `n` bytes, reading as zeros, aligned; a page takes memory when it is first
// written. NULL when there is none.
void *os_pages_map(size_t n, size_t align);
void os_pages_unmap(void *p, size_t n);
// Gives the memory back and keeps the address space, which then reads as zeros.
void os_pages_drop(void *p, size_t n);
// Asks for huge pages, or for none, in this range; a hint that some machines do not follow. After
// os_pages_drop of single pages ask for none, or the kernel may put whole huge pages back.
void os_pages_huge(void *p, size_t n, bool on);

#endif
