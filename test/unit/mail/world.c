#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sys/file.h"

struct world w;

/* ------------------------------------------------------------------ life */

static struct conf *conf_of(struct core_env *env)
{
	return conf_ref(&w.conf);
}

static char *in_dir(const char *name)
{
	return (char *)arena_printf(&w.mem, "%s/%s", w.dir, name);
}

void world_open(void)
{
	struct err_info info = { 0 };
	struct store_conf store = { .dir = in_dir("accounts"), .max_open = 16, .inline_max = 4096 };
	struct events_conf events = { .dir = in_dir("events"), .segment_bytes = 1 << 20 };

	w.queue = (struct queue_conf){ .dir = in_dir("queue"),
				       .shards = 2,
				       .inline_max = 4096,
				       .retry_first = 60 * USEC_SEC,
				       .retry_max = 3600 * USEC_SEC,
				       .lifetime = 5 * 86400 * USEC_SEC,
				       .retry_factor_percent = 200 };
	if (directory_open(in_dir("directory.db"), &w.env.directory, &info) < 0 ||
	    store_open(&store, &w.env.store, &info) < 0 ||
	    queue_open(&w.queue, &w.env.queue, &info) < 0 ||
	    events_open(&events, &w.env.events, &info) < 0)
		fail_msg("%s", info.text);
	w.env.poison = poison_open(NULL);
}

void world_close(void)
{
	poison_close(w.env.poison);
	events_close(w.env.events);
	queue_close(w.env.queue);
	store_close(w.env.store);
	directory_close(w.env.directory);
}

