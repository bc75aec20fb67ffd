/* Sealing (RFC 8617 5.1).  The fields are written with their tags in alphabetical order, one space
 * or fold between them, which is the form that test vectors expect of a reproducible seal. */
#include "base/codec.h"
#include "format/header.h"
#include "trust/arc_int.h"
#include "trust/authres.h"

#define FIELD_MAX   65536
#define RESULTS_MAX 512 /* results sealed */

/* What a message signature covers unless the caller says otherwise: as in DKIM (RFC 8617 4.1.2),
 * but nothing twice, for who passes the message on may have to add fields. */
static const char *const covered[] = {
	"From",		  "To",		  "Cc",		  "Subject",
	"Date",		  "Message-ID",	  "In-Reply-To",  "References",
	"Reply-To",	  "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
	"DKIM-Signature",
};

struct sealer {
	const struct arc_seal_options *o;
	struct arena *mem;
	unsigned instance;
	const char *cv;
};

/* ARC-Authentication-Results: all our results, in the order of their fields (4.1.1). */
static void put_results(const struct sealer *s, const struct message *m, struct buf *b)
{
	struct authres_item *item = arena_array(s->mem, struct authres_item, AUTHRES_MAX);
	size_t n, total = 0;
	span id;

	buf_printf(b, "ARC-Authentication-Results: i=%u; %.*s", s->instance,
		   SPAN_FMT(s->o->authserv_id));
	for (uint32_t at = 0;
	     (at = message_find(m, "Authentication-Results", at)) != MESSAGE_NO_FIELD; at++) {
		if (authres_parse(m->field[at].value, s->mem, &id, item, &n) < 0 ||
		    !span_ieq(id, s->o->authserv_id))
			continue;
		for (size_t i = 0; i < n && total < RESULTS_MAX; i++, total++) {
			buf_put_str(b, ";\r\n\t");
			buf_put_span(b, item[i].text);
		}
	}
	if (!total)
		buf_put_str(b, "; none");
}

static const char *algorithm(const struct sealer *s)
{
	return s->o->type == SIGN_RSA ? "rsa-sha256" : "ed25519-sha256";
}

static void put_default_names(const struct message *m, struct buf *b)
{
	bool first = true;

	for (size_t i = 0; i < ARRAY_LEN(covered); i++) {
		if (message_id(m, span_str(covered[i])) == MESSAGE_NO_FIELD)
			continue;
		if (!first)
			buf_put_char(b, ':');
		first = false;
		buf_put_str(b, covered[i]);
	}
}

/* Lets the caller sign DIGEST and puts the signature into the field at AT. */
static int finish(const struct sealer *s, const uint8_t digest[32], size_t at, struct buf *b)
{
	_cleanup_(buf_donep) struct buf sig = BUF_INIT(1024);
	int e = s->o->sign(s->o->arg, digest, &sig);

	return e < 0 ? e : dkim_insert_signature(b, at, buf_span(&sig), false);
}

static int put_message_signature(const struct sealer *s, const struct message *m, struct buf *b)
{
	_cleanup_(buf_donep) struct buf names = BUF_INIT(FIELD_MAX);
	uint8_t digest[32];
	uint64_t length;
	size_t at;

	if (s->o->headers.n)
		buf_put_span(&names, s->o->headers);
	else
		put_default_names(m, &names);
	canon_body(m->body, CANON_RELAXED, CANON_NO_LIMIT, digest, &length);
	buf_printf(b, "ARC-Message-Signature: a=%s;\r\n\tb=", algorithm(s));
	at = b->n;
	buf_put_str(b, ";\r\n\tbh=");
	base64_encode(b, span_of(digest, sizeof(digest)));
	buf_printf(b, "; c=relaxed/relaxed;\r\n\td=%.*s;\r\n\th=%.*s; i=%u;\r\n\ts=%.*s; t=%lld",
		   SPAN_FMT(s->o->domain), SPAN_FMT(buf_span(&names)), s->instance,
		   SPAN_FMT(s->o->selector), (long long)s->o->now);
	if (b->failed || names.failed)
		return ERR_TOOBIG;

	struct sha256_stream *h = sha256_begin();
	canon_header(CANON_HASH(h), m, buf_span(&names), CANON_RELAXED, s->mem);
	canon_field(CANON_HASH(h), buf_span(b), CANON_RELAXED, SPAN_NULL, true);
	sha256_end(h, digest);
	return finish(s, digest, at, b);
}

