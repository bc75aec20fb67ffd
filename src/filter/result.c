/* Results of filters, and what travels between core and out.
 *
 *   FILTER_ASK     le64 conversation, le32 flags, u8 kind, blob address, le64 x 2 time-outs,
 *                  [FRESH: session], le16 n, n x blob, [END: le64 size, header size, new body max]
 *   FILTER_ANSWER  u8 action, le16 code, blob x 2, u8 quarantine, blob, le16 n, n x { u8 kind,
 *                  le32 index, blob name, blob value }, u8 new body, le64 size
 */
#include "filter/filter.h"

#include "format/header.h"

enum { EDIT_MIN = 1 + 4 + 4 + 4 };

static void address_put(struct buf *b, const struct sockaddr_any *a)
{
	buf_put_blob(b, a->sa.sa_family == AF_UNSPEC ? SPAN_NULL : span_of(a, sock_len(a)));
}

static void address_get(struct cursor *c, struct sockaddr_any *ret)
{
	span a = cursor_blob(c);

	*ret = (struct sockaddr_any){ 0 };
	if (!a.n)
		return;
	if (a.n != sizeof(struct sockaddr_in) && a.n != sizeof(struct sockaddr_in6)) {
		c->bad = true;
		return;
	}
	memcpy(ret, a.p, a.n);
	c->bad |= a.n != sock_len(ret);
}

static void session_put(struct buf *b, const struct filter_session *s)
{
	buf_put_blob(b, s->id);
	buf_put_blob(b, s->hostname);
	buf_put_blob(b, s->daemon);
	address_put(b, &s->peer);
	buf_put_blob(b, s->peer_name);
	buf_put_blob(b, s->helo);
	buf_put_blob(b, s->tls_version);
	buf_put_blob(b, s->cipher);
	buf_put_blob(b, s->auth_type);
	buf_put_blob(b, s->auth_user);
	buf_put_blob(b, s->sender);
	buf_put_le64(b, s->size);
	buf_put_char(b, (char)(s->smtputf8 | s->body_8bit << 1));
}

static void session_get(struct cursor *c, struct filter_session *s)
{
	unsigned bits;

	s->id = cursor_blob(c);
	s->hostname = cursor_blob(c);
	s->daemon = cursor_blob(c);
	address_get(c, &s->peer);
	s->peer_name = cursor_blob(c);
	s->helo = cursor_blob(c);
	s->tls_version = cursor_blob(c);
	s->cipher = cursor_blob(c);
	s->auth_type = cursor_blob(c);
	s->auth_user = cursor_blob(c);
	s->sender = cursor_blob(c);
	s->size = cursor_le64(c);
	bits = cursor_u8(c);
	s->smtputf8 = bits & 1;
	s->body_8bit = bits & 2;
}

int filter_ask_put(struct buf *b, const struct filter_ask *a)
{
	if (a->n_rcpts > UINT16_MAX)
		return ERR_TOOBIG;
	buf_put_le64(b, a->conversation);
	buf_put_le32(b, a->flags);
	buf_put_char(b, (char)a->kind);
	address_put(b, &a->to);
	buf_put_le64(b, (uint64_t)a->timeout);
	buf_put_le64(b, (uint64_t)a->timeout_end);
	if (a->flags & FILTER_FRESH)
		session_put(b, &a->session);
	buf_put_le16(b, (uint16_t)a->n_rcpts);
	for (size_t i = 0; i < a->n_rcpts; i++)
		buf_put_blob(b, a->rcpts[i]);
	if (a->flags & FILTER_END) {
		buf_put_le64(b, a->size);
		buf_put_le64(b, a->header_size);
		buf_put_le64(b, a->new_body_max);
	}
	return b->failed ? ERR_TOOBIG : 0;
}

int filter_ask_get(span payload, struct arena *mem, struct filter_ask *ret)
{
	struct cursor c = cursor_of(payload);
	struct filter_ask a = { .conversation = cursor_le64(&c), .flags = cursor_le32(&c) };

	a.kind = cursor_u8(&c);
	address_get(&c, &a.to);
	a.timeout = (usec)cursor_le64(&c);
	a.timeout_end = (usec)cursor_le64(&c);
	if (a.flags & FILTER_FRESH)
		session_get(&c, &a.session);
	a.n_rcpts = cursor_le16(&c);
	if (c.bad || a.n_rcpts * 4 > c.s.n - c.at)
		return ERR_PROTO;
	a.rcpts = arena_array(mem, span, a.n_rcpts);
	for (size_t i = 0; i < a.n_rcpts; i++)
		a.rcpts[i] = cursor_blob(&c);
	if (a.flags & FILTER_END) {
		a.size = cursor_le64(&c);
		a.header_size = cursor_le64(&c);
		a.new_body_max = cursor_le64(&c);
	}
	if (!cursor_at_end(&c) || a.kind >= FILTER_WIRE_KINDS || a.header_size > a.size ||
	    a.timeout <= 0 || a.timeout_end <= 0)
		return ERR_PROTO;
	*ret = a;
	return 0;
}

