/* UDP and TCP around zone_answer(). */
#include "lab/responder.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sys/sock.h"

#define TCP_MAX 65535

struct responder {
	const struct zone *zone;
	int udp, tcp, stop[2];
	pthread_t thread;
};

static void serve_udp(struct responder *r)
{
	_cleanup_(buf_donep) struct buf answer = BUF_INIT(TCP_MAX);
	char query[4096];
	struct sockaddr_any from;
	socklen_t len = sizeof from;
	ssize_t n = recvfrom(r->udp, query, sizeof query, 0, &from.sa, &len);

	if (n > 0 && zone_answer(r->zone, span_of(query, (size_t)n), 4096, &answer))
		(void)!sendto(r->udp, answer.p, answer.n, 0, &from.sa, len);
}

static bool read_all(int fd, void *p, size_t n)
{
	char *at = p;

	while (n) {
		ssize_t got = recv(fd, at, n, 0);

		if (got <= 0)
			return false;
		at += got;
		n -= (size_t)got;
	}
	return true;
}

/* One client at a time, a few questions: resolvers come here only for large answers. */
static void serve_tcp(struct responder *r)
{
	_cleanup_(close_fdp) int fd = accept4(r->tcp, NULL, NULL, SOCK_CLOEXEC);
	struct timeval limit = { .tv_sec = 2 };
	static char query[TCP_MAX];
	unsigned char len[2];

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	while (read_all(fd, len, 2)) {
		_cleanup_(buf_donep) struct buf answer = BUF_INIT(TCP_MAX);
		size_t n = (size_t)len[0] << 8 | len[1];

		if (!read_all(fd, query, n) ||
		    !zone_answer(r->zone, span_of(query, n), TCP_MAX, &answer))
			return;
		len[0] = (unsigned char)(answer.n >> 8);
		len[1] = (unsigned char)answer.n;
		if (send(fd, len, 2, MSG_NOSIGNAL | MSG_MORE) != 2 ||
		    send(fd, answer.p, answer.n, MSG_NOSIGNAL) != (ssize_t)answer.n)
			return;
	}
}

static void *run(void *arg)
{
	struct responder *r = arg;

	for (;;) {
		struct pollfd fds[] = { { .fd = r->stop[0], .events = POLLIN },
					{ .fd = r->udp, .events = POLLIN },
					{ .fd = r->tcp, .events = POLLIN } };

		if (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno != EINTR)
			return NULL;
		if (fds[0].revents)
			return NULL;
		if (fds[1].revents)
			serve_udp(r);
		if (fds[2].revents)
			serve_tcp(r);
	}
}

/* A UDP and a TCP socket on the same port of 127.0.0.1. */
static int open_sockets(struct responder *r, uint16_t *ret_port)
{
	for (int attempt = 0; attempt < 50; attempt++) {
		struct sockaddr_any a = { .in = { .sin_family = AF_INET,
						  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) } };
		socklen_t len = sizeof a;

		r->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (r->udp < 0 || bind(r->udp, &a.sa, sizeof a.in) != 0 ||
		    getsockname(r->udp, &a.sa, &len) != 0)
			return ERR_IO;
		r->tcp = sock_listen(&a, 64, NULL);
		if (r->tcp >= 0) {
			*ret_port = sock_port(&a);
			return 0;
		}
		close(r->udp);
		r->udp = -1;
	}
	return ERR_BUSY;
}

int responder_start(const struct zone *z, struct responder **ret, uint16_t *ret_port,
		    struct err_info *info)
{
	struct responder *r = xcalloc(1, sizeof *r);
	int e;

	*r = (struct responder){ .zone = z, .udp = -1, .tcp = -1, .stop = { -1, -1 } };
	e = open_sockets(r, ret_port);
	if (e == 0 &&
	    (pipe2(r->stop, O_CLOEXEC) != 0 || pthread_create(&r->thread, NULL, run, r) != 0))
		e = ERR_AGAIN;
	if (e < 0) {
		close_fdp(&r->udp);
		close_fdp(&r->tcp);
		free(r);
		return err_set(info, e, "cannot start the name server: %s", err_text(e));
	}
	*ret = r;
	return 0;
}

void responder_stop(struct responder *r)
{
	if (!r)
		return;
	(void)!write(r->stop[1], "x", 1);
	pthread_join(r->thread, NULL);
	close(r->udp);
	close(r->tcp);
	close(r->stop[0]);
	close(r->stop[1]);
	free(r);
}
