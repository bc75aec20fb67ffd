/* Taking a whole message: checks, trace fields, then one account's commit or the queue.
 *
 * A message goes straight into its mailbox only if its whole durable effect is one commit in one
 * account, and nobody asked to be told of it; anything else is one commit of the whole envelope to
 * the queue.  Either way 2xx is said only after that commit was synced: by then mail_receive() returns, or the caller
 * waits for its ticket (can_hold). */
#include "mail/inspect.h"

#include <unistd.h>

#include "base/failpoint.h"
#include "db/db.h"
#include "format/header.h"
#include "sys/file.h"

#define PREFIX_MAX (16u * 1024)

struct final {
	struct mail_route *route;
	span original; /* ORCPT and NOTIFY of the envelope recipient it came from */
	unsigned notify;
	const struct mail_rcpt *of;
	bool shared; /* by several envelope recipients */
	int error;   /* of its own commit (mail_transaction.each) */
};

struct receive {
	struct core_env *env;
	struct mail_transaction *t;
	struct conf *conf;
	struct message_facts facts;
	bool opaque, bare; /* bare: the message begins with its body */
	struct final *finals;
	size_t n;
	struct buf prefix;
};

static bool refuse(struct mail_verdict *ret, unsigned code, const char *enhanced, span text)
{
	*ret = (struct mail_verdict){ code, enhanced, text };
	return false;
}

/* Binary parts become text: no mailbox and no peer gets them as they are (RFC 3030 section 3). */
static bool make_text(struct receive *r, struct mail_verdict *ret)
{
	int e, slot;

	if (!r->t->body_binary)
		return true;
	if (poison_enter(r->env->poison, POISON_RECEIVE, buf_span(&r->t->body), &slot))
		return refuse(ret, 554, "5.6.0", SPAN("the message cannot be converted"));
	e = mail_body_to_text(r->env, r->t);
	poison_leave(r->env->poison, slot);
	if (e == ERR_UNSUPPORTED)
		return refuse(ret, 554, "5.6.3", SPAN("binary content outside of a MIME part"));
	if (e < 0)
		*ret = verdict_of_error(e);
	return e == 0;
}

/* Defects that no store or peer may see (RFC 5321 2.3.8); long lines are carried. */
static bool check_defects(struct receive *r, struct mail_verdict *ret)
{
	unsigned d;

	message_scan_end(&r->t->scan);
	d = r->t->scan.defects;
	if (d & MESSAGE_NUL)
		return refuse(ret, 550, "5.6.0", SPAN("the message contains a NUL byte"));
	if (d & MESSAGE_BARE_CR)
		return refuse(ret, 550, "5.6.0", SPAN("the message contains a bare CR"));
	if (d & MESSAGE_BARE_LF)
		return refuse(ret, 550, "5.6.0", SPAN("the message contains a bare LF"));
	r->t->body_8bit |= (d & (MESSAGE_8BIT_BODY | MESSAGE_8BIT_HEADER)) != 0;
	return true;
}

/* For the queue, delivery asks this. */
static bool was_here(const struct receive *r)
{
	struct mail_transaction *t = r->t;

	return r->n == 1 && r->finals[0].route->kind == MAIL_ROUTE_LOCAL && r->facts.delivered_to &&
	       trace_loops(span_sub(buf_span(&t->body), 0, r->facts.header_size),
			   address_text(&r->finals[0].route->address, &t->mem));
}

static bool check_header(struct receive *r, struct mail_verdict *ret)
{
	struct mail_transaction *t = r->t;
	int slot, e;

	if (poison_enter(r->env->poison, POISON_RECEIVE, buf_span(&t->body), &slot)) {
		r->opaque = true;
		mail_step(&t->events, "mail.poison", "stage", SPAN("receive"));
		return true;
	}
	FAILPOINT("mail.receive.parse");
	message_check(buf_span(&t->body), &r->facts);
	/* What filters added since is not forged. */
	e = mail_was_filtered(t) ? 0 : mail_strip_forged(t, r->conf, &r->facts);
	poison_leave(r->env->poison, slot);
	if (e < 0) {
		*ret = verdict_of_error(e);
		return false;
	}
	r->bare = mail_is_bare(buf_span(&t->body), &r->facts);
	if (mail_header_cut(r->t, &r->facts))
		return refuse(ret, 552, "5.3.4",
			      SPAN("the header is larger than this server takes"));
	if (r->bare)
		r->facts = (struct message_facts){ 0 };
	if (r->facts.received > r->conf->max_received) {
		count_add(COUNT_LOOPS, 1);
		return refuse(ret, 554, "5.4.6", SPAN("too many hops, this message is in a loop"));
	}
	if (was_here(r)) {
		count_add(COUNT_LOOPS, 1);
		return refuse(ret, 554, "5.4.6",
			      SPAN("this message was delivered here before: a loop"));
	}
	return true;
}

