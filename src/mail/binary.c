/* Binary messages (RFC 3030 section 3): their parts as text. */
#include "mail/mail_int.h"

#include <unistd.h>

#include "format/transcode.h"
#include "sys/file.h"

#define PIECE (64u * 1024)

/* Gives FN the message of HEAD and what FD holds, a piece at a time. */
static int each_piece(span head, int fd, uint64_t tail, int (*fn)(void *arg, span piece), void *arg)
{
	_cleanup_(freep) char *p = fd >= 0 ? xmalloc(PIECE) : NULL;
	int e = 0;

	for (span s = head; e >= 0 && s.n; s = span_from(s, PIECE))
		e = fn(arg, span_sub(s, 0, PIECE));
	for (uint64_t at = 0; e >= 0 && fd >= 0 && at < tail; at += PIECE) {
		size_t n = (size_t)MIN(tail - at, (uint64_t)PIECE);

		e = file_pread_all(fd, p, n, at);
		if (e >= 0)
			e = fn(arg, span_of(p, n));
	}
	return e;
}

struct conversion {
	struct core_env *env;
	struct mail_transaction *t;
	struct transcode *transcode;
	struct buf out;
};

static int scan(void *arg, span piece)
{
	struct conversion *c = arg;

	transcode_scan(c->transcode, piece);
	return 0;
}

static int flush(struct conversion *c)
{
	int e = mail_body_add(c->env, c->t, buf_span(&c->out), UINT64_MAX / 2);

	buf_reset(&c->out);
	return e;
}

static int put(void *arg, span piece)
{
	struct conversion *c = arg;
	int e = transcode_put(c->transcode, piece, &c->out);

	return e < 0 ? e : flush(c);
}

static int rewrite_body(struct conversion *c)
{
	struct mail_transaction *t = c->t;
	uint64_t tail = t->body_size - t->body.n;
	int fd = t->spool_fd, e;
	_cleanup_(buf_donep) struct buf head = mail_body_take(t);

	e = each_piece(buf_span(&head), fd, tail, put, c);
	if (e >= 0)
		e = transcode_end(c->transcode, &c->out);
	if (e >= 0)
		e = flush(c);
	if (fd >= 0)
		close(fd);
	return MIN(e, 0);
}

int mail_body_to_text(struct core_env *env, struct mail_transaction *t)
{
	struct conversion c = { .env = env,
				.t = t,
				.transcode = transcode_new(TRANSCODE_8BIT),
				.out = BUF_INIT(4 * PIECE + TRANSCODE_HELD) };
	int e = each_piece(buf_span(&t->body), t->spool_fd, t->body_size - t->body.n, scan, &c);

	if (e >= 0)
		switch (transcode_scanned(c.transcode)) {
		case TRANSCODE_AS_IS:
			break;
		case TRANSCODE_NEEDED:
			e = rewrite_body(&c);
			break;
		case TRANSCODE_IMPOSSIBLE:
			e = ERR_UNSUPPORTED;
			break;
		}
	transcode_free(c.transcode);
	buf_done(&c.out);
	return MIN(e, 0);
}
