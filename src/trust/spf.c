/* check_host() of RFC 7208 4. */
#include "trust/iprev.h"
#include "trust/spf.h"

#include "trust/ascii.h"
#include "trust/spf_parse.h"

#define EXPANDED_MAX  16384 /* before it is cut to a name */
#define NAME_MAX_TEXT 253

struct spf {
	const struct spf_input *in;
	const struct trust_lookup *lookup;
	struct arena *mem;
	struct spf_macros macros; /* but for domain and validated */
	span term;
	span explanation;
	const char *reason;
	unsigned terms, voids;
};

/* What a term, or a step on the way to it, came to.  PENDING is the only one that is no verdict. */
enum match { NO_MATCH, MATCH, TEMPERROR, PERMERROR, PENDING };

static enum match error(struct spf *s, enum match m, const char *reason)
{
	s->reason = reason;
	return m;
}

/* ------------------------------------------------------------------ addresses */

static bool is_v6(const struct sockaddr_any *a)
{
	return a->sa.sa_family == AF_INET6;
}

static const uint8_t *address_bytes(const struct sockaddr_any *a, size_t *ret_n)
{
	*ret_n = is_v6(a) ? 16 : 4;
	return is_v6(a) ? a->in6.sin6_addr.s6_addr : (const uint8_t *)&a->in.sin_addr;
}

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned rest = bits % 8;

	return memcmp(a, b, bits / 8) == 0 &&
	       (!rest || (a[bits / 8] ^ b[bits / 8]) >> (8 - rest) == 0);
}

static bool same_network(const struct sockaddr_any *a, const struct sockaddr_any *b, unsigned bits)
{
	size_t na, nb;
	const uint8_t *pa = address_bytes(a, &na), *pb = address_bytes(b, &nb);

	return na == nb && same_bits(pa, pb, bits);
}

/* ------------------------------------------------------------------ questions */

static const struct dns_answer *ask(struct spf *s, span name, enum dns_type type)
{
	return trust_ask(s->lookup, s->mem, name, type);
}

static enum dns_type address_type(const struct spf *s)
{
	return is_v6(&s->in->ip) ? DNS_AAAA : DNS_A;
}

/* A term's question: counts void answers (RFC 7208 4.6.4).  MATCH: there are records. */
static enum match ask_term(struct spf *s, span name, enum dns_type type,
			   const struct dns_answer **ret)
{
	const struct dns_answer *a = ask(s, name, type);

	if (!a)
		return PENDING;
	if (trust_answer_failed(a))
		return error(s, TEMPERROR, "DNS look-up failed");
	*ret = a;
	if (a->status == DNS_OK && a->n)
		return MATCH;
	if (++s->voids > SPF_VOIDS_MAX)
		return error(s, PERMERROR, "too many void look-ups");
	return NO_MATCH;
}

static bool has_address(const struct spf *s, const struct dns_answer *a, unsigned bits)
{
	for (size_t i = 0; i < a->n; i++) {
		if (same_network(&a->records[i].addr, &s->in->ip, bits))
			return true;
	}
	return false;
}

/* The host's validated names (RFC 7208 5.5); errors count as absence.  PENDING or MATCH. */
static enum match validated_names(struct spf *s, span ret[SPF_NAMES_MAX], size_t *ret_n)
{
	const struct dns_answer *ptr = ask(s, iprev_ptr_name(&s->in->ip, s->mem), DNS_PTR);
	bool pending = false;

	*ret_n = 0;
	if (!ptr)
		return PENDING;
	for (size_t i = 0; i < MIN(ptr->n, SPF_NAMES_MAX); i++) {
		const struct dns_answer *a = ask(s, ptr->records[i].name, address_type(s));
		pending = pending || !a;
		if (a && has_address(s, a, is_v6(&s->in->ip) ? 128 : 32))
			ret[(*ret_n)++] = ptr->records[i].name;
	}
	return pending ? PENDING : MATCH;
}

/* %{p}: the domain itself if validated, else a name below it, else any (RFC 7208 7.3). */
static enum match validated_macro(struct spf *s, span domain, span *ret)
{
	span names[SPF_NAMES_MAX], best = SPAN_NULL;
	size_t n;

