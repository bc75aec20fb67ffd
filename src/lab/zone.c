/* Records, canonical order, signatures. */
#include "lab/zone_int.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "base/codec.h"
#include "tls/hash.h"

#define DAY	  (86400 * USEC_SEC)
#define KSK_FLAGS 257
#define ALGORITHM 13

/* ------------------------------------------------------------------ names */

/* Text to wire form, lower case.  A label is 1..63 bytes of anything but dots. */
static int name_put(struct buf *b, span text)
{
	size_t start = b->n;

	if (text.n && text.p[text.n - 1] == '.')
		text.n--;
	while (text.n) {
		span label = span_cut(&text, '.');

		if (!label.n || label.n > 63)
			return ERR_SYNTAX;
		buf_put_char(b, (char)label.n);
		for (size_t i = 0; i < label.n; i++) {
			char c = label.p[i];

			buf_put_char(b, c >= 'A' && c <= 'Z' ? (char)(c + 32) : c);
		}
	}
	buf_put_char(b, 0);
	return b->n - start > 255 ? ERR_SYNTAX : 0;
}

unsigned zone_labels(span wire)
{
	unsigned n = 0;

	for (size_t at = 0; at < wire.n && wire.p[at]; at += (size_t)(unsigned char)wire.p[at] + 1)
		n++;
	return n;
}

span zone_parent(span wire)
{
	return wire.n > 1 ? span_from(wire, (size_t)(unsigned char)wire.p[0] + 1) : wire;
}

/* RFC 4034 6.1: label by label from the right. */
int zone_name_cmp(span a, span b)
{
	unsigned la = zone_labels(a), lb = zone_labels(b), common = MIN(la, lb);

	for (unsigned depth = 1; depth <= common; depth++) {
		span x = a, y = b;
		int r;

		for (unsigned i = la; i > depth; i--)
			x = zone_parent(x);
		for (unsigned i = lb; i > depth; i--)
			y = zone_parent(y);
		r = span_cmp(span_sub(x, 1, (unsigned char)x.p[0]),
			     span_sub(y, 1, (unsigned char)y.p[0]));
		if (r)
			return r;
	}
	return (int)la - (int)lb;
}

/* ------------------------------------------------------------------ records */

void zone_put16(struct buf *b, unsigned v)
{
	buf_put_char(b, (char)(v >> 8));
	buf_put_char(b, (char)v);
}

void zone_put32(struct buf *b, uint32_t v)
{
	zone_put16(b, v >> 16);
	zone_put16(b, v & 0xffff);
}

struct rrset *zone_find(const struct zone *z, span name, unsigned type)
{
	for (size_t i = 0; i < z->n_sets; i++)
		if (z->sets[i].type == type && span_eq(z->sets[i].name, name))
			return &z->sets[i];
	return NULL;
}

static void add_record(struct zone *z, span name, unsigned type, span rdata)
{
	struct rrset *s = zone_find(z, name, type);
	struct rdata *r = arena_new(&z->mem, struct rdata), **at;

	if (!s) {
		if (z->n_sets == z->cap_sets) {
			z->cap_sets = z->cap_sets ? z->cap_sets * 2 : 64;
			z->sets = xrealloc(z->sets, z->cap_sets * sizeof *z->sets);
		}
		s = &z->sets[z->n_sets++];
		*s = (struct rrset){ .name = arena_span(&z->mem, name), .type = type };
	}
	r->bytes = arena_span(&z->mem, rdata);
	for (at = &s->first; *at && span_cmp((*at)->bytes, rdata) < 0; at = &(*at)->next)
		;
	r->next = *at;
	*at = r;
}

static int rdata_address(struct buf *b, int family, span data)
{
	_cleanup_(freep) char *z = span_dup(data);
	unsigned char a[16];

	if (inet_pton(family, z, a) != 1)
		return ERR_SYNTAX;
	return buf_put(b, a, family == AF_INET ? 4 : 16);
}

static int rdata_mx(struct buf *b, span data)
{
	uint64_t preference;

	if (!span_u64(span_cut(&data, ' '), 65535, &preference))
		return ERR_SYNTAX;
	zone_put16(b, (unsigned)preference);
	return name_put(b, span_trim(data));
}

/* One string, with or without quotes, cut into pieces of 255. */
static int rdata_txt(struct buf *b, span data)
{
	if (data.n >= 2 && data.p[0] == '"' && data.p[data.n - 1] == '"')
		data = span_sub(data, 1, data.n - 2);
	do {
		span piece = span_sub(data, 0, 255);

		buf_put_char(b, (char)piece.n);
		buf_put_span(b, piece);
		data = span_from(data, piece.n);
	} while (data.n);
	return 0;
}

