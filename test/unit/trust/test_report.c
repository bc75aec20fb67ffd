#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trust/report.h"

static struct arena mem;
static struct err_info info;

static int begin(void **state)
{
	arena_init(&mem);
	return 0;
}

static int end(void **state)
{
	arena_done(&mem);
	return 0;
}

#define META                                                                            \
	"<report_metadata><org_name> Org &amp; Co </org_name><report_id>r1</report_id>" \
	"<date_range><begin>100</begin><end>200.5</end></date_range></report_metadata>" \
	"<policy_published><domain>A.test</domain><p>Reject</p></policy_published>"
#define ROW(n, dkim, spf)                                                                         \
	"<record><row><source_ip>192.0.2.1</source_ip><count>" n                                  \
	"</count><policy_evaluated><disposition>none</disposition><dkim>" dkim "</dkim><spf>" spf \
	"</spf></policy_evaluated></row><auth_results><dkim><domain>one.test</domain></dkim>"     \
	"<dkim><domain>two.test</domain></dkim></auth_results></record>"

static void test_dmarc(void **state)
{
	struct dmarc_report r;

	assert_int_equal(dmarc_report_parse(SPAN("<feedback>" META ROW("3", "Pass", "fail") ROW(
						    "4", "fail", "fail")
							 ROW("5", "fail", "pass") "</feedback>"),
					    &mem, &r, &info),
			 0);
	assert_true(span_eq_str(r.org_name, "Org & Co") && span_eq_str(r.domain, "a.test"));
	assert_true(span_eq_str(r.p, "reject"));
	assert_int_equal(r.begin, 100);
	assert_int_equal(r.end, 200);
	assert_int_equal(r.n_rows, 3);
	assert_int_equal(r.messages, 12);
	assert_int_equal(r.passed, 8);
	assert_true(span_eq_str(r.rows->dkim_domain, "one.test")); /* the first counts */
	assert_false(r.mended);
}

static void test_dmarc_broken(void **state)
{
	struct dmarc_report r;
	struct buf b = BUF_INIT(1 << 20);

	assert_int_equal(
		dmarc_report_parse(SPAN("<xs:schema>\n<feedback>" META
					"<record><row><count>2</count></row><identifiers>"
					"<header_from>a<b\xff&c</header_from></identifiers>"
					"</record></feedback>"),
				   &mem, &r, &info),
		0);
	assert_true(r.mended && r.messages == 2);
	assert_true(span_eq_str(r.rows->header_from, "a<b?&c"));
	assert_int_equal(dmarc_report_parse(SPAN("<!DOCTYPE f [<!ENTITY a \"aaaa\">]>"
						 "<feedback>&a;</feedback>"),
					    &mem, &r, &info),
			 ERR_SYNTAX);
	assert_int_equal(dmarc_report_parse(SPAN("<html></html>"), &mem, &r, &info), ERR_SYNTAX);
	assert_int_equal(dmarc_report_parse(SPAN("<feedback>" META), &mem, &r, &info), ERR_SYNTAX);
	for (int i = 0; i < 40; i++)
		buf_put_str(&b, "<feedback>");
	assert_int_equal(dmarc_report_parse(buf_span(&b), &mem, &r, &info), ERR_TOOBIG);
	buf_done(&b);
}

static void test_tls(void **state)
{
	struct tls_report r;

	assert_int_equal(
		tls_report_parse(
			SPAN("{\"organization-name\":\"o\",\"policies\":[{\"policy\":{"
			     "\"policy-type\":\"sts\",\"policy-domain\":\"a.test\"},\"summary\":{"
			     "\"total-successful-session-count\":3,"
			     "\"total-failure-session-count\":2},\"failure-details\":[{"
			     "\"result-type\":\"starttls-not-supported\","
			     "\"failed-session-count\":2}]},{\"policy\":7}]}"),
			&mem, &r, &info),
		0);
	assert_int_equal(r.n_policies, 2);
	assert_int_equal(r.succeeded, 3);
	assert_int_equal(r.failed, 2);
	assert_true(span_eq_str(r.policies->failures->result_type, "starttls-not-supported"));
	assert_int_equal(tls_report_parse(SPAN("{}"), &mem, &r, &info), ERR_SYNTAX);
	assert_int_equal(tls_report_parse(SPAN("[1"), &mem, &r, &info), ERR_SYNTAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_dmarc, begin, end),
		cmocka_unit_test_setup_teardown(test_dmarc_broken, begin, end),
		cmocka_unit_test_setup_teardown(test_tls, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
