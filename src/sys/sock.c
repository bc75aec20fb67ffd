#include "sys/sock.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ------------------------------------------------------------------ addresses */

socklen_t sock_len(const struct sockaddr_any *a)
{
	return a->sa.sa_family == AF_INET6 ? sizeof(a->in6) : sizeof(a->in);
}

static void unmap(struct sockaddr_any *a)
{
	if (a->sa.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
		return;
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = a->in6.sin6_port };
	memcpy(&in.sin_addr, a->in6.sin6_addr.s6_addr + 12, 4);
	*a = (struct sockaddr_any){ .in = in };
}

void sock_ip_text(const struct sockaddr_any *a, char ret[SOCK_TEXT])
{
	const void *ip = a->sa.sa_family == AF_INET6 ? (const void *)&a->in6.sin6_addr
						     : &a->in.sin_addr;
	if (sock_is_local(a))
		snprintf(ret, SOCK_TEXT, "uid %u", a->user.uid);
	else if ((a->sa.sa_family != AF_INET && a->sa.sa_family != AF_INET6) ||
		 !inet_ntop(a->sa.sa_family, ip, ret, SOCK_TEXT))
		snprintf(ret, SOCK_TEXT, "unknown");
}

bool sock_is_local(const struct sockaddr_any *a)
{
	return a->sa.sa_family == AF_UNIX;
}

uint16_t sock_port(const struct sockaddr_any *a)
{
	return ntohs(a->sa.sa_family == AF_INET6 ? a->in6.sin6_port : a->in.sin_port);
}

static void wrap_ip(const struct sockaddr_any *a, const char *head, const char *tail,
		    char ret[SOCK_TEXT])
{
	char ip[INET6_ADDRSTRLEN + 8];
	char text[SOCK_TEXT];
	sock_ip_text(a, text);
	snprintf(ip, sizeof(ip), "%.*s", INET6_ADDRSTRLEN, text);
	snprintf(ret, SOCK_TEXT, "%s%s%.8s", head, ip, tail);
}

void sock_text(const struct sockaddr_any *a, char ret[SOCK_TEXT])
{
	bool six = a->sa.sa_family == AF_INET6;
	char tail[16];
	snprintf(tail, sizeof(tail), "%s:%u", six ? "]" : "", sock_port(a));
	wrap_ip(a, six ? "[" : "", tail, ret);
}

void sock_literal(const struct sockaddr_any *a, char ret[SOCK_TEXT])
{
	if (sock_is_local(a))
		sock_ip_text(a, ret);
	else
		wrap_ip(a, a->sa.sa_family == AF_INET6 ? "[IPv6:" : "[", "]", ret);
}

int sock_parse_ip(span text, uint16_t port, struct sockaddr_any *ret)
{
	char z[INET6_ADDRSTRLEN];
	if (text.n == 0 || text.n >= sizeof(z) || memchr(text.p, '\0', text.n))
		return ERR_SYNTAX;
	memcpy(z, text.p, text.n);
	z[text.n] = '\0';
	struct sockaddr_any a = { .in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) } };
	if (inet_pton(AF_INET6, z, &a.in6.sin6_addr) == 1) {
		unmap(&a);
	} else {
		a = (struct sockaddr_any){ .in = { .sin_family = AF_INET,
						   .sin_port = htons(port) } };
		if (inet_pton(AF_INET, z, &a.in.sin_addr) != 1)
			return ERR_SYNTAX;
	}
	*ret = a;
	return 0;
}

int sock_parse(span text, struct sockaddr_any *ret)
{
	size_t colon = span_rfind(text, ':');
	span host = colon == SPAN_NPOS ? SPAN_NULL : span_sub(text, 0, colon);
	span digits = colon == SPAN_NPOS ? text : span_from(text, colon + 1);
	uint64_t port;
	if (!span_u64(digits, UINT16_MAX, &port))
		return ERR_SYNTAX;
	if (host.n == 0) {
		*ret = (struct sockaddr_any){ .in6 = { .sin6_family = AF_INET6,
						       .sin6_port = htons((uint16_t)port),
						       .sin6_addr = in6addr_any } };
		return 0;
	}
	bool brackets = host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
	if (brackets)
		host = span_sub(host, 1, host.n - 2);
	/* "2001:db8::1:25" could mean two things. */
	if (brackets != (span_find(host, ':') != SPAN_NPOS))
		return ERR_SYNTAX;
	return sock_parse_ip(host, (uint16_t)port, ret);
}

bool sock_is_loopback(const struct sockaddr_any *a)
{
	if (a->sa.sa_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr);
	return a->sa.sa_family == AF_INET && ntohl(a->in.sin_addr.s_addr) >> 24 == 127;
}

