/* The parameters of MAIL and RCPT, one row each. */
#include "smtp/params.h"

#include "format/dsn.h"
#include "format/header.h"
#include "smtp/extensions.h"
#include "smtp/lex.h"

#define ENVID_MAX  100 /* RFC 3461 4.4 */
#define ORCPT_MAX  500 /* RFC 3461 4.2 */
#define PARAMS_MAX 16
#define TIME_MAX   999999999 /* seconds: nine digits (RFC 2852 section 4, RFC 4865 section 3) */

static const struct smtp_answer bad_param = { 501, "5.5.4", "Parameter not valid" },
				double_param = { 501, "5.5.4", "Parameter given twice" },
				unknown_param = { 555, "5.5.4", "Parameter not supported" },
				by_too_short = { 555, "5.5.4",
						 "BY is shorter than what DELIVERBY names" };

typedef const struct smtp_answer *param_fn(span value, struct arena *mem, struct smtp_command *c);

static const struct smtp_answer *param_size(span v, struct arena *mem, struct smtp_command *c)
{
	if (v.n > 20 ||
	    !span_u64(v, UINT64_MAX, &c->size)) /* RFC 1870 section 5: up to 20 digits */
		return &bad_param;
	c->has_size = true;
	return NULL;
}

static const struct smtp_answer *param_body(span v, struct arena *mem, struct smtp_command *c)
{
	c->body_binary = span_ieq_str(v, "BINARYMIME");
	c->body_8bit = span_ieq_str(v, "8BITMIME");
	return c->body_binary || c->body_8bit || span_ieq_str(v, "7BIT") ? NULL : &bad_param;
}

static const struct smtp_answer *param_smtputf8(span v, struct arena *mem, struct smtp_command *c)
{
	if (v.p)
		return &bad_param;
	c->smtputf8 = true;
	return NULL;
}

/* Who submitted it first (RFC 4954 section 5): we trust no such claim, so only its form counts. */
static const struct smtp_answer *param_auth(span v, struct arena *mem, struct smtp_command *c)
{
	_cleanup_(buf_donep) struct buf plain = BUF_INIT(SMTP_LINE_MAX);

	if (!v.n || (!span_eq_str(v, "<>") && xtext_decode(&plain, v) < 0))
		return &bad_param;
	return NULL;
}

static const struct smtp_answer *param_ret(span v, struct arena *mem, struct smtp_command *c)
{
	c->ret_full = span_ieq_str(v, "FULL");
	c->ret_hdrs = span_ieq_str(v, "HDRS");
	return c->ret_full || c->ret_hdrs ? NULL : &bad_param;
}

/* Only printable ASCII may come out of the xtext, since it is shown in reports. */
static const struct smtp_answer *param_envid(span v, struct arena *mem, struct smtp_command *c)
{
	_cleanup_(buf_donep) struct buf plain = BUF_INIT(ENVID_MAX);

	if (!v.n || xtext_decode(&plain, v) < 0)
		return &bad_param;
	for (size_t i = 0; i < plain.n; i++)
		if (plain.p[i] < 32 || plain.p[i] > 126)
			return &bad_param;
	c->envid = arena_span(mem, buf_span(&plain));
	return NULL;
}

static const struct smtp_answer *param_orcpt(span v, struct arena *mem, struct smtp_command *c)
{
	_cleanup_(buf_donep) struct buf plain = BUF_INIT(ORCPT_MAX);

	if (orcpt_decode(&plain, v) < 0)
		return &bad_param;
	c->original = arena_span(mem, buf_span(&plain));
	return NULL;
}

static const struct smtp_answer *param_notify(span v, struct arena *mem, struct smtp_command *c)
{
	static const struct {
		const char *name;
		unsigned bit;
	} words[] = { { "NEVER", SMTP_NOTIFY_NEVER },
		      { "SUCCESS", SMTP_NOTIFY_SUCCESS },
		      { "FAILURE", SMTP_NOTIFY_FAILURE },
		      { "DELAY", SMTP_NOTIFY_DELAY } };

	do {
		span word = span_cut(&v, ',');
		unsigned bit = 0;

		for (size_t i = 0; i < ARRAY_LEN(words); i++)
			if (span_ieq_str(word, words[i].name))
				bit = words[i].bit;
		if (!bit)
			return &bad_param;
		c->notify |= bit;
	} while (v.p);
	if ((c->notify & SMTP_NOTIFY_NEVER) && c->notify != SMTP_NOTIFY_NEVER)
		return &bad_param;
	return NULL;
}

static bool cut_sign(span *v)
{
	bool minus = v->n && v->p[0] == '-';

	if (minus || (v->n && v->p[0] == '+'))
		*v = span_from(*v, 1);
	return minus;
}

