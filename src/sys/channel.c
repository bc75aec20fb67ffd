#include "sys/channel.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"

/* A datagram is one or more records: {le32 payload length, le16 type, le16 flags = 0, le64 id,
 * payload}.  A message with an fd travels alone, so that the fd's owner is never in doubt. */
enum {
	HEADER = 16,
	DATAGRAM_GATHER = 64 * 1024 + HEADER, /* corked records are gathered up to here */
	DATAGRAM_MAX = CHANNEL_MAX + HEADER,
	DATAGRAMS_PER_ROUND = 64, /* then other fds of the loop get their turn */
	FDS_MAX = 4,		  /* received in one datagram; more than one is a broken peer */
	SOCKET_BUFFER = 4 * 1024 * 1024,
	BACKLOG_MAX = 64 * 1024 * 1024, /* then the peer is taken for dead */
};

struct datagram {
	struct datagram *next;
	int fd; /* own duplicate, or -1 */
	size_t n;
	char bytes[];
};

struct channel {
	atomic_uint refs;
	int fd;
	/* The loop's thread only: */
	struct loop *loop;
	struct loop_io *io;
	channel_fn *fn;
	channel_closed_fn *closed;
	void *arg;
	char *in; /* DATAGRAM_MAX bytes */
	/* Any thread: */
	pthread_mutex_t lock; /* of the rest; held over one sendmsg, which does not block */
	struct datagram *queue, **queue_tail;
	atomic_size_t backlog;
	bool dead;	  /* closed here or by the peer: nothing more is sent */
	bool drain_asked; /* the loop was asked to wait for EPOLLOUT */
};

/* What the calling thread has corked, one entry per channel. */
struct cork {
	struct channel *c;
	struct buf records;
	struct cork *next;
};
static _Thread_local struct cork *corks;

/* ------------------------------------------------------------------ datagrams and the socket */

static void grow_buffer(int fd, int forced, int plain)
{
	const int size = SOCKET_BUFFER;
	if (setsockopt(fd, SOL_SOCKET, forced, &size, sizeof(size)) != 0) /* needs CAP_NET_ADMIN */
		(void)setsockopt(fd, SOL_SOCKET, plain, &size, sizeof(size));
}

int channel_pair(int ret_fds[2])
{
	int fds[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0)
		return err_from_errno(errno);
	for (int i = 0; i < 2; i++) {
		grow_buffer(fds[i], SO_SNDBUFFORCE, SO_SNDBUF);
		grow_buffer(fds[i], SO_RCVBUFFORCE, SO_RCVBUF);
		ret_fds[i] = fds[i];
	}
	return 0;
}

static void put_header(struct buf *b, size_t n, uint16_t type, uint64_t id)
{
	buf_put_le32(b, (uint32_t)n);
	buf_put_le16(b, type);
	buf_put_le16(b, 0);
	buf_put_le64(b, id);
}

static ssize_t send_datagram(int sock, const struct iovec *iov, size_t iovs, int fd, int flags)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr m = { .msg_iov = (struct iovec *)iov, .msg_iovlen = iovs };
	if (fd >= 0) {
		m.msg_control = &control;
		m.msg_controllen = sizeof(control.space);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	ssize_t n;
	do
		n = sendmsg(sock, &m, flags | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n;
}

/* Takes the fds out of M; the first goes to the caller, surplus ones are closed. */
static int take_fd(struct msghdr *m)
{
	int first = -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (first < 0)
				first = fd;
			else
				close(fd);
		}
	}
	return first;
}

/* Receives one datagram: its length, 0 at the end, -1 with errno.  *RET_FD must be closed or used.
 */
