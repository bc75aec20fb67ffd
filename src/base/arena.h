/* arena: memory of one lifetime (a command, a transaction, a parsed message), freed as a whole.
 * Blocks are chained; a reset keeps one block.  Not thread-safe.  Small allocations abort on OOM;
 * the caller bounds what a peer sizes before it asks. */
#pragma once

#include "base/span.h"

struct arena_block;
struct arena {
	struct arena_block *head;
	size_t used;  /* bytes handed out since the last reset */
};

void arena_init(struct arena *a);
void arena_reset(struct arena *a); /* all pointers die; poisoned under ASan */
void arena_done(struct arena *a);
static inline void arena_donep(struct arena *a)
{
	arena_done(a);
}

void *arena_alloc(struct arena *a, size_t n);  /* 16-byte aligned, zeroed */
char *arena_strdup(struct arena *a, const char *z);
span arena_span(struct arena *a, span s);      /* a copy; NUL-terminated behind n */
char *arena_cstr(struct arena *a, span s);     /* NUL-terminated copy */
char *arena_printf(struct arena *a, const char *fmt, ...) _printf_(2, 3);

#define arena_new(a, type) ((type *)arena_alloc((a), sizeof(type)))
#define arena_array(a, type, n) ((type *)arena_alloc((a), sizeof(type) * (n)))

/* malloc family that aborts instead of returning NULL; for process and session lifetime. */
void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size); /* overflow of n * size aborts */
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *z);
