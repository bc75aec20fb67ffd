/* Signing (RFC 6376 5). */
#include "base/codec.h"
#include "trust/ascii.h"
#include "trust/dkim_int.h"

/* What is signed unless the caller says otherwise (RFC 6376 5.4.1).  SEAL: listed once more than it
 * occurs, so that none can be added unseen: what programs show, or use to read the body. */
static const struct {
	const char *name;
	bool seal;
} signed_fields[] = {
	{ "From", true },
	{ "Reply-To", true },
	{ "Subject", true },
	{ "Date", true },
	{ "To", true },
	{ "Cc", true },
	{ "Message-ID", true },
	{ "In-Reply-To", true },
	{ "References", true },
	{ "MIME-Version", true },
	{ "Content-Type", true },
	{ "Content-Transfer-Encoding", true },
	{ "Content-ID", false },
	{ "Content-Description", false },
	{ "Resent-Date", false },
	{ "Resent-From", false },
	{ "Resent-To", false },
	{ "Resent-Cc", false },
	{ "Resent-Message-ID", false },
	{ "List-Id", false },
	{ "List-Help", false },
	{ "List-Unsubscribe", false },
	{ "List-Unsubscribe-Post", false },
	{ "List-Subscribe", false },
	{ "List-Post", false },
	{ "List-Owner", false },
	{ "List-Archive", false },
	{ "Feedback-ID", false },
};

#define FIELD_MAX 16384
#define LINE_MAX  76
#define SIGNED_MAX (2 * MESSAGE_HEADER_MAX)
#define NAMED_MAX 32 /* of one name; a message with more is no mail */

static void put_name(struct buf *b, const char *name, size_t *column)
{
	if (*column) {
		buf_put_char(b, ':');
		if (*column + strlen(name) > LINE_MAX) {
			buf_put_str(b, "\r\n\t");
			*column = 8;
		}
	}
	buf_put_str(b, name);
	*column += strlen(name) + 1;
}

static void put_default_names(const struct message *m, struct buf *b)
{
	size_t column = 0;

	for (size_t i = 0; i < ARRAY_LEN(signed_fields); i++) {
		uint32_t id = message_id(m, span_str(signed_fields[i].name));
		size_t n = signed_fields[i].seal;

		for (uint32_t at = id == MESSAGE_NO_FIELD ? id : m->lowest[id];
		     at != MESSAGE_NO_FIELD && n < NAMED_MAX; at = m->field[at].above)
			n++;
		while (n--)
			put_name(b, signed_fields[i].name, &column);
	}
}

int dkim_insert_signature(struct buf *b, size_t at, span sig, bool fold)
{
	_cleanup_(buf_donep) struct buf text = BUF_INIT(4096), out = BUF_INIT(FIELD_MAX + 4096);
	span line;

	base64_encode(&text, sig);
	for (span rest = buf_span(&text); rest.n; rest = span_from(rest, line.n)) {
		line = span_sub(rest, 0, fold ? LINE_MAX - 8 : rest.n);
		if (fold)
			buf_put_str(&out, "\r\n\t");
		buf_put_span(&out, line);
	}
	buf_put(&out, b->p + at, b->n - at);
	if (text.failed || out.failed)
		return ERR_TOOBIG;
	buf_truncate(b, at);
	return buf_put_span(b, buf_span(&out));
}

static bool can_sign(const struct message *m, const struct dkim_sign_options *o)
{
	return trust_name_valid(o->domain) && trust_name_valid(o->selector) &&
	       message_id(m, SPAN("From")) != MESSAGE_NO_FIELD &&
	       (!o->headers.n || tags_list_has(o->headers, "from"));
}

static const char *canon_name(enum canon c)
{
	return c == CANON_RELAXED ? "relaxed" : "simple";
}

int dkim_sign_begin(const struct message *m, const struct dkim_sign_options *o, struct arena *mem,
		    struct buf *b, struct dkim_draft *ret)
{
	_cleanup_(buf_donep) struct buf f = BUF_INIT(FIELD_MAX);
	uint8_t hash[32];
	uint64_t length;
	size_t h;

	if (!can_sign(m, o))
		return ERR_INVAL;
	canon_body(m->body, o->body, CANON_NO_LIMIT, hash, &length);
	buf_printf(&f, "DKIM-Signature: v=1; a=%s; c=%s/%s;\r\n\td=%.*s; s=%.*s;\r\n\tt=%lld;",
		   o->type == SIGN_RSA ? "rsa-sha256" : "ed25519-sha256", canon_name(o->header),
		   canon_name(o->body), SPAN_FMT(o->domain), SPAN_FMT(o->selector),
		   (long long)o->now);
	if (o->expires)
		buf_printf(&f, " x=%lld;", (long long)o->expires);
	buf_put_str(&f, "\r\n\th=");
	h = f.n;
	if (o->headers.n)
		buf_put_span(&f, o->headers);
	else
		put_default_names(m, &f);
	span names = arena_span(mem, span_from(buf_span(&f), h));
	buf_put_str(&f, ";\r\n\tbh=");
	base64_encode(&f, span_of(hash, sizeof(hash)));
	buf_put_str(&f, ";\r\n\tb=");
	if (f.failed)
		return ERR_TOOBIG;

	_cleanup_(buf_donep) struct buf text = BUF_INIT(SIGNED_MAX);
	canon_header(CANON_TEXT(&text), m, names, o->header, mem);
	canon_field(CANON_TEXT(&text), buf_span(&f), o->header, SPAN_NULL, true);
	if (text.failed)
		return ERR_TOOBIG;
	ret->text = arena_span(mem, buf_span(&text));
	ret->at = b->n + f.n;
	buf_put_span(b, buf_span(&f));
	return buf_put_str(b, "\r\n");
}

int dkim_sign_end(const struct dkim_draft *d, span sig, struct buf *b)
{
	return dkim_insert_signature(b, d->at, sig, true);
}

int dkim_sign(const struct message *m, const struct dkim_sign_options *o, const struct sign_key *k,
	      struct arena *mem, struct buf *b)
{
	_cleanup_(buf_donep) struct buf sig = BUF_INIT(1024);
	struct dkim_sign_options with = *o;
	struct dkim_draft d;
	uint8_t digest[32];
	int e;

	with.type = sign_key_type(k);
	e = dkim_sign_begin(m, &with, mem, b, &d);
	if (e < 0)
		return e;
	sha256(d.text, digest);
	e = sign_digest(k, digest, &sig);
	return e < 0 ? e : dkim_sign_end(&d, buf_span(&sig), b);
}
