#include "smtp/commands.h"

#define TRANSACTION (SMTP_NEEDS_HELO | SMTP_NEEDS_AUTH)

const struct smtp_rule smtp_rules[SMTP_VERB_COUNT] = {
	/* clang-format off */
	[SMTP_HELO]     = { "HELO",     SMTP_HELO,     SMTP_ARGS_DOMAIN, SMTP_NOT_LMTP, SMTP_LINE_MAX },
	[SMTP_EHLO]     = { "EHLO",     SMTP_EHLO,     SMTP_ARGS_DOMAIN, SMTP_NOT_LMTP, SMTP_LINE_MAX },
	[SMTP_LHLO]     = { "LHLO",     SMTP_LHLO,     SMTP_ARGS_DOMAIN, SMTP_LMTP_ONLY | SMTP_NEEDS_TRUST, SMTP_LINE_MAX },
	[SMTP_MAIL]     = { "MAIL",     SMTP_MAIL,     SMTP_ARGS_MAIL,   TRANSACTION | SMTP_NO_MAIL, SMTP_LINE_MAX },
	[SMTP_RCPT]     = { "RCPT",     SMTP_RCPT,     SMTP_ARGS_RCPT,   TRANSACTION | SMTP_NEEDS_MAIL | SMTP_NO_BDAT | SMTP_TO_CORE, SMTP_LINE_MAX },
	[SMTP_DATA]     = { "DATA",     SMTP_DATA,     SMTP_ARGS_NONE,   TRANSACTION | SMTP_NEEDS_MAIL | SMTP_NO_BDAT | SMTP_NO_BINARY, SMTP_LINE_MAX },
	[SMTP_BDAT]     = { "BDAT",     SMTP_BDAT,     SMTP_ARGS_BDAT,   TRANSACTION | SMTP_NEEDS_MAIL, SMTP_LINE_MAX },
	[SMTP_RSET]     = { "RSET",     SMTP_RSET,     SMTP_ARGS_NONE,   0, SMTP_LINE_MAX },
	[SMTP_NOOP]     = { "NOOP",     SMTP_NOOP,     SMTP_ARGS_ANY,    0, SMTP_LINE_MAX },
	[SMTP_QUIT]     = { "QUIT",     SMTP_QUIT,     SMTP_ARGS_NONE,   0, SMTP_LINE_MAX },
	[SMTP_VRFY]     = { "VRFY",     SMTP_VRFY,     SMTP_ARGS_STRING, 0, SMTP_LINE_MAX },
	[SMTP_EXPN]     = { "EXPN",     SMTP_EXPN,     SMTP_ARGS_ANY,    0, SMTP_LINE_MAX },
	[SMTP_HELP]     = { "HELP",     SMTP_HELP,     SMTP_ARGS_ANY,    0, SMTP_LINE_MAX },
	[SMTP_STARTTLS] = { "STARTTLS", SMTP_STARTTLS, SMTP_ARGS_NONE,   SMTP_NEEDS_CLEAR | SMTP_NO_MAIL | SMTP_TO_CORE | SMTP_ENDS_GROUP, SMTP_LINE_MAX },
	[SMTP_AUTH]     = { "AUTH",     SMTP_AUTH,     SMTP_ARGS_AUTH,   SMTP_SUBMISSION_ONLY | SMTP_NEEDS_EHLO | SMTP_NO_AUTH | SMTP_NO_MAIL | SMTP_TO_CORE | SMTP_ENDS_GROUP, SMTP_AUTH_LINE_MAX },
	[SMTP_ETRN]     = { "ETRN",     SMTP_ETRN,     SMTP_ARGS_ETRN,   SMTP_NEEDS_ETRN | SMTP_NOT_LMTP | SMTP_NEEDS_EHLO | SMTP_NO_MAIL | SMTP_TO_CORE, SMTP_LINE_MAX },
	[SMTP_XCLIENT]  = { "XCLIENT",  SMTP_XCLIENT,  SMTP_ARGS_STRING, SMTP_NEEDS_TRUST | SMTP_NOT_LMTP | SMTP_NO_MAIL | SMTP_TO_CORE | SMTP_ENDS_GROUP, SMTP_LINE_MAX },
	/* clang-format on */
};

const struct smtp_answer smtp_answer_unknown = { 500, "5.5.1", "Command not recognized" };
const struct smtp_answer smtp_answer_bad_line = { 500, "5.5.2",
						  "Bare CR, bare LF or NUL in the command" };
