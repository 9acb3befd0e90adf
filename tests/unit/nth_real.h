// Included before all else where memory must not fail (see nth.h): real allocations.
#ifndef VARVE_TESTS_NTH_REAL_H
#define VARVE_TESTS_NTH_REAL_H

#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);

#define malloc        __real_malloc
#define calloc        __real_calloc
#define realloc       __real_realloc
#define aligned_alloc __real_aligned_alloc
#undef strdup
#undef strndup
#define strdup  __real_strdup
#define strndup __real_strndup

#endif
