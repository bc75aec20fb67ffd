#include "zone.h"

static const struct dns_answer *ask(struct world *w, const char *name, enum dns_type type)
{
	return trust_ask(trust_zone_lookup(w->zone), &w->mem, span_str(name), type);
}

static void test_master_file(void **state)
{
	struct world w;

	world_init(&w, "$ORIGIN example.test.\n"
		       "$TTL 300\n"
		       "@ IN TXT \"v=spf1 \" \"-all\" ; a comment\n"
		       "  300 IN MX 10 mx\n"
		       "mx A 192.0.2.1\n"
		       "   AAAA 2001:db8::1\n"
		       "long TXT ( \"a;b\"\n   \"c\\\"d\\065\" )\n"
		       "www CNAME mx\n"
		       "old SPF \"v=spf1 +all\"\n"
		       "odd SOA whatever it holds 1 2 3\n"
		       "1.2.0.192.in-addr.arpa. PTR mx\n");
	const struct dns_answer *a = ask(&w, "EXAMPLE.test.", DNS_TXT);
	assert_int_equal(a->status, DNS_OK);
	assert_span(a->records[0].text, "v=spf1 -all");
	a = ask(&w, "example.test", DNS_MX);
	assert_int_equal(a->records[0].preference, 10);
	assert_span(a->records[0].name, "mx.example.test");
	assert_span(ask(&w, "long.example.test", DNS_TXT)->records[0].text, "a;bc\"dA");
	a = ask(&w, "www.example.test", DNS_AAAA);
	assert_int_equal(a->n, 1);
	assert_int_equal(a->records[0].addr.sa.sa_family, AF_INET6);
	assert_span(ask(&w, "1.2.0.192.in-addr.arpa", DNS_PTR)->records[0].name, "mx.example.test");
	assert_int_equal(ask(&w, "old.example.test", DNS_TXT)->status, DNS_NODATA);
	assert_int_equal(ask(&w, "odd.example.test", DNS_A)->status, DNS_NODATA);
	assert_int_equal(ask(&w, "in-addr.arpa", DNS_A)->status, DNS_NODATA);
	assert_int_equal(ask(&w, "nothing.test", DNS_A)->status, DNS_NXDOMAIN);
	world_done(&w);
}

static void test_failing_names(void **state)
{
	struct world w;

	world_init(&w, "; TIMEOUT slow.test\n"
		       "; SERVFAIL part.test MX\n"
		       "; TIMEOUT is also a word of prose, which means nothing\n"
		       "slow.test. A 192.0.2.1\n"
		       "part.test. TXT x\n");
	assert_int_equal(ask(&w, "slow.test", DNS_TXT)->status, DNS_TIMEOUT);
	assert_int_equal(ask(&w, "slow.test", DNS_A)->status, DNS_OK);
	assert_int_equal(ask(&w, "part.test", DNS_MX)->status, DNS_SERVFAIL);
	assert_int_equal(ask(&w, "part.test", DNS_TXT)->status, DNS_OK);
	assert_int_equal(ask(&w, "part.test", DNS_A)->status, DNS_NODATA);
	world_done(&w);
}

static void test_bad_files(void **state)
{
	static const char *const bad[] = {
		"a.test. A",	       "a.test. A 192.0.2.999", "a.test. AAAA 192.0.2.1",
		"a.test. MX mx.test.", "a.test. TXT \"open",	"a.test. TXT ( x",
		"a.test. TXT x )",     "$INCLUDE file",		"a.test. TXT \"\\999\"",
		"a.test. 300 IN"
	};
	struct trust_zone *z = NULL;
	struct err_info info;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(trust_zone_parse(span_str(bad[i]), &z, &info), ERR_SYNTAX);
		assert_null(z);
		assert_non_null(strstr(info.text, "line 1"));
	}
}

static void test_alias_loop(void **state)
{
	struct world w;

	world_init(&w, "a.test. CNAME b.test.\nb.test. CNAME a.test.\n");
	assert_int_equal(ask(&w, "a.test", DNS_A)->status, DNS_NODATA);
	world_done(&w);
}

static void test_names(void **state)
{
	char label[80], name[300];

	assert_true(trust_name_valid(SPAN("a.b")));
	assert_false(trust_name_valid(SPAN("")));
	assert_false(trust_name_valid(SPAN("a..b")));
	assert_false(trust_name_valid(SPAN(".a")));
	memset(label, 'x', sizeof(label));
	assert_true(trust_name_valid(span_of(label, 63)));
	assert_false(trust_name_valid(span_of(label, 64)));
	for (size_t i = 0; i < sizeof(name); i++)
		name[i] = i % 2 ? '.' : 'x';
	assert_true(trust_name_valid(span_of(name, 253)));
	assert_false(trust_name_valid(span_of(name, 255)));
}

static void test_answers(void **state)
{
	struct world w;
	size_t n;

	world_init(&w, "a.test. A 192.0.2.1\n");
	const struct trust_lookup *l = trust_answers_lookup(w.answers);
	assert_null(trust_ask(l, &w.mem, SPAN("A.test."), DNS_A));
	assert_null(trust_ask(l, &w.mem, SPAN("a.test"), DNS_A));
	assert_null(trust_ask(l, &w.mem, SPAN("a.test"), DNS_MX));
	trust_answers_missing(w.answers, &n);
	assert_int_equal(n, 2);
	trust_answers_missing(w.answers, &n);
	assert_int_equal(n, 0);
	trust_answers_add(w.answers, ask(&w, "a.test", DNS_A));
	trust_answers_add(w.answers, ask(&w, "never.test", DNS_A));
	assert_int_equal(trust_ask(l, &w.mem, SPAN("a.TEST"), DNS_A)->n, 1);
	assert_null(trust_ask(l, &w.mem, SPAN("never.test"), DNS_A));
	/* The limit answers instead of asking. */
	for (int i = 0; i < TRUST_QUESTIONS_MAX; i++)
		trust_ask(l, &w.mem, span_str(arena_printf(&w.mem, "n%d.test", i)), DNS_A);
	assert_int_equal(trust_answers_count(w.answers), TRUST_QUESTIONS_MAX);
	assert_true(trust_answer_failed(trust_ask(l, &w.mem, SPAN("last.test"), DNS_A)));
	world_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_master_file), cmocka_unit_test(test_failing_names),
		cmocka_unit_test(test_bad_files),   cmocka_unit_test(test_alias_loop),
		cmocka_unit_test(test_names),	    cmocka_unit_test(test_answers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
