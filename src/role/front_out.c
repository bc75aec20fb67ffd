/* Output: what the peer's socket does not take at once waits in a rope of chunks.
 *
 * EPOLLOUT is watched only while a write has blocked.  A record that TLS could not send must be
 * offered again with at least its bytes in one piece, which is why the rest of a direct write goes
 * into a chunk of its own. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/arena.h"
#include "role/front_int.h"

struct chunk {
	struct chunk *next;
	size_t at, n, cap;
	char data[];
};

#define CHUNK_MIN 4000
#define WRITE_IOV 16

static void rope_append(struct rope *r, span s)
{
	struct chunk *c = r->last;
	r->n += s.n;
	if (c) {
		size_t n = MIN(s.n, c->cap - c->n);
		memcpy(c->data + c->n, s.p, n);
		c->n += n;
		s = span_from(s, n);
	}
	if (s.n == 0)
		return;
	size_t cap = MAX(s.n, (size_t)CHUNK_MIN);
	c = xmalloc(sizeof(*c) + cap);
	*c = (struct chunk){ .n = s.n, .cap = cap };
	memcpy(c->data, s.p, s.n);
	if (r->last)
		r->last->next = c;
	else
		r->first = c;
	r->last = c;
}

/* Drops the first N bytes, which were written. */
static void rope_consume(struct rope *r, size_t n)
{
	r->n -= n;
	while (n > 0) {
		struct chunk *c = r->first;
		size_t part = MIN(n, c->n - c->at);
		c->at += part;
		n -= part;
		if (c->at < c->n)
			return;
		r->first = c->next;
		if (!r->first)
			r->last = NULL;
		free(c);
	}
}

void rope_done(struct rope *r)
{
	while (r->first) {
		struct chunk *c = r->first;
		r->first = c->next;
		free(c);
	}
	*r = (struct rope){ 0 };
}

/* The results of one attempt: bytes written (0: blocked), or negative. */
static ssize_t write_clear(struct conn *c, const struct iovec *iov, int n)
{
	struct msghdr m = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n };
	ssize_t r;
	do
		r = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return errno == EAGAIN ? 0 : ERR_IO;
	return r;
}

static ssize_t write_tls(struct conn *c, span s)
{
	size_t n = 0;
	switch (tls_write(c->tls, s.p, s.n, &n)) {
	case TLS_OK:
		return (ssize_t)n;
	case TLS_WANT_READ:
	case TLS_WANT_WRITE:
		return 0;
	default:
		return ERR_TLS;
	}
}

static ssize_t write_span(struct conn *c, span s)
{
	const struct iovec iov = { .iov_base = (void *)s.p, .iov_len = s.n };
	return c->tls ? write_tls(c, s) : write_clear(c, &iov, 1);
}

static ssize_t write_rope(struct conn *c)
{
	const struct chunk *k = c->out.first;
	if (c->tls)
		return write_tls(c, span_of(k->data + k->at, k->n - k->at));
	struct iovec iov[WRITE_IOV];
	int n = 0;
	for (; k && n < WRITE_IOV; k = k->next)
		iov[n++] = (struct iovec){ (char *)k->data + k->at, k->n - k->at };
	return write_clear(c, iov, n);
}

void conn_write(struct conn *c, span s)
{
	if (c->state >= CONN_CLOSING)
		return;
	while (s.n > 0 && c->out.n == 0 && !c->on_hold) {
		ssize_t r = write_span(c, s);
		if (r < 0) {
			conn_kill(c, SESS_WHY_ERROR);
			return;
		}
		if (r == 0)
			break;
		s = span_from(s, (size_t)r);
	}
	if (s.n == 0)
		return;
	if (s.n > OUT_MAX - c->out.n) {
		conn_kill(c, SESS_WHY_ERROR);
		return;
	}
	rope_append(&c->out, s);
}

void conn_flush(struct conn *c)
{
	while (c->out.n > 0) {
		ssize_t r = write_rope(c);
		if (r < 0) {
			conn_kill(c, SESS_WHY_ERROR);
			return;
		}
		if (r == 0)
			return;
		rope_consume(&c->out, (size_t)r);
		c->progress = (uint32_t)MIN(c->progress + (size_t)r, (size_t)PROGRESS);
	}
}
