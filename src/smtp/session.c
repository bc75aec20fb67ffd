/* Core's half of SMTP: reads every command again and keeps the session's truth.  The commands
 * themselves are in cmd_*.c. */
#include "smtp/session_int.h"

#include <stdlib.h>

#include "base/log.h"
#include "format/reply.h"
#include "sys/net.h"

static smtp_command_fn *const handlers[SMTP_VERB_COUNT] = {
	[SMTP_HELO] = smtp_cmd_helo, [SMTP_EHLO] = smtp_cmd_helo,
	[SMTP_MAIL] = smtp_cmd_mail, [SMTP_RCPT] = smtp_cmd_rcpt,
	[SMTP_RSET] = smtp_cmd_rset, [SMTP_STARTTLS] = smtp_cmd_starttls,
	[SMTP_AUTH] = smtp_cmd_auth, [SMTP_LHLO] = smtp_cmd_helo,
	[SMTP_ETRN] = smtp_cmd_etrn, [SMTP_XCLIENT] = smtp_cmd_xclient,
};

void smtp_say(struct smtp_job *j, unsigned code, const char *enhanced, span text)
{
	if (!j->quiet)
		smtp_reply_put(sess_out(j->s), code, enhanced, text, false);
}

bool smtp_is_submission(const struct sess *s)
{
	return s->ops->proto == SESS_PROTO_SUBMISSION || s->ops->proto == SESS_PROTO_LOCAL;
}

bool smtp_is_lmtp(const struct sess *s)
{
	return s->ops->proto == SESS_PROTO_LMTP;
}

/* Front's word is not taken for who may do what: only the address it was told of counts. */
static bool has(const struct conf_networks *l, const struct sockaddr_any *a)
{
	return !sock_is_local(a) && net_list_has(l->nets, l->n, a);
}

struct smtp_phase smtp_phase_of(const struct smtp_job *j)
{
	const struct conf_networks *proxies = smtp_is_lmtp(j->s) ? &j->conf->lmtp_from
								 : &j->conf->xclient_from;
	const struct sockaddr_any *peer = &j->s->peer;

	return (struct smtp_phase){
		.helo = j->st->helo,
		.esmtp = j->st->esmtp,
		.submission = smtp_is_submission(j->s),
		.lmtp = smtp_is_lmtp(j->s),
		.trusted = has(proxies, j->st->proxied ? &j->st->proxy : peer),
		.etrn = has(&j->conf->etrn_from, peer),
		.tls = j->s->tls.active,
		.tls_available =
			true, /* front offers STARTTLS only if it can; the answer is its business */
		.authenticated = j->st->authenticated,
		.hold = j->conf->submission_hold > 0,
		.mail = j->st->mail != NULL,
	};
}

span smtp_client(const struct mail_transaction *t)
{
	return t->peer_name.n ? t->peer_name : SPAN("unknown");
}

void smtp_log_rejected(struct mail_transaction *t, span to, const struct mail_verdict *v)
{
	char ip[SOCK_TEXT];

	sock_ip_text(&t->peer, ip);
	log_event(LOG_INFO, "smtp.rejected", F_ID("id", &t->id), F_SPAN("client", smtp_client(t)),
		  F_STR("peer", ip), F_SPAN("helo", t->helo),
		  F_STR("proto", t->esmtp ? "ESMTP" : "SMTP"),
		  F_SPAN("from", address_text(&t->sender, &t->mem)), F_SPAN("to", to),
		  F_U64("code", v->code), F_STR("status", v->enhanced), F_SPAN("text", v->text));
}

