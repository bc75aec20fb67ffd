#include "base/maillog.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define VALUE_MAX   1000
#define AUTH_FAILED "warning: unknown[{peer}]: SASL authentication failed, sasl_username={login}"

struct line {
	struct buf *b;
	usec time;
	const struct log_field *fields;
};

static const struct log_field *find(const struct line *l, const char *key)
{
	const struct log_field *f = l->fields;

	while (f->type != LOG_F_END && strcmp(f->key, key) != 0)
		f++;
	return f->type == LOG_F_END ? NULL : f;
}

static bool has(const struct line *l, const char *key)
{
	const struct log_field *f = find(l, key);

	return f && (f->type != LOG_F_SPAN || f->s.n);
}

static void put_field(struct buf *b, const struct log_field *f)
{
	char id[ID_TEXT];

	switch (f->type) {
	case LOG_F_U64:
		buf_put_u64(b, f->u);
		break;
	case LOG_F_I64:
		buf_printf(b, "%lld", (long long)f->i);
		break;
	case LOG_F_ID:
		id_format(f->id, id);
		buf_put_str(b, id);
		break;
	default:
		buf_put_escaped(b, f->s, VALUE_MAX);
		break;
	}
}

static void put_template(const struct line *l, span text);

static void put_head(const struct line *l, const char *part)
{
	static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
					      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	char host[65] = "localhost";
	time_t t = (time_t)(l->time / USEC_SEC);
	struct tm tm;

	gethostname(host, sizeof host - 1);
	host[strcspn(host, ".")] = '\0';
	localtime_r(&t, &tm);
	buf_printf(l->b, "%s %2d %02d:%02d:%02d %s postrider/", months[tm.tm_mon], tm.tm_mday,
		   tm.tm_hour, tm.tm_min, tm.tm_sec, host);
	put_template(l, span_str(part));
	buf_printf(l->b, "[%d]: ", (int)getpid());
}

/* What is written for an event: all rows that fit, in order.  "{key}" stands for a field. */
static const struct row {
	const char *event;
	const char *needs, *lacks; /* fields; NULL: whatever there is */
	const char *part;
	const char *text;
} rows[] = {
	{ "smtp.accepted", NULL, "login", "smtpd", "{id}: client={client}[{peer}]" },
	{ "smtp.accepted", "login", NULL, "smtpd",
	  "{id}: client={client}[{peer}], sasl_username={login}" },
	{ "smtp.accepted", "message_id", NULL, "cleanup", "{id}: message-id={message_id}" },
	{ "smtp.accepted", NULL, NULL, "qmgr",
	  "{id}: from=<{from}>, size={size}, nrcpt={rcpts} (queue active)" },
	{ "smtp.accepted", "stored", NULL, "local",
	  "{id}: to=<{stored}>, relay=local, delay={delay}, delays={delay}/0/0/0, dsn=2.1.5, "
	  "status=sent (delivered to mailbox)" },
	{ "smtp.accepted", "stored", NULL, "qmgr", "{id}: removed" },
	{ "smtp.rejected", "to", NULL, "smtpd",
	  "NOQUEUE: reject: RCPT from {client}[{peer}]: {code} {status} <{to}>: {text}; "
	  "from=<{from}> "
	  "to=<{to}> proto={proto} helo=<{helo}>" },
	{ "smtp.rejected", NULL, "to", "smtpd",
	  "{id}: reject: END-OF-MESSAGE from {client}[{peer}]: {code} {status} {text}; "
	  "from=<{from}> "
	  "proto={proto} helo=<{helo}>" },
	{ "smtp.auth_failed", NULL, NULL, "smtpd", AUTH_FAILED },
	{ "imap.auth_failed", NULL, NULL, "imap", AUTH_FAILED },
	{ "pop3.auth_failed", NULL, NULL, "pop3", AUTH_FAILED },
	{ "mail.rcpt", NULL, NULL, "{part}",
	  "{id}: to=<{to}>, relay={relay}, delay={delay}, delays={delays}, dsn={status}, "
	  "status={outcome} ({reply})" },
};

static void put_template(const struct line *l, span text)
{
	while (text.n) {
		size_t open = span_find(text, '{'), close = span_find(text, '}');
		const struct log_field *f;
		char key[32];

		buf_put_span(l->b, span_sub(text, 0, open));
		if (open == SPAN_NPOS)
			return;
		snprintf(key, sizeof key, "%.*s", (int)(close - open - 1), text.p + open + 1);
		f = find(l, key);
		if (f)
			put_field(l->b, f);
		text = span_from(text, close + 1);
	}
}

static void put_row(const struct line *l, const struct row *r)
{
	put_head(l, r->part);
	put_template(l, span_str(r->text));
	buf_put_char(l->b, '\n');
}

void maillog_put(struct buf *b, usec time, const char *role, const char *event,
		 const struct log_field *f)
{
	const struct line l = { .b = b, .time = time, .fields = f };
	bool known = false;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct row *r = &rows[i];

		if (strcmp(event, r->event) != 0)
			continue;
		known = true;
		if ((!r->needs || has(&l, r->needs)) && !(r->lacks && has(&l, r->lacks)))
			put_row(&l, r);
	}
	if (known)
		return;
	put_head(&l, role);
	buf_put_str(b, event);
	for (; f->type != LOG_F_END; f++) {
		buf_printf(b, " %s=", f->key);
		put_field(b, f);
	}
	buf_put_char(b, '\n');
}
