#include "support.h"

#include "format/imapfmt.h"
#include "format/mime.h"

/* A tree as one line: type/subtype{body}(children...). */
static void put_tree(struct buf *b, span m, const struct mime_part *p)
{
	buf_printf(b, "%.*s/%.*s", SPAN_FMT(p->type), SPAN_FMT(p->subtype));
	if (p->child) {
		buf_put_char(b, '(');
		for (const struct mime_part *c = p->child; c; c = c->next) {
			put_tree(b, m, c);
			buf_put_str(b, c->next ? " " : ")");
		}
	} else {
		buf_put_char(b, '{');
		buf_put_span(b, span_sub(m, p->body, p->end - p->body));
		buf_printf(b, "}%zu", p->lines);
	}
}

static const struct {
	const char *in, *want;
} trees[] = {
	{ "Subject: x\r\n\r\na\r\nb\r\n", "TEXT/PLAIN{a\r\nb\r\n}2" },
	{ "", "TEXT/PLAIN{}0" },
	{ "Content-Type: text/html; charset=utf-8\r\n\r\nx", "text/html{x}0" },
	{ "Content-Type: nonsense\r\n\r\nx", "TEXT/PLAIN{x}0" },
	{ "Content-Type: multipart/mixed; "
	  "boundary=b\r\n\r\npre\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: text/html\r\n"
	  "\r\ntwo\r\n\r\n--b--\r\nepilogue\r\n",
	  "multipart/mixed(TEXT/PLAIN{one}0 text/html{two\r\n}1)" },
	/* no final boundary; header only; nothing at all; white space behind a boundary */
	{ "Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n--b  \r\nContent-Type: "
	  "text/html\r\n--b\r\n--b\r\n\r\n--b\r\n\r\nx",
	  "multipart/mixed(text/html{}0 TEXT/PLAIN{}0 TEXT/PLAIN{}0 TEXT/PLAIN{x}0)" },
	/* a boundary that is a prefix of the inner one, and lines that only look like one */
	{ "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/mixed; "
	  "boundary=bb\r\n\r\n"
	  "--bb\r\n\r\nx\r\n--bbb\r\n --bb\r\n--bb--\r\n--b\r\n\r\ny\r\n--b--\r\n",
	  "multipart/mixed(multipart/mixed(TEXT/PLAIN{x\r\n--bbb\r\n --bb}2) TEXT/PLAIN{y}0)" },
	/* the outer boundary ends an inner multipart that was left open */
	{ "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: multipart/mixed; "
	  "boundary=i\r\n\r\n"
	  "--i\r\n\r\nx\r\n--o\r\n\r\ny\r\n--o--\r\n",
	  "multipart/mixed(multipart/mixed(TEXT/PLAIN{x}0) TEXT/PLAIN{y}0)" },
	{ "Content-Type: multipart/mixed\r\n\r\n--\r\n\r\nx", "multipart/mixed{--\r\n\r\nx}2" },
	{ "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: "
	  "in\r\n\r\nx\r\n--b--\r\n",
	  "multipart/digest(MESSAGE/RFC822(TEXT/PLAIN{x}0))" },
	{ "Content-Type: message/rfc822\r\n\r\nContent-Type: text/html\r\n\r\nx\r\n",
	  "message/rfc822(text/html{x\r\n}1)" },
	/* the first of two fields counts; comments; bare line feeds */
	{ "Content-Type: (c) text (c(d)) / plain (e); x=y\nContent-Type: text/html\n\nx\n",
	  "text/plain{x\n}1" },
	{ "Content-Type: text/html (never closed\r\n\r\nx", "text/html{x}0" },
	{ "Content-Type: text/html (ends in \\\r\n\r\nx", "text/html{x}0" },
};

static void test_trees(void **state)
{
	struct arena mem;
	arena_init(&mem);
	for (size_t i = 0; i < ARRAY_LEN(trees); i++) {
		_cleanup_(buf_donep) struct buf b = BUF_INIT(10000);
		span m = span_str(trees[i].in);
		put_tree(&b, m, mime_parse(m, &mem));
		assert_buf(&b, trees[i].want);
	}
	arena_done(&mem);
}

