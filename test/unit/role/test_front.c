/* The front role between real clients on loopback and a core made of the session table with a toy
 * protocol.  Front speaks the toy through this file's wire:
 *
 *     HI            answered by front
 *     BODY          body lines until "."; each a piece for core
 *     LEAVE         front's own goodbye
 *     anything else one group for core */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "conf/conf.h"
#include "role/control.h"
#include "role/role.h"
#include "role/wires.h"
#include "sys/channel.h"
#include "tls/keys.h"
#include "tls/tls.h"

/* ------------------------------------------------------------------ the toy wire */

struct toy_wire {
	bool body, tls;
};

static void wire_open(void *w, const struct wire_env *env, struct buf *reply)
{
	struct toy_wire *t = w;
	t->tls = env->tls;
	buf_printf(reply, "hello %.*s%s\r\n", SPAN_FMT(env->hostname),
		   env->tls_available ? " starttls" : "");
}

static enum wire_step wire_feed(void *w, span in, size_t *ret_used, struct wire_out *out)
{
	struct toy_wire *t = w;
	size_t end = span_find_span(in, SPAN("\r\n"));
	if (end == SPAN_NPOS)
		return WIRE_MORE;
	span line = span_sub(in, 0, end);
	*ret_used = end + 2;
	if (t->body) {
		t->body = !span_eq_str(line, ".");
		out->body_flags = t->body ? 0 : SESS_BODY_LAST;
		if (t->body)
			buf_put_span(out->body, line);
		return WIRE_BODY;
	}
	if (span_eq_str(line, "HI")) {
		buf_put_str(out->reply, t->tls ? "front tls\r\n" : "front\r\n");
		return WIRE_REPLY;
	}
	if (span_eq_str(line, "BODY")) {
		t->body = true;
		buf_put_str(out->reply, "go\r\n");
		return WIRE_REPLY;
	}
	if (span_eq_str(line, "LEAVE")) {
		buf_put_str(out->reply, "left\r\n");
		out->why = SESS_WHY_EOF;
		return WIRE_CLOSE;
	}
	wire_item_put(out->group, 0, line);
	return WIRE_FORWARD;
}

static void wire_park(void *w, const struct wire_park *p)
{
}

static void wire_tls(void *w, const struct wire_env *env)
{
	*(struct toy_wire *)w = (struct toy_wire){ .tls = env->tls };
}

static void wire_farewell(void *w, enum sess_why why, struct buf *reply)
{
	static const char *const texts[] = { [SESS_WHY_TIMEOUT] = "timeout",
					     [SESS_WHY_CORE] = "core",
					     [SESS_WHY_SHUTDOWN] = "shutdown",
					     [SESS_WHY_ABUSE] = "abuse",
					     [SESS_WHY_RATE] = "rate",
					     [SESS_WHY_EARLY] = "early",
					     [SESS_WHY_PROXY] = "proxy",
					     [SESS_WHY_BANNED] = "banned",
					     [SESS_WHY_LOAD] = "load",
					     [SESS_WHY_TLS] = "" };
	if (why < ARRAY_LEN(texts) && texts[why])
		buf_printf(reply, "farewell %s\r\n", texts[why]);
}

static void wire_done(void *w)
{
}

static const struct wire_ops toy_wire_ops = {
	.proto = SESS_PROTO_SMTP,
	.name = "toy",
	.size = sizeof(struct toy_wire),
	.input_limit = 4096,
	.idle_seconds = 60,
	.preauth_seconds = 1,
	.open = wire_open,
	.feed = wire_feed,
	.park = wire_park,
	.tls = wire_tls,
	.farewell = wire_farewell,
	.done = wire_done,
};

const struct wire_ops *const front_wires[SESS_PROTO_COUNT] = {
	[SESS_PROTO_SMTP] = &toy_wire_ops,
	[SESS_PROTO_SUBMISSION] = &toy_wire_ops,
	[SESS_PROTO_IMAP] = &toy_wire_ops,
	[SESS_PROTO_POP3] = &toy_wire_ops,
	[SESS_PROTO_LOCAL] = &toy_wire_ops,
	[SESS_PROTO_LMTP] = &toy_wire_ops,
};