void smtp_drop_mail(struct core_env *env, struct smtp_session *st, const char *why)
{
	struct mail_transaction *t = st->mail;

	if (t && (t->n_rcpts || st->rejected)) {
		_cleanup_(buf_donep) struct buf sender = BUF_INIT(1024);
		span key;

		event_note(&t->events, why);
		address_put(&sender, &t->sender);
		key = buf_span(&sender);
		events_append(env->events, &t->id, &t->events, &key, key.n ? 1 : 0);
	}
	mail_transaction_free(t);
	st->mail = NULL;
	st->rcpt = NULL;
	st->refused = (struct mail_verdict){ 0 };
	st->rejected = 0;
	st->body_error = 0;
	st->body_defects = 0;
}

void smtp_forget(struct core_env *env, struct smtp_session *st)
{
	smtp_drop_mail(env, st, "smtp.reset");
	sasl_free(STEAL_PTR(&st->sasl));
	free(STEAL_PTR(&st->helo_name));
	st->helo = st->esmtp = st->authenticated = false;
	st->account = (struct directory_account){ 0 };
	arena_reset(&st->auth_mem);
}

/* ------------------------------------------------------------------ commands */

static void run_line(struct smtp_job *j, span line)
{
	struct smtp_phase phase = smtp_phase_of(j);
	struct smtp_command c;
	const struct smtp_answer *a;
	span args;
	const struct smtp_rule *rule = smtp_rule_find(line, &args);

	if (!rule || !handlers[rule->verb]) {
		smtp_answer(j, &smtp_answer_unknown);
		return;
	}
	a = smtp_rule_check(rule, &phase);
	if (!a)
		a = smtp_args_parse(rule, args, &phase, j->s->mem, &c);
	if (!a && rule->verb == SMTP_MAIL)
		a = smtp_utf8_check(&c, c.smtputf8);
	if (!a && rule->verb == SMTP_RCPT)
		a = smtp_utf8_check(&c, j->st->mail->smtputf8);
	if (!a)
		handlers[rule->verb](j, &c, line);
	else if (rule->verb == SMTP_MAIL && j->quiet)
		smtp_refuse_mail(j, a);
	else
		smtp_answer(j, a);
}

/* A line that must wait for an answer from elsewhere is run again, as the first one, when it came. */
static void run_items(struct smtp_job *j, span items)
{
	struct smtp_session *st = j->st;
	struct cursor c = cursor_of(items);
	size_t start = c.at = st->resume_at;
	uint8_t flags;
	span line;

	st->resume_at = 0;
	while (j->end == SMTP_END_PARK && sess_item_next(&c, &flags, &line)) {
		j->quiet = flags & SESS_ITEM_ANSWERED;
		if (sasl_waiting(st->sasl))
			smtp_auth_resume(j);
		else if (st->sasl)
			smtp_auth_line(j, line);
		else
			run_line(j, line);
		if (j->end == SMTP_END_WAIT)
			st->resume_at = start;
		start = c.at;
	}
	j->quiet = false;
}

/* Bytes that were being parsed when a core died are not parsed again. */
static void run_input(struct smtp_job *j, span items)
{
	int slot = -1;

	if (j->env->poison && poison_enter(j->env->poison, POISON_SMTP, items, &slot)) {
		count_add(COUNT_POISON, 1);
		log_event(LOG_ALARM, "smtp.poison", F_U64("bytes", items.n));
		smtp_say(j, 421, "4.3.0", SPAN("Not now"));
		j->end = SMTP_END_CLOSE;
		return;
	}
	run_items(j, items);
	if (j->env->poison)
		poison_leave(j->env->poison, slot);
}

static void park(struct smtp_job *j, const struct sess_in *in)
{
	const struct smtp_session *st = j->st;
	struct wire_park p = { .mode = SESS_MODE_LINES };

	if (st->sasl)
		p.mode = SESS_MODE_RAW;
	else if (in->kind == SESS_IN_BODY && !(in->body_flags & SESS_BODY_LAST))
		p.mode = SESS_MODE_DATA;
	if (st->mail)
		p.flags |= SMTP_PARK_HAS_SENDER;
	if (st->mail && st->mail->n_rcpts)
		p.flags |= SMTP_PARK_HAS_RCPT;
	if (st->authenticated)
		p.flags |= SMTP_PARK_AUTHENTICATED;
	if (j->greeted)
		p.flags |= SMTP_PARK_GREETED;
	sess_park(j->s, &p);
}

