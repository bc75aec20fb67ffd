#include "harness.h"

#include <stdio.h>

#include "imap/parse.h"
#include "imap/pattern.h"

/* The argument parser, sets and patterns: pure functions. */

static struct arena mem;
static struct imap_args args;

static bool parse(const char *line)
{
	const char *why = NULL;
	arena_reset(&mem);
	bool ok = imap_parse(span_str(line), &mem, &args, &why);
	assert_true(ok || why);
	return ok;
}

static void test_heads(void **state)
{
	assert_true(parse("a1 NOOP\r\n"));
	assert_true(span_eq_str(args.tag, "a1"));
	assert_int_equal(args.cmd->id, IMAP_NOOP);
	assert_true(parse("a1 uid Fetch 1 uid\r\n") && args.uid);
	assert_false(parse("a1 UID NOOP\r\n"));
	assert_false(parse("a1 NOOP \r\n"));
	assert_false(parse("a1  NOOP\r\n"));
	assert_false(parse("a+1 NOOP\r\n"));
	assert_false(parse("\r\n"));
	assert_false(parse("a1 FROB\r\n"));
	assert_true(span_eq_str(args.tag, "a1"));
}

static void test_strings(void **state)
{
	assert_true(parse("a LOGIN {3}\r\nann \"x\\\"\\\\y\"\r\n"));
	assert_true(span_eq_str(args.text[0], "ann") && span_eq_str(args.text[1], "x\"\\y"));
	assert_true(parse("a LOGIN a]b {0+}\r\n\r\n"));
	assert_int_equal(args.text[1].n, 0);
	assert_false(parse("a LOGIN \"a\\b\" c\r\n"));
	assert_false(parse("a LOGIN \"abc c\r\n"));
	assert_false(parse("a LOGIN {9}\r\nann b\r\n"));
	assert_false(parse("a LOGIN {99999999999999999999}\r\nann b\r\n"));
	assert_true(parse("a SELECT \"Entw&APw-rfe\"\r\n"));
	assert_true(span_eq_str(args.mailbox[0], "Entw\xc3\xbcrfe"));
	assert_true(parse("a SELECT \"&!!!-\"\r\n") && args.bad_name);
}

static void test_sets(void **state)
{
	assert_true(parse("a FETCH 5:3,1,*,4:7 UID\r\n"));
	struct imap_set s = imap_set_resolve(&args.set, 9, &mem);
	assert_int_equal(s.n, 3);
	assert_int_equal(s.r[1].lo, 3);
	assert_int_equal(s.r[1].hi, 7);
	assert_true(imap_set_has(&s, 9) && imap_set_has(&s, 1) && imap_set_has(&s, 6));
	assert_false(imap_set_has(&s, 2) || imap_set_has(&s, 8) || imap_set_has(&s, 10));
	assert_int_equal(imap_set_check(&args.set, 9), 0);
	assert_int_equal(imap_set_check(&args.set, 6), ERR_INVAL);
	assert_true(parse("a FETCH 4294967295:* UID\r\n"));
	assert_false(parse("a FETCH 4294967296 UID\r\n"));
	assert_false(parse("a FETCH 0 UID\r\n"));
	assert_false(parse("a FETCH 1, UID\r\n"));
	assert_false(parse("a FETCH 1:2:3 UID\r\n"));
	const uint32_t v[] = { 1, 2, 3, 7, 9, 10 };
	_cleanup_(buf_donep) struct buf b = BUF_INIT(64);
	imap_set_put(&b, v, 6);
	assert_string_equal(buf_cstr(&b), "1:3,7,9:10");
}

static void test_fetch_items(void **state)
{
	assert_true(parse("a FETCH 1 FULL\r\n") && args.fetch.n == 5 && !args.fetch.sets_seen);
	assert_true(parse("a FETCH 1 (UID BODY.PEEK[HEADER.FIELDS (From {2}\r\nTo)] "
			  "BODY[1.2.MIME]<5.10> RFC822.HEADER)\r\n"));
	assert_int_equal(args.fetch.n, 4);
	assert_true(args.fetch.sets_seen);
	struct imap_fetch_item *f = args.fetch.items;
	assert_true(span_eq_str(f[1].label, "BODY[HEADER.FIELDS (From To)]") && f[1].peek &&
		    f[1].n_fields == 2);
	assert_true(span_eq_str(f[2].label, "BODY[1.2.MIME]<5>") && f[2].n_path == 2 &&
		    f[2].from == 5 && f[2].count == 10);
	assert_int_equal(f[3].what, IMAP_SECTION_HEADER);
	assert_true(parse("a FETCH 1 BODY[1]\r\n"));
	assert_true(parse("a FETCH 1 BODY\r\n") && args.fetch.items[0].kind == IMAP_FETCH_BODY);
	static const char *const bad[] = { "BODY[MIME]",
					   "BODY[0]",
					   "BODY[1.]",
					   "BODY[]<1>",
					   "BODY[]<0.0>",
					   "(UID",
					   "()",
					   "FOO",
					   "BODY[HEADER.FIELDS ()]",
					   "BODY[HEADER.FIELDS (a:b)]" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		char line[80];
		snprintf(line, sizeof(line), "a FETCH 1 %s\r\n", bad[i]);
		assert_false(parse(line));
	}
}