bool front_established(enum sess_proto proto, uint32_t park_flags)
{
	return true;
}

/* ------------------------------------------------------------------ the toy core */

static atomic_int opened, closed;

static void core_open(struct sess *s)
{
	atomic_fetch_add(&opened, 1);
}

static void core_close(struct sess *s)
{
	atomic_fetch_add(&closed, 1);
}

static enum lane core_lane(struct sess *s, const struct sess_in *in)
{
	return LANE_INTERACTIVE;
}

static void hex(struct buf *b, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf_printf(b, "%02x", p[i]);
}

static void core_command(struct sess *s, span line)
{
	struct wire_park park = { .mode = SESS_MODE_LINES };
	uint64_t n = 0;
	if (span_eq_str(line, "STARTTLS")) {
		sess_starttls(s, SPAN("go tls\r\n"));
		return;
	}
	if (span_eq_str(line, "QUIT")) {
		sess_write(s, SPAN("core left\r\n"));
		sess_close(s);
		return;
	}
	if (span_starts(line, SPAN("BIG ")) && span_u64(span_from(line, 4), 1 << 24, &n)) {
		char block[1000];
		memset(block, 'b', sizeof(block));
		for (; n > 0; n -= MIN(n, sizeof(block)))
			sess_write(s, span_of(block, MIN(n, sizeof(block))));
		park.flags = SESS_PARK_WANT_DRAIN;
	} else if (span_eq_str(line, "SLOW")) {
		usleep(1500 * 1000);
		sess_write(s, SPAN("slow done\r\n"));
	} else if (span_eq_str(line, "TLS")) {
		struct buf *b = sess_out(s);
		buf_printf(b, "%d %04x ", s->tls.active, s->tls.version);
		hex(b, s->tls.exporter, 32);
		buf_put_str(b, "\r\n");
	} else {
		struct buf *b = sess_out(s);
		buf_put_str(b, "core ");
		buf_put_span(b, line);
		buf_put_str(b, "\r\n");
	}
	sess_park(s, &park);
}

static void core_job(struct sess *s, const struct sess_in *in)
{
	struct wire_park park = { .mode = SESS_MODE_LINES };
	struct cursor c = cursor_of(in->data);
	uint8_t flags;
	span line;
	switch (in->kind) {
	case SESS_IN_INPUT:
		assert_true(sess_item_next(&c, &flags, &line));
		core_command(s, line);
		return;
	case SESS_IN_BODY:
		if (in->body_flags & SESS_BODY_LAST)
			sess_write(s, SPAN("body done\r\n"));
		else
			sess_write(s, SPAN("piece\r\n"));
		break;
	case SESS_IN_DRAINED:
		sess_write(s, SPAN("\r\ndrained\r\n"));
		break;
	default:
		break;
	}
	sess_park(s, &park);
}

static const struct sess_ops toy_core_ops = {
	.proto = SESS_PROTO_SMTP,
	.name = "toy",
	.open = core_open,
	.lane = core_lane,
	.job = core_job,
	.close = core_close,
};

struct core {
	struct loop *loop;
	pthread_t thread;
	struct pool *pool;
	struct sess_table *table;
	struct channel *front[2];
};

static void core_message(void *arg, struct channel *ch, struct channel_msg *m)
{
	sess_table_message(((struct core *)arg)->table, ch, m);
}

static void core_front_closed(void *arg, struct channel *ch)
{
	struct core *c = arg;
	sess_table_front_gone(c->table, ch);
	for (int i = 0; i < 2; i++)
		if (c->front[i] == ch)
			c->front[i] = NULL;
	channel_close(ch);
}

static void *core_main(void *arg)
{
	loop_run(((struct core *)arg)->loop);
	return NULL;
}

static struct core *core_new(const int fds[2])
{
	struct core *c = xcalloc(1, sizeof(*c));
	const struct pool_conf pc = { .max_queued = 100 };
	c->loop = loop_new();
	c->pool = pool_new(&pc);
	c->table = sess_table_new(c->pool, NULL);
	sess_table_add_proto(c->table, &toy_core_ops);
	for (int i = 0; i < 2; i++)
		c->front[i] = channel_open(c->loop, fds[i], core_message, core_front_closed, c);
	pthread_create(&c->thread, NULL, core_main, c);
	return c;
}

