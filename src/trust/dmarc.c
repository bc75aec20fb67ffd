/* Tree walk, alignment and policy (RFC 9989 4.10, 5.3). */
#include "trust/dmarc.h"

#include "format/address.h"
#include "format/idn.h"
#include "trust/ascii.h"

#define WALK_MAX 8 /* questions of one walk, RFC 9989 4.10 */

/* ------------------------------------------------------------------ the author */

static bool is_host_name(span s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!ascii_alpha(c) && !ascii_digit(c) && c != '-' && c != '_' && c != '.')
			return false;
	}
	return trust_name_valid(s);
}

/* Behind the quoted string or comment that begins at AT (which parsed, so it ends). */
static size_t skip_nested(span s, size_t at)
{
	char open = s.p[at], close = open == '(' ? ')' : '"';
	unsigned depth = 1;

	for (at++; at < s.n && depth; at++) {
		if (s.p[at] == '\\')
			at++;
		else if (s.p[at] == close)
			depth--;
		else if (s.p[at] == open)
			depth++;
	}
	return at;
}

/* Does every "@" outside of quotes and comments stand before DOMAIN?  "a@x.test <b@y.test>" is read
 * by programs in both ways, though its display name is no valid phrase. */
static bool names_only(span value, span domain)
{
	for (size_t at = 0; at < value.n;) {
		char c = value.p[at];
		if (c == '"' || c == '(') {
			at = skip_nested(value, at);
			continue;
		}
		at++;
		if (c != '@')
			continue;
		size_t end = at;
		while (end < value.n && !strchr(" \t\r\n()<>,;:\"@", value.p[end]))
			end++;
		if (end > at && !span_ieq(name_undot(span_sub(value, at, end - at)), domain))
			return false;
	}
	return true;
}

int dmarc_author(const struct message *m, struct arena *mem, span *ret, const char **ret_reason)
{
	struct mailbox_address list[2];
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1024);
	uint32_t at = message_find(m, "From", 0);
	size_t bad = 0, n;

	if (at == MESSAGE_NO_FIELD) {
		*ret_reason = "there is no From field";
		return ERR_SYNTAX;
	}
	if (message_find(m, "From", at + 1) != MESSAGE_NO_FIELD) {
		*ret_reason = "there is more than one From field";
		return ERR_SYNTAX;
	}
	n = address_list_parse(m->field[at].value, mem, list, ARRAY_LEN(list), &bad);
	if (n == 0 || bad || memchr(m->field[at].value.p, 0, m->field[at].value.n)) {
		*ret_reason = "From does not parse";
		return ERR_SYNTAX;
	}
	if (n > 1 || list[0].kind != MAILBOX_ADDR) {
		*ret_reason = "From has more than one address, or a group";
		return ERR_SYNTAX;
	}
	if (!names_only(m->field[at].value, name_undot(list[0].domain))) {
		*ret_reason = "From names more than one domain";
		return ERR_SYNTAX;
	}
	if (!list[0].domain.n || idn_to_ascii(&b, name_undot(list[0].domain)) < 0 ||
	    !is_host_name(buf_span(&b))) {
		*ret_reason = "From has no valid domain";
		return ERR_SYNTAX;
	}
	*ret = ascii_lower(buf_span(&b), mem);
	return 0;
}

/* ------------------------------------------------------------------ the tree walk */

struct walk {
	size_t n; /* names, the longest first */
	span name[WALK_MAX];
	bool found[WALK_MAX];
	struct dmarc_record record[WALK_MAX];
	span organizational;
};

static size_t count_labels(span name)
{
	size_t n = 1;

	for (size_t i = 0; i < name.n; i++)
		n += name.p[i] == '.';
	return n;
}

/* The names to ask: all of them, but of a long one only itself and its last seven labels. */
static void walk_names(struct walk *w, span domain)
{
	size_t labels = count_labels(domain);

	w->name[w->n++] = domain;
	for (; labels > WALK_MAX; labels--)
		span_cut(&domain, '.');
	for (; labels > 1; labels--) {
		span_cut(&domain, '.');
		w->name[w->n++] = domain;
	}
}

