#include "mail/filters.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/log.h"
#include "filter/hook.h"
#include "http/http.h"
#include "sys/file.h"

#define SLACK USEC_SEC /* `out` tells that time is up before we find out by ourselves */

/* What is asked. */
struct question {
	struct core_env *env;
	struct mail_transaction *t;
	struct mail_filters *f;
	struct filter_state *st;
	const struct address *rcpt; /* the new one; NULL: the message */
	struct ask_set **asks;
};

/* ------------------------------------------------------------------ the chain */

static bool applies(const struct conf_filter *c, const struct mail_transaction *t)
{
	return c->applies == CONF_FILTER_FOR_ALL ||
	       (c->applies == CONF_FILTER_FOR_SUBMISSION) == t->submission;
}

static bool hears_recipients(const struct conf_filter *c)
{
	if (c->kind == CONF_FILTER_CLAMD)
		return false;
	return c->stages == CONF_FILTER_ALL ||
	       (c->stages == CONF_FILTER_AUTO && c->kind == CONF_FILTER_MILTER);
}

/* NULL: no filter is interested. */
static struct mail_filters *filters_of(struct core_env *env, struct mail_transaction *t)
{
	struct mail_filters *f = t->filters;
	struct conf *conf;

	if (f)
		return f->n ? f : NULL;
	conf = env->conf(env);
	f = t->filters = xcalloc(1, sizeof *f);
	*f = (struct mail_filters){ .env = env, .conf = conf, .whole = -1 };
	arena_init(&f->mem);
	f->states = arena_array(&f->mem, struct filter_state, conf->n_filters);
	for (size_t i = 0; i < conf->n_filters; i++)
		if (applies(&conf->filters[i], t))
			f->states[f->n++].conf = &conf->filters[i];
	return f->n ? f : NULL;
}

bool mail_was_filtered(const struct mail_transaction *t)
{
	return t->filters && t->filters->prepared;
}

bool mail_is_quarantined(const struct mail_transaction *t)
{
	return t->filters && t->filters->quarantine;
}

bool mail_is_discarded(const struct mail_transaction *t)
{
	return t->filters && t->filters->discard;
}

/* ------------------------------------------------------------------ facts */

static struct filter_session session_of(const struct mail_transaction *t, const struct conf *conf,
					struct arena *mem)
{
	char *id = arena_alloc(mem, ID_TEXT);
	span tls = t->tls_text, version = span_cut(&tls, ' ');

	id_format(&t->id, id);
	return (struct filter_session){
		.id = span_str(id),
		.hostname = conf->hostname,
		.daemon = t->submission ? SPAN("submission") : SPAN("inbound"),
		.peer = t->peer,
		.peer_name = t->peer_name,
		.helo = t->helo,
		.tls_version = version,
		.cipher = tls,
		.auth_type = t->auth_type,
		.auth_user = t->authenticated ? t->account.address : SPAN_NULL,
		.sender = address_text(&t->sender, mem),
		.size = t->declared_size,
		.smtputf8 = t->smtputf8,
		.body_8bit = t->body_8bit
	};
}

/* The recipients accepted so far, if ALL, and the new one. */
static span *rcpts_of(const struct question *q, bool all, struct arena *mem, size_t *ret_n)
{
	span *list = arena_array(mem, span, q->t->n_rcpts + 1);
	size_t n = 0;

	for (const struct mail_rcpt *r = q->t->rcpts; r && all; r = r->next)
		list[n++] = address_text(&r->address, mem);
	if (q->rcpt)
		list[n++] = address_text(q->rcpt, mem);
	*ret_n = n;
	return list;
}

/* ------------------------------------------------------------------ asking */

static struct ask_set *set_of(const struct question *q)
{
	if (!*q->asks)
		*q->asks = ask_set_new(q->env->asks, q->t->wake, q->t->wake_arg, q->t->wake_id);
	return *q->asks;
}

