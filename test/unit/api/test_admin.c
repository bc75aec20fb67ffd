/* The admin socket over real databases: its requests, its refusals, and the client that asks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>
#include <poll.h>
#include <pthread.h>

#include "api/admin.h"
#include "api/client.h"
#include "format/json.h"
#include "sys/sock.h"

#define TOO_LONG (65u * 1024)

struct world {
	char dir[64], paths[3][96];
	struct core_env env;
	struct conf *conf;
	unsigned kicks, reloads, stops;
	usec offset;
};

static struct world w;

static struct conf *conf_now(struct core_env *env)
{
	(void)env;
	return conf_ref(w.conf);
}

static void on_kick(void *arg)
{
	((struct world *)arg)->kicks++;
}

static int on_reload(void *arg, struct err_info *info)
{
	if (((struct world *)arg)->reloads++ == 0)
		return 0;
	return err_set(info, ERR_INVAL, "postrider.yaml:7:3: unknown key");
}

static void on_stop(void *arg)
{
	((struct world *)arg)->stops++;
}

static void on_clock(void *arg, usec offset)
{
	((struct world *)arg)->offset = offset;
}

static size_t on_sessions(void *arg)
{
	(void)arg;
	return 7;
}

static struct admin_hooks hooks = { .arg = &w,
				    .reload = on_reload,
				    .stop = on_stop,
				    .relay_kick = on_kick,
				    .sessions = on_sessions };

static int setup(void **state)
{
	struct err_info info = { 0 };
	struct store_conf store = { .max_open = 16, .inline_max = 4096 };
	struct queue_conf queue = { .shards = 1,
				    .inline_max = 4096,
				    .retry_first = USEC_SEC,
				    .retry_max = USEC_SEC,
				    .lifetime = 60 * USEC_SEC,
				    .retry_factor_percent = 200 };
	struct events_conf events = { .retention = 3600 * USEC_SEC };

	snprintf(w.dir, sizeof w.dir, "/tmp/test-api-XXXXXX");
	assert_non_null(mkdtemp(w.dir));
	snprintf(w.paths[0], sizeof w.paths[0], "%s/directory.db", w.dir);
	if (directory_open(w.paths[0], &w.env.directory, &info) < 0)
		fail_msg("%s", info.text);
	snprintf(w.paths[0], sizeof w.paths[0], "%s/accounts", w.dir);
	snprintf(w.paths[1], sizeof w.paths[1], "%s/queue", w.dir);
	snprintf(w.paths[2], sizeof w.paths[2], "%s/events", w.dir);
	store.dir = w.paths[0];
	queue.dir = w.paths[1];
	events.dir = w.paths[2];
	if (store_open(&store, &w.env.store, &info) < 0 ||
	    queue_open(&queue, &w.env.queue, &info) < 0 ||
	    events_open(&events, &w.env.events, &info) < 0 ||
	    conf_parse(SPAN("server.hostname: mx.example.org"), "f", &w.conf, &info) < 0)
		fail_msg("%s", info.text);
	w.env.conf = conf_now;
	return 0;
}

static int teardown(void **state)
{
	char cmd[128];

	events_close(w.env.events);
	queue_close(w.env.queue);
	store_close(w.env.store);
	directory_close(w.env.directory);
	conf_unref(w.conf);
	snprintf(cmd, sizeof cmd, "rm -rf %s", w.dir);
	return system(cmd);
}

/* What the server says to the bytes REQUEST: its last line, after N_ROWS others; the caller owns
 * it. ROW, if given, gets the last of the others. */
static json_t *say(span request, size_t want_rows, json_t **row)
{
	_cleanup_(buf_donep) struct buf in = BUF_INIT(4 * 1024 * 1024);
	json_t *last = NULL, *before = NULL;
	size_t rows = 0;
	int fds[2];
	ssize_t n;
	span rest;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(send(fds[0], request.p, request.n, MSG_NOSIGNAL), request.n);
	shutdown(fds[0], SHUT_WR);
	admin_serve(&w.env, &hooks, fds[1]);
	do {
		char *to = buf_reserve(&in, 65536);

		n = recv(fds[0], to, 65536, 0);
		buf_added(&in, n > 0 ? (size_t)n : 0);
	} while (n > 0);
	close(fds[0]);
	for (rest = buf_span(&in); rest.n; rows++) {
		json_decref(before);
		before = last;
		last = json_parse(span_cut(&rest, '\n'), NULL);
		assert_non_null(last);
	}
	if (row)
		*row = json_incref(before);
	json_decref(before);
	assert_int_equal(rows, last ? want_rows + 1 : 0);
	return last;
}

