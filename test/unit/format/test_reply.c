#include "support.h"

#include "format/dsn.h"
#include "format/json.h"
#include "format/idn.h"
#include "format/reply.h"

static const struct {
	const char *in;
	int want;
	unsigned code;
	const char *enhanced, *text;
} replies[] = {
	{ "250 OK\r\n", 1, 250, "", "OK" },
	{ "250\r\nnext", 1, 250, "", "" },
	{ "250-a\r\n250 b\r\n", 1, 250, "", "a\nb" },
	{ "550 5.1.1 No such user\r\n", 1, 550, "5.1.1", "No such user" },
	{ "550-5.1.1 one\r\n550 5.1.1 two\r\n", 1, 550, "5.1.1", "one\ntwo" },
	{ "550 5.7.2\r\n", 1, 550, "5.7.2", "" },
	{ "250 5.1.1 odd\r\n", 1, 250, "", "5.1.1 odd" },
	{ "421 a\x01\rb\n", 1, 421, "", "a??b" },
	{ "250", 0, 0, NULL, NULL },
	{ "250-a\r\n", 0, 0, NULL, NULL },
	{ "", 0, 0, NULL, NULL },
	{ "250-a\r\n251 b\r\n", ERR_SYNTAX, 0, NULL, NULL },
	{ "999 a\r\n", ERR_SYNTAX, 0, NULL, NULL },
	{ "hello\r\n", ERR_SYNTAX, 0, NULL, NULL },
	{ "2500 a\r\n", ERR_SYNTAX, 0, NULL, NULL },
	{ "\r\n", ERR_SYNTAX, 0, NULL, NULL },
	{ "250-1\r\n250-2\r\n250-3\r\n250-4\r\n250 5\r\n", ERR_TOOBIG, 0, NULL, NULL },
};

static void test_parse(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
		_cleanup_(buf_donep) struct buf b = BUF_INIT(1000);
		struct smtp_reply r;
		size_t used = 0;
		int e = smtp_reply_parse(span_str(replies[i].in), 4, 1000, &b, &r, &used);
		assert_int_equal(e, replies[i].want);
		if (e != 1)
			continue;
		assert_int_equal(r.code, replies[i].code);
		assert_string_equal(r.enhanced, replies[i].enhanced);
		assert_span(r.text, replies[i].text);
		assert_int_equal(replies[i].in[used - 1], '\n');
	}
	_cleanup_(buf_donep) struct buf b = BUF_INIT(10);
	struct smtp_reply r;
	size_t used;
	assert_int_equal(smtp_reply_parse(SPAN("250 no end in sight"), 4, 10, &b, &r, &used),
			 ERR_TOOBIG);
	assert_int_equal(smtp_reply_parse(SPAN("250 0123456789a\r\n"), 4, 100, &b, &r, &used),
			 ERR_TOOBIG);
}

static void test_put(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(10000);
	smtp_reply_put(&b, 250, "2.1.0", SPAN("a\nb\r\n"), false);
	assert_buf(&b, "250-2.1.0 a\r\n250 2.1.0 b\r\n");
	buf_reset(&b);
	smtp_reply_put(&b, 354, NULL, SPAN("\xc3\xa4\r\x01\x80"), true);
	assert_buf(&b, "354 \xc3\xa4???\r\n");
	buf_reset(&b);
	smtp_reply_put(&b, 550, "", SPAN("\xc3\xa4"), false);
	assert_buf(&b, "550 ??\r\n");
	buf_reset(&b);
	char text[3000];
	memset(text, 'x', sizeof(text));
	smtp_reply_put(&b, 550, "5.0.0", span_of(text, sizeof(text)), false);
	assert_int_equal(b.n, 502);
}

