#include "fakes.h"

#include <stdio.h>
#include <stdlib.h>

#include "sasl/sasl.h"
#include "sys/net.h"

struct fake fake;

static struct conf conf = { .hostname = { "mx.example.test", 15 },
			    .max_message = 1024 * 1024,
			    .max_rcpts = 5,
			    .submission_hold = 86400 * USEC_SEC,
			    .auth_mechanisms = SASL_BIT(SCRAM_SHA256_PLUS) | SASL_BIT(SCRAM_SHA256) | SASL_BIT(PLAIN) |
					       SASL_BIT(LOGIN) };
static struct core_env env;
static struct arena job_mem;
static struct session {
	struct sess s;
	struct buf out, items;
	struct wire_park park;
	bool starttls, closed, waits;
} session;

/* ------------------------------------------------------------------ sys */

struct buf *sess_out(struct sess *s)
{
	return &session.out;
}

void sess_park(struct sess *s, const struct wire_park *p)
{
	session.park = *p;
}

void sess_wait(struct sess *s)
{
	session.waits = true;
}

void sess_withhold(struct sess *s)
{
}

void sess_release(struct sess *s, bool good)
{
}

void mail_when_durable(uint64_t ticket, void (*fn)(int result, void *arg), void *arg)
{
}

void sess_wake(struct sess_table *t, uint64_t id)
{
}

void sess_starttls(struct sess *s, span reply)
{
	buf_put_span(&session.out, reply);
	session.starttls = true;
}

void sess_hold(struct sess *s, usec d)
{
}

void sess_close(struct sess *s)
{
	session.closed = true;
}

/* ------------------------------------------------------------------ conf, events, directory */

static struct conf *get_conf(struct core_env *e)
{
	return &conf;
}

void conf_unref(struct conf *c)
{
}

void events_append(struct events *e, const struct id *id, const struct event_list *l,
		   const span *keys, size_t n_keys)
{
	fake.journal++;
}

void count_add(enum counter c, uint64_t n)
{
	fake.counts[c] += n;
}

/* ours.test is here, with user, info and 50%off; "slow" cannot be looked up. */
int directory_lookup(struct directory *d, const struct address *a, struct arena *mem,
		     struct directory_match *ret)
{
	*ret = (struct directory_match){ .kind = DIRECTORY_NOT_LOCAL };
	if (a->domain.n && !span_ieq_str(a->domain, "ours.test")) /* none: <postmaster> */
		return 0;
	ret->kind = DIRECTORY_NO_USER;
	if (span_ieq_str(a->local, "user") || span_ieq_str(a->local, "info") ||
	    span_ieq_str(a->local, "50%off") || span_ieq_str(a->local, "postmaster"))
		ret->kind = DIRECTORY_ACCOUNT;
	return 0;
}

int directory_authenticate(struct directory *d, const struct directory_try *t, struct arena *mem,
			   struct directory_account *ret)
{
	if (!span_eq_str(t->password, "secret"))
		return ERR_AUTH;
	*ret = (struct directory_account){ .id = "0123456789abcdef",
					   .address = arena_span(mem, t->login) };
	return 0;
}

bool directory_is_current(struct directory *d, span account_id, uint64_t generation)
{
	return !fake.account_changed;
}

int directory_login(struct directory *d, span login, struct arena *mem,
		    struct directory_account *ret)
{
	return ERR_AUTH;
}

void directory_set_scram(struct directory *d, unsigned algs)
{
}

int directory_scram_get(struct directory *d, enum hash_alg alg, span login, struct arena *mem,
			struct directory_scram *ret)
{
	return ERR_IO;
}

int queue_retry(struct queue *q, const struct queue_filter *f, size_t *ret_count)
{
	*ret_count = span_eq_str(f->domain, "waits.test") ? 3 : 0;
	return span_eq_str(f->domain, "sick.test") ? ERR_IO : 0;
}

int directory_account_get(struct directory *d, span address, struct arena *mem,
			  struct directory_account *ret)
{
	const struct directory_try t = { .login = address, .password = SPAN("secret") };

	return directory_authenticate(d, &t, mem, ret);
}

/* ------------------------------------------------------------------ mail */

