/* Named failpoints: where a crash test may end the process.
 *
 * A point is armed by POSTRIDER_FAILPOINT="name[:count[:fault]]" in the environment: the count-th
 * passage (default the first) raises SIGKILL, or with "fault" SIGSEGV as a bug would, on the own
 * process.  "random:P" kills at any point with probability 1/P.  With POSTRIDER_FAILPOINT_ONCE=PATH
 * only if that file could be made: it happens to one process, and not again to the next in its
 * place.  Compiled out without -Dfailpoints=true.  One passage costs one load. */
#pragma once

#include <stdbool.h>

#ifdef POSTRIDER_FAILPOINTS
void failpoint_pass(const char *name);
extern bool failpoint_armed;
#define FAILPOINT(name)                                                                            \
	do {                                                                                       \
		if (__builtin_expect(failpoint_armed, 0))                                          \
			failpoint_pass(name);                                                      \
	} while (0)
void failpoint_setup(void); /* reads the environment; call once at start */
#else
#define FAILPOINT(name) ((void)0)
static inline void failpoint_setup(void)
{
}
#endif
