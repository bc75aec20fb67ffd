#include "imap/session_int.h"

#include <stdlib.h>

#include "base/log.h"

enum { MAX_BADS = 50 };
static const usec RECHECK = 30 * USEC_SEC;

static imap_fn *const commands[IMAP_CMD_COUNT] = {
	[IMAP_CAPABILITY] = imap_cmd_capability,
	[IMAP_NOOP] = imap_cmd_noop,
	[IMAP_LOGOUT] = imap_cmd_logout,
	[IMAP_ID] = imap_cmd_id,
	[IMAP_STARTTLS] = imap_cmd_starttls,
	[IMAP_LOGIN] = imap_cmd_login,
	[IMAP_AUTHENTICATE] = imap_cmd_authenticate,
	[IMAP_ENABLE] = imap_cmd_enable,
	[IMAP_SELECT] = imap_cmd_select,
	[IMAP_EXAMINE] = imap_cmd_select,
	[IMAP_CREATE] = imap_cmd_create,
	[IMAP_DELETE] = imap_cmd_delete,
	[IMAP_RENAME] = imap_cmd_rename,
	[IMAP_SUBSCRIBE] = imap_cmd_subscribe,
	[IMAP_UNSUBSCRIBE] = imap_cmd_subscribe,
	[IMAP_LIST] = imap_cmd_list,
	[IMAP_LSUB] = imap_cmd_list,
	[IMAP_STATUS] = imap_cmd_status,
	[IMAP_APPEND] = imap_cmd_append,
	[IMAP_NAMESPACE] = imap_cmd_namespace,
	[IMAP_IDLE] = imap_cmd_idle,
	[IMAP_CHECK] = imap_cmd_check,
	[IMAP_CLOSE] = imap_cmd_close,
	[IMAP_UNSELECT] = imap_cmd_unselect,
	[IMAP_EXPUNGE] = imap_cmd_expunge,
	[IMAP_SEARCH] = imap_cmd_search,
	[IMAP_FETCH] = imap_cmd_fetch,
	[IMAP_STORE] = imap_cmd_store,
	[IMAP_COPY] = imap_cmd_copy,
	[IMAP_MOVE] = imap_cmd_copy,
};

/* --- shared helpers --- */

int imap_account(struct imap_job *j, struct account **ret)
{
	if (!j->account) {
		struct err_info info = { 0 };
		int r = account_get(j->env->store, span_str(j->st->account_id), &j->account, &info);
		if (r < 0) {
			log_event(LOG_ERROR, "imap.account", F_STR("account", j->st->account_id),
				  F_ERR(r), F_STR("why", info.text));
			return r == ERR_NOENT ? ERR_IO : r; /* a lost folder is our failure, not "no
							       such mailbox" */
		}
	}
	*ret = j->account;
	return 0;
}

struct imap_answer imap_error(int err)
{
	switch (err) {
	case ERR_NOENT:
		return imap_no("[NONEXISTENT] No such mailbox");
	case ERR_EXIST:
		return imap_no("[ALREADYEXISTS] Mailbox exists");
	case ERR_INVAL:
		return imap_no("[CANNOT] Mailbox name is not allowed");
	case ERR_PERM:
		return imap_no("[CANNOT] Not possible with this mailbox");
	case ERR_QUOTA:
		return imap_no("[OVERQUOTA] Quota exceeded");
	case ERR_TOOBIG:
		return imap_no("[LIMIT] Too many or too large");
	case ERR_FULL:
		return imap_no("[UNAVAILABLE] Disk is full, try again later");
	default:
		return imap_no("[UNAVAILABLE] Temporary failure, try again later");
	}
}

void imap_tagged(struct imap_job *j, const char *tag, const struct imap_answer *a)
{
	static const char *const words[] = {
		[IMAP_OK] = "OK", [IMAP_NO] = "NO", [IMAP_BAD] = "BAD"
	};
	buf_printf(sess_out(j->s), "%s %s %s\r\n", tag, words[a->kind], a->text);
}

void imap_bye(struct imap_job *j, const char *text)
{
	buf_printf(sess_out(j->s), "* BYE %s\r\n", text);
	j->st->closing = true;
}