struct mail_transaction *mail_transaction_new(void)
{
	struct mail_transaction *t = xcalloc(1, sizeof(*t));

	arena_init(&t->mem);
	event_list_init(&t->events, &t->mem);
	t->id = id_new();
	t->rcpts_tail = &t->rcpts;
	t->spool_fd = -1;
	buf_init(&t->body, 4 * 1024 * 1024);
	fake.transactions++;
	return t;
}

void mail_transaction_free(struct mail_transaction *t)
{
	if (!t)
		return;
	fake.transactions--;
	buf_done(&t->body);
	arena_done(&t->mem);
	free(t);
}

bool mail_is_rewritten(struct core_env *e, const struct address *a)
{
	return false;
}

int mail_route(struct core_env *e, const struct address *rcpt, const struct mail_route_from *from,
	       struct arena *mem, struct mail_route **ret, size_t *ret_n)
{
	struct mail_route *r = arena_new(mem, struct mail_route);
	struct directory_match m;

	fake.routed++;
	if (span_eq_str(rcpt->local, "slow"))
		return ERR_IO;
	directory_lookup(NULL, rcpt, mem, &m);
	*r = (struct mail_route){ .kind = MAIL_ROUTE_LOCAL,
				  .address = *rcpt,
				  .route = SPAN("local") };
	if (m.kind == DIRECTORY_NOT_LOCAL && from->authenticated)
		r->kind = MAIL_ROUTE_REMOTE;
	else if (m.kind != DIRECTORY_ACCOUNT) {
		r->kind = MAIL_ROUTE_REFUSED;
		r->refusal =
			m.kind == DIRECTORY_NO_USER
				? (struct mail_verdict){ 550, "5.1.1", SPAN("no such user here") }
				: (struct mail_verdict){ 550, "5.7.1", SPAN("relaying denied") };
	}
	*ret = r;
	*ret_n = 1;
	return 0;
}

bool mail_route_has_quota(const struct mail_route *routes, size_t n)
{
	return false;
}

bool mail_route_full(struct core_env *e, const struct mail_route *routes, size_t n,
		     struct mail_verdict *ret)
{
	*ret = (struct mail_verdict){ 452, "4.2.2", SPAN("the mailbox is full") };
	return n == 1 && span_eq_str(routes->address.local, "full");
}

bool mail_sender_allowed(struct core_env *e, const struct directory_account *a,
			 const struct address *sender, struct arena *mem, struct mail_verdict *ret)
{
	*ret = (struct mail_verdict){ 550, "5.7.1",
				      SPAN("the sender address is not one of yours") };
	return !span_eq_str(sender->local, "boss");
}

int mail_body_add(struct core_env *e, struct mail_transaction *t, span piece, uint64_t max_size)
{
	if (fake.body_error)
		return fake.body_error;
	t->body_size += piece.n;
	return t->body_size > max_size ? ERR_TOOBIG : buf_put_span(&t->body, piece);
}

int mail_filter_rcpt(struct core_env *e, struct mail_transaction *t, const struct address *rcpt,
		     struct mail_verdict *ret)
{
	*ret = (struct mail_verdict){ 0 };
	if (!fake.false_alarms)
		return 0;
	fake.false_alarms--;
	return ERR_AGAIN;
}

bool mail_inspect(struct core_env *e, struct mail_transaction *t)
{
	if (!fake.false_alarms)
		return true;
	fake.false_alarms--;
	return false;
}