static unsigned wanted(unsigned notify)
{
	return notify ? notify : RCPT_NOTIFY_FAILURE | RCPT_NOTIFY_DELAY;
}

/* Another envelope recipient leads to F too: it is one delivery, and whoever asked for a report of
 * it gets one. */
static void join(struct final *f, const struct mail_rcpt *m, unsigned notify)
{
	unsigned both = wanted(f->notify) | wanted(notify);

	if (f->notify == notify)
		return;
	if (wanted(f->notify) == RCPT_NOTIFY_NEVER)
		f->original = m->original;
	f->notify = both == RCPT_NOTIFY_NEVER ? both : both & ~(unsigned)RCPT_NOTIFY_NEVER;
}

unsigned mail_notify_expanded(unsigned notify)
{
	if (notify == RCPT_NOTIFY_SUCCESS)
		return RCPT_NOTIFY_NEVER; /* 0 would say that nothing was said */
	return notify & ~(unsigned)RCPT_NOTIFY_SUCCESS;
}

/* Success of an alias with several targets is its expansion (RFC 3461 5.2.7.3 c): the report of it
 * is owed by a recipient of its own, so that it is as durable as the message. */
static void gather_expanded(struct receive *r, const struct mail_rcpt *m)
{
	struct mail_route *x = arena_new(&r->t->mem, struct mail_route);

	*x = (struct mail_route){ .kind = MAIL_ROUTE_EXPANDED,
				  .address = m->address,
				  .route = SPAN("expanded") };
	r->finals[r->n++] = (struct final){
		.route = x, .original = m->original, .notify = RCPT_NOTIFY_SUCCESS, .of = m
	};
}

static void gather_targets(struct receive *r, const struct mail_rcpt *m, unsigned notify)
{
	for (size_t i = 0; i < m->n_routes; i++) {
		struct mail_route *x = &m->routes[i];
		size_t k = 0;

		if (x->kind == MAIL_ROUTE_REFUSED)
			continue;
		while (k < r->n && !mail_route_same(r->finals[k].route, x))
			k++;
		if (k < r->n) {
			join(&r->finals[k], m, notify);
			r->finals[k].shared = true;
			continue;
		}
		r->finals[r->n++] = (struct final){
			.route = x, .original = m->original, .notify = notify, .of = m
		};
	}
}

/* The final recipients of all envelope recipients, each once. */
static void gather(struct receive *r)
{
	struct mail_transaction *t = r->t;
	size_t cap = 0;

	for (struct mail_rcpt *m = t->rcpts; m; m = m->next)
		cap += m->n_routes + 1;
	r->finals = arena_array(&t->mem, struct final, cap + 1);
	for (struct mail_rcpt *m = t->rcpts; m; m = m->next) {
		if (m->n_routes < 2) {
			gather_targets(r, m, m->notify);
			continue;
		}
		gather_targets(r, m, mail_notify_expanded(m->notify));
		if ((m->notify & RCPT_NOTIFY_SUCCESS) && !address_is_null(&t->sender))
			gather_expanded(r, m);
	}
}

/* What the inspection (mail_inspect) found: a refusal, or another place for local copies. */
static bool heed_inspection(struct receive *r, struct mail_verdict *ret)
{
	const struct mail_inspection *i = r->t->inspection;

	if (!i)
		return true;
	if (i->refusal.code) {
		*ret = i->refusal;
		return false;
	}
	for (size_t k = 0; i->junk && k < r->n; k++)
		if (r->finals[k].route->kind == MAIL_ROUTE_LOCAL)
			r->finals[k].route->route = SPAN(MAIL_ROUTE_JUNK);
	return true;
}

