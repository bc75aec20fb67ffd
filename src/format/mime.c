#include "format/mime_int.h"

#include "base/codec.h"
#include "format/header_int.h"
#include "format/text_int.h"

/* The one pass.  Lines are read in order; boundaries of the open multiparts are on a stack, so each
 * line is compared with at most MIME_MAX_DEPTH of them and only if it starts with "--". */
struct parser {
	span in;
	size_t at;    /* start of the next line */
	size_t lines; /* line ends before AT */
	struct arena *mem;
	size_t parts;
	struct mime_part *open; /* the innermost part that has not ended */
	struct {
		span boundary;
		struct mime_part *part, **tail; /* TAIL: where its next child is linked */
	} stack[MIME_MAX_DEPTH + 1];
	unsigned depth; /* of the stack */
};

/* Takes the next line, with its end. */
static span next_line(struct parser *p)
{
	const char *start = p->in.p + p->at, *nl = memchr(start, '\n', p->in.n - p->at);
	span line = span_of(start, nl ? (size_t)(nl - start) + 1 : p->in.n - p->at);
	p->at += line.n;
	p->lines += nl != NULL;
	return line;
}

/* Which open multipart does LINE delimit?  Its index on the stack, or -1.  The whole line must be
 * the boundary (RFC 2046 5.1.1 lets white space follow), so that "--ab" is not taken for "--a". */
static int match_boundary(const struct parser *p, span line, bool *ret_close)
{
	if (!p->depth || line.n < 3 || line.p[0] != '-' || line.p[1] != '-')
		return -1;
	span text = span_from(line, 2);
	while (text.n && text_is_space(text.p[text.n - 1]))
		text.n--;
	bool dashes = text.n > 2 && text.p[text.n - 1] == '-' && text.p[text.n - 2] == '-';
	for (int i = (int)p->depth - 1; i >= 0; i--) {
		span b = p->stack[i].boundary;
		*ret_close = dashes && text.n == b.n + 2;
		if ((text.n == b.n || *ret_close) && !memcmp(text.p, b.p, b.n))
			return i;
	}
	return -1;
}

static struct mime_part *new_part(struct parser *p, struct mime_part *parent)
{
	struct mime_part *n = arena_new(p->mem, struct mime_part);
	n->start = p->at;
	n->parent = parent;
	n->depth = parent ? parent->depth + 1 : 0;
	bool digest = parent && span_ieq_str(parent->type, "multipart") &&
		      span_ieq_str(parent->subtype, "digest");
	n->type = digest ? SPAN("MESSAGE") : SPAN("TEXT");
	n->subtype = digest ? SPAN("RFC822") : SPAN("PLAIN");
	n->encoding = SPAN("7BIT");
	p->parts++;
	p->open = n;
	return n;
}

/* Reads the header of P->open up to the empty line, the end, or a boundary (a part may lack both
 * header and empty line). */
static void read_header(struct parser *p)
{
	struct mime_part *part = p->open;
	size_t field = p->at; /* where the field being read starts */
	for (bool ended = false; !ended;) {
		size_t start = p->at, lines = p->lines;
		span line = next_line(p);
		bool close, empty = header_line_empty(line);
		bool boundary = line.n && match_boundary(p, line, &close) >= 0;
		if (boundary) {
			p->at = start;
			p->lines = lines;
		}
		ended = boundary || empty || !line.n;
		if (!ended && text_is_wsp(line.p[0]))
			continue;
		struct header_field f;
		if (start > field && field - part->start < MIME_MAX_HEADER &&
		    (p->in.p[field] | 0x20) == 'c' &&
		    header_split_field(span_sub(p->in, field, start - field), &f))
			mime_note_field(part, &f, p->mem);
		field = start;
	}
	part->body = p->at;
	part->lines = p->lines; /* at the start, until it is closed */
}

static bool is_message(const struct mime_part *part)
{
	return span_ieq_str(part->type, "message") &&
	       (span_ieq_str(part->subtype, "rfc822") || span_ieq_str(part->subtype, "global"));
}

static void make_opaque(struct mime_part *part)
{
	part->type = SPAN("APPLICATION");
	part->subtype = SPAN("OCTET-STREAM");
	part->params = part->raw_params = NULL;
}

