/* Plays very many slow mail servers on loopback: bench_slow_sink PORT DELAY_MS NET DEAD
 *
 * Listens on all addresses.  The server at 127.NET.X.Y is number X * 250 + Y - 1: those below DEAD take a connection
 * and never say a word, the others answer each command, and each message, DELAY_MS after it came.  For each message a
 * line "WALL_USEC NUMBER" goes to standard output.  Ends with its standard input. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"

enum { FDS = 65536, LINE = 1000, PENDING = 1 << 18 };

struct server {
	unsigned generation, number;
	bool dead, in_data;
	size_t n;
	char line[LINE];
};

struct reply {
	int fd;
	unsigned generation;
	const char *text;
	usec due;
};

static struct server servers[FDS];
static struct reply pending[PENDING]; /* a ring: all wait equally long */
static size_t first, last;
static usec delay;
static unsigned net, n_dead;

static void answer(int fd, const char *text)
{
	if (last - first == PENDING)
		abort();
	pending[last++ % PENDING] = (struct reply){ fd, servers[fd].generation, text,
						    clock_mono() + delay };
}

static void hang_up(int fd)
{
	servers[fd].generation++;
	close(fd);
}

static void send_due(void)
{
	for (; first < last && pending[first % PENDING].due <= clock_mono(); first++) {
		const struct reply *r = &pending[first % PENDING];

		if (servers[r->fd].generation != r->generation)
			continue;
		if (send(r->fd, r->text, strlen(r->text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ||
		    strncmp(r->text, "221", 3) == 0)
			hang_up(r->fd);
	}
}

static void command(int fd, struct server *s)
{
	static const struct {
		const char *verb, *reply;
	} table[] = { { "EHLO", "250-sink\r\n250 PIPELINING\r\n" },
		      { "DATA", "354 go on\r\n" },
		      { "QUIT", "221 bye\r\n" } };
	const char *reply = "250 ok\r\n";

	if (s->in_data && strcmp(s->line, ".") != 0)
		return;
	if (s->in_data) {
		s->in_data = false;
		printf("%lld %u\n", (long long)clock_wall(), s->number);
		answer(fd, reply);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (strncasecmp(s->line, table[i].verb, 4) == 0)
			reply = table[i].reply;
	s->in_data = strncasecmp(s->line, "DATA", 4) == 0;
	answer(fd, reply);
}

static void readable(int fd)
{
	struct server *s = &servers[fd];
	char piece[16384];
	ssize_t n = recv(fd, piece, sizeof piece, MSG_DONTWAIT);

	if (n <= 0) {
		hang_up(fd);
		return;
	}
	for (ssize_t i = 0; i < n && !s->dead; i++) {
		if (piece[i] != '\n') {
			if (s->n < LINE - 1 && piece[i] != '\r')
				s->line[s->n++] = piece[i];
			continue;
		}
		s->line[s->n] = 0;
		s->n = 0;
		command(fd, s);
	}
}

static void arrived(int listener, int epoll)
{
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	int fd, one = 1;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		struct server *s = &servers[fd];
		uint32_t ip;

		if (fd >= FDS || getsockname(fd, (struct sockaddr *)&a, &len) != 0)
			abort();
		ip = ntohl(a.sin_addr.s_addr);
		*s = (struct server){ .generation = s->generation + 1,
				      .number = (ip >> 8 & 255) * 250 + (ip & 255) - 1 };
		s->dead = (ip >> 16 & 255) != net || s->number < n_dead;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		epoll_ctl(epoll, EPOLL_CTL_ADD, fd,
			  &(struct epoll_event){ .events = EPOLLIN, .data.fd = fd });
		if (!s->dead)
			answer(fd, "220 sink ESMTP\r\n");
	}
}

static int start(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct rlimit fds;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;

	getrlimit(RLIMIT_NOFILE, &fds);
	fds.rlim_cur = MIN(fds.rlim_max, FDS);
	setrlimit(RLIMIT_NOFILE, &fds);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&a, sizeof a) != 0 || listen(listener, 4096) != 0) {
		perror("bench_slow_sink");
		exit(1);
	}
	return listener;
}

int main(int argc, char **argv)
{
	struct epoll_event events[256];
	int listener, epoll = epoll_create1(0);

	if (argc != 5) {
		fprintf(stderr, "usage: bench_slow_sink PORT DELAY_MS NET DEAD\n");
		return 2;
	}
	delay = atoi(argv[2]) * USEC_MSEC;
	net = (unsigned)atoi(argv[3]);
	n_dead = (unsigned)atoi(argv[4]);
	listener = start((uint16_t)atoi(argv[1]));
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener,
		  &(struct epoll_event){ .events = EPOLLIN, .data.fd = listener });
	epoll_ctl(epoll, EPOLL_CTL_ADD, 0,
		  &(struct epoll_event){ .events = EPOLLIN, .data.fd = 0 });
	printf("ready\n");
	for (;;) {
		int n;

		fflush(stdout);
		n = epoll_wait(epoll, events, ARRAY_LEN(events), first < last ? 2 : 200);
		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == 0)
				return 0;
			if (events[i].data.fd == listener)
				arrived(listener, epoll);
			else
				readable(events[i].data.fd);
		}
		send_due();
	}
}
