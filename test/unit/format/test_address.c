#include "support.h"

#include "format/address.h"

struct path_case {
	const char *in;
	unsigned flags;
	enum address_error want;
	const char *text; /* canonical, if ADDRESS_OK */
};

static const struct path_case paths[] = {
	{ "<ann@example.org>", 0, ADDRESS_OK, "ann@example.org" },
	{ "<Ann@EXAMPLE.org> SIZE=1", 0, ADDRESS_OK, "Ann@example.org" },
	{ "<@a.example,@b.example:ann@example.org>", 0, ADDRESS_OK, "ann@example.org" },
	{ "<\"ann b\"@example.org>", 0, ADDRESS_OK, "\"ann b\"@example.org" },
	{ "<\"ann\"@example.org>", 0, ADDRESS_OK, "ann@example.org" },
	{ "<\"a\\\"\\\\b\"@example.org>", 0, ADDRESS_OK, "\"a\\\"\\\\b\"@example.org" },
	{ "<\"\"@example.org>", 0, ADDRESS_OK, "\"\"@example.org" },
	{ "<ann@[192.0.2.1]>", 0, ADDRESS_OK, "ann@[192.0.2.1]" },
	{ "<ann@[IPV6:2001:DB8::1]>", 0, ADDRESS_OK, "ann@[IPv6:2001:db8::1]" },
	{ "<>", ADDRESS_ALLOW_NULL, ADDRESS_OK, "" },
	{ "<>", 0, ADDRESS_SYNTAX, NULL },
	{ "<Postmaster>", ADDRESS_ALLOW_BARE_POSTMASTER, ADDRESS_OK, "Postmaster" },
	{ "<Postmaster>", 0, ADDRESS_NO_DOMAIN, NULL },
	{ "<ann>", ADDRESS_ALLOW_BARE_POSTMASTER, ADDRESS_NO_DOMAIN, NULL },
	{ "<j\xc3\xbcrgen@example.org>", 0, ADDRESS_UTF8, NULL },
	{ "<j\xc3\xbcrgen@example.org>", ADDRESS_ALLOW_UTF8, ADDRESS_OK,
	  "j\xc3\xbcrgen@example.org" },
	{ "<ann@B\xc3\x9c"
	  "cher.example>",
	  ADDRESS_ALLOW_UTF8, ADDRESS_OK,
	  "ann@b\xc3\xbc"
	  "cher.example" },
	{ "<j\xc3@example.org>", ADDRESS_ALLOW_UTF8, ADDRESS_SYNTAX, NULL },
	{ "ann@example.org", 0, ADDRESS_SYNTAX, NULL },
	{ "<ann@example.org", 0, ADDRESS_SYNTAX, NULL },
	{ "<ann@@example.org>", 0, ADDRESS_SYNTAX, NULL },
	{ "<ann@a@example.org>", 0, ADDRESS_SYNTAX, NULL },
	{ "<.ann@example.org>", 0, ADDRESS_SYNTAX, NULL },
	{ "<ann.@example.org>", 0, ADDRESS_SYNTAX, NULL },
	{ "<a..nn@example.org>", 0, ADDRESS_SYNTAX, NULL },
	{ "<a nn@example.org>", 0, ADDRESS_SYNTAX, NULL },
	{ "<\"ann@example.org>", 0, ADDRESS_SYNTAX, NULL },
	{ "<\"a\rb\"@example.org>", 0, ADDRESS_SYNTAX, NULL },
	{ "<\"a\\", 0, ADDRESS_SYNTAX, NULL },
	{ "<ann@-example.org>", 0, ADDRESS_SYNTAX, NULL },
	{ "<ann@example..org>", 0, ADDRESS_SYNTAX, NULL },
	{ "<ann@example.org.>", 0, ADDRESS_SYNTAX, NULL },
	{ "<ann@>", 0, ADDRESS_SYNTAX, NULL },
	{ "<@example.org>", 0, ADDRESS_SYNTAX, NULL },
	{ "<ann@[192.0.2.256]>", 0, ADDRESS_LITERAL, NULL },
	{ "<ann@[IPv6:zz]>", 0, ADDRESS_LITERAL, NULL },
	{ "<ann@[192.0.2.1>", 0, ADDRESS_LITERAL, NULL },
};