static void ok(const char *request, size_t rows)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(4096);
	json_t *j;

	buf_printf(&b, "%s\n", request);
	j = say(buf_span(&b), rows, NULL);
	if (!json_bool(j, "ok", false))
		fail_msg("%s: %s", request, json_string_value(json_object_get(j, "error")));
	json_decref(j);
}

static void refused(const char *request, int exit_code, const char *why)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(4096);
	json_t *j;

	buf_printf(&b, "%s\n", request);
	j = say(buf_span(&b), 0, NULL);
	assert_false(json_bool(j, "ok", true));
	assert_string_equal(json_string_value(json_object_get(j, "error")), why);
	assert_int_equal(json_int(j, "exit", 0), exit_code);
	json_decref(j);
}

static void test_malformed(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1024 * 1024);
	json_t *j;

	refused("", EX_USAGE, "the request is not a JSON object");
	refused("[]", EX_USAGE, "the request is not a JSON object");
	refused("\"status\"", EX_USAGE, "the request is not a JSON object");
	refused("{\"command\":", EX_USAGE, "the request is not a JSON object");
	refused("{\"command\":\"status\",\"command\":\"stop\"}", EX_USAGE,
		"the request is not a JSON object");
	refused("{\"command\":\"\xff\"}", EX_USAGE, "the request is not a JSON object");
	refused("{}", EX_USAGE, "command is missing");
	refused("{\"command\":1}", EX_USAGE, "command is missing");
	refused("{\"command\":\"sta\\ntus\"}", EX_USAGE, "there is no command \"sta\\ntus\"");
	assert_int_equal(w.stops, 0);
	/* No line at all: nobody is there to be answered. */
	assert_null(say(SPAN("{\"command\":\"status\"}"), 0, NULL));
	assert_null(say(SPAN(""), 0, NULL));
	while (b.n < TOO_LONG)
		buf_put_str(&b, "{\"command\":\"status\"}");
	j = say(buf_span(&b), 0, NULL);
	assert_string_equal(json_string_value(json_object_get(j, "error")),
			    "a request has at most 65536 bytes");
	json_decref(j);
}

static void test_directory(void **state)
{
	json_t *row, *j;

	refused("{\"command\":\"domain add\"}", EX_USAGE, "domain is missing");
	ok("{\"command\":\"domain add\",\"domain\":\"example.org\"}", 0);
	refused("{\"command\":\"domain add\",\"domain\":\"example.org\"}", EX_CANTCREAT,
		"the domain exists already");
	ok("{\"command\":\"account add\",\"address\":\"ann@example.org\",\"password\":\"a b\"}", 1);
	refused("{\"command\":\"account add\",\"address\":\"bob@example.org\",\"from\":\"all\"}",
		EX_USAGE, "from: expected owned, any or default");
	ok("{\"command\":\"account list\"}", 1);
	refused("{\"command\":\"account list\",\"domain\":\"example.com\"}", EX_NOUSER,
		"there is no domain example.com here");
	refused("{\"command\":\"account set\",\"address\":\"ann@example.org\"}", EX_USAGE,
		"say what to change: --from, --quota, --suspended or --app-only");
	refused("{\"command\":\"account set\",\"address\":\"ann@example.org\",\"suspended\":\"x\"}",
		EX_USAGE, "suspended: expected yes or no");
	ok("{\"command\":\"account set\",\"address\":\"ann@example.org\",\"suspended\":\"yes\"}",
	   0);
	j = say(SPAN("{\"command\":\"account list\"}\n"), 1, &row);
	assert_true(json_bool(row, "suspended", false));
	assert_false(json_bool(row, "missing", true));
	json_decref(row);
	json_decref(j);
	ok("{\"command\":\"domain set\",\"domain\":\"example.org\",\"subaddress\":\"no\","
	   "\"catch_all\":\"ann@example.org\"}",
	   0);
	j = say(SPAN("{\"command\":\"domain list\"}\n"), 1, &row);
	assert_false(json_bool(row, "subaddress", true));
	assert_true(span_eq_str(json_str(row, "catch_all"), "ann@example.org"));
	json_decref(row);
	json_decref(j);
	refused("{\"command\":\"alias add\",\"address\":\"a@example.org\"}", EX_USAGE,
		"an alias needs 1 to 1000 targets");
	refused("{\"command\":\"alias add\",\"address\":\"a@example.org\",\"targets\":[1]}",
		EX_USAGE, "a target is empty");
	ok("{\"command\":\"alias add\",\"address\":\"a@example.org\",\"targets\":[\"b@c.org\"]}",
	   0);
	ok("{\"command\":\"alias list\"}", 1);
	ok("{\"command\":\"alias rm\",\"address\":\"a@example.org\"}", 0);
	ok("{\"command\":\"account rm\",\"address\":\"ann@example.org\"}", 1);
	refused("{\"command\":\"account rm\",\"address\":\"ann@example.org\"}", EX_NOUSER,
		"there is no such account");
	ok("{\"command\":\"account list\"}", 0);
}

