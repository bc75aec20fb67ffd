#include "harness.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sasl/sasl.h"

#define MECHANISMS (SASL_BIT(SCRAM_SHA256_PLUS) | SASL_BIT(SCRAM_SHA256) | SASL_BIT(PLAIN) | SASL_BIT(LOGIN))

/* --- core's side of the contract, for one session --- */

static struct peer *peer_of(struct sess *s)
{
	return CONTAINER_OF(s, struct peer, s);
}

static void flush(struct peer *p)
{
	p->unsent += p->out.n;
	p->most_unsent = MAX(p->most_unsent, p->unsent);
	buf_put_span(&p->in, buf_span(&p->out));
	buf_reset(&p->out);
}

struct buf *sess_out(struct sess *s)
{
	struct peer *p = peer_of(s);
	if (p->out.n >= 64 * 1024)
		flush(p);
	return &p->out;
}

void sess_write(struct sess *s, span bytes)
{
	buf_put_span(sess_out(s), bytes);
	sess_out(s);
}

size_t sess_unsent(struct sess *s)
{
	return peer_of(s)->unsent + peer_of(s)->out.n;
}

bool sess_is_gone(struct sess *s)
{
	return peer_of(s)->gone;
}

void sess_park(struct sess *s, const struct wire_park *park)
{
	struct peer *p = peer_of(s);
	assert(!p->ended);
	p->ended = true;
	p->park = *park;
}

void sess_wait(struct sess *s)
{
	abort(); /* nothing here asks another host */
}

void sess_starttls(struct sess *s, span reply)
{
	struct peer *p = peer_of(s);
	assert(!p->ended);
	p->ended = p->starttls = true;
	buf_put_span(&p->in, reply);
}

void sess_hold(struct sess *s, usec d)
{
}

void sess_close(struct sess *s)
{
	struct peer *p = peer_of(s);
	assert(!p->ended);
	p->ended = p->closed = true;
}

void sess_wake(struct sess_table *t, uint64_t id)
{
	((struct peer *)(void *)t)->woken = true; /* the table of a peer is the peer */
}

/* --- front's side --- */

static void run(struct peer *p, struct sess_in in, bool question)
{
	p->ended = false;
	p->jobs++;
	p->s.ops->lane(&p->s, &in);
	p->s.ops->job(&p->s, &in);
	assert(p->ended);
	flush(p);
	arena_done(&p->mem);
	if (p->closed || p->starttls)
		return;
	p->want_drain = p->park.flags & SESS_PARK_WANT_DRAIN;
	if (question)
		p->wire->park(p->wire_state, &p->park);
}

static void drain(struct peer *p)
{
	while (p->want_drain && !p->closed) {
		p->unsent = 0;
		p->drains++;
		run(p, (struct sess_in){ .kind = SESS_IN_DRAINED }, true);
	}
}

static void step(struct peer *p, enum wire_step s, struct wire_out *out)
{
	if (s == WIRE_CLOSE)
		p->closed = true;
	if (s == WIRE_FORWARD)
		run(p, (struct sess_in){ .kind = SESS_IN_INPUT, .data = buf_span(out->group) },
		    true);
	if (s == WIRE_BODY)
		run(p,
		    (struct sess_in){ .kind = SESS_IN_BODY,
				      .data = buf_span(out->body),
				      .body_flags = out->body_flags },
		    true);
	drain(p);
}

/* Feeds until the wire wants more. */
static void feed(struct peer *p)
{
	for (;;) {
		_cleanup_(buf_donep) struct buf group = BUF_INIT(CHANNEL_MAX),
						body = BUF_INIT(CHANNEL_MAX);
		struct wire_out out = { .reply = &p->in, .group = &group, .body = &body };
		size_t used = 0;
		if (p->closed || p->starttls)
			return;
		enum wire_step s = p->wire->feed(p->wire_state, buf_span(&p->unread), &used, &out);
		assert(used <= p->unread.n);
		buf_consume(&p->unread, used);
		step(p, s, &out);
		if (s == WIRE_MORE && used == 0)
			return;
	}
}

void peer_send(struct peer *p, span bytes)
{
	while (bytes.n && !p->closed && !p->starttls) {
		span piece = span_sub(bytes, 0, p->chunk ? p->chunk : p->wire->input_limit / 2);
		buf_put_span(&p->unread, piece);
		bytes = span_from(bytes, piece.n);
		feed(p);
		assert(p->closed || p->unread.n < p->wire->input_limit);
	}
}