/* Everything that stands above the message as received. */
static bool make_prefix(struct receive *r, struct mail_verdict *ret)
{
	struct mail_transaction *t = r->t;
	struct trace_in in = { .t = t,
			       .hostname = r->conf->hostname,
			       .now = clock_wall(),
			       .only_rcpt = t->n_rcpts == 1 ? &t->rcpts->address : NULL };

	buf_init(&r->prefix, PREFIX_MAX);
	trace_received_put(&r->prefix, &in);
	if (t->inspection)
		buf_put_span(&r->prefix, t->inspection->fields);
	if (t->submission && r->opaque && submit_from_checked(r->env, t, r->conf))
		return refuse(ret, 554, "5.6.0", SPAN("the message cannot be checked"));
	if (t->submission && !r->opaque &&
	    !submit_check(r->env, t, &r->facts, r->conf, &r->prefix, ret))
		return false;
	if (r->bare)
		buf_put_str(&r->prefix, "\r\n");
	if (r->prefix.failed)
		return refuse(ret, 451, "4.3.0", SPAN("the trace header became too long"));
	return true;
}

/* Prefix, head and tail as one file; the result is a spool fd. */
static int assemble_file(struct receive *r, span first, uint64_t *ret_size)
{
	_cleanup_(close_fdp) int fd = file_spool_open(r->env->spool_dir);
	uint64_t tail = r->t->body_size - r->t->body.n;
	int e;

	if (fd < 0)
		return STEAL_FD(&fd);
	if ((e = file_write_all(fd, first)) < 0 ||
	    (e = file_write_all(fd, buf_span(&r->prefix))) < 0 ||
	    (e = file_write_all(fd, buf_span(&r->t->body))) < 0 ||
	    (e = file_copy_all(r->t->spool_fd, 0, tail, fd)) < 0)
		return e;
	*ret_size = first.n + r->prefix.n + r->t->body_size;
	return STEAL_FD(&fd);
}

/* The same in memory. */
static int assemble_memory(struct receive *r, span first, struct buf *b)
{
	buf_init(b, first.n + r->prefix.n + r->t->body.n);
	buf_put_span(b, first);
	buf_put_span(b, buf_span(&r->prefix));
	return buf_put_span(b, buf_span(&r->t->body));
}

/* *RET_TRIED: the mailbox was asked; after a failed sync nobody knows whether it has the message. */
static int store_direct(struct receive *r, const struct mail_route *to, bool *ret_tried)
{
	_cleanup_(account_putp) struct account *a = NULL;
	_cleanup_(buf_donep) struct buf first = BUF_INIT(2048), whole = BUF_INIT(0);
	_cleanup_(close_fdp) int fd = -1;
	struct store_message m = {
		.spool_fd = -1, .trace = r->t->id, .opaque = r->opaque, .quota = to->quota_bytes
	};
	struct imap_uid uid;
	uint32_t validity;
	int e, slot;

	e = account_get(r->env->store, span_str(to->account_id), &a, NULL);
	if (e < 0)
		return e;
	trace_delivery_put(&first, address_text(&r->t->sender, &r->t->mem),
			   address_text(&to->address, &r->t->mem));
	if (r->t->spool_fd >= 0) {
		fd = assemble_file(r, buf_span(&first), &m.size);
		if (fd < 0)
			return STEAL_FD(&fd);
		m.spool_fd = fd;
	} else {
		e = assemble_memory(r, buf_span(&first), &whole);
		if (e < 0)
			return e;
		m.bytes = buf_span(&whole);
		m.size = whole.n;
	}
	m.opaque |= poison_enter(r->env->poison, POISON_STORE, buf_span(&r->t->body), &slot);
	*ret_tried = true;
	e = store_append(a, mail_mailbox_of(to->route), true, &m, &uid, &validity);
	poison_leave(r->env->poison, slot);
	if (e < 0)
		return e;
	struct event *ev = event_note(&r->t->events, "store.append");
	event_span(ev, "account", address_text(&to->address, &r->t->mem), &r->t->mem);
	event_span(ev, "mailbox", mail_mailbox_of(to->route), &r->t->mem);
	event_u64(ev, "uid", uid.v, &r->t->mem);
	count_add(COUNT_DELIVERED_LOCAL, 1);
	r->t->stored = address_text(&to->address, &r->t->mem);
	return 0;
}

/* Does the message itself need SMTPUTF8?  Many clients ask for it whenever it is offered; to pass
 * that on would make a peer without it refuse plain mail (RFC 6531 3.2).  Recipients speak for
 * themselves. */
static bool needs_utf8(const struct mail_transaction *t)
{
	return t->smtputf8 && (t->sender.utf8 || (t->scan.defects & MESSAGE_8BIT_HEADER));
}

