/* The message forms of questions and answers between core and out.
 *
 *   DNS_ASK     le16 n, then n x { le16 type, blob name }
 *   DNS_ANSWER  le16 n, then n x { blob name, le16 type, u8 status, u8 secure, le32 ttl, blob why,
 *               le16 n, n x { le16 preference, le16 weight, blob name, blob text, u8 family,
 * address } }
 *
 * Core does not trust out: every count is checked against the bytes that are left before anything
 * is allocated. */
#include "dns/dns.h"

enum { ASK_MIN = 2 + 4, ANSWER_MIN = 4 + 2 + 1 + 1 + 4 + 4 + 2, RECORD_MIN = 2 + 2 + 4 + 4 + 1 };
#define NAME_MAX_BYTES 255

static size_t left(const struct cursor *c)
{
	return c->s.n - c->at;
}

/* A count whose elements, of at least MIN bytes each, can still follow. */
static size_t count_get(struct cursor *c, size_t min)
{
	size_t n = cursor_le16(c);

	if (n * min > left(c)) {
		c->bad = true;
		return 0;
	}
	return n;
}

int dns_ask_put(struct buf *b, const struct dns_question *q, size_t n)
{
	if (n > DNS_ASK_MAX)
		return ERR_TOOBIG;
	buf_put_le16(b, (uint16_t)n);
	for (size_t i = 0; i < n; i++) {
		buf_put_le16(b, (uint16_t)q[i].type);
		buf_put_blob(b, q[i].name);
	}
	return b->failed ? ERR_TOOBIG : 0;
}

int dns_ask_get(span payload, struct arena *mem, struct dns_question **ret, size_t *n)
{
	struct cursor c = cursor_of(payload);
	size_t count = count_get(&c, ASK_MIN);
	struct dns_question *q;

	if (c.bad)
		return ERR_PROTO;
	if (count > DNS_ASK_MAX)
		return ERR_TOOBIG;
	q = arena_array(mem, struct dns_question, count);
	for (size_t i = 0; i < count; i++) {
		q[i].type = cursor_le16(&c);
		q[i].name = cursor_blob(&c);
		if (q[i].name.n > NAME_MAX_BYTES)
			return ERR_PROTO;
	}
	if (!cursor_at_end(&c))
		return ERR_PROTO;
	*ret = q;
	*n = count;
	return 0;
}

static void record_put(struct buf *b, const struct dns_record *r)
{
	buf_put_le16(b, r->preference);
	buf_put_le16(b, r->weight);
	buf_put_blob(b, r->name);
	buf_put_blob(b, r->text);
	switch (r->addr.sa.sa_family) {
	case AF_INET:
		buf_put_char(b, 4);
		buf_put(b, &r->addr.in.sin_addr, 4);
		break;
	case AF_INET6:
		buf_put_char(b, 6);
		buf_put(b, &r->addr.in6.sin6_addr, 16);
		break;
	default:
		buf_put_char(b, 0);
	}
}

static void record_get(struct cursor *c, struct dns_record *r)
{
	span raw;

	r->preference = cursor_le16(c);
	r->weight = cursor_le16(c);
	r->name = cursor_blob(c);
	r->text = cursor_blob(c);
	switch (cursor_u8(c)) {
	case 0:
		break;
	case 4:
		raw = cursor_bytes(c, 4);
		r->addr.in.sin_family = AF_INET;
		if (raw.n == 4)
			memcpy(&r->addr.in.sin_addr, raw.p, 4);
		break;
	case 6:
		raw = cursor_bytes(c, 16);
		r->addr.in6.sin6_family = AF_INET6;
		if (raw.n == 16)
			memcpy(&r->addr.in6.sin6_addr, raw.p, 16);
		break;
	default:
		c->bad = true;
	}
}

int dns_answers_put(struct buf *b, const struct dns_answer *a, size_t n)
{
	if (n > DNS_ASK_MAX)
		return ERR_TOOBIG;
	buf_put_le16(b, (uint16_t)n);
	for (size_t i = 0; i < n; i++) {
		if (a[i].n > UINT16_MAX)
			return ERR_TOOBIG;
		buf_put_blob(b, a[i].name);
		buf_put_le16(b, (uint16_t)a[i].type);
		buf_put_char(b, (char)a[i].status);
		buf_put_char(b, a[i].secure);
		buf_put_le32(b, a[i].ttl);
		buf_put_blob(b, a[i].why);
		buf_put_le16(b, (uint16_t)a[i].n);
		for (size_t j = 0; j < a[i].n; j++)
			record_put(b, &a[i].records[j]);
	}
	return b->failed ? ERR_TOOBIG : 0;
}

static int answer_get(struct cursor *c, struct arena *mem, struct dns_answer *a)
{
	uint8_t status;

	a->name = cursor_blob(c);
	a->type = cursor_le16(c);
	status = cursor_u8(c);
	a->secure = cursor_u8(c) != 0;
	a->ttl = cursor_le32(c);
	a->why = cursor_blob(c);
	a->n = count_get(c, RECORD_MIN);
	if (c->bad || status > DNS_TIMEOUT || a->name.n > NAME_MAX_BYTES)
		return ERR_PROTO;
	a->status = status;
	a->records = arena_array(mem, struct dns_record, a->n);
	for (size_t i = 0; i < a->n && !c->bad; i++)
		record_get(c, &a->records[i]);
	return c->bad ? ERR_PROTO : 0;
}

int dns_answers_get(span payload, struct arena *mem, struct dns_answer **ret, size_t *n)
{
	struct cursor c = cursor_of(payload);
	size_t count = count_get(&c, ANSWER_MIN);
	struct dns_answer *a;

	if (c.bad)
		return ERR_PROTO;
	if (count > DNS_ASK_MAX)
		return ERR_TOOBIG;
	a = arena_array(mem, struct dns_answer, count);
	for (size_t i = 0; i < count; i++) {
		int err = answer_get(&c, mem, &a[i]);

		if (err < 0)
			return err;
	}
	if (!cursor_at_end(&c))
		return ERR_PROTO;
	*ret = a;
	*n = count;
	return 0;
}
