#include "trust/authres.h"
#include "zone.h"

static struct arena mem;

static void test_parse(void **state)
{
	struct authres_item item[AUTHRES_MAX];
	span id;
	size_t n;

	assert_int_equal(
		authres_parse(SPAN(" (c) \"mx.test\" 1 ; spf=pass (a;b \\) (nested)) x=\"q;r\";\r\n"
				   "\tdkim/1 = fail reason=\"no\""),
			      &mem, &id, item, &n),
		0);
	assert_span(id, "mx.test");
	assert_int_equal(n, 2);
	assert_span(item[0].method, "spf");
	assert_span(item[0].result, "pass");
	assert_span(item[0].text, "spf=pass (a;b \\) (nested)) x=\"q;r\"");
	assert_span(item[1].method, "dkim");
	assert_span(item[1].result, "fail");
	assert_int_equal(authres_parse(SPAN("mx.test; none"), &mem, &id, item, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(authres_parse(SPAN("mx.test; spf"), &mem, &id, item, &n), ERR_SYNTAX);
	assert_int_equal(authres_parse(SPAN("mx.test; spf=pass (open"), &mem, &id, item, &n),
			 ERR_SYNTAX);
	assert_int_equal(authres_parse(SPAN("; spf=pass"), &mem, &id, item, &n), ERR_SYNTAX);
}

static void test_claims(void **state)
{
	static const char *const ours[] = { "mx.test; none",	 " MX.TEST;spf=pass",
					    "\"mx.test\"; x=y",	 "(c)mx.test(d) 1; x=y",
					    "mx.test.; x=y",	 "mx.test/1; x=y",
					    "\"mx\\.test\" ; x", "mx.test",
					    "(open mx.test; x=y" };
	static const char *const theirs[] = { "mx.test.evil; none", "evil; spf=pass (mx.test)", "",
					      "mxtest; x" };

	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		assert_true(authres_claims(span_str(ours[i]), SPAN("mx.test")));
	for (size_t i = 0; i < ARRAY_LEN(theirs); i++)
		assert_false(authres_claims(span_str(theirs[i]), SPAN("mx.test")));
}

static void test_strip(void **state)
{
	const char *text = "Received: x\r\n"
			   "authentication-results: mx.test; dmarc=pass\r\n\t(folded)\r\n"
			   "Authentication-Results: other.test; dmarc=pass\r\n"
			   "AUTHENTICATION-RESULTS : mx.test; spf=pass\r\n"
			   "no field\r\n"
			   "Authentication-Results: mx.test; spf=pass\r\n"
			   "From: a@b.test\r\n"
			   "\r\n"
			   "Authentication-Results: mx.test; body\r\n";
	struct buf b = BUF_INIT(4096);
	size_t removed;

	assert_int_equal(authres_strip(span_str(text), SPAN("mx.test"), &b, &removed), 0);
	assert_int_equal(removed, 3);
	assert_span(buf_span(&b), "Received: x\r\n"
				  "Authentication-Results: other.test; dmarc=pass\r\n"
				  "no field\r\n"
				  "From: a@b.test\r\n\r\n");
	buf_done(&b);
}

/* What we write we can read; what peers chose stays inside its quotes. */
static void test_put(void **state)
{
	const struct spf_verdict spf = { .result = TRUST_FAIL,
					 .reason = "a term matched",
					 .sender = SPAN("a\r\nX: \";@evil.test") };
	struct dkim_verdict dkim = { .result = TRUST_PASS, .n = 1 };
	const struct dmarc_verdict dmarc = { .result = TRUST_PASS,
					     .author = SPAN("b.test"),
					     .record_domain = SPAN("b.test"),
					     .record = { .p = DMARC_REJECT } };
	struct authres_item item[AUTHRES_MAX];
	struct buf b = BUF_INIT(8192);
	span id;
	size_t n;

	dkim.signature[0] = (struct dkim_signature){ .result = TRUST_PASS,
						     .domain = SPAN("b.test"),
						     .selector = SPAN("s"),
						     .identity = SPAN("@b.test"),
						     .algorithm = SPAN("rsa-sha256"),
						     .b = SPAN("abcdefghijkl") };
	const struct authres r = {
		.id = SPAN("mx.test"), .mail_from = &spf, .dkim = &dkim, .dmarc = &dmarc
	};
	assert_int_equal(authres_put(&b, &r), 0);
	assert_span(
		buf_span(&b),
		"Authentication-Results: mx.test;\r\n"
		"\tspf=fail reason=\"a term matched\" smtp.mailfrom=\"a??X: \\\";@evil.test\";\r\n"
		"\tdkim=pass header.d=b.test header.i=@b.test header.s=s header.a=rsa-sha256"
		" header.b=abcdefgh;\r\n"
		"\tdmarc=pass (p=reject) header.from=b.test\r\n");
	span value = span_from(buf_span(&b), strlen("Authentication-Results:"));
	assert_int_equal(authres_parse(value, &mem, &id, item, &n), 0);
	assert_int_equal(n, 3);
	assert_true(authres_claims(value, SPAN("mx.test")));
	buf_done(&b);

	const struct authres nothing = { .id = SPAN("mx.test") };
	assert_int_equal(authres_put(&b, &nothing), 0);
	assert_span(buf_span(&b), "Authentication-Results: mx.test; none\r\n");
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_strip),
		cmocka_unit_test(test_put),
	};
	arena_init(&mem);
	int e = cmocka_run_group_tests(tests, NULL, NULL);
	arena_done(&mem);
	return e;
}
