/* Parts that become text, and what stays as it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "transcode_check.h"

/* Converts IN, in pieces of every size up to 20 and whole; the result must not depend on it. */
static enum transcode_verdict convert(span in, enum transcode_goal goal, struct buf *out)
{
	enum transcode_verdict v;

	buf_init(out, 1u << 22);
	v = transcode_all(in, goal, SIZE_MAX, out);
	for (size_t step = 1; step <= 20; step++) {
		_cleanup_(buf_donep) struct buf b = BUF_INIT(1u << 22);

		assert_int_equal(transcode_all(in, goal, step, &b), v);
		assert_true(span_eq(buf_span(&b), buf_span(out)));
	}
	return v;
}

static void becomes(span in, enum transcode_goal goal, span want)
{
	_cleanup_(buf_donep) struct buf out = { 0 }, again = { 0 };

	assert_int_equal(convert(in, goal, &out), TRANSCODE_NEEDED);
	if (!span_eq(buf_span(&out), want))
		fail_msg("got:\n%.*s\nwant:\n%.*s", SPAN_FMT(buf_span(&out)), SPAN_FMT(want));
	assert_int_equal(convert(want, goal, &again), TRANSCODE_AS_IS);
	assert_true(span_eq(buf_span(&again), want));
}

static void stays(span in, enum transcode_goal goal)
{
	_cleanup_(buf_donep) struct buf out = { 0 };

	assert_int_equal(convert(in, goal, &out), TRANSCODE_AS_IS);
	assert_true(span_eq(buf_span(&out), in));
}

static void impossible(span in, enum transcode_goal goal)
{
	_cleanup_(buf_donep) struct buf out = { 0 };

	assert_int_equal(convert(in, goal, &out), TRANSCODE_IMPOSSIBLE);
}

#define V "MIME-Version: 1.0\r\n"

static void test_single(void **state)
{
	becomes(SPAN(V "Content-Type: image/png\r\nContent-Transfer-Encoding: "
		       "binary\r\n\r\na\0b\rc\n"),
		TRANSCODE_8BIT,
		SPAN(V "Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n"
		       "YQBiDWMK\r\n"));
	/* what it says is wrong, what is in it counts */
	becomes(SPAN(V "Content-Transfer-Encoding: 7bit\r\n\r\na\0b\r\n"), TRANSCODE_8BIT,
		SPAN(V "Content-Transfer-Encoding: base64\r\n\r\nYQBiDQo=\r\n"));
	becomes(SPAN(V "Content-Type: text/plain; charset=utf-8\r\n"
		       "Content-Transfer-Encoding:\r\n 8bit\r\nSubject: x\r\n\r\n"
		       "gr\xc3\xbc\xc3\x9f = \r\nend\r\n"),
		TRANSCODE_7BIT,
		SPAN(V "Content-Type: text/plain; charset=utf-8\r\nSubject: x\r\n"
		       "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
		       "gr=C3=BC=C3=9F =3D=20\r\nend\r\n"));
	/* a label alone */
	becomes(SPAN(V "Content-Transfer-Encoding: 8bit\r\n\r\nplain\r\n"), TRANSCODE_7BIT,
		SPAN(V "Content-Transfer-Encoding: 7bit\r\n\r\nplain\r\n"));
}

/* RFC 1428: mail without MIME in 8 bits. */
static void test_without_mime(void **state)
{
	becomes(SPAN("Subject: x\r\n\r\n\xe4\r\n"), TRANSCODE_7BIT,
		SPAN("Subject: x\r\n" V "Content-Type: text/plain; charset=unknown-8bit\r\n"
		     "Content-Transfer-Encoding: quoted-printable\r\n\r\n=E4\r\n"));
	stays(SPAN("Subject: x\r\n\r\n\xe4\r\n"), TRANSCODE_8BIT);
	stays(SPAN("Subject: x\r\n\r\nx\r\n"), TRANSCODE_7BIT);
	stays(SPAN("Subject: x\r\n"), TRANSCODE_7BIT);
	stays(SPAN(""), TRANSCODE_7BIT);
	stays(SPAN("\r\n"), TRANSCODE_8BIT);
}

