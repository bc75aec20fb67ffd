#include "imap/session_int.h"

#include "base/codec.h"
#include "base/log.h"

/* Before a mailbox: LOGIN, AUTHENTICATE, STARTTLS, CAPABILITY, ID, ENABLE, NOOP, LOGOUT. */

enum { MAX_FAILURES = 5 };

static void log_auth(struct imap_job *j, const char *event, enum log_level level, span login)
{
	char ip[SOCK_TEXT];
	sock_ip_text(&j->s->peer, ip);
	log_event(level, event, F_SPAN("user", span_sub(login, 0, 256)), F_STR("peer", ip),
		  F_U64("tls", j->s->tls.active));
}

static struct imap_answer logged_in(struct imap_job *j, const struct directory_account *a)
{
	struct imap_session *st = j->st;
	log_auth(j, "imap.login", LOG_INFO, a->address);
	count_add(COUNT_AUTH_OK, 1);
	memcpy(st->account_id, a->id, sizeof(st->account_id));
	st->generation = a->generation;
	st->checked_at = clock_mono();
	st->state = IMAP_IN_AUTH;
	j->s->key = hash_keyed(span_str(a->id)) | 1;
	_cleanup_(buf_donep) struct buf caps = BUF_INIT(1024);
	struct sasl_channel channel = sasl_channel(j->env->sasl, j->s);
	imap_capability_put(&caps, true, &channel, false);
	return imap_ok(arena_printf(j->s->mem, "[CAPABILITY %s] Logged in", buf_cstr(&caps)));
}

static struct imap_answer refused(struct imap_job *j, span login, uint64_t guess)
{
	_cleanup_(conf_unrefp) struct conf *conf = j->env->conf(j->env);
	log_auth(j, "imap.auth_failed", LOG_NOTICE, login);
	count_add(COUNT_AUTH_FAILED, 1);
	bool banned = guard_login_failed(j->env->guard, conf, j->s, guess);
	if (++j->st->auth_failures >= MAX_FAILURES || banned)
		imap_bye(j, "Too many failed logins");
	return imap_no("[AUTHENTICATIONFAILED] Wrong user name or password");
}

static struct imap_answer admit(struct imap_job *j, const struct directory_account *a)
{
	if (a->suspended)
		return imap_no("[CONTACTADMIN] Account is suspended");
	return logged_in(j, a);
}

/* Front turns new sessions away; this one was here before. */
static struct imap_answer banned_meanwhile(struct imap_job *j)
{
	imap_bye(j, "[UNAVAILABLE] Your network is banned for now");
	return imap_no("[UNAVAILABLE] Not now");
}

struct imap_answer imap_cmd_login(struct imap_job *j, struct imap_args *a)
{
	struct sasl_channel channel = sasl_channel(j->env->sasl, j->s);
	struct directory_account acc;
	switch (sasl_password_usable(&channel)) {
	case SASL_NEEDS_TLS:
		return imap_no("[PRIVACYREQUIRED] LOGIN needs TLS");
	case SASL_UNKNOWN:
		return imap_no("[CANNOT] LOGIN is disabled here");
	case SASL_USABLE:
		break;
	}
	if (!guard_may_log_in(j->env->guard, j->s))
		return banned_meanwhile(j);
	int r = sasl_password(j->env->sasl, j->s, a->text[0], a->text[1], j->s->mem, &acc);
	if (r == 0)
		return admit(j, &acc);
	return r == ERR_AUTH ? refused(j, a->text[0], guard_guess(a->text[0], a->text[1]))
			     : imap_no("[UNAVAILABLE] Authentication is not possible now");
}

/* One step of an exchange; LATER while it goes on. */
static struct imap_answer after_step(struct imap_job *j, enum sasl_step step, span challenge)
{
	struct imap_session *st = j->st;
	struct directory_account acc;
	struct imap_answer answer;
	switch (step) {
	case SASL_CONTINUE:
		buf_printf(sess_out(j->s), "+ %.*s\r\n", SPAN_FMT(challenge));
		return imap_later();
	case SASL_OK:
		sasl_account(st->sasl, j->s->mem, &acc);
		answer = admit(j, &acc);
		break;
	case SASL_FAILED:
		answer = refused(j, sasl_login(st->sasl), sasl_guess(st->sasl));
		break;
	case SASL_WAIT:
		return imap_later();
	case SASL_UNAVAILABLE:
		answer = imap_no("[UNAVAILABLE] Authentication is not possible now");
		break;
	case SASL_CANCELLED:
		answer = imap_bad("Authentication cancelled");
		break;
	default:
		answer = imap_bad("Bad authentication exchange");
		break;
	}
	sasl_free(st->sasl);
	st->sasl = NULL;
	return answer;
}