	if (validated_names(s, names, &n) == PENDING)
		return PENDING;
	for (size_t i = 0; i < n; i++) {
		if (span_ieq(names[i], domain)) {
			*ret = names[i];
			return MATCH;
		}
		if (!best.n || (name_within(names[i], domain) && !name_within(best, domain)))
			best = names[i];
	}
	*ret = best.n ? best : SPAN("unknown");
	return MATCH;
}

/* ------------------------------------------------------------------ macros */

static enum match expand(struct spf *s, span spec, span domain, size_t max, span *ret)
{
	struct spf_macros m = s->macros;
	struct buf b = BUF_INIT(max);

	m.domain = domain;
	if (spf_macros_use(spec, 'p') && validated_macro(s, domain, &m.validated) == PENDING)
		return PENDING;
	int e = spf_macros_expand(spec, &m, &b);
	*ret = arena_span(s->mem, buf_span(&b));
	buf_done(&b);
	return e < 0 ? error(s, PERMERROR, "a macro expands to too much") : MATCH;
}

/* Names that are too long lose labels on the left (RFC 7208 7.3). */
static enum match expand_name(struct spf *s, span spec, span domain, span *ret)
{
	span name = domain;
	enum match m = spec.n ? expand(s, spec, domain, EXPANDED_MAX, &name) : MATCH;

	name = name_undot(name);
	while (m == MATCH && name.n > NAME_MAX_TEXT) {
		if (span_find(name, '.') == SPAN_NPOS)
			break;
		span_cut(&name, '.');
	}
	*ret = name;
	return m;
}

/* ------------------------------------------------------------------ mechanisms */

static enum match match_addresses(struct spf *s, const struct spf_term *t, span name)
{
	const struct dns_answer *a;
	enum match m = ask_term(s, name, address_type(s), &a);

	if (m != MATCH)
		return m;
	return has_address(s, a, is_v6(&s->in->ip) ? t->cidr6 : t->cidr4) ? MATCH : NO_MATCH;
}

static enum match match_mx(struct spf *s, const struct spf_term *t, span name)
{
	const struct dns_answer *mx, *a[SPF_NAMES_MAX];
	enum match m = ask_term(s, name, DNS_MX, &mx);
	bool pending = false;

	if (m != MATCH)
		return m;
	if (mx->n > SPF_NAMES_MAX)
		return error(s, PERMERROR, "too many MX records");
	for (size_t i = 0; i < mx->n; i++) {
		a[i] = ask(s, mx->records[i].name, address_type(s));
		pending = pending || !a[i];
	}
	for (size_t i = 0; i < mx->n && !pending; i++) {
		if (trust_answer_failed(a[i]))
			return error(s, TEMPERROR, "DNS look-up failed");
		if (has_address(s, a[i], is_v6(&s->in->ip) ? t->cidr6 : t->cidr4))
			return MATCH;
	}
	return pending ? PENDING : NO_MATCH;
}

static enum match match_ptr(struct spf *s, span name)
{
	span names[SPF_NAMES_MAX];
	size_t n;

	if (validated_names(s, names, &n) == PENDING)
		return PENDING;
	for (size_t i = 0; i < n; i++) {
		if (name_within(names[i], name))
			return MATCH;
	}
	return NO_MATCH;
}

static enum match match_ip(struct spf *s, const struct spf_term *t)
{
	bool v6 = t->kind == SPF_IP6;
	size_t n;

	return v6 == is_v6(&s->in->ip) && same_bits(t->network, address_bytes(&s->in->ip, &n),
						    v6 ? t->cidr6 : t->cidr4)
		       ? MATCH
		       : NO_MATCH;
}

static int check(struct spf *s, span domain, bool explains, enum trust_result *ret);

static enum match match_include(struct spf *s, span name)
{
	enum trust_result r;

	if (check(s, name, false, &r) < 0)
		return PENDING;
	switch (r) {
	case TRUST_PASS:
		return MATCH;
	case TRUST_TEMPERROR:
		return TEMPERROR;
	case TRUST_PERMERROR:
		return PERMERROR;
	case TRUST_NONE:
		return error(s, PERMERROR, "an included domain has no SPF record");
	default:
		return NO_MATCH;
	}
}

