#include "format/encode_int.h"

#include "base/codec.h"

#define QP_LINE 76 /* with the "=" of a soft line break */

static void base64_line(struct encoder *e, struct buf *out)
{
	if (e->begun)
		buf_put_str(out, "\r\n");
	e->begun = true;
	base64_encode(out, span_of(e->line, e->n));
	e->n = 0;
}

static void base64_put(struct encoder *e, span in, struct buf *out)
{
	while (in.n) {
		size_t n = MIN(in.n, (size_t)BASE64_LINE - e->n);

		memcpy(e->line + e->n, in.p, n);
		e->n = (uint8_t)(e->n + n);
		in = span_from(in, n);
		if (e->n == BASE64_LINE)
			base64_line(e, out);
	}
}

/* N characters that must stay together. */
static void qp_room(struct encoder *e, unsigned n, struct buf *out)
{
	if (e->column + n >= QP_LINE) {
		buf_put_str(out, "=\r\n");
		e->column = 0;
	}
	e->column = (uint8_t)(e->column + n);
}

static void qp_literal(struct encoder *e, char c, struct buf *out)
{
	qp_room(e, 1, out);
	buf_put_char(out, c);
}

static void qp_escaped(struct encoder *e, char c, struct buf *out)
{
	static const char digits[] = "0123456789ABCDEF";
	const char text[] = { '=', digits[(uint8_t)c >> 4], digits[(uint8_t)c & 15] };

	qp_room(e, 3, out);
	buf_put(out, text, sizeof(text));
}

/* White space at the end of a line may get lost on the way (RFC 2045 6.7 rule 3). */
static void qp_line_end(struct encoder *e, struct buf *out)
{
	if (e->blank)
		qp_escaped(e, e->blank, out);
	e->blank = 0;
	e->cr = false;
}

static void qp_flush(struct encoder *e, struct buf *out)
{
	if (e->blank)
		qp_literal(e, e->blank, out);
	e->blank = 0;
	if (e->cr)
		qp_escaped(e, '\r', out);
	e->cr = false;
}

static void qp_byte(struct encoder *e, char c, struct buf *out)
{
	if (e->cr && c == '\n') {
		qp_line_end(e, out);
		buf_put_str(out, "\r\n");
		e->column = 0;
		return;
	}
	if (e->cr || (e->blank && c != '\r'))
		qp_flush(e, out);
	if (c == '\r')
		e->cr = true;
	else if (c == ' ' || c == '\t')
		e->blank = c;
	else if (c > ' ' && c < 127 && c != '=')
		qp_literal(e, c, out);
	else
		qp_escaped(e, c, out);
}

void encoder_put(struct encoder *e, span in, struct buf *out)
{
	switch (e->encoding) {
	case ENCODING_NONE:
		buf_put_span(out, in);
		break;
	case ENCODING_BASE64:
		base64_put(e, in, out);
		break;
	case ENCODING_QP:
		for (size_t i = 0; i < in.n; i++)
			qp_byte(e, in.p[i], out);
		break;
	}
}

void encoder_end(struct encoder *e, struct buf *out)
{
	bool cr = e->cr;

	if (e->n)
		base64_line(e, out);
	qp_line_end(e, out);
	if (cr)
		qp_escaped(e, '\r', out);
	*e = (struct encoder){ 0 };
}
