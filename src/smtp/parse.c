#include "smtp/parse.h"

#include "format/dsn.h"
#include "smtp/lex.h"

#define ENVID_MAX  100 /* RFC 3461 4.4 */
#define ORCPT_MAX  500 /* RFC 3461 4.2 */
#define PARAMS_MAX 16

static const struct smtp_answer
	no_args = { 501, "5.5.4", "No arguments allowed" },
	need_args = { 501, "5.5.4", "Argument missing" },
	bad_domain = { 501, "5.5.4", "Say who you are: EHLO name" },
	bad_bdat = { 501, "5.5.4", "Syntax: BDAT size [LAST]" },
	bad_auth = { 501, "5.5.4", "Syntax: AUTH mechanism [initial-response]" },
	bad_mail = { 501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]" },
	bad_rcpt = { 501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]" },
	bad_param = { 501, "5.5.4", "Parameter not valid" },
	double_param = { 501, "5.5.4", "Parameter given twice" },
	unknown_param = { 555, "5.5.4", "Parameter not supported" },
	sender_syntax = { 501, "5.1.7", "Sender address not valid" },
	sender_domain = { 553, "5.1.7", "Sender address without a domain" },
	rcpt_syntax = { 501, "5.1.3", "Recipient address not valid" },
	rcpt_domain = { 553, "5.1.3", "Recipient address without a domain" },
	sender_utf8 = { 550, "5.6.7", "Non-ASCII address without SMTPUTF8" },
	rcpt_utf8 = { 553, "5.6.7", "Non-ASCII address without SMTPUTF8" };

typedef const struct smtp_answer *param_fn(span value, struct arena *mem, struct smtp_command *c);

/* ------------------------------------------------------------------ parameters of MAIL and RCPT */

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
	if (span_ieq_str(v, "8BITMIME"))
		c->body_8bit = true;
	else if (!span_ieq_str(v, "7BIT"))
		return &bad_param;
	return NULL;
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

static const struct param {
	const char *name;
	enum smtp_verb verb;
	param_fn *fn;
} params[] = {
	{ "SIZE", SMTP_MAIL, param_size },	   { "BODY", SMTP_MAIL, param_body },
	{ "SMTPUTF8", SMTP_MAIL, param_smtputf8 }, { "AUTH", SMTP_MAIL, param_auth },
	{ "RET", SMTP_MAIL, param_ret },	   { "ENVID", SMTP_MAIL, param_envid },
	{ "NOTIFY", SMTP_RCPT, param_notify },	   { "ORCPT", SMTP_RCPT, param_orcpt },
};

static const struct smtp_answer *parse_params(span rest, struct arena *mem, struct smtp_command *c)
{
	unsigned seen = 0, count = 0;
	span word, key, value;

	while (smtp_word(&rest, &word)) {
		const struct smtp_answer *a;
		size_t i = 0;

		if (++count > PARAMS_MAX || !smtp_param(word, &key, &value))
			return &bad_param;
		while (i < ARRAY_LEN(params) &&
		       (params[i].verb != c->rule->verb || !span_ieq_str(key, params[i].name)))
			i++;
		if (i == ARRAY_LEN(params))
			return &unknown_param;
		if (seen & 1u << i)
			return &double_param;
		seen |= 1u << i;
		a = params[i].fn(value, mem, c);
		if (a)
			return a;
	}
	return NULL;
}

/* ------------------------------------------------------------------ the grammars */

static const struct smtp_answer *path_refusal(enum address_error e, bool sender)
{
	if (e == ADDRESS_NO_DOMAIN)
		return sender ? &sender_domain : &rcpt_domain;
	if (e == ADDRESS_UTF8)
		return sender ? &sender_utf8 : &rcpt_utf8;
	return sender ? &sender_syntax : &rcpt_syntax;
}

/* "FROM:" or "TO:", a path, parameters.  A space before the path is wrong but common. */
static const struct smtp_answer *parse_path(span args, struct arena *mem, struct smtp_command *c)
{
	bool sender = c->rule->verb == SMTP_MAIL;
	span prefix = sender ? SPAN("FROM:") : SPAN("TO:");
	unsigned flags = ADDRESS_ALLOW_UTF8 |
			 (sender ? ADDRESS_ALLOW_NULL : ADDRESS_ALLOW_BARE_POSTMASTER);
	enum address_error e;
	size_t used = 0;

	if (!span_istarts(args, prefix))
		return sender ? &bad_mail : &bad_rcpt;
	args = span_trim_left(span_from(args, prefix.n));
	e = address_parse_path(args, flags, mem, &c->path, &used);
	if (e != ADDRESS_OK)
		return path_refusal(e, sender);
	args = span_from(args, used);
	if (args.n && args.p[0] != ' ' && args.p[0] != '\t')
		return sender ? &sender_syntax : &rcpt_syntax;
	return parse_params(args, mem, c);
}

static const struct smtp_answer *parse_bdat(span args, struct smtp_command *c)
{
	span size, last, more;

	if (!smtp_word(&args, &size) || !span_u64(size, UINT64_MAX, &c->chunk))
		return &bad_bdat;
	c->last = smtp_word(&args, &last);
	if ((c->last && !span_ieq_str(last, "LAST")) || smtp_word(&args, &more))
		return &bad_bdat;
	return NULL;
}

static const struct smtp_answer *parse_auth(span args, struct smtp_command *c)
{
	span more;

	if (!smtp_word(&args, &c->mechanism))
		return &bad_auth;
	if (smtp_word(&args, &c->initial) && smtp_word(&args, &more))
		return &bad_auth;
	return NULL;
}

const struct smtp_answer *smtp_args_parse(const struct smtp_rule *rule, span args,
					  struct arena *mem, struct smtp_command *ret)
{
	struct smtp_command c = { .rule = rule, .text = args };
	const struct smtp_answer *a = NULL;

	switch (rule->args) {
	case SMTP_ARGS_NONE:
		a = args.n ? &no_args : NULL;
		break;
	case SMTP_ARGS_ANY:
		break;
	case SMTP_ARGS_STRING:
		a = args.n ? NULL : &need_args;
		break;
	case SMTP_ARGS_DOMAIN:
		a = args.n && args.n <= 255 ? NULL : &bad_domain;
		break;
	case SMTP_ARGS_MAIL:
	case SMTP_ARGS_RCPT:
		a = parse_path(args, mem, &c);
		break;
	case SMTP_ARGS_BDAT:
		a = parse_bdat(args, &c);
		break;
	case SMTP_ARGS_AUTH:
		a = parse_auth(args, &c);
		break;
	}
	if (!a)
		*ret = c;
	return a;
}

const struct smtp_answer *smtp_utf8_check(const struct smtp_command *c, bool smtputf8)
{
	if (!c->path.utf8 || smtputf8)
		return NULL;
	return c->rule->verb == SMTP_MAIL ? &sender_utf8 : &rcpt_utf8;
}
