#include "trust/dmarc.h"
#include "zone.h"

static void test_records(void **state)
{
	struct dmarc_record r;

	assert_int_equal(dmarc_parse(SPAN("v=DMARC1; p=reject; sp=none; np=quarantine; psd=n; t=y;"
					  " adkim=s; aspf=s; rua=mailto:a@b.test; new=1"),
				     &r),
			 0);
	assert_true(r.p == DMARC_REJECT && r.sp == DMARC_NONE && r.np == DMARC_QUARANTINE);
	assert_true(r.psd == 'n' && r.testing && r.strict_dkim && r.strict_spf);
	assert_span(r.rua, "mailto:a@b.test");

	assert_int_equal(dmarc_parse(SPAN("v=DMARC1;p=quarantine"), &r), 0);
	assert_true(r.sp == DMARC_QUARANTINE && r.np == DMARC_QUARANTINE && r.psd == 'u');
	assert_int_equal(dmarc_parse(SPAN("v=DMARC1; p=reject; sp=none"), &r), 0);
	assert_true(r.np == DMARC_NONE);

	/* No valid policy: a watcher if there is an address, else nothing. */
	assert_int_equal(dmarc_parse(SPAN("v=DMARC1; rua=mailto:a@b.test"), &r), 0);
	assert_true(r.p == DMARC_NONE && !r.void_policy);
	assert_int_equal(dmarc_parse(SPAN("v=DMARC1; p=reject; sp=what"), &r), 0);
	assert_true(r.p == DMARC_NONE && r.void_policy);
	assert_int_equal(
		dmarc_parse(SPAN("v=DMARC1; p=reject; psd=maybe; t=; adkim=x; garbage"), &r), 0);
	assert_true(r.p == DMARC_REJECT && r.psd == 'u' && !r.testing && !r.strict_dkim);

	assert_int_equal(dmarc_parse(SPAN("v=dmarc1; p=none"), &r), ERR_SYNTAX);
	assert_int_equal(dmarc_parse(SPAN("p=none; v=DMARC1"), &r), ERR_SYNTAX);
	assert_int_equal(dmarc_parse(SPAN("v=DMARC10; p=none"), &r), ERR_SYNTAX);
	assert_int_equal(dmarc_parse(SPAN(""), &r), ERR_SYNTAX);
}

static void test_author(void **state)
{
	static const char *const bad[] = {
		"From: a@x.test, b@x.test\r\n\r\n",
		"From: a@x.test\r\nFrom: a@x.test\r\n\r\n",
		"From: group: a@x.test;\r\n\r\n",
		"From: a@x.test <b@y.test> trailing@z.test\r\n\r\n",
		"From: undisclosed\r\n\r\n",
		"From:\r\n\r\n",
		"Subject: x\r\n\r\n",
		"From: a@[192.0.2.1]\r\n\r\n",
		"From: a@x.test b@y.test\r\n\r\n",
		"From: <a@x.test\r\n\r\n",
		"From: a@x@y.test\r\n\r\n",
		"From: a@x..test\r\n\r\n",
		"From: a@x.test <b@y.test>\r\n\r\n",
		"From: a@x.test\r\nno field\r\nFrom: b@y.test\r\n\r\n",
	};
	struct arena mem;
	struct message m;
	const char *why;
	span domain;

	arena_init(&mem);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(message_parse(span_str(bad[i]), &mem, &m), 0);
		if (dmarc_author(&m, &mem, &domain, &why) == 0)
			fail_msg("%s gave %.*s", bad[i], SPAN_FMT(domain));
	}
	message_parse(SPAN("From: \"a@evil.test\" (b@evil.test)\r\n <user@X.Test>\r\n\r\n"), &mem,
		      &m);
	assert_int_equal(dmarc_author(&m, &mem, &domain, &why), 0);
	assert_span(domain, "x.test");
	message_parse(SPAN("no field\r\nFrom: user@y.test\r\n\r\n"), &mem, &m);
	assert_int_equal(dmarc_author(&m, &mem, &domain, &why), 0);
	assert_span(domain, "y.test"); /* whom programs show */
	message_parse(SPAN("From: user@x.test <user@x.test>\r\n\r\n"), &mem, &m);
	assert_int_equal(dmarc_author(&m, &mem, &domain, &why), 0);
	message_parse(SPAN("From: u@b\xc3\xbc"
			   "cher.test\r\n\r\n"),
		      &mem, &m);
	assert_int_equal(dmarc_author(&m, &mem, &domain, &why), 0);
	assert_span(domain, "xn--bcher-kva.test");
	arena_done(&mem);
}

static const char zone[] =
	"_dmarc.org.test. TXT \"v=DMARC1; p=reject; sp=quarantine; np=reject\"\n"
	"sub.org.test. A 192.0.2.1\n"
	"_dmarc.own.org.test. TXT \"v=DMARC1; p=none\"\n"
	"_dmarc.dept.org.test. TXT \"v=DMARC1; p=quarantine; psd=n\"\n"
	"_dmarc.suffix. TXT \"v=DMARC1; p=reject; psd=y\"\n"
	"sub.firm.suffix. A 192.0.2.1\n"
	"_dmarc.strict.test. TXT \"v=DMARC1; p=reject; adkim=s; aspf=s\"\n"
	"_dmarc.trial.test. TXT \"v=DMARC1; p=reject; t=y\"\n"
	"_dmarc.two.test. TXT \"v=DMARC1; p=reject\"\n_dmarc.two.test. TXT \"v=DMARC1; p=none\"\n"
	"; TIMEOUT _dmarc.slow.test\n"
	"_dmarc.a.b.c.d.e.f.g.deep.test. TXT \"v=DMARC1; p=reject\"\n";

