/* The main job, shown once: a message from alpha to beta over submission, DNS, MX and into the
 * mailbox. */
#include "lab/lab_int.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/client.h"
#include "base/codec.h"
#include "format/header.h"
#include "sys/file.h"
#include "sys/sock.h"
#include "tls/tls.h"

#define SUBMISSIONS 2 /* index of the port */
#define ARRIVE_MAX  (20 * USEC_SEC)

struct talk {
	struct tls_conn *tls;
	struct buf in;
	struct err_info *info;
};

static int say(struct talk *t, span text)
{
	while (text.n) {
		size_t n = 0;

		if (tls_write(t->tls, text.p, text.n, &n) != TLS_OK)
			return err_set(t->info, ERR_TLS, "the server closed the connection");
		text = span_from(text, n);
	}
	return 0;
}

/* Reads one reply and wants its first digit to be WANT; the reply stays in T->in. */
static int hear(struct talk *t, char want)
{
	buf_reset(&t->in);
	for (;;) {
		span s = buf_span(&t->in), line = s, last = s;
		size_t n = 0;
		char *to;

		while (line.n && span_find(line, '\n') != SPAN_NPOS)
			last = span_cut(&line, '\n');
		if (s.n && s.p[s.n - 1] == '\n' && last.n > 3 && last.p[3] == ' ') {
			if (last.p[0] == want)
				return 0;
			return err_set(t->info, ERR_PROTO, "the server said: %.*s",
				       (int)MIN(last.n - 1, (size_t)150), last.p);
		}
		to = buf_reserve(&t->in, 4096); /* S is not valid any more */
		if (!to || tls_read(t->tls, to, 4096, &n) != TLS_OK)
			return err_set(t->info, ERR_TLS, "the server closed the connection");
		buf_added(&t->in, n);
	}
}

static int step(struct talk *t, char want, const char *fmt, ...) _printf_(3, 4);
static int step(struct talk *t, char want, const char *fmt, ...)
{
	_cleanup_(buf_donep) struct buf line = BUF_INIT(64 * 1024);
	va_list ap;
	int e;

	va_start(ap, fmt);
	buf_vprintf(&line, fmt, ap);
	va_end(ap);
	e = say(t, buf_span(&line));
	return e < 0 ? e : hear(t, want);
}

static int submit(struct talk *t, const struct lab *l, char *ret_id, size_t size)
{
	const struct lab_host *a = &l->hosts[0], *b = &l->hosts[1];
	_cleanup_(buf_donep) struct buf plain = BUF_INIT(1024), auth = BUF_INIT(2048),
					date = BUF_INIT(100);
	span reply, id;
	int e;

	buf_put_char(&plain, 0);
	buf_printf(&plain, "%s@%s", a->users[0], a->domain);
	buf_put_char(&plain, 0);
	buf_put_str(&plain, l->passwords[0][0]);
	base64_encode(&auth, buf_span(&plain));
	date_put(&date, clock_wall(), 0);
	if ((e = hear(t, '2')) < 0 || (e = step(t, '2', "EHLO lab.test\r\n")) < 0 ||
	    (e = step(t, '2', "AUTH PLAIN %s\r\n", buf_cstr(&auth))) < 0 ||
	    (e = step(t, '2', "MAIL FROM:<%s@%s>\r\n", a->users[0], a->domain)) < 0 ||
	    (e = step(t, '2', "RCPT TO:<%s@%s>\r\n", b->users[0], b->domain)) < 0 ||
	    (e = step(t, '3', "DATA\r\n")) < 0 ||
	    (e = step(t, '2',
		      "From: %s <%s@%s>\r\nTo: %s <%s@%s>\r\nDate: %s\r\nSubject: Hello from the "
		      "lab\r\n\r\n"
		      "This message went over submission, DNS, MX and TLS into your "
		      "mailbox.\r\n.\r\n",
		      a->users[0], a->users[0], a->domain, b->users[0], b->users[0], b->domain,
		      buf_cstr(&date))) < 0)
		return e;
	reply = span_trim(buf_span(&t->in));
	id = span_from(reply, span_rfind(reply, ' ') + 1);
	snprintf(ret_id, size, "%.*s", (int)MIN(id.n, size - 1), id.p);
	return step(t, '2', "QUIT\r\n");
}

