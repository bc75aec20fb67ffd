/* The client engine beyond plain SMTP: AUTH, BDAT, limits, parameters of extensions, and peers that
 * answer too soon. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/codec.h"
#include "relay/client.h"
#include "tls/hash.h"

static void say(struct relay_client *c, const char *words)
{
	relay_client_feed(c, span_str(words));
}

static void expect(struct relay_client *c, const char *words)
{
	struct buf *out = relay_client_out(c);

	assert_string_equal(out->n ? buf_cstr(out) : "", words);
	buf_reset(out);
}

/* After EHLO's answer OFFER ("250-X\r\n250 Y\r\n"); loopback or not. */
static struct relay_client *log_in(const char *address, bool tls, const char *offer)
{
	struct relay_open o = { .helo = SPAN("us.test"),
				.host = SPAN("mx.test"),
				.tls = tls ? RELAY_TLS_VERIFY : RELAY_TLS_NONE,
				.implicit_tls = tls,
				.user = SPAN("user"),
				.password = SPAN("pencil") };
	struct relay_client *c;

	assert_int_equal(sock_parse_ip(span_str(address), 25, &o.to), 0);
	c = relay_client_new(&o);
	if (tls)
		relay_client_tls(c, true, SPAN("T"));
	say(c, "220 mx\r\n");
	expect(c, "EHLO us.test\r\n");
	say(c, offer);
	return c;
}

static void refused(struct relay_client *c, const char *why)
{
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_DEAD);
	assert_int_equal(relay_client_opened(c)->fail, RELAY_FAIL_AUTH);
	if (span_find_span(relay_client_opened(c)->why, span_str(why)) == SPAN_NPOS)
		fail_msg("\"%.*s\" instead of \"%s\"", SPAN_FMT(relay_client_opened(c)->why), why);
	relay_client_free(c);
}

