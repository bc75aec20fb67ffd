/* `postrider lab`: options, life, the clock. */
#include "lab/lab_int.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "api/client.h"
#include "role/role.h"
#include "sys/spawn.h"
#include "tls/tls.h"

static int usage(int code)
{
	fputs("usage: postrider lab --dir DIR [--json] [--once] [--single] [--zone FILE]\n"
	      "       postrider lab clock +4h|-1h --dir DIR\n\n"
	      "Runs two complete servers on loopback, alpha.test and beta.test, with a CA, signed "
	      "DNS and three\n"
	      "accounts each, until SIGTERM or (with --json) the end of standard input.\n"
	      "  --json       print one line of JSON when all is ready\n"
	      "  --once       send one message from alpha to beta, show its journey, and end\n"
	      "  --single     all roles as threads of one process per server\n"
	      "  --zone FILE  more records: lines NAME TYPE DATA (also NAME SERVFAIL, NAME "
	      "TIMEOUT)\n",
	      code ? stderr : stdout);
	return code;
}

static int unknown(const char *arg)
{
	fprintf(stderr, "postrider: lab: \"%s\" is unknown or lacks its value\n", arg);
	return usage(EX_USAGE);
}

/* This program, as it can be typed in another terminal. */
static void own_path(char *ret, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", ret, size - 1);

	if (n > 0)
		ret[n] = 0;
	else
		snprintf(ret, size, "postrider");
}

static void describe(const struct lab *l)
{
	const struct lab_host *a = &l->hosts[0], *b = &l->hosts[1];
	char self[4096];

	for (int i = 0; i < LAB_HOSTS; i++) {
		const struct lab_host *h = &l->hosts[i];

		printf("%s on 127.0.0.1:", h->name);
		for (int k = 0; k < LAB_PORTS; k++)
			printf(" %s %u", lab_port_names[k], h->ports[k]);
		printf("\n");
		for (int k = 0; k < LAB_ACCOUNTS; k++)
			printf("    %s@%s  password %s\n", h->users[k], h->domain,
			       l->passwords[i][k]);
	}
	own_path(self, sizeof self);
	printf("\nThe CA for your mail client is %s. Try, in another terminal:\n\n"
	       "  swaks --server 127.0.0.1:%u -tlsc --auth-user %s@%s --auth-password %s \\\n"
	       "    --from %s@%s --to %s@%s\n"
	       "  curl --cacert %s -u %s@%s:%s --resolve %s:%u:127.0.0.1 \\\n"
	       "    'imaps://%s:%u/INBOX;MAILINDEX=1'\n"
	       "  %s --socket %s trace %s@%s\n"
	       "  %s lab clock +4h --dir %s\n\n"
	       "Ctrl-C ends it.\n",
	       l->ca_path, a->ports[2], a->users[0], a->domain, l->passwords[0][0], a->users[0],
	       a->domain, b->users[0], b->domain, l->ca_path, b->users[0], b->domain,
	       l->passwords[1][0], b->name, b->ports[4], b->name, b->ports[4], self, b->admin,
	       b->users[0], b->domain, self, l->dir);
	fflush(stdout);
}

/* Until SIGTERM, SIGINT, a server's end, or (--json) the end of standard input. */
static int wait_for_end(struct lab *l)
{
	for (;;) {
		struct pollfd fds[] = { { .fd = l->sigfd, .events = POLLIN },
					{ .fd = l->json ? 0 : -1, .events = POLLIN } };
		struct signalfd_siginfo s;
		char c[256];

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return EX_OSERR;
		if (fds[1].revents && read(0, c, sizeof c) <= 0)
			return 0;
		if (!fds[0].revents || read(l->sigfd, &s, sizeof s) != sizeof s)
			continue;
		if (s.ssi_signo != SIGCHLD)
			return 0;
		for (int i = 0; i < LAB_HOSTS; i++) {
			if (l->hosts[i].pid <= 0 ||
			    waitpid(l->hosts[i].pid, NULL, WNOHANG) != l->hosts[i].pid)
				continue;
			fprintf(stderr, "postrider: %s ended; see %s/log\n", l->hosts[i].name,
				l->hosts[i].dir);
			l->hosts[i].pid = 0;
			return EX_SOFTWARE;
		}
	}
}

static int run(struct lab *l)
{
	struct err_info info = { 0 };
	int code = 0, e;

	if ((e = tls_init(&info)) == 0 && (e = lab_prepare(l, &info)) == 0 &&
	    (e = lab_start(l, &info)) == 0)
		e = lab_fill(l, &info);
	if (e == 0 && l->json) {
		_cleanup_(buf_donep) struct buf b = BUF_INIT(64 * 1024);

		lab_json(l, &b);
		printf("%s\n", buf_cstr(&b));
		fflush(stdout);
	} else if (e == 0 && !l->once) {
		describe(l);
	}
	if (e == 0 && l->once)
		e = lab_demo(l, &info);
	if (e == 0 && !l->once)
		code = wait_for_end(l);
	if (e < 0 && info.text[0])
		fprintf(stderr, "postrider: lab: %s\n", info.text);
	lab_stop(l);
	if (e == 0 || !info.text[0]) /* or a signal came before all was up */
		return code;
	return e == ERR_TOOBIG ? EX_USAGE : role_exit_code(e);
}

static int turn_clock(const struct lab *l, const char *by)
{
	for (int i = 0; i < LAB_HOSTS; i++) {
		json_t *ask = json_pack("{s:s,s:s}", "command", "clock", "by", by);
		struct err_info info = { 0 };
		char socket[4200];
		int code, e;

		snprintf(socket, sizeof socket, "%.4000s/%s/data/admin.sock", l->dir,
			 i ? "beta" : "alpha");
		e = admin_ask(socket, ask, NULL, NULL, &code, &info);
		json_decref(ask);
		if (e < 0) {
			fprintf(stderr, "postrider: lab clock: %s\n", info.text);
			return code;
		}
	}
	return 0;
}

int lab_main(int argc, char **argv)
{
	static struct lab l; /* one per process; too large for a stack */
	const char *clock = NULL;

	l = (struct lab){ .hosts = { { .name = "mx.alpha.test",
				       .domain = "alpha.test",
				       .users = { "alice", "bob", "carol" },
				       .ready = -1 },
				     { .name = "mx.beta.test",
				       .domain = "beta.test",
				       .users = { "dave", "erin", "frank" },
				       .ready = -1 } },
			  .lock = -1 };
	for (int i = 1; i < argc; i++) {
		const char *next = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return usage(0);
		if (strcmp(argv[i], "--json") == 0)
			l.json = true;
		else if (strcmp(argv[i], "--once") == 0)
			l.once = true;
		else if (strcmp(argv[i], "--single") == 0)
			l.single = true;
		else if (strcmp(argv[i], "--dir") == 0 && next)
			snprintf(l.dir, sizeof l.dir, "%s", argv[++i]);
		else if (strcmp(argv[i], "--zone") == 0 && next)
			l.zone_file = argv[++i];
		else if (strcmp(argv[i], "clock") == 0 && next)
			clock = argv[++i];
		else
			return unknown(argv[i]);
	}
	if (!l.dir[0]) {
		fputs("postrider: lab: say where its files may be: --dir DIR\n", stderr);
		return usage(EX_USAGE);
	}
	if (clock)
		return turn_clock(&l, clock);
	l.sigfd = spawn_signals_open(); /* from now on, so that what is started is always ended */
	return run(&l);
}