void mail_receive(struct core_env *e, struct mail_transaction *t, struct mail_verdict *ret)
{
	fake.received++;
	buf_reset(&fake.from);
	buf_reset(&fake.to);
	buf_reset(&fake.body);
	address_put(&fake.from, &t->sender);
	for (const struct mail_rcpt *r = t->rcpts; r; r = r->next) {
		address_put(&fake.to, &r->address);
		buf_put_char(&fake.to, ' ');
		fake.notify = r->notify;
	}
	buf_put_span(&fake.body, buf_span(&t->body));
	fake.smtputf8 = t->smtputf8;
	fake.body_8bit = t->body_8bit;
	fake.ret_full = t->ret_full;
	fake.terms = t->terms;
	sock_ip_text(&t->peer, fake.peer);
	snprintf(fake.peer_name, sizeof(fake.peer_name), "%.*s", SPAN_FMT(t->peer_name));
	fake.lmtp = t->lmtp;
	fake.held_until = t->held_until;
	for (struct mail_rcpt *r = t->rcpts; r && t->each; r = r->next)
		r->verdict = span_eq_str(r->address.local, "info")
				     ? (struct mail_verdict){ 452, "4.2.2", SPAN("full") }
				     : (struct mail_verdict){ 250, "2.0.0", SPAN("taken") };
	fake.tls = t->tls;
	fake.authenticated = t->authenticated;
	*ret = fake.verdict.code ? fake.verdict : (struct mail_verdict){ 250, "2.0.0", SPAN_NULL };
}

bool poison_enter(struct poison *p, enum poison_stage stage, span bytes, int *ret_slot)
{
	*ret_slot = 0;
	return fake.poisoned;
}

void poison_leave(struct poison *p, int slot)
{
}

/* ------------------------------------------------------------------ the session */

void fake_session_open(const struct sess_ops *ops, bool tls)
{
	static struct net anyone; /* the peer is 0.0.0.0 */
	static const struct sockaddr_any peer = { .in.sin_family = AF_INET };

	anyone = net_of_host(&peer);
	conf.xclient_from = conf.etrn_from = conf.lmtp_from =
		(struct conf_networks){ &anyone, harness_trusted };
	fake = (struct fake){ .from = BUF_INIT(1024),
			      .to = BUF_INIT(4096),
			      .body = BUF_INIT(4 * 1024 * 1024) };
	env = (struct core_env){ .conf = get_conf,
				 .poison = (struct poison *)&fake,
				 .sasl = sasl_env_new(NULL) };
	sasl_env_configure(env.sasl, &conf, NULL);
	arena_init(&job_mem);
	session = (struct session){ .s = { .id = 1, .ops = ops, .core = &env, .mem = &job_mem } };
	session.s.peer.in.sin_family = AF_INET;
	session.s.state = xcalloc(1, ops->size);
	session.s.tls = (struct sess_tls){ .active = tls,
					   .version = 0x0304,
					   .cipher = SPAN("TLS_AES_256_GCM_SHA384") };
	buf_init(&session.out, 1024 * 1024);
	buf_init(&session.items, 128 * 1024);
	ops->open(&session.s);
}

void fake_session_close(void)
{
	session.s.ops->close(&session.s);
	sasl_env_free(env.sasl);
	free(session.s.state);
	arena_done(&job_mem);
	buf_done(&session.out);
	buf_done(&session.items);
	buf_done(&fake.from);
	buf_done(&fake.to);
	buf_done(&fake.body);
}

void fake_job(const struct sess_in *in, struct buf *ret_output)
{
	struct sess_in again = *in;

	do {
		session.waits = false;
		fake.last_lane = session.s.ops->lane(&session.s, &again);
		session.s.ops->job(&session.s, &again);
		arena_reset(&job_mem);
		again.again = true;
	} while (session.waits);
	buf_put_span(ret_output, buf_span(&session.out));
	buf_reset(&session.out);
}

static void after(struct harness *h)
{
	h->park = session.park;
	h->starttls = session.starttls;
	h->core_closes = session.closed;
	if (session.starttls)
		session.s.tls.active = true;
	session.starttls = false;
}

static void core_item(struct harness *h, uint8_t flags, span line, struct buf *reply)
{
	wire_item_put(&session.items, flags, line);
}

static void core_group_end(struct harness *h, struct buf *reply)
{
	struct sess_in in = { .kind = SESS_IN_INPUT, .data = buf_span(&session.items) };

	fake_job(&in, reply);
	buf_reset(&session.items);
	after(h);
}

static void core_body(struct harness *h, uint32_t flags, span piece, struct buf *reply)
{
	struct sess_in in = { .kind = SESS_IN_BODY, .data = piece, .body_flags = flags };

	fake_job(&in, reply);
	after(h);
}

const struct harness_core fake_core = { .item = core_item,
					.group_end = core_group_end,
					.body = core_body };