struct imap_answer imap_cmd_authenticate(struct imap_job *j, struct imap_args *a)
{
	struct sasl_channel channel = sasl_channel(j->env->sasl, j->s);
	switch (sasl_usable(a->text[0], &channel)) {
	case SASL_NEEDS_TLS:
		return imap_no("[PRIVACYREQUIRED] Mechanism needs TLS");
	case SASL_UNKNOWN:
		return imap_no("[CANNOT] Unknown mechanism");
	case SASL_USABLE:
		break;
	}
	if (!guard_may_log_in(j->env->guard, j->s))
		return banned_meanwhile(j);
	_cleanup_(buf_donep) struct buf challenge = BUF_INIT(SASL_MAX_LINE);
	span initial = a->has_initial ? a->text[1] : SPAN_NULL;
	enum sasl_step step = sasl_start(j->env->sasl, j->s, a->text[0], initial,
					 &j->st->sasl, &challenge);
	imap_set_tag(j->st, a->tag);
	return after_step(j, step, buf_span(&challenge));
}

void imap_auth_resume(struct imap_job *j)
{
	_cleanup_(buf_donep) struct buf challenge = BUF_INIT(SASL_MAX_LINE);
	enum sasl_step step = sasl_resume(j->st->sasl, &challenge);
	struct imap_answer answer = after_step(j, step, buf_span(&challenge));
	if (answer.kind != IMAP_LATER)
		imap_tagged(j, j->st->tag, &answer);
}

void imap_auth_line(struct imap_job *j, span line)
{
	_cleanup_(buf_donep) struct buf challenge = BUF_INIT(SASL_MAX_LINE);
	enum sasl_step step = sasl_next(
		j->st->sasl, span_sub(line, 0, line.n >= 2 ? line.n - 2 : 0), &challenge);
	struct imap_answer answer = after_step(j, step, buf_span(&challenge));
	if (answer.kind != IMAP_LATER)
		imap_tagged(j, j->st->tag, &answer);
}

struct imap_answer imap_cmd_starttls(struct imap_job *j, struct imap_args *a)
{
	if (j->s->tls.active)
		return imap_bad("TLS is active already");
	j->starttls = true;
	buf_printf(&j->starttls_reply, "%.*s OK Begin TLS negotiation now\r\n", SPAN_FMT(a->tag));
	return imap_later();
}

struct imap_answer imap_cmd_capability(struct imap_job *j, struct imap_args *a)
{
	struct sasl_channel channel = sasl_channel(j->env->sasl, j->s);
	struct buf *b = sess_out(j->s);
	buf_put_str(b, "* CAPABILITY ");
	imap_capability_put(b, j->st->state != IMAP_IN_NONAUTH, &channel, !channel.tls);
	buf_put_str(b, "\r\n");
	return imap_ok("CAPABILITY completed");
}

struct imap_answer imap_cmd_id(struct imap_job *j, struct imap_args *a)
{
	buf_put_str(sess_out(j->s),
		    j->st->state == IMAP_IN_NONAUTH
			    ? "* ID (\"name\" \"Postrider\")\r\n"
			    : "* ID (\"name\" \"Postrider\" \"version\" \"" POSTRIDER_VERSION
			      "\")\r\n");
	return imap_ok("ID completed");
}

/* RFC 5161: nothing here needs to be enabled, and unknown names are ignored. */
struct imap_answer imap_cmd_enable(struct imap_job *j, struct imap_args *a)
{
	buf_put_str(sess_out(j->s), "* ENABLED\r\n");
	return imap_ok("ENABLE completed");
}

struct imap_answer imap_cmd_noop(struct imap_job *j, struct imap_args *a)
{
	return imap_ok("NOOP completed");
}

struct imap_answer imap_cmd_logout(struct imap_job *j, struct imap_args *a)
{
	imap_deselect(j->st);
	imap_bye(j, "Logging out");
	return imap_ok("LOGOUT completed");
}