/* Opens PARENT's next child (or the root) and, while they are messages, what is in it. */
static void open_part(struct parser *p, struct mime_part *parent, struct mime_part **link)
{
	for (;;) {
		struct mime_part *part = *link = new_part(p, parent);
		bool full = p->parts >= MIME_MAX_PARTS;
		if (!full)
			read_header(p);
		else {
			part->body = p->at; /* the rest of the message, whatever it is */
			part->lines = p->lines;
			p->depth = 0;
		}
		bool multipart = span_ieq_str(part->type, "multipart"), message = is_message(part);
		if (full || ((multipart || message) && part->depth >= MIME_MAX_DEPTH)) {
			make_opaque(part);
			return;
		}
		if (multipart) {
			span boundary = mime_param(part->raw_params, "boundary");
			if (boundary.n) {
				p->stack[p->depth].boundary = boundary;
				p->stack[p->depth].part = part;
				p->stack[p->depth++].tail = &part->child;
			}
			return;
		}
		if (!message)
			return;
		parent = part;
		link = &part->child;
	}
}

/* Ends the open parts below STOP before the line that starts at AT, LINES line ends into the
 * message. */
static void close_parts(struct parser *p, const struct mime_part *stop, size_t at, size_t lines,
			bool delimiter)
{
	size_t end = at;
	if (delimiter && end &&
	    p->in.p[end - 1] == '\n') { /* the line end belongs to the delimiter */
		end--;
		lines--;
		if (end && p->in.p[end - 1] == '\r')
			end--;
	}
	for (; p->open != stop; p->open = p->open->parent) {
		struct mime_part *part = p->open;
		bool empty = end < part->body;
		part->end = empty ? part->body : end;
		part->lines = empty ? 0 : lines - part->lines;
	}
}

struct mime_part *mime_parse(span message, struct arena *mem)
{
	if (!message.n)
		message = SPAN("");
	struct parser p = { .in = message, .mem = mem };
	struct mime_part *root = NULL;
	open_part(&p, NULL, &root);
	while (p.at < message.n) {
		size_t start = p.at, lines = p.lines;
		bool close;
		int i = match_boundary(&p, next_line(&p), &close);
		if (i < 0)
			continue;
		struct mime_part *multipart = p.stack[i].part, **link = p.stack[i].tail;
		close_parts(&p, multipart, start, lines, true);
		p.depth = (unsigned)i + !close;
		if (close)
			continue; /* the epilogue, up to a boundary further out */
		open_part(&p, multipart, link);
		p.stack[i].tail = &(*link)->next;
	}
	close_parts(&p, NULL, message.n, p.lines, false);
	return root;
}

static bool is_multipart(const struct mime_part *p)
{
	return span_ieq_str(p->type, "multipart");
}

/* Part N (from 1) of the message whose top is TOP. */
static struct mime_part *part_of_message(struct mime_part *top, unsigned n)
{
	if (!is_multipart(top))
		return n == 1 ? top : NULL;
	struct mime_part *c = top->child;
	for (; c && n > 1; n--)
		c = c->next;
	return n ? c : NULL;
}

struct mime_part *mime_part_by_path(struct mime_part *root, const unsigned *path, size_t n)
{
	struct mime_part *p = root;
	for (size_t i = 0; i < n && p; i++) {
		if (i == 0 || is_multipart(p))
			p = part_of_message(p, path[i]);
		else
			p = p->child ? part_of_message(p->child, path[i]) : NULL;
	}
	return p;
}

span mime_param(const struct mime_param *list, const char *name)
{
	for (; list; list = list->next)
		if (span_ieq_str(list->name, name))
			return list->value;
	return SPAN_NULL;
}

int mime_decode_body(span message, const struct mime_part *p, struct buf *b)
{
	span body = span_sub(message, p->body, p->end - p->body);
	if (span_ieq_str(p->encoding, "base64"))
		return base64_decode_lenient(b, body);
	if (span_ieq_str(p->encoding, "quoted-printable"))
		return qp_decode(b, body);
	return buf_put_span(b, body);
}
