/* The last hop of sendmail(1): SMTP over the server's socket for programs of this machine. */
#include "cli/sendmail_int.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "cli/cli_int.h"
#include "format/reply.h"
#include "sys/sock.h"

#define REPLY_MAX (64u * 1024)
#define LINES_MAX 200

struct client {
	int fd;
	struct buf unread, text;
	struct smtp_reply reply; /* the last one */
};

static int write_all(int fd, span s)
{
	while (s.n) {
		ssize_t n = write(fd, s.p, s.n);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return ERR_CLOSED;
		s = span_from(s, (size_t)n);
	}
	return 0;
}

static int read_reply(struct client *c)
{
	for (;;) {
		size_t used;
		char *to;
		ssize_t n;
		int e;

		buf_reset(&c->text);
		e = smtp_reply_parse(buf_span(&c->unread), LINES_MAX, REPLY_MAX, &c->text,
				     &c->reply, &used);
		if (e == 1)
			buf_consume(&c->unread, used);
		if (e != 0)
			return e;
		to = buf_reserve(&c->unread, 4096);
		n = to ? read(c->fd, to, 4096) : -1;
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return ERR_CLOSED;
		buf_added(&c->unread, (size_t)n);
	}
}

/* The code of the answer, or 0 if there is none. */
static unsigned ask(struct client *c, struct buf *line)
{
	buf_put_str(line, "\r\n");
	if (line->failed || write_all(c->fd, buf_span(line)) < 0 || read_reply(c) < 0)
		return 0;
	buf_reset(line);
	return c->reply.code;
}

static int code_of(const struct smtp_reply *r)
{
	if (r->code < 500)
		return EX_TEMPFAIL;
	if (strncmp(r->enhanced, "5.1.", 4) == 0)
		return EX_NOUSER;
	return strncmp(r->enhanced, "5.7.", 4) == 0 ? EX_NOPERM : EX_UNAVAILABLE;
}

static int refused(const struct client *c, span what)
{
	return cli_error(code_of(&c->reply), "%.*s: %u %s %.*s", SPAN_FMT(what), c->reply.code,
			 c->reply.enhanced, SPAN_FMT(c->reply.text));
}

static int gone(void)
{
	return cli_error(EX_TEMPFAIL,
			 "the server broke off; nobody knows whether it has the message");
}

static bool all_ascii(span s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] >= 0x80)
			return false;
	return true;
}

static bool needs_utf8(const struct sendmail *m, span sender)
{
	bool utf8 = !all_ascii(sender);

	for (size_t i = 0; i < m->n_rcpts; i++)
		utf8 |= !all_ascii(m->rcpts[i]);
	return utf8;
}

static unsigned say_mail(struct client *c, const struct sendmail *m, span sender, struct buf *line)
{
	buf_printf(line, "MAIL FROM:<%.*s> BODY=8BITMIME%s", SPAN_FMT(sender),
		   needs_utf8(m, sender) ? " SMTPUTF8" : "");
	if (m->ret)
		buf_printf(line, " RET=%s", m->ret);
	if (m->envid) {
		buf_put_str(line, " ENVID=");
		for (const char *p = m->envid; *p; p++)
			buf_printf(line,
				   *p > 0x20 && *p < 0x7f && *p != '+' && *p != '=' ? "%c"
										    : "+%02X",
				   (unsigned char)*p);
	}
	return ask(c, line);
}

/* How many were taken; *RET_CODE is the exit code for the others. */
static size_t say_rcpts(struct client *c, const struct sendmail *m, struct buf *line, int *ret_code)
{
	size_t taken = 0;

	for (size_t i = 0; i < m->n_rcpts; i++) {
		buf_printf(line, "RCPT TO:<%.*s>", SPAN_FMT(m->rcpts[i]));
		if (m->notify)
			buf_printf(line, " NOTIFY=%s", m->notify);
		unsigned code = ask(c, line);
		if (!code) {
			*ret_code = gone();
			return 0;
		}
		if (code < 300)
			taken++;
		else
			*ret_code = refused(c, m->rcpts[i]);
	}
	return taken;
}

static int say_message(struct client *c, span message, struct buf *line)
{
	buf_put_str(line, "DATA");
	if (!ask(c, line))
		return gone();
	if (c->reply.code != 354)
		return refused(c, SPAN("the message"));
	while (message.n) {
		span l = span_cut(&message, '\n');

		if (l.n && l.p[0] == '.')
			buf_put_char(line, '.');
		buf_put_span(line, l);
		buf_put_char(line, '\n');
		if (line->n < 32768 && message.n)
			continue;
		if (line->failed || write_all(c->fd, buf_span(line)) < 0)
			return gone();
		buf_reset(line);
	}
	buf_put_char(line, '.');
	if (!ask(c, line))
		return gone();
	return c->reply.code < 300 ? 0 : refused(c, SPAN("the message"));
}

static int dialogue(struct client *c, const struct sendmail *m, span sender, span message)
{
	_cleanup_(buf_donep) struct buf line = BUF_INIT(4 * 1024 * 1024);
	int code = 0, e;

	if (read_reply(c) < 0)
		return gone();
	if (c->reply.code != 220)
		return refused(c, SPAN("the server"));
	buf_put_str(&line, "EHLO localhost");
	if (!ask(c, &line))
		return gone();
	if (c->reply.code >= 300)
		return refused(c, SPAN("the server"));
	if (!say_mail(c, m, sender, &line))
		return gone();
	if (c->reply.code >= 300)
		return refused(c, sender.n ? sender : SPAN("<>"));
	if (say_rcpts(c, m, &line, &code) == 0)
		return code;
	e = say_message(c, message, &line);
	buf_reset(&line);
	buf_put_str(&line, "QUIT\r\n");
	(void)write_all(c->fd, buf_span(&line));
	return e ? e : code;
}

static int connect_server(const struct sendmail *m)
{
	_cleanup_(freep) char *path = span_dup(m->socket);
	int fd = sock_connect_unix(path);

	if (fd < 0)
		cli_error(EX_TEMPFAIL, "%s: %s; is the server running? Nothing was sent", path,
			  err_text(fd));
	return fd;
}

int sendmail_submit(const struct sendmail *m, span sender, span message)
{
	struct client c = { .fd = connect_server(m),
			    .unread = BUF_INIT(REPLY_MAX + 4096),
			    .text = BUF_INIT(REPLY_MAX) };
	int code;

	if (c.fd < 0)
		return EX_TEMPFAIL;
	code = dialogue(&c, m, sender, message);
	close(c.fd);
	buf_done(&c.unread);
	buf_done(&c.text);
	return code;
}

/* Bytes of FROM to TO; false at the end of either. */
static bool pass(int from, int to)
{
	char piece[16384];
	ssize_t n = read(from, piece, sizeof piece);

	if (n < 0 && errno == EINTR)
		return true;
	return n > 0 && write_all(to, span_of(piece, (size_t)n)) == 0;
}

int sendmail_pipe(const struct sendmail *m)
{
	_cleanup_(close_fdp) int fd = connect_server(m);
	struct pollfd p[2] = { { .fd = 0, .events = POLLIN }, { .fd = fd, .events = POLLIN } };

	if (fd < 0)
		return EX_TEMPFAIL;
	while (poll(p, 2, -1) >= 0 || errno == EINTR) {
		if (p[1].revents && !pass(fd, 1))
			return 0;
		if (p[0].revents && !pass(0, fd)) {
			shutdown(fd, SHUT_WR); /* what is owed still comes */
			p[0].fd = -1;
		}
	}
	return EX_IOERR;
}
