/* Allocation that cannot fail, and the helpers behind _cleanup_. */
#include "base/arena.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *check(void *p)
{
	if (!p) {
		static const char text[] = "postrider: out of memory\n";
		ssize_t ignored _unused_ = write(STDERR_FILENO, text, sizeof(text) - 1);
		abort();
	}
	return p;
}

void *xmalloc(size_t n)
{
	return check(malloc(n ? n : 1));
}

void *xcalloc(size_t n, size_t size)
{
	return check(calloc(n ? n : 1, size ? size : 1));
}

void *xrealloc(void *p, size_t n)
{
	return check(realloc(p, n ? n : 1));
}

char *xstrdup(const char *z)
{
	return check(strdup(z));
}

void close_fdp(int *fd)
{
	if (*fd < 0)
		return;
	int saved = errno;
	close(*fd);
	errno = saved;
}

void freep(void *p)
{
	void *mem;
	memcpy(&mem, p, sizeof(mem));
	free(mem);
}
