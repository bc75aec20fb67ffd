/* Trace fields: Received, Return-Path, Delivered-To (RFC 5321 4.4; RFC 3848 for the "with" words).
 */
#include "mail/mail_int.h"

#include "format/header.h"

#define HELO_MAX 255

/* A peer's word inside a header: printable ASCII without what would end a comment or domain. */
static void put_word(struct buf *b, span s)
{
	size_t n = MIN(s.n, (size_t)HELO_MAX);

	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		buf_put_char(b, c > 0x20 && c < 0x7f && !strchr("()<>\\\",;", c) ? (char)c : '?');
	}
	if (!n)
		buf_put_str(b, "unknown");
}

static const char *protocol_word(const struct mail_transaction *t)
{
	static const char *const word[2][2][2] = {
		/* [utf8][tls][auth] */
		{ { "ESMTP", "ESMTPA" }, { "ESMTPS", "ESMTPSA" } },
		{ { "UTF8SMTP", "UTF8SMTPA" }, { "UTF8SMTPS", "UTF8SMTPSA" } },
	};

	static const char *const local[2][2] = { { "LMTP", "LMTPS" }, { "UTF8LMTP", "UTF8LMTPS" } };

	if (t->lmtp)
		return local[t->smtputf8][t->tls];
	if (!t->esmtp)
		return "SMTP";
	return word[t->smtputf8][t->tls][t->authenticated];
}

int trace_received_put(struct buf *b, const struct trace_in *in)
{
	const struct mail_transaction *t = in->t;
	char literal[SOCK_TEXT], id[ID_TEXT];

	sock_literal(&t->peer, literal);
	id_format(&t->id, id);
	buf_put_str(b, "Received: from ");
	put_word(b, t->helo);
	buf_put_str(b, " (");
	if (t->peer_name.n) {
		put_word(b, t->peer_name);
		buf_put_char(b, ' ');
	}
	buf_printf(b, "%s)", literal);
	if (t->tls) {
		buf_put_str(b, "\r\n\t(using ");
		for (size_t i = 0; i < t->tls_text.n && i < 80; i++)
			buf_put_char(b,
				     strchr("()\r\n", t->tls_text.p[i]) ? '?' : t->tls_text.p[i]);
		buf_put_char(b, ')');
	}
	buf_put_str(b, "\r\n\tby ");
	buf_put_span(b, in->hostname);
	buf_printf(b, " (Postrider) with %s id %s", protocol_word(t), id);
	if (in->only_rcpt) {
		buf_put_str(b, "\r\n\tfor <");
		address_put(b, in->only_rcpt);
		buf_put_char(b, '>');
	}
	if (t->terms.priority) /* RFC 6710 4.1 */
		buf_printf(b, "\r\n\tPRIORITY %d", t->terms.priority);
	buf_put_str(b, ";\r\n\t");
	date_put(b, in->now, 0);
	return buf_put_str(b, "\r\n");
}

int trace_delivery_put(struct buf *b, span reverse_path, span delivered_to)
{
	buf_put_str(b, "Return-Path: <");
	buf_put_span(b, reverse_path);
	buf_put_str(b, ">\r\nDelivered-To: ");
	buf_put_span(b, delivered_to);
	return buf_put_str(b, "\r\n");
}

bool trace_loops(span header, span address)
{
	struct header_field f;

	for (unsigned n = 0; n < 100 && header_find(header, "Delivered-To", n, &f); n++)
		if (span_ieq(span_trim(f.value), address))
			return true;
	return false;
}