int filter_result_put(struct buf *b, const struct filter_result *r)
{
	if (r->n_edits > FILTER_EDITS_MAX)
		return ERR_TOOBIG;
	buf_put_char(b, (char)r->action);
	buf_put_le16(b, (uint16_t)r->code);
	buf_put_blob(b, r->enhanced);
	buf_put_blob(b, r->text);
	buf_put_char(b, r->quarantine);
	buf_put_blob(b, r->quarantine_text);
	buf_put_le16(b, (uint16_t)r->n_edits);
	for (size_t i = 0; i < r->n_edits; i++) {
		buf_put_char(b, (char)r->edits[i].kind);
		buf_put_le32(b, r->edits[i].index);
		buf_put_blob(b, r->edits[i].name);
		buf_put_blob(b, r->edits[i].value);
	}
	buf_put_char(b, r->new_body);
	return buf_put_le64(b, r->new_body_size);
}

/* A value stays in its field, whatever out says: each line end goes on with white space. */
static bool value_ok(span v)
{
	for (size_t i = 0; i < v.n; i++) {
		if (v.p[i] == 0 || v.p[i] == '\n')
			return false;
		if (v.p[i] != '\r')
			continue;
		if (i + 2 >= v.n || v.p[i + 1] != '\n' || (v.p[i + 2] != ' ' && v.p[i + 2] != '\t'))
			return false;
		i += 2;
	}
	return true;
}

static bool edit_ok(const struct filter_edit *e)
{
	if (e->kind >= FILTER_EDIT_KINDS)
		return false;
	return e->kind > FILTER_CHANGE_HEADER ? filter_address_ok(e->value)
					      : header_name_valid(e->name) && value_ok(e->value);
}

int filter_result_get(span payload, struct arena *mem, struct filter_result *ret)
{
	struct cursor c = cursor_of(payload);
	struct filter_result r = { .action = cursor_u8(&c) };

	r.code = cursor_le16(&c);
	r.enhanced = cursor_blob(&c);
	r.text = filter_line(cursor_blob(&c), mem);
	r.quarantine = cursor_u8(&c);
	r.quarantine_text = filter_line(cursor_blob(&c), mem);
	r.n_edits = cursor_le16(&c);
	if (c.bad || r.n_edits > FILTER_EDITS_MAX || r.n_edits * EDIT_MIN > c.s.n - c.at)
		return ERR_PROTO;
	r.edits = arena_array(mem, struct filter_edit, r.n_edits);
	for (size_t i = 0; i < r.n_edits; i++) {
		r.edits[i].kind = cursor_u8(&c);
		r.edits[i].index = cursor_le32(&c);
		r.edits[i].name = cursor_blob(&c);
		r.edits[i].value = cursor_blob(&c);
		c.bad |= !edit_ok(&r.edits[i]);
	}
	r.new_body = cursor_u8(&c);
	r.new_body_size = cursor_le64(&c);
	if (!cursor_at_end(&c) || r.action > FILTER_LOST)
		return ERR_PROTO;
	*ret = r;
	return 0;
}

bool filter_address_ok(span text)
{
	for (size_t i = 0; i < text.n; i++)
		if ((unsigned char)text.p[i] < ' ' || text.p[i] == 0x7f)
			return false;
	return true;
}

span filter_line(span text, struct arena *mem)
{
	span s = span_trim(span_sub(text, 0, FILTER_TEXT_MAX));
	char *p = arena_cstr(mem, s);

	for (size_t i = 0; i < s.n; i++)
		if (p[i] < ' ' || p[i] > '~')
			p[i] = p[i] == '\r' || p[i] == '\n' || p[i] == '\t' ? ' ' : '?';
	return span_of(p, s.n);
}

/* "5.7.1 " at the beginning of S that suits a code of CLASS; cut off, or empty. */
static span enhanced_cut(span *s, char class)
{
	size_t n = span_find(*s, ' '), dots = 0, digits = 0;
	span e = span_sub(*s, 0, n);

	for (size_t i = 0; i < e.n; i++) {
		if (e.p[i] == '.' && digits > 0 && digits <= 3) {
			dots++;
			digits = 0;
		} else if (e.p[i] >= '0' && e.p[i] <= '9') {
			digits++;
		} else {
			return SPAN_NULL;
		}
	}
	if (dots != 2 || !digits || digits > 3 || e.p[0] != class || e.p[1] != '.')
		return SPAN_NULL;
	*s = span_from(*s, n == SPAN_NPOS ? s->n : n + 1);
	return e;
}

int filter_reply_parse(span text, struct arena *mem, struct filter_result *ret)
{
	struct buf joined _cleanup_(buf_donep) = BUF_INIT(2 * FILTER_TEXT_MAX);
	span enhanced = SPAN_NULL;
	uint64_t code = 0, c;

	text = span_sub(text, 0, 4 * FILTER_TEXT_MAX);
	while (text.n) {
		span line = span_trim(span_cut(&text, '\n')), rest = span_from(line, 4), e;

		if (!span_u64(span_sub(line, 0, 3), 599, &c) || line.n < 3 || c < 400 ||
		    (code && c != code) || (line.n > 3 && !strchr(" -", line.p[3])))
			return ERR_SYNTAX;
		code = c;
		e = enhanced_cut(&rest, line.p[0]);
		enhanced = e.n ? e : enhanced;
		buf_put_str(&joined, joined.n && rest.n ? " " : "");
		buf_put_span(&joined, rest);
	}
	if (!code)
		return ERR_SYNTAX;
	ret->action = code < 500 ? FILTER_TEMPFAIL : FILTER_REJECT;
	ret->code = code == 421 ? 451 : (unsigned)code; /* a filter does not end our session */
	ret->enhanced = arena_span(mem, enhanced);
	ret->text = filter_line(buf_span(&joined), mem);
	return 0;
}
