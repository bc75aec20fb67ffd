#include "format/dsn.h"

#include <stdio.h>

#include "base/codec.h"
#include "base/err.h"
#include "format/check.h"
#include "format/header.h"
#include "format/mime.h"
#include "format/text_int.h"

/* RFC 5322 2.1.1: lines should have 78 columns at most */
#define COLUMNS 76
/* Of a remote's answer; more tells nothing. */
#define DIAGNOSTIC_MAX 2000
#define SUBJECT_MAX    120

/* --- enhanced status codes and xtext --- */
bool enhanced_code_parse(span text, char ret[12])
{
	size_t i = 0;
	for (unsigned field = 0; field < 3; field++) {
		size_t start = i;
		if (field && (i >= text.n || text.p[i++] != '.'))
			return false;
		start = i;
		while (i < text.n && i - start < 3 && text_is(text.p[i], CH_DIGIT))
			i++;
		if (i == start || (field == 0 && i - start != 1))
			return false;
	}
	if (i < text.n && !text_is_space(text.p[i]))
		return false;
	if (text.p[0] != '2' && text.p[0] != '4' && text.p[0] != '5')
		return false;
	memcpy(ret, text.p, i);
	ret[i] = 0;
	return true;
}

int xtext_encode(struct buf *b, span s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (c > ' ' && c < 0x7f && c != '+' && c != '=')
			buf_put_char(b, c);
		else
			buf_printf(b, "+%02X", (uint8_t)c);
	}
	return b->failed ? ERR_TOOBIG : 0;
}

int xtext_decode(struct buf *b, span s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] == '+' ? i + 2 >= s.n || text_hex_digit(s.p[i + 1]) < 0 ||
					    text_hex_digit(s.p[i + 2]) < 0
				  : s.p[i] <= ' ' || s.p[i] >= 0x7f || s.p[i] == '=')
			return ERR_SYNTAX;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (c == '+') {
			c = (char)(text_hex_digit(s.p[i + 1]) << 4 | text_hex_digit(s.p[i + 2]));
			i += 2;
		}
		buf_put_char(b, c);
	}
	return b->failed ? ERR_TOOBIG : 0;
}

/* --- ORCPT --- */

/* Is what stands before the first semicolon an address type?  *RET: the rest. */
static bool take_type(span s, span *ret_type, span *ret_address)
{
	size_t end = span_find(s, ';');
	if (end == SPAN_NPOS || end == 0)
		return false;
	for (size_t i = 0; i < end; i++)
		if (s.p[i] != '-' && !text_is(s.p[i], CH_DIGIT) &&
		    !((s.p[i] | 32) >= 'a' && (s.p[i] | 32) <= 'z'))
			return false;
	*ret_type = span_sub(s, 0, end);
	*ret_address = span_from(s, end + 1);
	return ret_address->n > 0;
}

