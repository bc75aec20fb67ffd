/* Starting, filling and ending the lab's two servers. */
#include "lab/lab_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/client.h"

#define START_MAX_MS 60000
#define STOP_MAX_MS  10000

/* ------------------------------------------------------------------ processes */

static void become_server(const struct lab *l, const struct lab_host *h, int ready, pid_t lab)
{
	char fd[16], log[4200];
	sigset_t none;
	int out;
	const char *argv[] = {
		"postrider", "--config", h->config, "serve", l->single ? "--single" : NULL, NULL
	};

	snprintf(fd, sizeof fd, "%d", ready);
	snprintf(log, sizeof log, "%.4100s/log", h->dir);
	setenv("POSTRIDER_READY_FD", fd, 1);
	fcntl(ready, F_SETFD, 0);
	out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (out >= 0) {
		dup2(out, 1);
		dup2(out, 2);
	}
	out = open("/dev/null", O_RDONLY);
	dup2(out, 0);
	setpgid(0, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* A lab that is killed leaves nothing behind. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == lab)
		execv("/proc/self/exe", (char *const *)argv);
	_exit(127);
}

static int start_one(struct lab *l, struct lab_host *h, struct err_info *info)
{
	pid_t self = getpid();
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) != 0)
		return err_set(info, ERR_IO, "pipe: %s", strerror(errno));
	h->pid = fork();
	if (h->pid == 0)
		become_server(l, h, fds[1], self);
	close(fds[1]);
	h->ready = fds[0];
	return h->pid < 0 ? err_set(info, ERR_AGAIN, "fork: %s", strerror(errno)) : 0;
}

/* The last line of the server's log that is meant for people, or nothing. */
static void last_words(const struct lab_host *h, char *ret, size_t size)
{
	char path[4200], tail[2000];
	_cleanup_(close_fdp) int fd = -1;
	span rest, line;
	ssize_t n;

	snprintf(path, sizeof path, "%s/log", h->dir);
	*ret = 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || lseek(fd, 0, SEEK_END) < 0)
		return;
	if (lseek(fd, -(off_t)sizeof tail, SEEK_END) < 0)
		(void)lseek(fd, 0, SEEK_SET);
	n = read(fd, tail, sizeof tail);
	rest = span_of(tail, n > 0 ? (size_t)n : 0);
	while (rest.n) {
		line = span_cut(&rest, '\n');
		if (span_starts(line, SPAN("postrider: ")))
			snprintf(ret, size, "%.*s; ", (int)MIN(line.n - 11, size / 2), line.p + 11);
	}
}

/* The server writes one byte when every role serves; an end without it means that it could not. */
static int wait_ready(const struct lab *l, const struct lab_host *h, struct err_info *info)
{
	struct pollfd p[] = { { .fd = h->ready, .events = POLLIN },
			      { .fd = l->sigfd, .events = POLLIN } };
	struct signalfd_siginfo s;
	char c, why[240];
	int n;

	do {
		n = poll(p, 2, START_MAX_MS);
		if (n > 0 && p[1].revents && read(l->sigfd, &s, sizeof s) == sizeof s &&
		    s.ssi_signo != SIGCHLD)
			return ERR_CLOSED;
	} while (n > 0 && !p[0].revents);
	if (n <= 0)
		return err_set(info, ERR_TIMEOUT, "%s did not start within a minute; see %s/log",
			       h->name, h->dir);
	if (read(h->ready, &c, 1) == 1)
		return 0;
	last_words(h, why, sizeof why);
	return err_set(info, ERR_IO, "%s could not start: %ssee %s/log", h->name, why, h->dir);
}

int lab_start(struct lab *l, struct err_info *info)
{
	int e = 0;

	for (int i = 0; e == 0 && i < LAB_HOSTS; i++)
		e = start_one(l, &l->hosts[i], info);
	for (int i = 0; e == 0 && i < LAB_HOSTS; i++)
		e = wait_ready(l, &l->hosts[i], info);
	return e;
}

