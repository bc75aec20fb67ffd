/* Answering a question from a signed zone (RFC 4035 3.1). */
#include "lab/zone_int.h"

enum { RCODE_OK = 0, RCODE_FORMERR = 1, RCODE_SERVFAIL = 2, RCODE_NXDOMAIN = 3, RCODE_REFUSED = 5 };
#define FLAG_QR 0x8000
#define FLAG_AA 0x0400
#define FLAG_TC 0x0200
#define FLAG_RD 0x0100

struct question {
	unsigned id, flags, type;
	span name; /* wire, lower case, in `lower` */
	char lower[256];
	span raw; /* the question section as asked */
	bool edns, dnssec;
	unsigned udp_size;
};

static unsigned get16(span s, size_t at)
{
	return at + 1 < s.n ? (unsigned)(unsigned char)s.p[at] << 8 | (unsigned char)s.p[at + 1]
			    : 0;
}

/* The one question, and an OPT record behind it if there is one. */
static bool parse(span m, struct question *q)
{
	size_t at = 12, n = 0;

	if (m.n < 17 || get16(m, 2) & FLAG_QR || get16(m, 4) != 1)
		return false;
	q->id = get16(m, 0);
	q->flags = get16(m, 2);
	for (;;) {
		unsigned len = (unsigned char)m.p[at];

		if (len > 63 || at + len + 5 >= m.n + 1 || n + len + 1 > sizeof q->lower)
			return false;
		q->lower[n++] = (char)len;
		for (unsigned i = 1; i <= len; i++) {
			char c = m.p[at + i];

			q->lower[n++] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
		}
		at += len + 1;
		if (!len)
			break;
	}
	if (at + 4 > m.n)
		return false;
	q->name = span_of(q->lower, n);
	q->type = get16(m, at);
	q->raw = span_sub(m, 12, at + 4 - 12);
	at += 4;
	q->udp_size = 512;
	/* Resolvers put OPT first; other additional records are not looked at. */
	if (get16(m, 10) && at + 11 <= m.n && m.p[at] == 0 && get16(m, at + 1) == RR_OPT) {
		q->edns = true;
		q->udp_size = MAX(get16(m, at + 3), 512u);
		q->dnssec = get16(m, at + 7) & 0x8000;
	}
	return true;
}

struct sections {
	struct buf *b;
	const struct question *q;
	unsigned answers, authority;
};

static void put_record(struct buf *b, span name, unsigned type, span rdata)
{
	buf_put_span(b, name);
	zone_put16(b, type);
	zone_put16(b, 1);
	zone_put32(b, ZONE_TTL);
	zone_put16(b, (unsigned)rdata.n);
	buf_put_span(b, rdata);
}

static void put_set(struct sections *s, const struct rrset *set, unsigned *count)
{
	for (const struct rdata *r = set->first; r; r = r->next, ++*count)
		put_record(s->b, set->name, set->type, r->bytes);
	if (s->q->dnssec) {
		put_record(s->b, set->name, RR_RRSIG, set->rrsig);
		++*count;
	}
}

/* The NSEC at NAME or, if there is none, the one that covers it. */
static const struct rrset *nsec_for(const struct zone *z, span name)
{
	const struct rrset *best = NULL;

	for (size_t i = 0; i < z->n_sets; i++)
		if (z->sets[i].type == RR_NSEC && zone_name_cmp(z->sets[i].name, name) <= 0)
			best = &z->sets[i];
	return best;
}

static bool exists(const struct zone *z, span name)
{
	for (size_t i = 0; i < z->n_sets; i++) {
		span n = z->sets[i].name;

		/* Also an empty non-terminal above a name. */
		if (n.n >= name.n && span_eq(span_from(n, n.n - name.n), name) &&
		    zone_labels(n) >= zone_labels(name))
			return true;
	}
	return false;
}

static unsigned denial(const struct zone *z, struct sections *s)
{
	span name = s->q->name, closest = name;
	const struct rrset *nsec = nsec_for(z, name), *wild;
	bool there = exists(z, name);

	put_set(s, zone_find(z, z->origin, RR_SOA), &s->authority);
	if (!s->q->dnssec)
		return there ? RCODE_OK : RCODE_NXDOMAIN;
	put_set(s, nsec, &s->authority);
	if (there)
		return RCODE_OK;
	while (!exists(z, closest))
		closest = zone_parent(closest);
	_cleanup_(buf_donep) struct buf star = BUF_INIT(300);
	buf_put(&star, "\1*", 2);
	buf_put_span(&star, closest);
	wild = nsec_for(z, buf_span(&star));
	if (wild != nsec)
		put_set(s, wild, &s->authority);
	return RCODE_NXDOMAIN;
}

static unsigned fill(const struct zone *z, struct sections *s)
{
	const struct question *q = s->q;
	const struct rrset *set;

	if (q->name.n < z->origin.n ||
	    !span_eq(span_from(q->name, q->name.n - z->origin.n), z->origin))
		return RCODE_REFUSED;
	if (zone_find(z, q->name, RR_SERVFAIL))
		return RCODE_SERVFAIL;
	set = zone_find(z, q->name, q->type);
	if (!set)
		set = zone_find(z, q->name, RR_CNAME);
	if (!set)
		return denial(z, s);
	put_set(s, set, &s->answers);
	return RCODE_OK;
}

static void put_header(struct buf *b, const struct question *q, unsigned flags, unsigned answers,
		       unsigned authority)
{
	zone_put16(b, q->id);
	zone_put16(b, FLAG_QR | FLAG_AA | (q->flags & FLAG_RD) | flags);
	zone_put16(b, 1);
	zone_put16(b, answers);
	zone_put16(b, authority);
	zone_put16(b, q->edns);
	buf_put_span(b, q->raw);
}

static void put_opt(struct buf *b, const struct question *q)
{
	if (!q->edns)
		return;
	buf_put_char(b, 0);
	zone_put16(b, RR_OPT);
	zone_put16(b, 1232);
	zone_put32(b, q->dnssec ? 0x8000 : 0);
	zone_put16(b, 0);
}

bool zone_answer(const struct zone *z, span query, size_t max, struct buf *b)
{
	_cleanup_(buf_donep) struct buf body = BUF_INIT(65000);
	struct question q = { 0 };
	struct sections s = { .b = &body, .q = &q };
	unsigned rcode;

	if (!parse(query, &q) || zone_find(z, q.name, RR_TIMEOUT))
		return false;
	rcode = fill(z, &s);
	if (max < 65535)
		max = MIN(max, (size_t)q.udp_size);
	if (12 + q.raw.n + body.n + 11 > max) {
		put_header(b, &q, FLAG_TC | rcode, 0, 0);
	} else {
		put_header(b, &q, rcode, s.answers, s.authority);
		buf_put_span(b, buf_span(&body));
	}
	put_opt(b, &q);
	return !b->failed;
}