static void core_free(struct core *c)
{
	loop_stop(c->loop);
	pthread_join(c->thread, NULL);
	for (int i = 0; i < 2; i++)
		if (c->front[i]) {
			sess_table_front_gone(c->table, c->front[i]);
			channel_close(c->front[i]);
		}
	pool_free(c->pool);
	sess_table_free(c->table);
	loop_free(c->loop);
	free(c);
}

/* ------------------------------------------------------------------ conf, as far as front asks */

static uint32_t max_per_ip;
static char data_dir[] = "/tmp/postrider-front-XXXXXX", keys_dir[64];

int conf_parse(span text, const char *file, struct conf **ret, struct err_info *info)
{
	struct conf *c = xcalloc(1, sizeof(*c));
	c->refs = 1;
	c->hostname = SPAN("mx.test");
	c->data_dir = span_str(data_dir);
	c->max_message = 1 << 20;
	c->max_connections = 100;
	c->max_per_ip = max_per_ip;
	c->net_factor = 100;
	c->preauth_timeout = 3600 * USEC_SEC;
	c->front_memory = 256 << 20;
	*ret = c;
	return 0;
}

struct conf *conf_ref(struct conf *c)
{
	__atomic_fetch_add(&c->refs, 1, __ATOMIC_ACQ_REL);
	return c;
}

void conf_unref(struct conf *c)
{
	if (c && __atomic_fetch_sub(&c->refs, 1, __ATOMIC_ACQ_REL) == 1)
		free(c);
}

/* ------------------------------------------------------------------ the stage */

struct stage {
	int control, keys_control; /* parent's ends */
	int front_end, keys_end;
	pthread_t front, keys;
	struct core *core;
	struct sockaddr_any clear, tls;
	int log[2];
	struct buf ca_pem;
	struct tls_client *client;
	bool joined;
	pid_t pids[2]; /* the roles as confined processes instead of threads */
};

static void *front_main(void *arg)
{
	struct stage *s = arg;
	return (void *)(intptr_t)role_front(s->front_end, true);
}

static void *keys_main(void *arg)
{
	struct stage *s = arg;
	return (void *)(intptr_t)role_keys(s->keys_end, true);
}

static void tell(int control, uint16_t type, uint64_t id, span payload, int fd)
{
	assert_int_equal(channel_send_fd(control, type, id, payload, fd), 0);
}

static void expect(int control, uint16_t type)
{
	struct buf b = BUF_INIT(CHANNEL_MAX);
	uint16_t got;
	uint64_t id;
	assert_true(channel_recv_fd(control, 20 * USEC_SEC, &got, &id, &b, NULL) >= 0);
	assert_int_equal(got, type);
	buf_done(&b);
}

static void listen_on(struct stage *s, struct sockaddr_any *ret, bool implicit)
{
	socklen_t n = sizeof(*ret);
	struct sockaddr_any a;
	assert_int_equal(sock_parse_ip(SPAN("127.0.0.1"), 0, &a), 0);
	int fd = sock_listen(&a, 64, NULL);
	assert_true(fd >= 0);
	assert_int_equal(getsockname(fd, &ret->sa, &n), 0);
	tell(s->control, CONTROL_LISTEN, SESS_PROTO_SMTP | (uint64_t)implicit << 8, SPAN_NULL, fd);
	close(fd);
}

static void give_channels(struct stage *s)
{
	int ours[2], pair[2];
	for (int i = 0; i < 2; i++) {
		assert_int_equal(channel_pair(pair), 0);
		tell(s->control, CONTROL_CHANNEL, CONTROL_PEER_CORE, SPAN_NULL, pair[0]);
		close(pair[0]);
		ours[i] = pair[1];
	}
	s->core = core_new(ours);
}