/* "\x{HEX}" at the start of S: its length, else 0. */
static size_t embedded_char(span s, uint32_t *ret)
{
	uint32_t c = 0;
	size_t i = 3;
	if (!span_istarts(s, SPAN("\\x{")))
		return 0;
	for (; i < s.n && i < 9 && text_hex_digit(s.p[i]) >= 0; i++)
		c = c << 4 | (uint32_t)text_hex_digit(s.p[i]);
	if (i == 3 || i == s.n || s.p[i] != '}' || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	*ret = c;
	return i + 1;
}

/* utf-8-addr-xtext or utf-8-addr-unitext (RFC 6533 section 3). */
static int decode_utf8_address(struct buf *b, span s)
{
	for (size_t n; s.n; s = span_from(s, n)) {
		uint32_t c;
		n = embedded_char(s, &c);
		if (n) {
			utf8_put(b, c);
		} else if ((n = utf8_sequence(s, &c)) > 1) {
			buf_put(b, s.p, n);
		} else if (n && s.p[0] == '+' && s.n > 2) {
			n = 3;
			if (xtext_decode(b, span_sub(s, 0, n)) < 0)
				return ERR_SYNTAX;
		} else if (!n || xtext_decode(b, span_sub(s, 0, 1)) < 0) {
			return ERR_SYNTAX;
		}
	}
	return b->failed ? ERR_TOOBIG : 0;
}

int orcpt_decode(struct buf *b, span value)
{
	span type, address;
	size_t from = b->n;
	if (!take_type(value, &type, &address))
		return ERR_SYNTAX;
	buf_put_span(b, type);
	buf_put_char(b, ';');
	bool utf8 = span_ieq_str(type, "utf-8");
	int r = utf8 ? decode_utf8_address(b, address) : xtext_decode(b, address);
	if (r < 0)
		return r;
	span plain = span_from(buf_span(b), from);
	for (size_t i = 0; i < plain.n; i++)
		if (text_is_ctl(plain.p[i]) || (!utf8 && (plain.p[i] & 0x80)))
			return ERR_SYNTAX;
	return utf8_valid(plain) ? 0 : ERR_SYNTAX;
}

int orcpt_encode(struct buf *b, span original, bool utf8)
{
	span type = SPAN("rfc822"), address = original;
	if (!take_type(original, &type, &address) && text_has_8bit(original))
		type = SPAN("utf-8");
	bool embeds = span_ieq_str(type, "utf-8");
	buf_put_span(b, type);
	buf_put_char(b, ';');
	for (size_t n; address.n; address = span_from(address, n)) {
		uint32_t c = 0;
		n = utf8_sequence(address, &c);
		bool special = c <= ' ' || c == 0x7f || c == '+' || c == '=' || c == '\\';
		if (embeds && n && (n > 1 ? !utf8 : special)) {
			buf_printf(b, "\\x{%02X}", c);
		} else if (embeds && n > 1) {
			buf_put(b, address.p, n);
		} else {
			n = 1;
			xtext_encode(b, span_sub(address, 0, n));
		}
	}
	return b->failed ? ERR_TOOBIG : 0;
}

/* --- pieces --- */

/* One line of S: control bytes (line ends too) become spaces, a run of white space one space;
 * without UTF8, other characters become \x{HHHH} as RFC 6533 section 3 writes them. */
static void put_clean(struct buf *b, span s, bool utf8)
{
	s = span_trim(s);
	for (size_t n; s.n; s = span_from(s, n)) {
		uint32_t c;
		n = utf8_sequence(s, &c);
		if (!n) {
			n = 1;
			buf_put_char(b, '?');
		} else if (n == 1 && (text_is_ctl(s.p[0]) || s.p[0] == ' ')) {
			while (n < s.n && (text_is_ctl(s.p[n]) || s.p[n] == ' '))
				n++;
			buf_put_char(b, ' ');
		} else if (n == 1 || utf8) {
			buf_put(b, s.p, n);
		} else {
			buf_printf(b, "\\x{%04X}", c);
		}
	}
}

/* Appends TEXT (one line) broken at spaces, each further line after INDENT; COLUMN is where the
 * first begins.  A word without a space is broken hard before RFC 5322's limit of 998. */
static void put_wrapped(struct buf *b, span text, const char *indent, size_t column)
{
	enum { HARD = 900 };
	for (bool first = true; text.p; first = false) {
		span word = span_cut(&text, ' ');
		for (bool again = true; again; first = false) {
			again = word.n > HARD;
			span piece = utf8_cut(word, HARD);
			word = span_from(word, piece.n);
			if (!first && column + 1 + piece.n > COLUMNS) {
				buf_put_str(b, "\r\n");
				buf_put_str(b, indent);
				column = strlen(indent);
			} else if (!first) {
				buf_put_char(b, ' ');
				column++;
			}
			buf_put_span(b, piece);
			column += piece.n;
		}
	}
}

/* "Name: prefix value suffix" folded; the value may be anybody's bytes. */
static void put_framed(struct buf *b, const char *name, const char *prefix, span value,
		       const char *suffix, bool utf8)
{
	_cleanup_(buf_donep) struct buf line = BUF_INIT(10 * MIN(value.n, DIAGNOSTIC_MAX) + 256);
	buf_put_str(&line, prefix);
	put_clean(&line, span_sub(value, 0, DIAGNOSTIC_MAX), utf8);
	buf_put_str(&line, suffix);
	buf_printf(b, "%s: ", name);
	put_wrapped(b, buf_span(&line), " ", strlen(name) + 2);
	buf_put_str(b, "\r\n");
}

static void put_field(struct buf *b, const char *name, const char *prefix, span value, bool utf8)
{
	put_framed(b, name, prefix, value, "", utf8);
}

static void put_date_field(struct buf *b, const char *name, usec at)
{
	if (!at)
		return;
	buf_printf(b, "%s: ", name);
	date_put(b, at, 0);
	buf_put_str(b, "\r\n");
}

/* A paragraph of the human part. */
static void put_paragraph(struct buf *b, const char *indent, span text)
{
	_cleanup_(buf_donep) struct buf line = BUF_INIT(10 * MIN(text.n, DIAGNOSTIC_MAX) + 16);
	put_clean(&line, span_sub(text, 0, DIAGNOSTIC_MAX), true);
	buf_put_str(b, indent);
	put_wrapped(b, buf_span(&line), indent, strlen(indent));
	buf_put_str(b, "\r\n");
}

/* --- the report --- */
struct report {
	const struct dsn_report *r;
	struct buf *b;
	enum dsn_action worst; /* what the message is about */
	bool full;	       /* the whole original is attached */
	bool high;	       /* ... and has 8-bit bytes */
	char boundary[48];
};

static const char *const rcpt_words[] = { "was not delivered", "is still waiting", "was delivered",
					  "was passed on", "was passed on to the list" };
static const char *const action_words[] = { "failed", "delayed", "delivered", "relayed",
					    "expanded" };

/* What decides subject and first sentence: a failure before a delay before good news. */
static enum dsn_action worst_action(const struct dsn_report *r)
{
	enum dsn_action worst = DSN_EXPANDED;
	for (size_t i = 0; i < r->n_rcpts; i++)
		worst = MIN(worst, r->rcpts[i].action);
	return worst;
}

static const char *subject_words(enum dsn_action a)
{
	switch (a) {
	case DSN_FAILED:
		return "Not delivered";
	case DSN_DELAYED:
		return "Delivery is delayed";
	case DSN_DELIVERED:
		return "Delivered";
	case DSN_RELAYED:
	case DSN_EXPANDED:
		break;
	}
	return "Passed on";
}

static const char *first_sentence(enum dsn_action a)
{
	switch (a) {
	case DSN_FAILED:
		return "Your message could not be delivered to everybody you sent it to. "
		       "Where it says \"was not delivered\", nothing more will be tried.";
	case DSN_DELAYED:
		return "Your message has not been delivered yet. You need not do anything: "
		       "delivery will be tried again, and you will be told if it fails for good.";
	case DSN_DELIVERED:
		return "Your message was delivered, as you asked to be told.";
	case DSN_RELAYED:
		return "Your message was passed on to a mail server that does not report "
		       "deliveries. "
		       "You may hear no more about it.";
	case DSN_EXPANDED:
		break;
	}
	return "Your message was passed on to the members of a list.";
}

static const char *status_of(const struct dsn_rcpt *rcpt)
{
	if (rcpt->status[0])
		return rcpt->status;
	return rcpt->action == DSN_FAILED    ? "5.0.0"
	       : rcpt->action == DSN_DELAYED ? "4.0.0"
					     : "2.0.0";
}

static void put_rcpt_text(struct buf *b, const struct dsn_rcpt *rcpt)
{
	_cleanup_(buf_donep) struct buf line = BUF_INIT(rcpt->final.n + rcpt->remote_mta.n + 200);
	buf_put_str(&line, "<");
	buf_put_span(&line, rcpt->final);
	buf_printf(&line, "> %s (%s)", rcpt_words[rcpt->action], status_of(rcpt));
	put_paragraph(b, "  ", buf_span(&line));
	if (rcpt->explanation.n)
		put_paragraph(b, "    ", rcpt->explanation);
	if (rcpt->diagnostic.n && !span_eq(rcpt->diagnostic, rcpt->explanation)) {
		buf_reset(&line);
		if (rcpt->remote_mta.n) {
			buf_put_str(&line, "The mail server ");
			buf_put_span(&line, rcpt->remote_mta);
			buf_put_str(&line, " answered:");
		} else {
			buf_put_str(&line, "In technical words:");
		}
		put_paragraph(b, "    ", buf_span(&line));
		put_paragraph(b, "      ", rcpt->diagnostic);
	}
	if (rcpt->action == DSN_DELAYED && rcpt->will_retry_until) {
		buf_put_str(b, "    Delivery will be tried until ");
		date_put(b, rcpt->will_retry_until, 0);
		buf_put_str(b, ".\r\n");
	}
	buf_put_str(b, "\r\n");
}

static void put_human_part(struct report *x)
{
	const struct dsn_report *r = x->r;
	size_t text_max = 4096 + 40 * DIAGNOSTIC_MAX;
	for (size_t i = 0; i < r->n_rcpts; i++)
		text_max += 16 * (r->rcpts[i].final.n + r->rcpts[i].remote_mta.n + 200) +
			    40 * DIAGNOSTIC_MAX;
	_cleanup_(buf_donep) struct buf text = BUF_INIT(text_max);
	_cleanup_(buf_donep) struct buf greeting = BUF_INIT(r->reporting_mta.n + 64);
	buf_put_str(&greeting, "This is the mail server at ");
	buf_put_span(&greeting, r->reporting_mta);
	buf_put_char(&greeting, '.');
	put_paragraph(&text, "", buf_span(&greeting));
	buf_put_str(&text, "\r\n");
	put_paragraph(&text, "", span_str(first_sentence(x->worst)));
	buf_put_str(&text, "\r\n");
	for (size_t i = 0; i < r->n_rcpts; i++)
		put_rcpt_text(&text, &r->rcpts[i]);
	put_paragraph(&text, "",
		      x->full ? SPAN("Technical details and your message follow.")
			      : SPAN("Technical details and the header of your message follow."));
	struct message_scan s;
	message_scan_init(&s);
	message_scan_feed(&s, buf_span(&text));
	bool high = s.defects & (MESSAGE_8BIT_HEADER | MESSAGE_8BIT_BODY);
	buf_printf(x->b, "--%s\r\nContent-Type: text/plain; charset=%s\r\n", x->boundary,
		   high ? "utf-8" : "us-ascii");
	buf_printf(x->b, "Content-Transfer-Encoding: %s\r\n\r\n",
		   high ? "quoted-printable" : "7bit");
	if (high)
		qp_encode(x->b, buf_span(&text));
	else
		buf_put_span(x->b, buf_span(&text));
	buf_put_str(x->b, "\r\n");
}

/* "rfc822; a@b", or with characters outside ASCII "utf-8; ..." (RFC 6533 section 3). */
static void put_address_field(struct report *x, const char *name, span address)
{
	put_field(x->b, name, text_has_8bit(address) ? "utf-8; " : "rfc822; ", address, x->r->utf8);
}

static void put_rcpt_fields(struct report *x, const struct dsn_rcpt *rcpt)
{
	struct buf *b = x->b;
	size_t type = span_find(rcpt->original, ';');
	buf_put_str(b, "\r\n");
	if (type != SPAN_NPOS && header_name_valid(span_sub(rcpt->original, 0, type)))
		put_field(b, "Original-Recipient", "", rcpt->original, x->r->utf8);
	put_address_field(x, "Final-Recipient", rcpt->final);
	buf_printf(b, "Action: %s\r\nStatus: %s\r\n", action_words[rcpt->action], status_of(rcpt));
	if (rcpt->remote_mta.n)
		put_field(b, "Remote-MTA", "dns; ", rcpt->remote_mta, false);
	if (rcpt->diagnostic.n) /* "smtp" only for what an SMTP server said (RFC 3464 2.3.6) */
		put_field(b, "Diagnostic-Code", rcpt->remote_mta.n ? "smtp; " : "x-postrider; ",
			  rcpt->diagnostic, x->r->utf8);
	put_date_field(b, "Last-Attempt-Date", rcpt->last_attempt);
	if (rcpt->action == DSN_DELAYED)
		put_date_field(b, "Will-Retry-Until", rcpt->will_retry_until);
}

static void put_status_part(struct report *x)
{
	const struct dsn_report *r = x->r;
	buf_printf(x->b, "--%s\r\nContent-Type: message/%sdelivery-status\r\n", x->boundary,
		   r->utf8 ? "global-" : "");
	buf_printf(x->b, "Content-Transfer-Encoding: %s\r\n\r\n", r->utf8 ? "8bit" : "7bit");
	if (r->envelope_id.n)
		put_field(x->b, "Original-Envelope-Id", "", r->envelope_id, r->utf8);
	put_field(x->b, "Reporting-MTA", "dns; ", r->reporting_mta, r->utf8);
	put_date_field(x->b, "Arrival-Date", r->arrival);
	if (r->deliver_by)
		put_date_field(x->b, "Deliver-By-Date", r->deliver_by);
	for (size_t i = 0; i < r->n_rcpts; i++)
		put_rcpt_fields(x, &r->rcpts[i]);
	buf_put_str(x->b, "\r\n");
}

/* The original's header with CRLF line ends; lines over RFC 5322's limit are cut, NUL becomes a
 * space. */
static void put_original_header(struct report *x)
{
	span header = span_sub(x->r->original, 0, header_size(x->r->original));
	while (header.n) {
		span line = span_sub(span_cut(&header, '\n'), 0, 998);
		if (line.n && line.p[line.n - 1] == '\r')
			line.n--;
		if (!line.n)
			break;
		for (size_t i = 0; i < line.n; i++)
			buf_put_char(x->b, line.p[i] == '\r' || line.p[i] == 0 ? ' ' : line.p[i]);
		buf_put_str(x->b, "\r\n");
	}
}

static void put_original_part(struct report *x)
{
	const char *type = x->full ? (x->r->utf8 ? "message/global" : "message/rfc822")
				   : (x->r->utf8 ? "message/global-headers"
						 : "text/rfc822-headers");
	buf_printf(x->b, "--%s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n",
		   x->boundary, type, x->high ? "8bit" : "7bit");
	if (x->full)
		buf_put_span(x->b, x->r->original);
	else
		put_original_header(x);
	buf_put_str(x->b, "\r\n");
}

static void put_subject(struct report *x)
{
	struct header_field f;
	_cleanup_(buf_donep) struct buf text = BUF_INIT(SUBJECT_MAX + 100);
	_cleanup_(arena_donep) struct arena mem;
	arena_init(&mem);
	buf_put_str(&text, subject_words(x->worst));
	if (header_find(x->r->original, "Subject", 0, &f)) {
		span subject = header_decode_words(f.value, SUBJECT_MAX, &mem);
		if (subject.n) {
			buf_put_str(&text, ": ");
			buf_put_span(&text, subject);
		}
	}
	buf_put_str(x->b, "Subject: ");
	header_encode_text(x->b, buf_span(&text));
	buf_put_str(x->b, "\r\n");
}

static void put_references(struct report *x)
{
	struct header_field f;
	span id;
	size_t at = 0;
	if (!header_find(x->r->original, "Message-ID", 0, &f) ||
	    !header_msgid_next(f.value, &at, &id) || id.n > 500 || text_has_8bit(id))
		return;
	put_field(x->b, "References", "", id, false);
}

static void put_header(struct report *x)
{
	const struct dsn_report *r = x->r;
	put_framed(x->b, "From", "Mail Delivery System <", r->from, ">", r->utf8);
	put_framed(x->b, "To", "<", r->to, ">", r->utf8);
	put_subject(x);
	put_date_field(x->b, "Date", r->now);
	put_field(x->b, "Message-ID", "", r->message_id, false);
	put_references(x);
	buf_put_str(x->b, "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n");
	buf_printf(x->b,
		   "Content-Type: multipart/report; report-type=%sdelivery-status;\r\n "
		   "boundary=\"%s\"\r\n",
		   r->utf8 ? "global-" : "", x->boundary);
	buf_printf(x->b, "Content-Transfer-Encoding: %s\r\n\r\n",
		   x->high || r->utf8 ? "8bit" : "7bit");
	buf_put_str(x->b, "This is a delivery report in MIME format.\r\n\r\n");
}

/* A boundary that the original does not contain. */
static void choose_boundary(struct report *x)
{
	uint64_t seed = hash_stable(x->r->message_id) ^ hash_stable(x->r->to);
	do
		snprintf(x->boundary, sizeof(x->boundary), "=_report_%016llx",
			 (unsigned long long)seed++);
	while (span_find_span(x->r->original, span_str(x->boundary)) != SPAN_NPOS);
}

int dsn_compose(struct buf *b, const struct dsn_report *r)
{
	struct report x = { .r = r, .b = b, .worst = worst_action(r), .full = r->full };
	struct message_scan s;
	message_scan_init(&s);
	message_scan_feed(&s, r->original);
	message_scan_end(&s);
	/* message/rfc822 cannot be encoded, so what may not stand in a message is not attached */
	if (s.defects & (MESSAGE_NUL | MESSAGE_BARE_CR | MESSAGE_BARE_LF | MESSAGE_LONG_LINE))
		x.full = false;
	x.high = s.defects &
		 (x.full ? MESSAGE_8BIT_HEADER | MESSAGE_8BIT_BODY : MESSAGE_8BIT_HEADER);
	choose_boundary(&x);
	put_header(&x);
	put_human_part(&x);
	put_status_part(&x);
	put_original_part(&x);
	buf_printf(b, "--%s--\r\n", x.boundary);
	return b->failed ? ERR_TOOBIG : 0;
}
