/* The state machine: advance() tells what comes next until an answer or the caller is waited for;
 * on_frame() takes the filter's words.
 *
 *   event -> command, "do not tell me" bit, "I shall not answer" bit     events[]
 *   reply -> where it is allowed, handler                                replies[]
 */
#include "filter/milter_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "filter/headers.h"

enum { /* actions (SMFIF_*) */
       ACT_ADD_HEADERS = 0x01,
       ACT_NEW_BODY = 0x02,
       ACT_ADD_RCPT = 0x04,
       ACT_DELETE_RCPT = 0x08,
       ACT_CHANGE_HEADERS = 0x10,
       ACT_QUARANTINE = 0x20,
       ACT_CHANGE_FROM = 0x40,
       ACT_ADD_RCPT_PAR = 0x80,
       ACT_WISHES = 0x100,
       ACT_ALL = 0x1ff
};
enum { /* protocol steps (SMFIP_*) that we offer: all but rejected recipients and larger frames */
       STEP_SKIP = 0x400,
       STEP_LEADING_SPACE = 0x100000,
       STEP_ALL = 0x1ff7ff
};
enum { VERSION = 6, VERSION_MIN = 2, VERSION_DATA = 4 };

static const struct {
	char command;
	uint32_t skipped, unanswered;
} events[EVENT_COUNT] = {
	[EVENT_NEGOTIATE] = { 'O', 0, 0 },     [EVENT_CONNECT] = { 'C', 0x1, 0x1000 },
	[EVENT_HELO] = { 'H', 0x2, 0x2000 },   [EVENT_MAIL] = { 'M', 0x4, 0x4000 },
	[EVENT_RCPT] = { 'R', 0x8, 0x8000 },   [EVENT_DATA] = { 'T', 0x200, 0x10000 },
	[EVENT_HEADER] = { 'L', 0x20, 0x80 },  [EVENT_EOH] = { 'N', 0x40, 0x40000 },
	[EVENT_BODY] = { 'B', 0x10, 0x80000 }, [EVENT_EOM] = { 'E', 0, 0 },
};

struct milter {
	struct arena mem;
	struct buf in, out, new_body;
	enum milter_state state;
	enum milter_event at; /* to be told next; while WAITING: told, and not answered yet */
	bool waiting, over, ended;
	bool skip_body, body_ended;
	uint32_t version, actions, steps;
	struct milter_wishes wishes;
	struct milter_facts facts;
	span *rcpts; /* to tell */
	size_t n_rcpts, rcpt;
	span header;
	size_t header_at;
	struct filter_result result;
	struct filter_edit edits[FILTER_EDITS_MAX];
	size_t edit_bytes;
	uint64_t progress;
};

/* ------------------------------------------------------------------ frames */