/* The one DMARC record of an answer; several are none. */
static bool take_record(const struct dns_answer *a, struct dmarc_record *ret)
{
	size_t found = 0;

	for (size_t i = 0; i < a->n; i++)
		found += dmarc_parse(a->records[i].text, ret) == 0;
	return found == 1;
}

/* The part of START that has one label more than NAME. */
static span one_below(span start, span name)
{
	size_t want = count_labels(name) + 1;

	for (size_t n = count_labels(start); n > want; n--)
		span_cut(&start, '.');
	return start;
}

/* RFC 9989 4.10.2. */
static void choose_organizational(struct walk *w)
{
	w->organizational = w->name[0];
	for (size_t i = 0; i < w->n; i++) {
		if (!w->found[i])
			continue;
		if (w->record[i].psd == 'y' && i > 0) {
			w->organizational = one_below(w->name[0], w->name[i]);
			return;
		}
		w->organizational = w->name[i];
		if (w->record[i].psd == 'n')
			return;
	}
}

/* 0, ERR_AGAIN, or ERR_DNS. */
static int walk(span domain, const struct trust_lookup *l, struct arena *mem, struct walk *w)
{
	const struct dns_answer *a[WALK_MAX];
	bool pending = false;

	*w = (struct walk){ 0 };
	walk_names(w, domain);
	for (size_t i = 0; i < w->n; i++) {
		char *name = arena_printf(mem, "_dmarc.%.*s", SPAN_FMT(w->name[i]));
		a[i] = trust_ask(l, mem, span_str(name), DNS_TXT);
		pending = pending || !a[i];
	}
	if (pending)
		return ERR_AGAIN;
	for (size_t i = 0; i < w->n; i++) {
		if (trust_answer_failed(a[i]))
			return ERR_DNS;
		w->found[i] = take_record(a[i], &w->record[i]);
		if (w->found[i] && w->record[i].psd != 'u')
			break;
	}
	choose_organizational(w);
	return 0;
}

/* Where the policy comes from (RFC 9989 4.10.1): the domain, its organisational domain, its public
 * suffix.  WALK_MAX: nowhere. */
static size_t policy_source(const struct walk *w)
{
	size_t suffix = WALK_MAX;

	if (w->found[0])
		return 0;
	for (size_t i = 1; i < w->n; i++) {
		if (w->found[i] && span_eq(w->name[i], w->organizational))
			return i;
		if (w->found[i] && w->record[i].psd == 'y')
			suffix = i;
	}
	return suffix;
}

/* ------------------------------------------------------------------ alignment */

/* 1: aligned; 0: not; or negative as walk(). */
static int aligned(const struct walk *author, span domain, bool strict,
		   const struct trust_lookup *l, struct arena *mem)
{
	struct walk w;
	int e;

	domain = ascii_lower(name_undot(domain), mem);
	if (span_eq(domain, author->name[0]))
		return 1;
	if (strict || !trust_name_valid(domain))
		return 0;
	e = walk(domain, l, mem, &w);
	return e < 0 ? e : span_eq(w.organizational, author->organizational);
}

/* All identifiers are asked about before one is judged, so that few rounds are needed. */
struct alignment {
	bool pending, failed;
};

static bool try_align(struct alignment *x, const struct walk *author, span domain, bool strict,
		      const struct trust_lookup *l, struct arena *mem)
{
	int e = aligned(author, domain, strict, l, mem);

	x->pending = x->pending || e == ERR_AGAIN;
	x->failed = x->failed || e == ERR_DNS;
	return e == 1;
}

static struct alignment align(const struct walk *author, const struct spf_verdict *spf,
			      const struct dkim_verdict *dkim, const struct trust_lookup *l,
			      struct arena *mem, struct dmarc_verdict *v)
{
	struct alignment x = { 0 };

