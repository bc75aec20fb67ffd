/* The payloads of the session contract; pure. */
#include "sys/session.h"

#include <assert.h>

/* ------------------------------------------------------------------ front -> core */

static void put_address(struct buf *b, const struct sockaddr_any *a)
{
	buf_put_blob(b, span_of(a, sizeof(*a)));
}

static bool get_address(struct cursor *c, struct sockaddr_any *ret)
{
	span raw = cursor_blob(c);
	if (raw.n != sizeof(*ret))
		return false;
	memcpy(ret, raw.p, sizeof(*ret));
	return true;
}

void sess_open_put(struct buf *b, enum sess_proto proto, bool implicit_tls,
		   const struct sockaddr_any *peer, const struct sockaddr_any *local)
{
	buf_put_char(b, (char)proto);
	buf_put_char(b, implicit_tls);
	put_address(b, peer);
	put_address(b, local);
}

bool sess_open_get(span payload, enum sess_proto *ret_proto, bool *ret_implicit_tls,
		   struct sockaddr_any *ret_peer, struct sockaddr_any *ret_local)
{
	struct cursor c = cursor_of(payload);
	struct sockaddr_any peer, local;
	uint8_t proto = cursor_u8(&c), implicit = cursor_u8(&c);
	if (!get_address(&c, &peer) || !get_address(&c, &local) || !cursor_at_end(&c) ||
	    proto >= SESS_PROTO_COUNT || implicit > 1)
		return false;
	*ret_proto = (enum sess_proto)proto;
	*ret_implicit_tls = implicit;
	*ret_peer = peer;
	*ret_local = local;
	return true;
}

int sess_tls_put(struct buf *b, const struct sess_tls *t)
{
	assert(t->endpoint_len <= sizeof(t->endpoint));
	buf_put_char(b, t->active);
	buf_put_le16(b, t->version);
	buf_put_blob(b, t->cipher);
	buf_put_blob(b, t->sni);
	buf_put_blob(b, t->alpn);
	buf_put_blob(b, t->client_emails);
	buf_put_blob(b, span_of(t->exporter, t->has_exporter ? sizeof(t->exporter) : 0));
	return buf_put_blob(b, span_of(t->endpoint, t->endpoint_len));
}

bool sess_tls_get(struct cursor *c, struct sess_tls *ret)
{
	struct sess_tls t = { .active = cursor_u8(c) != 0 };
	t.version = cursor_le16(c);
	t.cipher = cursor_blob(c);
	t.sni = cursor_blob(c);
	t.alpn = cursor_blob(c);
	t.client_emails = cursor_blob(c);
	span exporter = cursor_blob(c), endpoint = cursor_blob(c);
	if (c->bad || (exporter.n && exporter.n != sizeof(t.exporter)) ||
	    endpoint.n > sizeof(t.endpoint))
		return false;
	t.has_exporter = exporter.n != 0;
	t.endpoint_len = (uint8_t)endpoint.n;
	if (exporter.n)
		memcpy(t.exporter, exporter.p, exporter.n);
	if (endpoint.n)
		memcpy(t.endpoint, endpoint.p, endpoint.n);
	*ret = t;
	return true;
}

void sess_ban_put(struct buf *b, const struct sess_ban *ban)
{
	buf_put_blob(b, net_key(&ban->net));
	for (size_t i = 0; i < SESS_PROTO_COUNT; i++)
		buf_put_le64(b, ban->left[i]);
}

bool sess_ban_get(span payload, struct sess_ban *ret)
{
	struct cursor c = cursor_of(payload);
	span net = cursor_blob(&c);
	struct sess_ban ban;
	for (size_t i = 0; i < SESS_PROTO_COUNT; i++)
		ban.left[i] = cursor_le64(&c);
	if (!cursor_at_end(&c) || net.n != sizeof(ban.net))
		return false;
	memcpy(&ban.net, net.p, net.n);
	if (ban.net.bits > 128)
		return false;
	*ret = ban;
	return true;
}

usec sess_tarpit(unsigned errors, usec max)
{
	enum { FREE = 3, DOUBLINGS = 16 };
	if (errors <= FREE)
		return 0;
	usec d = USEC_SEC / 2 << MIN(errors - FREE - 1, (unsigned)DOUBLINGS);
	return MIN(d, max);
}

void wire_item_put(struct buf *group, uint8_t flags, span bytes)
{
	buf_put_char(group, (char)flags);
	buf_put_blob(group, bytes);
}

bool sess_item_next(struct cursor *c, uint8_t *ret_flags, span *ret_bytes)
{
	if (c->bad || cursor_at_end(c))
		return false;
	uint8_t flags = cursor_u8(c);
	span bytes = cursor_blob(c);
	if (c->bad)
		return false;
	*ret_flags = flags;
	*ret_bytes = bytes;
	return true;
}

void sess_body_put(struct buf *b, uint32_t epoch, uint32_t flags, span bytes)
{
	buf_put_le32(b, epoch);
	buf_put_le32(b, flags);
	buf_put_span(b, bytes);
}

/* ------------------------------------------------------------------ core -> front */

void sess_park_put(struct buf *b, const struct wire_park *p)
{
	buf_put_char(b, (char)p->mode);
	buf_put_le32(b, p->flags);
	buf_put_le64(b, p->n);
	buf_put_le32(b, p->idle_seconds);
}

bool sess_park_get(span payload, struct wire_park *ret)
{
	struct cursor c = cursor_of(payload);
	struct wire_park p = { .mode = (enum sess_mode)cursor_u8(&c) };
	p.flags = cursor_le32(&c);
	p.n = cursor_le64(&c);
	p.idle_seconds = cursor_le32(&c);
	if (!cursor_at_end(&c) || (unsigned)p.mode > SESS_MODE_RAW)
		return false;
	*ret = p;
	return true;
}
