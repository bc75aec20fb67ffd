/* Both readings are the same pass; only what a part's octets go to differs: the first notes what
 * is in them, the second encodes and writes them.  Lines matter only where a boundary can stand: a
 * line end is held back until it is known not to belong to one. */
#include "format/transcode.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "format/encode_int.h"
#include "format/mime_int.h"
#include "format/header_int.h"
#include "format/text_int.h"

#define BOUNDARY_MAX  1000 /* RFC 2046 allows 70 */
#define DELIMITER_MAX 1100 /* of a line that may be a boundary */

enum { /* what is known of a part */
       P_8BIT = 1,
       P_BINARY = 2,	   /* NUL, bare CR or bare LF */
       P_CONTAINER = 4,	   /* its own octets are a preamble and an epilogue */
       P_TEXT = 8,	   /* of type text */
       P_ENCODED = 16,	   /* base64, quoted-printable or unknown */
       P_SAYS_BINARY = 32, /* by its Content-Transfer-Encoding */
       P_SAYS_8BIT = 64,
       P_NO_TYPE = 128,	   /* no Content-Type field */
       P_NO_VERSION = 256, /* starts a message, but without MIME-Version */
       P_UNREAD = 512,	   /* past a limit: the rest of the message, whatever it is */
       P_FIXED = 1024,	   /* of a type that may not be encoded */
};

struct transcode {
	enum transcode_goal goal;
	struct buf *out; /* NULL: the first reading */
	uint16_t parts[MIME_MAX_PARTS];
	size_t n, part; /* parts begun; the one whose octets come now */
	enum { IN_HEADER, AT_LINE, IN_LINE } at;
	/* open multiparts */
	struct {
		char *boundary; /* owned */
		size_t n, part;
		unsigned depth;
		bool digest;
	} stack[MIME_MAX_DEPTH + 1];
	unsigned n_stack, depth;
	/* the header of PART */
	struct mime_part fields;
	struct arena mem; /* of FIELDS */
	struct buf field; /* complete lines of one field */
	size_t header;	  /* octets of this header so far */
	bool digest, starts_message, versioned;
	/* the body of PART */
	struct buf line; /* of a header, or what may become a boundary */
	uint8_t held_n;	 /* of a line end that may belong to a boundary */
	char held[2];
	char last; /* octet of this part */
	struct encoder encoder;
};

struct transcode *transcode_new(enum transcode_goal goal)
{
	struct transcode *t = xcalloc(1, sizeof(*t));

	t->goal = goal;
	arena_init(&t->mem);
	buf_init(&t->field, MIME_MAX_HEADER);
	buf_init(&t->line, MIME_MAX_HEADER);
	return t;
}

static void pop(struct transcode *t, unsigned n)
{
	while (t->n_stack > n)
		free(t->stack[--t->n_stack].boundary);
}

void transcode_free(struct transcode *t)
{
	if (!t)
		return;
	pop(t, 0);
	arena_done(&t->mem);
	buf_done(&t->field);
	buf_done(&t->line);
	free(t);
}

/* ------------------------------------------------------------------ what a part needs */

static bool fits(const struct transcode *t, unsigned p)
{
	return !(p & P_BINARY) && !(t->goal == TRANSCODE_7BIT && (p & P_8BIT));
}

static enum encoding encoding_for(const struct transcode *t, unsigned p)
{
	bool relabel = p & P_SAYS_BINARY && t->goal == TRANSCODE_8BIT;

	if (p & (P_CONTAINER | P_ENCODED | P_FIXED | P_UNREAD) || (fits(t, p) && !relabel))
		return ENCODING_NONE;
	return p & P_TEXT && !(p & P_BINARY) ? ENCODING_QP : ENCODING_BASE64;
}

/* The Content-Transfer-Encoding that replaces the part's own; NULL: it keeps that. */
static const char *label_for(const struct transcode *t, unsigned p)
{
	switch (encoding_for(t, p)) {
	case ENCODING_BASE64:
		return "base64";
	case ENCODING_QP:
		return "quoted-printable";
	case ENCODING_NONE:
		break;
	}
	if (p & P_UNREAD)
		return NULL;
	if (t->goal == TRANSCODE_7BIT && p & (P_SAYS_BINARY | P_SAYS_8BIT))
		return "7bit";
	return p & P_SAYS_BINARY ? "8bit" : NULL;
}

static enum transcode_verdict judge(const struct transcode *t)
{
	enum transcode_verdict v = TRANSCODE_AS_IS;

