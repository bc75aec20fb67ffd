/* Macros, by the names and at the stages that Sendmail and Postfix made common. */
#include "filter/milter_int.h"

#define AT(e) (1u << EVENT_##e)

static span get_hostname(const struct milter_facts *f)
{
	return f->s.hostname;
}

static span get_daemon(const struct milter_facts *f)
{
	return f->s.daemon;
}

static span get_version(const struct milter_facts *f)
{
	return SPAN("Postrider " POSTRIDER_VERSION);
}

static span get_client_addr(const struct milter_facts *f)
{
	return span_str(f->peer_ip);
}

static span get_client_port(const struct milter_facts *f)
{
	return span_str(f->peer_port);
}

static span get_client_name(const struct milter_facts *f)
{
	return f->s.peer_name.n ? f->s.peer_name : SPAN("unknown");
}

static span get_tls_version(const struct milter_facts *f)
{
	return f->s.tls_version;
}

static span get_cipher(const struct milter_facts *f)
{
	return f->s.cipher;
}

static span get_id(const struct milter_facts *f)
{
	return f->s.id;
}

static span get_auth_type(const struct milter_facts *f)
{
	return f->s.auth_type;
}

static span get_auth_user(const struct milter_facts *f)
{
	return f->s.auth_user;
}

static span host_of(span address)
{
	size_t at = span_rfind(address, '@');

	return at == SPAN_NPOS ? SPAN_NULL : span_from(address, at + 1);
}

static span get_mail_addr(const struct milter_facts *f)
{
	return f->s.sender;
}

static span get_mail_host(const struct milter_facts *f)
{
	return host_of(f->s.sender);
}

static span get_rcpt_addr(const struct milter_facts *f)
{
	return f->rcpt;
}

static span get_rcpt_host(const struct milter_facts *f)
{
	return host_of(f->rcpt);
}

static const struct {
	const char *name; /* of one letter: sent as it is, else in braces */
	unsigned events;  /* where it is sent unasked */
	span (*get)(const struct milter_facts *f);
} macros[] = {
	{ "j", AT(CONNECT), get_hostname },
	{ "daemon_name", AT(CONNECT), get_daemon },
	{ "v", AT(CONNECT), get_version },
	{ "client_addr", AT(CONNECT), get_client_addr },
	{ "client_port", AT(CONNECT), get_client_port },
	{ "client_name", AT(CONNECT), get_client_name },
	{ "client_ptr", AT(CONNECT), get_client_name },
	{ "tls_version", AT(HELO), get_tls_version },
	{ "cipher", AT(HELO), get_cipher },
	{ "i", AT(MAIL) | AT(RCPT) | AT(DATA) | AT(EOH) | AT(EOM), get_id },
	{ "auth_type", AT(MAIL), get_auth_type },
	{ "auth_authen", AT(MAIL), get_auth_user },
	{ "mail_addr", AT(MAIL), get_mail_addr },
	{ "mail_host", AT(MAIL), get_mail_host },
	{ "rcpt_addr", AT(RCPT), get_rcpt_addr },
	{ "rcpt_host", AT(RCPT), get_rcpt_host },
};

/* The command an event goes by; 0: no macros can precede it. */
static const char commands[EVENT_COUNT] = {
	[EVENT_CONNECT] = 'C', [EVENT_HELO] = 'H', [EVENT_MAIL] = 'M', [EVENT_RCPT] = 'R',
	[EVENT_DATA] = 'T',    [EVENT_EOH] = 'N',  [EVENT_EOM] = 'E',
};

/* The stages of a list of wishes (SMFIM_*), by their numbers. */
static const enum milter_event stages[] = { EVENT_CONNECT, EVENT_HELO, EVENT_MAIL, EVENT_RCPT,
					    EVENT_DATA,	   EVENT_EOM,  EVENT_EOH };

static bool is_listed(span list, const char *name)
{
	while (list.n) {
		size_t n = 0;
		span word;

		while (n < list.n && !strchr(" ,", list.p[n]))
			n++;
		word = span_sub(list, 0, n);
		list = span_from(list, n + 1);
		if (word.n > 2 && word.p[0] == '{' && word.p[word.n - 1] == '}')
			word = span_sub(word, 1, word.n - 2);
		if (span_eq_str(word, name))
			return true;
	}
	return false;
}

void milter_put_macros(struct buf *b, enum milter_event e, const struct milter_facts *f,
		       const struct milter_wishes *w)
{
	size_t at, before = b->n;
	bool any = false;

	if (!commands[e])
		return;
	at = milter_frame_begin(b, 'D');
	buf_put_char(b, commands[e]);
	for (size_t i = 0; i < ARRAY_LEN(macros); i++) {
		span value = macros[i].get(f);
		bool wanted = w->names[e].p ? is_listed(w->names[e], macros[i].name)
					    : macros[i].events & 1u << e;

		if (!value.n || !wanted || span_find(value, 0) != SPAN_NPOS)
			continue;
		buf_printf(b, macros[i].name[1] ? "{%s}" : "%s", macros[i].name);
		buf_put_char(b, 0);
		buf_put_span(b, value);
		buf_put_char(b, 0);
		any = true;
	}
	if (any)
		milter_frame_end(b, at);
	else
		buf_truncate(b, before);
}

bool milter_wishes_parse(span list, struct arena *mem, struct milter_wishes *ret)
{
	while (list.n) {
		size_t end = list.n > 4 ? span_find(span_from(list, 4), 0) : SPAN_NPOS;
		uint32_t stage;

		if (end == SPAN_NPOS)
			return false;
		stage = milter_be32(list.p);
		if (stage < ARRAY_LEN(stages))
			ret->names[stages[stage]] = arena_span(mem, span_sub(list, 4, end));
		list = span_from(list, 4 + end + 1);
	}
	return true;
}