static void test_search_trees(void **state)
{
	assert_true(parse("a SEARCH CHARSET UTF-8 OR SEEN (NOT FLAGGED 1:3) SUBJECT \"x y\" SINCE "
			  "1-Feb-2026\r\n"));
	struct imap_search *k = args.search->child;
	assert_int_equal(k->key, IMAP_KEY_OR);
	assert_int_equal(k->child->next->key, IMAP_KEY_AND);
	assert_int_equal(k->child->next->child->key, IMAP_KEY_NOT);
	assert_int_equal(k->next->key, IMAP_KEY_HEADER);
	assert_true(span_ieq_str(k->next->name, "subject") && span_eq_str(k->next->text, "x y"));
	assert_int_equal(k->next->next->key, IMAP_KEY_SINCE);
	assert_true(parse("a SEARCH CHARSET KOI8-R ALL\r\n") && args.bad_charset);
	assert_true(parse("a SEARCH UNKEYWORD $Junk UNSEEN NEW OLD\r\n"));
	assert_false(parse("a SEARCH\r\n"));
	assert_false(parse("a SEARCH OR SEEN\r\n"));
	assert_false(parse("a SEARCH ON 31-Foo-2026\r\n"));
	assert_false(parse("a SEARCH (SEEN\r\n"));
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1 << 20);
	buf_put_str(&b, "a SEARCH");
	for (int i = 0; i < 10000; i++)
		buf_put_str(&b, " OR");
	buf_put_str(&b, " ALL\r\n");
	assert_false(parse(buf_cstr(&b)));
	buf_reset(&b);
	buf_put_str(&b, "a SEARCH ");
	for (int i = 0; i < 60000; i++)
		buf_put_char(&b, '(');
	buf_put_str(&b, "\r\n");
	assert_false(parse(buf_cstr(&b)));
}

static void test_others(void **state)
{
	assert_true(parse("a STORE 1:2 -FLAGS.SILENT (\\Seen $Label1)\r\n"));
	assert_true(args.op == IMAP_STORE_REMOVE && args.silent && args.flags.system == 1 &&
		    args.flags.n_keywords == 1);
	assert_true(parse("a STORE 1 FLAGS ()\r\n") &&
		    parse("a STORE 1 FLAGS \\Seen \\Deleted\r\n"));
	assert_false(parse("a STORE 1 FLAGS (\\Recent)\r\n"));
	assert_true(parse("a APPEND INBOX (\\Draft) \"17-Jul-2026 02:44:25 -0700\" {310}\r\n"));
	assert_true(args.pending && args.has_date && args.literal.n == 310);
	assert_true(parse("a APPEND {5}\r\nINBOX {3+}\r\nabc\r\n") && !args.pending &&
		    span_eq_str(args.message, "abc"));
	assert_false(parse("a APPEND INBOX ~{3}\r\nabc\r\n"));
	assert_true(parse("a LIST (SPECIAL-USE) \"\" (\"*\" %) RETURN (CHILDREN)\r\n") &&
		    args.list.n == 2);
	assert_false(parse("a LSUB (SUBSCRIBED) \"\" *\r\n"));
	assert_true(parse("a CREATE x (USE (\\Archive))\r\n") && args.special == 5);
	assert_true(parse("a CREATE x (USE (\\Foo))\r\n") && args.bad_use);
	assert_true(parse("a STATUS x (MESSAGES UNSEEN)\r\n") &&
		    args.status == (IMAP_STATUS_MESSAGES | IMAP_STATUS_UNSEEN));
	assert_true(parse("a ID (\"name\" \"x\" \"v\" NIL)\r\n") && parse("a ID NIL\r\n"));
	assert_true(parse("a AUTHENTICATE PLAIN =\r\n") && args.has_initial);
}

static bool matches(const char *pattern, const char *name)
{
	uint64_t budget = 1 << 20;
	return imap_pattern_match(span_str(pattern), span_str(name), &budget);
}

static void test_patterns(void **state)
{
	assert_true(matches("*", "a/b") && matches("%", "a") && !matches("%", "a/b") &&
		    matches("a/%", "a/b"));
	assert_true(matches("inBOX", "INBOX") && matches("inbox/x", "INBOX/x") &&
		    !matches("INBOX", "INBOXES"));
	assert_true(matches("%/%", "a/b") && matches("*b", "a/b") && !matches("a%c", "ab/c") &&
		    matches("a*c", "ab/c"));
	assert_true(matches("", "") && matches("*%", "") && !matches("a", "b"));
	_cleanup_(buf_donep) struct buf p = BUF_INIT(2000), n = BUF_INIT(2000);
	for (int i = 0; i < 500; i++)
		buf_put_str(&p, "*%");
	buf_put_char(&p, 'x');
	for (int i = 0; i < 1000; i++)
		buf_put_char(&n, 'a');
	uint64_t budget = 1500000;
	assert_false(imap_pattern_match(buf_span(&p), buf_span(&n), &budget));
	assert_true(budget > 0);
	assert_false(imap_pattern_match(buf_span(&p), buf_span(&n), &budget));
	assert_true(budget == 0);
}

static int setup(void **state)
{
	arena_init(&mem);
	return 0;
}

static int teardown(void **state)
{
	arena_done(&mem);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_heads),	     cmocka_unit_test(test_strings),
		cmocka_unit_test(test_sets),	     cmocka_unit_test(test_fetch_items),
		cmocka_unit_test(test_search_trees), cmocka_unit_test(test_others),
		cmocka_unit_test(test_patterns),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