	for (size_t i = 0; i < t->n; i++) {
		unsigned p = t->parts[i];
		bool encode = encoding_for(t, p) != ENCODING_NONE;

		if (!fits(t, p) && !encode && !(p & P_CONTAINER))
			return TRANSCODE_IMPOSSIBLE;
		if (encode || !fits(t, p) || label_for(t, p))
			v = TRANSCODE_NEEDED;
	}
	return v;
}

/* ------------------------------------------------------------------ octets */

static void raw(struct transcode *t, span s)
{
	if (t->out)
		buf_put_span(t->out, s);
}

static unsigned look(struct transcode *t, span s)
{
	unsigned found = 0;

	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if ((uint8_t)c >= 128)
			found |= P_8BIT;
		if (c == '\0' || (t->last == '\r') != (c == '\n'))
			found |= P_BINARY;
		t->last = c;
	}
	return found;
}

/* Octets of the open part's body. */
static void octets(struct transcode *t, span s)
{
	unsigned p = t->parts[t->part];

	if (!t->out)
		t->parts[t->part] = (uint16_t)(p | look(t, s));
	else if (!(p & P_CONTAINER) || fits(t, p)) /* nobody reads a preamble */
		encoder_put(&t->encoder, s, t->out);
}

static void begin_body(struct transcode *t)
{
	t->at = AT_LINE;
	t->last = '\n';
	t->encoder = (struct encoder){ .encoding = encoding_for(t, t->parts[t->part]) };
}

static void end_body(struct transcode *t)
{
	if (t->out)
		encoder_end(&t->encoder, t->out);
	else if (t->last == '\r')
		t->parts[t->part] |= P_BINARY;
}

static void release(struct transcode *t)
{
	span held = span_of(t->held, t->held_n);

	t->held_n = 0;
	octets(t, held);
}

static void hold(struct transcode *t, span end)
{
	memcpy(t->held, end.p, end.n);
	t->held_n = (uint8_t)end.n;
}

/* ------------------------------------------------------------------ parts */

static void begin_part(struct transcode *t, bool digest, bool message)
{
	t->part = t->n++;
	t->at = IN_HEADER;
	t->header = 0;
	t->starts_message = message;
	t->versioned = false;
	t->digest = digest;
	arena_reset(&t->mem);
	t->fields = (struct mime_part){ 0 };
}

/* What follows is one part, whatever is in it. */
static void give_up(struct transcode *t)
{
	if (!t->out)
		t->parts[t->part] = (uint16_t)((t->parts[t->part] & ~P_CONTAINER) | P_UNREAD);
	pop(t, 0);
	begin_body(t);
}

/* Of the fields of the open part. */
static unsigned describe(const struct transcode *t)
{
	const struct mime_part *f = &t->fields;
	span e = f->encoding;
	unsigned p = 0;

	if (span_ieq_str(e, "binary"))
		p |= P_SAYS_BINARY;
	else if (span_ieq_str(e, "base64") || span_ieq_str(e, "quoted-printable") ||
		 span_istarts(e, SPAN("x-")))
		p |= P_ENCODED;
	else if (e.n && !span_ieq_str(e, "7bit")) /* "8-bit" is written too */
		p |= P_SAYS_8BIT;
	if (!f->type.n)
		p |= t->digest ? 0 : P_TEXT | P_NO_TYPE;
	else if (span_ieq_str(f->type, "text"))
		p |= P_TEXT;
	else if (span_ieq_str(f->type, "multipart") ||
		 (span_ieq_str(f->type, "message") && !span_ieq_str(f->subtype, "global")))
		p |= P_FIXED;
	if (t->starts_message && !t->versioned)
		p |= P_NO_VERSION;
	return p;
}

static bool is_message(const struct transcode *t, unsigned p)
{
	const struct mime_part *f = &t->fields;

	if (p & P_ENCODED)
		return false;
	return f->type.n
		       ? span_ieq_str(f->type, "message") && (span_ieq_str(f->subtype, "rfc822") ||
							      span_ieq_str(f->subtype, "global"))
		       : t->digest;
}

static bool is_multipart(const struct transcode *t, span *ret_boundary)
{
	*ret_boundary = mime_param(t->fields.raw_params, "boundary");
	return span_ieq_str(t->fields.type, "multipart") && ret_boundary->n &&
	       ret_boundary->n <= BOUNDARY_MAX;
}