static enum match count_term(struct spf *s)
{
	return ++s->terms > SPF_TERMS_MAX ? error(s, PERMERROR, "too many terms that ask DNS")
					  : MATCH;
}

static enum match match_term(struct spf *s, const struct spf_term *t, span domain)
{
	const struct dns_answer *a;
	enum match m;
	span name;

	if (t->kind == SPF_ALL)
		return MATCH;
	if (t->kind == SPF_IP4 || t->kind == SPF_IP6)
		return match_ip(s, t);
	m = count_term(s);
	if (m == MATCH)
		m = expand_name(s, t->domain, domain, &name);
	if (m != MATCH)
		return m;
	switch (t->kind) {
	case SPF_INCLUDE:
		return match_include(s, name);
	case SPF_A:
		return match_addresses(s, t, name);
	case SPF_MX:
		return match_mx(s, t, name);
	case SPF_PTR:
		return match_ptr(s, name);
	default:
		return ask_term(s, name, DNS_A, &a); /* exists: an A question even for IPv6 */
	}
}

/* A look-up is pending at term AT: asks what the terms behind it would ask first, within the limit.
 */
static void foresee(struct spf *s, const struct spf_record *r, size_t at, span domain)
{
	unsigned budget = SPF_TERMS_MAX - MIN(s->terms, SPF_TERMS_MAX);
	span name;

	for (; at < r->n && budget; at++) {
		const struct spf_term *t = &r->term[at];
		if (t->kind == SPF_ALL)
			break;
		if (t->kind == SPF_IP4 || t->kind == SPF_IP6 || t->kind == SPF_PTR)
			continue;
		budget--;
		if (expand_name(s, t->domain, domain, &name) != MATCH)
			continue;
		ask(s, name,
		    t->kind == SPF_INCLUDE  ? DNS_TXT
		    : t->kind == SPF_MX	    ? DNS_MX
		    : t->kind == SPF_EXISTS ? DNS_A
					    : address_type(s));
	}
}

/* ------------------------------------------------------------------ records */

/* Bytes outside of printable ASCII must not reach a reply. */
static bool is_printable(span s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < 0x20 || s.p[i] > 0x7e)
			return false;
	}
	return true;
}

/* exp= (RFC 7208 6.2): whatever goes wrong means no explanation.  0 or ERR_AGAIN. */
static int explain(struct spf *s, span spec, span domain)
{
	enum match m;
	span name, text;

	m = expand_name(s, spec, domain, &name);
	if (m != MATCH)
		return m == PENDING ? ERR_AGAIN : 0;
	const struct dns_answer *a = ask(s, name, DNS_TXT);
	if (!a)
		return ERR_AGAIN;
	if (a->status != DNS_OK || a->n != 1 || !spf_macros_valid(a->records[0].text, true))
		return 0;
	const char *reason = s->reason;
	m = expand(s, a->records[0].text, domain, SPF_EXPLAIN_MAX, &text);
	s->reason = reason;
	if (m == MATCH && is_printable(text))
		s->explanation = text;
	return m == PENDING ? ERR_AGAIN : 0;
}

/* The one SPF record among the TXT records (RFC 7208 4.5). */
static enum match select_record(struct spf *s, span domain, span *ret)
{
	const struct dns_answer *a = ask(s, domain, DNS_TXT);
	size_t found = 0;

	if (!a)
		return PENDING;
	if (trust_answer_failed(a))
		return error(s, TEMPERROR, "DNS look-up of the SPF record failed");
	for (size_t i = 0; i < a->n; i++) {
		if (spf_is_record(a->records[i].text)) {
			*ret = a->records[i].text;
			found++;
		}
	}
	if (found > 1)
		return error(s, PERMERROR, "more than one SPF record");
	return found ? MATCH : error(s, NO_MATCH, "no SPF record");
}

static enum trust_result error_result(enum match m)
{
	return m == TEMPERROR ? TRUST_TEMPERROR : TRUST_PERMERROR;
}

static int redirect(struct spf *s, span spec, span domain, bool explains, enum trust_result *ret)
{
	enum match m = count_term(s);
	span name;

	if (m == MATCH)
		m = expand_name(s, spec, domain, &name);
	if (m == PENDING)
		return ERR_AGAIN;
	if (m != MATCH) {
		*ret = error_result(m);
		return 0;
	}
	int e = check(s, name, explains, ret);
	if (e == 0 && *ret == TRUST_NONE) {
		s->reason = "the domain of redirect= has no SPF record";
		*ret = TRUST_PERMERROR;
	}
	return e;
}

