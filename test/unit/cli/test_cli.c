/* The command line as a person meets it: what it says, where it says it, and its exit codes.  The
 * server behind the admin socket is the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/arena.h"
#include "cli/cli.h"
#include "format/json.h"
#include "sys/file.h"
#include "sys/sock.h"

#define SPOKEN (64u * 1024)

static char dir[64], config[128], sock[128];
static char out[SPOKEN], err[SPOKEN];

/* --- running a command --- */

static void read_back(int fd, char *to)
{
	ssize_t n;

	lseek(fd, 0, SEEK_SET);
	n = read(fd, to, SPOKEN - 1);
	to[n > 0 ? n : 0] = 0;
	close(fd);
}

/* Runs `postrider LINE` (words without blanks) with INPUT; its exit code.  `out` and `err` are what
 * it said. */
static int run(const char *line, const char *input)
{
	char words[1024], *argv[32] = { (char *)"postrider" };
	int argc = 1, code, saved[3], files[3];

	snprintf(words, sizeof words, "%s", line);
	for (char *at = strtok(words, " "); at; at = strtok(NULL, " "))
		argv[argc++] = at;
	fflush(NULL);
	for (int i = 0; i < 3; i++) {
		files[i] = open(dir, O_TMPFILE | O_RDWR, 0600);
		assert_true(files[i] >= 0);
		saved[i] = dup(i);
	}
	assert_int_equal(write(files[0], input, strlen(input)), strlen(input));
	lseek(files[0], 0, SEEK_SET);
	for (int i = 0; i < 3; i++)
		dup2(files[i], i);
	clearerr(stdin);
	code = cli_main(argc, argv);
	fflush(NULL);
	for (int i = 0; i < 3; i++) {
		dup2(saved[i], i);
		close(saved[i]);
	}
	close(files[0]);
	read_back(files[1], out);
	read_back(files[2], err);
	return code;
}

static void assert_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" is not in \"%s\"", part, text);
}

/* --- a server with one answer --- */

struct server {
	int listener;
	const char *answer;
	char asked[4096];
	pthread_t thread;
};

static void *serve(void *arg)
{
	struct server *s = arg;
	struct pollfd p = { .fd = s->listener, .events = POLLIN };
	ssize_t n;
	int fd;

	poll(&p, 1, 10000);
	fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
	n = recv(fd, s->asked, sizeof s->asked - 1, 0);
	s->asked[n > 0 ? n : 0] = 0;
	(void)!send(fd, s->answer, strlen(s->answer), MSG_NOSIGNAL);
	close(fd);
	return NULL;
}

/* Runs LINE against a server that says ANSWER; the request it got, which the caller owns. */
static json_t *run_served(const char *line, const char *input, const char *answer, int want)
{
	struct server s = { .answer = answer, .listener = sock_listen_unix(sock, 0600, NULL) };
	char full[1200];

	assert_true(s.listener >= 0);
	assert_int_equal(pthread_create(&s.thread, NULL, serve, &s), 0);
	snprintf(full, sizeof full, "--socket %s %s", sock, line);
	assert_int_equal(run(full, input), want);
	pthread_join(s.thread, NULL);
	close(s.listener);
	unlink(sock);
	return json_parse(span_trim(span_str(s.asked)), NULL);
}

/* --- tests --- */

static void test_help(void **state)
{
	assert_int_equal(run("--help", ""), 0);
	assert_has(out, "account add ADDRESS");
	assert_string_equal(err, "");
	assert_int_equal(run("-h", ""), 0);
	assert_int_equal(run("help alias add", ""), 0);
	assert_has(out, "usage: postrider alias add ADDRESS TARGETS... [--senders");
	assert_int_equal(run("account add --help", ""), 0);
	assert_has(out, "[--password-stdin]");
	assert_int_equal(run("help queue", ""), 0);
	assert_has(out, "queue drop [ID]");
	assert_int_equal(run("--version", ""), 0);
	assert_string_equal(out, "postrider " POSTRIDER_VERSION "\n");
}