/* A blocking TLS conversation with alpha's submissions port. */
static int talk_to_alpha(struct lab *l, char *ret_id, size_t size, struct err_info *info)
{
	_cleanup_(buf_donep) struct buf ca = BUF_INIT(64 * 1024);
	_cleanup_(close_fdp) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct talk t = { .in = BUF_INIT(64 * 1024), .info = info };
	struct timeval limit = { .tv_sec = 15 };
	struct tls_client *client;
	struct sockaddr_any to;
	int e;

	sock_parse_ip(SPAN("127.0.0.1"), l->hosts[0].ports[SUBMISSIONS], &to);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	if ((e = file_read(l->ca_path, ca.max, &ca)) < 0 ||
	    (e = tls_client_new(buf_span(&ca), &client, info)) < 0)
		return e;
	if (connect(fd, &to.sa, sock_len(&to)) != 0) {
		e = err_set(info, ERR_IO, "connect: %s", strerror(errno));
	} else {
		t.tls = tls_connect_new(client, fd, span_str(l->hosts[0].name), true);
		e = tls_handshake(t.tls) == TLS_OK
			    ? 0
			    : err_set(info, ERR_TLS, "%s", tls_conn_error(t.tls));
	}
	if (e == 0)
		e = submit(&t, l, ret_id, size);
	tls_conn_free(t.tls);
	tls_client_free(client);
	buf_done(&t.in);
	return e;
}

static void look_for_arrival(void *arg, const json_t *row)
{
	if (span_eq_str(json_str(row, "event"), "store.append"))
		*(bool *)arg = true;
}

static void print_row(void *arg, const json_t *row)
{
	const char *const *who = arg;
	const char *key;
	json_t *value;

	printf("  %s  %.*s  %-16.*s", *who, SPAN_FMT(json_str(row, "time")),
	       SPAN_FMT(json_str(row, "event")));
	json_object_foreach((json_t *)row, key, value)
	{
		_cleanup_(buf_donep) struct buf b = BUF_INIT(4096);

		if (strcmp(key, "id") == 0 || strcmp(key, "time") == 0 || strcmp(key, "event") == 0)
			continue;
		if (json_is_string(value))
			buf_put_escaped(
				&b, span_of(json_string_value(value), json_string_length(value)),
				300);
		else
			buf_printf(&b, "%lld", (long long)json_integer_value(value));
		printf(" %s=%s", key, buf_cstr(&b));
	}
	printf("\n");
}

int lab_demo(struct lab *l, struct err_info *info)
{
	char id[64], to[200];
	static const char *who[] = { "alpha", "beta " };
	usec end = clock_mono() + ARRIVE_MAX;
	bool arrived = false;
	int e = talk_to_alpha(l, id, sizeof id, info);

	if (e < 0)
		return e;
	printf("alpha accepted the message as %s\n", id);
	snprintf(to, sizeof to, "%s@%s", l->hosts[1].users[0], l->hosts[1].domain);
	while (!arrived && clock_mono() < end) {
		json_t *ask = json_pack("{s:s,s:s}", "command", "trace", "key", to);

		(void)admin_ask(l->hosts[1].admin, ask, look_for_arrival, &arrived, NULL, NULL);
		json_decref(ask);
		usleep(100000);
	}
	if (!arrived)
		return err_set(info, ERR_TIMEOUT, "the message did not arrive; see %s/*/log",
			       l->dir);
	json_t *a = json_pack("{s:s,s:s}", "command", "trace", "key", id);
	json_t *b = json_pack("{s:s,s:s}", "command", "trace", "key", to);
	printf("its journey:\n");
	e = admin_ask(l->hosts[0].admin, a, print_row, &who[0], NULL, info);
	if (e == 0)
		e = admin_ask(l->hosts[1].admin, b, print_row, &who[1], NULL, info);
	json_decref(a);
	json_decref(b);
	return e;
}
