/* Small macros that every room uses.  Includes nothing of the project. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* The object that contains MEMBER at PTR. */
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _must_check_ __attribute__((warn_unused_result))
#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))
#define _unused_ __attribute__((unused))

/* Defines static inline NAMEp(T **), for _cleanup_: calls FREE(*p) if not NULL. */
#define DEFINE_CLEANUP(type, name)                                                                 \
	static inline void name##p(type **p)                                                       \
	{                                                                                          \
		if (*p)                                                                            \
			name(*p);                                                                  \
	}

/* Takes the value out of a cleanup variable: `return steal(&x);`. */
#define STEAL_PTR(p)                                                                               \
	({                                                                                         \
		__typeof__(*(p)) _v = *(p);                                                        \
		*(p) = NULL;                                                                       \
		_v;                                                                                \
	})
#define STEAL_FD(p)                                                                                \
	({                                                                                         \
		int _v = *(p);                                                                     \
		*(p) = -1;                                                                         \
		_v;                                                                                \
	})

/* Closes an fd held in a _cleanup_ variable; -1 is nothing.  Keeps errno. */
void close_fdp(int *fd);
/* free() for _cleanup_ on any pointer variable. */
void freep(void *p);