static int enqueue(struct receive *r, const struct final *finals, size_t n)
{
	struct mail_transaction *t = r->t;
	_cleanup_(buf_donep) struct buf whole = BUF_INIT(0);
	_cleanup_(close_fdp) int fd = -1;
	struct queue_rcpt_in *rcpts = arena_array(&t->mem, struct queue_rcpt_in, n);
	struct queue_message_in m = { .id = t->id,
				      .sender = address_text(&t->sender, &t->mem),
				      .spool_fd = -1,
				      .smtputf8 = needs_utf8(t),
				      .body_8bit = t->body_8bit,
				      .ret_full = t->ret_full,
				      .ret_hdrs = t->ret_hdrs,
				      .envid = t->envid,
				      .terms = t->terms,
				      .held = mail_is_quarantined(t),
				      .held_until = t->held_until,
				      .account_id = t->authenticated ? span_str(t->account.id)
								     : SPAN_NULL,
				      .rcpts = rcpts,
				      .n_rcpts = n };
	int e;

	for (size_t i = 0; i < n; i++)
		rcpts[i] = (struct queue_rcpt_in){ .address = address_text(
							   &finals[i].route->address, &t->mem),
						   .route = finals[i].route->route,
						   .original = finals[i].original,
						   .notify = finals[i].notify,
						   .not_before = t->held_until };
	if (t->spool_fd >= 0) {
		fd = assemble_file(r, SPAN_NULL, &m.size);
		if (fd < 0)
			return STEAL_FD(&fd);
		m.spool_fd = fd;
	} else {
		e = assemble_memory(r, SPAN_NULL, &whole);
		if (e < 0)
			return e;
		m.body = buf_span(&whole);
		m.size = whole.n;
	}
	e = queue_accept(r->env->queue, &m);
	if (e == 0)
		event_u64(event_note(&t->events, "queue.accept"), "recipients", n, &t->mem);
	return e;
}

/* Is one mailbox's commit the whole effect on F? */
static bool is_direct(const struct receive *r, const struct final *f)
{
	return f->route->kind == MAIL_ROUTE_LOCAL && !r->t->held_until &&
	       !mail_is_quarantined(r->t) &&
	       (!(f->notify & RCPT_NOTIFY_SUCCESS) || address_is_null(&r->t->sender));
}

/* Straight into the mailbox.  One that cannot take it now is the queue's business (1), except where
 * the account itself is the reason: a full one, or one whose files have vanished, for which nothing
 * may be promised; and except where the message may be in it all the same: the queue would make a
 * second copy of one that was answered. */
static int try_direct(struct receive *r, const struct final *f)
{
	bool tried = false;
	int e = store_direct(r, f->route, &tried);

	if (e == 0 || e == ERR_QUOTA || e == ERR_FULL || e == ERR_NOENT ||
	    (tried && (e == ERR_SYNC || e == ERR_IO)))
		return e;
	event_str(event_note(&r->t->events, "store.deferred"), "why", err_text(e), &r->t->mem);
	return 1;
}

static int commit(struct receive *r)
{
	int e = r->n == 1 && is_direct(r, &r->finals[0]) ? try_direct(r, &r->finals[0]) : 1;

	return e > 0 ? enqueue(r, r->finals, r->n) : e;
}

static struct mail_verdict accepted(const struct receive *r)
{
	char id[ID_TEXT];

	id_format(&r->t->id, id);
	return (struct mail_verdict){ 250, "2.0.0",
				      span_str(arena_printf(&r->t->mem, "accepted as %s", id)) };
}

/* What became of the targets of M. */
static struct mail_verdict verdict_of(const struct receive *r, const struct mail_rcpt *m)
{
	for (size_t i = 0; i < m->n_routes; i++)
		for (size_t k = 0; k < r->n; k++)
			if (r->finals[k].error < 0 &&
			    mail_route_same(r->finals[k].route, &m->routes[i]))
				return verdict_of_error(r->finals[k].error);
	return accepted(r);
}

/* One mailbox after the other, and the rest in one commit to the queue, so that each envelope
 * recipient has an answer of its own.  What several share goes to the queue: no answer may speak
 * for a part of somebody's copies. */