static int rdata_put(struct buf *b, unsigned type, span data)
{
	switch (type) {
	case RR_A:
		return rdata_address(b, AF_INET, data);
	case RR_AAAA:
		return rdata_address(b, AF_INET6, data);
	case RR_MX:
		return rdata_mx(b, data);
	case RR_TXT:
		return rdata_txt(b, data);
	default:
		return name_put(b, data);
	}
}

int zone_add(struct zone *z, span name, span type, span data)
{
	static const struct {
		const char *name;
		unsigned type;
	} types[] = { { "A", RR_A },	 { "AAAA", RR_AAAA },	      { "MX", RR_MX },
		      { "TXT", RR_TXT }, { "CNAME", RR_CNAME },	      { "PTR", RR_PTR },
		      { "NS", RR_NS },	 { "SERVFAIL", RR_SERVFAIL }, { "TIMEOUT", RR_TIMEOUT } };
	_cleanup_(buf_donep) struct buf wire = BUF_INIT(512), rdata = BUF_INIT(65535);
	int e = name_put(&wire, name);

	if (e < 0)
		return e;
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		if (!span_ieq_str(type, types[i].name))
			continue;
		if (types[i].type < RR_PSEUDO)
			e = rdata_put(&rdata, types[i].type, span_trim(data));
		if (e == 0)
			add_record(z, buf_span(&wire), types[i].type, buf_span(&rdata));
		return e;
	}
	return ERR_UNSUPPORTED;
}

int zone_add_file(struct zone *z, span text, struct err_info *info)
{
	for (unsigned number = 1; text.p; number++) {
		span line = span_trim(span_cut(&text, '\n')), name, type;
		int e;

		if (!line.n || line.p[0] == ';' || line.p[0] == '#')
			continue;
		name = span_cut(&line, ' ');
		line = span_trim_left(line);
		type = span_cut(&line, ' ');
		e = zone_add(z, name, type, line.p ? span_trim(line) : SPAN_NULL);
		if (e < 0)
			return err_set(info, e, "line %u: expected NAME TYPE DATA", number);
	}
	return 0;
}

struct zone *zone_new(const char *origin)
{
	struct zone *z = xcalloc(1, sizeof *z);
	_cleanup_(buf_donep) struct buf wire = BUF_INIT(512);

	arena_init(&z->mem);
	name_put(&wire, span_str(origin));
	z->origin = arena_span(&z->mem, buf_span(&wire));
	return z;
}

void zone_free(struct zone *z)
{
	if (!z)
		return;
	sign_key_free(z->key);
	arena_done(&z->mem);
	free(z->sets);
	free(z);
}

/* ------------------------------------------------------------------ signing */

static int set_cmp(const void *a, const void *b)
{
	const struct rrset *x = a, *y = b;
	int r = zone_name_cmp(x->name, y->name);

	return r ? r : (int)x->type - (int)y->type;
}

static unsigned key_tag(span dnskey) /* RFC 4034 appendix B */
{
	uint32_t sum = 0;

	for (size_t i = 0; i < dnskey.n; i++)
		sum += i & 1 ? (unsigned char)dnskey.p[i]
			     : (uint32_t)(unsigned char)dnskey.p[i] << 8;
	return ((sum & 0xffff) + (sum >> 16)) & 0xffff;
}

static void add_apex(struct zone *z)
{
	_cleanup_(buf_donep) struct buf rdata = BUF_INIT(1024);
	uint8_t point[64];

	name_put(&rdata, SPAN("ns.test"));
	add_record(z, z->origin, RR_NS, buf_span(&rdata));
	buf_reset(&rdata);
	name_put(&rdata, SPAN("ns.test"));
	name_put(&rdata, SPAN("hostmaster.test"));
	zone_put32(&rdata, 1);
	for (int i = 0; i < 3; i++)
		zone_put32(&rdata, 3600);
	zone_put32(&rdata, ZONE_TTL);
	add_record(z, z->origin, RR_SOA, buf_span(&rdata));
	buf_reset(&rdata);
	sign_key_public_p256(z->key, point);
	zone_put16(&rdata, KSK_FLAGS);
	buf_put_char(&rdata, 3);
	buf_put_char(&rdata, ALGORITHM);
	buf_put(&rdata, point, sizeof point);
	add_record(z, z->origin, RR_DNSKEY, buf_span(&rdata));
	z->key_tag = key_tag(buf_span(&rdata));
}