static void test_multipart(void **state)
{
	becomes(SPAN(V "Content-Type: multipart/mixed; boundary=b\r\n"
		       "Content-Transfer-Encoding: binary\r\n\r\n"
		       "preamble\r\n--b\r\n\r\ntext\r\n--b \t\r\n"
		       "Content-Type: application/x\r\nContent-Transfer-Encoding: binary\r\n\r\n"
		       "\r\n--bx\r\n--\r\n\r\n\0\r\r\n--b--\r\nepilogue\r\n"),
		TRANSCODE_8BIT,
		SPAN(V "Content-Type: multipart/mixed; boundary=b\r\n"
		       "Content-Transfer-Encoding: 8bit\r\n\r\n"
		       "preamble\r\n--b\r\n\r\ntext\r\n--b \t\r\n"
		       "Content-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\n"
		       "DQotLWJ4DQotLQ0KDQoADQ==\r\n--b--\r\nepilogue\r\n"));
	/* nobody reads a preamble */
	becomes(SPAN(V
		     "Content-Type: multipart/mixed; boundary=b\r\n\r\n\xe4\r\n--b\r\n\r\ntext\r\n"
		     "--b--\r\n\xe4\r\n"),
		TRANSCODE_7BIT,
		SPAN(V "Content-Type: multipart/mixed; boundary=b\r\n\r\n\r\n--b\r\n\r\ntext\r\n"
		       "--b--\r\n"));
	/* an outer boundary ends the inner parts; a header may end at one */
	becomes(SPAN(V
		     "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n"
		     "Content-Type: multipart/mixed; boundary=\"b c\"\r\n\r\n--b c\r\n\r\n\xe4\r\n"
		     "--a\r\nContent-Type: text/x\r\n--a--\r\n"),
		TRANSCODE_7BIT,
		SPAN(V "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n"
		       "Content-Type: multipart/mixed; boundary=\"b c\"\r\n\r\n--b c\r\n"
		       "Content-Transfer-Encoding: quoted-printable\r\n\r\n=E4\r\n"
		       "--a\r\nContent-Type: text/x\r\n--a--\r\n"));
}

static void test_messages(void **state)
{
	becomes(SPAN(V "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
		       "Subject: y\r\n\r\n\xe4\r\n"),
		TRANSCODE_7BIT,
		SPAN(V "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
		       "Subject: y\r\n" V "Content-Type: text/plain; charset=unknown-8bit\r\n"
		       "Content-Transfer-Encoding: quoted-printable\r\n\r\n=E4\r\n"));
	becomes(SPAN(V "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n" V
		       "Content-Type: text/plain\r\n\r\n\xe4\r\n--b--\r\n"),
		TRANSCODE_7BIT,
		SPAN(V "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n" V
		       "Content-Type: text/plain\r\n"
		       "Content-Transfer-Encoding: quoted-printable\r\n\r\n=E4\r\n--b--\r\n"));
	impossible(SPAN(V "Content-Type: message/delivery-status\r\n\r\n\xe4\r\n"), TRANSCODE_7BIT);
}

static void test_encoded_already(void **state)
{
	stays(SPAN(V "Content-Transfer-Encoding: base64\r\n\r\nYQ==\r\n"), TRANSCODE_7BIT);
	stays(SPAN(V "Content-Transfer-Encoding: Quoted-Printable\r\n\r\n=E4\r\n"), TRANSCODE_7BIT);
	impossible(SPAN(V "Content-Transfer-Encoding: base64\r\n\r\nYQ==\xe4\r\n"), TRANSCODE_7BIT);
	impossible(SPAN(V "Content-Transfer-Encoding: x-uuencode\r\n\r\n\0\r\n"), TRANSCODE_8BIT);
}

