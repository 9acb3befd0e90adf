// What every fuzz target includes. A target is one file fuzz_NAME.c with LLVMFuzzerTestOneInput(),
// named in meson.build, and seeds in corpus/NAME/. Built twice: with libFuzzer (tools/fuzz), and
// with replay.c, which feeds it the committed corpus in every test run. A property is stated with
// VERIFY().
#ifndef VARVE_TESTS_FUZZ_H
#define VARVE_TESTS_FUZZ_H

#include "base/assert.h"
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// Returns 0. Must be a pure function of the input: whatever it makes, it frees.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// A copy with exactly `padding` bytes of `fill` after it, so that reads beyond are found. Never
// NULL; the caller's to free.
static inline uint8_t *fuzz_copy(const uint8_t *data, size_t size, size_t padding, int fill)
{
    uint8_t *p = malloc(size + padding + 1);
    VERIFY(p);
    if (size)
        memcpy(p, data, size);
    memset(p + size, fill, padding);
    return realloc(p, size + padding ? size + padding : 1);
}

#endif