static void test_paths(void **state)
{
	struct arena mem;
	arena_init(&mem);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		struct address a;
		size_t used = 0;
		enum address_error e = address_parse_path(span_str(paths[i].in), paths[i].flags,
							  &mem, &a, &used);
		if (e != paths[i].want)
			print_error("%s: %d\n", paths[i].in, e);
		assert_int_equal(e, paths[i].want);
		if (e == ADDRESS_OK) {
			assert_span(address_text(&a, &mem), paths[i].text);
			assert_int_equal(paths[i].in[used - 1], '>');
		}
	}
	arena_done(&mem);
}

static void test_lengths(void **state)
{
	struct arena mem;
	struct address a;
	arena_init(&mem);
	char text[600];
	int n = snprintf(text, sizeof(text), "%064d@example.org", 0);
	assert_int_equal(address_parse(span_of(text, (size_t)n), 0, &mem, &a), ADDRESS_OK);
	n = snprintf(text, sizeof(text), "%065d@example.org", 0);
	assert_int_equal(address_parse(span_of(text, (size_t)n), 0, &mem, &a), ADDRESS_TOO_LONG);
	n = snprintf(text, sizeof(text), "a@%063d.%063d.%063d.%060d", 0, 0, 0, 0);
	assert_int_equal(address_parse(span_of(text, (size_t)n), 0, &mem, &a), ADDRESS_OK);
	n = snprintf(text, sizeof(text), "a@%063d.%063d.%063d.%061d", 0, 0, 0, 0);
	assert_int_equal(address_parse(span_of(text, (size_t)n), 0, &mem, &a), ADDRESS_TOO_LONG);
	n = snprintf(text, sizeof(text), "a@%064d.org", 0);
	assert_int_equal(address_parse(span_of(text, (size_t)n), 0, &mem, &a), ADDRESS_SYNTAX);
	assert_false(domain_valid(SPAN("under_score.example"), false));
	assert_false(domain_valid(SPAN(""), false));
	assert_true(domain_valid(SPAN("xn--bcher-kva.example"), false));
	arena_done(&mem);
}

/* An address list as one line: display<local@domain|route>, "[" and "]" for groups. */
static void put_list(struct buf *b, const struct mailbox_address *a, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_put_char(b, ' ');
		if (a[i].kind == MAILBOX_GROUP_END) {
			buf_put_char(b, ']');
			continue;
		}
		buf_put_span(b, a[i].display);
		if (a[i].kind == MAILBOX_GROUP_START) {
			buf_put_char(b, '[');
			continue;
		}
		buf_put_char(b, '<');
		buf_put_span(b, a[i].local);
		buf_put_char(b, '@');
		buf_put_span(b, a[i].domain);
		if (a[i].route.n) {
			buf_put_char(b, '|');
			buf_put_span(b, a[i].route);
		}
		buf_put_char(b, '>');
	}
}