void imap_set_tag(struct imap_session *st, span tag)
{
	free(st->tag);
	st->tag = tag.p ? span_dup(tag) : NULL;
}

void imap_finish(struct imap_job *j, const char *tag, const struct imap_answer *a, bool hold)
{
	if (j->st->state == IMAP_IN_SELECTED)
		imap_sync(j, hold);
	imap_tagged(j, tag, a);
}

void imap_deselect(struct imap_session *st)
{
	imap_idle_stop(st);
	store_view_put(st->view);
	st->view = NULL;
	st->mailbox = 0;
	st->quiet_modseq = 0;
	if (st->state == IMAP_IN_SELECTED)
		st->state = IMAP_IN_AUTH;
}

/* --- commands --- */

/* A changed password, a suspension: sessions of the old generation end (directory P4). */
static bool still_valid(struct imap_job *j)
{
	struct imap_session *st = j->st;
	usec now = clock_mono();
	if (st->state == IMAP_IN_NONAUTH || now - st->checked_at < RECHECK)
		return true;
	struct directory_account a;
	int r = directory_account_by_id(j->env->directory, span_str(st->account_id), j->s->mem, &a);
	if (r < 0 && r != ERR_NOENT)
		return true; /* the directory is not to be asked now; later */
	st->checked_at = now;
	if (r == 0 && a.generation == st->generation && !a.suspended)
		return true;
	imap_bye(j, "[EXPIRED] Account was changed, log in again");
	return false;
}

static struct imap_answer refused_state(const struct imap_session *st, const struct imap_command *c)
{
	if (st->state == IMAP_IN_NONAUTH)
		return imap_bad("Log in first");
	if (c->states == IMAP_IN_NONAUTH)
		return imap_bad("Already logged in");
	return imap_bad("No mailbox is selected");
}

static struct imap_answer run_command(struct imap_job *j, struct imap_args *a)
{
	struct imap_session *st = j->st;
	if (!(a->cmd->states & st->state))
		return refused_state(st, a->cmd);
	if ((a->cmd->flags & IMAP_NEEDS_WRITE) && st->readonly)
		return imap_no("[READ-ONLY] Mailbox was opened with EXAMINE");
	if (a->bad_name)
		return imap_no("[CANNOT] Mailbox name is not modified UTF-7");
	return commands[a->cmd->id](j, a);
}

static bool holds_seqs(const struct imap_args *a)
{
	return (a->cmd->flags & IMAP_HOLDS_SEQS) && !a->uid;
}

static void handle_command(struct imap_job *j, span bytes)
{
	struct imap_args a;
	const char *why = NULL;
	if (!still_valid(j))
		return;
	bool parsed = imap_parse(bytes, j->s->mem, &a, &why);
	const char *tag = arena_cstr(j->s->mem, a.tag);
	struct imap_answer answer = parsed ? run_command(j, &a) : imap_bad(why);
	if (answer.kind == IMAP_LATER)
		return;
	if (answer.kind != IMAP_BAD)
		j->st->bads = 0;
	imap_finish(j, tag, &answer, answer.kind == IMAP_BAD || holds_seqs(&a));
	if (answer.kind == IMAP_BAD && ++j->st->bads >= MAX_BADS && !j->st->closing)
		imap_bye(j, "Too many bad commands");
}

static void handle_item(struct imap_job *j, span bytes)
{
	struct imap_session *st = j->st;
	j->keywords = NULL;
	if (st->sasl)
		imap_auth_line(j, bytes);
	else if (st->watch)
		imap_idle_line(j, bytes);
	else if (st->append)
		imap_append_line(j, bytes);
	else
		handle_command(j, bytes);
}

/* --- the contract's side --- */

static void imap_open(struct sess *s)
{
	struct imap_session *st = s->state;
	st->s = s;
	st->state = IMAP_IN_NONAUTH;
}

