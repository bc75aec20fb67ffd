/* HELO, EHLO, MAIL, RSET (RFC 5321 4.1.1.1, 4.1.1.2, 4.1.1.5).  Front has answered them all. */
#include "smtp/session_int.h"

#include <stdlib.h>

void smtp_cmd_helo(struct smtp_job *j, const struct smtp_command *c, span line)
{
	struct smtp_session *st = j->st;

	smtp_drop_mail(j->env, st, "smtp.reset");
	free(st->helo_name);
	st->helo_name = span_dup(c->text);
	st->helo = true;
	st->esmtp = c->rule->verb == SMTP_EHLO;
	smtp_say(j, 250, "", j->conf->hostname);
}

void smtp_cmd_rset(struct smtp_job *j, const struct smtp_command *c, span line)
{
	smtp_drop_mail(j->env, j->st, "smtp.reset");
	smtp_say(j, 250, "2.0.0", SPAN("Ok"));
}

static span tls_text(const struct sess_tls *tls, struct arena *mem)
{
	const char *version = tls->version == 0x0304 ? "TLSv1.3" : "TLSv1.2";

	return tls->active ? span_str(arena_printf(mem, "%s %.*s", version, SPAN_FMT(tls->cipher)))
			   : SPAN_NULL;
}

static void wake(void *table, uint64_t id)
{
	sess_wake(table, id);
}

/* What the session knows of who brings the message. */
static struct mail_transaction *transaction_of(struct smtp_job *j)
{
	struct mail_transaction *t = mail_transaction_new();
	const struct smtp_session *st = j->st;
	char ip[SOCK_TEXT];
	struct event *e;

	t->wake = wake;
	t->wake_arg = j->s->table;
	t->wake_id = j->s->id;
	t->peer = j->s->peer;
	t->helo = arena_span(&t->mem, span_str(st->helo_name));
	t->esmtp = st->esmtp;
	t->tls = j->s->tls.active;
	t->tls_text = tls_text(&j->s->tls, &t->mem);
	t->submission = smtp_is_submission(j->s);
	t->authenticated = st->authenticated;
	t->account = st->account;
	t->account.address = arena_span(&t->mem, st->account.address);
	sock_ip_text(&t->peer, ip);
	e = event_note(&t->events, "smtp.mail");
	event_str(e, "peer", ip, &t->mem);
	event_span(e, "helo", t->helo, &t->mem);
	if (t->tls)
		event_span(e, "tls", t->tls_text, &t->mem);
	if (t->authenticated)
		event_span(e, "account", t->account.address, &t->mem);
	return t;
}

/* No transaction can be trusted to come of it, but one is kept so that RCPT has something to be
 * refused in. */
void smtp_refuse_mail(struct smtp_job *j, const struct smtp_answer *a)
{
	if (!j->st->mail)
		j->st->mail = transaction_of(j);
	j->st->refused = (struct mail_verdict){ a->code, a->enhanced, span_str(a->text) };
}

struct address smtp_address_copy(const struct address *a, struct arena *mem)
{
	return (struct address){ .local = arena_span(mem, a->local),
				 .domain = arena_span(mem, a->domain),
				 .utf8 = a->utf8 };
}

void smtp_cmd_mail(struct smtp_job *j, const struct smtp_command *c, span line)
{
	struct smtp_session *st = j->st;
	struct mail_transaction *t = transaction_of(j);
	struct event *e = t->events.first;
	struct mail_verdict v;

	t->sender = smtp_address_copy(&c->path, &t->mem);
	t->declared_size = c->size;
	t->smtputf8 = c->smtputf8;
	t->body_8bit = c->body_8bit;
	t->ret_full = c->ret_full;
	t->ret_hdrs = c->ret_hdrs;
	t->envid = arena_span(&t->mem, c->envid);
	event_span(e, "from", address_text(&t->sender, &t->mem), &t->mem);
	if (c->has_size)
		event_u64(e, "size", c->size, &t->mem);
	st->mail = t;
	if (c->has_size && c->size > j->conf->max_message)
		smtp_refuse_mail(j, &smtp_answer_too_big);
	else if (t->submission &&
		 !mail_sender_allowed(j->env, &t->account, &t->sender, &t->mem, &v))
		st->refused = v;
	if (!st->refused.code)
		smtp_say(j, 250, "2.1.0", SPAN("Sender ok"));
	else if (!j->quiet)
		smtp_say(j, st->refused.code, st->refused.enhanced, st->refused.text);
}