/* BY=[+-]seconds;R|N[T] (RFC 2852 section 4).  What is to come back if it is late needs some time. */
static const struct smtp_answer *param_by(span v, struct arena *mem, struct smtp_command *c)
{
	span seconds = span_cut(&v, ';');
	bool minus = cut_sign(&seconds);
	uint64_t n;

	if (seconds.n > 9 || !span_u64(seconds, TIME_MAX, &n))
		return &bad_param;
	c->by_trace = v.n == 2 && (v.p[1] | 0x20) == 't';
	c->by_return = v.n && (v.p[0] | 0x20) == 'r';
	if (v.n != 1u + c->by_trace || (!c->by_return && (v.p[0] | 0x20) != 'n') ||
	    (c->by_return && (minus || !n)))
		return &bad_param;
	c->has_by = true;
	c->by_seconds = minus ? -(int64_t)n : (int64_t)n;
	return c->by_return && n < SMTP_BY_MIN ? &by_too_short : NULL;
}

/* RFC 6710 section 7: -9 to 9, one digit. */
static const struct smtp_answer *param_priority(span v, struct arena *mem, struct smtp_command *c)
{
	bool plus = v.n && v.p[0] == '+', minus = cut_sign(&v);
	uint64_t n;

	if (plus || v.n != 1 || !span_u64(v, 9, &n) || (minus && !n))
		return &bad_param;
	c->priority = minus ? -(int)n : (int)n;
	return NULL;
}

static const struct smtp_answer *param_requiretls(span v, struct arena *mem, struct smtp_command *c)
{
	c->require_tls = true;
	return v.p ? &bad_param : NULL;
}

static const struct smtp_answer *param_prdr(span v, struct arena *mem, struct smtp_command *c)
{
	c->prdr = true;
	return v.p ? &bad_param : NULL;
}

/* RFC 4865 section 3; one of the two. */
static const struct smtp_answer *param_holdfor(span v, struct arena *mem, struct smtp_command *c)
{
	uint64_t n;

	if (c->hold_until)
		return &double_param;
	if (v.n > 9 || !span_u64(v, TIME_MAX, &n) || !n)
		return &bad_param;
	c->hold_for = (usec)n * USEC_SEC;
	return NULL;
}

static const struct smtp_answer *param_holduntil(span v, struct arena *mem, struct smtp_command *c)
{
	if (c->hold_for)
		return &double_param;
	return date_internet_parse(v, &c->hold_until) < 0 || c->hold_until <= 0 ? &bad_param : NULL;
}

static const struct param {
	const char *name;
	enum smtp_verb verb;
	enum smtp_ext ext; /* it is known where this is offered */
	param_fn *fn;
} params[] = {
	/* clang-format off */
	{ "SIZE",        SMTP_MAIL, SMTP_EXT_SIZE,          param_size },
	{ "BODY",        SMTP_MAIL, SMTP_EXT_8BITMIME,      param_body },
	{ "SMTPUTF8",    SMTP_MAIL, SMTP_EXT_SMTPUTF8,      param_smtputf8 },
	{ "AUTH",        SMTP_MAIL, SMTP_EXT_PIPELINING,    param_auth }, /* relays say it unasked */
	{ "RET",         SMTP_MAIL, SMTP_EXT_DSN,           param_ret },
	{ "ENVID",       SMTP_MAIL, SMTP_EXT_DSN,           param_envid },
	{ "BY",          SMTP_MAIL, SMTP_EXT_DELIVERBY,     param_by },
	{ "MT-PRIORITY", SMTP_MAIL, SMTP_EXT_PRIORITY,      param_priority },
	{ "REQUIRETLS",  SMTP_MAIL, SMTP_EXT_REQUIRETLS,    param_requiretls },
	{ "HOLDFOR",     SMTP_MAIL, SMTP_EXT_FUTURERELEASE, param_holdfor },
	{ "HOLDUNTIL",   SMTP_MAIL, SMTP_EXT_FUTURERELEASE, param_holduntil },
	{ "PRDR",        SMTP_MAIL, SMTP_EXT_PRDR,          param_prdr },
	{ "NOTIFY",      SMTP_RCPT, SMTP_EXT_DSN,           param_notify },
	{ "ORCPT",       SMTP_RCPT, SMTP_EXT_DSN,           param_orcpt },
	/* clang-format on */
};

static const struct param *find(span key, enum smtp_verb verb, const struct smtp_phase *p)
{
	for (size_t i = 0; i < ARRAY_LEN(params); i++)
		if (params[i].verb == verb && span_ieq_str(key, params[i].name))
			return smtp_ext_offered(params[i].ext, p) ? &params[i] : NULL;
	return NULL;
}

const struct smtp_answer *smtp_params_parse(span rest, const struct smtp_phase *p,
					    struct arena *mem, struct smtp_command *c)
{
	unsigned seen = 0, count = 0;
	span word, key, value;

	while (smtp_word(&rest, &word)) {
		const struct smtp_answer *a;
		const struct param *known;

		if (++count > PARAMS_MAX || !smtp_param(word, &key, &value))
			return &bad_param;
		known = find(key, c->rule->verb, p);
		if (!known)
			return &unknown_param;
		if (seen & 1u << (known - params))
			return &double_param;
		seen |= 1u << (known - params);
		a = known->fn(value, mem, c);
		if (a)
			return a;
	}
	return NULL;
}
