/* AUTH (RFC 4954), in LANE_AUTH. */
#include "smtp/session_int.h"

#include <stdio.h>

#include "base/codec.h"
#include "base/log.h"

#define FAILURES_MAX  5
#define CHALLENGE_MAX 4096

static void log_attempt(struct smtp_job *j, const char *event)
{
	char ip[SOCK_TEXT];

	sock_ip_text(&j->s->peer, ip);
	log_event(LOG_INFO, event, F_STR("peer", ip), F_SPAN("login", sasl_login(j->st->sasl)));
}

static void failed(struct smtp_job *j)
{
	count_add(COUNT_AUTH_FAILED, 1);
	smtp_say(j, 535, "5.7.8", SPAN("Authentication credentials invalid"));
	bool banned = guard_login_failed(j->env->guard, j->conf, j->s, sasl_guess(j->st->sasl));
	if (++j->st->auth_failures < FAILURES_MAX && !banned)
		return;
	smtp_say(j, 421, "4.7.0", SPAN("Too many failed logins"));
	j->end = SMTP_END_CLOSE;
}

static void succeeded(struct smtp_job *j)
{
	struct smtp_session *st = j->st;

	sasl_account(st->sasl, &st->auth_mem, &st->account);
	st->authenticated = true;
	st->auth_failures = 0;
	j->s->key = hash_keyed(span_str(st->account.id)) | 1; /* 0 would be no key */
	count_add(COUNT_AUTH_OK, 1);
	smtp_say(j, 235, "2.7.0", SPAN("Authentication successful"));
}

static void after_step(struct smtp_job *j, enum sasl_step step, span challenge)
{
	switch (step) {
	case SASL_CONTINUE:
		if (!j->quiet) /* longer than a reply's text may be */
			buf_printf(sess_out(j->s), "334 %.*s\r\n", SPAN_FMT(challenge));
		return;
	case SASL_OK:
		log_attempt(j, "smtp.auth");
		succeeded(j);
		break;
	case SASL_FAILED:
		log_attempt(j, "smtp.auth_failed");
		failed(j);
		break;
	case SASL_CANCELLED:
		smtp_say(j, 501, "5.7.0", SPAN("Authentication cancelled"));
		break;
	case SASL_UNAVAILABLE:
		smtp_say(j, 454, "4.7.0", SPAN("Authentication is not possible now"));
		break;
	case SASL_WAIT:
		j->end = SMTP_END_WAIT;
		return;
	case SASL_BAD:
		smtp_say(j, 501, "5.5.2", SPAN("Not a valid base64 response"));
		break;
	}
	sasl_free(STEAL_PTR(&j->st->sasl));
}

void smtp_cmd_auth(struct smtp_job *j, const struct smtp_command *c, span line)
{
	_cleanup_(buf_donep) struct buf challenge = BUF_INIT(CHALLENGE_MAX);
	enum sasl_step step;

	struct sasl_channel channel = sasl_channel(j->env->sasl, j->s);

	if (sasl_usable(c->mechanism, &channel) != SASL_USABLE) {
		smtp_say(j, 504, "5.5.4", SPAN("Mechanism not supported"));
		return;
	}
	snprintf(j->st->auth_type, sizeof j->st->auth_type, "%.*s", SPAN_FMT(c->mechanism));
	if (!guard_may_log_in(j->env->guard, j->s)) {
		smtp_say(j, 421, "4.7.0", SPAN("Your network is banned for now"));
		j->end = SMTP_END_CLOSE;
		return;
	}
	step = sasl_start(j->env->sasl, j->s, c->mechanism, c->initial, &j->st->sasl, &challenge);
	after_step(j, step, buf_span(&challenge));
}

void smtp_auth_resume(struct smtp_job *j)
{
	_cleanup_(buf_donep) struct buf challenge = BUF_INIT(CHALLENGE_MAX);
	enum sasl_step step = sasl_resume(j->st->sasl, &challenge);

	after_step(j, step, buf_span(&challenge));
}

void smtp_auth_line(struct smtp_job *j, span line)
{
	_cleanup_(buf_donep) struct buf challenge = BUF_INIT(CHALLENGE_MAX);
	enum sasl_step step = sasl_next(j->st->sasl, line, &challenge);

	after_step(j, step, buf_span(&challenge));
}
