// The nth allocation fails: once, or from there on for ever. Counted are the allocations of the
// library's own code, in every thread, while a test has switched counting on; tests and what stands
// in for the rest of the world are compiled with nth_real.h and always get memory.
#ifndef VARVE_TESTS_NTH_H
#define VARVE_TESTS_NTH_H

#include <stdbool.h>
#include <stdint.h>

// From here on the nth allocation fails (0: none; they are only counted).
void nth_arm(uint64_t n, bool for_ever);
// Ends that; true if an allocation has failed.
bool nth_disarm(void);
// Ends it, and begins again where it was: around what must have memory.
void nth_pause(void);
void nth_go_on(void);

// Runs a scenario, which arms, disarms and checks, with n = 1, 2, 3, ... until no allocation fails
// any more, each once and for ever. VARVE_TEST_TRACE=1 shows each n before it runs.
typedef bool (*nth_scenario)(void *arg, uint64_t n, bool for_ever); // what nth_disarm said
void nth_each(nth_scenario run, void *arg);

#endif