/* One record.  EXPLAINS: its failure is the final one.  The depth is bounded by SPF_TERMS_MAX. */
static int check(struct spf *s, span domain, bool explains, enum trust_result *ret)
{
	struct spf_record r;
	span text, at = SPAN_NULL;
	enum match m = select_record(s, domain, &text);

	if (m == PENDING)
		return ERR_AGAIN;
	if (m != MATCH) {
		*ret = m == NO_MATCH ? TRUST_NONE : error_result(m);
		return 0;
	}
	if (spf_parse(text, s->mem, &r, &at) < 0) {
		s->term = at;
		s->reason = "the SPF record has a syntax error";
		*ret = TRUST_PERMERROR;
		return 0;
	}
	for (size_t i = 0; i < r.n; i++) {
		m = match_term(s, &r.term[i], domain);
		if (m == NO_MATCH)
			continue;
		s->term = r.term[i].text;
		if (m == PENDING) {
			foresee(s, &r, i + 1, domain);
			return ERR_AGAIN;
		}
		*ret = m == MATCH ? r.term[i].qualifier : error_result(m);
		if (m == MATCH)
			s->reason = "a term matched";
		return explains && m == MATCH && *ret == TRUST_FAIL && r.exp.n
			       ? explain(s, r.exp, domain)
			       : 0;
	}
	if (r.redirect.n)
		return redirect(s, r.redirect, domain, explains, ret);
	s->reason = "no term matched";
	*ret = TRUST_NEUTRAL;
	return 0;
}

/* ------------------------------------------------------------------ identities */

static int check_identity(const struct spf_input *in, span local, span domain,
			  const struct trust_lookup *l, struct arena *mem, struct spf_verdict *ret)
{
	char ip[SOCK_TEXT];
	struct spf s = { .in = in, .lookup = l, .mem = mem };

	domain = name_undot(domain);
	sock_ip_text(&in->ip, ip);
	s.macros = (struct spf_macros){
		.local = local,
		.sender_domain = domain,
		.sender = span_str(
			arena_printf(mem, "%.*s@%.*s", SPAN_FMT(local), SPAN_FMT(domain))),
		.ip = iprev_dotted(&in->ip, false, mem),
		.in_addr = is_v6(&in->ip) ? SPAN("ip6") : SPAN("in-addr"),
		.helo = in->helo,
		.readable_ip = arena_span(mem, span_str(ip)),
		.receiver = in->receiver.n ? in->receiver : SPAN("unknown"),
		.time = span_str(arena_printf(mem, "%lld", (long long)in->now)),
	};
	*ret = (struct spf_verdict){ .result = TRUST_NONE,
				     .domain = domain,
				     .sender = s.macros.sender,
				     .reason = "not a domain name" };
	if (!trust_name_valid(domain) || span_find(domain, '.') == SPAN_NPOS || domain.p[0] == '[')
		return 0; /* RFC 7208 4.3 */
	int e = check(&s, domain, true, &ret->result);
	ret->reason = s.reason;
	ret->term = s.term;
	ret->explanation = s.explanation;
	ret->terms = s.terms;
	ret->voids = s.voids;
	return e;
}

int spf_check(const struct spf_input *in, const struct trust_lookup *l, struct arena *mem,
	      struct spf_verdict *ret)
{
	size_t at = span_rfind(in->from, '@');

	if (!in->from.n)
		return spf_check_helo(in, l, mem, ret);
	if (at == SPAN_NPOS || at == 0)
		return check_identity(in, SPAN("postmaster"),
				      span_from(in->from, at == SPAN_NPOS ? 0 : 1), l, mem, ret);
	return check_identity(in, span_sub(in->from, 0, at), span_from(in->from, at + 1), l, mem,
			      ret);
}

int spf_check_helo(const struct spf_input *in, const struct trust_lookup *l, struct arena *mem,
		   struct spf_verdict *ret)
{
	return check_identity(in, SPAN("postmaster"), in->helo, l, mem, ret);
}
