#include "trust/spf.h"
#include "trust/spf_parse.h"
#include "zone.h"

static const char zone[] =
	"a.test. A 192.0.2.1\na.test. AAAA 2001:db8::1\n"
	"mx.test. MX 10 a.test.\n"
	"pass.test. TXT \"v=spf1 a:a.test -all\"\n"
	"mxed.test. TXT \"v=spf1 mx:mx.test -all\"\n"
	"cidr.test. TXT \"v=spf1 a:a.test/24//32 -all\"\n"
	"ip.test. TXT \"v=spf1 ip4:192.0.2.0/25 ip6:2001:db8::/32 ~all\"\n"
	"inc.test. TXT \"v=spf1 include:pass.test ?all\"\n"
	"noinc.test. TXT \"v=spf1 include:none.test -all\"\n"
	"redir.test. TXT \"v=spf1 redirect=pass.test\"\n"
	"deep.test. TXT \"v=spf1 include:inc.test mx:mx.test -all\"\n"
	"ptr.test. TXT \"v=spf1 ptr:a.test -all\"\n"
	"1.2.0.192.in-addr.arpa. PTR a.test.\n"
	"exp.test. TXT \"v=spf1 -all exp=why.test\"\n"
	"why.test. TXT \"%{i} may not send for %{d} %{s} %{c} %{r} %{t}\"\n"
	"badexp.test. TXT \"v=spf1 -all exp=bell.test\"\nbell.test. TXT \"a\\007b\"\n"
	"longexp.test. TXT \"v=spf1 -all exp=long.test\"\n"
	"long.test. TXT \"%{s}%{s}%{s}%{s}%{s}%{s}%{s}%{s}%{s}%{s}%{s}%{s}%{s}%{s}%{s}%{s}\"\n"
	"two.test. TXT \"v=spf1 -all\"\ntwo.test. TXT \"v=spf1 +all\"\n"
	"slow.test. TXT \"v=spf1 a:down.test -all\"\n; TIMEOUT down.test\n"
	"loop.test. TXT \"v=spf1 include:loop.test -all\"\n"
	"voids.test. TXT \"v=spf1 a:v1.test a:v2.test a:v3.test ?all\"\n"
	"atlimit.test. TXT \"v=spf1 a:v1.test a:v2.test ?all\"\n"
	"macro.test. TXT \"v=spf1 exists:%{l1r-}.%{ir}.%{v}.%{d2}.x.test -all\"\n"
	"user.1.2.0.192.in-addr.macro.test.x.test. A 127.0.0.2\n";

/* The same verdict at once and in rounds. */
static struct spf_verdict check(const char *ip, const char *from, const char *helo)
{
	static struct world w;
	struct spf_input in = { .helo = span_str(helo), .from = span_str(from), .now = 1700000000 };
	struct spf_verdict once, rounds;

	if (w.zone)
		world_done(&w);
	world_init(&w, zone);
	assert_int_equal(sock_parse_ip(span_str(ip), 0, &in.ip), 0);
	assert_int_equal(spf_check(&in, trust_zone_lookup(w.zone), &w.mem, &once), 0);
	while (spf_check(&in, trust_answers_lookup(w.answers), &w.mem, &rounds) == ERR_AGAIN)
		world_round(&w);
	assert_int_equal(once.result, rounds.result);
	assert_string_equal(once.reason, rounds.reason);
	assert_int_equal(once.terms, rounds.terms);
	assert_true(span_eq(once.explanation, rounds.explanation));
	return once;
}

static void expect(const char *domain, const char *ip, enum trust_result r)
{
	char from[128];

	snprintf(from, sizeof(from), "user@%s", domain);
	struct spf_verdict v = check(ip, from, "helo.test");
	if (v.result != r)
		fail_msg("%s for %s: %s (%s), not %s", domain, ip, trust_result_text(v.result),
			 v.reason, trust_result_text(r));
}

static void test_mechanisms(void **state)
{
	expect("pass.test", "192.0.2.1", TRUST_PASS);
	expect("pass.test", "2001:db8::1", TRUST_PASS);
	expect("pass.test", "192.0.2.2", TRUST_FAIL);
	expect("mxed.test", "192.0.2.1", TRUST_PASS);
	expect("cidr.test", "192.0.2.200", TRUST_PASS);
	expect("cidr.test", "2001:db8:ffff::", TRUST_PASS);
	expect("cidr.test", "192.0.3.1", TRUST_FAIL);
	expect("ip.test", "192.0.2.127", TRUST_PASS);
	expect("ip.test", "192.0.2.128", TRUST_SOFTFAIL);
	expect("ip.test", "2001:db8:1::", TRUST_PASS);
	expect("inc.test", "192.0.2.1", TRUST_PASS);
	expect("inc.test", "192.0.2.9", TRUST_NEUTRAL);
	expect("redir.test", "192.0.2.1", TRUST_PASS);
	expect("redir.test", "192.0.2.9", TRUST_FAIL);
	expect("ptr.test", "192.0.2.1", TRUST_PASS);
	expect("macro.test", "192.0.2.1", TRUST_PASS);
	expect("macro.test", "192.0.2.2", TRUST_FAIL);
}

