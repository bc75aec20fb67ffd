/* Address lists of header fields (RFC 5322 3.4 and 4.4), read the way people's mail programs write
 * them.  One forward pass; what was read is never read again, so hostile lists cost linear time. */
#include "format/address.h"

#include "format/text_int.h"

struct list {
	span in;
	size_t at;
	struct arena *mem;
	struct mailbox_address *ret;
	size_t n, max, bad;
	bool in_group;
	bool one_run; /* the words of the entry are one dot-joined run */
	/* of the entry being read; emptied for each entry, allocated once */
	struct buf phrase; /* all words so far, as they look */
	struct buf local;  /* the last dot-joined run of them: a local part if "@" follows */
	struct buf domain;
	span comment;
};

static char peek(const struct list *l)
{
	return l->at < l->in.n ? l->in.p[l->at] : 0;
}

static bool at_end(const struct list *l)
{
	return l->at >= l->in.n;
}

static bool is_word_char(char c)
{
	return text_is(c, CH_ATEXT) || (c & 0x80);
}

/* Length of the encoded-word at S, 0 if there is none.  They may carry "," or "@" raw, against the
 * rules but seen daily, and must stay one word. */
static size_t encoded_word(span s)
{
	if (!span_starts(s, SPAN("=?")))
		return 0;
	unsigned marks = 0;
	for (size_t i = 2; i < s.n && i < 256; i++) {
		if (text_is_space(s.p[i]))
			return 0;
		if (s.p[i] == '?' && ++marks == 3)
			return i + 1 < s.n && s.p[i + 1] == '=' ? i + 2 : 0;
	}
	return 0;
}

/* Reads one word or dot into phrase and local; false when something else stands there. */
static bool read_word(struct list *l, bool spaced, bool *joined)
{
	char c = peek(l);
	if (at_end(l) || !(c == '"' || c == '.' || is_word_char(c)))
		return false;
	if (c != '.' && !*joined) {
		buf_reset(&l->local);
		l->one_run = false;
	}
	if (spaced && l->phrase.n)
		buf_put_char(&l->phrase, ' ');
	*joined = c == '.';
	size_t from = l->phrase.n;
	if (c == '"') {
		if (!text_quoted(l->in, &l->at, &l->phrase))
			l->bad++;
	} else if (c == '.') {
		buf_put_char(&l->phrase, '.');
		l->at++;
	} else {
		size_t start = l->at, word = encoded_word(span_from(l->in, l->at));
		l->at += word;
		while (!word && !at_end(l) && is_word_char(peek(l)))
			l->at++;
		buf_put(&l->phrase, l->in.p + start, l->at - start);
	}
	buf_put_span(&l->local, span_from(buf_span(&l->phrase), from));
	return true;
}

static void read_words(struct list *l)
{
	bool joined = true;
	l->one_run = true;
	for (;;) {
		bool spaced = text_skip_cfws(l->in, &l->at, &l->comment);
		if (!read_word(l, spaced, &joined))
			return;
	}
}

/* Behind "@": a domain or a literal into l->domain. */
static void read_domain(struct list *l)
{
	buf_reset(&l->domain);
	text_skip_cfws(l->in, &l->at, &l->comment);
	if (peek(l) == '[') {
		span rest = span_from(l->in, l->at);
		size_t n = span_find(rest, ']');
		n = n == SPAN_NPOS ? rest.n : n + 1;
		for (size_t i = 0; i < n; i++)
			if (!text_is_space(rest.p[i]))
				buf_put_char(&l->domain, rest.p[i]);
		l->at += n;
		text_skip_cfws(l->in, &l->at, &l->comment);
		return;
	}
	for (bool want_label = true;; want_label = !want_label) {
		size_t start = l->at;
		if (want_label)
			while (!at_end(l) && is_word_char(peek(l)))
				l->at++;
		else if (peek(l) == '.')
			l->at++;
		if (l->at == start)
			return;
		buf_put(&l->domain, l->in.p + start, l->at - start);
		text_skip_cfws(l->in, &l->at, &l->comment);
	}
}

static void add(struct list *l, int kind, span display, span route)
{
	/* the last slot is kept for the end of an open group, so that groups always balance */
	if (l->n + (l->in_group && kind != MAILBOX_GROUP_END) >= l->max) {
		l->at = l->in.n;
		return;
	}
	struct mailbox_address *a = &l->ret[l->n++];
	*a = (struct mailbox_address){ .kind = kind };
	if (display.n)
		a->display = arena_span(l->mem, display);
	if (kind != MAILBOX_ADDR)
		return;
	a->local = arena_span(l->mem, buf_span(&l->local));
	a->domain = arena_span(l->mem, buf_span(&l->domain));
	a->route = route;
}

