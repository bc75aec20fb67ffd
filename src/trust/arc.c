/* Validation of a chain (RFC 8617 5.2). */
#include "trust/arc_int.h"

#include "trust/ascii.h"
#include "trust/authres.h"

static const char *const part_names[ARC_PARTS] = {
	[ARC_RESULTS] = "ARC-Authentication-Results",
	[ARC_MESSAGE] = "ARC-Message-Signature",
	[ARC_SEALED] = "ARC-Seal",
};

/* "i=N;" begins the results (RFC 8617 4.1.1); elsewhere it is a tag among others. */
static unsigned instance_of(const struct message_field *f, enum arc_part part)
{
	struct tags t;
	span text;
	uint64_t v;

	if (part == ARC_RESULTS) {
		span rest = f->value, head = span_cut(&rest, ';');
		if (!rest.p || !span_eq_str(span_trim(span_cut(&head, '=')), "i"))
			return 0;
		text = span_trim(head);
	} else {
		if (tags_parse(f->value, &t) < 0)
			return 0;
		text = tags_value(&t, "i");
	}
	return span_u64(text, 1000, &v) ? (unsigned)v : 0;
}

static int part_of(const struct message_field *f)
{
	for (int part = 0; part < ARC_PARTS; part++) {
		if (span_ieq_str(f->name, part_names[part]))
			return part;
	}
	return -1;
}

const char *arc_collect(const struct message *m, struct arc_chain *ret)
{
	const char *why = NULL;

	*ret = (struct arc_chain){ 0 };
	for (uint32_t at = 0; at < m->n; at++) {
		const struct message_field *f = &m->field[at];
		int part = part_of(f);
		if (part < 0)
			continue;
		unsigned i = instance_of(f, (enum arc_part)part);
		if (i == 0) {
			why = "a field has no valid instance";
		} else if (i > ARC_SETS_MAX) {
			why = "more than 50 sets";
		} else if (ret->set[i].field[part]) {
			why = "a field occurs twice in a set";
		} else {
			ret->set[i].field[part] = f;
			ret->n = MAX(ret->n, i);
		}
		if (!ret->n)
			ret->n = 1; /* something is there, so it is not "none" */
	}
	return why;
}

/* All three of each, each seal says of its forerunners what it must, and reads well. */
static const char *check_structure(const struct arc_chain *c, struct dkim_fields *seal,
				   struct arena *mem)
{
	const char *why;

	for (unsigned i = 1; i <= c->n; i++) {
		for (int part = 0; part < ARC_PARTS; part++) {
			if (!c->set[i].field[part])
				return "a set is not complete";
		}
		if (dkim_fields_parse(c->set[i].field[ARC_SEALED], ARC_SEAL, mem, &seal[i], &why) <
		    0)
			return why;
		if (!span_eq_str(seal[i].cv, i == 1 ? "none" : "pass"))
			return "a seal has the wrong cv=";
	}
	return NULL;
}

void arc_hash_seal(struct sha256_stream *s, const struct arc_chain *c, unsigned from, unsigned n,
		   span seal, span b_raw)
{
	for (unsigned i = from; i <= n; i++) {
		const struct arc_set *set = &c->set[i];
		canon_field(CANON_HASH(s), set->field[ARC_RESULTS]->raw, CANON_RELAXED, SPAN_NULL, false);
		canon_field(CANON_HASH(s), set->field[ARC_MESSAGE]->raw, CANON_RELAXED, SPAN_NULL, false);
		if (i < n)
			canon_field(CANON_HASH(s), set->field[ARC_SEALED]->raw, CANON_RELAXED, SPAN_NULL,
				    false);
	}
	canon_field(CANON_HASH(s), seal, CANON_RELAXED, b_raw, true);
}