static int commit_each(struct receive *r)
{
	struct final *rest = arena_array(&r->t->mem, struct final, r->n);
	size_t n = 0;
	int e, bad = 0;

	for (size_t i = 0; i < r->n; i++) {
		struct final *f = &r->finals[i];

		e = !f->shared && f->of->n_routes == 1 && is_direct(r, f) ? try_direct(r, f) : 1;
		f->error = MIN(e, 0);
		if (e > 0)
			rest[n++] = *f;
	}
	e = n ? enqueue(r, rest, n) : 0;
	for (size_t i = 0; i < r->n; i++)
		for (size_t k = 0; k < n; k++)
			if (rest[k].route == r->finals[i].route)
				r->finals[i].error = e;
	for (struct mail_rcpt *m = r->t->rcpts; m; m = m->next) {
		struct event *ev;

		m->verdict = verdict_of(r, m);
		if (m->verdict.code < 300)
			continue;
		bad++;
		ev = event_note(&r->t->events, "smtp.rcpt");
		event_span(ev, "to", address_text(&m->address, &r->t->mem), &r->t->mem);
		event_u64(ev, "code", m->verdict.code, &r->t->mem);
		event_str(ev, "status", m->verdict.enhanced, &r->t->mem);
		event_span(ev, "text", m->verdict.text, &r->t->mem);
	}
	return bad;
}

/* A filter wants that nobody has it, nor knows. */
static struct mail_verdict discarded(const struct receive *r)
{
	struct mail_verdict v = accepted(r);

	for (struct mail_rcpt *m = r->t->rcpts; m; m = m->next)
		m->verdict = v;
	return v;
}

/* A 2xx verdict means that it is on disk for whoever is not told otherwise. */
static struct mail_verdict commit_all(struct receive *r)
{
	int e;

	if (!r->n)
		return (struct mail_verdict){ 554, "5.5.1", SPAN("no valid recipients") };
	if (!r->t->each) {
		e = commit(r);
		return e == 0 ? accepted(r) : verdict_of_error(e);
	}
	return (unsigned)commit_each(r) < r->t->n_rcpts ? accepted(r) : r->t->rcpts->verdict;
}

static void write_timeline(struct receive *r, const struct mail_verdict *v)
{
	struct mail_transaction *t = r->t;
	span *keys = arena_array(&t->mem, span, t->n_rcpts + r->n + 3);
	size_t n = 0;
	struct event *ev = event_note(&t->events, v->code < 300 ? "smtp.accepted" : "smtp.refused");
	char ip[SOCK_TEXT];

	sock_ip_text(&t->peer, ip);
	event_str(ev, "peer", ip, &t->mem);
	event_span(ev, "helo", span_sub(t->helo, 0, 255), &t->mem);
	event_span(ev, "from", address_text(&t->sender, &t->mem), &t->mem);
	event_u64(ev, "size", t->body_size, &t->mem);
	if (t->tls)
		event_span(ev, "tls", t->tls_text, &t->mem);
	if (t->authenticated)
		event_span(ev, "account", t->account.address, &t->mem);
	event_u64(ev, "code", v->code, &t->mem);
	event_str(ev, "status", v->enhanced, &t->mem);
	event_span(ev, "text", v->text, &t->mem);
	keys[n++] = address_text(&t->sender, &t->mem);
	if (r->facts.message_id_value.n && r->facts.message_id_value.n < 1000)
		keys[n++] = r->facts.message_id_value;
	if (t->message_id.n)
		keys[n++] = t->message_id;
	else
		t->message_id = span_sub(r->facts.message_id_value, 0, 1000);
	for (struct mail_rcpt *m = t->rcpts; m; m = m->next)
		keys[n++] = address_text(&m->address, &t->mem);
	for (size_t i = 0; i < r->n; i++) /* those that an alias leads to */
		if (r->finals[i].of->n_routes > 1 ||
		    !span_eq(r->finals[i].route->address.local, r->finals[i].of->address.local) ||
		    !span_eq(r->finals[i].route->address.domain, r->finals[i].of->address.domain))
			keys[n++] = address_text(&r->finals[i].route->address, &t->mem);
	mail_timeline(r->env, &t->id, &t->events, keys, n);
}

void mail_when_durable(uint64_t ticket, void (*fn)(int result, void *arg), void *arg)
{
	db_when_durable(ticket, fn, arg);
}

void mail_receive(struct core_env *env, struct mail_transaction *t, struct mail_verdict *ret)
{
	struct receive r = { .env = env, .t = t, .conf = env->conf(env) };

	gather(&r);
	if (make_text(&r, ret) && check_defects(&r, ret) && check_header(&r, ret) &&
	    heed_inspection(&r, ret) && make_prefix(&r, ret)) {
		if (t->can_hold)
			db_defer_begin();
		*ret = mail_is_discarded(t) ? discarded(&r) : commit_all(&r);
		t->ticket = t->can_hold ? db_defer_end() : 0;
	}
	count_add(ret->code < 300 ? COUNT_SMTP_ACCEPTED : COUNT_SMTP_REJECTED, 1);
	write_timeline(&r, ret);
	buf_done(&r.prefix);
	conf_unref(r.conf);
}
