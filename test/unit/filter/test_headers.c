/* Headers under edits: order, numbering, and values that try to break out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "filter/headers.h"

#define HEADER "A: 1\r\nB: 2\r\n\tfolded\r\nA: 3\r\n\r\n"

static void expect(const struct filter_edit *e, size_t n, const char *header, const char *want)
{
	struct buf b = BUF_INIT(10000);

	assert_int_equal(filter_header_edit(span_str(header), e, n, &b), 0);
	assert_string_equal(buf_cstr(&b), want);
	buf_done(&b);
}

static struct filter_edit edit(enum filter_edit_kind kind, uint32_t index, const char *name,
			       const char *value)
{
	return (struct filter_edit){ kind, index, span_str(name), span_str(value) };
}

static void test_each_kind(void **state)
{
	struct filter_edit add = edit(FILTER_ADD_HEADER, 0, "X", " y");
	struct filter_edit top = edit(FILTER_INSERT_HEADER, 0, "X", " y");
	struct filter_edit first = edit(FILTER_INSERT_HEADER, 1, "X", " y");
	struct filter_edit third = edit(FILTER_INSERT_HEADER, 3, "X", " y");
	struct filter_edit far = edit(FILTER_INSERT_HEADER, 99, "X", " y");
	struct filter_edit change = edit(FILTER_CHANGE_HEADER, 2, "a", " 4");
	struct filter_edit delete = edit(FILTER_CHANGE_HEADER, 1, "B", "");
	struct filter_edit absent = edit(FILTER_CHANGE_HEADER, 3, "A", " 5");
	struct filter_edit gone = edit(FILTER_CHANGE_HEADER, 1, "C", "");

	expect(NULL, 0, HEADER, HEADER);
	expect(&add, 1, HEADER, "A: 1\r\nB: 2\r\n\tfolded\r\nA: 3\r\nX: y\r\n\r\n");
	expect(&far, 1, HEADER, "A: 1\r\nB: 2\r\n\tfolded\r\nA: 3\r\nX: y\r\n\r\n");
	expect(&top, 1, HEADER, "X: y\r\n" HEADER);
	expect(&first, 1, HEADER, "X: y\r\n" HEADER);
	expect(&third, 1, HEADER, "A: 1\r\nB: 2\r\n\tfolded\r\nX: y\r\nA: 3\r\n\r\n");
	expect(&change, 1, HEADER, "A: 1\r\nB: 2\r\n\tfolded\r\nA: 4\r\n\r\n");
	expect(&delete, 1, HEADER, "A: 1\r\nA: 3\r\n\r\n");
	expect(&absent, 1, HEADER, "A: 1\r\nB: 2\r\n\tfolded\r\nA: 3\r\nA: 5\r\n\r\n");
	expect(&gone, 1, HEADER, HEADER);
	expect(&add, 1, "", "X: y\r\n\r\n");
}

/* As libmilter's users count: the first was deleted, and the second stays the second. */
static void test_deleted_fields_count(void **state)
{
	struct filter_edit e[] = { edit(FILTER_CHANGE_HEADER, 1, "A", ""),
				   edit(FILTER_CHANGE_HEADER, 2, "A", "") };

	expect(e, 2, HEADER, "B: 2\r\n\tfolded\r\n\r\n");
}

static void test_lines_that_are_no_fields(void **state)
{
	static const char odd[] = "A: 1\r\nno field\r\nB: 2\r\n\r\n";
	struct filter_edit e = edit(FILTER_CHANGE_HEADER, 1, "A", " 9");
	struct header_field f;
	size_t at = 0;

	assert_true(header_next_field(span_str(odd), &at, &f) && span_eq_str(f.name, "A"));
	assert_true(header_next_field(span_str(odd), &at, &f) && span_eq_str(f.name, "B"));
	assert_false(header_next_field(span_str(odd), &at, &f));
	expect(&e, 1, odd, "A: 9\r\nno field\r\nB: 2\r\n\r\n");
}

static void test_values(void **state)
{
	static const struct {
		const char *in;
		bool spaced;
		const char *out;
	} rows[] = {
		{ "x", true, " x" },
		{ " x", false, " x" },
		{ "a\n\tb", true, " a\r\n\tb" },
		{ "a\r\nEvil: 1\r\n\r\nbody", true, " a\r\n\tEvil: 1\r\n\t\r\n\tbody" },
		{ "a\r\n", true, " a" },
		{ "a\rb", true, " ab" },
		{ "", true, " " },
	};
	struct arena mem;

	arena_init(&mem);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		span got = filter_header_value(span_str(rows[i].in), rows[i].spaced, &mem);

		assert_string_equal(arena_cstr(&mem, got), rows[i].out);
	}
	arena_done(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_each_kind),
					    cmocka_unit_test(test_deleted_fields_count),
					    cmocka_unit_test(test_lines_that_are_no_fields),
					    cmocka_unit_test(test_values) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