/* The message as it is now, in one file. */
static int make_whole(const struct question *q)
{
	struct mail_transaction *t = q->t;
	_cleanup_(close_fdp) int fd = -1;
	int e;

	if (q->f->whole >= 0)
		return 0;
	fd = file_spool_open(q->env->spool_dir);
	if (fd < 0)
		return STEAL_FD(&fd);
	e = file_write_all(fd, buf_span(&t->body));
	if (e == 0 && t->spool_fd >= 0)
		e = file_copy_all(t->spool_fd, 0, t->body_size - t->body.n, fd);
	if (e < 0)
		return e;
	q->f->whole = STEAL_FD(&fd);
	q->f->whole_size = t->body_size;
	return 0;
}

static usec patience(const struct question *q)
{
	return q->st->conf->timeout + (q->rcpt ? 0 : q->st->conf->timeout_message) + SLACK;
}

static int ask_wire(const struct question *q, struct arena *mem)
{
	const struct conf_filter *c = q->st->conf;
	_cleanup_(buf_donep) struct buf b = BUF_INIT(CHANNEL_MAX);
	struct filter_ask a = { .timeout = c->timeout, .timeout_end = c->timeout_message };
	int e;

	q->f->fresh = !q->st->conversation;
	if (q->f->fresh) {
		q->st->conversation = random_u64() | 1;
		a.flags |= FILTER_FRESH;
		a.session = session_of(q->t, q->f->conf, mem);
	}
	a.conversation = q->st->conversation;
	a.kind = c->kind == CONF_FILTER_MILTER ? FILTER_WIRE_MILTER : FILTER_WIRE_CLAMD;
	a.rcpts = rcpts_of(q, q->f->fresh, mem, &a.n_rcpts);
	if (!q->rcpt) {
		if ((e = make_whole(q)) < 0)
			return e;
		a.flags |= FILTER_END;
		a.size = q->f->whole_size;
		a.header_size = q->f->header_size;
		a.new_body_max = q->f->conf->max_message;
	}
	e = sock_parse(c->address, &a.to);
	if (e == 0)
		e = filter_ask_put(&b, &a);
	if (e == 0)
		e = ask_set_add(set_of(q), FILTER_ASK, buf_span(&b), q->rcpt ? -1 : q->f->whole,
				patience(q));
	return MIN(e, 0);
}

/* What a hook is told, as JSON. */
static int put_hook(const struct question *q, struct buf *b, struct arena *mem)
{
	const struct filter_session s = session_of(q->t, q->f->conf, mem);
	struct hook_message m = { .session = &s,
				  .stage = q->rcpt ? "rcpt" : "message",
				  .submission = q->t->submission };
	span all = buf_span(&q->t->body);
	uint64_t body = q->t->body_size - q->f->header_size;
	char *p;

	m.rcpts = rcpts_of(q, true, mem, &m.n_rcpts);
	if (q->rcpt)
		return hook_request_put(b, &m);
	m.header = span_sub(all, 0, q->f->header_size);
	m.size = q->t->body_size;
	m.show_body = body <= q->st->conf->body;
	if (m.show_body && q->t->spool_fd < 0) {
		m.body = span_from(all, q->f->header_size);
	} else if (m.show_body) {
		int e = make_whole(q);

		p = arena_alloc(mem, body + 1);
		if (e == 0)
			e = file_pread_all(q->f->whole, p, body, q->f->header_size);
		if (e < 0)
			return e;
		m.body = span_of(p, body);
	}
	return hook_request_put(b, &m);
}

static int ask_hook(const struct question *q, struct arena *mem)
{
	enum { JSON_MAX = 128 * 1024 * 1024 };
	struct http_header type = { SPAN("Content-Type"), SPAN("application/json") };
	_cleanup_(buf_donep) struct buf json = BUF_INIT(JSON_MAX), b = BUF_INIT(CHANNEL_MAX);
	_cleanup_(close_fdp) int fd = -1; /* of what is too long for the question itself */
	struct http_request r = { .method = SPAN("POST"),
				  .url = q->st->conf->address,
				  .headers = &type,
				  .n_headers = 1,
				  .answer_max = HTTP_ANSWER_MAX,
				  .timeout = q->rcpt ? q->st->conf->timeout
						     : q->st->conf->timeout_message,
				  .flags = HTTP_LOCAL };
	int e = put_hook(q, &json, mem);

	if (e < 0)
		return e;
	r.body_size = json.n;
	if (json.n <= HTTP_INLINE_MAX) {
		r.body = buf_span(&json);
	} else {
		fd = file_spool_open(q->env->spool_dir);
		e = fd < 0 ? fd : file_write_all(fd, buf_span(&json));
	}
	if (e == 0)
		e = http_request_put(&b, &r);
	if (e == 0)
		e = ask_set_add(set_of(q), HTTP_ASK, buf_span(&b), fd, patience(q));
	return MIN(e, 0);
}

