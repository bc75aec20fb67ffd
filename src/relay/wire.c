/* The message forms of relay/wire.h.  Neither side trusts the other: counts are checked against the
 * bytes that are left before anything is allocated, enums against their range. */
#include "relay/wire.h"

enum { REPLY_MIN = 2 + 4 + 4 + 4, RCPT_MIN = 4 + 4 + 4 };

static void put_address(struct buf *b, const struct sockaddr_any *a)
{
	switch (a->sa.sa_family) {
	case AF_INET:
		buf_put_char(b, 4);
		buf_put(b, &a->in.sin_addr, 4);
		break;
	case AF_INET6:
		buf_put_char(b, 6);
		buf_put(b, &a->in6.sin6_addr, 16);
		break;
	default:
		buf_put_char(b, 0);
		return;
	}
	buf_put_le16(b, sock_port(a));
}

static void get_address(struct cursor *c, struct sockaddr_any *a)
{
	span raw;

	switch (cursor_u8(c)) {
	case 0:
		return;
	case 4:
		raw = cursor_bytes(c, 4);
		if (c->bad)
			return;
		a->in.sin_family = AF_INET;
		memcpy(&a->in.sin_addr, raw.p, 4);
		a->in.sin_port = htons(cursor_le16(c));
		return;
	case 6:
		raw = cursor_bytes(c, 16);
		if (c->bad)
			return;
		a->in6.sin6_family = AF_INET6;
		memcpy(&a->in6.sin6_addr, raw.p, 16);
		a->in6.sin6_port = htons(cursor_le16(c));
		return;
	default:
		c->bad = true;
	}
}

static void put_reply(struct buf *b, const struct smtp_reply *r)
{
	buf_put_le16(b, (uint16_t)r->code);
	buf_put_blob(b, span_str(r->enhanced));
	buf_put_blob(b, span_sub(r->text, 0, RELAY_REPLY_TEXT_MAX));
	buf_put_le32(b, (uint32_t)r->lines);
}

static void get_reply(struct cursor *c, struct smtp_reply *r)
{
	span enhanced;

	r->code = cursor_le16(c);
	enhanced = cursor_blob(c);
	r->text = cursor_blob(c);
	r->lines = cursor_le32(c);
	if (r->code > 599 || enhanced.n >= sizeof r->enhanced)
		c->bad = true;
	else if (enhanced.n > 0)
		memcpy(r->enhanced, enhanced.p, enhanced.n);
}

static size_t get_count(struct cursor *c, size_t min)
{
	size_t n = cursor_le16(c);

	if (n > RELAY_RCPTS_MAX || n * min > c->s.n - c->at) {
		c->bad = true;
		return 0;
	}
	return n;
}

static int put_done(const struct buf *b)
{
	return b->failed ? ERR_TOOBIG : 0;
}

int relay_open_put(struct buf *b, const struct relay_open *o)
{
	put_address(b, &o->to);
	put_address(b, &o->source);
	buf_put_blob(b, o->helo);
	buf_put_blob(b, o->host);
	buf_put_char(b, (char)o->tls);
	buf_put_char(b, (char)(o->implicit_tls | o->lmtp << 1));
	buf_put_blob(b, o->user);
	buf_put_blob(b, o->password);
	return put_done(b);
}

int relay_open_get(span payload, struct relay_open *ret)
{
	struct cursor c = cursor_of(payload);
	struct relay_open o = { 0 };
	uint8_t tls, flags;

	get_address(&c, &o.to);
	get_address(&c, &o.source);
	o.helo = cursor_blob(&c);
	o.host = cursor_blob(&c);
	tls = cursor_u8(&c);
	flags = cursor_u8(&c);
	o.user = cursor_blob(&c);
	o.password = cursor_blob(&c);
	if (!cursor_at_end(&c) || tls > RELAY_TLS_VERIFY || o.to.sa.sa_family == AF_UNSPEC)
		return ERR_PROTO;
	o.tls = tls;
	o.implicit_tls = flags & 1;
	o.lmtp = flags & 2;
	*ret = o;
	return 0;
}

int relay_opened_put(struct buf *b, const struct relay_opened *o)
{
	buf_put_char(b, (char)o->fail);
	put_reply(b, &o->reply);
	buf_put_blob(b, o->why);
	buf_put_le32(b, o->extensions);
	buf_put_le64(b, o->max_size);
	buf_put_le32(b, o->by_min);
	buf_put_le32(b, o->mail_max);
	buf_put_le32(b, o->rcpt_max);
	buf_put_le32(b, o->domain_max);
	buf_put_char(b, (char)(o->tls | o->tls_verified << 1));
	buf_put_blob(b, o->tls_text);
	buf_put_blob(b, o->banner_host);
	buf_put_blob(b, o->auth);
	return put_done(b);
}

