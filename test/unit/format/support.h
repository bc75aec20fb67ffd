/* What every test of the room needs: cmocka in its order, spans compared as text. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"

#define assert_span(s, text)                                                         \
	do {                                                                         \
		span s_ = (s);                                                       \
		const char *t_ = (text);                                             \
		if (!span_eq_str(s_, t_))                                            \
			print_error("got <%.*s>, want <%s>\n", (int)s_.n, s_.p, t_); \
		assert_true(span_eq_str(s_, t_));                                    \
	} while (0)
#define assert_buf(b, text) assert_span(buf_span(b), (text))

static inline bool contains(span s, const char *what)
{
	return span_find_span(s, span_str(what)) != SPAN_NPOS;
}

/* Generous: only what is not linear takes this long on the sizes tested. */
#define SECONDS_MAX 5
static inline void assert_quick(usec since)
{
	assert_true(clock_cpu_thread() - since < SECONDS_MAX * USEC_SEC);
}
