/* What the client says, and what the peer offers. */
#include "relay/client_int.h"

#include "format/dsn.h"

enum {
	ENVID_MAX = 100, /* RFC 3461 4.4, before xtext */
	ORCPT_MAX = 500, /* RFC 3461 4.2 */
};

static void put_orcpt(struct relay_client *c, span original)
{
	bool utf8 = c->send.smtputf8 && (c->opened.extensions & RELAY_EXT_SMTPUTF8);

	if (original.n == 0 || original.n > ORCPT_MAX)
		return;
	buf_put_str(&c->out, " ORCPT=");
	orcpt_encode(&c->out, original, utf8);
}

static void put_notify(struct buf *b, unsigned notify)
{
	static const struct {
		unsigned bit;
		const char *text;
	} names[] = {
		{ RELAY_NOTIFY_SUCCESS, "SUCCESS" },
		{ RELAY_NOTIFY_FAILURE, "FAILURE" },
		{ RELAY_NOTIFY_DELAY, "DELAY" },
	};
	const char *before = " NOTIFY=";

	if (notify & RELAY_NOTIFY_NEVER) {
		buf_put_str(b, " NOTIFY=NEVER");
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (!(notify & names[i].bit))
			continue;
		buf_put_str(b, before);
		buf_put_str(b, names[i].text);
		before = ",";
	}
}

/* Parameters of MAIL, each where the peer offers its extension. */
void client_put_mail(struct relay_client *c)
{
	const struct relay_send *s = &c->send;
	unsigned ext = c->opened.extensions;
	struct buf *b = &c->out;

	buf_put_str(b, "MAIL FROM:<");
	buf_put_span(b, s->sender);
	buf_put_char(b, '>');
	if (ext & RELAY_EXT_SIZE)
		buf_printf(b, " SIZE=%llu", (unsigned long long)s->size);
	if ((ext & RELAY_EXT_8BITMIME) && s->body_8bit)
		buf_put_str(b, " BODY=8BITMIME");
	if ((ext & RELAY_EXT_SMTPUTF8) && s->smtputf8)
		buf_put_str(b, " SMTPUTF8");
	if (ext & RELAY_EXT_DSN) {
		if (s->ret_full || s->ret_hdrs)
			buf_put_str(b, s->ret_full ? " RET=FULL" : " RET=HDRS");
		if (s->envid.n > 0 && s->envid.n <= ENVID_MAX) {
			buf_put_str(b, " ENVID=");
			xtext_encode(b, s->envid);
		}
	}
	if ((ext & RELAY_EXT_REQUIRETLS) && s->require_tls)
		buf_put_str(b, " REQUIRETLS");
	if ((ext & RELAY_EXT_MT_PRIORITY) && s->priority != 0)
		buf_printf(b, " MT-PRIORITY=%d", s->priority);
	if ((ext & RELAY_EXT_DELIVERBY) && s->by)
		buf_printf(b, " BY=%ld;%s%s", (long)s->by_seconds, s->by_return ? "R" : "N",
			   s->by_trace ? "T" : "");
	buf_put_str(b, "\r\n");
}

void client_put_rcpt(struct relay_client *c, size_t i)
{
	const struct relay_rcpt *r = &c->send.rcpts[i];
	struct buf *b = &c->out;

	buf_put_str(b, "RCPT TO:<");
	buf_put_span(b, r->address);
	buf_put_char(b, '>');
	if (c->opened.extensions & RELAY_EXT_DSN) {
		put_notify(b, r->notify);
		put_orcpt(c, r->original);
	}
	buf_put_str(b, "\r\n");
}

void client_put_hello(struct relay_client *c, const char *verb)
{
	buf_put_str(&c->out, verb);
	buf_put_char(&c->out, ' ');
	buf_put_span(&c->out, c->helo);
	buf_put_str(&c->out, "\r\n");
}

/* --- EHLO's answer --- */

/* "RCPTMAX=100 MAILMAX=5"; what is not understood is no limit (RFC 9422). */
static void limits_parse(struct relay_opened *o, span values)
{
	const struct {
		const char *name;
		uint32_t *to;
	} known[] = { { "MAILMAX", &o->mail_max },
		      { "RCPTMAX", &o->rcpt_max },
		      { "RCPTDOMAINMAX", &o->domain_max } };

	while (values.n) {
		span value = span_cut(&values, ' '), name = span_cut(&value, '=');
		uint64_t v;

		for (size_t i = 0; i < ARRAY_LEN(known); i++)
			if (span_ieq_str(name, known[i].name) && span_u64(value, 999999, &v))
				*known[i].to = (uint32_t)v;
	}
}

static void keyword_parse(struct relay_client *c, span line)
{
	static const struct {
		const char *name;
		unsigned bit;
	} known[] = {
		{ "PIPELINING", RELAY_EXT_PIPELINING },
		{ "SIZE", RELAY_EXT_SIZE },
		{ "8BITMIME", RELAY_EXT_8BITMIME },
		{ "SMTPUTF8", RELAY_EXT_SMTPUTF8 },
		{ "CHUNKING", RELAY_EXT_CHUNKING },
		{ "DSN", RELAY_EXT_DSN },
		{ "STARTTLS", RELAY_EXT_STARTTLS },
		{ "ENHANCEDSTATUSCODES", RELAY_EXT_ENHANCED },
		{ "MT-PRIORITY", RELAY_EXT_MT_PRIORITY },
		{ "DELIVERBY", RELAY_EXT_DELIVERBY },
		{ "REQUIRETLS", RELAY_EXT_REQUIRETLS },
	};
	span keyword = span_cut(&line, ' ');
	uint64_t v;

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (span_ieq_str(keyword, known[i].name))
			c->opened.extensions |= known[i].bit;
	if (span_ieq_str(keyword, "SIZE"))
		span_u64(span_trim(line), UINT64_MAX, &c->opened.max_size);
	else if (span_ieq_str(keyword, "DELIVERBY") && span_u64(span_trim(line), UINT32_MAX, &v))
		c->opened.by_min = (uint32_t)v;
	else if (span_ieq_str(keyword, "LIMITS"))
		limits_parse(&c->opened, line);
	else if (span_ieq_str(keyword, "AUTH"))
		client_auth_offer(&c->auth, line);
}

void client_ehlo_parse(struct relay_client *c, span text)
{
	struct relay_opened *o = &c->opened;
	span first = span_cut(&text, '\n');

	o->extensions = 0;
	o->max_size = 0;
	o->by_min = o->mail_max = o->rcpt_max = o->domain_max = 0;
	c->auth.offered = 0;
	o->banner_host = arena_span(&c->mem, span_sub(span_cut(&first, ' '), 0, 255));
	while (text.p)
		keyword_parse(c, span_trim(span_cut(&text, '\n')));
}
