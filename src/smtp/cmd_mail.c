/* HELO, EHLO, MAIL, RSET (RFC 5321 4.1.1.1, 4.1.1.2, 4.1.1.5).  Front has answered them all. */
#include "smtp/session_int.h"

#include <stdlib.h>

#include "smtp/extensions.h"

void smtp_cmd_helo(struct smtp_job *j, const struct smtp_command *c, span line)
{
	struct smtp_session *st = j->st;

	smtp_drop_mail(j->env, st, "smtp.reset");
	free(st->helo_name);
	st->helo_name = span_dup(c->text);
	st->helo = true;
	st->esmtp = c->rule->verb != SMTP_HELO;
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
	t->lmtp = smtp_is_lmtp(j->s);
	t->peer_name = arena_span(&t->mem, span_str(st->peer_name));
	t->authenticated = st->authenticated;
	t->auth_type = st->authenticated ? arena_span(&t->mem, span_str(st->auth_type)) : SPAN_NULL;
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

/* Wall time at which the message may leave, 0 for at once; false: too far away. */
static bool hold_of(struct smtp_job *j, const struct smtp_command *c, usec *ret)
{
	usec now = clock_wall(), until = c->hold_for ? now + c->hold_for : c->hold_until;

	*ret = until > now ? until : 0;
	return until <= now + j->conf->submission_hold;
}

/* What MAIL asks of the message's way; NULL: T has it. */
static const struct smtp_answer *take_terms(struct smtp_job *j, const struct smtp_command *c,
					    struct mail_transaction *t)
{
	static const struct smtp_answer too_far = { 501, "5.5.4",
						    "Held for longer than FUTURERELEASE names" },
					too_late = { 501, "5.5.4",
						     "To be delivered before it is released" };
	const struct smtp_phase phase = smtp_phase_of(j);

	t->terms = (struct queue_terms){ .by_return = c->by_return,
					 .by_trace = c->by_trace,
					 .priority = (int8_t)smtp_priority(c->priority, &phase),
					 .require_tls = c->require_tls };
	if (!hold_of(j, c, &t->held_until))
		return &too_far;
	if (c->has_by)
		t->terms.deliver_by = clock_wall() + c->by_seconds * USEC_SEC;
	return c->has_by && t->terms.deliver_by < t->held_until ? &too_late : NULL;
}

static void note_terms(const struct mail_transaction *t, struct event *e, struct arena *mem)
{
	if (t->terms.priority)
		event_str(e, "priority", arena_printf(mem, "%d", t->terms.priority), mem);
	if (t->terms.deliver_by)
		event_u64(e, "deliver_by", (uint64_t)(t->terms.deliver_by / USEC_SEC), mem);
	if (t->terms.require_tls)
		event_str(e, "require_tls", "yes", mem);
	if (t->held_until)
		event_u64(e, "held_until", (uint64_t)(t->held_until / USEC_SEC), mem);
}

static const struct smtp_answer too_many_messages = {
	450, "4.7.1", "Too many messages from your network, try again later"
};

/* A changed password, a removed app password, a suspension: whoever logged in before must do so
 * again (directory P4).  Local users have shown no password. */
static bool login_has_ended(struct smtp_job *j)
{
	const struct directory_account *a = &j->st->account;

	return j->st->authenticated && a->id[0] &&
	       !directory_is_current(j->env->directory, span_str(a->id), a->generation);
}

void smtp_cmd_mail(struct smtp_job *j, const struct smtp_command *c, span line)
{
	if (login_has_ended(j)) {
		j->quiet = false; /* where front has said 250, this answers the RCPT behind it */
		smtp_say(j, 530, "5.7.0", SPAN("Account was changed, log in again"));
		j->end = SMTP_END_CLOSE;
		return;
	}
	struct smtp_session *st = j->st;
	struct mail_transaction *t = transaction_of(j);
	struct event *e = t->events.first;
	const struct smtp_answer *a = take_terms(j, c, t);
	struct mail_verdict v;

	t->sender = smtp_address_copy(&c->path, &t->mem);
	t->declared_size = c->size;
	t->smtputf8 = c->smtputf8;
	t->body_8bit = c->body_8bit;
	t->body_binary = c->body_binary;
	t->each = c->prdr || t->lmtp;
	t->ret_full = c->ret_full;
	t->ret_hdrs = c->ret_hdrs;
	t->envid = arena_span(&t->mem, c->envid);
	event_span(e, "from", address_text(&t->sender, &t->mem), &t->mem);
	if (c->has_size)
		event_u64(e, "size", c->size, &t->mem);
	note_terms(t, e, &t->mem);
	st->mail = t;
	if (c->has_size && c->size > j->conf->max_message)
		smtp_refuse_mail(j, &smtp_answer_too_big);
	else if (a)
		smtp_refuse_mail(j, a);
	else if (!guard_take(j->env->guard, j->conf, GUARD_MESSAGES, &j->s->peer))
		smtp_refuse_mail(j, &too_many_messages);
	else if (t->submission && !sock_is_local(&t->peer) &&
		 !mail_sender_allowed(j->env, &t->account, &t->sender, &t->mem, &v))
		st->refused = v;
	if (!st->refused.code)
		smtp_say(j, 250, "2.1.0", SPAN("Sender ok"));
	else if (!j->quiet)
		smtp_say(j, st->refused.code, st->refused.enhanced, st->refused.text);
}
