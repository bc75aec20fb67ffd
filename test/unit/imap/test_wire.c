#include "harness.h"

#include <stdlib.h>

#include "imap/wire.h"
#include "sasl/offer.h"

/* Framing: the same bytes in any pieces give the same steps; hostile input before login costs
 * nothing. */

struct front {
	void *w;
	struct buf unread, log;
	bool closed;
	struct wire_env env;
};

static void open_front(struct front *f, bool authenticated)
{
	*f = (struct front){ .unread = BUF_INIT(16 << 20), .log = BUF_INIT(64 << 20) };
	f->env = (struct wire_env){ .hostname = SPAN("mail.test"),
				    .auth = SASL_BIT(PLAIN) | SASL_BIT(LOGIN),
				    .tls = true,
				    .max_size = 1 << 24 };
	f->w = xcalloc(1, imap_wire_ops.size);
	imap_wire_ops.open(f->w, &f->env, &f->log);
	buf_reset(&f->log);
	struct wire_park p = { .flags = IMAP_PARK_AUTHENTICATED };
	if (authenticated)
		imap_wire_ops.park(f->w, &p);
}

static void done_front(struct front *f)
{
	imap_wire_ops.done(f->w);
	free(f->w);
	buf_done(&f->unread);
	buf_done(&f->log);
}

/* Core that accepts each literal it is asked about, except of tags with 'r'; keeps the session's
 * state. */
static void answer(struct front *f, span item, uint8_t flags, bool authenticated)
{
	struct wire_park p = { .flags = authenticated ? IMAP_PARK_AUTHENTICATED : 0 };
	if ((flags & SESS_ITEM_BODY_FOLLOWS) && item.p[0] != 'r')
		p.mode = SESS_MODE_LITERAL;
	if (span_ifind_span(item, SPAN(" IDLE")) != SPAN_NPOS)
		p.mode = SESS_MODE_RAW;
	imap_wire_ops.park(f->w, &p);
}

static void feed(struct front *f, span bytes, bool authenticated)
{
	buf_put_span(&f->unread, bytes);
	while (!f->closed) {
		_cleanup_(buf_donep) struct buf reply = BUF_INIT(1 << 16),
						group = BUF_INIT(CHANNEL_MAX),
						body = BUF_INIT(CHANNEL_MAX);
		struct wire_out out = { .reply = &reply, .group = &group, .body = &body };
		size_t used = 0;
		enum wire_step s = imap_wire_ops.feed(f->w, buf_span(&f->unread), &used, &out);
		buf_consume(&f->unread, used);
		if (reply.n) {
			buf_put_str(&f->log, "<");
			buf_put_span(&f->log, buf_span(&reply));
		}
		struct cursor c = cursor_of(buf_span(&group));
		uint8_t flags;
		span item;
		while (s == WIRE_FORWARD && sess_item_next(&c, &flags, &item)) {
			buf_printf(&f->log, ">%u ", flags);
			buf_put_span(&f->log, item);
			answer(f, item, flags, authenticated);
		}
		if (s == WIRE_BODY) {
			buf_printf(&f->log, "=%zu/%u ", body.n, out.body_flags);
			struct wire_park p = { .mode = SESS_MODE_LITERAL,
					       .flags = IMAP_PARK_AUTHENTICATED };
			imap_wire_ops.park(f->w, &p);
		}
		f->closed = s == WIRE_CLOSE;
		if (s == WIRE_MORE && !used)
			break;
	}
	if (f->closed)
		buf_put_str(&f->log, "#");
}

static char *run(span bytes, size_t piece, bool authenticated)
{
	struct front f;
	open_front(&f, authenticated);
	for (size_t at = 0; at < bytes.n && !f.closed; at += piece) {
		feed(&f, span_sub(bytes, at, piece), authenticated);
		assert_true(f.closed || f.unread.n < imap_wire_ops.input_limit);
	}
	char *log = xstrdup(buf_cstr(&f.log));
	done_front(&f);
	return log;
}

static void expect(const char *bytes, bool authenticated, const char *want)
{
	span s = span_str(bytes);
	for (size_t piece = 1; piece <= s.n; piece += piece < 16 ? 1 : s.n) {
		char *got = run(s, piece, authenticated);
		assert_string_equal(got, want);
		free(got);
	}
}

static void test_before_login(void **state)
{
	expect("a NOOP\r\nb LOGIN x y\r\n", false, "<a OK NOOP completed\r\n>0 b LOGIN x y\r\n");
	expect("a LOGOUT\r\n", false, "<* BYE Logging out\r\na OK LOGOUT completed\r\n#");
	expect("a SELECT x\r\n", false, "<a BAD Log in first\r\n");
	expect("a FROB\r\n\r\n", false, "<a BAD Unknown command\r\n<* BAD Expected a tag\r\n");
	expect("a LOGIN {1}\r\nx {2+}\r\nyz\r\n", false,
	       "<+ OK\r\n>0 a LOGIN {1}\r\nx {2+}\r\nyz\r\n");
	expect("GET / HTTP/1.1\r\n", false, "#");
}