static ssize_t recv_datagram(int sock, const struct iovec *iov, size_t iovs, int flags, int *ret_fd)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * FDS_MAX)];
	} control;
	struct msghdr m = { .msg_iov = (struct iovec *)iov,
			    .msg_iovlen = iovs,
			    .msg_control = &control,
			    .msg_controllen = sizeof(control.space) };
	ssize_t n;
	do
		n = recvmsg(sock, &m, flags | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	*ret_fd = n < 0 ? -1 : take_fd(&m);
	if (n > 0 && (m.msg_flags & MSG_TRUNC)) {
		close_fdp(ret_fd);
		*ret_fd = -1;
		errno = EMSGSIZE;
		return -1;
	}
	return n;
}

/* ------------------------------------------------------------------ sending */

struct channel *channel_ref(struct channel *c)
{
	atomic_fetch_add(&c->refs, 1);
	return c;
}

static void drop_queue(struct channel *c)
{
	while (c->queue) {
		struct datagram *d = c->queue;
		c->queue = d->next;
		close_fdp(&d->fd);
		free(d);
	}
	c->queue_tail = &c->queue;
	atomic_store(&c->backlog, 0);
}

void channel_unref(struct channel *c)
{
	if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	drop_queue(c);
	close_fdp(&c->fd);
	pthread_mutex_destroy(&c->lock);
	free(c->in);
	free(c);
}

/* Under the lock.  The loop's thread learns of it by the hang-up of its own socket. */
static void kill_channel(struct channel *c)
{
	c->dead = true;
	drop_queue(c);
	shutdown(c->fd, SHUT_RDWR);
}

static bool must_wait(int e)
{
	return e == EAGAIN || e == ENOBUFS || e == ENOMEM || e == ETOOMANYREFS;
}

static void ask_drain(void *arg) /* on the loop's thread; holds a reference */
{
	struct channel *c = arg;
	if (c->io)
		loop_io_set(c->io, LOOP_READ | LOOP_WRITE);
	channel_unref(c);
}

/* Under the lock. */
static int enqueue(struct channel *c, span bytes, int fd)
{
	size_t backlog = atomic_load(&c->backlog) + bytes.n;
	int own = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (backlog > BACKLOG_MAX || (fd >= 0 && own < 0)) {
		kill_channel(c);
		return ERR_CLOSED;
	}
	struct datagram *d = xmalloc(sizeof(*d) + bytes.n);
	d->next = NULL;
	d->fd = own;
	d->n = bytes.n;
	memcpy(d->bytes, bytes.p, bytes.n);
	*c->queue_tail = d;
	c->queue_tail = &d->next;
	atomic_store(&c->backlog, backlog);
	if (!c->drain_asked) {
		c->drain_asked = true;
		loop_post(c->loop, ask_drain, channel_ref(c));
	}
	return 0;
}