/* ------------------------------------------------------------------ the contract */

static void release(int result, void *arg)
{
	sess_release(arg, result == 0);
}

static void smtp_job(struct sess *s, const struct sess_in *in)
{
	struct core_env *env = s->core;
	struct smtp_job j = { .s = s, .st = s->state, .env = env, .conf = env->conf(env) };

	switch (in->kind) {
	case SESS_IN_INPUT:
		run_input(&j, in->data);
		break;
	case SESS_IN_BODY:
		smtp_body_piece(&j, in);
		break;
	case SESS_IN_TLS:
		smtp_forget(env, j.st);
		break;
	case SESS_IN_DRAINED:
	case SESS_IN_WAKE:
		break;
	}
	conf_unref(j.conf);
	if (j.end == SMTP_END_STARTTLS)
		sess_starttls(s, SPAN("220 2.0.0 Ready to start TLS\r\n"));
	else if (j.end == SMTP_END_CLOSE)
		sess_close(s);
	else if (j.end == SMTP_END_WAIT)
		sess_wait(s);
	else
		park(&j, in);
	if (j.ticket) {
		sess_withhold(s);
		mail_when_durable(j.ticket, release, s);
	}
}

/* Senders and recipients are looked up in memory. */
static bool is_envelope(span line)
{
	return span_istarts(line, SPAN("MAIL ")) || span_istarts(line, SPAN("RCPT "));
}

/* Password hashing has its own threads; a last piece writes to the disk. */
static enum lane smtp_lane(struct sess *s, const struct sess_in *in)
{
	const struct smtp_session *st = s->state;
	struct cursor c = cursor_of(in->data);
	uint8_t flags;
	span line;

	if (in->kind == SESS_IN_BODY)
		return in->body_flags & SESS_BODY_LAST ? LANE_DELIVERY : LANE_SPOOL;
	if (in->kind != SESS_IN_INPUT)
		return LANE_INTERACTIVE;
	if (st->sasl)
		return LANE_AUTH;
	bool here = !in->again;
	while (sess_item_next(&c, &flags, &line)) {
		if (span_istarts(line, SPAN("AUTH")))
			return LANE_AUTH;
		here &= is_envelope(line);
	}
	return here ? SESS_HERE : LANE_INTERACTIVE;
}

static void smtp_open(struct sess *s)
{
	struct smtp_session *st = s->state;

	arena_init(&st->auth_mem);
	st->authenticated = s->ops->proto == SESS_PROTO_LOCAL;
}

static void smtp_close(struct sess *s)
{
	struct smtp_session *st = s->state;

	smtp_drop_mail(s->core, st, "smtp.closed");
	sasl_free(st->sasl);
	free(st->helo_name);
	free(st->peer_name);
	arena_done(&st->auth_mem);
}

static void smtp_busy(struct sess *s, struct buf *reply)
{
	buf_put_str(reply, "421 4.3.2 The server is busy, try again later\r\n");
}

#define SESS_OPS(protocol, word)                                                            \
	{                                                                                   \
		.proto = (protocol), .name = (word), .size = sizeof(struct smtp_session),   \
		.open = smtp_open, .lane = smtp_lane, .job = smtp_job, .close = smtp_close, \
		.busy = smtp_busy,                                                          \
	}

const struct sess_ops smtp_sess_ops = SESS_OPS(SESS_PROTO_SMTP, "smtp");
const struct sess_ops submission_sess_ops = SESS_OPS(SESS_PROTO_SUBMISSION, "submission");
const struct sess_ops lmtp_sess_ops = SESS_OPS(SESS_PROTO_LMTP, "lmtp");
const struct sess_ops local_sess_ops = SESS_OPS(SESS_PROTO_LOCAL, "local");