static void test_wrong_arguments(void **state)
{
	static const struct {
		const char *line, *says;
	} rows[] = {
		{ "", "usage: postrider [OPTION...] COMMAND" },
		{ "bogus", "there is no command \"bogus\"; postrider --help lists them\n" },
		{ "domain", "domain add DOMAIN" },
		{ "domain bogus", "there is no command \"domain bogus\"\n" },
		{ "help bogus", "there is no command \"bogus\"" },
		{ "domain add",
		  "the domain is missing\nusage: postrider domain add DOMAIN [--from" },
		{ "domain add a b", "\"b\" is one argument too many\n" },
		{ "domain add --zap a", "--zap is no option of this command\n" },
		{ "domain set a --from", "--from needs a value\n" },
		{ "queue drop --all=yes", "--all takes no value\n" },
		{ "alias add a@b", "the targets is missing\n" },
		{ "--config", "--config needs a value\n" },
		{ "--zap status", "--zap is no option; postrider --help lists them\n" },
		{ "--json lab --once", "lab comes first" },
		{ "--dry-run account rm a@b", "account rm cannot be tried with --dry-run" },
		{ "setup Not_a_host", "server.hostname: expected" },
		{ "setup mx.example.org --data here", "server.data: expected an absolute path" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(run(rows[i].line, ""), EX_USAGE);
		assert_string_equal(out, "");
		assert_has(err, rows[i].says);
	}
}

static void test_setup(void **state)
{
	char line[400];

	snprintf(line, sizeof line,
		 "--config %s --dry-run setup mx.example.org --data %s/data --no-users", config,
		 dir);
	assert_int_equal(run(line, ""), 0);
	assert_has(out, "hostname: mx.example.org\n");
	assert_int_equal(access(config, F_OK), -1);
	snprintf(line, sizeof line, "--config %s setup mx.example.org --data %s/data --no-users",
		 config, dir);
	assert_int_equal(run(line, ""), 0);
	assert_has(out, "domain add example.org\n");
	assert_int_equal(access(config, R_OK), 0);
	assert_int_equal(run(line, ""), 0); /* again: nothing to do */
	assert_has(out, "is there already\n");
	snprintf(line, sizeof line, "--config %s setup mx.example.com --no-users", config);
	assert_int_equal(run(line, ""), EX_CANTCREAT);
	assert_has(err, "nothing was changed");
}

static void test_config(void **state)
{
	char line[400];
	json_t *j;

	snprintf(line, sizeof line, "config check --config=%s", config);
	assert_int_equal(run(line, ""), 0);
	assert_has(out, "is right\n");
	snprintf(line, sizeof line, "--config %s config show --json", config);
	assert_int_equal(run(line, ""), 0);
	j = json_parse(span_trim(span_str(out)), NULL);
	assert_true(span_eq_str(json_str(j, "server.hostname"), "mx.example.org"));
	json_decref(j);
	assert_int_equal(run("--config /nowhere/p.yaml config show", ""), EX_CONFIG);
	assert_has(err, "/nowhere/p.yaml does not exist; postrider setup HOSTNAME makes it");
	snprintf(line, sizeof line, "%s/bad.yaml", dir);
	assert_int_equal(file_replace(line,
				      SPAN("server: {hostname: a.b}\ntls: {certificates: "
					   "[{chain: /nowhere/c, key: /nowhere/k}]}\n"),
				      0600),
			 0);
	snprintf(line, sizeof line, "--config %s/bad.yaml config check", dir);
	assert_int_equal(run(line, ""), EX_CONFIG);
	assert_has(err, "tls.certificates: chain: /nowhere/c: No such file or directory\n");
	assert_has(err, "tls.certificates: key: /nowhere/k: No such file or directory\n");
	assert_int_equal(run("config manual", ""), 0);
	assert_has(out, ".B server.hostname\n");
}

static void test_no_server(void **state)
{
	char line[400];

	snprintf(line, sizeof line, "--config %s status", config);
	assert_int_equal(run(line, ""), EX_UNAVAILABLE);
	assert_has(err, "no server listens at ");
	assert_has(err, "is it running? (postrider serve)\n");
	assert_int_equal(run("--config /nowhere/p.yaml status", ""), EX_CONFIG);
	assert_has(err, "--config or --socket name another server\n");
}

static void test_requests(void **state)
{
	json_t *j = run_served("domain set example.org --catch-all=a@b --from any", "",
			       "{\"ok\":true}\n", 0);

	assert_true(span_eq_str(json_str(j, "command"), "domain set"));
	assert_true(span_eq_str(json_str(j, "domain"), "example.org"));
	assert_true(span_eq_str(json_str(j, "catch_all"), "a@b"));
	assert_true(span_eq_str(json_str(j, "from"), "any"));
	assert_string_equal(out, "example.org: changed\n");
	json_decref(j);
	j = run_served("alias add -- --odd@b c@d e@f", "", "{\"ok\":true}\n", 0);
	assert_true(span_eq_str(json_str(j, "address"), "--odd@b"));
	assert_int_equal(json_array_size(json_object_get(j, "targets")), 2);
	json_decref(j);
	j = run_served("--json account add a@b --password-stdin", "secret word\n",
		       "{\"address\":\"a@b\",\"id\":\"1\"}\n{\"ok\":true}\n", 0);
	assert_true(span_eq_str(json_str(j, "password"), "secret word"));
	assert_string_equal(out, "{\"address\":\"a@b\",\"id\":\"1\"}\n");
	json_decref(j);
	j = run_served("account rm a@b", "", "{\"address\":\"a@b\"}\n{\"ok\":true}\n", 0);
	assert_null(json_object_get(j, "yes"));
	assert_has(out, "a@b and its mail are gone");
	json_decref(j);
	j = run_served("queue drop --all --dry-run", "",
		       "{\"dry_run\":true,\"messages\":2,\"recipients\":3}\n{\"ok\":true}\n", 0);
	assert_true(json_bool(j, "dry_run", false));
	assert_has(out,
		   "dry run: 3 recipients of 2 messages would be touched; nothing was changed\n");
	json_decref(j);
}

/* Without a terminal and without --password-stdin a password is made up, and shown only when it is
 * in force. */
static void test_made_up_password(void **state)
{
	json_t *j = run_served("account passwd a@b", "", "{\"ok\":true}\n", 0), *row;
	span made = json_str(j, "password");

	assert_int_equal(made.n, 20);
	assert_has(out, json_string_value(json_object_get(j, "password")));
	json_decref(j);
	j = run_served("account passwd a@b", "",
		       "{\"ok\":false,\"exit\":67,\"error\":\"there is no such account\"}\n", 67);
	assert_string_equal(out, "");
	assert_string_equal(err, "postrider: there is no such account\n");
	json_decref(j);
	j = run_served("--json account add a@b", "", "{\"address\":\"a@b\"}\n{\"ok\":true}\n", 0);
	row = json_parse(span_trim(span_str(out)), NULL);
	assert_true(span_eq(json_str(row, "password"), json_str(j, "password")));
	json_decref(row);
	json_decref(j);
	assert_int_equal(run("account add a@b --password-stdin", ""), EX_NOINPUT);
	char *long_one = xmalloc(3000);
	memset(long_one, 'x', 2999);
	long_one[2999] = 0;
	assert_int_equal(run("account add a@b --password-stdin", long_one), EX_DATAERR);
	free(long_one);
}

static void test_odd_servers(void **state)
{
	json_t *j = run_served("status", "", "", EX_IOERR);

	assert_has(err, "the server's answer broke off");
	json_decref(j);
	j = run_served("status", "", "{\"ok\":false,\"exit\":9999,\"error\":\"a\\u001bb\"}\n",
		       EX_SOFTWARE);
	assert_string_equal(err, "postrider: a?b\n");
	json_decref(j);
	/* What people see of a message is escaped, whatever its sender wrote. */
	j = run_served("trace x", "",
		       "{\"id\":\"1\",\"time\":\"t\",\"event\":\"e\",\"text\":\"a\\u001b[2Jb\"}\n"
		       "{\"ok\":true}\n",
		       0);
	assert_null(strchr(out, 0x1b));
	assert_has(out, "text=a\\x1b[2Jb");
	json_decref(j);
}

static int setup(void **state)
{
	snprintf(dir, sizeof dir, "/tmp/test-cli-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(config, sizeof config, "%s/etc/postrider.yaml", dir);
	snprintf(sock, sizeof sock, "%s/s", dir);
	unsetenv("POSTRIDER_CONFIG");
	return 0;
}

static int teardown(void **state)
{
	char cmd[128];

	snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
	return system(cmd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_help),
		cmocka_unit_test(test_wrong_arguments),
		cmocka_unit_test(test_setup),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_no_server),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_made_up_password),
		cmocka_unit_test(test_odd_servers),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