uint32_t milter_be32(const char *p)
{
	const uint8_t *u = (const uint8_t *)p;

	return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

void milter_put_be32(struct buf *b, uint32_t v)
{
	char p[4] = { (char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v };

	buf_put(b, p, sizeof p);
}

size_t milter_frame_begin(struct buf *b, char command)
{
	size_t at = b->n;

	milter_put_be32(b, 0);
	buf_put_char(b, command);
	return at;
}

void milter_frame_end(struct buf *b, size_t at)
{
	uint32_t n = (uint32_t)(b->n - at - 4);

	if (b->failed)
		return;
	for (int i = 0; i < 4; i++)
		b->p[at + (size_t)i] = (char)(n >> (24 - 8 * i));
}

/* A string of the protocol ends at its NUL, so none may be within. */
static void put_string(struct buf *b, span s)
{
	buf_put_span(b, span_sub(s, 0, span_find(s, 0)));
	buf_put_char(b, 0);
}

/* The next string of *S; false: there is no NUL. */
static bool cut_string(span *s, span *ret)
{
	size_t n = span_find(*s, 0);

	if (n == SPAN_NPOS)
		return false;
	*ret = span_sub(*s, 0, n);
	*s = span_from(*s, n + 1);
	return true;
}

/* ------------------------------------------------------------------ telling */

static void fail(struct milter *m, const char *why)
{
	m->result = (struct filter_result){ .action = FILTER_FAILED, .text = span_str(why) };
	m->over = true;
	m->waiting = false;
	m->state = MILTER_PARKED;
}

static void put_negotiate(struct milter *m)
{
	milter_put_be32(&m->out, VERSION);
	milter_put_be32(&m->out, ACT_ALL);
	milter_put_be32(&m->out, STEP_ALL);
}

static void put_connect(struct milter *m)
{
	const struct sockaddr_any *peer = &m->facts.s.peer;
	uint16_t port = sock_port(peer);

	put_string(&m->out, m->facts.s.peer_name.n ? m->facts.s.peer_name : SPAN("unknown"));
	buf_put_char(&m->out, peer->sa.sa_family == AF_INET6 ? '6' : '4');
	buf_put_char(&m->out, (char)(port >> 8));
	buf_put_char(&m->out, (char)port);
	put_string(&m->out, span_str(m->facts.peer_ip));
}

static void put_path(struct buf *b, span address)
{
	buf_put_char(b, '<');
	buf_put_span(b, address);
	put_string(b, SPAN(">"));
}

static void put_mail(struct milter *m)
{
	put_path(&m->out, m->facts.s.sender);
	if (m->facts.s.size) {
		buf_printf(&m->out, "SIZE=%llu", (unsigned long long)m->facts.s.size);
		buf_put_char(&m->out, 0);
	}
	if (m->facts.s.body_8bit)
		put_string(&m->out, SPAN("BODY=8BITMIME"));
	if (m->facts.s.smtputf8)
		put_string(&m->out, SPAN("SMTPUTF8"));
}

/* Lines within a value end in LF here.  Filters that did not ask for it do not see the space that
 * follows the colon. */
static void put_header(struct milter *m, const struct header_field *f)
{
	span value = span_sub(f->value, 0, span_find(f->value, 0));

	if (!(m->steps & STEP_LEADING_SPACE) && value.n && value.p[0] == ' ')
		value = span_from(value, 1);
	put_string(&m->out, f->name);
	for (size_t i = 0; i < value.n; i++)
		if (value.p[i] != '\r')
			buf_put_char(&m->out, value.p[i]);
	buf_put_char(&m->out, 0);
}

static void put_event(struct milter *m)
{
	switch (m->at) {
	case EVENT_NEGOTIATE:
		put_negotiate(m);
		break;
	case EVENT_CONNECT:
		put_connect(m);
		break;
	case EVENT_HELO:
		put_string(&m->out, m->facts.s.helo);
		break;
	case EVENT_MAIL:
		put_mail(m);
		break;
	case EVENT_RCPT:
		put_path(&m->out, m->rcpts[m->rcpt]);
		break;
	default: /* without words */
		break;
	}
}

static bool is_told(const struct milter *m, enum milter_event e)
{
	if (m->steps & events[e].skipped)
		return false;
	return e != EVENT_DATA || m->version >= VERSION_DATA;
}

/* Tells event M->at, whose words PUT has; then an answer is waited for, or not. */
static void tell(struct milter *m, const struct header_field *f, span piece)
{
	size_t at;

	m->facts.rcpt = m->at == EVENT_RCPT ? m->rcpts[m->rcpt] : SPAN_NULL;
	milter_put_macros(&m->out, m->at, &m->facts, &m->wishes);
	at = milter_frame_begin(&m->out, events[m->at].command);
	if (f)
		put_header(m, f);
	else
		put_event(m);
	buf_put_span(&m->out, piece);
	milter_frame_end(&m->out, at);
	m->waiting = !(m->steps & events[m->at].unanswered);
}

/* ------------------------------------------------------------------ going on */

static void park(struct milter *m)
{
	m->state = MILTER_PARKED;
}

/* The next header field, or the step behind the header. */
static void advance_header(struct milter *m)
{
	struct header_field f;

	if (is_told(m, EVENT_HEADER) && header_next_field(m->header, &m->header_at, &f))
		tell(m, &f, SPAN_NULL);
	else
		m->at = EVENT_EOH;
}

static void advance_rcpt(struct milter *m)
{
	if (m->rcpt == m->n_rcpts)
		park(m);
	else if (!is_told(m, EVENT_RCPT))
		m->rcpt = m->n_rcpts;
	else {
		tell(m, NULL, SPAN_NULL);
		if (!m->waiting)
			m->rcpt++;
	}
}

static void advance_body(struct milter *m)
{
	if (m->body_ended || m->skip_body || !is_told(m, EVENT_BODY))
		m->at = EVENT_EOM;
	else
		m->state = MILTER_BODY;
}

/* One step; whatever waits for nothing leads on to the next. */
static void advance_once(struct milter *m)
{
	switch (m->at) {
	case EVENT_RCPT:
		advance_rcpt(m);
		break;
	case EVENT_HEADER:
		advance_header(m);
		break;
	case EVENT_BODY:
		advance_body(m);
		break;
	default:
		if (is_told(m, m->at))
			tell(m, NULL, SPAN_NULL);
		if (!m->waiting)
			m->at++;
	}
}

static void advance(struct milter *m)
{
	while (m->state == MILTER_BUSY && !m->waiting)
		advance_once(m);
	if (m->out.failed)
		fail(m, "what it is to be told is too large");
}

/* The filter is content with what it was told. */
static void go_on(struct milter *m)
{
	m->waiting = false;
	switch (m->at) {
	case EVENT_RCPT:
		m->rcpt++;
		break;
	case EVENT_HEADER:
	case EVENT_BODY: /* more of it may follow */
		break;
	case EVENT_EOM:
		m->over = m->ended = true;
		park(m);
		break;
	default:
		m->at++;
	}
	advance(m);
}

/* A verdict that stands for the recipient at hand, or for the whole message. */
static void conclude(struct milter *m, bool whole)
{
	m->waiting = false;
	m->over |= whole;
	if (m->at == EVENT_RCPT)
		m->rcpt = m->n_rcpts;
	park(m);
}

/* ------------------------------------------------------------------ verdicts */

static void on_continue(struct milter *m, span data)
{
	go_on(m);
}

static void on_accept(struct milter *m, span data)
{
	m->result.action = FILTER_ACCEPT;
	conclude(m, true);
}

static void on_discard(struct milter *m, span data)
{
	m->result.action = FILTER_DISCARD;
	conclude(m, true);
}

static void on_refusal(struct milter *m, enum filter_action action)
{
	m->result.action = action;
	conclude(m, m->at != EVENT_RCPT);
}

static void on_reject(struct milter *m, span data)
{
	on_refusal(m, FILTER_REJECT);
}

static void on_tempfail(struct milter *m, span data)
{
	on_refusal(m, FILTER_TEMPFAIL);
}

/* "%%" is how libmilter's users write a percent sign. */
static span unescape(span s, struct arena *mem)
{
	char *p = arena_cstr(mem, s);
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++) {
		p[n++] = s.p[i];
		if (s.p[i] == '%' && i + 1 < s.n && s.p[i + 1] == '%')
			i++;
	}
	return span_of(p, n);
}

static void on_replycode(struct milter *m, span data)
{
	span text;

	if (!cut_string(&data, &text) ||
	    filter_reply_parse(unescape(text, &m->mem), &m->mem, &m->result) < 0)
		fail(m, "its reply is no SMTP reply");
	else
		on_refusal(m, m->result.action);
}

static void on_skip(struct milter *m, span data)
{
	m->skip_body = true;
	go_on(m);
}

static void on_progress(struct milter *m, span data)
{
}

static void on_gone(struct milter *m, span data)
{
	fail(m, "it closes down");
}

static void on_options(struct milter *m, span data)
{
	if (data.n < 12) {
		fail(m, "its options are cut off");
		return;
	}
	m->version = milter_be32(data.p);
	m->actions = milter_be32(data.p + 4);
	m->steps = milter_be32(data.p + 8);
	if (m->version < VERSION_MIN || m->version > VERSION)
		fail(m, "it speaks another version of the protocol");
	else if (m->actions & ~(uint32_t)ACT_ALL || m->steps & ~(uint32_t)STEP_ALL)
		fail(m, "it wants what it was not offered");
	else if (!milter_wishes_parse(span_from(data, 12), &m->mem, &m->wishes))
		fail(m, "its list of macros is malformed");
	else
		go_on(m);
}

/* ------------------------------------------------------------------ changes */

static void add_edit(struct milter *m, enum filter_edit_kind kind, uint32_t index, span name,
		     span value)
{
	struct filter_edit *e = &m->edits[m->result.n_edits];

	if (m->result.n_edits == FILTER_EDITS_MAX ||
	    m->edit_bytes + name.n + value.n > FILTER_EDIT_BYTES_MAX) {
		fail(m, "it wants too many changes");
		return;
	}
	m->edit_bytes += name.n + value.n;
	*e = (struct filter_edit){ kind, index, arena_span(&m->mem, name), value };
	m->result.edits = m->edits;
	m->result.n_edits++;
}

/* DATA: name, value; VALUE becomes what stands behind the colon. */
static void edit_header(struct milter *m, enum filter_edit_kind kind, uint32_t index, span data)
{
	bool spaced = m->steps & STEP_LEADING_SPACE;
	span name, value;

	if (!cut_string(&data, &name) || !cut_string(&data, &value) || !header_name_valid(name)) {
		fail(m, "a header field of its is malformed");
		return;
	}
	if (value.n || kind != FILTER_CHANGE_HEADER)
		value = filter_header_value(value, !spaced, &m->mem);
	add_edit(m, kind, index, name, value);
}

static void on_add_header(struct milter *m, span data)
{
	edit_header(m, FILTER_ADD_HEADER, 0, data);
}

static void on_indexed(struct milter *m, enum filter_edit_kind kind, span data)
{
	if (data.n < 4)
		fail(m, "a header field of its is malformed");
	else
		edit_header(m, kind, milter_be32(data.p), span_from(data, 4));
}

static void on_insert_header(struct milter *m, span data)
{
	on_indexed(m, FILTER_INSERT_HEADER, data);
}

static void on_change_header(struct milter *m, span data)
{
	on_indexed(m, FILTER_CHANGE_HEADER, data);
}

static void on_address(struct milter *m, enum filter_edit_kind kind, span data)
{
	span address;

	if (!cut_string(&data, &address) ||
	    !filter_address_ok(address)) /* ESMTP arguments may follow: they change nothing here */
		fail(m, "an address of its is malformed");
	else
		add_edit(m, kind, 0, SPAN_NULL, arena_span(&m->mem, address));
}

static void on_add_rcpt(struct milter *m, span data)
{
	on_address(m, FILTER_ADD_RCPT, data);
}

static void on_delete_rcpt(struct milter *m, span data)
{
	on_address(m, FILTER_DELETE_RCPT, data);
}

static void on_change_from(struct milter *m, span data)
{
	on_address(m, FILTER_CHANGE_FROM, data);
}

static void on_new_body(struct milter *m, span data)
{
	m->result.new_body = true;
	if (buf_put_span(&m->new_body, data) < 0)
		fail(m, "its new body comes too fast");
}

static void on_quarantine(struct milter *m, span data)
{
	span why;

	m->result.quarantine = true;
	if (cut_string(&data, &why))
		m->result.quarantine_text = filter_line(why, &m->mem);
}

/* ------------------------------------------------------------------ hearing */

enum {
	IN_OPTIONS = 1u << EVENT_NEGOTIATE,
	IN_BODY = 1u << EVENT_BODY,
	IN_END = 1u << EVENT_EOM,
	IN_ALL = (1u << EVENT_COUNT) - 1,
	IN_TALK = IN_ALL & ~IN_OPTIONS
};

static const struct {
	char command;
	unsigned events; /* after which it may come */
	uint32_t action; /* that must have been negotiated; 0: none */
	void (*fn)(struct milter *m, span data);
} replies[] = {
	{ 'O', IN_OPTIONS, 0, on_options },
	{ 'c', IN_TALK, 0, on_continue },
	{ 'a', IN_TALK, 0, on_accept },
	{ 'r', IN_TALK, 0, on_reject },
	{ 't', IN_TALK, 0, on_tempfail },
	{ 'd', IN_TALK, 0, on_discard },
	{ 'y', IN_TALK, 0, on_replycode },
	{ 's', IN_BODY, 0, on_skip },
	{ 'p', IN_ALL, 0, on_progress },
	{ 'f', IN_ALL, 0, on_gone },
	{ '4', IN_ALL, 0, on_gone },
	{ 'h', IN_END, ACT_ADD_HEADERS, on_add_header },
	{ 'i', IN_END, ACT_ADD_HEADERS, on_insert_header },
	{ 'm', IN_END, ACT_CHANGE_HEADERS, on_change_header },
	{ 'e', IN_END, ACT_CHANGE_FROM, on_change_from },
	{ '+', IN_END, ACT_ADD_RCPT, on_add_rcpt },
	{ '2', IN_END, ACT_ADD_RCPT_PAR, on_add_rcpt },
	{ '-', IN_END, ACT_DELETE_RCPT, on_delete_rcpt },
	{ 'b', IN_END, ACT_NEW_BODY, on_new_body },
	{ 'q', IN_END, ACT_QUARANTINE, on_quarantine },
};

static void on_frame(struct milter *m, char command, span data)
{
	m->progress++;
	for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
		if (replies[i].command != command || !(replies[i].events & 1u << m->at))
			continue;
		if (replies[i].action && !(m->actions & replies[i].action))
			break;
		replies[i].fn(m, data);
		return;
	}
	fail(m, "it gave an answer that does not belong there");
}