static void assert_row(const char *request, const char *part)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(4096);
	json_t *row, *j;
	char *text;

	buf_printf(&b, "%s\n", request);
	j = say(buf_span(&b), 1, &row);
	text = json_dumps(row, JSON_COMPACT | JSON_SORT_KEYS);
	if (!strstr(text, part))
		fail_msg("%s: %s is not in %s", request, part, text);
	free(text);
	json_decref(row);
	json_decref(j);
}

static void test_routing(void **state)
{
	ok("{\"command\":\"domain rm\",\"domain\":\"example.org\"}", 0);
	ok("{\"command\":\"domain "
	   "add\",\"domain\":\"a.org\",\"unknown_to\":\"smtp:[192.0.2.1]:25\"}",
	   0);
	assert_row("{\"command\":\"domain list\"}", "\"unknown_to\":\"smtp:[192.0.2.1]:25\"");
	refused("{\"command\":\"domain set\",\"domain\":\"a.org\",\"unknown_to\":\"via:nobody\"}",
		EX_USAGE,
		"unknown_to: expected smtp:[HOST]:PORT, lmtp:[HOST]:PORT, smtp:DOMAIN, mx, or "
		"via:NAME with a name of relay.hosts");
	ok("{\"command\":\"domain set\",\"domain\":\"a.org\",\"backup\":\"no\"}", 0);
	assert_row("{\"command\":\"domain list\"}", "\"unknown_to\":\"\"");
	ok("{\"command\":\"domain "
	   "set\",\"domain\":\"a.org\",\"backup\":true,\"known_only\":\"yes\"}",
	   0);
	assert_row("{\"command\":\"domain list\"}", "\"unknown_to\":\"mx\"");
	ok("{\"command\":\"account add\",\"address\":\"ann@a.org\",\"quota\":\"5G\"}", 1);
	assert_row("{\"command\":\"account list\"}", "\"quota\":5368709120");
	refused("{\"command\":\"account set\",\"address\":\"ann@a.org\",\"quota\":\"lots\"}",
		EX_USAGE, "quota: expected a size such as 5G, or none");
	ok("{\"command\":\"account set\",\"address\":\"ann@a.org\",\"quota\":\"none\"}", 0);
	assert_row("{\"command\":\"account list\"}", "\"quota\":0");
	ok("{\"command\":\"alias add\",\"address\":\"t-*@a.org\",\"targets\":[\"ann@a.org\"],"
	   "\"senders\":\"members\",\"priority\":\"-3\"}",
	   0);
	assert_row("{\"command\":\"alias list\"}", "\"priority\":-3,\"senders\":\"members\"");
	refused("{\"command\":\"alias set\",\"address\":\"t-*@a.org\",\"remove\":\"x@a.org\"}",
		EX_NOUSER, "it does not lead to the address to be removed");
	refused("{\"command\":\"alias set\",\"address\":\"t-*@a.org\",\"remove\":\"ann@a.org\"}",
		EX_USAGE, "an alias has 1 to 1000 targets");
	refused("{\"command\":\"alias set\",\"address\":\"t-*@a.org\",\"add\":\"Ann@a.org\"}",
		EX_CANTCREAT, "it leads to the address to be added already");
	refused("{\"command\":\"alias set\",\"address\":\"t-*@a.org\",\"priority\":\"9999\"}",
		EX_USAGE, "priority: expected a number from -1000 to 1000");
	ok("{\"command\":\"alias set\",\"address\":\"t-*@a.org\",\"senders\":\"anyone\","
	   "\"add\":\"x@b.org\"}",
	   0);
	assert_row("{\"command\":\"alias list\"}", "[\"ann@a.org\",\"x@b.org\"]");
	ok("{\"command\":\"srs rotate\"}", 0);
	/* alias, account, way, srs, two results */
	ok("{\"command\":\"explain rcpt\",\"address\":\"t-1@a.org\",\"from\":\"c@c.org\"}", 6);
	refused("{\"command\":\"explain rcpt\",\"address\":\"nonsense\"}", EX_USAGE,
		"address: this is not a valid address");
	refused("{\"command\":\"explain rcpt\",\"address\":\"a@a.org\",\"as\":\"x@a.org\"}",
		EX_NOUSER, "as: there is no such account");
	ok("{\"command\":\"alias rm\",\"address\":\"t-*@a.org\"}", 0);
	ok("{\"command\":\"account rm\",\"address\":\"ann@a.org\"}", 1);
	ok("{\"command\":\"domain rm\",\"domain\":\"a.org\"}", 0);
}