static const char *check_seal(const struct arc_chain *c, unsigned n, const struct dkim_fields *f,
			      const struct dns_answer *a, struct arena *mem)
{
	uint8_t digest[32];
	struct dkim_key k;
	const char *why;

	if (dkim_key_take(a, f, mem, &k, &why) != TRUST_PASS)
		return why;
	struct sha256_stream *s = sha256_begin();
	arc_hash_seal(s, c, 1, n, f->field->raw, f->b_raw);
	sha256_end(s, digest);
	if (verify_digest(k.key, digest, f->signature) < 0)
		why = "a seal does not fit";
	else
		why = NULL;
	verify_key_free(k.key);
	return why;
}

static const char *check_message(const struct message *m, const struct dkim_fields *f,
				 const struct dns_answer *a, struct arena *mem)
{
	struct dkim_key k;
	const char *why;
	uint64_t length;
	enum trust_result r = dkim_key_take(a, f, mem, &k, &why);

	if (r == TRUST_PASS)
		r = dkim_fields_check(f, m, &k, mem, &why, &length);
	verify_key_free(k.key);
	return r == TRUST_PASS ? NULL : why;
}

/* The chain's signatures, the cheap questions first.  0 or ERR_AGAIN. */
static int check_signatures(const struct message *m, const struct arc_chain *c,
			    const struct dkim_fields *ams, const struct dkim_fields *seal,
			    const struct trust_lookup *l, struct arena *mem, const char **ret_why)
{
	const struct dns_answer *of_ams = dkim_key_ask(ams, l, mem), *of_seal[ARC_SETS_MAX + 1];
	bool pending = !of_ams;

	for (unsigned i = 1; i <= c->n; i++) {
		of_seal[i] = dkim_key_ask(&seal[i], l, mem);
		pending = pending || !of_seal[i];
	}
	if (pending)
		return ERR_AGAIN;
	*ret_why = check_message(m, ams, of_ams, mem);
	for (unsigned i = c->n; i >= 1 && !*ret_why; i--)
		*ret_why = check_seal(c, i, &seal[i], of_seal[i], mem);
	return 0;
}

static bool says_fail(const struct message_field *seal)
{
	struct tags t;

	return seal && tags_parse(seal->value, &t) == 0 &&
	       span_eq_str(tags_value(&t, "cv"), "fail");
}

/* Behind "i=N;" the field reads as Authentication-Results do (RFC 8617 4.1.1). */
static bool says_dmarc_pass(const struct message_field *results, struct arena *mem)
{
	struct authres_item *item = arena_array(mem, struct authres_item, AUTHRES_MAX);
	span rest = results->value, id;
	size_t n = 0;

	span_cut(&rest, ';');
	if (authres_parse(rest, mem, &id, item, &n) < 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (span_ieq_str(item[i].method, "dmarc"))
			return span_ieq_str(item[i].result, "pass");
	return false;
}

int arc_verify(const struct message *m, const struct trust_lookup *l, struct arena *mem,
	       struct arc_verdict *ret)
{
	struct dkim_fields *seal = arena_array(mem, struct dkim_fields, ARC_SETS_MAX + 1), ams;
	struct arc_chain c;
	const char *why = arc_collect(m, &c);
	struct arc_verdict v = { .result = TRUST_NONE, .reason = "no ARC set", .instance = c.n };

	if (!c.n) {
		*ret = v;
		return 0;
	}
	v.result = TRUST_FAIL;
	v.ended = says_fail(c.set[c.n].field[ARC_SEALED]);
	if (v.ended)
		why = "the newest seal says that the chain is broken";
	if (!why)
		why = check_structure(&c, seal, mem);
	if (!why) {
		v.domain = seal[c.n].domain;
		v.selector = seal[c.n].selector;
		dkim_fields_parse(c.set[c.n].field[ARC_MESSAGE], ARC_SIGNATURE, mem, &ams, &why);
	}
	if (!why && check_signatures(m, &c, &ams, seal, l, mem, &why) < 0)
		return ERR_AGAIN;
	if (!why)
		v.result = TRUST_PASS;
	v.authentic = !why && says_dmarc_pass(c.set[c.n].field[ARC_RESULTS], mem);
	v.reason = why ? why : "all seals are good";
	*ret = v;
	return 0;
}