static int ask(const struct question *q)
{
	struct arena mem _cleanup_(arena_donep);

	arena_init(&mem);
	return q->st->conf->kind == CONF_FILTER_HTTP ? ask_hook(q, &mem) : ask_wire(q, &mem);
}

/* ------------------------------------------------------------------ answers */

static struct filter_result failed(const char *why)
{
	return (struct filter_result){ .action = FILTER_FAILED, .text = span_str(why) };
}

static void take_hook(const struct question *q, span payload, struct filter_result *ret)
{
	struct arena *mem = &q->f->mem;
	struct http_answer a;

	if (http_answer_get(payload, mem, &a) < 0)
		*ret = failed("its answer could not be read");
	else if (a.fail != HTTP_FAIL_NONE)
		*ret = failed(arena_cstr(mem, a.why));
	else if (a.status != 200)
		*ret = failed(arena_printf(mem, "it answered with the status %u", a.status));
	else
		hook_answer_parse(a.body, mem, ret);
}

static void take(const struct question *q, struct filter_result *ret)
{
	uint16_t type = 0;
	span payload;
	int e = ask_set_answer(*q->asks, 0, &type, &payload, NULL);

	payload = e == 0 ? arena_span(&q->f->mem, payload) : SPAN_NULL;
	ask_set_unref(*q->asks);
	*q->asks = NULL;
	if (e < 0)
		*ret = failed(e == ERR_TIMEOUT ? "it did not answer in time"
					       : "the process that asks it was restarted");
	else if (q->st->conf->kind == CONF_FILTER_HTTP)
		take_hook(q, payload, ret);
	else if (type != FILTER_ANSWER || filter_result_get(payload, &q->f->mem, ret) < 0)
		*ret = failed("its answer could not be read");
}

static void no_wake(void *arg, uint64_t id)
{
}

/* Nobody waits for the answer. */
static void hang_up(struct mail_filters *f, struct filter_state *st)
{
	struct filter_ask a = { .conversation = st->conversation,
				.flags = FILTER_CLOSE,
				.timeout = USEC_SEC,
				.timeout_end = USEC_SEC };
	_cleanup_(buf_donep) struct buf b = BUF_INIT(CHANNEL_MAX);
	struct ask_set *set;

	st->conversation = 0;
	if (filter_ask_put(&b, &a) < 0)
		return;
	set = ask_set_new(f->env->asks, no_wake, NULL, 0);
	if (ask_set_add(set, FILTER_ASK, buf_span(&b), -1, USEC_SEC) >= 0)
		ask_set_go(set);
	ask_set_unref(set);
}

void mail_filters_free(struct mail_filters *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < f->n; i++)
		if (f->states[i].conversation)
			hang_up(f, &f->states[i]);
	ask_set_unref(f->rcpt_asks);
	close_fdp(&f->whole);
	conf_unref(f->conf);
	arena_done(&f->mem);
	free(f);
}

/* ------------------------------------------------------------------ verdicts */

static struct mail_verdict refusal_of(const struct filter_result *r, struct arena *mem)
{
	bool now = r->action == FILTER_TEMPFAIL;
	struct mail_verdict v = { now ? 451 : 550, now ? "4.7.1" : "5.7.1",
				  now ? SPAN("not accepted now, try again later")
				      : SPAN("refused by this server's policy") };

	if (r->code)
		v.code = r->code;
	if (r->enhanced.n)
		v.enhanced = arena_cstr(mem, r->enhanced);
	if (r->text.n)
		v.text = arena_span(mem, r->text);
	return v;
}