static const struct {
	const char *in, *want;
	size_t bad;
} lists[] = {
	{ "ann@example.org", "<ann@example.org>", 0 },
	{ "Ann <ann@example.org>, bob@example.net", "Ann<ann@example.org> <bob@example.net>", 0 },
	{ "\"Smith, Ann\"\r\n <ann@example.org>", "Smith, Ann<ann@example.org>", 0 },
	{ "John Q. Public <jqp@example.org>", "John Q. Public<jqp@example.org>", 0 },
	{ "=?UTF-8?Q?Sm=C3=ADth,_Ann?= <ann@example.org>",
	  "=?UTF-8?Q?Sm=C3=ADth,_Ann?=<ann@example.org>", 0 },
	{ "ann@example.org (Ann Smith)", "Ann Smith<ann@example.org>", 0 },
	{ "ann (at home) . smith (x) @ example . org", "<ann.smith@example.org>", 0 },
	{ "<@a.example,@b.example:ann@example.org>", "<ann@example.org|@a.example,@b.example>", 0 },
	{ "friends: ann@example.org, Bob <bob@example.net>;",
	  "friends[ <ann@example.org> Bob<bob@example.net> ]", 0 },
	{ "undisclosed-recipients:;", "undisclosed-recipients[ ]", 0 },
	{ "a:;,b:;", "a[ ] b[ ]", 0 },
	{ "open: ann@example.org", "open[ <ann@example.org> ]", 0 },
	{ ",, ann@example.org,,", "<ann@example.org>", 0 },
	{ "root", "<root@>", 0 },
	{ "\"a@b\"@example.org", "<a@b@example.org>", 0 },
	{ "ann@[192.0.2.1]", "<ann@[192.0.2.1]>", 0 },
	{ "ann@example.com <ann@example.org>", "ann@example.com<ann@example.org>", 0 },
	{ "<ann@example.org>bob@example.net, c@example.org", "<ann@example.org> <c@example.org>",
	  1 },
	{ "Ann Smith ann@example.org", "<ann@example.org>", 1 },
	{ "Ann Smith, bob@example.net", "<bob@example.net>", 1 },
	{ "Ann <ann@example.org, bob@example.net", "Ann<ann@example.org> <bob@example.net>", 1 },
	{ ") , bob@example.net", "<bob@example.net>", 1 },
	{ "<>", "", 1 },
	{ "", "", 0 },
	{ "(only a comment", "", 0 },
	{ "(ends in a backslash \\", "", 0 },
};

static void test_lists(void **state)
{
	struct arena mem;
	arena_init(&mem);
	_cleanup_(buf_donep) struct buf b = BUF_INIT(10000);
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		struct mailbox_address a[16];
		size_t bad, n = address_list_parse(span_str(lists[i].in), &mem, a, 16, &bad);
		buf_reset(&b);
		put_list(&b, a, n);
		assert_buf(&b, lists[i].want);
		if (bad != lists[i].bad)
			print_error("%s: %zu bad\n", lists[i].in, bad);
		assert_int_equal(bad, lists[i].bad);
	}
	arena_done(&mem);
}

/* The entries stop at MAX, and a group that is open there is closed. */
static void test_list_max(void **state)
{
	struct arena mem;
	arena_init(&mem);
	struct mailbox_address a[3];
	assert_int_equal(address_list_parse(SPAN("g: a@b, c@d, e@f;"), &mem, a, 3, NULL), 3);
	assert_int_equal(a[0].kind, MAILBOX_GROUP_START);
	assert_int_equal(a[1].kind, MAILBOX_ADDR);
	assert_int_equal(a[2].kind, MAILBOX_GROUP_END);
	assert_int_equal(address_list_parse(SPAN("x@y, g: a@b;"), &mem, a, 2, NULL), 1);
	assert_int_equal(address_list_parse(SPAN("x@y"), &mem, a, 0, NULL), 0);
	arena_done(&mem);
}

static void test_list_bombs(void **state)
{
	static const char *const units[] = { "a@b.example,", "\"", "(",	  "<",	 "a:",
					     "=?",	     "a.", "[@[", "g:;", "\\(\\\"" };
	enum { SIZE = 4000000, ENTRIES = 500000 };
	struct mailbox_address *list = calloc(ENTRIES, sizeof(*list));
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		_cleanup_(buf_donep) struct buf b = BUF_INIT(SIZE + 100);
		while (b.n < SIZE)
			buf_put_str(&b, units[i]);
		struct arena mem;
		arena_init(&mem);
		usec start = clock_cpu_thread();
		size_t n = address_list_parse(buf_span(&b), &mem, list, ENTRIES, NULL);
		assert_quick(start);
		assert_true(n <= ENTRIES);
		if (i == 0)
			assert_true(n > SIZE / 12 - 2);
		arena_done(&mem);
	}
	free(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),	   cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_lists),	   cmocka_unit_test(test_list_max),
		cmocka_unit_test(test_list_bombs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