int relay_opened_get(span payload, struct arena *mem, struct relay_opened *ret)
{
	struct cursor c = cursor_of(payload);
	struct relay_opened o = { 0 };
	uint8_t fail, flags;

	fail = cursor_u8(&c);
	get_reply(&c, &o.reply);
	o.why = cursor_blob(&c);
	o.extensions = cursor_le32(&c);
	o.max_size = cursor_le64(&c);
	o.by_min = cursor_le32(&c);
	o.mail_max = cursor_le32(&c);
	o.rcpt_max = cursor_le32(&c);
	o.domain_max = cursor_le32(&c);
	flags = cursor_u8(&c);
	o.tls_text = cursor_blob(&c);
	o.banner_host = cursor_blob(&c);
	o.auth = cursor_blob(&c);
	if (!cursor_at_end(&c) || fail > RELAY_FAIL_AUTH)
		return ERR_PROTO;
	o.fail = fail;
	o.tls = flags & 1;
	o.tls_verified = flags & 2;
	*ret = o;
	return 0;
}

int relay_send_put(struct buf *b, const struct relay_send *s)
{
	if (s->n_rcpts > RELAY_RCPTS_MAX)
		return ERR_TOOBIG;
	buf_put_blob(b, s->sender);
	buf_put_blob(b, s->envid);
	buf_put_le64(b, s->size);
	buf_put_le16(b, (uint16_t)(s->smtputf8 | s->body_8bit << 1 | s->ret_full << 2 |
				   s->ret_hdrs << 3 | s->chunking << 4 | s->require_tls << 5 |
				   s->by << 6 | s->by_return << 7 | s->by_trace << 8));
	buf_put_char(b, (char)s->priority);
	buf_put_le32(b, (uint32_t)s->by_seconds);
	buf_put_le16(b, (uint16_t)s->n_rcpts);
	for (size_t i = 0; i < s->n_rcpts; i++) {
		buf_put_blob(b, s->rcpts[i].address);
		buf_put_blob(b, s->rcpts[i].original);
		buf_put_le32(b, s->rcpts[i].notify);
	}
	buf_put_le64(b, s->body_from);
	buf_put_blob(b, s->body);
	return put_done(b);
}

int relay_send_get(span payload, struct arena *mem, struct relay_send *ret)
{
	struct cursor c = cursor_of(payload);
	struct relay_send s = { 0 };
	unsigned flags;

	s.sender = cursor_blob(&c);
	s.envid = cursor_blob(&c);
	s.size = cursor_le64(&c);
	flags = cursor_le16(&c);
	s.smtputf8 = flags & 1;
	s.body_8bit = flags & 2;
	s.ret_full = flags & 4;
	s.ret_hdrs = flags & 8;
	s.chunking = flags & 16;
	s.require_tls = flags & 32;
	s.by = flags & 64;
	s.by_return = flags & 128;
	s.by_trace = flags & 256;
	s.priority = (int8_t)cursor_u8(&c);
	s.by_seconds = (int32_t)cursor_le32(&c);
	s.n_rcpts = get_count(&c, RCPT_MIN);
	s.rcpts = arena_array(mem, struct relay_rcpt, s.n_rcpts);
	for (size_t i = 0; i < s.n_rcpts; i++) {
		s.rcpts[i].address = cursor_blob(&c);
		s.rcpts[i].original = cursor_blob(&c);
		s.rcpts[i].notify = cursor_le32(&c);
	}
	s.body_from = cursor_le64(&c);
	s.body = cursor_blob(&c);
	if (!cursor_at_end(&c))
		return ERR_PROTO;
	*ret = s;
	return 0;
}

int relay_sent_put(struct buf *b, const struct relay_sent *s)
{
	if (s->n_rcpts > RELAY_RCPTS_MAX)
		return ERR_TOOBIG;
	buf_put_char(b, (char)s->fail);
	buf_put_blob(b, s->why);
	put_reply(b, &s->mail);
	put_reply(b, &s->data);
	put_reply(b, &s->final);
	buf_put_char(b, s->rcpt_final != NULL);
	buf_put_le16(b, (uint16_t)s->n_rcpts);
	for (size_t i = 0; i < s->n_rcpts; i++)
		put_reply(b, &s->rcpts[i]);
	for (size_t i = 0; s->rcpt_final && i < s->n_rcpts; i++)
		put_reply(b, &s->rcpt_final[i]);
	return put_done(b);
}

int relay_sent_get(span payload, struct arena *mem, struct relay_sent *ret)
{
	struct cursor c = cursor_of(payload);
	struct relay_sent s = { 0 };
	uint8_t fail, finals;

	fail = cursor_u8(&c);
	s.why = cursor_blob(&c);
	get_reply(&c, &s.mail);
	get_reply(&c, &s.data);
	get_reply(&c, &s.final);
	finals = cursor_u8(&c);
	s.n_rcpts = get_count(&c, REPLY_MIN);
	s.rcpts = arena_array(mem, struct smtp_reply, s.n_rcpts);
	for (size_t i = 0; i < s.n_rcpts; i++)
		get_reply(&c, &s.rcpts[i]);
	if (finals)
		s.rcpt_final = arena_array(mem, struct smtp_reply, s.n_rcpts);
	for (size_t i = 0; finals && i < s.n_rcpts; i++)
		get_reply(&c, &s.rcpt_final[i]);
	if (!cursor_at_end(&c) || fail > RELAY_FAIL_AUTH)
		return ERR_PROTO;
	s.fail = fail;
	*ret = s;
	return 0;
}
