#include "base/codec.h"
#include "trust/dkim.h"
#include "zone.h"

static const char message[] = "From: Anna <anna@alpha.test>\r\n"
			      "To: ben@beta.test\r\n"
			      "Subject: Lunch\r\n"
			      "\r\n"
			      "At noon?  \r\n"
			      "\r\n";

struct bench {
	struct world w;
	struct sign_key *rsa, *ed;
	struct buf zone;
};

static void put_key(struct buf *b, const char *selector, const char *tags, const struct sign_key *k)
{
	_cleanup_(buf_donep) struct buf raw = BUF_INIT(2048), text = BUF_INIT(4096);

	sign_key_public(k, &raw);
	base64_encode(&text, buf_span(&raw));
	buf_printf(b, "%s._domainkey.alpha.test. TXT ( \"%s; p=\"", selector, tags);
	for (span s = buf_span(&text); s.n; s = span_from(s, 200))
		buf_printf(b, " \"%.*s\"", SPAN_FMT(span_sub(s, 0, 200)));
	buf_put_str(b, " )\n");
}

static void bench_init(struct bench *t)
{
	buf_init(&t->zone, 1 << 20);
	assert_int_equal(sign_key_new_rsa(2048, &t->rsa), 0);
	assert_int_equal(sign_key_new_ed25519(&t->ed), 0);
	put_key(&t->zone, "rsa", "v=DKIM1; k=rsa", t->rsa);
	put_key(&t->zone, "ed", "v=DKIM1; k=ed25519; t=y", t->ed);
	put_key(&t->zone, "strict", "k=rsa; t=s", t->rsa);
	put_key(&t->zone, "chat", "k=rsa; s=chat", t->rsa);
	put_key(&t->zone, "sha1", "k=rsa; h=sha1", t->rsa);
	put_key(&t->zone, "old", "k=rsa; v=DKIM1", t->rsa);
	buf_put_str(&t->zone, "gone._domainkey.alpha.test. TXT \"v=DKIM1; p=\"\n"
			      "; TIMEOUT slow._domainkey.alpha.test\n");
	world_init(&t->w, buf_cstr(&t->zone));
}

static void bench_done(struct bench *t)
{
	world_done(&t->w);
	sign_key_free(t->rsa);
	sign_key_free(t->ed);
	buf_done(&t->zone);
}

/* MESSAGE with a signature on top, in the world's memory. */
static span sign(struct bench *t, const struct sign_key *k, const char *selector,
		 struct dkim_sign_options o)
{
	struct buf b = BUF_INIT(1 << 16);
	struct message m;
	span ret;

	o.domain = SPAN("alpha.test");
	o.selector = span_str(selector);
	if (!o.now)
		o.now = 1000;
	assert_int_equal(message_parse(span_str(message), &t->w.mem, &m), 0);
	assert_int_equal(dkim_sign(&m, &o, k, &t->w.mem, &b), 0);
	buf_put_str(&b, message);
	ret = arena_span(&t->w.mem, buf_span(&b));
	buf_done(&b);
	return ret;
}

static struct dkim_verdict verify(struct bench *t, span text, int64_t now)
{
	struct dkim_verdict once, rounds;
	struct message m;

	assert_int_equal(message_parse(text, &t->w.mem, &m), 0);
	assert_int_equal(dkim_verify(&m, now, trust_zone_lookup(t->w.zone), &t->w.mem, &once), 0);
	while (dkim_verify(&m, now, trust_answers_lookup(t->w.answers), &t->w.mem, &rounds) ==
	       ERR_AGAIN)
		world_round(&t->w);
	assert_int_equal(once.result, rounds.result);
	assert_int_equal(once.n, rounds.n);
	return once;
}

/* TEXT with the first FROM replaced. */
static span edit(struct bench *t, span text, const char *from, const char *to)
{
	size_t at = span_find_span(text, span_str(from));

	assert_true(at != SPAN_NPOS);
	return span_str(arena_printf(&t->w.mem, "%.*s%s%.*s", SPAN_FMT(span_sub(text, 0, at)), to,
				     SPAN_FMT(span_from(text, at + strlen(from)))));
}

static void test_round_trip(void **state)
{
	struct bench t = { 0 };

	bench_init(&t);
	for (int how = 0; how < 8; how++) {
		const struct dkim_sign_options o = {
			.header = how & 1 ? CANON_RELAXED : CANON_SIMPLE,
			.body = how & 2 ? CANON_RELAXED : CANON_SIMPLE
		};
		span text = sign(&t, how & 4 ? t.ed : t.rsa, how & 4 ? "ed" : "rsa", o);
		struct dkim_verdict v = verify(&t, text, 1000);
		assert_int_equal(v.result, TRUST_PASS);
		assert_span(v.signature[0].domain, "alpha.test");
		assert_span(v.signature[0].identity, "@alpha.test");
		assert_int_equal(v.signature[0].testing, how >> 2);
		assert_true(dkim_counts(&v.signature[0]));
		assert_int_equal(verify(&t, edit(&t, text, "noon", "four"), 1000).result,
				 TRUST_FAIL);
		assert_int_equal(verify(&t, edit(&t, text, "Lunch", "Dinner"), 1000).result,
				 TRUST_FAIL);
		assert_int_equal(
			verify(&t, edit(&t, text, "From: A", "To: x@y.test\r\nFrom: A"), 1000)
				.result,
			TRUST_FAIL);
		/* Relaxed forgives white space, simple does not. */
		assert_int_equal(verify(&t, edit(&t, text, "noon?  ", "noon? \t"), 1000).result,
				 how & 2 ? TRUST_PASS : TRUST_FAIL);
		assert_int_equal(
			verify(&t, edit(&t, text, "Subject: Lunch", "SUBJECT:Lunch "), 1000).result,
			how & 1 ? TRUST_PASS : TRUST_FAIL);
	}
	bench_done(&t);
}