static enum lane imap_lane(struct sess *s, const struct sess_in *in)
{
	struct imap_session *st = s->state;
	if (st->sasl)
		return LANE_AUTH;
	if (in->kind == SESS_IN_BODY)
		return LANE_SPOOL;
	if (st->append)
		return LANE_DELIVERY;
	if (in->kind != SESS_IN_INPUT)
		return LANE_INTERACTIVE;
	struct cursor c = cursor_of(in->data);
	uint8_t flags;
	span bytes;
	struct imap_lex l;
	struct imap_args a;
	if (!sess_item_next(&c, &flags, &bytes))
		return LANE_INTERACTIVE;
	imap_lex_init(&l, bytes, NULL);
	return imap_parse_head(&l, &a) ? a.cmd->lane : LANE_INTERACTIVE;
}

static void handle_input(struct imap_job *j, span items)
{
	struct cursor c = cursor_of(items);
	uint8_t flags;
	span bytes;
	while (!j->st->closing && !j->starttls && sess_item_next(&c, &flags, &bytes)) {
		if (j->st->fetch) { /* front sends nothing while a FETCH drains: one that does is
				       broken */
			j->st->closing = true;
			return;
		}
		handle_item(j, bytes);
	}
}

/* Everything the peer said before the handshake is void (RFC 3501 6.2.1). */
static void forget(struct imap_session *st)
{
	imap_deselect(st);
	sasl_free(st->sasl);
	imap_append_free(st->append);
	imap_fetch_free(st->fetch);
	free(st->tag);
	*st = (struct imap_session){ .s = st->s,
				     .state = IMAP_IN_NONAUTH,
				     .auth_failures = st->auth_failures };
}

static void park(struct imap_job *j)
{
	struct imap_session *st = j->st;
	struct wire_park p = { .mode = SESS_MODE_LINES };
	if (st->sasl || st->watch) {
		p.mode = SESS_MODE_RAW;
	} else if (st->append) {
		p.mode = SESS_MODE_LITERAL;
		p.n = imap_append_size(st->append);
	}
	if (st->state != IMAP_IN_NONAUTH) {
		_cleanup_(conf_unrefp) struct conf *conf = j->env->conf(j->env);
		p.flags |= IMAP_PARK_AUTHENTICATED;
		p.idle_seconds = (uint32_t)(conf->imap_timeout / USEC_SEC);
	}
	if (st->fetch || sess_unsent(j->s) >= SESS_OUT_HIGH)
		p.flags |= SESS_PARK_WANT_DRAIN;
	sess_park(j->s, &p);
}

static void imap_job(struct sess *s, const struct sess_in *in)
{
	struct imap_session *st = s->state;
	struct imap_job j = { .s = s, .st = st, .env = s->core, .starttls_reply = BUF_INIT(256) };
	switch (in->kind) {
	case SESS_IN_INPUT:
		if (in->again && sasl_waiting(st->sasl))
			imap_auth_resume(&j);
		else
			handle_input(&j, in->data);
		break;
	case SESS_IN_BODY:
		imap_append_body(&j, in);
		break;
	case SESS_IN_TLS:
		forget(st);
		break;
	case SESS_IN_DRAINED:
	case SESS_IN_WAKE:
		if (st->fetch && in->kind == SESS_IN_DRAINED)
			imap_fetch_run(&j);
		else if (st->watch && sess_unsent(s) < SESS_OUT_HIGH &&
			 st->state == IMAP_IN_SELECTED && still_valid(&j))
			imap_sync(&j, false);
		break;
	}
	account_put(j.account);
	if (st->closing)
		sess_close(s);
	else if (j.starttls)
		sess_starttls(s, buf_span(&j.starttls_reply));
	else if (sasl_waiting(st->sasl))
		sess_wait(s);
	else
		park(&j);
	buf_done(&j.starttls_reply);
}

static void imap_close(struct sess *s)
{
	forget(s->state);
}

static void imap_busy(struct sess *s, struct buf *reply)
{
	buf_put_str(reply, "* BYE [UNAVAILABLE] Server is too busy, try again later\r\n");
}

const struct sess_ops imap_sess_ops = {
	.proto = SESS_PROTO_IMAP,
	.name = "imap",
	.size = sizeof(struct imap_session),
	.open = imap_open,
	.lane = imap_lane,
	.job = imap_job,
	.close = imap_close,
	.busy = imap_busy,
};
