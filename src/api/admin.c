/* The admin socket: reading one request, finding its command, ending the answer. */
#include "api/admin_int.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/log.h"
#include "sys/file.h"

#define REQUEST_MAX	   (64u * 1024)
#define REQUEST_TIMEOUT_MS 10000
#define SEND_TIMEOUT_S	   60
#define ANSWER_MAX	   (1024u * 1024) /* of one line */

static const struct admin_command *const families[] = { admin_ban_commands, admin_directory_commands,
							admin_credential_commands,
							admin_dkim_commands,
							admin_queue_commands, admin_trace_commands,
							admin_explain_commands,
							admin_server_commands };

int admin_fail(struct admin_request *r, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->error, sizeof r->error, fmt, ap);
	va_end(ap);
	return err;
}

bool admin_need(struct admin_request *r, const char *key, span *ret)
{
	*ret = json_str(r->args, key);
	if (ret->n)
		return true;
	admin_fail(r, ERR_INVAL, "%s is missing", key);
	return false;
}

int admin_yes_no(struct admin_request *r, const char *key, bool *ret)
{
	const json_t *j = json_object_get(r->args, key);
	span text = json_str(r->args, key);

	if (!j)
		return 0;
	if (!json_is_boolean(j) && !span_eq_str(text, "yes") && !span_eq_str(text, "no"))
		return admin_fail(r, ERR_INVAL, "%s: expected yes or no", key);
	*ret = json_is_true(j) || span_eq_str(text, "yes");
	return 1;
}

bool admin_way_ok(struct admin_request *r, span way)
{
	_cleanup_(conf_unrefp) struct conf *conf = r->env->conf(r->env);

	return conf_way_ok(conf, way, false);
}

json_t *admin_time(usec wall)
{
	char text[CLOCK_TEXT];

	if (!wall)
		return json_null();
	clock_format(wall, text);
	return json_string(text);
}

json_t *admin_id(const struct id *id)
{
	char text[ID_TEXT];

	id_format(id, text);
	return json_string(text);
}

static void send_line(struct admin_request *r, const json_t *j)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(ANSWER_MAX);

	if (r->broken)
		return;
	json_put(&b, j);
	if (buf_put_char(&b, '\n') < 0) {
		r->broken = true; /* half a line would be no JSON */
		return;
	}
	for (size_t at = 0; at < b.n && !r->broken;) {
		ssize_t n = send(r->fd, b.p + at, b.n - at, MSG_NOSIGNAL);

		if (n > 0)
			at += (size_t)n;
		else if (errno != EINTR)
			r->broken = true;
	}
}

void admin_row(struct admin_request *r, json_t *j)
{
	send_line(r, j);
	json_decref(j);
}

/* One line, within the time limit. */
static int read_request(int fd, struct buf *b)
{
	while (span_find(buf_span(b), '\n') == SPAN_NPOS) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		char *to = buf_reserve(b, 4096);
		ssize_t n;

		if (!to)
			return ERR_TOOBIG;
		if (poll(&p, 1, REQUEST_TIMEOUT_MS) <= 0)
			return ERR_TIMEOUT;
		n = recv(fd, to, 4096, 0);
		if (n <= 0)
			return ERR_CLOSED;
		buf_added(b, (size_t)n);
	}
	return 0;
}

static int exit_of(int err)
{
	switch (err) {
	case ERR_INVAL:
	case ERR_SYNTAX:
	case ERR_UNSUPPORTED:
		return EX_USAGE;
	case ERR_NOENT:
		return EX_NOUSER;
	case ERR_EXIST:
		return EX_CANTCREAT;
	case ERR_PERM:
		return EX_NOPERM;
	case ERR_FULL:
	case ERR_AGAIN:
	case ERR_BUSY:
		return EX_TEMPFAIL;
	default:
		return EX_IOERR;
	}
}

static int run(struct admin_request *r, span name)
{
	_cleanup_(buf_donep) struct buf shown = BUF_INIT(400);

	if (!name.n)
		return admin_fail(r, ERR_INVAL, "command is missing");
	for (size_t f = 0; f < ARRAY_LEN(families); f++) {
		for (const struct admin_command *c = families[f]; c->name; c++) {
			if (!span_eq_str(name, c->name))
				continue;
			if (json_bool(r->args, "dry_run", false) && !c->dry_run)
				return admin_fail(r, ERR_UNSUPPORTED,
						  "%s has no dry run; nothing was done", c->name);
			return c->fn(r);
		}
	}
	buf_put_escaped(&shown, name, 60);
	return admin_fail(r, ERR_UNSUPPORTED, "there is no command \"%s\"", buf_cstr(&shown));
}

void admin_serve(struct core_env *env, const struct admin_hooks *hooks, int fd)
{
	_cleanup_(buf_donep) struct buf line = BUF_INIT(REQUEST_MAX);
	_cleanup_(arena_donep) struct arena mem;
	_cleanup_(json_decrefp) json_t *args = NULL;
	struct admin_request r = { .env = env, .hooks = hooks, .mem = &mem, .fd = fd };
	struct err_info info = { 0 };
	struct timeval limit = { .tv_sec = SEND_TIMEOUT_S };
	int e;

	arena_init(&mem);
	/* A client that stops reading must not keep a thread for ever. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	e = read_request(fd, &line);
	if (e == 0) {
		args = json_parse(span_trim(buf_span(&line)), &info);
		r.args = args;
		if (!args || !json_is_object(args))
			e = admin_fail(&r, ERR_SYNTAX, "the request is not a JSON object");
		else
			e = run(&r, json_str(args, "command"));
	}
	if (e >= 0) {
		admin_row(&r, json_pack("{s:b}", "ok", 1));
	} else if (e != ERR_CLOSED) {
		if (!r.error[0] && e == ERR_TOOBIG)
			admin_fail(&r, e, "a request has at most %u bytes", REQUEST_MAX);
		if (!r.error[0])
			admin_fail(&r, e, "%s", err_text(e));
		admin_row(&r, json_pack("{s:b,s:i,s:o}", "ok", 0, "exit", exit_of(e), "error",
					json_span(span_str(r.error))));
	}
	close(fd);
}
