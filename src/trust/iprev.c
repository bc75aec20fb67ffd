#include "trust/iprev.h"

#include "base/buf.h"

static bool is_v6(const struct sockaddr_any *a)
{
	return a->sa.sa_family == AF_INET6;
}

static const uint8_t *address_bytes(const struct sockaddr_any *a, size_t *ret_n)
{
	*ret_n = is_v6(a) ? 16 : 4;
	return is_v6(a) ? a->in6.sin6_addr.s6_addr : (const uint8_t *)&a->in.sin_addr;
}

span iprev_dotted(const struct sockaddr_any *a, bool reverse, struct arena *mem)
{
	struct buf b = BUF_INIT(128);
	size_t n, parts;
	const uint8_t *p = address_bytes(a, &n);
	span ret;

	parts = is_v6(a) ? 2 * n : n;
	for (size_t i = 0; i < parts; i++) {
		size_t k = reverse ? parts - 1 - i : i;
		if (i)
			buf_put_char(&b, '.');
		if (is_v6(a))
			buf_printf(&b, "%X", k % 2 ? p[k / 2] & 15 : p[k / 2] >> 4);
		else
			buf_put_u64(&b, p[k]);
	}
	ret = arena_span(mem, buf_span(&b));
	buf_done(&b);
	return ret;
}

span iprev_ptr_name(const struct sockaddr_any *ip, struct arena *mem)
{
	return span_str(arena_printf(mem, "%.*s.%s", SPAN_FMT(iprev_dotted(ip, true, mem)),
				     is_v6(ip) ? "ip6.arpa" : "in-addr.arpa"));
}

static bool leads_back(const struct dns_answer *a, const struct sockaddr_any *ip)
{
	for (size_t i = 0; i < a->n; i++)
		if (sock_same_ip(&a->records[i].addr, ip))
			return true;
	return false;
}

static void judge(struct iprev_verdict *v, enum trust_result r, const char *reason)
{
	v->result = r;
	v->reason = reason;
}

int iprev_check(const struct sockaddr_any *ip, const struct trust_lookup *l, struct arena *mem,
		struct iprev_verdict *ret)
{
	enum dns_type type = is_v6(ip) ? DNS_AAAA : DNS_A;
	const struct dns_answer *ptr = trust_ask(l, mem, iprev_ptr_name(ip, mem), DNS_PTR);
	struct iprev_verdict v = { 0 };
	bool pending = false, failed = false;
	char text[SOCK_TEXT];

	if (!ptr)
		return ERR_AGAIN;
	sock_ip_text(ip, text);
	v.ip = arena_span(mem, span_str(text));
	judge(&v, TRUST_FAIL, "no name of the address leads back to it");
	for (size_t i = 0; i < MIN(ptr->n, (size_t)IPREV_NAMES_MAX); i++) {
		const struct dns_answer *a = trust_ask(l, mem, ptr->records[i].name, type);

		pending |= !a;
		failed |= a && trust_answer_failed(a);
		if (a && !v.name.n && leads_back(a, ip))
			v.name = ptr->records[i].name;
	}
	if (pending)
		return ERR_AGAIN;
	if (v.name.n)
		judge(&v, TRUST_PASS, "the name leads back to the address");
	else if (failed || trust_answer_failed(ptr))
		judge(&v, TRUST_TEMPERROR, "DNS look-up failed");
	else if (!ptr->n)
		judge(&v, TRUST_PERMERROR, "the address has no name");
	*ret = v;
	return 0;
}