static void give_certificate(struct stage *s)
{
	const span name = SPAN("mx.test");
	struct keys_ca *ca = NULL;
	struct buf cert = BUF_INIT(65536), key = BUF_INIT(65536);
	buf_reset(&s->ca_pem);
	assert_int_equal(keys_ca_new(SPAN("CA"), clock_wall(), 2, &ca, &s->ca_pem), 0);
	assert_int_equal(keys_ca_issue(ca, &name, 1, NULL, 0, clock_wall(), 2, &cert, &key), 0);
	tell(s->keys_control, CONTROL_KEY, 3, buf_span(&key), -1);
	tell(s->control, CONTROL_CERT, 3, buf_span(&cert), -1);
	tell(s->control, CONTROL_CERTS_END, 0, SPAN_NULL, -1);
	keys_ca_free(ca);
	buf_done(&cert);
	buf_done(&key);
}

static pid_t start_process(struct stage *s, int (*run)(int control, bool single), int control)
{
	pid_t pid = fork();
	if (pid == 0) {
		close(s->control); /* or the end of the test would not be seen */
		close(s->keys_control);
		_exit(run(control, false));
	}
	return pid;
}

static int setup_as(void **state, bool confined)
{
	struct stage *s = xcalloc(1, sizeof(*s));
	int a[2], b[2], pair[2];
	*state = s;
	atomic_store(&opened, 0);
	atomic_store(&closed, 0);
	max_per_ip = 10;
	s->ca_pem = BUF_INIT(65536);
	assert_int_equal(pipe2(s->log, O_CLOEXEC | O_NONBLOCK), 0);
	log_setup("test", LOG_INFO, LOG_LOGFMT, s->log[1]);
	assert_int_equal(tls_init(NULL), 0);
	assert_int_equal(channel_pair(a), 0);
	assert_int_equal(channel_pair(b), 0);
	s->control = a[0];
	s->front_end = a[1];
	s->keys_control = b[0];
	s->keys_end = b[1];
	if (confined) {
		s->pids[0] = start_process(s, role_front, s->front_end);
		s->pids[1] = start_process(s, role_keys, s->keys_end);
	} else {
		pthread_create(&s->front, NULL, front_main, s);
		pthread_create(&s->keys, NULL, keys_main, s);
	}
	tell(s->control, CONTROL_CONF, 1, SPAN("x"), -1);
	tell(s->keys_control, CONTROL_CONF, 1, SPAN("x"), -1);
	for (int i = 0; i < CONTROL_KEYS_CHANNELS; i++) {
		assert_int_equal(channel_pair(pair), 0);
		tell(s->control, CONTROL_CHANNEL, CONTROL_PEER_KEYS, SPAN_NULL, pair[0]);
		tell(s->keys_control, CONTROL_CHANNEL, CONTROL_PEER_FRONT, SPAN_NULL, pair[1]);
		close(pair[0]);
		close(pair[1]);
	}
	give_certificate(s);
	listen_on(s, &s->clear, false);
	listen_on(s, &s->tls, true);
	give_channels(s);
	tell(s->keys_control, CONTROL_START, 0, SPAN_NULL, -1);
	expect(s->keys_control, CONTROL_READY);
	tell(s->control, CONTROL_START, 0, SPAN_NULL, -1);
	expect(s->control, CONTROL_READY);
	assert_int_equal(tls_client_new(buf_span(&s->ca_pem), &s->client, NULL), 0);
	return 0;
}

static int setup(void **state)
{
	return setup_as(state, false);
}

static int setup_confined(void **state)
{
	return setup_as(state, true);
}

static int teardown(void **state)
{
	struct stage *s = *state;
	void *code;
	close(s->control);
	close(s->keys_control);
	for (int i = 0; i < 2 && s->pids[i]; i++)
		waitpid(s->pids[i], NULL, 0);
	if (!s->joined && !s->pids[0])
		pthread_join(s->front, &code);
	if (!s->pids[0])
		pthread_join(s->keys, &code);
	close(s->front_end);
	close(s->keys_end);
	if (s->core)
		core_free(s->core);
	log_setup("test", LOG_INFO, LOG_LOGFMT, STDERR_FILENO);
	close(s->log[0]);
	close(s->log[1]);
	buf_done(&s->ca_pem);
	tls_client_free(s->client);
	free(s);
	return 0;
}

/* ------------------------------------------------------------------ clients */

struct client {
	int fd;
	struct tls_conn *tls;
	char in[4096];
	size_t n;
};

