#include "support.h"

#include "format/imapfmt.h"
#include "imap_grammar.h"

static void test_strings(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(10000);
	imapfmt_string(&b, SPAN("a\"b\\c"));
	imapfmt_string(&b, SPAN(""));
	imapfmt_nstring(&b, SPAN_NULL);
	assert_buf(&b, "\"a\\\"b\\\\c\"\"\"NIL");
	buf_reset(&b);
	imapfmt_string(&b, SPAN("a\r\nb"));
	imapfmt_string(&b, SPAN("\xc3\xa9"));
	imapfmt_string(&b, SPAN("a\0b"));
	assert_buf(&b, "{4}\r\na\r\nb{2}\r\n\xc3\xa9{3}\r\na?b");
	static const char *const atoms[][2] = { { "INBOX", "INBOX" }, { "a]b", "a]b" },
						{ "", "\"\"" },	      { "nil", "\"nil\"" },
						{ "a b", "\"a b\"" }, { "a*", "\"a*\"" },
						{ "a%", "\"a%\"" },   { "{1}", "\"{1}\"" },
						{ "a(b", "\"a(b\"" } };
	for (size_t i = 0; i < ARRAY_LEN(atoms); i++) {
		buf_reset(&b);
		imapfmt_astring(&b, span_str(atoms[i][0]));
		assert_buf(&b, atoms[i][1]);
	}
}

static void check_envelope(const char *header, const char *want)
{
	struct arena mem;
	arena_init(&mem);
	_cleanup_(buf_donep) struct buf b = BUF_INIT(10000);
	assert_int_equal(imapfmt_envelope(&b, span_str(header), &mem), 0);
	assert_buf(&b, want);
	assert_ptr_equal(imap_grammar_envelope(b.p, b.p + b.n), b.p + b.n);
	arena_done(&mem);
}

