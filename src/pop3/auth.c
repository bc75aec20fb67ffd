#include "pop3/session_int.h"

#include <stdlib.h>

#include "base/codec.h"
#include "base/log.h"

/* USER/PASS and AUTH (RFC 1939 7, RFC 5034; codes of RFC 3206). */

enum { MAX_FAILURES = 5 };

static void log_auth(struct pop3_job *j, const char *event, enum log_level level, span login)
{
	char ip[SOCK_TEXT];
	sock_ip_text(&j->s->peer, ip);
	log_event(level, event, F_SPAN("user", span_sub(login, 0, 256)), F_STR("peer", ip),
		  F_U64("tls", j->s->tls.active));
}

static void admit(struct pop3_job *j, const struct directory_account *a)
{
	struct pop3_session *st = j->st;
	if (a->suspended) {
		pop3_err(j, "[SYS/PERM] Account is suspended");
		return;
	}
	count_add(COUNT_AUTH_OK, 1);
	log_auth(j, "pop3.login", LOG_INFO, a->address);
	memcpy(st->account_id, a->id, sizeof(st->account_id));
	st->generation = a->generation;
	j->s->key = hash_keyed(span_str(a->id)) | 1;
	if (pop3_maildrop_open(j) < 0) {
		pop3_err(j, "[SYS/TEMP] Maildrop cannot be opened now");
		return;
	}
	st->state = POP3_IN_TRANSACTION;
	pop3_ok(j, "Logged in");
}

static void refused(struct pop3_job *j, span login, uint64_t guess)
{
	_cleanup_(conf_unrefp) struct conf *conf = j->env->conf(j->env);
	count_add(COUNT_AUTH_FAILED, 1);
	log_auth(j, "pop3.auth_failed", LOG_NOTICE, login);
	pop3_err(j, "[AUTH] Wrong user name or password");
	j->st->closing = guard_login_failed(j->env->guard, conf, j->s, guess);
	j->st->closing |= ++j->st->auth_failures >= MAX_FAILURES;
}

/* Front turns new sessions away; this one was here before. */
static bool may_log_in(struct pop3_job *j)
{
	if (guard_may_log_in(j->env->guard, j->s))
		return true;
	pop3_err(j, "[SYS/TEMP] Your network is banned for now");
	j->st->closing = true;
	return false;
}

void pop3_cmd_user(struct pop3_job *j, const struct pop3_args *a)
{
	struct pop3_session *st = j->st;
	struct sasl_channel channel = sasl_channel(j->env->sasl, j->s);
	if (sasl_password_usable(&channel) != SASL_USABLE) {
		pop3_err(j, channel.tls ? "[SYS/PERM] USER is disabled here" :
					  "[SYS/PERM] USER needs TLS");
		return;
	}
	free((char *)st->user.p);
	st->user = span_of(span_dup(a->text), a->text.n);
	pop3_ok(j, "Send PASS");
}

void pop3_cmd_pass(struct pop3_job *j, const struct pop3_args *a)
{
	struct pop3_session *st = j->st;
	struct directory_account acc;
	if (!st->user.p) {
		pop3_err(j, "Send USER first");
		return;
	}
	if (!may_log_in(j))
		return;
	int r = sasl_password(j->env->sasl, j->s, st->user, a->text, j->s->mem, &acc);
	span user = arena_span(j->s->mem, st->user);
	free((char *)st->user.p);
	st->user = SPAN_NULL;
	if (r == 0)
		admit(j, &acc);
	else if (r == ERR_AUTH)
		refused(j, user, guard_guess(user, a->text));
	else
		pop3_err(j, "[SYS/TEMP] Authentication is not possible now");
}

static void after_step(struct pop3_job *j, enum sasl_step step, span challenge)
{
	struct pop3_session *st = j->st;
	struct directory_account acc;
	switch (step) {
	case SASL_CONTINUE:
		buf_printf(sess_out(j->s), "+ %.*s\r\n", SPAN_FMT(challenge));
		return;
	case SASL_OK:
		sasl_account(st->sasl, j->s->mem, &acc);
		admit(j, &acc);
		break;
	case SASL_FAILED:
		refused(j, sasl_login(st->sasl), sasl_guess(st->sasl));
		break;
	case SASL_WAIT:
		return;
	case SASL_UNAVAILABLE:
		pop3_err(j, "[SYS/TEMP] Authentication is not possible now");
		break;
	case SASL_CANCELLED:
		pop3_err(j, "Authentication cancelled");
		break;
	default:
		pop3_err(j, "Bad authentication exchange");
		break;
	}
	sasl_free(st->sasl);
	st->sasl = NULL;
}

void pop3_cmd_auth(struct pop3_job *j, const struct pop3_args *a)
{
	struct sasl_channel channel = sasl_channel(j->env->sasl, j->s);
	if (sasl_usable(a->text, &channel) != SASL_USABLE) {
		pop3_err(j, "Mechanism is unknown, or needs TLS");
		return;
	}
	if (!may_log_in(j))
		return;
	_cleanup_(buf_donep) struct buf challenge = BUF_INIT(SASL_MAX_LINE);
	enum sasl_step step = sasl_start(j->env->sasl, j->s, a->text, a->initial,
					 &j->st->sasl, &challenge);
	after_step(j, step, buf_span(&challenge));
}

void pop3_auth_resume(struct pop3_job *j)
{
	_cleanup_(buf_donep) struct buf challenge = BUF_INIT(SASL_MAX_LINE);
	enum sasl_step step = sasl_resume(j->st->sasl, &challenge);
	after_step(j, step, buf_span(&challenge));
}

void pop3_auth_line(struct pop3_job *j, span line)
{
	_cleanup_(buf_donep) struct buf challenge = BUF_INIT(SASL_MAX_LINE);
	enum sasl_step step = sasl_next(
		j->st->sasl, span_sub(line, 0, line.n >= 2 ? line.n - 2 : 0), &challenge);
	after_step(j, step, buf_span(&challenge));
}