static void test_expiry(void **state)
{
	struct bench t = { 0 };

	bench_init(&t);
	span text = sign(&t, t.ed, "ed",
			 (struct dkim_sign_options){ .now = 5000, .expires = 6000 });
	assert_int_equal(verify(&t, text, 6000 + DKIM_SKEW).result, TRUST_PASS);
	assert_int_equal(verify(&t, text, 6001 + DKIM_SKEW).result, TRUST_FAIL);
	assert_true(verify(&t, text, 4000).signature[0].future);
	assert_false(verify(&t, text, 5000 - DKIM_SKEW).signature[0].future);
	text = edit(&t, text, "x=6000", "x=4000");
	assert_int_equal(verify(&t, text, 4000).result, TRUST_PERMERROR);
	bench_done(&t);
}

static void test_keys(void **state)
{
	static const struct {
		const char *selector;
		enum trust_result result;
	} cases[] = {
		{ "strict", TRUST_PASS },    { "chat", TRUST_PERMERROR },
		{ "sha1", TRUST_PERMERROR }, { "old", TRUST_PERMERROR },
		{ "gone", TRUST_PERMERROR }, { "none", TRUST_PERMERROR },
		{ "slow", TRUST_TEMPERROR }, { "ed", TRUST_PERMERROR },
	};
	struct bench t = { 0 };

	bench_init(&t);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		span text = sign(&t, t.rsa, cases[i].selector, (struct dkim_sign_options){ 0 });
		struct dkim_verdict v = verify(&t, text, 1000);
		if (v.result != cases[i].result)
			fail_msg("%s: %s", cases[i].selector, v.signature[0].reason);
	}
	/* t=s: i= must be d= itself; elsewhere it may be below. */
	span text = sign(&t, t.rsa, "strict", (struct dkim_sign_options){ 0 });
	text = edit(&t, text, "v=1;", "v=1; i=a@sub.alpha.test;");
	assert_int_equal(verify(&t, text, 1000).result, TRUST_PERMERROR);
	bench_done(&t);
}

static void test_fields(void **state)
{
	static const char *const bad[][2] = {
		{ "v=1", "v=2" },
		{ "v=1; ", "" },
		{ "a=rsa-sha256", "a=rsa-sha1" },
		{ "d=alpha.test", "d=" },
		{ "d=alpha.test", "d=al pha.test" },
		{ "s=rsa", "s=r..a" },
		{ "c=simple/simple", "c=nothing" },
		{ "h=From", "h=X-From" },
		{ "bh=", "bh=AAAA" },
		{ "v=1;", "v=1; v=1;" },
		{ "v=1;", "v=1; i=a@evil.test;" },
		{ "v=1;", "v=1; q=http;" },
		{ "v=1;", "v=1; l=x;" },
		{ "v=1;", "v=1; broken;" },
		{ "t=1000", "t=soon" },
	};
	struct bench t = { 0 };

	bench_init(&t);
	const struct dkim_sign_options o = { .headers = SPAN("From:To") };
	span text = sign(&t, t.rsa, "rsa", o);
	assert_int_equal(verify(&t, text, 1000).result, TRUST_PASS);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct dkim_verdict v = verify(&t, edit(&t, text, bad[i][0], bad[i][1]), 1000);
		if (v.result != TRUST_PERMERROR)
			fail_msg("%s: %s", bad[i][1], trust_result_text(v.result));
	}
	/* A body length: reported, and no use for DMARC, even where it covers all. */
	struct dkim_verdict v = verify(&t, edit(&t, text, "v=1;", "v=1; l=999;"), 1000);
	assert_int_equal(v.result, TRUST_FAIL);
	assert_true(v.signature[0].partial);
	assert_false(dkim_counts(&v.signature[0]));
	bench_done(&t);
}

static void test_many(void **state)
{
	struct bench t = { 0 };
	struct buf b = BUF_INIT(1 << 20);

	bench_init(&t);
	span good = sign(&t, t.rsa, "rsa", (struct dkim_sign_options){ 0 });
	for (int i = 0; i < 20; i++)
		buf_put_str(&b,
			    "DKIM-Signature: v=1; a=rsa-sha256; d=alpha.test; s=none; h=from;\r\n"
			    " bh=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=; b=AAAA\r\n");
	buf_put_span(&b, good);
	struct dkim_verdict v = verify(&t, buf_span(&b), 1000);
	assert_int_equal(v.result, TRUST_PERMERROR);
	assert_int_equal(v.n, DKIM_SIGNATURES_MAX);
	assert_int_equal(v.found, 21);
	assert_int_equal(trust_answers_count(t.w.answers), 1);
	buf_done(&b);
	bench_done(&t);
}

/* The key of a short modulus is refused before it is used. */
static void test_limits(void **state)
{
	struct sign_key *k = NULL;

	assert_int_equal(sign_key_new_rsa(512, &k), ERR_INVAL);
	assert_int_equal(sign_key_new_rsa(8192, &k), ERR_INVAL);
	assert_int_equal(sign_key_from_pem(SPAN("-----BEGIN PRIVATE KEY-----\n"), &k), ERR_SYNTAX);
	assert_null(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_expiry),
		cmocka_unit_test(test_keys),	   cmocka_unit_test(test_fields),
		cmocka_unit_test(test_many),	   cmocka_unit_test(test_limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