static void test_plain_and_login(void **state)
{
	struct relay_client *c = log_in("192.0.2.1", true, "250-mx\r\n250 AUTH LOGIN PLAIN\r\n");

	expect(c, "AUTH PLAIN AHVzZXIAcGVuY2ls\r\n");
	say(c, "235 2.7.0 welcome\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_PARKED);
	assert_true(span_eq_str(relay_client_opened(c)->auth, "PLAIN"));
	relay_client_free(c);

	c = log_in("192.0.2.1", true, "250-mx\r\n250 AUTH LOGIN\r\n");
	expect(c, "AUTH LOGIN\r\n");
	say(c, "334 VXNlcm5hbWU6\r\n");
	expect(c, "dXNlcg==\r\n");
	say(c, "334 UGFzc3dvcmQ6\r\n");
	expect(c, "cGVuY2ls\r\n");
	say(c, "235 ok\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_PARKED);
	relay_client_free(c);

	/* A peer on this host may have the password in clear; nobody else. */
	c = log_in("127.0.0.1", false, "250-mx\r\n250 AUTH PLAIN\r\n");
	expect(c, "AUTH PLAIN AHVzZXIAcGVuY2ls\r\n");
	relay_client_free(c);
	c = log_in("192.0.2.1", false, "250-mx\r\n250 AUTH PLAIN LOGIN\r\n");
	refused(c, "in clear");
}

static void test_login_refused(void **state)
{
	struct relay_client *c = log_in("192.0.2.1", true, "250-mx\r\n250 AUTH PLAIN\r\n");

	say(c, "535 5.7.8 bad credentials\r\n");
	assert_int_equal(relay_client_opened(c)->reply.code, 535);
	refused(c, "does not accept our user");
	refused(log_in("192.0.2.1", true, "250 mx\r\n"), "no way to log in");
	refused(log_in("192.0.2.1", true, "250-mx\r\n250 AUTH GSSAPI\r\n"), "no way to log in");
	c = log_in("192.0.2.1", true, "250-mx\r\n250 AUTH PLAIN\r\n");
	say(c, "334 \r\n"); /* once more? */
	refused(c, "makes no sense");
	c = log_in("192.0.2.1", true, "250-mx\r\n250 AUTH LOGIN\r\n");
	say(c, "334 not base64\r\n");
	refused(c, "makes no sense");
}

/* The server's half of SCRAM-SHA-256 for the password "pencil", up to its last word. */
struct server {
	struct buf first, server_first;
};

static void server_greets(struct server *s, struct relay_client *c)
{
	_cleanup_(buf_donep) struct buf raw = BUF_INIT(1000), line = BUF_INIT(1000);
	struct buf *out = relay_client_out(c);
	span rest = buf_span(out), nonce;

	assert_true(span_starts(rest, SPAN("AUTH SCRAM-SHA-256 ")));
	assert_int_equal(base64_decode(&raw, span_trim(span_from(rest, 19))), 0);
	buf_put_span(&s->first, span_from(buf_span(&raw), 3)); /* behind "n,," */
	nonce = span_from(buf_span(&s->first), span_find_span(buf_span(&s->first), SPAN("r=")));
	buf_put_span(&s->server_first, nonce);
	buf_put_str(&s->server_first, "more,s=c2FsdA==,i=4096");
	buf_put_str(&line, "334 ");
	base64_encode(&line, buf_span(&s->server_first));
	buf_put_str(&line, "\r\n");
	buf_reset(out);
	say(c, buf_cstr(&line));
}

static void server_signs(struct server *s, struct relay_client *c, const char *password)
{
	_cleanup_(buf_donep) struct buf raw = BUF_INIT(1000), line = BUF_INIT(1000),
					message = BUF_INIT(3000), last = BUF_INIT(200);
	struct buf *out = relay_client_out(c);
	uint8_t salted[32], key[32], signature[32];
	span final;

	assert_int_equal(base64_decode(&raw, span_trim(buf_span(out))), 0);
	final = buf_span(&raw);
	buf_put_span(&message, buf_span(&s->first));
	buf_put_char(&message, ',');
	buf_put_span(&message, buf_span(&s->server_first));
	buf_put_char(&message, ',');
	buf_put_span(&message, span_sub(final, 0, span_find_span(final, SPAN(",p="))));
	assert_int_equal(pbkdf2_sha256(span_str(password), SPAN("salt"), 4096, salted), 0);
	hmac_sha256(span_of(salted, 32), SPAN("Server Key"), key);
	hmac_sha256(span_of(key, 32), buf_span(&message), signature);
	buf_put_str(&last, "v=");
	base64_encode(&last, span_of(signature, 32));
	buf_put_str(&line, "334 ");
	base64_encode(&line, buf_span(&last));
	buf_put_str(&line, "\r\n");
	buf_reset(out);
	say(c, buf_cstr(&line));
	buf_done(&s->first);
	buf_done(&s->server_first);
}

static struct server server_new(void)
{
	return (struct server){ BUF_INIT(1000), BUF_INIT(1000) };
}

static void test_scram(void **state)
{
	static const char offer[] = "250-mx\r\n250 AUTH PLAIN SCRAM-SHA-1 SCRAM-SHA-256 LOGIN\r\n";
	struct server s = server_new();
	struct relay_client *c = log_in("192.0.2.1", false, offer); /* in clear: it shows nothing */

	server_greets(&s, c);
	server_signs(&s, c, "pencil");
	expect(c, "\r\n");
	say(c, "235 welcome\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_PARKED);
	assert_true(span_eq_str(relay_client_opened(c)->auth, "SCRAM-SHA-256"));
	relay_client_free(c);

	/* One who does not know the password is not given any mail. */
	s = server_new();
	c = log_in("192.0.2.1", false, offer);
	server_greets(&s, c);
	server_signs(&s, c, "crayon");
	refused(c, "does not know the password");
	s = server_new();
	c = log_in("192.0.2.1", false, offer);
	say(c, "235 never mind\r\n");
	refused(c, "without proving");
}

/* --- transactions --- */

static struct relay_client *open_with(const char *offer, bool lmtp)
{
	struct relay_open o = { .helo = SPAN("us.test"), .host = SPAN("mx.test"), .lmtp = lmtp };
	struct relay_client *c = relay_client_new(&o);

	say(c, "220 mx\r\n");
	buf_reset(relay_client_out(c));
	say(c, offer);
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_PARKED);
	return c;
}

static void send_by(struct relay_client *c, bool chunking)
{
	struct relay_rcpt rcpts[] = { { .address = SPAN("b@mx.test") },
				      { .address = SPAN("c@mx.test") } };
	struct relay_send s = {
		.sender = SPAN("a@us.test"), .chunking = chunking, .rcpts = rcpts, .n_rcpts = 2
	};

	relay_client_send(c, &s);
}

#define OFFER_BDAT "250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n"

static void test_bdat(void **state)
{
	struct relay_client *c = open_with(OFFER_BDAT, false);

	send_by(c, true);
	expect(c, "MAIL FROM:<a@us.test>\r\nRCPT TO:<b@mx.test>\r\nRCPT TO:<c@mx.test>\r\n");
	say(c, "250 ok\r\n250 ok\r\n550 no\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_BODY);
	relay_client_body(c, SPAN("a\n.\rb\r"));
	relay_client_body(c, SPAN("\n.."));
	expect(c, "");
	relay_client_body_end(c);
	expect(c,
	       "BDAT 13 LAST\r\na\r\n.\r\nb\r\n..\r\n"); /* no dots are doubled, no bare CR or LF */
	say(c, "250 2.0.0 queued\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_PARKED);
	assert_int_equal(relay_client_sent(c)->data.code, 354);
	assert_int_equal(relay_client_sent(c)->final.code, 250);
	/* Nobody taken: no chunk, and RSET before the next. */
	send_by(c, true);
	buf_reset(relay_client_out(c));
	say(c, "250 ok\r\n550 no\r\n550 no\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_PARKED);
	send_by(c, false);
	expect(c, "RSET\r\nMAIL FROM:<a@us.test>\r\nRCPT TO:<b@mx.test>\r\nRCPT "
		  "TO:<c@mx.test>\r\nDATA\r\n");
	relay_client_free(c);
	/* Not offered: DATA. */
	c = open_with("250-mx\r\n250 PIPELINING\r\n", false);
	send_by(c, true);
	expect(c,
	       "MAIL FROM:<a@us.test>\r\nRCPT TO:<b@mx.test>\r\nRCPT TO:<c@mx.test>\r\nDATA\r\n");
	relay_client_free(c);
}

/* Feeds N octets; the sum of the chunks' sizes must be theirs. */
static void test_many_chunks(void **state)
{
	struct relay_client *c = open_with(OFFER_BDAT, false);
	static char piece[64 * 1024];
	size_t chunks = 0, told = 0, said = 0;

	memset(piece, 'x', sizeof piece);
	send_by(c, true);
	say(c, "250 ok\r\n250 ok\r\n250 ok\r\n");
	buf_reset(relay_client_out(c));
	for (int i = 0; i <= 20; i++) {
		struct buf *out = relay_client_out(c);
		span line = buf_span(out);
		uint64_t n;

		if (i < 20)
			relay_client_body(c, span_of(piece, sizeof piece));
		else
			relay_client_body_end(c);
		line = buf_span(out);
		if (line.n == 0)
			continue;
		assert_true(span_starts(line, SPAN("BDAT ")));
		line = span_from(line, 5);
		said += out->n - (span_find(buf_span(out), '\n') + 1);
		line = span_cut(&line, '\r');
		assert_true(span_u64(span_cut(&line, ' '), UINT64_MAX, &n));
		assert_int_equal(line.n ? i : 20, 20); /* LAST is the last */
		told += n;
		chunks++;
		buf_reset(out);
		say(c, "250 ok\r\n");
	}
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_PARKED);
	assert_int_equal(told, 20 * sizeof piece + 2);
	assert_int_equal(said, told);
	assert_int_equal(chunks, 6);
	/* One that is refused ends the transaction, not the connection. */
	send_by(c, true);
	say(c, "250 ok\r\n250 ok\r\n250 ok\r\n");
	for (int i = 0; i < 4; i++)
		relay_client_body(c, span_of(piece, sizeof piece));
	buf_reset(relay_client_out(c));
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_TALKS);
	say(c, "552 5.3.4 too large\r\n");
	assert_int_equal(relay_client_state(c), RELAY_CLIENT_PARKED);
	assert_int_equal(relay_client_sent(c)->final.code, 552);
	send_by(c, false);
	assert_true(span_starts(buf_span(relay_client_out(c)), SPAN("RSET\r\n")));
	relay_client_free(c);
}

static void test_bdat_lmtp(void **state)
{
	struct relay_client *c = open_with(OFFER_BDAT, true);

	send_by(c, true);
	say(c, "250 ok\r\n250 ok\r\n250 ok\r\n");
	relay_client_body_end(c);
	buf_reset(relay_client_out(c));
	say(c, "250 one\r\n452 4.2.2 full\r\n");
	assert_int_equal(relay_client_sent(c)->rcpt_final[0].code, 250);
	assert_int_equal(relay_client_sent(c)->rcpt_final[1].code, 452);
	relay_client_free(c);
}

/* What is answered before the end of the message left us counts only if it is a refusal. */
static void test_early(void **state)
{
	static const struct {
		const char *words;
		enum relay_fail fail;
		unsigned final;
	} rows[] = {
		{ "250 got it\r\n", RELAY_FAIL_PROTOCOL, 0 },
		{ "354 go on\r\n", RELAY_FAIL_PROTOCOL, 0 },
		{ "554 5.7.1 no\r\n", RELAY_FAIL_CLOSED, 554 },
		{ "421 bye\r\n", RELAY_FAIL_CLOSED, 421 },
		{ "what\r\n", RELAY_FAIL_PROTOCOL, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows) * 4; i++) {
		bool chunking = i & 1, at_end = i & 2;
		struct relay_client *c = open_with(OFFER_BDAT, false);

		send_by(c, chunking);
		say(c, chunking ? "250 ok\r\n250 ok\r\n250 ok\r\n"
				: "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
		buf_reset(relay_client_out(c));
		relay_client_body(c, SPAN("part"));
		if (at_end)
			relay_client_body_end(c); /* but it is still in OUT */
		say(c, rows[i / 4].words);
		assert_int_equal(relay_client_state(c), RELAY_CLIENT_DEAD);
		assert_int_equal(relay_client_sent(c)->fail, rows[i / 4].fail);
		assert_int_equal(relay_client_sent(c)->final.code, rows[i / 4].final);
		relay_client_free(c);
	}
}

static void test_limits(void **state)
{
	struct relay_client *c = open_with("250-mx\r\n250-LIMITS RCPTMAX=20 mailmax=5 "
					   "RCPTDOMAINMAX=1 OTHER=x\r\n250 DELIVERBY 60\r\n",
					   false);
	const struct relay_opened *o = relay_client_opened(c);

	assert_int_equal(o->rcpt_max, 20);
	assert_int_equal(o->mail_max, 5);
	assert_int_equal(o->domain_max, 1);
	assert_int_equal(o->by_min, 60);
	relay_client_free(c);
	c = open_with("250-mx\r\n250-LIMITS RCPTMAX=0x10 MAILMAX= =7\r\n250 LIMITS\r\n", false);
	assert_int_equal(relay_client_opened(c)->rcpt_max, 0);
	assert_int_equal(relay_client_opened(c)->mail_max, 0);
	relay_client_free(c);
}

static void test_parameters(void **state)
{
	static const struct {
		const char *offer, *mail;
	} rows[] = {
		{ "250 REQUIRETLS\r\n", " REQUIRETLS" },
		{ "250 MT-PRIORITY\r\n", " MT-PRIORITY=-3" },
		{ "250 DELIVERBY\r\n", " BY=-7;NT" },
		{ "250 HELP\r\n", "" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_(buf_donep) struct buf offer = BUF_INIT(200), mail = BUF_INIT(200);
		struct relay_rcpt rcpt = { .address = SPAN("b@mx.test") };
		struct relay_send s = { .sender = SPAN("a@us.test"),
					.require_tls = true,
					.priority = -3,
					.by = true,
					.by_seconds = -7,
					.by_trace = true,
					.rcpts = &rcpt,
					.n_rcpts = 1 };
		struct relay_client *c;

		buf_printf(&offer, "250-mx\r\n%s", rows[i].offer);
		c = open_with(buf_cstr(&offer), false);
		relay_client_send(c, &s);
		buf_printf(&mail, "MAIL FROM:<a@us.test>%s\r\n", rows[i].mail);
		expect(c, buf_cstr(&mail));
		relay_client_free(c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_and_login), cmocka_unit_test(test_login_refused),
		cmocka_unit_test(test_scram),		cmocka_unit_test(test_bdat),
		cmocka_unit_test(test_many_chunks),	cmocka_unit_test(test_bdat_lmtp),
		cmocka_unit_test(test_early),		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_parameters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
