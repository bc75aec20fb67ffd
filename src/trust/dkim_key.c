/* Key records (RFC 6376 3.6, RFC 8463 4). */
#include "base/codec.h"
#include "trust/dkim_int.h"

#define KEY_MAX 2048 /* bytes of p= */

const struct dns_answer *dkim_key_ask(const struct dkim_fields *f, const struct trust_lookup *l,
				      struct arena *mem)
{
	char *name = arena_printf(mem, "%.*s._domainkey.%.*s", SPAN_FMT(f->selector),
				  SPAN_FMT(f->domain));

	return trust_ask(l, mem, span_str(name), DNS_TXT);
}

/* A tag that narrows what the key is for: absent, or its list has one of the two words. */
static bool allows(const struct tags *t, const char *tag, const char *one, const char *other)
{
	span list = tags_value(t, tag);

	return !list.p || tags_list_has(list, one) || (other && tags_list_has(list, other));
}

static const char *take_public(span p, bool rsa, struct arena *mem, struct dkim_key *k)
{
	span raw;

	if (tags_base64(p, KEY_MAX, mem, &raw) < 0)
		return "the key is not base64";
	if (!rsa)
		return verify_key_ed25519(raw, &k->key) < 0 ? "the key is no Ed25519 key" : NULL;
	switch (verify_key_rsa(raw, &k->key, &k->bits)) {
	case 0:
		return NULL;
	case ERR_UNSUPPORTED:
		return k->bits < SIGN_RSA_MIN	? "the key is too short (RFC 8301)"
		       : k->bits > SIGN_RSA_MAX ? "the key is too long"
						: "the key has an unsafe exponent";
	default:
		return "the key is no RSA key";
	}
}

static const char *take_record(span text, const struct dkim_fields *f, struct arena *mem,
			       struct dkim_key *k)
{
	struct tags t;
	const struct tag *v, *p;
	span type;

	if (tags_parse(text, &t) < 0)
		return "the key record is not a list of tags";
	v = tags_find(&t, "v");
	if (v && (v != t.tag || !span_eq_str(v->value, "DKIM1")))
		return "the key record has an unknown version";
	p = tags_find(&t, "p");
	if (!p)
		return "the key record has no key";
	if (!p->value.n)
		return "the key is revoked";
	type = tags_value(&t, "k");
	if (!span_eq_str(type.p ? type : SPAN("rsa"), f->rsa ? "rsa" : "ed25519"))
		return "the key is of another type than the signature";
	if (!allows(&t, "h", "sha256", NULL))
		return "the key does not allow sha256";
	if (!allows(&t, "s", "email", "*"))
		return "the key is not for mail";
	k->testing = tags_list_has(tags_value(&t, "t"), "y");
	k->strict = tags_list_has(tags_value(&t, "t"), "s");
	return take_public(p->value, f->rsa, mem, k);
}

enum trust_result dkim_key_take(const struct dns_answer *a, const struct dkim_fields *f,
				struct arena *mem, struct dkim_key *ret, const char **ret_reason)
{
	*ret = (struct dkim_key){ 0 };
	if (trust_answer_failed(a)) {
		*ret_reason = "DNS look-up of the key failed";
		return TRUST_TEMPERROR;
	}
	*ret_reason = "there is no key in DNS";
	/* Several records are undefined (RFC 6376 3.6.2.2): the first that is a key is the key. */
	for (size_t i = 0; i < MIN(a->n, 4); i++) {
		*ret_reason = take_record(a->records[i].text, f, mem, ret);
		if (!*ret_reason)
			return TRUST_PASS;
	}
	return TRUST_PERMERROR;
}

/* ------------------------------------------------------------------ of ours */

int dkim_record_put(struct buf *b, enum sign_type type, span public)
{
	buf_printf(b, "v=DKIM1; k=%s; p=", type == SIGN_ED25519 ? "ed25519" : "rsa");
	return base64_encode(b, public);
}

/* Some publish the key itself where RFC 6376 3.6.1 wants SubjectPublicKeyInfo; ours must be as we said. */
static const char *record_differs(span text, bool rsa, span public, struct arena *mem)
{
	struct dkim_fields f = { .rsa = rsa };
	struct dkim_key k = { 0 };
	const char *why = take_record(text, &f, mem, &k);
	struct tags t;
	span raw;

	verify_key_free(k.key);
	if (why)
		return why;
	if (tags_parse(text, &t) < 0 || tags_base64(tags_value(&t, "p"), KEY_MAX, mem, &raw) < 0 ||
	    !span_eq(raw, public))
		return "DNS has another key there";
	return NULL;
}

const char *dkim_record_differs(const struct dns_answer *a, enum sign_type type, span public,
				struct arena *mem, bool *ret_temporary)
{
	const char *why = "DNS has no such record";

	*ret_temporary = trust_answer_failed(a);
	if (*ret_temporary)
		return "DNS does not answer now";
	if (a->n > 1)
		return "DNS has several records there";
	if (a->n)
		why = record_differs(a->records[0].text, type == SIGN_RSA, public, mem);
	return why;
}
