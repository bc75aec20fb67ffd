#include "smtp/body.h"

#include "format/check.h"

void smtp_body_init(struct smtp_body *b)
{
	*b = (struct smtp_body){ .at = SMTP_BODY_BOL };
}

/* Bytes that need no look: everything but CR, LF and NUL. */
static size_t plain_run(span s)
{
	size_t i = 0;

	while (i < s.n && s.p[i] != '\r' && s.p[i] != '\n' && s.p[i] != '\0')
		i++;
	return i;
}

/* C is part of the text; the state before it is TEXT, BOL or CR. */
static void text_byte(struct smtp_body *b, char c)
{
	if (b->at == SMTP_BODY_CR) {
		if (c == '\n') {
			b->at = SMTP_BODY_BOL;
			return;
		}
		b->defects |= MESSAGE_BARE_CR;
	} else if (c == '\n') {
		b->defects |= MESSAGE_BARE_LF;
	}
	if (c == '\0')
		b->defects |= MESSAGE_NUL;
	b->at = c == '\r' ? SMTP_BODY_CR : SMTP_BODY_TEXT;
}

/* One byte of DATA; true at the end. */
static bool data_byte(struct smtp_body *b, char c, struct buf *out)
{
	if (b->at == SMTP_BODY_BOL && c == '.') {
		b->at = SMTP_BODY_DOT;
		return false;
	}
	if (b->at == SMTP_BODY_DOT) {
		/* The dot is gone, whatever follows (RFC 5321 4.5.2). */
		b->at = c == '\r' ? SMTP_BODY_DOT_CR : SMTP_BODY_TEXT;
		if (c == '\r')
			return false;
	} else if (b->at == SMTP_BODY_DOT_CR) {
		if (c == '\n')
			return true;
		buf_put_char(out, '\r');
		b->at = SMTP_BODY_CR;
	}
	text_byte(b, c);
	buf_put_char(out, c);
	return false;
}

size_t smtp_body_data(struct smtp_body *b, span in, struct buf *out, size_t room, bool *ret_end)
{
	size_t i = 0;

	*ret_end = false;
	while (i < in.n && out->n < room) {
		size_t run = b->at == SMTP_BODY_TEXT ? plain_run(span_sub(in, i, room - out->n))
						     : 0;

		if (run) {
			buf_put(out, in.p + i, run);
			i += run;
		} else if (data_byte(b, in.p[i++], out)) {
			*ret_end = true;
			break;
		}
	}
	return i;
}

void smtp_body_octets(struct smtp_body *b, span in)
{
	for (size_t i = 0; i < in.n;) {
		size_t run = b->at == SMTP_BODY_TEXT ? plain_run(span_from(in, i)) : 0;

		if (run)
			i += run;
		else
			text_byte(b, in.p[i++]);
	}
}

void smtp_body_end(struct smtp_body *b)
{
	if (b->at == SMTP_BODY_CR)
		b->defects |= MESSAGE_BARE_CR;
}
