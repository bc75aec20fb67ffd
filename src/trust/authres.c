/* Authentication-Results: reading (RFC 8601 2.2), removing (5) and writing. */
#include "trust/authres.h"

#include "format/header.h"
#include "trust/ascii.h"

#define COMMENT_DEPTH 32
#define VALUE_MAX     512 /* bytes of one property that are written */

/* ------------------------------------------------------------------ reading */

static bool is_fws(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* RFC 2045 token characters. */
static bool is_token(char c)
{
	return c > 0x20 && c < 0x7f && !strchr("()<>@,;:\\\"/[]?=", c);
}

/* Behind the comment that begins at AT; 0 if it does not end. */
static size_t skip_comment(span s, size_t at)
{
	unsigned depth = 0;

	for (; at < s.n; at++) {
		if (s.p[at] == '\\')
			at++;
		else if (s.p[at] == '(' && ++depth > COMMENT_DEPTH)
			return 0;
		else if (s.p[at] == ')' && --depth == 0)
			return at + 1;
	}
	return 0;
}

/* Behind the quoted string that begins at AT; 0 if it does not end. */
static size_t skip_quoted(span s, size_t at)
{
	for (at++; at < s.n; at++) {
		if (s.p[at] == '\\')
			at++;
		else if (s.p[at] == '"')
			return at + 1;
	}
	return 0;
}

static bool skip_cfws(span s, size_t *at)
{
	while (*at < s.n) {
		if (is_fws(s.p[*at])) {
			++*at;
		} else if (s.p[*at] == '(') {
			*at = skip_comment(s, *at);
			if (!*at)
				return false;
		} else {
			break;
		}
	}
	return true;
}

/* A token, or a quoted string without its quotes, copied; p NULL if there is none. */
static span read_value(span s, size_t *at, struct arena *mem)
{
	size_t from = *at, n = 0, end;

	if (from < s.n && s.p[from] == '"') {
		end = skip_quoted(s, from);
		if (!end)
			return SPAN_NULL;
		char *p = arena_alloc(mem, end - from);
		for (size_t i = from + 1; i + 1 < end; i++) {
			if (s.p[i] == '\\')
				i++;
			p[n++] = s.p[i];
		}
		*at = end;
		return span_of(p, n);
	}
	while (*at < s.n && is_token(s.p[*at]))
		++*at;
	return *at > from ? span_sub(s, from, *at - from) : SPAN_NULL;
}

/* authserv-id and version; leaves AT at the ";" or the end. */
static bool read_head(span s, size_t *at, struct arena *mem, span *ret_id)
{
	if (!skip_cfws(s, at))
		return false;
	*ret_id = read_value(s, at, mem);
	if (!ret_id->p || !skip_cfws(s, at))
		return false;
	while (*at < s.n && ascii_digit(s.p[*at]))
		++*at;
	return skip_cfws(s, at) && (*at == s.n || s.p[*at] == ';');
}

/* The end of the result that begins at AT: a ";" outside of comments and quotes.  0: it has no end.
 */
static size_t result_end(span s, size_t at)
{
	while (at < s.n && s.p[at] != ';') {
		if (s.p[at] == '(')
			at = skip_comment(s, at);
		else if (s.p[at] == '"')
			at = skip_quoted(s, at);
		else
			at++;
		if (!at)
			return 0;
	}
	return at;
}

/* method [ "/" version ] "=" result, with comments in between. */
static bool read_item(span text, struct arena *mem, struct authres_item *ret)
{
	size_t at = 0;

	ret->text = text;
	if (!skip_cfws(text, &at))
		return false;
	ret->method = read_value(text, &at, mem);
	if (!ret->method.p || !skip_cfws(text, &at))
		return false;
	if (at < text.n && text.p[at] == '/') {
		at++;
		if (!skip_cfws(text, &at) || !read_value(text, &at, mem).p || !skip_cfws(text, &at))
			return false;
	}
	if (at >= text.n || text.p[at++] != '=' || !skip_cfws(text, &at))
		return false;
	ret->result = read_value(text, &at, mem);
	return ret->result.p != NULL;
}

int authres_parse(span value, struct arena *mem, span *ret_id, struct authres_item ret[AUTHRES_MAX],
		  size_t *ret_n)
{
	size_t at = 0, n = 0;
	span id;

	value = header_unfold(value, mem);
	if (!read_head(value, &at, mem, &id))
		return ERR_SYNTAX;
	while (at < value.n) {
		size_t from = at + 1, end = result_end(value, from);
		if (!end)
			return ERR_SYNTAX;
		span text = span_trim(span_sub(value, from, end - from));
		at = end;
		if (!text.n || span_ieq_str(text, "none"))
			continue;
		if (n == AUTHRES_MAX || !read_item(text, mem, &ret[n]))
			return n == AUTHRES_MAX ? ERR_TOOBIG : ERR_SYNTAX;
		n++;
	}
	*ret_id = id;
	*ret_n = n;
	return 0;
}

/* ------------------------------------------------------------------ removing */

bool authres_claims(span value, span id)
{
	_cleanup_(arena_donep) struct arena mem;
	size_t at = 0;
	span theirs;

	arena_init(&mem);
	if (read_head(value, &at, &mem, &theirs))
		return span_ieq(name_undot(theirs), name_undot(id));
	return span_ifind_span(value, id) != SPAN_NPOS;
}

int authres_strip(span text, span id, struct buf *b, size_t *ret_removed)
{
	size_t end = header_size(text), at = 0, removed = 0, kept = 0;
	span header = span_sub(text, 0, end);
	struct header_field f;

	while (header_next_field(header, &at, &f)) {
		if (!span_ieq_str(f.name, "Authentication-Results") || !authres_claims(f.value, id))
			continue;
		size_t from = (size_t)(f.raw.p - header.p);
		buf_put_span(b, span_sub(header, kept, from - kept));
		kept = from + f.raw.n;
		removed++;
	}
	buf_put_span(b, span_from(header, kept));
	if (ret_removed)
		*ret_removed = removed;
	return b->failed ? ERR_TOOBIG : 0;
}

/* ------------------------------------------------------------------ writing */

static bool is_plain(span s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!ascii_alpha(c) && !ascii_digit(c) && !(c && strchr("._-+@", c)))
			return false;
	}
	return s.n > 0;
}

