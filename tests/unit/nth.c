#include "nth.h"
#include "unit.h"

#include "base/os.h"
#include "table/slab.h"
#include <inttypes.h>
#include <stdatomic.h>

static struct {
    atomic_uint_least64_t count, at; // at 0: none fails
    atomic_bool armed, for_ever, failed;
} memory;

void nth_arm(uint64_t n, bool for_ever)
{
    memory.count = 0;
    memory.at = n;
    memory.for_ever = for_ever;
    memory.failed = false;
    memory.armed = true;
}

bool nth_disarm(void)
{
    memory.armed = false;
    return memory.failed;
}

void nth_pause(void)
{
    memory.armed = false;
}

void nth_go_on(void)
{
    memory.armed = true;
}

static bool fails(void)
{
    if (!memory.armed || !memory.at)
        return false;
    uint64_t n = ++memory.count;
    if (n != memory.at && !(memory.for_ever && n > memory.at))
        return false;
    memory.failed = true;
    return true;
}

void nth_each(nth_scenario run, void *arg)
{
    for (int for_ever = 0; for_ever < 2; for_ever++) {
        uint64_t n = 1;
        do {
            if (os_env("VARVE_TEST_TRACE")) // a crash says no more than this
                print_message("allocation %" PRIu64 "%s\n", n, for_ever ? ", for ever" : "");
        } while (run(arg, n++, for_ever));
        print_message("%" PRIu64 " allocations failed, %s\n", n - 2,
                      for_ever ? "for ever" : "once");
        assert_true(n > 2);
    }
}

// ---- what the linker puts in the place of the real ones

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
void *__wrap_slab_alloc(struct slab_heap *h, size_t n);
void *__real_slab_alloc(struct slab_heap *h, size_t n);
void *__wrap_os_pages_map(size_t n, size_t align);
void *__real_os_pages_map(size_t n, size_t align);

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : realloc(p, n);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return fails() ? NULL : aligned_alloc(align, n);
}

char *__wrap_strdup(const char *s)
{
    return fails() ? NULL : strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
    return fails() ? NULL : strndup(s, n);
}

void *__wrap_slab_alloc(struct slab_heap *h, size_t n)
{
    return fails() ? NULL : __real_slab_alloc(h, n);
}

void *__wrap_os_pages_map(size_t n, size_t align)
{
    return fails() ? NULL : __real_os_pages_map(n, align);
}
