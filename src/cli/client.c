/* Asking a running server over its admin socket. */
#include "cli/cli_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "conf/conf.h"
#include "sys/sock.h"

#define LINE_MAX_BYTES (2u * 1024 * 1024)

char *client_socket(const struct cli *c)
{
	_cleanup_(conf_unrefp) struct conf *conf = NULL;
	_cleanup_(buf_donep) struct buf text = BUF_INIT(CONF_MAX_TEXT), path = BUF_INIT(4096);
	struct err_info info = { 0 };

	if (c->socket)
		return xstrdup(c->socket);
	if (conf_load(c->config, &conf, &text, &info) < 0) {
		cli_error(EX_CONFIG, "%s", info.text);
		return NULL;
	}
	buf_put_span(&path, conf->data_dir);
	buf_put_str(&path, "/admin.sock");
	return xstrdup(buf_cstr(&path));
}

static int send_request(int fd, const json_t *args)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(64 * 1024);
	size_t at = 0;

	json_put(&b, args);
	if (buf_put_char(&b, '\n') < 0)
		return ERR_TOOBIG;
	while (at < b.n) {
		ssize_t n = send(fd, b.p + at, b.n - at, MSG_NOSIGNAL);

		if (n <= 0)
			return ERR_CLOSED;
		at += (size_t)n;
	}
	return 0;
}

/* The final row: what the command came to. */
static int finish(const json_t *row, struct err_info *error)
{
	span text = json_str(row, "error");

	if (json_bool(row, "ok", false))
		return 0;
	if (error)
		err_set(error, ERR_INVAL, "%.*s", (int)MIN(text.n, (size_t)200), text.p);
	else
		cli_error(0, "%.*s", (int)MIN(text.n, (size_t)400), text.p);
	return (int)json_int(row, "exit", EX_SOFTWARE);
}

int client_ask(const char *socket, json_t *args, void (*row)(void *arg, const json_t *row),
	       void *arg, struct err_info *error)
{
	_cleanup_(close_fdp) int fd = sock_connect_unix(socket);
	_cleanup_(buf_donep) struct buf in = BUF_INIT(LINE_MAX_BYTES);

	if (fd < 0) {
		err_set(error, fd, "no server answers at %s", socket);
		if (!error)
			cli_error(0, "no server answers at %s; is it running? (postrider serve)",
				  socket);
		return EX_UNAVAILABLE;
	}
	if (send_request(fd, args) < 0)
		return error ? EX_IOERR : cli_error(EX_IOERR, "the server closed the connection");
	for (;;) {
		size_t end = span_find(buf_span(&in), '\n');
		char *to;
		ssize_t n;

		if (end != SPAN_NPOS) {
			_cleanup_(json_decrefp)
				json_t *j = json_parse(span_sub(buf_span(&in), 0, end), NULL);

			buf_consume(&in, end + 1);
			if (j && json_object_get(j, "ok"))
				return finish(j, error);
			if (j && row)
				row(arg, j);
			continue;
		}
		to = buf_reserve(&in, 64 * 1024);
		n = to ? recv(fd, to, 64 * 1024, 0) : -1;
		if (n <= 0)
			return error ? EX_IOERR
				     : cli_error(EX_IOERR, "the server's answer broke off");
		buf_added(&in, (size_t)n);
	}
}

struct shown {
	const struct cli *c;
	size_t rows;
};

static void show_row(void *arg, const json_t *row)
{
	struct shown *s = arg;
	_cleanup_(buf_donep) struct buf b = BUF_INIT(LINE_MAX_BYTES);

	if (s->c->json) {
		json_put(&b, row);
		printf("%s\n", buf_cstr(&b));
	} else if (s->c->command->render) {
		s->c->command->render(s->c, row, s->rows);
	}
	s->rows++;
}

int cli_run_remote(struct cli *c)
{
	_cleanup_(freep) char *socket = client_socket(c);
	struct shown s = { .c = c };
	int code;

	if (!socket)
		return EX_CONFIG;
	json_object_set_new(c->args, "command", json_string(c->command->name));
	code = client_ask(socket, c->args, show_row, &s, NULL);
	if (code == 0 && c->dry_run)
		fprintf(stderr, "dry run: nothing was changed; %zu messages would be\n", s.rows);
	return code;
}