static void test_line_ends(void **state)
{
	expect("a NOOP\nb LOGOUT\r\nc NOOP\r\n", false,
	       "<a BAD Lines end with CRLF\r\n<c OK NOOP completed\r\n");
	expect("a NO\rOP\r\nc NOOP\r\n", false, "<a BAD CR without LF\r\n<c OK NOOP completed\r\n");
	struct front f;
	open_front(&f, false);
	feed(&f, SPAN("a NOOP\0x\r\nb LOGIN {2+}\r\n\0x y\r\nc NOOP\r\n"), false);
	assert_string_equal(
		buf_cstr(&f.log),
		"<a BAD NUL in a command\r\n<b BAD NUL in a literal\r\n<c OK NOOP completed\r\n");
	done_front(&f);
}

static void test_hostile(void **state)
{
	expect("a LOGIN {4294967295}\r\nb NOOP\r\n", false,
	       "<a BAD [TOOBIG] Literal is too large\r\n<b OK NOOP completed\r\n");
	expect("a LOGIN {99999999999999999999999}\r\n", false,
	       "<a BAD [TOOBIG] Literal is too large\r\n");
	expect("a LOGIN {2147483648+}\r\n", false, "<* BYE [TOOBIG] Literal is too large\r\n#");
	_cleanup_(buf_donep) struct buf b = BUF_INIT(16 << 20);
	for (int i = 0; i < 1000000; i++)
		buf_put_char(&b, 'a');
	char *log = run(buf_span(&b), 1000, false);
	assert_string_equal(log, "<* BYE Line is too long\r\n#");
	free(log);
	buf_reset(&b);
	buf_put_str(&b, "a LOGIN");
	for (int i = 0; i < 100000; i++)
		buf_put_str(&b, " {0+}\r\n");
	log = run(buf_span(&b), 4096, false);
	assert_string_equal(log, "<* BYE [TOOBIG] Literal is too large\r\n#");
	free(log);
	buf_reset(&b);
	for (int i = 0; i < 20; i++)
		buf_put_str(&b, "x\r\n");
	log = run(buf_span(&b), 7, false);
	assert_non_null(strstr(log, "Too many bad commands\r\n#"));
	free(log);
}

static void test_large_literals(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1 << 20), want = BUF_INIT(1 << 20);
	buf_put_str(&b, "a APPEND x {70000}\r\n");
	for (int i = 0; i < 70000; i++)
		buf_put_char(&b, 'm');
	buf_put_str(&b, "\r\nb NOOP\r\n");
	for (size_t piece = 1; piece < 80000; piece = piece * 7 + 1) {
		char *log = run(buf_span(&b), piece, true);
		assert_string_equal(
			log,
			">2 a APPEND x {70000}\r\n<+ OK\r\n=65536/0 =4464/1 >0 \r\n>0 b NOOP\r\n");
		free(log);
	}
	/* refused: the bytes of a literal that was not asked for are skipped */
	buf_reset(&b);
	buf_put_str(&b, "r APPEND x {20000+}\r\n");
	for (int i = 0; i < 20000; i++)
		buf_put_char(&b, i % 50 ? 'm' : '\n');
	buf_put_str(&b, "\r\nb NOOP\r\n");
	for (size_t piece = 1; piece < 30000; piece = piece * 5 + 1) {
		char *log = run(buf_span(&b), piece, true);
		assert_string_equal(log, ">2 r APPEND x {20000+}\r\n>0 b NOOP\r\n");
		free(log);
	}
	expect("r APPEND x {20000}\r\nb NOOP\r\n", true, ">2 r APPEND x {20000}\r\n>0 b NOOP\r\n");
	expect("a SELECT {20000}\r\nb NOOP\r\n", true,
	       "<a BAD [TOOBIG] Literal is too large\r\n>0 b NOOP\r\n");
	expect("a IDLE\r\nDONE\r\n", true, ">0 a IDLE\r\n>0 DONE\r\n");
}

static void test_tls_forgets(void **state)
{
	struct front f;
	open_front(&f, false);
	feed(&f, SPAN("a NOO"), false);
	imap_wire_ops.tls(f.w, &f.env);
	buf_reset(&f.unread);
	feed(&f, SPAN("b NOOP\r\n"), false);
	assert_string_equal(buf_cstr(&f.log), "<b OK NOOP completed\r\n");
	done_front(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_before_login), cmocka_unit_test(test_line_ends),
		cmocka_unit_test(test_hostile),	     cmocka_unit_test(test_large_literals),
		cmocka_unit_test(test_tls_forgets),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