int world_setup(void **state)
{
	w = (struct world){ .env.conf = conf_of };
	snprintf(w.dir, sizeof w.dir, "%s/test_mail.XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(w.dir));
	arena_init(&w.mem);
	snprintf(w.spool, sizeof w.spool, "%s/spool", w.dir);
	assert_int_equal(file_mkdirs(w.spool), 0);
	assert_int_equal(file_mkdirs(in_dir("accounts")), 0);
	w.env.spool_dir = w.spool;
	w.conf = (struct conf){ .hostname = SPAN("mx.here.test"),
				.inline_max = 4096,
				.max_received = 5,
				.srs = true,
				.refs = 1 };
	world_open();
	assert_int_equal(directory_domain_add(w.env.directory, SPAN("here.test"), NULL), 0);
	assert_int_equal(directory_domain_add(w.env.directory, SPAN("second.test"), NULL), 0);
	account("alice@here.test");
	account("bob@here.test");
	return 0;
}

int world_teardown(void **state)
{
	char cmd[96];

	world_close();
	arena_done(&w.mem);
	clock_set_offset(0);
	snprintf(cmd, sizeof cmd, "rm -rf %s", w.dir);
	return system(cmd);
}

void account(const char *address)
{
	char id[ACCOUNT_ID_LEN + 1];

	assert_int_equal(
		directory_account_add(w.env.directory, span_str(address), SPAN_NULL, id, NULL), 0);
	assert_int_equal(account_create(w.env.store, span_str(id), NULL), 0);
}

void alias(const char *address, const char *target, ...)
{
	span targets[16];
	size_t n = 0;
	va_list ap;

	va_start(ap, target);
	for (const char *t = target; t; t = va_arg(ap, const char *))
		targets[n++] = span_str(t);
	va_end(ap);
	assert_int_equal(directory_alias_add(w.env.directory, span_str(address), targets, n, NULL),
			 0);
}

/* ------------------------------------------------------------------ bringing mail */

struct address addr(const char *text)
{
	struct address a = { 0 };

	if (*text && address_parse(span_str(text), ADDRESS_ALLOW_UTF8, &w.mem, &a) != ADDRESS_OK)
		fail_msg("%s is no address", text);
	return a;
}

static const char *text_of(const struct mail_verdict *v)
{
	return arena_printf(&w.mem, "%u %s %.*s", v->code, v->enhanced, SPAN_FMT(v->text));
}

/* What RCPT does; the first refusal ends it. */
static bool add_rcpt(struct mail_transaction *t, const struct send *s, size_t i,
		     struct mail_verdict *v)
{
	const struct mail_route_from from = { .sender = &t->sender,
					      .authenticated = t->authenticated,
					      .notes = &t->events };
	struct mail_rcpt *r = arena_new(&t->mem, struct mail_rcpt);

	*r = (struct mail_rcpt){ .address = addr(s->rcpt[i]),
				 .notify = s->notify[i],
				 .original = span_str(s->original[i] ? s->original[i] : "") };
	assert_int_equal(mail_route(&w.env, &r->address, &from, &t->mem, &r->routes, &r->n_routes),
			 0);
	if (r->routes[0].kind == MAIL_ROUTE_REFUSED) {
		*v = r->routes[0].refusal;
		return false;
	}
	if (mail_route_full(&w.env, r->routes, r->n_routes, v))
		return false;
	*t->rcpts_tail = r;
	t->rcpts_tail = &r->next;
	t->n_rcpts++;
	return true;
}

static struct mail_transaction *begin(const struct send *s)
{
	struct mail_transaction *t = mail_transaction_new();

	assert_int_equal(sock_parse_ip(SPAN("192.0.2.7"), 4711, &t->peer), 0);
	t->sender = addr(s->from);
	t->helo = SPAN("client.else.test");
	t->esmtp = true;
	t->smtputf8 = s->smtputf8;
	t->ret_full = s->ret_full;
	t->ret_hdrs = s->ret_hdrs;
	t->lmtp = s->lmtp;
	t->each = s->each;
	t->body_binary = s->binary;
	t->terms = s->terms;
	t->held_until = s->held_until;
	t->envid = span_str(s->envid ? s->envid : "");
	if (s->as) {
		t->submission = t->authenticated = true;
		assert_int_equal(directory_account_get(w.env.directory, span_str(s->as), &t->mem,
						       &t->account),
				 0);
	}
	w.last = t->id;
	return t;
}

static void run(struct mail_transaction *t, const struct send *s, span message,
		struct mail_verdict *v)
{
	size_t n;

	if (s->as && !mail_sender_allowed(&w.env, &t->account, &t->sender, &t->mem, v))
		return;
	for (size_t i = 0; i < ARRAY_LEN(s->rcpt) && s->rcpt[i]; i++)
		if (!add_rcpt(t, s, i, v))
			return;
	for (size_t at = 0; at < message.n; at += 10000) {
		int e = mail_body_add(&w.env, t, span_sub(message, at, 10000), 8 << 20);

		if (e < 0) {
			*v = (struct mail_verdict){ 552, "5.3.4", span_str(err_text(e)) };
			return;
		}
	}
	if (w.inspect)
		w.inspect(t);
	mail_receive(&w.env, t, v);
	n = 0;
	for (const struct mail_rcpt *m = t->rcpts; m; m = m->next)
		w.each[n++] = m->verdict.code;
}

const char *mail_send(const struct send *s, span message)
{
	struct mail_transaction *t = begin(s);
	struct mail_verdict v = { 0 };
	const char *text;

	run(t, s, message, &v);
	text = text_of(&v);
	mail_transaction_free(t);
	return text;
}

const char *send_one(const char *from, const char *to, const char *message)
{
	return mail_send(&(struct send){ .from = from, .rcpt = { to } }, span_str(message));
}

const char *submit(const char *as, const char *message)
{
	return mail_send(&(struct send){ .from = as, .rcpt = { "out@else.test" }, .as = as },
			 span_str(message));
}

/* ------------------------------------------------------------------ looking */

static struct account *account_of(const char *address)
{
	struct directory_account d;
	struct account *a;

	assert_int_equal(directory_account_get(w.env.directory, span_str(address), &w.mem, &d), 0);
	assert_int_equal(account_get(w.env.store, span_str(d.id), &a, NULL), 0);
	return a;
}

size_t inbox_count(const char *address)
{
	_cleanup_(account_putp) struct account *a = account_of(address);
	struct mailbox_info box;

	assert_int_equal(store_mailbox_find(a, SPAN("INBOX"), &w.mem, &box), 0);
	return box.messages;
}

span inbox_get(const char *address, size_t n)
{
	_cleanup_(account_putp) struct account *a = account_of(address);
	_cleanup_(buf_donep) struct buf b = BUF_INIT(16 << 20);
	const struct store_view *view;
	struct mailbox_info box;
	struct store_item item;

	assert_int_equal(store_mailbox_find(a, SPAN("INBOX"), &w.mem, &box), 0);
	assert_int_equal(store_view_get(a, box.id, &view), 0);
	assert_true(n >= 1 && n <= view->n);
	assert_int_equal(store_item_get(a, box.id, (struct imap_uid){ view->rows[n - 1].uid }, 0,
					&w.mem, &item),
			 0);
	store_view_put(view);
	assert_int_equal(store_body_read(a, item.body_id, 0, item.size, &b), 0);
	assert_int_equal(b.n, item.size);
	return arena_span(&w.mem, buf_span(&b));
}

size_t queue_rcpts(void)
{
	uint64_t messages, rcpts, leased;

	queue_stats(w.env.queue, &messages, &rcpts, &leased);
	return rcpts;
}

bool take_lease(struct queue_lease *ret)
{
	usec next;
	int r = queue_lease(w.env.queue, &w.mem, ret, &next);

	assert_true(r >= 0);
	return r == 1;
}

/* The due lease with ADDRESS; all others go back. */
static bool lease_with(const char *address, struct queue_lease *ret)
{
	struct queue_lease all[64];
	size_t n = 0;
	bool found = false;

	while (n < ARRAY_LEN(all) && take_lease(&all[n]))
		n++;
	for (size_t i = 0; i < n; i++) {
		bool here = false;

		for (size_t k = 0; k < all[i].n_rcpts && !found; k++)
			here |= span_eq_str(all[i].rcpts[k].address, address);
		if (here)
			*ret = all[i];
		else
			queue_release(w.env.queue, &all[i]);
		found |= here;
	}
	return found;
}

span queued_body(const char *address)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(16 << 20);
	struct queue_lease l;

	if (!lease_with(address, &l))
		fail_msg("nothing waits for %s", address);
	assert_int_equal(queue_body_read(w.env.queue, &l, 0, l.size, &b), 0);
	assert_int_equal(b.n, l.size);
	queue_release(w.env.queue, &l);
	return arena_span(&w.mem, buf_span(&b));
}

