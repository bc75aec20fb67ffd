#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/event.h"

static void test_alloc(void **state)
{
	struct arena a;
	arena_init(&a);
	for (int round = 0; round < 3; round++) {
		for (size_t n = 0; n < 2000; n++) {
			char *p = arena_alloc(&a, n);
			assert_int_equal((uintptr_t)p % 16, 0);
			for (size_t i = 0; i < n; i++)
				assert_int_equal(p[i], 0); /* also after a reset */
			memset(p, 0xee, n);
		}
		memset(arena_alloc(&a, 3 << 20), 0xee, 3 << 20);
		assert_true(a.used >= 3 << 20);
		arena_reset(&a);
		assert_int_equal(a.used, 0);
	}
	arena_done(&a);
	memset(arena_alloc(&a, 1 << 20), 1, 1 << 20);
	arena_reset(&a);
	assert_null(a.head); /* a huge block is not kept */
	arena_done(&a);
}

static void test_strings(void **state)
{
	_cleanup_(arena_donep) struct arena a;
	arena_init(&a);
	assert_string_equal(arena_strdup(&a, "x"), "x");
	assert_string_equal(arena_cstr(&a, SPAN_NULL), "");
	span s = arena_span(&a, SPAN("a\0b"));
	assert_memory_equal(s.p, "a\0b", 4);
	assert_string_equal(arena_printf(&a, "%d %s", 5, "five"), "5 five");
}

static void test_events(void **state)
{
	_cleanup_(arena_donep) struct arena a;
	struct event_list l;
	arena_init(&a);
	event_list_init(&l, &a);
	l.limit = 2;
	char peer[] = "peer";
	struct event *e = event_note(&l, "smtp.rcpt");
	event_str(e, "to", peer, &a);
	event_u64(e, "size", 42, &a);
	peer[0] = 'x';
	event_note(&l, "store.append");
	event_str(event_note(&l, "lost"), "k", "v", &a);
	event_note(&l, "lost");
	assert_int_equal(l.count, 2);
	assert_int_equal(l.dropped, 2);
	assert_string_equal(l.first->name, "smtp.rcpt");
	assert_true(span_eq_str(l.first->fields->value, "peer"));
	assert_true(span_eq_str(l.first->fields->next->value, "42"));
	assert_null(l.first->next->fields);
	assert_null(l.first->next->next);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alloc),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_events),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
