/* The message forms of requests and answers between core and out.
 *
 *   HTTP_ASK     blob method, blob url, le16 n, n x { blob name, blob value }, blob body, le64 size,
 *                le32 answer max, le64 timeout, le32 flags, u8 family { blob address }, blob ca
 *   HTTP_ANSWER  u8 fail, blob why, le16 status, le16 n, n x { blob name, blob value }, blob body
 */
#include "http/http.h"

#include <netinet/in.h>

enum { HEADER_MIN = 4 + 4 };

static bool token_ok(span s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (c <= ' ' || c > '~' || strchr("\"(),/:;<=>?@[\\]{}", c))
			return false;
	}
	return s.n > 0;
}

static bool value_ok(span s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < ' ' && s.p[i] != '\t')
			return false;
	return true;
}

static void headers_put(struct buf *b, const struct http_header *h, size_t n)
{
	buf_put_le16(b, (uint16_t)n);
	for (size_t i = 0; i < n; i++) {
		buf_put_blob(b, h[i].name);
		buf_put_blob(b, h[i].value);
	}
}

static void headers_get(struct cursor *c, size_t max, struct arena *mem, struct http_header **ret,
			size_t *ret_n)
{
	size_t n = cursor_le16(c);

	if (n > max || n * HEADER_MIN > c->s.n - c->at) {
		c->bad = true;
		return;
	}
	*ret = arena_array(mem, struct http_header, n);
	for (size_t i = 0; i < n; i++) {
		(*ret)[i].name = cursor_blob(c);
		(*ret)[i].value = cursor_blob(c);
		c->bad |= !token_ok((*ret)[i].name) || !value_ok((*ret)[i].value);
	}
	*ret_n = n;
}

int http_request_put(struct buf *b, const struct http_request *r)
{
	bool has_to = r->to.sa.sa_family != AF_UNSPEC;

	if (r->n_headers > HTTP_HEADERS_MAX || r->body.n > HTTP_INLINE_MAX ||
	    r->url.n > HTTP_URL_MAX)
		return ERR_TOOBIG;
	buf_put_blob(b, r->method);
	buf_put_blob(b, r->url);
	headers_put(b, r->headers, r->n_headers);
	buf_put_blob(b, r->body);
	buf_put_le64(b, r->body.n ? r->body.n : r->body_size);
	buf_put_le32(b, r->answer_max);
	buf_put_le64(b, (uint64_t)r->timeout);
	buf_put_le32(b, r->flags);
	buf_put_blob(b, has_to ? span_of(&r->to, sock_len(&r->to)) : SPAN_NULL);
	buf_put_blob(b, r->ca_pem);
	return b->failed ? ERR_TOOBIG : 0;
}

static bool address_get(struct cursor *c, struct sockaddr_any *ret)
{
	span a = cursor_blob(c);

	if (!a.n)
		return true;
	if (a.n != sizeof(struct sockaddr_in) && a.n != sizeof(struct sockaddr_in6))
		return false;
	memcpy(ret, a.p, a.n);
	return a.n == sock_len(ret);
}

int http_request_get(span payload, struct arena *mem, struct http_request *ret)
{
	struct cursor c = cursor_of(payload);
	struct http_request r = { 0 };

	r.method = cursor_blob(&c);
	r.url = cursor_blob(&c);
	headers_get(&c, HTTP_HEADERS_MAX, mem, &r.headers, &r.n_headers);
	r.body = cursor_blob(&c);
	r.body_size = cursor_le64(&c);
	r.answer_max = cursor_le32(&c);
	r.timeout = (usec)cursor_le64(&c);
	r.flags = cursor_le32(&c);
	if (!address_get(&c, &r.to))
		return ERR_PROTO;
	r.ca_pem = cursor_blob(&c);
	if (!cursor_at_end(&c) || !token_ok(r.method) || (r.body.n && r.body.n != r.body_size))
		return ERR_PROTO;
	if (r.method.n > 16 || r.body_size > HTTP_BODY_MAX || r.answer_max > HTTP_ANSWER_MAX ||
	    r.timeout <= 0 || r.timeout > HTTP_TIMEOUT_MAX)
		return ERR_TOOBIG;
	*ret = r;
	return 0;
}

int http_answer_put(struct buf *b, const struct http_answer *a)
{
	buf_put_char(b, (char)a->fail);
	buf_put_blob(b, a->why);
	buf_put_le16(b, (uint16_t)a->status);
	headers_put(b, a->headers, a->n_headers);
	return buf_put_blob(b, a->body);
}

int http_answer_get(span payload, struct arena *mem, struct http_answer *ret)
{
	struct cursor c = cursor_of(payload);
	struct http_answer a = { 0 };

	a.fail = cursor_u8(&c);
	a.why = cursor_blob(&c);
	a.status = cursor_le16(&c);
	headers_get(&c, UINT16_MAX, mem, &a.headers, &a.n_headers);
	a.body = cursor_blob(&c);
	if (!cursor_at_end(&c) || a.fail > HTTP_FAIL_TOOBIG || a.status > 999)
		return ERR_PROTO;
	*ret = a;
	return 0;
}

span http_header_value(const struct http_answer *a, const char *name)
{
	for (size_t i = 0; i < a->n_headers; i++)
		if (span_eq_str(a->headers[i].name, name))
			return a->headers[i].value;
	return SPAN_NULL;
}
