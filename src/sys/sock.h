/* Sockets: addresses as values, listeners, non-blocking connects.  (Not "socket.h": with src/ on the
 * include path that would hide the system's sys/socket.h.) */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/span.h"

/* An IPv4 or IPv6 address and port; or a process of this machine behind a Unix socket, by its user.  An
 * IPv4-mapped IPv6 address is stored as IPv4. */
struct sockaddr_any {
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct {
			sa_family_t family; /* AF_UNIX */
			uint32_t uid;
		} user;
	};
};
#define SOCK_TEXT 64 /* "[2001:db8::1]:25" and NUL */

socklen_t sock_len(const struct sockaddr_any *a);
/* "192.0.2.1", "2001:db8::1" (no port), "uid 1000"; the text form for logs. */
void sock_ip_text(const struct sockaddr_any *a, char ret[SOCK_TEXT]);
void sock_text(const struct sockaddr_any *a, char ret[SOCK_TEXT]);
uint16_t sock_port(const struct sockaddr_any *a);
/* SMTP address literal of RFC 5321 4.1.3: "[192.0.2.1]" or "[IPv6:2001:db8::1]"; "uid 1000". */
void sock_literal(const struct sockaddr_any *a, char ret[SOCK_TEXT]);
/* Numeric only; never asks a resolver. */
int sock_parse_ip(span text, uint16_t port, struct sockaddr_any *ret);
/* "ADDR:PORT", "[ADDR6]:PORT", ":PORT" or "PORT" (wildcard IPv6 dual-stack where possible). */
int sock_parse(span text, struct sockaddr_any *ret);
bool sock_is_local(const struct sockaddr_any *a); /* a process behind a Unix socket */
bool sock_is_loopback(const struct sockaddr_any *a);
bool sock_same_ip(const struct sockaddr_any *a, const struct sockaddr_any *b);

/* Bound and listening TCP socket, non-blocking, SO_REUSEADDR; fd or negative; INFO says which and why. */
int sock_listen(const struct sockaddr_any *a, int backlog, struct err_info *info);
/* Unix stream socket at PATH (old socket file removed), mode as given. */
int sock_listen_unix(const char *path, unsigned mode, struct err_info *info);
int sock_connect_unix(const char *path);
/* Starts a non-blocking connect; fd (in progress or done) or negative.  SOURCE may be NULL. */
int sock_connect_start(const struct sockaddr_any *to, const struct sockaddr_any *source);
int sock_connect_result(int fd); /* after writability: 0 or negative */
/* Accepts one; fd, ERR_AGAIN, or other negative.  Of a Unix socket the peer is its user (SO_PEERCRED).  Sets non-blocking, TCP_NODELAY. */
int sock_accept(int listener, struct sockaddr_any *ret_peer, struct sockaddr_any *ret_local);