static struct mail_verdict refusal_by_policy(int policy, bool too_large)
{
	if (policy == CONF_FILTER_DEFER)
		return (struct mail_verdict){
			451, "4.7.1", SPAN("the message cannot be checked now, try again later")
		};
	if (policy == CONF_FILTER_REJECT && too_large)
		return (struct mail_verdict){ 552, "5.3.4",
					      SPAN("the message is too large to be checked") };
	if (policy == CONF_FILTER_REJECT)
		return (struct mail_verdict){ 550, "5.7.1", SPAN("the message cannot be checked") };
	return (struct mail_verdict){ 0 };
}

static const char *const action_names[] = {
	[FILTER_CONTINUE] = "continue", [FILTER_ACCEPT] = "accept",   [FILTER_REJECT] = "reject",
	[FILTER_TEMPFAIL] = "defer",	[FILTER_DISCARD] = "discard", [FILTER_FAILED] = "failed",
	[FILTER_LOST] = "lost",
};

static void note(const struct question *q, const struct filter_result *r)
{
	struct arena *mem = &q->t->mem;
	struct event *e;

	if (q->rcpt && r->action == FILTER_CONTINUE)
		return;
	e = event_note(&q->t->events, "filter.verdict");
	event_span(e, "filter", q->st->conf->name, mem);
	event_str(e, "stage", q->rcpt ? "rcpt" : "message", mem);
	event_str(e, "action", r->quarantine ? "quarantine" : action_names[r->action], mem);
	if (r->code)
		event_u64(e, "code", r->code, mem);
	if (r->enhanced.n)
		event_span(e, "status", r->enhanced, mem);
	if (r->text.n)
		event_span(e, "text", r->text, mem);
	else if (r->quarantine_text.n)
		event_span(e, "text", r->quarantine_text, mem);
	if (r->action == FILTER_FAILED)
		log_event(LOG_WARNING, "filter.failed", F_ID("id", &q->t->id),
			  F_SPAN("filter", q->st->conf->name), F_SPAN("why", r->text));
}

/* What clamd found becomes what the administrator wants done about it. */
static void heed_find(const struct question *q, struct filter_result *r)
{
	struct arena *mem = &q->f->mem;

	if (q->st->conf->kind != CONF_FILTER_CLAMD || r->action != FILTER_REJECT)
		return;
	switch (q->st->conf->on_find) {
	case CONF_FIND_REJECT:
		r->code = 554;
		r->enhanced = SPAN("5.7.1");
		r->text = span_str(
			arena_printf(mem, "the message contains malware: %.*s", SPAN_FMT(r->text)));
		break;
	case CONF_FIND_QUARANTINE:
		r->action = FILTER_CONTINUE;
		r->quarantine = true;
		r->quarantine_text = r->text;
		break;
	case CONF_FIND_HEADER:
		r->action = FILTER_CONTINUE;
		r->edits = arena_new(mem, struct filter_edit);
		r->edits[0] = (struct filter_edit){
			.kind = FILTER_INSERT_HEADER,
			.name = SPAN("X-Virus-Status"),
			.value = span_str(arena_printf(mem, " Infected (%.*s)", SPAN_FMT(r->text)))
		};
		r->n_edits = 1;
		break;
	}
}

/* ------------------------------------------------------------------ one filter */

/* ERR_AGAIN: asked, or asked anew; 0: *RET is the answer. */
static int consult(const struct question *q, struct filter_result *ret)
{
	int e;

	if (*q->asks) {
		take(q, ret);
		if (ret->action != FILTER_LOST)
			return 0;
		*ret = failed("it was told everything anew, and that was lost too");
		if (q->f->fresh)
			return 0;
		q->st->conversation = 0;
	}
	e = ask(q);
	if (e == 0)
		return ERR_AGAIN;
	ask_set_unref(*q->asks);
	*q->asks = NULL;
	*ret = failed(err_text(e));
	return 0;
}

/* What R means for the recipient or the message at hand; its changes are made. */
static struct mail_verdict heed(const struct question *q, const struct filter_result *r)
{
	struct filter_state *st = q->st;
	int e = 0;