static const struct {
	const char *in, *name, *want;
} params[] = {
	{ "name=a.txt", "NAME", "a.txt" },
	{ "name=\"a \\\"b\\\".txt\"", "name", "a \"b\".txt" },
	{ "x=1;;; name = a ; y", "name", "a" },
	{ "name*=utf-8''caf%C3%A9", "name", "caf\xc3\xa9" },
	{ "name*=iso-8859-1'fr'caf%E9", "name", "caf\xc3\xa9" },
	{ "name*1=b; name*0=a; name*3=never", "name", "ab" },
	{ "name*0*=utf-8''a%20; name*1=%20; name*2*=%C3%A9", "name", "a %20\xc3\xa9" },
	{ "name=plain; name*=utf-8''ext", "name", "ext" },
	{ "name=\"=?utf-8?Q?caf=C3=A9?=\"", "name", "caf\xc3\xa9" },
	{ "name=caf\xe9", "name", "caf\xc3\xa9" },
	{ "name*=utf-8''%zz%4", "name", "%zz%4" },
	{ "name=\"never closed", "name", "never closed" },
	{ "name=a=b/c?d", "name", "a=b/c?d" },
	{ "other=a", "name", NULL },
};

static void test_params(void **state)
{
	struct arena mem;
	arena_init(&mem);
	for (size_t i = 0; i < ARRAY_LEN(params); i++) {
		_cleanup_(buf_donep) struct buf b = BUF_INIT(10000);
		buf_printf(&b,
			   "Content-Disposition: attachment; %s\r\nContent-Type: a/b; %s\r\n\r\n",
			   params[i].in, params[i].in);
		struct mime_part *p = mime_parse(buf_span(&b), &mem);
		span v = mime_param(p->params, params[i].name);
		if (params[i].want)
			assert_span(v, params[i].want);
		else
			assert_null(v.p);
		assert_true(span_eq(mime_param(p->disposition_params, params[i].name), v));
		assert_span(p->disposition, "attachment");
	}
	arena_done(&mem);
}

static void test_paths(void **state)
{
	span m = SPAN(
		"Content-Type: multipart/mixed; "
		"boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
		"Content-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\nin\r\n--i--\r\n--b\r\n"
		"Content-Type: message/rfc822\r\n\r\n\r\nplain\r\n--b--\r\n");
	struct arena mem;
	arena_init(&mem);
	struct mime_part *root = mime_parse(m, &mem);
	static const struct {
		unsigned path[3];
		size_t n;
		const char *body;
	} cases[] = { { { 1 }, 1, "one" },   { { 2, 1 }, 2, "in" }, { { 3, 1 }, 2, "plain" },
		      { { 4 }, 1, NULL },    { { 0 }, 1, NULL },    { { 1, 1 }, 2, NULL },
		      { { 2, 2 }, 2, NULL }, { { 3, 2 }, 2, NULL } };
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct mime_part *p = mime_part_by_path(root, cases[i].path, cases[i].n);
		if (cases[i].body)
			assert_span(span_sub(m, p->body, p->end - p->body), cases[i].body);
		else
			assert_null(p);
	}
	assert_ptr_equal(mime_part_by_path(root, NULL, 0), root);
	root = mime_parse(SPAN("A: b\r\n\r\nx"), &mem);
	assert_ptr_equal(mime_part_by_path(root, (unsigned[]){ 1 }, 1), root);
	assert_null(mime_part_by_path(root, (unsigned[]){ 2 }, 1));
	arena_done(&mem);
}

