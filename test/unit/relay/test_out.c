/* The whole out role in a thread, between a fake core (this thread, blocking) and a fake SMTP
 * server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dns/dns.h"
#include "relay/wire.h"
#include "role/control.h"
#include "role/role.h"
#include "sys/channel.h"
#include "sys/file.h"

#define WAIT (20 * USEC_SEC)

static int control = -1, core = -1, listener = -1;
static pthread_t role, peer;
static struct sockaddr_any address;
static struct buf payload;
static struct arena mem;

/* --- the SMTP server: one script of "expect line prefix" / "say" pairs per connection --- */

struct script {
	const char *greeting;
	const char *const (*lines)[2]; /* what starts a line -> the answer; NULL ends */
	struct buf body;	       /* what came between 354 and the dot */
	unsigned connections;
};

static const char *answer_to(const struct script *s, const char *line)
{
	for (size_t i = 0; s->lines[i][0]; i++)
		if (strncmp(line, s->lines[i][0], strlen(s->lines[i][0])) == 0)
			return s->lines[i][1];
	return "500 what\r\n";
}

static void serve_one(struct script *s, int fd)
{
	FILE *in = fdopen(fd, "r");
	char line[2048];
	bool data = false;

	if (send(fd, s->greeting, strlen(s->greeting), MSG_NOSIGNAL) < 0 || s->greeting[0] != '2') {
		fclose(in);
		return;
	}
	while (fgets(line, sizeof line, in)) {
		const char *reply;

		if (data && strcmp(line, ".\r\n") != 0) {
			buf_put_str(&s->body, line);
			continue;
		}
		reply = answer_to(s, line);
		data = strncmp(reply, "354", 3) == 0;
		if (!*reply || send(fd, reply, strlen(reply), MSG_NOSIGNAL) < 0)
			break;
	}
	fclose(in);
}

static void *serve(void *arg)
{
	struct script *s = arg;

	for (unsigned i = 0; i < s->connections; i++) {
		int fd = accept(listener, NULL, NULL);

		if (fd >= 0)
			serve_one(s, fd);
	}
	return NULL;
}

static void serve_script(struct script *s, unsigned connections)
{
	s->connections = connections;
	buf_init(&s->body, 1 << 24);
	assert_int_equal(pthread_create(&peer, NULL, serve, s), 0);
}

static void serve_end(struct script *s)
{
	pthread_join(peer, NULL);
	buf_done(&s->body);
}

/* --- the role --- */

static void *run(void *arg)
{
	int fd = *(int *)arg;
	intptr_t code = role_out(fd, true);

	close(fd);
	return (void *)code;
}

static int start(void **state)
{
	static const char conf[] = "server:\n  hostname: us.test\n";
	static int fds[2];
	int channel[2], one = 1;
	uint16_t type;
	uint64_t id;
	socklen_t len = sizeof address;

	buf_init(&payload, CHANNEL_MAX);
	arena_init(&mem);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (sock_parse_ip(SPAN("127.0.0.1"), 0, &address) < 0 ||
	    bind(listener, &address.sa, sock_len(&address)) != 0 || listen(listener, 8) != 0 ||
	    getsockname(listener, &address.sa, &len) != 0)
		return -1;
	if (channel_pair(fds) < 0 || channel_pair(channel) < 0 ||
	    pthread_create(&role, NULL, run, &fds[1]) != 0)
		return -1;
	control = fds[0];
	core = channel[0];
	channel_send_fd(control, CONTROL_CONF, 1, span_str(conf), -1);
	channel_send_fd(control, CONTROL_CA, 0, SPAN_NULL, -1);
	channel_send_fd(control, CONTROL_CHANNEL, CONTROL_PEER_CORE, SPAN_NULL, channel[1]);
	channel_send_fd(control, CONTROL_START, 0, SPAN_NULL, -1);
	close(channel[1]);
	if (channel_recv_fd(control, WAIT, &type, &id, &payload, NULL) < 0)
		return -1;
	return type == CONTROL_READY ? 0 : -1;
}

static int stop(void **state)
{
	void *code;
	uint16_t type;
	uint64_t id;

	channel_send_fd(control, CONTROL_DRAIN, 0, SPAN_NULL, -1);
	buf_reset(&payload);
	if (channel_recv_fd(control, WAIT, &type, &id, &payload, NULL) < 0 ||
	    type != CONTROL_DRAINED)
		return -1;
	pthread_join(role, &code);
	close(control);
	close(core);
	close(listener);
	buf_done(&payload);
	arena_done(&mem);
	return (int)(intptr_t)code;
}

