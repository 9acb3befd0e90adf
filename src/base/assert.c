#include "base/assert.h"
#include "base/log.h"

#include <stdlib.h>

void assert_failed(const char *what, const char *file, int line)
{
    log_event(LOG_ERROR, "assertion_failed", "condition=%s at=%s:%d", log_quote(what), file, line);
    abort();
}

#if VARVE_TESTS
int seeded_bug;

__attribute__((constructor)) static void seed_bug(void)
{
    const char *number = getenv("VARVE_BUG");
    if (number)
        seeded_bug = (int)strtol(number, NULL, 10);
}
#endif