static void test_decode(void **state)
{
	struct arena mem;
	arena_init(&mem);
	span m = SPAN("Content-Transfer-Encoding: Base64\r\n\r\naGVs\r\nbG8=\r\n");
	_cleanup_(buf_donep) struct buf b = BUF_INIT(100);
	assert_int_equal(mime_decode_body(m, mime_parse(m, &mem), &b), 0);
	assert_buf(&b, "hello");
	m = SPAN("Content-Transfer-Encoding: quoted-printable\r\n\r\na=3Db=\r\nc");
	buf_reset(&b);
	assert_int_equal(mime_decode_body(m, mime_parse(m, &mem), &b), 0);
	assert_buf(&b, "a=bc");
	_cleanup_(buf_donep) struct buf tiny = BUF_INIT(2);
	assert_int_equal(mime_decode_body(m, mime_parse(m, &mem), &tiny), ERR_TOOBIG);
	arena_done(&mem);
}

static void test_charsets(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(100000);
	assert_int_equal(charset_to_utf8(SPAN("iso-8859-15"), SPAN("\xa4"), &b), 0);
	assert_buf(&b, "\xe2\x82\xac");
	buf_reset(&b);
	assert_int_equal(charset_to_utf8(SPAN("iso-2022-jp"), SPAN("\x1b$B$\"\x1b(B"), &b), 0);
	assert_buf(&b, "\xe3\x81\x82");
	buf_reset(&b);
	assert_int_equal(charset_to_utf8(SPAN("no-such"), SPAN("\xc3\xa9"), &b), 0);
	assert_buf(&b, "\xc3\xa9");
	buf_reset(&b);
	assert_int_equal(charset_to_utf8(SPAN_NULL, SPAN("\xe9"), &b), 0);
	assert_buf(&b, "\xc3\xa9");
	buf_reset(&b);
	char many[5000];
	memset(many, 0xe9, sizeof(many));
	assert_int_equal(charset_to_utf8(SPAN("windows-1252"), span_of(many, sizeof(many)), &b), 0);
	assert_int_equal(b.n, 2 * sizeof(many));
	_cleanup_(buf_donep) struct buf tiny = BUF_INIT(100);
	assert_int_equal(charset_to_utf8(SPAN("windows-1252"), span_of(many, sizeof(many)), &tiny),
			 ERR_TOOBIG);
	buf_reset(&b);
	assert_int_equal(text_fold(SPAN("Stra\xc3\x9f"
					"e \xef\xac\x81 K\xc3\x96LN"),
				   &b),
			 0);
	assert_buf(&b, "strasse fi k\xc3\xb6ln");
	buf_reset(&b);
	assert_int_equal(text_fold(SPAN("ABC"), &b), 0);
	assert_buf(&b, "abc");
	static const char *const wrong[] = { "\x80",	     "\xc0\x80",	 "\xc3",
					     "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe0\x80\x80" };
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		assert_false(utf8_valid(span_str(wrong[i])));
	assert_true(utf8_valid(SPAN("12345678\xf0\x9f\x98\x80\xe2\x82\xac")));
}

/* --- bombs: each must be read fast and give a structure that can be sent --- */
static size_t count_parts(const struct mime_part *p, unsigned *depth)
{
	size_t n = 0;
	for (; p; p = p->next) {
		*depth = MAX(*depth, p->depth);
		n += 1 + count_parts(p->child, depth);
	}
	return n;
}

static size_t explode(span m)
{
	struct arena mem;
	arena_init(&mem);
	usec start = clock_cpu_thread();
	struct mime_part *root = mime_parse(m, &mem);
	_cleanup_(buf_donep) struct buf b = BUF_INIT(64 << 20);
	assert_int_equal(imapfmt_bodystructure(&b, m, root, true), 0);
	assert_quick(start);
	unsigned depth = 0;
	size_t n = count_parts(root, &depth);
	assert_true(depth <= MIME_MAX_DEPTH);
	assert_true(n <= MIME_MAX_PARTS);
	assert_int_equal(root->end, m.n);
	arena_done(&mem);
	return n;
}

static void test_nested_multiparts(void **state)
{
	enum { DEEP = 100000 };
	_cleanup_(buf_donep) struct buf b = BUF_INIT(64 << 20);
	for (unsigned i = 0; i < DEEP; i++)
		buf_printf(&b, "Content-Type: multipart/mixed; boundary=%u\r\n\r\n--%u\r\n", i, i);
	assert_int_equal(explode(buf_span(&b)), MIME_MAX_DEPTH + 1);
}

