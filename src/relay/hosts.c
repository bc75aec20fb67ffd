#include "relay/relay_int.h"

#include <stdlib.h>

#define LMTP_PORT 24

/* --- the way --- */

/* A host of relay.hosts. */
static bool by_name(const struct conf *c, struct relay_way *w)
{
	static const struct {
		enum relay_tls tls;
		bool implicit;
	} policy[] = { [CONF_RELAY_TLS_NONE] = { RELAY_TLS_NONE, false },
		       [CONF_RELAY_TLS_MAY] = { RELAY_TLS_MAY, false },
		       [CONF_RELAY_TLS_MUST] = { RELAY_TLS_MUST, false },
		       [CONF_RELAY_TLS_VERIFY] = { RELAY_TLS_VERIFY, false },
		       [CONF_RELAY_TLS_IMPLICIT] = { RELAY_TLS_VERIFY, true } };
	const struct conf_relay_host *h = conf_relay_host(c, w->hop.name);

	if (!h)
		return false;
	w->name = h->host;
	w->has_address = sock_parse_ip(h->host, 0, &w->address) == 0;
	w->port = (uint16_t)h->port;
	w->tls = policy[h->tls].tls;
	w->implicit_tls = policy[h->tls].implicit;
	w->lmtp = h->lmtp;
	return true;
}

bool relay_way_find(const struct conf *c, span route, struct arena *mem, struct relay_way *ret,
		    struct relay_reason *reason)
{
	struct relay_way w = { .tls = RELAY_TLS_MAY };

	if (conf_nexthop_parse(mail_route_way(route), mem, &w.hop) < 0) {
		*reason = (struct relay_reason){ "5.1.2",
						 SPAN("the domain of the address is not valid") };
		return false;
	}
	w.name = w.hop.name;
	w.has_address = w.hop.has_address;
	w.address = w.hop.address;
	w.lmtp = w.hop.lmtp;
	w.port = w.hop.port ? w.hop.port : w.hop.lmtp ? LMTP_PORT : (uint16_t)c->relay_port;
	if (w.hop.kind == NEXTHOP_VIA && !by_name(c, &w)) {
		*reason = (struct relay_reason){
			"4.3.5", span_str(arena_printf(mem,
						       "relay.hosts in the configuration has no "
						       "host called %.*s",
						       SPAN_FMT(w.hop.name)))
		};
		return false;
	}
	if (w.hop.kind == NEXTHOP_VIA)
		w.name = arena_span(mem, w.name); /* C may go */
	*ret = w;
	return true;
}

/* --- MX --- */

static span lookup_text(const struct dns_answer *a, const char *what, struct arena *mem)
{
	struct buf b _cleanup_(buf_donep) = BUF_INIT(1024);

	buf_printf(&b, "%s of ", what);
	buf_put_escaped(&b, a->name, 255);
	buf_put_str(&b, ": ");
	buf_put_str(&b, a->status == DNS_TIMEOUT    ? "time-out"
			: a->status == DNS_BOGUS    ? "DNSSEC validation failed"
			: a->status == DNS_SERVFAIL ? "server failure"
			: a->status == DNS_NXDOMAIN ? "no such domain"
						    : "no such record");
	if (a->why.n > 0) {
		buf_put_str(&b, " (");
		buf_put_escaped(&b, a->why, 300);
		buf_put_char(&b, ')');
	}
	return arena_span(mem, buf_span(&b));
}

static bool temporary(enum dns_status s)
{
	return s == DNS_SERVFAIL || s == DNS_BOGUS || s == DNS_TIMEOUT;
}

/* Orders by preference; equal ones by a random order (RFC 5321 5.1).  Few enough for insertion. */
static void sort_hosts(struct relay_host *h, size_t n, uint64_t random)
{
	for (size_t i = n; i > 1; i--) { /* shuffle first: the sort below is stable */
		size_t j = (size_t)(random % i);
		struct relay_host t = h[i - 1];

		random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		random ^= random >> 29;
		h[i - 1] = h[j];
		h[j] = t;
	}
	for (size_t i = 1; i < n; i++) {
		struct relay_host t = h[i];
		size_t j = i;

		for (; j > 0 && h[j - 1].preference > t.preference; j--)
			h[j] = h[j - 1];
		h[j] = t;
	}
}

/* Cuts the list at ourselves: hosts that are not better than us would hand the message back. */
static size_t cut_at_self(const struct relay_host *h, size_t n, span self)
{
	for (size_t i = 0; i < n; i++)
		if (span_ieq(h[i].name, self)) {
			size_t keep = i;

			while (keep > 0 && h[keep - 1].preference == h[i].preference)
				keep--;
			return keep;
		}
	return n;
}

int relay_hosts_choose(const struct dns_answer *mx, span self, uint64_t random, struct arena *mem,
		       struct relay_host **ret, size_t *ret_n, struct relay_reason *reason)
{
	struct relay_host *h;
	size_t n;