/* Long lines, lines that nearly are boundaries, and all octets there are. */
static void test_all_octets(void **state)
{
	_cleanup_(buf_donep) struct buf in = BUF_INIT(1u << 20), out = { 0 };
	struct arena mem;

	arena_init(&mem);
	buf_put_str(&in, V "Content-Type: multipart/mixed; boundary=xyz\r\n\r\n--xyz\r\n"
			   "Content-Type: application/octet-stream\r\n"
			   "Content-Transfer-Encoding: binary\r\n\r\n");
	for (int i = 0; i < 256 * 40; i++) {
		buf_put_char(&in, (char)(i % 251));
		buf_put_char(&in, (char)(i >> 3));
		if (i % 97 == 0)
			buf_put_str(&in, "\r\n--xy");
	}
	buf_put_str(&in, "\r\n--xyz\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n");
	for (int i = 0; i < 400; i++)
		buf_put_str(&in, i % 7 ? "w\xc3\xb6rter \t" : "tail \t\r\n.\r\n");
	buf_put_str(&in, "\r\n--xyz--\r\n");
	for (int goal = TRANSCODE_8BIT; goal <= TRANSCODE_7BIT; goal++) {
		struct message_facts facts;

		assert_int_equal(convert(buf_span(&in), (enum transcode_goal)goal, &out),
				 TRANSCODE_NEEDED);
		message_check(buf_span(&out), &facts);
		assert_int_equal(facts.defects & (MESSAGE_NUL | MESSAGE_BARE_CR | MESSAGE_BARE_LF),
				 0);
		assert_true(!(facts.defects & MESSAGE_8BIT_BODY) || goal == TRANSCODE_8BIT);
		same_parts(buf_span(&in), mime_parse(buf_span(&in), &mem), buf_span(&out),
			   mime_parse(buf_span(&out), &mem));
		buf_done(&out);
	}
	arena_done(&mem);
}

/* A header without an end, more parts and more depth than anybody reads. */
static void test_limits(void **state)
{
	_cleanup_(buf_donep) struct buf in = BUF_INIT(1u << 21), out = BUF_INIT(1u << 22);

	buf_put_str(&in, V "Content-Type: multipart/mixed; boundary=b\r\n\r\n");
	for (int i = 0; i < MIME_MAX_PARTS + 10; i++)
		buf_put_str(&in, "--b\r\n\r\nx\r\n");
	assert_int_equal(transcode_all(buf_span(&in), TRANSCODE_7BIT, 4096, &out), TRANSCODE_AS_IS);
	assert_true(span_eq(buf_span(&in), buf_span(&out)));
	buf_put_str(&in, "\xe4");
	buf_reset(&out);
	assert_int_equal(transcode_all(buf_span(&in), TRANSCODE_7BIT, 4096, &out),
			 TRANSCODE_IMPOSSIBLE);
	buf_reset(&in);
	for (int i = 0; i < MIME_MAX_HEADER / 4; i++)
		buf_put_str(&in, "a: b\r\n");
	buf_put_str(&in, "\r\n\r\n\xe4");
	buf_reset(&out);
	assert_int_equal(transcode_all(buf_span(&in), TRANSCODE_7BIT, 4096, &out),
			 TRANSCODE_IMPOSSIBLE);
	buf_reset(&in);
	for (int i = 0; i < 2 * MIME_MAX_DEPTH; i++)
		buf_put_str(&in, "Content-Type: message/rfc822\r\n\r\n");
	buf_put_str(&in, "x\r\n");
	buf_reset(&out);
	assert_int_equal(transcode_all(buf_span(&in), TRANSCODE_7BIT, 4096, &out), TRANSCODE_AS_IS);
	assert_true(span_eq(buf_span(&in), buf_span(&out)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_single),		cmocka_unit_test(test_without_mime),
		cmocka_unit_test(test_multipart),	cmocka_unit_test(test_messages),
		cmocka_unit_test(test_encoded_already), cmocka_unit_test(test_all_octets),
		cmocka_unit_test(test_limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