	if (r->action == FILTER_FAILED && st->conversation)
		hang_up(q->f,
			st); /* if it was only too late for us, it must not write into what others read */
	if (!q->rcpt || r->action == FILTER_ACCEPT)
		st->conversation = 0; /* `out` has hung up */
	switch (r->action) {
	case FILTER_REJECT:
	case FILTER_TEMPFAIL:
		return refusal_of(r, &q->t->mem);
	case FILTER_FAILED:
	case FILTER_LOST:
		st->over = true;
		return refusal_by_policy(st->conf->on_error, false);
	case FILTER_DISCARD:
		q->f->discard = true;
		break;
	case FILTER_ACCEPT:
		st->over = true;
		/* fallthrough */
	case FILTER_CONTINUE:
		if (!q->rcpt)
			e = filter_apply(q->env, q->t, st, r);
		break;
	}
	return e < 0 ? verdict_of_error(e) : (struct mail_verdict){ 0 };
}

static bool is_too_large(const struct question *q, struct mail_verdict *ret)
{
	const struct conf_filter *c = q->st->conf;
	struct event *e;

	if (q->rcpt || q->t->body_size <= c->max_size)
		return false;
	e = event_note(&q->t->events, "filter.too_large");
	event_span(e, "filter", c->name, &q->t->mem);
	*ret = refusal_by_policy(c->too_large, true);
	return true;
}

/* All of them, from F->at on.  ERR_AGAIN: one was asked. */
static int run_chain(struct question *q, struct mail_verdict *ret)
{
	struct mail_filters *f = q->f;

	*ret = (struct mail_verdict){ 0 };
	for (; f->at < f->n && !f->discard && !ret->code; f->at++) {
		struct filter_result r;

		q->st = &f->states[f->at];
		if (q->st->over || (q->rcpt && !hears_recipients(q->st->conf)) ||
		    is_too_large(q, ret))
			continue;
		if (consult(q, &r) == ERR_AGAIN)
			return ERR_AGAIN;
		heed_find(q, &r);
		note(q, &r);
		*ret = heed(q, &r);
	}
	f->at = 0;
	return 0;
}

/* ------------------------------------------------------------------ the two stages */

int mail_filter_rcpt(struct core_env *env, struct mail_transaction *t, const struct address *rcpt,
		     struct mail_verdict *ret)
{
	struct mail_filters *f = filters_of(env, t);
	struct question q = { .env = env, .t = t, .f = f, .rcpt = rcpt };

	*ret = (struct mail_verdict){ 0 };
	if (!f)
		return 0;
	if (f->rcpt_asks && !ask_set_ready(f->rcpt_asks))
		return ERR_AGAIN;
	q.asks = &f->rcpt_asks;
	if (run_chain(&q, ret) != ERR_AGAIN)
		return 0;
	ask_set_go(f->rcpt_asks);
	return ERR_AGAIN;
}

/* The message in the form in which filters see it. */
static void prepare(struct core_env *env, struct mail_transaction *t, struct mail_verdict *ret)
{
	struct mail_filters *f = t->filters;
	struct message_facts facts;
	int e;

	f->prepared = true;
	message_check(buf_span(&t->body), &facts);
	e = mail_strip_forged(t, f->conf, &facts);
	if (e < 0)
		*ret = verdict_of_error(e);
	else if (mail_header_cut(t, &facts))
		f->skipped = true; /* mail_receive() refuses it */
	else if (!t->submission || submit_complete(env, t, &facts, f->conf, ret))
		f->header_size = mail_is_bare(buf_span(&t->body), &facts) ? 0 : facts.header_size;
}

int inspect_filters(struct core_env *env, struct mail_transaction *t, struct conf *conf,
		    struct mail_inspection *i)
{
	struct mail_filters *f = filters_of(env, t);
	struct question q = { .env = env, .t = t, .f = f, .asks = &i->asks };
	int slot, e = 0;

	if (!f || f->skipped)
		return 0;
	if (poison_enter(env->poison, POISON_RECEIVE, buf_span(&t->body), &slot)) {
		f->skipped = true;
		event_note(&t->events, "filter.skipped");
		return 0;
	}
	FAILPOINT("mail.filters");
	if (!f->prepared)
		prepare(env, t, &i->refusal);
	if (!f->skipped && !i->refusal.code)
		e = run_chain(&q, &i->refusal);
	poison_leave(env->poison, slot);
	return e;
}