static void stop_one(struct lab_host *h, usec end)
{
	while (waitpid(h->pid, NULL, WNOHANG) == 0) {
		if (clock_mono() > end)
			kill(h->pid, SIGKILL); /* its roles die with it */
		usleep(10000);
	}
	h->pid = 0;
}

void lab_stop(struct lab *l)
{
	usec end = clock_mono() + STOP_MAX_MS * USEC_MSEC;

	for (int i = 0; i < LAB_HOSTS; i++)
		if (l->hosts[i].pid > 0)
			kill(l->hosts[i].pid, SIGTERM);
	for (int i = 0; i < LAB_HOSTS; i++)
		if (l->hosts[i].pid > 0)
			stop_one(&l->hosts[i], end);
	responder_stop(l->responder);
	zone_free(l->zone);
	l->responder = NULL;
	l->zone = NULL;
}

/* ------------------------------------------------------------------ admin */

/* What is there already, from an earlier run in the same folder, is fine. */
static int ask_once(const struct lab_host *h, json_t *request, struct err_info *info)
{
	int e = admin_ask(h->admin, request, NULL, NULL, NULL, info);

	json_decref(request);
	return e == ERR_EXIST ? 0 : e;
}

int lab_fill(struct lab *l, struct err_info *info)
{
	for (int i = 0; i < LAB_HOSTS; i++) {
		struct lab_host *h = &l->hosts[i];
		char address[200], postmaster[200];
		int e = ask_once(
			h, json_pack("{s:s,s:s}", "command", "domain add", "domain", h->domain),
			info);

		for (int k = 0; e == 0 && k < LAB_ACCOUNTS; k++) {
			snprintf(address, sizeof address, "%s@%s", h->users[k], h->domain);
			e = ask_once(h,
				     json_pack("{s:s,s:s,s:s,s:s}", "command", "account add",
					       "address", address, "password", l->passwords[i][k],
					       "from", "any"),
				     info);
		}
		snprintf(address, sizeof address, "%s@%s", h->users[0], h->domain);
		snprintf(postmaster, sizeof postmaster, "postmaster@%s", h->domain);
		if (e == 0)
			e = ask_once(h,
				     json_pack("{s:s,s:s,s:[s]}", "command", "alias add", "address",
					       postmaster, "targets", address),
				     info);
		if (e < 0)
			return e;
	}
	return 0;
}

int lab_json(const struct lab *l, struct buf *b)
{
	char dns[32];
	json_t *hosts = json_array(), *accounts = json_array(), *all;
	int e;

	for (int i = 0; i < LAB_HOSTS; i++) {
		const struct lab_host *h = &l->hosts[i];
		json_t *j = json_pack("{s:s,s:s,s:s,s:s,s:i}", "name", h->name, "domain", h->domain,
				      "address", h->address, "admin", h->admin, "mx",
				      (int)l->mx_port);

		for (int k = 0; k < LAB_PORTS; k++)
			json_object_set_new(j, lab_port_names[k], json_integer(h->ports[k]));
		json_object_set_new(j, "dir", json_string(h->dir));
		json_object_set_new(j, "config", json_string(h->config));
		json_object_set_new(j, "pid", json_integer(h->pid));
		json_array_append_new(hosts, j);
		for (int k = 0; k < LAB_ACCOUNTS; k++) {
			char address[200];

			snprintf(address, sizeof address, "%s@%s", h->users[k], h->domain);
			json_array_append_new(accounts, json_pack("{s:s,s:s}", "address", address,
								  "password", l->passwords[i][k]));
		}
	}
	snprintf(dns, sizeof dns, "127.0.0.1:%u", l->dns_port);
	all = json_pack("{s:s,s:s,s:s,s:o,s:o}", "ca", l->ca_path, "dns", dns, "anchor",
			l->anchor_path, "hosts", hosts, "accounts", accounts);
	e = json_put(b, all);
	json_decref(all);
	return e;
}