static void dial(struct client *c, const struct sockaddr_any *to)
{
	struct timeval limit = { .tv_sec = 15 };
	*c = (struct client){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	assert_int_equal(connect(c->fd, &to->sa, sock_len(to)), 0);
}

static void say(struct client *c, const char *text)
{
	size_t n = 0;
	if (c->tls)
		assert_int_equal(tls_write(c->tls, text, strlen(text), &n), TLS_OK);
	else
		assert_int_equal(send(c->fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* More bytes of the server; 0 at its end. */
static size_t hear(struct client *c, void *p, size_t max)
{
	size_t n = 0;
	if (!c->tls) {
		ssize_t r = recv(c->fd, p, max, 0);
		assert_true(r >= 0 || errno == ECONNRESET);
		return r > 0 ? (size_t)r : 0;
	}
	enum tls_result r = tls_read(c->tls, p, max, &n);
	assert_true(r == TLS_OK || r == TLS_EOF);
	return n;
}

static void hear_line(struct client *c, const char *want)
{
	size_t end;
	while ((end = span_find_span(span_of(c->in, c->n), SPAN("\r\n"))) == SPAN_NPOS) {
		size_t n = hear(c, c->in + c->n, sizeof(c->in) - c->n);
		if (n == 0)
			fail_msg("the end instead of \"%s\"", want);
		c->n += n;
	}
	c->in[end] = 0;
	assert_string_equal(c->in, want);
	memmove(c->in, c->in + end + 2, c->n - end - 2);
	c->n -= end + 2;
}

static void hear_end(struct client *c)
{
	assert_int_equal(c->n, 0);
	assert_int_equal(hear(c, c->in, sizeof(c->in)), 0);
}

static void hang_up(struct client *c)
{
	tls_conn_free(c->tls);
	close(c->fd);
}

static void shake(struct client *c, struct stage *s)
{
	c->tls = tls_connect_new(s->client, c->fd, SPAN("mx.test"), true);
	assert_int_equal(tls_handshake(c->tls), TLS_OK); /* the socket blocks */
}

static void wait_for(atomic_int *what, int n)
{
	for (int i = 0; i < 1000 && atomic_load(what) != n; i++)
		usleep(5000);
	assert_int_equal(atomic_load(what), n);
}

static void expect_log(struct stage *s, const char *what)
{
	static char text[65536];
	ssize_t n = read(s->log[0], text, sizeof(text) - 1);
	text[MAX(n, (ssize_t)0)] = 0;
	if (!strstr(text, what))
		fail_msg("no \"%s\" in the log:\n%s", what, text);
}

/* ------------------------------------------------------------------ tests */

static void test_opens_lazily(void **state)
{
	struct stage *s = *state;
	struct client c;
	dial(&c, &s->clear);
	hear_line(&c, "hello mx.test starttls");
	say(&c, "HI\r\n");
	hear_line(&c, "front");
	assert_int_equal(atomic_load(&opened), 0);
	say(&c, "one\r\ntwo\r\nHI\r\nthree\r\n"); /* pipelined: in order */
	hear_line(&c, "core one");
	hear_line(&c, "core two");
	hear_line(&c, "front");
	hear_line(&c, "core three");
	assert_int_equal(atomic_load(&opened), 1);
	say(&c, "QUIT\r\n");
	hear_line(&c, "core left");
	hear_end(&c);
	wait_for(&closed, 1);
	hang_up(&c);

	dial(&c, &s->clear);
	hear_line(&c, "hello mx.test starttls");
	say(&c, "LEAVE\r\n");
	hear_line(&c, "left");
	hear_end(&c);
	hang_up(&c);
	assert_int_equal(atomic_load(&opened), 1);
}

static void test_one_byte_at_a_time(void **state)
{
	static const char text[] = "HI\r\nx y\r\nBODY\r\na\r\nb\r\n.\r\nHI\r\n";
	struct stage *s = *state;
	struct client c;
	int one = 1;
	dial(&c, &s->clear);
	setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	hear_line(&c, "hello mx.test starttls");
	for (size_t i = 0; i + 1 < sizeof(text); i++) {
		const char byte[2] = { text[i] };
		say(&c, byte);
		if (i % 3 == 0)
			usleep(1000);
	}
	static const char *const answers[] = { "front", "core x y",  "go",   "piece",
					       "piece", "body done", "front" };
	for (size_t i = 0; i < ARRAY_LEN(answers); i++)
		hear_line(&c, answers[i]);
	hang_up(&c);
	wait_for(&closed, 1);
}

static void test_half_closed_peer_gets_its_answers(void **state)
{
	struct stage *s = *state;
	struct client c;
	dial(&c, &s->clear);
	say(&c, "a\r\nb\r\nc");
	shutdown(c.fd, SHUT_WR);
	hear_line(&c, "hello mx.test starttls");
	hear_line(&c, "core a");
	hear_line(&c, "core b");
	hear_end(&c);
	hang_up(&c);
	wait_for(&closed, 1);
}

static void test_starttls_drops_clear_bytes(void **state)
{
	struct stage *s = *state;
	struct client c;
	dial(&c, &s->clear);
	hear_line(&c, "hello mx.test starttls");
	say(&c, "STARTTLS\r\nevil\r\n");
	hear_line(&c, "go tls");
	assert_int_equal(c.n, 0);
	shake(&c, s);
	say(&c, "HI\r\n");
	hear_line(&c, "front tls"); /* and nothing of "evil" */
	struct sess_tls facts;
	struct buf want = BUF_INIT(1000);
	tls_conn_facts(c.tls, &facts);
	buf_put_str(&want, "1 0304 ");
	hex(&want, facts.exporter, 32);
	say(&c, "TLS\r\n");
	hear_line(&c, buf_cstr(&want));
	buf_done(&want);
	expect_log(s, "bytes=6");
	say(&c, "STARTTLS\r\n"); /* a second layer does not exist */
	hear_line(&c, "farewell core");
	hear_end(&c);
	hang_up(&c);
	wait_for(&closed, 1);
}

static void test_implicit_tls(void **state)
{
	struct stage *s = *state;
	struct client c, clear;
	dial(&c, &s->tls);
	shake(&c, s);
	hear_line(&c, "hello mx.test");
	say(&c, "HI\r\nBIG 300000\r\n");
	hear_line(&c, "front tls");
	size_t got = c.n;
	static char block[65536];
	while (got < 300000) {
		size_t n = hear(&c, block, MIN(sizeof(block), 300000 - got));
		assert_true(n > 0);
		got += n;
	}
	c.n = 0;
	hear_line(&c, "");
	hear_line(&c, "drained");

	dial(&clear, &s->tls);
	say(&clear, "HI\r\nHI\r\n");
	while (hear(&clear, clear.in, sizeof(clear.in)) > 0) /* an alert, perhaps */
		;
	hang_up(&clear);
	hang_up(&c);
	wait_for(&closed, 1);
}

static void test_new_certificate(void **state)
{
	struct stage *s = *state;
	struct client old, c;
	dial(&old, &s->tls);
	shake(&old, s);
	hear_line(&old, "hello mx.test");
	give_certificate(s);
	tls_client_free(s->client);
	assert_int_equal(tls_client_new(buf_span(&s->ca_pem), &s->client, NULL), 0);
	/* Reload has no answer; try until it has taken place. */
	bool ok = false;
	for (int i = 0; i < 100 && !ok; i++) {
		usleep(20000);
		dial(&c, &s->tls);
		c.tls = tls_connect_new(s->client, c.fd, SPAN("mx.test"), true);
		ok = tls_handshake(c.tls) == TLS_OK;
		if (!ok)
			hang_up(&c);
	}
	assert_true(ok);
	hear_line(&c, "hello mx.test");
	say(&old, "HI\r\n");
	hear_line(&old, "front tls");
	hang_up(&old);
	hang_up(&c);
}

static void test_large_output_to_a_slow_reader(void **state)
{
	struct stage *s = *state;
	struct client c;
	static char block[65536];
	dial(&c, &s->clear);
	hear_line(&c, "hello mx.test starttls");
	say(&c, "BIG 6000000\r\nafter\r\n");
	usleep(300 * 1000); /* the sockets fill, the rest waits in the rope */
	for (size_t got = c.n; got < 6000000;) {
		size_t n = hear(&c, block, MIN(sizeof(block), 6000000 - got));
		assert_true(n > 0);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(block[i], 'b');
		got += n;
	}
	c.n = 0;
	hear_line(&c, "");
	hear_line(&c, "drained");
	hear_line(&c, "core after"); /* was not forwarded before */
	hang_up(&c);
	wait_for(&closed, 1);
}

static void test_too_much_output_closes(void **state)
{
	struct stage *s = *state;
	struct client c;
	dial(&c, &s->clear);
	hear_line(&c, "hello mx.test starttls");
	say(&c, "BIG 16000000\r\n");
	wait_for(&closed, 1); /* nobody reads: the rope passes its limit */
	hang_up(&c);
}

static void test_flood_without_reading(void **state)
{
	struct stage *s = *state;
	struct client c;
	static char flood[4000];
	dial(&c, &s->clear);
	for (size_t i = 0; i < sizeof(flood); i += 4)
		memcpy(flood + i, "HI\r\n", 4);
	fcntl(c.fd, F_SETFL, O_NONBLOCK);
	/* Front stops reading when its answers are not taken, so this blocks in the end. */
	size_t sent = 0, stuck = 0;
	while (stuck < 20 && sent < (64u << 20)) {
		ssize_t n = send(c.fd, flood, sizeof(flood), MSG_NOSIGNAL);
		assert_true(n > 0 || errno == EAGAIN);
		if (n > 0) {
			sent += (size_t)n;
			stuck = 0;
		} else {
			stuck++;
			usleep(10000);
		}
	}
	assert_int_equal(stuck, 20);
	hang_up(&c);
}

static void test_too_long_a_line(void **state)
{
	struct stage *s = *state;
	struct client c;
	static char line[9000];
	memset(line, 'x', sizeof(line) - 1);
	dial(&c, &s->clear);
	hear_line(&c, "hello mx.test starttls");
	say(&c, line);
	hear_line(&c, "farewell abuse");
	hear_end(&c);
	hang_up(&c);
}

static void test_preauth_timeout(void **state)
{
	struct stage *s = *state;
	struct client c;
	usec before = clock_mono();
	dial(&c, &s->clear);
	hear_line(&c, "hello mx.test starttls");
	for (int i = 0; i < 4; i++) { /* a drip is no progress */
		say(&c, "x");
		usleep(200 * 1000);
	}
	hear_line(&c, "farewell timeout");
	hear_end(&c);
	assert_true(clock_mono() - before < 5 * USEC_SEC);
	hang_up(&c);
}

static void test_per_ip_limit(void **state)
{
	struct stage *s = *state;
	struct client c[11];
	for (int i = 0; i < 10; i++) {
		dial(&c[i], &s->clear);
		hear_line(&c[i], "hello mx.test starttls");
	}
	dial(&c[10], &s->clear);
	hear_line(&c[10], "farewell rate");
	hear_end(&c[10]);
	for (int i = 0; i < 11; i++)
		hang_up(&c[i]);
	for (int i = 0; i < 100; i++) { /* the places come back */
		dial(&c[0], &s->clear);
		bool welcome = hear(&c[0], c[0].in, 5) && memcmp(c[0].in, "hello", 5) == 0;
		hang_up(&c[0]);
		if (welcome)
			return;
		usleep(20000);
	}
	fail_msg("no place came back");
}

static void test_core_dies_and_returns(void **state)
{
	struct stage *s = *state;
	struct client a, b;
	dial(&a, &s->clear);
	hear_line(&a, "hello mx.test starttls");
	say(&a, "one\r\n");
	hear_line(&a, "core one");
	dial(&b, &s->clear); /* on the other loop */
	hear_line(&b, "hello mx.test starttls");
	core_free(s->core);
	s->core = NULL;
	hear_line(&a, "farewell core");
	hear_end(&a);
	hear_line(&b, "farewell core");
	hear_end(&b);
	hang_up(&a);
	hang_up(&b);
	dial(&a, &s->clear);
	hear_line(&a, "farewell core");
	hear_end(&a);
	hang_up(&a);
	give_channels(s);
	for (int i = 0; i < 100; i++) {
		dial(&a, &s->clear);
		if (hear(&a, a.in, 5) && memcmp(a.in, "hello", 5) == 0)
			break;
		hang_up(&a);
		usleep(20000);
	}
	hear_line(&a, " mx.test starttls");
	say(&a, "again\r\n");
	hear_line(&a, "core again");
	hang_up(&a);
}

static void test_drain(void **state)
{
	struct stage *s = *state;
	struct client idle, busy, silent;
	void *code = NULL;
	dial(&silent, &s->tls); /* never begins its handshake, and holds nobody up */
	dial(&idle, &s->clear);
	hear_line(&idle, "hello mx.test starttls");
	say(&idle, "x\r\n"); /* established: the long time-out */
	hear_line(&idle, "core x");
	dial(&busy, &s->clear);
	hear_line(&busy, "hello mx.test starttls");
	say(&busy, "SLOW\r\n");
	usleep(100 * 1000);
	tell(s->control, CONTROL_DRAIN, 0, SPAN_NULL, -1);
	hear_line(&idle, "farewell shutdown");
	hear_end(&idle);
	hear_line(&busy, "slow done");
	hear_line(&busy, "farewell shutdown");
	hear_end(&busy);
	hear_end(&silent);
	hang_up(&silent);
	hang_up(&idle);
	hang_up(&busy);
	expect(s->control, CONTROL_DRAINED);
	pthread_join(s->front, &code);
	s->joined = true;
	assert_null(code);
}

/* The same under Landlock and seccomp, as processes: everything front and keys need is allowed. */
static void test_confined(void **state)
{
	struct stage *s = *state;
	struct client c;
	static char block[65536];
	for (int round = 0; round < 2; round++) {
		dial(&c, round ? &s->clear : &s->tls);
		if (round) {
			hear_line(&c, "hello mx.test starttls");
			say(&c, "STARTTLS\r\n");
			hear_line(&c, "go tls");
			shake(&c, s);
		} else {
			shake(&c, s);
			hear_line(&c, "hello mx.test");
		}
		say(&c, "HI\r\nBIG 3000000\r\n");
		hear_line(&c, "front tls");
		for (size_t got = c.n; got < 3000000;) {
			size_t n = hear(&c, block, MIN(sizeof(block), 3000000 - got));
			assert_true(n > 0);
			got += n;
		}
		c.n = 0;
		hear_line(&c, "");
		hear_line(&c, "drained");
		hang_up(&c);
		give_certificate(s); /* a reload behind the lock */
		tls_client_free(s->client);
		assert_int_equal(tls_client_new(buf_span(&s->ca_pem), &s->client, NULL), 0);
		usleep(300 * 1000);
	}
	const int controls[2] = { s->control, s->keys_control };
	for (int i = 0; i < 2; i++) {
		int status = -1;
		tell(controls[i], CONTROL_DRAIN, 0, SPAN_NULL, -1);
		expect(controls[i], CONTROL_DRAINED);
		assert_int_equal(waitpid(s->pids[i], &status, 0), s->pids[i]);
		assert_int_equal(status, 0);
	}
}

#define ON_STAGE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_STAGE(test_opens_lazily),
		ON_STAGE(test_one_byte_at_a_time),
		ON_STAGE(test_half_closed_peer_gets_its_answers),
		ON_STAGE(test_starttls_drops_clear_bytes),
		ON_STAGE(test_implicit_tls),
		ON_STAGE(test_new_certificate),
		ON_STAGE(test_large_output_to_a_slow_reader),
		ON_STAGE(test_too_much_output_closes),
		ON_STAGE(test_flood_without_reading),
		ON_STAGE(test_too_long_a_line),
		ON_STAGE(test_preauth_timeout),
		ON_STAGE(test_per_ip_limit),
		ON_STAGE(test_core_dies_and_returns),
		ON_STAGE(test_drain),
		cmocka_unit_test_setup_teardown(test_confined, setup_confined, teardown),
	};
	signal(SIGPIPE, SIG_IGN); /* as main.c does */
	assert_non_null(mkdtemp(data_dir));
	snprintf(keys_dir, sizeof(keys_dir), "%s/keys", data_dir); /* the keys role enters it */
	assert_int_equal(mkdir(keys_dir, 0700), 0);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(keys_dir);
	rmdir(data_dir);
	return failed;
}