static void test_errors(void **state)
{
	expect("none.test", "192.0.2.1", TRUST_NONE);
	expect("two.test", "192.0.2.1", TRUST_PERMERROR);
	expect("slow.test", "192.0.2.1", TRUST_TEMPERROR);
	expect("noinc.test", "192.0.2.1", TRUST_PERMERROR);
	expect("loop.test", "192.0.2.1", TRUST_PERMERROR);
	expect("voids.test", "192.0.2.1", TRUST_PERMERROR);
	expect("atlimit.test", "192.0.2.1", TRUST_NEUTRAL);
	expect("single", "192.0.2.1", TRUST_NONE);
	expect("a..test", "192.0.2.1", TRUST_NONE);
	assert_int_equal(check("192.0.2.1", "u@loop.test", "x").terms, SPF_TERMS_MAX + 1);
}

static void test_identities(void **state)
{
	struct spf_verdict v = check("192.0.2.1", "", "pass.test");

	assert_int_equal(v.result, TRUST_PASS);
	assert_span(v.sender, "postmaster@pass.test");
	assert_int_equal(check("192.0.2.1", "", "[192.0.2.1]").result, TRUST_NONE);
	assert_span(check("192.0.2.1", "@pass.test", "x.test").sender, "postmaster@pass.test");
}

static void test_explanations(void **state)
{
	assert_span(check("192.0.2.9", "me@exp.test", "h.test").explanation,
		    "192.0.2.9 may not send for exp.test me@exp.test 192.0.2.9 unknown 1700000000");
	assert_int_equal(check("192.0.2.9", "me@badexp.test", "h.test").explanation.n, 0);
	assert_int_equal(check("192.0.2.9", "a-local-part-of-some-length@longexp.test", "h.test")
				 .explanation.n,
			 0);
}

static void test_grammar(void **state)
{
	static const char *const bad[] = {
		"v=spf1 a:",
		"v=spf1 a:x",
		"v=spf1 a:x.1",
		"v=spf1 a:x.-a",
		"v=spf1 a/33",
		"v=spf1 a//129",
		"v=spf1 a/08",
		"v=spf1 all:x",
		"v=spf1 all/8",
		"v=spf1 include",
		"v=spf1 exists",
		"v=spf1 ip4",
		"v=spf1 ip4:1.2.3",
		"v=spf1 ip4:1.2.3.4/",
		"v=spf1 ip6:::g",
		"v=spf1 ptr/8",
		"v=spf1 a:%{z}.a.test",
		"v=spf1 a:%{d0}.a.test",
		"v=spf1 a:%{d",
		"v=spf1 a:%x.test",
		"v=spf1 a:%{c}.a.test",
		"v=spf1 redirect=",
		"v=spf1 exp=a.test exp=a.test",
		"v=spf1 +-all",
		"v=spf1 x",
		"v=spf1 x=%",
		"v=spf1 \tall",
		"v=spf1 a:}.}",
	};
	static const char *const good[] = {
		"v=spf1",
		"v=spf1  ",
		"v=spf1 a mx ptr",
		"v=spf1 a:%{d}",
		"v=spf1 a:x.test./0//0",
		"v=spf1 x=",
		"v=spf1 x=%%%_%-%{s}",
		"v=spf1 ~INCLUDE:%{LR-.+}.a.test",
		"v=spf1 a:a/b.test/8",
		"v=spf1 a:1.a-1",
		"v=spf1 ip6:::1/0",
		"v=spf1 a:%{d99999999999999999999}",
	};
	struct spf_record r;
	struct arena mem;
	span at;

	arena_init(&mem);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (spf_parse(span_str(bad[i]), &mem, &r, &at) == 0)
			fail_msg("%s", bad[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		if (spf_parse(span_str(good[i]), &mem, &r, &at) < 0)
			fail_msg("%s: at %.*s", good[i], SPAN_FMT(at));
	}
	assert_false(spf_is_record(SPAN("v=spf10 all")));
	assert_true(spf_is_record(SPAN("V=SPF1")));
	arena_done(&mem);
}

static void test_macros(void **state)
{
	/* The examples of RFC 7208 7.4 name what each transformer does; here with other names. */
	const struct spf_macros m = { .sender = SPAN("jo-an@mail.x.test"),
				      .local = SPAN("jo-an"),
				      .sender_domain = SPAN("mail.x.test"),
				      .domain = SPAN("mail.x.test"),
				      .ip = SPAN("192.0.2.3"),
				      .in_addr = SPAN("in-addr") };
	static const char *const cases[][2] = {
		{ "%{d}", "mail.x.test" },  { "%{d2}", "x.test" },
		{ "%{d9}", "mail.x.test" }, { "%{dr}", "test.x.mail" },
		{ "%{d2r}", "x.mail" },	    { "%{l-}", "jo.an" },
		{ "%{lr-}", "an.jo" },	    { "%{l1r-}", "jo" },
		{ "%{ir}", "3.2.0.192" },   { "%{S}", "jo-an%40mail.x.test" },
		{ "%%%_%-", "% %20" },	    { "x%{v}y", "xin-addry" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct buf b = BUF_INIT(256);
		assert_int_equal(spf_macros_expand(span_str(cases[i][0]), &m, &b), 0);
		assert_span(buf_span(&b), cases[i][1]);
		buf_done(&b);
	}
	struct buf small = BUF_INIT(8);
	assert_int_equal(spf_macros_expand(SPAN("%{d}"), &m, &small), ERR_TOOBIG);
	buf_done(&small);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mechanisms), cmocka_unit_test(test_errors),
		cmocka_unit_test(test_identities), cmocka_unit_test(test_explanations),
		cmocka_unit_test(test_grammar),	   cmocka_unit_test(test_macros),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
