/* Signature fields (RFC 6376 3.5, RFC 8617 4.1).  Pure. */
#include "format/idn.h"
#include "trust/ascii.h"
#include "trust/dkim_int.h"

#define SIGNATURE_MAX 1024 /* bytes; RSA of 4096 bits makes 512 */
#define TIME_MAX      999999999999ull

/* A name of letters, digits, "-" and "_"; U-labels become A-labels (RFC 8616 3). */
static bool take_name(span value, struct arena *mem, span *ret)
{
	bool ascii = true;

	for (size_t i = 0; i < value.n; i++) {
		char c = value.p[i];
		if ((unsigned char)c >= 0x80)
			ascii = false;
		else if (!ascii_alpha(c) && !ascii_digit(c) && c != '-' && c != '_' && c != '.')
			return false;
	}
	if (!ascii) {
		_cleanup_(buf_donep) struct buf b = BUF_INIT(1024);
		if (idn_to_ascii(&b, value) < 0)
			return false;
		value = arena_span(mem, buf_span(&b));
	}
	*ret = value;
	return trust_name_valid(value);
}

/* c= is "header/body"; the body's half is simple if left out. */
static bool take_canon(span value, struct dkim_fields *f)
{
	span half[2];
	enum canon *to[2] = { &f->header, &f->body };

	half[0] = span_cut(&value, '/');
	half[1] = value.p ? value : SPAN("simple");
	for (int i = 0; i < 2; i++) {
		if (span_eq_str(half[i], "relaxed"))
			*to[i] = CANON_RELAXED;
		else if (span_eq_str(half[i], "simple"))
			*to[i] = CANON_SIMPLE;
		else
			return false;
	}
	return true;
}

static bool take_algorithm(span value, struct dkim_fields *f)
{
	f->algorithm = value;
	f->rsa = span_eq_str(value, "rsa-sha256");
	return f->rsa || span_eq_str(value, "ed25519-sha256");
}

static bool take_number(span value, uint64_t max, uint64_t *ret)
{
	return !value.p || span_u64(value, max, ret);
}

/* [ local ] "@" domain, which is d= or below it. */
static bool take_identity(span value, struct arena *mem, struct dkim_fields *f)
{
	size_t at = span_rfind(value, '@');
	span name;

	if (!value.p) {
		f->identity = span_str(arena_printf(mem, "@%.*s", SPAN_FMT(f->domain)));
		return true;
	}
	f->identity = value;
	return at != SPAN_NPOS && take_name(span_from(value, at + 1), mem, &name) &&
	       name_within(name, f->domain);
}

static bool too_many_names(span list)
{
	size_t n = 1;

	for (size_t i = 0; i < list.n; i++)
		n += list.p[i] == ':';
	return n > DKIM_HEADERS_MAX;
}

static bool is_instance(span value, unsigned *ret)
{
	uint64_t v;

	if (!span_u64(value, 999, &v) || v == 0)
		return false;
	*ret = (unsigned)v;
	return true;
}

/* The tags of all three kinds of field. */
static const char *take_common(const struct tags *t, enum dkim_flavour flavour, struct arena *mem,
			       struct dkim_fields *f)
{
	const struct tag *b = tags_find(t, "b");

	if (flavour != DKIM_FIELD && !is_instance(tags_value(t, "i"), &f->instance))
		return "no valid instance";
	if (!take_name(tags_value(t, "d"), mem, &f->domain))
		return "no valid domain (d=)";
	if (!take_name(tags_value(t, "s"), mem, &f->selector))
		return "no valid selector (s=)";
	if (!b || !b->value.n)
		return "no signature (b=)";
	f->b_raw = b->raw;
	f->b = tags_compact(b->value, mem);
	if (!tags_find(t, "a"))
		return "no algorithm (a=)";
	if (!take_algorithm(tags_value(t, "a"), f))
		return span_ieq_str(f->algorithm, "rsa-sha1")
			       ? "rsa-sha1 must not be trusted (RFC 8301)"
			       : "unknown algorithm (a=)";
	if (tags_base64(b->value, SIGNATURE_MAX, mem, &f->signature) < 0)
		return "the signature (b=) is not base64";
	if (!take_number(tags_value(t, "t"), TIME_MAX, &f->signed_at))
		return "bad time (t=)";
	return NULL;
}

/* What names the signed bytes: DKIM-Signature and ARC-Message-Signature. */
static const char *take_coverage(const struct tags *t, enum dkim_flavour flavour, struct arena *mem,
				 struct dkim_fields *f)
{
	span l = tags_value(t, "l"), q = tags_value(t, "q");

	if (!tags_find(t, "bh") || tags_base64(tags_value(t, "bh"), 64, mem, &f->body_hash) < 0 ||
	    f->body_hash.n != 32)
		return "no valid body hash (bh=)";
	if (!tags_find(t, "h"))
		return "no list of fields (h=)";
	f->headers = tags_value(t, "h");
	if (too_many_names(f->headers))
		return "too many fields (h=)";
	/* RFC 8617 4.1.2 takes DKIM's default over, which is simple; who seals without c=, the
	 * suite of test vectors included, means relaxed, as in all of the RFC's examples. */
	if (flavour == ARC_SIGNATURE)
		f->header = f->body = CANON_RELAXED;
	if (tags_find(t, "c") && !take_canon(tags_value(t, "c"), f))
		return "unknown canonicalisation (c=)";
	f->partial = l.p != NULL;
	if (!take_number(l, CANON_NO_LIMIT - 1, &f->length))
		return "bad body length (l=)";
	if (q.p && !tags_list_has(q, "dns/txt"))
		return "unknown way to the key (q=)";
	if (!take_number(tags_value(t, "x"), TIME_MAX, &f->expires))
		return "bad expiry (x=)";
	if (f->expires && f->signed_at && f->expires <= f->signed_at)
		return "it expires before it was made";
	return NULL;
}

static const char *take_all(span value, enum dkim_flavour flavour, struct arena *mem,
			    struct dkim_fields *f)
{
	struct tags t;
	const char *why;

	if (tags_parse(value, &t) < 0)
		return "not a list of tags";
	if (flavour == DKIM_FIELD && !span_eq_str(tags_value(&t, "v"), "1"))
		return "unknown version (v=)";
	why = take_common(&t, flavour, mem, f);
	if (why)
		return why;
	if (flavour == ARC_SEAL) {
		f->cv = tags_value(&t, "cv");
		f->header = CANON_RELAXED;
		return tags_find(&t, "h") ? "a seal must not list fields (h=)" : NULL;
	}
	why = take_coverage(&t, flavour, mem, f);
	if (why)
		return why;
	if (flavour == ARC_SIGNATURE)
		return tags_list_has(f->headers, "arc-seal") ? "seals must not be listed (h=)"
							     : NULL;
	if (!tags_list_has(f->headers, "from"))
		return "From is not signed";
	return take_identity(tags_value(&t, "i"), mem, f) ? NULL : "i= is not within d=";
}

int dkim_fields_parse(const struct message_field *field, enum dkim_flavour flavour,
		      struct arena *mem, struct dkim_fields *ret, const char **ret_reason)
{
	*ret = (struct dkim_fields){ .field = field };
	const char *why = take_all(field->value, flavour, mem, ret);

	if (!why)
		return 0;
	*ret_reason = why;
	return ERR_SYNTAX;
}