static int submit(struct channel *c, span bytes, int fd)
{
	struct iovec iov = { .iov_base = (void *)bytes.p, .iov_len = bytes.n };
	int r = 0;
	pthread_mutex_lock(&c->lock);
	if (c->dead) {
		r = ERR_CLOSED;
	} else if (c->queue) {
		r = enqueue(c, bytes, fd);
	} else if (send_datagram(c->fd, &iov, 1, fd, MSG_DONTWAIT) < 0) {
		if (must_wait(errno)) {
			r = enqueue(c, bytes, fd);
		} else {
			kill_channel(c);
			r = ERR_CLOSED;
		}
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

/* On the loop's thread, when the kernel takes bytes again. */
static void drain(struct channel *c)
{
	pthread_mutex_lock(&c->lock);
	while (c->queue) {
		struct datagram *d = c->queue;
		struct iovec iov = { .iov_base = d->bytes, .iov_len = d->n };
		if (send_datagram(c->fd, &iov, 1, d->fd, MSG_DONTWAIT) < 0) {
			if (!must_wait(errno))
				kill_channel(c);
			break;
		}
		c->queue = d->next;
		if (!c->queue)
			c->queue_tail = &c->queue;
		atomic_fetch_sub(&c->backlog, d->n);
		close_fdp(&d->fd);
		free(d);
	}
	bool empty = !c->queue;
	if (empty)
		c->drain_asked = false;
	pthread_mutex_unlock(&c->lock);
	/* Who queues again from here on posts again, and that runs after this. */
	if (empty)
		loop_io_set(c->io, LOOP_READ);
}

static struct cork **find_cork(struct channel *c)
{
	struct cork **at = &corks;
	while (*at && (*at)->c != c)
		at = &(*at)->next;
	return at;
}

static int flush_cork(struct cork *k)
{
	int r = k->records.n ? submit(k->c, buf_span(&k->records), -1) : 0;
	buf_reset(&k->records);
	return r;
}

void channel_cork(struct channel *c)
{
	assert(!*find_cork(c));
	struct cork *k = xmalloc(sizeof(*k));
	*k = (struct cork){ .c = c, .records = BUF_INIT(DATAGRAM_MAX), .next = corks };
	corks = k;
}

void channel_uncork(struct channel *c)
{
	struct cork **at = find_cork(c), *k = *at;
	assert(k);
	*at = k->next;
	flush_cork(k); /* a closed channel shows by its callback */
	buf_done(&k->records);
	free(k);
}

int channel_send(struct channel *c, uint16_t type, uint64_t id, span payload, int fd)
{
	if (payload.n > CHANNEL_MAX)
		return ERR_TOOBIG;
	struct cork *k = *find_cork(c);
	int r = 0;
	if (k && (fd >= 0 || k->records.n + HEADER + payload.n > DATAGRAM_GATHER))
		r = flush_cork(k);
	if (k && fd < 0) {
		put_header(&k->records, payload.n, type, id);
		buf_put_span(&k->records, payload);
		return r;
	}
	_cleanup_(buf_donep) struct buf record = BUF_INIT(DATAGRAM_MAX);
	buf_reserve(&record, HEADER + payload.n);
	put_header(&record, payload.n, type, id);
	buf_put_span(&record, payload);
	return submit(c, buf_span(&record), fd);
}

size_t channel_backlog(const struct channel *c)
{
	return atomic_load(&c->backlog);
}

/* ------------------------------------------------------------------ receiving */

static bool next_record(struct cursor *in, struct channel_msg *ret)
{
	uint32_t n = cursor_le32(in);
	ret->type = cursor_le16(in);
	uint16_t flags = cursor_le16(in);
	ret->id = cursor_le64(in);
	ret->payload = cursor_bytes(in, n);
	return !in->bad && flags == 0 && n <= CHANNEL_MAX;
}

/* Hands out the records of one datagram; false if it is malformed. */
static bool dispatch(struct channel *c, span bytes, int fd)
{
	struct cursor in = cursor_of(bytes);
	bool good = true;
	while (good && c->io && !cursor_at_end(&in)) {
		struct channel_msg m = { .fd = fd };
		good = next_record(&in, &m);
		if (good) {
			c->fn(c->arg, c, &m);
			fd = m.fd;
			close_fdp(&fd);
			fd = -1; /* it belonged to the first record */
		}
	}
	close_fdp(&fd);
	return good;
}

static void hang_up(struct channel *c)
{
	loop_io_del(c->io);
	c->io = NULL;
	pthread_mutex_lock(&c->lock);
	kill_channel(c);
	pthread_mutex_unlock(&c->lock);
	if (c->closed)
		c->closed(c->arg, c);
}

static void on_io(void *arg, unsigned events)
{
	struct channel *c = channel_ref(arg); /* a callback may close it */
	if (events & LOOP_WRITE)
		drain(c);
	for (int i = 0; i < DATAGRAMS_PER_ROUND && c->io && (events & LOOP_READ); i++) {
		struct iovec iov = { .iov_base = c->in, .iov_len = DATAGRAM_MAX };
		int fd;
		ssize_t n = recv_datagram(c->fd, &iov, 1, MSG_DONTWAIT, &fd);
		if (n < 0 && errno == EAGAIN)
			break;
		bool good = n > 0 && dispatch(c, span_of(c->in, (size_t)n), fd);
		if (!good && c->io)
			hang_up(c);
	}
	channel_unref(c);
}

struct channel *channel_open(struct loop *l, int fd, channel_fn *fn, channel_closed_fn *closed,
			     void *arg)
{
	struct channel *c = xcalloc(1, sizeof(*c));
	atomic_init(&c->refs, 1);
	c->fd = fd;
	c->loop = l;
	c->fn = fn;
	c->closed = closed;
	c->arg = arg;
	c->in = xmalloc(DATAGRAM_MAX);
	c->queue_tail = &c->queue;
	pthread_mutex_init(&c->lock, NULL);
	c->io = loop_io_add(l, fd, LOOP_READ, on_io, c);
	return c;
}

void channel_close(struct channel *c)
{
	if (!c)
		return;
	loop_io_del(c->io);
	c->io = NULL;
	pthread_mutex_lock(&c->lock);
	kill_channel(c);
	pthread_mutex_unlock(&c->lock);
	channel_unref(c);
}

/* ------------------------------------------------------------------ blocking use */

int channel_send_fd(int sock, uint16_t type, uint64_t id, span payload, int fd)
{
	if (payload.n > CHANNEL_MAX)
		return ERR_TOOBIG;
	_cleanup_(buf_donep) struct buf header = BUF_INIT(HEADER);
	put_header(&header, payload.n, type, id);
	struct iovec iov[2] = {
		{ .iov_base = header.p, .iov_len = header.n },
		{ .iov_base = (void *)payload.p, .iov_len = payload.n },
	};
	return send_datagram(sock, iov, 2, fd, 0) < 0 ? err_from_errno(errno) : 0;
}

static int wait_readable(int sock, usec timeout)
{
	usec due = clock_mono() + timeout;
	for (;;) {
		usec left = MAX(due - clock_mono(), (usec)0);
		struct timespec ts = { .tv_sec = left / USEC_SEC,
				       .tv_nsec = left % USEC_SEC * 1000 };
		struct pollfd p = { .fd = sock, .events = POLLIN };
		int r = ppoll(&p, 1, timeout > 0 ? &ts : NULL, NULL);
		if (r > 0)
			return 0;
		if (r == 0)
			return ERR_TIMEOUT;
		if (errno != EINTR)
			return err_from_errno(errno);
	}
}

int channel_recv_fd(int sock, usec timeout, uint16_t *ret_type, uint64_t *ret_id, struct buf *b,
		    int *ret_fd)
{
	int r = wait_readable(sock, timeout);
	if (r < 0)
		return r;
	char probe;
	ssize_t size = recv(sock, &probe, 1, MSG_PEEK | MSG_TRUNC);
	if (size < 0)
		return err_from_errno(errno);
	if (size == 0)
		return ERR_CLOSED;
	size_t n = size > HEADER ? MIN((size_t)size, (size_t)DATAGRAM_MAX) - HEADER : 0;
	char header[HEADER], *to = buf_reserve(b, n);
	struct iovec iov[2] = { { .iov_base = header, .iov_len = HEADER },
				{ .iov_base = to, .iov_len = to ? n : 0 } };
	_cleanup_(close_fdp) int fd = -1;
	ssize_t got = recv_datagram(sock, iov, 2, 0, &fd);
	if (!to)
		return ERR_TOOBIG;
	if (got < 0)
		return errno == EMSGSIZE ? ERR_PROTO : err_from_errno(errno);
	struct cursor in = cursor_of(span_of(header, MIN((size_t)got, (size_t)HEADER)));
	uint32_t length = cursor_le32(&in);
	uint16_t type = cursor_le16(&in), flags = cursor_le16(&in);
	uint64_t id = cursor_le64(&in);
	if (in.bad || flags || length != (size_t)got - HEADER) /* one message, not several */
		return ERR_PROTO;
	buf_added(b, length);
	*ret_type = type;
	*ret_id = id;
	if (ret_fd)
		*ret_fd = STEAL_FD(&fd);
	return 0;
}
