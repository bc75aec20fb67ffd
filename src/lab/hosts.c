/* Starting, filling and ending the lab's two servers. */
#include "lab/lab_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/sock.h"

#define START_MAX_MS 60000

/* ------------------------------------------------------------------ processes */

static void become_server(const struct lab *l, const struct lab_host *h, int ready)
{
	char fd[16], log[4200];
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
	execv("/proc/self/exe", (char *const *)argv);
	_exit(127);
}

static int start_one(struct lab *l, struct lab_host *h, struct err_info *info)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) != 0)
		return err_set(info, ERR_IO, "pipe: %s", strerror(errno));
	h->pid = fork();
	if (h->pid == 0)
		become_server(l, h, fds[1]);
	close(fds[1]);
	h->ready = fds[0];
	return h->pid < 0 ? err_set(info, ERR_AGAIN, "fork: %s", strerror(errno)) : 0;
}

/* The server writes one byte when every role serves; an end without it means that it could not. */
static int wait_ready(struct lab_host *h, struct err_info *info)
{
	struct pollfd p = { .fd = h->ready, .events = POLLIN };
	char c;

	if (poll(&p, 1, START_MAX_MS) <= 0)
		return err_set(info, ERR_TIMEOUT, "%s did not start within a minute; see %s/log",
			       h->name, h->dir);
	if (read(h->ready, &c, 1) != 1)
		return err_set(info, ERR_CLOSED, "%s could not start; see %s/log", h->name, h->dir);
	return 0;
}

int lab_start(struct lab *l, struct err_info *info)
{
	int e = 0;

	for (int i = 0; e == 0 && i < LAB_HOSTS; i++)
		e = start_one(l, &l->hosts[i], info);
	for (int i = 0; e == 0 && i < LAB_HOSTS; i++)
		e = wait_ready(&l->hosts[i], info);
	return e;
}

void lab_stop(struct lab *l)
{
	for (int i = 0; i < LAB_HOSTS; i++)
		if (l->hosts[i].pid > 0)
			kill(l->hosts[i].pid, SIGTERM);
	for (int i = 0; i < LAB_HOSTS; i++) {
		if (l->hosts[i].pid > 0)
			waitpid(l->hosts[i].pid, NULL, 0);
		l->hosts[i].pid = 0;
	}
	responder_stop(l->responder);
	zone_free(l->zone);
	l->responder = NULL;
	l->zone = NULL;
}

/* ------------------------------------------------------------------ admin */

int lab_ask(const char *socket, json_t *request, void (*row)(void *arg, const json_t *row),
	    void *arg, struct err_info *info)
{
	_cleanup_(close_fdp) int fd = sock_connect_unix(socket);
	_cleanup_(buf_donep) struct buf out = BUF_INIT(64 * 1024), in = BUF_INIT(4 * 1024 * 1024);
	span rest;

	if (fd < 0)
		return err_set(info, ERR_NOENT, "no server answers at %s", socket);
	json_put(&out, request);
	buf_put_char(&out, '\n');
	if (send(fd, out.p, out.n, MSG_NOSIGNAL) != (ssize_t)out.n)
		return err_set(info, ERR_IO, "%s: %s", socket, strerror(errno));
	for (;;) {
		char *to = buf_reserve(&in, 65536);
		ssize_t n = to ? recv(fd, to, 65536, 0) : -1;

		if (n <= 0)
			break;
		buf_added(&in, (size_t)n);
	}
	rest = buf_span(&in);
	while (rest.n) {
		_cleanup_(json_decrefp) json_t *j = json_parse(span_cut(&rest, '\n'), NULL);

		if (j && json_object_get(j, "ok")) {
			span text = json_str(j, "error");

			if (json_bool(j, "ok", false))
				return 0;
			return err_set(info, json_int(j, "exit", 0) == 73 ? ERR_EXIST : ERR_INVAL,
				       "%.*s", (int)MIN(text.n, (size_t)200), text.p);
		}
		if (j && row)
			row(arg, j);
	}
	return err_set(info, ERR_CLOSED, "the answer of %s broke off", socket);
}

/* What is there already, from an earlier run in the same folder, is fine. */
static int ask_once(const struct lab_host *h, json_t *request, struct err_info *info)
{
	int e = lab_ask(h->admin, request, NULL, NULL, info);

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