static void test_empty_parts(void **state)
{
	enum { MANY = 1000000 };
	_cleanup_(buf_donep) struct buf b = BUF_INIT(64 << 20);
	buf_put_str(&b, "Content-Type: multipart/mixed; boundary=b\r\n\r\n");
	for (unsigned i = 0; i < MANY; i++)
		buf_put_str(&b, "--b\r\n");
	assert_int_equal(explode(buf_span(&b)), MIME_MAX_PARTS);
}

static void test_nested_messages(void **state)
{
	enum { DEEP = 10000 };
	_cleanup_(buf_donep) struct buf b = BUF_INIT(64 << 20);
	for (unsigned i = 0; i < DEEP; i++)
		buf_put_str(&b, "Content-Type: message/rfc822\r\n\r\n");
	assert_int_equal(explode(buf_span(&b)), MIME_MAX_DEPTH + 1);
}

/* All boundaries open, and every line might be one of them. */
static void test_many_boundaries(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(64 << 20);
	for (unsigned i = 0; i < MIME_MAX_DEPTH; i++)
		buf_printf(&b, "Content-Type: multipart/mixed; boundary=%0*u\r\n\r\n--%0*u\r\n", 60,
			   i, 60, i);
	for (unsigned i = 0; i < 100000; i++)
		buf_printf(&b, "--%0*u\r\n", 60, i + 1000);
	assert_int_equal(explode(buf_span(&b)), MIME_MAX_DEPTH + 1);
}

static void test_header_bombs(void **state)
{
	static const char *const units[] = {
		"filename*%u*=utf-8''x;", "filename*%u=x; ", "a%u=b;", "(", "\"", "%u\r\n ", "a\\"
	};
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		_cleanup_(buf_donep) struct buf b = BUF_INIT(64 << 20);
		buf_put_str(&b, "Content-Type: a/b;");
		for (unsigned k = 0; k < 100000; k++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
			buf_printf(&b, units[i], k);
#pragma GCC diagnostic pop
		}
		buf_put_str(&b, "\r\n\r\nx");
		assert_int_equal(explode(buf_span(&b)), 1);
	}
	/* the worst a part's parameters can cost, in as many parts as there may be */
	_cleanup_(buf_donep) struct buf b = BUF_INIT(64 << 20);
	buf_put_str(&b, "Content-Type: multipart/mixed; boundary=b\r\n\r\n");
	for (unsigned i = 0; i < MIME_MAX_PARTS; i++) {
		buf_put_str(&b, "--b\r\nContent-Type: a/b");
		for (unsigned k = 0; k < MIME_MAX_PARAMS; k++)
			buf_printf(&b, ";%03u*=a", k);
		buf_put_str(&b, "\r\n\r\n");
	}
	assert_int_equal(explode(buf_span(&b)), MIME_MAX_PARTS);
}

static void test_address_bombs(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(64 << 20), out = BUF_INIT(64 << 20);
	for (unsigned i = 0; i < 500000; i++)
		buf_printf(&b, "To: a%u@example.org\r\n", i);
	buf_put_str(&b, "\r\n");
	struct arena mem;
	arena_init(&mem);
	usec start = clock_cpu_thread();
	assert_int_equal(imapfmt_envelope(&out, buf_span(&b), &mem), 0);
	assert_quick(start);
	assert_true(out.n < 1 << 20);
	arena_done(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trees),		cmocka_unit_test(test_params),
		cmocka_unit_test(test_paths),		cmocka_unit_test(test_decode),
		cmocka_unit_test(test_charsets),	cmocka_unit_test(test_nested_multiparts),
		cmocka_unit_test(test_empty_parts),	cmocka_unit_test(test_nested_messages),
		cmocka_unit_test(test_many_boundaries), cmocka_unit_test(test_header_bombs),
		cmocka_unit_test(test_address_bombs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