bool sock_same_ip(const struct sockaddr_any *a, const struct sockaddr_any *b)
{
	if (a->sa.sa_family != b->sa.sa_family)
		return false;
	if (a->sa.sa_family == AF_INET6)
		return IN6_ARE_ADDR_EQUAL(&a->in6.sin6_addr, &b->in6.sin6_addr);
	return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
}

/* ------------------------------------------------------------------ listening */

static void set_flag(int fd, int level, int option, int value)
{
	/* Best effort: none of these options decides whether the socket works. */
	(void)setsockopt(fd, level, option, &value, sizeof(value));
}

static bool is_wildcard6(const struct sockaddr_any *a)
{
	return a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr);
}

int sock_listen(const struct sockaddr_any *a, int backlog, struct err_info *info)
{
	struct sockaddr_any any4;
	int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 && errno == EAFNOSUPPORT && is_wildcard6(a)) { /* a host without IPv6 */
		any4 = (struct sockaddr_any){ .in = { .sin_family = AF_INET,
						      .sin_port = a->in6.sin6_port } };
		a = &any4;
		fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	}
	char text[SOCK_TEXT];
	sock_text(a, text);
	if (fd < 0)
		return err_set(info, err_from_errno(errno), "%s: socket: %s", text,
			       strerror(errno));
	set_flag(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (a->sa.sa_family == AF_INET6)
		set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY, !is_wildcard6(a));
	if (bind(fd, &a->sa, sock_len(a)) == 0 && listen(fd, backlog) == 0)
		return fd;
	int e = errno;
	close(fd);
	return err_set(info, err_from_errno(e), "cannot listen on %s: %s", text, strerror(e));
}

static int unix_address(const char *path, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	size_t n = strlen(path);
	if (n == 0 || n >= sizeof(ret->sun_path))
		return ERR_TOOBIG;
	memcpy(ret->sun_path, path, n);
	return 0;
}

int sock_listen_unix(const char *path, unsigned mode, struct err_info *info)
{
	struct sockaddr_un a;
	if (unix_address(path, &a) < 0)
		return err_set(info, ERR_TOOBIG, "%s: too long for a socket path", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(info, err_from_errno(errno), "%s: %s", path, strerror(errno));
	struct stat st;
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(path);
	/* Nobody may connect before chmod has said who may. */
	mode_t before = umask(0177);
	int r = bind(fd, (struct sockaddr *)&a, sizeof(a));
	umask(before);
	if (r == 0 && chmod(path, mode) == 0 && listen(fd, 128) == 0)
		return fd;
	int e = errno;
	close(fd);
	return err_set(info, err_from_errno(e), "cannot listen on %s: %s", path, strerror(e));
}

/* Who cannot be told is nobody. */
static struct sockaddr_any local_peer(int fd)
{
	struct ucred who = { .uid = (uid_t)-1 };
	socklen_t n = sizeof(who);
	(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n);
	return (struct sockaddr_any){ .user = { .family = AF_UNIX, .uid = who.uid } };
}

int sock_accept(int listener, struct sockaddr_any *ret_peer, struct sockaddr_any *ret_local)
{
	struct sockaddr_any peer = { 0 }, local = { 0 };
	socklen_t peer_len = sizeof(peer), local_len = sizeof(local);
	int fd = accept4(listener, &peer.sa, &peer_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return errno == ECONNABORTED || errno == EPERM ? ERR_AGAIN : err_from_errno(errno);
	if (sock_is_local(&peer)) {
		peer = local_peer(fd);
	} else {
		set_flag(fd, IPPROTO_TCP, TCP_NODELAY, 1);
		unmap(&peer);
	}
	if (getsockname(fd, &local.sa, &local_len) != 0)
		local = (struct sockaddr_any){ 0 };
	unmap(&local);
	if (ret_peer)
		*ret_peer = peer;
	if (ret_local)
		*ret_local = local;
	return fd;
}

/* ------------------------------------------------------------------ connecting */

int sock_connect_unix(const char *path)
{
	struct sockaddr_un a;
	int r = unix_address(path, &a);
	if (r < 0)
		return r;
	_cleanup_(close_fdp) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0)
		return err_from_errno(errno);
	return STEAL_FD(&fd);
}

int sock_connect_start(const struct sockaddr_any *to, const struct sockaddr_any *source)
{
	_cleanup_(close_fdp) int fd = socket(to->sa.sa_family,
					     SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_from_errno(errno);
	set_flag(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (source) {
		set_flag(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT,
			 1); /* the port is chosen per peer */
		if (bind(fd, &source->sa, sock_len(source)) != 0)
			return err_from_errno(errno);
	}
	if (connect(fd, &to->sa, sock_len(to)) != 0 && errno != EINPROGRESS)
		return err_from_errno(errno);
	return STEAL_FD(&fd);
}

int sock_connect_result(int fd)
{
	int e = 0;
	socklen_t n = sizeof(e);
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n) != 0)
		e = errno;
	return err_from_errno(e);
}