/* FROM's domain with SPF passing for SPF and DKIM for DKIM (NULL: not); once and in rounds. */
static struct dmarc_verdict check(const char *from, const char *spf, const char *dkim)
{
	static struct world w;
	struct spf_verdict s = { .result = spf ? TRUST_PASS : TRUST_FAIL, .domain = span_str(spf) };
	struct dkim_verdict d = { .n = dkim != NULL };
	struct dmarc_verdict once, rounds;
	struct message m;

	if (w.zone)
		world_done(&w);
	world_init(&w, zone);
	d.signature[0] = (struct dkim_signature){ .result = TRUST_PASS, .domain = span_str(dkim) };
	message_parse(span_str(arena_printf(&w.mem, "From: u@%s\r\n\r\n", from)), &w.mem, &m);
	assert_int_equal(dmarc_check(&m, &s, &d, trust_zone_lookup(w.zone), &w.mem, &once), 0);
	while (dmarc_check(&m, &s, &d, trust_answers_lookup(w.answers), &w.mem, &rounds) ==
	       ERR_AGAIN)
		world_round(&w);
	assert_true(w.rounds <= 2);
	assert_int_equal(once.result, rounds.result);
	assert_int_equal(once.policy, rounds.policy);
	return once;
}

static void test_alignment(void **state)
{
	assert_int_equal(check("org.test", "org.test", NULL).result, TRUST_PASS);
	assert_int_equal(check("org.test", "bounce.org.test", NULL).result, TRUST_PASS);
	assert_int_equal(check("org.test", NULL, "Mail.ORG.test").result, TRUST_PASS);
	assert_int_equal(check("sub.org.test", NULL, "other.org.test").result, TRUST_PASS);
	assert_int_equal(check("org.test", "evil.test", "evil.test").result, TRUST_FAIL);
	assert_int_equal(check("org.test", NULL, NULL).result, TRUST_FAIL);
	/* psd=n makes a department its own organisation. */
	assert_int_equal(check("dept.org.test", "org.test", NULL).result, TRUST_FAIL);
	assert_int_equal(check("x.dept.org.test", "y.dept.org.test", NULL).result, TRUST_PASS);
	/* psd=y: the organisation is the name below. */
	assert_int_equal(check("a.firm.suffix", "b.firm.suffix", NULL).result, TRUST_PASS);
	assert_int_equal(check("firm.suffix", "other.suffix", NULL).result, TRUST_FAIL);
	assert_span(check("a.firm.suffix", NULL, NULL).organizational, "firm.suffix");
	/* strict */
	assert_int_equal(check("strict.test", "a.strict.test", "b.strict.test").result, TRUST_FAIL);
	assert_int_equal(check("strict.test", "strict.test", NULL).result, TRUST_PASS);
}

static void test_policy(void **state)
{
	struct dmarc_verdict v = check("org.test", NULL, NULL);

	assert_int_equal(v.policy, DMARC_REJECT);
	assert_int_equal(check("sub.org.test", NULL, NULL).policy, DMARC_QUARANTINE);
	assert_int_equal(check("nowhere.org.test", NULL, NULL).policy, DMARC_REJECT);
	assert_int_equal(check("own.org.test", NULL, NULL).policy, DMARC_NONE);
	assert_span(check("own.org.test", NULL, NULL).organizational, "org.test");
	assert_int_equal(check("trial.test", NULL, NULL).policy, DMARC_QUARANTINE);
	assert_int_equal(check("sub.firm.suffix", NULL, NULL).policy, DMARC_REJECT);
	assert_int_equal(check("none.example", "none.example", NULL).result, TRUST_NONE);
	assert_int_equal(check("two.test", "two.test", NULL).result, TRUST_NONE);
	assert_int_equal(check("slow.test", "slow.test", NULL).result, TRUST_TEMPERROR);
	assert_int_equal(check("a@b, c.test", NULL, NULL).result, TRUST_PERMERROR);
}

/* At most eight questions a walk: the name itself and its last seven labels (RFC 9989 4.10). */
static void test_long_names(void **state)
{
	static struct world w;
	struct dmarc_verdict v = check("x.y.a.b.c.d.e.f.g.deep.test", NULL, NULL);
	struct message m;

	assert_int_equal(v.result, TRUST_NONE);
	world_init(&w, zone);
	message_parse(SPAN("From: u@1.2.3.4.5.6.7.8.9.10.deep.test\r\n\r\n"), &w.mem, &m);
	assert_int_equal(dmarc_check(&m, NULL, NULL, trust_answers_lookup(w.answers), &w.mem, &v),
			 ERR_AGAIN);
	assert_int_equal(trust_answers_count(w.answers), 8);
	world_done(&w);
}

/* A signature over a part of the body, or an open look-up, must not decide. */
static void test_weak_identifiers(void **state)
{
	struct dkim_verdict d = { .n = 1 };
	struct dmarc_verdict v;
	struct message m;
	struct world w;

	world_init(&w, zone);
	message_parse(SPAN("From: u@org.test\r\n\r\n"), &w.mem, &m);
	d.signature[0] = (struct dkim_signature){ .result = TRUST_PASS,
						  .domain = SPAN("org.test"),
						  .partial = true };
	dmarc_check(&m, NULL, &d, trust_zone_lookup(w.zone), &w.mem, &v);
	assert_int_equal(v.result, TRUST_FAIL);
	d.signature[0].result = TRUST_TEMPERROR;
	dmarc_check(&m, NULL, &d, trust_zone_lookup(w.zone), &w.mem, &v);
	assert_int_equal(v.result, TRUST_TEMPERROR);
	world_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_records),	   cmocka_unit_test(test_author),
		cmocka_unit_test(test_alignment),  cmocka_unit_test(test_policy),
		cmocka_unit_test(test_long_names), cmocka_unit_test(test_weak_identifiers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