const struct smtp_answer smtp_answer_long_line = { 500, "5.5.6", "Line too long" };
const struct smtp_answer smtp_answer_no_rcpt = { 554, "5.5.1", "No valid recipients" };
const struct smtp_answer smtp_answer_need_rcpt = { 503, "5.5.1",
						   "Name a recipient with RCPT first" };
const struct smtp_answer smtp_answer_too_big = { 552, "5.3.4",
						 "The message is larger than this server takes" };
const struct smtp_answer smtp_answer_abuse = { 421, "4.7.0", "Too many errors" };

static const struct smtp_answer
	no_helo = { 503, "5.5.1", "Say EHLO first" },
	no_mail = { 503, "5.5.1", "Name the sender with MAIL first" },
	in_mail = { 503, "5.5.1", "Not inside a mail transaction" },
	in_bdat = { 503, "5.5.1", "The message has begun with BDAT; only BDAT or RSET may follow" },
	binary = { 503, "5.5.1", "Binary content needs BDAT" },
	auth_not_here = { 502, "5.5.1", "No authentication on this port" },
	auth_done = { 503, "5.5.1", "Already authenticated" },
	auth_needed = { 530, "5.7.0", "Authentication required" },
	no_permission = { 550, "5.7.1", "Not for this client" },
	tls_needed = { 530, "5.7.0", "Say STARTTLS first" },
	tls_active = { 503, "5.5.1", "TLS is active already" },
	tls_none = { 502, "5.5.1", "TLS is not available" };

/* The order decides which reason is named. */
const struct smtp_answer *smtp_rule_check(const struct smtp_rule *r, const struct smtp_phase *p)
{
	unsigned f = r->flags;

	if (((f & SMTP_LMTP_ONLY) && !p->lmtp) || ((f & SMTP_NOT_LMTP) && p->lmtp))
		return &smtp_answer_unknown;
	if (((f & SMTP_NEEDS_TRUST) && !p->trusted) || ((f & SMTP_NEEDS_ETRN) && !p->etrn))
		return &no_permission;
	if ((f & SMTP_SUBMISSION_ONLY) && !p->submission)
		return &auth_not_here;
	if ((f & SMTP_NEEDS_CLEAR) && p->tls)
		return &tls_active;
	if ((f & SMTP_NEEDS_CLEAR) && !p->tls_available)
		return &tls_none;
	if (((f & SMTP_NEEDS_HELO) && !p->helo) ||
	    ((f & SMTP_NEEDS_EHLO) && !(p->helo && p->esmtp)))
		return &no_helo;
	if ((f & SMTP_NEEDS_AUTH) && p->submission && !p->authenticated)
		return !p->tls && p->tls_available ? &tls_needed : &auth_needed;
	if ((f & SMTP_NO_AUTH) && p->authenticated)
		return &auth_done;
	if ((f & SMTP_NO_BDAT) && p->bdat)
		return &in_bdat;
	if ((f & SMTP_NO_MAIL) && p->mail)
		return &in_mail;
	if ((f & SMTP_NEEDS_MAIL) && !p->mail)
		return &no_mail;
	if ((f & SMTP_NO_BINARY) && p->binary)
		return &binary;
	return NULL;
}

static span first_word(span line)
{
	size_t n = 0;

	while (n < line.n && line.p[n] != ' ' && line.p[n] != '\t')
		n++;
	return span_sub(line, 0, n);
}

const struct smtp_rule *smtp_rule_find(span line, span *ret_args)
{
	span word = first_word(line);

	for (size_t i = 0; i < ARRAY_LEN(smtp_rules); i++) {
		if (!span_ieq_str(word, smtp_rules[i].name))
			continue;
		*ret_args = span_trim(span_from(line, word.n));
		return &smtp_rules[i];
	}
	return NULL;
}

size_t smtp_line_limit(span start)
{
	return span_istarts(start, SPAN("AUTH ")) ? SMTP_AUTH_LINE_MAX : SMTP_LINE_MAX;
}

bool smtp_is_foreign(span line)
{
	static const char *const words[] = { "GET",	"POST",	   "PUT",    "HEAD",
					     "OPTIONS", "CONNECT", "DELETE", "TRACE",
					     "PATCH",	"PRI",	   "Host:" };
	span word = first_word(line);

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (span_ieq_str(word, words[i]))
			return true;
	return false;
}
