#include "smtp/parse.h"

#include "smtp/lex.h"
#include "smtp/params.h"

static const struct smtp_answer
	no_args = { 501, "5.5.4", "No arguments allowed" },
	need_args = { 501, "5.5.4", "Argument missing" },
	bad_domain = { 501, "5.5.4", "Say who you are: EHLO name" },
	bad_bdat = { 501, "5.5.4", "Syntax: BDAT size [LAST]" },
	bad_etrn = { 501, "5.5.4", "Syntax: ETRN domain" },
	bad_auth = { 501, "5.5.4", "Syntax: AUTH mechanism [initial-response]" },
	bad_mail = { 501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]" },
	bad_rcpt = { 501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]" },
	sender_syntax = { 501, "5.1.7", "Sender address not valid" },
	sender_domain = { 553, "5.1.7", "Sender address without a domain" },
	rcpt_syntax = { 501, "5.1.3", "Recipient address not valid" },
	rcpt_domain = { 553, "5.1.3", "Recipient address without a domain" },
	sender_utf8 = { 550, "5.6.7", "Non-ASCII address without SMTPUTF8" },
	rcpt_utf8 = { 553, "5.6.7", "Non-ASCII address without SMTPUTF8" };

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
static const struct smtp_answer *parse_path(span args, const struct smtp_phase *p,
					    struct arena *mem, struct smtp_command *c)
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
	return smtp_params_parse(args, p, mem, c);
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

/* ETRN domain (RFC 1985 section 5); there are no queues with names ("#"), and each domain is named ("@"). */
static const struct smtp_answer *parse_etrn(span args, struct arena *mem, struct smtp_command *c)
{
	struct address a = { 0 };
	_cleanup_(buf_donep) struct buf text = BUF_INIT(1024);

	buf_put_str(&text, "x@");
	buf_put_span(&text, args);
	if (text.failed ||
	    address_parse(buf_span(&text), ADDRESS_ALLOW_UTF8, mem, &a) != ADDRESS_OK ||
	    !span_eq_str(a.local, "x") || !a.domain.n || a.domain.p[0] == '[')
		return &bad_etrn;
	c->domain = arena_span(mem, a.domain);
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
					  const struct smtp_phase *p, struct arena *mem,
					  struct smtp_command *ret)
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
		a = parse_path(args, p, mem, &c);
		break;
	case SMTP_ARGS_BDAT:
		a = parse_bdat(args, &c);
		break;
	case SMTP_ARGS_ETRN:
		a = parse_etrn(args, mem, &c);
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