static void expect(uint16_t type, uint64_t id)
{
	uint16_t got;
	uint64_t got_id;

	buf_reset(&payload);
	assert_int_equal(channel_recv_fd(core, WAIT, &got, &got_id, &payload, NULL), 0);
	assert_int_equal(got, type);
	assert_int_equal(got_id, id);
}

static struct relay_opened open_to(uint64_t id, const struct sockaddr_any *to, enum relay_tls tls)
{
	struct relay_open o = {
		.to = *to, .helo = SPAN("us.test"), .host = SPAN("mx.test"), .tls = tls
	};
	struct buf b _cleanup_(buf_donep) = BUF_INIT(4096);
	struct relay_opened opened;

	relay_open_put(&b, &o);
	channel_send_fd(core, RELAY_OPEN, id, buf_span(&b), -1);
	expect(RELAY_OPENED, id);
	assert_int_equal(relay_opened_get(buf_span(&payload), &mem, &opened), 0);
	return opened;
}

static struct relay_sent send_on(uint64_t id, span body, int fd, uint64_t size)
{
	struct relay_rcpt rcpts[] = { { .address = SPAN("b@mx.test") },
				      { .address = SPAN("c@mx.test") } };
	struct relay_send s = { .sender = SPAN("a@us.test"),
				.size = size,
				.rcpts = rcpts,
				.n_rcpts = 2,
				.body = body };
	struct buf b _cleanup_(buf_donep) = BUF_INIT(CHANNEL_MAX);
	struct relay_sent sent;

	assert_int_equal(relay_send_put(&b, &s), 0);
	channel_send_fd(core, RELAY_SEND, id, buf_span(&b), fd);
	expect(RELAY_SENT, id);
	assert_int_equal(relay_sent_get(buf_span(&payload), &mem, &sent), 0);
	return sent;
}

static const char *const friendly[][2] = {
	{ "EHLO us.test", "250-mx.test\r\n250-PIPELINING\r\n250 SIZE 10000000\r\n" },
	{ "MAIL", "250 2.1.0 ok\r\n" },
	{ "RCPT TO:<b@", "250 2.1.5 ok\r\n" },
	{ "RCPT TO:<c@", "550 5.1.1 nobody\r\n" },
	{ "DATA", "354 go\r\n" },
	{ ".", "250 2.0.0 queued\r\n" },
	{ "QUIT", "221 bye\r\n" },
	{ NULL, NULL },
};

static void test_two_messages_on_one_connection(void **state)
{
	struct script s = { .greeting = "220 mx.test ESMTP\r\n", .lines = friendly };
	struct relay_opened opened;
	struct relay_sent sent;

	serve_script(&s, 1);
	opened = open_to(1, &address, RELAY_TLS_MAY);
	assert_int_equal(opened.fail, RELAY_FAIL_NONE);
	assert_int_equal(opened.extensions, RELAY_EXT_PIPELINING | RELAY_EXT_SIZE);
	sent = send_on(1, SPAN("one\r\n.two\r\n"), -1, 11);
	assert_int_equal(sent.fail, RELAY_FAIL_NONE);
	assert_int_equal(sent.rcpts[0].code, 250);
	assert_int_equal(sent.rcpts[1].code, 550);
	assert_int_equal(sent.final.code, 250);
	sent = send_on(1, SPAN(""), -1, 0);
	assert_int_equal(sent.final.code, 250);
	channel_send_fd(core, RELAY_CLOSE, 1, SPAN_NULL, -1);
	pthread_join(peer, NULL);
	assert_string_equal(buf_cstr(&s.body), "one\r\n..two\r\n");
	buf_done(&s.body);
}

