#include "base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <assert.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define ARENA_POISON 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define ARENA_POISON 1
#endif
#ifdef ARENA_POISON
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)	  ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum { ALIGNMENT = 16, FIRST_BLOCK = 4096 - 64, LARGEST_BLOCK = 256 * 1024 };

struct arena_block {
	struct arena_block *next;
	size_t size, used; /* of data */
	alignas(ALIGNMENT) char data[];
};

void arena_init(struct arena *a)
{
	*a = (struct arena){ 0 };
}

static void free_chain(struct arena_block *b)
{
	while (b) {
		struct arena_block *next = b->next;
		ASAN_UNPOISON_MEMORY_REGION(b->data, b->size);
		free(b);
		b = next;
	}
}

void arena_reset(struct arena *a)
{
	struct arena_block *keep = a->head;
	a->used = 0;
	if (!keep)
		return;
	free_chain(keep->next);
	keep->next = NULL;
	if (keep->size > LARGEST_BLOCK) { /* one huge command must not stay with the session */
		free_chain(keep);
		a->head = NULL;
		return;
	}
	keep->used = 0;
	ASAN_POISON_MEMORY_REGION(keep->data, keep->size);
}

void arena_done(struct arena *a)
{
	free_chain(a->head);
	*a = (struct arena){ 0 };
}

static struct arena_block *add_block(struct arena *a, size_t n)
{
	size_t size = a->head ? MIN(a->head->size * 2, (size_t)LARGEST_BLOCK) : (size_t)FIRST_BLOCK;
	size = MAX(size, n);
	struct arena_block *b = xmalloc(sizeof(*b) + size);
	b->size = size;
	b->used = 0;
	ASAN_POISON_MEMORY_REGION(b->data, b->size);
	/* A large piece that fills its own block goes behind the head, whose room is still useful.
	 */
	if (a->head && size == n && n > LARGEST_BLOCK) {
		b->next = a->head->next;
		a->head->next = b;
	} else {
		b->next = a->head;
		a->head = b;
	}
	return b;
}

void *arena_alloc(struct arena *a, size_t n)
{
	assert(n < SIZE_MAX / 2);
	size_t room = (MAX(n, (size_t)1) + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
	struct arena_block *b = a->head;
	if (!b || b->size - b->used < room)
		b = add_block(a, room);
	char *p = b->data + b->used;
	b->used += room;
	a->used += room;
	ASAN_UNPOISON_MEMORY_REGION(p, n);
	memset(p, 0, n);
	return p;
}

char *arena_cstr(struct arena *a, span s)
{
	char *z = arena_alloc(a, s.n + 1);
	if (s.n)
		memcpy(z, s.p, s.n);
	return z;
}

span arena_span(struct arena *a, span s)
{
	return (span){ arena_cstr(a, s), s.n };
}

char *arena_strdup(struct arena *a, const char *z)
{
	return arena_cstr(a, span_str(z));
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	char small[256];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(small, sizeof(small), fmt, ap);
	va_end(ap);
	assert(n >= 0);
	char *z = arena_alloc(a, (size_t)n + 1);
	if ((size_t)n < sizeof(small)) {
		memcpy(z, small, (size_t)n);
		return z;
	}
	va_start(ap, fmt);
	vsnprintf(z, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return z;
}