static void push(struct transcode *t, span boundary)
{
	unsigned i = t->n_stack++;

	t->stack[i].boundary = span_dup(boundary);
	t->stack[i].n = boundary.n;
	t->stack[i].part = t->part;
	t->stack[i].depth = t->depth;
	t->stack[i].digest = span_ieq_str(t->fields.subtype, "digest");
}

/* The corrected fields, at the end of a header that is being written. */
static void write_fields(struct transcode *t)
{
	unsigned p = t->parts[t->part];
	const char *label = t->out ? label_for(t, p) : NULL;

	if (!label)
		return;
	if (p & P_NO_VERSION)
		buf_put_str(t->out, "MIME-Version: 1.0\r\n");
	if (p & P_NO_TYPE && t->starts_message && p & P_8BIT)
		buf_put_str(t->out, "Content-Type: text/plain; charset=unknown-8bit\r\n");
	buf_printf(t->out, "Content-Transfer-Encoding: %s\r\n", label);
}

/* The fields are read; END is the empty line. */
static void end_header(struct transcode *t, span end)
{
	unsigned p = describe(t);
	bool message = is_message(t, p), deep = t->depth >= MIME_MAX_DEPTH;
	span boundary;
	bool multipart = is_multipart(t, &boundary);

	if ((multipart || message) && !deep)
		p |= P_CONTAINER;
	if (!t->out)
		t->parts[t->part] = (uint16_t)p;
	write_fields(t);
	raw(t, end);
	begin_body(t);
	if (!(p & P_CONTAINER))
		return;
	if (t->n == MIME_MAX_PARTS) {
		give_up(t);
		return;
	}
	if (multipart)
		push(t, boundary);
	t->depth++;
	if (message)
		begin_part(t, false, true);
}

static int match_boundary(const struct transcode *t, span line, bool *ret_close)
{
	if (line.n < 3 || line.p[0] != '-' || line.p[1] != '-')
		return -1;
	span text = span_from(line, 2);
	while (text.n && text_is_space(text.p[text.n - 1]))
		text.n--;
	bool dashes = text.n > 2 && text.p[text.n - 1] == '-' && text.p[text.n - 2] == '-';
	for (unsigned i = t->n_stack; i-- > 0;) {
		size_t n = t->stack[i].n;

		*ret_close = dashes && text.n == n + 2;
		if ((text.n == n || *ret_close) && !memcmp(text.p, t->stack[i].boundary, n))
			return (int)i;
	}
	return -1;
}

/* LINE, which ended the open part, is boundary I of the stack. */
static void pass_boundary(struct transcode *t, span line, unsigned i, bool close)
{
	raw(t, span_of(t->held, t->held_n));
	raw(t, line);
	t->held_n = 0;
	pop(t, i + 1);
	t->depth = t->stack[i].depth + 1;
	if (close) {
		t->part = t->stack[i].part; /* its epilogue */
		begin_body(t);
		pop(t, i);
	} else if (t->n < MIME_MAX_PARTS) {
		begin_part(t, t->stack[i].digest, false);
	} else {
		give_up(t);
	}
}

/* ------------------------------------------------------------------ lines of a body */

/* The rest of a line that is no boundary, or what there is of it; its end is held. */
static size_t take_line(struct transcode *t, span in)
{
	size_t lf = span_find(in, '\n'), n = lf == SPAN_NPOS ? in.n : lf + 1, text = n;

	if (t->held_n && in.p[0] == '\n') { /* the CR came with the last piece */
		hold(t, SPAN("\r\n"));
		t->at = AT_LINE;
		return 1;
	}
	release(t);
	if (lf != SPAN_NPOS)
		text--;
	if (text && in.p[text - 1] == '\r')
		text--;
	octets(t, span_sub(in, 0, text));
	hold(t, span_sub(in, text, n - text));
	t->at = lf == SPAN_NPOS ? IN_LINE : AT_LINE;
	return n;
}

/* t->line, which may be empty, is no boundary or not the whole of one. */
static void no_boundary(struct transcode *t)
{
	span line = buf_span(&t->line);

	release(t);
	t->at = IN_LINE;
	while (line.n)
		line = span_from(line, take_line(t, line));
	buf_reset(&t->line);
}

/* t->line is complete: a boundary or not. */
static void end_line(struct transcode *t)
{
	bool close;
	int i = match_boundary(t, buf_span(&t->line), &close);

	if (i < 0) {
		no_boundary(t);
		return;
	}
	end_body(t);
	pass_boundary(t, buf_span(&t->line), (unsigned)i, close);
	buf_reset(&t->line);
}