void peer_wakeups(struct peer *p)
{
	if (p->woken) {
		p->woken = false;
		run(p, (struct sess_in){ .kind = SESS_IN_WAKE }, false);
		drain(p);
	}
}

const char *peer_ask(struct peer *p, const char *text)
{
	buf_reset(&p->in);
	peer_send(p, span_str(text));
	return buf_cstr(&p->in);
}

void peer_expect(struct peer *p, const char *text, const char *want, int line)
{
	const char *got = peer_ask(p, text);
	if (!strstr(got, want))
		fail_msg("line %d: wanted %.300s, got %.2000s", line, want, got);
}

void peer_open(struct peer *p, struct world *w, const struct wire_ops *wire,
	       const struct sess_ops *ops, bool tls)
{
	*p = (struct peer){ .w = w,
			    .wire = wire,
			    .unread = BUF_INIT(64 << 20),
			    .in = BUF_INIT(256 << 20),
			    .out = BUF_INIT(64 << 20) };
	p->env = (struct wire_env){ .hostname = SPAN("mail.test"),
				    .proto = wire->proto,
				    .tls = tls,
				    .tls_available = !tls,
				    .max_size = 1 << 24,
				    .auth = MECHANISMS };
	p->wire_state = xcalloc(1, wire->size);
	p->s = (struct sess){ .id = 1,
			      .ops = ops,
			      .state = xcalloc(1, ops->size),
			      .mem = &p->mem,
			      .core = w ? &w->env : NULL };
	p->s.table = (struct sess_table *)(void *)p;
	p->s.tls.active = tls;
	p->s.peer.in.sin_family = AF_INET;
	ops->open(&p->s);
	wire->open(p->wire_state, &p->env, &p->in);
}

void peer_close(struct peer *p)
{
	p->gone = true;
	p->s.ops->close(&p->s);
	p->wire->done(p->wire_state);
	free(p->wire_state);
	free(p->s.state);
	buf_done(&p->unread);
	buf_done(&p->in);
	buf_done(&p->out);
	arena_done(&p->mem);
}

/* --- the world --- */

static struct conf *current_conf(struct core_env *env)
{
	return conf_ref(&CONTAINER_OF(env, struct world, env)->conf);
}

int world_setup(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));
	struct err_info info = { 0 };
	char path[128];
	snprintf(w->dir, sizeof(w->dir), "/tmp/postrider-test-XXXXXX");
	if (!mkdtemp(w->dir))
		return -1;
	w->conf = (struct conf){ .hostname = SPAN("mail.test"),
				 .max_message = 1 << 24,
				 .inline_max = 128 * 1024,
				 .refs = 1,
				 .auth_mechanisms = MECHANISMS,
				 .imap_timeout = 1800 * USEC_SEC,
				 .pop3_timeout = 600 * USEC_SEC };
	w->env.conf = current_conf;
	w->env.spool_dir = w->dir;
	w->env.poison = poison_open(NULL);
	snprintf(path, sizeof(path), "%s/directory.db", w->dir);
	if (directory_open(path, &w->env.directory, &info) < 0)
		fail_msg("%s", info.text);
	if (directory_domain_add(w->env.directory, SPAN("example.org"), &info) < 0 ||
	    directory_account_add(w->env.directory, SPAN("ann@example.org"), SPAN("correct horse"),
				  w->account, &info) < 0)
		fail_msg("%s", info.text);
	w->env.sasl = sasl_env_new(w->env.directory);
	if (sasl_env_configure(w->env.sasl, &w->conf, &info) < 0)
		fail_msg("%s", info.text);
	snprintf(path, sizeof(path), "%s/accounts", w->dir);
	struct store_conf sc = { .dir = path, .max_open = 16, .inline_max = 128 * 1024 };
	if (store_open(&sc, &w->env.store, &info) < 0 ||
	    account_create(w->env.store, span_str(w->account), &info) < 0)
		fail_msg("%s", info.text);
	*state = w;
	return 0;
}

int world_teardown(void **state)
{
	struct world *w = *state;
	char command[128];
	store_close(w->env.store);
	sasl_env_free(w->env.sasl);
	directory_close(w->env.directory);
	poison_close(w->env.poison);
	snprintf(command, sizeof(command), "rm -rf %s", w->dir);
	int r = system(command);
	free(w);
	return r;
}
