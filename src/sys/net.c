#include "sys/net.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/map.h"

_Static_assert(sizeof(struct net) == 17, "a key has no padding");

enum { IPV4_BITS = 96 }; /* of ::ffff:0:0 */

static const uint8_t ipv4_prefix[12] = { [10] = 0xff, [11] = 0xff };

static void address_bytes(const struct sockaddr_any *a, uint8_t ret[16])
{
	if (a->sa.sa_family == AF_INET) {
		memcpy(ret, ipv4_prefix, sizeof(ipv4_prefix));
		memcpy(ret + 12, &a->in.sin_addr, 4);
	} else {
		memcpy(ret, &a->in6.sin6_addr, 16);
	}
}

static bool is_ipv4(const struct net *n)
{
	return n->bits >= IPV4_BITS && memcmp(n->addr, ipv4_prefix, sizeof(ipv4_prefix)) == 0;
}

static void cut(struct net *n, unsigned bits)
{
	n->bits = (uint8_t)bits;
	for (unsigned i = bits; i < 128; i++)
		n->addr[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
}

static struct net net_of(const struct sockaddr_any *a, unsigned bits)
{
	struct net n;
	address_bytes(a, n.addr);
	cut(&n, bits);
	return n;
}

int net_parse(span text, struct net *ret)
{
	span ip = span_cut(&text, '/');
	struct sockaddr_any a;
	uint64_t bits;
	if (sock_parse_ip(ip, 0, &a) < 0)
		return ERR_SYNTAX;
	/* "::ffff:192.0.2.0/120" has become IPv4, its length has not. */
	unsigned before = a.sa.sa_family == AF_INET && span_find(ip, ':') == SPAN_NPOS ? IPV4_BITS
										       : 0;
	if (!text.p)
		bits = 128 - before;
	else if (!span_u64(text, 128 - before, &bits))
		return ERR_SYNTAX;
	*ret = net_of(&a, before + (unsigned)bits);
	return 0;
}

void net_text(const struct net *n, char ret[NET_TEXT])
{
	char ip[INET6_ADDRSTRLEN];
	bool v4 = is_ipv4(n);
	inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? n->addr + 12 : n->addr, ip, sizeof(ip));
	if (n->bits == 128)
		snprintf(ret, NET_TEXT, "%s", ip);
	else
		snprintf(ret, NET_TEXT, "%s/%u", ip, n->bits - (v4 ? IPV4_BITS : 0));
}

bool net_has(const struct net *n, const struct sockaddr_any *a)
{
	struct net mine = net_of(a, n->bits);
	return memcmp(mine.addr, n->addr, sizeof(mine.addr)) == 0;
}

bool net_list_has(const struct net *list, size_t n, const struct sockaddr_any *a)
{
	for (size_t i = 0; i < n; i++)
		if (net_has(&list[i], a))
			return true;
	return false;
}

struct net net_of_host(const struct sockaddr_any *a)
{
	return net_of(a, a->sa.sa_family == AF_INET ? 128 : 64);
}

struct net net_of_site(const struct sockaddr_any *a)
{
	return net_of(a, a->sa.sa_family == AF_INET ? IPV4_BITS + 24 : 48);
}

/* ------------------------------------------------------------------ values by network */

struct net_map {
	struct map *values;
	size_t with_bits[129];
};

struct net_map *net_map_new(void)
{
	struct net_map *m = xcalloc(1, sizeof(*m));
	m->values = map_new();
	return m;
}

void net_map_free(struct net_map *m)
{
	if (!m)
		return;
	map_free(m->values);
	free(m);
}

void *net_map_get(const struct net_map *m, const struct net *n)
{
	return map_get(m->values, net_key(n));
}

void *net_map_put(struct net_map *m, const struct net *n, void *value)
{
	void *old = map_put(m->values, net_key(n), value);
	m->with_bits[n->bits] += !old;
	return old;
}

void *net_map_del(struct net_map *m, const struct net *n)
{
	void *old = map_del(m->values, net_key(n));
	m->with_bits[n->bits] -= !!old;
	return old;
}

size_t net_map_count(const struct net_map *m)
{
	return map_count(m->values);
}

void *net_map_match(const struct net_map *m, const struct sockaddr_any *a, int *bits)
{
	struct net n = net_of(a, 128);
	while (*bits >= 0) {
		int now = (*bits)--;
		if (m->with_bits[now] == 0)
			continue;
		cut(&n, (unsigned)now);
		void *value = net_map_get(m, &n);
		if (value)
			return value;
	}
	return NULL;
}

bool net_map_next(const struct net_map *m, size_t *it, void **ret_value)
{
	return map_next(m->values, it, NULL, ret_value);
}
