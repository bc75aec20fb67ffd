#include "base/failpoint.h"

#ifdef POSTRIDER_FAILPOINTS

#include <fcntl.h>
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
	const char *once; /* a file that says that it happened, or NULL */
	int signal;	  /* how it ends */
} point;

void failpoint_setup(void)
{
	const char *spec = getenv("POSTRIDER_FAILPOINT");
	if (!spec || !*spec)
		return;
	span how = span_str(spec), name = span_cut(&how, ':'), count = span_cut(&how, ':');
	uint64_t n = 1;
	if (name.n >= sizeof(point.name) || (count.p && !span_u64(count, INT32_MAX, &n)) || n == 0)
		return;
	if (span_eq_str(name, "random"))
		point.one_in = n;
	memcpy(point.name, name.p, name.n);
	point.name[name.n] = '\0';
	point.signal = span_eq_str(how, "fault") ? SIGSEGV : SIGKILL;
	atomic_store(&point.left, (long)n);
	point.once = getenv("POSTRIDER_FAILPOINT_ONCE");
	failpoint_armed = true;
}

/* Whether this process may be the one: a role that is started again inherits the environment. */
static bool is_first(void)
{
	if (!point.once)
		return true;
	int fd = open(point.once, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

void failpoint_pass(const char *name)
{
	if (point.one_in) {
		if (random_below(point.one_in) != 0)
			return;
	} else if (strcmp(name, point.name) != 0 || atomic_fetch_sub(&point.left, 1) != 1) {
		return;
	}
	if (!is_first())
		return;
	signal(point.signal, SIG_DFL); /* also under a sanitizer's handler */
	kill(getpid(), point.signal);  /* ends this process before it returns */
	abort();
}

#endif