/* ------------------------------------------------------------------ headers */

/* A whole field is in t->field, or nothing. */
static void end_field(struct transcode *t)
{
	span whole = buf_span(&t->field);
	struct header_field f;
	bool known = header_split_field(whole, &f);
	bool encoding = known && span_ieq_str(f.name, "Content-Transfer-Encoding");

	if (known && (f.name.p[0] | 0x20) == 'c') {
		f.value = arena_span(&t->mem, f.value);
		f.name = arena_span(&t->mem, f.name);
		mime_note_field(&t->fields, &f, &t->mem);
	}
	t->versioned |= known && span_ieq_str(f.name, "MIME-Version");
	if (!encoding || (t->out && !label_for(t, t->parts[t->part])))
		raw(t, whole);
	buf_reset(&t->field);
}

/* t->line is a complete line of the header. */
static void header_line(struct transcode *t)
{
	span line = buf_span(&t->line);
	bool close, empty = header_line_empty(line),
		    boundary = match_boundary(t, line, &close) >= 0;

	if (!boundary && !empty && text_is_wsp(line.p[0]) && t->field.n) {
		buf_put_span(&t->field, line);
	} else {
		end_field(t);
		if (!boundary && !empty)
			buf_put_span(&t->field, line);
		else
			end_header(t, empty ? line : SPAN_NULL);
	}
	if (boundary)
		end_line(t); /* a part may lack the empty line and all behind it */
	buf_reset(&t->line);
}

static size_t take_header(struct transcode *t, span in)
{
	size_t lf = span_find(in, '\n'), n = lf == SPAN_NPOS ? in.n : lf + 1;

	t->header += n;
	if (t->header > MIME_MAX_HEADER) { /* no field of this size is honest */
		raw(t, buf_span(&t->field));
		buf_reset(&t->field);
		give_up(t);
		no_boundary(t);
		return 0;
	}
	buf_put_span(&t->line, span_sub(in, 0, n));
	if (lf != SPAN_NPOS)
		header_line(t);
	return n;
}

/* ------------------------------------------------------------------ bodies */

/* The beginning of a line: held as long as it may become a boundary. */
static size_t take_start(struct transcode *t, span in)
{
	size_t lf, n;

	if (!t->line.n && (!t->n_stack || in.p[0] != '-')) {
		no_boundary(t);
		return 0;
	}
	in = span_sub(in, 0, DELIMITER_MAX - t->line.n);
	lf = span_find(in, '\n');
	n = lf == SPAN_NPOS ? in.n : lf + 1;
	buf_put_span(&t->line, span_sub(in, 0, n));
	if (lf != SPAN_NPOS)
		end_line(t);
	else if (t->line.n == DELIMITER_MAX || (t->line.n > 1 && t->line.p[1] != '-'))
		no_boundary(t);
	return n;
}

static void feed(struct transcode *t, span in)
{
	if (!t->n)
		begin_part(t, false, true);
	while (in.n) {
		size_t n = t->at == IN_HEADER ? take_header(t, in)
			   : t->at == AT_LINE ? take_start(t, in)
					      : take_line(t, in);

		in = span_from(in, n);
	}
}

/* The message has ended, wherever that is; T is ready to read it again. */
static void finish(struct transcode *t)
{
	bool base64;

	if (t->at == IN_HEADER && t->line.n) {
		buf_put_str(&t->line, "\r\n");
		header_line(t);
	}
	if (t->at == IN_HEADER) { /* without an empty line */
		end_field(t);
		end_header(t, SPAN_NULL);
	}
	end_line(t);
	release(t);
	base64 = t->encoder.n || t->encoder.begun;
	end_body(t);
	if (base64)
		raw(t, SPAN("\r\n"));
	pop(t, 0);
}

void transcode_scan(struct transcode *t, span piece)
{
	feed(t, piece);
}

enum transcode_verdict transcode_scanned(struct transcode *t)
{
	enum transcode_verdict v;

	feed(t, SPAN_NULL);
	finish(t);
	v = judge(t);
	t->n = t->depth = 0;
	return v;
}

int transcode_put(struct transcode *t, span piece, struct buf *out)
{
	t->out = out;
	feed(t, piece);
	return out->failed ? ERR_TOOBIG : 0;
}

int transcode_end(struct transcode *t, struct buf *out)
{
	t->out = out;
	feed(t, SPAN_NULL);
	finish(t);
	return out->failed ? ERR_TOOBIG : 0;
}
