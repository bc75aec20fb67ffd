/* XCLIENT (Postfix's XCLIENT_README): a trusted proxy says for whom it speaks.  Who may say it is
 * decided by the address the connection came from, whatever was said before. */
#include "smtp/session_int.h"

#include <stdlib.h>

#include "base/codec.h"
#include "base/log.h"
#include "smtp/xclient.h"

static const struct smtp_answer bad = { 501, "5.5.4", "Attributes not valid" };

/* LOGIN: the proxy has seen to it that the client is who it says it is. */
static bool log_in(struct smtp_job *j, span login)
{
	struct smtp_session *st = j->st;
	struct directory_account a = { 0 };

	if (directory_account_get(j->env->directory, login, &st->auth_mem, &a) < 0 || a.suspended)
		return false;
	st->account = a;
	st->authenticated = true;
	j->s->key = hash_keyed(span_str(a.id)) | 1;
	return true;
}

static void set_peer(struct smtp_job *j, const struct smtp_xclient *x)
{
	struct smtp_session *st = j->st;

	if (!st->proxied)
		st->proxy = j->s->peer;
	st->proxied = true;
	if (x->ip[0])
		sock_parse_ip(span_str(x->ip), x->port, &j->s->peer);
	if (x->has_name) {
		free(st->peer_name);
		st->peer_name = x->name.n ? span_dup(x->name) : NULL;
	}
}

void smtp_cmd_xclient(struct smtp_job *j, const struct smtp_command *c, span line)
{
	struct smtp_session *st = j->st;
	struct smtp_xclient x;
	char ip[SOCK_TEXT];

	if (!smtp_xclient_parse(c->text, j->s->mem, &x)) {
		smtp_answer(j, &bad);
		return;
	}
	smtp_forget(j->env, st);
	set_peer(j, &x);
	if (x.login.n && smtp_is_submission(j->s) && !log_in(j, x.login)) {
		smtp_say(j, 535, "5.7.8", SPAN("No such account here"));
		j->end = SMTP_END_CLOSE;
		return;
	}
	sock_ip_text(&j->s->peer, ip);
	log_event(LOG_INFO, "smtp.xclient", F_STR("peer", ip), F_SPAN("login", x.login));
	j->greeted = true;
	buf_printf(sess_out(j->s), "220 %.*s ESMTP Postrider\r\n", SPAN_FMT(j->conf->hostname));
}
