#include "base/failpoint.h"

#ifdef POSTRIDER_FAILPOINTS

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/id.h"

bool failpoint_armed;

static struct {
	char name[96];
	uint64_t one_in;  /* "random:P" */
	atomic_long left; /* passages of NAME until the end */
} point;

void failpoint_setup(void)
{
	const char *spec = getenv("POSTRIDER_FAILPOINT");
	if (!spec || !*spec)
		return;
	span count = span_str(spec), name = span_cut(&count, ':');
	uint64_t n = 1;
	if (name.n >= sizeof(point.name) || (count.p && !span_u64(count, INT32_MAX, &n)) || n == 0)
		return;
	if (span_eq_str(name, "random"))
		point.one_in = n;
	memcpy(point.name, name.p, name.n);
	point.name[name.n] = '\0';
	atomic_store(&point.left, (long)n);
	failpoint_armed = true;
}

void failpoint_pass(const char *name)
{
	if (point.one_in) {
		if (random_below(point.one_in) != 0)
			return;
	} else if (strcmp(name, point.name) != 0 || atomic_fetch_sub(&point.left, 1) != 1) {
		return;
	}
	kill(getpid(), SIGKILL); /* ends this process before it returns */
	abort();
}

#endif