/* What is no printable ASCII becomes "?": a field must not be able to end, fold or change its
 * charset. */
static void put_value(struct buf *b, span s)
{
	s = span_sub(s, 0, VALUE_MAX);
	if (is_plain(s)) {
		buf_put_span(b, s);
		return;
	}
	buf_put_char(b, '"');
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (c == '"' || c == '\\')
			buf_put_char(b, '\\');
		buf_put_char(b, c >= 0x20 && c < 0x7f ? c : '?');
	}
	buf_put_char(b, '"');
}

static void put_property(struct buf *b, const char *name, span value)
{
	if (!value.n)
		return;
	buf_printf(b, " %s=", name);
	put_value(b, value);
}

static void put_method(struct buf *b, const char *method, enum trust_result r, const char *reason)
{
	buf_printf(b, ";\r\n\t%s=%s", method, trust_result_text(r));
	if (reason && r != TRUST_PASS && r != TRUST_NONE)
		put_property(b, "reason", span_str(reason));
}

static void put_spf(struct buf *b, const struct spf_verdict *v, bool helo)
{
	put_method(b, "spf", v->result, v->reason);
	put_property(b, helo ? "smtp.helo" : "smtp.mailfrom", helo ? v->domain : v->sender);
}

static void put_dkim(struct buf *b, const struct dkim_verdict *v)
{
	if (!v->n)
		put_method(b, "dkim", TRUST_NONE, NULL);
	for (size_t i = 0; i < v->n; i++) {
		const struct dkim_signature *s = &v->signature[i];
		put_method(b, "dkim", s->result, s->reason);
		if (s->partial)
			buf_put_str(b, " (only a part of the body is signed)");
		put_property(b, "header.d", s->domain);
		put_property(b, "header.i", s->identity);
		put_property(b, "header.s", s->selector);
		put_property(b, "header.a", s->algorithm);
		put_property(b, "header.b", span_sub(s->b, 0, 8)); /* RFC 6008 */
	}
}

static void put_dmarc(struct buf *b, const struct dmarc_verdict *v)
{
	put_method(b, "dmarc", v->result, v->reason);
	if (v->record_domain.n)
		buf_printf(b, " (p=%s)", dmarc_policy_text(v->record.p));
	put_property(b, "header.from", v->author);
}

/* RFC 8601 2.7.3. */
static void put_iprev(struct buf *b, const struct iprev_verdict *v)
{
	put_method(b, "iprev", v->result, v->reason);
	put_property(b, "policy.iprev", v->ip);
	if (v->name.n)
		put_property(b, "policy.name", v->name);
}

int authres_put(struct buf *b, const struct authres *r)
{
	buf_put_str(b, "Authentication-Results: ");
	put_value(b, r->id);
	if (r->helo)
		put_spf(b, r->helo, true);
	if (r->mail_from)
		put_spf(b, r->mail_from, false);
	if (r->dkim)
		put_dkim(b, r->dkim);
	if (r->arc)
		put_method(b, "arc", r->arc->result, r->arc->reason);
	if (r->dmarc)
		put_dmarc(b, r->dmarc);
	if (r->iprev)
		put_iprev(b, r->iprev);
	if (!r->helo && !r->mail_from && !r->dkim && !r->arc && !r->dmarc && !r->iprev)
		buf_put_str(b, "; none");
	return buf_put_str(b, "\r\n");
}