static void test_body_by_descriptor(void **state)
{
	struct script s = { .greeting = "220 mx.test ESMTP\r\n", .lines = friendly };
	struct buf body _cleanup_(buf_donep) = BUF_INIT(1 << 24);
	int fd = memfd_create("body", MFD_CLOEXEC);

	for (int i = 0; body.n < 3000000; i++)
		buf_printf(&body, "line %d of a message that does not fit into one piece\r\n", i);
	assert_int_equal(file_write_all(fd, buf_span(&body)), 0);
	serve_script(&s, 1);
	open_to(2, &address, RELAY_TLS_NONE);
	assert_int_equal(send_on(2, SPAN_NULL, fd, body.n).final.code, 250);
	close(fd);
	channel_send_fd(core, RELAY_CLOSE, 2, SPAN_NULL, -1);
	pthread_join(peer, NULL);
	assert_true(span_eq(buf_span(&s.body), buf_span(&body)));
	buf_done(&s.body);
}

static void test_failures_to_open(void **state)
{
	static const char *const half_tls[][2] = { { "EHLO", "250-mx\r\n250 STARTTLS\r\n" },
						   { "STARTTLS", "220 go\r\n220 not TLS\r\n" },
						   { NULL, NULL } };
	struct script refusing = { .greeting = "554 5.7.1 no\r\n", .lines = friendly },
		      broken = { .greeting = "220 mx\r\n", .lines = half_tls };
	struct sockaddr_any closed = address;
	struct relay_opened refused;
	int taken = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof closed;

	closed.in.sin_port = 0; /* bound, but nobody listens */
	assert_int_equal(bind(taken, &closed.sa, sock_len(&closed)), 0);
	assert_int_equal(getsockname(taken, &closed.sa, &len), 0);
	refused = open_to(3, &closed, RELAY_TLS_NONE);
	assert_int_equal(refused.fail, RELAY_FAIL_CONNECT);
	assert_true(span_eq_str(refused.why, "Connection refused"));
	close(taken);
	serve_script(&refusing, 1);
	assert_int_equal(open_to(4, &address, RELAY_TLS_NONE).reply.code, 554);
	serve_end(&refusing);
	serve_script(&broken, 1);
	assert_int_equal(open_to(5, &address, RELAY_TLS_MAY).fail, RELAY_FAIL_TLS);
	serve_end(&broken);
}

static void test_peer_goes_away(void **state)
{
	static const char *const fickle[][2] = { { "EHLO", "250 mx\r\n" },
						 { "MAIL", "" },
						 { NULL, NULL } };
	struct script s = { .greeting = "220 mx\r\n", .lines = fickle };
	struct relay_sent sent;

	serve_script(&s, 1);
	assert_int_equal(open_to(6, &address, RELAY_TLS_NONE).fail, RELAY_FAIL_NONE);
	sent = send_on(6, SPAN("x"), -1, 1);
	assert_int_equal(sent.fail, RELAY_FAIL_CLOSED);
	assert_int_equal(sent.mail.code, 0);
	serve_end(&s);
	/* An unknown number is answered too, so that core never waits for ever. */
	sent = send_on(6, SPAN("x"), -1, 1);
	assert_int_equal(sent.fail, RELAY_FAIL_CLOSED);
	assert_int_equal(sent.n_rcpts, 2);
}

static void test_lost_while_parked(void **state)
{
	static const char *const sudden[][2] = { { "EHLO", "250 mx\r\n421 too idle\r\n" },
						 { NULL, NULL } };
	struct script s = { .greeting = "220 mx\r\n", .lines = sudden };

	serve_script(&s, 1);
	assert_int_equal(open_to(7, &address, RELAY_TLS_NONE).fail, RELAY_FAIL_NONE);
	expect(RELAY_LOST, 7);
	serve_end(&s);
}

static void test_dns(void **state)
{
	struct dns_question q = { SPAN("localhost"), DNS_A };
	struct buf b _cleanup_(buf_donep) = BUF_INIT(4096);
	struct dns_answer *a;
	size_t n;

	dns_ask_put(&b, &q, 1);
	channel_send_fd(core, DNS_ASK, 77, buf_span(&b), -1);
	expect(DNS_ANSWER, 77);
	assert_int_equal(dns_answers_get(buf_span(&payload), &mem, &a, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(a[0].status, DNS_OK);
	channel_send_fd(core, DNS_ASK, 78, SPAN("garbage"), -1);
	expect(DNS_ANSWER, 78);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_messages_on_one_connection),
		cmocka_unit_test(test_body_by_descriptor),
		cmocka_unit_test(test_failures_to_open),
		cmocka_unit_test(test_peer_goes_away),
		cmocka_unit_test(test_lost_while_parked),
		cmocka_unit_test(test_dns),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
