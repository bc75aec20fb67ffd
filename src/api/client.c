/* Asking a running server over its admin socket. */
#include "api/client.h"

#include <errno.h>
#include <sys/socket.h>
#include <sysexits.h>

#include "sys/sock.h"

#define REQUEST_MAX (64u * 1024)
#define LINE_BYTES  (2u * 1024 * 1024) /* more than admin.c puts on a line */
#define PIECE	    (64u * 1024)

static int fail(struct err_info *info, int err, int code, int *ret_exit, const char *text,
		const char *socket)
{
	*ret_exit = code;
	return err_set(info, err, "%s%s", text, socket);
}

static int send_request(int fd, const json_t *request)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(REQUEST_MAX);

	json_put(&b, request);
	if (buf_put_char(&b, '\n') < 0)
		return ERR_TOOBIG;
	for (size_t at = 0; at < b.n;) {
		ssize_t n = send(fd, b.p + at, b.n - at, MSG_NOSIGNAL);

		if (n > 0)
			at += (size_t)n;
		else if (errno != EINTR)
			return ERR_CLOSED;
	}
	return 0;
}

/* The last line.  A sentence of the server may name what somebody else chose: no control bytes. */
static int verdict(const json_t *j, int *ret_exit, struct err_info *info)
{
	span text = json_str(j, "error");

	if (json_bool(j, "ok", false))
		return 0;
	*ret_exit = (int)json_int(j, "exit", EX_SOFTWARE);
	if (*ret_exit <= 0 || *ret_exit > 255)
		*ret_exit = EX_SOFTWARE;
	err_set(info, *ret_exit == EX_CANTCREAT ? ERR_EXIST : ERR_INVAL, "%.*s",
		(int)MIN(text.n, (size_t)230), text.p ? text.p : "");
	for (char *p = info ? info->text : NULL; p && *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	return *ret_exit == EX_CANTCREAT ? ERR_EXIST : ERR_INVAL;
}

static int read_answer(int fd, admin_row_fn *row, void *arg, int *ret_exit, struct err_info *info)
{
	_cleanup_(buf_donep) struct buf in = BUF_INIT(LINE_BYTES);

	for (;;) {
		size_t end = span_find(buf_span(&in), '\n');
		char *to;
		ssize_t n;

		if (end != SPAN_NPOS) {
			_cleanup_(json_decrefp)
				json_t *j = json_parse(span_sub(buf_span(&in), 0, end), NULL);

			buf_consume(&in, end + 1);
			if (j && json_object_get(j, "ok"))
				return verdict(j, ret_exit, info);
			if (j && row)
				row(arg, j);
			continue;
		}
		to = buf_reserve(&in, PIECE);
		n = to ? recv(fd, to, PIECE, 0) : 0;
		if (n > 0)
			buf_added(&in, (size_t)n);
		else if (n == 0 || errno != EINTR)
			return fail(info, ERR_CLOSED, EX_IOERR, ret_exit,
				    "the server's answer broke off; its log may say why", "");
	}
}

int admin_ask(const char *socket, const json_t *request, admin_row_fn *row, void *arg,
	      int *ret_exit, struct err_info *info)
{
	_cleanup_(close_fdp) int fd = sock_connect_unix(socket);
	int unused, e;

	if (!ret_exit)
		ret_exit = &unused;
	if (fd == ERR_PERM)
		return fail(info, ERR_PERM, EX_NOPERM, ret_exit,
			    "only root and the server's own user may ask the server at ", socket);
	if (fd < 0)
		return fail(info, ERR_NOENT, EX_UNAVAILABLE, ret_exit, "no server listens at ",
			    socket);
	e = send_request(fd, request);
	if (e == ERR_TOOBIG)
		return fail(info, ERR_TOOBIG, EX_DATAERR, ret_exit, "the request is too long", "");
	/* A server that refuses before it has read everything has answered all the same. */
	return read_answer(fd, row, arg, ret_exit, info);
}