void deliver_all(void)
{
	struct queue_lease l, rest[64];
	size_t n = 0;

	while (take_lease(&l)) {
		if (mail_route_is_local(l.route))
			mail_deliver_local(&w.env, &l);
		else
			rest[n++] = l;
	}
	while (n)
		queue_release(w.env.queue, &rest[--n]);
}

void answer(const char *address, enum rcpt_outcome outcome, const char *status, const char *reply,
	    const char *remote)
{
	struct queue_result like = { .outcome = outcome,
				     .reply = span_str(reply),
				     .remote = span_str(remote) };

	snprintf(like.status, sizeof like.status, "%s", status);
	answer_like(address, &like);
}

void answer_like(const char *address, const struct queue_result *like)
{
	struct queue_result results[16] = { 0 };
	struct event_list events;
	struct queue_lease l;

	event_list_init(&events, &w.mem);
	if (!lease_with(address, &l))
		fail_msg("nothing waits for %s", address);
	for (size_t i = 0; i < l.n_rcpts; i++) {
		results[i] = *like;
		results[i].row = l.rcpts[i].row;
	}
	assert_int_equal(mail_settle(&w.env, &l, results, l.n_rcpts, &events), 0);
}

size_t steps(const struct id *id, const char *name)
{
	struct event_list l;
	size_t n = 0;

	event_list_init(&l, &w.mem);
	events_flush(w.env.events);
	assert_int_equal(events_trace(w.env.events, id, &w.mem, &l), 0);
	for (const struct event *e = l.first; e; e = e->next)
		n += strcmp(e->name, name) == 0;
	return n;
}

bool found_by(const struct id *id, const char *key)
{
	struct id ids[20];
	size_t n = 0;
	bool found = false;

	events_flush(w.env.events);
	assert_int_equal(events_find(w.env.events, span_str(key), &w.mem, ids, ARRAY_LEN(ids), &n),
			 0);
	for (size_t i = 0; i < n; i++)
		found |= id_eq(&ids[i], id);
	return found;
}

bool has(span message, const char *text)
{
	return memmem(message.p, message.n, text, strlen(text)) != NULL;
}

void assert_verdict_at(const char *verdict, const char *text, const char *file, int line)
{
	if (strncmp(verdict, text, strlen(text)) == 0)
		return;
	print_error("want \"%s...\", got \"%s\"\n", text, verdict);
	_fail(file, line);
}