/* Takes as many frames as are waited for. */
static void hear(struct milter *m)
{
	size_t at = 0;

	while (m->waiting && m->in.n - at >= 5) {
		uint32_t n = milter_be32(m->in.p + at);

		if (n == 0 || n > MILTER_FRAME_MAX) {
			fail(m, "it does not speak the milter protocol");
			break;
		}
		if (m->in.n - at - 4 < n)
			break;
		on_frame(m, m->in.p[at + 4], span_of(m->in.p + at + 5, n - 1));
		at += 4 + n;
	}
	buf_consume(&m->in, at);
}

void milter_feed(struct milter *m, span bytes)
{
	if (m->over)
		return;
	if (buf_put_span(&m->in, bytes) < 0)
		fail(m, "it says more than it was asked");
	hear(m);
}

/* ------------------------------------------------------------------ the caller's side */

struct milter *milter_new(const struct filter_session *s)
{
	struct milter *m = xcalloc(1, sizeof *m);
	struct filter_session *f = &m->facts.s;
	span *const texts[] = { &f->id,	       &f->hostname,	&f->daemon, &f->peer_name,
				&f->helo,      &f->tls_version, &f->cipher, &f->auth_type,
				&f->auth_user, &f->sender };

	arena_init(&m->mem);
	buf_init(&m->in, MILTER_FRAME_MAX + 256 * 1024);
	buf_init(&m->out, 4 * 1024 * 1024);
	buf_init(&m->new_body, 1024 * 1024);
	*f = *s;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		*texts[i] = arena_span(&m->mem, *texts[i]);
	sock_ip_text(&s->peer, m->facts.peer_ip);
	snprintf(m->facts.peer_port, sizeof m->facts.peer_port, "%u", sock_port(&s->peer));
	m->steps = 0;
	m->state = MILTER_BUSY;
	m->at = EVENT_NEGOTIATE;
	advance(m);
	return m;
}