static void test_envelope(void **state)
{
	check_envelope("", "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
	check_envelope(
		"Date: Sat, 21 Nov 2026 23:05:07 +0000\r\nSubject: Re: \"tea\"\r\n at four\r\n"
		"From: \"Smith, Ann\" <ann@example.org>\r\nTo: bob@example.net, Carl "
		"<carl@example.net>\r\n"
		"In-Reply-To: <0@example.net>\r\nMessage-ID: <1@example.org>\r\n\r\n",
		"(\"Sat, 21 Nov 2026 23:05:07 +0000\" \"Re: \\\"tea\\\" at four\" "
		"((\"Smith, Ann\" NIL \"ann\" \"example.org\")) ((\"Smith, Ann\" NIL \"ann\" "
		"\"example.org\")) "
		"((\"Smith, Ann\" NIL \"ann\" \"example.org\")) "
		"((NIL NIL \"bob\" \"example.net\")(\"Carl\" NIL \"carl\" \"example.net\")) "
		"NIL NIL \"<0@example.net>\" \"<1@example.org>\")");
	check_envelope(
		"From: a@b\r\nReply-To: \r\nSender: s@b\r\nTo: friends: x@y;\r\nCc: none:;\r\nBcc: "
		"<@r:p@q>\r\n\r\n",
		"(NIL NIL ((NIL NIL \"a\" \"b\")) ((NIL NIL \"s\" \"b\")) ((NIL NIL \"a\" \"b\")) "
		"((NIL NIL \"friends\" NIL)(NIL NIL \"x\" \"y\")(NIL NIL NIL NIL)) "
		"((NIL NIL \"none\" NIL)(NIL NIL NIL NIL)) ((NIL \"@r\" \"p\" \"q\")) NIL NIL)");
	check_envelope("Subject:\r\nTo: a@b\r\nTo: c@d\r\nFrom: root\r\n\r\n",
		       "(NIL \"\" ((NIL NIL \"root\" \"\")) ((NIL NIL \"root\" \"\")) ((NIL NIL "
		       "\"root\" \"\")) "
		       "((NIL NIL \"a\" \"b\")(NIL NIL \"c\" \"d\")) NIL NIL NIL NIL)");
	check_envelope("Subject: caf\xc3\xa9\r\n\r\n",
		       "(NIL {5}\r\ncaf\xc3\xa9 NIL NIL NIL NIL NIL NIL NIL NIL)");
}

static void check_body(const char *message, bool extensible, const char *want)
{
	struct arena mem;
	arena_init(&mem);
	_cleanup_(buf_donep) struct buf b = BUF_INIT(10000);
	span m = span_str(message);
	assert_int_equal(imapfmt_bodystructure(&b, m, mime_parse(m, &mem), extensible), 0);
	assert_buf(&b, want);
	assert_ptr_equal(imap_grammar_body(b.p, b.p + b.n, extensible), b.p + b.n);
	arena_done(&mem);
}

static void test_body(void **state)
{
	check_body("A: b\r\n\r\nx\r\ny\r\n", false,
		   "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 6 2)");
	check_body("A: b\r\n\r\nx\r\n", true,
		   "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 3 1 NIL NIL "
		   "NIL NIL)");
	check_body(
		"Content-Type: text/html; charset=\"utf-8\"\r\nContent-Transfer-Encoding: "
		"base64\r\nContent-ID: <i@x>\r\n"
		"Content-Description: a\r\n b\r\nContent-MD5: m\r\nContent-Language: de, "
		"en\r\nContent-Location: here\r\n"
		"Content-Disposition: attachment; filename*0*=utf-8''a%20;\r\n "
		"filename*1=b\r\n\r\n",
		true,
		"(\"text\" \"html\" (\"charset\" \"utf-8\") \"<i@x>\" \"a b\" \"base64\" 0 0 \"m\" "
		"(\"attachment\" (\"filename*0*\" \"utf-8''a%20\" \"filename*1\" \"b\")) (\"de\" "
		"\"en\") \"here\")");
	check_body("Content-Type: multipart/alternative; boundary=b\r\nContent-Disposition: "
		   "inline\r\nContent-Language: de\r\n\r\n"
		   "--b\r\n\r\nx\r\n--b\r\nContent-Type: image/png\r\n\r\nyy\r\n--b--\r\n",
		   true,
		   "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 1 0 NIL NIL "
		   "NIL NIL)"
		   "(\"image\" \"png\" NIL NIL NIL \"7BIT\" 2 NIL NIL NIL NIL) \"alternative\" "
		   "(\"boundary\" \"b\") "
		   "(\"inline\" NIL) \"de\" NIL)");
	check_body(
		"Content-Type: multipart/mixed\r\n\r\nx", false,
		"((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 0 0) \"mixed\")");
	check_body(
		"Content-Type: message/rfc822\r\n\r\nSubject: in\r\nContent-Type: a/b\r\n\r\nx\r\n",
		false,
		"(\"message\" \"rfc822\" NIL NIL NIL \"7BIT\" 37 "
		"(NIL \"in\" NIL NIL NIL NIL NIL NIL NIL NIL) (\"a\" \"b\" NIL NIL NIL \"7BIT\" 3) "
		"4)");
	check_body("Content-Type: text/plain; name=\"caf\xe9\"; "
		   "charset*=utf-8''x\r\nContent-Language: ,\r\n\r\n",
		   true,
		   "(\"text\" \"plain\" (\"name\" {4}\r\ncaf\xe9 \"charset*\" \"utf-8''x\") NIL "
		   "NIL \"7BIT\" 0 0 NIL NIL NIL NIL)");
}

static void test_mutf7(void **state)
{
	static const char *const pairs[][2] = {
		{ "INBOX", "INBOX" },
		{ "Entw\xc3\xbcrfe", "Entw&APw-rfe" },
		{ "a & b", "a &- b" },
		{ "~peter/\xe5\x8f\xb0\xe5\x8c\x97/\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e",
		  "~peter/&U,BTFw-/&ZeVnLIqe-" },
		{ "\xf0\x9f\x98\x80", "&2D3eAA-" },
		{ "tab\there", "tab&AAk-here" },
		{ "", "" },
	};
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		_cleanup_(buf_donep) struct buf b = BUF_INIT(1000), c = BUF_INIT(1000);
		assert_int_equal(mutf7_encode(&b, span_str(pairs[i][0])), 0);
		assert_buf(&b, pairs[i][1]);
		assert_int_equal(mutf7_decode(&c, span_str(pairs[i][1])), 0);
		assert_buf(&c, pairs[i][0]);
	}
	static const char *const wrong[] = {
		"\xc3\xbc", "&",   "&AP",   "&AGE-", "&APw-&APw-", "&APx-",  "&2D0-",
		"&3gA-",    "&A-", "&AP/-", "&AAA-", "a\tb",	   "&APw=-",
	};
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		_cleanup_(buf_donep) struct buf b = BUF_INIT(1000);
		assert_int_equal(mutf7_decode(&b, span_str(wrong[i])), ERR_SYNTAX);
		assert_int_equal(b.n, 0);
	}
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1000);
	assert_int_equal(mutf7_encode(&b, SPAN("\xff")), ERR_SYNTAX);
	assert_int_equal(mutf7_encode(&b, SPAN("a\0b")), ERR_SYNTAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_envelope),
		cmocka_unit_test(test_body),
		cmocka_unit_test(test_mutf7),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
