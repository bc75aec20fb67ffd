#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/map.h"

static span key(char *text, size_t i)
{
	return span_of(text, (size_t)sprintf(text, "key-%zu", i));
}

static void test_bytes(void **state)
{
	struct map *m = map_new();
	char text[32], *values = text;
	assert_null(map_get(m, SPAN("x")));
	assert_null(map_del(m, SPAN("x")));
	for (size_t i = 0; i < 5000; i++)
		assert_null(map_put(m, key(text, i), (void *)(i + 1)));
	for (size_t i = 0; i < 5000; i += 2)
		assert_ptr_equal(map_del(m, key(text, i)), (void *)(i + 1));
	assert_int_equal(map_count(m), 2500);
	for (size_t i = 0; i < 5000; i++)
		assert_ptr_equal(map_get(m, key(text, i)), (void *)(i % 2 ? i + 1 : 0));
	assert_ptr_equal(map_put(m, SPAN("key-1"), values), (void *)2);
	assert_null(map_put(m, SPAN_NULL, values)); /* the empty key is a key */
	assert_ptr_equal(map_get(m, SPAN("")), values);

	size_t it = 0, seen = 0;
	span k;
	void *v;
	while (map_next(m, &it, &k, &v)) {
		seen++;
		assert_ptr_equal(map_del(m, k), v);
	}
	assert_int_equal(seen, 2501);
	assert_int_equal(map_count(m), 0);
	map_free(m);
	map_free(NULL);
}

static void test_numbers(void **state)
{
	struct idmap *m = idmap_new();
	assert_null(idmap_get(m, 1));
	for (uint64_t round = 0; round < 20; round++) { /* deleted slots must not fill it up */
		for (uint64_t i = 1; i <= 500; i++)
			assert_null(idmap_put(m, i << 32 | round, m));
		assert_int_equal(idmap_count(m), 500);
		size_t it = 0, seen = 0;
		uint64_t k;
		void *v;
		while (idmap_next(m, &it, &k, &v)) {
			assert_int_equal(k & 0xffff, round);
			assert_ptr_equal(idmap_del(m, k), m);
			seen++;
		}
		assert_int_equal(seen, 500);
		assert_null(idmap_get(m, 1ull << 32 | round));
	}
	idmap_put(m, UINT64_MAX, &m);
	assert_ptr_equal(idmap_put(m, UINT64_MAX, m), &m);
	idmap_free(m);
	idmap_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_numbers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