/* The types at NAME as a bit map of window 0 (RFC 4034 4.1.2); NSEC and RRSIG are always there. */
static void put_types(const struct zone *z, span name, struct buf *b)
{
	uint8_t map[32] = { 0 };
	unsigned used = 0;
	unsigned types[64] = { RR_NSEC, RR_RRSIG };
	size_t n = 2;

	for (size_t i = 0; i < z->n_sets && n < ARRAY_LEN(types); i++)
		if (z->sets[i].type < 256 && span_eq(z->sets[i].name, name))
			types[n++] = z->sets[i].type;
	for (size_t i = 0; i < n; i++) {
		map[types[i] / 8] |= (uint8_t)(0x80 >> types[i] % 8);
		used = MAX(used, types[i] / 8 + 1);
	}
	buf_put_char(b, 0);
	buf_put_char(b, (char)used);
	buf_put(b, map, used);
}

static void add_nsec(struct zone *z)
{
	size_t n = 0, last = z->n_sets;
	span *names = arena_array(&z->mem, span, last);

	for (size_t i = 0; i < last; i++)
		if (z->sets[i].type < RR_PSEUDO && (!n || !span_eq(names[n - 1], z->sets[i].name)))
			names[n++] = z->sets[i].name;
	for (size_t i = 0; i < n; i++) {
		_cleanup_(buf_donep) struct buf rdata = BUF_INIT(1024);

		buf_put_span(&rdata, names[(i + 1) % n]);
		put_types(z, names[i], &rdata);
		add_record(z, names[i], RR_NSEC, buf_span(&rdata));
	}
}

static int sign_set(struct zone *z, struct rrset *s, usec now)
{
	_cleanup_(buf_donep) struct buf rrsig = BUF_INIT(1024), tbs = BUF_INIT(256 * 1024);
	uint8_t signature[64];
	int e;

	zone_put16(&rrsig, s->type);
	buf_put_char(&rrsig, ALGORITHM);
	buf_put_char(&rrsig, (char)zone_labels(s->name));
	zone_put32(&rrsig, ZONE_TTL);
	zone_put32(&rrsig, (uint32_t)((now + 365 * DAY) / USEC_SEC));
	zone_put32(&rrsig, (uint32_t)((now - DAY) / USEC_SEC));
	zone_put16(&rrsig, z->key_tag);
	buf_put_span(&rrsig, z->origin);
	buf_put_span(&tbs, buf_span(&rrsig));
	for (struct rdata *r = s->first; r; r = r->next) {
		buf_put_span(&tbs, s->name);
		zone_put16(&tbs, s->type);
		zone_put16(&tbs, 1);
		zone_put32(&tbs, ZONE_TTL);
		zone_put16(&tbs, (unsigned)r->bytes.n);
		buf_put_span(&tbs, r->bytes);
	}
	e = sign_p256(z->key, buf_span(&tbs), signature);
	if (e < 0)
		return e;
	buf_put(&rrsig, signature, sizeof signature);
	s->rrsig = arena_span(&z->mem, buf_span(&rrsig));
	return 0;
}

int zone_sign(struct zone *z, usec now)
{
	int e = sign_key_new_p256(&z->key);

	if (e < 0)
		return e;
	add_apex(z);
	zone_add(z, SPAN("ns.test"), SPAN("A"), SPAN("127.0.0.1"));
	qsort(z->sets, z->n_sets, sizeof *z->sets, set_cmp);
	add_nsec(z);
	qsort(z->sets, z->n_sets, sizeof *z->sets, set_cmp);
	for (size_t i = 0; e == 0 && i < z->n_sets; i++)
		if (z->sets[i].type < RR_PSEUDO)
			e = sign_set(z, &z->sets[i], now);
	return e;
}

int zone_anchor(const struct zone *z, struct buf *b)
{
	_cleanup_(buf_donep) struct buf tbs = BUF_INIT(1024);
	uint8_t digest[32];

	buf_put_span(&tbs, z->origin);
	buf_put_span(&tbs, zone_find(z, z->origin, RR_DNSKEY)->first->bytes);
	sha256(buf_span(&tbs), digest);
	buf_printf(b, "test. IN DS %u %d 2 ", z->key_tag, ALGORITHM);
	hex_encode(b, span_of(digest, sizeof digest));
	return buf_put_char(b, '\n');
}