void milter_free(struct milter *m)
{
	if (!m)
		return;
	buf_done(&m->in);
	buf_done(&m->out);
	buf_done(&m->new_body);
	arena_done(&m->mem);
	free(m);
}

enum milter_state milter_state(const struct milter *m)
{
	return m->state;
}

bool milter_over(const struct milter *m)
{
	return m->over;
}

const struct filter_result *milter_result(const struct milter *m)
{
	return &m->result;
}

static void begin(struct milter *m)
{
	m->result = (struct filter_result){ .action = FILTER_CONTINUE };
	m->state = MILTER_BUSY;
}

void milter_rcpts(struct milter *m, const span *r, size_t n)
{
	m->rcpts = arena_array(&m->mem, span, n);
	for (size_t i = 0; i < n; i++)
		m->rcpts[i] = arena_span(&m->mem, r[i]);
	m->n_rcpts = n;
	m->rcpt = 0;
	begin(m);
	advance(m);
	hear(m);
}

void milter_message(struct milter *m, span header)
{
	m->header = header;
	m->header_at = 0;
	m->at = EVENT_DATA;
	begin(m);
	advance(m);
	hear(m);
}

void milter_body(struct milter *m, span piece)
{
	m->state = MILTER_BUSY;
	if (piece.n)
		tell(m, NULL, piece);
	else
		m->body_ended = true;
	advance(m);
	hear(m);
}

struct buf *milter_out(struct milter *m)
{
	return &m->out;
}

struct buf *milter_new_body(struct milter *m)
{
	return &m->new_body;
}

void milter_fail(struct milter *m, span why)
{
	if (m->over)
		return;
	fail(m, "");
	m->result.text = filter_line(why, &m->mem);
}

void milter_quit(struct milter *m)
{
	size_t at;

	if (m->over && !m->ended && m->result.action == FILTER_FAILED)
		return; /* it would not listen */
	if (!m->ended) {
		at = milter_frame_begin(&m->out, 'A');
		milter_frame_end(&m->out, at);
	}
	at = milter_frame_begin(&m->out, 'Q');
	milter_frame_end(&m->out, at);
}

uint64_t milter_progress(const struct milter *m)
{
	return m->progress;
}

bool milter_ending(const struct milter *m)
{
	return m->at == EVENT_EOM;
}
