/* The message itself, in pieces (RFC 5321 4.1.1.4, RFC 3030): how it was framed is front's
 * business. */
#include "smtp/session_int.h"

#include <stdio.h>

#include "base/log.h"

#define REFUSING (MESSAGE_NUL | MESSAGE_BARE_CR | MESSAGE_BARE_LF)

static struct mail_verdict verdict_of_error(int e)
{
	switch (e) {
	case ERR_TOOBIG:
		return (struct mail_verdict){ 552, "5.3.4", span_str(smtp_answer_too_big.text) };
	case ERR_FULL:
		return (struct mail_verdict){ 452, "4.3.1",
					      SPAN("the disk is full, try again later") };
	default:
		return (struct mail_verdict){
			451, "4.3.0", SPAN("the message could not be stored, try again later")
		};
	}
}

/* What another server could read as the end of a message must not pass through here (SMTP
 * smuggling). */
static struct mail_verdict verdict_of_defects(unsigned defects, struct arena *mem)
{
	const char *text = arena_printf(mem, "the message contains%s%s%s",
					defects & MESSAGE_NUL ? " NUL" : "",
					defects & MESSAGE_BARE_CR ? " bare CR" : "",
					defects & MESSAGE_BARE_LF ? " bare LF" : "");

	return (struct mail_verdict){ 550, "5.6.0", span_str(text) };
}

/* *RET_RECORDED: mail_receive() has counted it and written the timeline.  No verdict (code 0): the
 * session waits for what others say. */
static struct mail_verdict judge(struct smtp_job *j, bool *ret_recorded)
{
	struct smtp_session *st = j->st;
	struct mail_transaction *t = st->mail;
	unsigned defects = t->body_binary ? 0 : (st->body_defects | t->scan.defects) & REFUSING;
	struct mail_verdict v = { 0 };

	*ret_recorded = false;
	if (st->body_error)
		return verdict_of_error(st->body_error);
	if (defects)
		return verdict_of_defects(defects, &t->mem);
	if (!mail_inspect(j->env, t)) {
		j->end = SMTP_END_WAIT;
		return v;
	}
	*ret_recorded = true;
	t->can_hold = true;
	mail_receive(j->env, t, &v);
	j->ticket = t->ticket;
	return v;
}

static void log_accepted(struct mail_transaction *t, const struct mail_verdict *v)
{
	char ip[SOCK_TEXT], delay[32];

	if (!log_enabled(LOG_INFO))
		return;
	sock_ip_text(&t->peer, ip);
	snprintf(delay, sizeof delay, "%.2g",
		 (double)MAX(clock_wall() - id_time(&t->id), 0) / USEC_SEC);
	log_event(LOG_INFO, "smtp.accepted", F_ID("id", &t->id), F_SPAN("client", smtp_client(t)),
		  F_STR("peer", ip), F_SPAN("login", t->account.address),
		  F_SPAN("from", address_text(&t->sender, &t->mem)),
		  F_SPAN("message_id", t->message_id), F_U64("rcpts", t->n_rcpts),
		  F_U64("size", t->body_size), F_SPAN("stored", t->stored), F_STR("delay", delay),
		  F_U64("code", v->code), F_STR("status", v->enhanced), F_SPAN("text", v->text));
}

/* In the order of RCPT, but not for those that a filter added. */
static void answer_each(struct smtp_job *j, const struct mail_verdict *whole)
{
	for (const struct mail_rcpt *m = j->st->mail->rcpts; m; m = m->next) {
		const struct mail_verdict *v = m->verdict.code ? &m->verdict : whole;

		if (!m->added)
			smtp_say(j, v->code, v->enhanced, v->text);
	}
}

/* LMTP answers for each recipient (RFC 2033 4.2); so does PRDR, between 353 and the answer for the
 * whole, where two recipients make sense of it and one is taken. */
static void answer(struct smtp_job *j, const struct mail_verdict *v)
{
	const struct mail_transaction *t = j->st->mail;

	if (t->lmtp) {
		answer_each(j, v);
		return;
	}
	if (t->each && t->n_rcpts > 1 && v->code < 300) {
		smtp_say(j, 353, "", SPAN("One answer per recipient follows"));
		answer_each(j, v);
	}
	smtp_say(j, v->code, v->enhanced, v->text);
}

static void finish(struct smtp_job *j)
{
	struct smtp_session *st = j->st;
	struct mail_transaction *t = st->mail;
	struct mail_verdict v;
	bool recorded;

	v = judge(j, &recorded);
	if (!v.code)
		return;
	if (v.code < 300 && !v.text.n) {
		char id[ID_TEXT];

		id_format(&t->id, id);
		v.text = span_str(arena_printf(&t->mem, "Accepted as %s", id));
	}
	if (!recorded) {
		struct event *e = event_note(&t->events, "smtp.data");

		event_u64(e, "code", v.code, &t->mem);
		event_str(e, "status", v.enhanced, &t->mem);
		event_span(e, "text", v.text, &t->mem);
		count_add(COUNT_SMTP_REJECTED, 1);
	}
	if (v.code < 300)
		log_accepted(t, &v);
	else
		smtp_log_rejected(t, SPAN_NULL, &v);
	answer(j, &v);
	if (recorded) /* nothing is left to tell */
		st->rejected = t->n_rcpts = 0;
	smtp_drop_mail(j->env, st, "smtp.refused");
}

void smtp_body_piece(struct smtp_job *j, const struct sess_in *in)
{
	struct smtp_session *st = j->st;
	bool last = in->body_flags & SESS_BODY_LAST;

	if (!st->mail || !st->mail->n_rcpts) { /* front is mistaken: never 250 for it */
		if (last)
			smtp_answer(j, &smtp_answer_need_rcpt);
		return;
	}
	if (in->again) {
		finish(j);
		return;
	}
	if (in->body_flags & SESS_BODY_BAD)
		st->body_defects |= in->body_flags >> SMTP_BODY_DEFECTS_SHIFT;
	if (!st->body_error) {
		int e = mail_body_add(j->env, st->mail, in->data, j->conf->max_message);

		st->body_error = MIN(e, 0);
	}
	if (last)
		finish(j);
}
