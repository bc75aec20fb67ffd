/* net: networks as values, and a table of things that hold for networks.  Pure. */
#pragma once

#include "sys/sock.h"

/* Every address is seen as IPv6 (IPv4 as ::ffff:a.b.c.d), so that one form serves both.  Bytes only:
 * usable as a key. */
struct net {
	uint8_t addr[16]; /* bits behind BITS are 0 */
	uint8_t bits;	  /* 0-128; an IPv4 /24 has 120 */
};
#define NET_TEXT 64

/* "192.0.2.0/24", "2001:db8::/32", or one address; bits behind the prefix are dropped.  0 or
 * ERR_SYNTAX. */
int net_parse(span text, struct net *ret);
void net_text(const struct net *n, char ret[NET_TEXT]); /* one address has no "/32" */
bool net_has(const struct net *n, const struct sockaddr_any *a);
bool net_list_has(const struct net *list, size_t n, const struct sockaddr_any *a);

/* Who counts as one: an IPv4 address or an IPv6 /64 (one customer has that at least), and their
 * neighbourhood, an IPv4 /24 or an IPv6 /48. */
struct net net_of_host(const struct sockaddr_any *a);
struct net net_of_site(const struct sockaddr_any *a);
static inline span net_key(const struct net *n)
{
	return span_of(n, sizeof(*n));
}

/* Values by network.  Looking up an address costs one look-up for each length of prefix in use. */
struct net_map;
struct net_map *net_map_new(void);
void net_map_free(struct net_map *m); /* NULL is fine; values are not freed */
void *net_map_get(const struct net_map *m, const struct net *n);
void *net_map_put(struct net_map *m, const struct net *n, void *value); /* returns the one replaced */
void *net_map_del(struct net_map *m, const struct net *n);		/* returns the one removed */
size_t net_map_count(const struct net_map *m);
/* The values whose network has A, the narrowest first; start with *BITS = 128.  NULL at the end. */
void *net_map_match(const struct net_map *m, const struct sockaddr_any *a, int *bits);
bool net_map_next(const struct net_map *m, size_t *it, void **ret_value); /* all, in no order */