static int put_seal(const struct sealer *s, struct arc_chain *c, struct buf *b)
{
	bool failed = strcmp(s->cv, "fail") == 0;
	uint8_t digest[32];
	size_t at;

	buf_printf(b, "ARC-Seal: a=%s;\r\n\tb=", algorithm(s));
	at = b->n;
	buf_printf(b, "; cv=%s; d=%.*s; i=%u;\r\n\ts=%.*s; t=%lld", s->cv, SPAN_FMT(s->o->domain),
		   s->instance, SPAN_FMT(s->o->selector), (long long)s->o->now);
	if (b->failed)
		return ERR_TOOBIG;
	struct sha256_stream *h = sha256_begin();
	/* A broken chain's seal covers its own set only (5.1.2). */
	arc_hash_seal(h, c, failed ? s->instance : 1, s->instance, buf_span(b), SPAN_NULL);
	sha256_end(h, digest);
	return finish(s, digest, at, b);
}

/* The message as its signature sees it: with the new results on top. */
static int with_results(const struct sealer *s, span text, span results, struct buf *b,
			struct message *ret)
{
	size_t header = header_size(text);

	buf_put_span(b, results);
	buf_put_str(b, "\r\n");
	buf_put_span(b, span_sub(text, 0, header));
	int e = b->failed ? ERR_TOOBIG : message_parse(buf_span(b), s->mem, ret);
	if (e == 0)
		ret->body = span_from(text, header);
	return e;
}

static int seal(const struct sealer *s, span text, const struct message *m, struct buf *b)
{
	_cleanup_(buf_donep) struct buf results = BUF_INIT(FIELD_MAX), ams = BUF_INIT(FIELD_MAX),
					as = BUF_INIT(FIELD_MAX),
					header = BUF_INIT(MESSAGE_HEADER_MAX + FIELD_MAX + 4);
	struct message_field field[2] = { 0 };
	struct message with;
	struct arc_chain c;
	int e;

	put_results(s, m, &results);
	e = results.failed ? ERR_TOOBIG : with_results(s, text, buf_span(&results), &header, &with);
	if (e == 0)
		e = put_message_signature(s, &with, &ams);
	if (e < 0)
		return e;
	arc_collect(m, &c); /* faults were the verdict's business */
	field[0].raw = buf_span(&results);
	field[1].raw = buf_span(&ams);
	c.set[s->instance].field[ARC_RESULTS] = &field[0];
	c.set[s->instance].field[ARC_MESSAGE] = &field[1];
	e = put_seal(s, &c, &as);
	if (e < 0)
		return e;
	buf_put_span(b, buf_span(&as));
	buf_put_str(b, "\r\n");
	buf_put_span(b, buf_span(&ams));
	buf_put_str(b, "\r\n");
	buf_put_span(b, buf_span(&results));
	return buf_put_str(b, "\r\n");
}

int arc_seal(span text, const struct arc_verdict *v, const struct arc_seal_options *o,
	     struct arena *mem, struct buf *b)
{
	struct sealer s = { .o = o, .mem = mem, .instance = v->instance + 1 };
	struct message m;
	int e;

	if (v->instance >= ARC_SETS_MAX)
		return ERR_TOOBIG;
	if (v->ended)
		return ERR_PERM;
	if (!trust_name_valid(o->domain) || !trust_name_valid(o->selector) || !o->authserv_id.n)
		return ERR_INVAL;
	s.cv = v->result == TRUST_NONE ? "none" : v->result == TRUST_PASS ? "pass" : "fail";
	e = message_parse(text, mem, &m);
	return e < 0 ? e : seal(&s, text, &m, b);
}