	if (temporary(mx->status)) {
		*reason = (struct relay_reason){ "4.4.3", lookup_text(mx, "MX look-up", mem) };
		return ERR_DNS;
	}
	if (mx->status == DNS_NXDOMAIN) {
		*reason = (struct relay_reason){ "5.1.2", lookup_text(mx, "MX look-up", mem) };
		return ERR_NOENT;
	}
	if (mx->status == DNS_NODATA || mx->n == 0) {
		if (!span_ieq(mx->name, self))
			return 0;
		*reason = (struct relay_reason){
			"5.4.6", SPAN("the mail for this domain would loop back to this server")
		};
		return ERR_INVAL;
	}
	if (mx->n == 1 && mx->records[0].name.n == 0) { /* RFC 7505 */
		*reason = (struct relay_reason){
			"5.1.10", SPAN("the domain says that it takes no mail (null MX)")
		};
		return ERR_NOENT;
	}
	h = arena_array(mem, struct relay_host, mx->n);
	n = 0;
	for (size_t i = 0; i < mx->n; i++)
		if (mx->records[i].name.n > 0)
			h[n++] = (struct relay_host){ mx->records[i].name,
						      mx->records[i].preference };
	sort_hosts(h, n, random);
	n = cut_at_self(h, n, self);
	if (n == 0) {
		*reason = (struct relay_reason){
			"5.4.6", SPAN("the mail for this domain would loop back to this server")
		};
		return ERR_INVAL;
	}
	*ret = h;
	*ret_n = MIN(n, RELAY_HOSTS_MAX);
	return 1;
}

/* --- addresses --- */

static void set_port(struct sockaddr_any *a, uint16_t port)
{
	if (a->sa.sa_family == AF_INET6)
		a->in6.sin6_port = htons(port);
	else
		a->in.sin_port = htons(port);
}

struct relay_target *relay_target_of(const struct relay_way *w, struct arena *mem)
{
	struct relay_target *t = arena_new(mem, struct relay_target);

	*t = (struct relay_target){ w->address, w->name };
	set_port(&t->to, w->port);
	return t;
}

int relay_targets_choose(const struct dns_answer *a, size_t n, uint16_t port, bool from_mx,
			 struct arena *mem, struct relay_target **ret, size_t *ret_n,
			 struct relay_reason *reason)
{
	struct relay_target *t = arena_array(mem, struct relay_target, n * RELAY_ADDRESSES_MAX);
	const struct dns_answer *trouble = NULL;
	size_t count = 0;

	for (size_t i = 0; i < n; i++) {
		if (!trouble || (temporary(a[i].status) && !temporary(trouble->status)))
			trouble = &a[i];
		for (size_t j = 0; a[i].status == DNS_OK && j < MIN(a[i].n, RELAY_ADDRESSES_MAX);
		     j++) {
			struct sockaddr_any to = a[i].records[j].addr;

			if (to.sa.sa_family == AF_UNSPEC)
				continue;
			set_port(&to, port);
			t[count++] = (struct relay_target){ to, a[i].name };
		}
	}
	if (count > 0) {
		*ret = t;
		*ret_n = count;
		return 0;
	}
	if (trouble && temporary(trouble->status)) {
		*reason = (struct relay_reason){ "4.4.3",
						 lookup_text(trouble, "address look-up", mem) };
		return ERR_DNS;
	}
	if (!trouble)
		*reason = (struct relay_reason){ "4.4.3",
						 SPAN("the address look-up was not answered") };
	else
		*reason = (struct relay_reason){ from_mx || trouble->status != DNS_NXDOMAIN
							 ? "5.4.4"
							 : "5.1.2",
						 lookup_text(trouble, "address look-up", mem) };
	return ERR_NOENT;
}

/* --- who shares connections --- */

static int by_bytes(const void *a, const void *b)
{
	return span_cmp(*(const span *)a, *(const span *)b);
}

/* One key for a set: sorted, each once. */
static span key_of(const char *what, span *names, size_t n, struct arena *mem)
{
	struct buf b _cleanup_(buf_donep) = BUF_INIT(RELAY_HOSTS_MAX * RELAY_ADDRESSES_MAX * 320);

	qsort(names, n, sizeof *names, by_bytes);
	buf_put_str(&b, what);
	for (size_t i = 0; i < n; i++) {
		if (i > 0 && span_eq(names[i], names[i - 1]))
			continue;
		buf_put_char(&b, ' ');
		buf_put_span(&b, names[i]);
	}
	return arena_span(mem, buf_span(&b));
}

/* Is NAME one of the best hosts? */
static bool among_best(const struct relay_host *hosts, size_t n_hosts, span name)
{
	for (size_t i = 0; i < n_hosts && hosts[i].preference == hosts[0].preference; i++)
		if (span_ieq(hosts[i].name, name))
			return true;
	return false;
}

size_t relay_group_keys(const struct relay_host *hosts, size_t n_hosts,
			const struct relay_target *t, size_t n, struct arena *mem,
			span ret[RELAY_GROUP_KEYS])
{
	span *names = arena_array(mem, span, n), *addresses = arena_array(mem, span, n);
	size_t n_best = 0;
	unsigned port = sock_port(&t[0].to);

	for (int best = 1; best >= 0 && n_best == 0; best--) /* the best may have no address */
		for (size_t i = 0; i < n; i++) {
			char ip[SOCK_TEXT];

			if (best && hosts && !among_best(hosts, n_hosts, t[i].host))
				continue;
			sock_ip_text(&t[i].to, ip);
			names[n_best] = span_str(
				arena_printf(mem, "%.*s:%u", SPAN_FMT(t[i].host), port));
			addresses[n_best++] = span_str(arena_printf(mem, "[%s]:%u", ip, port));
		}
	ret[0] = key_of("hosts", names, n_best, mem);
	ret[1] = key_of("addresses", addresses, n_best, mem);
	return RELAY_GROUP_KEYS;
}