/* "<" [ "@a,@b:" ] addr-spec ">" with l->at behind the "<". */
static void read_angle(struct list *l)
{
	span route = SPAN_NULL;
	size_t start = l->at;
	while (peek(l) == '@' || (peek(l) == ',' && l->at > start)) {
		l->at++;
		read_domain(l);
	}
	if (l->at > start) {
		route = span_sub(l->in, start, l->at - start);
		if (peek(l) == ':')
			l->at++;
	}
	size_t display = l->phrase.n;
	buf_reset(&l->local);
	buf_reset(&l->domain);
	read_words(l);
	if (peek(l) == '@') {
		l->at++;
		read_domain(l);
	}
	bool closed = peek(l) == '>';
	l->at += closed;
	if (!closed || !l->one_run)
		l->bad++;
	if (l->local.n || l->domain.n)
		add(l, MAILBOX_ADDR, span_sub(buf_span(&l->phrase), 0, display), route);
	else if (closed)
		l->bad++;
}

/* Whatever stands before the next separator is not understood. */
static void skip_rest(struct list *l)
{
	text_skip_cfws(l->in, &l->at, NULL);
	bool junk = false;
	while (!at_end(l) && peek(l) != ',' && peek(l) != ';') {
		junk = true;
		if (peek(l) == '"') {
			text_quoted(l->in, &l->at, &l->phrase);
			continue;
		}
		if (!text_skip_cfws(l->in, &l->at, NULL))
			l->at++;
	}
	l->bad += junk;
}

/* words "@" domain; "a@b <c@d>" means c@d, and a@b is how it looks. */
static void read_bare(struct list *l)
{
	l->at++;
	l->comment = SPAN_NULL;
	read_domain(l);
	buf_put_char(&l->phrase, '@');
	buf_put_span(&l->phrase, buf_span(&l->domain));
	if (peek(l) == '<') {
		l->at++;
		read_angle(l);
		return;
	}
	if (!l->one_run || !l->domain.n)
		l->bad++;
	if (l->local.n && l->domain.n) /* "a@b (Real Name)" is how it was written before 1982 */
		add(l, MAILBOX_ADDR, span_trim(l->comment), SPAN_NULL);
}

static void read_entry(struct list *l)
{
	buf_reset(&l->phrase);
	buf_reset(&l->local);
	buf_reset(&l->domain);
	l->comment = SPAN_NULL;
	read_words(l);
	char c = peek(l);
	if (c == '<') {
		l->at++;
		read_angle(l);
	} else if (c == '@') {
		read_bare(l);
	} else if (c == ':' && !l->in_group) {
		l->at++;
		if (l->n + 2 > l->max) {
			l->at = l->in.n;
			return;
		}
		add(l, MAILBOX_GROUP_START, buf_span(&l->phrase), SPAN_NULL);
		l->in_group = true;
		return;
	} else if (l->phrase.n && l->one_run) {
		add(l, MAILBOX_ADDR, SPAN_NULL,
		    SPAN_NULL); /* "root": a user of the sending machine */
	} else if (l->phrase.n) {
		l->bad++;
	}
	skip_rest(l);
}

size_t address_list_parse(span value, struct arena *mem, struct mailbox_address *ret, size_t max,
			  size_t *ret_bad)
{
	struct list l = { .in = value, .mem = mem, .ret = ret, .max = max };
	buf_init(&l.phrase, 4 * value.n + 16); /* an entry's words and separators, never more */
	buf_init(&l.local, value.n + 16);
	buf_init(&l.domain, value.n + 16);
	while (l.n < max) {
		text_skip_cfws(l.in, &l.at, NULL);
		if (at_end(&l))
			break;
		char c = peek(&l);
		if (c == ',') {
			l.at++;
		} else if (c == ';') {
			l.at++;
			if (l.in_group)
				add(&l, MAILBOX_GROUP_END, SPAN_NULL, SPAN_NULL);
			l.in_group = false;
		} else {
			read_entry(&l);
		}
	}
	if (l.in_group)
		add(&l, MAILBOX_GROUP_END, SPAN_NULL, SPAN_NULL);
	buf_done(&l.phrase);
	buf_done(&l.local);
	buf_done(&l.domain);
	if (ret_bad)
		*ret_bad = l.bad;
	return l.n;
}
