#include "pop3/session_int.h"

#include <stdlib.h>

#include "base/log.h"

enum { MAX_BADS = 50 };

typedef void pop3_fn(struct pop3_job *j, const struct pop3_args *a);

int pop3_account(struct pop3_job *j, struct account **ret)
{
	if (!j->account) {
		struct err_info info = { 0 };
		int r = account_get(j->env->store, span_str(j->st->account_id), &j->account, &info);
		if (r < 0) {
			log_event(LOG_ERROR, "pop3.account", F_STR("account", j->st->account_id),
				  F_ERR(r), F_STR("why", info.text));
			return r;
		}
	}
	*ret = j->account;
	return 0;
}

void pop3_ok(struct pop3_job *j, const char *text)
{
	buf_printf(sess_out(j->s), "+OK %s\r\n", text);
}

void pop3_err(struct pop3_job *j, const char *text)
{
	buf_printf(sess_out(j->s), "-ERR %s\r\n", text);
}

void pop3_forget(struct pop3_session *st)
{
	sasl_free(st->sasl);
	free((char *)st->user.p);
	free(st->messages);
	*st = (struct pop3_session){ .s = st->s,
				     .state = POP3_IN_AUTHORIZATION,
				     .auth_failures = st->auth_failures };
}

static void cmd_capa(struct pop3_job *j, const struct pop3_args *a)
{
	struct sasl_channel channel = sasl_channel(j->env->sasl, j->s);
	struct buf *b = sess_out(j->s);
	buf_put_str(b, "+OK Capabilities follow\r\n");
	pop3_capa_put(b, &channel, !channel.tls, j->st->state == POP3_IN_TRANSACTION);
	buf_put_str(b, ".\r\n");
}

static void cmd_noop(struct pop3_job *j, const struct pop3_args *a)
{
	pop3_ok(j, "Nothing done");
}

static void cmd_stls(struct pop3_job *j, const struct pop3_args *a)
{
	if (j->s->tls.active)
		pop3_err(j, "TLS is active already");
	else
		j->st->starttls = true;
}

static pop3_fn *const commands[POP3_CMD_COUNT] = {
	[POP3_CAPA] = cmd_capa,	     [POP3_QUIT] = pop3_cmd_quit, [POP3_NOOP] = cmd_noop,
	[POP3_STLS] = cmd_stls,	     [POP3_USER] = pop3_cmd_user, [POP3_PASS] = pop3_cmd_pass,
	[POP3_AUTH] = pop3_cmd_auth, [POP3_STAT] = pop3_cmd_stat, [POP3_LIST] = pop3_cmd_list,
	[POP3_UIDL] = pop3_cmd_list, [POP3_RETR] = pop3_cmd_retr, [POP3_TOP] = pop3_cmd_retr,
	[POP3_DELE] = pop3_cmd_dele, [POP3_RSET] = pop3_cmd_rset,
};

/* A changed password, a suspension: sessions of the old generation end (directory P4), and nothing
 * is deleted. */
static bool login_has_ended(struct pop3_job *j)
{
	struct pop3_session *st = j->st;
	if (st->state != POP3_IN_TRANSACTION ||
	    directory_is_current(j->env->directory, span_str(st->account_id), st->generation))
		return false;
	pop3_err(j, "[AUTH] Account was changed, log in again");
	st->closing = true;
	return true;
}

static void handle_line(struct pop3_job *j, span line)
{
	struct pop3_session *st = j->st;
	struct pop3_args a;
	const char *why = "Not in this state";
	if (login_has_ended(j))
		return;
	if (st->sasl) {
		pop3_auth_line(j, line);
		return;
	}
	if (pop3_parse(line, &a, &why) && (a.cmd->states & st->state)) {
		st->bads = 0;
		commands[a.cmd->id](j, &a);
		return;
	}
	pop3_err(j, why);
	st->closing |= ++st->bads >= MAX_BADS;
}

static void handle_input(struct pop3_job *j, span items)
{
	struct cursor c = cursor_of(items);
	uint8_t flags;
	span bytes;
	while (!j->st->closing && !j->st->starttls && sess_item_next(&c, &flags, &bytes)) {
		if (j->st->output != POP3_OUT_NONE) { /* front sends nothing while output drains */
			j->st->closing = true;
			return;
		}
		handle_line(j, bytes);
	}
}

static void park(struct pop3_job *j)
{
	struct pop3_session *st = j->st;
	struct wire_park p = { .mode = st->sasl ? SESS_MODE_RAW : SESS_MODE_LINES };
	if (st->state == POP3_IN_TRANSACTION) {
		_cleanup_(conf_unrefp) struct conf *conf = j->env->conf(j->env);
		p.flags = POP3_PARK_AUTHENTICATED;
		p.idle_seconds = (uint32_t)(conf->pop3_timeout / USEC_SEC);
	}
	if (st->output != POP3_OUT_NONE || sess_unsent(j->s) >= SESS_OUT_HIGH)
		p.flags |= SESS_PARK_WANT_DRAIN;
	sess_park(j->s, &p);
}

static void pop3_job(struct sess *s, const struct sess_in *in)
{
	struct pop3_session *st = s->state;
	struct pop3_job j = { .s = s, .st = st, .env = s->core };
	if (in->kind == SESS_IN_INPUT && in->again && sasl_waiting(st->sasl))
		pop3_auth_resume(&j);
	else if (in->kind == SESS_IN_INPUT)
		handle_input(&j, in->data);
	else if (in->kind == SESS_IN_TLS)
		pop3_forget(st);
	else if (in->kind == SESS_IN_DRAINED && st->output != POP3_OUT_NONE)
		pop3_output_run(&j);
	account_put(j.account);
	if (st->closing) {
		sess_close(s);
	} else if (st->starttls) {
		st->starttls = false;
		sess_starttls(s, SPAN("+OK Begin TLS negotiation\r\n"));
	} else if (sasl_waiting(st->sasl)) {
		sess_wait(s);
	} else {
		park(&j);
	}
}

static void pop3_open(struct sess *s)
{
	struct pop3_session *st = s->state;
	st->s = s;
	st->state = POP3_IN_AUTHORIZATION;
}

static enum lane pop3_lane(struct sess *s, const struct sess_in *in)
{
	struct pop3_session *st = s->state;
	struct cursor c = cursor_of(in->data);
	uint8_t flags;
	span line;
	struct pop3_args a;
	const char *why;
	if (st->sasl)
		return LANE_AUTH;
	if (in->kind != SESS_IN_INPUT || !sess_item_next(&c, &flags, &line) ||
	    !pop3_parse(line, &a, &why))
		return LANE_INTERACTIVE;
	return a.cmd->lane;
}

/* Nothing is deleted without QUIT (RFC 1939 6). */
static void pop3_close(struct sess *s)
{
	pop3_forget(s->state);
}

static void pop3_busy(struct sess *s, struct buf *reply)
{
	buf_put_str(reply, "-ERR [SYS/TEMP] Server is too busy, try again later\r\n");
}

const struct sess_ops pop3_sess_ops = {
	.proto = SESS_PROTO_POP3,
	.name = "pop3",
	.size = sizeof(struct pop3_session),
	.open = pop3_open,
	.lane = pop3_lane,
	.job = pop3_job,
	.close = pop3_close,
	.busy = pop3_busy,
};
