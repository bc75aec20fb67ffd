#include "support.h"

#include "format/check.h"

static void test_facts(void **state)
{
	span m = SPAN("Received: by x\r\nreceived: by y\r\nFrom: Ann <ann@example.org>\r\nTo: "
		      "b@example.net\r\n"
		      "CC: c@example.net\r\nSubject: hello\r\n there\r\nDate: "
		      "today\r\nMessage-ID:\r\n <1@example.org>\r\n"
		      "Auto-Submitted: auto-generated\r\nPrecedence: Bulk\r\nDelivered-To: "
		      "d@example.net\r\n\r\nText\r\n");
	struct message_facts f;
	message_check(m, &f);
	assert_int_equal(f.defects, 0);
	assert_span(span_from(m, f.header_size), "Text\r\n");
	assert_int_equal(f.received, 2);
	assert_int_equal(f.from, 1);
	assert_int_equal(f.sender, 0);
	assert_int_equal(f.date, 1);
	assert_int_equal(f.message_id, 1);
	assert_int_equal(f.to_cc_bcc, 2);
	assert_int_equal(f.delivered_to, 1);
	assert_span(f.from_value, " Ann <ann@example.org>");
	assert_span(f.message_id_value, "<1@example.org>");
	assert_span(f.subject_value, "hello\r\n there");
	assert_span(f.auto_submitted, "auto-generated");
	assert_true(f.precedence_bulk);
	message_check(SPAN("From: a\r\nfrom: b\r\nDate: c\r\n\r\n"), &f);
	assert_int_equal(f.from, 2);
	assert_int_equal(f.date, 1);
	assert_span(f.from_value, " a");
}

static const struct {
	const char *text;
	size_t n;
	unsigned want;
} defects[] = {
#define CASE(lit, d)                         \
	{                                    \
		"" lit, sizeof(lit) - 1, (d) \
	}
	CASE("", 0),
	CASE("A: b\r\n\r\nx\r\n", 0),
	CASE("A: b\r\n\r\nx", MESSAGE_NO_FINAL_CRLF),
	CASE("A: b\r\n\r\nx\n", MESSAGE_NO_FINAL_CRLF | MESSAGE_BARE_LF),
	CASE("A: b\r\n\r\nx\r", MESSAGE_NO_FINAL_CRLF | MESSAGE_BARE_CR),
	CASE("A: b\r\n\r\nx\ry\r\n", MESSAGE_BARE_CR),
	CASE("A: b\r\n\r\n\r\r\n", MESSAGE_BARE_CR),
	CASE("\nA", MESSAGE_NO_FINAL_CRLF | MESSAGE_BARE_LF),
	CASE("A: b\r\n\r\nx\0y\r\n", MESSAGE_NUL),
	CASE("A: \xc3\xa4\r\n\r\nx\r\n", MESSAGE_8BIT_HEADER),
	CASE("A: b\r\n\r\n\xc3\xa4\r\n", MESSAGE_8BIT_BODY),
	CASE("A: b\n\n\xc3\xa4\r\n", MESSAGE_8BIT_BODY | MESSAGE_BARE_LF),
	CASE("\r\n\xc3\xa4\r\n", MESSAGE_8BIT_BODY),
	CASE("no field\r\nA: b\r\n\r\n", MESSAGE_BAD_HEADER),
	CASE(" first\r\n\r\n", MESSAGE_BAD_HEADER),
#undef CASE
};

static unsigned scan(span m, size_t step)
{
	struct message_scan s;
	message_scan_init(&s);
	for (size_t i = 0; i < m.n; i += step)
		message_scan_feed(&s, span_sub(m, i, step));
	message_scan_end(&s);
	return s.defects;
}

static void check_all_ways(span m, unsigned want)
{
	struct message_facts f;
	message_check(m, &f);
	assert_int_equal(f.defects, want);
	for (size_t step = 1; step < 140; step++)
		assert_int_equal(scan(m, step), want & ~(unsigned)MESSAGE_BAD_HEADER);
}

/* Each defect at each place within the blocks that are looked at together, fed in pieces of each
 * size. */
static void test_defects(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(defects); i++)
		check_all_ways(span_of(defects[i].text, defects[i].n), defects[i].want);
	for (int shift = 0; shift < 70; shift++) {
		_cleanup_(buf_donep) struct buf b = BUF_INIT(10000);
		buf_printf(&b, "A: %0*d\r\n\r\nx\ry\r\n", shift + 1, 0);
		check_all_ways(buf_span(&b), MESSAGE_BARE_CR);
		buf_reset(&b);
		buf_printf(&b, "A: %0*d\r\n\r\n\x80\r\n", shift + 1, 0);
		check_all_ways(buf_span(&b), MESSAGE_8BIT_BODY);
	}
}

static void test_long_lines(void **state)
{
	for (int shift = 0; shift < 70; shift++) {
		_cleanup_(buf_donep) struct buf b = BUF_INIT(10000);
		buf_printf(&b, "A: %0*d\r\n\r\n%0998d\r\n", shift + 1, 0, 0);
		check_all_ways(buf_span(&b), 0);
		buf_reset(&b);
		buf_printf(&b, "A: %0*d\r\n\r\n%0999d\r\n", shift + 1, 0, 0);
		check_all_ways(buf_span(&b), MESSAGE_LONG_LINE);
	}
}

static void test_bulk(void **state)
{
	struct message_facts f;
	message_check(SPAN("Precedence: first-class\r\n\r\n"), &f);
	assert_false(f.precedence_bulk);
	message_check(SPAN("List-ID: <a.example.org>\r\n\r\n"), &f);
	assert_true(f.precedence_bulk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_facts),
		cmocka_unit_test(test_defects),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_bulk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