/* A command that knows no dry run must not be carried out instead. */
static void test_dry_run(void **state)
{
	ok("{\"command\":\"domain add\",\"domain\":\"dry.example\"}", 0);
	refused("{\"command\":\"domain rm\",\"domain\":\"dry.example\",\"dry_run\":true}", EX_USAGE,
		"domain rm has no dry run; nothing was done");
	ok("{\"command\":\"domain rm\",\"domain\":\"dry.example\"}", 0);
}

static void enqueue(const char *to)
{
	struct queue_rcpt_in rcpt = { .address = span_str(to),
				      .route = SPAN("smtp:example.net"),
				      .not_before = clock_wall() + 3600 * USEC_SEC };
	struct queue_message_in m = { .sender = SPAN("ann@example.org"),
				      .body = SPAN("Subject: x\r\n\r\nx\r\n"),
				      .size = 17,
				      .spool_fd = -1,
				      .rcpts = &rcpt,
				      .n_rcpts = 1 };

	m.id = id_new();
	assert_int_equal(queue_accept(w.env.queue, &m), 0);
}

static void test_queue(void **state)
{
	json_t *row, *j;

	enqueue("x@example.net");
	enqueue("y@example.net");
	j = say(SPAN("{\"command\":\"queue list\",\"to\":\"x@example.net\"}\n"), 1, &row);
	assert_true(span_eq_str(json_str(row, "from"), "ann@example.org"));
	assert_int_equal(json_array_size(json_object_get(row, "recipients")), 1);
	json_decref(row);
	json_decref(j);
	refused("{\"command\":\"queue drop\"}", EX_USAGE,
		"say which messages: an id, a filter (--to, --age, ...) or --all");
	refused("{\"command\":\"queue show\",\"id\":\"zz\"}", EX_NOUSER,
		"no such message waits; try: postrider trace zz");
	w.kicks = 0;
	ok("{\"command\":\"queue drop\",\"all\":true,\"dry_run\":true}", 3);
	assert_int_equal(w.kicks, 0);
	ok("{\"command\":\"queue list\"}", 2);
	ok("{\"command\":\"queue retry\",\"to\":\"x@example.net\"}", 1);
	ok("{\"command\":\"queue hold\",\"to\":\"y@example.net\"}", 1);
	ok("{\"command\":\"queue list\",\"state\":\"held\",\"domain\":\"example.net\"}", 1);
	ok("{\"command\":\"queue list\",\"age\":\"2h\"}", 0);
	ok("{\"command\":\"queue list\",\"reply\":\"later\"}", 0);
	j = say(SPAN("{\"command\":\"queue release\",\"all\":true,\"dry_run\":true}\n"), 2, &row);
	json_decref(row);
	json_decref(j);
	ok("{\"command\":\"queue release\",\"all\":true}", 1);
	ok("{\"command\":\"queue list\",\"state\":\"held\"}", 0);
	refused("{\"command\":\"queue list\",\"state\":\"sleeping\"}", EX_USAGE,
		"state: expected waiting, held or delivering");
	refused("{\"command\":\"queue list\",\"age\":\"a while\"}", EX_USAGE,
		"age: expected a time as 90s, 5m, 4h or 2d");
	refused("{\"command\":\"queue reroute\",\"all\":true}", EX_USAGE, "to_route is missing");
	static const char *const routes[] = {
		"local",   "smtp:",	      "smtp:[",		 "smtp:[x.test",
		"smtp:[]", "smtp:[x.test]25", "smtp:[x.test]:0", "smtp:[x.test]:65536",
		"smtp:a b"
	};
	for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
		char text[160];

		snprintf(text, sizeof text,
			 "{\"command\":\"queue reroute\",\"all\":true,\"to_route\":\"%s\"}",
			 routes[i]);
		refused(text, EX_USAGE,
			"to_route: expected smtp:DOMAIN, smtp:[HOST]:PORT, lmtp:[HOST]:PORT or "
			"via:NAME");
	}
	ok("{\"command\":\"queue reroute\",\"all\":true,\"to_route\":\"smtp:[IPv6:::1]:2525\"}", 1);
	assert_int_equal(w.kicks, 4);
	ok("{\"command\":\"queue drop\",\"all\":true}", 1);
	ok("{\"command\":\"queue list\"}", 0);
	refused("{\"command\":\"trace\",\"key\":\"nobody@example.net\"}", EX_NOUSER,
		"nothing is known of nobody@example.net");
}

