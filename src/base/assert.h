// Assertions that stay on in every build: a broken invariant ends the process before it can
// acknowledge or write anything that is not true.
#ifndef VARVE_BASE_ASSERT_H
#define VARVE_BASE_ASSERT_H

__attribute__((noreturn, cold)) void assert_failed(const char *what, const char *file, int line);

#define VERIFY(cond) ((cond) ? (void)0 : assert_failed(#cond, __FILE__, __LINE__))

// Seeded bugs (docs/ARCHITECTURE.md, "Testing"): 0 in every real build. Builds with tests take the
// number from the environment variable VARVE_BUG, so that tools/bugs needs no builds of its own.
#if VARVE_TESTS
extern int seeded_bug;
#define VARVE_BUG seeded_bug
#else
#define VARVE_BUG 0
#endif

#endif
