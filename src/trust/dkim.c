/* Verification (RFC 6376 6). */
#include "trust/ascii.h"
#include "trust/dkim_int.h"

enum trust_result dkim_fields_check(const struct dkim_fields *f, const struct message *m,
				    const struct dkim_key *k, struct arena *mem,
				    const char **ret_reason, uint64_t *ret_body)
{
	uint8_t hash[32];
	struct sha256_stream *s;

	canon_body(m->body, f->body, f->partial ? f->length : CANON_NO_LIMIT, hash, ret_body);
	if (f->partial && f->length > *ret_body) {
		*ret_reason = "l= is more than the body has";
		return TRUST_FAIL;
	}
	if (memcmp(hash, f->body_hash.p, sizeof(hash)) != 0) {
		*ret_reason = "the body was changed";
		return TRUST_FAIL;
	}
	s = sha256_begin();
	canon_header(CANON_HASH(s), m, f->headers, f->header, mem);
	canon_field(CANON_HASH(s), f->field->raw, f->header, f->b_raw, true);
	sha256_end(s, hash);
	if (verify_digest(k->key, hash, f->signature) < 0) {
		*ret_reason =
			"the signature does not fit: header fields were changed, or another key "
			"was used";
		return TRUST_FAIL;
	}
	*ret_reason = "good signature";
	return TRUST_PASS;
}

/* i= behind its "@". */
static span identity_domain(const struct dkim_fields *f)
{
	return span_from(f->identity, span_rfind(f->identity, '@') + 1);
}

static void check_one(const struct dkim_fields *f, const struct dns_answer *a,
		      const struct message *m, int64_t now, struct arena *mem,
		      struct dkim_signature *ret)
{
	struct dkim_key key;

	ret->result = dkim_key_take(a, f, mem, &key, &ret->reason);
	ret->key_bits = key.bits;
	ret->testing = key.testing;
	ret->future = f->signed_at && (int64_t)f->signed_at > now + DKIM_SKEW;
	if (ret->result == TRUST_PASS && key.strict && !span_ieq(identity_domain(f), f->domain)) {
		ret->result = TRUST_PERMERROR;
		ret->reason = "i= is below d=, which the key forbids";
	}
	if (ret->result == TRUST_PASS)
		ret->result = dkim_fields_check(f, m, &key, mem, &ret->reason, &ret->body_length);
	if (ret->result == TRUST_PASS && f->expires && (int64_t)f->expires + DKIM_SKEW < now) {
		ret->result = TRUST_FAIL;
		ret->reason = "the signature has expired";
	}
	verify_key_free(key.key);
}

/* Which of two results says more about the message. */
static int rank(enum trust_result r)
{
	switch (r) {
	case TRUST_PASS:
		return 4;
	case TRUST_TEMPERROR:
		return 3;
	case TRUST_FAIL:
		return 2;
	case TRUST_PERMERROR:
		return 1;
	default:
		return 0;
	}
}

static void describe(const struct dkim_fields *f, struct dkim_signature *ret)
{
	ret->domain = f->domain;
	ret->selector = f->selector;
	ret->identity = f->identity;
	ret->algorithm = f->algorithm;
	ret->b = f->b;
	ret->partial = f->partial;
	ret->length = f->length;
}

int dkim_verify(const struct message *m, int64_t now, const struct trust_lookup *l,
		struct arena *mem, struct dkim_verdict *ret)
{
	struct dkim_verdict v = { .result = TRUST_NONE };
	struct dkim_fields *f = arena_array(mem, struct dkim_fields, DKIM_SIGNATURES_MAX);
	const struct dns_answer *answer[DKIM_SIGNATURES_MAX] = { NULL };
	bool pending = false;

	for (uint32_t at = 0; (at = message_find(m, "DKIM-Signature", at)) != MESSAGE_NO_FIELD;
	     at++) {
		if (v.found++ >= DKIM_SIGNATURES_MAX)
			continue;
		struct dkim_signature *s = &v.signature[v.n];
		if (dkim_fields_parse(&m->field[at], DKIM_FIELD, mem, &f[v.n], &s->reason) < 0) {
			s->result = TRUST_PERMERROR;
		} else {
			answer[v.n] = dkim_key_ask(&f[v.n], l, mem);
			pending = pending || !answer[v.n];
		}
		describe(&f[v.n], s);
		v.n++;
	}
	if (pending)
		return ERR_AGAIN;
	for (size_t i = 0; i < v.n; i++) {
		if (answer[i])
			check_one(&f[i], answer[i], m, now, mem, &v.signature[i]);
		if (rank(v.signature[i].result) > rank(v.result))
			v.result = v.signature[i].result;
	}
	*ret = v;
	return 0;
}

bool dkim_counts(const struct dkim_signature *s)
{
	return s->result == TRUST_PASS && !s->partial;
}