static void test_server(void **state)
{
	json_t *row, *j = say(SPAN("{\"command\":\"status\"}\n"), 1, &row);

	assert_int_equal(json_int(row, "sessions", 0), 7);
	assert_true(span_eq_str(json_str(row, "hostname"), "mx.example.org"));
	json_decref(row);
	json_decref(j);
	ok("{\"command\":\"reload\"}", 0);
	refused("{\"command\":\"reload\"}", EX_USAGE, "postrider.yaml:7:3: unknown key");
	ok("{\"command\":\"stop\"}", 0);
	assert_int_equal(w.reloads, 2);
	assert_int_equal(w.stops, 1);
	refused("{\"command\":\"clock\",\"by\":\"+4h\"}", EX_NOPERM,
		"the clock can be turned in a lab only");
	hooks.clock_set = on_clock;
	refused("{\"command\":\"clock\",\"by\":\"later\"}", EX_USAGE,
		"expected a time such as +4h or -1h");
	ok("{\"command\":\"clock\",\"by\":\"+4h\"}", 1);
	assert_int_equal(w.offset, 4 * 3600 * USEC_SEC);
	hooks.clock_set = NULL;
}

/* --- the client --- */

static void *serve_one(void *listener)
{
	struct pollfd p = { .fd = *(int *)listener, .events = POLLIN };
	int fd;

	poll(&p, 1, -1); /* the listener itself does not block */
	fd = accept4(p.fd, NULL, NULL, SOCK_CLOEXEC);
	admin_serve(&w.env, &hooks, fd);
	return NULL;
}

static void count_row(void *arg, const json_t *row)
{
	(void)row;
	++*(size_t *)arg;
}

static int ask(const char *command, size_t *rows, int *code, struct err_info *info)
{
	char path[96];
	json_t *request = json_pack("{s:s}", "command", command);
	int listener, e;
	pthread_t t;

	snprintf(path, sizeof path, "%s/admin.sock", w.dir);
	listener = sock_listen_unix(path, 0600, info);
	assert_true(listener >= 0);
	assert_int_equal(pthread_create(&t, NULL, serve_one, &(int){ listener }), 0);
	e = admin_ask(path, request, count_row, rows, code, info);
	pthread_join(t, NULL);
	json_decref(request);
	close(listener);
	return e;
}

static void test_client(void **state)
{
	struct err_info info = { 0 };
	json_t *request = json_pack("{s:s}", "command", "status");
	size_t rows = 0;
	int code = 0;

	assert_int_equal(ask("status", &rows, &code, &info), 0);
	assert_int_equal(rows, 1);
	assert_int_equal(ask("nonsense", &rows, &code, &info), ERR_INVAL);
	assert_int_equal(code, EX_USAGE);
	assert_string_equal(info.text, "there is no command \"nonsense\"");
	assert_int_equal(admin_ask("/nowhere/admin.sock", request, NULL, NULL, &code, &info),
			 ERR_NOENT);
	assert_int_equal(code, EX_UNAVAILABLE);
	json_decref(request);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_malformed), cmocka_unit_test(test_directory),
		cmocka_unit_test(test_routing),	  cmocka_unit_test(test_dry_run),
		cmocka_unit_test(test_queue),	  cmocka_unit_test(test_server),
		cmocka_unit_test(test_client),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