static void test_codes(void **state)
{
	char code[12];
	assert_true(enhanced_code_parse(SPAN("5.1.1 x"), code));
	assert_string_equal(code, "5.1.1");
	assert_true(enhanced_code_parse(SPAN("4.123.456"), code));
	assert_string_equal(code, "4.123.456");
	static const char *const wrong[] = { "",      "5",	"5.1",	  "5.1.", "5.1.1234",
					     "3.1.1", "51.1.1", "5.1.1x", "5..1" };
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		assert_false(enhanced_code_parse(span_str(wrong[i]), code));

	_cleanup_(buf_donep) struct buf b = BUF_INIT(100);
	xtext_encode(&b, SPAN("a+b=c d\xff"));
	assert_buf(&b, "a+2Bb+3Dc+20d+FF");
	_cleanup_(buf_donep) struct buf c = BUF_INIT(100);
	assert_int_equal(xtext_decode(&c, buf_span(&b)), 0);
	assert_buf(&c, "a+b=c d\xff");
	assert_int_equal(xtext_decode(&c, SPAN("a+2")), ERR_SYNTAX);
	assert_int_equal(xtext_decode(&c, SPAN("a=b")), ERR_SYNTAX);
	assert_int_equal(xtext_decode(&c, SPAN("a+zz")), ERR_SYNTAX);
}

static void test_json(void **state)
{
	struct err_info info;
	json_auto_t *j = json_parse(SPAN("{\"a\":\"x\",\"n\":-5,\"b\":true}"), &info);
	assert_non_null(j);
	assert_span(json_str(j, "a"), "x");
	assert_null(json_str(j, "n").p);
	assert_int_equal(json_int(j, "n", 0), -5);
	assert_int_equal(json_int(j, "x", 7), 7);
	assert_true(json_bool(j, "b", false));
	_cleanup_(buf_donep) struct buf b = BUF_INIT(100);
	assert_int_equal(json_put(&b, j), 0);
	json_auto_t *again = json_parse(buf_span(&b), NULL);
	assert_true(json_equal(j, again));
	_cleanup_(buf_donep) struct buf tiny = BUF_INIT(5);
	assert_int_equal(json_put(&tiny, j), ERR_TOOBIG);

	static const char *const wrong[] = { "",	  "{",	   "{\"a\":1,\"a\":2}",
					     "[1]x",	  "\"s\"", "{\"a\":\"\\u0000\"}",
					     "[\"\xff\"]" };
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		assert_null(json_parse(span_str(wrong[i]), &info));
		assert_int_equal(info.code, ERR_SYNTAX);
	}
	char deep[200];
	memset(deep, '[', 65);
	memset(deep + 65, ']', 65);
	assert_null(json_parse(span_of(deep, 130), &info));
	assert_int_equal(info.code, ERR_TOOBIG);
	json_auto_t *ok = json_parse(span_of(deep + 1, 128), &info);
	assert_non_null(ok);
	json_auto_t *s = json_span(SPAN("a\xff\0b"));
	assert_int_equal(json_string_length(s), 6);
}

static void test_idn(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1000);
	assert_int_equal(idn_to_ascii(&b, SPAN("B\xc3\xbc"
					       "cher.Example")),
			 0);
	assert_buf(&b, "xn--bcher-kva.example");
	buf_reset(&b);
	assert_int_equal(idn_to_ascii(&b, SPAN("fa\xc3\x9f.example")), 0);
	assert_buf(&b, "xn--fa-hia.example");
	buf_reset(&b);
	assert_int_equal(idn_to_ascii(&b, SPAN("MAIL.Example.ORG")), 0);
	assert_buf(&b, "mail.example.org");
	buf_reset(&b);
	assert_int_equal(idn_to_unicode(&b, SPAN("xn--bcher-kva.example")), 0);
	assert_buf(&b, "b\xc3\xbc"
		       "cher.example");
	assert_int_equal(idn_to_ascii(&b, SPAN("")), ERR_SYNTAX);
	assert_int_equal(idn_to_ascii(&b, SPAN("a..b")), ERR_SYNTAX);
	assert_int_equal(idn_to_ascii(&b, SPAN("\xff.example")), ERR_SYNTAX);
	assert_int_equal(idn_to_ascii(&b, SPAN("a\0\xc3\xbc.example")), ERR_SYNTAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse), cmocka_unit_test(test_put),
		cmocka_unit_test(test_codes), cmocka_unit_test(test_json),
		cmocka_unit_test(test_idn),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