	for (size_t i = 0; dkim && i < dkim->n; i++) {
		const struct dkim_signature *s = &dkim->signature[i];
		if (!dkim_counts(s) ||
		    !try_align(&x, author, s->domain, v->record.strict_dkim, l, mem))
			continue;
		if (!v->dkim_aligned)
			v->aligned_domain = s->domain;
		v->dkim_aligned = true;
	}
	if (spf && spf->result == TRUST_PASS &&
	    try_align(&x, author, spf->domain, v->record.strict_spf, l, mem)) {
		v->spf_aligned = true;
		if (!v->dkim_aligned)
			v->aligned_domain = spf->domain;
	}
	return x;
}

/* ------------------------------------------------------------------ the verdict */

static enum dmarc_policy one_level_down(enum dmarc_policy p)
{
	return p == DMARC_REJECT ? DMARC_QUARANTINE : DMARC_NONE;
}

/* p=, sp= or np= (RFC 9989 4.10.1), one level down while testing (4.7).  0 or ERR_AGAIN. */
static int choose_policy(const struct walk *w, size_t source, const struct trust_lookup *l,
			 struct arena *mem, struct dmarc_verdict *v)
{
	const struct dmarc_record *r = &w->record[source];

	v->policy = source == 0 ? r->p : r->sp;
	if (source != 0 && r->np != r->sp) {
		/* A domain that does not exist: NXDOMAIN, in the sense of RFC 8020. */
		const struct dns_answer *a = trust_ask(l, mem, v->author, DNS_A);
		if (!a)
			return ERR_AGAIN;
		if (a->status == DNS_NXDOMAIN)
			v->policy = r->np;
	}
	if (r->testing)
		v->policy = one_level_down(v->policy);
	return 0;
}

/* Could an identifier still pass once its look-up works? */
static bool may_pass_later(const struct spf_verdict *spf, const struct dkim_verdict *dkim)
{
	bool later = spf && spf->result == TRUST_TEMPERROR;

	for (size_t i = 0; dkim && i < dkim->n; i++)
		later = later || dkim->signature[i].result == TRUST_TEMPERROR;
	return later;
}

static void settle(struct dmarc_verdict *v, enum trust_result r, const char *reason)
{
	v->result = r;
	v->reason = reason;
}

static void judge(struct dmarc_verdict *v, bool failed, bool later)
{
	if (v->spf_aligned || v->dkim_aligned)
		settle(v, TRUST_PASS,
		       v->dkim_aligned ? "an aligned DKIM signature" : "SPF passes and is aligned");
	else if (failed || later)
		settle(v, TRUST_TEMPERROR, "no pass, and a DNS look-up failed");
	else
		settle(v, TRUST_FAIL, "neither SPF nor DKIM passes for a domain of the author's");
}

int dmarc_check(const struct message *m, const struct spf_verdict *spf,
		const struct dkim_verdict *dkim, const struct trust_lookup *l, struct arena *mem,
		struct dmarc_verdict *ret)
{
	struct dmarc_verdict v = { .result = TRUST_PERMERROR };
	struct alignment x;
	struct walk w;
	size_t source;
	int e = 0;

	if (dmarc_author(m, mem, &v.author, &v.reason) < 0)
		goto out;
	e = walk(v.author, l, mem, &w);
	if (e == ERR_AGAIN)
		return e;
	if (e < 0) {
		e = 0;
		settle(&v, TRUST_TEMPERROR, "DNS look-up of the DMARC record failed");
		goto out;
	}
	v.organizational = w.organizational;
	source = policy_source(&w);
	if (source == WALK_MAX || w.record[source].void_policy) {
		settle(&v, TRUST_NONE, "no DMARC record");
		goto out;
	}
	v.record = w.record[source];
	v.record_domain = w.name[source];
	e = choose_policy(&w, source, l, mem, &v);
	x = align(&w, spf, dkim, l, mem, &v);
	if (e < 0 || x.pending)
		return ERR_AGAIN;
	judge(&v, x.failed, may_pass_later(spf, dkim));
out:
	*ret = v;
	return e;
}
